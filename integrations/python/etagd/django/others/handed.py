# SPDX-License-Identifier: Apache-2.0
"""What a request takes from a task of another one: requests that ask for the same share one query ("single flight"), or keep its task
as a cache. What was read for it is noted for the request that began it, or for none, so the one that only waits for its result is not
stored: its rows may be older than the token.

Each task of an event loop, each Future of an executor and each result of a ThreadPool knows in which request it was made; it is asked
when its result is taken. What goes through a queue, an Event or a bare Future of the loop is not seen.
"""
from __future__ import annotations

import asyncio
from concurrent.futures import Future
from functools import wraps
from multiprocessing.pool import ApplyResult
from typing import Any, Generator, Optional

from .. import reads


def _mark() -> Optional[int]:
    noted = reads.noting()
    return None if noted is None else noted.mark


def _taken(mark: Optional[int], what: Any) -> None:
    """mark None: of no request, as a scheduler's, or of a request that was answered before."""
    noted = reads.now()
    if noted is not None and mark != noted.mark:
        noted.spoil("other_request", str(what))


# ---- Tasks ----


class _Task(asyncio.Task):
    _etagd_mark: Optional[int] = None

    def __init__(self, work: Any, **kwargs: Any) -> None:
        context = kwargs.get("context")
        self._etagd_mark = _mark() if context is None else context.run(_mark)
        super().__init__(work, **kwargs)

    def _etagd_taken(self) -> None:
        _taken(self._etagd_mark, getattr(self.get_coro(), "__qualname__", "task"))

    def result(self) -> Any:
        self._etagd_taken()
        return super().result()

    def __await__(self) -> Generator[Any, None, Any]:
        self._etagd_taken()
        return super().__await__()

    __iter__ = __await__


def _make(loop: Any, work: Any, **kwargs: Any) -> Any:
    return _Task(work, loop=loop, **kwargs)


def watch_tasks() -> None:
    """Of the loop that runs. Where somebody else makes its tasks, they do so on."""
    loop = asyncio.get_running_loop()
    if loop.get_task_factory() is None:
        loop.set_task_factory(_make)


# ---- Executors and thread pools ----


def made_for(future: Any, noted: Optional[reads.Reads]) -> None:
    future._etagd_mark = None if noted is None else noted.mark


def _marking(init: Any) -> Any:
    @wraps(init)
    def marked(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self._etagd_mark = _mark()
    return marked


def _looking(method: Any) -> Any:
    current = reads.current.get

    @wraps(method)
    def looked(self: Any, *args: Any, **kwargs: Any) -> Any:
        noted, mark = current(), getattr(self, "_etagd_mark", None)
        if noted is not None and mark != noted.mark:  # under ASGI each hop to a thread takes one of the request's own
            _taken(mark, type(self).__name__)
        return method(self, *args, **kwargs)
    return looked


def install() -> None:
    # add_done_callback(): asyncio.wrap_future() waits so
    for kind, names in ((Future, ("result", "add_done_callback")), (ApplyResult, ("get",))):
        kind.__init__ = _marking(kind.__init__)  # type: ignore[misc]
        for name in names:
            setattr(kind, name, _looking(getattr(kind, name)))
