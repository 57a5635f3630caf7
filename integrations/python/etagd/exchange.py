# SPDX-License-Identifier: Apache-2.0
"""One request and its answer, for every framework: etagd.asgi and etagd.wsgi carry it, etagd.fastapi and etagd.flask ask for it.

    the token      when the outermost middleware gets the request, before anything is read
    the look-up    after authentication, where the application says whose answer it is
    the fill       after the answer, with the names on which the application said that it depends

Nothing is tracked in secret: depends() names what an answer was made of. What may be stored, what a 304 carries and how
conditions are judged is libetag's matter; here is only how a framework's values become its own.
"""
from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any, Callable, Iterable, List, Optional, Sequence, Tuple, Union

from .client import Client
from .errors import EtagError
from .model import PUBLIC, Answer, Key, Request, Resource, Response, Text, Token, _Public

log = logging.getLogger("etagd")

Fields = List[Tuple[str, str]]
ScopeOf = Callable[[Any], Union[_Public, Text, None]]
GivenScope = Union[_Public, Text, ScopeOf]

_CONDITIONS = frozenset(("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"))
# Fields of an answer that are about the request or the connection, and not about the body: a 304 keeps those that middlewares added.
_OF_REQUEST = ("access-control-", "set-cookie")
HELD_BYTES_MAX = 1 << 20


class _ByEndpoint:
    def __repr__(self) -> str:
        return "etagd.BY_ENDPOINT"


BY_ENDPOINT: Any = _ByEndpoint()
"""The scope of a middleware whose endpoints each say whose answer theirs is, by check()."""


class Rules:
    """How an application's answers are cached: the options of a middleware.

    scope          whose answers they are: etagd.PUBLIC, the name of a tenant or principal, a function of the request that returns
                   one of both or None (not cached), or BY_ENDPOINT. There is no default.
    client         None: a Client of the process' own
    vary           request header fields that select the representation. An answer whose Vary names another one is not stored
    release        whatever else makes bodies differ, such as the deployed version
    max_age_s      time to live in the cache; 0: until it is invalidated
    hash_bodies    an answer without an ETag gets one, by its body's hash (GET, 200, bodies up to held_bytes_max that come as a whole)
    held_bytes_max longer answers, and those whose length is not known before, pass through and are not stored
    last_modified_is_strong  no two versions have the same Last-Modified second; else a date alone makes no 304
    require_if_match  428 for writes without a condition
    explain        answers say in X-Etag-Cache what was found and why
    """

    def __init__(self, *, scope: GivenScope, client: Optional[Client] = None, vary: Sequence[str] = ("Accept", "Accept-Encoding"),
                 release: Optional[str] = None, max_age_s: int = 0, hash_bodies: bool = True, held_bytes_max: int = HELD_BYTES_MAX,
                 last_modified_is_strong: bool = False, require_if_match: bool = False, explain: bool = False) -> None:
        if scope is not BY_ENDPOINT and scope is not PUBLIC and not callable(scope) and not (isinstance(scope, (str, bytes)) and scope):
            raise ValueError(f"scope cannot be {scope!r}; allowed are etagd.PUBLIC (the same for everybody), the name of a tenant or "
                             "principal, a function of the request, and etagd.BY_ENDPOINT")
        if isinstance(vary, (str, bytes)):
            raise TypeError(f"vary is a list of names, not one: [{vary!r}]")
        self.scope = scope
        self.client = client if client is not None else Client()
        self.vary = tuple(name.lower() for name in vary)
        self.release = release
        self.max_age_s = max_age_s
        self.hash_bodies = hash_bodies
        self.held_bytes_max = held_bytes_max
        self.last_modified_is_strong = last_modified_is_strong
        self.require_if_match = require_if_match
        self.explain = explain


class Answered(Exception):
    """Leaves a handler whose answer is known already (304, 412, 428). The middleware sends it; nothing else has to be done."""

    def __init__(self, exchange: "Exchange") -> None:
        super().__init__(f"answered with {exchange.status}")
        self.exchange = exchange


