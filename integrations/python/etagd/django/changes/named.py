# SPDX-License-Identifier: Apache-2.0
"""The names that a write touches: by the ORM, of the rows that its query pins and of their scopes; by hand, of a table."""
from __future__ import annotations

from contextlib import closing
from typing import Any, List, Optional, Set

from django.db import DatabaseError
from django.db.models.sql import compiler as compilers
from django.db.transaction import TransactionManagementError

from .. import queries, surrogates
from ..conf import log
from ..surrogates import EVERYTHING
from .guards import NAMES_MAX


def scopes_of(state: Any, table: surrogates.Table, values: List[Any]) -> Set[Optional[str]]:
    """The scopes of these rows as they are now, and, as the rows are locked, until this transaction ends. By the driver:
    not seen by execute(), nor counted by assertNumQueries()."""
    connection, quote = state.connection, state.connection.ops.quote_name
    connection.validate_no_broken_transaction()
    name, scope, pk = quote(table.name), quote(table.scope.column), quote(table.pk.column)
    with connection.wrap_database_errors, closing(connection.create_cursor()) as cursor:
        lock_sqlite(state, table.model)
        lock = " FOR UPDATE" if connection.features.has_select_for_update else ""
        prepared = [table.pk.get_db_prep_value(value, connection, prepared=False) for value in values]
        state.inside(cursor.execute, f"SELECT {scope}, {pk} FROM {name} WHERE {pk} IN ({', '.join(['%s'] * len(values))}){lock}", prepared)
        rows = cursor.fetchall()
    found = {table.row(row[1]) for row in rows}
    state.absent = [value for value in values if table.row(value) not in found]
    return {table.collection(row[0]) for row in rows}


def after(state: Any, compiler: Any, absent: List[Any], changed: int) -> Set[str]:
    """What a write touched that could be known only after it: rows that came between the question whose they are and the
    statement, and what the database changed besides. absent: keys of no row before it."""
    try:
        return _after(state, compiler, absent, changed)
    except (DatabaseError, TransactionManagementError):
        raise
    except Exception:  # pylint: disable=broad-except
        log.exception("etagd: what a write changed besides was not understood, so it makes everything stale")
        return {EVERYTHING}


def _after(state: Any, compiler: Any, absent: List[Any], changed: int) -> Set[str]:
    table = surrogates.table_of(compiler.query.get_meta().model)
    if table.opaque:
        return set()
    verb = "INSERT" if isinstance(compiler, compilers.SQLInsertCompiler) else \
        "UPDATE" if isinstance(compiler, compilers.SQLUpdateCompiler) else "DELETE"
    made = state.also(table, verb)
    if not absent or changed == 0:
        return made
    moved = any(field.column == table.scope.column for field, _, _ in getattr(compiler.query, "values", ()))
    if verb == "UPDATE" and not moved:
        made |= {name or table.unknown_rows for name in scopes_of(state, table, absent)}
    return made | {table.unknown_rows} if verb == "DELETE" or moved or state.absent else made


def of(state: Any, compiler: Any) -> Set[str]:
    try:
        return _of(state, compiler)
    except (DatabaseError, TransactionManagementError):
        raise
    except Exception:  # pylint: disable=broad-except
        log.exception("etagd: a write was not understood, so it makes everything stale")
        return {EVERYTHING}


def _of(state: Any, compiler: Any) -> Set[str]:
    query = compiler.query
    table = surrogates.table_of(query.get_meta().model)
    if table.opaque:
        return {EVERYTHING}
    names = {surrogates.any_write(), table.any_row}
    if isinstance(compiler, compilers.SQLDeleteCompiler):
        names |= table.deleted_with
    if isinstance(compiler, compilers.SQLInsertCompiler):
        parts = _inserted(query, table)
    else:
        parts = _changed(state, query, table)
    return names | parts if parts is not None else names | {table.unknown_rows}


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


def _changed(state: Any, query: Any, table: surrogates.Table) -> Optional[Set[str]]:
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
        parts |= scopes_of(state, table, values)
    return None if None in parts else parts


def of_sql(text: str, table: Optional[surrogates.Table]) -> List[str]:
    if table is None:
        return [EVERYTHING]
    is_delete = text.lstrip()[:6].upper() == "DELETE"
    return surrogates.every_row(table.model) + (sorted(table.deleted_with) if is_delete else [])


def lock_sqlite(state: Any, model: Any) -> None:
    """SQLite's lock for writing, by a statement that changes nothing: who reads first may not get it any more."""
    connection = state.connection
    if connection.vendor == "sqlite":
        column = model._meta.pk.column or model._meta.pk_fields[0].column  # None: of a key of several columns
        name, pk = connection.ops.quote_name(model._meta.db_table), connection.ops.quote_name(column)
        with connection.wrap_database_errors, closing(connection.create_cursor()) as cursor:
            state.inside(cursor.execute, f"UPDATE {name} SET {pk} = {pk} WHERE 0")
