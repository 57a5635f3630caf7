# SPDX-License-Identifier: Apache-2.0
"""The schema etagd as writers and operators meet it: what is in the outbox, what waiting proves, who may do what, what is removed.
Against a real PostgreSQL; a relay's questions are asked by the engine that ships."""
import itertools
import random
import subprocess
import threading
import time

import relay_db
from harness import Case, main
from relay_db import NONCE, OTHER, Blocked, Engine, ask, errors, one, psycopg2

SERVER = relay_db.Server.make()
NUMBERS = itertools.count()


class WithDatabase(Case):
    def setUp(self):
        super().setUp()
        self.database = SERVER.database(f"sql{next(NUMBERS)}")
        self.writer = self.connection()
        self.engine = self.relay()
        self.engine.do("join")

    def connection(self, user="etagd"):
        made = SERVER.connect(self.database, user)
        self.addCleanup(made.close)
        return made

    def relay(self, host="a", nonce=NONCE):
        made = Engine(SERVER.conninfo(self.database), host, nonce)
        self.addCleanup(made.close)
        return made

    def cursor(self):
        return self.engine.poll()["snapshot"]

    def names(self, cursor):
        """All names since the cursor, in one list."""
        answer = self.engine.poll(cursor)
        self.assertEqual(answer["cut"], "0")
        return sorted(itertools.chain(*answer["rows"].values()))

    def transaction(self, isolation="READ COMMITTED"):
        made = self.connection()
        ask(made, f"BEGIN ISOLATION LEVEL {isolation}")
        return made

    def settle(self):
        """The witness is as old as if nothing had happened for long."""
        ask(self.writer, "UPDATE etagd.witness SET since = since - interval '1 hour'")


