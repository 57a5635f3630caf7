# SPDX-License-Identifier: Apache-2.0
"""The example project under gunicorn: two workers, preloaded, and a real daemon. With --postgres on PostgreSQL, else SQLite."""
import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import django_site
import django_storm
import harness
import postgres
from django_web import Reply, Web  # noqa: F401
from harness import FACTOR, Case, beside, bound, put_file, together, wait_until

django_site.require("django", "rest_framework", "gunicorn")
POSTGRES = postgres.asked_for()

# Says which worker answered.
WSGI = """
import os
from project.wsgi import application as project

def application(environ, start_response):
    def start(status, headers, *more):
        return start_response(status, [*headers, ("X-Worker", str(os.getpid()))], *more)
    return project(environ, start)
"""
ASGI = """
import os
from project.asgi import application as project

async def application(scope, receive, send):
    async def start(message):
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"X-Worker", str(os.getpid()).encode())]
        await send(message)
    await project(scope, receive, start)
"""


class Gunicorn(Web):
    ALIVE = "/nowhere/", 404
    application, source = "tested_wsgi", WSGI

    def __init__(self, directory, daemon, threads=1):
        super().__init__(directory, ETAGD_SOCKET=daemon.socket, DJANGO_SETTINGS_MODULE="project.settings",
                         UPLOADS_DB=os.path.join(directory, "uploads.sqlite3"))
        self.threads = threads
        put_file(os.path.join(directory, f"{self.application}.py"), self.source)
        if POSTGRES:
            self.environment.update(UPLOADS_PGHOST=POSTGRES.directory, UPLOADS_PGDATABASE="etagd")

    def manage(self, *args, check=True):
        done = subprocess.run([sys.executable, os.path.join(django_site.PROJECT, "manage.py"), *args], env=self.environment,
                              cwd=self.place, capture_output=True, text=True, check=False, timeout=bound(120))
        if check and done.returncode != 0:
            raise AssertionError(done.stdout + done.stderr)
        return done

    def shell(self, code):
        return self.manage("shell", "-c", code)

    def start(self):
        return self.serve(f"{self.application}:application").serving()

    def serve(self, application):
        return self.gunicorn(application, "--preload", "-w", "2", "--threads", str(self.threads))

    def ask(self, path, etag=None, method="GET", data=None, token="operator-7", **headers):
        return super().ask(path, etag, method, data, Authorization=f"Token {token}", **headers)

    def by(self, worker, *args, **how):
        """Asks until this worker answers; worker: a pid, or minus one: any but that."""
        for _ in range(1000):
            reply = self.ask(*args, **how)
            if (reply.worker == worker) if worker > 0 else (reply.worker != -worker):
                return reply
        raise AssertionError("this worker does not answer")


class Uvicorn(Gunicorn):
    """The same under ASGI: two workers, each with its event loop and a thread for each request's connections."""
    application, source = "tested_asgi", ASGI

    def serve(self, application):
        self.environment["UPLOADS_PG_AGE"] = "0"  # a request's thread is gone after it
        return self.spawn("-m", "uvicorn", "--workers", "2", "--uds", self.socket, "--log-level", "warning", "--no-access-log", application)


