/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State that can't be proven complete is not used: a cold start costs renders, a wrong warm start
 * breaks the promise. Each warm condition is a function (cold_by_*) that says what is missing. The
 * new incarnation is durable before its index is published, so that no LSN is ever used twice,
 * whatever was lost.
 */
#include "recovery.h"

#include "clocktime.h"
#include "delay_point.h"
#include "event_queue.h"
#include "numbers.h"
#include "text.h"
#include "witness.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define COLD_DAMAGED "the former state is damaged and was set aside"

/* ---- Warm or cold ---- */

static void boot_id_read(char out[40])
{
    CLEANUP(cleanup_file) FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

    if (!f || fscanf(f, "%39s", out) != 1)
        out[0] = '\0';
}

struct warm_question {
    const struct config *config;
    const struct store *store;
    const struct store_meta *former;
    const char *boot_id;
    bool witnessed;
    struct witness witness;
    /* what journal_replay() says of the former run's */
    int journal;
    /* of the data file now */
    struct store_identity identity;
    /* the disk did not take what the kernel took of it */
    bool lost;
    /* recovery_traces says so */
    bool spool_other;
};

static bool boot_is_known(const struct warm_question *q)
{
    return q->boot_id[0] != '\0' && q->former->boot_id[0] != '\0';
}

static bool boot_is_same(const struct warm_question *q)
{
    return boot_is_known(q) && strcmp(q->former->boot_id, q->boot_id) == 0;
}

/* Without fsync a machine crash may have lost any commit. With it, it has lost none. */
static const char *cold_by_boot(const struct warm_question *q)
{
    if (q->former->power)
        return NULL;
    if (q->boot_id[0] == '\0')
        return "the boot id cannot be read";
    return boot_is_same(q) ? NULL : "the machine was restarted since the state was written";
}

/* A copy, or a state restored from one, may be older than what was answered since. */
static const char *cold_by_file(const struct warm_question *q)
{
    if (!q->identity.local)
        return "the state is on a network or user-space file system";
    if (q->identity.birth_ns == 0)
        return "the file system does not tell when a file was made";
    return q->identity.inode == q->former->data_inode &&
                   q->identity.birth_ns == q->former->data_birth_ns
               ? NULL
               : "the data file is a copy, or was restored";
}

/* The witness lives where a machine crash removes it; after one, power durability has to do
 * without. */
static const char *cold_by_witness(const struct warm_question *q)
{
    if (q->former->power && !boot_is_same(q))
        return NULL;
    return q->witnessed && memcmp(q->witness.nonce, q->former->nonce, sizeof(q->witness.nonce)) == 0
               ? NULL
               : "the witness beside the socket is missing or of another run";
}

/* Writers of that run were answered as soon as the journal had their events. */
static const char *cold_by_journal(const struct warm_question *q)
{
    if (!q->former->journal || q->journal == 0)
        return NULL;
    if (q->journal == JOURNAL_E_MISSING)
        return "the journal beside the socket is missing or of another run";
    return q->journal == JOURNAL_E_DAMAGED ? "the journal beside the socket is damaged or a copy"
                                           : "the journal beside the socket cannot be read";
}

/* Checkpoints are clocks by number: another count makes them mean other targets. */
static const char *cold_by_clocks(const struct warm_question *q)
{
    const uint32_t count = q->former->clock_count;

    if (count < CLOCKS_MIN || count > CLOCKS_MAX || (count & (count - 1)) != 0)
        return "the state has a number of clocks that no etagd makes";
    return q->config->clock_count == 0 || q->config->clock_count == count
               ? NULL
               : "the number of clocks was changed";
}

/* Foreign names make fewer entries stale the more clocks there are. Four to eight an entry keep
 * nearly as many entries as one clock a name would (docs/performance.md). */
static uint32_t clocks_by_capacity(uint64_t capacity)
{
    uint32_t count = CLOCKS_MIN;

    while (count < CLOCKS_MAX && count < 4 * capacity)
        count *= 2;
    return count;
}

