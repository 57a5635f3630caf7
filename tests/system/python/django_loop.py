# SPDX-License-Identifier: Apache-2.0
"""A site of plain and coroutine views for test_django_asgi.py, in one file. Servers load application (ASGI) or wsgi; run as a program it
makes the database. From the environment: LOOP_DB, an SQLite file; LOOP_OUTER, "async" or "sync": the middleware before ours;
ETAGD_SOCKET."""
import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor

import django_site

django_site.require("django")
import etagd  # noqa: E402

DIRECTORY = django_site.configure(
    "looped", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], INSTALLED_APPS=["looped", "etagd.django"],
    MIDDLEWARE=[f"{__name__}.{os.environ.get('LOOP_OUTER', 'async')}_outer", "etagd.django.middleware.ConditionalGetMiddleware",
                "django.middleware.common.CommonMiddleware"],
    ETAGD={"RELEASE": "1", "DEBUG_HEADER": True}, DATABASES={"default": {
        "ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["LOOP_DB"], "OPTIONS": {"timeout": 30}}})

import django  # noqa: E402
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async  # noqa: E402
from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.db import models  # noqa: E402
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.test import AsyncClient, Client  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils.decorators import method_decorator, sync_and_async_middleware  # noqa: E402
from django.views import View  # noqa: E402
from etagd.django.decorators import condition, etag_cached  # noqa: E402


Model = django_site.base_of("looped")


class Banner(Model):
    text = models.CharField(max_length=50)


class Note(Model):
    text = models.CharField(max_length=50)


CALLS = []


def banner():
    return Banner.objects.get(pk=1).text


def notes(number=0):
    return list(Note.objects.order_by("id").values_list("text", flat=True))[number:]


# ---- Before our middleware ----


def gate(request):
    """Says that it waits, and waits until it may go on."""
    name = request.META.get("HTTP_X_GATE")
    if name:
        with open(name + ".waits", "w", encoding="ascii"):
            pass
        while not os.path.exists(name):
            time.sleep(0.005)


@sync_and_async_middleware
def async_outer(get_response):
    def look(request):
        request.banner = banner()
        gate(request)

    if iscoroutinefunction(get_response):
        async def middleware(request):
            await sync_to_async(look, thread_sensitive=False)(request)
            return await get_response(request)
    else:
        def middleware(request):
            look(request)
            return get_response(request)
    return middleware


def sync_outer(get_response):
    def middleware(request):
        request.banner = banner()
        gate(request)
        return get_response(request)
    return middleware


# ---- Views ----


def cached(view):
    return etag_cached(scope=etagd.PUBLIC)(view)


def answer(request, *found):
    CALLS.append(request.path)
    return JsonResponse({"banner": request.banner if request.path == "/outer/" else None, "found": found})


@etag_cached(scope=etagd.PUBLIC, surrogates=["named"])
def outer(request):
    return answer(request)


@cached
async def async_view(request):
    return answer(request, await sync_to_async(notes)())


@cached
def sync_view(request):
    return answer(request, notes())


@cached
async def gather(request):
    apart = sync_to_async(notes, thread_sensitive=False)
    return answer(request, *await asyncio.gather(apart(), apart(1), sync_to_async(banner)()))


@cached
async def to_thread(request):
    return answer(request, await asyncio.to_thread(notes))


@cached
def back_and_forth(request):
    async def inner():
        return await sync_to_async(notes)()
    return answer(request, async_to_sync(inner)())


@cached
async def task(request):
    return answer(request, await asyncio.get_running_loop().create_task(sync_to_async(notes)()))


FLIGHTS = {}
POOL = ThreadPoolExecutor(1)


@cached
async def shared_future(request):
    """All requests share one query, of a thread."""
    if "notes" not in FLIGHTS:
        FLIGHTS["notes"] = POOL.submit(notes)
    return answer(request, await asyncio.wrap_future(FLIGHTS["notes"]), await sync_to_async(banner)())


LEFT = []


async def leave(request):
    """A task that goes on after the response, and serves others."""
    asked, found = asyncio.Queue(), asyncio.Queue()

    async def serve():
        while await asked.get():
            await found.put(await sync_to_async(notes, thread_sensitive=False)())
    LEFT[:] = [asked, found, asyncio.get_running_loop().create_task(serve())]
    return HttpResponse("left")


@cached
async def of_left(request):
    asked, found = LEFT[:2]
    await asked.put(1)
    return answer(request, await found.get(), await sync_to_async(banner)())


@cached
async def stream(request):
    async def parts():
        for text in await sync_to_async(notes)():
            yield text

    return StreamingHttpResponse(parts() if django.VERSION >= (4, 2) else await sync_to_async(notes)())


@cached
async def inner_page(request):
    """Asks the process itself for another page: what that depends on is noted for that."""
    return answer(request, (await AsyncClient().get("/async/")).content.decode())


@cached
def inner_page_sync(request):
    found = Client().get("/sync/").content.decode()
    return answer(request, found, banner())


async def whose(request):
    await asyncio.sleep(0)
    return request.META.get("HTTP_X_USER") or None


def whose_by_database(request):
    """Django refuses this on a loop."""
    return f"notes:{len(notes())}"


@etag_cached(scope=whose, surrogates=lambda request: ["named"])
async def private(request):
    return answer(request, await sync_to_async(notes)())


@etag_cached(scope=whose_by_database)
async def by_database(request):
    return answer(request, await sync_to_async(notes)())


async def version(request):
    return "v-" + (await sync_to_async(notes)())[0]


@condition(version)
async def conditional(request):
    return answer(request, await sync_to_async(notes)())


@condition(lambda request: "v-" + notes()[0], scope=etagd.PUBLIC)
async def conditional_cached(request):
    return answer(request, await sync_to_async(notes)())


class ByMethod(View):
    async def get(self, request):
        return answer(request, await sync_to_async(notes)())


@method_decorator(cached, name="dispatch")
class ByDecorator(ByMethod):
    pass


@cached
class ByClass(View):
    async def get(self, request):
        return answer(request, await sync_to_async(notes)())


def write(request):
    """Answers the thread, so that who writes knows that it was done."""
    Note.objects.filter(pk=1).update(text=request.GET["text"])
    Banner.objects.filter(pk=1).update(text=request.GET["text"])
    return HttpResponse(request.GET["text"])


def calls(request):
    found, CALLS[:] = list(CALLS), []
    return JsonResponse(found, safe=False)


PAGES = {"outer": outer, "async": async_view, "sync": sync_view, "gather": gather, "to-thread": to_thread, "task": task,
         "back-and-forth": back_and_forth, "shared-future": shared_future, "stream": stream, "inner": inner_page, "inner-sync": inner_page_sync, "private": private,
         "by-database": by_database, "condition": conditional, "condition-cached": conditional_cached, "plain": sync_view}
if django.VERSION >= (4, 1):
    PAGES.update({"by-decorator": ByDecorator.as_view(), "by-class": ByClass.as_view()})
urlpatterns = [path(f"{name}/", view) for name, view in PAGES.items()]
urlpatterns += [path("write/", write), path("leave/", leave), path("of-left/", of_left), path("calls/", calls)]
application, wsgi = ASGIHandler(), WSGIHandler()

if __name__ == "__main__":
    django_site.create(Banner, Note)
    Banner.objects.create(pk=1, text="first")
    Note.objects.create(pk=1, text="first")
    Note.objects.create(pk=2, text="second")
