# SPDX-License-Identifier: Apache-2.0
"""A write through ETagMixin does what it does without it: each view is asked twice, as it is and with the mixin. With --postgres on
PostgreSQL, else SQLite."""
import json
import logging

import django_site
import harness
import postgres

django_site.require("django", "rest_framework")
import etagd  # noqa: E402

POSTGRES = postgres.asked_for()
django_site.configure(
    "acts", postgres=POSTGRES, ROOT_URLCONF=__name__, MIDDLEWARE=["etagd.django.middleware.ConditionalGetMiddleware"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "acts", "etagd.django"],
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "DEFAULT_PERMISSION_CLASSES": [], "UNAUTHENTICATED_USER": None,
                    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]})

from django.db import DatabaseError, connection, models, transaction  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import path  # noqa: E402
from etagd.django.rest import ETagMixin  # noqa: E402
from rest_framework import serializers, viewsets  # noqa: E402
from rest_framework.exceptions import ValidationError  # noqa: E402
from rest_framework.response import Response  # noqa: E402

logging.getLogger("django.request").setLevel(logging.CRITICAL)
Model = django_site.base_of("acts")


class Note(Model):
    text = models.CharField(max_length=50)


class Act(Model):
    name = models.CharField(max_length=50, unique=True)


READS, COMMITTED = [], []


def act(name="did"):
    Act.objects.create(name=name)


def fails(work):
    try:
        work()
    except (DatabaseError, ZeroDivisionError):
        act("caught")


def nested_durable():
    with transaction.atomic():
        act("outside")
        with transaction.atomic(durable=True):
            act("inside")


def durable():
    act()
    with transaction.atomic(durable=True):
        act("durable")


def fails_in_a_block():
    with transaction.atomic(savepoint=False):
        act("undone")
        raise ZeroDivisionError


def raw_failure():
    with connection.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")


# What a handler does besides its answer.
DEEDS = {
    "nothing": lambda: None, "act": act, "durable": durable, "nested-durable": nested_durable,
    "on-commit": lambda: (act(), transaction.on_commit(lambda: COMMITTED.append(1))),
    "caught": lambda: (act(), fails(act)), "caught-block": lambda: (act(), fails(fails_in_a_block)),
    "422": act, "409": act, "invalid": act, "error": act}


class Plain(viewsets.ModelViewSet):
    queryset = Note.objects.order_by("id")
    serializer_class = type("NoteSerializer", (serializers.ModelSerializer,), {
        "Meta": type("Meta", (), {"model": Note, "fields": ["id", "text"]})})

    def retrieve(self, request, *args, **kwargs):
        READS.append(request.method)
        with transaction.atomic(durable=True):
            Act.objects.get_or_create(name="read")
        return super().retrieve(request, *args, **kwargs)

    def partial_update(self, request, *args, **kwargs):
        deed = request.data["deed"]
        Note.objects.filter(pk=self.get_object().pk).update(text=deed)
        if deed == "raw":
            fails(raw_failure)
        elif deed == "quiet":
            try:
                raw_failure()
            except DatabaseError:
                return Response({"done": True})
        else:
            DEEDS[deed]()
        if deed == "invalid":
            raise ValidationError("no")
        if deed == "error":
            raise ZeroDivisionError
        if deed in ("422", "409"):
            return Response({"not": "done"}, status=int(deed))
        return super().retrieve(request, *args, **kwargs)

    def update(self, request, *args, **kwargs):
        """Creates what is not there."""
        Note.objects.update_or_create(pk=kwargs["pk"], defaults={"text": request.data["text"]})
        return Response({}, status=201)


class Mixed(ETagMixin, Plain):
    etag_scope = etagd.PUBLIC


METHODS = {"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"}
urlpatterns = [path(f"{name}/<int:pk>/", view.as_view(METHODS)) for name, view in (("plain", Plain), ("mixed", Mixed))]


