/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages: the only file that knows the generated protobuf types. One table describes the
 * members of each message; packing, checking and unpacking use the table (wire.c), so that the two
 * ends can't drift apart. A pair of small functions beside it does what a table can't express (a
 * value that means "absent", a size to set).
 */
#include "message.h"

#include "etagd.pb-c.h"
#include "wire.h"

#include <assert.h>

#define W(name) Etagd__Wire__##name

/* ---- Names and entries ---- */

#define TYPE(name, our_type)                                                                       \
    .descriptor = &etagd__wire__##name##__descriptor, .bytes = sizeof(our_type)
#define MEMBERS(array) .members = (array), .member_count = sizeof(array) / sizeof((array)[0])

static bool scope_kind_known(uint32_t kind)
{
    return kind <= ETAG_SCOPE_NAMED;
}

static bool reason_known(uint32_t reason)
{
    switch (reason) {
#define REASON_CASE(name, value, word, text) case value:
        ETAG_REASONS(REASON_CASE)
#undef REASON_CASE
        return true;
    default:
        return false;
    }
}

static bool target_kind_known(uint32_t kind)
{
    return kind == TARGET_EVERYTHING || kind == TARGET_RESOURCE || kind == TARGET_PREFIX ||
           kind == TARGET_SURROGATE || kind == TARGET_FAMILY;
}

bool event_kind_known(uint32_t kind)
{
    return kind <= EVENT_GUARD_EXPIRED;
}

const char *event_kind_word(uint32_t kind)
{
    static const char *const words[] = {
#define EVENT_KIND_WORD(name, number, word) [number] = word,
        EVENT_KINDS(EVENT_KIND_WORD)
#undef EVENT_KIND_WORD
    };

    return event_kind_known(kind) ? words[kind] : "unknown";
}

static bool reach_known(uint32_t reach)
{
    return reach <= ETAG_REACH_EVERYWHERE;
}

static bool proof_known(uint32_t proof)
{
    return proof <= ETAG_PROOF_TIME;
}

static bool outcome_known(uint32_t outcome)
{
    return outcome >= RELAY_LOGGED && outcome <= RELAY_REFUSED;
}

static bool relay_mode_known(uint32_t mode)
{
    return mode <= RELAY_REQUIRED;
}

const char *relay_mode_word(uint32_t mode)
{
    static const char *const words[] = {
#define RELAY_MODE_WORD(name, number, word) [number] = word,
        RELAY_MODES(RELAY_MODE_WORD)
#undef RELAY_MODE_WORD
    };

    return relay_mode_known(mode) ? words[mode] : "unknown";
}

static const struct wire_member resource_members[] = {
    {1, TEXT, offsetof(etag_resource, host)},
    {2, TEXT, offsetof(etag_resource, target)},
};
static const struct wire_type resource_type = {TYPE(resource, etag_resource),
                                               MEMBERS(resource_members)};

static const struct wire_member vary_members[] = {
    {1, TEXT, offsetof(etag_field, name)},
    {2, TEXT, offsetof(etag_field, value)},
};
static const struct wire_type vary_type = {TYPE(vary_field, etag_field), MEMBERS(vary_members)};

static const char *key_unpacked(const void *wire, void *ours)
{
    ((etag_key *)ours)->size = sizeof(etag_key);
    return NULL;
}

static const struct wire_member key_members[] = {
    {1, ONE, offsetof(etag_key, resource), .type = &resource_type},
    {2, NUMBER32, offsetof(etag_key, scope.kind), .known = scope_kind_known},
    {3, TEXT, offsetof(etag_key, scope.name)},
    {4, TEXT, offsetof(etag_key, release)},
    {5, EACH, offsetof(etag_key, vary), offsetof(etag_key, vary_count), &vary_type,
     .max = VARY_COUNT_MAX},
    {6, TEXT, offsetof(etag_key, scheme)},
};
static const struct wire_type key_type = {TYPE(key, etag_key), MEMBERS(key_members),
                                          .unpacked = key_unpacked};

