# SPDX-License-Identifier: Apache-2.0
"""What the engine on PostgreSQL notices: restarts, crashes, promotions, copies, poolers, standbys, rows of others. And two reasons why it
is made as it is: logical decoding is early, and a standby's snapshot is wrong. Against real servers that are really killed."""
import itertools
import os
import signal
import socket
import struct
import threading

import relay_db
from harness import Case, main, wait_until
from relay_db import NONCE, OTHER, Blocked, Engine, Failed, ask, one, psycopg2

NUMBERS = itertools.count()
WHO = ("system", "started", "timeline", "database", "witness")


class Shared(Case):
    """On a cluster that nothing happens to."""

    @classmethod
    def setUpClass(cls):
        cls.server = relay_db.Server.make()
        cls.addClassCleanup(cls.server.end)

    def setUp(self):
        super().setUp()
        self.database = self.server.database(f"engine{next(NUMBERS)}")

    def connection(self, database=None, user="etagd"):
        made = self.server.connect(database or self.database, user)
        self.addCleanup(made.close)
        return made

    def relay(self, conninfo=None, host="a", nonce=NONCE, opened=True):
        made = Engine(conninfo or self.server.conninfo(self.database), host, nonce, opened)
        self.addCleanup(made.close)
        return made

    def differs(self, before, after):
        """Which of the names of who answered differ."""
        return {name for name in WHO if before.get(name) != after.get(name)}


