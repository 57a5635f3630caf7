# SPDX-License-Identifier: Apache-2.0
"""Invalidation from the ORM, and from SQL that goes through Django's cursors.

What a statement changes is left with its connection; COMMIT takes it: a guard begins, is confirmed, COMMIT, the guard ends.
The guard may begin so late because until COMMIT nobody sees the change: a reader that saw the old data took its token before
the guard's end, so its fill is refused, or what it filled is made stale. ROLLBACK forgets the names, ROLLBACK TO SAVEPOINT
those since the savepoint: nothing became stale.

In autocommit mode a write by the ORM gets a transaction of its own, so that the guard stands around its COMMIT, not around
a wait for locks. Other SQL gets the guard around the statement.

Threads: as Django's connections, each of which is one thread's.
"""
from __future__ import annotations

import threading
import time
import weakref
from contextlib import closing, contextmanager
from functools import partial, wraps
from types import GeneratorType
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from django.db import DatabaseError, DataError, IntegrityError, NotSupportedError, ProgrammingError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.backends.utils import CursorWrapper
from django.db.models.sql import compiler as compilers
from django.db.transaction import TransactionManagementError
from django.db.utils import OperationalError
from django.utils.connection import ConnectionProxy

import etagd

from . import catalog, cursors, drivers, handles, queries, reads, sql, surrogates
from .conf import client, conf, log
from .surrogates import EVERYTHING

NAMES_MAX = 1000  # of one transaction; more: everything becomes stale
COMMIT_MS_MIN = 100  # a guard with less time left is no guard
_LONG_MS = 86400000  # for a statement of which nobody knows how long it takes
_ROLLED_BACK = (IntegrityError, DataError, ProgrammingError, NotSupportedError)  # of a COMMIT: surely not done


class GuardFailed(OperationalError):
    """etagd could not be told of a change before its COMMIT, which therefore did not happen."""


# ---- Telling etagd ----


def _targets(names: Iterable[str]) -> Dict[str, Any]:
    names = sorted(names)
    if EVERYTHING in names or len(names) > NAMES_MAX:
        return {"everything": True, "hold_ms": conf.HOLD_MS}
    return {"surrogates": names, "hold_ms": conf.HOLD_MS}


class _Untold:
    """That something was committed of which nobody could be told: then everything is, before this process answers from the
    cache again."""

    def __init__(self) -> None:
        self._added = self._told = 0
        self._again = 0.0
        self._lock = threading.Lock()

    def add(self) -> None:
        with self._lock:
            self._added += 1

    def tell(self) -> bool:
        """True if nothing is left untold. Tries once a second."""
        if self._added == self._told:
            return True
        with self._lock:
            if time.monotonic() < self._again:
                return False
            self._again, added = time.monotonic() + 1, self._added
        try:
            client().invalidate(everything=True)
        except etagd.EtagError:
            return False
        with self._lock:
            self._told = max(self._told, added)
            return self._told == self._added


untold = _Untold()


def _begin(names: Set[str], max_ms: int = 0) -> Optional[etagd.Guard]:
    """A guard that was just confirmed, with time left. None: there is neither daemon nor spool, and the settings say to go on."""
    guard = None
    try:
        guard = client().guard(max_ms=max_ms, **_targets(names))
        for _ in range(2):
            guard.confirm()
            if guard.time_left_ms >= COMMIT_MS_MIN:
                return guard
    except etagd.EtagError as error:
        _abort(guard)
        if isinstance(error, etagd.Unavailable) and conf.WITHOUT_DAEMON == "commit":
            return None
        hint = ' (ETAGD["WITHOUT_DAEMON"] = "commit" goes on untold)' if isinstance(error, etagd.Unavailable) else ""
        raise GuardFailed(f"etagd: no guard for this change, which is not committed: {error}{hint}") from error
    _abort(guard)
    raise GuardFailed("etagd: a guard was over before COMMIT could begin (guard-linger-ms is too short)")


def _abort(guard: Optional[etagd.Guard]) -> None:
    if guard is not None and guard.is_open:
        try:
            guard.abort()
        except etagd.EtagError as error:
            log.warning("etagd: a guard's abort was not told; it lingers: %s", error)


