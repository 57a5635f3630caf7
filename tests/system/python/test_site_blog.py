# SPDX-License-Identifier: Apache-2.0
"""The life of a blog (sites/blog_site.py): pages that are cached and hit, everything that is written to them, and no old answer; under gunicorn, and in part
under uvicorn, beside the editors' commands and the admin's forms."""
import atexit
import datetime
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest
import urllib.parse

import django_site
import harness
from harness import Case, wait_until

django_site.require("django", "gunicorn")
from django_web import Page, Web  # noqa: E402

PLACE = tempfile.mkdtemp(prefix="etagd-test-")
atexit.register(shutil.rmtree, PLACE, ignore_errors=True)
DAEMON = harness.Daemon(PLACE, linger_ms=3000)
os.environ.update(BLOG_PLACE=PLACE, ETAGD_SOCKET=DAEMON.socket, BLOG_RELEASE="one")
for folder in ("media", "templates", "bin"):
    os.makedirs(os.path.join(PLACE, folder))

import blog_site as site  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.contrib.flatpages.models import FlatPage  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.contrib.sessions.models import Session  # noqa: E402
from django.contrib.sites.models import Site  # noqa: E402
from django.core import checks, serializers, signing  # noqa: E402
from django.core.management import CommandError, call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import override_settings  # noqa: E402

CSRF = "c" * 32


class Server(Web):
    ALIVE, REPLY = ("/up/", 200), Page

    def __init__(self, name, **environment):
        super().__init__(PLACE, name, **environment)
        atexit.register(self.end)

    def ask(self, path, etag=None, method="GET", body=None, **fields):
        return super().ask(path, etag, method, body=body, **{"Host": "blog", **fields})


def gunicorn(name, *more, **environment):
    return Server(name, **environment).gunicorn("blog_site:application", "-w", "2", "--threads", "2", *more)


WEB = None


def setUpModule():
    global WEB
    DAEMON.start()
    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        for model in site.MODELS:
            editor.create_model(model)
    call_command("migrate", verbosity=0)  # permissions of the blog's models
    with open(os.path.join(PLACE, "templates", "on_disk.html"), "w", encoding="utf-8") as file:
        file.write("first {{ posts }}")
    WEB = gunicorn("web")
    fill()
    WEB.serving()


def tearDownModule():
    WEB.end()
    connection.close()
    DAEMON.end()


def fill():
    from django.apps import apps
    from django.contrib.auth.management import create_permissions

    config = apps.get_app_config("blog")
    config.models_module = site
    create_permissions(config, verbosity=0)
    for name in ("editor", "alice", "bob"):
        User.objects.create(username=name, is_staff=name == "editor", is_superuser=name == "editor")
    alice, cats, red = User.objects.get(username="alice"), site.Category.objects.create(name="cats"), site.Tag.objects.create(name="red")
    site.Profile.objects.create(user=alice, bio="a life")
    for number in range(1, 6):
        post = site.Post.objects.create(title=f"Title{number}", slug=f"p{number}", body="text", author=alice, category=cats, status="p" if number < 5 else "d")
        post.tags.add(red)
        site.Comment.objects.create(target=post, text=f"comment{number}", public=True)
    blog = Site.objects.get()
    Site.objects.update(domain="blog", name="The blog")
    for name in ("about", "members"):
        FlatPage.objects.create(url=f"/{name}/", title=name, content="first words", registration_required=name == "members").sites.add(blog)
    site.Media.objects.create(file="files/a.png", caption="a picture").posts.add(site.Post.objects.get(slug="p1"))


def session_of(name, **values):
    """The Cookie field of somebody who is logged in."""
    user, session = User.objects.get(username=name), SessionStore()
    session.update({"_auth_user_id": str(user.pk), "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
                    "_auth_user_hash": user.get_session_auth_hash(), **values})
    session.save()
    return f"sessionid={session.session_key}; csrftoken={CSRF}"


