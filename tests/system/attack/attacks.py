# SPDX-License-Identifier: Apache-2.0
"""Attacks on a daemon by local users: what each does, and what it is judged by.

An attack is a function that runs in processes of its own, as a user with the named roles and no other, until it is told to end. To add one:
write it, and add its row to ATTACKS. scripts/attack runs all of them for long and judges time and memory; test_attack.py runs them
shortly and judges counts, which a busy machine does not change.
"""
import array
import contextlib
import encodings.idna  # noqa: F401  socket.create_connection looks for it where another user may not look
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import LOOP, SKIP, SYSTEM, Daemon, Raw, Writer, bound, content_of, put_file  # noqa: E402

# Users: by number, and with nothing but that.
STRANGER, READER, FILLER, WRITER = 47001, 47002, 47003, 47004
USERS = {"no role": STRANGER, "read": READER, "fill": FILLER}
ROLES = f'roles:\n  read: ["uid:{READER}", "uid:{FILLER}"]\n  fill: ["uid:{FILLER}"]\n  mutate: ["uid:{WRITER}"]\n'

# Goals of scripts/attack.
MARGIN_MS_MIN = 300  # of a lease of a second
STRANGERS_RSS_KIB_MAX = 8 * 1024
ROLES_RSS_KIB_MAX = 160 * 1024  # PEERS_QUEUED_BYTES_MAX, and what 400 connections have sent
LOG_BYTES_A_MINUTE_MAX = 100 * 1024
WAIT_MS_MAX = 500
# Counts of test_attack.py: TURN_URGENT_MAX + TURN_FILLS_MAX + TURN_ASKED_MAX, half of PEERS_QUEUED_BYTES_MAX and a turn's answers, and the lines
# of a minute (LOG_LIMITED_LINES + 6) of at most three events.
TURN_REQUESTS_MAX = 1024 + 64 + 16
QUEUED_BYTES_MAX = (32 + 18) << 20
LOG_LINES_MAX = 27

PING = b"\x2a\x00"
STATUS = b"\x08\x05\x4a\x00"


def frame(payload):
    return struct.pack("<I", len(payload)) + payload


def connected(path, hello=True, receive_bytes=None):
    """A connection, or None where the daemon has no room for more."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if receive_bytes:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.settimeout(2)
    try:
        made.connect(path)
        if hello:
            made.sendall(frame(Raw.HELLO))
            if not made.recv(65536):
                raise ConnectionResetError
    except OSError:
        made.close()
        return None
    made.setblocking(False)
    return made


def crowd(path, count, **options):
    return [one for one in (connected(path, **options) for _ in range(count)) if one]


def push(peers, data, until, reads, again=None):
    """Sends the same bytes over all connections, as fast as they are taken. reads: answers are taken, too. again: makes a new
    connection for one that was closed."""
    while time.monotonic() < until:
        ready, writable, _ = select.select(peers if reads else [], peers, [], 0.1)
        gone = []
        for one in writable:
            try:
                one.send(data)
            except BlockingIOError:
                pass
            except OSError:
                gone.append(one)
        for one in ready:
            with contextlib.suppress(OSError):
                one.recv(1 << 18)
        for one in gone:
            one.close()
            peers.remove(one)
            made = again() if again else None
            if made:
                peers.append(made)
        if not writable or not peers:
            time.sleep(0.002)


# ---- The attacks ----


def lingering_descriptors(path, until):
    """Sends TCP sockets with SO_LINGER and unsent data, closes its own, and goes: who drops the last reference sleeps in close()."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    server.bind(("127.0.0.1", 0))
    server.listen(64)
    while time.monotonic() < until:
        peer = connected(path, hello=False)
        if not peer:
            time.sleep(0.01)
            continue
        passed = socket.create_connection(server.getsockname())
        passed.setblocking(False)
        with contextlib.suppress(OSError):
            while True:
                passed.send(bytes(65536))
        passed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
        with contextlib.suppress(OSError):  # EPERM: this kernel has SO_PASSRIGHTS
            peer.sendmsg([frame(PING)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [passed.fileno()]))])
        passed.setblocking(True)
        os.close(passed.detach())  # sleeps here where the daemon has no reference
        peer.close()


def pipelined_pings(path, until):
    push(crowd(path, 60), frame(PING) * 10000, until, reads=True, again=lambda: connected(path))


def expensive_questions(path, until):
    """The log from its beginning, for a time that no event has: a scan each time."""
    question = b"\x08\x05\x9a\x01\x0a\x18" + b"\xff" * 8 + b"\x7f"  # log{since_wall_ms: 2^63 - 1}
    push(crowd(path, 60), frame(question) * 1000, until, reads=True, again=lambda: connected(path))


def unread_lists(path, until):
    """Long answers that nobody reads, over many connections."""
    question = b"\x08\x05\x42\x03\x10\xe8\x07"  # list{limit: 1000}
    push(crowd(path, 400), frame(question) * 100, until, reads=False, again=lambda: connected(path))