class Outbox(WithDatabase):
    def test_names_arrive_as_they_were_named(self):
        seen = self.cursor()
        position = one(self.writer, "SELECT etagd.invalidate('upload:42', 'Größe', 'a,b')")
        answer = self.engine.poll(seen)
        self.assertEqual(list(answer["rows"]), [int(position)])
        names = answer["rows"][int(position)]
        self.assertEqual(names[0], "upload:42")
        self.assertTrue(names[1].startswith("~hash-"), "as libetag names what is not ASCII")
        self.assertEqual(names[2], "a,b")
        seen = answer["snapshot"]
        ask(self.writer, "SELECT etagd.invalidate(resources => '{//Example.org:8080/a%20b?x=y,/}', prefixes => '{/media/}', hold_ms => 500)")
        self.assertEqual(self.names(seen), sorted(["Example.org:8080>/a%20b?x=y", ">/", "prefix:>/media/", "hold=500"]))
        seen = self.cursor()
        ask(self.writer, "SELECT etagd.invalidate(everything => true, surrogates => '{b}')")
        ask(self.writer, "SELECT etagd.invalidate(array['c', 'd'])")
        self.assertEqual(self.names(seen), ["b", "c", "d", "everything"])

    def test_many_names_are_many_rows(self):
        seen = self.cursor()
        ask(self.writer, "SELECT etagd.invalidate(array_agg('name:' || repeat('x', n %% 300) || n), hold_ms => 7) FROM generate_series(1, %s) n", 900)
        answer = self.engine.poll(seen)
        (names,) = answer["rows"].values()
        self.assertEqual(len([name for name in names if name.startswith(("name:", "~hash-"))]), 900)
        self.assertGreater(names.count("hold=7"), 10, "each row has the hold")
        self.assertLessEqual(one(self.writer, "SELECT max(octet_length(targets)) FROM etagd.outbox"), 8192)

    def test_each_row_says_who_wrote_it(self):
        name, word = "größe " + "x" * 55, "a job of " + "y" * 54
        ask(self.writer, f'CREATE ROLE "{name}" LOGIN; GRANT etagd_writer TO "{name}"')
        self.addCleanup(SERVER.sql, f'DROP OWNED BY "{name}"; DROP ROLE "{name}"', database=self.database)
        made = SERVER.connect(self.database, "etagd")
        self.addCleanup(made.close)
        ask(made, f"SET SESSION AUTHORIZATION \"{name}\"; SET application_name = '{word}'; SET standard_conforming_strings = off")
        seen = self.cursor()
        ask(made, "SELECT etagd.invalidate(array_agg('name:' || repeat('x', 200) || n), everything => true, hold_ms => 7) FROM generate_series(1, 60) n")
        by = f"{name}@[local] ({word})".encode()
        for targets, in ask(self.writer, "SELECT targets FROM etagd.outbox"):
            self.assertTrue(bytes(targets).startswith(b"\1w" + len(by).to_bytes(2, "big") + by + b"h\0\4\0\0\0\7"), bytes(targets[:200]))
        self.assertIn("everything", self.names(seen))
        self.assertGreater(one(self.writer, "SELECT count(*) FROM etagd.outbox"), 1)

    def test_a_name_that_libetag_would_refuse_is_refused_in_the_transaction(self):
        bad = {"surrogates": ["", "a b", "a\tb", "\x7f", "x" * 5000],
               "resources": ["", "a", "//host", "/a b", "/a#b", "/%2", "/%zz?x", "//a..b/", "//a:b/", "//ho$t/", "/" + "x" * 5000],
               "prefixes": ["/a/?x", "a/", "//[::1/a/"]}
        for kind, names in bad.items():
            for name in names:
                with self.subTest(kind=kind, name=name[:20]), self.assertRaises(errors.InvalidParameterValue):
                    ask(self.writer, f"SELECT etagd.invalidate({kind} => array[%s])", name)
        for call in ("etagd.invalidate()", "etagd.invalidate('{}'::text[])", "etagd.invalidate(null::text)", "etagd.invalidate('a', null)",
                     "etagd.invalidate(array['a'], hold_ms => -1)", "etagd.invalidate(array['a'], hold_ms => 3600001)",
                     "etagd.invalidate(array['a'], hold_ms => null)"):
            with self.subTest(call=call), self.assertRaises(errors.InvalidParameterValue):
                ask(self.writer, "SELECT " + call)
        self.assertEqual(one(self.writer, "SELECT count(*) FROM etagd.outbox"), 0)

    def test_the_witness_does_not_depend_on_the_settings_of_a_session(self):
        """Before PostgreSQL 14 a start time in seconds was a float, whose text does."""
        settings = ("extra_float_digits = 0", "extra_float_digits = -15", "DateStyle = 'German'", "TimeZone = 'Asia/Tokyo'",
                    "lc_numeric = 'C'", "bytea_output = escape", "IntervalStyle = 'sql_standard'")
        places = set()
        for setting in settings:
            ask(self.writer, "SET " + setting)
            places.add(one(self.writer, "SELECT etagd.place()"))
        self.assertEqual(len(places), 1, places)
        self.assertNotRegex(places.pop(), "[.eE]")

    def test_what_sql_takes_libetag_takes(self):
        seen = self.cursor()
        for name in ("//a.b/", "//[::1]:80/x", "//A_B-c.example.:08080/", "/?a?b=%", "/%2F..%2f", "/a/../b", "//h/" + "%41" * 1300, "////x", "/ü?ü"):
            ask(self.writer, "SELECT etagd.invalidate(resources => array[%s])", name)
        for name in ("/", "//h/a", "/a/b/c/d/e/f"):
            ask(self.writer, "SELECT etagd.invalidate(prefixes => array[%s])", name)
        self.assertNotIn("unreadable", self.names(seen))

    def test_a_row_rolled_back_was_never_there_and_a_savepoint_has_its_transaction(self):
        seen = self.cursor()
        writer = self.transaction()
        ask(writer, "SELECT etagd.invalidate('before')")
        ask(writer, "SAVEPOINT s")
        ask(writer, "SELECT etagd.invalidate('undone')")
        ask(writer, "ROLLBACK TO s")
        ask(writer, "SAVEPOINT t")
        position = one(writer, "SELECT etagd.invalidate('within')")
        ask(writer, "RELEASE t")
        self.assertEqual(self.names(seen), [])
        between = self.cursor()
        ask(writer, "COMMIT")
        for cursor in (seen, between):
            self.assertEqual(self.engine.poll(cursor)["rows"], {int(position): ["before", "within"]})
        self.assertEqual(self.names(self.cursor()), [])
        writer = self.transaction()
        ask(writer, "SELECT etagd.invalidate('never')")
        ask(writer, "ROLLBACK")
        self.assertEqual(self.names(seen), ["before", "within"])

    def test_a_prepared_transaction_comes_when_it_is_committed(self):
        writer = self.transaction()
        position = one(writer, "SELECT etagd.invalidate('prepared')")
        ask(writer, "PREPARE TRANSACTION 'p'")
        writer.close()
        cursor = self.cursor()
        self.assertIn(position, cursor, "it runs yet")
        ask(self.writer, "SELECT etagd.invalidate('later')")
        answer = self.engine.poll(cursor)
        self.assertEqual(list(answer["rows"].values()), [["later"]])
        ask(self.writer, "COMMIT PREPARED 'p'")
        for seen in (cursor, answer["snapshot"]):
            self.assertEqual(self.engine.poll(seen)["rows"].get(int(position)), ["prepared"])

    def test_a_long_transaction_delays_nobody_and_is_not_lost(self):
        slow = self.transaction()
        position = one(slow, "SELECT etagd.invalidate('slow')")
        cursor = self.cursor()
        seen = []
        for i in range(20):
            ask(self.writer, "SELECT etagd.invalidate(%s)", f"n{i}")
            answer = self.engine.poll(cursor)
            seen += itertools.chain(*answer["rows"].values())
            cursor = answer["snapshot"]
        self.assertEqual(seen, [f"n{i}" for i in range(20)], "each once, at once")
        ask(slow, "COMMIT")
        # "id > the last one" would never find it.
        self.assertEqual(self.engine.poll(cursor)["rows"], {int(position): ["slow"]})

    def test_twelve_writers_in_disorder_none_lost_none_twice(self):
        cursor = self.cursor()
        committed, seen, done = set(), [], threading.Event()
        lock = threading.Lock()

        def write(number, source):
            connection = SERVER.connect(self.database)
            for i in range(25):
                name = f"w{number}:{i}"
                ask(connection, "BEGIN")
                ask(connection, "SELECT etagd.invalidate(%s), pg_sleep(%s)", name, source.random() * source.choice((0, 0.003, 0.02)))
                if source.random() < 0.2:
                    ask(connection, "ROLLBACK")
                    continue
                ask(connection, "COMMIT")
                with lock:
                    committed.add(name)
            connection.close()

        writers = [threading.Thread(target=write, args=(number, random.Random(number))) for number in range(12)]
        for writer in writers:
            writer.start()
        while not done.is_set():
            if not any(writer.is_alive() for writer in writers):
                done.set()  # ... and one more
            answer = self.engine.poll(cursor)
            self.assertEqual(answer["cut"], "0")
            cursor = answer["snapshot"]
            seen += itertools.chain(*answer["rows"].values())
        for writer in writers:
            writer.join()
        self.assertEqual(sorted(seen), sorted(committed))

    def test_a_poll_is_one_snapshot_though_it_reads_several_tables(self):
        """Membership is believed for what the same snapshot shows (rule MEMBER_IN_SNAPSHOT), so the function must stay STABLE."""
        cursor = self.cursor()
        holder = self.transaction()
        ask(holder, "LOCK etagd.setting IN ACCESS EXCLUSIVE MODE")  # read after the outbox
        waiting = self.connection()
        poll = Blocked(self, SERVER, waiting, "SELECT (p).snapshot, (p).row_count, (p).state FROM etagd.poll(%s, 'a', %s, 10, 1000) p",
                       cursor.replace(":", "::") if ":" in cursor else f"{cursor}:{cursor}:", NONCE)
        poll.until("relation")
        position = one(self.writer, "SELECT etagd.invalidate('late')")
        ask(self.writer, "UPDATE etagd.host SET state = 'leaving'")
        ask(holder, "COMMIT")
        snapshot, count, state = poll.result()[0]
        self.assertFalse(one(self.writer, "SELECT pg_visible_in_snapshot(%s::xid8, %s::pg_snapshot)", position, snapshot))
        self.assertEqual((count, state), (0, "member"))

    def test_a_poll_takes_no_transaction_id_and_reads_by_the_index(self):
        ask(self.writer, "INSERT INTO etagd.outbox (targets) SELECT '\\x0173000161' FROM generate_series(1, 20000)")
        ask(self.writer, "ANALYZE etagd.outbox")
        reader = self.transaction()
        for _ in range(8):  # planned once for all
            ask(reader, "SELECT * FROM etagd.poll(pg_current_snapshot(), 'a', %s, 10, 1000)", NONCE)
        self.assertIsNone(one(reader, "SELECT pg_current_xact_id_if_assigned()"))
        scans = one(reader, "SELECT pg_stat_get_xact_numscans('etagd.outbox'::regclass)")
        self.assertEqual(scans, 0, "none of the whole table")
        ask(reader, "COMMIT")

    def test_serializable_writers_meet_no_relay(self):
        """Two writers that read different rows of theirs, and relays that poll, acknowledge and trim meanwhile: nobody is aborted."""
        ask(self.writer, "CREATE TABLE data (id int PRIMARY KEY, n int)")
        ask(self.writer, "INSERT INTO data SELECT n, 0 FROM generate_series(1, 2000) n; ANALYZE data")
        cursor = self.cursor()
        answer = self.engine.poll()
        first, second = self.transaction("SERIALIZABLE"), self.transaction("SERIALIZABLE")
        for writer, row in ((first, 1), (second, 1999)):
            ask(writer, "SELECT n FROM data WHERE id = %s", row)
            ask(writer, "UPDATE data SET n = n + 1 WHERE id = %s", row)
            ask(writer, "SELECT etagd.invalidate(%s)", f"row{row}")
            self.engine.do(f"acknowledge {answer['witness']} {answer['snapshot']}")
            self.engine.do("trim 100000")
            self.engine.poll(cursor)
        ask(first, "COMMIT")
        ask(second, "COMMIT")
        self.assertEqual(self.names(cursor), ["row1", "row1999"])


