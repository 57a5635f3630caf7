# SPDX-License-Identifier: Apache-2.0
"""What a method takes along that is in a collection, through nginx: MOVE, COPY and DELETE, with and without etag_cache_collections."""
import socket

from nginx import PUBLIC, Document, NginxCase, main
from harness import bound, wait_until

PAGES = ("/dir/x/y", "/dir2", "/other/y", "/a/b/c/f", "/a/b/g")


class Collections(NginxCase):
    def prepare(self, rules=PUBLIC):
        self.started_front(rules=rules, location="""
            location /on/ { etag_cache_collections on; proxy_pass $ORIGIN; }
            location /waits/ { proxy_ignore_client_abort on; proxy_pass $ORIGIN; }""")
        self.pages = (*PAGES, "/on/dir/x")
        for page in self.pages:
            self.origin.documents[page] = Document('"v1"')

    def stale_after(self, method, path, *lines, status=201, fields=()):
        for page in self.pages:
            self.get(page)
        self.sync()
        for page in self.pages:
            self.assertHit(page, '"v1"')
        self.origin.writes[path] = (status, list(fields), b"")
        answer = self.ask(method, path, *lines, body=b"x")
        self.assertEqual(answer.status, status or 502)
        return [page for page in self.pages if not self.is_hit(page, '"v1"')]

    def test_which_method_reaches_what(self):
        self.prepare()
        to_other = ("Destination: /other",)
        for method, path, lines, stale in (
                ("MOVE", "/dir", to_other, ["/dir/x/y", "/other/y"]), ("COPY", "/dir?q", ("Destination: http://localhost/other?q",), ["/dir/x/y", "/other/y"]),
                ("MOVE", "/dir/", ("Destination: /other/",), ["/dir/x/y", "/other/y"]), ("MOVE", "/dir", ("Destination: http://elsewhere/other",), ["/dir/x/y"]),
                ("DELETE", "/dir", (), []), ("DELETE", "/dir/", to_other, ["/dir/x/y"]), ("DELETE", "/dir?x=/", (), []),
                ("DELETE", "/on/dir", (), ["/on/dir/x"]), ("DELETE", "/on/dir?x", (), ["/on/dir/x"]), ("PUT", "/on/dir", (), []), ("PUT", "/dir/", to_other, []),
                # Four levels of a path have a clock: a deeper one reaches all below the fourth.
                ("DELETE", "/a/b/c/d/e/", (), ["/a/b/c/f"]), ("MOVE", "/a/b/c/d/file", ("Destination: /elsewhere",), ["/a/b/c/f"])):
            with self.subTest(method=method, path=path, lines=lines):
                self.assertEqual(self.stale_after(method, path, *lines), stale)

    def test_only_what_was_done(self):
        """A DELETE / without a login was answered 302, and made everything below / stale."""
        self.prepare()
        for method, lines in (("DELETE", ()), ("MOVE", ("Destination: /",))):
            for status in (302, 303, 401, 404, 500):
                with self.subTest(method=method, status=status):
                    self.assertEqual(self.stale_after(method, "/", *lines, status=status, fields=[("Location", "/login/")]), [])
            for status in (200, 204, 207):
                with self.subTest(method=method, status=status):
                    self.assertEqual(self.stale_after(method, "/", *lines, status=status), list(self.pages))

    def test_what_may_have_been_done(self):
        self.prepare()
        self.assertEqual(self.stale_after("DELETE", "/dir/", status=None), ["/dir/x/y"])

    def test_a_client_that_goes_away_before_it_is_refused(self):
        """The outcome is unknown, and then counts; where nginx waits for it, it is known."""
        self.prepare()
        for path, below, reached in (("/dir/", "/dir/x/y", True), ("/waits/dir/", "/waits/dir/x", False)):
            self.origin.documents[below] = Document('"v1"')
            self.get(below)
            self.sync()
            self.assertHit(below, '"v1"')
            self.origin.writes[path] = (302, [("Location", "/login")], b"")
            entered, go = self.origin.gate(path)
            before = len(self.n.lines())
            with socket.create_connection(("127.0.0.1", self.port)) as connection:
                connection.sendall(b"DELETE %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
                self.assertTrue(entered.wait(bound(20)))
            if reached:
                wait_until(lambda below=below: not self.is_hit(below, '"v1"') and self.logged()[0] == "STALE", 10, "it is invalidated")
            go.set()
            wait_until(lambda path=path, before=before: any(line.startswith(f"DELETE {path} ") for line in self.n.lines()[before:]), 10, "its end")
            if not reached:
                self.assertHit(below, '"v1"')

    def test_below_a_path_that_is_as_long_as_can_be(self):
        """With a '/' behind it there is no such path, which is no reason to invalidate everything."""
        self.prepare()
        self.assertEqual(self.stale_after("MOVE", "/" + "x" * 4095, "Destination: /other"), ["/other/y"])


if __name__ == "__main__":
    main()
