# SPDX-License-Identifier: Apache-2.0
"""The uploads API as two real processes with one database and one daemon, asked over HTTP: what a client of a front end
sees, and whether it was rendered or answered from shared memory (the processes count that)."""
import functools
import http.client
import json
import os
import random
import re
import shutil
import sqlite3
import tempfile
import threading
import time

from harness import Case, main, together, wait_until
from uploads import FRESH, NOT_STORED, OWNER, App, seed

RESOURCES = ("uploads", "claim-records", "report-runs", "drift-events", "payer-mappings", "alert-events",
             "operator-judgments")
STRANGER = "demo-customer-8"
READER = "demo-reader-7"
ROWS = (6, 26, 46, 66)  # of customer 7, in every table (uploads_seed.c)
NO_ROW = 999999
PATHS = tuple(f"/api/v1/{name}{row}" for name in RESOURCES for row in ("", f"/{ROWS[0]}"))

seeded = None


def setUpModule():
    """Seeds a database once; every test gets a copy."""
    global seeded
    seeded = tempfile.mkdtemp(prefix="etagd-seed-")
    seed(os.path.join(seeded, "db"))


def tearDownModule():
    shutil.rmtree(seeded)


def list_of(name):
    return f"/api/v1/{name}"


def row_of(name, row=ROWS[0]):
    return f"/api/v1/{name}/{row}"


def version_of(etag):
    return int(re.fullmatch(r'"[a-z-]+-\d+-(\d+)"', etag).group(1))


class UploadsCase(Case):
    LEASE_MS = 1000

    def setUp(self):
        super().setUp()
        shutil.copy(os.path.join(seeded, "db"), os.path.join(self.directory, "db"))
        self.d = self.started(lease_ms=self.LEASE_MS)
        self.a, self.b = (App(self.directory, self.d.socket, name) for name in "ab")
        for app in (self.a, self.b):
            self.addCleanup(lambda app=app: self.assertEqual(app.end(), 0))

    def render(self, app, path):
        """A GET that is answered 200; what it filled is in shared memory afterwards."""
        answer = app.get(path)
        self.assertEqual(answer.status, 200)
        self.assertIsNotNone(answer.etag)
        self.assertEqual(answer.control, FRESH)
        self.d.ctl("sync")
        return answer

    def counted(self, app, ask):
        """The answer, and how renders and cached 304s grew by it."""
        before = app.counters()
        answer = ask()
        after = app.counters()
        return answer, after["renders"] - before["renders"], \
            after["not_modified_cached"] - before["not_modified_cached"]

    def assert_304(self, answer, etag):
        self.assertEqual((answer.status, answer.etag, answer.control), (304, etag, FRESH))
        self.assertEqual(answer.body, b"")
        self.assertIsNone(answer.headers["Content-Type"])

    def assert_cached(self, app, path, etag, method="GET"):
        answer, renders, cached = self.counted(app, lambda: app.request(method, path, if_none_match=etag))
        self.assert_304(answer, etag)
        self.assertEqual((renders, cached), (0, 1))

    def assert_refused(self, answer, status, etag=None):
        """etag: what a 412 says of the row as it is."""
        self.assertEqual(answer.status, status)
        self.assertEqual(answer.control, NOT_STORED)
        self.assertEqual(answer.etag, etag)