static void kept_field_packed(const void *ours, void *wire)
{
    const struct kept_field *const kept = ours;

    W(KeptField) *const message = wire;
    if (kept->kind != FIELDSET_EXPIRES)
        return;
    message->presence_case = ETAGD__WIRE__KEPT_FIELD__PRESENCE_EXPIRES_OFFSET_S;
    message->expires_offset_s = kept->offset_s;
}

static const char *kept_field_unpacked(const void *wire, void *ours)
{
    struct kept_field *const kept = ours;

    const W(KeptField) *const message = wire;
    if (message->presence_case != ETAGD__WIRE__KEPT_FIELD__PRESENCE_EXPIRES_OFFSET_S)
        return NULL;
    kept->kind = FIELDSET_EXPIRES;
    kept->offset_s = message->expires_offset_s;
    return NULL;
}

static const struct wire_member kept_field_members[] = {
    {1, TEXT, offsetof(struct kept_field, field.name)},
    {2, TEXT, offsetof(struct kept_field, field.value)},
};
static const struct wire_type kept_field_type = {TYPE(kept_field, struct kept_field),
                                                 MEMBERS(kept_field_members), kept_field_packed,
                                                 kept_field_unpacked};

static void entry_packed(const void *ours, void *wire)
{
    const struct entry *const entry = ours;

    W(Entry) *const message = wire;
    if (entry->last_modified == ETAG_NO_DATE)
        return;
    message->presence_case = ETAGD__WIRE__ENTRY__PRESENCE_LAST_MODIFIED;
    message->last_modified = entry->last_modified;
}

static const char *entry_unpacked(const void *wire, void *ours)
{
    const W(Entry) *const message = wire;
    const bool dated = message->presence_case == ETAGD__WIRE__ENTRY__PRESENCE_LAST_MODIFIED;
    ((struct entry *)ours)->last_modified = dated ? message->last_modified : ETAG_NO_DATE;
    return NULL;
}

static const struct wire_member entry_members[] = {
    {1, ONE, offsetof(struct entry, key), .type = &key_type},
    {2, TEXT, offsetof(struct entry, etag)},
    {4, EACH, offsetof(struct entry, fields), offsetof(struct entry, field_count), &kept_field_type,
     .max = FIELDS_PER_ENTRY_MAX},
    {5, TEXT, offsetof(struct entry, content_location)},
    {6, TEXTS, offsetof(struct entry, surrogates), offsetof(struct entry, surrogate_count),
     .max = SURROGATES_PER_ENTRY_MAX},
    {7, NUMBER64, offsetof(struct entry, max_age_ms)},
    {8, FLAG, offsetof(struct entry, last_modified_is_strong)},
};
static const struct wire_type entry_type = {TYPE(entry, struct entry), MEMBERS(entry_members),
                                            entry_packed, entry_unpacked};

static const char *targets_unpacked(const void *wire, void *ours)
{
    ((etag_targets *)ours)->size = sizeof(etag_targets);
    return NULL;
}

/* The four kinds of names share one bound. */
static const struct wire_member targets_members[] = {
    {1, EACH, offsetof(etag_targets, resources), offsetof(etag_targets, resource_count),
     &resource_type, .max = TARGETS_PER_EVENT_MAX, .counted_as = 1},
    {2, TEXTS, offsetof(etag_targets, surrogates), offsetof(etag_targets, surrogate_count),
     .max = TARGETS_PER_EVENT_MAX, .counted_as = 1},
    {3, EACH, offsetof(etag_targets, prefixes), offsetof(etag_targets, prefix_count),
     &resource_type, .max = TARGETS_PER_EVENT_MAX, .counted_as = 1},
    {4, FLAG, offsetof(etag_targets, everything)},
    {5, NUMBER32, offsetof(etag_targets, hold_ms)},
    {6, NUMBER32, offsetof(etag_targets, max_ms)},
    {7, NUMBER32, offsetof(etag_targets, reach), .known = reach_known},
    {8, NUMBER64, offsetof(etag_targets, position)},
    {9, TEXTS, offsetof(etag_targets, families), offsetof(etag_targets, family_count),
     .max = TARGETS_PER_EVENT_MAX, .counted_as = 1},
};
static const struct wire_type targets_type = {TYPE(targets, etag_targets), MEMBERS(targets_members),
                                              .unpacked = targets_unpacked};

