/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared memory, whatever a daemon wrote into it: a small valid index is made, the input
 * changes words of it, and the library opens it and looks its entries up. It must not read outside
 * of the memory, which is as large as the input says, nor write; what it accepts must hold by the
 * plain rules below, and what it answers is its own copy.
 *
 * Input: lines of text, each a change, in order; a line that means nothing is skipped.
 *
 *     NAME[.NUMBER][@OFFSET] OPERATION VALUE      pool_units=ffffffff   hop.3=ff000001   at@24c0^80
 *
 * Numbers are hexadecimal; operations are = + - ^. NUMBER is an entry's (or a clock's), OFFSET
 * moves on from the word. Behind a line "checked" the changes come when the header has just been
 * found good: as from a daemon that writes while the library looks.
 */
#include "fuzz.h"

#include "client.h"
#include "entry.h"
#include "numbers.h"
#include "text.h"

#include <ctype.h>
#include <string.h>

#define HOMES 8u
#define SLOTS (HOMES + HOP_WINDOW - 1)
#define POOL_UNITS 128u
#define ENTRIES 4u
#define KEYED_ENTRIES 3u /* the first ones have keys; the last one only a fingerprint */
#define INCARNATION_ID UINT64_C(0x1234567890abcdef)
#define FIELDSET_UNIT 1u
/* The last place where the longest record fits: what says more lies outside of the pool. */
#define OVERFLOW_UNIT (POOL_UNITS - POOL_RECORD_BYTES_MAX / POOL_UNIT_BYTES)
#define IMAGE_BYTES_MAX 65536u

/* A valid index, made once. */
struct image {
    _Alignas(4096) uint8_t bytes[IMAGE_BYTES_MAX];
    size_t len;
    struct layout_header header;
    struct hash128 fingerprints[ENTRIES];
    uint64_t slots[ENTRIES], homes[ENTRIES];
};

/* ---- The valid index ---- */

static const char *const targets[KEYED_ENTRIES] = {"/plain", "/overflow", "/bare"};

static etag_key key_of(size_t entry)
{
    etag_key key;

    ETAG_INIT(&key);
    key.resource = (etag_resource){ETAG_LIT("a.example"), str_of(targets[entry])};
    key.scope.kind = ETAG_SCOPE_PUBLIC;
    return key;
}

/* As the daemon plans it, but with fewer homes and a smaller pool: thousands of copies are made of
 * it. */
static void image_plan(struct image *image)
{
    const struct layout_plan plan = {.capacity = CAPACITY_MIN, .clock_count = CLOCKS_MIN};
    struct layout_header *const header = &image->header;

    layout_init(header, &plan);
    header->home_count = HOMES;
    header->pool_units = POOL_UNITS;
    header->details_offset = header->slots_offset + SLOTS * sizeof(struct layout_slot);
    header->clocks_offset = header->details_offset + SLOTS * sizeof(struct layout_detail);
    header->pool_offset = header->clocks_offset + CLOCKS_MIN * sizeof(uint64_t);
    header->total_bytes = header->pool_offset + (size_t)POOL_UNITS * POOL_UNIT_BYTES;
    header->incarnation_id = INCARNATION_ID;
    header->lease_deadline_ns = UINT64_MAX;
    memcpy(header->hash_key, "0123456789abcde", sizeof(header->hash_key));
    image->len = header->total_bytes;
    fuzz_require(image->len <= IMAGE_BYTES_MAX / 2);
    memcpy(image->bytes, header, sizeof(*header));
}

static uint32_t put_fieldset(struct shm_view *view)
{
    static const struct kept_field fields[] = {
        {FIELDSET_LITERAL, {ETAG_LIT("Cache-Control"), ETAG_LIT("max-age=60")}, 0},
        {.kind = FIELDSET_EXPIRES, .offset_s = 60},
        {FIELDSET_LITERAL, {ETAG_LIT("Vary"), ETAG_LIT("Accept")}, 0},
    };
    uint8_t bytes[FIELDSET_BYTES_MAX];
    const int len = fieldset_pack(bytes, fields, 3);

    fuzz_require(len > 0);
    shm_pool_write(view, FIELDSET_UNIT, bytes, (size_t)len);
    return FIELDSET_UNIT;
}

