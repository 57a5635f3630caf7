# SPDX-License-Identifier: Apache-2.0
"""Many hosts: the event as a row of the outbox, in the transaction that makes the change (docs/relay-postgresql.md).

The row is written last before COMMIT, on the same connection, with all names that the transaction collected, so it is committed
with the data or not at all, whatever savepoints did before. A process that dies after COMMIT has informed every host. After COMMIT the daemon is
given the position, which makes this host's relay read it at once and wake the others.

Where the database of an alias has no schema etagd, on SQLite, and where a statement commits by itself, the daemon's own relay puts
the event into the log after COMMIT: a process that dies between the two is covered by its guard, which ends by its time.
"""
from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from typing import Any, Dict, List, Optional, Set, Tuple

from django.db import DatabaseError

from .. import drivers
from ..conf import conf, log
from . import reach
from .guards import GuardFailed, Sent, _targets

READY, NO_SCHEMA, NO_RIGHT, NOT_OURS = range(4)
AGAIN_S = 60.0  # then a connection asks again whether there is a schema now, or a right

# Arguments by their names: a schema of another release may have more of them, or fewer.
_PROBE = """
    SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE'), pg_catalog.count(p.oid), pg_catalog.bool_and(pg_catalog.has_function_privilege(p.oid, 'EXECUTE')),
        pg_catalog.string_agg(pg_catalog.array_to_string(p.proargnames, ' '), ' ')
    FROM pg_catalog.pg_namespace n LEFT JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid
        AND (p.proname = 'wait' OR (p.proname = 'invalidate' AND 'ask' = ANY (p.proargnames)))
    WHERE n.nspname = 'etagd' GROUP BY n.oid"""
# Who may not write has written nothing: invalidate() was called for what is in no database.
_PUT = """
    SELECT CASE WHEN pg_catalog.current_setting('transaction_read_only') = 'on' THEN '0' ELSE etagd.invalidate({}, ask => %s)::text END"""
_WAIT = "SELECT etagd.wait(%s::xid8)"
_GRANT = "GRANT etagd_writer TO the site's role, as etag-relay setup --writer ROLE does"


def ask(state: Any, text: str, *values: Any) -> Any:
    """One row, by the driver: not seen by execute(), nor counted by assertNumQueries()."""
    with state.connection.wrap_database_errors, closing(state.connection.connection.cursor()) as cursor:
        state.inside(cursor.execute, text, values or None)
        return cursor.fetchone()


def probe(state: Any) -> Tuple[int, Set[str]]:
    """What the database has for writers, and the arguments that it takes."""
    row = ask(state, _PROBE)
    if row is None:
        return NO_SCHEMA, set()
    usable, functions, may, arguments = row
    if functions < 2:
        return NOT_OURS, set()
    return READY if usable and may else NO_RIGHT, set(arguments.split())


def _is_ready(state: Any) -> bool:
    known: Any = state.outbox
    if known is None or (known[0] != READY and time.monotonic() - known[2] > AGAIN_S):
        state.outbox = known = (*probe(state), time.monotonic())
        if known[0] == NO_RIGHT:
            log.error("etagd: the database of %r has the schema etagd, and this role may not use it; events are sent after COMMIT: %s",
                      state.connection.alias, _GRANT)
    return known[0] == READY


def _is_open(state: Any) -> bool:
    """Is there a transaction, or would a statement begin one, that the next COMMIT ends?"""
    driver = state.connection.connection
    if state.connection.vendor != "postgresql" or driver is None:
        return False
    return drivers.has_open_transaction("postgresql", driver) or not (driver.autocommit or drivers.in_transaction("postgresql", driver))


def sent(state: Any, names: Set[str]) -> Sent:
    """Of what is committed now: its position, if it has one. Raises GuardFailed: then it must not be committed."""
    asked = reach.wider(state.reach, reach.current())
    if not names or asked == "host" or not _is_open(state):
        return Sent(asked)
    try:
        if not _is_ready(state):
            return Sent(asked)
        text, values = _call(_targets(names), state.outbox[1])
        row = ask(state, _PUT.format(text), *values, asked == "everywhere")
    except DatabaseError as error:
        state.outbox = None
        why = str(error).split("\n", 1)[0]
        raise GuardFailed(f"etagd: the event could not be written beside this change, which is not committed: {why}. "
                          f"Where a right is missing: {_GRANT}") from error
    position = int(row[0])
    return Sent(asked, position, partial(_wait, state, position))


def _call(targets: Dict[str, Any], known: Set[str]) -> Tuple[str, List[Any]]:
    """The arguments of etagd.invalidate() and their values. What the schema has no argument for is everything."""
    named = {name: value for name, value in targets.items() if value and name != "hold_ms"}
    if not set(named) <= known:
        named = {"everything": True}
    named["hold_ms"] = targets["hold_ms"]
    return ", ".join(f"{name} => %s{'::text[]' if isinstance(value, list) else ''}" for name, value in named.items()), list(named.values())


def _wait(state: Any, position: int) -> Optional[str]:
    """After COMMIT, where the daemon did not prove "everywhere": the database can, also without a daemon here. None: it did."""
    driver = state.connection.connection
    try:
        if not driver.autocommit:  # a new transaction
            with state.connection.wrap_database_errors, closing(driver.cursor()) as cursor:
                state.inside(cursor.execute, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        ask(state, _WAIT, str(position))
        return None
    except Exception as error:  # pylint: disable=broad-except
        return str(error) or type(error).__name__
    finally:
        _leave(state)


def _leave(state: Any) -> None:
    """Outside of autocommit the question has begun a transaction."""
    driver = state.connection.connection
    try:
        if driver is not None and not driver.autocommit:
            state.inside(driver.commit)
    except Exception:  # pylint: disable=broad-except
        log.warning("etagd: a connection is lost after its COMMIT")
