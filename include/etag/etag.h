/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etag.h - libetag, the client of etagd: answer If-None-Match with 304 from shared memory.
 *
 * CONCEPTS
 *
 *   A daemon on this host keeps the entity tag (RFC 9110 section 8.8.3) of every cacheable
 *   representation and publishes it in shared memory. A front end (a web server that uses libetag)
 *
 *     1. takes a fill token           etag_token_now()   before it reads any data,
 *     2. looks the page up            etag_check()       no system call, no lock, no allocation,
 *     3. on ETAG_UNKNOWN renders, judges with the real validators   etag_evaluate(),
 *        and tells the daemon what it rendered            etag_fill().
 *
 *   A writer commits its change and then calls etag_invalidate(). When the call returns ETAG_OK, no
 *   front end on this host answers 304 for the old version. The daemon refuses every fill whose
 *   token is older than the invalidation, so a slow render cannot bring old data back.
 *
 *   Between the COMMIT and that call, front ends may still answer 304 for the old version, and a
 *   writer that dies there never makes the call. A guard closes the gap: call etag_guard_begin()
 *   before the transaction, etag_guard_confirm() right before COMMIT, and etag_guard_commit() after
 *   it. While the guard is open, front ends say ETAG_UNKNOWN for its targets.
 *
 *   A writer does not need a running daemon. If no daemon answers, libetag writes the mutation into
 *   the spool, a directory beside the socket. Every daemon applies the spool before it renews its
 *   lease. The call returns ETAG_OK after one lease (L, 1 s by default): by then every lease that
 *   was granted without this mutation has ended.
 *
 *   key            names one representation: resource, scope, selected request header fields,
 *                  release, scheme
 *   scope          whose representation it is: public, or a tenant's or principal's. No default
 *   surrogate key  a name that entries depend on ("upload:42"); invalidating it makes all of them
 *                  stale
 *   family         all surrogate keys with the same text before their first colon ("upload:...")
 *   fill token     the daemon's clock, read before the data
 *   LSN            number of a mutation; grows, never reused
 *   guard          a mutation in two steps around a database commit
 *   hold           a mutation whose targets stay unknown for a while, for replicas that lag
 *   lease          the daemon's promise, until a deadline, that the shared memory is current
 *   spool          the directory for mutations that the daemon did not take
 *
 * CAVEATS
 *
 *   - ETAG_UNKNOWN is always a correct answer and always possible: render.
 *   - Take the token before the database snapshot begins. A token taken later makes stale 304s
 *     possible, and the library cannot notice.
 *   - Call etag_check() after authentication and authorization (RFC 9110 section 13.2.1): a 304
 *     reveals that the representation exists.
 *   - ETAG_PROCEED for a request with If-Match does not prevent a lost update. Judge the request
 *     again inside the database transaction.
 *
 * THREADS AND FORK
 *
 *   One thread at a time may use a client. The library creates no threads and installs no signal
 *   handlers. A child of fork() may use its copy of the client: the copy keeps the shared memory,
 *   and opens a connection of its own when it first needs one.
 *
 * MEMORY
 *
 *   "borrowed": used during the call only. "copied": the library keeps its own copy. "consumed":
 *   the library owns it from the call on, even if the call fails.
 *   Every struct that crosses the interface begins with its size: set it with ETAG_INIT. A program
 *   may be built with a newer header than the library. It must then leave the members that the
 *   library does not know at zero. Otherwise the call does nothing and returns ETAG_INVALID, or, if
 *   it is a check, ETAG_UNKNOWN with ETAG_REASON_BAD_KEY.
 */
#ifndef ETAG_ETAG_H
#define ETAG_ETAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ETAG_VERSION_MAJOR 0
#define ETAG_VERSION_MINOR 1
#define ETAG_VERSION_PATCH 0
#define ETAG_VERSION_STRING "0.1.0"

#if defined(__GNUC__)
#define ETAG_API __attribute__((visibility("default")))
#define ETAG_MUST_USE __attribute__((warn_unused_result))
#else
#define ETAG_API
#define ETAG_MUST_USE
#endif

#ifdef __cplusplus
#define ETAG_ZERO                                                                                  \
    {                                                                                              \
    }
#else
#define ETAG_ZERO                                                                                  \
    {                                                                                              \
        0                                                                                          \
    }
#endif

/* Zeroes a struct and sets its size:  etag_key key; ETAG_INIT(&key); */
#define ETAG_INIT(p)                                                                               \
    do {                                                                                           \
        const __typeof__(*(p)) etag_init_zero_ = ETAG_ZERO;                                        \
        *(p) = etag_init_zero_;                                                                    \
        (p)->size = sizeof(*(p));                                                                  \
    } while (0)

/* ---- Bytes ----------------------------------------------------------------------------------- */

/* Bytes that the caller owns; no NUL needed. data == NULL means "absent", which differs from
 * "empty". */
typedef struct etag_str {
    const char *data;
    size_t len;
} etag_str;

/* A string literal as etag_str. */
#define ETAG_LIT(s)                                                                                \
    (etag_str)                                                                                     \
    {                                                                                              \
        (s), sizeof(s) - 1                                                                         \
    }

/* Makes an etag_str of a NUL-terminated string; NULL stays absent.
 * text: borrowed, for as long as the result is used. Any thread. */
ETAG_API etag_str etag_str_of(const char *text);

/* One header field line. Names are compared without case. */
typedef struct etag_field {
    etag_str name;
    etag_str value;
} etag_field;

/* ---- Status, verdicts, reasons --------------------------------------------------------------- */

/* What a call can return: name, value, text. */
#define ETAG_STATUSES(X)                                                                           \
    X(OK, 0, "done")                                                                               \
    X(AGAIN, 1, "not yet: try again after etag_client_dispatch()")                                 \
    X(PENDING, 2, "recorded, effect not yet proven")                                               \
    X(REFUSED, 3, "refused: see etag_fill_reason()")                                               \
    X(DENIED, 4, "this process has no role for that")                                              \
    X(INVALID, 5, "bad argument")                                                                  \
    X(UNAVAILABLE, 6, "no daemon answers on the socket; nothing was sent")                         \
    X(TIMEOUT, 7, "no answer in time; the daemon may or may not have done it")                     \
    X(VERSION, 8, "library and daemon do not speak the same protocol")                             \
    X(PROTOCOL, 9, "the daemon broke the protocol; the connection was closed")                     \
    X(SYSTEM, 10, "the operating system refused: see etag_client_error()")                         \
    X(NOT_FOUND, 11, "no such entry")                                                              \
    X(FAILED, 12, "the daemon could not do it: see etag_client_error()")

