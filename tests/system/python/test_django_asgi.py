# SPDX-License-Identifier: Apache-2.0
"""Django on an event loop, under a real uvicorn, and in greenlets, under gunicorn with gevent workers. Also by a newer Django, where the
Python that runs it has one."""
import json
import os
import subprocess
import sys
import threading
import unittest

import django_site
import harness
from django_web import HERE, Web
from harness import Case, bound, together, wait_until

django_site.require("django")
import django  # noqa: E402

try:
    import uvicorn
except ImportError:
    uvicorn = None
try:
    import gevent
    import gunicorn  # noqa: F401
except ImportError:
    gevent = None


class Server(Case):
    OUTER = "async"
    WANTED = None  # the module that serves, None where it is missing
    COMMAND = ()

    @classmethod
    def setUpClass(cls):
        if cls.WANTED is None:
            raise unittest.SkipTest(f"{cls.COMMAND[1]} is missing, or what it needs")
        cls.etagd = cls.shared_daemon(linger_ms=3000)
        cls.web = Web(cls.place, ETAGD_SOCKET=cls.etagd.socket, LOOP_DB=os.path.join(cls.place, "db.sqlite3"), LOOP_OUTER=cls.OUTER)
        cls.web.ALIVE = "/calls/", 200
        cls.ask, cls.environment = cls.web.ask, cls.web.environment
        subprocess.run([sys.executable, os.path.join(HERE, "django_loop.py")], env=cls.environment, check=True, timeout=bound(60))
        cls.addClassCleanup(cls.web.end)
        cls.web.take_port()
        cls.web.spawn(*(word.format(port=cls.web.port) for word in cls.COMMAND)).serving()

    def known(self, path, **headers):
        """Its ETag, answered from the cache."""
        first = self.ask(path, **headers)
        self.assertEqual(first.status, 200, first)
        self.etagd.ctl("sync")
        second = self.ask(path, first.etag, **headers)
        self.assertTrue(second.hit and second.status == 304, (path, first, second))
        return first.etag

    def write(self, text):
        self.assertEqual(self.ask(f"/write/?text={text}").body, text.encode())

    def becomes_stale(self, name, text):
        path = f"/{name}/"
        etag = self.known(path)
        self.write(text)
        after = self.ask(path, etag)
        self.assertEqual(after.status, 200, after)
        self.assertIn(text.encode(), after.body)

    def never_stored(self, name):
        first = self.ask(f"/{name}/")
        self.assertEqual(first.status, 200, first)
        self.etagd.ctl("sync")
        second = self.ask(f"/{name}/", first.etag)
        self.assertFalse(second.hit, second)
        return second

    def read_in_a_gate(self, name):
        """The middleware before ours has read, and waits; a write is done; then the page is made of what was read."""
        gate = os.path.join(self.place, f"gate-{name}-{self.id()}")
        replies = []
        late = threading.Thread(target=lambda: replies.append(self.ask(f"/{name}/", X_Gate=gate)))
        late.start()
        wait_until(lambda: os.path.exists(gate + ".waits"), 20, "the middleware waits")
        subprocess.run([sys.executable, "-c", "import django_loop as s; s.Banner.objects.filter(pk=1).update(text='newer')"],
                       env=self.environment, check=True, timeout=bound(60))
        with open(gate, "w", encoding="ascii"):
            pass
        late.join()
        self.assertEqual(replies[0].status, 200, replies)
        self.etagd.ctl("sync")
        return replies[0]


