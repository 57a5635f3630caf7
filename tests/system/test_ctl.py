# SPDX-License-Identifier: Apache-2.0
"""etagctl's contract: exit status, JSON, errors, bounds of time, and what people read."""
import json
import os
import re
import signal
import subprocess
import time

import tables
from harness import ETAGCTL, SYSTEM, Case, bound, main

KEY = "//shop.example/api/v1/uploads/42"
SURROGATES = ("--surrogate", "upload:42", "--surrogate", "customer:7")
# Every command, with what it needs to be done.
COMMANDS = {"ping": [], "status": [], "stats": ["--watch=0.1", "--count", "1"], "clients": [],
            "get": [KEY], "explain": [KEY], "list": [], "check": [KEY], "token": [],
            "fill": [KEY, "--etag", '"v1"'], "invalidate": ["--surrogate", "nobody's"], "sync": [], "pause": [],
            "resume": [], "watch": [], "log": []}
DONE, NO, ERROR = 0, 1, 2


def run(*args, text=None, environment=None):
    return subprocess.run([ETAGCTL, *args], capture_output=True, text=True, input=text, timeout=bound(60), check=False,
                          env=environment)


# Rows of keys.tsv that no command line says: a NUL, a host with a slash, an absolute form, a scope that is unset or called
# "public", blanks around a value.
UNSAID = {"H062", "H065", "H073", "P073", "P077", "Q034", "K005", "K008", "K026", "K060", "K072", "S055"}


def key_words(row):
    """The row's key on a command line; None: no command line says it."""
    host, target = (b"" if row[name] == b"-" else tables.unescape(row[name]) for name in ("host", "target"))
    text = b"//" + host + target if host or target.startswith(b"//") else target
    rest = text[2:] if text.startswith(b"//") else b""
    slash = rest.find(b"/") if rest else 0
    if slash >= 0 and rest and (rest[:slash], rest[slash:]) != (host, target):
        return None  # reads as another host and target
    scope = tables.unescape(row["scope"])
    if scope in (b"unset", b"named:public"):
        return None  # there is a default; and a word for all
    words = [text, b"--scope", scope if scope == b"public" else scope[len(b"named:"):]]
    for name in ("release", "scheme"):
        if row[name] != b"-":
            words += [b"--" + name.encode(), tables.unescape(row[name])]
    for line in row["vary"].split(b" | ") if row["vary"] != b"-" else []:
        line = tables.unescape(line)
        if line != line.strip(b" ") or b":  " in line:
            return None  # blanks go
        words += [b"--vary", line]
    return None if any(b"\0" in word for word in words) else words


class CtlCase(Case):
    def setUp(self):
        super().setUp()
        self.d = self.started(lease_ms=500)

    def plain(self, *args, expect=DONE, text=None):
        """What a person reads."""
        done = self.d.ctl_raw(*args, text=text)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done.stdout if expect == DONE else done.stderr

    def assert_error(self, done, status, exit_status=ERROR):
        """One JSON document on standard output, and the same sentence for people on standard error."""
        self.assertEqual(done.returncode, exit_status, done.stdout + done.stderr)
        said = json.loads(done.stdout)
        self.assertEqual(said["status"], status)
        self.assertRegex(done.stderr, r"^etagctl( [a-z]+)?: ")
        self.assertIn(said["error"], done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)
        return said