typedef enum etag_status {
#define ETAG_STATUS_ENUM(name, value, text) ETAG_##name = value,
    ETAG_STATUSES(ETAG_STATUS_ENUM)
#undef ETAG_STATUS_ENUM
} etag_status;

/* Returns the status as a short English text: static memory, never NULL, even if the number is no
 * status. Any thread. */
ETAG_API const char *etag_status_text(etag_status status);

/* What to do with a request. */
typedef enum etag_verdict {
    /* render, call etag_evaluate() with the real validators, then etag_fill() */
    ETAG_UNKNOWN = 0,
    /* answer 304 with the answer's fields */
    ETAG_NOT_MODIFIED = 1,
    /* answer 412 */
    ETAG_PRECONDITION_FAILED = 2,
    /* the cache knows the entry, and the conditions allow the method */
    ETAG_PROCEED = 3,
    /* answer 428: see etag_request.require_if_match */
    ETAG_PRECONDITION_REQUIRED = 4
} etag_verdict;

/* Returns the verdict as a word: "unknown", "not_modified", "precondition_failed", "proceed" or
 * "precondition_required". Static memory, never NULL. Any thread. */
ETAG_API const char *etag_verdict_word(etag_verdict verdict);

/* Returns the HTTP status for the verdict: 304, 412 or 428; 0 if the request goes on (proceed,
 * unknown). Any thread. */
ETAG_API int etag_verdict_http_status(etag_verdict verdict);

/* The reason for a verdict, a refused fill or an entry's state: name, wire number, word,
 * sentence. */
#define ETAG_REASONS(X)                                                                            \
    X(NONE, 0, "none", "no reason")                                                                \
    /* known */                                                                                    \
    X(MATCH, 1, "match", "a condition matched the current entity tag")                             \
    X(NO_MATCH, 2, "no_match", "no listed entity tag is the current one")                          \
    X(NO_CONDITION, 3, "no_condition", "the request has no precondition that applies")             \
    X(NOT_MODIFIED_SINCE, 4, "not_modified_since", "not modified since the request's date")        \
    X(MODIFIED_SINCE, 5, "modified_since", "modified since the request's date")                    \
    X(VALID, 6, "valid", "the entry is current")                                                   \
    X(MALFORMED, 7, "malformed", "a condition of the request is malformed")                        \
    X(REQUIRED, 8, "required", "the request must carry If-Match")                                  \
    X(DATE_WEAK, 9, "date_weak",                                                                   \
      "not modified since the request's date, which does not tell two versions of a second apart") \
    /* unknown */                                                                                  \
    X(NO_INDEX, 20, "no_index", "this process has no shared memory from a daemon yet")             \
    X(NO_LEASE, 21, "no_lease",                                                                    \
      "the daemon does not vouch for its memory: down, stalled or paused")                         \
    X(NO_ENTRY, 22, "no_entry", "the cache has no entry for the key")                              \
    X(STALE, 23, "stale", "something that the entry depends on was invalidated after its fill")    \
    X(IN_FLUX, 24, "in_flux", "something that the entry depends on is being changed")              \
    X(EXPIRED, 25, "expired", "the entry's time to live is over")                                  \
    X(TORN, 26, "torn", "the entry was being rewritten while it was read")                         \
    X(BAD_KEY, 27, "bad_key", "the key is not valid: see etag_client_error()")                     \
    X(SHADOW, 28, "shadow",                                                                        \
      "the entry is current, and in shadow mode nothing is answered from it")                      \
    /* fill refused by the daemon */                                                               \
    X(TOKEN_STALE, 40, "token_stale",                                                              \
      "something that the entry depends on was invalidated after the token was taken")             \
    X(TOKEN_IN_FLUX, 41, "token_in_flux", "something that the entry depends on is being changed")  \
    X(TOKEN_FOREIGN, 42, "token_foreign",                                                          \
      "the token is of another run of the daemon, or was never handed out")                        \
    X(OLDER_FILL, 43, "older_fill", "the cache has an entry from a newer token")                   \
    X(NO_ROOM, 44, "no_room", "no room in the index, and nothing to evict")                        \
    X(STORE_FAILED, 45, "store_failed", "the daemon's store cannot be written")                    \
    X(PAUSED, 46, "paused", "an operator paused the daemon")                                       \
    /* fill refused by libetag: must not be stored; BAD_KEY too. etag_client_error() says more */  \
    X(METHOD, 60, "method", "only the answer to a GET may be stored")                              \
    X(HTTP_STATUS, 61, "http_status", "only a 200 may be stored")                                  \
    X(NO_VALIDATOR, 62, "no_validator", "the response has no entity tag")                          \
    X(NO_STORE, 63, "no_store", "Cache-Control: no-store")                                         \
    X(PRIVATE, 64, "private", "Cache-Control: private under the public scope")                     \
    X(AUTHORIZATION, 65, "authorization",                                                          \
      "the request carried Authorization, and the scope is public")                                \
    X(SET_COOKIE, 66, "set_cookie", "the response sets a cookie")                                  \
    X(VARY_STAR, 67, "vary_star", "Vary: *")                                                       \
    X(VARY_UNCOVERED, 68, "vary_uncovered", "Vary names a request header that is not in the key")  \
    X(CSP_NONCE, 69, "csp_nonce", "Content-Security-Policy carries a nonce")                       \
    X(CONTENT_RANGE, 70, "content_range", "a part of a representation")                            \
    X(LIMIT, 71, "limit", "the fields that a 304 repeats are too many, or too long")               \
    X(WITHHELD, 72, "withheld", "the application says that it must not be stored")                 \
    X(BAD_ETAG, 73, "bad_etag", "the entity tag is malformed or too long, or there are several")   \
    X(BAD_FIELD, 74, "bad_field", "a header field of the response is malformed")                   \
    X(BAD_SURROGATE, 75, "bad_surrogate", "a surrogate key is malformed or too long")              \
    X(SURROGATES_LIMIT, 76, "surrogates_limit", "more surrogate keys than an entry may have")

typedef enum etag_reason {
#define ETAG_REASON_ENUM(name, value, word, text) ETAG_REASON_##name = value,
    ETAG_REASONS(ETAG_REASON_ENUM)
#undef ETAG_REASON_ENUM
} etag_reason;

/* Return the reason as a word for programs ("stale"), and as a sentence for people. Words do not
 * change between releases. Static memory, never NULL, even if a newer daemon sent the number. Any
 * thread. */
