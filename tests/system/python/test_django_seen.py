# SPDX-License-Identifier: Apache-2.0
"""What was not seen is not stored: each source that a page can read from, under gunicorn, beside a process that writes. With --postgres
on PostgreSQL, else SQLite."""
import base64
import datetime
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import django_site
import harness
import postgres
from django_web import Web
from harness import Case, put_file, wait_until

django_site.require("django", "gunicorn")
POSTGRES = postgres.asked_for()
PLACE = django_site.temporary()
os.environ["ETAGD_SOCKET"] = os.path.join(PLACE, "etagd.sock")
if POSTGRES:
    os.environ["SEEN_PG"] = POSTGRES.directory
else:
    os.environ["SEEN_DB"] = os.path.join(PLACE, "db.sqlite3")

import seen_site as site  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, connections, models, transaction  # noqa: E402
from django.db.models.signals import post_init  # noqa: E402
from django.utils import timezone  # noqa: E402
from etagd.django import catalog, clock, sql, surrogates  # noqa: E402
from etagd.django.postgres import routines  # noqa: E402

LONG_AGO = datetime.datetime(2020, 5, 5, 12, 30, 1, 250000, tzinfo=datetime.timezone.utc)


class Workers(Web):
    ALIVE = "logs", 200

    def __init__(self, name="web", count=2, application="seen_site:application", directory=PLACE, **environment):
        super().__init__(PLACE, name, directory, **environment)
        self.gunicorn(application, "-w", str(count))

    def ask(self, path, etag=None, **more):
        reply = super().ask(path if path.startswith("/") else f"/{path}/", etag, **more)
        reply.body = reply.body.decode()
        return reply


class Seen(Case):
    @classmethod
    def setUpClass(cls):
        cls.etagd = cls.shared_daemon(PLACE, linger_ms=3000)
        call_command("migrate", verbosity=0)
        django_site.create(*site.MODELS)
        cls.addClassCleanup(connections.close_all)
        cls.addClassCleanup(django_site.drop, *site.MODELS)
        site.Owner.objects.bulk_create([site.Owner(pk=7, name="seven"), site.Owner(pk=8, name="eight")])
        cls.web = Workers()
        cls.addClassCleanup(cls.web.end)
        cls.web.serving()

    def setUp(self):
        super().setUp()
        for model in (site.Comment, site.Item, site.Loose, site.Post, site.Log, site.Copied, site.Child, site.Base):
            model.objects.all().delete()

    @staticmethod
    def sql(*statements):
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def stored(self, page, web=None):
        """Its first answer, once both workers' next ones come from etagd."""
        web = web or self.web

        def hit():
            first = web.ask(page)
            again = web.ask(page, first.etag)
            self.assertFalse(again.said.startswith("bypass"), f"{page}: {again}")
            return first if again.said.startswith("hit") else None
        return wait_until(hit, 10, f"{page} is stored")

    def refused(self, page, reason, web=None):
        for _ in range(2):
            reply = (web or self.web).ask(page)
            self.assertEqual(reply.status, 200, reply)
            self.assertEqual(reply.said, f"bypass; reason={reason}", page)
        return reply

    def changes(self, page, write, web=None):
        """The page is stored, write() is done, and whoever has the old version gets the new one."""
        old = self.stored(page, web)
        write()
        self.is_new(page, old, web)

    def is_new(self, page, old, web=None):
        for _ in range(4):
            new = (web or self.web).ask(page, old.etag)
            self.assertEqual(new.status, 200, f"{page}: 304 for {old.body!r} by {new.said}")
            self.assertNotEqual(new.body, old.body, page)


