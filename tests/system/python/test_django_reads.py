# SPDX-License-Identifier: Apache-2.0
"""What Django answers from etagd, what it stores, and what it never does: the middleware, the mixin and the decorators in one
process, against a real daemon."""
import asyncio
import contextvars
import datetime
import io
import logging
import os
import sys
import tempfile
import time
from unittest import mock

import django_site
import harness
from harness import put_file, wait_until

django_site.require("django", "rest_framework")
import etagd  # noqa: E402

MIDDLEWARE = [__name__ + ".outer", "etagd.django.middleware.ConditionalGetMiddleware", "django.contrib.sessions.middleware.SessionMiddleware",
              "django.middleware.common.CommonMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware",
              "django.contrib.messages.middleware.MessageMiddleware"]
DIRECTORY = django_site.configure(
    "notes", ROOT_URLCONF=__name__, MIDDLEWARE=MIDDLEWARE, DEBUG_PROPAGATE_EXCEPTIONS=True,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.messages",
                    "rest_framework", "notes", "etagd.django"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "DEFAULT_PERMISSION_CLASSES": [], "UNAUTHENTICATED_USER": None,
                    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]})

import django  # noqa: E402
from asgiref.sync import async_to_sync, sync_to_async  # noqa: E402
from django.contrib import messages  # noqa: E402
from django.contrib.auth.models import Group  # noqa: E402
from django.core.cache import cache  # noqa: E402
from django.core.handlers.wsgi import WSGIRequest  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.management.base import CommandError  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.db.models.functions import Now  # noqa: E402
from django.http import Http404, HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.middleware.csrf import get_token  # noqa: E402
from django.middleware.http import ConditionalGetMiddleware as Djangos  # noqa: E402
from django.test import AsyncClient, Client, RequestFactory  # noqa: E402
from django.test.utils import override_settings  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone, translation  # noqa: E402
from django.utils.decorators import method_decorator  # noqa: E402
from django.views import View  # noqa: E402
from django.views.decorators import http  # noqa: E402
from django.views.decorators.cache import cache_page  # noqa: E402
from etagd.django import checks, conf, decorators, deployment, exchange, loop, reads, writes  # noqa: E402
from etagd.django.decorators import etag_cached  # noqa: E402
from etagd.django.middleware import ConditionalGetMiddleware  # noqa: E402
from etagd.django.rest import ETagMixin  # noqa: E402
from rest_framework import permissions, serializers, throttling, viewsets  # noqa: E402


logging.getLogger("django.request").setLevel(logging.CRITICAL)
Model = django_site.base_of("notes")


class Note(Model):
    text = models.CharField(max_length=20)
    changed = models.DateTimeField(default=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc))


CALLS = []  # names of views that ran


def scope(request, *_args, **_kwargs):
    return request.headers.get("X-Scope")


def page(request, **more):
    """What any view shows: all notes."""
    CALLS.append(request.path)
    return JsonResponse({"notes": list(Note.objects.values_list("text", flat=True))}, **more)


VIEWS = {}


def view(name, **options):
    def add(function):
        VIEWS[name] = etag_cached(scope=scope, **options)(function)
        return function
    return add


view("plain")(page)
view("short", max_age_s=1)(page)
view("policy", cache_control="private, max-age=5", cache_control_unsafe=None)(page)
view("named", surrogates=["tariff"])(page)
view("only-named", surrogates=lambda request: ["tariff"])(lambda request: HttpResponse("tariff"))
view("cookie-key", vary=["Cookie"])(lambda request: page(request) if request.session.get("x", 1) else None)
view("trusts", trust_cache=True)(lambda request: page(request) if cache.get("x", 1) else None)
view("strict", require_if_match=True)(page)


def outer(get_response):
    """A middleware before ours, which reads."""
    def middleware(request):
        if request.path == "/outer/":
            request.note = Note.objects.get(pk=1)
        return get_response(request)
    return middleware


@view("outer")
def from_outside(request):
    return HttpResponse(f"{request.note.text} of {Group.objects.count()}")


@view("dependent")
def dependent(request):
    decorators.depends_on(request, ["weather"], [Group(pk=7)])
    return HttpResponse("fine")


@view("missing")
def missing(request):
    return page(request, status=404)


@view("streaming")
def streaming(request):
    return StreamingHttpResponse([page(request).content])


@view("set-cookie")
def set_cookie(request):
    response = page(request)
    response.set_cookie("a", "b")
    return response


@view("csrf")
def csrf(request):
    get_token(request)
    return page(request)


@view("session")
def session(request):
    return page(request) if request.session.get("x", 1) else None


@view("session-written")
def session_written(request):
    request.session["x"] = 1
    return page(request)


@view("messages")
def with_messages(request):
    messages.info(request, "hello")
    return page(request)


@view("messages-read")
def with_messages_read(request):
    list(messages.get_messages(request))
    return page(request)


@view("vary-star")
def vary_star(request):
    return page(request, headers={"Vary": "*"})


@view("vary-uncovered")
def vary_uncovered(request):
    return page(request, headers={"Vary": "X-Secret"})


@view("vary-empty")
def vary_empty(request):
    return page(request, headers={"Vary": ""})


@view("csp")
def csp(request):
    return page(request, headers={"Content-Security-Policy": "script-src 'nonce-abc'"})


@view("csp-report")
def csp_report(request):
    return page(request, headers={"Content-Security-Policy-Report-Only": "script-src 'nonce-abc'"})


@view("csp-used")
def csp_used(request):
    request._csp_nonce = "abc"  # django-csp's, whose middleware writes the field later
    return page(request)


@view("csp-django", vary=["X-Nonce"])
def csp_django(request):
    return page(request, headers={"X-Nonce": str(request._csp_nonce)}) if request.headers.get("X-Nonce") else page(request)


