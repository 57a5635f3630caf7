# SPDX-License-Identifier: Apache-2.0
"""Invalidation from the ORM, and from SQL that goes through Django's cursors.

What a statement changes is left with its connection; COMMIT takes it: a guard begins, is confirmed, COMMIT, the guard ends.
The guard may begin so late because until COMMIT no reader sees the change: a reader that saw the old data took its token before
the guard's end, so its fill is refused, or what it filled is made stale. ROLLBACK forgets the names, ROLLBACK TO SAVEPOINT
those since the savepoint: nothing became stale.

In autocommit mode a write by the ORM gets a transaction of its own, so that the guard covers its COMMIT, not
a wait for locks. Other SQL gets the guard around the statement.

Threads: as Django's connections, each of which is one thread's.
"""
from __future__ import annotations

import weakref
from contextlib import contextmanager
from functools import partial, wraps
from types import GeneratorType
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.backends.utils import CursorWrapper
from django.db.models.sql import compiler as compilers
from django.utils.connection import ConnectionProxy

from . import catalog, cursors, drivers, handles, reads, sql, surrogates
from .changes import named, outbox
from .changes.guards import LONG_MS, NAMES_MAX, GuardFailed, Sent, guarded, untold
from .changes.reach import NotReached, current, reach, wider
from .changes.reach import reach as reaching
from .others import places, session
from .postgres import foreign
from .surrogates import EVERYTHING

__all__ = ["GuardFailed", "NotReached", "invalidate", "reach"]


# ---- Telling etagd ----


def invalidate(*names: str, instances: Iterable[Any] = (), models: Iterable[Any] = (), families: Sequence[str] = (),
               everything: bool = False, using: str = "default",
               reach: Optional[str] = None) -> None:  # pylint: disable=redefined-outer-name
    """For changes that no statement of Django's shows (a stored procedure, a trigger, COPY, a file, another program's data):
    surrogate keys of the application's own, these rows, every row of these models, families of surrogate keys ("tariff": every
    "tariff:..."). In a transaction: with its COMMIT, else at once. Raises GuardFailed. reach: "host", "log", "everywhere"; at once
    it raises NotReached where that is not proved."""
    if isinstance(families, str):
        raise TypeError(f"etagd: families is a list: [{families!r}]")
    if reach is not None:
        with reaching(reach):
            return invalidate(*names, instances=instances, models=models, families=families, everything=everything, using=using)
    made = set(surrogates.said(names)) | set(surrogates.families(families)) | ({EVERYTHING} if everything else set())
    for instance in instances:
        made.update(surrogates.changed(instance))
    for model in models:
        made.update(surrogates.every_row(model))
    state = state_of(connections[using])
    if state.in_transaction:
        state.note(made)
    elif made:
        reads.note_write()
        guarded(made, _nothing)
    return None


def uncommitted() -> bool:
    """Has this thread changed something that it has not committed?"""
    return any(state_of(connection).names for connection in opened())


def in_transaction(of: Optional[List[Any]] = None) -> bool:
    """Is any connection of this thread in a transaction, whose snapshot may be of any age?"""
    return any(connection.connection is not None and (connection.in_atomic_block or not connection.autocommit
                                                      or state_of(connection).by_hand) for connection in (opened() if of is None else of))


def look_for_moved(of: Optional[List[Any]] = None) -> None:
    """Does an alias mean another database than when this thread last used it?"""
    for connection in opened() if of is None else of:
        places.look(connection, untold.now)


def opened() -> List[Any]:
    """The connections that this thread has made."""
    made = connections._connections
    found = [getattr(made, alias, None) for alias in connections.settings]
    return [connection for connection in found if connection is not None]


def _nothing() -> None:
    pass


# ---- Connections ----


