# SPDX-License-Identifier: Apache-2.0
"""Many hosts on this machine: daemons, each with an etag-relay, and one PostgreSQL that syncs its disk. How long an event takes to the
other hosts, what a COMMIT costs with one, and what polling costs. Run by scripts/bench hosts.

usage: hosts.py [--quick] [--only PART] [--directory DIR]       PART: commit, poke, sql, everywhere, time, load, idle
    --directory: where the database is (default: /var/tmp, which should be a disk)
"""
import argparse
import datetime
import glob
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import psycopg2

import report

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
BUILD = os.path.join(ROOT, "build", "release")
sys.path.insert(0, os.path.join(BUILD, "integrations", "python"))
import etagd  # noqa: E402

L_NET_MS, WAIT_MS = 2000, 2550  # of the schema
WRITERS, EVENTS_PER_S, IDLE_HOSTS = 12, 1000, 20
KEY = etagd.Key(etagd.Resource("example.org", "/uploads/42"), etagd.PUBLIC)
REQUEST = etagd.Request("GET", KEY, [("If-None-Match", '"v1"')])
RESPONSE = etagd.Response([("ETag", '"v1"'), ("Cache-Control", "max-age=60")], surrogates=["upload:42"])


def until(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"not in {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.02)


def cpu_ns(pid):
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0])


class Database:
    def __init__(self, directory):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
        if not found:
            raise SystemExit("PostgreSQL is missing")
        self.programs, self.directory = os.path.dirname(found[-1]), directory
        self.user = "postgres" if os.geteuid() == 0 else None
        os.chmod(directory, 0o755)
        if self.user:
            shutil.chown(directory, self.user, self.user)
        self.run("initdb", "-D", "data", "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        self.run("pg_ctl", "-D", "data", "-w", "-l", os.path.join(directory, "log"), "-o",
                 f"-k {directory} -c listen_addresses='' -c fsync=on -c max_connections=200", "start")
        self.conninfo = f"host={directory} user=bench dbname=postgres"
        subprocess.run([os.path.join(BUILD, "relay", "etag-relay"), "--connection", self.conninfo, "setup"], check=True,
                       stdout=subprocess.DEVNULL)

    def run(self, name, *args, check=True):
        subprocess.run([os.path.join(self.programs, name), *args], user=self.user, group=self.user, extra_groups=[] if self.user else None,
                       check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=self.directory,
                       env={**os.environ, "LC_ALL": "C.UTF-8"})

    def connect(self, autocommit=True):
        made = psycopg2.connect(self.conninfo)
        made.autocommit = autocommit
        return made

    def version(self):
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            return cursor.fetchone()[0]

    def relay_backends(self):
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'etag-relay %'")
            return [row[0] for row in cursor.fetchall()]

    def end(self):
        self.run("pg_ctl", "-D", "data", "-m", "immediate", "stop", check=False)


