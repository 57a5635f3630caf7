-- SPDX-License-Identifier: Apache-2.0
-- What hosts of etagd have in common, in the application's own database. "etag-relay setup" runs this script (schema.sql, watch.sql,
-- rights.sql, one after the other in one transaction), "etag-relay setup --print" shows it; it may be run again, and then upgrades.
-- PostgreSQL 13 and later. No extension, no superuser: whoever may make roles and, in this database, schemas.
--
-- The idea. A writer's transaction puts a row into the outbox, so the event commits with the data. Each host's relay asks again and
-- again "everything committed until now that I do not have", with the snapshot of its former question as the cursor: rows whose
-- transaction that snapshot did not see. Nothing here depends on the order in which transactions commit, nor on a clock.
--
-- A release that changes what a function returns has to drop it first; SCHEMA_VERSION (relay/engines/postgres.h) then changes too.
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;

-- ---- Before anything is touched ----------------------------------------------------------------

DO $$
DECLARE
    installed integer;
BEGIN
    IF current_setting('server_version_num')::integer < 130000 THEN
        RAISE EXCEPTION 'this is PostgreSQL %; etagd needs 13 or later', current_setting('server_version')
            USING HINT = 'Older ones have no 64-bit transaction ids (xid8).';
    END IF;
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'this server is a standby' USING HINT = 'Name the primary: its host, or target_session_attrs=read-write with all hosts.';
    END IF;
    PERFORM pg_advisory_xact_lock(7311138, 1); -- two who set up at once
    IF to_regnamespace('etagd') IS NULL THEN
        RETURN;
    END IF;
    IF to_regclass('etagd.setting') IS NULL OR to_regclass('etagd.outbox') IS NULL THEN
        RAISE EXCEPTION 'there is a schema "etagd" which is not of etag-relay' USING HINT = 'Rename it: ALTER SCHEMA etagd RENAME TO ...';
    END IF;
    EXECUTE 'SELECT version FROM etagd.setting' INTO installed;
    IF installed > 2 THEN
        RAISE EXCEPTION 'the schema etagd has version %, this etag-relay knows 2', installed
            USING HINT = 'It was set up by a later release: use that release''s etag-relay. Nothing was changed.';
    END IF;
END $$;

-- ---- Roles -------------------------------------------------------------------------------------
-- etagd_owner owns all of it and can't log in; etagd_writer may invalidate and wait, etagd_relay is for the relays. They
-- belong to the cluster: other databases in it have the same ones.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['etagd_owner', 'etagd_writer', 'etagd_relay'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
    -- To make what it shall own. Superusers may; others as a member, and whoever made a role may become one.
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT etagd_owner TO %I', current_user);
    END IF;
END $$;

CREATE SCHEMA IF NOT EXISTS etagd AUTHORIZATION etagd_owner;
SET LOCAL ROLE etagd_owner;

-- ---- Tables ------------------------------------------------------------------------------------
-- Only the owner has a right on them: functions are the way in. A row with a made-up transaction id would never be seen.

-- An event. Transaction ids become visible out of order, so "id > the last one" would lose some: relays ask by xid and snapshot.
-- ask: somebody waits for "everywhere". targets: names as bytes (etagd.record), never text that somebody has to parse.
CREATE TABLE IF NOT EXISTS etagd.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ask boolean NOT NULL DEFAULT false,
    targets bytea NOT NULL,
    PRIMARY KEY (xid, id)
);

-- One row, which relays never update. lease_ms: how long a poll makes a host fresh (L_net). wait_ms: how long a writer waits for
-- "everywhere" where acknowledgements do not prove it. apart_ms: after lease_ms fell, wait_ms may not for that time
-- (etagd.set_wait_ms).
CREATE TABLE IF NOT EXISTS etagd.setting (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL,
    lease_ms integer NOT NULL CHECK (lease_ms BETWEEN 100 AND 60000),
    wait_ms integer NOT NULL,
    changed timestamptz NOT NULL DEFAULT '2000-01-01',
    apart_ms integer NOT NULL DEFAULT 0,
    CONSTRAINT wait_covers_lease CHECK (wait_ms >= lease_ms + (lease_ms + 3) / 4 + 50 AND wait_ms <= 300000)
);

-- Apart from the settings, so that writers read no row that relays update: under SERIALIZABLE that would be a conflict.
-- trimmed: a snapshot which sees this transaction sees all that was removed.
CREATE TABLE IF NOT EXISTS etagd.trim (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    trimmed xid8
);