class Later(UploadsCase):
    """What a later answer does to the entry of its key."""

    def stored(self, path, etag, *args):
        """Puts an entry under the key of this row, as an earlier answer may have."""
        self.d.fill(path, etag, "--scope", "customer:7", *args)

    def messages(self):
        return sum(number for name, number in self.d.status().items() if name.startswith(("fills_", "retires")))

    def test_a_row_that_went_without_a_word_is_removed_by_its_404(self):
        for path, sql in ((row_of("uploads"), f"DELETE FROM uploads WHERE id = {ROWS[0]}"), ("/api/v1/files/x", "DELETE FROM files")):
            with self.subTest(path=path):
                if "files" in path:
                    self.assertEqual(self.a.request("PUT", path, {"text": 1}).status, 201)
                etag = self.a.get(path).etag
                self.d.ctl("sync")
                self.assertEqual(self.b.get(path, if_none_match=etag).status, 304)
                with sqlite3.connect(os.path.join(self.directory, "db")) as db:
                    db.execute(sql)
                db.close()
                self.assertEqual(self.b.get(path, if_none_match=etag).status, 304)  # nobody said so
                self.assertEqual(self.a.get(path).status, 404)
                self.d.ctl("sync")
                self.assertEqual(self.b.get(path, if_none_match=etag).status, 404)
                self.assertEqual(self.d.status()["retires"], 1 if "uploads" in path else 2)

    def test_names_that_the_entry_lacks_reach_it(self):
        path = row_of("uploads")
        etag = self.render(self.a, path).etag
        self.stored(path, etag, "--header", f"Cache-Control: {FRESH}")
        self.assert_cached(self.a, path, etag)
        self.render(self.b, path)
        self.d.ctl("invalidate", "--surrogate", f"upload:{ROWS[0]}")
        answer, renders, cached = self.counted(self.a, lambda: self.a.get(path, if_none_match=etag))
        self.assertEqual((answer.status, renders, cached), (304, 1, 0))

    def test_fields_that_the_entry_lacks_reach_it(self):
        path = row_of("uploads")
        etag = self.render(self.a, path).etag
        self.stored(path, etag, "--header", "Cache-Control: max-age=86400", "--surrogate", f"upload:{ROWS[0]}", "--surrogate", "customer:7")
        self.assertEqual(self.b.get(path, if_none_match=etag).control, "max-age=86400")
        self.render(self.b, path)
        self.assert_cached(self.b, path, etag)

    def test_what_the_entry_says_is_not_sent_again(self):
        path = row_of("uploads")
        self.render(self.a, path)
        before = self.messages()
        for app in (self.a, self.b) * 3:
            self.render(app, path)
        self.assertEqual(self.messages(), before)


class Reading(UploadsCase):
    def test_304_without_rendering_from_both(self):
        for path in PATHS:
            with self.subTest(path=path):
                first = self.render(self.a, path)
                for app in (self.a, self.b):
                    self.assert_cached(app, path, first.etag)
                    self.assert_cached(app, path, first.etag, "HEAD")
                    answer, _, cached = self.counted(app, lambda: app.get(path, if_none_match='"other"'))
                    self.assertEqual((answer.status, answer.etag, answer.control), (200, first.etag, FRESH))
                    self.assertEqual(answer.body, first.body)
                    self.assertEqual(cached, 0)
                    self.assertEqual(app.get(path, if_none_match=['"x", "y"', f'W/{first.etag}']).status, 304)
                    self.assertEqual(app.get(path, if_none_match="*").status, 304)

    def test_a_304_ends_with_its_header(self):
        path = row_of("uploads")
        etag = self.render(self.a, path).etag
        for method in ("GET", "HEAD"):
            answer = self.a.exchange(method.encode(), path, [b"If-None-Match: " + etag.encode()])
            self.assertTrue(answer.startswith(b"HTTP/1.1 304 "), answer)
            self.assertTrue(answer.endswith(b"\r\n\r\n"), answer)
            self.assertEqual(answer.count(b"\r\n\r\n"), 1)

    def test_head_is_a_get_without_its_body_and_fills_nothing(self):
        for path in PATHS:
            with self.subTest(path=path):
                head = self.a.request("HEAD", path)
                self.d.ctl("sync")
                self.assertEqual((head.status, head.control, head.body), (200, FRESH, b""))
                answer, renders, cached = self.counted(
                    self.a, lambda: self.a.request("HEAD", path, if_none_match=head.etag))
                self.assert_304(answer, head.etag)
                self.assertEqual((renders, cached), (1, 0))
                get = self.render(self.b, path)
                self.assertEqual((get.etag, get.control), (head.etag, head.control))
                self.assertEqual(int(head.headers["Content-Length"]), len(get.body))
                self.assertEqual(head.headers["Content-Type"], get.headers["Content-Type"])

    def test_pages_and_filters_are_representations_of_their_own(self):
        paths = [list_of("uploads") + query for query in ("", "?page=2", "?per_page=5", "?status=processed")]
        etags = {path: self.render(self.a, path).etag for path in paths}
        self.assertEqual(len({self.a.get(path).body for path in paths}), len(paths))
        for path in paths:
            self.assert_cached(self.b, path, etags[path])
        self.assertEqual(self.a.request("PUT", row_of("uploads"), self.a.get(row_of("uploads")).json()).status, 200)
        for path in paths:
            self.assertEqual(self.b.get(path, if_none_match=etags[path]).status, 200)


