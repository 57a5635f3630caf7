# SPDX-License-Identifier: Apache-2.0
"""How many of the processor's instructions one request of examples/django_uploads takes, without a server: the framework's floor, the
same floor in a process with etagd, and a hit. Unlike opcodes.py it counts what C does too: dictionaries, descriptors, audit events,
collections of garbage, SQLite, the look-up. And what a processor waits for, by callgrind's model of caches and branches: what a request
runs once is seldom in the first cache, so it counts for more. Steady on a machine that others use too.

usage: instructions.py [--env NAME] [--by N] [--kind wsgi|asgi]        run by scripts/bench django --instructions
    --env: by the Python of build/python/NAME, so with its Django
    --by: also the N functions of C that a request in a process with etagd spends most in, beyond the floor's

Under valgrind's callgrind, which looks only while requests run: a library of two functions says when.
"""
import argparse
import ctypes
import gc
import glob
import json
import os
import re
import subprocess
import sys
import time

import opcodes

CALLS = 40
MARKS = """
#include <valgrind/callgrind.h>
void mark_begin(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void mark_end(const char *what) { CALLGRIND_DUMP_STATS_AT(what); CALLGRIND_STOP_INSTRUMENTATION; }
"""


# ---- Within the process that is counted ----


def measure(kind):
    import django

    marks = ctypes.CDLL(os.environ["BENCH_MARKS"])
    django.setup()
    ask = {"wsgi": opcodes.by_wsgi, "asgi": opcodes.by_asgi}[kind]
    _, fields = ask(opcodes.PAGE, None)
    etag = {name.lower(): value for name, value in fields.items()}["etag"]
    subjects = {"floor": (opcodes.FLOOR, None), "304": (opcodes.PAGE, etag)}
    time.sleep(0.5)  # the fill is on its way
    for name, subject in subjects.items():
        for _ in range(opcodes.WARM):
            status, _ = ask(*subject)
        assert status == 304, status
        gc.collect()
        marks.mark_begin()
        for _ in range(CALLS):
            ask(*subject)
        marks.mark_end(name.encode())


# ---- Around it ----


def marks_in(directory):
    """The library that says when to count."""
    source, library = os.path.join(directory, "marks.c"), os.path.join(directory, "marks.so")
    with open(source, "w", encoding="ascii") as file:
        file.write(MARKS)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def figures_of(text):
    """Of one request: its instructions, and cycles as kcachegrind estimates them."""
    names, totals = (re.search(rf"^{what}: (.*)", text, re.M).group(1).split() for what in ("events", "totals"))
    of = dict(zip(names, (int(number) / CALLS for number in totals)))
    first, last = (sum(of[f"{kind}{level}m{how}"] for kind, how in (("I", "r"), ("D", "r"), ("D", "w"))) for level in ("1", "L"))
    return of["Ir"], of["Ir"] + 10 * (of["Bcm"] + of["Bim"]) + 10 * first + 100 * last


def functions_of(path):
    """function of C -> instructions in itself, by one request"""
    out = subprocess.run(["callgrind_annotate", "--threshold=100", "--show-percs=no", "--show=Ir", path], check=True, stdout=subprocess.PIPE, text=True).stdout
    made = {}
    for count, name in re.findall(r"^ *([\d,]+) +(?:[^ :]*:)?(\S+)", out, re.M):
        made[name] = made.get(name, 0) + int(count.replace(",", "")) / CALLS
    return made


def counted(python, kind, environment, directory):
    """what -> instructions of one request, and by function"""
    out = os.path.join(directory, f"callgrind.{kind}.{environment['UPLOADS_CACHE']}")
    subprocess.run(["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", "--cache-sim=yes", "--branch-sim=yes", f"--callgrind-out-file={out}", python, "-B",
                    os.path.abspath(__file__), "--within", kind], check=True, env=environment, cwd=directory, stdout=subprocess.DEVNULL)
    made = {}
    for path in glob.glob(out + ".*"):
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
        what = re.search(r"^desc: Trigger: Client Request: (\S+)", text, re.M)
        if what:
            made[what.group(1)] = figures_of(text), functions_of(path)
    return made


def tell(kind, made, by):
    (floor, of_floor), (installed, _), (hit, of_hit) = made["django"]["floor"], made["etagd"]["floor"], made["etagd"]["304"]
    for at, unit in enumerate(("instructions", "cycles, estimated")):
        print(f"{kind}, {unit}: floor {floor[at]:,.0f}, with etagd installed {installed[at]:,.0f}, a hit {hit[at]:,.0f}, "
              f"Django's own 304 {made['django']['304'][0][at]:,.0f}; floor / installed {floor[at] / installed[at]:.3f}, "
              f"floor / hit {floor[at] / hit[at]:.3f}")
    more = sorted(((count - of_floor.get(name, 0), count, name) for name, count in of_hit.items()), key=lambda one: -one[0])
    for difference, count, name in more[:by]:
        print(f"  {difference:+10,.0f} {count:10,.0f}  {name}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--env")
    parser.add_argument("--by", type=int, default=0)
    parser.add_argument("--kind", choices=opcodes.KINDS, action="append")
    parser.add_argument("--within", choices=opcodes.KINDS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.within:
        measure(given.within)
        return
    with opcodes.site(given.env) as (python, known, directory):
        known["BENCH_MARKS"] = marks_in(directory)
        for kind in given.kind or opcodes.KINDS:
            tell(kind, {cache: counted(python, kind, {**known, "UPLOADS_CACHE": cache}, directory) for cache in ("django", "etagd")}, given.by)


if __name__ == "__main__":
    main()
