# SPDX-License-Identifier: Apache-2.0
"""What the database says of its tables, where models do not: what else a write changes, and what else a read depends on.

    a tree of partitions, or INHERITS    a write of one table changes rows of the others
    triggers, rules                      ... rows of the tables that they write; of all, where that is not known
    ON DELETE CASCADE, SET NULL          ... rows of the tables that refer to it
    views                                reads change with the clock, and with tables elsewhere, if their definition does
    foreign tables, a standby            reads change with writes that are not seen
    materialized views                   ... with a REFRESH that no trigger sees
    row security                         reads depend on what the policies read
    foreign keys                         only where the database has one is the row that is referred to surely there
    functions                            a volatile one may write

It is read once, and is good until something touches everything, as each change of the schema through Django does. That is known
from etagd itself: the catalog's hash is the ETag of an entry that depends on nothing else, so a look-up of some microseconds says
whether it is still the current one. Where it cannot be read, or no daemon says so, it is read again, or everything is possible.
"""
from __future__ import annotations

import hashlib
import re
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from django.core.exceptions import SynchronousOnlyOperation

import etagd

from . import drivers, sql, surrogates
from .conf import conf, log, unshadowed
from .postgres import routines
from .surrogates import EVERYTHING

TABLE, VIEW, FOREIGN = range(3)


@dataclass
class Relation:
    """One table, or all of one name in several schemas: then what is so in any of them."""

    kind: int = TABLE
    family: Set[str] = field(default_factory=set)
    writes: Set[str] = field(default_factory=set)  # tables that its triggers write
    writes_anything: bool = False
    writes_itself: bool = False  # a trigger may change the row that is written
    cascades: Set[str] = field(default_factory=set)  # tables whose rows follow its own when these go
    follows: Set[str] = field(default_factory=set)  # ... when their keys change
    keys: Set[str] = field(default_factory=set)  # columns with a foreign key that holds
    definition: str = ""  # of a view, or of policies
    policies: bool = False
    writes_when_read: bool = False  # by a function that its definition calls
    replicated: bool = False  # another server writes it
    unseen: Set[str] = field(default_factory=set)  # why what it shows must not be stored


