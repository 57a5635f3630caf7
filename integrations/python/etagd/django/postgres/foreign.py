# SPDX-License-Identifier: Apache-2.0
"""The connections of PostgreSQL's drivers, where Django is not between.

    commit(), transaction(), tpc_commit() of a connection of Django's     carry what was changed, as COMMIT by Django does
    a connection that Django's pool lent, connection.pool.connection()    what it changes makes everything stale; what a request reads
                                                                          there is not stored
    a connection that the site opened itself                              what a request reads there is not stored. What it changes is
                                                                          another program's: it may be another database

psycopg 3 is watched at its classes; psycopg2's, which are not Python's, by a class of ours that Django's connections get.
"""
from __future__ import annotations

import contextvars
import re
import weakref
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, Callable, Iterator, Optional

from .. import drivers, handles, reads, sql, threads
from ..changes import outbox
from ..changes.guards import LONG_MS, after, begin, end, guarded
from ..conf import conf
from ..others import session
from ..surrogates import EVERYTHING

connecting: "contextvars.ContextVar[bool]" = contextvars.ContextVar("etagd_connecting", default=False)
_PROBES = ("", "SELECT 1")  # of pools
_TO_STDOUT = re.compile(r"\bTO\s+STDOUT\b", re.I)
_NOT_STARTED = 0  # libpq: no transaction
_installed = False


def _state(driver: Any) -> Any:
    """What is known of the connection of Django's that has this one now."""
    found = getattr(driver, "_etagd_of", None)
    state = None if found is None else found()
    return state if state is not None and state.connection.connection is driver else None


def _is_lent(driver: Any) -> bool:
    """By a pool of Django's?"""
    from django.db.backends.postgresql.base import DatabaseWrapper

    pool = getattr(driver, "_pool", None)
    return pool is not None and pool in getattr(DatabaseWrapper, "_connection_pools", {}).values()


# ---- COMMIT ----


def _committing(driver: Any, run: Callable[[], Any]) -> Any:
    state = _state(driver)
    if state is None:
        if not getattr(driver, "_etagd_wrote", False):
            return run()
        result = guarded({EVERYTHING}, run)
        driver._etagd_wrote = False
        return result
    if state.is_inside:
        return run()
    names = set(state.names)
    result = guarded(names, partial(state.inside, run), sent=outbox.sent(state, names)) if names else run()
    state.settings.committed()
    state._forget()
    return result


def _method(real: Any) -> Any:
    @wraps(real)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _committing(self, partial(real, self, *args, **kwargs))
    return method


def _undoing(real: Any) -> Any:
    @wraps(real)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result, state = real(self, *args, **kwargs), _state(self)
        if state is not None:
            state.settings.rolled_back()
        return result
    return method


def _left(real: Any) -> Any:
    """The end of psycopg 3's transaction()."""
    @wraps(real)
    def leave(self: Any, exc_type: Any, *rest: Any) -> Any:
        run, is_outer = partial(real, self, exc_type, *rest), getattr(self, "_outer_transaction", True)
        if exc_type is None and not self.force_rollback:
            return _committing(self._conn, run) if is_outer else run()
        result, state = run(), _state(self._conn)
        if state is not None:
            (state.settings.rolled_back if is_outer else state.settings.rolled_back_to_savepoint)()
        return result
    return leave


# ---- Statements ----


def _before(cursor: Any, query: Any) -> bool:
    """Notes a statement of a connection that is not Django's. True: it may change something."""
    driver = cursor.connection
    if connecting.get() or _state(driver) is not None:
        return False
    text = drivers.as_text(query, lambda: driver)
    kind, is_lent = sql.classify(text)[0], _is_lent(driver)
    if is_lent:
        _leaves(driver, text)
    if text in _PROBES or kind == sql.NOTHING:
        return False
    noted = reads.now()
    if noted is not None:
        noted.spoil("other_connection", str(getattr(getattr(driver, "info", None), "dbname", "")))
    elif threads.owner() is None:
        threads.seen_without_owner()
    return kind != sql.READ and is_lent


def _leaves(driver: Any, text: str) -> None:
    """What goes back to the pool with it, to a connection of Django's."""
    if sql.makes_temporary(text):
        driver._etagd_temporary = True
    if sql.sets_session(text) or sql.source_sets(text):
        settings = getattr(driver, "_etagd_settings", None)
        if settings is None:
            settings = driver._etagd_settings = session.Settings()
        settings.may_be_said(False)
    if session.is_discard(text):
        driver._etagd_temporary = False
        getattr(driver, "_etagd_settings", session.Settings()).discarded()


