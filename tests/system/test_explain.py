# SPDX-License-Identifier: Apache-2.0
"""What people ask: why was this (not) a 304, what happened, what is wrong. etagctl explain --request, log, doctor."""
import datetime
import json
import os
import shutil
import signal
import subprocess
import threading
import unittest

from harness import ETAGCTL, Case, bound, main, put_file, wait_until

KEY = "//example.org/uploads/42"
GET = ("GET /uploads/42 HTTP/1.1\r\nHost: EXAMPLE.org:80\r\nAccept-Encoding: gzip, br;q=0.5\r\n"
       "If-None-Match: \"v0\", W/\"v1\"\r\n\r\n")
NOBODY = 4242


def widest(text):
    return max(len(line) for line in text.splitlines())


class Asked(Case):
    def setUp(self):
        super().setUp()
        self.d = self.daemon()


class Request(Asked):
    """explain --request: the answer, which condition decides, and the event that made it another one."""

    def explain(self, request, *args, expect=0):
        return self.d.ctl("explain", "--request", "-", "--scope", "customer:7", *args, expect=expect,
                               text=request)

    def test_every_answer(self):
        daemon = self.d.start()
        kept = ("--scope", "customer:7", "--vary", "Accept-Encoding: gzip", "--surrogate", "upload:42",
                "--header", "Cache-Control: max-age=60")
        vary = ("--vary", "Accept-Encoding", "--codings", "br,gzip")
        daemon.fill(KEY, '"v1"', *kept)

        # As a front end says: the same verdict, and the condition that is the reason.
        found = self.explain(GET, *vary)
        self.assertEqual(found["key"], KEY)
        self.assertEqual(found["vary"], {"accept-encoding": "gzip"})
        self.assertEqual((found["request"]["status"], found["request"]["verdict"]), (304, "not_modified"))
        self.assertEqual([(c["value"], c["decides"]) for c in found["request"]["conditions"]],
                         [('"v0"', False), ('W/"v1"', True)])
        self.assertEqual(found["headers"], {"Cache-Control": "max-age=60"})
        checked = daemon.check(KEY, "--scope", "customer:7", "--vary", "Accept-Encoding: gzip",
                               header='If-None-Match: "v0", W/"v1"')
        self.assertEqual(checked["verdict"], found["request"]["verdict"])
        absolute = "PUT http://example.org/uploads/42 HTTP/1.1\nAccept-Encoding: gzip\nIf-Match: W/\"v1\""
        found = self.explain(absolute, *vary)
        self.assertEqual((found["request"]["status"], found["request"]["conditions"][0]["decides"]), (412, True))
        found = self.explain(absolute.replace("If-Match", "X"), *vary, "--require-if-match")
        self.assertEqual(found["request"]["status"], 428)
        found = self.explain(GET.replace("v1", "v7"), *vary)
        self.assertEqual((found["request"]["status"], found["request"]["verdict"]), (None, "proceed"))

        # A front end with its coding as it came has another key; what is known is named.
        daemon.ctl("sync")
        found = self.explain(GET, "--vary", "Accept-Encoding")
        self.assertEqual(found["vary"], {"accept-encoding": "gzip, br;q=0.5"})
        self.assertEqual(found["state"], "no_entry")
        self.assertEqual(found["request"]["verdict"], "unknown")
        self.assertEqual(found["request"]["conditions"], [])
        self.assertEqual([(near["scope"], near["vary"]) for near in found["near"]],
                         [("customer:7", {"accept-encoding": "gzip"})])
        self.assertEqual(self.explain(GET.replace("uploads/42", "uploads/4"))["near"], [])

        # What made it stale, with its writer; the conditions are judged all the same.
        daemon.ctl("invalidate", "--surrogate", "upload:42")
        found = self.explain(GET, *vary)
        self.assertEqual((found["state"], found["request"]["verdict"]), ("stale", "unknown"))
        self.assertEqual(found["request"]["if_it_were_current"], "not_modified")
        self.assertEqual(found["event"]["targets"], [{"kind": "surrogate", "name": "upload:42"}])
        self.assertEqual(found["event"]["uid"], os.getuid())

        shown = daemon.ctl_raw("explain", "--request", "-", "--scope", "customer:7", *vary, text=GET).stdout
        self.assertLessEqual(widest(shown), 80)
        self.assertIn("were the entry current: 304", shown)
        self.assertIn("that of surrogate upload:42", shown)

    def test_mistakes(self):
        daemon = self.d.start(settled=False)
        bad = os.path.join(self.directory, "captured")
        put_file(bad, "GET / HTTP/1.1\nHost: a\nHost: b\n")
        for args, text, said in (
                (["--request", bad], None, f"{bad}:3: a second Host; the first is in line 2"),
                (["--request", "-"], "", "-:1: there is no request"),
                (["--request", bad + "-not"], None, "cannot be read: No such file"),
                (["--request", "-"], "GET / HTTP/1.1\nHost: a\n" + "x" * 300000, "longer than 262144 bytes"),
                (["--request", "-"], "GET /%zz HTTP/1.1\nHost: a\n", "-: "),
                (["--request", "-", KEY], GET, "argument"),
                (["--codings", "gzip", KEY], None, "go with --request")):
            done = daemon.ctl_raw("explain", *args, text=text)
            self.assertEqual(done.returncode, 2, done.stdout)
            self.assertIn(said, done.stderr)