static const struct wire_type empty_type = {TYPE(empty, struct request)};

/* ---- Bodies of requests ---- */

typedef __typeof__(((struct request *)NULL)->hello) request_hello;
typedef __typeof__(((struct request *)NULL)->fill) request_fill;
typedef __typeof__(((struct request *)NULL)->guard) request_guard;
typedef __typeof__(((struct request *)NULL)->list) request_list;
typedef __typeof__(((struct request *)NULL)->clients) request_clients;
typedef __typeof__(((struct request *)NULL)->log) request_log;
typedef __typeof__(((struct request *)NULL)->relay_hello) request_relay_hello;
typedef __typeof__(((struct request *)NULL)->relay_done) request_relay_done;

static const struct wire_member hello_members[] = {
    {1, NUMBER32, offsetof(request_hello, protocol)},
    {2, TEXT, offsetof(request_hello, software)},
};
static const struct wire_type hello_type = {TYPE(hello, request_hello), MEMBERS(hello_members)};

static const struct wire_member token_members[] = {
    {1, NUMBER64, offsetof(etag_token, incarnation)},
    {2, NUMBER64, offsetof(etag_token, lsn)},
};
static const struct wire_type token_type = {TYPE(token, etag_token), MEMBERS(token_members)};

static const struct wire_member fill_members[] = {
    {1, ONE, offsetof(request_fill, token), .type = &token_type},
    {2, ONE, offsetof(request_fill, entry), .type = &entry_type},
    {3, FLAG, offsetof(request_fill, want_verdict)},
    {4, FLAG, offsetof(request_fill, gone)},
};
static const struct wire_type fill_type = {TYPE(fill, request_fill), MEMBERS(fill_members)};

static const struct wire_member guard_members[] = {
    {1, NUMBER64, offsetof(request_guard, id.high)},
    {2, NUMBER64, offsetof(request_guard, id.low)},
    {3, ONE, offsetof(request_guard, targets), .type = &targets_type},
};
static const struct wire_type guard_type = {TYPE(guard, request_guard), MEMBERS(guard_members)};

static const struct wire_member list_members[] = {
    {1, TEXT, offsetof(request_list, prefix)},
    {2, NUMBER32, offsetof(request_list, limit)},
    {3, TEXT, offsetof(request_list, after)},
};
static const struct wire_type list_type = {TYPE(list, request_list), MEMBERS(list_members)};

static const struct wire_member clients_members[] = {
    {1, NUMBER32, offsetof(request_clients, after)},
};
static const struct wire_type clients_type = {TYPE(clients, request_clients),
                                              MEMBERS(clients_members)};
static const struct wire_member log_members[] = {
    {1, NUMBER64, offsetof(request_log, from_lsn)},
    {2, NUMBER64, offsetof(request_log, until_lsn)},
    {3, NUMBER64, offsetof(request_log, since_wall_ms)},
    {4, NUMBER64, offsetof(request_log, until_wall_ms)},
    {5, NUMBER32, offsetof(request_log, limit)},
    {6, FLAG, offsetof(request_log, newest_first)},
};
static const struct wire_type log_type = {TYPE(log, request_log), MEMBERS(log_members)};

static const struct wire_member relay_hello_members[] = {
    {1, TEXT, offsetof(request_relay_hello, engine)},
    {2, NUMBER32, offsetof(request_relay_hello, l_net_ms)},
};
static const struct wire_type relay_hello_type = {TYPE(relay_hello, request_relay_hello),
                                                  MEMBERS(relay_hello_members)};