def write_translations(folder, texts):
    """A .mo file."""
    os.makedirs(folder)
    texts = sorted((name.encode(), text.encode()) for name, text in texts.items())
    count, at, body, tables = len(texts), 28 + 16 * len(texts), b"", [b"", b""]
    for which in (0, 1):
        for pair in texts:
            tables[which] += struct.pack("<II", len(pair[which]), at + len(body))
            body += pair[which] + b"\0"
    with open(os.path.join(folder, "django.mo"), "wb") as file:
        file.write(struct.pack("<7I", 0x950412de, 0, count, 28, 28 + 8 * count, 0, at) + b"".join(tables) + body)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
        return set(file.read().split())


def post(slug):
    return site.Post.objects.get(slug=slug)


class Blog(Case):
    def stored(self, path, web=None, **fields):
        """Its answer, once it comes from etagd."""
        web = web or WEB
        last = []

        def hit():
            first = web.ask(path, **fields)
            again = web.ask(path, first.etag, **fields)
            last[:] = [first, again]
            return first if first.status == 200 and again.status == 304 and again.said.startswith("hit") else None
        try:
            return wait_until(hit, 10, f"{path} is stored")
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}") from None

    def refused(self, path, reason, web=None, **fields):
        for _ in range(2):
            reply = (web or WEB).ask(path, **fields)
            self.assertEqual((reply.status, reply.said.partition(" by=")[0].rstrip(";")), (200, f"bypass; reason={reason}"), f"{path}: {reply}")
        return reply

    def is_new(self, path, old, web=None, **fields):
        for _ in range(3):
            reply = (web or WEB).ask(path, old.etag, **fields)
            self.assertNotEqual(reply.status, 304, f"{path}: an old answer: {reply}")
            self.assertNotEqual(reply.body, old.body)
        return reply

    def writes(self, path, *changes, **fields):
        """Each of these makes the page another one."""
        for number, change in enumerate(changes):
            with self.subTest(path, change=number):
                old = self.stored(path, **fields)
                change()
                self.is_new(path, old, **fields)


