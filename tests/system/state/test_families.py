# SPDX-License-Identifier: Apache-2.0
"""Families of surrogate keys: an event that names one reaches whatever depends on any key of it, by every way that an event may take.
What belongs to a family: tests/cases/families.tsv."""
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import ETAGCTL, Case, bound, main, wait_until  # noqa: E402

KEY = "//shop.example/u/42"
OTHER = "//shop.example/c/7"
LEASE_MS = 400


class FamilyCase(Case):
    def fill(self, d):
        """An entry of the family upload, and one of another."""
        d.fill(KEY, '"v1"', "--surrogate", "upload:42", "--surrogate", "front")
        d.fill(OTHER, '"v1"', "--surrogate", "uploads:42", "--surrogate", "customer:7")

    def reasons(self, d):
        """After a warm start a stale entry may have been swept before we look."""
        said = [d.check(key)["reason"] for key in (KEY, OTHER)]
        return ["stale" if reason == "no_entry" else reason for reason in said]

    def only_upload(self, d, reason="stale"):
        self.assertEqual(self.reasons(d), [reason, "match"])


class Names(FamilyCase):
    @classmethod
    def setUpClass(cls):
        cls.d = cls.shared_daemon()

    def test_every_way_to_name_one(self):
        d = self.d
        for args, text in ((["--family", "upload"], None), (["--family", "upload:*", "--surrogate", "nobody"], None),
                           (["--stdin"], "surrogate nobody\nfamily upload\n"), (["--family", "front"], None)):
            with self.subTest(args=args):
                self.fill(d)
                token = d.token()
                self.assertEqual(self.reasons(d), ["match", "match"])
                d.ctl("invalidate", *args, text=text)
                self.only_upload(d)
                # What was rendered from data of before it comes too late.
                self.assertEqual(d.fill(KEY, '"v1"', "--surrogate", "upload:43", "--surrogate", "front", token=token, expect=1)["reason"],
                                 "token_stale")
        for text in ("family\n", "family :x\n", "family up load\n"):
            self.assertEqual(d.ctl_raw("invalidate", "--stdin", text=text).returncode, 2)
        self.assertIn("--family", d.ctl_raw("invalidate").stderr)

    def test_a_guard(self):
        d = self.d
        self.fill(d)
        w = self.writer(d)
        w.ok("begin family upload")
        self.only_upload(d, "in_flux")
        self.assertEqual(d.fill(KEY, '"v1"', "--surrogate", "upload:42", expect=1)["reason"], "token_in_flux")
        w.ok("confirm")
        w.ok("commit")
        self.only_upload(d)
        self.fill(d)
        with subprocess.Popen([ETAGCTL, "--socket", d.socket, "guard", "--family", "upload", "--", "sh", "-c", "read x"],
                              stdin=subprocess.PIPE) as program:
            wait_until(lambda: self.reasons(d)[0] == "in_flux", 10, "the guard's beginning")
            program.communicate(b"\n", timeout=bound(20))
        self.only_upload(d)

    def test_what_is_shown(self):
        d = self.d
        key = "//shop.example/shown"
        d.fill(key, '"v1"', "--surrogate", "shown:1", "--surrogate", "shown:2")
        d.ctl("invalidate", "--family", "shown")
        found = d.ctl("explain", key)
        self.assertEqual([clock["name"] for clock in found["clocks"] if clock["kind"] == "family"], ["shown"])
        self.assertEqual((found["state"], found["clock"]["kind"], found["clock"]["name"]), ("stale", "family", "shown"))
        self.assertEqual(found["event"]["targets"], [{"kind": "family", "name": "shown"}])
        shown = d.ctl_raw("explain", key).stdout
        self.assertIn("that of family shown", shown)
        self.assertIn("- family shown", shown)
        self.assertNotIn("share a clock", shown)
        d.ctl("sync")
        self.assertIn("family shown", d.ctl_raw("log", "--surrogate", "shown:77").stdout)
        self.assertNotIn("family shown", d.ctl_raw("log", "--surrogate", "unshown:77").stdout)
        # A key without a colon is its own family, and what does not show its family has them all.
        for name, kind, said in (("shown", "surrogate", "that of surrogate shown"), ("sh\u00f6wn:1", "family", "that of family *")):
            with self.subTest(name=name):
                d.fill(key, '"v1"', "--surrogate", name)
                d.ctl("invalidate", "--family", "shown")
                self.assertEqual(d.ctl("explain", key)["clock"]["kind"], kind)
                shown = d.ctl_raw("explain", key).stdout
                self.assertIn(said, shown)
                self.assertNotIn("share a clock", shown)


class Kept(FamilyCase):
    """Recorded, left in the spool, and there again after a crash."""

    def test_an_event_and_a_guard_survive_a_kill(self):
        for durability in ("process", "power"):
            with self.subTest(durability=durability):
                d = self.daemon(name=durability, args=["--durability", durability], linger_ms=60000).start()
                self.fill(d)
                d.ctl("sync")
                d.ctl("invalidate", "--family", "upload")
                d.restart("warm")
                self.only_upload(d)
                d.ctl("sync")
                d.restart("warm")
                self.only_upload(d)
                self.fill(d)
                d.ctl("sync")
                w = self.writer(d, timeout_ms=20000)
                w.ok("begin family upload max 60000")
                d.restart("warm")
                w.ok("confirm")
                self.only_upload(d, "in_flux")
                w.ok("commit")
                self.only_upload(d)

    def test_a_hold(self):
        d = self.started()
        self.fill(d)
        d.ctl("sync")
        d.ctl("invalidate", "--family", "upload", "--hold-ms", "60000")
        self.only_upload(d, "in_flux")
        self.assertEqual(d.fill(KEY, '"v1"', "--surrogate", "upload:42", expect=1)["reason"], "token_in_flux")
        d.restart("warm")
        self.assertEqual(d.fill(KEY, '"v1"', "--surrogate", "upload:42", expect=1)["reason"], "token_in_flux")
        self.assertEqual(self.reasons(d)[1], "match")

    def test_a_dead_and_a_stopped_daemon(self):
        d = self.started(lease_ms=LEASE_MS)
        self.fill(d)
        d.ctl("sync")
        w = self.writer(d)
        d.kill()
        self.assertEqual(w.say("invalidate family upload")["lsn"], 0)
        self.assertTrue([name for name in os.listdir(os.path.join(d.directory, "spool")) if name.startswith("e")])
        d.start()
        self.only_upload(d)
        self.fill(d)
        d.signal(signal.SIGSTOP)
        self.assertEqual(w.say("invalidate family upload")["lsn"], 0)
        d.signal(signal.SIGCONT)
        self.only_upload(d)


if __name__ == "__main__":
    main()
