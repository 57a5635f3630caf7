# SPDX-License-Identifier: Apache-2.0
"""The Python package on libetag: the tables of tests/cases through it, and what threads, forks and a daemon that dies do to it."""
import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
import unittest
import zipfile
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness import BUILD, Case, beside, together, wait_until  # noqa: E402
from tables import rows, unescape  # noqa: E402

PACKAGE = os.path.join(BUILD, "integrations", "python")
if not os.path.isdir(os.path.join(PACKAGE, "etagd")):
    print("skipped: the Python package was not built (python3-cffi, python3-dev)")
    sys.exit(harness.SKIP)
sys.path.insert(0, PACKAGE)
import etagd  # noqa: E402  pylint: disable=wrong-import-position
from etagd import audit  # noqa: E402  pylint: disable=wrong-import-position

RESOURCE = etagd.Resource("example.org", "/uploads/42")
KEY = etagd.Key(RESOURCE, "customer:7")


def conditional(etag, key=KEY):
    return etagd.Request("GET", key, [("If-None-Match", etag)])


def response(etag='"v1"', surrogates=("upload:42",), fields=()):
    return etagd.Response([("ETag", etag), ("Cache-Control", "max-age=60"), *fields], surrogates=surrogates)


# ---- The tables ----


def field_lines(cell):
    fields = []
    for line in cell.split(b" | ") if cell != b"-" else []:
        name, _, value = unescape(line).partition(b":")
        fields.append((name, value))
    return fields


def judged(row):
    """The HTTP status that evaluate gives a row of preconditions*.tsv."""
    date = row["current_last_modified"]
    validators = etagd.Validators(
        etagd.Existence.EXISTS if row["base_status"] == b"200" else etagd.Existence.ABSENT,
        etag=None if row["current_etag"] == b"-" else unescape(row["current_etag"]),
        last_modified=None if date == b"-" else etagd.date_parse(unescape(date.lstrip(b"!"))),
        last_modified_is_strong=date.startswith(b"!"))
    request = etagd.Request(row["method"], None, field_lines(row["request_headers"]))
    verdict, ranges = etagd.evaluate_with_range(request, validators)
    if verdict.http_status:
        return str(verdict.http_status)
    return "206" if ranges is etagd.Range.HONOR else row["base_status"].decode()


class Tables(unittest.TestCase):
    def run_table(self, name, first_only, rows_min):
        count, wrong = 0, []
        for row in rows(name):
            allowed = row["expected_status"].decode().split("/")
            status = judged(row)
            if status not in (allowed[:1] if first_only else allowed):
                wrong.append((row["id"], status, allowed))
            count += 1
        self.assertEqual(wrong, [])
        self.assertGreaterEqual(count, rows_min)

    def test_facts(self):
        self.run_table("preconditions.tsv", False, 159)

    def test_the_rfc(self):
        self.run_table("preconditions_rfc.tsv", True, 425)


def public_key(text):
    """Of a resource as text: [//host]/path[?query]."""
    host, target = None, text
    if text.startswith(b"//"):
        host, slash, path = text[2:].partition(b"/")
        target = slash + path
    return etagd.Key(etagd.Resource(host or None, target), etagd.PUBLIC)


