# SPDX-License-Identifier: Apache-2.0
"""The cursors of database drivers, where Django is not between: Django's wrapper hands out what the driver's cursor has, and
the cursor itself.

    execute(), executemany() of a driver's own cursor       as by Django's wrapper: judged by their text
    COPY, procedures, scripts, whatever is not known here   may change anything
    what begins only when it is entered, or iterated over   ... in a transaction of ours, from its begin to its end: the guard must
    (copy() and stream() of psycopg 3)                      not be over before the data are sent

PostgreSQL's cursors are watched by the connection's cursor_factory, so that is true of connection.connection.cursor() too.
SQLite's are those that Django makes.
"""
from __future__ import annotations

import sys
from functools import partial, wraps
from typing import Any, Callable, Dict, Iterator

from django.db import connections, transaction
from django.db.backends.utils import CursorWrapper

from . import cursors, drivers, reads, sql
from .others import session
from .surrogates import EVERYTHING

# What neither reads nor writes; the rest of a driver's cursor may do anything.
_HARMLESS = frozenset("""
    __next__ adapters arraysize binary_types cast close closed connection description execute executemany fetchall fetchmany fetchone format
    itersize lastrowid mogrify name nextset pgresult query row_factory rowcount rownumber results scroll scrollable set_result
    setinputsizes setoutputsize statusmessage string_types timestamp typecaster tzinfo_factory withhold""".split())
_FETCHING = ("fetchone", "fetchmany", "fetchall", "__next__")
_WATCHED = ("callproc", "copy", "copy_expert", "copy_from", "copy_to", "executescript", "stream")


# ---- What begins later ----


class _Own:
    """A transaction of ours around what commits by itself, or nothing where one is open: its COMMIT carries the names."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.atomic: Any = None
        self.manual = False

    def begin(self) -> None:
        connection = self.state.connection
        if not self.state.in_transaction:
            if connections[connection.alias] is connection:
                self.atomic = transaction.atomic(using=connection.alias, savepoint=False)
                self.atomic.__enter__()
            else:
                connection.set_autocommit(False)
                self.manual = True
        self.state.note([EVERYTHING])

    def end(self, *error: Any) -> None:
        """error: as of __exit__()."""
        if self.atomic is not None:
            self.atomic.__exit__(*error)
        elif self.manual:
            try:
                self.state.connection.rollback() if error[0] else self.state.connection.commit()  # pylint: disable=expression-not-assigned
            finally:
                self.state.connection.set_autocommit(True)


class _Later:
    """A context manager whose work is done in it."""

    def __init__(self, state: Any, real: Any) -> None:
        self._own, self._real = _Own(state), real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __enter__(self) -> Any:
        self._own.begin()
        try:
            return self._real.__enter__()
        except BaseException:
            self._own.end(*sys.exc_info())
            raise

    def __exit__(self, *error: Any) -> Any:
        try:
            suppressed = self._real.__exit__(*error)
        except BaseException:
            self._own.end(*sys.exc_info())
            raise
        self._own.end(*((None, None, None) if suppressed else error))
        return suppressed


def _iterate(state: Any, real: Any) -> Iterator[Any]:
    own = _Own(state)
    own.begin()
    try:
        yield from real
    except GeneratorExit:
        own.end(None, None, None)  # who stops reading takes nothing back
        raise
    except BaseException:
        own.end(*sys.exc_info())
        raise
    own.end(None, None, None)


def anything(state: Any, name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls what may change anything, now or when its result is used."""
    if name == "stream" and args and sql.classify(drivers.text_of(args[0], state.connection))[0] == sql.READ:
        noted = reads.noting()
        if noted is not None:
            noted.other_sql(drivers.text_of(args[0], state.connection), args[1] if len(args) > 1 else None, state.connection)
            state.note_session(noted, drivers.text_of(args[0], state.connection))
        return call(*args, **kwargs)
    if args and session.may_set(state.connection, f"SELECT {args[0]}()" if name == "callproc" else drivers.text_of(args[0], state.connection)):
        state.settings.may_be_said(state.in_transaction)
    if name in ("copy", "stream"):
        result = call(*args, **kwargs)  # does nothing yet
    else:
        result = state._write(";", [EVERYTHING], sql.ANYTHING, False, partial(state.inside, call, *args, **kwargs))
    if isinstance(result, CursorWrapper) or hasattr(result, "execute"):
        return result
    if hasattr(result, "__enter__") and hasattr(result, "__exit__"):
        return _Later(state, result)
    return _iterate(state, result) if hasattr(result, "__next__") else result


# ---- The driver's cursors ----


_classes: Dict[Any, Any] = {}  # of SQLite's cursors, which know their connection themselves


def watched(base: Any, state: Any) -> Any:
    """A class of cursors of this connection, for a driver that makes them."""
    base = getattr(base, "_etagd_base", base)  # a pool's connection was another thread's
    if base not in state.cursor_classes:
        state.cursor_classes[base] = _class(base, state.weak)
    return state.cursor_classes[base]


def _unknown() -> None:
    """The state of a connection that is not known."""


