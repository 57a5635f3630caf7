# SPDX-License-Identifier: Apache-2.0
"""What of the request itself a page may show: its fields, its cookies, the client's address.

The key has the fields that VARY names, and the scope. A page that was chosen by another one (a banner unless a cookie is
there, a layout by User-Agent, a part of the page where HX-Request is sent) looks the same to the key, so it is not stored. Who reads
a field decides whether that counts:

    the view, templates        what they read may be in the page
    the scope                  what it reads is in the key
    the project's middlewares  may hand it to the view: counts where the scope is public; under another, which may be made of it (a
                               tenant's field, a user's token), if it says how a page looks
    Django, Django REST framework, installed middlewares
                               the language, the session, CSRF tokens and who is logged in have rules of their own; else they send Vary
"""
from __future__ import annotations

import sys
from functools import lru_cache, partial
from typing import Any, Dict, Iterator, Optional, Sequence, Set

from django.contrib.sessions.backends.base import SessionBase
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http.request import HttpHeaders, HttpRequest
from django.utils.functional import cached_property

from etagd import _watch

from .. import reads
from . import callers

# Of META: what the key has, or the server says of itself. Other names than HTTP_... are the client's (REMOTE_ADDR), or what a server in front
# found out about it (SSL_CLIENT_S_DN, GEOIP_COUNTRY_CODE).
_OF_SERVER = frozenset(("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_LENGTH", "GATEWAY_INTERFACE", "DOCUMENT_ROOT", "HTTPS",
                        "REQUEST_SCHEME", "TZ"))
_NO_FIELDS = ("SERVER_", "CSRF_")
_IN_KEY = frozenset(("Host", "Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range"))
_WHO = frozenset(("Authorization", "REMOTE_USER"))  # whose answer it is: a scope that is not public says it
_LOOKS = ("User-Agent", "Hx-", "Sec-", "Dnt", "Save-Data", "X-Requested-With")  # they say how a page is to be, not whose it is
# They read for whoever calls them ...
_BETWEEN = ("django.http.", "django.utils.datastructures", "django.utils.functional", "collections.abc", "contextlib", __name__)
_KEYS_OWN = frozenset(("scheme", "_get_scheme", "_get_raw_host", "get_host"))  # ... but these say what the key has
# ... and these for what is in no page, or has a rule of its own.
_ELSEWHERE = ("etagd.", "django.middleware.", "django.contrib.sessions.", "django.contrib.auth.", "django.contrib.messages.",
              "django.core.", "django.utils.", "django.views.csrf", "django.template.context_processors", "rest_framework.")
_TEMPLATES = "django.template."
# Of a view of Django REST framework: who may come in is asked before each hit, or said to be in the scope.
_WHO_MAY = frozenset(("perform_authentication", "check_permissions", "check_object_permissions", "check_throttles"))
_ASKED = "asked"
_QUIET_MAX = 1024


@lru_cache(maxsize=1024)
def _field(key: Any) -> str:
    """The field that a key of META means; "": none that a client chooses, or one that the key of an entry has."""
    if not isinstance(key, str):
        return ""
    if key == "CONTENT_TYPE":
        return "Content-Type"
    if key.startswith("HTTP_"):
        return _titled(key[5:])
    return "" if key in _OF_SERVER or key.startswith(_NO_FIELDS) or not key.isupper() else key


@lru_cache(maxsize=1024)
def _titled(name: str) -> str:
    titled = name.replace("_", "-").title()
    return "" if titled in _IN_KEY else titled