class Catalog:
    def __init__(self, complete: bool = True) -> None:
        self.complete = complete  # else anything may be
        self.relations: Dict[str, Relation] = {}
        self.functions: Dict[str, str] = {}  # name -> i, s, v: the database's own
        self.clock_functions: Set[str] = set()
        self.setters: Set[str] = set()  # functions that change settings of the session
        self.built_in: Set[Any] = set()  # of these, what is the same in every database
        self.writers: Set[str] = set()  # functions that may write
        self.hides_writers = False  # an operator, a cast or an aggregate calls one, so any statement may
        self.knows_functions = False  # all there are
        self.standby = False
        self.etag = ""
        self.asked: Optional[etagd.Request] = None  # whether it is the current one
        self.keeps = True  # it is no older than its transaction's last statement

    # ---- Reading ----

    def unseen(self, words: Iterable[str]) -> Set[str]:
        """Why what these relations show must not be stored."""
        made = {"standby"} if self.standby and not conf.HOLD_MS else set()
        for word in words:
            relation = self.relations.get(word)
            if relation is not None:
                made |= relation.unseen
                if relation.replicated and not conf.HOLD_MS:
                    made.add("replica")
        return made

    def is_plain(self, name: str) -> bool:
        """Does a read of this table depend on nothing but its rows?"""
        relation = self.relations.get(name)
        return relation is not None and relation.kind == TABLE and not relation.policies

    def has_key(self, name: str, column: str) -> bool:
        relation = self.relations.get(name)
        return relation is not None and column in relation.keys

    def may_write(self, functions: Iterable[str]) -> bool:
        """Functions that the ORM's SELECT calls: may one of them write? In SQLite they are Python's, whose writes are seen."""
        return not self.writers.isdisjoint(functions)

    def reading_writes(self, text: str) -> bool:
        """May a SELECT with this text write, though none of the functions that it calls does?"""
        if self.hides_writers:
            return True
        return any(self.relations[name].writes_when_read for name in sql.names_in(text) if name in self.relations)

    def asks_the_clock(self, functions: Iterable[str]) -> bool:
        return any(name in self.clock_functions or (name not in self.functions and not self.knows_functions) for name in functions)

    # ---- Writing ----

    def also(self, name: str, verb: str) -> Set[str]:
        """The names that a write of this table touches besides its own."""
        if not self.complete or self.hides_writers:
            return {EVERYTHING}
        made: Set[str] = set()
        done: Set[str] = set()
        waiting = [name]
        while waiting:
            one = waiting.pop()
            if one in done:
                continue
            done.add(one)
            relation, table = self.relations.get(one), surrogates.tables().get(one)
            if relation is None and one != name:
                continue
            if relation is None or relation.kind != TABLE or relation.writes_anything:
                return {EVERYTHING}
            if table is not None and one != name:
                made |= {EVERYTHING} if table.opaque else {table.any_row, table.unknown_rows}
            if table is not None and one == name and (relation.writes_itself and table.scope is not None or name in relation.writes):
                made.add(table.unknown_rows)
            waiting += relation.family | relation.writes
            if verb != "INSERT" or one != name:
                waiting += relation.follows
            if verb == "DELETE" or one != name:
                waiting += relation.cascades
        return made

    # ---- Making it ----

    def relation(self, name: str) -> Relation:
        return self.relations.setdefault(name.lower(), Relation())

    def trigger(self, table: str, body: Optional[str], itself: bool) -> None:
        """body None: it cannot be read."""
        relation = self.relation(table)
        relation.writes_itself = relation.writes_itself or itself
        written = None if body is None else routines.tables_written(body, self.relations)
        if written is None or self.may_write(routines.calls(body or "")) or \
                any(name in self.relations and self.relations[name].writes_when_read for name in routines.names(body or "")):
            relation.writes_anything = True
        else:
            relation.writes |= written

    def settle(self) -> None:
        """When all is known: families as a whole, and what views show of others."""
        for relation in self.relations.values():
            if relation.kind == FOREIGN:
                relation.unseen.add("foreign_table")
            text = re.sub(r"'\w+'::", "", relation.definition)
            if text and (sql.asks_the_clock(text) or self.asks_the_clock(self._calls(text))):
                relation.unseen.add("view_clock" if relation.kind == VIEW else "policy_clock")
        self._join_families()
        changed = True
        while changed:
            changed = False
            for relation in self.relations.values():
                shown = (set(sql.names_in(relation.definition)) if relation.definition else set()) | relation.family
                unseen = set().union(*(self.relations[name].unseen for name in shown & set(self.relations)))
                changed = changed or not unseen <= relation.unseen
                relation.unseen |= unseen
        self.etag = '"' + hashlib.sha256(repr(self._content()).encode()).hexdigest()[:24] + '"'

    def _join_families(self) -> None:
        """Each table's family is its whole tree."""
        done: Set[str] = set()
        for start in self.relations:
            tree, waiting = {start}, [start]
            while waiting and start not in done:
                for name in self.relations[waiting.pop()].family - tree:
                    if name in self.relations:
                        tree.add(name)
                        waiting.append(name)
            if len(tree) > 1:
                for name in tree:
                    self.relations[name].family = tree - {name}
                done |= tree

    def _calls(self, text: str) -> Iterator[str]:
        return (name for name in routines.calls(text) if name.upper() not in sql._PURE and name in self.functions)

    def _content(self) -> Any:
        return [sorted((name, [sorted(value) if isinstance(value, set) else value for value in vars(relation).values()])
                       for name, relation in self.relations.items()),
                sorted(set(self.functions.items()) - self.built_in), sorted(self.clock_functions), self.standby, sorted(self.writers),
                self.hides_writers, sorted(self.setters)]


# ---- PostgreSQL ----

# What etag-relay has put there: its functions have names as others have (trim, age), and its triggers write its outbox alone.
_NOT_RELAY = "NOT (n.nspname = 'etagd' AND pg_get_userbyid(n.nspowner) = 'etagd_owner')"
_OURS = f"n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg_temp%' AND {_NOT_RELAY}"
_RELATIONS = f"""
    SELECT c.relname, c.relkind, c.relrowsecurity,
           CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid)
                ELSE (SELECT string_agg(coalesce(pg_get_expr(p.polqual, p.polrelid), ''), ' ') FROM pg_policy p WHERE p.polrelid = c.oid) END,
           EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type <> '1'),
           EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_OURS}"""
_INHERITS = """SELECT p.relname, c.relname FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent JOIN pg_class c ON c.oid = i.inhrelid
    WHERE p.relkind IN ('r', 'p', 'f')"""
