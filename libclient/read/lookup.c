/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lookup, top-down (docs/architecture.md): first the lease's deadline, then the key's entry and
 * its clocks, then the time, and at the end the preconditions. No system call, no lock, no
 * allocation; an answer points into the client's scratch. Most requests end before, on a short way
 * to a 304 (short_way.h), for which this one is the truth.
 *
 * Everything that is not known for sure is ETAG_UNKNOWN with its reason. If the lease is over, that
 * is the reason, whatever else was found: without a lease the memory proves nothing, not even that
 * an entry is missing.
 */
#include "lookup.h"

#include "delay_point.h"
#include "precondition.h"
#include "shadow.h"
#include "short_way.h"

/* The parts of etag_check() are inlined in it; lookup_state(), which is seldom called,
 * has a copy. */
#define INLINED static inline __attribute__((always_inline))

static bool entry_is_expired(const struct shm_entry *entry, uint64_t now_ns)
{
    return now_ns >= entry->expires_ns;
}

etag_token etag_token_now(const etag_client *client)
{
    if (!client->mapping.base)
        return (etag_token){0};
    return (etag_token){.incarnation = client->mapping.view.header->incarnation_id,
                        .lsn = shm_lsn_load(&client->mapping.view)};
}

/* ---- The entry ---- */

/* The fingerprint of the request's key as the place in scratch, unless the short way has found it.
 * Of a key that is not prepared the canonical form is there then, and its site is kept. */
INLINED bool key_is_good(struct etag_client *client, const etag_request *request,
                         const etag_request *given)
{
    struct lookup_scratch *scratch = &client->scratch;
    const uint8_t *const hash_key = client->mapping.view.header->hash_key;
    etag_key copy;

    if (!hash128_is_zero(scratch->place))
        return true;
    if (request && is_prepared(client, request)) {
        scratch->place = prepared_fingerprint(request);
        return true;
    }
    const etag_key *key = request ? abi_in(request->key, &copy, sizeof(copy), ABI_FIRST_KEY) : NULL;
    const char *wrong = !request ? ABI_WHY(given, sizeof(*given), "request")
                        : !request->key
                            ? request->prepared
                                  ? "it was prepared for another run of the daemon, and "
                                    "the request has no other"
                                  : "the request has no key"
                        : !key ? ABI_WHY(request->key, sizeof(copy), "key")
                               : key_canonicalize(&scratch->key, key);

    if (wrong) {
        fault_set(&client->fault, ETAG_INVALID, "bad key: %s", wrong);
        return false;
    }
    const struct sip_state site = key_site_state(hash_key, &scratch->key);
    scratch->place = key_fingerprint_after(site, &scratch->key);
    key_sites_keep(&scratch->sites, hash_key, key, site);
    return true;
}

/* What the memory says of the key with this fingerprint, the time aside. */
INLINED etag_reason entry_state(struct etag_client *client, struct hash128 fingerprint)
{
    const struct shm_view *view = &client->mapping.view;
    struct lookup_scratch *scratch = &client->scratch;

    switch (shm_look(view, fingerprint, &scratch->entry)) {
    case SHM_FOUND:
        break;
    case SHM_MISSING:
        return ETAG_REASON_NO_ENTRY;
    case SHM_TORN:
    default:
        return ETAG_REASON_TORN;
    }
    if (scratch->entry.newer != 0)
        return scratch->entry.newer & CLOCK_IN_FLUX ? ETAG_REASON_IN_FLUX : ETAG_REASON_STALE;
    return ETAG_REASON_VALID;
}

/* VALID: scratch.entry is current. The mapping exists; the deadline was loaded before anything
 * else. */
INLINED etag_reason look_under_lease(struct etag_client *client, struct hash128 fingerprint,
                                     uint64_t deadline_ns)
{
    DELAY_POINT("lookup.deadline_slot");
    const etag_reason state = entry_state(client, fingerprint);
    DELAY_POINT("lookup.clocks_time");
    const uint64_t now_ns = time_coarse_ns();
    if (lease_is_over(deadline_ns, now_ns))
        return ETAG_REASON_NO_LEASE;
    if (state == ETAG_REASON_VALID && entry_is_expired(&client->scratch.entry, now_ns))
        return ETAG_REASON_EXPIRED;
    return state;
}

/* request: NULL where 'given', which it is read of, cannot be. */
INLINED etag_reason look_up(struct etag_client *client, const etag_request *request,
                            const etag_request *given)
{
    if (!client->mapping.base)
        return ETAG_REASON_NO_INDEX;
    const uint64_t deadline_ns = shm_lease_load(&client->mapping.view);
    if (!key_is_good(client, request, given))
        return ETAG_REASON_BAD_KEY;
    return look_under_lease(client, client->scratch.place, deadline_ns);
}

etag_reason lookup_again(struct etag_client *client, struct hash128 fingerprint)
{
    if (!client->mapping.base)
        return ETAG_REASON_NO_INDEX;
    return look_under_lease(client, fingerprint, shm_lease_load(&client->mapping.view));
}

