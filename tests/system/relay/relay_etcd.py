# SPDX-License-Identifier: Apache-2.0
"""What the tests of etag-relay on etcd share: clusters on free ports, the engine as a program (relay_db.py), and servers that are none."""
import atexit
import base64
import http.server
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

import relay_db
from harness import SKIP, Case, bound, wait_until

ETCD = shutil.which("etcd")
ETCDCTL = shutil.which("etcdctl")
if not ETCD or not ETCDCTL:
    print("skipped: etcd-server and etcd-client are missing")
    sys.exit(SKIP)
LEASE_MS, WAIT_MS = 2000, 2550


def free_ports(count):
    """Ports that nobody listens on now; below those that the kernel gives to connections."""
    held = []
    while len(held) < count:
        s = socket.socket()
        try:
            s.bind(("127.0.0.1", random.randrange(12000, 32000)))
            held.append(s)
        except OSError:
            s.close()
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def b64(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


class Member:
    prefix = ()  # a command that runs others where the member is

    def __init__(self, cluster, name, ports, scheme):
        self.cluster = cluster
        self.name = name
        self.client = f"{scheme}://127.0.0.1:{ports[0]}"
        self.peer = f"http://127.0.0.1:{ports[1]}"
        self.data = os.path.join(cluster.directory, name)
        self.process = None

    def start(self):
        options = {"name": self.name, "data-dir": self.data, "listen-client-urls": self.client, "advertise-client-urls": self.client,
                   "listen-peer-urls": self.peer, "initial-advertise-peer-urls": self.peer, "initial-cluster": self.cluster.initial(),
                   "initial-cluster-token": self.cluster.token, "initial-cluster-state": "new", "log-level": "error", **self.cluster.options}
        with open(self.data + ".log", "ab") as log:
            self.process = subprocess.Popen([*self.prefix, ETCD, *(f"--{name}={value}" for name, value in options.items())], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env={**os.environ, "ETCD_UNSUPPORTED_ARCH": "arm64"})

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self.process = None


class Cluster:
    """Of so many members, in a temporary directory, on 127.0.0.1."""

    prefix = ()  # a command that runs others from where members are reached

    def __init__(self, size=3, token="etagd-tests", scheme="http", **options):
        self.directory = tempfile.mkdtemp(prefix="etagd-etcd-")
        self.token = token
        self.options = {name.replace("_", "-"): value for name, value in options.items()}
        ports = free_ports(2 * size)
        self.members = [Member(self, f"m{i}", ports[2 * i:2 * i + 2], scheme) for i in range(size)]
        atexit.register(shutil.rmtree, self.directory, ignore_errors=True)
        atexit.register(self.end)

    def begin(self, healthy=True):
        for member in self.members:
            member.start()
        if healthy:
            wait_until(self.healthy, 60, "a cluster with a leader")
        return self

    def end(self):
        for member in self.members:
            member.end()

    def initial(self):
        return ",".join(f"{m.name}={m.peer}" for m in self.members)

    def endpoints(self):
        return ",".join(m.client for m in self.members)

    def ctl(self, *args, user=None, check=True, member=None):
        tls = ["--cacert", self.options["trusted-ca-file"], "--cert", self.options["cert-file"], "--key", self.options["key-file"]] \
            if "cert-file" in self.options else []
        urls = member.client if member else self.endpoints()
        done = subprocess.run([*self.prefix, ETCDCTL, "--endpoints", urls, *tls, *(["--user", user] if user else []), *args], check=False,
                              capture_output=True, text=True, env={**os.environ, "ETCDCTL_API": "3"})
        if check and done.returncode != 0:
            raise AssertionError(f"etcdctl {args}: {done.stderr}")
        return done.stdout if done.returncode == 0 else None

    def healthy(self):
        return all(self.ctl("--command-timeout", "2s", "endpoint", "health", check=False, member=m) is not None for m in self.members)

    def states(self):
        return json.loads(self.ctl("endpoint", "status", "-w", "json"))

    def revision(self):
        return max(line["Status"]["header"]["revision"] for line in self.states())

    def leader(self):
        for line in self.states():
            if line["Status"]["leader"] == line["Status"]["header"]["member_id"]:
                return next(m for m in self.members if m.client == line["Endpoint"])
        raise AssertionError("no leader")

    def ask(self, path, body):
        """The JSON gateway by hand."""
        request = urllib.request.Request(f"{self.members[0].client}/v3/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=bound(20)) as answer:
            return json.load(answer)

    def put(self, key, value):
        return int(self.ask("kv/put", {"key": b64(key), "value": b64(value)})["header"]["revision"])

    def get(self, key):
        found = self.ask("kv/range", {"key": b64(key)}).get("kvs", [])
        return base64.b64decode(found[0].get("value", "")) if found else None

    def count(self, prefix):
        return int(self.ask("kv/range", {"key": b64(prefix), "range_end": b64(prefix[:-1] + "0"), "count_only": True}).get("count", 0))

    def delete(self, prefix):
        self.ask("kv/deleterange", {"key": b64(prefix), "range_end": b64(prefix[:-1] + "0")})

    def compact(self):
        self.ctl("compact", str(self.ask("kv/range", {"key": b64("x")})["header"]["revision"]), "--physical")

    def set_up(self, prefix, lease_ms=LEASE_MS, wait_ms=WAIT_MS):
        self.put(prefix + "setting", f"version=1 lease_ms={lease_ms} wait_ms={wait_ms}")
        return prefix


class OfCluster(Case):
    """A class whose tests share a cluster of three."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(3).begin()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.end()


class Engine(relay_db.Engine):
    """An engine on these endpoints, driven by hand."""

    def __init__(self, endpoints, prefix, host="a", nonce=relay_db.NONCE, opened=True, **more):
        self.environment = {"ETCD_PREFIX": prefix, **{"ETCD_" + name.upper(): value for name, value in more.items()}}
        before = dict(os.environ)
        os.environ.update(self.environment)
        try:
            super().__init__(endpoints, host, nonce, opened)
        finally:
            for name in self.environment:
                os.environ.pop(name, None)
                if name in before:
                    os.environ[name] = before[name]


class Fake:
    """A server that is no etcd: answer(path, body, number) is (status, bytes), or None: it closes without a word."""

    def __init__(self, answer):
        fake = self
        self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fake.asked.append(self.path)
                given = None if self.path == "/v3/watch" else answer(self.path, body, len(fake.asked))
                if given is None:
                    self.close_connection = True
                    return
                status, content = given
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                try:
                    self.wfile.write(content)
                except OSError:
                    pass

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def end(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
