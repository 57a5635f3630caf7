# SPDX-License-Identifier: Apache-2.0
"""The tables of preconditions against a running server: every row that HTTP can express is asked of the uploads API, as the
bytes of the row, over a socket. Each row has files of its own, whose validators are the row's. A row is asked twice: of a
server that has to render, and of one whose rendering is in shared memory."""
import collections
import json
import os

import tables
from harness import Case, main
from uploads import FRESH, App, parse, seed

BODY = b"0123456789"
MORE = b"more"
SENT = {b"PUT": MORE, b"POST": MORE, b"PATCH": b""}
# What a file holds after the method was done; None: it is gone. Any other method leaves it.
DONE = {b"PUT": MORE, b"POST": BODY + MORE, b"DELETE": None}
# How many rows the server is asked, of each table: if it becomes fewer, something is left out in silence.
EXPRESSIBLE = {"preconditions.tsv": 153, "preconditions_rfc.tsv": 414}

class Row:
    """One line of a table."""

    def __init__(self, cells):
        self.id = cells["id"].decode()
        self.method = cells["method"]
        self.etag = self.validator(cells["current_etag"])
        date = self.validator(cells["current_last_modified"])
        self.date_is_strong = date.startswith(b"!")
        self.date = date.lstrip(b"!")
        lines = cells["request_headers"]
        # The tables say what a date means where it counts: alone, that is where two versions cannot share it.
        names = {line.split(b":")[0].lower() for line in lines.split(b" | ")}
        self.date_is_strong |= b"if-modified-since" in names and b"if-none-match" not in names
        self.lines = [] if lines == b"-" else [tables.unescape(line) for line in lines.split(b" | ")]
        self.expected = {int(status) for status in cells["expected_status"].split(b"/")}
        self.exists = cells["base_status"] == b"200"
        self.front = cells.get("front", b"any").decode()

    @staticmethod
    def validator(cell):
        return b"" if cell == b"-" else tables.unescape(cell)

    def expressible(self):
        """A field line cannot carry the bytes that end it."""
        return not any(set(line) & set(b"\r\n\0") for line in self.lines)

    def is_read(self):
        return self.method in (b"GET", b"HEAD")


class Table(Case):
    def setUp(self):
        super().setUp()
        seed(os.path.join(self.directory, "db"))
        self.d = self.started(lease_ms=1000)
        self.app = App(self.directory, self.d.socket, "app")
        self.addCleanup(lambda: self.assertEqual(self.app.end(), 0))

    def ask(self, method, path, lines=(), body=None):
        return parse(self.app.exchange(method, path, lines, body))

    def make(self, row, path):
        """The file as the row wants it. False: its validators are none that a server could have."""
        if not row.exists:
            return True
        lines = [b"X-File-ETag: " + row.etag, b"X-File-Last-Modified: " + row.date,
                 b"X-File-Last-Modified-Strong: %d" % row.date_is_strong]
        status = self.ask(b"PUT", path, lines, BODY).status
        self.assertIn(status, (201, 422))
        return status == 201

    def counted(self, row, path):
        before = self.app.counters()
        answer = self.ask(row.method, path, row.lines, SENT.get(row.method))
        after = self.app.counters()
        return answer, {name: after[name] - before[name] for name in after}

    def check_answer(self, row, answer):
        status = 200 if answer.status == 204 else answer.status
        self.assertIn(status, row.expected)
        current = [row.etag] if row.etag and row.exists else []
        if status == 304:
            self.assertEqual(answer.fields[b"etag"], current)
            self.assertEqual(answer.fields[b"cache-control"], [FRESH.encode()])
            self.assertEqual((answer.fields[b"content-type"], answer.body), ([], b""))
        if status == 412:
            self.assertEqual(answer.fields[b"etag"], current)
        if status == 206:
            self.assertEqual(answer.fields[b"content-range"], [b"bytes 0-1/%d" % len(BODY)])
            self.assertEqual((answer.fields[b"etag"], answer.body), (current, BODY[:2]))
        if status == 200 and row.is_read():
            self.assertEqual(answer.fields[b"etag"], current)
            self.assertEqual(answer.fields[b"last-modified"], [row.date] if row.date else [])
            self.assertEqual(answer.body, BODY if row.method == b"GET" else b"")

    def check_effect(self, row, path, answer):
        """Was done what was answered, and nothing else?"""
        if row.is_read():
            return
        held = BODY if row.exists else None
        if answer.status in (200, 201, 204):
            held = DONE.get(row.method, held)
        now = self.ask(b"GET", path)
        self.assertEqual((now.status, now.body if held is not None else None), (404 if held is None else 200, held))

    def rendered(self, row, path):
        answer, grown = self.counted(row, path)
        self.check_answer(row, answer)
        self.check_effect(row, path, answer)
        self.assertEqual(grown["not_modified_cached"], 0)
        self.count[str(answer.status)] += 1

    def cached(self, row, path):
        """The file was rendered, and what a 304 repeats of it is in shared memory."""
        answer, grown = self.counted(row, path)
        self.check_answer(row, answer)
        self.check_effect(row, path, answer)
        # Only what has an entity tag is kept in shared memory.
        from_memory = answer.status == 304 and bool(row.etag)
        self.assertEqual(grown["not_modified_cached"], int(from_memory))
        if from_memory:
            self.assertEqual(grown["renders"], 0)
            self.count["304_from_memory"] += 1
        if row.front in ("304", "origin"):
            self.assertEqual(from_memory, row.front == "304")

    def table(self, name):
        every = [Row(cells) for cells in tables.rows(name)]
        self.count = collections.Counter(rows=len(every))
        asked = []
        for row in every:
            cold, warm = (f"/api/v1/files/{kind}-{row.id}" for kind in ("cold", "warm"))
            if row.expressible() and self.make(row, cold) and self.make(row, warm):
                asked.append((row, cold, warm))
        for row, cold, _ in asked:
            with self.subTest(row=row.id, lines=row.lines):
                self.rendered(row, cold)
        for row, _, warm in asked:
            self.assertEqual(self.ask(b"GET", warm).status, 200 if row.exists else 404)
        self.d.ctl("sync")
        for row, _, warm in asked:
            with self.subTest(row=row.id, lines=row.lines, cached=True):
                self.cached(row, warm)
        left_out = [row.id for row in every if row.id not in {row.id for row, _, _ in asked}]
        print(json.dumps({"table": name, "asked": len(asked), **self.count, "left_out": left_out}))
        self.assertEqual(len(asked), EXPRESSIBLE[name])

    def test_what_servers_were_tested_for(self):
        self.table("preconditions.tsv")

    def test_a_weak_date_alone_is_no_304(self):
        """Version 1 and version 2 may be of one second. The RFC has a SHOULD here (section 13.1.3)."""
        row = next(Row(cells) for cells in tables.rows("preconditions.tsv") if cells["id"] == b"B001")
        self.assertEqual((row.expected, row.date_is_strong), ({304}, True))
        row.date_is_strong, row.etag, path = False, b'"v2"', "/api/v1/files/weak"
        self.make(row, path)
        for _ in ("rendered", "cached"):
            self.assertEqual(self.ask(b"GET", path, row.lines).status, 200)
            self.d.ctl("sync")

    def test_what_the_rfc_demands(self):
        self.table("preconditions_rfc.tsv")


if __name__ == "__main__":
    main()