class Waiting(WithDatabase):
    def setUp(self):
        super().setUp()
        ask(self.writer, "SELECT etagd.set_lease_ms(100)")
        ask(self.writer, "UPDATE etagd.setting SET apart_ms = 0")
        self.settle()

    def acknowledge(self, engine=None):
        answer = (engine or self.engine).poll()
        (engine or self.engine).do(f"acknowledge {answer['witness']} {answer['snapshot']}")

    def test_it_refuses_what_it_could_never_see(self):
        writer = self.transaction()
        with self.assertRaisesRegex(psycopg2.Error, "has not ended"):
            ask(writer, "SELECT etagd.wait(etagd.invalidate('a'))")
        ask(writer, "ROLLBACK")
        position = one(self.writer, "SELECT etagd.invalidate('a')")
        for isolation in ("REPEATABLE READ", "SERIALIZABLE"):
            writer = self.transaction(isolation)
            with self.assertRaisesRegex(psycopg2.Error, isolation):
                ask(writer, "SELECT etagd.wait(%s::xid8)", position)
        other = self.transaction()
        running = one(other, "SELECT etagd.invalidate('b')")
        with self.assertRaisesRegex(psycopg2.Error, "has not ended"):
            ask(self.writer, "SELECT etagd.wait(%s::xid8)", running)
        ask(other, "PREPARE TRANSACTION 'waited'")
        with self.assertRaisesRegex(psycopg2.Error, "has not ended"):
            ask(self.writer, "SELECT etagd.wait(%s::xid8)", running)
        ask(self.writer, "ROLLBACK PREPARED 'waited'")
        with self.assertRaisesRegex(psycopg2.Error, "rolled back"):
            ask(self.writer, "SELECT etagd.wait(%s::xid8)", running)
        with self.assertRaisesRegex(psycopg2.Error, "needs the position"):
            ask(self.writer, "SELECT etagd.wait(NULL)")

    def test_a_position_is_looked_at_before_it_is_believed(self):
        """By the relay, for a writer that says it through libetag."""
        writer = self.transaction()
        position = one(writer, "SELECT etagd.invalidate('a')")
        for how in ("", " look"):
            self.assertIn("missing", self.engine.do(f"ask {position}{how}"))
        ask(writer, "COMMIT")
        seen = self.cursor()
        self.assertNotIn("missing", self.engine.do(f"ask {position} look"))
        self.assertEqual(self.engine.poll(seen)["asked"], "0")
        self.assertNotIn("missing", self.engine.do(f"ask {position}"))
        self.assertEqual((self.engine.poll(seen)["rows"], self.engine.poll(seen)["asked"]), ({}, "1"))
        writer = self.transaction()
        undone = one(writer, "SELECT etagd.invalidate('a')")
        ask(writer, "ROLLBACK")
        writer = self.transaction()
        prepared = one(writer, "SELECT etagd.invalidate('a')")
        ask(writer, "PREPARE TRANSACTION 'looked'")
        nothing = one(self.writer, "SELECT pg_current_xact_id()")
        seen = self.cursor()
        foreign = 888888888  # a row is there: of a dump that was restored
        ask(self.writer, "INSERT INTO etagd.outbox (xid, targets) VALUES (%s::text::xid8, '\\x0173000161')", foreign)
        for other in (undone, prepared, nothing, foreign, 3, 1 << 40, (1 << 63) + 7):
            with self.subTest(position=other):
                self.assertIn("missing", self.engine.do(f"ask {other}"))
        ask(self.writer, "ROLLBACK PREPARED 'looked'")
        self.assertEqual(self.engine.poll(seen)["asked"], "0", "nobody was asked")

    def test_time_proves_it_where_a_member_says_nothing(self):
        self.acknowledge()
        position = one(self.writer, "SELECT etagd.invalidate('a')")
        begun = time.monotonic()
        self.assertEqual(one(self.writer, "SELECT etagd.wait(%s::xid8)", position), "time")
        self.assertGreater(time.monotonic() - begun, 2.55)

    def test_acknowledgements_of_all_prove_it_at_once(self):
        ask(self.writer, "SELECT etagd.set_wait_ms(200000)")
        other = self.relay("b", OTHER)
        other.do("join")
        for engine in (self.engine, other):
            self.acknowledge(engine)
        position = one(self.writer, "SELECT etagd.invalidate(array['a'], ask => true)")
        self.assertEqual(self.engine.poll("3")["asked"], "1")
        wait = Blocked(self, SERVER, self.connection(), "SELECT etagd.wait(%s::xid8)", position)
        wait.until("PgSleep")
        self.acknowledge()
        wait.until("PgSleep")
        self.assertIsNone(wait.outcome, "not all have")
        self.acknowledge(other)
        self.assertEqual(wait.result(), [("acknowledged",)])

    def acknowledged(self, position):
        return one(self.writer, "SELECT etagd.acknowledged(%s::xid8)", position)

    def test_an_acknowledgement_counts_under_its_witness_for_its_registration_and_its_snapshot(self):
        slow = self.transaction()
        running = one(slow, "SELECT etagd.invalidate('slow')")
        position = one(self.writer, "SELECT etagd.invalidate('a')")
        answer = self.engine.poll()
        self.engine.do(f"acknowledge {OTHER} {answer['snapshot']}")
        self.assertFalse(self.acknowledged(position), "another witness")
        self.engine.do(f"acknowledge {answer['witness']} {answer['snapshot']}")
        self.assertTrue(self.acknowledged(position))
        ask(slow, "COMMIT")
        self.assertFalse(self.acknowledged(running), "it was open when the snapshot was taken, though its number is lower")
        ask(self.writer, "UPDATE etagd.host SET nonce = %s", OTHER)
        self.assertFalse(self.acknowledged(position), "another registration of that name")

    def test_one_that_leaves_is_waited_for_until_it_is_out(self):
        position = one(self.writer, "SELECT etagd.invalidate('a')")
        self.assertFalse(self.acknowledged(position))
        left = self.engine.do("leave a")
        self.assertFalse(self.acknowledged(position))
        with self.assertRaises(relay_db.Failed) as early:
            ask(self.writer, "UPDATE etagd.host SET since = clock_timestamp() + interval '5 s'")
            self.engine.do(f"gone a {left['nonce']}")
        self.assertTrue(early.exception.refused)
        ask(self.writer, "UPDATE etagd.host SET since = clock_timestamp() - interval '5 s'")
        self.assertEqual(self.engine.do(f"gone a {OTHER}")["found"], "0")
        self.assertEqual(self.engine.do(f"gone a {left['nonce']}")["found"], "1")
        self.assertTrue(self.acknowledged(position), "nobody has a lease")

    def test_a_young_witness_proves_nothing(self):
        """After a failover a host may hold the rest of a lease, whose row was lost with it."""
        self.acknowledge()
        position = one(self.writer, "SELECT etagd.invalidate('a')")
        self.acknowledge()
        self.assertTrue(self.acknowledged(position))
        self.assertIn("witness", self.engine.do("members"))
        ask(self.writer, "UPDATE etagd.witness SET since = clock_timestamp()")
        self.assertFalse(self.acknowledged(position))
        self.assertNotIn("witness", self.engine.do("members"))


