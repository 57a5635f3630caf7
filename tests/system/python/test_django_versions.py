# SPDX-License-Identifier: Apache-2.0
"""What newer Django and newer drivers brought, beside the tests of test_django_writes: what this Django has not is skipped."""
import unittest

import test_django_writes as shop
from harness import main, wait_until

import django  # noqa: E402
from asgiref.sync import async_to_sync  # noqa: E402
from django.core.exceptions import ImproperlyConfigured  # noqa: E402
from django.db import IntegrityError, connection, connections, models, transaction  # noqa: E402
from django.db.models.functions import Now, Random  # noqa: E402
from django.db.models.sql import Query, compiler  # noqa: E402
from etagd.django import reads, sql, surrogates, writes  # noqa: E402
from test_django_writes import ALL_ROWS, ANY, LIST_7, ROW_1, ROW_2, Customer, Model, Upload  # noqa: E402

VERSION = django.VERSION[:2]
MODELS = []


def since(*version):
    return unittest.skipIf(VERSION < version, f"skipped: of Django {'.'.join(map(str, version))} on")


def made(model):
    MODELS.append(model)
    return model


@made
class Many(Model):
    """For COPY: a table that nothing refers to."""

    text = models.CharField(max_length=20)


@made
class Referred(Model):
    pass


@made
class Referring(Model):
    """What happens to it on a delete, a migration says by SQL."""

    to = models.ForeignKey(Referred, on_delete=models.DO_NOTHING)


class OtherView(Model):
    to = models.ForeignKey(Referred, on_delete=models.DO_NOTHING, related_name="+")

    class Meta(Model.Meta):
        managed = False
        db_table = "shop_other_view"


if VERSION >= (5, 0):
    @made
    class Sum(Model):
        a = models.IntegerField(default=1)
        b = models.IntegerField(default=2)
        total = models.GeneratedField(expression=models.F("a") + models.F("b"), output_field=models.IntegerField(), db_persist=True)
        since = models.DateTimeField(db_default=Now())

    @made
    class Owned(Model):
        """The database says whose a row is that does not."""

        customer = models.ForeignKey(Customer, on_delete=models.CASCADE, db_default=7)
        text = models.CharField(max_length=20, default="")

    surrogates.register(Owned, scope="customer")

if VERSION >= (5, 2):
    @made
    class Place(Model):
        pk = models.CompositePrimaryKey("customer_id", "number")
        customer = models.ForeignKey(Customer, on_delete=models.CASCADE)
        number = models.IntegerField()
        text = models.CharField(max_length=20, default="")

    surrogates.register(Place, scope="customer")

if VERSION >= (6, 1):
    @made
    class Parent(Model):
        text = models.CharField(max_length=20, default="")

    @made
    class Child(Model):
        parent = models.ForeignKey(Parent, on_delete=models.DB_CASCADE)

    @made
    class Grandchild(Model):
        child = models.ForeignKey(Child, on_delete=models.DB_CASCADE)

    @made
    class Loose(Model):
        parent = models.ForeignKey(Parent, null=True, on_delete=models.DB_SET_NULL)


class Versions(shop.Base):
    ENTRIES = {**shop.Base.ENTRIES, "many": ("shop.many",), "sums": ("shop.sum",), "sum 1": ("shop.sum:1", "shop.sum:*"),
               "owned 7": ("shop.owned:@7", "shop.owned:*"), "places": ("shop.place",), "place of 7": ("shop.place:@7", "shop.place:*"),
               "parents": ("shop.parent",), "child 1": ("shop.child:1", "shop.child:*"), "children": ("shop.child",),
               "grandchild 1": ("shop.grandchild:1", "shop.grandchild:*"), "loose 1": ("shop.loose:1", "shop.loose:*"),
               "referring 1": ("shop.referring:1", "shop.referring:*")}

    def setUp(self):
        super().setUp()
        self.tables(*MODELS)
        wait_until(self.fills, 10, "it can be filled again")

    @staticmethod
    def names(work):
        noted = reads.Reads()
        token = reads.current.set(noted)
        try:
            work()
        finally:
            reads.current.reset(token)
        return noted.names()

    @staticmethod
    def execute(statement, params=None):
        with connection.cursor() as cursor:
            cursor.execute(statement, params)
            return cursor.fetchall() if cursor.description else None