-- Hosts that may hold a lease. A row that goes too early is an OK that comes too early: only relays write here.
CREATE TABLE IF NOT EXISTS etagd.host (
    id text PRIMARY KEY CHECK (octet_length(id) BETWEEN 1 AND 255),
    nonce uuid NOT NULL,
    state text NOT NULL DEFAULT 'member' CHECK (state IN ('member', 'leaving')),
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The rest is UNLOGGED: empty after a crash and on a standby that was promoted, which is what it is for.
--
-- The witness: no one can have lost commits that were seen while it is the same. It counts only where it was made (etagd.witnessed):
-- a copied database, a restored dump, and tables that were emptied have none.
CREATE UNLOGGED TABLE IF NOT EXISTS etagd.witness (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    nonce uuid NOT NULL,
    place text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What a host has applied, and under which witness.
CREATE UNLOGGED TABLE IF NOT EXISTS etagd.ack (
    host text PRIMARY KEY,
    nonce uuid NOT NULL,
    witness uuid NOT NULL,
    snapshot pg_snapshot NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- Marks for trimming: what was visible when, and the transaction that wrote it down.
CREATE UNLOGGED TABLE IF NOT EXISTS etagd.tick (
    xid xid8 PRIMARY KEY DEFAULT pg_current_xact_id(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    witness uuid NOT NULL,
    snapshot pg_snapshot NOT NULL
);

INSERT INTO etagd.setting (version, lease_ms, wait_ms) VALUES (2, 2000, 2550) ON CONFLICT DO NOTHING;
INSERT INTO etagd.trim (trimmed) VALUES (NULL) ON CONFLICT DO NOTHING;

-- ---- What a name becomes -----------------------------------------------------------------------
-- A row's targets: the byte 1, then records: kind, two bytes of length (most significant first), so many bytes.
--     s  surrogate key     f  family     r, p  resource and prefix, as //host/path or /path     e  everything     h  hold_ms, four bytes
--     w  who wrote it, 1 to 255 bytes for people: the first record, or not there
-- relay/engines/outbox_row.c reads and writes the same. A row holds 8192 bytes at most; more names are more rows.

CREATE OR REPLACE FUNCTION etagd.record(kind "char", name text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bytes bytea := convert_to(name, 'UTF8');
    path text;
BEGIN
    IF name IS NULL OR name = '' THEN
        RAISE EXCEPTION 'a target''s name is %', CASE WHEN name IS NULL THEN 'NULL' ELSE 'empty' END USING ERRCODE = 'invalid_parameter_value';
    ELSIF octet_length(bytes) > 4096 THEN
        RAISE EXCEPTION 'a target''s name has % bytes; 4096 is the most', octet_length(bytes) USING ERRCODE = 'invalid_parameter_value',
            DETAIL = 'It begins with ' || left(name, 60);
    ELSIF name ~ '[\u0001-\u0020\u007f]' THEN
        RAISE EXCEPTION 'the target % has blanks or control characters', quote_literal(left(name, 200)) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF kind = 'f' AND left(name, 1) = ':' THEN
        RAISE EXCEPTION 'the family % is empty', quote_literal(left(name, 200)) USING ERRCODE = 'invalid_parameter_value',
            HINT = 'A family is the text before the first colon of its surrogate keys.';
    ELSIF kind NOT IN ('s', 'f') THEN
        path := regexp_replace(split_part(name, '?', 1), '^//[^/]*', '');
        IF path !~ '^/' OR name ~ '#' OR path ~ '%(?![0-9A-Fa-f][0-9A-Fa-f])' THEN
            RAISE EXCEPTION 'the % % is not written as //host/path or /path', CASE kind WHEN 'r' THEN 'resource' ELSE 'prefix' END,
                quote_literal(left(name, 200)) USING ERRCODE = 'invalid_parameter_value';
        ELSIF name ~ '^//[^/]' AND name !~* '^//([a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(:[0-9]*)?/' THEN
            RAISE EXCEPTION 'in % the host is not a host name or an address', quote_literal(left(name, 200)) USING ERRCODE = 'invalid_parameter_value';
        ELSIF kind = 'p' AND strpos(name, '?') > 0 THEN
            RAISE EXCEPTION 'the prefix % has a query: a prefix is a path', quote_literal(left(name, 200)) USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END IF;
    RETURN convert_to(kind::text, 'UTF8') || int2send(octet_length(bytes)::int2) || bytes;
END $$;

-- Who writes, as a record: login, where it comes from, how it calls itself. For people.
CREATE OR REPLACE FUNCTION etagd.writer() RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text := concat(session_user, '@', coalesce(host(inet_client_addr()), '[local]'), ' (', current_setting('application_name'), ')');
    bytes bytea;
BEGIN
    IF getdatabaseencoding() <> 'UTF8' THEN -- not all of it can be said in UTF-8
        name := regexp_replace(name, '[^ -~]', '?', 'g');
    END IF;
    bytes := substr(convert_to(name, 'UTF8'), 1, 255);
    RETURN E'\\x77'::bytea || int2send(octet_length(bytes)::int2) || bytes;
END $$;

-- ---- Writers -----------------------------------------------------------------------------------

-- Inside the writer's transaction: the event commits with its data. Returns the position, for etagd.wait() and etag_targets.
-- ask: "everywhere" will be waited for; without it only time proves that.
--     SELECT etagd.invalidate('upload:42', 'customer:7')
--     SELECT etagd.invalidate(resources => '{//example.org/a}', prefixes => '{/media/}', hold_ms => 500, ask => true)
--     SELECT etagd.invalidate(families => '{uploads}')     -- all surrogate keys "uploads:..."
DROP FUNCTION IF EXISTS etagd.invalidate(text[], text[], text[], boolean, integer, boolean); -- without families
CREATE OR REPLACE FUNCTION etagd.invalidate(surrogates text[] DEFAULT '{}', resources text[] DEFAULT '{}', prefixes text[] DEFAULT '{}',
    everything boolean DEFAULT false, hold_ms integer DEFAULT 0, ask boolean DEFAULT false, families text[] DEFAULT '{}') RETURNS xid8
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head bytea := E'\\x01'::bytea || etagd.writer(); -- E: standard_conforming_strings may be off
    line bytea;
    part bytea;
    kind "char";
    named text[];
    name text;
BEGIN
    IF hold_ms IS NULL OR hold_ms NOT BETWEEN 0 AND 3600000 THEN
        RAISE EXCEPTION 'hold_ms is %; it is 0 to 3600000, an hour', coalesce(hold_ms::text, 'NULL') USING ERRCODE = 'invalid_parameter_value';
    ELSIF hold_ms > 0 THEN
        head := head || E'\\x680004'::bytea || int4send(hold_ms);
    END IF;
    line := head;
    IF everything THEN
        line := line || E'\\x650000'::bytea;
    END IF;
    FOREACH kind IN ARRAY '{s,f,r,p}'::"char"[] LOOP
        named := CASE kind WHEN 's' THEN surrogates WHEN 'f' THEN families WHEN 'r' THEN resources ELSE prefixes END;
        FOREACH name IN ARRAY coalesce(named, '{}') LOOP
            part := etagd.record(kind, name);
            IF octet_length(line) + octet_length(part) > 8192 THEN
                INSERT INTO etagd.outbox (ask, targets) VALUES (coalesce(invalidate.ask, false), line);
                line := head;
            END IF;
            line := line || part;
        END LOOP;
    END LOOP;
    IF line = head THEN
        RAISE EXCEPTION 'etagd.invalidate() names nothing' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Name surrogate keys, families, resources or prefixes, or say everything => true.';
    END IF;
    INSERT INTO etagd.outbox (ask, targets) VALUES (coalesce(invalidate.ask, false), line);
    RETURN pg_current_xact_id();
END $$;

CREATE OR REPLACE FUNCTION etagd.invalidate(VARIADIC surrogates text[]) RETURNS xid8
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT etagd.invalidate(surrogates => $1);
$$;

-- System identifier, start of the server, database: what never changes while a session lasts. IMMUTABLE says so to PostgreSQL, which then
-- asks once for each plan of a session, and not for each poll (pg_control_system() reads a file). The timeline is not among them: a
-- session on a standby outlives its promotion.
CREATE OR REPLACE FUNCTION etagd.session_place() RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT ARRAY[c.system_identifier, (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, d.oid::bigint]
        FROM pg_control_system() c, pg_database d WHERE d.datname = current_database());
END $$;

-- Where this is, as text: cluster, start, database, timeline, and tables: ones that were emptied or made again give another one.
-- Integers, whose text depends on no setting of a session.
DROP FUNCTION IF EXISTS etagd.place(); -- returned columns
CREATE FUNCTION etagd.place() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN ARRAY[(etagd.session_place())[1], (etagd.session_place())[2], (etagd.session_place())[3],
        ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint, 'etagd.outbox'::regclass::oid::bigint,
        pg_relation_filenode('etagd.outbox'::regclass)::bigint, pg_relation_filenode('etagd.witness'::regclass)::bigint]::text;
END $$;

-- The witness, NULL where there is none or where it is a copy.
CREATE OR REPLACE FUNCTION etagd.witnessed() RETURNS uuid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT w.nonce FROM etagd.witness w WHERE w.place = etagd.place());
END $$;

-- Whether every host that may hold a lease has applied the event, by what they said under this witness. Whoever is not in the
-- table now has no lease (it left, and that was waited for) or will read the event before it has one (its row comes first).
-- A witness younger than the wait proves nothing yet: a host whose row was lost with a failover may hold the rest of a lease.
CREATE OR REPLACE FUNCTION etagd.acknowledged(waited_for xid8) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    mine uuid := etagd.witnessed();
BEGIN
    RETURN EXISTS (SELECT FROM etagd.witness w, etagd.setting s
            WHERE w.nonce = mine AND clock_timestamp() - w.since >= s.wait_ms * interval '1 ms')
        AND NOT EXISTS (SELECT FROM etagd.host h WHERE NOT EXISTS (SELECT FROM etagd.ack a
            WHERE a.host = h.id AND a.nonce = h.nonce AND a.witness = mine AND pg_visible_in_snapshot(waited_for, a.snapshot)));
END $$;

-- After COMMIT has returned, outside of that transaction: returns once no front end on any host answers from older data, with what
-- proved it: 'acknowledged', or 'time'. Time is counted in short sleeps, since SQL has no clock that cannot step.
CREATE OR REPLACE FUNCTION etagd.wait(waited_for xid8) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    left_ms integer;
    step_ms integer := 1;
BEGIN
    IF waited_for IS NULL THEN
        RAISE EXCEPTION 'etagd.wait() needs the position that etagd.invalidate() returned' USING ERRCODE = 'invalid_parameter_value';
    ELSIF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'etagd.wait() cannot see what others do in a transaction of isolation %', upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'invalid_transaction_state', HINT = 'Call it outside of a transaction, after COMMIT.';
    ELSIF waited_for = pg_current_xact_id_if_assigned() OR NOT pg_visible_in_snapshot(waited_for, pg_current_snapshot()) THEN
        RAISE EXCEPTION 'transaction % has not ended: it cannot be waited for', waited_for
            USING ERRCODE = 'invalid_transaction_state', HINT = 'Call etagd.wait() after its COMMIT has returned.';
    ELSIF pg_xact_status(waited_for) = 'aborted' THEN
        RAISE EXCEPTION 'transaction % was rolled back: it changed nothing', waited_for USING ERRCODE = 'invalid_transaction_state';
    END IF;
    SELECT s.wait_ms INTO STRICT left_ms FROM etagd.setting s WHERE s.one; -- COMMIT has returned, so the time runs; then it is read how long
    left_ms := left_ms + 50; -- five sleeps that a clock which steps forward cuts short
    LOOP
        IF etagd.acknowledged(waited_for) THEN
            RETURN 'acknowledged';
        END IF;
        IF left_ms <= 0 THEN
            RETURN 'time';
        END IF;
        PERFORM pg_sleep(step_ms / 1000.0);
        left_ms := left_ms - step_ms;
        step_ms := CASE WHEN step_ms < 10 THEN step_ms + 1 ELSE 10 END;
    END LOOP;
END $$;

-- Of this schema, for whoever connects.
CREATE OR REPLACE FUNCTION etagd.version() RETURNS integer
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 2';

-- ---- Relays ------------------------------------------------------------------------------------

-- One statement's snapshot is all that it reads by: the function is STABLE, and must stay so. It takes no transaction id. On a
-- standby it says so and nothing else: a standby's snapshot leaves out transactions that run on the primary.
-- events: of each row xid, length and targets, as outbox_row.c reads them; NULL where there are more than rows_max, or bytes_max.
-- A row that is too long for one of ours has no targets.
DROP FUNCTION IF EXISTS etagd.poll(pg_snapshot, text, uuid, integer, integer);
DROP TYPE IF EXISTS etagd.polled;
CREATE TYPE etagd.polled AS (version integer, in_recovery boolean, system_id bigint, started_us bigint, timeline bigint, database bigint,
    snapshot pg_snapshot, witness uuid, trimmed xid8, lease_ms integer, wait_ms integer, state text, row_count bigint, asked boolean,
    events bytea, digest bigint);
CREATE FUNCTION etagd.poll(seen pg_snapshot, me text, my_nonce uuid, rows_max integer, bytes_max integer) RETURNS etagd.polled
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    witness uuid;
    trimmed xid8;
    lease_ms integer;
    wait_ms integer;
    state text;
    row_count bigint := 0;
    asked boolean := seen IS NULL; -- an acknowledgement too many does no harm
    events bytea;
    sum_bytes bigint;
    watches boolean;
    news boolean;
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN ROW(2, true, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::etagd.polled;
    END IF;
    -- One statement, since to begin each one costs more than what it reads. Most polls find nothing new, and end with it. For the same
    -- reason the tables of one row or few are read without their indexes. Who answers is asked while it runs, when its tables are locked:
    -- TRUNCATE does not wait for snapshots, but it does for that.
    SELECT s.lease_ms, s.wait_ms, (SELECT t.trimmed FROM etagd.trim t), (SELECT w.nonce FROM etagd.witness w WHERE w.place = etagd.place()),
            (SELECT h.state FROM etagd.host h WHERE h.id = me AND h.nonce = my_nonce),
            EXISTS (SELECT FROM etagd.watched x WHERE x.table_name IS NOT NULL), EXISTS (SELECT FROM etagd.outbox o WHERE o.xid >= pg_snapshot_xmax(seen))
        INTO lease_ms, wait_ms, trimmed, witness, state, watches, news FROM etagd.setting s;
    IF news OR pg_snapshot_xmin(seen) <> pg_snapshot_xmax(seen) THEN -- or some ran then
        -- Two conditions that an index answers each, whatever the planner believes of how many rows there are.
        SELECT count(*), coalesce(bool_or(o.ask), false), coalesce(sum(octet_length(o.line)), 0), string_agg(o.line, ''::bytea)
            INTO row_count, asked, sum_bytes, events
            FROM (SELECT q.ask, xid8send(q.xid) || int4send(octet_length(q.targets)) || q.targets AS line
                FROM ((SELECT n.xid, n.ask, CASE WHEN octet_length(n.targets) <= 8192 THEN n.targets ELSE ''::bytea END AS targets
                        FROM etagd.outbox n WHERE n.xid >= pg_snapshot_xmax(seen) LIMIT rows_max + 1)
                    UNION ALL
                    (SELECT r.xid, r.ask, CASE WHEN octet_length(r.targets) <= 8192 THEN r.targets ELSE ''::bytea END
                        FROM etagd.outbox r WHERE r.xid = ANY (ARRAY(SELECT pg_snapshot_xip(seen))) LIMIT rows_max + 1)) q) o;
        IF row_count > rows_max OR sum_bytes > bytes_max THEN
            events := NULL;
            asked := true; -- one that was left out may have
        END IF;
    END IF;
    RETURN ROW(2, false, (etagd.session_place())[1], (etagd.session_place())[2],
        ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint, (etagd.session_place())[3], pg_current_snapshot(),
        witness, trimmed, lease_ms, wait_ms, state, row_count, asked, events,
        CASE WHEN watches THEN etagd.watch_digest() ELSE 0 END)::etagd.polled;
END $$;

-- Events that writers left with their host's daemon: a transaction of its own, whose id is the position.
--
-- It waits for no disk and no standby, which might be away. The data is committed already, and a crash or failover that loses this
-- row takes the witness with it: every host then raises everything, this event too. (Rows of writers go with their data, and are
-- as durable as that.)
--
-- wake: relays that listen hear of it with its COMMIT. What is refused then, since somebody notifies who waits (etagd.wake), is to be
-- repeated without.
DROP FUNCTION IF EXISTS etagd.publish(bytea[], boolean); -- without wake
CREATE OR REPLACE FUNCTION etagd.publish(lines bytea[], ask boolean, wake boolean DEFAULT false) RETURNS xid8
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    setting text := set_config('synchronous_commit', 'off', true); -- to PERFORM it is a query of its own
BEGIN
    IF cardinality(lines) = 1 AND octet_length(lines[1]) BETWEEN 1 AND 8192 THEN -- most are
        INSERT INTO etagd.outbox (ask, targets) VALUES (publish.ask, lines[1]);
    ELSIF coalesce(cardinality(lines), 0) = 0 OR EXISTS (SELECT FROM unnest(lines) l WHERE l IS NULL OR octet_length(l) NOT BETWEEN 1 AND 8192) THEN
        RAISE EXCEPTION 'etagd.publish() is for etag-relay' USING ERRCODE = 'invalid_parameter_value';
    ELSE
        INSERT INTO etagd.outbox (ask, targets) SELECT publish.ask, l FROM unnest(lines) l;
    END IF;
    IF wake THEN
        setting := set_config('lock_timeout', '20ms', true); -- as etagd.wake
        PERFORM pg_notify('etagd', '');
    END IF;
    RETURN pg_current_xact_id();
END $$;

-- A writer says that the event at this position is committed: NULL, or why it is not visible. Then, if ask, all are asked to acknowledge
-- what they have read, by a row that names nothing. NULL for the position: nothing is to be looked at. What is not visible yet may be
-- rolled back, or be visible when a lease from before it is not over: neither "log" nor "everywhere" could be said of it. wake: as
-- etagd.publish; no relay is woken for nothing.
DROP FUNCTION IF EXISTS etagd.ask(xid8, boolean); -- without wake
CREATE OR REPLACE FUNCTION etagd.ask(waited_for xid8, ask boolean, wake boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
    IF waited_for IS NOT NULL AND NOT pg_visible_in_snapshot(waited_for, pg_current_snapshot()) THEN
        RETURN format('transaction %s has not ended, or is not of this database: say its position after its COMMIT has returned', waited_for);
    ELSIF waited_for IS NOT NULL AND NOT EXISTS (SELECT FROM etagd.outbox o WHERE o.xid = waited_for) THEN
        RETURN format('the outbox has no event of transaction %s: it was rolled back, or did not call etagd.invalidate() here, or is '
            'older than the retention', waited_for);
    END IF;
    IF ask THEN
        PERFORM set_config('synchronous_commit', 'off', true); -- as etagd.publish
        INSERT INTO etagd.outbox (ask, targets) VALUES (true, '\x01');
    END IF;
    IF wake THEN
        PERFORM etagd.wake();
    END IF;
    RETURN NULL;
END $$;

-- Wakes the relays that listen. It proves nothing and is in a transaction of its own, which waits for no disk: at its end every
-- transaction that notifies takes a lock of the whole server, which one of the application may hold while it waits for a standby.
-- Then no relay is woken, and polls come by themselves. For relays alone: in a transaction of a writer these settings would be the
-- writer's.
CREATE OR REPLACE FUNCTION etagd.wake() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    settings text := set_config('synchronous_commit', 'off', true) || set_config('lock_timeout', '20ms', true);
BEGIN
    PERFORM pg_notify('etagd', '');
END $$;

-- A new witness where there is none that counts. All that was seen before proves nothing then, and is raised by all; so what was
-- removed starts again too, and what a dump brought goes: marks, acknowledgements, rows of transactions that never were.
CREATE OR REPLACE FUNCTION etagd.bear_witness() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF etagd.witnessed() IS NOT NULL THEN
        RETURN;
    END IF;
    LOCK TABLE etagd.witness IN SHARE ROW EXCLUSIVE MODE;
    IF etagd.witnessed() IS NOT NULL THEN
        RETURN;
    END IF;
    DELETE FROM etagd.tick;
    DELETE FROM etagd.ack;
    DELETE FROM etagd.outbox o WHERE o.xid >= pg_snapshot_xmax(pg_current_snapshot());
    UPDATE etagd.trim SET trimmed = pg_current_xact_id();
    DELETE FROM etagd.witness;
    INSERT INTO etagd.witness (nonce, place) VALUES (gen_random_uuid(), etagd.place());
END $$;

-- Makes the host a member, and a witness if there is none. Committed before the first poll that counts; no standby is waited for: one
-- that is promoted without this row has a young witness. A row of another nonce stays as it is: two hosts of one name, and one's
-- acknowledgements would count for both.
CREATE OR REPLACE FUNCTION etagd.join(me text, my_nonce uuid, OUT state text, OUT nonce uuid, OUT lease_ms integer, OUT wait_ms integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'local', true);
    PERFORM etagd.bear_witness();
    INSERT INTO etagd.host AS h (id, nonce) VALUES (me, my_nonce)
        ON CONFLICT (id) DO UPDATE SET state = 'member', since = clock_timestamp() WHERE h.nonce = my_nonce AND h.state = 'leaving';
    SELECT h.state, h.nonce INTO STRICT join.state, join.nonce FROM etagd.host h WHERE h.id = me;
    SELECT s.lease_ms, s.wait_ms INTO STRICT join.lease_ms, join.wait_ms FROM etagd.setting s WHERE s.one;
END $$;

-- All members, those that leave too, with what each has acknowledged; one row with no host where there is none. A row more than
-- hosts_max: there are more. settled: the witness is old enough for acknowledgements to prove something (etagd.acknowledged). own: the
-- registration of who asks.
DROP FUNCTION IF EXISTS etagd.members(integer); -- without own
CREATE OR REPLACE FUNCTION etagd.members(me text, my_nonce uuid, hosts_max integer) RETURNS TABLE (version integer, in_recovery boolean,
    system_id bigint, started_us bigint, timeline bigint, database bigint, witness uuid, settled boolean, wait_ms integer, host text, state text,
    own boolean, ack_witness uuid, ack_snapshot pg_snapshot)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
SET plan_cache_mode = force_generic_plan SET enable_hashjoin = off SET enable_mergejoin = off AS $$ -- to plan it takes longer than to run it
DECLARE
    here text;
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN QUERY SELECT 2, true, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::uuid, false, NULL::integer, NULL::text,
            NULL::text, NULL::boolean, NULL::uuid, NULL::pg_snapshot;
        RETURN;
    END IF;
    here := etagd.place();
    RETURN QUERY SELECT 2, false, (etagd.session_place())[1], (etagd.session_place())[2], split_part(here, ',', 4)::bigint,
        (etagd.session_place())[3], w.nonce,
        coalesce(clock_timestamp() - w.since >= s.wait_ms * interval '1 ms', false), s.wait_ms, h.id, h.state,
        coalesce(h.id = me AND h.nonce = my_nonce, false), a.witness, a.snapshot
        FROM etagd.setting s LEFT JOIN etagd.witness w ON w.place = here
        LEFT JOIN etagd.host h ON true LEFT JOIN etagd.ack a ON a.host = h.id AND a.nonce = h.nonce
        LIMIT hosts_max + 1;
END $$;

CREATE OR REPLACE FUNCTION etagd.acknowledge(me text, my_nonce uuid, my_witness uuid, my_snapshot pg_snapshot) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    setting text := set_config('synchronous_commit', 'off', true);
BEGIN
    INSERT INTO etagd.ack AS a (host, nonce, witness, snapshot) VALUES (me, my_nonce, my_witness, my_snapshot)
        ON CONFLICT (host) DO UPDATE SET nonce = my_nonce, witness = my_witness, snapshot = my_snapshot, at = clock_timestamp();
END $$;

-- From its return on polls of this host do not count. Who asks waits for lease_ms on a clock of his own before etagd.gone().
CREATE OR REPLACE FUNCTION etagd.leave(who text, OUT nonce uuid, OUT lease_ms integer, OUT wait_ms integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'local', true);
    UPDATE etagd.host h SET state = 'leaving', since = clock_timestamp() WHERE h.id = who AND h.state = 'member';
    SELECT h.nonce INTO leave.nonce FROM etagd.host h WHERE h.id = who;
    SELECT s.lease_ms, s.wait_ms INTO STRICT leave.lease_ms, leave.wait_ms FROM etagd.setting s WHERE s.one;
END $$;

-- True: the host is out. False: it is not one that leaves (any more). Refused while its lease may run by this server's clock too.
CREATE OR REPLACE FUNCTION etagd.gone(who text, his_nonce uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    row etagd.host;
    left_ms numeric;
BEGIN
    SELECT h.* INTO row FROM etagd.host h WHERE h.id = who AND h.nonce = his_nonce AND h.state = 'leaving' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT s.lease_ms - extract(epoch FROM clock_timestamp() - row.since) * 1000 INTO STRICT left_ms FROM etagd.setting s WHERE s.one;
    IF left_ms > 0 THEN
        RAISE EXCEPTION 'the host % may hold its lease for % ms more', quote_literal(who), ceil(left_ms)
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Repeat it then.';
    END IF;
    DELETE FROM etagd.ack a WHERE a.host = who;
    DELETE FROM etagd.host h WHERE h.id = who;
    RETURN true;
END $$;

-- Marks what is visible now, and removes what was visible in a mark older than the retention; returns how many rows. "trimmed" moves
-- in the same transaction. One relay at a time; the others pass.
CREATE OR REPLACE FUNCTION etagd.trim(retention_ms bigint, rows_max integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine uuid := etagd.witnessed();
    keep interval := greatest(retention_ms, 1000) * interval '1 ms';
    mark etagd.tick;
    foreign_count bigint;
    removed bigint := 0;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM FROM etagd.trim t FOR UPDATE SKIP LOCKED;
    IF NOT FOUND OR mine IS NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM etagd.outbox o WHERE o.xid >= pg_snapshot_xmax(pg_current_snapshot()); -- of a restored dump: no transaction of this cluster
    GET DIAGNOSTICS foreign_count = ROW_COUNT;
    IF NOT EXISTS (SELECT FROM etagd.tick t WHERE t.witness = mine AND t.at BETWEEN clock_timestamp() - keep / 8 AND clock_timestamp()) THEN
        INSERT INTO etagd.tick (witness, snapshot) VALUES (mine, pg_current_snapshot());
    END IF;
    DELETE FROM etagd.tick t WHERE t.witness <> mine;
    SELECT t.* INTO mark FROM etagd.tick t WHERE t.at <= clock_timestamp() - keep ORDER BY t.at DESC LIMIT 1;
    IF FOUND THEN
        DELETE FROM etagd.outbox o WHERE (o.xid, o.id) IN (SELECT p.xid, p.id FROM etagd.outbox p
            WHERE p.xid < pg_snapshot_xmax(mark.snapshot) AND pg_visible_in_snapshot(p.xid, mark.snapshot) ORDER BY p.xid LIMIT rows_max);
        GET DIAGNOSTICS removed = ROW_COUNT;
        IF removed > 0 THEN
            UPDATE etagd.trim SET trimmed = mark.xid;
        END IF;
        DELETE FROM etagd.tick t WHERE t.at < mark.at;
    END IF;
    RETURN removed + foreign_count;
END $$;

-- ---- Operators ---------------------------------------------------------------------------------

-- A longer lease: wait_ms first, so that no writer that counts the shorter wait meets a poll of the longer lease (a poll reads its
-- lease in the snapshot of its rows). A shorter one: the other way round, and between the two as much time as the wait was.
-- "etag-relay setup --lease-ms" does all of it; the constraint and this check hold for whoever does it by hand.
CREATE OR REPLACE FUNCTION etagd.set_wait_ms(new_ms integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now_set etagd.setting;
    left_ms numeric;
BEGIN
    SELECT s.* INTO STRICT now_set FROM etagd.setting s FOR UPDATE;
    left_ms := now_set.apart_ms - extract(epoch FROM clock_timestamp() - now_set.changed) * 1000;
    IF new_ms < now_set.wait_ms AND left_ms > 0 THEN
        RAISE EXCEPTION 'leases of the former length may run for % ms more', ceil(left_ms)
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Repeat it then.';
    END IF;
    UPDATE etagd.setting s SET wait_ms = new_ms WHERE s.wait_ms <> new_ms;
END $$;

CREATE OR REPLACE FUNCTION etagd.set_lease_ms(new_ms integer) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE etagd.setting s SET lease_ms = new_ms,
        changed = CASE WHEN new_ms < s.lease_ms THEN clock_timestamp() ELSE s.changed END,
        apart_ms = CASE WHEN new_ms < s.lease_ms THEN s.wait_ms ELSE s.apart_ms END WHERE s.lease_ms <> new_ms;
$$;

-- For people.
CREATE OR REPLACE FUNCTION etagd.age(seconds double precision) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN seconds < 100 THEN round(seconds::numeric, 1) || ' s' WHEN seconds < 6000 THEN round(seconds::numeric / 60) || ' min'
        ELSE round(seconds::numeric / 3600) || ' h' END;
$$;

-- What "etag-relay status" shows of all hosts together.
CREATE OR REPLACE FUNCTION etagd.status(OUT version integer, OUT lease_ms integer, OUT wait_ms integer, OUT witness uuid,
    OUT witness_s double precision, OUT row_count bigint, OUT oldest_s double precision, OUT bytes bigint, OUT trimmed xid8)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT s.version, s.lease_ms, s.wait_ms INTO STRICT status.version, status.lease_ms, status.wait_ms FROM etagd.setting s WHERE s.one;
    witness := etagd.witnessed();
    SELECT extract(epoch FROM clock_timestamp() - w.since) INTO witness_s FROM etagd.witness w;
    SELECT count(*), extract(epoch FROM clock_timestamp() - min(o.at)) INTO row_count, oldest_s FROM etagd.outbox o;
    bytes := pg_total_relation_size('etagd.outbox'::regclass);
    SELECT t.trimmed INTO status.trimmed FROM etagd.trim t WHERE t.one;
END $$;

CREATE OR REPLACE FUNCTION etagd.hosts() RETURNS TABLE (host text, state text, since_s double precision, nonce uuid, ack_s double precision,
    ack_current boolean, ack_snapshot pg_snapshot, missing bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT h.id, h.state, extract(epoch FROM clock_timestamp() - h.since)::double precision, h.nonce,
        extract(epoch FROM clock_timestamp() - a.at)::double precision, a.witness = etagd.witnessed(), a.snapshot,
        CASE WHEN a.snapshot IS NOT NULL THEN (SELECT count(*) FROM etagd.outbox o WHERE NOT pg_visible_in_snapshot(o.xid, a.snapshot)) END
        FROM etagd.host h LEFT JOIN etagd.ack a ON a.host = h.id AND a.nonce = h.nonce ORDER BY h.id;
END $$;

