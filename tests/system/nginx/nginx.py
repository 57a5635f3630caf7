# SPDX-License-Identifier: Apache-2.0
"""A real nginx with the module, as a child of the test; an HTTP application behind it; and how they are asked."""
import email.utils
import http.server
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
import uploads  # noqa: E402
from harness import BUILD, SKIP, Case, bound, content_of, put_file, wait_until  # noqa: E402
from uploads import parse  # noqa: E402

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:" + os.environ.get("PATH", ""))
MODULE = os.path.abspath(os.path.join(BUILD, "integrations", "nginx", "ngx_http_etag_cache_module.so"))
VALGRIND = os.environ.get("ETAGD_TEST_VALGRIND", "")  # 1: nginx runs under it
SANITIZE = os.environ.get("ETAGD_SANITIZE", "")

# Temporary files go to the test's directory too: nginx must touch nothing else.
MAIN = """
{before}
{load}
daemon {daemon};
{user}
worker_processes {workers};
worker_shutdown_timeout 10s;
pid {directory}/nginx.pid;
error_log {directory}/error.log {level};
{main}
events {{ worker_connections 512; }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    log_format cache '$request_method $request_uri $status $etag_cache_status $etag_cache_reason $etag_cache_lsn';
    log_format plain '$request_method $request_uri $status';
    access_log {directory}/access.log {format};
    {http}
}}
"""


def free_ports(count):
    """Ports that nobody listens on now; below those that the kernel gives to connections."""
    sockets = []
    while len(sockets) < count:
        s = socket.socket()
        try:
            s.bind(("127.0.0.1", random.randrange(12000, 32000)))
            sockets.append(s)
        except OSError:
            s.close()
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def sanitizer_environment():
    """A server without a sanitizer loads a module with one: the sanitizer's library has to come first."""
    if SANITIZE != "address":
        return {}
    library = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
    return {"LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1"}


class Foreign:
    """A process that is not our child, like one."""

    def __init__(self, pid):
        self.pid = pid

    def poll(self):
        try:
            os.readlink(f"/proc/{self.pid}/exe")
            return None
        except OSError:
            return 0

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def wait(self, seconds=20):
        wait_until(lambda: self.poll() is not None, seconds / harness.FACTOR, "the process ends")
        return 0


