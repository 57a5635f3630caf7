/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages: for each message of etagd.proto a table of its fields (wire.h), by which wire.c
 * encodes and decodes, so that the two ends can't drift apart. A function beside it does what a
 * table can't express (a size to set, a position to check). That the tables are those of the schema
 * is tested: tests/unit/proto/wire/test_wire.c makes messages of the schema, with each of its
 * fields.
 */
#include "message.h"

#include "wire.h"

#include <assert.h>
#include <string.h>

/* ---- Names and entries ---- */

#define COUNT_OF_MEMBERS(array) (sizeof(array) / sizeof((array)[0]))
#define MEMBERS(array)                                                                             \
    .members = (array), .member_count = COUNT_OF_MEMBERS(array),                                   \
    .body_begin = COUNT_OF_MEMBERS(array)
#define BODIES(array, begin, our_type)                                                             \
    .members = (array), .member_count = COUNT_OF_MEMBERS(array), .body_begin = (begin),            \
    .kind_at = offsetof(our_type, kind)

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
    [1] = {TEXT, offsetof(etag_resource, host)},
    [2] = {TEXT, offsetof(etag_resource, target)},
};
static const struct wire_type resource_type = {sizeof(etag_resource), MEMBERS(resource_members)};

static const struct wire_member vary_members[] = {
    [1] = {TEXT, offsetof(etag_field, name)},
    [2] = {TEXT, offsetof(etag_field, value), .presence = UNLESS_NONE},
};
static const struct wire_type vary_type = {sizeof(etag_field), MEMBERS(vary_members)};

static const char *key_decoded(void *ours)
{
    ((etag_key *)ours)->size = sizeof(etag_key);
    return NULL;
}

static const struct wire_member key_members[] = {
    [1] = {ONE, offsetof(etag_key, resource), .type = &resource_type},
    [2] = {NUMBER32, offsetof(etag_key, scope.kind), .known = scope_kind_known},
    [3] = {TEXT, offsetof(etag_key, scope.name)},
    [4] = {TEXT, offsetof(etag_key, release)},
    [5] = {EACH, offsetof(etag_key, vary), offsetof(etag_key, vary_count), &vary_type,
           .max = VARY_COUNT_MAX},
    [6] = {TEXT, offsetof(etag_key, scheme)},
};
static const struct wire_type key_type = {sizeof(etag_key), MEMBERS(key_members),
                                          .decoded = key_decoded};

static const struct wire_member kept_field_members[] = {
    [1] = {TEXT, offsetof(struct kept_field, field.name)},
    [2] = {TEXT, offsetof(struct kept_field, field.value)},
    [3] = {SIGNED64, offsetof(struct kept_field, offset_s), offsetof(struct kept_field, kind),
           .presence = IF_CHOSEN, .chosen = FIELDSET_EXPIRES},
};
static const struct wire_type kept_field_type = {sizeof(struct kept_field),
                                                 MEMBERS(kept_field_members)};

static const struct wire_member entry_members[] = {
    [1] = {ONE, offsetof(struct entry, key), .type = &key_type},
    [2] = {TEXT, offsetof(struct entry, etag)},
    [3] = {SIGNED64, offsetof(struct entry, last_modified), .presence = UNLESS_NONE,
           .none = (uint64_t)ETAG_NO_DATE},
    [4] = {EACH, offsetof(struct entry, fields), offsetof(struct entry, field_count),
           &kept_field_type, .max = FIELDS_PER_ENTRY_MAX},
    [5] = {TEXT, offsetof(struct entry, content_location)},
    [6] = {TEXTS, offsetof(struct entry, surrogates), offsetof(struct entry, surrogate_count),
           .max = SURROGATES_PER_ENTRY_MAX},
    [7] = {NUMBER64, offsetof(struct entry, max_age_ms)},
    [8] = {FLAG, offsetof(struct entry, last_modified_is_strong)},
};
static const struct wire_type entry_type = {sizeof(struct entry), MEMBERS(entry_members)};

static const char *targets_decoded(void *ours)
{
    ((etag_targets *)ours)->size = sizeof(etag_targets);
    return NULL;
}

