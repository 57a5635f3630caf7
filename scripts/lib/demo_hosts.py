# SPDX-License-Identifier: Apache-2.0
"""What scripts/demo-hosts shows: three hosts on one PostgreSQL, two front ends each. Exit status 0: every step was as expected."""
import argparse
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
sys.path[:0] = [os.path.join(ROOT, "tests/system", name) for name in ("relay", "torture/hosts", "python", "")]
import harness  # noqa: E402
import relay_db  # noqa: E402
from host_net import Database  # noqa: E402
from network import Network  # noqa: E402
from relay_hosts import Host  # noqa: E402

FRONT_END = os.path.join(ROOT, "examples/many_hosts/front_end.py")
HOSTS = ("a", "b", "c")
PAGE = "/uploads/42"
L_NET_S = 2.0
SLACK_S = 0.5  # of a machine with other work: a front end is asked again and again


class Wrong(Exception):
    """It cannot go on."""


# ---- Telling ----

TTY = sys.stdout.isatty()
failures = []


def colored(number, text):
    return f"\x1b[{number}m{text}\x1b[0m" if TTY else text


def title(text):
    print(f"\n{colored(1, text)}", flush=True)


def say(text):
    print(f"  {text}", flush=True)


def check(what, is_so, got=""):
    if is_so:
        say(f"{colored(32, 'ok')}     {what}{f': {got}' if got else ''}")
    else:
        failures.append(what)
        say(f"{colored(31, 'WRONG')}  {what}{f': {got}' if got else ''}")


# ---- A host ----

