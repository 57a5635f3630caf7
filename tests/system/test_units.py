# SPDX-License-Identifier: Apache-2.0
"""The filters of system calls in the units for systemd, on real programs: each whole life of them goes on where a call that is not in the
filter ends the process. The filter of the package itself is under test in scripts/test-packages, which boots systemd; here it is for
both loops, and for what seldom happens."""
import os
import re
import shutil
import signal
import socket
import subprocess
import unittest
import urllib.request

from harness import BUILD, LOOP, SKIP, SYSTEM, Case, Raw, bound, content_of, main, not_emulated, put_file, wait_until

UNITS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../packaging/systemd")
KEY, OTHER = "//shop.example/u/1", "//shop.example/u/2"


def calls_of(group, seen):
    """The names of system calls in a group of systemd's, groups within it too."""
    if not group.startswith("@"):
        return {group}
    if group not in seen:
        said = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", group], capture_output=True, text=True, check=True).stdout
        words = [line.strip() for line in said.splitlines()[1:]]
        seen[group] = set().union(*(calls_of(word, seen) for word in words if word and not word.startswith("#")))
    return seen[group]


def filter_of(unit):
    """What SystemCallFilter= of a unit allows: lines add, lines with ~ take away; @default is always in it."""
    lines = re.findall(r"^SystemCallFilter=(~?)(.*)$", content_of(os.path.join(UNITS, unit)), re.MULTILINE)
    seen = {}
    allowed = set(calls_of("@default", seen))
    for takes_away, words in lines:
        named = set().union(*(calls_of(word, seen) for word in words.split()))
        allowed = allowed - named if takes_away else allowed | named
    # systemd itself executes the program when the filter is there.
    return allowed | {"execve"}


@unittest.skipIf(shutil.which("systemd-analyze") is None, "no systemd-analyze")
@not_emulated("has no seccomp")
class Filters(Case):
    SOCKET_MODE = "0666"

    def setUp(self):
        super().setUp()
        os.chmod(self.directory, 0o755)

    def launcher(self, unit, without=()):
        path = os.path.join(self.directory, unit + ".calls")
        put_file(path, "\n".join(sorted(filter_of(unit) - set(without))))
        return [os.path.join(SYSTEM, "unit_filter"), path]

    def filtered(self, without=(), **options):
        d = self.daemon(lease_ms=400, **options)
        d.wrapper = self.launcher("etagd.service", without)
        return d

    def work(self, d):
        """Something of everything that peers ask for."""
        w = self.writer(d)
        d.fill(KEY, '"v1"', "--surrogate", "upload:1")
        d.fill(OTHER)
        w.ok("begin surrogate upload:1")
        w.ok("confirm")
        w.ok("commit")
        d.fill(KEY)
        for command in (["status"], ["stats"], ["clients"], ["get", KEY], ["explain", KEY], ["list"], ["log"], ["sync"], ["pause"], ["resume"]):
            self.assertEqual(d.ctl_raw(*command).returncode, 0, command)
        self.assertEqual(d.ctl_raw("invalidate", "--hold-ms", "10", "--surrogate", "other").returncode, 0)
        bad = Raw(d.socket)
        bad.send(b"\xff" * 64)
        bad.closed()
        bad.close()
        if os.geteuid() == 0:
            self.assertEqual(d.ctl_raw("ping", user=47001).returncode, 0)  # the thread for strangers
        return w

    def test_the_daemon_from_its_start_to_its_end(self):
        d = self.filtered(args=self.config("log-level: debug\nhuge-pages: \"on\"\nroles:\n  read: [all]\n")).start()
        self.assertIn(f"loop={'io_uring' if LOOP == 'uring' else 'epoll'}", "\n".join(d.lines))
        w = self.work(d)
        d.signal(signal.SIGHUP)
        d.wait_log("event=reloaded")
        # A file in the spool, while it is stopped.
        d.signal(signal.SIGSTOP)
        w.tell("invalidate surrogate spooled")
        wait_until(lambda: any(name.startswith("e") for name in os.listdir(os.path.join(d.directory, "spool"))), 20, "a file in the spool")
        d.signal(signal.SIGCONT)
        self.assertEqual(w.hear()["status"], "OK")
        # Killed and warm, stopped and warm, damaged and cold.
        d.restart("warm")
        self.assertEqual(d.verdict(OTHER), "not_modified")
        self.assertEqual(d.stop(), 0)
        d.start()
        d.wait_log("start=warm")
        self.assertEqual(d.stop(), 0)
        os.truncate(os.path.join(d.state, "data.mdb"), 4096 * 2)
        d.start()
        d.wait_log("set aside")
        self.work(d)
        self.assertEqual(d.stop(), 0)

    def test_with_power_durability_and_a_given_state(self):
        d = self.filtered(args=["--durability", "power"]).start()
        self.work(d)
        d.restart()
        self.assertEqual(d.stop(), 0)
        for arguments in (["--check-config"], ["--version"]):
            done = subprocess.run([*d.command(), *arguments], capture_output=True, check=False, timeout=bound(60))
            self.assertEqual(done.returncode, 0, done)

    def test_the_filter_of_this_test_refuses(self):
        """That the tests above can fail: a call that the daemon needs."""
        d = self.filtered(without=["memfd_create"])
        self.assertEqual(d.refusal()[1], -signal.SIGSYS)

    @unittest.skipIf(LOOP == "uring", "it depends on no loop")
    def test_the_exporter(self):
        d = self.daemon(lease_ms=400).start()
        wrapper = self.launcher("etag-exporter.service")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        exporter = subprocess.Popen([*wrapper, os.path.join(BUILD, "tools", "etag-exporter"), "--socket", d.socket, "--listen",
                                     f"127.0.0.1:{port}"], stderr=subprocess.PIPE, text=True)
        self.addCleanup(exporter.stderr.close)
        self.addCleanup(exporter.kill)

        def scrape():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=bound(20)) as answer:
                    return answer.read()
            except OSError:
                self.assertIsNone(exporter.poll())
                return None

        self.assertIn(b"etagd_up 1", wait_until(scrape, 20, "the metrics"))
        d.kill()
        wait_until(lambda: b"etagd_up 0" in scrape(), 20, "the daemon's end")
        d.start()
        wait_until(lambda: b"etagd_up 1" in scrape(), 20, "the daemon again")
        exporter.terminate()
        self.assertEqual(exporter.wait(bound(20)), 0)


if __name__ == "__main__":
    if os.environ.get("ETAGD_SANITIZE"):
        print("skipped: a sanitizer makes system calls of its own")
        raise SystemExit(SKIP)
    main()