ETAG_API const char *etag_reason_word(etag_reason reason);
ETAG_API const char *etag_reason_text(etag_reason reason);

/* ---- Keys and targets ------------------------------------------------------------------------ */

/* A resource: host and request target. The library makes both canonical: the host in lower case
 * without the default port (":80", ":443"), the path with normalized percent-encoding. The query
 * counts byte for byte ("no query" differs from "empty query"), and "//" and "%2F" stay as they
 * are.
 * A key with dot segments is refused (BAD_KEY), because the application may resolve them to another
 * resource: "/a/../b", "%2e%2e", "..;", also where "%2F", "%5C" or a backslash is a slash to some
 * servers. A target with dot segments names every resource that some server may read in it. */
typedef struct etag_resource {
    /* absent or empty: no host. That is a name of its own and matches no other */
    etag_str host;
    /* "/path" or "/path?query": starts with '/', no fragment */
    etag_str target;
} etag_resource;

/* Checks a resource. Returns OK (fit for keys and targets), REFUSED (its path has dot segments: fit
 * for targets only) or INVALID (fit for neither). Any thread.
 * resource: borrowed, not NULL. */
ETAG_API ETAG_MUST_USE etag_status etag_resource_check(const etag_resource *resource);

typedef enum etag_scope_kind {
    /* refused, so that a caller cannot forget the scope */
    ETAG_SCOPE_UNSET = 0,
    /* the same for everybody */
    ETAG_SCOPE_PUBLIC = 1,
    /* one tenant's or principal's: "customer:7" */
    ETAG_SCOPE_NAMED = 2
} etag_scope_kind;

typedef struct etag_scope {
    etag_scope_kind kind;
    /* of a named scope: 1 to 255 bytes */
    etag_str name;
} etag_scope;

/* The name of one cacheable representation. */
typedef struct etag_key {
    size_t size;
    etag_resource resource;
    etag_scope scope;
    /* whatever else makes bodies differ, such as the deployed version; absent: none */
    etag_str release;
    /* the request header fields that select the representation, in any order; value.data == NULL:
     * the request has no such field, which differs from an empty one */
    const etag_field *vary;
    size_t vary_count;
    /* "http", "https" (at most 16 bytes, without case); absent: none, which is a name of its own.
     * The scheme is no part of the resource: a target reaches the entries of all schemes */
    etag_str scheme;
} etag_key;

/* A key that is ready to be looked up: see etag_key_prepare(). Plain data without pointers. */
typedef struct etag_prepared_key {
    size_t size;
    /* the run of the daemon that it is for; 0: none */
    uint64_t incarnation;
    /* compare nothing in it */
    uint64_t place[2];
} etag_prepared_key;

/* How far a mutation must reach before its call returns OK. Beyond this host it needs a relay
 * (docs/relay.md). */
typedef enum etag_reach {
    /* what the daemon is configured for: LOG if it requires a relay, else HOST */
    ETAG_REACH_DEFAULT = 0,
    /* no front end on this host answers 304 from older data */
    ETAG_REACH_HOST = 1,
    /* HOST, and the event is durable in the log that all hosts read; they follow within L_net, the
     * lease between hosts. With PostgreSQL and position, the event commits in one transaction with
     * the data. With etcd it never does: a writer that dies between its COMMIT and this call leaves
     * no event. Call it before COMMIT too, with hold_ms */
    ETAG_REACH_LOG = 2,
    /* no front end on any host answers 304 from older data */
    ETAG_REACH_EVERYWHERE = 3
} etag_reach;

/* How the library knows that the reach was reached. */
typedef enum etag_proof {
    ETAG_PROOF_NONE = 0,
    /* HOST: the daemon applied it */
    ETAG_PROOF_DAEMON = 1,
    /* HOST: the mutation is in the spool, and every lease granted before it has ended */
    ETAG_PROOF_WAIT = 2,
    /* LOG: the relay put the event there; or the caller did, and the relay has seen it at its
     * position */
    ETAG_PROOF_LOGGED = 3,
    /* EVERYWHERE: every host said that it applied the event */
    ETAG_PROOF_ACKNOWLEDGED = 4,
    /* EVERYWHERE: the call waited until every lease granted before the event had ended. A machine
     * that was paused during the wait may still answer 304 for the rest of its lease */
    ETAG_PROOF_TIME = 5
} etag_proof;

/* What a mutation names. Everything is borrowed. */
typedef struct etag_targets {
    size_t size;
    /* every scope, variant, release and scheme of each resource */
    const etag_resource *resources;
    size_t resource_count;
    const etag_str *surrogates;
    size_t surrogate_count;
    /* everything below a path, which is a target without query. The library widens a prefix to its
     * nearest ancestor that ends in "/" and is at most four levels deep: "/a/b" means "/a/" */
    const etag_resource *prefixes;
    size_t prefix_count;
    bool everything;
    /* how long the targets stay unknown after the mutation (after the commit, for a guard); then
     * they change once more. Make it longer than the lag of the replicas that front ends read. At
     * most 3600000; 0: no hold */
    uint32_t hold_ms;
    /* guards only: how long the writer may keep the guard open, at most 86400000; 0: 600000. After
     * that the daemon waits guard_linger, then takes the guard as committed */
    uint32_t max_ms;
    /* for a guard: the reach of its commit. etag_guard_begin() returns INVALID if no relay can
     * prove that reach */
    etag_reach reach;
    /* what etagd.invalidate() returned in the writer's transaction: the event is already in the
     * log. 0: it is not, and the relay puts it there. Above ETAG_REACH_HOST the relay checks that
     * the event is there; if the transaction still runs or was rolled back, the call returns
     * FAILED. With ETAG_REACH_HOST the call waits for no relay, and the event reaches the other
     * hosts anyway */
    uint64_t position;
    /* families of surrogate keys: "uploads" names every key that begins with "uploads:", and the
     * key "uploads". The library ignores everything from a colon on: "uploads:*" means the same */
    const etag_str *families;
    size_t family_count;
} etag_targets;

/* ---- Requests, validators, answers ----------------------------------------------------------- */

/* A request. Pass all its header fields if you like; the library reads only the conditional
 * ones. */
