# SPDX-License-Identifier: Apache-2.0
"""Client: libetag for a whole process.

A client of libetag (a connection and a mapping) belongs to one thread at a time. A Client lends one to each call, and to each
guard from its begin to its end, and takes it back: threads, the threads of executors and greenlets share a few, however many
come and go. There are as many as there are calls and guards at one moment; of those that nothing uses IDLE_MAX are kept. The
thread of an event loop has one of its own.
After fork() the child goes on with those that nothing used, which libetag makes safe; the others may have been in the middle
of a call and are never touched again.

token, check, evaluate, precheck, finish and fill never wait, except that who opens a connection waits for the daemon's hello,
at most connect_timeout_ms; inside a running asyncio loop it does not wait either. connect, fill_wait, invalidate and the
calls of a guard wait, at most timeout_ms; the GIL is free meanwhile. In asyncio: await client.ainvalidate(...).
"""
from __future__ import annotations

import asyncio
import os
import threading
import weakref
from itertools import chain
from typing import Any, Iterable, List, Optional, Sequence, Tuple

from ._etag import ffi, lib
from .errors import Invalid, raise_for
from .model import (Answer, Key, Range, Request, Resource, Response, Text, Token, Validators, Verdict,
                    field_parts, latin1, pack, pack_ascii, utf8)

IDLE_MAX = 8
_NO_DATE = -(1 << 63)
_running_loop = asyncio._get_running_loop
_clients: "weakref.WeakSet[Client]" = weakref.WeakSet()


class _Native:
    """One etag_client and one hasher: of who has taken it from its Client."""

    def __init__(self, options: dict) -> None:
        self.pid = os.getpid()
        self.client = ffi.NULL
        self.answer = ffi.new("struct py_answer *")
        self.answer_bytes = ffi.buffer(self.answer)
        self.request = ffi.new("struct py_request *")
        self.token = ffi.new("struct py_token *")
        self.number = ffi.new("uint64_t *")
        self.hasher = ffi.new("etag_hasher **")
        self.hashed = ffi.new("struct py_hash *")
        self._open(options)

    def _open(self, options: dict) -> None:
        path = ffi.NULL if options["socket_path"] is None else ffi.new("char[]", os.fsencode(options["socket_path"]))
        no_wait = options["no_wait"] or asyncio._get_running_loop() is not None
        given = ffi.new("struct py_options *", {
            "socket_path": path, "timeout_ms": options["timeout_ms"],
            "connect_timeout_ms": options["connect_timeout_ms"], "no_wait": no_wait,
            "spool_never": not options["spool"], "shadow": options["shadow"]})
        out = ffi.new("etag_client **")
        status = lib.py_open(out, given, *pack([latin1(name) for name in options["repeated_fields"]]))
        self.client = out[0]
        if self.client == ffi.NULL:
            raise_for(status)

    def error(self) -> str:
        return ffi.string(lib.py_error(self.client)).decode("utf-8", "replace")

    def raise_for(self, status: int) -> None:
        if status == lib.ETAG_OK:
            return
        reason = "none"
        if status == lib.ETAG_REFUSED:
            reason = ffi.string(lib.py_reason(self.client)).decode()
        raise_for(status, self.error(), reason)

    def __del__(self) -> None:
        if self.pid == os.getpid():
            lib.py_close(self.client)
            lib.py_hasher_close(self.hasher[0])


def _date(seconds: Optional[int]) -> int:
    return _NO_DATE if seconds is None else seconds


def _request_struct(native: Optional[_Native], request: Request) -> Any:
    key = request.key
    struct = ffi.new("struct py_request *") if native is None else native.request
    struct.key.scope_kind = key._scope_kind if key is not None else 0
    struct.key.vary_count = len(key.vary) if key is not None else 0
    struct.field_count = len(request.fields)
    struct.require_if_match = request.require_if_match
    struct.compression_suffixes = request.compression_suffixes
    return struct


