/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Versioned clocks instead of lists of dependents: a mutation stores its LSN into one clock a
 * target, whatever the number of entries, and an entry is current while none of its clocks is above
 * the LSN that it was filled with. "Above" also covers "in flux", because the flux bit is the top
 * bit. So there is one comparison for everything that can make an entry wrong, and it is the same
 * in the reader (shm_newer_clock).
 */
#include "cache.h"

#include "clocktime.h"
#include "numbers.h"
#include "surrogate.h"

#include <assert.h>
#include <string.h>

int cache_init(struct cache *cache, struct index *index, const struct index_options *options,
               uint64_t linger_ns)
{
    *cache = (struct cache){
        .index = index,
        .view = index_view(index),
        .incarnation_id = options->incarnation_id,
        .lsn = options->incarnation << LSN_COUNTER_BITS,
    };
    memcpy(cache->hash_key, options->hash_key, sizeof(cache->hash_key));
    shm_lsn_store(cache->view, cache->lsn);
    return guards_init(&cache->guards, cache->view->clock_count, linger_ns);
}

void cache_deinit(struct cache *cache)
{
    guards_deinit(&cache->guards);
}

bool cache_next_lsn(struct cache *cache, uint64_t *lsn)
{
    if (((cache->lsn + 1) >> LSN_COUNTER_BITS) != cache->lsn >> LSN_COUNTER_BITS)
        return false;
    *lsn = ++cache->lsn;
    return true;
}

/* ---- Mutations ---- */

static void clock_raise(struct cache *cache, uint32_t clock, uint64_t lsn)
{
    const uint64_t value = shm_clock_load(cache->view, clock);

    if ((value & CLOCK_LSN_MASK) < lsn)
        shm_clock_store(cache->view, clock, (value & CLOCK_IN_FLUX) | lsn);
}

/* A target that was checked before. */
static void canonical(struct resource *out, const etag_resource *in)
{
    const char *wrong = resource_canonicalize(out, in);

    assert(wrong == NULL);
    (void)wrong;
}

#define EVENT_CLOCKS_MAX (2 * TARGETS_PER_EVENT_MAX + 2)

/* The clock of a prefix, or of the covered one that it means. */
static uint32_t clock_of_covered_prefix(const struct cache *cache, const struct resource *resource)
{
    return clock_of_prefix(cache->hash_key, cache->view->clock_count, resource,
                           resource_covered_prefix(resource));
}

/* A family is also the surrogate key of its name, and all families (rule FAMILY_OF_EACH_NAME).
 * Returns how many clocks. */
static size_t clocks_of_named_families(const struct cache *cache, const etag_targets *targets,
                                       uint32_t *out)
{
    const uint32_t clock_count = cache->view->clock_count;
    size_t n = 0;

    if (targets->family_count > 0)
        out[n++] = CLOCK_FAMILIES;
    for (size_t i = 0; i < targets->family_count; i++) {
        const etag_str family = surrogate_family(targets->families[i]);
        out[n++] = clock_of_family(cache->hash_key, clock_count, family);
        out[n++] = clock_of_surrogate(cache->hash_key, clock_count, family);
    }
    return n;
}

/* A clock for each target, two for one that servers read in two ways (rule NO_DOT_SEGMENTS), for a
 * family, and for a surrogate key, of which one is its group's (rule GROUPS); returns how many. */
static size_t clocks_of_targets(const struct cache *cache, const etag_targets *targets,
                                uint32_t out[EVENT_CLOCKS_MAX])
{
    const uint32_t clock_count = cache->view->clock_count;
    struct resource resource;
    size_t n = 0;

    if (targets->everything)
        out[n++] = CLOCK_FLOOR;
    for (size_t i = 0; i < targets->resource_count; i++) {
        canonical(&resource, &targets->resources[i]);
        out[n++] = clock_of_resource(cache->hash_key, clock_count, &resource);
        if (resource.dotted && resource_canonicalize_loosely(&resource, &targets->resources[i]))
            out[n++] = clock_of_resource(cache->hash_key, clock_count, &resource);
    }
    for (size_t i = 0; i < targets->prefix_count; i++) {
        canonical(&resource, &targets->prefixes[i]);
        out[n++] = clock_of_covered_prefix(cache, &resource);
        if (resource.dotted && resource_canonicalize_loosely(&resource, &targets->prefixes[i]))
            out[n++] = clock_of_covered_prefix(cache, &resource);
    }
    for (size_t i = 0; i < targets->surrogate_count; i++) {
        out[n++] = clock_of_surrogate(cache->hash_key, clock_count, targets->surrogates[i]);
        out[n++] = clock_of_group(surrogate_group(targets->surrogates[i]));
    }
    return n + clocks_of_named_families(cache, targets, out + n);
}