typedef struct etag_request {
    size_t size;
    /* case-sensitive, as on the request line */
    etag_str method;
    /* for etag_check(); etag_evaluate() ignores it. NULL: only what is prepared is looked up */
    const etag_key *key;
    /* repeat a field that came in several lines */
    const etag_field *fields;
    size_t field_count;
    /* refuse a method that may change something (ETAG_PRECONDITION_REQUIRED) unless the request has
     * If-Match, or "If-None-Match: *", which only creates and so overwrites no update */
    bool require_if_match;
    /* If-None-Match: let "x-gzip" and "x--gzip" match "x" too (also br, zstd, deflate, compress).
     * For a front end whose upstream compresses and renames the tag */
    bool compression_suffixes;
    /* etag_check() in shadow mode: see etag_client_options */
    bool shadow;
    /* made of the same key by etag_key_prepare(): the check then does not read the key. NULL, or of
     * another run of the daemon: as without it */
    const etag_prepared_key *prepared;
} etag_request;

/* No date. */
#define ETAG_NO_DATE INT64_MIN

typedef enum etag_existence {
    ETAG_EXISTENCE_UNKNOWN = 0,
    ETAG_EXISTS = 1,
    ETAG_ABSENT = 2
} etag_existence;

/* The selected representation as it is now. Begin with etag_validators_init(): in a struct of zeros
 * last_modified means 1970. */
typedef struct etag_validators {
    size_t size;
    etag_existence existence;
    /* with quotes and W/, as in the header field; absent: none */
    etag_str etag;
    /* seconds since 1970 or ETAG_NO_DATE */
    int64_t last_modified;
    /* no two versions have the same last_modified second (section 8.8.2.2). Only then may If-Range
     * use the date */
    bool last_modified_is_strong;
} etag_validators;

/* Zeroes the validators, then sets size and last_modified to ETAG_NO_DATE. So the existence is
 * unknown and there is no ETag. Any thread. */
ETAG_API void etag_validators_init(etag_validators *validators);

/* What to do with the request's Range field (RFC 9110 section 14.2) if the other conditions let the
 * request go on. */
typedef enum etag_range {
    /* the request has no Range, or the method has no ranges: answer 200 with the whole body */
    ETAG_RANGE_NONE = 0,
    /* no If-Range, or it is true: answer 206, or 416 */
    ETAG_RANGE_HONOR = 1,
    /* If-Range is false: answer 200 with the whole body */
    ETAG_RANGE_IGNORE = 2
} etag_range;

/* Taken before data is read; passed to the fill. Compare nothing in it. */
typedef struct etag_token {
    /* random id of the daemon's run; 0: no token, and the library drops a fill that has it */
    uint64_t incarnation;
    uint64_t lsn;
} etag_token;

/* What etag_check() found. Pointers are valid until this client's next etag_check() or
 * etag_check_many(), or its close. */
typedef struct etag_answer {
    size_t size;
    etag_verdict verdict;
    etag_reason reason;
    /* the current entity tag, if the cache knows the entry */
    etag_str etag;
    /* seconds since 1970 or ETAG_NO_DATE */
    int64_t last_modified;
    /* what a 304 carries besides Date (RFC 9110 section 15.4.5), including ETag */
    const etag_field *fields;
    size_t field_count;
    /* the entry's; 0 if there is no entry */
    uint64_t fill_lsn;
    /* the token passed in: fill with it */
    etag_token token;
    /* set with ETAG_PROCEED */
    etag_range range;
    /* where the key's entry is, or would be: for etag_finish(). Zeros: not known */
    uint64_t place[2];
} etag_answer;

/* Judges a request's conditions (RFC 9110 section 13.2.2) with validators that the caller knows.
 * Call it only if the request would otherwise get a 2xx answer (section 13.2.1): conditions do not
 * change any other answer. Pure: no client, no allocation, linear time. Any thread. Everything
 * borrowed.
 * Returns ETAG_NOT_MODIFIED, ETAG_PRECONDITION_FAILED, ETAG_PROCEED, or ETAG_PRECONDITION_REQUIRED
 * if the request requires a condition. Returns ETAG_UNKNOWN only if a condition asks for what the
 * validators do not say, a size is not set, or a member that this library does not know is not
 * zero.
 * "Not modified since" is ETAG_NOT_MODIFIED with a weak date too, as section 13.1.3 allows an
 * origin server. The calls with a client return ETAG_PROCEED then (ETAG_REASON_DATE_WEAK), because
 * the client may have an earlier version of the same second. */
ETAG_API ETAG_MUST_USE etag_verdict etag_evaluate(const etag_request *request,
                                                  const etag_validators *validators);

/* Says what to do with a request's Range and If-Range, the last step of section 13.2.2. Call it
 * after ETAG_PROCEED only. As pure as etag_evaluate(). If a size is not set, it returns
 * ETAG_RANGE_IGNORE, which is always correct. */
ETAG_API ETAG_MUST_USE etag_range etag_evaluate_range(const etag_request *request,
                                                      const etag_validators *validators);

/* Parses an HTTP-date in any of the three forms of RFC 9110 section 5.6.7. Returns seconds since
 * 1970, or ETAG_NO_DATE. Any thread. Never blocks.
 * text: borrowed. */
ETAG_API int64_t etag_date_parse(etag_str text);

/* ---- ETag makers ----------------------------------------------------------------------------- */

/* The longest entity tag that etagd stores, in bytes, including its quotes and W/. */
#define ETAG_BYTES_MAX 256

/*
 * Makes an entity tag from the body, for representations that have no version number or the like.
 *
 *     etag_hasher_open(&hasher)             once a thread
 *     etag_hasher_begin(hasher)             for each body
 *     etag_hasher_update(hasher, ...)       for each piece of it
 *     etag_hasher_final(hasher, weak, &etag)
 *
 * The tag is the first 128 bits of SHA-256 in base64url without padding (22 characters), in quotes:
 * "ungWv48Bz-pBQUDeXa4iIw" is the tag of the body "abc". The same bytes give the same tag in every
 * process, on every host, in every version. Hash the bytes that are sent, in their content coding,
 * for a strong tag. If you hash the body before it is coded, use etag_variant() or a weak tag.
 *
 * One thread at a time may use a hasher. Keep it open: opening looks the hash up and allocates.
 * After that libetag allocates nothing (OpenSSL 3.0 allocates and frees some hundred bytes a body).
 * None of these calls waits or needs a client. Every call accepts the NULL hasher of a failed open:
 * final returns INVALID, and the response goes out without a tag. After fork() parent and child
 * each have a hasher of their own.
 */
typedef struct etag_hasher etag_hasher;

