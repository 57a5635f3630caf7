# SPDX-License-Identifier: Apache-2.0
"""What a request may show and no statement of its own thread says: other threads, snapshots that are older than the request, what
the process keeps, files and the network. The site is django_process_site.py under gunicorn: one worker of one thread, one of
four; they and the test are the processes of one site. With --postgres on PostgreSQL, else on SQLite in WAL mode."""
import http.server
import os
import threading
import time
from unittest import mock

import django_site
import django_web
import harness
import postgres
from harness import Case, content_of, put_file, wait_until

django_site.require("django", "rest_framework")

POSTGRES = postgres.asked_for()
PLACE = django_site.temporary()
DAEMON = harness.Daemon(PLACE, linger_ms=3000)
os.environ.update(SITE_PLACE=PLACE, ETAGD_SOCKET=DAEMON.socket)
if POSTGRES:
    os.environ["SITE_PGHOST"] = POSTGRES.directory
import django_process_site as site  # noqa: E402
from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.contrib.flatpages.models import FlatPage  # noqa: E402
from django.contrib.sites.models import Site  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.db.models import F  # noqa: E402
from django.test import Client  # noqa: E402
from etagd.django import process  # noqa: E402


class Web(django_web.Web):
    ALIVE = "/schedule/?period=0", 200

    def __init__(self, name, threads, **environment):
        super().__init__(PLACE, name, **environment)
        self.threads = str(threads)

    def start(self):
        return self.gunicorn("django_process_site:application", "-w", "1", "--threads", self.threads)


ONE, MANY = Web("one", 1), Web("many", 4)


def setUpModule():
    DAEMON.start()
    for folder, name, text in (("media", "notice", "first"), ("templates", "fragment.html", "{% load cache %}{% cache 500 p %}{{ prices }}{% endcache %}"),
                               ("templates", "plain.html", "{{ prices }}"), ("templates", "late.html", "{{ prices }}"),
                               ("templates/flatpages", "default.html", "{{ flatpage.content }}")):
        os.makedirs(os.path.join(PLACE, folder), exist_ok=True)
        put_file(os.path.join(PLACE, folder, name), text)
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
    call_command("migrate", verbosity=0)
    django_site.create(site.Anchor, site.Price)
    for name in ("bread", "milk", "wine"):
        site.Price.objects.create(name=name)
    site.Anchor.objects.create()
    for web in (ONE, MANY):
        web.start()
    for web in (ONE, MANY):
        web.serving()


def tearDownModule():
    for web in (ONE, MANY):
        web.end()
    connection.close()
    DAEMON.end()


def change():
    site.Price.objects.update(cents=F("cents") + 1)


class Pages(Case):
    def known(self, path, web=MANY):
        def hit():
            etag = web.ask(path).etag
            return etag if web.ask(path, etag).hit else None
        return wait_until(hit, 30, f"{path} is answered from the cache")

    def follows(self, path, web=MANY, turn=change):
        """It is stored, and new after the change."""
        etag = self.known(path, web)
        turn()
        for asked in (ONE, MANY):
            reply = asked.ask(path, etag)
            self.assertEqual(reply.status, 200, f"{path}: {reply}")
        self.known(path, web)

    def refused(self, path, reason, by="", web=MANY, turn=change, asked=(ONE, MANY)):
        """It is not stored, whoever asks, and says why."""
        for _ in range(2):
            reply = web.ask(path)
            self.assertEqual(reply.status, 200, reply)
            turn()
            for other in asked:
                self.assertFalse(other.ask(path, reply.etag).hit, f"an old body is known: {path} {reply}")
            self.assertRegex(reply.said, rf"^bypass; reason={reason}(;|$)", path)
            self.assertIn(by, reply.said)


