# SPDX-License-Identifier: Apache-2.0
"""Invalidation from the ORM, and from SQL that goes through Django's cursors.

Every connection gets a wrapper around its statements, and around its COMMIT. A statement that writes leaves its names with
the connection; COMMIT takes them: a guard begins, is confirmed, COMMIT, the guard ends. The guard may begin so late because
until COMMIT nobody sees the change: a reader that saw the old data took its token before the guard's end, and its fill is
refused or is made stale by it. ROLLBACK forgets the names, ROLLBACK TO SAVEPOINT those since the savepoint: nothing became
stale. In autocommit mode the guard stands around the statement.

Threads: as Django's connections, each of which is one thread's.
"""
from __future__ import annotations

import contextvars
import threading
from functools import partial
from typing import Any, Dict, Iterable, List, Optional, Set

from django.db import DataError, IntegrityError, NotSupportedError, ProgrammingError, connections
from django.db.backends.signals import connection_created
from django.db.utils import OperationalError

import etagd

from . import surrogates
from .conf import client, conf, log

reads: "contextvars.ContextVar[Optional[surrogates.Reads]]" = contextvars.ContextVar("etagd_reads", default=None)
"""Where the statements of this request are noted, while a response is made that may be stored."""

NAMES_MAX = 1000  # of one transaction; more: everything becomes stale
_ROLLED_BACK = (IntegrityError, DataError, ProgrammingError, NotSupportedError)  # of a COMMIT or a statement: surely not done


class GuardFailed(OperationalError):
    """etagd could not be told of a change before its COMMIT, which therefore did not happen."""


# ---- Telling etagd ----


class _Untold:
    """Names that nobody took, since neither daemon nor spool was there: told before anything else is, as soon as one is."""

    def __init__(self) -> None:
        self._names: Set[str] = set()
        self._lock = threading.Lock()

    def add(self, names: Iterable[str]) -> None:
        with self._lock:
            self._names.update(names)
            if len(self._names) > NAMES_MAX:
                self._names = {""}  # everything

    def tell(self) -> bool:
        """True if nothing is left untold. Waits like an invalidation, only where there is something to tell."""
        if not self._names:
            return True
        with self._lock:
            names = set(self._names)
            try:
                client().invalidate(**_targets(names))
            except etagd.EtagError:
                return False
            self._names -= names
            return not self._names


untold = _Untold()


def _targets(names: Iterable[str]) -> Dict[str, Any]:
    names = sorted(names)
    if "" in names or len(names) > NAMES_MAX:
        return {"everything": True}
    return {"surrogates": names}


def _begin(names: Set[str]) -> Optional[etagd.Guard]:
    """None: there is no daemon and no spool, and the settings say to go on."""
    try:
        guard = client().guard(**_targets(names))
        guard.confirm()
        return guard
    except etagd.Unavailable as error:
        if conf.WITHOUT_DAEMON == "refuse":
            raise GuardFailed(f"etagd: {error}") from error
        return None
    except etagd.EtagError as error:
        raise GuardFailed(f"etagd: {error}") from error


def _after(names: Set[str]) -> None:
    """After a COMMIT without a guard."""
    try:
        client().invalidate(**_targets(names))
    except etagd.EtagError as error:
        log.error("etagd was not told of a change, it will be tried again: %s", error)
        untold.add(names)


def guarded(names: Set[str], work: Any) -> Any:
    """Runs work(), which makes the change of these names visible to others (COMMIT, or a statement in autocommit mode)."""
    untold.tell()
    guard = _begin(names) if conf.GUARDS else None
    try:
        result = work()
    except _ROLLED_BACK:
        _end(guard, "abort")
        raise
    except BaseException:
        if guard is not None:
            guard.forget()  # it may have happened: the guard lingers, and then counts as committed
        else:
            _after(names)
        raise
    if guard is None:
        _after(names)
    else:
        _end(guard, "commit")
    return result


def _end(guard: Optional[etagd.Guard], how: str) -> None:
    """A guard whose end cannot be told lingers, so nothing old is confirmed meanwhile."""
    if guard is None:
        return
    try:
        getattr(guard, how)()
    except etagd.EtagError as error:
        log.error("etagd: a guard's %s was not told; it lingers: %s", how, error)


def invalidate(*names: str, instances: Iterable[Any] = (), using: str = "default") -> None:
    """For changes that no statement of Django's shows (a stored procedure, COPY, another program's data): these surrogate
    keys, and those of these rows. In a transaction: with its COMMIT, else at once. Raises GuardFailed."""
    made = set(names)
    for instance in instances:
        made.update(surrogates.changed(instance))
    state = _state(connections[using])
    if state.in_transaction:
        state.names.extend(made)
    elif made:
        guarded(made, lambda: None)


