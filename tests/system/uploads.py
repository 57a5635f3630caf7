# SPDX-License-Identifier: Apache-2.0
"""The processes of the uploads API (examples/), and how they are asked over HTTP."""
import collections
import http.client
import json
import os
import re
import socket
import subprocess
import threading

from harness import BUILD, bound

EXAMPLES = os.path.join(BUILD, "examples")
FRESH = "max-age=60, must-revalidate"
NOT_STORED = "no-cache, no-store, must-revalidate"
OWNER = "demo-customer-7"


def seed(path):
    """Makes a database: the same one each time."""
    subprocess.run([os.path.join(EXAMPLES, "uploads_seed"), "--db", path, "--seed", "1"], stdout=subprocess.DEVNULL,
                   timeout=bound(60), check=True)


def exchange(port, method, path, lines=(), body=None, host=b"localhost", version=b"1.1"):
    """A request of bytes as they are, lines without their ends; returns all bytes of the answer. The server closes. host: where
    no line says it; None: nowhere."""
    head = [method + b" " + path + b" HTTP/" + version, *lines, b"Connection: close"]
    if host is not None and not any(line.lower().startswith(b"host:") for line in lines):
        head.insert(1, b"Host: " + host)
    if body is not None:
        head.append(b"Content-Length: %d" % len(body))
    with socket.create_connection(("127.0.0.1", port), timeout=bound(30)) as connection:
        connection.sendall(b"\r\n".join(head) + b"\r\n\r\n" + (body or b""))
        return b"".join(iter(lambda: connection.recv(65536), b""))


Exchange = collections.namedtuple("Exchange", "status fields body")


def parse(data):
    """All bytes of an answer, as exchange() returns them. fields: lower-case name -> list of values."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        raise AssertionError(f"no HTTP answer: {data[:200]!r}")
    first, *lines = head.split(b"\r\n")
    fields = collections.defaultdict(list)
    for line in lines:
        name, _, value = line.partition(b":")
        fields[name.lower()].append(value.strip(b" \t"))
    return Exchange(int(re.fullmatch(rb"HTTP/1\.1 (\d{3}) .*", first).group(1)), fields, body)


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.etag = response.headers["ETag"]
        self.control = response.headers["Cache-Control"]
        self.body = response.read()

    def json(self):
        return json.loads(self.body)


class App:
    """One uploads_api process. Connections are kept, one a thread: a body where there must be none would be taken for
    the next answer, and break it."""

    def __init__(self, directory, socket_path, name, *args):
        self.log = open(os.path.join(directory, f"{name}.log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [os.path.join(EXAMPLES, "uploads_api"), "--db", os.path.join(directory, "db"), "--socket", socket_path, *args],
            stdout=subprocess.PIPE, stderr=self.log, stdin=subprocess.DEVNULL, text=True)
        self.port = int(re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", self.process.stdout.readline()).group(1))
        self.local = threading.local()
        self.connections = []

    def end(self):
        for connection in self.connections:
            connection.close()
        self.process.terminate()
        status = self.process.wait(bound(20))
        self.process.stdout.close()
        self.log.close()
        return status

    def request(self, method, path, body=None, token=OWNER, **conditions):
        """conditions: if_none_match='"v1"'; a list stands for several lines."""
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=bound(30))
            self.connections.append(self.local.connection)
        connection = self.local.connection
        connection.putrequest(method, path)
        if token:
            connection.putheader("Authorization", f"Bearer {token}")
        for name, values in conditions.items():
            for value in values if isinstance(values, (list, tuple)) else [values]:
                connection.putheader(name.replace("_", "-"), value)
        data = json.dumps(body).encode() if body is not None else b""
        if method in ("PUT", "POST"):
            connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data or None)
        return Answer(connection.getresponse())

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def counters(self):
        return self.request("GET", "/debug/counters", token=None).json()

    def exchange(self, method, path, lines=(), body=None, token=OWNER):
        return exchange(self.port, method, path.encode(), [b"Authorization: Bearer " + token.encode(), *lines], body)
