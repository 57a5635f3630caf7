# SPDX-License-Identifier: Apache-2.0
"""Names on which entries depend, made of models:

    app.model             any row: every write to the table touches it
    app.model:42          one row: writes that know their rows touch it
    app.model:@7          the rows of one scope: a model that is registered with the column that says whose a row is
    app.model:*           writes of which it is not known which rows or scopes they touch
    *                     every write to any table

A write touches "*", app.model, and either all rows and scopes that it changes, or app.model:*. An entry that depends on the
rows that it read, or on a scope, depends on app.model:* too; else it depends on app.model. Where anything is in doubt a write
touches more, and an entry depends on more.

All names of a table's rows are of the family app.model, and are made of numbers and UUIDs as PostgreSQL writes them: so triggers make
the same names (postgres/watched.py).
"""
from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any, Dict, Iterable, List, Optional, Set

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured, ValidationError
from django.db import models
from django.db.models.signals import class_prepared

from .conf import conf

EVERYTHING = ""
"""Instead of names: every entry there is."""

FAMILY = "family "
"""Before a name: the family of that name. No surrogate key has a blank."""

_WHOLE = (models.AutoField, models.BigAutoField, models.SmallAutoField, models.IntegerField, models.BigIntegerField,
          models.SmallIntegerField, models.PositiveIntegerField, models.PositiveBigIntegerField,
          models.PositiveSmallIntegerField)
_scope_fields: Dict[Any, Any] = {}  # model -> the field that says whose a row is


def register(model: Any, scope: str) -> None:
    """Whose a row of model is, says its field scope ("customer"): lists that are filtered by it depend on that scope's rows
    only. Costs each write of known rows one query, for the scopes that they had. Call it in ready(), or below the model."""
    try:
        field = model._meta.get_field(scope)
    except FieldDoesNotExist as error:
        raise ImproperlyConfigured(f"etagd: {model._meta.label} has no field {scope!r}") from error
    if not getattr(field, "concrete", False) or field.model._meta.concrete_model is not model._meta.concrete_model:
        raise ImproperlyConfigured(f"etagd: {model._meta.label}.{scope} is no column of its table")
    if not comparable(field):
        raise ImproperlyConfigured(f"etagd: {model._meta.label}.{scope} is of a type whose values may be equal in unknown ways")
    _scope_fields[model._meta.concrete_model] = field
    _prepared()


def comparable(field: Any, vendor: Optional[str] = None) -> bool:
    """Are two values of the column the same for the database exactly if text() is? Fields of other types may compare in
    ways that are not known here (citext, floats)."""
    if field.remote_field is not None and type(field) not in (models.ForeignKey, models.OneToOneField):
        return False
    field = _target(field)
    if type(field) in _WHOLE or type(field) is models.UUIDField:
        return True
    return type(field) is models.CharField and getattr(field, "db_collation", None) is None \
        and vendor in (None, "sqlite", "postgresql")


def _target(field: Any) -> Any:
    while field.remote_field is not None and getattr(field, "target_field", None) is not None:
        field = field.target_field
    return field


def text(field: Any, value: Any) -> Optional[str]:
    """A column's value as it is in a name; None: it cannot be said. Text is hashed: it may be a secret, or long."""
    if hasattr(value, "prepare_database_save"):
        value = value.prepare_database_save(field)
    if value is None or hasattr(value, "resolve_expression") or hasattr(value, "as_sql") or not comparable(field):
        return None
    field = _target(field)
    try:
        value = field.to_python(value)
    except (ValidationError, TypeError, ValueError):
        return None
    if type(field) in _WHOLE:
        return str(int(value))
    if isinstance(field, models.UUIDField):
        return str(value)
    return "~" + hashlib.sha256(str(value).encode("utf-8", "surrogatepass")).hexdigest()[:24]


