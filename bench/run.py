# SPDX-License-Identifier: Apache-2.0
"""Runs all benchmarks and tells what they came to: a table on standard output, a file of results, a page of plots. Called by
scripts/bench, which builds them and installs the peers."""
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time

import report
from servers import Etagd, Memcached, Redis

SIZE_WORDS = {30_000_000: "30 M", 1000: "1 k", 10_000: "10 k", 100_000: "100 k", 1_000_000: "1 M", 10_000_000: "10 M"}
AHEAD = ["chrt", "--fifo", "10"]  # of whatever wants a CPU
# Of one entry of bench/common/world.h: key, tag, field, names.
RAW_BYTES = 16 + 26 + 18 + 40 + 15 + 24 + 13


def simulate_false(clocks, per_entry, changes, entries=500, keys=200):
    """The part of the entries that have a clock which one of the changes moved; entries share half of their clocks, as with path
    prefixes. Clock 0, the floor, belongs to no name, and a sixteenth is the families', which no change here names."""
    stale, clocks = 0, clocks - clocks // 16
    for key in range(keys):
        chance = random.Random(key)
        moved = {chance.randrange(1, clocks) for _ in range(changes)}
        shared = [chance.randrange(1, clocks) for _ in range(per_entry // 2)]
        if any(clock in moved for clock in shared):
            stale += entries
            continue
        stale += sum(any(chance.randrange(1, clocks) in moved for _ in range(per_entry - len(shared))) for _ in range(entries))
    return stale / (keys * entries)


def spread(values):
    """Tenth percentile, median, ninetieth."""
    values = sorted(values)
    return [values[int(part * (len(values) - 1) + 0.5)] for part in (0.1, 0.5, 0.9)]


class Run:
    def __init__(self, build, quick):
        self.build = build
        self.quick = quick
        self.rounds = "3" if quick else "15"
        self.figures = []
        self.series = {}

    def add(self, **figure):
        self.figures.append(figure)
        print(report.line_of(figure), file=sys.stderr, flush=True)

    def value(self, group, figure, value, unit, goal=0, at_least=False):
        self.add(group=group, figure=figure, value=value, unit=unit, goal=goal, at_least=at_least)

    def program(self, name, *args, before=()):
        """Runs one; what it prints are figures."""
        command = [*before, os.path.join(self.build, "bench", name), *map(str, args)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            lines = [json.loads(line) for line in process.stdout]
        if process.returncode != 0:
            raise SystemExit(f"failed: {' '.join(command)}")
        return lines

    def collect(self, name, *args):
        for figure in self.program(name, *args):
            self.add(**figure)

    # ---- One part each ----

    def evaluate(self):
        self.collect("bench_evaluate", "--rounds", "20" if self.quick else "200")

    def invalidate(self):
        d, redis = Etagd(self.build), Redis()
        self.collect("bench_invalidate", "--etagd", d.socket, "--redis", redis.socket, "--rounds", self.rounds,
                     "--per-round", "500" if self.quick else "2000")
        self.collect("bench_rate", "--etagd", d.socket, "--redis", redis.socket, "--rounds", self.rounds)
        redis.remove()
        d.remove()

    def finish(self):
        """What a miss costs besides rendering."""
        d = Etagd(self.build)
        self.collect("bench_finish", "--etagd", d.socket, "--count", "2000" if self.quick else "20000")
        self.collect("bench_hit", "--etagd", d.socket, "--count", "2000" if self.quick else "20000")
        d.remove()

    def power(self):
        d = Etagd(self.build, "--durability", "power")
        self.collect("bench_rate", "--etagd", d.socket, "--power", "--rounds", self.rounds)
        d.remove()

    def under_fills(self, entries):
        self.tails_under_fills(entries, [], ", while fills come in")
        if subprocess.run([*AHEAD, "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0:  # whoever may
            self.tails_under_fills(entries, AHEAD, ", the same where neither waits for a CPU")

    def tails_under_fills(self, entries, how, what):
        """What fills do to invalidations that wait: in each round first quiet, then while they come in. how: words before the daemon's and
        the writer's command. The fills' front ends take every CPU; without a right of way the tail is the scheduler's."""
        d = Etagd(self.build, "--capacity", str(entries), before=how)
        quiet, loaded = {}, {}
        for _ in range(3 if self.quick else 9):
            self.tails(d, quiet, how)
            fills = subprocess.Popen([os.path.join(self.build, "bench", "bench_fill"), "--etagd", d.socket, "--entries", str(1000 * entries)],
                                     stdout=subprocess.DEVNULL, start_new_session=True)
            time.sleep(0.2)
            self.tails(d, loaded, how)
            running = fills.poll() is None
            os.killpg(fills.pid, signal.SIGKILL)  # its front ends, too: the next round begins quiet
            fills.wait()
            if not running:
                raise SystemExit("failed: the fills ended before the invalidations did")
        d.remove()
        for figure, values in loaded.items():
            self.add(group="invalidate", figure=figure + what, peer="quiet", unit="us",
                     goal=2 if "median" in figure else 10, rounds=len(values), ours=spread(values), theirs=spread(quiet[figure]),
                     ratio=spread([now / before for now, before in zip(values, quiet[figure])]))

    def tails(self, d, into, how):
        for figure in self.program("bench_rate", "--etagd", d.socket, "--tail", before=how):
            into.setdefault(figure["figure"], []).append(figure["value"])

    def lookup(self, entries, peers):
        word = SIZE_WORDS[entries]
        d = Etagd(self.build, "--capacity", str(entries))
        start = time.monotonic()
        fill = self.program("bench_fill", "--etagd", d.socket, "--entries", entries)[0]["value"]
        if entries >= 1_000_000:
            d.ctl("sync")
            seconds = time.monotonic() - start
            stored = d.status()["stored_entries"]
            self.value("fill", f"taken into the index, {word} entries", fill, "/s", 300_000, True)
            self.value("fill", f"written to the store meanwhile, {word} entries", stored / seconds, "/s", 80_000, True)
            self.value("fill", f"of them in the store, {word} entries", 100 * stored / entries, "%")
        d.settle()
        status = d.status()
        if entries >= 1_000_000:
            self.memory(d, status, entries)
        region = ["--region", status["index_bytes"], *(["--region-huge"] if d.huge_kib() else []), "--goal", "1.3", "--goal-zipf",
                  "1.0"] if entries >= 1_000_000 else []
        self.value("lookup", f"index on huge pages, {word} entries", 100 * d.huge_kib() * 1024 / status["index_bytes"], "%")
        self.collect("bench_check", "--etagd", d.socket, "--entries", entries, "--size-word", word, "--rounds", self.rounds, *region,
                     *peers)
        if entries == 1_000_000:
            self.collect("bench_readers", "--etagd", d.socket, "--entries", entries, "--rounds", self.rounds)
        if entries == 10_000_000:
            self.restart(d)
        d.remove()

    def against_servers(self, entries):
        redis, memcached = Redis(), Memcached()
        lmdb = os.path.join(redis.directory, "lmdb")
        os.mkdir(lmdb)
        self.lookup(entries, ["--ck", "--lmdb", lmdb, "--redis", redis.socket, "--memcached", memcached.socket, "--memcached-pid",
                              memcached.process.pid])
        memcached.remove()
        redis.remove()

    def memory(self, d, status, entries):
        word = SIZE_WORDS[entries]
        self.value("memory", f"index, {word} entries", status["index_bytes"] / entries, "B an entry", 192)
        self.value("memory", f"store, {word} entries", d.state_bytes() / status["stored_entries"] / RAW_BYTES, "raw bytes", 3)
        self.value("memory", f"daemon's private, {word} entries", d.status_kib("RssAnon") * 1024 / entries, "B an entry", 16)

    def restart(self, d):
        entries = d.status()["stored_entries"]
        word = f"{entries / 1e6:.1f} M entries"
        start = time.monotonic()
        d.process.send_signal(signal.SIGTERM)
        while os.path.exists(d.socket) and d.process.poll() is None:
            time.sleep(0.002)
        self.value("start", "SIGTERM to not serving", time.monotonic() - start, "s", 0.5)
        d.process.wait()
        start = time.monotonic()
        again = Etagd(self.build, "--capacity", str(entries), directory=d.directory)
        self.value("start", f"exec to serving, {word}", time.monotonic() - start, "s", 3)
        while again.status()["loading"] > 0:
            time.sleep(0.05)
        self.value("start", f"exec to all of them loaded, {word}", time.monotonic() - start, "s")
        self.value("start", f"of them loaded, {word}", 100 * again.status()["loaded"] / entries, "%")
        d.process = again.process

    def evict(self, capacity):
        d = Etagd(self.build, "--capacity", str(capacity))
        self.collect("bench_evict", "--etagd", d.socket, "--capacity", capacity, "--rounds", self.rounds)
        d.remove()

    def huge_pages(self, entries):
        """The same lookups with and without: two daemons, asked in turn."""
        word, both = SIZE_WORDS[entries], {}
        for use in ("on", "off"):
            both[use] = Etagd(self.build, "--capacity", str(entries), "--huge-pages", use)
            self.program("bench_fill", "--etagd", both[use].socket, "--entries", entries)
        for d in both.values():
            d.settle()
        rounds = {use: [] for use in both}
        for _ in range(3 if self.quick else 7):
            for use, d in both.items():
                found = self.program("bench_check", "--etagd", d.socket, "--entries", entries, "--size-word", word, "--rounds", "9",
                                     "--region", 4 << 20)
                rounds[use].append(next(f for f in found if f["figure"].startswith("304") and "uniform" in f["figure"])["ours"][1])
        ratios = sorted(on / off for on, off in zip(rounds["on"], rounds["off"]))
        on, off = sorted(rounds["on"]), sorted(rounds["off"])
        middle = len(on) // 2
        self.add(group="lookup", figure=f"304, {word} entries, uniform, huge pages", peer="small pages", unit="ns", goal=0,
                 rounds=len(on), ours=[on[0], on[middle], on[-1]], theirs=[off[0], off[middle], off[-1]],
                 ratio=[ratios[0], ratios[middle], ratios[-1]])
        for d in both.values():
            d.remove()

    def dependents(self, entries):
        d = Etagd(self.build, "--capacity", str(entries))
        self.program("bench_fill", "--etagd", d.socket, "--entries", entries, "--shared")
        self.collect("bench_rate", "--etagd", d.socket, "--dependents", entries, "--rounds", self.rounds)
        d.remove()

    def scale(self, sizes):
        """A lookup and an invalidation by the number of entries, for the plot."""
        for entries in sizes:
            d = Etagd(self.build, "--capacity", str(max(entries, 1024)))
            self.program("bench_fill", "--etagd", d.socket, "--entries", entries)
            d.settle()
            region = ["--region", d.status()["index_bytes"], *(["--region-huge"] if d.huge_kib() else [])]
            found = self.program("bench_check", "--etagd", d.socket, "--entries", entries, "--size-word", entries, "--rounds", self.rounds,
                                 *region, "--ck")
            tail = self.program("bench_rate", "--etagd", d.socket, "--tail")
            self.series.setdefault("scale", []).append({"entries": entries, "lookup": found, "invalidate": tail})
            print(f"scale: {entries} entries", file=sys.stderr, flush=True)
            d.remove()

    def false_invalidations(self):
        """Formula, simulation and measurement, each a mean over several hash keys."""
        clocks, per_entry, step, steps, runs = 65536, 6, 1000, 8, 3 if self.quick else 40
        measured = []
        for _ in range(runs):
            d = Etagd(self.build, "--capacity", "20000", "--clocks", str(clocks))
            measured.append(self.program("bench_false", "--etagd", d.socket, "--entries", 20000, "--step", step, "--steps", steps))
            d.remove()
        points = []
        for i in range(steps + 1):
            stale = sorted(run[i]["stale"] for run in measured)
            points.append({"changes": i * step, "formula": 1 - (1 - 1 / (clocks * 15 // 16)) ** (per_entry * i * step),
                           "simulated": simulate_false(clocks, per_entry, i * step), "measured": sum(stale) / runs,
                           "least": stale[0], "most": stale[-1]})
        self.series["false"] = {"clocks": clocks, "clocks_per_entry": per_entry, "runs": runs, "points": points}
        last = points[-1]
        self.value("false invalidations", f"{last['changes']} changes, {clocks} clocks: measured", 100 * last["measured"], "%")
        self.value("false invalidations", f"{last['changes']} changes, {clocks} clocks: formula", 100 * last["formula"], "%")
        self.value("false invalidations", f"{last['changes']} changes, {clocks} clocks: simulated", 100 * last["simulated"], "%")

    def all(self):
        self.evaluate()
        self.invalidate()
        self.finish()
        self.power()
        self.false_invalidations()
        self.under_fills(100_000)
        self.lookup(10_000, ["--ck"])
        self.evict(10_000 if self.quick else 100_000)
        self.huge_pages(100_000 if self.quick else 1_000_000)
        if self.quick:
            self.against_servers(100_000)
            self.scale([1000, 10_000])
            return
        self.dependents(1_000_000)
        self.against_servers(1_000_000)
        self.lookup(10_000_000, ["--ck"])
        self.scale([1000, 10_000, 100_000, 1_000_000, 10_000_000, 30_000_000])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", help="one part, for example evaluate, invalidate, finish, power, lookup:ENTRIES, huge_pages:ENTRIES, evict:CAPACITY")
    parser.add_argument("--results", default="bench/results")
    options = parser.parse_args()
    run = Run(options.build, options.quick)
    if options.only:
        part, _, size = options.only.partition(":")
        if part == "lookup":
            run.lookup(int(size), ["--ck"])
        elif size:
            getattr(run, part)(int(size))
        else:
            getattr(run, part)()
        print(report.table(run.figures))
        return
    run.all()
    print(report.table(run.figures))
    print("written:", report.write(options.results, run.figures, run.series, options.build, options.quick))


main()
