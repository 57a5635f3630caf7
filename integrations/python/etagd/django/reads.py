# SPDX-License-Identifier: Apache-2.0
"""What one request read, as the names that its response depends on.

From its begin to its end, authentication included, every statement is noted. A SELECT by the ORM depends on the tables whose
names occur in it; of these on single rows or one scope's rows, where its structure says so and the rows were there. What
SQL by hand reads is not known: the response depends on every write.
"""
from __future__ import annotations

import contextvars
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

from . import queries, sql, surrogates
from .conf import log

ROWS_MAX = 40  # of one table; more: any row
CHUNKS_MAX = 10  # of 100 rows, of a query whose rows are kept for the names of those that it joined
QUERIES_MAX = 256  # that wait to be judged
NAMES_MAX = 100  # of one response (libetag: 128); more: whole tables

current: "contextvars.ContextVar[Optional[Reads]]" = contextvars.ContextVar("etagd_reads", default=None)


class Reads:
    def __init__(self) -> None:
        self._whole: Set[str] = set()  # tables by label
        self._parts: Dict[str, Set[str]] = {}  # label -> names of rows and scopes
        self._said: Set[str] = set()
        self._queries: List[Tuple[Any, str, Any, Optional[List[Any]]]] = []  # not judged before a response may be stored
        self._shown: List[Tuple[surrogates.Table, str, Optional[str]]] = []
        self.wrote = False  # the request changed something, or may have
        self.clock = False  # what it read changes without a write
        self.used_cache = False  # it took something from Django's cache, which may be of any age
        self.spoiled: Dict[str, str] = {}  # why what is not seen may be in the response: reason -> what or who it was
        self.open = True  # its middleware has not answered
        self.outer: Optional[Reads] = None  # of the request in whose middle it began

    # ---- Noting ----

    def spoil(self, reason: str, by: str = "") -> None:
        """The response is not stored."""
        self.spoiled.setdefault(reason, by)

    def other_sql(self, statement: str) -> None:
        """A SELECT by hand."""
        self.clock = self.clock or sql.asks_the_clock(statement)
        self.anything()

    def anything(self) -> None:
        self._whole.add(surrogates.any_write())

    def said(self, names: Iterable[str]) -> None:
        self._said.update(names)

    def table(self, table: surrogates.Table) -> None:
        self._whole.add(surrogates.any_write() if table.opaque else table.any_row)

    def _part(self, table: surrogates.Table, names: List[str]) -> None:
        self._parts.setdefault(table.label, {table.unknown_rows}).update(names)
        if len(self._parts[table.label]) > ROWS_MAX:
            self._whole.add(table.any_row)

    def instance(self, instance: Any) -> None:
        """An object that was rendered, wherever it came from."""
        meta = getattr(type(instance), "_meta", None)
        if meta is None or getattr(meta, "concrete_model", None) is None:
            return
        table = surrogates.table_of(type(instance))
        row = None if table.opaque else table.row(instance.pk)
        if row is None:
            self.table(table)
        else:
            scope = None if table.scope is None else instance.__dict__.get(table.scope.attname)
            self._shown.append((table, row, table.collection(scope)))

    def add_query(self, compiler: Any, statement: str, params: Any, rows: Optional[List[Any]]) -> None:
        """rows: chunks of rows, all of them; None: not known, so that rows which were asked for may be absent."""
        if rows is not None and len(rows) > CHUNKS_MAX:
            rows = None  # not kept
        self._queries.append((compiler, statement, params, rows))
        if len(self._queries) > QUERIES_MAX:
            self._judge_all()

    def _judge_all(self) -> None:
        while self._queries:
            self._judge(*self._queries.pop())

    def _judge(self, compiler: Any, statement: str, params: Any, rows: Optional[List[Any]]) -> None:
        """The query may be another one than it was when it was executed: then only the statement counts."""
        try:
            same = queries.says_still(compiler, statement, params)
            self._add(compiler, statement, rows, same)
        except Exception:  # pylint: disable=broad-except
            log.exception("etagd: a query was not understood, so its answer depends on every write")
            self.anything()

    def _add(self, compiler: Any, statement: str, rows: Optional[List[Any]], same: bool) -> None:
        self.clock = self.clock or sql.asks_the_clock(statement)
        known, complete = sql.tables_read(statement)
        found = dict(known)
        if not complete or compiler.query.extra_tables:
            self.anything()
        first = self._first(compiler, statement, found) if same else None
        if first is not None:
            del found[first.name.lower()]
            pinned = self._narrow(compiler, first, rows)
            if pinned is not None:
                self._joins(compiler, statement, found, rows, pinned)
        for table in found.values():
            self.table(table)

    @staticmethod
    def _quoted(compiler: Any, name: str) -> str:
        return compiler.connection.ops.quote_name(name)

    def _alone(self, compiler: Any, statement: str, table: surrogates.Table) -> bool:
        """Does the table stand in the statement once, and nothing else that may mean it?"""
        return sql.stands_once(statement, table.name, self._quoted(compiler, table.name))

    def _first(self, compiler: Any, statement: str, found: Dict[str, surrogates.Table]) -> Optional[surrogates.Table]:
        query = compiler.query
        if query.model is None or query.combinator or query.extra_tables or not query.alias_map:
            return None
        table = surrogates.table_of(query.model)
        if table.name.lower() not in found or table.opaque or query.get_initial_alias().strip('"`') != table.name:
            return None
        return table if self._alone(compiler, statement, table) else None

    def _narrow(self, compiler: Any, table: surrogates.Table, rows: Optional[List[Any]]) -> Optional[bool]:
        """True: the query's rows were pinned by their primary key, and are there. False: its scope is. None: neither, the
        table is noted."""
        vendor, count = compiler.connection.vendor, None if rows is None else sum(len(chunk) for chunk in rows)
        if count and queries.shows_rows(compiler.query) and surrogates.comparable(table.pk, vendor):
            values = queries.pinned(compiler.query, table.pk.column)
            names = None if values is None else {table.row(value) for value in values}
            if names and None not in names and (len(names) == 1 or (len(names) == count and not queries.joins(compiler.query))):
                self._part(table, list(names))
                return True
        if table.scope is not None and surrogates.comparable(table.scope, vendor):
            values = queries.pinned(compiler.query, table.scope.column)
            names = None if values is None else {table.collection(value) for value in values}
            if names and None not in names:
                self._part(table, list(names))
                return False
        self.table(table)
        return None

    def _joins(self, compiler: Any, statement: str, found: Dict[str, surrogates.Table], rows: Optional[List[Any]],
               pinned: bool) -> None:
        """Takes the tables out of found of whose rows the result says which they were."""
        if rows is None:
            return
        known = list(queries.forward_joins(compiler))
        if not pinned:
            # A table behind another decides which rows are in the result, as do the columns of the first in WHERE.
            first = compiler.query.get_initial_alias()
            known = [(alias, model, index) for alias, model, index in known
                     if compiler.query.alias_map[alias].parent_alias == first]
            if queries.joins(compiler.query) - {alias for alias, _, _ in known}:
                return
        where = min((at for at in (statement.find(" WHERE "), statement.find(" ORDER BY "), len(statement)) if at >= 0))
        for alias, model, index in known:
            table = surrogates.table_of(model)
            if table.name.lower() not in found or table.opaque or alias.strip('"`') != table.name \
                    or not self._alone(compiler, statement, table):
                continue
            if not pinned and statement.find(self._quoted(compiler, table.name), where) >= 0:
                continue  # its columns decide which rows are in the result
            names = {table.row(row[index]) for chunk in rows for row in chunk}
            if None in names or len(names) > ROWS_MAX:
                continue
            del found[table.name.lower()]
            if names:
                self._part(table, list(names))

    # ---- What it comes to ----

    def names(self) -> Set[str]:
        self._judge_all()
        for table, row, collection in self._shown:
            if collection is None or collection not in self._parts.get(table.label, ()):
                self._part(table, [row])
        whole = set(self._whole)
        if surrogates.any_write() in whole:
            return {surrogates.any_write()} | self._said  # every write touches it
        parts = {label: names for label, names in self._parts.items() if label not in whole}
        for label in sorted(parts, key=lambda label: -len(parts[label])):
            if len(whole) + sum(map(len, parts.values())) <= NAMES_MAX:
                break
            del parts[label]
            whole.add(label)
        return whole.union(self._said, *parts.values())