@view("streaming-etag")
def streaming_etag(request):
    return StreamingHttpResponse([page(request).content], headers={"ETag": '"s"'})


@view("clock")
def clock(request):
    list(Note.objects.filter(changed__lt=Now()))
    return page(request)


@view("clock-by-hand")
def clock_by_hand(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_TIMESTAMP")
    return page(request)


@view("clock-bounded", max_age_s=1)
def clock_bounded(request):
    return clock(request)


@view("no-store")
def no_store(request):
    return page(request, headers={"Cache-Control": "no-store"})


@view("writes")
def writing(request):
    Note.objects.filter(pk=-1).update(text="x")
    return page(request)


@view("uncached-source")
def uncached_source(request):
    return page(request) if cache.get("x", 1) else None


@view("no-rows")
def no_rows(request):
    return HttpResponse("static")


@view("page-cache")
@cache_page(60)
def page_cache(request):
    return page(request)


@view("slow")
def slow(request):
    """A write of somebody else, after the rows were read."""
    response = page(request)
    BETWEEN()
    return response


@view("own-etag")
def own_etag(request):
    return page(request, headers={"ETag": '"mine"', "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT"})


LATER = {}  # what the view of this name says now


@view("later", surrogates=lambda request: ["front", *LATER.get("surrogates", ())])
def later(request):
    CALLS.append(request.path)
    if LATER.get("gone"):
        raise Http404
    response = HttpResponse(LATER.get("text", "text"), headers=LATER.get("fields", {}))
    if LATER.get("cookie"):
        response.set_cookie("a", "b")
    return cache.get("x", response) if LATER.get("cached") else response


BETWEEN = None
VIEWS["public"] = etag_cached(scope=etagd.PUBLIC, cache_control="max-age=5")(page)
VIEWS["uncached"] = page


@method_decorator(etag_cached(scope=scope), name="dispatch")
class ByMethodDecorator(View):
    def get(self, request):
        return page(request)


@etag_cached(scope=scope)
class ByClass(View):
    def get(self, request):
        return page(request)

    def post(self, request):
        return HttpResponse("posted")


def secret(request):
    """Only the owner's."""
    if request.headers.get("X-User") != "owner":
        return HttpResponse("no", status=403)
    return etag_cached(scope=scope)(page)(request)


@etag_cached(scope=scope)
def files(request, rest):
    CALLS.append(rest)
    return JsonResponse({"file": rest, "notes": Note.objects.count()})


VIEWS.update({"by-method": ByMethodDecorator.as_view(), "by-class": ByClass.as_view()})


def newest(request):
    CALLS.append("newest")
    return Note.objects.order_by("-changed").values_list("changed", flat=True).first()


def version(request):
    CALLS.append("version")
    note = Note.objects.order_by("id").first()
    return None if note is None else f"v-{note.text}"


VIEWS["condition"] = decorators.condition(version, newest)(page)
VIEWS["condition-cached"] = decorators.condition(version, newest, scope=scope)(page)
VIEWS["etag"] = decorators.etag(version)(page)
VIEWS["last-modified"] = decorators.last_modified(newest)(page)


# ---- DRF ----


class NoteSerializer(serializers.ModelSerializer):
    class Meta:
        model = Note
        fields = ["id", "text"]


class Gate(permissions.BasePermission):
    def has_permission(self, request, view):
        return request.headers.get("X-Gate") != "closed"


class ObjectGate(permissions.BasePermission):
    def has_object_permission(self, request, view, obj):
        return request.headers.get("X-Gate") != "closed"


class Throttle(throttling.SimpleRateThrottle):
    rate = "1000/day"

    def get_cache_key(self, request, view):
        return "everybody"

    def allow_request(self, request, view):
        return super().allow_request(request, view) and request.headers.get("X-Throttle") != "now"


class NoteViewSet(ETagMixin, viewsets.ModelViewSet):
    queryset = Note.objects.order_by("id")
    serializer_class = NoteSerializer
    permission_classes = [Gate]
    throttle_classes = [Throttle]

    def etag_scope(self, request):
        return scope(request)


class LateViewSet(NoteViewSet):
    """Goes on with its checks after ETagMixin's part of initial()."""

    def initial(self, request, *args, **kwargs):
        super().initial(request, *args, **kwargs)
        if request.headers.get("X-Late") == "no":
            self.permission_denied(request)


class ObjectViewSet(NoteViewSet):
    permission_classes = [Gate & ObjectGate]


class TrustingViewSet(ObjectViewSet):
    etag_trust_object_permissions = True


class ForgetfulViewSet(ETagMixin, viewsets.ModelViewSet):
    queryset = Note.objects.order_by("id")
    serializer_class = NoteSerializer


SETS = {"notes": NoteViewSet, "late": LateViewSet, "object": ObjectViewSet, "trusting": TrustingViewSet}


def detail(viewset):
    return viewset.as_view({"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"})


urlpatterns = [path(f"{name}/", function) for name, function in VIEWS.items()]
urlpatterns += [path(f"{name}/", viewset.as_view({"get": "list", "post": "create"})) for name, viewset in SETS.items()]
urlpatterns += [path(f"{name}/<int:pk>/", detail(viewset)) for name, viewset in SETS.items()]
urlpatterns += [path("secret/x", secret), path("files/<path:rest>", files)]
FORGETFUL = [*urlpatterns, path("forgetful/", ForgetfulViewSet.as_view({"get": "list"}))]


class Site(django_site.SiteCase):
    def setUp(self):
        super().setUp()
        self.use()
        call_command("migrate", verbosity=0)
        self.tables(Note)
        Note.objects.create(text="first")
        cache.clear()
        self.site = Client()
        CALLS.clear()

    def ask(self, name, etag=None, method="get", **headers):
        fields = {"HTTP_" + key.upper().replace("-", "_"): value for key, value in {"X-Scope": "seven", **headers}.items()
                  if value is not None}
        if etag is not None:
            fields["HTTP_IF_NONE_MATCH"] = etag
        more = {"content_type": "application/json"} if method in ("post", "put", "patch") else {}
        response = getattr(self.site, method)(name if name.startswith("/") else f"/{name}/", **more, **fields)
        if "data" not in more:
            self.said = response.get("X-Etag-Cache", "")
        return response

    def send(self, name, method, data, **headers):
        fields = {"HTTP_" + key.upper().replace("-", "_"): value for key, value in {"X-Scope": "seven", **headers}.items()}
        return getattr(self.site, method)(f"/{name}/", data, content_type="application/json", **fields)

    @staticmethod
    def settle():
        key = etagd.Key(etagd.Resource(None, "/settle"), etagd.PUBLIC)
        try:
            conf.client().fill_wait(conf.client().token(), key, etagd.Response(etag='"x"'))
        except etagd.Refused:
            pass  # the daemon is another one than a moment ago

    def stored(self, name, **headers):
        """Asks twice: is the second answer from the cache?"""
        response = self.ask(name, **headers)
        first = self.said
        self.settle()
        etag = response.get("ETag", '"none"')
        second = self.ask(name, etag, **headers)
        hit = self.said.startswith("hit")
        self.assertEqual(hit, second.status_code == 304 and hit)
        return hit, first, etag


class Shadow(Site):
    def test_everything_is_rendered_and_compared(self):
        self.use(SHADOW=True)
        hit, _, etag = self.stored("plain")
        self.assertFalse(hit)
        self.assertEqual(CALLS, ["/plain/", "/plain/"])
        self.assertIn("reason=shadow", self.said)
        counted = self.etagd.status()
        self.assertEqual((counted["clients.shadow_not_modified"], counted["clients.shadow_matches"]), (1, 1))
        self.assertEqual(self.ask("plain", etag).status_code, 304)  # judged by the response


class NeverStored(Site):
    def refused(self, name, reason, **headers):
        hit, said, _ = self.stored(name, **headers)
        self.assertFalse(hit, name)
        self.assertRegex(said, rf"(reason|fill)={reason}\b")

    def test_plain_is(self):
        self.assertTrue(self.stored("plain")[0])
        self.assertEqual(CALLS, ["/plain/"])

    def test_responses(self):
        for name, reason in (("missing", "http_status"), ("streaming", ""), ("set-cookie", "set_cookie"), ("csrf", "csrf"),
                             ("vary-star", "vary_star"), ("vary-uncovered", "vary_uncovered"), ("csp", "csp_nonce"),
                             ("csp-report", "csp_nonce"),
                             ("csp-used", "csp_nonce"), ("clock", "clock"), ("clock-by-hand", "clock"), ("streaming-etag", "streaming"), ("no-store", ""), ("writes", "wrote"), ("no-rows", "no_dependency"),
                             ("uncached-source", "django_cache"), ("page-cache", "django_cache"),
                             ("messages-read", "messages"), ("session", "session"), ("session-written", "set_cookie")):
            with self.subTest(name):
                if reason:
                    self.refused(name, reason)
                else:
                    self.assertFalse(self.stored(name)[0])
        self.assertFalse(self.stored("messages")[0])
        self.assertFalse(self.stored("page-cache")[0], "nor what Django's page cache answers")

    def test_nonces_of_djangos_own_middleware(self):
        try:
            from django.utils.csp import CSP
        except ImportError:
            self.skipTest("skipped: of Django 6.0 on")
        own = "django.middleware.csp.ContentSecurityPolicyMiddleware"
        for middleware in ([own, *MIDDLEWARE], [*MIDDLEWARE, own]):
            with override_settings(MIDDLEWARE=middleware, SECURE_CSP={"script-src": [CSP.SELF, CSP.NONCE]}):
                self.site = Client()
                self.refused("csp-django", "csp_nonce", **{"X-Nonce": "1"})
        with override_settings(MIDDLEWARE=[own, *MIDDLEWARE], SECURE_CSP={"script-src": [CSP.SELF, CSP.NONCE]}):
            self.site = Client()
            self.assertTrue(self.stored("csp-django")[0], "a nonce that nobody asked for is none")

    def test_public_with_authorization(self):
        self.refused("public", "authorization", Authorization="Token x")
        self.assertTrue(self.stored("public")[0])

    def test_without_scope(self):
        self.refused("plain", "no_scope", **{"X-Scope": None})

    def test_opted_in(self):
        for name in ("trusts", "only-named", "vary-empty", "cookie-key", "short", "policy", "clock-bounded", "by-method", "by-class"):
            with self.subTest(name):
                self.assertTrue(self.stored(name)[0])

    def test_vary_absent_and_empty(self):
        _, _, etag = self.stored("vary-empty")
        self.assertEqual(self.ask("vary-empty", etag)["Vary"], "")
        _, _, etag = self.stored("plain")
        self.assertNotIn("Vary", self.ask("plain", etag))

    def test_in_a_transaction(self):
        with transaction.atomic():
            self.refused("plain", "in_transaction")

    def test_an_old_session_is_not_another_key(self):
        """The session is a row; which one, the cookie in the key says."""
        self.ask("session-written")
        self.assertTrue(self.stored("cookie-key")[0])
        _, _, etag = self.stored("cookie-key")
        self.ask("session-written")
        changed = self.site.session
        changed["x"] = 2
        changed.save()
        self.ask("cookie-key", etag)
        self.assertFalse(self.said.startswith("hit"))


class Later(Site):
    """What a later answer does to the entry of its key."""

    def answer(self, **says):
        LATER.clear()
        LATER.update(says)
        response = self.ask("later")
        self.settle()
        return response

    def hit(self, etag):
        response = self.ask("later", etag)
        return response if self.said.startswith("hit") else None

    def first(self, **says):
        etag = self.answer(**says)["ETag"]
        self.assertIsNotNone(self.hit(etag))
        return etag

    def test_a_304_repeats_the_fields_of_the_last_200(self):
        etag = self.first(fields={"Cache-Control": "max-age=86400"})
        self.answer(fields={"Cache-Control": "max-age=1"})
        self.assertEqual(self.hit(etag)["Cache-Control"], "max-age=1")

    def test_a_name_that_came_later_reaches_the_entry(self):
        etag = self.first()
        self.answer(surrogates=["post:1"])
        conf.client().invalidate(surrogates=["post:1"])
        self.assertIsNone(self.hit(etag))

    def test_names_in_a_response_field_count_in_both_readings(self):
        etag = self.first(fields={"Cache-Tag": "post:1, post:2,post:3"})
        for name in ("post:1", "post:3", "post:2,post:3"):
            self.assertIsNotNone(self.hit(etag))
            conf.client().invalidate(surrogates=[name])
            self.assertIsNone(self.hit(etag), name)
            self.first(fields={"Cache-Tag": "post:1, post:2,post:3"})

    def test_names_that_are_many_long_or_not_ascii(self):
        """They were refused."""
        for names in (["tarif:été"], ["x" * 300], [f"post:{i}" for i in range(300)]):
            etag = self.first(surrogates=names)
            conf.client().invalidate(surrogates=[names[-1]])
            self.assertIsNone(self.hit(etag), names[-1])
            self.settle()

    def test_a_404_removes_it(self):
        etag = self.first()
        self.assertEqual(self.answer(gone=True).status_code, 404)
        LATER.clear()
        self.assertIsNone(self.hit(etag))

    def test_what_is_answered_for_a_part_removes_nothing(self):
        etag = self.first()
        LATER.update(gone=True)
        self.assertEqual(self.ask("later", Range="bytes=0-1").status_code, 404)
        self.settle()
        LATER.clear()
        self.assertIsNotNone(self.hit(etag))

    def test_what_must_not_be_stored_removes_another_version(self):
        etag = self.first()
        self.answer(cookie=True)  # says nothing about the text
        self.assertIsNotNone(self.hit(etag))
        self.answer(text="another", cookie=True)
        self.assertIsNone(self.hit(etag))
        etag = self.first()
        self.answer(fields={"Cache-Control": "no-store"})
        self.assertIsNone(self.hit(etag))

    def test_what_django_caches_removes_nothing(self):
        etag = self.first()
        self.answer(text="older", cached=True)
        self.assertIsNotNone(self.hit(etag))


class Freshness(Site):
    def test_writes_are_seen_at_once(self):
        _, _, etag = self.stored("plain")
        Note.objects.create(text="second")
        response = self.ask("plain", etag)
        self.assertEqual(response.status_code, 200)
        self.assertIn("second", response.content.decode())

    def test_a_slow_render_brings_nothing_old_back(self):
        global BETWEEN
        BETWEEN = lambda: Note.objects.update(text="newer")  # noqa: E731  by this process: the request wrote
        self.assertFalse(self.stored("slow")[0])

        def elsewhere():
            os.waitpid(os.posix_spawn("/usr/bin/python3", ["python3", "-c", (
                "import sys; sys.path.insert(0, sys.argv[1]); import etagd\n"
                "etagd.Client(sys.argv[2]).invalidate(surrogates=['notes.note'])"), django_site.PACKAGE, self.etagd.socket],
                os.environ), 0)
        BETWEEN = elsewhere
        response = self.ask("slow")
        BETWEEN = lambda: None  # noqa: E731
        self.settle()
        self.ask("slow", response["ETag"])
        self.assertIn("reason=no_entry", self.said)

    def test_what_an_outer_middleware_read_counts(self):
        hit, _, etag = self.stored("outer")
        self.assertTrue(hit, self.said)
        Group.objects.create(name=f"x {time.monotonic()}")
        self.assertEqual(self.ask("outer", etag).status_code, 200)
        hit, _, etag = self.stored("outer")
        Note.objects.filter(pk=1).update(text="other")
        self.assertEqual(self.ask("outer", etag).status_code, 200)

    def test_a_request_whose_begin_was_not_seen(self):
        """By a copy of its environ, or in another context: what was read before our middleware is not known of this request."""
        def ask(copied, context=None):
            environ = RequestFactory().get("/plain/", HTTP_X_SCOPE="seven", HTTP_HOST="testserver").environ
            exchange.request_started(environ=environ)
            request = WSGIRequest(dict(environ) if copied else environ)
            run = contextvars.copy_context().run if context is None else context.run
            response = run(ConditionalGetMiddleware(VIEWS["plain"]), request)
            exchange.request_finished()
            return response["X-Etag-Cache"]
        self.assertTrue(ask(False).startswith("miss; reason=no_entry; fill=none"))
        self.assertEqual(ask(True), "bypass; reason=no_start")
        self.assertEqual(ask(False, contextvars.Context()), "bypass; reason=no_context")
        self.assertEqual(reads.current.get(), None)

    def test_the_token_is_older_than_atomic_requests(self):
        connection.settings_dict["ATOMIC_REQUESTS"] = True
        self.addCleanup(connection.settings_dict.__setitem__, "ATOMIC_REQUESTS", False)
        self.assertTrue(self.stored("plain")[0])

    def test_scopes_hosts_schemes_releases_and_vary_are_apart(self):
        _, _, etag = self.stored("plain")
        for headers in ({"X-Scope": "eight"}, {"Accept": "text/html"}, {"Accept-Language": "de"}):
            self.ask("plain", etag, **headers)
            self.assertIn("reason=no_entry", self.said)
        self.ask("/plain/?page=2", etag)
        self.assertIn("reason=no_entry", self.said)
        said = self.site.get("/plain/", HTTP_X_SCOPE="seven", HTTP_IF_NONE_MATCH=etag, secure=True)["X-Etag-Cache"]
        self.assertIn("reason=no_entry", said)
        for other in (translation.override("de"), timezone.override("Europe/Berlin")):
            with other:
                self.ask("plain", etag)
                self.assertIn("reason=no_entry", self.said)
        self.use(RELEASE="2")
        self.ask("plain", etag)
        self.assertIn("reason=no_entry", self.said)

    def test_who_is_refused_a_page_learns_nothing_of_it_by_a_path_with_dot_segments(self):
        """403 on /secret/x, and 304 on /files/../secret/x: the permissions of one view, the key of another."""
        owned = self.ask("/secret/x", **{"X-User": "owner"})
        self.settle()
        self.assertEqual(self.ask("/secret/x", owned["ETag"], **{"X-User": "owner"}).status_code, 304)
        self.assertEqual(self.ask("/secret/x", owned["ETag"]).status_code, 403)
        for name in ("/files/../secret/x", "/files/%2e%2e/secret/x", "/files/.%2E/secret/x", "/files/..%2fsecret/x",
                     "/files/..%5Csecret/x", "/files/x/../../secret/./x"):
            with self.subTest(name):
                found = self.ask(name, owned["ETag"])
                self.assertEqual((found.status_code, b"file" in found.content), (200, True))
                self.assertIn("reason=bad_key", self.said)
                self.settle()
                # and nothing was filled under the secret's key
                self.assertEqual(self.ask("/secret/x", found["ETag"], **{"X-User": "owner"}).status_code, 200)

    def test_the_scheme_is_a_part_of_its_own_and_a_write_over_http_reaches_https(self):
        """It was hidden in the release, where nobody but Django could name it."""
        secure = self.site.get("/plain/?scheme", HTTP_X_SCOPE="seven", secure=True)
        self.settle()
        self.assertIn("--scheme https", secure["X-Etag-Cache"])
        self.assertNotIn("https", secure["X-Etag-Cache"].partition("--release")[2].partition("--scheme")[0])
        self.ask("/plain/?scheme", secure["ETag"])
        self.assertIn("reason=no_entry", self.said)
        self.assertIn("--scheme http ", self.said)
        self.settle()
        self.assertEqual(self.ask("/plain/?scheme", secure["ETag"]).status_code, 304)

        def over_https():
            return self.site.get("/plain/?scheme", HTTP_X_SCOPE="seven", HTTP_IF_NONE_MATCH=secure["ETag"], secure=True)
        self.assertEqual(over_https().status_code, 304)
        self.assertEqual(self.send("notes", "post", {"text": "new"}).status_code, 201)
        self.assertIn("reason=stale", over_https()["X-Etag-Cache"])
        # By name it is one resource.
        self.settle()
        secure = self.site.get("/plain/?scheme", HTTP_X_SCOPE="seven", secure=True)
        self.settle()
        self.assertEqual(over_https().status_code, 304)
        call_command("etagd_purge", "--path", "//testserver/plain/?scheme", stdout=io.StringIO())
        self.assertIn("reason=stale", over_https()["X-Etag-Cache"])

    def test_the_release_changes_with_the_sources(self):
        self.use(RELEASE=None)
        before = conf.release()
        self.assertRegex(before, "^[0-9a-f]{16}$")
        put_file(os.path.join(DIRECTORY, "new.py"), "x = 1\n")
        self.assertEqual(conf.release(), before, "it is the release of this process, whatever is copied later")
        self.assertNotEqual(deployment.digest(), before)

    def test_the_release_changes_with_static_files_packages_and_settings(self):
        before = deployment.digest()
        self.assertEqual(deployment.digest(), before)
        with override_settings(SITE_NAME="another", STARTED=object()):
            self.assertNotEqual(deployment.digest(), before, "a setting that the environment said")
        with override_settings(STRIPE_SECRET_KEY="another", STARTED=object()), override_settings(STARTED=object()):
            hidden = deployment.digest()
        with override_settings(STRIPE_SECRET_KEY="else", STARTED=object()), override_settings(STARTED=object()):
            self.assertEqual(deployment.digest(), hidden, "not of secrets, nor of what is another object in each process")
        place = tempfile.mkdtemp(dir=DIRECTORY)
        os.mkdir(os.path.join(place, "shop-1.0.dist-info"))
        sys.path.append(place)
        self.addCleanup(sys.path.remove, place)
        before = deployment.digest()
        os.rename(os.path.join(place, "shop-1.0.dist-info"), os.path.join(place, "shop-1.1.dist-info"))
        self.assertNotEqual(deployment.digest(), before)
        hashed = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
        storages = {"STATICFILES_STORAGE": hashed} if django.VERSION < (4, 2) else {
            "STORAGES": {"default": {"BACKEND": "django.core.files.storage.FileSystemStorage"}, "staticfiles": {"BACKEND": hashed}}}
        with override_settings(STATIC_ROOT=place, STATIC_URL="/static/", **storages):
            before = deployment.digest()
            put_file(deployment.manifest_path(), '{"paths": {"shop.css": "shop.0123.css"}, "version": "1.0"}')
            self.assertNotEqual(deployment.digest(), before)

    def test_a_site_without_a_secret_key(self):
        with override_settings(SECRET_KEY="", MIDDLEWARE=["etagd.django.middleware.ConditionalGetMiddleware"]):
            self.site = Client()
            self.assertTrue(self.stored("plain")[0])

    def test_settings_of_djangos_that_change(self):
        """They are kept from one request to the next."""
        self.use(DEBUG_HEADER=None)
        for debug in (True, False):
            with override_settings(DEBUG=debug):
                self.assertEqual(self.site.get("/plain/", HTTP_X_SCOPE="u:1").has_header("X-Etag-Cache"), debug)

    def test_templates_of_any_name_and_folder(self):
        place = tempfile.mkdtemp(dir=DIRECTORY)
        loaders = [("django.template.loaders.cached.Loader", [("django.template.loaders.filesystem.Loader", [place])])]
        with override_settings(TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"loaders": loaders}}]):
            for name in (os.path.join(place, "media", "feed.rss"), os.path.join(DIRECTORY, "templates", "static", "page.htm"),
                         os.path.join(DIRECTORY, "jinja2", ".parts", "worker.js")):
                before = deployment.digest()
                os.makedirs(os.path.dirname(name), exist_ok=True)
                with open(name, "w", encoding="utf-8") as file:
                    file.write("x")
                self.assertNotEqual(deployment.digest(), before, name)

    def test_time_to_live(self):
        _, _, etag = self.stored("short")
        wait_until(lambda: self.ask("short", etag) and "reason=expired" in self.said or None, 5, "it expires")

    def test_names_of_the_application(self):
        for name in ("named", "only-named"):
            _, _, etag = self.stored(name)
            writes.invalidate("tariff")
            self.ask(name, etag)
            self.assertIn("reason=stale", self.said)

    def test_depends_on(self):
        hit, _, etag = self.stored("dependent")
        self.assertTrue(hit, self.said)
        writes.invalidate("weather")
        self.ask("dependent", etag)
        self.assertIn("reason=stale", self.said)
        _, _, etag = self.stored("dependent")
        Group.objects.update_or_create(pk=7, defaults={"name": f"seven {time.monotonic()}"})
        self.ask("dependent", etag)
        self.assertIn("reason=stale", self.said)

    def test_asgi(self):
        """Each request in a context of its own, the views on a thread beside the loop."""
        async def together():
            site = AsyncClient()
            first = await site.get("/plain/", **{"X-Scope": "seven"})
            await sync_to_async(self.settle)()
            asked = [site.get("/plain/", **{"X-Scope": "seven", "If-None-Match": first["ETag"]}) for _ in range(5)]
            with mock.patch.object(loop, "on_thread", wraps=loop.on_thread) as threads:
                replies = await asyncio.gather(*asked)
            return [reply["X-Etag-Cache"].split(";")[0] for reply in replies], threads.call_count
        self.assertEqual(async_to_sync(together)(), (["hit"] * 5, 0), "a hit costs no thread of ours")
        self.assertEqual(CALLS, ["/plain/"])

    def test_purge(self):
        for args in (["--all"], ["--model", "notes.Note"], ["--surrogate", "tariff"], ["--path", "//testserver/named/"],
                     ["--row", "notes.Note:1"]):
            with self.subTest(args):
                hit, _, etag = self.stored("named")
                self.assertTrue(hit)
                call_command("etagd_purge", *args, stdout=io.StringIO())
                self.ask("named", etag)
                self.assertIn("reason=stale", self.said)
        with self.assertRaises(CommandError):
            call_command("etagd_purge")

    def test_status(self):
        call_command("etagd_status", stdout=io.StringIO())
        self.use(SOCKET=os.path.join(self.directory, "nobody.sock"))
        with self.assertRaises(CommandError):
            call_command("etagd_status", stdout=io.StringIO())


