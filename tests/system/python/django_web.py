# SPDX-License-Identifier: Apache-2.0
"""Servers of Django in processes of their own, on a Unix socket or a port, and what they answer."""
import http.client
import json
import os
import socket
import subprocess
import sys

import django_site
from harness import BUILD, UnixHttp, bound, content_of, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))


class Reply:
    def __init__(self, response):
        self.status = response.status
        self.body = response.read()
        self.etag = response.getheader("ETag")
        self.said = response.getheader("X-Etag-Cache") or ""
        self.worker = int(response.getheader("X-Worker") or 0)
        self.head = response

    @property
    def hit(self):
        return self.said.startswith("hit")

    def __repr__(self):
        return f"{self.status} {self.etag} {self.said!r} {self.body[:300]!r}"


class Page(Reply):
    """One whose body is text."""

    def __init__(self, response):
        super().__init__(response)
        self.body = self.body.decode(errors="replace")


class Web:
    """A server that a test starts, asks and ends; its log and its socket are in place."""
    ALIVE = "/", 200  # a path, and what it answers once the server serves
    REPLY = Reply

    def __init__(self, place, name="web", cwd=None, **environment):
        self.place, self.cwd = place, cwd or place
        self.socket, self.log = os.path.join(place, name + ".sock"), os.path.join(place, name + ".log")
        self.port = None
        self.process = None
        self.environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join([HERE, django_site.SITES, django_site.PACKAGE, django_site.PROJECT, self.cwd]),
            "PYTHONDONTWRITEBYTECODE": "1", "ETAGD_BUILD": os.path.abspath(BUILD), **environment}

    def take_port(self):
        """A free one of 127.0.0.1, in the place of the socket."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        return self.port

    def spawn(self, *command):
        """command: what Python runs."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([sys.executable, *command], env=self.environment, cwd=self.cwd, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        return self

    def gunicorn(self, application, *options):
        return self.spawn("-m", "gunicorn", "--bind", f"127.0.0.1:{self.port}" if self.port else f"unix:{self.socket}", *options, application)

    def serving(self):
        wait_until(self.answers, 60, "the server answers")
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(content_of(self.log))
        try:
            return self.ask(self.ALIVE[0]).status == self.ALIVE[1]
        except (OSError, http.client.HTTPException):
            return False

    def ask(self, path, etag=None, method="GET", data=None, body=None, **headers):
        """data: what is sent as JSON; body: what is sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=bound(30)) if self.port else UnixHttp(self.socket)
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if etag is not None:
            fields["If-None-Match"] = etag
        if data is not None:
            fields["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body if data is None else json.dumps(data), fields)
            return self.REPLY(connection.getresponse())
        finally:
            connection.close()

    def end(self):
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(bound(20))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
