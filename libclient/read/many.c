/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many lookups at once. What a lookup in a large index waits for is memory: the slot, then the
 * clocks. So all of a batch take each step before one of them takes the next, and their loads
 * overlap: hash, fetch the homes, fetch the slots, find the slot and fetch the clocks, read. Each
 * step is a loop of its own, since a processor translates addresses side by side only where nothing
 * is in between.
 *
 * All of it is the short way (short_way.h), with one deadline, loaded before everything, and one
 * time, read after everything. What that leaves goes the general way afterwards, one by one, each
 * with a deadline and a time of its own.
 *
 * An answer of the general way is in the client's scratch, where the next one comes: so it is
 * copied. One of the short way refers to a field set that the scratch has kept; that place is
 * marked as in use, so that none of the others gives it to another set.
 */
#include "short_way.h"

#include <assert.h>
#include <stdlib.h>

/* An answer's tag, Content-Location, and fields with an Expires each, as copies. */
#define MANY_TEXT_BYTES                                                                            \
    (2 * ENTITY_TAG_BYTES_MAX + CONTENT_LOCATION_BYTES_MAX + FIELDSET_BYTES_MAX + 64 +             \
     FIELDS_PER_ENTRY_MAX * (HTTP_DATE_BYTES + 8))

struct many_answer {
    struct shm_plain plain;
    etag_field fields[ANSWER_FIELDS_MAX];
    size_t text_len;
    char text[MANY_TEXT_BYTES];
};

struct many {
    struct many_answer answers[ETAG_CHECKS_MAX];
};

/* One of the batch, between two steps. */
struct one {
    const etag_request *request;
    etag_request copy;
    etag_answer *out;
    struct short_way way;
    uint64_t slot;
    /* way.fingerprint is there; and it is still on the short way */
    bool is_hashed, is_short;
};

/* ---- The arguments ---- */

/* The elements of an array have the size that the caller's header gives them: all the same. */
static bool array_is_even(const void *array, size_t count)
{
    const size_t size = abi_size(array);

    for (size_t i = 1; i < count; i++)
        if (abi_size((const char *)array + i * size) != size)
            return false;
    return size >= sizeof(size_t) && size <= ABI_BYTES_MAX;
}

static const char *wrong_with(const etag_request *requests, size_t count,
                              const etag_answer *answers)
{
    if (count > ETAG_CHECKS_MAX)
        return "more than ETAG_CHECKS_MAX requests";
    if (!requests || !answers)
        return "no requests, or no answers";
    return array_is_even(requests, count) && array_is_even(answers, count)
               ? NULL
               : "the size of a request or an answer is not set, or not that of the others";
}

/* ---- The steps ---- */

static void step_hash(struct etag_client *client, struct one *ones, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct one *const one = &ones[i];
        one->is_hashed = one->is_short = client->mapping.base && one->request &&
                                         short_way_begin(&one->way, client, one->request, one->out);
    }
}

static void steps_fetch(const struct shm_view *view, struct one *ones, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (ones[i].is_short)
            shm_expect_home(view, ones[i].way.fingerprint);
    for (size_t i = 0; i < count; i++)
        if (ones[i].is_short)
            shm_expect_slots(view, ones[i].way.fingerprint);
    for (size_t i = 0; i < count; i++)
        if (ones[i].is_short)
            ones[i].slot = shm_plain_slot(view, ones[i].way.fingerprint);
}

static void step_read(struct etag_client *client, struct one *ones, size_t count)
{
    const struct shm_view *const view = &client->mapping.view;

    for (size_t i = 0; i < count; i++) {
        struct one *const one = &ones[i];
        one->is_short = one->is_short && one->slot != SHM_NO_SLOT &&
                        shm_plain_read(view, one->slot, one->way.fingerprint, client->scratch.known,
                                       &client->many->answers[i].plain);
    }
}

static void answer_shortly(struct etag_client *client, const struct one *one,
                           struct many_answer *room, etag_token token)
{
    struct lookup_scratch *const scratch = &client->scratch;
    const size_t place = shm_known_place(room->plain.detail.fieldset);
    const struct known_fields *const known = &scratch->known_fields[place];