_FUNCTIONS = """
    SELECT p.proname, p.provolatile, l.lanname, p.prosrc, pg_get_expr(p.proargdefaults, 0), {} FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_language l ON l.oid = p.prolang WHERE p.prorettype <> 'trigger'::regtype AND n.nspname NOT IN ('pg_catalog', 'information_schema')
        AND """ + _NOT_RELAY
_BUILT_IN = """
    SELECT p.proname, max(p.provolatile::text) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname IN ('pg_catalog', 'information_schema') GROUP BY 1"""
_TRIGGERS = f"""
    SELECT c.relname, l.lanname, p.prosrc, p.proname, t.tgtype & 2 <> 0 AND t.tgtype & 1 <> 0
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_language l ON l.oid = p.prolang
    JOIN pg_namespace n ON n.oid = p.pronamespace WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND {_NOT_RELAY}"""
_KEYS = """
    SELECT c.relname, r.relname, k.confdeltype, k.confupdtype,
           k.convalidated AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgconstraint = k.oid AND t.tgenabled = 'D'),
           (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1] AND array_length(k.conkey, 1) = 1)
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class r ON r.oid = k.confrelid WHERE k.contype = 'f'"""
_SESSION = "SELECT pg_is_in_recovery(), current_setting('transaction_isolation') = 'read committed'"
_KNOWN_INTERNAL = frozenset(("tsvector_update_trigger", "tsvector_update_trigger_column", "suppress_redundant_updates_trigger"))


def _postgresql(rows: Any) -> Catalog:
    made = Catalog()
    (made.standby, made.keeps), = rows(_SESSION)
    count: Dict[Any, int] = {}
    kinds = {"r": TABLE, "p": TABLE, "f": FOREIGN}
    for name, kind, secured, definition, ruled, replicated in rows(_RELATIONS):
        one = made.relation(name)
        count[name] = count.get(name, 0) + 1
        one.kind = max(one.kind, kinds.get(_text(kind), VIEW))
        one.definition += " " + definition if definition else ""
        one.policies, one.writes_anything = one.policies or secured, one.writes_anything or ruled
        one.replicated = one.replicated or replicated
        if _text(kind) == "m":
            one.unseen.add("materialized_view")
    for parent, child in rows(_INHERITS):
        made.relation(parent).family.add(child.lower())
        made.relation(child).family.add(parent.lower())
    made.functions, made.knows_functions = dict(_built_in(rows)), True
    made.built_in = set(made.functions.items())
    made.clock_functions = {name for name, volatile in made.functions.items() if volatile == "v"}
    known = _functions_of(made, rows)
    _expressions(made, known, rows)
    for table, language, source, name, before in rows(_TRIGGERS):
        can_be_read = name in _KNOWN_INTERNAL or language == "plpgsql"
        made.trigger(table, (source if language == "plpgsql" else "") if can_be_read else None, before)
    for table, referred, deletes, updates, holds, column in rows(_KEYS):
        if _text(deletes) in "cnd":
            made.relation(referred).cascades.add(table.lower())
        if _text(updates) in "cnd":
            made.relation(referred).follows.add(table.lower())
        if holds and column:
            count[table, column] = count.get((table, column), 0) + 1
    for said, times in count.items():
        if isinstance(said, tuple) and times >= count.get(said[0], 0):  # in each of several schemas
            made.relation(said[0]).keys.add(said[1])
    return made


def _functions_of(made: Catalog, rows: Any) -> routines.Routines:
    known = routines.Routines(made.functions)
    (version,), = rows("SHOW server_version_num")
    standard = "pg_get_function_sqlbody(p.oid)" if int(version) >= 140000 else "NULL"
    bodies = {}
    for name, volatile, language, source, defaults, body in rows(_FUNCTIONS.format(standard)):
        name, volatile = name.lower(), _text(volatile)
        made.functions[name] = max(made.functions.get(name, "i"), volatile)
        if volatile == "v":
            known.add(name, language, [source, defaults, body])
        bodies.setdefault(name, []).append((volatile, language, " ".join(text for text in (source, defaults, body) if text)))
    known.settle()
    made.writers, made.setters = known.writers, _setters(bodies)
    waiting = True
    while waiting:
        found = {name for name, several in bodies.items() if name not in made.clock_functions
                 and any(_asks_the_clock(made, known, name, *one) for one in several)}
        waiting = bool(found)
        made.clock_functions |= found
    return known