class Forms(unittest.TestCase):
    """What texts and values are taken for."""

    def test_times_in_parameters(self):
        utc = datetime.timezone.utc
        day, moment = datetime.date(2026, 5, 5), datetime.datetime(2026, 5, 5, 12, 30, 1, 5, tzinfo=utc)
        chicago = timezone.get_default_timezone()
        began = timezone.make_aware(datetime.datetime(2026, 5, 5), chicago)
        ranged = type("Range", (), {"lower": moment, "upper": None})()
        seconds = int(time.time())
        for params, expected in (
                ([], clock.NEVER), (["text", 7, None, True, b"x", 1.5, "2026", "12-12", "2026-99-99 10:00"], clock.NEVER),
                ([moment], clock.AT_ONCE), ([day], clock.UNTIL_MIDNIGHT), ([day, moment], clock.AT_ONCE), ((["a", [moment]],), clock.AT_ONCE),
                ({"x": moment}, clock.AT_ONCE), ([ranged], clock.AT_ONCE), ([began], clock.UNTIL_MIDNIGHT),
                ([began - datetime.timedelta(microseconds=1)], clock.UNTIL_MIDNIGHT),
                (["2026-05-05"], clock.UNTIL_MIDNIGHT), (["2026-05-05 00:00:00"], clock.UNTIL_MIDNIGHT),
                (["2026-05-05 12:30:01.000005"], clock.AT_ONCE), (["2026-05-05T12:30Z"], clock.AT_ONCE), (["12:30:00"], clock.AT_ONCE),
                ([datetime.time(12, 30)], clock.AT_ONCE), (["now"], clock.AT_ONCE), ([" NOW "], clock.AT_ONCE), (["known"], clock.NEVER),
                ([seconds], clock.AT_ONCE), ([seconds * 1000.0], clock.AT_ONCE), ([seconds // 2], clock.NEVER),
                ([datetime.datetime.max, datetime.datetime.min], clock.NEVER)):
            with self.subTest(params):
                self.assertEqual(clock.changes(params, set), expected)

    def test_times_in_urls(self):
        utc = datetime.timezone.utc
        moment = datetime.datetime(2026, 5, 5, 12, 30, 1, 250000, tzinfo=utc)
        paginated = base64.b64encode(b"p=2026-05-05+12%3A30%3A01.250000%2B00%3A00").decode()
        for url in ("/x/?at=2026-05-05T12:30:01.25Z", "/x/?at=2026-05-05+12%3A30%3A01.25", "/x/2026-05-05T12:30:01.250000/",
                    "/x/?at=2026-05-05T07:30:01.25", "/x/?at=2026-05-05T14:30:01.25%2B02:00", f"/x/?cursor={paginated}"):
            with self.subTest(url):
                self.assertEqual(clock.changes([moment], lambda: clock.in_url(url)), clock.NEVER)  # noqa: B023
        for url in ("", "/x/?at=2026-05-05", "/x/?at=2026-05-05T12:30:02.25Z", "/x/?at=2026-05-05T12:30:01Z", "/x/?q=now"):
            with self.subTest(url):
                self.assertEqual(clock.changes([moment, "now"], lambda: clock.in_url(url)), clock.AT_ONCE)  # noqa: B023

    def test_statements(self):
        for text in ("SELECT age(x)", "SELECT datetime()", "SELECT STRFTIME('%Y')", "SELECT a < 'today' FROM t", "SELECT 1 FROM t TABLESAMPLE SYSTEM (1)",
                     "SELECT last_value FROM s", "SELECT uuid_generate_v4()", "SELECT n_live_tup FROM pg_stat_user_tables"):
            self.assertTrue(sql.asks_the_clock(text), text)
        for text in ("SELECT age FROM t", "SELECT LAST_VALUE(a) OVER () FROM t", 'SELECT "now" FROM t', "SELECT datetime(a) FROM t",
                     "SELECT a FROM pg_catalog.t"):
            self.assertFalse(sql.asks_the_clock(text), text)
        for text in ("SET search_path TO x", "set role x", "SET SESSION AUTHORIZATION x", "SET app.tenant = '7'", "RESET ROLE",
                     "SELECT set_config('app.tenant', '7', false)"):
            self.assertTrue(sql.sets_session(text), text)
            self.assertEqual(sql.classify(text)[0], sql.NOTHING, text)
        for text in ("SET LOCAL search_path TO x", "SET statement_timeout = 5", "SET CONSTRAINTS ALL DEFERRED", "SET TRANSACTION READ ONLY",
                     "SELECT set_config('app.tenant', '7', true)"):
            self.assertFalse(sql.sets_session(text), text)
        self.assertEqual(sql.classify("SELECT set_config('a', change_all(), false)")[0], sql.ANYTHING)
        for text, expected in (("CREATE TEMP TABLE x (a int)", True), ("SELECT 1 INTO TEMPORARY x", True), ("CREATE TABLE temp.x (a)", True),
                               ("CREATE TEMP TABLE x (a int) ON COMMIT DROP", False), ("UPDATE public.sensor SET temp = 5", False)):
            self.assertEqual(sql.makes_temporary(text), expected, text)

    def test_bodies_of_triggers(self):
        known = {"log", "item"}
        for body, written in (
                ("IF TG_OP = 'INSERT' THEN NEW.at := now(); END IF; RETURN NEW;", set()),
                ("INSERT INTO log (text) VALUES ('UPDATE'); -- DELETE FROM item\n", {"log"}),
                ('UPDATE ONLY "item" SET a = 1; DELETE FROM public.log', {"log", "item"}),
                ("INSERT OR REPLACE INTO log VALUES (1)", {"log"}),
                ("INSERT INTO log VALUES (1) ON CONFLICT DO UPDATE SET a = 1", {"log"}),
                ("PERFORM 1 FROM item FOR UPDATE", set()),
                ("EXECUTE 'DELETE FROM log'", None), ("DELETE FROM elsewhere", None), ("UPDATE item SET a = 1; MERGE x", None),
                ("WITH x AS (DELETE FROM item RETURNING *) INSERT INTO log SELECT * FROM x", {"item", "log"})):
            with self.subTest(body):
                self.assertEqual(routines.tables_written(body, known), written)


class Models(Seen):
    def test_proxies_and_parents(self):
        site.Child.objects.create(text="a", more="b")
        self.changes("base", lambda: site.Proxy.objects.update(text="by proxy"))
        self.changes("child", lambda: site.Base.objects.update(text="by parent"))
        self.changes("base", lambda: site.Child.objects.update(text="by child"))
        self.changes("child", lambda: site.Child.objects.update(more="c"))

    def test_generic_foreign_keys(self):
        log = site.Log.objects.create(text="old")
        site.Comment.objects.create(text="c", target=log)
        self.changes("comments", lambda: site.Log.objects.filter(pk=log.pk).update(text="new"))

    def test_permissions_of_groups(self):
        user, _ = site.User.objects.get_or_create(pk=1, defaults={"username": "u"})
        group, _ = site.Group.objects.get_or_create(name="g")
        user.groups.set([group])
        group.permissions.clear()
        from django.contrib.auth.models import Permission

        self.changes("may", lambda: group.permissions.add(Permission.objects.first()))

    def test_signals_that_write(self):
        def write(instance, **_):
            if isinstance(instance, site.Item):
                site.Log.objects.create(text="by a signal")
        site.Item.objects.create(owner_id=7)
        post_init.connect(write, sender=site.Item)
        self.addCleanup(post_init.disconnect, write, sender=site.Item)
        self.changes("logs", lambda: list(site.Item.objects.all()))

    def test_databases_of_run_time(self):
        site.Log.objects.create(text="old")
        self.changes("made-at-run-time", lambda: site.Log.objects.update(text="new"))

    def test_a_cursor_that_is_kept(self):
        site.Log.objects.create(text="old")
        kept = connection.cursor()
        kept.execute("SELECT 1")
        kept.fetchall()
        self.changes("logs", lambda: kept.execute("UPDATE seen_log SET text = 'new'"))
        self.changes("by-hand", lambda: kept.execute("UPDATE seen_log SET text = 'newer'"))

    def test_a_row_that_is_referred_to_may_be_absent(self):
        """INNER JOIN without a foreign key in the database: the list grows when the other row comes."""
        site.Loose.objects.create(owner_id=7, text="there")
        site.Loose.objects.create(owner_id=7, text="more")
        with connection.constraint_checks_disabled():
            site.Owner.objects.filter(pk=7).delete()
        self.addCleanup(site.Owner.objects.get_or_create, pk=7, defaults={"name": "seven"})
        self.changes("loose", lambda: site.Owner.objects.create(pk=7, name="seven"))
        site.Item.objects.create(owner_id=7, text="x")
        old = self.stored("owned")
        site.Owner.objects.filter(pk=8).update(name="another")
        self.assertEqual(self.web.ask("owned", old.etag).status, 304, "row-wise where the database has the key")

    def test_what_a_delete_in_the_database_takes_along(self):
        site.Item.objects.create(owner_id=8)
        if POSTGRES:
            self.sql("CREATE TABLE seen_measure (id serial PRIMARY KEY, text text, area integer REFERENCES seen_owner ON DELETE CASCADE)")
        else:
            self.sql("CREATE TABLE seen_measure (id integer PRIMARY KEY, text text, area integer REFERENCES seen_owner ON DELETE CASCADE)")
        self.addCleanup(self.sql, "DROP TABLE seen_measure")
        site.Owner.objects.create(pk=9, name="nine")
        site.Measure.objects.create(text="of nine", area=9)
        old = self.stored("measures")
        site.Owner.objects.filter(pk=9).update(name="still there")
        self.assertEqual(self.web.ask("measures", old.etag).status, 304, "its key did not change")
        self.changes("measures", lambda: site.Owner.objects.filter(pk=9)._raw_delete("default"))

    def test_triggers(self):
        """They write other tables; those that are known become stale, and no others."""
        site.Log.objects.create(text="first")
        if POSTGRES:
            self.sql("""CREATE FUNCTION logged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                            IF TG_OP = 'INSERT' THEN INSERT INTO seen_log (text) VALUES ('by a trigger'); END IF;
                            RETURN NEW; END $$""",
                     "CREATE TRIGGER logged AFTER INSERT ON seen_item FOR EACH ROW EXECUTE FUNCTION logged()")
            self.addCleanup(self.sql, "DROP FUNCTION logged() CASCADE")
        else:
            self.sql("CREATE TRIGGER logged AFTER INSERT ON seen_item BEGIN INSERT INTO seen_log (text) VALUES ('by a trigger'); END")
            self.addCleanup(self.sql, "DROP TRIGGER IF EXISTS logged")
        post = site.Post.objects.create(text="post", publish_at=LONG_AGO)
        self.assertIsNotNone(post)
        other = self.stored("in-year")
        self.changes("logs", lambda: site.Item.objects.create(owner_id=7))
        self.changes("logs", lambda: self.sql("INSERT INTO seen_item (owner_id, text) VALUES (7, 'plain')"))
        self.assertEqual(self.web.ask("in-year", other.etag).status, 304)

    def test_a_trigger_that_comes_while_workers_run(self):
        """By a migration in another process: each process learns of it with the next write."""
        site.Item.objects.create(owner_id=7)  # this process knows the catalog
        subprocess.run([sys.executable, "-c", "import seen_site; from django.db import connection\n"
                        "with connection.cursor() as c:\n    for s in __import__('json').loads(__import__('sys').argv[1]): c.execute(s)", __import__("json").dumps(
                            ["CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM seen_log; RETURN NULL; END $$",
                             "CREATE TRIGGER late AFTER UPDATE ON seen_item EXECUTE FUNCTION late()"] if POSTGRES else
                            ["CREATE TRIGGER late AFTER UPDATE ON seen_item BEGIN DELETE FROM seen_log; END"])],
                       check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(os.path.abspath(__file__)), django_site.PACKAGE])})
        self.addCleanup(self.sql, "DROP FUNCTION late() CASCADE" if POSTGRES else "DROP TRIGGER IF EXISTS late")
        site.Log.objects.create(text="there")
        self.changes("logs", lambda: site.Item.objects.filter(owner=7).update(text="x"))

    def test_the_catalog_is_read_when_the_schema_may_have_changed(self):
        """Not by each request or write."""
        read, count = catalog._read, []
        self.addCleanup(setattr, catalog, "_read", read)
        site.Log.objects.create(text="x")
        wait_until(lambda: catalog._is_current(catalog.of(connection), catalog._identity(connection)), 10, "it is in etagd")
        catalog._read = lambda *args: count.append(args) or read(*args)
        for i in range(5):
            site.Log.objects.create(text=str(i))
            site.Log.objects.filter(text=str(i)).update(text="y")
            surrogates.for_queryset(site.Log.objects.all())
        self.assertEqual(len(count), 0)
        self.sql("CREATE TABLE more (id integer)")
        self.addCleanup(self.sql, "DROP TABLE more")
        with transaction.atomic():
            for i in range(5):
                site.Log.objects.create(text=str(i))
        self.assertGreaterEqual(len(count), 1)

    def test_views_of_the_database(self):
        self.sql("CREATE VIEW seen_recent AS SELECT id, text FROM seen_post")
        self.addCleanup(self.sql, "DROP VIEW IF EXISTS seen_recent")
        site.Post.objects.create(pk=1, text="old", publish_at=LONG_AGO)
        self.changes("recent", lambda: site.Post.objects.update(text="new"))

    def test_a_view_that_asks_the_clock(self):
        now = "now()" if POSTGRES else "datetime('now')"
        self.sql(f"CREATE VIEW seen_recent AS SELECT id, text FROM seen_post WHERE publish_at <= {now}")
        self.addCleanup(self.sql, "DROP VIEW IF EXISTS seen_recent")
        site.Post.objects.create(text="post", publish_at=LONG_AGO)
        self.refused("recent", "view_clock")

    def test_a_replica(self):
        """A page that reads elsewhere than its writes go may be filled from what the replica does not have yet."""
        site.Copied.objects.create(text="old")
        self.refused("copied", "replica")
        held = Workers("held", count=1, SEEN_OPTIONS='{"HOLD_MS": 300}')
        self.addCleanup(held.end)
        held.serving()
        self.stored("copied", held)

    def test_functions_of_python(self):
        if POSTGRES:
            self.skipTest("skipped: SQLite's")
        site.Item.objects.create(owner_id=7)
        self.refused("aged", "function")

    def test_chance(self):
        site.Item.objects.bulk_create([site.Item(owner_id=7, text=str(i)) for i in range(9)])
        self.refused("random", "clock")

    def test_temporary_tables(self):
        """They are one connection's own."""
        alone = Workers("alone", count=1)
        self.addCleanup(alone.end)
        alone.serving()
        site.Log.objects.create(text="all see this")
        self.stored("by-hand", alone)
        alone.ask("/leave/?sql=CREATE+TEMP+TABLE+seen_log+AS+SELECT+1+AS+id,+'nobody+else+does'+AS+text")
        self.assertIn("nobody", self.refused("by-hand", "temporary_table", alone).body)
        self.refused("logs", "temporary_table", alone)