static const struct wire_member relay_batch_members[] = {
    {1, NUMBER64, offsetof(struct relay_batch, t0_ns)},
    {2, EACH, offsetof(struct relay_batch, targets), offsetof(struct relay_batch, targets_count),
     &targets_type, .max = RELAY_BATCH_TARGETS_MAX},
    {3, FLAG, offsetof(struct relay_batch, everything)},
    {4, TEXT, offsetof(struct relay_batch, cursor)},
    {5, TEXT, offsetof(struct relay_batch, log_id)},
    {6, FLAG, offsetof(struct relay_batch, member)},
    {7, FLAG, offsetof(struct relay_batch, more)},
    {8, NUMBER32, offsetof(struct relay_batch, l_net_ms)},
    {9, TEXT, offsetof(struct relay_batch, reason)},
    {10, TEXT, offsetof(struct relay_batch, writers)},
};
static const struct wire_type relay_batch_type = {TYPE(relay_batch, struct relay_batch),
                                                  MEMBERS(relay_batch_members)};

static const struct wire_member relay_done_members[] = {
    {1, NUMBER64, offsetof(request_relay_done, token)},
    {2, NUMBER32, offsetof(request_relay_done, outcome), .known = outcome_known},
    {3, NUMBER64, offsetof(request_relay_done, position)},
    {4, TEXT, offsetof(request_relay_done, text)},
};
static const struct wire_type relay_done_type = {TYPE(relay_done, request_relay_done),
                                                 MEMBERS(relay_done_members)};

#define REQUEST_BODY(name, body_type)                                                              \
    {                                                                                              \
        ETAGD__WIRE__REQUEST__BODY_##name, BODY, offsetof(struct request, hello),                  \
            offsetof(struct request, kind), &body_type                                             \
    }
_Static_assert(REQUEST_HELLO + 1 == (int)ETAGD__WIRE__REQUEST__BODY_HELLO, "number");
_Static_assert(REQUEST_GUARD_ABORT + 1 == (int)ETAGD__WIRE__REQUEST__BODY_GUARD_ABORT, "number");
_Static_assert(REQUEST_CLIENTS + 1 == (int)ETAGD__WIRE__REQUEST__BODY_CLIENTS, "number");
_Static_assert(REQUEST_LOG + 1 == (int)ETAGD__WIRE__REQUEST__BODY_LOG, "number");
_Static_assert(REQUEST_RELAY_DONE + 1 == (int)ETAGD__WIRE__REQUEST__BODY_RELAY_DONE, "number");

static const struct wire_member request_members[] = {
    {1, NUMBER64, offsetof(struct request, id)},
    REQUEST_BODY(HELLO, hello_type),
    REQUEST_BODY(FILL, fill_type),
    REQUEST_BODY(INVALIDATE, targets_type),
    REQUEST_BODY(PING, empty_type),
    REQUEST_BODY(GET, key_type),
    REQUEST_BODY(EXPLAIN, key_type),
    REQUEST_BODY(LIST, list_type),
    REQUEST_BODY(STATUS, empty_type),
    REQUEST_BODY(WATCH, empty_type),
    REQUEST_BODY(SYNC, empty_type),
    REQUEST_BODY(PAUSE, empty_type),
    REQUEST_BODY(RESUME, empty_type),
    REQUEST_BODY(GUARD_BEGIN, guard_type),
    REQUEST_BODY(GUARD_CONFIRM, guard_type),
    REQUEST_BODY(GUARD_COMMIT, guard_type),
    REQUEST_BODY(GUARD_ABORT, guard_type),
    REQUEST_BODY(CLIENTS, clients_type),
    REQUEST_BODY(LOG, log_type),
    REQUEST_BODY(RELAY_HELLO, relay_hello_type),
    REQUEST_BODY(RELAY_BATCH, relay_batch_type),
    REQUEST_BODY(RELAY_DONE, relay_done_type),
};
static const struct wire_type request_type = {TYPE(request, struct request),
                                              MEMBERS(request_members)};

/* ---- Bodies of replies ---- */