/* Opens a hasher. The first call of a process reads OpenSSL's configuration file: make it before
 * the process gives up the right to read that file.
 * *out: the caller owns it and closes it with etag_hasher_close(); NULL unless the call returns OK.
 * Errors (etag_client_error() does not describe them): SYSTEM (no memory: try again later), FAILED
 * (OpenSSL offers no SHA-256 because its configuration names no provider that has it, see
 * openssl.cnf and $OPENSSL_CONF; or no memory). */
ETAG_API ETAG_MUST_USE etag_status etag_hasher_open(etag_hasher **out);

/* Closes the hasher; NULL is allowed. Tags that point into it become invalid. Returns NULL. */
ETAG_API etag_hasher *etag_hasher_close(etag_hasher *hasher);

/* Begins a body, and forgets an unfinished one with its errors. The previous tag becomes
 * invalid. */
ETAG_API void etag_hasher_begin(etag_hasher *hasher);

/* Adds the next piece of the body. etag_hasher_final() reports errors.
 * data: borrowed; may be NULL only if len is 0. */
ETAG_API void etag_hasher_update(etag_hasher *hasher, const void *data, size_t len);

/* Ends the body and returns its tag. After an error too, the hasher can begin the next body.
 * weak: puts W/ before the tag, for bodies that may also be sent as other bytes.
 * *out: points into the hasher until its next begin or close, NUL-terminated; absent unless the
 * call returns OK.
 * Errors: INVALID (no body was begun, or a piece was NULL), FAILED (OpenSSL failed at one of the
 * steps, for example without memory). */
ETAG_API ETAG_MUST_USE etag_status etag_hasher_final(etag_hasher *hasher, bool weak, etag_str *out);

/* Begins, updates and ends a whole body in one call. Errors: as etag_hasher_final(). */
ETAG_API ETAG_MUST_USE etag_status etag_hash(etag_hasher *hasher, const void *body, size_t len,
                                             bool weak, etag_str *out);

/* Makes the tag of a representation in a content coding from the tag of the plain one: "x" and gzip
 * give "x-gzip", W/"x" gives W/"x-gzip". A coded variant has other bytes, so it must not have the
 * plain one's strong tag (RFC 9110 section 8.8.3.3). The coding counts in lower case; x-gzip is
 * gzip, x-compress is compress. For identity, an empty or an absent coding the tag does not change.
 * Any thread. Never blocks.
 * etag, coding: borrowed.
 * buffer: of size bytes; ETAG_BYTES_MAX always suffice. etag may be in it.
 * *out: points into buffer, without a NUL. Unless the call returns OK, it is absent and buffer is
 * unchanged.
 * Errors: INVALID (etag is no entity tag, coding is no token, or the result is longer than size or
 * ETAG_BYTES_MAX). */
ETAG_API ETAG_MUST_USE etag_status etag_variant(etag_str etag, etag_str coding, char *buffer,
                                                size_t size, etag_str *out);

/* ---- Content codings ------------------------------------------------------------------------- */

/* Selects the content coding to answer with from a request's Accept-Encoding (RFC 9110 section
 * 12.5.3) and the codings that the server offers. Put the result into the key's vary, so that the
 * many spellings of the field share an entry:
 *
 *     vary.name = ETAG_LIT("Accept-Encoding");
 *     vary.value = etag_encoding_select(fields, field_count, offered, 2);   offered: "br", "gzip"
 *
 *   absent       the request has no such field. Any coding is acceptable: always choose the same
 *   a coding     the offered one with the highest weight; of equal ones, the first in offered
 *   "identity"   no offered coding is acceptable, or identity has an explicit, higher weight
 *   ""           not even identity is acceptable ("identity;q=0", or "*;q=0" without identity)
 *
 * A response must be what the key says. A front end that answers with another coding than the
 * result (because the body is small, say) must do so for every request with the same result.
 * Names are compared without case; x-gzip is gzip, x-compress is compress; several field lines are
 * one list. A malformed element, its weight included, is ignored; if a coding is named several
 * times, its lowest weight counts.
 *
 * fields: the request's, borrowed. Pass all if you like; one with an absent value is ignored.
 * offered: names of codings, the preferred ones first, borrowed. At most 16 count, and a name that
 * is no token is never chosen. Spell them alike on all front ends: the result is one of them, byte
 * for byte.
 * Returns a string that points into offered or static memory, never into the request. Pure: no
 * client, no allocation, linear time. Any thread. Never blocks. No errors. */
ETAG_API etag_str etag_encoding_select(const etag_field *fields, size_t field_count,
                                       const etag_str *offered, size_t offered_count);

/* ---- Client ---------------------------------------------------------------------------------- */

typedef struct etag_client etag_client;

typedef enum etag_spool_use { ETAG_SPOOL_ALLOWED = 0, ETAG_SPOOL_NEVER = 1 } etag_spool_use;

typedef struct etag_client_options {
    size_t size;
    /* copied; NULL: $ETAGD_SOCKET, else /run/etagd/etagd.sock */
    const char *socket_path;
    /* longest wait of a synchronous call; 0: 3000. If the daemon does not answer, a mutation goes
     * through the spool, which takes a little more than L (1 s by default); with a shorter timeout
     * the call returns ETAG_PENDING */
    uint32_t timeout_ms;
    /* longest wait of etag_client_open() for the daemon's first answer; 0: 100 */
    uint32_t connect_timeout_ms;
    /* etag_client_open() does not wait at all */
    bool no_wait;
    /* whether mutations that the daemon does not answer may go into the spool */
    etag_spool_use spool;
    /* copied: names of further fields that a 304 repeats as they were filled, at most 8:
     * "Surrogate-Key", "Access-Control-Expose-Headers". A field that frames the message, sets
     * state, redirects or differs from answer to answer (Set-Cookie, Location, Date ...) is
     * INVALID. A 304 omits fields that another client filled and this one does not name */
    const etag_str *repeated_fields;
    size_t repeated_field_count;
    /* shows what etagd would do, before it does it. A check that finds a current entry counts what
     * it would have answered, and returns ETAG_UNKNOWN with ETAG_REASON_SHADOW. etag_fill() and
     * etag_finish() compare their ETag with the entry's; a difference without an invalidation in
     * between is a mismatch. The first such check allocates memory. $ETAGD_SHADOW does the same if
     * it is set and not "0" */
    bool shadow;
} etag_client_options;

/* Opens a client. Succeeds without a daemon too: checks then return ETAG_UNKNOWN, and fill,
 * dispatch and invalidate connect when they can (at most once in 100 ms). Blocks for at most
 * connect_timeout_ms.
 * options: borrowed, NULL for the defaults.
 * *out: the caller owns it and closes it with etag_client_close().
 * Errors: INVALID (the socket path is too long, or an option has a bad value), SYSTEM (no memory;
 * *out is NULL), VERSION (the daemon speaks another protocol; *out is usable, and checks return
 * ETAG_UNKNOWN). */
