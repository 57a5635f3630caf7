# SPDX-License-Identifier: Apache-2.0
"""What SQL that the ORM did not make may do. Nothing is parsed: a few plain forms are recognized, everything else may change
anything.

    NOTHING     neither reads nor writes rows: SAVEPOINT, SET, PRAGMA ...
    READ        a SELECT that calls no function of the database's own
    WRITE       one INSERT, UPDATE or DELETE of one known table, and a table's name with it
    COMMIT, ROLLBACK, RELEASE (of a savepoint: where no transaction began before it, this is its COMMIT)
    ANYTHING    whatever is none of these
"""
from __future__ import annotations

import re
from functools import lru_cache
from typing import Dict, FrozenSet, Iterator, Optional, Tuple

from . import surrogates

NOTHING, READ, WRITE, COMMIT, ROLLBACK, RELEASE, ANYTHING = range(7)

_FIRST = re.compile(r"\s*\(*\s*([A-Za-z]+)")
_TOKENS = re.compile(r"""(?:[^'"`]|'[^']*'|"[^"]*"|`[^`]*`)*""")
_LITERAL = re.compile(r"""("[^"]*"|`[^`]*`)|'[^']*'""")
_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`""")
_UNSURE = re.compile(r";|--|/\*|#|\$|\\|\bU&|\bE'", re.I)
_CALL = re.compile(r'([\w$."`\]]+)\s*\(')
_CALLED = re.compile(r'["`]([^"`]+)["`]\s*\(|([\w$]+)\s*\(')
_WRITING = re.compile(r"\b(?:INSERT|UPDATE|DELETE|MERGE|INTO|TRUNCATE)\b", re.I)
_RETURNING = re.compile(r"\bRETURNING\b", re.I)
_FOR_UPDATE = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+)?UPDATE(?:\s+NOWAIT|\s+SKIP\s+LOCKED)?\s*$", re.I)
_STATEMENT = re.compile(
    r"\s*(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(?:\"([^\"]+)\"|`([^`]+)`|(\w+))(?=\s|\(|$)", re.I)
_TABLE_AFTER = re.compile(r'\b(?:FROM|JOIN)\s+(?:ONLY\s+|LATERAL\s+)?\(*\s*("[^"]*"|`[^`]*`|[^\s,()]+)', re.I)
_COMMA_JOIN = re.compile(r'\bFROM\s+["`][^"`]*["`](?:\s+(?:AS\s+)?[\w"]+)?\s*,', re.I)
_IDENTIFIER = re.compile(r'"([^"]*)"|`([^`]*)`|(\w+)')
_QUIET: FrozenSet[str] = frozenset((
    "SAVEPOINT", "SET", "RESET", "SHOW", "PRAGMA", "LISTEN", "UNLISTEN", "NOTIFY", "CLOSE", "LOCK"))
_WORDS = {"BEGIN": NOTHING, "START": NOTHING, "COMMIT": COMMIT, "END": COMMIT, "RELEASE": RELEASE, "ROLLBACK": ROLLBACK}
# What may come before "(" in SQL that only reads, or in a plain write.
_PURE: FrozenSet[str] = frozenset("""
    ABS ACOS ALL AND ANY ARRAY ARRAY_AGG AS ASCII ASIN ATAN ATAN2 AVG BETWEEN BIT_AND BIT_OR BOOL_AND BOOL_OR BTRIM BY
    CASE CAST CEIL CEILING CHAR CHARACTER_LENGTH CHAR_LENGTH CHR COALESCE CONCAT CONCAT_WS CORR COS COT COUNT CUME_DIST
    CURRENT_DATABASE CURRENT_SETTING DATE DATETIME DATE_PART DATE_TRUNC DECIMAL DEGREES DENSE_RANK DISTINCT ELSE EVERY
    EXCEPT EXISTS EXP EXTRACT FILTER FIRST_VALUE FLOOR FROM GREATEST GROUP_CONCAT HAVING IFNULL IN INSTR INTERSECT JOIN
    JSONB_AGG JSONB_BUILD_OBJECT JSON_ARRAY JSON_EXTRACT JSON_OBJECT JSON_TYPE JULIANDAY LAG LAST_VALUE LATERAL LEAD
    LEAST LEFT LENGTH LIKE LIMIT LN LOG LOWER LPAD LTRIM MAKE_INTERVAL MAX MD5 MIN MOD NOT NOW NTH_VALUE NTILE NULLIF
    NUMERIC OFFSET ON OR OVER PARTITION PERCENT_RANK PHRASETO_TSQUERY PI PLAINTO_TSQUERY POWER RADIANS RANDOM RANK
    REGEXP_REPLACE REPEAT REPLACE REVERSE RIGHT ROUND ROW_NUMBER RPAD RTRIM SELECT SET SETWEIGHT SIGN SIN SQRT
    STDDEV_POP STDDEV_SAMP STRFTIME STRING_AGG STRPOS SUBSTR SUBSTRING SUM TAN THEN TIME TO_CHAR TO_TSQUERY TO_TSVECTOR
    TRANSACTION_TIMESTAMP TRIM TRUNC TS_RANK TYPEOF UNION UNNEST UPPER USING VALUES VARCHAR VARIANCE VAR_POP VAR_SAMP
    VERSION WEBSEARCH_TO_TSQUERY WHEN WHERE
    """.split())

