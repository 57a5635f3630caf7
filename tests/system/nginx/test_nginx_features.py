# SPDX-License-Identifier: Apache-2.0
"""What nginx does besides: with the module off, without a daemon, with nothing stored and with everything stored, the answers are
those of an nginx without the module; and its access rules stand before every 304."""
import json
import os
import struct
import socketserver
import subprocess
import threading

from nginx import PUBLIC, Document, Nginx, NginxCase, exchange, free_ports, main, without_date
import test_preconditions as preconditions
import tables
from harness import Case, bound, put_file, wait_until
from uploads import App, parse, seed

THEN = 1_750_000_000

# One server with everything; $CACHE is what the module gets to say. The origin is another server, which has files.
EVERYTHING = """
    types { text/html html; text/plain txt; application/octet-stream bin; }
    proxy_cache_path $DIR/cache keys_zone=cache:1m;
    limit_req_zone $server_name zone=limit:1m rate=1r/m;
    server { listen 127.0.0.1:$ORIGIN_PORT; root $FILES; add_header Surrogate-Key all; }
    server {
        listen 127.0.0.1:$PORT;
        server_name localhost;
        root $FILES;
        $CACHE
        location / { }
        location /off/ { etag off; alias $FILES/; }
        location /gzip/ { gzip on; gzip_types *; gzip_min_length 1; gzip_vary on; alias $FILES/; }
        location /added/ { add_header X-Added 1 always; expires 1h; alias $FILES/; }
        location /basic/ { auth_basic here; auth_basic_user_file $FILES/users; alias $FILES/; }
        location /asked/ { auth_request /ask; alias $FILES/; }
        location = /ask { internal; if ($http_x_key = "") { return 401; } return 204; }
        location /limited/ { limit_req zone=limit; alias $FILES/; }
        location /denied/ { deny all; alias $FILES/; }
        location /rewritten/ { rewrite ^/rewritten/(.*) /$1 last; }
        location /moved/ { rewrite ^/moved/(.*) /$1 permanent; }
        location /returned/ { return 200 "returned"; }
        location /error/ { error_page 404 /page.html; alias $FILES/; }
        location /other/ { error_page 404 = @proxied; root $FILES/nowhere; }
        location /tried/ { try_files /nothing $uri /page.html; }
        location /named/ { try_files $uri @proxied; }
        location @proxied { rewrite ^/(other|named)/(.*) /$2 break; proxy_pass $ORIGIN_URL; }
        location /mirrored/ { mirror /mirror; alias $FILES/; }
        location = /mirror { internal; proxy_pass $ORIGIN_URL/mirror; }
        location /ssi/ { ssi on; alias $FILES/; }
        location /sub/ { sub_filter hello bye; sub_filter_once off; alias $FILES/; }
        location /proxied/ { proxy_pass $ORIGIN_URL/; }
        location /unbuffered/ { proxy_buffering off; proxy_pass $ORIGIN_URL/; }
        location /cached/ { proxy_cache cache; proxy_cache_valid 1h; proxy_pass $ORIGIN_URL/; add_header X-Cache $upstream_cache_status; }
        location /slice/ { slice 4k; proxy_cache cache; proxy_cache_key $uri$slice_range; proxy_set_header Range $slice_range;
                           proxy_http_version 1.1; proxy_cache_valid 1h; proxy_pass $ORIGIN_URL/; }
        location /dead/ { proxy_pass http://127.0.0.1:1; }
        location /dav/ { dav_methods PUT DELETE; create_full_put_path on; root $DIR; }
        location /accel/ { proxy_pass $ORIGIN_URL/; proxy_hide_header X-Accel-Redirect; }
    }
"""

FILES = {"page.html": b"<p>hello hello</p>\n", "a.txt": b"hello\n" * 100, "big.bin": bytes(range(256)) * 64,
         "ssi.html": b'<!--#include virtual="/a.txt" -->-<!--#include virtual="/proxied/page.html" -->\n', "sub/index.html": b"index\n",
         "users": b"me:{PLAIN}secret\n"}
ME = "Authorization: Basic bWU6c2VjcmV0"


