# SPDX-License-Identifier: Apache-2.0
"""What owners and administrators do to a watched table while others write it. Triggers do not see all of it; the catalogs do."""
import os
import subprocess

from campaign import Failure
from harness import bound
from hosts_nemesis import DECK, beyond, cut
from relay_db import ask
from watched import KEYS, PARTS, part_bounds, part_keys

ALL = range(KEYS)
NAMED_MOST = 200  # rows of a statement that are named one at a time


def rows_update(connection, versions, table="page"):
    ask(connection, f"UPDATE {table} p SET version = v.version FROM unnest(%s, %s::bigint[]) v(key, version) WHERE p.key = v.key",
        list(versions), list(versions.values()))


def rows_insert(connection, versions):
    """Named one at a time: so not by the family."""
    keys = list(versions)
    for begin in range(0, len(keys), NAMED_MOST // 2):
        some = keys[begin:begin + NAMED_MOST // 2]
        ask(connection, "INSERT INTO page SELECT * FROM unnest(%s, %s::bigint[])", some, [versions[key] for key in some])


def some_keys(s, most):
    first = s.random.randrange(KEYS - most)
    return range(first, first + s.random.randint(1, most))


# ---- Triggers ----

def trigger_disabled(s):
    """Writes of psql leave no row of the outbox: each poll raises everything, until it is watched again."""
    name = s.random.choice(s.owner("SELECT tgname FROM pg_trigger WHERE tgrelid = 'page'::regclass AND tgname LIKE '%update'"))[0]
    s.owner(s.random.choice(("ALTER TABLE page DISABLE TRIGGER USER", f"ALTER TABLE page DISABLE TRIGGER {name}", f"DROP TRIGGER {name} ON page")))
    s.rest(beyond(s) * 1.5)
    s.owner("SELECT etagd.watch('page')")


def trigger_disabled_for_a_moment(s):
    """No poll sees it disabled."""
    def write(connection, versions):
        ask(connection, "ALTER TABLE page DISABLE TRIGGER USER")
        rows_update(connection, versions)
        for name, in ask(connection, "SELECT tgname FROM pg_trigger WHERE tgrelid = 'page'::regclass AND NOT tgisinternal"):
            ask(connection, f"ALTER TABLE page ENABLE ALWAYS TRIGGER {name}")

    s.transaction(some_keys(s, 60), write)
    s.rest(beyond(s))


# ---- Many rows ----

def bulk_updated(s):
    """One at a time, and so many that it is the family."""
    for keys in (some_keys(s, NAMED_MOST // 4), ALL):
        s.transaction(keys, rows_update)
        s.rest(s.random.random())
    s.rest(beyond(s))


def rows_deleted(s):
    keys = some_keys(s, 40)
    s.transaction(keys, lambda connection, _: ask(connection, "DELETE FROM page WHERE key = ANY (%s) OR -1 - key = ANY (%s)", list(keys), list(keys)))
    s.rest(beyond(s))
    s.transaction(keys, rows_insert)
    s.caught_up()


def truncated(s):
    s.transaction(ALL, lambda connection, _: ask(connection, "TRUNCATE page"))
    s.rest(beyond(s))
    s.transaction(ALL, rows_insert)
    s.caught_up()


# ---- The table itself ----

def partition_away(s):
    """Its rows are not the table's, change, and come back."""
    number = s.random.randrange(PARTS)
    keys = part_keys(number)

    def come_back(connection, versions):
        rows_update(connection, versions, f"page_{number}")
        ask(connection, f"ALTER TABLE page ATTACH PARTITION page_{number} {part_bounds(number)}")
        if s.random.randrange(2):
            ask(connection, "SELECT etagd.watch('page')")

    s.transaction(keys, lambda connection, _: ask(connection, f"ALTER TABLE page DETACH PARTITION page_{number}"))
    s.rest(beyond(s))
    s.transaction(keys, come_back)
    s.rest(0.5)
    s.caught_up()


def columns_computed(s):
    """Values change, and no row was written."""
    def write(connection, versions):
        ask(connection, "CREATE TABLE drawn AS SELECT * FROM unnest(%s, %s::bigint[]) v(key, version)", list(versions), list(versions.values()))
        ask(connection, "CREATE FUNCTION newest(int, bigint) RETURNS bigint LANGUAGE plpgsql AS "
                        "'BEGIN RETURN coalesce((SELECT d.version FROM public.drawn d WHERE d.key = $1), $2); END'")
        ask(connection, "ALTER TABLE page ALTER version TYPE bigint USING newest(key, version)")
        ask(connection, "DROP FUNCTION newest")
        ask(connection, "DROP TABLE drawn")

    s.transaction(ALL, write)
    s.rest(beyond(s))


class Psql:
    """As administrators use it: a superuser's."""

    def __init__(self, s):
        self.process = subprocess.Popen([os.path.join(s.pair.primary.programs, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d",
                                         s.pair.primary.conninfo(s.database_name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=s.stderr, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def do(self, text):
        self.process.stdin.write(text + "\n\\echo ok\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line == "ok\n":
                return
        raise Failure(f"psql ended with {self.process.wait(bound(10))}: {text[:100]}")


def restored(s):
    """A dump of a part, with its triggers off: they are on again afterwards, but not always. Its versions are old, and become new at once."""
    number = s.random.randrange(PARTS)
    dump = os.path.join(s.directory, "dump")
    s.command_do(os.path.join(s.pair.primary.programs, "pg_dump"), "--data-only", "--disable-triggers", "-t", f"page_{number}", "-f", dump, "-d",
                 s.pair.primary.conninfo(s.database_name))
    with Psql(s) as psql:
        psql.do(f"BEGIN; LOCK TABLE page IN EXCLUSIVE MODE; TRUNCATE page_{number};")
        versions = {key: s.draw(key) for key in part_keys(number)}
        psql.do(f"\\i {dump}")
        values = ", ".join(f"({key}, {version})" for key, version in versions.items())
        # Rows went away, or came back, after the dump: none is there twice, or not at all.
        psql.do(f"DELETE FROM public.page_away WHERE -1 - key IN ({', '.join(str(key) for key in versions)});")
        psql.do(f"INSERT INTO public.page VALUES {values} ON CONFLICT (key) DO UPDATE SET version = excluded.version;")
        psql.do("COMMIT;")
        s.written(versions)
    s.rest(beyond(s))
    s.owner("SELECT etagd.watch('page')")
    s.caught_up()


WATCHED_DECK = DECK + (trigger_disabled, trigger_disabled_for_a_moment, bulk_updated, rows_deleted, truncated, partition_away, columns_computed, restored)
FIRST = (rows_deleted, cut, trigger_disabled)
