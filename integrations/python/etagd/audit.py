# SPDX-License-Identifier: Apache-2.0
"""Audit hooks for a few events. CPython asks each hook of each event, and there are some fifty a request (each id(), each frame that is
looked at): to drop them costs a hook in Python more than the look-up does. So they are dropped in C."""
from __future__ import annotations

import sys
from typing import Any, Callable, Iterable, List, Tuple

from ._etag import ffi, lib

_hooks: List[Callable[..., Any]] = []  # there for good


def watch(hook: Callable[[str, Tuple[Any, ...]], Any], events: Iterable[str]) -> bool:
    """As sys.addaudithook(hook), of these events alone where that can be. hook: not of an interpreter that ends before its process.
    Returns whether it can be."""
    _hooks.append(hook)
    names = [name.encode() for name in events]
    made = lib.py_audit(ffi.cast("void *", id(hook)), b"\0".join(names) + b"\0", len(names))
    sys.audit("etagd.audit", id(hook))
    if made != ffi.NULL and lib.py_audit_is_armed(made):
        return True
    sys.addaudithook(hook)
    return False
