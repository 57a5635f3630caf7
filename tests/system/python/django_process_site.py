# SPDX-License-Identifier: Apache-2.0
"""A site whose views take what they show from threads, from what the process keeps, and from outside. test_django_process.py
imports it to write to its database and to ask it in its own process; gunicorn serves it: django_process_site:application."""
import asyncio
import copy
import datetime
import functools
import gc
import http.client
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.pool import ThreadPool

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import django_site  # noqa: E402

PLACE = os.environ["SITE_PLACE"]
DATABASE = {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(PLACE, "shop.sqlite3"), "OPTIONS": {"timeout": 20}}
if "SITE_PGHOST" in os.environ:
    DATABASE = {"ENGINE": "django.db.backends.postgresql", "HOST": os.environ["SITE_PGHOST"], "USER": "etagd", "NAME": "etagd"}
django_site.require("django", "rest_framework")
LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
django_site.configure(
    "shop", DATABASES={"default": {**DATABASE, "CONN_MAX_AGE": None}}, ROOT_URLCONF=__name__, SITE_ID=1,
    CACHES={"default": {"BACKEND": LOCMEM, "LOCATION": "a"}, "low": {"BACKEND": LOCMEM, "LOCATION": "b"}},
    ETAGD={"RELEASE": "1", "DEBUG_HEADER": True, "SOCKET": os.environ.get("ETAGD_SOCKET"),
           "BACKGROUND_THREADS": "busy-*", "TRUST_MEMORY": ["*.trusted_*"]},
    MIDDLEWARE=[__name__ + ".before", "etagd.django.middleware.ConditionalGetMiddleware",
                "django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.sites.middleware.CurrentSiteMiddleware"],
    ALLOWED_HOSTS=["*"], SESSION_ENGINE="django.contrib.sessions.backends.file", SESSION_FILE_PATH=PLACE, MEDIA_ROOT=os.path.join(PLACE, "media"),
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sites", "django.contrib.flatpages",
                    "django.contrib.sessions", "rest_framework", "shop", "etagd.django"],
    TEMPLATES=[{"NAME": name, "BACKEND": "django.template.backends.django.DjangoTemplates",
                "DIRS": [os.path.join(PLACE, "templates")], "OPTIONS": options}
               for name, options in (("kept", {}), ("database", {"loaders": [("django.template.loaders.cached.Loader", [__name__ + ".Loader"])]}),
                                      ("uncached", {"loaders": ["django.template.loaders.filesystem.Loader"]}))])

from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.contrib.flatpages.views import flatpage  # noqa: E402
from django.contrib.sites.models import Site  # noqa: E402
from django.core.cache import caches  # noqa: E402
from django.core.cache.backends.locmem import LocMemCache  # noqa: E402
from django.core.files.storage import default_storage  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.shortcuts import render  # noqa: E402
from django.template import Origin  # noqa: E402
from django.template.loaders.base import Loader as BaseLoader  # noqa: E402
from django.urls import path  # noqa: E402
import etagd  # noqa: E402
from etagd.django import threads  # noqa: E402
from etagd.django.decorators import etag_cached  # noqa: E402
from etagd.django.reads import aside  # noqa: E402
from etagd.django.rest import ETagMixin  # noqa: E402
from rest_framework import serializers, throttling, viewsets  # noqa: E402


Model = django_site.base_of("shop")


class Anchor(Model):
    """What every view depends on, so that it is stored if nothing else is noted."""


class Price(Model):
    name = models.CharField(max_length=20)
    cents = models.IntegerField(default=1)

    class Meta(Model.Meta):
        ordering = ["id"]


def prices():
    return list(Price.objects.values_list("name", "cents"))


# ---- Threads ----

POOL, THREADS = ThreadPoolExecutor(2, "pool"), ThreadPool(1)
JOBS = queue.Queue()


def serve(jobs):
    while True:
        function, answers = jobs.get()
        answers.put(function())


def ask_worker(jobs, function):
    answers = queue.Queue()
    jobs.put((function, answers))
    return answers.get()


