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
from typing import Any, Iterator, Optional

from django.db.backends.utils import CursorWrapper

from . import kept, reads, threads

_PROBE = "etagd_probe"
_CONTROL = ("BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK", "COMMIT", "SET ")  # as Django writes them; they bring no rows


class _Mine(threading.local):
    """Connections of SQLite that this thread used; to ask Django for them costs more."""

    def __init__(self) -> None:
        self.states: "weakref.WeakSet[Any]" = weakref.WeakSet()


_mine = _Mine()


def using(state: Any, statement: str, cursor: Any) -> None:
    """Before each statement: whose is it, and is what it reads new enough?"""
    owner = threads.owner()
    kept.sql_runs()
    if owner is None and not statement.startswith(_CONTROL):
        threads.seen_without_owner()
    if owner is not None:
        threads.seen_by(owner)
    mark = None if owner is None else owner.mark
    if mark != state.reader:
        if owner is not None and not owner.done:
            if state.in_transaction:
                owner.spoil("in_transaction", state.connection.alias)
            elif is_unfinished(state):
                owner.spoil("unfinished_cursor", state.connection.alias)
        state.reader = mark
    driver = getattr(cursor, "cursor", None)
    for one in (cursor, driver if hasattr(driver, "_etagd_state") else None):  # Django's and the driver's: somebody may keep either
        if one is not None:
            one._etagd_mark = mark
            if state.connection.vendor == "sqlite":
                state.cursors.add(one)
                _mine.states.add(state)


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
    for state in list(_mine.states):
        if state.cursors and is_unfinished(state):
            return state.connection.alias
    return None


def install() -> None:
    getter, iterate = CursorWrapper.__getattr__, CursorWrapper.__iter__

    @wraps(getter)
    def noted_getattr(self: Any, name: str) -> Any:
        if name.startswith("fetch"):
            fetching(self, self.db.alias)
        return getter(self, name)

    @wraps(iterate)
    def noted_iter(self: Any) -> Any:
        for row in iterate(self):
            fetching(self, self.db.alias)
            yield row

    CursorWrapper.__getattr__, CursorWrapper.__iter__ = noted_getattr, noted_iter
