# SPDX-License-Identifier: Apache-2.0
"""Reads the tables of tests/cases for tests in Python, with the escapes that tests/cases/README.md lists."""
import os
import re

CASES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cases")
_MACRO = re.compile(rb"\$\{(rep|seq):(\d+):([^}]*)\}")
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([trn\\]))")
_NAMED = {b"t": b"\t", b"r": b"\r", b"n": b"\n", b"\\": b"\\"}


def unescape(cell):
    """bytes -> bytes. An escape that is none is an error, never a pass."""
    def macro(found):
        kind, count, text = found.group(1), int(found.group(2)), found.group(3)
        if kind == b"rep":
            return text * count
        return b", ".join(text.replace(b"%d", b"%d" % i) for i in range(count))

    expanded = _MACRO.sub(macro, cell)
    if b"${" in expanded:
        raise ValueError(f"unknown macro: {cell!r}")
    left = _ESCAPE.sub(b"", expanded)
    if b"\\" in left:
        raise ValueError(f"unknown escape: {cell!r}")
    return _ESCAPE.sub(lambda f: bytes([int(f.group(1), 16)]) if f.group(1) else _NAMED[f.group(2)], expanded)


def rows(name):
    """Each line as a dict of column -> raw bytes."""
    with open(os.path.join(CASES, name), "rb") as file:
        lines = [line for line in file.read().split(b"\n") if line]
    columns = [column.decode() for column in lines[0].rstrip(b"\r").split(b"\t")]
    for line in lines[1:]:
        cells = line.rstrip(b"\r").split(b"\t")
        if len(cells) != len(columns):
            raise ValueError(f"{name}: {len(cells)} cells, not {len(columns)}: {line!r}")
        yield dict(zip(columns, cells))
