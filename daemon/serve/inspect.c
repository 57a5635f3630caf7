/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers to people's requests. An answer joins three sources: the index says what front ends see
 * now; the persister and the store know the names, of which the index has only hashes; the event
 * log knows which event moved a clock.
 */
#include "inspect.h"

#include "clocktime.h"
#include "numbers.h"
#include "server.h"
#include "text.h"

#include <string.h>

#define LIST_LIMIT_DEFAULT 100
#define LIST_BYTES_MAX (FRAME_BYTES_MAX / 2)

/* A record copied into the request's arena, so that it outlives the callback it came in. */
struct known {
    struct arena *arena;
    bool found;
    struct entry_record record;
    struct entry_record_parts *parts;
};

static int known_take(void *ctx, struct hash128 fingerprint, etag_str record)
{
    struct known *known = ctx;
    const etag_str copy = arena_copy(known->arena, record);

    (void)fingerprint;
    known->parts = arena_array(known->arena, 1, sizeof(*known->parts));
    known->found = copy.data && known->parts &&
                   entry_record_parse(copy, &known->record, known->parts);
    return 0;
}

/* One key looked at from all sides. Large: in the arena. */
struct look {
    struct known known;
    /* where in_index */
    struct shm_entry shown;
    struct kept_field fields[FIELDS_PER_ENTRY_MAX];
    struct entry_view view;
    struct clock_view clocks[CLOCKS_PER_ENTRY_MAX + 1];
    size_t clock_count;
    int culprit;
};

/* ---- Clocks by name ---- */

static void clock_look(struct server *server, struct look *look, enum target_kind kind,
                       etag_str name, uint32_t number)
{
    const uint64_t value = shm_clock_load(server->cache.view, number);

    look->clocks[look->clock_count++] = (struct clock_view){
        .kind = kind, .name = name, .number = number, .value = value};
}

static void families_look(struct server *server, struct look *look)
{
    const struct cache *cache = &server->cache;
    const struct entry *entry = &look->view.entry;
    struct family_clocks of;

    family_clocks_of(&of, cache->hash_key, cache->view->clock_count, entry->surrogates,
                     entry->surrogate_count);
    for (size_t i = 0; i < of.count; i++)
        clock_look(server, look, TARGET_FAMILY,
                   of.families.all ? ETAG_LIT("*") : of.families.names[i], of.clocks[i]);
}

static void clocks_look(struct server *server, struct look *look)
{
    const struct resource *resource = &server->key.resource;
    const struct cache *cache = &server->cache;
    const uint32_t clock_count = cache->view->clock_count;
    const struct entry *entry = &look->view.entry;
    char text[RESOURCE_TEXT_BYTES_MAX];
    size_t prefixes[PREFIX_LEVELS_MAX];
    const size_t prefix_count = resource_prefixes(resource, prefixes);
    const size_t text_len = resource_format(resource, text);
    const size_t path_at = text_len - resource_target(resource).len;

    clock_look(server, look, TARGET_EVERYTHING, ETAG_LIT("everything"), CLOCK_FLOOR);
    clock_look(server, look, TARGET_RESOURCE,
               arena_copy(&server->arena, (etag_str){text, text_len}),
               clock_of_resource(cache->hash_key, clock_count, resource));
    for (size_t i = 0; i < prefix_count; i++)
        clock_look(server, look, TARGET_PREFIX,
                   arena_copy(&server->arena, (etag_str){text, path_at + prefixes[i]}),
                   clock_of_prefix(cache->hash_key, clock_count, resource, prefixes[i]));
    for (size_t i = 0; i < entry->surrogate_count; i++)
        clock_look(server, look, TARGET_SURROGATE, entry->surrogates[i],
                   clock_of_surrogate(cache->hash_key, clock_count, entry->surrogates[i]));
    families_look(server, look);
}

/* The clock that moved last above the fill LSN; -1: none did. */
static int culprit_find(const struct look *look)
{
    int culprit = -1;

    for (size_t i = 0; i < look->clock_count; i++)
        if (look->clocks[i].value > look->view.fill_lsn &&
            (culprit < 0 || look->clocks[i].value > look->clocks[culprit].value))
            culprit = (int)i;
    return culprit;
}

/* ---- Looking a key up ---- */

