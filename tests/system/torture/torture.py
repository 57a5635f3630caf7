#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The torture campaign: writers, guards, fillers and readers under a nemesis, judged by two checkers.

A campaign is a row of sections, each with a daemon, a state and a truth of its own, over the wanted loops and durabilities.
Readers judge each answer online (front.c); after each section torture_check judges the logged history by itself. Ends with a
table and one line of JSON. Exit status: 0 clean; 1 violations, leaks, or something that was to be seen was not.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial

sys.dont_write_bytecode = True
from campaign import BUILD, TEXTS, Failure, Section  # noqa: E402
from harness import SKIP  # noqa: E402
from nemesis import deck_of, torment  # noqa: E402
from sections import Sums, add_up, section_run  # noqa: E402

SECTION_SECONDS = 90
# With --delays: often a little, and rarely so long that a lease ends meanwhile (proto/base/delay_point.h).
DELAYS = ("*:3000:50,lookup.deadline_slot:900000:4000,lookup.slot_clocks:900000:4000,lookup.clocks_sequence:900000:4000,lookup.clocks_time:900000:4000,"
          "lease.clock_scan:250000:60,lease.scan_word:250000:60,persist.taken_stored:15000:2,"
          "recovery.meta_witness:200000:3,recovery.loaded_journal:200000:3,mark.written_renamed:100000:3,"
          "journal.bytes_extent:10000:100")
# Counters of the workers that a run must have moved, or it has shown nothing.
SEEN = ["commits_plain", "invalidations", "fills_sent", "fills_stored", "fills_refused", "checks", "not_modified", "warm",
        "not_modified_http", "not_modified_by_date",
        "not_modified_by_tag", "weak_dates", "dotted_checks", "dotted_fills", "dotted_mutations", "known_otherwise", "unknown_stale", "unknown_no_lease", "history_checks", "history_answered"]
SEEN_WITH_GUARDS = ["commits_guarded", "rollbacks", "guards_begun", "guards_confirmed", "guards_committed", "guards_aborted",
                    "guards_abandoned", "unknown_in_flux", "history_guarded", "holds"]
SEEN_WITH_SPOOL = ["invalidations_spooled", "invalidations_pending"]
SEEN_IN_LONG_RUNS = ["guards_without_time", "guards_not_confirmed", "guards_abort_pending", "guards_forgotten"]
LONG_RUN_SECONDS = 200
# Of the daemon's status.
DAEMON_SEEN = ["fills_token_stale", "fills_token_foreign"]
DAEMON_SEEN_WITH_GUARDS = ["fills_token_in_flux", "guards_begun", "guards_committed", "guards_aborted",
                           "guards_lingered", "guards_rearmed"]
DAEMON_SEEN_WITH_SPOOL = ["spool_applied", "spool_garbage", "spool_ignored"]


def options_parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=45, help="of the whole campaign (default %(default)s)")
    parser.add_argument("--loop", choices=("uring", "epoll", "both"), default="both")
    parser.add_argument("--durability", choices=("process", "power", "both"), default="both")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", type=int, default=0, help="log one check in N (default: by the length)")
    parser.add_argument("--directory", help="where sections make their directories (default: the temporary one)")
    parser.add_argument("--only", help="nemeses to use, with commas between")
    parser.add_argument("--no-guards", dest="guards", action="store_false")
    parser.add_argument("--no-spool", dest="spool", action="store_false")
    parser.add_argument("--delays", action="store_true", help="the binaries have delay points: use them")
    parser.add_argument("--wrong-writer", action="store_true", help="self test: a writer that lies")
    parser.add_argument("--until-violation", action="store_true", help="end at the first violation; none is a failure")
    parser.add_argument("--keep", action="store_true", help="keep the directory of a section that failed")
    options = parser.parse_args()
    options.sample = options.sample or 4
    return options


def uring_works():
    return subprocess.run([os.path.join(BUILD, "tests", "system", "has_io_uring")], check=False).returncode == 0


def can_mount():
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as directory:
        if subprocess.run(["mount", "-t", "tmpfs", "none", directory], stderr=subprocess.DEVNULL, check=False).returncode:
            return False
        subprocess.run(["umount", directory], check=True)
        return True


def combinations(options):
    loops = ("uring", "epoll") if options.loop == "both" else (options.loop,)
    durabilities = ("process", "power") if options.durability == "both" else (options.durability,)
    if "uring" in loops and not uring_works():
        if loops == ("uring",):
            print("skipped: this kernel refuses io_uring")
            sys.exit(SKIP)
        loops = ("epoll",)
    return [(loop, durability) for loop in loops for durability in durabilities]


