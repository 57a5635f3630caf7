# SPDX-License-Identifier: Apache-2.0
"""Disks that are full, broken, read-only or hung, and state that was changed behind the daemon's back: mutations still take
effect, nothing waits without bound, and no start is warm that should not be."""
import json
import os
import random
import shutil
import subprocess
import time

from harness import SYSTEM, Case, Raw, bound, main, put_file, retire_payload, wait_until

KEY = "//shop.example/api/v1/uploads/42"
OTHER = "//shop.example/api/v1/uploads/7"
ANSWER_S = 2  # a writer has its answer within
DATA = "/data.mdb$"
WRITES = f"write {DATA}"


def large_event(targets):
    """Lines for etagctl invalidate --stdin: an event of 250 bytes a target, and all of one name, so that no other clock moves."""
    return "\n".join(["surrogate " + "x" * 250] * targets)


class FaultCase(Case):
    """A daemon whose calls to the disk fail as faults() says."""

    def faulty(self, power=False, journal=True, **options):
        d = self.daemon(**options)
        self.control = os.path.join(self.directory, "faults")
        self.faults()
        d.wrapper = ["env", f"LD_PRELOAD={os.path.abspath(os.path.join(SYSTEM, 'libfaults.so'))}",
                     f"FAULT_CONTROL={self.control}", "ASAN_OPTIONS=verify_asan_link_order=0"]
        if power:
            d.args += ["--durability", "power"]
        if not journal:
            os.mkdir(d.socket + ".journal")  # not a file of ours: there will be none
        return d

    def faults(self, *rules):
        made = self.control + ".new"
        with open(made, "w", encoding="ascii") as f:
            f.write("".join(f"{rule}\n" for rule in rules))
        os.rename(made, self.control)

    def started_with_entries(self, d):
        d.start()
        for key in (KEY, OTHER):
            d.fill(key, '"v1"', "--surrogate", key)
        d.ctl("sync")

    def invalidate(self, d, surrogate, expect=0):
        """Returns what etagctl said, and how long it took in seconds."""
        began = time.monotonic()
        said = d.ctl_raw("--json", "invalidate", "--surrogate", surrogate)
        took = time.monotonic() - began
        self.assertEqual(said.returncode, expect, said.stdout + said.stderr)
        self.assertLess(took, bound(ANSWER_S))
        return said.stdout + said.stderr, took

    def until_store_failed(self, d):
        """The daemon notices with the next event, which still takes effect; fills are refused then."""
        self.invalidate(d, KEY)
        self.assertEqual(d.verdict(KEY), "unknown")
        wait_until(lambda: d.status()["store"] == "failed", 5, "the store's failure is noticed")
        self.assertEqual(d.fill("/new", expect=1)["reason"], "store_failed")
        self.assertEqual(d.check(OTHER)["reason"], "match")

    def until_store_works(self, d):
        d.wait_log(r"event=store_works_again", 10)
        self.assertEqual(d.status()["store"], "ok")
        d.fill("/new")
        d.ctl("sync")

    def starts(self, d, start, reason=""):
        """Starts again without faults; what was invalidated is gone however it starts."""
        d.start()
        d.wait_log(rf"start={start}.*{reason}")
        self.assertEqual(d.verdict(KEY), "unknown")
        self.assertEqual(d.verdict(OTHER), "not_modified" if start == "warm" else "unknown")

    def heals(self, d, ends):
        """Fails, works again, and is warm then."""
        self.until_store_failed(d)
        ends()
        self.until_store_works(d)
        d.kill()
        self.starts(d, "warm")

    def fails_until_killed(self, d, ends):
        self.until_store_failed(d)
        d.kill()
        ends()
        self.starts(d, "cold", "store write of the former run failed")


