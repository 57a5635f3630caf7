# SPDX-License-Identifier: Apache-2.0
"""The values that calls take and return. All are plain Python: nothing points into libetag, any thread may hold them.

Text is str or bytes. Header values and names are Latin-1, as WSGI has them; what does not fit, and everything else, is UTF-8.
"""
from __future__ import annotations

import enum
import struct
from array import array
from dataclasses import dataclass
from itertools import repeat
from operator import length_hint
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from ._etag import ffi, lib

Text = Union[str, bytes]
Fields = Iterable[Tuple[Text, Optional[Text]]]


class Verdict(enum.IntEnum):
    """What to do with a request (etag_verdict)."""

    UNKNOWN = 0
    NOT_MODIFIED = 1
    PRECONDITION_FAILED = 2
    PROCEED = 3
    PRECONDITION_REQUIRED = 4

    @property
    def http_status(self) -> int:
        """304, 412, 428; 0 where the request goes on."""
        return _HTTP_STATUSES[self]


_HTTP_STATUSES = (0, 304, 412, 0, 428)


class Range(enum.IntEnum):
    """What to do with the request's Range field (etag_range)."""

    NONE = 0
    HONOR = 1
    IGNORE = 2


class Existence(enum.IntEnum):
    UNKNOWN = 0
    EXISTS = 1
    ABSENT = 2


class Token(NamedTuple):
    """A fill token: taken before data is read, travels with the fill. Compare nothing in it."""

    incarnation: int = 0
    lsn: int = 0


class Resource(NamedTuple):
    """A host (None: no host) and a request target, "/path" or "/path?query"."""

    host: Optional[Text]
    target: Text


class _Public:
    def __repr__(self) -> str:
        return "etagd.PUBLIC"


PUBLIC = _Public()
"""The scope of a representation that is the same for everybody. There is no default scope."""

Scope = Union[_Public, Text]


class Key:
    """The name of one cacheable representation (etag_key). scope: PUBLIC, or the name of one tenant or principal. Not to be
    changed once it is made."""

    __slots__ = ("resource", "scope", "release", "vary", "scheme", "_packed")

    def __init__(self, resource: Resource, scope: Scope, release: Optional[Text] = None,
                 vary: Sequence[Tuple[Text, Optional[Text]]] = (), scheme: Optional[Text] = None) -> None:
        self.resource = resource
        self.scope = scope
        self.release = release
        self.vary = vary
        self.scheme = scheme
        self._packed: Optional[List[Optional[bytes]]] = None

    def _parts(self) -> List[Optional[bytes]]:
        if self._packed is None:
            scope = utf8(self.scope) if isinstance(self.scope, (str, bytes)) else None
            host, target = self.resource
            self._packed = [utf8(host), utf8(target), scope, utf8(self.release), utf8(self.scheme), *field_parts(self.vary)]
        return self._packed

    @property
    def _scope_kind(self) -> int:
        if self.scope is PUBLIC:
            return 1
        return 2 if isinstance(self.scope, (str, bytes)) else 0

    def __repr__(self) -> str:
        return f"Key({self.resource!r}, {self.scope!r}, {self.release!r}, {self.vary!r}, {self.scheme!r})"


class Request:
    """A request (etag_request). key: None for evaluate(), which ignores it. Not to be changed once it is made."""

    __slots__ = ("method", "key", "fields", "require_if_match", "compression_suffixes")

    def __init__(self, method: Text, key: Optional[Key], fields: Sequence[Tuple[Text, Optional[Text]]] = (),
                 require_if_match: bool = False, compression_suffixes: bool = False) -> None:
        self.method = method
        self.key = key
        self.fields = fields
        self.require_if_match = require_if_match
        self.compression_suffixes = compression_suffixes


@dataclass(frozen=True)
class Validators:
    """The selected representation as it is now (etag_validators)."""

    existence: Existence = Existence.EXISTS
    etag: Optional[Text] = None
    last_modified: Optional[int] = None
    last_modified_is_strong: bool = False


ABSENT = Validators(Existence.ABSENT)


