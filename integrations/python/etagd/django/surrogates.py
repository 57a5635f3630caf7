# SPDX-License-Identifier: Apache-2.0
"""Names on which entries depend, made of models:

    app.model:42          one row
    app.model@7           the rows of one scope: a model that is registered with the column that says whose a row is
    app.model             any row
    app.model:*           every row at once: writes of which it is not known which rows they touch

A write names what it touches: always app.model, and the row and its scope, or app.model:*. An entry depends on the
narrowest name that holds for each table that was read for it, and on app.model:* of each. The names of a statement are
found in its SQL; what is not understood becomes the wider name, never none.
"""
from __future__ import annotations

import re
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured, ValidationError
from django.db.models.signals import class_prepared

from .conf import conf

INSTANCES_MAX = 60
_SAYABLE = re.compile(r"[!-~]{1,128}\Z")  # what a surrogate key may hold
_scope_columns: Dict[Any, Any] = {}  # model -> the field that says whose a row is


def register(model: Any, scope: str) -> None:
    """The field scope says whose a row of model is ("customer"). A row's value never changes: a write that would change it
    raises ScopeChanged. Where rows do move, do not register the model: its lists then depend on every row. In ready()."""
    try:
        _scope_columns[model] = model._meta.get_field(scope)
    except FieldDoesNotExist as error:
        raise ImproperlyConfigured(f"etagd: {model._meta.label} has no field {scope!r}") from error
    _tables.clear()


class Table:
    """What SQL says of a model."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.label = conf.PREFIX + model._meta.label_lower
        self.name = model._meta.db_table.strip('"`')
        self.pk = model._meta.pk
        self.scope = _scope_columns.get(model)
        self.ignored = model._meta.label_lower in [label.lower() for label in conf.IGNORE]

    @staticmethod
    def text(field: Any, value: Any) -> Optional[str]:
        """A column's value as it stands in a name, the same from an instance and from a parameter; None: it cannot be said."""
        while field.remote_field is not None and getattr(field, "target_field", None) is not None:
            field = field.target_field
        try:
            made = str(field.to_python(value))
        except (ValidationError, TypeError, ValueError):
            return None
        return made if _SAYABLE.match(made) else None

    def row(self, value: Any) -> Optional[str]:
        made = self.text(self.pk, value)
        return None if made is None else f"{self.label}:{made}"

    def collection(self, value: Any) -> Optional[str]:
        made = self.text(self.scope, value)
        return None if made is None else f"{self.label}@{made}"

    @property
    def any_row(self) -> str:
        return self.label

    @property
    def all_rows(self) -> str:
        return self.label + ":*"


_tables: Dict[str, Table] = {}


def tables() -> Dict[str, Table]:
    """By name in the database; of every model there is."""
    if not _tables:
        found = {}
        for models in apps.all_models.values():  # also those of no installed application
            for model in models.values():
                if not model._meta.proxy and not model._meta.abstract:
                    table = Table(model)
                    found[table.name] = table
        _tables.update(found)
    return _tables


def _prepared(**_: Any) -> None:
    _tables.clear()


class_prepared.connect(_prepared, dispatch_uid="etagd")


def table_of(model: Any) -> Table:
    return tables()[model._meta.concrete_model._meta.db_table.strip('"`')]


# ---- What is said explicitly ----


def for_instance(instance: Any) -> List[str]:
    """The names that hold for one row."""
    table = table_of(type(instance))
    row = table.row(instance.pk)
    return [row or table.any_row, table.all_rows]


def for_queryset(queryset: Any) -> List[str]:
    """The names on which the result of a queryset depends: of its scope's collection where the query is limited to one
    scope and nothing else, else of all rows; of the other tables that it reads, of all rows."""
    sql, params = queryset.query.sql_with_params()
    return sorted(Reads().add(sql, params).names())


def changed(instance: Any) -> List[str]:
    """The names that a write of this row touches: for raw SQL, with etagd.django.invalidate()."""
    table = table_of(type(instance))
    names = [table.any_row, table.row(instance.pk) or table.all_rows]
    if table.scope is not None:
        names.append(table.collection(getattr(instance, table.scope.attname)) or table.all_rows)
    return names


