# SPDX-License-Identifier: Apache-2.0
"""An API on customers' uploads. From the environment:

    UPLOADS_DB          an SQLite file; default: uploads.sqlite3 here
    UPLOADS_PGHOST      instead: a PostgreSQL, the directory of its socket or its host; UPLOADS_PGUSER, UPLOADS_PGDATABASE
    ETAGD_SOCKET        etagd's
    UPLOADS_RELEASE     what names the deployment, for instance a commit's hash
    UPLOADS_DEBUG_HEADER "0": answers do not say what etagd did (X-Etag-Cache)
    UPLOADS_CACHE       "etagd" (default), "django": Django's own ConditionalGetMiddleware, "none"
"""
import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ.get("UPLOADS_SECRET", "an example's, not a secret")
DEBUG = os.environ.get("UPLOADS_DEBUG") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
CACHE = os.environ.get("UPLOADS_CACHE", "etagd")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "rest_framework.authtoken",
    "etagd.django",
    "uploads",
]
if CACHE != "etagd":
    INSTALLED_APPS.remove("etagd.django")

MIDDLEWARE = {
    "etagd": ["etagd.django.middleware.ConditionalGetMiddleware"],
    "django": ["django.middleware.http.ConditionalGetMiddleware"],
    "none": [],
}[CACHE] + ["django.middleware.common.CommonMiddleware"]

ETAGD = {"DEBUG_HEADER": os.environ.get("UPLOADS_DEBUG_HEADER", "1") == "1", "RELEASE": os.environ.get("UPLOADS_RELEASE")}

ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"

if "UPLOADS_PGHOST" in os.environ:
    DATABASES = {"default": {
        "ENGINE": "django.db.backends.postgresql", "HOST": os.environ["UPLOADS_PGHOST"],
        "USER": os.environ.get("UPLOADS_PGUSER", "etagd"), "NAME": os.environ.get("UPLOADS_PGDATABASE", "etagd"),
        "ATOMIC_REQUESTS": True, "CONN_MAX_AGE": 600}}
else:
    FILE = os.environ.get("UPLOADS_DB", str(BASE_DIR / "uploads.sqlite3"))
    # Without ATOMIC_REQUESTS: who reads first in a transaction may not get SQLite's lock for writing any more.
    DATABASES = {"default": {
        "ENGINE": "django.db.backends.sqlite3", "NAME": FILE, "CONN_MAX_AGE": 600,
        "OPTIONS": {"timeout": 20}, "TEST": {"NAME": FILE + ".test"}}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["uploads.access.ProfileTokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["uploads.access.RolePermission"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "PAGE_SIZE": 50,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
LOGGING = {
    "version": 1, "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"etagd": {"handlers": ["stderr"], "level": "INFO"}},
}