def _request_parts(request: Request) -> List[Optional[bytes]]:
    parts = [latin1(request.method)]
    parts += request.key._parts() if request.key is not None else [None] * 5
    return parts + field_parts(request.fields)


def _packed_request(request: Request) -> Tuple[bytes, bytes, int]:
    key = request.key
    if key is None:
        return pack(_request_parts(request))
    scope = key.scope if isinstance(key.scope, (str, bytes)) else None
    packed = pack_ascii([request.method, *key.resource, scope, key.release, key.scheme, *chain.from_iterable(key.vary),
                         *chain.from_iterable(request.fields)])
    return pack(_request_parts(request)) if packed is None else packed


def _response_struct(response: Response) -> Any:
    return ffi.new("struct py_response *", {
        "http_status": response.http_status, "had_authorization": response.had_authorization,
        "is_strong": response.last_modified_is_strong, "withheld": response.withheld, "last_modified": _date(response.last_modified),
        "max_age_s": response.max_age_s, "field_count": len(response.fields),
        "surrogate_count": len(response.surrogates)})


def _response_parts(response: Response) -> List[Optional[bytes]]:
    return [latin1(response.etag)] + field_parts(response.fields) + [utf8(name) for name in response.surrogates]


REACHES = {"": 0, "host": 1, "log": 2, "everywhere": 3}  # etag_reach; "": as the daemon is configured


def _targets(resources: Iterable[Resource], surrogates: Iterable[Text], prefixes: Iterable[Resource], families: Iterable[Text],
             everything: bool, hold_ms: int, reach: str, position: int, max_ms: int = 0) -> Tuple[Any, bytes, bytes, int]:
    if reach not in REACHES:
        raise ValueError(f"reach cannot be {reach!r}; allowed are host, log, everywhere")
    for names in (surrogates, families):
        if isinstance(names, (str, bytes)):
            raise TypeError(f"a list of names is wanted, not one: [{names!r}]")
    resources, surrogates, prefixes, families = list(resources), list(surrogates), list(prefixes), list(families)
    struct = ffi.new("struct py_targets *", {
        "resource_count": len(resources), "surrogate_count": len(surrogates), "prefix_count": len(prefixes),
        "family_count": len(families), "everything": everything, "hold_ms": hold_ms, "max_ms": max_ms, "reach": REACHES[reach], "position": position})
    parts: List[Optional[bytes]] = []
    for host, target in resources:
        parts += [utf8(host), utf8(target)]
    parts += [utf8(name) for name in surrogates]
    for host, target in prefixes:
        parts += [utf8(host), utf8(target)]
    parts += [utf8(name) for name in families]
    return (struct, *pack(parts))


