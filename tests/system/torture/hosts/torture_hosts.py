#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The torture campaign on many hosts: three of them, each with an etagd, an etag-relay, writers and front ends, in network namespaces,
on one PostgreSQL with a standby (whose table may be watched), or on three members of etcd, each behind a proxy that stalls, cuts, delays and swallows.

A campaign is a row of sections, each with a database, daemons and settings of its own. After each torture_check judges the histories.
Ends with a table and one line of JSON. Exit status: 0 clean; 1 violations, or something that was to be seen was not; 77 skipped.
"""
import argparse
import json
import os
import signal
import sys
import time
from functools import partial

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE), os.path.join(os.path.dirname(os.path.dirname(HERE)), "relay")]
import relay_db  # noqa: E402,F401  first: it says why where something is missing
from campaign import TEXTS, Failure  # noqa: E402
from hosts import NAMES, HostsSection  # noqa: E402
from hosts_nemesis import DECK, cut, deck_of, torment  # noqa: E402
from network import Bridge, Network  # noqa: E402
from sections import Sums, add_up, section_run  # noqa: E402
from servers import Pair  # noqa: E402

SECTION_SECONDS = 75
# What a run must have met at least, or it has shown nothing: of the whole, and beside it for each host.
SEEN = {"writes_plain": 10, "writes_guarded": 10, "log_ok": 20, "everywhere_acknowledged": 10, "everywhere_time": 1, "rows_read": 200, "fills_sent": 200,
        "not_modified": 1000, "unknown_stale": 20, "unknown_no_lease": 100, "history_answered": 50}
SEEN_BY_HOST = 300
NEMESES_MIN, KINDS_MIN = 4, 3
LONG_RUN_SECONDS = 300  # in which every nemesis has its turn
PROOFS = {3: "in the log", 4: "everywhere, acknowledged", 5: "everywhere, by time"}


class Kind:
    """What hosts have in common, and what is done to it."""
    network, log, section = Network, Pair, HostsSection
    deck, first = DECK, (cut,)
    seen = {"writes_sql": 20, "writes_position": 10}
    reasons = ()  # for which everything was purged

    @staticmethod
    def of(options):
        if options.engine == "etcd":
            return etcd_kind()
        return watched_kind() if options.watched else Kind


def watched_kind():
    from watched import WatchedSection  # skips where Django is missing
    from watched_nemesis import FIRST, WATCHED_DECK

    class Watched(Kind):
        section, deck, first = WatchedSection, WATCHED_DECK, FIRST
        seen = {"writes_psql": 20, "writes_away": 5, "writes_django": 10, "everywhere_django": 2, "writes_position": 10}
        reasons = ("watch_broken", "watched_tables_changed")
    return Watched


def etcd_kind():
    from etcd_hosts import MEMBERS, EtcdSection, Members  # skips where etcd is missing
    from etcd_nemesis import ETCD_DECK, FIRST

    class Etcd(Kind):
        log, section, deck, first = Members, EtcdSection, ETCD_DECK, FIRST
        seen = {"writes_twice": 20, "writes_silent": 5, "holds_kept": 10}

        @staticmethod
        def network(hosts, namespaces):
            return Bridge((*hosts, *MEMBERS), namespaces)
    return Etcd


def options_parse():
    parser = argparse.ArgumentParser(description="The torture campaign on many hosts.")
    parser.add_argument("--seconds", type=float, default=25, help="of the whole campaign (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--watched", action="store_true", help="the table is watched: writers by psql and Django too, who name nothing")
    parser.add_argument("--engine", choices=("postgres", "etcd"), default="postgres", help="what hosts have in common (default %(default)s)")
    parser.add_argument("--only", help="nemeses to use, with commas between")
    parser.add_argument("--l-net-ms", type=int, default=0, help="lease of the database (default: by the seed)")
    parser.add_argument("--follow-percent", type=int, default=100,
                        help="of L_net: within which hosts have to follow; less is a self test, which has to find violations")
    parser.add_argument("--no-namespaces", dest="namespaces", action="store_false", help="all on 127.0.0.1, with the proxies alone")
    parser.add_argument("--directory", help="where sections make their directories (default: the temporary one)")
    parser.add_argument("--until-violation", action="store_true", help="end at the first violation; none is a failure")
    parser.add_argument("--keep", action="store_true", help="keep the directory of a section that failed")
    options = parser.parse_args()
    if options.watched and options.engine == "etcd":
        parser.error("--watched is of PostgreSQL's tables")
    return options


class Result(Sums):
    def __init__(self):
        super().__init__()
        self.reasons, self.latencies = {}, {}
        self.fresh_again, self.oldest = [], []
        self.synchronous = 0

    def add(self, section, counted):
        super().add(section, counted)
        self.synchronous += section.pair_synchronous
        self.oldest.append(counted["oldest_answer_ms"] / section.l_net_ms)
        add_up(self.reasons, section.everything_reasons())
        self.fresh_again += section.fresh_again
        for proof, took in section.latencies().items():
            self.latencies.setdefault(PROOFS[proof], []).extend(took)

    def figures(self):
        """Median and p99 of each proof, in milliseconds."""
        found = {}
        for proof, took in self.latencies.items():
            took.sort()
            found[proof] = {"count": len(took), "median_ms": round(took[len(took) // 2], 2), "p99_ms": round(took[len(took) * 99 // 100], 2)}
        return found


def campaign(options, kind, network, result):
    def lacks(section):
        """Of a run of one section: what it lacks yet."""
        if count > 1 or options.only or options.until_violation:
            return []
        so_far = Result()
        so_far.add(section, section.check()[0])
        return unseen(options, kind, so_far, deck)

    log = kind.log.make(network)
    deck, skipped = deck_of(options, network, kind.deck)
    count = max(1, round(options.seconds / SECTION_SECONDS))
    try:
        for number in range(count):
            began = time.monotonic()
            section = kind.section(options, network, log, options.seed + number)
            section_run(section, partial(torment, section, deck, kind.first, options.seconds / count, lacks), result, options.keep,
                        (Failure, AssertionError), 40)
            print(f"section {number + 1}/{count}: seed {options.seed + number}, {time.monotonic() - began:.0f} s, "
                  f"{result.violation_count()} violations, {len(result.failures)} failures", file=sys.stderr)
            if result.failures or (options.until_violation and result.violation_count()):
                break
    finally:
        log.end()
    return deck, skipped


def unseen(options, kind, result, deck):
    counters = result.counters
    missing = [f"{name}: {counters.get(name, 0)}, at least {least} are wanted" for name, least in {**SEEN, **kind.seen}.items() if counters.get(name, 0) < least]
    missing += [f"everything that was purged: {reason}" for reason in kind.reasons if not result.reasons.get(reason)]
    for number, name in enumerate(NAMES):
        if counters.get(f"host_checks_{number}", 0) < SEEN_BY_HOST:
            missing.append(f"answers from entries on host {name}: {counters.get(f'host_checks_{number}', 0)}, at least {SEEN_BY_HOST} are wanted")
    dealt = [card.__name__ for card in deck if result.nemeses.get(card.__name__)]
    if sum(result.nemeses[name] for name in dealt) < NEMESES_MIN or len(dealt) < KINDS_MIN:
        missing.append(f"enough nemeses: {', '.join(dealt)}")
    if options.seconds >= LONG_RUN_SECONDS:
        missing += [f"nemesis {card.__name__}" for card in deck if card.__name__ not in dealt]
    return missing


def table_print(result, skipped, network):
    counters = result.counters
    rows = [(text, counters.get(name, 0)) for name, text in TEXTS["hosts"].items() if isinstance(text, str)]
    rows += [(TEXTS[name], counters.get(name, 0)) for name in ("fills_sent", "checks", "not_modified", "known_otherwise", "unknown", "unknown_stale",
                                                              "unknown_no_lease", "violations_mixed", "violations_date")]
    rows += [(f"answers from entries on host {name}", counters.get(f"host_checks_{number}", 0)) for number, name in enumerate(NAMES)]
    rows += [("mutations that were due", counters.get("history_answered", 0)), ("answers judged", counters.get("history_checks", 0)),
             ("VIOLATIONS", counters.get("history_violations", 0)),
             ("sections", result.sections), ("... of which with a synchronous standby", result.synchronous)]
    rows += result.nemesis_rows()
    rows += [(f"everything was purged: {reason}", value) for reason, value in sorted(result.reasons.items())]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value:>12}")
    for proof, figures in sorted(result.figures().items()):
        print(f"{'OK: ' + proof:<{width}}  {figures['count']:>12}  median {figures['median_ms']} ms, p99 {figures['p99_ms']} ms")
    print(f"{'oldest answer, after a COMMIT with its event':<{width}}  {'':>12}  {100 * max(result.oldest, default=0):.0f} % of L_net")
    if result.fresh_again:
        took = sorted(result.fresh_again)
        print(f"{'all hosts fresh after a nemesis':<{width}}  {len(took):>12}  median {took[len(took) // 2]:.1f} s, longest {took[-1]:.1f} s")
    for name, why in skipped.items():
        print(f"nemesis {name}: skipped, {why}")
    if not network.is_apart():
        print(f"no network namespaces ({network.why}): all on 127.0.0.1, with the proxies alone")


def main():
    options = options_parse()
    # Ended from outside, it leaves nothing either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    result = Result()
    began = time.monotonic()
    kind = Kind.of(options)
    network = kind.network(NAMES, options.namespaces)
    apart = network.is_apart()
    try:
        deck, skipped = campaign(options, kind, network, result)
        for line in result.violations[:20]:
            print(line)
        if not options.until_violation:
            table_print(result, skipped, network)
            if not options.only and not result.violation_count() and not result.failures:
                result.failures += [f"saw too little of {name}" for name in unseen(options, kind, result, deck)]
    finally:
        network.end()
    for failure in result.failures[:20]:
        print("failure: " + failure)
    print(json.dumps({"seconds": round(time.monotonic() - began, 1), "seed": options.seed, "sections": result.sections, "namespaces": apart,
                      "violations": result.violation_count(), "failures": len(result.failures), "nemeses": result.nemeses,
                      "slowest": result.slowest, "counters": result.counters, "everything": result.reasons, "latencies": result.figures(), "oldest_of_l_net": round(max(result.oldest, default=0), 3)}))
    sys.exit(1 if result.violation_count() or result.failures else 0)


if __name__ == "__main__":
    main()
