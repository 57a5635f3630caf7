# SPDX-License-Identifier: Apache-2.0
"""etag-relay doctor: each thing that it should find, on a real server, as the role that relays have."""
import shutil
import subprocess
import tempfile

from relay_db import RELAY, Server
from relay_hosts import Host
from harness import Case, Daemon, main, wait_until


class Doctor(Case):
    @classmethod
    def setUpClass(cls):
        cls.server = Server.make()
        cls.server.database("shop")
        for text in ("CREATE ROLE etag LOGIN", "GRANT etagd_relay TO etag"):
            cls.server.sql(text, database="shop")
        place = tempfile.mkdtemp(prefix="etagd-test-")
        cls.addClassCleanup(shutil.rmtree, place, ignore_errors=True)
        cls.host = Host("a", cls.server.conninfo("shop", "etag"), Daemon(place, args=["--relay", "required"]))
        cls.addClassCleanup(cls.host.end)
        cls.host.start()

    def sql(self, text):
        return self.server.sql(text, database="shop")

    def doctor(self, *more, host="a"):
        """Exit status, and what it says: topic -> level and text."""
        done = subprocess.run([RELAY, "--connection", self.server.conninfo("shop", "etag"), "--host", host, *more, "doctor"], capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.stderr, "")
        rows = [line.split(None, 1) for line in done.stdout.splitlines()]
        return done.returncode, {row[1][:10].rstrip() if row[1].startswith("host") else row[1].split()[0]: (row[0], row[1]) for row in rows}

    def says(self, topic, level, text, **more):
        status, found = self.doctor(**more)
        self.assertEqual(found[topic][0], level, found)
        self.assertIn(text, found[topic][1])
        self.assertEqual(status, int(any(one[0] == "FAIL" for one in found.values())), found)
        return found

    def test_nothing_is_wrong(self):
        wait_until(lambda: self.doctor()[0] == 0, 20, "a poll of late")
        found = self.says("primary", "ok", "PostgreSQL")
        self.assertEqual({level for level, _ in found.values()}, {"ok"}, found)
        self.assertEqual(set(found), {"primary", "waits", "witness", "outbox", "fencing", "host a", "pooler", "clock"})

    def test_a_host_that_is_no_member(self):
        self.says("host zoo", "FAIL", "no member", host="zoo")

    def test_a_host_that_does_not_poll(self):
        self.host.kill_relay()
        self.addCleanup(self.host.start_relay)
        wait_until(lambda: not self.sql("SELECT true FROM pg_stat_activity WHERE application_name = 'etag-relay a'"), 20, "its session ends")
        self.says("host a", "WARN", "not connected")

    def test_rows_that_nobody_trims(self):
        self.sql("SELECT etagd.invalidate('x')")
        self.sql("UPDATE etagd.outbox SET at = at - interval '3 hours'")
        self.says("outbox", "WARN", "no relay trims")
        self.sql("UPDATE etagd.outbox SET at = clock_timestamp()")

    def test_a_timeout_that_cuts_polls_short(self):
        self.sql("ALTER ROLE etag SET statement_timeout = 500")
        self.addCleanup(self.sql, "ALTER ROLE etag RESET statement_timeout")
        self.says("timeout", "WARN", "500 ms")

    def test_a_standby_that_may_be_promoted_without_fencing(self):
        standby = self.server.standby()
        self.addCleanup(standby.end)
        wait_until(lambda: self.sql("SELECT true FROM pg_stat_replication"), 20, "it follows")
        self.says("fencing", "WARN", "Fence it")
        self.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.sql("SELECT pg_reload_conf()")
        wait_until(lambda: self.sql("SHOW synchronous_standby_names")[0][0] == "*", 20, "the setting")
        self.says("fencing", "ok", "synchronous")
        self.sql("ALTER SYSTEM RESET synchronous_standby_names")
        self.sql("SELECT pg_reload_conf()")
        done = subprocess.run([RELAY, "--connection", standby.conninfo("shop", "etag"), "doctor"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("standby", done.stderr)


if __name__ == "__main__":
    main()
