# SPDX-License-Identifier: Apache-2.0
"""Whose socket, whose state, who may do what."""
import os
import pwd
import shutil
import signal
import socket
import stat
import struct
import subprocess
import unittest

from harness import ETAGD, Case, Raw, bound, content_of, main, not_emulated, put_file, wait_until

KEY = "//shop.example/u/1"


class Ownership(Case):
    def test_a_second_daemon_on_one_socket_is_refused(self):
        d = self.started()
        second = self.daemon()
        second.state = os.path.join(self.directory, "other-state")
        self.refuses(second, "another etagd serves this socket")
        d.fill(KEY)

    def test_a_second_daemon_on_one_state_is_refused(self):
        d = self.started()
        second = self.daemon()
        second.socket = os.path.join(self.directory, "other.sock")
        self.refuses(second, d.state)
        d.fill(KEY)

    def test_a_dead_daemons_socket_is_replaced(self):
        d = self.started()
        d.kill()
        self.assertTrue(os.path.exists(d.socket))
        d.start()
        d.fill(KEY)

    def test_a_file_that_is_no_socket_is_not_touched(self):
        d = self.daemon()
        put_file(d.socket, "precious")
        self.refuses(d, "not a socket")
        self.assertEqual(content_of(d.socket), "precious")

    def test_somebody_elses_socket_is_not_touched(self):
        d = self.daemon()
        other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        other.bind(d.socket)
        other.listen()
        self.refuses(d, "something else listens")
        other.close()

    def test_a_removed_state_directory_ends_the_daemon(self):
        d = self.started()
        d.fill(KEY)
        shutil.rmtree(d.state)
        d.wait_log(r"event=place_lost")
        self.assertNotEqual(d.process.wait(bound(10)), 0)

    def test_a_replaced_socket_ends_the_daemon(self):
        d = self.started()
        os.unlink(d.socket)
        d.wait_log(r"event=place_lost")
        self.assertNotEqual(d.process.wait(bound(10)), 0)

    @unittest.skipIf(os.geteuid() != 0, "needs root to give a directory away")
    def test_a_state_directory_of_somebody_else_is_refused(self):
        d = self.daemon()
        os.mkdir(d.state, 0o700)
        os.chown(d.state, 12345, 12345)
        self.refuses(d, d.state)

    def test_a_state_directory_that_others_may_write_is_refused(self):
        d = self.daemon()
        os.mkdir(d.state)
        os.chmod(d.state, 0o777)
        self.refuses(d, d.state)

    def test_a_socket_path_that_is_too_long(self):
        d = self.daemon()
        d.socket = os.path.join(self.directory, "x" * 120)
        said, status = d.refusal()
        self.assertNotEqual(status, 0)
        self.assertIn("107", said)

    def test_sigterm_while_waiting_to_start(self):
        d = self.started(lease_ms=3000)
        d.kill()
        d.spawn()
        d.wait_log(r"event=state_")
        d.signal(signal.SIGTERM)
        self.assertEqual(d.process.wait(bound(10)), 0)


