/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages: one struct for all decoded requests, one for all replies. A decoded message borrows
 * from its bytes and its arena; an encoded one is appended to a buffer as a whole frame.
 */
#ifndef ETAG_PROTO_MESSAGE_H
#define ETAG_PROTO_MESSAGE_H

#include "arena.h"
#include "entry.h"
#include "frame.h"

#define PROTOCOL_VERSION 2u

/* Roles of a peer (docs/security.md). */
enum role {
    ROLE_READ = 1,
    ROLE_FILL = 2,
    /* implies read */
    ROLE_MUTATE = 4,
    ROLE_ADMIN = 8,
    ROLE_RELAY = 16,
};

/* Errors on the wire: name, code, status that the library's caller gets, word. */
#define WIRE_ERRORS(X)                                                                             \
    X(MALFORMED, 1, ETAG_PROTOCOL, "malformed") /* the connection is closed after it */            \
    X(VERSION, 2, ETAG_VERSION, "version")                                                         \
    X(NO_HELLO, 3, ETAG_PROTOCOL, "no_hello")                                                      \
    X(DENIED, 4, ETAG_DENIED, "denied")                                                            \
    X(INVALID, 5, ETAG_INVALID, "invalid")                                                         \
    X(NOT_FOUND, 6, ETAG_NOT_FOUND, "not_found")                                                   \
    X(BUSY, 7, ETAG_UNAVAILABLE, "busy")                                                           \
    X(STORE, 8, ETAG_FAILED, "store")                                                              \
    X(INTERNAL, 9, ETAG_FAILED, "internal")                                                        \
    X(SLOW, 10, ETAG_PROTOCOL, "slow") /* a limit of time or of unread answers; closed after it */ \
    X(LIMIT, 11, ETAG_FAILED,                                                                      \
      "limit") /* too many of something: not done, and not by the spool either */                  \
    X(ROLES, 12, ETAG_UNAVAILABLE,                                                                 \
      "roles") /* this peer's were changed; closed after it: the next hello says the new ones */

enum wire_error {
#define WIRE_ERROR_ENUM(name, code, status, word) WIRE_ERROR_##name = code,
    WIRE_ERRORS(WIRE_ERROR_ENUM)
#undef WIRE_ERROR_ENUM
};

/* Returns the status of a code; ETAG_FAILED for an unknown code of a newer daemon. */
etag_status wire_error_status(uint32_t code);
const char *wire_error_word(uint32_t code);

enum request_kind {
    REQUEST_NONE,
    REQUEST_HELLO,
    REQUEST_FILL,
    REQUEST_INVALIDATE,
    REQUEST_PING,
    REQUEST_GET,
    REQUEST_EXPLAIN,
    REQUEST_LIST,
    REQUEST_STATUS,
    REQUEST_WATCH,
    REQUEST_SYNC,
    REQUEST_PAUSE,
    REQUEST_RESUME,
    REQUEST_GUARD_BEGIN,
    REQUEST_GUARD_CONFIRM,
    REQUEST_GUARD_COMMIT,
    REQUEST_GUARD_ABORT,
    REQUEST_CLIENTS,
    REQUEST_LOG,
    REQUEST_RELAY_HELLO,
    REQUEST_RELAY_BATCH,
    REQUEST_RELAY_DONE,
};

/* Chosen by the writer: 128 random bits. {0, 0}: none. */
struct guard_id {
    uint64_t high, low;
};

static inline bool guard_id_equal(struct guard_id a, struct guard_id b)
{
    return a.high == b.high && a.low == b.low;
}

/* Kinds of events: X(name, number on the wire and in the store, word). A hold is a mutation with
 * hold_ms. */
#define EVENT_KINDS(X)                                                                             \
    X(MUTATION, 0, "mutation")                                                                     \
    X(GUARD_BEGIN, 1, "guard_begin")                                                               \
    X(GUARD_COMMIT, 2, "guard_commit")                                                             \
    X(GUARD_ABORT, 3, "guard_abort")                                                               \
    X(GUARD_EXPIRED, 4, "guard_expired") /* by the daemon: a hold's end; lingered: as committed */

enum event_kind {
#define EVENT_KIND_ENUM(name, number, word) EVENT_##name = number,
    EVENT_KINDS(EVENT_KIND_ENUM)
#undef EVENT_KIND_ENUM
};

bool event_kind_known(uint32_t kind);
const char *event_kind_word(uint32_t kind); /* never NULL */

