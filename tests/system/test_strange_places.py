# SPDX-License-Identifier: Apache-2.0
"""Readers and peers where nobody expects them: stopped in the middle of a lookup, connections in the hands of others, signals without end."""
import array
import fcntl
import json
import mmap
import os
import signal
import socket
import subprocess
import threading
import time
import unittest

from harness import SYSTEM, Case, Raw, bound, content_of, descriptors, main, not_emulated, put_file, wait_until

PATH = "/u/1"
STRANGER = 47001
STATUS_BYTES_MIN = 300  # a refusal is shorter


class StoppedReader(Case):
    @unittest.skipIf(os.environ.get("ETAGD_SANITIZE"), "a lookup has too many instructions then")
    @not_emulated("has no ptrace()")
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
        # A reader that left the short way looks again, from the deadline on, and may find the new version: it goes on.
        self.assertEqual({one["verdict"] for one in said if one["time_read"]} - {"not_modified", "unknown", "proceed"}, set())
        self.assertLessEqual({one["reason"] for one in said}, {"match", "no_match", "no_lease", "stale", "no_entry", "torn"})
        self.assertIn("not_modified", {one["verdict"] for one in said if one["time_read"]})
        self.assertEqual(d.verdict(PATH, '"v2"'), "not_modified")


@unittest.skipIf(os.geteuid() != 0, "needs root to become other users")
class Shared(Case):
    """One daemon for all of it: each leaves it as it was."""
    SOCKET_MODE = "0666"
    GROUP = 47010

    def setUp(self):
        super().setUp()
        os.chmod(self.directory, 0o755)
        self.d = self.started(lease_ms=1000, args=self.roles(f'["gid:{self.GROUP}"]'))
        self.d.fill(PATH)

    def roles(self, who):
        return self.config(f"roles:\n  read: {who}\n")

    def as_stranger(self, do, groups=()):
        """What a function says, asked as a user with no group but these."""
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            try:
                ours.close()
                os.setgroups(list(groups))
                os.setresgid(STRANGER, STRANGER, STRANGER)
                os.setresuid(STRANGER, STRANGER, STRANGER)
                theirs.sendall(repr(do()).encode())
            except BaseException as error:  # a child must not go on in its parent's code
                theirs.sendall(repr(error).encode())
            finally:
                os._exit(0)
        theirs.close()
        with ours:
            said = ours.makefile("rb").read().decode()
        os.waitpid(child, 0)
        return said

    @staticmethod
    def asks(connection):
        """Whether a status comes, and no refusal."""
        connection.send_frame(b"\x08\x05\x4a\x00")
        return len(connection.frame() or b"") > STATUS_BYTES_MIN

    def test_a_connection_has_the_roles_of_who_made_it_until_they_are_taken_away(self):
        """Inherited or passed, whoever holds it: so the library's own is closed by exec. Groups are those of the moment, too."""
        connection = Raw(self.d.socket)
        self.addCleanup(connection.close)
        self.assertEqual(self.as_stranger(lambda: self.asks(connection)), "True")
        # Of a user with the group, who then gives it up.
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)

        def connect_and_pass():
            made = Raw(self.d.socket)
            theirs.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [made.socket.fileno()]))])
            return self.asks(made)

        self.assertEqual(self.as_stranger(connect_and_pass, groups=[self.GROUP]), "True")
        theirs.close()
        passed = Raw.__new__(Raw)
        passed.socket = socket.socket(fileno=socket.recv_fds(ours, 1, 1)[1][0])
        passed.socket.settimeout(bound(20))
        self.addCleanup(passed.close)
        self.assertTrue(self.asks(passed))
        self.assertEqual(self.as_stranger(lambda: self.asks(Raw(self.d.socket))), "False")
        # The group's role goes, and what was made by it, in whose hands it is; root's own stays.
        self.roles("[]")
        self.d.reload()
        passed.closed()
        self.assertTrue(self.asks(connection))

    def test_a_program_that_a_front_end_starts_inherits_no_connection(self):
        w = self.writer(self.d)
        w.ok("invalidate surrogate other")
        kept = []
        for fd in os.listdir(f"/proc/{w.process.pid}/fd"):
            flags = int(content_of(f"/proc/{w.process.pid}/fdinfo/{fd}").split("flags:")[1].split()[0], 8)
            if int(fd) > 2 and not flags & os.O_CLOEXEC:
                kept.append(os.readlink(f"/proc/{w.process.pid}/fd/{fd}"))
        self.assertEqual(kept, [])

    def test_the_memory_that_came_with_the_hello_cannot_be_changed(self):
        """Not even by root, in any way to it; the daemon goes on."""
        connection = socket.socket(socket.AF_UNIX)
        self.addCleanup(connection.close)
        connection.settimeout(bound(20))
        connection.connect(self.d.socket)
        connection.sendall(len(Raw.HELLO).to_bytes(4, "little") + Raw.HELLO)
        fds = []
        while not fds:
            fds = list(socket.recv_fds(connection, 65536, 4)[1])
        for fd in fds:
            self.addCleanup(os.close, fd)
        again = os.open(f"/proc/self/fd/{fds[0]}", os.O_RDWR)
        self.addCleanup(os.close, again)
        size = os.fstat(again).st_size
        before = os.pread(again, 4096, 0)
        for fd in (fds[0], again):
            for change in (lambda fd=fd: os.pwrite(fd, b"x" * 64, 0), lambda fd=fd: os.ftruncate(fd, 0),
                           lambda fd=fd: os.ftruncate(fd, size + 4096), lambda fd=fd: os.posix_fallocate(fd, size, 4096),
                           lambda fd=fd: mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
                           lambda fd=fd: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)):
                with self.assertRaises(OSError):
                    change()
        punched = subprocess.run(["fallocate", "--punch-hole", "--offset", "0", "--length", "4096", f"/proc/self/fd/{again}"],
                                 pass_fds=[again], stderr=subprocess.DEVNULL, check=False)
        self.assertNotEqual(punched.returncode, 0)
        self.assertEqual(os.pread(again, 2048, 0), before[:2048])
        self.assertEqual(self.d.verdict(PATH), "not_modified")

    def test_a_storm_of_reloads_stops_nothing(self):
        w = self.writer(self.d)
        w.ok("invalidate surrogate first")
        wait_until(lambda: self.d.status()["peers"] == 2, 20, "nobody else is there")
        before = descriptors(self.d.process.pid)
        over = threading.Event()

        def storm():
            while not over.is_set():
                self.d.signal(signal.SIGHUP)
                time.sleep(0.0005)

        thread = threading.Thread(target=storm)
        thread.start()
        try:
            for i in range(100):
                w.ok(f"invalidate surrogate s:{i}")
                self.assertEqual(self.d.process.poll(), None)
            self.assertEqual(self.d.verdict(PATH), "not_modified")
        finally:
            over.set()
            thread.join()
        self.d.reload()
        wait_until(lambda: descriptors(self.d.process.pid) <= before, 20, "nothing stays open")

    def test_names_that_change_under_a_scan_of_the_spool_purge_nothing(self):
        """Hard links to a writer's files and to the daemon's, and names that are files, links and directories by turns."""
        spool = os.path.join(self.d.directory, "spool")
        theirs = os.path.join(self.directory, "of-root")  # root has the role: its garbage would purge everything
        put_file(theirs, b"garbage")
        os.chmod(theirs, 0o666)
        before = self.d.status()
        seconds = 1

        def race():
            os.umask(0)
            own = os.path.join(spool, "own")
            end = time.monotonic() + seconds
            tried = 0
            while time.monotonic() < end:
                path = os.path.join(spool, f"e{tried % 64:03x}")
                for step in (lambda: os.link(theirs, path), lambda: os.symlink(theirs, path),
                             lambda: os.link(os.path.join(spool, "mark"), path), lambda: os.rename(theirs, path),
                             lambda: os.mkdir(path), lambda: os.rename(path, own), lambda: os.rmdir(own), lambda: os.rename(own, path),
                             lambda: os.unlink(path), lambda: open(path, "xb").close(), lambda: os.unlink(path)):
                    try:
                        step()
                    except OSError:
                        pass
                tried += 1
            return tried > 100

        self.assertEqual(self.as_stranger(race), "True")
        wait_until(lambda: not [name for name in os.listdir(spool) if name.startswith("e")], 20, "the names to go")
        self.assertEqual(self.d.status()["spool_applied"], before["spool_applied"])
        self.assertEqual(self.d.verdict(PATH), "not_modified")
        with open(theirs, "rb") as f:
            self.assertEqual(f.read(), b"garbage")  # that another may write, or the kernel would forbid links to it


if __name__ == "__main__":
    main()
