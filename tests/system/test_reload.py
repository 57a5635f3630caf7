# SPDX-License-Identifier: Apache-2.0
"""SIGHUP: what may change of the configuration changes, a mistake in it changes nothing, and who lost a role is sent away."""
import json
import os
import shutil
import signal
import stat

from harness import SYSTEM, Case, Raw, main

KEY = "//shop.example/u/1"
USER = 4711
GROUP = 4712


class Reload(Case):
    def setUp(self):
        super().setUp()
        os.chmod(self.directory, 0o755)

    def begun(self, text, *args):
        return self.started(args=[*self.config(text), *args])

    def reload(self, d, text, event="reloaded"):
        self.config(text)
        return d.reload(event)

    def users_writer(self, d):
        """A client of the library that runs as USER; the build may stand where that user cannot look."""
        program = shutil.copy(os.path.join(SYSTEM, "writer"), self.directory)
        os.chmod(program, 0o755)
        return self.writer(d, user=USER, program=program)

    def test_values_change_and_the_rest_waits(self):
        d = self.begun("log-level: info\nsocket-mode: \"0600\"\n", "--idle-ms", "3600000")
        pid = d.process.pid
        said = self.reload(d, "log-level: debug\nsocket-mode: \"0660\"\nlease-ms: 5000\nidle-ms: 1\npool-mib: 9\n")
        # Flags win: --idle-ms and --lease-ms stand on the command line.
        self.assertIn('changed="log-level socket-mode"', said)
        self.assertIn("waits_for_restart=pool-mib", said)
        self.assertEqual(stat.S_IMODE(os.stat(d.socket).st_mode), 0o660)
        self.assertEqual(d.status()["pid"], pid)
        d.wait_log("event=peer_accepted")  # debug
        self.assertIn('changed="" waits_for_restart=pool-mib', self.reload(
            d, "log-level: debug\nsocket-mode: \"0660\"\npool-mib: 9\n"))

    def test_the_log_changes_its_format(self):
        d = self.begun("log-format: logfmt\n")
        self.config("log-format: json\n")
        d.signal(signal.SIGHUP)
        said = json.loads(d.wait_log(r'\{.*"event":"reloaded".*').group(0))
        self.assertEqual(said["changed"], "log-format")
        self.assertIn("changed=log-format", self.reload(d, "log-format: logfmt\n"))

    def test_a_mistake_changes_nothing_and_is_told_with_its_place(self):
        d = self.begun("socket-mode: \"0600\"\n")
        said = self.reload(d, "socket-mode: \"0660\"\nlog_level: warn\n", "reload_refused")
        self.assertIn(":2:1: ", said)
        self.assertIn("unknown option", said)
        self.assertEqual(stat.S_IMODE(os.stat(d.socket).st_mode), 0o600)
        os.unlink(os.path.join(self.directory, "etagd.yaml"))
        d.reload("reload_refused.*No such file")
        d.fill(KEY)
        self.assertEqual(d.verdict(KEY), "not_modified")

    def test_a_connection_that_lost_a_role_is_sent_away(self):
        d = self.begun(f"socket-mode: \"0666\"\nroles:\n  fill: [\"uid:{USER}\"]\n  read: [\"gid:{GROUP}\"]\n")
        root = Raw(d.socket)
        self.assertEqual(d.ctl_raw("fill", KEY, "--etag", '"v1"', user=USER, groups=[GROUP]).returncode, 0)
        os.seteuid(USER)
        try:
            peer = Raw(d.socket)
        finally:
            os.seteuid(0)
        said = self.reload(d, f"socket-mode: \"0666\"\nroles:\n  read: [\"gid:{GROUP}\"]\n")
        self.assertIn("changed=roles", said)
        self.assertIn("peers_closed=1", said)
        self.assertIn(b"connect again", peer.closed())
        peer.close()
        self.assertEqual(d.ctl_raw("ping", user=USER).returncode, 0)
        done = d.ctl_raw("fill", KEY, "--etag", '"v2"', user=USER, groups=[GROUP])
        self.assertEqual(done.returncode, 2)
        self.assertIn("no role to fill", done.stderr)
        root.send_frame(b"\x08\x02\x2a\x00")  # ping: root's connection goes on
        self.assertIsNotNone(root.frame())
        root.close()

    def test_a_library_client_comes_back_with_its_new_roles(self):
        d = self.begun(f"socket-mode: \"0666\"\nroles:\n  read: [\"uid:{USER}\"]\n")
        writer = self.users_writer(d)
        self.assertEqual(writer.say("invalidate surrogate a")["status"], "DENIED")
        self.reload(d, f"socket-mode: \"0666\"\nroles:\n  mutate: [\"uid:{USER}\"]\n")
        self.assertEqual(writer.say("invalidate surrogate a")["status"], "OK")
        self.reload(d, f"socket-mode: \"0666\"\nroles:\n  read: [\"uid:{USER}\"]\n")
        self.assertEqual(writer.say("invalidate surrogate a")["status"], "DENIED")

    def test_an_event_that_was_spooled_before_its_writer_lost_the_role_counts(self):
        d = self.begun(f"socket-mode: \"0666\"\nroles:\n  mutate: [\"uid:{USER}\"]\n")
        d.fill(KEY, '"v1"', "--surrogate", "a")
        d.signal(signal.SIGSTOP)
        # By the spool: it connects and gets no hello, so nothing of it comes over the socket under the old roles.
        writer = self.users_writer(d)
        writer.ok("invalidate surrogate a")
        with d.changed:
            d.lines.clear()
        self.config("socket-mode: \"0666\"\nroles: {}\n")
        d.signal(signal.SIGHUP)  # comes first when it goes on
        d.signal(signal.SIGCONT)
        d.wait_log("event=reloaded")
        self.assertEqual(d.verdict(KEY), "unknown")
        self.assertEqual(writer.say("invalidate surrogate a")["status"], "DENIED")


if __name__ == "__main__":
    main()