def _asks_the_clock(made: Catalog, known: routines.Routines, name: str, volatile: str, language: str, text: str) -> bool:
    # A volatile one whose body can be read is as one that is said to be stable.
    if volatile == "v" and name not in known.readable:
        return True
    # What is written in C and does not change within a statement is an extension's, known by name.
    if volatile == "i" or language in ("c", "internal"):
        return False
    if language not in ("sql", "plpgsql"):
        return True
    text = routines.without_literals(text)
    return sql.asks_the_clock(text) or not made.clock_functions.isdisjoint(routines.calls(text))


def _expressions(made: Catalog, known: routines.Routines, rows: Any) -> None:
    """What calls functions that may write, where no statement says so."""
    made.hides_writers = routines.hides_writers(rows, known)
    for table, text in rows(routines.EXPRESSIONS):
        if known.may_write(text):
            if table:
                made.relation(table).writes_anything = True
            else:
                made.hides_writers = True  # of a domain
    changed = True
    while changed:
        changed = False
        for relation in made.relations.values():
            if relation.definition and not relation.writes_when_read:
                shown = sql.names_in(relation.definition)
                relation.writes_when_read = known.may_write(relation.definition) or \
                    any(name in made.relations and made.relations[name].writes_when_read for name in shown)
                changed = changed or relation.writes_when_read


def _setters(bodies: Dict[str, List[Tuple[str, str, str]]]) -> Set[str]:
    """Those that set, and those that name them. Of another language it is not known."""
    sources = [(name, text if language in ("sql", "plpgsql") else "set_config") for name, several in bodies.items()
               for _, language, text in several if language not in ("c", "internal")]
    made = {name for name, text in sources if sql.source_sets(text)}
    while True:
        more = {name for name, text in sources if name not in made and not made.isdisjoint(sql.names_in(text))}
        if not more:
            return made
        made |= more


_functions: Dict[str, Dict[str, str]] = {}  # by the server's version


def _built_in(rows: Any) -> Dict[str, str]:
    """Of the database itself: thousands, which only another version of it changes."""
    (version,), = rows("SHOW server_version_num")
    if version not in _functions:
        _functions[version] = {name.lower(): _text(volatile) for name, volatile in rows(_BUILT_IN)}
    return _functions[version]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# ---- SQLite ----


_DETERMINISTIC = 0x800


def _sqlite(rows: Any) -> Catalog:
    made = Catalog()
    for name, builtin, _, _, _, flags in rows("PRAGMA function_list"):
        if builtin or flags & _DETERMINISTIC:
            made.functions[name.lower()] = "i"
    found = [row for source in ("sqlite_master", "sqlite_temp_master") for row in rows(f"SELECT type, name, tbl_name, sql FROM {source}")]
    for kind, name, _, text in found:
        if kind in ("table", "view"):
            one, start = made.relation(name), (text or "").lstrip().upper()
            if kind == "view":
                one.kind, one.definition = VIEW, text or ""
            elif start.startswith("CREATE VIRTUAL"):
                one.kind = VIEW if re.search(r"\bUSING\s+(?:fts\d|rtree)", text, re.I) else FOREIGN
    for kind, _, table, text in found:
        if kind == "trigger":
            made.trigger(table, re.split(r"\bBEGIN\b", text or "BEGIN", 1, re.I)[-1], False)
    (enforced,), = rows("PRAGMA foreign_keys")
    tables = {name: table for kind, name, table, _ in found if kind == "table" and name.lower() in surrogates.tables()}
    for name in tables:
        for row in rows(f"PRAGMA foreign_key_list({_quote(name)})"):
            _, _, referred, column, _, updates, deletes = row[:7]
            if deletes.upper() not in ("NO ACTION", "RESTRICT"):
                made.relation(referred).cascades.add(name.lower())
            if updates.upper() not in ("NO ACTION", "RESTRICT"):
                made.relation(referred).follows.add(name.lower())
            if enforced:
                made.relation(name).keys.add(column)
    return made


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# ---- The one that is known ----

_MAKERS = {"postgresql": _postgresql, "sqlite": _sqlite}
_known: Dict[str, Catalog] = {}
_ANYTHING, UNKNOWN = Catalog(complete=False), Catalog(complete=False)


def _identity(connection: Any) -> str:
    state = _state(connection)
    if state.identity is None or state.identity[0] != conf.PREFIX:
        state.identity = (conf.PREFIX, _make_identity(connection))
    return state.identity[1]


