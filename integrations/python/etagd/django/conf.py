# SPDX-License-Identifier: Apache-2.0
"""The setting ETAGD, a dict, with its defaults; the one Client of the process."""
from __future__ import annotations

import logging
import threading
from typing import Any, Optional

from django.conf import settings
from django.core.signals import setting_changed

import etagd

log = logging.getLogger("etagd.django")

DEFAULTS = {
    "SOCKET": None,  # None: $ETAGD_SOCKET, else libetag's default
    "TIMEOUT_MS": 0,  # 0: libetag's default
    "GUARDS": True,  # False: invalidate after COMMIT only; a process that dies in between loses it
    "WITHOUT_DAEMON": "commit",  # where neither daemon nor spool can be told of a write: "commit", and tell later; or "refuse"
    "IGNORE": ("sessions.session", "admin.logentry"),  # writes to these models say nothing; who reads them is not cached
    "PREFIX": "",  # before every surrogate key: for sites that share a daemon
}


class _Conf:
    def __init__(self) -> None:
        self._cache: dict = {}

    def __getattr__(self, name: str) -> Any:
        try:
            return self._cache[name]
        except KeyError:
            pass
        value = getattr(settings, "ETAGD", {}).get(name, DEFAULTS[name])
        self._cache[name] = value
        return value


conf = _Conf()
_lock = threading.Lock()
_client: Optional[etagd.Client] = None


def client() -> etagd.Client:
    """The Client of this process; of all its threads. Made at the first call, so that a preloading server forks without one."""
    global _client
    if _client is None:
        with _lock:
            if _client is None:
                _client = etagd.Client(conf.SOCKET, timeout_ms=conf.TIMEOUT_MS)
    return _client


def _changed(*, setting: str, **_: Any) -> None:
    global _client
    if setting == "ETAGD":
        conf._cache.clear()
        _client = None


setting_changed.connect(_changed, dispatch_uid="etagd")