static uint32_t put_overflow(struct shm_view *view, const struct shm_record *record)
{
    uint8_t bytes[POOL_RECORD_BYTES_MAX];
    const size_t len = shm_overflow_pack(bytes, record, ETAG_LIT("/elsewhere"));

    fuzz_require(len > 0 && len <= (POOL_UNITS - OVERFLOW_UNIT) * POOL_UNIT_BYTES);
    shm_pool_write(view, OVERFLOW_UNIT, bytes, len);
    return OVERFLOW_UNIT;
}

/* The last slot of the array, for the entry at its end; else the first that is free. */
static uint64_t choose_slot(const struct shm_view *view, size_t entry, uint64_t home)
{
    uint64_t slot = entry == ENTRIES - 1 ? SLOTS - 1 : home;

    for (struct hash128 seen = shm_fingerprint_at(view, slot); seen.low != 0 || seen.high != 0;
         seen = shm_fingerprint_at(view, slot))
        slot++;
    return slot;
}

static void put_entry(struct image *image, struct shm_view *view, size_t entry)
{
    static const char long_tag[] =
        "\"a tag that is too long for its place in the detail: it stands in the overflow record\"";
    uint32_t clocks[CLOCKS_PER_ENTRY_MAX];

    for (uint32_t i = 0; i < CLOCKS_PER_ENTRY_MAX; i++)
        clocks[i] = CLOCKS_MIN - 1 - i;
    struct shm_record record = {.fill_lsn = 100,
                                .expires_ns = UINT64_MAX,
                                .last_modified = 784111777,
                                .etag = ETAG_LIT("\"v1\""),
                                .clocks = clocks,
                                .clock_count = 3};
    if (entry < KEYED_ENTRIES) {
        struct key key;
        const etag_key named = key_of(entry);
        fuzz_require(!key_canonicalize(&key, &named));
        record.fingerprint = key_fingerprint(image->header.hash_key, &key);
    } else {
        record.fingerprint = (struct hash128){.low = 1, .high = UINT64_MAX};
    }
    if (entry == 1) {
        record.etag = str_of(long_tag);
        record.clock_count = 20;
        record.overflow = put_overflow(view, &record);
    }
    if (entry != 2)
        record.fieldset = put_fieldset(view);
    const uint64_t home = layout_home(HOMES, record.fingerprint);
    const uint64_t slot = choose_slot(view, entry, home);
    shm_write(view, slot, &record);
    shm_hop_store(view, home, shm_hop_load(view, home) | 1u << (slot - home));
    image->fingerprints[entry] = record.fingerprint;
    image->slots[entry] = slot;
    image->homes[entry] = home;
}

static void image_make(struct image *image)
{
    image_plan(image);
    struct shm_view view = shm_view_of(image->bytes, &image->header);
    for (size_t i = 0; i < ENTRIES; i++)
        put_entry(image, &view, i);
    shm_lsn_store(&view, 200);
}

/* ---- Changes ---- */

enum base { OF_HEADER, OF_SLOT, OF_DETAIL, OF_HOME, OF_OVERFLOW, OF_FIELDSET, OF_CLOCK, OF_SIZE };

struct word {
    const char *name;
    enum base base;
    size_t offset, bytes;
};

#define MEMBER(base, type, member)                                                                 \
    {                                                                                              \
#member, base, offsetof(struct type, member), sizeof(((struct type *)NULL)->member)        \
    }

