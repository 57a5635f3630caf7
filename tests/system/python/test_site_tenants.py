# SPDX-License-Identifier: Apache-2.0
"""The life of an API of many tenants (sites/tenants_site.py), under gunicorn with threads and under uvicorn, beside a process that writes: its
pages are stored and answered from etagd, every kind of write is done, and nobody gets an old answer, or another tenant's."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

import django_site
import harness
import postgres
from django_web import Page, Web
from harness import Case, wait_until

django_site.require("django", "rest_framework", "gunicorn", "uvicorn")
import django  # noqa: E402

if django.VERSION < (4, 2):
    print("skipped: its views on the loop want Django 4.2")
    sys.exit(harness.SKIP)
if "--postgres" not in sys.argv:
    sys.argv.append("--postgres")
CLUSTER = postgres.asked_for()
CLUSTER.run("createuser", "tenants")
for database in ("etagd", "one", "two"):
    if database != "etagd":
        CLUSTER.run("createdb", database)
    CLUSTER.run("psql", "-d", database, "-c", f"ALTER DATABASE {database} OWNER TO tenants; GRANT ALL ON SCHEMA public TO tenants")
PLACE = tempfile.mkdtemp(prefix="etagd-tenants-")
os.environ.update(ETAGD_SOCKET=os.path.join(PLACE, "etagd.sock"), TENANTS_PG=CLUSTER.directory)

import tenants_site as site  # noqa: E402
from django.contrib.auth.decorators import login_required  # noqa: E402
from django.contrib.auth.mixins import LoginRequiredMixin  # noqa: E402
from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.core.exceptions import ImproperlyConfigured  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, connections, transaction  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.test import RequestFactory  # noqa: E402
from django.views.generic import View  # noqa: E402
from etagd.django import writes  # noqa: E402
from etagd.django.decorators import condition, etag_cached  # noqa: E402
from etagd.django.rest import ETagMixin  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402
from rest_framework.decorators import api_view  # noqa: E402
from rest_framework.views import APIView  # noqa: E402


class Server(Web):
    ALIVE, REPLY = ("tenant/", 200), Page

    def ask(self, path, etag=None, tenant="acme", method="GET", body=None, **fields):
        return super().ask("/" + path, etag, method, body=body, Host=tenant + ".example.org", **fields)

    def run(self, code):
        assert self.ask("run/", method="POST", body=code).status == 200, code


ETAGD = harness.Daemon(PLACE, linger_ms=3000)
SERVERS = {}


def setUpModule():
    ETAGD.start()
    call_command("migrate", verbosity=0)
    site.create()
    for name in ("one", "two"):
        connections.databases[name] = {**connections.databases["default"], "NAME": name}
        with connections[name].schema_editor() as editor:
            editor.create_model(site.Box)
        site.Box.objects.using(name).create(name="of " + name)
    for name in ("acme", "beta"):
        tenant = site.Tenant.objects.create(name=name, database="one")
        user = User.objects.create(username="ann of " + name)
        Token.objects.create(user=user, key=name)
        site.Member.objects.create(user=user, tenant=tenant)
        Site.secret(tenant.pk, name)
    # One worker each: what is judged are its threads and tasks. The test's own process is the other one that writes.
    SERVERS.update({name: Server(PLACE, name).gunicorn("tenants_site:application", "-w", "1", *more)
                    for name, more in (("web", ("--threads", "3")), ("one", ()))})
    loop = SERVERS["loop"] = Server(PLACE, "loop")
    loop.spawn("-m", "uvicorn", "--uds", loop.socket, "--log-level", "warning", "tenants_site:on_loop")
    for server in SERVERS.values():
        server.serving()


def tearDownModule():
    for server in SERVERS.values():
        server.end()
    connections.close_all()
    ETAGD.end()
    shutil.rmtree(PLACE, ignore_errors=True)


class Site(Case):
    web = property(lambda self: SERVERS["web"])
    loop = property(lambda self: SERVERS["loop"])

    def setUp(self):
        super().setUp()
        self.acme, self.beta = site.Tenant.objects.order_by("id")

    @staticmethod
    def secret(tenant, name):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('app.tenant', %s, true)", [str(tenant)])
            site.Secret.objects.create(tenant=tenant, name=name)

    def stored(self, page, server=None, **how):
        """Its first answer, once the next ones come from etagd."""
        server = server or self.web

        def hit():
            first = server.ask(page, **how)
            self.assertEqual(first.status, 200, first)
            again = server.ask(page, first.etag, **how)
            return first if again.said.startswith("hit") and again.status == 304 else self.assertFalse(again.said.startswith("bypass"), again)
        return wait_until(hit, 10, f"{page} is stored")

    def refused(self, page, reason, server=None, times=2, **how):
        for _ in range(times):
            reply = (server or self.web).ask(page, **how)
            self.assertEqual((reply.status, reply.said.partition("; by=")[0]), (200, "bypass; reason=" + reason), reply)
        return reply

    def is_new(self, page, old, server=None, **how):
        for _ in range(2):
            new = (server or self.web).ask(page, old.etag, **how)
            self.assertEqual(new.status, 200, new)
            self.assertNotEqual(new.body, old.body)

    def changes(self, page, write, server=None, **how):
        old = self.stored(page, server, **how)
        write()
        self.is_new(page, old, server, **how)


class Life(Site):
    def setUp(self):
        super().setUp()
        site.Note.objects.all().delete()
        self.ann = User.objects.get(username="ann of acme")
        self.note = site.Note.objects.create(tenant=self.acme, title="first", author=self.ann)
        self.theirs = site.Note.objects.create(tenant=self.beta, title="theirs")
        self.how = {"Authorization": "Token acme"}

    def test_every_kind_of_write_reaches_whoever_has_the_old_version(self):
        label, group = site.Label.objects.create(name="l"), Group.objects.create(name="g")
        may = Permission.objects.create(codename="change_note", content_type=ContentType.objects.get_for_model(site.Note))
        other = User.objects.create(username="other")
        writes = {
            "save": lambda: site.Note(pk=self.note.pk, tenant=self.acme, title="second", author=self.ann).save(),
            "nested": lambda: site.Comment.objects.create(note=self.note, text="c"),
            "nested, many": lambda: site.Comment.objects.bulk_create([site.Comment(note=self.note, text="d")]),
            "label": lambda: self.note.labels.add(label),
            "label's name": lambda: site.Label.objects.filter(pk=label.pk).update(name="m"),
            "author": lambda: site.Note.objects.filter(pk=self.note.pk).update(author=other),
            "author gone": lambda: User.objects.filter(pk=other.pk).delete(),
            "by hand": lambda: connection.cursor().execute("UPDATE tenants_note SET title = title || '!' WHERE id = %s", [self.note.pk]),
            "by a block": lambda: connection.cursor().execute("DO $$ BEGIN UPDATE tenants_note SET title = title || '?'; END $$"),
            "moved": lambda: site.Note.objects.filter(pk=self.note.pk).update(tenant=self.beta),
            "moved back": lambda: site.Note.objects.filter(title__startswith="second").update(tenant=self.acme)}
        rights = {"right of a group": lambda: (group.permissions.add(may), self.ann.groups.add(group)),
                  "no right": lambda: group.permissions.clear()}
        pages = ("notes/", "notes/?page=1&ordering=-title")
        for name, write in {**writes, **rights}.items():
            with self.subTest(name):
                olds = [self.stored(page, **self.how) for page in pages]
                write()
                for page, old in zip(pages, olds):
                    self.is_new(page, old, **self.how)
        self.changes(f"notes/{self.note.pk}/", lambda: site.Comment.objects.all().delete(), **self.how)

    def test_another_tenants_writes_leave_ones_list_alone(self):
        # No prefetch of what has no scope: the list of titles.
        old = self.stored("titles/", **self.how)
        site.Note.objects.filter(pk=self.theirs.pk).update(title="changed")
        self.assertTrue(self.web.ask("titles/", old.etag, **self.how).said.startswith("hit"))
        self.assertEqual(self.web.ask("titles/", old.etag, tenant="beta", **self.how).status, 403)
        self.assertNotEqual(self.web.ask("titles/", old.etag, tenant="beta", Authorization="Token beta").status, 304)

    def test_who_may_not_any_more_gets_no_304(self):
        old = self.stored("notes/", **self.how)
        member = site.Member.objects.get(user=self.ann)
        site.Member.objects.filter(pk=member.pk).delete()
        self.assertEqual(self.web.ask("notes/", old.etag, **self.how).status, 403)
        site.Member.objects.create(user=self.ann, tenant=self.acme)
        Token.objects.filter(key="acme").delete()
        self.assertEqual(self.web.ask("notes/", old.etag, **self.how).status, 401)
        Token.objects.create(user=self.ann, key="acme")

    def test_one_of_two_writers_with_one_etag(self):
        page = f"notes/{self.note.pk}/"
        etag = self.stored(page, **self.how).etag
        said, threads = [], []
        for number in range(4):
            def write(number=number):
                said.append(self.web.ask(page, method="PATCH", body=json.dumps({"title": f"by {number}"}), Content_Type="application/json",
                                         If_Match=etag, **self.how))
            threads.append(threading.Thread(target=write))
            threads[-1].start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(reply.status for reply in said), [200, 412, 412, 412])
        written, = [reply for reply in said if reply.status == 200]
        self.assertEqual(self.web.ask(page, **self.how).etag, written.etag)

    def test_throttling_of_a_view_that_is_no_viewset(self):
        """It takes something from Django's cache, which is in no answer."""
        self.stored("titles/", **self.how)

    def test_a_get_with_a_body(self):
        how = {**self.how, "Content_Type": "application/json"}
        site.Note.objects.create(tenant=self.acme, title="second")
        one = self.refused("search/", "request_body", body=json.dumps({"title": "first"}), **how)
        two = self.web.ask("search/", one.etag, body=json.dumps({"title": "second"}), **how)
        self.assertEqual((two.status, two.body), (200, '["second"]'))