def _end(guard: etagd.Guard) -> None:
    try:
        guard.commit()
    except etagd.EtagError as error:
        log.error("etagd: a guard's end was not told; it lingers, so nothing old is answered meanwhile: %s", error)


def _after(names: Set[str]) -> None:
    """After a COMMIT without a guard."""
    try:
        client().invalidate(**_targets(names))
    except etagd.EtagError as error:
        log.error("etagd: not told of a change that is committed; old answers are possible until it is: %s", error)
        untold.add()


def guarded(names: Set[str], work: Callable[[], Any], bound: Optional[Callable[[int], Callable[[], None]]] = None,
            max_ms: int = 0, whole: bool = True) -> Any:
    """Runs work(), which makes the change of these names visible to others. bound(ms) lets the database give COMMIT up after
    that time, and returns what undoes that. whole: work is one COMMIT. Else it may be several, of which some were done when the
    next one fails."""
    guard = _begin(names, max_ms) if conf.GUARDS else None
    try:
        undo = bound(guard.time_left_ms) if guard is not None and bound is not None else None
    except BaseException:
        _abort(guard)
        raise
    try:
        result = work()
    except _ROLLED_BACK:
        if whole:
            _abort(guard)
        elif guard is not None:
            _end(guard)
        else:
            _after(names)
        raise
    except BaseException:
        if guard is not None:
            guard.forget()  # it may have happened: the guard lingers, and then counts as committed
        else:
            _after(names)
        raise
    finally:
        if undo is not None:
            undo()
    if guard is None:
        _after(names)
        return result
    if guard.time_left_ms == 0:
        log.error("etagd: COMMIT took longer than its guard lasts if the daemon restarts meanwhile: raise guard-linger-ms")
    _end(guard)
    return result


def invalidate(*names: str, instances: Iterable[Any] = (), models: Iterable[Any] = (), everything: bool = False,
               using: str = "default") -> None:
    """For changes that no statement of Django's shows (a stored procedure, a trigger, COPY, a file, another program's data):
    surrogate keys of the application's own, these rows, every row of these models. In a transaction: with its COMMIT, else
    at once. Raises GuardFailed."""
    made = set(surrogates.said(names)) | ({EVERYTHING} if everything else set())
    for instance in instances:
        made.update(surrogates.changed(instance))
    for model in models:
        made.update(surrogates.every_row(model))
    state = state_of(connections[using])
    if state.in_transaction:
        state.note(made)
    elif made:
        _note_write()
        guarded(made, _nothing)


def uncommitted() -> bool:
    """Has this thread changed something that it has not committed?"""
    return any(state_of(connection).names for connection in _opened())


def in_transaction() -> bool:
    """Is any connection of this thread in a transaction, whose snapshot may be of any age?"""
    return any(connection.connection is not None and (connection.in_atomic_block or not connection.autocommit
                                                      or state_of(connection).by_hand) for connection in _opened())


def _opened() -> List[Any]:
    """The connections that this thread has made."""
    made = connections._connections
    found = [getattr(made, alias, None) for alias in connections.settings]
    return [connection for connection in found if connection is not None]


def _nothing() -> None:
    pass


def _note_write() -> None:
    noted = reads.noting()
    if noted is not None:
        noted.wrote = True


# ---- Connections ----


