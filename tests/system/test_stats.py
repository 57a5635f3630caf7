# SPDX-License-Identifier: Apache-2.0
"""What operators see: stats, clients, metrics, the exporter, the log as JSON, shadow mode."""
import http.client
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

from harness import BUILD, ETAGCTL, SYSTEM, Case, UnixHttp, bound, content_of, descriptors, main, wait_until

try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
    from prometheus_client.parser import text_string_to_metric_families as prometheus_families
except ImportError:
    openmetrics_families = None

EXPORTER = os.path.join(BUILD, "tools", "etag-exporter")
KEY = "//shop.example/a"
WIDTH = 80


def samples(text, families=None):
    """{name and labels: value} of a page, which must be a whole one."""
    families = families or openmetrics_families
    found = {}
    for family in families(text):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


class SeeingCase(Case):
    def front_end(self):
        """One that looks KEY up all the time."""
        process = subprocess.Popen([os.path.join(SYSTEM, "front_end"), self.d.socket, KEY], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)

        def end():
            process.stdin.close()
            process.stdout.close()
            process.wait(bound(20))
        self.addCleanup(end)
        process.stdout.readline()
        return process

    def drawn(self):
        """What stats --watch draws on a terminal, at the end of a short interval."""
        master, slave = pty.openpty()
        try:
            done = subprocess.run([ETAGCTL, "--socket", self.d.socket, "stats", "--watch", "0.1", "--count", "1"], stdout=slave,
                                  stderr=subprocess.PIPE, timeout=bound(20), check=False)
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            text = self.read_whole(master, slave)
        finally:
            os.close(master)
        self.assertTrue(text.startswith("\033[H\033[J"))
        text = text[len("\033[H\033[J"):].replace("\r\n", "\n")
        self.assert_fits(text)
        return text

    @staticmethod
    def read_whole(master, slave):
        """A terminal gives its text in pieces; an error is its end."""
        os.close(slave)
        text = b""
        try:
            while piece := os.read(master, 65536):
                text += piece
        except OSError:
            pass
        return text.decode()

    def assert_fits(self, text):
        for line in text.splitlines():
            self.assertLessEqual(len(line), WIDTH, line)
            self.assertEqual(line, line.rstrip(), repr(line))


