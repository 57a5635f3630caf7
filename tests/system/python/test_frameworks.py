# SPDX-License-Identifier: Apache-2.0
"""etagd.asgi and etagd.wsgi: the table of preconditions through both, then FastAPI under a real uvicorn and Flask under gunicorn, with what
SQLAlchemy commits."""
import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import threading
import unittest
from urllib.parse import unquote

import django_site
import harness
from django_web import HERE, Web
from harness import Case, bound, wait_until

django_site.require("fastapi", "flask", "sqlalchemy", "uvicorn", "gunicorn")
import framework_storm  # noqa: E402
import tables  # noqa: E402

import etagd  # noqa: E402
from etagd import asgi, wsgi  # noqa: E402
from etagd.sqlalchemy import watch  # noqa: E402

BODY = b"body"


# ---- The table ----


class Row:
    def __init__(self, cells):
        self.id, self.method = cells["id"].decode(), cells["method"].decode()
        self.front = cells["front"].decode()
        self.expected = [int(one) for one in cells["expected_status"].decode().split("/")]
        lines = [tables.unescape(line) for line in cells["request_headers"].split(b" | ")] if cells["request_headers"] != b"-" else []
        self.fields = [tuple(line.split(b":", 1)) for line in lines]
        self.etag = tables.unescape(cells["current_etag"]) if cells["current_etag"] != b"-" else None
        self.date = tables.unescape(cells["current_last_modified"]) if cells["current_last_modified"] != b"-" else None
        self.exists = cells["base_status"] == b"200"

    @property
    def is_expressible(self):
        return self.method in ("GET", "HEAD") and self.exists and not any(set(value) & set(b"\r\n\0") for _, value in self.fields)

    @property
    def validators(self):
        return [(name, value) for name, value in ((b"etag", self.etag), (b"last-modified", self.date)) if value is not None]


class Asgi:
    """The row's page as an ASGI application in this process."""

    def __init__(self, client, row):
        self.row, self.renders = row, 0
        self.app = asgi.EtagMiddleware(self.page, scope=etagd.PUBLIC, client=client, vary=(), hash_bodies=False,
                                       last_modified_is_strong=True)

    async def page(self, scope, _receive, send):
        if asgi.check(scope):
            await send({"type": "http.response.start", "status": 304, "headers": []})
            await send({"type": "http.response.body"})
            return
        self.renders += 1
        headers = [*self.row.validators, (b"content-length", b"%d" % len(BODY)), (b"cache-control", b"max-age=5")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else BODY})

    def ask(self, path, fields, method):
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": method, "scheme": "http", "path": unquote(path), "raw_path": path.encode(), "query_string": b"",
                 "headers": [(b"host", b"example.org"), *((name.lower(), value.strip(b" \t")) for name, value in fields)]}
        asyncio.run(self.app(scope, None, send))
        start, *bodies = sent
        return start["status"], dict(start["headers"]), b"".join(message.get("body", b"") for message in bodies)


class Wsgi:
    """The same as a WSGI application. Field lines of one name are joined, as servers do."""

    def __init__(self, client, row):
        self.row, self.renders = row, 0
        self.app = wsgi.EtagMiddleware(self.page, scope=etagd.PUBLIC, client=client, vary=(), hash_bodies=False,
                                       last_modified_is_strong=True)

    def page(self, environ, start_response):
        if wsgi.check(environ):
            start_response("304 Not Modified", [])
            return []
        self.renders += 1
        fields = [(name.decode(), value.decode("latin-1")) for name, value in self.row.validators]
        start_response("200 OK", [*fields, ("content-length", str(len(BODY))), ("cache-control", "max-age=5")])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else BODY]

    def ask(self, path, fields, method):
        environ = {"REQUEST_METHOD": method, "PATH_INFO": unquote(path), "wsgi.url_scheme": "http", "HTTP_HOST": "example.org"}
        for name, value in fields:
            key = "HTTP_" + name.decode().upper().replace("-", "_")
            value = value.decode("latin-1").strip(" \t")
            environ[key] = f"{environ[key]}, {value}" if key in environ else value
        said = []
        body = b"".join(self.app(environ, lambda status, headers, _=None: said.append((status, headers))))
        status, headers = said[-1]
        return int(status.split()[0]), {name.lower().encode(): value.encode("latin-1") for name, value in headers}, body


