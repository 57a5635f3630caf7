/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refill and retire. An entry replaces later renders under its key, so a later render that differs
 * from the entry corrects it:
 *
 *   the same tag, and other fields, surrogate keys or expiry   a fill replaces the entry: else its
 *                                                              304s would repeat old fields, and an
 *                                                              invalidation of a new surrogate key
 *                                                              would miss it
 *   another tag                                                a fill
 *   an answer that can't be stored (no-store, 404, ...)        a retire removes the entry
 *
 * After a miss the second lookup is nearly free: it uses the fingerprint of the first, so neither
 * key nor hash is computed again.
 *
 * Both have the token of the request: the daemon keeps an entry with a newer one, so a slow render
 * does not undo what came after it. Both are best effort, because no writer announced these
 * changes; announced ones are judged by the clocks.
 */
#include "refill.h"

#include "bytes.h"
#include "clocktime.h"
#include "lookup.h"
#include "numbers.h"
#include "refill_limit.h"
#include "shadow_compare.h"
#include "text.h"

/* ---- The second look ---- */

/* Of the entry now, for an answer with this token. */
enum look {
    /* nothing is known: no memory, no lease, another run of the daemon */
    LOOK_BLIND,
    /* there is none */
    LOOK_MISSING,
    /* there is one that answers nothing: stale, expired */
    LOOK_PASSED,
    /* ... nothing until its guard has ended */
    LOOK_FLUX,
    LOOK_CURRENT,
    /* there is one of a newer token, which the daemon would keep */
    LOOK_NEWER,
};

static enum look look_again(struct etag_client *client, etag_token token,
                            struct hash128 fingerprint)
{
    if (!client->mapping.base || token.incarnation != client->mapping.view.header->incarnation_id)
        return LOOK_BLIND;
    const etag_reason state = lookup_again(client, fingerprint);
    if (state == ETAG_REASON_NO_ENTRY)
        return LOOK_MISSING;
    if (state == ETAG_REASON_NO_LEASE || state == ETAG_REASON_TORN)
        return LOOK_BLIND;
    if (client->scratch.entry.fill_lsn > token.lsn)
        return LOOK_NEWER;
    return state == ETAG_REASON_VALID     ? LOOK_CURRENT
           : state == ETAG_REASON_IN_FLUX ? LOOK_FLUX
                                          : LOOK_PASSED;
}

/* Of the key in scratch.key. */
static struct hash128 fingerprint_of(const struct etag_client *client)
{
    if (!client->mapping.base)
        return (struct hash128){0};
    return key_fingerprint(client->mapping.view.header->hash_key, &client->scratch.key);
}

static bool is_known(struct refill_place place)
{
    return place.fingerprint.low != 0 || place.fingerprint.high != 0;
}

bool refill_knows(const struct etag_client *client, struct refill_place place)
{
    return is_known(place) && !client->shadow;
}

/* ---- The entry and the answer ---- */

static bool has_families_of(const struct etag_client *client, const struct entry *answered)
{
    const struct shm_view *view = &client->mapping.view;
    struct family_clocks of;

    family_clocks_of(&of, view->header->hash_key, view->clock_count, answered->surrogates,
                     answered->surrogate_count);
    for (size_t i = 0; i < of.count; i++)
        if (!shm_entry_has_clock(&client->scratch.entry, of.clocks[i]))
            return false;
    return true;
}

/* Without a name: they are hashed to clocks, and an entry that has the clock hears of the name. Two
 * names may share one, so their families are asked for too. Resource and prefixes come from the
 * key, so they are the same. */
static bool has_clocks_of(const struct etag_client *client, const struct entry *answered)
{
    const struct shm_view *view = &client->mapping.view;

    for (size_t i = 0; i < answered->surrogate_count; i++)
        if (!shm_entry_has_clock(&client->scratch.entry,
                                 clock_of_surrogate(view->header->hash_key, view->clock_count,
                                                    answered->surrogates[i])))
            return false;
    return answered->surrogate_count == 0 || has_families_of(client, answered);
}

/* An Expires is a distance from Date, and both are whole seconds: one second more or less is
 * rounding. */
