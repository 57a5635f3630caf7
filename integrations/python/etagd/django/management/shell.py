# SPDX-License-Identifier: Apache-2.0
"""manage.py dbshell: a program that writes, and that Django starts itself. What is typed into it is not seen, so nothing is answered from the
cache while it is open, and everything is stale after it."""
from __future__ import annotations

from functools import wraps
from subprocess import CalledProcessError
from typing import Any, Optional

from django.db.backends.base.client import BaseDatabaseClient

from ..changes.guards import LONG_MS, guarded
from ..surrogates import EVERYTHING


def register() -> None:
    runshell = BaseDatabaseClient.runshell
    if hasattr(runshell, "_etagd"):
        return

    @wraps(runshell)
    def guarded_shell(self: Any, parameters: Any) -> None:
        def run() -> Optional[CalledProcessError]:
            try:
                runshell(self, parameters)
            except CalledProcessError as error:  # of one statement, after others that were done
                return error
            return None

        failed = guarded({EVERYTHING}, run, max_ms=LONG_MS, whole=False)
        if failed is not None:
            raise failed

    guarded_shell._etagd = True  # type: ignore[attr-defined]
    BaseDatabaseClient.runshell = guarded_shell  # type: ignore[method-assign]