class _State:
    """What a connection's open transaction changed, and the methods that wrap its own."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.weak = weakref.ref(self)
        self.names: List[str] = []
        self.reach: Optional[str] = None  # the widest that one of their writes was asked for
        self.outbox: Any = None  # what the database has of it (outbox.py)
        self.savepoints: Dict[str, int] = {}
        self.catalog: Any = None  # that was read in this transaction
        self.identity: Any = None  # of the database, for it
        self.statement: Optional[List[Any]] = None  # what the ORM's compiler is about to execute: verb, table; rows that it changed
        self.absent: List[Any] = []  # primary keys of no row, when the last write was looked at
        self.selected: Optional[Tuple[str, Any]] = None
        self.is_inside = False  # a statement runs that was seen
        self.settings = session.Settings()  # what SET left in the session
        self.has_temporary = False  # tables, of this session alone
        self.is_connecting = False
        self.place: Any = None  # that it is connected to
        self.cursor_classes: Dict[Any, Any] = {}
        self.reader: Optional[int] = None  # the mark of the request that uses it
        self.cursors: Set[Any] = set()  # of SQLite, that may be in the middle of their rows: references that leave by themselves
        self.probed: Any = None
        self.outermost: Optional[int] = None  # how deep blocks are nested that are to be like outermost ones
        for name in ("_commit", "_rollback", "_close", "_savepoint", "_savepoint_rollback", "_set_autocommit"):
            setattr(connection, name, partial(getattr(self, name), getattr(connection, name)))
        connection.create_cursor = partial(handles.made, self, connection.create_cursor)
        if connection.vendor == "postgresql":
            connection.get_connection_params = partial(foreign.params, connection.get_connection_params)
        connection.execute_wrappers.insert(0, self.execute)  # the first: contexts pop the last

    @property
    def in_transaction(self) -> bool:
        return self.connection.in_atomic_block or not self.connection.get_autocommit() or self.by_hand

    @property
    def by_hand(self) -> bool:
        """Is the driver in a transaction, perhaps one that SQL began?"""
        driver, vendor = self.connection.connection, self.connection.vendor
        if driver is None:
            return False
        if vendor == "sqlite":  # asks no server
            return drivers.in_transaction(vendor, driver)
        with self.connection.wrap_database_errors:
            return drivers.in_transaction(vendor, driver)

    def _synchronized(self, work: Callable[[], Any]) -> Callable[[], Any]:
        return drivers.synchronized(self.connection, work)

    def note(self, names: Iterable[str]) -> None:
        reads.note_write()
        self.names.extend(names)
        self.reach = wider(self.reach, current())
        if len(self.names) > 64 * NAMES_MAX and not self.connection.savepoint_ids:
            self.names = [EVERYTHING]

    def _forget(self) -> None:
        self.names, self.savepoints, self.catalog, self.reach = [], {}, None, None

    def _commit(self, commit: Any) -> Any:
        names = set(self.names)
        if names and drivers.has_open_transaction(self.connection.vendor, self.connection.connection):
            # What COMMIT would check and run, without a bound of time, happens before the guard begins.
            with self.connection.wrap_database_errors, self.connection.connection.cursor() as cursor:
                self.inside(self._synchronized(partial(cursor.execute, "SET CONSTRAINTS ALL IMMEDIATE")))
        commit = partial(self.inside, commit)  # the driver's, which is watched too
        result = guarded(names, self._synchronized(commit), self._bound, sent=outbox.sent(self, names)) if names else commit()
        self.settings.committed()
        self._forget()
        return result

    def _set_autocommit(self, setter: Any, autocommit: bool) -> Any:
        names = set(self.names) if autocommit else set()  # some drivers commit what is open
        if not autocommit:
            cursors.began(self)
        work = partial(setter, autocommit)
        result = guarded(names, self._synchronized(work), self._bound, sent=outbox.sent(self, names)) if names else work()
        if autocommit:
            self.settings.committed()
        if names:
            self._forget()
        return result

    def _rollback(self, rollback: Any) -> Any:
        result = rollback()
        self.settings.rolled_back()
        self._forget()
        return result

    def _close(self, close: Any) -> Any:
        self.probed = None
        self.cursors.clear()
        result = close()
        self._forget()
        return result

    def _savepoint(self, savepoint: Any, sid: str) -> Any:
        result = savepoint(sid)
        self.savepoints[sid] = len(self.names)
        return result

    def _savepoint_rollback(self, rollback: Any, sid: str) -> Any:
        result = rollback(sid)
        self.settings.rolled_back_to_savepoint()
        del self.names[self.savepoints.get(sid, len(self.names)):]
        return result

    def _bound(self, left_ms: int) -> Callable[[], None]:
        """Lets COMMIT fail when the guard's time is over: SQLite's waits for readers. Other databases have no such way."""
        driver = self.connection.connection
        if self.connection.vendor == "sqlite":
            usual_ms = int(float(self.connection.settings_dict.get("OPTIONS", {}).get("timeout", 5.0)) * 1000)
            if usual_ms > left_ms:
                driver.execute(f"PRAGMA busy_timeout = {left_ms}").close()
                return lambda: driver.execute(f"PRAGMA busy_timeout = {usual_ms}").close()
        return _nothing

    # ---- SQL ----

    def execute(self, execute: Any, statement: Any, params: Any, many: bool, context: Any) -> Any:
        text = statement if isinstance(statement, str) else drivers.text_of(statement, self.connection)
        if not self.is_connecting:  # then no request's connection yet
            cursors.using(self, text, context.get("cursor"))
        if self.statement is not None and self.statement[0] == "SELECT" and sql.is_plain_select(text):  # as most are
            self.selected = (text, params)
            return self.inside(execute, statement, params, many, context)
        run = partial(self.inside, execute, statement, params, many, context)
        if self.statement is not None and self._is_expected(text):
            if self.statement[0] == "SELECT":
                self.selected = (text, params)
                called = sql.functions(text)
                if called and session.calls_setter(self.connection, called):
                    self.settings.may_be_said(self.in_transaction)
                if self._reading_writes(text):
                    return self._write(text, [EVERYTHING], sql.ANYTHING, many, run)
                return run()
            return self._expected_write(text, context, run)
        kind, table = self._classify(text)
        if (kind == sql.ANYTHING or (kind == sql.READ and sql.functions(text))) and session.may_set(self.connection, text):
            self.settings.may_be_said(self.in_transaction)
        if kind == sql.READ:
            noted = reads.noting()
            if noted is not None:
                noted.other_sql(text, params, self.connection)
                self.note_session(noted, text)
            return run()
        if kind == sql.NOTHING:
            if sql.sets_session(text) and not self.is_connecting:
                self.settings.said(text, params, self.in_transaction)
            elif text.lstrip()[:8].upper() == "ROLLBACK":
                self.settings.rolled_back_to_savepoint()
            noted = reads.noting()
            if noted is not None and session.is_show(text):
                self.note_session(noted, text)
            return run()
        if sql.makes_temporary(text):
            self.has_temporary = True
            handles.leave(self, "temporary")
        if self.connection.vendor == "sqlite" and sql.returns_rows(text) and isinstance(context["cursor"], CursorWrapper):
            run = drivers.fetched(context["cursor"], run)
        if kind == sql.COMMIT or (kind == sql.RELEASE and not self.connection.in_atomic_block and self.connection.get_autocommit()):
            names = set(self.names) | {EVERYTHING}
            result = self._around(names, run, outbox.sent(self, names))
        elif kind in (sql.ROLLBACK, sql.RELEASE):
            result = run()
        else:
            result = self._write(text, named.of_sql(text, table), kind, many, run)
            if session.is_discard(text):
                self.settings.discarded()
            return result
        if not self.by_hand:
            (self.settings.rolled_back if kind == sql.ROLLBACK else self.settings.committed)()
            self._forget()
        return result

    def _classify(self, text: str) -> Tuple[int, Optional[surrogates.Table]]:
        """By its text, and, where that is a SELECT, by what the database says of the functions and views in it."""
        kind, table = sql.classify(text)
        if self.connection.vendor == "postgresql" and not self.is_connecting:
            if kind == sql.ANYTHING and sql.is_select_with_calls(text):
                said = catalog.last(self.connection)
                called = sql.functions(text)
                if called <= set(said.functions) and not said.may_write(called) and not said.reading_writes(text):
                    return sql.READ, None
            elif kind in (sql.READ, sql.WRITE) and not sql.is_simple(text) and catalog.last(self.connection).reading_writes(text):
                return sql.ANYTHING, None
        return kind, table

    def _reading_writes(self, text: str) -> bool:
        """May this SELECT of the ORM's write?"""
        called = sql.functions(text)
        if not called and sql.tables_read(text)[1]:
            return False
        said = catalog.of(self.connection)
        return said.may_write(called) or said.reading_writes(text)

    def _expected_write(self, text: str, context: Any, run: Callable[[], Any]) -> Any:
        statement, called = self.statement, sql.functions(text)
        if called and catalog.of(self.connection).may_write(called):
            self.note([EVERYTHING])
        result = run()
        statement[2] = context["cursor"].rowcount
        return result

    def inside(self, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The driver's cursor, which it goes through, does not judge it again."""
        before, self.is_inside = self.is_inside, True
        try:
            return run(*args, **kwargs)
        except Exception:
            reads.failed()
            raise
        finally:
            self.is_inside = before

    def note_session(self, noted: reads.Reads, text: str) -> None:
        """What this connection reads may be another thing than what another one would read."""
        if places.is_former(self.connection.alias, self.place):
            noted.unseen.add("former_database")
        if self.has_temporary:
            noted.unseen.add("temporary_table")
        others = self.settings.of_others(noted)
        if others and session.matters(others, text, noted.catalog(self.connection)):
            noted.unseen.add("session_settings")

    def _write(self, text: str, names: List[str], kind: int, many: bool, run: Callable[[], Any]) -> Any:
        if not self.in_transaction:
            if kind == sql.WRITE and not many and connections[self.connection.alias] is self.connection:
                with transaction.atomic(using=self.connection.alias, savepoint=False):
                    return self._write(text, names, kind, many, run)
            return self._around(set(names) | self._follows(text, kind), run)
        self.note(names)
        if kind == sql.WRITE:
            result = run()
            self.note(self._follows(text, kind))
            return result
        if kind == sql.ANYTHING and (";" in text or not self.connection.features.can_rollback_ddl):
            return self._around(set(names), run)  # there may be a COMMIT in it
        return run()

    def _follows(self, text: str, kind: int) -> Set[str]:
        """What the database changes besides, by a plain statement."""
        table = sql.classify(text)[1] if kind == sql.WRITE else None
        return set() if table is None else self.also(table, text.split(None, 1)[0].upper())

    def also(self, table: surrogates.Table, verb: str) -> Set[str]:
        """Asked after the statement, which has locked the table: what its triggers are does not change any more."""
        return set() if EVERYTHING in self.names else catalog.of(self.connection).also(table.name.lower(), verb)

    def _around(self, names: Set[str], run: Callable[[], Any], sent: Optional[Sent] = None) -> Any:
        reads.note_write()
        return guarded(names, self._synchronized(run), max_ms=LONG_MS, whole=False, sent=sent)

    def _is_expected(self, text: str) -> bool:
        verb, table, _ = self.statement
        if verb == "SELECT":
            return text.lstrip("( ")[:7] in ("SELECT ", "EXPLAIN") or sql.is_with_select(text)
        return text.startswith(verb) and f" {table} " in text[:len(table) + 40] + " "


@contextmanager
def like_outermost(connection: Any) -> Iterator[None]:
    """In a transaction of ours: a block of the view's own may be durable, and what fails in it undoes it alone, as without us."""
    state = state_of(connection)
    before, state.outermost = state.outermost, len(connection.savepoint_ids)
    try:
        yield
    finally:
        state.outermost = before


def _patch_blocks() -> None:
    enter, mark = transaction.Atomic.__enter__, transaction.mark_for_rollback_on_error

    def is_outermost(using: Any) -> bool:
        connection = transaction.get_connection(using)
        state = getattr(connection, "_etagd", None)
        return state is not None and state.outermost is not None and state.outermost == len(connection.savepoint_ids)

    @wraps(enter)
    def entered(self: Any) -> Any:
        return enter(transaction.Atomic(self.using, True, False) if is_outermost(self.using) else self)

    @wraps(mark)
    def marked(using: Any = None) -> Any:
        return transaction.Atomic(using, True, False) if is_outermost(using) else mark(using)

    transaction.Atomic.__enter__, transaction.mark_for_rollback_on_error = entered, marked


def has_failed(connection: Any) -> bool:
    """Can the open transaction only be rolled back, as a statement failed in it?"""
    if connection.needs_rollback:
        return True
    try:
        with connection.wrap_database_errors:
            return connection.connection is not None and drivers.has_failed(connection.vendor, connection.connection)
    except DatabaseError:  # of a pipeline, which says it only now
        return True


def lock_sqlite(connection: Any, model: Any) -> None:
    named.lock_sqlite(state_of(connection), model)


def state_of(connection: Any) -> _State:
    state = getattr(connection, "_etagd", None)
    if state is None:
        state = connection._etagd = _State(connections[connection.alias] if isinstance(connection, ConnectionProxy) else connection)
    return state


# ---- Django's compilers and cursors ----


def _announced(state: _State, statement: List[Any], run: Callable[[], Any]) -> Any:
    """Says to execute() which statement comes now: what else is executed meanwhile is judged by its text."""
    before, state.statement = state.statement, statement
    try:
        return run()
    finally:
        state.statement = before


def _write(original: Any, verb: str) -> Any:
    @wraps(original)
    def execute_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        connection, state = self.connection, state_of(self.connection)
        if not state.in_transaction:
            if connections[connection.alias] is connection:
                with transaction.atomic(using=connection.alias, savepoint=False):
                    return execute_sql(self, *args, **kwargs)
            return state._around({EVERYTHING}, partial(original, self, *args, **kwargs))
        state.absent = []
        state.note(named.of(state, self))
        absent, expected = state.absent, [verb, connection.ops.quote_name(self.query.get_meta().db_table), -1]
        result = _announced(state, expected, partial(original, self, *args, **kwargs))
        state.note(named.after(state, self, absent, expected[2]))
        return result
    return execute_sql


def _read(original: Any, delete: Any) -> Any:
    @wraps(original)
    def execute_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, compilers.SQLDeleteCompiler):
            return delete(self, *args, **kwargs)
        if isinstance(self, (compilers.SQLUpdateCompiler, compilers.SQLInsertCompiler)):
            return original(self, *args, **kwargs)
        state, noted = state_of(self.connection), reads.noting()
        if noted is not None:
            noted.begin(self.connection)
        selected, announced = state.selected, state.statement
        state.selected, state.statement = None, ["SELECT", "", -1]
        try:
            result = original(self, *args, **kwargs)
            noted, statement = reads.noting(), state.selected
        finally:
            state.selected, state.statement = selected, announced
        if noted is not None and statement is not None:
            state.note_session(noted, statement[0])
            if isinstance(result, list):
                rows = result
            else:
                rows = [[result]] if isinstance(result, tuple) else None
            noted.add_query(self, *statement, rows)
        if isinstance(result, GeneratorType):
            return cursors.watched(result)
        return result
    return execute_sql


