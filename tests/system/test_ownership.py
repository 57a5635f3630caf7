# SPDX-License-Identifier: Apache-2.0
"""Whose socket, whose state, who may do what."""
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import unittest

from harness import ETAGD, Case, Raw, bound, main, wait_until

KEY = "//shop.example/u/1"


class Ownership(Case):
    def test_a_second_daemon_on_one_socket_is_refused(self):
        d = self.started()
        second = self.daemon()
        second.state = os.path.join(self.directory, "other-state")
        said, status = second.refusal()
        self.assertEqual(status, 1)
        self.assertIn("another etagd serves this socket", said)
        d.fill(KEY)

    def test_a_second_daemon_on_one_state_is_refused(self):
        d = self.started()
        second = self.daemon()
        second.socket = os.path.join(self.directory, "other.sock")
        said, status = second.refusal()
        self.assertEqual(status, 1)
        self.assertIn(d.state, said)
        d.fill(KEY)

    def test_a_dead_daemons_socket_is_replaced(self):
        d = self.started()
        d.kill()
        self.assertTrue(os.path.exists(d.socket))
        d.start()
        d.fill(KEY)

    def test_a_file_that_is_no_socket_is_not_touched(self):
        d = self.daemon()
        with open(d.socket, "w", encoding="ascii") as f:
            f.write("precious")
        said, status = d.refusal()
        self.assertEqual(status, 1)
        self.assertIn("not a socket", said)
        with open(d.socket, encoding="ascii") as f:
            self.assertEqual(f.read(), "precious")

    def test_somebody_elses_socket_is_not_touched(self):
        d = self.daemon()
        other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        other.bind(d.socket)
        other.listen()
        said, status = d.refusal()
        self.assertEqual(status, 1)
        self.assertIn("something else listens", said)
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
        said, status = d.refusal()
        self.assertEqual(status, 1)
        self.assertIn(d.state, said)

    def test_a_state_directory_that_others_may_write_is_refused(self):
        d = self.daemon()
        os.mkdir(d.state)
        os.chmod(d.state, 0o777)
        said, status = d.refusal()
        self.assertEqual(status, 1)
        self.assertIn(d.state, said)

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


class Roles(Case):
    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest("needs root to become another user")
        # Others reach the socket; roles decide what they may do.
        os.chmod(self.directory, 0o755)
        self.user = pwd.getpwnam("daemon")

    def config(self, text):
        path = os.path.join(self.directory, "etagd.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return ["--config", path]

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
        path = os.path.join(self.directory, "etagd.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return subprocess.run([ETAGD, "--check-config", "--config", path, *flags], capture_output=True, text=True,
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
        self.assertIn("etagd 0.1.0", done.stdout)
        done = subprocess.run([ETAGD, "--help"], capture_output=True, text=True, check=False)
        self.assertIn("--state-dir", done.stdout)
        self.assertEqual(done.returncode, 0)


if __name__ == "__main__":
    main()
