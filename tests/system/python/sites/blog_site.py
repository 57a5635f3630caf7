# SPDX-License-Identifier: Apache-2.0
"""A blog with admin and flatpages, for workers and for the test that lives beside them: users with sessions, drafts, tags, moderated comments,
feeds, a sitemap, translations, a media library. From the environment: BLOG_PLACE (SQLite file, templates, media), ETAGD_SOCKET,
BLOG_SECRET, BLOG_RELEASE, BLOG_LOW (the middleware below the others), BLOG_VARY (without Cookie)."""
import os
import random
import sys
import time
import types

app = types.ModuleType("blog")
app.__path__ = [os.path.dirname(os.path.abspath(__file__)) + "/nothing"]
sys.modules["blog"] = app

import django  # noqa: E402
from django.conf import settings  # noqa: E402

PLACE = os.environ["BLOG_PLACE"]
OURS = "etagd.django.middleware.ConditionalGetMiddleware"
MIDDLEWARE = [
    "django.middleware.gzip.GZipMiddleware", OURS, "django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware", "django.contrib.sites.middleware.CurrentSiteMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware", __name__ + ".layouts", "django.contrib.flatpages.middleware.FlatpageFallbackMiddleware"]
if os.environ.get("BLOG_LOW"):
    MIDDLEWARE.remove(OURS)
    MIDDLEWARE.insert(MIDDLEWARE.index(__name__ + ".layouts"), OURS)
BASE = """{% load i18n %}<html class="{{ request.session.theme }}"><title>{{ request.site.name }}</title>{% for c in menu %}{{ c.name }} {% endfor %}
{% if user.is_authenticated %}{% translate "Yes" %} {{ user.username }}{% if perms.blog.add_post %} may write{% endif %}{% endif %}
{% block content %}{% endblock %}"""
POST = """{% extends "base.html" %}{% block content %}{{ post.title }} {{ post.body }} by {{ post.author.username }} {{ post.author.profile.bio }}
in {{ post.category.name }}: {% for t in post.tags.all %}{{ t.name }} {% endfor %}{% for c in comments %}{{ c.text }} {% endfor %}
{% for m in post.media.all %}{{ m.file.url }} {{ m.caption }}{% endfor %}{% endblock %}"""
LIST = '{% extends "base.html" %}{% block content %}{% for p in object_list %}{{ p.title }} {{ p.author.username }} {{ p.n }} {% endfor %}{% endblock %}'
PAGE = '{% extends "base.html" %}{% block content %}{{ flatpage.title }} {{ flatpage.content }}{% endblock %}'
WORDS = {"base.html": BASE, "post.html": POST, "list.html": LIST, "flatpages/default.html": PAGE}
LOADERS = [("django.template.loaders.cached.Loader", [
    ("django.template.loaders.locmem.Loader", WORDS), ("django.template.loaders.filesystem.Loader", [os.path.join(PLACE, "templates")]),
    "django.template.loaders.app_directories.Loader"])]

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(PLACE, "db.sqlite3"), "CONN_MAX_AGE": 600,
                           "OPTIONS": {"timeout": 20}}},
    INSTALLED_APPS=["django.contrib." + name for name in (
        "admin", "auth", "contenttypes", "sessions", "messages", "sites", "flatpages", "sitemaps", "syndication", "humanize")] + ["blog", "etagd.django"],
    MIDDLEWARE=MIDDLEWARE, ROOT_URLCONF=__name__, SITE_ID=1, ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None, DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    SECRET_KEY=os.environ.get("BLOG_SECRET", "one"), USE_TZ=True, TIME_ZONE="America/New_York", USE_I18N=True, LANGUAGES=[("en", "English"), ("de", "Deutsch")],
    LOCALE_PATHS=[os.path.join(PLACE, "locale")], SESSION_COOKIE_AGE=7200, MEDIA_ROOT=os.path.join(PLACE, "media"), MEDIA_URL="/media/", STATIC_URL="/static/",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"loaders": LOADERS, "context_processors": [
        "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages", __name__ + ".menu"]}}],
    ETAGD={"RELEASE": os.environ.get("BLOG_RELEASE") or None, "DEBUG_HEADER": True,
           "VARY": ("Accept", "Accept-Language") if os.environ.get("BLOG_VARY") else ("Accept", "Accept-Language", "Cookie")})
os.environ["TZ"] = settings.TIME_ZONE  # as Django does of settings in a module
time.tzset()
django.setup()

