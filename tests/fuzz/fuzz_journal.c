/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A journal file, whatever it holds: either every event comes out that was published in it, in
 * order and whole, or none.
 *
 * The input is a list of steps, a byte each and what belongs to it, which write two halves as a
 * daemon does, and then spoil them: single bytes, or words whose checksums are made anew, so that
 * what is behind the checksums is looked at, too. What is not a valid event in a record is no
 * event, and what is one is written again as the same bytes.
 */
#include "arena.h"
#include "bounds.h"
#include "bytes.h"
#include "fuzz.h"
#include "journal.h"
#include "record.h"
#include "siphash.h"

#include <string.h>

#define HEAD_BYTES 64
#define RECORD_HEAD_BYTES 24
#define INODE 4711u
#define SPOILT_BYTES 4096u /* of a half, from its begin */
#define RECORDS_MAX 64u
#define MAGIC UINT64_C(0x4c4e524a67617465)

static const uint8_t nonce[JOURNAL_NONCE_BYTES] = "the nonce of it";

struct made_half {
    uint8_t *bytes;
    size_t used, last_at;
    uint64_t lsns[RECORDS_MAX];
    size_t count;
};

struct made {
    uint8_t *bytes;
    struct made_half halves[2];
    struct made_half *current;
    uint64_t sequence, lsn;
    /* not as a daemon writes, and the checksums are right */
    bool out_of_order;
    /* some checksum may be wrong */
    bool spoilt;
    /* spoilt, and some checksums were made anew */
    bool resealed;
    const uint8_t *at, *end;
};

/* ---- As a daemon writes ---- */

static uint8_t next(struct made *made)
{
    return made->at < made->end ? *made->at++ : 0;
}

static uint32_t next_u32(struct made *made)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < 4; i++)
        value = value << 8 | next(made);
    return value;
}

static void extent_seal(const struct made_half *half, uint32_t used)
{
    store_u64(half->bytes + 56, siphash13_64(nonce, &used, sizeof(used)) << 32 | used);
}

static void head_seal(const struct made_half *half)
{
    store_u64(half->bytes + 48, siphash13_64(nonce, half->bytes, 48));
}

static void half_turn(struct made *made)
{
    struct made_half *half = &made->halves[made->current == &made->halves[0]];

    made->current = half;
    store_u64(half->bytes, MAGIC);
    store_u32(half->bytes + 8, 1);
    store_u32(half->bytes + 12, JOURNAL_HALF_BYTES);
    memcpy(half->bytes + 16, nonce, sizeof(nonce));
    store_u64(half->bytes + 32, ++made->sequence);
    store_u64(half->bytes + 40, INODE);
    head_seal(half);
    half->used = half->count = half->last_at = 0;
    extent_seal(half, 0);
}

static size_t padded(size_t len)
{
    return RECORD_HEAD_BYTES + (len + 7) / 8 * 8;
}

static void record_seal(const struct made_half *half, size_t at, size_t len)
{
    uint8_t *record = half->bytes + HEAD_BYTES + at;

    store_u64(record + 8, siphash13_64(nonce, record + 16, 8 + len));
}

static void record_add(struct made *made)
{
    struct made_half *half = made->current;
    const size_t at = half->used;
    const uint8_t step = next(made);
    const size_t wanted = next(made), left = (size_t)(made->end - made->at);
    const size_t len = wanted < left ? wanted : left;

    if (half->count == RECORDS_MAX || HEAD_BYTES + at + padded(len) > SPOILT_BYTES)
        return;
    uint8_t *record = half->bytes + HEAD_BYTES + at;
    made->lsn += step;
    made->out_of_order |= step == 0;
    store_u32(record, (uint32_t)len);
    store_u32(record + 4, 0);
    store_u64(record + 16, made->lsn);
    memcpy(record + RECORD_HEAD_BYTES, made->at, len);
    made->at += len;
    record_seal(half, at, len);
    half->lsns[half->count++] = made->lsn;
    half->last_at = at;
    half->used += padded(len);
    extent_seal(half, (uint32_t)half->used);
}

/* ---- As nobody writes ---- */