class Table(Case):
    def through(self, kind):
        d = self.started()
        client = etagd.Client(d.socket, connect_timeout_ms=2000)
        client.connect()
        pages = []
        for cells in tables.rows("preconditions.tsv"):
            row = Row(cells)
            if row.is_expressible:
                pages.append((row, kind(client, row), f"/row/{row.id}"))
        for row, page, path in pages:
            with self.subTest(row=row.id, fields=row.fields):
                self.check_answer(row, page.ask(path, row.fields, row.method))
                self.assertEqual(page.renders, 1)
            page.ask(path, [], "GET")
        d.ctl("sync")
        hits = 0
        for row, page, path in pages:
            before = page.renders
            with self.subTest(row=row.id, fields=row.fields, cached=True):
                answer = page.ask(path, row.fields, row.method)
                self.check_answer(row, answer)
                from_memory = page.renders == before
                hits += from_memory
                if row.etag and row.front in ("304", "origin"):
                    self.assertEqual(from_memory and answer[0] == 304, row.front == "304")
        self.assertGreater(len(pages), 80)
        self.assertGreater(hits, 30)

    def check_answer(self, row, answer):
        status, fields, body = answer
        self.assertIn(status, row.expected)
        if status == 304:
            self.assertEqual((fields.get(b"etag"), body), (row.etag, b""))
            self.assertNotIn(b"content-length", fields)
            self.assertEqual(fields[b"cache-control"], b"max-age=5")
        elif status == 200:
            self.assertEqual(body, b"" if row.method == "HEAD" else BODY)

    def test_asgi(self):
        self.through(Asgi)

    def test_wsgi(self):
        self.through(Wsgi)


# ---- A real site ----


