# SPDX-License-Identifier: Apache-2.0
"""What a process keeps from one request to the next, so that a later one shows old data without reading anything.

    Site, ContentType       Django's dicts of them are not used within a request: it has dicts of its own, filled by SQL
    Django's cache          each call of a backend is noted, wherever the backend came from
    querysets, instances    have the mark of the request that read them; a later one that looks at them is not stored
    functools.lru_cache     of a function that has run SQL, read a file, asked the network or the clock: from then on nothing that this
                            process renders is stored

The last one is hard because a hit of lru_cache() runs no Python. What else keeps plain values (a dict at module level, a
cached_property of a long-lived object) cannot be seen.
"""
from __future__ import annotations

import functools
import gc
import sys
from functools import wraps
from typing import Any, Callable, Dict, Optional, Set

from django.apps import apps
from django.core.cache import CacheHandler
from django.core.cache.backends.base import BaseCache
from django.db.models import Model
from django.db.models.base import ModelState
from django.db.models.fields.related_descriptors import ForeignKeyDeferredAttribute
from django.db.models.query import QuerySet, RawQuerySet
from django.db.models.query_utils import DeferredAttribute
from django.db.models.signals import class_prepared

from etagd import _watch

from . import reads
from .conf import log, matches

# ---- Django's cache ----

# They give nothing of the cache back. set() is among them: what it stores, the request has.
_QUIET = frozenset(("set", "set_many", "aset", "aset_many", "close", "aclose", "clear", "aclear", "delete_many", "adelete_many"))
_PURE = frozenset(("make_key", "make_and_validate_key", "validate_key", "get_backend_timeout"))


def _noting(function: Callable[..., Any], quiet: bool) -> Callable[..., Any]:
    @wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        if not quiet:
            reads.used_cache()
            outside_runs()
        with reads.aside():  # its files and sockets are no others
            return function(*args, **kwargs)
    noted._etagd = True  # type: ignore[attr-defined]
    return noted


def _patch_backend(backend: Any) -> None:
    for name, found in list(vars(backend).items()):
        public = not name.startswith("_") or name == "__contains__"
        if public and name not in _PURE and callable(found) and not isinstance(found, type) and not hasattr(found, "_etagd"):
            setattr(backend, name, _noting(found, name in _QUIET))


def _patch_caches() -> None:
    """Of all backends: those of today and later ones."""
    waiting = [BaseCache]
    while waiting:
        backend = waiting.pop()
        _patch_backend(backend)
        waiting += backend.__subclasses__()

    def patched_subclass(cls: Any, **more: Any) -> None:
        super(BaseCache, cls).__init_subclass__(**more)
        _patch_backend(cls)

    BaseCache.__init_subclass__ = classmethod(patched_subclass)  # type: ignore[assignment]
    create = CacheHandler.create_connection

    @wraps(create)
    def patched_create(self: Any, alias: str) -> Any:
        backend = create(self, alias)
        if not isinstance(backend, BaseCache):  # nothing asks it to be one
            _patch_backend(type(backend))
        return backend

    CacheHandler.create_connection = patched_create


# ---- Sites and content types ----


def _own(key: Any, make: Callable[[], Any]) -> Any:
    """Of the request that runs. None: there is none, or it wrote, which Django takes out of its own."""
    noted = reads.noting()
    if noted is None or noted.wrote:
        return None
    if key not in noted.kept:
        noted.kept[key] = make()
    return noted.kept[key]


def _patch_sites(sites: Any) -> None:
    manager = sites.SiteManager
    by_id, by_request = manager._get_site_by_id, manager._get_site_by_request

    @wraps(by_id)
    def own_by_id(self: Any, site_id: Any) -> Any:
        return _own(("site", self.db, site_id), lambda: self.get(pk=site_id)) or by_id(self, site_id)

    def find(self: Any, host: str) -> Any:
        try:
            return self.get(domain__iexact=host)
        except sites.Site.DoesNotExist:
            return self.get(domain__iexact=sites.split_domain_port(host)[0])

    @wraps(by_request)
    def own_by_request(self: Any, request: Any) -> Any:
        host = request.get_host()
        return _own(("site", self.db, host), lambda: find(self, host)) or by_request(self, request)

    manager._get_site_by_id, manager._get_site_by_request = own_by_id, own_by_request