class Log(Asked):
    def lines(self, *args, expect=0):
        done = self.d.ctl_raw("--json", "log", *args)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def names(self, *args):
        return [target["name"] for event in self.lines(*args) for target in event["targets"]]

    def test_what_happened_also_before_a_kill(self):
        daemon = self.d.start()
        before = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
        self.lines(expect=1)
        for i in range(5):
            daemon.ctl("invalidate", "--surrogate", f"upload:{i}")
        daemon.ctl("invalidate", "--prefix", "//example.org/uploads/", "--resource", "//example.org/a")
        # At once, although the store may not have them yet.
        self.assertEqual(self.names("--limit", "3"),
                         ["upload:3", "upload:4", "//example.org/a", "//example.org/uploads/"])
        daemon.kill()
        daemon.start()
        self.assertEqual(len(self.lines("--limit", "0")), 6)
        self.assertEqual(self.names("--since", "1h", "--surrogate", "upload:3"), ["upload:3"])
        self.assertEqual(self.names("--surrogate", "upload:3", "--limit", "1"), ["upload:3"])
        self.assertEqual(len(self.lines("--resource", "//EXAMPLE.org:80/uploads/./9", "--limit", "1")), 1)
        self.assertEqual(self.names("--since", before, "--limit", "1"), ["//example.org/a", "//example.org/uploads/"])
        last = self.lines("--limit", "1")[0]["lsn"]
        self.assertEqual([event["lsn"] for event in self.lines("--since", str(last))], [last])
        self.assertEqual(len(self.lines("--until", str(last - 1), "--limit", "0")), 5)
        self.lines("--until", "2001-01-01", expect=1)
        self.assertEqual(daemon.ctl_raw("log", "--since", "soon").returncode, 2)
        self.assertLessEqual(widest(daemon.ctl_raw("log").stdout), 80)

    def test_it_is_bounded_and_survives_a_stop(self):
        self.d.args = ["--events-kept", "20"]
        daemon = self.d.start()
        daemon.fill("/stale", '"v1"', "--surrogate", "s:0")
        daemon.fill("/current", '"v1"', "--surrogate", "s")
        for i in range(60):
            daemon.ctl("invalidate", "--surrogate", f"s:{i}")
        last = self.lines("--limit", "1")
        self.assertEqual(daemon.stop(), 0)  # a checkpoint
        daemon.start()
        kept = self.lines("--limit", "0")
        self.assertEqual(len(kept), 20)
        self.assertEqual(kept[-1:], last)
        # The clocks came from the checkpoint: what the log no longer names is not forgotten.
        self.assertEqual((daemon.verdict("/stale"), daemon.verdict("/current")), ("unknown", "not_modified"))

    def test_follow_goes_on_without_a_gap(self):
        daemon = self.d.start()
        daemon.ctl("invalidate", "--surrogate", "s:0")
        process = subprocess.Popen([ETAGCTL, "--socket", daemon.socket, "--json", "log", "--follow", "--limit", "1"],
                                   stdout=subprocess.PIPE, text=True)
        found = []
        reader = threading.Thread(target=lambda: found.extend(json.loads(line) for line in process.stdout))
        reader.start()
        try:
            wait_until(lambda: found, 10, "the first event")
            for i in range(1, 4):
                daemon.ctl("invalidate", "--surrogate", f"s:{i}")
            wait_until(lambda: len(found) == 4, 10, "what followed")
            self.assertEqual([event["targets"][0]["name"] for event in found], [f"s:{i}" for i in range(4)])
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(bound(10))
            reader.join()
            process.stdout.close()