class Life(Blog):
    def test_what_editors_write(self):
        p1 = post("p1")
        self.writes(
            "/post/p1/", lambda: site.Post.objects.filter(pk=p1.pk).update(title="Another"), lambda: User.objects.filter(username="alice").update(username="al"),
            lambda: site.Profile.objects.update(bio="another life"), lambda: p1.tags.add(site.Tag.objects.create(name="blue")),
            lambda: site.Tag.objects.filter(name="blue").update(name="navy"), lambda: p1.tags.clear(), lambda: site.Category.objects.update(name="kats"),
            lambda: site.Comment.objects.create(target=p1, text="a new one", public=True), lambda: site.Comment.objects.filter(text="a new one").update(public=False),
            lambda: site.Media.objects.update(caption="another picture"), lambda: Site.objects.update(name="Another blog"),
            lambda: User.objects.filter(username="al").update(username="alice"), lambda: site.Category.objects.all().delete())
        self.writes("/posts/?page=2", lambda: post("p5").__class__.objects.filter(slug="p5").update(status="p"), lambda: post("p5").delete(),
                    lambda: site.Post.objects.create(title="More", slug="more", status="p", author=p1.author))
        self.writes("/feed/red/", lambda: post("p2").tags.clear(), lambda: Site.objects.update(domain="blog.example"))
        self.writes("/sitemap.xml", lambda: site.Post.objects.create(title="Mapped", slug="mapped", status="p"))
        self.writes(f"/translations/?post={p1.pk}", lambda: site.Translation.objects.create(post=p1, language="de", title="Titel"),
                    lambda: site.Translation.objects.update(post=post("p2")))
        self.writes("/pages/about/", lambda: FlatPage.objects.filter(url="/about/").update(content="last words"))

    def test_a_flatpage_in_the_place_of_a_post_that_is_none(self):
        FlatPage.objects.create(url="/post/none/", title="none", content="a page").sites.add(1)
        self.writes("/post/none/", lambda: FlatPage.objects.filter(url="/post/none/").update(content="another page"),
                    lambda: site.Post.objects.create(title="A post", slug="none", status="p", author=User.objects.get(username="bob")))

    def test_the_admins_forms(self):
        cookie, p3 = session_of("editor"), post("p3")

        def send(path, **fields):
            form = urllib.parse.urlencode({**fields, "csrfmiddlewaretoken": CSRF}, doseq=True)
            reply = WEB.ask(path, method="POST", body=form, Cookie=cookie, Content_Type="application/x-www-form-urlencoded")
            self.assertEqual(reply.status, 302, re.findall(r'errorlist[^>]*>(.*?)</ul>', reply.body) or reply)
        form = {"title": "By form", "slug": "p3", "body": "text", "status": "p", "author": p3.author_id, "translations-TOTAL_FORMS": 1,
                "translations-INITIAL_FORMS": 0, "translations-0-language": "de", "translations-0-title": "Inline", "translations-0-post": p3.pk}
        change = f"/admin/blog/post/{p3.pk}/change/"
        self.writes("/post/p3/", lambda: send(change, **form))
        self.writes(f"/translations/?post={p3.pk}", lambda: site.Translation.objects.filter(post=p3).delete(),
                    lambda: send(change, **{**form, "translations-0-title": "Inline 2"}))
        draft = site.Post.objects.create(title="Draft", slug="draft", author=p3.author)
        self.writes("/posts/", lambda: send("/admin/blog/post/", action="publish", index=0, _selected_action=draft.pk),
                    lambda: send("/admin/blog/post/", action="delete_selected", _selected_action=draft.pk, post="yes"))

    def test_who_is_logged_in_and_what_they_may(self):
        alice, cookie, add = User.objects.get(username="alice"), session_of("alice"), Permission.objects.get(codename="add_post")
        group = Group.objects.create(name="authors")
        group.user_set.add(alice)
        self.writes("/posts/", lambda: alice.user_permissions.add(add), alice.user_permissions.clear, lambda: group.permissions.add(add),
                    lambda: group.user_set.clear(), lambda: User.objects.filter(pk=alice.pk).update(is_active=False),
                    lambda: User.objects.filter(pk=alice.pk).update(is_active=True), lambda: Session.objects.all().delete(), Cookie=cookie)
        own = self.stored("/posts/", Cookie=session_of("alice"))
        for fields in ({}, {"Cookie": session_of("bob")}):
            self.is_new("/posts/", own, **fields)
        alice.user_permissions.add(Permission.objects.get(codename="view_post"))
        cookie = session_of("alice")
        self.writes("/drafts/", alice.user_permissions.clear, Cookie=cookie)
        self.assertEqual(WEB.ask("/drafts/", "*", Cookie=cookie).status, 403)
        members = self.stored("/pages/members/", Cookie=cookie)
        self.assertEqual(WEB.ask("/pages/members/", members.etag).status, 302)

    def test_commands(self):
        p1 = post("p1")
        p1.body = "from a file"
        fixture = os.path.join(PLACE, "posts.json")
        with open(fixture, "w", encoding="utf-8") as file:
            file.write(serializers.serialize("json", [p1]))
        self.writes("/post/p1/", lambda: call_command("loaddata", fixture, verbosity=0))

    def test_the_databases_own_shell(self):
        """A program that manage.py starts, and that writes in its own way."""
        program = os.path.join(PLACE, "bin", "sqlite3")
        with open(program, "w", encoding="utf-8") as file:
            file.write(f"#!{sys.executable}\nimport sqlite3, sys\ntry:\n    with sqlite3.connect(sys.argv[1], timeout=20) as to:\n"
                       "        to.execute(sys.argv[2])\nexcept sqlite3.OperationalError:\n    sys.exit(1)\n")
        os.chmod(program, 0o755)
        before = os.environ["PATH"]
        self.addCleanup(os.environ.__setitem__, "PATH", before)
        os.environ["PATH"] = os.path.join(PLACE, "bin") + os.pathsep + before
        self.writes("/post/p1/", lambda: call_command("dbshell", "--", "UPDATE blog_post SET body = 'by hand' WHERE slug = 'p1'"))
        old = self.stored("/post/p1/")
        with self.assertRaises((subprocess.CalledProcessError, CommandError)):
            call_command("dbshell", "--", "SELECT * FROM nothing")
        self.assertEqual(WEB.ask("/post/p1/", old.etag).status, 304, "the program said that it failed, the guard is over")


