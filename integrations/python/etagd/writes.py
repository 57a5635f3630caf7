# SPDX-License-Identifier: Apache-2.0
"""Writes of any framework: a guard around the block in which a change is committed.

    with invalidates("upload:42"):             async with invalidates("upload:42"):
        session.commit()                           await session.commit()

From before the block until after it front ends say "unknown" to the names, so no old version is answered between COMMIT and the
event, and a process that is killed in the middle leaves the guard to the daemon, which ends it as a commit.

However the block ends the names are invalidated: an exception after COMMIT looks like one before it, and a needless 200 is cheaper
than an old 304. A guard of one's own (Client.guard()) can be aborted.
"""
from __future__ import annotations

import asyncio
from typing import Any, Iterable, Optional

from .client import Client, Guard
from .exchange import current
from .model import Resource, Text

_process: Optional[Client] = None


def client_of_process() -> Client:
    """The client of the request's middleware; outside of a request, one of the process' own."""
    global _process
    exchange = current.get()
    if exchange is not None:
        return exchange.rules.client
    if _process is None:
        _process = Client()
    return _process


class invalidates:
    """See above. Targets as of Client.invalidate(); surrogates may be given in order. Raises what Client.guard() does before the
    block runs, and what Guard.commit() does after it: Pending where the effect is not proven yet.
    In a coroutine the calls, which wait for the daemon, run on the loop's executor."""

    def __init__(self, *surrogates: Text, resources: Iterable[Resource] = (), prefixes: Iterable[Resource] = (),
                 families: Iterable[Text] = (), everything: bool = False, hold_ms: int = 0, max_ms: int = 0, reach: str = "",
                 client: Optional[Client] = None) -> None:
        self._client = client
        self._targets = {"surrogates": list(surrogates), "resources": list(resources), "prefixes": list(prefixes),
                         "families": list(families), "everything": everything, "hold_ms": hold_ms, "max_ms": max_ms, "reach": reach}
        self._guard: Optional[Guard] = None

    def _begin(self, client: Client) -> Guard:
        guard = client.guard(**self._targets)  # type: ignore[arg-type]
        guard.unpin()
        try:
            guard.confirm()  # each moment of the block may be the one of COMMIT
        except BaseException:
            guard.abort()
            raise
        return guard

    def __enter__(self) -> Guard:
        self._guard = self._begin(self._client or client_of_process())
        return self._guard

    def __exit__(self, *_: Any) -> None:
        guard, self._guard = self._guard, None
        if guard is not None and guard.is_open:
            guard.commit()

    async def __aenter__(self) -> Guard:
        client = self._client or client_of_process()
        begun = asyncio.get_running_loop().run_in_executor(None, self._begin, client)
        try:
            self._guard = await asyncio.shield(begun)
        except asyncio.CancelledError:
            begun.add_done_callback(_abort)  # the block does not run
            raise
        return self._guard

    async def __aexit__(self, *_: Any) -> None:
        guard, self._guard = self._guard, None
        if guard is not None and guard.is_open:
            # A task that is cancelled here has committed all the same: the call goes on without it.
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, guard.commit))


def _abort(begun: "asyncio.Future[Guard]") -> None:
    if not begun.cancelled() and begun.exception() is None:
        asyncio.get_running_loop().run_in_executor(None, begun.result().abort)
