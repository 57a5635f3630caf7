# SPDX-License-Identifier: Apache-2.0
"""Real daemons, real clients, real kills: what the scenario tests share.

Environment: ETAGD_BUILD (build directory), ETAGD_TEST_LOOP (uring, epoll, or refused: the daemon runs under a launcher
that refuses io_uring and has to fall back by itself), ETAGD_TEST_FACTOR (multiplies bounds of time, for sanitizers and
valgrind). State lives in a temporary directory; only processes that a test started are ended, by pid.
"""
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

BUILD = os.environ.get("ETAGD_BUILD", "build/release")
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../proto/wire/message.h"), encoding="utf-8") as _file:
    PROTOCOL = int(re.search(r"#define PROTOCOL_VERSION (\d+)u", _file.read()).group(1))
LOOP = os.environ.get("ETAGD_TEST_LOOP", "uring")
FACTOR = float(os.environ.get("ETAGD_TEST_FACTOR", "1"))
EMULATED = os.environ.get("ETAGD_EMULATED", "") == "TRUE"  # binaries of another processor, by qemu-user
ETAGD = os.path.join(BUILD, "daemon", "etagd")
ETAGCTL = os.path.join(BUILD, "tools", "etagctl")
SYSTEM = os.path.join(BUILD, "tests", "system")
SKIP = 77


def not_emulated(why):
    """Skips what the emulator of scripts/test-on arm64 cannot do."""
    return unittest.skipIf(EMULATED, f"qemu-user {why}")


def crowd():
    """How many processes want each CPU: now, or in the minute before."""
    with open("/proc/loadavg", encoding="ascii") as f:
        minute, _, _, tasks, _ = f.read().split()
    return max(1.0, max(float(minute), int(tasks.split("/")[0])) / os.cpu_count())


def bound(seconds):
    """A bound of time, longer where the binaries are slow and where many share the machine. Not for a time to sleep."""
    return seconds * FACTOR * crowd()


def wait_until(condition, seconds, what):
    """Polls a condition that has no event to wait for; returns its value."""
    seconds = bound(seconds)
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.1f} s: {what}")
        time.sleep(0.002)


def put_file(path, content):
    """A file of this text, or of these bytes. Returns its path."""
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    return path


def content_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


@contextlib.contextmanager
def beside(*functions, stop=None):
    """Each runs in a thread of its own beside the block, after which the event stop is set; the end is when all have ended."""
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        if stop:
            stop.set()
        for thread in threads:
            thread.join()


def together(*functions):
    with beside(*functions):
        pass


# Names share a clock by chance, as the hash key is random: so many clocks that a test's few names never do in practice.
# A test with many names computes what they share (test_restart).
CLOCKS = 1 << 22