@dataclass(frozen=True)
class Response:
    """A response that was rendered (etag_entry). etag None: the ETag among fields. withheld: it must not be stored. surrogates:
    besides those that fields such as Surrogate-Key and Cache-Tag hold."""

    fields: Sequence[Tuple[Text, Optional[Text]]] = ()
    http_status: int = 200
    etag: Optional[Text] = None
    last_modified: Optional[int] = None
    surrogates: Sequence[Text] = ()
    had_authorization: bool = False
    max_age_s: int = 0
    last_modified_is_strong: bool = False
    withheld: bool = False


_HEAD = struct.Struct("=iiiiqQiIII")  # struct py_answer of shim.h, without its data
_NO_DATE = -(1 << 63)
_VERDICTS, _RANGES = tuple(Verdict), tuple(Range)
_reasons: Dict[int, str] = {}


class Answer:
    """What a check or a finish found (etag_answer). fields: what a 304 or 412 carries besides Date, as str. It holds a copy of
    the answer's bytes, and reads them when it is asked."""

    __slots__ = ("_data", "_head", "token")

    def __init__(self, data: bytes, token: Token) -> None:
        self._data = data
        self._head = _HEAD.unpack_from(data)
        self.token = token

    @property
    def verdict(self) -> Verdict:
        return _VERDICTS[self._head[0]]

    @property
    def http_status(self) -> int:
        return _HTTP_STATUSES[self._head[0]]

    @property
    def range(self) -> Range:
        return _RANGES[self._head[1]]

    @property
    def _reason_number(self) -> int:
        return self._head[3]

    @property
    def reason(self) -> str:
        number = self._head[3]
        word = _reasons.get(number)
        if word is None:
            word = _reasons[number] = ffi.string(lib.py_reason_word(number)).decode()
        return word

    @property
    def last_modified(self) -> Optional[int]:
        date = self._head[4]
        return None if date == _NO_DATE else date

    @property
    def fill_lsn(self) -> int:
        return self._head[5]

    def _layout(self) -> Tuple[int, int, int]:
        """Length of the etag, number of lengths, where the etag begins."""
        *_, etag_len, field_count, _, _ = self._head
        return etag_len, 2 * field_count, _HEAD.size + 8 * field_count

    @property
    def etag(self) -> Optional[str]:
        length, _, at = self._layout()
        return None if length < 0 else self._data[at:at + length].decode("latin-1")

    @property
    def fields(self) -> List[Tuple[str, str]]:
        length, count, at = self._layout()
        lengths = struct.unpack_from(f"={count}I", self._data, _HEAD.size)
        texts = map(str, struct.unpack_from("%ds" * count % lengths, self._data, at + max(length, 0)), repeat("latin-1"))
        return list(zip(texts, texts))

    def __repr__(self) -> str:
        return f"Answer({self.verdict!r}, {self.reason!r}, etag={self.etag!r})"


# ---- Bytes ----


def utf8(text: Optional[Text]) -> Optional[bytes]:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


def latin1(text: Optional[Text]) -> Optional[bytes]:
    if not isinstance(text, str):
        return text
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


def field_parts(fields: Fields) -> List[Optional[bytes]]:
    return [latin1(text) for line in fields for text in line]


_ABSENT = repeat(-1)  # the length of None
_LENGTHS = [struct.Struct(f"={count}i").pack for count in range(64)]


def _lengths(parts: Sequence[Optional[Text]]) -> bytes:
    lengths = map(length_hint, parts, _ABSENT)
    return _LENGTHS[len(parts)](*lengths) if len(parts) < 64 else array("i", lengths).tobytes()


def pack(parts: Sequence[Optional[bytes]]) -> Tuple[bytes, bytes, int]:
    """The block of shim.h: bytes, lengths, count."""
    return b"".join(filter(None, parts)), _lengths(parts), len(parts)


def pack_ascii(parts: Sequence[Optional[Text]]) -> Optional[Tuple[bytes, bytes, int]]:
    """The same of text in ASCII, which is the same bytes in each encoding, as most requests are; None: something else is among it."""
    try:
        text = "".join(filter(None, parts))  # type: ignore[arg-type]
    except TypeError:
        return None
    return (text.encode(), _lengths(parts), len(parts)) if text.isascii() else None
