# SPDX-License-Identifier: Apache-2.0
"""How far a write has to reach before COMMIT, or the call, returns: ETAGD["REACH"], or what the code says of a block.

    host         no front end of this host answers from older data
    log          ... and the event is in the log that all hosts read, on PostgreSQL with the data (outbox.py)
    everywhere   ... and no front end of any host answers from older data

A transaction reaches as far as the widest of its writes. What is committed stays so: that it could not be proved in time is an
error in the log, and NotReached at the end of the block that asked for it, after the functions of on_commit().
"""
from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import Iterator, List, Optional

from ..conf import conf, log

REACHES = ("host", "", "log", "everywhere")  # narrow to wide; "": as the daemon is configured


class NotReached(Exception):
    """Committed, but it was not proved in time that it reached as far as asked: other hosts may answer old versions yet. The event is
    not lost; they follow."""


class _Asked:
    """One block."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.unproved: List[str] = []


_asked: "ContextVar[Optional[_Asked]]" = ContextVar("etagd_reach", default=None)


def checked(name: Optional[str]) -> str:
    """As the setting may be written, None too."""
    made = name or ""
    if made not in REACHES:
        raise ValueError(f"etagd: the reach is {name!r}; allowed are host, log, everywhere")
    return made


@contextmanager
def reach(name: str) -> Iterator[None]:
    """What is written in this block, or by this function (@reach("everywhere")), reaches so far. A transaction that is open around the
    block reaches so far with its own COMMIT, and only the log then says what was not proved."""
    asked = _Asked(checked(name))
    token = _asked.set(asked)
    try:
        yield
    finally:
        _asked.reset(token)
    if asked.unproved:
        raise NotReached(f"etagd: committed, but not proved to have reached {asked.name}: " + "; ".join(asked.unproved))


def current() -> str:
    asked = _asked.get()
    return checked(conf.REACH) if asked is None else asked.name


def wider(one: Optional[str], other: str) -> str:
    return other if one is None or REACHES.index(other) > REACHES.index(one) else one


def unproved(name: str, why: str) -> None:
    """Of a write that is committed."""
    log.error("etagd: a change is committed, but it was not proved that it reached %s; other hosts follow later: %s",
              name or "as far as the daemon's relay requires", why)
    asked = _asked.get()
    if asked is not None:
        asked.unproved.append(why)
