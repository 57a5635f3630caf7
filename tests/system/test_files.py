# SPDX-License-Identifier: Apache-2.0
"""The files of the uploads API, through two processes: what they are sent with, parts of them, and changes that say which
version they are of. Their conditions are in test_preconditions."""
import base64
import hashlib
import os

from harness import Case, main
from uploads import FRESH, NOT_STORED, App, parse, seed

PATH = "/api/v1/files/report.csv"
BODY = b"payer,billed\nAetna,100\n"
DATE = b"Wed, 25 Jun 2014 17:12:18 GMT"


def hash_of(body):
    """The tag that etag_hash() makes."""
    return b'"' + base64.urlsafe_b64encode(hashlib.sha256(body).digest()[:16]).rstrip(b"=") + b'"'


class FilesCase(Case):
    ARGS = ()

    def setUp(self):
        super().setUp()
        seed(os.path.join(self.directory, "db"))
        self.d = self.started(lease_ms=500)
        self.a, self.b = (App(self.directory, self.d.socket, name, *self.ARGS) for name in "ab")
        for app in (self.a, self.b):
            self.addCleanup(lambda app=app: self.assertEqual(app.end(), 0))

    def ask(self, app, method, *lines, body=None, path=PATH, **options):
        return parse(app.exchange(method, path, lines, body, **options))

    def put(self, app, body=BODY, *lines, status=201):
        answer = self.ask(app, b"PUT", *lines, body=body)
        self.assertEqual(answer.status, status)
        return answer

    def assert_file(self, app, body, etag, date=None):
        answer = self.ask(app, b"GET")
        self.assertEqual((answer.status, answer.body), (200, body))
        self.assertEqual(answer.fields[b"etag"], [etag] if etag else [])
        self.assertEqual(answer.fields[b"last-modified"], [date] if date else [])
        self.assertEqual(answer.fields[b"cache-control"], [FRESH.encode()])

    def assert_refused(self, answer, status):
        self.assertEqual(answer.status, status, answer)
        self.assertEqual(answer.fields[b"cache-control"], [NOT_STORED.encode()])


class Names(FilesCase):
    """Surrogate keys as a response's fields have them: the application passes its fields on, libetag finds the names."""

    def stale_by(self, names, *changed):
        self.ask(self.a, b"PUT", b"X-File-Surrogate-Key: " + names, body=BODY)
        condition = b"If-None-Match: " + hash_of(BODY)
        for name in changed:
            with self.subTest(names=names[:60], name=name[:60]):
                self.assertEqual(self.ask(self.b, b"GET").fields[b"surrogate-key"], [names])
                self.d.ctl("sync")
                before = self.a.counters()["not_modified_cached"]
                self.assertEqual(self.ask(self.a, b"GET", condition).status, 304)
                self.assertEqual(self.a.counters()["not_modified_cached"], before + 1)
                self.d.ctl("invalidate", "--surrogate", name)
                renders = self.a.counters()["renders"]
                self.assertEqual(self.ask(self.a, b"GET", condition).status, 304)  # by the response's own tag
                self.assertEqual(self.a.counters()["renders"], renders + 1)

    def test_lists_with_blanks_and_with_commas(self):
        self.stale_by(b"payer:1 payer:2", "payer:2", "file:7:report.csv")
        self.stale_by(b"payer:1, payer:2", "payer:1", "payer:2")
        self.stale_by(b"payer:1,payer:2", "payer:2", "payer:1,payer:2")

    def test_names_that_are_long_or_not_ascii(self):
        self.stale_by("payer:Krankenkasse-Süd".encode(), "payer:Krankenkasse-Süd")
        self.stale_by(b"x" * 300 + b" y", "x" * 300, "y")

    def test_more_than_128_names(self):
        self.stale_by(b" ".join(b"payer:%d" % i for i in range(180)), "payer:0", "payer:179")