# The same of what Django's own functions, lookups and aggregates, django.contrib.postgres and GeoDjango write, and what people
# write beside them. Each by its name: ST_FromFlatGeobufToTable makes a table.
_PURE |= frozenset("""
    ANY_VALUE ARRAY_LENGTH ARRAY_POSITION ARRAY_REMOVE ARRAY_TO_STRING ARRAY_UPPER BIT_COUNT BIT_LENGTH BIT_XOR BITXOR CARDINALITY
    CEILING CORR COVAR_POP COVAR_SAMP DATE_BIN DECODE ENCODE FACTORIAL FORMAT GCD HEX HSTORE IIF INITCAP ISEMPTY LCM
    LOWER_INC LOWER_INF MAKE_DATE MAKE_TIME MATERIALIZED NUMNODE OCTET_LENGTH OVERLAY PERCENTILE_CONT PERCENTILE_DISC POSITION PRINTF
    RANGE_MERGE REGEXP_COUNT REGEXP_INSTR REGEXP_LIKE REGEXP_MATCH REGEXP_SUBSTR REGR_AVGX REGR_AVGY REGR_COUNT REGR_INTERCEPT
    REGR_R2 REGR_SLOPE REGR_SXX REGR_SXY REGR_SYY RECURSIVE SHA1 SHA224 SHA256 SHA384 SHA512 SINH COSH TANH SPLIT_PART
    STARTS_WITH STDDEV STRING_TO_ARRAY STRIP TO_DATE TO_NUMBER TOTAL TRANSLATE TS_HEADLINE TS_RANK_CD UNHEX UNICODE
    UPPER_INC UPPER_INF WIDTH_BUCKET
    SIMILARITY STRICT_WORD_SIMILARITY UNACCENT WORD_SIMILARITY
    DAITCH_MOKOTOFF DIFFERENCE DMETAPHONE DMETAPHONE_ALT LEVENSHTEIN LEVENSHTEIN_LESS_EQUAL METAPHONE SOUNDEX
    JSON JSONB JSONB_AGG_STRICT JSONB_ARRAY_ELEMENTS JSONB_ARRAY_ELEMENTS_TEXT JSONB_ARRAY_LENGTH JSONB_BUILD_ARRAY JSONB_EACH
    JSONB_EACH_TEXT JSONB_EXTRACT_PATH JSONB_EXTRACT_PATH_TEXT JSONB_INSERT JSONB_OBJECT JSONB_OBJECT_AGG JSONB_OBJECT_KEYS
    JSONB_PATH_EXISTS JSONB_PATH_MATCH JSONB_PATH_QUERY JSONB_PATH_QUERY_ARRAY JSONB_PATH_QUERY_FIRST JSONB_PRETTY JSONB_SET
    JSONB_STRIP_NULLS JSONB_TYPEOF JSON_AGG JSON_ARRAYAGG JSON_ARRAY_ELEMENTS JSON_ARRAY_ELEMENTS_TEXT JSON_ARRAY_LENGTH
    JSON_BUILD_ARRAY JSON_BUILD_OBJECT JSON_EACH JSON_EACH_TEXT JSON_EXISTS JSON_EXTRACT_PATH JSON_EXTRACT_PATH_TEXT
    JSON_GROUP_ARRAY JSON_GROUP_OBJECT JSON_INSERT JSON_OBJECTAGG JSON_OBJECT_AGG JSON_OBJECT_KEYS JSON_PATCH JSON_QUERY
    JSON_QUOTE JSON_REMOVE JSON_REPLACE JSON_SCALAR JSON_SERIALIZE JSON_SET JSON_STRIP_NULLS JSON_TREE JSON_TYPEOF JSON_VALID
    JSON_VALUE ROW_TO_JSON TO_JSON TO_JSONB
    ST_3DDISTANCE ST_3DEXTENT ST_3DLENGTH ST_3DPERIMETER ST_AREA ST_ASBINARY ST_ASEWKB ST_ASEWKT ST_ASGEOJSON ST_ASGML ST_ASKML ST_ASSVG
    ST_ASTEXT ST_AZIMUTH ST_BUFFER ST_CENTROID ST_CLOSESTPOINT ST_COLLECT ST_CONTAINS ST_CONTAINSPROPERLY ST_CONVEXHULL
    ST_COVEREDBY ST_COVERS ST_CROSSES ST_CURVETOLINE ST_DFULLYWITHIN ST_DIFFERENCE ST_DIMENSION ST_DISJOINT ST_DISTANCE ST_DISTANCESPHERE
    ST_DISTANCESPHEROID ST_DISTANCE_SPHERE ST_DISTANCE_SPHEROID ST_DWITHIN ST_ENDPOINT ST_ENVELOPE ST_EQUALS ST_EXTENT ST_EXTERIORRING
    ST_FORCE2D ST_FORCEPOLYGONCW ST_FORCERHR ST_GEOGFROMTEXT ST_GEOGFROMWKB ST_GEOHASH ST_GEOMETRYN ST_GEOMETRYTYPE
    ST_GEOMFROMEWKB ST_GEOMFROMEWKT ST_GEOMFROMGEOJSON ST_GEOMFROMTEXT ST_GEOMFROMWKB ST_HASM ST_HASZ ST_INTERSECTION ST_INTERSECTS
    ST_ISCLOSED ST_ISEMPTY ST_ISSIMPLE ST_ISVALID ST_ISVALIDREASON ST_LENGTH ST_LENGTHSPHEROID ST_LENGTH_SPHEROID
    ST_LINEINTERPOLATEPOINT ST_LINELOCATEPOINT ST_LINEMERGE ST_M ST_MAKEENVELOPE ST_MAKELINE ST_MAKEPOINT ST_MAKEPOLYGON
    ST_MAKEVALID ST_MAXDISTANCE ST_MEMSIZE ST_MINIMUMBOUNDINGCIRCLE ST_MULTI ST_NDIMS ST_NPOINTS ST_NUMGEOMETRIES ST_NUMPOINTS
    ST_OVERLAPS ST_PERIMETER ST_POINT ST_POINTN ST_POINTONSURFACE ST_RELATE ST_REVERSE ST_ROTATE ST_SCALE ST_SETSRID
    ST_SIMPLIFY ST_SIMPLIFYPRESERVETOPOLOGY ST_SNAPTOGRID ST_SRID ST_STARTPOINT ST_SYMDIFFERENCE ST_TOUCHES ST_TRANSFORM
    ST_TRANSLATE ST_UNION ST_WITHIN ST_X ST_XMAX ST_XMIN ST_Y ST_YMAX ST_YMIN ST_Z ST_ZMAX ST_ZMIN
    """.split())


