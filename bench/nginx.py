# SPDX-License-Identifier: Apache-2.0
"""A 304 from shared memory beside nginx's own ways to say 304, and Varnish's: one server process on CPU 0, the load (wrk) on
CPU 1, everything asked in turn in each round. The figure is the server's CPU time for a request, from the scheduler's
statistics, which is steadier than requests a second. And a miss with its fill beside the same page without the module: each request
asks for another URL.

Where others compute on the machine, CPU time says little: so the instructions of nginx' one process for a request too, by callgrind.

usage: nginx.py [--quick] [--before BUILD]      (scripts/bench nginx). Writes bench/results/<date>-<cpu>-nginx.json; --quick:
bench/results/latest/. --before: the same with daemon and module of another build, in the same run.
"""
import argparse
import itertools
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
CONNECTIONS = (32, 64)
BODY = b"x" * 4096

CONF = """
load_module {module};
daemon off; {user} master_process {master}; worker_processes 1; worker_cpu_affinity 01; pid {directory}/{name}.pid; error_log {directory}/{name}.log;
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


def end(process):
    """Asks again: valgrind may go to sleep in a system call just after a signal came, and see it at the next one only."""
    while process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            pass


# The misses of all rounds have room: an upstream that answers 304 itself, as here, does not fill again what they would push out.
CAPACITY = 4_000_000


class Servers:
    """etagd, nginx in front and as its upstream. counted: the front is one process, which callgrind counts."""

    def __init__(self, directory, build=BUILD, counted=False):
        self.directory, self.build, self.counted = directory, os.path.abspath(build), counted
        self.processes = []
        self.port, self.origin, self.varnish_port = free_ports(3)
        os.makedirs(f"{directory}/files")
        with open(f"{directory}/files/page.txt", "wb") as file:
            file.write(BODY)
        self.start([f"{self.build}/daemon/etagd", "--socket", f"{directory}/etagd.sock", "--state-dir", f"{directory}/state", "--fresh",
                    "--capacity", str(CAPACITY)])
        wait_for(lambda: subprocess.run([f"{self.build}/tools/etagctl", "--socket", f"{directory}/etagd.sock", "ping"], check=False,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0, "etagd")
        origin = self.nginx("origin", ORIGIN)
        self.nginx_front = front = self.nginx("front", CONF)
        wait_for(lambda: listens(self.port) and listens(self.origin), "nginx")
        if counted:
            return
        wait_for(lambda: self.workers(front) and self.workers(origin), "nginx's workers")
        self.front, self.upstream = self.workers(front), self.workers(origin)
        self.varnish = self.start_varnish() if build == BUILD else None

    @staticmethod
    def workers(master):
        """Those that say so by now: a moment after fork they have the master's name."""
        def is_worker(pid):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                return b"worker process" in file.read()
        return [pid for pid in children(master.pid) if is_worker(pid)]

    def start(self, command):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def nginx(self, name, conf):
        path = f"{self.directory}/{name}.conf"
        with open(path, "w", encoding="ascii") as file:
            file.write(conf.format(module=f"{self.build}/integrations/nginx/ngx_http_etag_cache_module.so", directory=self.directory, name=name,
                                   port=self.port, origin=self.origin, master="off" if self.counted else "on",
                                   user="user root;" if os.getuid() == 0 else ""))
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self.directory}/callgrind",
                    f"--log-file={self.directory}/counted"] if self.counted and name == "front" else []
        return self.start([*valgrind, "nginx", "-e", f"{self.directory}/{name}.log", "-p", self.directory, "-c", path])

    def start_varnish(self):
        if not shutil.which("varnishd"):
            return None
        process = self.start(["taskset", "-c", "0", "varnishd", "-F", "-a", f"127.0.0.1:{self.varnish_port}", "-b",
                              f"127.0.0.1:{self.origin}", "-n", f"{self.directory}/varnish", "-t", "3600"])
        wait_for(lambda: listens(self.varnish_port), "varnishd")
        return children(process.pid)

    def end(self):
        for process in reversed(self.processes):
            end(process)


# Each request asks for a page of its own, over all rounds.
MISSES = """
local n = tonumber("%d")
request = function() n = n + 1; return wrk.format("GET", wrk.path .. "?" .. n) end
"""
first_miss = itertools.count(1_000_000_000, 1_000_000_000)


