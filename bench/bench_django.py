# SPDX-License-Identifier: Apache-2.0
"""The list page of examples/django_uploads (20 kB) under wrk, answered 304: by Django's ConditionalGetMiddleware, by etagd, and
beside them the framework's floor, a view that authenticates and answers an empty 304. Under gunicorn with two sync workers, and
under uvicorn with two. And one check from Python beside a redis-py GET over a Unix socket. All in rounds of one run: what disturbs
the machine disturbs all of them.

usage: bench_django.py [--quick] [--env NAME]        run by scripts/bench django
    --env: the servers run by the Python of build/python/NAME, so with its Django
"""
import argparse
import datetime
import http.client
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
BUILD = os.path.join(ROOT, "build", "release")
PACKAGE = os.path.join(BUILD, "integrations", "python")
PROJECT = os.path.join(ROOT, "examples", "django_uploads")
_parser = argparse.ArgumentParser()
_parser.add_argument("--quick", action="store_true")
_parser.add_argument("--env")
_given = _parser.parse_args()
PYTHON = os.path.join(ROOT, "build", "python", _given.env, "bin", "python") if _given.env else "/usr/bin/python3"
QUICK = _given.quick
ROUNDS, SECONDS = (2, 2) if QUICK else (7, 5)
TOKEN = "Token operator-7"
# -m, the workers, and where to listen.
SERVERS = {"wsgi": ("gunicorn", "--preload", "-w", "2", "--bind", "127.0.0.1:{}", "project.wsgi"),
           "asgi": ("uvicorn", "--workers", "2", "--log-level", "warning", "--no-access-log", "--port", "{}", "project.asgi:application")}
