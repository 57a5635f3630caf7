# SPDX-License-Identifier: Apache-2.0
"""What is put into the process at its first request: commands and task queues never pay for it. Where a Django or Python that
nobody knows here is made differently, nothing is stored."""
from __future__ import annotations

import threading

from . import cursors, kept, outside, reads, threads
from .conf import log, release
from .sources import chance, requested

_lock = threading.Lock()
_installed = False
_watched = True


def install() -> bool:
    """Is everything in its place?"""
    global _installed, _watched
    if _installed:
        with reads.aside():
            release()  # of a process that was forked
    else:
        with _lock:
            if not _installed:
                try:
                    release()  # the files that it reads are no response's
                    for module in (threads, cursors, kept, outside, requested, chance):
                        module.install()
                except Exception:  # pylint: disable=broad-except
                    log.exception("etagd: what this process reads cannot be watched, so nothing is stored")
                    _watched = False
                _installed = True
    return _watched