class _State:
    """What a connection's open transaction changed, and the methods that stand around its own."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.weak = weakref.ref(self)
        self.names: List[str] = []
        self.savepoints: Dict[str, int] = {}
        self.catalog: Any = None  # that was read in this transaction
        self.identity: Any = None  # of the database, for it
        self.statement: Optional[List[Any]] = None  # what the ORM's compiler is about to execute: verb, table; rows that it changed
        self.absent: List[Any] = []  # primary keys of no row, when the last write was looked at
        self.selected: Optional[Tuple[str, Any]] = None
        self.is_inside = False  # a statement runs that was seen
        self.settings_of: Any = None  # the request that changed what the session's statements mean
        self.has_temporary = False  # tables, of this session alone
        self.is_connecting = False
        self.cursor_classes: Dict[Any, Any] = {}
        self.reader: Optional[int] = None  # the mark of the request that uses it
        self.cursors: Any = weakref.WeakSet()  # of SQLite, that may be in the middle of their rows
        self.probed: Any = None
        self.outermost: Optional[int] = None  # how deep blocks are nested that are to be like outermost ones
        for name in ("_commit", "_rollback", "_close", "_savepoint", "_savepoint_rollback", "_set_autocommit"):
            setattr(connection, name, partial(getattr(self, name), getattr(connection, name)))
        connection.create_cursor = partial(handles.made, self, connection.create_cursor)
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
        if vendor == "sqlite":  # asks nobody
            return drivers.in_transaction(vendor, driver)
        with self.connection.wrap_database_errors:
            return drivers.in_transaction(vendor, driver)

    def _synchronized(self, work: Callable[[], Any]) -> Callable[[], Any]:
        return drivers.synchronized(self.connection, work)

    def note(self, names: Iterable[str]) -> None:
        _note_write()
        self.names.extend(names)
        if len(self.names) > 64 * NAMES_MAX and not self.connection.savepoint_ids:
            self.names = [EVERYTHING]

    def _forget(self) -> None:
        self.names, self.savepoints, self.catalog = [], {}, None

    def _commit(self, commit: Any) -> Any:
        names = set(self.names)
        if names and drivers.has_open_transaction(self.connection.vendor, self.connection.connection):
            # What COMMIT would check and run, without a bound of time, happens before the guard begins.
            with self.connection.wrap_database_errors, self.connection.connection.cursor() as cursor:
                self.inside(self._synchronized(partial(cursor.execute, "SET CONSTRAINTS ALL IMMEDIATE")))
        result = guarded(names, self._synchronized(commit), self._bound) if names else commit()
        self._forget()
        return result

    def _set_autocommit(self, setter: Any, autocommit: bool) -> Any:
        names = set(self.names) if autocommit else set()  # some drivers commit what is open
        if not autocommit:
            cursors.began(self)
        result = guarded(names, self._synchronized(partial(setter, autocommit)), self._bound) if names else setter(autocommit)
        if names:
            self._forget()
        return result

    def _rollback(self, rollback: Any) -> Any:
        result = rollback()
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
        del self.names[self.savepoints.get(sid, len(self.names)):]
        return result

    def _bound(self, left_ms: int) -> Callable[[], None]:
        """Lets COMMIT fail when the guard's time is over: SQLite's waits for readers. Other databases cannot be told."""
        driver = self.connection.connection
        if self.connection.vendor == "sqlite":
            usual_ms = int(float(self.connection.settings_dict.get("OPTIONS", {}).get("timeout", 5.0)) * 1000)
            if usual_ms > left_ms:
                driver.execute(f"PRAGMA busy_timeout = {left_ms}").close()
                return lambda: driver.execute(f"PRAGMA busy_timeout = {usual_ms}").close()
        return _nothing

    # ---- SQL ----

    def execute(self, execute: Any, statement: Any, params: Any, many: bool, context: Any) -> Any:
        text = statement if isinstance(statement, str) else _as_text(statement, self.connection)
        run = partial(self.inside, execute, statement, params, many, context)
        if not self.is_connecting:  # then nobody's connection yet
            cursors.using(self, text, context.get("cursor"))
        if self.statement is not None and self._is_expected(text):
            if self.statement[0] == "SELECT":
                self.selected = (text, params)
                called = sql.functions(text)
                if called and catalog.of(self.connection).may_write(called):
                    return self._write(text, [EVERYTHING], sql.ANYTHING, many, run)
                return run()
            return self._expected_write(text, context, run)
        kind, table = sql.classify(text)
        if kind == sql.READ:
            noted = reads.noting()
            if noted is not None:
                noted.other_sql(text, params, self.connection)
                self.note_session(noted)
            return run()
        if kind == sql.NOTHING:
            if sql.sets_session(text) and not self.is_connecting:
                self.settings_of = reads.noting() or self
                handles.leave(self, "settings")
            return run()
        if sql.makes_temporary(text):
            self.has_temporary = True
            handles.leave(self, "temporary")
        if self.connection.vendor == "sqlite" and sql.returns_rows(text) and isinstance(context["cursor"], CursorWrapper):
            run = drivers.fetched(context["cursor"], run)
        if kind == sql.COMMIT or (kind == sql.RELEASE and not self.connection.in_atomic_block and self.connection.get_autocommit()):
            result = self._around(set(self.names) | {EVERYTHING}, run)
        elif kind in (sql.ROLLBACK, sql.RELEASE):
            result = run()
        else:
            return self._write(text, _names_of_sql(text, table), kind, many, run)
        if not self.by_hand:
            self._forget()
        return result

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
        finally:
            self.is_inside = before

    def note_session(self, noted: reads.Reads) -> None:
        """What this connection reads may be another thing than what another one would read."""
        if self.has_temporary:
            noted.unseen.add("temporary_table")
        if self.settings_of is not None and self.settings_of is not noted:
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

    def _around(self, names: Set[str], run: Callable[[], Any]) -> Any:
        _note_write()
        return guarded(names, self._synchronized(run), max_ms=_LONG_MS, whole=False)

    def _is_expected(self, text: str) -> bool:
        verb, table, _ = self.statement
        if verb == "SELECT":
            return text.lstrip("( ")[:7] in ("SELECT ", "EXPLAIN") or sql.is_with_select(text)
        return text.startswith(verb) and f" {table} " in text[:len(table) + 40] + " "

    # ---- Writes by the ORM ----

    def scopes_of(self, table: surrogates.Table, values: List[Any]) -> Set[Optional[str]]:
        """The scopes of these rows as they are now, and, as the rows are locked, until this transaction ends. By the driver:
        not seen by execute(), nor counted by assertNumQueries()."""
        connection, quote = self.connection, self.connection.ops.quote_name
        connection.validate_no_broken_transaction()
        name, scope, pk = quote(table.name), quote(table.scope.column), quote(table.pk.column)
        with connection.wrap_database_errors, closing(connection.create_cursor()) as cursor:
            lock_sqlite(connection, table.model)
            lock = " FOR UPDATE" if connection.features.has_select_for_update else ""
            prepared = [table.pk.get_db_prep_value(value, connection, prepared=False) for value in values]
            self.inside(cursor.execute, f"SELECT {scope}, {pk} FROM {name} WHERE {pk} IN ({', '.join(['%s'] * len(values))}){lock}", prepared)
            rows = cursor.fetchall()
        found = {table.row(row[1]) for row in rows}
        self.absent = [value for value in values if table.row(value) not in found]
        return {table.collection(row[0]) for row in rows}

    def names_after(self, compiler: Any, absent: List[Any], changed: int) -> Set[str]:
        """What a write touched that could be known only after it: rows that came between the question whose they are and the
        statement, and what the database changed besides. absent: keys of no row before it."""
        try:
            return self._names_after(compiler, absent, changed)
        except (DatabaseError, TransactionManagementError):
            raise
        except Exception:  # pylint: disable=broad-except
            log.exception("etagd: what a write changed besides was not understood, so it makes everything stale")
            return {EVERYTHING}

    def _names_after(self, compiler: Any, absent: List[Any], changed: int) -> Set[str]:
        table = surrogates.table_of(compiler.query.get_meta().model)
        if table.opaque:
            return set()
        verb = "INSERT" if isinstance(compiler, compilers.SQLInsertCompiler) else \
            "UPDATE" if isinstance(compiler, compilers.SQLUpdateCompiler) else "DELETE"
        made = self.also(table, verb)
        if not absent or changed == 0:
            return made
        moved = any(field.column == table.scope.column for field, _, _ in getattr(compiler.query, "values", ()))
        if verb == "UPDATE" and not moved:
            made |= {name or table.unknown_rows for name in self.scopes_of(table, absent)}
        return made | {table.unknown_rows} if verb == "DELETE" or moved or self.absent else made

    def names_of(self, compiler: Any) -> Set[str]:
        try:
            return self._names_of(compiler)
        except (DatabaseError, TransactionManagementError):
            raise
        except Exception:  # pylint: disable=broad-except
            log.exception("etagd: a write was not understood, so it makes everything stale")
            return {EVERYTHING}

    def _names_of(self, compiler: Any) -> Set[str]:
        query = compiler.query
        table = surrogates.table_of(query.get_meta().model)
        if table.opaque:
            return {EVERYTHING}
        names = {surrogates.any_write(), table.any_row}
        if isinstance(compiler, compilers.SQLDeleteCompiler):
            names |= table.deleted_with
        if isinstance(compiler, compilers.SQLInsertCompiler):
            parts = self._inserted(query, table)
        else:
            parts = self._changed(query, table)
        return names | parts if parts is not None else names | {table.unknown_rows}

    @staticmethod
    def _inserted(query: Any, table: surrogates.Table) -> Optional[Set[str]]:
        if getattr(query, "on_conflict", None) is not None and getattr(query.on_conflict, "name", "") == "UPDATE":
            return None
        parts: Set[Optional[str]] = set()
        columns = {field.column for field in query.fields}
        if table.pk.column in columns:
            parts.update(table.row(getattr(row, table.pk.attname)) for row in query.objs)
        if table.scope is not None:
            if table.scope.column not in columns:
                return None
            parts.update(table.collection(getattr(row, table.scope.attname)) for row in query.objs)
        return None if None in parts or len(parts) > NAMES_MAX // 4 else parts

    def _changed(self, query: Any, table: surrogates.Table) -> Optional[Set[str]]:
        values = queries.pinned(query, table.pk.column)
        if values is None:
            return None
        parts: Set[Optional[str]] = {table.row(value) for value in values}
        for field, _, value in getattr(query, "values", ()):
            if field.column == table.pk.column:
                return None
            if table.scope is not None and field.column == table.scope.column:
                parts.add(table.collection(value))
        if table.scope is not None and values and None not in parts:
            parts |= self.scopes_of(table, values)
        return None if None in parts else parts


def _names_of_sql(text: str, table: Optional[surrogates.Table]) -> List[str]:
    if table is None:
        return [EVERYTHING]
    is_delete = text.lstrip()[:6].upper() == "DELETE"
    return surrogates.every_row(table.model) + (sorted(table.deleted_with) if is_delete else [])


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
    """SQLite's lock for writing, by a statement that changes nothing: who reads first may not get it any more."""
    if connection.vendor == "sqlite":
        column = model._meta.pk.column or model._meta.pk_fields[0].column  # None: of a key of several columns
        name, pk = connection.ops.quote_name(model._meta.db_table), connection.ops.quote_name(column)
        with connection.wrap_database_errors, closing(connection.create_cursor()) as cursor:
            state_of(connection).inside(cursor.execute, f"UPDATE {name} SET {pk} = {pk} WHERE 0")


