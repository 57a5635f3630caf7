/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judges of a state: what its records must be beyond their checksums. An entry stands under the keyed hash of its own key
 * and bears its resource's name; no record is of a later run than the meta record; clocks are as many as it says and have no flux
 * bit; a guard stands under its own id. The report stands in memory that the child shares, so that one that is killed by a
 * truncated file has told what it saw until then.
 */
#include "state_check.h"

#include "bytes.h"
#include "cache.h"
#include "clocktime.h"
#include "recovery.h"
#include "store_check.h"
#include "store_examine.h"
#include "text.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#define NAME_BYTES_MAX (511 - 1 - 16) /* of a name in the ordered index: store.h */

struct checking {
    const struct config *config;
    struct store_examination found;
    /* The child's. */
    struct key key;
    struct entry_record_parts parts;
    struct arena arena;
    uint64_t chunks;
};

/* ---- Judges ---- */

static bool is_of_a_known_run(const struct checking *checking, uint64_t lsn)
{
    return lsn >> LSN_COUNTER_BITS <= checking->found.meta.incarnation;
}

static const char *judge_entry(void *ctx, struct hash128 fingerprint, etag_str name,
                               etag_str record)
{
    struct checking *checking = ctx;
    char text[RESOURCE_TEXT_BYTES_MAX];
    struct entry_record entry;

    if (!entry_record_parse(record, &entry, &checking->parts) ||
        key_canonicalize_stored(&checking->key, &entry.entry.key) != NULL)
        return "an entry cannot be read";
    const struct hash128 expected = key_fingerprint(checking->found.meta.hash_key, &checking->key);
    if (expected.high != fingerprint.high || expected.low != fingerprint.low)
        return "an entry stands under the hash of another key";
    const size_t len = resource_format(&checking->key.resource, text);
    if (!str_equal(name, (etag_str){text, len < NAME_BYTES_MAX ? len : NAME_BYTES_MAX}))
        return "an entry bears the name of another resource";
    return is_of_a_known_run(checking, entry.fill_lsn) ? NULL : "an entry is of a later run";
}

static bool event_read(struct checking *checking, uint64_t lsn, etag_str record,
                       struct event *event)
{
    arena_reset(&checking->arena);
    return event_record_parse(record, lsn, event, &checking->arena);
}

static const char *judge_event(void *ctx, uint64_t lsn, etag_str record)
{
    struct checking *checking = ctx;
    struct event event;

    if (!event_read(checking, lsn, record, &event))
        return "an event cannot be read";
    return is_of_a_known_run(checking, lsn) ? NULL : "an event is of a later run";
}

static const char *judge_guard(void *ctx, struct guard_id id, uint64_t lsn, etag_str record)
{
    struct checking *checking = ctx;
    struct event event;

    if (!event_read(checking, lsn, record, &event))
        return "a guard cannot be read";
    if (!guard_id_equal(guards_id_of(&event), id))
        return "a guard stands under another's id";
    return is_of_a_known_run(checking, lsn) ? NULL : "a guard is of a later run";
}

static const char *judge_chunk(void *ctx, uint32_t chunk, const uint64_t *words, size_t count)
{
    struct checking *checking = ctx;
    const uint64_t clocks = checking->found.meta.clock_count;

    checking->chunks++;
    if ((uint64_t)chunk * CLOCK_CHUNK_WORDS + count > clocks || count != CLOCK_CHUNK_WORDS)
        return "there are more or fewer clocks than the meta record says";
    for (size_t i = 0; i < count; i++)
        if ((words[i] & CLOCK_IN_FLUX) || !is_of_a_known_run(checking, words[i]))
            return "a clock is in flux, or of a later run";
    return NULL;
}

static void blame(struct store_found *found, const char *wrong)
{
    if (found->damaged++ == 0)
        (void)snprintf(found->first, sizeof(found->first), "%s", wrong);
}

/* What only the whole tells. */
static void judge_whole(struct checking *checking)
{
    struct store_examination *found = &checking->found;
    const struct store_meta *meta = &found->meta;

    if (meta->incarnation == 0 || meta->clock_count < CLOCKS_MIN ||
        meta->clock_count > CLOCKS_MAX || (meta->clock_count & (meta->clock_count - 1)) != 0)
        blame(&found->structure, "the meta record says what no daemon writes");
    else if (!is_of_a_known_run(checking, meta->checkpoint_lsn))
        blame(&found->structure, "the checkpoint is of a later run");
    else if (meta->checkpoint_lsn > 0 && checking->chunks != meta->clock_count / CLOCK_CHUNK_WORDS)
        blame(&found->clocks, "the checkpoint lacks clocks");
}

/* In the child. */
static int examine(const void *ctx)
{
    struct checking *checking = *(struct checking *const *)ctx;
    const struct store_judges judges = {judge_entry, judge_event, judge_guard, judge_chunk,
                                        checking};

    arena_init(&checking->arena, ARENA_BYTES_MAX);
    const int error = store_examine(checking->config->state_dir, &judges, &checking->found);
    if (error == 0 && checking->found.exists && checking->found.format == STORE_FORMAT)
        judge_whole(checking);
    arena_deinit(&checking->arena);
    return error < 0 ? 100 : error;
}

/* ---- What is said ---- */