typedef __typeof__(((struct reply *)NULL)->error) reply_error;
typedef __typeof__(((struct reply *)NULL)->hello) reply_hello;
typedef __typeof__(((struct reply *)NULL)->receipt) reply_receipt;
typedef __typeof__(((struct reply *)NULL)->relay_hello) reply_relay_hello;
typedef __typeof__(((struct reply *)NULL)->relay_publish) reply_relay_publish;
typedef __typeof__(((struct reply *)NULL)->fill) reply_fill;
typedef __typeof__(((struct reply *)NULL)->explain) reply_explain;
typedef __typeof__(((struct reply *)NULL)->list) reply_list;
typedef __typeof__(((struct reply *)NULL)->log) reply_log;
typedef __typeof__(((struct reply *)NULL)->status) reply_status;
typedef __typeof__(((struct reply *)NULL)->clients) reply_clients;

static const struct wire_member error_members[] = {
    {1, NUMBER32, offsetof(reply_error, code)},
    {2, TEXT, offsetof(reply_error, text)},
};
static const struct wire_type error_type = {TYPE(error, reply_error), MEMBERS(error_members)};

static const struct wire_member hello_reply_members[] = {
    {1, NUMBER32, offsetof(reply_hello, protocol)},
    {2, TEXT, offsetof(reply_hello, software)},
    {3, NUMBER32, offsetof(reply_hello, roles)},
    {4, NUMBER64, offsetof(reply_hello, clock_ns)},
    {5, NUMBER64, offsetof(reply_hello, lease_ns)},
    {6, NUMBER64, offsetof(reply_hello, incarnation_id)},
    {7, NUMBER64, offsetof(reply_hello, index_bytes)},
    {8, NUMBER64, offsetof(reply_hello, counters_bytes)},
    {9, NUMBER64, offsetof(reply_hello, spool_id)},
    {10, NUMBER64, offsetof(reply_hello, linger_ns)},
    {11, NUMBER32, offsetof(reply_hello, default_reach), .known = reach_known},
};
static const struct wire_type hello_reply_type = {TYPE(hello_reply, reply_hello),
                                                  MEMBERS(hello_reply_members)};

static const struct wire_member receipt_members[] = {
    {1, NUMBER64, offsetof(reply_receipt, lsn)},
    {2, NUMBER32, offsetof(reply_receipt, reach), .known = reach_known},
    {3, NUMBER32, offsetof(reply_receipt, proof), .known = proof_known},
    {4, FLAG, offsetof(reply_receipt, more)},
};
static const struct wire_type receipt_type = {TYPE(receipt, reply_receipt),
                                              MEMBERS(receipt_members)};

static const struct wire_member fill_verdict_members[] = {
    {1, NUMBER32, offsetof(reply_fill, reason), .known = reason_known},
    {2, NUMBER64, offsetof(reply_fill, lsn)},
};
static const struct wire_type fill_verdict_type = {TYPE(fill_verdict, reply_fill),
                                                   MEMBERS(fill_verdict_members)};

static const struct wire_member view_members[] = {
    {1, ONE, offsetof(struct entry_view, entry), .type = &entry_type},
    {2, NUMBER64, offsetof(struct entry_view, fill_lsn)},
    {3, NUMBER64, offsetof(struct entry_view, expires_wall_ms)},
    {4, NUMBER32, offsetof(struct entry_view, state), .known = reason_known},
    {5, FLAG, offsetof(struct entry_view, in_index)},
    {6, FLAG, offsetof(struct entry_view, persisted)},
};
static const struct wire_type view_type = {TYPE(entry_view, struct entry_view),
                                           MEMBERS(view_members)};

static const struct wire_member relay_origin_members[] = {
    {1, TEXT, offsetof(struct relay_origin, engine)},
    {2, NUMBER64, offsetof(struct relay_origin, first_position)},
    {3, NUMBER64, offsetof(struct relay_origin, last_position)},
    {4, NUMBER32, offsetof(struct relay_origin, event_count)},
    {5, TEXT, offsetof(struct relay_origin, writers)},
};
static const struct wire_type relay_origin_type = {TYPE(relay_origin, struct relay_origin),
                                                   MEMBERS(relay_origin_members)};

