# SPDX-License-Identifier: Apache-2.0
"""Two hosts on one PostgreSQL, on one machine: two daemons, each with an etag-relay beside it."""
import json
import os
import time

from relay_db import Server, ask, one
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

    def test_explain_and_log_name_transaction_and_writer_of_an_event_from_elsewhere(self):
        for d in self.hosts:
            self.fill(d)
        connection = self.server.connect(self.database)
        self.addCleanup(connection.close)
        ask(connection, "SET application_name = 'night job'")
        position = int(one(connection, f"SELECT etagd.invalidate('{NAME}')"))
        for d in self.hosts:
            wait_until(lambda d=d: self.stale(d), 10, "the event")
            origin = {"engine": "postgres", "events": 1, "first_position": position, "last_position": position, "writers": "etagd@[local] (night job)"}
            said = d.ctl("explain", KEY)["event"]
            self.assertEqual(said["relay"], origin)
            self.assertEqual(said["pid"], self.relays[d.directory.rsplit("/", 1)[1]].relay.pid)
            self.assertEqual(d.ctl("log", "--surrogate", NAME, "--limit", "1")["relay"], origin)
            for words in (("explain", KEY), ("log", "--surrogate", NAME)):
                self.assertRegex(" ".join(d.ctl_raw(*words).stdout.split()), rf"relay:? postgres, position {position}, by etagd@\[local\] \(night job\)")

    def test_explain_and_log_name_the_host_of_an_event_from_elsewhere(self):
        a, b = self.hosts
        w = Writer(a.socket, timeout_ms=30000)
        self.addCleanup(w.end)
        self.fill(b)
        w.ok(f"invalidate surrogate {NAME} reach everywhere")
        self.assertEqual(b.ctl("explain", KEY)["event"]["relay"]["writers"], "a")
        self.assertEqual(b.ctl("log", "--surrogate", NAME, "--limit", "1")["relay"]["writers"], "a")
        self.assertRegex(b.ctl_raw("explain", KEY).stdout, "relay +postgres, position [0-9]+, by a\n")

    def test_a_write_to_a_watched_table_says_who_wrote_it(self):
        self.server.sql("CREATE TABLE public.uploads (id int); SELECT etagd.watch('public.uploads', 'upload:{id}')", database=self.database)

        def said(d):
            found = d.ctl_raw("--json", "log", "--surrogate", NAME, "--limit", "1").stdout
            return found and json.loads(found)["relay"].get("writers")

        def named():
            """The first one may be a part of what raises everything, since the table is new."""
            self.server.sql("SET application_name = 'import'; INSERT INTO public.uploads VALUES (42)", database=self.database)
            return all(said(d) == "etagd@[local] (import)" for d in self.hosts)
        wait_until(named, 30, "both hosts say who wrote it")

    def test_a_position_of_a_transaction_that_runs_is_refused(self):
        a, b = self.hosts
        w = Writer(a.socket, timeout_ms=60000)
        self.addCleanup(w.end)
        for reach, proof in (("log", PROOF_LOGGED), ("everywhere", PROOF_ACKNOWLEDGED)):
            self.fill(b)
            connection = self.server.connect(self.database)
            self.addCleanup(connection.close)
            ask(connection, "BEGIN")
            position = one(connection, f"SELECT etagd.invalidate('{NAME}')")
            said = w.say(f"invalidate surrogate {NAME} position {position} reach {reach}")
            self.assertEqual(said["status"], "FAILED")
            self.assertIn("has not ended", said["error"])
            self.assertEqual(b.verdict(KEY), "not_modified")
            ask(connection, "COMMIT")
            said = w.ok(f"invalidate surrogate {NAME} position {position} reach {reach}")
            self.assertEqual(said["proof"], proof)
            wait_until(lambda: self.stale(b), 10, "the event")

    def test_what_a_host_wrote_does_not_come_back_to_it(self):
        a, b = self.hosts
        other = "//shop.example/api/v1/uploads/7"
        w = Writer(a.socket, timeout_ms=60000)
        self.addCleanup(w.end)
        self.fill(b)
        w.ok(f"invalidate surrogate {NAME} reach log")
        self.fill(a)
        a.fill(other, '"v1"', "--surrogate", "upload:7")
        self.assertEqual(a.verdict(other), "not_modified")
        self.server.sql("SELECT etagd.invalidate('upload:7')", database=self.database)
        wait_until(lambda: a.check(other)["reason"] == "stale", 10, "an event after it")
        self.assertEqual(a.verdict(KEY), "not_modified")
        wait_until(lambda: self.stale(b), 10, "the event")
        # A daemon that is another one is brought all that its cursor does not cover.
        self.fill(b)
        w.ok(f"invalidate surrogate {NAME} reach everywhere")
        self.assertTrue(self.stale(b))

    def logged(self, d, event):
        with open(os.path.join(d.directory, "relay.log"), encoding="utf-8") as f:
            return sum(event in line for line in f)

    def test_a_watched_table_reaches_both_whatever_is_done_to_it(self):
        """By psql alone: a statement, TRUNCATE, a trigger that is disabled."""
        other = KEY + "/other"
        sql = lambda text: self.server.sql(text, database=self.database)  # noqa: E731
        sql("CREATE TABLE public.uploads (id int PRIMARY KEY, title text); INSERT INTO public.uploads SELECT generate_series(1, 99)")
        sql("SELECT etagd.watch('public.uploads', 'upload:{id}')")
        for d in self.hosts:
            wait_until(lambda d=d: self.logged(d, "watched_tables_changed"), 30, "everything, once")

        stranger = KEY + "/stranger"

        def fill():
            for d in self.hosts:
                self.fill(d)
                d.fill(other, '"o"', "--surrogate", "upload:7")
                d.fill(stranger, '"s"', "--surrogate", "uploads:7")
                self.assertEqual(d.verdict(other, '"o"'), "not_modified")

        fill()
        sql("UPDATE public.uploads SET title = 'x' WHERE id = 42")
        for d in self.hosts:
            wait_until(lambda d=d: self.stale(d), 10, "the update")
            self.assertEqual(d.verdict(other, '"o"'), "not_modified")
        fill()
        sql("TRUNCATE public.uploads")
        for d in self.hosts:
            wait_until(lambda d=d: self.stale(d) and d.check(other)["reason"] == "stale", 10, "the family")
            self.assertEqual(d.verdict(stranger, '"s"'), "not_modified", "another family stays")
        self.assertEqual([self.logged(d, "watch_broken") for d in self.hosts], [0, 0])
        sql("ALTER TABLE public.uploads DISABLE TRIGGER USER")
        for d in self.hosts:
            wait_until(lambda d=d: self.logged(d, "watch_broken"), 10, "it is said")
        for _ in range(2):
            for d in self.hosts:
                d.fill(KEY, '"v1"', "--surrogate", NAME)
            sql("INSERT INTO public.uploads SELECT 42 ON CONFLICT DO NOTHING")
            for d in self.hosts:
                wait_until(lambda d=d: self.stale(d), 10, "what no trigger has seen")
        sql("SELECT etagd.watch('public.uploads')")
        for d in self.hosts:
            wait_until(lambda d=d: self.logged(d, "watch_mended"), 10, "it is mended")
            self.assertEqual(self.logged(d, "watch_broken"), 1, "said once, not with each batch")
        fill()

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
