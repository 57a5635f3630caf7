# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of many hosts: a relay that the test plays brings batches, is given events, says what became of them."""
import json
import os
import random
import signal
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import Case, Raw, Writer, main, wait_until  # noqa: E402
from relay_peer import (ACKNOWLEDGED, BY_TIME, EVERYWHERE, HOST, LOG, LOGGED, REFUSED, Refused, Relay, coarse_ns,  # noqa: E402
                        targets)
from wire import data, nonzero as number  # noqa: E402
from test_store_faults import WRITES, FaultCase  # noqa: E402

KEY = "//shop.example/api/v1/uploads/42"
NAME = "upload:42"
PROOF_DAEMON, PROOF_WAIT, PROOF_LOGGED, PROOF_ACKNOWLEDGED, PROOF_TIME = range(1, 6)
QUEUE_MAX = 4096  # proto/base/bounds.h
S = 10 ** 9
KILLS = 10


class RelayCase(Case):
    def required(self, mode="required", **options):
        args = ["--relay", mode, *options.pop("args", ())]
        return self.daemon(args=args, **options).start(settled=False)

    def relay(self, d, **options):
        made = Relay(d.socket, **options)
        self.addCleanup(made.close)
        return made

    def writer(self, d, **options):
        made = Writer(d.socket, **options)
        self.addCleanup(made.end)
        return made

    def fresh(self, d, **options):
        """A relay that has polled everything once, and an entry that is answered."""
        relay = self.relay(d, **options)
        relay.batch(everything=True)
        wait_until(lambda: d.status()["holds_open"] == 0, 20, "the cold start's linger")
        self.fill(d)
        return relay

    def fill(self, d, key=KEY, name=NAME):
        d.fill(key, '"v1"', "--surrogate", name)
        self.assertEqual(d.verdict(key), "not_modified")

    def reason(self, d, key=KEY):
        """Once, with what there is of a lease."""
        said = d.ctl("check", key, "--header", 'If-None-Match: "v1"')
        return said["reason"] if said["verdict"] == "unknown" else said["verdict"]