class FailingCalls(FaultCase):
    """Errors of the calls themselves, in both durabilities."""

    def each(self, *rules):
        for power in (False, True):
            for rule in rules:
                if "sync" in rule and not power:
                    continue
                with self.subTest(rule=rule, power=power):
                    name = f"{rule.split()[2]}-{rule.split()[0]}-{'power' if power else 'process'}"
                    d = self.faulty(power=power, name=name)
                    yield d, rule
                    d.end()

    def test_a_store_that_fails_and_works_again(self):
        for d, rule in self.each(f"{WRITES} ENOSPC", f"{WRITES} EIO", f"sync {DATA} EIO"):
            self.started_with_entries(d)
            self.faults(rule)
            self.heals(d, self.faults)

    def test_a_store_that_fails_until_the_end_is_not_trusted(self):
        for d, rule in self.each(f"{WRITES} EROFS", f"sync {DATA} EIO"):
            self.started_with_entries(d)
            self.faults(rule)
            self.fails_until_killed(d, self.faults)

    def test_where_lmdb_gives_up_the_daemon_goes_on(self):
        """The last write of a transaction is the one of a meta page: after its failure LMDB takes nothing more. (Here it is
        the third; should it be another one, the store works again, and the start is warm.)"""
        d = self.faulty()
        self.started_with_entries(d)
        self.faults(f"{WRITES} EIO after 2")
        self.until_store_failed(d)
        self.faults()
        end = time.monotonic() + 1.5  # it is tried again each second
        while time.monotonic() < end:
            self.invalidate(d, "another")
        d.ctl("sync")
        start = "cold" if d.status()["store"] == "failed" else "warm"
        d.kill()
        self.starts(d, start)

    def test_a_stop_while_the_store_fails_ends_and_the_next_start_is_cold(self):
        d = self.faulty()
        self.started_with_entries(d)
        self.faults(f"{WRITES} EIO")
        self.until_store_failed(d)
        self.assertEqual(d.stop(), 0)
        self.faults()
        self.starts(d, "cold", "store write of the former run failed")


class UnmarkedState(FaultCase):
    """The store fails, and the mark that says so cannot be set either: the file system became read-only."""
    RULES = (f"{WRITES} EROFS", "unlink /warm$ EROFS")

    def test_what_the_journal_has_is_safe(self):
        d = self.faulty()
        self.started_with_entries(d)
        self.faults(*self.RULES)
        self.until_store_failed(d)
        d.ctl("invalidate", "--resource", KEY)
        d.kill()
        self.faults()
        self.assertTrue(os.path.exists(os.path.join(d.state, "warm")))
        self.starts(d, "warm")
        self.assertEqual(d.wait_log(r"journaled=(\d+)")[1], "2")
        # And it is in the store now: the former journal is gone.
        raised = self.clocks(d)
        self.assertGreater(max(raised), 0)
        d.kill()
        self.starts(d, "warm")
        self.assertEqual(d.wait_log(r"journaled=(\d+)")[1], "0")
        self.assertEqual(self.clocks(d), raised)

    def clocks(self, d):
        return [clock["lsn"] for clock in d.ctl("explain", KEY)["clocks"]]

    def test_without_a_journal_the_writer_is_told(self):
        for power in (False, True):
            with self.subTest(power=power):
                d = self.faulty(power=power, journal=False, name=f"power-{power}")
                self.started_with_entries(d)
                if not power:
                    d.wait_log(r"event=journal_not_used.*waits for the store")
                self.faults(*self.RULES)
                said, _ = self.invalidate(d, KEY, expect=2)
                self.assertIn("could not be persisted", said)
                self.assertEqual(d.verdict(KEY), "unknown")
                # Later ones too, until the mark can be removed.
                self.invalidate(d, "another", expect=2)
                self.faults(self.RULES[0])
                self.invalidate(d, "another")
                self.faults()
                self.until_store_works(d)
                self.invalidate(d, "another")
                d.kill()
                self.starts(d, "warm")
                d.end()

    def test_a_state_without_journal_is_warm_as_well(self):
        d = self.faulty(journal=False)
        self.started_with_entries(d)
        self.invalidate(d, KEY)
        d.kill()
        self.starts(d, "warm")