class Stats(SeeingCase):
    def setUp(self):
        super().setUp()
        self.d = self.started()

    def stats(self, *args):
        """The objects of a short --watch, last one: after what was done before."""
        done = self.d.ctl_raw("--json", "stats", "--watch=0.1", *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_for_people(self):
        self.assertIn("no lookup yet", self.stats("--count", "1")[0]["to_do"])
        self.d.fill(KEY)
        self.d.ctl("invalidate", "--surrogate", "a", "--surrogate", "b")
        self.front_end()
        said = self.drawn()
        self.assertRegex(said, r"(?m)^lookups +[1-9]\d* +[1-9]\d*  fills accepted +0 +1$")
        self.assertRegex(said, r"names in them +0 +2\n")
        self.assertRegex(said, r"answered in   half [\d.]+ .s, .* since the start\n")
        done = self.d.ctl_raw("stats")
        self.assert_fits(done.stdout)
        self.assertRegex(done.stdout, r"/s: over \d\.\d s until ")
        self.d.ctl("pause")
        self.assertIn("etagctl resume", self.stats("--count", "1")[0]["to_do"])
        down = self.d.stop()
        self.assertEqual(down, 0)
        done = self.d.ctl_raw("stats")
        self.assertEqual(done.returncode, 2)
        self.assertIn("is etagd running", done.stderr)

    def test_rates_totals_and_latencies(self):
        self.d.fill(KEY)
        self.front_end()
        for name in ("a", "b", "c"):
            self.d.ctl("invalidate", "--surrogate", name)
        first, last = self.stats("--count", "2")
        for one in (first, last):
            self.assertTrue(one["up"])
            self.assertAlmostEqual(one["interval_s"], 0.1, delta=bound(0.5))
            self.assertGreater(one["per_second"]["clients.checks"], 0)
            self.assertAlmostEqual(one["per_second"]["clients.not_modified"], one["per_second"]["clients.checks"], delta=20)
            self.assertEqual((one["total"]["mutations"], one["per_second"]["mutations"]), (3, 0))
            self.assertEqual((one["mutation_times"]["count"], one["mutation_times_total"]["count"]), (0, 3))
            times = one["mutation_times_total"]
            self.assertLessEqual(times["p50_us"], times["p99_us"])
            self.assertLessEqual(0, times["p50_us"])
            state = one["state"]
            self.assertEqual((state["lease"], state["store"], state["entries"]), ("held", "ok", 1))
            self.assertLessEqual(state["lease_margin_min_ms"], state["lease_ms"])
        self.assertGreater(last["total"]["clients.checks"], first["total"]["clients.checks"])

    def test_the_least_margin_remembers_a_stall(self):
        self.d.signal(signal.SIGSTOP)
        try:
            with self.assertRaises(AssertionError):
                wait_until(lambda: False, 0.3, "more than a lease")
        finally:
            self.d.signal(signal.SIGCONT)
        wait_until(lambda: self.d.status()["lease_margin_min_ms"] == 0, 5, "a renewal that came too late")

    def test_watch_goes_on_over_a_restart(self):
        process = subprocess.Popen([os.path.join(BUILD, "tools", "etagctl"), "--socket", self.d.socket, "--json", "stats", "--watch",
                                    "0.1"], stdout=subprocess.PIPE, text=True)

        def next_of(up):
            while True:
                said = json.loads(process.stdout.readline())
                if said["up"] == up:
                    return said
        try:
            first = next_of(True)
            self.d.stop()
            self.assertTrue(next_of(False)["error"])
            self.d.start(settled=False)
            self.assertNotEqual(next_of(True)["state"]["pid"], first["state"]["pid"])
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()

    def test_lines_and_mistakes(self):
        done = self.d.ctl_raw("stats", "--watch", "0.1", "--count", "2")
        self.assert_fits(done.stdout)
        self.assertEqual(len(done.stdout.splitlines()), 3)
        self.assertRegex(done.stdout, r"\ATIME +LOOKUPS ")
        for args in (("--watch", "0"), ("--watch=x",), ("--watch", "--openmetrics"), ("7",), ("--count", "-1")):
            self.assertEqual(self.d.ctl_raw("stats", *args).returncode, 2, args)


class Clients(SeeingCase):
    def test_who_is_connected(self):
        self.d = self.started()
        self.d.fill(KEY)
        front = self.front_end()
        wait_until(lambda: self.d.status()["clients.checks"] > 0, 5, "a lookup")
        said = self.d.ctl("clients")
        self.assertEqual(said["count"], len(said["clients"]))
        mine = [client for client in said["clients"] if client["pid"] == front.pid]
        self.assertEqual(len(mine), 1)
        client = mine[0]
        self.assertEqual((client["command"], client["uid"]), ("front_end", os.getuid()))
        self.assertEqual(client["roles"], ["read", "fill", "mutate", "admin", "relay"])
        self.assertRegex(client["software"], r"^libetag \d")
        self.assertGreater(client["counts"]["checks"], 0)
        self.assertAlmostEqual(client["counts"]["not_modified"], client["counts"]["checks"], delta=1)
        self.assertNotIn("unknown_stale", client["counts"])
        done = self.d.ctl_raw("clients")
        self.assert_fits(done.stdout)
        self.assertRegex(done.stdout, rf"(?m)^ *{front.pid} front_end ")
        self.d.stop()
        self.assertIn("is etagd running", self.d.ctl_raw("clients").stderr)

    def test_more_than_a_page(self):
        self.d = self.started()
        held = []
        try:
            for _ in range(300):  # a page has 256
                held.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                held[-1].connect(self.d.socket)
            wait_until(lambda: self.d.status()["peers"] > 300, 20, "they are connected")
            said = self.d.ctl("clients")
            self.assertGreater(said["count"], 300)
            self.assertEqual(len({client["id"] for client in said["clients"]}), said["count"])
        finally:
            for one in held:
                one.close()

    @unittest.skipIf(os.getuid() != 0, "needs another user")
    def test_it_is_for_admins(self):
        os.chmod(self.directory, 0o755)
        self.d = self.started(args=[*self.config("roles:\n  read: [uid:65533]\n"), "--socket-mode", "0666"])
        done = self.d.ctl_raw("clients", user=65533)
        self.assertEqual(done.returncode, 2)
        self.assertIn("'admin'", done.stderr)
        self.assertEqual(self.d.ctl_raw("stats", "--openmetrics", user=65533).returncode, 0)


@unittest.skipIf(openmetrics_families is None, "python3-prometheus-client is missing")
class Metrics(SeeingCase):
    def page(self, *args):
        done = self.d.ctl_raw("stats", *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_openmetrics(self):
        self.d = self.started()
        self.d.fill(KEY)
        self.d.ctl("invalidate", "--surrogate", "a")
        self.d.check("//shop.example/nothing")
        text = self.page("--openmetrics")
        self.assertTrue(text.endswith("# EOF\n"))
        found = samples(text)
        status = self.d.status()
        self.assertEqual(found[("etagd_up",)], 1)
        self.assertEqual(found[("etagd_unknown_total", ("reason", "no_entry"))], 1)
        self.assertEqual(found[("etagd_unknown_total", ("reason", "stale"))], 0)
        self.assertEqual(found[("etagd_fills_stored_total",)], 1)
        self.assertEqual(found[("etagd_entries",)], 1)
        self.assertEqual(found[("etagd_lease_seconds",)], self.d.lease_ms / 1000)
        self.assertEqual(found[("etagd_lease_held",)], 1)
        self.assertEqual(found[("etagd_index_bytes",)], status["index_bytes"])
        buckets = [value for (name, *_), value in found.items() if name == "etagd_mutation_duration_seconds_bucket"]
        self.assertEqual(buckets, sorted(buckets))
        self.assertEqual((buckets[0], buckets[-1]), (0, 1))
        self.assertEqual(found[("etagd_mutation_duration_seconds_count",)], 1)
        self.assertGreater(found[("etagd_mutation_duration_seconds_sum",)], 0)
        older = samples(self.page("--prometheus"), prometheus_families)
        self.assertEqual(set(older), set(found))
        self.assertEqual(older[("etagd_fills_stored_total",)], 1)
        # Every counter of clients is there: a new one must not be forgotten.
        source = content_of(os.path.join(os.path.dirname(__file__), "../../tools/stats/stats_metrics.c"))
        for name in status:
            if name.startswith("clients.") and name not in ("clients.guards_begun", "clients.guards_confirmed"):
                self.assertIn(f'"{name}"', source)

    def test_a_daemon_that_is_down(self):
        self.d = self.daemon()
        for option in ("--openmetrics", "--prometheus"):
            self.assertIn("\netagd_up 0\n", self.page(option))
        self.assertEqual(samples(self.page("--openmetrics")), {("etagd_up",): 0})

    @unittest.skipIf(shutil.which("promtool") is None, "promtool (of the package prometheus) is missing")
    def test_promtool(self):
        self.d = self.started()
        done = subprocess.run(["promtool", "check", "metrics"], input=self.page("--prometheus"), capture_output=True, text=True,
                              check=False)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))