/* The four kinds of names share one bound. */
static const struct wire_member targets_members[] = {
    [1] = {EACH, offsetof(etag_targets, resources), offsetof(etag_targets, resource_count),
           &resource_type, .max = TARGETS_PER_EVENT_MAX, .shares_max = true},
    [2] = {TEXTS, offsetof(etag_targets, surrogates), offsetof(etag_targets, surrogate_count),
           .max = TARGETS_PER_EVENT_MAX, .shares_max = true},
    [3] = {EACH, offsetof(etag_targets, prefixes), offsetof(etag_targets, prefix_count),
           &resource_type, .max = TARGETS_PER_EVENT_MAX, .shares_max = true},
    [4] = {FLAG, offsetof(etag_targets, everything)},
    [5] = {NUMBER32, offsetof(etag_targets, hold_ms)},
    [6] = {NUMBER32, offsetof(etag_targets, max_ms)},
    [7] = {NUMBER32, offsetof(etag_targets, reach), .known = reach_known},
    [8] = {NUMBER64, offsetof(etag_targets, position)},
    [9] = {TEXTS, offsetof(etag_targets, families), offsetof(etag_targets, family_count),
           .max = TARGETS_PER_EVENT_MAX, .shares_max = true},
};
static const struct wire_type targets_type = {sizeof(etag_targets), MEMBERS(targets_members),
                                              .decoded = targets_decoded};

static const struct wire_type empty_type = {.member_count = 1, .body_begin = 1};

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
    [1] = {NUMBER32, offsetof(request_hello, protocol)},
    [2] = {TEXT, offsetof(request_hello, software)},
};
static const struct wire_type hello_type = {sizeof(request_hello), MEMBERS(hello_members)};

static const struct wire_member token_members[] = {
    [1] = {FIXED64, offsetof(etag_token, incarnation)},
    [2] = {FIXED64, offsetof(etag_token, lsn)},
};
static const struct wire_type token_type = {sizeof(etag_token), MEMBERS(token_members)};

static const struct wire_member fill_members[] = {
    [1] = {ONE, offsetof(request_fill, token), .type = &token_type},
    [2] = {ONE, offsetof(request_fill, entry), .type = &entry_type},
    [3] = {FLAG, offsetof(request_fill, want_verdict)},
    [4] = {FLAG, offsetof(request_fill, gone)},
};
static const struct wire_type fill_type = {sizeof(request_fill), MEMBERS(fill_members)};

static const struct wire_member guard_members[] = {
    [1] = {FIXED64, offsetof(request_guard, id.high)},
    [2] = {FIXED64, offsetof(request_guard, id.low)},
    [3] = {ONE, offsetof(request_guard, targets), .type = &targets_type},
};
static const struct wire_type guard_type = {sizeof(request_guard), MEMBERS(guard_members)};

static const struct wire_member list_members[] = {
    [1] = {TEXT, offsetof(request_list, prefix)},
    [2] = {NUMBER32, offsetof(request_list, limit)},
    [3] = {TEXT, offsetof(request_list, after)},
};
static const struct wire_type list_type = {sizeof(request_list), MEMBERS(list_members)};

static const struct wire_member clients_members[] = {
    [1] = {NUMBER32, offsetof(request_clients, after)},
};
static const struct wire_type clients_type = {sizeof(request_clients), MEMBERS(clients_members)};
static const struct wire_member log_members[] = {
    [1] = {NUMBER64, offsetof(request_log, from_lsn)},
    [2] = {NUMBER64, offsetof(request_log, until_lsn)},
    [3] = {NUMBER64, offsetof(request_log, since_wall_ms)},
    [4] = {NUMBER64, offsetof(request_log, until_wall_ms)},
    [5] = {NUMBER32, offsetof(request_log, limit)},
    [6] = {FLAG, offsetof(request_log, newest_first)},
};
static const struct wire_type log_type = {sizeof(request_log), MEMBERS(log_members)};

static const struct wire_member relay_hello_members[] = {
    [1] = {TEXT, offsetof(request_relay_hello, engine)},
    [2] = {NUMBER32, offsetof(request_relay_hello, l_net_ms)},
};
static const struct wire_type relay_hello_type = {sizeof(request_relay_hello),
                                                  MEMBERS(relay_hello_members)};

static const struct wire_member relay_batch_members[] = {
    [1] = {NUMBER64, offsetof(struct relay_batch, t0_ns)},
    [2] = {EACH, offsetof(struct relay_batch, targets), offsetof(struct relay_batch, targets_count),
           &targets_type, .max = RELAY_BATCH_TARGETS_MAX},
    [3] = {FLAG, offsetof(struct relay_batch, everything)},
    [4] = {TEXT, offsetof(struct relay_batch, cursor)},
    [5] = {TEXT, offsetof(struct relay_batch, log_id)},
    [6] = {FLAG, offsetof(struct relay_batch, member)},
    [7] = {FLAG, offsetof(struct relay_batch, more)},
    [8] = {NUMBER32, offsetof(struct relay_batch, l_net_ms)},
    [9] = {TEXT, offsetof(struct relay_batch, reason)},
    [10] = {TEXT, offsetof(struct relay_batch, writers)},
};
static const struct wire_type relay_batch_type = {sizeof(struct relay_batch),
                                                  MEMBERS(relay_batch_members)};