@unittest.skipUnless(POSTGRES, "skipped: not on PostgreSQL")
class Postgres(Seen):
    """Only there."""

    def raw(self):
        """A connection beside Django."""
        return connection.Database.connect(host=POSTGRES.directory, user="etagd", dbname="etagd")

    def test_a_row_that_came_between_the_question_whose_it_is_and_the_update(self):
        """The lock lets the question pass and stops the UPDATE, which then finds the row."""
        site.Item.objects.create(owner_id=7, text="first")
        lock = self.raw()
        with lock.cursor() as cursor:
            cursor.execute("LOCK TABLE seen_item IN SHARE MODE")

        def insert():
            def waits():
                with lock.cursor() as cursor:
                    cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'seen_item'::regclass")
                    return cursor.fetchone()[0]
            wait_until(waits, 20, "the UPDATE waits")
            with lock.cursor() as cursor:
                cursor.execute("INSERT INTO seen_item (id, owner_id, text) VALUES (500, 7, 'old')")
            lock.commit()
        for write in (lambda: site.Item.objects.filter(pk=500).update(text="new"), lambda: site.Item.objects.filter(pk=500).delete()):
            other = threading.Thread(target=insert)
            other.start()
            with transaction.atomic():
                write()
                other.join()
                old = self.stored("items")
                self.assertIn("old", old.body)
            self.is_new("items", old)
            site.Item.objects.filter(pk=500).delete()
            with lock.cursor() as cursor:
                cursor.execute("LOCK TABLE seen_item IN SHARE MODE")
        lock.close()

    def test_a_row_that_is_not_there_leaves_lists_alone(self):
        site.Item.objects.create(owner_id=7, text="first")
        old = self.stored("items")
        site.Item.objects.filter(pk=501).update(text="nobody")
        self.assertEqual(self.web.ask("items", old.etag).status, 304)

    def test_partitions_by_their_own_model(self):
        self.sql("CREATE TABLE seen_measure (id serial, text text, area integer, PRIMARY KEY (id, area)) PARTITION BY LIST (area)",
                 "CREATE TABLE seen_measurea PARTITION OF seen_measure FOR VALUES IN (1)")
        self.addCleanup(self.sql, "DROP TABLE seen_measure")
        self.both_ways()

    def test_children_by_their_own_model(self):
        self.sql("CREATE TABLE seen_measure (id serial PRIMARY KEY, text text, area integer)",
                 "CREATE TABLE seen_measurea () INHERITS (seen_measure)")
        self.addCleanup(self.sql, "DROP TABLE seen_measure CASCADE")
        self.both_ways()

    def both_ways(self):
        site.MeasureA.objects.create(pk=1, text="one", area=1)
        self.changes("measures", lambda: site.MeasureA.objects.filter(pk=1).update(text="by its own"))
        self.changes("measure", lambda: site.MeasureA.objects.filter(pk=1).update(text="by its own again"))
        self.changes("measures-a", lambda: site.Measure.objects.filter(pk=1).update(text="by the parent"))
        self.changes("measures", lambda: self.sql("UPDATE seen_measurea SET text = 'plain'"))

    def test_a_stored_function_that_writes(self):
        self.sql("CREATE FUNCTION count_it(integer) RETURNS integer LANGUAGE sql AS "
                 "'INSERT INTO seen_log (text) VALUES (''counted''); SELECT 1'")
        self.addCleanup(self.sql, "DROP FUNCTION count_it(integer)")
        site.Item.objects.create(owner_id=7)
        counted = site.Item.objects.annotate(n=models.Func("pk", function="count_it", output_field=models.IntegerField()))
        self.changes("logs", lambda: list(counted))
        self.changes("logs", lambda: site.Item.objects.update(text=models.Func(1, function="count_it", output_field=models.CharField())))
        self.changes("log-count", lambda: self.refused("counted", "wrote"))

    def test_stored_functions_that_read(self):
        self.sql("CREATE FUNCTION double_it(integer) RETURNS integer STABLE LANGUAGE sql AS "
                 "'SELECT $1 * (SELECT count(*) FROM seen_log)::integer'",
                 "CREATE FUNCTION age_of(integer) RETURNS integer STABLE LANGUAGE sql AS 'SELECT extract(year FROM now())::integer - $1'")
        self.addCleanup(self.sql, "DROP FUNCTION double_it(integer), age_of(integer)")
        site.Item.objects.create(owner_id=7)
        self.changes("doubled", lambda: site.Log.objects.create(text="x"))
        self.refused("aged", "function")

    def test_a_standby(self):
        """Not told by any router: the site's database is one."""
        POSTGRES.run("pg_basebackup", "-D", "standby", "-R", "-X", "stream", "-c", "fast", "-d", f"host={POSTGRES.directory} dbname=postgres")
        POSTGRES.run("pg_ctl", "-D", "standby", "-w", "-l", os.path.join(POSTGRES.directory, "standby.log"), "-o",
                     f"-p 5433 -k {POSTGRES.directory} -c listen_addresses='' -c hot_standby=on", "start")
        self.addCleanup(POSTGRES.run, "pg_ctl", "-D", "standby", "-m", "immediate", "stop")
        site.Log.objects.create(text="x")
        follower = Workers("follower", count=1, SEEN_PORT="5433")
        self.addCleanup(follower.end)
        follower.serving()
        self.refused("logs", "standby", follower)
        held = Workers("held-follower", count=1, SEEN_PORT="5433", SEEN_OPTIONS='{"HOLD_MS": 300}')
        self.addCleanup(held.end)
        held.serving()
        self.stored("logs", held)

    def test_copy(self):
        def copied():
            with connection.cursor() as cursor:
                if hasattr(cursor.cursor, "copy_expert"):
                    cursor.copy_expert("COPY seen_log (text) FROM STDIN", io.StringIO("copied\n"))
                else:
                    with cursor.copy("COPY seen_log (text) FROM STDIN") as copy:
                        copy.write("copied\n")
        self.changes("logs", copied)

    def test_copy_commits_under_its_guard(self):
        """psycopg 3: the data are sent after copy() has returned."""
        with connection.cursor() as cursor:
            if not hasattr(cursor.cursor, "copy"):
                self.skipTest("skipped: psycopg 3")
            old = self.stored("logs")
            with cursor.copy("COPY seen_log (text) FROM STDIN") as copy:
                copy.write("copied\n")
                again = self.stored("logs")  # filled while the data were on their way
                self.assertEqual(again.body, old.body)
        self.is_new("logs", again)

    def test_streams(self):
        with connection.cursor() as cursor:
            if not hasattr(cursor.cursor, "stream"):
                self.skipTest("skipped: psycopg 3")

            def streamed():
                self.assertEqual(len(list(cursor.stream("INSERT INTO seen_log (text) VALUES ('a'), ('b') RETURNING id"))), 2)
            self.changes("logs", streamed)
            old = self.stored("logs")
            self.assertEqual(len(list(cursor.stream("SELECT id FROM seen_log"))), 2)
            self.assertEqual(self.web.ask("logs", old.etag).status, 304)

    def test_the_cursor_of_the_driver(self):
        def by(execute):
            return lambda: execute(f"UPDATE seen_log SET text = 'new {time.monotonic()}'")
        site.Log.objects.create(text="old")
        with connection.cursor() as cursor:
            self.changes("logs", by(cursor.cursor.execute))
        self.changes("logs", by(connection.connection.cursor().execute))
        other = site.Post.objects.create(text="x", publish_at=LONG_AGO)
        self.assertIsNotNone(other)
        known = self.stored("in-year")
        self.changes("logs", by(connection.connection.cursor().execute))
        self.assertEqual(self.web.ask("in-year", known.etag).status, 304, "judged by its text")

    def test_materialized_views(self):
        self.sql("CREATE MATERIALIZED VIEW seen_recent AS SELECT id, text FROM seen_post")
        self.addCleanup(self.sql, "DROP MATERIALIZED VIEW seen_recent")
        site.Post.objects.create(text="old", publish_at=LONG_AGO)
        self.refused("recent", "materialized_view")
        self.changes("recent-told", lambda: self.sql("REFRESH MATERIALIZED VIEW seen_recent"))

    def test_foreign_tables(self):
        put_file(os.path.join(PLACE, "rows.csv"), "1,elsewhere\n")
        os.chmod(PLACE, 0o755)
        self.sql("CREATE EXTENSION file_fdw", "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw",
                 "CREATE FOREIGN TABLE seen_elsewhere (id integer, text text) SERVER files OPTIONS "
                 f"(filename '{PLACE}/rows.csv', format 'csv')", "CREATE VIEW seen_recent AS SELECT id, text FROM seen_elsewhere")
        self.addCleanup(self.sql, "DROP EXTENSION file_fdw CASCADE")
        self.refused("elsewhere", "foreign_table")
        self.refused("recent", "foreign_table")
        self.stored("recent-told")
        self.sql("CREATE TABLE seen_measure (id integer, text text) PARTITION BY RANGE (id)")
        self.addCleanup(self.sql, "DROP TABLE seen_measure")
        self.stored("measures")
        self.sql(f"CREATE FOREIGN TABLE seen_far PARTITION OF seen_measure DEFAULT SERVER files OPTIONS (filename '{PLACE}/rows.csv', format 'csv')")
        self.refused("measures", "foreign_table")

    def test_row_security(self):
        """A policy reads what no statement says."""
        self.sql("CREATE TABLE seen_secured (id serial PRIMARY KEY, text text)", "ALTER TABLE seen_secured ENABLE ROW LEVEL SECURITY",
                 "ALTER TABLE seen_secured FORCE ROW LEVEL SECURITY", "CREATE ROLE seen_reader", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO seen_reader",
                 "CREATE POLICY may ON seen_secured USING (EXISTS (SELECT FROM seen_log))", "INSERT INTO seen_secured (text) VALUES ('secret')")
        self.addCleanup(self.sql, "DROP TABLE seen_secured", "DROP OWNED BY seen_reader", "DROP ROLE seen_reader")
        reader = Workers("reader", count=1, SEEN_OPTIONS='{"PREFIX": ""}', SEEN_ROLE="seen_reader")
        self.addCleanup(reader.end)
        reader.serving()
        self.changes("secured", lambda: site.Log.objects.create(text="opens it"), reader)

    def test_settings_that_a_request_left(self):
        alone = Workers("left", count=1)
        self.addCleanup(alone.end)
        alone.serving()
        site.Log.objects.create(text="public")
        self.stored("logs", alone)
        for harmless in ("SET+statement_timeout+=+60000", "SET+LOCAL+search_path+TO+nowhere"):
            alone.ask(f"/leave/?sql={harmless}")
            self.stored("logs", alone)
        self.sql("CREATE SCHEMA tenant", "CREATE TABLE tenant.seen_log AS SELECT 1 AS id, 'a tenant''s' AS text")
        self.addCleanup(self.sql, "DROP SCHEMA tenant CASCADE")
        alone.ask("/leave/?sql=SET+search_path+TO+tenant,public")
        self.assertIn("tenant", self.refused("logs", "session_settings", alone).body)

    def test_rows_that_others_work_on(self):
        site.Log.objects.create(text="x")
        self.refused("locked", "locks")

    def test_what_changes_without_a_write(self):
        site.Item.objects.create(owner_id=7)
        for page in ("uuid", "sequence", "estimate"):
            self.refused(page, "clock")

    def test_migrations_by_sql(self):
        from django.db.migrations import RunSQL
        from django.db.migrations.state import ProjectState

        site.Log.objects.create(text="old")

        def migrate():
            with connection.schema_editor() as editor:
                RunSQL("UPDATE public.seen_log SET text = 'migrated'").database_forwards("seen", editor, ProjectState(), ProjectState())
        self.changes("logs", migrate)


