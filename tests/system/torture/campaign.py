# SPDX-License-Identifier: Apache-2.0
"""One section of a torture run: a daemon, its workers, the truth that they share, and what must be left at the end.

Everything happens in one thread. Only processes that the section started are stopped or ended, by pid; a process that the
nemesis stopped is continued by the section's clock, whatever else goes on meanwhile.
"""
import heapq
import json
import mmap
import os
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness import BUILD, Daemon, bound, content_of, descriptors  # noqa: E402

PROGRAMS = os.path.join(BUILD, "tests", "system", "torture")
WORKER = os.path.join(PROGRAMS, "torture_worker")
CHECK = os.path.join(PROGRAMS, "torture_check")
HOSTILE_UID = 12345  # has no role
ROLES = ("writer", "writer", "writer", "writer", "writer", "filler", "filler", "filler", "reader", "reader", "reader")
TEXTS = json.loads(subprocess.run([CHECK, "--texts"], stdout=subprocess.PIPE, check=True, text=True).stdout)
LINGER_MS = 600
LEASE_MS_MIN, LEASE_MS_MAX = 50, 300
STATE_BYTES = 96 << 20
START_SECONDS_MAX = 5


class TortureDaemon(Daemon):
    """The daemon of a section: options change between its runs."""

    def __init__(self, directory, options, loop, durability):
        super().__init__(directory, linger_ms=LINGER_MS)
        self.options, self.loop, self.durability = options, loop, durability
        self.binary = os.environ.get("TORTURE_ETAGD") or os.path.join(BUILD, "daemon", "etagd")

    def command(self):
        command = [self.binary, "--socket", self.socket, "--socket-mode", "0666", "--state-dir", self.state, "--lease-ms", str(self.lease_ms),
                   "--capacity", "4096", "--clocks", "4096", "--loop", self.loop, "--durability", self.durability,
                   "--guard-linger-ms", str(self.linger_ms)]
        return command + self.args

    def last_words(self):
        """The end of the log; where a sanitizer ended it, all that it said."""
        for reader in self.readers:
            reader.join(bound(5))
        lines = self.lines
        begins = [i for i, line in enumerate(lines) if "Sanitizer" in line or "assert" in line.lower()]
        return "\n".join(lines[max(0, begins[0] - 2):][:120] if begins else lines[-20:])

    def spawn(self):
        # The former run's last lines must not be taken for this one's.
        for reader in self.readers:
            reader.join(bound(10))
        self.readers = []
        return super().spawn()


class Worker:
    def __init__(self, role, slot):
        self.role, self.slot = role, slot
        self.process = None
        self.stopped = False
        self.generation = 0


class Failure(Exception):
    """The run has failed, whatever the checkers say."""