class Json(CtlCase):
    """--json of each command: it parses and has the members that it promises."""

    def has(self, said, **types):
        for name, kind in types.items():
            self.assertIsInstance(said[name], kind, name)
        return said

    def test_ping(self):
        said = self.has(self.d.ctl("ping"), software=str, protocol=int, incarnation=str, round_trip_us=int)
        self.assertEqual(said["roles"], ["read", "fill", "mutate", "admin", "relay"])
        self.assertEqual(said["lease_ms"], 500)

    def test_status(self):
        self.d.fill(KEY)
        said = self.has(self.d.status(), version=str, pid=int, uptime_ms=int, loop=str, lsn=int, peers=int)
        self.assertEqual((said["pid"], said["entries"], said["lease"]), (self.d.process.pid, 1, "held"))
        self.assertEqual(said["clients.fills_sent"], 1)

    def test_get(self):
        lsn = self.d.fill(KEY, '"v1"', "--header", "Cache-Control: max-age=60", *SURROGATES)["lsn"]
        self.d.ctl("sync")
        said = self.d.ctl("get", KEY)
        self.assertEqual(said, {"key": KEY, "scope": "public", "state": "valid", "etag": '"v1"',
                                "headers": {"Cache-Control": "max-age=60"}, "surrogates": ["upload:42", "customer:7"],
                                "fill_lsn": lsn, "expires": None, "in_index": True, "persisted": True})

    def test_a_key_with_everything_comes_back(self):
        which = ["--scope", "customer:7", "--release", "r1", "--scheme", "HTTPS", "--vary", "Accept-Language: de", "--vary", "Origin"]
        self.d.fill(KEY, '"v1"', *which)
        said = self.d.ctl("get", KEY, *which)
        self.assertEqual((said["scope"], said["release"], said["scheme"]), ("customer:7", "r1", "https"))
        self.assertEqual(said["vary"], {"accept-language": "de", "origin": None})
        self.d.ctl("get", KEY, expect=NO)

    def test_keys_table(self):
        """Each row that a command line can say: look up, fill, invalidate."""
        token = self.d.token()
        filled, unsaid = {}, []
        for row in tables.rows("keys.tsv"):
            words = key_words(row)
            if words is None:
                unsaid.append(row["id"].decode())
                continue
            with self.subTest(row["id"]):
                word = row["key"].decode()
                known = row["lookup"] == b"known"
                self.assertEqual(known, row["fill"] == b"stored")
                found = self.d.ctl_raw("--json", "check", *words, "--header", 'If-None-Match: "x"')
                if not known:
                    self.assertEqual((word, found.returncode), ("error", 2), found)
                    self.assertEqual(self.d.ctl_raw("fill", *words, "--etag", '"x"', "--token", token).returncode, 2)
                elif word in filled:
                    self.assertEqual(json.loads(found.stdout)["reason"], "no_match", found)
                else:
                    self.assertEqual(json.loads(found.stdout)["reason"], "no_entry", found)
                    if word != "-":
                        filled[word] = self.d.ctl("fill", *words, "--etag", f'"{word[:200]}"', "--token", token)
        self.assertGreaterEqual(len(filled), 40)
        self.assertEqual(set(unsaid), UNSAID)
        for row in tables.rows("keys.tsv"):
            words = key_words({**row, "scope": b"public", "release": b"-", "scheme": b"-", "vary": b"-"})
            if words is not None:
                with self.subTest(row["id"]):
                    self.write(words[0], row["write"], row["lookup"] == b"bad_key")

    def write(self, name, cell, dotted):
        expected = [] if cell == b"error" else [tables.unescape(text) for text in cell.split(b" | ")]
        filled = [text for text in expected if dotted and
                  self.d.ctl_raw("fill", text, "--etag", '"w"', "--token", self.d.token()).returncode == 0]
        done = self.d.ctl_raw("--json", "invalidate", "--resource", name)
        self.assertEqual(done.returncode == 0, bool(expected), done)
        for text in expected:
            said = self.d.ctl("log", "--resource", text, "--limit", "1")
            self.assertEqual(said["lsn"], json.loads(done.stdout)["lsn"], text)
        for text in filled:
            self.assertEqual(self.d.ctl("check", text)["reason"], "stale", text)

    def test_explain(self):
        self.assertEqual(self.d.ctl("explain", KEY)["state"], "no_entry")
        self.d.fill(KEY, '"v1"', *SURROGATES)
        said = self.has(self.d.ctl("explain", KEY), detail=str, clocks=list, lease_left_ms=int)
        self.assertEqual((said["state"], said["clock"], said["event"]), ("valid", None, None))
        self.assertEqual([(c["kind"], c["name"]) for c in said["clocks"]],
                         [("everything", "everything"), ("resource", KEY), ("prefix", "//shop.example/"),
                          ("prefix", "//shop.example/api/"), ("prefix", "//shop.example/api/v1/"),
                          ("prefix", "//shop.example/api/v1/uploads/"), ("surrogate", "upload:42"),
                          ("surrogate", "customer:7"), ("family", "upload"), ("family", "customer")])
        lsn = self.d.ctl("invalidate", "--surrogate", "customer:7")["lsn"]
        said = self.d.ctl("explain", KEY)
        self.assertEqual(said["state"], "stale")
        self.assertEqual((said["clock"]["kind"], said["clock"]["name"], said["clock"]["lsn"]),
                         ("surrogate", "customer:7", lsn))
        self.assertEqual((said["event"]["lsn"], said["event"]["uid"]), (lsn, os.getuid()))
        self.assertEqual(said["event"]["targets"], [{"kind": "surrogate", "name": "customer:7"}])

    def test_check(self):
        def check(*args):
            said = self.d.ctl("check", KEY, *args)
            self.has(said, detail=str, headers=dict)
            return said["verdict"], said["reason"], said["status"]

        self.assertEqual(check(), ("unknown", "no_entry", None))
        self.d.fill(KEY, '"v1"', "--header", "Cache-Control: max-age=60", "--header", "Vary: Accept-Encoding",
                    "--vary", "Accept-Encoding: gzip", expect=0)
        vary = ["--vary", "Accept-Encoding: gzip"]
        self.assertEqual(check("--header", 'If-None-Match: "v1"'), ("unknown", "no_entry", None))
        self.assertEqual(check(*vary), ("proceed", "no_condition", None))
        self.assertEqual(check(*vary, "--header", 'If-None-Match: "v1"'), ("not_modified", "match", 304))
        self.assertEqual(check(*vary, "--header", 'If-None-Match: "v2"'), ("proceed", "no_match", None))
        self.assertEqual(check(*vary, "--method", "PUT", "--header", "If-None-Match: *")[2], 412)
        self.assertEqual(check(*vary, "--header", 'If-Match: "v0"')[::2], ("precondition_failed", 412))
        said = self.d.ctl("check", KEY, *vary, "--header", "if-none-match:*")
        self.assertEqual(said["headers"], {"ETag": '"v1"', "Cache-Control": "max-age=60", "Vary": "Accept-Encoding"})

    def test_check_of_what_an_application_asks_for(self):
        self.d.fill(KEY)
        put = ["--method", "PUT", "--require-if-match"]
        said = self.d.ctl("check", KEY, *put)
        self.assertEqual((said["verdict"], said["reason"], said["status"]), ("precondition_required", "required", 428))
        self.assertEqual(self.d.ctl("check", "/no/entry", *put)["status"], 428)
        said = self.d.ctl("check", KEY, *put, "--header", 'If-Match: "v0"')
        self.assertEqual((said["status"], said["headers"]), (412, {"ETag": '"v1"'}))
        suffixed = ["--header", 'If-None-Match: "v1-gzip"']
        self.assertEqual(self.d.ctl("check", KEY, *suffixed)["status"], None)
        self.assertEqual(self.d.ctl("check", KEY, *suffixed, "--compression-suffixes")["status"], 304)
        ranged = ["--header", "Range: bytes=0-1"]
        self.assertNotIn("range", self.d.ctl("check", KEY))
        self.assertEqual(self.d.ctl("check", KEY, *ranged)["range"], "honor")
        self.assertEqual(self.d.ctl("check", KEY, *ranged, "--header", 'If-Range: "v0"')["range"], "ignore")

    def test_check_with_several_lines_of_one_field(self):
        self.d.fill(KEY)
        lines = ["--header", 'If-None-Match: "a", "b"', "--header", "Accept: */*", "--header", 'If-None-Match: W/"v1"']
        self.assertEqual(self.d.ctl("check", KEY, *lines)["status"], 304)
        self.assertEqual(self.d.ctl("check", KEY, *lines[:-2])["status"], None)

    def test_token_and_fill(self):
        token = self.d.token()
        self.assertRegex(token, r"^[0-9a-f]+\.[0-9a-f]+$")
        said = self.d.ctl("fill", KEY, "--etag", '"v1"', "--token", token)
        self.assertEqual((said["stored"], said["lsn"]), (True, int(token.split(".")[1], 16)))

    def test_invalidate(self):
        said = self.has(self.d.ctl("invalidate", "--surrogate", "a", "--prefix", "/p/", "--resource", KEY), lsn=int)
        self.assertEqual((said["targets"], said["events"]), (3, 1))
        self.assertGreater(self.d.ctl("invalidate", "--all")["lsn"], said["lsn"])

    def test_sync_pause_resume(self):
        self.d.fill(KEY)
        self.assertTrue(self.d.ctl("sync")["done"])
        self.assertTrue(self.d.ctl("pause")["done"])
        self.assertEqual(self.d.check(KEY)["reason"], "no_lease")
        self.assertEqual(self.d.status()["lease"], "paused")
        self.assertEqual(self.d.fill(KEY, expect=NO)["reason"], "paused")
        self.assertTrue(self.d.ctl("resume")["done"])
        self.assertEqual(self.d.verdict(KEY), "not_modified")