/* What the index shows wins over what the store knows: the store lags. */
static void view_of_index(struct look *look)
{
    struct entry_view *view = &look->view;
    const int fields = fieldset_parse(look->shown.fieldset_words, look->shown.fieldset_bytes,
                                      look->fields);

    view->in_index = true;
    view->fill_lsn = look->shown.fill_lsn;
    view->entry.etag = look->shown.etag;
    view->entry.last_modified = look->shown.last_modified;
    view->entry.last_modified_is_strong = look->shown.last_modified_is_strong;
    view->entry.content_location = look->shown.content_location;
    view->entry.fields = look->fields;
    view->entry.field_count = fields > 0 ? (size_t)fields : 0;
}

static etag_reason state_of(const struct server *server, const struct look *look,
                            etag_reason index_state)
{
    if (index_state == ETAG_REASON_VALID && time_coarse_ns() >= server->lease.deadline_ns)
        return ETAG_REASON_NO_LEASE;
    if (index_state != ETAG_REASON_NO_ENTRY || !look->known.found)
        return index_state;
    /* Known to the store only: found stale or expired at the start, or evicted since. */
    if (look->culprit >= 0)
        return look->clocks[look->culprit].value & CLOCK_IN_FLUX ? ETAG_REASON_IN_FLUX
                                                                 : ETAG_REASON_STALE;
    if (look->view.expires_wall_ms != 0 && time_wall_ms() >= look->view.expires_wall_ms)
        return ETAG_REASON_EXPIRED;
    return ETAG_REASON_NO_ENTRY;
}

/* Looks at the key in server->key. NULL: no memory. */
static struct look *key_look(struct server *server)
{
    const struct hash128 fingerprint = key_fingerprint(server->cache.hash_key, &server->key);
    struct look *look = arena_array(&server->arena, 1, sizeof(*look));
    etag_field *vary = arena_array(&server->arena, VARY_COUNT_MAX, sizeof(*vary));
    uint32_t clock;
    uint64_t value;

    if (!look || !vary)
        return NULL;
    look->known.arena = &server->arena;
    const int waiting = persist_find(server->persist, fingerprint, known_take, &look->known);
    if (waiting == STORE_E_NOT_FOUND &&
        store_get_entry(server->store, fingerprint, known_take, &look->known) == 0)
        look->view.persisted = look->known.found;

    if (look->known.found) {
        look->view.entry = look->known.record.entry;
        look->view.fill_lsn = look->known.record.fill_lsn;
        look->view.expires_wall_ms = look->known.record.expires_wall_ms;
    } else {
        look->view.entry.last_modified = ETAG_NO_DATE;
    }
    /* The key as asked for, in canonical form. */
    if (!key_parse((etag_str){(const char *)server->key.bytes, server->key.len},
                   &look->view.entry.key, vary))
        return NULL;
    const etag_reason index_state = cache_state(&server->cache, fingerprint, &look->shown, &clock,
                                                &value);
    if (index_state != ETAG_REASON_NO_ENTRY)
        view_of_index(look);
    clocks_look(server, look);
    look->culprit = look->view.in_index || look->known.found ? culprit_find(look) : -1;
    look->view.state = state_of(server, look, index_state);
    return look;
}

static struct look *request_look(struct server *server, struct peer *peer,
                                 const struct request *request)
{
    const char *wrong = key_canonicalize(&server->key, &request->key);

    if (wrong) {
        peer_send_error(&server->peers, peer, request->id, WIRE_ERROR_INVALID, wrong);
        return NULL;
    }
    struct look *look = key_look(server);
    if (!look)
        peer_send_error(&server->peers, peer, request->id, WIRE_ERROR_INTERNAL, "no memory");
    return look;
}

void inspect_get(struct server *server, struct peer *peer, const struct request *request)
{
    struct look *look = request_look(server, peer, request);

    if (!look)
        return;
    if (!look->view.in_index && !look->known.found) {
        peer_send_error(&server->peers, peer, request->id, WIRE_ERROR_NOT_FOUND,
                        "the cache has no entry for this key");
        return;
    }
    const struct reply reply = {.id = request->id, .kind = REPLY_GET, .get = look->view};
    peer_send(&server->peers, peer, &reply, NULL, 0);
}

/* ---- Explain ---- */

struct event_known {
    struct arena *arena;
    bool found;
    struct event event;
};

static int event_take(void *ctx, uint64_t lsn, etag_str record)
{
    struct event_known *known = ctx;
    const etag_str copy = arena_copy(known->arena, record);

    known->found = copy.data && event_record_parse(copy, lsn, &known->event, known->arena);
    return 0;
}