class Guard:
    """A mutation in two steps around a database commit (etag.h, "Guards"). Belongs to the thread that began it.

        with client.guard(surrogates=["upload:42"]) as guard:
            ... UPDATE ...
            guard.confirm()      raises: then roll back; leaving the block by the exception aborts
            ... COMMIT ...       leaving the block commits the guard

    Leaving by an exception before a confirmation aborts: nothing was committed. After one it may have been, as with a COMMIT
    whose answer was lost: the guard is forgotten, lingers, and then counts as committed. Where ROLLBACK is known, call abort()
    in the block. A guard that is dropped without an end lingers.
    """

    def __init__(self, client: "Client", native: _Native, handle: Any) -> None:
        self._client = client
        self._native: Any = native  # None: given back
        self._handle = handle
        self._thread: Optional[int] = threading.get_ident()  # None: of any, one at a time
        self._confirmed = False

    def _check(self) -> None:
        if self._handle is None:
            raise Invalid("the guard has ended")
        if self._thread not in (None, threading.get_ident()):
            raise Invalid("a guard belongs to the thread that began it; unpin() lets others use it, one at a time")

    def _end(self, call: Any, *args: Any) -> None:
        """Ends the guard by this call, and gives its connection back."""
        self._check()
        (handle, native), self._handle, self._native = (self._handle, self._native), None, None
        try:
            status = call(handle, *args)
            if status is not None:
                native.raise_for(status)
        finally:
            if native.pid == os.getpid():
                self._client._give(native)

    def unpin(self) -> None:
        """From now on any thread may use it, one at a time: the caller sees to that, as an event loop and its executor do."""
        self._thread = None

    @property
    def is_open(self) -> bool:
        return self._handle is not None

    def confirm(self) -> None:
        """Right before COMMIT. Where it raises, the writer must not commit."""
        self._check()
        self._native.raise_for(lib.py_guard_confirm(self._handle))
        self._confirmed = True

    @property
    def time_left_ms(self) -> int:
        """How long COMMIT may still take."""
        self._check()
        return lib.py_guard_time_left_ms(self._handle)

    def commit(self) -> int:
        """After a known COMMIT; ends the guard, also where it raises (it lingers then). Returns the LSN, 0: by the spool."""
        number = ffi.new("uint64_t *")
        self._end(lib.py_guard_commit, number)
        return number[0]

    def abort(self) -> None:
        """After a known ROLLBACK; ends the guard, also where it raises."""
        self._end(lib.py_guard_abort)

    def forget(self) -> None:
        """The outcome of COMMIT is unknown: the guard lingers, then counts as committed."""
        if self._handle is not None:
            self._end(lib.py_guard_forget)

    def __enter__(self) -> "Guard":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._handle is None:
            return
        if kind is None:
            self.commit()
        elif self._confirmed:
            self.forget()
        else:
            self.abort()

    def __del__(self) -> None:
        native, handle = self._native, self._handle
        if handle is not None and native.pid == os.getpid():
            lib.py_guard_forget(handle)  # in another process it is never touched
            self._client._give(native)


