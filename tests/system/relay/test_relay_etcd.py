# SPDX-License-Identifier: Apache-2.0
"""The engine on etcd: a cluster of three whose members are killed and stopped, history that is lost, servers that are no etcd."""
import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import time

from relay_db import Failed, LEAVING, MEMBER, NONCE, OTHER, RELAY
from relay_etcd import Cluster, OfCluster, Engine, Fake, ETCDCTL, b64
from harness import Case, main, wait_until

HEADER = {"cluster_id": "7", "member_id": "1", "revision": "9", "raft_term": "2"}
SETTING = "version=1 lease_ms=2000 wait_ms=2550"


class Shared(OfCluster):
    """Each test has a prefix of its own."""

    def setUp(self):
        super().setUp()
        self.prefix = self.cluster.set_up(f"t{time.monotonic_ns()}/")

    def engine(self, host="a", nonce=NONCE, endpoints=None, **more):
        made = Engine(endpoints or self.cluster.endpoints(), self.prefix, host, nonce, **more)
        self.addCleanup(made.close)
        return made

    def joined(self, host="a", nonce=NONCE, **more):
        made = self.engine(host, nonce, **more)
        self.assertEqual(made.do("join")["member"], MEMBER)
        return made

    def names(self, answer):
        return sorted(itertools.chain(*answer["rows"].values()))


