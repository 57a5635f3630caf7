# SPDX-License-Identifier: Apache-2.0
"""A relay that says what a test tells it to, over the wire alone: docs/protocol.md, RelayHello and what follows it."""
import os
import select
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from harness import Raw, bound
from wire import data, fields_of, nonzero as number


def targets(*surrogates, everything=False, hold_ms=0, reach=0, position=0, prefixes=(), families=()):
    return (b"".join(data(2, name.encode()) for name in surrogates) + b"".join(data(3, data(2, path.encode())) for path in prefixes)
            + number(4, everything) + number(5, hold_ms) + number(7, reach) + number(8, position)
            + b"".join(data(9, name.encode()) for name in families))


def first(fields, no, default=0):
    return fields.get(no, [default])[0]


class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


def coarse_ns():
    return time.clock_gettime_ns(6)  # CLOCK_MONOTONIC_COARSE


LOGGED, ACKNOWLEDGED, BY_TIME, REFUSED = 1, 2, 3, 4
HOST, LOG, EVERYWHERE = 1, 2, 3


class Publish:
    def __init__(self, message):
        fields = fields_of(message)
        named = fields_of(first(fields, 2, b""))
        self.token = first(fields, 1)
        self.surrogates = [name.decode() for name in named.get(2, [])]
        self.families = [name.decode() for name in named.get(9, [])]
        self.everything, self.hold_ms = bool(first(named, 4)), first(named, 5)
        self.reach, self.position = first(named, 7), first(named, 8)


class Relay:
    def __init__(self, path, l_net_ms=60000, hello=True):
        self.raw = Raw(path)
        self.l_net_ms = l_net_ms
        self.id = 10
        self.published = []
        self.cursor = self.log_id = b""
        if hello:
            self.hello()

    def close(self):
        self.raw.close()

    def _read(self):
        payload = self.raw.frame()
        if payload is None:
            raise EOFError("the daemon closed the connection")
        fields = fields_of(payload)
        if 15 in fields:
            self.published.append(Publish(first(fields, 15)))
            return None
        return fields

    def send(self, no, body):
        self.id += 1
        self.raw.send_frame(number(1, self.id) + data(no, body))
        return self.id

    def answer(self, wanted):
        """The answer to that request; what is published meanwhile is kept."""
        while True:
            fields = self._read()
            if fields and first(fields, 1) == wanted:
                break
        if 2 in fields:
            error = fields_of(first(fields, 2))
            raise Refused(first(error, 1), first(error, 2, b"").decode())
        return fields

    def hello(self, engine=b"test"):
        said = fields_of(first(self.answer(self.send(20, data(1, engine) + number(2, self.l_net_ms))), 14, b""))
        self.cursor, self.log_id = first(said, 1, b""), first(said, 2, b"")
        self.mode = first(said, 4)
        return self

    def batch_send(self, *events, cursor=b"1", log_id=b"log", t0=None, everything=False, member=True, more=False, l_net_ms=None,
                   reason=b"", writers=b""):
        """What a poll at t0 (now, if None) brought: events are targets()."""
        body = (number(1, coarse_ns() if t0 is None else t0) + b"".join(data(2, event) for event in events) + number(3, everything)
                + number(6, member) + number(7, more) + number(8, self.l_net_ms if l_net_ms is None else l_net_ms))
        body += (data(4, cursor) if cursor else b"") + (data(5, log_id) if log_id else b"") + (data(9, reason) if reason else b"")
        body += data(10, writers) if writers else b""
        return self.send(21, body)

    def is_receipt(self, payload, request):
        fields = fields_of(payload)
        return first(fields, 1) == request and 4 in fields

    def batch(self, *events, **said):
        """Sends it and waits for its receipt; returns the LSN."""
        return first(fields_of(first(self.answer(self.batch_send(*events, **said)), 4, b"")), 1)

    def publish(self, seconds=20):
        """The next event that the daemon wants in the log."""
        while not self.published:
            if not select.select([self.raw.socket], [], [], bound(seconds))[0]:
                raise AssertionError("nothing was published")
            fields = self._read()
            if fields and 2 in fields:
                error = fields_of(first(fields, 2))
                raise Refused(first(error, 1), first(error, 2, b"").decode())
        return self.published.pop(0)

    def quiet(self):
        """Nothing was published until now: what the daemon had to say it said before it answered."""
        self.answer(self.send(5, b""))
        return not self.published

    def done(self, token, outcome, position=0, text=b""):
        self.send(22, number(1, token) + number(2, outcome) + number(3, position) + (data(4, text) if text else b""))