/* The store lags the journal by some milliseconds. */
static void event_look_up(struct server *server, uint64_t lsn, struct event_known *known)
{
    if (store_get_event(server->store, lsn, event_take, known) == 0 || !server->journal)
        return;
    const etag_str record = journal_find(server->journal, lsn);
    if (record.data)
        (void)event_take(known, lsn, record);
}

void inspect_explain(struct server *server, struct peer *peer, const struct request *request)
{
    struct look *look = request_look(server, peer, request);

    if (!look)
        return;
    struct reply reply = {.id = request->id, .kind = REPLY_EXPLAIN};
    reply.explain.view = look->view;
    reply.explain.clocks = look->clocks;
    reply.explain.clock_count = look->clock_count;
    reply.explain.culprit = look->culprit;
    reply.explain.lease_deadline_ns = server->lease.deadline_ns;
    reply.explain.clock_ns = time_coarse_ns();
    if (look->culprit >= 0) {
        struct event_known known = {.arena = &server->arena};
        const uint64_t lsn = look->clocks[look->culprit].value & CLOCK_LSN_MASK;

        event_look_up(server, lsn, &known);
        if (known.found) {
            reply.explain.has_event = true;
            reply.explain.event = event_view_of(&known.event);
        }
    }
    peer_send(&server->peers, peer, &reply, NULL, 0);
}

/* ---- List ---- */

struct listing {
    struct server *server;
    struct entry_view *views;
    size_t count, limit, bytes;
    /* cursor of the last one listed */
    etag_str last;
    bool more;
};

static int list_each(void *ctx, etag_str cursor, struct hash128 fingerprint, etag_str record)
{
    struct listing *listing = ctx;
    struct server *server = listing->server;
    struct known known = {.arena = &server->arena};

    _Static_assert(sizeof(struct shm_entry) < 16384, "on the stack");
    struct shm_entry shown;
    uint32_t clock;
    uint64_t value;

    if (listing->count == listing->limit || listing->bytes > LIST_BYTES_MAX) {
        listing->more = true;
        return STORE_E_STOPPED;
    }
    /* The store lags: what waits for it is the newer one. */
    const int waiting = persist_find(server->persist, fingerprint, known_take, &known);
    if (waiting == PERSIST_E_ERASED)
        return 0;
    if (waiting != 0 && known_take(&known, fingerprint, record) != 0)
        return 0;
    if (!known.found)
        return 0;
    struct entry_view *view = &listing->views[listing->count++];
    *view = (struct entry_view){
        .entry = known.record.entry,
        .fill_lsn = known.record.fill_lsn,
        .expires_wall_ms = known.record.expires_wall_ms,
        .persisted = waiting != 0,
    };
    view->state = cache_state(&server->cache, fingerprint, &shown, &clock, &value);
    /* The index has a newer one that did not reach the store: its state is not this one's. */
    if (view->state != ETAG_REASON_NO_ENTRY && shown.fill_lsn != view->fill_lsn)
        view->state = ETAG_REASON_NO_ENTRY;
    view->in_index = view->state != ETAG_REASON_NO_ENTRY;
    if (view->state == ETAG_REASON_VALID && time_coarse_ns() >= server->lease.deadline_ns)
        view->state = ETAG_REASON_NO_LEASE;
    listing->bytes += record.len + 64;
    listing->last = arena_copy(&server->arena, cursor);
    return 0;
}

void inspect_list(struct server *server, struct peer *peer, const struct request *request)
{
    const size_t asked = request->list.limit ? request->list.limit : LIST_LIMIT_DEFAULT;
    struct listing listing = {
        .server = server,
        .limit = min_of(asked, LIST_PAGE_MAX),
    };

    listing.views = arena_array(&server->arena, listing.limit, sizeof(*listing.views));
    const int r = listing.views ? store_list(server->store, request->list.prefix,
                                             request->list.after, list_each, &listing)
                                : -1;
    if (r != 0 && r != STORE_E_STOPPED) {
        peer_send_error(&server->peers, peer, request->id, WIRE_ERROR_STORE,
                        "the store cannot be read");
        return;
    }
    const struct reply reply = {
        .id = request->id,
        .kind = REPLY_LIST,
        .list = {.entries = listing.views,
                 .entry_count = listing.count,
                 .next = listing.more ? listing.last : (etag_str){NULL, 0}},
    };
    peer_send(&server->peers, peer, &reply, NULL, 0);
}
