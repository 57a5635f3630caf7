# SPDX-License-Identifier: Apache-2.0
"""WSGI middleware: Flask, Pyramid, Bottle, and what else speaks WSGI.

    app.wsgi_app = EtagMiddleware(app.wsgi_app, scope=etagd.BY_ENDPOINT)     outermost: it takes the token before anything is read
    ...
    if check(request.environ, scope="customer:7"):                           after authentication, before anything is rendered
        return Response(status=304)                                          which the middleware fills in (or 412, 428)

Flask: etagd.flask does the second step by a decorator. Where no endpoint has to decide (scope is etagd.PUBLIC, a name, or a function
of the environ), early=True looks up in the middleware itself: only if every client that gets so far may see the page.

Generators, files and answers whose length is not known pass through untouched.
"""
from __future__ import annotations

from itertools import chain
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple
from urllib.parse import quote

from .exchange import BY_ENDPOINT, Answered, Exchange, Fields, GivenScope, Rules, current

Environ = Dict[str, Any]
StartResponse = Callable[..., Any]

_EXCHANGE = "etagd.exchange"
_UNRESERVED = "/~!$&'()*+,;=:@"  # RFC 3986 section 3.3: what a path may have as it is
_REASONS = {304: "Not Modified", 412: "Precondition Failed", 428: "Precondition Required"}


def check(environ: Environ, whose: Optional[GivenScope] = None, surrogates: Iterable[str] = ()) -> int:
    """Looks the request of this environ up: see Exchange.check(). 0 too where no EtagMiddleware is outside."""
    exchange: Optional[Exchange] = environ.get(_EXCHANGE)
    return 0 if exchange is None else exchange.check(whose, surrogates)


def exchange_of(environ: Environ) -> Optional[Exchange]:
    return environ.get(_EXCHANGE)


class EtagMiddleware:
    """Options: those of etagd.exchange.Rules, and early."""

    def __init__(self, app: Any, *, scope: GivenScope, early: bool = False, **options: Any) -> None:
        if early and scope is BY_ENDPOINT:
            raise ValueError("early=True needs a scope: etagd.PUBLIC, a name, or a function of the environ")
        self.app = app
        self.early = early
        self.rules = Rules(scope=scope, **options)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if _EXCHANGE in environ:
            return self.app(environ, start_response)
        exchange = Exchange(self.rules)  # the token comes first
        _begin(exchange, environ)
        environ[_EXCHANGE] = exchange
        answer = _Answer(exchange, start_response)
        outer = current.set(exchange)
        try:
            if self.early and exchange.check():
                return answer.from_memory([])
            return answer.of(self.app(environ, answer.start), environ)
        except Answered as answered:
            if answered.exchange is not exchange or answer.is_begun:
                raise
            return answer.from_memory([])
        finally:
            current.reset(outer)


def _begin(exchange: Exchange, environ: Environ) -> None:
    fields = [(name[5:].replace("_", "-").lower(), value) for name, value in environ.items() if name.startswith("HTTP_")]
    path = quote((environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1"), _UNRESERVED) or "/"
    query = environ.get("QUERY_STRING", "")
    exchange.begin(environ, environ["REQUEST_METHOD"], environ.get("wsgi.url_scheme", "http"), environ.get("HTTP_HOST"),
                   f"{path}?{query}" if query else path, fields)


class _Answer:
    """What the application answers: held where it is of use to the cache, until it is whole."""

    def __init__(self, exchange: Exchange, start_response: StartResponse) -> None:
        self._exchange = exchange
        self._start_response = start_response
        self._held: Optional[Tuple[str, Fields, Any]] = None
        self._written: List[bytes] = []

    @property
    def is_begun(self) -> bool:
        return self._held is not None

    @property
    def is_known(self) -> bool:
        return self._exchange.status != 0

    def start(self, status: str, fields: Fields, exc_info: Any = None) -> Callable[[bytes], Any]:
        """The application's start_response(). Nothing is sent yet, so what it says after an error takes the place of the former."""
        self._held = status, list(fields), exc_info
        return self._written.append  # write(), which few use: held with the rest

    def of(self, body: Iterable[bytes], environ: Environ) -> Iterable[bytes]:
        if self._exchange.status:
            _close(body)
            return self.from_memory(self._held[1] if self._held else [])
        if self._held is None or not self._exchange.is_checked or self._is_file(body, environ):
            return _Passing(self, body)
        length, most = _length(self._held[1]), self._exchange.rules.held_bytes_max
        if length is None or length > most:
            return _Passing(self, body)
        return self._whole(body, most)

    @staticmethod
    def _is_file(body: Iterable[bytes], environ: Environ) -> bool:
        wrapper = environ.get("wsgi.file_wrapper")
        return isinstance(wrapper, type) and isinstance(body, wrapper)

    def _whole(self, body: Iterable[bytes], most: int) -> Iterable[bytes]:
        parts, length = list(self._written), sum(map(len, self._written))
        pieces = iter(body)
        for piece in pieces:
            parts.append(piece)
            length += len(piece)
            if length > most:  # more than it said
                self._written = []
                return _Passing(self, body, chain(parts, pieces))
        assert self._held is not None
        said, given, exc_info = self._held
        status, fields = self._exchange.finish(int(said.split(" ", 1)[0]), given, b"".join(parts))
        if status != int(said.split(" ", 1)[0]):
            said, parts = f"{status} {_REASONS[status]}", []
        _close(body)
        self.begin(said, fields, exc_info)
        return parts

    def pass_through(self) -> List[bytes]:
        """What is held goes as it came, and is not stored. Returns what write() was given before."""
        assert self._held is not None
        if self._exchange.is_checked:
            self._exchange.withhold("streamed")
        self.begin(*self._held)
        written, self._written = self._written, []
        return written

    def from_memory(self, fields: Fields) -> Iterable[bytes]:
        status = self._exchange.status
        self.begin(f"{status} {_REASONS[status]}", self._exchange.from_memory(fields), None)
        return []

    def begin(self, status: str, fields: Fields, exc_info: Any) -> None:
        if self._exchange.rules.explain:
            fields = [*fields, ("X-Etag-Cache", self._exchange.explain())]
        if exc_info is None:
            self._start_response(status, fields)
        else:
            self._start_response(status, fields, exc_info)


class _Passing:
    """A body that passes through. The application may say its status as late as with the first piece of it."""

    def __init__(self, answer: _Answer, body: Iterable[bytes], pieces: Optional[Iterator[bytes]] = None) -> None:
        self._answer = answer
        self._body = body
        self._pieces = iter(body) if pieces is None else pieces

    def __iter__(self) -> Iterator[bytes]:
        first = next(self._pieces, b"")
        if self._answer.is_known:  # a generator may look up as late as now
            yield from self._answer.from_memory([])
            return
        yield from self._answer.pass_through()
        yield first
        yield from self._pieces

    def close(self) -> None:
        _close(self._body)


def _close(body: Any) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


def _length(fields: Fields) -> Optional[int]:
    for name, value in fields:
        if name.lower() == "content-length":
            return int(value) if value.isdigit() else None
    return None
