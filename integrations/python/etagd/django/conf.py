# SPDX-License-Identifier: Apache-2.0
"""The setting ETAGD, a dict, with its defaults; the one Client of the process; the release."""
from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Optional, Tuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

import etagd

log = logging.getLogger("etagd.django")

DEFAULTS = {
    "SOCKET": None,  # None: $ETAGD_SOCKET, else libetag's default
    "TIMEOUT_MS": 0,  # longest wait of a write for etagd; 0: libetag's default
    "SHADOW": False,  # True: render all the same, and count what would have been answered, and whether it was right
    "GUARDS": True,  # False: invalidate after COMMIT only; a process that dies in between loses it
    "WITHOUT_DAEMON": "refuse",  # a write whose event neither daemon nor spool takes: "refuse" it, or "commit" it without
    "REACH": None,  # of a write: "host", "log" or "everywhere"; None: as the daemon is configured
    "HOLD_MS": 0,  # after a write its targets stay unknown for that time: for reads from replicas that lag
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
    """A setting, of ETAGD or Django's own, that was asked for is a plain attribute until settings change: to ask Django for one runs
    Python."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(settings, "ETAGD", {}).get(name, DEFAULTS[name]) if name in DEFAULTS else getattr(settings, name)
        self.__dict__[name] = value
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

_base: Optional[str] = None  # of the process that this one was forked from
_taken_s = 0.0


def release() -> str:
    """A deployment renders other bodies from the same rows, so it must not find the entries of the one before it. Made when the
    process begins: later, the files may be those of the next one. A forked process has the code of the one that it was forked from, and
    reads templates and translations itself, so both count."""
    global _release, _taken_s
    if _release is None:
        from .deployment import digest

        _taken_s = time.time()
        if conf.RELEASE is not None:
            _release = str(conf.RELEASE)
        else:
            made = digest()
            _release = made if _base in (None, made) else hashlib.sha256(f"{_base} {made}".encode()).hexdigest()[:16]
    return _release


def has_release() -> bool:
    """Was it made?"""
    return _release is not None


def release_taken_s() -> float:
    """When that was: a file that is newer is none of it."""
    release()
    return _taken_s


def _forked() -> None:
    """A server that loads the application before it forks. Taken at the first request, before which nothing is read."""
    global _base, _release
    if _release is not None and conf.RELEASE is None:
        _base, _release = _release, None


os.register_at_fork(after_in_child=_forked)


# ---- Secrets ----

_SECRETS = ("API", "TOKEN", "KEY", "SECRET", "PASS", "SIGNATURE")  # as Django's own debug pages
_secret_digest: Optional[Tuple[Any, str]] = None


@lru_cache(maxsize=512)
def is_secret(name: Any) -> bool:
    """Of a setting, or a field of requests."""
    return isinstance(name, str) and (name.upper() in ("COOKIE", "AUTHORIZATION", "PROXY-AUTHORIZATION")
                                      or any(word in name.upper() for word in _SECRETS))


def secret_key() -> Any:
    """"": a site that needs none has none."""
    try:
        return settings.SECRET_KEY
    except ImproperlyConfigured:
        return ""


def secret_digest() -> str:
    """Of SECRET_KEY, which is changed so that sessions, and links that are signed, are good no more: what they got must not be either.
    It costs a guess so much that it tells nothing of a key worth the name."""
    global _secret_digest
    secrets = (secret_key(), *getattr(settings, "SECRET_KEY_FALLBACKS", ()))
    if _secret_digest is None or _secret_digest[0] != secrets:
        text = b"\0".join(part if isinstance(part, bytes) else str(part).encode() for part in secrets)
        _secret_digest = (secrets, hashlib.pbkdf2_hmac("sha256", text, b"etagd.django", 20000).hex()[:8])
    return _secret_digest[1]


def _changed(*, setting: str, **_: Any) -> None:
    global _client, _unshadowed, _release
    vars(conf).clear()
    if setting == "ETAGD":
        _client = _unshadowed = _release = None


setting_changed.connect(_changed, dispatch_uid="etagd")