class Freshness(RelayCase):
    def test_no_lease_before_a_poll_that_counts(self):
        d = self.required()
        self.assertEqual(self.reason(d), "no_lease")
        self.assertRegex(d.ctl_raw("doctor").stdout, r"(?s)FAIL +relay +not connected.*'etag-relay\s+doctor'")
        relay = self.relay(d)
        self.assertRegex(d.ctl_raw("doctor").stdout, r"(?s)FAIL +relay +connected, and has proved nothing.*'etag-relay\s+doctor'")
        self.assertEqual(self.reason(d), "no_lease")  # a hello proves nothing
        self.assertEqual(relay.mode, 2)
        relay.batch(everything=True, member=False)  # nor does a poll that shows this host as no member
        time.sleep(0.3)
        self.assertEqual(self.reason(d), "no_lease")
        status = d.status()
        self.assertEqual((status["lease"], status["relay"], status["relay_connected"], status["relay_margin_ms"]), ("expired", "required", 1, 0))
        relay.batch()
        wait_until(lambda: self.reason(d) == "no_entry", 20, "a lease")
        d.wait_log("event=relay_fresh")
        self.assertRegex(d.ctl_raw("doctor").stdout, "ok +relay +connected")

    def test_the_lease_ends_l_net_after_the_poll_was_sent_not_after_it_came_back(self):
        d = self.required()
        relay = self.fresh(d)
        d.stop()
        d.start(settled=False)  # nothing is fresh any more
        self.assertEqual(self.reason(d), "no_lease")
        relay = self.relay(d)
        relay.batch(t0=coarse_ns() - 70 * S)  # it took 70 s to come back: L_net is 60
        time.sleep(0.3)
        self.assertEqual(self.reason(d), "no_lease")
        relay.batch(t0=coarse_ns() - 20 * S)
        wait_until(lambda: self.reason(d) == "not_modified", 20, "a lease")
        relay.batch(t0=coarse_ns() - 70 * S)  # an older poll takes nothing back
        self.assertEqual(d.verdict(KEY), "not_modified")

    def test_it_ends_by_itself_without_a_relay(self):
        d = self.required()
        relay = self.fresh(d)
        relay.close()
        self.assertEqual(d.verdict(KEY), "not_modified")  # what was proved stays so for L_net
        d.kill()
        d.start(settled=False)
        relay = self.relay(d, l_net_ms=400)
        relay.batch()
        wait_until(lambda: self.reason(d) == "no_lease", 20, "the end of it")
        d.wait_log("event=relay_not_fresh")

    def test_a_t0_ahead_of_the_clock_is_refused(self):
        d = self.required()
        relay = self.relay(d)
        with self.assertRaises(Refused) as refused:
            relay.batch(t0=coarse_ns() + 10 * S, everything=True)
        self.assertIn("ahead", refused.exception.text)
        time.sleep(0.3)
        self.assertEqual(self.reason(d), "no_lease")
        self.assertEqual(self.relay(d).cursor, b"")

    def test_optional_promises_nothing_of_others_and_takes_their_events(self):
        d = self.required("optional")
        wait_until(lambda: d.status()["holds_open"] == 0, 20, "the cold start's linger")
        self.fill(d)
        relay = self.relay(d)
        self.assertEqual(relay.mode, 1)
        relay.batch(everything=True)
        self.fill(d)
        relay.batch(targets(NAME), cursor=b"2")
        self.assertEqual(d.check(KEY)["reason"], "stale")
        self.fill(d)
        relay.close()
        self.assertEqual(d.verdict(KEY), "not_modified")

    def test_off_takes_no_relay(self):
        d = self.started()
        with self.assertRaises(Refused) as refused:
            self.relay(d)
        self.assertIn("relay: required", refused.exception.text)
        w = self.writer(d)
        self.assertEqual(w.say(f"invalidate surrogate {NAME} reach everywhere")["status"], "INVALID")
        said = w.ok(f"invalidate surrogate {NAME}")
        self.assertEqual((said["reach"], said["proof"]), (HOST, PROOF_DAEMON))

    def test_off_refuses_a_guards_reach_before_its_commit(self):
        d = self.started()
        w = self.writer(d)
        said = w.say(f"begin surrogate {NAME} reach everywhere")
        self.assertEqual(said["status"], "INVALID")
        self.assertIn("relay: required", said["error"])
        w.ok(f"begin surrogate {NAME} reach host")
        w.ok("confirm")
        w.ok("commit")

    def test_off_takes_what_the_spool_has_with_a_reach_for_what_it_names(self):
        d = self.started()
        other = "//shop.example/api/v1/uploads/43"
        for key, name in ((KEY, NAME), (other, "upload:43")):
            self.fill(d, key, name)
        d.ctl("sync")
        w = self.writer(d, timeout_ms=1500)
        d.kill()
        said = w.say(f"invalidate surrogate {NAME} reach log")
        self.assertEqual((said["status"], said["reach"]), ("PENDING", HOST))
        d.start()
        self.assertIn(d.check(KEY)["reason"], ("stale", "no_entry"))  # swept before we look
        self.assertEqual(d.verdict(other), "not_modified")


