# SPDX-License-Identifier: Apache-2.0
"""What drivers do that Django's cursors do not show: sqlite3, psycopg2, psycopg 3.

psycopg 3 has a pipeline mode, in which a statement is only sent: that it is done, or a COMMIT, is known after the next
synchronization. So what is asked here, and what a guard covers, synchronizes first.
"""
from __future__ import annotations

from itertools import islice
from typing import Any, Callable, Iterator, List, Optional


def is_pipelined(driver: Any) -> bool:
    """Does a statement only get sent?"""
    return bool(getattr(getattr(driver, "pgconn", None), "pipeline_status", 0))


def synchronized(connection: Any, work: Callable[[], Any]) -> Callable[[], Any]:
    """work, which returns when the database has done it, and raises what the database says."""
    driver = connection.connection
    if not is_pipelined(driver):
        return work

    def done() -> Any:
        with connection.wrap_database_errors, driver.pipeline():  # the inner one's end waits for all that was sent
            return work()
    return done


def in_transaction(vendor: str, driver: Any) -> bool:
    """Is the driver in a transaction, perhaps one that SQL began?"""
    if vendor == "sqlite":
        return bool(driver.in_transaction)
    return vendor == "postgresql" and _postgres_status(driver) in (1, 2, 3)


def has_open_transaction(vendor: str, driver: Any) -> bool:
    """The same, of PostgreSQL, and statements are still accepted."""
    return vendor == "postgresql" and _postgres_status(driver) == 2


def has_failed(vendor: str, driver: Any) -> bool:
    """Is it in a transaction that can only be rolled back?"""
    return vendor == "postgresql" and _postgres_status(driver) == 3


def _postgres_status(driver: Any) -> int:
    """libpq's: 0 idle, 1 a statement runs, 2 in a transaction, 3 in one that failed, 4 unknown. The same in both drivers."""
    if is_pipelined(driver):
        with driver.pipeline():
            pass
    return int(driver.info.transaction_status)


class Fetched:
    """In the place of an SQLite cursor whose statement changed rows and returns some: SQLite commits such a statement when its
    last row was fetched, so they are all fetched at once."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._rows: Optional[Iterator[Any]] = iter(cursor.fetchall())  # None: of another statement, which the cursor has

    def fetchone(self) -> Any:
        return self._cursor.fetchone() if self._rows is None else next(self._rows, None)

    def fetchmany(self, size: Optional[int] = None) -> List[Any]:
        size = self._cursor.arraysize if size is None else size
        return self._cursor.fetchmany(size) if self._rows is None else list(islice(self._rows, size))

    def fetchall(self) -> List[Any]:
        return self._cursor.fetchall() if self._rows is None else list(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor if self._rows is None else self._rows)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("execute"):
            self._rows = None
        return getattr(self._cursor, name)


def fetched(wrapper: Any, run: Callable[[], Any]) -> Callable[[], Any]:
    """run, which executes a statement by Django's wrapper of a cursor, and the rows that it returns."""
    def done() -> Any:
        result = run()
        if wrapper.cursor.description is None:
            return result
        wrapper.cursor = Fetched(wrapper.cursor)
        return wrapper.cursor
    return done


def as_text(statement: Any, driver: Callable[[], Any]) -> str:
    """psycopg2.sql.Composable and its like. driver: the connection, which is asked for only by these."""
    if isinstance(statement, str):
        return statement
    as_string = getattr(statement, "as_string", None)
    if as_string is not None:
        return str(as_string(driver()))
    return statement.decode("utf-8", "replace") if isinstance(statement, bytes) else str(statement)


def text_of(statement: Any, connection: Any) -> str:
    """By a connection of Django's."""
    def driver() -> Any:
        connection.ensure_connection()
        return connection.connection
    return as_text(statement, driver)
