# SPDX-License-Identifier: Apache-2.0
"""What a later answer does to the entry of its key, through a real nginx: it is filled again, removed, or left alone."""
import os
import time

from nginx import PUBLIC, Document, Load, NginxCase, ask, main
from harness import bound, put_file

MISSING = int(os.environ.get("ETAG_TEST_MISSING", "2000"))  # 300000: the long form
ANSWERS = int(os.environ.get("ETAG_TEST_ANSWERS", "2000"))  # 10000: the long form


class RefillCase(NginxCase):
    def messages(self):
        """What the daemon was sent about entries, all of it."""
        status = self.d.status()
        return sum(number for name, number in status.items()
                   if name.startswith(("fills_", "retires")) and isinstance(number, int))

    def stored(self, path):
        return len(self.entries(f"//localhost{path}"))

    def rendered(self, path, status=200, *lines):
        """An answer of the upstream; what it sent is done."""
        before = self.origin.count(path)
        answer = self.get(path, *lines)
        self.assertEqual((answer.status, self.origin.count(path)), (status, before + 1))
        self.sync()
        return answer


class Refill(RefillCase):
    def test_a_304_repeats_the_fields_of_the_last_200(self):
        """It went on with max-age=86400."""
        self.started_front()
        for control in ("max-age=86400", "max-age=0"):
            self.origin.documents["/a"] = Document('"v1"', fields=[("Cache-Control", control)])
            self.rendered("/a")
            self.assertEqual(self.get("/a", 'If-None-Match: "v1"').fields[b"cache-control"], [control.encode()])
            self.assertEqual(self.logged()[0], "HIT")

    def test_a_surrogate_key_that_came_later_reaches_the_entry(self):
        """The invalidation said OK, and the page went on as 304."""
        self.started_front()
        for keys in ("home", "home post:1"):
            self.origin.documents["/a"] = Document('"v1"', fields=[("Surrogate-Key", keys)])
            self.rendered("/a")
            self.assertHit("/a", '"v1"')
        self.d.ctl("invalidate", "--surrogate", "post:1")
        self.assertNoHit("/a", '"v1"')
        self.assertEqual(self.logged()[0], "STALE")

    def test_fewer_surrogate_keys_are_covered(self):
        self.started_front()
        self.origin.documents["/a"] = Document('"v1"', fields=[("Surrogate-Key", "a b c")])
        self.rendered("/a")
        before = self.messages()
        self.origin.documents["/a"] = Document('"v1"', fields=[("Surrogate-Key", "c a")])
        self.rendered("/a")
        self.assertEqual(self.messages(), before)

    def test_a_last_modified_that_changes_reaches_the_entry(self):
        self.started_front(server="etag_cache_last_modified strong;")
        for day in ("Tue, 01 Jul 2025", "Wed, 02 Jul 2025"):
            self.origin.documents["/a"] = Document('"v1"', fields=[("Last-Modified", f"{day} 10:00:00 GMT")])
            self.rendered("/a")
            answer = self.get("/a", f"If-Modified-Since: {day} 10:00:00 GMT")
            self.assertEqual((answer.status, self.logged()[0]), (304, "HIT"))

    def test_a_page_that_is_asked_for_does_not_expire(self):
        """Its time to live is renewed when half of it is over, not before."""
        self.started_front(location="etag_cache_max_age 100s; location = /short { %s etag_cache_max_age 3s; proxy_pass $ORIGIN; }" % PUBLIC)
        self.origin.documents["/a"] = self.origin.documents["/short"] = Document('"v1"')
        self.rendered("/a")
        before = self.messages()
        self.rendered("/a")
        self.assertEqual(self.messages(), before)
        asked, gap = time.monotonic(), 0
        self.rendered("/short")
        before = self.messages()
        while self.messages() == before:
            self.rendered("/short")
            gap, asked = max(gap, time.monotonic() - asked), time.monotonic()
        if gap < 1:  # else this machine slept through the second half
            self.assertEqual(self.logged()[:2], ["MISS", "no_condition"])  # the entry was known, and current

    def test_changing_fields_cost_two_messages_a_second(self):
        self.LEASE_MS = 3000  # blind for want of a lease, it would fill for each answer
        self.started_front(location="etag_cache_repeated_fields Server-Timing;")
        before, began = self.messages(), time.monotonic()
        for i in range(ANSWERS):
            self.origin.documents["/a"] = Document('"v1"', fields=[("Server-Timing", f"app;dur={i}")])
            answer = ask(self.port, "GET", "/a")
            self.assertEqual(answer.status, 200)
        self.sync()
        # A first fill, and two for each second that was begun.
        self.assertLessEqual(self.messages() - before, 1 + 2 * (int(time.monotonic() - began) + 1))
        self.assertGreater(self.messages() - before, 1)
        # What the entry says, if there is one, is what was answered last.
        answer = self.get("/a", 'If-None-Match: "v1"')
        if self.logged()[0] == "HIT":
            self.assertEqual(answer.fields[b"server-timing"], [f"app;dur={ANSWERS - 1}".encode()])


