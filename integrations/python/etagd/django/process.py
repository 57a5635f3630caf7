# SPDX-License-Identifier: Apache-2.0
"""What is put into the process at its first request: commands and task queues never pay for it."""
from __future__ import annotations

import threading

from . import kept, outside, threads
from .conf import release

_lock = threading.Lock()
_installed = False


def install() -> None:
    global _installed
    if _installed:
        return
    with _lock:
        if not _installed:
            release()  # the files that it reads are no response's
            threads.install()
            kept.install()
            outside.install()
            _installed = True