class Operations(Shared):
    def test_a_poll_brings_what_the_cursor_has_not_and_once(self):
        a, b = self.joined(), self.joined("b", OTHER)
        seen = b.poll()
        self.assertEqual((seen["rows"], seen["member"], seen["asked"]), ({}, MEMBER, "1"))
        first = int(a.do("publish hold=7 upload:1 /x prefix:/m/")["position"])
        second = int(a.do("publish everything")["position"])
        answer = b.poll(seen["snapshot"])
        self.assertEqual(answer["rows"], {first: ["upload:1", ">/x", "prefix:>/m/", "hold=7"], second: ["everything"]})
        self.assertEqual((answer["asked"], answer["cut"], answer["unassigned"]), ("0", "0", answer["snapshot"]))
        self.assertGreater(int(answer["snapshot"]), second)
        self.assertEqual(b.poll(answer["snapshot"])["rows"], {})
        self.assertEqual(sorted(self.engine("c").poll(seen["snapshot"])["rows"]), [first, second], "whoever asks with an older cursor")

    def test_rows_ask_and_who_only_asks_names_nothing(self):
        a = self.joined()
        seen = a.poll()["snapshot"]
        a.do("ask")
        answer = a.poll(seen)
        self.assertEqual((answer["rows"], answer["asked"]), ({}, "1"))
        seen = answer["snapshot"]
        a.do("publish ask k")
        self.assertEqual((self.names(a.poll(seen)), a.poll(seen)["asked"]), (["k"], "1"))
        with self.assertRaisesRegex(Failed, "refused.*no target"):
            a.do("publish")

    def test_a_position_is_looked_at_before_it_is_believed(self):
        a = self.joined()
        seen = a.poll()["snapshot"]
        position = int(a.do("publish k")["position"])
        a.do("leave nobody")  # a revision, or none, but no row
        for unknown in (position + 1, position + 1000, 1):
            self.assertIn("missing", a.do(f"ask {unknown}"))
        self.assertEqual(a.poll(seen)["asked"], "0", "nobody is asked")
        self.assertNotIn("missing", a.do(f"ask {position} look"))
        self.assertEqual(a.poll(seen)["asked"], "0", "it only looked")
        self.assertNotIn("missing", a.do(f"ask {position}"))
        self.assertEqual(a.poll(seen)["asked"], "1")

    def test_a_mutation_of_many_names(self):
        a = self.joined()
        seen = a.poll()["snapshot"]
        names = [f"{i:04}{'x' * 150}" for i in range(1500)]  # 29 rows
        a.do("publish " + " ".join(names))
        self.assertEqual(self.names(a.poll(seen)), names)

    def test_who_writes_wakes_the_others(self):
        a, b = self.joined(), self.joined("b", OTHER)

        def wakes():
            a.do("publish k")
            a.do("wake")
            return b.do("woken 300")["woken"] == "1"
        wait_until(wakes, 20, "the watch is open, and brings it")
        b.do("woken 100")
        self.assertEqual(b.do("woken 100")["woken"], "0")
        a.do("join")
        self.assertEqual(b.do("woken 100")["woken"], "0", "other keys wake nobody")

    def test_members_and_what_they_acknowledged(self):
        self.cluster.set_up(self.prefix, 100, 175)  # so that the witness is soon as old as the wait
        a, b = self.joined(), self.joined("b", OTHER)
        seen = b.poll()
        answer = a.do("members")
        self.assertEqual((answer["hosts"], answer["wait"], answer["cut"]), ("a/1/0/0|b/1/0/0|", "175", "0"))
        b.do(f"acknowledge {seen['witness']} {seen['snapshot']}")
        wait_until(lambda: "witness" in a.do("members"), 20, "the witness is older than the wait")
        self.assertEqual(a.do("members")["hosts"], f"a/1/0/0|b/1/1/{seen['snapshot']}|")
        self.assertEqual(a.do("members")["witness"], seen["witness"])
        self.assertEqual(self.engine("b").do("join")["foreign"], "1")
        self.cluster.put(self.prefix + "host/b", f"nonce={NONCE} state=member")
        self.assertEqual(a.do("members")["hosts"], "a/1/0/0|b/1/0/0|", "of another registration")

    def test_a_young_witness_proves_nothing(self):
        """A host whose row a restored backup does not have may hold the rest of a lease."""
        a = self.joined()
        self.assertIn("witness", a.poll())
        self.assertNotIn("witness", a.do("members"))

    def test_two_hosts_of_one_name_and_leaving(self):
        a = self.joined()
        twin = self.engine(nonce=OTHER)
        said = twin.do("join")
        self.assertEqual((said["foreign"], said["nonce"]), ("1", NONCE))
        self.assertEqual(twin.poll()["member"], "0")
        self.assertEqual(twin.do("leave nobody")["found"], "0")
        self.assertEqual(twin.do("leave a")["nonce"], NONCE)
        self.assertEqual(a.poll()["member"], LEAVING)
        self.assertEqual(twin.do("leave a")["nonce"], NONCE, "once more")
        self.assertEqual(twin.do(f"gone a {OTHER}")["found"], "0")
        self.assertEqual(twin.do(f"gone a {NONCE}")["found"], "1")
        self.assertEqual(a.poll()["member"], "0")
        self.assertEqual(twin.do("join")["foreign"], "0")
        a.do("leave a")
        self.assertEqual(twin.do("join")["member"], MEMBER, "it joins again while it is leaving")
        self.assertEqual(twin.do(f"gone a {OTHER}")["found"], "0")

    def test_trimming_moves_trimmed_with_the_rows(self):
        a = self.joined()
        before = a.poll()["snapshot"]
        a.do("publish old")
        after = a.poll()["snapshot"]
        wait_until(lambda: a.do("trim 1000") and self.cluster.count(self.prefix + "mark/") == 1, 20, "the epoch ends")
        a.do("publish new")
        wait_until(lambda: a.do("trim 1000")["removed"] == "1", 20, "old goes, new stays")
        answer = a.poll(after)
        self.assertGreaterEqual(int(answer["trimmed"]), int(before))
        self.assertEqual(self.names(a.poll(answer["snapshot"])), [])
        self.assertEqual(self.names(a.poll(before)), ["new"])
        self.assertLess(int(answer["trimmed"]), int(answer["snapshot"]))
        self.assertEqual(a.do("trim 1000")["removed"], "0")

    def test_a_row_is_found_whichever_epoch_it_is_in(self):
        """An epoch of 1024 rows ends with the next one; polls then read from the new one on."""
        a, b, late = self.joined(), self.joined("b", OTHER), self.joined("late")
        oldest = b.poll()["snapshot"]
        for part in range(0, 1100, 100):
            self.cluster.ask("kv/txn", {"success": [{"request_put": {"key": b64(f"{self.prefix}outbox/{0:016x}/x-{i}"), "value": b64(b"\0\1s\0\1x")}}
                                                    for i in range(part, part + 100)]})
        seen = b.poll()["snapshot"]
        published = [int(a.do(f"publish k{i}")["position"]) for i in range(3)]
        self.assertEqual(self.cluster.count(self.prefix + "mark/"), 1)
        self.assertEqual(self.cluster.count(f"{self.prefix}outbox/{published[1]:016x}/"), 1, "the third is in an epoch called after the second")
        self.assertEqual(self.names(b.poll(seen)), ["k0", "k1", "k2"])
        self.assertEqual(len(b.poll(oldest)["rows"]), 11 + 3)
        seen = b.poll(seen)["snapshot"]
        late.do("publish k3")  # believes in the former epoch
        self.assertEqual(self.names(b.poll(seen)), ["k3"])
        self.assertEqual(self.cluster.count(f"{self.prefix}outbox/{published[1]:016x}/"), 2)

    def test_more_than_it_takes_is_said_and_not_half_given(self):
        a = self.joined()
        for count, content in ((4097, b"\0\1s\0\1x"), (100, b"\0\1" + b"s\x0f\xff" + b"x" * 4095), (400, b"\0\1" + b"s\x1f\xf0" + b"x" * 8176)):
            seen = a.poll()["snapshot"]
            for part in range(0, count, 100):
                self.cluster.ask("kv/txn", {"success": [{"request_put": {"key": b64(f"{self.prefix}outbox/{0:016x}/{count}-{i}"), "value": b64(content)}}
                                                        for i in range(part, min(part + 100, count))]})
            answer = a.poll(seen)
            self.assertEqual((answer["cut"], answer["rows"], answer["asked"]), ("1", {}, "1"), count)
            self.assertEqual(a.poll(answer["snapshot"])["cut"], "0")
            self.cluster.delete(self.prefix + "outbox/")

    def test_rows_that_no_release_wrote_are_unreadable_and_harm_nobody(self):
        a = self.joined()
        for content in (b"", b"\2\1s\0\1a", b"\0", b"\0\0", b"\0\1s\0\5abcd", b"\1\1r\0\1x", b"\0\1" * 3000, os.urandom(200) + b"\xff"):
            with self.subTest(content=content[:20]):
                seen = a.poll()["snapshot"]
                self.cluster.put(f"{self.prefix}outbox/{0:016x}/z", content)
                answer = a.poll(seen)
                self.assertEqual((list(answer["rows"].values()), answer["cut"]), ([["unreadable"]], "0"))

    def test_an_answer_that_is_lost_makes_no_second_event(self):
        """A member does what it is told and dies before it says so: the next one is told the same. (libcurl sends once more by itself, too.)"""
        lost = []

        def answer(path, body, number):
            real = self.cluster.ask("kv/txn", json.loads(body))
            if b"request_put" in body or b"request_delete_range" in body:
                lost.append(int(real["header"]["revision"]))
                return None
            return 200, json.dumps(real).encode()
        fake = Fake(answer)
        self.addCleanup(fake.end)
        nonce = "00" * 16  # the fake one is the first
        a = self.engine("a", nonce, endpoints=f"{fake.url},{self.cluster.members[0].client}")
        self.assertEqual(a.do("join")["foreign"], "0")
        a.do("open")
        seen = a.poll()["snapshot"]
        position = int(a.do("publish k")["position"])
        self.assertEqual(position, lost[-1], "it is where the first member put it")
        self.assertEqual(a.poll(seen)["rows"], {position: ["k"]})
        a.do("open")
        self.assertEqual(a.do("leave a")["found"], "1")
        a.do("open")
        self.assertEqual(a.do(f"gone a {nonce}")["found"], "1")
        self.assertGreaterEqual(len(lost), 4)

    def test_compaction_takes_nothing(self):
        a = self.joined()
        seen = a.poll()["snapshot"]
        a.do("publish k")
        self.cluster.put("other", "x")
        self.cluster.compact()
        answer = a.poll(seen)
        self.assertEqual((self.names(answer), answer["cut"], "witness" in answer), (["k"], "0", True))

    def test_keys_that_somebody_wrote_over(self):
        a = self.joined()
        seen = a.poll()["snapshot"]
        self.cluster.put(self.prefix + "trimmed", "nonsense")
        answer = a.poll(seen)
        self.assertGreaterEqual(int(answer["trimmed"]), int(seen), "no cursor from before is good enough")
        self.cluster.put(self.prefix + "host/a", "nonsense")
        self.assertEqual(a.poll()["member"], "0")
        self.assertEqual(a.do("members")["hosts"], "a/1/0/0|", "waited for by time")
        self.cluster.put(self.prefix + "witness", "nonsense")
        self.assertNotIn("witness", a.poll())
        a.do("join")
        self.assertEqual((a.poll()["member"], "witness" in a.poll()), (MEMBER, True))
        self.cluster.put(self.prefix + "setting", "nonsense")
        with self.assertRaisesRegex(Failed, "failed.*setting is not of etag-relay"):
            a.poll()


