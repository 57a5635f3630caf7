# SPDX-License-Identifier: Apache-2.0
"""Lookup, fill, invalidate: the main paths and the rule of tokens, through etagctl and a real daemon."""
import json
import os
import pathlib
import subprocess

from harness import EMULATED, ETAGCTL, Case, main, wait_until

KEY = "//shop.example/api/v1/uploads/42?x=1"


class Lookup(Case):
    def test_fill_then_304_with_the_stored_fields(self):
        d = self.started()
        self.assertEqual(d.check(KEY)["verdict"], "unknown")
        self.assertEqual(d.check(KEY)["reason"], "no_entry")
        d.fill(KEY, '"v1"', "--header", "Cache-Control: max-age=60, must-revalidate", "--surrogate", "upload:42")
        answer = d.check(KEY)
        self.assertEqual((answer["verdict"], answer["status"]), ("not_modified", 304))
        self.assertEqual(answer["headers"]["ETag"], '"v1"')
        self.assertEqual(answer["headers"]["Cache-Control"], "max-age=60, must-revalidate")
        self.assertEqual(d.verdict(KEY, '"other"'), "proceed")

    def test_scopes_variants_and_releases_are_different_entries(self):
        d = self.started()
        d.fill(KEY, '"v1"', "--scope", "customer:7")
        self.assertEqual(d.verdict(KEY), "unknown")
        self.assertEqual(d.check(KEY, "--scope", "customer:7")["verdict"], "not_modified")
        self.assertEqual(d.check(KEY, "--scope", "customer:8")["verdict"], "unknown")
        self.assertEqual(d.check(KEY, "--scope", "customer:7", "--release", "r2")["verdict"], "unknown")
        self.assertEqual(d.check(KEY, "--scope", "customer:7", "--vary", "Accept: a")["verdict"], "unknown")

    def test_expiry(self):
        d = self.started()
        d.fill(KEY, '"v1"', "--max-age-s", "10" if EMULATED else "1")
        self.assertEqual(d.verdict(KEY), "not_modified")
        wait_until(lambda: d.check(KEY)["reason"] == "expired", 15, "the entry expires")


class Tokens(Case):
    """A fill with a token taken before an invalidation of something that it depends on is refused."""

    def refused_after(self, *invalidation):
        d = self.started()
        token = d.token()
        d.ctl("invalidate", *invalidation)
        said = d.fill(KEY, '"v1"', "--surrogate", "upload:42", "--surrogate", "customer:7", token=token, expect=1)
        self.assertEqual(said["reason"], "token_stale")
        self.assertEqual(d.verdict(KEY), "unknown")
        d.fill(KEY, '"v1"', "--surrogate", "upload:42")
        self.assertEqual(d.verdict(KEY), "not_modified")

    def test_resource(self):
        self.refused_after("--resource", KEY)

    def test_resource_in_another_spelling(self):
        self.refused_after("--resource", "//SHOP.example:80/api/./v1/%75ploads/42?x=1")

    def test_surrogate(self):
        self.refused_after("--surrogate", "customer:7")

    def test_prefix(self):
        self.refused_after("--prefix", "//shop.example/api/v1/")

    def test_prefix_off_a_boundary_means_its_ancestor(self):
        self.refused_after("--prefix", "//shop.example/api/v1/uplo")

    def test_everything(self):
        self.refused_after("--all")

    def test_untouched_names_are_accepted(self):
        d = self.started()
        token = d.token()
        d.ctl("invalidate", "--resource", "//shop.example/api/v1/uploads/43", "--surrogate", "upload:43", "--prefix",
              "//shop.example/api/v2/", "--prefix", "//other.example/")
        d.fill(KEY, '"v1"', "--surrogate", "upload:42", token=token)
        self.assertEqual(d.verdict(KEY), "not_modified")

    def test_a_token_of_another_run(self):
        d = self.started()
        token = d.token()
        d.restart()
        self.assertEqual(d.fill(KEY, token=token, expect=1)["reason"], "token_foreign")

    def test_a_token_from_the_future(self):
        d = self.started()
        incarnation, lsn = d.token().split(".")
        future = f"{incarnation}.{int(lsn, 16) + 1:x}"
        self.assertEqual(d.fill(KEY, token=future, expect=1)["reason"], "token_foreign")

    def test_the_higher_token_stays(self):
        d = self.started()
        old = d.token()
        d.ctl("invalidate", "--surrogate", "unrelated")
        d.fill(KEY, '"new"')
        self.assertEqual(d.fill(KEY, '"old"', token=old, expect=1)["reason"], "older_fill")
        self.assertEqual(d.verdict(KEY, '"new"'), "not_modified")


