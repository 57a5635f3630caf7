# SPDX-License-Identifier: Apache-2.0
"""System checks: a wrong setting is an error at start-up, not a leak or a silence later."""
from typing import Any, List

from django.conf import settings
from django.core import checks

from .conf import DEFAULTS


def check_settings(app_configs: Any, **_: Any) -> List[checks.CheckMessage]:
    given = getattr(settings, "ETAGD", {})
    if not isinstance(given, dict):
        return [checks.Error("ETAGD is not a dict", id="etagd.E002")]
    found = [checks.Error(f"ETAGD has no setting {name!r}", id="etagd.E002") for name in sorted(set(given) - set(DEFAULTS))]
    if given.get("WITHOUT_DAEMON", "refuse") not in ("commit", "refuse"):
        found.append(checks.Error('ETAGD["WITHOUT_DAEMON"] is neither "commit" nor "refuse"', id="etagd.E003"))
    return found


def register() -> None:
    checks.register(check_settings, "etagd")