def _make_identity(connection: Any) -> str:
    said = [str(connection.settings_dict.get(name, "")) for name in ("ENGINE", "HOST", "PORT", "NAME")]
    return hashlib.sha256("\0".join([conf.PREFIX, *said]).encode()).hexdigest()[:24]


def _key(identity: str) -> etagd.Key:
    return etagd.Key(etagd.Resource(None, "/.etagd/catalog/" + identity), etagd.PUBLIC, "1")


def of(connection: Any, reading: bool = False) -> Catalog:
    """Of the database of this connection, as it is now. reading: or one that says that nothing is known, since there is no daemon:
    then nothing is stored either, and the database need not be asked."""
    maker = _MAKERS.get(connection.vendor)
    if maker is None:
        return _ANYTHING
    state = _state(connection)
    identity = _identity(connection)
    changed = EVERYTHING in state.names  # perhaps the schema, by this transaction
    found = _known.get(identity)
    if found is not None and not changed:
        reason = "match" if found is state.catalog else _reason(found, identity)
        if reason == "match":
            return found
        if reading and reason == "no_index":
            return UNKNOWN
    made = _read(connection, maker, identity, changed)
    if state.in_transaction and made is _known.get(identity) and not _is_current(made, identity):
        state.catalog = made  # whether it is current is not known, so it is asked for once in a transaction
    return made


def last(connection: Any) -> Catalog:
    """For what is no write of a model's: the one that was known last, where no daemon says whether it is current."""
    found = of(connection, reading=True)
    return _known[_identity(connection)] if found is UNKNOWN else found


def prepare(connection: Any) -> None:
    """Before a request's first statement: later, in an event loop, it could not be read."""
    if connection.vendor in _MAKERS and _identity(connection) not in _known:
        of(connection)


def _state(connection: Any) -> Any:
    if getattr(connection, "_etagd", None) is None:
        connection.ensure_connection()
    return connection._etagd


def _reason(found: Catalog, identity: str) -> str:
    """"match": it is the current one."""
    try:
        if found.asked is None:
            found.asked = etagd.Request("GET", _key(identity), [("If-None-Match", found.etag)])
        return unshadowed().check(found.asked).reason
    except etagd.EtagError:
        return "no_index"


def _is_current(found: Catalog, identity: str) -> bool:
    return _reason(found, identity) == "match"


def _read(connection: Any, maker: Any, identity: str, changed: bool) -> Catalog:
    token = etagd.Token()
    try:
        token = unshadowed().token()
    except etagd.EtagError:
        pass
    try:
        connection.ensure_connection()
        with connection.wrap_database_errors, closing(connection.create_cursor()) as cursor:
            made = connection._etagd.inside(_apart, connection, cursor, maker)
        made.settle()
    except SynchronousOnlyOperation:
        _known.pop(identity, None)  # it is read before the next statement
        return _ANYTHING
    except Exception:  # pylint: disable=broad-except
        log.exception("etagd: the catalog of database %r cannot be read, so its writes make everything stale", connection.alias)
        return _ANYTHING
    if changed or (connection._etagd.in_transaction and not made.keeps):
        return made
    _known[identity] = made
    try:
        unshadowed().fill(token, _key(identity), etagd.Response(etag=made.etag))
    except etagd.EtagError:
        pass  # it is read again
    return made


def _apart(connection: Any, cursor: Any, maker: Any) -> Catalog:
    """What fails of it (a lock that is not had in time) must not fail the transaction in which it is asked: PostgreSQL would make a
    ROLLBACK of its COMMIT, and say nothing."""
    driver = connection.connection
    if connection.vendor != "postgresql" or (driver.autocommit and not drivers.has_open_transaction("postgresql", driver)):
        return maker(partial(_rows, cursor))  # type: ignore[no-any-return]
    cursor.execute("SAVEPOINT etagd_catalog")
    try:
        return maker(partial(_rows, cursor))  # type: ignore[no-any-return]
    except Exception:
        cursor.execute("ROLLBACK TO SAVEPOINT etagd_catalog")
        raise
    finally:
        cursor.execute("RELEASE SAVEPOINT etagd_catalog")


def _rows(cursor: Any, text: str) -> List[Tuple[Any, ...]]:
    cursor.execute(text)
    return cursor.fetchall()


def forget() -> None:
    _known.clear()


surrogates.on_change.append(forget)