static const struct wire_member relay_done_members[] = {
    [1] = {NUMBER64, offsetof(request_relay_done, token)},
    [2] = {NUMBER32, offsetof(request_relay_done, outcome), .known = outcome_known},
    [3] = {NUMBER64, offsetof(request_relay_done, position)},
    [4] = {TEXT, offsetof(request_relay_done, text)},
};
static const struct wire_type relay_done_type = {sizeof(request_relay_done),
                                                 MEMBERS(relay_done_members)};

/* The number of a body's field is its kind plus one. */
#define REQUEST_BODY(name, body_type)                                                              \
    [REQUEST_##name + 1] = {BODY, offsetof(struct request, hello), .type = &(body_type),           \
                            .alternative = true}

static const struct wire_member request_members[] = {
    [1] = {NUMBER64, offsetof(struct request, id)},
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
static const struct wire_type request_type = {sizeof(struct request),
                                              BODIES(request_members, 2, struct request)};

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
    [1] = {NUMBER32, offsetof(reply_error, code)},
    [2] = {TEXT, offsetof(reply_error, text)},
};
static const struct wire_type error_type = {sizeof(reply_error), MEMBERS(error_members)};

static const struct wire_member hello_reply_members[] = {
    [1] = {NUMBER32, offsetof(reply_hello, protocol)},
    [2] = {TEXT, offsetof(reply_hello, software)},
    [3] = {NUMBER32, offsetof(reply_hello, roles)},
    [4] = {NUMBER64, offsetof(reply_hello, clock_ns)},
    [5] = {NUMBER64, offsetof(reply_hello, lease_ns)},
    [6] = {FIXED64, offsetof(reply_hello, incarnation_id)},
    [7] = {NUMBER64, offsetof(reply_hello, index_bytes)},
    [8] = {NUMBER64, offsetof(reply_hello, counters_bytes)},
    [9] = {FIXED64, offsetof(reply_hello, spool_id)},
    [10] = {NUMBER64, offsetof(reply_hello, linger_ns)},
    [11] = {NUMBER32, offsetof(reply_hello, default_reach), .known = reach_known},
};
static const struct wire_type hello_reply_type = {sizeof(reply_hello),
                                                  MEMBERS(hello_reply_members)};

static const struct wire_member receipt_members[] = {
    [1] = {NUMBER64, offsetof(reply_receipt, lsn)},
    [2] = {NUMBER32, offsetof(reply_receipt, reach), .known = reach_known},
    [3] = {NUMBER32, offsetof(reply_receipt, proof), .known = proof_known},
    [4] = {FLAG, offsetof(reply_receipt, more)},
};
static const struct wire_type receipt_type = {sizeof(reply_receipt), MEMBERS(receipt_members)};

static const struct wire_member fill_verdict_members[] = {
    [1] = {NUMBER32, offsetof(reply_fill, reason), .known = reason_known},
    [2] = {NUMBER64, offsetof(reply_fill, lsn)},
};
static const struct wire_type fill_verdict_type = {sizeof(reply_fill),
                                                   MEMBERS(fill_verdict_members)};

static const struct wire_member view_members[] = {
    [1] = {ONE, offsetof(struct entry_view, entry), .type = &entry_type},
    [2] = {NUMBER64, offsetof(struct entry_view, fill_lsn)},
    [3] = {NUMBER64, offsetof(struct entry_view, expires_wall_ms)},
    [4] = {NUMBER32, offsetof(struct entry_view, state), .known = reason_known},
    [5] = {FLAG, offsetof(struct entry_view, in_index)},
    [6] = {FLAG, offsetof(struct entry_view, persisted)},
};
static const struct wire_type view_type = {sizeof(struct entry_view), MEMBERS(view_members)};

static const struct wire_member relay_origin_members[] = {
    [1] = {TEXT, offsetof(struct relay_origin, engine)},
    [2] = {NUMBER64, offsetof(struct relay_origin, first_position)},
    [3] = {NUMBER64, offsetof(struct relay_origin, last_position)},
    [4] = {NUMBER32, offsetof(struct relay_origin, event_count)},
    [5] = {TEXT, offsetof(struct relay_origin, writers)},
};
static const struct wire_type relay_origin_type = {sizeof(struct relay_origin),
                                                   MEMBERS(relay_origin_members)};