class Exits(CtlCase):
    def test_done(self):
        self.d.fill(KEY)
        for name, args in COMMANDS.items():
            if name != "watch":  # which does not end by itself
                with self.subTest(name=name):
                    self.assertEqual(self.d.ctl_raw(name, *args).returncode, DONE)

    def test_not_found(self):
        self.assert_error(self.d.ctl_raw("--json", "get", "/nothing"), "not_found", NO)
        self.assertIn("no entry", self.plain("get", "/nothing", expect=NO))
        # Nothing was asked for that could be missing: the answer is the answer.
        self.plain("explain", "/nothing")
        self.plain("check", "/nothing")
        self.assertEqual(self.d.ctl("list", "--prefix", "/nothing"), {"entries": [], "count": 0, "complete": True})

    def test_refused_fills(self):
        token = self.d.token()
        self.d.ctl("invalidate", "--resource", KEY)
        foreign = ("1" if token[0] != "1" else "2") + token[1:]
        for args, reason in ((["--token", token], "token_stale"), (["--token", foreign], "token_foreign"),
                             (["--header", "Cache-Control: no-store"], "no_store"),
                             (["--header", "Set-Cookie: a=b"], "set_cookie"), (["--header", "Vary: *"], "vary_star")):
            done = self.d.ctl_raw("--json", "fill", KEY, "--etag", '"v1"', *args)
            self.assertEqual(done.returncode, NO, reason)
            said = json.loads(done.stdout)
            self.assertEqual((said["stored"], said["reason"], said["status"]), (False, reason, "refused"))
            self.assertIn(reason, self.plain("fill", KEY, "--etag", '"v1"', *args, expect=NO))
        self.d.ctl("get", KEY, expect=NO)

    def test_mistakes_in_the_command_line(self):
        for args in ([], ["nonsense"], ["--nonsense"], ["get"], ["get", "no-slash"], ["get", KEY, "more"],
                     ["get", "/a#b"], ["get", KEY, "--scope"], ["get", KEY, "--scope", ""], ["ping", "more"],
                     ["list", "--limit", "-1"], ["list", "--limit", "x"], ["check", KEY, "--header", "no colon"],
                     ["fill", KEY],
                     ["fill", KEY, "--etag", '"v1"', "--token", "zz"],
                     ["fill", KEY, "--etag", '"v1"', "--max-age-s", ""],
                     ["invalidate"], ["invalidate", "--resource", "x"], ["invalidate", "--surrogate", ""],
                     ["invalidate", "--surrogate", "a b"], ["invalidate", "--prefix", "/%zz/"],
                     ["--timeout-ms", "soon", "ping"], ["--timeout-ms", "99999999999", "ping"]):
            with self.subTest(args=args):
                said = self.assert_error(self.d.ctl_raw("--json", *args), "usage")
                self.assertIn("--help", said["error"])

    def test_values_that_the_library_refuses(self):
        for reason, args in (("bad_etag", ["--etag", "no-quotes"]), ("bad_etag", ["--etag", '"a\tb"']),
                             ("bad_surrogate", ["--etag", '"v1"', "--surrogate", "a b"]),
                             ("limit", ["--etag", '"v1"', "--header", "Cache-Control: max-age=1" + ", a=b" * 400]),
                             ("bad_field", ["--etag", '"v1"', "--header", "Cache-Control: a\nSet-Cookie: b"])):
            with self.subTest(args=args):
                done = self.d.ctl_raw("--json", "fill", KEY, *args)
                self.assertEqual((done.returncode, json.loads(done.stdout)["reason"]), (NO, reason))
        self.d.ctl("get", KEY, expect=NO)

    def test_help_and_version(self):
        self.assertRegex(run("--version").stdout, r"^etagctl \d+\.\d+\.\d+\n$")
        for args in (["--help"], *([name, "--help"] for name in COMMANDS)):
            done = run(*args)
            self.assertEqual((done.returncode, done.stderr), (DONE, ""))
            self.assertIn("Usage: etagctl", done.stdout)
            self.assertIn("Exit status: 0 done, 1 not found or refused, 2 error", done.stdout)
            self.assertLessEqual(max(map(len, done.stdout.splitlines())), 100)
        for name in COMMANDS:
            self.assertIn(f"\n  {name} ", run("--help").stdout)

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([ETAGCTL, "--socket", self.d.socket, "status"], stdout=full, stderr=subprocess.PIPE,
                                  text=True, timeout=bound(60), check=False)
        self.assertEqual(done.returncode, ERROR)
        self.assertIn("cannot write", done.stderr)