class Keys(Case):
    def key_of(self, row):
        scope = unescape(row["scope"])
        vary = []
        for line in row["vary"].split(b" | ") if row["vary"] != b"-" else []:
            name, colon, value = unescape(line).partition(b":")
            vary.append((name, (value[1:] if value.startswith(b" ") else value) if colon else None))
        return etagd.Key(
            etagd.Resource(None if row["host"] == b"-" else unescape(row["host"]), unescape(row["target"])),
            {b"public": etagd.PUBLIC, b"unset": None}.get(scope, scope[len(b"named:"):]),
            None if row["release"] == b"-" else unescape(row["release"]), vary,
            None if row["scheme"] == b"-" else unescape(row["scheme"]))

    def test_shadow_mode(self):
        """Nothing is answered, and a page that changed untold is noticed."""
        daemon = self.started()
        client = etagd.Client(daemon.socket, shadow=True)
        key = etagd.Key(etagd.Resource("shop.example", "/a"), etagd.PUBLIC)
        client.fill_wait(client.token(), key, response('"v1"'))
        for etag in ('"v1"', '"v2"'):
            token = client.token()
            answer = client.check(conditional('"v1"', key), token)
            self.assertEqual((answer.verdict.name, answer.reason, answer.etag), ("UNKNOWN", "shadow", None))
            client.fill(token, key, response(etag))
        status = daemon.status()
        self.assertEqual((status["clients.shadow_not_modified"], status["clients.shadow_matches"], status["clients.shadow_mismatches"]),
                         (2, 1, 1))

    def test_keys_table(self):
        """One entry a word; every key of the word finds it, and no other does; what is an error is a bad key.
        A write makes stale what its column says."""
        daemon = self.started()
        client = etagd.Client(daemon.socket)
        filled, count = set(), 0
        for row in rows("keys.tsv"):
            word, key = row["key"].decode(), self.key_of(row)
            with self.subTest(row["id"]):
                answer = client.check(conditional('"x"', key), client.token())
                if row["lookup"] == b"bad_key":
                    self.assertEqual((word, row["fill"]), ("error", b"refused"))
                    self.assertEqual(answer.reason, "bad_key")
                    with self.assertRaises(etagd.EtagError):
                        client.fill_wait(client.token(), key, response(surrogates=()))
                elif word in filled:
                    self.assertEqual(answer.etag, f'"{word}"')
                else:
                    self.assertEqual(answer.reason, "no_entry")
                    if word != "-":
                        client.fill_wait(client.token(), key, response(f'"{word}"', ()))
                        filled.add(word)
            count += 1
        self.assertGreaterEqual(count, 180)
        self.assertGreaterEqual(len(filled), 40)
        for row in rows("keys.tsv"):
            with self.subTest(row["id"]):
                self.write(client, self.key_of(row).resource, row)

    def test_families_table(self):
        """What the column says is stale after a mutation of the family."""
        client, count = etagd.Client(self.started().socket), 0
        for row in rows("families.tsv"):
            name, family = (unescape(row[column]) for column in ("key", "family"))
            with self.subTest(row["id"]):
                client.fill_wait(client.token(), KEY, response('"f"', [name]))
                if row["reached"] == b"error":
                    with self.assertRaises(etagd.Invalid):
                        client.invalidate(families=[family])
                else:
                    self.assertEqual(client.check(conditional('"f"', KEY)).reason, "match")
                    client.invalidate(families=[family])
                    self.assertEqual(client.check(conditional('"f"', KEY)).reason, {b"yes": "stale", b"no": "match"}[row["reached"]])
            count += 1
        self.assertGreaterEqual(count, 48)

    def write(self, client, named, row):
        if row["write"] == b"error":
            with self.assertRaises(etagd.Invalid):
                client.invalidate(resources=[named])
            return
        texts = [unescape(text) for text in row["write"].split(b" | ")]
        dotted = row["lookup"] == b"bad_key" and row["key"] == b"error"
        kept = [key for key in map(public_key, texts) if client.check(conditional('"x"', key)).reason != "bad_key"]
        self.assertTrue(kept or dotted)
        for key in kept:
            client.fill_wait(client.token(), key, response('"w"', ()))
        client.invalidate(resources=[named])
        for key in kept:
            self.assertEqual(client.check(conditional('"w"', key)).reason, "stale")


# ---- One client ----