class Writing(FilesCase):
    def test_what_one_wrote_the_other_never_confirms_an_older_version_of(self):
        changes = ((b"PUT", b"other bytes", b"other bytes", 200), (b"POST", b" and more", b"other bytes and more", 200),
                   (b"DELETE", None, None, 204), (b"PUT", BODY, BODY, 201))
        self.put(self.a)
        held = BODY
        for method, sent, then, status in changes:
            with self.subTest(method=method, then=then):
                if held is not None:
                    for app in (self.a, self.b):
                        self.assert_file(app, held, hash_of(held))
                    self.d.ctl("sync")
                    condition = b"If-None-Match: " + hash_of(held)
                    for app in (self.a, self.b):
                        before = app.counters()["not_modified_cached"]
                        self.assertEqual(self.ask(app, b"GET", condition).status, 304)
                        self.assertEqual(app.counters()["not_modified_cached"], before + 1)
                self.assertEqual(self.ask(self.a, method, body=sent).status, status)
                for app in (self.b, self.a):
                    answer = self.ask(app, b"GET", condition)
                    self.assertEqual((answer.status, answer.body if then else None), (200 if then else 404, then))
                held = then

    def test_a_written_file_says_its_validators(self):
        answer = self.put(self.a)
        self.assertEqual((answer.fields[b"etag"], answer.fields[b"last-modified"]), ([hash_of(BODY)], []))
        answer = self.put(self.b, BODY, b'X-File-ETag: W/"7"', b"X-File-Last-Modified: Wednesday, 25-Jun-14 17:12:18 GMT",
                          status=200)
        self.assertEqual((answer.fields[b"etag"], answer.fields[b"last-modified"]), ([b'W/"7"'], [DATE]))
        self.assert_file(self.a, BODY, b'W/"7"', DATE)

    def test_patch_changes_only_what_a_file_is_sent_with(self):
        self.put(self.a, BODY, b'X-File-ETag: "7"', b"X-File-Last-Modified: " + DATE)
        for lines, etag, date in (((), b'"7"', DATE), ((b'X-File-ETag: "8"',), b'"8"', DATE),
                                  ((b"X-File-Last-Modified:",), b'"8"', None), ((b"X-File-ETag:",), None, None)):
            with self.subTest(lines=lines):
                self.assertEqual(self.ask(self.b, b"PATCH", *lines, body=b"").status, 200)
                self.assert_file(self.a, BODY, etag, date)

    def test_a_file_without_validators_is_always_sent(self):
        self.put(self.a, BODY, b"X-File-ETag:")
        self.assert_file(self.b, BODY, None)
        for line in (b"If-None-Match: " + hash_of(BODY), b"If-Modified-Since: Fri, 01 Jan 2021 00:00:00 GMT"):
            self.assertEqual(self.ask(self.a, b"GET", line).status, 200)

    def test_bad_writes_change_nothing_and_say_why(self):
        self.put(self.a)
        tomorrow = b"X-File-Last-Modified: Fri, 31 Dec 9999 23:59:59 GMT"
        for method, lines, body, status, word in (
                (b"PUT", [b"X-File-ETag: v1"], b"x", 422, b"quote it"), (b"PUT", [b'X-File-ETag: "a" "b"'], b"x", 422, b"quote it"),
                (b"PUT", [b'X-File-ETag: "' + 255 * b"x" + b'"'], b"x", 422, b"entity tag"),
                (b"PUT", [b"X-File-Last-Modified: yesterday"], b"x", 422, b"HTTP-date"), (b"PUT", [tomorrow], b"x", 422, b"is over"),
                (b"PATCH", [], b"x", 422, b"no bytes"), (b"POST", [], 65536 * b"x", 422, b"too large"),
                (b"PUT", [], 65537 * b"x", 413, b"too large")):
            with self.subTest(method=method, lines=lines, word=word):
                answer = self.ask(self.b, method, *lines, body=body)
                self.assert_refused(answer, status)
                self.assertIn(word, answer.body)
        self.assert_file(self.a, BODY, hash_of(BODY))

    def test_only_names_that_are_names(self):
        for name in ("", "a/b", "a%20b", 33 * "x", "x?page=1"):
            answer = self.ask(self.a, b"GET", path="/api/v1/files/" + name)
            self.assert_refused(answer, 400 if "?" in name else 404)
        for name in (32 * "x", "._-", "..."):
            self.assertEqual(self.ask(self.a, b"PUT", path="/api/v1/files/" + name, body=BODY).status, 201)

    def test_files_are_of_a_customer(self):
        self.put(self.a)
        for method in (b"GET", b"HEAD", b"DELETE", b"POST", b"PATCH"):
            answer = self.ask(self.b, method, b"If-None-Match: *", body=b"" if method != b"GET" else None,
                              token="demo-customer-8")
            self.assert_refused(answer, 404)
        self.assert_refused(self.ask(self.b, b"PUT", body=b"x", token="demo-reader-7"), 403)
        self.assertEqual(self.ask(self.b, b"PUT", b"If-None-Match: *", body=b"theirs", token="demo-customer-8").status, 201)
        self.assert_file(self.b, BODY, hash_of(BODY))

    def test_methods(self):
        self.put(self.a)
        answer = self.ask(self.a, b"OPTIONS", token="nobody")
        self.assertEqual((answer.status, answer.fields[b"allow"]), (204, [b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"]))
        for method, status in ((b"TRACE", 405), (b"QUERY", 405), (b"FOO", 501), (b"get", 501), (b"GE", 501)):
            self.assert_refused(self.ask(self.a, method), status)


class Parts(FilesCase):
    def test_parts(self):
        self.put(self.a)
        size = len(BODY)
        for value, first, end in (
                (b"bytes=0-0", 0, 1), (b"bytes=0-4", 0, 5), (b"bytes=6-", 6, size), (b"bytes=-4", size - 4, size),
                (b"bytes=-999", 0, size), (b"bytes=3-99999999999999999999999", 3, size), (b"BYTES=1-1", 1, 2),
                (b"bytes=%d-%d" % (size - 1, size - 1), size - 1, size)):
            with self.subTest(value=value):
                answer = self.ask(self.b, b"GET", b"Range: " + value)
                self.assertEqual((answer.status, answer.body), (206, BODY[first:end]))
                self.assertEqual(answer.fields[b"content-range"], [b"bytes %d-%d/%d" % (first, end - 1, size)])
                self.assertEqual(answer.fields[b"etag"], [hash_of(BODY)])

    def test_parts_that_there_are_not(self):
        self.put(self.a)
        for value in (b"bytes=%d-" % len(BODY), b"bytes=999-1000", b"bytes=-0", b"bytes=99999999999999999999999-"):
            with self.subTest(value=value):
                answer = self.ask(self.b, b"GET", b"Range: " + value)
                self.assert_refused(answer, 416)
                self.assertEqual(answer.fields[b"content-range"], [b"bytes */%d" % len(BODY)])

    def test_what_is_no_part_is_ignored(self):
        self.put(self.a)
        for lines in ([b"Range: bytes=4-2"], [b"Range: bytes=0-1,3-4"], [b"Range: bytes=-"], [b"Range: bytes=a-b"],
                      [b"Range: bytes=0 -1"], [b"Range: rows=0-1"], [b"Range: bytes=--1"], [b"Range:"],
                      [b"Range: bytes=0-1", b"Range: bytes=2-3"], [b"Range: bytes=0-1", b'If-Range: "other"']):
            with self.subTest(lines=lines):
                answer = self.ask(self.b, b"GET", *lines)
                self.assertEqual((answer.status, answer.body, answer.fields[b"content-range"]), (200, BODY, []))
        head = self.ask(self.b, b"HEAD", b"Range: bytes=0-1")
        self.assertEqual((head.status, head.fields[b"content-length"]), (200, [b"%d" % len(BODY)]))

    def test_a_part_of_nothing(self):
        self.put(self.a, b"")
        self.assertEqual(self.ask(self.b, b"GET").status, 200)
        self.assertEqual(self.ask(self.b, b"GET", b"Range: bytes=0-").status, 416)


class Required(FilesCase):
    """--require-if-match: a change says which version it is of."""

    ARGS = ("--require-if-match",)

    def test_428(self):
        self.assert_refused(self.ask(self.a, b"PUT", body=BODY), 428)
        self.put(self.a, BODY, b"If-None-Match: *")
        for method, body in ((b"PUT", b"x"), (b"POST", b"x"), (b"PATCH", b""), (b"DELETE", None)):
            for lines in ([], [b'If-None-Match: "x"'], [b"If-Unmodified-Since: " + DATE]):
                with self.subTest(method=method, lines=lines):
                    answer = self.ask(self.b, method, *lines, body=body)
                    self.assert_refused(answer, 428)
                    self.assertIn(b"If-Match", answer.body)
        self.assert_file(self.a, BODY, hash_of(BODY))
        self.put(self.b, b"new", b"If-Match: " + hash_of(BODY), status=200)
        self.assert_refused(self.ask(self.a, b"DELETE", b"If-Match: " + hash_of(BODY)), 412)
        self.assertEqual(self.ask(self.a, b"DELETE", b"If-Match: " + hash_of(b"new")).status, 204)


if __name__ == "__main__":
    main()