class Options(CtlCase):
    def test_global_options_before_and_after_the_command(self):
        self.d.fill(KEY)
        path = ["--socket", self.d.socket]
        for args in (["--json", *path, "get", KEY], ["get", "--json", *path, KEY], ["get", KEY, *path, "--json"],
                     ["--json", "get", KEY, f"--socket={self.d.socket}", "--timeout-ms", "5000"]):
            done = run(*args)
            self.assertEqual(done.returncode, DONE, done.stderr)
            self.assertEqual(json.loads(done.stdout)["key"], KEY)
        # The last one counts; an error in front of --json is for a program all the same.
        self.assertEqual(run("--socket", "/nowhere", "ping", *path).returncode, DONE)
        self.assertEqual(json.loads(run("get", "--nonsense", "--json").stdout)["status"], "usage")

    def test_the_socket_from_the_environment(self):
        environment = dict(os.environ, ETAGD_SOCKET=self.d.socket)
        for name in ("ping", "token"):
            self.assertEqual(run(name, environment=environment).returncode, DONE)
            self.assertEqual(run(name, "--socket", "/nowhere", environment=environment).returncode, ERROR)

    def test_what_follows_two_dashes_is_no_option(self):
        self.assertIn("--json", run("--socket", self.d.socket, "get", "--", "--json").stderr)