class Models(Versions):
    @since(5, 0)
    def test_generated_fields_and_defaults_of_the_database(self):
        """save() of 6.0 on reads what the database made: UPDATE ... RETURNING, with rows that were open at COMMIT."""
        row = Sum.objects.create()
        row.refresh_from_db()
        self.fill()
        row.a = 5
        row.save()
        self.stale("sums", "sum 1", "anything")
        row.refresh_from_db()
        self.assertEqual((row.pk, row.total), (1, 7))
        self.fill()
        with transaction.atomic():
            Sum(pk=1, a=6).save(force_update=True)
            self.stale()
        self.stale("sums", "sum 1", "anything")
        self.assertEqual(Sum.objects.get(pk=1).total, 8)
        self.assertEqual(self.names(lambda: Sum.objects.get(pk=1)), {"shop.sum:1", "shop.sum:*"})

    @since(5, 0)
    def test_an_owner_that_the_database_says(self):
        Owned.objects.create()
        self.stale("owned 7", "anything")
        self.fill()
        Owned.objects.bulk_create([Owned(text="x"), Owned(text="y")])
        self.stale("owned 7", "anything")
        self.fill()
        Owned.objects.filter(pk=1).update(customer=models.F("customer"))
        self.stale("owned 7", "anything")

    @since(5, 0)
    def test_an_owner_that_the_database_computes(self):
        """Only the database knows which scope a write moves the row to."""
        with self.assertRaises(ImproperlyConfigured):
            surrogates.register(Sum, scope="total")

    @since(5, 2)
    def test_keys_of_several_columns(self):
        whole = ("places", "place of 7", "anything")
        Place.objects.create(customer_id=7, number=1)
        self.stale(*whole)
        self.assertEqual(self.names(lambda: Place.objects.get(pk=(7, 1))), {"shop.place"})
        self.assertEqual(self.names(lambda: list(Place.objects.filter(customer=7))), {"shop.place:@7", "shop.place:*"})
        self.assertEqual(self.names(lambda: list(Place.objects.select_related("customer").filter(customer=7))),
                         {"shop.place:@7", "shop.place:*", "shop.customer:7", "shop.customer:*"})
        place = Place.objects.get(pk=(7, 1))
        for write in (lambda: setattr(place, "text", "x") or place.save(), lambda: Place.objects.filter(pk=(7, 1)).update(text="y"),
                      lambda: Place.objects.filter(pk__in=[(7, 1), (8, 1)]).update(text="z"),
                      lambda: Place.objects.bulk_update([place], ["text"]),
                      lambda: Place.objects.bulk_create([Place(customer_id=7, number=9)]),
                      lambda: Place.objects.update_or_create(customer_id=7, number=1, defaults={"text": "w"}),
                      place.delete):
            self.fill()
            write()
            self.stale(*whole)
        noted = reads.Reads()
        noted.instance(place)
        self.assertEqual(noted.names(), {"shop.place"})
        writes.lock_sqlite(connection, Place)

    @since(6, 1)
    def test_rows_that_the_database_deletes(self):
        """DB_CASCADE: no statement names the other tables."""
        def family():
            parent = Parent.objects.create(pk=1)
            Grandchild.objects.create(pk=1, child=Child.objects.create(pk=1, parent=parent))
            Loose.objects.update_or_create(pk=1, defaults={"parent": parent})
            self.fill()
            return parent
        family_of = ("parents", "child 1", "children", "grandchild 1", "loose 1", "anything")
        for delete in (lambda parent: parent.delete(), lambda parent: Parent.objects.filter(pk=1).delete(),
                       lambda parent: Parent.objects.all()._raw_delete("default"),
                       lambda parent: self.execute("DELETE FROM shop_parent")):
            delete(family())
            self.assertEqual((Child.objects.count(), Grandchild.objects.count(), Loose.objects.get().parent_id), (0, 0, None))
            self.stale(*family_of)
        self.fill()
        Parent.objects.create(pk=5).save()
        self.stale("parents", "anything")

    def test_rows_whose_end_a_migration_may_have_said(self):
        Referred.objects.create(pk=1).delete()
        self.stale("referring 1", "anything")
        self.fill()
        Referred.objects.create(pk=2).save()
        self.stale("anything")

    @since(4, 1)
    def test_rows_that_are_written_over(self):
        Upload.objects.bulk_create([Upload(pk=1, customer_id=7, status="x")], update_conflicts=True, unique_fields=["id"],
                                   update_fields=["status"])
        self.stale(*self.ALL)

    @since(4, 2)
    def test_async_calls(self):
        async def write():
            await Upload.objects.filter(pk=1).aupdate(status="a")
        async_to_sync(write)()
        self.stale(*self.TOUCHED)

        async def read():
            await Upload.objects.aget(pk=1)
            return [upload async for upload in Upload.objects.filter(customer=7)]
        self.assertEqual(self.names(async_to_sync(read)), {ROW_1, LIST_7, ALL_ROWS})

        async def save():
            await Upload(pk=1, customer_id=7).asave()

        async def delete():
            await Upload.objects.filter(pk=1).adelete()
        for act in (save, delete):
            self.fill()
            async_to_sync(act)()
            self.assertLessEqual(self.TOUCHED, self.not_known())

    def test_in_bulk_and_chunks(self):
        self.assertEqual(self.names(lambda: Upload.objects.in_bulk([1, 2])), {ROW_1, ROW_2, ALL_ROWS})
        self.assertEqual(self.names(lambda: list(Upload.objects.filter(customer=7).iterator(chunk_size=1))), {LIST_7, ALL_ROWS})
        self.assertEqual(self.names(lambda: list(Upload.objects.filter(pk__in=[1, 3]).iterator(chunk_size=1))), {ANY})


