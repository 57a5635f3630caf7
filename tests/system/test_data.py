# SPDX-License-Identifier: Apache-2.0
"""Many entries: a list is whole while others come and go, and a full pool evicts."""
import json
import os
import subprocess

from harness import ETAGCTL, SYSTEM, Case, bound, main, wait_until

FILL_MANY = os.path.join(SYSTEM, "fill_many")


class Lists(Case):
    def test_a_listing_shows_an_entry_as_the_index_has_it(self):
        """The store lags behind the index: an entity tag that was replaced was listed, and called valid."""
        d = self.started()
        d.fill("/u/1")
        d.ctl("sync")
        for i in range(20):
            d.fill("/u/1", f'"v{i}"')
            entry, = d.ctl("list")["entries"]
            self.assertEqual((entry["etag"], entry["state"]), (f'"v{i}"', "valid"))

    def test_many_entries_once_each_while_others_come_and_go(self):
        d = self.started()
        subprocess.run([FILL_MANY, d.socket, "4000", "burst"], timeout=bound(60), check=True)
        d.ctl("sync")
        listing = subprocess.Popen([ETAGCTL, "--socket", d.socket, "--json", "list"], stdout=subprocess.PIPE, text=True)
        first = listing.stdout.readline()
        # The pipe holds less than the list: etagctl waits for us in the midst of it.
        for i in range(0, 4000, 200):
            d.fill(f"/many/{i:05d}x")
        d.ctl("sync")
        with listing.stdout:
            said = json.loads(first + listing.stdout.read())
        self.assertEqual((listing.wait(bound(30)), said["complete"]), (0, True))
        keys = [entry["key"] for entry in said["entries"]]
        self.assertEqual([key for key in keys if not key.endswith("x")], [f"/many/{i:05d}" for i in range(4000)])
        self.assertEqual(len(set(keys)), len(keys))


class PoolEviction(Case):
    def test_many_urls_with_tags_of_66_bytes_are_all_filled(self):
        """Three times what a pool of 1 MiB holds. Each was refused, once it was full."""
        d = self.started(args=["--pool-mib", "1", "--capacity", "65536", "--clocks", "1024"])
        held = (1 << 20) // 128 - 1
        pages = [(f"/many/{i:05d}", f'"{i:064d}"') for i in range(3 * held)]
        subprocess.run([FILL_MANY, d.socket, str(len(pages)), "long"], timeout=bound(60), check=True)
        status = d.status()
        self.assertEqual((status["fills_no_room"], status["evicted_oldest"]), (0, 0))
        self.assertEqual((status["evicted_pool"], status["entries"]), (2 * held, held))
        self.assertEqual(d.verdict(*pages[-1]), "not_modified")
        self.assertEqual(d.verdict(*pages[-held]), "not_modified")
        self.assertEqual(d.verdict(*pages[0]), "unknown")
        found = {line["topic"]: line for line in json.loads(d.ctl_raw("--json", "doctor").stdout)["findings"]}
        self.assertEqual(found["pool"]["level"], "warn")
        self.assertIn("pool-mib", found["pool"]["advice"])
        # The store followed: what went does not come back with a restart.
        wait_until(lambda: d.status()["stored_entries"] == held, 20, "the store has what the index has")
        d.stop()
        d.start()
        wait_until(lambda: d.status()["entries"] == held, 20, "entries of the former run")
        status = d.status()
        self.assertEqual((status["start"], status["loaded"], status["evicted_pool"]), ("warm", held, 0))
        self.assertEqual(d.verdict(*pages[-1]), "not_modified")


if __name__ == "__main__":
    main()