/* How the daemon uses the relay (docs/operations.md): X(name, number on the wire, word of the
 * configuration). */
#define RELAY_MODES(X)                                                                             \
    X(OFF, 0, "off")                                                                               \
    X(OPTIONAL, 1, "optional")                                                                     \
    X(REQUIRED, 2, "required")

enum relay_mode {
#define RELAY_MODE_ENUM(name, number, word) RELAY_##name = number,
    RELAY_MODES(RELAY_MODE_ENUM)
#undef RELAY_MODE_ENUM
};

const char *relay_mode_word(uint32_t mode); /* never NULL */

/* The outcome of an event that the daemon gave to the relay. */
enum relay_outcome {
    /* no outcome yet; not on the wire */
    RELAY_UNSAID = 0,
    /* it is in the log, durably */
    RELAY_LOGGED = 1,
    /* ... and each member has acknowledged it */
    RELAY_ACKNOWLEDGED = 2,
    /* ... or so much time has passed that no lease from before the event is left */
    RELAY_BY_TIME = 3,
    /* the log refuses the event, or does not know the position */
    RELAY_REFUSED = 4,
};

/* Where the relay had an event from, for people: which events of its log are one here. */
struct relay_origin {
    /* as the relay calls it, at most RELAY_ENGINE_BYTES_MAX */
    etag_str engine;
    /* Lowest and highest; 0 and 0: none is known. PostgreSQL: ids of transactions; etcd:
     * revisions. */
    uint64_t first_position, last_position;
    /* 0: the relay itself raised everything */
    uint32_t event_count;
    /* who wrote them, at most RELAY_WRITERS_BYTES_MAX; empty: they do not say */
    etag_str writers;
};

/* One poll of the relay's log, or a part of it: see RelayBatch in etagd.proto. */
struct relay_batch {
    uint64_t t0_ns;
    /* the targets of one event each; their positions are for people */
    etag_targets *targets;
    size_t targets_count;
    bool everything;
    etag_str cursor, log_id;
    bool member, more;
    uint32_t l_net_ms;
    etag_str reason;
    /* who wrote the events of this part, for people; at most RELAY_WRITERS_BYTES_MAX */
    etag_str writers;
};

/* Checks a batch: bounds, targets, and that a last part has cursor, log_id and l_net_ms. Returns
 * NULL, or what is wrong (static text). All targets together may have as many names as one event
 * (TARGETS_PER_EVENT_MAX); a relay splits a larger batch into parts. The longest hold of a part
 * applies to all of it, so a relay puts events with a hold into a part of their own. */
MUST_USE const char *relay_batch_check(const struct relay_batch *batch);

/* Checks an L_net. Returns NULL, or what is wrong. */
MUST_USE const char *relay_l_net_check(uint32_t l_net_ms);

struct request {
    uint64_t id;
    enum request_kind kind;
    union {
        struct {
            uint32_t protocol;
            etag_str software;
        } hello;
        struct {
            etag_token token;
            struct entry entry;
            bool want_verdict;
            /* A tombstone: remove the key's entry. It has no entity tag, so that a daemon that does
             * not know this flag refuses it instead of storing something. */
            bool gone;
        } fill;
        /* INVALIDATE */
        etag_targets targets;
        struct {
            struct guard_id id;
            etag_targets targets;
            /* GUARD_* */
        } guard;
        /* GET, EXPLAIN */
        etag_key key;
        struct {
            etag_str prefix;
            uint32_t limit;
            etag_str after;
        } list;
        struct {
            uint32_t after;
        } clients;
        struct {
            /* until_lsn 0: to the newest */
            uint64_t from_lsn, until_lsn;
            /* 0: no bound */
            uint64_t since_wall_ms, until_wall_ms;
            /* 0: LOG_PAGE_MAX */
            uint32_t limit;
            bool newest_first;
        } log;
        struct {
            etag_str engine;
            uint32_t l_net_ms;
        } relay_hello;
        struct relay_batch relay_batch;
        struct {
            uint64_t token;
            enum relay_outcome outcome;
            /* 0: not known */
            uint64_t position;
            etag_str text;
        } relay_done;
    };
};

enum reply_kind {
    REPLY_NONE,
    REPLY_ERROR,
    REPLY_HELLO,
    REPLY_RECEIPT,
    REPLY_FILL,
    REPLY_GET,
    REPLY_EXPLAIN,
    REPLY_LIST,
    REPLY_STATUS,
    REPLY_EVENT,
    REPLY_DONE,
    REPLY_CLIENTS,
    REPLY_LOG,
    REPLY_RELAY_HELLO,
    REPLY_RELAY_PUBLISH,
};