class Requests(Blog):
    """What a page takes from the request itself."""

    def check_fields(self, web, **more):
        for page, what in (("part", "Hx-Request"), ("layout", "User-Agent"), ("own_layout", "User-Agent"), ("address", "REMOTE_ADDR")):
            with self.subTest(page):
                reply = self.refused(f"/{page}/", "request_field", web, **more)
                self.assertIn(f"by={what}; do=", reply.said)
        self.stored("/logged/", web, **more)

    def test_fields_that_no_key_has(self):
        self.check_fields(WEB)
        self.assertIn("by=COUNTRY_CODE; do=COUNTRY_CODE in the scope", self.refused("/country/", "request_field").said)
        site.Post.objects.create(title="Not yet", slug="not-yet")
        whole = self.stored("/preview/")
        self.is_new("/preview/", whole, X_Preview="token")
        self.stored("/preview/", X_Preview="token")

    def test_cookies_that_no_key_has(self):
        web = gunicorn("anonymous", BLOG_VARY="1")
        self.addCleanup(web.end)
        web.serving()
        for page in ("consent", "consent_in_template"):
            reply = self.refused(f"/{page}/", "request_field", web)
            self.assertIn('by=cookie consent; do="Cookie" in VARY', reply.said)
            self.is_new(f"/{page}/", reply, web, Cookie="consent=1")
            self.is_new(f"/{page}/", self.stored(f"/{page}/"), Cookie="consent=1")  # where VARY has Cookie
        self.assertIn("by=cookie sessionid", self.refused("/basket/", "request_field", web, Cookie=session_of("bob")).said)
        self.is_new("/basket/", self.stored("/basket/"), Cookie=session_of("bob"))
        self.assertIn('session; do="Cookie" in VARY', web.ask("/theme/").said)

    def test_a_file_of_the_system(self):
        self.assertIn("by=/etc/passwd", self.refused("/users_of_the_host/", "file").said)

    def test_a_get_with_a_body(self):
        old = self.stored("/found/")
        self.assertIn("Title2", old.body)
        self.assertEqual(WEB.ask("/found/", old.etag, body="Title2").said, "bypass; reason=request_body")
        self.is_new("/found/", old, body="Title2")

    def test_cookies_are_not_in_the_key_in_clear(self):
        cookie = session_of("bob", theme="dark")
        old = self.stored("/theme/", Cookie=cookie)
        self.assertIn("dark", old.body)
        said = WEB.ask("/theme/", old.etag, Cookie=cookie).said
        listed = subprocess.run([harness.ETAGCTL, "--socket", DAEMON.socket, "--json", "list"], check=True, capture_output=True, text=True).stdout
        self.assertIn("Cookie: hashed:", said)
        self.assertIn("hashed:", listed)
        self.assertNotIn(cookie.partition("=")[2].partition(";")[0], said + listed)
        told = subprocess.run(f"{harness.ETAGCTL} --socket {DAEMON.socket} explain {said.partition('key=')[2]}", shell=True, check=True,
                              capture_output=True, text=True).stdout
        self.assertIn(old.etag.strip('"'), told)
        self.is_new("/theme/", old, Cookie=session_of("bob", theme="light"))
        self.stored("/theme/", Cookie="long=" + "x" * 3000)

    def test_under_uvicorn_and_after_secret_key_was_changed(self):
        try:
            import uvicorn  # noqa: F401  pylint: disable=unused-import
        except ImportError as error:
            raise unittest.SkipTest("uvicorn is missing") from error
        cookie = session_of("bob")
        old, draft = self.stored("/posts/", Cookie=cookie), "/link/?to=" + signing.TimestampSigner().sign(str(post("p1").pk))
        self.assertIn("Yes bob", old.body)
        link = self.stored(draft)
        web = Server("loop", BLOG_SECRET="another")
        web.spawn("-m", "uvicorn", "--uds", web.socket, "--log-level", "warning", "blog_site:on_loop")
        self.addCleanup(web.end)
        web.serving()
        self.assertNotIn("Yes bob", self.is_new("/posts/", old, web, Cookie=cookie).body)
        self.assertEqual(self.is_new(draft, link, web).status, 403)
        self.check_fields(web)
        old = self.stored("/found/", web)
        self.is_new("/found/", old, web, body="Title2")
        with self.subTest("translations that an editor writes"):
            old = self.stored("/french/", web)
            write_translations(os.path.join(PLACE, "locale", "de", "LC_MESSAGES"), {"": "Content-Type: text/plain; charset=UTF-8\n", "Yes": "Freilich"})
            web.ask("/reload/")
            self.assertIn("Freilich", self.is_new("/french/", old, web).body)
            self.refused("/french/", "template", web)