_SIMPLE = re.compile(r"SELECT \d+|SELECT (?:version|pg_is_in_recovery)\(\)", re.I)
_SET_CONFIG = re.compile(r"\s*SELECT\s+(?:pg_catalog\.)?set_config\s*\([^();]*\)\s*;?\s*", re.I)
_SETS = re.compile(r"""\s*(?:RE)?SET\s+(?!LOCAL\b|CONSTRAINTS\b|TRANSACTION\b)(?:SESSION\s+(?!CHARACTERISTICS\b))?
    (?!\w*(?:TIMEOUT|_MEM|_COST|_DELAY)\b|APPLICATION_NAME|SYNCHRONOUS_COMMIT|CLIENT_|ENABLE_|JIT|LOG_|GEQO|CURSOR_TUPLE)""", re.I | re.X)
_TEMPORARY = re.compile(r"\b(?:CREATE|INTO)\s+(?:LOCAL\s+|GLOBAL\s+)?TEMP(?:ORARY)?\b|\bpg_temp\b"
                        r"|\bCREATE\s+(?:TABLE|VIEW)\s+(?:IF\s+NOT\s+EXISTS\s+)?temp\.", re.I)


_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.S)
# SET at the begin of a statement, and not that of UPDATE, ALTER TABLE and the like, which has a name before it.
_SOURCE_SETS = re.compile(r"\bset_config\b|(?:^|;|\$|'|\b(?:BEGIN|THEN|ELSE|LOOP|DO|AS)\b)\s*(?:RE)?SET\s+(?!LOCAL\b|CONSTRAINTS\b|TRANSACTION\b)\w", re.I)