def _patch_connect() -> None:
    """What a new connection is asked and set (types, settings) is the same for every request: it is not noted."""
    connect = BaseDatabaseWrapper.connect

    @wraps(connect)
    def quiet_connect(self: Any) -> None:
        noted, state, quiet = reads.current.set(None), state_of(self), foreign.connecting.set(True)
        state.is_connecting, has_failed = True, False
        try:
            connect(self)
        except Exception:
            has_failed = True
            raise
        finally:
            foreign.connecting.reset(quiet)
            reads.current.reset(noted)
            state.is_connecting = False
            if has_failed:
                reads.failed()

    BaseDatabaseWrapper.connect = quiet_connect


def _created(connection: Any, **_: Any) -> None:
    state = state_of(connection)
    state.outbox = None
    handles.watch(state)
    foreign.watch(state)
    state.place = places.of(connection.settings_dict)
    places.means(connection.alias, state.place, untold.now)


_registered = False


def register() -> None:
    global _registered
    connection_created.connect(_created, dispatch_uid="etagd")
    for connection in connections.all():
        state_of(connection)
    if not _registered:
        _registered = True
        delete = _write(compilers.SQLCompiler.execute_sql, "DELETE FROM")
        compilers.SQLInsertCompiler.execute_sql = _write(compilers.SQLInsertCompiler.execute_sql, "INSERT")
        compilers.SQLUpdateCompiler.execute_sql = _write(compilers.SQLUpdateCompiler.execute_sql, "UPDATE")
        if hasattr(compilers.SQLUpdateCompiler, "execute_returning_sql"):  # of 6.0 on: save(), without execute_sql()
            compilers.SQLUpdateCompiler.execute_returning_sql = _write(compilers.SQLUpdateCompiler.execute_returning_sql, "UPDATE")
        compilers.SQLCompiler.execute_sql = _read(compilers.SQLCompiler.execute_sql, delete)
        handles.register(state_of)
        places.watch(connections, untold.now)
        _patch_connect()
        _patch_blocks()