class Lookups(Case):
    def setUp(self):
        super().setUp()
        self.etagd = self.started()
        self.client = etagd.Client(self.etagd.socket)
        wait_until(lambda: self.client.token() != etagd.Token(), 20, "the client has the index")

    def fill(self, *args, **kwargs):
        return self.client.fill_wait(self.client.token(), KEY, response(*args, **kwargs))

    def verdict(self, etag='"v1"', client=None):
        return (client or self.client).check(conditional(etag)).verdict

    def test_hit_carries_fields(self):
        self.fill(fields=[("Vary", ""), ("X-Not-Repeated", "x")])
        answer = self.client.check(conditional('W/"v1"'))
        self.assertEqual(answer.http_status, 304)
        self.assertEqual(answer.reason, "match")
        fields = dict(answer.fields)
        self.assertEqual(fields["ETag"], '"v1"')
        self.assertEqual(fields["Cache-Control"], "max-age=60")
        self.assertNotIn("X-Not-Repeated", fields)
        self.assertEqual(fields.get("Vary"), "", "an empty field is not an absent one")

    def test_another_scope_is_another_key(self):
        self.fill()
        other = etagd.Key(RESOURCE, "customer:8")
        self.assertEqual(self.client.check(conditional('"v1"', other)).reason, "no_entry")
        self.assertEqual(self.client.check(conditional('"v1"', etagd.Key(RESOURCE, etagd.PUBLIC))).reason, "no_entry")
        self.assertEqual(self.client.check(conditional('"v1"', etagd.Key(RESOURCE, None))).reason, "bad_key")

    def test_a_key_in_text_is_the_one_in_bytes(self):
        """A name of a key goes as UTF-8, a field's value as latin-1 where it can; text in ASCII, which is both, by a shorter way."""
        for text, field in (("plain", b"plain"), ("t\xe9", b"t\xe9"), ("\u0416", "\u0416".encode()), ("", b"")):
            with self.subTest(text):
                said = text.encode()
                in_bytes = etagd.Key(etagd.Resource(b"h.example", b"/" + said), b"u:" + said, said, [(b"X", field), (b"Y", None)], b"https")
                in_text = etagd.Key(etagd.Resource("h.example", "/" + text), "u:" + text, text, [("X", text), ("Y", None)], "https")
                self.client.fill_wait(self.client.token(), in_bytes, response())
                for key in (in_text, in_bytes, etagd.Key(in_text.resource, in_text.scope, said, in_bytes.vary, "https")):
                    self.assertEqual(self.client.check(conditional('"v1"', key)).reason, "match")

    def test_finish_fills_and_judges(self):
        request = conditional('"v1"')
        answer = self.client.check(request, self.client.token())
        self.assertEqual(answer.verdict, etagd.Verdict.UNKNOWN)
        status, ending = self.client.finish(request, response(), answer)
        self.assertEqual((status, ending.etag), (304, '"v1"'))
        wait_until(lambda: self.verdict() is etagd.Verdict.NOT_MODIFIED, 10, "the fill")
        status, _ = self.client.finish(conditional('"v2"'), response(), answer)
        self.assertEqual(status, 200)

    def test_old_token_does_not_bring_old_data_back(self):
        token = self.client.token()
        self.client.invalidate(surrogates=["upload:42"])
        with self.assertRaises(etagd.Refused) as refused:
            self.client.fill_wait(token, KEY, response())
        self.assertEqual(refused.exception.reason, "token_stale")

    def test_refusals_mirror_libetag(self):
        with self.assertRaises(etagd.Refused) as refused:
            self.fill(fields=[("Set-Cookie", "a=b")])
        self.assertEqual(refused.exception.reason, "set_cookie")
        with self.assertRaises(etagd.Invalid):
            self.client.invalidate()
        for reach in ("log", "everywhere"):
            with self.assertRaisesRegex(etagd.Invalid, "works without a relay"):
                self.client.invalidate(surrogates=["upload:42"], reach=reach)
        self.assertGreater(self.client.invalidate(surrogates=["upload:42"], reach="host", position=7), 0)
        with self.assertRaisesRegex(ValueError, "allowed are host, log, everywhere"):
            self.client.invalidate(surrogates=["upload:42"], reach="galaxy")
        with self.assertRaises(etagd.Invalid):
            self.client.check(etagd.Request("GET", KEY, [("X", "y")] * 300))

    def test_a_date_alone_is_a_304_only_where_it_is_strong(self):
        date = "Sun, 06 Nov 1994 08:49:37 GMT"
        asked = etagd.Request("GET", KEY, [("If-Modified-Since", date)])
        dated = [("ETag", '"v2"'), ("Last-Modified", date)]
        for strong, verdict, reason in ((False, "PROCEED", "date_weak"), (True, "NOT_MODIFIED", "not_modified_since")):
            with self.subTest(strong=strong):
                self.client.fill_wait(self.client.token(), KEY, etagd.Response(dated, surrogates=["upload:42"], last_modified_is_strong=strong))
                answer = self.client.check(asked)
                self.assertEqual((answer.verdict.name, answer.reason), (verdict, reason))
                said = self.client.finish(asked, etagd.Response(dated, last_modified_is_strong=strong), answer)[0]
                self.assertEqual(said, 304 if strong else 200)
                # The state carries it.
                shown = self.etagd.ctl("get", "--scope", KEY.scope, "//example.org/uploads/42")
                self.assertEqual(shown["last_modified_is_strong"], strong)

    def test_invalidate_by_each_target(self):
        for targets in ({"resources": [RESOURCE]}, {"surrogates": ["upload:42"]}, {"everything": True},
                        {"prefixes": [etagd.Resource("example.org", "/uploads/")]}, {"families": ["upload"]}, {"families": [b"upload:*"]}):
            with self.subTest(targets):
                self.fill()
                self.assertEqual(self.verdict(), etagd.Verdict.NOT_MODIFIED)
                self.assertGreater(self.client.invalidate(**targets), 0)
                self.assertEqual(self.client.check(conditional('"v1"')).reason, "stale")

    def test_a_guard_on_a_family(self):
        self.fill()
        with self.client.guard(families=["upload"]):
            self.assertEqual(self.client.check(conditional('"v1"')).reason, "in_flux")
        self.assertEqual(self.client.check(conditional('"v1"')).reason, "stale")

    def test_a_name_is_no_list_of_names(self):
        for targets in ({"families": "upload"}, {"surrogates": "upload:42"}, {"families": b"upload"}):
            with self.subTest(targets), self.assertRaisesRegex(TypeError, "a list of names"):
                self.client.invalidate(**targets)

    def test_surrogate_keys_of_any_length_number_and_script(self):
        many = [f"post:{i}" for i in range(300)]
        for surrogates, fields, changed in ((["tarif:été"], (), "tarif:été"), (["x" * 300], (), "x" * 300), (many, (), many[299]),
                                            ((), [("Surrogate-Key", "a, b"), ("xkey", "c,d")], "b"), ((), [("X-Magento-Tags", "c,d")], "c,d")):
            with self.subTest(changed[:20]):
                self.client.fill_wait(self.client.token(), KEY, etagd.Response(fields, etag='"v1"', surrogates=surrogates))
                self.assertEqual(self.verdict(), etagd.Verdict.NOT_MODIFIED)
                with self.client.guard(surrogates=[changed]):
                    self.assertEqual(self.client.check(conditional('"v1"')).reason, "in_flux")
                self.assertEqual(self.client.check(conditional('"v1"')).reason, "stale")
                self.client.fill_wait(self.client.token(), KEY, etagd.Response(fields, etag='"v1"', surrogates=surrogates))
                self.client.invalidate(surrogates=[changed])
                self.assertEqual(self.client.check(conditional('"v1"')).reason, "stale")

    def test_a_name_in_a_field_is_the_name_that_is_invalidated_whatever_its_bytes(self):
        """A str in a field goes as latin-1 where it can, one among surrogates as UTF-8."""
        for value in ("a tarif:\xe9t\xe9", "a,tarif:\xe9t\xe9", "a tarif:\xe9t\xe9".encode().decode("latin-1"), "a tarif:\xe9t\xe9".encode()):
            for name in ("tarif:\xe9t\xe9", b"tarif:\xe9t\xe9", "a"):
                with self.subTest(value=value, name=name):
                    self.client.fill_wait(self.client.token(), KEY, etagd.Response([("Surrogate-Key", value)], etag='"v1"'))
                    self.assertEqual(self.verdict(), etagd.Verdict.NOT_MODIFIED)
                    self.client.invalidate(surrogates=[name])
                    self.assertEqual(self.client.check(conditional('"v1"')).reason, "stale")

    def test_guard(self):
        self.fill()
        with self.client.guard(surrogates=["upload:42"]) as guard:
            self.assertEqual(self.client.check(conditional('"v1"')).reason, "in_flux")
            guard.confirm()
            self.assertGreater(guard.time_left_ms, 0)
        self.assertFalse(guard.is_open)
        self.assertEqual(self.client.check(conditional('"v1"')).reason, "stale")

    def test_guard_lingers_with_an_exception_after_its_confirmation(self):
        """COMMIT was done, and its answer was lost."""
        self.fill()
        with self.assertRaises(ConnectionResetError):
            with self.client.guard(surrogates=["upload:42"]) as guard:
                guard.confirm()
                raise ConnectionResetError
        self.assertFalse(guard.is_open)
        self.assertEqual(self.client.check(conditional('"v1"')).reason, "in_flux")

        self.client.invalidate(surrogates=["upload:43"])
        with self.assertRaises(ConnectionResetError):
            with self.client.guard(surrogates=["upload:43"]) as guard:
                guard.confirm()
                guard.abort()  # ROLLBACK is known
                raise ConnectionResetError

    def test_guard_aborts_with_an_exception(self):
        self.fill()
        with self.assertRaises(ZeroDivisionError):
            with self.client.guard(surrogates=["upload:42"]):
                raise ZeroDivisionError
        self.assertEqual(self.verdict(), etagd.Verdict.NOT_MODIFIED)

    def test_guard_belongs_to_its_thread(self):
        guard = self.client.guard(surrogates=["upload:42"])
        caught = []

        def elsewhere():
            try:
                guard.commit()
            except etagd.Invalid as error:
                caught.append(error)

        together(elsewhere)
        self.assertEqual(len(caught), 1)
        guard.abort()

    def test_hash(self):
        self.assertEqual(self.client.hash(b"abc"), '"ungWv48Bz-pBQUDeXa4iIw"')
        self.assertEqual(self.client.hash(b"abc", weak=True), 'W/"ungWv48Bz-pBQUDeXa4iIw"')
        self.assertEqual(etagd.variant('"x"', "gzip"), '"x-gzip"')

    def test_asyncio(self):
        self.fill()

        async def main():
            client = etagd.Client(self.etagd.socket)  # opened inside the loop: it does not wait for the hello
            began = time.monotonic()
            while client.check(conditional('"v1"')).verdict is not etagd.Verdict.NOT_MODIFIED:
                self.assertLess(time.monotonic() - began, harness.bound(10))
                await asyncio.sleep(0.01)
            await client.ainvalidate(surrogates=["upload:42"])
            return client.check(conditional('"v1"')).reason

        self.assertEqual(asyncio.run(main()), "stale")

    def test_a_thread_does_not_take_the_loops_connection(self):
        """A new one, which does not wait for its hello there, would know no index."""
        self.fill()

        async def reason_of(client, thread):
            loop = asyncio.get_running_loop()
            while client.check(conditional('"v1"')).verdict is not etagd.Verdict.NOT_MODIFIED:
                await asyncio.sleep(0.01)
            guard = await loop.run_in_executor(thread, lambda: client.guard(surrogates=["elsewhere"]))
            reason = client.check(conditional('"v1"')).reason
            await loop.run_in_executor(thread, guard.abort)
            return reason

        async def main(thread):  # ten times, since a hello may come in time
            return {await reason_of(etagd.Client(self.etagd.socket), thread) for _ in range(10)}

        with ThreadPoolExecutor(1) as thread:
            self.assertEqual(asyncio.run(asyncio.wait_for(main(thread), harness.bound(20))), {"match"})

    # ---- Threads, forks ----

    def test_threads_read_at_once(self):
        self.fill()
        verdicts, stop = set(), threading.Event()

        def reader():
            while not stop.is_set():
                verdicts.add(self.verdict())
                verdicts.add(self.verdict('"other"'))

        both = {etagd.Verdict.NOT_MODIFIED, etagd.Verdict.PROCEED}
        with beside(*[reader] * 6, stop=stop):
            wait_until(lambda: both <= verdicts, 10, "both verdicts")
        # A daemon that comes too late to renew its lease has nothing known meanwhile.
        self.assertLessEqual(verdicts, both | {etagd.Verdict.UNKNOWN})

    def test_threads_share_connections(self):
        """Those that came and went, and those that are there, as an executor's: they called one after the other."""
        before, gate = harness.descriptors(os.getpid()), threading.Event()
        threads = []

        def call():
            self.client.token()
            called.set()
            gate.wait()

        for _ in range(40):
            called = threading.Event()
            threads.append(threading.Thread(target=call))
            threads[-1].start()
            called.wait()
        opened = harness.descriptors(os.getpid()) - before
        gate.set()
        for thread in threads:
            thread.join()
        self.assertLessEqual(opened, 4, "one connection, not forty")

    def test_what_a_crowd_opened_is_closed(self):
        before = harness.descriptors(os.getpid())
        guards = [self.client.guard(surrogates=[f"upload:{number}"]) for number in range(30)]
        # One of them took the connection that setUp() opened.
        self.assertGreaterEqual(harness.descriptors(os.getpid()) - before, 29, "a guard has a connection of its own")
        self.assertNotEqual(self.client.token(), etagd.Token())
        for guard in guards:
            guard.confirm()
            guard.commit()
        kept = 4 * 10  # IDLE_MAX clients of up to four descriptors, and what the token opened
        self.assertLessEqual(harness.descriptors(os.getpid()) - before, kept)
        one = self.client.guard(surrogates=["upload:42"])
        self.client.close()
        one.abort()
        wait_until(lambda: harness.descriptors(os.getpid()) <= before + 1, 10, "all of them are closed")

    def in_child(self, work):
        """Runs work() in a forked child; it must return True."""
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(0 if work() else 1)
            except BaseException as error:  # pylint: disable=broad-except
                os.write(2, repr(error).encode())
                os._exit(2)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def test_fork_goes_on_in_parent_and_child(self):
        self.fill()
        self.assertEqual(self.verdict(), etagd.Verdict.NOT_MODIFIED)

        def child():
            known = self.verdict() is etagd.Verdict.NOT_MODIFIED
            return known and self.client.invalidate(surrogates=["upload:42"]) > 0

        self.assertEqual(self.in_child(child), 0)
        self.assertEqual(self.client.check(conditional('"v1"')).reason, "stale")
        self.fill('"v2"')
        self.assertEqual(self.verdict('"v2"'), etagd.Verdict.NOT_MODIFIED)

    def test_fork_while_other_threads_are_in_calls(self):
        self.fill()
        stop = threading.Event()

        def busy():
            while not stop.is_set():
                self.client.check(conditional('"v1"'))
                self.client.hash(b"x" * 10000)

        with beside(*[busy] * 3, stop=stop):
            for _ in range(20):
                self.assertEqual(self.in_child(lambda: bool(self.client.invalidate(surrogates=["a"]))), 0)

    def test_guard_of_the_parent_is_dead_in_the_child(self):
        guard = self.client.guard(surrogates=["upload:42"])

        def child():
            try:
                guard.confirm()
            except etagd.Invalid:
                return True
            return False

        self.assertEqual(self.in_child(child), 0)
        guard.confirm()
        guard.commit()

    # ---- The daemon ----

    def test_daemon_away_and_back(self):
        self.fill()
        self.etagd.ctl("sync")  # fills are persisted lazily
        self.etagd.kill()
        wait_until(lambda: self.client.check(conditional('"v1"')).reason == "no_lease", 10, "the lease's end")
        self.assertEqual(self.client.invalidate(surrogates=["upload:7"]), 0, "through the spool")
        with self.assertRaises(etagd.Unavailable):
            etagd.Client(self.etagd.socket, spool=False, timeout_ms=300).invalidate(surrogates=["a"])
        self.etagd.fresh = False
        self.etagd.start()
        wait_until(lambda: self.verdict() is etagd.Verdict.NOT_MODIFIED, 20, "a check that reconnects by itself")

    def test_no_daemon_at_all(self):
        client = etagd.Client(os.path.join(self.directory, "nobody.sock"))
        self.assertEqual(client.token(), etagd.Token())
        self.assertEqual(client.check(conditional('"v1"')).reason, "no_index")
        with self.assertRaises(etagd.Unavailable):
            client.connect()


