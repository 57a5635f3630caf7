# SPDX-License-Identifier: Apache-2.0
"""A section on etcd: three members, each in a place of its own, and hosts that reach each of them by a proxy. What writers change is the truth
file, with its database process: etcd has the events alone."""
import subprocess
import time

import relay_etcd
from campaign import TEXTS, WORKER, Failure
from harness import bound, wait_until
from hosts import HostsSection
from network import PROXY_PORT, Proxy, Ways, free_port
from relay_db import RELAY

MEMBERS = ("m0", "m1", "m2")
CLIENT_PORT, PEER_PORT = 2379, 2380
HOSTS_LINGER_MS = 2500  # longer than any hold of hosts_etcd.c


class Members(relay_etcd.Cluster):
    """They end with the campaign, however that ends."""

    def __init__(self, network):
        super().__init__(len(MEMBERS))
        self.network = network
        self.prefix = network.prefix("database")
        for member in self.members:
            member.prefix = ["setpriv", "--pdeathsig", "KILL", *network.prefix(member.name)]
            if network.is_apart():
                member.client = f"http://{network.addresses[member.name]}:{CLIENT_PORT}"
                member.peer = f"http://{network.addresses[member.name]}:{PEER_PORT}"

    @staticmethod
    def make(network):
        return Members(network).begin()

    def back(self):
        wait_until(self.healthy, 60, "the cluster is whole")


class EtcdSection(HostsSection):
    roles = ("etcd", "etcd", "etcd", "etcd_filler", "etcd_filler", "reader", "reader")
    leases_ms = (1000, 1500, 2000)
    linger_ms = HOSTS_LINGER_MS

    def __init__(self, options, network, cluster, seed):
        super().__init__(options, network, None, seed)
        self.cluster = cluster
        self.pair_synchronous = False
        self.key_prefix = f"t{seed}-{time.monotonic_ns()}/"

    # ---- What hosts have in common ----

    def log_begin(self):
        self.setup(self.l_net_ms)

    def setup(self, lease_ms):
        done = subprocess.run([*self.cluster.prefix, RELAY, *self.options_of(self.cluster.endpoints()), "setup", "--lease-ms", str(lease_ms)],
                              capture_output=True, text=True, timeout=bound(60), check=False)
        if done.returncode != 0:
            raise Failure(f"setup --lease-ms {lease_ms}: exit status {done.returncode}: {done.stderr}{done.stdout}")

    def options_of(self, endpoints):
        return ["--config", "/dev/null", "--engine", "etcd", "--endpoints", endpoints, "--prefix", self.key_prefix]

    def relay_options(self, host):
        """Each host begins with another member."""
        urls = [f"http://127.0.0.1:{proxy.port}" for proxy in host.proxy.proxies]
        return self.options_of(",".join(urls[host.number:] + urls[:host.number]))

    def way_make(self, name):
        proxies = []
        for number, member in enumerate(self.cluster.members):
            host, port = member.client.split("//")[1].split(":")
            proxies.append(Proxy(self.network.prefix(name), PROXY_PORT + number if self.network.is_apart() else free_port(), (host, int(port))))
        return Ways(proxies)

    def log_end(self):
        self.database_stop()
        self.cluster.ctl("del", "--prefix", self.key_prefix)

    # ---- What is written ----

    def truth_begin(self):
        super().truth_begin()
        self.database = subprocess.Popen([WORKER, "database", str(TEXTS["slots"] - 1), self.directory, "-", str(self.seed)], stdin=subprocess.PIPE,
                                         stderr=self.stderr)

    def worker_options(self, host, _role):
        return []

    def others_look(self):
        super().others_look()
        if self.database.poll() is not None:
            raise Failure(f"the database process ended with status {self.database.returncode}")
