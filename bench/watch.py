#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What etagd.watch() costs writers and polls, on a PostgreSQL of its own with fsync on: a table that is watched beside the same one
that is not, in rounds of one run. Prints a table: figure, unwatched, watched, ratio, goal.

usage: bench/watch.py [--quick] [--json FILE]
"""
import argparse
import glob
import json
import os
import pwd
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import psycopg2

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
ROUNDS, SINGLE, BULK_ROUNDS, BULK_ROWS = 7, 500, 5, 1_000_000
COLUMNS = "(id bigint PRIMARY KEY, customer_id int NOT NULL, title text NOT NULL)"
PLAIN, WATCHED = "plain", "watched"


class Cluster:
    """In a directory on a disk: the cost of a commit is the disk's."""

    def __init__(self, place):
        programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        if not programs:
            sys.exit("postgresql is missing")
        self.programs = programs[-1]
        self.directory = tempfile.mkdtemp(prefix="etagd-bench-", dir=place)
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            os.chown(self.directory, pwd.getpwnam(self.user).pw_uid, pwd.getpwnam(self.user).pw_gid)
        self.run("initdb", "-D", "data", "-U", "etagd", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        self.run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", f"-k {self.directory} -c listen_addresses='' -c max_wal_size=8GB -c autovacuum=off", "start")

    def run(self, name, *arguments):
        subprocess.run([os.path.join(self.programs, name), *arguments], user=self.user, cwd=self.directory, check=True, stdout=subprocess.DEVNULL,
                       stdin=subprocess.DEVNULL, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, **({"group": self.user, "extra_groups": []} if self.user else {}))

    def connect(self):
        made = psycopg2.connect(f"host={self.directory} user=etagd dbname=postgres")
        made.autocommit = True
        return made.cursor()

    def close(self):
        self.run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")
        shutil.rmtree(self.directory)


def timed_ms(cursor, text, *values):
    begun = time.perf_counter()
    cursor.execute(text, values or None)
    return (time.perf_counter() - begun) * 1000


def set_up(cursor, rows):
    script = ""
    for part in ("schema.sql", "watch.sql", "rights.sql"):
        with open(os.path.join(ROOT, "relay", "sql", part), encoding="utf-8") as f:
            script += f.read()
    cursor.execute(script)
    cursor.execute("SET search_path = public")
    for table in (PLAIN, WATCHED):
        cursor.execute(f"CREATE TABLE {table} {COLUMNS}")
        cursor.execute(f"INSERT INTO {table} SELECT n, n % 1000, 'title of ' || n FROM generate_series(1, {rows}) n")
    cursor.execute("SELECT etagd.watch('watched', 'upload:{id}', 'customer:{customer_id}')")
    cursor.execute("VACUUM ANALYZE")
    cursor.execute("CHECKPOINT")


def single_rows(cursor, rounds, count):
    """One row by its key, a transaction each: medians of the rounds, in turns."""
    found = {PLAIN: [], WATCHED: []}
    for number in range(rounds + 1):
        for table in (PLAIN, WATCHED):
            times = [timed_ms(cursor, f"UPDATE {table} SET title = %s WHERE id = %s", f"t{number}", 1 + (i * 7919) % 10000) for i in range(count)]
            if number > 0:  # the first has plans to make
                found[table].append(statistics.median(times))
    return found


def bulk(cursor, rounds, rows):
    found = {PLAIN: [], WATCHED: []}
    for number in range(rounds):
        for table in ((PLAIN, WATCHED) if number % 2 else (WATCHED, PLAIN)):
            cursor.execute("TRUNCATE etagd.outbox")
            cursor.execute("CHECKPOINT")
            found[table].append(timed_ms(cursor, f"UPDATE {table} SET title = 'bulk' || id"))
            cursor.execute("SELECT count(*) FROM etagd.outbox")
            events = cursor.fetchone()[0]
            if events != (table == WATCHED):
                sys.exit(f"an update of {rows} rows of {table} is {events} events")
            cursor.execute(f"VACUUM {table}")
    return found


def names(cursor, counts, rounds):
    """A statement of so many rows: named one at a time, and as families."""
    found = {}
    for count in counts:
        for limit, kind in ((10000, "named"), (1, "family")):
            cursor.execute("SELECT etagd.set_watch_rows(%s)", (limit,))
            text = f"UPDATE {WATCHED} SET title = 'n' WHERE id <= {count}"
            found[count, kind] = statistics.median(timed_ms(cursor, text) for _ in range(rounds))
        found[count, PLAIN] = statistics.median(timed_ms(cursor, f"UPDATE {PLAIN} SET title = 'n' WHERE id <= {count}") for _ in range(rounds))
        cursor.execute("VACUUM")
    cursor.execute("SELECT etagd.set_watch_rows(200)")
    return found


def polls(cursor, rounds):
    """A poll of nothing new, by how many tables of 15 columns are watched."""
    text = "SELECT * FROM etagd.poll(pg_current_snapshot(), 'a', 'e0a1c2b3000000000000000000000001', 4096, 262144)"
    found = {}
    cursor.execute("SELECT etagd.unwatch('watched')")
    made = 0
    for count in (0, 1, 10, 50, 200):
        for made in range(made, count):
            cursor.execute(f"CREATE TABLE w{made} (id bigint PRIMARY KEY, {', '.join(f'c{i} int' for i in range(14))})")
            cursor.execute(f"SELECT etagd.watch('w{made}', 'w:{{id}}')")
        made = count
        found[count] = statistics.median([timed_ms(cursor, text) for _ in range(rounds)])
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="in half a minute, to see that it works")
    parser.add_argument("--json", help="write the figures there")
    parser.add_argument("--place", default="/var/tmp", help="a directory on a disk")
    given = parser.parse_args()
    rows = 20_000 if given.quick else BULK_ROWS
    cluster = Cluster(given.place)
    try:
        cursor = cluster.connect()
        set_up(cursor, rows)
        figures = {"rows": rows, "single_ms": single_rows(cursor, 2 if given.quick else ROUNDS, 50 if given.quick else SINGLE),
                   "bulk_ms": bulk(cursor, 2 if given.quick else BULK_ROUNDS, rows)}
        by_count = names(cursor, (10, 100, 500, 1000, 4000), 3 if given.quick else 15)
        figures["names_ms"] = {f"{count} rows, {kind}": value for (count, kind), value in by_count.items()}
        figures["poll_ms"] = polls(cursor, 20 if given.quick else 300)
    finally:
        cluster.close()
    print(f"{'figure':44} {'unwatched':>10} {'watched':>10} {'ratio':>6} {'goal':>6}")
    for name, key, goal in (("one row by its key, ms a transaction", "single_ms", 1.15), (f"one statement of {rows} rows, ms", "bulk_ms", 1.3)):
        plain, watched = (statistics.median(figures[key][table]) for table in (PLAIN, WATCHED))
        ratio = statistics.median(w / p for p, w in zip(figures[key][PLAIN], figures[key][WATCHED]))
        print(f"{name:44} {plain:10.3f} {watched:10.3f} {ratio:6.2f} {goal:6.2f}")
    for name, value in figures["names_ms"].items():
        print(f"update of {name:34} {value:10.2f} ms")
    for count, value in figures["poll_ms"].items():
        print(f"poll with {count:3} watched tables {'':17} {value:10.3f} ms")
    if given.json:
        with open(given.json, "w", encoding="utf-8") as f:
            json.dump(figures, f, indent=1)


main()