class Databases(Site):
    """By one thread, and so by one connection."""
    web = property(lambda self: SERVERS["one"])

    def setUp(self):
        super().setUp()
        self.web.run("connection.close()")

    def test_row_security_by_a_setting_that_no_request_takes_back(self):
        """The tenant is read before it is set: under what the request before it left, which no plain table shows."""
        sets = "SELECT set_config('app.tenant', '%(id)s', false)"
        for name in ("acme", "beta"):
            self.assertEqual(self.stored("secrets/", tenant=name, X_Sets=sets).body, f'["{name}"]')
        self.changes("secrets/", lambda: self.secret(self.beta.pk, "more"), tenant="beta", X_Sets=sets)
        self.refused("secrets/", "session_settings", times=1)  # who does not set it reads as the one before

    def test_a_schema_of_each_tenant(self):
        sets = {"X_Sets": "SET search_path TO %(name)s, public"}
        resets = {**sets, "X_Resets": "RESET search_path"}
        first = {"X_Sets_First": sets["X_Sets"]}
        for how in (resets, first):
            with self.subTest(how):
                self.web.run("connection.close()")
                for name in ("acme", "beta"):
                    self.changes("items/", lambda name=name: self.insert(name), tenant=name, **how)
        self.web.ask("items/", **sets)
        self.refused("items/", "session_settings", times=1, **sets)  # Tenant is read by the path that another left
        self.web.ask("items/", **resets)
        self.stored("items/", **resets)

    @staticmethod
    def insert(name):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL search_path TO {name}, public")
            site.Item.objects.create(name="item")

    def test_what_a_function_left_in_the_session(self):
        """A thread's connection is another tenant's, or nobody's, by what no SET shows."""
        for how in ("SELECT be_tenant(%(id)s)", "SELECT be_tenant_too(%(id)s)", "CALL become(%(id)s)",
                    "DO $$ BEGIN PERFORM set_config('app.tenant', '%(id)s', false); END $$",
                    "SELECT 1; SET app.tenant = %(id)s", "/* */ SET app.tenant = %(id)s"):
            with self.subTest(how):
                self.web.ask("tenant/", X_Sets=how)
                self.refused("secrets/", "session_settings")
                self.refused("tenant/", "session_settings", times=1)  # it may have been the search path
                self.web.ask("tenant/", X_Sets="DISCARD ALL")
                self.stored("secrets/")

    def test_what_the_driver_committed_or_took_back(self):
        """By connection.connection: Django knows nothing of it."""
        ends = "connection.set_autocommit(False); c = connection.cursor(); c.execute('{}'); connection.connection.{}(); c.execute('SELECT 1'); " \
               "connection.{}(); connection.set_autocommit(True)"
        block = "c = connection.cursor()\nwith connection.connection.transaction(force_rollback=True): c.execute('RESET app.tenant')"
        codes = [ends.format("SET app.tenant = 1", "commit", "rollback"), ends.format("RESET app.tenant", "rollback", "commit")]
        for code in codes + [block] * (sys.modules.get("psycopg") is not None):
            with self.subTest(code):
                self.web.run(code)
                self.refused("secrets/", "session_settings")

    def test_a_setting_that_is_rolled_back_to_anothers(self):
        self.stored("rolledback/")
        self.web.ask("tenant/", X_Sets="SET app.tenant = %(id)s")
        for page in ("rolledback/", "rolledback/?inner"):
            self.assertEqual(self.refused(page, "session_settings").body, '["acme"]')

    def test_another_setting_than_the_one_that_is_left(self):
        self.web.ask("tenant/", X_Sets="SET app.tenant = %(id)s")
        self.refused("secrets/", "session_settings", X_Sets_First="SET search_path TO public")
        self.refused("shown/", "session_settings", times=1)
        self.web.ask("tenant/", X_Sets="RESET ALL")
        self.stored("shown/", X_Sets="SET app.tenant = %(id)s", X_Resets="RESET app.tenant")
        self.stored("secrets/", X_Sets_First="SET search_path TO public")

    def test_a_tenant_that_moves_to_another_database(self):
        old = self.stored("boxes/")
        self.assertEqual(old.body, '["of one"]')
        self.changes("boxes/", lambda: site.Box.objects.using("one").create(name="more"))
        self.changes("boxes/", lambda: site.Tenant.objects.filter(pk=self.acme.pk).update(database="two"))
        self.assertEqual(self.stored("boxes/").body, '["of two"]')

    def test_an_alias_that_means_another_database(self):
        """By no row that the page reads. A thread with a connection to the former one reads on from there, but is not believed."""
        point = "connections.databases['moving'] = {**connections.databases['default'], 'NAME': %r}"
        self.web.run(point % "one")
        old = self.stored("moving/")
        self.web.run(point % "two")
        for _ in range(8):
            reply = self.web.ask("moving/", old.etag)
            self.assertTrue(reply.body == '["of two"]' or reply.said == "bypass; reason=former_database", reply)

    def test_a_connection_whose_settings_mean_another_database(self):
        old = self.stored("boxes/", tenant="beta")
        self.assertTrue(site.Box.objects.using("one").exists())
        connections["one"].close()
        connections["one"].settings_dict["NAME"] = "two"
        self.addCleanup(connections["one"].settings_dict.update, NAME="one")
        with self.assertLogs("etagd.django", "WARNING"):
            writes.look_for_moved()  # as each request of this process does at its begin
        self.assertIn("reason=stale", self.web.ask("boxes/", old.etag, tenant="beta").said)


