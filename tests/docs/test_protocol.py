# SPDX-License-Identifier: Apache-2.0
"""docs/protocol.md says enough: a client that was written from it alone and libetag (as etagctl) understand each other."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))

import harness  # noqa: E402
import protocol_client as wire  # noqa: E402
import tables  # noqa: E402

GOLDEN_KEY = bytes(range(16))
PAGE = wire.Key(b"Example.org:443", b"/a/%63?x=1")
PAGE_TEXT = "//example.org/a/c?x=1"


class Names(harness.Case):
    def key(self, row):
        absent = {name: row[name] == b"-" for name in ("host", "scope", "release", "scheme", "vary")}
        value = {name: tables.unescape(row[name]) for name in ("host", "target", "release", "scheme")}
        kind, _, scope = row["scope"].partition(b":")
        if kind == b"unset":
            raise wire.BadName("no scope")
        vary = []
        for field in [] if absent["vary"] else row["vary"].split(b" | "):
            name, colon, text = tables.unescape(field).partition(b":")
            vary.append((name, text.removeprefix(b" ") if colon else None))
        return wire.Key(b"" if absent["host"] else value["host"], value["target"],
                        tables.unescape(scope) if kind == b"named" else None, b"" if absent["release"] else value["release"], vary,
                        b"" if absent["scheme"] else value["scheme"])

    def test_every_row_of_the_table_of_keys(self):
        seen, golden = {}, 0
        for row in tables.rows("keys.tsv"):
            name = row["id"].decode()
            try:
                key = self.key(row)
            except wire.BadName:
                self.assertEqual(row["key"], b"error", name)
                continue
            self.assertNotEqual(row["key"], b"error", name)
            text = (b"//" if key.host or key.target[:2] == b"//" else b"") + key.host + key.target
            self.assertEqual(text, tables.unescape(row["resource"]), name)
            if row["key"] != b"-":
                self.assertEqual(seen.setdefault(row["key"], key.canonical()), key.canonical(), name)
            if row["fingerprint"] != b"-":
                golden += 1
                low, high = wire.fingerprint(GOLDEN_KEY, key)
                self.assertEqual((low.to_bytes(8, "little") + high.to_bytes(8, "little")).hex(), row["fingerprint"].decode(), name)
        self.assertGreater(golden, 3)
        self.assertEqual(len(set(seen.values())), len(seen))


class Wire(harness.Case):
    def setUp(self):
        super().setUp()
        self.etagd = self.started()
        self.client = wire.Client(self.etagd.socket)
        self.addCleanup(self.client.close)
        self.index = self.client.index

    def reason(self, key=PAGE):
        return self.index.look_up(key)[0]

    def filled(self, **what):
        self.assertEqual(self.client.fill(self.index.token(), PAGE, b'"v1"', **what), 0)

    def test_hello(self):
        self.assertEqual((self.client.roles, self.client.lease_ns), (31, self.etagd.lease_ms * 10**6))
        self.assertIsNotNone(self.index)
        self.assertNotEqual(self.client.spool_id, 0)

    def test_a_front_end_answers_what_this_client_filled_until_it_invalidates(self):
        self.assertEqual(self.reason(), "no_entry")
        token = self.index.token()
        self.filled(surrogates=[b"upload:42"], fields=[(b"Cache-Control", b"max-age=60")])
        self.assertEqual(self.etagd.verdict(PAGE_TEXT), "not_modified")
        reason, entry = self.index.look_up(PAGE)
        self.assertEqual((reason, entry["etag"], entry["fields"]), ("valid", b'"v1"', [(b"Cache-Control", b"max-age=60")]))
        lsn = self.client.invalidate(wire.targets(surrogates=[b"upload:42"]))
        self.assertEqual(self.index.word(2112), lsn)
        self.assertEqual(self.reason(), "stale")
        self.assertEqual(self.etagd.verdict(PAGE_TEXT), "unknown")
        self.assertEqual(self.client.fill(token, PAGE, b'"v1"', surrogates=[b"upload:42"]), 40)

    def test_names_that_are_hashed_and_groups_are_those_of_libetag(self):
        many = [b"k%d" % i for i in range(200)]
        for names, changed in ((["caf\u00e9".encode()], "caf\u00e9"), ([b"x" * 300], "x" * 300), (many, "k199")):
            with self.subTest(changed[:10]):
                self.filled(surrogates=wire.surrogates_of(names))
                self.assertEqual(self.reason(), "valid")
                self.etagd.ctl("invalidate", "--surrogate", changed)
                self.assertEqual(self.reason(), "stale")
                said = [word for name in names for word in ("--surrogate", name.decode())]
                self.etagd.fill(PAGE_TEXT, '"v1"', *said)
                self.assertEqual(self.reason(), "valid")
                clocks = {wire.clock_of(self.index.hash_key, self.index.clock_count, b"s", name) for name in wire.surrogates_of(names)}
                clocks |= wire.family_clocks(self.index.hash_key, self.index.clock_count, wire.surrogates_of(names))
                self.assertLessEqual(clocks, set(self.index.look_up(PAGE)[1]["clocks"]))
                self.client.invalidate(wire.targets(surrogates=[wire.surrogate_name(changed.encode())]))
                self.assertEqual(self.reason(), "stale")

    def test_this_client_reads_whatever_fits_into_an_entry(self):
        names = [f"s:{i}" for i in range(40)]
        etag, location = f'W/"{"x" * 200}"', "/" + "y" * 900
        self.etagd.fill("//example.org/a/c?x=1", etag, *(word for name in names for word in ("--surrogate", name)),
                        "--header", f"Content-Location: {location}", "--header", "Vary: Accept",
                        "--header", "Date: Wed, 01 Jan 2025 00:00:00 GMT", "--header", "Expires: Wed, 01 Jan 2025 00:01:30 GMT",
                        "--header", "Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT", "--scope", "customer:7", "--release", "r1",
                        "--vary", "Accept: text/html", "--max-age-s", "600")
        key = wire.Key(b"example.org", b"/a/c?x=1", b"customer:7", b"r1", [(b"ACCEPT", b"text/html")])
        reason, entry = self.index.look_up(key)
        self.assertEqual(reason, "valid")
        self.assertEqual((entry["etag"].decode(), entry["content_location"].decode()), (etag, location))
        self.assertEqual(sorted(entry["fields"]), [(b"Expires", 90), (b"Vary", b"Accept")])
        self.assertEqual(entry["last_modified"], 1735689600)
        self.assertLess(entry["expires_ns"] - wire.coarse_ns(), 601 * 10**9)
        self.assertEqual(self.reason(), "no_entry")
        clocks = {wire.clock_of(self.index.hash_key, self.index.clock_count, b"s", name.encode()) for name in names}
        clocks |= wire.family_clocks(self.index.hash_key, self.index.clock_count, [name.encode() for name in names])
        clocks |= {wire.clock_of(self.index.hash_key, self.index.clock_count, b"p", b"example.org", prefix)
                   for prefix in (b"/", b"/a/")}
        clocks.add(wire.clock_of(self.index.hash_key, self.index.clock_count, b"r", b"example.org", b"/a/c?x=1"))
        self.assertEqual(set(entry["clocks"]), clocks | {0})
        for named in (wire.targets(prefixes=[(b"example.org", b"/a/b")]), wire.targets(everything=True)):
            self.client.invalidate(named)
            self.assertEqual(self.index.look_up(key)[0], "stale")

    def test_families(self):
        many = [f"f{i}:1" for i in range(17)]
        for names, family, then in ((["upload:42"], "upload", "stale"), (["upload:a:b"], "upload", "stale"), (["upload"], "upload", "stale"),
                                    (["upload,:42"], "upload", "stale"), (["uploads:42", "x@upload"], "upload", "valid"),
                                    (["caf\u00e9:1"], "upload", "stale"), ([":42"], "upload", "stale"), (many, "upload", "stale"),
                                    (many[:16], "upload", "valid"), (many[:16], "f15", "stale"), (["*", "upload:*"], "*", "stale")):
            with self.subTest(names=names, family=family):
                names = [wire.surrogate_name(name.encode()) for name in names]
                self.filled(surrogates=names)
                clocks = set(self.index.look_up(PAGE)[1]["clocks"])
                self.assertLessEqual(wire.family_clocks(self.index.hash_key, self.index.clock_count, names), clocks)
                token = self.index.token()
                self.client.invalidate(wire.targets(families=[family.encode()]))
                self.assertEqual(self.reason(), then)
                self.assertEqual(self.client.fill(token, PAGE, b'"v1"', surrogates=names), 40 if then == "stale" else 0)
        for bad in (b"", b":", b":*", b"a b"):
            with self.assertRaises(wire.Refused):
                self.client.invalidate(wire.targets(families=[bad]))

    def test_expiry(self):
        self.filled(max_age_ms=1)
        harness.wait_until(lambda: self.reason() == "expired", 5, "its end")

    def test_a_guard(self):
        self.filled()
        guard, named = wire.guard_id(), wire.targets(resources=[(b"example.org", b"/a/c?x=1")], max_ms=60000)
        for step, then in ((14, "in_flux"), (15, "in_flux"), (16, "stale")):
            self.client.guard(step, guard, named)
            self.assertEqual(self.reason(), then)
        self.filled()
        another = wire.guard_id()
        for step, then in ((14, "in_flux"), (17, "valid")):
            self.client.guard(step, another, named)
            self.assertEqual(self.reason(), then)

    def test_errors(self):
        for kind, body, code in ((4, wire.targets(), 5), (4, wire.targets(surrogates=[b"a b"]), 5), (99, b"", 5), (4, b"\xff", 1)):
            with self.assertRaises(wire.Refused) as caught:
                self.client.call(kind, body, 4)
            self.assertEqual(caught.exception.code, code)
        with self.assertRaises(ConnectionError):
            self.client.receive()

    def test_a_stopped_daemon_is_believed_for_one_lease_only(self):
        self.filled()
        self.assertEqual(self.reason(), "valid")
        self.etagd.signal(signal.SIGSTOP)
        harness.wait_until(lambda: self.reason() == "no_lease", 5, "the lease's end")

    def test_the_spool(self):
        other = wire.Key(b"example.org", b"/other")
        self.filled(surrogates=[b"upload:42"])
        self.assertEqual(self.client.fill(self.index.token(), other, b'"o"'), 0)
        self.etagd.ctl("sync")
        self.etagd.kill()
        begun = wire.coarse_ns()
        wire.spool(self.etagd.socket, wire.data(4, wire.targets(surrogates=[b"upload:42"])))
        self.assertGreaterEqual(wire.coarse_ns() - begun, self.etagd.lease_ms * 10**6)
        self.assertEqual(self.reason(), "no_lease")
        self.etagd.start()
        client = wire.Client(self.etagd.socket)
        self.addCleanup(client.close)
        harness.wait_until(lambda: client.index.look_up(other)[0] == "valid", 5, "the entries of the former run")
        self.assertIn(client.index.look_up(PAGE)[0], ("stale", "no_entry"))  # stale entries need not be loaded
        self.assertEqual(self.etagd.status()["spool_applied"], 1)


if __name__ == "__main__":
    harness.main()