/* The spool is elsewhere with another durability: what writers left in the former place is not
 * read. */
static const char *cold_by_durability(const struct warm_question *q)
{
    return q->former->power == (q->config->durability == DURABILITY_POWER)
               ? NULL
               : "the durability was changed, and with it the place of the spool";
}

/* Events that writers left in it are read as this version's: what they name may be missed, and who
 * may leave one is not known. */
static const char *cold_by_spool(const struct warm_question *q)
{
    return q->spool_other ? "the spool's mark is of another version of etagd" : NULL;
}

static const char *cold_by_request(const struct warm_question *q)
{
    return q->config->cold ? "it was asked for (--cold)" : NULL;
}

/* A daemon whose store failed removes the mark. */
static const char *cold_by_mark(const struct warm_question *q)
{
    return store_warm_mark(q->store) ? NULL : "a store write of the former run failed";
}

/* What is read now may be older than what was written. The former run heard of it, or we do: it was
 * killed before. */
static const char *cold_by_disk(const struct warm_question *q)
{
    return q->lost ? "the disk lost what the former run wrote; its data file is not used any more"
                   : NULL;
}

/* NULL: everything that makes the state trustworthy was shown. */
static const char *cold_reason(const struct warm_question *q)
{
    static const char *(*const conditions[])(const struct warm_question *) = {
        cold_by_request, cold_by_disk,   cold_by_boot,       cold_by_file,  cold_by_witness,
        cold_by_journal, cold_by_clocks, cold_by_durability, cold_by_spool, cold_by_mark,
    };

    for (size_t i = 0; i < COUNT_OF(conditions); i++) {
        const char *reason = conditions[i](q);
        if (reason)
            return reason;
    }
    return NULL;
}

/* The files beside the socket and around the data file. 0 or a negative errno. */
static int question_answer(struct warm_question *q)
{
    q->witnessed = witness_read(q->config->socket_path, &q->witness);
    q->journal = journal_replay(q->config->socket_path, q->former->nonce, NULL, NULL);
    q->lost = store_lost_mark(q->store);
    return store_identify(q->store, &q->identity);
}

/* ---- Cold: guards that are forgotten ---- */

/* A guard of the former run that is forgotten with its state may still see its COMMIT: entries
 * filled before it would be stale after it. So everything is in flux until every COMMIT of that run
 * has ended, which its writer bounds by the linger, counted from a confirmation before our start;
* where the machine was restarted, from before that. */
static uint64_t cold_hold_ms(const struct recovery *recovery, const struct config *config)
{
    const uint64_t linger_ms = recovery->linger_ns / NS_PER_MS;
    const uint64_t uptime_ms = time_ns_of(CLOCK_BOOTTIME) / NS_PER_MS;

    if (config->fresh && !recovery->had_former)
        return 0;
    if (recovery->former_boot_same)
        return linger_ms;
    return uptime_ms < linger_ms ? linger_ms - uptime_ms : 0;
}

/* The first event of the run. */
static struct event cold_hold(const struct recovery *recovery)
{
    struct event event = {.lsn = (recovery->meta.incarnation << LSN_COUNTER_BITS) + 1,
                          .wall_ms = time_wall_ms(),
                          .kind = EVENT_MUTATION};

    ETAG_INIT(&event.targets);
    event.targets.everything = true;
    event.targets.hold_ms = (uint32_t)recovery->cold_hold_ms;
    return event;
}

/* In the state before the state may be trusted: a crash must not forget it in its turn. */
static int cold_hold_store(const struct recovery *recovery, struct store *store)
{
    const struct event event = cold_hold(recovery);
    const struct persist_event queued = {.lsn = event.lsn, .kind = event.kind, .hold = true};
    struct event_queue line = {0};
    struct buffer record = {0};

    if (recovery->cold_hold_ms == 0)
        return 0;
    int r = event_record_pack(&record, &event);
    if (r == 0)
        r = event_queue_add(&line, &queued, (etag_str){(const char *)record.bytes, record.len});
    if (r == 0)
        r = event_queue_store(&line, store);
    event_queue_free(&line);
    buffer_deinit(&record);
    return r;
}