class Threads(Pages):
    def test_threads_and_executors_of_a_request_are_its_own(self):
        for name in ("pool", "map", "thread", "thread-subclass", "loop"):
            with self.subTest(name):
                self.follows(f"/{name}/")

    def test_sql_of_a_thread_that_is_nobodys(self):
        for name, by in (("worker", "worker"), ("thread-pool", "Thread-"), ("left-thread", "left-behind"), ("pool-from-worker", "pool_"),
                         ("idle", "idle")):
            with self.subTest(name):
                MANY.ask(f"/{name}/")  # the one that starts the thread owns it
                self.refused(f"/{name}/", "other_thread", by)

    def test_threads_that_are_said_to_be_for_no_request(self):
        for name in ("busy", "said"):
            self.known(f"/{name}/")

    def test_another_process_of_the_request(self):
        for name, by in (("process", "ProcessPoolExecutor"), ("process-pool", "Pool")):
            with self.subTest(name):
                ONE.ask(f"/{name}/")  # this one makes it
                self.refused(f"/{name}/", "process", by, web=ONE, turn=lambda: None, asked=(ONE,))
        ONE.ask("/forget/")

    def test_a_thread_that_a_request_started_serves_the_one_beside_it(self):
        first = threading.Thread(target=MANY.ask, args=("/start-and-stay/",))
        first.start()
        self.addCleanup(first.join)
        self.addCleanup(MANY.ask, "/let-go/")
        reply = MANY.ask("/beside/")
        change()
        self.assertFalse(MANY.ask("/beside/", reply.etag).hit, f"an old body is known: {reply}")
        self.assertEqual(reply.said, "bypass; reason=other_thread; by=meanwhile")

    def test_what_a_pools_thread_reads_when_it_begins(self):
        """It is for whoever comes, also where a task for no request began it."""
        reply = MANY.ask("/begun-pool/")
        change()
        self.assertFalse(MANY.ask("/begun-pool/", reply.etag).hit, f"an old body is known: {reply}")
        self.assertRegex(reply.said, "^bypass; reason=other_thread; by=lazy")

    def test_a_scheduler_beside_requests(self):
        """In a process with such a thread nine of ten pages are stored that are stored without it."""
        began = time.monotonic()
        for number in range(20):
            ONE.ask(f"/prices/?warm={number}")
        each = (time.monotonic() - began) / 20
        ONE.ask(f"/schedule/?period={max(0.2, 30 * each)}")
        said = [ONE.ask(f"/prices/?page={number}").said for number in range(150)]
        ticks = int(ONE.ask("/schedule/?period=0").body)
        stored = sum("fill=none" in one for one in said)
        self.assertGreater(ticks, 1)
        self.assertGreaterEqual(stored, 135, [one for one in said if "fill=none" not in one])


class Snapshots(Pages):
    def test_a_result_that_an_earlier_request_left_unfinished(self):
        """In WAL mode the connection goes on to read the snapshot of its SELECT, and says that it is in no transaction."""
        for name in ("leave-open", "leave-driver-open", "leave-raw-open"):
            with self.subTest(name):
                self.addCleanup(ONE.ask, "/forget/")
                ONE.ask(f"/{name}/")
                change()
                old = ONE.ask("/prices/?" + name)
                reply = MANY.ask("/prices/?" + name, old.etag)
                if connection.vendor == "sqlite":
                    self.assertEqual(reply.status, 200, f"the snapshot's body is known: {old} {reply}")
                    self.assertRegex(old.said, "^bypass; reason=unfinished_cursor")
                    self.assertNotEqual(old.body, reply.body, "or this shows nothing")
                ONE.ask("/forget/")
                self.follows("/prices/?" + name, ONE)

    def test_rows_of_a_cursor_that_an_earlier_request_executed(self):
        for name in ("kept-cursor", "kept-raw-cursor", "kept-driver-cursor"):
            with self.subTest(name):
                ONE.ask("/forget/")
                first = ONE.ask(f"/{name}/")
                reply = ONE.ask(f"/{name}/")
                self.assertRegex(reply.said, "^bypass; reason=(kept_cursor|unfinished_cursor)", first)
        ONE.ask("/forget/")

    def test_rows_of_a_cursor_whose_thread_is_over(self):
        """So no connection of this thread's is in the middle of a result, and Django's around the driver's is gone."""
        self.addCleanup(ONE.ask, "/forget/")
        first = ONE.ask("/kept-thread-cursor/")
        self.assertRegex(first.said, "^miss.*fill=none")
        reply = ONE.ask("/kept-thread-cursor/")
        change()
        self.assertFalse(ONE.ask("/kept-thread-cursor/", reply.etag).hit, f"an old body is known: {reply}")
        self.assertRegex(reply.said, "^bypass; reason=kept_cursor", first)