class Invalidate(Case):
    def stale_after(self, *invalidation):
        d = self.started()
        d.fill(KEY, '"v1"', "--surrogate", "upload:42")
        d.fill("//shop.example/other", '"v1"')
        self.assertEqual(d.verdict(KEY), "not_modified")
        lsn = d.ctl("invalidate", *invalidation)["lsn"]
        self.assertGreater(lsn, 0)
        answer = d.check(KEY)
        self.assertEqual((answer["verdict"], answer["reason"]), ("unknown", "stale"))
        return d

    def test_resource(self):
        d = self.stale_after("--resource", KEY)
        self.assertEqual(d.verdict("//shop.example/other"), "not_modified")

    def test_surrogate(self):
        d = self.stale_after("--surrogate", "upload:42")
        self.assertEqual(d.verdict("//shop.example/other"), "not_modified")

    def test_prefix(self):
        d = self.stale_after("--prefix", "//shop.example/api/")
        self.assertEqual(d.verdict("//shop.example/other"), "not_modified")

    def test_deep_prefix_counts_as_its_covered_ancestor(self):
        self.stale_after("--prefix", "//shop.example/api/v1/uploads/42/more/")

    def test_everything(self):
        d = self.stale_after("--all")
        self.assertEqual(d.verdict("//shop.example/other"), "unknown")

    def test_lsns_grow_and_survive_a_restart(self):
        d = self.started()
        a = d.ctl("invalidate", "--surrogate", "a")["lsn"]
        b = d.ctl("invalidate", "--surrogate", "b")["lsn"]
        d.restart()
        c = d.ctl("invalidate", "--surrogate", "c")["lsn"]
        self.assertTrue(a < b < c)

    def test_stdin(self):
        d = self.started()
        d.fill(KEY, '"v1"', "--surrogate", "upload:42")
        d.ctl("invalidate", "--stdin", text="surrogate nobody\nsurrogate upload:42\n")
        self.assertEqual(d.verdict(KEY), "unknown")

    def test_explain_names_the_clock_and_the_event(self):
        d = self.started()
        d.fill(KEY, '"v1"', "--surrogate", "upload:42")
        lsn = d.ctl("invalidate", "--surrogate", "upload:42")["lsn"]
        told = d.ctl("explain", KEY)
        self.assertEqual(told["state"], "stale")
        self.assertEqual(told["clock"]["name"], "upload:42")
        self.assertEqual(told["event"]["lsn"], lsn)


class Operators(Case):
    def test_pause_makes_every_front_end_render_and_outlives_the_daemon(self):
        d = self.started()
        d.fill(KEY)
        d.ctl("sync")
        d.ctl("pause")
        self.assertEqual(d.check(KEY)["reason"], "no_lease")
        d.restart()
        self.assertEqual(d.check(KEY)["reason"], "no_lease")
        d.ctl("resume")
        wait_until(lambda: d.verdict(KEY) == "not_modified", 5, "304 after resume")

    def test_list_get_status(self):
        d = self.started()
        for i in range(25):
            d.fill(f"//shop.example/api/v1/uploads/{i}", f'"v{i}"')
        d.fill("//shop.example/other", '"o"')
        d.ctl("sync")
        listed = d.ctl("list", "--prefix", "//shop.example/api/")
        self.assertEqual(len(listed["entries"]), 25)
        self.assertEqual(len(d.ctl("list", "--limit", "7")["entries"]), 7)
        self.assertEqual(d.ctl("get", "//shop.example/api/v1/uploads/3")["etag"], '"v3"')
        d.ctl("get", "//shop.example/nothing", expect=1)
        self.assertEqual(d.status()["entries"], 26)

    def test_watch_shows_events_as_they_happen(self):
        d = self.started()
        watch = subprocess.Popen([ETAGCTL, "--socket", d.socket, "--json", "watch"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(watch.stdout.close)
        self.addCleanup(watch.stderr.close)
        self.addCleanup(watch.wait)
        self.addCleanup(watch.kill)
        # What happens after this line is shown.
        self.assertIn("watching", watch.stderr.readline())
        lsn = d.ctl("invalidate", "--surrogate", "seen")["lsn"]
        event = json.loads(watch.stdout.readline())
        self.assertEqual(event["lsn"], lsn)
        self.assertEqual(event["uid"], os.getuid())

    def test_clean_stop(self):
        d = self.started()
        d.fill(KEY)
        self.assertEqual(d.stop(), 0)
        self.assertIn("event=stopped", "\n".join(d.lines + [str(d.wait_log("event=stopped"))]))
        d.start()
        self.assertEqual(d.verdict(KEY), "not_modified")


class HugePages(Case):
    """They come after the start, or the log says once why not; nothing else depends on them."""

    def said(self, use):
        d = self.started(args=["--huge-pages", use])
        d.fill(KEY)
        found = d.wait_log(r"level=(\w+) event=huge_pages mib=(\d+) of_mib=(\d+)( error=.*)?")
        self.assertEqual(d.verdict(KEY), "not_modified")
        return d, found

    def test_on_and_auto(self):
        if EMULATED:
            self.skipTest("the emulator says yes to advice that it does not give to the kernel")
        for use in ("on", "auto"):
            d, found = self.said(use)
            level, mib, of_mib, error = found.groups()
            if error is None:
                self.assertEqual((level, mib), ("info", of_mib))
                with open(f"/proc/{d.process.pid}/smaps", encoding="utf-8") as smaps:
                    mapped = sum(int(line.split()[1]) for line in smaps if line.startswith("ShmemPmdMapped:"))
                self.assertGreater(mapped, 1024 * int(of_mib) / 2)
            else:
                self.assertEqual(level, "warn" if use == "on" else "info")
            self.assertEqual(sum("event=huge_pages" in line for line in d.lines), 1)
            self.assertEqual(d.stop(), 0)

    def test_off(self):
        d = self.started(args=["--huge-pages", "off"])
        threads = [pathlib.Path(f"/proc/{d.process.pid}/task/{task}/comm").read_text(encoding="utf-8").strip()
                   for task in os.listdir(f"/proc/{d.process.pid}/task")]
        self.assertIn("etagd-persist", threads)
        self.assertNotIn("etagd-huge", threads)
        d.fill(KEY)
        self.assertEqual(d.verdict(KEY), "not_modified")
        self.assertFalse(any("event=huge_pages" in line for line in d.lines))


if __name__ == "__main__":
    main()
