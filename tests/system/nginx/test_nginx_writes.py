# SPDX-License-Identifier: Apache-2.0
"""Writes through the nginx module: whatever is done to daemon, workers and clients meanwhile, whoever has the answer to a
write finds no 304 for the old version any more; and no request fails."""
import itertools
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

from nginx import PUBLIC, SANITIZE, Document, Load, NginxCase, ask, exchange, main
from harness import ETAGCTL, bound, descriptors, wait_until


def put(port, path, body=b"new\n", *lines):
    return ask(port, "PUT", path, *lines, body=body)


class Writes(NginxCase):
    def setUp(self):
        super().setUp()
        self.started_front()
        self.origin.documents["/a"] = Document('"v1"')
        self.fill("/a")
        self.assertHit("/a", '"v1"')

    def write(self, method, path, answer, *lines):
        self.origin.writes[path] = answer
        return self.ask(method, path, *lines, body=b"x")

    def test_the_target(self):
        answer = self.ask("PUT", "/a", body=b"new\n")
        self.assertEqual(answer.status, 204)
        self.assertEqual(int(self.logged()[2]), self.d.status()["lsn"])
        self.assertNoHit("/a", '"v1"')
        self.assertEqual(self.logged()[0], "STALE")
        self.sync()
        self.assertHit("/a", '"v2"')

    def test_a_target_with_dot_segments_is_what_it_leads_to(self):
        """It can't be a key; it was told to nobody."""
        for path in ("/x/../a", "/./a", "/x/%2e%2e/a", "/x/..%2fa", "/x%2f..%2fa", "/x/..%5Ca", "/x/..;v/a"):
            with self.subTest(path=path):
                self.before()
                self.assertHit("/a", '"v1"')
                self.assertEqual(self.write("POST", path, (200, [], b"done")).status, 200)
                self.assertNoHit("/a", '"v1"')
                self.assertEqual(self.logged()[0], "STALE")

    def test_a_target_with_dot_segments_whose_answer_never_comes(self):
        self.origin.writes["/x/../a"] = (None, [], b"")
        self.assertEqual(self.ask("POST", "/x/../a", body=b"x").status, 502)
        wait_until(lambda: not self.is_hit("/a", '"v1"'), 10, "the target is stale")

    def test_methods(self):
        """Unsafe is what is not known to be safe."""
        for method, stale in (("OPTIONS", False), ("REPORT", False), ("POST", True), ("PATCH", True), ("DELETE", True)):
            self.fill("/a", status=self.before())
            self.assertEqual(self.write(method, "/a", (200, [], b"done")).body, b"done")
            self.assertEqual(self.is_hit("/a", '"v1"'), not stale, method)

    def before(self):
        """What a look-up of /a comes to now."""
        self.get("/a")
        self.sync()
        return "MISS"

    def test_answers(self):
        """A redirect is no error, an error is one, and says that nothing changed."""
        for status, stale in ((200, True), (201, True), (303, True), (400, False), (404, False), (412, False), (500, False), (503, False)):
            self.before()
            self.assertHit("/a", '"v1"')
            self.assertEqual(self.write("POST", "/a", (status, [], b"done")).status, status)
            self.assertEqual(self.is_hit("/a", '"v1"'), not stale, status)

    def test_locations(self):
        here = f"http://localhost:{self.port}"
        for name, value, stale in (
                ("Location", "/a", True), ("Location", "http://localhost/a", True), ("Location", "HTTPS://LocalHost:443/a#x", True),
                ("Content-Location", "a", True), ("Content-Location", "./x/../a", True), ("Content-Location", "//localhost/a", True),
                ("Location", "/b", False), ("Location", "/a?", False), ("Location", "http://elsewhere/a", False),
                ("Location", here + "/a", False), ("Content-Location", "urn:a", False), ("Content-Location", "", False)):
            with self.subTest(name=name, value=value):
                self.before()
                self.assertHit("/a", '"v1"')
                self.assertEqual(self.write("POST", "/new", (201, [(name, value)], b"")).status, 201)
                self.assertEqual(self.is_hit("/a", '"v1"'), not stale)

    def test_locations_where_the_host_has_a_port(self):
        host = f"localhost:{self.port}"
        self.fill("/a", host=host)
        self.assertHit("/a", '"v1"', host=host)
        self.origin.writes["/new"] = (201, [("Location", f"http://{host}/a")], b"")
        self.ask("POST", "/new", body=b"x", host=host)
        self.assertNoHit("/a", '"v1"', host=host)

    def test_collections(self):
        """WebDAV: what is moved or removed with all that is in it."""
        for path in ("/dir/x/y", "/other/y"):
            self.origin.documents[path] = Document('"v1"')
        for method, path, lines, stale in (
                ("DELETE", "/dir/", (), ["/dir/x/y"]), ("DELETE", "/dir/?x=/", (), ["/dir/x/y"]), ("DELETE", "/dir", (), []), ("PUT", "/dir/", (), []),
                ("MOVE", "/elsewhere", ("Destination: /a",), ["/a"]), ("COPY", "/elsewhere", ("Destination: http://localhost/a",), ["/a"]),
                ("MOVE", "/dir/", ("Destination: http://localhost/other/",), ["/dir/x/y", "/other/y"]),
                ("COPY", "/elsewhere", ("Destination: http://elsewhere/a",), [])):
            with self.subTest(method=method, path=path, lines=lines):
                for name in ("/a", "/dir/x/y", "/other/y"):
                    self.get(name)
                    self.sync()
                    self.assertHit(name, '"v1"')
                self.assertEqual(self.write(method, path, (201, [], b""), *lines).status, 201)
                self.assertEqual([name for name in ("/a", "/dir/x/y", "/other/y") if not self.is_hit(name, '"v1"')], stale)

    def test_names_of_the_upstream(self):
        self.origin.documents["/deep/er/page?x=1,2"] = Document('"v1"', fields=[("Surrogate-Key", "upload:42 a,b")])
        path = "/deep/er/page?x=1,2"
        for value, stale in (
                ("surrogate=upload:42", True), ('surrogate="a,b"', True), ("Surrogate=other, surrogate=upload:42", True),
                ("prefix=/deep/", True), ("prefix=//localhost/deep/er/", True), ('resource="/deep/er/page?x=1,2"', True),
                ('resource=/other,surrogate="upload:\\42"', True), ("everything", True), ("prefix=//elsewhere/deep/", False),
                ("family=upload", True), ('surrogate=other, Family="upload:*"', True), ("family=uploads, family=customer", False),
                ("family=", True), ("family=:42", True), ('family="upload', True),
                ("surrogate=upload:43, prefix=/deeper/", False), ("resource=/deep/er/page", False), ("", False),
                # What can't be read could have meant anything.
                ("nonsense=1", True), ("surrogate=", True), ('surrogate="upload:4', True), ("prefix=deep", True), ("surrogates", True),
                ('surrogate="a b"', True)):
            with self.subTest(value=value):
                self.get(path)
                self.sync()
                self.assertHit(path, '"v1"')
                answer = self.write("POST", "/do", (200, [("Etag-Cache-Invalidate", value), ("X-Other", "1")], b"done"))
                self.assertEqual((answer.status, answer.body, answer.fields[b"x-other"]), (200, b"done", [b"1"]))
                self.assertEqual(answer.fields[b"etag-cache-invalidate"], [])
                self.assertEqual(self.is_hit(path, '"v1"'), not stale)

    def test_names_in_several_fields_of_any_answer(self):
        """A safe method can have side effects, and an error can have changed something."""
        for name in "bcd":
            self.origin.documents[f"/{name}"] = Document('"v1"', fields=[("Surrogate-Key", name)])
        lines = [("Etag-Cache-Invalidate", "surrogate=b"), ("etag-cache-invalidate", "surrogate=c")]
        self.origin.documents["/do"] = Document('"v1"', fields=lines)
        for method, status in (("GET", 200), ("HEAD", 200), ("POST", 409)):
            for name in "bcd":
                self.get(f"/{name}")
                self.sync()
                self.assertHit(f"/{name}", '"v1"')
            self.origin.writes["/do"] = (409, lines, b"no")
            answer = self.ask(method, "/do", body=b"x" if method == "POST" else None)
            self.assertEqual((answer.status, answer.fields[b"etag-cache-invalidate"]), (status, []))
            self.assertEqual([self.is_hit(f"/{name}", '"v1"') for name in "bcd"], [False, False, True], method)

    def test_no_answer_of_the_upstream(self):
        """The write may have been done."""
        self.origin.writes["/a"] = (None, [], b"")  # closes
        self.assertEqual(self.ask("PUT", "/a", body=b"x").status, 502)
        wait_until(lambda: not self.is_hit("/a", '"v1"'), 5, "it is invalidated")

    def test_the_client_goes_away(self):
        entered, go = self.origin.gate("/a")
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"PUT /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
            entered.wait(bound(20))
        wait_until(lambda: self.n.lines()[-1].split()[2] == "499", 10, "nginx sees it")
        del self.origin.gates["/a"]
        wait_until(lambda: not self.is_hit("/a", '"v1"') and self.logged()[0] == "STALE", 10, "it is invalidated")
        go.set()

    def test_beside_nginx(self):
        self.d.ctl("invalidate", "--resource", "//localhost/a")
        self.assertNoHit("/a", '"v1"')
        self.before()
        self.assertHit("/a", '"v1"')
        guard = subprocess.Popen([ETAGCTL, "--socket", self.d.socket, "guard", "--prefix", "//localhost/", "--", "cat"],
                                 stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        wait_until(lambda: not self.is_hit("/a", '"v1"') and self.logged()[:2] == ["STALE", "in_flux"], 10, "the guard stands")
        guard.communicate()
        self.assertEqual(guard.returncode, 0)
        self.assertNoHit("/a", '"v1"')
        self.assertEqual(self.logged()[:2], ["STALE", "stale"])

    def test_grpc_is_left_alone(self):
        grpc = "application/grpc+proto"
        self.d.signal(signal.SIGSTOP)
        began = time.monotonic()
        self.assertEqual(self.write("POST", "/a", (200, [("Content-Type", grpc)], b"x"), f"Content-Type: {grpc}").status, 200)
        took = time.monotonic() - began
        self.d.signal(signal.SIGCONT)
        self.assertLess(took, bound(0.3))
        wait_until(lambda: self.is_hit("/a", '"v1"'), 10, "the lease is back")
        # The client's word alone does not make it a stream.
        self.assertEqual(self.write("POST", "/a", (200, [("Content-Type", "text/plain")], b"x"), f"Content-Type: {grpc}").status, 200)
        self.assertNoHit("/a", '"v1"')


class Hidden(NginxCase):
    """What the upstream says counts, also where the configuration keeps it from the client."""

    def test_a_hidden_field(self):
        self.started_front(location="proxy_hide_header Etag-Cache-Invalidate;")
        self.origin.documents["/a"] = Document('"v1"', fields=[("Surrogate-Key", "k")])
        self.fill("/a")
        self.origin.writes["/do"] = (200, [("Etag-Cache-Invalidate", "surrogate=k")], b"done")
        self.assertEqual(self.ask("POST", "/do", body=b"x").fields[b"etag-cache-invalidate"], [])
        self.assertNoHit("/a", '"v1"')

    def test_a_write_that_ends_in_a_redirect(self):
        """X-Accel-Redirect makes a GET of it; what was done was done."""
        self.started_front(server="location /files/ { internal; alias $DIR/; }")
        with open(os.path.join(self.n.directory, "f"), "w", encoding="ascii") as file:
            file.write("file")
        for path in ("/a", "/b"):
            self.origin.documents[path] = Document('"v1"', fields=[("Surrogate-Key", f"k{path[1]}")])
            self.fill(path)
        self.origin.writes["/a"] = (200, [("X-Accel-Redirect", "/files/f"), ("Etag-Cache-Invalidate", "surrogate=kb")], b"")
        self.assertEqual(self.ask("POST", "/a", body=b"x").body, b"file")
        self.assertNoHit("/a", '"v1"')
        self.assertNoHit("/b", '"v1"')

    def test_a_cached_answer_says_it_once(self):
        self.started_front(http="proxy_cache_path $DIR/cache keys_zone=z:1m;",
                           server="location /cached/ { " + PUBLIC + " proxy_cache z; proxy_cache_valid 1h; proxy_pass $ORIGIN; }")
        self.origin.documents["/a"] = Document('"v1"', fields=[("Surrogate-Key", "k")])
        self.origin.documents["/cached/do"] = Document('"v1"', fields=[("Etag-Cache-Invalidate", "surrogate=k")])
        for stale in (True, False):
            self.get("/a")
            self.sync()
            self.assertHit("/a", '"v1"')
            self.assertEqual(self.get("/cached/do").fields[b"etag-cache-invalidate"], [])
            self.assertEqual(self.is_hit("/a", '"v1"'), not stale)


class Roles(NginxCase):
    """Workers are another user than etagd, as installed."""

    def prepare(self, roles):
        if os.getuid() != 0:
            self.skipTest("needs root to start workers as another user")
        os.chmod(self.directory, 0o755)
        config = self.config("".join(["roles:\n"] * bool(roles) + [f'  {role}: ["user:daemon"]\n' for role in roles]))
        self.d = self.started(lease_ms=self.LEASE_MS, args=[*config, "--socket-mode", "0666"])
        self.with_origin()
        self.origin.documents["/a"] = Document('"v1"')
        self.n = self.front(user="daemon").start(self.port)

    def test_with_its_roles(self):
        self.prepare(("read", "fill", "mutate"))
        self.warm_up()
        self.fill("/a")
        self.assertHit("/a", '"v1"')
        self.d.signal(signal.SIGSTOP)
        status = put(self.port, "/a").status  # through the spool: its files are this user's
        self.d.signal(signal.SIGCONT)
        self.assertEqual(status, 204)
        wait_until(lambda: self.get("/b").status and self.logged()[0] != "OFFLINE", 10, "the lease is back")
        self.assertNoHit("/a", '"v1"')

    def test_without(self):
        """It serves; but a write that nobody was told of is not answered as if it had been."""
        self.prepare(())
        for _ in range(3):
            self.assertEqual(self.get("/a").status, 200)
            self.assertEqual(self.logged()[0], "OFFLINE")
        self.assertEqual(self.ask("PUT", "/a", body=b"x").status, 500)
        self.assertIn("role", self.n.log())


class Waiting(NginxCase):
    """The answer is held until the daemon has confirmed; the loop is not."""

    def prepare(self, **options):
        self.started_front(**options)
        self.origin.documents["/a"] = Document('"v1"')
        self.fill("/a")

    def held(self, *asked, **options):
        """Asks in a thread; a list for the answer and the time it took."""
        got = []
        began = time.monotonic()

        def run():
            got.append(exchange(self.port, *asked, **options))
            got.append(time.monotonic() - began)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.addCleanup(thread.join, bound(30))
        return got, thread

    def test_a_stopped_daemon(self):
        """The answer comes through the spool, after its wait; meanwhile the worker serves others."""
        self.prepare()
        self.d.signal(signal.SIGSTOP)
        got, thread = self.held("PUT", "/a", body=b"new")
        wait_until(lambda: self.origin.count("/a") == 2, 10, "the write reaches the upstream")
        others = 0
        while not got:
            began = time.monotonic()
            ask(self.port, "GET", "/b")
            self.assertLess(time.monotonic() - began, bound(0.4))
            others += 1
        thread.join()
        self.assertTrue(got[0].startswith(b"HTTP/1.1 204 "), got[0])
        self.assertGreater(got[1], self.LEASE_MS / 1000)
        self.assertLess(got[1], bound(2))
        self.assertGreater(others, 20)
        self.d.signal(signal.SIGCONT)
        wait_until(lambda: self.d.status()["spool_waiting"] == 0, 10, "the daemon goes on")
        wait_until(lambda: self.get("/a").status == 200 and self.logged()[0] != "OFFLINE", 10, "the lease is back")
        self.assertNoHit("/a", '"v1"')

    def test_a_confirmation_that_comes_with_a_fill(self):
        """Each call of libetag may read it from the socket: then no event tells of it any more."""
        self.prepare()
        numbers = itertools.count()

        def fill(_):
            path = f"/fill/{next(numbers)}"
            self.origin.documents[path] = Document('"v1"')
            ask(self.port, "GET", path)
        load = Load(6, fill)
        for _ in range(150):
            began = time.monotonic()
            self.assertEqual(put(self.port, "/a").status, 204)
            self.assertLess(time.monotonic() - began, bound(5))
        self.assertEqual(load.end(), [])

    def test_a_dead_daemon_and_another_one(self):
        self.prepare()
        self.d.kill()
        self.assertEqual(put(self.port, "/a").status, 204)
        self.d.start()
        self.with_the_new_memory()
        self.assertNoHit("/a", '"v1"')
        self.assertKnownToBeOld()

    def assertKnownToBeOld(self):
        """Stale; or no entry, where it was loaded only after the spool was read: under load."""
        self.assertIn(self.logged()[0], ("STALE", "MISS"))

    def with_the_new_memory(self):
        """The daemon serves while it still loads entries."""
        wait_until(lambda: self.get("/b").status and self.logged()[0] != "OFFLINE", 10, "the worker has it")
        wait_until(lambda: not self.d.status()["loading"], 10, "the entries are there")

    def test_bodies(self):
        """What comes while the answer is held comes whole, however nginx buffers it."""
        big = os.urandom(300_000)
        for buffering in ("proxy_buffering on;", "proxy_buffering off;", "proxy_buffers 2 4k; proxy_buffer_size 4k; proxy_busy_buffers_size 4k;",
                          "proxy_max_temp_file_size 0; proxy_buffers 2 4k; proxy_buffer_size 4k; proxy_busy_buffers_size 4k;",
                          "gzip on; gzip_types *;"):
            for status, body in ((200, big), (201, b""), (204, b""), (200, b"small")):
                with self.subTest(buffering=buffering, status=status, length=len(body)):
                    self.bodies(buffering, status, body)

    def bodies(self, buffering, status, body):
        if not hasattr(self, "d"):
            self.prepare(location=buffering)
        elif self.buffering != buffering:
            self.n.end()
            self.n = self.front(location=buffering).start(self.port)
            self.warm_up()
        self.buffering = buffering
        self.origin.writes["/w"] = (status, [("Content-Type", "text/plain")], body)
        before = self.origin.count("/w")
        self.d.signal(signal.SIGSTOP)
        got, thread = self.held("POST", "/w", body=b"x")
        wait_until(lambda: self.origin.count("/w") > before, 10, "asked")
        time.sleep(0.1)
        early = list(got)
        self.d.signal(signal.SIGCONT)
        thread.join(bound(20))
        self.assertEqual(early, [])
        head, _, sent = got[0].partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 %d " % status), head)
        self.assertEqual(sent, body)

    def test_http_2(self):
        self.prepare(server="listen 127.0.0.1:$HTTP2 http2;")
        for status, body in ((204, b""), (200, b"x" * 100_000)):
            self.origin.writes["/a"] = (status, [], body)
            self.d.signal(signal.SIGSTOP)
            curl = subprocess.Popen(["curl", "-s", "-i", "--http2-prior-knowledge", "-X", "POST", "-d", "x", "-H", "Host: localhost",
                                     f"http://127.0.0.1:{self.port2}/a"], stdout=subprocess.PIPE)
            time.sleep(0.2)
            early = curl.poll()
            self.d.signal(signal.SIGCONT)
            said = curl.communicate(timeout=bound(20))[0]
            self.assertIsNone(early)
            self.assertEqual(curl.returncode, 0)
            head, _, sent = said.partition(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/2 %d" % status), head)
            self.assertEqual(sent, body)
            self.assertNoHit("/a", '"v1"')
            self.get("/a")
            self.sync()
            self.assertHit("/a", '"v1"')

    def test_the_client_goes_away_while_it_waits(self):
        self.prepare()
        self.d.signal(signal.SIGSTOP)
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"PUT /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
            wait_until(lambda: self.origin.count("/a") == 2, 10, "the write reaches the upstream")
            time.sleep(0.1)
        self.d.signal(signal.SIGCONT)
        # Nobody has an answer, so nothing was promised; but it is done.
        wait_until(lambda: not self.is_hit("/a", '"v1"') and self.logged()[0] == "STALE", 10, "it is invalidated")

    def assertNoHit_soon(self):
        wait_until(lambda: self.get("/b").status and self.logged()[0] != "OFFLINE", 10, "the lease is back")
        self.assertNoHit("/a", '"v1"')

    def test_a_worker_that_shuts_down_waits_too(self):
        self.prepare()
        self.d.signal(signal.SIGSTOP)
        got, thread = self.held("PUT", "/a", body=b"new")
        wait_until(lambda: self.origin.count("/a") == 2, 10, "the write reaches the upstream")
        self.n.reload()
        thread.join(bound(20))
        self.assertTrue(got[0].startswith(b"HTTP/1.1 204 "), got[0])
        self.d.signal(signal.SIGCONT)
        self.assertNoHit_soon()

    def test_a_worker_that_shuts_down_leaves_no_write_untold(self):
        """Its client is gone and the daemon is stopped: only the worker knows of it, until it stands in the spool."""
        self.prepare()
        former = self.n.worker_pids()
        self.d.signal(signal.SIGSTOP)
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"PUT /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
            wait_until(lambda: self.origin.count("/a") == 2, 10, "the write reaches the upstream")
            time.sleep(0.05)
        self.n.reload()
        wait_until(lambda: not set(former) & set(self.n.worker_pids()), 10, "the former worker ends")
        self.d.restart()
        self.assertNoHit_soon()
        self.assertKnownToBeOld()

    def without_daemon_and_spool(self, rule):
        self.prepare(location=f"etag_cache_invalidate_failure {rule}; etag_cache_invalidate_timeout 400ms;")
        self.d.kill()
        shutil.rmtree(os.path.join(self.directory, "spool"))
        self.origin.writes["/w"] = (200, [("X-Other", "1"), ("Set-Cookie", "a=b")], b"x" * 50_000)
        began = time.monotonic()
        answer = self.ask("POST", "/w", body=b"x")
        self.assertLess(time.monotonic() - began, bound(2))
        return answer

    def test_what_cannot_be_confirmed_is_an_error(self):
        answer = self.without_daemon_and_spool("error")
        self.assertEqual((answer.status, answer.fields[b"cache-control"], answer.fields[b"x-other"]), (500, [b"no-store"], []))
        self.assertTrue(answer.body.startswith(b"The request was carried out, but"), answer.body)
        self.assertEqual(int(answer.fields[b"content-length"][0]), len(answer.body))
        self.assertIn("[error]", self.n.log())
        self.assertEqual(self.get("/a").status, 200)

    def test_or_passes(self):
        answer = self.without_daemon_and_spool("pass")
        self.assertEqual((answer.status, answer.fields[b"x-other"], len(answer.body)), (200, [b"1"], 50_000))
        self.assertRegex(self.n.log(), r'\[error\].*etag_cache: .*request: "POST /w ')

    def test_what_pass_costs(self):
        """docs/nginx.md: a daemon that starts again knows nothing of a write of which nobody was told. (The other rule only says so.)"""
        self.without_daemon_and_spool("pass")
        self.assertEqual(put(self.port, "/a").status, 204)
        self.d.start()
        self.with_the_new_memory()
        self.assertHit("/a", '"v1"')
        self.assertEqual(put(self.port, "/a").status, 204)  # repeated
        self.assertNoHit("/a", '"v1"')

    def test_too_little_time(self):
        """The daemon is stopped, and the time is over before the spool's wait is."""
        for rule, status in (("error", 500), ("pass", 200)):
            with self.subTest(rule=rule):
                if rule == "error":
                    self.prepare(location=f"etag_cache_invalidate_failure {rule}; etag_cache_invalidate_timeout 300ms;")
                else:
                    self.n.end()
                    self.n = self.front(location=f"etag_cache_invalidate_failure {rule}; etag_cache_invalidate_timeout 300ms;").start(self.port)
                    self.warm_up()
                self.origin.writes["/a"] = (200, [], b"x" * 20_000)
                self.d.signal(signal.SIGSTOP)
                began = time.monotonic()
                self.assertEqual(self.ask("POST", "/a", body=b"x").status, status)
                self.assertGreater(time.monotonic() - began, 0.25)
                self.assertRegex(self.n.log(), r'etag_cache: invalidation: .*request: "POST /a ')
                self.d.signal(signal.SIGCONT)
                # Nothing was promised, and the lease of before may still run.
                wait_until(lambda: not self.is_hit("/a", '"v1"') and self.logged()[0] == "STALE", 10, "it is invalidated")


class Faults(NginxCase):
    """Writers that check what they were promised, while things are killed."""

    def versions(self, workers=2, threads=4, **options):
        self.started_front(workers=workers, **options)
        for i in range(threads):
            self.origin.documents[f"/{i}"] = Document('"v1"', fields=[("Surrogate-Key", f"k{i}")])
        self.current = [1] * threads
        self.hits = 0

        def step(i):
            path, old = f"/{i}", self.current[i]
            self.check(i, old)
            answer = put(self.port, path, b"new %d" % old)
            assert answer.status == 204, answer
            self.current[i] = old + 1
            stale = ask(self.port, "GET", path, f'If-None-Match: "v{old}"')
            assert stale.status == 200 and stale.fields[b"etag"] == [b'"v%d"' % (old + 1)], stale
            for _ in range(3):
                self.check(i, old + 1)

        return Load(threads, step)

    def check(self, i, version):
        answer = ask(self.port, "GET", f"/{i}", f'If-None-Match: "v{version}"')
        assert answer.status == 304 and answer.fields[b"etag"] == [b'"v%d"' % version], answer
        full = ask(self.port, "GET", f"/{i}")
        assert full.status == 200 and full.fields[b"etag"] == [b'"v%d"' % version], full

    def count_hits(self):
        return sum(1 for line in self.n.lines() if line.split()[3] == "HIT")

    def test_two_workers(self):
        load = self.versions()
        wait_until(lambda: self.count_hits() > 50, 20, "hits")
        self.assertEqual(load.end(), [])
        self.assertEqual(len(self.n.worker_pids()), 2)

    def test_reload_under_load(self):
        load = self.versions()
        for _ in range(4):
            done = load.done
            wait_until(lambda: load.done > done + 3 or load.wrong, 20, "progress")
            self.n.reload()
        hits = self.count_hits()
        wait_until(lambda: self.count_hits() > hits or load.wrong, 20, "hits by the new workers")
        self.assertEqual(load.end(), [])
        wait_until(lambda: len(self.n.worker_pids()) == 2, 15, "the former workers end")
        wait_until(lambda: self.d.status()["peers"] <= 3, 10, "their connections end with them")

    def test_daemon_killed_and_restarted_under_load(self):
        load = self.versions()
        for _ in range(3):
            done = load.done
            wait_until(lambda: load.done > done + 3 or load.wrong, 20, "progress")
            self.d.kill()
            wait_until(lambda: load.done > done + 5 or load.wrong, 20, "progress without a daemon")
            self.d.start()
        hits = self.count_hits()
        wait_until(lambda: self.count_hits() > hits or load.wrong, 20, "hits again")
        before = [descriptors(pid) for pid in self.n.worker_pids()]
        self.assertEqual(load.end(), [])
        maps = [self.mappings(pid) for pid in self.n.worker_pids()]
        self.assertLessEqual(max(maps), 1, "a worker keeps the memory of a daemon that is gone")
        self.assertLess(max(before), 60)

    @staticmethod
    def mappings(pid):
        with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
            return len({line.split()[4] for line in file if "memfd:etagd" in line and "index" in line})

    def test_no_descriptor_is_left_behind(self):
        self.started_front()
        pid = self.n.worker_pids()[0]
        before = descriptors(pid)
        for _ in range(3):
            self.d.restart()
            wait_until(lambda: self.get("/b").status and self.logged()[0] != "OFFLINE", 10, "online again")
        self.assertEqual(descriptors(pid), before)

    def test_a_binary_upgrade_under_load(self):
        """nginx starts its successor only where its own parent is gone: here it is a daemon."""
        if SANITIZE:
            self.skipTest("nginx does not pass LD_PRELOAD on")
        load = self.versions(daemon=True)
        former = self.n.process
        former.send_signal(signal.SIGUSR2)
        wait_until(lambda: os.path.exists(self.n.pid_file() + ".oldbin") and os.path.exists(self.n.pid_file()), 10, "another master")
        self.n.process = self.n.master()
        self.assertNotEqual(self.n.process.pid, former.pid)
        wait_until(lambda: len(self.n.worker_pids()) == 2, 10, "its workers")
        former.send_signal(signal.SIGQUIT)
        former.wait()
        hits = self.count_hits()
        wait_until(lambda: self.count_hits() > hits + 10 or load.wrong, 20, "hits by the new program")
        self.assertEqual(load.end(), [])
        wait_until(lambda: self.d.status()["peers"] <= 3, 10, "the former workers' connections end with them")

    def test_a_killed_worker(self):
        self.started_front(workers=2)
        self.n.expected = "signal 9"
        self.origin.documents["/a"] = Document('"v1"')
        self.fill("/a")
        first = self.n.worker_pids()
        os.kill(first[0], signal.SIGKILL)
        wait_until(lambda: len(set(self.n.worker_pids()) - set(first)) == 1, 10, "another worker")
        wait_until(lambda: self.d.status()["peers"] <= 3, 10, "its connection ends with it")
        for _ in range(20):
            self.assertIn(self.get("/a", 'If-None-Match: "v1"').status, (200, 304))
        wait_until(lambda: self.is_hit("/a", '"v1"'), 10, "hits")

    def test_nginx_starts_without_a_daemon(self):
        self.with_origin()
        self.n = self.front().start(self.port)
        self.origin.documents["/a"] = Document('"v1"')
        self.assertEqual(self.get("/a").status, 200)
        self.assertEqual(self.logged()[:2], ["OFFLINE", "no_index"])
        self.d = self.started(lease_ms=self.LEASE_MS)
        wait_until(lambda: self.get("/a").status and self.logged()[0] != "OFFLINE", 10, "it finds the daemon")
        self.get("/a")
        self.sync()
        self.assertHit("/a", '"v1"')


if __name__ == "__main__":
    main()
