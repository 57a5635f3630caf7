# SPDX-License-Identifier: Apache-2.0
"""What Django's ORM writes becomes stale, and nothing else: etagd.django.writes and surrogates against a real daemon."""
import io
import os
import random
import sqlite3
import time

import django_site
import harness
import postgres
from harness import wait_until

django_site.require("django")
import etagd  # noqa: E402

POSTGRES = postgres.asked_for()
DATABASE = django_site.configure(
    "shop", postgres=POSTGRES, INSTALLED_APPS=["django.contrib.contenttypes", "shop", "etagd.django"])

from django.db import IntegrityError, OperationalError, connection, connections, models, transaction  # noqa: E402
from django.test.utils import override_settings  # noqa: E402
from etagd.django import reads, sql, surrogates, writes  # noqa: E402


PSYCOPG3 = connection.vendor == "postgresql" and connection.Database.__name__ == "psycopg"
Model = django_site.base_of("shop")


class Region(Model):
    name = models.CharField(max_length=20)


class Customer(Model):
    name = models.CharField(max_length=20)
    region = models.ForeignKey(Region, null=True, on_delete=models.CASCADE)


class Label(Model):
    name = models.CharField(max_length=20, unique=True)


class Upload(Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE)
    status = models.CharField(max_length=20, default="new")
    labels = models.ManyToManyField(Label)


class Token(Model):
    key = models.CharField(max_length=40, primary_key=True)
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE)


class Special(Upload):
    """A second table for its own column."""

    extra = models.CharField(max_length=20, default="")


class NumberField(models.IntegerField):
    """Takes its value from elsewhere, by SQL, in the middle of the ORM's statement."""

    def pre_save(self, instance, add):
        with connection.cursor() as cursor:
            cursor.execute("UPDATE shop_label SET name = name")
        return 1


class Numbered(Model):
    number = NumberField(default=0)


class View(Model):
    """Managed by somebody else, perhaps a view."""

    class Meta(Model.Meta):
        managed = False
        db_table = "shop_view"


surrogates.register(Upload, scope="customer")
MODELS = (Region, Customer, Label, Upload, Token, Special, Numbered)
ROW_1, ROW_2 = "shop.upload:1", "shop.upload:2"
LIST_7, LIST_8, ANY = "shop.upload:@7", "shop.upload:@8", "shop.upload"
ALL_ROWS = "shop.upload:*"


class Base(django_site.SiteCase):
    """One entry a name, each with app.model:* if it is not the whole table's; a write must make stale what it touched."""

    ENTRIES = {"row 1": (ROW_1, ALL_ROWS), "row 2": (ROW_2, ALL_ROWS), "list 7": (LIST_7, ALL_ROWS),
               "list 8": (LIST_8, ALL_ROWS), "any": (ANY,), "labels": ("shop.upload_labels",), "label": ("shop.label",),
               "customer 7": ("shop.customer:7", "shop.customer:*"), "anything": ("*",), "other": ("something-else",),
               "nothing": ()}
    DAEMON, OPTIONS = {"linger_ms": 3000, "lease_ms": 1000}, {}
    TOUCHED = {"row 1", "list 7", "any", "anything"}  # by a write to upload 1
    ALL = {"row 1", "row 2", "list 7", "list 8", "any", "anything"}  # by a write to who knows which uploads

    def setUp(self):
        super().setUp()
        if "daemon" in self.id():
            self.etagd = self.started(linger_ms=self.DAEMON["linger_ms"])
        self.use(**self.OPTIONS)
        self.tables(*MODELS)
        Customer.objects.bulk_create([Customer(pk=7, name="seven"), Customer(pk=8, name="eight")])
        Upload.objects.bulk_create([Upload(pk=1, customer_id=7), Upload(pk=2, customer_id=8), Upload(pk=3, customer_id=7)])
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SELECT setval('shop_upload_id_seq', 3)")
        self.label = Label.objects.create(name="a")
        self.client = etagd.Client(self.etagd.socket)
        wait_until(lambda: self.reason("nothing") != "in_flux" and self.fills(), 10, "guards that linger are over")

    @staticmethod
    def key(name):
        return etagd.Key(etagd.Resource(None, "/" + name.replace(" ", "/")), "test")

    def fill(self):
        for name, names in self.ENTRIES.items():
            self.client.fill_wait(self.client.token(), self.key(name), etagd.Response(etag='"1"', surrogates=names))

    def fills(self):
        try:
            self.fill()
            return True
        except etagd.Refused:
            return False

    def reason(self, name):
        return self.client.check(etagd.Request("GET", self.key(name), [("If-None-Match", '"1"')])).reason

    def not_known(self, reason="stale"):
        """The entries that this reason keeps from being answered; the others must be known."""
        found = {name: self.reason(name) for name in self.ENTRIES}
        self.assertLessEqual(set(found.values()), {reason, "match"}, found)
        return {name for name, said in found.items() if said == reason}

    def stale(self, *expected):
        self.assertEqual(self.not_known(), set(expected))

    def everything_stale(self):
        self.stale(*self.ENTRIES)


    def watched(self, act):
        """Runs act; returns what is in flux at each COMMIT of the driver, seen by another client."""
        seen = []
        connection.ensure_connection()
        driver = connection.connection

        class Watched:
            def commit(_self):  # pylint: disable=no-self-argument
                seen.append(self.not_known("in_flux"))
                return driver.commit()

            def __getattr__(_self, name):  # pylint: disable=no-self-argument
                return getattr(driver, name)

            def __setattr__(_self, name, value):  # pylint: disable=no-self-argument
                setattr(driver, name, value)

        connection.connection = Watched()
        try:
            act()
        finally:
            connection.connection = driver
        return seen