class Clock(Seen):
    def setUp(self):
        super().setUp()
        site.Post.objects.create(pk=1, text="long ago", publish_at=LONG_AGO)
        site.Post.objects.create(pk=2, text="soon", publish_at=LONG_AGO.replace(year=2090))

    def test_a_page_of_what_is_published_now(self):
        for page, reason in (("published", "clock_parameter"), ("published-before", "clock_parameter"),
                             ("published-pythons", "clock_parameter"), ("published-in-python", "clock_python"), ("last-days", "clock_parameter"), ("now", "clock_python"), ("since-when", "clock_python"),
                             ("natural", "clock_python"), ("epoch", "clock_parameter"), ("today-word", "clock_parameter")):
            if page != "today-word" or POSTGRES:
                with self.subTest(page):
                    self.refused(page, reason)
        if not POSTGRES:
            self.refused("strftime", "clock_parameter")

    def test_what_becomes_published_is_shown(self):
        site.Post.objects.filter(pk=2).update(publish_at=timezone.now() + datetime.timedelta(seconds=1.5))
        pages = {name: self.web.ask(name) for name in ("published", "published-before", "published-pythons", "published-in-python")}
        for page, reply in pages.items():
            self.web.ask(page, reply.etag)
            if "soon" not in reply.body:
                wait_until(lambda: "soon" in self.web.ask(page).body, 10, "it is published")  # noqa: B023
                self.is_new(page, reply)

    def test_a_time_to_live_bounds_it(self):
        self.stored("bounded")

    def test_a_point_in_time_that_the_url_says(self):
        self.stored("/since/?since=2020-05-05T12:30:01.25%2B00:00")
        self.stored("/since/?since=2020-05-05%2012:30Z")

    def test_a_point_in_time_that_a_row_says(self):
        self.stored("next-post")

    def test_a_day_is_good_until_one_begins_somewhere(self):
        """A day may be the today of a zone that is not the site's, which begins at some quarter of an hour."""
        for page in ("todays", "in-year"):
            self.stored(page)
            words = self.web.ask(page, '"x"').said.partition("key=")[2]
            told = subprocess.run(f"{harness.ETAGCTL} --socket {self.etagd.socket} explain {words}", shell=True, check=True,
                                  capture_output=True, text=True).stdout
            self.assertRegex(told, r"expires +\d{4}-\d\d-\d\dT\d\d:(59|00|14|15|29|30|44|45)")