class Section:
    def __init__(self, options, loop, durability, seed):
        self.options = options
        self.random = random.Random(seed)
        self.seed = seed
        self.directory = tempfile.mkdtemp(prefix="etagd-torture-", dir=options.directory)
        # The hostile user has to get as far as the spool.
        os.chmod(self.directory, 0o711)
        self.daemon = TortureDaemon(self.directory, options, loop, durability)
        self.nemeses = {}
        self.slowest = {}  # seconds that one took
        self.starts = {"warm": 0, "cold": 0}
        self.daemon_counters = {}  # by incarnation
        self.failures = []
        self.due = []  # (when, number, what): what the clock has to do
        self.due_number = 0
        self.workers = [Worker(role, slot) for slot, role in enumerate(ROLES)]
        self.database = None
        self.mounted = False
        self.stderr = open(os.path.join(self.directory, "stderr"), "a", encoding="utf-8")

    # ---- Beginning ----

    def begin(self):
        os.mkdir(self.daemon.state, 0o700)
        if self.options.disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={STATE_BYTES},mode=700", "etagd-torture",
                            self.daemon.state], check=True)
            self.mounted = True
        subprocess.run([WORKER, "make", self.directory], check=True)
        with open(os.path.join(self.directory, "truth"), "r+b") as f:
            self.truth = mmap.mmap(f.fileno(), 0)
        self.daemon_start()
        self.database = subprocess.Popen(self.worker_command("database", len(self.workers), 0), stdin=subprocess.PIPE,
                                         stderr=self.stderr)
        for worker in self.workers:
            self.worker_start(worker)

    def worker_command(self, role, slot, generation):
        command = [WORKER, role, str(slot), self.directory, self.daemon.socket,
                   str(self.seed * 1000003 + slot * 1009 + generation), "--sample", str(self.options.sample),
                   "--bound-ms", str(int(bound(1000)))]
        if self.options.delays:
            command += ["--late-ms", str(LEASE_MS_MAX + 300)]
        for flag, wanted in (("--no-guards", not self.options.guards), ("--no-spool", not self.options.spool),
                             ("--wrong", self.options.wrong_writer)):
            if wanted:
                command.append(flag)
        return command

    def worker_start(self, worker):
        worker.generation += 1
        worker.process = subprocess.Popen(self.worker_command(worker.role, worker.slot, worker.generation),
                                          stdin=subprocess.DEVNULL, stderr=self.stderr, env=self.worker_environment(worker))

    def worker_environment(self, _worker):
        """None: that of the campaign."""
        return None

    # ---- The clock ----

    def at(self, seconds, what):
        self.due_number += 1
        heapq.heappush(self.due, (time.monotonic() + seconds, self.due_number, what))

    def rest(self, seconds):
        """Lets the run go on for so long."""
        end = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            while self.due and self.due[0][0] <= now:
                heapq.heappop(self.due)[2]()
            self.workers_look()
            if now >= end:
                return
            time.sleep(min(0.01, end - now))

    def workers_look(self):
        for worker in self.workers:
            status = worker.process.poll()
            if status is None:
                continue
            if status != -signal.SIGKILL:
                self.failures.append(f"a {worker.role} ended by itself with status {status}")
            self.stop_mark(worker, False)
            self.worker_start(worker)
        self.others_look()

    def others_look(self):
        if self.database.poll() is not None:
            raise Failure(f"the database process ended with status {self.database.returncode}")

    def stop_mark(self, worker, stopped):
        """Tells the worker that it was stopped: the times of its calls mean nothing."""
        if worker.stopped != stopped:
            offset = TEXTS["stops_offset"] + 8 * worker.slot
            struct.pack_into("<Q", self.truth, offset, struct.unpack_from("<Q", self.truth, offset)[0] + 1)
            worker.stopped = stopped

    def some_workers_kill(self, most):
        for worker in self.random.sample(self.workers, self.random.randint(1, most)):
            if worker.process.poll() is None:
                worker.process.kill()
            self.rest(self.random.random() * 0.1)

    def worker_stop(self, worker, seconds):
        if worker.stopped or worker.process.poll() is not None:
            return
        self.stop_mark(worker, True)
        worker.process.send_signal(signal.SIGSTOP)
        self.at(seconds, lambda: self.worker_continue(worker))

    def worker_continue(self, worker):
        if worker.stopped:
            worker.process.send_signal(signal.SIGCONT)
            self.stop_mark(worker, False)

    # ---- The daemon ----

    def daemon_start(self, may_fail=False):
        """False: it did not start, and said why."""
        d = self.daemon
        d.lease_ms = self.random.randint(LEASE_MS_MIN, LEASE_MS_MAX)
        d.spawn()
        return self.daemon_serves(may_fail)

    def daemon_serves(self, may_fail=False):
        began = time.monotonic()
        try:
            found = self.daemon.wait_log(r"event=serving.*start=(\w+)", 60)
        except AssertionError as error:
            if may_fail and self.daemon.process.poll() is not None:
                return False
            raise Failure(f"the daemon does not start: {error}") from error
        self.starts[found.group(1)] += 1
        took = time.monotonic() - began
        if took > bound(START_SECONDS_MAX):
            self.failures.append(f"a start took {took:.1f} s:\n" + "\n".join(self.daemon.lines[:20]))
        return True

    def daemon_kill(self):
        self.daemon_alive()
        self.sample_counters()
        self.daemon.kill()

    def daemon_alive(self):
        if self.daemon.process.poll() is not None:
            raise Failure(f"the daemon ended by itself with status {self.daemon.process.returncode}:\n" +
                          self.daemon.last_words())

    def status(self):
        done = self.daemon.ctl_raw("--json", "status", timeout_ms=3000)
        if done.returncode != 0:
            return None
        return json.loads(done.stdout)

    def sample_counters(self):
        """What the daemon counted; its next run begins anew."""
        status = self.status()
        if status:
            self.daemon_counters[status["incarnation"]] = {
                name: value for name, value in status.items() if isinstance(value, int) and not isinstance(value, bool)}

    # ---- The spool ----

    def spool(self):
        """The spool directory, None where there is none."""
        path = os.path.realpath(os.path.join(self.directory, "spool"))
        return path if os.path.isdir(path) else None

    def hostile_remove(self):
        spool = self.spool()
        for name in os.listdir(spool) if spool else ():
            path = os.path.join(spool, name)
            try:
                st = os.lstat(path)
                if st.st_uid != HOSTILE_UID:
                    continue
                if stat.S_ISDIR(st.st_mode):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    os.unlink(path)
            except FileNotFoundError:
                pass

    # ---- The end ----

    def load_end(self):
        for worker in self.workers:
            self.worker_continue(worker)
        struct.pack_into("<I", self.truth, TEXTS["end_offset"], 1)
        for worker in self.workers:
            self.worker_wait(worker)

    def end(self):
        """Ends the load, and looks for what must not be left."""
        self.load_end()
        self.database_stop()
        self.hostile_remove()
        self.leaks_of_the_living()
        status = self.daemon.stop()
        if status != 0:
            self.failures.append(f"the daemon's last exit status was {status}")
        self.leaks_of_the_dead()

    def database_stop(self):
        self.database.stdin.close()
        if self.database.wait(bound(20)) != 0:
            self.failures.append("the database process failed")

    def worker_wait(self, worker):
        try:
            status = worker.process.wait(bound(20))
        except subprocess.TimeoutExpired:
            self.failures.append(f"a {worker.role} did not end")
            worker.process.kill()
            worker.process.wait()
            return
        # Writers vanish at any time, also at the last moment.
        if status not in (0, -signal.SIGKILL):
            self.failures.append(f"a {worker.role} ended with status {status}")

    def settled(self, look, seconds):
        end = time.monotonic() + bound(seconds)
        while True:
            left = look()
            if not left or time.monotonic() > end:
                return left
            time.sleep(0.05)

    def spool_left(self):
        """What should not be there: all but mark, lock, the reserve, garbage that was set aside for people to look at, and what killed writers left
        half-written less than a minute ago, which is not waited for here (unit test_spool_garbage)."""
        spool = self.spool()

        def young(name):
            try:
                return name.startswith("t-") and os.lstat(os.path.join(spool, name)).st_ctime > time.time() - 60 - 3
            except FileNotFoundError:
                return True

        return sorted(name for name in (os.listdir(spool) if spool else ())
                      if name not in ("mark", "lock") and not name.startswith(("bad-", "reserve-")) and not young(name))

    def leaks_of_the_living(self):
        self.daemon_alive()
        status = self.status()
        if status and "guards_open" in status:
            left = self.settled(lambda: self.status()["guards_open"], 3 + LINGER_MS / 1000)
            if left:
                self.failures.append(f"{left} guards are open after the end of all writers and the linger")
        left = self.settled(self.spool_left, 3)
        if left:
            self.failures.append(f"the spool still holds {len(left)} files: {left[:10]}")
        self.sample_counters()
        pid = self.daemon.process.pid
        if descriptors(pid) > 64:
            self.failures.append(f"the daemon has {descriptors(pid)} descriptors open")
        memory_files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        if sum("memfd:etagd-index" in name for name in memory_files) != 1:
            self.failures.append(f"not one index: {memory_files}")

    def leaks_of_the_dead(self):
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as f:
                    command = f.read()
            except OSError:
                continue
            if os.fsencode(self.directory) in command:
                self.failures.append(f"process {entry} is left: {command!r}")
        with open("/proc/net/unix", encoding="utf-8") as f:
            if any(self.directory in line for line in f):
                self.failures.append("a socket is left")

    def workers_end(self):
        for worker in self.workers:
            if worker.process and worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()

    def database_end(self):
        """If it did not end by itself."""
        if self.database:
            if self.database.poll() is None:
                self.database.kill()
                self.database.wait()
            if self.database.stdin:
                self.database.stdin.close()

    def close(self, keep):
        """After end(), or instead of it."""
        self.workers_end()
        self.database_end()
        self.daemon.end()
        self.stderr.close()
        if self.mounted:
            # What a killed daemon had open may be closed a moment later.
            left = self.settled(lambda: subprocess.run(["umount", self.daemon.state], stderr=subprocess.DEVNULL,
                                                       check=False).returncode, 5)
            if left:
                self.failures.append(f"{self.daemon.state} is still in use")
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def check(self):
        """Runs the offline checker; returns what it printed and the violations' text."""
        done = subprocess.run([CHECK, self.directory], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              check=False)
        if done.returncode not in (0, 1):
            raise Failure(f"torture_check: exit status {done.returncode}\n{done.stderr}")
        self.stderr.flush()
        said = content_of(os.path.join(self.directory, "stderr"))
        return json.loads(done.stdout), said + done.stderr

    def violations_seen(self):
        """While it runs: what readers said so far."""
        with open(os.path.join(self.directory, "stderr"), encoding="utf-8") as f:
            return [line for line in f if line.startswith("violation")]