class Retire(RefillCase):
    def filled(self, path, **options):
        self.origin.documents[path] = Document('"v1"', conditions=False, **options)
        self.rendered(path)
        self.assertHit(path, '"v1"')

    def test_answers_that_say_that_it_is_gone(self):
        self.started_front()
        for status in (404, 410, 301, 308):
            with self.subTest(status=status):
                path = f"/{status}"
                self.filled(path)
                self.origin.documents[path] = Document(status=status, fields=[("Location", "/elsewhere")] if status < 400 else [])
                self.rendered(path, status)
                self.assertEqual(self.stored(path), 0)
                self.assertNoHit(path, '"v1"')

    def test_answers_that_say_nothing_about_it(self):
        self.started_front()
        for status in (401, 403, 302, 303, 307, 500, 502, 503, 429):
            with self.subTest(status=status):
                path = f"/{status}"
                self.filled(path)
                self.origin.documents[path] = Document(status=status, fields=[("Location", "/login")] if status < 400 else [])
                self.rendered(path, status)
                self.assertHit(path, '"v1"')

    def test_what_error_page_says_of_the_upstreams_error_says_nothing_about_it(self):
        """A failure for a moment became a 301 to the page that says sorry, and the entry went."""
        self.started_front(location="proxy_intercept_errors on; error_page 500 =301 http://sorry.example/;")
        self.filled("/a")
        self.origin.documents["/a"] = Document(status=500)
        self.rendered("/a", 301)
        self.assertHit("/a", '"v1"')

    def test_a_200_that_must_not_be_stored(self):
        self.started_front()
        cases = (("no-store", '"v1"', [("Cache-Control", "no-store")], True),
                 ("private", '"v1"', [("Cache-Control", "private")], True),
                 ("vary", '"v1"', [("Vary", "Accept-Language")], True),
                 ("cookie", '"v1"', [("Set-Cookie", "a=b")], False),
                 ("cookie-other", '"v2"', [("Set-Cookie", "a=b")], True),
                 ("no-tag", None, [], True))
        for name, etag, fields, retires in cases:
            with self.subTest(name=name):
                path = f"/{name}"
                self.filled(path)
                self.origin.documents[path] = Document(etag, fields=fields, conditions=False)
                self.rendered(path)
                self.assertEqual(self.logged()[0], "REFUSED")
                self.assertEqual(self.is_hit(path, '"v1"'), not retires)

    def test_requests_that_say_nothing_about_it(self):
        """HEAD, a part, a bypass, somebody else's page, an answer that is not to be stored."""
        self.started_front(location="etag_cache_bypass $http_x_fresh; etag_cache_no_store $http_x_secret;")
        self.filled("/a")
        self.origin.documents["/a"] = Document(status=404)
        self.assertEqual(self.ask("HEAD", "/a").status, 404)
        for line in ("Range: bytes=0-1", "X-Fresh: 1", "X-Secret: 1", "Cookie: session=1", "Authorization: Bearer x"):
            with self.subTest(line=line):
                self.rendered("/a", 404, line)
                self.assertEqual(self.stored("/a"), 1)
        self.rendered("/a", 404)
        self.assertEqual(self.stored("/a"), 0)

    def test_not_from_nginx_own_cache(self):
        self.started_front(http="proxy_cache_path $DIR/cache keys_zone=z:1m;", location="proxy_cache z; proxy_cache_valid 404 1h;")
        self.origin.documents["/a"] = Document(status=404)
        self.rendered("/a", 404)
        self.d.fill("//localhost/a", '"v1"', "--vary", "Accept-Encoding")
        self.assertEqual(self.get("/a").status, 404)  # from nginx' cache: it is older than the entry
        self.sync()
        self.assertEqual(self.stored("/a"), 1)

    def test_a_file_that_was_removed(self):
        self.started_front(location="location /files/ { alias $DIR/files/; }")
        directory = os.path.join(self.n.directory, "files")
        os.makedirs(directory)
        os.chmod(directory, 0o755)
        put_file(os.path.join(directory, "a"), "text")
        etag = self.get("/files/a").fields[b"etag"][0].decode()
        self.sync()
        self.assertHit("/files/a", etag)
        os.remove(os.path.join(directory, "a"))
        self.assertEqual(self.get("/files/a").status, 404)
        self.sync()
        self.assertEqual(self.get("/files/a", f"If-None-Match: {etag}").status, 404)

    def test_it_is_gone_after_a_restart(self):
        self.started_front()
        self.filled("/a")
        self.filled("/b")
        self.origin.documents["/a"] = Document(status=404)
        self.rendered("/a", 404)
        self.d.restart()
        self.assertEqual((self.stored("/a"), self.stored("/b")), (0, 1))

    def test_a_slow_404_removes_nothing_newer(self):
        self.started_front()
        self.filled("/a")
        self.origin.documents["/a"] = Document(status=404)
        entered, go = self.origin.gate("/a")
        load = Load(1, lambda _: ask(self.port, "GET", "/a"))
        self.assertTrue(entered.wait(bound(20)))
        load.stop.set()
        del self.origin.gates["/a"]
        self.d.ctl("invalidate", "--resource", "//localhost/a")
        self.filled("/a")
        go.set()
        self.assertEqual(load.end(), [])
        self.sync()
        self.assertHit("/a", '"v1"')

    def test_missing_urls_retire_nothing_and_log_nothing(self):
        self.started_front()
        before, log = self.messages(), len(self.d.lines)
        for i in range(MISSING):
            self.assertEqual(ask(self.port, "GET", f"/wp-login.php?{i}").status, 404)
        self.sync()
        self.assertEqual(self.messages(), before)
        self.assertEqual([line for line in self.d.lines[log:] if "event=huge_pages" not in line], [])
        self.assertEqual(self.d.status().get("clients.retires_sent", 0), 0)


if __name__ == "__main__":
    main()
