# SPDX-License-Identifier: Apache-2.0
"""Writers and readers of the example project over HTTP, while the daemon and the workers are killed; and the truth beside them.

Each row has a counter that its one writer only raises. A response shows a value of it: a 200 in its body, a 304 by the ETag that
came with some 200 before. What is shown must not be below what was answered to the writer, or was shown to anybody, before
the request began: since a guard stands around COMMIT, nobody may be told of the old version once the new one was seen.

usage: django_storm.py [--postgres] [--server gunicorn|uvicorn] [--share] [SECONDS [SEED]]
run by scripts/torture-django; a short one by test_django.py. --share: nothing is killed; a fixed sequence of one client's requests,
and how many of its conditions etagd answered 304.
"""
import argparse
import collections
import http.client
import json
import os
import random
import signal
import sys
import threading
import time

NO_ANSWER = (OSError, http.client.HTTPException)  # a worker that died


class Storm:
    def __init__(self, web, daemon, seconds, seed, rows):
        self.web, self.daemon, self.rows = web, daemon, rows
        self.end = time.monotonic() + seconds
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.floor = {row: 0 for row in rows}  # shown to somebody, or answered to its writer
        self.shown = {}  # (path, ETag) -> {row: value}
        self.counts = {"writes": 0, "writes without answer": 0, "rollbacks": 0, "200": 0, "304 from etagd": 0, "304 rendered": 0,
                       "no answer": 0, "daemon kills": 0, "daemon stops": 0, "worker kills": 0}
        self.reasons = collections.Counter()  # of the rendered ones
        self.wrong = []

    @property
    def over(self):
        return time.monotonic() > self.end or bool(self.wrong)

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def raise_floor(self, values):
        with self.lock:
            for row, value in values.items():
                self.floor[row] = max(self.floor.get(row, 0), value)

    # ---- Writers: each has rows of its own ----

    def write(self, rows, seed):
        chance, values = random.Random(seed), {row: 0 for row in rows}
        while not self.over:
            row = chance.choice(rows)
            values[row] += 1
            path = f"/api/v1/uploads/{row}/"
            try:
                if chance.random() < 0.1:
                    # Refused by the serializer, inside the write's transaction: nothing changes.
                    self.web.ask(path, method="PATCH", data={"row_count": 1, "filename": ""})
                    self.count("rollbacks")
                reply = self.web.ask(path, method="PATCH", data={"row_count": values[row]})
            except NO_ANSWER:
                reply = None
            if reply is not None and reply.status == 200:
                self.count("writes")
                self.raise_floor({row: values[row]})
            else:
                self.count("writes without answer")
                time.sleep(0.05)
            time.sleep(chance.random() * 0.02)

    # ---- Readers ----

    def read(self, seed):
        chance, known = random.Random(seed), {}
        while not self.over:
            row = chance.choice(self.rows)
            path = "/api/v1/uploads/" if chance.random() < 0.5 else f"/api/v1/uploads/{row}/"
            with self.lock:
                floor = dict(self.floor)
            etag = known.get(path)
            try:
                reply = self.web.ask(path, etag)
            except NO_ANSWER:
                self.count("no answer")
                time.sleep(0.05)
                continue
            if reply.status == 200:
                body = json.loads(reply.body)
                values = {one["id"]: one["row_count"] for one in body.get("results", [body])}
                known[path] = reply.etag
                self.shown[path, reply.etag] = values
                self.count("200")
            elif reply.status == 304:
                values = self.shown[path, etag]
                self.count("304 from etagd" if reply.hit else "304 rendered")
                if not reply.hit:
                    with self.lock:
                        self.reasons[reply.said.split("; key")[0]] += 1
            else:
                self.count("no answer")
                continue
            late = {row: (value, floor[row]) for row, value in values.items() if value < floor.get(row, 0)}
            if late:
                self.wrong.append((reply.status, path, reply.said, late))
            self.raise_floor(values)

    # ---- The nemesis ----

    def disturb(self):
        while not self.over:
            time.sleep(self.random.random() * 1.5)
            what = self.random.choice(["daemon kills", "daemon stops", "worker kills", None])
            if what is None:
                continue
            self.count(what)
            if what == "worker kills":
                try:
                    os.kill(self.web.ask("/api/v1/uploads/").worker, signal.SIGKILL)
                except (*NO_ANSWER, ProcessLookupError):
                    pass
            elif what == "daemon kills":
                self.daemon.kill()
                time.sleep(self.random.random() * 2 * self.daemon.lease_ms / 1000)
                self.daemon.fresh = False
                self.daemon.start(settled=False)
            else:
                self.daemon.signal(signal.SIGSTOP)
                time.sleep(self.random.random() * 3 * self.daemon.lease_ms / 1000)
                self.daemon.signal(signal.SIGCONT)

    def safely(self, act, *args):
        try:
            act(*args)
        except Exception as error:  # pylint: disable=broad-except
            self.wrong.append(repr(error))
            raise

    def run(self, writers=2, readers=4):
        threads = [threading.Thread(target=self.safely, args=(self.write, self.rows[i::writers], self.random.random()))
                   for i in range(writers)]
        threads += [threading.Thread(target=self.safely, args=(self.read, self.random.random())) for _ in range(readers)]
        for thread in threads:
            thread.start()
        try:
            self.disturb()
        finally:
            self.end = min(self.end, time.monotonic())
            for thread in threads:
                thread.join()
        return self

    def report(self):
        """Prints what happened. Returns the exit status: 1 where somebody was answered an old version."""
        for what, count in self.counts.items():
            print(f"{what:<24} {count}")
        for reason, count in self.reasons.most_common(6):
            print(f"  rendered: {reason:<60} {count}")
        for wrong in self.wrong:
            print("STALE:", wrong)
        print("stale answers:", len(self.wrong))
        return 1 if self.wrong else 0


