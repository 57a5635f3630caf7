# SPDX-License-Identifier: Apache-2.0
"""Binaries of two releases together: scripts/test-skew runs it. ETAGD_OLD_BUILD: the older one's build directory."""
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import ETAGCTL, ETAGD, SYSTEM, Case, bound, content_of, main, wait_until  # noqa: E402

OLD = os.environ["ETAGD_OLD_BUILD"]
OLD_ETAGD = os.path.join(OLD, "daemon", "etagd")
OLD_CTL = os.path.join(OLD, "tools", "etagctl")
OLD_FRONT_END = os.path.join(OLD, "tests", "system", "front_end")
NEW_FRONT_END = os.path.join(SYSTEM, "front_end")
KEYS = [f"//skew.example/{i}" for i in range(4)]
LEASE_MS = 200


class Skew(Case):
    def setUp(self):
        super().setUp()
        self.socket = os.path.join(self.directory, "etagd.sock")
        self.state = os.path.join(self.directory, "state")
        self.running = None

    def tearDown(self):
        self.stop()

    def start(self, program, *args):
        self.log = os.path.join(self.directory, "log")
        with open(self.log, "w", encoding="utf-8") as log:
            self.running = subprocess.Popen([program, "--socket", self.socket, "--state-dir", self.state, "--lease-ms", str(LEASE_MS), "--capacity", "2000",
                                             *args], stderr=log, stdin=subprocess.DEVNULL)
        ctl = OLD_CTL if program == OLD_ETAGD else ETAGCTL
        self.own = ctl
        if self.ctl(ctl, "ping", "--wait")[0] != 0:
            return False
        # A cold start holds everything until forgotten guards are over.
        if program == ETAGD or self.has_guards():
            wait_until(lambda: json.loads(self.ctl(ctl, "--json", "status")[1]).get("holds_open", 0) == 0, 60, "the linger")
        return True

    def options(self, program):
        """Fast to settle, where the release knows the options."""
        said = subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout
        return [*(["--guard-linger-ms", "100"] if "--guard-linger-ms" in said else []), *(["--fresh"] if "--fresh" in said else [])]

    @staticmethod
    def has_guards():
        return "guard" in subprocess.run([OLD_CTL, "--help"], capture_output=True, text=True, check=False).stdout

    def stop(self, number=signal.SIGTERM):
        if self.running and self.running.poll() is None:
            self.running.send_signal(number)
            self.running.wait(bound(20))
        self.running = None

    def ctl(self, program, *args):
        done = subprocess.run([program, "--socket", self.socket, "--timeout-ms", str(int(bound(3000))), *args], capture_output=True, text=True,
                              timeout=bound(60), check=False)
        return done.returncode, done.stdout, done.stderr

    def verdict(self, program, key):
        return json.loads(self.ctl(program, "--json", "check", key, "--header", 'If-None-Match: "v1"')[1])["verdict"]

    def pair(self, daemon, client_ctl, client_front_end):
        """A daemon of one release, clients of the other."""
        self.assertTrue(self.start(daemon, *self.options(daemon)))
        self.assertEqual(self.ctl(self.own, "fill", KEYS[0], "--etag", '"v1"', "--surrogate", "a")[0], 0)
        front_end = subprocess.Popen([client_front_end, self.socket, KEYS[0], "--dispatch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(front_end.communicate)
        code, out, err = self.ctl(client_ctl, "ping")
        if code != 0:
            self.assertRegex(err, r"protocol \d+.*protocol \d+")
            self.assertEqual(self.ctl(client_ctl, "invalidate", "--surrogate", "a")[0], 2)
            time.sleep(0.3)
            front_end.stdin.close()
            self.assertNotIn("not_modified", front_end.stdout.read())
            front_end.stdin = None
            print("other protocols: told by both, unknown", end=" ", flush=True)
            return
        self.assertIn("protocol", out)
        self.assertEqual(json.loads(front_end.stdout.readline())["verdict"], "not_modified")
        self.assertEqual(self.ctl(client_ctl, "invalidate", "--surrogate", "a")[0], 0)
        self.assertEqual(json.loads(front_end.stdout.readline())["reason"], "stale")
        self.assertEqual(self.verdict(self.own, KEYS[0]), "unknown")
        # Fills of the other release, with everything that an entry has; each reads what the other wrote.
        for program, key in ((client_ctl, KEYS[1]), (self.own, KEYS[2])):
            self.assertEqual(self.ctl(program, "fill", key, "--etag", '"v1"', "--surrogate", "b", "--max-age-s", "1000", "--header",
                                      "Cache-Control: no-cache", "--header", "Content-Location: /else")[0], 0)
            for reader in (client_ctl, self.own):
                self.assertEqual(self.verdict(reader, key), "not_modified")
        for reader in (client_ctl, self.own):
            for command in (("status",), ("list",), ("get", KEYS[1]), ("explain", KEYS[1])):
                code, _, err = self.ctl(reader, *command)
                self.assertEqual(code, 0, err)
        self.assertEqual(self.ctl(client_ctl, "invalidate", "--surrogate", "b")[0], 0)
        self.assertEqual([self.verdict(self.own, key) for key in KEYS[1:3]], ["unknown", "unknown"])
        front_end.stdin.close()
        front_end.stdin = None

    def test_old_clients_and_the_new_daemon(self):
        self.pair(ETAGD, OLD_CTL, OLD_FRONT_END)

    def test_new_clients_and_the_old_daemon(self):
        self.pair(OLD_ETAGD, ETAGCTL, NEW_FRONT_END)

    def hand_over(self, first, then, number):
        """The state of one daemon is the other's next. Filled 0 to 2, changed 1 before and 2 after it."""
        options = {program: [o for o in self.options(program) if o != "--fresh"] for program in (first, then)}
        self.assertTrue(self.start(first, *self.options(first)))
        for key in KEYS[:3]:
            self.assertEqual(self.ctl(self.own, "fill", key, "--etag", '"v1"', "--surrogate", key[-1])[0], 0)
        self.assertEqual(self.ctl(self.own, "sync")[0], 0)
        self.assertEqual(self.ctl(self.own, "invalidate", "--surrogate", "1")[0], 0)
        run = json.loads(self.ctl(self.own, "--json", "status")[1])["incarnation"]
        # A front end of the first release lives on.
        front_end = subprocess.Popen([OLD_FRONT_END if first == OLD_ETAGD else NEW_FRONT_END, self.socket, KEYS[2], "--dispatch"],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(front_end.communicate)
        self.assertEqual(json.loads(front_end.stdout.readline())["verdict"], "not_modified")
        self.stop(number)
        if not self.start(then, *options[then]):
            said = content_of(self.log)
            self.assertRegex(said, "format|version")
            print("refused:", said[said.index("reason="):].strip()[:150], end=" ", flush=True)
            return
        self.assertEqual(self.verdict(self.own, KEYS[1]), "unknown")
        status = json.loads(self.ctl(self.own, "--json", "status")[1])
        self.assertGreater(status["incarnation"], run)
        self.assertEqual(self.verdict(self.own, KEYS[0]), "not_modified" if status["start"] == "warm" else "unknown")
        print(status["start"], end=" ", flush=True)
        self.assertEqual(self.ctl(self.own, "invalidate", "--surrogate", "2")[0], 0)
        changed_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        time.sleep(0.1)
        front_end.stdin.close()
        answers = [json.loads(line) for line in front_end.stdout]
        self.assertTrue(answers)
        self.assertEqual([a for a in answers if a["ns"] > changed_ns and a["verdict"] != "unknown"], [])
        self.assertNotEqual(answers[-1]["verdict"], "not_modified")
        front_end.stdin = None
        print([a["reason"] for a in answers], end=" ", flush=True)
        # And back.
        self.stop(number)
        if self.start(first, *options[first]):
            self.assertEqual([self.verdict(self.own, key) for key in KEYS[1:3]], ["unknown", "unknown"])
            print("and back", json.loads(self.ctl(self.own, "--json", "status")[1])["start"], end=" ", flush=True)
        else:
            print("and back: refused", end=" ", flush=True)

    def test_upgrade(self):
        self.hand_over(OLD_ETAGD, ETAGD, signal.SIGTERM)

    def test_upgrade_after_a_kill(self):
        self.hand_over(OLD_ETAGD, ETAGD, signal.SIGKILL)

    def test_downgrade(self):
        self.hand_over(ETAGD, OLD_ETAGD, signal.SIGTERM)


if __name__ == "__main__":
    main()
