# SPDX-License-Identifier: Apache-2.0
"""An API of many tenants: for gunicorn's threads, for uvicorn, and for the test that writes beside them. A tenant is told by the host, or
by X-Tenant; its rows are in shared tables with a column for it, in tables with row security, in a schema of its own, and in a database
of its own, which is added at run time. From the environment: TENANTS_PG, the directory of a PostgreSQL's socket, and ETAGD_SOCKET."""
import asyncio
import os
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor

app = types.ModuleType("tenants")
app.__path__ = [os.path.dirname(os.path.abspath(__file__)) + "/nothing"]
sys.modules["tenants"] = app

import django  # noqa: E402
from django.conf import settings  # noqa: E402

SHARED = {"ENGINE": "django.db.backends.postgresql", "HOST": os.environ["TENANTS_PG"], "USER": "tenants", "NAME": "etagd", "CONN_MAX_AGE": 600}
settings.configure(
    DATABASES={"default": SHARED},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "rest_framework.authtoken", "tenants", "etagd.django"],
    MIDDLEWARE=["etagd.django.middleware.ConditionalGetMiddleware", __name__ + ".TenantMiddleware"],
    ROOT_URLCONF=__name__, SECRET_KEY="x", ALLOWED_HOSTS=["*"], USE_TZ=True, LOGGING_CONFIG=None, DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.UserRateThrottle"], "DEFAULT_THROTTLE_RATES": {"user": "100000/min"},
        "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination", "PAGE_SIZE": 3,
        "DEFAULT_FILTER_BACKENDS": ["rest_framework.filters.OrderingFilter", "rest_framework.filters.SearchFilter"]},
    ETAGD={"RELEASE": "1", "DEBUG_HEADER": True})
django.setup()

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, connections, models, transaction  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from etagd.django import reads, surrogates  # noqa: E402
from etagd.django.decorators import etag_cached  # noqa: E402
from etagd.django.rest import ETagMixin  # noqa: E402
from rest_framework import permissions, serializers, viewsets  # noqa: E402
from rest_framework.decorators import api_view, permission_classes  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.routers import DefaultRouter  # noqa: E402
from rest_framework.views import APIView  # noqa: E402


class Named(models.Model):
    name = models.CharField(max_length=60)

    class Meta:
        abstract = True


class Tenant(Named):
    database = models.CharField(max_length=60, default="")

    class Meta:
        app_label = "tenants"


class Member(models.Model):
    user = models.ForeignKey(User, models.CASCADE)
    tenant = models.ForeignKey(Tenant, models.CASCADE)

    class Meta:
        app_label = "tenants"


class Label(Named):
    class Meta:
        app_label = "tenants"


class Note(models.Model):
    tenant = models.ForeignKey(Tenant, models.CASCADE)
    title = models.CharField(max_length=60)
    author = models.ForeignKey(User, models.SET_NULL, null=True)
    labels = models.ManyToManyField(Label)

    class Meta:
        app_label = "tenants"


class Comment(models.Model):
    note = models.ForeignKey(Note, models.CASCADE, related_name="comments")
    text = models.CharField(max_length=60)

    class Meta:
        app_label = "tenants"


class Secret(Named):
    """With row security."""
    tenant = models.IntegerField()

    class Meta:
        app_label = "tenants"


class Item(Named):
    """In each tenant's schema."""

    class Meta:
        app_label = "tenants"


class Box(Named):
    """In each tenant's database."""

    class Meta:
        app_label = "tenants"


SHARED_MODELS = (Tenant, Member, Label, Note, Comment, Secret)
surrogates.register(Note, scope="tenant")


def alias_of(tenant):
    """As sites write it who learn of a tenant's database by its row, and of its move by another process."""
    alias = "of_" + tenant.name
    if connections.databases.get(alias, {}).get("NAME") != tenant.database:
        connections.databases[alias] = {**connections.databases["default"], "NAME": tenant.database}
    if connections[alias].settings_dict["NAME"] != tenant.database:  # this thread's is still to the former one
        connections[alias].close()
        del connections[alias]
    return alias


class TenantMiddleware:
    """X-Sets: how the tenant is told to the database; X-Resets: what is said to it after the answer."""
    sync_capable = async_capable = True

    def __init__(self, get_response):
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request):
        if self.is_async:
            return self.on_loop(request)
        self.begin(request)
        try:
            return self.get_response(request)
        finally:
            with reads.aside():  # it is in no answer
                resets = request.headers.get("X-Resets")
            say(request, resets)

    async def on_loop(self, request):
        await sync_to_async(self.begin)(request)
        return await self.get_response(request)

    @staticmethod
    def begin(request):
        name = request.headers.get("X-Tenant") or request.get_host().partition(".")[0]
        say(request, request.headers.get("X-Sets-First"), name)
        request.tenant = Tenant.objects.filter(name=name).first()
        say(request, request.headers.get("X-Sets"), name)


def say(request, statement, name=""):
    if statement:
        with connection.cursor() as cursor:
            cursor.execute(statement % {"id": request.tenant.pk if hasattr(request, "tenant") else 0, "name": name})


# ---- The API ----


class IsMember(permissions.BasePermission):
    def has_permission(self, request, view):
        return Member.objects.filter(user=request.user, tenant=request.tenant).exists()


class LabelSerializer(serializers.ModelSerializer):
    class Meta:
        model, fields = Label, ["name"]


class CommentSerializer(serializers.ModelSerializer):
    class Meta:
        model, fields = Comment, ["id", "text"]