def unread_refusals(path, until):
    push(crowd(path, 60), frame(STATUS) * 5000, until, reads=False, again=lambda: connected(path))


def lengths_of_nothing(path, until):
    while time.monotonic() < until:
        peer = connected(path, hello=False)
        if not peer:
            continue
        with contextlib.suppress(OSError):
            peer.send(bytes(4))
            select.select([peer], [], [], 0.1)
        peer.close()


def unfinished_frames(path, until):
    """Begins frames of a megabyte, and keeps them."""
    began = struct.pack("<I", 1 << 20) + bytes((1 << 20) - 10)
    peers = crowd(path, 60)
    left = {one: began for one in peers}
    while time.monotonic() < until and peers:
        for one in list(peers):
            try:
                left[one] = left[one][one.send(left[one]):]
            except BlockingIOError:
                pass
            except OSError:
                one.close()
                peers.remove(one)
        time.sleep(0.01)
    while time.monotonic() < until:
        time.sleep(0.05)


def connections(path, until):
    """Connects and goes, as fast as it can."""
    while time.monotonic() < until:
        peers = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(100)]
        for one in peers:
            one.setblocking(False)
            with contextlib.suppress(OSError):
                one.connect(path)
        for one in peers:
            one.close()


def unread_events(path, until):
    """Watches, and does not read what it is told; the writer sees to it that there is something to tell."""
    peers = crowd(path, 200, receive_bytes=4096)
    for one in peers:
        with contextlib.suppress(OSError):
            one.send(frame(b"\x08\x05\x52\x00"))
    while time.monotonic() < until:
        time.sleep(0.05)


def a_flood_of_fills(path, until):
    """Of entries that are refused: the token is of no run."""
    key = b"\x0a\x0a\x0a\x01a\x12\x05/page" b"\x10\x01"  # resource{host a, target /page}, scope_kind 1
    entry = b"\x0a" + bytes([len(key)]) + key + b'\x12\x04"v1"'
    token = b"\x09" + bytes([1] * 8) + b"\x11" + bytes([1] * 8)
    fill = b"\x0a" + bytes([len(token)]) + token + b"\x12" + bytes([len(entry)]) + entry
    push(crowd(path, 20), frame(b"\x08\x05\x1a" + bytes([len(fill)]) + fill) * 1000, until, reads=True,
         again=lambda: connected(path))


class Attack:
    def __init__(self, act, who, processes=2, rss_kib_max=None, row=None):
        self.act, self.who, self.processes, self.row = act, who, processes, row
        self.name = act.__name__.replace("_", " ")
        self.rss_kib_max = rss_kib_max or (STRANGERS_RSS_KIB_MAX if who == "no role" else ROLES_RSS_KIB_MAX)

    def __str__(self):
        return f"{self.name} ({self.who})"


ATTACKS = [
    Attack(lingering_descriptors, "no role", row=1),
    Attack(lingering_descriptors, "read", row=1),
    Attack(pipelined_pings, "no role", row=2),
    Attack(pipelined_pings, "read", row=2),
    Attack(expensive_questions, "read", row=3),
    Attack(unread_lists, "read", row=3, processes=1),
    Attack(unread_refusals, "no role", row=4),
    Attack(unread_refusals, "read", row=4),
    Attack(lengths_of_nothing, "no role", row=5),
    Attack(lengths_of_nothing, "read", row=5),
    Attack(unfinished_frames, "no role"),
    Attack(connections, "no role"),
    Attack(unread_events, "read", processes=1),
    Attack(a_flood_of_fills, "fill"),
]


# ---- Running one ----


class Attackers:
    """Processes of the attack, as its user; they end by themselves, and are ended where they don't."""

    def __init__(self, attack, path, seconds):
        self.children = []
        for _ in range(attack.processes):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    become(USERS[attack.who])
                    attack.act(path, time.monotonic() + seconds)
                    code = 0
                except BaseException as error:  # a child must not go on in its parent's code
                    print(f"{attack}: {error!r}", file=sys.stderr)
                finally:
                    os._exit(code)
            self.children.append(child)

    def wait(self, seconds):
        end = time.monotonic() + seconds
        codes = []
        for child in self.children:
            done, status = 0, 0
            while not done and time.monotonic() < end:
                done, status = os.waitpid(child, os.WNOHANG)
                time.sleep(0.01)
            if not done:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                status = 1
            codes.append(status)
        return codes


def become(uid):
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def rss_kib(pid):
    """Without the index, whose pages become huge ones at any time: that is no peer's."""
    return sum(int(kib) for kib in re.findall(r"Rss(?:Anon|File):\s+(\d+)", content_of(f"/proc/{pid}/status")))


