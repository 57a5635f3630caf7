# SPDX-License-Identifier: Apache-2.0
"""A section whose table is watched: writers that name nothing (psql), a Django site, libetag; and the owner's own transactions, which
change many rows, or the table itself.

The table has parts: keys from 0 on in four of them, and what is away (see hosts_watched.c) in a fifth. What pages of even keys depend on is named by
a template of ours, of odd ones by those of manage.py etagd_watch.
"""
import json
import os
import struct
import subprocess
import sys
import time

import relay_db
import django_site
from campaign import Failure
from harness import bound
from hosts import ANSWERED, BOUNDS, COMMIT, KEYS, LOGGED, RECORD, HostsSection

django_site.require("django")
SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "django_writer.py")
OWNER = "shop"
PARTS = 4
PART_KEYS = KEYS // PARTS


def part_keys(number):
    return range(number * PART_KEYS, (number + 1) * PART_KEYS)


def part_bounds(number):
    return f"FOR VALUES FROM ({number * PART_KEYS}) TO ({(number + 1) * PART_KEYS})"


class WatchedSection(HostsSection):
    roles = ("psql", "library", "django", "filler", "filler", "reader", "reader")

    def table_make(self):
        primary = self.pair.primary
        if not primary.sql(f"SELECT true FROM pg_roles WHERE rolname = '{OWNER}'", database="postgres"):
            self.sql(f"CREATE ROLE {OWNER} LOGIN")
            self.sql(f"GRANT etagd_writer TO {OWNER}")
        self.sql(f"ALTER DATABASE {self.database_name} OWNER TO {OWNER}")
        self.owner("CREATE TABLE page (key int PRIMARY KEY, version bigint NOT NULL) PARTITION BY RANGE (key)",
                   "CREATE TABLE page_away PARTITION OF page FOR VALUES FROM (MINVALUE) TO (0)",
                   *(f"CREATE TABLE page_{number} PARTITION OF page {part_bounds(number)} WITH (fillfactor = 50)" for number in range(PARTS)),
                   f"INSERT INTO page SELECT k, 0 FROM generate_series(0, {KEYS - 1}) k", "SELECT etagd.watch('page', 'key:{key}')")
        self.site_do("manage", "etagd_watch", "torture.Page")
        # Once more, by a superuser: parts that come get their triggers at once.
        self.command_do(relay_db.RELAY, "--connection", primary.conninfo(self.database_name), "setup")
        templates = self.sql("SELECT templates FROM etagd.watches()")[0][0]
        if not {"key:{key}", "torture.page:{key}"} <= set(templates):
            raise Failure(f"the table is watched by {templates}")

    def owner(self, *statements):
        """Each in a transaction of its own; the rows of the last one."""
        return [self.pair.primary.sql(text, database=self.database_name, user=OWNER) for text in statements][-1]

    # ---- Other programs ----

    @staticmethod
    def command_do(*command, environment=None):
        done = subprocess.run(command, capture_output=True, text=True, timeout=bound(60), check=False, env=environment)
        if done.returncode != 0:
            raise Failure(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr}{done.stdout}")

    @staticmethod
    def site_environment(database, **etagd):
        return {**os.environ, "SITE": json.dumps({"database": {"ENGINE": "django.db.backends.postgresql", **database}, "etagd": etagd})}

    def site_do(self, *words):
        """manage.py of the site."""
        primary = self.pair.primary
        self.command_do(sys.executable, "-B", SITE, *words, environment=self.site_environment(
            {"HOST": primary.directory, "PORT": str(primary.port), "USER": OWNER, "NAME": self.database_name}))

    def worker_environment(self, worker):
        if worker.role != "django":
            return None
        return self.site_environment(
            {"HOST": "127.0.0.1", "PORT": str(worker.host.proxy.port), "USER": OWNER, "NAME": self.database_name,
             "OPTIONS": {"connect_timeout": 3, "options": BOUNDS.split("'")[1]}},
            SOCKET=worker.host.daemon.socket, TIMEOUT_MS=int(bound(4000)))

    def worker_options(self, host, role):
        programs = {"psql": ["--program", os.path.join(self.pair.primary.programs, "psql")], "django": ["--program", sys.executable, "--script", SITE]}
        user = OWNER if role == "psql" else "etagd"
        return ["--watched", "--database", host.connection(user, BOUNDS), *programs.get(role, [])]

    # ---- What the owner writes ----

    def draw(self, key):
        """While nobody else can: the table is locked."""
        version = self.row_word(key) + 1
        struct.pack_into("<Q", self.truth, self.row_offset(key), version)
        return version

    def written(self, versions):
        """It was committed just now, or is away since."""
        now = time.monotonic_ns()
        due = now + self.follow_ms * 1000000
        for key, version in versions.items():
            self.fates.append(RECORD.pack(COMMIT, 0, LOGGED, 0, key, version, now, now, 0))
            self.fates.append(RECORD.pack(ANSWERED, 0, 0, 0, key, version, due, due, 0))
        self.fates_write()

    def transaction(self, keys, write, user=OWNER):
        """write(connection, versions) changes rows of these keys to these versions, or takes them away."""
        with relay_db.harness_closing(self.pair.primary.connect(self.database_name, user)) as connection:
            relay_db.ask(connection, "BEGIN")
            relay_db.ask(connection, "LOCK TABLE page IN EXCLUSIVE MODE")
            versions = {key: self.draw(key) for key in keys}
            write(connection, versions)
            relay_db.ask(connection, "COMMIT")
            self.written(versions)

    def caught_up(self):
        """Rows that were away would be away for good if the next promotion lost what brought them back."""
        self.pair.primary.caught_up(self.pair.standby)
