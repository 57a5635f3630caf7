# SPDX-License-Identifier: Apache-2.0
"""The 304 from memory, through nginx: which fields it has, which of them are said anew, and that a Range is no reason against it."""
from nginx import PUBLIC, Document, NginxCase, exchange, main, without_date
from uploads import parse


class Fields(NginxCase):
    ADDED = 'add_header X-Cache "$etag_cache_status, why"; add_header X-Always $etag_cache_status always; add_header X-Plain 1;'

    def test_the_status_is_evaluated_on_the_304(self):
        """As an extra header it said MISS for ever; else it was not there."""
        for number, extra in enumerate(("", "etag_cache_repeated_fields X-Cache X-Always;")):
            with self.subTest(extra=extra):
                if number:
                    self.n.end()
                    self.d.end()
                self.started_front(location=self.ADDED + extra)
                self.origin.documents["/a"] = Document('"v1"')
                self.assertEqual(self.fill("/a").fields[b"x-cache"], [b"MISS, why"])
                for lines in ((), ("Range: bytes=0-1",)):
                    answer = self.get("/a", 'If-None-Match: "v1"', *lines)
                    self.assertEqual((answer.status, self.logged()[0]), (304, "HIT"))
                    self.assertEqual([answer.fields[name] for name in (b"x-cache", b"x-always", b"x-plain")], [[b"HIT, why"], [b"HIT"], [b"1"]])

    def test_of_an_extra_header_the_upstreams_values_stay(self):
        self.started_front(location="add_header X-Cache $etag_cache_status; etag_cache_repeated_fields x-cache X-Other;")
        self.origin.documents["/a"] = Document('"v1"', fields=[("X-Cache", "one"), ("X-Other", "1"), ("X-Cache", "two"), ("X-Other", "2")])
        self.fill("/a")
        answer = self.get("/a", 'If-None-Match: "v1"')
        self.assertEqual((answer.status, answer.fields[b"x-cache"], answer.fields[b"x-other"]), (304, [b"one", b"two", b"HIT"], [b"1", b"2"]))

    def test_what_a_304_must_repeat_is_as_it_was_stored_and_once(self):
        """expires and add_header, on the 200 and again on the 304."""
        self.started_front(location="""
            expires 1h; add_header Cache-Control public; add_header Vary Accept-Encoding; add_header Content-Location /other; gzip on; gzip_types *;
            gzip_min_length 1; gzip_vary on;""")
        self.origin.documents["/a"] = Document('"v1"', body=b"x" * 1000, fields=[("Cache-Control", "no-transform"), ("Content-Type", "text/plain")])
        for accept in ("identity", "gzip"):
            rendered = self.fill("/a", f"Accept-Encoding: {accept}")
            answer = self.get("/a", 'If-None-Match: "v1"', f"Accept-Encoding: {accept}")
            self.assertEqual((answer.status, self.logged()[0]), (304, "HIT"))
            for name in (b"etag", b"cache-control", b"vary", b"content-location"):
                self.assertEqual(sorted(answer.fields[name]), sorted(rendered.fields[name]), name)
            self.assertEqual([len(answer.fields[name]) for name in (b"etag", b"expires", b"date", b"content-location")], [1, 1, 1, 1])

    def test_as_nginx_own_304(self):
        """Where the upstream says it, with what add_header and expires put on it."""
        self.started_front(location="add_header X-One 1; expires 1h; gzip on;",
                           server="location = /off { etag_cache off; add_header X-One 1; expires 1h; proxy_pass $ORIGIN; }")
        for path in ("/on", "/off"):
            self.origin.documents[path] = Document('"v1"')
        self.fill("/on")
        answers = [parse(without_date(exchange(self.port, "GET", path, ['If-None-Match: "v1"']))) for path in ("/on", "/off")]
        self.assertEqual([answer.status for answer in answers], [304, 304])
        self.assertEqual(self.origin.count("/on"), 1)
        self.assertEqual(dict(answers[0].fields), dict(answers[1].fields))


class Ranges(NginxCase):
    """RFC 9110 section 13.2.2: If-None-Match and If-Modified-Since are judged before Range and If-Range."""

    def test_a_version_that_the_client_has_is_a_304_whatever_part_it_asks_for(self):
        self.started_front(location="etag_cache_last_modified strong;")
        date = "Tue, 01 Jul 2025 10:00:00 GMT"
        self.origin.documents["/a"] = Document('"v1"', fields=[("Last-Modified", date)], conditions=False)
        self.fill("/a")
        part = "Range: bytes=0-1"
        for lines in ((part,), (part, 'If-Range: "v1"'), (part, 'If-Range: "v0"'), ("Range: nonsense",)):
            self.assertHit("/a", '"v1"', *lines)
            self.assertHit("/a", "*", *lines)
        before = self.origin.count()
        self.assertEqual((self.get("/a", f"If-Modified-Since: {date}", part).status, self.origin.count()), (304, before))
        # All else is the content handler's, and changes nothing here.
        for lines in ((part,), (part, 'If-Range: "v1"'), (part, 'If-None-Match: "v0"'), (part, 'If-None-Match: "v1"', 'If-Match: "v0"'),
                      (part, "If-Modified-Since: Tue, 01 Jul 2024 10:00:00 GMT")):
            with self.subTest(lines=lines):
                self.assertNotEqual(self.get("/a", *lines).status, 304)
                self.assertEqual(self.logged()[:2], ["BYPASS", "range"])

    def test_an_answer_to_a_part_neither_fills_nor_removes(self):
        self.started_front()
        self.origin.documents["/a"] = Document('"v1"', conditions=False)
        self.fill("/a")
        before = self.d.status()
        for document in (Document('"v2"', conditions=False), None):
            self.origin.documents["/a"] = document
            self.get("/a", "Range: bytes=0-1", 'If-None-Match: "v0"')
            self.sync()
        self.assertHit("/a", '"v1"')
        after = self.d.status()
        self.assertEqual({name for name in before if name.startswith(("fills_", "retires")) and before[name] != after[name]}, set())


class Authorities(NginxCase):
    def test_of_an_absolute_form_the_host_that_the_recipes_pass_on(self):
        """$host is the request line's, as in the key; so what is stored under it was rendered for it."""
        self.started_front(location="proxy_set_header Host $host;", rules=PUBLIC)
        self.origin.documents["/a"] = Document('"v1"', conditions=False)
        self.fill("http://a.org/a", host="a.org")
        self.assertHit("/a", '"v1"', host="a.org")
        self.assertNoHit("http://a.org/a", '"v1"', host="b.org")
        self.assertEqual(self.logged()[:2], ["BYPASS", "authority"])


if __name__ == "__main__":
    main()
