# SPDX-License-Identifier: Apache-2.0
"""with Switched(variable): within it the context variable is true. Requests pass several of these on a hit, and a generator's context
manager takes four times the instructions."""
from __future__ import annotations

import contextvars
from contextlib import ContextDecorator
from typing import Any


class Switched(ContextDecorator):
    def __init__(self, variable: "contextvars.ContextVar[bool]") -> None:
        self._variable = variable
        self._before: Any = None

    def _recreate_cm(self) -> "Switched":  # of a function that it decorates, which may run in several threads
        return Switched(self._variable)

    def __enter__(self) -> None:
        self._before = self._variable.set(True)

    def __exit__(self, *_: Any) -> None:
        self._variable.reset(self._before)