class WithQuery(Query):
    """As django-cte and its like make them."""

    def get_compiler(self, *args, **kwargs):
        made_by_django = super().get_compiler(*args, **kwargs)
        made_by_django.__class__ = WithCompiler
        return made_by_django


class WithCompiler(compiler.SQLCompiler):
    def as_sql(self, *args, **kwargs):
        statement, params = super().as_sql(*args, **kwargs)
        return 'WITH RECURSIVE "tree" AS (SELECT "shop_label"."id" FROM "shop_label") ' + statement, params


class Statements(Versions):
    def test_a_select_that_begins_with_with_is_no_write(self):
        query = models.QuerySet(Upload, query=WithQuery(Upload)).filter(customer=7)
        self.assertEqual(len(query), 2)
        self.stale()
        self.assertEqual(self.names(lambda: list(query.all())), {"shop.label", LIST_7, ALL_ROWS})
        self.assertFalse(sql.tables_read('WITH "tree" AS (SELECT 1) SELECT * FROM "shop_upload" INNER JOIN "tree"')[1], "what is it?")
        for text in ("WITH x AS (DELETE FROM shop_upload RETURNING id) SELECT * FROM x", "WITH x AS (SELECT 1) UPDATE shop_upload SET a = 1",
                     "WITH x AS (SELECT 1) SELECT 1; DELETE FROM shop_upload", "WITH x AS (SELECT ') /* '), y AS (DELETE FROM shop_upload",
                     "WITH x AS (SELECT 1) SELECT 1 INTO shop_new", "WITH x AS (SELECT $$'$$) DELETE FROM shop_upload WHERE id = $$'$$"):
            self.assertFalse(sql.is_with_select(text), text)
        self.assertTrue(sql.is_with_select('WITH x AS (SELECT "update" FROM a WHERE b = \'DELETE\' AND c #> d) SELECT * FROM x FOR UPDATE'))

    def test_functions_that_are_known(self):
        for call in ("UNACCENT(x)", "SIMILARITY(x, y)", "TRIGRAM_WORD_SIMILARITY(x, y)", "WORD_SIMILARITY(x, y)", "JSONB_ARRAY_LENGTH(x)",
                     "jsonb_path_query_first(x, y)", "JSONB_SET(x, y, z)", "TO_JSONB(x)", "JSON_AGG(x)", "ST_Distance(x, y)",
                     "ST_DWithin(x, y, 5)", "ST_GeomFromEWKB(x)", "ST_AsGeoJSON(x)", "TS_HEADLINE(x)", "ANY_VALUE(x)", "JSON_ARRAYAGG(x)",
                     "ARRAY_LENGTH(x, 1)", "SHA256(x)", "JSON_EACH(x)", "RANGE_MERGE(x, y)"):
            known = sql.tables_read(f'SELECT {call} FROM "shop_upload"')[1]
            self.assertEqual(known, not call.startswith("TRIGRAM_"), call)
        for call in ("ST_FromFlatGeobufToTable(x, y, z)", "JSONB_EVIL(x)", "NEXTVAL(x)", "SETVAL(x)", "PG_ADVISORY_LOCK(x)", "SET_CONFIG(x), 1",
                     "DBLINK(x)", "ST_Mine(x)", "PG_NOTIFY(x)", "LO_UNLINK(x)", "QUERY_TO_XML(x)"):
            self.assertFalse(sql.tables_read(f'SELECT {call} FROM "shop_upload"')[1], call)
            self.assertEqual(sql.classify(f"SELECT {call}")[0], sql.ANYTHING)

    def test_random_values_are_no_data(self):
        for call in ("UUIDV4()", "uuidv7()", "GEN_RANDOM_UUID()", "UUID4()", "UUID7()", "UUID_GENERATE_V4()", "RANDOMBLOB(9)",
                     "CLOCK_TIMESTAMP()", "TIMEOFDAY()", "AGE(x)", "RANDOM_NORMAL()"):
            self.assertTrue(sql.asks_the_clock(f"SELECT {call}"), call)
        noted = reads.Reads()
        token = reads.current.set(noted)
        list(Upload.objects.annotate(x=Random()).values("x"))
        reads.current.reset(token)
        noted.names()
        self.assertIn("clock", noted.changing)

    def test_rows_that_a_write_by_hand_returns(self):
        """SQLite commits such a statement with its last row, and no COMMIT works before."""
        upload = [(1, "x"), (3, "x")]
        for statement in ("UPDATE shop_upload SET status = 'x' WHERE customer_id = 7 RETURNING id, status",
                          "/* why */ UPDATE shop_upload SET status = 'x' WHERE customer_id = 7 RETURNING id, status"):
            self.fill()
            with connection.cursor() as cursor:
                cursor.execute(statement)
                self.assertTrue(writes.state_of(connection).by_hand is False, "it is committed")
                self.assertEqual(cursor.fetchone(), upload[0])
                self.assertEqual([column[0] for column in cursor.description], ["id", "status"])
                self.assertEqual(list(cursor), upload[1:])
                self.assertEqual(cursor.fetchall(), [])
                self.assertLessEqual(self.ALL, self.not_known())
                cursor.execute("SELECT id FROM shop_upload WHERE customer_id = 7 ORDER BY id")
                self.assertEqual(cursor.fetchmany(1) + cursor.fetchall(), [(1,), (3,)])
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO shop_label (name) VALUES ('r') RETURNING name")
            self.assertEqual(list(cursor), [("r",)])