class Asked:
    """Of one request: which fields were read for what it answers."""

    def __init__(self, noted: reads.Reads) -> None:
        self._noted: Optional[reads.Reads] = noted  # None: it is over
        self._before: Dict[str, str] = {}  # by the project's middlewares; field or cookie -> the field
        self._shown: Dict[str, str] = {}
        self._by_scope: Dict[str, bool] = {}
        self.is_in_scope = False
        self.is_in_view = False
        self.is_checked = False

    def note(self, field: str, what: str = "") -> None:
        """what: which cookie."""
        what = f"cookie {what}" if what else field
        if not field or what in self._shown or self._noted is None or self._noted.done or reads.is_aside():
            return
        if self.is_in_scope:
            self._by_scope[field] = True
        elif self._is_shown():
            (self._shown if self.is_checked else self._before).setdefault(what, field)

    def close(self) -> None:
        self._noted = None

    def _is_shown(self) -> bool:
        frame: Any = sys._getframe(3)  # beyond what note() is called by, which is in this file
        module = frame.f_globals.get("__name__", "")
        while module.startswith(_BETWEEN):
            if frame.f_code.co_name in _KEYS_OWN:
                return False
            frame = frame.f_back
            if frame is None:
                return True
            module = frame.f_globals.get("__name__", "")
        if module.startswith(_ELSEWHERE):
            return False
        if not module.startswith(_TEMPLATES) and not callers.is_projects(module, frame.f_code.co_filename):
            return self.is_in_view or callers.is_within(frame, "django.template.base")
        return not callers.is_within(frame, "rest_framework.views", _WHO_MAY)

    @staticmethod
    def hint(what: str) -> str:
        """What lifts the refusal for it."""
        if what.isupper():  # no field
            return f"{what} in the scope"
        return '"%s" in VARY or in the scope' % ("Cookie" if what.startswith("cookie ") else what)

    def uncovered(self, vary: Sequence[str], is_public: bool) -> str:
        """A field that the answer may show and its key does not have, or ""."""
        known = {name.title() for name in vary}.union(self._by_scope)
        if not is_public:
            known |= _WHO
        before = {what: field for what, field in self._before.items() if is_public or field.startswith(_LOOKS)}
        found = {**before, **self._shown}
        return next((what for what, field in found.items() if field not in known), "")


def _asked_of(request: Any) -> Optional[Asked]:
    exchange = getattr(getattr(request, "_request", request), "_etagd", None)
    return None if exchange is None else exchange.asked


class InScope:
    """What is read within says whose the answer is, so the key has it."""

    __slots__ = ("_asked",)

    def __init__(self, request: Any) -> None:
        self._asked = _asked_of(request)

    def __enter__(self) -> None:
        if self._asked is not None:
            self._asked.is_in_scope = True

    def __exit__(self, *_: Any) -> None:
        if self._asked is not None:
            self._asked.is_in_scope = False


def left_view(request: Any) -> None:
    """What installed middlewares read after it is in no page."""
    asked = _asked_of(request)
    if asked is not None:
        asked.is_in_view = False


class _Noting(dict):
    """A dict that tells who reads from it. What is written to it is there for all as before."""

    asked: Asked

    def _note(self, key: Any) -> None:
        raise NotImplementedError

    def _note_all(self) -> None:
        for key in list(super().keys()):
            self._note(key)

    def __getitem__(self, key: Any) -> Any:
        self._note(key)
        return dict.__getitem__(self, key)

    def get(self, key: Any, default: Any = None) -> Any:
        self._note(key)
        return dict.get(self, key, default)

    def __contains__(self, key: Any) -> bool:
        self._note(key)
        return dict.__contains__(self, key)

    def pop(self, key: Any, *default: Any) -> Any:
        self._note(key)
        return super().pop(key, *default)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        self._note(key)
        return super().setdefault(key, default)

    def __iter__(self) -> Iterator[Any]:
        self._note_all()
        return super().__iter__()

    def keys(self) -> Any:
        self._note_all()
        return super().keys()

    def values(self) -> Any:
        self._note_all()
        return super().values()

    def items(self) -> Any:
        self._note_all()
        return super().items()

    def copy(self) -> Any:
        self._note_all()
        return dict(super().items())

    __copy__ = copy

    def __reduce__(self) -> Any:
        return dict, (list(super().items()),)


