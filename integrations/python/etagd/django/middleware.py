# SPDX-License-Identifier: Apache-2.0
"""In the place of django.middleware.http.ConditionalGetMiddleware."""
from __future__ import annotations

from typing import Any, Callable

from . import kept, loop
from .exchange import Exchange


class ConditionalGetMiddleware:
    """Gives every GET an ETag and answers its conditions, like Django's own. Of views with ETagMixin or etag_cached() it
    takes the token before anything of the request reads the database, and fills the cache with what they answered. On an event
    loop it stays there; only what a view rendered is judged on the request's thread."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        self._is_async = loop.is_async(get_response)
        if self._is_async:
            loop.mark_async(self)

    @kept.answers_requests
    def __call__(self, request: Any) -> Any:
        if self._is_async:
            return self._acall(request)
        exchange = request._etagd = Exchange(request)
        with exchange:
            return exchange.finish(self.get_response(request))

    @kept.answers_requests
    async def _acall(self, request: Any) -> Any:
        exchange = request._etagd = Exchange(request)
        with exchange:
            response = await self.get_response(request)
            if exchange.asks_connections(response):
                return await loop.on_thread(exchange.finish, response)
            return exchange.finish(response)