def _as_text(statement: Any, connection: Any) -> str:
    """psycopg2.sql.Composable and its like."""
    as_string = getattr(statement, "as_string", None)
    if as_string is not None:
        connection.ensure_connection()
        return as_string(connection.connection)
    return statement.decode("utf-8", "replace") if isinstance(statement, bytes) else str(statement)


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
        state.note(state.names_of(self))
        absent, expected = state.absent, [verb, connection.ops.quote_name(self.query.get_meta().db_table), -1]
        result = _announced(state, expected, partial(original, self, *args, **kwargs))
        state.note(state.names_after(self, absent, expected[2]))
        return result
    return execute_sql


def _read(original: Any, delete: Any) -> Any:
    @wraps(original)
    def execute_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, compilers.SQLDeleteCompiler):
            return delete(self, *args, **kwargs)
        run = partial(original, self, *args, **kwargs)
        if isinstance(self, (compilers.SQLUpdateCompiler, compilers.SQLInsertCompiler)):
            return run()
        state, noted = state_of(self.connection), reads.noting()
        if noted is not None:
            noted.begin(self.connection)
        before, state.selected = state.selected, None
        try:
            result = _announced(state, ["SELECT", "", -1], run)
            noted, statement = reads.noting(), state.selected
        finally:
            state.selected = before
        if noted is not None and statement is not None:
            state.note_session(noted)
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
    """What a new connection is asked and told (types, settings) is the same for every request: it is not noted."""
    connect = BaseDatabaseWrapper.connect

    @wraps(connect)
    def quiet_connect(self: Any) -> None:
        noted, state = reads.current.set(None), state_of(self)
        state.is_connecting = True
        try:
            connect(self)
        finally:
            reads.current.reset(noted)
            state.is_connecting = False

    BaseDatabaseWrapper.connect = quiet_connect


def _created(connection: Any, **_: Any) -> None:
    handles.watch(state_of(connection))


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
        _patch_connect()
        _patch_blocks()