class Members(Shared):
    """Of the cluster: one killed, one that stands still, two."""

    def tearDown(self):
        for member in self.cluster.members:
            if member.process is None:
                member.start()
            member.signal(signal.SIGCONT)
        wait_until(self.cluster.healthy, 60, "all are back")
        super().tearDown()

    def test_one_that_is_killed_is_passed_over(self):
        for victim in (0, 1, 2):
            a = self.joined(f"h{victim}")
            seen = a.poll()["snapshot"]
            self.cluster.members[victim].end()
            # With the leader gone there is none for a moment: what fails is asked again, as the relay does.
            wait_until(lambda a=a: self.tries(a, "publish k"), 40, "somebody takes it")
            self.assertIn("k", self.names(self.polled(a, seen)))
            self.cluster.members[victim].start()
            wait_until(self.cluster.healthy, 60, "it is back")

    def tries(self, engine, line):
        try:
            engine.do(line)
            return True
        except Failed:
            return False

    def polled(self, engine, cursor):
        wait_until(lambda: self.tries(engine, f"poll {cursor}"), 40, "an answer")
        return engine.poll(cursor)

    def test_one_that_stands_still_is_left_within_the_lease(self):
        victim = next(m for m in self.cluster.members if m is not self.cluster.leader())
        self.cluster.set_up(self.prefix, 20000, 25050)  # not the subject: two fifths of it are the patience with one
        engines = [self.joined(f"h{i}", f"{i:032x}") for i in range(3)]  # at least one of them asks it
        for engine in engines:
            engine.poll()
        victim.signal(signal.SIGSTOP)
        for engine in engines:
            self.assertEqual(engine.poll()["member"], MEMBER)

    def test_without_a_majority_nobody_answers(self):
        a = self.joined()
        for victim in self.cluster.members[:2]:
            victim.signal(signal.SIGSTOP)
        with self.assertRaisesRegex(Failed, "failed.*none answers"):
            a.poll()
        for victim in self.cluster.members[:2]:
            victim.signal(signal.SIGCONT)
        wait_until(lambda: self.tries(a, "poll"), 40, "they are back")