static const struct wire_member event_members[] = {
    [1] = {NUMBER64, offsetof(struct event_view, lsn)},
    [2] = {NUMBER64, offsetof(struct event_view, wall_ms)},
    [3] = {ONE, offsetof(struct event_view, targets), .type = &targets_type},
    [4] = {NUMBER32, offsetof(struct event_view, peer_pid)},
    [5] = {NUMBER32, offsetof(struct event_view, peer_uid)},
    [6] = {NUMBER64, offsetof(struct event_view, dropped)},
    [7] = {NUMBER32, offsetof(struct event_view, kind), .known = event_kind_known},
    [8] = {FIXED64, offsetof(struct event_view, guard.high)},
    [9] = {FIXED64, offsetof(struct event_view, guard.low)},
    [10] = {ONE, offsetof(struct event_view, origin), offsetof(struct event_view, relayed),
            &relay_origin_type, .presence = IF_TRUE},
};
static const struct wire_type event_type = {sizeof(struct event_view), MEMBERS(event_members)};

static const struct wire_member clock_members[] = {
    [1] = {NUMBER32, offsetof(struct clock_view, kind), .known = target_kind_known},
    [2] = {TEXT, offsetof(struct clock_view, name)},
    [3] = {NUMBER32, offsetof(struct clock_view, number)},
    [4] = {NUMBER64, offsetof(struct clock_view, value)},
};
static const struct wire_type clock_type = {sizeof(struct clock_view), MEMBERS(clock_members)};

static bool position_known(uint32_t position)
{
    return position < CLOCKS_PER_ENTRY_MAX;
}

static const char *explain_decoded(void *ours)
{
    const reply_explain *const explain = ours;

    return explain->culprit >= (int)explain->clock_count
               ? "the clock at fault is none of the entry's clocks"
               : NULL;
}

static const struct wire_member explain_members[] = {
    [1] = {ONE, offsetof(reply_explain, view), .type = &view_type},
    [2] = {EACH, offsetof(reply_explain, clocks), offsetof(reply_explain, clock_count), &clock_type,
           .max = CLOCKS_PER_ENTRY_MAX},
    [3] = {NUMBER32, offsetof(reply_explain, culprit), .presence = UNLESS_NONE, .none = UINT32_MAX,
           .known = position_known},
    [4] = {ONE, offsetof(reply_explain, event), offsetof(reply_explain, has_event), &event_type,
           .presence = IF_TRUE},
    [5] = {NUMBER64, offsetof(reply_explain, lease_deadline_ns)},
    [6] = {NUMBER64, offsetof(reply_explain, clock_ns)},
};
static const struct wire_type explain_type = {sizeof(reply_explain), MEMBERS(explain_members),
                                              .decoded = explain_decoded};

static const struct wire_member list_reply_members[] = {
    [1] = {EACH, offsetof(reply_list, entries), offsetof(reply_list, entry_count), &view_type,
           .max = LIST_PAGE_MAX},
    [2] = {TEXT, offsetof(reply_list, next)},
};
static const struct wire_type list_reply_type = {sizeof(reply_list), MEMBERS(list_reply_members)};

static const struct wire_member log_reply_members[] = {
    [1] = {EACH, offsetof(reply_log, events), offsetof(reply_log, event_count), &event_type,
           .max = LOG_PAGE_MAX},
    [2] = {NUMBER64, offsetof(reply_log, next_lsn)},
    [3] = {NUMBER64, offsetof(reply_log, oldest_lsn)},
};
static const struct wire_type log_reply_type = {sizeof(reply_log), MEMBERS(log_reply_members)};

static const struct wire_member stat_members[] = {
    [1] = {TEXT, offsetof(struct stat_view, name)},
    [2] = {NUMBER64, offsetof(struct stat_view, number), offsetof(struct stat_view, is_text),
           .presence = IF_FALSE, .alternative = true},
    [3] = {TEXT, offsetof(struct stat_view, text), offsetof(struct stat_view, is_text),
           .presence = IF_TRUE, .alternative = true},
};
static const struct wire_type stat_type = {sizeof(struct stat_view), MEMBERS(stat_members)};

static const struct wire_member bucket_members[] = {
    [1] = {NUMBER64, offsetof(struct bucket_view, upto_ns)},
    [2] = {NUMBER64, offsetof(struct bucket_view, count)},
};
static const struct wire_type bucket_type = {sizeof(struct bucket_view), MEMBERS(bucket_members)};