ETAG_API ETAG_MUST_USE etag_status etag_client_open(etag_client **out,
                                                    const etag_client_options *options);

/* Closes the client; NULL is allowed. Open operations end without an answer, and open guards
 * linger; use neither afterwards. Never blocks. Returns NULL. */
ETAG_API etag_client *etag_client_close(etag_client *client);

/* Say what an event loop must wait for: watch the descriptor for the events, and call
 * etag_client_dispatch() when one comes or the timeout is over. All three may change after any call
 * on the client.
 * fd: -1 without a connection.
 * events: POLLIN, POLLOUT.
 * timeout: milliseconds until dispatch has something to do, -1 for never. */
ETAG_API int etag_client_fd(const etag_client *client);
ETAG_API short etag_client_events(const etag_client *client);
ETAG_API int etag_client_timeout_ms(const etag_client *client);

/* Sends what is queued, reads what arrived, connects or reconnects, maps a new index. Never blocks.
 * Errors: UNAVAILABLE, VERSION, DENIED, PROTOCOL, SYSTEM. The client stays usable after each. */
ETAG_API etag_status etag_client_dispatch(etag_client *client);

/* Returns what went wrong in this client's last call that failed, as a sentence. Never NULL; points
 * into the client, valid until its next call. */
ETAG_API const char *etag_client_error(const etag_client *client);

/* Returns why the last etag_fill(), etag_fill_wait() or etag_finish() was refused; ETAG_REASON_NONE
 * if it was not. */
ETAG_API etag_reason etag_fill_reason(const etag_client *client);

/* ---- Lookup ---------------------------------------------------------------------------------- */

/* Returns the token for a request that begins now. Call it before the request reads any data; if it
 * uses a transaction, before the snapshot begins. No system call. Without an index it returns the
 * zero token, and the library drops a fill with that token. */
ETAG_API etag_token etag_token_now(const etag_client *client);

/* Makes a key canonical and hashes it, once, for resources that are asked for often: a check with
 * the result (etag_request.prepared) takes little more than half of the instructions. The result
 * belongs to the daemon's present run, because a later one may hash with another secret. Another
 * run's is never used: the check reads request->key then, as if nothing were prepared, or, where
 * key is NULL, returns ETAG_UNKNOWN with ETAG_REASON_BAD_KEY. So prepare again when
 * out->incarnation is not that of etag_token_now(). No system call, no allocation; the client's
 * last answer stays valid.
 * key: borrowed. etag_finish() and etag_fill() still need it.
 * out: the caller sets its size, owns it, and may copy it. Nothing has to be closed. Any thread may
 * read it, with any client of the same daemon, also in a child of fork().
 * Errors: INVALID (a bad key, or a size that is not set), UNAVAILABLE (there is no index yet: try
 * again after etag_client_dispatch()). out->incarnation is 0 then, so that it may be used all the
 * same. */
ETAG_API ETAG_MUST_USE etag_status etag_key_prepare(etag_client *client, const etag_key *key,
                                                    etag_prepared_key *out);

/* Looks the key up and judges the request's preconditions (If-Match, If-Unmodified-Since,
 * If-None-Match, If-Modified-Since). No system call, no lock, no allocation.
 * request, its key: borrowed.
 * token: copied to answer->token.
 * answer: the caller sets its size. Its fields are, with ETAG_NOT_MODIFIED, all that a 304 carries;
 * with ETAG_PRECONDITION_FAILED, the current ETag.
 * Returns answer->verdict. */
ETAG_API etag_verdict etag_check(etag_client *client, const etag_request *request, etag_token token,
                                 etag_answer *answer);

/* The most requests of one etag_check_many(). */
#define ETAG_CHECKS_MAX 64

/* Looks up and judges several requests at once, each as etag_check() would: for a page that lists
 * many resources, or an endpoint that is asked for hundreds of entity tags. In a large index a key
 * costs less than half of a single check, since the lookups wait for memory together; from 8 on it
 * is worth it. No system call, no lock; the client's first call allocates memory for the answers
 * (some 300 KiB, of which only what is used is touched).
 * requests, their keys: borrowed. An array of 'count' elements, each with its size set.
 * token: copied to each answer. Taken before all of them read data.
 * answers: an array of 'count' elements; the caller sets each one's size, and ETAG_INIT() makes
 * each "unknown". Pointers are valid until the client's next etag_check() or etag_check_many(), or
 * its close; so are those of all answers at once.
 * A request that cannot be looked up (a bad key) is ETAG_UNKNOWN, and no reason against the others.
 * Errors, after which no answer was written: INVALID (count is above ETAG_CHECKS_MAX; the sizes are
 * not set, or not all the same), SYSTEM (no memory). */
ETAG_API ETAG_MUST_USE etag_status etag_check_many(etag_client *client,
                                                   const etag_request *requests, size_t count,
                                                   etag_token token, etag_answer *answers);

/* ---- Fill ------------------------------------------------------------------------------------ */

/* A rendered response. libetag decides whether it may be stored, and which of its fields a 304
 * repeats. */
typedef struct etag_entry {
    size_t size;
    const etag_key *key;
    /* the request's; absent: GET. Anything but GET is refused */
    etag_str method;
    /* the response's; anything but 200 is refused */
    int http_status;
    /* the request carried Authorization */
    bool had_authorization;
    /* absent: libetag takes ETag from fields */
    etag_str etag;
    /* ETAG_NO_DATE: libetag takes Last-Modified from fields, if it is there */
    int64_t last_modified;
    /* the response's header fields */
    const etag_field *fields;
    size_t field_count;
    /* surrogate keys: what the response depends on besides its resource */
    const etag_str *surrogates;
    size_t surrogate_count;
    /* time to live in the cache; 0: until it is invalidated */
    uint64_t max_age_s;
    /* as in etag_validators; stored. If false, the date alone makes no 304 */
    bool last_modified_is_strong;
    /* do not store it, for a reason that the response does not show */
    bool withheld;
    /* further surrogate keys, as lists in the form of a header field: "a b", "a, b". NULL: the
     * response fields for which etag_surrogate_field() is true */
    const etag_str *surrogate_lists;
    size_t surrogate_list_count;
} etag_entry;