class Semantics(Site):
    def test_as_djangos_own(self):
        """Each response through both middlewares: same status, same fields, but the tag of the body is another hash."""
        factory = RequestFactory()
        responses = {
            "empty": lambda: HttpResponse(), "body": lambda: HttpResponse("x"), "404": lambda: HttpResponse("x", status=404),
            "stream": lambda: StreamingHttpResponse(["x"]), "no-store": lambda: HttpResponse("x", headers={"Cache-Control": "No-Store"}),
            "etag": lambda: HttpResponse("x", headers={"ETag": '"a"', "Vary": "Accept", "X-Other": "1"}),
            "weak": lambda: HttpResponse("x", headers={"ETag": 'W/"a"', "Expires": "0"}),
            "date": lambda: HttpResponse("x", headers={"Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT"}),
            "both": lambda: HttpResponse("x", headers={"ETag": '"a"', "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT"}),
            "created": lambda: HttpResponse("x", status=201, headers={"ETag": '"a"'}), "redirect": lambda: HttpResponse(status=302),
            "cookie": lambda: _with_cookie(),
        }
        conditions = [{}, {"HTTP_IF_NONE_MATCH": '"a"'}, {"HTTP_IF_NONE_MATCH": 'W/"a"'}, {"HTTP_IF_NONE_MATCH": '"b", "a"'},
                      {"HTTP_IF_NONE_MATCH": "*"}, {"HTTP_IF_NONE_MATCH": '"b"'}, {"HTTP_IF_MATCH": '"a"'}, {"HTTP_IF_MATCH": '"b"'},
                      {"HTTP_IF_MATCH": "*"}, {"HTTP_IF_MODIFIED_SINCE": "Sun, 06 Nov 1994 08:49:37 GMT"},
                      {"HTTP_IF_MODIFIED_SINCE": "Sun, 06 Nov 1994 08:49:36 GMT"},
                      {"HTTP_IF_UNMODIFIED_SINCE": "Sun, 06 Nov 1994 08:49:36 GMT"},
                      {"HTTP_IF_NONE_MATCH": '"b"', "HTTP_IF_MODIFIED_SINCE": "Sun, 06 Nov 1994 08:49:37 GMT"}]
        compared = 0
        self.use(DEBUG_HEADER=False)
        for name, make in responses.items():
            for asked in conditions:
                for method in ("GET", "HEAD", "POST"):
                    with self.subTest(name, asked=asked, method=method):
                        request = factory.generic(method, "/x", **asked)
                        theirs = Djangos(lambda _: make())(request)
                        ours = ConditionalGetMiddleware(lambda _: make())(request)
                        compared += 1
                        if "HTTP_IF_UNMODIFIED_SINCE" in asked and theirs.status_code == 412 and name not in ("date", "both"):
                            # Nothing is known of a date, so the condition is ignored (RFC 9110 section 13.1.4).
                            self.assertNotEqual(ours.status_code, 412)
                            continue
                        self.assertEqual(ours.status_code, theirs.status_code)
                        self.assertEqual({name: value for name, value in ours.items() if name != "ETag"},
                                         {name: value for name, value in theirs.items() if name not in ("ETag",)})
                        if ours.status_code != 412:
                            self.assertEqual(ours.has_header("ETag"), theirs.has_header("ETag"))
                        self.assertEqual(str(ours.cookies), str(theirs.cookies))
        self.assertEqual(compared, len(responses) * len(conditions) * 3)

    def test_better_than_djangos_own(self):
        request = RequestFactory().get("/x", HTTP_IF_NONE_MATCH='"a,b", "c"')
        response = ConditionalGetMiddleware(lambda _: HttpResponse("x", headers={"ETag": '"a,b"'}))(request)
        self.assertEqual(response.status_code, 304)

    def test_other_than_djangos_own(self):
        """Nothing is known of a date, or of anything: RFC 9110 sections 13.1.4 and 13.2.1."""
        old = "Sat, 20 Oct 2007 23:21:47 GMT"
        for name, etag, field in (("etag", lambda request: "x", {"If-Unmodified-Since": old}), ("none", None, {"If-Match": "*"})):
            for condition, wanted in ((http.condition, 412), (decorators.condition, 200)):
                with self.subTest(name, wanted=wanted):
                    request = RequestFactory().get("/x", **{"HTTP_" + key.upper().replace("-", "_"): text for key, text in field.items()})
                    self.assertEqual(condition(etag)(page)(request).status_code, wanted)

    def test_hits_repeat_what_was_filled(self):
        _, _, etag = self.stored("own-etag")
        self.assertEqual(etag, '"mine"')
        response = self.ask("own-etag", etag)
        self.assertEqual(response["Last-Modified"], "Sun, 06 Nov 1994 08:49:37 GMT")
        self.assertEqual(response["Cache-Control"], "max-age=60, must-revalidate")
        self.assertEqual(len(CALLS), 1)
        self.assertEqual(self.ask("own-etag", None, **{"If-Match": '"other"'}).status_code, 412)
        self.assertEqual(len(CALLS), 1)

    def test_a_date_alone_confirms_nothing_unless_the_setting_says_that_it_is_strong(self):
        dated = {"If-Modified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"}
        self.stored("own-etag")
        self.assertEqual(self.ask("own-etag", None, **dated).status_code, 200)
        self.assertIn("date_weak", self.said)
        self.use(LAST_MODIFIED_IS_STRONG=True)
        self.etagd.ctl("invalidate", "--all")
        self.stored("own-etag")
        CALLS.clear()
        self.assertEqual(self.ask("own-etag", None, **dated).status_code, 304)
        self.assertEqual((self.said.split(";")[0], CALLS), ("hit", []))

    def test_policy(self):
        self.assertEqual(self.ask("policy")["Cache-Control"], "private, max-age=5")
        self.assertNotIn("Cache-Control", self.ask("policy", method="post"))
        self.assertEqual(self.ask("plain", method="post")["Cache-Control"], "no-cache, no-store, must-revalidate")
        self.assertNotIn("Cache-Control", self.ask("uncached"))
        self.use(CACHE_CONTROL="max-age=1", CACHE_CONTROL_UNSAFE="no-store")
        self.assertEqual(self.ask("plain")["Cache-Control"], "max-age=1")
        self.assertEqual(self.ask("plain", method="delete")["Cache-Control"], "no-store")

    def test_428(self):
        self.assertEqual(self.ask("strict", method="post").status_code, 428)
        self.assertEqual(self.ask("strict", method="post", **{"If-Match": "*"}).status_code, 200)
        self.use(SOCKET=os.path.join(self.directory, "nobody.sock"))
        self.assertEqual(self.ask("strict", method="post").status_code, 428)

    def test_condition(self):
        for name in ("condition", "condition-cached", "etag", "last-modified"):
            CALLS.clear()
            response = self.ask(name)
            self.assertEqual(response.status_code, 200)
            if name != "last-modified":
                self.assertEqual(response["ETag"], '"v-first"')
                self.assertEqual(self.ask(name, '"v-first"').status_code, 304)
                self.assertEqual(self.ask(name, '"x"').status_code, 200)
                self.assertEqual(self.ask(name, method="put", **{"If-Match": '"x"'}).status_code, 412)
            if name != "etag":
                # Without a scope it is Django's own decorator, judged by libetag.
                self.assertEqual(self.ask(name, **{"If-Modified-Since": response["Last-Modified"]}).status_code,
                                 200 if name == "condition-cached" else 304)
            self.assertLessEqual(CALLS.count(f"/{name}/"), 3 if name == "condition-cached" else 2)
        self.settle()
        CALLS.clear()
        self.assertEqual(self.ask("condition-cached", '"v-first"').status_code, 304)
        self.assertEqual(CALLS, [], "neither function is called on a hit")
        Note.objects.update(text="second")
        self.assertEqual(self.ask("condition-cached", '"v-first"')["ETag"], '"v-second"')
        Note.objects.all().delete()
        self.assertEqual(self.ask("etag", method="put", **{"If-Match": "*"}).status_code, 412)

    def test_a_scope_is_asked_for(self):
        for wrong in (None, "text", 7):
            with self.assertRaises(Exception):
                etag_cached(scope=wrong)
        with self.assertRaises(TypeError):
            etag_cached()  # pylint: disable=missing-kwoa
        with override_settings(ROOT_URLCONF=tuple(FORGETFUL)):
            self.assertEqual([found.id for found in checks.check_views(None)], ["etagd.E001"])
            with self.assertRaises(Exception):
                self.site.get("/forgetful/")

    def test_system_checks(self):
        self.assertEqual(checks.check_views(None), [])
        self.assertEqual(checks.check_settings(None), [])
        with override_settings(MIDDLEWARE=[]):
            self.assertEqual([found.id for found in checks.check_views(None)], ["etagd.E005"])

        class Last(viewsets.ModelViewSet, ETagMixin):
            etag_scope = etagd.PUBLIC
            permission_classes = [Gate]

        with override_settings(ROOT_URLCONF=(path("x/", Last.as_view({"get": "list"})),)):
            self.assertEqual([found.id for found in checks.check_views(None)], ["etagd.E004", "etagd.W001"])
        with override_settings(ETAGD={"NOPE": 1, "WITHOUT_DAEMON": "x"}):
            self.assertEqual([found.id for found in checks.check_settings(None)], ["etagd.E002", "etagd.E003", "etagd.W006"])
        with override_settings(MIDDLEWARE=[*MIDDLEWARE, "django.middleware.gzip.GZipMiddleware",
                                           "django.middleware.http.ConditionalGetMiddleware"]):
            self.assertEqual([found.id for found in checks.check_settings(None)], ["etagd.W002", "etagd.W003"])


