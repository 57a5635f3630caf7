# SPDX-License-Identifier: Apache-2.0
"""One section of a run on many hosts: on each an etagd, an etag-relay and workers; one database with a standby; the histories.

As in campaign.py everything happens in one thread, and only processes that the section started are stopped or ended, by pid.
"""
import glob
import json
import mmap
import os
import shutil
import signal
import struct
import subprocess
import time

import relay_db
from campaign import LINGER_MS, PROGRAMS, TEXTS, WORKER, Failure, Section, TortureDaemon, Worker
from harness import bound, wait_until

HOSTS_WORKER = os.path.join(PROGRAMS, "torture_hosts_worker")
NAMES = ("a", "b", "c")
SLOTS = TEXTS["hosts"]["host_slots"]
# A coarse clock lags, and a front end may begin between two of its ticks.
COARSE_MS = 50
# Of a transaction: it holds nobody up for long.
BOUNDS = " options='-c lock_timeout=1000 -c idle_in_transaction_session_timeout=2000'"
COMMIT, ANSWERED, LOST, CUT = 1, 2, 4, 5
LOGGED = 5  # an outcome of COMMIT
WRITERS = ("sql", "library", "psql", "etcd")  # who count how long a call took
RECORD = struct.Struct("<BBBBIQQQQ")
HISTORY_MAGIC = 0x79726F7473696874
KEYS = TEXTS["rows"]


class HostDaemon(TortureDaemon):
    def command(self):
        return self.wrapper + super().command()


class Host:
    def __init__(self, section, number, name):
        self.section, self.number, self.name = section, number, name
        self.directory = os.path.join(section.directory, name)
        os.mkdir(self.directory)
        self.run = os.path.join(self.directory, "run")
        os.mkdir(self.run)
        os.mkdir(os.path.join(self.directory, "state"), 0o700)
        self.prefix = section.network.prefix(name)
        self.daemon = HostDaemon(self.directory, section.options, section.random.choice(("epoll", "auto")),
                                 section.random.choice(("process", "process", "power")))
        self.daemon.wrapper = self.prefix
        self.daemon.args = ["--relay", "required"]
        self.daemon.linger_ms = section.linger_ms
        self.proxy = section.way_make(name)
        self.relay = None
        self.log = os.path.join(self.directory, "relay.log")
        self.workers = []

    def connection(self, user="etagd", more=""):
        return f"host=127.0.0.1 port={self.proxy.port} user={user} dbname={self.section.database_name}{more}"

    def daemon_start(self):
        self.daemon.lease_ms = self.section.random.randint(200, 1000)
        self.daemon.spawn()
        try:
            self.daemon.wait_log(r"event=serving.*", 60)
        except AssertionError as error:
            raise Failure(f"the daemon of {self.name} does not start: {error}") from error

    def relay_start(self):
        with open(self.log, "ab") as log:
            self.relay = subprocess.Popen(
                [*self.prefix, relay_db.RELAY, *self.section.relay_options(self), "--socket", self.daemon.socket, "--host", self.name,
                 "--run-dir", self.run], stderr=log, stdin=subprocess.DEVNULL)

    def relay_kill(self):
        self.relay_alive()
        self.relay.kill()
        self.relay.wait()

    def relay_alive(self):
        if self.relay.poll() is not None:
            raise Failure(f"the relay of {self.name} ended by itself with status {self.relay.returncode}")

    def daemon_kill(self):
        self.daemon_alive()
        self.daemon.kill()

    def daemon_alive(self):
        if self.daemon.process.poll() is not None:
            raise Failure(f"the daemon of {self.name} ended by itself with status {self.daemon.process.returncode}:\n" + self.daemon.last_words())

    def status(self):
        done = self.daemon.ctl_raw("--json", "status", timeout_ms=3000)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def is_fresh(self):
        return self.status().get("relay_margin_ms", 0) > 0

    def processes(self):
        """All of the host, as far as they run."""
        return [p for p in [self.daemon.process, self.relay, *self.proxy.processes(), *(worker.process for worker in self.workers)]
                if p and p.poll() is None]

    def end(self):
        self.daemon.end()
        if self.relay and self.relay.poll() is None:
            self.relay.kill()
            self.relay.wait()
        self.proxy.end()


