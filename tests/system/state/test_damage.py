# SPDX-License-Identifier: Apache-2.0
"""States that something damaged, many of them: each start comes to an end, and none answers 304 for what had been invalidated.

The same files are damaged in place: a copy would be cold for being one. ETAG_TEST_DAMAGES: how many, 126 in the long form."""
import os
import random
import signal
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import SYSTEM, Case, bound, main, wait_until  # noqa: E402

DAMAGES = int(os.environ.get("ETAG_TEST_DAMAGES", "21"))
SEED = int(os.environ.get("ETAG_TEST_SEED", "4711"))
COUNT = 3000
MANY = 100000
PAGE = 4096
STALE = [f"/many/{i:05}" for i in range(1, COUNT, COUNT // 8)]
KEPT = [f"/many/{i:05}" for i in range(2, COUNT, COUNT // 4)]


def tag(key):
    return f'"{int(key[6:])}"'


def bit(data, chance):
    at = chance.randrange(min(used(data), len(data)))
    data[at] ^= 1 << chance.randrange(8)


def bits(data, chance):
    for _ in range(50):
        bit(data, chance)


def used(data):
    """A journal is mostly room: what was written, and a little more."""
    return len(data.rstrip(b"\0")) + 64


def page_of(data, chance):
    return PAGE * chance.randrange(used(data) // PAGE + 1)


def zeros(data, chance):
    at = page_of(data, chance)
    data[at:at + PAGE] = bytes(len(data[at:at + PAGE]))


def noise(data, chance):
    at = page_of(data, chance)
    data[at:at + PAGE] = chance.randbytes(len(data[at:at + PAGE]))


def swapped(data, chance):
    one, other = page_of(data, chance), page_of(data, chance)
    first, second = bytes(data[one:one + PAGE]), bytes(data[other:other + PAGE])
    if len(first) == len(second):
        data[one:one + PAGE], data[other:other + PAGE] = second, first


def shorter(data, chance):
    del data[chance.randrange(len(data)):]


def longer(data, chance):
    data += chance.randbytes(PAGE)


KINDS = (bit, bits, zeros, noise, swapped, shorter, longer)


class Damage(Case):
    def written(self, d, count=COUNT):
        """A state whose last events are in the journal alone, as kill -9 leaves them; what each of its files has."""
        subprocess.run([os.path.join(SYSTEM, "fill_many"), d.socket, str(count), "burst"], timeout=bound(60), check=True)
        d.ctl("sync")
        for key in STALE[::2]:
            d.ctl("invalidate", "--resource", key)
        d.ctl("sync")
        for key in STALE[1::2]:
            d.ctl("invalidate", "--resource", key)
        d.kill()
        self.files = {}
        for path in (os.path.join(d.state, "data.mdb"), d.socket + ".journal", d.socket + ".witness"):
            with open(path, "rb") as file:
                self.files[path] = (os.fstat(file.fileno()).st_ino, file.read())

    def restored(self, d):
        """The same files, also where a start put one aside: another one would be cold for being a copy. False: one is gone."""
        found = {os.stat(path).st_ino: path for folder in (d.state, os.path.dirname(d.socket)) for path in map(
            lambda name, folder=folder: os.path.join(folder, name), os.listdir(folder))}
        for path, (inode, data) in self.files.items():
            if inode not in found:
                return False
            os.rename(found[inode], path)
            self.write(path, data)
        return True

    @staticmethod
    def write(path, data):
        with open(path, "r+b") as file:
            file.write(data)
            file.truncate()

    def look(self, d, what):
        for key in STALE:
            self.assertNotEqual(d.verdict(key, tag(key)), "not_modified", (what, key))
        return sum(d.verdict(key, tag(key)) == "not_modified" for key in KEPT)

    def test_damaged_states(self):
        d = self.started(lease_ms=50)
        self.written(d)
        d.fresh = False
        d.start()  # as it is, it is warm, and has what was kept
        self.assertEqual(d.status()["start"], "warm")
        wait_until(lambda: self.look(d, "whole") == len(KEPT), 10, "what was kept is answered")
        d.kill()
        starts = {"warm": 0, "cold": 0}
        chance = random.Random(SEED)
        for number in range(DAMAGES):
            if not self.restored(d):
                d = self.started(lease_ms=50, name=str(number))
                self.written(d)
                d.fresh = False
            path, kind = list(self.files)[number % 3], KINDS[number // 3 % len(KINDS)]  # each kind for each file in turn
            data = bytearray(self.files[path][1])
            kind(data, chance)
            self.write(path, data)
            what = (number, kind.__name__, os.path.basename(path), SEED)
            with self.subTest(what=what):
                d.start()
                starts[d.status()["start"]] += 1
                self.look(d, what)
                d.fill("/new", '"new"')
                wait_until(lambda: d.verdict("/new", '"new"') == "not_modified", 10, "it works on")
                d.kill()
        self.assertGreater(min(starts.values()), 0, starts)
        print(f"{DAMAGES} damaged states: {starts}", flush=True)


    def loading(self, d):
        """Started on the whole state, and stopped before all of it has come; other states are restored for each try."""
        for _ in range(10):
            d.spawn()
            d.wait_log(r"event=serving.* start=warm")
            d.signal(signal.SIGSTOP)
            if not any("event=state_loaded" in line for line in d.lines):
                return
            d.end()
            self.assertTrue(self.restored(d))
        self.fail("all was loaded each time")

    def test_damaged_while_it_is_loaded(self):
        """The child that reads it first has found it sound. LMDB may end the process then; what it answers is never wrong."""
        def pages(of):
            def hurt(data, chance):
                for at in range(2 * PAGE, len(data), 4 * PAGE):
                    data[at:at + PAGE] = of(chance)
            return hurt
        d = self.started(lease_ms=50, args=("--capacity", str(MANY * 3 // 2)))
        self.written(d, MANY)
        d.fresh = False
        for name, hurt in (("noise", pages(lambda chance: chance.randbytes(PAGE))), ("zeros", pages(lambda chance: bytes(PAGE))),
                           ("shorter", lambda data, chance: data.__delitem__(slice(len(data) // 8, None)))):
            with self.subTest(name):
                self.loading(d)
                path, (_, whole) = next(iter(self.files.items()))
                data = bytearray(whole)
                hurt(data, random.Random(SEED))
                self.write(path, data)
                d.signal(signal.SIGCONT)
                wait_until(lambda: d.process.poll() is not None or any("event=entries_not_loaded" in line for line in d.lines), 20,
                           "it says so, or ends")
                if d.process.poll() is None:
                    self.look(d, name)
                d.end()
                d.start()
                self.assertEqual(d.status()["start"], "cold", name)
                self.look(d, name)
                d.kill()
                self.assertTrue(self.restored(d))


if __name__ == "__main__":
    main()
