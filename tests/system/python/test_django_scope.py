# SPDX-License-Identifier: Apache-2.0
"""Whose the page is, in Django: the scope is made of request.user, and is asked for after whoever says who that is. Who only claims to be
somebody (a wrong password, a forged session, a user name in a header field) gets what he would get without etagd, and never a 304."""
import base64
import logging

import django_site
import harness

django_site.require("django", "rest_framework")
import etagd  # noqa: E402

django_site.configure(
    "members", ROOT_URLCONF=__name__, DEBUG_PROPAGATE_EXCEPTIONS=True,
    MIDDLEWARE=["etagd.django.middleware.ConditionalGetMiddleware", "django.contrib.sessions.middleware.SessionMiddleware",
                "django.contrib.auth.middleware.AuthenticationMiddleware"],
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "rest_framework", "etagd.django"])

from django.contrib.auth.decorators import login_required  # noqa: E402
from django.contrib.auth.mixins import LoginRequiredMixin  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.exceptions import ImproperlyConfigured  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import override_settings  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils.decorators import method_decorator  # noqa: E402
from django.views.generic.base import View  # noqa: E402
from etagd.django import checks, conf  # noqa: E402
from etagd.django.decorators import etag_cached  # noqa: E402
from etagd.django.rest import ETagMixin  # noqa: E402
from rest_framework.authentication import BasicAuthentication  # noqa: E402
from rest_framework.permissions import IsAuthenticated  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

logging.getLogger("django.request").setLevel(logging.CRITICAL)


def whose(request, *args, **kwargs):
    return f"user:{request.user.pk}"


def page(request):
    return HttpResponse(f"of {request.user.username}")


class Api(ETagMixin, APIView):
    authentication_classes = [BasicAuthentication]
    permission_classes = [IsAuthenticated]

    def etag_scope(self, request):
        return whose(request)

    def get(self, request):
        return Response({"of": request.user.username})


@method_decorator(etag_cached(scope=etagd.PUBLIC), name="dispatch")
class Open(View):
    def get(self, request):
        return page(request)


@method_decorator(etag_cached(scope=lambda request: "members"), name="dispatch")
class AskedTooLate(LoginRequiredMixin, View):
    def get(self, request):
        return page(request)


@method_decorator(etag_cached(scope=whose, vary=["Cookie"]), name="get")
class AskedFirst(LoginRequiredMixin, View):
    def get(self, request):
        return page(request)


class AskedAbove(LoginRequiredMixin, Open):
    pass


# The session's cookie chooses the page, as the scope does: so it may be in the key.
by_session = {"vary": ["Cookie"]}
urlpatterns = [path("inside/", login_required(etag_cached(scope=whose, **by_session)(page))),
               path("outside/", etag_cached(scope=whose, **by_session)(login_required(page))),
               path("everybody/", etag_cached(scope=etagd.PUBLIC)(login_required(page))),
               path("api/", Api.as_view()), path("first/", AskedFirst.as_view())]