class Loss(Case):
    """History that is lost, in clusters of one."""

    def cluster(self, **options):
        made = Cluster(1, **options).begin()
        self.addCleanup(made.end)
        made.set_up("etagd/")
        return made

    def joined(self, cluster, host="a", nonce=NONCE):
        made = Engine(cluster.endpoints(), "etagd/", host, nonce)
        self.addCleanup(made.close)
        made.do("join")
        return made

    def restored(self, cluster, token=None):
        """From the backup, on the same address."""
        member = cluster.members[0]
        member.end()
        shutil.rmtree(member.data)
        cluster.token = token or cluster.token
        subprocess.run([ETCDCTL, "snapshot", "restore", os.path.join(cluster.directory, "backup"), "--name", member.name, "--data-dir", member.data,
                        "--initial-cluster", cluster.initial(), "--initial-cluster-token", cluster.token, "--initial-advertise-peer-urls", member.peer],
                       check=True, capture_output=True, env={**os.environ, "ETCDCTL_API": "3"})
        cluster.begin()

    def backup(self, cluster):
        cluster.ctl("snapshot", "save", os.path.join(cluster.directory, "backup"))

    def elected_again(self, cluster):
        """Another term of the raft: a member of one elects itself when it starts."""
        cluster.members[0].end()
        cluster.begin()

    def test_a_backup_under_another_token_is_another_cluster(self):
        cluster = self.cluster()
        a = self.joined(cluster)
        seen = a.poll()
        self.backup(cluster)
        self.restored(cluster, "another")
        b = self.joined(cluster, "b", OTHER)
        answer = b.poll(seen["snapshot"])
        self.assertNotEqual(answer["system"], seen["system"])
        self.assertNotEqual(answer["witness"], seen["witness"])

    def test_a_backup_under_the_same_token_has_fewer_elections(self):
        """The same cluster id, and the revision may be beyond each cursor by the time of the next poll: the term is not."""
        cluster = self.cluster()
        self.elected_again(cluster)
        a = self.joined(cluster)
        seen = a.poll()
        self.backup(cluster)
        a.do("publish lost")
        self.restored(cluster)
        for _ in range(5):
            cluster.put("other", "x")
        with Closing(Engine(cluster.endpoints(), "etagd/", "b", OTHER)) as b:
            answer = b.poll(seen["snapshot"])
            self.assertEqual(answer["system"], seen["system"])
            self.assertGreater(int(answer["snapshot"]), int(seen["snapshot"]))
            self.assertNotIn("witness", answer)
            b.do("join")
            self.assertNotIn(b.poll()["witness"], ("", seen["witness"]))
            self.assertEqual(cluster.count("etagd/outbox/"), 0)

    def test_the_term_of_the_witness_rises(self):
        cluster = self.cluster()
        self.joined(cluster)
        before = cluster.get("etagd/witness")
        self.elected_again(cluster)
        a = self.joined(cluster)
        self.assertEqual(cluster.get("etagd/witness"), before, "an election alone changes nothing")
        a.do("trim 3600000")
        after = cluster.get("etagd/witness")
        self.assertEqual(after.split()[:2], before.split()[:2])
        self.assertGreater(after.split()[2], before.split()[2])

    def test_who_has_seen_more_tells_all(self):
        """The same cluster id and term: only a host whose cursor is beyond what is there can know."""
        cluster = self.cluster()
        a, b = self.joined(cluster), self.joined(cluster, "b", OTHER)
        self.backup(cluster)
        seen = b.poll()
        a.do("publish lost")
        beyond = a.poll()
        self.restored(cluster)
        b = self.joined(cluster, "b", OTHER)
        self.assertEqual(b.poll(seen["snapshot"])["witness"], seen["witness"], "it has missed nothing, as far as it can know")
        a = self.joined(cluster)
        answer = a.poll(beyond["snapshot"])
        self.assertLess(int(answer["snapshot"]), int(beyond["snapshot"]))
        a.do("join")
        self.assertNotEqual(b.poll(seen["snapshot"])["witness"], seen["witness"])

    def test_setup_says_that_it_was_restored(self):
        cluster = self.cluster()
        a = self.joined(cluster)
        seen = a.poll()
        done = subprocess.run([RELAY, "--engine", "etcd", "--endpoints", cluster.endpoints(), "setup", "--restored"], capture_output=True, text=True, check=True)
        self.assertIn("all hosts purge everything", done.stdout)
        self.assertNotIn("witness", a.poll(seen["snapshot"]))
        a.do("join")
        self.assertNotEqual(a.poll()["witness"], seen["witness"])