class Client:
    """libetag for all threads of a process. Opens without a daemon too, and finds one that comes later by itself."""

    def __init__(self, socket_path: Optional[str] = None, *, timeout_ms: int = 0, connect_timeout_ms: int = 0,
                 no_wait: bool = False, spool: bool = True, repeated_fields: Sequence[Text] = (),
                 shadow: bool = False) -> None:
        """socket_path: None: $ETAGD_SOCKET, else the default. 0: libetag's defaults. shadow: checks find nothing, and count
        what they would have found. Opens nothing yet."""
        self._options = {"socket_path": socket_path, "timeout_ms": timeout_ms, "connect_timeout_ms": connect_timeout_ms,
                         "no_wait": no_wait, "spool": spool, "repeated_fields": tuple(repeated_fields), "shadow": shadow}
        self._idle: List[_Native] = []  # the last one used is the next one: append and pop are atomic
        self._loop_thread: Optional[int] = None  # the first that called from an event loop ...
        self._of_loop: List[_Native] = []  # ... has one of its own: a new one, which does not wait there, knows no index yet
        self._last = threading.local()  # why the last fill of a thread was refused
        self._closed = False
        _clients.add(self)

    def _take(self) -> _Native:
        """A native client of the caller's alone, until it gives it back."""
        try:
            return (self._of_loop if self._of_loop and _running_loop() is not None and self._is_of_loop() else self._idle).pop()
        except IndexError:
            if self._closed:
                raise Invalid("the client is closed") from None
            return _Native(self._options)

    def _give(self, native: _Native) -> None:
        if self._closed:
            return
        if _running_loop() is not None and not self._of_loop and self._is_of_loop():
            self._of_loop.append(native)
        elif len(self._idle) < IDLE_MAX:
            self._idle.append(native)

    def _is_of_loop(self) -> bool:
        """Of a thread in which a loop runs."""
        if self._loop_thread is None:
            self._loop_thread = threading.get_ident()
        return self._loop_thread == threading.get_ident()

    def connect(self) -> None:
        """Opens a connection, or goes on with one, and raises what etag_client_dispatch() says, e.g. Unavailable."""
        native = self._take()
        try:
            native.raise_for(lib.py_dispatch(native.client))
        finally:
            self._give(native)

    def close(self) -> None:
        """Closes what nothing uses now; the rest with the end of its call or guard."""
        self._closed = True
        self._idle.clear()
        self._of_loop.clear()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    # ---- Lookup ----

    def token(self) -> Token:
        """The token for a request that begins now: before any data of it is read, before its transaction begins."""
        native = self._take()
        try:
            token = native.token
            lib.py_token(native.client, token)
            return Token(token.incarnation, token.lsn)
        finally:
            self._give(native)

    def check(self, request: Request, token: Token = Token()) -> Answer:
        """etag_check(): looks up, and judges the request's conditions. After authorization."""
        key = request.key
        if key is None:
            raise Invalid("a check needs a key")
        packed = _packed_request(request)
        native = self._take()
        try:
            length = lib.py_check(native.client, key._scope_kind, len(key.vary), len(request.fields),
                                  (1 if request.require_if_match else 0) | (2 if request.compression_suffixes else 0),
                                  *packed, *token, native.answer)
            if length < 0:
                raise Invalid("too many fields")
            return Answer(native.answer_bytes[:length], token)  # copied: the next check uses the memory again
        finally:
            self._give(native)

    precheck = check

    @staticmethod
    def evaluate(request: Request, validators: Validators) -> Verdict:
        """etag_evaluate(): see the function of this name."""
        return evaluate(request, validators)

    def finish(self, request: Request, response: Response, answer: Answer) -> Tuple[int, Answer]:
        """etag_finish(): corrects what the cache has, judges with the response's own validators.
        answer: of check(). Returns the status to send and, for 304 and 412, the answer whose fields go with it."""
        packed = pack(_request_parts(request) + _response_parts(response))
        native = self._take()
        try:
            status = lib.py_finish(native.client, _request_struct(native, request), _response_struct(response), *packed,
                                   *answer.token, answer._reason_number, native.answer)
            self._last.reason = lib.py_reason(native.client)  # static text
            if status < 0:
                raise Invalid("too many fields or surrogate keys")
            return status, Answer(native.answer_bytes[:lib.py_answer_len(native.answer)], answer.token)
        finally:
            self._give(native)

    # ---- Fill ----

    def _fill(self, token: Token, key: Key, response: Response, wait: bool) -> int:
        key_struct = ffi.new("struct py_key *", {"scope_kind": key._scope_kind, "vary_count": len(key.vary)})
        parts: List[Optional[bytes]] = [b"GET"]
        parts += key._parts() + _response_parts(response)
        packed, response_struct = pack(parts), _response_struct(response)
        native = self._take()
        try:
            status = lib.py_fill(native.client, key_struct, response_struct, *packed, *token, wait, native.number)
            self._last.reason = lib.py_reason(native.client)
            native.raise_for(status)
            return native.number[0]
        finally:
            self._give(native)

    def fill(self, token: Token, key: Key, response: Response) -> None:
        """etag_fill(): sends it without waiting. What it raises never matters to the answer being sent."""
        self._fill(token, key, response, False)

    def fill_wait(self, token: Token, key: Key, response: Response) -> int:
        """The same, and waits for the daemon's verdict: for tools and tests. Returns the entry's fill LSN."""
        return self._fill(token, key, response, True)

    def fill_reason(self) -> str:
        """Why this thread's last fill was refused, as far as it is known here: "no_store" ...; "none": it was sent."""
        reason = getattr(self._last, "reason", None)
        return "none" if reason is None else ffi.string(reason).decode()

    # ---- Mutations ----

    def invalidate(self, *, resources: Iterable[Resource] = (), surrogates: Iterable[Text] = (),
                   prefixes: Iterable[Resource] = (), families: Iterable[Text] = (), everything: bool = False, hold_ms: int = 0,
                   reach: str = "", position: int = 0) -> int:
        """etag_invalidate(), after the change is committed. On return no front end answers 304 from older data.
        families: "upload" is every surrogate key "upload:...", and the key "upload".
        reach: "host", "log" or "everywhere" (a front end of any host); position: where the transaction has put it into the log.
        Raises Pending, Unavailable, Timeout ... as etag.h says. Returns the LSN, 0 where it went through the spool."""
        targets = _targets(resources, surrogates, prefixes, families, everything, hold_ms, reach, position)
        native = self._take()
        try:
            native.raise_for(lib.py_invalidate(native.client, *targets, native.number))
            return native.number[0]
        finally:
            self._give(native)

    async def ainvalidate(self, **targets: Any) -> int:
        """invalidate() on a thread of the loop's executor."""
        return await asyncio.get_running_loop().run_in_executor(None, lambda: self.invalidate(**targets))

    def guard(self, *, resources: Iterable[Resource] = (), surrogates: Iterable[Text] = (),
              prefixes: Iterable[Resource] = (), families: Iterable[Text] = (), everything: bool = False, hold_ms: int = 0,
              max_ms: int = 0, reach: str = "", position: int = 0) -> Guard:
        """etag_guard_begin(): before COMMIT; waits for the daemon (or its spool). reach, position: of its commit, as invalidate()."""
        targets = _targets(resources, surrogates, prefixes, families, everything, hold_ms, reach, position, max_ms)
        out = ffi.new("etag_guard **")
        native = self._take()
        try:
            native.raise_for(lib.py_guard_begin(native.client, *targets, out))
        except BaseException:
            self._give(native)
            raise
        return Guard(self, native, out[0])  # which gives it back at its end

    # ---- ETag makers ----

    def hash(self, body: bytes, *, weak: bool = False) -> str:
        """etag_hash(): the entity tag of a body, with its quotes. Needs no daemon."""
        native = self._take()
        try:
            raise_for(lib.py_hash(native.hasher, body, len(body), weak, native.hashed))
            return ffi.buffer(native.hashed.bytes, native.hashed.len)[:].decode("ascii")
        finally:
            self._give(native)