class Workers(Case):
    LIST, DETAIL = "/api/v1/uploads/", "/api/v1/uploads/{}/"

    @classmethod
    def setUpClass(cls):
        cls.etagd = cls.shared_daemon(linger_ms=3000)
        cls.web = Gunicorn(cls.place, cls.etagd)
        cls.web.manage("migrate", "-v0")
        cls.web.manage("seed", "--uploads", "20")
        cls.web.start()
        cls.addClassCleanup(cls.web.end)
        rows = json.loads(cls.web.ask(cls.LIST).body)["results"]
        cls.row, cls.detail = rows[0], cls.DETAIL.format(rows[0]["id"])

    def setUp(self):
        super().setUp()
        if self.etagd.process.poll() is not None:
            self.etagd.fresh = False
            self.etagd.start()

    def known(self, path, **how):
        """Its ETag, once any worker answers it from the cache."""
        def hit():
            etag = self.web.ask(path, **how).etag
            return etag if self.web.ask(path, etag, **how).hit else None
        return wait_until(hit, 20, f"{path} is answered from the cache")

    def put(self, status, worker=None, **headers):
        row = {**self.row, "status": status}
        if worker is None:
            return self.web.ask(self.detail, method="PUT", data=row, **headers)
        return self.web.by(worker, self.detail, method="PUT", data=row, **headers)

    def test_both_workers_answer_what_one_rendered(self):
        for path in (self.LIST, self.detail):
            etag = self.known(path)
            first = self.web.ask(path, etag)
            second = self.web.by(-first.worker, path, etag)
            for reply in (first, second):
                self.assertEqual((reply.status, reply.hit, reply.body), (304, True, b""))
                self.assertEqual(reply.head.getheader("Cache-Control"), "max-age=60, must-revalidate")

    def test_a_write_in_one_worker_is_seen_by_the_other_at_once(self):
        first = self.web.ask(self.LIST).worker
        second = self.web.by(-first, self.LIST).worker
        for i in range(15):
            writer, reader = (first, second) if i % 2 else (second, first)
            listed, etag = self.known(self.LIST), self.known(self.detail)
            self.assertTrue(self.web.by(reader, self.detail, etag).hit)
            written = self.put(f"w{i}", writer)
            self.assertEqual(written.status, 200, written)
            for path, old in ((self.detail, etag), (self.LIST, listed)):
                reply = self.web.by(reader, path, old)
                self.assertEqual(reply.status, 200, f"{i}: {reply}")
                self.assertIn(f'"w{i}"'.encode(), reply.body)

    def test_readers_and_a_writer_together(self):
        """A version that was answered never comes back after the next one was."""
        last, wrong, stop = [0], [], threading.Event()

        def read():
            etag, seen = None, 0
            while not stop.is_set():
                before = last[0]
                reply = self.web.ask(self.detail, etag)
                if reply.status == 200:
                    etag, seen = reply.etag, int(re.search(rb'"row_count":(\d+)', reply.body).group(1))
                if seen < before:
                    wrong.append((reply.status, seen, before, reply.said))
        self.put("counting")
        self.web.ask(self.detail, method="PATCH", data={"row_count": 1})
        with beside(*[read] * 3, stop=stop):
            for count in range(2, 60):
                reply = self.web.ask(self.detail, method="PATCH", data={"row_count": count})
                self.assertEqual(reply.status, 200, reply)
                last[0] = count
                time.sleep(0.02)
        self.assertEqual(wrong, [])

    def test_another_customer_and_a_revoked_user(self):
        for path in (self.LIST, self.detail):
            etag = self.known(path)
            for condition in (etag, "*"):
                reply = self.web.ask(path, condition, token="operator-8")
                if condition == etag or path == self.detail:
                    self.assertEqual(reply.status, 200 if path == self.LIST else 404, reply)
        etag = self.known(self.LIST, token="viewer-7")
        change = "from uploads.models import Profile; Profile.objects.filter(user__username='viewer-7').update(role='{}')"
        self.web.shell(change.format("revoked"))
        for _ in range(10):
            self.assertEqual(self.web.ask(self.LIST, etag, token="viewer-7").status, 403)
        self.web.shell(change.format("viewer"))
        self.assertEqual(self.web.ask(self.LIST, etag, token="viewer-7").status, 304)

    def test_rollback_keeps_304(self):
        etag = self.known(self.LIST)
        self.web.shell("from django.db import transaction; from uploads.models import Upload\n"
                       "with transaction.atomic():\n    Upload.objects.update(status='no'); transaction.set_rollback(True)")
        self.assertTrue(self.web.ask(self.LIST, etag).hit)
        refused = self.web.ask(self.detail, method="PUT", data={**self.row, "filename": ""})
        self.assertEqual(refused.status, 400)
        self.assertTrue(self.web.ask(self.LIST, etag).hit)

    def test_lost_updates(self):
        etag = self.known(self.detail)
        replies = []

        def write(number):
            replies.append(self.put(f"u{number}", **{"If-Match": etag}).status)
        together(*(functools.partial(write, number) for number in range(4)))
        self.assertEqual(sorted(replies), [200, 412, 412, 412])

    def test_daemon_killed(self):
        etag, listed = self.known(self.detail), self.known(self.LIST)
        self.etagd.ctl("sync")
        self.etagd.kill()
        time.sleep(self.etagd.lease_ms / 1000 + 0.1)
        reply = self.web.ask(self.detail, etag)
        self.assertEqual((reply.status, reply.hit), (304, False), "rendered, as by Django's own middleware")
        self.assertEqual(self.put("while-down").status, 200)
        reply = self.web.ask(self.detail, etag)
        self.assertEqual(reply.status, 200)
        self.etagd.fresh = False
        self.etagd.start()
        for path, old in ((self.detail, etag), (self.LIST, listed)):
            for _ in range(20):
                self.assertEqual(self.web.ask(path, old).status, 200)
        self.assertNotEqual(self.known(self.detail), etag)

    def test_daemon_killed_between(self):
        for i in range(3):
            etag = self.known(self.detail)
            killer = threading.Timer(0.005 * i, self.etagd.kill)
            killer.start()
            self.assertEqual(self.put(f"k{i}").status, 200)
            killer.join()
            self.assertEqual(self.web.ask(self.detail, etag).status, 200)
            self.etagd.fresh = False
            self.etagd.start()
            self.assertEqual(self.web.ask(self.detail, etag).status, 200)

    def test_worker_killed(self):
        etag = self.known(self.detail)
        os.kill(self.web.ask(self.detail).worker, signal.SIGKILL)
        wait_until(lambda: self.web.ask(self.detail, etag).hit, 20, "its successor answers too")
        first = self.web.ask(self.detail).worker
        self.assertTrue(self.web.by(-first, self.detail, etag).status == 304)

    def test_storm(self):
        storm = django_storm.Storm(self.web, self.etagd, 8 * FACTOR, 7, django_storm.rows_of(self.web)).run()
        self.assertEqual(storm.wrong, [])
        for what in ("writes", "200", "304 from etagd", "daemon kills", "worker kills"):
            self.assertGreater(storm.counts[what], 0, storm.counts)

    def test_commands(self):
        etag = self.known(self.LIST)
        self.assertIn("etagd answers", self.web.manage("etagd_status").stdout)
        for named in (("--model", "uploads.Upload"), ("--family", "uploads.upload")):
            self.web.manage("etagd_purge", *named)
            reply = self.web.ask(self.LIST, etag)
            self.assertEqual((reply.status, reply.hit), (304, False))
            self.assertIn("reason=stale", reply.said)
            etag = self.known(self.LIST)

    def test_explain_takes_the_key_of_the_header(self):
        self.known(self.LIST)
        reply = self.web.ask(self.LIST, '"x"')
        words = reply.said.partition("key=")[2]
        explained = subprocess.run(f"{harness.ETAGCTL} --socket {self.etagd.socket} explain {words}", shell=True, check=False,
                                   capture_output=True, text=True)
        self.assertEqual(explained.returncode, 0, explained)
        self.assertIn("valid", explained.stdout)

    def test_caching_tests_of_the_project(self):
        done = self.web.manage("test", "--noinput", "uploads", check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, r"Ran (1[89]|[2-9]\d) tests")


if __name__ == "__main__":
    harness.main()
