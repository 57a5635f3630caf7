# SPDX-License-Identifier: Apache-2.0
"""Guards and holds: in flux from begin to end, whoever dies in between."""
import os
import shutil
import signal
import struct
import time

from harness import FACTOR, Case, Raw, bound, main, wait_until
from wire import data, fields_of, nonzero, number

KEY = "//shop.example/api/v1/uploads/42"
TARGET = "surrogate upload:42"
HOLDS_MAX = 65536  # proto/base/bounds.h


# ---- Requests by the thousand ----


def targets(surrogate, hold_ms=0):
    return data(2, surrogate.encode()) + nonzero(5, hold_ms)


def guard(step, number, surrogate, hold_ms=0):
    """A step of a guard: 14 begin, 15 confirm, 16 commit, 17 abort."""
    ids = struct.pack("<BQBQ", 1 << 3 | 1, 77, 2 << 3 | 1, number)
    return data(step, ids + data(3, targets(surrogate, hold_ms)))


def pipeline(raw, requests):
    """Sends them and reads the answers, so many at a time that neither side waits. Returns the answers that are errors."""
    errors, requests = [], [struct.pack("<I", 3 + len(body)) + b"\x08\x80\x01" + body for body in requests]
    for at in range(0, len(requests), 512):
        part = requests[at:at + 512]
        raw.send(b"".join(part))
        errors += [answer for answer in (raw.frame() for _ in part) if answer[3:4] != b"\x22"]
    return errors



class GuardCase(Case):
    def filled(self, d):
        d.fill(KEY, '"v1"', "--surrogate", "upload:42")
        self.assertEqual(d.verdict(KEY), "not_modified")

    def reason(self, d):
        return d.check(KEY)["reason"]

    def guarded(self, **options):
        """A daemon with an entry, and a writer with a guard on it."""
        d = self.started(**options)
        self.filled(d)
        w = self.writer(d)
        w.ok(f"begin {TARGET}")
        self.assertEqual(self.reason(d), "in_flux")
        return d, w