import etagd  # noqa: E402
from django.contrib import admin  # noqa: E402
from django.contrib.auth.mixins import PermissionRequiredMixin  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation  # noqa: E402
from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.contrib.flatpages.views import flatpage  # noqa: E402
from django.contrib.sitemaps import GenericSitemap  # noqa: E402
from django.contrib.sitemaps.views import sitemap  # noqa: E402
from django.contrib.syndication.views import Feed  # noqa: E402
from django.core import signing  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import models  # noqa: E402
from django.db.models import Count  # noqa: E402
from django.http import HttpResponse, HttpResponseForbidden  # noqa: E402
from django.shortcuts import render  # noqa: E402
from django.urls import path, reverse  # noqa: E402
from django.utils import timezone  # noqa: E402
from django.utils.crypto import get_random_string  # noqa: E402
from django.utils.decorators import method_decorator  # noqa: E402
from django.utils.translation import activate, gettext, trans_real  # noqa: E402
from django.views.decorators.clickjacking import xframe_options_exempt  # noqa: E402
from django.views.generic import DetailView, ListView  # noqa: E402
from etagd.django import reads, surrogates  # noqa: E402
from etagd.django.decorators import etag_cached  # noqa: E402


class _Named(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        abstract = True
        app_label = "blog"


class Category(_Named):
    pass


class Tag(_Named):
    pass


class Profile(models.Model):
    user = models.OneToOneField(User, models.CASCADE, related_name="profile")
    bio = models.TextField(blank=True)

    class Meta:
        app_label = "blog"


class Comment(models.Model):
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveIntegerField()
    target = GenericForeignKey()
    text = models.TextField()
    public = models.BooleanField(default=False)

    class Meta:
        app_label = "blog"


class Post(models.Model):
    title = models.CharField(max_length=80)
    slug = models.SlugField(unique=True)
    body = models.TextField(blank=True)
    status = models.CharField(max_length=1, default="d")
    author = models.ForeignKey(User, models.SET_NULL, null=True, related_name="posts")
    category = models.ForeignKey(Category, models.SET_NULL, null=True, blank=True)
    tags = models.ManyToManyField(Tag, blank=True, related_name="posts")
    updated = models.DateTimeField(auto_now=True)
    comments = GenericRelation(Comment)

    class Meta:
        app_label = "blog"
        ordering = ["-id"]

    def get_absolute_url(self):
        return reverse("post", args=[self.slug])


class Translation(models.Model):
    post = models.ForeignKey(Post, models.CASCADE, related_name="translations")
    language = models.CharField(max_length=5)
    title = models.CharField(max_length=80)

    class Meta:
        app_label = "blog"


class Media(models.Model):
    file = models.FileField(upload_to="files")
    caption = models.CharField(max_length=80)
    posts = models.ManyToManyField(Post, blank=True, related_name="media")

    class Meta:
        app_label = "blog"


MODELS = [Category, Tag, Profile, Comment, Post, Translation, Media]
surrogates.register(Translation, scope="post")


class Inline(admin.TabularInline):
    model = Translation
    extra = 0


def publish(model_admin, request, queryset):
    queryset.update(status="p")


@admin.register(Post)
class PostAdmin(admin.ModelAdmin):
    list_display, list_editable, inlines, actions = ["id", "title", "status"], ["title"], [Inline], [publish]


admin.site.register([Comment, Tag, Category])


def menu(request):
    return {"menu": Category.objects.all()}


def layouts(get_response):
    """The site's own middleware: hands the view what it takes from fields, and logs one that no page shows."""
    def middleware(request):
        if request.path.startswith(("/layout/", "/own_layout/")):
            request.is_small = "Mobile" in request.META.get("HTTP_USER_AGENT", "")
        with reads.aside():
            request.logged = request.META.get("REMOTE_ADDR"), request.headers.get("X-Request-Id")
        return get_response(request)
    return middleware


def text(*parts):
    return HttpResponse(" ".join(map(str, parts)), content_type="text/plain")


def published():
    return Post.objects.filter(status="p")


public = etag_cached(scope=etagd.PUBLIC)
PAGES = {}


def page(view):
    PAGES[view.__name__] = public(view)
    return view


@method_decorator(public, name="get")
class Shown(DetailView):
    template_name = "post.html"

    def get_queryset(self):
        return published().select_related("author", "category")

    def get_context_data(self, **more):
        return super().get_context_data(comments=self.object.comments.filter(public=True), **more)


@method_decorator(public, name="get")
class Newest(ListView):
    queryset = Post.objects.filter(status="p").select_related("author").annotate(n=Count("comments")).order_by("-id")
    template_name, paginate_by = "list.html", 3


@method_decorator(etag_cached(scope=lambda request, *args, **kwargs: f"user:{request.user.pk}"), name="get")
class Drafts(PermissionRequiredMixin, ListView):
    queryset = Post.objects.filter(status="d").annotate(n=Count("comments"))
    template_name, permission_required, raise_exception = "list.html", "blog.view_post", True


class Posts(Feed):
    title, link, description = "posts", "/", "all of them"

    def get_object(self, request, tag=None):
        return tag

    def items(self, tag):
        return published() if tag is None else published().filter(tags__name=tag)

    def item_title(self, item):
        return item.title

    def item_description(self, item):
        return item.body

    def item_updateddate(self, item):
        return item.updated


@page
def consent(request):
    return text("" if request.COOKIES.get("consent") else "cookies?", published().count())


@page
def consent_in_template(request):
    template = settings.TEMPLATES and __import__("django.template", fromlist=["engines"]).engines["django"].from_string(
        "{% if not request.COOKIES.consent %}cookies?{% endif %}{{ n }}")
    return HttpResponse(template.render({"n": published().count()}, request))


@page
def basket(request):
    return text("your basket" if request.session.session_key else "", published().count())


@page
def part(request):
    return text("part" if request.headers.get("HX-Request") else "whole", published().count())


@page
def layout(request):
    return text("small" if request.is_small else "wide", published().count())


PAGES["own_layout"] = etag_cached(scope=lambda request: "user:7")(lambda request: layout(request))


@page
def logged(request):
    return text(published().count())


@page
def address(request):
    return text(request.META.get("REMOTE_ADDR"), published().count())


@page
def country(request):
    return text(request.META.get("COUNTRY_CODE"), published().count())


@page
def users_of_the_host(request):
    with open("/etc/passwd", encoding="utf-8") as file:
        return text(len(file.readlines()), published().count())


@page
def found(request):
    return text([post.title for post in published() if request.body.decode() in post.title])


def _by_preview(request, *_, **__):
    return "editor" if request.headers.get("X-Preview") == "token" else "reader"


PAGES["preview"] = etag_cached(scope=_by_preview)(
    lambda request: text([post.title for post in (Post.objects.all() if request.headers.get("X-Preview") == "token" else published())]))


@page
def link(request):
    """To a draft, good for an hour."""
    try:
        pk = signing.TimestampSigner().unsign(request.GET["to"], max_age=3600)
    except signing.BadSignature:
        return HttpResponseForbidden()
    return text(Post.objects.get(pk=pk).title)


@page
def token(request):
    return text(published().count(), signing.dumps("x"))


@page
def one(request):
    return text(random.choice(list(published())).title)


@page
def one_in_template(request):
    template = __import__("django.template", fromlist=["engines"]).engines["django"].from_string("{% with p=posts|random %}{{ p.title }}{% endwith %}")
    return HttpResponse(template.render({"posts": published()}, request))


@page
def password(request):
    return text(published().count(), get_random_string(12))


@page
def dice_of_a_row(request):
    return text([random.Random(post.pk).random() for post in published()])


@page
def french(request):
    activate("de")
    return text(gettext("Yes"), published().count())


def reload(request):
    """As editors of translations do, when they have written a file."""
    trans_real._translations = {}
    return text("done")


@page
@xframe_options_exempt
def embedded(request):
    return text(published().count())


@page
def translations(request):
    return text([row.title for row in Translation.objects.filter(post=request.GET["post"])])


@page
def on_disk(request):
    return render(request, "on_disk.html", {"posts": published()})


@page
def theme(request):
    return text(request.session.get("theme", "light"), published().count())


urlpatterns = [
    path("admin/", admin.site.urls), path("post/<slug:slug>/", Shown.as_view(), name="post"), path("posts/", Newest.as_view()),
    path("drafts/", Drafts.as_view()), path("feed/", public(Posts())), path("feed/<str:tag>/", public(Posts())), path("pages/<path:url>", public(flatpage)),
    path("sitemap.xml", public(sitemap), {"sitemaps": {"posts": GenericSitemap({"queryset": Post.objects.filter(status="p"), "date_field": "updated"})}}),
    path("up/", lambda request: text(timezone.now())), path("reload/", reload)]
urlpatterns += [path(f"{name}/", view) for name, view in PAGES.items()]
_by_wsgi = get_wsgi_application()


def application(environ, start_response):
    """What a server in front says of the client (nginx: uwsgi_param)."""
    return _by_wsgi({**environ, "COUNTRY_CODE": environ.get("HTTP_X_FROM", "US")}, start_response)


on_loop = get_asgi_application()