static bool same_field(const struct kept_field *a, const struct kept_field *b)
{
    if (a->kind != b->kind)
        return false;
    if (a->kind == FIELDSET_EXPIRES)
        return a->offset_s - b->offset_s <= 1 && b->offset_s - a->offset_s <= 1;
    return str_equal(a->field.name, b->field.name) && str_equal(a->field.value, b->field.value);
}

static bool same_fields(struct etag_client *client, const struct entry *answered)
{
    struct lookup_scratch *scratch = &client->scratch;
    const struct shm_entry *entry = &scratch->entry;
    const int count = entry->fieldset_bytes > 0
                          ? fieldset_parse(entry->fieldset_words, entry->fieldset_bytes,
                                           scratch->kept)
                          : 0;

    if (count < 0 || (size_t)count != answered->field_count ||
        entry->content_location.len != answered->content_location.len ||
        !str_equal(entry->content_location, answered->content_location))
        return false;
    for (size_t i = 0; i < answered->field_count; i++)
        if (!same_field(&scratch->kept[i], &answered->fields[i]))
            return false;
    return true;
}

/* How the entry's time to live compares with the answer's. */
enum span { SPAN_FITS, SPAN_SHORT, SPAN_LONG };

static enum span span_of(const struct shm_entry *entry, uint64_t max_age_ms, uint64_t now_ns)
{
    if (max_age_ms == 0)
        return entry->expires_ns == UINT64_MAX ? SPAN_FITS : SPAN_SHORT;
    const uint64_t span_ns = min_of(max_age_ms, MAX_AGE_MS_MAX) * NS_PER_MS;
    if (entry->expires_ns > now_ns + span_ns)
        return SPAN_LONG;
    return entry->expires_ns - now_ns >= span_ns / 2 ? SPAN_FITS : SPAN_SHORT;
}

/* ---- The decision ---- */

/* What the limit compares: fields and time to live, since all else is not held back. */
static uint64_t hash_of_said(const struct etag_client *client, const struct entry *answered)
{
    uint8_t bytes[FIELDSET_BYTES_MAX + sizeof(uint64_t) + CONTENT_LOCATION_BYTES_MAX];
    const int packed = fieldset_pack(bytes, answered->fields, answered->field_count);
    size_t len = packed > 0 ? (size_t)packed : 0;

    store_u64(bytes + len, answered->max_age_ms);
    len += sizeof(uint64_t);
    copy_bytes(bytes + len, answered->content_location.data, answered->content_location.len);
    len += answered->content_location.len;
    return siphash13_64(client->mapping.view.header->hash_key, bytes, len) | 1;
}

/* Tells it from one that is filled later, which differs in one of these, or comes from a render of
 * the same moment. */
static uint64_t hash_of_entry(const struct etag_client *client)
{
    const struct shm_entry *entry = &client->scratch.entry;
    const uint64_t numbers[] = {entry->fill_lsn, entry->expires_ns,
                                siphash13_64(client->mapping.view.header->hash_key,
                                             entry->fieldset_words, entry->fieldset_bytes)};

    return siphash13_64(client->mapping.view.header->hash_key, numbers, sizeof(numbers)) | 1;
}

static enum refill_turn turn_of_current(struct etag_client *client, const struct entry *answered,
                                        struct refill_answer *answer)
{
    const struct shm_entry *entry = &client->scratch.entry;
    const enum span span = span_of(entry, answered->max_age_ms, answer->now_ns);

    answer->fingerprint = entry->fingerprint;
    if (!str_equal(entry->etag, answered->etag) ||
        entry->last_modified != answered->last_modified ||
        entry->last_modified_is_strong != answered->last_modified_is_strong ||
        !has_clocks_of(client, answered) || span == SPAN_SHORT)
        return refill_limit_fills(client->refill_limit, answer->fingerprint, false, answer->now_ns);
    if (span == SPAN_FITS && same_fields(client, answered))
        return REFILL_TURN_WAIT;
    /* A time to live that counts down comes with each answer, too. */
    if (!client->refill_limit)
        client->refill_limit = refill_limit_new();
    answer->said = hash_of_said(client, answered);
    answer->entry = hash_of_entry(client);
    const enum refill_turn turn = refill_limit_differs(client->refill_limit, *answer);
    counter_add(&client->counters->fills_held_back, turn != REFILL_TURN_SEND);
    return turn;
}

