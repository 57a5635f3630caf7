/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The short way to a 304, for what most requests are: a GET or HEAD that asks whether one tag is
 * still the current one, where it is. short_way_check() says it, or leaves the request to the
 * general way, lookup.c, which is the documented truth: the short way never says anything else.
 *
 * Left to the general way:
 *
 *   the request     another condition, or several tags; a method that may change something;
 *                   require_if_match, compression_suffixes, shadow mode; a key or answer of another
 *                   size than this library's
 *   the key         a site that was not seen before; and, since there is no entry under their
 *                   strings, all keys that are not canonical as they are (key_site.h)
 *   the entry       none, or not plain (shm.h); a field set that was not seen before, or has an
 *                   Expires; stale, in flux, expired, changed while it was read; another tag
 *   the lease       over
 *
 * Nothing here decides what the general way would decide otherwise: test_short_way and fuzz_mapping
 * compare the two, member by member.
 *
 * The rules are those of lookup.c in the same order: deadline (DEADLINE_FIRST), sequence, copy,
 * clocks, sequence again (REREAD), time (TIME_LAST).
 */
#ifndef LIBETAG_SHORT_WAY_H
#define LIBETAG_SHORT_WAY_H

#include "delay_point.h"
#include "lookup.h"
#include "precondition.h"

/* All of it inline: etag_check() is made of it, and saves the calls. */
#define SHORT_WAY __attribute__((always_inline)) static inline

/* What is looked up, and the tag that it is compared with, which borrows from the request. */
struct short_way {
    struct hash128 fingerprint;
    struct entity_tag listed;
};

SHORT_WAY bool request_is_usual(const struct etag_client *client, const etag_request *request,
                                const etag_answer *out)
{
    return out && out->size == sizeof(*out) &&
           !(client->shadows | request->shadow | request->require_if_match);
}

SHORT_WAY bool key_is_found(struct etag_client *client, const etag_request *request,
                            struct hash128 *fingerprint)
{
    if (is_prepared(client, request)) {
        *fingerprint = prepared_fingerprint(request);
        return true;
    }
    return request->key && request->key->size == sizeof(*request->key) &&
           key_sites_fingerprint(&client->scratch.sites, client->mapping.view.header->hash_key,
                                 request->key, fingerprint);
}

/* There is no 304 here: but the general way need not hash the key again, if it is canonical. */
static inline bool short_way_leave(const struct short_way *way, struct etag_client *client,
                                   const etag_request *request)
{
    if (is_prepared(client, request) || key_is_canonical(request->key))
        client->scratch.place = way->fingerprint;
    return false;
}

/* Returns false if the request is left to the general way. The mapping must exist, and the deadline
 * have been loaded. out: as the caller gave it. */
SHORT_WAY bool short_way_begin(struct short_way *way, struct etag_client *client,
                               const etag_request *request, const etag_answer *out)
{
    return request_is_usual(client, request, out) &&
           key_is_found(client, request, &way->fingerprint) &&
           (precondition_only_tag(request, &way->listed) || short_way_leave(way, client, request));
}

/* Returns whether the entry, read before 'now_ns' was, answers 304. */
SHORT_WAY bool short_way_ends(const struct short_way *way, const struct shm_plain *plain,
                              uint64_t deadline_ns, uint64_t now_ns)
{
    const etag_str tag = {plain->detail.etag, plain->detail.etag_len};

    return !lease_is_over(deadline_ns, now_ns) && now_ns < plain->expires_ns &&
           entity_tag_equal_weak(way->listed, entity_tag_divide(tag));
}

/* Makes the answer. fields: those of the known set, and a place before them for the tag. */
SHORT_WAY void short_way_answer(const struct short_way *way, const struct shm_plain *plain,
                                etag_field *fields, size_t field_count, etag_token token,
                                etag_answer *out)
{
    const etag_str tag = {plain->detail.etag, plain->detail.etag_len};

    fields[0] = (etag_field){ETAG_LIT("ETag"), tag};
    /* Member by member: of a whole struct the compiler makes zeros first. */
    out->verdict = ETAG_NOT_MODIFIED;
    out->reason = ETAG_REASON_MATCH;
    out->etag = tag;
    out->last_modified = plain->detail.last_modified;
    out->fields = fields;
    out->field_count = 1 + field_count;
    out->fill_lsn = plain->fill_lsn;
    out->token = token;
    out->range = ETAG_RANGE_NONE;
    out->place[0] = way->fingerprint.low;
    out->place[1] = way->fingerprint.high;
}

/* request: as abi_in() returned it, not NULL. out: as the caller gave it. Returns true if *out is
 * the answer, 304, and counted. False: nothing has happened, but scratch.place, if it is not zero,
 * is the fingerprint of the request's key. */
SHORT_WAY bool short_way_check(struct etag_client *client, const etag_request *request,
                               etag_token token, etag_answer *out)
{
    struct lookup_scratch *const scratch = &client->scratch;
    const struct shm_view *const view = &client->mapping.view;
    struct short_way way;

    if (!client->mapping.base)
        return false;
    const uint64_t deadline_ns = shm_lease_load(view);
    if (!short_way_begin(&way, client, request, out))
        return false;
    DELAY_POINT("lookup.deadline_slot");
    if (!shm_plain_find(view, way.fingerprint, scratch->known, &scratch->plain))
        return short_way_leave(&way, client, request);
    DELAY_POINT("lookup.clocks_time");
    if (!short_way_ends(&way, &scratch->plain, deadline_ns, time_coarse_ns()))
        return short_way_leave(&way, client, request);
    struct known_fields *const known =
        &scratch->known_fields[shm_known_place(scratch->plain.detail.fieldset)];
    short_way_answer(&way, &scratch->plain, known->fields, known->count, token, out);
    counter_add(&client->counters->checks, 1);
    counter_add(&client->counters->not_modified, 1);
    return true;
}

#endif