class _Meta(_watch.Meta, _Noting):
    """_watch.Meta: the three questions that are asked most, in C."""

    quiet: Set[str] = set()  # keys that are no field's

    def _note(self, key: Any) -> None:
        field = _field(key)
        if field:
            self.asked.note(field)
        elif isinstance(key, str) and len(self.quiet) < _QUIET_MAX:
            self.quiet.add(key)


class _Cookies(_Noting):
    def _note(self, key: Any) -> None:
        self.asked.note("Cookie", str(key))

    def _note_all(self) -> None:
        self.asked.note("Cookie")

    def __len__(self) -> int:
        self._note_all()
        return super().__len__()

    def __bool__(self) -> bool:
        return len(self) > 0


class _Unnoted:
    """Of a META, all that fields are made of; none was asked for yet."""

    def __init__(self, meta: Any) -> None:
        self.items = partial(dict.items, meta)


class _Headers(HttpHeaders):
    asked: Optional[Asked] = None  # None: not made yet

    def __getitem__(self, key: str) -> Any:
        if self.asked is not None:
            self.asked.note(_titled(key))
        return super().__getitem__(key)

    def __iter__(self) -> Any:
        if self.asked is not None:
            for name in self._store:
                self.asked.note(_titled(name))
        return super().__iter__()


def watch(request: Any, noted: reads.Reads) -> Asked:
    """Of what is read from this request. Its META becomes a copy: the server's environ stays as it is."""
    asked = noted.kept[_ASKED] = Asked(noted)
    given = getattr(request, "META", None)
    if type(given) is dict and isinstance(request, (WSGIRequest, ASGIRequest)):
        request.META = _noting(_Meta, given, asked)
        made = vars(request)
        made.pop("headers", None)
        if type(made.get("COOKIES")) is dict:
            made["COOKIES"] = _noting(_Cookies, made["COOKIES"], asked)
    return asked


def _noting(kind: Any, given: Dict[Any, Any], asked: Asked) -> Any:
    made = kind(given)
    made.asked = asked
    return made


def has_body(request: Any) -> bool:
    """A GET with a body may be answered by what it says, which the key has not."""
    said = request.META
    return dict.get(said, "CONTENT_LENGTH") not in (None, "", "0", 0) or bool(dict.get(said, "HTTP_TRANSFER_ENCODING"))


def _patch_headers() -> None:
    def headers(self: Any) -> Any:
        meta = self.META
        if type(meta) is not _Meta:
            return HttpHeaders(meta)
        made = _Headers(_Unnoted(meta))
        made.asked = meta.asked
        return made

    made = cached_property(headers)
    made.__set_name__(HttpRequest, "headers")
    HttpRequest.headers = made  # type: ignore[method-assign,assignment]


def _patch_cookies(owner: Any) -> None:
    original = vars(owner)["COOKIES"]
    parse = getattr(original, "real_func", None) or original.func

    def cookies(self: Any) -> Any:
        meta = self.META
        return _noting(_Cookies, parse(self), meta.asked) if type(meta) is _Meta else parse(self)

    made = cached_property(cookies)
    made.__set_name__(owner, "COOKIES")
    owner.COOKIES = made


def _patch_sessions() -> None:
    """That there is one, and which, says the cookie; a session that was asked for no more than that does not call itself accessed."""
    key = SessionBase.session_key.fget  # type: ignore[attr-defined]

    def session_key(self: Any) -> Any:
        noted = reads.noting()
        asked = None if noted is None else noted.kept.get(_ASKED)
        if asked is not None:
            asked.note("Cookie", "sessionid")
        return key(self)

    SessionBase.session_key = property(session_key)  # type: ignore[assignment]


def install() -> None:
    _patch_sessions()
    _patch_headers()
    for owner in (WSGIRequest, ASGIRequest):
        _patch_cookies(owner)