class Host:
    def __init__(self, directory, name, database):
        self.directory = os.path.join(directory, name)
        os.makedirs(self.directory)
        self.socket = os.path.join(self.directory, "etagd.sock")
        self.log = open(os.path.join(self.directory, "log"), "ab")
        self.daemon = self.spawn(os.path.join(BUILD, "daemon", "etagd"), "--socket", self.socket, "--state-dir",
                                 os.path.join(self.directory, "state"), "--fresh", "--capacity", "1024", "--guard-linger-ms", "100",
                                 "--relay", "required")
        self.relay = self.spawn(os.path.join(BUILD, "relay", "etag-relay"), "--connection", database.conninfo, "--socket", self.socket, "--host",
                                name, "--run-dir", self.directory)

    def spawn(self, *command):
        return subprocess.Popen(command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)

    def status(self):
        done = subprocess.run([os.path.join(BUILD, "tools", "etagctl"), "--socket", self.socket, "--json", "status"], capture_output=True,
                              check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {"relay_margin_ms": 0, "holds_open": 1}

    def said(self):
        with open(self.log.name, encoding="utf-8") as log:
            return f"{log.read()}{self.status()}"

    def serves(self):
        status = self.status()
        return status["relay_margin_ms"] > 0 and status["holds_open"] == 0

    def end(self):
        for process in (self.relay, self.daemon):
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self.log.close()


class FrontEnd:
    """Of one host: the entry that it fills, and how long it answers 304 yet."""

    def __init__(self, host):
        self.client = etagd.Client(host.socket, timeout_ms=30000)
        self.client.connect()

    def fill(self):
        self.client.fill_wait(self.client.token(), KEY, RESPONSE)
        if self.client.check(REQUEST, self.client.token()).http_status != 304:
            raise SystemExit("what was filled is not answered")

    def stale_after(self, began):
        while self.client.check(REQUEST, self.client.token()).http_status == 304:
            time.sleep(0.00002)
            if time.perf_counter() - began > 30:
                raise SystemExit("the event does not arrive")
        return time.perf_counter() - began


class Run:
    def __init__(self, directory, quick):
        self.directory, self.quick = directory, quick
        self.hosts, self.figures = [], []
        self.database = Database(os.path.join(directory, "database"))

    def end(self):
        for host in self.hosts:
            host.end()
        self.database.end()

    def host(self, *names):
        made = [Host(self.directory, name, self.database) for name in names]
        self.hosts += made
        for host in made:
            until(host.serves, lambda host=host: f"a host that serves:\n{host.said()}")
        # Acknowledgements prove nothing before the witness is as old as that.
        time.sleep(WAIT_MS / 1000)
        return made

    def value(self, group, figure, value, unit, goal=0):
        self.figures.append({"group": group, "figure": figure, "value": value, "unit": unit, "goal": goal})
        print(report.line_of(self.figures[-1]), file=sys.stderr, flush=True)

    def times(self, group, seconds, median=0, p99=0, most=0):
        ms = sorted(1000 * second for second in seconds)
        self.value(group, f"median of {len(ms)}", statistics.median(ms), "ms", median)
        self.value(group, "p99", ms[int(0.99 * (len(ms) - 1) + 0.5)], "ms", p99)
        self.value(group, "most", ms[-1], "ms", most)

    def rounds(self, quick, full):
        for i in range(quick if self.quick else full):
            time.sleep(0.02 + 0.017 * (i % 3))  # none while the former one is still on its way
            yield i

    # ---- One part each ----

    def commit(self):
        """The same update and fsync, without an event and with one, in turn."""
        connection = self.database.connect(autocommit=False)
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE uploads AS SELECT n AS id, 0 AS size FROM generate_series(1, 1000) n; CREATE UNIQUE INDEX ON uploads (id)")
        connection.commit()
        found = {False: ([], []), True: ([], [])}
        for i in range(400 if self.quick else 4000):
            event = i % 2 == 1
            whole = time.perf_counter()
            cursor.execute("UPDATE uploads SET size = size + 1 WHERE id = %s", (i % 1000 + 1,))
            if event:
                cursor.execute("SELECT etagd.invalidate('upload:7')")
            began = time.perf_counter()
            connection.commit()
            end = time.perf_counter()
            found[event][0].append(end - began)
            found[event][1].append(end - whole)
        connection.close()
        for part, what, goal in ((0, "COMMIT", 1.1), (1, "whole transaction", 0)):
            without, given = (1000 * statistics.median(found[event][part]) for event in (False, True))
            self.value("commit", f"{what} without an event", without, "ms")
            self.value("commit", f"{what} with one", given, "ms")
            self.value("commit", f"{what} with one, to one without", given / without, "x", goal)

    def event(self, connection):
        """Committed; its position, and when COMMIT had returned."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT etagd.invalidate('upload:42')")
            position = int(cursor.fetchone()[0])
        return position, time.perf_counter()

    def poke(self):
        connection, writer, reader = self.database.connect(), FrontEnd(self.hosts[0]), FrontEnd(self.hosts[1])
        found = []
        for _ in self.rounds(50, 1000):
            reader.fill()
            position, committed = self.event(connection)
            writer.client.invalidate(surrogates=["upload:42"], position=position, reach="host")
            found.append(reader.stale_after(committed))
        self.times("COMMIT returned, own relay poked, to no 304 on another host", found, median=1.5, p99=15)

    def sql(self):
        connection, reader = self.database.connect(), FrontEnd(self.hosts[1])
        found = []
        for i in self.rounds(20, 200):
            time.sleep(i * 0.0777 % 0.4)  # at any time between two polls
            reader.fill()
            found.append(reader.stale_after(self.event(connection)[1]))
        self.times("a writer of SQL alone, to no 304 on another host", found, p99=L_NET_MS / 5 + 10, most=L_NET_MS)

    def everywhere(self):
        writer, readers = FrontEnd(self.hosts[0]), [FrontEnd(host) for host in self.hosts[1:3]]
        found = []
        for _ in self.rounds(50, 1000):
            for reader in readers:
                reader.fill()
            began = time.perf_counter()
            writer.client.invalidate(surrogates=["upload:42"], reach="everywhere")
            found.append(time.perf_counter() - began)
            for reader in readers:
                if reader.client.check(REQUEST, reader.client.token()).http_status == 304:
                    raise SystemExit("everywhere, and answered 304")
        self.times("everywhere, three hosts acknowledge", found, median=2)

    def time(self):
        writer, away = FrontEnd(self.hosts[0]), self.hosts[2]
        away.relay.send_signal(signal.SIGSTOP)
        found = []
        for _ in self.rounds(1, 5):
            began = time.perf_counter()
            writer.client.invalidate(surrogates=["upload:42"], reach="everywhere")
            found.append(time.perf_counter() - began)
        away.relay.send_signal(signal.SIGCONT)
        until(away.serves, "the host is back")
        # Besides wait_ms: the time to the log, and the clock's grain.
        self.times("everywhere, by time", found, median=WAIT_MS + 15)

    def polling(self, group, seconds, goal_relay):
        """What relays and their sessions compute meanwhile."""
        backends, relays = self.database.relay_backends(), [host.relay.pid for host in self.hosts]
        before = [sum(map(cpu_ns, pids)) for pids in (backends, relays)]
        began = time.perf_counter()
        time.sleep(seconds)
        took = time.perf_counter() - began
        primary, relay = [100 * (sum(map(cpu_ns, pids)) - ns) / 1e9 / took for pids, ns in zip((backends, relays), before)]
        self.value(group, f"the primary's sessions of {len(backends)} relays", primary, "% of a core", 2 if len(backends) >= IDLE_HOSTS else 3)
        self.value(group, "a relay", relay / len(relays), "% of a core", goal_relay)

    def load(self):
        done, counts = threading.Event(), [0] * WRITERS

        def write(number):
            connection = self.database.connect()
            cursor = connection.cursor()
            due = time.perf_counter()
            while not done.is_set():
                cursor.execute("SELECT etagd.invalidate(%s)", (f"upload:{number * 1000 + counts[number] % 1000}",))
                counts[number] += 1
                due = max(due + WRITERS / EVENTS_PER_S, time.perf_counter() - 1)
                time.sleep(max(0.0, due - time.perf_counter()))
            connection.close()

        writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(1)
        before, began = sum(counts), time.perf_counter()
        group = f"{EVENTS_PER_S} events a second from {WRITERS} writers, three hosts"
        self.polling(group, 5 if self.quick else 30, goal_relay=3)
        self.value(group, "events there were", (sum(counts) - before) / (time.perf_counter() - began), "/s")
        done.set()
        for writer in writers:
            writer.join()

    def idle(self):
        self.host(*[f"idle{i}" for i in range(len(self.hosts), IDLE_HOSTS)])
        time.sleep(2)
        self.polling(f"{IDLE_HOSTS} hosts, idle", 5 if self.quick else 30, goal_relay=0)

    def all(self, only):
        self.host("a", "b", "c")
        for part in ("commit", "poke", "sql", "everywhere", "time", "load", "idle"):
            if only in (None, part):
                getattr(self, part)()


def write(run):
    place = os.path.join(ROOT, "bench", "results", "latest" if run.quick else "")
    os.makedirs(place, exist_ok=True)
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    now = datetime.datetime.now(datetime.timezone.utc)
    path = os.path.join(place, f"hosts-{now:%Y-%m-%d}-{re.sub('[^a-z0-9]+', '-', cpu.lower()).strip('-')}.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"date": f"{now:%Y-%m-%dT%H:%M:%SZ}", "quick": run.quick, "cpu": cpu, "cpus": os.cpu_count(), "load": os.getloadavg()[0],
                   "postgresql": run.database.version(), "figures": run.figures}, file, indent=1)
        file.write("\n")
    print("written:", os.path.relpath(path, ROOT))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only")
    parser.add_argument("--directory", default="/var/tmp")
    options = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="etagd-bench-", dir=options.directory)
    os.chmod(directory, 0o755)
    os.mkdir(os.path.join(directory, "database"))
    run = None
    try:
        run = Run(directory, options.quick)
        run.all(options.only)
        print(report.table(run.figures))
        if not options.only:
            write(run)
    finally:
        if run:
            run.end()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
