# SPDX-License-Identifier: Apache-2.0
"""What a daemon of another version left, made up: a clear word and a cold start, never an answer from it, and no event lost."""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import Case, content_of, main, put_file  # noqa: E402

KEYS = [f"//old.example/items/{i}" for i in range(1, 4)]
CLOCKS = "4096"  # a checkpoint of as many as other tests have takes 32 MiB
STORE_FORMAT, SPOOL_VERSION = 3, 2
FORMAT_AT = 8  # in the meta record: behind its checksum


class OtherVersions(Case):
    def left(self):
        """What a daemon left that has ended: entries, and an event that a writer left in the spool after it."""
        d = self.started(args=["--clocks", CLOCKS])
        for i, key in enumerate(KEYS):
            d.fill(key, '"v1"', "--surrogate", f"item:{i}")
        writer = self.writer(d)
        d.stop()
        self.assertEqual(writer.say("invalidate surrogate item:0")["status"], "OK")
        self.assertEqual(len(self.events(d)), 1)
        return d

    @staticmethod
    def events(d):
        return [name for name in os.listdir(os.path.join(d.directory, "spool")) if name.startswith("e")]

    def set_aside(self, d):
        return [name for name in os.listdir(d.state) if name.startswith("damaged-")]

    def cold(self, d, reason):
        run = 1
        d.start()
        found = d.wait_log(f"event=state_not_used.*{reason}.*")
        status = d.status()
        self.assertEqual((status["start"], status["incarnation"], status["lsn"] >> 40), ("cold", run + 1, run + 1))  # no LSN is used twice
        for key in KEYS:
            self.assertEqual(d.check(key, header="If-None-Match: *")["verdict"], "unknown")
        self.assertEqual(self.events(d), [])
        # It works, and its own state is warm.
        d.fill(KEYS[0])
        d.ctl("sync")
        d.stop()
        d.start()
        d.wait_log("event=state_loaded start=warm")
        self.assertEqual(d.verdict(KEYS[0]), "not_modified")
        return found.group(0)

    def state_of_format(self, number):
        d = self.left()
        path = os.path.join(d.state, "data.mdb")
        with open(path, "r+b") as f:
            # Key "meta", checksum, format, incarnation 1: in each of the pages that have it.
            for found in re.finditer(rb"meta.{8}" + bytes([STORE_FORMAT]) + rb"\0\0\0\x01\0\0\0\0\0\0\0", f.read(), re.S):
                f.seek(found.start() + 4 + FORMAT_AT)
                f.write(number.to_bytes(4, "little"))
        with open(path, "rb") as f:
            before = f.read()
        self.cold(d, "another version of etagd .this one reads format")
        aside, = self.set_aside(d)
        with open(os.path.join(d.state, aside), "rb") as f:
            self.assertEqual(f.read(), before)

    def test_a_state_of_an_older_format_is_set_aside_whole_and_the_start_is_cold(self):
        self.state_of_format(STORE_FORMAT - 1)

    def test_a_state_of_a_newer_format_is_set_aside_whole_and_the_start_is_cold(self):
        self.state_of_format(STORE_FORMAT + 1)

    def test_a_spool_of_another_version_makes_the_start_cold_and_its_guards_are_waited_for(self):
        d = self.left()
        path = os.path.join(d.directory, "spool", "mark")
        lines = content_of(path).splitlines()
        self.assertEqual((lines[0], lines[4].partition("=")[0]), (f"etagd-spool {SPOOL_VERSION}", "linger_ns"))
        # What the next version may write: the first lines are the same in each. Its files may say what this one does not know.
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join([f"etagd-spool {SPOOL_VERSION + 1}", *lines[1:4], "linger_ns=1234000000", "colour=red", ""]))
        put_file(os.path.join(d.directory, "spool", "e00a"), b"\x04\0\0\0\xff\xff\xff\xff")
        found = self.cold(d, "spool's mark is of another version")
        self.assertIn("in_flux_ms=1234", found)
        self.assertEqual(self.set_aside(d), [])


if __name__ == "__main__":
    main()
