# SPDX-License-Identifier: Apache-2.0
"""etagctl dump and load: nothing is lost on the way, and nothing that was changed since is answered."""
import hashlib
import json
import os
import re
import subprocess
import time

from harness import ETAGCTL, Case, bound, main, wait_until

KEY = "//shop.example/u/1"


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def dump_of(d, entries):
    """A dump of (target, entity tag)."""
    head = {"format": "etagd-dump", "version": 1, "incarnation": d.ctl("ping")["incarnation"], "time_ms": 1, "clock_ns": 1}
    lines = ({"target": target, "scope": None, "etag": etag, "fill_lsn": 0, "state": "valid"} for target, etag in entries)
    return "\n".join(json.dumps(line) for line in [head, *lines, {"end": True, "entries": len(entries)}])


class Data(Case):
    def dump(self, d, *args):
        done = d.ctl_raw("dump", *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def load(self, d, text, *args, expect=0):
        return d.ctl("load", *args, text=text, expect=expect)

    def some(self, d):
        """Entries with everything that an entry can have."""
        d.fill("//shop.example/all?q=1", 'W/"v1"', "--scope", "customer:7", "--release", "r1", "--scheme", "https", "--vary", "Accept-Encoding: gzip",
               "--vary", "DPR", "--header", 'Cache-Control: no-cache, x="\udcff"', "--header", "Content-Location: /else", "--header",
               "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "--header", "Date: Sun, 06 Nov 1994 08:50:00 GMT", "--header",
               "Expires: Sun, 06 Nov 1994 08:51:00 GMT", "--header", "Vary: Accept-Encoding, DPR", "--surrogate", "upload:42",
               "--surrogate", "s", "--max-age-s", "3600", "--strong-date")
        d.fill("/plain")
        d.fill(KEY, '"\udce4"', "--surrogate", "gone")
        d.fill("/scoped", '"s"', "--scope", "customer:7")

    def test_a_dump_of_nothing(self):
        d = self.started()
        head, end = lines_of(self.dump(d))
        self.assertEqual((head["format"], head["version"], end), ("etagd-dump", 1, {"end": True, "entries": 0}))

    def test_what_is_dumped_comes_back_byte_by_byte_in_the_same_run(self):
        d = self.started()
        self.some(d)
        dump = self.dump(d)
        entries = lines_of(dump)[1:-1]
        self.assertEqual([e["target"] for e in entries], ["/all?q=1", "/u/1", "/plain", "/scoped"])
        full = entries[0]
        self.assertEqual((full["scope"], full["release"], full["vary"]), ("customer:7", "r1", [["accept-encoding", "gzip"], ["dpr", None]]))
        self.assertIn(["Expires", 60], full["fields"])
        self.assertEqual(full["surrogates"], ["upload:42", "s"])
        self.assertIn(["Cache-Control", {"hex": b'no-cache, x="\xff"'.hex()}], full["fields"])
        self.assertEqual((full["last_modified"], full["state"], full["content_location"]), (784111777, "valid", "/else"))
        self.assertEqual([e.get("last_modified_is_strong") for e in entries], [True, None, None, None])
        self.assertEqual(entries[1]["etag"], {"hex": "22e422"})
        report = self.load(d, dump)
        self.assertEqual((report["loaded"], report["not_loaded"], report["complete"]), (4, 0, True))
        again = lines_of(self.dump(d))[1:-1]
        for one, other in zip(entries, again):
            for name in ("max_age_ms", "expires_ms"):  # by the milliseconds that went by
                self.assertLessEqual(abs(one.pop(name, 0) - other.pop(name, 0)), bound(5000))
        self.assertEqual(entries, again)

    def test_what_was_changed_since_is_refused(self):
        d = self.started()
        self.some(d)
        dump = self.dump(d)
        d.ctl("invalidate", "--surrogate", "gone")
        report = self.load(d, dump, expect=1)
        self.assertEqual((report["loaded"], report["reasons"]), (3, {"token_stale": 1}))
        self.assertEqual(d.verdict("//shop.example/u/1", '"\udce4"'), "unknown")
        d.fill(KEY, '"new"')
        self.assertEqual(self.load(d, dump, expect=1)["reasons"], {"token_stale": 1})
        self.assertEqual(d.verdict(KEY, '"new"'), "not_modified")

    def test_a_dump_of_another_run_is_refused_until_somebody_answers_for_it(self):
        d = self.started()
        self.some(d)
        d.ctl("invalidate", "--surrogate", "gone")
        dump = self.dump(d)
        self.assertEqual([e["state"] for e in lines_of(dump)[1:-1]], ["valid", "stale", "valid", "valid"])
        d.stop()
        d.args = ["--cold"]
        d.start()
        done = d.ctl_raw("load", text=dump)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("--assume-current", done.stderr)
        self.assertEqual(d.verdict("/plain"), "unknown")
        report = self.load(d, dump, "--assume-current", expect=1)
        # What was stale then is stale now.
        self.assertEqual((report["loaded"], report["reasons"]), (3, {"not_current_in_the_dump": 1}))
        self.assertEqual(d.verdict("/plain"), "not_modified")
        self.assertEqual(d.verdict(KEY, '"\udce4"'), "unknown")
        d.ctl("invalidate", "--surrogate", "upload:42")  # the entries depend on what they did
        self.assertEqual(lines_of(self.dump(d))[1]["state"], "stale")

    def test_the_token_of_now_is_older_than_a_change_while_it_loads(self):
        d = self.started(args=["--log-level", "debug"])
        d.fill(KEY, '"v1"', "--surrogate", "a")
        dump = self.dump(d)
        load = subprocess.Popen([ETAGCTL, "--socket", d.socket, "--json", "load", "--assume-current"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
        # It has two connections, and the one for the token ends when it is taken.
        token = wait_until(lambda: [line for line in d.lines if f"pid={load.pid} " in line][1:], 5, "the connection for the token")
        d.wait_log("event=peer_ended " + re.search(r"peer=\d+", token[0]).group(0) + r"\b")
        d.ctl("invalidate", "--surrogate", "a")
        out, _ = load.communicate(dump, timeout=bound(20))
        self.assertEqual(json.loads(out)["reasons"], {"token_stale": 1})
        self.assertEqual(d.verdict(KEY), "unknown")

    def test_lines_that_cannot_be_read_are_told_and_skipped(self):
        d = self.started()
        d.fill("/a")
        head, entry, end = self.dump(d).splitlines()
        other = json.loads(entry)
        bad = ["{", "[]", "x" * (1024 * 1024 + 1), json.dumps({**other, "colour": "red"}), json.dumps({k: v for k, v in other.items() if k != "scope"}),
               json.dumps({**other, "target": "no slash"}), json.dumps({**other, "etag": "unquoted"}), json.dumps({**other, "surrogates": ["a"] * 129}),
               json.dumps({**other, "etag": {"hex": "2z"}}), json.dumps({**other, "state": "fine"}), head]
        done = d.ctl_raw("--json", "load", text="\n".join([head, *bad, entry, end]))
        report = json.loads(done.stdout)
        self.assertEqual((done.returncode, report["loaded"], report["unreadable_lines"]), (1, 1, len(bad)))
        for number in (2, 3, 4, 5, 6, 7, 8):
            self.assertRegex(done.stderr, rf"(?m)^standard input:{number}: .*: skipped$")
        self.assertEqual(d.verdict("/a"), "not_modified")

    def test_fields_that_no_entry_keeps_are_not_loaded(self):
        # A line of a dump is a fill as a peer with the role can make it, past libetag's choice of fields.
        d = self.started()
        d.fill("/a", '"v1"', "--header", "Cache-Control: no-cache")
        head, entry, end = self.dump(d).splitlines()
        forged = {**json.loads(entry), "target": "/b"}
        names = ["Set-Cookie", "Content-Length", "transfer-encoding", "Location", "ETag", "X-Accel-Redirect"]
        bad = [json.dumps({**forged, "fields": [[name, "1"]]}) for name in names]
        done = d.ctl_raw("--json", "load", text="\n".join([head, *bad, entry, end]))
        report = json.loads(done.stdout)
        self.assertEqual((report["loaded"], report["unreadable_lines"]), (1, len(bad)))
        for number in range(2, 2 + len(bad)):
            self.assertRegex(done.stderr, rf"(?m)^standard input:{number}: a header field that no entry keeps.*: skipped$")
        self.assertEqual((d.verdict("/a"), d.verdict("/b")), ("not_modified", "unknown"))

    def test_a_dump_that_was_cut_off_is_told(self):
        d = self.started()
        d.fill("/a")
        d.fill("/b")
        whole = self.dump(d)
        done = d.ctl_raw("--json", "load", text=whole[:whole.rindex('{"end"')])
        self.assertEqual((done.returncode, json.loads(done.stdout)["complete"], json.loads(done.stdout)["loaded"]), (1, False, 2))
        for text in ("", "{}\n", "nonsense", whole.replace('"version":1', '"version":2')):
            done = d.ctl_raw("load", text=text)
            self.assertEqual(done.returncode, 2, text)
            self.assertIn("no dump of etagctl", done.stderr)

    def test_what_expired_meanwhile_is_not_loaded_and_no_time_is_added(self):
        d = self.started()
        d.fill("/short", '"v1"', "--max-age-s", "1")
        d.fill("/long", '"v1"', "--max-age-s", "1000")
        dump = self.dump(d)
        time.sleep(1.1)
        report = self.load(d, dump, expect=1)
        self.assertEqual((report["loaded"], report["reasons"]), (1, {"expired": 1}))
        left = lines_of(self.dump(d, "--prefix", "/long"))[1]["max_age_ms"]
        self.assertLess(left, 1000 * 1000 - 1000)

    def test_a_listing_shows_an_entry_as_the_index_has_it(self):
        """The store lags behind the index: an entity tag that was replaced was listed, and called valid."""
        d = self.started()
        d.fill(KEY)
        d.ctl("sync")
        for i in range(20):
            d.fill(KEY, f'"v{i}"')
            entry, = d.ctl("list")["entries"]
            self.assertEqual((entry["etag"], entry["state"]), (f'"v{i}"', "valid"))

    def test_many_entries_once_each_while_others_come_and_go(self):
        d = self.started()
        stay = [f"/stay/{i:05d}" for i in range(4000)]
        made = lambda targets: dump_of(d, [(target, '"v1"') for target in targets])
        self.assertEqual(self.load(d, made(stay), "--assume-current")["loaded"], len(stay))
        dumping = subprocess.Popen([ETAGCTL, "--socket", d.socket, "dump"], stdout=subprocess.PIPE, text=True)
        first = dumping.stdout.readline()
        self.load(d, made([f"/stay/{i:05d}x" for i in range(0, 4000, 7)]), "--assume-current")
        with dumping.stdout:
            rest = dumping.stdout.read()
        self.assertEqual(dumping.wait(bound(30)), 0)
        targets = [e["target"] for e in lines_of(first + rest)[1:-1]]
        self.assertEqual([t for t in targets if not t.endswith("x")], stay)
        self.assertEqual(len(set(targets)), len(targets))

    def test_roles_and_a_daemon_that_is_down(self):
        d = self.started(args=["--role", "read=uid:4711", "--socket-mode", "0666"])
        os.chmod(self.directory, 0o755)
        done = d.ctl_raw("dump", user=4711)
        self.assertEqual(done.returncode, 0)
        self.assertIn("without the role 'admin'", done.stderr)
        done = d.ctl_raw("load", user=4711, text=done.stdout)
        self.assertEqual(done.returncode, 2)
        self.assertIn("role 'fill'", done.stderr)
        d.stop()
        for command in ("dump", "load"):
            done = d.ctl_raw(command, text="")
            self.assertEqual(done.returncode, 2)
            self.assertIn("is etagd running", done.stderr)


class PoolEviction(Case):
    def test_many_urls_with_tags_of_66_bytes_are_all_filled(self):
        """Three times what a pool of 1 MiB holds. Each was refused, once it was full."""
        d = self.started(args=["--pool-mib", "1", "--capacity", "65536", "--clocks", "1024"])
        held = (1 << 20) // 128 - 1
        pages = [(f"/page?{i}", '"' + hashlib.sha256(str(i).encode()).hexdigest() + '"') for i in range(3 * held)]
        self.assertEqual(d.ctl("load", "--assume-current", text=dump_of(d, pages))["loaded"], len(pages))
        status = d.status()
        self.assertEqual((status["fills_no_room"], status["evicted_oldest"]), (0, 0))
        self.assertEqual((status["evicted_pool"], status["entries"]), (2 * held, held))
        self.assertEqual(d.verdict(*pages[-1]), "not_modified")
        self.assertEqual(d.verdict(*pages[-held]), "not_modified")
        self.assertEqual(d.verdict(*pages[0]), "unknown")
        found = {line["topic"]: line for line in json.loads(d.ctl_raw("--json", "doctor").stdout)["findings"]}
        self.assertEqual(found["pool"]["level"], "warn")
        self.assertIn("pool-mib", found["pool"]["advice"])
        # The store followed: what went does not come back with a restart.
        wait_until(lambda: d.status()["stored_entries"] == held, 20, "the store has what the index has")
        d.stop()
        d.start()
        wait_until(lambda: d.status()["entries"] == held, 20, "entries of the former run")
        status = d.status()
        self.assertEqual((status["start"], status["loaded"], status["evicted_pool"]), ("warm", held, 0))
        self.assertEqual(d.verdict(*pages[-1]), "not_modified")


if __name__ == "__main__":
    main()
