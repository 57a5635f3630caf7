# SPDX-License-Identifier: Apache-2.0
"""States of other releases are never answered from."""
import lzma
import os
import re
import shutil

from harness import Case, main

STATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cases", "states")
KEYS = [f"//old.example/items/{i}" for i in range(1, 9)]
CLOCKS = "4096"  # a checkpoint of as many as other tests have takes 32 MiB
FORMAT_AT = 8  # in the meta record: behind its checksum


class OtherReleases(Case):
    def fixture(self, name):
        """A state that an older release left."""
        directory = os.path.join(self.directory, "state")
        os.mkdir(directory, 0o700)
        with lzma.open(os.path.join(STATES, name, "data.mdb.xz")) as packed, open(os.path.join(directory, "data.mdb"), "wb") as f:
            shutil.copyfileobj(packed, f)
        return directory

    def test_format_1_is_set_aside_and_its_run_goes_on(self):
        self.set_aside("1")

    def test_format_2_is_set_aside_and_its_run_goes_on(self):
        self.set_aside("2")

    def test_format_3_is_set_aside_and_its_run_goes_on(self):
        self.set_aside("3")

    def set_aside(self, number):
        directory = self.fixture(number)
        with open(os.path.join(directory, "data.mdb"), "rb") as f:
            before = f.read()
        d = self.daemon(args=["--clocks", CLOCKS])
        d.spawn()
        d.wait_log("event=state_not_used.*older version")
        d.wait_log("event=serving")
        self.assertEqual(d.status()["incarnation"], 2)  # the fixture's was 1: no LSN is used twice
        self.assertEqual(d.status()["lsn"] >> 40, 2)
        for key in KEYS:
            self.assertEqual(d.check(key, header="If-None-Match: *")["verdict"], "unknown")
        aside = [name for name in os.listdir(directory) if name.startswith("damaged-")]
        with open(os.path.join(directory, aside[0]), "rb") as f:
            self.assertEqual(f.read(), before)
        d.stop()
        d.spawn()
        d.wait_log("event=state_loaded start=warm")

    def with_format(self, number):
        """A state whose meta record says another format."""
        directory = self.fixture("2")
        path = os.path.join(directory, "data.mdb")
        with open(path, "r+b") as f:
            data = f.read()
            # Key "meta", checksum, format 2, incarnation 1.
            for found in re.finditer(rb"meta.{8}\x02\0\0\0\x01\0\0\0\0\0\0\0", data, re.S):
                f.seek(found.start() + 4 + FORMAT_AT)
                f.write(number.to_bytes(4, "little"))
        return directory

    def test_a_newer_format_is_refused_until_it_is_given_up(self):
        directory = self.with_format(5)
        d = self.daemon(args=["--clocks", CLOCKS])
        said, code = d.refusal()
        self.assertEqual(code, 1)
        self.assertRegex(said, "newer version of etagd .*this one writes format 4.*--cold")
        self.assertEqual(os.path.exists(os.path.join(directory, "data.mdb")), True)
        d.args.append("--cold")
        d.spawn()
        d.wait_log("event=state_not_used.*newer version")
        d.wait_log("event=serving")
        for key in KEYS:
            self.assertEqual(d.check(key, header="If-None-Match: *")["verdict"], "unknown")
        self.assertEqual(len([name for name in os.listdir(directory) if name.startswith("damaged-")]), 1)

    def test_a_format_without_a_way_is_set_aside(self):
        self.with_format(0)
        d = self.daemon(args=["--clocks", CLOCKS])
        d.spawn()
        d.wait_log("event=state_not_used.*older version")
        d.wait_log("event=serving")


if __name__ == "__main__":
    main()
