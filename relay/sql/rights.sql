-- ---- Rights ------------------------------------------------------------------------------------

REVOKE ALL ON SCHEMA etagd FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA etagd FROM PUBLIC;
DO $$
DECLARE
    function record;
BEGIN
    -- etagd.on_ddl() is another's. The functions of tables that are watched are called by triggers of writers; to say again what they
    -- have would change what polls compare.
    FOR function IN SELECT p.oid::regprocedure AS name, p.proname ~ '^watched_[0-9]' AS watched FROM pg_proc p
            WHERE p.pronamespace = 'etagd'::regnamespace AND p.proowner = 'etagd_owner'::regrole AND (p.proname !~ '^watched_[0-9]'
                OR has_function_privilege('public', p.oid, 'EXECUTE') OR NOT has_function_privilege('etagd_writer', p.oid, 'EXECUTE')) LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function.name);
        IF function.watched THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO etagd_writer', function.name);
        END IF;
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA etagd TO etagd_writer, etagd_relay;
GRANT EXECUTE ON FUNCTION etagd.invalidate(text[], text[], text[], boolean, integer, boolean, text[]), etagd.invalidate(text[]), etagd.wait(xid8),
    etagd.version() TO etagd_writer, etagd_relay;
-- What etagd.watch() calls by the rights of the table's owner, who is a writer too: each checks.
GRANT EXECUTE ON FUNCTION etagd.watch(regclass, text[]), etagd.unwatch(regclass), etagd.watch_check(oid), etagd.owner_check(oid),
    etagd.parts_of(oid), etagd.watch_note(oid, text[]), etagd.watch_id(oid), etagd.watch_forget(oid), etagd.watch_lock(oid),
    etagd.watch_triggers(oid, integer, boolean), etagd.watches() TO etagd_writer;
GRANT EXECUTE ON FUNCTION etagd.poll(pg_snapshot, text, uuid, integer, integer), etagd.publish(bytea[], boolean, boolean), etagd.ask(xid8, boolean, boolean),
    etagd.join(text, uuid), etagd.members(text, uuid, integer), etagd.acknowledge(text, uuid, uuid, pg_snapshot), etagd.leave(text), etagd.gone(text, uuid),
    etagd.trim(bigint, integer), etagd.wake(), etagd.set_wait_ms(integer), etagd.set_lease_ms(integer), etagd.status(), etagd.hosts(),
    etagd.age(double precision), etagd.set_watch_rows(integer), etagd.watches() TO etagd_relay;

DO 'BEGIN PERFORM etagd.bear_witness(); END';
UPDATE etagd.setting SET version = 2 WHERE version <> 2;
RESET ROLE;

-- ---- Parts that come later ---------------------------------------------------------------------
-- A partition that is made or attached gets its triggers at once, in the same transaction, where a superuser sets up again once tables
-- are watched: no other role may have an event trigger. Elsewhere each poll raises everything until etagd.watch() is called again. It runs
-- with the superuser's rights, so it calls nothing that a role of ours could replace. Not before: pg_dump -N etagd has event triggers.

DO $setup$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR NOT EXISTS (SELECT FROM etagd.watched) THEN
        RETURN;
    END IF;
    CREATE OR REPLACE FUNCTION etagd.on_ddl() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
        t record;
        alter_all text[] := '{}';
        alter_one text;
    BEGIN
        FOR t IN WITH RECURSIVE part AS (
                SELECT w.id, w.relation FROM etagd.watched w
                UNION
                SELECT p.id, i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.relation)
            SELECT p.id, p.relation::regclass AS relation, format('etagd_%s_%s', p.id, o.op) AS name, upper(o.op) AS op, o.tables
                FROM part p JOIN pg_class c ON c.oid = p.relation JOIN pg_proc f ON f.proname = 'watched_' || p.id AND f.pronamespace = 'etagd'::regnamespace
                CROSS JOIN (VALUES ('insert', 'REFERENCING NEW TABLE AS new_rows'),
                    ('update', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows'), ('delete', 'REFERENCING OLD TABLE AS old_rows'),
                    ('truncate', '')) o(op, tables)
                WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND NOT EXISTS (SELECT FROM etagd.watched w WHERE w.id = p.id AND w.relation = p.relation)
                    AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = p.relation AND g.tgfoid = f.oid) LOOP
            EXECUTE format('CREATE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION etagd.watched_%s()',
                t.name, t.op, t.relation, t.tables, t.id);
            alter_all := alter_all || format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', t.relation, t.name);
        END LOOP;
        FOREACH alter_one IN ARRAY alter_all LOOP -- which calls this function: by now no part lacks any
            EXECUTE alter_one;
        END LOOP;
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'etagd: a part of a watched table got no triggers: %', SQLERRM USING HINT = 'SELECT etagd.watch() with that table.';
    END $$;
    DROP EVENT TRIGGER IF EXISTS etagd_watch;
    CREATE EVENT TRIGGER etagd_watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE') EXECUTE FUNCTION etagd.on_ddl();
    REVOKE ALL ON FUNCTION etagd.on_ddl() FROM PUBLIC;
    ALTER FUNCTION etagd.on_ddl() OWNER TO CURRENT_USER; -- if one was there already
END $setup$;
COMMIT;