struct entry_view {
    struct entry entry;
    uint64_t fill_lsn;
    /* 0: never */
    uint64_t expires_wall_ms;
    etag_reason state;
    bool in_index;
    bool persisted;
};

struct clock_view {
    enum target_kind kind;
    etag_str name;
    uint32_t number;
    uint64_t value;
};

struct event_view {
    uint64_t lsn;
    uint64_t wall_ms;
    etag_targets targets;
    uint32_t peer_pid, peer_uid;
    uint64_t dropped;
    enum event_kind kind;
    struct guard_id guard;
    /* the relay brought it */
    bool relayed;
    struct relay_origin origin;
};

struct stat_view {
    etag_str name;
    bool is_text;
    uint64_t number;
    etag_str text;
};

/* Durations, shortest first. A bucket counts those that are longer than the bound of the one before
 * it. */
struct bucket_view {
    uint64_t upto_ns, count;
};

struct histogram_view {
    etag_str name;
    uint64_t sum_ns;
    struct bucket_view *buckets;
    size_t bucket_count;
};

struct client_view {
    /* grows with each connection */
    uint64_t id;
    uint32_t pid, uid, roles;
    etag_str software;
    uint64_t age_ms, idle_ms, pending;
    bool watching;
    bool counts_itself;
    /* the counters that are not 0 */
    struct stat_view *counts;
    size_t count_count;
};

struct reply {
    uint64_t id;
    enum reply_kind kind;
    union {
        struct {
            uint32_t code;
            etag_str text;
        } error;
        struct {
            uint32_t protocol;
            etag_str software;
            uint32_t roles;
            uint64_t clock_ns, lease_ns, incarnation_id, index_bytes, counters_bytes;
            uint64_t spool_id, linger_ns;
            /* DEFAULT: HOST */
            etag_reach default_reach;
        } hello;
        struct {
            uint64_t lsn;
            /* proved */
            etag_reach reach;
            etag_proof proof;
            /* another receipt follows, with a further reach */
            bool more;
        } receipt;
        struct {
            etag_reason reason;
            uint64_t lsn;
        } fill;
        struct entry_view get;
        struct {
            struct entry_view view;
            struct clock_view *clocks;
            size_t clock_count;
            /* -1: none */
            int culprit;
            bool has_event;
            struct event_view event;
            uint64_t lease_deadline_ns, clock_ns;
        } explain;
        struct {
            struct entry_view *entries;
            size_t entry_count;
            etag_str next;
        } list;
        struct {
            struct event_view *events;
            size_t event_count;
            /* of the next page; 0: no more */
            uint64_t next_lsn;
            /* that is kept; 0: none */
            uint64_t oldest_lsn;
        } log;
        struct {
            struct stat_view *stats;
            size_t stat_count;
            struct histogram_view *histograms;
            size_t histogram_count;
        } status;
        struct {
            struct client_view *clients;
            size_t client_count;
            /* 0: no more */
            uint32_t next;
        } clients;
        struct {
            /* empty: none */
            etag_str cursor, log_id;
            uint64_t incarnation;
            enum relay_mode mode;
        } relay_hello;
        struct {
            uint64_t token;
            /* with reach and position */
            etag_targets targets;
        } relay_publish;
        struct event_view event;
    };
};

/* Appends a whole frame. Returns 0, -ENOMEM, or -EMSGSIZE if it would be over FRAME_BYTES_MAX; on
 * an error nothing is appended. */
MUST_USE int request_encode(struct buffer *out, const struct request *request);
MUST_USE int reply_encode(struct buffer *out, const struct reply *reply);

/* Decodes one frame's payload. Returns NULL, or what is wrong (static text). Checks how often a
 * repeated field occurs before it takes memory for it. out borrows from arena and bytes. out->id is
 * set also where the rest is wrong, so that the error can name the request. An unknown
 * body decodes as kind NONE. Text that the peer left out is empty, never absent; only a vary
 * field's value can be absent. */
MUST_USE const char *request_decode(struct request *out, struct arena *arena, etag_str bytes);
MUST_USE const char *reply_decode(struct reply *out, struct arena *arena, etag_str bytes);

/* Guesses the kind of the request in a frame's payload without decoding it. Use it only to decide
 * when the frame is decoded. */
enum request_kind request_peek(etag_str payload);

#endif