class Guard(GuardCase):
    def test_from_begin_to_commit_nobody_answers_304_and_then_only_newer_data(self):
        d, w = self.guarded()
        token = d.token()
        self.assertEqual(d.fill(KEY, '"v1"', "--surrogate", "upload:42", expect=1)["reason"], "token_in_flux")
        w.ok("confirm")
        self.assertGreater(w.say("left")["left_ms"], 0)
        self.assertGreater(w.ok("commit")["lsn"], 0)
        self.assertEqual(self.reason(d), "stale")
        # A page rendered from data read before or during the guard comes too late.
        said = d.fill(KEY, '"v1"', "--surrogate", "upload:42", token=token, expect=1)
        self.assertEqual(said["reason"], "token_stale")
        d.fill(KEY, '"v2"', "--surrogate", "upload:42")
        self.assertEqual(d.verdict(KEY, '"v2"'), "not_modified")

    def test_an_abort_leaves_the_entry_valid(self):
        d, w = self.guarded()
        w.ok("abort")
        self.assertEqual(d.verdict(KEY), "not_modified")
        self.assertEqual(d.status()["guards_open"], 0)

    def test_guards_overlap(self):
        d, a = self.guarded()
        b = self.writer(d)
        b.ok(f"begin {TARGET}")
        a.ok("abort")
        self.assertEqual(self.reason(d), "in_flux")
        b.ok("commit")
        self.assertEqual(self.reason(d), "stale")

    def test_a_writer_that_vanishes_leaves_it_in_flux_for_the_linger_and_then_it_counts_as_committed(self):
        linger_ms = 600
        d, w = self.guarded(linger_ms=linger_ms, lease_ms=100)
        w.ok("confirm")
        w.kill()
        began = time.monotonic()
        wait_until(lambda: self.reason(d) == "stale", 10, "the guard lingers and counts as committed")
        self.assertGreater(time.monotonic() - began, linger_ms / 1000 * 0.98)
        self.assertEqual(d.status()["guards_lingered"], 1)
        d.fill(KEY, '"v2"', "--surrogate", "upload:42")
        self.assertEqual(d.verdict(KEY, '"v2"'), "not_modified")

    def test_an_open_connection_keeps_it_and_has_no_idle_limit(self):
        d, w = self.guarded(linger_ms=200, lease_ms=100, args=["--idle-ms", "1500"])
        time.sleep(3)  # limits are looked at once a second
        self.assertEqual(self.reason(d), "in_flux")
        self.assertEqual(d.status()["guards_lingered"], 0)
        w.ok("commit")

    def test_it_survives_a_kill_and_its_writer_finds_it_again(self):
        for durability in ("process", "power"):
            with self.subTest(durability=durability):
                d = self.daemon(name=durability, linger_ms=20000, args=["--durability", durability]).start()
                self.filled(d)
                d.ctl("sync")
                w = self.writer(d)
                w.ok(f"begin {TARGET}")
                d.restart("warm")
                self.assertEqual(self.reason(d), "in_flux")
                self.assertEqual(d.status()["guards_open"], 1)
                w.ok("confirm")
                w.ok("commit")
                self.assertEqual(self.reason(d), "stale")
                self.assertEqual(d.status()["guards_open"], 0)

    def test_its_end_survives_a_kill_too(self):
        for end in ("commit", "abort"):
            with self.subTest(end=end):
                d = self.daemon(name=end).start()
                self.filled(d)
                d.ctl("sync")
                w = self.writer(d)
                w.ok(f"begin {TARGET}")
                w.ok(end)
                d.restart("warm")
                self.assertEqual(d.status()["guards_open"], 0)
                self.assertEqual(self.reason(d), "no_entry" if end == "commit" else "match")

    def test_where_the_writer_is_gone_it_lingers_anew_after_a_restart(self):
        linger_ms = int(1500 * FACTOR)
        d, w = self.guarded(linger_ms=linger_ms, lease_ms=100)
        d.ctl("sync")
        w.kill()
        d.kill()
        began = time.monotonic()
        d.start()
        self.assertEqual(self.reason(d), "in_flux")
        wait_until(lambda: self.reason(d) == "stale", 10, "the guard lingers")
        self.assertGreater(time.monotonic() - began, linger_ms / 1000 * 0.98)

    def test_a_confirmation_begins_a_guard_again_that_the_daemon_ended(self):
        d = self.started(linger_ms=100, lease_ms=100)
        self.filled(d)
        w = self.writer(d)
        w.ok(f"begin {TARGET} max 1")
        wait_until(lambda: d.status()["guards_open"] == 0, 10, "the guard is too old")
        d.fill(KEY, '"v1"', "--surrogate", "upload:42")
        self.assertEqual(d.verdict(KEY), "not_modified")
        w.ok("confirm")
        self.assertEqual(self.reason(d), "in_flux")
        w.ok("commit")
        self.assertEqual(self.reason(d), "stale")

    def test_without_a_daemon_and_without_a_spool_there_is_no_confirmation(self):
        d = self.started(lease_ms=100)
        w = self.writer(d, spool="never")
        w.ok(f"begin {TARGET}")
        d.kill()
        self.assertIn(w.say("confirm")["status"], ("UNAVAILABLE", "TIMEOUT"))
        self.assertEqual(w.say("left")["left_ms"], 0)

    def test_the_commit_of_a_guard_that_is_gone_is_an_invalidation(self):
        d = self.started(linger_ms=100, lease_ms=100)
        w = self.writer(d)
        w.ok(f"begin {TARGET} max 1")
        wait_until(lambda: d.status()["guards_open"] == 0, 10, "the guard is too old")
        self.filled(d)
        w.ok("commit")
        self.assertEqual(self.reason(d), "stale")

    def test_a_forked_childs_handle_is_dead(self):
        d, w = self.guarded()
        self.assertEqual(w.say("fork")["status"], "INVALID")
        w.ok("commit")

    def test_the_time_left_counts_from_the_confirmation(self):
        d, w = self.guarded(linger_ms=20000)
        self.assertEqual(w.say("left")["left_ms"], 0)
        began = time.monotonic()
        w.ok("confirm")
        first = w.say("left")["left_ms"]
        self.assertLess(first, 20000)
        self.assertGreater(first, 20000 - 1000 * (time.monotonic() - began) - 2000)
        time.sleep(0.3)
        self.assertLess(w.say("left")["left_ms"], first - 250)

    def test_too_many_are_refused_and_those_that_stand_go_on(self):
        d, w = self.guarded()
        others = Raw(d.socket)
        self.addCleanup(others.close)
        refused = pipeline(others, (guard(14, i, "other") for i in range(1, 4096 + 1)))
        self.assertEqual([b"too many guards are open" in answer for answer in refused].count(True), 1)
        self.assertEqual(d.status()["guards_open"], 4096)
        said = self.writer(d).say("begin surrogate more")
        self.assertIn("too many guards", said["error"])
        w.ok("confirm")  # this one's writer is before its COMMIT
        self.assertEqual(pipeline(others, [guard(14, 1, "other"), guard(15, 1, "other")]), [])
        w.ok("invalidate surrogate other hold 60000")
        w.ok("commit")
        self.assertEqual(self.reason(d), "stale")
        self.writer(d).ok("begin surrogate more")

    def test_a_begin_in_the_spool_without_room_stops_the_lease_until_there_is_some(self):
        d = self.started(lease_ms=100, linger_ms=300)
        self.filled(d)
        w, lingering = self.writer(d, timeout_ms=60000), Raw(d.socket)
        many = range(1, 4096 + 1)
        self.assertEqual(pipeline(lingering, (guard(14, i, "other", hold_ms=600000) for i in many)), [])
        lingering.close()
        wait_until(lambda: d.status()["holds_open"] == 4096, 20, "they linger, and are held")
        others = Raw(d.socket)
        self.addCleanup(others.close)
        self.assertEqual(pipeline(others, (guard(14, 5000 + i, "other") for i in many)), [])
        self.assertEqual(pipeline(others, (guard(15, i, "other", hold_ms=600000) for i in many)), [])  # known: there is room
        self.assertEqual(d.status()["guards_open"], 2 * 4096)

        d.signal(signal.SIGSTOP)
        w.tell("begin surrogate spooled")
        wait_until(lambda: any(name[0] == "e" for name in os.listdir(os.path.join(d.directory, "spool"))), 20,
                   "the event is in the spool")
        w.kill()  # else it could be told
        d.signal(signal.SIGCONT)
        d.wait_log("event=lease_not_renewed")
        self.assertEqual(self.reason(d), "no_lease")
        self.assertEqual(pipeline(others, [guard(17, 1, "other")]), [])
        wait_until(lambda: self.reason(d) == "match", 20, "the lease is back")