class Deployments(Seen):
    def test_a_worker_that_was_there_before_the_files_were_copied(self):
        """It renders by the former code. What it fills must not be the next release's, whose workers would answer 304 for it."""
        project = tempfile.mkdtemp(prefix="seen-project-", dir=PLACE)

        def deploy(text):
            with open(os.path.join(project, "deployed.py"), "w", encoding="utf-8") as file:
                file.write(f"import seen_site\nseen_site.settings.ROOT_URLCONF = 'deployed'\nfrom seen_site import *\n"
                           f"urlpatterns += [view_of('deployed', lambda request: '{text} ' + texts(Log.objects.all()))]\n"
                           f"open({project!r} + '/loaded', 'w').close()\n")
        deploy("former")
        how = {"count": 1, "application": "deployed:application", "directory": project, "SEEN_OPTIONS": '{"RELEASE": null}'}
        former = Workers("former", **how)
        self.addCleanup(former.end)
        wait_until(lambda: os.path.exists(os.path.join(project, "loaded")), 30, "its code is loaded, and nobody has asked yet")
        deploy("the next one ")
        old = self.stored("deployed", former)
        following = Workers("following", **how)
        self.addCleanup(following.end)
        following.serving()
        self.is_new("deployed", old, following)


if __name__ == "__main__":
    harness.main()
