# SPDX-License-Identifier: Apache-2.0
"""Exceptions that mirror etag_status (etag.h): one class a status that is not OK."""
from __future__ import annotations

from typing import Dict, Type

from ._etag import ffi, lib


class EtagError(Exception):
    """A call of libetag that did not return ETAG_OK. status: the number; reason: of a refused fill, a word like "no_store"."""

    status = -1

    def __init__(self, message: str = "", reason: str = "none") -> None:
        super().__init__(message or ffi.string(lib.py_status_text(self.status)).decode())
        self.reason = reason


class Again(EtagError):
    """The socket is full: a fill was dropped."""

    status = lib.ETAG_AGAIN


class Pending(EtagError):
    """Recorded, effect not yet proven: until then old 304s are possible."""

    status = lib.ETAG_PENDING


class Refused(EtagError):
    """A fill that may not be stored, or came too late: see reason."""

    status = lib.ETAG_REFUSED


class Denied(EtagError):
    """This process has no role for that."""

    status = lib.ETAG_DENIED


class Invalid(EtagError, ValueError):
    """A bad argument."""

    status = lib.ETAG_INVALID


class Unavailable(EtagError):
    """No daemon answers; nothing was sent."""

    status = lib.ETAG_UNAVAILABLE


class Timeout(EtagError):
    """No answer in time; it may or may not have happened."""

    status = lib.ETAG_TIMEOUT


class VersionMismatch(EtagError):
    """Library and daemon do not speak the same protocol."""

    status = lib.ETAG_VERSION


class ProtocolBroken(EtagError):
    """The daemon broke the protocol; the connection was closed."""

    status = lib.ETAG_PROTOCOL


class SystemFailure(EtagError):
    """The operating system refused."""

    status = lib.ETAG_SYSTEM


class NotFound(EtagError):
    """No such entry."""

    status = lib.ETAG_NOT_FOUND


class Failed(EtagError):
    """The daemon could not do it."""

    status = lib.ETAG_FAILED


BY_STATUS: Dict[int, Type[EtagError]] = {cls.status: cls for cls in EtagError.__subclasses__()}


def raise_for(status: int, message: str = "", reason: str = "none") -> None:
    """Returns for ETAG_OK, else raises the status' exception."""
    if status != lib.ETAG_OK:
        raise BY_STATUS.get(status, EtagError)(message, reason)
