# SPDX-License-Identifier: Apache-2.0
"""A site of uploads twice, with FastAPI and with Flask, on SQLAlchemy and SQLite: what test_frameworks.py serves with real servers.

Every page says in X-Renders how often a handler of this process ran. FRAMEWORKS_DB: the file of the database.
"""
import asyncio
import contextlib
import os
import threading

from sqlalchemy import ForeignKey, create_engine, select, text, update
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

import etagd
from etagd.sqlalchemy import names_of, watch

PATH = os.environ["FRAMEWORKS_DB"]
CUSTOMERS = {"seven": 7, "eight": 8}  # by token


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

    def __etag_names__(self):
        return [f"customer:{self.id}"]


class Upload(Base):
    __tablename__ = "upload"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    title: Mapped[str]
    row_count: Mapped[int] = mapped_column(default=0)

    def __etag_names__(self):
        return [f"upload:{self.id}", f"uploads-of:{self.customer_id}"]

    @classmethod
    def __etag_families__(cls):
        return ["upload", "uploads-of"]


engine = create_engine(f"sqlite:///{PATH}", connect_args={"timeout": 60})
Session = sessionmaker(engine)
watch(Session)


def seed():
    Base.metadata.create_all(engine)
    with sessionmaker(engine)() as session:
        session.add_all([Customer(id=7, name="Seven"), Customer(id=8, name="Eight"), Upload(id=1, customer_id=7, title="one"),
                         Upload(id=2, customer_id=8, title="two")])
        session.add_all(Upload(id=number, customer_id=9, title="counted") for number in range(100, 106))
        session.commit()


class Renders:
    def __init__(self):
        self.count, self.lock = 0, threading.Lock()

    def more(self):
        with self.lock:
            self.count += 1
            return {"X-Renders": str(self.count)}


renders = Renders()
GATE = os.environ.get("FRAMEWORKS_GATE", "")  # a file; a page with ?gate waits in its handler until it is there


def gate():
    """Waits in the middle of a render, after its data was read."""
    with open(GATE + ".waits", "w", encoding="ascii"):
        pass
    while not os.path.exists(GATE):
        threading.Event().wait(0.01)


def uploads_page(session, customer_id):
    rows = session.scalars(select(Upload).where(Upload.customer_id == customer_id).order_by(Upload.id)).all()
    etagd.depends(f"uploads-of:{customer_id}", *(name for row in rows for name in names_of(row)))
    return {"uploads": [[row.id, row.title] for row in rows]}


# What django_storm.py asks for.


def counted_page(session, number=None):
    wanted = select(Upload).where(Upload.customer_id == 9 if number is None else Upload.id == number).order_by(Upload.id)
    rows = [{"id": row.id, "row_count": row.row_count, "names": names_of(row)} for row in session.scalars(wanted)]
    etagd.depends("uploads-of:9", *(name for row in rows for name in row.pop("names")))
    return {"results": rows} if number is None else rows[0]


def count(session, number, data):
    row = session.get(Upload, number)
    row.row_count = data["row_count"]
    return "filename" not in data  # else refused, inside the write's transaction


WORKER = {"X-Worker": str(os.getpid())}  # which imports this after its fork


# ---- FastAPI ----