def _executing(real: Any, many: bool) -> Any:
    @wraps(real)
    def execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        run = partial(real, self, query, *args, **kwargs)
        state = _state(self.connection)
        if state is not None and not hasattr(type(self), "_etagd_state") and not state.is_connecting:
            # psycopg.ClientCursor(connection.connection): not made by the connection, which would watch it.
            return handles._executed(state, lambda *_, **__: run(), self, query, args[0] if args else kwargs.get("params"), many, {})
        if not _before(self, query):
            return run()
        reads.note_write()
        driver = self.connection
        if driver.autocommit and driver.info.transaction_status == _NOT_STARTED:
            return guarded({EVERYTHING}, run, max_ms=LONG_MS, whole=False)
        driver._etagd_wrote = True
        return run()
    return execute


def _executing_later(real: Any) -> Any:
    """COPY, stream(): they work when their result is used."""
    @wraps(real)
    def execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        result = real(self, query, *args, **kwargs)
        if not _before(self, query) or _TO_STDOUT.search(drivers.as_text(query, lambda: self.connection)):
            return result
        if self.connection.autocommit:
            return _copying(result) if hasattr(result, "__enter__") else _streaming(result)
        self.connection._etagd_wrote = True
        return result
    return execute


@contextmanager
def _guard() -> Iterator[None]:
    reads.note_write()
    guard = begin({EVERYTHING}, LONG_MS) if conf.GUARDS else None
    try:
        yield
    except BaseException:
        if guard is not None:
            guard.forget()
        raise
    if guard is None:
        after({EVERYTHING})
    else:
        end(guard)


@contextmanager
def _copying(real: Any) -> Iterator[Any]:
    with _guard(), real as copy:
        yield copy


def _streaming(real: Any) -> Iterator[Any]:
    with _guard():
        yield from real


def _executing_async(real: Any) -> Any:
    @wraps(real)
    async def execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        _before(self, query)
        return await real(self, query, *args, **kwargs)
    return execute


def _patch_psycopg(psycopg: Any) -> None:
    for name in ("commit", "tpc_commit"):
        setattr(psycopg.Connection, name, _method(getattr(psycopg.Connection, name)))
    for name in ("rollback", "tpc_rollback"):
        setattr(psycopg.Connection, name, _undoing(getattr(psycopg.Connection, name)))
    psycopg.Transaction.__exit__ = _left(psycopg.Transaction.__exit__)
    for kind in (psycopg.Cursor, psycopg.ServerCursor):
        for name in ("execute", "executemany"):
            if name in vars(kind):
                setattr(kind, name, _executing(getattr(kind, name), name == "executemany"))
    for name in ("copy", "stream"):
        setattr(psycopg.Cursor, name, _executing_later(getattr(psycopg.Cursor, name)))
    for kind in (psycopg.AsyncCursor, psycopg.AsyncServerCursor):
        for name in ("execute", "executemany"):
            if name in vars(kind):
                setattr(kind, name, _executing_async(getattr(kind, name)))


# ---- psycopg2 ----

_psycopg2: Any = None  # the class of Django's connections


def _patch_psycopg2(psycopg2: Any) -> None:
    global _psycopg2
    connect, base = psycopg2.connect, psycopg2.extensions.connection

    @wraps(connect)
    def noted_connect(*args: Any, **kwargs: Any) -> Any:
        if not connecting.get():
            reads.spoil("other_connection", "psycopg2")
        return connect(*args, **kwargs)

    psycopg2.connect = noted_connect
    _psycopg2 = type("connection", (base,), {
        **{name: _method(getattr(base, name)) for name in ("commit", "tpc_commit")},
        **{name: _undoing(getattr(base, name)) for name in ("rollback", "tpc_rollback")}})


def params(real: Callable[[], Any]) -> Any:
    """Of a connection of Django's to PostgreSQL."""
    install()
    made = real()
    from django.db.backends.postgresql import base

    if _psycopg2 is not None and base.Database.__name__ == "psycopg2":
        made.setdefault("connection_factory", _psycopg2)
    configure = getattr(base.DatabaseWrapper, "_configure_connection", None)
    if configure is not None and not hasattr(configure, "_etagd"):
        base.DatabaseWrapper._configure_connection = _quiet(configure)
    return made


def _quiet(configure: Any) -> Any:
    """What a pool's own thread says to a new connection is the same for all."""
    @wraps(configure)
    def configured(self: Any, driver: Any) -> Any:
        before = connecting.set(True)
        try:
            return configure(self, driver)
        finally:
            connecting.reset(before)
    configured._etagd = True  # type: ignore[attr-defined]
    return configured


def watch(state: Any) -> None:
    """A connection of the driver that is new to this one of Django's."""
    try:
        state.connection.connection._etagd_of = weakref.ref(state)
    except AttributeError:  # a class of the site's own
        pass


def install() -> None:
    """Where a driver is there: Django takes psycopg 3 before psycopg2."""
    global _installed
    if _installed:
        return
    _installed = True
    for name, patch in (("psycopg", _patch_psycopg), ("psycopg2", _patch_psycopg2)):
        try:
            module: Optional[Any] = __import__(name)
        except ImportError:
            continue
        if name == "psycopg2":
            __import__("psycopg2.extensions")
        patch(module)