bool lookup_finds_nothing(struct etag_client *client, struct hash128 fingerprint)
{
    return !client->mapping.base ||
           shm_find(&client->mapping.view, fingerprint, &client->scratch.entry) == SHM_MISSING;
}

etag_reason lookup_state(struct etag_client *client, const etag_key *key)
{
    const etag_request request = {.size = sizeof(request), .key = key};

    client->scratch.place = (struct hash128){0};
    return look_up(client, &request, &request);
}

/* ---- The answer ---- */

/* The entry is current: what the request's conditions make of it. */
static void judge(struct etag_client *client, const etag_request *request, etag_answer *answer)
{
    struct lookup_scratch *scratch = &client->scratch;
    const struct shm_entry *entry = &scratch->entry;
    const etag_validators validators = {.size = sizeof(validators),
                                        .existence = ETAG_EXISTS,
                                        .etag = entry->etag,
                                        .last_modified = entry->last_modified,
                                        .last_modified_is_strong = entry->last_modified_is_strong};
    const struct judgement judgement = precondition_judge(request, &validators, DATES_STRONG);

    if (!answer_from_entry(answer, scratch, &client->repeated, judgement.verdict,
                           judgement.reason)) {
        answer->reason = ETAG_REASON_TORN;
        return;
    }
    if (judgement.verdict == ETAG_PROCEED)
        answer->range = precondition_range(request, &validators);
}

static uint64_t *counter_of(struct counters *counters, const etag_answer *answer)
{
    switch (answer->verdict) {
    case ETAG_NOT_MODIFIED:
        return &counters->not_modified;
    case ETAG_PRECONDITION_FAILED:
        return &counters->precondition_failed;
    case ETAG_PRECONDITION_REQUIRED:
        return &counters->precondition_required;
    case ETAG_PROCEED:
        return &counters->proceed;
    case ETAG_UNKNOWN:
    default:
        break;
    }
    switch ((int)answer->reason) {
    case ETAG_REASON_NO_INDEX:
        return &counters->unknown_no_index;
    case ETAG_REASON_NO_LEASE:
        return &counters->unknown_no_lease;
    case ETAG_REASON_NO_ENTRY:
        return &counters->unknown_no_entry;
    case ETAG_REASON_STALE:
        return &counters->unknown_stale;
    case ETAG_REASON_IN_FLUX:
        return &counters->unknown_in_flux;
    case ETAG_REASON_EXPIRED:
        return &counters->unknown_expired;
    case ETAG_REASON_BAD_KEY:
        return &counters->unknown_bad_key;
    default:
        return &counters->unknown_torn;
    }
}

/* ---- Shadow mode ---- */

static bool is_shadowed(const struct etag_client *client, const etag_request *request)
{
    return client->shadows || (request && request->shadow);
}

/* It came from the memory: a 428 comes from the request alone. */
static bool answer_is_known(const etag_answer *answer)
{
    return answer->verdict != ETAG_UNKNOWN && answer->verdict != ETAG_PRECONDITION_REQUIRED;
}

/* ---- The two ways ---- */

/* request: NULL where 'given', which it is read of, cannot be. */
etag_verdict lookup_check(struct etag_client *client, const etag_request *request,
                          const etag_request *given, etag_token token, etag_answer *out)
{
    etag_answer answer = {.size = sizeof(answer),
                          .verdict = ETAG_UNKNOWN,
                          .last_modified = ETAG_NO_DATE,
                          .token = token};

    if (request && precondition_missing(request)) { /* whatever the memory says */
        answer.verdict = ETAG_PRECONDITION_REQUIRED;
        answer.reason = ETAG_REASON_REQUIRED;
    } else {
        answer.reason = look_up(client, request, given);
    }
    switch ((int)answer.reason) {
    case ETAG_REASON_VALID:
        answer.fill_lsn = client->scratch.entry.fill_lsn;
        judge(client, request, &answer);
        break;
    case ETAG_REASON_STALE:
    case ETAG_REASON_IN_FLUX:
    case ETAG_REASON_EXPIRED:
        answer.fill_lsn = client->scratch.entry.fill_lsn;
        break;
    default:
        break;
    }
    uint64_t *counter = counter_of(client->counters, &answer);
    if (__builtin_expect(is_shadowed(client, request), 0) && answer_is_known(&answer))
        counter = shadow_veil(client, &answer);
    answer.place[0] = client->scratch.place.low;
    answer.place[1] = client->scratch.place.high;
    counter_add(&client->counters->checks, 1);
    counter_add(counter, 1);
    return abi_out(out, &answer, sizeof(answer), ABI_FIRST_ANSWER) ? answer.verdict : ETAG_UNKNOWN;
}

etag_verdict etag_check(etag_client *client, const etag_request *given, etag_token token,
                        etag_answer *out)
{
    etag_request copy;

    client_notice_fork(client);
    client->scratch.known_in_use = 0;
    client->scratch.place = (struct hash128){0};
    const etag_request *request = abi_in(given, &copy, sizeof(copy), ABI_FIRST_REQUEST);
    if (request && short_way_check(client, request, token, out))
        return ETAG_NOT_MODIFIED;
    return lookup_check(client, request, given, token, out);
}