class Bounds(CtlCase):
    """A daemon that is stopped, and none at all."""

    def test_a_stopped_daemon(self):
        self.d.fill(KEY)
        self.d.signal(signal.SIGSTOP)
        for name, args in COMMANDS.items():
            with self.subTest(name=name):
                began = time.monotonic()
                done = run("--json", "--socket", self.d.socket, "--timeout-ms", "150", name, *args)
                took = time.monotonic() - began
                if name == "invalidate":
                    self.assertIn("recorded in the spool", self.assert_error(done, "pending")["error"])
                else:
                    said = self.assert_error(done, "unavailable")
                    self.assertIn("no hello from the daemon", said["error"])
                    self.assertIn("not stopped", said["error"])
                self.assertGreater(took, 0.14)
                self.assertLess(took, bound(2))
        self.d.signal(signal.SIGCONT)
        self.assertEqual(self.d.ctl_raw("ping").returncode, DONE)

    def test_no_daemon(self):
        self.d.kill()
        empty = os.path.join(self.directory, "empty")
        os.mkdir(empty)
        for path in (self.d.socket, os.path.join(empty, "nothing")):
            for name, args in COMMANDS.items():
                if name == "invalidate" and path == self.d.socket:
                    continue  # the spool beside it takes that: test_guard_ctl.py
                with self.subTest(name=name, path=path):
                    said = self.assert_error(run("--json", "--socket", path, name, *args), "unavailable")
                    self.assertIn(path, said["error"])
                    self.assertIn("is etagd running", said["error"])
                    self.assertIn("--socket", said["error"])

    def test_a_socket_path_that_is_too_long(self):
        for name, args in COMMANDS.items():
            with self.subTest(name=name):
                self.assert_error(run("--json", "--socket", "/" + "x" * 200, name, *args), "invalid")

    def test_ping_waits_for_a_daemon(self):
        self.d.kill()
        self.assertEqual(self.d.ctl_raw("ping", timeout_ms=100).returncode, ERROR)
        waiting = subprocess.Popen([ETAGCTL, "--socket", self.d.socket, "--timeout-ms", str(int(bound(20000))),
                                    "--json", "ping", "--wait"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(waiting.stdout.close)
        self.d.start()
        self.assertEqual(json.loads(waiting.communicate(timeout=bound(30))[0])["lease_ms"], 500)
        self.assertEqual(waiting.returncode, DONE)
        self.d.kill()
        began = time.monotonic()
        self.assertEqual(run("--socket", self.d.socket, "--timeout-ms", "200", "ping", "--wait").returncode, ERROR)
        self.assertGreater(time.monotonic() - began, 0.19)

    def test_watch_ends_with_the_daemon(self):
        watch = subprocess.Popen([ETAGCTL, "--socket", self.d.socket, "watch"], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True)
        self.addCleanup(watch.stderr.close)
        self.assertIn("watching", watch.stderr.readline())
        self.d.kill()
        self.assertIn("etagctl watch: ", watch.stderr.readline())
        self.assertEqual(watch.wait(bound(20)), ERROR)


class Lists(CtlCase):
    COUNT = 1500  # more than a page of the daemon's

    def test_pages(self):
        subprocess.run([os.path.join(SYSTEM, "fill_many"), self.d.socket, str(self.COUNT)], timeout=bound(60),
                       check=True)
        self.d.ctl("sync")
        keys = [f"/many/{i:05}" for i in range(self.COUNT)]
        said = self.d.ctl("list")
        self.assertEqual([entry["key"] for entry in said["entries"]], keys)
        self.assertEqual((said["count"], said["complete"]), (self.COUNT, True))
        self.assertEqual({entry["state"] for entry in said["entries"]}, {"valid"})
        for limit in (0, 1, 999, 1000, 1001, 1499, 1500, 1501):
            said = self.d.ctl("list", "--limit", str(limit))
            self.assertEqual([entry["key"] for entry in said["entries"]], keys[:limit], limit)
        said = self.d.ctl("list", "--prefix", "/many/010")
        self.assertEqual([entry["key"] for entry in said["entries"]], keys[1000:1100])
        lines = self.plain("list").splitlines()
        self.assertEqual(len(lines), 1 + self.COUNT)
        self.assertRegex(lines[0], r"^STATE +ETAG +SCOPE +KEY$")
        self.assertRegex(lines[-1], r'^valid +"1499" +public +/many/01499$')

    def test_a_reader_that_closes_early(self):
        self.d.fill(KEY)
        listing = subprocess.Popen([ETAGCTL, "--socket", self.d.socket, "list"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        listing.stdout.close()
        said = listing.stderr.read()
        listing.stderr.close()
        self.assertIn(listing.wait(bound(20)), (-signal.SIGPIPE, DONE))
        self.assertEqual(said, "")


class Human(CtlCase):
    def fill_ordinary_keys(self):
        """What the uploads example fills, with a host in front of some."""
        for name, number in (("upload", 42), ("claim-record", 1026), ("operator-judgment", 26)):
            self.d.fill(f"/api/v1/{name}s/{number}", f'"{name}-{number}-5801"', "--scope", "customer:7", "--surrogate",
                        f"{name}:{number}", "--surrogate", "customer:7", "--max-age-s", "600")
        self.d.fill(KEY, '"v1"', *SURROGATES)
        self.d.fill("//shop.example/api/v1/operator-judgments/26", '"v1"', "--surrogate", "operator-judgment:26")
        self.d.ctl("sync")

    def assert_fits(self, text):
        for line in text.splitlines():
            self.assertLessEqual(len(line), 80, line)

    def test_it_fits_in_80_columns(self):
        self.fill_ordinary_keys()
        self.assert_fits(self.plain("status"))
        self.assert_fits(self.plain("list", "--prefix", "/api/"))
        self.assert_fits(self.plain("list", "--prefix", "//shop.example/api/v1/uploads"))
        self.assert_fits(self.plain("ping"))
        keys = [entry["key"] for entry in self.d.ctl("list")["entries"]]
        self.assertEqual(len(keys), 5)
        for change in ([], ["invalidate", "--surrogate", "operator-judgment:26"],
                       ["invalidate", "--prefix", "/api/v1/"], ["invalidate", "--all"], ["pause"]):
            if change:
                self.d.ctl(*change)
            for key in keys:
                scope = ["--scope", "public" if key.startswith("//") else "customer:7"]
                self.assert_fits(self.plain("explain", key, *scope))
        self.assert_fits(self.plain("explain", "/nothing"))

    def test_explain_names_the_clock_and_the_event(self):
        self.fill_ordinary_keys()
        lsn = self.plain("invalidate", "--surrogate", "upload:42").strip()
        said = self.plain("explain", KEY)
        self.assertRegex(said, r"(?m)^state +stale: ")
        self.assertRegex(said, r"(?m)^because +clock \d+, that of surrogate upload:42, moved on")
        self.assertRegex(said, rf"(?m)^event +LSN {lsn} ")
        self.assertRegex(said, r"(?m)^ +- surrogate upload:42$")
        self.assertEqual(re.findall(r"(?m)^ newer > .*$", said)[0].split()[-1], "upload:42")

    def test_explain_names_the_schemes_that_are_known(self):
        self.d.fill(KEY, '"v1"', "--scheme", "https")
        self.d.ctl("sync")
        self.assertRegex(self.plain("explain", KEY, "--scheme", "https"), r"(?m)^scheme +https$")
        self.assertRegex(self.plain("explain", KEY, "--scheme", "http"), r"(?m)^near .*\n +- scope public, scheme https")

    def test_control_characters_are_escaped(self):
        evil = "a\x1b[31mred\x07\x7f\x9b"
        kept = "caf\u00e9\u202e"  # bytes that may be in a query and in an ETag, but are not for every terminal
        key = f"/menu?{kept}"
        self.d.fill(key, f'"{kept}"')
        self.d.ctl("sync")
        watch = subprocess.Popen([ETAGCTL, "--socket", self.d.socket, "watch"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        self.addCleanup(watch.stdout.close)
        self.addCleanup(watch.stderr.close)
        self.addCleanup(watch.wait)
        self.addCleanup(watch.kill)
        watch.stderr.readline()
        said = [self.plain("explain", key), self.plain("list"), self.plain("get", key)]
        self.d.ctl("invalidate", "--resource", key)
        said += [self.plain("explain", key), watch.stdout.readline()]
        said += [self.plain("get", "/" + evil, expect=ERROR), self.plain(evil, expect=ERROR),
                 self.plain("check", KEY, "--header", evil, expect=ERROR)]
        for text in said:
            self.assertTrue(all(c == "\n" or " " <= c <= "~" for c in text), repr(text))
            self.assertIn("\\x", text)
        # In JSON they are what they are, as ASCII.
        raw = self.d.ctl_raw("--json", "get", key).stdout
        self.assertTrue(raw.isascii())
        self.assertEqual((json.loads(raw)["key"], json.loads(raw)["etag"]), (key, f'"{kept}"'))


class Input(CtlCase):
    """invalidate --stdin."""

    def setUp(self):
        super().setUp()
        self.d.fill(KEY, '"v1"', *SURROGATES)

    def test_lines(self):
        said = self.d.ctl("invalidate", "--stdin", "--surrogate", "more",
                          text="surrogate a/b?c\n\nresource //shop.example/x?y=z\nprefix /p/\nsurrogate last")
        self.assertEqual((said["targets"], said["events"]), (5, 1))
        self.assertEqual(self.d.verdict(KEY), "not_modified")
        self.d.ctl("invalidate", "--stdin", text="all\n")
        self.assertEqual(self.d.verdict(KEY), "unknown")

    def test_thousands_of_lines_are_several_events(self):
        lines = [f"surrogate row:{i}" for i in range(10000)] + ["surrogate upload:42"]
        said = self.d.ctl("invalidate", "--stdin", text="\n".join(lines))
        self.assertEqual(said["targets"], len(lines))
        self.assertGreater(said["events"], 1)
        self.assertEqual(said["lsn"], self.d.status()["lsn"])
        self.assertEqual(self.d.check(KEY)["reason"], "stale")

    def test_nothing(self):
        said = self.d.ctl("invalidate", "--stdin", text="")
        self.assertEqual(said, {"lsn": None, "reach": None, "proof": "none", "targets": 0, "events": 0})

    def test_a_malformed_line_is_named_and_nothing_is_done(self):
        before = self.d.status()["lsn"]
        good = ["surrogate upload:42"] * 5000
        for line in ("surrogat x", "surrogate", "surrogate ", "all of it", "resource x", "resource /%zz",
                     "prefix /a b/", "surrogate a b", "surrogate a\x01b", "x" * 100, " surrogate a",
                     "surrogate a\0b"):
            with self.subTest(line=line):
                text = "\n".join(good + [line, "surrogate x", ""])
                done = self.d.ctl_raw("--json", "invalidate", "--stdin", text=text)
                said = self.assert_error(done, "usage")
                self.assertIn("line 5001:", said["error"])
        self.assertEqual(self.d.status()["lsn"], before)
        self.assertEqual(self.d.verdict(KEY), "not_modified")


if __name__ == "__main__":
    main()