def basic(user, password):
    return {"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


class Scope(django_site.SiteCase):
    DAEMON = {}

    def setUp(self):
        super().setUp()
        self.etagd = self.started(linger_ms=3000)
        self.use()
        call_command("migrate", verbosity=0)
        User.objects.all().delete()
        self.me = User.objects.create_user("me", password="secret")
        self.you = User.objects.create_user("you", password="other")

    def ask(self, site, name, etag=None, **fields):
        if etag:
            fields["HTTP_IF_NONE_MATCH"] = etag
        response = site.get(f"/{name}/", **fields)
        self.said = response.get("X-Etag-Cache", "")
        return response

    def stored(self, site, name, **fields):
        """The ETag of a page that is answered from memory to this client."""
        etag = self.ask(site, name, **fields)["ETag"]
        self.etagd.ctl("sync")
        self.assertEqual(self.ask(site, name, etag, **fields).status_code, 304)
        self.assertTrue(self.said.startswith("hit"), self.said)
        return etag

    def test_a_wrong_password_is_401(self):
        etag = self.stored(Client(), "api", **basic("me", "secret"))
        for fields in ({}, basic("me", "wrong"), basic("me", ""), basic("nobody", "secret"), {"HTTP_AUTHORIZATION": "Bearer x"},
                       {"HTTP_REMOTE_USER": "me"}, {"HTTP_X_REMOTE_USER": "me"}):
            with self.subTest(fields):
                self.assertEqual(self.ask(Client(), "api", etag, **fields).status_code, 401)
        self.assertEqual(self.ask(Client(), "api", etag, **basic("you", "other")).status_code, 200)

    def test_a_session_that_is_forged_or_over_gets_the_login(self):
        for name in ("inside", "outside", "first"):
            with self.subTest(name):
                site = Client()
                site.force_login(self.me)
                cookie = {"HTTP_COOKIE": f"sessionid={site.cookies['sessionid'].value}"}
                etag = self.stored(Client(), name, **cookie)
                for fields in ({}, {"HTTP_COOKIE": "sessionid=forged"}, basic("me", "secret"), {"HTTP_REMOTE_USER": "me"}):
                    self.assertEqual(self.ask(Client(), name, etag, **fields).status_code, 302)
                site.logout()
                self.assertEqual(self.ask(Client(), name, etag, **cookie).status_code, 302)

    def test_a_class_that_decides_in_dispatch_is_not_cached_before_it(self):
        """LoginRequiredMixin was not asked on a hit: 304 for whoever knew the tag."""
        with self.assertRaisesRegex(ImproperlyConfigured, 'LoginRequiredMixin.*name="get"'):
            etag_cached(scope=whose)(type("Asks", (LoginRequiredMixin, View), {}))
        with self.assertRaisesRegex(ImproperlyConfigured, "Own"):
            etag_cached(scope=whose)(type("Own", (View,), {"dispatch": login_required(View.dispatch)}))
        self.assertTrue(hasattr(etag_cached(scope=whose)(type("Plain", (View,), {})).dispatch, "etagd_scope"))
        self.assertTrue(etag_cached(scope=whose)(type("Again", (Open,), {})))  # its base's is no other's
        routes = [path("too-late/", AskedTooLate.as_view()), path("first/", AskedFirst.as_view()), path("open/", Open.as_view()),
                  path("above/", AskedAbove.as_view())]
        with override_settings(ROOT_URLCONF=tuple(routes)):
            found = checks.check_views(None)
        self.assertEqual([(error.id, error.obj) for error in found], [("etagd.E006", AskedTooLate)])

    def test_a_page_behind_a_login_is_not_everybodys_by_mistake(self):
        """A public scope around login_required: that the page was made with the session is seen, and it is not stored."""
        site = Client()
        site.force_login(self.me)
        etag = self.ask(site, "everybody")["ETag"]
        self.etagd.ctl("sync")
        self.assertEqual(self.ask(Client(), "everybody", etag).status_code, 302)
        pages = [entry for entry in self.etagd.ctl("list")["entries"] if not entry["key"].startswith("/.etagd/")]
        self.assertEqual(pages, [])

    def test_a_user_named_public_is_not_everybody(self):
        """A scope of that name is a name; the public one is no text."""
        public = etagd.Key(etagd.Resource(None, "/x"), etagd.PUBLIC)
        conf.client().fill_wait(conf.client().token(), public, etagd.Response(etag='"x"'))
        named = etagd.Key(etagd.Resource(None, "/x"), "public")
        asked = etagd.Request("GET", named, [("If-None-Match", '"x"')])
        self.assertEqual(conf.client().check(asked).reason, "no_entry")
        self.assertEqual(conf.client().check(etagd.Request("GET", public, [("If-None-Match", '"x"')])).http_status, 304)


if __name__ == "__main__":
    harness.main()
