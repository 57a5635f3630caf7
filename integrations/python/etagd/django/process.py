# SPDX-License-Identifier: Apache-2.0
"""What is put into the process at its first request: commands and task queues never pay for it. Where a Django or Python that
is not known here is made differently, nothing is stored."""
from __future__ import annotations

import threading

from django.apps import apps

from . import conf, cursors, kept, outside, reads, threads
from .conf import log, release
from .others import handed
from .postgres import foreign
from .sources import chance, requested

_lock = threading.Lock()
_installed = False
_watched = True


def install() -> bool:
    """Is everything in its place?"""
    global _installed, _watched
    if _installed:
        if not conf.has_release():  # of a process that was forked
            with reads.aside():
                release()
    else:
        with _lock:
            if not _installed:
                try:
                    release()  # the files that it reads are no response's
                    for module in (threads, handed, cursors, kept, outside, foreign, requested, chance):
                        module.install()
                    if apps.is_installed("rest_framework"):
                        from . import rest

                        rest.install()
                except Exception:  # pylint: disable=broad-except
                    log.exception("etagd: what this process reads cannot be watched, so nothing is stored")
                    _watched = False
                _installed = True
    return _watched