class Rows(Shared):
    def test_what_is_published_is_read_by_another(self):
        writer, reader = self.relay(), self.relay(host="b", nonce=OTHER)
        seen = reader.poll()["snapshot"]
        position = int(writer.do("publish a /x prefix:/media/ hold=9")["position"])
        answer = reader.poll(seen)
        self.assertEqual(sorted(answer["rows"][position]), sorted(["a", ">/x", "prefix:>/media/", "hold=9"]))
        self.assertEqual(answer["asked"], "0")
        writer.do("publish ask everything")
        answer = reader.poll(answer["snapshot"])
        self.assertEqual((list(answer["rows"].values()), answer["asked"]), ([["everything"]], "1"))
        names = [f"name:{i}:{'x' * 200}" for i in range(1000)]
        position = int(writer.do("publish " + " ".join(names))["position"])
        self.assertEqual(sorted(reader.poll(answer["snapshot"])["rows"][position]), sorted(names))
        seen = reader.poll()["snapshot"]
        writer.do("ask")
        answer = reader.poll(seen)
        self.assertEqual((answer["rows"], answer["asked"]), ({}, "1"), "it names nothing and asks")

    def test_it_wakes_who_listens_and_not_itself(self):
        first, second = self.relay(), self.relay(host="b", nonce=OTHER)
        self.assertEqual(second.do("woken")["woken"], "0")
        first.do("wake")
        self.assertEqual(second.do("woken 20000")["woken"], "1")
        self.assertEqual(first.do("woken")["woken"], "0")
        ask(self.connection(), "NOTIFY etagd, 'by anybody'")
        self.assertEqual(first.do("woken 20000")["woken"], "1")
        self.assertEqual(first.poll("3")["rows"], {}, "it proves nothing")

    def test_what_is_published_or_asked_wakes_with_its_commit(self):
        writer, reader = self.relay(), self.relay(host="b", nonce=OTHER)
        seen = reader.poll()["snapshot"]
        position = int(writer.do("publish a")["position"])
        self.assertEqual(reader.do("woken 100")["woken"], "0")
        for operation in ("publish wake b", "publish ask wake c", f"ask {position} wake"):
            writer.do(operation)
            self.assertEqual(reader.do("woken 20000")["woken"], "1", operation)
        self.assertEqual(sorted(itertools.chain(*reader.poll(seen)["rows"].values())), ["a", "b", "c"])
        self.assertEqual(writer.do("ask 888888888 wake")["missing"], "1")
        self.assertEqual(reader.do("woken 100")["woken"], "0", "for nothing")

    def named(self, relay):
        """How many executions of statements that are known by a name the server has written into its log since."""
        relay.do("members")
        with open(os.path.join(self.server.directory, "data.log"), encoding="utf-8") as log:
            return len([line for line in log if "execute etagd_" in line])

    def test_what_is_asked_again_and_again_is_parsed_once(self):
        ask(self.connection(), f"ALTER DATABASE {self.database} SET log_min_duration_statement = 0")
        relay = self.relay()
        before = self.named(relay)
        relay.do("join")
        answer = relay.poll()
        for operation in ("publish a", "wake", "ask", f"acknowledge {answer['witness']} {answer['snapshot']}"):
            relay.do(operation)
        relay.poll(answer["snapshot"])
        self.assertEqual(self.named(relay) - before, 7, "all but join")

    def test_what_is_prepared_and_gone_is_sent_anew(self):
        """As DISCARD ALL of a pooler does it, or another process of the server."""
        directory = os.path.join(self.server.directory, self.database)
        os.mkdir(directory)
        pooler = Pooler(directory, {"server": os.path.join(self.server.directory, f".s.PGSQL.{self.server.port}")})
        self.addCleanup(pooler.close)
        ask(self.connection(), f"ALTER DATABASE {self.database} SET log_min_duration_statement = 0")
        relay = self.relay(f"host={directory} port=6432 user=etagd dbname={self.database}")
        before = self.named(relay)
        relay.do("join")
        self.assertEqual(self.named(relay) - before, 1, "it is known")
        pooler.say("server", "DISCARD ALL")
        seen = relay.poll()["snapshot"]
        relay.do("publish a")
        self.assertEqual(list(relay.poll(seen)["rows"].values()), [["a"]])
        self.assertEqual(self.named(relay) - before, 1, "and not any more")

    def test_behind_a_pooler_nothing_is_prepared(self):
        """One that tells of no process of the server: what is prepared there would stay for ever."""
        directory = os.path.join(self.server.directory, self.database)
        os.mkdir(directory)
        pooler = Pooler(directory, {"server": os.path.join(self.server.directory, f".s.PGSQL.{self.server.port}")}, hides=True)
        self.addCleanup(pooler.close)
        relay = self.relay(f"host={directory} port=6432 user=etagd dbname={self.database}")
        relay.do("join")
        relay.poll()
        self.assertEqual(pooler.say("server", "SELECT name FROM pg_prepared_statements"), [])

    def test_rows_that_no_release_wrote_are_unreadable_and_harm_nobody(self):
        owner, relay = self.connection(), self.relay()
        for content in (b"", b"\0", b"\1s", b"\1s\0\5abcd", b"\1s\0\0", b"\1s\0\3a b", b"\1r\0\1x", b"\1p\0\4/a?b", b"\1h\0\2ab", b"\1h\0\4\0\0\0\1",
                        b"\1h\0\4\x7f\xff\xff\xffs\0\1a", b"\1z\0\1a", b"\1e\0\0z", b"\1r\0\3/%z", b"\1r\0\x0a//a..b/abc", b"\1" + b"s\0\1a" * 2500, b"\1" * 300000,
                        b"\1w\0\0s\0\1a", b"\1s\0\1aw\0\1b", b"\2", b"\2sa ", b"\2sa\n", b"\2xa", os.urandom(200)):
            with self.subTest(content=content[:20]):
                seen = relay.poll()["snapshot"]
                ask(owner, "INSERT INTO etagd.outbox (targets) VALUES (%s)", psycopg2.Binary(content))
                answer = relay.poll(seen)
                self.assertEqual(list(answer["rows"].values()), [["unreadable"]])
                self.assertEqual(answer["cut"], "0")

    def test_more_than_it_takes_is_said_and_not_half_given(self):
        owner, relay = self.connection(), self.relay()
        for count, length in ((4097, 1), (100, 7000)):
            seen = relay.poll()["snapshot"]
            ask(owner, "SELECT etagd.publish(array_agg('\\x0173'::bytea || int2send(%s::int2) || convert_to(repeat('x', %s), 'UTF8')), false) "
                "FROM generate_series(1, %s)", length, length, count)
            answer = relay.poll(seen)
            self.assertEqual((answer["cut"], answer["rows"]), ("1", {}))
            self.assertEqual(relay.poll(answer["snapshot"])["cut"], "0")
        seen = relay.poll()["snapshot"]
        ask(owner, "SELECT etagd.publish(array_agg('\\x0173000161'::bytea), false) FROM generate_series(1, 4096)")
        answer = relay.poll(seen)
        self.assertEqual((answer["cut"], len(list(answer["rows"].values())[0])), ("0", 4096))

    def test_a_cursor_that_is_none_brings_everything(self):
        relay = self.relay()
        for cursor in ("0", "2", "700:701", "700:600,500", "9300000000000000000"):
            self.assertEqual(relay.poll(cursor)["cut"], "1", cursor)
        self.assertEqual(relay.poll()["rows"], {})

    def test_rows_of_another_cluster_are_told_and_removed(self):
        """Of a dump that was restored: their transactions are not of this cluster."""
        owner, relay = self.connection(), self.relay()
        ask(owner, "INSERT INTO etagd.outbox (xid, targets) VALUES ('888888888', '\\x0173000161')")
        answer = relay.poll(relay.poll()["snapshot"])
        self.assertEqual(list(answer["rows"]), [888888888])
        self.assertGreater(888888888, int(answer["unassigned"]))
        self.assertEqual(relay.do("trim 100000")["removed"], "1")
        self.assertEqual(relay.poll(answer["snapshot"])["rows"], {})

    def test_what_the_database_is_used_to_changes_nothing(self):
        """Serializable by default, a search path and a form of bytea of its own."""
        relay = self.relay()
        for setting in ("default_transaction_isolation = serializable", "default_transaction_read_only = off", "search_path = nowhere",
                        "bytea_output = escape", "synchronous_commit = off", "DateStyle = 'German'", "IntervalStyle = 'sql_standard'"):
            ask(self.connection(), f"ALTER DATABASE {self.database} SET {setting}")
        relay.do("open")
        relay.do("join")
        seen = relay.poll()["snapshot"]
        relay.do("publish a")
        ask(self.connection(), "SELECT etagd.invalidate('b')")
        self.assertEqual(sorted(itertools.chain(*relay.poll(seen)["rows"].values())), ["a", "b"])
        self.assertEqual(one(self.connection(), "SELECT count(*) FROM pg_locks WHERE mode = 'SIReadLock'"), 0, "it can fail no writer")