class Batches(RelayCase):
    def test_a_receipt_means_that_no_front_end_answers_from_older_data(self):
        d = self.required()
        relay = self.fresh(d)
        other = "//shop.example/api/v1/uploads/43"
        self.fill(d, other, "upload:43")
        relay.batch(targets("somebody:1"), targets(NAME), targets(prefixes=["/nobody/"]), cursor=b"2")
        self.assertEqual(d.check(KEY)["reason"], "stale")
        self.assertEqual(d.verdict(other), "not_modified")
        relay.batch(targets(everything=True), cursor=b"3")
        self.assertEqual(d.check(other)["reason"], "stale")

    def test_a_family_goes_along_with_other_events_of_its_batch(self):
        d = self.required()
        relay = self.fresh(d)
        other = "//shop.example/api/v1/notes/1"
        self.fill(d, other, "note:1")
        relay.batch(targets("somebody:1"), targets(families=["upload"]), targets(families=["nobody"]), cursor=b"2")
        self.assertEqual(d.check(KEY)["reason"], "stale")
        self.assertEqual(d.verdict(other), "not_modified")
        relay.batch(targets(families=["note"]), cursor=b"3")
        self.assertEqual(d.check(other)["reason"], "stale")

    def test_the_log_says_where_the_relay_had_an_event_from_also_after_a_kill(self):
        """A hold's end says it too, and is read by a start as any other event."""
        d = self.required()
        relay = self.fresh(d)
        self.writer(d).ok(f"invalidate surrogate {NAME} reach host")
        relay.batch(targets(NAME, position=760), targets("somebody:1", position=748), cursor=b"2",
                    writers="front2, shop@[local] (größer\x1b)".encode())
        relay.batch(targets(NAME, position=2 ** 64 - 1, hold_ms=1), cursor=b"3", writers=b"front3")
        wait_until(lambda: d.status()["holds_open"] == 0, 20, "the hold's end")
        relay.batch(everything=True, cursor=b"4")

        def log():
            lines = d.ctl_raw("--json", "log", "--limit", "5").stdout.splitlines()
            return [[said["kind"], said.get("relay")] for said in map(json.loads, lines)]

        held = {"engine": "test", "events": 1, "first_position": str(2 ** 64 - 1), "last_position": str(2 ** 64 - 1), "writers": "front3"}
        expected = [["mutation", None], ["mutation", {"engine": "test", "events": 2, "first_position": 748, "last_position": 760,
                                                      "writers": "front2, shop@[local] (größer\x1b)"}],
                    ["mutation", held], ["guard_expired", held],
                    ["mutation", {"engine": "test", "events": 0, "first_position": 0, "last_position": 0}]]
        self.assertEqual(log(), expected)
        text = d.ctl_raw("log").stdout
        self.assertRegex(text, r"relay: test, 2 events at positions 748 to 760, by front2, shop@\[local\] \(gr\\xc3\\xb6\\xc3\\x9fer\\x1b\)\n")
        self.assertIn(f"relay: test, position {2 ** 64 - 1}, by front3\n", text)
        self.assertIn("relay: test, no event of its log: everything_purged", text)
        d.kill()
        d.start(settled=False)
        d.wait_log("start=warm")
        self.assertEqual(log(), expected)

    def test_the_cursor_is_told_and_outlives_a_kill_with_what_it_stands_for(self):
        d = self.required()
        relay = self.fresh(d)
        d.ctl("sync")
        self.assertEqual((relay.cursor, relay.log_id), (b"", b""))
        relay.batch(targets(NAME), cursor=b"2")
        again = self.relay(d)
        self.assertEqual((again.cursor, again.log_id), (b"2", b"log"))
        d.kill()
        d.start(settled=False)
        d.wait_log("start=warm")
        after = self.relay(d)
        self.assertEqual((after.cursor, after.log_id), (b"2", b"log"))
        after.batch(cursor=b"3")
        self.assertIn(d.check(KEY)["reason"], ("stale", "no_entry"))

    def test_a_part_moves_neither_cursor_nor_lease(self):
        d = self.required()
        relay = self.relay(d)
        relay.batch(targets(NAME), cursor=b"", log_id=b"", more=True, everything=True)
        time.sleep(0.3)
        self.assertEqual(self.reason(d), "no_lease")
        self.assertEqual(self.relay(d).cursor, b"")
        relay = self.relay(d)
        relay.batch(cursor=b"9")
        self.assertEqual(self.relay(d).cursor, b"9")

    def test_a_part_that_is_refused_takes_the_whole_batch_along(self):
        """A relay need not wait between parts: the cursor of the last one must not stand for one that was refused."""
        d = self.required()
        relay = self.fresh(d)
        sent = [relay.batch_send(targets("two words"), cursor=b"", log_id=b"", more=True),
                relay.batch_send(targets("somebody:1"), cursor=b"", log_id=b"", more=True), relay.batch_send(cursor=b"9")]
        for part in sent:
            with self.assertRaises(Refused):
                relay.answer(part)
        self.assertEqual(self.relay(d).cursor, b"1")
        relay = self.relay(d)
        with self.assertRaises(Refused):
            relay.batch(targets("two words"))
        relay.batch(cursor=b"2")  # the next batch is another one
        self.assertEqual(self.relay(d).cursor, b"2")

    def test_kills_between_clocks_record_freshness_and_receipt(self):
        """Wherever it was killed: who has the cursor has the events, and what had a receipt is there. In a build of preset "delays" often
        between two of these steps."""
        d = self.daemon(args=["--relay", "required"], lease_ms=20)
        d.wrapper = ["env", "ETAGD_DELAY_POINTS=mutation.applied_recorded:2000:3,relay.recorded_fresh:2000:2,relay.fresh_receipt:2000:2"]
        d.start(settled=False)
        relay = self.fresh(d)
        was = b"1"
        random.seed(19)
        for kill in range(KILLS):
            key, name = f"//shop.example/kill/{kill}", f"kill:{kill}"
            self.fill(d, key, name)
            d.ctl("sync")
            now = f"k{kill}".encode()
            part = relay.batch_send(targets(name), cursor=b"", log_id=b"", more=True)
            last = relay.batch_send(targets("somebody:1"), cursor=now)
            time.sleep(random.random() / 500)
            d.kill()
            received = b""
            while (payload := relay.raw.frame()) is not None:
                received += payload if relay.is_receipt(payload, last) else b""
            d.start(settled=False)
            d.wait_log("start=warm")
            relay = self.relay(d)
            self.assertIn(relay.cursor, (was, now))
            if received:
                self.assertEqual(relay.cursor, now)
            self.assertEqual(self.reason(d, key), "no_lease")  # it knows nothing yet
            if relay.cursor == now:
                relay.batch(cursor=now)
                self.assertIn(d.check(key)["reason"], ("stale", "no_entry"), f"kill {kill}, part {part}")
            else:
                relay.batch(targets(name), cursor=now)
            was = now

    def test_a_cold_start_knows_no_cursor_and_the_first_batch_is_everything(self):
        d = self.required()
        relay = self.fresh(d)
        relay.batch(targets(NAME), cursor=b"5")
        d.stop()
        d.args.append("--cold")
        d.start(settled=False)
        relay = self.relay(d)
        self.assertEqual((relay.cursor, relay.log_id), (b"", b""))
        relay.batch(cursor=b"6")  # it does not say everything, and the daemon knows better
        d.wait_log("event=everything_purged.*another one")

    def test_another_log_is_everything(self):
        d = self.required()
        relay = self.fresh(d)
        relay.batch(cursor=b"2", log_id=b"log")
        self.assertEqual(d.verdict(KEY), "not_modified")
        relay.batch(cursor=b"2", log_id=b"another")
        self.assertEqual(d.check(KEY)["reason"], "stale")
        self.assertEqual(self.relay(d).log_id, b"another")

    def test_a_hold_of_another_host_is_a_hold_here(self):
        d = self.required()
        relay = self.fresh(d)
        relay.batch(targets(NAME, hold_ms=3600000), cursor=b"2")
        self.assertEqual(d.check(KEY)["reason"], "in_flux")
        self.assertTrue(relay.quiet())

    def test_bad_batches_cost_nobody_anything(self):
        d = self.required()
        relay = self.fresh(d)
        for events, said in (([targets()], {}), ([targets("two words")], {}), ([], {"cursor": b""}), ([], {"log_id": b""}),
                             ([], {"l_net_ms": 99}), ([], {"l_net_ms": 60001}), ([], {"log_id": b"x" * 256}),
                             ([targets(*[f"n{i}" for i in range(4000)]), targets(*[f"m{i}" for i in range(97)])], {})):
            with self.subTest(said=said, events=len(events)), self.assertRaises(Refused) as refused:
                relay.batch(*events, **said)
            self.assertEqual(refused.exception.code, 5)
        self.assertEqual(d.verdict(KEY), "not_modified")
        self.assertEqual(self.relay(d).cursor, b"1")
        stranger = Relay(d.socket, hello=False)
        self.addCleanup(stranger.close)
        with self.assertRaises(Refused):
            stranger.batch(cursor=b"7")

    def test_the_newer_relay_takes_the_place(self):
        d = self.required()
        former = self.fresh(d)
        relay = self.relay(d)
        d.wait_log("event=relay_replaced")
        with self.assertRaises((EOFError, BrokenPipeError)):
            former.batch(cursor=b"7")
        relay.batch(cursor=b"2")
        self.assertEqual(self.relay(d).cursor, b"2")

    @unittest.skipUnless(os.geteuid() == 0, "another user is needed")
    def test_it_needs_its_role(self):
        os.chmod(self.directory, 0o755)
        d = self.required(args=["--role", "mutate=uid:65533", "--role", "admin=uid:65533", "--role", "relay=uid:65532", "--socket-mode", "0666"])
        for uid, may in ((65533, False), (65532, True)):
            os.seteuid(uid)
            try:
                relay = Relay(d.socket, hello=False)
            finally:
                os.seteuid(0)
            self.addCleanup(relay.close)
            if may:
                self.assertEqual(relay.hello().mode, 2)
                continue
            with self.assertRaises(Refused) as refused:
                relay.hello()
            self.assertEqual(refused.exception.code, 4)


