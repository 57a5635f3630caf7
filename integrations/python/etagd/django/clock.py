# SPDX-License-Identifier: Apache-2.0
"""The clock: an answer that shows, or was chosen by, the time becomes another one without any write.

It is noticed where Django reads it (timezone.now(), {% now %}, timesince, date views, humanize, feeds), in the text of
statements, and in their parameters, which is where Python's own clock (datetime.now(), date.today(), time.time()) shows:

    a point in time      the clock's, unless the URL has it, or a row that the request read before
    a whole day          today's, perhaps, so good until the next midnight

A parameter is judged by its form, not by its distance from now: "the last thirty days" is as much the clock's as "now".
"""
from __future__ import annotations

import base64
import binascii
import contextvars
import datetime
import decimal
import importlib
import json
import re
import sys
import time
from functools import wraps
from typing import Any, Callable, Iterator, List, Optional, Set
from urllib.parse import parse_qsl, unquote_plus

from django.core import signing
from django.utils import timezone

from .sources import callers
from .sources.switches import Switched

NEVER, UNTIL_MIDNIGHT, AT_ONCE = range(3)
"""When does an answer change that depends on this parameter, if nothing is written?"""

_QUARTER_S = 900
_EPOCH_S = 400 * 86400  # a number that near to the time in seconds or milliseconds is one
_ISO_TEXT = r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,6}))?)?\s*(Z|[+-]\d\d(?::?\d\d)?)?)?"
_ISO = re.compile(rf"\s*{_ISO_TEXT}\s*")
_INLINED = re.compile(rf"'(\s*\d{{4}}-\d\d(?:-\d\d[^']{{0,30}})?\s*)'")
_NUMBERS = re.compile(r"(?<![\w.'\"])\d{8,13}(?:\.\d+)?(?![\w.'\"])")
_DIGITS = re.compile(r"\d{8,13}(?:\.\d+)?")
_MONTH = re.compile(r"\d{4}-(?:\d\d|W\d\d(?:-\d)?)")
_JSON_MAX = 4096
_TIME = re.compile(r"\s*\d\d:\d\d(?::\d\d(?:\.\d+)?)?\s*")
_WORDS = frozenset(("now", "today", "tomorrow", "yesterday"))  # which SQLite and PostgreSQL read as times
_LAST = datetime.time.max
_YEARS = range(1971, 9000)  # others mean "always" and "never"


# ---- Parameters ----


def changes(params: Any, known: Callable[[], Set[Any]]) -> int:
    """known: points in time that the URL says, or that were read before."""
    found = NEVER
    for value in _values(params):
        one = _changes(value)
        if one == AT_ONCE and not _is_word(value) and point(value) in known():
            one = NEVER
        if one == AT_ONCE:
            return one
        found = max(found, one)
    return found


def _values(params: Any) -> Iterator[Any]:
    if isinstance(params, dict):
        params = params.values()
    if not isinstance(params, (list, tuple, type({}.values()))):
        params = [params]
    for value in params:
        value = getattr(value, "obj", getattr(value, "adapted", value))  # the drivers' JSON
        if isinstance(value, str) and value[:1] in '"[{' and len(value) <= _JSON_MAX:
            value = _of_json(value)
        if isinstance(value, (list, tuple, dict)):
            yield from _values(value)
        elif hasattr(value, "lower") and hasattr(value, "upper") and not isinstance(value, str):  # a range
            yield from (value.lower, value.upper)
        else:
            yield value


def _of_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def in_text(statement: str) -> List[Any]:
    """The points in time and days near now that a statement has in its text. Others are constants of the site's."""
    years = {str(datetime.date.today().year + more) for more in (-1, 0, 1)}
    return [text for text in _INLINED.findall(statement) if text.strip()[:4] in years] + [float(number) for number in _NUMBERS.findall(statement)]


def _changes(value: Any) -> int:
    if isinstance(value, bool) or value is None:
        return NEVER
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, datetime.datetime):
        return _of_moment(value)
    if isinstance(value, datetime.date):
        return UNTIL_MIDNIGHT
    if isinstance(value, datetime.time):
        return NEVER if value in (datetime.time.min, _LAST) else AT_ONCE
    if isinstance(value, (int, float, decimal.Decimal)):
        return _of_number(float(value))
    return NEVER


