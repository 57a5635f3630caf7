# SPDX-License-Identifier: Apache-2.0
"""Two hosts on one PostgreSQL, of which a relay, a daemon, the server is killed, or a name is given twice."""
import os
import re
import shutil
import signal
import subprocess
import time
import unittest
import urllib.request

import relay_db
from harness import BUILD, Case, main, bound, wait_until

KEY = "//shop.example/uploads/42"
NAME = "upload:42"
LEASE_MS = 2000
SERVER = None


def server():
    global SERVER
    SERVER = SERVER or relay_db.Server.make()
    return SERVER


class Relay:
    """One etag-relay beside a daemon."""

    def __init__(self, daemon, connection, host, started=True):
        self.daemon = daemon
        self.directory = os.path.join(daemon.directory, "relay")
        os.makedirs(self.directory, exist_ok=True)
        self.host = host
        self.connection = connection
        self.log = os.path.join(self.directory, "log")
        self.process = None
        if started:
            self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [relay_db.RELAY, "--socket", self.daemon.socket, "--connection", self.connection, "--host", self.host, "--run-dir",
                 self.directory, "--log-level", "debug"], stderr=log, stdin=subprocess.DEVNULL)

    def said(self, pattern):
        with open(self.log, encoding="utf-8") as f:
            return re.findall(pattern, f.read())

    def metric(self, name):
        try:
            with open(os.path.join(self.directory, "metrics.prom"), encoding="utf-8") as f:
                found = re.search(rf"^etag_relay_{re.escape(name)} (\S+)$", f.read(), re.MULTILINE)
        except FileNotFoundError:
            return 0.0
        return float(found[1]) if found else 0.0

    def everything(self):
        return len(self.said("event=everything "))

    def end(self, number=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        return self.process.wait(bound(20))


class Faults(Case):
    def setUp(self):
        super().setUp()
        self.database = server().database(f"hosts_{time.monotonic_ns()}")
        self.a, self.relay_a = self.host("a")
        self.b, self.relay_b = self.host("b")

    def host(self, name):
        daemon = self.daemon(name, lease_ms=LEASE_MS, args=["--relay", "required"]).start(settled=False)
        relay = Relay(daemon, server().conninfo(self.database), name)
        self.addCleanup(relay.end)
        wait_until(lambda: daemon.ctl("check", KEY, "--header", 'If-None-Match: "v1"')["reason"] != "no_lease", 20, "a lease")
        wait_until(lambda: daemon.status()["holds_open"] == 0, 20, "the cold start's linger")
        return daemon, relay

    def fill(self, daemon, etag='"v1"'):
        daemon.fill(KEY, etag, "--surrogate", NAME)
        self.assertEqual(daemon.verdict(KEY, etag), "not_modified")

    def reason(self, daemon):
        said = daemon.ctl("check", KEY, "--header", 'If-None-Match: "v1"')
        return said["reason"] if said["verdict"] == "unknown" else said["verdict"]

    def sql(self, text, *values):
        return server().sql(text, *values, database=self.database)

    def test_a_relay_is_killed_and_comes_back(self):
        self.fill(self.b)
        self.relay_b.end()
        wait_until(lambda: self.reason(self.b) == "no_lease", 20, "no lease without freshness")
        position = self.sql("SELECT etagd.invalidate('upload:7')")
        self.assertTrue(position)
        self.relay_b.start()
        wait_until(lambda: self.reason(self.b) == "not_modified", 20, "the entry is answered again")
        self.assertEqual(self.relay_b.everything(), 1)
        self.assertEqual(self.relay_b.said("host_name_taken"), [])  # its nonce is kept

    def test_more_names_than_one_part_takes(self):
        self.fill(self.b)
        before = self.relay_b.metric("batches_total")
        self.relay_b.process.send_signal(signal.SIGSTOP)
        for i in range(3):
            self.sql("SELECT etagd.invalidate(surrogates => %s)", [f"other:{i}:{j}" for j in range(3000)])
        self.sql("SELECT etagd.invalidate(hold_ms => 1, surrogates => %s)", [NAME])
        self.relay_b.process.send_signal(signal.SIGCONT)
        wait_until(lambda: self.reason(self.b) == "stale", 20, "the last name of them")
        self.assertEqual(self.relay_b.everything(), 1)
        self.assertEqual(self.relay_b.said("daemon_refused|daemon_lost"), [])
        wait_until(lambda: self.relay_b.metric("batches_total") > before, 20, "it goes on")

    def test_a_daemon_is_killed_and_comes_back_warm(self):
        self.fill(self.b)
        self.b.ctl("sync")
        self.b.kill()
        self.sql("SELECT etagd.invalidate('upload:7')")
        self.b.start(settled=False)
        wait_until(lambda: self.reason(self.b) == "not_modified", 20, "the entry is answered again")
        self.assertEqual(self.relay_b.everything(), 1)
        self.sql("SELECT etagd.invalidate(%s)", NAME)
        wait_until(lambda: self.reason(self.b) == "stale", 20, "it is read")

    def test_a_mutation_without_a_relay_is_published_later(self):
        self.fill(self.b)
        self.relay_a.end(signal.SIGTERM)
        said = self.a.ctl("invalidate", "--surrogate", NAME, "--reach", "host")
        self.assertTrue(said)
        self.assertEqual(self.b.verdict(KEY), "not_modified")
        self.relay_a.start()
        wait_until(lambda: self.reason(self.b) == "stale", 20, "the other host has it")

    @unittest.skipIf(shutil.which("promtool") is None, "promtool (of the package prometheus) is missing")
    def test_prometheus_reads_its_figures(self):
        self.sql("SELECT etagd.invalidate('upload:7')")
        wait_until(lambda: self.relay_b.metric("rows_total") > 0, 20, "its file")
        exporter = subprocess.Popen([os.path.join(BUILD, "tools", "etag-exporter"), "--socket", self.b.socket, "--listen", "127.0.0.1:0",
                                     "--relay", os.path.join(self.relay_b.directory, "metrics.prom")], stderr=subprocess.PIPE, text=True)
        self.addCleanup(exporter.stderr.close)
        self.addCleanup(exporter.wait)
        self.addCleanup(exporter.kill)
        where = re.search(r"/metrics on (\S+),", exporter.stderr.readline()).group(1)
        with urllib.request.urlopen(f"http://{where}/metrics", timeout=bound(20)) as answer:
            page = answer.read().decode()
        for name in ("poll_age_seconds", "freshness_margin_min_seconds", "acknowledge_seconds_count", 'everything_total{reason="no_cursor"}',
                     "batch_rows_count", "up"):
            self.assertRegex(page, rf"(?m)^etag_relay_{re.escape(name)} [0-9]")
        done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_two_hosts_of_one_name(self):
        c = self.daemon("c", lease_ms=LEASE_MS, args=["--relay", "required"]).start(settled=False)
        twin = Relay(c, server().conninfo(self.database), "b")
        self.addCleanup(twin.end)
        wait_until(lambda: self.relay_b.said("host_name_taken.*own"), 30, "the first one says so")
        self.fill(self.a)
        wait_until(lambda: self.reason(c) != "no_lease", 30, "the second one has taken the name")

    def test_the_server_crashes(self):
        self.fill(self.a)
        self.fill(self.b)
        server().end("immediate")
        wait_until(lambda: self.reason(self.a) == self.reason(self.b) == "no_lease", 20, "nobody is fresh")
        relay_db.restart_after(server(), "a crash")
        wait_until(lambda: self.reason(self.a) == self.reason(self.b) == "stale", 30, "everything is raised")
        self.assertTrue(self.relay_b.said("event=everything reason=(server_restarted|witness_gone)"))
        self.fill(self.b)
        self.a.ctl("invalidate", "--surrogate", NAME, "--reach", "everywhere", timeout_ms=30000)
        self.assertEqual(self.b.verdict(KEY), "unknown")

    def test_a_row_that_no_release_wrote_is_everything_once(self):
        self.fill(self.b)
        self.sql("INSERT INTO etagd.outbox (targets) VALUES ('\\x7f')")
        wait_until(lambda: self.reason(self.b) == "stale", 20, "everything")
        wait_until(lambda: self.relay_b.said("event=everything reason=unreadable_row"), 20, "the reason")
        self.fill(self.b)
        self.sql("SELECT etagd.invalidate(%s)", NAME)
        wait_until(lambda: self.reason(self.b) == "stale", 20, "the next one is read as ever")
        self.assertEqual(len(self.relay_b.said("event=everything reason=unreadable_row")), 1)


class Mistakes(Case):
    """Of operators: the log says what to do, and the host loses its 304s and nothing else."""

    def test_they_cost_304s_and_no_more(self):
        database, bare = server().database(f"mistakes_{time.monotonic_ns()}"), f"bare_{time.monotonic_ns()}"
        server().sql(f"CREATE DATABASE {bare}", database="postgres")
        later = server().database(f"later_{time.monotonic_ns()}")
        server().sql("CREATE OR REPLACE FUNCTION etagd.version() RETURNS int LANGUAGE sql AS 'SELECT 99'", database=later)
        user = f"nobody_{time.monotonic_ns()}"
        server().sql(f"CREATE ROLE {user} LOGIN", database="postgres")
        d = self.daemon("d", lease_ms=LEASE_MS, args=["--relay", "required"]).start(settled=False)
        relay = Relay(d, None, "d", started=False)
        self.addCleanup(relay.end)
        for conninfo, words in (("hst=x", "invalid connection option"), ("host=/nowhere dbname=x", "No such file or directory"),
                                (server().conninfo("nothing"), "does not exist"), (server().conninfo(bare), "etag-relay setup"),
                                (server().conninfo(later), "has version 99.*install the release"),
                                (server().conninfo(database, user), f"GRANT etagd_relay TO {user}")):
            with self.subTest(words):
                relay.connection = conninfo
                if relay.process:
                    relay.end()
                relay.start()
                wait_until(lambda words=words: relay.said(f"event=database_lost .*{words}"), 20, words)
                self.assertIsNone(relay.process.poll(), "it tries again")
                self.assertEqual(d.ctl("check", KEY, "--header", 'If-None-Match: "v1"')["reason"], "no_lease")
                self.assertEqual(d.ctl("invalidate", "--surrogate", NAME, "--reach", "host")["reach"], "host")
        server().sql(f"GRANT etagd_relay TO {user}", database="postgres")
        wait_until(lambda: d.status()["relay_margin_ms"] > 0, 30, "it was mended while it tried")


if __name__ == "__main__":
    main()