def rows_of(web, count=6):
    """The first rows, with their counters at 0."""
    rows = [row["id"] for row in json.loads(web.ask("/api/v1/uploads/").body)["results"][:count]]
    web.shell("from uploads.models import Upload; Upload.objects.update(row_count=0)")
    return rows


def share(web, rows, count=2000, seed=1):
    """One client after another request asks, and at times writes: (conditional GETs, those that etagd answered 304). What is filled is
    known before the next request, so that both figures depend on what is stored alone."""
    chance, known, asked, answered = random.Random(seed), {}, 0, 0
    for number in range(count):
        row = chance.choice(rows)
        if chance.random() < 0.1:
            reply = web.ask(f"/api/v1/uploads/{row}/", method="PATCH", data={"row_count": number})
            assert reply.status == 200, reply
            continue
        path = "/api/v1/uploads/" if chance.random() < 0.3 else f"/api/v1/uploads/{row}/"
        reply = web.ask(path, known.get(path))
        assert reply.status in (200, 304), reply
        if path in known:
            asked += 1
            answered += reply.status == 304 and reply.hit
        known[path] = reply.etag or known[path]
        web.daemon.ctl("sync")
    return asked, answered


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", choices=("gunicorn", "uvicorn"), default="gunicorn")
    parser.add_argument("--share", action="store_true")
    parser.add_argument("seconds", nargs="?", type=float, default=600)
    parser.add_argument("seed", nargs="?", type=int, default=random.randrange(1 << 30))
    return parser.parse_args()


def main():
    import tempfile

    import test_django  # before the others: it finds them
    import django
    import harness

    given = arguments()
    where = f"Django {django.__version__}, {given.server}, {'PostgreSQL' if test_django.POSTGRES else 'SQLite'}"
    print(f"share of 304s, {where}" if given.share else f"seed {given.seed}, {given.seconds:.0f} s, {where}", flush=True)
    server = {"gunicorn": test_django.Gunicorn, "uvicorn": test_django.Uvicorn}[given.server]
    with tempfile.TemporaryDirectory(prefix="etagd-storm-") as place:
        daemon = harness.Daemon(place, linger_ms=3000).start()
        web = server(place, daemon, threads=4)
        try:
            web.manage("migrate", "-v0")
            web.manage("seed", "--uploads", "20")
            web.start()
            rows = rows_of(web)
            if given.share:
                web.daemon = daemon
                asked, answered = share(web, rows)
                print(f"conditional GETs {asked}, 304 from etagd {answered}: {100 * answered / asked:.1f} %")
                return 0
            storm = Storm(web, daemon, given.seconds, given.seed, rows).run()
        finally:
            web.end()
            daemon.end()
    return storm.report()


if __name__ == "__main__":
    sys.exit(main())
