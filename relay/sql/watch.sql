-- ---- Watching ----------------------------------------------------------------------------------
-- The second part of the schema. Writes that name nothing are seen by triggers: etagd.watch('uploads', 'upload:{id}') puts them on a
-- table and on all that belongs to it (partitions, children), so that whoever writes (psql, a migration, another service) puts the
-- names of the rows into the outbox, in his own transaction.
--
-- The triggers belong to the table's owner, who calls etagd.watch(): it runs with his rights. What it knows is kept by etagd_owner, and
-- so is the function that the triggers call, one for each watched table, made here: its statements are planned once a session.
--
-- What triggers cannot see (they were disabled, a partition came without them, a column was computed again) the catalogs show: each
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
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The function that its triggers call: its row of the catalog as we wrote it, and what that has. NULL: not yet.
    function_xmin text,
    function_hash bigint
);
ALTER TABLE etagd.watched ADD COLUMN IF NOT EXISTS function_xmin text, ADD COLUMN IF NOT EXISTS function_hash bigint; -- of version 1

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

-- The text before its first column; the family is that up to its first colon.
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

-- Each write pays for it, so: the function of each table has its templates as expressions, planned once a session. It names no column
-- that must be there, so it needs no EXCEPTION block, which would be a subtransaction. It has no SET search_path, which costs as much
-- as half of a trigger: each name in it, each type and operator, says its schema, and a test has others of the same names in its path.
-- It writes names as words (relay/engines/outbox_row.h), since each operator in a statement costs at each execution.

-- So many bytes a name has at most; NULL where a column is text, or where it might be too long for a surrogate key.
CREATE OR REPLACE FUNCTION etagd.template_bytes_max(template text, columns name[], types oid[]) RETURNS integer
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bytes integer := (SELECT sum(CASE WHEN p.literal IS NOT NULL THEN octet_length(convert_to(p.literal, 'UTF8')) ELSE
        (SELECT CASE x.t WHEN 'int2'::regtype THEN 6 WHEN 'int4'::regtype THEN 11 WHEN 'int8'::regtype THEN 20 WHEN 'uuid'::regtype THEN 36 ELSE 256 END
            FROM unnest(columns, types) x(c, t) WHERE x.c = p.of_column) END) FROM etagd.template_parts(template) p);
BEGIN
    RETURN CASE WHEN bytes <= 255 THEN bytes END;
END $$;