class Writing(UploadsCase):
    def changed(self, app, path, old):
        """The other process answers the new version at once, and 304 from then on."""
        answer = app.get(path, if_none_match=old)
        self.assertEqual((answer.status, answer.control), (200, FRESH))
        self.assertNotEqual(answer.etag, old)
        self.d.ctl("sync")
        self.assert_cached(app, path, answer.etag)
        return answer

    def cached(self, name):
        """Row and list of a resource, rendered by A and known to both."""
        row, listing = self.render(self.a, row_of(name)), self.render(self.a, list_of(name))
        for app in (self.a, self.b):
            self.assert_cached(app, row_of(name), row.etag)
            self.assert_cached(app, list_of(name), listing.etag)
        return row, listing

    def test_put_through_one_is_seen_by_the_other_at_once(self):
        for name in RESOURCES:
            with self.subTest(name=name):
                row, listing = self.cached(name)
                written = self.a.request("PUT", row_of(name), row.json())
                self.assert_refused(written, 200)  # not to be stored, no ETag: the body is no representation
                new = self.changed(self.b, row_of(name), row.etag)
                self.assertEqual(new.json()["version"], written.json()["version"])
                self.assertEqual(version_of(new.etag), written.json()["version"])
                self.changed(self.b, list_of(name), listing.etag)
                self.assert_cached(self.a, row_of(name), new.etag)

    def test_post_changes_the_list(self):
        for name in RESOURCES:
            with self.subTest(name=name):
                row, listing = self.cached(name)
                made = self.a.request("POST", list_of(name), row.json())
                self.assertEqual((made.status, made.control), (201, NOT_STORED))
                new_list = self.changed(self.b, list_of(name), listing.etag)
                self.assertEqual(new_list.json()["total"], listing.json()["total"] + 1)
                self.assertEqual(new_list.json()["items"][0]["id"], made.json()["id"])
                new_row = self.b.get(made.headers["Location"])
                self.assertEqual((new_row.status, new_row.etag), (200, made.etag))
                self.assert_cached(self.b, row_of(name), row.etag)  # its row did not change

    def test_delete_is_404_afterwards_and_changes_the_list(self):
        for name in RESOURCES:
            with self.subTest(name=name):
                row, listing = self.cached(name)
                gone = self.a.request("DELETE", row_of(name))
                self.assert_refused(gone, 204)
                for app in (self.a, self.b):
                    self.assert_refused(app.get(row_of(name)), 404)
                    self.assert_refused(app.get(row_of(name), if_none_match=row.etag), 404)
                    self.assert_refused(app.request("HEAD", row_of(name), if_none_match="*"), 404)
                new = self.changed(self.b, list_of(name), listing.etag)
                self.assertEqual(new.json()["total"], listing.json()["total"] - 1)
                self.assert_refused(self.b.request("DELETE", row_of(name)), 404)

    def test_a_row_that_comes_back_has_another_etag(self):
        row, _ = self.cached("uploads")
        self.assertEqual(self.a.request("DELETE", row_of("uploads")).status, 204)
        self.assertEqual(self.b.request("PUT", row_of("uploads"), row.json(), if_none_match="*").status, 201)
        self.changed(self.a, row_of("uploads"), row.etag)

    def test_lost_updates_are_refused(self):
        for name in RESOURCES:
            with self.subTest(name=name):
                row, _ = self.cached(name)
                column = next(n for n, v in row.json().items() if isinstance(v, str) and n != "updated_at")
                kept = self.a.request("PUT", row_of(name), row.json() | {column: "kept"}, if_match=row.etag)
                self.assertEqual(kept.status, 200)
                current = self.render(self.b, row_of(name))
                self.assertEqual(current.json()[column], "kept")
                lost = row.json() | {column: "lost"}
                for app in (self.a, self.b):
                    for condition in ({"if_match": row.etag}, {"if_match": f"W/{current.etag}"}, {"if_none_match": "*"},
                                      {"if_none_match": current.etag}):
                        self.assert_refused(app.request("PUT", row_of(name), lost, **condition), 412, current.etag)
                    self.assert_refused(app.request("DELETE", row_of(name), if_match=row.etag), 412, current.etag)
                    self.assert_refused(app.get(row_of(name), if_match=row.etag), 412, current.etag)
                    self.assert_cached(app, row_of(name), current.etag)
                    self.assertEqual(app.get(row_of(name)).body, current.body)
                self.assert_refused(self.a.request("PUT", row_of(name, NO_ROW), lost, if_match="*"), 412)
                self.assertEqual(self.b.request("DELETE", row_of(name), if_match=current.etag).status, 204)

    def test_refused_writes_change_nothing(self):
        row, listing = self.cached("uploads")
        for body, status in ((None, 422), ({"no": "column"}, 422), ([1], 422)):
            self.assert_refused(self.a.request("PUT", row_of("uploads"), body), status)
        self.assert_refused(self.a.request("PUT", list_of("uploads"), row.json()), 405)
        self.assert_refused(self.a.request("POST", row_of("uploads"), row.json()), 405)
        self.assert_refused(self.a.request("PUT", row_of("uploads"), row.json(), token=READER), 403)
        for app in (self.a, self.b):
            self.assert_cached(app, row_of("uploads"), row.etag)
            self.assert_cached(app, list_of("uploads"), listing.etag)


