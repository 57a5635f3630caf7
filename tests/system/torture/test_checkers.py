# SPDX-License-Identifier: Apache-2.0
"""The torture campaign's own judges: both must be able to fail, and must not cry wolf."""
import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
from campaign import BUILD, CHECK  # noqa: E402
from harness import FACTOR  # noqa: E402

HISTORY_MAGIC = 0x79726F7473696874
COMMIT, ANSWERED, CHECKED, LOST, CUT = 1, 2, 3, 4, 5
COMMITTED, ROLLED_BACK, LOGGED = 2, 3, 5
KEY = 7


def commit(version, begin, end, guarded=False, outcome=COMMITTED, key=KEY):
    return COMMIT, guarded, outcome, 0, key, version, begin, end, 0


def answered(version, at, key=KEY):
    return ANSWERED, 0, 0, 0, key, version, at, at, 0


def checked(version, begin, end, key=KEY, slot=1):
    return CHECKED, 0, 0, slot, key, version, begin, end, 99


def lost(kept, newest, begin, end):
    return LOST, 0, 0, 0, KEY, kept, begin, end, newest


def cut(slot, begin, end):
    return CUT, 0, 0, slot, 0, 0, begin, end, 0


class Offline(unittest.TestCase):
    def violations(self, *histories):
        said = self.said(*histories)
        return said["history_violations"] + said["records_wrong"]

    def said(self, *histories):
        with tempfile.TemporaryDirectory() as directory:
            for number, records in enumerate(histories):
                with open(os.path.join(directory, f"history-{number}"), "wb") as f:
                    f.write(struct.pack("<QQQ", HISTORY_MAGIC, len(records), len(records)))
                    for record in records:
                        f.write(struct.pack("<BBBBIQQQQ", *record))
            done = subprocess.run([CHECK, directory], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                  check=False)
            said = json.loads(done.stdout)
            self.assertEqual(done.returncode, 1 if said["history_violations"] or said["records_wrong"] else 0)
            return said

    def test_an_older_version_after_the_answer(self):
        writer = [commit(1, 10, 11), answered(1, 20), commit(2, 30, 31), answered(2, 40)]
        self.assertEqual(self.violations(writer, [checked(1, 41, 42)]), 1)
        self.assertEqual(self.violations(writer, [checked(1, 40, 42)]), 1)
        self.assertEqual(self.violations(writer, [checked(2, 41, 42)]), 0)

    def test_an_older_version_before_the_answer_is_right(self):
        writer = [answered(1, 20), commit(2, 30, 31), answered(2, 40)]
        self.assertEqual(self.violations(writer, [checked(1, 39, 50)]), 0)
        self.assertEqual(self.violations(writer, [checked(1, 25, 26)]), 0)

    def test_answers_out_of_order(self):
        """The answer to an older mutation comes later: the newer one still counts."""
        writers = [[answered(5, 20)], [answered(4, 30)]]
        self.assertEqual(self.violations(*writers, [checked(4, 35, 36)]), 1)
        self.assertEqual(self.violations(*writers, [checked(5, 35, 36)]), 0)

    def test_another_key_owes_nothing(self):
        self.assertEqual(self.violations([answered(5, 20)], [checked(1, 30, 31, key=KEY + 1)]), 0)

    def test_a_commit_without_a_guard_owes_nothing_before_its_answer(self):
        self.assertEqual(self.violations([commit(2, 30, 31)], [checked(1, 40, 41)]), 0)

    def test_a_guarded_commit_counts_from_its_beginning(self):
        database = [commit(2, 30, 60, guarded=True)]
        self.assertEqual(self.violations(database, [checked(1, 29, 35)]), 0)
        self.assertEqual(self.violations(database, [checked(1, 30, 35)]), 1)
        self.assertEqual(self.violations(database, [checked(1, 70, 75)]), 1)

    def test_a_rolled_back_commit_counts_until_its_end(self):
        database = [commit(2, 30, 60, guarded=True, outcome=ROLLED_BACK)]
        self.assertEqual(self.violations(database, [checked(1, 35, 50)]), 1)
        self.assertEqual(self.violations(database, [checked(1, 35, 61)]), 0)
        self.assertEqual(self.violations(database, [checked(1, 70, 75)]), 0)

    def test_what_the_database_lost_is_owed_until_then(self):
        writer, fate = [answered(4, 10), answered(5, 20)], [lost(4, 6, 100, 150)]
        for check, violations in ((checked(4, 50, 60), 1), (checked(4, 110, 115), 0), (checked(3, 110, 115), 1), (checked(7, 160, 161), 0)):
            with self.subTest(check=check):
                self.assertEqual(self.violations(writer, fate, [check]), violations)
        # "In the log" is due a while after its COMMIT, which the database may have lost by then.
        self.assertEqual(self.violations([answered(5, 120)], fate, [checked(4, 130, 131)]), 0)

    def test_what_the_database_lost_is_answered_for_a_while_and_no_longer(self):
        self.assertEqual(self.violations([lost(4, 6, 100, 150)], [checked(5, 149, 151)]), 0)
        self.assertEqual(self.violations([lost(4, 6, 100, 150)], [checked(5, 150, 151)]), 1)

    def test_a_host_that_is_cut_off_answers_nothing(self):
        fate = [cut(8, 100, 200)]  # the second host
        for slot, begin, violations in ((9, 150, 1), (15, 200, 1), (1, 150, 0), (16, 150, 0), (9, 99, 0), (9, 201, 0)):
            with self.subTest(slot=slot, begin=begin):
                self.assertEqual(self.violations(fate, [checked(1, begin, begin + 1, slot=slot)]), violations)

    def test_how_old_an_answer_was(self):
        ms = 1000000
        writer = [commit(2, 30 * ms, 30 * ms, outcome=LOGGED), commit(3, 40 * ms, 40 * ms, outcome=LOGGED), commit(4, 50 * ms, 50 * ms)]
        for check, age in ((checked(1, 75 * ms, 76 * ms), 45), (checked(2, 75 * ms, 76 * ms), 35), (checked(3, 75 * ms, 76 * ms), 0), (checked(1, 20 * ms, 90 * ms), 0)):
            with self.subTest(check=check):
                self.assertEqual(self.said(writer, [check])["oldest_answer_ms"], age)

    def test_a_record_that_makes_no_sense(self):
        self.assertEqual(self.violations([checked(1, 50, 40)]), 1)
        self.assertEqual(self.violations([answered(1, 50, key=100000)]), 1)


class WrongWriter(unittest.TestCase):
    """A real run in which a writer sometimes claims an answer that it never asked for."""

    def test_both_checkers_see_it(self):
        campaign = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torture.py")
        done = subprocess.run([sys.executable, "-B", campaign, "--seconds", str(5 * FACTOR), "--loop", "epoll",
                               "--durability", "process", "--no-guards", "--no-spool", "--only", "workers_killed",
                               "--wrong-writer", "--sample", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, check=False, env={**os.environ, "ETAGD_BUILD": BUILD})
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertTrue(done.stdout, done.stderr)
        counters = json.loads(done.stdout.splitlines()[-1])["counters"]
        self.assertGreater(counters["violations_answered"], 0)
        self.assertGreater(counters["history_violations"], 0)
        self.assertEqual(counters["violations_mixed"] + counters["violations_bound"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
