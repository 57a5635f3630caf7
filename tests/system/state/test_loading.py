# SPDX-License-Identifier: Apache-2.0
"""A state that is too large to be loaded before serving begins: what front ends see meanwhile, and afterwards."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import SYSTEM, Case, Raw, bound, fill_payload, main, part, retire_payload, wait_until  # noqa: E402

COUNT = 200000
SAMPLE = [f"/many/{i:05}" for i in range(0, COUNT, COUNT // 40)]


class Loading(Case):
    def test_entries_come_while_it_serves(self):
        # A short lease, as a start waits for the former one and loads meanwhile.
        d = self.started(lease_ms=50, args=("--capacity", str(COUNT * 3 // 2)))
        subprocess.run([os.path.join(SYSTEM, "fill_many"), d.socket, str(COUNT), "burst"], timeout=bound(60), check=True)
        self.assertEqual(d.status()["entries"], COUNT)
        d.ctl("sync")
        stored = d.status()["stored_entries"]
        self.assertGreater(stored, COUNT * 9 // 10)

        self.restart(d)
        self.assertEqual(self.loaded(d), stored)
        self.assertEqual(d.status()["loading"], 0)
        known = [key for key in SAMPLE if d.ctl_raw("get", key).returncode == 0]
        self.assertGreater(len(known), len(SAMPLE) // 2)
        for key in known:
            wait_until(lambda: d.verdict(key, f'"{int(key[6:])}"') == "not_modified", 10, f"304 of {key}")

        # What is retired before its turn came stays so, in this run and the next.
        self.restart(d)
        retired = known[::2]
        raw, token = Raw(d.socket), d.token()
        for key in retired:
            raw.send_frame(retire_payload(None, key.encode(), token))
        for key in retired:
            self.assertIsNotNone(raw.frame())
        raw.close()
        self.assertGreater(d.status()["loading"], 0)
        self.loaded(d)
        for key in known:
            wanted = "unknown" if key in retired else "not_modified"
            self.assertEqual(d.verdict(key, f'"{int(key[6:])}"'), wanted, key)
        d.ctl("sync")

        # What is filled again before its turn came, and depends on more: what it replaced does not come back without that.
        self.restart(d)
        wider = [key for key in known if key not in retired]
        raw, token = Raw(d.socket), d.token()
        for key in wider:
            raw.send_frame(fill_payload(None, key.encode(), token, part(2, f'"{int(key[6:])}"'.encode()), part(6, b"later")))
        for key in wider:
            self.assertIsNotNone(raw.frame())
        raw.send_frame(b"\x08\x05" + part(4, part(2, b"later")))  # Request{id: 5, invalidate: {surrogates: "later"}}
        self.assertIsNotNone(raw.frame())
        d.kill()  # before the store has them, mostly
        raw.close()
        d.start()
        self.loaded(d)
        for key in wider:
            self.assertEqual(d.verdict(key, f'"{int(key[6:])}"'), "unknown", key)
        d.ctl("sync")

        # What changes while entries come, changes for those that are still to come.
        self.restart(d)
        d.ctl("invalidate", "--prefix", "/many/")
        filled = SAMPLE[::4]
        for key in filled:
            d.fill(key, '"new"')
        self.loaded(d)
        for key in SAMPLE:
            self.assertNotEqual(d.verdict(key, f'"{int(key[6:])}"'), "not_modified", key)
        for key in filled:
            wait_until(lambda: d.verdict(key, '"new"') == "not_modified", 10, f"304 of {key}")
        d.ctl("sync")
        self.assertEqual(d.status()["stored_entries"], d.status()["entries"])

        # And it has come to the store.
        d.stop()
        d.start()
        self.loaded(d)
        for key in SAMPLE:
            self.assertNotEqual(d.verdict(key, f'"{int(key[6:])}"'), "not_modified", key)
        for key in filled:
            wait_until(lambda: d.verdict(key, '"new"') == "not_modified", 10, f"304 of {key}")

    def restart(self, d):
        """Killed and started: it serves before all of them are there."""
        d.restart()
        self.assertLess(int(d.wait_log(r"event=serving.* entries=(\d+)").group(1)), COUNT // 2)

    def loaded(self, d):
        return int(d.wait_log(r"event=state_loaded.* entries=(\d+)").group(1))


if __name__ == "__main__":
    main()
