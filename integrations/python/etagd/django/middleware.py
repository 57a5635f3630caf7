# SPDX-License-Identifier: Apache-2.0
"""In the place of django.middleware.http.ConditionalGetMiddleware."""
from __future__ import annotations

from typing import Any, Callable

from . import reads
from .exchange import Exchange


class ConditionalGetMiddleware:
    """Gives every GET an ETag and answers its conditions, like Django's own. Of views with ETagMixin or etag_cached() it
    takes the token before anything of the request reads the database, and fills the cache with what they answered."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        exchange = request._etagd = Exchange(request)
        noted = reads.current.set(exchange.reads)
        try:
            response = self.get_response(request)
            return exchange.finish(response)
        finally:
            reads.current.reset(noted)
