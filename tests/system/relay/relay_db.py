# SPDX-License-Identifier: Apache-2.0
"""What the tests of etag-relay on PostgreSQL share: a cluster with the schema etagd, databases of a test's own in it, standbys, and the
engine as a program that is told each operation (programs/relay_engine.c)."""
import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), name) for name in ("..", "../python")]
import harness  # noqa: E402
import postgres  # noqa: E402

try:
    import psycopg2
    from psycopg2 import errors, extensions  # noqa: F401
except ImportError:
    print("skipped: python3-psycopg2 is missing")
    sys.exit(harness.SKIP)

# Whoever ends the test ends its servers.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
RELAY = os.path.join(harness.BUILD, "relay", "etag-relay")
ENGINE = os.path.join(harness.SYSTEM, "relay_engine")
SQL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../relay/sql")
NONCE = "e0a1c2b3000000000000000000000001"
OTHER = "e0a1c2b3000000000000000000000002"
MEMBER, LEAVING = "1", "2"


class Server(postgres.Cluster):
    """A cluster on the socket of its directory; a standby is one of another port there. It does what the relay has to live with:
    transactions may be prepared, its log may be decoded, others may follow it."""

    def __init__(self, programs, directory, user, data="data", port=5432):
        super().__init__(programs, directory, user)
        self.data = data
        self.port = port

    @classmethod
    def make(cls):
        programs = cls.programs_of_debian()
        if programs is None:
            print("skipped: postgresql is missing")
            sys.exit(harness.SKIP)
        directory = tempfile.mkdtemp(prefix="etagd-relay-")
        user = "postgres" if os.geteuid() == 0 else None
        if user:
            shutil.chown(directory, user, user)
        os.chmod(directory, 0o755)
        made = cls(programs, directory, user)
        made.run("initdb", "-D", made.data, "-U", "etagd", "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8")
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        atexit.register(made.end)
        made.begin()
        made.sql("CREATE DATABASE prepared", database="postgres")
        made.sql(read_schema(), database="prepared")
        return made

    def begin(self):
        options = ("-c listen_addresses='' -c fsync=off -c max_prepared_transactions=10 -c wal_level=logical -c max_wal_senders=6 "
                   "-c max_replication_slots=6 -c autovacuum=off")
        self.run("pg_ctl", "-D", self.data, "-w", "-l", os.path.join(self.directory, self.data + ".log"), "-o",
                 f"-k {self.directory} -p {self.port} {options}", "start")

    def end(self, mode="immediate"):
        self.run("pg_ctl", "-D", self.data, "-w", "-m", mode, "stop", check=False)

    def postmaster(self):
        with open(os.path.join(self.directory, self.data, "postmaster.pid"), encoding="ascii") as f:
            return int(f.readline())

    def standby(self):
        """A copy of this one that follows it."""
        made = Server(self.programs, self.directory, self.user, f"standby{self.port}", self.port + 1)
        self.run("pg_basebackup", "-D", made.data, "-R", "-p", str(self.port), "-U", "etagd", "-c", "fast", "-X", "stream")
        atexit.register(made.end)
        made.begin()
        return made

    def conninfo(self, database, user="etagd"):
        return f"host={self.directory} port={self.port} user={user} dbname={database}"

    def connect(self, database, user="etagd"):
        made = psycopg2.connect(self.conninfo(database, user))
        made.autocommit = True
        return made

    def sql(self, text, *values, database, user="etagd"):
        """One statement on a connection of its own; its rows."""
        with harness_closing(self.connect(database, user)) as connection:
            return ask(connection, text, *values)

    def database(self, name):
        """A new database with the schema, and a witness of its own."""
        self.sql(f"CREATE DATABASE {name} TEMPLATE prepared", database="postgres")
        self.sql("SELECT etagd.bear_witness()", database=name)
        return name

    def caught_up(self, standby):
        """Waits until the standby has replayed what is written now."""
        position = self.sql("SELECT pg_current_wal_lsn()", database="postgres")[0][0]
        harness.wait_until(lambda: standby.sql("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position, database="postgres")[0][0], 20,
                           "the standby replays")


class harness_closing:
    def __init__(self, what):
        self.what = what

    def __enter__(self):
        return self.what

    def __exit__(self, *_):
        self.what.close()


def read_schema():
    text = ""
    for part in ("schema.sql", "watch.sql", "rights.sql"):
        with open(os.path.join(SQL, part), encoding="utf-8") as f:
            text += f.read()
    return text


def ask(connection, text, *values):
    with connection.cursor() as cursor:
        cursor.execute(text, values or None)
        return cursor.fetchall() if cursor.description else []


def one(connection, text, *values):
    return ask(connection, text, *values)[0][0]


class Failed(Exception):
    """What an engine says of an operation; refused: the connection is as before."""

    def __init__(self, text):
        super().__init__(text)
        self.refused = text.startswith("refused")


class Engine:
    """An engine, driven by hand."""

    def __init__(self, conninfo, host="a", nonce=NONCE, opened=True):
        self.process = subprocess.Popen([ENGINE, conninfo, host, nonce], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            if opened:
                self.do("open")
        except Failed:
            self.close()
            raise

    def do(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().rstrip("\n")
        if not answer.startswith("ok"):
            raise Failed(answer)
        return dict(pair.split("=", 1) for pair in answer.split()[1:])

    def poll(self, cursor=None):
        """The answer; its rows: position -> names."""
        answer = self.do(f"poll {cursor}" if cursor else "poll")
        rows = {}
        for row in answer.get("rows", "").split("|")[:-1]:
            position, names = row.split("/", 1)
            rows.setdefault(int(position), []).extend(names.split("+")[:-1] or [names])
        answer["rows"] = rows
        return answer

    def close(self):
        self.process.stdin.close()
        status = self.process.wait(timeout=harness.bound(30))
        self.process.stdout.close()
        if status != 0:  # a sanitizer found something
            raise AssertionError(f"the engine ended with status {status}")


class Blocked:
    """A statement in a thread of its own that is expected to wait; result() or what it raised once it need not any more. It is
    cancelled at the end of the test."""

    def __init__(self, case, server, connection, text, *values):
        self.server = server
        self.connection = connection
        self.outcome = None
        self.pid = connection.info.backend_pid
        self.thread = threading.Thread(target=self.run, args=(text, *values))
        self.thread.start()
        case.addCleanup(self.cancel)

    def run(self, text, *values):
        try:
            self.outcome = ask(self.connection, text, *values)
        except psycopg2.Error as error:
            self.outcome = error

    def until(self, event):
        """Waits until the server says that it waits for this."""
        harness.wait_until(lambda: self.server.sql("SELECT true FROM pg_stat_activity WHERE pid = %s AND wait_event = %s", self.pid, event,
                                                   database="postgres"), 20, f"a wait for {event}")

    def cancel(self):
        if self.thread.is_alive():
            self.server.sql("SELECT pg_cancel_backend(%s)", self.pid, database="postgres")
            self.thread.join(timeout=harness.bound(30))

    def result(self):
        self.thread.join(timeout=harness.bound(30))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def restart_after(server, what):
    """Starts a server again whose processes may take a moment to go."""
    end = time.monotonic() + harness.bound(30)
    while True:
        try:
            server.begin()
            return
        except subprocess.CalledProcessError:
            if time.monotonic() > end:
                raise AssertionError(f"the server does not start after {what}") from None
            time.sleep(0.1)