class Times(Blog):
    def ends(self, path, **fields):
        """When etagd forgets the page."""
        key = WEB.ask(path, self.stored(path, **fields).etag, **fields).said.partition("key=")[2]
        told = subprocess.run(f"{harness.ETAGCTL} --socket {DAEMON.socket} explain {key}", shell=True, check=True, capture_output=True, text=True).stdout
        found = re.search(r"expires +(\S+)", told)
        self.assertIsNotNone(found, told)
        return datetime.datetime.fromisoformat(found.group(1).replace("Z", "+00:00"))

    def test_a_session_is_over_in_every_zone(self):
        """SQLite has its end without a zone."""
        cookie = session_of("bob", theme="dark")
        end = Session.objects.latest("expire_date").expire_date
        self.assertLessEqual(abs((self.ends("/theme/", Cookie=cookie) - end).total_seconds()), 2)

    def test_a_link_that_expires(self):
        made = datetime.datetime.now(datetime.timezone.utc)
        end = self.ends("/link/?to=" + signing.TimestampSigner().sign(str(post("p1").pk)))
        self.assertLess((end - made).total_seconds(), 3601)
        self.assertGreater((end - made).total_seconds(), 3500)
        self.refused("/token/", "clock_python")

    def test_dice(self):
        for page in ("one", "one_in_template", "password"):
            self.refused(f"/{page}/", "chance")
        self.stored("/dice_of_a_row/")


class Fields(Blog):
    """A 304 takes the place of the fields of its 200."""

    CHANGED = ("Content-Language", "X-Frame-Options")
    NEEDED = ("Cache-Control", "Vary", "ETag", "Expires", "Last-Modified", "Content-Location")

    def test_no_field_of_a_hit_says_other_than_the_200(self):
        for path in ("/french/", "/embedded/", "/posts/", "/feed/"):
            with self.subTest(path):
                first = self.stored(path, Accept_Encoding="gzip")
                again = WEB.ask(path, first.etag, Accept_Encoding="gzip")
                for name in self.CHANGED:
                    self.assertIn(again.head.headers[name], (None, first.head.headers[name]), name)
                self.has_all(first, again)

    def has_all(self, first, again):
        for name in self.NEEDED:
            words = {word.strip() for word in (first.head.headers[name] or "").replace("W/", "").split(",")} - {""}  # GZipMiddleware's
            self.assertLessEqual(words, {word.strip() for word in (again.head.headers[name] or "").split(",")}, f"{name}: {dict(again.head.headers)}")

    def test_below_the_sessions_and_forked_of_a_server_that_loaded_before(self):
        """It has the code of its parent, and reads templates itself."""
        web = gunicorn("forked", "--preload", BLOG_LOW="1", BLOG_RELEASE="")
        self.addCleanup(web.end)
        web.serving()
        cookie = session_of("bob", theme="dark")
        first = self.stored("/theme/", web, Cookie=cookie)
        self.assertIn("Cookie", first.head.headers["Vary"])
        self.has_all(first, web.ask("/theme/", first.etag, Cookie=cookie))
        old = self.stored("/on_disk/", web)
        with open(os.path.join(PLACE, "templates", "on_disk.html"), "w", encoding="utf-8") as file:
            file.write("second, and longer {{ posts }}")
        former = children(web.process.pid)
        web.process.send_signal(signal.SIGHUP)
        wait_until(lambda: former.isdisjoint(children(web.process.pid)) and web.answers(), 30, "new workers")
        self.is_new("/on_disk/", old, web)

    def test_the_order_is_checked(self):
        def said():
            return {message.id for message in checks.run_checks(tags=["etagd"])}
        self.assertNotIn("etagd.W007", said())
        low = [name for name in settings.MIDDLEWARE if name != site.OURS] + [site.OURS]
        with override_settings(MIDDLEWARE=low):
            self.assertIn("etagd.W007", said())


if __name__ == "__main__":
    harness.main()