class Recorded(RelayCase, FaultCase):
    def test_nothing_counts_before_the_disk_has_it(self):
        d = self.faulty(power=True, args=["--relay", "required"]).start(settled=False)
        self.relay(d).batch(everything=True, member=False)
        w = self.writer(d, timeout_ms=60000)
        relay = self.relay(d)
        self.faults("sync /data.mdb$ hang")
        relay.batch_send(targets(NAME), cursor=b"2")
        time.sleep(0.3)
        self.assertEqual(self.reason(d), "no_lease")
        again = self.relay(d)
        self.assertEqual(again.cursor, b"1")
        w.tell("invalidate surrogate upload:43")
        wait_until(lambda: d.status()["relay_queue"] == 1, 20, "the writer's event")
        with self.assertRaises(Refused) as refused:
            again.batch(cursor=b"3")
        self.assertEqual(refused.exception.code, 7)
        self.assertTrue(again.quiet())
        self.faults()
        publish = again.publish()
        self.assertEqual(publish.surrogates, ["upload:43"])
        again.done(publish.token, LOGGED)
        self.assertEqual(w.hear()["status"], "OK")
        wait_until(lambda: self.reason(d) != "no_lease", 20, "a lease")
        self.assertEqual(self.relay(d).cursor, b"2")

    def test_a_cursor_is_not_safe_before_the_parts_that_wait_for_the_store(self):
        """The journal is too full for a part, and has room for the cursor."""
        large = targets(*["x" * 220] * 4090)
        d = self.faulty(args=["--relay", "optional"]).start()
        relay = self.relay(d)
        relay.batch(everything=True)
        self.fill(d)
        d.ctl("sync")
        self.faults(f"{WRITES} hang")
        for _ in range(8):
            relay.batch(large, cursor=b"", log_id=b"", more=True)
        relay.batch_send(targets(NAME, *["x" * 220] * 4090), cursor=b"", log_id=b"", more=True)
        wait_until(lambda: any(client["pending"] for client in d.ctl("clients")["clients"]), 20, "a part that waits")
        relay.batch_send(targets("somebody:1"), cursor=b"2")
        self.assertTrue(relay.quiet())
        d.kill()
        self.faults()
        d.start()
        d.wait_log("start=warm")
        relay = self.relay(d)
        self.assertEqual(relay.cursor, b"1")
        self.assertEqual(d.verdict(KEY), "not_modified")  # so it is asked for again