class Site:
    """What holds of both frameworks."""

    COMMAND = ()

    @classmethod
    def setUpClass(cls):
        cls.etagd = cls.shared_daemon(linger_ms=3000)
        database, cls.gate = os.path.join(cls.place, "uploads.sqlite3"), os.path.join(cls.place, "gate")
        cls.web = Web(cls.place, ETAGD_SOCKET=cls.etagd.socket, FRAMEWORKS_DB=database, FRAMEWORKS_GATE=cls.gate)
        subprocess.run([sys.executable, "-c", "import framework_apps; framework_apps.seed()"], env=cls.web.environment, check=True,
                       timeout=bound(120), cwd=HERE)
        cls.addClassCleanup(cls.web.end)
        cls.web.take_port()
        cls.web.spawn(*(word.format(port=cls.web.port) for word in cls.COMMAND)).serving()

    def ask(self, path, etag=None, token="seven", **more):
        """Pages of customers with a token, the public ones without."""
        if path.startswith("/uploads"):
            more["Authorization"] = f"Bearer {token}"
        return self.web.ask(path, etag, **more)

    def known(self, path, **more):
        """Its ETag; it is answered from the cache."""
        first = self.ask(path, **more)
        self.assertEqual(first.status, 200, first)
        self.etagd.ctl("sync")
        second = self.ask(path, first.etag, **more)
        self.assertTrue(second.hit and second.status == 304, (path, first, second))
        self.assertIsNone(second.head.getheader("X-Renders"))
        self.assertEqual((second.etag, second.body), (first.etag, b""))
        return first.etag

    def never_stored(self, path, reason=None, **more):
        first = self.ask(path, **more)
        self.etagd.ctl("sync")
        second = self.ask(path, first.etag, **more)
        self.assertFalse(second.hit, second)
        if reason:
            self.assertIn(reason, second.said + first.said)
        return second

    def becomes_stale(self, path, write):
        etag = self.known(path)
        self.assertEqual(self.ask(write, method="POST").status, 200)
        after = self.ask(path, etag)
        self.assertEqual(after.status, 200, after)
        self.assertNotEqual(after.etag, etag)
        return after

    def test_a_hit_runs_no_handler(self):
        before = int(self.ask("/unchecked").head.getheader("X-Renders"))
        etag = self.known("/public")
        for _ in range(3):
            self.assertEqual(self.ask("/public", etag).status, 304)
        self.assertEqual(int(self.ask("/unchecked").head.getheader("X-Renders")), before + 2)  # /public once, and this

    def test_a_write_of_the_session_makes_its_rows_stale(self):
        after = self.becomes_stale("/uploads", "/uploads/1?title=written")
        self.assertIn(b"written", after.body)
        self.known("/uploads")

    def test_a_write_to_another_customer_leaves_the_page(self):
        etag = self.known("/uploads")
        self.assertEqual(self.ask("/uploads/2?title=other", method="POST").status, 200)
        self.assertEqual(self.ask("/uploads", etag).status, 304)

    def test_a_row_that_moves_leaves_both_pages_stale(self):
        mine, theirs = self.known("/uploads"), self.known("/uploads", token="eight")
        self.assertEqual(self.ask("/uploads/1?title=moved&customer_id=8", method="POST").status, 200)
        self.assertEqual([self.ask("/uploads", mine).status, self.ask("/uploads", theirs, token="eight").status], [200, 200])
        self.assertEqual(self.ask("/uploads/1?title=back&customer_id=7", method="POST").status, 200)

    def test_a_statement_that_changes_many_rows(self):
        self.becomes_stale("/uploads", "/bulk?title=bulk-" + self.id()[-8:])
        self.known("/uploads")
        self.becomes_stale("/uploads", "/bulk?title=again-" + self.id()[-8:])

    def test_invalidates_around_sql_as_text(self):
        self.becomes_stale("/uploads", "/raw/1?title=raw-" + self.id()[-8:])

    def test_customers_do_not_share(self):
        etag = self.known("/uploads")
        other = self.ask("/uploads", etag, token="eight")
        self.assertEqual(other.status, 200)
        self.assertEqual(self.ask("/uploads", etag, token="none").status, 401)

    def test_what_is_not_checked_is_not_stored(self):
        self.never_stored("/unchecked", "not_checked")

    def test_a_stream_passes_and_is_not_stored(self):
        again = self.never_stored("/stream", "streamed")
        self.assertEqual((again.status, again.body, again.etag), (200, b"abc", '"stream"'))

    def test_an_answer_that_sets_a_cookie(self):
        self.never_stored("/cookie", "set_cookie")

    def test_what_the_application_withholds(self):
        self.never_stored("/withheld", "chance")

    def test_an_error_is_an_error(self):
        self.assertEqual(self.never_stored("/broken").status, 500)

    def test_a_render_that_a_write_overtook_is_not_stored(self):
        for name in (self.gate, self.gate + ".waits"):
            if os.path.exists(name):
                os.remove(name)
        late = []
        thread = threading.Thread(target=lambda: late.append(self.ask("/uploads?gate")))
        thread.start()
        wait_until(lambda: os.path.exists(self.gate + ".waits"), 20, "the handler has read")
        self.assertEqual(self.ask("/uploads/1?title=newer-" + self.id()[-8:], method="POST").status, 200)
        with open(self.gate, "w", encoding="ascii"):
            pass
        thread.join()
        self.etagd.ctl("sync")
        after = self.ask("/uploads?gate", late[0].etag)
        self.assertEqual(after.status, 200, after)

    def test_a_head_is_answered_and_a_miss_of_it_stores_nothing(self):
        etag = self.known("/public")
        self.assertEqual(self.ask("/public", etag, method="HEAD").status, 304)


