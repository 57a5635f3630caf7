# SPDX-License-Identifier: Apache-2.0
"""Which request does SQL belong to that some thread of the process runs?

A request's reads are noted by a context variable, which a new thread does not have: Thread.start() and
ThreadPoolExecutor.submit() carry it over (asgiref and asyncio copy contexts by themselves). What belongs to no open request by
this, a queue's worker's, may still be for one: then the answers of all requests that are open in the process are not stored.
A scheduler's SQL hits few of them; a busy thread's can be said to be for no request, by background() or the setting
BACKGROUND_THREADS.
"""
from __future__ import annotations

import contextvars
import threading
import weakref
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial, wraps
from multiprocessing.pool import Pool, ThreadPool
from typing import Any, Callable, Dict, Iterator, List, Optional

from . import reads
from .conf import matches
from .others import handed

_open: "Dict[int, weakref.ReferenceType[reads.Reads]]" = {}  # by their marks; each use is one step, as dictionaries do it
_CARRIED, _OF_THREAD, _BACKGROUND = 1, 2, 4
_role: "contextvars.ContextVar[int]" = contextvars.ContextVar("etagd_role", default=0)  # of what runs: any of these


def opened(noted: reads.Reads) -> None:
    _open[noted.mark] = weakref.ref(noted, partial(_gone, noted.mark))


def _gone(mark: int, _: Any) -> None:
    _open.pop(mark, None)


def _opened() -> List[reads.Reads]:
    return [noted for noted in [found() for found in list(_open.values())] if noted is not None]


def closed(noted: reads.Reads) -> None:
    """Its answer is made: what is read from here on is in no part of it."""
    noted.close()
    _open.pop(noted.mark, None)


def owner() -> Optional[reads.Reads]:
    """The request that what runs now belongs to. A thread that outlives its request belongs to none, as does a task of an event loop."""
    noted = reads.current.get()
    return None if noted is None or (noted.done and (_role.get() & _CARRIED or noted.is_on_loop)) else noted


def seen_without_owner() -> None:
    """SQL that belongs to no request: it may be for any that is open."""
    if not _open or _role.get() & _BACKGROUND:
        return
    name = threading.current_thread().name
    if matches("BACKGROUND_THREADS", name):
        return
    for one in _opened():
        one.spoil("other_thread", name)


def seen_by(owner_of_it: reads.Reads) -> None:
    """SQL of a thread that a request started. If it outlives other requests, it may have worked for them as well."""
    if len(_open) > 1 and _role.get() & (_OF_THREAD | _BACKGROUND) == _OF_THREAD:
        for one in _opened():
            if one is not owner_of_it:
                one.beside.add(threading.current_thread())


def may_have_served(noted: reads.Reads) -> str:
    """The name of another request's thread that ran SQL while this one was open, and goes on; "": none."""
    return next((thread.name for thread in list(noted.beside) if thread.is_alive()), "")


@contextmanager
def background() -> Iterator[None]:
    """What this thread does within it (or a function that it decorates) is for no request: it hands no request anything that it
    read. For schedulers and queue workers that share a process with requests."""
    token = _role.set(_role.get() | _BACKGROUND)
    try:
        yield
    finally:
        _role.reset(token)


# ---- Carrying ----


class _As:
    """What runs within is for this request, or for none."""

    __slots__ = ("_said", "_tokens")

    def __init__(self, noted: Optional[reads.Reads], role: int = 0) -> None:
        """role: besides that it was carried."""
        self._said = (noted, role | _CARRIED)
        self._tokens: Any = None

    def __enter__(self) -> None:
        noted, role = self._said
        self._tokens = reads.current.set(noted), _role.set(role)

    def __exit__(self, *_: Any) -> None:
        current, role = self._tokens
        reads.current.reset(current)
        _role.reset(role)


def _patch_threads() -> None:
    start = threading.Thread.start

    @wraps(start)
    def carrying_start(self: threading.Thread) -> None:
        noted, background_too = owner(), _role.get() & _BACKGROUND
        if noted is not None or background_too:
            run = self.run

            def run_for() -> None:
                self.__dict__.pop("run", None)  # no circle
                with _As(noted, background_too | _OF_THREAD):
                    run()
            self.run = run_for  # type: ignore[method-assign]
        start(self)

    threading.Thread.start = carrying_start  # type: ignore[method-assign]


def _patch_executors() -> None:
    submit = ThreadPoolExecutor.submit

    @wraps(submit)
    def carrying_submit(self: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        noted, background_too = owner(), _role.get() & _BACKGROUND

        def work(*args: Any, **kwargs: Any) -> Any:
            with _As(noted, background_too):
                return function(*args, **kwargs)
        if len(self._threads) < self._max_workers:
            with _As(None):  # a thread that the pool starts for it will work for others too
                made = submit(self, work, *args, **kwargs)
        else:
            made = submit(self, work, *args, **kwargs)
        handed.made_for(made, noted)
        return made

    ThreadPoolExecutor.submit = carrying_submit  # type: ignore[method-assign]
    elsewhere = ProcessPoolExecutor.submit

    @wraps(elsewhere)
    def spoiling_submit(self: Executor, /, *args: Any, **kwargs: Any) -> Any:
        reads.spoil("process", "ProcessPoolExecutor")  # what it reads there is noted nowhere
        return elsewhere(self, *args, **kwargs)

    ProcessPoolExecutor.submit = spoiling_submit  # type: ignore[method-assign]
    running = Pool._check_running  # before each of its tasks

    @wraps(running)
    def spoiling_check(self: Pool) -> None:
        if not isinstance(self, ThreadPool):
            reads.spoil("process", "Pool")
        running(self)

    Pool._check_running = spoiling_check


def install() -> None:
    _patch_threads()
    _patch_executors()