static int cold_load(const struct recovery *recovery, struct cache *cache)
{
    struct event event = cold_hold(recovery);

    if (recovery->cold_hold_ms == 0)
        return 0;
    return cache_next_lsn(cache, &event.lsn) ? cache_apply(cache, &event) : -EOVERFLOW;
}

/* ---- Opening ---- */

static int random_bytes(void *out, size_t len)
{
    return getrandom(out, len, 0) == (ssize_t)len ? 0 : -EIO;
}

static int refuse(struct why *why, const char *doing, int error)
{
    return why_set(why, "cannot %s the state: %s", doing,
                   error < 0 ? strerror(-error) : "it is damaged");
}

/* A state of nothing but the incarnation, and what replaces the guards of the former one. */
static int state_begin(struct recovery *recovery, struct store *store)
{
    recovery->meta.checkpoint_lsn = 0;
    int r = store_clear(store);
    if (r == 0)
        r = store_meta_write(store, &recovery->meta);
    if (r == 0)
        r = cold_hold_store(recovery, store);
    if (r == 0)
        r = store_warm_mark_set(store);
    return r;
}

/* The same in a new data file. 0 or -1 with why. */
static int state_begin_aside(struct recovery *recovery, struct store *store, struct why *why)
{
    struct store_identity identity;

    if (store_set_aside(store, why) != 0)
        return -1;
    if (store_identify(store, &identity) < 0)
        return refuse(why, "look at", -EIO);
    recovery->meta.data_inode = identity.inode;
    recovery->meta.data_birth_ns = identity.birth_ns;
    const int r = state_begin(recovery, store);
    return r == 0 ? 0 : refuse(why, "write", r);
}

int recovery_set_aside(struct recovery *recovery, struct store *store, struct why *why)
{
    recovery->warm = false;
    recovery->cold_reason = COLD_DAMAGED;
    return state_begin_aside(recovery, store, why);
}

/* Reads what the former run left. */
static int former_read(struct recovery *recovery, struct store *store, struct store_meta *former,
                       struct why *why)
{
    const int r = store_meta_read(store, former);

    if (r == 0)
        return 0;
    if (r != STORE_E_NOT_FOUND)
        return refuse(why, "read", r);
    *former = (struct store_meta){0};
    recovery->cold_reason = "there is no former state";
    return 0;
}

/* Decides, and makes what this run will record about itself. */
static int run_begin(struct recovery *recovery, struct store *store,
                     const struct store_meta *former, const struct config *config,
                     const struct recovery_traces *traces)
{
    struct store_meta *meta = &recovery->meta;
    struct warm_question question = {
        .config = config, .store = store, .former = former, .spool_other = traces->spool_other};

    recovery->former = *former;
    *meta = *former;
    boot_id_read(meta->boot_id);
    question.boot_id = meta->boot_id;
    if (question_answer(&question) < 0)
        return -1;
    question.lost |= store_flush(store) != 0;
    recovery->data_lost = question.lost;
    if (!recovery->cold_reason)
        recovery->cold_reason = cold_reason(&question);
    recovery->had_former |= former->incarnation != 0 || question.witnessed ||
                            journal_exists(config->socket_path);
    recovery->former_boot_same = boot_is_same(&question) || !boot_is_known(&question);
    recovery->warm = recovery->cold_reason == NULL;
    recovery->linger_ns = max_of(max_of(config->linger_ns, former->linger_ns), recovery->linger_ns);
    recovery->cold_hold_ms = cold_hold_ms(recovery, config);

    /* Where the state was lost the witness may still know: an LSN is never used twice. */
    meta->incarnation = former->incarnation > question.witness.incarnation
                            ? former->incarnation + 1
                            : question.witness.incarnation + 1;
    if (config->clock_count > 0)
        meta->clock_count = config->clock_count;
    else if (!recovery->warm) /* else the state's: another number would be a cold start */
        meta->clock_count = clocks_by_capacity(config->capacity);
    meta->lease_ns = config->lease_ns;
    meta->linger_ns = config->linger_ns;
    meta->power = config->durability == DURABILITY_POWER;
    meta->journal = !meta->power;
    meta->data_inode = question.identity.inode;
    meta->data_birth_ns = question.identity.birth_ns;
    if (random_bytes(meta->nonce, sizeof(meta->nonce)) < 0)
        return -1;
    return recovery->warm ? 0 : random_bytes(meta->hash_key, sizeof(meta->hash_key));
}

