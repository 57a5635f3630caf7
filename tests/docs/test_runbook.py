# SPDX-License-Identifier: Apache-2.0
"""What docs/operations.md and docs/security.md say of failures that no other test makes."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))

import harness  # noqa: E402

STRANGER = 64321
NO_IO_URING = os.path.join(harness.SYSTEM, "no_io_uring")


class Failures(harness.Case):
    def test_io_uring_is_refused(self):
        d = self.daemon(args=["--loop", "auto"])
        d.wrapper = [NO_IO_URING]
        d.start()
        d.wait_log(r"level=warn event=io_uring_refused .*loop=epoll")
        self.assertEqual(d.status()["loop"], "epoll")
        d.stop()
        d.args = ["--loop", "uring"]
        said, status = d.refusal()
        self.assertEqual(status, 1, said)
        self.assertRegex(said, r"event=loop_not_made .*advice=\"try --loop auto\"")

    def test_there_is_no_memory_for_the_index(self):
        d = self.daemon(args=["--capacity", "1000000", "--clocks", "1024", "--map-mib", "64"])
        d.wrapper = ["prlimit", f"--as={200 << 20}"]
        said, status = d.refusal()
        self.assertEqual(status, 1, said)
        self.assertRegex(said, r"event=index_not_made .*capacity=1000000 advice=\"the index is memory: lower --capacity")

    def test_a_writer_is_served_where_the_socket_was_removed(self):
        d = self.started()
        os.unlink(d.socket)
        self.assertEqual(d.process.wait(harness.bound(10)), 1)
        d.wait_log(r"event=place_lost")
        said = d.ctl_raw("invalidate", "--surrogate", "a")
        self.assertEqual((said.returncode, said.stdout), (0, "spooled\n"))
        d.fresh = False
        d.start()
        d.wait_log(r"start=warm")
        self.assertEqual(d.status()["spool_applied"], 1)


class Others(harness.Case):
    """Other users, and other namespaces."""
    SOCKET_MODE = "0666"

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest("only root can be somebody else")
        os.chmod(self.directory, 0o755)

    def test_without_the_role_read_there_is_no_index_and_nothing_is_counted(self):
        d = self.started()
        said = d.ctl_raw("check", "/a", user=STRANGER)
        self.assertRegex(said.stdout, r"reason +no_index")
        self.assertEqual(d.status()["clients.checks"], 0)

    def test_the_permissions_of_the_socket(self):
        self.SOCKET_MODE = None  # pylint: disable=invalid-name
        d = self.started()
        said = d.ctl_raw("ping", user=STRANGER)
        self.assertEqual(said.returncode, 2)
        self.assertIn("Permission denied", said.stderr)
        d.ctl("ping")

    def test_a_user_namespace(self):
        if subprocess.run(["unshare", "--user", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            self.skipTest("this kernel makes no user namespaces")

        def inside(*args):
            return subprocess.run(["unshare", "--user", harness.ETAGCTL, "--socket", d.socket, *args], capture_output=True,
                                  text=True, timeout=harness.bound(20), check=False)
        d = self.started()
        self.assertEqual(inside("invalidate", "--surrogate", "a").returncode, 0)
        d.kill()
        said = inside("invalidate", "--surrogate", "a")
        self.assertEqual(said.returncode, 2)
        self.assertIn("its owner has another uid here than the mark says (a user namespace?)", said.stderr)


if __name__ == "__main__":
    harness.main()