class Handlers(django_site.SiteCase):
    def setUp(self):
        super().setUp()
        self.use()
        self.tables(Note, Act)
        self.site = Client(raise_request_exception=False)
        self.fresh()

    @staticmethod
    def fresh():
        Note.objects.all().delete()
        Act.objects.all().delete()
        Note.objects.create(pk=1, text="first")
        READS.clear()
        COMMITTED.clear()

    def etag(self):
        found = self.site.get("/mixed/1/")["ETag"]
        Act.objects.all().delete()
        READS.clear()
        return found

    def patch(self, name, deed, **headers):
        """What came of it: the status, the rows, the hooks."""
        response = self.site.patch(f"/{name}/1/", json.dumps({"deed": deed}), content_type="application/json", **headers)
        self.response = response
        return (response.status_code, Note.objects.get(pk=1).text, sorted(Act.objects.values_list("name", flat=True)),
                len(COMMITTED), connection.in_atomic_block)

    def test_without_conditions_the_handler_runs_as_without_us(self):
        for deed in [*DEEDS, "raw", "quiet"]:
            with self.subTest(deed):
                self.fresh()
                wanted = self.patch("plain", deed)
                self.fresh()
                self.assertEqual(self.patch("mixed", deed), wanted)
                self.assertEqual(READS, [], "GET's handler has no part in it")
                self.assertFalse(self.response.has_header("ETag"))

    def test_with_if_match_it_writes_what_it_writes_without_us(self):
        for deed in DEEDS:
            with self.subTest(deed):
                self.fresh()
                wanted = self.patch("plain", deed)
                self.fresh()
                self.assertEqual(self.patch("mixed", deed, HTTP_IF_MATCH=self.etag()), wanted)
                self.assertIn("GET", READS)
                if deed == "act":
                    self.assertEqual(self.response["ETag"], self.site.get("/mixed/1/")["ETag"])

    def test_a_412_leaves_nothing(self):
        self.assertEqual(self.patch("mixed", "act", HTTP_IF_MATCH='"x"'), (412, "first", [], 0, False))
        self.assertEqual(READS, ["GET"])

    def test_if_match_is_judged_by_the_method_that_came(self):
        for method in ("patch", "Patch"):
            response = self.site.generic(method, "/mixed/1/", json.dumps({"deed": "act"}), content_type="application/json",
                                         HTTP_IF_MATCH='"x"')
            self.assertEqual(response.status_code, 412)
        response = self.site.generic("get", "/mixed/1/", HTTP_IF_NONE_MATCH="*")
        self.assertNotEqual(response.status_code, 304)

    def test_a_write_that_wants_nothing_there(self):
        """If-None-Match: * asks for existence only, and what is absent may be made."""
        def put(pk):
            return self.site.put(f"/mixed/{pk}/", json.dumps({"text": "made"}), content_type="application/json", HTTP_IF_NONE_MATCH="*")
        self.assertEqual(put(1).status_code, 412)
        self.assertEqual(Note.objects.get(pk=1).text, "first")
        self.assertEqual(put(7).status_code, 201)
        self.assertEqual(Note.objects.get(pk=7).text, "made")
        self.assertEqual(put(7).status_code, 412)
        self.assertEqual(READS, [])

    def test_other_conditions_are_judged_too(self):
        etag = self.etag()
        self.assertEqual(self.patch("mixed", "act", HTTP_IF_NONE_MATCH=etag)[:3], (412, "first", []))
        self.assertEqual(self.patch("mixed", "act", HTTP_IF_NONE_MATCH='"x"')[:3], (200, "act", ["did"]))
        self.assertFalse(self.response.has_header("ETag"))

    def test_a_statement_that_failed_outside_of_a_block(self):
        """The one difference, and as under ATOMIC_REQUESTS: a broken transaction is not committed, nor said to be."""
        done = self.patch("mixed", "raw", HTTP_IF_MATCH=self.etag())
        self.assertEqual(done[:3], (500, "first", []) if POSTGRES else (200, "raw", ["caught"]))
        done = self.patch("mixed", "quiet", HTTP_IF_MATCH=self.etag())
        self.assertEqual(done[:2], (500, "first") if POSTGRES else (200, "quiet"))

    def test_a_get_that_fails_after_the_write(self):
        etag = self.etag()
        original = Plain.retrieve

        def late(view, request, *args, **kwargs):
            if Note.objects.get(pk=1).text == "act":
                raise ZeroDivisionError
            return original(view, request, *args, **kwargs)
        Plain.retrieve = late
        self.addCleanup(setattr, Plain, "retrieve", original)
        Plain.partial_update, before = (lambda view, request, *args, **kwargs: (
            Note.objects.filter(pk=1).update(text="act"), Response({"done": True}))[1]), Plain.partial_update
        self.addCleanup(setattr, Plain, "partial_update", before)
        with self.assertLogs("etagd.django", "ERROR"):
            done = self.patch("mixed", "act", HTTP_IF_MATCH=etag)
        self.assertEqual(done[:2], (200, "act"))

    def test_in_the_sites_own_transaction(self):
        connection.settings_dict["ATOMIC_REQUESTS"] = True
        self.addCleanup(connection.settings_dict.__setitem__, "ATOMIC_REQUESTS", False)
        for deed in ("act", "422", "invalid", "error"):
            with self.subTest(deed):
                self.fresh()
                wanted = self.patch("plain", deed)
                self.fresh()
                self.assertEqual(self.patch("mixed", deed, HTTP_IF_MATCH="*"), wanted)
                self.assertEqual(self.patch("mixed", deed, HTTP_IF_MATCH='"x"')[0], 412)


if __name__ == "__main__":
    harness.main()