class _OwnDict:
    """An attribute that holds one dict for the process, and one for each request."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        kept = instance.__dict__[self.name]
        own = _own((self.name, id(kept)), dict)
        return kept if own is None else own

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.name] = value


# ---- Querysets and instances ----


def _mark() -> Optional[int]:
    noted = reads.current.get()
    return None if noted is None else noted.mark


def _filled_by_other(queryset: Any, noted: reads.Reads) -> None:
    """noted looks at rows with another mark than its own."""
    if not noted.done and queryset.__dict__.get("_etagd_mark") != noted.mark:
        noted.spoil("kept_queryset", queryset.model._meta.label)


def _patch_querysets() -> None:
    for kind in (QuerySet, RawQuerySet):
        kind._result_cache = _watch.Rows(reads.current, _filled_by_other)
    restore = QuerySet.__setstate__

    @wraps(restore)
    def marked(self: Any, state: Any) -> None:
        restore(self, state)
        if reads.is_aside():  # out of Django's cache, which is noted by itself
            self.__dict__["_etagd_mark"] = _mark()

    QuerySet.__setstate__ = marked


_COLUMNS = (DeferredAttribute, ForeignKeyDeferredAttribute)  # others have a life of their own


def _patch_instances() -> None:
    """Fields become data descriptors, as Django's own of foreign keys and files are, so that a look at them is seen."""
    get, restore = DeferredAttribute.__get__, Model.__setstate__
    ModelState._etagd_mark = None  # type: ignore[attr-defined]

    current = reads.current.get

    def marked_state(self: Any) -> None:
        noted = current()
        if noted is not None:
            self._etagd_mark = noted.mark

    @wraps(get)
    def noted_get(self: Any, instance: Any, cls: Any = None) -> Any:
        """Runs for each field that is looked at."""
        if instance is None:
            return self
        data, noted = instance.__dict__, current()
        try:
            if noted is not None and data["_state"]._etagd_mark != noted.mark and not noted.done:
                noted.spoil("kept_instance", instance._meta.label)
            return data[self.field.attname]
        except KeyError:
            return get(self, instance, cls)

    def plain_set(self: Any, instance: Any, value: Any) -> None:
        instance.__dict__[self.field.attname] = value

    def plain_delete(self: Any, instance: Any) -> None:
        """Then the next look asks the database."""
        try:
            del instance.__dict__[self.field.attname]
        except KeyError:
            raise AttributeError(self.field.attname) from None

    @wraps(restore)
    def marked(self: Any, state: Any) -> None:
        restore(self, state)
        if reads.is_aside() and "_state" in self.__dict__:
            self._state._etagd_mark = _mark()

    ModelState.__init__ = marked_state  # type: ignore[method-assign,assignment]
    DeferredAttribute.__get__ = noted_get
    if not hasattr(DeferredAttribute, "__set__"):
        DeferredAttribute.__set__, DeferredAttribute.__delete__ = plain_set, plain_delete
    Model.__setstate__ = marked
    class_prepared.connect(_watch_fields, dispatch_uid="etagd")
    for model in apps.get_models(include_auto_created=True, include_swapped=True):
        _watch_fields(model)


def _watch_fields(sender: Any, **_: Any) -> None:
    """Most looks are at the request's own instances, which C sees; the others go on to Django's descriptor."""
    for kind in sender.__mro__:
        for name, found in list(vars(kind).items()):
            if type(found) in _COLUMNS:
                setattr(kind, name, _watch.Field(found, found.field.attname, reads.current, type(found) is DeferredAttribute))


# ---- Functions that remember ----