/* The last guard or hold on the clock is gone. Its LSN is as the mutations left it: nothing is
 * restored. */
static void clock_calm(void *ctx, uint32_t clock)
{
    struct cache *cache = ctx;

    shm_clock_store(cache->view, clock, shm_clock_load(cache->view, clock) & CLOCK_LSN_MASK);
}

/* The event's guard or hold is open, and its clocks are in flux. */
static int flux_begin(struct cache *cache, const struct event *event, const uint32_t *clocks,
                      size_t count)
{
    const int r = guards_open(&cache->guards, event, clocks, count, time_coarse_ns());

    for (size_t i = 0; r == 0 && i < count; i++)
        if (guards_flux(&cache->guards, clocks[i]) > 0)
            shm_clock_store(cache->view, clocks[i],
                            shm_clock_load(cache->view, clocks[i]) | CLOCK_IN_FLUX);
    return r;
}

/* A commit gives a new LSN to what it names and to what its guard covered, which may be more; only
 * then is the guard's count taken off. Without a guard it is an invalidation. One that expired was
 * not ended by its writer, who may still come and confirm: its id is not remembered. */
static int apply_commit(struct cache *cache, const struct event *event, const uint32_t *clocks,
                        size_t count)
{
    const uint64_t now_ns = time_coarse_ns();
    struct guard *guard = guards_find(&cache->guards, event->guard);
    const bool is_open = guard && guard->state != GUARD_ENDED;
    const bool said = event->kind == EVENT_GUARD_COMMIT;
    const bool lingered = is_open && !said && guard->state == GUARD_OPEN;

    if (!is_open && event->targets.hold_ms > 0) {
        const int r = flux_begin(cache, event, clocks, count);
        if (r < 0)
            return r;
    }
    cache->counters.guards_lingered += lingered;
    for (size_t i = 0; i < count; i++)
        clock_raise(cache, clocks[i], event->lsn);
    for (size_t i = 0; is_open && i < guard->clock_count; i++)
        clock_raise(cache, guard->clocks[i], event->lsn);
    if (is_open && event->targets.hold_ms > 0)
        guards_hold(&cache->guards, guard, event, now_ns);
    else if (is_open)
        guards_end(&cache->guards, guard, said, now_ns, clock_calm, cache);
    else if (said && event->targets.hold_ms == 0)
        guards_remember_end(&cache->guards, event->guard, now_ns);
    return 0;
}

static void apply_abort(struct cache *cache, const struct event *event)
{
    const uint64_t now_ns = time_coarse_ns();
    struct guard *guard = guards_find_open(&cache->guards, event->guard);

    if (guard)
        guards_end(&cache->guards, guard, true, now_ns, clock_calm, cache);
    else
        guards_remember_end(&cache->guards, event->guard, now_ns);
}

static int apply_begin(struct cache *cache, const struct event *event, const uint32_t *clocks,
                       size_t count)
{
    const bool rearms = event->confirms && !guards_find_open(&cache->guards, event->guard);
    const int r = flux_begin(cache, event, clocks, count);

    cache->counters.guards_begun += r == 0;
    cache->counters.guards_rearmed += r == 0 && rearms;
    return r;
}

static int apply_mutation(struct cache *cache, const struct event *event, const uint32_t *clocks,
                          size_t count)
{
    const int r = event->targets.hold_ms > 0 ? flux_begin(cache, event, clocks, count) : 0;

    for (size_t i = 0; r == 0 && i < count; i++)
        clock_raise(cache, clocks[i], event->lsn);
    return r;
}

bool cache_fold(struct cache *cache, struct event *event)
{
    if (!guards_fold(&cache->guards, event->targets.hold_ms, time_coarse_ns()))
        return false;
    event->targets.hold_ms = 0;
    cache->counters.holds_folded++;
    return true;
}

