# SPDX-License-Identifier: Apache-2.0
"""For views that are no DRF viewsets: functions, and classes by their dispatch()."""
from __future__ import annotations

from calendar import timegm
from functools import wraps
from typing import Any, Callable, Iterable, Optional, Sequence

from django.core.exceptions import ImproperlyConfigured
from django.utils.decorators import method_decorator
from django.utils.http import http_date, quote_etag

import etagd

from . import surrogates as names
from .exchange import _UNSET, SAFE, Plan, answer_with, by_weak_date, judge


def plan_of(scope: Any, surrogates: Any, args: Sequence[Any], kwargs: Any, **options: Any) -> Plan:
    """scope, surrogates: values, or callables that get the view's arguments."""
    if scope is not None and scope is not etagd.PUBLIC:
        scope = scope(*args, **kwargs)
        if scope is not None and scope is not etagd.PUBLIC and not (isinstance(scope, str) and scope):
            raise ImproperlyConfigured(f"etagd: a scope is text, etagd.PUBLIC or None (then nothing is cached), not {scope!r}")
    if callable(surrogates):
        surrogates = surrogates(*args, **kwargs)
    return Plan(scope, names.said(surrogates or ()), **options)


def check_scope(scope: Any) -> None:
    if scope is not etagd.PUBLIC and not callable(scope):
        raise ImproperlyConfigured("etagd: scope must be a callable that says whose the answer is, or etagd.PUBLIC")


def etag_cached(*, scope: Any, surrogates: Any = None, vary: Optional[Sequence[str]] = None, max_age_s: Optional[int] = None,
                cache_control: Any = _UNSET, cache_control_unsafe: Any = _UNSET, require_if_match: bool = False,
                trust_cache: bool = False, trust: Sequence[str] = ()) -> Callable[[Any], Any]:
    """Answers 304 from etagd before the view runs, and fills etagd with what it answered.

        @login_required                     what decides about access stands outside: it comes first
        @etag_cached(scope=lambda request, *args, **kwargs: f"user:{request.user.pk}")
        def page(request): ...

    scope: a callable with the view's arguments that says whose the answer is, or etagd.PUBLIC; None of it: not cached.
    surrogates: names, or a callable for them: what the answer depends on besides the rows that it reads.
    Of a class it decorates dispatch()."""
    check_scope(scope)

    def decorate(view: Any) -> Any:
        if isinstance(view, type):
            view.dispatch = method_decorator(decorate)(view.dispatch)
            return view

        @wraps(view)
        def cached(request: Any, *args: Any, **kwargs: Any) -> Any:
            exchange = getattr(request, "_etagd", None)
            plan = plan_of(scope, surrogates, (request, *args), kwargs, vary=vary, max_age_s=max_age_s,
                           cache_control=cache_control, cache_control_unsafe=cache_control_unsafe,
                           require_if_match=require_if_match, trust_cache=trust_cache, trust=trust)
            if exchange is None or exchange.plan is not None:  # without our middleware; or another's inside
                return view(request, *args, **kwargs)
            answered = exchange.check(plan)
            return view(request, *args, **kwargs) if answered is None else answered

        cached.etagd_scope = scope
        return cached

    return decorate


def condition(etag_func: Optional[Callable[..., Any]] = None, last_modified_func: Optional[Callable[..., Any]] = None, *,
              scope: Any = None, surrogates: Any = None, **options: Any) -> Callable[[Any], Any]:
    """django.views.decorators.http.condition, judged by libetag. With a scope it is etag_cached() too: then neither function is
    called on a hit."""

    def decorate(view: Any) -> Any:
        @wraps(view)
        def judged(request: Any, *args: Any, **kwargs: Any) -> Any:
            etag = etag_func(request, *args, **kwargs) if etag_func else None
            etag = quote_etag(etag) if etag is not None else None
            changed = last_modified_func(request, *args, **kwargs) if last_modified_func else None
            seconds = timegm(changed.utctimetuple()) if changed is not None else None
            existence = etagd.Existence.ABSENT if etag is None and seconds is None else etagd.Existence.EXISTS
            fields = [] if etag is None else [("ETag", etag)]
            if seconds is not None:
                fields.append(("Last-Modified", http_date(seconds)))
            status = judge(request, etagd.Validators(existence, etag, seconds))
            if status and not (status == 304 and scope is not None and by_weak_date(request)):
                response = answer_with(status, fields)
            else:
                response = view(request, *args, **kwargs)
                if request.method in SAFE:
                    for name, value in fields:
                        if not response.has_header(name):
                            response[name] = value
            return response

        return judged if scope is None else etag_cached(scope=scope, surrogates=surrogates, **options)(judged)

    return decorate


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