_early: Set[Any] = set()  # code objects under which SQL ran before the first request
_remembering: Dict[Any, str] = {}  # code of functions that are wrapped by lru_cache() -> their name
_modules: Set[Any] = set()  # where they are: to ask each frame for its code is an event for audit hooks, which costs a hundred times more
_looks = False  # is there any?
_filled: Dict[str, bool] = {}  # names of those that ran SQL, or took something from outside
_serving = False
# What these keep is part of the release, as installed files are.
_INSTALLED = frozenset(getattr(sys, "stdlib_module_names", ("importlib", "zoneinfo"))) | \
    {"asgiref", "django", "etagd", "psycopg", "psycopg2", "typing_extensions"}


def remembers(function: Any, name: str) -> None:
    """What SQL under it brings is kept."""
    global _looks
    _remembering[function.__code__] = name
    _modules.add(function.__globals__.get("__name__"))
    _looks = True


def answers_requests(function: Any) -> Any:
    """What calls this function remembers whole responses, if anything: what the middlewares after it answer. No look goes further
    out, since each frame costs."""
    _remembering[function.__code__] = ""
    _modules.add(function.__globals__.get("__name__"))
    return function


def _learn(wrapper: Any) -> None:
    function = getattr(wrapper, "__wrapped__", None)
    code = getattr(function, "__code__", None)
    if code is not None and function.__module__.partition(".")[0] not in _INSTALLED:
        remembers(function, f"{function.__module__}.{function.__qualname__}")


def _patch_lru_cache() -> None:
    """The wrappers of today, and of modules that are imported later."""
    decorate = functools.lru_cache

    @wraps(decorate)
    def learning(maxsize: Any = 128, typed: bool = False) -> Any:
        made = decorate(maxsize, typed)
        if isinstance(made, functools._lru_cache_wrapper):  # type: ignore[attr-defined]
            _learn(made)
            return made

        def wrap(function: Any) -> Any:
            wrapper = made(function)
            _learn(wrapper)
            return wrapper
        return wrap

    functools.lru_cache = learning  # type: ignore[assignment]
    kind = functools._lru_cache_wrapper  # type: ignore[attr-defined]
    for found in gc.get_objects():
        if type(found) is kind:
            _learn(found)


def _recall() -> None:
    """Those that ran SQL before there was anybody to answer."""
    for code in _early.copy():
        if _remembering.get(code):
            _fills(_remembering[code])
    _early.clear()


def _fills(name: str) -> None:
    if name in _filled:
        return
    _filled[name] = True
    if not matches("TRUST_MEMORY", name):
        log.warning("etagd: %s remembers what it read from the database or from outside, so nothing that this process renders is stored from now on: "
                    'keep it for one request only, or name it in ETAGD["TRUST_MEMORY"] if it never changes', name)


def sql_runs() -> None:
    """Notes whose memory it goes into: the functions that wait for it."""
    if _looks or not _serving:
        _goes_into_memory(sys._getframe(2))


def outside_runs() -> None:
    """The same, of a file, the network, the clock, Django's cache."""
    if _looks and _serving and not reads.is_aside():
        _goes_into_memory(sys._getframe(2))


def _goes_into_memory(frame: Any) -> None:
    if not _serving:
        while frame is not None:
            _early.add(frame.f_code)
            frame = frame.f_back
        return
    remembering, modules = _remembering, _modules
    while frame is not None:
        if frame.f_globals.get("__name__") in modules and frame.f_code in remembering:
            name = remembering[frame.f_code]
            if not name:
                return
            _fills(name)
        frame = frame.f_back


def memory() -> str:
    """The name of a function that remembers what it read, and perhaps gave it to any request; "": none."""
    for name in list(_filled):
        if not matches("TRUST_MEMORY", name):
            return name
    return ""


def install() -> None:
    global _serving
    _patch_caches()
    _patch_querysets()
    _patch_instances()
    if "django.contrib.sites.models" in sys.modules:
        _patch_sites(sys.modules["django.contrib.sites.models"])
    if "django.contrib.contenttypes.models" in sys.modules:
        sys.modules["django.contrib.contenttypes.models"].ContentTypeManager._cache = _OwnDict("_cache")
    _patch_lru_cache()
    _serving = True
    _recall()