class Soundness(shop.Soundness):
    """The same with what newer Django has, among it the rows that the database deletes."""

    STEPS = 600
    QUERIES, WRITES = list(shop.Soundness.QUERIES[:6]), list(shop.Soundness.WRITES[:10])
    if VERSION >= (5, 0):
        QUERIES += [
            lambda c, r: Owned.objects.filter(customer=c).order_by("id").values_list(),
            lambda c, r: Owned.objects.filter(pk=r % 4).values_list(),
            lambda c, r: Sum.objects.filter(pk=r % 4).values_list("total"),
            lambda c, r: [Sum.objects.filter(total__gt=r).count()],
        ]
        WRITES += [
            lambda c, r: Owned.objects.create(text="x"),
            lambda c, r: Owned.objects.filter(pk=r % 4).update(customer=c),
            lambda c, r: Owned.objects.bulk_create([Owned(pk=r % 4, customer_id=c)], update_conflicts=True, unique_fields=["id"],
                                                   update_fields=["customer"]),
            lambda c, r: Sum(pk=r % 4, a=r, since=Now()).save(),
            lambda c, r: Sum.objects.filter(b=2).update(a=models.F("a") + 1),
            lambda c, r: Versions.execute("UPDATE shop_sum SET a = 9 WHERE id = %s RETURNING total", [r % 4]),
        ]
    if VERSION >= (5, 2):
        QUERIES += [
            lambda c, r: Place.objects.filter(customer=c).order_by("number").values_list(),
            lambda c, r: Place.objects.filter(pk=(c, r % 3)).values_list(),
            lambda c, r: Place.objects.filter(pk__in=[(c, 1), (7, r % 3)]).order_by("pk").values_list(),
            lambda c, r: [(p.text, p.customer.name) for p in Place.objects.select_related("customer").filter(customer=c).order_by("number")],
            lambda c, r: list(Place.objects.filter(customer=c).order_by("number").iterator(chunk_size=1)),
        ]
        WRITES += [
            lambda c, r: Place(pk=(c, r % 3), text=f"t{r}").save(),
            lambda c, r: Place.objects.filter(pk=(c, r % 3)).update(text="u"),
            lambda c, r: Place.objects.filter(pk=(c, r % 3)).delete(),
            lambda c, r: Place.objects.filter(number=r % 3).update(number=models.F("number") + 10),
        ]
    if VERSION >= (6, 1):
        QUERIES += [
            lambda c, r: Child.objects.filter(pk=r % 4).values_list(),
            lambda c, r: Grandchild.objects.filter(pk=r % 4).values_list(),
            lambda c, r: [(row.pk, row.child.parent_id) for row in Grandchild.objects.select_related("child").filter(pk=r % 4)],
            lambda c, r: Loose.objects.filter(pk=r % 4).values_list(),
        ]
        WRITES += [
            lambda c, r: Parent.objects.filter(pk=r % 4).delete(),
            lambda c, r: Parent.objects.filter(pk=r % 4)._raw_delete("default"),
            lambda c, r: connection.cursor().execute("DELETE FROM shop_parent WHERE id = %s", [r % 4]),
            lambda c, r: Child.objects.filter(pk=r % 4).delete(),
        ]

    def setUp(self):
        super().setUp()
        self.tables(*MODELS)
        for pk in range(1, 4):
            if VERSION >= (5, 0):
                Owned.objects.create(pk=pk, customer_id=6 + pk)
                Sum.objects.create(pk=pk, a=pk)
            if VERSION >= (5, 2):
                Place.objects.create(pk=(7, pk))
            if VERSION >= (6, 1):
                parent = Parent.objects.create(pk=pk)
                Loose.objects.create(pk=pk, parent=parent)
                Grandchild.objects.create(pk=pk, child=Child.objects.create(pk=pk, parent=parent))
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql" and VERSION >= (5, 0):
                cursor.execute("SELECT setval('shop_owned_id_seq', 100)")