class HostsSection(Section):
    """The hosts have a PostgreSQL in common."""

    roles = ("sql", "library", "filler", "filler", "reader", "reader")
    leases_ms = (500, 700, 1000)
    linger_ms = LINGER_MS

    def __init__(self, options, network, pair, seed):
        super().__init__(options, "epoll", "process", seed)
        self.network, self.pair = network, pair
        self.l_net_ms = options.l_net_ms or self.random.choice(self.leases_ms)
        self.follow_ms = self.l_net_ms * options.follow_percent // 100 + COARSE_MS
        self.pair_synchronous = self.random.randrange(2) == 0
        self.database_name = f"torture{seed}_{time.monotonic_ns()}"
        self.hosts = []
        self.workers = []
        self.fates = []
        self.fresh_again = []  # seconds after a nemesis

    # ---- Beginning ----

    def log_begin(self):
        """What hosts have in common."""
        self.pair.primary.database(self.database_name)
        self.sql(f"UPDATE etagd.setting SET lease_ms = {self.l_net_ms}, wait_ms = {self.l_net_ms + (self.l_net_ms + 3) // 4 + 50}")
        self.table_make()
        self.pair.set_synchronous(self.pair_synchronous)

    def table_make(self):
        self.sql("CREATE TABLE public.page (key int PRIMARY KEY, version bigint NOT NULL) WITH (fillfactor = 50)")
        self.sql(f"INSERT INTO page SELECT k, 0 FROM generate_series(0, {KEYS - 1}) k")

    def truth_begin(self):
        subprocess.run([WORKER, "make", self.directory], check=True)
        with open(os.path.join(self.directory, "truth"), "r+b") as f:
            self.truth = mmap.mmap(f.fileno(), 0)

    def begin(self):
        self.log_begin()
        self.truth_begin()
        self.hosts = [Host(self, number, name) for number, name in enumerate(NAMES)]
        for host in self.hosts:
            host.daemon_start()
            host.relay_start()
        self.all_fresh()
        for host in self.hosts:
            for number, role in enumerate(self.roles):
                worker = Worker(role, host.number * SLOTS + number)
                worker.host = host
                host.workers.append(worker)
                self.workers.append(worker)
                self.worker_start(worker)

    def way_make(self, name):
        """From a host to the database."""
        return self.network.proxy(name, self.pair.primary.port)

    def relay_options(self, host):
        return ["--connection", host.connection()]

    def worker_options(self, host, _role):
        return ["--database", host.connection(more=BOUNDS)]

    def worker_command(self, role, slot, generation):
        host = self.hosts[slot // SLOTS]
        command = [*host.prefix, HOSTS_WORKER, role, str(slot), self.directory, host.daemon.socket, str(self.seed * 1000003 + slot * 1009 + generation),
                   "--sample", "1", "--records", str(1 << 19), "--follow-ms", str(self.follow_ms), *self.worker_options(host, role)]
        # Longer than everything by time takes; sometimes not.
        timeout_ms = 300 if generation % 4 == 3 else int(bound(5000))
        return command + ["--timeout-ms", str(timeout_ms)]

    def others_look(self):
        """Daemons and relays end by the nemesis alone, which starts them again."""
        for host in self.hosts:
            host.relay_alive()
            host.daemon_alive()

    def resting(self, seconds):
        """rest() while a part of a host is down."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(0.02, max(0, end - time.monotonic())))

    def fresh(self, host, seconds=30):
        try:
            wait_until(host.is_fresh, seconds, f"host {host.name} is fresh")
        except AssertionError as error:
            raise Failure(f"{error}\n{host.daemon.last_words() if host.daemon.process.poll() is not None else ''}"
                          f"{self.last_of(host.log)}") from error

    def all_fresh(self):
        """Waits for it; returns the seconds that it took."""
        began = time.monotonic()
        for host in self.hosts:
            self.fresh(host)
        return time.monotonic() - began

    @staticmethod
    def last_of(path):
        with open(path, encoding="utf-8", errors="replace") as f:
            return "".join(f.readlines()[-10:])

    def sql(self, text):
        return self.pair.primary.sql(text, database=self.database_name)

    # ---- What the checker has to know ----

    def cut_was(self, host, since_ns):
        """Nothing of the database came to the host since then, until now."""
        begin = since_ns + self.follow_ms * 1000000
        now = time.monotonic_ns()
        if begin < now:
            self.fates.append(RECORD.pack(CUT, 0, 0, host.number * SLOTS, 0, 0, begin, now, 0))
            self.fates_write()

    @staticmethod
    def row_offset(key):
        return TEXTS["rows_offset"] + key * TEXTS["row_bytes"]

    def row_word(self, key):
        return struct.unpack_from("<Q", self.truth, self.row_offset(key))[0]

    def lost_since(self, before_ns, after_ns):
        """After a promotion, before anybody reaches the new primary: which versions there are."""
        rows = self.sql("SELECT CASE WHEN key < 0 THEN -1 - key ELSE key END, version FROM page")
        lost = 0
        for key, version in rows:
            newest = self.row_word(key)
            if version < newest:
                lost += newest - version
                self.fates.append(RECORD.pack(LOST, 0, 0, 0, key, version, before_ns, after_ns + self.follow_ms * 1000000, newest))
        self.fates_write()
        self.nemeses["versions_lost_or_never_committed"] = self.nemeses.get("versions_lost_or_never_committed", 0) + lost

    def fates_write(self):
        """As a history of its own, whole at any time."""
        path = os.path.join(self.directory, "history-fates")
        with open(path + ".new", "wb") as f:
            f.write(struct.pack("<QQQ", HISTORY_MAGIC, len(self.fates), len(self.fates)) + b"".join(self.fates))
        os.rename(path + ".new", os.path.join(self.directory, "history-fates"))

    # ---- The end ----

    def end(self):
        self.load_end()
        for host in self.hosts:
            host.relay_alive()
            host.relay.terminate()
            status = host.relay.wait(bound(20))
            if status != 0:
                self.failures.append(f"the last exit status of the relay of {host.name} was {status}")
            host.daemon_alive()
            status = host.daemon.stop()
            if status != 0:
                self.failures.append(f"the last exit status of the daemon of {host.name} was {status}")
        self.log_end()
        self.leaks_of_the_dead()

    def log_end(self):
        """What is left of it makes the next standby take longer to copy."""
        self.pair.primary.sql(f"DROP DATABASE {self.database_name} WITH (FORCE)", database="postgres")

    def close(self, keep):
        self.workers_end()
        self.database_end()
        for host in self.hosts:
            host.end()
        self.stderr.close()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def everything_reasons(self):
        """Why relays purged everything, as their logs say."""
        found = {}
        for host in self.hosts:
            with open(host.log, encoding="utf-8", errors="replace") as f:
                for line in f:
                    if "event=everything " in line:
                        reason = line.split("reason=")[1].split()[0]
                        found[reason] = found.get(reason, 0) + 1
                    elif "event=watch_broken " in line:
                        found["watch_broken"] = found.get("watch_broken", 0) + 1
        return found

    def latencies(self):
        """Of writers: what proved it -> milliseconds from COMMIT, or from the call, to OK."""
        found = {}
        for path in [path for role in WRITERS for path in glob.glob(os.path.join(self.directory, f"history-{role}-*"))]:
            with open(path, "rb") as f:
                count = struct.unpack("<QQQ", f.read(24))[2]
                for record in RECORD.iter_unpack(f.read(count * RECORD.size)):
                    if record[0] == ANSWERED and record[8]:
                        found.setdefault(record[2], []).append(record[8] / 1e6)
        return found

    def stop(self, processes):
        for process in processes:
            process.send_signal(signal.SIGSTOP)

    def go_on(self, processes):
        for process in processes:
            process.send_signal(signal.SIGCONT)