def _of_number(value: float) -> int:
    now = time.time()
    if abs(value - now) < _EPOCH_S or abs(value / 1000 - now) < _EPOCH_S:
        return AT_ONCE
    this_year = datetime.date.today().year
    is_day = value == int(value) and abs(value // 10000 - this_year) <= 1 and 1 <= value // 100 % 100 <= 12 and 1 <= value % 100 <= 31
    return UNTIL_MIDNIGHT if is_day else NEVER  # 20261129


def _of_text(value: str) -> int:
    if len(value) > 40:
        return NEVER
    found = _ISO.fullmatch(value)
    if found is None and _DIGITS.fullmatch(value):
        return _of_number(float(value))
    if found is None and _MONTH.fullmatch(value):
        return UNTIL_MIDNIGHT
    if found is None:
        return AT_ONCE if _TIME.fullmatch(value) or _is_word(value) else NEVER
    if found.group(4) is None:
        return UNTIL_MIDNIGHT
    moment = _moment(found)
    return NEVER if moment is None else _of_moment(moment)


def _moment(found: "re.Match[str]") -> Optional[datetime.datetime]:
    numbers = [int(found.group(i) or 0) for i in range(1, 7)] + [int((found.group(7) or "").ljust(6, "0"))]
    zone = found.group(8)
    tz = None if zone is None else datetime.timezone.utc
    try:
        if zone not in (None, "Z"):
            digits = zone[1:].replace(":", "").ljust(4, "0")
            minutes = int(digits[:2]) * 60 + int(digits[2:])
            tz = datetime.timezone(datetime.timedelta(minutes=-minutes if zone[0] == "-" else minutes))
        return datetime.datetime(*numbers, tzinfo=tz)  # type: ignore[arg-type,misc]
    except ValueError:
        return None


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() in _WORDS


def _zones() -> List[datetime.tzinfo]:
    return [datetime.timezone.utc, timezone.get_default_timezone(), timezone.get_current_timezone()]


def _of_moment(value: datetime.datetime) -> int:
    if value.year not in _YEARS:
        return NEVER
    # SQLite has naive ones, in UTC.
    value = value if value.tzinfo is not None else value.replace(tzinfo=datetime.timezone.utc)
    local = [value.astimezone(zone).time() for zone in _zones()] + [value.time()]
    return UNTIL_MIDNIGHT if any(at in (datetime.time.min, _LAST, datetime.time(23, 59, 59)) for at in local) else AT_ONCE


def until_midnight() -> float:
    """When a day begins somewhere that was not one before: that may be the zone whose today it is. All zones differ from UTC by quarters
    of an hour; the site's own are asked all the same, which may be made up."""
    now = time.time()
    return min([now - now % _QUARTER_S + _QUARTER_S] + [_midnight(zone) for zone in [*_zones(), None]])


def _midnight(zone: Optional[datetime.tzinfo]) -> float:
    tomorrow = datetime.datetime.now(zone).date() + datetime.timedelta(days=1)
    return _timestamp(datetime.datetime.combine(tomorrow, datetime.time.min), zone)


def point(value: Any) -> Any:
    """The same of the same point in time, in whatever form a driver has it. Without a zone it is in UTC, as in SQLite."""
    if isinstance(value, str):
        found = _ISO.fullmatch(value)
        value = (_moment(found) or value) if found is not None and found.group(4) is not None else value
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return str(value) if isinstance(value, (int, float)) else value


def in_url(url: str) -> Set[Any]:
    """The points in time that a URL says. Without a zone it may be in any of the site's."""
    made: Set[Any] = set()
    for text in _readings(url):
        made.update(re.findall(r"\d{9,}(?:\.\d+)?", text))
        made.update(found.group() for found in re.finditer(r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?", text))
        for found in re.finditer(_ISO_TEXT, text.replace("Z", "")):
            moment = _moment(found) if found.group(4) is not None else None
            if moment is not None:
                naive = moment.replace(tzinfo=None)
                made.update((naive, point(moment)))
                made.update(point(timezone.make_aware(naive, zone)) for zone in _zones()[1:])
    return made


def _readings(url: str) -> Iterator[str]:
    yield unquote_plus(url)
    for _, value in parse_qsl(url.partition("?")[2]):
        try:
            yield unquote_plus(base64.b64decode(value.encode() + b"==", validate=False).decode())
        except (binascii.Error, ValueError):
            continue


# ---- Rows ----


def is_moment(value: Any) -> bool:
    """May it be a point in time?"""
    return isinstance(value, (datetime.datetime, datetime.time, int, float)) or (isinstance(value, str) and 8 <= len(value) <= 40)


def is_session(model: Any) -> bool:
    """One of Django's: it is asked for with the time, and is over at one that the row says."""
    return model is not None and any(base.__name__ == "AbstractBaseSession" for base in model.__mro__)


def first_of(rows: Optional[List[Any]], zone: Optional[datetime.tzinfo]) -> Optional[float]:
    """The first point in time of these rows. SQLite has them as text or without a zone: they are in that of the connection (None: the
    site's own, without USE_TZ)."""
    found: List[float] = []
    for row in (row for chunk in rows or () for row in chunk):
        for value in row:
            if isinstance(value, str) and value[:1].isdigit() and _ISO.fullmatch(value):
                value = datetime.datetime.fromisoformat(value.strip())
            if isinstance(value, datetime.datetime):
                found.append(_timestamp(value, zone))
    return min(found, default=None)


def _timestamp(value: datetime.datetime, zone: Optional[datetime.tzinfo]) -> float:
    if value.tzinfo is not None or zone is None:
        return value.timestamp()
    localize = getattr(zone, "localize", None)  # pytz
    return (localize(value) if localize is not None else value.replace(tzinfo=zone)).timestamp()


# ---- Where Django reads it ----

_ignored: "contextvars.ContextVar[bool]" = contextvars.ContextVar("etagd_clock_ignored", default=False)
_MODULES = ("django.utils.timezone", "django.utils.timesince", "django.utils.feedgenerator", "django.template.defaulttags",
            "django.contrib.humanize.templatetags.humanize", "django.views.generic.dates", "django.forms.widgets",
            "django.contrib.auth.tokens")
# Who asks it for something that is in no answer: a session's end is judged again with each request, before a look-up.
_OTHERS = ("django.contrib.sessions.", "django.core.cache.", "django.db.backends.")


def ignored() -> Switched:
    """For what asks the clock without a trace in the answer: who may come in, how long something took."""
    return Switched(_ignored)


def _asked() -> None:
    from . import kept
    from .reads import noting

    noted = noting()
    if _ignored.get():
        return
    kept.outside_runs()
    if noted is None or "clock_python" in noted.changing:
        return
    frame = callers.beyond(sys._getframe(2), ("django.utils.timezone", "django.core.signing", __name__))
    if frame is None or not callers.module_of(frame).startswith(_OTHERS):
        noted.changing.add("clock_python")


class _Noting(type):
    """Replaces a class of the module datetime in a module that asks it for the time."""

    _real: Any = None

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls._real)

    def __subclasscheck__(cls, subclass: Any) -> bool:
        return issubclass(subclass, cls._real)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls._real(*args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        found = getattr(cls._real, name)
        if name in ("now", "utcnow", "today"):
            _asked()
        return found


class _Datetime(metaclass=_Noting):
    _real = datetime.datetime


class _Date(metaclass=_Noting):
    _real = datetime.date


class _Module:
    """Replaces the module datetime itself."""

    datetime = _Datetime
    date = _Date

    def __getattr__(self, name: str) -> Any:
        return getattr(datetime, name)


class _Time:
    """Replaces the module time in that of signatures."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    @staticmethod
    def time() -> float:
        _asked()
        return time.time()


_STAND_INS = ((datetime.datetime, _Datetime), (datetime.date, _Date), (datetime, _Module()))


def _patch_signing() -> None:
    """A signature shows the time when it was made. One that is good for a time is so until then, to the second, so a page of a link
    that expires is too."""
    signing.time = _Time()  # type: ignore[attr-defined]
    unsign = signing.TimestampSigner.unsign
    decode = getattr(signing, "b62_decode", None) or signing.baseconv.base62.decode  # type: ignore[attr-defined]

    @wraps(unsign)
    def noted_unsign(self: Any, value: Any, max_age: Any = None) -> Any:
        from . import kept
        from .reads import noting

        with ignored():
            made = unsign(self, value, max_age)
        if max_age is not None:
            kept.outside_runs()
        noted = noting()
        if noted is not None and max_age is not None:
            seconds = max_age.total_seconds() if isinstance(max_age, datetime.timedelta) else max_age
            noted.lasts(decode(value.rsplit(self.sep, 2)[1]) + seconds)
        return made

    signing.TimestampSigner.unsign = noted_unsign  # type: ignore[method-assign]


def register() -> None:
    """The functions stay what they are, so who imported timezone.now before is noticed too."""
    if not isinstance(signing.time, _Time):  # type: ignore[attr-defined]
        _patch_signing()
    for name in _MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        for attribute in ("datetime", "date"):
            real = vars(module).get(attribute)
            for known, stand_in in _STAND_INS:
                if real is known:
                    setattr(module, attribute, stand_in)