threading.Thread(target=serve, args=(JOBS,), name="worker", daemon=True).start()


WORKER = threading.local()


def read_for_all():
    """The first that a pool's thread does."""
    WORKER.prices = prices()


LAZY = ThreadPoolExecutor(1, "lazy", initializer=read_for_all)


def by_begun_pool(request):
    """What is for no request begins the pool's thread while this one is open."""
    def begin():
        with threads.background():
            LAZY.submit(int).result()
    ask_worker(JOBS, begin)
    return LAZY.submit(lambda: WORKER.prices).result()


def by_thread(request):
    found = []
    thread = threading.Thread(target=lambda: found.extend(prices()))
    thread.start()
    thread.join()
    return found


def by_subclass(request):
    class Reader(threading.Thread):
        def run(self):
            self.found = prices()
    reader = Reader()
    reader.start()
    reader.join()
    return reader.found


def by_loop(request):
    async def ask():
        return await asyncio.get_running_loop().run_in_executor(None, prices)
    return asyncio.run(ask())


LEFT = []


def by_left_thread(request):
    """The first request starts it; it serves later ones too."""
    if not LEFT:
        LEFT.append(queue.Queue())
        threading.Thread(target=serve, args=(LEFT[0],), name="left-behind", daemon=True).start()
    return ask_worker(LEFT[0], prices)


def start_and_stay(request):
    """Starts such a thread, and is not over before another request came to it."""
    KEPT["stay"] = (queue.Queue(), threading.Event())
    threading.Thread(target=serve, args=(KEPT["stay"][0],), name="meanwhile", daemon=True).start()
    ask_worker(KEPT["stay"][0], prices)
    KEPT["stay"][1].wait(60)
    return "over"


def beside(request):
    """The request beside it."""
    while "stay" not in KEPT:
        time.sleep(0.01)
    return ask_worker(KEPT["stay"][0], prices)


def let_go(request):
    KEPT.pop("stay")[1].set()
    return "let go"


PERIOD = {"s": 0, "ticks": 0}


def scheduler():
    while PERIOD["s"]:
        prices()
        PERIOD["ticks"] += 1
        time.sleep(PERIOD["s"])


def schedule(request):
    ticks = PERIOD["ticks"]
    PERIOD.update(s=float(request.GET["period"]), ticks=0)
    if PERIOD["s"]:
        threading.Thread(target=scheduler, name=request.GET.get("name", "scheduler"), daemon=True).start()
    return HttpResponse(str(ticks))


def tick_in(name):
    """While a request is open a thread that is none of its own reads."""
    def view(request):
        done = threading.Event()
        AWAY.put((name, done))
        done.wait()
        return prices()
    return view


AWAY = queue.Queue()


def away():
    while True:
        name, done = AWAY.get()
        threading.current_thread().name = name
        if name == "said":
            with threads.background():
                prices()
        else:
            prices()
        done.set()


threading.Thread(target=away, name="away", daemon=True).start()


def by_executor_of_processes(request):
    return keep("executor", lambda: ProcessPoolExecutor(1, get_context("fork"))).submit(os.path.basename, "/a/b").result()


def by_pool_of_processes(request):
    return keep("processes", lambda: get_context("fork").Pool(1)).apply(os.path.basename, ("/a/b",))


# ---- What the process keeps ----

KEPT = {}
LOW = caches["low"]
OWN_CACHE = LocMemCache("own", {})


def keep(name, make):
    if name not in KEPT:
        KEPT[name] = make()
    return KEPT[name]


def kept_queryset():
    found = Price.objects.all()
    len(found)
    return found


@functools.lru_cache()
def remembered():
    return tuple(prices())


@functools.lru_cache()
def early():
    return tuple(prices())


@functools.lru_cache()
def remembered_queryset():
    return Price.objects.all()


@functools.lru_cache(maxsize=None)
def trusted_currency():
    return Price.objects.count() and "EUR"


def reloaded(request):
    """As Django's documentation says it: a field that is deleted is asked for again."""
    price = Price.objects.get(pk=1)
    del price.cents
    return price.cents