static const struct word words[] = {
    {"mapped", OF_SIZE, 0, 0}, /* the size of the memory */
    MEMBER(OF_HEADER, layout_header, magic),
    MEMBER(OF_HEADER, layout_header, version),
    MEMBER(OF_HEADER, layout_header, header_bytes),
    MEMBER(OF_HEADER, layout_header, total_bytes),
    MEMBER(OF_HEADER, layout_header, slots_offset),
    MEMBER(OF_HEADER, layout_header, details_offset),
    MEMBER(OF_HEADER, layout_header, clocks_offset),
    MEMBER(OF_HEADER, layout_header, pool_offset),
    MEMBER(OF_HEADER, layout_header, home_count),
    MEMBER(OF_HEADER, layout_header, clock_count),
    MEMBER(OF_HEADER, layout_header, pool_units),
    MEMBER(OF_HEADER, layout_header, incarnation_id),
    MEMBER(OF_HEADER, layout_header, lease_deadline_ns),
    {"at", OF_HEADER, 0, 1}, /* any byte */
    MEMBER(OF_HOME, layout_slot, hop),
    MEMBER(OF_SLOT, layout_slot, sequence),
    {"low", OF_SLOT, offsetof(struct layout_slot, fingerprint.low), 8},
    {"high", OF_SLOT, offsetof(struct layout_slot, fingerprint.high), 8},
    MEMBER(OF_SLOT, layout_slot, fill_lsn),
    MEMBER(OF_SLOT, layout_slot, expires_ns),
    {"numbers", OF_SLOT, offsetof(struct layout_slot, clocks), 3},
    MEMBER(OF_DETAIL, layout_detail, last_modified),
    MEMBER(OF_DETAIL, layout_detail, fieldset),
    MEMBER(OF_DETAIL, layout_detail, overflow),
    MEMBER(OF_DETAIL, layout_detail, etag_len),
    MEMBER(OF_DETAIL, layout_detail, etag),
    {"long_etag", OF_OVERFLOW, 0, 2},
    {"location", OF_OVERFLOW, 2, 2},
    {"more_clocks", OF_OVERFLOW, 4, 2},
    {"record", OF_OVERFLOW, 6, 2},
    {"more_numbers", OF_OVERFLOW, 8, 4},
    {"set", OF_FIELDSET, 0, 2},
    {"fields", OF_FIELDSET, 2, 1},
    {"zero", OF_FIELDSET, 3, 1},
    {"kind", OF_FIELDSET, 4, 1},
    {"name", OF_FIELDSET, 5, 1},
    {"value", OF_FIELDSET, 6, 2},
    {"clock", OF_CLOCK, 0, 8},
};

struct change {
    const struct word *word;
    uint64_t number, offset, value;
    char operation;
};

