# SPDX-License-Identifier: Apache-2.0
"""How many instructions of Python's one request of examples/django_uploads takes, without a server: the floor, a hit and a miss. On a
machine that others use too these are steady where requests a second are not. What C does (the look-up, SQLite, dictionaries) they
do not count.

usage: opcodes.py [--env NAME] [--by N] [--kind wsgi|asgi]        run by scripts/bench django --opcodes
    --env: by the Python of build/python/NAME, so with its Django
    --by: also the N functions that a hit spends most in, and their share of the floor's

Under WSGI by one call of the application, under ASGI by one too, whose threads count as well.
"""
import argparse
import asyncio
import collections
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
BUILD = os.path.join(ROOT, "build", "release")
PROJECT = os.path.join(ROOT, "examples", "django_uploads")
PAGE, FLOOR = "/api/v1/uploads/", "/api/v1/floor/"
TOKEN = "Token operator-7"
KINDS = ("wsgi", "asgi")
WARM = 30
TRIES = 200


# ---- Within the process that is counted ----


class Counter:
    """Counts what runs between begin() and end(), in threads too that begin after it was made."""

    def __init__(self):
        self._counts = None  # nothing is counted
        sys.settrace(self._call)
        threading.settrace(self._call)

    def _call(self, frame, _event, _argument):
        if self._counts is None:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._step

    def _step(self, frame, event, _argument):
        if event == "opcode" and self._counts is not None:
            code = frame.f_code
            self._counts[(code.co_filename, code.co_firstlineno, code.co_name)] += 1
        return self._step

    def begin(self):
        self._counts = collections.Counter()

    def end(self):
        made, self._counts = self._counts, None
        return made


def by_wsgi(path, etag):
    from project.wsgi import application

    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "127.0.0.1",
               "SERVER_PORT": "8000", "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_SOFTWARE": "bench", "REMOTE_ADDR": "127.0.0.1",
               "REMOTE_PORT": "40000", "RAW_URI": path, "HTTP_HOST": "127.0.0.1:8000", "HTTP_AUTHORIZATION": TOKEN, "wsgi.input": io.BytesIO(),
               "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http", "wsgi.version": (1, 0), "wsgi.multithread": False,
               "wsgi.multiprocess": True, "wsgi.run_once": False}
    if etag:
        environ["HTTP_IF_NONE_MATCH"] = etag
    said = []
    response = application(environ, lambda status, fields: said.append((int(status[:3]), dict(fields))))
    b"".join(response)
    response.close()
    return said[0]


_loop = None


def by_asgi(path, etag):
    global _loop
    from project.asgi import application

    fields = [(b"host", b"127.0.0.1:8000"), (b"authorization", TOKEN.encode())] + ([(b"if-none-match", etag.encode())] if etag else [])
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "path": path,
             "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": fields, "client": ("127.0.0.1", 40000),
             "server": ("127.0.0.1", 8000)}
    came, said = [{"type": "http.request", "body": b"", "more_body": False}], []

    async def receive():
        return came.pop() if came else await asyncio.Event().wait()

    async def send(message):
        if message["type"] == "http.response.start":
            said.append((message["status"], {name.decode().title(): value.decode() for name, value in message["headers"]}))

    if _loop is None:
        _loop = asyncio.new_event_loop()
    _loop.run_until_complete(application(scope, receive, send))
    return said[0]


def counted(counter, ask, path, etag=None):
    counter.begin()
    status, fields = ask(path, etag)
    return counter.end(), status, {name.lower(): value for name, value in fields.items()}.get("etag")