class Table:
    """A model's table, and its names."""

    def __init__(self, model: Any) -> None:
        meta = model._meta
        self.model = model
        self.label = conf.PREFIX + meta.label_lower
        self.name = meta.db_table.strip('"`')
        self.pk = meta.pk
        self.scope = _scope_fields.get(meta.concrete_model)
        self.opaque = not meta.managed  # perhaps a view: what it reads is not known

    def row(self, value: Any) -> Optional[str]:
        made = text(self.pk, value)
        return None if made is None else f"{self.label}:{made}"

    def collection(self, value: Any) -> Optional[str]:
        made = None if self.scope is None else text(self.scope, value)
        return None if made is None else f"{self.label}:@{made}"

    @cached_property
    def deleted_with(self) -> Set[str]:
        """What the database may delete or change by itself where it deletes rows of this table: ON DELETE, which no statement
        shows. DB_CASCADE and its like say it; with DO_NOTHING a migration may have."""
        names: Set[str] = set()
        left, seen = [self.model], set()
        while left:
            for relation in left.pop()._meta.get_fields(include_hidden=True):
                on_delete = getattr(relation, "on_delete", None)
                if not relation.auto_created or on_delete is None or relation.related_model in seen \
                        or not (on_delete is models.DO_NOTHING or hasattr(on_delete, "on_delete_sql")):
                    continue
                seen.add(relation.related_model)
                if not table_of(relation.related_model).opaque:  # of others, views among them, all depends on "*"
                    names.update(every_row(relation.related_model))
                if not getattr(on_delete, "operation", "").startswith("SET"):
                    left.append(relation.related_model)
        return names

    @property
    def any_row(self) -> str:
        return self.label

    @property
    def unknown_rows(self) -> str:
        return self.label + ":*"


def any_write() -> str:
    return conf.PREFIX + "*"


_tables: Dict[str, Table] = {}


def tables() -> Dict[str, Table]:
    """By name in the database, in lower case; of every model there is."""
    if not _tables:
        found: Dict[str, Table] = {}
        for app_models in list(apps.all_models.values()):  # also those of no installed application
            for model in list(app_models.values()):
                if not model._meta.proxy and not model._meta.abstract and not model._meta.swapped:
                    table = Table(model)
                    table.opaque = table.opaque or table.name.lower() in found  # two models of one table
                    found[table.name.lower()] = table
        _tables.update(found)
    return _tables


on_change: List[Any] = []  # called when tables() may have become another


def _prepared(**_: Any) -> None:
    _tables.clear()
    for forget in on_change:
        forget()


class_prepared.connect(_prepared, dispatch_uid="etagd")


def table_of(model: Any) -> Table:
    meta = model._meta.concrete_model._meta
    return tables().get(meta.db_table.strip('"`').lower()) or Table(model._meta.concrete_model)


# ---- What is said explicitly ----


def for_instance(instance: Any) -> List[str]:
    """What an entry depends on that shows this row."""
    table = table_of(type(instance))
    row = None if table.opaque else table.row(instance.pk)
    if row is None:
        return [any_write() if table.opaque else table.any_row]
    return [row, table.unknown_rows]


def for_queryset(queryset: Any) -> List[str]:
    """What an entry depends on that shows the result of this queryset: of a registered model, where the queryset is
    filtered by its scope (and not by an OR), that scope's rows; else any row. Of other tables that it joins, any row."""
    from .reads import Reads

    compiler = queryset.query.get_compiler(queryset.db)
    sql, params = compiler.as_sql()
    reads = Reads()
    reads.add_query(compiler, sql, params, None)
    return sorted(reads.names())


def changed(instance: Any) -> List[str]:
    """What a write of this row touches, for etagd.django.invalidate(): with the scope that it has now. If the write moved
    it, say the scope that it had too."""
    table = table_of(type(instance))
    if table.opaque:
        return [EVERYTHING]
    names = [any_write(), table.any_row, table.row(instance.pk) or table.unknown_rows]
    if table.scope is not None:
        names.append(table.collection(getattr(instance, table.scope.attname)) or table.unknown_rows)
    return names


def every_row(model: Any) -> List[str]:
    """What a write of this table touches of which nothing else is known."""
    table = table_of(model)
    return [EVERYTHING] if table.opaque else [any_write(), table.any_row, table.unknown_rows]


def families(names: Iterable[str]) -> List[str]:
    """Families of the application's own names, with the site's prefix. A prefix with a colon is a family itself, which has
    all names of the site."""
    made = [FAMILY + conf.PREFIX + name for name in names if name]
    if "" in names:
        raise ValueError("etagd: a family's name is empty")
    return made


def said(names: Iterable[str]) -> List[str]:
    """Names of the application's own, with the site's prefix."""
    return [conf.PREFIX + name for name in names]
