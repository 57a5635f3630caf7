# SPDX-License-Identifier: Apache-2.0
"""A Django site of one host, in a process of its own: test_django_hosts.py tells it a line at a time, as JSON, what to run, and hears what
came of it. SITE: databases, ETAGD, as JSON."""
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
    MIDDLEWARE=["etagd.django.middleware.ConditionalGetMiddleware"], INSTALLED_APPS=["shop", "etagd.django"], DEBUG=True)

from django.core import checks  # noqa: E402
from django.db import connection, connections, models, transaction  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import path  # noqa: E402
import etagd  # noqa: E402
from etagd.django.decorators import etag_cached  # noqa: E402
from etagd.django.writes import invalidate, reach  # noqa: E402


class Upload(django_site.base_of("shop")):
    status = models.CharField(max_length=20)


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


urlpatterns = [path("uploads/<int:pk>/", uploads), path("notes/", notes), path("tariff/", tariff)]


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