def load(port, path, etag, connections, seconds):
    """wrk: requests, and what it says of latency. etag None: misses."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(MISSES % next(first_miss))
        script.flush()
        how = ["-s", script.name] if etag is None else ["-H", f"If-None-Match: {etag}"]
        done = subprocess.run(["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency", *how,
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


def kinds(servers, before=None):
    """What is asked: name, processes whose time counts, port, path. The name ends in what is answered."""
    front, port = servers.front, servers.port
    every = [("ours, 304", front, port, "/ours/page.txt"), ("return 304", front, port, "/return/page.txt"),
             ("static file, 304", front, port, "/static/page.txt"), ("proxy_cache, 304", front, port, "/cache/page.txt"),
             ("the upstream alone, 304", front + servers.upstream, port, "/upstream/page.txt")]
    if servers.varnish:
        every.append(("Varnish, 304", servers.varnish, servers.varnish_port, "/page.txt"))
    every += [("ours, miss", front, port, "/ours/page.txt"), ("without the module, miss", front, port, "/upstream/page.txt")]
    if before:
        every += [("before, 304", before.front, before.port, "/ours/page.txt"), ("before, miss", before.front, before.port, "/ours/page.txt")]
    return every


def is_miss(name):
    return name.endswith(", miss")


def tag_of(port, path):
    found = re.search(rb"ETag: ([^\r]+)", ask(port, path))
    return found.group(1).decode() if found else '"any"'  # return 304 has none


def run(servers, before, rounds, seconds):
    for _ in range(3):  # warm: what is kept is kept
        for _, _, port, path in kinds(servers, before):
            ask(port, path)
        time.sleep(0.3)
    for name, _, port, path in kinds(servers, before):
        if not is_miss(name) and not ask(port, path, f"If-None-Match: {tag_of(port, path)}").startswith(b"HTTP/1.1 304"):
            sys.exit(f"{name}: no 304")
    tags = {name: tag_of(port, path) for name, _, port, path in kinds(servers, before)}
    said = []
    for _ in range(rounds):
        for connections in CONNECTIONS:
            for name, pids, port, path in kinds(servers, before):
                said.append(measure(name, pids, port, path, None if is_miss(name) else tags[name], connections, seconds))
    return said


# ---- Instructions ----

COUNTED = 1000


def instructions(directory, build, path, misses):
    """Of nginx for a request: what 1000 more of them cost."""
    totals = []
    for count in (100, 100 + COUNTED):
        place = f"{directory}/{len(os.listdir(directory))}"
        os.mkdir(place)
        servers = Servers(place, build, counted=True)
        try:
            for _ in range(3):
                ask(servers.port, path)
                time.sleep(0.3)
            etag = tag_of(servers.port, path)
            with socket.create_connection(("127.0.0.1", servers.port)) as s, s.makefile("rb") as answers:
                for i in range(count):
                    condition = "" if misses else f"If-None-Match: {etag}\r\n"
                    s.sendall(f"GET {path}{f'?{i}' if misses else ''} HTTP/1.1\r\nHost: localhost\r\n{condition}\r\n".encode())
                    head = b"".join(iter(answers.readline, b"\r\n"))
                    if not head.startswith(b"HTTP/1.1 200" if misses else b"HTTP/1.1 304"):
                        sys.exit(f"{path}: {head}")
                    length = re.search(rb"Content-Length: (\d+)", head)
                    answers.read(int(length.group(1)) if misses and length else 0)
        finally:
            servers.end()
        with open(f"{place}/counted", encoding="ascii", errors="replace") as file:
            totals.append(int(re.search(r"Collected : (\d+)", file.read()).group(1)))
    return (totals[1] - totals[0]) / COUNTED


def count_all(directory, before):
    """Rows of the table: what, instructions, those of ours as a multiple."""
    every = [("ours, 304", BUILD, "/ours/page.txt"), ("return 304", BUILD, "/return/page.txt"),
             ("ours, miss", BUILD, "/ours/page.txt"), ("without the module, miss", BUILD, "/upstream/page.txt")]
    if before:
        every += [("before, 304", before, "/ours/page.txt"), ("before, miss", before, "/ours/page.txt")]
    counted = {name: instructions(directory, build, path, is_miss(name)) for name, build, path in every}
    return [{"kind": name, "instructions": count, "ratio": counted["ours, miss" if is_miss(name) else "ours, 304"] / count}
            for name, count in counted.items()]


def summary(measured):
    rows = []
    for connections in CONNECTIONS:
        of = {}
        for m in measured:
            if m["connections"] == connections:
                of.setdefault(m["kind"], []).append(m)
        for kind, every in of.items():
            ours = of["ours, miss" if is_miss(kind) else "ours, 304"]
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
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--before", metavar="BUILD", help="a build directory of another version, to compare with")
    options = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="etagd-bench-")
    servers = before = None
    try:
        os.mkdir(f"{directory}/counted")
        counted = count_all(f"{directory}/counted", options.before) if shutil.which("valgrind") else []
        os.mkdir(f"{directory}/now")
        servers = Servers(f"{directory}/now")
        if options.before:
            os.mkdir(f"{directory}/before")
            before = Servers(f"{directory}/before", options.before)
        rows = summary(run(servers, before, 2 if options.quick else 7, 1 if options.quick else 3))
        hits = json.loads(subprocess.run([f"{BUILD}/tools/etagctl", "--socket", f"{directory}/now/etagd.sock", "--json", "status"],
                                         capture_output=True, text=True, check=True).stdout)
    finally:
        for every in (servers, before):
            if every:
                every.end()
        shutil.rmtree(directory)
    print(f"{'what':26}{'conn':>5}{'CPU us':>9}{'req/s':>10}{'p50 us':>9}{'p99 us':>9}   ours / this")
    for row in rows:
        print(f"{row['kind']:26}{row['connections']:5}{row['cpu_us']:9.2f}{row['per_s']:10.0f}{row['p50_us']:9.0f}{row['p99_us']:9.0f}"
              f"   {row['ratio']:.2f} ({row['ratio_min']:.2f}-{row['ratio_max']:.2f})")
    print(f"{'what':26}{'instructions':>14}   ours / this")
    for row in counted:
        print(f"{row['kind']:26}{row['instructions']:14.0f}   {row['ratio']:.3f}")
    path = result_path(options.quick)
    with open(path, "w", encoding="ascii") as file:
        json.dump({"rows": rows, "instructions": counted, "not_modified": hits.get("clients.not_modified")}, file, indent=1)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