class Hold(GuardCase):
    def test_in_flux_for_its_time_and_then_changed_once_more(self):
        hold_ms = 700
        d = self.started(lease_ms=100)
        self.filled(d)
        w = self.writer(d)
        began = time.monotonic()
        w.ok(f"invalidate {TARGET} hold {hold_ms}")
        self.assertEqual(self.reason(d), "in_flux")
        token = d.token()
        wait_until(lambda: self.reason(d) != "in_flux", 10, "the hold ends")
        self.assertGreater(time.monotonic() - began, hold_ms / 1000 * 0.98)
        # A page that was rendered from the replica while it lagged.
        said = d.fill(KEY, '"v1"', "--surrogate", "upload:42", token=token, expect=1)
        self.assertEqual(said["reason"], "token_stale")
        d.fill(KEY, '"v2"', "--surrogate", "upload:42")
        self.assertEqual(d.verdict(KEY, '"v2"'), "not_modified")

    def test_it_begins_anew_after_a_restart(self):
        d = self.started(lease_ms=100)
        self.filled(d)
        d.ctl("sync")
        self.writer(d).ok(f"invalidate {TARGET} hold 1500")
        d.kill()
        began = time.monotonic()
        d.start()
        said = d.fill(KEY, '"v1"', "--surrogate", "upload:42", expect=1)
        self.assertEqual(said["reason"], "token_in_flux")
        wait_until(lambda: d.status()["holds_open"] == 0, 10, "the hold ends")
        self.assertGreater(time.monotonic() - began, 1.45)

    def test_what_a_start_applies_again_does_not_count_as_work(self):
        d, w = self.guarded(linger_ms=20000)
        w.ok("invalidate surrogate other hold 600000")
        d.restart("warm")
        status = d.status()
        self.assertEqual((status["guards_open"], status["holds_open"]), (1, 1))
        counted = {name: status[name] for name in ("guards_begun", "holds", "mutations", "targets", "guards_rearmed")}
        self.assertEqual(set(counted.values()), {0}, counted)
        w.ok("confirm")
        w.ok("commit")
        self.assertEqual(d.status()["guards_committed"], 1)

    def test_a_guards_commit_may_hold(self):
        d, w = self.guarded(lease_ms=100)
        w.ok("abort")
        w.ok(f"begin {TARGET} hold {int(1500 * FACTOR)}")
        w.ok("commit")
        self.assertEqual(self.reason(d), "in_flux")
        self.assertEqual((d.status()["guards_open"], d.status()["holds_open"]), (0, 1))
        wait_until(lambda: self.reason(d) == "stale", 10, "the hold ends")


    def test_holds_beyond_their_bound_share_one_of_everything(self):
        d, hold_ms = self.started(lease_ms=100), 1200
        self.filled(d)
        d.ctl("sync")
        others = Raw(d.socket)
        self.addCleanup(others.close)
        one = data(4, targets("other", 600000))
        self.assertEqual(pipeline(others, [one] * HOLDS_MAX), [])
        self.assertEqual(d.status()["holds_open"], HOLDS_MAX)
        self.assertEqual(d.verdict(KEY), "not_modified")
        said = d.ctl_raw("doctor")
        self.assertRegex(said.stdout, "warn +holds +65536 open, of 65536", said)

        w = self.writer(d)
        w.ok(f"invalidate surrogate third hold {hold_ms}")
        self.assertEqual(self.reason(d), "in_flux")
        time.sleep(hold_ms / 2000)
        began = time.monotonic()
        w.ok(f"invalidate surrogate fourth hold {hold_ms}")  # the same one, for longer
        w.ok("invalidate surrogate fifth hold 1")
        status = d.status()
        self.assertEqual((status["holds_open"], status["holds_folded"]), (HOLDS_MAX + 1, 3))
        d.wait_log(r"event=holds_folded holds=65537")
        wait_until(lambda: self.reason(d) != "in_flux", 10, "the hold of everything ends")
        self.assertGreater(time.monotonic() - began, hold_ms / 1000 * 0.95)
        self.assertEqual(self.reason(d), "stale")

        for longer in range(9):  # each takes the place of the former one
            w.ok(f"invalidate surrogate third hold {hold_ms * (1 + longer)}")
        self.assertEqual(d.status()["holds_open"], HOLDS_MAX + 1)
        w.ok(f"invalidate surrogate third hold {hold_ms * 10}")
        d.kill()  # it is recorded like any hold
        d.start(settled=False)
        self.assertEqual(d.fill(KEY, '"v1"', expect=1)["reason"], "token_in_flux")
        self.assertEqual(d.status()["holds_open"], HOLDS_MAX + 1)

    def test_many_that_end_together_end_in_turns_of_their_own(self):
        """All of them in one turn took longer than a lease. A peer is told its status once a turn, so questions that wait for the daemon
        when the holds are over show one turn each."""
        d = self.started(lease_ms=1000)
        raw = Raw(d.socket)
        self.addCleanup(raw.close)
        names, count = b"".join(data(2, b"%d" % i) for i in range(4096)), 150
        for seconds in (2, 8, 32, 128):  # for all of them to be there before the first is over
            end = time.monotonic() + seconds
            for _ in range(count):
                hold_ms = max(1, int((end - time.monotonic()) * 1000))
                self.assertEqual(pipeline(raw, [data(4, names + number(5, hold_ms))]), [])
            self.ask_status(raw, 1)
            before = self.holds_open(raw)
            os.kill(d.process.pid, signal.SIGSTOP)
            time.sleep(max(0, end + 0.1 - time.monotonic()))
            self.ask_status(raw, 50)
            os.kill(d.process.pid, signal.SIGCONT)
            seen = [self.holds_open(raw) for _ in range(50)]
            while seen[-1] > 0:
                self.ask_status(raw, 1)
                seen.append(self.holds_open(raw))
            if before == count:
                break
        self.assertEqual(before, count)
        self.assertTrue(set(seen) - {0, count}, seen)

    @staticmethod
    def ask_status(raw, times):
        raw.send((struct.pack("<I", 5) + b"\x08\x80\x01" + data(9, b"")) * times)

    @staticmethod
    def holds_open(raw):
        """Of the next answer."""
        stats = fields_of(fields_of(raw.frame())[9][0])[1]
        return next(value.get(2, [0])[0] for value in map(fields_of, stats) if value[1] == [b"holds_open"])

    def test_a_guard_that_lingers_is_held_too(self):
        d, w = self.guarded(linger_ms=300, lease_ms=100)
        w.ok("abort")
        w.ok(f"begin {TARGET} hold 700")
        w.kill()
        began = time.monotonic()
        wait_until(lambda: d.status()["holds_open"] == 1, 10, "the guard lingers")
        wait_until(lambda: self.reason(d) == "stale", 10, "the hold ends")
        self.assertGreater(time.monotonic() - began, 0.98)