/*
 * A surrogate key is a string of bytes without blanks and control characters; case counts. Fills
 * and mutations treat long and unusual keys alike: a key of more than 255 bytes that has commas is
 * a list, and its first name counts; any other key of more than 255 bytes, and one with bytes that
 * are not ASCII, is hashed. A key that is listed twice counts once. A list is split in two ways, at
 * blanks, and at commas or semicolons (with or without blanks), and the names of both count: "a,b"
 * names "a", "b" and "a,b". An entry of more than 128 keys depends on groups of keys instead. All
 * keys together fall into 128 groups, and the entry is stale as soon as a mutation names any key of
 * its groups.
 *
 * The family of a key is the text before its first colon: "uploads" for "uploads:42". A key without
 * a colon is a family of one. An entry also depends on the families of its keys, so a mutation that
 * names a family (etag_targets.families) makes all of its entries stale. Use it for a TRUNCATE, an
 * import, or any change that touches too many rows to name. An entry depends on *every* family if
 * its keys have more than 16 families, if it has more than 128 keys, or if a key is hashed or
 * begins with a colon: such an entry is stale as soon as a mutation names any family. Among
 * surrogate keys "uploads:*" has no special meaning.
 */

/* Tells whether a response field of this name holds a list of surrogate keys. Those are
 * Surrogate-Key, xkey, Cache-Tag, Cache-Tags, X-Cache-Tags and X-Magento-Tags, without case. Any
 * thread. */
ETAG_API bool etag_surrogate_field(etag_str name);

/* Zeroes an entry, then sets size, http_status to 200 and last_modified to ETAG_NO_DATE. Any
 * thread. */
ETAG_API void etag_entry_init(etag_entry *entry);

/* Tells the daemon what was rendered, without waiting; best effort. Everything copied. Send the
 * response whatever the call returns.
 * Errors: REFUSED (must not be stored: see etag_fill_reason()), INVALID, AGAIN (the socket is
 * full: the fill was dropped and counted), UNAVAILABLE, DENIED. */
ETAG_API etag_status etag_fill(etag_client *client, etag_token token, const etag_entry *entry);

typedef struct etag_receipt {
    size_t size;
    /* the mutation's; for a fill, the entry's fill LSN */
    uint64_t lsn;
    /* for a mutation: what is proved; also if the call returns PENDING */
    etag_reach reach;
    /* for a mutation: how it is proved */
    etag_proof proof;
} etag_receipt;

/* Fills as etag_fill() does, and waits for the daemon's answer: for tools and tests. Blocks for at
 * most timeout_ms.
 * receipt: may be NULL.
 * Errors: those of etag_fill(), and TIMEOUT. REFUSED also if the daemon refuses;
 * etag_fill_reason() has its reason. */
ETAG_API ETAG_MUST_USE etag_status etag_fill_wait(etag_client *client, etag_token token,
                                                  const etag_entry *entry, etag_receipt *receipt);

/* ---- Whole requests -------------------------------------------------------------------------- */

/*
 * Application servers put two calls around the handler, after the request's normal checks:
 *
 *     const etag_token token = etag_token_now(client);             before anything is read
 *     ... authenticate, authorize, name the key ...
 *     etag_answer answer;  ETAG_INIT(&answer);
 *     int status = etag_precheck(client, &request, token, &answer);
 *     if (status != 0)
 *         return send(status, answer.fields, answer.field_count);  304, 412, 428: no body
 *     ... render: status, fields, surrogate keys ...
 *     status = etag_finish(client, &request, &response, &answer);
 *     if (status != 0)
 *         return send(status, answer.fields, answer.field_count);  304, 412: without the body
 *     send the response; answer.range says whether a Range may be honored
 *
 * For a method that writes, etag_precheck() is a fast way to 412 and 428. If it returns 0, that
 * proves nothing: the resource may change before the transaction has its lock. To prevent a lost
 * update, judge again inside the transaction:
 *
 *     status = etag_precheck(...);                 0, 412, 428
 *     BEGIN; SELECT version ... FOR UPDATE;        (SQLite: BEGIN IMMEDIATE)
 *     validators = what that row is now, or ETAG_ABSENT
 *     status = etag_verdict_http_status(etag_evaluate(&request, &validators));
 *     if (status != 0) ROLLBACK, answer it;
 *     UPDATE ...; COMMIT; etag_invalidate(...)     or a guard around the COMMIT
 */

/* Looks up and judges as etag_check() does. Same arguments, same rules.
 * Returns the HTTP status to send with answer->fields and no body (304, 412 or 428), or 0: run the
 * handler. */
ETAG_API ETAG_MUST_USE int etag_precheck(etag_client *client, const etag_request *request,
                                         etag_token token, etag_answer *answer);

/* Corrects the cache from a response, and judges the request's conditions with the response's own
 * validators. Call it after rendering, for errors too; not for a response that comes out of another
 * cache. Never blocks.
 * A 200 to GET fills, unless the entry already says the same. If only other fields differ, it fills
 * at most once a second for a key; a further change in that second removes the entry. Responses
 * with 404, 410, 301 or 308, and those that contradict the entry and cannot be stored, remove it
 * too (docs/consistency.md). A request with Range changes nothing.
 * request: the one of etag_precheck().
 * answer: as etag_precheck() left it. The call reads its token, place and reason, then sets all of
 * it. With ETAG_REASON_NONE (not looked up) the call removes nothing.
 * response: borrowed. Its key, method and had_authorization may be left out; the request's count
 * then. libetag finds its ETag and Last-Modified among its fields.
 * Returns the HTTP status to send with answer->fields and no body (304 or 412), or 0: send the
 * response as it is. It is always 0 if the method is not GET or HEAD, if the response is not 2xx,
 * and if a size is not set or there is no key (etag_client_error() says so). The answer's pointers
 * are valid as long as the response, and until the client's next etag_check() or its close. */
ETAG_API ETAG_MUST_USE int etag_finish(etag_client *client, const etag_request *request,
                                       const etag_entry *response, etag_answer *answer);

/* Makes a key's vary from the named request header fields: sets vary[i] to names[i] and its value,
 * or to absent if the request has no such field. For Accept-Encoding use etag_encoding_select():
 * its raw values are too many.
 * text: of text_size bytes. Several lines of a field are joined there with ", "; a single line is
 * borrowed.
 * Errors: INVALID (text is too small). A key with these fields is then refused, so nothing wrong is
 * found or stored. */
ETAG_API ETAG_MUST_USE etag_status etag_vary_select(const etag_str *names, size_t name_count,
                                                    const etag_field *fields, size_t field_count,
                                                    etag_field *vary, char *text, size_t text_size);