class Exporter(SeeingCase):
    def setUp(self):
        super().setUp()
        self.d = self.daemon()

    def exporter(self, where, *args):
        """Returns its process and where it listens."""
        process = subprocess.Popen([EXPORTER, "--socket", self.d.socket, "--listen", where, *args], stderr=subprocess.PIPE, text=True)

        def end():
            process.kill()
            process.wait()
            process.stderr.close()
        self.addCleanup(end)
        self.process = process
        said = process.stderr.readline()
        self.assertIn("/metrics on ", said)
        return process, re.search(r"/metrics on (\S+),", said).group(1)

    def get(self, connection, path="/metrics", method="GET", body=None, openmetrics=True):
        connection.request(method, path, body, {"Accept": "application/openmetrics-text; version=1.0.0"} if openmetrics else {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer, text

    def is_up(self, connection):
        answer, text = self.get(connection)
        self.assertEqual(answer.status, 200)
        self.assertTrue(text.endswith("# EOF\n"))
        return re.search(r"(?m)^etagd_up (\d)$", text).group(1) == "1"

    def test_down_and_up_and_down(self):
        process, where = self.exporter("127.0.0.1:0", "--timeout-ms", "300")
        host, port = where.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=bound(20))
        self.assertFalse(self.is_up(connection))
        self.d.start(settled=False)
        self.assertTrue(self.is_up(connection))
        self.d.signal(signal.SIGSTOP)
        self.assertFalse(self.is_up(connection))
        self.d.signal(signal.SIGCONT)
        wait_until(lambda: self.is_up(connection), 5, "it answers again")
        self.d.kill()
        self.assertFalse(self.is_up(connection))
        self.d.start(settled=False)
        self.assertTrue(self.is_up(connection))
        process.terminate()
        self.assertEqual(process.wait(bound(20)), 0)

    def test_the_figures_of_a_relay_that_runs(self):
        """Its file is older where it does not: then it says nothing, which would look as if all were well."""
        path = os.path.join(self.directory, "metrics.prom")
        _, where = self.exporter("127.0.0.1:0", "--relay", path)
        host, port = where.rsplit(":", 1)
        self.d.start(settled=False)

        def page():
            answer, text = self.get(http.client.HTTPConnection(host, int(port), timeout=bound(20)))
            self.assertEqual(answer.status, 200)
            self.assertIn("version=0.0.4", answer.getheader("Content-Type"))
            self.assertIn("\netagd_up 1\n", text)
            self.assertNotIn("# EOF", text)
            return text

        self.assertIn("\netag_relay_up 0\n", page())
        for content, up in (("etag_relay_poll_age_seconds 0.1\n", 1), ("etag_relay_poll_age_seconds 0.1", 0), ("", 0), ("x\n" * 200000, 0)):
            with open(path, "w", encoding="ascii") as f:
                f.write(content)
            self.assertEqual((f"\netag_relay_up {up}\n" in page(), "etag_relay_poll_age_seconds" in page()), (True, up == 1), content[:20])
        with open(path, "w", encoding="ascii") as f:
            f.write("etag_relay_poll_age_seconds 0.1\n")
        os.utime(path, (time.time() - 60, time.time() - 60))
        self.assertIn("\netag_relay_up 0\n", page())
        self.assertNotIn("etag_relay_poll_age_seconds", page())
        os.remove(path)
        os.mkfifo(path)
        self.assertIn("\netag_relay_up 0\n", page())

    def test_a_daemon_that_lets_wait_is_not_asked_by_each_scrape(self):
        _, where = self.exporter("127.0.0.1:0", "--timeout-ms", "2000")
        host, port = where.rsplit(":", 1)
        self.d.start(settled=False)
        self.d.signal(signal.SIGSTOP)
        connection = http.client.HTTPConnection(host, int(port), timeout=bound(20))
        begun = time.monotonic()
        self.assertFalse(self.is_up(connection))
        waited = time.monotonic() - begun
        self.assertFalse(self.is_up(connection))
        self.assertLess(time.monotonic() - begun, 1.8 * waited)
        self.d.signal(signal.SIGCONT)
        wait_until(lambda: self.is_up(connection), 20, "it is asked again")

    def test_a_unix_socket(self):
        path = os.path.join(self.directory, "exporter.sock")
        process, where = self.exporter(f"unix:{path}")
        self.assertEqual(where, f"unix:{path}")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o660)
        self.assertFalse(self.is_up(UnixHttp(path, seconds=bound(20))))
        process.kill()
        process.wait()
        process, _ = self.exporter(f"unix:{path}")  # what it left behind is in nobody's way
        taken = subprocess.run([EXPORTER, "--listen", f"unix:{path}"], capture_output=True, text=True, check=False)
        self.assertEqual(taken.returncode, 1)
        self.assertIn("another one", taken.stderr)
        process.terminate()
        self.assertEqual(process.wait(bound(20)), 0)
        self.assertFalse(os.path.exists(path))

    def test_http(self):
        path = os.path.join(self.directory, "exporter.sock")
        self.exporter(f"unix:{path}")
        answer, text = self.get(UnixHttp(path, seconds=bound(20)))
        self.assertEqual(answer.headers["Content-Type"], "application/openmetrics-text; version=1.0.0; charset=utf-8")
        answer, text = self.get(UnixHttp(path, seconds=bound(20)), openmetrics=False)
        self.assertEqual(answer.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
        self.assertNotIn("# EOF", text)
        answer, text = self.get(UnixHttp(path, seconds=bound(20)), method="HEAD")
        self.assertEqual((answer.status, text), (200, ""))
        answer, text = self.get(UnixHttp(path, seconds=bound(20)), "/")
        self.assertEqual(answer.status, 404)
        self.assertIn("/metrics", text)
        answer, text = self.get(UnixHttp(path, seconds=bound(20)), method="POST", body=b"x" * 100000)
        self.assertEqual((answer.status, answer.headers["Allow"]), (405, "GET, HEAD"))

    def test_a_crowd_that_asks_nothing_keeps_no_scrape_out(self):
        _, where = self.exporter("127.0.0.1:0")
        host, port = where.rsplit(":", 1)
        crowd = [socket.create_connection((host, int(port)), timeout=bound(20)) for _ in range(100)]
        for number, one in enumerate(crowd):
            self.addCleanup(one.close)
            try:
                one.sendall(b"GET /metrics HTTP/1.1\r\nX: "[:number % 30])  # some begin
            except (BrokenPipeError, ConnectionResetError):
                pass  # it was sent away already
        for _ in range(3):
            self.assertFalse(self.is_up(http.client.HTTPConnection(host, int(port), timeout=bound(5))))
        self.assertEqual(crowd[0].recv(1), b"")  # who waited longest was sent away
        self.assertEqual(content_of(f"/proc/{self.process.pid}/stat").split()[2], "S")
        self.assertLess(descriptors(self.process.pid), 40)

    def test_under_which_names(self):
        _, where = self.exporter("127.0.0.1:0", "--allow-host", "metrics.example")
        address, port = where.rsplit(":", 1)

        def ask(*fields):
            connection = http.client.HTTPConnection(address, int(port), timeout=bound(20))
            connection.putrequest("GET", "/metrics", skip_host=True)
            for field in fields:
                connection.putheader("Host", field)
            connection.endheaders()
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
            return answer.status, text
        # A page of evil.example, whose name was made to resolve to 127.0.0.1, sends its name.
        for name in ("evil.example", f"evil.example:{port}", "", "localhost.evil.example"):
            status, text = ask(name)
            self.assertEqual(status, 421, name)
            self.assertIn("--allow-host", text)
            self.assertNotIn("etagd_up", text)
        for name in (where, "localhost", f"LOCALHOST:{port}", "[::1]", "metrics.example:1"):
            self.assertEqual(ask(name)[0], 200, name)
        self.assertNotEqual(ask("localhost", "evil.example")[0], 200)
        path = os.path.join(self.directory, "exporter.sock")
        self.exporter(f"unix:{path}")
        connection = UnixHttp(path, seconds=bound(20))  # there nobody resolves a name
        connection.request("GET", "/metrics", headers={"Host": "evil.example"})
        self.assertEqual(connection.getresponse().status, 200)
        connection.close()
        wrong = subprocess.run([EXPORTER, "--allow-host", "a:1"], capture_output=True, text=True, check=False)
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("without a port", wrong.stderr)

    def test_what_is_refused(self):
        cases = (("0.0.0.0:0", 1, "--allow-remote"), ("[::]:0", 1, "--allow-remote"), ("192.0.2.1:9", 1, "--allow-remote"),
                 ("localhost:9", 1, "no address"), ("127.0.0.1", 1, "no address"), ("127.0.0.1:99999", 1, ""), ("unix:", 1, "path"))
        for where, status, message in cases:
            with self.subTest(where=where):
                done = subprocess.run([EXPORTER, "--listen", where], capture_output=True, text=True, check=False, timeout=bound(20))
                self.assertEqual(done.returncode, status, done.stderr)
                self.assertIn(message, done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1)
        self.assertEqual(subprocess.run([EXPORTER, "--timeout-ms", "0"], capture_output=True, check=False).returncode, 2)
        self.assertEqual(subprocess.run([EXPORTER, "--help"], capture_output=True, check=False).returncode, 0)


class Log(Case):
    def test_json_lines_parse(self):
        d = self.daemon('a "b"', args=["--log-format", "json", "--log-level", "debug"])
        d.spawn()
        d.wait_log('"event":"serving"')
        d.ctl("ping")
        d.stop()
        d.wait_log(r"\(end of log\)")
        lines = [json.loads(line) for line in d.lines if line != "(end of log)"]
        self.assertGreater(len(lines), 4)
        for line in lines:
            self.assertRegex(line["time"], r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertIn(line["level"], ("debug", "info", "warn", "error"))
        serving = [line for line in lines if line["event"] == "serving"]
        self.assertEqual((serving[0]["socket"], serving[0]["entries"]), (d.socket, 0))


class Shadow(SeeingCase):
    def test_it_counts_and_finds_what_nobody_announced(self):
        self.d = self.started()
        process = subprocess.Popen([os.path.join(SYSTEM, "shadow"), self.d.socket, KEY], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)

        def serve(etag):
            process.stdin.write(etag + "\n")
            process.stdin.flush()
            said = json.loads(process.stdout.readline())
            return said["reason"], said["status"]

        def shadow():
            return {name[len("clients.shadow_"):]: number for name, number in self.d.status().items()
                    if name.startswith("clients.shadow_") and number}
        try:
            self.assertEqual(serve('"v1"'), ("no_entry", 304))  # judged by the response
            wait_until(lambda: self.d.status()["entries"] == 1, 5, "the fill")
            self.assertEqual(serve('"v1"'), ("shadow", 304))
            self.assertEqual(shadow(), {"not_modified": 1, "matches": 1})
            self.d.ctl("invalidate", "--resource", KEY)
            self.assertEqual(serve('"v2"'), ("stale", 200))
            self.assertEqual(shadow(), {"not_modified": 1, "matches": 1})
            wait_until(lambda: self.d.verdict(KEY, '"v2"') == "not_modified", 5, "the fill")
            self.assertEqual(serve('"v3"'), ("shadow", 200))  # nobody said so
            self.assertEqual(shadow(), {"not_modified": 1, "proceed": 1, "matches": 1, "mismatches": 1})
            said = self.drawn()
            self.assertRegex(said, r"(?m)^    OTHER ETAG +0 +1$")
            self.assertIn("no write announced", said)
        finally:
            process.stdin.close()
            process.wait(bound(20))
            process.stdout.close()


if __name__ == "__main__":
    if not os.path.exists(EXPORTER):
        sys.exit("etag-exporter was not built")
    main()
