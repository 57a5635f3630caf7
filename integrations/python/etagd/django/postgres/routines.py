# SPDX-License-Identifier: Apache-2.0
"""Which of PostgreSQL's functions may write rows, and what calls them where no statement shows it.

    a default, a check, a domain, WHEN of a trigger     a write of the table calls it
    a view, a policy                                    a read does
    an operator, a cast, an aggregate                   anything may: no text shows it

Functions are volatile by default, so a volatile one is judged by its body: in SQL or PL/pgSQL, without a verb
that writes and a call of one that may write, it only reads.
"""
from __future__ import annotations

import re
from typing import Any, Dict, Iterable, List, Optional, Set

# Volatile, but they write no row.
HARMLESS = frozenset("""
    clock_timestamp currval gen_random_bytes gen_random_uuid lastval nextval pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared pg_advisory_xact_lock
    pg_advisory_xact_lock_shared pg_backend_pid pg_blocking_pids pg_column_size pg_current_wal_lsn pg_database_size pg_indexes_size
    pg_is_in_recovery pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_notify pg_relation_size pg_sleep
    pg_sleep_for pg_sleep_until pg_table_size pg_tablespace_size pg_total_relation_size pg_try_advisory_lock pg_try_advisory_lock_shared
    pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared random random_normal set_config setseed setval timeofday
    txid_current uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4 uuidv4 uuidv7""".split())

_IDENTIFIERS = re.compile(r"uuid|ulid|ksuid|nanoid|gen_salt|gen_random")  # an extension's, in C, which make one
_LITERALS = re.compile(r"""("[^"]*")|'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/""", re.S)
_UNSURE = re.compile(r"\bE'[^']*\\'|\$\w*\$|/\*(?:(?!\*/).)*/\*", re.S | re.I)  # a literal or comment may end elsewhere than it seems
_NO_WRITE = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+)?UPDATE\b|\bDO\s+UPDATE\s+SET\b|\bREPLACE\s*\("
                       r"|\bOR\s+(?:REPLACE|IGNORE|ABORT|ROLLBACK|FAIL)\b", re.I)
_VERBS = re.compile(r"\b(?:INSERT|UPDATE|DELETE|MERGE|REPLACE|TRUNCATE|EXECUTE|COPY|CALL|CREATE|DROP|ALTER|REFRESH)\b", re.I)
_WRITTEN = re.compile(
    r"\b(?:INSERT\s+INTO|REPLACE\s+INTO|MERGE\s+INTO|DELETE\s+FROM|TRUNCATE(?:\s+TABLE)?|UPDATE)\s+"
    r'(?:ONLY\s+)?(?:(?:"[^"]*"|\w+)\s*\.\s*)?("[^"]*"|`[^`]*`|\w+)', re.I)
_CALLS = re.compile(r'"([^"]+)"\s*\(|(\w+)\s*\(')
_NAMES = re.compile(r'"([^"]+)"|(\w+)')


def is_harmless(name: str) -> bool:
    return name in HARMLESS or _IDENTIFIERS.search(name) is not None


def without_literals(text: str) -> str:
    return _LITERALS.sub(lambda found: found.group(1) or " ", text)


def calls(text: str) -> Set[str]:
    """Names in lower case of all that may be called in it."""
    return {(quoted or plain).lower() for quoted, plain in _CALLS.findall(without_literals(text))}


def names(text: str) -> Set[str]:
    return {(quoted or plain).lower() for quoted, plain in _NAMES.findall(without_literals(text))}


def tables_written(text: str, known: Iterable[str]) -> Optional[Set[str]]:
    """By the body of a trigger; None: it is not known."""
    if _UNSURE.search(text):
        return None
    text = _NO_WRITE.sub(" ", without_literals(text))
    found = {name.strip('"`').lower() for name in _WRITTEN.findall(text)}
    if len(_VERBS.findall(text)) != len(_WRITTEN.findall(text)) or not found <= set(known):
        return None
    return found


class Routines:
    """A database's functions by name; of several with one name it is so of all what is so of any."""

    def __init__(self, built_in: Dict[str, str]) -> None:
        self.writers = {name for name, volatile in built_in.items() if volatile == "v" and not is_harmless(name)}
        self._texts: Set[str] = set()  # those in SQL or PL/pgSQL
        self._calls: Dict[str, Set[str]] = {}  # of the volatile ones that do not write by themselves
        self.readable: Set[str] = set()  # volatile ones whose body says what they do

    def add(self, name: str, language: str, bodies: List[Optional[str]]) -> None:
        """A volatile one."""
        text = " ".join(body for body in bodies if body)
        if language not in ("sql", "plpgsql"):
            if not is_harmless(name):
                self.writers.add(name)
            return
        self._texts.add(name)
        if _UNSURE.search(text) or _VERBS.search(_NO_WRITE.sub(" ", without_literals(text))):
            self.writers.add(name)
        else:
            self._calls.setdefault(name, set()).update(calls(text))

    def settle(self) -> None:
        changed = True
        while changed:
            found = {name for name, called in self._calls.items() if name not in self.writers and called & self.writers}
            changed = bool(found)
            self.writers |= found
        self.readable = set(self._calls) - self.writers

    def surely_writes(self, name: str) -> bool:
        """What is written in C for an operator, a cast or an aggregate computes."""
        return name in self._texts and name in self.writers

    def may_write(self, text: Optional[str]) -> bool:
        """Of an expression as the database prints it."""
        return bool(text) and not self.writers.isdisjoint(calls(text or ""))


# What is called without a name of its own.
HIDDEN = """
    SELECT p.proname FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode WHERE o.oid >= 16384
    UNION SELECT p.proname FROM pg_cast c JOIN pg_proc p ON p.oid = c.castfunc WHERE c.oid >= 16384
    UNION SELECT p.proname FROM pg_aggregate a JOIN pg_proc p ON p.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn,
        a.aggmfinalfn) WHERE a.aggfnoid >= 16384"""
# Of tables: what a write evaluates besides. "" for a table: whatever table has a column of the type.
EXPRESSIONS = """
    SELECT c.relname, pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid
    UNION ALL SELECT coalesce(c.relname, ''), pg_get_constraintdef(k.oid) FROM pg_constraint k LEFT JOIN pg_class c ON c.oid = k.conrelid
        WHERE k.contype = 'c' AND k.oid >= 16384
    UNION ALL SELECT '', t.typdefault FROM pg_type t WHERE t.typtype = 'd' AND t.typdefault IS NOT NULL AND t.oid >= 16384
    UNION ALL SELECT c.relname, pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE t.tgqual IS NOT NULL AND NOT t.tgisinternal AND t.tgenabled <> 'D'"""


def hides_writers(rows: Any, routines: Routines) -> bool:
    return any(routines.surely_writes(name.lower()) for name, in rows(HIDDEN))