static const struct wire_member event_members[] = {
    {1, NUMBER64, offsetof(struct event_view, lsn)},
    {2, NUMBER64, offsetof(struct event_view, wall_ms)},
    {3, ONE, offsetof(struct event_view, targets), .type = &targets_type},
    {4, NUMBER32, offsetof(struct event_view, peer_pid)},
    {5, NUMBER32, offsetof(struct event_view, peer_uid)},
    {6, NUMBER64, offsetof(struct event_view, dropped)},
    {7, NUMBER32, offsetof(struct event_view, kind), .known = event_kind_known},
    {8, NUMBER64, offsetof(struct event_view, guard.high)},
    {9, NUMBER64, offsetof(struct event_view, guard.low)},
    {10, MAYBE, offsetof(struct event_view, origin), offsetof(struct event_view, relayed),
     &relay_origin_type},
};
static const struct wire_type event_type = {TYPE(event, struct event_view), MEMBERS(event_members)};

static const struct wire_member clock_members[] = {
    {1, NUMBER32, offsetof(struct clock_view, kind), .known = target_kind_known},
    {2, TEXT, offsetof(struct clock_view, name)},
    {3, NUMBER32, offsetof(struct clock_view, number)},
    {4, NUMBER64, offsetof(struct clock_view, value)},
};
static const struct wire_type clock_type = {TYPE(clock_view, struct clock_view),
                                            MEMBERS(clock_members)};

static void explain_packed(const void *ours, void *wire)
{
    const reply_explain *const explain = ours;

    W(ExplainReply) *const message = wire;
    if (explain->culprit < 0)
        return;
    message->presence_case = ETAGD__WIRE__EXPLAIN_REPLY__PRESENCE_CULPRIT;
    message->culprit = (uint32_t)explain->culprit;
}

static const char *explain_unpacked(const void *wire, void *ours)
{
    const W(ExplainReply) *const message = wire;
    const bool named = message->presence_case == ETAGD__WIRE__EXPLAIN_REPLY__PRESENCE_CULPRIT;
    if (named && message->culprit >= message->n_clocks)
        return "the clock at fault is none of the entry's clocks";
    ((reply_explain *)ours)->culprit = named ? (int)message->culprit : -1;
    return NULL;
}

static const struct wire_member explain_members[] = {
    {1, ONE, offsetof(reply_explain, view), .type = &view_type},
    {2, EACH, offsetof(reply_explain, clocks), offsetof(reply_explain, clock_count), &clock_type,
     .max = CLOCKS_PER_ENTRY_MAX},
    {4, MAYBE, offsetof(reply_explain, event), offsetof(reply_explain, has_event), &event_type},
    {5, NUMBER64, offsetof(reply_explain, lease_deadline_ns)},
    {6, NUMBER64, offsetof(reply_explain, clock_ns)},
};
static const struct wire_type explain_type = {
    TYPE(explain_reply, reply_explain), MEMBERS(explain_members), explain_packed, explain_unpacked};

static const struct wire_member list_reply_members[] = {
    {1, EACH, offsetof(reply_list, entries), offsetof(reply_list, entry_count), &view_type,
     .max = LIST_PAGE_MAX},
    {2, TEXT, offsetof(reply_list, next)},
};
static const struct wire_type list_reply_type = {TYPE(list_reply, reply_list),
                                                 MEMBERS(list_reply_members)};

static const struct wire_member log_reply_members[] = {
    {1, EACH, offsetof(reply_log, events), offsetof(reply_log, event_count), &event_type,
     .max = LOG_PAGE_MAX},
    {2, NUMBER64, offsetof(reply_log, next_lsn)},
    {3, NUMBER64, offsetof(reply_log, oldest_lsn)},
};
static const struct wire_type log_reply_type = {TYPE(log_reply, reply_log),
                                                MEMBERS(log_reply_members)};

static void stat_packed(const void *ours, void *wire)
{
    const struct stat_view *const stat = ours;

    W(Stat) *const message = wire;
    if (stat->is_text) {
        message->value_case = ETAGD__WIRE__STAT__VALUE_TEXT;
    } else {
        message->value_case = ETAGD__WIRE__STAT__VALUE_NUMBER;
        message->number = stat->number;
    }
}