-- Its family, or the name that it is for each row, as a word.
CREATE OR REPLACE FUNCTION etagd.template_coarse(template text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN bool_or(p.of_column IS NOT NULL) THEN 'f' || etagd.template_family(template)
        ELSE 's' || string_agg(p.literal, '' ORDER BY p.place) END FROM etagd.template_parts(template) p;
$$;

-- The expression that has all of these in one text. A function has 100 arguments at most.
CREATE OR REPLACE FUNCTION etagd.concat_expression(parts text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('pg_catalog.concat(%s)', string_agg(part, ', ' ORDER BY i)) FROM (
        SELECT min(i) AS i, CASE WHEN cardinality(parts) <= 90 THEN string_agg(part, ', ' ORDER BY i)
            ELSE format('pg_catalog.concat(%s)', string_agg(part, ', ' ORDER BY i)) END AS part
        FROM unnest(parts) WITH ORDINALITY x(part, i) GROUP BY (i - 1) / 90) y;
$$;

-- A condition: columns of these templates are of the types that they were, in a source. Where they are not they are not read: that
-- would name what no entry depends on.
CREATE OR REPLACE FUNCTION etagd.templates_sound(templates text[], columns name[], types oid[], source text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(string_agg(format('pg_catalog.pg_typeof(%s.%I)::pg_catalog.oid OPERATOR(pg_catalog.=) %s::pg_catalog.oid', source, x.c, x.t), ' AND '), 'true')
        FROM unnest(columns, types) x(c, t)
        WHERE x.c::text IN (SELECT p.of_column FROM unnest(templates) t CROSS JOIN LATERAL etagd.template_parts(t) p);
$$;

-- Expressions that one after the other are the word of a row. Output functions alone are called: a type's casts may be anybody's. Of
-- text that is no surrogate key it is the family. before: what is between this word and the last one.
CREATE OR REPLACE FUNCTION etagd.template_word(template text, columns name[], types oid[], source text, before text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parts text[] := ARRAY(SELECT x.part FROM (SELECT *, source || '.' || quote_ident(q.of_column) AS value FROM etagd.template_parts(template) q) p
        CROSS JOIN LATERAL (VALUES (1, quote_literal(p.literal)), (2, p.value), (3, 'CASE WHEN ' || p.value || ' IS NULL THEN ''null'' END')) x(i, part)
        WHERE x.part IS NOT NULL ORDER BY p.place, x.i);
    -- the bytes of a name are those in UTF-8
    bytes text := CASE WHEN getdatabaseencoding() = 'UTF8' THEN 's.name' ELSE 'pg_catalog.convert_to(s.name, ''UTF8'')' END;
BEGIN
    IF etagd.template_bytes_max(template, columns, types) IS NOT NULL THEN
        RETURN quote_literal(before || 's' || (SELECT p.literal FROM etagd.template_parts(template) p WHERE p.place = 1)) || parts[2:];
    END IF;
    RETURN ARRAY[quote_literal(before), format('coalesce((SELECT CASE WHEN s.name OPERATOR(pg_catalog.!~) %L AND pg_catalog.octet_length(%s) OPERATOR(pg_catalog.<=) 255 '
        'THEN pg_catalog.concat(''s'', s.name) END FROM (SELECT %s AS name) s), %L)', '[\u0001-\u0020\u007f,;]', bytes, etagd.concat_expression(parts),
        etagd.template_coarse(template))];
END $$;

-- Where statements read: columns of a query on transition tables, one after the other. One that is gone is that of "former", of a type
-- that none had. NULL: no template has columns.
CREATE OR REPLACE FUNCTION etagd.watch_source(w etagd.watched, query text, alias text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('(SELECT s.* FROM (SELECT %s) former CROSS JOIN LATERAL (%s) s) %s', string_agg(format('false AS %I', c), ', '), query, alias)
        FROM unnest(w.columns) c HAVING count(*) > 0;
$$;

CREATE OR REPLACE FUNCTION etagd.watch_columns(w etagd.watched, source text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('SELECT %s FROM %I', string_agg(format('%I', c), ', '), source) FROM unnest(w.columns) c;
$$;

-- Most statements change one row: one statement then looks and writes. It writes nothing where there is none, or more, or another type.
CREATE OR REPLACE FUNCTION etagd.watch_one(w etagd.watched, sources text[], writer text[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    source text := left(sources[1], 1);
    parts text[] := ARRAY['E''\x02'''];
    former text[] := '{}';
    before text := '';
    template text;
BEGIN
    FOREACH template IN ARRAY w.templates LOOP
        parts := parts || CASE WHEN etagd.templates_sound(ARRAY[template], w.columns, w.types, source) = 'true'
            THEN ARRAY[quote_literal(before || etagd.template_coarse(template))] ELSE etagd.template_word(template, w.columns, w.types, source, before) END;
        before := ' ';
        IF cardinality(sources) = 2 AND etagd.templates_sound(ARRAY[template], w.columns, w.types, 'o') <> 'true' THEN
            former := former || etagd.template_word(template, w.columns, w.types, 'o', ' ');
        END IF;
    END LOOP;
    IF former <> '{}' THEN -- by their bytes: a type's operators may be anybody's
        parts := parts || format('CASE WHEN NOT ((o.*) OPERATOR(pg_catalog.*=) (n.*)) THEN %s END', etagd.concat_expression(former));
    END IF;
    RETURN format(E'INSERT INTO etagd.outbox (targets)\n            SELECT pg_catalog.convert_to(%s, ''UTF8'')\n            FROM %s\n'
        '            WHERE NOT EXISTS (SELECT FROM %I OFFSET 1) AND %s', etagd.concat_expression(parts || ARRAY['E''\n''']::text[] || writer),
        coalesce((SELECT string_agg(etagd.watch_source(w, etagd.watch_columns(w, s), left(s, 1)), ' CROSS JOIN ' ORDER BY i)
            FROM unnest(sources) WITH ORDINALITY x(s, i)), format('%I', sources[1])), sources[1], etagd.templates_sound(w.templates, w.columns, w.types, source));
END $$;

-- A statement that reads all, and one too many where they are too many.
CREATE OR REPLACE FUNCTION etagd.watch_query(w etagd.watched, sources text[], rows_max integer) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rows text := (SELECT string_agg(format('(%s LIMIT %s)', etagd.watch_columns(w, s), rows_max + 1), ' UNION ALL ' ORDER BY i) FROM unnest(sources) WITH ORDINALITY x(s, i));
    words text := (SELECT string_agg(format('(%s, CASE WHEN %s THEN %s END)', i, etagd.templates_sound(ARRAY[t], w.columns, w.types, 'r'),
        CASE WHEN etagd.templates_sound(ARRAY[t], w.columns, w.types, 'r') = 'true' THEN quote_literal(etagd.template_coarse(t))
            ELSE etagd.concat_expression(etagd.template_word(t, w.columns, w.types, 'r', '')) END), E',\n                ' ORDER BY i)
        FROM unnest(w.templates) WITH ORDINALITY x(t, i));
BEGIN
    RETURN format(E'SELECT pg_catalog.string_agg(DISTINCT n.word COLLATE pg_catalog."C", '' ''), pg_catalog.array_agg(DISTINCT n.template) FILTER (WHERE n.word IS NULL),\n'
        '                pg_catalog.count(*) FILTER (WHERE n.template OPERATOR(pg_catalog.=) 1) INTO me.words, me.coarse, me.row_count\n'
        '            FROM %s CROSS JOIN LATERAL (VALUES\n                %s) n(template, word)',
        coalesce(etagd.watch_source(w, rows, 'r'), '(' || rows || ') r'), words);
END $$;

CREATE OR REPLACE FUNCTION etagd.watch_function(w etagd.watched, rows_max integer) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- as etagd.writer() has it
    writer text[] := ARRAY['session_user', '''@''', 'coalesce(pg_catalog.host(pg_catalog.inet_client_addr()), ''[local]'')', ''' (''',
        'pg_catalog.current_setting(''application_name'')', ''')'''];
    -- old and new names of one row are in one of the outbox
    fits boolean := (SELECT sum(2 * (2 + coalesce(etagd.template_bytes_max(t, w.columns, w.types), 255))) FROM unnest(w.templates) t) <= 8192 - 2 - 255;
    -- what cannot be said in UTF-8 (text, where the database has another encoding): then families are named
    guarded boolean := getdatabaseencoding() <> 'UTF8' AND EXISTS (SELECT FROM unnest(w.templates) t WHERE etagd.template_bytes_max(t, w.columns, w.types) IS NULL);
    one text;
BEGIN
    IF getdatabaseencoding() <> 'UTF8' THEN
        writer := ARRAY[format('pg_catalog.regexp_replace(%s, ''[^ -~]'', ''?'', ''g'')', etagd.concat_expression(writer))];
    END IF;
    one := format($one$IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
        %s;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
        %s;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
        %s;
    END IF;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    $one$, etagd.watch_one(w, '{new_rows,old_rows}', writer), etagd.watch_one(w, '{new_rows}', writer), etagd.watch_one(w, '{old_rows}', writer));
    RETURN format($body$#variable_conflict use_column
<<me>> DECLARE
    words pg_catalog.text;
    coarse pg_catalog.int4[]; -- templates whose family is named
    row_count pg_catalog.int8; -- NULL: all of them
BEGIN
    %1$s%2$sIF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
        %3$s;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
        %4$s;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
        %5$s;
    END IF;%6$s
    IF me.row_count OPERATOR(pg_catalog.=) 0 THEN
        RETURN NULL;
    ELSIF me.row_count IS NULL OR me.row_count OPERATOR(pg_catalog.>) (CASE WHEN TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN %7$s ELSE %8$s END) THEN
        me.words := NULL;
        me.coarse := '{%9$s}';
    END IF;
    IF me.coarse IS NOT NULL THEN
        me.words := pg_catalog.concat_ws(' ', me.words, (SELECT pg_catalog.string_agg(DISTINCT (ARRAY[%10$s])[c], ' ') FROM pg_catalog.unnest(me.coarse) c));
    END IF;
    INSERT INTO etagd.outbox (targets) SELECT l FROM etagd.word_lines(me.words, %11$s) l;
    RETURN NULL;
END$body$, CASE WHEN guarded THEN 'BEGIN ' ELSE '' END, CASE WHEN fits THEN one ELSE '' END,
        etagd.watch_query(w, '{old_rows,new_rows}', rows_max), etagd.watch_query(w, '{new_rows}', rows_max), etagd.watch_query(w, '{old_rows}', rows_max),
        CASE WHEN guarded THEN ' EXCEPTION WHEN OTHERS THEN me.row_count := NULL; END;' ELSE '' END,
        2 * rows_max, rows_max, (SELECT string_agg(i::text, ',' ORDER BY i) FROM generate_subscripts(w.templates, 1) i),
        (SELECT string_agg(quote_literal(etagd.template_coarse(t)), ', ' ORDER BY i) FROM unnest(w.templates) WITH ORDINALITY x(t, i)), etagd.concat_expression(writer));
END $$;

-- Words as rows of the outbox, as few as hold them. A word has 257 bytes at most.
CREATE OR REPLACE FUNCTION etagd.word_lines(words text, writer text) RETURNS SETOF bytea
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rest bytea := convert_to(words, 'UTF8');
    tail bytea := convert_to(E'\n' || writer, 'UTF8');
    room integer := 8192 - 1 - octet_length(tail);
    at integer;
BEGIN
    WHILE octet_length(rest) > room LOOP
        at := room;
        WHILE get_byte(rest, at) <> 32 LOOP
            at := at - 1;
        END LOOP;
        RETURN NEXT E'\\x02'::bytea || substr(rest, 1, at) || tail;
        rest := substr(rest, at + 2);
    END LOOP;
    RETURN NEXT E'\\x02'::bytea || rest || tail;
END $$;

DROP FUNCTION IF EXISTS etagd.record_lines(bytea), etagd.watch_glance(etagd.watched, text), etagd.template_expression(text, name[], oid[]); -- of version 1

-- What a function does, whoever wrote its row.
CREATE OR REPLACE FUNCTION etagd.function_hash(f pg_proc) RETURNS bigint
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT hashtextextended(concat_ws(' ', f.prolang, f.proowner, f.prosecdef, f.proconfig, f.prosrc), 0);
$$;

-- Makes the function of a watched table, if it is not there as it would be made.
CREATE OR REPLACE FUNCTION etagd.watch_write(watch_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    w etagd.watched;
    f pg_proc;
    wanted text;
BEGIN
    SELECT * INTO STRICT w FROM etagd.watched x WHERE x.id = watch_id;
    wanted := etagd.watch_function(w, (SELECT s.watch_rows FROM etagd.setting s WHERE s.one));
    SELECT p.* INTO f FROM pg_proc p WHERE p.oid = to_regprocedure(format('etagd.watched_%s()', watch_id));
    IF f.prosrc = wanted AND etagd.function_hash(f) = w.function_hash THEN
        RETURN; -- to write it again would change what polls compare
    END IF;
    EXECUTE format('CREATE OR REPLACE FUNCTION etagd.watched_%s() RETURNS trigger LANGUAGE plpgsql VOLATILE SECURITY DEFINER '
        'AS %L', w.id, wanted);
    EXECUTE format('REVOKE ALL ON FUNCTION etagd.watched_%1$s() FROM PUBLIC; GRANT EXECUTE ON FUNCTION etagd.watched_%1$s() TO etagd_writer', w.id);
    UPDATE etagd.watched x SET function_xmin = p.xmin::text, function_hash = etagd.function_hash(p) FROM pg_proc p
        WHERE x.id = watch_id AND p.oid = to_regprocedure(format('etagd.watched_%s()', watch_id));
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
            HINT = 'The surrogate keys that a row is part of, as in etagd.watch(''uploads'', ''upload:{id}'', ''customer:{customer_id}'').';
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

-- The same triggers on each part, made again each time. ALWAYS: session_replication_role = replica skips others. First all are made, since
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
        SELECT w.id, w.relation AS root, w.relation, w.xmin::text AS born, w.function_xmin, w.function_hash FROM etagd.watched w
        UNION
        SELECT p.id, p.root, i.inhrelid, i.xmin::text, p.function_xmin, p.function_hash FROM part p JOIN pg_inherits i ON i.inhparent = p.relation)
    SELECT p.id, p.root, p.relation, c.relkind, g.sound,
        CASE WHEN p.relation = p.root OR NOT c.relispartition THEN (SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = p.relation
            AND NOT EXISTS (SELECT FROM part q WHERE q.id = p.id AND q.relation = i.inhparent) LIMIT 1) END,
        EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = p.relation),
        concat_ws(' ', p.id, p.relation, p.born, c.relkind, g.marks, (SELECT string_agg(concat_ws('.', a.attnum, a.xmin), ',' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = p.relation AND a.attnum > 0))
        FROM part p LEFT JOIN pg_class c ON c.oid = p.relation
        LEFT JOIN pg_proc f ON f.proname = ('watched_' || p.id)::name AND f.proargtypes = ''::oidvector
            AND f.pronamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = 'etagd')
            AND (f.xmin::text = p.function_xmin OR etagd.function_hash(f) = p.function_hash) -- another one is none; VACUUM FULL changes xmin
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
        WHEN triggers < 4 THEN 'lacks triggers, or they are not ENABLE ALWAYS, or call another function than ours'
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
