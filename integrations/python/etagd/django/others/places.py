# SPDX-License-Identifier: Apache-2.0
"""Which database does an alias mean? connections.databases, or settings_dict of a connection, may be changed at run time: a tenant
that moves to another server. No statement shows that, and everything that was read by this alias is old at once.

The process tells "everything" when it is done: by connections.databases[alias] = ..., at once; within settings that are there, at the
begin of a request of the thread that closed its connection. What a thread reads by a connection that is still to the former place is not stored.
"""
from __future__ import annotations

import threading
from typing import Any, Dict, Tuple

from ..conf import log

Place = Tuple[Any, ...]

_WHERE = ("ENGINE", "HOST", "PORT", "NAME", "USER")
_latest: Dict[str, Place] = {}
_lock = threading.Lock()


def of(said: Dict[str, Any]) -> Place:
    """said: settings of a database."""
    options = said.get("OPTIONS") or {}
    made: Place = tuple([str(said.get(name) or "") for name in _WHERE])
    if options:  # a search path, a service
        made += tuple(sorted((name, value) for name, value in options.items() if isinstance(value, str)))
    return made


def is_former(alias: str, place: Any) -> bool:
    """Is a connection, which was made to this place, to another one than its alias means now?"""
    return place is not None and _latest.get(alias, place) != place


def means(alias: str, place: Place, tell: Any) -> None:
    """tell(): that everything may be another."""
    if alias.startswith("__"):  # Django's own, to make databases by
        return
    with _lock:
        before, _latest[alias] = _latest.get(alias), place
    if before is not None and before != place:
        log.warning("etagd: the alias %r means another database now, so everything that was read by it before is stale. Where that is "
                    "so with every request, give each database an alias of its own", alias)
        tell()


def look(connection: Any, tell: Any) -> None:
    """At one that is closed: the next time it is made it may be to another place."""
    state = getattr(connection, "_etagd", None)
    if connection.connection is None and state is not None and state.place is not None:
        place = of(connection.settings_dict)
        if place != state.place:
            state.place = place
            means(connection.alias, place, tell)


class Databases(Dict[str, Any]):
    """connections.databases, which says when an alias begins to mean another database."""

    tell: Any = None

    def __setitem__(self, alias: str, said: Any) -> None:
        super().__setitem__(alias, said)
        if alias in _latest:
            means(alias, of(said), self.tell)

    def update(self, *args: Any, **kwargs: Any) -> None:
        for alias, said in dict(*args, **kwargs).items():
            self[alias] = said


def watch(connections: Any, tell: Any) -> None:
    databases = Databases(connections.databases)
    databases.tell = tell
    connections.settings = databases