# ---- What SQL reads ----

_IDENTIFIER = re.compile(r'["`]([^"`]+)["`]')
_BARE_WORD = re.compile(r"\w+")
_NOT_PLAIN = re.compile(r"\b(OR|NOT|UNION|EXCEPT|INTERSECT|WITH|CASE)\b|\bSELECT\b.*\bSELECT\b|%%", re.S)


def _equal_param(table: Table, column: str, sql: str, params: Any) -> Tuple[bool, Any]:
    """Does a plain SELECT say "table"."column" = %s in its WHERE? Then its parameter."""
    where = sql.find(" WHERE ")
    if where < 0 or params is None:
        return False, None
    found = re.search(r'["`]%s["`]\.["`]%s["`] = %%s(?= AND |\)| ORDER | LIMIT | GROUP | FOR |$)'
                      % (re.escape(table.name), re.escape(column)), sql[where:])
    if not found:
        return False, None
    index = sql.count("%s", 0, where + found.start())
    return (True, params[index]) if index < len(params) else (False, None)


class Reads:
    """What was read since it began: SQL, and the objects that were rendered. Of one request."""

    def __init__(self) -> None:
        self._names: Set[str] = set()
        self._rows: Set[str] = set()  # rows that were asked for by primary key, and by which name else
        self._known: Set[str] = set()  # rows that are known to exist
        self._instead: Dict[str, str] = {}
        self.ignored = False

    def add(self, sql: str, params: Any) -> "Reads":
        every = tables()
        words = set(_IDENTIFIER.findall(sql)) | (set(_BARE_WORD.findall(sql)) if '"' not in sql and "`" not in sql else set())
        plain = not _NOT_PLAIN.search(sql)
        for word in words:
            table = every.get(word)
            if table is not None:
                self.ignored = self.ignored or table.ignored
                self._names.add(table.all_rows)
                self._names.add(self._narrowest(table, sql, params) if plain else table.any_row)
        self._names.discard("")
        return self

    def _narrowest(self, table: Table, sql: str, params: Any) -> str:
        if len(re.findall(r'["`]%s["`](?!\.)' % re.escape(table.name), sql)) != 1 or not isinstance(params, (list, tuple)):
            return table.any_row
        said, value = _equal_param(table, table.pk.column, sql, params)
        row = table.row(value) if said else None
        if row is not None:
            self._rows.add(row)
            self._instead[row] = table.any_row
            return ""
        if table.scope is not None:
            said, value = _equal_param(table, table.scope.column, sql, params)
            if said:
                return table.collection(value) or table.any_row
        return table.any_row

    def rendered(self, instance: Any) -> None:
        """An object that was rendered, or was read before: it exists, and the answer depends on it."""
        try:
            table = table_of(type(instance))
        except (AttributeError, KeyError):
            return
        row = table.row(instance.pk)
        self._names.add(table.all_rows)
        if row is None or len(self._known) >= INSTANCES_MAX:
            self._names.add(table.any_row)
        else:
            self._known.add(row)

    def names(self) -> Set[str]:
        """Rows that nobody has seen (asked for, and perhaps not there) are replaced by "any row": they may be inserted."""
        return self._names | self._known | {self._instead[row] for row in self._rows - self._known}


# ---- What SQL writes ----

_WRITE = re.compile(
    r'\b(?P<verb>INSERT(?:\s+OR\s+\w+)?\s+INTO|REPLACE\s+INTO|UPDATE(?:\s+OR\s+\w+)?|DELETE\s+FROM|TRUNCATE(?:\s+TABLE)?'
    r'|MERGE\s+INTO)\s+(?:ONLY\s+)?["`]?(?P<table>[^"`\s(;,]+)["`]?', re.I)
_INSERT = re.compile(r'^INSERT INTO ["`][^"`]+["`] \((?P<columns>[^()]*)\) (?P<rows>VALUES|SELECT)(?P<values>[\s(),%s]*'
                     r'(?:UNION ALL SELECT [%s, ]*)*)(?: RETURNING .*)?$')
