# SPDX-License-Identifier: Apache-2.0
"""A site whose pages read from every kind of source: for gunicorn's workers, and for the test that writes beside them. From the
environment: SEEN_PG, the directory of a PostgreSQL's socket (else SEEN_DB, an SQLite file), ETAGD_SOCKET, SEEN_OPTIONS (ETAGD, as
JSON), SEEN_ROLE, SEEN_PORT."""
import datetime
import json
import os
import sys
import types

app = types.ModuleType("seen")
app.__path__ = [os.path.dirname(os.path.abspath(__file__)) + "/nothing"]
sys.modules["seen"] = app

import django  # noqa: E402
from django.conf import settings  # noqa: E402

if "SEEN_PG" in os.environ:
    DATABASE = {"ENGINE": "django.db.backends.postgresql", "HOST": os.environ["SEEN_PG"], "USER": "etagd", "NAME": "etagd"}
else:
    DATABASE = {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SEEN_DB"], "OPTIONS": {"timeout": 20}}
DATABASE["CONN_MAX_AGE"] = 600
if "SEEN_PORT" in os.environ:
    DATABASE["PORT"] = os.environ["SEEN_PORT"]
if "SEEN_ROLE" in os.environ:
    DATABASE["OPTIONS"] = {"options": "-c role=" + os.environ["SEEN_ROLE"]}


class Replicas:
    """Reads of these models go to another connection than their writes."""

    def db_for_read(self, model, **_):
        return "replica" if model.__name__ == "Copied" else None

    def db_for_write(self, model, **_):
        return "default" if model.__name__ == "Copied" else None


settings.configure(
    DATABASES={"default": DATABASE, "replica": {**DATABASE}},
    DATABASE_ROUTERS=[__name__ + ".Replicas"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.humanize", "seen",
                    "etagd.django"],
    MIDDLEWARE=["etagd.django.middleware.ConditionalGetMiddleware", "django.contrib.sessions.middleware.SessionMiddleware"],
    ROOT_URLCONF=__name__, SECRET_KEY="x", ALLOWED_HOSTS=["*"], USE_TZ=True, LOGGING_CONFIG=None, DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    ETAGD={"RELEASE": "1", "DEBUG_HEADER": True, **json.loads(os.environ.get("SEEN_OPTIONS", "{}"))})
django.setup()

import etagd  # noqa: E402
from django.contrib.auth.models import Group, User  # noqa: E402, F401
from django.contrib.contenttypes.fields import GenericForeignKey  # noqa: E402
from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, connections, models  # noqa: E402
from django.db.backends.signals import connection_created  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.template import engines  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402
from django.utils.timezone import now as imported_before  # noqa: E402
from etagd.django import surrogates  # noqa: E402
from etagd.django.decorators import etag_cached  # noqa: E402

MODELS = []


def model(name, bases=(models.Model,), /, table=True, meta=None, **fields):
    made = type(name, bases, {**fields, "__module__": __name__, "Meta": type("Meta", (), {"app_label": "seen", **(meta or {})})})
    if table:
        MODELS.append(made)
    return made


Text = models.CharField(max_length=80, default="")


def text():
    return models.CharField(max_length=80, default="")


Owner = model("Owner", name=text())
Item = model("Item", owner=models.ForeignKey(Owner, on_delete=models.CASCADE), text=text())
Loose = model("Loose", owner=models.ForeignKey(Owner, on_delete=models.DO_NOTHING, db_constraint=False), text=text())
Post = model("Post", text=text(), publish_at=models.DateTimeField(), day=models.DateField(default=datetime.date(2020, 1, 1)))
Log = model("Log", text=text())
Copied = model("Copied", text=text())
Base = model("Base", text=text())
Child = model("Child", (Base,), more=text())
Proxy = model("Proxy", (Base,), table=False, meta={"proxy": True})
Comment = model("Comment", text=text(), content_type=models.ForeignKey(ContentType, on_delete=models.CASCADE),
                object_id=models.IntegerField(), target=GenericForeignKey())
# Tables that the tests make by SQL.
Measure = model("Measure", table=False, text=text(), area=models.IntegerField())
MeasureA = model("MeasureA", table=False, text=text(), area=models.IntegerField())
Recent = model("Recent", table=False, meta={"managed": False}, text=text())
Secured = model("Secured", table=False, text=text())
Elsewhere = model("Elsewhere", table=False, meta={"managed": False}, text=text())
surrogates.register(Item, scope="owner")
surrogates.register(Loose, scope="owner")



def connected(connection, **_):
    """What every connection is told is no setting that a request left."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET seen.site = 'this'")
    else:
        connection.connection.create_function("age_of", 1, lambda pk: datetime.date.today().year - pk)


connection_created.connect(connected)
PAGES = {}
TOLD = {"recent-told": ["materialized_view", "foreign_table"]}  # whoever changes these tells it


def page(function):
    PAGES[function.__name__.replace("_", "-")] = function
    return function


def texts(rows):
    return ",".join(str(row) for row in rows.values_list("text", flat=True))


def sql_of(statement, params=None, using="default"):
    with connections[using].cursor() as cursor:
        cursor.execute(statement, params)
        return repr(cursor.fetchall())


def rendered(template, **context):
    return engines["django"].from_string(template).render(context)


def plain(name, function):
    function.__name__ = name
    page(function)


plain("items", lambda request: texts(Item.objects.filter(owner=7).order_by("pk")))
plain("logs", lambda request: texts(Log.objects.order_by("pk")))
plain("log_count", lambda request: Log.objects.count())
plain("log", lambda request: Log.objects.get(pk=1).text)
plain("loose", lambda request: ",".join(f"{one.text} of {one.owner.name}" for one in Loose.objects.filter(owner=7).select_related("owner")))
plain("owned", lambda request: ",".join(f"{one.text} of {one.owner.name}" for one in Item.objects.filter(owner=7).select_related("owner")))
plain("measures", lambda request: texts(Measure.objects.order_by("pk")))
plain("measures_a", lambda request: texts(MeasureA.objects.order_by("pk")))
plain("measure", lambda request: Measure.objects.get(pk=1).text)
plain("counted", lambda request: repr(list(Item.objects.annotate(n=models.Func("pk", function="count_it", output_field=models.IntegerField()))
                                          .values_list("pk", "n"))))
plain("doubled", lambda request: repr(list(Item.objects.annotate(n=models.Func("pk", function="double_it", output_field=models.IntegerField()))
                                          .values_list("pk", "n"))))
plain("aged", lambda request: repr(list(Item.objects.annotate(n=models.Func("pk", function="age_of", output_field=models.IntegerField()))
                                       .values_list("pk", "n"))))
plain("recent", lambda request: texts(Recent.objects.order_by("pk")))
plain("recent_told", lambda request: texts(Recent.objects.order_by("pk")))
plain("secured", lambda request: texts(Secured.objects.order_by("pk")))
plain("elsewhere", lambda request: texts(Elsewhere.objects.order_by("pk")))
plain("copied", lambda request: texts(Copied.objects.order_by("pk")))
plain("locked", lambda request: rendered_locked())
plain("random", lambda request: texts(Item.objects.order_by("?")[:1]))
plain("uuid", lambda request: repr(list(Item.objects.annotate(n=models.Func(function="gen_random_uuid", output_field=models.UUIDField())).values_list("n"))))
plain("sequence", lambda request: sql_of("SELECT last_value FROM seen_item_id_seq"))
plain("estimate", lambda request: sql_of("SELECT reltuples FROM pg_class WHERE relname = 'seen_item'"))
plain("base", lambda request: texts(Base.objects.order_by("pk")))
plain("child", lambda request: ",".join(f"{one.text}/{one.more}" for one in Child.objects.order_by("pk")))
plain("comments", lambda request: ",".join(f"{one.text} on {one.target.text}" for one in Comment.objects.all()))
plain("may", lambda request: repr(sorted(User.objects.get(pk=1).get_all_permissions())))
# The clock.
plain("published", lambda request: texts(Post.objects.filter(publish_at__lte=timezone.now())))
plain("published_in_python", lambda request: ",".join(post.text for post in Post.objects.all() if post.publish_at <= imported_before()))
plain("published_before", lambda request: texts(Post.objects.filter(publish_at__lte=imported_before())))
plain("published_pythons", lambda request: texts(Post.objects.filter(publish_at__lte=datetime.datetime.now(datetime.timezone.utc))))
plain("last_days", lambda request: texts(Post.objects.filter(
    publish_at__gte=datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) - datetime.timedelta(days=3))))
plain("todays", lambda request: texts(Post.objects.filter(day__lte=datetime.date.today())))
plain("in_year", lambda request: texts(Post.objects.filter(publish_at__year=2020)))
plain("since", lambda request: texts(Post.objects.filter(publish_at__gte=request.GET["since"])))
plain("next_post", lambda request: Post.objects.get(pk=1).get_next_by_publish_at().text)
plain("now", lambda request: texts(Log.objects.all()) + rendered("{% now 'u' %}"))
plain("since_when", lambda request: "".join(rendered("{{ at|timesince }}", at=post.publish_at) for post in Post.objects.all()))
plain("natural", lambda request: "".join(rendered("{% load humanize %}{{ at|naturaltime }}", at=post.publish_at) for post in Post.objects.all()))
plain("epoch", lambda request: sql_of("SELECT count(*) FROM seen_post WHERE id < %s", [int(datetime.datetime.now().timestamp())]))
plain("strftime", lambda request: sql_of("SELECT STRFTIME(%s, %s), count(*) FROM seen_post", ["%Y", "now"]))
plain("today_word", lambda request: sql_of("SELECT count(*) FROM seen_post WHERE publish_at < %s", ["today"]))
plain("bounded", lambda request: texts(Post.objects.filter(publish_at__lte=timezone.now())))
# The session of the database.
plain("by_hand", lambda request: sql_of("SELECT text FROM seen_log ORDER BY id"))
plain("made_at_run_time", lambda request: at_run_time())


def rendered_locked():
    from django.db import transaction

    with transaction.atomic():
        return texts(Log.objects.select_for_update(skip_locked=True).order_by("pk"))


def at_run_time():
    connections.databases["late"] = {**connections.databases["default"]}
    return texts(Log.objects.using("late").order_by("pk"))


def leave(request):
    """Leaves something with the connection, for the requests after it."""
    with connection.cursor() as cursor:
        cursor.execute(request.GET["sql"])
    return HttpResponse("left")


def view_of(name, function):
    def view(request):
        return HttpResponse(f"shows: {function(request)}")
    return path(f"{name}/", etag_cached(scope=etagd.PUBLIC, max_age_s=60 if name == "bounded" else None, trust=TOLD.get(name, ()))(view))


urlpatterns = [view_of(name, function) for name, function in PAGES.items()] + [path("leave/", leave)]


application = get_wsgi_application()