class FrontEnd:
    def __init__(self, place, number, prefix):
        self.name = f"{place.name}{number}"
        self.path = os.path.join(place.daemon.directory, f"web{number}.sock")
        environment = {**os.environ, "ETAGD_SOCKET": place.daemon.socket, "PYTHONPATH": os.path.join(harness.BUILD, "integrations/python")}
        with open(os.path.join(place.daemon.directory, "web.log"), "ab") as log:
            self.process = subprocess.Popen([*prefix, sys.executable, "-B", FRONT_END, self.path, place.conninfo + " connect_timeout=2"],
                                            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.connection = None

    def ask(self, method="GET", body=None, **fields):
        """Status, ETag, how it was answered."""
        if self.connection is None:
            self.connection = harness.UnixHttp(self.path, "shop.example", 60)
        try:
            self.connection.request(method, PAGE, body, {name.replace("_", "-"): value for name, value in fields.items()})
            answer = self.connection.getresponse()
            answer.read()
        except OSError:
            self.connection.close()
            self.connection = None
            raise
        return answer.status, answer.headers.get("ETag"), answer.headers.get("X-Answered")

    def asked(self, etag):
        """Only the status."""
        return self.ask(If_None_Match=etag)[0]

    def end(self):
        if self.connection:
            self.connection.close()
        self.process.kill()
        self.process.wait()


class Place(Host):
    """A host with front ends, reached through the network."""

    def __init__(self, directory, name, network, port):
        daemon = harness.Daemon(os.path.join(directory, name), lease_ms=1000, args=["--relay", "required"])
        os.makedirs(daemon.directory)
        daemon.wrapper = network.prefix(name)
        self.proxy = None if network.is_apart() else network.proxy(name, port)
        address = network.addresses[name]
        conninfo = f"host={address} port={self.proxy.port if self.proxy else port} user=etagd dbname=shop"
        # What is cut off should not be waited for as long as TCP would.
        super().__init__(name, conninfo + " keepalives_idle=1 keepalives_interval=1 keepalives_count=1 tcp_user_timeout=2000", daemon, network.prefix(name))
        self.network = network
        self.front_ends = []

    def start(self):
        super().start()
        self.front_ends = [FrontEnd(self, number, self.prefix) for number in (1, 2)]
        for one in self.front_ends:
            harness.wait_until(lambda one=one: os.path.exists(one.path) or one.process.poll() is not None, 20, f"the front end {one.name}")
        return self

    def cut(self):
        if self.proxy:
            self.proxy.tell("cut")
        else:
            self.network.unplug(self.name)

    def join(self):
        if self.proxy:
            self.proxy.tell("pass")
        else:
            self.network.plug(self.name)

    def end(self):
        for one in self.front_ends:
            one.end()
        super().end()
        if self.proxy:
            self.proxy.end()


# ---- What is asked ----

class Demo:
    def __init__(self, directory, network):
        self.directory, self.network = directory, network
        self.places = []
        self.etag = None

    def start(self):
        Database.network = self.network
        self.database = Database.make()
        self.database.database("shop")
        self.database.sql("CREATE TABLE uploads (id integer PRIMARY KEY, status text NOT NULL)", database="shop")
        self.database.sql("INSERT INTO uploads VALUES (42, 'received')", database="shop")
        self.places = [Place(self.directory, name, self.network, self.database.port) for name in HOSTS]
        for place in self.places:
            place.start()

    def end(self):
        for place in self.places:
            place.end()
        if getattr(self, "database", None):
            self.database.end()

    def of(self, *names):
        return [one for place in self.places if place.name in names for one in place.front_ends]

    @property
    def all(self):
        return self.of(*HOSTS)

    def place(self, name):
        return next(place for place in self.places if place.name == name)

    def psql(self, host, *statements):
        """In that host's place, as somebody at its shell. Returns what it prints, and when COMMIT had returned."""
        place = self.place(host)
        for text in statements:
            say(f"{host}$ psql -c {text!r}")
        done = subprocess.run([*place.prefix, "psql", "-qAtX", "-v", "ON_ERROR_STOP=1", place.conninfo, *(word for text in statements for word in ("-c", text))],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Wrong(f"psql: {done.stderr}")
        return done.stdout.strip(), time.monotonic()

    def known(self, front_ends):
        """Each renders it once if it must, and knows it afterwards."""
        for one in front_ends:
            self.etag = None

            def is_known(one=one):
                """What it has kept, until it is connected again, has no ETag."""
                self.etag = self.etag or one.ask()[1]
                return self.etag is not None and one.ask(If_None_Match=self.etag)[::2] == (304, "memory")
            harness.wait_until(is_known, 20, f"{one.name} answers 304 from memory")

    def until_200(self, since, front_ends, etag):
        """How long after that moment each was asked last what it answered 304, in seconds. All are asked at once."""
        latest = dict.fromkeys((one.name for one in front_ends), 0.0)
        end = time.monotonic() + harness.bound(20)
        late = []

        def ask(one):
            while True:
                began = time.monotonic()
                if one.asked(etag) == 200:
                    return
                latest[one.name] = max(0.0, began - since)
                if began > end:
                    late.append(one.name)
                    return
        harness.together(*(functools.partial(ask, one) for one in front_ends))
        if late:
            raise Wrong(f"still 304: {', '.join(sorted(late))}")
        return latest

    def printed(self, latest):
        say("last 304 after the COMMIT: " + ", ".join(f"{name} {1000 * s:.0f} ms" for name, s in sorted(latest.items())))


def step_known(demo):
    title("1. Each front end renders /uploads/42 once; then all say 304 from their host's memory")
    demo.known(demo.all)
    said = {one.name: one.ask(If_None_Match=demo.etag)[::2] for one in demo.all}
    check("304 everywhere", set(said.values()) == {(304, "memory")}, ", ".join(sorted(said)))


def step_psql(demo):
    title("2. psql on host a, the event in its transaction: 304 before, 200 after")
    etag = demo.etag
    check("304 before", {one.asked(etag) for one in demo.all} == {304})
    _, since = demo.psql("a", "BEGIN; UPDATE uploads SET status = 'counted' WHERE id = 42; SELECT etagd.invalidate('upload:42'); COMMIT")
    latest = demo.until_200(since, demo.all, etag)
    demo.printed(latest)
    check("200 after it, by the next poll: within L_net / 5, and never later than L_net", max(latest.values()) <= L_NET_S + SLACK_S)
    demo.known(demo.all)


def step_wait(demo):
    title("3. The same, and etagd.wait() after COMMIT: no front end says 304 when it returns")
    etag = demo.etag
    position = demo.psql("b", "BEGIN; UPDATE uploads SET status = 'sorted' WHERE id = 42; SELECT etagd.invalidate(array['upload:42'], ask => true); COMMIT")[0]
    began = time.monotonic()
    proof = demo.psql("b", f"SELECT etagd.wait('{position}')")[0]
    said = {one.asked(etag) for one in demo.all}
    say(f"etagd.wait() took {1000 * (time.monotonic() - began):.0f} ms with psql's own start; proved by: {proof}")
    check("200 at all front ends, at once", said == {200})
    demo.known(demo.all)


def step_everywhere(demo):
    title("4. PUT at a1, which asks for \"everywhere\": the others know when it is answered")
    times = []
    for number in range(10):
        etag = demo.etag
        began = time.monotonic()
        status = demo.of("a")[0].ask("PUT", f"packed {number}")[0]
        times.append(time.monotonic() - began)
        said = {one.asked(etag) for one in demo.all}
        if (status, said) != (204, {200}):
            check("200 at all front ends when PUT is answered", False, f"PUT {status}, then {sorted(said)}")
            return
        demo.known(demo.all)
    times.sort()
    check("200 at all front ends when PUT was answered, ten times", True, f"PUT took {1000 * times[0]:.1f} to {1000 * times[-1]:.1f} ms, median {1000 * times[5]:.1f}")


def step_cut(demo):
    title("5. Host c is cut off from the database")
    etag = demo.etag
    check("304 before", {one.asked(etag) for one in demo.all} == {304})
    demo.place("c").cut()
    since = time.monotonic()
    latest = demo.until_200(since, demo.of("c"), etag)
    say("last 304 after the cut: " + ", ".join(f"{name} {1000 * s:.0f} ms" for name, s in sorted(latest.items())))
    check("c says 200 within L_net (2 s): it does not know what others write", max(latest.values()) <= L_NET_S + SLACK_S)
    check("a and b go on", {one.asked(etag) for one in demo.of("a", "b")} == {304})
    _, since = demo.psql("a", "BEGIN; UPDATE uploads SET status = 'sent' WHERE id = 42; SELECT etagd.invalidate('upload:42'); COMMIT")
    demo.printed(demo.until_200(since, demo.of("a", "b"), etag))
    check("c still says 200, of what it has kept", {one.asked(etag) for one in demo.of("c")} == {200})
    return etag


def step_join(demo, former):
    title("6. Host c is joined again")
    demo.place("c").join()
    since = time.monotonic()
    demo.known(demo.all)
    say(f"it says 304 again, of the new version, after {time.monotonic() - since:.1f} s")
    check("304 everywhere", {one.asked(demo.etag) for one in demo.all} == {304})
    check("no front end says 304 for the version of before", {one.asked(former) for one in demo.all} == {200})


def run(demo, short):
    demo.start()
    say("running: " + ", ".join(f"{one.name}" for one in demo.all) + "; etagd and etag-relay on each of a, b, c; PostgreSQL")
    step_known(demo)
    step_psql(demo)
    if not short:
        step_wait(demo)
    step_everywhere(demo)
    step_join(demo, step_cut(demo))
    title("etag-relay status")
    place = demo.place("a")
    shown = subprocess.run([*place.prefix, relay_db.RELAY, "--connection", place.conninfo, "status"], capture_output=True, text=True, check=False)
    print("".join(f"  {line}\n" for line in (shown.stdout or shown.stderr).splitlines()), end="")
    check("three members", shown.stdout.count(" member ") == 3)


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo-hosts")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--loopback", action="store_true")
    options = parser.parse_args()
    if not os.path.isdir(os.path.join(harness.BUILD, "integrations/python/etagd")):
        print("skipped: the Python package was not built (python3-cffi, python3-dev)")
        return harness.SKIP
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    network = Network(HOSTS, namespaces=not options.loopback)
    if network.is_apart():
        say("Three hosts and the database, each in a network namespace of its own")
    else:
        say(f"Three hosts on 127.0.0.1, each with a proxy of its own to the database; no network namespaces: {network.why}")
    directory = tempfile.mkdtemp(prefix="etagd-demo.")
    demo = Demo(directory, network)
    try:
        run(demo, options.short)
    except (Wrong, AssertionError, OSError) as error:
        failures.append(str(error))
        say(f"{colored(31, 'WRONG')}  {error}")
    finally:
        demo.end()
        network.end()
        shutil.rmtree(directory, ignore_errors=True)
    if failures:
        print(f"\n{colored(31, f'{len(failures)} steps were not as expected.')}")
        return 1
    print(f"\n{colored(32, 'Every step was as expected.')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