class Mistakes(Shared):
    """Of operators: a clear sentence, that says what to do."""

    def refused(self, conninfo, *words):
        relay = self.relay(conninfo, opened=False)
        with self.assertRaises(Failed) as failed:
            relay.do("open")
        for word in words:
            self.assertIn(word, str(failed.exception))
        self.assertFalse(failed.exception.refused)

    def test_connection_strings(self):
        self.refused("hst=x", 'invalid connection option "hst"', "host=... dbname=")
        self.refused("postgresql://[::1/x", "cannot use the connection string")
        self.refused("host=/nowhere dbname=x", "cannot connect", "No such file or directory")
        self.refused(self.server.conninfo("nothing"), 'database "nothing" does not exist')
        self.refused(self.server.conninfo(self.database, "nobody"), 'role "nobody" does not exist')
        self.refused(self.server.conninfo("postgres"), "database postgres has no schema etagd", "etag-relay setup")

    def test_rights(self):
        if not ask(self.connection(), "SELECT true FROM pg_roles WHERE rolname = 'anybody'"):
            ask(self.connection(), "CREATE ROLE anybody LOGIN")
        self.refused(self.server.conninfo(self.database, "anybody"), "the role anybody may not use", "GRANT etagd_relay TO anybody")
        ask(self.connection(), "GRANT etagd_writer TO anybody")
        self.refused(self.server.conninfo(self.database, "anybody"), "GRANT etagd_relay TO anybody")
        ask(self.connection(), "GRANT etagd_relay TO anybody")
        relay = self.relay(self.server.conninfo(self.database, "anybody"))
        relay.poll()
        ask(self.connection(), "REVOKE etagd_relay FROM anybody")
        with self.assertRaisesRegex(Failed, "permission denied.*GRANT etagd_relay"):
            relay.poll()
        ask(self.connection(), "REVOKE etagd_writer FROM anybody")

    def test_schemas(self):
        owner, relay = self.connection(), self.relay()
        ask(owner, "CREATE OR REPLACE FUNCTION etagd.version() RETURNS int LANGUAGE sql AS 'SELECT 3'")
        self.refused(self.server.conninfo(self.database), "has version 3", "works with 2", "install the release")
        ask(owner, "CREATE OR REPLACE FUNCTION etagd.version() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        self.refused(self.server.conninfo(self.database), "has version 1", "run etag-relay setup")
        ask(owner, "ALTER FUNCTION etagd.poll(pg_snapshot, text, uuid, integer, integer) RENAME TO polled")
        with self.assertRaisesRegex(Failed, "run etag-relay setup"):
            relay.poll()
        ask(owner, "DROP SCHEMA etagd CASCADE")
        relay.do("close")
        self.refused(self.server.conninfo(self.database), "has no schema etagd")
        ask(owner, "CREATE SCHEMA etagd")
        self.refused(self.server.conninfo(self.database), "not of etag-relay")

    def test_a_poll_that_is_cancelled_and_a_session_that_is_ended(self):
        relay = self.relay()
        holder = self.connection()
        ask(holder, "BEGIN")
        ask(holder, "LOCK etagd.setting IN ACCESS EXCLUSIVE MODE")
        for call, words in (("pg_cancel_backend", "canceling statement"), ("pg_terminate_backend", "terminating connection|connection .* was lost|closed")):
            outcome = []

            def poll(into=outcome):
                try:
                    into.append(relay.poll())
                except Failed as error:
                    into.append(error)

            thread = threading.Thread(target=poll)
            thread.start()
            pid = wait_until(lambda: ask(self.connection("postgres"), "SELECT pid FROM pg_stat_activity WHERE application_name = 'etag-relay a' "
                                         "AND wait_event = 'relation' AND datname = %s", self.database), 20, "a poll that waits")[0][0]
            ask(self.connection("postgres"), f"SELECT {call}(%s)", pid)
            thread.join()
            self.assertRegex(str(outcome[0]), words)
        ask(holder, "ROLLBACK")
        relay.do("open")
        relay.poll()


class Restarts(Case):
    """Each on a cluster of its own: what a poll says afterwards of who answers."""

    def setUp(self):
        super().setUp()
        self.server = relay_db.Server.make()
        self.addCleanup(self.server.end)
        self.database = self.server.database("app")
        self.relay = Engine(self.server.conninfo(self.database))
        self.addCleanup(self.relay.close)
        self.relay.do("join")
        self.relay.do("publish before")
        self.before = self.relay.poll()

    def after(self):
        """A poll that finds the witness gone, and one after the host has joined again."""
        found = self.relay.poll(self.before["snapshot"])
        self.assertNotIn("witness", found)
        self.assertEqual(found["member"], relay_db.MEMBER)
        self.relay.do("join")
        again = self.relay.poll(found["snapshot"])
        self.assertNotEqual(again["witness"], self.before["witness"])
        return found

    def restart(self, mode):
        self.relay.do("close")
        self.server.end(mode)
        self.server.begin()
        self.relay.do("open")

    def test_smart_and_fast(self):
        for mode in ("smart", "fast"):
            self.restart(mode)
            found = self.after()
            self.assertEqual({name for name in WHO if found.get(name) != self.before.get(name)}, {"started", "witness"})
            self.assertEqual(len(self.server.sql("SELECT true FROM etagd.witness", database=self.database)), 1, "unlogged, and kept by a clean stop")
            self.before = self.relay.poll()

    def test_immediate_loses_what_nobody_waited_for_and_the_witness_with_it(self):
        self.relay.do("publish perhaps-lost")
        self.restart("immediate")
        self.assertEqual(self.server.sql("SELECT count(*) FROM etagd.witness", database=self.database)[0][0], 0)
        self.after()

    def test_a_backend_is_killed(self):
        victim = self.server.connect(self.database)
        os.kill(victim.info.backend_pid, signal.SIGKILL)
        with self.assertRaises(Failed):  # all others are ended too
            for _ in range(2000):
                self.relay.poll()
        wait_until(lambda: self.opens(), 30, "the server recovers")
        found = self.after()
        self.assertEqual({name for name in WHO if found.get(name) != self.before.get(name)}, {"witness"}, "nothing else tells")

    def opens(self):
        try:
            self.relay.do("open")
            return True
        except Failed:
            return False

    def test_the_postmaster_is_killed(self):
        os.kill(self.server.postmaster(), signal.SIGKILL)
        relay_db.restart_after(self.server, "a kill of the postmaster")
        self.relay.do("open")
        found = self.after()
        self.assertNotEqual(found["started"], self.before["started"])

    def test_a_standby_is_promoted(self):
        """It has no witness, another timeline, and another start; a row and an acknowledgement from before prove nothing there."""
        standby = self.server.standby()
        self.addCleanup(standby.end)
        self.relay.do(f"acknowledge {self.before['witness']} {self.before['snapshot']}")
        self.server.caught_up(standby)
        follower = Engine(standby.conninfo(self.database), opened=False)
        self.addCleanup(follower.close)
        with self.assertRaisesRegex(Failed, "a standby answered: name the primary"):
            follower.do("open")
        self.server.end("immediate")
        standby.run("pg_ctl", "-D", standby.data, "-w", "promote")
        follower.do("open")
        found = follower.poll(self.before["snapshot"])
        self.assertEqual({name for name in WHO if found.get(name) != self.before.get(name)}, {"started", "timeline", "witness"})
        self.assertEqual(found["member"], relay_db.MEMBER)
        self.assertNotIn("witness", follower.do("members"))
        follower.do("join")
        members = follower.do("members")
        self.assertEqual(members["hosts"], "a/1/0/0|", "the acknowledgement is gone")
        self.assertNotIn("witness", members, "a young one proves nothing")


class Copies(Shared):
    """Databases that have another one's rows, and so its witness."""

    def setUp(self):
        super().setUp()
        relay = self.relay()
        relay.do("join")
        relay.do("publish a")
        self.before = relay.poll()
        relay.do("trim 100000")

    def dump(self, *options):
        path = os.path.join(self.server.directory, self.database + ".dump")
        self.server.run("pg_dump", "-p", str(self.server.port), "-U", "etagd", "-Fc", "-f", path, *options, self.database)
        return path

    def copied(self, name):
        """A copy has a witness, and it does not count; joining makes one that does, and clears what came along."""
        self.assertEqual(self.server.sql("SELECT count(*) FROM etagd.witness", database=name)[0][0], 1, "it came along")
        relay = self.relay(self.server.conninfo(name))
        found = relay.poll(self.before["snapshot"])
        self.assertNotIn("witness", found)
        # As of a cluster whose numbers are higher: no cursor of this one would ever cover it.
        self.server.sql("UPDATE etagd.trim SET trimmed = '888888888'", database=name)
        relay.do("join")
        again = relay.poll(found["snapshot"])
        self.assertNotIn(again["witness"], (self.before["witness"], None))
        self.assertEqual(self.server.sql("SELECT count(*) FROM etagd.tick", database=name)[0][0], 0)
        self.assertLess(int(again["trimmed"]), int(again["snapshot"].split(":")[0]))
        return found

    def test_made_from_a_template(self):
        self.close_all()
        ask(self.connection("postgres"), f"CREATE DATABASE {self.database}t TEMPLATE {self.database}")
        found = self.copied(self.database + "t")
        self.assertEqual(self.differs(self.before, found), {"database", "witness"})

    def close_all(self):
        """A template must have no sessions."""
        self.doCleanups()
        self.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", self.database, database="postgres")
        wait_until(lambda: not self.server.sql("SELECT true FROM pg_stat_activity WHERE datname = %s", self.database, database="postgres"), 20,
                   "no session")

    def test_a_dump_in_another_database(self):
        name = self.database + "d"
        path = self.dump()
        ask(self.connection("postgres"), f"CREATE DATABASE {name}")
        self.server.run("pg_restore", "-p", str(self.server.port), "-U", "etagd", "-d", name, path)
        found = self.copied(name)
        self.assertEqual(self.differs(self.before, found), {"database", "witness"})

    def test_a_dump_restored_over_its_own_database(self):
        """Same cluster, same database, the same witness in the dump: the tables are others."""
        path = self.dump()
        relay = self.relay(host="b", nonce=OTHER)
        relay.do("publish after-the-dump")
        before = relay.poll()
        relay.do("close")
        self.server.run("pg_restore", "-p", str(self.server.port), "-U", "etagd", "-d", self.database, "--clean", path, check=False)
        relay.do("open")
        found = relay.poll(before["snapshot"])
        self.assertEqual(found["rows"], {})
        self.assertEqual(self.differs(before, found), {"witness"})
        self.assertEqual(relay.poll()["member"], "0")

    def test_a_dump_without_the_schema_has_none(self):
        name = self.database + "n"
        path = self.dump("-N", "etagd")
        ask(self.connection("postgres"), f"CREATE DATABASE {name}")
        self.server.run("pg_restore", "-p", str(self.server.port), "-U", "etagd", "-d", name, path)
        with self.assertRaisesRegex(Failed, "has no schema etagd"):
            self.relay(self.server.conninfo(name))

    def test_an_outbox_that_was_emptied_by_hand(self):
        """TRUNCATE takes rows that were not read yet, for every snapshot."""
        relay = self.relay()
        relay.do("publish not-read-yet")
        ask(self.connection(), "TRUNCATE etagd.outbox")
        found = relay.poll(self.before["snapshot"])
        self.assertEqual((found["rows"], self.differs(self.before, found)), ({}, {"witness"}))

    def test_a_truncate_between_the_rows_and_the_witness_is_not_missed(self):
        """It is no matter of snapshots. A poll waits for it where it reads the rows, and looks for the witness afterwards."""
        owner = self.connection()
        ask(owner, "BEGIN")
        ask(owner, "TRUNCATE etagd.outbox")
        poll = Blocked(self, self.server, self.connection(), "SELECT (p).row_count, (p).witness FROM etagd.poll(%s, 'a', %s, 10, 1000) p", "3:3:", NONCE)
        poll.until("relation")
        ask(owner, "COMMIT")
        self.assertEqual(poll.result(), [(0, None)])


class Pooler:
    """A pooler of the test's own: it answers on a socket, and gives each transaction to the server that is chosen now."""

    def __init__(self, directory, servers, hides=False):
        self.directory = directory
        self.servers = servers  # name -> path of a socket
        self.hides = hides  # the process of the server
        self.sockets = {}  # of the newest client
        self.chosen = next(iter(servers))
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(os.path.join(directory, ".s.PGSQL.6432"))
        self.listener.listen()
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    @staticmethod
    def read(stream, count):
        data = b""
        while len(data) < count:
            more = stream.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def message(self, stream):
        head = self.read(stream, 5)
        return head + self.read(stream, struct.unpack("!i", head[1:])[0] - 4)

    def until_ready(self, server, client):
        while True:
            message = self.message(server)
            if self.hides and message[:1] == b"K":
                message = message[:5] + struct.pack("!i", 1) + message[9:]
            if client:
                client.sendall(message)
            if message[:1] == b"Z":
                return

    def say(self, name, text):
        """By another client of the same process of the server; what comes back in one column."""
        server, rows = self.sockets[name], []
        server.sendall(b"Q" + struct.pack("!i", len(text) + 5) + text.encode() + b"\0")
        while (message := self.message(server))[:1] != b"Z":
            if message[:1] == b"D":
                rows.append(message[11:].decode())
        return rows

    def serve(self, client):
        servers = self.sockets = {}
        try:
            length = self.read(client, 4)
            startup = length + self.read(client, struct.unpack("!i", length)[0] - 4)
            if startup[4:8] in (b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30"):  # TLS, GSS: not here
                client.sendall(b"N")
                length = self.read(client, 4)
                startup = length + self.read(client, struct.unpack("!i", length)[0] - 4)
            for name, path in self.servers.items():
                servers[name] = socket.socket(socket.AF_UNIX)
                servers[name].connect(path)
                servers[name].sendall(startup)
                self.until_ready(servers[name], client if name == self.chosen else None)
            while True:
                message = self.message(client)
                server = servers[self.chosen]
                while message[:1] not in (b"S", b"Q"):
                    server.sendall(message)
                    message = self.message(client)
                server.sendall(message)
                self.until_ready(server, client)
        except (EOFError, OSError):
            pass
        finally:
            client.close()
            for server in servers.values():
                server.close()

    def close(self):
        self.listener.close()


class Standbys(Case):
    @classmethod
    def setUpClass(cls):
        cls.server = relay_db.Server.make()
        cls.addClassCleanup(cls.server.end)
        cls.database = cls.server.database("app")
        cls.standby = cls.server.standby()
        cls.addClassCleanup(cls.standby.end)

    def connection(self, server=None):
        made = (server or self.server).connect(self.database)
        self.addCleanup(made.close)
        return made

    def test_a_pooler_that_changes_servers(self):
        """The same connection, and from one statement to the next another server: each answer says whose it is."""
        directory = os.path.join(self.server.directory, "pooler")
        os.mkdir(directory)
        pooler = Pooler(directory, {"primary": os.path.join(self.server.directory, f".s.PGSQL.{self.server.port}"),
                                    "standby": os.path.join(self.server.directory, f".s.PGSQL.{self.standby.port}")})
        self.addCleanup(pooler.close)
        relay = Engine(f"host={directory} port=6432 user=etagd dbname={self.database}")
        self.addCleanup(relay.close)
        relay.do("join")
        before = relay.poll()
        self.assertEqual(before["standby"], "0")
        self.server.caught_up(self.standby)
        pooler.chosen = "standby"
        answer = relay.poll(before["snapshot"])
        self.assertEqual(answer["standby"], "1")
        self.assertNotIn("snapshot", answer)
        self.assertEqual(relay.do("members")["standby"], "1")
        for operation in ("publish a", "join", "wake", "trim 10000", "leave a"):
            with self.subTest(operation), self.assertRaisesRegex(Failed, "failed.*A standby answered: name the primary"):
                relay.do(operation)
        pooler.chosen = "primary"
        again = relay.poll(before["snapshot"])
        self.assertEqual([again[name] for name in WHO], [before[name] for name in WHO])

    def without_its_synchronous_standby(self):
        owner = self.connection()
        ask(owner, "ALTER SYSTEM SET synchronous_standby_names = 'away'")
        ask(owner, "SELECT pg_reload_conf()")
        self.addCleanup(self.server.sql, "SELECT pg_reload_conf()", database="postgres")
        self.addCleanup(self.server.sql, "ALTER SYSTEM RESET synchronous_standby_names", database="postgres")
        wait_until(lambda: one(self.connection(), "SHOW synchronous_standby_names") == "away", 20, "the setting")

    def test_nothing_of_a_relay_waits_for_a_standby_that_is_away(self):
        relay = Engine(self.server.conninfo(self.database))
        self.addCleanup(relay.close)
        relay.do("join")
        before = relay.poll()
        self.without_its_synchronous_standby()
        writer = Blocked(self, self.server, self.connection(), "SELECT etagd.invalidate('waits'), pg_notify('somebody', '')")
        writer.until("SyncRep")
        for operation in ("poll", "publish a", "ask", f"acknowledge {before['witness']} {before['snapshot']}", "trim 10000", "members", "join",
                          "leave a", "join"):
            with self.subTest(operation):
                relay.do(operation)
        # Whoever notifies holds the server's lock until its standby answers: nobody is woken, and nobody waits.
        relay.do("wake")
        for operation in ("publish wake b", "ask wake"):
            with self.subTest(operation), self.assertRaisesRegex(Failed, "refused 3"):
                relay.do(operation)
        self.assertEqual(list(relay.poll(before["snapshot"])["rows"].values()), [["a"]], "not what waits: it is not visible")
        writer.cancel()
        self.assertIn(["waits"], list(relay.poll(before["snapshot"])["rows"].values()))

    def test_logical_decoding_is_early(self):
        """Why the outbox is polled: decoding delivers a commit that no session can see. A front end would take its token after the event,
        read the old data, and keep it."""
        owner = self.connection()
        ask(owner, "CREATE TABLE early (n int)")
        ask(owner, "SELECT pg_create_logical_replication_slot('early', 'test_decoding')")
        self.addCleanup(self.server.sql, "SELECT pg_drop_replication_slot('early')", database=self.database)
        relay = Engine(self.server.conninfo(self.database))
        self.addCleanup(relay.close)
        seen = relay.poll()["snapshot"]
        self.without_its_synchronous_standby()
        writer = Blocked(self, self.server, self.connection(), "INSERT INTO early VALUES (1); SELECT etagd.invalidate('early')")
        writer.until("SyncRep")
        changes = [row[0] for row in ask(owner, "SELECT data FROM pg_logical_slot_peek_changes('early', NULL, NULL)")]
        self.assertTrue(any("INSERT" in change and "early" in change for change in changes), changes)
        self.assertTrue(any(change.startswith("COMMIT") for change in changes), changes)
        self.assertEqual(ask(owner, "SELECT * FROM early"), [], "decoded, and not visible")
        self.assertEqual(relay.poll(seen)["rows"], {}, "the outbox has it when its data is visible")
        writer.cancel()
        self.assertEqual(ask(owner, "SELECT * FROM early"), [(1,)])
        self.assertEqual(list(relay.poll(seen)["rows"].values()), [["early"]])

    def test_a_snapshot_of_a_standby_is_wrong(self):
        """Why a standby is not polled: its snapshot says of a transaction which runs on the primary that it has ended."""
        slow = self.connection()
        ask(slow, "BEGIN")
        position = one(slow, "SELECT etagd.invalidate('slow')")
        ask(self.connection(), "SELECT etagd.invalidate('quick')")
        self.server.caught_up(self.standby)
        follower = self.connection(self.standby)
        covers = "SELECT pg_visible_in_snapshot(%s::xid8, pg_current_snapshot())"
        self.assertFalse(one(self.connection(), covers, position))
        self.assertTrue(one(follower, covers, position), "as if it had ended")
        cursor = one(follower, "SELECT pg_current_snapshot()")
        ask(slow, "COMMIT")
        self.assertNotIn(position, [row[0] for row in ask(self.connection(), "SELECT xid FROM etagd.outbox WHERE NOT pg_visible_in_snapshot(xid, %s)",
                                                           cursor)], "with this cursor it never comes")


if __name__ == "__main__":
    main()