def fastapi_app():
    from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request, WebSocket
    from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.middleware.cors import CORSMiddleware

    from etagd.asgi import EtagMiddleware
    from etagd.fastapi import check, checked

    AsyncSession = async_sessionmaker(create_async_engine(f"sqlite+aiosqlite:///{PATH}", connect_args={"timeout": 60}), expire_on_commit=False)
    watch(AsyncSession)
    app = FastAPI()

    class Inner(BaseHTTPMiddleware):
        async def dispatch(self, request, call_next):
            response = await call_next(request)
            response.headers["X-Inner"] = "yes"
            return response

    app.add_middleware(Inner)
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    app.add_middleware(EtagMiddleware, scope=etagd.BY_ENDPOINT, vary=["Accept", "Accept-Encoding", "Origin"], explain=True)

    def customer(authorization: str = Header("")):
        found = CUSTOMERS.get(authorization.removeprefix("Bearer "))
        if found is None:
            raise HTTPException(401)
        return found

    @app.get("/")
    def alive():
        return PlainTextResponse("alive", headers=renders.more())

    @app.get("/uploads")
    async def uploads(request: Request, customer_id: int = Depends(customer)):
        check(request, f"customer:{customer_id}")
        async with AsyncSession() as session:
            made = await session.run_sync(uploads_page, customer_id)
        if "gate" in request.query_params:
            await asyncio.get_running_loop().run_in_executor(None, gate)
        return JSONResponse(made, headers=renders.more())

    @app.get("/uploads-sync")
    def uploads_sync(request: Request, customer_id: int = Depends(customer)):
        check(request, f"customer:{customer_id}")
        with Session() as session:  # on a thread of the pool, which has the request's context
            return JSONResponse(uploads_page(session, customer_id), headers=renders.more())

    @app.api_route("/public", methods=["GET", "HEAD"], dependencies=[Depends(checked(etagd.PUBLIC, ["customer:7"]))])
    async def public():
        return PlainTextResponse("public", headers=renders.more())

    @app.get("/unchecked")
    async def unchecked():
        etagd.depends("customer:7")
        return PlainTextResponse("unchecked", headers=renders.more())

    @app.get("/stream", dependencies=[Depends(checked(etagd.PUBLIC, ["customer:7"]))])
    async def stream():
        async def pieces():
            for piece in ("a", "b", "c"):
                yield piece
        return StreamingResponse(pieces(), headers={"ETag": '"stream"', **renders.more()})

    @app.get("/cookie", dependencies=[Depends(checked(etagd.PUBLIC, ["customer:7"]))])
    async def cookie():
        made = PlainTextResponse("cookie", headers=renders.more())
        made.set_cookie("a", "b")
        return made

    @app.get("/withheld", dependencies=[Depends(checked(etagd.PUBLIC, ["customer:7"]))])
    async def withheld():
        etagd.withhold("chance")
        return PlainTextResponse("withheld", headers=renders.more())

    @app.get("/broken", dependencies=[Depends(checked(etagd.PUBLIC, ["customer:7"]))])
    async def broken():
        raise ZeroDivisionError

    @app.get("/background", dependencies=[Depends(checked(etagd.PUBLIC, ["customer:7"]))])
    async def background(tasks: BackgroundTasks):
        tasks.add_task(lambda: etagd.depends("background:1"))
        return PlainTextResponse("background", headers=renders.more())

    @app.websocket("/socket")
    async def socket(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text("socket")
        await websocket.close()

    @app.post("/uploads/{number}")
    async def write(number: int, title: str, customer_id: int = 0):
        async with AsyncSession() as session:
            row = await session.get(Upload, number)
            row.title = title
            row.customer_id = customer_id or row.customer_id
            await session.commit()
        return {"title": title}

    @app.get("/api/v1/uploads/", dependencies=[Depends(checked(etagd.PUBLIC))])
    async def counted_list():
        async with AsyncSession() as session:
            return JSONResponse(await session.run_sync(counted_page), headers={**WORKER, **renders.more()})

    @app.get("/api/v1/uploads/{number}/", dependencies=[Depends(checked(etagd.PUBLIC))])
    async def counted_one(number: int):
        async with AsyncSession() as session:
            return JSONResponse(await session.run_sync(counted_page, number), headers={**WORKER, **renders.more()})

    @app.patch("/api/v1/uploads/{number}/")
    async def counted_more(number: int, request: Request):
        data = await request.json()
        async with AsyncSession() as session:
            if not await session.run_sync(count, number, data):
                raise HTTPException(400)
            await session.commit()
        return data

    @app.post("/bulk")
    async def bulk(title: str):
        async with AsyncSession() as session:
            await session.execute(update(Upload).values(title=title))
            await session.commit()
        return {"title": title}

    @app.post("/raw/{number}")
    async def raw(number: int, title: str):
        async with etagd.invalidates(f"upload:{number}"):
            async with AsyncSession() as session:
                await session.execute(text("UPDATE upload SET title = :title WHERE id = :id"), {"title": title, "id": number})
                await session.commit()
        return {"title": title}

    mounted = FastAPI()

    @mounted.get("/page", dependencies=[Depends(checked(etagd.PUBLIC, ["customer:7"]))])
    async def page():
        return PlainTextResponse("mounted", headers=renders.more())

    app.mount("/mounted", mounted)
    return app


# ---- Flask ----


def flask_app():
    import flask

    from etagd.flask import checked
    from etagd.wsgi import EtagMiddleware

    app = flask.Flask(__name__)
    app.wsgi_app = EtagMiddleware(app.wsgi_app, scope=etagd.BY_ENDPOINT, explain=True)

    @app.before_request
    def authenticate():
        flask.g.customer_id = CUSTOMERS.get(flask.request.headers.get("Authorization", "").removeprefix("Bearer "))
        if flask.g.customer_id is None and flask.request.path.startswith("/uploads") and flask.request.method == "GET":
            flask.abort(401)

    @app.get("/")
    def alive():
        return "alive", renders.more()

    @app.get("/uploads")
    @checked(lambda: f"customer:{flask.g.customer_id}")
    def uploads():
        with Session() as session:
            made = uploads_page(session, flask.g.customer_id)
        if "gate" in flask.request.args:
            gate()
        return made, renders.more()

    @app.get("/public")
    @checked(etagd.PUBLIC, ["customer:7"])
    def public():
        return "public", renders.more()

    @app.get("/unchecked")
    def unchecked():
        etagd.depends("customer:7")
        return "unchecked", renders.more()

    @app.get("/stream")
    @checked(etagd.PUBLIC, ["customer:7"])
    def stream():
        return flask.Response(iter(["a", "b", "c"]), headers={"ETag": '"stream"', **renders.more()})

    @app.get("/file")
    @checked(etagd.PUBLIC, ["customer:7"])
    def file():
        return flask.send_file(__file__)

    @app.get("/cookie")
    @checked(etagd.PUBLIC, ["customer:7"])
    def cookie():
        made = flask.Response("cookie", headers=renders.more())
        made.set_cookie("a", "b")
        return made

    @app.get("/withheld")
    @checked(etagd.PUBLIC, ["customer:7"])
    def withheld():
        etagd.withhold("chance")
        return "withheld", renders.more()

    @app.get("/broken")
    @checked(etagd.PUBLIC, ["customer:7"])
    def broken():
        raise ZeroDivisionError

    @app.post("/uploads/<int:number>")
    def write(number):
        with Session() as session:
            row = session.get(Upload, number)
            row.title = flask.request.args["title"]
            row.customer_id = int(flask.request.args.get("customer_id", row.customer_id))
            session.commit()
        return {"title": flask.request.args["title"]}

    @app.get("/api/v1/uploads/")
    @checked(etagd.PUBLIC)
    def counted_list():
        with Session() as session:
            return counted_page(session), {**WORKER, **renders.more()}

    @app.get("/api/v1/uploads/<int:number>/")
    @checked(etagd.PUBLIC)
    def counted_one(number):
        with Session() as session:
            return counted_page(session, number), {**WORKER, **renders.more()}

    @app.patch("/api/v1/uploads/<int:number>/")
    def counted_more(number):
        with Session() as session:
            if not count(session, number, flask.request.json):
                flask.abort(400)
            session.commit()
        return flask.request.json

    @app.post("/bulk")
    def bulk():
        with Session() as session:
            session.execute(update(Upload).values(title=flask.request.args["title"]))
            session.commit()
        return {"title": flask.request.args["title"]}

    @app.post("/raw/<int:number>")
    def raw(number):
        with etagd.invalidates(f"upload:{number}"), contextlib.closing(engine.raw_connection()) as connection:
            connection.execute("UPDATE upload SET title = ? WHERE id = ?", (flask.request.args["title"], number))
            connection.commit()
        return {"title": flask.request.args["title"]}

    return app