def evaluate(request: Request, validators: Validators) -> Verdict:
    """RFC 9110 section 13.2.2 with validators that the caller knows (etag_evaluate()). Pure; any thread."""
    return evaluate_with_range(request, validators)[0]


def evaluate_with_range(request: Request, validators: Validators) -> Tuple[Verdict, Range]:
    """The same, and what to do with Range and If-Range where the verdict is PROCEED."""
    parts = _request_parts(request) + [latin1(validators.etag)]
    out = ffi.new("int *")
    verdict = lib.py_evaluate(_request_struct(None, request), *pack(parts), validators.existence,
                              _date(validators.last_modified), validators.last_modified_is_strong, out)
    if verdict < 0:
        raise Invalid("too many fields")
    return Verdict(verdict), Range(out[0])


def date_parse(text: Text) -> Optional[int]:
    """An HTTP-date in any of its three forms as seconds since 1970; None if it is none."""
    data = latin1(text) or b""
    seconds = lib.py_date_parse(data, len(data))
    return None if seconds == _NO_DATE else seconds


def variant(etag: Text, coding: Text) -> str:
    """The tag of a representation's variant in a content coding (etag_variant())."""
    tag, name, out = latin1(etag) or b"", latin1(coding) or b"", ffi.new("struct py_hash *")
    raise_for(lib.py_variant(tag, len(tag), name, len(name), out))
    return ffi.buffer(out.bytes, out.len)[:].decode("latin-1")


# ---- Fork ----


def _after_fork_in_child() -> None:
    """What lay idle was in no call, so it is the child's; all others are left alone for ever."""
    pid = os.getpid()
    for client in list(_clients):
        for native in client._idle + client._of_loop:
            native.pid = pid


os.register_at_fork(after_in_child=_after_fork_in_child)