class Own(Pages):
    """In the test's own process: a connection that comes to the request in some state."""

    def ask(self, path, etag=None):
        reply = Client().get(path, **({} if etag is None else {"HTTP_IF_NONE_MATCH": etag}), HTTP_HOST="testserver")
        self.said = reply["X-Etag-Cache"]
        return reply

    def stays_unknown(self, path, reason):
        for _ in range(2):
            self.ask(path)
            self.assertRegex(self.said, f"^bypass; reason={reason}")

    def test_a_transaction_from_before_the_token(self):
        isolation = " ISOLATION LEVEL REPEATABLE READ" if POSTGRES else ""
        with connection.cursor() as cursor:
            cursor.execute("BEGIN" + isolation)
        self.stays_unknown("/prices/", "in_transaction")
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")
        connection.set_autocommit(False)
        self.addCleanup(connection.set_autocommit, True)
        self.stays_unknown("/prices/", "in_transaction")
        connection.rollback()

    def test_persistent_connections_of_every_isolation(self):
        if not POSTGRES:
            return
        for level in ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"):
            connection.ensure_connection()
            driver = connection.connection
            if hasattr(driver, "set_session"):
                driver.set_session(isolation_level=level)
            else:
                import psycopg
                driver.isolation_level = psycopg.IsolationLevel[level.replace(" ", "_")]
            path = "/prices/?level=" + level.replace(" ", "-")
            reply = self.ask(path)
            wait_until(lambda: self.ask(path, reply["ETag"]).status_code == 304 and self.said.startswith("hit"), 20, path)
            change()
            self.assertEqual(self.ask(path, reply["ETag"]).status_code, 200, level)
        connection.close()

    def test_a_transaction_of_an_executors_thread(self):
        """The pool's thread began it in nobody's name, so the request, which reads there, reads its snapshot."""
        both = threading.Barrier(2)

        def begin():
            connection.set_autocommit(False)
            site.prices()
            both.wait()

        def end():
            both.wait()
            connection.rollback()
            connection.set_autocommit(True)
            connection.close()
        for started in [site.POOL.submit(begin) for _ in range(2)]:
            started.result()
        try:
            change()
            self.ask("/pool/")
            self.assertRegex(self.said, "^bypass; reason=in_transaction; by=default")
        finally:
            for worker in [site.POOL.submit(end) for _ in range(2)]:
                worker.result()

    def test_where_the_process_cannot_be_watched_nothing_is_stored(self):
        self.ask("/prices/")
        with mock.patch.multiple(process, _installed=False, _watched=True), mock.patch.object(process.threads, "install", None), \
                self.assertLogs("etagd.django", "ERROR"):
            self.stays_unknown("/prices/", "unwatched")
        self.ask("/prices/")
        self.assertNotIn("bypass", self.said)

    def test_a_request_of_its_own_transaction_is_stored(self):
        with transaction.atomic():
            site.prices()
        reply = self.ask("/prices/?own")
        wait_until(lambda: self.ask("/prices/?own", reply["ETag"]).status_code == 304, 20, "stored")


