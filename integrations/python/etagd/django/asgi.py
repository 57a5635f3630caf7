# SPDX-License-Identifier: Apache-2.0
"""Where a request on an event loop begins.

A request's reads are noted by a context variable. Tasks, sync_to_async(), async_to_sync() and asyncio.to_thread() copy the
context; but a context that a signal's receiver changes is lost, where Django runs receivers in tasks of their own (5.0). So a
request begins where its handler is called, and is found again by its scope, which is one object from the server's to the view's.
"""
from __future__ import annotations

from functools import partial, wraps
from typing import Any, Callable

from . import exchange, reads, threads
from .others import handed


async def _noting(noted: reads.Reads, run: Callable[[], Any]) -> Any:
    token = reads.current.set(noted)
    try:
        return await run()
    finally:
        reads.current.reset(token)


def _begin_with_the_handler(handler: Any) -> None:
    """Before Django's first signal, and so before its receivers, also those that are coroutines."""
    call = handler.__call__

    @wraps(call)
    async def begun(self: Any, scope: Any, *args: Any) -> Any:
        if scope["type"] != "http":
            return await call(self, scope, *args)
        start = exchange.Start(scope, is_on_loop=True)
        handed.watch_tasks()
        try:
            return await _noting(start.reads, partial(call, self, scope, *args))
        finally:
            threads.closed(start.reads)  # where none of our middleware did

    handler.__call__ = begun


def _go_on_with_the_scope(handler: Any) -> None:
    """The middlewares run in the context of this call. Where another began the request by the signal alone, as Django's
    AsyncClient does, this is where its context is found."""
    get_response = handler.get_response_async

    @wraps(get_response)
    async def noted(self: Any, request: Any) -> Any:
        start = exchange.start_of(request)
        if start is None:
            return await get_response(self, request)
        return await _noting(start.reads, partial(get_response, self, request))

    handler.get_response_async = noted


_registered = False


def register() -> None:
    global _registered
    if _registered:
        return
    _registered = True
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.base import BaseHandler

    _begin_with_the_handler(ASGIHandler)
    _go_on_with_the_scope(BaseHandler)