/* The number of targets that have these clocks: a surrogate key has two clocks and a family two;
 * all families together have one. */
static size_t targets_counted(const etag_targets *targets, size_t clock_count)
{
    return clock_count - targets->surrogate_count - targets->family_count -
           (targets->family_count > 0);
}

int cache_apply(struct cache *cache, const struct event *event)
{
    uint32_t clocks[EVENT_CLOCKS_MAX];
    const size_t count = clocks_of_targets(cache, &event->targets, clocks);
    int r = 0;

    switch (event->kind) {
    case EVENT_MUTATION:
        r = apply_mutation(cache, event, clocks, count);
        cache->counters.mutations += r == 0 && count > 0;
        cache->counters.targets += r == 0 ? targets_counted(&event->targets, count) : 0;
        cache->counters.holds += r == 0 && event->targets.hold_ms > 0;
        break;
    case EVENT_GUARD_BEGIN:
        r = apply_begin(cache, event, clocks, count);
        break;
    case EVENT_GUARD_COMMIT:
    case EVENT_GUARD_EXPIRED:
        r = apply_commit(cache, event, clocks, count);
        cache->counters.guards_committed += r == 0 && event->kind == EVENT_GUARD_COMMIT;
        break;
    case EVENT_GUARD_ABORT:
        apply_abort(cache, event);
        cache->counters.guards_aborted++;
        break;
    }
    if (r == 0 && event->lsn > shm_lsn_load(cache->view))
        shm_lsn_store(cache->view, event->lsn);
    return r;
}

/* ---- Entries ---- */

static void clock_set_add(struct clock_set *set, uint32_t clock)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->clocks[i] == clock)
            return;
    set->clocks[set->count++] = clock;
}

static void clock_set_add_families(const struct cache *cache, const struct entry *entry,
                                   struct clock_set *set)
{
    struct family_clocks of;

    family_clocks_of(&of, cache->hash_key, cache->view->clock_count, entry->surrogates,
                     entry->surrogate_count);
    for (size_t i = 0; i < of.count; i++)
        clock_set_add(set, of.clocks[i]);
}

void cache_clocks_of(const struct cache *cache, const struct resource *resource,
                     const struct entry *entry, struct clock_set *out)
{
    const uint32_t clock_count = cache->view->clock_count;
    size_t prefixes[PREFIX_LEVELS_MAX];
    const size_t prefix_count = resource_prefixes(resource, prefixes);

    out->count = 0;
    clock_set_add(out, CLOCK_FLOOR);
    clock_set_add(out, clock_of_resource(cache->hash_key, clock_count, resource));
    for (size_t i = 0; i < prefix_count; i++)
        clock_set_add(out, clock_of_prefix(cache->hash_key, clock_count, resource, prefixes[i]));
    for (size_t i = 0; i < entry->surrogate_count; i++)
        clock_set_add(out, clock_of_surrogate(cache->hash_key, clock_count, entry->surrogates[i]));
    if (entry->surrogate_count > 0)
        clock_set_add_families(cache, entry, out);
}

/* Rule: a fill is refused if anything that it depends on moved after its token was taken. */
static etag_reason token_test(const struct cache *cache, const struct clock_set *set,
                              uint64_t token_lsn)
{
    etag_reason reason = ETAG_REASON_NONE;

    for (size_t i = 0; i < set->count; i++) {
        const uint64_t value = shm_clock_load(cache->view, set->clocks[i]);

        if ((value & CLOCK_LSN_MASK) > token_lsn)
            return ETAG_REASON_TOKEN_STALE;
        if (value & CLOCK_IN_FLUX)
            reason = ETAG_REASON_TOKEN_IN_FLUX;
    }
    return reason;
}

/* Rule: a token of another run proves nothing about this run's clocks. One from the future was
 * never handed out. */
static bool token_is_ours(const struct cache *cache, etag_token token)
{
    return token.incarnation == cache->incarnation_id && token.lsn <= cache->lsn;
}