class Access(UploadsCase):
    def test_strangers_learn_nothing(self):
        for name in RESOURCES:
            with self.subTest(name=name):
                row, listing = self.render(self.a, row_of(name)), self.render(self.a, list_of(name))
                for app in (self.a, self.b):
                    for method in ("GET", "HEAD"):
                        for condition in ({}, {"if_none_match": row.etag}, {"if_none_match": "*"},
                                          {"if_match": row.etag}):
                            answer = app.request(method, row_of(name), token=STRANGER, **condition)
                            self.assert_refused(answer, 404)
                    theirs = app.get(list_of(name), token=STRANGER, if_none_match=listing.etag)
                    self.assertEqual(theirs.status, 200)
                    self.assertNotEqual(theirs.etag, listing.etag)
                    self.assertTrue({r["id"] for r in theirs.json()["items"]}.isdisjoint(
                        r["id"] for r in listing.json()["items"]))
                    self.assert_refused(app.request("PUT", row_of(name), row.json(), token=STRANGER), 404)
                    self.assert_refused(app.request("DELETE", row_of(name), token=STRANGER), 404)
                    self.assert_cached(app, row_of(name), row.etag)
                    self.assert_cached(app, list_of(name), listing.etag)

    def test_a_reader_of_the_same_customer_shares_the_entries(self):
        etag = self.render(self.a, row_of("uploads")).etag
        answer, renders, cached = self.counted(self.b, lambda: self.b.get(row_of("uploads"), token=READER,
                                                                         if_none_match=etag))
        self.assert_304(answer, etag)
        self.assertEqual((renders, cached), (0, 1))

    def test_without_a_token_401_comes_before_any_condition(self):
        for path in PATHS:
            with self.subTest(path=path):
                etag = self.render(self.a, path).etag
                for token in (None, "nobody", ""):
                    for condition in ({}, {"if_none_match": etag}, {"if_none_match": "*"}, {"if_match": '"x"'}):
                        answer = self.b.get(path, token=token, **condition)
                        self.assert_refused(answer, 401)
                        self.assertEqual(answer.headers["WWW-Authenticate"], "Bearer")


