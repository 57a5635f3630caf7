# SPDX-License-Identifier: Apache-2.0
"""The nginx module in Debian's nginx, before real upstreams, with a real daemon: what is answered from shared memory, what is
not, what is stored, what a write through nginx does, and that everything else is as it was."""
import os
import socket
import time

from harness import Case, bound, main, wait_until
from nginx import Document, Load, Nginx, Origin, ask, exchange, free_ports, require_module, without_date

PUBLIC = "etag_cache on; etag_cache_scope public;"


class NginxCase(Case):
    LEASE_MS = 400

    def setUp(self):
        require_module(self)
        super().setUp()

    def nginx(self, http, name="nginx", **options):
        """An nginx with this http block, in which $PORT, $SOCKET and $DIR stand for what they say."""
        self.port = free_ports(1)[0]
        made = Nginx(os.path.join(self.directory, name), self.fill_in(http, name), **options)
        self.addCleanup(made.end)
        return made

    def fill_in(self, http, name="nginx"):
        text = http.replace("$PORT", str(self.port)).replace("$DIR", os.path.join(self.directory, name))
        if hasattr(self, "origin"):
            text = text.replace("$ORIGIN", f"http://127.0.0.1:{self.origin.port}")
        return text.replace("$SOCKET", os.path.join(self.directory, "etagd.sock"))

    def with_origin(self):
        self.origin = Origin()
        self.addCleanup(self.origin.end)
        return self.origin

    def front(self, location="", server="", http="", rules=PUBLIC, **options):
        """nginx before the origin: one location for everything."""
        return self.nginx(f"""
            etag_cache_socket $SOCKET;
            {http}
            server {{
                listen 127.0.0.1:$PORT;
                {server}
                location / {{ {rules} proxy_pass $ORIGIN; {location} }}
            }}""", **options)

    def started_front(self, *args, **options):
        self.d = self.started(lease_ms=self.LEASE_MS)
        self.with_origin()
        self.n = self.front(*args, **options).start(self.port)
        self.warm_up()
        return self.n

    def warm_up(self):
        """Until the workers have the daemon's memory."""
        wait_until(lambda: self.get("/-warm-up").status and not self.n.lines()[-1].split()[3] == "OFFLINE", 10, "a worker is online")

    def get(self, path, *lines, **options):
        return ask(self.port, "GET", path, *lines, **options)

    def logged(self):
        """Status, reason and LSN of the last request."""
        wait_until(lambda: os.path.exists(self.n.access) and self.n.lines(), 5, "a line in the log")
        words = self.n.lines()[-1].split()
        return words[3:6]

    def fill(self, path, *lines, status="MISS", **options):
        answer = self.get(path, *lines, **options)
        self.assertEqual(answer.status, 200)
        self.assertEqual(self.logged()[0], status)
        self.sync()
        return answer

    def sync(self):
        self.d.ctl("sync")

    def is_hit(self, path, etag, *lines, **options):
        before = self.origin.count()
        answer = self.get(path, f"If-None-Match: {etag}", *lines, **options)
        if self.origin.count() != before:
            return False
        self.assertEqual((answer.status, answer.body), (304, b""))
        self.assertEqual(self.logged()[0], "HIT")
        return True

    def assertHit(self, *args, **options):
        self.assertTrue(self.is_hit(*args, **options), self.logged())

    def assertNoHit(self, *args, **options):
        self.assertFalse(self.is_hit(*args, **options))


class Answers(NginxCase):
    def test_from_shared_memory(self):
        self.started_front()
        self.origin.documents["/a"] = Document('"v1"', fields=[("Cache-Control", "max-age=60"), ("X-Other", "1")])
        self.assertEqual(self.fill("/a").fields[b"x-other"], [b"1"])
        before = self.origin.count()
        answer = self.get("/a", 'If-None-Match: "v1"')
        self.assertEqual(answer.status, 304)
        self.assertEqual(answer.fields[b"etag"], [b'"v1"'])
        self.assertEqual(answer.fields[b"cache-control"], [b"max-age=60"])
        self.assertEqual((answer.fields[b"content-length"], answer.fields[b"content-type"], answer.body), ([], [], b""))
        self.assertEqual(self.logged()[:2], ["HIT", "match"])
        self.assertEqual(self.origin.count(), before)

    def test_another_version_goes_to_the_upstream(self):
        self.started_front()
        self.origin.documents["/a"] = Document('"v2"')
        self.fill("/a")
        self.assertEqual(self.get("/a", 'If-None-Match: "v1"').status, 200)
        self.assertEqual(self.logged()[:2], ["MISS", "no_match"])
        self.assertHit("/a", '"v2"')


if __name__ == "__main__":
    main()