class Closing:
    def __init__(self, engine):
        self.engine = engine

    def __enter__(self):
        return self.engine

    def __exit__(self, *_):
        self.engine.close()


class Strangers(Case):
    """Servers that are no etcd, or a broken one: a sentence that says so, and nothing else."""

    def fake(self, answer):
        made = Fake(answer)
        self.addCleanup(made.end)
        return made

    def fails(self, answer, *words, **more):
        fake = self.fake(answer)
        with self.assertRaises(Failed) as failed:
            Engine(fake.url, "etagd/", **more)
        for word in words:
            self.assertIn(word, str(failed.exception))
        return fake

    def good(self, **changes):
        kv = {"key": b64("etagd/setting"), "create_revision": "2", "mod_revision": "2", "version": "1", "value": b64(SETTING)}
        return {"header": HEADER, "succeeded": True, "responses": [{"response_range": {"header": {}, "kvs": [{**kv, **changes}], "count": "1"}}]}

    def test_what_no_etcd_answers(self):
        good = json.dumps(self.good()).encode()
        for content, words in (
                (b"", "no JSON object"), (b"hello", "no JSON object"), (good[:-1], "no JSON object"), (good + b"x", "no JSON object"), (b"[]", "no JSON object"),
                (b"{}", "no header"), (b'{"header": 3}', "no header"), (b'{"a":' * 5000 + b"1" + b"}" * 5000, "no JSON object"),
                (b"[" * 100000, "no JSON object"), (json.dumps({**self.good(), "header": {}}).encode(), "no cluster"),
                (json.dumps({**self.good(), "header": {**HEADER, "revision": "-3"}}).encode(), "a number is none"),
                (json.dumps({**self.good(), "header": {**HEADER, "revision": "99999999999999999999999"}}).encode(), "a number is none"),
                (json.dumps({**self.good(), "header": {**HEADER, "revision": "9223372036854775807"}}).encode(), "no revision"),
                (json.dumps({**self.good(), "responses": {}}).encode(), "a list is none"),
                (json.dumps({**self.good(), "responses": [3]}).encode(), "not of one operation"),
                (json.dumps({**self.good(), "responses": [{}] * 500}).encode(), "more results than operations"),
                (json.dumps({**self.good(), "succeeded": "yes"}).encode(), "a flag"),
                (json.dumps(self.good(value=17)).encode(), "no text"), (json.dumps(self.good(value="****")).encode(), "no base64"),
                (json.dumps(self.good(value="QUI")).encode(), "no base64"), (json.dumps(self.good(mod_revision="0")).encode(), "no revision"),
                (json.dumps(self.good(mod_revision=[])).encode(), "a number is none")):
            with self.subTest(words=words, content=content[:60]):
                self.fails(lambda *_, c=content: (200, c), words, "answers what no etcd does")
        Engine(self.fake(lambda *_: (200, good)).url, "etagd/").close()

    def test_too_large(self):
        fake = self.fails(lambda *_: (200, b'{"header": "' + b"x" * (4 << 20)), "more than 2097152 bytes")
        self.assertEqual(len(fake.asked), 1)

    def test_a_poll_that_is_too_large_is_everything(self):
        def answer(path, body, number):
            operations = json.loads(body)["success"]
            results = [{"response_range": {}} for _ in operations]
            results[0] = self.good()["responses"][0]
            if len(operations) == 6:
                return 200, b"x" * (4 << 20)
            return 200, json.dumps({"header": HEADER, "succeeded": True, "responses": results}).encode()
        with Closing(Engine(self.fake(answer).url, "etagd/")) as engine:
            answer = engine.poll("5")
            self.assertEqual((answer["cut"], answer["rows"], answer["snapshot"]), ("1", {}, "10"))

    def test_answers_to_another_question(self):
        for results in (0, 4, 7):
            answers = {1: self.good()}
            fake = self.fake(lambda p, b, n, r=results, a=answers: (200, json.dumps(a.get(n) or {**self.good(), "responses": self.good()["responses"] * r}).encode()))
            with Closing(Engine(fake.url, "etagd/")) as engine, self.assertRaisesRegex(Failed, f"failed.*answered {results} operations of 5"):
                engine.poll()

    def test_errors_of_http_and_of_etcd(self):
        def error(code, text):
            return json.dumps({"error": text, "code": code, "message": text}).encode()
        self.fails(lambda *_: (404, b"<html>not here</html>"), "is no etcd with a JSON gateway", "404")
        self.fails(lambda *_: (301, b""), "is no etcd with a JSON gateway", "301")
        self.fails(lambda *_: (404, error(5, "Not Found")), "has no JSON gateway of etcd", "3.4 or later")
        self.fails(lambda *_: (403, error(7, "etcdserver: permission denied")), "no right on these keys", "grant-permission")
        self.fails(lambda *_: (400, error(3, "etcdserver: user name is empty")), "wants a user", "password-file")
        self.fails(lambda *_: (503, error(14, "no\x1b[31m leader")), "no?[31m leader")
        self.fails(lambda *_: (500, error("x", "wrong")), "is no etcd with a JSON gateway")
        self.fails(lambda *_: None, "closes the connection without an answer")

    def test_not_set_up(self):
        empty = {"header": HEADER, "succeeded": True, "responses": [{"response_range": {}}]}
        self.fails(lambda *_: (200, json.dumps(empty).encode()), "no key etagd/setting", "etag-relay setup")
        self.fails(lambda *_: (200, json.dumps(self.good(value=b64("version=2 lease_ms=1 wait_ms=1"))).encode()), "has version 2", "works with 1")

    def test_endpoints_that_are_none(self):
        for endpoints, words in (("", "needs endpoints"), ("127.0.0.1:2379", "does not begin with http"), ("http://", "names no host"),
                                 ("http://me:secret@h:2379", "holds no password"), ("http://h:2379/v3", "is not written as"), ("http://a:1,,http://b:1", "is empty"),
                                 ("http://h:1," * 17 + "http://h:1", "more than 16"), ("http://" + "x" * 300, "longer than 255")):
            with self.subTest(endpoints=endpoints[:40]):
                done = subprocess.run([RELAY, "--config", "/dev/null", "--engine", "etcd", "--endpoints", endpoints, "--check-config"], capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 2)
                self.assertIn(words, done.stderr)
                self.assertNotIn("secret", done.stderr)
        with self.assertRaisesRegex(Failed, "cannot ask etcd at http://127.0.0.1:1"):
            Engine("http://127.0.0.1:1", "etagd/")

    def test_a_wrong_endpoint_among_right_ones_is_passed_over(self):
        wrong = self.fake(lambda *_: (200, b"hello"))
        right = self.fake(lambda *_: (200, json.dumps(self.good()).encode()))
        for nonce in ("00" * 16, "01" + "00" * 15):  # which one is the first
            Engine(f"{wrong.url},{right.url}", "etagd/", nonce=nonce).close()
        self.assertTrue(wrong.asked)