class Loop(Server):
    """uvicorn; the middleware before ours is a coroutine's."""

    WANTED, COMMAND = uvicorn, ("-m", "uvicorn", "--port", "{port}", "--log-level", "warning", "django_loop:application")

    def test_what_an_outer_middleware_read_counts(self):
        self.becomes_stale("outer", "outer-1")

    def test_what_an_outer_middleware_read_before_a_write_is_not_stored(self):
        self.write("older")
        late = self.read_in_a_gate("outer")
        self.assertIn(b"older", late.body)
        after = self.ask("/outer/", late.etag)
        self.assertEqual(after.status, 200, after)
        self.assertIn(b"newer", after.body)

    def test_plain_and_coroutine_views(self):
        for name in ("async", "sync", "private", "by-database", "condition-cached"):
            with self.subTest(name):
                headers = {"X_User": "seven"} if name == "private" else {}
                path = f"/{name}/"
                self.ask("/calls/")
                etag = self.known(path, **headers)
                self.assertEqual(json.loads(self.ask("/calls/").body), [path], "a hit runs no view")
                self.write(f"{name}-1")
                after = self.ask(path, etag, **headers)
                self.assertEqual(after.status, 200, after)
                self.assertIn(f"{name}-1".encode(), after.body)
        self.assertEqual(self.ask("/private/", self.known("/private/", X_User="seven"), X_User="eight").hit, False)
        self.assertIn("no_scope", self.ask("/private/").said)

    def test_condition_of_coroutines(self):
        self.write("conditional")
        first = self.ask("/condition/")
        self.assertEqual((first.status, first.etag), (200, '"v-conditional"'), first)
        self.assertEqual(self.ask("/condition/", first.etag).status, 304)
        self.assertEqual(self.ask("/condition/", method="PUT", If_Match='"x"').status, 412)

    def test_classes_of_coroutines(self):
        if django.VERSION < (4, 1):
            self.skipTest("Django 4.1 has them first")
        for name in ("by-decorator", "by-class"):
            with self.subTest(name):
                self.becomes_stale(name, f"{name}-1")

    def test_what_is_read_beside_the_view_is_noted(self):
        for name in ("gather", "to-thread", "task", "back-and-forth"):
            with self.subTest(name):
                self.becomes_stale(name, f"{name}-1")

    def test_a_task_that_a_request_left_behind(self):
        self.assertEqual(self.ask("/leave/").body, b"left")
        self.assertIn("reason=other_thread", self.never_stored("of-left").said)

    def test_a_future_that_another_request_began(self):
        self.assertRegex(self.ask("/shared-future/").said, "^miss.*fill=none")
        self.write("after-the-flight")
        self.assertIn("reason=other_request; by=Future", self.never_stored("shared-future").said)

    def test_streams_are_not_stored(self):
        self.assertIn("reason=streaming", self.never_stored("stream").said)

    def test_a_page_made_of_another_page_is_not_stored(self):
        self.assertIn("reason=inner_request", self.never_stored("inner").said)
        self.assertIn("reason=inner_request", self.never_stored("inner-sync").said)

    def test_the_method_that_came(self):
        etag = self.known("/sync/")
        for method in ("get", "Get", "head"):
            with self.subTest(method):
                self.assertNotEqual(self.ask("/sync/", etag, method=method).status, 304)
        self.write("by-method")
        self.ask("/sync/", method="get")
        self.etagd.ctl("sync")
        self.assertFalse(self.ask("/sync/", "*").hit, "it was not stored")

    def test_many_requests_share_connections(self):
        before = self.etagd.status()["clients.connects"]
        names = ("sync", "async", "gather", "outer")
        etags = {name: self.known(f"/{name}/") for name in names}

        def some():
            for name in names * 5:
                reply = self.ask(f"/{name}/", etags[name])
                if not reply.hit:
                    missed.append((name, reply))
        missed = []
        together(*[some] * 4)
        self.assertEqual(missed, [])
        self.assertLess(self.etagd.status()["clients.connects"] - before, 20)


class LoopAfterThreads(Loop):
    """The middleware before ours is a plain one, so ours runs on a thread."""

    OUTER = "sync"

    @classmethod
    def setUpClass(cls):
        if django.VERSION < (4, 0):
            raise unittest.SkipTest("a plain middleware around coroutines stops there where two requests meet, with or without us")
        super().setUpClass()


class Greenlets(Server):
    """gunicorn with a gevent worker."""

    WANTED, COMMAND = gevent, ("-m", "gunicorn", "-k", "gevent", "-w", "1", "--bind", "127.0.0.1:{port}", "django_loop:wsgi")

    def test_what_an_outer_middleware_read_counts(self):
        self.becomes_stale("outer", "outer-1")

    def test_what_an_outer_middleware_read_before_a_write_is_not_stored(self):
        self.write("older")
        late = self.read_in_a_gate("outer")
        self.assertIn(b"older", late.body)
        self.assertEqual(self.ask("/outer/", late.etag).status, 200)

    def test_writes_are_seen_at_once(self):
        for number in range(3):
            self.becomes_stale("sync", f"sync-{number}")

    def test_many_requests_share_connections(self):
        etag = self.known("/sync/")
        before = self.etagd.status()["clients.connects"]

        def some():
            for _ in range(25):
                if not self.ask("/sync/", etag).hit:
                    missed.append(1)
        missed = []
        together(*[some] * 4)
        self.assertEqual(missed, [])
        self.assertLess(self.etagd.status()["clients.connects"] - before, 10, "of 100 requests")


if __name__ == "__main__":
    harness.main()
