# SPDX-License-Identifier: Apache-2.0
"""What became of watched tables: manage.py check --deploy says it, and migrate, which may have changed them."""
from __future__ import annotations

import sys
from typing import Any, Iterator, List

from django.apps import apps
from django.core import checks
from django.db import DatabaseError, connections
from django.db.models.signals import post_migrate

from . import watched

_MEANING = {
    "broken": ("etagd.W011", "writes to a watched table may go unseen, so each poll raises everything"),
    "coarse": ("etagd.W012", "each write to a watched table touches all its rows"),
    "differs": ("etagd.W013", "writes to a watched table do not reach all pages that depend on it"),
}


def check_watched(app_configs: Any, databases: Any = None, **_: Any) -> List[checks.CheckMessage]:
    found: List[checks.CheckMessage] = []
    for alias in databases or list(connections):
        try:
            found += _of(connections[alias])
        except DatabaseError as error:
            found.append(checks.Warning(f"DATABASES[{alias!r}] could not be asked for watched tables: {error}", id="etagd.W008"))
    return found


def _of(connection: Any) -> Iterator[checks.CheckMessage]:
    for state, what, how in watched.faults(connection) if connection.vendor == "postgresql" else ():
        number, meaning = _MEANING[state]
        yield checks.Warning(f"{meaning}: {what}", id=number, hint=how)


def _migrated(app_config: Any, using: str, verbosity: int = 1, **kwargs: Any) -> None:
    """The signal comes for each application; by the last one all is done. flush sends it too, without a plan."""
    last = [config for config in apps.get_app_configs() if config.models_module is not None][-1]
    if app_config.label != last.label or "plan" not in kwargs or verbosity < 1:
        return
    output = kwargs.get("stdout") or sys.stdout
    for message in check_watched(None, databases=[using]):
        output.write(f"etagd: {message.msg} ({message.id}): {message.hint}\n")


def register() -> None:
    checks.register(check_watched, "etagd", deploy=True)
    post_migrate.connect(_migrated, dispatch_uid="etagd")