class Doctor(Asked):
    def doctor(self, *args, expect):
        done = self.d.ctl_raw("--json", "doctor", "--state-dir", self.d.state, *args, timeout_ms=1000)
        self.assertIn(done.returncode, expect, done.stdout + done.stderr)
        return {finding["topic"]: finding for finding in json.loads(done.stdout)["findings"]}

    def level(self, topic, *args, expect=(0, 1, 2)):
        return self.doctor(*args, expect=expect)[topic]["level"]

    def test_well_paused_stopped_down(self):
        daemon = self.d.start()
        found = self.doctor(expect=(0, 1))
        for topic in ("socket", "version", "roles", "answer", "lease", "entries", "pool", "clocks", "guards", "peers",
                      "limits", "loop", "same time", "spool mark", "store", "state dir"):
            self.assertIn(found[topic]["level"], ("ok", "warn"), found[topic])
        self.assertEqual(found["lease"]["level"], "ok")
        self.assertEqual(found["spool mark"]["level"], "ok")
        daemon.ctl("pause")
        paused = self.doctor(expect=(1,))["lease"]
        self.assertEqual(paused["level"], "warn")
        self.assertIn("etagctl resume", paused["advice"])
        daemon.ctl("resume")
        os.chmod(daemon.state, 0o777)
        self.assertEqual(self.level("state dir", expect=(2,)), "fail")
        os.chmod(daemon.state, 0o700)
        spool = os.path.join(self.directory, "spool")
        os.chmod(spool, 0o700)
        self.assertEqual(self.level("spool"), "warn")
        os.chmod(spool, 0o3733)
        mark = os.path.join(spool, "mark")
        kept = os.path.join(self.directory, "mark")  # the daemon removes strangers from its spool
        shutil.copy(mark, kept)
        put_file(mark, "nonsense")
        self.assertEqual(self.level("spool mark", expect=(2,)), "fail")
        os.replace(kept, mark)

        daemon.signal(signal.SIGSTOP)
        found = self.doctor(expect=(2,))
        daemon.signal(signal.SIGCONT)
        self.assertEqual((found["socket"]["level"], found["daemon"]["level"]), ("ok", "fail"))
        self.assertIn("a daemon lives", found["lock"]["found"])
        daemon.kill()
        found = self.doctor(expect=(2,))
        self.assertIn("start it", found["daemon"]["advice"])
        self.assertIn("no daemon runs here", found["lock"]["found"])
        self.assertIn("can be warm", found["state"]["found"])
        shown = daemon.ctl_raw("doctor", "--state-dir", daemon.state).stdout
        self.assertIn("FAIL", shown)

    def test_help(self):
        for command in ("explain", "log", "doctor"):
            shown = subprocess.run([ETAGCTL, command, "--help"], check=True, capture_output=True, text=True).stdout
            self.assertLessEqual(widest(shown), 80, command)

    def test_configuration(self):
        for text, level in (("capacity: 4096\n", "ok"), ("capacity: 4096\nclock: 5\n", "fail")):
            flags = self.config(text)
            self.assertEqual(self.level("config", *flags, expect=(2,)), level)
        self.assertIn(f"{flags[1]}:2:", self.doctor(*flags, expect=(2,))["config"]["found"])

    @unittest.skipIf(os.getuid() != 0, "needs another user")
    def test_a_user_without_a_role(self):
        os.chmod(self.directory, 0o755)
        self.d.args += ["--socket-mode", "0666"]
        daemon = self.d.start(settled=False)
        done = daemon.ctl_raw("--json", "doctor", "--state-dir", daemon.state, user=NOBODY)
        found = {finding["topic"]: finding["level"] for finding in json.loads(done.stdout)["findings"]}
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertEqual((found["roles"], found["status"], found["spool mark"]), ("warn", "unseen", "ok"))


if __name__ == "__main__":
    main()