class Writes(Base):
    # ---- The ORM ----

    def test_save(self):
        upload = Upload.objects.get(pk=1)
        upload.status = "done"
        upload.save()
        self.stale(*self.TOUCHED)

    def test_save_of_some_fields(self):
        Upload(pk=1, status="done").save(update_fields=["status"])
        self.stale(*self.TOUCHED)

    def test_create(self):
        Upload.objects.create(customer_id=8)
        self.stale("list 8", "any", "anything")

    def test_create_with_key(self):
        Upload.objects.filter(pk=2).delete()
        self.fill()
        Upload.objects.create(pk=2, customer_id=8)
        self.stale("row 2", "list 8", "any", "anything")

    def test_delete(self):
        Upload.objects.get(pk=1).delete()
        self.stale("labels", *self.TOUCHED)

    def test_delete_cascades(self):
        Customer.objects.get(pk=7).delete()
        self.assertLessEqual({"customer 7", "labels", *self.TOUCHED}, self.not_known())
        self.assertEqual(self.reason("list 8"), "match")

    def test_bulk_create(self):
        Upload.objects.bulk_create([Upload(customer_id=7), Upload(customer_id=7)])
        self.stale("list 7", "any", "anything")
        self.fill()
        Upload.objects.bulk_create([Upload(customer_id=7), Upload(customer_id=8)], ignore_conflicts=True)
        self.stale("list 7", "list 8", "any", "anything")

    def test_bulk_update(self):
        rows = list(Upload.objects.filter(customer=7))
        for row in rows:
            row.status = "bulk"
        Upload.objects.bulk_update(rows, ["status"])
        self.stale(*self.TOUCHED)
        self.fill()
        Upload.objects.bulk_update(rows, ["customer"])
        self.stale(*self.ALL)

    def test_queryset_update_and_delete(self):
        Upload.objects.filter(status="new").update(status="old")
        self.stale(*self.ALL)
        self.fill()
        Upload.objects.filter(labels=self.label).update(status="old")
        self.stale(*self.ALL)
        self.fill()
        Upload.objects.exclude(pk=1).update(status="older")
        self.stale(*self.ALL)
        self.fill()
        Upload.objects.filter(models.Q(pk=1) | models.Q(pk=2)).update(status="older")
        self.stale(*self.ALL)
        self.fill()
        Upload.objects.filter(status="old")._raw_delete("default")
        self.stale(*self.ALL)

    def test_queryset_of_known_rows(self):
        Upload.objects.filter(pk__in=[1, 3], status="new").update(status=models.F("status"))
        self.stale(*self.TOUCHED)
        self.fill()
        Upload.objects.filter(pk=1).delete()
        self.stale("labels", *self.TOUCHED)

    def test_update_or_create(self):
        Upload.objects.update_or_create(pk=1, defaults={"status": "x"})
        self.stale(*self.TOUCHED)
        self.fill()
        Upload.objects.update_or_create(pk=99, customer_id=8, defaults={"status": "x"})
        self.stale("list 8", "any", "anything")

    def test_m2m(self):
        Upload.objects.get(pk=1).labels.add(self.label)
        self.stale("labels", "anything")
        self.fill()
        Upload.objects.get(pk=1).labels.clear()
        self.stale("labels", "anything")
        self.fill()
        Upload.objects.get(pk=1).labels.set([self.label])
        self.stale("labels", "anything")

    def test_rows_that_move_touch_both_scopes(self):
        upload = Upload.objects.get(pk=1)
        upload.customer_id = 8
        upload.save()
        self.stale("list 8", *self.TOUCHED)
        self.fill()
        Upload.objects.filter(pk=1).update(customer=Customer(pk=7))
        self.stale("list 8", *self.TOUCHED)
        self.fill()
        Upload(pk=1, customer_id=8).save()  # nothing of it was loaded
        self.stale("list 8", *self.TOUCHED)
        self.fill()
        Upload.objects.filter(pk=1).update(customer=models.F("customer"))
        self.stale(*self.ALL)
        self.fill()
        Upload.objects.update(customer_id=8)
        self.stale(*self.ALL)

    def test_tables_of_parents(self):
        special = Special.objects.create(customer_id=7)
        self.stale("list 7", "any", "anything")
        self.fill()
        Special.objects.filter(pk=special.pk).update(status="x", extra="y")
        self.assertLessEqual({"list 7", "any", "anything"}, self.not_known())

    def test_sql_in_the_middle_of_a_statement(self):
        Numbered.objects.create()
        self.stale("label", "anything")

    def test_views_touch_everything(self):
        self.execute("CREATE TABLE shop_view (id integer PRIMARY KEY)")
        self.addCleanup(self.execute, "DROP TABLE shop_view")
        for write in (View(pk=1).save, View.objects.filter(pk=1).delete):
            self.fill()
            write()
            self.everything_stale()

    def test_reading_touches_nothing(self):
        list(Upload.objects.select_related("customer").filter(customer=7))
        Upload.objects.count()
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM shop_upload WHERE status = %s", ["x"])
            cursor.execute("SELECT 1")
        self.stale()

    # ---- Other SQL ----

    def execute(self, sql_text, params=None):
        with connection.cursor() as cursor:
            cursor.execute(sql_text, params)

    def test_plain_sql_touches_its_table(self):
        self.execute("update shop_upload set status = 'x' where id = 1")
        self.stale(*self.ALL)
        self.fill()
        self.execute('DELETE FROM "shop_upload" WHERE status = %s', ["y"])
        self.stale(*self.ALL)
        self.fill()
        with connection.cursor() as cursor:
            cursor.executemany("UPDATE shop_upload SET status = %s WHERE id = %s", [("a", 1), ("b", 2)])
        self.stale(*self.ALL)

    def test_what_was_done_before_an_error_counts(self):
        """In autocommit mode each of several rows, or statements, is a COMMIT of its own; psycopg 3 sends the rows in one."""
        again = Upload.objects.values_list("customer_id", "status").get(pk=1)
        insert = "INSERT INTO shop_upload (id, customer_id, status) VALUES (%s, %s, %s)"
        with self.assertRaises(IntegrityError), connection.cursor() as cursor:
            cursor.executemany(insert, [(900, *again), (1, *again)])
        self.assertEqual(Upload.objects.filter(pk=900).exists(), not PSYCOPG3)
        self.stale(*self.ALL)
        if connection.vendor == "postgresql" and django_site.DRIVER != "psycopg-bound":  # which sends one statement at a time
            self.fill()
            with self.assertRaises(IntegrityError):
                self.execute("BEGIN; UPDATE shop_upload SET status = 'w'; COMMIT; INSERT INTO shop_upload (id) VALUES (1)")
            self.everything_stale()

    def test_any_other_sql_touches_everything(self):
        self.execute("WITH x AS (SELECT 1) UPDATE shop_upload SET status = %s", ["y"])
        self.everything_stale()
        self.fill()
        schema = "public" if connection.vendor == "postgresql" else "main"
        self.execute(f"UPDATE {schema}.shop_upload SET status = %s", ["z"])
        self.everything_stale()
        self.fill()
        self.execute("/* why */ DELETE FROM shop_upload WHERE id = 77")
        self.everything_stale()
        self.fill()
        with transaction.atomic():
            self.execute(f"UPDATE {schema}.shop_upload SET status = %s", ["zz"])
            self.stale()
        self.everything_stale()

    def test_scripts_touch_everything(self):
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.executescript("UPDATE shop_upload SET status = 'x'; UPDATE shop_label SET name = 'b';")
            else:
                cursor.execute("UPDATE shop_upload SET status = 'x'; UPDATE shop_label SET name = 'b'")
        self.everything_stale()

    def test_procedures_touch_everything(self):
        if connection.vendor != "postgresql":
            self.skipTest("skipped: no stored procedures")
        self.execute("CREATE FUNCTION change_all() RETURNS void AS 'UPDATE shop_upload SET status = ''f''' LANGUAGE sql")
        self.addCleanup(self.execute, "DROP FUNCTION change_all()")
        for call in (lambda c: c.callproc("change_all"), lambda c: c.execute("SELECT change_all()")):
            self.fill()
            with connection.cursor() as cursor:
                call(cursor)
            self.everything_stale()
        self.fill()
        with connection.cursor() as cursor:
            if PSYCOPG3:
                with cursor.copy("COPY shop_upload (id, customer_id, status) FROM STDIN") as copy:
                    copy.write("55\t7\tcopied\n")
            else:
                cursor.copy_from(io.StringIO("55\t7\tcopied\n"), "shop_upload", columns=("id", "customer_id", "status"))
        self.everything_stale()

    def test_transactions_by_hand(self):
        self.execute("BEGIN")
        Upload.objects.filter(pk=1).update(status="hand")
        self.stale()
        self.execute("ROLLBACK")
        self.stale()
        self.execute("BEGIN")
        Upload.objects.filter(pk=1).update(status="hand")
        self.execute("COMMIT")
        self.everything_stale()
        self.fill()
        Upload.objects.filter(pk=1).update(status="after")
        self.stale(*self.TOUCHED)

    def test_savepoints_by_hand(self):
        if connection.vendor != "sqlite":
            self.skipTest("skipped: no savepoint without a transaction")
        self.execute("SAVEPOINT x")
        self.execute("UPDATE shop_upload SET status = 'hand'")
        self.fill()
        self.execute("RELEASE SAVEPOINT x")  # commits
        self.everything_stale()
        self.fill()
        self.execute("SAVEPOINT x")
        Upload.objects.filter(pk=1).update(status="orm")
        self.stale()
        self.execute("RELEASE SAVEPOINT x")
        self.everything_stale()
        self.fill()
        Upload.objects.filter(pk=1).update(status="after")
        self.stale(*self.TOUCHED)

    def test_commits_inside_a_transaction(self):
        with transaction.atomic():
            Upload.objects.filter(pk=1).update(status="committed")
            self.fill()
            with connection.cursor() as cursor:
                if connection.vendor == "sqlite":
                    cursor.executescript("SELECT 1")  # commits first
                else:
                    cursor.execute("UPDATE shop_label SET name = 'c'; COMMIT")
            self.everything_stale()
            connection.set_rollback(True)
        connection.close()
        self.assertEqual(Upload.objects.get(pk=1).status, "committed")

    def test_classification(self):
        upload = surrogates.table_of(Upload)
        table = {
            "UPDATE shop_upload SET status = %s": (sql.WRITE, upload),
            "update \"shop_upload\" set status = 'a;b' where id = 1;": (sql.WRITE, upload),
            "INSERT INTO shop_upload (id, status) VALUES (%s, lower(%s))": (sql.WRITE, upload),
            "DELETE FROM shop_upload": (sql.WRITE, upload),
            "UPDATE Shop_Upload SET status = 1": (sql.WRITE, upload),
        }
        for text in ("UPDATE \"Shop_Upload\" SET status = 1", "UPDATE public.shop_upload SET a = 1", "UPDATE nobody SET a = 1",
                     "UPDATE shop_view SET id = 2", "TRUNCATE shop_upload, shop_label", "TRUNCATE TABLE shop_upload",
                     "INSERT INTO shop_upload SELECT * FROM shop_label; DELETE FROM shop_label",
                     "UPDATE shop_upload SET status = evil(1)", "UPDATE shop_upload SET status = \"evil\"(1)",
                     "DELETE FROM shop_upload -- WHERE", "DELETE /* x */ FROM shop_upload", "UPDATE ONLY shop_upload SET a = 1",
                     "UPDATE shop_upload SET a = 'it''s' || $$x$$", "UPDATE shop_upload SET a = 'open", "MERGE INTO shop_upload",
                     "INSERT INTO shop_upload (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2", "VACUUM", "DROP TABLE x",
                     "WITH gone AS (DELETE FROM shop_upload RETURNING id) SELECT * FROM gone", "CALL change()", "DO 'x'",
                     "SELECT change_all()", "SELECT public.count(id) FROM shop_upload", "SELECT id INTO x FROM shop_upload",
                     "SELECT 1; DELETE FROM shop_upload", "EXPLAIN ANALYZE DELETE FROM shop_upload", "PREPARE TRANSACTION 'x'",
                     "COMMIT; UPDATE shop_upload SET a = 1", "ROLLBACK; UPDATE shop_upload SET a = 1", "COPY shop_upload FROM STDIN",
                     "SET a = 1; DELETE FROM shop_upload", "", "REPLACE INTO shop_upload VALUES (1)", "SELECT 'a\\'; DELETE'"):
            table[text] = (sql.ANYTHING, None)
        for text in ("SELECT * FROM shop_upload FOR UPDATE;", "SELECT count(*), max(id) FROM shop_upload WHERE id IN (1, 2)",
                     "(SELECT 'INSERT; DELETE' FROM shop_upload)"):
            table[text] = (sql.READ, None)
        for text in ("SAVEPOINT x", "ROLLBACK TO SAVEPOINT x", "SET LOCAL x = 1", "PRAGMA foreign_keys"):
            table[text] = (sql.NOTHING, None)
        table.update({"COMMIT": (sql.COMMIT, None), "end": (sql.COMMIT, None), "BEGIN IMMEDIATE": (sql.NOTHING, None),
                      "START TRANSACTION": (sql.NOTHING, None), "RELEASE SAVEPOINT x": (sql.RELEASE, None), "ROLLBACK": (sql.ROLLBACK, None),
                      "COMMIT PREPARED 'x'": (sql.COMMIT, None)})
        for text, expected in table.items():
            with self.subTest(text):
                self.assertEqual(sql.classify(text), expected)

    def test_explicit_call(self):
        writes.invalidate("something-else")
        self.stale("other")
        self.fill()
        writes.invalidate(instances=[Upload.objects.get(pk=1)])
        self.stale(*self.TOUCHED)
        self.fill()
        writes.invalidate(models=[Upload])
        self.stale(*self.ALL)
        self.fill()
        with transaction.atomic():
            writes.invalidate(families=["shop.upload"])
            self.stale()
        self.stale(*self.ALL - {"anything"})
        for families in ("shop.upload", [""]):
            with self.assertRaises((TypeError, ValueError)):
                writes.invalidate(families=families)
        self.fill()
        with transaction.atomic():
            writes.invalidate(everything=True)
            self.stale()
        self.everything_stale()

    # ---- Transactions ----

    def test_nothing_before_commit(self):
        with transaction.atomic():
            Upload.objects.filter(pk=1).update(status="done")
            self.stale()
        self.stale(*self.TOUCHED)

    def test_in_flux_while_commit_runs(self):
        def act():
            with transaction.atomic():
                Upload.objects.filter(pk=1).update(status="done")
        self.assertEqual(self.watched(act), [self.TOUCHED])
        self.stale(*self.TOUCHED)

    def test_in_flux_while_autocommit_commits(self):
        self.assertEqual(self.watched(lambda: Upload.objects.filter(pk=1).update(status="done")), [self.TOUCHED])
        self.stale(*self.TOUCHED)

    def test_manual_transactions(self):
        transaction.set_autocommit(False)
        try:
            Upload.objects.filter(pk=1).update(status="x")
            transaction.rollback()
            self.stale()
            Upload.objects.filter(pk=1).update(status="x")
            self.stale()
            transaction.commit()
            self.stale(*self.TOUCHED)
        finally:
            transaction.set_autocommit(True)

    def test_autocommit_that_commits(self):
        """SQLite commits what is open when autocommit comes back; PostgreSQL refuses."""
        transaction.set_autocommit(False)
        Upload.objects.filter(pk=1).update(status="x")
        if connection.vendor == "sqlite":
            transaction.set_autocommit(True)
            self.stale(*self.TOUCHED)
        else:
            with self.assertRaises(Exception):
                transaction.set_autocommit(True)
            transaction.rollback()
            transaction.set_autocommit(True)
        other = connections.create_connection("default")
        try:
            with other.cursor() as cursor:
                cursor.execute("SELECT status FROM shop_upload WHERE id = 1")
                self.assertEqual(cursor.fetchone(), ("x" if connection.vendor == "sqlite" else "new",))
        finally:
            other.close()

    def test_rollback_keeps_everything(self):
        with self.assertRaises(ZeroDivisionError):
            with transaction.atomic():
                Upload.objects.update(status="done")
                self.execute("UPDATE shop_label SET name = 'z'")
                raise ZeroDivisionError
        self.stale()
        Upload.objects.filter(pk=1).update(status="done")
        self.stale(*self.TOUCHED)

    def test_a_closed_connection_rolls_back(self):
        with transaction.atomic():
            Upload.objects.update(status="done")
            connection.close()
        self.assertEqual(Upload.objects.get(pk=1).status, "new")
        Label.objects.create(name="b")
        self.stale("label", "anything")

    def test_savepoints(self):
        with transaction.atomic():
            Upload.objects.filter(pk=1).update(status="done")
            with self.assertRaises(ZeroDivisionError):
                with transaction.atomic():
                    Upload.objects.filter(pk=2).update(status="done")
                    with transaction.atomic():
                        Upload.objects.filter(pk=1).update(status="more")
                    raise ZeroDivisionError
        self.stale(*self.TOUCHED)

    def test_released_savepoints_count(self):
        with transaction.atomic():
            with transaction.atomic():
                Upload.objects.filter(pk=1).update(status="done")
            sid = transaction.savepoint()
            Upload.objects.filter(pk=2).update(status="done")
            transaction.savepoint_rollback(sid)
        self.stale(*self.TOUCHED)

    def test_autocommit_failure_keeps_everything(self):
        with self.assertRaises(IntegrityError):
            Label.objects.create(name="a")
        self.stale()

    def test_a_commit_that_fails_keeps_everything(self):
        with self.assertRaises(IntegrityError):
            with transaction.atomic():
                Upload.objects.create(customer_id=99)  # checked at COMMIT
        self.stale()

    def test_on_commit_hooks_run_after_the_guard(self):
        seen = []
        with transaction.atomic():
            Upload.objects.filter(pk=1).update(status="done")
            transaction.on_commit(lambda: seen.append(self.reason("row 1")))
        self.assertEqual(seen, ["stale"])

    # ---- The daemon ----

    def test_daemon_killed_before_commit(self):
        """The change goes through the spool; the next daemon, which knows the entries, has it."""
        self.etagd.ctl("sync")
        with transaction.atomic():
            Upload.objects.filter(pk=1).update(status="done")
            self.etagd.kill()
        self.assertEqual(Upload.objects.get(pk=1).status, "done")
        self.etagd.fresh = False
        self.etagd.start()
        wait_until(lambda: self.reason("other") == "match", 20, "the warm start")
        self.assertNotEqual(self.reason("row 1"), "match")

    def test_neither_daemon_nor_spool(self):
        nobody = os.path.join(self.directory, "nobody.sock")
        with override_settings(ETAGD={"SOCKET": nobody, "TIMEOUT_MS": 300, "RELEASE": "1"}):
            with self.assertRaises(writes.GuardFailed):
                with transaction.atomic():
                    Upload.objects.filter(pk=1).update(status="done")
            with self.assertRaises(writes.GuardFailed):
                Upload.objects.filter(pk=1).update(status="done")
            self.assertEqual(Upload.objects.get(pk=1).status, "new")
        with override_settings(ETAGD={"SOCKET": nobody, "WITHOUT_DAEMON": "commit", "TIMEOUT_MS": 300, "RELEASE": "1"}):
            with self.assertLogs("etagd.django", "ERROR"):
                Upload.objects.filter(pk=1).update(status="done")
            self.assertFalse(writes.untold.tell())
        self.assertEqual(Upload.objects.get(pk=1).status, "done")
        self.stale()
        wait_until(writes.untold.tell, 5, "what was not told is told")
        self.everything_stale()