class Result(Sums):
    def __init__(self):
        super().__init__()
        self.daemon = {}
        self.starts = {"warm": 0, "cold": 0}

    def add(self, section, counted):
        super().add(section, counted)
        for name, value in counted.items():
            if name.startswith(("longest", "oldest")):
                self.counters[name] = max(self.counters.get(name, 0), value)
        for run in section.daemon_counters.values():
            add_up(self.daemon, {name: value for name, value in run.items() if name != "guards_open" and
                                 name.startswith(("fills_", "guards_", "spool_", "loaded", "mutations"))})
        add_up(self.starts, section.starts)


def table_print(result, skipped):
    rows = [(text, result.counters.get(name, 0)) for name, text in TEXTS.items() if isinstance(text, str)]
    rows += [("longest call of a writer, ms", result.counters.get("longest_call_ms", 0)),
             ("longest call beyond its timeout, ms", result.counters.get("longest_call_over_ms", 0)),
             ("offline: records", result.counters.get("records", 0)),
             ("offline: checks judged", result.counters.get("history_checks", 0)),
             ("offline: VIOLATIONS", result.counters.get("history_violations", 0))]
    rows += [(f"starts: {name}", value) for name, value in result.starts.items()]
    rows += result.nemesis_rows()
    rows += [(f"daemon: {name}", value) for name, value in sorted(result.daemon.items())]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value:>12}")
    for name, why in skipped.items():
        print(f"nemesis {name}: skipped, {why}")


def unseen(options, result, deck):
    wanted = SEEN + (SEEN_WITH_GUARDS if options.guards else []) + (SEEN_WITH_SPOOL if options.spool else [])
    if options.guards and options.spool and options.seconds >= LONG_RUN_SECONDS:
        wanted = wanted + SEEN_IN_LONG_RUNS
    daemon_wanted = DAEMON_SEEN + (DAEMON_SEEN_WITH_GUARDS if options.guards else []) + (
        DAEMON_SEEN_WITH_SPOOL if options.spool else [])
    missing = [name for name in wanted if result.counters.get(name, 0) == 0]
    missing += [f"daemon's {name}" for name in daemon_wanted if result.daemon.get(name, 0) == 0]
    missing += [f"{name} start" for name, value in result.starts.items() if value == 0]
    missing += [f"nemesis {card.__name__}" for card in set(deck) if card.__name__ not in result.nemeses]
    return missing


def campaign(options, result):
    deck, skipped = deck_of(options)
    if options.only:
        deck = [card for card in deck if card.__name__ in options.only.split(",")]
    combos = combinations(options)
    rounds = max(1, round(options.seconds / (len(combos) * SECTION_SECONDS)))
    count = rounds * len(combos)
    for number in range(count):
        loop, durability = combos[number % len(combos)]
        began = time.monotonic()
        section = Section(options, loop, durability, options.seed + number)
        seconds = options.seconds / count
        section_run(section, partial(torment, section, deck, seconds, options.until_violation), result, options.keep, Failure, 60)
        print(f"section {number + 1}/{count}: {loop}, {durability}, seed {options.seed + number}, "
              f"{time.monotonic() - began:.0f} s, {result.violation_count()} violations, {len(result.failures)} failures",
              file=sys.stderr)
        if options.until_violation and (result.violation_count() or result.failures):
            break
    return deck, skipped


def main():
    options = options_parse()
    # Ended from outside, it leaves nothing either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    options.disk = can_mount()
    if options.delays:
        os.environ.setdefault("ETAGD_DELAY_POINTS", DELAYS)
        os.environ.setdefault("ETAGD_DELAY_SEED", str(options.seed))
    result = Result()
    began = time.monotonic()
    deck, skipped = campaign(options, result)
    seconds = time.monotonic() - began
    for line in result.violations[:20]:
        print(line)
    if not options.until_violation:
        table_print(result, skipped)
        if not options.only and not result.violation_count():
            result.failures += [f"saw no {name}" for name in unseen(options, result, deck)]
    for failure in result.failures[:20]:
        print("failure: " + failure)
    print(json.dumps({"seconds": round(seconds, 1), "seed": options.seed, "sections": result.sections,
                      "violations": result.violation_count(), "failures": len(result.failures), "starts": result.starts,
                      "nemeses": result.nemeses, "slowest": result.slowest, "counters": result.counters, "daemon": result.daemon,
                      "skipped": skipped}))
    sys.exit(1 if result.violation_count() or result.failures else 0)


if __name__ == "__main__":
    main()
