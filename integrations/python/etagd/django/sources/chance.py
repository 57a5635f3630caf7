# SPDX-License-Identifier: Apache-2.0
"""Chance in Python: random.choice() in a view, {{ posts|random }}, {% lorem %}, get_random_string(). An answer that was diced is another one
each time, without any write.

The module random is used by many who put nothing of it into a page (tracing, retries, salts), so the dice count where the site's own
code or a template throws them. Not seen: uuid4(), secrets.token_hex() and os.urandom(), which name requests more often than they
choose; "from random import random"; and an object of Random, as it may be seeded.
"""
from __future__ import annotations

import random
import sys
from functools import wraps
from typing import Any

from .. import reads
from . import callers

_BETWEEN = ("random", "secrets", "django.utils.crypto")  # they throw for whoever calls them
_TEMPLATES = ("django.template.", "django.utils.lorem_ipsum")


def _thrown() -> None:
    noted = reads.now()
    if noted is None or "chance" in noted.changing:
        return
    frame = callers.beyond(sys._getframe(2), _BETWEEN)
    if frame is None:
        return
    module = callers.module_of(frame)
    if module.startswith(_TEMPLATES) or callers.is_projects(module, frame.f_code.co_filename):
        noted.changing.add("chance")


def _noting(function: Any, of_class: bool) -> Any:
    @wraps(function)
    def noted(*args: Any) -> Any:
        if not of_class or args[0] is random._inst or isinstance(args[0], random.SystemRandom):  # type: ignore[attr-defined]
            _thrown()
        return function(*args)
    return noted


def install() -> None:
    for kind in (random.Random, random.SystemRandom):
        for name in ("random", "getrandbits"):
            setattr(kind, name, _noting(getattr(kind, name), True))
    for name in ("random", "getrandbits"):  # methods of an object that is no class's any more
        setattr(random, name, _noting(getattr(random, name), False))