static const char *stat_unpacked(const void *wire, void *ours)
{
    struct stat_view *const stat = ours;

    const W(Stat) *const message = wire;
    stat->is_text = message->value_case == ETAGD__WIRE__STAT__VALUE_TEXT;
    if (message->value_case == ETAGD__WIRE__STAT__VALUE_NUMBER)
        stat->number = message->number;
    return NULL;
}

static const struct wire_member stat_members[] = {
    {1, TEXT, offsetof(struct stat_view, name)},
    {3, TEXT, offsetof(struct stat_view, text)},
};
static const struct wire_type stat_type = {TYPE(stat, struct stat_view), MEMBERS(stat_members),
                                           stat_packed, stat_unpacked};

static const struct wire_member bucket_members[] = {
    {1, NUMBER64, offsetof(struct bucket_view, upto_ns)},
    {2, NUMBER64, offsetof(struct bucket_view, count)},
};
static const struct wire_type bucket_type = {TYPE(bucket, struct bucket_view),
                                             MEMBERS(bucket_members)};

static const struct wire_member histogram_members[] = {
    {1, TEXT, offsetof(struct histogram_view, name)},
    {2, NUMBER64, offsetof(struct histogram_view, sum_ns)},
    {3, EACH, offsetof(struct histogram_view, buckets),
     offsetof(struct histogram_view, bucket_count), &bucket_type, .max = HISTOGRAM_BUCKETS_MAX},
};
static const struct wire_type histogram_type = {TYPE(histogram, struct histogram_view),
                                                MEMBERS(histogram_members)};

static const struct wire_member status_members[] = {
    {1, EACH, offsetof(reply_status, stats), offsetof(reply_status, stat_count), &stat_type,
     .max = STATS_MAX},
    {2, EACH, offsetof(reply_status, histograms), offsetof(reply_status, histogram_count),
     &histogram_type, .max = HISTOGRAMS_MAX},
};
static const struct wire_type status_type = {TYPE(status_reply, reply_status),
                                             MEMBERS(status_members)};

static const struct wire_member client_members[] = {
    {1, NUMBER64, offsetof(struct client_view, id)},
    {2, NUMBER32, offsetof(struct client_view, pid)},
    {3, NUMBER32, offsetof(struct client_view, uid)},
    {4, NUMBER32, offsetof(struct client_view, roles)},
    {5, TEXT, offsetof(struct client_view, software)},
    {6, NUMBER64, offsetof(struct client_view, age_ms)},
    {7, NUMBER64, offsetof(struct client_view, idle_ms)},
    {8, FLAG, offsetof(struct client_view, watching)},
    {9, NUMBER64, offsetof(struct client_view, pending)},
    {10, FLAG, offsetof(struct client_view, counts_itself)},
    {11, EACH, offsetof(struct client_view, counts), offsetof(struct client_view, count_count),
     &stat_type, .max = CLIENT_COUNTS_MAX},
};
static const struct wire_type client_type = {TYPE(client_view, struct client_view),
                                             MEMBERS(client_members)};

static const struct wire_member clients_reply_members[] = {
    {1, EACH, offsetof(reply_clients, clients), offsetof(reply_clients, client_count), &client_type,
     .max = CLIENTS_PAGE_MAX},
    {2, NUMBER32, offsetof(reply_clients, next)},
};
static const struct wire_type clients_reply_type = {TYPE(clients_reply, reply_clients),
                                                    MEMBERS(clients_reply_members)};

static const struct wire_member relay_hello_reply_members[] = {
    {1, TEXT, offsetof(reply_relay_hello, cursor)},
    {2, TEXT, offsetof(reply_relay_hello, log_id)},
    {3, NUMBER64, offsetof(reply_relay_hello, incarnation)},
    {4, NUMBER32, offsetof(reply_relay_hello, mode), .known = relay_mode_known},
};
static const struct wire_type relay_hello_reply_type = {TYPE(relay_hello_reply, reply_relay_hello),
                                                        MEMBERS(relay_hello_reply_members)};