class Hosts(WithDatabase):
    def test_a_name_has_one_registration(self):
        second = self.relay("a", OTHER)
        answer = second.do("join")
        self.assertEqual((answer["foreign"], answer["nonce"]), ("1", NONCE))
        self.assertEqual(second.poll()["member"], "0")
        self.assertEqual(self.engine.poll()["member"], relay_db.MEMBER)
        second.do("leave a")
        self.assertEqual(second.do("join")["member"], relay_db.LEAVING, "only its own may stay")
        self.assertEqual(self.engine.do("members")["own"], "a", "also while it leaves")
        self.assertNotIn("own", second.do("members"))
        self.assertNotIn("own", self.relay("b").do("members"))

    def test_one_that_is_being_put_out_is_no_member_until_it_joins_again(self):
        self.engine.do("leave a")
        self.assertEqual(self.engine.poll()["member"], relay_db.LEAVING)
        self.assertEqual(self.engine.do("join")["member"], relay_db.MEMBER)
        self.assertEqual(self.engine.do(f"gone a {NONCE}")["found"], "0", "whoever put it out has to begin again")
        self.assertEqual(self.engine.poll()["member"], relay_db.MEMBER)
        self.assertEqual(self.engine.do("leave nobody")["found"], "0")

    def test_a_wait_that_does_not_cover_the_lease_cannot_be_set(self):
        with self.assertRaises(errors.CheckViolation):
            ask(self.writer, "SELECT etagd.set_lease_ms(3000)")
        ask(self.writer, "SELECT etagd.set_wait_ms(3800)")
        ask(self.writer, "SELECT etagd.set_lease_ms(3000)")
        with self.assertRaises(errors.CheckViolation):
            ask(self.writer, "SELECT etagd.set_wait_ms(3700)")
        ask(self.writer, "SELECT etagd.set_lease_ms(1000)")
        with self.assertRaisesRegex(psycopg2.Error, "leases of the former length"):
            ask(self.writer, "SELECT etagd.set_wait_ms(1300)")
        ask(self.writer, "UPDATE etagd.setting SET changed = clock_timestamp() - interval '4 s'")
        ask(self.writer, "SELECT etagd.set_wait_ms(1300)")
        answer = self.engine.poll()
        self.assertEqual((answer["lease"], answer["wait"]), ("1000", "1300"))