class ColdStart(GuardCase):
    """Guards that were forgotten with the state may still commit: the floor is in flux for one linger."""

    LINGER_MS = 1200
    LONG_MS = 30000  # nobody waits for its end

    def test_after_the_state_is_lost_everything_is_in_flux_for_the_linger(self):
        linger_ms = int(min(bound(self.LINGER_MS), self.LONG_MS))  # two starts fit into it
        d, w = self.guarded(linger_ms=linger_ms, lease_ms=100)
        w.ok("confirm")
        d.kill()
        shutil.rmtree(d.state)
        began = time.monotonic()
        d.start(settled=False)
        self.assertEqual(d.fill(KEY, '"v1"', expect=1)["reason"], "token_in_flux")
        # A kill in between forgets it as little as any hold.
        d.kill()
        d.start(settled=False)
        d.wait_log(r"event=serving.*start=warm")
        self.assertEqual(d.fill(KEY, '"v1"', expect=1)["reason"], "token_in_flux")
        wait_until(lambda: d.status()["holds_open"] == 0, 60, "the linger of forgotten guards")
        self.assertGreater(time.monotonic() - began, linger_ms / 1000 * 0.98)
        d.fill(KEY, '"v1"')

    def test_a_first_start_waits_too_unless_it_was_said_to_be_one(self):
        d = self.daemon(linger_ms=self.LONG_MS, fresh=False)
        d.start(settled=False)
        self.assertEqual(d.fill(KEY, '"v1"', expect=1)["reason"], "token_in_flux")
        d.end()
        d = self.daemon(name="other", linger_ms=self.LONG_MS)
        d.start(settled=False)
        d.fill(KEY, '"v1"')

    def test_traces_of_a_former_run_are_believed_more_than_what_was_said(self):
        for kept in ("etagd.sock.lock", "etagd.sock.witness", "spool", "state"):
            with self.subTest(kept=kept):
                d = self.daemon(name=kept, linger_ms=self.LONG_MS).start()
                d.kill()
                shutil.rmtree(d.directory + ".kept", ignore_errors=True)
                shutil.move(f"{d.directory}/{kept}", d.directory + ".kept")
                shutil.rmtree(d.directory)
                d.make_directory()
                shutil.move(d.directory + ".kept", f"{d.directory}/{kept}")
                d.start(settled=False)
                d.wait_log(r"start=cold")
                self.assertEqual(d.fill(KEY, '"v1"', expect=1)["reason"], "token_in_flux")
                d.end()

    def test_a_former_runs_longer_linger_counts(self):
        for what in ("warm", "cold"):
            with self.subTest(start=what):
                d = self.daemon(name=what, linger_ms=1500, lease_ms=100).start()
                self.filled(d)
                d.ctl("sync")
                w = self.writer(d)
                w.ok(f"begin {TARGET}")
                w.ok("confirm")
                began = time.monotonic()
                w.kill()
                d.kill()
                d.linger_ms = 100
                d.args = ["--cold"] if what == "cold" else []
                d.start(settled=False)
                d.wait_log(f"event=serving.*start={what}")
                wait_until(lambda: d.status()["guards_open"] + d.status()["holds_open"] == 0, 10, "the linger")
                self.assertGreater(time.monotonic() - began, 1.45)

    def test_cold_on_demand(self):
        d = self.started(linger_ms=100)
        self.filled(d)
        self.assertEqual(d.stop(), 0)
        d.args = ["--cold"]
        d.start()
        d.wait_log(r"start=cold.*asked for")
        self.assertEqual(self.reason(d), "no_entry")


if __name__ == "__main__":
    main()