def _with_cookie():
    response = HttpResponse("x", headers={"ETag": '"a"'})
    response.set_cookie("a", "b")
    return response


class Mixin(Site):
    def test_checks_come_before_the_cache(self):
        for name in ("notes", "notes/1", "late"):
            hit, _, etag = self.stored(name)
            self.assertTrue(hit, self.said)
            self.assertEqual(self.ask(name, etag, **{"X-Gate": "closed"}).status_code, 403)
            self.assertEqual(self.ask(name, etag, **{"X-Throttle": "now"}).status_code, 429)
        self.assertEqual(self.ask("late", etag, **{"X-Late": "no"}).status_code, 403)

    def test_object_permissions_are_not_skipped(self):
        self.assertFalse(self.stored("object/1")[0])
        self.assertIn("object_permissions", self.said)
        _, _, etag = self.stored("object/1")
        self.assertEqual(self.ask("object/1", etag).status_code, 304)
        self.assertEqual(self.ask("object/1", etag, **{"X-Gate": "closed"}).status_code, 403)
        self.assertTrue(self.stored("object")[0], "a list has no object")
        self.assertTrue(self.stored("trusting/1")[0])

    def test_a_hit_runs_nothing(self):
        _, _, etag = self.stored("notes/1")
        with self.assertNoQueries():
            self.assertEqual(self.ask("notes/1", etag).status_code, 304)

    def assertNoQueries(self):
        from django.test.utils import CaptureQueriesContext

        test = self

        class Context(CaptureQueriesContext):
            def __exit__(self, *args):
                super().__exit__(*args)
                test.assertEqual(self.captured_queries, [])
        return Context(connection)

    def test_writes(self):
        _, _, etag = self.stored("notes/1")
        self.assertEqual(self.send("notes/1", "put", {"text": "a"}, **{"If-Match": '"x"'}).status_code, 412)
        written = self.send("notes/1", "put", {"text": "a"}, **{"If-Match": etag})
        self.assertEqual((written.status_code, written["Content-Location"]), (200, "/notes/1/"))
        self.assertEqual(self.ask("notes/1")["ETag"], written["ETag"])
        self.assertEqual(self.send("notes/1", "patch", {"text": "b"}, **{"If-Match": etag}).status_code, 412)
        self.assertEqual(self.send("notes/1", "patch", {"text": ""}, **{"If-Match": written["ETag"]}).status_code, 400)
        self.assertEqual(self.send("notes/77", "put", {"text": "a"}, **{"If-Match": "*"}).status_code, 404)
        self.assertEqual(Note.objects.get(pk=1).text, "a")
        self.assertEqual(self.send("notes", "post", {"text": "c"}).status_code, 201)
        for response in (written, self.send("notes/77", "put", {}), self.send("notes", "post", {})):
            self.assertEqual(response["Cache-Control"], "no-cache, no-store, must-revalidate")
        self.assertEqual(self.ask("notes/1", method="delete", **{"If-Match": written["ETag"]}).status_code, 204)


