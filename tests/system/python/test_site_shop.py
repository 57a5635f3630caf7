# SPDX-License-Identifier: Apache-2.0
"""The life of a shop (sites/shop_site.py): its pages are stored and answered 304, and no write of any kind, from wherever, leaves an old
answer. Built from docs/django.md by somebody who had not seen the code; what was found then is in it. On PostgreSQL alone."""
import datetime
import decimal
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import django_site
import harness
import postgres
from django_web import Page, Web
from harness import Case, wait_until

django_site.require("django", "gunicorn")
if "--postgres" not in sys.argv:
    print("skipped: the shop is on PostgreSQL (--postgres)")
    sys.exit(harness.SKIP)
POSTGRES = postgres.asked_for()
PLACE = tempfile.mkdtemp(prefix="etagd-shop-")
POSTGRES.run("createdb", "archive")


def database(name):
    made = {**POSTGRES.django(name), "CONN_MAX_AGE": 0}
    if made["OPTIONS"].get("pool"):
        made["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 20}}  # a request's threads have connections of their own
    return made


os.environ.update(ETAGD_SOCKET=os.path.join(PLACE, "etagd.sock"), SHOP_PLACE=PLACE,
                  SHOP_DATABASES=json.dumps({"default": database("etagd"), "archive": database("archive")}))

import shop_site as site  # noqa: E402
from django.core import signing  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, connections  # noqa: E402
from etagd.django import clock, kept, process, reads  # noqa: E402
from etagd.django.postgres import routines  # noqa: E402

PSYCOPG3 = sys.modules.get("psycopg") is not None
POOL = PSYCOPG3 and bool(connection.settings_dict["OPTIONS"].get("pool"))
STOCK = ["more", "job", "bulk", "in_thread", "both", "manual", "raw", "lines"] + ["blocks", "two_phases", "cursor_of_its_own"] * PSYCOPG3 + ["from_pool", "from_pool_later"] * POOL


class Workers(Web):
    ALIVE, REPLY = ("orders-1", 200), Page

    def __init__(self, name="web", count=2):
        super().__init__(PLACE, name)
        self.gunicorn("shop_site:application", "-w", str(count), "--threads", "4").serving()

    def ask(self, path, etag=None, cookie=None):
        return super().ask(path if path.startswith("/") else f"/{path}/", etag, **({"Cookie": cookie} if cookie else {}))


class Shop(Case):
    SHARED = "bypass; reason=other_request"

    @classmethod
    def setUpClass(cls):
        cls.etagd = harness.Daemon(PLACE, linger_ms=3000)
        cls.addClassCleanup(cls.etagd.end)
        cls.etagd.start()
        call_command("migrate", verbosity=0)
        site.create()
        cls.addClassCleanup(connections.close_all)
        cls.web = Workers()
        cls.addClassCleanup(cls.web.end)

    def write(self, name):
        reply = self.web.ask(f"/write/{name}/")
        self.assertEqual(reply.status, 200, f"{name}: {reply}")

    def stored(self, page, cookie=None):
        def hit():
            first = self.web.ask(page, cookie=cookie)
            again = self.web.ask(page, first.etag, cookie)
            self.assertFalse(again.said.startswith("bypass"), f"{page}: {again}")
            return first if again.said.startswith("hit") else None
        return wait_until(hit, 10, f"{page} is stored")

    def is_new(self, page, old, by, cookie=None):
        for _ in range(4):
            new = self.web.ask(page, old.etag, cookie)
            self.assertEqual(new.status, 200, f"{page}: 304 for {old.body!r} after {by}, by {new.said}")
            self.assertNotEqual(new.body, old.body, f"{page} after {by}")

    def changes(self, page, *writes):
        for name in writes:
            with self.subTest(page=page, write=name):
                old = self.stored(page)
                self.write(name)
                self.is_new(page, old, name)

    def refused(self, page, reason):
        for _ in range(2):
            reply = self.web.ask(page)
            self.assertEqual(reply.status, 200, reply)
            self.assertTrue(reply.said.startswith(f"bypass; reason={reason}"), reply)

    def test_pages_of_stock(self):
        self.changes("stock", *STOCK)
        for page in ("stocks", "sum", "available", "in-threads", "sharing"):
            self.changes(page, "more", "raw", "lines")

    def test_pages_of_prices_orders_and_uploads(self):
        for page in ("price", "price-by-orm", "prices-today"):
            self.changes(page, "price", "dearer")
        self.changes("orders-1", "order", "moves", "moves")
        self.changes("image", "upload")
        self.changes("archived", "both", "archive")
        self.refused("image-size", "file")
        self.refused("random", "")  # whatever says so
        if PSYCOPG3:
            self.changes("own-cursor", "more")

    def test_what_the_database_calls_by_itself(self):
        """A default, a check, a view, a trigger by a name in quotes, one with an escaped quote before its UPDATE."""
        self.changes("counter", "invoice", "checked", "numbers", "renamed")
        self.changes("stock", "quoted", "quoted_by_orm")

    def test_what_another_server_replicates(self):
        """PostgreSQL's own workers write it, some time after the shop did."""
        old = self.stored("replicated")
        self.write("replicate")
        self.refused("replicated", "replica")
        wait_until(lambda: self.web.ask("replicated", old.etag).status == 200, 20, "the row is there")
        self.is_new("replicated", old, "replication")

    def test_jobs_in_other_processes(self):
        old, orders = self.stored("stock"), self.stored("orders-1")
        subprocess.run([sys.executable, "-c", "import shop_site; shop_site.job(); shop_site.bulk()"], check=True,
                       env={**os.environ, "PYTHONPATH": os.pathsep.join([django_site.SITES, django_site.PACKAGE])})
        self.is_new("stock", old, "a job")
        site.manual()
        site.WRITES["order"]()
        self.is_new("orders-1", orders, "another process")

    def test_carts(self):
        cookies = {name: self.web.ask(f"/login/{name}/").head.getheader("Set-Cookie").partition(";")[0] for name in ("anna", "bert")}
        olds = {name: self.stored("cart", cookie) for name, cookie in cookies.items()}
        self.assertIn("anna", olds["anna"].body)
        self.assertEqual(self.web.ask("cart", olds["anna"].etag, cookies["bert"]).status, 200)
        key = cookies["anna"].partition("=")[2]
        site.CartItem.objects.create(session_key=key, product_id=1)
        for name in olds:
            self.is_new("cart", olds["anna"], name, cookies["anna"])
        old = self.stored("cart", cookies["anna"])
        call_command("shell", command=f"from django.contrib.sessions.models import Session; Session.objects.filter(pk={key!r}).delete()")
        self.assertNotEqual(self.web.ask("cart", old.etag, cookies["anna"]).status, 304)

    def test_what_failed_is_not_stored(self):
        """The page shows something else in its place, until nothing fails any more."""
        self.write("hold")
        try:
            self.refused("slow", "database_error")
        finally:
            # One of two workers has it.
            for _ in range(20):
                self.write("let_go")
        wait_until(lambda: "not now" not in self.web.ask("slow").body, 20, "the lock is free")
        self.changes("slow", "more")
        self.refused("no-such-table", "database_error")
        self.refused("busy", "locks")
        self.refused("to-do", "locks")

    def test_requests_that_share_a_computation(self):
        """The second one's rows are older than its token."""
        for how in ("", "&threads=1"):
            replies = []
            threads = [threading.Thread(target=lambda: replies.append(self.web.ask(f"/sharing/?s=0.5{how}"))) for _ in range(8)]  # noqa: B023
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual({reply.status for reply in replies}, {200}, replies)
            if how:  # whose threads are nobody's
                self.assertEqual([reply for reply in replies if not reply.said.startswith("bypass")], [])
            else:
                self.assertTrue([reply for reply in replies if reply.said.startswith(self.SHARED)], replies)

    def test_times_that_no_row_says(self):
        for page in ("in-json", "in-json-s", "in-text"):
            self.refused(page, "clock_parameter")
        self.refused("cached", "django_cache")

    def test_a_link_that_is_good_for_a_time(self):
        link = f"/offer/?token={signing.dumps('half')}&s=5"
        old = self.web.ask(link)
        self.assertIn("half", old.body)
        wait_until(lambda: self.web.ask(link, old.etag).said.startswith(("hit", "bypass")), 20, "it is known, or never will be")
        wait_until(lambda: self.web.ask(link, old.etag).status == 200, 20, "it is over")
        self.assertIn("over", self.web.ask(link, old.etag).body)

    @unittest.skipUnless(POOL, "skipped: no pool")
    def test_a_connection_that_the_pool_lent(self):
        self.refused("lent", "other_connection")
        self.changes("prices-today", "copy_by_pool")

    @unittest.skipUnless(POOL, "skipped: no pool")
    def test_what_goes_back_to_the_pool_with_a_connection(self):
        """The next one that gets it reads under that."""
        left = {"SET shop.currency = 'USD'": lambda one: one._etagd_settings.of_others(reads.Reads()) if hasattr(one, "_etagd_settings") else (),
                "CREATE TEMPORARY TABLE prices (n int)": lambda one: getattr(one, "_etagd_temporary", False)}
        connection.ensure_connection()
        for statement, found in left.items():
            with self.subTest(statement), connection.pool.connection() as one:
                self.assertFalse(found(one))
                one.execute(statement)
                self.assertTrue(found(one))
                one.rollback()
                one.autocommit = True
                one.execute("DISCARD ALL")
                self.assertFalse(found(one))
                one.autocommit = False

    def test_a_function_that_remembers_a_file(self):
        with open(os.path.join(PLACE, "rates.json"), "w", encoding="utf-8") as file:
            file.write("1")
        self.web, before = Workers("memory", 1), self.web
        self.addCleanup(setattr, self, "web", before)
        self.addCleanup(self.web.end)
        self.stored("stock")
        self.assertIn("bypass; reason=file", self.web.ask("rates").said)
        self.refused("rates", "memory; by=shop_site.rates")
        self.refused("stock", "memory")


class Forms(unittest.TestCase):
    """What texts and values are taken for."""

    def test_times_in_json_and_numbers(self):
        now = datetime.datetime.now(datetime.timezone.utc)
        wrapped = type("Jsonb", (), {"obj": {"a": [now.isoformat()]}})()
        for params, expected in (
                ([wrapped], clock.AT_ONCE), ([json.dumps({"until": now.isoformat()})], clock.AT_ONCE), ([f'"{now.isoformat()}"'], clock.AT_ONCE),
                (['"2020-05-05"'], clock.UNTIL_MIDNIGHT), (["{no json"], clock.NEVER), ([str(int(now.timestamp()))], clock.AT_ONCE),
                ([decimal.Decimal(now.timestamp())], clock.AT_ONCE), ([int(f"{now:%Y%m%d}")], clock.UNTIL_MIDNIGHT),
                ([f"{now:%Y%m%d}"], clock.UNTIL_MIDNIGHT), ([f"{now:%Y-%m}"], clock.UNTIL_MIDNIGHT), (["2026-W48"], clock.UNTIL_MIDNIGHT),
                (["4006381333931", 4006381333931, 20261399, "12345678"], clock.NEVER)):
            with self.subTest(params):
                self.assertEqual(clock.changes(params, set), expected)

    def test_times_in_the_text_of_statements(self):
        now = datetime.datetime.now(datetime.timezone.utc)
        for text, expected in ((f"a < '{now:%Y-%m-%d %H:%M:%S}+00'", clock.AT_ONCE), (f"a < {now.timestamp():.0f}", clock.AT_ONCE),
                               (f"a <= '{now:%Y-%m-%d}'", clock.UNTIL_MIDNIGHT), ("a > '2001-01-01 12:00'", clock.NEVER),
                               ("a = 'shop' AND b = 4006381333931", clock.NEVER)):
            with self.subTest(text):
                self.assertEqual(clock.changes(clock.in_text(text), set), expected)

    def test_a_day_is_good_until_one_may_begin_somewhere(self):
        left = clock.until_midnight() - time.time()
        self.assertTrue(0 < left <= 900, left)

    def test_a_signature_that_a_function_remembers(self):
        @functools.lru_cache
        def remembered(token):
            return signing.loads(token, max_age=1000)

        process.install()
        self.addCleanup(kept._filled.clear)
        self.assertEqual(remembered(signing.dumps("half")), "half")
        self.assertIn("remembered", kept.memory())

    def test_bodies_of_functions(self):
        for body, writes in (
                ("SELECT 1", False), ("SELECT write_it()", True), ('SELECT "write it"(1)', True), ("SELECT calls_it()", True),
                ("INSERT INTO t VALUES (1)", True), ("SELECT 1 FROM t FOR UPDATE", False), ("SELECT 'DELETE', ''''", False),
                ("t := E'\\''; DELETE FROM t; u := ''", True), ('SELECT "it\'s"; DELETE FROM t', True), ("EXECUTE $x$DELETE FROM t$x$", True)):
            with self.subTest(body):
                known = routines.Routines({"write_it": "v", "random": "v", "write it": "v"})
                known.add("calls_it", "plpgsql", ["PERFORM write_it();"])
                known.add("asked", "sql", [body, None])
                known.settle()
                self.assertEqual("asked" in known.writers, writes)


if __name__ == "__main__":
    import atexit

    atexit.register(shutil.rmtree, PLACE, ignore_errors=True)
    harness.main()
