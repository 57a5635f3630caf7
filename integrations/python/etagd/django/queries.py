# SPDX-License-Identifier: Apache-2.0
"""What the ORM's own queries say of the rows that they touch, from their structure, not their SQL."""
from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from django.core.exceptions import EmptyResultSet, FieldError
from django.db import DatabaseError
from django.db.models import ForeignKey, OneToOneField, lookups
from django.db.models.expressions import Col
from django.db.models.fields.related_lookups import RelatedExact, RelatedIn
from django.db.models.lookups import Exact, In
from django.db.models.sql.constants import INNER
from django.db.models.sql.where import AND, WhereNode

VALUES_MAX = 40
# Of 4.2 on, integers have an Exact of their own. What else a Django may bring is not narrowed by.
_EXACT = (Exact, RelatedExact, getattr(lookups, "IntegerFieldExact", Exact))


def pinned(query: Any, column: Optional[str]) -> Optional[List[Any]]:
    """The values that the WHERE of a query allows for this column of its first table, as an AND of all else that it says;
    None: it does not say."""
    if query.combinator or column is None:  # None: of a key of several columns
        return None
    return _pinned(query.where, query.get_initial_alias(), column)


def _pinned(where: Any, alias: str, column: str) -> Optional[List[Any]]:
    if type(where) is not WhereNode or where.negated or (where.connector != AND and len(where.children) != 1):
        return None
    for child in where.children:
        if isinstance(child, WhereNode):
            found = _pinned(child, alias, column)
        else:
            found = _values(child, alias, column)
        if found is not None:
            return found
    return None


def _values(lookup: Any, alias: str, column: str) -> Optional[List[Any]]:
    if type(lookup) not in (*_EXACT, In, RelatedIn):
        return None
    left, right = lookup.lhs, lookup.rhs
    if type(left) is not Col or left.alias != alias or left.target.column != column or lookup.bilateral_transforms:
        return None
    if hasattr(right, "as_sql") or hasattr(right, "resolve_expression"):
        return None
    if type(lookup) in _EXACT:
        return [right]
    try:
        values = list(right)
    except TypeError:
        return None
    if len(values) > VALUES_MAX or any(hasattr(value, "as_sql") or hasattr(value, "resolve_expression") for value in values):
        return None
    return values


def says_still(compiler: Any, statement: str, params: Any) -> bool:
    """Does the query of a compiler that has executed this statement still say it? Querysets can be changed in place."""
    try:
        again, with_params = compiler.query.get_compiler(connection=compiler.connection).as_sql()
    except (EmptyResultSet, DatabaseError, FieldError):
        return False
    return again == statement and tuple(with_params) == tuple(params or ())


def shows_rows(query: Any) -> bool:
    """Is each row of the result one of its first table? Not where it counts or sums: that has a row for no rows."""
    return not query.annotation_select and not query.extra_select and query.group_by is None


def joins(query: Any) -> Set[str]:
    """The aliases that it reads besides its first table."""
    return {alias for alias, count in query.alias_refcount.items() if count} - {query.get_initial_alias()}


def is_there(compiler: Any, alias: str, catalog_of: Any) -> bool:
    """Is a row of the first table in the result whether the one that it refers to is there or not? By an outer join, or since
    the database has the foreign key."""
    join = compiler.query.alias_map[alias]
    if join.join_type != INNER:
        return True
    columns = join.join_cols
    if len(columns) != 1 or not getattr(join.join_field, "db_constraint", False):
        return False
    return catalog_of(compiler.connection).has_key(compiler.query.get_initial_alias().strip('"`').lower(), columns[0][0])


Joined = Tuple[str, Any, int]  # alias, model, index of its primary key in a row of the result


def forward_joins(compiler: Any) -> Iterator[Joined]:
    """The tables that select_related() joined by foreign keys of the first table, or of one of these, or by one-to-one
    relations to them: each row of the result has one row of them at most, whose primary key is in the result."""
    info = getattr(compiler, "klass_info", None)
    if info and compiler.query.get_initial_alias():
        yield from _forward(compiler, info, {compiler.query.get_initial_alias(): True})


def _forward(compiler: Any, info: Dict[str, Any], known: Dict[str, bool]) -> Iterator[Joined]:
    for related in info.get("related_klass_infos", ()):
        field = related.get("field")
        if related.get("from_parent") or type(field) not in (ForeignKey, OneToOneField):
            continue
        if related.get("reverse") and type(field) is not OneToOneField:
            continue
        pk = related["model"]._meta.concrete_model._meta.pk
        for index in related["select_fields"]:
            column = compiler.select[index][0]
            if type(column) is not Col or column.target.column != pk.column:
                continue
            join = compiler.query.alias_map.get(column.alias)
            if getattr(join, "parent_alias", None) not in known or getattr(join, "filtered_relation", None):
                continue
            if join.join_field is not (field.remote_field if related.get("reverse") else field) \
                    or column.target.model._meta.concrete_model is not related["model"]._meta.concrete_model \
                    or join.table_name != column.alias:
                continue
            known[column.alias] = True
            yield column.alias, related["model"], index
            yield from _forward(compiler, related, known)
            break