class HungDisk(FaultCase):
    """A write that does not come back stops neither lookups nor the lease nor the socket."""

    def goes_on(self, d):
        """Longer than the lease: somebody renews it."""
        end = time.monotonic() + 2.5 * d.lease_ms / 1000
        while time.monotonic() < end:
            self.assertEqual(d.verdict(OTHER), "not_modified")
        self.assertEqual(d.ctl_raw("ping").returncode, 0)

    def test_writers_are_answered_from_the_journal(self):
        d = self.faulty()
        self.started_with_entries(d)
        self.faults(f"{WRITES} hang")
        took = [self.invalidate(d, KEY if i == 0 else f"other:{i}")[1] for i in range(20)]
        self.assertEqual(d.verdict(KEY), "unknown")
        self.goes_on(d)
        print(json.dumps({"hung_disk_answer_ms_median": round(sorted(took)[10] * 1000, 1),
                          "max": round(max(took) * 1000, 1)}))
        d.kill()
        self.faults()
        self.starts(d, "warm")
        self.assertGreater(int(d.wait_log(r"journaled=(\d+)")[1]), 0)

    def lost_before_it_was_stored(self, d, refill):
        """An entry that came with another surrogate key and never reached the store: an invalidation of that key reaches the one
        that it replaced."""
        self.started_with_entries(d)
        self.faults(f"{WRITES} hang")
        refill()
        self.assertEqual(d.verdict(KEY), "not_modified")
        self.invalidate(d, "later")
        self.assertEqual(d.verdict(KEY), "unknown")
        d.kill()
        self.faults()
        self.starts(d, "warm")

    def test_a_refill_with_another_surrogate_key_takes_its_former_record_along(self):
        d = self.faulty()
        self.lost_before_it_was_stored(d, lambda: d.fill(KEY, '"v1"', "--surrogate", KEY, "--surrogate", "later"))

    def test_what_was_removed_and_filled_again_with_another_surrogate_key(self):
        d = self.faulty()

        def refill():
            raw = Raw(d.socket)
            raw.send_frame(retire_payload(b"shop.example", KEY[14:].encode(), d.token()))
            self.assertIsNotNone(raw.frame())
            raw.close()
            self.assertEqual(d.verdict(KEY), "unknown")
            d.fill(KEY, '"v1"', "--surrogate", "later")

        self.lost_before_it_was_stored(d, refill)

    def test_a_full_journal_makes_writers_wait_and_then_goes_on(self):
        d = self.faulty()
        self.started_with_entries(d)
        self.faults(f"{WRITES} hang")
        self.invalidate(d, KEY)
        targets = large_event(4000)
        answered = 0
        for _ in range(40):  # of some 1 MB each
            done = d.ctl_raw("invalidate", "--stdin", text=targets, timeout_ms=500)
            self.assertEqual(done.returncode, 0, done.stderr)
            if done.stdout == "spooled\n":
                break
            answered += 1
        # Without an answer in time it goes the other way, and is as safe there.
        self.assertEqual(done.stdout, "spooled\n")
        self.assertGreater(answered, 2)
        self.assertLess(answered, 12)
        # Too long for a file of the spool, it became "everything" there.
        wait_until(lambda: d.verdict(OTHER) == "unknown", 5, "the spool is read")
        self.assertEqual(d.status()["lease"], "held")
        self.faults()
        wait_until(lambda: d.ctl_raw("invalidate", "--stdin", text=targets).stdout != "spooled\n", 10,
                   "the journal has room again")
        d.fill(OTHER)
        d.ctl("sync")
        d.kill()
        self.starts(d, "warm")

    def test_with_power_durability_writers_wait_in_bounded_time(self):
        d = self.faulty(power=True)
        self.started_with_entries(d)
        self.faults(f"{WRITES} hang")
        while True:
            began = time.monotonic()
            done = d.ctl_raw("invalidate", "--surrogate", KEY, timeout_ms=500)
            took = time.monotonic() - began
            if "no hello" not in done.stderr:  # on a crowded machine: it was not asked
                break
        self.assertEqual((done.returncode, done.stdout), (0, "spooled\n"), done.stderr)
        self.assertLess(took, bound(ANSWER_S))
        print(json.dumps({"power_hung_disk_spooled_ms": round(took * 1000, 1)}))
        self.assertEqual(d.verdict(KEY), "unknown")
        self.goes_on(d)
        self.faults()
        self.invalidate(d, KEY)
        d.kill()
        self.starts(d, "warm")


def spooled_event(surrogate):
    """A file of the spool: Request{id: 1, invalidate: {surrogates: [surrogate]}}, as a frame."""
    name = surrogate.encode()
    payload = bytes([0x08, 1, 0x22, len(name) + 2, 0x12, len(name)]) + name
    return len(payload).to_bytes(4, "little") + payload


