# SPDX-License-Identifier: Apache-2.0
"""Tables of models that triggers watch (etagd.watch(), docs/relay-postgresql.md), by templates that make the names which a write by
Django touches: so a write by psql, a migration or another service reaches the pages that depend on the row.

    *, app.model          each statement that changes a row
    app.model:{id}        the row, where PostgreSQL writes its key as surrogates.text() does: whole numbers and UUIDs
    app.model:@{owner_id} its scope, the former one too
    app.model:*           in the place of both, where a key or a scope is of another type: then each write touches all rows

More rows than watch_rows, and TRUNCATE, are the family app.model, of which all of these are, and app.model:* too, on which each page
depends that depends on single rows or scopes. Templates of others (another site's prefix, names of a service) are left as they are.
"""
from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Optional, Tuple

from django.db import DatabaseError, models, router

from .. import clock, surrogates
from ..changes import outbox

_FIND = """
    SELECT n.name, c.oid::bigint, c.relkind::text FROM pg_catalog.unnest(%s::text[]) n(name)
    JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(n.name)"""
_TYPES = """
    SELECT a.attrelid::bigint, a.attname::text, coalesce(b.typname, t.typname)::text
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid LEFT JOIN pg_catalog.pg_type b ON b.oid = nullif(t.typbasetype, 0)
    WHERE a.attrelid = ANY (%s::bigint[]::oid[]) AND a.attnum > 0 AND NOT a.attisdropped"""
_PARTS = """
    WITH RECURSIVE part AS (SELECT o AS root, o AS relation FROM pg_catalog.unnest(%s::bigint[]::oid[]) o
        UNION SELECT p.root, i.inhrelid FROM part p JOIN pg_catalog.pg_inherits i ON i.inhparent = p.relation)
    SELECT root::bigint, relation::bigint FROM part WHERE root <> relation"""
_CAN = "SELECT pg_catalog.to_regprocedure('etagd.watches()') IS NOT NULL"
_WATCHES = "SELECT relation::bigint, name, templates, state, part_count, why FROM etagd.watches()"
_CHECK = "SELECT etagd.watch_check(%s::bigint::oid), etagd.owner_check(%s::bigint::oid)"
_WATCH = "SELECT etagd.watch(%s::bigint::oid::regclass, VARIADIC %s::text[])"
_UNWATCH = "SELECT etagd.unwatch(%s::bigint::oid::regclass)"

# Types of columns whose text is the same in PostgreSQL and in a name.
_SAME_TEXT = {"int2": int, "int4": int, "int8": int, "uuid": models.UUIDField}


class Refused(Exception):
    """What cannot be done, and what to do."""


@dataclass
class Watch:
    """What etagd.watches() says of a table."""

    relation: int
    name: str
    templates: List[str]
    state: str
    part_count: int
    why: Optional[str]


@dataclass
class Found:
    """A model's table in this database."""

    table: surrogates.Table
    name: str  # quoted
    relation: int
    kind: str
    wanted: List[str] = field(default_factory=list)
    others: List[str] = field(default_factory=list)  # templates that it has and that are none of this site's
    watch: Optional[Watch] = None
    part_of: Optional[str] = None
    coarse: str = ""  # why each write touches all rows

    @property
    def is_done(self) -> bool:
        return self.watch is not None and self.watch.state == "watched" and set(self.watch.templates) == set(self.wanted + self.others)

    @property
    def missing(self) -> List[str]:
        """What is watched, and does not name all that pages depend on."""
        return [] if self.watch is None else [one for one in self.wanted if one not in self.watch.templates]


# ---- Templates ----

def _literal(name: str) -> str:
    return name.replace("{", "{{").replace("}", "}}")


def _column(model_field: Any, types: Dict[str, str]) -> Optional[str]:
    """In braces; None: it cannot be in a template, or its text is not that of a name."""
    if model_field is None or getattr(model_field, "column", None) is None or not surrogates.comparable(model_field):
        return None
    made = _SAME_TEXT.get(types.get(model_field.column, ""))
    is_uuid = type(surrogates._target(model_field)) is models.UUIDField
    is_text = type(surrogates._target(model_field)) is models.CharField
    if made is None or is_text or is_uuid != (made is models.UUIDField) or set("{}") & set(model_field.column):
        return None
    return "{" + model_field.column + "}"