class WithoutDaemon(Site):
    def test_the_site_works_and_recovers(self):
        own = self.daemon("own", linger_ms=1000)
        self.use(SOCKET=own.socket, WITHOUT_DAEMON="commit", TIMEOUT_MS=2000)
        with self.assertLogs("etagd.django", "WARNING") as logged:
            for _ in range(3):
                etag = self.ask("plain")["ETag"]
                self.assertEqual(self.ask("plain", etag).status_code, 304)
        self.assertEqual(len(logged.output), 1, logged.output)
        Note.objects.create(text="untold")
        own.start()
        wait_until(lambda: self.stored("plain")[0], 10, "it is answered from the cache")
        self.etagd_ends_and_comes_back(own)

    def etagd_ends_and_comes_back(self, own):
        hit, _, etag = self.stored("plain")
        self.assertTrue(hit)
        own.kill()
        Note.objects.create(text="meanwhile")  # by the spool
        response = self.ask("plain", etag)
        self.assertEqual(response.status_code, 200)
        self.assertIn("meanwhile", response.content.decode())
        own.fresh = False
        own.start()
        wait_until(lambda: self.stored("plain")[0], 10, "it is answered from the cache again")
        self.ask("plain", etag)
        self.assertFalse(self.said.startswith("hit"))


if __name__ == "__main__":
    harness.main()
