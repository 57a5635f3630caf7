# SPDX-License-Identifier: Apache-2.0
"""What upstreams did is told, whatever nginx sends in the place of their answers: it asks another one, it redirects, it shows a page of
its own. And what it could not read of an answer may have named anything."""
import os
import shutil
import socket
import socketserver
import threading

from nginx import PUBLIC, Document, NginxCase, exchange, main
from harness import bound, put_file, wait_until

PAGES = ("/a", "/b", "/c", "/w/x", "/dir/x")


class Answers(socketserver.ThreadingTCPServer):
    """An upstream that sends these bytes, whatever they are, to each request, and closes. It counts what it is asked."""
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self):
        self.said, self.asked = b"", 0
        answers = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                length = 0
                while (line := self.rfile.readline()).strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                self.rfile.read(length)
                answers.asked += 1
                self.wfile.write(answers.said)
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def end(self):
        self.shutdown()
        self.server_close()


class Attempts(NginxCase):
    """Pages /a, /b, /c depend on the names a, b, c."""

    SERVER = """
        location /accel/ { PUBLIC proxy_pass $ORIGIN; }
        location /static/ { internal; alias $DIR/; }
        location /redirected/ { PUBLIC proxy_intercept_errors on; error_page 302 = @other; error_page 303 = /static/page; proxy_pass $ORIGIN; }
        location /followed/ { PUBLIC proxy_intercept_errors on; error_page 302 = @dies; proxy_pass $ORIGIN; }
        location @dies { proxy_pass http://127.0.0.1:$RAW; }
        location @other { rewrite ^ /other break; proxy_pass $ORIGIN; }
        location /intercepted/ { PUBLIC proxy_intercept_errors on; error_page 422 /static/page; error_page 409 = @other; proxy_pass $ORIGIN; }
        location /replaced/ { PUBLIC proxy_intercept_errors on; error_page 422 = /static/page; proxy_pass $ORIGIN; }
        location /dies/ { PUBLIC error_page 502 = @other; proxy_pass http://127.0.0.1:$RAW; }
        location /dies-and-ok/ { PUBLIC error_page 502 =200 /static/page; proxy_pass http://127.0.0.1:$RAW; }
        location /next/ { PUBLIC proxy_next_upstream error timeout invalid_header http_503 http_404 non_idempotent;
                          proxy_next_upstream_tries 2; proxy_pass http://pair; }
        location /refused/ { PUBLIC proxy_pass http://127.0.0.1:1; }
        location /small/ { PUBLIC proxy_buffer_size 4k; proxy_pass $ORIGIN; }
        location /large/ { PUBLIC proxy_buffer_size 32k; proxy_buffers 8 32k; proxy_pass $ORIGIN; }
        location /raw/ { PUBLIC proxy_pass http://127.0.0.1:$RAW; }
        location /moved/ { PUBLIC proxy_intercept_errors on; error_page 302 = @other; proxy_redirect /internal/ /; proxy_pass $ORIGIN; }
    """.replace("PUBLIC", PUBLIC)

    def setUp(self):
        super().setUp()
        self.raw = Answers()
        self.addCleanup(self.raw.end)
        self.d = self.started(lease_ms=self.LEASE_MS)
        origin = self.with_origin()
        raw = str(self.raw.server_address[1])
        pair = f"upstream pair {{ server 127.0.0.1:{raw} max_fails=0; server 127.0.0.1:{origin.port} backup max_fails=0; }}"
        self.n = self.front(server=self.SERVER.replace("$RAW", raw), http=pair).start(self.port)
        put_file(os.path.join(self.n.directory, "page"), "page")
        self.warm_up()
        for path in PAGES:
            origin.documents[path] = Document('"v1"', fields=[("Surrogate-Key", path[1:])])

    def write(self, method, path, *lines):
        return self.ask(method, path, *lines, body=b"x")

    def stale_after(self, method, path, *lines, status=None):
        """The pages that are no hits any more."""
        for page in PAGES:
            self.get(page)
        self.sync()
        for page in PAGES:
            self.assertHit(page, '"v1"')
        answer = self.write(method, path, *lines)
        if status:
            self.assertEqual(answer.status, status)
        if status and status >= 500:
            self.sync()  # an error promises nothing, and does not wait for the daemon
        return {page for page in PAGES if not self.is_hit(page, '"v1"')}

    def target_and(self, method, path, *stale, **options):
        """A page of the target's own is stale too."""
        self.origin.documents[path] = Document('"v1"')
        self.get(path)
        self.sync()
        self.assertEqual(self.stale_after(method, path, **options), set(stale))
        self.assertNoHit(path, '"v1"')
        self.assertEqual(self.logged()[0], "STALE")

    def says(self, path, status, *names, **fields):
        lines = [("Etag-Cache-Invalidate", f"surrogate={name}") for name in names]
        self.origin.writes[path] = (status, lines + [(name.replace("_", "-"), value) for name, value in fields.items()], b"said")

    # ---- Another answer is sent ----

    def test_an_accel_redirect_to_another_upstream(self):
        """Its fields were forgotten with the upstream that named them."""
        self.origin.documents["/other/page"] = Document('"o"')
        self.says("/accel/x", 200, "a", X_Accel_Redirect="/other/page", Content_Location="/b")
        self.assertEqual(self.stale_after("POST", "/accel/x", status=200), {"/a", "/b"})

    def test_an_accel_redirect_of_a_collection_that_is_removed(self):
        """nginx makes GET of the method."""
        self.says("/accel/", 200, X_Accel_Redirect="/static/page")
        self.origin.documents["/accel/below/x"] = Document('"v1"')
        self.get("/accel/below/x")
        self.sync()
        self.assertHit("/accel/below/x", '"v1"')
        self.assertEqual(self.write("DELETE", "/accel/").status, 200)
        self.assertNoHit("/accel/below/x", '"v1"')

    def test_a_redirect_that_is_followed(self):
        """error_page 302 = @other. What comes of it decided alone."""
        for status in (200, 404):
            with self.subTest(status=status):
                self.says("/redirected/x", 302, "a", Location="/b")
                self.says("/other", status, "c")
                self.assertEqual(self.stale_after("POST", "/redirected/x", status=status), {"/a", "/b", "/c"})
        self.says("/redirected/y", 303, "a", Location="/b")
        self.assertEqual(self.stale_after("POST", "/redirected/y", status=200), {"/a", "/b"})

    def test_a_location_that_is_followed_is_the_clients(self):
        """proxy_redirect writes it for an answer that is sent."""
        self.says("/moved/x", 302, Location="/internal/b")
        self.says("/other", 404)
        self.assertEqual(self.stale_after("POST", "/moved/x", status=404), {"/b"})

    def test_names_of_an_intercepted_error(self):
        self.says("/intercepted/x", 422, "a")
        self.assertEqual(self.stale_after("POST", "/intercepted/x", status=422), {"/a"})
        self.says("/intercepted/y", 409, "a")
        self.says("/other", 200, "b")
        self.assertEqual(self.stale_after("POST", "/intercepted/y", status=200), {"/a", "/b"})

    def test_an_error_that_is_shown_as_a_page_changed_nothing(self):
        self.origin.documents["/replaced/x"] = Document('"v1"')
        self.get("/replaced/x")
        self.sync()
        self.says("/replaced/x", 422)
        self.assertEqual(self.stale_after("POST", "/replaced/x", status=200), set())
        self.assertHit("/replaced/x", '"v1"')

    def test_names_of_a_safe_method_that_is_redirected(self):
        self.origin.documents["/accel/get"] = Document(None, fields=[("X-Accel-Redirect", "/c"), ("Etag-Cache-Invalidate", "surrogate=a")])
        self.assertEqual(self.stale_after("GET", "/accel/get"), {"/a"})

    # ---- Several upstreams ----

    def fill_through(self, path):
        """The raw upstream gives a page."""
        self.raw.said = b'HTTP/1.1 200 OK\r\nETag: "r"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
        self.get(path)
        self.sync()
        self.assertTrue(self.raw_hit(path))

    def raw_hit(self, path):
        before = self.raw.asked
        return self.get(path, 'If-None-Match: "r"').status == 304 and self.raw.asked == before

    def test_an_upstream_that_dies_after_its_commit(self):
        """The backup's word was the only one that counted."""
        for path, status in (("/dies/x", 404), ("/dies/y", 200), ("/dies-and-ok/x", 200), ("/next/x", 409)):
            with self.subTest(path=path, status=status):
                self.fill_through(path)
                self.raw.said = b""
                self.says("/other", status, "c")
                self.says("/next/x", status, "c")
                stale = self.stale_after("PUT", path, status=status)
                self.assertEqual(stale, set() if path == "/dies-and-ok/x" else {"/c"})
                self.assertFalse(self.raw_hit(path))
                self.assertEqual(self.logged()[0], "STALE")

    def test_names_of_an_upstream_whose_error_another_one_is_asked_for(self):
        self.raw.said = b"HTTP/1.1 503 No\r\nEtag-Cache-Invalidate: surrogate=a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        self.says("/next/x", 409, "b")
        for method in ("PUT", "POST"):
            self.assertEqual(self.stale_after(method, "/next/x", status=409), {"/a", "/b"})

    def test_what_cannot_be_confirmed(self):
        """A change beats what is unknown, whichever came last. Of what is unknown only an error may be sent."""
        self.d.kill()
        shutil.rmtree(os.path.join(self.directory, "spool"))
        self.says("/followed/x", 302)
        self.says("/other", 502)
        for path, status, text in (("/followed/x", 500, b"The request was carried out"), ("/dies-and-ok/x", 500, b"The request may have been"),
                                   ("/dies/x", 502, b"said")):
            with self.subTest(path=path):
                answer = self.write("POST", path)
                self.assertEqual((answer.status, answer.body[:len(text)]), (status, text))

    def test_a_write_that_reached_no_upstream_changed_nothing(self):
        before = self.d.status()["mutations"]
        self.assertEqual(self.write("PUT", "/refused/x").status, 502)
        self.sync()
        self.assertEqual(self.d.status()["mutations"], before)

    def test_the_client_goes_away_while_the_next_upstream_is_asked(self):
        entered, go = self.origin.gate("/other")
        for page in PAGES:
            self.get(page)
        self.sync()
        self.says("/redirected/x", 302, "a", Location="/b")
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"POST /redirected/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
            entered.wait(bound(20))
        for page in ("/a", "/b"):
            wait_until(lambda page=page: not self.is_hit(page, '"v1"') and self.logged()[0] == "STALE", 10, "it is told")
        go.set()
        self.assertHit("/c", '"v1"')

    # ---- Fields that can't be read ----

    def test_more_names_than_the_buffer_holds(self):
        """The upstream did it and said so; nginx answered 502, and only the target was told."""
        names = [f"page:{i:020}" for i in range(200)] + ["a"]
        self.says("/small/x", 200, *names)
        self.says("/large/x", 200, *names)
        self.assertEqual(self.stale_after("POST", "/small/x", status=502), set(PAGES))
        self.assertIn("too big header", self.n.log())
        self.assertIn("the header fields of the upstream's answer cannot be read: everything is invalidated", self.n.log())
        self.assertEqual(self.stale_after("POST", "/large/x", status=200), {"/a"})

    def write_raw(self, method, path):
        """What comes may be no answer at all."""
        before = len(self.n.lines())
        exchange(self.port, method, path, body=b"x")
        wait_until(lambda: len(self.n.lines()) > before, 5, "a line in the log")
        self.sync()  # where it became an error, nothing was promised, and the daemon not waited for

    def test_a_header_that_is_not_whole(self):
        """nginx passes garbage on as HTTP/0.9, and what follows a 1xx as its body."""
        self.write = self.write_raw
        for said in (b"HTTP/1.1 200 OK\r\nEtag-Cache-Inv", b"HTTP/1.1 200 OK\r\nbad\x00: 1\r\n\r\n", b"<html>garbage",
                     b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nEtag-Cache-Invalidate: surrogate=a\r\n\r\n"):
            with self.subTest(said=said):
                self.raw.said = said
                self.assertEqual(self.stale_after("POST", "/raw/x"), set(PAGES))

    def test_no_header_at_all_is_the_target(self):
        self.raw.said = b""
        self.assertEqual(self.stale_after("POST", "/raw/x", status=502), set())

    def test_a_page_that_cannot_be_read_invalidates_nothing(self):
        """Else whoever makes a safe request fail would empty the cache."""
        before = self.d.status()["mutations"]
        self.raw.said = b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000
        self.assertEqual(self.get("/raw/x").status, 502)
        self.sync()
        self.assertEqual(self.d.status()["mutations"], before)


if __name__ == "__main__":
    main()