def _class(base: Any, found: Any) -> Any:
    """found(): the state of a cursor's connection, unless the cursor has a _etagd_state of its own; None: it is over."""
    run = base.execute

    def execute(self: Any, query: Any, params: Any = None, **kwargs: Any) -> Any:
        state = self._etagd_state()
        if state is None or state.is_inside:
            return run(self, query, **kwargs) if params is None else run(self, query, params, **kwargs)
        return _executed(state, partial(run, self), self, query, params, False, kwargs)

    def executemany(self: Any, query: Any, params: Any, **kwargs: Any) -> Any:
        return _executed(self._etagd_state(), partial(base.executemany, self), self, query, params, True, kwargs)

    namespace = {"execute": execute, "executemany": executemany, "_etagd_state": staticmethod(found), "_etagd_base": base}
    for name in _WATCHED:
        if hasattr(base, name):
            namespace[name] = _watched_method(base, name)
    for name in _FETCHING:
        if hasattr(base, name):
            namespace[name] = _fetching_method(base, name)
    if not hasattr(base, "__next__"):
        namespace["__iter__"] = _iterating(base)
    return type(base.__name__, (base,), namespace)


def _watched_method(base: Any, name: str) -> Any:
    real = getattr(base, name)

    @wraps(real)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        state = self._etagd_state()
        if state is None or state.is_inside or (state.connection.vendor == "postgresql"
                                                and state.connection.connection is not self.connection):
            return real(self, *args, **kwargs)
        return anything(state, name, partial(real, self), *args, **kwargs)
    return method


def _fetching_method(base: Any, name: str) -> Any:
    real, current = getattr(base, name), reads.current.get

    @wraps(real)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        noted = current()
        if noted is not None and getattr(self, "_etagd_mark", None) != noted.mark:  # most are the request's own
            _fetches(self)
        return real(self, *args, **kwargs)
    return method


def _iterating(base: Any) -> Any:
    """psycopg 3's, a generator."""
    def iterate(self: Any) -> Iterator[Any]:
        for row in base.__iter__(self):
            _fetches(self)
            yield row
    return iterate


def _fetches(cursor: Any) -> None:
    state = cursor._etagd_state()  # None: of a thread that is over
    cursors.fetching(cursor, "" if state is None else state.connection.alias)


def _executed(state: Any, run: Callable[..., Any], cursor: Any, query: Any, params: Any, many: bool, kwargs: Any) -> Any:
    args = (query,) if params is None else (query, params)
    if state is None or state.is_inside or query == "SELECT 1":  # is_usable()
        return run(*args, **kwargs)
    if state.connection.connection is not getattr(cursor, "connection", None) and state.connection.vendor == "postgresql":
        return run(*args, **kwargs)  # a pool has lent its connection to another
    return state.execute(lambda *_: run(*args, **kwargs), query, params, many, {"connection": state.connection, "cursor": cursor})


def leave(state: Any, name: str, value: Any = True) -> None:
    """The driver's connection keeps what a request left with it, also in a pool. psycopg2's has no pool of Django's."""
    try:
        setattr(state.connection.connection, "_etagd_" + name, value)
    except AttributeError:
        pass


def watch(state: Any) -> None:
    """A connection of the driver that is new to this one of Django's."""
    driver = state.connection.connection
    state.has_temporary = getattr(driver, "_etagd_temporary", False)
    state.settings = getattr(driver, "_etagd_settings", None) or session.Settings()
    leave(state, "settings", state.settings)
    state.identity = None  # of another database, perhaps
    if state.connection.vendor == "postgresql" and hasattr(driver, "cursor_factory"):
        if driver.cursor_factory is None:
            from psycopg2.extensions import cursor as plain

            driver.cursor_factory = watched(plain, state)
        else:
            driver.cursor_factory = watched(driver.cursor_factory, state)
        if hasattr(driver, "server_cursor_factory"):
            driver.server_cursor_factory = watched(driver.server_cursor_factory, state)


def made(state: Any, create: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Of SQLite, which has no cursor_factory. A class for each connection would be one for each request, under ASGI."""
    cursor = create(*args, **kwargs)
    if state.connection.vendor == "sqlite":
        base = type(cursor)
        watching = _classes.get(base)
        if watching is None:
            watching = _classes[base] = _class(base, _unknown)
        cursor.__class__ = watching
        cursor._etagd_state = state.weak
    return cursor


# ---- Django's wrapper ----


def register(state_of: Callable[[Any], Any]) -> None:
    """state_of: what is known of one of Django's connections."""
    callproc, getter = CursorWrapper.callproc, CursorWrapper.__getattr__

    @wraps(callproc)
    def guarded_callproc(self: Any, *args: Any, **kwargs: Any) -> Any:
        return anything(state_of(self.db), "callproc", partial(callproc, self), *args, **kwargs)

    @wraps(getter)
    def guarded_getattr(self: Any, name: str) -> Any:
        if name in _HARMLESS:
            if name in _FETCHING and not cursors.is_watched(self.cursor):
                cursors.fetching(self, self.db.alias)
            return getter(self, name)
        found = getter(self, name)
        if name.startswith("_") or not callable(found):
            return found
        if name in _WATCHED and cursors.is_watched(self.cursor):
            return found
        return partial(anything, state_of(self.db), name, found)

    CursorWrapper.callproc, CursorWrapper.__getattr__ = guarded_callproc, guarded_getattr