class Outgoing(RelayCase):
    def test_events_of_this_host_are_published_until_the_log_has_them(self):
        d = self.required("optional")
        w = self.writer(d)
        w.ok(f"invalidate surrogate {NAME}")
        relay = self.relay(d)
        publish = relay.publish()
        self.assertEqual((publish.surrogates, publish.reach, publish.position), ([NAME], LOG, 0))
        relay.close()
        relay = self.relay(d)
        self.assertEqual(relay.publish().token, publish.token)  # nobody said that it is there
        d.kill()
        d.start(settled=False)
        d.wait_log("start=warm")
        relay = self.relay(d)
        again = relay.publish()
        self.assertEqual((again.token, again.surrogates), (publish.token, [NAME]))
        relay.done(again.token, LOGGED, 77)
        self.assertTrue(relay.quiet())
        d.stop()
        d.start(settled=False)
        d.wait_log("start=warm")
        self.assertTrue(self.relay(d).quiet())

    def test_a_family_is_published_also_after_a_kill(self):
        d = self.required("optional")
        self.writer(d).ok("invalidate family upload:*")
        d.restart("warm")
        publish = self.relay(d).publish()
        self.assertEqual((publish.families, publish.surrogates, publish.everything), (["upload"], [], False))

    def test_what_another_host_did_is_not_published_again(self):
        d = self.required()
        relay = self.fresh(d)
        relay.batch(targets("somebody:1"), cursor=b"2")
        self.assertTrue(relay.quiet())

    def test_guards_are_published_when_they_end(self):
        d = self.required("optional", linger_ms=300)
        wait_until(lambda: d.status()["holds_open"] == 0, 20, "the cold start's linger")
        relay = self.relay(d)
        w = self.writer(d)
        w.ok(f"begin surrogate {NAME} hold 100")
        w.ok("confirm")
        self.assertTrue(relay.quiet())
        w.ok("commit")
        publish = relay.publish()
        self.assertEqual((publish.surrogates, publish.hold_ms), ([NAME], 100))
        relay.done(publish.token, LOGGED)
        wait_until(lambda: d.status()["holds_open"] == 0, 20, "the end of the hold")
        self.assertTrue(relay.quiet())  # others end theirs by themselves
        w.ok("begin surrogate upload:43")
        w.ok("confirm")
        w.kill()
        self.assertEqual(relay.publish().surrogates, ["upload:43"])  # it lingered, and may have been committed

    def test_a_full_queue_is_everything(self):
        d = self.required("optional")
        wait_until(lambda: d.status()["holds_open"] == 0, 20, "the cold start's linger")
        relay = self.relay(d)
        relay.close()
        wait_until(lambda: d.status()["relay_connected"] == 0, 20, "the relay's end")
        w = self.writer(d)
        for i in range(QUEUE_MAX + 1):
            w.ok(f"invalidate surrogate n:{i}")
        d.wait_log("event=relay_queue_full")
        w.ok(f"invalidate surrogate {NAME}")
        d.kill()
        d.start(settled=False)
        relay = self.relay(d)
        publish = relay.publish()
        self.assertTrue(publish.everything)
        self.assertEqual(relay.publish().surrogates, [NAME])
        relay.done(publish.token, LOGGED)
        self.assertTrue(relay.quiet())

    def test_what_a_cold_start_forgot_may_be_anything(self):
        d = self.required("optional")
        d.stop()
        d.args.append("--cold")
        d.start(settled=False)
        self.assertTrue(self.relay(d).publish().everything)

    def test_an_event_that_the_log_refuses_is_everything(self):
        d = self.required("optional")
        relay = self.relay(d)
        w = self.writer(d)
        w.ok(f"invalidate surrogate {NAME}")
        relay.done(relay.publish().token, REFUSED, text=b"too long")
        self.assertTrue(relay.publish().everything)
        d.wait_log("event=relay_refused_event.*too long")