class Memory(Pages):
    def test_querysets_and_instances_of_an_earlier_request(self):
        for name, reason, by in (("kept-queryset", "kept_queryset", "shop.Price"), ("kept-count", "kept_queryset", "shop.Price"),
                                 ("kept-instance", "kept_instance", "shop.Price"), ("kept-copy", "kept_instance", "shop.Price"),
                                 ("lru-queryset", "kept_queryset", "shop.Price")):
            with self.subTest(name):
                ONE.ask(f"/{name}/")  # this one reads it
                self.refused(f"/{name}/", reason, by, web=ONE)

    def test_a_field_that_is_deleted_is_read_again(self):
        self.assertEqual(ONE.ask("/reloaded/").status, 200)
        self.follows("/reloaded/", ONE)

    def test_sites(self):
        def rename():
            Site.objects.filter(pk=1).update(name=F("domain"), domain=F("name"))
        Site.objects.filter(pk=1).update(name="a", domain="b")
        for name in ("site", "site-of-request"):
            with self.subTest(name):
                for web in (ONE, MANY):
                    self.follows(f"/{name}/", web, rename)

    def test_content_types(self):
        def rename():
            kind = ContentType.objects.get(pk=1)
            ContentType.objects.filter(pk=1).update(model=kind.model + "x")
        before = ContentType.objects.get(pk=1).model
        self.addCleanup(ContentType.objects.filter(pk=1).update, model=before)
        for web in (ONE, MANY):
            self.follows("/content-type/", web, rename)

    def test_the_low_level_cache(self):
        for name in ("cache", "own-cache", "cache-before", "fragment"):
            with self.subTest(name):
                self.refused(f"/{name}/", "django_cache")

    def test_what_is_in_no_representation(self):
        self.follows("/limited/")
        self.follows("/api/")

    def test_flatpages(self):
        page = FlatPage.objects.create(url="/flat/", content="0")
        page.sites.add(1)
        self.follows("/flat/", turn=lambda: FlatPage.objects.filter(pk=page.pk).update(content=str(time.monotonic())))

    def test_sessions_in_files(self):
        self.refused("/session/", "session")

    def test_templates(self):
        """They are of the release: kept from their first use on, and as old as the process."""
        self.follows("/plain-template/")
        self.refused("/uncached-template/", "template", "plain.html")
        put_file(os.path.join(PLACE, "templates", "late.html"), "changed {{ prices }}")
        reply = MANY.ask("/late-template/")
        self.assertIn(b"changed", reply.body)
        self.assertRegex(reply.said, "^bypass; reason=template; by=.*late.html")


class Remembering(Pages):
    def test_functions_that_remember_what_they_read(self):
        """From then on the process stores nothing, since a hit of lru_cache() runs nothing that could note it."""
        for name, by in (("lru", "django_process_site.remembered"), ("database-template", "django.template.loaders.cached.Loader")):
            with self.subTest(name):
                web = Web(name, 1).start()
                self.addCleanup(web.end)
                web.serving()
                self.follows("/lru-trusted/", web)
                for path in (f"/{name}/", f"/prices/?{name}"):
                    reply = web.ask(path)
                    change()
                    self.assertFalse(web.ask(path, reply.etag).hit, f"an old body is known: {reply}")
                    self.assertEqual(reply.said, "bypass; reason=memory; by=" + by)
        self.assertEqual(content_of(os.path.join(PLACE, "lru.log")).count("django_process_site.remembered remembers what it read"), 1)


    def test_one_that_ran_before_the_first_request(self):
        web = Web("early", 1, SITE_EARLY="1").start()
        self.addCleanup(web.end)
        web.serving()
        self.assertEqual(web.ask("/prices/?early").said, "bypass; reason=memory; by=django_process_site.early")


class Outside(Pages):
    @classmethod
    def setUpClass(cls):
        class Service(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            said = 0

            def do_GET(self):
                Service.said += 1
                body = f"{Service.said:08}".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

            def handle(self):
                try:
                    super().handle()
                except ConnectionError:
                    pass  # the site ended
        cls.service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
        cls.service.daemon_threads = True
        threading.Thread(target=cls.service.serve_forever, daemon=True).start()
        cls.addClassCleanup(cls.service.shutdown)

    @staticmethod
    def write():
        with open(os.path.join(PLACE, "media", "notice"), "a", encoding="utf-8") as file:
            file.write("x")

    def test_files(self):
        for name, by in (("file", "notice"), ("storage", "notice"), ("exists", "FileSystemStorage.exists"),
                         ("size", "FileSystemStorage.size"), ("listing", "media")):
            with self.subTest(name):
                self.refused(f"/{name}/", "file", by, turn=self.write)

    def test_a_file_beside_what_is_good_until_midnight(self):
        self.refused("/dated-file/", "file")

    def test_files_that_are_bounded_or_trusted(self):
        for name in ("trusted-file", "bounded-file", "temporary-file", "url", "environment"):
            self.known(f"/{name}/")

    def test_the_network(self):
        port = self.service.server_address[1]
        for name in ("fetch", "socket"):
            with self.subTest(name):
                self.refused(f"/{name}/?port={port}", "network", web=ONE)

    def test_programs(self):
        self.refused("/program/", "process", "true")


if __name__ == "__main__":
    harness.main()
