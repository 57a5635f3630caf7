# SPDX-License-Identifier: Apache-2.0
"""What SET left in the session of a connection, and which request did: a role, a search path, a setting that policies read.

A request that reads under what an earlier one left reads perhaps another thing than the next one will, so it is not stored. What
the request itself set, before it reads, is its own: that belongs into the scope. So each setting is known by its name. RESET
takes it back, ROLLBACK what its transaction set. What a function, a procedure or a block sets has no name here: "?".
"""
from __future__ import annotations

import re
from typing import Any, Dict, Iterable, Optional, Set, Tuple

from .. import catalog, reads, sql

_UNNAMED = "?"
_LEFT = 0  # the mark of no request: requests have theirs
_SET = re.compile(r"\s*(?P<verb>RE)?SET\s+(?:SESSION\s+(?!AUTHORIZATION\b))?(?P<name>TIME\s+ZONE|SESSION\s+AUTHORIZATION|[\w.]+)(?P<value>.*)", re.I | re.S)
_CONFIG = re.compile(r"set_config\s*\(\s*(?:'([^']*)'|%s)", re.I)
_DEFAULT = re.compile(r"\s*(?:TO|=)?\s*DEFAULT\s*;?\s*", re.I)
_OTHER_NAMES = {"time zone": "timezone", "session authorization": "session_authorization", "schema": "search_path"}
_KEEP = ("role", "session_authorization", _UNNAMED)  # RESET ALL does not reset them, or it is not known
_CALLING = ("SELECT", "WITH", "CALL", "DO", "VALUES")


def _said_by(statement: str, params: Any) -> Tuple[str, bool]:
    """Which setting, and is it taken back?"""
    config = _CONFIG.search(statement)
    if config is not None:
        first = params[0] if isinstance(params, (list, tuple)) and params else None
        name = config.group(1) or (first if isinstance(first, str) else _UNNAMED)
        return name.lower(), False
    found = _SET.match(statement)
    if found is None:
        return _UNNAMED, False
    name = re.sub(r"\s+", " ", found.group("name").lower())
    return _OTHER_NAMES.get(name, name), bool(found.group("verb") or _DEFAULT.fullmatch(found.group("value")))


class Settings:
    """Of one connection of the driver, which may go from one of Django's to another's by a pool."""

    def __init__(self) -> None:
        self._marks: Dict[str, int] = {}  # setting -> who said it
        self._before: Dict[str, Optional[int]] = {}  # ... before the open transaction

    def said(self, statement: str, params: Any, in_transaction: bool) -> None:
        name, is_reset = _said_by(statement, params)
        if is_reset and name == "all":
            for one in [one for one in self._marks if one not in _KEEP]:
                self._put(one, None, in_transaction)
        else:
            self._put(name, None if is_reset else _mark(), in_transaction)

    def may_be_said(self, in_transaction: bool) -> None:
        """By a function or a block."""
        self._put(_UNNAMED, _mark(), in_transaction)

    def discarded(self) -> None:
        self._marks.clear()
        self._before.clear()

    def _put(self, name: str, mark: Optional[int], in_transaction: bool) -> None:
        if in_transaction:
            self._before.setdefault(name, self._marks.get(name))
        if mark is None:
            self._marks.pop(name, None)
        else:
            self._marks[name] = mark

    def committed(self) -> None:
        self._before.clear()

    def rolled_back(self) -> None:
        for name, mark in self._before.items():
            if mark is None:
                self._marks.pop(name, None)
            else:
                self._marks[name] = mark
        self._before.clear()

    def rolled_back_to_savepoint(self) -> None:
        """It may have taken any of them back."""
        for name in self._before:
            self._marks[name] = _LEFT

    def of_others(self, noted: reads.Reads) -> Set[str]:
        return {name for name, mark in self._marks.items() if mark != noted.mark} if self._marks else set()


def _mark() -> int:
    noted = reads.noting()
    return _LEFT if noted is None else noted.mark


def matters(others: Iterable[str], statement: str, said: catalog.Catalog) -> bool:
    """Can what others set be seen by this SELECT? A setting of the application's own (app.tenant) only by policies, views,
    functions, and by name."""
    if any("." not in name for name in others):
        return True
    return is_show(statement) or "current_setting" in statement.lower() or bool(sql.functions(statement)) \
        or not all(said.is_plain(name) for name in sql.names_in(statement) if name in said.relations)


def may_set(connection: Any, statement: str) -> bool:
    """Does a statement that is no SET change the session all the same?"""
    if connection.vendor != "postgresql":
        return False
    if sql.source_sets(statement):
        return True
    text = sql.without_comments(statement).lstrip(" \t\r\n(")
    return text.upper().startswith(_CALLING) and calls_setter(connection, sql.functions(text))


def calls_setter(connection: Any, functions: Iterable[str]) -> bool:
    names = set(functions)
    if not names or "set_config" in names:
        return bool(names)
    said = catalog.of(connection)
    return not said.complete or bool(names & said.setters)


def is_show(statement: str) -> bool:
    return statement.lstrip()[:4].upper() == "SHOW"


def is_discard(statement: str) -> bool:
    return re.fullmatch(r"\s*DISCARD\s+ALL\s*;?\s*", statement, re.I) is not None