class Everything(NginxCase):
    def setUp(self):
        super().setUp()
        self.files = os.path.join(self.directory, "files")
        for name, data in FILES.items():
            path = os.path.join(self.files, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            put_file(path, data)
            os.utime(path, (THEN, THEN))

    def server(self, name, cache, **options):
        port, origin = free_ports(2)
        directory = os.path.join(self.directory, name)
        text = EVERYTHING.replace("$ORIGIN_PORT", str(origin)).replace("$ORIGIN_URL", f"http://127.0.0.1:{origin}")
        text = text.replace("$CACHE", cache).replace("$FILES", self.files).replace("$PORT", str(port)).replace("$DIR", directory)
        made = Nginx(directory, text.replace("$SOCKET", os.path.join(self.directory, "etagd.sock")), **options)
        self.addCleanup(made.end)
        made.start(port)
        made.port = port
        return made

    def requests(self):
        """Method, path, lines, body."""
        etag = '"%x-%x"' % (THEN, len(FILES["a.txt"]))
        conditions = ((), (f"If-None-Match: {etag}",), (f"If-None-Match: W/{etag}", "Accept-Encoding: gzip"), ('If-None-Match: "no"',), ("If-None-Match: *",),
                      ("If-Modified-Since: Sun, 15 Jun 2025 15:06:40 GMT",), ("If-Modified-Since: Mon, 16 Jun 2025 15:06:40 GMT",),
                      (f"If-Match: {etag}",), ('If-Match: "no"',), ("If-Unmodified-Since: Sun, 15 Jun 2024 15:06:40 GMT",),
                      ("Range: bytes=2-5",), ("Range: bytes=2-5", f"If-Range: {etag}"), ("Range: bytes=2-5", f"If-None-Match: {etag}"),
                      ("Accept-Encoding: gzip",), (ME,), ("X-Key: 1",), ("Cookie: a=b",))
        for place in ("", "off/", "gzip/", "added/", "basic/", "asked/", "denied/", "rewritten/", "moved/", "returned/", "error/", "other/", "tried/", "named/",
                      "mirrored/", "sub/", "proxied/", "unbuffered/", "cached/", "dead/"):
            for lines in conditions:
                yield "GET", f"/{place}a.txt", lines, None
            yield "HEAD", f"/{place}a.txt", (), None
            yield "HEAD", f"/{place}a.txt", (f"If-None-Match: {etag}",), None
            yield "GET", f"/{place}missing", (), None
            yield "GET", f"/{place}sub/", (), None
            yield "GET", f"/{place}sub", (), None
            yield "POST", f"/{place}a.txt", (), b"x"
        for lines in ((), (f"If-None-Match: {etag}",), ("If-None-Match: *",)):
            yield "GET", "/ssi/ssi.html", lines, None
            yield "GET", "/limited/a.txt", lines, None
        for lines in ((), ("Range: bytes=5000-9000",), ("Range: bytes=5000-9000", 'If-Range: "no"'), ("Range: bytes=-1",), ("Range: bytes=99999-",)):
            yield "GET", "/slice/big.bin", lines, None
            yield "GET", "/big.bin", lines, None
        yield "PUT", "/dav/new", (), b"new"
        yield "PUT", "/dav/new", (), b"newer"
        yield "DELETE", "/dav/new", (), None
        yield "DELETE", "/dav/new", (), None
        yield "OPTIONS", "/a.txt", (), None
        yield "GET", "http://localhost/a.txt", (), None
        yield "GET", "/%61.txt?x=1", (f"If-None-Match: {etag}",), None
        yield "BREW", "/proxied/a.txt", (), b"x"
        yield "GET", "/a.txt", (f"If-None-Match: {etag}",), b"a body"

    def answers(self, server):
        """Of each request; without what differs by itself, the date and the port."""
        said = []
        for method, path, lines, body in self.requests():
            answer = without_date(exchange(server.port, method, path, lines, body=body))
            said.append(answer.replace(b":%d" % server.port, b":PORT"))
        return said

    def plain(self):
        return self.answers(self.server("plain", "", loaded=False))

    def assertSame(self, expected, got):
        for request, one, other in zip(self.requests(), expected, got):
            with self.subTest(request=request):
                self.assertEqual(one, other)

    CACHE = f"etag_cache_socket $SOCKET; {PUBLIC}"

    def test_off(self):
        self.assertSame(self.plain(), self.answers(self.server("off", "etag_cache off;")))

    def test_without_a_daemon(self):
        """All but writes that succeed, of which nobody could be told."""
        expected = self.plain()
        got = self.answers(self.server("no-daemon", self.CACHE))
        failed = 0
        for request, one, other in zip(self.requests(), expected, got):
            with self.subTest(request=request):
                if request[0] in ("POST", "PUT", "DELETE", "BREW") and parse(one).status < 400:
                    answer = parse(other)
                    self.assertEqual((answer.status, answer.fields[b"cache-control"]), (500, [b"no-store"]))
                    failed += 1
                else:
                    self.assertEqual(one, other)
        self.assertGreaterEqual(failed, 4)

    def test_without_a_daemon_where_writes_pass(self):
        """Writes are held until something is known of it; there is a spool only where a daemon made one."""
        rules = self.CACHE + " etag_cache_invalidate_failure pass; etag_cache_invalidate_timeout 50ms;"
        self.assertSame(self.plain(), self.answers(self.server("no-daemon", rules)))

    def test_with_nothing_stored(self):
        self.d = self.started(lease_ms=self.LEASE_MS)
        self.n = self.server("empty", self.CACHE + " etag_cache_no_store 1;")
        self.online()
        self.assertSame(self.plain(), self.answers(self.n))
        self.assertEqual(self.d.status()["entries"], 0)
        self.assertGreater(self.d.status()["mutations"], 0)

    def online(self):
        self.port = self.n.port
        wait_until(lambda: self.get("/a.txt").status and self.logged()[0] != "OFFLINE", 10, "the worker is online")

    def test_with_everything_stored(self):
        """Twice: the second time from memory, where there is a 304. It may leave fields out that a 304 need not repeat."""
        self.d = self.started(lease_ms=self.LEASE_MS)
        self.n = self.server("warm", self.CACHE)
        self.online()
        expected = self.plain()
        self.answers(self.n)
        self.d.ctl("sync")
        got = self.answers(self.n)
        hits = sum(1 for line in self.n.lines() if line.split()[3] == "HIT")
        self.assertGreater(hits, 30)
        for request, one, other in zip(self.requests(), expected, got):
            with self.subTest(request=request):
                self.compare(request, one, other)

    def compare(self, request, one, other):
        if request[1].startswith(("/limited/", "/dav/")):
            return  # their answers depend on what was asked before
        other, one = parse(other), parse(one)
        if request[1].startswith("/cached/") and {one.status, other.status} == {200}:
            self.assertEqual(one.body, other.body)
            return
        self.assertEqual((one.status, one.body), (other.status, other.body))
        self.assertEqual(self.tag(one), self.tag(other))
        if one.status != 304:
            for fields in (one.fields, other.fields):
                fields.pop(b"x-cache", None)
                fields.pop(b"expires", None)
            self.assertEqual(dict(one.fields), dict(other.fields))

    @staticmethod
    def tag(answer):
        return [tag.removeprefix(b"W/") for tag in answer.fields[b"etag"]]


class Access(NginxCase):
    """Who would not have got the 200 gets no 304 (RFC 9110 section 13.2.1)."""

    def prepare(self, location, server="", http="", rules=PUBLIC):
        self.started_front(location=location, server=server, http=http, rules=rules)
        self.origin.documents["/a"] = Document('"v1"')

    def test_addresses(self):
        self.prepare("if ($http_x_no) { set $no 1; } allow 127.0.0.1; deny all;", server="location /no/ { deny all; " + PUBLIC + " etag_cache_key //$arg_h/a; proxy_pass $ORIGIN; }")
        self.fill("/a")
        self.assertHit("/a", '"v1"')
        self.assertEqual(self.get("/no/", 'If-None-Match: "v1"').status, 403)

    def test_return_and_rewrite(self):
        self.prepare("if ($http_x_no) { return 410; } rewrite ^/alias$ /a break;")
        self.fill("/a")
        self.assertEqual(self.get("/a", 'If-None-Match: "v1"', "X-No: 1").status, 410)
        self.fill("/alias")
        self.assertHit("/alias", '"v1"')

    def test_auth_basic(self):
        self.prepare("auth_basic here; auth_basic_user_file $DIR/users;", rules='etag_cache on; etag_cache_scope "user:$remote_user"; etag_cache_authenticated $remote_user;')
        put_file(os.path.join(self.n.directory, "users"), FILES["users"])
        self.fill("/a", ME)
        self.assertHit("/a", '"v1"', ME)
        self.assertEqual(self.get("/a", 'If-None-Match: "v1"').status, 401)
        self.assertEqual(self.get("/a", 'If-None-Match: "v1"', "Authorization: Basic bWU6d3Jvbmc=").status, 401)

    def test_auth_request(self):
        """The multi-tenant recipe: who asks is decided for each request, also for those that are answered from memory."""
        self.prepare('auth_request /auth; auth_request_set $tenant $upstream_http_x_tenant;',
                     rules='etag_cache on; etag_cache_scope "tenant:$tenant"; etag_cache_authenticated $tenant;',
                     server="location = /auth { internal; etag_cache off; if ($http_x_key = '') { return 401; } proxy_pass $ORIGIN/auth/$http_x_key; }")
        for key, tenant in (("one", "7"), ("two", "7"), ("three", "8"), ("nobody", "")):
            self.origin.documents[f"/auth/{key}"] = Document(None, fields=[("X-Tenant", tenant)])
        self.fill("/a", "X-Key: one")
        before = self.origin.count("/a")
        for key in ("one", "two"):
            self.assertEqual(self.get("/a", 'If-None-Match: "v1"', f"X-Key: {key}").status, 304)
            self.assertEqual(self.logged()[0], "HIT")
        self.assertEqual(self.origin.count("/a"), before)
        self.assertEqual(self.get("/a", 'If-None-Match: "v1"').status, 401)
        self.get("/a", 'If-None-Match: "v1"', "X-Key: three")
        self.assertEqual((self.logged()[0], self.origin.count("/a")), ("MISS", before + 1))
        self.get("/a", 'If-None-Match: "v1"', "X-Key: nobody")
        self.assertEqual((self.logged()[:2], self.origin.count("/a")), (["BYPASS", "no_scope"], before + 2))
        del self.origin.documents["/auth/one"]  # its key is withdrawn
        self.assertEqual(self.get("/a", 'If-None-Match: "v1"', "X-Key: one").status, 500)

    def test_limit_req(self):
        self.prepare("limit_req zone=limit burst=1 nodelay;", http="limit_req_zone $http_x_client zone=limit:1m rate=1r/m;")
        self.fill("/a")
        statuses = [self.get("/a", 'If-None-Match: "v1"', "X-Client: 1").status for _ in range(4)]
        self.assertEqual(statuses, [304, 304, 503, 503])

    def test_try_files_goes_where_the_rules_are(self):
        """The rules of the location that answers count, not those of the one that was asked first."""
        self.prepare("try_files /nothing @second;", server="location @second { " + PUBLIC + " if ($http_x_no) { return 403; } proxy_pass $ORIGIN; }")
        self.fill("/a")
        self.assertHit("/a", '"v1"')
        self.assertEqual(self.get("/a", 'If-None-Match: "v1"', "X-No: 1").status, 403)

    def test_index_goes_where_the_rules_are(self):
        self.d = self.started(lease_ms=self.LEASE_MS)
        self.n = self.nginx("""etag_cache_socket $SOCKET; root $DIR; etag_cache on; etag_cache_scope public;
            server { listen 127.0.0.1:$PORT; location / { } location = /index.html { if ($http_x_no) { return 403; } } }""")
        put_file(os.path.join(self.n.directory, "index.html"), b"index")
        self.n.start(self.port)
        wait_until(lambda: self.get("/").status == 200 and self.logged()[0] != "OFFLINE", 10, "online")
        etag = self.get("/").fields[b"etag"][0].decode()
        self.sync()
        self.assertEqual((self.get("/", f"If-None-Match: {etag}").status, self.logged()[0]), (304, "HIT"))
        self.assertEqual(self.get("/", f"If-None-Match: {etag}", "X-No: 1").status, 403)

    def test_error_page_is_neither_answered_nor_stored(self):
        """What a handler redirects to is its decision of that moment."""
        self.prepare("proxy_intercept_errors on; error_page 404 = @second; error_page 500 /a;", server="location @second { " + PUBLIC + " proxy_pass $ORIGIN/a; rewrite ^ /a break; }".replace("$ORIGIN/a", "$ORIGIN"))
        for _ in range(2):
            answer = self.get("/missing", 'If-None-Match: "v0"')
            self.assertEqual((answer.status, answer.fields[b"etag"]), (200, [b'"v1"']))
            self.assertEqual(self.logged()[:2], ["BYPASS", "redirected"])
            self.sync()
        self.assertEqual(self.entries("//localhost/missing"), [])

    def test_error_page_of_the_same_location(self):
        self.prepare("proxy_intercept_errors on; error_page 404 = /a;")
        for _ in range(2):
            self.assertEqual(self.get("/missing").fields[b"etag"], [b'"v1"'])
            self.sync()
        self.assertEqual(self.entries("//localhost/"), [])

    def test_who_is_refused_gets_the_error_page_and_no_304(self):
        """A location that has the cache as well, and refuses nobody."""
        self.prepare("if ($http_x_no) { return 403; } error_page 403 = @sorry;",
                     server="location @sorry { " + PUBLIC + " rewrite ^ /b break; proxy_pass $ORIGIN; }")
        self.origin.documents["/b"] = Document('"sorry"', conditions=False)
        self.fill("/a")
        self.assertHit("/a", '"v1"')
        for etag in ('"v1"', '"v0"'):
            answer = self.get("/a", f"If-None-Match: {etag}", "X-No: 1")
            self.assertEqual((answer.status, answer.fields[b"etag"]), (200, [b'"sorry"']))
            self.assertEqual(self.logged()[:2], ["BYPASS", "redirected"])
        self.sync()
        self.assertHit("/a", '"v1"')

    def test_a_mirror_sees_what_memory_answers(self):
        self.prepare("mirror /mirror;", server="location = /mirror { internal; proxy_pass $ORIGIN/mirror$request_uri; }")
        self.fill("/a")
        before = self.origin.count("/a")
        self.assertEqual(self.get("/a", 'If-None-Match: "v1"').status, 304)
        self.assertEqual(self.origin.count("/a"), before)
        wait_until(lambda: self.origin.count("/mirror/a") == 2, 10, "the mirror has both")

    def test_a_mirrored_write_is_told_once(self):
        self.prepare("mirror /mirror;", server="location = /mirror { internal; " + PUBLIC + " proxy_pass $ORIGIN/mirror$request_uri; }")
        before = self.d.status()["mutations"]
        self.assertEqual(self.ask("PUT", "/a", body=b"new").status, 204)
        wait_until(lambda: self.origin.count("/mirror/a") == 1, 10, "the mirror has it")
        self.assertEqual(self.d.status()["mutations"], before + 1)

    def test_parts_of_a_page_are_left_alone(self):
        self.prepare("ssi on;")
        self.origin.documents["/page"] = Document('"p1"', b'[<!--#include virtual="/a" -->]', [("Content-Type", "text/html")], conditions=False)
        self.origin.documents["/a"].conditions = False
        self.fill("/a")
        self.assertEqual(self.get("/page", 'If-None-Match: "v1"', version="1.0").body, b"[hello\n]")
        self.assertEqual(self.logged()[:2], ["REFUSED", "no_validator"])  # nginx removes the tag of what it changes


class Deploys(NginxCase):
    def test_the_release_is_where_the_link_leads(self):
        """docs/nginx.md, "Static site with deploys"."""
        self.d = self.started(lease_ms=self.LEASE_MS)
        self.n = self.nginx(f"""etag_cache_socket $SOCKET;
            server {{ listen 127.0.0.1:$PORT; root $DIR/current; location / {{ {PUBLIC} etag_cache_release $realpath_root; }} }}""")
        for release, body in (("one", b"one"), ("two", b"other")):
            os.makedirs(os.path.join(self.n.directory, release))
            put_file(os.path.join(self.n.directory, release, "a.txt"), body)
        self.deploy("one")
        self.n.start(self.port)
        wait_until(lambda: self.get("/a.txt").status == 200 and self.logged()[0] != "OFFLINE", 10, "online")
        tags = {}
        for release in ("one", "two", "one", "two"):
            self.deploy(release)
            for old in tags.values():
                self.assertEqual(self.get("/a.txt", f"If-None-Match: {old}").status, 304 if old == tags.get(release) else 200)
            tags[release] = self.get("/a.txt").fields[b"etag"][0].decode()
            self.d.ctl("sync")
            self.assertEqual((self.get("/a.txt", f"If-None-Match: {tags[release]}").status, self.logged()[0]), (304, "HIT"))
        self.assertNotEqual(tags["one"], tags["two"])
        self.assertEqual({entry["release"] for entry in self.entries("//localhost/a.txt")},
                         {os.path.join(self.n.directory, release) for release in ("one", "two")})

    def deploy(self, release):
        following = os.path.join(self.n.directory, "next")
        os.symlink(os.path.join(self.n.directory, release), following)
        os.rename(following, os.path.join(self.n.directory, "current"))


class Protocols(NginxCase):
    def test_http_2(self):
        self.started_front(server="listen 127.0.0.1:$HTTP2 http2;")
        self.origin.documents["/a"] = Document('"v1"', fields=[("Cache-Control", "max-age=60")])
        url = f"http://127.0.0.1:{self.port2}/a"
        curl = ["curl", "-s", "-i", "--http2-prior-knowledge", "-H", "Host: localhost"]
        first = subprocess.run([*curl, url], capture_output=True, timeout=bound(20), check=True).stdout
        self.assertTrue(first.startswith(b"HTTP/2 200"), first)
        self.sync()
        before = self.origin.count()
        second = subprocess.run([*curl, "-H", 'If-None-Match: "v1"', url], capture_output=True, timeout=bound(20), check=True).stdout
        self.assertTrue(second.startswith(b"HTTP/2 304"), second)
        self.assertIn(b'etag: "v1"', second.lower())
        self.assertIn(b"max-age=60", second)
        self.assertEqual(self.origin.count(), before)
        self.assertHit("/a", '"v1"')  # the same entry as over HTTP/1.1

    def test_http_and_https_of_one_path_are_two_entries(self):
        """The page over https, and over http the redirect to it: who asked with the page's tag got 304 in its place."""
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost",
                        "-keyout", f"{self.directory}/key.pem", "-out", f"{self.directory}/cert.pem"], capture_output=True, timeout=bound(60), check=True)
        self.started_front(server=f"listen 127.0.0.1:$HTTP2 ssl; ssl_certificate {self.directory}/cert.pem; ssl_certificate_key {self.directory}/key.pem;")
        self.origin.documents["/a"] = Document('"v1"', conditions=False)

        def secure(*lines):
            fields = [word for line in ("Host: localhost", *lines) for word in ("-H", line)]
            answer = subprocess.run(["curl", "-s", "-k", "-i", *fields, f"https://127.0.0.1:{self.port2}/a"], capture_output=True, timeout=bound(20),
                                    check=True).stdout
            return int(answer.split(b" ")[1])
        self.assertEqual(secure(), 200)
        self.sync()
        self.assertEqual(secure('If-None-Match: "v1"'), 304)
        self.assertNoHit("/a", '"v1"')
        self.assertEqual(self.logged()[:2], ["MISS", "no_entry"])
        self.sync()
        self.assertHit("/a", '"v1"')
        self.assertEqual({entry["scheme"] for entry in self.entries("//localhost/a")}, {"http", "https"})
        # The resource has no scheme: a write over http reaches both.
        self.assertEqual(self.ask("POST", "/a", body=b"x").status, 204)
        self.assertEqual(secure('If-None-Match: "v1"'), 200)
        self.assertNoHit("/a", '"v1"')
        self.assertEqual(self.logged()[0], "STALE")

    def test_the_scheme_where_tls_ends_before_nginx(self):
        self.started_front(location="etag_cache_scheme $http_x_forwarded_proto;")
        self.origin.documents["/a"] = Document('"v1"', conditions=False)
        for scheme in ("https", "http", ""):
            self.fill("/a", f"X-Forwarded-Proto: {scheme}")
            self.assertHit("/a", '"v1"', f"X-Forwarded-Proto: {scheme.upper()}")
        self.assertHit("/a", '"v1"')  # none is empty
        self.assertNoHit("/a", '"v1"', "X-Forwarded-Proto: https, http")
        self.assertEqual(self.logged()[0], "REFUSED")
        self.ask("POST", "/a", "X-Forwarded-Proto: http", body=b"x")
        for scheme in ("https", "http", ""):
            self.assertNoHit("/a", '"v1"', f"X-Forwarded-Proto: {scheme}")
            self.assertEqual(self.logged()[0], "STALE")

    def application(self, handler):
        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
        server = Server(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server.server_address[1]

    def behind(self, directive):
        self.d = self.started(lease_ms=self.LEASE_MS)
        self.n = self.nginx(f"""etag_cache_socket $SOCKET;
            server {{ listen 127.0.0.1:$PORT; location / {{ {PUBLIC} {directive} }} }}""").start(self.port)
        wait_until(lambda: self.get("/-").status and self.logged()[0] != "OFFLINE", 10, "online")
        self.assertEqual(self.fill("/a", version="1.0").body, b"GET /a")
        answer = self.get("/a", 'If-None-Match: "v1"')
        self.assertEqual((answer.status, answer.fields[b"etag"], self.logged()[0]), (304, [b'"v1"'], "HIT"))
        self.d.ctl("invalidate", "--surrogate", "thing")
        self.get("/a", 'If-None-Match: "v1"')
        self.assertEqual(self.logged()[0], "STALE")
        self.sync()
        self.assertEqual(self.ask("POST", "/a", body=b"x", version="1.0").body, b"POST /a")
        self.get("/a", 'If-None-Match: "v1"')
        self.assertEqual(self.logged()[0], "STALE")

    def test_fastcgi(self):
        port = self.application(FastCgi)
        self.behind(f"fastcgi_pass 127.0.0.1:{port}; fastcgi_param REQUEST_METHOD $request_method; fastcgi_param REQUEST_URI $request_uri;")

    def test_uwsgi(self):
        port = self.application(Uwsgi)
        self.behind(f"uwsgi_pass 127.0.0.1:{port}; uwsgi_param REQUEST_METHOD $request_method; uwsgi_param REQUEST_URI $request_uri;")


def document(params):
    body = params[b"REQUEST_METHOD"] + b" " + params[b"REQUEST_URI"]
    return b'ETag: "v1"\r\nSurrogate-Key: thing\r\nContent-Type: text/plain\r\n\r\n' + body


class FastCgi(socketserver.StreamRequestHandler):
    """A responder, as an application without a web server of its own is."""

    def record(self):
        head = self.rfile.read(8)
        if len(head) < 8:
            return None, b""
        _, kind, _, length, padding, _ = struct.unpack("!BBHHBB", head)
        return kind, self.rfile.read(length + padding)[:length]

    @staticmethod
    def length(data, at):
        if data[at] < 128:
            return data[at], at + 1
        return struct.unpack_from("!I", data, at)[0] & 0x7FFFFFFF, at + 4

    def handle(self):
        params, data = {}, b""
        while True:
            kind, piece = self.record()
            if kind is None:
                return
            if kind == 4:
                data += piece
            if kind == 5 and not piece:
                break
        at = 0
        while at < len(data):
            name, at = self.length(data, at)
            value, at = self.length(data, at)
            params[data[at:at + name]] = data[at + name:at + name + value]
            at += name + value
        said = b"Status: 200 OK\r\n" + document(params)
        self.wfile.write(struct.pack("!BBHHBB", 1, 6, 1, len(said), 0, 0) + said + struct.pack("!BBHHBB", 1, 6, 1, 0, 0, 0) +
                         struct.pack("!BBHHBB", 1, 3, 1, 8, 0, 0) + bytes(8))


class Uwsgi(socketserver.StreamRequestHandler):
    def handle(self):
        size = struct.unpack("<BHB", self.rfile.read(4))[1]
        data, params, at = self.rfile.read(size), {}, 0
        while at < size:
            pair = []
            for _ in range(2):
                length = struct.unpack_from("<H", data, at)[0]
                pair.append(data[at + 2:at + 2 + length])
                at += 2 + length
            params[pair[0]] = pair[1]
        self.rfile.read(int(params.get(b"CONTENT_LENGTH") or 0))
        self.wfile.write(b"HTTP/1.1 200 OK\r\n" + document(params))


# Rows of each table: those that nginx lets through, and those of them that are answered from memory.
PASSED = {"preconditions.tsv": (152, 42), "preconditions_rfc.tsv": (350, 57)}


class Tables(preconditions.Table):
    """Each row of the tables of preconditions, asked of nginx before the uploads API: rendered, then with the file in shared
    memory. The API has a daemon of its own, so that what it knows does not matter."""

    def setUp(self):
        Case.setUp(self)
        seed(os.path.join(self.directory, "db"))
        self.d = self.started(lease_ms=1000)
        own = self.daemon("application", lease_ms=1000).start()
        self.app = App(self.directory, own.socket, "app")
        self.addCleanup(lambda: self.assertEqual(self.app.end(), 0))
        self.port = free_ports(1)[0]
        self.n = Nginx(os.path.join(self.directory, "nginx"), f"""
            etag_cache_socket {self.d.socket}; if_modified_since before; etag_cache_last_modified strong;
            server {{ listen 127.0.0.1:{self.port}; location / {{
                etag_cache on; etag_cache_scope "bearer:$http_authorization"; etag_cache_authenticated $http_authorization; etag_cache_invalidate off;
                proxy_http_version 1.1; proxy_pass http://127.0.0.1:{self.app.port}; }} }}""")
        self.addCleanup(self.n.end)
        self.n.start(self.port)
        wait_until(lambda: self.through(b"GET", "/") and self.n.lines()[-1].split()[3] != "OFFLINE", 10, "online")

    def through(self, method, path, lines=(), body=None):
        """The same bytes, sent to nginx."""
        front = Behind(self.app)
        front.port = self.port
        return parse(front.exchange(method, path, lines, body))

    @staticmethod
    def refused(row, answer):
        """nginx says itself that this is no request."""
        return answer.status == 400 and (row.method == b"HEAD" or b"<center>nginx" in answer.body)

    def judged(self, row, path):
        """False: nginx did not let it through."""
        answer = self.through(row.method, path, row.lines, preconditions.SENT.get(row.method))
        if self.refused(row, answer):
            return False
        self.check_answer(row, answer)
        self.check_effect(row, path, answer)
        return True

    def hits(self):
        """Paths that were answered from memory."""
        return {line.split()[1] for line in self.n.lines() if line.split()[3] == "HIT"}

    def table(self, name):
        asked = []
        for row in (preconditions.Row(cells) for cells in tables.rows(name)):
            cold, warm = (f"/api/v1/files/{kind}-{row.id}" for kind in ("cold", "warm"))
            if row.expressible() and self.make(row, cold) and self.make(row, warm):
                asked.append((row, cold, warm))
        passed = []
        for row, cold, warm in asked:
            with self.subTest(row=row.id, lines=row.lines):
                if self.judged(row, cold):
                    passed.append((row, warm))
        self.assertEqual(self.hits(), set())
        for row, warm in passed:
            self.assertEqual(self.through(b"GET", warm).status, 200 if row.exists else 404)
        self.d.ctl("sync")
        for row, warm in passed:
            with self.subTest(row=row.id, lines=row.lines, cached=True):
                self.assertTrue(self.judged(row, warm))
        wait_until(lambda: len(self.n.lines()) >= len(asked) + 2 * len(passed), 5, "the log")
        hits = self.hits()
        for row, warm in passed:
            if row.front in ("304", "origin"):
                self.assertEqual(warm in hits, row.front == "304", (row.id, row.lines))
        print(json.dumps({"table": name, "asked": len(asked), "passed": len(passed), "from_memory": len(hits)}))
        self.assertEqual((len(passed), len(hits)), PASSED[name])


class Behind(App):
    """Something else that is asked in the API's way."""

    def __init__(self, app):  # pylint: disable=super-init-not-called
        self.app = app


if __name__ == "__main__":
    main()