@unittest.skipIf(os.geteuid() != 0, "needs root to be two users")
class SharedDirectory(Case):
    """The daemon is root's, and the socket's directory is one where others can make names, as /tmp is."""
    STRANGER = 12345

    def setUp(self):
        super().setUp()
        os.chmod(self.directory, 0o1777)
        # The kernel may refuse some of this by itself (fs.protected_*), but not everywhere.
        self.d = self.daemon()

    def as_stranger(self, do):
        os.seteuid(self.STRANGER)
        try:
            do()
        finally:
            os.seteuid(0)

    def test_a_lock_that_a_stranger_made_is_refused(self):
        lock = self.d.socket + ".lock"
        # It could say a lease that is too short, and its owner could change it, and hold it.
        self.as_stranger(lambda: os.close(os.open(lock, os.O_CREAT | os.O_WRONLY, 0o666)))
        self.refuses(self.d, lock, "belongs to another user")
        os.unlink(lock)
        self.as_stranger(lambda: os.mkfifo(lock, 0o666))
        self.refuses(self.d, lock, "no regular file")
        os.unlink(lock)
        self.as_stranger(lambda: os.symlink("/etc/passwd", lock))
        self.refuses(self.d, lock, "no regular file")

    def test_a_witness_and_a_journal_that_a_stranger_made_are_not_believed(self):
        d = self.d.start()
        d.fill(KEY)
        d.stop()
        kept = {}
        for name in (".witness", ".journal"):
            with open(d.socket + name, "rb") as file:
                kept[name] = file.read()
            os.unlink(d.socket + name)

        def put(name):
            put_file(d.socket + name, kept[name])
        for name in kept:
            self.as_stranger(lambda name=name: put(name))
        d.start()
        self.assertRegex("".join(d.lines), r"event=state_not_used.*start=cold.*witness")
        self.assertEqual(d.verdict(KEY), "unknown")
        self.assertEqual(os.stat(d.socket + ".witness").st_uid, 0)
        d.stop()
        d.start()
        self.assertNotIn("state_not_used", "".join(d.lines))

    def test_it_says_that_others_can_take_the_sockets_name(self):
        self.d.start()
        self.d.wait_log("event=socket_dir_shared")
        self.d.stop()
        os.chmod(self.directory, 0o777)  # there they could take it from a daemon that runs
        self.refuses(self.d, self.directory, "can be written by others", "chmod go-w")
        os.chmod(self.directory, 0o755)
        os.chown(self.directory, self.STRANGER, self.STRANGER)
        self.refuses(self.d, self.directory, "belongs to another user")

    def test_a_state_directory_that_is_a_strangers_link_is_refused(self):
        real = os.path.join(self.directory, "real")
        os.mkdir(real, 0o700)
        self.as_stranger(lambda: os.symlink(real, self.d.state))
        self.refuses(self.d, self.d.state, "a link that belongs to another user")
        self.assertEqual(os.listdir(real), [])
        os.unlink(self.d.state)
        os.symlink(real, self.d.state)  # the administrator's own
        self.d.start()
        self.assertIn("data.mdb", os.listdir(real))


