#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""front_end.py SOCKET CONNECTION: a front end of one of many hosts, as small as it can be. It serves the rows of

    CREATE TABLE uploads (id integer PRIMARY KEY, status text NOT NULL)

as /uploads/ID over HTTP on the Unix socket SOCKET, from the PostgreSQL of CONNECTION, and answers what is unchanged from the etagd of
its host (ETAGD_SOCKET). PUT writes: with the event in the transaction, and it returns when every host knows of it.

The field X-Answered says how: "memory" (304 by etagd), "rendered", or "kept": the database is away, so it is what was rendered last.
"""
import http.server
import os
import socketserver
import sys
import threading

import etagd
import psycopg2

HOST = "shop.example"
client = etagd.Client(timeout_ms=10000)
kept = {}


class Database:
    """A connection a thread; lost ones are made again."""

    def __init__(self, conninfo):
        self.conninfo = conninfo
        self.local = threading.local()

    def transaction(self, work):
        if getattr(self.local, "connection", None) is None:
            self.local.connection = psycopg2.connect(self.conninfo)
        connection = self.local.connection
        try:
            with connection, connection.cursor() as cursor:  # COMMIT at its end
                return work(cursor)
        except psycopg2.Error:
            self.local.connection = None
            connection.close()
            raise


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        token = client.token()  # before anything is read
        number = self.path.rsplit("/", 1)[-1]
        key = etagd.Key(etagd.Resource(HOST, self.path), etagd.PUBLIC)
        request = etagd.Request("GET", key, list(self.headers.items()))
        answer = client.check(request, token)  # after authorization, where there is one
        if answer.http_status:
            return self.answer(answer.http_status, answer.fields, b"", "memory")
        try:
            row = database.transaction(lambda cursor: self.read(cursor, number))
        except psycopg2.Error:
            return self.answer(200 if self.path in kept else 503, [], kept.get(self.path, b""), "kept")
        body = kept[self.path] = f"{number}: {row[0]}\n".encode() if row else b""
        fields = [("ETag", client.hash(body)), ("Cache-Control", "no-cache")]
        response = etagd.Response(fields, 200 if row else 404, surrogates=[f"upload:{number}"])
        status, answer = client.finish(request, response, answer)  # fills, and judges with what was rendered
        return self.answer(status, fields if status == 200 else answer.fields, body if status == 200 else b"", "rendered")

    def do_PUT(self):
        number = self.path.rsplit("/", 1)[-1]
        status = self.rfile.read(int(self.headers["Content-Length"])).decode()
        position = database.transaction(lambda cursor: self.write(cursor, number, status))
        try:
            client.invalidate(surrogates=[f"upload:{number}"], reach="everywhere", position=int(position))
            self.answer(204, [], b"", "everywhere")
        except etagd.Pending:  # committed; the other hosts follow within L_net
            self.answer(202, [], b"", "logged")

    @staticmethod
    def read(cursor, number):
        cursor.execute("SELECT status FROM uploads WHERE id = %s", [number])
        return cursor.fetchone()

    @staticmethod
    def write(cursor, number, status):
        cursor.execute("UPDATE uploads SET status = %s WHERE id = %s", [status, number])
        cursor.execute("SELECT etagd.invalidate(array[%s], ask => true)", [f"upload:{number}"])
        return cursor.fetchone()[0]

    def answer(self, status, fields, body, how):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("X-Answered", how)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):  # of a Unix socket there is none
        return "-"

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


if __name__ == "__main__":
    if os.path.exists(sys.argv[1]):
        os.unlink(sys.argv[1])
    database = Database(sys.argv[2])
    with Server(sys.argv[1], Handler) as server:
        server.serve_forever()