class Trimming(WithDatabase):
    def age(self, seconds):
        """As if so much time had passed."""
        ask(self.writer, "UPDATE etagd.tick SET at = at - %s * interval '1 s'", seconds)

    def test_rows_go_after_the_retention_and_an_older_cursor_can_tell(self):
        old = self.cursor()
        ask(self.writer, "SELECT etagd.invalidate('first')")
        self.assertEqual(self.engine.do("trim 10000")["removed"], "0")
        marked = self.cursor()
        ask(self.writer, "SELECT etagd.invalidate('second')")
        self.age(9)
        self.assertEqual(self.engine.do("trim 10000")["removed"], "0")
        self.assertEqual(self.names(old), ["first", "second"])
        self.age(2)
        self.assertEqual(self.engine.do("trim 10000")["removed"], "1")
        trimmed = int(self.engine.poll()["trimmed"])
        self.assertGreaterEqual(trimmed, int(old.split(":")[0]), "not covered by a cursor from before the mark")
        self.assertLess(trimmed, int(marked.split(":")[0]), "covered by one from after it")
        self.assertEqual(self.names(marked), ["second"])

    def test_a_transaction_that_was_open_at_the_mark_keeps_its_row(self):
        slow = self.transaction()
        ask(slow, "SELECT etagd.invalidate('slow')")
        ask(self.writer, "SELECT etagd.invalidate('quick')")
        cursor = self.cursor()
        self.engine.do("trim 10000")
        ask(slow, "COMMIT")
        self.age(20)
        self.assertEqual(self.engine.do("trim 10000")["removed"], "1")
        self.assertEqual(self.names(cursor), ["slow"], "its number is the lower one")

    def test_two_relays_trim_one_does_it(self):
        holder = self.transaction()
        ask(holder, "SELECT FROM etagd.trim FOR UPDATE")
        self.assertEqual(self.engine.do("trim 10000")["removed"], "0")
        self.assertEqual(one(self.writer, "SELECT count(*) FROM etagd.tick"), 0)

    def test_marks_of_another_time_remove_nothing(self):
        """A wall clock that went back, and marks under another witness (of a dump that was restored)."""
        ask(self.writer, "SELECT etagd.invalidate('kept')")
        cursor = "3"
        self.engine.do("trim 10000")
        ask(self.writer, "UPDATE etagd.tick SET witness = %s, snapshot = '999999:999999:'", OTHER)
        self.age(20)
        self.assertEqual(self.engine.do("trim 10000")["removed"], "0")
        self.assertEqual(self.names(cursor), ["kept"])
        self.age(-3600)
        self.engine.do("trim 10000")
        self.assertEqual(one(self.writer, "SELECT count(*) FROM etagd.tick WHERE at <= clock_timestamp()"), 1)


