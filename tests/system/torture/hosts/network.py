# SPDX-License-Identifier: Apache-2.0
"""Three hosts and a database on a machine: network namespaces, joined by a pair of interfaces each, and a proxy of ours in every host.

Nothing of it has a name in the file system or an interface in the machine's own namespace: a namespace lives as long as the process
that holds it, which ends with the campaign. Where the kernel allows none, the same processes are on 127.0.0.1, and only the proxies
stand between them.
"""
import os
import socket
import subprocess
import sys

from harness import bound, wait_until

PROXY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "proxy.py")
PROXY_PORT = 6432
DATABASE_PORTS = (5432, 5433)
BRIDGE = "10.213.0"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Namespace:
    """A network namespace, held by a process that sleeps."""

    def __init__(self):
        self.holder = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE, text=True)
        try:
            wait_until(lambda: self.is_there() or self.holder.poll() is not None, 20, "a network namespace")
            if self.holder.poll() is not None:
                raise OSError(self.holder.stderr.read().strip())
            self.ip("link", "set", "lo", "up")
        except BaseException:
            self.end()
            raise

    def is_there(self):
        try:
            with open(f"/proc/{self.holder.pid}/comm", encoding="ascii") as f:
                return f.read() == "sleep\n"
        except FileNotFoundError:
            return False

    def prefix(self):
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--"]

    def ip(self, *words):
        done = subprocess.run([*self.prefix(), "ip", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")

    def end(self):
        if self.holder.poll() is None:
            self.holder.kill()
        self.holder.wait()
        self.holder.stderr.close()


class Proxy:
    """proxy.py in a host's place."""

    def __init__(self, prefix, port, target):
        self.port = port
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *prefix, sys.executable, "-B", PROXY, str(port), target[0], str(target[1])],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.hear()

    def processes(self):
        return [self.process]

    def hear(self):
        if self.process.stdout.readline() != "ok\n":
            raise OSError(f"a proxy ended with status {self.process.wait(bound(10))}")

    def tell(self, *words):
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        self.hear()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Ways:
    """Proxies to several targets, which are bad together."""

    def __init__(self, proxies):
        self.proxies = proxies

    def processes(self):
        return [proxy.process for proxy in self.proxies]

    def tell(self, *words):
        for proxy in self.proxies:
            proxy.tell(*words)

    def end(self):
        for proxy in self.proxies:
            proxy.end()


class Network:
    """Places: "database" and the hosts. address: where the database listens, ports: of its two servers."""

    def __init__(self, hosts, namespaces=True):
        self.hosts = hosts
        self.places = {}
        self.why = "asked for"
        self.addresses = dict.fromkeys(hosts, "127.0.0.1")
        self.ports = tuple(free_port() for _ in DATABASE_PORTS)
        if not namespaces:
            return
        try:
            self.join()
            self.ports = DATABASE_PORTS
        except (OSError, AssertionError) as error:
            self.why = str(error)
            self.end()

    def join(self):
        if os.geteuid() != 0:
            raise OSError("it needs root")
        database = self.places["database"] = Namespace()
        for number, host in enumerate(self.hosts):
            there = self.places[host] = Namespace()
            database.ip("link", "add", f"to-{host}", "type", "veth", "peer", "name", "eth0", "netns", str(there.holder.pid))
            for place, name, last in ((database, f"to-{host}", 1), (there, "eth0", 2)):
                place.ip("address", "add", f"10.213.{number}.{last}/24", "dev", name)
                place.ip("link", "set", name, "up")
        self.addresses = {host: f"10.213.{number}.1" for number, host in enumerate(self.hosts)}

    def is_apart(self):
        return bool(self.places)

    def prefix(self, place):
        return self.places[place].prefix() if self.places else []

    def proxy(self, place, target_port):
        port = PROXY_PORT if self.places else free_port()
        return Proxy(self.prefix(place), port, (self.addresses.get(place, "127.0.0.1"), target_port))

    def unplug(self, host):
        self.places["database"].ip("link", "set", f"to-{host}", "down")

    def plug(self, host):
        self.places["database"].ip("link", "set", f"to-{host}", "up")

    def end(self):
        for place in self.places.values():
            place.end()
        self.places = {}
        self.addresses = dict.fromkeys(self.hosts, "127.0.0.1")


class Bridge(Network):
    """Places that are all joined in the place "database", where nothing else is."""

    def join(self):
        if os.geteuid() != 0:
            raise OSError("it needs root")
        between = self.places["database"] = Namespace()
        between.ip("link", "add", "bridge0", "type", "bridge")
        between.ip("address", "add", f"{BRIDGE}.1/24", "dev", "bridge0")
        between.ip("link", "set", "bridge0", "up")
        for number, name in enumerate(self.hosts, 2):
            there = self.places[name] = Namespace()
            between.ip("link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(there.holder.pid))
            between.ip("link", "set", f"to-{name}", "master", "bridge0", "up")
            there.ip("address", "add", f"{BRIDGE}.{number}/24", "dev", "eth0")
            there.ip("link", "set", "eth0", "up")
            self.addresses[name] = f"{BRIDGE}.{number}"

    def avoid(self, place, other):
        """Nothing goes from the one to the other; whatever else is, goes on."""
        self.places[place].ip("route", "add", "blackhole", self.addresses[other])

    def find(self, place, other):
        self.places[place].ip("route", "del", "blackhole", self.addresses[other])