class Audit(unittest.TestCase):
    def test_a_hook_hears_its_events_and_no_others(self):
        heard, refused = [], []

        def refuse(*event):
            refused.append(event)
            raise ValueError("refused")

        for hook, events in ((lambda *event: heard.append(event), ["etagd.test.heard", "etagd.test.more"]), (refuse, ["etagd.test.refused"])):
            self.assertTrue(audit.watch(hook, events), "by CPython it can be asked for these alone")
        sys.audit("etagd.test.heard", 1, "b")
        sys.audit("etagd.test.more")
        for other in ("etagd.test", "etagd.test.heard.not", "etagd.audit"):
            sys.audit(other, "no number")
        self.assertEqual(heard, [("etagd.test.heard", (1, "b")), ("etagd.test.more", ())])
        self.assertRaises(ValueError, sys.audit, "etagd.test.refused", None)
        self.assertEqual(refused, [("etagd.test.refused", (None,))])


class Packaging(Case):
    def test_wheel(self):
        """python3 -m build from the sources alone, against the header and the library of this build."""
        root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
        sources = os.path.join(self.directory, "python")
        shutil.copytree(os.path.join(root, "integrations", "python"), sources)
        environment = dict(os.environ, C_INCLUDE_PATH=os.path.abspath(os.path.join(root, "include")),
                           LIBRARY_PATH=os.path.abspath(os.path.join(BUILD, "libclient")))
        if subprocess.run([sys.executable, "-c", "import build, wheel"], check=False, capture_output=True).returncode:
            self.skipTest("python3-build or python3-wheel is missing")
        done = subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--wheel"], cwd=sources, env=environment,
                              capture_output=True, text=True, timeout=harness.bound(120), check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        wheel, = os.listdir(os.path.join(sources, "dist"))
        names = zipfile.ZipFile(os.path.join(sources, "dist", wheel)).namelist()
        for name in ("etagd/__init__.py", "etagd/py.typed", "etagd/_etag.pyi"):
            self.assertIn(name, names)
        self.assertTrue(any(name.startswith("etagd/_etag.") and name.endswith(".so") for name in names), names)


if __name__ == "__main__":
    harness.main()