static void spoil(struct made *made)
{
    const uint32_t at = (uint32_t)next(made) << 8 | next(made);

    made->current->bytes[at % SPOILT_BYTES] ^= next(made);
    made->spoilt = true;
}

static void reseal(struct made *made, uint8_t what)
{
    struct made_half *half = made->current;
    uint8_t *record = half->bytes + HEAD_BYTES + half->last_at;
    const uint32_t value = next_u32(made);

    switch (what) {
    case 0:
        head_seal(half);
        break;
    case 1:
        extent_seal(half, value);
        break;
    case 2: /* any length, and the checksum of what lies there as far as it goes */
        store_u32(record, value);
        record_seal(half, half->last_at, value < SPOILT_BYTES ? value : 0);
        break;
    default:
        store_u64(record + 16, value);
        record_seal(half, half->last_at, load_u32(record) % SPOILT_BYTES);
        break;
    }
    made->spoilt = made->resealed = true;
}

static void make(struct made *made)
{
    while (made->at < made->end) {
        const uint8_t step = next(made) % 8;
        if (!made->current || step == 0)
            half_turn(made);
        else if (step <= 2)
            record_add(made);
        else if (step == 3)
            spoil(made);
        else
            reseal(made, (uint8_t)(step - 4));
    }
}

/* ---- What comes out ---- */

struct seen {
    const struct made *made;
    size_t count;
    uint64_t last_lsn;
};

static void event_try(uint64_t lsn, etag_str record)
{
    struct arena arena;
    struct buffer again = {0};
    struct event event;

    arena_init(&arena, ARENA_BYTES_MAX);
    if (event_record_parse(record, lsn, &event, &arena)) {
        fuzz_require(event_check(&event) == NULL);
        fuzz_require(event_record_wall_ms(record) == event.wall_ms);
        fuzz_require(event_record_pack(&again, &event) == 0);
        fuzz_require(again.len == record.len && memcmp(again.bytes, record.data, again.len) == 0);
    }
    buffer_deinit(&again);
    arena_deinit(&arena);
}

static int see(void *ctx, uint64_t lsn, etag_str record)
{
    struct seen *seen = ctx;
    const uint8_t *begin = (const uint8_t *)record.data;

    fuzz_require(lsn > seen->last_lsn);
    fuzz_require(begin >= seen->made->bytes &&
                 begin + record.len <= seen->made->bytes + JOURNAL_FILE_BYTES);
    seen->last_lsn = lsn;
    seen->count++;
    event_try(lsn, record);
    return 0;
}

static size_t published(const struct made *made)
{
    return made->halves[0].count + made->halves[1].count;
}

static void judge(const struct made *made)
{
    struct seen seen = {.made = made};
    const int checked = journal_replay_bytes(made->bytes, nonce, INODE, NULL, NULL);
    const int r = journal_replay_bytes(made->bytes, nonce, INODE, see, &seen);

    fuzz_require(r == checked);
    fuzz_require(r == 0 || r == JOURNAL_E_MISSING || r == JOURNAL_E_DAMAGED);
    fuzz_require(r == 0 || seen.count == 0);
    if (!made->current)
        fuzz_require(r == JOURNAL_E_MISSING);
    else if (!made->spoilt && !made->out_of_order)
        fuzz_require(r == 0);
    if (r == 0 && !made->resealed) {
        fuzz_require(seen.count == published(made));
        fuzz_require(seen.count == 0 || seen.last_lsn == made->lsn);
    }
    if (r == 0) /* another file, another run */
        fuzz_require(journal_replay_bytes(made->bytes, nonce, INODE + 1, NULL, NULL) ==
                     JOURNAL_E_DAMAGED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t *bytes;
    struct made made = {.at = data, .end = data + size};

    if (!bytes)
        fuzz_require((bytes = calloc(1, JOURNAL_FILE_BYTES)));
    made.bytes = bytes;
    for (size_t i = 0; i < 2; i++) {
        made.halves[i].bytes = bytes + i * JOURNAL_HALF_BYTES;
        memset(made.halves[i].bytes, 0, SPOILT_BYTES);
        store_u64(made.halves[i].bytes + 56, UINT64_MAX);
    }
    make(&made);
    judge(&made);
    return 0;
}
