# SPDX-License-Identifier: Apache-2.0
"""Two hosts on one etcd, on one machine: two daemons, each with an etag-relay beside it, while members of the cluster die."""
import os
import re
import shutil
import signal
import subprocess
import time

from relay_db import RELAY
from relay_etcd import Cluster, OfCluster, ETCDCTL
from harness import Case, Writer, bound, main, wait_until

KEY = "//shop.example/uploads/42"
NAME = "upload:42"
PROOF_LOGGED, PROOF_ACKNOWLEDGED, PROOF_TIME = 3, 4, 5


class Relay:
    """One etag-relay beside a daemon."""

    def __init__(self, daemon, cluster, prefix, host):
        self.directory = os.path.join(daemon.directory, "relay")
        os.makedirs(self.directory, exist_ok=True)
        self.command = [RELAY, "--config", "/dev/null", "--engine", "etcd", "--endpoints", cluster.endpoints(), "--prefix", prefix, "--socket",
                        daemon.socket, "--host", host, "--run-dir", self.directory]
        self.log = os.path.join(self.directory, "log")
        self.process = None
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stderr=log, stdin=subprocess.DEVNULL)

    def said(self, pattern):
        with open(self.log, encoding="utf-8") as f:
            return re.findall(pattern, f.read())

    def everything(self):
        return self.said(r"event=everything reason=(\w+)")

    def end(self, number=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(bound(20))


class Pair(Case):
    """Two hosts on self.cluster."""

    def begin(self, lease_ms):
        self.prefix = f"h{time.monotonic_ns()}/"
        self.by_hand("setup", "--lease-ms", str(lease_ms))
        self.a, self.relay_a = self.host("a")
        self.b, self.relay_b = self.host("b")

    def by_hand(self, *command, status=0):
        done = subprocess.run([RELAY, "--config", "/dev/null", "--engine", "etcd", "--endpoints", self.cluster.endpoints(), "--prefix", self.prefix, *command],
                              capture_output=True, text=True, check=False, timeout=bound(60))
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout + done.stderr

    def host(self, name):
        daemon = self.daemon(name, lease_ms=1000, args=["--relay", "required"]).start(settled=False)
        relay = Relay(daemon, self.cluster, self.prefix, name)
        self.addCleanup(relay.end)
        wait_until(lambda: self.reason(daemon) != "no_lease", 30, "a lease")
        wait_until(lambda: daemon.status()["holds_open"] == 0, 20, "the cold start's linger")
        return daemon, relay

    def reason(self, daemon):
        said = daemon.ctl("check", KEY, "--header", 'If-None-Match: "v1"')
        return said["reason"] if said["verdict"] == "unknown" else said["verdict"]

    def fill(self, daemon):
        """Once: an event that its relay brings in between is a fill's refusal, as it has to be."""
        def filled():
            done = daemon.ctl_raw("fill", KEY, "--etag", '"v1"', "--token", daemon.token(), "--surrogate", NAME)
            return done.returncode == 0 and self.reason(daemon) == "not_modified"
        wait_until(filled, 30, "it is filled")

    def event(self, writer, reach="log"):
        """An invalidation that is tried again, as the application would, until it is there."""
        wait_until(lambda: writer.say(f"invalidate surrogate {NAME} reach {reach}")["status"] == "OK", 60, "the event")

    def reaches_the_other(self):
        w = Writer(self.a.socket, timeout_ms=20000)
        self.addCleanup(w.end)
        self.fill(self.b)
        self.event(w)
        wait_until(lambda: self.reason(self.b) == "stale", 30, "the event on the other host")


class Hosts(OfCluster, Pair):
    def test_what_ok_says_on_one_is_so_on_the_other(self):
        self.begin(2000)
        w = Writer(self.a.socket, timeout_ms=30000)
        self.addCleanup(w.end)
        self.fill(self.b)
        said = w.ok(f"invalidate surrogate {NAME}")
        self.assertEqual(said["proof"], PROOF_LOGGED)
        wait_until(lambda: self.reason(self.b) == "stale", 30, "within L_net")
        self.assertRegex(self.b.ctl_raw("log", "--surrogate", NAME).stdout, r"relay: etcd, position \d+, by a\n", "which host it was")

        def acknowledged():
            """The first ones by time: the witness is young."""
            self.fill(self.b)
            proof = w.ok(f"invalidate surrogate {NAME} reach everywhere")["proof"]
            self.assertEqual(self.reason(self.b), "stale")
            return proof == PROOF_ACKNOWLEDGED
        wait_until(acknowledged, 60, "all acknowledge")
        status = self.by_hand("status")
        self.assertIn("lease 2000 ms, wait 2550 ms", status)
        self.assertRegex(status, r"a  member, acknowledged up to revision \d+")
        self.relay_b.end()
        self.fill(self.a)
        self.assertEqual(w.ok(f"invalidate surrogate {NAME} reach everywhere")["proof"], PROOF_TIME)
        self.assertEqual(self.reason(self.b), "no_lease")
        began = time.monotonic()
        self.assertIn("b is out", self.by_hand("leave", "b"))
        self.assertGreater(time.monotonic() - began, 2.5, "its lease is waited for")
        self.assertNotIn("b  member", self.by_hand("status"))
        self.assertIn("no host b has joined", self.by_hand("leave", "b", status=1))
        self.relay_b.start()
        self.fill(self.b)
        self.assertRegex(self.by_hand("setup", "--lease-ms", "1500"),
                         r"lease_ms 1500, wait_ms 2550\nwaiting \d+ ms: .*\nlease_ms 1500, wait_ms 1925\n")
        self.assertIn("lease 1500 ms, wait 1925 ms", self.by_hand("status"))
        self.reaches_the_other()
        self.assertEqual(self.relay_a.everything(), ["no_cursor"])

    def test_members_that_die_and_come_back(self):
        self.begin(10000)  # not the subject: an election on a busy machine is within it
        leader = self.cluster.leader()
        follower = next(m for m in self.cluster.members if m is not leader)
        for victim in (follower, leader):
            self.fill(self.b)
            victim.end()
            self.reaches_the_other()
            victim.start()
            wait_until(self.cluster.healthy, 60, "it is back")
        self.assertEqual((self.relay_a.everything(), self.relay_b.everything()), (["no_cursor"], ["no_cursor"]), "an election costs nobody an entry")

    def test_without_a_majority_hosts_render_and_come_back(self):
        self.begin(2000)
        self.fill(self.b)
        for victim in self.cluster.members[:2]:
            victim.signal(signal.SIGSTOP)
        try:
            wait_until(lambda: self.reason(self.b) == "no_lease", 20, "no lease without freshness")
            w = Writer(self.a.socket, timeout_ms=1000)
            self.addCleanup(w.end)
            self.assertEqual(w.say(f"invalidate surrogate other:1 reach log")["status"], "PENDING")
        finally:
            for victim in self.cluster.members[:2]:
                victim.signal(signal.SIGCONT)
        wait_until(lambda: self.reason(self.b) == "not_modified", 60, "what was not named is answered again")
        self.assertEqual(self.relay_b.everything(), ["no_cursor"])
        self.reaches_the_other()


class Restored(Pair):
    def test_a_backup_makes_all_hosts_purge_everything(self):
        """With the same token, so that the cluster id is the same."""
        self.cluster = Cluster(1).begin()
        self.addCleanup(self.cluster.end)
        self.begin(2000)
        self.cluster.ctl("snapshot", "save", os.path.join(self.cluster.directory, "backup"))
        self.fill(self.a)
        self.fill(self.b)
        w = Writer(self.a.socket, timeout_ms=20000)
        self.addCleanup(w.end)
        w.ok("invalidate surrogate other:1 reach log")
        member = self.cluster.members[0]
        member.end()
        shutil.rmtree(member.data)
        subprocess.run([ETCDCTL, "snapshot", "restore", os.path.join(self.cluster.directory, "backup"), "--name", member.name, "--data-dir", member.data,
                        "--initial-cluster", self.cluster.initial(), "--initial-cluster-token", self.cluster.token, "--initial-advertise-peer-urls", member.peer],
                       check=True, capture_output=True, env={**os.environ, "ETCDCTL_API": "3"})
        self.cluster.begin()
        for host in (self.a, self.b):
            wait_until(lambda host=host: self.reason(host) == "stale", 60, "everything is raised")
        self.reaches_the_other()


if __name__ == "__main__":
    main()
