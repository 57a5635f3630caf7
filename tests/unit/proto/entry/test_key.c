/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: the table (which keys are one, golden fingerprints), canonical bytes and back, damage,
 * clocks. */
#include "key.h"

#include "numbers.h"
#include "surrogate.h"
#include "testing.h"
#include "text.h"
#include "tsv.h"

#define CELL_BYTES 8192
#define ROWS_MAX 400
#define KEY_HEADER 8u

static const uint8_t hash_key[SIPHASH_KEY_BYTES] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                    8, 9, 10, 11, 12, 13, 14, 15};

/* The memory that a row's key borrows from. */
struct row_text {
    char host[CELL_BYTES], target[CELL_BYTES], scope[CELL_BYTES], release[CELL_BYTES];
    char scheme[CELL_BYTES];
    char vary[VARY_COUNT_MAX + 1][CELL_BYTES];
    etag_field fields[VARY_COUNT_MAX + 1];
};

static etag_str cell_or_absent(const struct tsv *table, const char *column, char *out)
{
    if (strcmp(tsv_raw(table, column), "-") == 0)
        return (etag_str){NULL, 0};
    return (etag_str){out, tsv_text(table, column, out, CELL_BYTES)};
}

static etag_scope row_scope(const struct tsv *table, char *out)
{
    const etag_str scope = {out, tsv_text(table, "scope", out, CELL_BYTES)};

    if (str_equal(scope, ETAG_LIT("public")))
        return (etag_scope){.kind = ETAG_SCOPE_PUBLIC};
    if (str_equal(scope, ETAG_LIT("unset")))
        return (etag_scope){.kind = ETAG_SCOPE_UNSET};
    assert_true(str_starts_with(scope, ETAG_LIT("named:")));
    return (etag_scope){.kind = ETAG_SCOPE_NAMED, .name = str_skip(scope, 6)};
}

/* "name: value", "name:" or "name". */
static etag_field vary_field(etag_str line)
{
    const char *const colon = memchr(line.data, ':', line.len);

    if (!colon)
        return (etag_field){.name = line};
    etag_field field = {.name = {line.data, (size_t)(colon - line.data)}};
    field.value = str_skip(line, field.name.len + 1);
    if (str_starts_with(field.value, ETAG_LIT(" ")))
        field.value = str_skip(field.value, 1);
    return field;
}

static size_t row_vary(const struct tsv *table, struct row_text *text)
{
    const char *raw = tsv_raw(table, "vary");

    if (strcmp(raw, "-") == 0)
        return 0;
    size_t count = 0;
    for (bool more = true; more; count++) {
        const char *const end = strstr(raw, " | ");
        char line[CELL_BYTES];
        assert_true(count <= VARY_COUNT_MAX);
        snprintf(line, sizeof(line), "%.*s", end ? (int)(end - raw) : CELL_BYTES, raw);
        char *const out = text->vary[count];
        text->fields[count] = vary_field(
            (etag_str){out, tsv_unescape(table, line, out, CELL_BYTES)});
        more = end != NULL;
        raw = end ? end + 3 : raw;
    }
    return count;
}

static void row_key(const struct tsv *table, struct row_text *text, etag_key *out)
{
    ETAG_INIT(out);
    out->resource.host = cell_or_absent(table, "host", text->host);
    out->resource.target = (etag_str){text->target,
                                      tsv_text(table, "target", text->target, CELL_BYTES)};
    out->scope = row_scope(table, text->scope);
    out->release = cell_or_absent(table, "release", text->release);
    out->scheme = cell_or_absent(table, "scheme", text->scheme);
    out->vary_count = row_vary(table, text);
    out->vary = text->fields;
}