class Fastapi(Site, Case):
    COMMAND = ("-m", "uvicorn", "--factory", "--port", "{port}", "--log-level", "warning", "framework_apps:fastapi_app")

    def test_a_handler_on_the_pool(self):
        self.becomes_stale("/uploads-sync", "/uploads/1?title=pool-" + self.id()[-8:])

    def test_what_middlewares_inside_add_to_a_304(self):
        etag = self.known("/public")
        hit = self.ask("/public", etag, Origin="http://other.example")
        self.assertEqual(hit.status, 304)
        self.assertEqual(hit.head.getheader("Access-Control-Allow-Origin"), "*")

    def test_background_tasks_run_after_the_answer(self):
        self.known("/background")

    def test_mounted_applications(self):
        self.known("/mounted/page")

    def test_websockets_pass(self):
        with socket.create_connection(("127.0.0.1", self.web.port), bound(20)) as connection:
            key = base64.b64encode(os.urandom(16))
            connection.sendall(b"GET /socket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                               b"Sec-WebSocket-Key: " + key + b"\r\n\r\n")
            said = b""
            while b"socket" not in said.lower().partition(b"\r\n\r\n")[2]:
                more = connection.recv(4096)
                self.assertTrue(more, said)
                said += more


class Flask(Site, Case):
    COMMAND = ("-m", "gunicorn", "--workers", "1", "--threads", "4", "--bind", "127.0.0.1:{port}", "framework_apps:flask_app()")

    def test_files_pass(self):
        self.assertEqual(self.never_stored("/file", "streamed").status, 200 if False else 304)  # Flask's own condition


class Storms(Case):
    """Short: scripts/torture-python is the long form."""

    def of(self, framework):
        done = framework_storm.storm(framework, self.directory, self.started(linger_ms=3000), 8, 7)
        self.assertEqual(done.wrong, [])
        self.assertGreater(done.counts["writes"], 5, done.counts)
        self.assertGreater(done.counts["304 from etagd"], 0, done.counts)

    def test_fastapi(self):
        self.of("fastapi")

    def test_flask(self):
        self.of("flask")


# ---- SQLAlchemy alone ----


class Sessions(Case):
    """In this process: what a session's end does to names."""

    def setUp(self):
        super().setUp()
        from sqlalchemy import create_engine
        from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
        self.d = self.started()
        self.client = etagd.Client(self.d.socket, connect_timeout_ms=2000)
        self.client.connect()

        class Base(DeclarativeBase):
            pass

        class Thing(Base):
            __tablename__ = "thing"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(unique=True)

            def __etag_names__(self):
                return [f"thing:{self.id}", f"named:{self.name}"]

        self.Thing = Thing
        engine = create_engine(f"sqlite:///{self.directory}/things.sqlite3")
        Base.metadata.create_all(engine)
        self.Session = sessionmaker(engine)
        watch(self.Session, client=self.client)
        self.lsn = 0

    def told(self):
        """The names of what happened since the last call."""
        events = [json.loads(line) for line in self.d.ctl_raw("--json", "log").stdout.splitlines()]
        new = [one for one in events if one["lsn"] > self.lsn]
        self.lsn = max([self.lsn, *(one["lsn"] for one in events)])
        return sorted({target.get("name", "*") for one in new for target in one["targets"]}), new

    def test_insert_update_delete(self):
        with self.Session() as session:
            session.add(self.Thing(id=1, name="a"))
            session.commit()
            self.assertEqual(self.told()[0], ["named:a", "thing:1"])
            session.get(self.Thing, 1).name = "b"
            session.commit()
            row = session.get(self.Thing, 1)
            self.assertEqual(row.name, "b")
            row.name = "c"
            self.told()
            session.commit()
            self.assertEqual(self.told()[0], ["named:b", "named:c", "thing:1"])
            session.delete(row)
            session.commit()
            self.assertEqual(self.told()[0], ["named:c", "thing:1"])

    def test_a_rollback_tells_nothing(self):
        with self.Session() as session:
            session.add(self.Thing(id=1, name="a"))
            session.flush()
            session.rollback()
            session.commit()
        self.assertEqual(self.told()[1], [])

    def test_a_savepoint_waits_for_the_commit(self):
        with self.Session() as session:
            with session.begin_nested():
                session.add(self.Thing(id=1, name="a"))
            self.assertEqual(self.told()[1], [])
            session.commit()
        self.assertEqual(self.told()[0], ["named:a", "thing:1"])

    def test_a_value_that_was_never_read_names_everything(self):
        with self.Session() as session:
            row = self.Thing(id=1, name="a")
            session.add(row)
            session.commit()
            self.told()
            row.name = "b"  # COMMIT expired it: what it was is not known here
            session.commit()
            new = self.told()[1]
        self.assertIn("everything", {target["kind"] for one in new for target in one["targets"]}, new)

    def test_a_commit_that_fails_leaves_its_guard(self):
        """It may have been done: what it names is unknown until the guard's time is over."""
        from sqlalchemy import event

        @event.listens_for(self.Session, "before_commit")
        def fails(_session):
            raise OSError("the connection is lost")

        with self.Session() as session:
            session.add(self.Thing(id=1, name="a"))
            with self.assertRaises(OSError):
                session.commit()
        self.assertEqual(self.d.status()["guards_open"], 1)

    def test_a_commit_without_a_daemon_or_spool_is_refused(self):
        client = etagd.Client(os.path.join(self.directory, "none.sock"), spool=False, timeout_ms=200)
        watch(self.Session, client=client)
        with self.Session() as session:
            session.add(self.Thing(id=1, name="a"))
            with self.assertRaises(etagd.EtagError):
                session.commit()
            session.rollback()
            self.assertIsNone(session.get(self.Thing, 1))


if __name__ == "__main__":
    harness.main()