class Doors(Case):
    """TLS, users, passwords."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = None
        if not shutil.which("openssl"):
            cls.skipTest(cls, "openssl is missing")
        cls.cluster = Cluster(1, scheme="https")
        directory = cls.cluster.directory
        for name, more in (("ca", []), ("other", [])):
            cls.openssl(directory, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}", "-keyout",
                        f"{name}.key", "-out", f"{name}.pem", "-days", "2", *more)
        with open(os.path.join(directory, "names"), "w", encoding="ascii") as f:
            f.write("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
        cls.openssl(directory, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=etcd", "-keyout", "etcd.key", "-out", "etcd.csr")
        cls.openssl(directory, "x509", "-req", "-in", "etcd.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "etcd.pem", "-days", "2", "-extfile", "names")
        # The gateway takes no certificate with a CN, which it could not use.
        cls.openssl(directory, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/O=etagd", "-keyout", "relay.key", "-out", "relay.csr")
        cls.openssl(directory, "x509", "-req", "-in", "relay.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "relay.pem", "-days", "2")
        cls.cluster.options.update({"cert-file": cls.path("etcd.pem"), "key-file": cls.path("etcd.key"), "trusted-ca-file": cls.path("ca.pem"), "client-cert-auth": "true"})
        cls.cluster.begin()
        for args in (("put", "etagd/setting", SETTING), ("user", "add", "root:r"), ("user", "add", "relay:secret"), ("role", "add", "relay"),
                     ("role", "grant-permission", "relay", "readwrite", "--prefix=true", "etagd/"), ("user", "grant-role", "relay", "relay"),
                     ("user", "grant-role", "root", "root"), ("auth", "enable")):
            cls.cluster.ctl(*args)

    @staticmethod
    def openssl(directory, *args):
        subprocess.run(["openssl", *args], cwd=directory, check=True, capture_output=True)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.cluster.directory, name)

    @classmethod
    def tearDownClass(cls):
        if cls.cluster:
            cls.cluster.end()

    def password(self, text="secret\n", mode=0o600):
        path = self.path(f"password{time.monotonic_ns()}")
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def engine(self, prefix="etagd/", **changes):
        given = {"ca_file": self.path("ca.pem"), "cert_file": self.path("relay.pem"), "key_file": self.path("relay.key"), "user": "relay",
                 "password_file": self.password(), **changes}
        return Engine(self.cluster.endpoints(), prefix, **{name: value for name, value in given.items() if value})

    def refused(self, *words, **changes):
        with self.assertRaises(Failed) as failed:
            self.engine(**changes)
        for word in words:
            self.assertIn(word, str(failed.exception))
        self.assertNotIn("secret", str(failed.exception))

    def test_who_has_all_of_it_gets_in(self):
        with Closing(self.engine()) as engine:
            engine.do("join")
            seen = engine.poll()["snapshot"]
            engine.do("publish k")
            self.assertEqual(list(engine.poll(seen)["rows"].values()), [["k"]])

    def test_whose_token_ended_logs_in_again(self):
        with Closing(self.engine()) as engine:
            engine.do("join")
            self.cluster.ctl("user", "add", f"u{time.monotonic_ns()}:x", user="root:r")  # another revision of the users
            self.cluster.members[0].end()  # and no token is left
            self.cluster.begin(healthy=False)
            wait_until(lambda: self.cluster.ctl("get", "x", user="root:r", check=False) is not None, 40, "it is back")
            self.assertEqual(engine.poll()["member"], MEMBER)

    def test_wrong_ones(self):
        self.refused("does not take the user relay", password_file=self.password("wrong"))
        self.refused("does not take the user nobody", user="nobody")
        self.refused("can be read by everybody", "chmod o=", password_file=self.password(mode=0o644))
        self.refused("is empty", password_file=self.password("\n"))
        self.refused("cannot read the password file /nowhere", password_file="/nowhere")
        self.refused("wants a user", user=None, password_file=None)
        self.refused("no right on these keys", "grant-permission", prefix="others/")
        self.refused("CommonName of client", cert_file=self.path("etcd.pem"), key_file=self.path("etcd.key"))
        self.refused("cannot ask etcd", ca_file=self.path("other.pem"))
        self.refused("cannot ask etcd", ca_file=None)
        self.refused("cannot ask etcd", ca_file="/nowhere")
        self.refused("https", cert_file=None, key_file=None)


if __name__ == "__main__":
    main()