class LostLater(FaultCase):
    """The kernel takes a write, and cannot keep it: it says so once, when it is asked."""
    REASON = "the disk lost what the former run wrote"
    HEARD = f"heard {DATA} EIO times 1"

    def aside(self, d):
        return [name for name in os.listdir(d.state) if name.startswith("damaged-")]

    def is_cold_and_begins_anew(self, d, reason=REASON):
        self.faults()
        self.starts(d, "cold", reason)
        d.fill(OTHER)
        d.ctl("sync")
        d.kill()
        self.starts(d, "warm")
        d.end()

    def hears_while_it_runs(self, d):
        d.wait_log("event=disk_failed.*next start is cold")
        wait_until(lambda: d.status()["store"] == "failed", 5, "the failure is told")
        self.assertEqual(d.fill("/new", expect=1)["reason"], "store_failed")
        self.invalidate(d, KEY)
        self.assertEqual(d.verdict(KEY), "unknown")
        self.assertEqual(d.verdict(OTHER), "not_modified")

    def test_a_daemon_hears_while_it_runs(self):
        for ends in ("kill", "stop"):
            with self.subTest(ends=ends):
                d = self.faulty(name=ends)
                self.started_with_entries(d)
                self.faults(self.HEARD)
                self.hears_while_it_runs(d)
                getattr(d, ends)()
                self.assertFalse(os.path.exists(os.path.join(d.state, "warm")))
                self.is_cold_and_begins_anew(d)
                self.assertEqual(len(self.aside(d)), 1)

    def test_a_daemon_hears_at_its_stop(self):
        d = self.faulty()
        self.started_with_entries(d)
        self.invalidate(d, KEY)
        self.faults(f"sync {DATA} EIO times 1")
        self.assertEqual(d.stop(), 0)
        d.wait_log("event=disk_failed.*next start is cold")
        self.is_cold_and_begins_anew(d)

    def test_the_next_daemon_hears(self):
        d = self.faulty()
        self.started_with_entries(d)
        self.invalidate(d, KEY)
        d.kill()
        self.faults(f"sync {DATA} EIO times 1")
        d.start()
        d.wait_log(f"start=cold.*{self.REASON}")
        self.assertEqual(d.verdict(OTHER), "unknown")
        d.kill()
        self.is_cold_then_warm(d)

    def is_cold_then_warm(self, d):
        """Of a state in a new data file nothing is in doubt."""
        self.assertEqual(len(self.aside(d)), 1)
        self.faults()
        d.start()
        d.wait_log("start=warm")
        self.assertEqual(d.verdict(KEY), "unknown")

    def test_the_file_system_becomes_read_only_with_it(self):
        """The mark can't be removed, and the next daemon would not hear what this one heard."""
        d = self.faulty()
        self.started_with_entries(d)
        self.faults(self.HEARD, "unlink,rename /state/warm$ EROFS")
        self.hears_while_it_runs(d)
        d.kill()
        self.assertTrue(os.path.exists(os.path.join(d.state, "warm")))
        self.is_cold_and_begins_anew(d, "witness beside the socket")

    def test_what_cannot_be_asked_has_not_failed(self):
        d = self.faulty()
        d.start()
        self.faults(f"heard,sync {DATA} EINVAL")
        self.assertEqual(d.stop(), 0)
        self.assertNotIn("disk_failed", "".join(d.lines))
        self.faults()
        d.start()
        d.wait_log("start=warm")


class WaitingSpoolFiles(FaultCase):
    """Files of the spool whose events were applied, and wait for a store that hangs: they are all that a next daemon has."""
    SYNCS = f"sync {DATA}"
    USER = 4711

    def hung(self, d):
        self.started_with_entries(d)
        self.faults(f"{self.SYNCS} hang")

    def put(self, d, name, content=b"", uid=0):
        path = os.path.join(d.directory, "spool", name)
        made = os.path.join(d.directory, "spool", "t-0123456789abcdef")
        put_file(made, content)
        os.chown(made, uid, uid)
        os.rename(made, path)

    def put_and_apply(self, d, count, *file, **options):
        self.put(d, *file, **options)
        wait_until(lambda: d.status()["spool_applied"] == count, 10, "the file is applied")

    def files(self, d):
        return [name for name in os.listdir(os.path.join(d.directory, "spool")) if name not in ("mark", "lock", "former", "reserve-0", "reserve-1")]

    def is_known_after_a_kill(self, d):
        d.kill()
        self.faults()
        d.start()
        d.wait_log("start=warm")
        self.assertEqual(d.verdict(KEY), "unknown")
        wait_until(lambda: not self.files(d), 10, "the files go")

    def test_a_newer_everything_while_an_older_one_waits(self):
        d = self.faulty(power=True)
        self.hung(d)
        self.put_and_apply(d, 1, "all-07")
        d.fill(KEY, '"v1"', "--surrogate", KEY)
        self.put_and_apply(d, 2, "all-07")
        time.sleep(0.2)  # the entry is due (LAZY_NS), and has its turn after one write of events
        # The older event and the entry are stored; the newer event is not.
        self.faults(f"{self.SYNCS} hang after 2")
        wait_until(lambda: len(self.files(d)) < 2, 10, "the older file goes")
        self.assertEqual(d.status()["spool_waiting"], 1)
        wait_until(lambda: d.status()["store_waiting"] == 0, 10, "the entry is stored")
        self.is_known_after_a_kill(d)

    def test_a_file_system_that_cannot_rename_without_replacing(self):
        d = self.faulty()
        self.started_with_entries(d)
        self.faults("noreplace /spool/ EINVAL")
        self.put_and_apply(d, 1, "all-07")
        wait_until(lambda: not self.files(d), 10, "the file goes")
        d.kill()
        self.faults()
        d.start()
        self.assertEqual(d.status()["spool_applied"], 0)
        self.assertEqual(d.verdict(KEY), "unknown")

    def test_a_file_whose_owner_lost_the_role_while_it_waits(self):
        d = self.faulty(power=True, args=self.config(f"roles:\n  mutate: [\"uid:{self.USER}\"]\n"))
        self.hung(d)
        self.put_and_apply(d, 1, "e001", spooled_event(KEY), uid=self.USER)
        self.config("roles: {}\n")
        d.reload()
        # One that comes now does not count soon: when it is ignored, a scan has passed the other one.
        names = iter(f"e{i:03x}" for i in range(2, 4096))
        wait_until(lambda: self.put(d, next(names), spooled_event("other"), uid=self.USER) or d.status()["spool_ignored"] > 0, 10,
                   "the role is gone")
        self.assertIn("e001", self.files(d))
        self.is_known_after_a_kill(d)