class Handed(Site):
    """What a request takes from a task that another one began was read for that one."""

    def second(self, first, second, server):
        """Two requests, of which the second waits for what the first one began."""
        server.run("GATE.clear(); FLIGHTS.clear()")
        said = {}
        threads = []
        for name, page in (("first", first), ("second", second)):
            def ask(name=name, page=page):
                said[name] = server.ask(page, tenant="acme" if name == "first" else "beta")
            threads.append(threading.Thread(target=ask))
            threads[-1].start()
            if name == "first":
                wait_until(lambda: not server.ask("run/", method="POST", body="assert FLIGHTS").status == 500, 10, "the first one began")
        server.run("import time; time.sleep(0.3); GATE.set()")
        for thread in threads:
            thread.join()
        return said

    def test_a_future_of_an_executor(self):
        said = self.second("executor/", "executor/", self.web)
        self.assertTrue(said["first"].said.startswith("miss"), said)
        self.assertEqual(said["second"].said, "bypass; reason=other_request; by=Future", said)

    def test_a_future_of_nobody(self):
        """As a scheduler's, which is done before the request began."""
        self.web.run("import contextvars; GATE.set(); FLIGHTS['future'] = contextvars.Context().run(POOL.submit, load); "
                     "contextvars.Context().run(FLIGHTS['future'].result)")
        self.refused("executor/", "other_request")

    def test_a_task_of_an_event_loop(self):
        for how in ("await", "shield", "gather"):
            with self.subTest(how):
                said = self.second("task/", "task/?by=" + how, self.loop)
                self.assertTrue(said["first"].said.startswith("miss"), said)
                self.assertEqual(said["second"].said, "bypass; reason=other_request; by=load_on_loop", said)
        self.refused("task/", "other_request", self.loop)  # it is done, and kept

    def test_tasks_of_the_request_itself(self):
        self.changes("own/", lambda: site.Label.objects.create(name="x"), self.loop)