static etag_reason cache_put(struct cache *cache, const struct index_entry *put, uint64_t now_ns,
                             struct index_evicted *evicted)
{
    switch (index_put(cache->index, put, now_ns, evicted)) {
    case INDEX_STORED:
        return ETAG_REASON_NONE;
    case INDEX_OLDER:
        return ETAG_REASON_OLDER_FILL;
    case INDEX_NO_ROOM:
        break;
    }
    return ETAG_REASON_NO_ROOM;
}

static struct index_entry index_entry_of(const struct entry *entry, struct hash128 fingerprint,
                                         const struct clock_set *set)
{
    return (struct index_entry){
        .fingerprint = fingerprint,
        .expires_ns = UINT64_MAX,
        .last_modified = entry->last_modified,
        .last_modified_is_strong = entry->last_modified_is_strong,
        .etag = entry->etag,
        .content_location = entry->content_location,
        .fieldset = entry->fieldset,
        /* The floor is on every entry without being named. */
        .clocks = set->clocks + 1,
        .clock_count = set->count - 1,
    };
}

/* In flux is not stale: the guard may be aborted. */
static bool is_stale(const struct cache *cache, const struct shm_entry *entry)
{
    uint32_t clock;
    uint64_t value;

    return shm_newer_clock(cache->view, entry, &clock, &value) &&
           (value & CLOCK_LSN_MASK) > entry->fill_lsn;
}

/* What the entry of this key, before the fill, leaves in the store: see persist.h. */
static void former_look(const struct cache *cache, const struct clock_set *set,
                        struct cache_stored *out)
{
    struct shm_entry former;

    out->fresh = !index_find_clocks(cache->index, out->fingerprint, &former);
    out->wider = false;
    if (out->fresh)
        return;
    for (size_t i = 1; i < set->count && !out->wider; i++)
        out->wider = !shm_entry_has_clock(&former, set->clocks[i]);
    out->wider = out->wider && !is_stale(cache, &former);
}

static etag_reason fill_judge(struct cache *cache, etag_token token, const struct key *key,
                              const struct entry *entry, struct cache_stored *out)
{
    struct clock_set set;

    out->fill_lsn = 0;
    out->evicted.count = 0;
    if (cache->paused)
        return ETAG_REASON_PAUSED;
    if (cache->store_failed)
        return ETAG_REASON_STORE_FAILED;
    if (!token_is_ours(cache, token))
        return ETAG_REASON_TOKEN_FOREIGN;
    const struct hash128 fingerprint = key_fingerprint(cache->hash_key, key);
    shm_prefetch(cache->view, fingerprint); /* while the clocks' numbers are hashed */
    cache_clocks_of(cache, &key->resource, entry, &set);
    const etag_reason moved = token_test(cache, &set, token.lsn);
    if (moved != ETAG_REASON_NONE)
        return moved;

    const uint64_t now_ns = time_coarse_ns();
    struct index_entry put = index_entry_of(entry, fingerprint, &set);
    put.fill_lsn = token.lsn;
    out->fingerprint = put.fingerprint;
    out->fill_lsn = token.lsn;
    out->expires_wall_ms = out->expires_ns = 0;
    former_look(cache, &set, out);
    if (entry->max_age_ms > 0) {
        const uint64_t age_ms = min_of(entry->max_age_ms, MAX_AGE_MS_MAX);
        put.expires_ns = now_ns + age_ms * NS_PER_MS;
        out->expires_wall_ms = time_wall_ms() + age_ms;
        out->expires_ns = put.expires_ns;
    }
    return cache_put(cache, &put, now_ns, &out->evicted);
}

etag_reason cache_fill_count(struct cache *cache, etag_reason reason)
{
    switch (reason) {
#define FILL_COUNT(name, why)                                                                      \
    case ETAG_REASON_##why:                                                                        \
        cache->counters.name++;                                                                    \
        break;
        FILL_COUNT(fills_stored, NONE)
        FILL_COUNT(fills_token_stale, TOKEN_STALE)
        FILL_COUNT(fills_token_in_flux, TOKEN_IN_FLUX)
        FILL_COUNT(fills_token_foreign, TOKEN_FOREIGN)
        FILL_COUNT(fills_older, OLDER_FILL)
        FILL_COUNT(fills_no_room, NO_ROOM)
        FILL_COUNT(fills_paused, PAUSED)
        FILL_COUNT(fills_store_failed, STORE_FAILED)
#undef FILL_COUNT
    default:
        break;
    }
    return reason;
}