int recovery_open(struct recovery *recovery, struct store **store, const struct config *config,
                  const struct recovery_traces *traces, struct why *why)
{
    struct store_meta former;
    const struct store_options options = {
        .state_dir = config->state_dir,
        .map_bytes = config->map_bytes,
        .sync = config->durability == DURABILITY_POWER,
    };

    *recovery = (struct recovery){.socket_path = config->socket_path};
    const int opened = store_open(store, &options, why);
    const bool unusable = opened == STORE_E_DAMAGED || opened == STORE_E_FORMAT;
    if (opened != 0 && !unusable)
        return -1;
    recovery->locked_ns = time_coarse_ns();
    recovery->had_former = unusable || traces->any;
    recovery->linger_ns = traces->linger_ns;
    recovery->damage = *why;
    if (unusable && store_set_aside(*store, why) != 0)
        return -1;
    if (former_read(recovery, *store, &former, why) < 0)
        return -1;
    if (unusable)
        recovery->cold_reason = recovery->damage.text;
    recovery->former_lease_ns = former.lease_ns;
    if (run_begin(recovery, *store, &former, config, traces) != 0)
        return refuse(why, "begin a run in", -EIO);
    if (recovery->data_lost && state_begin_aside(recovery, *store, why) < 0)
        return -1;
    int r = 0;
    if (!recovery->data_lost)
        r = recovery->warm ? store_meta_write(*store, &recovery->meta)
                           : state_begin(recovery, *store);
    if (r != 0)
        return refuse(why, "write", r);
    struct witness witness = {.incarnation = recovery->meta.incarnation};
    memcpy(witness.nonce, recovery->meta.nonce, sizeof(witness.nonce));
    DELAY_POINT("recovery.meta_witness");
    recovery->witness_error = witness_write(config->socket_path, &witness);
    return 0;
}

/* ---- Loading ---- */

struct loading {
    struct recovery *recovery;
    struct cache *cache;
    struct arena arena;
    struct event event;
    bool incomplete;
    /* the store has every event up to it */
    uint64_t stored_lsn;
    /* and these come after them */
    struct event_queue journaled;
};

