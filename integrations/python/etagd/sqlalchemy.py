# SPDX-License-Identifier: Apache-2.0
"""SQLAlchemy 2: what a session commits is invalidated by the names that its models declare.

    class Upload(Base):
        ...
        def __etag_names__(self):                      of the row: called with its values before the change, and after it
            return [f"upload:{self.id}", f"customer:{self.customer_id}"]

        @classmethod
        def __etag_families__(cls):                    of any rows: for statements that change many, or rows that were not loaded
            return ["upload", "customer"]

    watch(Session)                                     a Session class, a sessionmaker, an AsyncSession's sessionmaker

Around each COMMIT of such a session that changed something there is a guard: from before it until after it front ends say "unknown"
to the names. If the guard cannot be had the transaction is not committed. Where COMMIT fails the guard lingers, and then counts as
committed, since the change may have been. Savepoints only add names.

Not seen: SQL as text or of tables without a model, what the database itself does (cascades, triggers), and other programs' writes.
Put invalidates() around those; on PostgreSQL etag-relay's watched tables see them all.
"""
from __future__ import annotations

import asyncio
import logging
from typing import Any, Callable, Iterable, Optional, Set, TypeVar

from sqlalchemy import event, inspect
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import DetachedInstanceError, ObjectDeletedError
from sqlalchemy.util import await_only

from .client import Client, Guard
from .writes import client_of_process

log = logging.getLogger("etagd")
Result = TypeVar("Result")

_CHANGES = "etagd.changes"


class _Changes:
    """What the open transaction of a session changed."""

    def __init__(self) -> None:
        self.names: Set[str] = set()
        self.families: Set[str] = set()
        self.everything = False
        self.guard: Optional[Guard] = None

    def __bool__(self) -> bool:
        return bool(self.names or self.families or self.everything)

    def of_class(self, cls: Any) -> None:
        families = getattr(cls, "__etag_families__", None)
        if families is not None:
            self.families.update(families())
        elif hasattr(cls, "__etag_names__"):
            if not self.everything:
                log.warning("etagd: rows of %s change that cannot be named one by one, and it has no __etag_families__: everything "
                            "becomes stale", cls.__name__)
            self.everything = True


class _Before:
    """A row as it was before this flush: the self of __etag_names__()."""

    def __init__(self, row: Any) -> None:
        self.__dict__["_row"] = row

    def __getattr__(self, name: str) -> Any:
        row = self.__dict__["_row"]
        state = inspect(row)
        if name not in state.mapper.attrs:
            return getattr(row, name)
        history = state.attrs[name].history
        if history.added or history.deleted:
            if not history.deleted:
                raise _NotLoaded(name)
            return history.deleted[0]
        return getattr(row, name)


class _NotLoaded(Exception):
    """An attribute was set whose former value nothing has read."""


def _changes_of(session: Session) -> _Changes:
    found: Optional[_Changes] = session.info.get(_CHANGES)
    if found is None:
        found = session.info[_CHANGES] = _Changes()
    return found


def _wait_for(call: Callable[[], Result]) -> Result:
    """Calls wait for the daemon: under asyncio on the executor, so that the loop goes on."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return call()
    return await_only(loop.run_in_executor(None, call))  # the session's calls run in a greenlet there


def _names(row: Any, as_self: Any, changes: _Changes) -> None:
    try:
        changes.names.update(type(row).__etag_names__(as_self))
    except (_NotLoaded, ObjectDeletedError, DetachedInstanceError):  # a value that cannot be had any more
        changes.of_class(type(row))


class _Watcher:
    def __init__(self, client: Optional[Client], hold_ms: int, reach: str) -> None:
        self._client = client
        self._options = {"hold_ms": hold_ms, "reach": reach}

    def after_flush(self, session: Session, _context: Any) -> None:
        """The rows have their keys by now, and their histories still."""
        changes = _changes_of(session)
        for row in session.new:
            if hasattr(row, "__etag_names__"):
                _names(row, row, changes)
        for row in session.dirty:
            if hasattr(row, "__etag_names__") and session.is_modified(row):
                _names(row, row, changes)
                _names(row, _Before(row), changes)
        for row in session.deleted:
            if hasattr(row, "__etag_names__"):
                _names(row, _Before(row), changes)

    def do_orm_execute(self, state: Any) -> None:
        if (state.is_insert or state.is_update or state.is_delete) and state.bind_mapper is not None:
            for mapper in state.bind_mapper.self_and_descendants:
                _changes_of(state.session).of_class(mapper.class_)

    def before_commit(self, session: Session) -> None:
        if session.in_nested_transaction():
            return
        session.flush()  # which COMMIT would do after this
        changes = _changes_of(session)
        if not changes:
            return
        client = self._client or client_of_process()

        def begin() -> Guard:
            guard = client.guard(surrogates=sorted(changes.names), families=sorted(changes.families), everything=changes.everything,
                                 **self._options)  # type: ignore[arg-type]
            guard.unpin()
            try:
                guard.confirm()
            except BaseException:
                guard.abort()
                raise
            return guard

        changes.guard = _wait_for(begin)

    def after_commit(self, session: Session) -> None:
        if session.in_nested_transaction():
            return
        changes: Optional[_Changes] = session.info.pop(_CHANGES, None)
        if changes is not None and changes.guard is not None:
            guard = changes.guard
            _wait_for(guard.commit)

    def after_rollback(self, session: Session) -> None:
        """Of the whole transaction. With a guard it is a COMMIT that failed, perhaps after it was done."""
        changes: Optional[_Changes] = session.info.pop(_CHANGES, None)
        if changes is not None and changes.guard is not None:
            changes.guard.forget()


def watch(sessions: Any, *, client: Optional[Client] = None, hold_ms: int = 0, reach: str = "") -> None:
    """sessions: a Session class, an object of one, a sessionmaker or async_sessionmaker. client: None: the request's, else one of the
    process' own. hold_ms, reach: as of Client.guard()."""
    if hasattr(sessions, "kw") and "sync_session_class" in getattr(sessions, "kw", {}):
        sessions = sessions.kw["sync_session_class"]
    elif hasattr(sessions, "class_") and hasattr(sessions.class_, "sync_session_class"):
        made = type("WatchedSession", (sessions.class_.sync_session_class,), {})
        sessions.configure(sync_session_class=made)
        sessions = made
    watcher = _Watcher(client, hold_ms, reach)
    for name in ("after_flush", "do_orm_execute", "before_commit", "after_commit", "after_rollback"):
        event.listen(sessions, name, getattr(watcher, name))


def names_of(row: Any) -> Iterable[str]:
    """For depends(): the names of a row that an answer shows."""
    return list(row.__etag_names__())