def remembered_copy():
    return copy.copy(keep("instance", lambda: Price.objects.get(pk=1))).cents


def leave_open(request):
    rows = Price.objects.iterator(chunk_size=1)
    next(rows)
    KEPT["open"] = rows
    return "left"


def leave_driver_open(request):
    cursor = connection.cursor()
    cursor.execute("SELECT name, cents FROM shop_price ORDER BY id")
    cursor.fetchone()
    KEPT["open"] = cursor
    return "left"


def leave_raw_open(request):
    """The driver's cursor itself, while Django's around it goes."""
    leave_driver_open(request)
    KEPT["open"] = KEPT["open"].cursor
    return "left"


def forget(request):
    KEPT.clear()
    return "forgotten"


def kept_cursor(request):
    rows = keep("rows", lambda: Price.objects.iterator(chunk_size=1))
    return [(price.name, price.cents) for price in [next(rows)]]


def kept_raw_cursor(request):
    def make():
        cursor = connection.cursor()
        cursor.execute("SELECT name, cents FROM shop_price ORDER BY id")
        return cursor
    return [list(row) for row in keep("cursor", make).fetchmany(1)]


def kept_driver_cursor(request):
    def make():
        cursor = connection.cursor()
        cursor.execute("SELECT name, cents FROM shop_price ORDER BY id")
        return cursor.cursor
    return list(next(iter(keep("cursor", make))))


def kept_cursor_of_thread(request):
    """The thread that executed it is over, and Django's connection with it."""
    def make():
        def read():
            cursor = connection.cursor()
            cursor.execute("SELECT name, cents FROM shop_price ORDER BY id")
            made.append(cursor.cursor)
        made = []
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        gc.collect()
        return made[0]
    return list(keep("cursor", make).fetchone())


def before(get_response):
    """A middleware before ours: it takes something from the cache before any check."""
    def middleware(request):
        if request.path == "/cache-before/":
            request.prices = LOW.get_or_set("before", prices, 600)
        if request.path == "/limited/":
            with aside():
                LOW.get_or_set("limit", int, 600)
        return get_response(request)
    return middleware


# ---- From outside ----

KEEPS_OPEN = []


def fetch(request):
    """From another service, over a connection that is kept."""
    if not KEEPS_OPEN:
        KEEPS_OPEN.append(http.client.HTTPConnection("127.0.0.1", int(request.GET["port"])))
    KEEPS_OPEN[0].request("GET", "/")
    return KEEPS_OPEN[0].getresponse().read().decode()


def raw_socket(request):
    """As a client of Redis does it."""
    if not KEPT.get("socket"):
        import socket
        KEPT["socket"] = socket.create_connection(("127.0.0.1", int(request.GET["port"])))
    KEPT["socket"].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    return KEPT["socket"].recv(65536).decode()[-8:]


def open_file(request):
    with open(os.path.join(PLACE, "media", "notice"), encoding="utf-8") as file:
        return file.read()