class Reach(RelayCase):
    def test_everywhere_waits_until_everybody_has_it(self):
        d = self.required()
        relay = self.fresh(d)
        w = self.writer(d, timeout_ms=60000)
        for outcome, proof in ((ACKNOWLEDGED, PROOF_ACKNOWLEDGED), (BY_TIME, PROOF_TIME)):
            w.tell(f"invalidate surrogate {NAME} reach everywhere")
            publish = relay.publish()
            self.assertEqual(publish.reach, EVERYWHERE)
            self.assertEqual(d.check(KEY)["reason"], "stale")
            relay.done(publish.token, LOGGED, 9)
            self.assertTrue(relay.quiet())
            relay.done(publish.token, outcome)
            said = w.hear()
            self.assertEqual((said["status"], said["reach"], said["proof"], said["lsn"]), ("OK", EVERYWHERE, proof, publish.token))

    def test_everywhere_without_an_answer_is_pending_and_says_what_is_proved(self):
        d = self.required()
        relay = self.fresh(d)
        w = self.writer(d, timeout_ms=700)
        said = w.say(f"invalidate surrogate {NAME} reach everywhere")
        self.assertEqual((said["status"], said["reach"], said["proof"]), ("PENDING", HOST, PROOF_DAEMON))
        self.assertEqual(d.status()["spool_applied"], 0)  # the daemon has it: not by the spool too
        relay.done(relay.publish().token, LOGGED)
        self.assertTrue(relay.quiet())

    def test_the_default_is_the_log_where_a_relay_is_required(self):
        d = self.required()
        relay = self.fresh(d)
        w = self.writer(d, timeout_ms=60000)
        w.tell(f"invalidate surrogate {NAME}")
        publish = relay.publish()
        self.assertEqual(publish.reach, LOG)
        relay.done(publish.token, LOGGED)
        said = w.hear()
        self.assertEqual((said["status"], said["reach"], said["proof"]), ("OK", LOG, PROOF_LOGGED))
        said = w.ok(f"invalidate surrogate {NAME} reach host")
        self.assertEqual((said["reach"], said["proof"]), (HOST, PROOF_DAEMON))

    def test_etagctl_asks_for_a_reach_and_says_what_was_proved(self):
        d = self.required()
        relay = self.fresh(d)
        said = d.ctl("invalidate", "--surrogate", NAME, "--reach", "host")
        self.assertEqual((said["reach"], said["proof"]), ("host", "daemon"))
        relay.done(relay.publish().token, LOGGED)
        answerer = threading.Thread(target=lambda: relay.done(relay.publish(60).token, ACKNOWLEDGED))
        answerer.start()
        said = d.ctl("invalidate", "--reach", "everywhere", "--surrogate", NAME, timeout_ms=60000)
        answerer.join()
        self.assertEqual((said["reach"], said["proof"]), ("everywhere", "acknowledged"))
        self.assertIn("allowed are", d.ctl_raw("invalidate", "--surrogate", NAME, "--reach", "galaxy").stderr)
        self.assertRegex(d.ctl_raw("stats").stdout, r"relay +required, connected: [0-9]+ ms left")

    def test_a_position_is_in_the_log_already(self):
        d = self.required()
        relay = self.fresh(d)
        w = self.writer(d, timeout_ms=60000)
        w.tell(f"invalidate surrogate {NAME} position 4711")
        publish = relay.publish()  # poll now
        self.assertEqual((publish.position, publish.reach, publish.surrogates), (4711, LOG, []))
        relay.done(publish.token, LOGGED, 4711)
        said = w.hear()
        self.assertEqual((said["reach"], said["proof"]), (LOG, PROOF_LOGGED))
        said = w.ok(f"invalidate surrogate {NAME} position 4711 reach host")
        self.assertEqual((said["reach"], said["proof"]), (HOST, PROOF_DAEMON))
        publish = relay.publish()
        self.assertEqual((publish.position, publish.reach), (4711, HOST))  # nobody waits
        w.tell(f"invalidate surrogate {NAME} position 4712 reach everywhere")
        publish = relay.publish()
        self.assertEqual((publish.position, publish.reach), (4712, EVERYWHERE))
        relay.close()
        relay = self.relay(d)
        publish = relay.publish()  # somebody waits: asked again
        self.assertEqual(publish.position, 4712)
        relay.done(publish.token, ACKNOWLEDGED)
        self.assertEqual(w.hear()["proof"], PROOF_ACKNOWLEDGED)

    def test_a_position_that_the_relay_has_not_seen_proves_nothing(self):
        """The transaction may run yet, or be rolled back: the writer's word is not enough."""
        d = self.required()
        relay = self.fresh(d)
        w = self.writer(d, timeout_ms=700)
        said = w.say(f"invalidate surrogate {NAME} position 4711")
        self.assertEqual((said["status"], said["reach"], said["proof"]), ("PENDING", HOST, PROOF_DAEMON))
        w = self.writer(d, timeout_ms=60000)
        relay.publish()
        for reach in ("log", "everywhere"):
            w.tell(f"invalidate surrogate {NAME} position 4711 reach {reach}")
            relay.done(relay.publish().token, REFUSED, text=b"transaction 4711 has not ended")
            said = w.hear()
            self.assertEqual(said["status"], "FAILED")
            self.assertIn("4711 has not ended", said["error"])

    def test_writers_that_are_gone_hold_no_place(self):
        """No relay is there, and each writer gives up after a while; the next one still gets what this host can prove, at once."""
        d = self.required("optional")
        relay = self.relay(d)
        relay.batch(everything=True)
        relay.close()
        wait_until(lambda: d.status()["relay_connected"] == 0, 20, "the relay's end")
        for reach in (LOG, EVERYWHERE):
            gone = Raw(d.socket)
            for i in range(QUEUE_MAX // 2 + 8):
                gone.send_frame(number(1, 100 + i) + data(4, targets(f"n:{i}", reach=reach)))
            wait_until(lambda gone=gone: d.status()["relay_queue"] >= (QUEUE_MAX // 2 if reach == LOG else QUEUE_MAX - 8), 20, "their events")
            gone.close()
        w = self.writer(d, timeout_ms=1500)
        for _ in range(2):
            said = w.say(f"invalidate surrogate {NAME} reach log")
            self.assertEqual((said["status"], said["reach"], said["proof"]), ("PENDING", HOST, PROOF_DAEMON))
        self.assertEqual(d.status()["spool_applied"], 0)
        relay = self.relay(d)
        self.assertTrue(relay.publish().everything)  # nothing of them is lost
        while relay.publish().surrogates != [NAME]:
            pass

    def test_a_refused_position_is_an_error(self):
        d = self.required()
        relay = self.fresh(d)
        w = self.writer(d, timeout_ms=60000)
        w.tell(f"invalidate surrogate {NAME} position 4712 reach everywhere")
        relay.done(relay.publish().token, REFUSED, text=b"nobody knows it")
        said = w.hear()
        self.assertEqual(said["status"], "FAILED")
        self.assertIn("nobody knows it", said["error"])

    def test_a_waiting_writer_is_told_though_its_event_became_everything(self):
        d = self.required()
        relay = self.fresh(d)
        w = self.writer(d, timeout_ms=60000)
        w.tell(f"invalidate surrogate {NAME} reach everywhere")
        first = relay.publish()
        filler = self.writer(d)
        for i in range(QUEUE_MAX):
            filler.ok(f"invalidate surrogate n:{i} reach host")
        d.wait_log("event=relay_queue_full")
        while not (publish := relay.publish()).everything:
            pass
        self.assertEqual(publish.reach, EVERYWHERE)
        relay.done(publish.token, LOGGED)
        relay.done(publish.token, BY_TIME)
        said = w.hear()
        self.assertEqual((said["status"], said["proof"], said["lsn"]), ("OK", PROOF_TIME, first.token))

    def test_a_guards_commit_has_a_reach_too(self):
        d = self.required()
        relay = self.fresh(d)
        w = self.writer(d, timeout_ms=60000)
        w.ok(f"begin surrogate {NAME} reach everywhere")
        w.ok("confirm")
        self.assertTrue(relay.quiet())
        w.tell("commit")
        relay.done(relay.publish().token, ACKNOWLEDGED)
        self.assertEqual(w.hear()["proof"], PROOF_ACKNOWLEDGED)

    def test_the_spool_proves_this_host_and_no_more(self):
        d = self.required()
        relay = self.fresh(d)
        w = self.writer(d, timeout_ms=1500)
        d.kill()
        for words, status in (("reach host", "OK"), ("reach log", "PENDING"), ("reach everywhere", "PENDING"), ("", "PENDING")):
            said = w.say(f"invalidate surrogate {NAME} {words}")
            self.assertEqual((said["status"], said["reach"], said["proof"]), (status, HOST, PROOF_WAIT), words)
        stranger = self.writer(d, timeout_ms=1500)  # that never heard of a daemon: the spool's mark says what is the default
        self.assertEqual(stranger.say(f"invalidate surrogate {NAME}")["status"], "PENDING")
        d.start(settled=False)
        relay = self.relay(d)
        for _ in range(5):
            self.assertEqual(relay.publish().surrogates, [NAME])

    def test_a_stopped_daemon_goes_on_and_the_writer_gets_what_it_asked_for(self):
        d = self.required()
        relay = self.fresh(d)
        w = self.writer(d, timeout_ms=60000)
        d.signal(signal.SIGSTOP)
        w.tell(f"invalidate surrogate {NAME} reach everywhere")
        wait_until(lambda: [n for n in os.listdir(os.path.join(self.directory, "spool")) if n.startswith("e")], 20, "a file in the spool")
        d.signal(signal.SIGCONT)
        for _ in range(2):  # it came by both ways
            relay.done(relay.publish().token, ACKNOWLEDGED)
        said = w.hear()
        self.assertEqual((said["status"], said["proof"]), ("OK", PROOF_ACKNOWLEDGED))


if __name__ == "__main__":
    main()
