# SPDX-License-Identifier: Apache-2.0
"""The servers that are measured: each in a temporary directory of its own, ended by pid."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time


class Server:
    def __init__(self, command, directory):
        self.directory = directory
        self.log = open(os.path.join(directory, "log"), "ab")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)

    def until(self, answers, seconds=120):
        end = time.monotonic() + seconds
        while not answers():
            if self.process.poll() is not None or time.monotonic() > end:
                with open(self.log.name, encoding="utf-8") as log:
                    raise SystemExit(f"{self.process.args[0]} does not serve:\n{log.read()}")
            time.sleep(0.002)

    def end(self, sig=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        self.process.wait()
        self.log.close()

    def status_kib(self, field):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            return int(next(line for line in status if line.startswith(field + ":")).split()[1])


def quiet(command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


class Etagd(Server):
    def __init__(self, build, *args, directory=None, before=()):
        self.ctl_path = os.path.join(build, "tools", "etagctl")
        directory = directory or tempfile.mkdtemp(prefix="etagd-bench-")
        self.socket = os.path.join(directory, "etagd.sock")
        self.state = os.path.join(directory, "state")
        super().__init__([*before, os.path.join(build, "daemon", "etagd"), "--socket", self.socket, "--state-dir", self.state, "--fresh",
                          *args], directory)
        self.until(lambda: quiet([self.ctl_path, "--socket", self.socket, "ping"]))
        self.until(lambda: self.status()["holds_open"] == 0)

    def ctl(self, *args):
        return subprocess.run([self.ctl_path, "--socket", self.socket, "--timeout-ms", "600000", "--json", *args],
                              stdout=subprocess.PIPE, check=True).stdout

    def status(self):
        return json.loads(self.ctl("status"))

    def state_bytes(self):
        return sum(os.stat(os.path.join(self.state, name)).st_blocks * 512 for name in os.listdir(self.state))

    def settle(self):
        """Until everything is stored, and huge pages have been asked for."""
        self.ctl("sync")
        before = -1
        while before != (now := self.huge_kib()):
            before = now
            time.sleep(1.2)

    def huge_kib(self):
        """Of the index, on huge pages."""
        with open(f"/proc/{self.process.pid}/smaps", encoding="utf-8") as smaps:
            return sum(int(line.split()[1]) for line in smaps if line.startswith("ShmemPmdMapped:"))

    def remove(self):
        self.end()
        shutil.rmtree(self.directory)


class Redis(Server):
    def __init__(self):
        directory = tempfile.mkdtemp(prefix="etagd-bench-")
        self.socket = os.path.join(directory, "redis.sock")
        super().__init__(["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no", "--dir",
                          directory], directory)
        self.until(lambda: quiet(["redis-cli", "-e", "-s", self.socket, "ping"]))

    def remove(self):
        self.end()
        shutil.rmtree(self.directory)


class Memcached(Server):
    def __init__(self):
        directory = tempfile.mkdtemp(prefix="etagd-bench-")
        self.socket = os.path.join(directory, "memcached.sock")
        super().__init__(["memcached", "-u", "nobody" if os.geteuid() == 0 else str(os.geteuid()), "-s", self.socket, "-m", "1024", "-t", "1"],
                         directory)
        os.chmod(directory, 0o777)
        self.until(lambda: os.path.exists(self.socket))

    def remove(self):
        self.end()
        shutil.rmtree(self.directory)