static void assert_fingerprint(const struct tsv *table, const struct key *key)
{
    const char *const golden = tsv_raw(table, "fingerprint");

    if (strcmp(golden, "-") == 0)
        return;
    const struct hash128 hash = key_fingerprint(hash_key, key);
    uint8_t bytes[16];
    char text[33];
    memcpy(bytes, &hash, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    if (strcmp(text, golden) != 0)
        fail_msg("%s: fingerprint %s, want %s", tsv_raw(table, "id"), text, golden);
}

/* Parsing gives what canonicalizing gives the same bytes for. */
static void assert_round_trip(const char *id, const struct key *key)
{
    static struct key again;
    etag_key parsed;
    etag_field vary[VARY_COUNT_MAX];

    if (!key_parse((etag_str){(const char *)key->bytes, key->len}, &parsed, vary))
        fail_msg("%s: canonical bytes are refused", id);
    assert_int_equal(parsed.size, sizeof(parsed));
    const char *wrong = key_canonicalize(&again, &parsed);
    if (wrong)
        fail_msg("%s: what was parsed is refused: %s", id, wrong);
    if (again.len != key->len || memcmp(again.bytes, key->bytes, key->len) != 0)
        fail_msg("%s: not the same after parsing", id);
}

struct seen_key {
    char id[16], word[32];
    struct hash128 fingerprint;
};

static void assert_same_or_different(const struct seen_key *a, const struct seen_key *b)
{
    const bool same_word = strcmp(a->word, b->word) == 0;
    const bool same_key = memcmp(&a->fingerprint, &b->fingerprint, sizeof(a->fingerprint)) == 0;

    if (same_word != same_key)
        fail_msg("%s and %s are %s key", a->id, b->id, same_key ? "one" : "not one");
}

TEST(the_table_holds)
{
    static struct row_text text;
    static struct key key;
    static struct seen_key seen[ROWS_MAX];
    size_t seen_count = 0, golden_count = 0;
    struct tsv table;

    tsv_open(&table, "keys.tsv");
    while (tsv_next(&table)) {
        const char *const id = tsv_raw(&table, "id"), *const word = tsv_raw(&table, "key");
        etag_key in;
        row_key(&table, &text, &in);
        const char *wrong = key_canonicalize(&key, &in);
        assert_string_equal(tsv_raw(&table, "lookup"), wrong ? "bad_key" : "known");
        assert_string_equal(tsv_raw(&table, "fill"), wrong ? "refused" : "stored");
        if (strcmp(word, "error") == 0) {
            if (!wrong)
                fail_msg("%s: accepted", id);
            continue;
        }
        if (wrong)
            fail_msg("%s: %s", id, wrong);
        assert_round_trip(id, &key);
        assert_fingerprint(&table, &key);
        golden_count += strcmp(tsv_raw(&table, "fingerprint"), "-") != 0;
        if (strcmp(word, "-") == 0)
            continue;
        assert_true(seen_count < ROWS_MAX);
        struct seen_key *const now = &seen[seen_count++];
        snprintf(now->id, sizeof(now->id), "%s", id);
        snprintf(now->word, sizeof(now->word), "%s", word);
        now->fingerprint = key_fingerprint(hash_key, &key);
        for (size_t i = 0; i + 1 < seen_count; i++)
            assert_same_or_different(&seen[i], now);
    }
    tsv_close(&table);
    assert_true(seen_count >= 50 && golden_count >= 8);
}

/* /secret/x answers 403, /files/../secret/x is rendered by the view of /files: one key for both
 * would confirm the secret's tag. Wherever the dots stand in the path, and through whichever code
 * it goes. */
TEST(a_path_with_dot_segments_is_no_key)
{
    static const char *const segments[] = {"/./",    "/../",   "/%2e/",  "/.%2E/", "/%2e./",
                                           "/..%2f", "/..%5C", "\\..\\", "/..;a/", "%2F.%2F"};
    static struct key key;

    for (size_t s = 0; s < COUNT_OF(segments); s++) {
        const size_t len = strlen(segments[s]);
        for (size_t at = 1; at < 40; at++) {
            char target[64];
            etag_key in;
            ETAG_INIT(&in);
            in.scope.kind = ETAG_SCOPE_PUBLIC;
            memset(target, 'x', sizeof(target));
            target[0] = '/';
            memcpy(target + at, segments[s], len);
            in.resource.target = (etag_str){target, at + len + 4};
            const char *wrong = key_canonicalize(&key, &in);
            if (!wrong || !strstr(wrong, "dot segments"))
                fail_msg("%.*s: %s", (int)in.resource.target.len, target, wrong ? wrong : "a key");
            assert_null(key_canonicalize_stored(&key, &in));
        }
    }
}

static void sample_key(etag_key *key, const etag_field vary[2])
{
    ETAG_INIT(key);
    key->resource = (etag_resource){ETAG_LIT("example.com"), ETAG_LIT("/uploads/42?x")};
    key->scope = (etag_scope){ETAG_SCOPE_NAMED, ETAG_LIT("customer:7")};
    key->release = ETAG_LIT("r1");
    key->scheme = ETAG_LIT("https");
    key->vary = vary;
    key->vary_count = 2;
}

TEST(parsing_gives_the_parts)
{
    static struct key key;
    const etag_field vary[2] = {{ETAG_LIT("Cookie"), {NULL, 0}}, {ETAG_LIT("Accept"), {"", 0}}};
    etag_key in, out;
    etag_field fields[VARY_COUNT_MAX];

    sample_key(&in, vary);
    assert_null(key_canonicalize(&key, &in));
    assert_true(key_parse((etag_str){(const char *)key.bytes, key.len}, &out, fields));
    assert_true(str_equal(out.resource.host, in.resource.host));
    assert_true(str_equal(out.resource.target, in.resource.target));
    assert_int_equal(out.scope.kind, ETAG_SCOPE_NAMED);
    assert_true(str_equal(out.scope.name, in.scope.name));
    assert_true(str_equal(out.release, in.release));
    assert_true(str_equal(out.scheme, in.scheme));
    assert_int_equal(out.vary_count, 2);
    assert_true(str_equal(out.vary[0].name, ETAG_LIT("accept")));
    assert_non_null(out.vary[0].value.data);
    assert_int_equal(out.vary[0].value.len, 0);
    assert_true(str_equal(out.vary[1].name, ETAG_LIT("cookie")));
    assert_null(out.vary[1].value.data);
}

/* Every cut, every byte more and every single changed byte: refused, or a key whose bytes are
 * exactly these. Allocated exactly, so that a sanitizer sees a byte read too many. */
TEST(damaged_bytes_are_refused_or_a_key)
{
    static struct key key;
    const etag_field vary[2] = {{ETAG_LIT("accept"), ETAG_LIT("a")},
                                {ETAG_LIT("cookie"), {NULL, 0}}};
    etag_key in, out;
    etag_field fields[VARY_COUNT_MAX];

    sample_key(&in, vary);
    assert_null(key_canonicalize(&key, &in));
    for (size_t len = 0; len < key.len; len++) {
        char *cut = malloc(len + 1);
        assert_non_null(cut);
        memcpy(cut + 1, key.bytes, len);
        assert_false(key_parse((etag_str){cut + 1, len}, &out, fields));
        free(cut);
    }
    char *const block = malloc(1 + key.len);
    assert_non_null(block);
    memcpy(block, key.bytes, key.len);
    block[key.len] = 'x';
    assert_false(key_parse((etag_str){block, key.len + 1}, &out, fields));
    char *const changed = block + 1;
    memcpy(changed, key.bytes, key.len);
    for (size_t i = 0; i < key.len; i++) {
        for (int byte = 0; byte < 256; byte++) {
            static struct key again;
            changed[i] = (char)byte;
            if (!key_parse((etag_str){changed, key.len}, &out, fields))
                continue;
            /* in front of the scope, what was parsed may not be a canonical resource */
            if (i >= KEY_HEADER + out.resource.host.len + out.resource.target.len) {
                assert_null(key_canonicalize(&again, &out));
                assert_int_equal(again.len, key.len);
                assert_memory_equal(again.bytes, changed, key.len);
            }
        }
        changed[i] = (char)key.bytes[i];
    }
    free(block);
}

TEST(unsorted_and_repeated_vary_fields_are_no_key)
{
    /* header, "/", then the fields: one-letter names, absent values */
    char bytes[] = "\1\0\0\0\0\1\2\0"
                   "/"
                   "\1\0\xff\xff"
                   "a"
                   "\1\0\xff\xff"
                   "b";
    const size_t len = sizeof(bytes) - 1;
    etag_key out;
    etag_field fields[VARY_COUNT_MAX];

    assert_true(key_parse((etag_str){bytes, len}, &out, fields));
    bytes[len - 1] = 'a';
    assert_false(key_parse((etag_str){bytes, len}, &out, fields));
    bytes[len - 1] = 'A';
    assert_false(key_parse((etag_str){bytes, len}, &out, fields));
    bytes[len - 6] = 'c';
    bytes[len - 1] = 'b';
    assert_false(key_parse((etag_str){bytes, len}, &out, fields));
}

TEST(the_sentence_about_a_missing_scope_says_what_to_do)
{
    static struct key key;
    etag_key in;

    ETAG_INIT(&in);
    in.resource.target = ETAG_LIT("/");
    const char *wrong = key_canonicalize(&key, &in);
    assert_non_null(wrong);
    assert_non_null(strstr(wrong, "ETAG_SCOPE_PUBLIC"));
    in.scope.kind = (etag_scope_kind)3;
    assert_non_null(key_canonicalize(&key, &in));
    in.scope = (etag_scope){ETAG_SCOPE_PUBLIC, ETAG_LIT("customer:7")};
    assert_non_null(key_canonicalize(&key, &in));
}

TEST(the_largest_key_fits)
{
    static struct key key;
    static char bytes[TARGET_BYTES_MAX], names[VARY_COUNT_MAX][VARY_NAME_BYTES_MAX];
    etag_field vary[VARY_COUNT_MAX];

    memset(bytes, 'x', sizeof(bytes));
    memset(names, 'n', sizeof(names));
    for (size_t i = 0; i < VARY_COUNT_MAX; i++) {
        names[i][0] = (char)('a' + i);
        vary[i] = (etag_field){{names[i], VARY_NAME_BYTES_MAX}, {bytes, VARY_VALUE_BYTES_MAX}};
    }
    char target[TARGET_BYTES_MAX];
    memset(target, '/', sizeof(target));
    etag_key in;
    ETAG_INIT(&in);
    in.resource = (etag_resource){{bytes, HOST_BYTES_MAX}, {target, sizeof(target)}};
    in.scope = (etag_scope){ETAG_SCOPE_NAMED, {bytes, SCOPE_BYTES_MAX}};
    in.release = (etag_str){bytes, RELEASE_BYTES_MAX};
    in.scheme = (etag_str){bytes, SCHEME_BYTES_MAX};
    in.vary = vary;
    in.vary_count = VARY_COUNT_MAX;
    assert_null(key_canonicalize(&key, &in));
    assert_true(key.len <= KEY_BYTES_MAX);
    assert_round_trip("largest", &key);
}

TEST(surrogate_keys_are_visible_ascii)
{
    char name[SURROGATE_BYTES_MAX + 1];

    memset(name, 's', sizeof(name));
    assert_null(surrogate_check(ETAG_LIT("upload:42")));
    assert_null(surrogate_check(ETAG_LIT("!~")));
    assert_null(surrogate_check((etag_str){name, SURROGATE_BYTES_MAX}));
    assert_non_null(surrogate_check((etag_str){name, SURROGATE_BYTES_MAX + 1}));
    assert_non_null(surrogate_check((etag_str){NULL, 0}));
    for (int byte = 0; byte < 256; byte++) {
        name[1] = (char)byte;
        const bool refused = surrogate_check((etag_str){name, 3}) != NULL;
        assert_int_equal(refused, byte < 0x21 || byte > 0x7e);
    }
}

static struct resource resource_of(etag_str host, etag_str target)
{
    struct resource r;
    const char *wrong = resource_canonicalize(&r, &(etag_resource){host, target});

    assert_null(wrong);
    return r;
}

/* Checkpoints hold clocks by number, so the numbers are part of the format. Computed with another
 * program. */
TEST(clock_numbers_are_fixed)
{
    const struct resource r = resource_of(ETAG_LIT("example.com"), ETAG_LIT("/uploads/42"));
    const struct resource bare = resource_of((etag_str){NULL, 0}, ETAG_LIT("/x"));

    assert_int_equal(clock_of_resource(hash_key, 1024, &r), 644);
    assert_int_equal(clock_of_prefix(hash_key, 1024, &r, 9), 899);
    assert_int_equal(clock_of_surrogate(hash_key, 1024, ETAG_LIT("upload:42")), 656);
    assert_int_equal(clock_of_resource(hash_key, 1024, &bare), 863);
    assert_int_equal(clock_of_surrogate(hash_key, 1024, ETAG_LIT("/x")), 424);
    assert_int_equal(clock_of_family(hash_key, 1024, ETAG_LIT("upload")), 149);
    assert_int_equal(clock_of_resource(hash_key, CLOCKS_MAX, &r), 9593416);
    assert_int_equal(clock_of_prefix(hash_key, CLOCKS_MAX, &r, 9), 14411751);
    assert_int_equal(clock_of_surrogate(hash_key, CLOCKS_MAX, ETAG_LIT("upload:42")), 9822543);
    assert_int_equal(clock_of_resource(hash_key, CLOCKS_MAX, &bare), 13740349);
    assert_int_equal(clock_of_surrogate(hash_key, CLOCKS_MAX, ETAG_LIT("/x")), 5418875);
    assert_int_equal(clock_of_family(hash_key, CLOCKS_MAX, ETAG_LIT("upload")), 315832);
}

/* Neither the floor nor the clock of a group or of families is ever hit, and all others are. */
TEST(clocks_are_spread_over_all_that_are_not_fixed)
{
    static unsigned hits[1024];
    const size_t first = CLOCKS_FIXED + CLOCKS_OF_FAMILIES(1024);

    for (unsigned i = 0; i < (1024 - first) * 200; i++) {
        char name[16];
        snprintf(name, sizeof(name), "s:%u", i);
        hits[clock_of_surrogate(hash_key, 1024, str_of(name))]++;
    }
    for (size_t i = 0; i < first; i++)
        assert_int_equal(hits[i], 0);
    for (size_t i = first; i < 1024; i++)
        assert_in_range(hits[i], 120, 280);
}

/* What moves all the time never makes a whole family stale. */
TEST(families_share_their_clocks_with_families_only)
{
    static unsigned hits[1024];
    const size_t end = CLOCKS_FIXED + CLOCKS_OF_FAMILIES(1024);

    for (unsigned i = 0; i < 64 * 200; i++) {
        char name[16];
        snprintf(name, sizeof(name), "s%u:1", i);
        hits[clock_of_family(hash_key, 1024, str_of(name))]++;
    }
    for (size_t i = 0; i < 1024; i++)
        assert_in_range(hits[i], i < CLOCKS_FIXED || i >= end ? 0 : 120,
                        i < CLOCKS_FIXED || i >= end ? 0 : 280);
}

TEST(each_group_of_surrogate_keys_has_a_clock_of_its_own)
{
    for (uint32_t group = 0; group < SURROGATE_GROUPS; group++) {
        char made[SURROGATE_MADE_BYTES];
        const etag_str name = surrogate_group_name(group, made);
        assert_int_equal(clock_of_surrogate(hash_key, 1024, name), 1 + group);
        assert_int_equal(clock_of_surrogate(hash_key, CLOCKS_MAX, name), clock_of_group(group));
    }
    const char *const none[] = {"~group-128",
                                "~group-",
                                "~group-01",
                                "~group-1x",
                                "~group-4294967297",
                                "group-1",
                                "~group-99999999999999999999"};
    for (size_t i = 0; i < COUNT_OF(none); i++)
        assert_true(clock_of_surrogate(hash_key, 1024, str_of(none[i])) >= CLOCKS_FIXED);
    /* Both ends and other implementations have to agree. */
    assert_int_equal(surrogate_group(ETAG_LIT("k0")), 46);
    assert_int_equal(surrogate_group(ETAG_LIT("k2")), 100);
}

/* Host and path stand apart; a prefix is not the resource of the same name; another hash key moves
 * all. */
TEST(targets_of_different_kinds_are_different)
{
    const uint8_t other_key[SIPHASH_KEY_BYTES] = {1};
    const struct resource a = resource_of(ETAG_LIT("a"), ETAG_LIT("/b/"));
    struct resource moved = a; /* "a/" + "b/": not canonical, but the same bytes */

    moved.host_len = 2;
    moved.path_len = 2;
    const uint32_t clock = clock_of_resource(hash_key, CLOCKS_MAX, &a);
    assert_int_not_equal(clock, clock_of_resource(hash_key, CLOCKS_MAX, &moved));
    assert_int_not_equal(clock, clock_of_prefix(hash_key, CLOCKS_MAX, &a, 3));
    assert_int_not_equal(clock, clock_of_resource(other_key, CLOCKS_MAX, &a));
    assert_int_not_equal(clock_of_prefix(hash_key, CLOCKS_MAX, &a, 1),
                         clock_of_prefix(hash_key, CLOCKS_MAX, &a, 3));
    const struct resource query = resource_of(ETAG_LIT("a"), ETAG_LIT("/b/?q"));
    assert_int_not_equal(clock, clock_of_resource(hash_key, CLOCKS_MAX, &query));
    assert_int_equal(clock_of_prefix(hash_key, CLOCKS_MAX, &a, 3),
                     clock_of_prefix(hash_key, CLOCKS_MAX, &query, 3));
}