class Exchange:
    """A request, from its token to its fill. Of one thread or task at a time, but for depends(), which any may call."""

    __slots__ = ("rules", "request", "method", "host", "target", "scheme", "fields", "token", "surrogates", "status", "reason",
                 "_asked", "_answer", "_refusal")

    def __init__(self, rules: Rules) -> None:
        """Takes the token: nothing of the request may have been read before."""
        self.rules = rules
        self.token = Token()
        self.request: Any = None  # the framework's, for a scope that is a function
        self.method = ""
        self.host: Optional[str] = None
        self.target = ""
        self.scheme = ""
        self.fields: Fields = []
        self.surrogates: set[str] = set()
        self.status = 0  # to send in the place of the handler's answer: 304, 412, 428
        self.reason = "not_checked"  # a word of libetag's, or one of ours
        self._asked: Optional[Request] = None
        self._answer: Optional[Answer] = None
        self._refusal = ""
        try:
            self.token = rules.client.token()
        except EtagError as error:
            self.reason = self._refusal = type(error).__name__.lower()

    def begin(self, request: Any, method: str, scheme: str, host: Optional[str], target: str, fields: Fields) -> None:
        """fields: the request's, names in lower case."""
        self.request, self.method, self.scheme, self.host, self.target, self.fields = request, method, scheme, host, target, fields

    # ---- Before the handler ----

    def check(self, scope: Optional[GivenScope] = None, surrogates: Iterable[str] = ()) -> int:
        """Looks the answer up. Call it after authentication and authorization: a 304 says that the page exists, and that this
        client may see it. scope: the middleware's if it is None. surrogates: as depends().
        Returns the status to send at once (304, 412, 428), or 0: run the handler."""
        self.depends(surrogates)
        given = self.rules.scope if scope is None else scope
        whose = given(self.request) if callable(given) else given
        if self._asked is not None or self._refusal:
            return self.status
        if whose is BY_ENDPOINT or whose is None or whose == "" or whose == b"":
            self.reason = "no_scope"
            return 0
        key = Key(Resource(self.host, self.target), whose, self.rules.release,
                  [(name, self._field(name)) for name in self.rules.vary], self.scheme)
        asked = Request(self.method, key, [field for field in self.fields if field[0] in _CONDITIONS],
                        require_if_match=self.rules.require_if_match)
        try:
            answer = self.rules.client.check(asked, self.token)
        except EtagError as error:
            self.reason = type(error).__name__.lower()
            return 0
        self._asked, self._answer, self.reason = asked, answer, answer.reason
        self.status = answer.http_status
        return self.status

    def _field(self, name: str) -> Optional[str]:
        """Several lines of one field are one value, as RFC 9110 section 5.3 joins them."""
        found = [value for its, value in self.fields if its == name]
        return ", ".join(found) if found else None

    def depends(self, surrogates: Iterable[str]) -> None:
        if isinstance(surrogates, (str, bytes)):
            raise TypeError(f"a list of names is wanted, not one: [{surrogates!r}]")
        self.surrogates.update(surrogates)

    def withhold(self, reason: str) -> None:
        """The answer must not be stored, for a reason that its fields do not show."""
        self._refusal = self._refusal or reason

    # ---- After it ----

    @property
    def is_checked(self) -> bool:
        """Is the answer of use to the cache? Else it passes through."""
        return self._answer is not None

    def from_memory(self, fields: Fields) -> Fields:
        """The fields of the answer that check() found. fields: what the handler's frameworks and middlewares made of it."""
        assert self._answer is not None
        return self._instead(self._answer, fields)

    def finish(self, status: int, fields: Fields, body: bytes) -> Tuple[int, Fields]:
        """Tells the daemon what was rendered, as a whole, and judges the conditions by it. Returns the status to send and its
        fields: those that were given, or a 304 or 412 without a body. Never waits."""
        if self._asked is None or self._answer is None:
            return status, fields
        client = self.rules.client
        try:
            if self.rules.hash_bodies and self.method == "GET" and status == 200 and body and not _has(fields, "etag"):
                fields = [*fields, ("ETag", client.hash(body))]
            response = Response(fields, status, surrogates=sorted(self.surrogates), max_age_s=self.rules.max_age_s,
                                last_modified_is_strong=self.rules.last_modified_is_strong,
                                had_authorization=_has(self.fields, "authorization"), withheld=bool(self._refusal))
            instead, ended = client.finish(self._asked, response, self._answer)
            self._refusal = self._refusal or client.fill_reason()
        except EtagError as error:
            self._refusal = type(error).__name__.lower()
            return status, fields
        return (status, fields) if instead == status else (instead, self._instead(ended, fields))

    @staticmethod
    def _instead(answer: Answer, fields: Fields) -> Fields:
        """A 304's fields take the place of those that are stored with the body (RFC 9111 section 3.2), so it has those of the 200
        and no others, but for fields that are about this request."""
        known = answer.fields
        names = {name.lower() for name, _ in known}
        return known + [field for field in fields if field[0].lower().startswith(_OF_REQUEST) and field[0].lower() not in names]

    def explain(self) -> str:
        """The value of X-Etag-Cache."""
        if self.status == 304:
            return f"hit; reason={self.reason}"
        if self.status:
            return f"refused; reason={self.reason}"
        if self._answer is None:
            return f"bypass; reason={self._refusal or self.reason}"
        return f"miss; reason={self.reason}; fill={self._refusal or 'none'}"


def _has(fields: Fields, name: str) -> bool:
    return any(its.lower() == name for its, _ in fields)


# ---- What the application says from anywhere below ----

current: "ContextVar[Optional[Exchange]]" = ContextVar("etagd.exchange", default=None)


def depends(*surrogates: str) -> None:
    """The answer to the current request depends on these names: a write to what they name invalidates them. Outside
    of a request it does nothing, so that code which jobs use too may call it."""
    exchange = current.get()
    if exchange is not None:
        exchange.depends(surrogates)


def withhold(reason: str = "withheld") -> None:
    """The answer to the current request must not be stored. reason: one word for people."""
    exchange = current.get()
    if exchange is not None:
        exchange.withhold(reason)
