# SPDX-License-Identifier: Apache-2.0
"""manage.py etagd_watch: what psql writes reaches the pages of a Django site, by the names that Django itself gives to rows."""
import test_django_hosts
from harness import main, wait_until

Failed = test_django_hosts.Failed
UUID = "0a1b2c3d-0000-4000-8000-00000000000{}".format


def names_of(row):
    """The names of a row of the outbox; of a family with ":*" and an F before it."""
    at, names = 1, set()
    if row[0] == 2:  # by a trigger
        return {word[1:].decode() if word[:1] == b"s" else f"F {word[1:].decode()}" for word in row[1:].split(b"\n")[0].split(b" ")}
    while at < len(row):
        end = at + 3 + int.from_bytes(row[at + 1:at + 3], "big")
        text = row[at + 3:end].decode()
        if row[at:at + 1] != b"w":
            names.add(text if row[at:at + 1] == b"s" else f"F {text}")
        at = end
    return names


class Watched(test_django_hosts.Sites):
    NAMES = ("a",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.a.run("make(); make_watched()")
        cls.albums()
        cls.psql("INSERT INTO shop_tag VALUES (1, 'red')",
                 f"INSERT INTO shop_ticket VALUES ('{UUID(1)}', 'new'), ('{UUID(2)}', 'new')", "INSERT INTO shop_word VALUES ('a b', 'new')",
                 "INSERT INTO shop_legacy VALUES (1, 'new')", "INSERT INTO shop_measure VALUES (1, 'new')")

    @classmethod
    def albums(cls):
        cls.psql("INSERT INTO shop_album (id, title, customer) VALUES (1, 'new', 7), (2, 'new', 8), (3, 'new', NULL)",
                 "INSERT INTO shop_record VALUES (2, 'first')")

    @classmethod
    def psql(cls, *statements, user="shop"):
        for text in statements:
            cls.server.run("psql", "-X", "-v", "ON_ERROR_STOP=1", "-p", str(cls.server.port), "-U", user, "-d", "shop", "-c", "SET search_path = public",
                           "-c", text)

    def watch(self, *args, unwatch=True, **options):
        said = self.a.run(f"result = manage('etagd_watch', *{args!r}, **{options!r})")
        if unwatch:
            self.addCleanup(self.a.run, f"manage('etagd_watch', *{[one for one in args if one[0] != '-']!r}, unwatch=True)")
        return said

    def goes_stale(self, url, etag):
        wait_until(lambda: "reason=stale" in self.a.get(url, etag)[2], 20, f"{url} is stale")

    def check_known(self, url, etag):
        def known():
            said = self.a.get(url, etag)[2]
            self.assertNotIn("reason=stale", said, url)
            return said.startswith("hit")
        wait_until(known, 20, f"{url} is known yet")

    def comes_by(self, write, *urls, stays=()):
        """After write() these pages are stale, and those are still known."""
        known = {url: self.filled(self.a, url) for url in (*urls, *stays)}
        write()
        for url in urls:
            self.goes_stale(url, known[url])
        for url in stays:
            self.check_known(url, known[url])

    def polled(self):
        """All that was committed before has come: so has an event after it."""
        etag = self.filled(self.a, "/tariff/")
        self.server.sql("SELECT etagd.invalidate('tariff')", database="shop")
        self.goes_stale("/tariff/", etag)

    def settled(self):
        """What watching, or the end of it, raises once has come."""
        self.polled()
        self.polled()

    # ---- Writes ----

    def test_what_psql_writes_reaches_the_pages_of_a_watched_table(self):
        self.settled()
        etag = self.filled(self.a, "/row/album/1/")
        self.psql("UPDATE shop_album SET title = 'unseen' WHERE id = 1")
        self.polled()
        self.check_known("/row/album/1/", etag)  # without triggers nobody knows
        self.assertIn("shop.album:{id}, shop.album:@{customer}", self.watch("shop.Album"))
        self.goes_stale("/row/album/1/", etag)
        self.settled()
        others = ("/row/album/2/", "/of/8/", "/all/ticket/")
        self.comes_by(lambda: self.psql("UPDATE shop_album SET title = 'changed' WHERE id = 1"), "/row/album/1/", "/of/7/", "/all/album/",
                      stays=others)
        self.comes_by(lambda: self.psql("UPDATE shop_album SET customer = 9 WHERE id = 1"), "/row/album/1/", "/of/7/", "/of/9/", "/all/album/",
                      stays=others)
        self.comes_by(lambda: self.a.run("Album.objects.filter(pk=1).update(title='by Django')"), "/row/album/1/", "/of/9/", "/all/album/", stays=others)
        self.comes_by(lambda: self.psql("INSERT INTO shop_album (id, title, customer) VALUES (10, 'new', 7)"), "/row/album/10/", "/of/7/", "/all/album/",
                      stays=("/row/album/1/", *others))
        self.comes_by(lambda: self.psql("DELETE FROM shop_album WHERE id = 10"), "/row/album/10/", "/of/7/", "/all/album/",
                      stays=("/row/album/1/", *others))
        self.comes_by(lambda: self.psql("UPDATE shop_album SET customer = 7 WHERE id = 3"), "/row/album/3/", "/of/7/", stays=("/row/album/1/", *others))
        self.comes_by(lambda: self.psql("INSERT INTO shop_album (id, title, customer) SELECT n, 'many', 70 FROM generate_series(1000, 1300) n"),
                      "/row/album/1/", "/row/album/2/", "/of/7/", "/of/8/", "/all/album/", stays=("/all/ticket/",))
        self.addCleanup(self.albums)
        self.comes_by(lambda: self.psql("TRUNCATE shop_album CASCADE"), "/row/album/1/", "/row/album/2/", "/of/7/", "/of/8/", "/all/album/",
                      stays=("/all/ticket/",))

    def test_uuids_are_named_as_django_names_them(self):
        self.watch("shop.Ticket")
        self.settled()
        self.comes_by(lambda: self.psql(f"UPDATE shop_ticket SET title = 'changed' WHERE id = '{UUID(1)}'"), f"/row/ticket/{UUID(1)}/", "/all/ticket/",
                      stays=(f"/row/ticket/{UUID(2)}/",))

    def test_a_key_that_is_text_touches_all_rows(self):
        self.assertIn("each write touches all rows: its key text is neither", self.watch("shop.Word"))
        self.settled()
        self.comes_by(lambda: self.psql("UPDATE shop_word SET title = 'changed'"), "/row/word/a%20b/", "/all/word/", stays=("/row/album/1/",))

    def test_parents_and_many_to_many_are_watched_with_a_model(self):
        self.watch("shop.Record")
        self.settled()
        self.comes_by(lambda: self.psql("UPDATE shop_album SET title = 'parent' WHERE id = 2"), "/row/record/2/", "/all/record/", stays=("/row/album/1/",))
        self.comes_by(lambda: self.psql("UPDATE shop_record SET label = 'second'"), "/row/record/2/", stays=("/row/album/2/",))
        self.comes_by(lambda: self.psql("INSERT INTO shop_album_tags (album_id, tag_id) VALUES (1, 1)"), "/tags/1/", stays=("/row/album/1/",))

    def test_a_part_with_a_model_of_its_own(self):
        self.watch("shop.Measure")
        self.settled()
        for table in ("shop_measure", "shop_measure_1"):
            self.comes_by(lambda: self.psql(f"UPDATE {table} SET title = title || 'x'"), "/all/measure/", "/all/firstmeasure/",  # pylint: disable=cell-var-from-loop
                          "/row/firstmeasure/1/")
        with self.assertRaisesRegex(Failed, "a part of public.shop_measure: .*Watch public.shop_measure: "):
            self.watch("shop.FirstMeasure", unwatch=False)

    def test_an_unmanaged_model_of_a_table(self):
        self.assertIn("its model is unmanaged", self.watch("shop.Legacy"))
        self.settled()
        self.comes_by(lambda: self.psql("UPDATE shop_legacy SET title = 'changed'"), "/row/legacy/1/", stays=("/row/album/1/",))

    def test_triggers_name_what_django_names(self):
        """Whatever rows there are: the names that the trigger writes are those of surrogates.changed()."""
        self.watch("shop.Album", "shop.Ticket", "shop.Word")
        for model, table, columns, values in (
                ("Album", "shop_album", "id, title, customer", ["-1, '', 0", "0, '', -7", "2147483646, '', NULL"]),
                ("Ticket", "shop_ticket", "id, title", [f"'{UUID(9).upper()}', ''", "'ffffffff-ffff-ffff-ffff-ffffffffffff', ''"]),
                ("Word", "shop_word", "text, title", ["'', ''", "'{a}, b', ''"])):
            for value in values:
                names = names_of(bytes(self.server.sql(
                    f"WITH made AS (INSERT INTO {table} ({columns}) VALUES ({value}) RETURNING 1) SELECT count(*) FROM made; "
                    "SELECT targets FROM etagd.outbox ORDER BY id DESC LIMIT 1", database="shop")[0][0]))
                self.psql(f"DELETE FROM {table} WHERE title = ''")
                row = ", ".join(f"{name.strip()}={text.strip()}" for name, text in zip(columns.split(","), value.replace("NULL", "None").rsplit(",", columns.count(","))))
                wanted = set(self.a.run(f"result = surrogates.changed({model}({row}))"))
                if model == "Word":
                    wanted = {"*", "shop.word", "shop.word:*"}
                self.assertEqual(wanted - {"shop.album:*"}, names - {"shop.album:@null"}, value)

    # ---- What is wrong ----

    def test_what_cannot_be_watched_is_refused_by_name(self):
        cases = (("VIEW", "is a view: it has no rows of its own. Watch the tables that it reads", "CREATE VIEW shop_legacy AS SELECT 1 AS id"),
                 ("MATERIALIZED VIEW", "is a materialized view: .* call etagd.invalidate", "CREATE MATERIALIZED VIEW shop_legacy AS SELECT 1 AS id"),
                 ("FOREIGN TABLE", "is a foreign table: .* Do not cache",
                  "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; "
                  "CREATE FOREIGN TABLE shop_legacy (id integer) SERVER files OPTIONS (filename '/dev/null')"))
        self.psql("ALTER TABLE shop_legacy RENAME TO shop_kept")
        self.addCleanup(self.psql, "ALTER TABLE shop_kept RENAME TO shop_legacy")
        with self.assertRaisesRegex(Failed, "no table shop_legacy is in DATABASES.*migrate first"):
            self.watch("shop.Legacy", unwatch=False)
        for kind, pattern, made in cases:
            self.psql(made, f"ALTER {kind} shop_legacy OWNER TO shop", user="etagd")
            for dry_run in (True, False):
                with self.assertRaisesRegex(Failed, f"(?s)shop_legacy.*{pattern}.*1 of 1 tables"):
                    self.watch("shop.Legacy", unwatch=False, dry_run=dry_run)
            self.psql(f"DROP {kind} shop_legacy", user="etagd")
        for args, options, pattern in (((), {}, "name models"), (("shop.Album",), {"all": True}, "name models"), (("shop.None",), {}, "no model shop.None"),
                                       (("shop.Album",), {"database": "other"}, "is not PostgreSQL"),
                                       (("shop.Album",), {"database": "none"}, "no database none")):
            with self.assertRaisesRegex(Failed, f"CommandError: .*{pattern}"):
                self.watch(*args, unwatch=False, **options)

    def test_who_is_not_the_owner_and_databases_without_the_schema(self):
        site = self.site("a", user="poor")
        with self.assertRaisesRegex(Failed, "GRANT etagd_writer"):
            site.run("manage('etagd_watch', 'shop.Ticket')")
        self.server.sql("GRANT etagd_writer TO poor", database="shop")
        self.addCleanup(self.server.sql, "REVOKE etagd_writer FROM poor", database="shop")
        with self.assertRaisesRegex(Failed, "(?s)poor is not the owner of public.shop_ticket. Only its owner.*SET ROLE, or connect as the owner"):
            site.run("manage('etagd_watch', 'shop.Ticket')")
        self.server.sql("CREATE DATABASE bare", database="postgres")
        with self.assertRaisesRegex(Failed, "has no schema etagd.*setup --writer"):
            self.site("a", database="bare").run("manage('etagd_watch', 'shop.Ticket')")

    def test_all_tables_but_what_is_no_table_of_the_site(self):
        said = self.a.run("result = manage('etagd_watch', all=True, dry_run=True)")
        self.assertRegex(said, '"shop_ticket" would be watched: ')
        self.assertRegex(said, "shop_legacy: left out: its model is unmanaged")
        self.assertRegex(said, "shop_measure_1: left out: it is a part of \"shop_measure\"")
        self.assertRegex(said, "shop_note: left out: no such table here")
        self.assertEqual(self.a.run("result = manage('etagd_watch', list=True)"), "", "a dry run")
        self.watch(all=True, unwatch=False)
        self.addCleanup(self.a.run, "manage('etagd_watch', all=True, unwatch=True)")
        self.assertNotIn("triggers", self.watch(all=True, unwatch=False), "the second time it changes nothing")
        self.assertEqual(set(line.split()[0] for line in self.watch(unwatch=False, list=True).splitlines()), {"watched"})

    def test_templates_of_others_are_left(self):
        self.psql("SELECT etagd.watch('shop_ticket', 'ticket:{id}')")
        self.addCleanup(self.psql, "SELECT etagd.unwatch('shop_ticket')")
        self.assertIn("ticket:{id}", self.watch("shop.Ticket"))
        other = self.site("a", PREFIX="two.")
        other.run("manage('etagd_watch', 'shop.Ticket')")
        self.assertEqual(set(self.templates()), {"*", "shop.ticket", "shop.ticket:{id}", "ticket:{id}", "two.*", "two.shop.ticket", "two.shop.ticket:{id}"})
        self.a.run("manage('etagd_watch', 'shop.Ticket', unwatch=True)")
        other.run("manage('etagd_watch', 'shop.Ticket', unwatch=True)")
        self.assertEqual(self.templates(), ["ticket:{id}"])

    def templates(self):
        return self.server.sql("SELECT templates FROM etagd.watches()", database="shop")[0][0]

    def test_checks_and_migrate_say_what_became_of_watched_tables(self):
        self.watch("shop.Album", "shop.Ticket", "shop.Word")
        self.assertEqual(self.a.run("result = deployed()"), [])
        self.addCleanup(self.psql, "ALTER TABLE shop_album RENAME COLUMN buyer TO customer")
        self.psql("ALTER TABLE shop_word DISABLE TRIGGER USER", "ALTER TABLE shop_album RENAME COLUMN customer TO buyer",
                  "SELECT etagd.watch('shop_ticket', '*', 'shop.ticket')")
        broken, coarse, differs = self.a.run("result = deployed()")
        self.assertRegex(broken, "^etagd.W011 .*shop_word lacks triggers")
        self.assertRegex(coarse, "^etagd.W012 .*shop_album.*customer")
        self.assertRegex(differs, "^etagd.W013 .*shop_ticket.*lacks the templates shop.ticket:{id}")
        said = self.a.run("result = manage('migrate', run_syncdb=False, verbosity=1)")
        for number in ("W011", "W012", "W013"):
            self.assertEqual(said.count(number), 1, said)
        self.assertIn("manage.py etagd_watch --database default shop.Word", said)
        self.watch("shop.Word", "shop.Ticket", unwatch=False)
        self.assertEqual([one[:10] for one in self.a.run("result = deployed()")], ["etagd.W012"])


if __name__ == "__main__":
    main()