@unittest.skipUnless(shop.PSYCOPG3, "skipped: not psycopg 3")
class Psycopg3(Versions):
    def elsewhere(self, statement):
        """What another connection sees."""
        other = connections.create_connection("default")
        try:
            with other.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall()
        finally:
            other.close()

    def test_copy(self):
        """The rows are sent in the block: the guard was over before."""
        with connection.cursor() as cursor:
            with cursor.copy("COPY shop_many (text) FROM STDIN") as copy:
                copy.write_row(["a"])
                copy.write_row(["b"])
                self.fill()
        self.everything_stale()
        self.assertEqual(self.elsewhere("SELECT count(*) FROM shop_many"), [(2,)])
        self.fill()
        with transaction.atomic():
            with connection.cursor() as cursor, cursor.copy("COPY shop_many (text) FROM STDIN") as copy:
                copy.write_row(["c"])
            self.stale()
        self.everything_stale()
        self.fill()
        with self.assertRaises(ZeroDivisionError), connection.cursor() as cursor:
            with cursor.copy("COPY shop_many (text) FROM STDIN"):
                raise ZeroDivisionError
        self.stale()
        self.assertFalse(writes.state_of(connection).names)

    def test_copy_by_a_connection_of_ones_own(self):
        other = connections.create_connection("default")
        try:
            with other.cursor() as cursor, cursor.copy("COPY shop_many (text) FROM STDIN") as copy:
                copy.write_row(["d"])
                self.stale()
            self.everything_stale()
            self.assertEqual(self.elsewhere("SELECT count(*) FROM shop_many"), [(1,)])
            self.assertTrue(other.get_autocommit())
        finally:
            other.close()

    def test_rows_of_copy_are_noted(self):
        noted = reads.Reads()
        token = reads.current.set(noted)
        with connection.cursor() as cursor, cursor.copy("COPY shop_many TO STDOUT") as copy:
            list(copy)
        reads.current.reset(token)
        self.assertTrue(noted.wrote, "so it is not stored")

    def test_stream(self):
        with connection.cursor() as cursor:
            self.assertEqual(list(cursor.stream("SELECT 1")), [(1,)])
            self.assertEqual(self.names(lambda: list(cursor.stream("SELECT id FROM shop_upload"))), {"*"})
        self.stale()
        with connection.cursor() as cursor:
            rows = cursor.stream("UPDATE shop_upload SET status = %s WHERE customer_id = 7 RETURNING id", ["s"])
            self.stale()
            self.assertEqual(sorted(rows), [(1,), (3,)])
        self.everything_stale()
        self.assertEqual(self.elsewhere("SELECT count(*) FROM shop_upload WHERE status = 's'"), [(2,)])

    def test_pipeline_in_autocommit(self):
        """A statement is only sent: its change was seen after the guard's end, or no guard stood at all."""
        connection.ensure_connection()
        with connection.connection.pipeline():
            Upload.objects.filter(pk=1).update(status="p")
            self.assertEqual(self.elsewhere("SELECT status FROM shop_upload WHERE id = 1"), [("p",)])
            self.stale(*self.TOUCHED)
            self.fill()
            self.execute("UPDATE shop_upload SET status = 'q' WHERE id = 1")
            self.assertEqual(self.elsewhere("SELECT status FROM shop_upload WHERE id = 1"), [("q",)])
            self.stale(*self.ALL)
            self.fill()
            with connection.cursor() as cursor:
                cursor.execute("/* any */ UPDATE shop_upload SET status = 'r' WHERE id = 1")
            self.assertEqual(self.elsewhere("SELECT status FROM shop_upload WHERE id = 1"), [("r",)])
            self.everything_stale()
        self.assertFalse(writes.state_of(connection).names)

    def test_pipeline_in_a_transaction(self):
        connection.ensure_connection()
        with connection.connection.pipeline():
            with transaction.atomic():
                Upload.objects.filter(pk=1).update(status="p")
                self.assertTrue(writes.in_transaction())
                self.stale()
            self.assertEqual(self.elsewhere("SELECT status FROM shop_upload WHERE id = 1"), [("p",)])
            self.stale(*self.TOUCHED)
            self.fill()
            with self.assertRaises(IntegrityError):
                with transaction.atomic():
                    Upload.objects.create(customer_id=99)  # refused by COMMIT
            self.assertFalse(writes.state_of(connection).names)
            self.assertFalse(writes.in_transaction())
            self.stale()

    def test_many_rows_in_one_batch(self):
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO shop_many (text) VALUES (%s)", [("a",), ("b",)])
        self.stale("many", "anything")

    @since(5, 1)
    def test_connections_of_a_pool(self):
        if not connection.settings_dict["OPTIONS"].get("pool"):
            self.skipTest("skipped: no pool")
        for status in ("p", "q", "r"):
            self.fill()
            Upload.objects.filter(pk=1).update(status=status)
            self.stale(*self.TOUCHED)
            connection.close()
        self.fill()
        with transaction.atomic():
            Upload.objects.filter(pk=1).update(status="gone")
            connection.close()
        self.assertEqual(Upload.objects.get(pk=1).status, "r")
        connection.close()
        self.stale()
        self.assertFalse(writes.in_transaction())


if __name__ == "__main__":
    main()