class FullDisk(FaultCase):
    """Real file systems without space, or read-only."""

    def mounted(self, d, *command):
        if os.geteuid() != 0:
            self.skipTest("only root can mount a file system")
        os.makedirs(d.state, exist_ok=True)
        done = subprocess.run([*command, d.state], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self.skipTest(f"cannot mount: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "--lazy", d.state], check=False)
        self.addCleanup(d.end)
        os.chmod(d.state, 0o700)

    def tmpfs(self, d):
        self.mounted(d, "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs")

    def ext4(self, d):
        image = os.path.join(d.directory, "image")
        with open(image, "wb") as f:
            f.truncate(16 << 20)
        if subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], capture_output=True, check=False).returncode != 0:
            self.skipTest("no mkfs.ext4")
        self.mounted(d, "mount", "-o", "loop", image)

    def fill_disk(self, d):
        filler = os.path.join(d.state, "filler")
        with open(filler, "ab", buffering=0) as f:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        f.write(b"x" * size)
                except OSError:
                    pass
        # What is free inside the database is used up by events that are written well.
        targets = large_event(1000)
        for _ in range(100):
            if d.status()["store"] == "failed":
                break
            self.assertEqual(d.ctl_raw("invalidate", "--stdin", text=targets).returncode, 0)
            d.ctl("sync")
        return lambda: os.unlink(filler)

    def test_tmpfs(self):
        for power in (False, True):
            for ends in (self.heals, self.fails_until_killed):
                with self.subTest(power=power, ends=ends.__name__):
                    d = self.daemon(name=f"{power}-{ends.__name__}", args=["--durability", "power"] if power else [])
                    self.tmpfs(d)
                    self.started_with_entries(d)
                    ends(d, self.fill_disk(d))
                    d.end()

    def test_ext4(self):
        d = self.daemon()
        self.ext4(d)
        self.started_with_entries(d)
        self.heals(d, self.fill_disk(d))

    def test_ext4_that_became_read_only(self):
        for journal in (True, False):
            with self.subTest(journal=journal):
                d = self.daemon(name=f"journal-{journal}")
                self.ext4(d)
                if not journal:
                    os.mkdir(d.socket + ".journal")
                self.started_with_entries(d)
                device = os.path.basename(subprocess.run(["findmnt", "-no", "SOURCE", d.state], capture_output=True, text=True,
                                                         check=True).stdout.strip())
                trigger = f"/sys/fs/ext4/{device}/trigger_fs_error"
                if not os.path.exists(trigger):
                    self.skipTest("this kernel makes no errors on demand")
                subprocess.run(["mount", "-o", "remount,errors=remount-ro", d.state], check=True)
                put_file(trigger, "made by a test")
                self.invalidate(d, KEY, expect=0 if journal else 2)
                self.assertEqual(d.verdict(KEY), "unknown")
                wait_until(lambda d=d: d.status()["store"] == "failed", 5, "the store's failure is noticed")
                self.assertEqual(d.fill("/new", expect=1)["reason"], "store_failed")
                self.assertEqual(d.verdict(OTHER), "not_modified")
                d.end()

    def test_a_full_map(self):
        d = self.daemon(args=["--map-mib", "2"])
        self.started_with_entries(d)
        for i in range(2000):
            if d.ctl_raw("fill", f"/large/{i}", "--etag", '"v"', "--token", d.token(), "--header",
                         "Cache-Control: " + "x" * 1500).returncode != 0:
                break
            # It waits for the store, so where the map is full by now it gets no answer.
            if i % 20 == 0:
                d.ctl_raw("sync", timeout_ms=1000)
        # What is smaller may find room yet.
        wait_until(lambda: json.loads(d.ctl_raw("--json", "fill", "/new", "--etag", '"v"', "--token", d.token()).stdout)
                   .get("reason") == "store_failed", 20, "the store is full")
        self.invalidate(d, KEY)
        for i in range(50):
            self.invalidate(d, f"other:{i}")
        d.ctl("sync")
        d.kill()
        self.starts(d, "warm")