class Mistakes(unittest.TestCase):
    """What is told at the start, and how."""

    def test_what_decides_about_access_within_the_view(self):
        @api_view(["GET"])
        def function(_):
            return HttpResponse("x")

        class Rest(APIView):
            pass

        class Own(LoginRequiredMixin, View):
            pass

        for view, who in ((function, "function, a view of Django REST framework"), (Rest.as_view(), "Rest, a view of Django REST framework"),
                          (Own.as_view(), r"dispatch\(\) of LoginRequiredMixin"),
                          (login_required(lambda request: HttpResponse()), "a decorator of django.contrib.auth.decorators")):
            with self.subTest(who), self.assertRaisesRegex(ImproperlyConfigured, f"{who}.* decides about access"):
                etag_cached(scope=site.whose)(view)
            with self.subTest(who), self.assertRaisesRegex(ImproperlyConfigured, "decides about access"):
                condition(lambda *_: None, scope=site.whose)(view)
        self.assertTrue(etag_cached(scope=site.whose)(View.as_view()))

    def test_what_a_view_cannot_trust(self):
        for reason in ("inner_request", "in_transaction", "session_settings", "fiel"):
            with self.subTest(reason):
                with self.assertRaisesRegex(ImproperlyConfigured, f"names '{reason}'.*may trust file, .*network"):
                    etag_cached(scope=site.whose, trust=["file", reason])
                with self.assertRaisesRegex(ImproperlyConfigured, f"Trusting.etag_trust names '{reason}'"):
                    type("Trusting", (ETagMixin, APIView), {"etag_trust": reason})

    def test_a_callable_that_does_not_take_what_the_view_gets(self):
        request = RequestFactory().get("/3/")
        for made in (etag_cached(scope=lambda request: "x"), etag_cached(scope=lambda request, **_: "x", surrogates=lambda request: ()),
                     condition(lambda request: '"x"')):
            with self.assertRaisesRegex(ImproperlyConfigured, r"lambda>\(request\) is called with what the view gets, \(request, pk=3\)"):
                made(lambda request, pk: HttpResponse("x"))(request, pk=3)
        with self.assertRaisesRegex(TypeError, "of its own"):
            etag_cached(scope=lambda request, **_: (_ for _ in ()).throw(TypeError("of its own")))(lambda request, pk: 0)(request, pk=3)

    def test_without_the_framework(self):
        done = subprocess.run([sys.executable, "-c", "import sys; sys.modules['rest_framework'] = None; import etagd.django.rest"], text=True,
                              env={**os.environ, "PYTHONPATH": django_site.PACKAGE}, stderr=subprocess.PIPE, check=False)
        self.assertIn("etagd.django.rest is for views of Django REST framework, which is not installed", done.stderr)


if __name__ == "__main__":
    unittest.main()