PAGE, FLOOR = "/api/v1/uploads/", "/api/v1/floor/"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(port, path, etag=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": TOKEN, **({"If-None-Match": etag} if etag else {})}
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


class Run:
    def __init__(self, directory):
        self.directory = directory
        self.processes = []
        self.environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join([PACKAGE, PROJECT]), "PYTHONDONTWRITEBYTECODE": "1",
            "ETAGD_SOCKET": os.path.join(directory, "etagd.sock"), "UPLOADS_DB": os.path.join(directory, "uploads.sqlite3"),
            "DJANGO_SETTINGS_MODULE": "project.settings", "UPLOADS_DEBUG_HEADER": "0", "UPLOADS_RELEASE": "bench"}  # as in production

    def spawn(self, *command, **more):
        log = open(os.path.join(self.directory, "log"), "ab")
        made = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory,
                                env={**self.environment, **more})
        self.processes.append(made)
        return made

    def manage(self, *args):
        subprocess.run([PYTHON, os.path.join(PROJECT, "manage.py"), *args], check=True, env=self.environment, cwd=self.directory,
                       stdout=subprocess.DEVNULL)

    def web(self, kind, cache):
        port = free_port()
        self.spawn(PYTHON, "-m", *(word.format(port) for word in SERVERS[kind]), UPLOADS_CACHE=cache)
        for _ in range(300):
            try:
                if get(port, FLOOR)[0].status == 304:
                    return port
            except OSError:
                pass
            time.sleep(0.1)
        with open(os.path.join(self.directory, "log"), encoding="utf-8") as log:
            raise SystemExit(f"{SERVERS[kind][0]} does not answer:\n{log.read()[-2000:]}")

    def end(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait()


def milliseconds(text):
    value, unit = re.fullmatch(r"([0-9.]+)(us|ms|s)", text).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def wrk(port, path, etag):
    condition = ["-H", f"If-None-Match: {etag}"] if etag else []
    out = subprocess.run(["wrk", "-t1", "-c4", f"-d{SECONDS}", "--latency", "-H", f"Authorization: {TOKEN}", *condition,
                          f"http://127.0.0.1:{port}{path}"], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out:
        raise SystemExit(out)
    return (float(re.search(r"Requests/sec: +([0-9.]+)", out).group(1)),
            *(milliseconds(re.search(rf" {part}% +(\S+)", out).group(1)) for part in (50, 99)))


# Says how many statements a request takes.
QUERIES = """
import django, os; django.setup()
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
import sys
known = {"HTTP_AUTHORIZATION": "%s", "HTTP_IF_NONE_MATCH": sys.argv[1]} if len(sys.argv) > 1 else {}
with CaptureQueriesContext(connection) as found:
    answer = Client().get(sys.argv[4], HTTP_HOST=sys.argv[2] + ":" + sys.argv[3], **known)
assert answer.status_code == 304, (answer.status_code, answer.get("ETag"), answer.content[:300])
print(len(found))
""" % TOKEN


def queries(run, cache, port, path, etag):
    return int(subprocess.run([PYTHON, "-c", QUERIES, etag, "127.0.0.1", str(port), path], check=True, stdout=subprocess.PIPE,
                              text=True, env={**run.environment, "UPLOADS_CACHE": cache}, cwd=run.directory).stdout)


def pages(run, kind):
    ports = {cache: run.web(kind, cache) for cache in ("django", "etagd")}
    etags = {}
    for cache, port in ports.items():
        response, body = get(port, PAGE)
        etags[cache] = response.getheader("ETag")
    asked = {cache: queries(run, cache, port, PAGE, etags[cache]) for cache, port in ports.items()}
    for _ in range(20):
        if asked["etagd"] < asked["django"]:
            break
        asked["etagd"] = queries(run, "etagd", ports["etagd"], PAGE, etags["etagd"])
    else:
        raise SystemExit("no hit")
    subjects = {"django": (ports["django"], PAGE, etags["django"]), "etagd": (ports["etagd"], PAGE, etags["etagd"]),
                "floor": (ports["django"], FLOOR, None), "floor, etagd installed": (ports["etagd"], FLOOR, None)}
    rounds = {name: [] for name in subjects}
    for _ in range(ROUNDS):
        for name, subject in subjects.items():
            rounds[name].append(wrk(*subject))
    made = {name: dict(zip(("requests_per_s", "p50_ms", "p99_ms"), (statistics.median(part) for part in zip(*found))))
            for name, found in rounds.items()}
    for cache in ports:
        made[cache]["queries"] = asked[cache]
    ratios = {peer: statistics.median(ours[0] / theirs[0] for ours, theirs in zip(rounds["etagd"], rounds[peer]))
              for peer in rounds if peer != "etagd"}
    return {"page_bytes": len(body), "rounds": ROUNDS, "seconds": SECONDS, "load": os.getloadavg()[0], "subjects": made, "etagd_to": ratios}


def lookups(run):
    """One check of a known entry that says 304, and one redis-py GET of its ETag: microseconds, fastest of rounds."""
    sys.path.insert(0, PACKAGE)
    import etagd
    import redis

    path = os.path.join(run.directory, "redis.sock")
    run.spawn("redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", run.directory)
    peer = redis.Redis(unix_socket_path=path)
    for _ in range(200):
        try:
            peer.set("key", '"v1"')
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    client = etagd.Client(run.environment["ETAGD_SOCKET"])
    key = etagd.Key(etagd.Resource("example.org", "/uploads/42"), "customer:7")
    client.fill_wait(client.token(), key, etagd.Response([("ETag", '"v1"'), ("Cache-Control", "max-age=60")], surrogates=["upload:42"]))

    def check():
        key = etagd.Key(etagd.Resource("example.org", "/uploads/42"), "customer:7")
        answer = client.check(etagd.Request("GET", key, [("If-None-Match", '"v1"')]), client.token())
        assert answer.http_status == 304

    def redis_get():
        assert peer.get("key") == b'"v1"'

    times = {check: [], redis_get: []}
    count = 2000
    for _ in range(5 if QUICK else 25):
        for call, found in times.items():
            began = time.perf_counter()
            for _ in range(count):
                call()
            found.append((time.perf_counter() - began) / count * 1e6)
    ratio = statistics.median(theirs / ours for ours, theirs in zip(times[check], times[redis_get]))
    return {"check_us": statistics.median(times[check]), "redis_get_us": statistics.median(times[redis_get]), "redis_to_etagd": ratio}


def main():
    directory = tempfile.mkdtemp(prefix="etagd-bench-")
    run = Run(directory)
    try:
        run.spawn(os.path.join(BUILD, "daemon", "etagd"), "--socket", run.environment["ETAGD_SOCKET"], "--state-dir",
                  os.path.join(directory, "state"), "--fresh")
        subprocess.run([os.path.join(BUILD, "tools", "etagctl"), "ping", "--wait", "--timeout-ms", "15000"], check=True,
                       env=run.environment, stdout=subprocess.DEVNULL)
        run.manage("migrate", "-v0")
        run.manage("seed")
        version = subprocess.run([PYTHON, "-c", "import django, sys; print(django.__version__, *sys.version_info[:2])"], check=True,
                                 stdout=subprocess.PIPE, text=True).stdout.split()
        found = {"django": version[0], "python": ".".join(version[1:]), "lookups": lookups(run),
                 "pages": {kind: pages(run, kind) for kind in SERVERS}}
    finally:
        run.end()
        shutil.rmtree(directory, ignore_errors=True)
    print(f"Django {found['django']}, Python {found['python']}")
    for kind, page in found["pages"].items():
        print(f"a list of {page['page_bytes']} bytes, answered 304; {SERVERS[kind][0]} with 2 workers, 4 connections; medians of {ROUNDS} rounds; "
              f"load {page['load']:.1f}")
        for name, figures in page["subjects"].items():
            print(f"  {name:<24} {figures['requests_per_s']:8.0f} requests/s   p50 {figures['p50_ms']:7.2f} ms   p99 {figures['p99_ms']:7.2f} ms"
                  + (f"   {figures['queries']} queries" if "queries" in figures else ""))
        for name, ratio in page["etagd_to"].items():
            print(f"  etagd / {name:<16} {ratio:.2f}")
    look = found["lookups"]
    print(f"one check from Python {look['check_us']:.1f} us, redis-py GET {look['redis_get_us']:.1f} us: {look['redis_to_etagd']:.1f} x")
    place = os.path.join(ROOT, "bench", "results", "latest" if QUICK else "")
    os.makedirs(place, exist_ok=True)
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    today = datetime.datetime.now(datetime.timezone.utc)
    name = f"django-{found['django']}-{today:%Y-%m-%d}-{re.sub('[^a-z0-9]+', '-', cpu.lower()).strip('-')}.json"
    with open(os.path.join(place, name), "w", encoding="utf-8") as file:
        json.dump({"date": f"{today:%Y-%m-%dT%H:%M:%SZ}", "quick": QUICK, "cpu": cpu, "cpus": os.cpu_count(), **found}, file, indent=1)
        file.write("\n")
    print("written:", os.path.relpath(os.path.join(place, name), ROOT))


if __name__ == "__main__":
    main()