class WithoutGuards(Writes):
    """The same by invalidations after COMMIT."""

    test_in_flux_while_commit_runs = None
    test_in_flux_while_autocommit_commits = None
    test_neither_daemon_nor_spool = None

    OPTIONS = {"GUARDS": False}


class Bounds(Base):
    """COMMIT ends before its guard does."""

    DAEMON = {"linger_ms": 1500, "lease_ms": 1000}

    def test_a_guard_without_time_refuses_the_commit(self):
        daemon = self.daemon("short", linger_ms=100).start()
        with override_settings(ETAGD={"SOCKET": daemon.socket, "RELEASE": "1"}):
            with self.assertRaises(writes.GuardFailed):
                Upload.objects.filter(pk=1).update(status="done")
        self.assertEqual(Upload.objects.get(pk=1).status, "new")

    def test_commit_gives_up_in_time(self):
        if connection.vendor != "sqlite":
            self.skipTest("skipped: COMMIT waits for nobody")
        began = time.monotonic()
        # A reader's lock, which COMMIT waits for.
        reader = sqlite3.connect(os.path.join(DATABASE, "db.sqlite3"), isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM shop_upload").fetchall()
        try:
            with self.assertRaises(OperationalError):
                Upload.objects.filter(pk=1).update(status="done")
        finally:
            reader.close()
        self.assertLess(time.monotonic() - began, 3, "before the guard is over, not after the database's own 5 s")
        connection.close()
        self.assertEqual(Upload.objects.get(pk=1).status, "new")

    def test_triggers_of_commit_run_before_the_guard(self):
        if connection.vendor != "postgresql":
            self.skipTest("skipped: no deferred triggers")
        with connection.cursor() as cursor:
            cursor.execute("CREATE FUNCTION slow() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(2.5); RETURN NULL; END' LANGUAGE plpgsql")
            cursor.execute("CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON shop_upload DEFERRABLE INITIALLY DEFERRED "
                           "FOR EACH ROW EXECUTE FUNCTION slow()")
        self.fill()
        began = time.monotonic()
        with self.assertNoLogs():
            seen = self.watched(lambda: Upload.objects.filter(pk=1).update(status="done"))
        self.assertGreater(time.monotonic() - began, 2.4)
        self.assertEqual(seen, [self.TOUCHED])
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION slow() CASCADE")

    def assertNoLogs(self):  # of Python 3.10 on, but for any logger
        return super().assertNoLogs("etagd.django", "ERROR")


class Reads(Base):
    """What an answer depends on."""

    def names(self, work):
        noted = reads.Reads()
        token = reads.current.set(noted)
        try:
            work()
        finally:
            reads.current.reset(token)
        return noted.names()

    def test_names_of_querysets(self):
        self.assertEqual(surrogates.for_queryset(Upload.objects.filter(customer=7, status="new")), [ALL_ROWS, LIST_7])
        for wide in (Upload.objects.all(), Upload.objects.exclude(customer=7),
                     Upload.objects.filter(models.Q(customer=7) | models.Q(status="new")),
                     Upload.objects.filter(~models.Q(customer=7)), Upload.objects.filter(customer__gt=7),
                     Upload.objects.filter(pk=1)):
            self.assertEqual(surrogates.for_queryset(wide), [ANY])
        self.assertEqual(surrogates.for_queryset(Upload.objects.filter(customer=7).select_related("customer")),
                         sorted(["shop.customer", LIST_7, ALL_ROWS]))
        self.assertEqual(surrogates.for_queryset(Upload.objects.filter(customer=7).filter(
            pk__in=Upload.objects.filter(status="new"))), [ANY])
        self.assertEqual(surrogates.for_instance(Upload.objects.get(pk=1)), [ROW_1, ALL_ROWS])

    def test_rows(self):
        self.assertEqual(self.names(lambda: Upload.objects.get(pk=1)), {ROW_1, ALL_ROWS})
        self.assertEqual(self.names(lambda: Upload.objects.get(pk=1, customer=7)), {ROW_1, ALL_ROWS})
        self.assertEqual(self.names(lambda: list(Upload.objects.filter(pk__in=[1, 2]))), {ROW_1, ROW_2, ALL_ROWS})

    def test_rows_that_are_not_there_may_come(self):
        self.assertEqual(self.names(lambda: list(Upload.objects.filter(pk=77))), {ANY})
        self.assertEqual(self.names(lambda: list(Upload.objects.filter(pk__in=[1, 77]))), {ANY})
        self.assertEqual(self.names(lambda: Upload.objects.filter(pk=77).count()), {ANY})
        self.assertEqual(self.names(lambda: Upload.objects.filter(pk=77).aggregate(models.Max("id"))), {ANY})
        self.assertEqual(self.names(lambda: Upload.objects.filter(pk=77).exists()), {ANY})
        self.assertEqual(self.names(lambda: list(Upload.objects.filter(pk=77).order_by().extra(select={"n": "COUNT(*)"}).values("n"))),
                         {ANY})
        self.assertEqual(self.names(lambda: list(Upload.objects.filter(pk=1).iterator())), {ANY})

    def test_scopes(self):
        self.assertEqual(self.names(lambda: list(Upload.objects.filter(customer=7).order_by("-id")[:10])), {LIST_7, ALL_ROWS})
        self.assertEqual(self.names(lambda: Upload.objects.filter(customer=7).count()), {LIST_7, ALL_ROWS})
        self.assertEqual(self.names(lambda: list(Upload.objects.filter(customer=7).union(Upload.objects.filter(customer=8)))), {ANY})

    def test_joined_rows(self):
        both = {LIST_7, ALL_ROWS, "shop.customer:7", "shop.customer:*"}
        self.assertEqual(self.names(lambda: list(Upload.objects.select_related("customer").filter(customer=7))), both)
        self.assertEqual(self.names(lambda: list(Upload.objects.select_related("customer").filter(customer=7, customer__name="a"))),
                         {LIST_7, ALL_ROWS, "shop.customer"}, "the customer's name decides what is in the list")
        self.assertEqual(self.names(lambda: list(Upload.objects.filter(customer__name="seven"))), {ANY, "shop.customer"})
        self.assertEqual(self.names(lambda: list(Upload.objects.filter(customer=7, customer__region__name="x").select_related("customer"))),
                         {LIST_7, ALL_ROWS, "shop.customer", "shop.region"}, "so does its region")
        Token.objects.create(key="secret", customer_id=7)
        found = self.names(lambda: Token.objects.select_related("customer").get(key="secret"))
        self.assertIn("shop.customer:7", found)
        self.assertEqual([name for name in found if "secret" in name], [])
        self.assertEqual(self.names(lambda: list(Upload.objects.prefetch_related("labels").filter(customer=7))),
                         {LIST_7, ALL_ROWS, "shop.label", "shop.upload_labels"})

    def test_other_sql_depends_on_every_write(self):
        def by_hand():
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM shop_upload")
        self.assertEqual(self.names(by_hand), {"*"})
        self.assertEqual(self.names(lambda: list(Upload.objects.raw("SELECT id FROM shop_upload"))), {"*"})
        self.assertEqual(self.names(lambda: list(Upload.objects.extra(where=["id IN (SELECT id FROM shop_view)"], tables=[])
                                                 .filter(pk=-1).none())), set())
        for query in (Upload.objects.extra(where=["id IN (SELECT id FROM hidden)"]).filter(customer=7),
                      Upload.objects.extra(tables=["hidden"]).filter(customer=7),
                      Upload.objects.filter(customer=7).annotate(x=models.Func("id", function="hidden_read"))):
            noted = reads.Reads()
            compiler = query.query.get_compiler("default")
            noted.add_query(compiler, *compiler.as_sql(), None)
            self.assertEqual(noted.names(), {"*"})

    def test_views_depend_on_every_write(self):
        self.assertEqual(surrogates.for_queryset(View.objects.filter(pk=1)), ["*"])

    def test_many_rows_become_the_table(self):
        noted = reads.Reads()
        for number in range(reads.ROWS_MAX + 10):
            noted.instance(Customer(pk=number + 1))
        self.assertEqual(noted.names(), {"shop.customer"})

    def test_many_queries_and_many_rows(self):
        Customer.objects.bulk_create([Customer(pk=100 + i, name="c") for i in range(reads.QUERIES_MAX + 10)])
        Upload.objects.bulk_create([Upload(customer_id=7) for _ in range(100 * reads.CHUNKS_MAX + 1)])
        self.assertEqual(self.names(lambda: [Customer.objects.get(pk=100 + i) for i in range(reads.QUERIES_MAX + 10)]),
                         {"shop.customer"})
        self.assertEqual(self.names(lambda: list(Upload.objects.select_related("customer").filter(customer=7))),
                         {LIST_7, ALL_ROWS, "shop.customer"})

    def test_querysets_that_change_in_place(self):
        def work():
            rows = Upload.objects.all()
            list(rows)
            rows.query.add_q(models.Q(customer=7))
        self.assertEqual(self.names(work), {ANY}, "all rows were read")

    def test_rows_of_a_scope_are_covered_by_it(self):
        Upload.objects.bulk_create([Upload(customer_id=7) for _ in range(2 * reads.ROWS_MAX)])
        noted = reads.Reads()
        token = reads.current.set(noted)
        for upload in Upload.objects.filter(customer=7):
            noted.instance(upload)
        noted.instance(Upload(pk=1000, customer_id=8))
        reads.current.reset(token)
        self.assertEqual(noted.names(), {LIST_7, ALL_ROWS, "shop.upload:1000"})

    def test_writing_is_noticed(self):
        noted = reads.Reads()
        token = reads.current.set(noted)
        try:
            Upload.objects.get(pk=1)
            self.assertFalse(noted.wrote)
            Upload.objects.filter(pk=1).update(status="x")
            self.assertTrue(noted.wrote)
        finally:
            reads.current.reset(token)


class Soundness(Base):
    """Random queries beside random writes: whatever changes a query's result touches a name that the query depends on."""

    STEPS = 2000

    def setUp(self):
        super().setUp()
        for pk, name in ((1, "north"), (2, "south")):
            Region.objects.create(pk=pk, name=name)
        Customer.objects.filter(pk=7).update(region_id=1)
        Customer.objects.create(pk=9, name="nine", region_id=2)
        labels = [Label.objects.create(pk=50 + i, name=f"l{i}") for i in range(3)]
        for pk in range(4, 12):
            Upload.objects.create(pk=pk, customer_id=7 + pk % 3, status=("new", "done")[pk % 2]).labels.set(labels[:pk % 3])
        for pk in range(12, 15):
            Special.objects.create(pk=pk, customer_id=7 + pk % 3, extra=str(pk))
        for i in range(4):
            Token.objects.create(key=f"t{i}", customer_id=7 + i % 3)

    QUERIES = (
        lambda c, r: Upload.objects.filter(pk=r).values_list(),
        lambda c, r: [(u.status, u.customer.name) for u in Upload.objects.select_related("customer").filter(pk=r)],
        lambda c, r: [(u.pk, u.status, u.customer.name, u.customer.region and u.customer.region.name)
                      for u in Upload.objects.select_related("customer__region").filter(customer=c).order_by("id")],
        lambda c, r: Upload.objects.filter(customer=c).order_by("-status", "id").values_list(),
        lambda c, r: Upload.objects.filter(customer_id__in=[c, 8]).order_by("id").values_list(),
        lambda c, r: [Upload.objects.filter(customer=c).count(), Upload.objects.filter(pk=r).exists()],
        lambda c, r: Upload.objects.filter(customer=c, customer__name__contains="e").order_by("id").values_list(),
        lambda c, r: [(u.pk, u.customer.name) for u in Upload.objects.select_related("customer").filter(
            customer=c, customer__region__name="north").order_by("id")],
        lambda c, r: [(u.pk, u.customer.name) for u in Upload.objects.select_related("customer").filter(
            customer=c).order_by("customer__name", "id")],
        lambda c, r: Upload.objects.filter(models.Q(customer=c) | models.Q(pk=r)).order_by("id").values_list(),
        lambda c, r: Upload.objects.exclude(customer=c).order_by("id").values_list("pk"),
        lambda c, r: Upload.objects.filter(customer=c).filter(labels__name="l0").order_by("id").values_list(),
        lambda c, r: [(u.pk, sorted(label.name for label in u.labels.all()))
                      for u in Upload.objects.prefetch_related("labels").filter(customer=c).order_by("id")],
        lambda c, r: Upload.objects.filter(customer=c).values("status").annotate(n=models.Count("id")).order_by("status"),
        lambda c, r: [Upload.objects.filter(customer=c).aggregate(models.Max("id"), n=models.Count("labels"))],
        lambda c, r: Customer.objects.annotate(n=models.Count("upload")).order_by("id").values_list("pk", "n"),
        lambda c, r: Upload.objects.filter(pk__in=[r, r + 1]).order_by("id").values_list(),
        lambda c, r: Upload.objects.filter(pk__in=[r, r + 1], customer=c).order_by("id").values_list(),
        lambda c, r: Upload.objects.filter(pk=r, customer=c, status="new").values_list(),
        lambda c, r: [(s.pk, s.extra, s.status, s.customer_id) for s in Special.objects.filter(pk=r)],
        lambda c, r: [(s.pk, s.extra, s.status) for s in Special.objects.filter(customer=c).order_by("pk")],
        lambda c, r: [(u.pk, getattr(getattr(u, "special", None), "extra", None))
                      for u in Upload.objects.select_related("special").filter(customer=c).order_by("id")],
        lambda c, r: [(u.pk, getattr(getattr(u, "special", None), "extra", None))
                      for u in Upload.objects.select_related("special").filter(pk=r)],
        lambda c, r: [(t.key, t.customer.name) for t in Token.objects.select_related("customer").filter(key=f"t{r % 5}")],
        lambda c, r: Upload.objects.filter(customer=c).union(Upload.objects.filter(pk=r)).order_by("id").values_list("id", "status"),
        lambda c, r: Upload.objects.filter(customer=c, pk__in=Upload.objects.filter(status="new").values("pk")).order_by("id").values_list(),
        lambda c, r: Upload.objects.filter(customer=c).annotate(other=models.Exists(
            Upload.objects.filter(status=models.OuterRef("status")).exclude(pk=models.OuterRef("pk")))).order_by("id").values_list("pk", "other"),
        lambda c, r: Label.objects.filter(upload__customer=c).distinct().order_by("id").values_list(),
        lambda c, r: [label.name for label in Upload(pk=r).labels.order_by("id")],
        lambda c, r: list(Upload.objects.raw("SELECT * FROM shop_upload WHERE customer_id = %s ORDER BY id", [c])),
        lambda c, r: [Upload.objects.filter(customer=c).order_by("id").first(), Upload.objects.in_bulk([r, r + 2])],
        lambda c, r: list(Upload.objects.filter(customer=c).order_by("id").iterator()),
    )
    WRITES = (
        lambda c, r: Upload.objects.filter(pk=r).update(status="w"),
        lambda c, r: Upload.objects.filter(pk=r).update(customer=c),
        lambda c, r: Upload.objects.filter(pk__in=[r, r + 1], status="new").update(status="w", customer_id=c),
        lambda c, r: Upload(pk=r, customer_id=c, status="saved").save(),
        lambda c, r: Upload.objects.create(customer_id=c),
        lambda c, r: Upload.objects.bulk_create([Upload(customer_id=c), Upload(pk=30 + r, customer_id=7)]),
        lambda c, r: Upload.objects.filter(pk=r).delete(),
        lambda c, r: Upload.objects.filter(customer=c).delete(),
        lambda c, r: Upload.objects.filter(customer=c).update(status="all"),
        lambda c, r: Upload.objects.update(customer=models.F("customer")),
        lambda c, r: Upload.objects.filter(pk=r).update(customer=models.Case(models.When(status="new", then=c), default=7)),
        lambda c, r: Upload.objects.bulk_update([Upload(pk=r, customer_id=c, status="b")], ["customer", "status"]),
        lambda c, r: Upload(pk=r).labels.add(50 + c % 3),
        lambda c, r: Upload(pk=r).labels.clear(),
        lambda c, r: Label.objects.filter(pk=50 + c % 3).update(name=f"n{r}"),
        lambda c, r: Customer.objects.filter(pk=c).update(name=f"n{r}"),
        lambda c, r: Customer.objects.filter(pk=c).update(region=1 + r % 2),
        lambda c, r: Customer.objects.filter(pk=c).delete(),
        lambda c, r: Region.objects.filter(pk=1 + r % 2).update(name="north"),
        lambda c, r: Region.objects.filter(pk=1 + r % 2).delete(),
        lambda c, r: Special.objects.filter(pk=r).update(status="s", extra="e", customer=c),
        lambda c, r: Special.objects.create(customer_id=c, extra="new"),
        lambda c, r: Special(upload_ptr_id=r, extra="child").save_base(raw=True),
        lambda c, r: Special.objects.filter(pk=r).delete(),
        lambda c, r: Token.objects.filter(key=f"t{r % 5}").update(customer=c),
        lambda c, r: Token.objects.update_or_create(key=f"t{r % 5}", defaults={"customer_id": c}),
        lambda c, r: connection.cursor().execute("UPDATE shop_upload SET status = 'raw' WHERE id = %s", [r]),
        lambda c, r: connection.cursor().execute("DELETE FROM shop_upload_labels WHERE upload_id = %s", [r]),
        lambda c, r: connection.cursor().execute("/* x */ UPDATE shop_customer SET name = 'raw' WHERE id = %s", [c]),
    )

    def test_no_change_goes_unnoticed(self):
        seed = int(os.environ.get("ETAGD_TEST_SEED", "1"))
        chance, changes, narrow = random.Random(seed), 0, 0
        for step in range(self.STEPS):
            query, write = chance.randrange(len(self.QUERIES)), chance.randrange(len(self.WRITES))
            # Often the same customer and row in both.
            c, r = chance.choice((7, 8, 9)), chance.randrange(1, 17)
            of = (c if chance.random() < 0.6 else chance.choice((7, 8, 9)), r if chance.random() < 0.6 else chance.randrange(1, 17))
            noted = reads.Reads()
            token = reads.current.set(noted)
            before = repr(list(self.QUERIES[query](c, r)))
            reads.current.reset(token)
            names, state = noted.names(), writes.state_of(connection)
            with transaction.atomic():
                try:
                    with transaction.atomic():
                        self.WRITES[write](*of)
                        touched = set(state.names)
                        after = repr(list(self.QUERIES[query](c, r)))
                except IntegrityError:
                    after = before
                transaction.set_rollback(True)
            if after != before:
                changes += 1
                self.assertTrue(surrogates.EVERYTHING in touched or names & touched,
                                f"seed {seed}, step {step}: query {query}{c, r} depends on {names}, write {write}{of} touched {touched}")
            elif touched and not names & touched and surrogates.EVERYTHING not in touched:
                narrow += 1
        self.assertGreater(changes, self.STEPS // 12)
        self.assertGreater(narrow, self.STEPS // 12, "the names tell rows and scopes apart")


if __name__ == "__main__":
    harness.main()