/* ---- Invalidate ------------------------------------------------------------------------------ */

/* Makes every entry that depends on a target stale. Call it after the change is committed.
 * After OK no front end on this host answers 304 from older data, and the event is recorded in the
 * daemon's state or in the spool. With a reach beyond this host, OK promises that too, and takes
 * longer: with ETAG_REACH_EVERYWHERE, some seconds if a host does not answer. Blocks for at most
 * timeout_ms, plus the time to write a spool file (with durability "power" this includes two
 * fsyncs, which last as long as the disk takes; if that is longer, the call returns PENDING).
 * targets: borrowed.
 * receipt: may be NULL; filled in on OK and on PENDING. receipt->lsn is 0 if the event went through
 * the spool.
 * Errors: PENDING (recorded, but the time did not suffice to prove its whole effect; receipt->reach
 * says how much is proved). If the event is in the spool, it takes effect within L of this return,
 * or when the next daemon starts; until then old 304s are possible, and nothing beyond this host is
 * ever proved. If it took effect on this host only, the relay publishes it when it can.
 * INVALID (no target, or a malformed one), DENIED, VERSION, PROTOCOL, SYSTEM.
 * UNAVAILABLE (no daemon and no usable spool): nothing happened.
 * TIMEOUT, FAILED: it may have happened. Repeat the call; twice is harmless. */
ETAG_API ETAG_MUST_USE etag_status etag_invalidate(etag_client *client, const etag_targets *targets,
                                                   etag_receipt *receipt);

typedef struct etag_op etag_op;

/* Starts an invalidation without waiting, except to write a spool file as above; finish it with
 * etag_op_result(). Everything copied. The client's timeout_ms begins here.
 * It is sent at once. If operations started before it still wait for the daemon's answer, it may
 * wait for more of them and be sent together with these, by the next etag_client_dispatch() (which
 * etag_client_events() asks for), etag_op_result() that returns AGAIN, etag_op_forget(), or call
 * that waits for the daemon, at the latest by etag_client_close().
 * Errors: as etag_invalidate(); *out is NULL then. */
ETAG_API ETAG_MUST_USE etag_status etag_invalidate_start(etag_client *client,
                                                         const etag_targets *targets,
                                                         etag_op **out);

/* Takes the result of an operation. Never blocks: returns AGAIN until etag_client_dispatch() has
 * received the answer, or the wait for the spool is over (see etag_client_timeout_ms()). Any other
 * status is final and consumes the operation.
 * receipt: may be NULL. */
ETAG_API ETAG_MUST_USE etag_status etag_op_result(etag_op *op, etag_receipt *receipt);

/* Gives the operation up without waiting for its answer; NULL is allowed. Returns NULL. */
ETAG_API etag_op *etag_op_forget(etag_op *op);

/* ---- Guards ---------------------------------------------------------------------------------- */

/*
 * A guard is a mutation in two steps, around a database commit:
 *
 *     etag_guard_begin(client, &targets, &guard)     not OK: go on without a guard (and invalidate
 *                                                    later), or give up
 *     BEGIN; UPDATE ...
 *     etag_guard_confirm(guard)                      right before COMMIT; not OK: ROLLBACK,
 *                                                    etag_guard_abort()
 *     COMMIT                                         must end within etag_guard_time_left_ms()
 *     etag_guard_commit(guard, NULL)                 after a known COMMIT
 *     etag_guard_abort(guard)                        after a known ROLLBACK
 *     etag_guard_forget(guard)                       if the outcome of COMMIT is not known: the
 *                                                    guard lingers
 *
 * From the return of begin to the return of commit or abort, front ends say ETAG_UNKNOWN for the
 * targets, and the daemon refuses fills of them. So once a database commit has begun, no front end
 * answers 304 for an older version.
 *
 * If a writer vanishes, its guard lingers: after guard_linger (30 s by default) without a sign of
 * life the daemon takes it as committed. Signs of life are begin, confirm and, as long as max_ms
 * allows, an open connection. Set a limit in the database (statement_timeout or the like) that ends
 * COMMIT within the time left, which counts from the *sending* of the confirmation.
 *
 * Only the thread that uses the client may use its guards. In a child of fork() the parent's guards
 * are dead: every call but forget returns INVALID. If the client is closed, its open guards linger.
 */
typedef struct etag_guard etag_guard;

/* Begins a guard. Waits like etag_invalidate().
 * targets: copied.
 * *out: NULL unless the call returns OK. If the guard began all the same, the library aborts it, or
 * it lingers.
 * Errors: as etag_invalidate(). */
ETAG_API ETAG_MUST_USE etag_status etag_guard_begin(etag_client *client,
                                                    const etag_targets *targets, etag_guard **out);

/* Makes sure, right before COMMIT, that the daemon still has the guard. Reconnects if necessary,
 * and begins the guard again if the daemon has lost it. Unless it returns OK, the writer must not
 * commit. May be repeated; the last confirmation counts.
 * Errors: as etag_invalidate(). */
ETAG_API ETAG_MUST_USE etag_status etag_guard_confirm(etag_guard *guard);

/* Returns how many milliseconds COMMIT may still take: guard_linger, less the time since the last
 * confirmation was sent, less a margin for clocks. 0: that time is over, or the guard was never
 * confirmed; confirm again. */
ETAG_API uint32_t etag_guard_time_left_ms(const etag_guard *guard);

/* Ends a guard after its change was committed. Invalidates its targets, even if the daemon has lost
 * the guard. Consumes the guard, even on error. Waits like etag_invalidate(). After an error the
 * guard lingers, so front ends answer no old 304.
 * receipt: may be NULL.
 * Errors: as etag_invalidate(). */
ETAG_API ETAG_MUST_USE etag_status etag_guard_commit(etag_guard *guard, etag_receipt *receipt);

/* Ends a guard without a change: only after a ROLLBACK that is known to have happened. Entries
 * become as valid as before. Consumes the guard, even on error.
 * Errors: as etag_invalidate(). PENDING: the daemon did not answer, and the spool has the end of
 * the guard. */
ETAG_API ETAG_MUST_USE etag_status etag_guard_abort(etag_guard *guard);

/* Gives a guard up without telling the daemon: it lingers, then counts as committed. Use it if you
 * do not know whether COMMIT happened; NULL is allowed. Returns NULL. */
ETAG_API etag_guard *etag_guard_forget(etag_guard *guard);

#ifdef __cplusplus
}
#endif
#endif
