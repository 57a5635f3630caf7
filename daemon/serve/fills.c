/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fill path, from the request to the persister's queue. Read fills_take() first: it calls
 * another module for each step, and each step returns what the next one needs.
 *
 *   names are checked again, since no peer is trusted       key_canonicalize, entry_check
 *   the token test, and the index                          cache_fill; of a tombstone: cache_retire
 *   the store, lazily                                      entry_record_pack, persist_entry
 */
#include "fills.h"

#include "mutation.h"
#include "server.h"

/* Its removal goes to the store, or at least with the next event: else it comes back after a
 * restart, when it is not known any more on what the key's last entry depended. */
static void removed_erase(struct server *server, struct hash128 fingerprint)
{
    if (persist_erase(server->persist, fingerprint) == 0)
        return;
    unstored_add(&server->unstored, fingerprint, true);
    if (server->loader)
        entry_loader_break(server->loader);
    log_event(&server->log, LOG_DEBUG, "removed_not_erased");
}

static void evicted_erase(struct server *server, const struct index_evicted *evicted)
{
    for (size_t i = 0; i < evicted->count; i++)
        removed_erase(server, evicted->fingerprints[i]);
}

/* Rule WIDER_FILL_RECORDED: while the store may have a current record of the key that lacks what
 * the new entry depends on, no event is recorded that does not take it along. Before the new one
 * goes to the persister. */
static bool former_unstore(struct server *server, const struct cache_stored *stored, bool unloaded)
{
    const struct hash128 fingerprint = stored->fingerprint;

    if (!stored->wider &&
        !(stored->fresh && (unloaded || unstored_waits(server->persist, fingerprint))))
        return false;
    unstored_add(&server->unstored, fingerprint, false);
    return true;
}

/* What the store has to know of an accepted fill. Best effort: an entry that is not persisted is a
 * miss after a restart, nothing worse. */
static void fill_persist(struct server *server, const struct entry *entry,
                         const struct cache_stored *stored, bool unloaded)
{
    const bool unstored = former_unstore(server, stored, unloaded);
    char text[RESOURCE_TEXT_BYTES_MAX];
    const size_t text_len = resource_format(&server->key.resource, text);
    const struct entry_record record = {
        .key_bytes = {(const char *)server->key.bytes, server->key.len},
        .entry = *entry,
        .fill_lsn = stored->fill_lsn,
        .expires_wall_ms = stored->expires_wall_ms,
        .expires_ns = stored->expires_ns,
    };

    server->scratch.len = 0;
    if (entry_record_pack(&server->scratch, &record) == 0 &&
        persist_entry(server->persist, stored->fingerprint, (etag_str){text, text_len},
                      (etag_str){(const char *)server->scratch.bytes, server->scratch.len}) == 0)
        return;
    /* What the store has instead is as current as its clocks say. That must be all of them. */
    if (unstored)
        removed_erase(server, stored->fingerprint);
    log_event(&server->log, LOG_DEBUG, "fill_not_persisted");
}

/* An entry of the former run whose turn has not come is judged like any other. True: its record in
 * the store may be current, and it is not in the index. */
static bool key_load(struct server *server)
{
    struct index_evicted evicted;

    if (!server->loader)
        return false;
    const bool unloaded = entry_loader_fetch(
        server->loader, key_fingerprint(server->cache.hash_key, &server->key), &evicted);
    evicted_erase(server, &evicted);
    return unloaded;
}

static void fill_answer(struct server *server, struct peer *peer, const struct request *request,
                        etag_reason reason, uint64_t lsn)
{
    const struct reply reply = {
        .id = request->id, .kind = REPLY_FILL, .fill = {.reason = reason, .lsn = lsn}};

    if (request->fill.want_verdict)
        peer_send(&server->peers, peer, &reply, NULL, 0);
}

/* The other half of a fill: its key is in server->key. */
static void retire_take(struct server *server, struct peer *peer, const struct request *request)
{
    struct hash128 fingerprint;
    const bool unloaded = key_load(server);
    const etag_reason reason = cache_retire(&server->cache, request->fill.token, &server->key,
                                            &fingerprint);

    if (reason == ETAG_REASON_NONE || (reason == ETAG_REASON_NO_ENTRY && unloaded))
        removed_erase(server, fingerprint);
    fill_answer(server, peer, request, reason, 0);
}

/* While entries are loaded, for removals too, or the loading would have to be given up. */
static bool fill_has_room(struct server *server)
{
    return (unstored_has_room(&server->unstored, server->persist) || mutation_carry(server)) &&
           !(server->loader && persist_crowded(server->persist));
}

void fills_take(struct server *server, struct peer *peer, const struct request *request)
{
    struct cache_stored stored;
    uint8_t packed[FIELDSET_BYTES_MAX];
    struct entry entry = request->fill.entry;
    const char *wrong = key_canonicalize(&server->key, &entry.key);

    if (!wrong && !request->fill.gone)
        wrong = entry_check(&entry, packed);
    if (wrong) {
        peer_send_error(&server->peers, peer, request->id, WIRE_ERROR_INVALID, wrong);
        return;
    }
    if (!fill_has_room(server)) {
        fill_answer(server, peer, request, cache_fill_count(&server->cache, ETAG_REASON_NO_ROOM),
                    0);
        return;
    }
    if (request->fill.gone) {
        retire_take(server, peer, request);
        return;
    }
    const bool unloaded = key_load(server);
    const etag_reason reason = cache_fill(&server->cache, request->fill.token, &server->key, &entry,
                                          &stored);
    evicted_erase(server, &stored.evicted);
    if (reason == ETAG_REASON_NONE)
        fill_persist(server, &entry, &stored, unloaded);
    fill_answer(server, peer, request, reason, stored.fill_lsn);
}