class Waits:
    """A writer with the role, one change after the other, and how long the longest one took."""

    def __init__(self, path, program):
        self.writer = Writer(path, user=WRITER, program=program)
        self.count = 0
        self.longest_s = 0.0
        self.over = False
        self.wrong = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.over:
            began = time.monotonic()
            try:
                self.writer.ok("invalidate surrogate attacked")
            except (AssertionError, OSError, ValueError) as error:
                self.wrong = None if self.over else str(error)
                return
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.count += 1
            time.sleep(0.005)

    def end(self):
        self.over = True
        self.thread.join(bound(20))
        self.writer.end()


def many_events(d, count):
    """A log that takes a while to look through."""
    subprocess.run([os.path.join(SYSTEM, "many_events"), d.socket, "attacked", str(count)], check=True, timeout=bound(120))


def many_entries(d, count):
    subprocess.run([os.path.join(SYSTEM, "fill_many"), d.socket, str(count)], check=True, timeout=bound(120),
                   stdout=subprocess.DEVNULL)


class Scene:
    """A daemon whose socket everybody reaches, with a log and a list that take a while to look through, and one writer."""

    def __init__(self, directory, lease_ms):
        os.chmod(directory, 0o755)
        config = os.path.join(directory, "etagd.yaml")
        put_file(config, ROLES)
        # The build may stand where that user cannot look.
        program = shutil.copy(os.path.join(SYSTEM, "writer"), directory)
        os.chmod(program, 0o755)
        self.daemon = Daemon(directory, lease_ms=lease_ms, args=["--config", config, "--socket-mode", "0666"]).start()
        self.program = program

    def fill(self, entries, events):
        many_entries(self.daemon, entries)
        many_events(self.daemon, events)


# ---- The long form ----


def run_one(attack, seconds):
    """The figures of one attack, and which goals it missed."""
    directory = tempfile.mkdtemp(prefix="etagd-attack-")
    scene = None
    try:
        scene = Scene(directory, lease_ms=1000)
        d = scene.daemon
        scene.fill(10000, 20000)
        waits = Waits(d.socket, scene.program)
        time.sleep(0.5)
        logged = sum(len(line) + 1 for line in d.lines)
        rss_before = rss_most = rss_kib(d.process.pid)
        waits.longest_s = 0.0
        attackers = Attackers(attack, d.socket, seconds)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rss_most = max(rss_most, rss_kib(d.process.pid))
            time.sleep(0.02)
        rss_most = max(rss_most, rss_kib(d.process.pid))
        codes = attackers.wait(30)
        waits.end()
        try:
            status = d.status()
        except AssertionError:
            status = {"lease_margin_min_ms": 0}  # it does not even answer
        log_bytes = sum(len(line) + 1 for line in d.lines) - logged
        figures = {"margin_ms": status["lease_margin_min_ms"], "rss_kib": rss_most - rss_before,
                   "log_bytes_a_minute": int(log_bytes * 60 / seconds), "wait_ms": round(waits.longest_s * 1000, 1),
                   "changes": waits.count, "turn_requests": status.get("turn_requests_max", 0),
                   "queued_kib": status.get("queued_bytes_max", 0) >> 10}
        missed = [name for name, is_missed in (
            ("margin", figures["margin_ms"] < MARGIN_MS_MIN), ("memory", figures["rss_kib"] > attack.rss_kib_max),
            ("log", figures["log_bytes_a_minute"] > LOG_BYTES_A_MINUTE_MAX),
            ("writer", figures["wait_ms"] > WAIT_MS_MAX or waits.wrong), ("attackers", any(codes))) if is_missed]
        return figures, missed
    finally:
        if scene:
            scene.daemon.end()
        shutil.rmtree(directory, ignore_errors=True)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 6.0
    only = sys.argv[2] if len(sys.argv) > 2 else ""
    if os.geteuid() != 0:
        print("skipped: needs root to become other users")
        return SKIP
    print(f"loop {LOOP}, {seconds:g} s each; goals: margin >= {MARGIN_MS_MIN} of 1000 ms, memory <= {STRANGERS_RSS_KIB_MAX} KiB by those "
          f"without a role,\nlog <= {LOG_BYTES_A_MINUTE_MAX} bytes a minute, a writer waits <= {WAIT_MS_MAX} ms")
    print(f"{'attack':42} {'margin ms':>9} {'RSS KiB':>9} {'log B/min':>9} {'wait ms':>8} {'changes':>8} {'a turn':>7} {'queued KiB':>10}")
    failed = 0
    for attack in ATTACKS:
        if only not in str(attack):
            continue
        figures, missed = run_one(attack, seconds)
        failed += bool(missed)
        print(f"{str(attack):42} {figures['margin_ms']:9} {figures['rss_kib']:9} {figures['log_bytes_a_minute']:9} {figures['wait_ms']:8} "
              f"{figures['changes']:8} {figures['turn_requests']:7} {figures['queued_kib']:10} {' '.join(missed) and 'MISSED: ' + ' '.join(missed)}",
              flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