def dated_file(request):
    """Also something of today, which is good until midnight. The file is not."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM shop_price WHERE name < %s", [datetime.date.today().isoformat()])
        return [cursor.fetchone()[0], open_file(request)]


def temporary_file(request):
    with tempfile.TemporaryFile() as file:
        file.write(b"made here")
        file.seek(0)
        return file.read().decode()


def stored_file(request):
    with default_storage.open("notice") as file:
        return file.read().decode()


VIEWS = {
    "prices": lambda request: prices(),
    "pool": lambda request: POOL.submit(prices).result(), "map": lambda request: list(POOL.map(lambda _: prices(), [1])),
    "thread": by_thread, "thread-subclass": by_subclass, "loop": by_loop,
    "worker": lambda request: ask_worker(JOBS, prices), "thread-pool": lambda request: THREADS.apply(prices),
    "left-thread": by_left_thread, "pool-from-worker": lambda request: ask_worker(JOBS, lambda: POOL.submit(prices).result()),
    "begun-pool": by_begun_pool,
    "busy": tick_in("busy-1"), "said": tick_in("said"), "idle": tick_in("idle"), "beside": beside,
    "process": by_executor_of_processes, "process-pool": by_pool_of_processes,
    "kept-queryset": lambda request: [(price.name, price.cents) for price in keep("queryset", kept_queryset)],
    "kept-count": lambda request: keep("queryset", kept_queryset).count(),
    "kept-instance": lambda request: keep("instance", lambda: Price.objects.get(pk=1)).cents,
    "kept-copy": lambda request: remembered_copy(), "reloaded": reloaded,
    "lru": lambda request: remembered(), "lru-queryset": lambda request: [price.cents for price in remembered_queryset()],
    "lru-trusted": lambda request: [trusted_currency(), prices()],
    "kept-cursor": kept_cursor, "kept-raw-cursor": kept_raw_cursor, "kept-driver-cursor": kept_driver_cursor,
    "kept-thread-cursor": kept_cursor_of_thread, "dated-file": dated_file,
    "site": lambda request: Site.objects.get_current().name, "site-of-request": lambda request: request.site.name,
    "content-type": lambda request: ContentType.objects.get_for_id(1).model,
    "cache": lambda request: LOW.get_or_set("prices", prices, 600), "own-cache": lambda request: OWN_CACHE.get_or_set("p", prices, 600),
    "cache-before": lambda request: request.prices, "limited": lambda request: prices(),
    "session": lambda request: request.session.get("x", "none"),
    "file": open_file, "temporary-file": temporary_file, "storage": stored_file, "exists": lambda request: default_storage.exists("more"),
    "size": lambda request: default_storage.size("notice"), "listing": lambda request: os.listdir(os.path.join(PLACE, "media")),
    "url": lambda request: default_storage.url("notice"),
    "fetch": fetch, "socket": raw_socket, "program": lambda request: subprocess.run(["true"], check=False).returncode,
    "environment": lambda request: os.environ.get("HOME"),
}


class Loader(BaseLoader):
    """Templates in the database."""

    def get_template_sources(self, name):
        yield Origin(name, name, self)

    def get_contents(self, origin):
        return str(prices())


def shown(function, **options):
    def view(request):
        Anchor.objects.count()
        return JsonResponse({"shown": function(request)})
    return etag_cached(scope=etagd.PUBLIC, **options)(view)


def template(name, using="kept"):
    return etag_cached(scope=etagd.PUBLIC)(lambda request: render(request, name, {"prices": prices}, using=using))


class Throttle(throttling.SimpleRateThrottle):
    rate = "100000/day"

    def get_cache_key(self, request, view):
        return "everybody"


class PriceSerializer(serializers.ModelSerializer):
    class Meta:
        model = Price
        fields = ["id", "name", "cents"]


class PriceViewSet(ETagMixin, viewsets.ReadOnlyModelViewSet):
    queryset = Price.objects.all()
    serializer_class = PriceSerializer
    etag_scope = etagd.PUBLIC
    throttle_classes = [Throttle]
    permission_classes = ()


urlpatterns = [path(f"{name}/", shown(function)) for name, function in VIEWS.items()]
urlpatterns += [
    path("schedule/", schedule), path("trusted-file/", shown(open_file, trust="file")),
    path("bounded-file/", shown(open_file, max_age_s=5)), path("api/", PriceViewSet.as_view({"get": "list"})),
    path("fragment/", template("fragment.html")), path("plain-template/", template("plain.html")),
    path("late-template/", template("late.html")), path("database-template/", template("any.html", "database")),
    path("uncached-template/", template("plain.html", "uncached")),
    path("flat/", etag_cached(scope=etagd.PUBLIC)(flatpage), {"url": "/flat/"})]
urlpatterns += [path(f"{function.__name__.replace('_', '-')}/", lambda request, function=function: HttpResponse(function(request)))
                for function in (leave_open, leave_driver_open, leave_raw_open, forget, start_and_stay, let_go)]
if "SITE_EARLY" in os.environ:
    early()
application = get_wsgi_application()