_UPDATE = re.compile(r'^UPDATE ["`][^"`]+["`] SET (?P<set>.*) WHERE ["`](?P<t>[^"`]+)["`]\.["`](?P<pk>[^"`]+)["`] = %s$', re.S)
_DELETE = re.compile(r'^DELETE FROM ["`][^"`]+["`] WHERE ["`](?P<t>[^"`]+)["`]\.["`](?P<pk>[^"`]+)["`] '
                     r'(?:= %s|IN \(%s(?:, %s)*\))$')
_READ_ONLY = re.compile(r"\s*\(?\s*(SELECT|SAVEPOINT|RELEASE|ROLLBACK|BEGIN|COMMIT|SET|SHOW|PRAGMA)\b", re.I)


class ScopeChanged(ImproperlyConfigured):
    """A write would give a row another scope (surrogates.register). It did not happen."""


class Write:
    """One statement that writes to a table. rows: values of its primary keys, None: not known. scopes: of the rows as it
    writes them; old_scopes_wanted: the rows were there before, so their scope is in the database."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows: Optional[List[Any]] = None
        self.scopes: Optional[List[Any]] = None
        self.existing = False
        self.sets_scope = False


def _insert(write: Write, sql: str, params: Any) -> None:
    found = _INSERT.match(sql)
    if not found or not isinstance(params, (list, tuple)):
        return
    columns = _IDENTIFIER.findall(found.group("columns"))
    if not columns or len(params) % len(columns) or sql.count("%s") != len(params):
        return
    table = write.table

    def column(name: str) -> List[Any]:
        return list(params[columns.index(name)::len(columns)]) if name in columns else []

    write.rows = column(table.pk.column)
    if table.scope is not None:
        if table.scope.column not in columns:
            write.rows = None
            return
        write.scopes = column(table.scope.column)


def _update(write: Write, sql: str, params: Any) -> None:
    table, found = write.table, _UPDATE.match(sql)
    write.sets_scope = table.scope is not None and re.search(
        r'["`]%s["`] = ' % re.escape(table.scope.column), sql.split(" WHERE ", 1)[0]) is not None
    if not found or found.group("t") != table.name or found.group("pk") != table.pk.column \
            or not params or not isinstance(params, (list, tuple)):
        return
    write.rows, write.existing = [params[-1]], True
    if write.sets_scope:
        before = re.search(r'["`]%s["`] = %%s' % re.escape(table.scope.column), found.group("set"))
        if before:
            at = sql.count("%s", 0, found.start("set") + before.start())
            write.scopes = [params[at]]


def _delete(write: Write, sql: str, params: Any) -> None:
    table, found = write.table, _DELETE.match(sql)
    if found and found.group("t") == table.name and found.group("pk") == table.pk.column \
            and isinstance(params, (list, tuple)):
        write.rows, write.existing = list(params), True


def writes_of(sql: str, params: Any, many: bool) -> List[Write]:
    """The writes of a statement; empty for one that only reads, or writes to what is no model's table."""
    if _READ_ONLY.match(sql) and ";" not in sql.rstrip("; \n"):
        return []
    every, made = tables(), []
    for found in _WRITE.finditer(sql):
        table = every.get(found.group("table").split(".")[-1].strip('"`'))
        if table is None or table.ignored:
            continue
        write = Write(table)
        verb = found.group("verb").split()[0].upper()
        if not many and found.start() == 0:
            {"INSERT": _insert, "UPDATE": _update, "DELETE": _delete}.get(verb, lambda *_: None)(write, sql, params)
        made.append(write)
    return made


def write_names(write: Write, scopes: Optional[Iterable[Any]]) -> Set[str]:
    """scopes: of its rows, None where they are not known (of a table with scopes: all rows then)."""
    table = write.table
    names = {table.any_row}
    rows = None if write.rows is None else [table.row(value) for value in write.rows]
    if rows is None or None in rows or len(rows) > INSTANCES_MAX:
        return names | {table.all_rows}
    names.update(rows)
    if table.scope is not None:
        collections = None if scopes is None else {table.collection(value) for value in scopes}
        if collections is None or None in collections:
            return names | {table.all_rows}
        names.update(collections)
    return names
