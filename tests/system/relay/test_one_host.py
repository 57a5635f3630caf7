# SPDX-License-Identifier: Apache-2.0
"""One host with a relay, for programs that write by SQL alone: the triggers are those of docs/relay-postgresql.md. Each of these lost its event
with the listener in the shell that the README once had."""
import os
import re
import shutil
import tempfile

from relay_db import Server, errors
from relay_hosts import Host
from harness import Case, Daemon, content_of, main, wait_until

DOCUMENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../docs/relay-postgresql.md")


def documented():
    """The block with the triggers."""
    return next(block for block in re.findall(r"```sql\n(.*?)```", content_of(DOCUMENT), re.S) if "CREATE TRIGGER" in block)


class OneHost(Case):
    @classmethod
    def setUpClass(cls):
        cls.server = Server.make()
        cls.database = cls.server.database("one")
        cls.sql("CREATE ROLE site LOGIN", "GRANT etagd_writer TO site", "ALTER DATABASE one OWNER TO site", "CREATE ROLE someone LOGIN")
        cls.sql("CREATE TABLE uploads (id integer, customer_id integer, title text)", documented(),
                "GRANT ALL ON uploads TO someone", user="site")  # who writes needs no right in the schema etagd
        cls.daemon_of_all = cls.shared_daemon_with_relay()

    @classmethod
    def shared_daemon_with_relay(cls):
        place = tempfile.mkdtemp(prefix="etagd-test-")
        cls.addClassCleanup(shutil.rmtree, place, ignore_errors=True)
        cls.host = Host("one", cls.server.conninfo(cls.database), Daemon(place, args=["--relay", "required"]))
        cls.addClassCleanup(cls.host.end)
        return cls.host.start().daemon

    @classmethod
    def sql(cls, *texts, user="etagd"):
        for text in texts:
            cls.server.sql(text, database=cls.database, user=user)

    def setUp(self):
        super().setUp()
        self.sql("TRUNCATE uploads", "INSERT INTO uploads VALUES (42, 7, 'first'), (43, NULL, 'second'), (44, 8, 'third')")
        position = self.server.sql("SELECT etagd.invalidate(array['nobody:1'], ask => true)", database=self.database)[0][0]
        self.sql(f"SELECT etagd.wait('{position}')")  # what set-up wrote is behind us
        self.pages = {name: f"//shop.example/{name.replace(':', '/')}" for name in
                      ("upload:42", "upload:43", "upload:44", "upload:99", "customer:7", "customer:8", "customer:none")}
        for name, key in self.pages.items():
            self.daemon_of_all.fill(key, '"v1"', "--surrogate", name)
            self.assertEqual(self.daemon_of_all.verdict(key), "not_modified")

    def stale(self):
        return {name for name, key in self.pages.items() if self.daemon_of_all.check(key)["reason"] == "stale"}

    def becomes_stale(self, *names):
        wait_until(lambda: self.stale() >= set(names), 20, f"{names} of {self.stale()}")
        self.assertEqual(self.stale(), set(names))

    def test_a_row_that_changes(self):
        self.sql("UPDATE uploads SET title = 'x' WHERE id = 42", user="someone")
        self.becomes_stale("upload:42", "customer:7")

    def test_a_key_that_changes_names_both(self):
        self.sql("UPDATE uploads SET id = 99, customer_id = 8 WHERE id = 42", user="someone")
        self.becomes_stale("upload:42", "upload:99", "customer:7", "customer:8")

    def test_a_key_that_is_null_has_a_name(self):
        self.sql("DELETE FROM uploads WHERE id = 43", user="someone")
        self.becomes_stale("upload:43", "customer:none")

    def test_truncate_is_everything(self):
        self.sql("TRUNCATE uploads", user="someone")
        self.becomes_stale(*self.pages)

    def test_many_rows_are_everything(self):
        self.sql("INSERT INTO uploads SELECT n, n, '' FROM generate_series(1000, 3000) n", user="someone")
        self.becomes_stale(*self.pages)

    def test_a_line_end_in_a_name_is_refused_where_it_is_written(self):
        with self.assertRaisesRegex(errors.InvalidParameterValue, "blanks or control characters"):
            self.sql("SELECT etagd.invalidate(E'upload:4\\n2')")
        self.assertEqual(self.stale(), set())

    def test_a_rollback_says_nothing(self):
        self.sql("BEGIN; UPDATE uploads SET title = 'x' WHERE id = 42; ROLLBACK; UPDATE uploads SET title = 'x' WHERE id = 44")
        self.becomes_stale("upload:44", "customer:8")

    def test_replication_role_does_not_skip_them(self):
        self.sql("SET session_replication_role = replica; UPDATE uploads SET title = 'x' WHERE id = 42")
        self.becomes_stale("upload:42", "customer:7")

    def test_what_is_written_while_the_relay_is_away_is_not_lost(self):
        self.host.kill_relay()
        try:
            self.sql("UPDATE uploads SET title = 'x' WHERE id = 44", user="someone")
            wait_until(lambda: self.daemon_of_all.status()["relay_margin_ms"] <= 0, 20, "no lease without a relay")
            said = self.daemon_of_all.ctl("check", self.pages["upload:44"], "--header", 'If-None-Match: "v1"')
            self.assertEqual(said["reason"], "no_lease")
        finally:
            self.host.start_relay()
        self.becomes_stale("upload:44", "customer:8")

    def test_wait_is_over_when_it_is_seen(self):
        position = self.server.sql("SELECT etagd.invalidate(array['upload:44'], ask => true)", database=self.database)[0][0]
        self.sql(f"SELECT etagd.wait('{position}')")
        self.assertEqual(self.stale(), {"upload:44"})


if __name__ == "__main__":
    main()