def templates(table: surrogates.Table, types: Dict[str, str], within: Iterable[surrogates.Table] = ()) -> Tuple[List[str], str]:
    """What a write of this table touches, and why all rows, if it does. within: tables that are parts of it, with models of their own,
    whose rows are its rows too."""
    star = _literal(surrogates.any_write())
    if table.opaque:
        return [star], "its model is unmanaged, or one of several: what reads it depends on every write"
    label = _literal(table.label)
    made, coarse = [star, _literal(table.any_row)], ""
    row, scope = _column(table.pk, types), _column(table.scope, types)
    if row is None and surrogates.comparable(table.pk):
        coarse = f"its key {table.pk.name} is neither a whole number nor a UUID"
    elif table.scope is not None and scope is None:
        coarse = f"its scope {table.scope.name} is neither a whole number nor a UUID"
    if coarse or (row is None and scope is None):
        made.append(_literal(table.unknown_rows))
    else:
        made += [f"{label}:{row}"] * (row is not None) + [f"{label}:@{scope}"] * (scope is not None)
    for part in within:
        if not part.opaque:
            made += [_literal(part.any_row), _literal(part.unknown_rows)]
    return list(dict.fromkeys(made)), coarse


def _is_ours(template: str, tables: Iterable[surrogates.Table]) -> bool:
    labels = [_literal(table.label) for table in tables]
    return template == _literal(surrogates.any_write()) or any(template == label or template.startswith(label + ":") for label in labels)


# ---- Models ----

def with_parts(model: Any) -> List[surrogates.Table]:
    """The tables that pages of this model read: its own, those of its parents, and of many-to-many fields without a model of their own."""
    meta = model._meta.concrete_model._meta
    found = [meta.concrete_model, *(parent._meta.concrete_model for parent in meta.get_parent_list())]
    for one in list(found):
        found += [many.remote_field.through for many in one._meta.local_many_to_many if many.remote_field.through._meta.auto_created]
    return list({table.name: table for table in map(surrogates.table_of, found)}.values())


def of_site(alias: str) -> Tuple[List[surrogates.Table], List[Tuple[str, str]]]:
    """All tables that this database should have, and those that are left out, with the reason."""
    taken, left = [], []
    for table in surrogates.tables().values():
        if not router.allow_migrate_model(alias, table.model):
            continue
        if table.opaque:
            left.append((table.name, "its model is unmanaged, or one of several: name it, if it is a table"))
        elif clock.is_session(table.model):
            left.append((table.name, "sessions are Django's own; their keys are text, so each login would touch all"))
        else:
            taken.append(table)
    return taken, left


# ---- The database ----

def _rows(state: Any, text: str, *values: Any) -> List[Any]:
    """By the driver: not seen by execute(), nor counted by assertNumQueries()."""
    with state.connection.wrap_database_errors, closing(state.connection.connection.cursor()) as cursor:
        state.inside(cursor.execute, text, values or None)
        return cursor.fetchall()


def _said(error: DatabaseError) -> str:
    """The database's message, with what it says to do."""
    said = getattr(error.__cause__, "diag", None)
    if said is None or not said.message_primary:
        return str(error).strip()
    return said.message_primary + (f". {said.message_hint}" if said.message_hint else "")