class UnixHttp(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, host="localhost", seconds=None):
        super().__init__(host, timeout=seconds or bound(30))
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """One etagd process; may be started again on the same state and socket."""

    def __init__(self, directory, lease_ms=200, args=(), linger_ms=100, fresh=True):
        self.directory = directory
        self.socket = os.path.join(directory, "etagd.sock")
        self.state = os.path.join(directory, "state")
        self.lease_ms = lease_ms
        self.linger_ms = linger_ms
        self.fresh = fresh
        self.args = list(args)
        self.wrapper = []  # a command that runs etagd
        self.process = None
        self.readers = []
        self.lines = []
        self.changed = threading.Condition()

    def command(self):
        loop = {"uring": "uring", "epoll": "epoll", "refused": "auto"}[LOOP]
        command = [ETAGD, "--socket", self.socket, "--state-dir", self.state, "--lease-ms", str(self.lease_ms),
                   "--guard-linger-ms", str(self.linger_ms), "--capacity", "20000", "--clocks", str(CLOCKS),
                   "--loop", loop, *(["--fresh"] if self.fresh else []), *self.args]
        if LOOP == "refused":
            command.insert(0, os.path.join(SYSTEM, "no_io_uring"))
        wrapper = os.environ.get("ETAGD_TEST_WRAPPER")
        return self.wrapper + (wrapper.split() if wrapper else []) + command

    def spawn(self):
        self.lines = []
        self.process = subprocess.Popen(self.command(), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        reader = threading.Thread(target=self._read_log, args=(self.process,), daemon=True)
        self.readers.append(reader)
        reader.start()
        return self

    def _read_log(self, process):
        with process.stderr:
            for line in process.stderr:
                with self.changed:
                    self.lines.append(line.rstrip("\n"))
                    self.changed.notify_all()
        with self.changed:
            self.lines.append("(end of log)")
            self.changed.notify_all()

    def wait_log(self, pattern, seconds=20):
        """Waits for a log line; returns its match."""
        end = time.monotonic() + bound(seconds)
        with self.changed:
            while True:
                for line in self.lines:
                    found = re.search(pattern, line)
                    if found:
                        return found
                if "(end of log)" in self.lines and self.process.poll() is not None:
                    raise AssertionError(f"etagd ended without {pattern!r}:\n" + "\n".join(self.lines))
                left = end - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"no {pattern!r} in:\n" + "\n".join(self.lines))
                self.changed.wait(min(left, 0.5))  # its last line may come before its end

    def start(self, settled=True):
        """Starts and waits until it serves; settled: also until guards that a cold start may have forgotten are over."""
        self.spawn()
        cold = "cold" in self.wait_log(r"event=serving.*").group(0)
        if settled and cold:
            wait_until(lambda: self.status()["holds_open"] == 0, 20, "the cold start's linger")
        return self

    def make_directory(self):
        os.makedirs(self.directory, exist_ok=True)

    def refusal(self, seconds=20):
        """Starts a daemon that must refuse to start; returns its output and exit status."""
        done = subprocess.run(self.command(), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                              timeout=bound(seconds), check=False)
        return done.stderr, done.returncode

    def signal(self, number):
        self.process.send_signal(number)

    def reload(self, event="reloaded"):
        """SIGHUP; returns what it says of it."""
        with self.changed:
            self.lines.clear()
        self.signal(signal.SIGHUP)
        return self.wait_log(rf"event={event}\b.*").group(0)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def restart(self, start=None):
        """Killed and started again; start: "warm" or "cold", as which it must be."""
        self.kill()
        self.start()
        if start:
            self.wait_log(rf"event=serving.*start={start}")
        return self

    def stop(self, seconds=20):
        """SIGTERM; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        return self.process.wait(bound(seconds))

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        for reader in self.readers:
            reader.join()

    # ---- etagctl ----

    def ctl(self, *args, expect=0, text=None, timeout_ms=None):
        """Runs etagctl --json; returns the decoded output."""
        done = self.ctl_raw("--json", *args, text=text, timeout_ms=timeout_ms)
        if done.returncode != expect:
            raise AssertionError(f"etagctl {args}: exit {done.returncode}, not {expect}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def ctl_raw(self, *args, text=None, user=None, groups=(), timeout_ms=None):
        """timeout_ms: where it is what is tested; no crowd makes it longer."""
        timeout_ms = bound(5000) if timeout_ms is None else timeout_ms * FACTOR
        program = ETAGCTL
        if user is not None:
            # The build may stand where another user cannot look.
            program = os.path.join(self.directory, "etagctl")
            if not os.path.exists(program):
                shutil.copy(ETAGCTL, program)
        return subprocess.run([program, "--socket", self.socket, "--timeout-ms", str(int(timeout_ms)), *args],
                              capture_output=True, text=True, input=text, timeout=timeout_ms / 1000 + bound(60), check=False, user=user,
                              group=user, extra_groups=list(groups) if user else None)

    def token(self):
        return self.ctl("token")["token"]

    def fill(self, key, etag='"v1"', *args, token=None, expect=0):
        token = token or self.token()
        return self.ctl("fill", key, "--etag", etag, "--token", token, *args, expect=expect)

    def check(self, key, *args, header='If-None-Match: "v1"'):
        """Asks anew where the daemon came too late to renew a short lease, as it may on a machine with a load."""
        end = time.monotonic() + bound(10)
        while True:
            said = self.ctl("check", key, "--header", header, *args)
            if said["reason"] != "no_lease" or self.status()["lease"] == "paused" or time.monotonic() > end:
                return said

    def verdict(self, key, etag='"v1"'):
        return self.check(key, header=f"If-None-Match: {etag}")["verdict"]

    def status(self):
        return self.ctl("status")


class Writer:
    """tests/system/programs/writer.c: a write path that does one step at a time. Its timeout is often what is tested: no crowd makes
    it longer."""

    def __init__(self, socket_path, timeout_ms=5000, spool="allowed", user=None, program=None, wrapper=()):
        self.process = subprocess.Popen(
            [*wrapper, program or os.path.join(SYSTEM, "writer"), socket_path, str(int(timeout_ms * FACTOR)), spool], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, user=user, group=user, extra_groups=[] if user else None)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self):
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the writer has ended: {self.process.wait()}")
        return json.loads(line)

    def say(self, line):
        self.tell(line)
        return self.hear()

    def ok(self, line):
        said = self.say(line)
        if said["status"] != "OK":
            raise AssertionError(f"{line}: {said}")
        return said

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.kill()
        self.process.stdin.close()
        self.process.stdout.close()


class Case(unittest.TestCase):
    """A test with a temporary directory and daemons that end with it."""
    SOCKET_MODE = None  # "0666": users of any group reach the socket, and roles decide what they may do

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="etagd-test-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    @classmethod
    def shared_daemon(cls, place=None, **options):
        """A daemon for all tests of the class, in cls.place: a directory of its own, or one that is there."""
        cls.place = place or tempfile.mkdtemp(prefix="etagd-test-")
        if place is None:
            cls.addClassCleanup(shutil.rmtree, cls.place, ignore_errors=True)
        made = Daemon(cls.place, **options)
        cls.addClassCleanup(made.end)
        return made.start()

    def daemon(self, name="", **options):
        directory = os.path.join(self.directory, name) if name else self.directory
        os.makedirs(directory, exist_ok=True)
        if self.SOCKET_MODE:
            options["args"] = ["--socket-mode", self.SOCKET_MODE, *options.get("args", ())]
        made = Daemon(directory, **options)
        self.addCleanup(made.end)
        return made

    def started(self, **options):
        return self.daemon(**options).start()

    def config(self, text):
        """A configuration file. Returns the flag that names it."""
        return ["--config", put_file(os.path.join(self.directory, "etagd.yaml"), text)]

    def writer(self, d, **options):
        made = Writer(d.socket, **options)
        self.addCleanup(made.end)
        return made

    def refuses(self, d, *words):
        """It does not start, and says why."""
        said, status = d.refusal()
        self.assertEqual(status, 1, said)
        for word in words:
            self.assertIn(word, said)


class Raw:
    """A connection below the library: bytes in, frames out."""

    HELLO = bytes([0x08, 1, 0x12, 2, 0x08, PROTOCOL])  # Request{id: 1, hello: {protocol: PROTOCOL}}

    def __init__(self, path, hello=True):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(bound(20))
        self.socket.connect(path)
        if hello:
            self.send_frame(self.HELLO)
            self.frame()

    def send_frame(self, payload):
        self.socket.sendall(struct.pack("<I", len(payload)) + payload)

    def send(self, data):
        self.socket.sendall(data)

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            piece = self.socket.recv(n - len(data))
            if not piece:
                return None
            data += piece
        return data

    def frame(self):
        """The payload of the next frame, None where the daemon closed."""
        try:
            head = self._exactly(4)
            return self._exactly(struct.unpack("<I", head)[0]) if head is not None else None
        except ConnectionResetError:
            return None

    def closed(self):
        """Reads until the daemon closes; returns what it said before."""
        said = b""
        while True:
            payload = self.frame()
            if payload is None:
                return said
            said += payload

    def close(self):
        self.socket.close()


def part(number, data):
    """A field of a message: bytes, or a message."""
    assert len(data) < 1 << 14
    length = bytes([len(data)]) if len(data) < 128 else bytes([len(data) & 127 | 128, len(data) >> 7])
    return bytes([number << 3 | 2]) + length + data


def fill_payload(host, target, token, *fields, gone=False):
    """Request{id: 5, fill} of a public key, with its verdict; token: as etagctl prints it; fields: of the entry, besides the key."""
    key = (part(1, host) if host else b"") + part(2, target)
    incarnation, lsn = (int(word, 16) for word in token.split("."))
    entry = part(1, part(1, key) + b"\x10\x01") + b"".join(fields)
    token = struct.pack("<BQBQ", 1 << 3 | 1, incarnation, 2 << 3 | 1, lsn)
    return b"\x08\x05" + part(3, part(1, token) + part(2, entry) + b"\x18\x01" + (b"\x20\x01" if gone else b""))


def retire_payload(host, target, token):
    return fill_payload(host, target, token, gone=True)


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def main():
    if LOOP == "uring":
        probe = subprocess.run([os.path.join(SYSTEM, "has_io_uring")], check=False)
        if probe.returncode != 0:
            print("skipped: this kernel refuses io_uring")
            sys.exit(SKIP)
    unittest.main(verbosity=2)