static const struct wire_member histogram_members[] = {
    [1] = {TEXT, offsetof(struct histogram_view, name)},
    [2] = {NUMBER64, offsetof(struct histogram_view, sum_ns)},
    [3] = {EACH, offsetof(struct histogram_view, buckets),
           offsetof(struct histogram_view, bucket_count), &bucket_type,
           .max = HISTOGRAM_BUCKETS_MAX},
};
static const struct wire_type histogram_type = {sizeof(struct histogram_view),
                                                MEMBERS(histogram_members)};

static const struct wire_member status_members[] = {
    [1] = {EACH, offsetof(reply_status, stats), offsetof(reply_status, stat_count), &stat_type,
           .max = STATS_MAX},
    [2] = {EACH, offsetof(reply_status, histograms), offsetof(reply_status, histogram_count),
           &histogram_type, .max = HISTOGRAMS_MAX},
};
static const struct wire_type status_type = {sizeof(reply_status), MEMBERS(status_members)};

static const struct wire_member client_members[] = {
    [1] = {NUMBER64, offsetof(struct client_view, id)},
    [2] = {NUMBER32, offsetof(struct client_view, pid)},
    [3] = {NUMBER32, offsetof(struct client_view, uid)},
    [4] = {NUMBER32, offsetof(struct client_view, roles)},
    [5] = {TEXT, offsetof(struct client_view, software)},
    [6] = {NUMBER64, offsetof(struct client_view, age_ms)},
    [7] = {NUMBER64, offsetof(struct client_view, idle_ms)},
    [8] = {FLAG, offsetof(struct client_view, watching)},
    [9] = {NUMBER64, offsetof(struct client_view, pending)},
    [10] = {FLAG, offsetof(struct client_view, counts_itself)},
    [11] = {EACH, offsetof(struct client_view, counts), offsetof(struct client_view, count_count),
            &stat_type, .max = CLIENT_COUNTS_MAX},
};
static const struct wire_type client_type = {sizeof(struct client_view), MEMBERS(client_members)};

static const struct wire_member clients_reply_members[] = {
    [1] = {EACH, offsetof(reply_clients, clients), offsetof(reply_clients, client_count),
           &client_type, .max = CLIENTS_PAGE_MAX},
    [2] = {NUMBER32, offsetof(reply_clients, next)},
};
static const struct wire_type clients_reply_type = {sizeof(reply_clients),
                                                    MEMBERS(clients_reply_members)};

static const struct wire_member relay_hello_reply_members[] = {
    [1] = {TEXT, offsetof(reply_relay_hello, cursor)},
    [2] = {TEXT, offsetof(reply_relay_hello, log_id)},
    [3] = {FIXED64, offsetof(reply_relay_hello, incarnation)},
    [4] = {NUMBER32, offsetof(reply_relay_hello, mode), .known = relay_mode_known},
};
static const struct wire_type relay_hello_reply_type = {sizeof(reply_relay_hello),
                                                        MEMBERS(relay_hello_reply_members)};

static const struct wire_member relay_publish_members[] = {
    [1] = {NUMBER64, offsetof(reply_relay_publish, token)},
    [2] = {ONE, offsetof(reply_relay_publish, targets), .type = &targets_type},
};
static const struct wire_type relay_publish_type = {sizeof(reply_relay_publish),
                                                    MEMBERS(relay_publish_members)};

#define REPLY_BODY(name, body_type)                                                                \
    [REPLY_##name + 1] = {BODY, offsetof(struct reply, error), .type = &(body_type),               \
                          .alternative = true}

static const struct wire_member reply_members[] = {
    [1] = {NUMBER64, offsetof(struct reply, id)},
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
static const struct wire_type reply_type = {sizeof(struct reply),
                                            BODIES(reply_members, 2, struct reply)};

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
    memset(out, 0, sizeof(*out)); /* the whole union: an initializer need not */
    const char *const wrong = wire_decode(arena, &request_type, bytes, out);
    if (wrong)
        *out = (struct request){.id = wire_id(bytes)};
    return wrong;
}

/* The kind of a body is its number less one (struct wire_type). */
enum request_kind request_peek(etag_str payload)
{
    const uint32_t number = wire_body(payload);

    return number > 1 && number - 1 <= REQUEST_RELAY_DONE ? (enum request_kind)(number - 1)
                                                          : REQUEST_NONE;
}

const char *reply_decode(struct reply *out, struct arena *arena, etag_str bytes)
{
    memset(out, 0, sizeof(*out)); /* the whole union: an initializer need not */
    const char *const wrong = wire_decode(arena, &reply_type, bytes, out);
    if (wrong)
        *out = (struct reply){.id = wire_id(bytes)};
    return wrong;
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
