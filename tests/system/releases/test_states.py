# SPDX-License-Identifier: Apache-2.0
"""Stored states: --check-state tells the sound from the damaged and changes nothing; states of other releases are never answered from."""
import lzma
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import ETAGD, Case, bound, main  # noqa: E402

STATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "cases", "states")
KEYS = [f"//old.example/items/{i}" for i in range(1, 9)]
CLOCKS = "4096"  # a checkpoint of as many as other tests have takes 32 MiB
FORMAT_AT = 8  # in the meta record: behind its checksum


class States(Case):
    def check(self, directory, *args):
        done = subprocess.run([ETAGD, "--check-state", directory, *args], capture_output=True, text=True, timeout=bound(30), check=False)
        for line in done.stdout.splitlines():
            self.assertLessEqual(len(line), 100 if self.directory in line else 80, line)
        return done.returncode, done.stdout, done.stderr

    def files(self, directory):
        def look(name):
            path = os.path.join(directory, name)
            status = os.stat(path)
            with open(path, "rb") as f:
                return name, status.st_ino, status.st_mtime_ns, f.read()
        return [look(name) for name in sorted(os.listdir(directory))]

    def fixture(self, name):
        """A state that an older release left."""
        directory = os.path.join(self.directory, "state")
        os.mkdir(directory, 0o700)
        with lzma.open(os.path.join(STATES, name, "data.mdb.xz")) as packed, open(os.path.join(directory, "data.mdb"), "wb") as f:
            shutil.copyfileobj(packed, f)
        return directory


class CheckState(States):
    def made(self):
        d = self.started(args=["--clocks", CLOCKS])
        for i in range(3):
            d.fill(f"/k/{i}", '"v1"', "--surrogate", f"s{i}")
        many = "\n".join(f"surrogate s{i}" for i in range(50))
        d.ctl("invalidate", "--stdin", text=many)
        d.ctl("invalidate", "--surrogate", "held", "--hold-ms", "600000")
        return d

    def test_sound_warm_and_unchanged(self):
        d = self.made()
        code, out, err = self.check(d.state)
        self.assertEqual((code, out), (2, ""))
        self.assertIn("in use by a daemon", err)
        d.stop()
        before = self.files(d.state)
        code, out, err = self.check(d.state, "--socket", d.socket, "--clocks", CLOCKS)
        self.assertEqual((code, err), (0, ""), out)
        self.assertRegex(out, r"(?m)^entries      3$")
        self.assertRegex(out, r"(?m)^guards       1$")
        self.assertRegex(out, r"(?m)^clock chunks 8$")
        self.assertRegex(out, r"(?m)^next start   warm$")
        self.assertRegex(out, r"(?m)^verdict      sound$")
        code, out, _ = self.check(d.state, "--socket", d.socket)
        self.assertRegex(out, r"(?m)^next start   cold: the number of clocks was changed$")
        self.assertEqual(self.files(d.state), before)
        copy = os.path.join(self.directory, "copy")
        shutil.copytree(d.state, copy)
        os.unlink(os.path.join(copy, "lock"))
        code, out, _ = self.check(copy, "--socket", d.socket, "--clocks", CLOCKS)
        self.assertEqual(code, 0)
        self.assertIn("is a copy", out)
        self.assertNotIn("lock", os.listdir(copy))
        d.start()
        self.assertEqual(d.verdict("/k/2"), "unknown")

    def test_nothing_to_check(self):
        code, out, _ = self.check(self.directory)
        self.assertEqual(code, 0)
        self.assertIn("no state", out)
        self.assertEqual(os.listdir(self.directory), [])
        code, _, err = self.check(os.path.join(self.directory, "none"))
        self.assertEqual(code, 2)
        self.assertIn("cannot be opened", err)

    def test_damage_is_told_by_what_it_costs(self):
        d = self.made()
        d.stop()
        path = os.path.join(d.state, "data.mdb")
        with open(path, "rb") as f:
            good = f.read()

        def with_data(data):
            with open(path, "wb") as f:
                f.write(data)
            return self.check(d.state)

        # An entry's tag, an event's target: in one of the places where it stands, since pages that are free now have old copies.
        for was, becomes, said, advice in ((b'"v1"', b'"v2"', "entries      3, 1 damaged: the checksum of a record is wrong", "drops damaged entries"),
                                           (b"\x03\x00s49", b"\x03\x00s4X", "events       2, 1 damaged: the checksum", "sets the state aside")):
            told = [with_data(good[:m.start()] + becomes + good[m.end():]) for m in re.finditer(re.escape(was), good)]
            self.assertTrue(any(code == 1 and said in out and advice in out for code, out, _ in told), told)
        # A file that was cut: whoever reads it is killed.
        code, out, _ = with_data(good[:3 * 4096])
        self.assertEqual(code, 1)
        self.assertRegex(out, "verdict +damaged: reading it ends with signal 7, Bus error")
        code, out, _ = with_data(b"\0" * len(good))
        self.assertEqual(code, 1)
        # Nothing but the files' own bytes has changed, and the daemon starts.
        d.start()
        self.assertEqual(d.verdict("/k/2"), "unknown")


class OtherReleases(States):
    def test_format_1_is_set_aside_and_its_run_goes_on(self):
        self.set_aside("1")

    def test_format_2_is_set_aside_and_its_run_goes_on(self):
        self.set_aside("2")

    def test_format_3_is_set_aside_and_its_run_goes_on(self):
        self.set_aside("3")

    def set_aside(self, number):
        directory = self.fixture(number)
        code, out, _ = self.check(directory)
        self.assertEqual(code, 2)
        self.assertIn(f"format {number}", out)
        before = self.files(directory)[0][3]
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
        self.assertEqual(self.check(directory, "--socket", d.socket, "--clocks", CLOCKS)[0], 0)
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
        code, out, _ = self.check(directory)
        self.assertEqual(code, 2)
        self.assertIn("format 5", out)
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