class WithoutDaemon(UploadsCase):
    LEASE_MS = 1000

    def test_everything_is_rendered_and_304_comes_back(self):
        etags = {path: self.render(self.a, path).etag for path in PATHS}
        for path in PATHS:
            self.assert_cached(self.b, path, etags[path])
        self.d.kill()
        for app in (self.a, self.b):
            self.lease_ends(app, PATHS[0], etags[PATHS[0]])
            for path in PATHS:
                answer, renders, cached = self.counted(app, lambda: app.get(path))
                self.assertEqual((answer.status, answer.etag, answer.control), (200, etags[path], FRESH))
                self.assertEqual((renders, cached), (1, 0))
                answer, renders, cached = self.counted(app, lambda: app.get(path, if_none_match=etags[path]))
                self.assert_304(answer, etags[path])
                self.assertEqual((renders, cached), (1, 0))
                self.assertEqual(app.get(path, if_none_match='"other"').status, 200)
        self.d.start()
        for app in (self.a, self.b):
            self.lease_is_back(app, PATHS[0], etags[PATHS[0]])
            for path in PATHS:
                self.assert_cached(app, path, etags[path])

    def is_cached(self, app, path, etag):
        return self.counted(app, lambda: app.get(path, if_none_match=etag))[2] == 1

    def lease_ends(self, app, path, etag):
        wait_until(lambda: not self.is_cached(app, path, etag), 5, "the lease ends")

    def lease_is_back(self, app, path, etag):
        wait_until(lambda: self.is_cached(app, path, etag), 10, "304 comes back without rendering")

    def test_writes_are_kept_told_as_such_and_published_later(self):
        names = ("uploads", "report-runs", "alert-events")
        rows = {name: self.render(self.a, row_of(name)) for name in RESOURCES}
        lists = {name: self.render(self.a, list_of(name)) for name in RESOURCES}
        self.d.ctl("sync")
        self.d.kill()
        os.unlink(os.path.join(self.d.directory, "spool", "mark"))  # no spool either
        for name, method, path in zip(names, ("PUT", "POST", "DELETE"),
                                      (row_of(names[0]), list_of(names[1]), row_of(names[2]))):
            answer = self.a.request(method, path, rows[name].json() if method != "DELETE" else None)
            self.assert_refused(answer, 500)
            self.assertEqual((answer.json()["error"], answer.json()["stored"]), ("not_published", True))
        self.lease_ends(self.b, row_of("drift-events"), rows["drift-events"].etag)
        # Rendered, so right, whatever was published.
        new = self.b.get(row_of(names[0]), if_none_match=rows[names[0]].etag)
        self.assertEqual(new.status, 200)
        self.assertNotEqual(new.etag, rows[names[0]].etag)
        for name in names:
            self.assertEqual(self.b.get(list_of(name), if_none_match=lists[name].etag).status, 200)
        self.assert_refused(self.b.get(row_of(names[2]), if_none_match=rows[names[2]].etag), 404)

        self.d.start()
        wait_until(lambda: self.a.counters()["published"] + self.b.counters()["published"] >= 6, 10,
                   "what waited in the outbox is told")
        for app in (self.a, self.b):
            # Nothing else was forgotten meanwhile.
            self.lease_is_back(app, row_of("payer-mappings"), rows["payer-mappings"].etag)
            self.assertEqual(app.get(row_of(names[0]), if_none_match=rows[names[0]].etag).status, 200)
            for name in names:
                self.assertEqual(app.get(list_of(name), if_none_match=lists[name].etag).status, 200)
            self.assert_refused(app.get(row_of(names[2]), if_none_match=rows[names[2]].etag), 404)
        self.assertEqual(self.render(self.a, row_of(names[0])).etag, new.etag)
        self.lease_is_back(self.b, row_of(names[0]), new.etag)
        self.assertEqual(self.a.request("PUT", row_of(names[0]), rows[names[0]].json()).status, 200)

    def test_writes_go_on_through_the_spool(self):
        path = row_of("uploads")
        row = self.render(self.a, path)
        self.d.ctl("sync")
        self.d.kill()
        answer = self.a.request("PUT", path, row.json())
        self.assertEqual(answer.status, 200)
        new = self.b.get(path, if_none_match=row.etag)
        self.assertEqual(new.status, 200)
        self.d.start()
        self.lease_is_back(self.b, path, new.etag)
        self.assertEqual(self.a.get(path, if_none_match=row.etag).status, 200)

    def test_front_ends_start_without_a_daemon(self):
        self.d.kill()
        late = App(self.directory, self.d.socket, "late")
        self.addCleanup(late.end)
        etag = late.get(row_of("uploads")).etag
        self.assertIsNotNone(etag)
        self.d.start()
        self.lease_is_back(late, row_of("uploads"), etag)


