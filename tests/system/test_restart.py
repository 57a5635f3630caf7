# SPDX-License-Identifier: Apache-2.0
"""Crash, stall, restart: what comes back, and what must not."""
import json
import os
import shutil
import signal
import subprocess
import time

from harness import CLOCKS, SYSTEM, Case, bound, content_of, descriptors, main, put_file, wait_until

KEY = "//shop.example/api/v1/uploads/42"


class Restart(Case):
    def test_kill_keeps_what_was_persisted_and_not_what_was_invalidated(self):
        d = self.started()
        for i in range(50):
            d.fill(f"//shop.example/u/{i}", '"v1"', "--surrogate", f"upload:{i}")
        d.ctl("sync")
        stale = set()  # clocks: two names may share one
        for i in range(0, 50, 2):
            stale.update(self.clock_numbers(d, f"//shop.example/u/{i}", "surrogate"))
            d.ctl("invalidate", "--surrogate", f"upload:{i}")
        kept = [i for i in range(50) if not stale & set(self.clock_numbers(d, f"//shop.example/u/{i}"))]
        self.assertGreater(len(kept), 20)
        d.restart("warm")
        for i in range(50):
            self.assertEqual(d.verdict(f"//shop.example/u/{i}"), "not_modified" if i in kept else "unknown", i)

    def test_every_kind_of_target_survives_a_kill(self):
        for target in (["--resource", KEY], ["--surrogate", "upload:42"], ["--prefix", "//shop.example/api/"], ["--all"]):
            with self.subTest(target=target):
                d = self.daemon(name=target[0].strip("-")).start()
                d.fill(KEY, '"v1"', "--surrogate", "upload:42")
                d.ctl("sync")
                d.ctl("invalidate", *target)
                d.restart()
                self.assertEqual(d.verdict(KEY), "unknown")
                d.end()

    def clock_numbers(self, d, key, kind=None):
        return [clock["number"] for clock in d.ctl("explain", key)["clocks"] if kind in (None, clock["kind"])]

    def test_an_event_that_was_trimmed_from_the_log_is_in_the_checkpoint(self):
        d = self.started()
        d.fill(KEY, '"v1"', "--surrogate", "upload:42")
        # The hash key is random: names that share no clock.
        for i in range(100):
            kept = f"{KEY}/kept/{i}"
            d.fill(kept, '"v1"')
            if self.clock_numbers(d, KEY, "surrogate")[0] not in self.clock_numbers(d, kept):
                break
        used = self.clock_numbers(d, KEY) + self.clock_numbers(d, kept)
        for i in range(100):
            name = f"other:{i}"
            d.fill("/probe", '"v1"', "--surrogate", name)
            if self.clock_numbers(d, "/probe", "surrogate")[0] not in used:
                break
        d.ctl("sync")
        lsn = d.ctl("invalidate", "--surrogate", "upload:42")["lsn"]
        d.ctl("sync")  # the log is written a moment after the answer
        self.assertEqual(d.ctl("explain", KEY)["event"]["lsn"], lsn)
        # Two checkpoints later the log has other events only.
        done = subprocess.run([os.path.join(SYSTEM, "many_events"), d.socket, name, "140000"], timeout=bound(120),
                              check=False)
        self.assertEqual(done.returncode, 0)
        d.ctl("sync")
        told = d.ctl("explain", KEY)
        self.assertEqual((told["state"], told["event"]), ("stale", None))
        d.restart("warm")
        self.assertEqual(d.verdict(KEY), "unknown")
        self.assertEqual(d.verdict(kept), "not_modified")

    def test_a_changed_number_of_clocks_starts_cold(self):
        d = self.started()
        d.fill(KEY)
        self.assertEqual(d.stop(), 0)
        d.args = ["--clocks", str(CLOCKS // 2)]
        d.start()
        d.wait_log(r"start=cold.*clocks was changed")
        self.assertEqual(d.verdict(KEY), "unknown")

    def test_clocks_that_are_not_set_are_by_capacity_and_then_the_states(self):
        d = self.started(args=["--clocks", "0", "--capacity", "20000"])
        self.assertEqual(d.status()["clocks"], 131072)  # the power of two from 4 an entry on
        d.fill(KEY)
        d.ctl("sync")
        self.assertEqual(d.stop(), 0)
        d.args = ["--clocks", "0", "--capacity", "100000"]
        d.start()
        d.wait_log(r"event=serving.*start=warm")
        self.assertEqual(d.status()["clocks"], 131072)
        wait_until(lambda: d.verdict(KEY) == "not_modified", 20, "the entry is loaded")
        self.assertEqual(d.stop(), 0)
        d.args += ["--cold"]
        d.start()
        self.assertEqual(d.status()["clocks"], 524288)

    def test_a_starting_daemon_waits_for_the_former_lease(self):
        d = self.started(lease_ms=1000)
        d.kill()
        began = time.monotonic()
        d.lease_ms = 50
        d.start()
        self.assertGreater(time.monotonic() - began, 0.98)
        # The shorter lease is recorded now.
        d.kill()
        began = time.monotonic()
        d.start()
        self.assertLess(time.monotonic() - began, bound(0.9))

    def test_the_former_lease_is_known_without_the_former_state(self):
        d = self.started(lease_ms=1000)
        d.kill()
        shutil.rmtree(d.state)
        began = time.monotonic()
        d.lease_ms = 50
        d.start()
        self.assertGreater(time.monotonic() - began, 0.98)

    def test_a_damaged_state_is_set_aside(self):
        d = self.started()
        d.fill(KEY)
        self.assertEqual(d.stop(), 0)
        data = os.path.join(d.state, "data.mdb")
        with open(data, "r+b") as f:
            f.write(b"\xff" * 4096 * 2)
        d.start()
        d.wait_log(r"start=cold.*set aside")
        self.assertEqual(d.verdict(KEY), "unknown")
        self.assertTrue(any(name.startswith("damaged-") for name in os.listdir(d.state)))

    def test_restarts_leak_nothing_in_the_state_directory(self):
        d = self.started()
        d.restart()
        before = sorted(os.listdir(d.state)), sorted(os.listdir(d.directory))
        for _ in range(3):
            d.restart()
        self.assertEqual(before, (sorted(os.listdir(d.state)), sorted(os.listdir(d.directory))))


class WarmConditions(Case):
    """State that can't be proven complete is not used: each condition, missing alone."""

    def stopped(self, **options):
        d = self.daemon(**options).start()
        d.fill(KEY)
        self.assertEqual(d.stop(), 0)
        return d

    def starts_cold(self, d, reason):
        d.start()
        d.wait_log(f"start=cold.*{reason}")
        self.assertEqual(d.verdict(KEY), "unknown")
        # And the start after that is warm again.
        d.fill(KEY)
        self.assertEqual(d.stop(), 0)
        self.starts_warm(d)

    def starts_warm(self, d):
        d.wrapper = []
        d.start()
        d.wait_log(r"event=serving.*start=warm")
        self.assertEqual(d.verdict(KEY), "not_modified")
        self.assertEqual(d.stop(), 0)

    def test_all_of_them(self):
        d = self.stopped()
        self.starts_warm(d)
        self.starts_warm(d)

    def test_the_witness_is_missing(self):
        d = self.stopped()
        os.unlink(d.socket + ".witness")
        self.starts_cold(d, "witness")

    def test_the_witness_is_of_a_later_run(self):
        d = self.stopped()
        # What a backup of the state would be, put back in place.
        with open(os.path.join(d.state, "data.mdb"), "rb") as f:
            backup = f.read()
        self.starts_warm(d)
        with open(os.path.join(d.state, "data.mdb"), "r+b") as f:
            f.write(backup)
        self.starts_cold(d, "witness")

    def test_the_state_is_a_copy(self):
        d = self.stopped()
        shutil.copytree(d.state, d.state + ".copy")
        shutil.rmtree(d.state)
        os.rename(d.state + ".copy", d.state)
        os.chmod(d.state, 0o700)
        self.starts_cold(d, "copy")

    def test_where_the_witness_is_lost_no_lsn_is_used_twice(self):
        d = self.daemon().start()
        before = d.ctl("invalidate", "--all")["lsn"]
        self.assertEqual(d.stop(), 0)
        os.unlink(d.socket + ".witness")
        d.start()
        self.assertGreater(d.ctl("invalidate", "--all")["lsn"], before)

    def test_where_the_state_is_lost_no_lsn_is_used_twice(self):
        d = self.daemon().start()
        before = d.ctl("invalidate", "--all")["lsn"]
        self.assertEqual(d.stop(), 0)
        shutil.rmtree(d.state)
        d.start()
        self.assertGreater(d.ctl("invalidate", "--all")["lsn"], before)

    def test_a_store_write_failed(self):
        d = self.stopped()
        os.unlink(os.path.join(d.state, "warm"))
        self.starts_cold(d, "store write")

    def patched(self, path, change):
        """Changes a file in place: a new one would be a copy."""
        with open(path, "r+b") as f:
            changed = change(f.read())
            f.seek(0)
            f.write(changed)

    def test_the_journal_is_missing(self):
        d = self.stopped()
        os.unlink(d.socket + ".journal")
        self.starts_cold(d, "journal.*missing")

    def test_the_journal_is_of_another_run(self):
        d = self.stopped()
        with open(d.socket + ".journal", "rb") as f:
            former = f.read()
        self.starts_warm(d)
        self.patched(d.socket + ".journal", lambda _: former)
        self.starts_cold(d, "journal.*of another run")

    def test_the_journal_is_damaged(self):
        d = self.stopped()
        for at in (32, 48, 56):  # sequence, checksum, extent
            self.patched(d.socket + ".journal", lambda b, at=at: b[:at] + bytes([b[at] ^ 1]) + b[at + 1:])
            self.starts_cold(d, "journal.*damaged")

    def test_the_journal_is_a_copy(self):
        d = self.stopped()
        os.rename(d.socket + ".journal", d.socket + ".held")
        shutil.copy2(d.socket + ".held", d.socket + ".journal")
        self.starts_cold(d, "journal.*copy")

    def test_the_durability_was_changed(self):
        """The spool stands elsewhere then, and what stood in the former one is not read."""
        d = self.daemon().start()
        for durability in ("power", "process"):
            d.fill(KEY)
            d.kill()
            d.args = ["--durability", durability]
            d.start()
            d.wait_log(r"start=cold.*durability was changed")
            self.assertEqual(d.verdict(KEY), "unknown")
            d.fill(KEY)
            d.ctl("sync")
            d.ctl("invalidate", "--resource", "/other")
            d.restart("warm")
            self.assertEqual(d.verdict(KEY), "not_modified")

    def with_boot_id(self, d, text):
        """Runs the daemon where the kernel tells another boot id."""
        if subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            self.skipTest("needs the right to make a mount namespace")
        path = os.path.join(self.directory, "boot_id")
        put_file(path, text)
        d.wrapper = ["unshare", "--mount", "sh", "-c",
                     f'mount --bind {path} /proc/sys/kernel/random/boot_id && exec "$0" "$@"']

    def test_the_machine_was_started_anew(self):
        d = self.stopped()
        self.with_boot_id(d, "00000000-1111-2222-3333-444444444444\n")
        d.start()
        d.wait_log(r"start=cold.*was restarted")
        self.assertEqual(d.verdict(KEY), "unknown")

    def test_the_boot_id_cannot_be_read(self):
        d = self.stopped()
        self.with_boot_id(d, "")
        d.start()
        d.wait_log(r"start=cold.*boot id cannot be read")

    def test_power_durability_is_warm_after_a_new_boot(self):
        d = self.stopped(args=["--durability", "power"])
        os.unlink(d.socket + ".witness")  # as tmpfs does
        self.assertFalse(os.path.exists(d.socket + ".journal"))
        self.with_boot_id(d, "00000000-1111-2222-3333-444444444444\n")
        d.start()
        d.wait_log(r"event=serving.*start=warm")
        self.assertEqual(d.verdict(KEY), "not_modified")

    def test_power_durability_does_not_make_up_for_a_run_without_it(self):
        d = self.stopped()
        d.args = ["--durability", "power"]
        self.with_boot_id(d, "00000000-1111-2222-3333-444444444444\n")
        d.start()
        d.wait_log(r"start=cold.*was restarted")


class Stall(Case):
    def frontend(self, d, *args, wrapper=()):
        """A front end that asks for the key all the time and prints each change of its answer with the time."""
        process = subprocess.Popen([*wrapper, os.path.join(SYSTEM, "front_end"), d.socket, KEY, *args], stdout=subprocess.PIPE,
                                   stdin=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_a_stopped_daemon_is_not_believed_for_longer_than_its_lease(self):
        lease_ms = 1000
        d = self.started(lease_ms=lease_ms)
        d.fill(KEY)
        front = self.frontend(d)

        def next_answer():
            said = json.loads(front.stdout.readline())
            return said["verdict"], said["reason"], said["ns"], said["former_ns"]

        self.assertEqual(next_answer()[0], "not_modified")
        d.signal(signal.SIGSTOP)
        wait_until(lambda: self.state_of(d.process.pid) == "T", 10, "the daemon is stopped")
        stopped_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        verdict, reason, _, former_ns = next_answer()
        self.assertEqual((verdict, reason), ("unknown", "no_lease"))
        # The last 304, however late the front end came to tell that there are no more.
        self.assertLess((former_ns - stopped_ns) / 1e6, lease_ms + 11)  # the coarse clock's ticks are 10 ms
        continued_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        d.signal(signal.SIGCONT)
        verdict, reason, ns, _ = next_answer()
        self.assertEqual(verdict, "not_modified")
        self.assertLess((ns - continued_ns) / 1e6, bound(1000))

    def state_of(self, pid):
        return content_of(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[0]

    def test_a_front_end_in_another_time_namespace_uses_no_index(self):
        shifted = ["unshare", "--time", "--kill-child", "--monotonic", "5000"]
        if subprocess.run([*shifted, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            self.skipTest("needs the right to make a time namespace")
        d = self.started(lease_ms=1000)
        d.fill(KEY)
        front = self.frontend(d, wrapper=shifted)
        said = json.loads(front.stdout.readline())
        self.assertEqual((said["verdict"], said["reason"]), ("unknown", "no_index"))
        # A writer there only measures how long it waits, which is the same on every clock.
        writer = self.writer(d, wrapper=shifted)
        writer.ok("invalidate resource /x")
        d.kill()
        self.assertGreater(writer.ok("invalidate resource /x")["ms"], 989)

    def test_a_front_end_finds_the_next_daemon(self):
        d = self.started(lease_ms=100)
        d.fill(KEY)
        d.ctl("sync")
        front = self.frontend(d, "--dispatch")
        self.assertEqual(json.loads(front.stdout.readline())["verdict"], "not_modified")
        for _ in range(3):
            d.kill()
            self.assertEqual(json.loads(front.stdout.readline())["reason"], "no_lease")
            d.start()
            self.assertEqual(json.loads(front.stdout.readline())["verdict"], "not_modified")


class Storm(Case):
    """Kills under a load of fills, invalidations, guards and checks from several processes. The load keeps the truth in
    memory of its own: a 304 for a version older than the last published one, or than one whose guarded commit has begun, is
    a violation."""

    KILLS = int(os.environ.get("ETAGD_TEST_KILLS", "200"))
    LEASE_MS = 100
    LINGER_MS = 800

    def spool_left(self, d):
        return sorted(set(os.listdir(os.path.join(d.directory, "spool"))) - {"mark", "lock", "reserve-0", "reserve-1"})

    def nothing_is_left(self, d):
        """Once the load has ended: no guard, no spool file, no memory but one index, no socket of anybody."""
        wait_until(lambda: d.status()["guards_open"] == 0, 2 + self.LINGER_MS / 1000, "the end of all guards")
        wait_until(lambda: not self.spool_left(d), 5, "the end of all spool files")
        self.assertLess(descriptors(d.process.pid), 64)
        names = [os.readlink(f"/proc/{d.process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{d.process.pid}/fd")]
        self.assertEqual(sum("memfd:etagd-index" in name for name in names), 1, names)
        with open("/proc/net/unix", encoding="utf-8") as f:
            self.assertEqual(sum(d.socket in line and " 01 " in line for line in f), 1, "one socket listens")

    def test_kills_under_load_resurrect_nothing(self):
        d = self.started(lease_ms=self.LEASE_MS, args=["--guard-linger-ms", str(self.LINGER_MS)])
        storm = subprocess.Popen([os.path.join(SYSTEM, "storm"), d.socket], stdout=subprocess.PIPE,
                                 stdin=subprocess.PIPE, text=True)
        self.addCleanup(storm.stdout.close)
        self.addCleanup(storm.wait)
        self.addCleanup(storm.kill)
        try:
            for i in range(self.KILLS):
                time.sleep(0.02 + (i * 7919 % 200) / 1000)  # the length of the run before the kill: 20 to 220 ms
                d.kill()
                if i % 10 == 9:
                    # A daemon that is back at once answers what was spooled itself. Only one that stays away for longer
                    # than its lease leaves a write to the spool alone.
                    time.sleep(3 * self.LEASE_MS / 1000)
                d.start()
        finally:
            # Its last words also when a daemon did not start.
            storm.stdin.close()
        said = json.loads(storm.stdout.readline())
        print(json.dumps({"kills": self.KILLS, **said}))
        self.assertEqual(storm.wait(bound(30)), 0)
        self.assertEqual(said["violations"], 0)
        for count in ("checks", "not_modified", "fills_sent", "invalidations", "warm_hits", "fills_refused_or_stale", "spooled",
                      "guards_begun", "guards_committed", "guards_aborted", "guards_forgotten"):
            self.assertGreater(said[count], 0, count)
        self.nothing_is_left(d)


class Started(Case):
    """Operations that are started while others are under way join one send."""
    COUNT = 400

    def begin(self, d):
        process = subprocess.Popen([os.path.join(SYSTEM, "started"), d.socket, str(self.COUNT)], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), "started\n")
        return process

    def finish(self, process):
        out, err = process.communicate("go on\n", timeout=bound(60))
        self.assertEqual((process.returncode, err), (0, ""))
        return out

    def names(self, d):
        d.ctl("sync")
        events = [json.loads(line) for line in d.ctl_raw("--json", "log", "--limit", "0").stdout.splitlines()]
        return {target["name"] for event in events for target in event["targets"]}

    def test_all_are_done_in_their_order(self):
        d = self.started()
        self.assertEqual(self.finish(self.begin(d)), f"{self.COUNT} done, {self.COUNT} later\n")

    def test_those_that_a_killed_daemon_never_saw_are_done_by_the_next(self):
        d = self.started()
        process = self.begin(d)
        d.restart()
        self.assertLess(len(self.names(d)), self.COUNT)  # or it is not what is tested
        self.assertIn(f"{self.COUNT} done", self.finish(process))
        self.assertEqual(self.names(d), {f"started:{i}" for i in range(self.COUNT)})


if __name__ == "__main__":
    main()