class ChangedState(FaultCase):
    """What somebody or something did to the state directory."""

    def stopped(self, **options):
        d = self.daemon(**options)
        self.started_with_entries(d)
        self.invalidate(d, KEY)
        self.assertEqual(d.stop(), 0)
        self.data = os.path.join(d.state, "data.mdb")
        return d

    def test_truncated(self):
        for part in (0, 1, 2048, 4096, 0.5, -4096):
            with self.subTest(part=part):
                d = self.stopped(name=f"part-{part}")
                size = os.path.getsize(self.data)
                os.truncate(self.data, int(size * part) if isinstance(part, float) else part if part >= 0 else size + part)
                d.start()
                self.assertEqual(d.verdict(KEY), "unknown")
                if part != -4096:  # the last page may be a free one
                    d.wait_log(r"start=cold")
                    self.assertEqual(d.verdict(OTHER), "unknown")
                if part in (4096, 0.5):
                    d.wait_log(r"start=cold.*damaged.*set aside")
                d.end()

    def test_changed_bits(self):
        d = self.stopped()
        seed = random.Random(4711)
        starts = set()
        for _ in range(8):
            with open(self.data, "r+b") as f:
                at = seed.randrange(os.path.getsize(self.data))
                f.seek(at)
                byte = f.read(1)[0]
                f.seek(at)
                f.write(bytes([byte ^ 1 << seed.randrange(8)]))
            d.start()
            starts.add(d.status()["start"])
            self.assertEqual(d.verdict(KEY), "unknown")
            d.fill(OTHER)
            self.assertEqual(d.stop(), 0)

    def test_restored_from_a_copy(self):
        d = self.daemon()
        self.started_with_entries(d)
        self.assertEqual(d.stop(), 0)
        data = os.path.join(d.state, "data.mdb")
        backup = os.path.join(self.directory, "backup")
        subprocess.run(["cp", "--preserve", data, backup], check=True)
        d.start()
        self.invalidate(d, KEY)
        d.kill()
        os.rename(backup, data)
        self.starts(d, "cold", "copy")

    def test_removed_under_a_running_daemon(self):
        d = self.daemon()
        self.started_with_entries(d)
        shutil.rmtree(d.state)
        d.wait_log(r"event=place_lost")
        self.assertNotEqual(d.process.wait(bound(5)), 0)
        d.start()
        d.wait_log(r"start=cold")
        self.assertEqual(d.verdict(OTHER), "unknown")

    def test_the_child_that_reads_first_holds_no_lock(self):
        """A daemon that is killed while it starts leaves nobody who keeps the next one out."""
        d = self.stopped()
        for i in range(10):
            d.spawn()
            time.sleep(0.002 * i)  # somewhere in its start
            d.kill()
        d.start()
        self.assertEqual(d.verdict(KEY), "unknown")


class Suspend(FaultCase):
    def test_a_machine_that_slept_has_everything_purged(self):
        d = self.faulty()
        self.started_with_entries(d)
        self.assertEqual(d.verdict(KEY), "not_modified")
        self.faults("slept 60000")
        d.wait_log(r"event=everything_purged.*suspended")
        wait_until(lambda: d.check(KEY)["reason"] == "stale", 5, "everything is stale")
        # Once for each sleep.
        d.fill(KEY, '"v1"', "--surrogate", KEY)
        time.sleep(1)
        self.assertEqual(d.verdict(KEY), "not_modified")


if __name__ == "__main__":
    main()
