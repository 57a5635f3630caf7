# SPDX-License-Identifier: Apache-2.0
"""ASGI middleware: Starlette, FastAPI, Litestar, and what else speaks ASGI.

    app.add_middleware(EtagMiddleware, scope=etagd.BY_ENDPOINT)     outermost: it takes the token before anything is read
    ...
    if check(request.scope, scope="customer:7"):                    after authentication, before anything is rendered
        return Response(status_code=304)                            which the middleware fills in (or 412, 428)

FastAPI and Starlette: etagd.fastapi does the second step as a dependency. Where no endpoint has to decide (scope is etagd.PUBLIC,
a name, or a function of the ASGI scope), early=True looks up in the middleware itself: only if every client that gets so far may
see the page.

A look-up takes microseconds, without a system call, on the loop's thread; a fill is sent without waiting. Websockets, lifespan,
streamed answers and those that a server sends from a file pass through untouched.
"""
from __future__ import annotations

from typing import Any, Awaitable, Callable, Iterable, List, MutableMapping, Optional, Tuple
from urllib.parse import quote

from .exchange import BY_ENDPOINT, Answered, Exchange, Fields, GivenScope, Rules, current

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_EXCHANGE = "etagd.exchange"
_UNRESERVED = "/~!$&'()*+,;=:@"  # RFC 3986 section 3.3: what a path may have as it is


def check(scope: Scope, whose: Optional[GivenScope] = None, surrogates: Iterable[str] = ()) -> int:
    """Looks the request of this ASGI scope up: see Exchange.check(). 0 too where no EtagMiddleware is outside."""
    exchange: Optional[Exchange] = scope.get(_EXCHANGE)
    return 0 if exchange is None else exchange.check(whose, surrogates)


def exchange_of(scope: Scope) -> Optional[Exchange]:
    return scope.get(_EXCHANGE)


class EtagMiddleware:
    """Options: those of etagd.exchange.Rules, and early."""

    def __init__(self, app: Any, *, scope: GivenScope, early: bool = False, **options: Any) -> None:
        if early and scope is BY_ENDPOINT:
            raise ValueError("early=True needs a scope: etagd.PUBLIC, a name, or a function of the ASGI scope")
        self.app = app
        self.early = early
        self.rules = Rules(scope=scope, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _EXCHANGE in scope:
            await self.app(scope, receive, send)
            return
        exchange = Exchange(self.rules)  # the token comes first
        _begin(exchange, scope)
        answers = _Answers(exchange, send)
        scope = {**scope, _EXCHANGE: exchange}
        outer = current.set(exchange)
        try:
            if self.early and exchange.check():
                await answers.from_memory([])
                return
            await self.app(scope, receive, answers)
            await answers.end()
        except Answered as answered:
            if answered.exchange is not exchange or answers.is_begun:
                raise
            await answers.from_memory([])
        finally:
            current.reset(outer)


def _begin(exchange: Exchange, scope: Scope) -> None:
    fields = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
    raw, query = scope.get("raw_path"), scope.get("query_string", b"")
    path = raw.decode("latin-1").partition("?")[0] if raw else quote(scope["path"], _UNRESERVED)
    hosts = [value for name, value in fields if name == "host"]
    exchange.begin(scope, scope["method"], scope.get("scheme", "http"), hosts[0] if len(hosts) == 1 else None,
                   f"{path}?{query.decode('latin-1')}" if query else path, fields)
    if len(hosts) > 1:
        exchange.withhold("several_hosts")


class _Answers:
    """The application's send(). An answer of use to the cache is held until it is whole; any other passes."""

    def __init__(self, exchange: Exchange, send: Send) -> None:
        self._exchange = exchange
        self._send = send
        self._start: Optional[Message] = None  # held
        self._parts: List[bytes] = []
        self._length = 0
        self._passes = self._swallows = False

    @property
    def is_begun(self) -> bool:
        return self._start is not None or self._passes or self._swallows

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if self._passes or self._swallows:
            if self._passes:
                await self._send(message)
        elif kind == "http.response.start" and self._start is None:
            await self._begin(message)
        elif kind == "http.response.body" and self._start is not None:
            await self._body(message)
        else:  # debug information, pushes; or a body by path, by file descriptor, with trailers
            if self._start is not None:
                await self._let_pass()
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        exchange = self._exchange
        if exchange.status:
            await self.from_memory(_fields(message))
            return
        self._start = message
        length = _length(message)
        if not exchange.is_checked or message.get("trailers") or (length is not None and length > exchange.rules.held_bytes_max):
            await self._let_pass()

    async def _body(self, message: Message) -> None:
        assert self._start is not None
        body, more = message.get("body", b""), message.get("more_body", False)
        self._parts.append(bytes(body))
        self._length += len(body)
        if (more and _length(self._start) is None) or self._length > self._exchange.rules.held_bytes_max:
            await self._let_pass(more)
        elif not more:
            await self._whole()

    async def _let_pass(self, more: bool = True) -> None:
        """What is held goes as it came, and is not stored."""
        start, self._start, self._passes = self._start, None, True
        assert start is not None
        if self._exchange.is_checked:
            self._exchange.withhold("streamed")
        await self._send(self._with_explanation(start))
        if self._parts:
            await self._send({"type": "http.response.body", "body": b"".join(self._parts), "more_body": more})

    async def _whole(self) -> None:
        start, self._start, self._passes = self._start, None, True
        assert start is not None
        body, given = b"".join(self._parts), _fields(start)
        status, fields = self._exchange.finish(start["status"], given, body)
        if status != start["status"]:
            body = b""
        if fields is not given:
            start = {**start, "status": status, "headers": _headers(fields)}
        await self._send(self._with_explanation(start))
        await self._send({"type": "http.response.body", "body": body})

    async def from_memory(self, fields: Fields) -> None:
        """The answer that the look-up found, in the place of what the application sends."""
        self._swallows = True
        exchange = self._exchange
        await self._send(self._with_explanation({"type": "http.response.start", "status": exchange.status,
                                                 "headers": _headers(exchange.from_memory(fields))}))
        await self._send({"type": "http.response.body", "body": b""})

    async def end(self) -> None:
        """The application has returned; one that has not ended its answer is the server's to complain of."""
        if self._start is not None:
            await self._let_pass()

    def _with_explanation(self, start: Message) -> Message:
        if not self._exchange.rules.explain:
            return start
        said = (b"x-etag-cache", self._exchange.explain().encode("ascii", "replace"))
        return {**start, "headers": [*start.get("headers", ()), said]}


def _fields(start: Message) -> Fields:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start.get("headers", ())]


def _headers(fields: Fields) -> List[Tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields]


def _length(start: Message) -> Optional[int]:
    """Of the whole body, where the answer says it."""
    for name, value in start.get("headers", ()):
        if name.lower() == b"content-length":
            return int(value) if value.isdigit() else None
    return None