def without_comments(statement: str) -> str:
    return _COMMENT.sub(" ", statement)


@lru_cache(maxsize=2048)
def source_sets(source: str) -> bool:
    """Does a function, a block or one of several statements change the session?"""
    return _SOURCE_SETS.search(without_comments(source)) is not None


def sets_session(statement: str) -> bool:
    """Does it change what later statements of the session mean: a role, a search path, a setting that policies read?"""
    if _SET_CONFIG.fullmatch(statement):
        return re.search(r",\s*true\s*\)", statement, re.I) is None
    return _SETS.match(statement) is not None


def makes_temporary(statement: str) -> bool:
    """Tables of the session; not those that go with the transaction, which is a request's that wrote."""
    return _TEMPORARY.search(statement) is not None and re.search(r"\bON\s+COMMIT\s+DROP\b", statement, re.I) is None


def classify(statement: str) -> Tuple[int, Optional[surrogates.Table]]:
    text = statement.rstrip("; \t\r\n")
    first = _FIRST.match(text)
    word = first.group(1).upper() if first else ""
    if word in _WORDS:
        # ROLLBACK TO keeps the transaction; "ROLLBACK; DELETE ..." and COMMIT with more after it are anything.
        if ";" in text or "--" in text or "/*" in text:
            return ANYTHING, None
        if word == "ROLLBACK" and len(text.split()) > 2:
            return NOTHING, None
        return _WORDS[word], None
    if not _TOKENS.fullmatch(text):
        return ANYTHING, None
    text = _LITERAL.sub(lambda found: found.group(1) or "''", text)
    if _UNSURE.search(text):
        return ANYTHING, None
    if word in _QUIET:
        return NOTHING, None
    if word == "SELECT":
        if _SET_CONFIG.fullmatch(text):
            return NOTHING, None
        text = _FOR_UPDATE.sub("", text)
        return (ANYTHING, None) if _WRITING.search(text) or not _calls_are_pure(text) else (READ, None)
    found = _STATEMENT.match(text)
    return _write(text, found) if found else (ANYTHING, None)


@lru_cache(maxsize=2048)
def is_select_with_calls(statement: str) -> bool:
    """A SELECT that is anything only for the functions that it calls."""
    text = statement.rstrip("; \t\r\n")
    first = _FIRST.match(text)
    if not first or first.group(1).upper() != "SELECT" or not _TOKENS.fullmatch(text):
        return False
    text = _FOR_UPDATE.sub("", _LITERAL.sub(lambda found: found.group(1) or "''", text))
    return not _UNSURE.search(text) and not _WRITING.search(text)


def is_simple(statement: str) -> bool:
    """What connections ask, again and again: no table, operator or cast."""
    return _SIMPLE.fullmatch(statement) is not None


def _write(text: str, found: "re.Match[str]") -> Tuple[int, Optional[surrogates.Table]]:
    name = found.group(1) or found.group(2) or found.group(3)
    table = surrogates.tables().get(name.lower())
    quoted = found.group(3) is None
    # An unquoted name means the name in lower case in one database, in any case in another.
    if table is None or table.opaque or (table.name != name if quoted else table.name.lower() != table.name):
        return ANYTHING, None
    rest = text[found.end():].lstrip().lstrip("(")  # of an INSERT: its columns
    if _WRITING.search(rest) or not _calls_are_pure(rest):
        return ANYTHING, None
    return WRITE, table


def is_with_select(statement: str) -> bool:
    """A SELECT that begins with common table expressions, of which none changes rows."""
    first = _FIRST.match(statement)
    if not first or first.group(1).upper() != "WITH" or not _TOKENS.fullmatch(statement):
        return False
    text = _FOR_UPDATE.sub("", _QUOTED.sub("''", statement)).replace("#>", "")  # PostgreSQL's operators on JSON
    return not _UNSURE.search(text) and not _WRITING.search(text)