static int clocks_load(void *ctx, uint32_t chunk, const uint64_t *words, size_t count)
{
    struct loading *loading = ctx;
    struct shm_view *view = loading->cache->view;
    const uint64_t first = (uint64_t)chunk * CLOCK_CHUNK_WORDS;

    if (first + count > view->clock_count) {
        loading->incomplete = true;
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        shm_clock_store(view, (uint32_t)(first + i), words[i] & CLOCK_LSN_MASK);
    return 0;
}

/* NULL: an event that cannot be read, and it may have been for anything. Valid until the next
 * one. */
static const struct event *event_read(struct loading *loading, uint64_t lsn, etag_str record)
{
    arena_reset(&loading->arena);
    if (event_record_parse(record, lsn, &loading->event, &loading->arena))
        return &loading->event;
    loading->incomplete = true;
    return NULL;
}

static int event_load(void *ctx, uint64_t lsn, etag_str record)
{
    struct loading *loading = ctx;
    const struct event *event = event_read(loading, lsn, record);

    return event ? cache_apply(loading->cache, event) : 0;
}

static int guard_load(void *ctx, struct guard_id id, uint64_t lsn, etag_str record)
{
    (void)id; /* as in the record, or made of the LSN */
    return event_load(ctx, lsn, record);
}

/* What the store has, it has in its order: only later events of the journal are news. */
static int journal_load(void *ctx, uint64_t lsn, etag_str record)
{
    struct loading *loading = ctx;

    if (lsn <= loading->stored_lsn)
        return 0;
    const struct event *event = event_read(loading, lsn, record);
    if (!event)
        return 0;
    const int applied = cache_apply(loading->cache, event);
    if (applied < 0)
        return applied;
    const struct persist_event queued = {
        .lsn = lsn,
        .kind = event->kind,
        .guard = event->guard,
        .hold = event->targets.hold_ms > 0,
    };
    return event_queue_add(&loading->journaled, &queued, record);
}

/* The former journal's events are in the store before this run's journal is begun in its place. */
static int journal_move(struct loading *loading, struct store *store, const char *socket_path)
{
    if (!loading->recovery->former.journal)
        return 0;
    int r = store_last_lsn(store, &loading->stored_lsn);
    if (r == 0)
        r = journal_replay(socket_path, loading->recovery->former.nonce, journal_load, loading);
    if (r == 0 && !loading->incomplete)
        r = event_queue_store(&loading->journaled, store);
    loading->recovery->journal_events = loading->journaled.count;
    event_queue_free(&loading->journaled);
    return r;
}

static int load(struct recovery *recovery, struct store *store, struct cache *cache)
{
    CLEANUP(cleanup_free) struct loading *loading = calloc(1, sizeof(*loading));

    if (!recovery->warm)
        return cold_load(recovery, cache);
    cache->monotonic_goes_on = recovery->former.boot_id[0] != '\0' &&
                               strcmp(recovery->former.boot_id, recovery->meta.boot_id) == 0;
    if (!loading)
        return -ENOMEM;
    *loading = (struct loading){.recovery = recovery, .cache = cache};
    /* Writers of the former run bound their COMMIT by what they were answered then. */
    const uint64_t linger_ns = cache->guards.linger_ns;
    cache->guards.linger_ns = recovery->linger_ns;
    arena_init(&loading->arena, ARENA_BYTES_MAX);
    int r = store_each_clock_chunk(store, clocks_load, loading);
    if (r == 0)
        r = store_each_guard(store, guard_load, loading);
    if (r == 0)
        r = store_each_event(store, recovery->former.checkpoint_lsn + 1, event_load, loading);
    if (r == 0)
        r = journal_move(loading, store, recovery->socket_path);
    cache->guards.linger_ns = linger_ns;
    arena_deinit(&loading->arena);
    if (r > 0)
        r = -EUCLEAN;
    return loading->incomplete ? -EUCLEAN : r;
}

int recovery_load(struct recovery *recovery, struct store *store, struct cache *cache)
{
    const int r = load(recovery, store, cache);

    /* What was applied again is the work of former runs. */
    cache->counters = (struct cache_counters){0};
    return r;
}

/* ---- The journal ---- */

struct journal *recovery_journal(struct recovery *recovery, struct store *store,
                                 const struct config *config)
{
    struct journal *journal = NULL;

    if (!recovery->meta.journal)
        return NULL;
    DELAY_POINT("recovery.loaded_journal");
    recovery->journal_error = journal_open(&journal, config->socket_path, recovery->meta.nonce);
    if (recovery->journal_error == 0)
        return journal;
    /* The next start need not look for one. If even this cannot be written, it will be cold. */
    recovery->meta.journal = false;
    if (store_meta_write(store, &recovery->meta) != 0)
        recovery->meta.journal = true;
    return NULL;
}
