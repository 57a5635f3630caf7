# SPDX-License-Identifier: Apache-2.0
"""Telling etagd of a change: a guard that begins and is confirmed before the COMMIT, and ends after it."""
from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Optional, Set

from django.db import DataError, IntegrityError, NotSupportedError, ProgrammingError
from django.db.utils import OperationalError

import etagd

from ..conf import client, conf, log
from ..surrogates import EVERYTHING, FAMILY
from . import reach

NAMES_MAX = 1000  # of one transaction; more: everything becomes stale
COMMIT_MS_MIN = 100  # a guard with less time left is no guard
LONG_MS = 86400000  # for a statement that may take any time
_ROLLED_BACK = (IntegrityError, DataError, ProgrammingError, NotSupportedError)  # of a COMMIT: surely not done


class GuardFailed(OperationalError):
    """etagd could not be informed of a change before its COMMIT, which therefore did not happen."""


def _targets(names: Iterable[str]) -> Dict[str, Any]:
    names = sorted(names)
    if EVERYTHING in names or len(names) > NAMES_MAX:
        return {"everything": True, "hold_ms": conf.HOLD_MS}
    return {"surrogates": [name for name in names if not name.startswith(FAMILY)],
            "families": [name[len(FAMILY):] for name in names if name.startswith(FAMILY)], "hold_ms": conf.HOLD_MS}


@dataclass
class Sent:
    """How far a change is to reach, and what of it was done before COMMIT."""

    asked: str  # reach.REACHES
    position: int = 0  # of the row that its own transaction wrote; 0: the daemon's relay writes one
    wait: Optional[Callable[[], Optional[str]]] = None  # "everywhere" as the database proves it: None, or why it did not

    @classmethod
    def now(cls) -> "Sent":
        return cls(reach.current())

    def how(self) -> Dict[str, Any]:
        """What the daemon is asked for. With the row COMMIT itself is the proof of "log": the daemon has only to prove this host, and
        pokes its relay."""
        by_commit = self.position != 0 and self.asked != "everywhere"
        return {"reach": "host" if by_commit else self.asked, "position": self.position}

    def settle(self, error: etagd.EtagError) -> None:
        """Committed, and the daemon did not prove what it was asked for."""
        if self.asked in ("host", "") or (self.asked == "log" and self.position):
            return
        why = str(error)
        if self.asked == "everywhere" and self.wait is not None:
            found = self.wait()
            if found is None:
                return
            why += f"; {found}"
        reach.unproved(self.asked, why)


class _Untold:
    """That something was committed without an event: then one of everything is sent, before this process answers from the
    cache again."""

    def __init__(self) -> None:
        self._added = self._told = 0
        self._again = 0.0
        self._lock = threading.Lock()

    def add(self) -> None:
        with self._lock:
            self._added += 1

    def now(self) -> None:
        """Without waiting: sent at once, or as soon as it can be."""
        self.add()
        self._again = 0.0
        self.tell()

    def tell(self) -> bool:
        """True if nothing is left untold. Tries once a second."""
        if self._added == self._told:
            return True
        with self._lock:
            if time.monotonic() < self._again:
                return False
            self._again, added = time.monotonic() + 1, self._added
        try:
            client().invalidate(everything=True)
        except etagd.EtagError:
            return False
        with self._lock:
            self._told = max(self._told, added)
            return self._told == self._added


untold = _Untold()


def begin(names: Set[str], max_ms: int = 0, sent: Optional[Sent] = None) -> Optional[etagd.Guard]:
    """A guard that was just confirmed, with time left. None: there is neither daemon nor spool, and the settings say to go on."""
    guard = None
    try:
        guard = client().guard(max_ms=max_ms, **_targets(names), **(sent or Sent.now()).how())
        for _ in range(2):
            guard.confirm()
            if guard.time_left_ms >= COMMIT_MS_MIN:
                return guard
    except etagd.EtagError as error:
        _abort(guard)
        if isinstance(error, etagd.Unavailable) and conf.WITHOUT_DAEMON == "commit":
            return None
        hint = ' (ETAGD["WITHOUT_DAEMON"] = "commit" goes on untold)' if isinstance(error, etagd.Unavailable) else ""
        raise GuardFailed(f"etagd: no guard for this change, which is not committed: {error}{hint}") from error
    _abort(guard)
    raise GuardFailed("etagd: a guard was over before COMMIT could begin (guard-linger-ms is too short)")


def _abort(guard: Optional[etagd.Guard]) -> None:
    if guard is not None and guard.is_open:
        try:
            guard.abort()
        except etagd.EtagError as error:
            log.warning("etagd: a guard's abort could not be sent; it lingers: %s", error)


def end(guard: etagd.Guard, sent: Optional[Sent] = None) -> None:
    sent = sent or Sent.now()
    try:
        guard.commit()
    except etagd.Pending as error:
        log.error("etagd: a guard's end was sent, and not proved in time: %s", error)
        sent.settle(error)
    except etagd.EtagError as error:
        log.error("etagd: a guard's end could not be sent; it lingers, so nothing old is answered until it ends: %s", error)
        sent.settle(error)


def after(names: Set[str], sent: Optional[Sent] = None) -> None:
    """After a COMMIT without a guard."""
    sent = sent or Sent.now()
    try:
        client().invalidate(**_targets(names), **sent.how())
    except etagd.EtagError as error:
        log.error("etagd: a change is committed and its event could not be sent; old answers are possible until it is: %s", error)
        untold.add()
        sent.settle(error)


def guarded(names: Set[str], work: Callable[[], Any], bound: Optional[Callable[[int], Callable[[], None]]] = None,
            max_ms: int = 0, whole: bool = True, sent: Optional[Sent] = None) -> Any:
    """Runs work(), which makes the change of these names visible to others. bound(ms) lets the database give COMMIT up after
    that time, and returns what undoes that. whole: work is one COMMIT. Else it may be several, of which some were done when the
    next one fails. sent: how far it is to reach."""
    sent = sent or Sent.now()
    guard = begin(names, max_ms, sent) if conf.GUARDS else None
    try:
        undo = bound(guard.time_left_ms) if guard is not None and bound is not None else None
    except BaseException:
        _abort(guard)
        raise
    try:
        result = work()
    except _ROLLED_BACK:
        if whole:
            _abort(guard)
        elif guard is not None:
            end(guard, sent)
        else:
            after(names, sent)
        raise
    except BaseException:
        if guard is not None:
            guard.forget()  # it may have happened: the guard lingers, and then counts as committed
        else:
            after(names, Sent.now())  # ... or not: the position says nothing
        raise
    finally:
        if undo is not None:
            undo()
    if guard is None:
        after(names, sent)
        return result
    if guard.time_left_ms == 0:
        log.error("etagd: COMMIT took longer than its guard lasts if the daemon restarts meanwhile: raise guard-linger-ms")
    end(guard, sent)
    return result