class Rights(WithDatabase):
    def test_everybody_may_what_he_needs_and_nothing_else(self):
        for role in ("stranger", "writer", "relay"):
            if not ask(self.writer, "SELECT true FROM pg_roles WHERE rolname = %s", role):
                ask(self.writer, f"CREATE ROLE {role} LOGIN")
                if role != "stranger":
                    ask(self.writer, f"GRANT etagd_{role} TO {role}")
        for relation, kind in ask(self.writer, "SELECT oid::regclass::text, relkind FROM pg_class WHERE relnamespace = 'etagd'::regnamespace "
                                  "AND relkind IN ('r', 'S')"):
            for role, right in itertools.product(("stranger", "writer", "relay"), ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")):
                may = one(self.writer, "SELECT has_sequence_privilege(%s, %s, 'USAGE')" if kind == "S" else "SELECT has_table_privilege(%s, %s, %s)",
                          role, relation, *([] if kind == "S" else [right]))
                self.assertFalse(may, f"{role} may {right} {relation}")
        internal = ("bear_witness", "session_place", "place", "witnessed", "acknowledged", "record", "writer", "template_parts", "template_family", "template_check",
                    "template_bytes_max", "template_coarse", "template_word", "templates_sound", "concat_expression", "word_lines", "column_type",
                    "watch_glance", "watch_source", "watch_columns", "watch_one", "function_hash", "watch_query", "watch_function", "watch_write", "watched_parts", "watch_fault", "watch_digest", "on_ddl")
        owners = ("watch", "unwatch", "watch_check", "owner_check", "parts_of", "watch_note", "watch_id", "watch_forget", "watch_lock", "watch_triggers")
        for function, name in ask(self.writer, "SELECT oid::regprocedure::text, proname FROM pg_proc WHERE pronamespace = 'etagd'::regnamespace"):
            may = [role for role in ("stranger", "writer", "relay") if
                   one(self.writer, "SELECT has_function_privilege(%s, %s, 'EXECUTE')", role, function)]
            wanted = ([] if name in internal else ["writer"] if name in owners
                      else ["writer", "relay"] if name in ("invalidate", "wait", "version", "watches") else ["relay"])
            self.assertEqual(may, wanted, function)
        stranger = self.connection("stranger")
        with self.assertRaises(errors.InsufficientPrivilege):
            ask(stranger, "SELECT etagd.invalidate('a')")
        writer = self.connection("writer")
        self.assertEqual(one(writer, "SELECT etagd.wait('3')"), "time")
        position = one(writer, "SELECT etagd.invalidate('a')")
        self.assertIn(int(position), self.engine.poll("3")["rows"])
        for forbidden in ("SELECT * FROM etagd.outbox", "INSERT INTO etagd.outbox (xid, targets) VALUES ('5', '\\x01')",
                          "SELECT etagd.publish('{}', true)", "SELECT * FROM etagd.host"):
            with self.subTest(forbidden), self.assertRaises(errors.InsufficientPrivilege):
                ask(writer, forbidden)
        relay = Engine(SERVER.conninfo(self.database, "relay"), "r", OTHER)
        self.addCleanup(relay.close)
        for operation in ("join", "poll 3", "publish ask b", "wake", "ask", "members", "trim 10000", "leave r", f"acknowledge {OTHER} 700"):
            relay.do(operation)

    def test_functions_trust_no_path_of_their_caller(self):
        for function, definer, settings, owner in ask(self.writer, """SELECT p.oid::regprocedure::text, prosecdef, proconfig, rolname
                FROM pg_proc p JOIN pg_roles r ON r.oid = proowner WHERE pronamespace = 'etagd'::regnamespace"""):
            self.assertIn("search_path=pg_catalog, pg_temp", settings or [], function)
            self.assertEqual(owner, "etagd" if function.endswith("on_ddl()") else "etagd_owner", "an event trigger's function runs as who set up")
        self.assertFalse(one(self.writer, "SELECT rolcanlogin OR rolsuper FROM pg_roles WHERE rolname = 'etagd_owner'"))
        writer = self.connection()
        ask(writer, "CREATE FUNCTION public.int2send(int2) RETURNS bytea LANGUAGE plpgsql AS $$BEGIN RAISE 'called'; END$$")
        ask(writer, "CREATE FUNCTION pg_temp.octet_length(bytea) RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE 'called'; END$$")
        ask(writer, "SET search_path = public, pg_temp, pg_catalog")
        ask(writer, "SELECT etagd.invalidate('a')")


class Setup(Case):
    def fresh(self, name, owner=""):
        SERVER.sql(f"CREATE DATABASE {name} {owner}", database="postgres")
        return name

    def test_again_changes_nothing_and_a_later_version_is_left_alone(self):
        database = self.fresh("setup1")
        connection = SERVER.connect(database)
        self.addCleanup(connection.close)
        ask(connection, relay_db.read_schema())
        ask(connection, "SELECT etagd.invalidate('a')")
        ask(connection, "SELECT etagd.set_wait_ms(9000)")
        before = ask(connection, "SELECT etagd.witnessed(), count(*), max(xid::text) FROM etagd.outbox")
        ask(connection, relay_db.read_schema())
        self.assertEqual(ask(connection, "SELECT etagd.witnessed(), count(*), max(xid::text) FROM etagd.outbox"), before)
        self.assertEqual(one(connection, "SELECT wait_ms FROM etagd.setting"), 9000)
        ask(connection, "UPDATE etagd.setting SET version = 3")
        with self.assertRaisesRegex(psycopg2.Error, "has version 3, this etag-relay knows 2"):
            ask(connection, relay_db.read_schema())

    def test_a_schema_of_version_1_is_upgraded_with_what_it_watches(self):
        """As it was left: without what came with version 2, and with functions whose rows this release would not write."""
        database = SERVER.database("setup3")
        connection = SERVER.connect(database)
        self.addCleanup(connection.close)
        ask(connection, "CREATE TABLE public.t (id int); SELECT etagd.watch('public.t', 't:{id}'); SELECT etagd.invalidate('a')")
        ask(connection, "DROP FUNCTION etagd.writer(), etagd.word_lines(text, text), etagd.function_hash(pg_proc); UPDATE etagd.setting SET version = 1;"
            "ALTER TABLE etagd.watched DROP COLUMN function_xmin, DROP COLUMN function_hash;"
            "CREATE OR REPLACE FUNCTION etagd.version() RETURNS integer LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 1';"
            "CREATE FUNCTION etagd.record_lines(records bytea) RETURNS SETOF bytea LANGUAGE sql AS 'SELECT records'")
        (function,), = ask(connection, "SELECT oid::regprocedure::text FROM pg_proc WHERE proname ~ '^watched_[0-9]'")
        ask(connection, f"CREATE OR REPLACE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS "
            "'BEGIN INSERT INTO etagd.outbox (targets) SELECT etagd.record_lines(''1''); RETURN NULL; END'")
        with self.assertRaisesRegex(relay_db.Failed, "has version 1.*run etag-relay setup"):
            Engine(SERVER.conninfo(database))
        ask(connection, relay_db.read_schema())
        self.assertEqual(ask(connection, "SELECT s.version, etagd.version(), (SELECT state FROM etagd.watches()) FROM etagd.setting s"), [(2, 2, "watched")])
        self.assertIsNone(one(connection, "SELECT to_regprocedure('etagd.record_lines(bytea)')"))
        engine = Engine(SERVER.conninfo(database))
        self.addCleanup(engine.close)
        seen = engine.poll()["snapshot"]
        ask(connection, "INSERT INTO public.t VALUES (7)")
        self.assertEqual(list(engine.poll(seen)["rows"].values()), [["t:7"]])

    def test_a_schema_of_that_name_that_is_not_ours_is_left_alone(self):
        database = self.fresh("setup2")
        with self.assertRaisesRegex(psycopg2.Error, "not of etag-relay"):
            SERVER.sql("CREATE SCHEMA etagd; CREATE TABLE etagd.setting (a int);" + relay_db.read_schema(), database=database)

    def test_without_a_superuser(self):
        """Who may make roles and owns the database, on a cluster where the roles are already, and where they are not yet."""
        other = relay_db.Server.make()
        other.sql("DROP DATABASE prepared", database="postgres")
        other.sql("DROP ROLE etagd_owner, etagd_writer, etagd_relay", database="postgres")
        other.sql("CREATE ROLE admin LOGIN CREATEROLE CREATEDB", database="postgres")
        for name in ("first", "second"):
            other.sql(f"CREATE DATABASE {name}", database="postgres", user="admin")
            other.sql(relay_db.read_schema(), database=name, user="admin")
            other.sql(relay_db.read_schema(), database=name, user="admin")
            other.sql("CREATE ROLE app_%s LOGIN" % name, database=name, user="admin")
            other.sql("GRANT etagd_writer TO app_%s" % name, database=name, user="admin")
            other.sql("SELECT etagd.invalidate('a')", database=name, user=f"app_{name}")
        other.end("fast")


class Commands(Case):
    """etag-relay setup, status, leave: what operators see."""

    def setUp(self):
        super().setUp()
        self.database = f"command{next(NUMBERS)}"
        SERVER.sql(f"CREATE DATABASE {self.database}", database="postgres")

    def run_relay(self, *arguments, user="etagd", status=0):
        done = subprocess.run([relay_db.RELAY, "--connection", SERVER.conninfo(self.database, user), *arguments], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def test_from_nothing_to_a_host_that_is_put_out(self):
        SERVER.sql("CREATE ROLE \"re lay\" LOGIN; CREATE ROLE \"app\"\"s\" LOGIN", database="postgres")
        self.assertIn("run etag-relay setup", self.run_relay("status", status=1))
        said = self.run_relay("setup", "--relay", "re lay", "--writer", 'app"s')
        self.assertIn('GRANT etagd_relay TO "re lay"', said)
        self.assertIn("has the schema etagd, version 2", said)
        self.assertIn("no host has joined", self.run_relay("status", user="'re lay'"))
        engine = Engine(SERVER.conninfo(self.database, "'re lay'"), "web1")
        self.addCleanup(engine.close)
        engine.do("join")
        SERVER.sql("SELECT etagd.invalidate('a')", database=self.database, user="'app\"s'")
        before = engine.poll()
        engine.do(f"acknowledge {before['witness']} {before['snapshot']}")
        SERVER.sql("SELECT etagd.invalidate('b')", database=self.database)
        said = self.run_relay("status", user="'re lay'")
        self.assertRegex(said, r"lease 2000 ms, wait 2550 ms")
        self.assertRegex(said, r"outbox: 2 rows")
        self.assertRegex(said, r"(?m)^web1 +member +[\d.]+ s +[\d.]+ s +[\d.]+ s +1$")
        self.assertIn("no host web2 has joined", self.run_relay("leave", "web2", status=1))
        begun = time.monotonic()
        self.assertIn("web1 is out", self.run_relay("leave", "web1", user="'re lay'"))
        self.assertGreater(time.monotonic() - begun, 2.5, "rule LEAVING_WAIT")
        self.assertEqual(engine.poll()["member"], "0")

    def test_a_lease_is_changed_in_an_order_in_which_no_writer_waits_too_short(self):
        self.run_relay("setup", "--lease-ms", "100")
        said = self.run_relay("setup", "--lease-ms", "200")
        self.assertEqual(said.split("\n")[:2], ["lease_ms 100, wait_ms 300", "lease_ms 200, wait_ms 300"])
        said = self.run_relay("setup", "--lease-ms", "100")
        self.assertEqual(said.split("\n")[:3], ["lease_ms 100, wait_ms 300", "waiting 300 ms: leases of the former length may run yet",
                                                "lease_ms 100, wait_ms 175"])

    def test_one_that_joins_again_is_not_put_out(self):
        self.run_relay("setup", "--lease-ms", "100")
        engine = Engine(SERVER.conninfo(self.database), "web1")
        self.addCleanup(engine.close)
        engine.do("join")
        SERVER.sql("SELECT etagd.set_wait_ms(3000)", database=self.database)
        leave = subprocess.Popen([relay_db.RELAY, "--connection", SERVER.conninfo(self.database), "leave", "web1"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        self.assertIn("is leaving", leave.stdout.readline())
        engine.do("join")
        self.assertIn("has joined again meanwhile", leave.communicate()[1])
        self.assertEqual(leave.returncode, 1)
        self.assertEqual(engine.poll()["member"], relay_db.MEMBER)

    def test_the_script_is_shown_and_mistakes_are_said(self):
        self.assertEqual(self.run_relay("setup", "--print"), relay_db.read_schema())
        self.assertIn("no such option", self.run_relay("setup", "--nothing", status=2))
        self.assertIn("100 to 60000", self.run_relay("setup", "--lease-ms", "99", status=2))
        self.assertIn("name of one host", self.run_relay("leave", status=2))
        self.assertIn("no arguments", self.run_relay("status", "x", status=2))
        SERVER.sql("CREATE ROLE nobody_much LOGIN", database="postgres")
        self.assertIn("Setting up is for a superuser", self.run_relay("setup", user="nobody_much", status=1))
        self.assertIn('role "nothing" does not exist', self.run_relay("setup", "--relay", "nothing", status=1))


if __name__ == "__main__":
    main()