def returns_rows(statement: str) -> bool:
    return _RETURNING.search(statement) is not None


def _calls_are_pure(text: str) -> bool:
    return all(name.upper() in _PURE for name in _CALL.findall(text))


# ---- Tables that are read ----


_CLOCK = re.compile(r"""
    \b(?:NOW|\w+_TIMESTAMP|CURRENT_DATE|CURRENT_TIME|LOCALTIME|LOCALTIMESTAMP|TIMEOFDAY|AGE(?=\s*\()
        |RANDOM|RAND|RANDOMBLOB|RANDOM_NORMAL|TABLESAMPLE|GEN_RANDOM_\w+|UUID_GENERATE_\w+|UUIDV[47]|UUIDV?\d(?=\s*\()
        |NEXTVAL|CURRVAL|LASTVAL|LAST_VALUE(?!\s*\()|TXID_\w+|PG_(?!CATALOG\b)\w+|INFORMATION_SCHEMA)\b
    |'\s*(?:now|today|tomorrow|yesterday)\s*'
    |\b(?:DATE|TIME|DATETIME|JULIANDAY|UNIXEPOCH)\s*\(\s*\) |\bSTRFTIME\s*\([^,()]*\)""", re.I | re.X)


@lru_cache(maxsize=2048)
def asks_the_clock(statement: str) -> bool:
    """Or for a random number: its result changes without a write."""
    return _CLOCK.search(re.sub(r'"[^"]*"|`[^`]*`', "", statement)) is not None


_LOCKS = re.compile(r"\bSKIP\s+LOCKED\b|\bNOWAIT\b", re.I)


@lru_cache(maxsize=2048)
def skips_locked(statement: str) -> bool:
    """Does its result depend on who works on the rows?"""
    return _LOCKS.search(statement) is not None


@lru_cache(maxsize=2048)
def functions(statement: str) -> FrozenSet[str]:
    """What it calls that is not surely harmless, in lower case."""
    calls = [quoted or plain for quoted, plain in _CALLED.findall(statement)]
    return frozenset(name.lower() for name in calls if name.upper() not in _PURE and not name.startswith("django_"))


@lru_cache(maxsize=2048)
def names_in(statement: str) -> FrozenSet[str]:
    """Every word of it, and every quoted name."""
    return frozenset(_names(statement))


@lru_cache(maxsize=2048)
def stands_once(statement: str, name: str, quoted: str) -> bool:
    """Is a table's name there once for the table, otherwise only before its columns, and nowhere in another form?"""
    words = re.findall(r"(?<!\w)%s(?!\w)" % re.escape(name), statement, re.I)
    as_columns = statement.count(quoted + ".")
    return statement.count(quoted) == as_columns + 1 and len(words) == as_columns + 1


@lru_cache(maxsize=2048)  # the ORM's statements have placeholders, so they come again
def tables_read(statement: str) -> Tuple[Dict[str, surrogates.Table], bool]:
    """Of a SELECT by the ORM: the known tables whose names occur anywhere in it, by name in lower case; and: is that surely
    all that it reads? Not where a view, a stored function or a table of no model may be in it."""
    every = surrogates.tables()
    found = {name: every[name] for name in _names(statement) if name in every}
    complete = not any(table.opaque for table in found.values()) and not _COMMA_JOIN.search(statement) \
        and all(name.upper() in _PURE or name.startswith("django_") for name in _CALL.findall(statement))
    for made in _TABLE_AFTER.findall(statement):
        name = made.strip('"`')
        table = every.get(name.lower())
        if made.upper() != "SELECT" and (made[0] not in '"`' or table is None or table.name != name):
            complete = False
    return found, complete


def _names(statement: str) -> Iterator[str]:
    for groups in _IDENTIFIER.findall(statement):
        for name in groups:
            if name:
                yield name.lower()
                yield from (word.lower() for word in re.findall(r"\w+", name))


@lru_cache(maxsize=2048)
def is_plain_select(statement: str) -> bool:
    """A SELECT by the ORM that can only read: from known tables, with functions that are surely harmless."""
    return statement.startswith("SELECT ") and not functions(statement) and tables_read(statement)[1]


surrogates.on_change += [tables_read.cache_clear, is_plain_select.cache_clear]
