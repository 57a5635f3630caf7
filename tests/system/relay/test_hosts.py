# SPDX-License-Identifier: Apache-2.0
"""Two hosts on one PostgreSQL, on one machine: two daemons, each with an etag-relay beside it."""
import time

from relay_db import Server
from relay_hosts import Host
from harness import Case, Writer, main, wait_until

KEY = "//shop.example/api/v1/uploads/42"
NAME = "upload:42"
PROOF_LOGGED, PROOF_ACKNOWLEDGED, PROOF_TIME = 3, 4, 5


class Hosts(Case):
    @classmethod
    def setUpClass(cls):
        cls.server = Server.make()

    def setUp(self):
        super().setUp()
        self.database = f"hosts{time.monotonic_ns()}"
        self.server.database(self.database)
        self.relays = {}
        self.hosts = [self.host(name) for name in ("a", "b")]

    def host(self, name):
        d = self.daemon(name=name, args=["--relay", "required"])
        made = self.relays[name] = Host(name, self.server.conninfo(self.database), d)
        self.addCleanup(made.kill_relay)
        return made.start().daemon

    def fill(self, d):
        d.fill(KEY, '"v1"', "--surrogate", NAME)
        self.assertEqual(d.verdict(KEY), "not_modified")

    def stale(self, d):
        return d.check(KEY)["reason"] == "stale"

    def test_everywhere_is_on_the_other_host_when_the_call_returns(self):
        a, b = self.hosts
        w = Writer(a.socket, timeout_ms=30000)
        self.addCleanup(w.end)
        for _ in range(5):
            self.fill(b)
            said = w.ok(f"invalidate surrogate {NAME} reach everywhere")
            self.assertTrue(self.stale(b))
            self.assertEqual(said["proof"], PROOF_ACKNOWLEDGED)

    def test_sql_alone_reaches_both(self):
        for d in self.hosts:
            self.fill(d)
        self.server.sql(f"SELECT etagd.invalidate('{NAME}')", database=self.database)
        for d in self.hosts:
            wait_until(lambda d=d: self.stale(d), 10, "the event")

    def test_a_stopped_relay_is_waited_for_by_time_and_its_host_renders(self):
        a, b = self.hosts
        w = Writer(a.socket, timeout_ms=60000)
        self.addCleanup(w.end)
        self.fill(b)
        self.relays["b"].kill_relay()
        said = w.ok(f"invalidate surrogate {NAME} reach everywhere")
        self.assertEqual(said["proof"], PROOF_TIME)
        self.assertEqual(b.ctl("check", KEY, "--header", 'If-None-Match: "v1"')["reason"], "no_lease")
        self.relays["b"].start_relay()
        wait_until(lambda: self.stale(b), 30, "the event, after it")

    def test_what_was_written_while_no_relay_was_there_comes_later(self):
        a, b = self.hosts
        self.relays["a"].kill_relay()
        self.fill(b)
        w = Writer(a.socket, timeout_ms=500)
        self.addCleanup(w.end)
        said = w.say(f"invalidate surrogate {NAME}")
        self.assertEqual((said["status"], said["reach"]), ("PENDING", 1))
        a.kill()
        a.start(settled=False)
        self.relays["a"].start_relay()
        wait_until(lambda: self.stale(b), 30, "the event")


if __name__ == "__main__":
    main()