# ---- Connections ----


class _State:
    """The names of a connection's open transaction, and the methods that stand around its own."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.names: List[str] = []
        self.savepoints: Dict[str, int] = {}
        for name in ("_commit", "_rollback", "_close", "_savepoint", "_savepoint_rollback"):
            setattr(connection, name, partial(getattr(self, name), getattr(connection, name)))
        connection.execute_wrappers.insert(0, self.execute)  # the first: contexts pop the last

    @property
    def in_transaction(self) -> bool:
        return self.connection.in_atomic_block or not self.connection.get_autocommit()

    def _forget(self) -> None:
        self.names, self.savepoints = [], {}

    def _commit(self, commit: Any) -> Any:
        names = set(self.names)
        if not names:
            return commit()
        result = guarded(names, commit)
        self._forget()
        return result

    def _rollback(self, rollback: Any) -> Any:
        result = rollback()
        self._forget()
        return result

    def _close(self, close: Any) -> Any:
        result = close()
        self._forget()
        return result

    def _savepoint(self, savepoint: Any, sid: str) -> Any:
        self.savepoints[sid] = len(self.names)
        return savepoint(sid)

    def _savepoint_rollback(self, rollback: Any, sid: str) -> Any:
        result = rollback(sid)
        del self.names[self.savepoints.get(sid, len(self.names)):]
        return result

    # ---- Statements ----

    def execute(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        text = sql if isinstance(sql, str) else _as_text(sql, self.connection)
        writes = surrogates.writes_of(text, params, many)
        noted = reads.get()
        if noted is not None and not writes:
            noted.add(text, params)
        if not writes:
            return execute(sql, params, many, context)
        names: Set[str] = set()
        for write in writes:
            names |= surrogates.write_names(write, self._scopes(write))
        if self.in_transaction:
            self._note(names)
            return execute(sql, params, many, context)
        return guarded(names, partial(execute, sql, params, many, context))

    def _note(self, names: Set[str]) -> None:
        self.names.extend(names)
        if len(self.names) > 64 * NAMES_MAX and not self.connection.savepoint_ids:
            self.names = [""]

    def _scopes(self, write: surrogates.Write) -> Optional[Set[Any]]:
        """The scopes of the rows that are written; raises ScopeChanged where the statement would change one."""
        table = write.table
        if table.scope is None:
            return None
        if not write.existing:
            if write.sets_scope:
                raise surrogates.ScopeChanged(_said(table))
            return None if write.scopes is None else set(write.scopes)
        if not write.rows or len(write.rows) > surrogates.INSTANCES_MAX:
            if write.sets_scope:
                raise surrogates.ScopeChanged(_said(table))
            return None
        old = self._stored_scopes(table, write.rows)
        if write.sets_scope:
            new = None if write.scopes is None else {table.text(table.scope, value) for value in write.scopes}
            if old and new != {table.text(table.scope, value) for value in old}:
                raise surrogates.ScopeChanged(_said(table))
        return old

    def _stored_scopes(self, table: surrogates.Table, rows: List[Any]) -> Set[Any]:
        quote = self.connection.ops.quote_name
        sql = "SELECT DISTINCT %s FROM %s WHERE %s IN (%s)" % (
            quote(table.scope.column), quote(table.name), quote(table.pk.column), ", ".join(["%s"] * len(rows)))
        noted = reads.set(None)
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(sql, rows)
                return {row[0] for row in cursor.fetchall()}
        finally:
            reads.reset(noted)


def _said(table: surrogates.Table) -> str:
    return (f"etagd: a write may change {table.scope.name} of {table.label}, which surrogates.register() says never changes; "
            "do not register the model where rows move")


def _as_text(sql: Any, connection: Any) -> str:
    """psycopg2.sql.Composable and its like."""
    as_string = getattr(sql, "as_string", None)
    return as_string(connection.connection) if as_string else str(sql)


def _state(connection: Any) -> _State:
    state = connection.__dict__.get("_etagd")
    if state is None:
        state = connection.__dict__["_etagd"] = _State(connection)
    return state


def _created(connection: Any, **_: Any) -> None:
    _state(connection)


def register() -> None:
    connection_created.connect(_created, dispatch_uid="etagd")
    for connection in connections.all():
        _state(connection)