class NoteSerializer(serializers.ModelSerializer):
    comments = CommentSerializer(many=True, read_only=True)
    labels = LabelSerializer(many=True, read_only=True)
    author = serializers.CharField(source="author.username", read_only=True, default=None)
    editable = serializers.SerializerMethodField()

    class Meta:
        model, fields = Note, ["id", "title", "comments", "labels", "author", "editable"]

    def get_editable(self, _):
        return self.context["request"].user.has_perm("tenants.change_note")


class Notes(ETagMixin, viewsets.ModelViewSet):
    permission_classes = [permissions.IsAuthenticated, IsMember]
    serializer_class = NoteSerializer
    search_fields = ["title"]

    def etag_scope(self, request):
        return f"tenant:{request.tenant.pk}:{request.user.pk}"

    def get_queryset(self):
        return Note.objects.filter(tenant=self.request.tenant).select_related("author").prefetch_related("comments", "labels").order_by("id")

    def perform_create(self, serializer):
        serializer.save(tenant=self.request.tenant, author=self.request.user)


class Search(ETagMixin, APIView):
    """What is looked for is in the body of a GET."""

    def etag_scope(self, request):
        return f"tenant:{request.tenant.pk}"

    def get(self, request):
        return Response(list(Note.objects.filter(tenant=request.tenant, **request.data).values_list("title", flat=True)))


def whose(request, *args, **kwargs):
    return f"tenant:{request.tenant.pk}"


@api_view(["GET"])
@permission_classes([permissions.IsAuthenticated, IsMember])
@etag_cached(scope=whose)
def titles(request):
    return Response(list(Note.objects.filter(tenant=request.tenant).values_list("title", flat=True)))


def page(function):
    return etag_cached(scope=whose)(lambda request: JsonResponse(function(request), safe=False))


def names(queryset):
    return list(queryset.order_by("id").values_list("name", flat=True))


def boxes(request):
    return names(Box.objects.using(alias_of(request.tenant)))


def rolled_back(request):
    try:
        with transaction.atomic():
            if "inner" in request.GET:
                with transaction.atomic(), connection.cursor() as cursor:
                    cursor.execute("SET app.tenant = 77")
            else:
                connection.cursor().execute("SET app.tenant = 77")
            raise ValueError
    except ValueError:
        return names(Secret.objects.all())


def shown(request):
    with connection.cursor() as cursor:
        cursor.execute("SHOW app.tenant")
        return [request.tenant.name, *cursor.fetchone()]


# ---- Who comes second waits for what the first one began ----

POOL, FLIGHTS, LOCK = ThreadPoolExecutor(2), {}, threading.Lock()
GATE = threading.Event()


def load():
    found = list(Note.objects.order_by("id").values_list("title", flat=True))
    connection.close()
    GATE.wait(60)
    return found


async def load_on_loop():
    found = [note.title async for note in Note.objects.order_by("id")]
    await asyncio.to_thread(GATE.wait, 60)
    return found


def by_executor(request):
    with LOCK:
        future = FLIGHTS.setdefault("future", None) or FLIGHTS.update(future=POOL.submit(load)) or FLIGHTS["future"]
    return future.result()


@etag_cached(scope=whose)
async def by_task(request):
    if "task" not in FLIGHTS:
        FLIGHTS["task"] = asyncio.create_task(load_on_loop())
    how = request.GET.get("by")
    task = FLIGHTS["task"]
    if how == "shield":
        return JsonResponse(await asyncio.shield(task), safe=False)
    if how == "gather":
        return JsonResponse((await asyncio.gather(task))[0], safe=False)
    return JsonResponse(await task, safe=False)


@etag_cached(scope=whose)
async def own_tasks(request):
    async def count(model):
        return await model.objects.acount()
    return JsonResponse(await asyncio.gather(count(Note), count(Comment), asyncio.create_task(count(Label))), safe=False)


# ---- What the test asks for ----


@csrf_exempt
def run(request):
    exec(request.body.decode(), {**globals(), "request": request})  # pylint: disable=exec-used
    return HttpResponse("done")


router = DefaultRouter()
router.register("notes", Notes, "note")
urlpatterns = [
    path("", include(router.urls)), path("search/", Search.as_view()), path("titles/", titles), path("run/", run),
    path("secrets/", page(lambda request: names(Secret.objects.all()))), path("items/", page(lambda request: names(Item.objects.all()))),
    path("boxes/", page(boxes)), path("moving/", page(lambda request: names(Box.objects.using("moving")))), path("tenant/", page(lambda request: request.tenant.name)),
    path("rolledback/", page(rolled_back)), path("shown/", page(shown)), path("executor/", page(by_executor)), path("task/", by_task), path("own/", own_tasks)]
application = get_wsgi_application()
on_loop = get_asgi_application()


def create():
    """As the owner of the site's tables, whom row security holds too."""
    with connection.schema_editor() as editor:
        for model in SHARED_MODELS:
            editor.create_model(model)
    with connection.cursor() as cursor:
        cursor.execute("""
            ALTER TABLE tenants_secret ENABLE ROW LEVEL SECURITY; ALTER TABLE tenants_secret FORCE ROW LEVEL SECURITY;
            CREATE POLICY own ON tenants_secret USING (tenant = NULLIF(current_setting('app.tenant', true), '')::int);
            CREATE FUNCTION be_tenant(t int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.tenant', t::text, false); END $$;
            CREATE FUNCTION be_tenant_too(t int) RETURNS int LANGUAGE sql AS $$ SELECT be_tenant(t); SELECT 1 $$;
            CREATE PROCEDURE become(t int) LANGUAGE plpgsql AS $$ BEGIN PERFORM be_tenant(t); END $$""")
        for name in ("acme", "beta"):
            cursor.execute(f"CREATE SCHEMA {name}; CREATE TABLE {name}.tenants_item (id serial PRIMARY KEY, name varchar(60))")
