# SPDX-License-Identifier: Apache-2.0
"""A Django site of one host, in a process of its own: test_django_hosts.py tells it a line at a time, as JSON, what to run, and hears what
came of it. SITE: databases, ETAGD, as JSON."""
import contextlib
import io
import json
import os
import sys
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../python"), HERE]
import django_site  # noqa: E402

django_site.require("django")
SITE = json.loads(os.environ["SITE"])
django_site.configure(
    "shop", DATABASES=SITE["databases"], ETAGD={"RELEASE": "1", "DEBUG_HEADER": True, **SITE["etagd"]}, ROOT_URLCONF=__name__,
    MIDDLEWARE=["etagd.django.middleware.ConditionalGetMiddleware"], INSTALLED_APPS=["shop", "django.contrib.contenttypes", "etagd.django"], DEBUG=True)

from django.apps import apps  # noqa: E402
from django.core import checks  # noqa: E402
from django.core.exceptions import ObjectDoesNotExist  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.management.base import CommandError  # noqa: E402
from django.db import connection, connections, models, transaction  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import path  # noqa: E402
import etagd  # noqa: E402
from etagd.django import surrogates  # noqa: E402
from etagd.django.decorators import etag_cached  # noqa: E402
from etagd.django.writes import invalidate, reach  # noqa: E402


class Upload(django_site.base_of("shop")):
    status = models.CharField(max_length=20)


class Tag(django_site.base_of("shop")):
    name = models.CharField(max_length=20)


class Album(django_site.base_of("shop")):
    title = models.CharField(max_length=20)
    customer = models.IntegerField(null=True)
    tags = models.ManyToManyField(Tag)


class Record(Album):
    label = models.CharField(max_length=20)

    class Meta:
        app_label = "shop"


class Ticket(django_site.base_of("shop")):
    id = models.UUIDField(primary_key=True)
    title = models.CharField(max_length=20)


class Word(django_site.base_of("shop")):
    text = models.CharField(primary_key=True, max_length=20)
    title = models.CharField(max_length=20)


class Legacy(django_site.base_of("shop")):
    title = models.CharField(max_length=20)

    class Meta:
        app_label, managed, db_table = "shop", False, "shop_legacy"


class Measure(django_site.base_of("shop")):
    title = models.CharField(max_length=20)


class FirstMeasure(django_site.base_of("shop")):
    title = models.CharField(max_length=20)

    class Meta:
        app_label, db_table = "shop", "shop_measure_1"


WATCHED = (Tag, Album, Record, Ticket, Word)
surrogates.register(Album, scope="customer")


class Note(django_site.base_of("shop")):
    text = models.CharField(max_length=20)


@etag_cached(scope=etagd.PUBLIC)
def uploads(request, pk):
    return JsonResponse({"status": Upload.objects.get(pk=pk).status})


@etag_cached(scope=etagd.PUBLIC)
def notes(request):
    return JsonResponse({"notes": list(Note.objects.using("other").values_list("text", flat=True))})


@etag_cached(scope=etagd.PUBLIC, surrogates=["tariff"])
def tariff(request):
    Upload.objects.count()
    return JsonResponse({"tariff": 1})


@etag_cached(scope=etagd.PUBLIC)
def row(request, model, pk):
    try:
        return JsonResponse({"title": apps.get_model("shop", model).objects.get(pk=pk).title})
    except ObjectDoesNotExist:
        return JsonResponse({"title": None})


@etag_cached(scope=etagd.PUBLIC)
def titles(request, model):
    return JsonResponse({"titles": list(apps.get_model("shop", model).objects.order_by("pk").values_list("title", flat=True))})


@etag_cached(scope=etagd.PUBLIC)
def customers(request, customer):
    return JsonResponse({"titles": list(Album.objects.filter(customer=customer).order_by("pk").values_list("title", flat=True))})


@etag_cached(scope=etagd.PUBLIC)
def tags(request, pk):
    return JsonResponse({"tags": list(Album.objects.get(pk=pk).tags.order_by("pk").values_list("name", flat=True))})


urlpatterns = [path("row/<model>/<pk>/", row), path("all/<model>/", titles), path("of/<int:customer>/", customers), path("tags/<int:pk>/", tags),
               path("uploads/<int:pk>/", uploads), path("notes/", notes), path("tariff/", tariff)]


def ask(url, etag=None):
    """Status, ETag, and what the cache said."""
    answer = Client().get(url, **({"HTTP_IF_NONE_MATCH": etag} if etag else {}))
    return answer.status_code, answer.get("ETag"), answer.get("X-Etag-Cache", "").split("; key=")[0]


def make():
    """The tables, by the first site of a test."""
    for alias, model in (("default", Upload), ("other", Note)):
        if alias in connections.settings and model._meta.db_table not in connections[alias].introspection.table_names():
            with connections[alias].schema_editor() as editor:
                editor.create_model(model)


def make_watched():
    with connection.schema_editor() as editor:
        for model in WATCHED:
            editor.create_model(model)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE shop_legacy (id serial PRIMARY KEY, title text)")
        cursor.execute("CREATE TABLE shop_measure (id integer, title text) PARTITION BY RANGE (id)")
        cursor.execute("CREATE TABLE shop_measure_1 PARTITION OF shop_measure FOR VALUES FROM (0) TO (100)")


def manage(name, *args, **options):
    """What a command of manage.py said; what is wrong is raised behind it."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            call_command(name, *args, stdout=said, stderr=said, no_color=True, **options)
    except CommandError as error:
        raise CommandError(f"{said.getvalue()}{error}") from error
    return said.getvalue()


def deployed():
    """What check --deploy says of watched tables."""
    found = checks.run_checks(tags=["etagd"], include_deployment_checks=True)
    return sorted(f"{message.id} {message.msg}" for message in found if message.id in ("etagd.W011", "etagd.W012", "etagd.W013"))


def found():
    """What the system checks say, of ours."""
    return sorted(message.id for message in checks.run_checks(tags=["etagd"]) if message.id.startswith("etagd.") and message.id != "etagd.W006")


def write(pk=1, using="default"):
    """Another status."""
    Upload.objects.using(using).filter(pk=pk).update(status=os.urandom(8).hex())


def row_and_event():
    """The transactions that wrote the row 1 and its row of the outbox, where it has none the newest; the names in this, and whether it asks."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT xmin::text::bigint FROM shop_upload WHERE id = 1")
        xid, = cursor.fetchone()
        return [xid, *event_of(xid)]


def event_of(xid):
    """By who may read the outbox."""
    import psycopg2

    at = connection.settings_dict
    with psycopg2.connect(host=at["HOST"], port=at["PORT"], user="etagd", dbname=at["NAME"]) as other, other.cursor() as cursor:
        cursor.execute("SELECT xid::text::bigint & 4294967295, encode(targets, 'escape'), ask FROM etagd.outbox"
                       " ORDER BY xid::text::bigint & 4294967295 = %s DESC, xid DESC, id DESC LIMIT 1", [xid])
        return cursor.fetchone()


def main():
    names = {**globals(), "transaction": transaction, "invalidate": invalidate, "reach": reach}
    for line in sys.stdin:
        names["result"], error = None, None
        try:
            exec(json.loads(line), names)  # pylint: disable=exec-used
        except Exception as raised:  # pylint: disable=broad-except
            error = f"{type(raised).__name__}: {raised}"
            traceback.print_exc()
        print(json.dumps({"result": names["result"], "error": error}), flush=True)


if __name__ == "__main__":
    main()
