# SPDX-License-Identifier: Apache-2.0
"""Readers and peers where nobody expects them: stopped in the middle of a lookup, connections in the hands of others, signals without end."""
import array
import json
import os
import signal
import socket
import subprocess
import threading
import time
import unittest

from harness import SYSTEM, Case, Raw, Writer, bound, descriptors, main, wait_until

PATH = "/u/1"
STRANGER = 47001


class StoppedReader(Case):
    @unittest.skipIf(os.environ.get("ETAGD_SANITIZE"), "a lookup has too many instructions then")
    def test_a_reader_that_slept_in_the_middle_of_a_lookup_gives_no_304_of_before(self):
        """At every 149th instruction of a lookup, and near the decisive one at every third, a reader stops, and sleeps until the page was changed, filled anew and its lease is over."""
        d = self.started(lease_ms=1000)
        d.fill(PATH)
        readers = subprocess.Popen([os.path.join(SYSTEM, "stopped_readers"), d.socket, PATH, "149"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)
        self.addCleanup(readers.stdout.close)
        self.addCleanup(readers.kill)
        began = json.loads(readers.stdout.readline())
        self.assertGreater(began["before_time"], 40, began)
        d.ctl("invalidate", "--resource", PATH)
        d.fill(PATH, '"v2"')
        time.sleep(1.1)  # the lease that the last of them saw
        said = [json.loads(line) for line in readers.communicate("go\n", timeout=bound(60))[0].splitlines()]
        self.assertEqual(len(said), began["readers"])
        # Before the time was read, nothing is decided. Afterwards the answer was given before the change; only its way is long.
        self.assertEqual([one for one in said if one["verdict"] == "not_modified" and not one["time_read"]], [])
        self.assertEqual({one["verdict"] for one in said if one["time_read"]} - {"not_modified", "unknown"}, set())
        self.assertIn("no_lease", {one["reason"] for one in said})
        self.assertIn("not_modified", {one["verdict"] for one in said if one["time_read"]})
        self.assertEqual(d.verdict(PATH, '"v2"'), "not_modified")


if __name__ == "__main__":
    main()