class Roles(Case):
    SOCKET_MODE = "0666"

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest("needs root to become another user")
        os.chmod(self.directory, 0o755)
        self.user = pwd.getpwnam("daemon")

    def as_user(self, d, *args, groups=()):
        """As the user, whose group has the same number, with these supplementary groups and no other."""
        return d.ctl_raw("--json", *args, user=self.user.pw_uid, groups=groups)

    def test_a_user_without_a_role_can_do_nothing(self):
        d = self.started()
        d.fill(KEY)
        for args in (["status"], ["list"], ["invalidate", "--all"], ["fill", KEY, "--etag", '"x"', "--token", d.token()],
                     ["pause"], ["get", KEY]):
            done = self.as_user(d, *args)
            self.assertEqual(done.returncode, 2 if args[0] != "fill" else done.returncode, (args, done))
            self.assertNotEqual(done.returncode, 0, args)
        self.assertEqual(d.verdict(KEY), "not_modified")

    def test_unless_told_otherwise_the_socket_is_for_its_group(self):
        self.SOCKET_MODE = None  # pylint: disable=invalid-name
        d = self.started(args=["--role", f"read=uid:{self.user.pw_uid}"])
        self.assertEqual(stat.S_IMODE(os.stat(d.socket).st_mode), 0o660)
        self.assertIn("Permission denied", self.as_user(d, "ping").stderr)
        self.assertEqual(self.as_user(d, "ping", groups=[os.stat(d.socket).st_gid]).returncode, 0)

    def test_a_crowd_without_a_role_keeps_nobody_out(self):
        d = self.started()
        d.fill(KEY)
        os.seteuid(self.user.pw_uid)
        try:
            crowd = [Raw(d.socket, hello=False) for _ in range(200)]
        finally:
            os.seteuid(0)
        for one in crowd:
            self.addCleanup(one.close)
        wait_until(lambda: d.status()["peers_refused"] == 200 - 64, 20, "the crowd to be bounded")
        self.assertIn(len([line for line in d.lines if "event=peer_refused" in line]), (1, 2, 3), d.lines)
        # Nor does it hold memory: a frame that is begun and not ended.
        began = struct.pack("<I", 1 << 20) + bytes(1 << 17)
        broken = 0
        for one in crowd:
            try:
                one.send(began)
                broken += b"wants a role" in one.closed()
            except (BrokenPipeError, ConnectionResetError):
                pass
        self.assertGreater(broken, 0)
        wait_until(lambda: d.status()["peers"] == 1, 20, "the crowd to be gone")
        self.assertEqual(d.verdict(KEY), "not_modified")
        self.assertNotEqual(self.as_user(d, "status").returncode, 0)  # and may come again, to be told no

    @not_emulated("has no SO_PEERGROUPS")
    def test_roles_by_user_and_group(self):
        uid = self.user.pw_uid
        d = self.started(args=self.config(f'roles:\n  read: ["uid:{uid}"]\n  fill: ["gid:{uid}"]\n  mutate: ["gid:4711"]\n'))
        self.assertEqual(self.as_user(d, "status").returncode, 0)
        self.assertEqual(self.as_user(d, "fill", KEY, "--etag", '"v1"').returncode, 0)
        self.assertNotEqual(self.as_user(d, "invalidate", "--all").returncode, 0)
        self.assertEqual(self.as_user(d, "invalidate", "--all", groups=[4710, 4711]).returncode, 0)
        self.assertNotEqual(self.as_user(d, "pause").returncode, 0)

    def test_mutate_implies_read(self):
        d = self.started(args=self.config(f"roles:\n  mutate: [\"user:{self.user.pw_name}\"]\n"))
        self.assertEqual(self.as_user(d, "invalidate", "--surrogate", "a").returncode, 0)
        self.assertEqual(self.as_user(d, "status").returncode, 0)
        self.assertNotEqual(self.as_user(d, "pause").returncode, 0)


class Configuration(Case):
    def run_with(self, text, *flags):
        return subprocess.run([ETAGD, "--check-config", *self.config(text), *flags], capture_output=True, text=True,
                              timeout=bound(20), check=False)

    def test_a_good_file(self):
        done = self.run_with("capacity: 1000000\nlease-ms: 500\ndurability: power\nroles:\n  read: [all]\n")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_mistakes_are_told_with_their_place(self):
        for text, where, what in (("capacity: 1\n", ":1:", "capacity"), ("lease-ms: 500\nlease_ms: 4\n", ":2:", "lease_ms"),
                                  ("loop: kqueue\n", ":1:", "uring"), ("roles:\n  read: [user:nobody-here]\n", ":2:", "nobody-here"),
                                  ("capacity: [\n", ":", "etagd.yaml")):
            done = self.run_with(text)
            self.assertEqual(done.returncode, 2, text)
            self.assertIn(where, done.stderr)
            self.assertIn(what, done.stderr)

    def test_flags(self):
        self.assertEqual(self.run_with("", "--capacity", "nonsense").returncode, 2)
        self.assertEqual(self.run_with("", "--no-such-flag").returncode, 2)
        done = subprocess.run([ETAGD, "--version"], capture_output=True, text=True, check=False)
        self.assertRegex(done.stdout, r"^etagd \d+\.\d+\.\d+$")
        done = subprocess.run([ETAGD, "--help"], capture_output=True, text=True, check=False)
        self.assertIn("--state-dir", done.stdout)
        self.assertEqual(done.returncode, 0)


if __name__ == "__main__":
    main()
