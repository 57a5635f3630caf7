# SPDX-License-Identifier: Apache-2.0
"""etagctl guard and invalidate with and without a daemon: what the command's end does to the guard, signals, the spool."""
import json
import os
import signal
import subprocess
import time

from harness import ETAGCTL, Case, bound, main, not_emulated, wait_until

KEY = "//shop.example/api/v1/uploads/42"
OTHER = "//shop.example/api/v1/uploads/43"
ERROR = 2


class GuardCase(Case):
    LINGER_MS = 1000

    def setUp(self):
        super().setUp()
        self.d = self.started(lease_ms=200, args=["--guard-linger-ms", str(self.LINGER_MS)])

    def guard(self, *args, timeout_ms=5000):
        return subprocess.Popen([ETAGCTL, "--socket", self.d.socket, "--timeout-ms", str(int(bound(timeout_ms))), "--json",
                                 "guard", *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True)

    def end(self, process, text=None):
        """Exit status, output, the line about the end, and the sentences for people."""
        out, err = process.communicate(text, timeout=bound(60))
        lines = err.splitlines()
        said = json.loads(lines.pop()) if lines and lines[-1].startswith("{") else None
        return process.returncode, out, said, "\n".join(lines)

    def run_guard(self, *args):
        return self.end(self.guard(*args))

    def running(self, *args, script="echo started; read line; exit ${line:-0}"):
        """A guarded command that has started and goes on until it is told how to end."""
        process = self.guard(*args, "--", "sh", "-c", script)
        self.addCleanup(lambda: process.poll() is None and process.kill())
        self.assertEqual(process.stdout.readline(), "started\n")
        return process

    def reason(self, key=KEY):
        return self.d.check(key)["reason"]

    def filled(self):
        for key, surrogate in ((KEY, "upload:42"), (OTHER, "upload:43")):
            self.d.fill(key, '"v1"', "--surrogate", surrogate)
            self.assertEqual(self.d.verdict(key), "not_modified")


class Ends(GuardCase):
    def test_the_targets_are_unknown_while_it_runs(self):
        self.filled()
        process = self.running("--surrogate", "upload:42")
        self.assertEqual(self.reason(), "in_flux")
        self.assertEqual(self.d.fill(KEY, '"v2"', "--surrogate", "upload:42", expect=1)["reason"], "token_in_flux")
        self.assertEqual(self.d.verdict(OTHER), "not_modified")
        status, _, said, err = self.end(process, "0\n")
        self.assertEqual((status, said["guard"], said["status"], err), (0, "committed", "ok", ""))
        self.assertGreater(said["lsn"], 0)
        self.assertEqual(self.reason(), "stale")
        self.d.fill(KEY, '"v1"', "--surrogate", "upload:42")
        self.assertEqual(self.d.verdict(KEY), "not_modified")

    def test_a_failure_lingers(self):
        self.filled()
        status, _, said, err = self.end(self.running("--surrogate", "upload:42"), "3\n")
        self.assertEqual((status, said["guard"], said["exit_status"], said["lsn"]), (3, "lingers", 3, None))
        self.assertIn("failed", err)
        self.assertEqual(self.reason(), "in_flux")
        begun = time.monotonic()
        wait_until(lambda: self.reason() == "stale", 20, "the guard counts as committed")
        self.assertGreater(time.monotonic() - begun, self.LINGER_MS / 1000 / 2)

    def test_a_failure_that_changed_nothing(self):
        self.filled()
        status, _, said, err = self.end(self.running("--surrogate", "upload:42", "--abort-on-failure"), "3\n")
        self.assertEqual((status, said["guard"], said["status"], err), (3, "aborted", "ok", ""))
        self.assertEqual(self.d.verdict(KEY), "not_modified")

    def test_a_kill_lingers_whatever_was_said(self):
        self.filled()
        status, _, said, err = self.run_guard("--surrogate", "upload:42", "--abort-on-failure", "--", "sh", "-c",
                                              "kill -KILL $$")
        self.assertEqual((status, said["guard"], said["exit_status"]), (128 + 9, "lingers", 128 + 9))
        self.assertIn("killed", err)
        self.assertEqual(self.reason(), "in_flux")

    def test_signals_are_passed_on(self):
        script = "trap 'echo caught; exit 7' {}; echo started; while :; do sleep 0.05; done"
        for name in ("INT", "TERM", "HUP"):
            with self.subTest(signal=name):
                process = self.running("--all", script=script.format(name))
                process.send_signal(getattr(signal, "SIG" + name))
                status, out, said, _ = self.end(process)
                self.assertEqual((status, out, said["guard"]), (7, "caught\n", "lingers"))

    def test_hold(self):
        self.filled()
        hold_ms = 1500
        status, _, said, _ = self.run_guard("--surrogate", "upload:42", "--hold-ms", str(hold_ms), "--", "true")
        self.assertEqual((status, said["guard"]), (0, "committed"))
        self.assertEqual(self.reason(), "in_flux")
        wait_until(lambda: self.reason() == "stale", 20, "the hold is over")

    def test_it_lives_longer_than_the_linger(self):
        self.filled()
        process = self.running("--surrogate", "upload:42", "--max-ms", "100")
        end = time.monotonic() + 3 * self.LINGER_MS / 1000
        while time.monotonic() < end:
            self.assertEqual(self.reason(), "in_flux")
            time.sleep(0.02)
        self.assertEqual(self.end(process, "0\n")[0], 0)
        self.assertEqual(self.reason(), "stale")

    def test_a_guard_that_is_killed_lingers(self):
        self.filled()
        process = self.running("--surrogate", "upload:42")
        process.kill()
        process.communicate()
        self.assertEqual(self.reason(), "in_flux")
        wait_until(lambda: self.reason() == "stale", 20, "the guard counts as committed")


class Restarts(GuardCase):
    LINGER_MS = 3000

    def test_the_guard_follows_the_daemon(self):
        process = self.running("--surrogate", "upload:42")
        self.d.restart()
        wait_until(lambda: self.d.status()["guards_open"] == 1, 20, "the guard is back")
        status, _, said, err = self.end(process, "0\n")
        self.assertEqual((status, said["guard"], said["status"], err), (0, "committed", "ok", ""))

    def test_without_a_daemon_it_goes_through_the_spool(self):
        self.d.kill()
        status, _, said, _ = self.run_guard("--surrogate", "upload:42", "--", "true")
        self.assertEqual((status, said["guard"], said["status"], said["lsn"]), (0, "committed", "ok", None))
        names = [name for name in os.listdir(os.path.join(self.directory, "spool")) if name.startswith("e")]
        self.assertGreaterEqual(len(names), 3)
        self.d.start()
        wait_until(lambda: not [name for name in os.listdir(os.path.join(self.directory, "spool")) if name.startswith("e")],
                   20, "the daemon took the events")


class Invalidate(GuardCase):
    def test_without_a_daemon(self):
        self.filled()
        self.d.kill()
        begun = time.monotonic()
        said = self.d.ctl("invalidate", "--surrogate", "upload:42")
        self.assertGreaterEqual(time.monotonic() - begun, 0.2)
        self.assertEqual((said["lsn"], said["spooled"]), (None, True))
        self.d.start()
        self.assertNotEqual(self.d.verdict(KEY), "not_modified")

    def test_a_stopped_daemon(self):
        self.filled()
        self.d.signal(signal.SIGSTOP)
        said = self.d.ctl("invalidate", "--surrogate", "upload:42", timeout_ms=3000)  # it waits for all of it
        self.assertEqual((said["lsn"], said["spooled"]), (None, True))
        self.d.signal(signal.SIGCONT)
        wait_until(lambda: self.reason() == "stale", 20, "the daemon has it")

    def test_too_little_time_is_pending(self):
        self.d.kill()
        done = self.d.ctl_raw("--json", "invalidate", "--all", timeout_ms=20)
        self.assertEqual((done.returncode, json.loads(done.stdout)["status"]), (ERROR, "pending"))

    def test_hold(self):
        self.filled()
        hold_ms = int(min(bound(1500), 30000))  # two questions fit into it
        self.d.ctl("invalidate", "--hold-ms", str(hold_ms), "--surrogate", "upload:42")
        self.assertEqual(self.reason(), "in_flux")
        self.assertEqual(self.d.verdict(OTHER), "not_modified")
        wait_until(lambda: self.reason() == "stale", 60, "the hold is over")


class Mistakes(GuardCase):
    def test_usage(self):
        for args in ([], ["--all"], ["--all", "--"], ["--all", "true"], ["--", "true"], ["--surrogate", "", "--", "true"],
                     ["--all", "--hold-ms", "3600001", "--", "true"], ["--all", "--max-ms", "x", "--", "true"],
                     ["--nonsense", "--", "true"]):
            with self.subTest(args=args):
                done = self.d.ctl_raw("--json", "guard", *args)
                self.assertEqual((done.returncode, json.loads(done.stdout)["status"]), (ERROR, "usage"))

    @not_emulated("has no vfork() that waits: posix_spawn() does not say what failed")
    def test_a_command_that_is_not_there(self):
        self.filled()
        done = self.d.ctl_raw("--json", "guard", "--all", "--", "/nowhere/at/all", "--json")
        self.assertEqual((done.returncode, json.loads(done.stdout)["status"]), (ERROR, "system"))
        self.assertEqual(self.d.verdict(KEY), "not_modified")

    def test_no_daemon_and_no_spool(self):
        path = os.path.join(self.directory, "elsewhere")
        os.mkdir(path)
        done = subprocess.run([ETAGCTL, "--json", "--socket", path + "/etagd.sock", "guard", "--all", "--", "touch",
                               path + "/ran"], capture_output=True, text=True, timeout=bound(60), check=False)
        self.assertEqual((done.returncode, json.loads(done.stdout)["status"]), (ERROR, "unavailable"))
        self.assertIn("was not run", done.stderr)
        self.assertFalse(os.path.exists(path + "/ran"))

    def test_help(self):
        said = self.d.ctl_raw("guard", "--help").stdout
        self.assertIn("the command's", said)
        self.assertLessEqual(max(map(len, said.splitlines())), 100)


if __name__ == "__main__":
    main()