def opened(connection: Any) -> Any:
    """The state of a connection whose database can watch tables for this role. Raises Refused."""
    from ..writes import state_of

    alias = connection.alias
    if connection.vendor != "postgresql":
        raise Refused(f"DATABASES[{alias!r}] is not PostgreSQL, and only its tables can be watched")
    connection.ensure_connection()
    state = state_of(connection)
    kind = outbox.probe(state)[0]
    if kind == outbox.NO_SCHEMA:
        raise Refused(f"DATABASES[{alias!r}] has no schema etagd: as a role that may make schemas, run "
                      "etag-relay --connection ... setup --writer ROLE, with the owner of the tables as ROLE")
    if kind == outbox.NO_RIGHT:
        raise Refused(f"DATABASES[{alias!r}]: this role may not use the schema etagd: GRANT etagd_writer TO it, as etag-relay setup --writer does")
    if kind == outbox.NOT_OURS or not _rows(state, _CAN)[0][0]:
        raise Refused(f"DATABASES[{alias!r}] has a schema etagd that cannot watch tables: it is of a former release, or not etag-relay's; run "
                      "etag-relay setup")
    return state


def watches(state: Any) -> List[Watch]:
    return [Watch(*row) for row in _rows(state, _WATCHES)]


def find(state: Any, wanted: Iterable[surrogates.Table]) -> List[Found]:
    """Those of the tables that are there, as the connection's search path has them."""
    quote = state.connection.ops.quote_name
    every = {quote(table.model._meta.db_table): table for table in surrogates.tables().values()}
    there: Dict[str, Tuple[int, str]] = {name: (oid, kind) for name, oid, kind in _rows(state, _FIND, list(every))}
    names = {oid: name for name, (oid, _) in there.items()}
    parts: Dict[int, List[int]] = {}
    for root, part in _rows(state, _PARTS, list(names)):
        parts.setdefault(root, []).append(part)
    types: Dict[int, Dict[str, str]] = {}
    for oid, column, of_type in _rows(state, _TYPES, list(names)):
        types.setdefault(oid, {})[column] = of_type
    known = {watch.relation: watch for watch in watches(state)}
    made = []
    for table in wanted:
        name = quote(table.model._meta.db_table)
        if name not in there:
            continue
        one = Found(table, name, *there[name], watch=known.get(there[name][0]))
        within = [every[names[part]] for part in parts.get(one.relation, ()) if part in names]
        one.part_of = next((names[root] for root, several in parts.items() if one.relation in several and root in names), None)
        one.wanted, one.coarse = templates(table, types.get(one.relation, {}), within)
        if one.watch is not None:
            one.others = [said for said in one.watch.templates if not _is_ours(said, [table, *within])]
        made.append(one)
    return made


def check(state: Any, found: Found) -> None:
    """Could it be watched? Raises Refused."""
    try:
        _rows(state, _CHECK, found.relation, found.relation)
    except DatabaseError as error:
        raise Refused(_said(error)) from error


def watch(state: Any, found: Found) -> str:
    try:
        return str(_rows(state, _WATCH, found.relation, found.wanted + found.others)[0][0])
    except DatabaseError as error:
        raise Refused(_said(error)) from error


def unwatch(state: Any, found: Found) -> str:
    """Of this site's names. Those of others stay watched."""
    try:
        if found.others:
            _rows(state, _WATCH, found.relation, found.others)
            return f"{found.name} is watched for others only: {', '.join(found.others)}"
        return str(_rows(state, _UNWATCH, found.relation)[0][0])
    except DatabaseError as error:
        raise Refused(_said(error)) from error


def faults(connection: Any) -> List[Tuple[str, str, str]]:
    """What is wrong with tables that are watched: state, what, and what to do. "differs": it does not name what pages depend on."""
    try:
        state = opened(connection)
    except Refused:
        return []  # nothing is watched, or other checks say it
    found = {one.relation: one for one in find(state, surrogates.tables().values())}
    made = []
    for one in watches(state):
        ours = found.get(one.relation)
        how = f"manage.py etagd_watch --database {connection.alias} {ours.table.model._meta.label}" if ours else "SELECT etagd.watch(), by its owner"
        if one.state in ("broken", "coarse"):
            made.append((one.state, f"{one.name}: {one.why}", how))
        elif ours and ours.missing and any(_is_ours(said, [ours.table]) for said in one.templates):
            made.append(("differs", f"{one.name} lacks the templates {', '.join(ours.missing)}", how))
    return made