    for (size_t i = 1; i <= known->count; i++)
        room->fields[i] = known->fields[i];
    scratch->known_in_use |= 1u << place;
    short_way_answer(&one->way, &room->plain, room->fields, known->count, token, one->out);
}

/* ---- What the short way leaves ---- */

static etag_str text_keep(struct many_answer *room, etag_str text)
{
    char *const to = room->text + room->text_len;

    if (!text.data)
        return text;
    assert(text.len <= sizeof(room->text) - room->text_len);
    memcpy(to, text.data, text.len);
    room->text_len += text.len;
    return (etag_str){to, text.len};
}

/* out: as the caller gave it, so that of a member which it has no room for nothing is known. */
static void answer_keep(struct many_answer *room, etag_answer *out)
{
    room->text_len = 0;
    if (out->size < ABI_FIRST_ANSWER)
        return;
    out->etag = text_keep(room, out->etag);
    for (size_t i = 0; i < out->field_count; i++)
        room->fields[i] = (etag_field){text_keep(room, out->fields[i].name),
                                       text_keep(room, out->fields[i].value)};
    if (out->field_count > 0)
        out->fields = room->fields;
}

static void answer_generally(struct etag_client *client, struct one *one, const etag_request *given,
                             struct many_answer *room, etag_token token)
{
    client->scratch.place = (struct hash128){0};
    if (one->is_hashed)
        (void)short_way_leave(&one->way, client, one->request);
    (void)lookup_check(client, one->request, given, token, one->out);
    answer_keep(room, one->out);
}

/* ---- All of it ---- */

static void check_all(struct etag_client *client, const etag_request *given, struct one *ones,
                      size_t count, etag_token token)
{
    /* Rules DEADLINE_FIRST and TIME_LAST, for the whole batch. */
    const uint64_t deadline_ns = client->mapping.base ? shm_lease_load(&client->mapping.view) : 0;

    step_hash(client, ones, count);
    DELAY_POINT("lookup.deadline_slot");
    steps_fetch(&client->mapping.view, ones, count);
    step_read(client, ones, count);
    DELAY_POINT("lookup.clocks_time");
    const uint64_t now_ns = time_coarse_ns();
    size_t short_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct many_answer *const room = &client->many->answers[i];
        ones[i].is_short = ones[i].is_short &&
                           short_way_ends(&ones[i].way, &room->plain, deadline_ns, now_ns);
        if (ones[i].is_short)
            answer_shortly(client, &ones[i], room, token);
        short_count += ones[i].is_short;
    }
    counter_add(&client->counters->checks, short_count);
    counter_add(&client->counters->not_modified, short_count);
    const size_t stride = abi_size(given);
    for (size_t i = 0; i < count; i++)
        if (!ones[i].is_short)
            answer_generally(client, &ones[i],
                             (const etag_request *)((const char *)given + i * stride),
                             &client->many->answers[i], token);
}

etag_status etag_check_many(etag_client *client, const etag_request *requests, size_t count,
                            etag_token token, etag_answer *answers)
{
    struct one ones[ETAG_CHECKS_MAX];

    if (count == 0)
        return ETAG_OK;
    const char *const wrong = wrong_with(requests, count, answers);
    if (wrong)
        return fault_set(&client->fault, ETAG_INVALID, "%s", wrong);
    client_notice_fork(client);
    client->scratch.known_in_use = 0;
    if (!client->many)
        client->many = calloc(1, sizeof(*client->many));
    if (!client->many)
        return fault_set(&client->fault, ETAG_SYSTEM, "no memory for the answers");
    for (size_t i = 0; i < count; i++) {
        const char *const given = (const char *)requests + i * abi_size(requests);
        ones[i].request = abi_in(given, &ones[i].copy, sizeof(ones[i].copy), ABI_FIRST_REQUEST);
        ones[i].out = (etag_answer *)((char *)answers + i * abi_size(answers));
    }
    check_all(client, requests, ones, count, token);
    return ETAG_OK;
}
