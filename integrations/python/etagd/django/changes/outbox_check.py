# SPDX-License-Identifier: Apache-2.0
"""System checks of many hosts: what is missing for ETAGD["REACH"] is said at the start, where it is said in time."""
from __future__ import annotations

from typing import Any, List

from django.core import checks
from django.db import DatabaseError, connections
from django.db.utils import ConnectionDoesNotExist

import etagd

from ..conf import client, conf
from . import outbox, reach

_SETUP = "As a role that may make schemas: etag-relay --connection ... setup --writer ROLE"


def check_reach(given: Any) -> List[checks.CheckMessage]:
    """Of the setting alone."""
    try:
        reach.checked(given.get("REACH"))
    except ValueError:
        return [checks.Error(f'ETAGD["REACH"] is {given.get("REACH")!r}: it is "host", "log", "everywhere" or None', id="etagd.E007")]
    return []


def is_beyond() -> bool:
    try:
        return reach.checked(conf.REACH) in ("log", "everywhere")
    except ValueError:
        return False


def check_site(app_configs: Any, **_: Any) -> List[checks.CheckMessage]:
    """At every start, where the site promises more than this host: the databases, and the daemon."""
    return [] if not is_beyond() else check_databases(app_configs, databases=list(connections)) + _check_daemon()


def check_databases(app_configs: Any, databases: Any = None, **_: Any) -> List[checks.CheckMessage]:
    """manage.py check --database ALIAS, migrate."""
    found: List[checks.CheckMessage] = []
    without: List[str] = []
    ready = False
    for alias in databases or ():
        try:
            connection = connections[alias]
            if connection.vendor != "postgresql":
                without.append(alias)
                continue
            kind = outbox.probe(_state(connection))[0]
        except (DatabaseError, ConnectionDoesNotExist) as error:
            found.append(checks.Warning(f"DATABASES[{alias!r}] could not be asked for the schema etagd: {error}", id="etagd.W008"))
            continue
        if kind == outbox.NO_RIGHT:
            found.append(checks.Error(f"DATABASES[{alias!r}] has the schema etagd, and the site's role may not write events there",
                                      id="etagd.E009", hint=f"{outbox._GRANT}."))
        elif kind == outbox.NOT_OURS and is_beyond():
            found.append(checks.Error(f"DATABASES[{alias!r}] has a schema etagd which is not etag-relay's, or of another release",
                                      id="etagd.E009", hint="etag-relay setup says what is wrong with it."))
        elif kind == outbox.NO_SCHEMA:
            without.append(alias)
        ready = ready or kind == outbox.READY
    return found + _without(without, ready or bool(found))


def _state(connection: Any) -> Any:
    from ..writes import state_of

    connection.ensure_connection()
    return state_of(connection)


def _without(aliases: List[str], others: bool) -> List[checks.CheckMessage]:
    if not aliases or not is_beyond():
        return []
    names = ", ".join(repr(alias) for alias in aliases)
    if not others and any(connections[alias].vendor == "postgresql" for alias in aliases):
        return [checks.Error(f'ETAGD["REACH"] is {conf.REACH!r}, and no database has the schema etagd ({names})', id="etagd.E008",
                             hint=f'{_SETUP}. Or let the daemon\'s relay be all: "REACH": None.')]
    return [checks.Warning(f"events of {names} are not in its own transactions: it has no schema etagd. A process that dies between COMMIT "
                           "and the daemon is covered by its guard, guard-linger-ms later", id="etagd.W009", hint=_SETUP + ".")]


def _check_daemon() -> List[checks.CheckMessage]:
    """A name on which nothing depends, as far as the site's writes: does the daemon refuse that?"""
    try:
        client().invalidate(surrogates=["~etagd.check"], reach=conf.REACH)
    except etagd.Invalid as error:
        return [checks.Error(f'ETAGD["REACH"] is {conf.REACH!r}: {error}', id="etagd.E010",
                             hint="In etagd.yaml: relay: required, and under roles: relay: [user:etag-relay]; start etag-relay.")]
    except etagd.EtagError as error:
        return [checks.Warning(f'ETAGD["REACH"] is {conf.REACH!r}, and it is not proved now that a write reaches so far: {error}',
                               id="etagd.W010", hint="etag-relay status, etagctl status.")]
    return []
