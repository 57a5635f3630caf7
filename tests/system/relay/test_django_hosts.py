# SPDX-License-Identifier: Apache-2.0
"""Django on two hosts of one PostgreSQL: what one host's site writes is seen on the other. The event is in Django's own transaction."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from relay_db import Server, ask
from relay_hosts import Host
import django_site
from harness import Case, Daemon, bound, main, wait_until

django_site.require("django")
SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hosts_site.py")


class Failed(Exception):
    """What the site's code raised."""


class Site:
    """hosts_site.py of one host."""

    def __init__(self, host, databases, **etagd):
        settings = {"databases": databases, "etagd": {"SOCKET": host.daemon.socket, "TIMEOUT_MS": 30000, **etagd}}
        self.log = open(os.path.join(host.daemon.directory, "site.log"), "a", encoding="utf-8")
        self.process = subprocess.Popen([sys.executable, "-B", SITE], env={**os.environ, "SITE": json.dumps(settings)}, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.log, text=True)

    def tell(self, code):
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()

    def run(self, code):
        self.tell(code)
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the site has ended: {self.process.wait()}")
        said = json.loads(line)
        if said["error"]:
            raise Failed(said["error"])
        return said["result"]

    def get(self, url, etag=None):
        return self.run(f"result = ask({url!r}, {etag!r})")

    def end(self):
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.log):
            file.close()


