# SPDX-License-Identifier: Apache-2.0
"""For views that are no DRF viewsets: functions, and classes by their dispatch()."""
from __future__ import annotations

import sys
from calendar import timegm
from functools import wraps
from typing import Any, Callable, Iterable, Optional, Sequence

from django.core.exceptions import ImproperlyConfigured
from django.utils.decorators import method_decorator
from django.utils.http import http_date, quote_etag
from django.views.generic.base import View

import etagd

from . import kept, loop
from . import surrogates as names
from .exchange import _UNSET, SAFE, TRUSTED, Plan, answer_with, by_weak_date, judge, method_of
from .sources import requested


def plan_of(scope: Any, surrogates: Any, args: Sequence[Any], kwargs: Any, **options: Any) -> Plan:
    """scope, surrogates: values, or callables that get the view's arguments."""
    if scope is not None and scope is not etagd.PUBLIC:
        with requested.InScope(args[0]):
            scope = _called(scope, args, kwargs)
    if callable(surrogates):
        surrogates = _called(surrogates, args, kwargs)
    return _plan(scope, surrogates, options)


def _called(function: Callable[..., Any], args: Sequence[Any], kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except TypeError:
        loop.fits(function, args, kwargs)
        raise


async def _plan_on_loop(scope: Any, surrogates: Any, args: Sequence[Any], kwargs: Any, **options: Any) -> Plan:
    """The same, where the callables may be coroutine functions."""
    if scope is not None and scope is not etagd.PUBLIC:
        with requested.InScope(args[0]):
            scope = await loop.called(scope, args, kwargs)
    if callable(surrogates):
        surrogates = await loop.called(surrogates, args, kwargs)
    return _plan(scope, surrogates, options)


def _plan(scope: Any, surrogates: Any, options: Any) -> Plan:
    if scope is not None and scope is not etagd.PUBLIC and not (isinstance(scope, str) and scope):
        raise ImproperlyConfigured(f"etagd: a scope is text, etagd.PUBLIC or None (then nothing is cached), not {scope!r}")
    return Plan(scope, names.said(surrogates) if surrogates else (), **options)


def check_scope(scope: Any) -> None:
    if scope is not etagd.PUBLIC and not callable(scope):
        raise ImproperlyConfigured("etagd: scope must be a callable that says whose the answer is, or etagd.PUBLIC")


def check_trust(trust: Any, whose: str) -> None:
    wrong = sorted(set((trust,) if isinstance(trust, str) else trust) - TRUSTED)
    if wrong:
        raise ImproperlyConfigured(f"etagd: {whose} names {', '.join(map(repr, wrong))}; a view may trust {', '.join(sorted(TRUSTED))}")


# ---- Who decides about access within a view? A hit is answered before it runs ----

_GUARDS = ("django.contrib.auth.decorators", "django.contrib.admin.views.decorators")


def is_api_view(view: Any) -> bool:
    """Of Django REST framework: authentication and permissions are asked in its initial()."""
    framework = sys.modules.get("rest_framework.views")
    return framework is not None and isinstance(view, type) and issubclass(view, framework.APIView)


def decides_in_dispatch(view: type) -> Optional[type]:
    """The class under etag_cached() that has a dispatch() of its own: LoginRequiredMixin and its like. None: Django's alone."""
    for base in view.__mro__:
        if "dispatch" in vars(base) and not hasattr(vars(base)["dispatch"], "etagd_scope"):
            return None if base is View else base
    return None


def decides_inside(view: Any, vary: Optional[Sequence[str]] = None) -> str:
    """Who decides about access within a view that is a function; "": no known one. Where the key has the cookie, the session
    that Django's decorators ask is the entry's own, and its row is noted."""
    made_of = getattr(view, "cls", None) or getattr(view, "view_class", None)
    if made_of is not None and is_api_view(made_of):
        return f"{made_of.__name__}, a view of Django REST framework,"
    decides = None if made_of is None else decides_in_dispatch(made_of)
    if decides is not None:
        return f"dispatch() of {decides.__name__}"
    by_session = any(name.lower() == "cookie" for name in Plan(None, vary=vary).vary_names)
    while view is not None and not by_session:
        if getattr(view, "__globals__", {}).get("__name__") in _GUARDS:
            return "a decorator of " + view.__globals__["__name__"]
        view = getattr(view, "__wrapped__", None)
    return ""


def etag_cached(*, scope: Any, surrogates: Any = None, vary: Optional[Sequence[str]] = None, max_age_s: Optional[int] = None,
                cache_control: Any = _UNSET, cache_control_unsafe: Any = _UNSET, require_if_match: bool = False,
                trust_cache: bool = False, trust: Sequence[str] = ()) -> Callable[[Any], Any]:
    """Answers 304 from etagd before the view runs, and fills etagd with what it answered.

        @login_required                     what decides about access is outside: it comes first
        @etag_cached(scope=lambda request, *args, **kwargs: f"user:{request.user.pk}")
        def page(request): ...

    scope: a callable with the view's arguments that says whose the answer is, or etagd.PUBLIC; None of it: not cached.
    surrogates: names, or a callable for them: what the answer depends on besides the rows that it reads.
    Of a class it decorates dispatch(), where no base has a dispatch() of its own, which a hit would not ask. The view may be a coroutine
    function; then the callables may be too."""
    check_scope(scope)
    check_trust(trust, "trust")
    options = {"vary": vary, "max_age_s": max_age_s, "cache_control": cache_control, "cache_control_unsafe": cache_control_unsafe,
               "require_if_match": require_if_match, "trust_cache": trust_cache, "trust": trust}

    def decorate(view: Any) -> Any:
        if isinstance(view, type):
            decides = decides_in_dispatch(view)
            if decides is not None:
                raise ImproperlyConfigured(
                    f"etagd: dispatch() of {decides.__name__} runs before {view.__name__}'s methods, and may decide about access: a hit would "
                    'be answered before it. Decorate the method: @method_decorator(etag_cached(...), name="get")')
            view.dispatch = method_decorator(decorate)(view.dispatch)
            return view
        inside = decides_inside(view, vary)
        if inside:
            raise ImproperlyConfigured(
                f"etagd: {inside} decides about access within what etag_cached() decorates: a hit would be answered before it. "
                "etag_cached() belongs below what decides: below @login_required and @api_view, or on the method of a class; or ETagMixin")

        @wraps(view)
        @kept.answers_requests
        def cached(request: Any, *args: Any, **kwargs: Any) -> Any:
            plan = plan_of(scope, surrogates, (request, *args), kwargs, **options)
            answered = _check(request, plan)
            return _in_view(request, view, args, kwargs) if answered is None else answered

        @wraps(view)
        @kept.answers_requests
        async def cached_on_loop(request: Any, *args: Any, **kwargs: Any) -> Any:
            plan = await _plan_on_loop(scope, surrogates, (request, *args), kwargs, **options)
            answered = _check(request, plan)
            return await _in_view_on_loop(request, view, args, kwargs) if answered is None else answered

        made: Any = cached_on_loop if loop.is_async_view(view) else cached
        made.etagd_scope = scope
        return made

    return decorate


def _check(request: Any, plan: Plan) -> Any:
    exchange = getattr(request, "_etagd", None)
    if exchange is None or exchange.plan is not None:  # without our middleware; or another's inside
        return None
    return exchange.check(plan)


def _in_view(request: Any, view: Any, args: Any, kwargs: Any) -> Any:
    try:
        return view(request, *args, **kwargs)
    finally:
        requested.left_view(request)


async def _in_view_on_loop(request: Any, view: Any, args: Any, kwargs: Any) -> Any:
    try:
        return await loop.awaited(view(request, *args, **kwargs))
    finally:
        requested.left_view(request)


def condition(etag_func: Optional[Callable[..., Any]] = None, last_modified_func: Optional[Callable[..., Any]] = None, *,
              scope: Any = None, surrogates: Any = None, **options: Any) -> Callable[[Any], Any]:
    """django.views.decorators.http.condition, judged by libetag. With a scope it is etag_cached() too: then neither function is
    called on a hit. All three may be coroutine functions if the view is one."""

    def decorate(view: Any) -> Any:
        @wraps(view)
        def judged(request: Any, *args: Any, **kwargs: Any) -> Any:
            etag = _called(etag_func, (request, *args), kwargs) if etag_func else None
            changed = _called(last_modified_func, (request, *args), kwargs) if last_modified_func else None
            known = _Known(etag, changed)
            answered = known.judge(request, scope)
            return known.complete(request, view(request, *args, **kwargs)) if answered is None else answered

        @wraps(view)
        async def judged_on_loop(request: Any, *args: Any, **kwargs: Any) -> Any:
            etag = await loop.called(etag_func, (request, *args), kwargs) if etag_func else None
            changed = await loop.called(last_modified_func, (request, *args), kwargs) if last_modified_func else None
            known = _Known(etag, changed)
            answered = known.judge(request, scope)
            if answered is not None:
                return answered
            return known.complete(request, await loop.awaited(view(request, *args, **kwargs)))

        made = judged_on_loop if loop.is_async_view(view) else judged
        return made if scope is None else etag_cached(scope=scope, surrogates=surrogates, **options)(made)

    return decorate


class _Known:
    """What the functions of condition() say of the representation."""

    def __init__(self, etag: Optional[str], changed: Any) -> None:
        etag = quote_etag(etag) if etag is not None else None
        seconds = timegm(changed.utctimetuple()) if changed is not None else None
        existence = etagd.Existence.ABSENT if etag is None and seconds is None else etagd.Existence.EXISTS
        self.validators = etagd.Validators(existence, etag, seconds)
        self.fields = [] if etag is None else [("ETag", etag)]
        if seconds is not None:
            self.fields.append(("Last-Modified", http_date(seconds)))

    def judge(self, request: Any, scope: Any) -> Any:
        """An answer, or None: the view has to run."""
        status = judge(request, self.validators)
        if status and not (status == 304 and scope is not None and by_weak_date(request)):
            return answer_with(status, self.fields)
        return None

    def complete(self, request: Any, response: Any) -> Any:
        if method_of(request) in SAFE:
            for name, value in self.fields:
                if not response.has_header(name):
                    response[name] = value
        return response


def etag(etag_func: Callable[..., Any], **options: Any) -> Callable[[Any], Any]:
    return condition(etag_func=etag_func, **options)


def last_modified(last_modified_func: Callable[..., Any], **options: Any) -> Callable[[Any], Any]:
    return condition(last_modified_func=last_modified_func, **options)


def depends_on(request: Any, surrogates: Iterable[str] = (), instances: Iterable[Any] = ()) -> None:
    """Called by a view: its answer depends on these too, beyond the rows that Django's statements show."""
    exchange = getattr(request, "_etagd", None) or getattr(getattr(request, "_request", None), "_etagd", None)
    if exchange is not None:
        exchange.reads.said(names.said(surrogates))
        for instance in instances:
            exchange.reads.instance(instance)
