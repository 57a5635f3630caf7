# SPDX-License-Identifier: Apache-2.0
"""Protobuf's bytes, as far as messages that no client of ours sends want them. (tests/docs/protocol_client.py has its own: it is written
from docs/protocol.md alone.)"""
import struct


def varint(value):
    out = b""
    while value > 0x7f:
        out += bytes([value & 0x7f | 0x80])
        value >>= 7
    return out + bytes([value])


def number(no, value):
    return varint(no << 3) + varint(value)


def nonzero(no, value):
    """As proto3 writes it: 0 is left out."""
    return number(no, value) if value else b""


def fixed(no, value):
    return varint(no << 3 | 1) + struct.pack("<Q", value)


def data(no, value):
    return varint(no << 3 | 2) + varint(len(value)) + value


def fields_of(message):
    """Number to the list of its values: int or bytes."""
    out, at = {}, 0

    def take():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = take()
        if tag & 7 == 0:
            value = take()
        else:
            length = {1: 8, 2: None, 5: 4}[tag & 7]
            length = take() if length is None else length
            value, at = message[at:at + length], at + length
        out.setdefault(tag >> 3, []).append(value)
    return out