def measure(kind):
    """What one request takes, by function: the floor, a miss, and a conditional request that is answered 304."""
    import django

    counter = Counter()
    django.setup()
    ask = {"wsgi": by_wsgi, "asgi": by_asgi}[kind]
    found = {}
    for _ in range(WARM):
        found["floor"], _, _ = counted(counter, ask, FLOOR)
    for _ in range(WARM):
        found["miss"], _, etag = counted(counter, ask, PAGE)
    for _ in range(TRIES):  # the fill is on its way
        counts, status, _ = counted(counter, ask, PAGE, etag)
        if status == 304 and (os.environ["UPLOADS_CACHE"] != "etagd" or counts.total() < found["miss"].total() / 2):
            break
        time.sleep(0.05)
    else:
        raise SystemExit("no hit")
    for _ in range(WARM):
        found["304"], _, _ = counted(counter, ask, PAGE, etag)
    print(json.dumps({name: [[*function, count] for function, count in counts.items()] for name, counts in found.items()}))


# ---- Around it ----


def environment(directory):
    return {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.join(BUILD, "integrations", "python"), PROJECT]),
            "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "ETAGD_SOCKET": os.path.join(directory, "etagd.sock"),
            "UPLOADS_DB": os.path.join(directory, "uploads.sqlite3"), "DJANGO_SETTINGS_MODULE": "project.settings", "UPLOADS_DEBUG_HEADER": "0",
            "UPLOADS_RELEASE": "bench"}


@contextlib.contextmanager
def site(env):
    """A daemon and a database with rows: the Python that runs the site, its environment, a directory."""
    python = os.path.join(ROOT, "build", "python", env, "bin", "python") if env else "/usr/bin/python3"
    directory = tempfile.mkdtemp(prefix="etagd-bench-")
    known = environment(directory)
    daemon = subprocess.Popen([os.path.join(BUILD, "daemon", "etagd"), "--socket", known["ETAGD_SOCKET"], "--state-dir",
                               os.path.join(directory, "state"), "--fresh"], stderr=subprocess.DEVNULL)
    try:
        subprocess.run([os.path.join(BUILD, "tools", "etagctl"), "ping", "--wait", "--timeout-ms", "15000"], check=True, env=known,
                       stdout=subprocess.DEVNULL)
        for command in ("migrate", "-v0"), ("seed",):
            subprocess.run([python, os.path.join(PROJECT, "manage.py"), *command], check=True, env=known, cwd=directory,
                           stdout=subprocess.DEVNULL)
        yield python, known, directory
    finally:
        daemon.terminate()
        daemon.wait()
        shutil.rmtree(directory, ignore_errors=True)


def counts_of(kinds, python, known, directory):
    """kind -> cache -> what -> function -> opcodes"""
    made = {}
    for kind in kinds:
        for cache in ("django", "etagd"):
            out = subprocess.run([python, "-B", os.path.abspath(__file__), "--within", kind], check=True, stdout=subprocess.PIPE, text=True,
                                 env={**known, "UPLOADS_CACHE": cache}, cwd=directory).stdout
            made[kind, cache] = {name: {tuple(function): count for *function, count in counts} for name, counts in json.loads(out).items()}
    return made


def tell(kind, made, by):
    total = {(cache, what): sum(counts.values()) for cache in ("django", "etagd") for what, counts in made[kind, cache].items()}
    floor, hit = total["django", "floor"], total["etagd", "304"]
    print(f"{kind}: floor {floor}, with etagd installed {total['etagd', 'floor']}; a hit {hit}, floor / hit {floor / hit:.3f}; "
          f"Django's own 304 {total['django', '304']}; a miss {total['etagd', 'miss']}, by Django's own {total['django', 'miss']}")
    base, ours = made[kind, "django"]["floor"], made[kind, "etagd"]["304"]
    more = sorted(((count - base.get(function, 0), count, function) for function, count in ours.items()), key=lambda one: -one[0])
    for difference, count, (path, line, name) in more[:by]:
        print(f"  {difference:+6} {count:6}  {name}  {os.sep.join(path.split(os.sep)[-3:])}:{line}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--env")
    parser.add_argument("--by", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--within", choices=KINDS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.within:
        measure(given.within)
        return
    kinds = given.kind or KINDS
    with site(given.env) as (python, known, directory):
        made = counts_of(kinds, python, known, directory)
    for kind in kinds:
        tell(kind, made, given.by)


if __name__ == "__main__":
    main()