etag_reason cache_fill(struct cache *cache, etag_token token, const struct key *key,
                       const struct entry *entry, struct cache_stored *out)
{
    return cache_fill_count(cache, fill_judge(cache, token, key, entry, out));
}

static etag_reason retire_judge(struct cache *cache, etag_token token, struct hash128 fingerprint)
{
    struct shm_entry entry;

    if (!token_is_ours(cache, token))
        return ETAG_REASON_TOKEN_FOREIGN;
    if (!index_find(cache->index, fingerprint, &entry))
        return ETAG_REASON_NO_ENTRY;
    /* Rule: an answer says nothing about what was rendered from newer data than its own. */
    return entry.fill_lsn > token.lsn ? ETAG_REASON_OLDER_FILL : ETAG_REASON_NONE;
}

etag_reason cache_retire(struct cache *cache, etag_token token, const struct key *key,
                         struct hash128 *fingerprint)
{
    *fingerprint = key_fingerprint(cache->hash_key, key);
    const etag_reason reason = retire_judge(cache, token, *fingerprint);

    if (reason == ETAG_REASON_NONE)
        (void)index_remove(cache->index, *fingerprint);
    cache->counters.retires += reason == ETAG_REASON_NONE;
    cache->counters.retires_refused += reason != ETAG_REASON_NONE;
    return reason;
}

/* The earliest of what each clock says, and never later than a fill of now would be: the wall clock
 * may have been set back, and CLOCK_MONOTONIC begins at zero with each boot. now_ns: over. */
static uint64_t expiry_load(const struct cache *cache, const struct entry_record *record,
                            uint64_t now_ns)
{
    const uint64_t wall_ms = time_wall_ms();

    if (wall_ms >= record->expires_wall_ms)
        return now_ns;
    uint64_t left_ms = record->expires_wall_ms - wall_ms;
    if (left_ms > record->entry.max_age_ms)
        left_ms = record->entry.max_age_ms;
    const uint64_t by_wall_ns = now_ns + left_ms * NS_PER_MS;
    return cache->monotonic_goes_on ? min_of(record->expires_ns, by_wall_ns) : by_wall_ns;
}

etag_reason cache_load(struct cache *cache, const struct key *key,
                       const struct entry_record *record, struct index_evicted *evicted)
{
    struct clock_set set;
    uint64_t expires_ns = UINT64_MAX;
    const uint64_t now_ns = time_coarse_ns();

    evicted->count = 0;
    if (record->expires_wall_ms != 0) {
        expires_ns = expiry_load(cache, record, now_ns);
        if (expires_ns <= now_ns) {
            cache->counters.loaded_expired++;
            return ETAG_REASON_EXPIRED;
        }
    }
    cache_clocks_of(cache, &key->resource, &record->entry, &set);
    /* In flux is no reason: the guard may be aborted, and until it ends no front end takes the
     * entry. */
    if (token_test(cache, &set, record->fill_lsn) == ETAG_REASON_TOKEN_STALE) {
        cache->counters.loaded_stale++;
        return ETAG_REASON_TOKEN_STALE;
    }
    struct index_entry put = index_entry_of(&record->entry, key_fingerprint(cache->hash_key, key),
                                            &set);
    put.fill_lsn = record->fill_lsn;
    put.expires_ns = expires_ns;
    const etag_reason reason = cache_put(cache, &put, now_ns, evicted);
    cache->counters.loaded += reason == ETAG_REASON_NONE;
    return reason;
}

etag_reason cache_state(const struct cache *cache, struct hash128 fingerprint,
                        struct shm_entry *entry, uint32_t *clock, uint64_t *value)
{
    if (!index_find(cache->index, fingerprint, entry))
        return ETAG_REASON_NO_ENTRY;
    if (shm_newer_clock(cache->view, entry, clock, value))
        return *value & CLOCK_IN_FLUX ? ETAG_REASON_IN_FLUX : ETAG_REASON_STALE;
    if (time_coarse_ns() >= entry->expires_ns)
        return ETAG_REASON_EXPIRED;
    return ETAG_REASON_VALID;
}
