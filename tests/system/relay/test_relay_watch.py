# SPDX-License-Identifier: Apache-2.0
"""etagd.watch(): what triggers put into the outbox, whoever writes and however; what they cannot see the digest of the catalogs shows;
what cannot be watched is refused by name. Against real servers."""
import io
import itertools
import re
import subprocess

import relay_db
from harness import Case, main
from relay_db import Blocked, Engine, ask, errors, one, psycopg2

SERVER = relay_db.Server.make()
NUMBERS = itertools.count()
VERSION = SERVER.sql("SELECT current_setting('server_version_num')::int / 10000", database="postgres")[0][0]
SERVER.sql("CREATE ROLE shop LOGIN; CREATE ROLE other LOGIN; CREATE ROLE stranger LOGIN; GRANT etagd_writer TO shop, other", database="postgres")


def names_of(row):
    """The names of a row of the outbox; of a family with ":*"."""
    row, at, names = bytes(row), 1, []
    assert row[0] in (1, 2) and len(row) <= 8192
    if row[0] == 2:  # by a trigger
        words, by = row[1:].split(b"\n")
        assert re.fullmatch(rb"[a-z]+@\[local\] \(.*\)", by), by
        return [word[1:].decode() + {"s": "", "f": ":*"}[word[:1].decode()] for word in words.split(b" ")]
    while at < len(row):
        end = at + 3 + int.from_bytes(row[at + 1:at + 3], "big")
        if row[at] == ord("w"):
            assert at == 1 and len(row) > end, "who wrote it is said first, of a row that names something"
        else:
            names.append({ord("s"): "", ord("f"): ":*"}[row[at]].join([row[at + 3:end].decode(), ""]))
        at = end
    return names


