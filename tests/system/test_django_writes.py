# SPDX-License-Identifier: Apache-2.0
"""What Django's ORM writes becomes stale, and nothing else: etagd.django.writes and surrogates against a real daemon."""
import os
import sys
import tempfile
import types

import harness
from harness import BUILD, Case, wait_until

PACKAGE = os.path.join(BUILD, "integrations", "python")
if not os.path.isdir(os.path.join(PACKAGE, "etagd")):
    print("skipped: the Python package was not built (python3-cffi, python3-dev)")
    sys.exit(harness.SKIP)
sys.path.insert(0, PACKAGE)
try:
    import django
except ImportError:
    print("skipped: python3-django is missing")
    sys.exit(harness.SKIP)
import etagd  # noqa: E402
from django.conf import settings  # noqa: E402

DATABASE = tempfile.mkdtemp(prefix="etagd-test-")
SHOP = types.ModuleType("shop")  # an application: its models stand below
SHOP.__path__ = [DATABASE]
sys.modules["shop"] = SHOP
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(DATABASE, "db.sqlite3")}},
    INSTALLED_APPS=["django.contrib.contenttypes", "shop", "etagd.django"], DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    ETAGD={}, USE_TZ=True, LOGGING_CONFIG=None)
django.setup()

from django.db import IntegrityError, connection, models, transaction  # noqa: E402
from django.test.utils import override_settings  # noqa: E402
from etagd.django import surrogates, writes  # noqa: E402


class Customer(models.Model):
    name = models.CharField(max_length=20)

    class Meta:
        app_label = "shop"


class Label(models.Model):
    name = models.CharField(max_length=20, unique=True)

    class Meta:
        app_label = "shop"


class Upload(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE)
    status = models.CharField(max_length=20, default="new")
    labels = models.ManyToManyField(Label)

    class Meta:
        app_label = "shop"


surrogates.register(Upload, scope="customer")
MODELS = (Customer, Label, Upload)
ROW_1, ROW_2 = "shop.upload:1", "shop.upload:2"
LIST_7, LIST_8, ANY = "shop.upload@7", "shop.upload@8", "shop.upload"
ALL_ROWS = "shop.upload:*"