static enum refill_turn turn_of(struct etag_client *client, const struct rendering *rendering,
                                struct hash128 fingerprint, struct refill_answer *answer)
{
    const enum look look = look_again(client, rendering->request.fill.token, fingerprint);

    *answer = (struct refill_answer){.fingerprint = fingerprint, .now_ns = time_coarse_ns()};
    if (look == LOOK_CURRENT)
        return turn_of_current(client, &rendering->request.fill.entry, answer);
    if (look == LOOK_NEWER)
        return REFILL_TURN_WAIT;
    const enum refill_turn turn = refill_limit_fills(client->refill_limit, answer->fingerprint,
                                                     look == LOOK_MISSING, answer->now_ns);
    counter_add(&client->counters->fills_held_back, turn != REFILL_TURN_SEND);
    return turn;
}

/* A 200 that can't be stored says that the entry is wrong: with another tag, or none, in any case.
 * With the same tag the bytes are the entry's; only a reason that forbids to answer them from a
 * cache at all counts, not one of this answer alone (a cookie that it sets). */
static bool is_refuted(const struct shm_entry *entry, const struct rendering *rendering)
{
    switch ((int)rendering->reason) {
    case ETAG_REASON_METHOD:
    case ETAG_REASON_HTTP_STATUS:
    case ETAG_REASON_CONTENT_RANGE:
        return false;
    case ETAG_REASON_NO_STORE:
    case ETAG_REASON_PRIVATE:
    case ETAG_REASON_VARY_STAR:
    case ETAG_REASON_VARY_UNCOVERED:
        return true;
    default:
        return !str_equal(entry->etag, rendering->request.fill.entry.etag);
    }
}

static bool may_retire(enum look look)
{
    return look == LOOK_CURRENT || look == LOOK_FLUX;
}

static void answered_storable(struct etag_client *client, struct rendering *rendering,
                              struct hash128 fingerprint)
{
    struct refill_answer answer; /* asked before: sending may change the mapping */
    const enum refill_turn turn = turn_of(client, rendering, fingerprint, &answer);

    switch (turn) {
    case REFILL_TURN_SEND:
        if (fill_send(client, rendering) != ETAG_OK)
            refill_limit_unsent(client->refill_limit, answer.fingerprint);
        break;
    case REFILL_TURN_RETIRE:
        if (fill_send_retire(client, rendering->request.fill.token,
                             &rendering->request.fill.entry.key) == ETAG_OK)
            refill_limit_retired(client->refill_limit, answer);
        break;
    case REFILL_TURN_WAIT:
        break;
    }
}

void refill_answered(struct etag_client *client, struct rendering *rendering, bool is_of_the_entry,
                     struct refill_place place)
{
    const etag_token token = rendering->request.fill.token;
    const struct entry *answered = &rendering->request.fill.entry;
    const struct hash128 fingerprint = is_known(place)       ? place.fingerprint
                                       : !rendering->bad_key ? fingerprint_of(client)
                                                             : place.fingerprint;

    if (!rendering->bad_key && rendering->reason == ETAG_REASON_NONE) {
        (void)shadow_compare(client, &answered->key, token, answered->etag);
        answered_storable(client, rendering, fingerprint);
        return;
    }
    (void)!fill_send(client, rendering); /* counts why not */
    if (!rendering->bad_key && is_of_the_entry &&
        may_retire(look_again(client, token, fingerprint)) &&
        is_refuted(&client->scratch.entry, rendering))
        (void)!fill_send_retire(client, token, &answered->key);
}

bool refill_is_gone(int http_status)
{
    return http_status == 404 || http_status == 410 || http_status == 301 || http_status == 308;
}

bool refill_finds_nothing(struct etag_client *client, struct refill_place place)
{
    return is_known(place) && lookup_finds_nothing(client, place.fingerprint);
}

void refill_gone(struct etag_client *client, etag_token token, const etag_key *key)
{
    if (!key_canonicalize(&client->scratch.key, key) &&
        may_retire(look_again(client, token, fingerprint_of(client))))
        (void)!fill_send_retire(client, token, key);
}