class Race(UploadsCase):
    """Writers and readers over few rows. The truth is what completed writes returned: from then on no answer may be of
    an older version. The list of these rows is read too; each write gives it the version that the row gets."""

    SECONDS = 3
    NAME = "uploads"

    def setUp(self):
        super().setUp()
        self.lock = threading.Lock()
        self.published = {path: 0 for path in [list_of(self.NAME)] + [row_of(self.NAME, row) for row in ROWS]}
        self.counts = {"writes": 0, "200": 0, "304": 0}
        self.wrong = []
        self.end = time.monotonic() + self.SECONDS

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def write(self, chance, row):
        path = row_of(self.NAME, chance.choice(ROWS))
        answer = chance.choice((self.a, self.b)).request("PUT", path, row)
        if answer.status != 200:
            self.wrong.append(f"PUT {path}: {answer.status} {answer.body}")
            return
        version = answer.json()["version"]
        with self.lock:
            for written in (path, list_of(self.NAME)):
                self.published[written] = max(self.published[written], version)
        self.count("writes")
        time.sleep(chance.random() * 0.02)  # room for hits between the writes

    def read(self, chance, seen):
        path = chance.choice(list(self.published))
        with self.lock:
            oldest = self.published[path]
        # "*" asks for whatever is thought to be current; the ETag of the 304 says which that is.
        condition = chance.choice(("*", seen.get(path, '"none"')))
        answer = chance.choice((self.a, self.b)).get(path, if_none_match=condition)
        if answer.status not in (200, 304) or version_of(answer.etag) < oldest:
            self.wrong.append(f"GET {path} {condition}: {answer.status} {answer.etag}, but {oldest} was out")
        elif answer.status == 304 and condition not in ("*", answer.etag):
            self.wrong.append(f"GET {path}: 304 with {answer.etag} for {condition}")
        else:
            seen[path] = answer.etag
            self.count(str(answer.status))

    def work(self, step, seed, state):
        chance = random.Random(seed)
        try:
            while time.monotonic() < self.end and not self.wrong:
                step(chance, state)
        except (OSError, http.client.HTTPException, AttributeError) as error:
            self.wrong.append(repr(error))

    def test_no_304_is_older_than_a_completed_write(self):
        row = self.a.get(row_of(self.NAME)).json()
        jobs = [(self.write, 100 + i, row) for i in range(2)] + [(self.read, 200 + i, {}) for i in range(4)]
        together(*(functools.partial(self.work, *job) for job in jobs))
        cached = self.a.counters()["not_modified_cached"] + self.b.counters()["not_modified_cached"]
        print(json.dumps(self.counts | {"cached": cached}))
        self.assertEqual(self.wrong, [])
        for what, count in (self.counts | {"cached": cached}).items():
            self.assertGreater(count, 20, what)


if __name__ == "__main__":
    main()