class Nginx:
    def __init__(self, directory, http, workers=1, main="", before="", loaded=True, level="info", daemon=False,
                 user="root"):
        self.directory = directory
        self.access = os.path.join(directory, "access.log")
        self.errors = os.path.join(directory, "error.log")
        self.conf = os.path.join(directory, "nginx.conf")
        self.before, self.user = before, user
        self.workers, self.main, self.loaded, self.level, self.daemon = workers, main, loaded, level, daemon
        self.process = None
        self.expected = None  # a fault that the test makes itself
        os.makedirs(directory, exist_ok=True)
        self.write(http)

    def write(self, http):
        text = MAIN.format(
            load=f"load_module {MODULE};" if self.loaded else "", directory=self.directory, workers=self.workers, level=self.level,
            before=self.before, daemon="on" if self.daemon else "off", user=f"user {self.user};" if os.getuid() == 0 else "", main=self.main, http=http,
            format="cache" if self.loaded else "plain")
        if not self.loaded:
            text = re.sub(r"\n\s*log_format cache [^\n]*", "", text)
        put_file(self.conf, text)

    def command(self, *args):
        return [NGINX, "-e", self.errors, "-p", self.directory, "-c", self.conf, *args]

    def environment(self):
        return {**os.environ, **sanitizer_environment()}

    def test(self):
        """nginx -t: exit status and what it said."""
        done = subprocess.run(self.command("-t"), capture_output=True, text=True, timeout=bound(20), check=False,
                              env=self.environment())
        return done.returncode, done.stderr

    def start(self, port):
        self.process = subprocess.Popen([*self.wrapper(), *self.command()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, env=self.environment())
        if self.daemon:
            self.process.wait(bound(20))
            self.process = self.master()
        wait_until(lambda: self.listens(port), 20, "nginx listens")
        return self

    def pid_file(self):
        return os.path.join(self.directory, "nginx.pid")

    def master(self):
        """By its pid file: of a daemon."""
        def pid():
            try:
                return int(content_of(self.pid_file()))
            except (FileNotFoundError, ValueError):
                return None
        return Foreign(wait_until(pid, 20, "the pid file"))

    def wrapper(self):
        if not VALGRIND:
            return []
        return ["valgrind", "-q", "--leak-check=no", f"--log-file={self.directory}/valgrind.%p"]

    def memory_errors(self):
        """What valgrind says; where all is well it says nothing."""
        found = []
        for name in os.listdir(self.directory):
            if name.startswith("valgrind."):
                with open(os.path.join(self.directory, name), encoding="utf-8", errors="replace") as file:
                    found += file.read().splitlines()
        return found

    def listens(self, port):
        if self.process.poll() is not None:
            raise AssertionError("nginx ended: " + self.log())
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    def log(self):
        try:
            with open(self.errors, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def worker_pids(self):
        return [int(pid) for pid in content_of(f"/proc/{self.process.pid}/task/{self.process.pid}/children").split()]

    def reload(self):
        before = set(self.worker_pids())
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(set(self.worker_pids()) - before) == self.workers, 20, "new workers")

    def lines(self):
        try:
            return content_of(self.access).splitlines()
        except FileNotFoundError:
            return []

    def end(self):
        """Ends it gracefully; what nginx holds to be a fault of a module stands in its log."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(bound(15))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError("nginx did not end") from None
        if not self.process:
            return
        faults = [line for line in self.log().splitlines()
                  if re.search(r"\[(alert|emerg)\]|exited on signal|AddressSanitizer|runtime error", line) and
                  not (self.expected and re.search(self.expected, line))]
        faults += self.memory_errors()
        if faults:
            raise AssertionError("nginx complains:\n" + "\n".join(faults[:40]))


# ---- An application behind it ----


class Document:
    def __init__(self, etag=None, body=b"hello\n", fields=(), conditions=True, status=200):
        self.etag, self.body, self.fields, self.conditions, self.status = etag, body, list(fields), conditions, status


class Origin:
    """A small application: documents in memory, with entity tags of their own, that can be written. It counts what it is
    asked, and can be told to wait before it answers."""

    def __init__(self):
        self.documents = {}
        self.writes = {}  # path -> (status, fields, body) of the answer to a method that writes
        self.requests = []
        self.lock = threading.Lock()
        self.gates = {}  # path -> (entered, go): between reading the document and sending it
        origin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def handle_one(self):
                origin.handle(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = do_OPTIONS = do_REPORT = do_MOVE = do_COPY = handle_one

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args):
                pass  # nginx went away

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def end(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def gate(self, path):
        entered, go = threading.Event(), threading.Event()
        self.gates[path] = (entered, go)
        return entered, go

    def count(self, path=None):
        with self.lock:
            return sum(1 for _, p in self.requests if path is None or p == path)

    def handle(self, h):
        with self.lock:
            self.requests.append((h.command, h.path))
        length = int(h.headers.get("Content-Length") or 0)
        sent = h.rfile.read(length)
        if h.command in ("GET", "HEAD"):
            self.read(h)
        else:
            self.write(h, sent)

    def read(self, h):
        with self.lock:
            document = self.documents.get(h.path)
            if document:
                etag, body, fields, conditions, status = document.etag, document.body, document.fields, document.conditions, document.status
        gate = self.gates.get(h.path)
        if gate:
            gate[0].set()
            gate[1].wait(bound(30))
        if not document:
            self.send(h, 404, [], b"nothing\n")
        elif conditions and etag and h.headers.get("If-None-Match") in (etag, "*"):
            self.send(h, 304, [("ETag", etag), *fields], b"")
        else:
            self.send(h, status, [*([("ETag", etag)] if etag else []), *fields], body)

    def write(self, h, sent):
        gate = self.gates.get(h.path)
        if gate:
            gate[0].set()
            gate[1].wait(bound(30))
        with self.lock:
            if h.command == "PUT" and h.path not in self.writes:
                old = self.documents.get(h.path)
                number = int(re.search(r"\d+", old.etag).group()) + 1 if old else 1
                self.documents[h.path] = Document(f'"v{number}"', sent, old.fields if old else ())
            status, fields, body = self.writes.get(h.path, (204, [], b""))
        if status is None:
            h.close_connection = True
        else:
            self.send(h, status, fields, body)

    @staticmethod
    def send(h, status, fields, body):
        h.send_response_only(status)
        h.send_header("Date", h.date_time_string())
        for name, value in fields:
            h.send_header(name, value)
        if status not in (204, 304):
            h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        if h.command != "HEAD" and status not in (204, 304):
            h.wfile.write(body)


# ---- Asking ----


def exchange(port, method, path, lines=(), body=None, host="localhost", version="1.1"):
    """uploads.exchange() of text."""
    return uploads.exchange(port, *(text.encode("latin-1") for text in (method, path)), [line.encode("latin-1") for line in lines], body,
                            None if host is None else host.encode("latin-1"), version.encode())


def ask(port, method, path, *lines, **options):
    return parse(exchange(port, method, path, lines, **options))


def without_date(data):
    """Without what differs by itself: the date; of Expires the distance to it stays."""
    date = re.search(rb"\r\nDate: ([^\r]*)", data)
    expires = re.search(rb"\r\nExpires: ([^\r]*)", data)
    if date and expires:
        seconds = [email.utils.parsedate_to_datetime(found.group(1).decode()).timestamp() for found in (date, expires)]
        data = data.replace(expires.group(), b"\r\nExpires: +%d" % (seconds[1] - seconds[0]))
    return data.replace(date.group(), b"") if date else data


class Load:
    """Threads that ask again and again, over kept connections, until they are told to stop; what went wrong, in words."""

    def __init__(self, threads, step):
        self.step, self.stop, self.wrong, self.done = step, threading.Event(), [], 0
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        try:
            while not self.stop.is_set():
                self.step(number)
                self.done += 1
        except Exception as error:  # pylint: disable=broad-except
            self.wrong.append(repr(error))

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(bound(30))
        return self.wrong


# ---- Tests ----

PUBLIC = "etag_cache on; etag_cache_scope public;"


class NginxCase(Case):
    """An nginx before upstreams, and what its log says of each request."""

    LEASE_MS = 600

    def nginx(self, http, name="nginx", **options):
        """An nginx with this http block, in which $PORT, $SOCKET and $DIR stand for what they say."""
        self.port, self.port2 = free_ports(2)
        made = Nginx(os.path.join(self.directory, name), self.fill_in(http, name), **options)
        self.addCleanup(made.end)
        return made

    def fill_in(self, http, name="nginx"):
        text = http.replace("$PORT", str(self.port)).replace("$HTTP2", str(self.port2)).replace("$DIR", os.path.join(self.directory, name))
        if hasattr(self, "origin"):
            text = text.replace("$ORIGIN", f"http://127.0.0.1:{self.origin.port}")
        return text.replace("$SOCKET", os.path.join(self.directory, "etagd.sock"))

    def with_origin(self):
        self.origin = Origin()
        self.addCleanup(self.origin.end)
        return self.origin

    def front(self, location="", server="", http="", rules=PUBLIC, **options):
        """nginx before the origin: one location for everything, and one to ask whether its client is online."""
        same_client = " ".join(re.findall(r"etag_cache_(?:invalidate_timeout|repeated_fields) [^;]*;", location))
        return self.nginx(f"""
            etag_cache_socket $SOCKET;
            {http}
            server {{
                listen 127.0.0.1:$PORT;
                {server}
                location / {{ {rules} proxy_pass $ORIGIN; {location} }}
                location = /-warm-up {{ {PUBLIC} {same_client} root $DIR; }}
            }}""", **options)

    def started_front(self, *args, **options):
        self.d = self.started(lease_ms=self.LEASE_MS)
        self.with_origin()
        self.n = self.front(*args, **options).start(self.port)
        self.warm_up()
        return self.n

    def warm_up(self):
        """Until the workers have the daemon's memory: one, or all as far as some answers in a row can tell."""
        in_a_row = 1 if self.n.workers == 1 else 20

        def online():
            for _ in range(in_a_row):
                self.get("/-warm-up")
                if self.logged()[0] != "MISS":
                    return False
            return True
        wait_until(online, 10, "the workers are online")

    def ask(self, method, path, *lines, **options):
        """Asks, and waits for the line in the log, which comes after the answer."""
        before = len(self.n.lines())
        answer = ask(self.port, method, path, *lines, **options)
        wait_until(lambda: len(self.n.lines()) > before, 5, "a line in the log")
        return answer

    def get(self, path, *lines, **options):
        return self.ask("GET", path, *lines, **options)

    def logged(self):
        """Status, reason and LSN of the last request."""
        return self.n.lines()[-1].split()[3:6]

    def entries(self, prefix):
        return self.d.ctl("list", "--prefix", prefix)["entries"]

    def fill(self, path, *lines, status="MISS", **options):
        answer = self.get(path, *lines, **options)
        self.assertEqual(answer.status, 200)
        self.assertEqual(self.logged()[0], status)
        self.sync()
        return answer

    def sync(self):
        self.d.ctl("sync")

    def is_hit(self, path, etag, *lines, **options):
        before = self.origin.count()
        answer = self.get(path, f"If-None-Match: {etag}", *lines, **options)
        if self.origin.count() != before:
            return False
        self.assertEqual((answer.status, answer.body), (304, b""))
        self.assertEqual(self.logged()[0], "HIT")
        return True

    def assertHit(self, *args, **options):
        self.assertTrue(self.is_hit(*args, **options), self.logged())

    def assertNoHit(self, *args, **options):
        self.assertFalse(self.is_hit(*args, **options))


def main():
    if not NGINX or not os.path.exists(MODULE):
        print(f"skipped: {'the module was not built' if NGINX else 'there is no nginx'}")
        sys.exit(SKIP)
    harness.main()
