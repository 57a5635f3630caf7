# SPDX-License-Identifier: Apache-2.0
"""System checks: a wrong setting, or a view without a scope, is an error at start-up, not a leak later."""
from __future__ import annotations

from typing import Any, Iterator, List

from django.conf import settings
from django.core import checks
from django.db import connections
from django.urls import get_resolver

import etagd

from .changes import outbox_check
from .conf import DEFAULTS
from .decorators import decides_in_dispatch
from .postgres import watched_check

MIDDLEWARE = "etagd.django.middleware.ConditionalGetMiddleware"


def check_settings(app_configs: Any, **_: Any) -> List[checks.CheckMessage]:
    given = getattr(settings, "ETAGD", {})
    if not isinstance(given, dict):
        return [checks.Error("ETAGD is not a dict", id="etagd.E002")]
    found: List[checks.CheckMessage] = [
        checks.Error(f"ETAGD has no setting {name!r}", id="etagd.E002") for name in sorted(set(given) - set(DEFAULTS))]
    if given.get("WITHOUT_DAEMON", "refuse") not in ("commit", "refuse"):
        found.append(checks.Error('ETAGD["WITHOUT_DAEMON"] is neither "refuse" nor "commit"', id="etagd.E003"))
    found += outbox_check.check_reach(given)
    if not settings.DEBUG and given.get("RELEASE") is None:
        found.append(checks.Warning(
            'ETAGD["RELEASE"] is not set: a deployment differs from the former one by the times of files, which workers of one '
            "release may see differently", id="etagd.W006", hint="Set it to what names a deployment, for instance a commit's hash."))
    middleware = list(getattr(settings, "MIDDLEWARE", None) or [])
    if MIDDLEWARE in middleware and "django.middleware.http.ConditionalGetMiddleware" in middleware:
        found.append(checks.Warning(f"{MIDDLEWARE} is in the place of Django's ConditionalGetMiddleware: remove that one",
                                    id="etagd.W002"))
    zipper = "django.middleware.gzip.GZipMiddleware"
    if MIDDLEWARE in middleware and zipper in middleware and middleware.index(zipper) > middleware.index(MIDDLEWARE):
        found.append(checks.Warning(f"{zipper} must come before {MIDDLEWARE}", id="etagd.W003"))
    found += _check_order(middleware)
    for alias, database in getattr(settings, "DATABASES", {}).items():
        if not database.get("AUTOCOMMIT", True):
            found.append(checks.Warning(f"DATABASES[{alias!r}] has AUTOCOMMIT off: who is always in a transaction is never "
                                        "answered from etagd", id="etagd.W004"))
        if not _is_tested(alias, database.get("ENGINE", "")):
            found.append(checks.Warning(f"DATABASES[{alias!r}]: etagd is tested with SQLite and PostgreSQL only",
                                        id="etagd.W005"))
    return found


def _is_tested(alias: str, engine: str) -> bool:
    """A backend of a package, as django-tenants has one, may be one of Django's underneath."""
    if engine.rsplit(".", 1)[-1] in ("sqlite3", "postgresql", "postgis", "spatialite", "dummy", ""):
        return True
    return connections[alias].vendor in ("sqlite", "postgresql")


_FILL_IN = ("django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.locale.LocaleMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware", "django.middleware.csp.ContentSecurityPolicyMiddleware")


def _check_order(middleware: List[str]) -> List[checks.CheckMessage]:
    """What these put on an answer, for want of the view's word, comes onto the 304 of a hit, in the place of what the 200 said."""
    if MIDDLEWARE not in middleware:
        return []
    before = [name for name in middleware[:middleware.index(MIDDLEWARE)] if name in _FILL_IN]
    return [] if not before else [checks.Warning(
        f"{MIDDLEWARE} is below {', '.join(before)}: the 304 of a hit may have fields of theirs that its 200 has not, or lack some",
        id="etagd.W007", hint="Put it first, or only below what changes the body's bytes, as GZipMiddleware.")]


def _callbacks(patterns: Any) -> Iterator[Any]:
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from _callbacks(pattern.url_patterns)
        elif getattr(pattern, "callback", None) is not None:
            yield pattern.callback


def check_views(app_configs: Any, **_: Any) -> List[checks.CheckMessage]:
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    found: List[checks.CheckMessage] = []
    seen, cached = set(), False
    for callback in _callbacks(get_resolver().url_patterns):
        view = getattr(callback, "cls", None) or getattr(callback, "view_class", None)
        cached = cached or hasattr(callback, "etagd_scope")
        if view is None or view in seen:
            continue
        seen.add(view)
        if hasattr(view.dispatch, "etagd_scope"):
            cached = True
            found += _check_dispatch(view)
        found_here = _check_view(view)
        if found_here is not None:
            cached = True
            found += found_here
    if cached and MIDDLEWARE not in (settings.MIDDLEWARE or []):
        found.append(checks.Error(f"views are cached by etagd, but {MIDDLEWARE} is not in MIDDLEWARE", id="etagd.E005"))
    return found


def _check_dispatch(view: Any) -> List[checks.CheckMessage]:
    decides = decides_in_dispatch(view)
    if decides is None:
        return []
    return [checks.Error(
        f"{view.__module__}.{view.__name__}: a hit is answered before {decides.__name__}.dispatch(), which may decide about access", obj=view,
        id="etagd.E006", hint='Decorate the method: @method_decorator(etag_cached(...), name="get").')]


def _check_view(view: Any) -> Any:
    """None: not one of ours."""
    try:
        from .rest import APIView, ETagMixin
    except ImportError:
        return None
    if not issubclass(view, ETagMixin):
        return None
    found: List[checks.CheckMessage] = []
    if not callable(view.etag_scope) and view.etag_scope is not etagd.PUBLIC:
        found.append(checks.Error(
            f"{view.__module__}.{view.__name__} has no etag_scope", obj=view, id="etagd.E001",
            hint="Say whose its answers are: a method etag_scope(self, request) that returns text, or etagd.PUBLIC."))
    if APIView not in view.__mro__ or view.__mro__.index(ETagMixin) > view.__mro__.index(APIView):
        found.append(checks.Error(f"{view.__module__}.{view.__name__}: ETagMixin must come first among the bases", obj=view,
                                  id="etagd.E004"))
    if view.etag_scope is etagd.PUBLIC and APIView in view.__mro__:
        if any(getattr(permission, "__name__", "") != "AllowAny" for permission in view.permission_classes):
            found.append(checks.Warning(
                f"{view.__module__}.{view.__name__} asks for permissions, and its etag_scope is public: are its answers the same "
                "for everybody who may have them?", obj=view, id="etagd.W001"))
    return found


def register() -> None:
    checks.register(check_settings, "etagd")
    checks.register(check_views, "etagd")
    checks.register(outbox_check.check_site, "etagd")
    checks.register(outbox_check.check_databases, checks.Tags.database)
    watched_check.register()
