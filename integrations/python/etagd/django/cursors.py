# SPDX-License-Identifier: Apache-2.0
"""Does what a statement reads come from after the request's token?

A transaction's snapshot may be older, which connections say of themselves. What SQLite does not say: a SELECT whose rows were
not all fetched keeps its snapshot (in WAL mode), and all later ones of the connection read from it. So cursors that live are
counted; whether one of them is in the middle of its rows, SQLite is asked then. A connection of another thread is looked at
when a request uses it first.
"""
from __future__ import annotations

import sqlite3
import threading
import weakref
from contextlib import closing
from functools import wraps
from typing import Any, Dict, Iterator, Optional

from django.db.backends.utils import CursorWrapper

from . import kept, reads, threads

_PROBE = "etagd_probe"
_CONTROL = ("BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK", "COMMIT", "SET ")  # as Django writes them; they bring no rows


class _Mine(threading.local):
    """Connections of SQLite that this thread used; to ask Django for them costs more."""

    def __init__(self) -> None:
        self.states: Dict[int, Any] = {}  # weak references


_mine = _Mine()


def using(state: Any, statement: str, cursor: Any) -> None:
    """Before each statement: whose is it, and is what it reads new enough?"""
    owner, mark = threads.owner(), None
    kept.sql_runs()
    if owner is not None:
        threads.seen_by(owner)
        mark = owner.mark
    elif not statement.startswith(_CONTROL):
        threads.seen_without_owner()
    if mark != state.reader:
        if owner is not None and not owner.done:
            if state.in_transaction:
                owner.spoil("in_transaction", state.connection.alias)
            elif is_unfinished(state):
                owner.spoil("unfinished_cursor", state.connection.alias)
        state.reader = mark
    if cursor is None:
        return
    driver = getattr(cursor, "cursor", None)
    if is_watched(driver):  # Django's fetches by it
        cursor = driver
    cursor._etagd_mark = mark
    if state.connection.vendor == "sqlite":
        state.cursors.add(weakref.ref(cursor, state.cursors.discard))
        _mine.states[id(state)] = state.weak


def is_watched(cursor: Any) -> bool:
    """Is it a driver's, of a class of ours (handles.py)?"""
    return hasattr(type(cursor), "_etagd_base")


def began(state: Any) -> None:
    """A transaction that begins now has a snapshot of the request that began it."""
    owner = threads.owner()
    state.reader = None if owner is None else owner.mark


def fetching(cursor: Any, alias: str) -> None:
    """Rows of a cursor that somebody executed before: perhaps an earlier request."""
    noted = reads.noting()
    if noted is not None and getattr(cursor, "_etagd_mark", noted.mark) != noted.mark:
        noted.spoil("kept_cursor", alias)


def watched(chunks: Any) -> Iterator[Any]:
    """The rows of iterator(), which may be left and gone on with by another request."""
    owner = threads.owner()
    mark = None if owner is None else owner.mark
    with closing(chunks):
        for chunk in chunks:
            for row in chunk:
                noted = reads.noting()
                if noted is not None and noted.mark != mark:
                    noted.spoil("kept_cursor")
                yield (row,)


def is_unfinished(state: Any) -> bool:
    """Is a statement of this SQLite connection in the middle of its rows?"""
    driver = state.connection.connection
    if driver is None or not state.cursors:
        return False
    try:
        # SQLite refuses to replace a function while a statement runs.
        if state.probed is not driver:
            driver.create_function(_PROBE, 0, _nothing)
            state.probed = driver
        driver.create_function(_PROBE, 0, _nothing)
        state.cursors.clear()
        return False
    except sqlite3.Error:
        return True


def _nothing() -> None:
    pass


def any_unfinished() -> Optional[str]:
    """The alias of a connection of this thread in the middle of a result."""
    for key, weak in list(_mine.states.items()):
        state = weak()
        if state is None:
            _mine.states.pop(key, None)
        elif state.cursors and is_unfinished(state):
            return state.connection.alias
    return None


def install() -> None:
    iterate = CursorWrapper.__iter__

    @wraps(iterate)
    def noted_iter(self: Any) -> Any:
        for row in iterate(self):
            if not is_watched(self.cursor):
                fetching(self, self.db.alias)
            yield row

    CursorWrapper.__iter__ = noted_iter
