#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""proxy.py LISTEN_PORT TARGET_HOST TARGET_PORT: the way from a host to the database, which can be bad.

Told on standard input, a line each, and answered with "ok":
    target HOST PORT        for connections from now on
    cut                     all connections are reset, and new ones too
    stall WAY               nothing goes on; what was sent waits. New connections are taken and lead nowhere
    swallow WAY             what is sent vanishes. Such a connection is of no use later, and is reset then
    delay WAY MS            each piece comes so much later
    pass                    all is well again
WAY: up (to the database), down, both.
"""
import asyncio
import sys

UP, DOWN = "up", "down"
PIECE = 1 << 16


class Proxy:
    def __init__(self, target):
        self.target = target
        self.cut = False
        self.how = {UP: "pass", DOWN: "pass"}
        self.delay = {UP: 0.0, DOWN: 0.0}
        self.changed = asyncio.Event()
        self.pairs = set()

    # ---- What is told ----

    def tell(self, words):
        command, *rest = words
        ways = (UP, DOWN) if command == "pass" or rest[:1] == ["both"] else tuple(rest[:1])
        if command == "target":
            self.target = (rest[0], int(rest[1]))
        elif command == "cut":
            self.cut = True
            for pair in list(self.pairs):
                pair.abort()
        elif command == "delay":
            for way in ways:
                self.delay[way] = int(rest[1]) / 1000
        elif command in ("pass", "stall", "swallow"):
            for way in ways:
                self.how[way] = command
        else:
            sys.exit(f"what is {command}?")
        if command == "pass":
            self.cut = False
            self.delay = {UP: 0.0, DOWN: 0.0}
            for pair in list(self.pairs):
                if pair.broken:
                    pair.abort()
        self.changed.set()
        self.changed = asyncio.Event()

    async def while_stalled(self, way):
        while self.how[way] == "stall":
            await self.changed.wait()

    # ---- A connection ----

    async def serve(self, reader, writer):
        if self.cut:
            writer.transport.abort()
            return
        pair = Pair(self, reader, writer)
        self.pairs.add(pair)
        try:
            await pair.run()
        finally:
            pair.abort()
            self.pairs.discard(pair)


class Pair:
    def __init__(self, proxy, reader, writer):
        self.proxy, self.reader, self.writer = proxy, reader, writer
        self.transports = [writer.transport]
        self.broken = False
        self.tasks = []

    def abort(self):
        for transport in self.transports:
            transport.abort()
        for task in self.tasks:
            task.cancel()

    async def run(self):
        self.tasks = [asyncio.ensure_future(self.connect())]
        await asyncio.wait(self.tasks)
        if self.tasks[0].cancelled() or self.tasks[0].exception():
            return
        reader, writer = self.tasks[0].result()
        self.tasks = [asyncio.ensure_future(self.pump(UP, self.reader, writer)), asyncio.ensure_future(self.pump(DOWN, reader, self.writer))]
        await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
        self.abort()
        await asyncio.wait(self.tasks)
        for task in self.tasks:
            _ = task.cancelled() or task.exception()

    async def connect(self):
        await self.proxy.while_stalled(UP)
        made = await asyncio.open_connection(*self.proxy.target)
        self.transports.append(made[1].transport)
        return made

    async def pump(self, way, reader, writer):
        proxy = self.proxy
        while data := await reader.read(PIECE):
            await proxy.while_stalled(way)
            if proxy.how[way] == "swallow":
                self.broken = True
                continue
            if self.broken:
                return
            if proxy.delay[way]:
                await asyncio.sleep(proxy.delay[way])
            writer.write(data)
            await writer.drain()


async def main():
    proxy = Proxy((sys.argv[2], int(sys.argv[3])))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", int(sys.argv[1]))
    told = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    print("ok", flush=True)
    while line := await told.readline():
        proxy.tell(line.decode().split())
        print("ok", flush=True)
    server.close()
    for pair in list(proxy.pairs):
        pair.abort()


if __name__ == "__main__":
    asyncio.run(main())
