-- ---- Watching ----------------------------------------------------------------------------------
-- The second part of the schema. Writes that name nothing are seen by triggers: etagd.watch('uploads', 'upload:{id}') puts them on a
-- table and on all that belongs to it (partitions, children), so that whoever writes (psql, a migration, another service) puts the
-- names of the rows into the outbox, in his own transaction.
--
-- The triggers belong to the table's owner, who calls etagd.watch(): it runs with his rights. What it knows is kept by etagd_owner, and
-- so is the function that the triggers call, one for each watched table, made here: its statements are planned once a session.
--
-- What triggers cannot see (they were disabled, a partition came without them, a column was computed anew) the catalogs show: each
-- poll carries a digest of them, etagd.watch_digest(), in the same snapshot as its rows.

CREATE TABLE IF NOT EXISTS etagd.watched (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation oid NOT NULL UNIQUE,
    -- as it was called when it was watched: one that was dropped and made again has another oid
    schema_name name NOT NULL,
    table_name name NOT NULL,
    templates text[] NOT NULL,
    -- what the templates read, as it was then
    columns name[] NOT NULL,
    types oid[] NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- More rows than so many in one statement are the families of the templates. A row that is named costs the writer about twice as much
-- as its UPDATE does (bench/watch.py), and relays take 262144 bytes of names in a poll.
ALTER TABLE etagd.setting ADD COLUMN IF NOT EXISTS watch_rows integer NOT NULL DEFAULT 200 CHECK (watch_rows BETWEEN 1 AND 10000);

-- ---- Templates ----

-- "upload:{id}": literals and columns, in their order. {{ and }} are braces.
CREATE OR REPLACE FUNCTION etagd.template_parts(template text) RETURNS TABLE (place bigint, literal text, of_column text)
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT m.place, CASE WHEN m.piece[1] = '{{' THEN '{' WHEN m.piece[1] = '}}' THEN '}' WHEN m.piece[1] !~ '^\{.' THEN m.piece[1] END,
        CASE WHEN m.piece[1] ~ '^\{[^{]' THEN substr(m.piece[1], 2, length(m.piece[1]) - 2) END
        FROM regexp_matches(template, '\{\{|\}\}|\{[^{}]+\}|[^{}]+|.', 'g') WITH ORDINALITY m(piece, place);
END $$;

-- What stands before its first column; the family is that up to its first colon.
CREATE OR REPLACE FUNCTION etagd.template_family(template text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT split_part(string_agg(p.literal, '' ORDER BY p.place), ':', 1) FROM etagd.template_parts(template) p
        WHERE p.place < coalesce((SELECT min(q.place) FROM etagd.template_parts(template) q WHERE q.of_column IS NOT NULL), p.place + 1);
$$;

CREATE OR REPLACE FUNCTION etagd.template_check(template text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    literals text := (SELECT string_agg(p.literal, '' ORDER BY p.place) FROM etagd.template_parts(template) p);
    before text := (SELECT string_agg(p.literal, '' ORDER BY p.place) FROM etagd.template_parts(template) p
        WHERE p.place < coalesce((SELECT min(q.place) FROM etagd.template_parts(template) q WHERE q.of_column IS NOT NULL), 0));
    shown text := coalesce(quote_literal(left(template, 200)), 'NULL');
BEGIN
    IF coalesce(template, '') = '' OR regexp_replace(template, '\{\{|\}\}|\{[^{}]+\}', '', 'g') ~ '[{}]' THEN
        RAISE EXCEPTION 'the template % is not text with columns in braces', shown USING ERRCODE = 'invalid_parameter_value',
            HINT = 'As in ''upload:{id}''. A brace that is meant as such is doubled: {{ and }}.';
    ELSIF literals ~ '[\u0001-\u0020\u007f,;]' OR octet_length(convert_to(literals, 'UTF8')) > 128 THEN
        RAISE EXCEPTION 'the template % has blanks, control characters, commas or semicolons, or more than 128 bytes besides its columns', shown
            USING ERRCODE = 'invalid_parameter_value', HINT = 'What it makes has to be a surrogate key.';
    ELSIF EXISTS (SELECT FROM etagd.template_parts(template) p WHERE p.of_column IS NOT NULL) AND coalesce(before, '') !~ '^[^:]+:' THEN
        RAISE EXCEPTION 'the template % has no family: text and a colon before its first column', shown USING ERRCODE = 'invalid_parameter_value',
            HINT = 'As in ''upload:{id}'': TRUNCATE, and a statement with many rows, name the family "upload:*".';
    END IF;
END $$;

-- ---- What can be watched ----

-- All of a watched table: itself, partitions, children, theirs. Temporary children are of one session, which alone sees their rows.
CREATE OR REPLACE FUNCTION etagd.parts_of(root oid) RETURNS TABLE (relation oid)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE part AS (SELECT root AS relation UNION SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.relation)
    SELECT p.relation FROM part p JOIN pg_class c ON c.oid = p.relation WHERE c.relpersistence <> 't' OR p.relation = root;
$$;

CREATE OR REPLACE FUNCTION etagd.watch_check(root oid) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c pg_class;
    other oid;
BEGIN
    SELECT * INTO c FROM pg_class k WHERE k.oid = root;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no table %', root USING ERRCODE = 'undefined_table';
    ELSIF c.relkind = 'v' THEN
        RAISE EXCEPTION '% is a view: it has no rows of its own', root::regclass USING ERRCODE = 'wrong_object_type',
            HINT = 'Watch the tables that it reads.';
    ELSIF c.relkind = 'm' THEN
        RAISE EXCEPTION '% is a materialized view: no trigger sees its REFRESH', root::regclass USING ERRCODE = 'wrong_object_type',
            HINT = 'After REFRESH call etagd.invalidate() with what depends on it, in the same transaction.';
    ELSIF c.relkind = 'f' THEN
        RAISE EXCEPTION '% is a foreign table: its rows change elsewhere', root::regclass USING ERRCODE = 'wrong_object_type',
            HINT = 'Do not cache what reads it, or have those who write it call etagd.invalidate() here.';
    ELSIF c.relkind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION '% is not a table', root::regclass USING ERRCODE = 'wrong_object_type';
    ELSIF c.relpersistence = 't' THEN
        RAISE EXCEPTION '% is a temporary table: only its own session sees it', root::regclass USING ERRCODE = 'wrong_object_type',
            HINT = 'Do not cache what reads it.';
    ELSIF root < 16384 OR c.relnamespace IN (SELECT n.oid FROM pg_namespace n WHERE n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast', 'etagd')) THEN
        RAISE EXCEPTION '% is a table of the system: it has no triggers', root::regclass USING ERRCODE = 'wrong_object_type',
            HINT = 'Do not cache what reads it.';
    END IF;
    SELECT p.relation INTO other FROM etagd.parts_of(root) p JOIN pg_class k ON k.oid = p.relation WHERE k.relkind NOT IN ('r', 'p') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% has the foreign table % as a part: its rows change elsewhere', root::regclass, other::regclass
            USING ERRCODE = 'wrong_object_type', HINT = 'Do not cache what reads it, or take that part out.';
    END IF;
    SELECT s.srrelid INTO other FROM etagd.parts_of(root) p JOIN pg_subscription_rel s ON s.srrelid = p.relation LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% is subscribed to: logical replication fires no statement''s trigger', other::regclass
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Watch it where it is written, and poll there.';
    END IF;
    SELECT i.inhparent INTO other FROM etagd.parts_of(root) p JOIN pg_inherits i ON i.inhrelid = p.relation
        WHERE i.inhparent NOT IN (SELECT q.relation FROM etagd.parts_of(root) q) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% is, or has, a part of %: writes that name that one fire no trigger here', root::regclass, other::regclass
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('Watch %s: its parts are watched with it.', other::regclass);
    END IF;
END $$;

-- Names are made of values whose text depends on no setting of a session.
CREATE OR REPLACE FUNCTION etagd.column_type(root oid, of_column text) RETURNS oid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    a pg_attribute;
    base oid;
BEGIN
    SELECT * INTO a FROM pg_attribute t WHERE t.attrelid = root AND t.attname = of_column AND t.attnum > 0 AND NOT t.attisdropped;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% has no column %', root::regclass, quote_ident(of_column) USING ERRCODE = 'undefined_column',
            HINT = 'It has ' || (SELECT string_agg('{' || t.attname || '}', ', ' ORDER BY t.attnum) FROM pg_attribute t
                WHERE t.attrelid = root AND t.attnum > 0 AND NOT t.attisdropped) || '; capitals count.';
    END IF;
    base := a.atttypid;
    WHILE (SELECT t.typtype = 'd' FROM pg_type t WHERE t.oid = base) LOOP
        base := (SELECT t.typbasetype FROM pg_type t WHERE t.oid = base);
    END LOOP;
    IF base NOT IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype, 'text'::regtype, 'varchar'::regtype) THEN
        RAISE EXCEPTION 'the column % of % is of the type %', quote_ident(of_column), root::regclass, format_type(a.atttypid, a.atttypmod)
            USING ERRCODE = 'datatype_mismatch',
            HINT = 'A template takes smallint, integer, bigint, uuid, text and varchar: the text of others depends on who writes it. '
                'Use another column, or a template without columns.';
    ELSIF a.attgenerated NOT IN ('', 's') THEN
        RAISE EXCEPTION 'the column % of % is computed when it is read: triggers do not see it', quote_ident(of_column), root::regclass
            USING ERRCODE = 'datatype_mismatch', HINT = 'Use another column.';
    END IF;
    RETURN a.atttypid;
END $$;

-- ---- The function that triggers call ----

-- One expression: the name as bytes, NULL where the row makes no surrogate key (then its family is named). A column whose type is
-- not what it was is not read: that would run what somebody else has written, with the rights of etagd_owner.
CREATE OR REPLACE FUNCTION etagd.template_expression(template text, columns name[], types oid[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    value text;
    plain boolean;
BEGIN
    -- Text may be no surrogate key.
    plain := NOT EXISTS (SELECT FROM etagd.template_parts(template) p JOIN unnest(columns, types) x(c, t) ON x.c = p.of_column
        WHERE t NOT IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype));
    SELECT string_agg(CASE WHEN p.literal IS NOT NULL THEN quote_literal(p.literal)
            ELSE format('CASE WHEN pg_typeof(r.%1$I)::oid <> %2$s THEN NULL WHEN r.%1$I IS NULL THEN ''null'' ELSE r.%1$I::text END',
                p.of_column, types[array_position(columns, p.of_column::name)]) END, ' || ' ORDER BY p.place)
        INTO value FROM etagd.template_parts(template) p;
    IF plain THEN
        RETURN format('convert_to(%s, ''UTF8'')', value);
    END IF;
    RETURN format('(SELECT convert_to(s.name, ''UTF8'') FROM (SELECT %s) s(name) WHERE s.name !~ ''[\u0001-\u0020\u007f,;]'' AND octet_length(convert_to(s.name, ''UTF8'')) <= 255)', value);
END $$;

-- A statement that reads the names of one row, and fails where there is none, or more: most statements change one, and this costs a
-- quarter of the next.
CREATE OR REPLACE FUNCTION etagd.watch_glance(w etagd.watched, source text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('SELECT %s INTO STRICT %s FROM %I r', string_agg(etagd.template_expression(t, w.columns, w.types), ', ' ORDER BY i),
        string_agg(left(source, 3) || i, ', ' ORDER BY i), source) FROM unnest(w.templates) WITH ORDINALITY x(t, i);
$$;

-- A statement that reads all, and one too many where they are too many.
CREATE OR REPLACE FUNCTION etagd.watch_query(w etagd.watched, sources text[], rows_max integer) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    read text := coalesce((SELECT string_agg(format('x.%I', c), ', ') FROM unnest(w.columns) c), '1');
    source text := (SELECT string_agg(format('(SELECT %s FROM %I x LIMIT %s)', read, s, rows_max + 1), ' UNION ALL ') FROM unnest(sources) s);
    names text := (SELECT string_agg(format('(%s, %s)', i, etagd.template_expression(t, w.columns, w.types)), ', ' ORDER BY i)
        FROM unnest(w.templates) WITH ORDINALITY x(t, i));
BEGIN
    RETURN format($query$SELECT string_agg(DISTINCT '\x73'::bytea || int2send(octet_length(n.name)::int2) || n.name, ''::bytea),
                    array_agg(DISTINCT n.template) FILTER (WHERE n.name IS NULL), count(*) FILTER (WHERE n.template = 1)
                    INTO records, coarse, row_count FROM (%s) r CROSS JOIN LATERAL (VALUES %s) n(template, name)$query$, source, names);
END $$;

CREATE OR REPLACE FUNCTION etagd.watch_function(w etagd.watched, rows_max integer) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- of all templates, where the rows are not looked at
    families bytea[] := (SELECT array_agg(CASE WHEN EXISTS (SELECT FROM etagd.template_parts(t) p WHERE p.of_column IS NOT NULL)
        THEN etagd.record('f', etagd.template_family(t)) ELSE etagd.record('s', (SELECT string_agg(p.literal, '' ORDER BY p.place)
            FROM etagd.template_parts(t) p)) END ORDER BY i) FROM unnest(w.templates) WITH ORDINALITY x(t, i));
    everyone text := (SELECT string_agg(i::text, ',' ORDER BY i) FROM generate_subscripts(w.templates, 1) i);
BEGIN
    RETURN format($body$DECLARE
    records bytea := '';
    coarse integer[]; -- templates whose family is named
    row_count bigint := 1; -- NULL: all of them
    %9$s
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        row_count := NULL;
    ELSE
        BEGIN
            IF TG_OP <> 'DELETE' THEN
                %1$s;
            END IF;
            IF TG_OP <> 'INSERT' THEN
                %2$s;
            END IF;
            %10$s
        EXCEPTION WHEN no_data_found THEN
            RETURN NULL;
        WHEN too_many_rows THEN
            BEGIN
                IF TG_OP = 'INSERT' THEN
                    %3$s;
                ELSIF TG_OP = 'DELETE' THEN
                    %4$s;
                ELSE
                    %5$s;
                END IF;
            EXCEPTION WHEN OTHERS THEN
                row_count := NULL;
            END;
        WHEN OTHERS THEN -- a column is gone, or is something else now: the write goes on, the family is never too little
            row_count := NULL;
        END;
    END IF;
    IF row_count IS NULL OR row_count > %6$s * (CASE TG_OP WHEN 'UPDATE' THEN 2 ELSE 1 END) THEN
        records := NULL;
        coarse := '{%7$s}';
    END IF;
    IF coarse IS NOT NULL THEN
        records := coalesce(records, '') || (SELECT string_agg(DISTINCT (%8$L::bytea[])[c], '') FROM unnest(coarse) c);
    END IF;
    IF octet_length(records) < 8192 THEN
        INSERT INTO etagd.outbox (targets) VALUES ('\x01' || records);
    ELSE
        INSERT INTO etagd.outbox (targets) SELECT l FROM etagd.record_lines(records) l;
    END IF;
    RETURN NULL;
END$body$, etagd.watch_glance(w, 'new_rows'), etagd.watch_glance(w, 'old_rows'),
        etagd.watch_query(w, '{new_rows}', rows_max), etagd.watch_query(w, '{old_rows}', rows_max), etagd.watch_query(w, '{old_rows,new_rows}', rows_max),
        rows_max, everyone, families,
        (SELECT string_agg(format('old%1$s bytea; new%1$s bytea;', i), ' ' ORDER BY i) FROM generate_subscripts(w.templates, 1) i),
        (SELECT string_agg(format($take$IF old%1$s IS NULL AND TG_OP <> 'INSERT' OR new%1$s IS NULL AND TG_OP <> 'DELETE' THEN
                coarse := coarse || %1$s;
            ELSE
                IF TG_OP <> 'DELETE' THEN
                    records := records || '\x73'::bytea || int2send(octet_length(new%1$s)::int2) || new%1$s;
                END IF;
                IF TG_OP = 'DELETE' OR old%1$s <> new%1$s THEN -- of an INSERT NULL
                    records := records || '\x73'::bytea || int2send(octet_length(old%1$s)::int2) || old%1$s;
                END IF;
            END IF;$take$, i), E'\n            ' ORDER BY i) FROM generate_subscripts(w.templates, 1) i));
END $$;

-- More records than a row of the outbox holds, as rows.
CREATE OR REPLACE FUNCTION etagd.record_lines(records bytea) RETURNS SETOF bytea
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    begun integer := 1;
    at integer := 1;
    len integer;
BEGIN
    WHILE at <= octet_length(records) LOOP
        len := 3 + get_byte(records, at) * 256 + get_byte(records, at + 1);
        IF at + len - begun > 8191 THEN
            RETURN NEXT '\x01'::bytea || substr(records, begun, at - begun);
            begun := at;
        END IF;
        at := at + len;
    END LOOP;
    RETURN NEXT '\x01'::bytea || substr(records, begun);
END $$;

CREATE OR REPLACE FUNCTION etagd.watch_write(watch_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    w etagd.watched;
BEGIN
    SELECT * INTO STRICT w FROM etagd.watched x WHERE x.id = watch_id;
    EXECUTE format('CREATE OR REPLACE FUNCTION etagd.watched_%s() RETURNS trigger LANGUAGE plpgsql VOLATILE SECURITY DEFINER '
        'SET search_path = pg_catalog, pg_temp AS %L', w.id, etagd.watch_function(w, (SELECT s.watch_rows FROM etagd.setting s WHERE s.one)));
    EXECUTE format('REVOKE ALL ON FUNCTION etagd.watched_%1$s() FROM PUBLIC; GRANT EXECUTE ON FUNCTION etagd.watched_%1$s() TO etagd_writer', w.id);
END $$;

-- ---- Owners ----

-- Who called first, whatever functions run by other rights are between. (A function of somebody else that runs by his rights can
-- watch nothing: neither he nor the caller alone would do.)
CREATE OR REPLACE FUNCTION etagd.owner_check(root oid) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    caller name := CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END;
BEGIN
    IF NOT coalesce((SELECT pg_has_role(caller, c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = root), false) THEN
        RAISE EXCEPTION '% is not the owner of %', quote_ident(caller), root::regclass USING ERRCODE = 'insufficient_privilege',
            HINT = 'Only its owner may watch a table, or stop watching it: SET ROLE, or connect as the owner.';
    END IF;
END $$;

-- Writes down what is watched, and makes the function; returns the number. For etagd.watch().
CREATE OR REPLACE FUNCTION etagd.watch_note(root oid, wanted text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    template text;
    names name[];
    watch_id integer;
BEGIN
    PERFORM etagd.owner_check(root);
    PERFORM etagd.watch_check(root);
    IF coalesce(cardinality(wanted), 0) = 0 THEN
        SELECT w.templates INTO wanted FROM etagd.watched w WHERE w.relation = root;
    END IF;
    IF coalesce(cardinality(wanted), 0) NOT BETWEEN 1 AND 16 THEN
        RAISE EXCEPTION 'etagd.watch() takes 1 to 16 templates' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'The surrogate keys that a row is behind, as in etagd.watch(''uploads'', ''upload:{id}'', ''customer:{customer_id}'').';
    END IF;
    FOREACH template IN ARRAY wanted LOOP
        PERFORM etagd.template_check(template);
    END LOOP;
    names := ARRAY(SELECT DISTINCT p.of_column::name FROM unnest(wanted) t, etagd.template_parts(t) p WHERE p.of_column IS NOT NULL);
    -- One of this name that is gone was this one.
    PERFORM etagd.watch_forget(w.relation) FROM etagd.watched w JOIN pg_namespace n ON n.nspname = w.schema_name
        JOIN pg_class c ON c.relname = w.table_name AND c.relnamespace = n.oid
        WHERE c.oid = root AND NOT EXISTS (SELECT FROM pg_class o WHERE o.oid = w.relation);
    INSERT INTO etagd.watched AS w (relation, schema_name, table_name, templates, columns, types)
        SELECT root, n.nspname, c.relname, wanted, names, ARRAY(SELECT etagd.column_type(root, x::text) FROM unnest(names) WITH ORDINALITY y(x, i) ORDER BY i)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = root
        ON CONFLICT (relation) DO UPDATE SET schema_name = excluded.schema_name, table_name = excluded.table_name, templates = excluded.templates,
            columns = excluded.columns, types = excluded.types, since = excluded.since
        RETURNING w.id INTO watch_id;
    PERFORM etagd.watch_write(watch_id);
    RETURN watch_id;
END $$;

-- NULL: it is not watched. For etagd.unwatch().
CREATE OR REPLACE FUNCTION etagd.watch_id(root oid) RETURNS integer
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT w.id FROM etagd.watched w WHERE w.relation = root);
END $$;

-- A table that is gone is forgotten by whoever may watch; if it was made again, by the owner of that.
CREATE OR REPLACE FUNCTION etagd.watch_forget(root oid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    watch_id integer;
BEGIN
    PERFORM etagd.owner_check(c.oid) FROM etagd.watched w CROSS JOIN pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE w.relation = root AND (c.oid = root OR (n.nspname = w.schema_name AND c.relname = w.table_name
            AND NOT EXISTS (SELECT FROM pg_class o WHERE o.oid = root)));
    DELETE FROM etagd.watched w WHERE w.relation = root RETURNING w.id INTO watch_id;
    EXECUTE format('DROP FUNCTION IF EXISTS etagd.watched_%s()', watch_id);
END $$;

-- No writer is between, and no part comes meanwhile. One that is watched already has triggers to drop, which takes the strongest lock; to
-- begin with a weaker one would be a deadlock with each transaction that has locked rows and will write them.
CREATE OR REPLACE FUNCTION etagd.watch_lock(root oid) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('LOCK TABLE %s IN %s MODE', root::regclass,
        CASE WHEN etagd.watch_id(root) IS NULL THEN 'SHARE ROW EXCLUSIVE' ELSE 'ACCESS EXCLUSIVE' END);
END $$;

-- The same triggers on each part, made anew each time. ALWAYS: session_replication_role = replica skips others. First all are made, since
-- ALTER TABLE calls etagd.on_ddl(), which makes those that a part lacks.
CREATE OR REPLACE FUNCTION etagd.watch_triggers(root oid, watch_id integer, wanted boolean) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t record;
    alter_all text[] := '{}';
    alter_one text;
BEGIN
    FOR t IN SELECT g.tgrelid::regclass AS relation, g.tgname FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid
            JOIN pg_namespace n ON n.oid = f.pronamespace WHERE n.nspname = 'etagd' AND f.proname = 'watched_' || watch_id AND NOT g.tgisinternal LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.relation);
    END LOOP;
    FOR t IN SELECT p.relation::regclass AS relation, format('etagd_%s_%s', watch_id, o.op) AS name, upper(o.op) AS op, o.tables
            FROM etagd.parts_of(root) p CROSS JOIN (VALUES ('insert', 'REFERENCING NEW TABLE AS new_rows'),
                ('update', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows'), ('delete', 'REFERENCING OLD TABLE AS old_rows'),
                ('truncate', '')) o(op, tables) WHERE wanted LOOP
        EXECUTE format('CREATE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION etagd.watched_%s()',
            t.name, t.op, t.relation, t.tables, watch_id);
        alter_all := alter_all || format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', t.relation, t.name);
    END LOOP;
    FOREACH alter_one IN ARRAY alter_all LOOP
        EXECUTE alter_one;
    END LOOP;
    RETURN cardinality(alter_all);
END $$;

-- Watches a table, or mends what is broken. By its owner, who is also a writer (GRANT etagd_writer TO owner). Without templates: those
-- that it has. Everything is raised once, on each host, by the next poll.
--     SELECT etagd.watch('uploads', 'upload:{id}', 'customer:{customer_id}', 'uploads')
CREATE OR REPLACE FUNCTION etagd.watch(root regclass, VARIADIC templates text[] DEFAULT '{}') RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    watch_id integer;
    made integer;
BEGIN
    PERFORM etagd.watch_check(root);
    PERFORM etagd.owner_check(root);
    PERFORM etagd.watch_lock(root);
    watch_id := etagd.watch_note(root, templates);
    made := etagd.watch_triggers(root, watch_id, true);
    RETURN format('%s is watched: %s triggers on %s tables', root, made, made / 4)
        || CASE WHEN (SELECT c.relkind = 'p' OR c.relhassubclass FROM pg_class c WHERE c.oid = root)
                AND NOT EXISTS (SELECT FROM pg_event_trigger e WHERE e.evtname = 'etagd_watch' AND e.evtenabled <> 'D')
            THEN '; when a part comes, call this again in the same transaction, or have a superuser run "etag-relay setup" once more now' ELSE '' END;
END $$;

CREATE OR REPLACE FUNCTION etagd.unwatch(root regclass) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    watch_id integer := etagd.watch_id(root);
    there boolean := EXISTS (SELECT FROM pg_class c WHERE c.oid = root);
BEGIN
    IF there THEN
        PERFORM etagd.owner_check(root);
    END IF;
    IF watch_id IS NULL THEN
        RETURN format('%s was not watched', root);
    END IF;
    IF there THEN
        PERFORM etagd.watch_lock(root);
    END IF;
    PERFORM etagd.watch_triggers(root, watch_id, false);
    PERFORM etagd.watch_forget(root);
    RETURN format('%s is not watched any more', root);
END $$;

-- From more rows than so many in one statement on the families are named.
CREATE OR REPLACE FUNCTION etagd.set_watch_rows(rows_max integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE etagd.setting s SET watch_rows = rows_max;
    PERFORM etagd.watch_write(w.id) FROM etagd.watched w;
END $$;

-- ---- What the catalogs say ----

-- Each part of each watched table. triggers: how many of the four are as they were made. stray: a parent that is no part, so that
-- writes which name it are not seen. mark: changes whenever triggers, columns or parts do, also if they are as before in the end,
-- since it has the transactions that wrote the catalogs' rows. By one snapshot, the caller's: no function that looks names up.
CREATE OR REPLACE FUNCTION etagd.watched_parts() RETURNS TABLE (id integer, root oid, relation oid, kind "char", triggers bigint, stray oid,
    subscribed boolean, mark text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY WITH RECURSIVE part AS (
        SELECT w.id, w.relation AS root, w.relation, w.xmin::text AS born FROM etagd.watched w
        UNION
        SELECT p.id, p.root, i.inhrelid, i.xmin::text FROM part p JOIN pg_inherits i ON i.inhparent = p.relation)
    SELECT p.id, p.root, p.relation, c.relkind, g.sound,
        CASE WHEN p.relation = p.root OR NOT c.relispartition THEN (SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = p.relation
            AND NOT EXISTS (SELECT FROM part q WHERE q.id = p.id AND q.relation = i.inhparent) LIMIT 1) END,
        EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = p.relation),
        concat_ws(' ', p.id, p.relation, p.born, c.relkind, g.marks, (SELECT string_agg(concat_ws('.', a.attnum, a.xmin), ',' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = p.relation AND a.attnum > 0))
        FROM part p LEFT JOIN pg_class c ON c.oid = p.relation
        LEFT JOIN pg_proc f ON f.proname = ('watched_' || p.id)::name AND f.proargtypes = ''::oidvector
            AND f.pronamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = 'etagd')
        CROSS JOIN LATERAL (SELECT string_agg(concat_ws('.', t.oid, t.xmin, t.tgenabled), ',' ORDER BY t.oid) AS marks,
            count(DISTINCT t.tgtype) FILTER (WHERE t.tgenabled = 'A' AND t.tgtype IN (4, 8, 16, 32) AND t.tgqual IS NULL AND t.tgattr = ''::int2vector
                AND (t.tgtype NOT IN (4, 16) OR t.tgnewtable = 'new_rows') AND (t.tgtype NOT IN (8, 16) OR t.tgoldtable = 'old_rows')) AS sound
            FROM pg_trigger t WHERE t.tgrelid = p.relation AND t.tgfoid = f.oid) g
        WHERE c.relpersistence IS DISTINCT FROM 't';
END $$;

-- What is wrong with each part, in words; NULL: nothing. For a table that is gone: another one of its name is not watched.
CREATE OR REPLACE FUNCTION etagd.watch_fault(p_root oid, relation oid, kind "char", triggers bigint, stray oid, subscribed boolean) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN kind IS NULL AND relation = p_root AND NOT EXISTS (SELECT FROM etagd.watched w JOIN pg_namespace n ON n.nspname = w.schema_name
            JOIN pg_class c ON c.relname = w.table_name AND c.relnamespace = n.oid WHERE w.relation = p_root) THEN NULL
        WHEN kind IS NULL THEN 'was made again'
        WHEN kind NOT IN ('r', 'p') THEN 'is a foreign table'
        WHEN stray IS NOT NULL THEN 'is a part of another table'
        WHEN subscribed THEN 'is subscribed to'
        WHEN triggers < 4 THEN 'lacks triggers, or they are not ENABLE ALWAYS'
    END;
$$;

-- 0: nothing is watched. The lowest bit: writes may go unseen, so that no host may trust what it has (the engine reads it).
CREATE OR REPLACE FUNCTION etagd.watch_digest() RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    mark text;
    broken boolean;
BEGIN
    SELECT string_agg(p.mark, E'\n' ORDER BY p.id, p.relation),
        coalesce(bool_or(CASE WHEN p.kind IN ('r', 'p') AND p.triggers = 4 AND p.stray IS NULL AND NOT p.subscribed THEN false
            ELSE etagd.watch_fault(p.root, p.relation, p.kind, p.triggers, p.stray, p.subscribed) IS NOT NULL END), false)
        INTO mark, broken FROM etagd.watched_parts() p;
    IF mark IS NULL THEN
        RETURN 0;
    END IF;
    RETURN (hashtextextended(mark, 0) & ~1::bigint) | broken::integer | CASE WHEN broken THEN 0 ELSE 2 END;
END $$;

-- For people and integrations. state: watched; coarse (a column of a template is not what it was: each write is the family, nothing is
-- missed); broken (writes may go unseen: everything is raised by each poll until it is mended); gone (the table was dropped).
CREATE OR REPLACE FUNCTION etagd.watches() RETURNS TABLE (relation oid, name text, templates text[], state text, part_count bigint, why text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT w.relation, CASE WHEN here.gone THEN format('%I.%I', w.schema_name, w.table_name) ELSE w.relation::regclass::text END, w.templates,
        CASE WHEN faults.text IS NOT NULL THEN 'broken' WHEN here.gone THEN 'gone' WHEN lost.text IS NOT NULL THEN 'coarse' ELSE 'watched' END,
        faults.part_count,
        CASE WHEN faults.text IS NOT NULL THEN faults.text || format('; mend it, then SELECT etagd.watch(%L)',
                CASE WHEN here.gone THEN format('%I.%I', w.schema_name, w.table_name) ELSE w.relation::regclass::text END)
            WHEN here.gone THEN format('it was dropped; SELECT etagd.unwatch(%s) forgets it', w.relation)
            WHEN lost.text IS NOT NULL THEN format('%s changed: each write is the family; SELECT etagd.watch(%L, ...) with templates of what there is',
                lost.text, w.relation::regclass::text) END
        FROM etagd.watched w
        CROSS JOIN LATERAL (SELECT NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = w.relation) AS gone) here
        CROSS JOIN LATERAL (SELECT string_agg('{' || x.c || '}', ', ') AS text FROM unnest(w.columns, w.types) x(c, t) WHERE NOT EXISTS (SELECT FROM pg_attribute a
            WHERE a.attrelid = w.relation AND a.attname = x.c AND a.atttypid = x.t AND NOT a.attisdropped)) lost
        LEFT JOIN LATERAL (SELECT count(*) AS part_count, string_agg(p.relation::regclass || ' ' || f.fault, ', ' ORDER BY p.relation) AS text
            FROM etagd.watched_parts() p CROSS JOIN LATERAL etagd.watch_fault(p.root, p.relation, p.kind, p.triggers, p.stray, p.subscribed) f(fault)
            WHERE p.id = w.id) faults ON true
        ORDER BY 2;
END $$;

-- Setting up again: of this release.
DO 'BEGIN PERFORM etagd.watch_write(w.id) FROM etagd.watched w; END';
