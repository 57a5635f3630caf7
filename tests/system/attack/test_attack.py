# SPDX-License-Identifier: Apache-2.0
"""The attacks of scripts/attack in their short form, on one daemon: judged by counts, which a busy machine does not change. How much
the lease has left, and how long a writer waits, is judged by the long form."""
import os
import re
import tempfile
import unittest

import attacks
from attacks import ATTACKS, Attackers, Scene, Waits, rss_kib
from harness import bound, main, wait_until

KEY = "//shop.example/u/1"
SECONDS = 0.4
PEER_LINE = re.compile(r"event=(peer_\w+|accept_failed|client_page_failed)")


@unittest.skipIf(os.geteuid() != 0, "needs root to become other users")
class Attacks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="etagd-test-")
        cls.addClassCleanup(cls.directory.cleanup)
        cls.scene = Scene(cls.directory.name, lease_ms=10000)
        cls.d = cls.scene.daemon
        cls.addClassCleanup(cls.d.end)
        cls.scene.fill(2000, 12000)
        cls.d.fill(KEY)

    def test_nobody_is_kept_from_answers_and_nothing_grows_without_bound(self):
        for attack in ATTACKS:
            with self.subTest(str(attack)):
                self.attacked(attack)
        self.judge_the_log()

    def attacked(self, attack):
        lines = len(self.d.lines)
        before = self.d.status()
        rss_before = rss_kib(self.d.process.pid)
        waits = Waits(self.d.socket, self.scene.program)
        attackers = Attackers(attack, self.d.socket, SECONDS)
        codes = attackers.wait(bound(60))
        # A writer with the role came through, while it lasted or at its end, and front ends answer as ever.
        wait_until(lambda: waits.count > 0 or waits.wrong, 20, "a change")
        waits.end()
        self.assertIsNone(waits.wrong)
        self.assertEqual(codes, [0] * attack.processes)
        self.assertEqual(self.d.verdict(KEY), "not_modified")
        wait_until(lambda: self.d.status()["peers"] <= before["peers"], 20, "the attackers to be gone")
        after = self.d.status()
        self.assertLessEqual(after["turn_requests_max"], attacks.TURN_REQUESTS_MAX)
        self.assertLessEqual(after["queued_bytes_max"], attacks.QUEUED_BYTES_MAX)
        self.assertEqual(after["queued_bytes"], 0)
        said = [line for line in self.d.lines[lines:] if PEER_LINE.search(line)]
        self.assertLessEqual(len(said), attacks.LOG_LINES_MAX, said)
        if attack.who == "no role" and not os.environ.get("ETAGD_SANITIZE"):
            self.assertLessEqual(rss_kib(self.d.process.pid) - rss_before, attacks.STRANGERS_RSS_KIB_MAX)

    def judge_the_log(self):
        """What was not said was counted: the attacks would have filled it."""
        self.assertGreater(self.d.status()["log_lines_not_said"], 100)


if __name__ == "__main__":
    main()
