# SPDX-License-Identifier: Apache-2.0
"""The nginx module in Debian's nginx: its directives, what is answered from shared memory and under which name, what is stored.
(test_nginx_writes.py: what writes and faults do; test_nginx_features.py: that all else is as it was.)"""
import os
import re
import shutil
import socket

from nginx import PUBLIC, Document, Load, NginxCase, ask, exchange, main
import tables
from harness import bound, content_of, put_file, wait_until
from uploads import parse


class Configuration(NginxCase):
    """nginx -t: what is wrong is said before a request comes."""

    def verdict(self, text, server="", http=""):
        made = self.nginx(f"{http} server {{ listen 127.0.0.1:$PORT; {server} location / {{ {text} }} }}")
        return made.test()

    def test_every_directive_at_every_level(self):
        every = """etag_cache on; etag_cache_socket $SOCKET; etag_cache_scope "user:$remote_user"; etag_cache_authenticated $remote_user $uid_got; etag_cache_key $host$request_uri;
            etag_cache_vary Accept-Language Accept-Encoding; etag_cache_release $hostname; etag_cache_scheme $http_x_forwarded_proto; etag_cache_surrogates "site" $host;
            etag_cache_invalidate on; etag_cache_invalidate_timeout 500ms; etag_cache_invalidate_failure pass; etag_cache_collections on;
            etag_cache_bypass $arg_fresh; etag_cache_no_store $arg_private $arg_secret; etag_cache_max_age 1h;
            etag_cache_repeated_fields Surrogate-Key X-One;"""
        for http, server, location in ((every, "", ""), ("", every, ""), ("", "", every), (every, every, every)):
            status, said = self.verdict(location, server, http)
            self.assertEqual(status, 0, said)

    def test_what_is_refused(self):
        cases = (
            ("etag_cache on;", "without \"etag_cache_scope\""),
            ("etag_cache maybe;", "invalid value \"maybe\""),
            ("etag_cache shadow;", "without \"etag_cache_scope\""),
            ("etag_cache on; etag_cache_scope everybody;", "neither \"public\" nor an expression"),
            ("etag_cache on; etag_cache_scope public; etag_cache_scope public;", "duplicate"),
            ("etag_cache on; etag_cache_scope $nothing_of_that_name;", "unknown"),
            ("etag_cache on; etag_cache_scope \"tenant:$1\";", "capture"),
            ("etag_cache on; etag_cache_scope;", "invalid number of arguments"),
            (f"{PUBLIC} etag_cache_invalidate_failure perhaps;", "invalid value \"perhaps\""),
            (f"{PUBLIC} etag_cache_invalidate_timeout soon;", "invalid value"),
            (f"{PUBLIC} etag_cache_max_age young;", "invalid value"),
            (f"{PUBLIC} etag_cache_vary a b c d e f g h i;", "too many names"),
            (f"{PUBLIC} etag_cache_repeated_fields Set-Cookie;", "a 304 cannot repeat"),
            (f"{PUBLIC} etag_cache_repeated_fields a b c d e f g h i;", "more than 8"),
            (f"{PUBLIC} etag_cache_socket {'/x' * 100};", "too long"),
        )
        for text, message in cases:
            with self.subTest(text=text):
                status, said = self.verdict(text)
                self.assertNotEqual(status, 0)
                self.assertIn(message, said)

    def test_the_scope_may_stand_further_in(self):
        self.assertEqual(self.verdict("etag_cache_scope public;", server="etag_cache on;")[0], 0)
        self.assertNotEqual(self.verdict("", server="etag_cache on;")[0], 0)
        self.assertEqual(self.verdict("etag_cache_invalidate on;")[0], 0)

    def test_recipes(self):
        """Each block of docs/nginx.md passes nginx -t."""
        blocks = re.findall(r"```nginx\n(.*?)```", content_of(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../docs/nginx.md")), re.S)
        self.assertGreaterEqual(len(blocks), 7)
        for block in blocks:
            with self.subTest(block=block):
                maps, text = re.match(r"((?:map [^}]*}\n)*)(.*)", block.replace("listen 80;", "listen 127.0.0.1:$PORT;"), re.S).groups()
                if "server {" not in text:
                    text = "server { listen 127.0.0.1:$PORT; " + text + "}"
                text = maps + text
                made = self.nginx("proxy_cache_path $DIR/cache keys_zone=pages:1m;" + text)
                shutil.copy("/etc/nginx/fastcgi.conf", made.directory)
                status, said = made.test()
                self.assertEqual(status, 0, said)
                self.assertNotIn("[warn]", said)
                for way, host in (("proxy_pass http", "proxy_set_header Host $host;"), ("fastcgi_pass", "fastcgi_param HTTP_HOST $host;")):
                    self.assertEqual(block.count(way) > 0, host in block)  # what the upstream believes is what the key has

    def test_loaded_and_not_used(self):
        self.with_origin()
        self.origin.documents["/a"] = Document('"v1"')
        self.n = self.front(rules="etag_cache off;").start(self.port)
        self.assertEqual(self.get("/a").status, 200)
        self.assertEqual(self.logged(), ["-", "-", "-"])


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
        status, reason, lsn = self.logged()
        self.assertEqual((status, reason), ("HIT", "match"))
        self.assertEqual(int(lsn), self.d.ctl("get", "//localhost/a", "--scheme", "http", "--vary", "Accept-Encoding")["fill_lsn"])
        self.assertEqual(self.origin.count(), before)

    def test_in_shadow_mode_everything_goes_to_the_upstream(self):
        self.started_front(location="location /s { etag_cache shadow; proxy_pass $ORIGIN; }")
        self.origin.documents["/s"] = Document('"v1"', conditions=False)
        self.fill("/s")
        self.assertNoHit("/s", '"v1"')
        self.assertEqual(self.logged()[:2], ["MISS", "shadow"])
        self.origin.documents["/s"] = Document('"v2"')  # nobody says so
        self.assertEqual(self.get("/s", 'If-None-Match: "v1"').status, 200)

        def counted():
            return {name: number for name, number in self.d.status().items() if name.startswith("clients.shadow_") and number}
        wait_until(lambda: "clients.shadow_mismatches" in counted(), 5, "the mismatch")
        self.assertEqual(counted(), {"clients.shadow_not_modified": 2, "clients.shadow_matches": 1, "clients.shadow_mismatches": 1})
        self.origin.documents["/"] = Document('"v1"')
        self.fill("/")
        self.assertHit("/", '"v1"')

    def test_another_version_goes_to_the_upstream(self):
        self.started_front()
        self.origin.documents["/a"] = Document('"v2"')
        self.fill("/a")
        self.assertEqual(self.get("/a", 'If-None-Match: "v1"').status, 200)
        self.assertEqual(self.logged()[:2], ["MISS", "no_match"])
        self.assertEqual(self.get("/a").status, 200)
        self.assertEqual(self.logged()[:2], ["MISS", "no_condition"])
        self.assertHit("/a", '"v2"')
        self.assertHit("/a", '"v1", W/"v2"')
        self.assertHit("/a", "*")

    def test_head(self):
        self.started_front()
        self.origin.documents["/a"] = Document('"v1"')
        self.assertEqual(self.ask("HEAD", "/a").status, 200)
        self.sync()
        self.assertEqual(self.logged()[:2], ["MISS", "no_entry"])
        self.assertNoHit("/a", '"v1"')
        self.fill("/a")
        before = self.origin.count()
        answer = self.ask("HEAD", "/a", 'If-None-Match: "v1"')
        self.assertEqual((answer.status, answer.fields[b"etag"], answer.body), (304, [b'"v1"'], b""))
        self.assertEqual(self.origin.count(), before)

    def test_dates(self):
        """As if_modified_since says, since a file that was put back is older than what the client has."""
        dates = [("Last-Modified", "Tue, 01 Jul 2025 10:00:00 GMT")]
        later, same = ("If-Modified-Since: Tue, 01 Jul 2025 %s GMT" % time for time in ("11:00:00", "10:00:00"))
        for rule, hits in (("exact", (same,)), ("before", (same, later)), ("off", ())):
            with self.subTest(rule=rule):
                location = f"if_modified_since {rule}; etag_cache_last_modified strong;"
                self.started_front(location=location) if rule == "exact" else self.again(location)
                path = f"/{rule}"
                self.origin.documents[path] = Document('"v1"', fields=dates)
                self.fill(path)
                for line in (same, later):
                    before = self.origin.count(path)
                    status = self.get(path, line).status
                    self.assertEqual((status, self.origin.count(path) - before), (304, 0) if line in hits else (200, 1))

    def test_a_date_that_two_versions_may_share_is_no_hit(self):
        self.started_front(location="if_modified_since before;")
        self.origin.documents["/a"] = Document('"v2"', fields=[("Last-Modified", "Tue, 01 Jul 2025 10:00:00 GMT")])
        self.fill("/a")
        before = self.origin.count("/a")
        self.get("/a", "If-Modified-Since: Tue, 01 Jul 2025 10:00:00 GMT")
        self.assertEqual(self.origin.count("/a") - before, 1)
        self.assertEqual(self.logged()[:2], ["MISS", "date_weak"])

    def again(self, location, rules=PUBLIC):
        """The same front with another location block."""
        self.n.end()
        self.n = self.front(location=location, rules=rules).start(self.port)
        self.warm_up()

    def test_many_on_one_connection(self):
        self.started_front()
        for name in "ab":
            self.origin.documents[f"/{name}"] = Document(f'"{name}"')
            self.fill(f"/{name}")
        with socket.create_connection(("127.0.0.1", self.port), timeout=bound(20)) as connection:
            for name in "ab" * 20:
                connection.sendall(f'GET /{name} HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: "{name}"\r\n\r\n'.encode())
            connection.sendall(b"GET /b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            data = b"".join(iter(lambda: connection.recv(65536), b""))
        self.assertEqual(data.count(b"HTTP/1.1 304"), 40)
        self.assertEqual(data.count(b'ETag: "a"'), 20)
        self.assertEqual(data.count(b"HTTP/1.1 200"), 1)

    def test_a_request_within_the_body_of_another_is_none(self):
        """What memory answers has its body read as a body: what a client hides in it neither gets an answer, nor somebody else's."""
        self.started_front()
        for name in "ab":
            self.origin.documents[f"/{name}"] = Document(f'"{name}"')
            self.fill(f"/{name}")
        hidden = b'GET /b HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: "b"\r\n\r\n'
        head = b'GET /a HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: "a"\r\n'
        last = b"GET /b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        for framing, body in ((b"Content-Length: %d" % len(hidden), hidden),
                              (b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden))):
            with socket.create_connection(("127.0.0.1", self.port), timeout=bound(20)) as connection:
                connection.sendall(head + framing + b"\r\n\r\n" + body + last)
                data = b"".join(iter(lambda: connection.recv(65536), b""))
            self.assertEqual((data.count(b"HTTP/1.1 304"), data.count(b"HTTP/1.1 200"), data.count(b"HTTP/1.1 ")), (1, 1, 2), framing)
            self.assertLess(data.index(b'ETag: "a"'), data.index(b'ETag: "b"'))
        # Two framings, and fields that a proxy further out may have read otherwise: no answer from memory, and nothing after it.
        for lines in (b"Content-Length: %d\r\nTransfer-Encoding: chunked" % len(hidden), b"Content-Length: 0\r\nContent-Length: %d" % len(hidden),
                      b"Transfer-Encoding: chunked, identity", b"Content-Length : %d" % len(hidden), b"Transfer-Encoding:\x0bchunked",
                      b"Content-Length: +%d" % len(hidden)):
            with socket.create_connection(("127.0.0.1", self.port), timeout=bound(20)) as connection:
                connection.sendall(head + lines + b"\r\n\r\n" + hidden + last)
                data = b"".join(iter(lambda: connection.recv(65536), b""))
            self.assertEqual(data.count(b'ETag: "b"'), 0, (lines, data))

    def test_what_goes_to_the_content_handler(self):
        self.started_front()
        self.origin.documents["/a"] = Document('"v1"', conditions=False)
        self.fill("/a")
        for lines in (("Range: bytes=0-1",), ('If-None-Match: "v0"', "Range: bytes=0-1", 'If-Range: "v1"')):
            self.get("/a", *lines)
            self.assertEqual(self.logged()[:2], ["BYPASS", "range"])
        self.assertEqual(self.ask("GET", "/a", 'If-None-Match: "v1"', body=b"query").status, 200)
        self.assertEqual(self.logged()[:2], ["BYPASS", "request_body"])
        self.assertEqual(self.ask("OPTIONS", "/a", 'If-None-Match: "v1"').status, 204)
        self.assertEqual(self.logged()[:2], ["BYPASS", "method"])
        many = [f'If-Match: "{i}"' for i in range(20)]
        self.get("/a", *many)  # nginx takes one of them; it is not ours to say

    def test_http_1_0(self):
        self.started_front()
        self.origin.documents["/a"] = Document('"v1"')
        self.fill("/a")
        answer = exchange(self.port, "GET", "/a", ['If-None-Match: "v1"'], version="1.0")
        self.assertTrue(answer.startswith(b"HTTP/1.1 304 "), answer)

    def test_statuses(self):
        self.started_front(location="etag_cache_max_age 1s;")
        self.origin.documents["/a"] = Document('"v1"')
        self.fill("/a")
        self.assertHit("/a", '"v1"')
        self.d.ctl("invalidate", "--resource", "//localhost/a")
        self.assertNoHit("/a", '"v1"')
        self.assertEqual(self.logged()[:2], ["STALE", "stale"])
        self.fill("/a", status="STALE")
        wait_until(lambda: not self.is_hit("/a", '"v1"'), 10, "it expires")
        self.assertEqual(self.logged()[:2], ["EXPIRED", "expired"])
        self.d.kill()
        wait_until(lambda: self.get("/a").status == 200 and self.logged()[:2] == ["OFFLINE", "no_lease"], 10, "the lease is over")


class Keys(NginxCase):
    def test_host_port_and_query(self):
        self.started_front()
        for path in ("/a", "/a?", "/a?x=1", "/%61"):
            self.origin.documents[path] = Document('"v1"')
        self.fill("/a", host="example.org")
        for host in ("example.org", "EXAMPLE.org", "example.org.", "example.org:80", "example.org:443"):
            self.assertHit("/a", '"v1"', host=host)
        for host in ("example.org:8080", "example.com"):
            self.assertNoHit("/a", '"v1"', host=host)
        self.assertHit("/%61", '"v1"', host="example.org")
        self.assertNoHit("/a?x=1", '"v1"', host="example.org")
        self.assertNoHit("/a?", '"v1"', host="example.org")
        for target, host, hit in (("http://example.org/a", "EXAMPLE.org:80", True), ("http://example.org:80/a", "example.org", True),
                                  ("http://example.org:81/a", "example.org:81", False)):
            before = self.origin.count()
            self.get(target, 'If-None-Match: "v1"', host=host)
            self.assertEqual(self.origin.count() == before, hit, target)

    def test_two_authorities_in_one_request(self):
        """GET http://a/x with "Host: b": an upstream that believes the other one would fill, and be answered for, a's page."""
        self.started_front(location="proxy_set_header Host $http_host;")
        self.origin.documents["/a"] = Document('"of-b"', conditions=False)
        for target, host in (("http://a.org/a", "b.org"), ("http://a.org:81/a", "a.org"), ("http://a.org/a", "a.org:81")):
            self.assertEqual(self.get(target, host=host).status, 200)
            self.assertEqual(self.logged()[:2], ["BYPASS", "authority"])
        self.sync()
        self.assertNoHit("/a", '"of-b"', host="a.org")
        self.assertEqual(self.logged()[:2], ["MISS", "no_entry"])
        self.fill("/a", host="b.org")
        self.assertNoHit("http://b.org/a", '"of-b"', host="a.org")
        # Who writes so may have changed either.
        for host in ("a.org", "b.org"):
            self.fill("/a", host=host, status="MISS")
        for target, host in (("http://a.org/a", "b.org"), ("http://b.org/a", "a.org")):
            self.ask("POST", target, body=b"x", host=host)
            for name in ("a.org", "b.org"):
                self.assertNoHit("/a", '"of-b"', host=name)
                self.assertEqual(self.logged()[0], "STALE")
                self.sync()

    def test_a_dotted_path_neither_reads_nor_fills_another_entry(self):
        """/files/../secret/x is the files' view for an upstream that takes it as it is, and was the secret's key."""
        self.started_front()
        self.origin.documents["/secret/x"] = Document('"secret"')
        self.fill("/secret/x")
        for path in ("/files/../secret/x", "/files/%2e%2E/secret/x", "/files/..%2fsecret/x", "/files/..%5csecret/x", "/secret/./x"):
            with self.subTest(path=path):
                self.origin.documents[path] = Document('"files"')
                before = self.origin.count(path)
                self.assertEqual(self.get(path, 'If-None-Match: "secret"').status, 200)
                self.assertEqual(self.origin.count(path), before + 1)
                self.assertEqual(self.logged()[:2], ["REFUSED", "bad_key"])
                self.sync()
                self.assertNoHit("/secret/x", '"files"')
        self.assertHit("/secret/x", '"secret"')
        self.assertEqual(len(self.entries("//")), 1)

    def test_a_dotted_path_under_a_key_of_the_configuration(self):
        """$uri is without dot segments; what the upstream gets has them."""
        self.started_front(location="etag_cache_key $host$uri;")
        self.origin.documents["/secret/x"] = Document('"secret"')
        self.origin.documents["/files/../secret/x"] = Document('"files"')
        self.fill("/secret/x")
        self.assertNoHit("/files/../secret/x", '"secret"')
        self.assertEqual(self.logged()[:2], ["REFUSED", "bad_key"])
        self.sync()
        self.assertNoHit("/secret/x", '"files"')

    def test_the_key_of_the_configuration(self):
        self.started_front(server="server_name main.org;", location="etag_cache_key $server_name$uri;")
        self.origin.documents["/a"] = self.origin.documents["/a?x=1"] = Document('"v1"')
        self.fill("/a", host="alias.org")
        self.assertHit("/a?x=1", '"v1"', host="main.org")
        self.assertEqual(len(self.entries("//main.org/a")), 1)
        self.d.ctl("invalidate", "--resource", "//main.org/a")
        self.assertNoHit("/a", '"v1"', host="alias.org")

    def test_a_key_that_is_none(self):
        self.started_front(location="etag_cache_key nothing;")
        self.origin.documents["/a"] = Document('"v1"')
        self.assertEqual(self.get("/a").status, 200)
        self.assertEqual(self.logged()[:2], ["REFUSED", "bad_key"])

    def test_request_fields(self):
        self.started_front(location="etag_cache_vary Accept-Language X-Other;")
        self.origin.documents["/a"] = Document('"v1"', fields=[("Vary", "Accept-Language, X-OTHER")])
        self.fill("/a", "Accept-Language: de")
        self.assertHit("/a", '"v1"', "Accept-Language: de")
        for lines in ((), ("Accept-Language: en",), ("Accept-Language: de", "Accept-Language: en"), ("Accept-Language: de", "X-Other: 1")):
            self.assertNoHit("/a", '"v1"', *lines)
        self.fill("/a", "Accept-Language: de", "Accept-Language: en")
        self.assertHit("/a", '"v1"', "Accept-Language: de, en")
        self.origin.documents["/b"] = Document('"v1"', fields=[("Vary", "Accept-Language, Accept")])
        self.assertEqual(self.get("/b").status, 200)
        self.assertEqual(self.logged()[:2], ["REFUSED", "vary_uncovered"])

    def test_accept_encoding(self):
        """nginx compresses: the gzip variant has a weak tag, and its own entry."""
        self.started_front(location="gzip on; gzip_min_length 1; gzip_types *; gzip_vary on;")
        self.origin.documents["/a"] = Document('"v1"', body=b"x" * 1000, fields=[("Content-Type", "text/plain")])
        self.assertEqual(self.fill("/a").fields[b"etag"], [b'"v1"'])
        zipped = self.fill("/a", "Accept-Encoding: gzip;q=0.8, identity;q=0.1")
        self.assertEqual((zipped.fields[b"etag"], zipped.fields[b"content-encoding"]), ([b'W/"v1"'], [b"gzip"]))
        before = self.origin.count()
        for lines, etag in (((), b'"v1"'), (("Accept-Encoding: gzip",), b'W/"v1"'), (("Accept-Encoding: x-gzip, deflate",), b'W/"v1"')):
            answer = self.get("/a", 'If-None-Match: W/"v1"', *lines)
            self.assertEqual((answer.status, answer.fields[b"etag"], answer.fields[b"vary"]), (304, [etag], [b"Accept-Encoding"]))
        self.assertEqual(self.origin.count(), before)
        self.assertEqual(len(self.entries("//localhost/a")), 2)

    def test_brotli(self):
        """Another module that compresses, loaded before ours or after it."""
        module = "/usr/lib/nginx/modules/ngx_http_brotli_filter_module.so"
        if not os.path.exists(module):
            self.skipTest("there is no brotli for nginx")
        for place in ("before", "main"):
            with self.subTest(place=place):
                if hasattr(self, "n"):
                    self.n.end()
                    self.d.end()
                self.started_front(location="gzip on; gzip_types *; gzip_min_length 1; gzip_vary on; brotli on; brotli_types *; brotli_min_length 1;",
                                   **{place: f"load_module {module};"})
                self.origin.documents["/a"] = Document('"v1"', body=b"x" * 1000, fields=[("Content-Type", "text/plain")])
                for accepted, coding in (("gzip, br", b"br"), ("gzip", b"gzip")):
                    self.get("/a", f"Accept-Encoding: {accepted}")
                    self.sync()
                    rendered = self.get("/a", f"Accept-Encoding: {accepted}")
                    self.assertEqual((rendered.fields[b"content-encoding"], rendered.fields[b"etag"]), ([coding], [b'W/"v1"']))
                    before = self.origin.count()
                    answer = self.get("/a", f"Accept-Encoding: {accepted}", 'If-None-Match: W/"v1"')
                    self.assertEqual((answer.status, answer.fields[b"etag"], answer.fields[b"vary"]), (304, [b'W/"v1"'], [b"Accept-Encoding"]))
                    self.assertEqual(self.origin.count(), before)
                self.assertEqual(len(self.entries("//localhost/a")), 2)

    def test_tags_with_suffixes_are_what_they_are(self):
        self.started_front()
        self.origin.documents["/a"] = Document('"v1-gzip"', fields=[("Vary", "Accept-Encoding"), ("Content-Encoding", "gzip")])
        self.fill("/a", "Accept-Encoding: gzip")
        self.assertHit("/a", '"v1-gzip"', "Accept-Encoding: gzip")
        self.assertNoHit("/a", '"v1"', "Accept-Encoding: gzip")
        self.assertNoHit("/a", '"v1-gzip"')

    def test_without_accept_encoding_in_the_key(self):
        self.started_front(location="etag_cache_vary off; gzip on; gzip_min_length 1; gzip_types *; gzip_vary on;")
        self.origin.documents["/a"] = Document('"v1"', body=b"x" * 1000)
        self.assertEqual(self.get("/a").status, 200)
        self.assertEqual(self.logged()[:2], ["REFUSED", "vary_uncovered"])

    def test_release(self):
        http = "map $http_x_release $release { default 1; two 2; none ''; }"
        self.started_front(http=http, location="etag_cache_release $release;")
        self.origin.documents["/a"] = Document('"v1"')
        self.fill("/a")
        self.assertHit("/a", '"v1"')
        self.assertNoHit("/a", '"v1"', "X-Release: two")
        self.assertNoHit("/a", '"v1"', "X-Release: none")

    def test_scopes(self):
        self.started_front(rules='etag_cache on; etag_cache_scope "tenant:$http_x_tenant"; etag_cache_authenticated $http_x_tenant;')
        self.origin.documents["/a"] = Document('"v1"', fields=[("Cache-Control", "private")])
        self.fill("/a", "X-Tenant: 7", "Cookie: a=b", "Authorization: Bearer x")
        self.assertHit("/a", '"v1"', "X-Tenant: 7")
        self.assertHit("/a", '"v1"', "X-Tenant: 7", "Cookie: c=d")
        self.assertNoHit("/a", '"v1"', "X-Tenant: 8")
        for lines in ((), ("X-Tenant:",)):
            self.assertNoHit("/a", '"v1"', *lines)
            self.assertEqual(self.logged()[:2], ["BYPASS", "no_scope"])
        self.assertEqual(len(self.entries("//localhost/a")), 1)

    def test_cookies_in_the_key(self):
        """A page that was made with the session says so in Vary."""
        self.started_front(rules='etag_cache on; etag_cache_scope "session:$cookie_s"; etag_cache_authenticated $cookie_s; etag_cache_vary Accept-Encoding Cookie;')
        self.origin.documents["/a"] = Document('"v1"', fields=[("Vary", "Cookie")])
        self.fill("/a", "Cookie: s=1; other=2")
        self.assertHit("/a", '"v1"', "Cookie: s=1; other=2")
        self.assertNoHit("/a", '"v1"', "Cookie: s=1; other=3")
        self.assertNoHit("/a", '"v1"', "Cookie: other=2")

    def test_a_scope_that_is_partly_empty_is_none(self):
        """All who have no name would share it."""
        self.started_front(rules='etag_cache on; etag_cache_scope "user:${remote_user}:$http_x_tenant"; etag_cache_authenticated $remote_user;')
        self.origin.documents["/a"] = Document('"v1"')
        self.get("/a", "X-Tenant: 7")
        self.assertEqual(self.logged()[:2], ["BYPASS", "no_scope"])

    def test_authorization_and_cookies_under_public(self):
        self.started_front()
        for line, reason in (("Authorization: Bearer x", "authorization"), ("Cookie: a=b", "cookie")):
            path = f"/{reason}"
            self.origin.documents[path] = Document('"v1"', fields=[("Cache-Control", "public")])
            self.assertEqual(self.get(path, line).status, 200)
            self.assertEqual(self.logged()[:2], ["BYPASS", reason])
            self.sync()
            self.assertNoHit(path, '"v1"')
            self.fill(path)
            self.assertHit(path, '"v1"')
            self.assertNoHit(path, '"v1"', line)


class Table(NginxCase):
    """tests/cases/keys.tsv through nginx: what HTTP can say of a row is sent as it is."""

    # HTTP has its own meaning for an absolute form, a line's end and blanks around a value; "public" is the directive's word; the
    # directive takes eight fields, and no configuration holds a NUL.
    UNSAID = {"P073", "P079", "Q032", "K026", "K005", "K031", "K036", "K070", "K072"}
    # nginx may answer 400 where the table has an error or a path above the root; and to an empty Host, and a NUL in path or field.
    REFUSED = {"H013", "P035", "K008"}

    def setUp(self):
        super().setUp()
        self.d = self.started()
        self.with_origin()
        self.origin.documents = self  # any path
        self.rows = [row for row in tables.rows("keys.tsv") if row["id"].decode() not in self.UNSAID]
        self.sockets = {names: f"vary-{number}" for number, names in enumerate(sorted({self.vary_names(row) for row in self.rows}))}
        servers = "".join(self.server(names, name) for names, name in self.sockets.items())
        servers += "".join(self.server(names, name + "-public", "etag_cache_scope public;") for names, name in self.sockets.items())
        self.n = self.nginx(f"""
            etag_cache_socket $SOCKET;
            large_client_header_buffers 4 32k;
            underscores_in_headers on;
            ignore_invalid_headers off;
            server {{ listen 127.0.0.1:$PORT; location = /-warm-up {{ {PUBLIC} root $DIR; }} }}
            {servers}""").start(self.port)
        self.warm_up()

    @staticmethod
    def vary_names(row):
        lines = [] if row["vary"] == b"-" else row["vary"].split(b" | ")
        return tuple(tables.unescape(line).partition(b":")[0].decode("latin-1") for line in lines)

    @staticmethod
    def server(names, name, scope="etag_cache_scope $http_x_scope; etag_cache_authenticated $http_x_scope;"):
        vary = "etag_cache_vary " + " ".join(f'"{name}"' for name in names) + ";" if names else ""
        return f"""server {{
            listen unix:$DIR/{name}.sock; server_name "";
            add_header X-Said "$etag_cache_status $etag_cache_reason" always;
            location / {{ etag_cache on; {scope} etag_cache_release $http_x_release; etag_cache_scheme $http_x_scheme;
                {vary} proxy_pass $ORIGIN; }}
        }}"""

    def get(self, path, *lines, **options):
        """What the origin has: one document for all paths."""
        return super().get(path, *lines, **options) if path.startswith("/-warm-up") else Document(self.tag, conditions=False)

    def said(self, row, method, *lines, tag="x"):
        """Asks; returns the answer's status and what the cache says of it."""
        scope = tables.unescape(row["scope"])
        lines = [line.encode("latin-1") for line in lines]
        lines.append(b"X-Scope: " + (b"" if scope == b"unset" else scope.removeprefix(b"named:")))
        for name in ("release", "scheme"):
            if row[name] != b"-":
                lines.append(b"X-" + name.encode() + b": " + tables.unescape(row[name]))
        if row["vary"] != b"-":
            lines += [line for line in map(tables.unescape, row["vary"].split(b" | ")) if b":" in line]
        lines.append(b"Connection: close")
        host = b"" if row["host"] == b"-" else b"Host: " + tables.unescape(row["host"]) + b"\r\n"
        head = method + b" " + tables.unescape(row["target"]) + (b" HTTP/1.1\r\n" if host else b" HTTP/1.0\r\n") + host
        self.tag = f'"{tag}"'
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(bound(20))
            public = "-public" if scope == b"public" else ""
            s.connect(os.path.join(self.n.directory, f"{self.sockets[self.vary_names(row)]}{public}.sock"))
            s.sendall(head + b"\r\n".join(lines) + b"\r\n\r\n")
            answer = parse(b"".join(iter(lambda: s.recv(65536), b"")))
        return answer.status, (answer.fields[b"x-said"] or [b""])[0].decode()

    def plain(self, text):
        """The row of a resource that a write names."""
        host, target = b"-", text
        if text.startswith(b"//"):
            host, slash, path = text[2:].partition(b"/")
            host, target = host or b"-", slash + path
        row = {"host": host, "target": target.replace(b"\\", b"\\\\"), "scope": b"public", "release": b"-", "scheme": b"-", "vary": b"-"}
        return row

    def test_lookups_and_fills(self):
        filled, refused = set(), []
        for row in self.rows:
            word, name = row["key"].decode(), row["id"].decode()
            with self.subTest(name):
                status, said = self.said(row, b"GET", 'If-None-Match: "none"', tag=word)
                if status == 400:
                    refused.append(name)
                elif row["lookup"] == b"bad_key":
                    self.assertEqual(status, 200)
                    self.assertIn(said, ("REFUSED bad_key", "BYPASS no_scope", "BYPASS vary_limit"))
                    self.assertEqual(self.said(row, b"GET", f'If-None-Match: "{word}"', tag=word)[0], 200)
                elif b"ccept-" in row["vary"].lower():
                    self.assertEqual((status, said[:4]), (200, "MISS"))  # of Accept-Encoding the coding counts: accept_encoding.tsv
                else:
                    expected = {True: ["MISS no_match"], False: ["MISS no_entry"]}[word in filled]
                    self.assertIn((status, said), [(200, text) for text in (expected if word != "-" else ["MISS no_entry", "MISS no_match"])])
                    self.d.ctl("sync")
                    self.assertEqual(self.said(row, b"GET", f'If-None-Match: "{word}"', tag=word)[0], 304)
                    if word != "-":
                        filled.add(word)
        self.assertGreaterEqual(len(filled), 30)
        # What nginx does not take for a request at all, or has no name for.
        self.assertEqual({*refused} - self.REFUSED - {row["id"].decode() for row in self.rows if row["lookup"] == b"bad_key"}, set())
        self.assertLess(len(refused), 45)

    def test_writes(self):
        for row in self.rows:
            row = {**row, "scope": b"public", "release": b"-", "scheme": b"-", "vary": b"-"}
            with self.subTest(row["id"]):
                texts = [] if row["write"] == b"error" else [tables.unescape(text) for text in row["write"].split(b" | ")]
                named = [self.plain(text) for text in texts]
                known = [one for one in named if self.said(one, b"GET")[1].startswith(("MISS", "HIT", "STALE"))]
                status, _ = self.said(row, b"POST", "Content-Length: 0")
                if status == 400:
                    self.assertTrue(row["lookup"] == b"bad_key" or row["id"].decode() in self.REFUSED)
                    continue
                for one in known:
                    self.assertEqual((status, self.said(one, b"GET")[1]), (204, "STALE stale"))


class Stored(NginxCase):
    def test_what_is_not(self):
        self.started_front()
        for path, document, reason in (
                ("/cookie", Document('"v1"', fields=[("Set-Cookie", "a=b")]), "set_cookie"),
                ("/no-store", Document('"v1"', fields=[("Cache-Control", "max-age=1, no-store")]), "no_store"),
                ("/private", Document('"v1"', fields=[("Cache-Control", "private")]), "private"),
                ("/vary", Document('"v1"', fields=[("Vary", "Accept")]), "vary_uncovered"),
                ("/star", Document('"v1"', fields=[("Vary", "*")]), "vary_star"),
                ("/nonce", Document('"v1"', fields=[("Content-Security-Policy", "script-src 'nonce-abc'")]), "csp_nonce"),
                ("/no-tag", Document(None), "no_validator")):
            with self.subTest(path=path):
                self.origin.documents[path] = document
                self.assertEqual(self.get(path).status, 200)
                self.assertEqual(self.logged()[:2], ["REFUSED", reason])
                self.sync()
                if document.etag:
                    self.assertNoHit(path, '"v1"')
        self.assertEqual(self.d.status()["entries"], 0)

    def test_two_entity_tags(self):
        """nginx 1.22 passes both on, of which neither is the entity tag; since 1.23 it ignores the second, so there is one."""
        self.started_front()
        self.origin.documents["/a"] = Document('"v1"', fields=[("ETag", '"v2"')])
        passed_on = self.get("/a").fields[b"etag"]
        self.sync()
        if len(passed_on) == 2:
            self.assertEqual(self.logged()[:2], ["REFUSED", "bad_etag"])
            self.assertNoHit("/a", '"v1"')
            self.assertEqual(self.d.status()["entries"], 0)
        else:
            self.assertEqual(passed_on, [b'"v1"'])
            self.assertHit("/a", '"v1"')
        self.assertNoHit("/a", '"v2"')

    def test_not_the_upstreams_304(self):
        """It need not name the surrogate keys."""
        self.started_front()
        self.origin.documents["/a"] = Document('"v1"')
        for _ in range(2):
            self.assertEqual(self.get("/a", 'If-None-Match: "v1"').status, 304)
            self.sync()
            self.assertEqual(self.logged()[:2], ["MISS", "no_entry"])
        self.assertEqual(self.get("/missing").status, 404)
        self.sync()
        self.assertEqual(self.d.status()["entries"], 0)

    def test_each_miss_fills_where_the_upstream_is_asked_without_conditions(self):
        """docs/nginx.md, "What is stored"."""
        self.started_front(location='proxy_set_header If-None-Match ""; proxy_set_header If-Modified-Since "";')
        self.origin.documents["/a"] = Document('"v1"')
        self.assertEqual(self.get("/a", 'If-None-Match: "v1"').status, 200)
        self.sync()
        self.assertHit("/a", '"v1"')

    def test_fields_as_the_client_gets_them(self):
        self.started_front(location="""
            proxy_hide_header Cache-Control; expires 1h; add_header Content-Location /other; add_header X-One added;
            proxy_hide_header Set-Cookie; etag_cache_repeated_fields X-One X-Two;""")
        self.origin.documents["/a"] = Document('"v1"', fields=[("Cache-Control", "no-store"), ("X-Two", "two"), ("Set-Cookie", "a=b")])
        rendered = self.fill("/a")
        self.assertEqual(rendered.fields[b"cache-control"], [b"max-age=3600"])
        answer = self.get("/a", 'If-None-Match: "v1"')
        self.assertEqual((answer.status, self.logged()[0]), (304, "HIT"))
        for name in (b"etag", b"cache-control", b"content-location", b"x-one", b"x-two"):
            self.assertEqual(answer.fields[name], rendered.fields[name], name)
        self.assertEqual(len(answer.fields[b"expires"]), 1)
        self.assertEqual(answer.fields[b"set-cookie"], [])

    def test_surrogate_keys(self):
        self.started_front(location="proxy_hide_header Surrogate-Key;")
        keys = (("Surrogate-Key", "a b,c"), ("Cache-Tag", "d, e,f"), ("xkey", "g"))
        for name in ("a", "b,c", "b", "c", "d", "e", "f", "g"):
            with self.subTest(name=name):
                self.origin.documents[f"/{name[0]}{len(name)}"] = Document('"v1"', fields=keys)
                path = f"/{name[0]}{len(name)}"
                self.assertEqual(self.fill(path, status="MISS").fields[b"surrogate-key"], [])
                self.assertHit(path, '"v1"')
                self.d.ctl("invalidate", "--surrogate", name)
                self.assertNoHit(path, '"v1"')
                self.assertEqual(self.logged()[0], "STALE")

    def test_surrogate_keys_of_the_configuration(self):
        self.started_front(location='etag_cache_surrogates "site $upstream_http_x_keys" "tenant:$arg_t";')
        self.origin.documents["/a?t=7"] = Document('"v1"', fields=[("X-Keys", "one two"), ("Surrogate-Key", "three")])
        for name, counts in (("site", True), ("two", True), ("tenant:7", True), ("three", False)):
            self.fill("/a?t=7", status="MISS" if name == "site" else "STALE") if name != "three" else self.fill("/a?t=7", status="STALE")
            self.d.ctl("invalidate", "--surrogate", name)
            self.assertEqual(self.is_hit("/a?t=7", '"v1"'), not counts, name)

    def test_bypass_and_no_store(self):
        self.started_front(location="etag_cache_bypass $arg_fresh $http_x_fresh; etag_cache_no_store $upstream_http_x_secret;")
        self.origin.documents["/a"] = Document('"v1"')
        self.fill("/a", "X-Fresh: 1", status="BYPASS")
        self.assertNoHit("/a", '"v1"', "X-Fresh: 1")
        self.assertHit("/a", '"v1"', "X-Fresh: 0")
        self.origin.documents["/b"] = Document('"v1"', fields=[("X-Secret", "1")])
        self.get("/b")
        self.assertEqual(self.logged()[:2], ["REFUSED", "etag_cache_no_store"])
        self.sync()
        self.assertNoHit("/b", '"v1"')

    def test_a_known_tag_is_not_filled_again(self):
        self.started_front()
        self.origin.documents["/a"] = Document('"v1"')
        self.fill("/a")
        before = self.d.status()["fills_stored"]
        for _ in range(3):
            self.get("/a")
        self.sync()
        self.assertEqual(self.d.status()["fills_stored"], before)
        self.origin.documents["/a"] = Document('"v2"')  # changed, and nobody said so
        self.get("/a")
        self.sync()
        self.assertHit("/a", '"v2"')
        self.assertNoHit("/a", '"v1"')


class Age(NginxCase):
    """A response that is older than its token must not be stored as if it were as young."""

    def test_the_token_is_older_than_the_data(self):
        self.started_front()
        self.origin.documents["/a"] = Document('"v1"')
        entered, go = self.origin.gate("/a")
        load = Load(1, lambda _: ask(self.port, "GET", "/a"))
        entered.wait(bound(20))
        self.origin.documents["/a"] = Document('"v2"')
        self.d.ctl("invalidate", "--resource", "//localhost/a")
        go.set()
        del self.origin.gates["/a"]
        load.stop.set()
        self.assertEqual(load.end(), [])
        self.sync()
        self.assertNoHit("/a", '"v1"')

    def test_a_redirect_takes_no_newer_token(self):
        """X-Accel-Redirect: the application read its data before nginx went on to the file."""
        self.d = self.started(lease_ms=self.LEASE_MS)
        self.with_origin()
        self.n = self.nginx("""
            etag_cache_socket $SOCKET;
            server { listen 127.0.0.1:$PORT;
                location / { proxy_pass $ORIGIN; }
                location /files/ { internal; etag_cache on; etag_cache_scope public; alias $DIR/files/; } }""")
        os.makedirs(os.path.join(self.n.directory, "files"))
        put_file(os.path.join(self.n.directory, "files", "a"), "old")
        self.n.start(self.port)
        self.origin.documents["/a"] = Document(None, fields=[("X-Accel-Redirect", "/files/a")])
        entered, go = self.origin.gate("/a")
        load = Load(1, lambda _: ask(self.port, "GET", "/a"))
        entered.wait(bound(20))
        self.d.ctl("invalidate", "--resource", "//localhost/a")
        load.stop.set()
        go.set()
        self.assertEqual(load.end(), [])
        self.sync()
        self.assertEqual(self.d.status()["entries"], 0)

    def test_not_from_proxy_cache(self):
        self.started_front(http="proxy_cache_path $DIR/cache keys_zone=z:1m;", location="proxy_cache z; proxy_cache_valid 1h;")
        self.origin.documents["/a"] = Document('"v1"')
        self.fill("/a")
        self.assertHit("/a", '"v1"')
        self.origin.documents["/a"] = Document('"v2"')
        self.d.ctl("invalidate", "--resource", "//localhost/a")
        self.assertEqual(self.get("/a").fields[b"etag"], [b'"v1"'])  # nginx's cache believes it for an hour
        self.assertEqual(self.logged()[:2], ["REFUSED", "nginx_cache"])
        self.sync()
        self.get("/a", 'If-None-Match: "v1"')  # which nginx answers itself
        self.assertEqual(self.logged()[:2], ["REFUSED", "nginx_cache"])
        self.sync()
        self.assertEqual(self.get("/a", 'If-None-Match: "v1"').status, 304)
        self.assertEqual(self.logged()[0], "REFUSED")

    def test_before_proxy_cache(self):
        """What nginx makes a 304 of, because the client has it, is stored like the 200 that it was."""
        self.started_front(http="proxy_cache_path $DIR/cache keys_zone=z:1m;", location="proxy_cache z; proxy_cache_valid 1h;")
        self.origin.documents["/a"] = Document('"v1"', fields=[("Surrogate-Key", "k")])
        answer = self.get("/a", 'If-None-Match: "v1"')
        self.assertEqual((answer.status, self.logged()[0], self.origin.count("/a")), (304, "MISS", 1))
        self.sync()
        self.assertHit("/a", '"v1"')
        self.d.ctl("invalidate", "--surrogate", "k")
        self.get("/a", 'If-None-Match: "v1"')
        self.assertNotEqual(self.logged()[0], "HIT")

    def test_not_from_open_file_cache(self):
        self.d = self.started(lease_ms=self.LEASE_MS)
        self.n = self.nginx("""
            etag_cache_socket $SOCKET; root $DIR; etag_cache on; etag_cache_scope public;
            server { listen 127.0.0.1:$PORT;
                location / { }
                location /kept/ { alias $DIR/; open_file_cache max=10; open_file_cache_valid 1h; } }""").start(self.port)
        put_file(os.path.join(self.n.directory, "a"), "old")
        for path, stored in (("/kept/a", False), ("/a", True)):
            wait_until(lambda path=path: self.get(path).status == 200 and self.logged()[0] != "OFFLINE", 10, "online")
            self.get(path)
            self.sync()
            self.assertEqual(len(self.entries(f"//localhost{path}")), stored)


if __name__ == "__main__":
    main()