class Writes(Case):
    """One entry a name, each on ALL_ROWS too, as every answer that read the table; a write must make stale what it touched."""

    ENTRIES = {"row 1": (ROW_1, ALL_ROWS), "row 2": (ROW_2, ALL_ROWS), "list 7": (LIST_7, ALL_ROWS),
               "list 8": (LIST_8, ALL_ROWS), "any": (ANY, ALL_ROWS), "labels": ("shop.upload_labels", "shop.upload_labels:*"),
               "customer 7": ("shop.customer:7", "shop.customer:*"), "other": ("something-else",)}

    def setUp(self):
        super().setUp()
        self.etagd = self.started()
        settings_for_test = override_settings(ETAGD=self.options())
        settings_for_test.enable()
        self.addCleanup(settings_for_test.disable)
        with connection.schema_editor() as editor:
            for model in MODELS:
                editor.create_model(model)
        self.addCleanup(self.drop)
        Customer.objects.bulk_create([Customer(pk=7, name="seven"), Customer(pk=8, name="eight")])
        Upload.objects.bulk_create([Upload(pk=1, customer_id=7), Upload(pk=2, customer_id=8), Upload(pk=3, customer_id=7)])
        self.label = Label.objects.create(name="a")
        self.client = etagd.Client(self.etagd.socket)
        self.fill()

    def options(self):
        return {"SOCKET": self.etagd.socket}

    def drop(self):
        with connection.schema_editor() as editor:
            for model in reversed(MODELS):
                editor.delete_model(model)
        connection.close()

    @staticmethod
    def key(name):
        return etagd.Key(etagd.Resource(None, "/" + name.replace(" ", "/")), "test")

    def fill(self):
        for name, names in self.ENTRIES.items():
            self.client.fill_wait(self.client.token(), self.key(name), etagd.Response(etag='"1"', surrogates=names))

    def reason(self, name):
        return self.client.check(etagd.Request("GET", self.key(name), [("If-None-Match", '"1"')])).reason

    def not_known(self, reason="stale"):
        """The entries that this reason keeps from being answered; the others must be known."""
        found = {name: self.reason(name) for name in self.ENTRIES}
        self.assertLessEqual(set(found.values()), {reason, "match"}, found)
        return sorted(name for name, said in found.items() if said == reason)

    def stale(self, *expected):
        self.assertEqual(self.not_known(), sorted(expected))

    ALL = ("row 1", "row 2", "list 7", "list 8", "any")

    # ---- Statements ----

    def test_save(self):
        upload = Upload.objects.get(pk=1)
        upload.status = "done"
        upload.save()
        self.stale("row 1", "list 7", "any")

    def test_save_of_some_fields(self):
        Upload(pk=1, status="done").save(update_fields=["status"])
        self.stale("row 1", "list 7", "any")

    def test_create(self):
        Upload.objects.create(customer_id=8)
        self.stale("list 8", "any")

    def test_delete(self):
        Upload.objects.get(pk=1).delete()
        self.assertLessEqual({"row 1", "list 7", "any"}, set(self.not_known()))
        self.assertEqual(self.reason("list 8"), "match")

    def test_delete_cascades(self):
        Customer.objects.get(pk=7).delete()
        self.assertLessEqual({"row 1", "list 7", "any", "customer 7"}, set(self.not_known()))

    def test_bulk_create(self):
        Upload.objects.bulk_create([Upload(customer_id=7), Upload(customer_id=7)])
        self.stale("list 7", "any")

    def test_bulk_create_in_several_scopes(self):
        Upload.objects.bulk_create([Upload(customer_id=7), Upload(customer_id=8)])
        self.stale("list 7", "list 8", "any")

    def test_bulk_update(self):
        rows = list(Upload.objects.all())
        Upload.objects.bulk_update(rows, ["status"])
        self.stale(*self.ALL)

    def test_queryset_update_and_delete(self):
        Upload.objects.filter(status="new").update(status="old")
        self.stale(*self.ALL)
        self.fill()
        Upload.objects.filter(status="old")._raw_delete("default")
        self.stale(*self.ALL)

    def test_m2m(self):
        Upload.objects.get(pk=1).labels.add(self.label)
        self.stale("labels")
        self.fill()
        Upload.objects.get(pk=1).labels.clear()
        self.stale("labels")

    def test_raw_sql(self):
        with connection.cursor() as cursor:
            cursor.execute("update shop_upload set status = 'x' where id = 1")
        self.stale(*self.ALL)
        self.fill()
        with connection.cursor() as cursor:
            cursor.execute("WITH x AS (SELECT 1) UPDATE shop_upload SET status = %s", ["y"])
        self.stale(*self.ALL)

    def test_statements_that_are_not_understood_touch_all_rows(self):
        for sql, params in (("SELECT 1; UPDATE shop_upload SET status = 'x'", None),
                            ("/* why */ DELETE FROM shop_upload", None),
                            ("EXPLAIN ANALYZE UPDATE shop_upload SET status = 'x'", None),
                            ('UPDATE "shop_upload" SET "status" = %(a)s WHERE "shop_upload"."id" = %s', {"a": 1}),
                            ('INSERT INTO "shop_upload" ("id", "customer_id") SELECT 1, 7', []),
                            ('INSERT OR REPLACE INTO "shop_upload" ("id", "customer_id") VALUES (%s, %s)', [1, 7])):
            with self.subTest(sql):
                write, = surrogates.writes_of(sql, params, False)
                self.assertEqual(surrogates.write_names(write, write.scopes), {ANY, ALL_ROWS})
        self.assertEqual(surrogates.writes_of("SELECT 1 FROM shop_upload FOR UPDATE;", None, False), [])

    def test_explicit_call(self):
        writes.invalidate("something-else")
        self.stale("other")
        self.fill()
        writes.invalidate(instances=[Upload.objects.get(pk=1)])
        self.stale("row 1", "list 7", "any")

    def test_scope_never_changes(self):
        upload = Upload.objects.get(pk=1)
        upload.customer_id = 8
        for write in (upload.save, lambda: Upload.objects.filter(pk=1).update(customer_id=8),
                      lambda: Upload.objects.update(customer_id=8), Upload(pk=1, customer_id=8).save,
                      lambda: Upload.objects.bulk_update([upload], ["customer"])):
            with self.assertRaises(surrogates.ScopeChanged):
                write()
        self.assertEqual(Upload.objects.get(pk=1).customer_id, 7)
        self.stale()

    def test_reading_touches_nothing(self):
        list(Upload.objects.select_related("customer").filter(customer=7))
        self.stale()

    # ---- Transactions ----

    def test_nothing_before_commit(self):
        with transaction.atomic():
            Upload.objects.filter(pk=1).update(status="done")
            self.stale()
        self.stale("row 1", "list 7", "any")

    def test_in_flux_while_commit_runs(self):
        seen = []
        with transaction.atomic():
            Upload.objects.filter(pk=1).update(status="done")
            driver = connection.connection

            class Watched:
                def commit(_self):  # pylint: disable=no-self-argument
                    seen.append(self.not_known("in_flux"))
                    return driver.commit()

                def __getattr__(_self, name):  # pylint: disable=no-self-argument
                    return getattr(driver, name)

            connection.connection = Watched()
            self.addCleanup(setattr, connection, "connection", driver)
        connection.connection = driver
        self.assertEqual(seen, [["any", "list 7", "row 1"]])
        self.stale("row 1", "list 7", "any")

    def test_rollback_keeps_everything(self):
        with self.assertRaises(ZeroDivisionError):
            with transaction.atomic():
                Upload.objects.update(status="done")
                raise ZeroDivisionError
        self.stale()
        Upload.objects.filter(pk=1).update(status="done")
        self.stale("row 1", "list 7", "any")

    def test_savepoints(self):
        with transaction.atomic():
            Upload.objects.filter(pk=1).update(status="done")
            with self.assertRaises(ZeroDivisionError):
                with transaction.atomic():
                    Upload.objects.filter(pk=2).update(status="done")
                    with transaction.atomic():
                        Upload.objects.filter(pk=1).update(status="more")
                    raise ZeroDivisionError
        self.stale("row 1", "list 7", "any")

    def test_autocommit_failure_keeps_everything(self):
        with self.assertRaises(IntegrityError):
            Label.objects.create(name="a")
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

    def test_no_daemon_and_no_spool(self):
        nobody = os.path.join(self.directory, "nobody.sock")
        with override_settings(ETAGD={"SOCKET": nobody, "WITHOUT_DAEMON": "refuse", "TIMEOUT_MS": 300}):
            with self.assertRaises(writes.GuardFailed):
                with transaction.atomic():
                    Upload.objects.filter(pk=1).update(status="done")
            self.assertEqual(Upload.objects.get(pk=1).status, "new")
        with override_settings(ETAGD={"SOCKET": nobody, "TIMEOUT_MS": 300}):
            Upload.objects.filter(pk=1).update(status="done")
        self.assertEqual(Upload.objects.get(pk=1).status, "done")
        self.stale()
        Upload.objects.filter(pk=2).update(status="done")  # and with it, what could not be told
        self.stale("row 1", "list 7", "row 2", "list 8", "any")

    # ---- What an answer depends on ----

    def test_names_of_querysets(self):
        self.assertEqual(surrogates.for_queryset(Upload.objects.filter(customer=7, status="new")), [ALL_ROWS, LIST_7])
        for wide in (Upload.objects.all(), Upload.objects.exclude(customer=7),
                     Upload.objects.filter(models.Q(customer=7) | models.Q(status="new")),
                     Upload.objects.filter(customer__in=[7, 8])):
            self.assertEqual(surrogates.for_queryset(wide), [ANY, ALL_ROWS])
        self.assertEqual(surrogates.for_queryset(Upload.objects.filter(customer=7).select_related("customer")),
                         sorted(["shop.customer", "shop.customer:*", LIST_7, ALL_ROWS]))

    def test_names_of_a_row(self):
        upload = Upload.objects.get(pk=1)
        self.assertEqual(surrogates.for_instance(upload), [ROW_1, ALL_ROWS])
        noted = surrogates.Reads()
        token = writes.reads.set(noted)
        try:
            Upload.objects.get(pk=1, customer=7)
        finally:
            writes.reads.reset(token)
        self.assertEqual(noted.names(), {ANY, ALL_ROWS}, "nobody said that the row is there: it may be inserted later")
        noted.rendered(upload)
        self.assertEqual(noted.names(), {ROW_1, ALL_ROWS})


class WithoutGuards(Writes):
    """The same by invalidations after COMMIT."""

    test_in_flux_while_commit_runs = None
    test_no_daemon_and_no_spool = None

    def options(self):
        return {"SOCKET": self.etagd.socket, "GUARDS": False}


if __name__ == "__main__":
    import atexit
    import shutil

    atexit.register(shutil.rmtree, DATABASE, ignore_errors=True)
    harness.main()