class WithTable(Case):
    """A database with a table "uploads", which its owner "shop" watches."""
    TEMPLATES = ("upload:{id}", "customer:{customer_id}")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.database = SERVER.database(f"watch{next(NUMBERS)}")
        SERVER.sql("CREATE TABLE public.first (id int); SELECT etagd.watch('public.first', 'first')", database=cls.database)
        SERVER.sql(relay_db.read_schema(), database=cls.database)  # with the event trigger

    def setUp(self):
        super().setUp()
        self.admin = self.connection("etagd")
        ask(self.admin, "DROP OWNED BY shop, other, stranger CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        ask(self.admin, "SELECT etagd.watch_forget(relation) FROM etagd.watched")
        ask(self.admin, "GRANT ALL ON SCHEMA public TO shop, other, stranger; SET search_path = public")
        self.shop = self.connection("shop")
        self.make()
        self.watch("uploads", *self.TEMPLATES)

    def make(self):
        ask(self.shop, "CREATE TABLE uploads (id bigint PRIMARY KEY, customer_id int, title text)")
        ask(self.shop, "INSERT INTO uploads SELECT n, n %% 3, 'old' FROM generate_series(1, %s) n", 9)

    def connection(self, user):
        made = SERVER.connect(self.database, user)
        self.addCleanup(made.close)
        return made

    def watch(self, table, *templates, by=None):
        marks = ", ".join(["%s"] * (1 + len(templates)))
        return one(by or self.shop, f"SELECT etagd.watch({marks})", table, *templates)

    def rows(self):
        """What came into the outbox since the last look."""
        return ask(self.admin, "WITH gone AS (DELETE FROM etagd.outbox RETURNING id, targets) SELECT targets FROM gone ORDER BY id")

    def named(self, *statements, by=None):
        """What these statements put into the outbox."""
        self.rows()
        for statement in statements:
            ask(by or self.shop, statement)
        return self.seen()

    def seen(self):
        return sorted(set(itertools.chain(*(names_of(row) for row, in self.rows()))))

    def digest(self):
        return one(self.admin, "SELECT etagd.watch_digest()")

    def state(self, table="uploads"):
        return ask(self.admin, "SELECT state, why FROM etagd.watches() WHERE name = %s", "public." + table)[0]

    def check_broken(self, pattern, table="uploads"):
        state, why = self.state(table)
        self.assertEqual(state, "broken")
        self.assertRegex(why, pattern)
        self.assertEqual(self.digest() & 1, 1)

    def check_whole(self, table="uploads", state="watched"):
        self.assertEqual(self.state(table)[0], state)
        self.assertEqual(self.digest() & 1, 0)
        self.assertNotEqual(self.digest(), 0)

    def check_changed(self, *statements, by=None):
        """The digest is another one after them: each host raises everything."""
        before = self.digest()
        for statement in statements:
            ask(by or self.shop, statement)
        self.assertNotEqual(self.digest() | 1, before | 1)


class Statements(WithTable):
    def test_each_kind_of_statement_names_old_and_new_rows(self):
        self.assertEqual(self.named("INSERT INTO uploads VALUES (10, 7, 'x'), (11, 8, 'x')"), ["customer:7", "customer:8", "upload:10", "upload:11"])
        self.assertEqual(self.named("UPDATE uploads SET customer_id = 9 WHERE id = 10"), ["customer:7", "customer:9", "upload:10"])
        self.assertEqual(self.named("UPDATE uploads SET id = 12 WHERE id = 11"), ["customer:8", "upload:11", "upload:12"])
        self.assertEqual(self.named("UPDATE uploads SET title = 'y' WHERE id = 12"), ["customer:8", "upload:12"])
        self.assertEqual(self.named("DELETE FROM uploads WHERE id >= 10"), ["customer:8", "customer:9", "upload:10", "upload:12"])
        self.assertEqual(self.named("UPDATE uploads SET title = 'y' WHERE false", "DELETE FROM uploads WHERE false",
                                    "INSERT INTO uploads SELECT * FROM uploads WHERE false"), [])
        self.assertEqual(self.named("WITH gone AS (DELETE FROM uploads WHERE id = 1 RETURNING *) UPDATE uploads SET title = 'z' WHERE id = 2"),
                         ["customer:1", "customer:2", "upload:1", "upload:2"])

    def test_truncate_names_the_families_also_by_cascade(self):
        ask(self.shop, "CREATE TABLE customers (id int PRIMARY KEY); INSERT INTO customers SELECT generate_series(0, 9)")
        ask(self.shop, "ALTER TABLE uploads ADD FOREIGN KEY (customer_id) REFERENCES customers")
        self.assertEqual(self.named("TRUNCATE customers CASCADE"), ["customer:*", "upload:*"])
        self.assertEqual(self.named("TRUNCATE uploads"), ["customer:*", "upload:*"], "of no row, too")

    def test_upserts(self):
        self.assertEqual(self.named("INSERT INTO uploads VALUES (1, 5, 'new'), (20, 6, 'new') ON CONFLICT (id) DO UPDATE SET customer_id = excluded.customer_id"),
                         ["customer:1", "customer:5", "customer:6", "upload:1", "upload:20"])
        self.assertEqual(self.named("INSERT INTO uploads VALUES (1, 5, 'new') ON CONFLICT DO NOTHING"), [])

    def test_merge(self):
        if VERSION < 15:
            self.skipTest("MERGE is of PostgreSQL 15")
        self.assertEqual(self.named("""MERGE INTO uploads u USING (VALUES (1, 5), (2, NULL), (30, 6)) s(id, customer) ON u.id = s.id
            WHEN MATCHED AND customer IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET customer_id = customer
            WHEN NOT MATCHED THEN INSERT VALUES (s.id, customer, 'merged')"""),
            ["customer:1", "customer:2", "customer:5", "customer:6", "upload:1", "upload:2", "upload:30"])

    def test_copy_and_copy_freeze(self):
        self.rows()
        with self.shop.cursor() as cursor:
            cursor.copy_expert("COPY uploads FROM STDIN", io.StringIO("40\t1\ta\n41\t\\N\tb\n"))
        self.assertEqual(self.seen(), ["customer:1", "customer:null", "upload:40", "upload:41"])
        ask(self.shop, "BEGIN; TRUNCATE uploads")
        with self.shop.cursor() as cursor:
            cursor.copy_expert("COPY uploads FROM STDIN WITH (FREEZE)", io.StringIO("50\t1\ta\n"))
        ask(self.shop, "COMMIT")
        self.assertEqual(self.seen(), ["customer:*", "customer:1", "upload:*", "upload:50"])

    def test_more_rows_than_are_named_one_at_a_time_are_the_family(self):
        ask(self.admin, "SELECT etagd.set_watch_rows(5)")
        for statement in ("INSERT INTO uploads SELECT n, 1, 'x' FROM generate_series(100, 99 + {0}) n", "UPDATE uploads SET title = 'y' WHERE id BETWEEN 100 AND 99 + {0}",
                          "DELETE FROM uploads WHERE id BETWEEN 100 AND 99 + {0}"):
            with self.subTest(statement[:6]):
                rows = [f"upload:{n}" for n in range(100, 105)]
                self.assertEqual(self.named(statement.format(5)), ["customer:1", *rows])
                ask(self.shop, "DELETE FROM uploads WHERE id >= 100")
                if not statement.startswith("INSERT"):
                    ask(self.shop, "INSERT INTO uploads SELECT n, 1, 'x' FROM generate_series(100, 105) n")
                self.assertEqual(self.named(statement.format(6)), ["customer:*", "upload:*"])
                ask(self.shop, "INSERT INTO uploads SELECT n, 1, 'x' FROM generate_series(100, 105) n ON CONFLICT DO NOTHING")

    def test_many_names_are_many_rows(self):
        ask(self.admin, "SELECT etagd.set_watch_rows(5000)")
        self.rows()
        ask(self.shop, "INSERT INTO uploads SELECT n, n, 'x' FROM generate_series(1000, 4999) n")
        rows = self.rows()
        self.assertGreater(len(rows), 5)
        names = list(itertools.chain(*(names_of(row) for row, in rows)))
        self.assertEqual(sorted(names), sorted(f"{kind}:{n}" for kind in ("upload", "customer") for n in range(1000, 5000)))

    def test_cascades_of_foreign_keys(self):
        ask(self.shop, "CREATE TABLE customers (id int PRIMARY KEY); INSERT INTO customers SELECT generate_series(0, 9)")
        ask(self.shop, "ALTER TABLE uploads ADD CONSTRAINT c FOREIGN KEY (customer_id) REFERENCES customers ON DELETE CASCADE ON UPDATE CASCADE")
        self.assertEqual(self.named("UPDATE customers SET id = 20 WHERE id = 1"), ["customer:1", "customer:20", "upload:1", "upload:4", "upload:7"])
        self.assertEqual(self.named("DELETE FROM customers WHERE id = 20"), ["customer:20", "upload:1", "upload:4", "upload:7"])
        ask(self.shop, "ALTER TABLE uploads DROP CONSTRAINT c, ADD FOREIGN KEY (customer_id) REFERENCES customers ON DELETE SET NULL")
        self.assertEqual(self.named("DELETE FROM customers WHERE id = 2"), ["customer:2", "customer:null", "upload:2", "upload:5", "upload:8"])

    def test_a_role_that_fires_no_ordinary_triggers(self):
        ask(self.admin, "SET session_replication_role = replica")
        self.assertEqual(self.named("UPDATE uploads SET title = 'r' WHERE id = 1", "TRUNCATE uploads", by=self.admin),
                         ["customer:*", "customer:1", "upload:*", "upload:1"])

    def test_a_writer_needs_no_right_of_ours(self):
        ask(self.shop, "GRANT INSERT ON uploads TO stranger")
        self.assertEqual(self.named("INSERT INTO uploads VALUES (60, 1, 'x')", by=self.connection("stranger")), ["customer:1", "upload:60"])

    def test_a_path_of_the_writer_is_not_trusted(self):
        writer = self.connection("shop")
        ask(writer, "CREATE FUNCTION public.int2send(int2) RETURNS bytea LANGUAGE plpgsql AS $$BEGIN RAISE 'called'; END$$")
        ask(writer, "CREATE FUNCTION pg_temp.octet_length(bytea) RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE 'called'; END$$")
        for left, right, name in itertools.product(("text", "oid", "int4", "int8", "record"), ("text", "oid", "int4", "int8", "record"), ("=", ">", "<=", "*=", "!~", "<>")):
            function = f"trap_{left}_{right}"
            ask(self.admin, f"CREATE OR REPLACE FUNCTION public.{function}(pg_catalog.{left}, pg_catalog.{right}) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'called'; END$$")
            ask(self.admin, f"CREATE OPERATOR public.{name} (LEFTARG = pg_catalog.{left}, RIGHTARG = pg_catalog.{right}, FUNCTION = public.{function})")
        for name in ("concat_ws(text, text, text)", "convert_to(text, name)", "octet_length(text)", "unnest(int4[])", "current_setting(text)", "host(inet)", "inet_client_addr()"):
            ask(self.admin, f"CREATE FUNCTION public.{name} RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'called'; END$$")
        for name in ("text", "int4", "int8", "oid"):
            ask(self.admin, f"CREATE DOMAIN public.{name} AS bool")
        ask(self.admin, "GRANT USAGE ON SCHEMA public TO PUBLIC")  # what it cannot use a path passes over
        ask(writer, "CREATE TEMP TABLE new_rows (id bool, customer_id bool); CREATE TEMP TABLE old_rows (id bool, customer_id bool); CREATE TEMP TABLE outbox (targets bool)")
        self.watch("uploads", "upload:{id}", "customer:{customer_id}", "title:{title}")
        ask(writer, "SET search_path = public, pg_temp, pg_catalog")
        row = "WHERE id OPERATOR(pg_catalog.=)"
        for statement, names in ((f"DELETE FROM uploads {row} 1::bigint", ["customer:1", "title:old", "upload:1"]),
                                 (f"UPDATE uploads SET title = 'a b' {row} 2::bigint", ["customer:2", "title:*", "title:old", "upload:2"]),
                                 (f"UPDATE uploads SET title = 'ab' {row} ANY ('{{3,4}}'::bigint[])", ["customer:0", "customer:1", "title:ab", "title:old", "upload:3", "upload:4"]),
                                 ("INSERT INTO uploads VALUES (90, 9, 'x')", ["customer:9", "title:x", "upload:90"]),
                                 ("TRUNCATE uploads", ["customer:*", "title:*", "upload:*"])):
            with self.subTest(statement):
                self.assertEqual(self.named(statement, by=writer), names)

    def test_the_function_that_a_writer_runs_says_the_schema_of_all_that_it_names(self):
        """It has no search_path of its own, which would cost each write too much."""
        self.watch("uploads", "upload:{id}", "customer:{customer_id}", "title:{title}:{id}", "list")
        (text, definer), = ask(self.admin, "SELECT prosrc, prosecdef FROM pg_proc WHERE proname ~ '^watched_[0-9]'")
        self.assertTrue(definer)
        bare = re.sub(r"--[^\n]*|#variable_conflict use_column|<<me>>", "", re.sub(r"E?'(?:[^'\\]|\\.|'')*'", "''", text))
        called = set(re.findall(r"(?<![.\w])(\w+) *\(", bare))
        self.assertEqual(called - {"coalesce"} - {word for word in called if word.isupper()}, {"n"}, "an alias")
        self.assertEqual(re.findall(r"[-+*/<>=~!@#%^&|`?]+", re.sub(r"OPERATOR\(pg_catalog\.[^)]*\)|:=|count\(\*\)|\w\.\*", "", bare)), [])
        self.assertEqual(set(re.findall(r"::(\w+)", bare)), {"pg_catalog"})
        self.assertEqual(set(re.findall(r"(\w+)\.\w+\(", bare)), {"pg_catalog", "etagd"})


class Transactions(WithTable):
    def test_savepoints_and_rollbacks(self):
        self.assertEqual(self.named("BEGIN", "UPDATE uploads SET title = 'a' WHERE id = 1", "SAVEPOINT s", "UPDATE uploads SET title = 'a' WHERE id = 2",
                                    "ROLLBACK TO s", "SAVEPOINT t", "UPDATE uploads SET title = 'a' WHERE id = 3", "RELEASE t", "COMMIT"),
                         ["customer:0", "customer:1", "upload:1", "upload:3"])
        self.assertEqual(self.named("BEGIN", "TRUNCATE uploads", "ROLLBACK"), [])

    def test_a_prepared_transaction_has_its_event_when_it_is_committed(self):
        self.assertEqual(self.named("BEGIN", "UPDATE uploads SET title = 'a' WHERE id = 1", f"PREPARE TRANSACTION '{self.database}'"), [])
        ask(self.shop, f"COMMIT PREPARED '{self.database}'")
        self.assertEqual(self.seen(), ["customer:1", "upload:1"])

    def test_a_deferred_constraint_that_writes_at_commit(self):
        ask(self.shop, """CREATE TABLE log (n int); CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN UPDATE uploads SET title = ''late'' WHERE id = 9; RETURN NULL; END'""")
        ask(self.shop, "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON log DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()")
        self.assertEqual(self.named("BEGIN", "INSERT INTO log VALUES (1)", "COMMIT"), ["customer:0", "upload:9"])

    def test_watching_waits_for_who_writes_and_who_writes_later_is_seen(self):
        writer = self.connection("shop")
        ask(self.shop, "SELECT etagd.unwatch('uploads')")
        ask(writer, "BEGIN")
        ask(writer, "UPDATE uploads SET title = 'before' WHERE id = 1")
        watch = Blocked(self, SERVER, self.connection("shop"), "SELECT etagd.watch('uploads', 'upload:{id}')")
        watch.until("relation")
        ask(writer, "COMMIT")
        watch.result()
        self.assertEqual(self.named("UPDATE uploads SET title = 'after' WHERE id = 2", by=writer), ["upload:2"])

    def test_serializable_writers_of_other_rows_do_not_meet(self):
        ask(self.shop, "INSERT INTO uploads SELECT n, n, 'x' FROM generate_series(100, 3000) n")
        ask(self.admin, "ANALYZE uploads")
        first, second = self.connection("shop"), self.connection("shop")
        for writer, row in ((first, 200), (second, 2900)):
            ask(writer, "BEGIN ISOLATION LEVEL SERIALIZABLE")
            ask(writer, "SELECT title FROM uploads WHERE id = %s", row)
            ask(writer, "UPDATE uploads SET title = 'y' WHERE id = %s", row)
        self.assertEqual(self.named("SELECT 1"), [])
        ask(first, "COMMIT")
        ask(second, "COMMIT")
        self.assertEqual(self.seen(), ["customer:200", "customer:2900", "upload:200", "upload:2900"])

    def test_an_unlogged_table_is_empty_after_a_crash_and_the_witness_is_gone(self):
        server = relay_db.Server.make()
        database = server.database("crash")
        server.sql("CREATE UNLOGGED TABLE public.t (id int); SELECT etagd.watch('public.t', 't:{id}'); INSERT INTO public.t VALUES (1)", database=database)
        engine = Engine(server.conninfo(database), "a")
        self.assertIn("witness", engine.poll())
        engine.close()
        server.end()
        relay_db.restart_after(server, "a crash")
        engine = Engine(server.conninfo(database), "a")
        self.addCleanup(engine.close)
        self.assertEqual(server.sql("SELECT count(*) FROM public.t", database=database), [(0,)])
        self.assertNotIn("witness", engine.poll())


class Parts(WithTable):
    """Partitions and children: triggers of a parent don't fire for writes that name a part, nor a part's for writes of its parent."""

    def make(self):
        ask(self.shop, "CREATE TABLE uploads (id bigint, customer_id int, title text) PARTITION BY RANGE (id)")
        ask(self.shop, "CREATE TABLE u1 PARTITION OF uploads FOR VALUES FROM (0) TO (100)")
        ask(self.shop, "CREATE TABLE u2 PARTITION OF uploads FOR VALUES FROM (100) TO (200) PARTITION BY LIST (customer_id)")
        ask(self.shop, "CREATE TABLE u2a (title text, customer_id int, gone int, id bigint); ALTER TABLE u2a DROP gone")  # other column numbers
        ask(self.shop, "ALTER TABLE u2 ATTACH PARTITION u2a FOR VALUES IN (1)")
        ask(self.shop, "CREATE TABLE u2b PARTITION OF u2 DEFAULT")

    def without_event_trigger(self):
        ask(self.admin, "ALTER EVENT TRIGGER etagd_watch DISABLE")
        self.addCleanup(ask, self.admin, "ALTER EVENT TRIGGER etagd_watch ENABLE")

    def test_by_whatever_name_it_is_written(self):
        self.assertEqual(self.named("INSERT INTO uploads VALUES (1, 1), (101, 1), (102, 2)"),
                         ["customer:1", "customer:2", "upload:1", "upload:101", "upload:102"])
        self.assertEqual(self.named("INSERT INTO u1 VALUES (2, 7)"), ["customer:7", "upload:2"])
        self.assertEqual(self.named("UPDATE u2a SET title = 'x'"), ["customer:1", "upload:101"])
        self.assertEqual(self.named("UPDATE u2 SET title = 'x'"), ["customer:1", "customer:2", "upload:101", "upload:102"])
        self.assertEqual(self.named("DELETE FROM u2b"), ["customer:2", "upload:102"])
        self.assertEqual(self.named("TRUNCATE u2a"), ["customer:*", "upload:*"])
        with self.assertRaises(errors.WrongObjectType):
            ask(self.shop, "TRUNCATE ONLY uploads")
        self.check_whole()

    def test_a_row_that_moves_to_another_partition(self):
        ask(self.shop, "INSERT INTO uploads VALUES (1, 1), (101, 1)")
        self.assertEqual(self.named("UPDATE uploads SET id = 150, customer_id = 8 WHERE id = 1"), ["customer:1", "customer:8", "upload:1", "upload:150"])
        self.assertEqual(self.named("UPDATE u2 SET customer_id = 9 WHERE id = 101"), ["customer:1", "customer:9", "upload:101"])

    def test_a_partition_that_is_made_or_attached_gets_triggers_at_once(self):
        self.check_changed("CREATE TABLE u3 PARTITION OF uploads FOR VALUES FROM (200) TO (300)")
        self.assertEqual(self.named("INSERT INTO u3 VALUES (201, 1)"), ["customer:1", "upload:201"])
        ask(self.shop, "CREATE TABLE u4 (LIKE uploads) PARTITION BY RANGE (id); CREATE TABLE u4a PARTITION OF u4 FOR VALUES FROM (300) TO (350);"
            "CREATE TABLE u4b PARTITION OF u4 DEFAULT; INSERT INTO u4 VALUES (301, 2)")
        self.check_changed("ALTER TABLE uploads ATTACH PARTITION u4 FOR VALUES FROM (300) TO (400)")
        self.assertEqual(self.named("DELETE FROM u4a"), ["customer:2", "upload:301"])
        self.assertEqual(self.named("INSERT INTO u4 VALUES (360, 3)"), ["customer:3", "upload:360"])
        ask(self.admin, "SET session_replication_role = replica")
        self.assertEqual(self.named("DELETE FROM u4b", by=self.admin), ["customer:3", "upload:360"])
        self.check_whole()
        self.assertTrue(self.watch("uploads").endswith(" tables"))
        self.check_changed("ALTER TABLE uploads DETACH PARTITION u4")
        self.check_whole()

    def test_without_an_event_trigger_the_digest_finds_it(self):
        self.without_event_trigger()
        before = self.digest()
        ask(self.shop, "CREATE TABLE u3 PARTITION OF uploads FOR VALUES FROM (200) TO (300)")
        self.assertNotEqual(self.digest(), before)
        self.check_broken(r"public\.u3 lacks triggers.*etagd\.watch\('public\.uploads'\)")
        self.assertEqual(self.named("INSERT INTO u3 VALUES (201, 1)"), [], "what is the digest for?")
        self.assertRegex(self.watch("uploads"), r"public.uploads is watched: 24 triggers on 6 tables; when a part comes, call this again")
        self.check_whole()
        self.assertEqual(self.named("DELETE FROM u3"), ["customer:1", "upload:201"])

    def test_a_partition_that_comes_while_it_is_watched(self):
        self.without_event_trigger()
        ask(self.shop, "SELECT etagd.unwatch('uploads')")
        maker = self.connection("shop")
        ask(maker, "BEGIN")
        ask(maker, "CREATE TABLE u3 PARTITION OF uploads FOR VALUES FROM (200) TO (300)")
        watch = Blocked(self, SERVER, self.connection("shop"), "SELECT etagd.watch('uploads', 'upload:{id}')")
        watch.until("relation")
        ask(maker, "COMMIT")
        self.assertRegex(watch.result()[0][0], "24 triggers on 6 tables")
        self.check_whole()

    def test_a_partition_that_was_away_between_two_polls_is_noticed(self):
        self.check_changed("ALTER TABLE uploads DETACH PARTITION u1", "ALTER TABLE uploads ATTACH PARTITION u1 FOR VALUES FROM (0) TO (100)")
        self.check_whole()

    def test_a_partition_that_is_dropped_is_noticed(self):
        self.check_changed("DROP TABLE u1")
        self.check_whole()

    def test_who_creates_tables_elsewhere_is_not_disturbed(self):
        stranger = self.connection("stranger")
        ask(stranger, "CREATE TABLE mine (a int); ALTER TABLE mine ADD b int")
        self.assertEqual(stranger.notices, [])

    def test_children_by_inheritance(self):
        ask(self.shop, "CREATE TABLE base (id int, name text); CREATE TABLE child (more int) INHERITS (base); CREATE TABLE third () INHERITS (child)")
        self.watch("base", "b:{id}")
        self.assertEqual(self.named("INSERT INTO child VALUES (1, 'x', 2)"), ["b:1"])
        self.assertEqual(self.named("INSERT INTO third VALUES (2, 'x', 2)"), ["b:2"])
        self.assertEqual(self.named("UPDATE base SET id = id + 10"), ["b:1", "b:11", "b:12", "b:2"])
        self.check_changed("CREATE TABLE fourth () INHERITS (base)")
        self.assertEqual(self.named("INSERT INTO fourth VALUES (3)"), ["b:3"])
        self.check_changed("ALTER TABLE fourth NO INHERIT base")
        ask(self.shop, "CREATE TABLE aside (id int, name text)")
        self.check_whole("base")
        self.check_changed("ALTER TABLE child INHERIT aside")
        self.check_broken("child is a part of another table", "base")
        ask(self.shop, "ALTER TABLE child NO INHERIT aside")
        self.check_whole("base")
        ask(self.shop, "CREATE TEMP TABLE fleeting () INHERITS (base)")
        self.check_whole("base")

    def test_a_part_alone_or_one_of_another_server_cannot_be_watched(self):
        for table, text in (("u1", "part of public.uploads"), ("u2", "part of public.uploads")):
            with self.subTest(table), self.assertRaisesRegex(psycopg2.Error, text):
                self.watch(table, "u:{id}")
        ask(self.admin, "DROP FOREIGN DATA WRAPPER IF EXISTS f CASCADE; CREATE FOREIGN DATA WRAPPER f; CREATE SERVER s FOREIGN DATA WRAPPER f; GRANT USAGE ON FOREIGN SERVER s TO shop")
        self.check_changed("CREATE FOREIGN TABLE uf PARTITION OF uploads FOR VALUES FROM (900) TO (1000) SERVER s")
        self.check_broken("uf is a foreign table")
        with self.assertRaisesRegex(psycopg2.Error, "foreign table public.uf as a part"):
            self.watch("uploads")
        ask(self.shop, "DROP FOREIGN TABLE uf")
        self.check_whole()

    def test_a_table_that_becomes_a_partition(self):
        ask(self.shop, "CREATE TABLE single (LIKE uploads)")
        self.watch("single", "s:{id}")
        ask(self.shop, "ALTER TABLE uploads ATTACH PARTITION single FOR VALUES FROM (500) TO (600)")
        self.check_broken("single is a part of another table", "single")
        self.assertEqual(self.state("uploads")[0], "watched")


class Catalogs(WithTable):
    """What triggers cannot see, the digest of the next poll does."""

    def test_triggers_that_are_disabled_dropped_or_made_weaker(self):
        name = one(self.admin, "SELECT tgname FROM pg_trigger WHERE tgrelid = 'uploads'::regclass AND tgname LIKE '%%update'")
        number = name.split("_")[1]
        for statement in (f"ALTER TABLE uploads DISABLE TRIGGER {name}", f"ALTER TABLE uploads ENABLE TRIGGER {name}",
                          f"ALTER TABLE uploads ENABLE REPLICA TRIGGER {name}", f"DROP TRIGGER {name} ON uploads",
                          f"""DROP TRIGGER {name} ON uploads; CREATE TRIGGER {name} AFTER UPDATE OF title ON uploads FOR EACH STATEMENT
                                            EXECUTE FUNCTION etagd.watched_{number}(); ALTER TABLE uploads ENABLE ALWAYS TRIGGER {name}""",
                          f"""DROP TRIGGER {name} ON uploads; CREATE TRIGGER {name} AFTER UPDATE ON uploads REFERENCING OLD TABLE AS old_rows
                                            NEW TABLE AS new_rows FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION etagd.watched_{number}();
                                            ALTER TABLE uploads ENABLE ALWAYS TRIGGER {name}""",
                          "ALTER TABLE uploads DISABLE TRIGGER USER"):
            with self.subTest(statement):
                self.check_whole()
                self.check_changed(statement)
                self.check_broken("uploads lacks triggers")
                if statement.endswith(f"DISABLE TRIGGER {name}"):
                    self.assertEqual(self.named("UPDATE uploads SET title = 'unseen'"), [], "what is the digest for?")
                self.watch("uploads")
        self.check_whole()
        self.assertEqual(self.named("UPDATE uploads SET title = 'seen' WHERE id = 1"), ["customer:1", "upload:1"])

    def test_mending_and_a_writer_that_has_locked_a_row_wait_for_each_other_in_one_direction(self):
        for what in ("watch", "unwatch"):
            writer = self.connection("shop")
            ask(writer, "BEGIN; SELECT FROM uploads WHERE id = 1 FOR UPDATE")
            other = Blocked(self, SERVER, self.connection("shop"), f"SELECT etagd.{what}('uploads')")
            other.until("relation")
            ask(writer, "UPDATE uploads SET title = 'locked' WHERE id = 1")
            ask(writer, "COMMIT")
            self.assertRegex(other.result()[0][0], "is watched: 4 triggers|is not watched any more")

    def test_triggers_that_were_disabled_between_two_polls(self):
        names = [row[0] for row in ask(self.admin, "SELECT tgname FROM pg_trigger WHERE tgrelid = 'uploads'::regclass AND tgname LIKE 'etagd%%'")]
        for name in names:
            self.check_changed(f"ALTER TABLE uploads DISABLE TRIGGER {name}", "UPDATE uploads SET title = 'unseen'",
                               f"ALTER TABLE uploads ENABLE ALWAYS TRIGGER {name}")
            self.check_whole()

    def test_what_pg_restore_does_to_load_data_alone(self):
        self.check_changed("BEGIN", "ALTER TABLE uploads DISABLE TRIGGER USER", "INSERT INTO uploads VALUES (70, 1, 'x')", "ALTER TABLE uploads ENABLE TRIGGER USER", "COMMIT")
        self.check_broken("ENABLE ALWAYS")

    def test_columns_that_are_renamed_dropped_or_of_another_type(self):
        for statement in ("ALTER TABLE uploads RENAME customer_id TO client_id", "ALTER TABLE uploads DROP customer_id",
                          "ALTER TABLE uploads ALTER customer_id TYPE numeric"):
            with self.subTest(statement):
                self.check_changed(statement)
                state, why = self.state()
                self.assertEqual(state, "coarse")
                self.assertIn("{customer_id}", why)
                self.check_whole(state="coarse")
                seen = self.named("UPDATE uploads SET title = 'c' WHERE id = 1")
                self.assertIn("customer:*", seen)
                self.assertTrue({"upload:*", "upload:1"} & set(seen), "never less than the row")
                self.assertEqual(self.named("UPDATE uploads SET title = 'c' WHERE false"), [], "no row, no name")
                self.assertEqual(self.named("TRUNCATE uploads"), ["customer:*", "upload:*"])
                with self.assertRaises(psycopg2.Error):
                    self.watch("uploads")
                self.watch("uploads", "upload:{id}")
                self.check_whole()
                ask(self.shop, "DROP TABLE uploads")
                self.make()
                self.watch("uploads", *self.TEMPLATES)

    def test_a_function_that_is_not_ours_any_more(self):
        function = one(self.admin, "SELECT oid::regprocedure::text FROM pg_proc WHERE proname ~ '^watched_[0-9]'")
        ask(self.admin, f"REVOKE ALL ON FUNCTION {function} FROM etagd_writer; GRANT EXECUTE ON FUNCTION {function} TO etagd_writer")
        self.check_whole()
        ask(self.admin, "VACUUM FULL pg_catalog.pg_proc")
        self.check_whole()
        for change in (f"CREATE OR REPLACE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NULL; END'",
                       f"ALTER FUNCTION {function} SECURITY INVOKER", f"ALTER FUNCTION {function} SET search_path = public"):
            with self.subTest(change):
                self.check_changed(change, by=self.admin)
                self.check_broken("call another function than ours")
                self.watch("uploads")
                self.check_whole()
                self.assertEqual(self.named("UPDATE uploads SET title = 'seen' WHERE id = 1"), ["customer:1", "upload:1"])

    def test_values_that_change_without_a_write(self):
        for statement in ("ALTER TABLE uploads ALTER title TYPE text USING upper(title)", "ALTER TABLE uploads ADD COLUMN state text DEFAULT 'x'",
                          "ALTER TABLE uploads DROP state", "ALTER TABLE uploads ADD COLUMN made double precision DEFAULT random()"):
            with self.subTest(statement):
                self.check_changed(statement)
                self.check_whole()

    def test_what_changes_no_value_changes_no_digest(self):
        before = self.digest()
        for statement in ("CREATE INDEX ON uploads (title)", "ANALYZE uploads", "GRANT SELECT ON uploads TO stranger", "VACUUM uploads", "VACUUM FULL uploads",
                          "ALTER TABLE uploads RENAME TO renamed", "ALTER TABLE renamed RENAME TO uploads", "TRUNCATE uploads", "INSERT INTO uploads VALUES (1, 1, 'x')",
                          "CREATE TABLE beside (a int)"):
            ask(self.shop, statement)
            self.assertEqual(self.digest(), before, statement)

    def test_a_column_of_a_type_whose_text_runs_somebodys_function(self):
        """... runs nothing with the rights of etagd_owner."""
        ask(self.shop, "CREATE TYPE evil AS ENUM ('1', '2', '3'); CREATE TABLE caught (who name)")
        ask(self.admin, "GRANT INSERT ON caught TO PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC")
        ask(self.shop, """CREATE FUNCTION spell(evil) RETURNS text LANGUAGE plpgsql AS
            'BEGIN INSERT INTO public.caught VALUES (current_user); RETURN ''1''; END'""")
        ask(self.shop, "CREATE CAST (evil AS text) WITH FUNCTION spell(evil) AS IMPLICIT")
        with self.assertRaisesRegex(psycopg2.Error, "of the type public.evil"):
            ask(self.shop, "CREATE TABLE t (id evil); SELECT etagd.watch('t', 't:{id}')")
        ask(self.shop, "CREATE TABLE t (id int); INSERT INTO t VALUES (1); SELECT etagd.watch('t', 't:{id}')")
        ask(self.shop, "ALTER TABLE t ALTER id TYPE evil USING '2'::evil")
        self.assertEqual(self.named("INSERT INTO t VALUES ('1')", "UPDATE t SET id = '3'", "DELETE FROM t"), ["t:*"])
        self.assertEqual(ask(self.shop, "SELECT * FROM caught"), [])

    def test_a_table_that_was_dropped_and_one_that_was_made_again(self):
        self.check_changed("DROP TABLE uploads")
        self.assertEqual(self.state()[0], "gone")
        self.assertEqual(self.digest() & 1, 0)
        oid = one(self.admin, "SELECT relation FROM etagd.watches()")
        self.make()
        self.check_broken("was made again")
        with self.assertRaisesRegex(psycopg2.Error, "not the owner"):
            ask(self.connection("other"), "SELECT etagd.unwatch(%s)", oid)
        self.watch("uploads", *self.TEMPLATES)
        self.check_whole()
        self.assertEqual(one(self.admin, "SELECT count(*) FROM pg_proc WHERE proname ~ '^watched_[0-9]'"), 1)
        oid = one(self.admin, "SELECT relation FROM etagd.watches()")
        ask(self.shop, "DROP TABLE uploads")
        ask(self.connection("other"), "SELECT etagd.unwatch(%s)", oid)
        self.assertEqual(self.digest(), 0)

    def test_a_poll_has_the_digest_in_its_snapshot(self):
        engine = Engine(SERVER.conninfo(self.database))
        self.addCleanup(engine.close)
        engine.do("join")
        first = engine.poll()
        self.assertEqual(first["broken"], "0")
        self.assertNotEqual(first["digest"], "0")
        ask(self.shop, "BEGIN")
        ask(self.shop, "ALTER TABLE uploads DISABLE TRIGGER USER")
        self.assertEqual(engine.poll(first["snapshot"])["digest"], first["digest"], "not committed")
        ask(self.shop, "COMMIT")
        second = engine.poll(first["snapshot"])
        self.assertEqual(second["broken"], "1")
        self.assertNotEqual(second["digest"], first["digest"])
        self.watch("uploads")
        third = engine.poll(first["snapshot"])
        self.assertEqual(third["broken"], "0")
        self.assertNotIn(third["digest"], (first["digest"], second["digest"]), "what was written meanwhile is unknown")
        ask(self.shop, "SELECT etagd.unwatch('uploads')")
        self.assertEqual(engine.poll()["digest"], "0")
        self.assertEqual(self.named("DELETE FROM uploads"), [])

    def test_status_shows_what_is_watched_and_what_is_broken(self):
        def status():
            return subprocess.run([relay_db.RELAY, "--connection", SERVER.conninfo(self.database), "status"], capture_output=True, text=True, check=True).stdout
        self.assertRegex(status(), r"(?m)^watched tables: 1$")
        self.assertRegex(status(), r"(?m)^public.uploads +watched +1 +upload:\{id\} customer:\{customer_id\}")
        ask(self.shop, "ALTER TABLE uploads DISABLE TRIGGER USER")
        self.assertRegex(status(), r"(?m)^watched tables: 1, watch_broken")
        self.assertRegex(status(), r"(?m)^public.uploads +broken +1 +\S+ \S+ +public.uploads lacks triggers.*SELECT etagd\.watch\('public.uploads'\)")

    def test_setting_up_again_keeps_what_is_watched(self):
        before = self.digest()
        ask(self.admin, relay_db.read_schema())
        self.assertEqual(self.digest(), before)
        self.assertEqual(self.named("DELETE FROM uploads WHERE id = 1"), ["customer:1", "upload:1"])


class Names(WithTable):
    def check(self, columns, values, templates, names):
        number = next(NUMBERS)
        ask(self.shop, f"CREATE TABLE t{number} ({columns})")
        self.watch(f"t{number}", *templates)
        self.assertEqual(self.named(f"INSERT INTO t{number} VALUES ({values})"), sorted(names))
        self.assertEqual(self.named(f"INSERT INTO t{number} SELECT t.* FROM t{number} t, generate_series(1, 3)"), sorted(names), "by another way")
        return f"t{number}"

    def test_null_has_a_name(self):
        self.assertEqual(self.named("INSERT INTO uploads VALUES (80, NULL, 'x')"), ["customer:null", "upload:80"])
        self.assertEqual(self.named("UPDATE uploads SET customer_id = 3 WHERE id = 80"), ["customer:3", "customer:null", "upload:80"])

    def test_types_that_a_template_takes(self):
        ask(self.shop, "CREATE DOMAIN slug AS varchar(20) CHECK (value <> ''); CREATE DOMAIN number AS int")
        self.check("a smallint, b int, c bigint, d uuid, e text, f varchar(9), g slug, h number",
                   "-1, 2, 9223372036854775807, 'AAAAAAAA-bbbb-cccc-dddd-eeeeeeeeeeee', 'é', 'v', 's', 5",
                   [f"{c}:{{{c}}}" for c in "abcdefgh"],
                   ["a:-1", "b:2", "c:9223372036854775807", "d:aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "e:é", "f:v", "g:s", "h:5"])

    def test_types_whose_text_depends_on_a_session_are_refused_by_name(self):
        ask(self.shop, "CREATE TABLE odd (a timestamptz, b date, c double precision, d bytea, e numeric, f char(3), g boolean, h json, i int[], j interval)")
        for column in "abcdefghij":
            with self.subTest(column), self.assertRaisesRegex(psycopg2.Error, f"the column {column} of public.odd is of the type"):
                self.watch("odd", f"o:{{{column}}}")

    def test_no_setting_of_a_session_changes_a_name(self):
        ask(self.shop, "CREATE TABLE t (id bigint, u uuid, s text); SELECT etagd.watch('t', 't:{id}', 'u:{u}', 's:{s}')")
        seen = set()
        for setting in ("TimeZone = 'Asia/Tokyo'", "DateStyle = 'German'", "bytea_output = escape", "extra_float_digits = -15", "IntervalStyle = iso_8601",
                        "standard_conforming_strings = off", "lc_numeric = 'C'", "client_encoding = 'LATIN1'", "default_transaction_isolation = 'serializable'",
                        "jit = on", "quote_all_identifiers = on", "xmlbinary = hex", "array_nulls = off", "work_mem = '64kB'", "row_security = off"):
            writer = self.connection("shop")
            ask(writer, "SET " + setting)
            seen.add(tuple(self.named("INSERT INTO t VALUES (-7, 'aaaaaaaa-0000-0000-0000-eeeeeeeeeeee', E'\\u00e9')", by=writer)))
        self.assertEqual(seen, {("s:é", "t:-7", "u:aaaaaaaa-0000-0000-0000-eeeeeeeeeeee")})

    def test_names_with_quotes_percents_colons_and_braces(self):
        self.check('"we""ird Col" int, "a\'b" int, "a%s:b" int, "records" int, "coarse" int, "row_count" int, "name" int, "n" int', "1, 2, 3, 4, 5, 6, 7, 8",
                   ['w:{we"ird Col}', "100%:{a'b}", "it's:%s:{a%s:b}:x", "r:{records}:{coarse}", "c:{row_count}", "n:{{{name}}}", "back\\slash:{n}"],
                   ["w:1", "100%:2", "it's:%s:3:x", "r:4:5", "c:6", "n:{7}", "back\\slash:8"])
        self.assertEqual(self.named("SELECT 1"), [])

    def test_names_of_tables_with_quotes(self):
        ask(self.shop, """CREATE TABLE "Ta""ble 'x' %s;" (id int); CREATE TABLE "child's" () INHERITS ("Ta""ble 'x' %s;")""")
        self.watch("\"Ta\"\"ble 'x' %s;\"", "t:{id}")
        self.assertEqual(self.named("""INSERT INTO "child's" VALUES (1)""", """UPDATE "Ta""ble 'x' %s;" SET id = 2"""), ["t:1", "t:2"])
        self.check_whole("\"Ta\"\"ble 'x' %s;\"")
        self.assertIn("not watched any more", one(self.shop, "SELECT etagd.unwatch(%s)", "\"Ta\"\"ble 'x' %s;\""))

    def test_a_template_without_columns_is_a_name_for_each_write(self):
        table = self.check("id int", "1", ["t:{id}", "list", "lists:all", "brace{{}}"], ["t:1", "list", "lists:all", "brace{}"])
        self.assertEqual(self.named(f"TRUNCATE {table}"), ["brace{}", "list", "lists:all", "t:*"])
        self.assertEqual(self.check("id int", "1", ["only"], ["only"]) and self.named("SELECT 1"), [])

    def test_text_that_is_no_surrogate_key_is_the_family(self):
        table = self.check("a text", "'fine'", ["t:{a}"], ["t:fine"])
        for value in ("x" * 254, "x" * 5000, "a b", "a\tb", "a\x7fb", "a,b", "a;b", "é" * 127):
            with self.subTest(value[:9]):
                self.rows()
                ask(self.shop, f"INSERT INTO {table} VALUES ('fine'), (%s)", value)
                self.assertEqual(self.seen(), ["t:*", "t:fine"])
        self.assertEqual(self.named(f"INSERT INTO {table} VALUES ('{'x' * 253}'), ('{'é' * 126}'), ('')"), ["t:", "t:" + "x" * 253, "t:" + "é" * 126])

    def test_text_of_a_database_of_another_encoding_is_said_in_utf8_or_is_the_family(self):
        for number, encoding in enumerate(("LATIN1", "SQL_ASCII")):
            database = f"{self.database}_{number}"
            SERVER.sql(f"CREATE DATABASE {database} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0", database="postgres")
            admin = SERVER.connect(database)
            self.addCleanup(admin.close)
            ask(admin, relay_db.read_schema())
            ask(admin, "CREATE TABLE public.t (id int, a text); SELECT etagd.watch('public.t', 't:{a}', 'n:{id}')")
            for values, names in (("(1, 'a')", ["n:1", "t:a"]), ("(1, chr(233))" if encoding == "LATIN1" else "(1, E'\\xe9')", ["n:1", "t:é"] if encoding == "LATIN1" else ["n:*", "t:*"]),
                                  ("(2, 'b'), (3, 'b')", ["n:2", "n:3", "t:b"])):
                with self.subTest(encoding, values=values):
                    ask(admin, "DELETE FROM etagd.outbox")
                    ask(admin, f"INSERT INTO public.t VALUES {values}")
                    self.assertEqual(sorted(names_of(ask(admin, "SELECT targets FROM etagd.outbox")[0][0])), names)

    def test_names_as_long_as_they_may_be_and_more_columns_than_a_function_takes(self):
        """What does not fit into a row of the outbox is more of them."""
        ask(self.shop, "CREATE TABLE t (id int, s text)")
        before, after = "x" * 251, "y" * 251
        for number, other, (value, count) in itertools.product((15, 16), (["n:" + "{id}" * 120], []), ((1, 1), (2, 2))):
            other = other[:16 - number]
            self.watch("t", *(f"t{i:02}:{{s}}" for i in range(number)), *other)
            ask(self.shop, f"TRUNCATE t; INSERT INTO t SELECT {value}, '{before}' FROM generate_series(1, {count})")
            self.assertEqual(self.named(f"UPDATE t SET s = '{after}'"),
                             sorted([f"n:{str(value) * 120}" for _ in other] + [f"t{i:02}:{s}" for i in range(number) for s in (before, after)]))

    def test_templates_that_are_refused_say_why(self):
        ask(self.shop, "CREATE TABLE t (id int, name text)")
        for template, text in (("", "not text with columns"), ("{id}", "has no family"), ("upload{id}", "has no family"), (":{id}", "has no family"), ("a:{Id}", r"no column \"Id\""),
                               ("a:{ctid}", "no column ctid"), ("a:{id", "not text with columns"), ("a:id}", "not text with columns"), ("a:{}", "not text with columns"),
                               ("a b:{id}", "blanks"), ("a,b:{id}", "commas"), ("x" * 129, "128 bytes"), (None, "not text with columns"), ("a:}{id}", "not text")):
            with self.subTest(template), self.assertRaisesRegex(psycopg2.Error, text):
                self.watch("t", template)
        with self.assertRaisesRegex(psycopg2.Error, "1 to 16 templates"):
            self.watch("t")
        with self.assertRaisesRegex(psycopg2.Error, "1 to 16 templates"):
            self.watch("t", *["a"] * 17)
        self.assertEqual(ask(self.admin, "SELECT name FROM etagd.watches()"), [("public.uploads",)])


    def test_families_by_hand(self):
        self.assertEqual(self.named("SELECT etagd.invalidate(families => '{upload,customer:7,größe:*}')", by=self.admin), ["customer:7:*", "größe:*:*", "upload:*"])
        for name in (":x", "", "a b", "x" * 5000):
            with self.subTest(name[:9]), self.assertRaises(errors.InvalidParameterValue):
                ask(self.admin, "SELECT etagd.invalidate(families => array[%s])", name)


class Refused(WithTable):
    def test_what_cannot_be_watched_is_refused_by_name_with_what_to_do(self):
        ask(self.admin, "DROP FOREIGN DATA WRAPPER IF EXISTS f CASCADE; CREATE FOREIGN DATA WRAPPER f; CREATE SERVER s FOREIGN DATA WRAPPER f; CREATE FOREIGN TABLE far (id int) SERVER s")
        ask(self.admin, "CREATE VIEW seen AS SELECT * FROM uploads; CREATE MATERIALIZED VIEW kept AS SELECT * FROM uploads; CREATE SEQUENCE counter;"
            "CREATE TEMP TABLE fleeting (id int); CREATE TYPE pair AS (id int)")
        for table, text in (("seen", "is a view"), ("kept", "kept is a materialized view"), ("far", "far is a foreign table"), ("fleeting", "fleeting is a temporary table"),
                            ("pg_catalog.pg_class", "table of the system"), ("information_schema.sql_features", "table of the system"), ("etagd.outbox", "table of the system"),
                            ("counter", "not a table"), ("uploads_pkey", "not a table"), ("pair", "not a table")):
            with self.subTest(table), self.assertRaisesRegex(psycopg2.Error, f"(?s)(HINT.*)?{text}"):
                self.watch(table, "a:{id}", by=self.admin)
        with self.assertRaises(errors.UndefinedTable):
            self.watch("nothing", "a:{id}")

    def test_only_the_owner_may(self):
        other = self.connection("other")
        oid = one(self.admin, "SELECT 'uploads'::regclass::oid")
        for statement in ("SELECT etagd.watch('uploads', 'mine:{id}')", "SELECT etagd.unwatch('uploads')", f"SELECT etagd.watch_note({oid}, '{{mine}}')",
                          f"SELECT etagd.watch_forget({oid})"):
            with self.subTest(statement), self.assertRaisesRegex(psycopg2.Error, "other is not the owner of public.uploads"):
                ask(other, statement)
        with self.assertRaises(errors.InsufficientPrivilege):
            ask(other, f"SELECT etagd.watch_triggers({oid}, etagd.watch_id({oid}), false)")
        with self.assertRaises(errors.InsufficientPrivilege):
            ask(self.connection("stranger"), "SELECT etagd.watch('uploads', 'mine:{id}')")
        ask(self.admin, f"CREATE ROLE team{self.database}; GRANT team{self.database} TO other; ALTER TABLE uploads OWNER TO team{self.database}")
        self.assertIn("is watched", self.watch("uploads", "mine:{id}", by=other))
        self.check_whole()

    def test_a_subscribed_table_is_refused_and_one_that_is_subscribed_to_later_is_broken(self):
        """Logical replication fires no statement's trigger."""
        source = SERVER.database(f"watch{next(NUMBERS)}")
        SERVER.sql("CREATE TABLE public.uploads (id bigint PRIMARY KEY, customer_id int, title text); CREATE PUBLICATION p FOR TABLE public.uploads", database=source)
        slot = f"slot_{self.database}"
        SERVER.sql("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", slot, database=source)
        ask(self.shop, "TRUNCATE uploads")
        self.check_whole()
        before = self.digest()
        ask(self.admin, f"CREATE SUBSCRIPTION {slot} CONNECTION '{SERVER.conninfo(source)}' PUBLICATION p WITH (create_slot = false, slot_name = {slot})")
        self.addCleanup(ask, self.admin, f"DROP SUBSCRIPTION IF EXISTS {slot}")
        self.check_broken("uploads is subscribed to")
        self.assertNotEqual(self.digest(), before)
        relay_db.harness.wait_until(lambda: ask(self.admin, "SELECT true FROM pg_subscription_rel WHERE srsubstate = 'r'"), 30, "its first COPY")
        self.rows()
        SERVER.sql("INSERT INTO public.uploads VALUES (500, 1, 'replicated')", database=source)
        relay_db.harness.wait_until(lambda: ask(self.shop, "SELECT true FROM uploads WHERE id = 500"), 30, "the row is replicated")
        self.assertNotIn("upload:500", self.seen(), "then it could be watched")
        with self.assertRaisesRegex(psycopg2.Error, "(?s)uploads is subscribed to.*Watch it where it is written"):
            self.watch("uploads")
        ask(self.admin, f"DROP SUBSCRIPTION {slot}")
        self.check_whole()


if __name__ == "__main__":
    main()
