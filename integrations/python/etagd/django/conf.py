# SPDX-License-Identifier: Apache-2.0
"""The setting ETAGD, a dict, with its defaults; the one Client of the process; the release."""
from __future__ import annotations

import logging
import threading
from fnmatch import fnmatchcase
from typing import Any, Optional

from django.conf import settings
from django.core.signals import setting_changed

import etagd

log = logging.getLogger("etagd.django")

DEFAULTS = {
    "SOCKET": None,  # None: $ETAGD_SOCKET, else libetag's default
    "TIMEOUT_MS": 0,  # longest wait of a write for etagd; 0: libetag's default
    "SHADOW": False,  # True: render all the same, and count what would have been answered, and whether it was right
    "GUARDS": True,  # False: invalidate after COMMIT only; a process that dies in between loses it
    "WITHOUT_DAEMON": "refuse",  # a write that neither daemon nor spool can be told of: "refuse" it, or "commit" it untold
    "HOLD_MS": 0,  # after a write its targets stay unknown so long: for reads from replicas that lag
    "PREFIX": "",  # before every surrogate key: for sites that share a daemon
    "RELEASE": None,  # what else makes bodies differ; None: a digest of sources, packages, static files and settings
    "VARY": ("Accept", "Accept-Language"),  # request fields that select the representation
    "LAST_MODIFIED_IS_STRONG": False,  # True: no two versions of a page share the second of its Last-Modified; else it alone is no 304
    "MAX_AGE_S": 0,  # time to live of entries; 0: until they are invalidated
    "CACHE_CONTROL": "max-age=60, must-revalidate",  # of 200 and 304 to GET and HEAD; None: says nothing
    "CACHE_CONTROL_UNSAFE": "no-cache, no-store, must-revalidate",  # of every answer to POST, PUT, PATCH, DELETE
    "BACKGROUND_THREADS": (),  # names (with *) of threads whose SQL is for no request
    "TRUST_MEMORY": (),  # names (with *) of functions with lru_cache() whose SQL never changes what they give
    "DEBUG_HEADER": None,  # send X-Etag-Cache; None: as settings.DEBUG
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


def matches(setting: str, name: str) -> bool:
    """Is the name one of those that a setting allows? A text alone is one pattern, not its letters, of which one may be "*"."""
    patterns = getattr(conf, setting)
    return any(fnmatchcase(name, pattern) for pattern in ((patterns,) if isinstance(patterns, str) else patterns))


_lock = threading.Lock()
_client: Optional[etagd.Client] = None
_unshadowed: Optional[etagd.Client] = None
_release: Optional[str] = None


def client() -> etagd.Client:
    """The Client of this process; of all its threads. Made at the first call, so that a preloading server forks without one."""
    global _client
    if _client is None:
        with _lock:
            if _client is None:
                _client = etagd.Client(conf.SOCKET, timeout_ms=conf.TIMEOUT_MS, shadow=bool(conf.SHADOW))
    return _client


def unshadowed() -> etagd.Client:
    """For what is asked for the process itself: in shadow mode another one."""
    global _unshadowed
    if not conf.SHADOW:
        return client()
    if _unshadowed is None:
        with _lock:
            if _unshadowed is None:
                _unshadowed = etagd.Client(conf.SOCKET, timeout_ms=conf.TIMEOUT_MS)
    return _unshadowed


# ---- Release ----


def release() -> str:
    """A deployment renders other bodies from the same rows, so it must not find the entries of the one before it. Made when the
    process begins: later, the files may be those of the next one."""
    global _release
    if _release is None:
        from .deployment import digest

        _release = str(conf.RELEASE) if conf.RELEASE is not None else digest()
    return _release


def _changed(*, setting: str, **_: Any) -> None:
    global _client, _unshadowed, _release
    if setting == "ETAGD":
        conf._cache.clear()
        _client = _unshadowed = _release = None


setting_changed.connect(_changed, dispatch_uid="etagd")
