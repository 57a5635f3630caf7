# SPDX-License-Identifier: Apache-2.0
"""A primary and a standby that follows it, through a proxy of its own, so that it can lag; and what becomes of them."""
import os
import shutil
import signal
import subprocess
import time

import relay_db
from harness import bound, wait_until

OPTIONS = ("-c fsync=off -c max_wal_senders=6 -c max_connections=80 -c autovacuum=off -c wal_keep_size=64MB -c shared_buffers=32MB "
           "-c wal_receiver_timeout=0 -c wal_sender_timeout=0 -c hot_standby=on -c wal_retrieve_retry_interval=100")


def children_of(pid):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as f:
                    parent = int(f.read().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            if parent == pid:
                found.append(int(entry))
    return found


class HostsServer(relay_db.Server):
    """One that hosts reach over the network: in the database's namespace."""

    prefix = []
    listen = "*"
    first_port = 5432

    def __init__(self, programs, directory, user, data="data", port=None):
        super().__init__(programs, directory, user, data, port or self.first_port)

    def run(self, name, *args, check=True):
        user = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--"] if self.user else []
        return subprocess.run([*self.prefix, *user, os.path.join(self.programs, name), *args], check=check, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=self.directory,
                              env={**os.environ, "LC_ALL": "C.UTF-8", "PGHOST": self.directory, "PGUSER": "etagd"})

    def path(self, name):
        return os.path.join(self.directory, self.data, name)

    def begin(self):
        with open(self.path("pg_hba.conf"), encoding="utf-8") as f:
            known = "# torture\n" in f.read()
        if not known:
            with open(self.path("pg_hba.conf"), "a", encoding="utf-8") as f:
                f.write("# torture\nhost all all 0.0.0.0/0 trust\nhost replication all 0.0.0.0/0 trust\n")
        self.run("pg_ctl", "-D", self.data, "-w", "-l", os.path.join(self.directory, self.data + ".log"), "-o",
                 f"-k {self.directory} -p {self.port} -c listen_addresses='{self.listen}' {OPTIONS}", "start")

    def pids(self):
        """All of its processes. It is stopped, so that it starts no other."""
        postmaster = self.postmaster()
        os.kill(postmaster, signal.SIGSTOP)
        return [*children_of(postmaster), postmaster]

    def kill(self):
        """The server and all of its processes, at once: nobody commits afterwards."""
        pids = self.pids()
        for pid in pids:
            signal_send(pid, signal.SIGKILL)
        wait_until(lambda: all(is_zombie(pid) for pid in pids), 30, "the server's end")

    def begin_again(self):
        relay_db.restart_after(self, "its end")

    def backends(self, name=None):
        """Processes of clients; those of the relays, for instance."""
        rows = self.sql("SELECT pid, application_name FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
                        database="postgres")
        return [pid for pid, application in rows if name is None or application.startswith(name)]


def signal_send(pid, number):
    """To a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def is_zombie(pid):
    """Or gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


class Pair:
    def __init__(self, network):
        HostsServer.prefix = network.prefix("database")
        HostsServer.listen = "*" if network.is_apart() else "127.0.0.1"
        HostsServer.first_port = network.ports[0]
        self.network = network
        self.synchronous = False
        self.primary = HostsServer.make()
        self.standby = None
        self.replication = None

    @staticmethod
    def make(network):
        pair = Pair(network)
        pair.replication = network.proxy("database", pair.primary.port)
        pair.follow()
        return pair

    def port_of_other(self):
        return next(port for port in self.network.ports if port != self.primary.port)

    def follow(self):
        """Makes a standby of the primary."""
        made = HostsServer(self.primary.programs, self.primary.directory, self.primary.user, f"data{time.monotonic_ns()}", self.port_of_other())
        self.primary.run("pg_basebackup", "-D", made.data, "-R", "-p", str(self.primary.port), "-U", "etagd", "-c", "fast", "-X", "stream")
        self.replication.tell("target", "127.0.0.1", self.primary.port)
        with open(made.path("postgresql.auto.conf"), "a", encoding="utf-8") as f:
            f.write(f"primary_conninfo = 'host=127.0.0.1 port={self.replication.port} user=etagd application_name=standby'\n")
        # Its port was that of a server that is dead, but may not be gone: a zombie's lock file still counts.
        relay_db.restart_after(made, "the one that had its port")
        self.standby = made
        self.wait_streaming()

    def wait_streaming(self):
        wait_until(lambda: self.primary.sql("SELECT true FROM pg_stat_replication WHERE state = 'streaming'", database="postgres"), 30,
                   "the standby follows")

    def set_synchronous(self, wanted):
        self.synchronous = wanted
        self.primary.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{'*' if wanted else ''}'", database="postgres")
        self.primary.sql("SELECT pg_reload_conf()", database="postgres")

    def promote(self):
        """The primary is gone, for good, and the standby takes its place."""
        former = self.primary
        self.standby.run("pg_ctl", "-D", self.standby.data, "-w", "-t", str(int(bound(30))), "promote")
        wait_until(lambda: not self.standby.sql("SELECT pg_is_in_recovery()", database="postgres")[0][0], 30, "the promotion")
        self.primary, self.standby = self.standby, None
        shutil.rmtree(os.path.join(former.directory, former.data), ignore_errors=True)

    def end(self):
        for server in (self.standby, self.primary):
            if server:
                server.end()
        if self.replication:
            self.replication.end()