static uint64_t take_hexadecimal(etag_str *text)
{
    uint64_t value = 0;

    for (; text->len > 0 && isxdigit((unsigned char)text->data[0]); *text = str_skip(*text, 1)) {
        const char c = char_lower(text->data[0]);
        value = value << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return value;
}

static bool take_mark(etag_str *text, char mark)
{
    if (text->len == 0 || text->data[0] != mark)
        return false;
    *text = str_skip(*text, 1);
    return true;
}

static const struct word *take_word(etag_str *text)
{
    etag_str name = {text->data, 0};

    while (name.len < text->len &&
           (islower((unsigned char)text->data[name.len]) || text->data[name.len] == '_'))
        name.len++;
    *text = str_skip(*text, name.len);
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (str_equal(name, str_of(words[i].name)))
            return &words[i];
    return NULL;
}

static bool change_parse(struct change *change, etag_str line)
{
    *change = (struct change){.word = take_word(&line)};
    if (take_mark(&line, '.'))
        change->number = take_hexadecimal(&line);
    if (take_mark(&line, '@'))
        change->offset = take_hexadecimal(&line);
    if (!change->word || line.len < 2 || !strchr("=+-^", line.data[0]))
        return false;
    change->operation = line.data[0];
    line = str_skip(line, 1);
    change->value = take_hexadecimal(&line);
    return line.len == 0;
}

static uint64_t changed(const struct change *change, uint64_t former)
{
    switch (change->operation) {
    case '+':
        return former + change->value;
    case '-':
        return former - change->value;
    case '^':
        return former ^ change->value;
    default:
        return change->value;
    }
}

/* Where a change begins in the memory. */
static uint64_t place_of(const struct image *image, const struct change *change)
{
    const struct layout_header *const header = &image->header;
    const size_t entry = change->number % ENTRIES;
    uint64_t base = 0;

    switch (change->word->base) {
    case OF_SLOT:
        base = header->slots_offset + image->slots[entry] * sizeof(struct layout_slot);
        break;
    case OF_HOME:
        base = header->slots_offset + image->homes[entry] * sizeof(struct layout_slot);
        break;
    case OF_DETAIL:
        base = header->details_offset + image->slots[entry] * sizeof(struct layout_detail);
        break;
    case OF_OVERFLOW:
        base = header->pool_offset + (uint64_t)OVERFLOW_UNIT * POOL_UNIT_BYTES;
        break;
    case OF_FIELDSET:
        base = header->pool_offset + (uint64_t)FIELDSET_UNIT * POOL_UNIT_BYTES;
        break;
    case OF_CLOCK:
        base = header->clocks_offset + change->number % CLOCKS_MIN * sizeof(uint64_t);
        break;
    case OF_HEADER:
    case OF_SIZE:
        break;
    }
    return base + change->word->offset + change->offset % IMAGE_BYTES_MAX;
}

/* The memory as a reader has it, and the changes that are still to come. */
struct memory {
    const struct image *image;
    uint8_t *bytes;
    size_t len;
    etag_str later;
};

static void memory_change(struct memory *memory, const struct change *change)
{
    const uint64_t at = place_of(memory->image, change);
    const size_t bytes = change->word->bytes < 8 ? change->word->bytes : 8;
    uint64_t value = 0;

    if (change->word->base == OF_SIZE)
        memory->len = changed(change, memory->len) % (IMAGE_BYTES_MAX + 1);
    else if (at < memory->len && bytes <= memory->len - at) {
        memcpy(&value, memory->bytes + at, bytes);
        value = changed(change, value);
        memcpy(memory->bytes + at, &value, bytes);
    }
}

static etag_str take_line(etag_str *text)
{
    const char *const end = text->len > 0 ? memchr(text->data, '\n', text->len) : NULL;
    const etag_str line = {text->data, end ? (size_t)(end - text->data) : text->len};

    *text = str_skip(*text, end ? line.len + 1 : line.len);
    return line;
}

/* Makes the changes up to "checked" and returns the rest. With 'resize' those of the size alone,
 * else all others. */
static etag_str memory_apply(struct memory *memory, etag_str text, bool resize)
{
    while (text.len > 0) {
        struct change change;
        const etag_str line = take_line(&text);
        if (str_equal(line, ETAG_LIT("checked")))
            break;
        if (change_parse(&change, line) && (change.word->base == OF_SIZE) == resize)
            memory_change(memory, &change);
    }
    return text;
}

/* ---- The rules, plainly ---- */

typedef unsigned __int128 wide;

static void require_section(wide from, wide bytes, wide to)
{
    fuzz_require(from % POOL_UNIT_BYTES == 0 && from + bytes <= to);
}

/* An index that was accepted lies within its memory, each section in its place. */
static void require_geometry(const struct layout_header *header, size_t mapped_bytes)
{
    const wide slots = (wide)header->home_count + HOP_WINDOW - 1;

    fuzz_require(header->magic == LAYOUT_MAGIC && header->version == LAYOUT_VERSION);
    fuzz_require(header->home_count > 0 && header->pool_units > 0);
    fuzz_require(header->clock_count >= 1024 && header->clock_count <= 16777216);
    fuzz_require((header->clock_count & (header->clock_count - 1)) == 0);
    fuzz_require(header->slots_offset >= sizeof(*header) && header->total_bytes <= mapped_bytes);
    require_section(header->slots_offset, slots * 64, header->details_offset);
    require_section(header->details_offset, slots * 64, header->clocks_offset);
    require_section(header->clocks_offset, (wide)header->clock_count * 8, header->pool_offset);
    require_section(header->pool_offset, (wide)header->pool_units * 64, header->total_bytes);
}

/* For the wrap alone: the memory whose header is being looked at. */
static struct memory *memory_looked_at;

const char *__real_layout_validate(const struct layout_header *header, size_t mapped_bytes);
const char *__wrap_layout_validate(const struct layout_header *header, size_t mapped_bytes);

/* Behind the check of the header come the later changes, as from a daemon that writes meanwhile. */
const char *__wrap_layout_validate(const struct layout_header *header, size_t mapped_bytes)
{
    const char *const wrong = __real_layout_validate(header, mapped_bytes);

    if (!wrong)
        require_geometry(header, mapped_bytes);
    (void)memory_apply(memory_looked_at, memory_looked_at->later, false);
    return wrong;
}

/* ---- Lookups ---- */

static bool is_within(etag_str text, const void *block, size_t bytes)
{
    const uintptr_t from = (uintptr_t)text.data, start = (uintptr_t)block;

    return text.len == 0 ||
           (from >= start && text.len <= bytes && from - start <= bytes - text.len);
}

/* What shm_find found is a whole entry, and a copy. */
static void require_entry(const struct shm_view *view, const struct shm_entry *entry)
{
    fuzz_require(is_within(entry->etag, entry, sizeof(*entry)));
    fuzz_require(is_within(entry->content_location, entry, sizeof(*entry)));
    fuzz_require(entry->etag.len == entry->etag_len);
    fuzz_require(entry->clock_count <= CLOCKS_PER_ENTRY_MAX + SLOT_CLOCKS);
    for (size_t i = 0; i < entry->clock_count; i++)
        fuzz_require(entry->clocks[i] < view->clock_count);
    fuzz_require(entry->slot < view->slot_count);
    fuzz_require(entry->fieldset_bytes <= sizeof(entry->fieldset_words));

    struct kept_field fields[FIELDS_PER_ENTRY_MAX];
    const int count = fieldset_parse(entry->fieldset_words, entry->fieldset_bytes, fields);
    fuzz_require(count <= FIELDS_PER_ENTRY_MAX);
    for (int i = 0; i < count; i++) {
        if (fields[i].kind == FIELDSET_EXPIRES)
            continue;
        fuzz_require(is_within(fields[i].field.name, entry->fieldset_words, entry->fieldset_bytes));
        fuzz_require(
            is_within(fields[i].field.value, entry->fieldset_words, entry->fieldset_bytes));
    }
}

static void find(const struct shm_view *view, struct hash128 fingerprint)
{
    struct shm_entry entry;
    uint32_t clock;
    uint64_t value;

    if (shm_find(view, fingerprint, &entry) != SHM_FOUND)
        return;
    fuzz_require(entry.fingerprint.low == fingerprint.low &&
                 entry.fingerprint.high == fingerprint.high);
    require_entry(view, &entry);
    if (shm_newer_clock(view, &entry, &clock, &value))
        fuzz_require(clock < view->clock_count && value > entry.fill_lsn);
    else
        value = 0;
    fuzz_require(shm_look(view, fingerprint, &entry) == SHM_FOUND && entry.newer == value);
}

static const struct {
    etag_str method;
    etag_field field;
} conditions[] = {
    {ETAG_LIT("GET"), {ETAG_LIT("If-None-Match"), ETAG_LIT("*")}}, /* 304 whatever the tag is */
    {ETAG_LIT("GET"), {ETAG_LIT("If-None-Match"), ETAG_LIT("\"v0\", W/\"v1\"")}},
    {ETAG_LIT("GET"), {ETAG_LIT("If-None-Match"), ETAG_LIT("\"v1\"")}}, /* the short way */
    {ETAG_LIT("GET"), {ETAG_LIT("If-Modified-Since"), ETAG_LIT("Sun, 06 Nov 1994 08:49:37 GMT")}},
    {ETAG_LIT("PUT"), {ETAG_LIT("If-Match"), ETAG_LIT("\"v1\"")}},
};
#define CONDITIONS COUNT_OF(conditions)

/* An answer that is larger than the library's is the general way's. */
struct answer {
    etag_answer answer;
    uint64_t more;
};

static void ask(etag_client *client, size_t entry, size_t condition, struct answer *out)
{
    const etag_key key = key_of(entry);
    etag_request request;

    ETAG_INIT(&request);
    request.method = conditions[condition].method;
    request.key = &key;
    request.fields = &conditions[condition].field;
    request.field_count = 1;
    const etag_verdict verdict = etag_check(client, &request, (etag_token){0}, &out->answer);

    const struct lookup_scratch *const scratch = &client->scratch;
    const etag_answer *const answer = &out->answer;
    fuzz_require(verdict == answer->verdict && answer->field_count <= ANSWER_FIELDS_MAX);
    fuzz_require(is_within(answer->etag, scratch, sizeof(*scratch)));
    for (size_t i = 0; i < answer->field_count; i++)
        fuzz_require(is_within(answer->fields[i].value, scratch, sizeof(*scratch)));
}

/* The short way, if it is taken, says what the general one says. */
static etag_verdict check(etag_client *client, size_t entry, size_t condition)
{
    struct answer general, either;

    ETAG_INIT(&general.answer);
    ETAG_INIT(&either.answer);
    general.answer.size = sizeof(general);
    ask(client, entry, condition, &general);
    const etag_answer told = general.answer; /* its texts go with the next one */
    ask(client, entry, condition, &either);
    fuzz_require(either.answer.verdict == told.verdict && either.answer.reason == told.reason &&
                 either.answer.etag.len == told.etag.len &&
                 either.answer.last_modified == told.last_modified &&
                 either.answer.field_count == told.field_count &&
                 either.answer.fill_lsn == told.fill_lsn &&
                 memcmp(either.answer.place, told.place, sizeof(told.place)) == 0);
    return either.answer.verdict;
}

/* Without a daemon: only its memory is there. */
static etag_client *client_make(void)
{
    etag_client *client;
    etag_client_options options;

    ETAG_INIT(&options);
    options.no_wait = true;
    options.socket_path = "/nowhere/etagd.sock";
    options.spool = ETAG_SPOOL_NEVER;
    fuzz_require(etag_client_open(&client, &options) == ETAG_OK);
    return client;
}

/* Opens the memory as the library does and looks everything up. False: it was refused. */
static bool read_memory(etag_client *client, struct memory *memory, bool unchanged)
{
    static const struct hash128 extremes[] = {{0, 0}, {1, 0}, {0, UINT64_MAX}};
    static uint8_t before[IMAGE_BYTES_MAX];

    memory_looked_at = memory;
    const char *const wrong = mapping_view(&client->mapping.view, memory->bytes, memory->len,
                                           INCARNATION_ID);
    fuzz_require(!wrong || !unchanged);
    if (wrong)
        return false;
    memcpy(before, memory->bytes, memory->len);
    client->mapping.base = memory->bytes;
    client->mapping.bytes = memory->len;
    const struct shm_view *const view = &client->mapping.view;
    for (size_t i = 0; i < ENTRIES; i++)
        find(view, memory->image->fingerprints[i]);
    for (size_t i = 0; i < COUNT_OF(extremes); i++)
        find(view, extremes[i]);
    for (size_t i = 0; i < KEYED_ENTRIES; i++)
        for (size_t n = 0; n < CONDITIONS; n++) {
            const etag_verdict verdict = check(client, i, n);
            fuzz_require(!unchanged || n > 0 || verdict == ETAG_NOT_MODIFIED);
        }
    client->mapping = (struct mapping){0};
    fuzz_require(memcmp(before, memory->bytes, memory->len) == 0);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct image image;
    static etag_client *client;
    const etag_str text = {(const char *)data, size};

    if (!client) {
        image_make(&image);
        client = client_make();
    }

    /* In a block of just the size that is said to be mapped. */
    struct memory memory = {.image = &image, .len = image.len};
    (void)memory_apply(&memory, text, true);
    void *block;
    fuzz_require(posix_memalign(&block, 4096, memory.len ? memory.len : 1) == 0);
    memory.bytes = block;
    memcpy(block, image.bytes, memory.len); /* behind the index it is zero */
    memory.later = memory_apply(&memory, text, false);
    (void)read_memory(client, &memory, size == 0);
    free(block);
    return 0;
}
