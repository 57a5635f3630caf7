# SPDX-License-Identifier: Apache-2.0
"""Hosts on one machine: a daemon with an etag-relay beside it each, on one PostgreSQL."""
import os
import subprocess

from relay_db import RELAY
from harness import wait_until


class Host:
    """One of them; its name is its daemon's directory too."""

    def __init__(self, name, conninfo, daemon, prefix=()):
        self.name = name
        self.conninfo = conninfo
        self.daemon = daemon
        self.prefix = prefix  # a command that runs others where the host is
        self.relay = None

    def start(self):
        self.daemon.start(settled=False)
        self.start_relay()
        wait_until(lambda: self.daemon.status()["relay_margin_ms"] > 0, 30, f"host {self.name} is fresh")
        wait_until(lambda: self.daemon.status()["holds_open"] == 0, 20, "the cold start's linger")
        return self

    def start_relay(self):
        run = os.path.join(self.daemon.directory, "run")
        os.makedirs(run, exist_ok=True)
        with open(os.path.join(self.daemon.directory, "relay.log"), "a", encoding="utf-8") as log:
            self.relay = subprocess.Popen([*self.prefix, RELAY, "--connection", self.conninfo, "--socket", self.daemon.socket, "--host", self.name,
                                           "--run-dir", run], stderr=log, stdin=subprocess.DEVNULL)

    def kill_relay(self):
        if self.relay and self.relay.poll() is None:
            self.relay.kill()
            self.relay.wait()

    def end(self):
        self.kill_relay()
        self.daemon.end()