static const struct wire_member relay_publish_members[] = {
    {1, NUMBER64, offsetof(reply_relay_publish, token)},
    {2, ONE, offsetof(reply_relay_publish, targets), .type = &targets_type},
};
static const struct wire_type relay_publish_type = {TYPE(relay_publish, reply_relay_publish),
                                                    MEMBERS(relay_publish_members)};

#define REPLY_BODY(name, body_type)                                                                \
    {                                                                                              \
        ETAGD__WIRE__REPLY__BODY_##name, BODY, offsetof(struct reply, error),                      \
            offsetof(struct reply, kind), &body_type                                               \
    }
_Static_assert(REPLY_ERROR + 1 == (int)ETAGD__WIRE__REPLY__BODY_ERROR, "number");
_Static_assert(REPLY_DONE + 1 == (int)ETAGD__WIRE__REPLY__BODY_DONE, "number");
_Static_assert(REPLY_LOG + 1 == (int)ETAGD__WIRE__REPLY__BODY_LOG, "number");
_Static_assert(REPLY_RELAY_PUBLISH + 1 == (int)ETAGD__WIRE__REPLY__BODY_RELAY_PUBLISH, "number");

static const struct wire_member reply_members[] = {
    {1, NUMBER64, offsetof(struct reply, id)},
    REPLY_BODY(ERROR, error_type),
    REPLY_BODY(HELLO, hello_reply_type),
    REPLY_BODY(RECEIPT, receipt_type),
    REPLY_BODY(FILL, fill_verdict_type),
    REPLY_BODY(GET, view_type),
    REPLY_BODY(EXPLAIN, explain_type),
    REPLY_BODY(LIST, list_reply_type),
    REPLY_BODY(STATUS, status_type),
    REPLY_BODY(EVENT, event_type),
    REPLY_BODY(DONE, empty_type),
    REPLY_BODY(CLIENTS, clients_reply_type),
    REPLY_BODY(LOG, log_reply_type),
    REPLY_BODY(RELAY_HELLO, relay_hello_reply_type),
    REPLY_BODY(RELAY_PUBLISH, relay_publish_type),
};
static const struct wire_type reply_type = {TYPE(reply, struct reply), MEMBERS(reply_members)};

/* ---- Encoding and decoding ---- */

int request_encode(struct buffer *out, const struct request *request)
{
    assert(request->kind != REQUEST_NONE);
    return wire_encode(out, &request_type, request);
}

int reply_encode(struct buffer *out, const struct reply *reply)
{
    assert(reply->kind != REPLY_NONE);
    return wire_encode(out, &reply_type, reply);
}

const char *request_decode(struct request *out, struct arena *arena, etag_str bytes)
{
    *out = (struct request){.id = wire_id(bytes)};
    return wire_decode(arena, &request_type, bytes, out);
}

/* The kind of a body is its number less one (BODY in wire.h). */
enum request_kind request_peek(etag_str payload)
{
    const uint32_t number = wire_body(payload);

    return number > 1 && number - 1 <= REQUEST_RELAY_DONE ? (enum request_kind)(number - 1)
                                                          : REQUEST_NONE;
}

const char *reply_decode(struct reply *out, struct arena *arena, etag_str bytes)
{
    *out = (struct reply){.id = wire_id(bytes)};
    return wire_decode(arena, &reply_type, bytes, out);
}

/* ---- Errors ---- */

etag_status wire_error_status(uint32_t code)
{
    switch (code) {
#define STATUS_CASE(name, number, status, word)                                                    \
    case number:                                                                                   \
        return status;
        WIRE_ERRORS(STATUS_CASE)
#undef STATUS_CASE
    default:
        return ETAG_FAILED;
    }
}

const char *wire_error_word(uint32_t code)
{
    switch (code) {
#define WORD_CASE(name, number, status, word)                                                      \
    case number:                                                                                   \
        return word;
        WIRE_ERRORS(WORD_CASE)
#undef WORD_CASE
    default:
        return "unknown";
    }
}