class Sites(Case):
    """Hosts for all tests; each has a site that works with what is the default."""
    LINGER_MS = 600000  # no guard ends by its time here
    NAMES = ("a", "b")

    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.mkdtemp(prefix="etagd-test-")
        cls.addClassCleanup(shutil.rmtree, cls.place, ignore_errors=True)
        cls.server = Server.make()
        cls.server.database("shop")
        # Not "etagd": that user's tables would be in the schema of its name.
        for text in ("CREATE ROLE poor LOGIN", "CREATE ROLE shop LOGIN", "GRANT etagd_writer TO shop", "ALTER DATABASE shop OWNER TO shop"):
            cls.server.sql(text, database="shop")
        cls.hosts = {}
        for name in cls.NAMES:
            directory = os.path.join(cls.place, name)
            os.makedirs(directory)
            daemon = Daemon(directory, linger_ms=cls.LINGER_MS, args=["--relay", "required"])
            cls.hosts[name] = Host(name, cls.server.conninfo("shop"), daemon)
            cls.addClassCleanup(cls.hosts[name].end)
            cls.hosts[name].start()
        cls.a = cls.new_site(cls.addClassCleanup, "a")

    @classmethod
    def new_site(cls, cleanup, name, user="shop", database="shop", **etagd):
        databases = {
            "default": {"ENGINE": "django.db.backends.postgresql", "HOST": cls.server.directory, "PORT": str(cls.server.port), "USER": user,
                        "NAME": database},
            "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(cls.place, "other.sqlite3"), "OPTIONS": {"timeout": 20}}}
        made = Site(cls.hosts[name], databases, **etagd)
        cleanup(made.end)
        return made

    def site(self, name, **more):
        return self.new_site(self.addCleanup, name, **more)

    def filled(self, site, url="/uploads/1/"):
        """The ETag of a page that is known there."""
        etag = site.get(url)[1]

        def known():
            status, _, said = site.get(url, etag)
            return status == 304 and said.startswith("hit")
        wait_until(known, 30, f"{url} is known")
        return etag

    def is_known(self, site, etag, url="/uploads/1/"):
        return site.get(url, etag)[2].startswith("hit")

    def comes(self, site, etag, url="/uploads/1/"):
        wait_until(lambda: site.get(url, etag)[0] == 200, 20, "the event")


class Hosts(Sites):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.b = cls.new_site(cls.addClassCleanup, "b")
        cls.a.run("make(); [Upload.objects.create(pk=pk, status='new') for pk in (1, 2)]; Note.objects.using('other').create(text='new')")
        cls.server.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO poor", database="shop")

    # ---- What reaches the other host ----

    def test_a_write_is_seen_on_the_other_host(self):
        known = self.filled(self.a), self.filled(self.b)
        self.a.run("write()")
        self.assertEqual(self.a.get("/uploads/1/", known[0])[0], 200)
        self.comes(self.b, known[1])
        row, event, names, asked = self.a.run("result = row_and_event()")
        self.assertEqual(row, event)  # one transaction
        self.assertIn("shop.upload:1", names)
        self.assertFalse(asked)

    def test_everywhere_is_everywhere_when_the_call_returns(self):
        everywhere = self.site("a", REACH="everywhere")
        for how, site in (("with reach('everywhere'): write()", self.a), ("write()", everywhere),
                          ("invalidate(instances=[Upload(pk=1)], reach='everywhere')", self.a),
                          ("with transaction.atomic():\n    write()\n    invalidate('x', reach='everywhere')", self.a)):
            for _ in range(3):
                etag = self.filled(self.b)
                site.run(how)
                self.assertFalse(self.is_known(self.b, etag), how)
        row, event, _, asked = self.a.run("with reach('everywhere'): write()\nresult = row_and_event()")
        self.assertEqual((row, True), (event, asked))  # the row itself asks

    def test_a_rollback_tells_nobody_and_a_savepoint_only_what_is_kept(self):
        etag, other = self.filled(self.b), self.filled(self.b, "/uploads/2/")
        self.a.run("try:\n    with transaction.atomic():\n        write(); raise KeyError\nexcept KeyError: pass")
        self.a.run("with reach('everywhere'), transaction.atomic():\n"
                   "    write(2)\n"
                   "    try:\n"
                   "        with transaction.atomic():\n            write(1); raise KeyError\n"
                   "    except KeyError: pass\n"
                   "    with transaction.atomic():\n        with transaction.atomic():\n            pass")
        self.assertFalse(self.is_known(self.b, other, "/uploads/2/"))
        self.assertTrue(self.is_known(self.b, etag))
        self.assertNotIn("shop.upload:1", self.a.run("result = row_and_event()")[2])

    def test_every_way_to_commit_has_its_row(self):
        for how in ("connection.set_autocommit(False); write(); connection.commit(); connection.set_autocommit(True)",
                    "connection.set_autocommit(False); write(); connection.connection.commit(); connection.set_autocommit(True)",
                    "c = connection.cursor(); c.execute('BEGIN'); c.execute(\"UPDATE shop_upload SET status = 'by hand' WHERE id = 1\"); c.execute('COMMIT')",
                    "connection.cursor().execute(\"UPDATE shop_upload SET status = 'once more' WHERE id = 1\")"):
            with self.subTest(how):
                etag = self.filled(self.b)
                self.a.run(how)
                row, event = self.a.run("result = row_and_event()")[:2]
                self.assertEqual(row, event)
                self.comes(self.b, etag)

    def test_what_commits_by_itself_and_other_databases_go_by_the_daemon(self):
        etag, note = self.filled(self.b), self.filled(self.b, "/notes/")
        newest = self.a.run("result = row_and_event()")[1]
        self.a.run("with reach('everywhere'): connection.cursor().execute(\"DO $$ BEGIN UPDATE shop_upload SET status = 'done' WHERE id = 1; END $$\")")
        self.assertFalse(self.is_known(self.b, etag))
        note = self.filled(self.b, "/notes/")
        self.a.run("with reach('everywhere'): Note.objects.using('other').update(text='changed')")
        self.assertFalse(self.is_known(self.b, note, "/notes/"))
        self.assertNotEqual(self.a.run("result = row_and_event()")[1], newest)

    def test_host_is_published_by_the_daemon(self):
        etag = self.filled(self.b)
        self.a.run("with reach('host'): write()")
        self.comes(self.b, etag)
        row, event = self.a.run("result = row_and_event()")[:2]
        self.assertNotEqual(row, event)

    def test_what_etag_relay_put_there_makes_no_write_touch_more(self):
        for text in ("ALTER TABLE shop_upload ADD CONSTRAINT has_status CHECK (trim(status) <> '')",
                     "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM etagd.invalidate(''told:1''); RETURN NULL; END'",
                     "CREATE TRIGGER tell AFTER UPDATE ON shop_upload FOR EACH ROW EXECUTE FUNCTION tell()"):
            self.server.sql(text, database="shop", user="shop")
        self.addCleanup(self.server.sql, "DROP FUNCTION tell CASCADE", database="shop", user="shop")
        etag = self.filled(self.b, "/uploads/2/")
        names = self.site("a").run("with reach('everywhere'): write()\nresult = row_and_event()")[2]
        self.assertIn("shop.upload:1", names)
        self.assertTrue(self.is_known(self.b, etag, "/uploads/2/"))

    # ---- Failures ----

    def test_a_catalog_that_cannot_be_read_in_time_costs_no_transaction(self):
        self.server.sql("CREATE TABLE locked (a int, CHECK (a > 0)); CREATE INDEX ON locked ((a + 1))", database="shop", user="shop")
        self.addCleanup(self.server.sql, "DROP TABLE locked", database="shop", user="shop")
        site = self.site("a")
        etag = self.filled(self.b)
        holder = self.server.connect("shop", "shop")
        self.addCleanup(holder.close)
        ask(holder, "BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")
        site.run("from etagd.django import catalog\n"
                 "with transaction.atomic():\n"
                 "    connection.cursor().execute('SET LOCAL lock_timeout = 100')\n"
                 "    catalog.forget()\n"
                 "    Upload.objects.filter(pk=1).update(status='is kept')")
        self.assertEqual(self.server.sql("SELECT status FROM shop_upload WHERE id = 1", database="shop")[0][0], "is kept")
        ask(holder, "COMMIT")
        self.comes(self.b, etag)
        with open(site.log.name, encoding="utf-8") as log:
            self.assertIn("catalog of database 'default' cannot be read", log.read())

    def test_killed_between_commit_and_the_call_after_it(self):
        etags = self.filled(self.a), self.filled(self.b)
        site = self.site("a")
        site.run("import signal; etagd.Guard.commit = lambda self: os.kill(os.getpid(), signal.SIGKILL)")
        site.tell("write()")
        self.assertEqual(site.process.wait(bound(30)), -9)
        for known, etag in zip((self.a, self.b), etags):
            self.comes(known, etag)
        self.assertEqual(self.a.get("/uploads/1/")[1], self.b.get("/uploads/1/")[1])

    def test_the_database_proves_it_where_no_relay_is_here(self):
        site = self.site("a", TIMEOUT_MS=1000)
        site.run("write()")
        self.hosts["a"].kill_relay()
        self.addCleanup(self.back)
        etag = self.filled(self.b)
        began = time.monotonic()
        site.run("with reach('everywhere'): write()")
        self.assertGreater(time.monotonic() - began, 2)  # by time: this host does not acknowledge
        self.assertFalse(self.is_known(self.b, etag))
        with self.assertRaisesRegex(Failed, "NotReached"):
            site.run("with reach('everywhere'): Note.objects.using('other').update(text='committed all the same')")
        self.assertEqual(site.run("result = Note.objects.using('other').get().text"), "committed all the same")

    def back(self):
        self.hosts["a"].start_relay()
        wait_until(lambda: self.hosts["a"].daemon.status()["relay_margin_ms"] > 0, 30, "fresh again")

    def test_a_role_without_the_right_loses_no_event(self):
        site = self.site("a", user="poor", REACH="log")
        self.assertEqual(site.run("result = found()"), ["etagd.E009", "etagd.W009"])
        etag = self.filled(self.b)
        site.run("write()")
        self.comes(self.b, etag)

    def test_a_right_that_is_taken_away_is_no_lost_event(self):
        self.server.sql("GRANT etagd_writer TO poor", database="shop")
        self.addCleanup(self.server.sql, "REVOKE etagd_writer FROM poor", database="shop")
        site = self.site("a", user="poor")
        site.run("write()")
        self.server.sql("REVOKE etagd_writer FROM poor", database="shop")
        etag = self.filled(self.b)
        with self.assertRaisesRegex(Failed, "GuardFailed.*permission denied.*GRANT etagd_writer"):
            site.run("write()")
        self.assertTrue(self.is_known(self.b, etag))
        site.run("write()")  # by the daemon, from now on
        self.comes(self.b, etag)

    def test_checks_say_what_is_missing(self):
        self.server.sql("CREATE DATABASE bare", database="postgres")
        self.assertEqual(self.site("a", database="bare", REACH="log").run("result = found()"), ["etagd.E008"])
        self.assertEqual(self.site("a", REACH="everywhere").run("result = found()"), ["etagd.W009"])
        self.assertEqual(self.site("a", REACH="far").run("result = found()"), ["etagd.E007"])
        self.assertEqual(self.site("a").run("result = found()"), [])
        alone = Daemon(os.path.join(self.directory), linger_ms=100).start()
        self.addCleanup(alone.end)
        site = self.site("a", REACH="everywhere", SOCKET=alone.socket)
        self.assertEqual(site.run("result = found()"), ["etagd.E010", "etagd.W009"])
        with self.assertRaisesRegex(Failed, "GuardFailed.*relay: required"):  # before COMMIT
            site.run("write()")


if __name__ == "__main__":
    main()