static uint64_t damage_of(const struct store_examination *found)
{
    return found->entries.damaged + found->names.damaged + found->events.damaged +
           found->clocks.damaged + found->guards.damaged + found->others.damaged +
           found->structure.damaged;
}

static void print_found(FILE *out, const char *name, const struct store_found *found)
{
    fprintf(out, "%-12s %" PRIu64, name, found->count);
    if (found->damaged > 0)
        fprintf(out, ", %" PRIu64 " damaged: %s", found->damaged, found->first);
    fputc('\n', out);
}

static void print_lsn(FILE *out, const char *name, uint64_t lsn)
{
    if (lsn == 0)
        fprintf(out, "%-12s none\n", name);
    else
        fprintf(out, "%-12s %" PRIu64 " (run %" PRIu64 ", number %" PRIu64 ")\n", name, lsn,
                lsn >> LSN_COUNTER_BITS, lsn & ((UINT64_C(1) << LSN_COUNTER_BITS) - 1));
}

static void print_summary(FILE *out, const struct store_examination *found)
{
    fprintf(out, "%-12s %" PRIu32 " (of this etagd: %u)\n", "format", found->format, STORE_FORMAT);
    fprintf(out, "%-12s %" PRIu64 ", durability %s\n", "run", found->meta.incarnation,
            found->meta.power ? "power" : "process");
    print_lsn(out, "last event", found->last_event_lsn);
    print_lsn(out, "checkpoint", found->meta.checkpoint_lsn);
    print_found(out, "entries", &found->entries);
    print_found(out, "names", &found->names);
    print_found(out, "events", &found->events);
    print_found(out, "guards", &found->guards);
    print_found(out, "clock chunks", &found->clocks);
    if (found->others.count > 0)
        print_found(out, "others", &found->others);
    if (found->structure.damaged > 0)
        fprintf(out, "%-12s damaged: %s\n", "structure", found->structure.first);
    fprintf(out, "%-12s %.1f MiB\n", "size", (double)found->used_bytes / 1048576.0);
}

/* Only entries, one by one, and what is derived from them: the start drops them. */
static bool is_harmless(const struct store_examination *found)
{
    return damage_of(found) == found->entries.damaged + found->names.damaged;
}

static int conclude_damaged(FILE *out, const struct store_examination *found, const char *death)
{
    const bool entries = !death && is_harmless(found);
    fprintf(out, "%-12s damaged%s%s\n", "verdict", death ? ": " : "", death ? death : "");
    if (entries)
        fprintf(out,
                "%-12s nothing: the next start drops damaged entries, each costs\n"
                "%-12s a render. Look for the cause: disk, memory, other programs\n",
                "to do", "");
    else
        fprintf(out,
                "%-12s nothing: the next start sets the state aside and is cold,\n"
                "%-12s never stale. Look for the cause: disk, memory, other programs\n",
                "to do", "");
    return STATE_DAMAGED;
}

static int conclude(const struct checking *checking, const struct store *store, int error,
                    const char *death, FILE *out)
{
    const struct store_examination *found = &checking->found;

    if (error == STORE_E_DAMAGED && found->format == 0 && found->entries.count == 0)
        return conclude_damaged(out, found, death[0] ? death : "LMDB cannot read it");
    if (error != STORE_E_DAMAGED && error != 0) {
        fprintf(out, "%-12s not checked: the database cannot be opened\n", "verdict");
        return STATE_NOT_CHECKED;
    }
    if (!found->exists) {
        fprintf(out, "%-12s no state: no daemon has run here\n", "verdict");
        return STATE_SOUND;
    }
    if (found->format != STORE_FORMAT && found->structure.damaged == 0) {
        fprintf(out,
                "%-12s not checked: it is of format %" PRIu32 ", this etagd reads %u\n"
                "%-12s docs/operations.md, \"Upgrades\", says what a start makes of it\n",
                "verdict", found->format, STORE_FORMAT, "");
        return STATE_NOT_CHECKED;
    }
    print_summary(out, found);
    if (error || damage_of(found) > 0)
        return conclude_damaged(out, found, error ? death : NULL);
    const char *cold = recovery_forecast(checking->config, store, &found->meta);
    fprintf(out, "%-12s %s%s\n%-12s sound\n", "next start", cold ? "cold: " : "warm",
            cold ? cold : "", "verdict");
    return STATE_SOUND;
}

int state_check(const struct config *config, FILE *out)
{
    char why[512];
    char death[128] = "";
    struct store *store;

    if (store_look(&store, config->state_dir, why) != 0) {
        fprintf(stderr, "etagd: %s\n", why);
        return STATE_NOT_CHECKED;
    }
    struct checking *checking = mmap(NULL, sizeof(*checking), PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (checking == MAP_FAILED) {
        fprintf(stderr, "etagd: no memory\n");
        store_close(store);
        return STATE_NOT_CHECKED;
    }
    checking->config = config;
    fflush(out); /* the child shall have nothing to print */
    const int error = store_check_run(examine, &checking, death, sizeof(death));
    fprintf(out, "%-12s %s\n", "state", config->state_dir);
    const int status = conclude(checking, store, error, death, out);
    (void)munmap(checking, sizeof(*checking));
    store_close(store);
    return fflush(out) == 0 ? status : STATE_NOT_CHECKED;
}
