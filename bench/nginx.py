# SPDX-License-Identifier: Apache-2.0
"""A 304 from shared memory beside nginx's own ways to say 304, and Varnish's: one server process on CPU 0, the load (wrk) on
CPU 1, everything asked in turn in each round. The figure is the server's CPU time for a request, from the scheduler's
statistics, which is steadier than requests a second.

usage: nginx.py [--quick]      (scripts/bench nginx). Writes bench/results/<date>-<cpu>-nginx.json; --quick: bench/results/latest/.
"""
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = "build/release"
MODULE = os.path.abspath(f"{BUILD}/integrations/nginx/ngx_http_etag_cache_module.so")
CONNECTIONS = (32, 64)
BODY = b"x" * 4096

CONF = """
load_module {module};
daemon off; {user} worker_processes 1; worker_cpu_affinity 01; pid {directory}/{name}.pid; error_log {directory}/{name}.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 1000000000; types {{ text/plain txt; }}
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    proxy_cache_path {directory}/cache keys_zone=cache:1m;
    etag_cache_socket {directory}/etagd.sock;
    upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; }}
    proxy_http_version 1.1; proxy_set_header Connection "";
    server {{
        listen 127.0.0.1:{port};
        location /return/ {{ return 304; }}
        location /static/ {{ alias {directory}/files/; }}
        location /cache/ {{ proxy_cache cache; proxy_cache_valid 1h; proxy_pass http://origin/; }}
        location /ours/ {{ etag_cache on; etag_cache_scope public; proxy_pass http://origin/; }}
        location /upstream/ {{ proxy_pass http://origin/; }}
    }}
}}
"""
ORIGIN = """
daemon off; {user} worker_processes 1; worker_cpu_affinity 01; pid {directory}/origin.pid; error_log {directory}/origin.log;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 1000000000; types {{ text/plain txt; }}
    client_body_temp_path {directory}/obody; proxy_temp_path {directory}/oproxy; fastcgi_temp_path {directory}/ofastcgi;
    uwsgi_temp_path {directory}/ouwsgi; scgi_temp_path {directory}/oscgi;
    server {{ listen 127.0.0.1:{origin}; root {directory}/files; }} }}
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def wait_for(condition, what):
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"not within 20 s: {what}")
        time.sleep(0.02)


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def cpu_ns(pids):
    """All threads of these processes: time on a CPU."""
    total = 0
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
    return total


def ask(port, path, *lines):
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall("\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *lines, "", ""]).encode())
        return b"".join(iter(lambda: s.recv(65536), b""))


class Servers:
    def __init__(self, directory):
        self.directory = directory
        self.processes = []
        self.port, self.origin, self.varnish_port = free_ports(3)
        os.makedirs(f"{directory}/files")
        with open(f"{directory}/files/page.txt", "wb") as file:
            file.write(BODY)
        self.start([f"{BUILD}/daemon/etagd", "--socket", f"{directory}/etagd.sock", "--state-dir", f"{directory}/state", "--fresh"])
        wait_for(lambda: subprocess.run([f"{BUILD}/tools/etagctl", "--socket", f"{directory}/etagd.sock", "ping"], check=False,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0, "etagd")
        origin = self.nginx("origin", ORIGIN)
        front = self.nginx("front", CONF)
        wait_for(lambda: listens(self.port) and listens(self.origin), "nginx")
        wait_for(lambda: children(front.pid) and children(origin.pid), "nginx's workers")
        self.front = [child for child in children(front.pid) if self.is_worker(child)]
        self.behind = [child for child in children(origin.pid) if self.is_worker(child)]
        self.varnish = self.start_varnish()

    @staticmethod
    def is_worker(pid):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"worker process" in file.read()

    def start(self, command):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def nginx(self, name, conf):
        path = f"{self.directory}/{name}.conf"
        with open(path, "w", encoding="ascii") as file:
            file.write(conf.format(module=MODULE, directory=self.directory, name=name, port=self.port, origin=self.origin,
                                   user="user root;" if os.getuid() == 0 else ""))
        return self.start(["nginx", "-e", f"{self.directory}/{name}.log", "-p", self.directory, "-c", path])

    def start_varnish(self):
        if not shutil.which("varnishd"):
            return None
        process = self.start(["taskset", "-c", "0", "varnishd", "-F", "-a", f"127.0.0.1:{self.varnish_port}", "-b",
                              f"127.0.0.1:{self.origin}", "-n", f"{self.directory}/varnish", "-t", "3600"])
        wait_for(lambda: listens(self.varnish_port), "varnishd")
        return children(process.pid)

    def end(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()


def load(port, path, etag, connections, seconds):
    """wrk: requests, and what it says of latency."""
    done = subprocess.run(["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", f"If-None-Match: {etag}",
                           "-H", "Host: localhost", f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True)
    said = done.stdout
    if "Socket errors" in said:
        sys.exit("wrk: " + said)
    unit = {"us": 1, "ms": 1000, "s": 1e6}
    latency = {p: float(v) * unit[u] for p, v, u in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", said)}
    return int(re.search(r"(\d+) requests in", said).group(1)), float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1)), latency


def measure(kind, pids, port, path, etag, connections, seconds):
    before = cpu_ns(pids)
    count, rate, latency = load(port, path, etag, connections, seconds)
    return {"kind": kind, "connections": connections, "cpu_us": (cpu_ns(pids) - before) / count / 1000, "per_s": rate,
            "p50_us": latency["50"], "p99_us": latency["99"]}


def kinds(servers):
    """What is asked: name, processes whose time counts, port, path."""
    front, port = servers.front, servers.port
    every = [("ours, 304", front, port, "/ours/page.txt"), ("return 304", front, port, "/return/page.txt"),
             ("static file, 304", front, port, "/static/page.txt"), ("proxy_cache, 304", front, port, "/cache/page.txt"),
             ("the upstream alone, 304", front + servers.behind, port, "/upstream/page.txt")]
    if servers.varnish:
        every.append(("Varnish, 304", servers.varnish, servers.varnish_port, "/page.txt"))
    return every


def run(servers, rounds, seconds):
    etag = re.search(rb"ETag: ([^\r]+)", ask(servers.origin, "/page.txt")).group(1).decode()
    for _ in range(3):  # warm: what is kept is kept
        for _, _, port, path in kinds(servers):
            ask(port, path)
        time.sleep(0.3)
    for name, _, port, path in kinds(servers):
        if not ask(port, path, f"If-None-Match: {etag}").startswith(b"HTTP/1.1 304"):
            sys.exit(f"{name}: no 304")
    said = []
    for _ in range(rounds):
        for connections in CONNECTIONS:
            for name, pids, port, path in kinds(servers):
                said.append(measure(name, pids, port, path, etag, connections, seconds))
    return said


def summary(measured):
    rows = []
    for connections in CONNECTIONS:
        of = {}
        for m in measured:
            if m["connections"] == connections:
                of.setdefault(m["kind"], []).append(m)
        ours = of["ours, 304"]
        for kind, every in of.items():
            ratios = [o["cpu_us"] / e["cpu_us"] for o, e in zip(ours, every)]
            rows.append({"kind": kind, "connections": connections, "rounds": len(every), "ratio": statistics.median(ratios),
                         "ratio_min": min(ratios), "ratio_max": max(ratios),
                         **{key: statistics.median(e[key] for e in every) for key in ("cpu_us", "per_s", "p50_us", "p99_us")}})
    return rows


def result_path(quick):
    cpu = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo", encoding="utf-8").read())
    word = re.sub(r"[^a-z0-9]+", "-", (cpu.group(1) if cpu else "cpu").lower()).strip("-")
    folder = "bench/results/latest" if quick else "bench/results"
    os.makedirs(folder, exist_ok=True)
    return f"{folder}/{time.strftime('%Y-%m-%d', time.gmtime())}-{word}-nginx.json"


def main():
    quick = "--quick" in sys.argv
    directory = tempfile.mkdtemp(prefix="etagd-bench-")
    servers = None
    try:
        servers = Servers(directory)
        rows = summary(run(servers, 2 if quick else 7, 1 if quick else 3))
        hits = json.loads(subprocess.run([f"{BUILD}/tools/etagctl", "--socket", f"{directory}/etagd.sock", "--json", "status"],
                                         capture_output=True, text=True, check=True).stdout)
    finally:
        if servers:
            servers.end()
        shutil.rmtree(directory)
    print(f"{'what':26}{'conn':>5}{'CPU us':>9}{'req/s':>10}{'p50 us':>9}{'p99 us':>9}   ours / this")
    for row in rows:
        print(f"{row['kind']:26}{row['connections']:5}{row['cpu_us']:9.2f}{row['per_s']:10.0f}{row['p50_us']:9.0f}{row['p99_us']:9.0f}"
              f"   {row['ratio']:.2f} ({row['ratio_min']:.2f}-{row['ratio_max']:.2f})")
    path = result_path(quick)
    with open(path, "w", encoding="ascii") as file:
        json.dump({"rows": rows, "not_modified": hits.get("clients.not_modified")}, file, indent=1)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
