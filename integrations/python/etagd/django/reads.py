# SPDX-License-Identifier: Apache-2.0
"""What one request read, as the names that its response depends on.

From its begin to its end, authentication included, every statement is noted. A SELECT by the ORM depends on the tables whose
names occur in it; of these on single rows or one scope's rows, where its structure says so and the rows were there. What
SQL by hand reads is not known: the response depends on every write.
"""
from __future__ import annotations

import contextvars
import itertools
import time
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

from django.conf import settings
from django.db import router

from . import catalog, clock, queries, sql, surrogates
from .conf import conf, log
from .sources.switches import Switched

ROWS_MAX = 40  # of one table; more: any row
CHUNKS_MAX = 10  # of 100 rows, of a query whose rows are kept for the names of those that it joined
QUERIES_MAX = 256  # that wait to be judged
NAMES_MAX = 100  # of one response (libetag: 128); more: whole tables

current: "contextvars.ContextVar[Optional[Reads]]" = contextvars.ContextVar("etagd_reads", default=None)
_marks = itertools.count(1)


class Reads:
    __slots__ = ("_whole", "_parts", "_said", "_queries", "_shown", "wrote", "changing", "until", "unseen", "url",
                 "_catalogs", "_prepared", "used_cache", "mark", "spoiled", "kept", "beside", "done", "is_on_loop",
                 "is_answering", "outer", "__weakref__")

    def __init__(self) -> None:
        self._whole: Set[str] = set()  # tables by label
        self._parts: Dict[str, Set[str]] = {}  # label -> names of rows and scopes
        self._said: Set[str] = set()
        self._queries: List[Tuple[Any, str, Any, Optional[List[Any]]]] = []  # not judged before a response may be stored
        self._shown: List[Tuple[surrogates.Table, str, Optional[str]]] = []
        self.wrote = False  # the request changed something, or may have
        self.changing: Set[str] = set()  # why what it read changes without a write that is seen: a time to live bounds that
        self.until: Optional[float] = None  # it changes at that time
        self.unseen: Set[str] = set()  # why it must not be stored whatever its time to live is
        self.url = ""  # a point in time that it says is not the clock's
        self._catalogs: Dict[str, catalog.Catalog] = {}
        self._prepared: Set[str] = set()
        self.used_cache = False  # it took something from Django's cache, which may be of any age
        self.mark = next(_marks)  # on what this request has read, so that a later one knows it for old
        self.spoiled: Dict[str, str] = {}  # why what is not seen may be in the response: reason -> what or who it was
        self.kept: Dict[Any, Any] = {}  # in the place of what Django keeps in the process
        self.beside: Set[Any] = set()  # threads of other requests that ran SQL meanwhile
        self.done = False  # the response is made
        self.is_on_loop = False  # its tasks have its context, also those that it leaves running
        self.is_answering = False  # it is in its middleware, which closes it
        self.outer: Optional[Reads] = None  # of the request in whose middle it began

    def close(self) -> None:
        """The response is made. What would only be judged for it goes now: frameworks tie requests into circles, so else it stayed, with
        all that queries are made of, until Python looks for garbage, which is more to look at then."""
        self.done = True
        self.kept.clear()
        self._queries.clear()
        self._shown.clear()

    # ---- Noting ----

    def spoil(self, reason: str, by: str = "") -> None:
        """The response is not stored, unless the view trusts this reason."""
        self.spoiled.setdefault(reason, by)

    def other_sql(self, statement: str, params: Any = None, connection: Any = None) -> None:
        """A SELECT by hand."""
        self._clock(statement)
        self._times(params)
        self._times(clock.in_text(statement))
        if connection is not None:
            self.unseen_by(connection, sql.names_in(statement))
            if connection.vendor == "postgresql" and self.catalog(connection).asks_the_clock(sql.functions(statement)):
                self.changing.add("function")
            if connection.settings_dict.get("TEST", {}).get("MIRROR") and not conf.HOLD_MS:
                self.changing.add("replica")
        self.anything()

    def _clock(self, statement: str) -> None:
        if sql.asks_the_clock(statement):
            self.changing.add("clock")
        if sql.skips_locked(statement):
            self.unseen.add("locks")

    def _replica(self, compiler: Any) -> None:
        """What is read where writes do not go may be older than the token."""
        alias, model = compiler.connection.alias, compiler.query.model
        if not conf.HOLD_MS and model is not None and len(settings.DATABASES) > 1:
            written = router.db_for_write(model)
            if alias != written and router.db_for_read(model) != written:
                self.changing.add("replica")

    def begin(self, connection: Any) -> None:
        """Before a statement."""
        if connection.alias not in self._prepared:
            self._prepared.add(connection.alias)
            catalog.prepare(connection)

    def catalog(self, connection: Any) -> catalog.Catalog:
        """Of this database; asked for once, when the statements are judged: what changed before is in it, what changes later touches
        everything after the token."""
        found = self._catalogs.get(connection.alias)
        if found is None:
            found = self._catalogs[connection.alias] = catalog.of(connection, reading=True)
            if found is catalog.UNKNOWN:
                self.unseen.add("no_index")
        return found

    def unseen_by(self, connection: Any, words: Iterable[str]) -> None:
        self.changing |= self.catalog(connection).unseen(words)

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
            try:
                query = self._queries.pop()
            except IndexError:  # another thread of the request took it
                return
            self._judge(*query)

    def _judge(self, compiler: Any, statement: str, params: Any, rows: Optional[List[Any]]) -> None:
        """The query may be another one than it was when it was executed: then only the statement counts."""
        try:
            same = queries.says_still(compiler, statement, params)
            if clock.is_session(compiler.query.model):
                self.lasts(clock.first_of(rows, compiler.connection.timezone))
            else:
                self._times(params)
                self._times(clock.in_text(statement))
            self._add(compiler, statement, rows, same)
        except Exception:  # pylint: disable=broad-except
            log.exception("etagd: a query was not understood, so its answer depends on every write")
            self.anything()

    def _add(self, compiler: Any, statement: str, rows: Optional[List[Any]], same: bool) -> None:
        self._clock(statement)
        self._replica(compiler)
        known, complete = sql.tables_read(statement)
        found = dict(known)
        said = self.catalog(compiler.connection)
        self.unseen_by(compiler.connection, found if complete else sql.names_in(statement))
        if not complete or compiler.query.extra_tables or not all(said.is_plain(name) for name in found):
            self.anything()
            if said.asks_the_clock(sql.functions(statement)):
                self.changing.add("function")
        first = self._first(compiler, statement, found) if same else None
        if first is not None:
            del found[first.name.lower()]
            pinned = self._narrow(compiler, first, rows)
            if pinned is not None:
                self._joins(compiler, statement, found, rows, pinned)
        for table in found.values():
            self.table(table)

    def _times(self, params: Any) -> None:
        """Parameters that may be the clock's."""
        if params and "clock_parameter" not in self.changing:
            changes = clock.changes(params, self._moments)
            if changes == clock.AT_ONCE:
                self.changing.add("clock_parameter")
            if changes == clock.UNTIL_MIDNIGHT:
                self.lasts(clock.until_midnight())

    def _moments(self) -> Set[Any]:
        """Points in time that are not the clock's: of the URL, and of the rows before."""
        return clock.in_url(self.url) | {clock.point(value) for _, _, _, rows in self._queries for chunk in rows or () for row in chunk
                                         for value in row if clock.is_moment(value)}

    def lasts(self, until: Optional[float]) -> None:
        """What was read is another thing from this time on."""
        if until is not None:
            self.until = until if self.until is None else min(until, self.until)

    @property
    def left_s(self) -> Optional[int]:
        """The longest time to live; None: there is no bound."""
        return None if self.until is None else max(0, int(self.until - time.time()))

    @staticmethod
    def _quoted(compiler: Any, name: str) -> str:
        return compiler.connection.ops.quote_name(name)

    def _alone(self, compiler: Any, statement: str, table: surrogates.Table) -> bool:
        """Is the table in the statement once, and nothing else that may mean it?"""
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
            # A table joined to another decides which rows are in the result, as do the columns of the first in WHERE.
            first = compiler.query.get_initial_alias()
            known = [(alias, model, index) for alias, model, index in known
                     if compiler.query.alias_map[alias].parent_alias == first]
            # So does a row that it refers to, where it may be absent.
            known = [(alias, model, index) for alias, model, index in known if queries.is_there(compiler, alias, self.catalog)]
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

    # ---- The result ----

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


# ---- What is no SQL ----

_aside: "contextvars.ContextVar[bool]" = contextvars.ContextVar("etagd_aside", default=False)


def aside() -> Switched:
    """What is taken from Django's cache, files and the network within it is in no response: for throttling, logging and their
    like. SQL counts all the same."""
    return Switched(_aside)


def is_aside() -> bool:
    return _aside.get()


def noting() -> Optional[Reads]:
    """The request that SQL is noted for: whose response is not made yet."""
    noted = current.get()
    return None if noted is None or noted.done else noted


def now() -> Optional[Reads]:
    """The request whose response may show what is read now beside its SQL."""
    return None if _aside.get() else noting()


def note_write() -> None:
    noted = noting()
    if noted is not None:
        noted.wrote = True


def failed() -> None:
    """A statement failed, or a connection: what is shown in the place of its rows may be another thing at the next moment."""
    noted = noting()
    if noted is not None:
        noted.changing.add("database_error")


def used_cache() -> None:
    noted = now()
    if noted is not None:
        noted.used_cache = True


def spoil(reason: str, by: str = "") -> None:
    noted = now()
    if noted is not None:
        noted.spoil(reason, by)
