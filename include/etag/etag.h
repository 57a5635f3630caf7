/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etag.h - libetag, the client of etagd: answer If-None-Match with 304 from shared memory.
 *
 * CONCEPTS
 *
 *   A daemon on this host keeps the entity tag (RFC 9110 section 8.8.3) of every cacheable
 *   representation and publishes it in shared memory. A front end
 *
 *     1. takes a fill token           etag_token_now()   before it reads any data,
 *     2. asks                         etag_check()       no system call, no lock, no allocation,
 *     3. on ETAG_UNKNOWN renders, judges with the real validators   etag_evaluate(),
 *        and tells the daemon what it rendered            etag_fill().
 *
 *   A write path commits its change and calls etag_invalidate(). When that returns ETAG_OK, no
 *   front end on this host answers 304 for the old version: the daemon refuses every fill whose
 *   token is older than the invalidation, so a slow render cannot bring old data back.
 *
 *   Between the COMMIT and that call the old version may still be answered, and a writer that dies
 *   in between never makes the call. A guard closes the gap: etag_guard_begin() before the
 *   transaction, etag_guard_confirm() right before COMMIT, etag_guard_commit() after it. From the
 *   beginning to the end of the guard front ends say ETAG_UNKNOWN for its targets.
 *
 *   A writer needs no living daemon: without an answer its mutation goes into the spool, a
 *   directory beside the socket that every daemon reads before it vouches for its memory, and the
 *   call returns ETAG_OK when the last promise that was made without it has ended (one lease, L,
 *   1 s by default).
 *
 *   key            names one representation: resource, scope, selected request header fields,
 *                  release, scheme
 *   scope          whose representation it is: public, or a tenant or principal. No default.
 *   surrogate key  a name on which entries depend ("upload:42"); invalidating it makes all of them
 *                  stale
 *   family         all surrogate keys that are the same up to their first colon ("upload:...")
 *   fill token     what the daemon's clock said before the data was read
 *   LSN            number of a mutation; grows, never reused
 *   guard          a mutation in two steps around a database commit
 *   hold           a mutation whose targets stay unknown for a while, for replicas that lag
 *   spool          where mutations go that the daemon did not take
 *
 * CAVEATS
 *
 *   - ETAG_UNKNOWN is always a correct answer and always possible: render.
 *   - Take the token before the database snapshot begins. A token taken later makes stale 304s
 *     possible, and the library cannot notice.
 *   - Call etag_check() after authentication and authorization (RFC 9110 section 13.2.1): a 304
 *     tells that the representation exists.
 *   - A pass of If-Match (ETAG_PROCEED) must be repeated inside the database transaction.
 *
 * THREADS AND FORK
 *
 *   A client belongs to one thread at a time. The library makes no threads and installs no signal
 *   handlers. A child of fork() may go on using the client: it keeps the shared memory and opens a
 *   connection of its own when it first needs one.
 *
 * MEMORY
 *
 *   "borrowed": used during the call only. "copied": the callee keeps its own copy. "consumed":
 *   owned by the callee from the call on, whatever it returns.
 *   Every struct that crosses the interface begins with its size: set it with ETAG_INIT. A program
 *   may be built with a newer header than the library's: a member that the library does not know
 *   must be zero then, else the call does nothing and says ETAG_INVALID; a check says ETAG_UNKNOWN,
 *   with ETAG_REASON_BAD_KEY.
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

/* Bytes that somebody else owns; no NUL needed. data == NULL means "absent", which is not
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

/* A NUL-terminated string as etag_str; NULL stays absent. text: borrowed, for as long as the result
 * is used. Any thread. */
ETAG_API etag_str etag_str_of(const char *text);

/* One header field line. The name is compared without case. */
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
    X(REFUSED, 3, "refused: see etag_client_reason()")                                             \
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

/* The status as a short English text. Static memory, never NULL, also for numbers that are no
 * status. Any thread. */
ETAG_API const char *etag_status_text(etag_status status);

/* What to do with a request. */
typedef enum etag_verdict {
    /* render, etag_evaluate() with the real validators, etag_fill() */
    ETAG_UNKNOWN = 0,
    /* answer 304 with the answer's fields */
    ETAG_NOT_MODIFIED = 1,
    /* answer 412 */
    ETAG_PRECONDITION_FAILED = 2,
    /* the entry is known and the conditions allow the method */
    ETAG_PROCEED = 3,
    /* answer 428: see etag_request.require_if_match */
    ETAG_PRECONDITION_REQUIRED = 4
} etag_verdict;

/* The verdict as a word: "unknown", "not_modified", "precondition_failed", "proceed" or
 * "precondition_required". Static memory, never NULL. Any thread. */
ETAG_API const char *etag_verdict_text(etag_verdict verdict);

/* The HTTP status that the verdict asks for: 304, 412, 428; 0 where the request goes on (proceed,
 * unknown). Any thread. */
ETAG_API int etag_verdict_http_status(etag_verdict verdict);

/* Why: of a verdict, of a refused fill, of an entry's state. Name, wire number, word, sentence. */
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

/* The reason for programs and for people: its word ("stale") or its sentence. Words do not change
 * between releases. Static memory, never NULL, also for numbers of a newer daemon. Any thread. */
ETAG_API const char *etag_reason_word(etag_reason reason);
ETAG_API const char *etag_reason_text(etag_reason reason);

/* ---- Keys and targets ------------------------------------------------------------------------ */

/* A resource: host and request target. Canonicalized by the library: host in lower case without the
 * default port (":80", ":443"); path percent-encoding normalized; query byte for byte ("no query"
 * differs from "empty query"). "//" and "%2F" stay. Dot segments ("/a/../b", "%2e%2e", "..;", also
 * where "%2F", "%5C" or a backslash is a slash to some servers): a key is refused (BAD_KEY), since
 * the application may see another resource in it. A target names what the path leads to, in each
 * reading. */
typedef struct etag_resource {
    /* absent or empty: no host, which is a name of its own and matches no other */
    etag_str host;
    /* "/path" or "/path?query": starts with '/', no fragment */
    etag_str target;
} etag_resource;

/* OK: fit for keys and targets. REFUSED: for targets only, its path has dot segments. INVALID: for
 * neither. Any thread. resource: borrowed, not NULL. */
ETAG_API ETAG_MUST_USE etag_status etag_resource_check(const etag_resource *resource);

typedef enum etag_scope_kind {
    /* refused, so that nobody forgets it */
    ETAG_SCOPE_UNSET = 0,
    /* the same for everybody */
    ETAG_SCOPE_PUBLIC = 1,
    /* of one tenant or principal: "customer:7" */
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
    /* absent: none. Changes with a deployment: what else makes bodies differ */
    etag_str release;
    /* the request header fields that select the representation, in any order; value.data == NULL:
     * the request has no such field (not the same as empty) */
    const etag_field *vary;
    size_t vary_count;
    /* "http", "https" (at most 16 bytes, without case); absent: none, which is a name of its own.
     * Never part of the resource: a target reaches the entries of all schemes */
    etag_str scheme;
} etag_key;

/* How far a mutation has to reach before its call says OK. Beyond this host it needs a relay
 * (docs/operations.md). */
typedef enum etag_reach {
    /* as the daemon is configured: LOG where it requires a relay, else HOST */
    ETAG_REACH_DEFAULT = 0,
    /* no front end on this host answers 304 from older data */
    ETAG_REACH_HOST = 1,
    /* ... and the event is durable in the log that all hosts read: the others follow within
     * L_net. Durable with the data where it was committed in one transaction with it
     * (PostgreSQL, with position). Where the log is etcd it never is: a writer that dies between
     * its COMMIT and this call leaves no event, so it calls before COMMIT too, with hold_ms */
    ETAG_REACH_LOG = 2,
    /* ... and no front end on any host answers 304 from older data */
    ETAG_REACH_EVERYWHERE = 3
} etag_reach;

/* How it was proved. */
typedef enum etag_proof {
    ETAG_PROOF_NONE = 0,
    /* HOST: the daemon applied it */
    ETAG_PROOF_DAEMON = 1,
    /* HOST: it is in the spool, and no lease from before it runs any more */
    ETAG_PROOF_WAIT = 2,
    /* LOG: the relay put it there, or the caller did and the relay has seen it at its position */
    ETAG_PROOF_LOGGED = 3,
    /* EVERYWHERE: every host has said that it applied it */
    ETAG_PROOF_ACKNOWLEDGED = 4,
    /* EVERYWHERE: so long ago that no lease from before it runs. A machine that was paused
     * meanwhile may still answer 304 for the rest of its lease */
    ETAG_PROOF_TIME = 5
} etag_proof;

/* What a mutation names. Everything is borrowed. */
typedef struct etag_targets {
    size_t size;
    /* every scope, variant, release and scheme of each */
    const etag_resource *resources;
    size_t resource_count;
    const etag_str *surrogates;
    size_t surrogate_count;
    /* target is a path, without query: everything below it. One that does not end in '/', or is
     * deeper than four levels, reaches from its nearest such ancestor on: "/a/b" means "/a/" */
    const etag_resource *prefixes;
    size_t prefix_count;
    bool everything;
    /* after the mutation (of a guard: after its commit) the targets stay unknown for so long, and
     * then change once more: longer than replicas that front ends read from lag behind. At most
     * 3600000; 0: no hold */
    uint32_t hold_ms;
    /* of a guard only: how long its writer may keep it open, at most 86400000; 0: 600000. After
     * that the daemon waits guard_linger and takes it as committed */
    uint32_t max_ms;
    /* of a guard: of its commit; one that no relay can prove is INVALID when the guard begins */
    etag_reach reach;
    /* what etagd.invalidate() returned in the transaction that is committed now: the event is in
     * the log already; 0: it is not, and the relay puts it there. For more than ETAG_REACH_HOST the
     * relay looks whether it is there, and it is FAILED if not: the transaction runs yet, or was
     * rolled back. ETAG_REACH_HOST waits for no relay, and the event reaches the others anyway */
    uint64_t position;
    /* families of surrogate keys: "uploads" is every key that begins with "uploads:", and the key
     * "uploads". What stands after a colon does not count: "uploads:*" is the same */
    const etag_str *families;
    size_t family_count;
} etag_targets;

/* ---- Requests, validators, answers ----------------------------------------------------------- */

/* A request. All header fields of it may be passed; only the conditional ones are looked at. */
typedef struct etag_request {
    size_t size;
    /* case-sensitive, as on the request line */
    etag_str method;
    /* for etag_check(); etag_evaluate() ignores it */
    const etag_key *key;
    /* a field that came in several lines stands here several times */
    const etag_field *fields;
    size_t field_count;
    /* a method that may change something needs If-Match, or "If-None-Match: *" (who creates
     * overwrites nobody's update); else ETAG_PRECONDITION_REQUIRED */
    bool require_if_match;
    /* If-None-Match: "x-gzip" and "x--gzip" list "x" too (gzip, br, zstd, deflate, compress). For a
     * front end behind a server that compresses and renames */
    bool compression_suffixes;
    /* etag_check() in shadow mode: see etag_client_options */
    bool shadow;
} etag_request;

/* No date. */
#define ETAG_NO_DATE INT64_MIN

typedef enum etag_existence {
    ETAG_EXISTENCE_UNKNOWN = 0,
    ETAG_EXISTS = 1,
    ETAG_ABSENT = 2
} etag_existence;

/* The selected representation as it is now. ETAG_INIT leaves last_modified 0, which is 1970: set
 * it. */
typedef struct etag_validators {
    size_t size;
    etag_existence existence;
    /* with quotes and W/ as in the field; absent: none */
    etag_str etag;
    /* seconds since 1970 or ETAG_NO_DATE */
    int64_t last_modified;
    /* it is sure that no two versions have that second (section 8.8.2.2): only then may If-Range
     * name the date */
    bool last_modified_is_strong;
} etag_validators;

/* What to do with the request's Range field (RFC 9110 section 14.2), once the other conditions let
 * it go on. */
typedef enum etag_range {
    /* there is none, or the method has no ranges: answer 200 with all of it */
    ETAG_RANGE_NONE = 0,
    /* no If-Range, or it is true: answer 206, or 416 */
    ETAG_RANGE_HONOR = 1,
    /* If-Range is false: answer 200 with all of it */
    ETAG_RANGE_IGNORE = 2
} etag_range;

/* Taken before data is read; travels with the fill. Compare nothing in it. */
typedef struct etag_token {
    /* random id of the run; 0: no token, a fill with it is dropped */
    uint64_t incarnation;
    uint64_t lsn;
} etag_token;

/* What etag_check() found. Pointers are valid until this client's next etag_check() or its
 * close. */
typedef struct etag_answer {
    size_t size;
    etag_verdict verdict;
    etag_reason reason;
    /* known entries: the current entity tag */
    etag_str etag;
    /* seconds since 1970 or ETAG_NO_DATE */
    int64_t last_modified;
    /* what a 304 carries besides Date (RFC 9110 section 15.4.5), ETag included */
    const etag_field *fields;
    size_t field_count;
    /* of the entry; 0 if there is none */
    uint64_t fill_lsn;
    /* the one passed in: fill with it */
    etag_token token;
    /* of ETAG_PROCEED */
    etag_range range;
    /* Where the key's entry is, or would be: for etag_finish(). Zeros: not known. */
    uint64_t place[2];
} etag_answer;

/* Judges a request's conditions (RFC 9110 section 13.2.2) with validators that the caller knows.
 * Pure: no client, no memory, linear time. Any thread. Everything borrowed. Returns
 * ETAG_NOT_MODIFIED, ETAG_PRECONDITION_FAILED, ETAG_PROCEED, or ETAG_PRECONDITION_REQUIRED where
 * the request requires one; ETAG_UNKNOWN only if a condition asks for what the validators do not
 * say, or a size is not set (or a member that is unknown here is). "Not modified since" is
 * ETAG_NOT_MODIFIED with a weak date too, as section 13.1.3 has it for an origin server; the calls
 * with a client say ETAG_PROCEED then, ETAG_REASON_DATE_WEAK: the request may come from an earlier
 * version of that second. Call it for what would be answered with 2xx (section 13.2.1): any other
 * answer stands whatever the conditions say. */
ETAG_API etag_verdict etag_evaluate(const etag_request *request, const etag_validators *validators);

/* Says what to do with a request's Range and If-Range, the last step of section 13.2.2. After
 * ETAG_PROCEED only. As pure as etag_evaluate(); where a size is not set: ETAG_RANGE_IGNORE, which
 * is always right. */
ETAG_API etag_range etag_evaluate_range(const etag_request *request,
                                        const etag_validators *validators);

/* An HTTP-date in any of the three forms of RFC 9110 section 5.6.7 as seconds since 1970, or
 * ETAG_NO_DATE. text: borrowed. Any thread. Never blocks. */
ETAG_API int64_t etag_date_parse(etag_str text);

/* ---- ETag makers ----------------------------------------------------------------------------- */

/* Longest entity tag that is stored, with its quotes and W/. */
#define ETAG_BYTES_MAX 256

/*
 * For representations that have no entity tag of their own, such as a version: the hash of the
 * body.
 *
 *     etag_hasher_open(&hasher)             once a thread
 *     etag_hasher_begin(hasher)             for each body
 *     etag_hasher_update(hasher, ...)       for each piece of it
 *     etag_hasher_final(hasher, weak, &etag)
 *
 * The tag is SHA-256, its first 128 bits in base64url without padding (22 characters), in quotes:
 * "ungWv48Bz-pBQUDeXa4iIw" is the tag of the body "abc". The same bytes give the same tag in every
 * process, on every host, in every version. Hash what is sent: the body in its content coding makes
 * a strong tag, the body before it needs etag_variant(), or a weak tag.
 *
 * A hasher belongs to one thread at a time. Keep it: opening looks the hash up and allocates; after
 * that libetag takes no memory (OpenSSL 3.0 takes and returns some hundred bytes a body). None of
 * these calls waits, or needs a client. A NULL hasher (of an open that failed) is allowed
 * everywhere: final says INVALID, and the response goes out without a tag. After fork() parent and
 * child each have the hasher for themselves.
 */
typedef struct etag_hasher etag_hasher;

/* Opens a hasher. *out: owned by the caller, closed with etag_hasher_close(); NULL unless it
 * returns OK. The first call of a process reads OpenSSL's configuration file: make it before the
 * process gives up its rights to. Errors (etag_client_error() knows nothing of them): SYSTEM (no
 * memory: try again later), FAILED (OpenSSL offers no SHA-256: its configuration names no provider
 * that has it, see openssl.cnf and $OPENSSL_CONF; or no memory). */
ETAG_API ETAG_MUST_USE etag_status etag_hasher_open(etag_hasher **out);

/* Closes the hasher; NULL is allowed. Tags that point into it end. Returns NULL. */
ETAG_API etag_hasher *etag_hasher_close(etag_hasher *hasher);

/* Begins a body; one that was not finished is forgotten, with what went wrong in it. The last tag
 * ends. */
ETAG_API void etag_hasher_begin(etag_hasher *hasher);

/* The next piece of the body. data: borrowed; NULL only if len is 0. What goes wrong is told by
 * final. */
ETAG_API void etag_hasher_update(etag_hasher *hasher, const void *data, size_t len);

/* Ends the body. weak: with W/ before it, for bodies that may be sent in other bytes too.
 * *out: points into the hasher, until its next begin or close, with a NUL behind it; absent unless
 * it returns OK. Errors: INVALID (no body was begun, whatever pieces came; or a piece was NULL),
 * FAILED (OpenSSL failed at one of the steps, as without memory). After each the hasher can begin
 * the next body. */
ETAG_API ETAG_MUST_USE etag_status etag_hasher_final(etag_hasher *hasher, bool weak, etag_str *out);

/* Begin, update and final of a whole body, with the errors of final. */
ETAG_API ETAG_MUST_USE etag_status etag_hash(etag_hasher *hasher, const void *body, size_t len,
                                             bool weak, etag_str *out);

/* The tag of a representation's variant in a content coding, made of the plain one's: "x" and gzip
 * give "x-gzip", W/"x" gives W/"x-gzip". Coded variants are other bytes, and must not have the
 * strong tag of the plain ones (RFC 9110 section 8.8.3.3). The coding counts in lower case; x-gzip
 * is gzip, x-compress is compress; for identity, an empty or an absent coding the tag stays as it
 * is. etag, coding: borrowed. buffer: of size bytes, ETAG_BYTES_MAX always suffice; etag may stand
 * in it. *out: points into buffer, without a NUL; absent unless it returns OK, and buffer is as it
 * was. Any thread. Never blocks. Errors: INVALID (etag is no entity tag, coding is no token, or the
 * result is longer than size or ETAG_BYTES_MAX). */
ETAG_API ETAG_MUST_USE etag_status etag_variant(etag_str etag, etag_str coding, char *buffer,
                                                size_t size, etag_str *out);

/* ---- Content codings ------------------------------------------------------------------------- */

/* What a request's Accept-Encoding (RFC 9110 section 12.5.3) comes to where these codings are on
 * offer: the value for the key's vary, so that the many spellings of the field share an entry; and
 * the coding to answer with.
 *
 *     vary.name = ETAG_LIT("Accept-Encoding");
 *     vary.value = etag_encoding_select(fields, field_count, offered, 2);   offered: "br", "gzip"
 *
 *   absent       the request has no such field. Any coding would do: choose always the same
 *   a coding     of those on offer, the one with the highest weight; of several, the first in
 *                offered
 *   "identity"   none of them is acceptable, or identity has a weight of its own that is higher
 *   ""           not even identity is acceptable ("identity;q=0", or "*;q=0" without identity)
 *
 * A response must be what the key says: a front end that answers with another coding than the one
 * returned (because the body is small, say) must do so for every request that gets this answer.
 * Names are compared without case; x-gzip is gzip, x-compress is compress; several field lines are
 * one list. A malformed element, its weight included, counts as not there; of a coding that is
 * named several times, the lowest weight counts.
 *
 * fields: of the request; all may be passed, one whose value is absent counts as not there.
 * offered: names of codings, the preferred ones first, at most 16 (more are ignored); what is no
 * token is never chosen. Write them the same on all front ends: the result is one of them byte for
 * byte. Both borrowed. The result points into what offered points to, or to static memory, never
 * into the request. Pure: no client, no allocation, linear time. Any thread. Never blocks. No
 * errors. */
ETAG_API etag_str etag_encoding_select(const etag_field *fields, size_t field_count,
                                       const etag_str *offered, size_t offered_count);

/* ---- Client ---------------------------------------------------------------------------------- */

typedef struct etag_client etag_client;

typedef enum etag_spool_use { ETAG_SPOOL_ALLOWED = 0, ETAG_SPOOL_NEVER = 1 } etag_spool_use;

typedef struct etag_client_options {
    size_t size;
    /* copied; NULL: $ETAGD_SOCKET, else /run/etagd/etagd.sock */
    const char *socket_path;
    /* longest wait of a synchronous call; 0: 3000. A mutation that goes through the spool takes L
     * (1 s by default) and a little: less time than that is ETAG_PENDING where the daemon does not
     * answer */
    uint32_t timeout_ms;
    /* longest wait of etag_client_open() for the daemon's hello; 0: 100 */
    uint32_t connect_timeout_ms;
    /* etag_client_open() does not wait at all */
    bool no_wait;
    /* of mutations that the daemon does not answer */
    etag_spool_use spool;
    /* copied: names of further fields that a 304 repeats as they were filled, at most 8:
     * "Surrogate-Key", "Access-Control-Expose-Headers". Not one that frames the message, sets
     * state, redirects or differs from answer to answer (Set-Cookie, Location, Date ...): INVALID.
     * What another client filled and this one does not name is left out */
    const etag_str *repeated_fields;
    size_t repeated_field_count;
    /* To see what etagd would do before it does it: checks that find a current entry count what
     * they would have answered, and say ETAG_UNKNOWN, ETAG_REASON_SHADOW. The ETag filled then
     * (etag_fill(), etag_finish()) is compared with the entry's: another one, and no invalidation
     * meanwhile, is a mismatch. Allocates at the first. $ETAGD_SHADOW, set and not "0": the same */
    bool shadow;
} etag_client_options;

/* Opens a client. Succeeds without a daemon too: checks then say ETAG_UNKNOWN, and fill, dispatch
 * and invalidate connect when they can (at most once in 100 ms).
 * options: borrowed, NULL for the defaults. *out: owned by the caller, closed with
 * etag_client_close(). Blocks for at most connect_timeout_ms.
 * Errors: INVALID (the socket path is too long, or an option has a value that is none), SYSTEM (no
 * memory; *out is NULL),
 *         VERSION (the daemon speaks another protocol; *out is usable and answers ETAG_UNKNOWN). */
ETAG_API ETAG_MUST_USE etag_status etag_client_open(etag_client **out,
                                                    const etag_client_options *options);

/* Closes the client; NULL is allowed. Open operations end without an answer, open guards linger;
 * neither may be used after it. Never blocks. Returns NULL. */
ETAG_API etag_client *etag_client_close(etag_client *client);

/* What an event loop waits for: watch the descriptor for the events, and call dispatch when one
 * comes or the time is over. All three may change after any call on the client. fd: -1 without a
 * connection. events: POLLIN, POLLOUT. timeout: milliseconds until dispatch has something to do, -1
 * for never. */
ETAG_API int etag_client_fd(const etag_client *client);
ETAG_API short etag_client_events(const etag_client *client);
ETAG_API int etag_client_timeout_ms(const etag_client *client);

/* Sends what waits, reads what came, connects or reconnects, maps a new index. Never blocks.
 * Errors: UNAVAILABLE, VERSION, DENIED, PROTOCOL, SYSTEM; the client stays usable after each. */
ETAG_API etag_status etag_client_dispatch(etag_client *client);

/* What went wrong in this client's last call that failed, as a sentence, never NULL; points into
 * the client, valid until its next call. */
ETAG_API const char *etag_client_error(const etag_client *client);

/* Why the last etag_fill(), etag_fill_wait() or etag_finish() was refused; ETAG_REASON_NONE where
 * it was not. */
ETAG_API etag_reason etag_client_reason(const etag_client *client);

/* ---- Lookup ---------------------------------------------------------------------------------- */

/* The token for a request that begins now: call it before the request reads anything, with a
 * transaction before its snapshot. No system call. Without an index: the zero token, whose fill is
 * dropped. */
ETAG_API etag_token etag_token_now(const etag_client *client);

/* Looks the key up and judges the request's preconditions (If-Match, If-Unmodified-Since,
 * If-None-Match, If-Modified-Since). No system call, no lock, no allocation.
 * request, its key: borrowed. token: handed through to answer->token. answer: size set by the
 * caller. The answer's fields: of ETAG_NOT_MODIFIED all that a 304 carries; of
 * ETAG_PRECONDITION_FAILED the current ETag. Returns answer->verdict. */
ETAG_API etag_verdict etag_check(etag_client *client, const etag_request *request, etag_token token,
                                 etag_answer *answer);

/* ---- Fill ------------------------------------------------------------------------------------ */

/* A response that was rendered. libetag decides whether it may be stored and what a 304 repeats of
 * it. */
typedef struct etag_entry {
    size_t size;
    const etag_key *key;
    /* of the request; absent: GET. Anything but GET is refused */
    etag_str method;
    /* of the response: 200, anything else is refused */
    int http_status;
    /* the request carried Authorization */
    bool had_authorization;
    /* absent: the ETag among fields */
    etag_str etag;
    /* ETAG_NO_DATE: Last-Modified among fields, if any */
    int64_t last_modified;
    /* the response's header fields */
    const etag_field *fields;
    size_t field_count;
    /* what the response depends on besides its resource: see below */
    const etag_str *surrogates;
    size_t surrogate_count;
    /* time to live in the cache; 0: until it is invalidated */
    uint64_t max_age_s;
    /* as in etag_validators; stored. Else its date alone is no 304 */
    bool last_modified_is_strong;
    /* it must not be stored, for a reason that the response does not show */
    bool withheld;
    /* Further surrogate keys, as a field has them: "a b", "a, b". NULL: the fields of which
     * etag_surrogate_field() is true. */
    const etag_str *surrogate_lists;
    size_t surrogate_list_count;
} etag_entry;

/*
 * Surrogate keys are bytes without blanks and controls; case counts. One of more than 255 bytes, or
 * with bytes that are not ASCII, is hashed, here and where a mutation names it; of a longer one
 * with commas its first part counts. Each counts once. A list is read in two ways, between blanks
 * and between commas or semicolons (with or without blanks), and the names of both count: "a,b"
 * names "a", "b" and "a,b". An entry of more than 128 names depends on groups of names instead, of
 * which there are 128 for all names: it is stale as soon as any name of one of its groups is named.
 *
 * The family of a name is what stands before its first colon: "uploads" of "uploads:42". An entry
 * depends on the families of its names as well, so a mutation that names one makes them all stale
 * (etag_targets.families): for a TRUNCATE, an import, whatever changed more than it can name. A
 * name without a colon is a family of one. An entry depends on every family there is, if it has
 * names of more than 16, more than 128 names, or one that is hashed or begins with a colon: such an
 * entry is stale as soon as any family is named. "uploads:*" among surrogate keys is a name like
 * any other.
 */

/* Does a response field of this name hold a list of surrogate keys? Surrogate-Key, xkey, Cache-Tag,
 * Cache-Tags, X-Cache-Tags, X-Magento-Tags, without case. Any thread. */
ETAG_API bool etag_surrogate_field(etag_str name);

/* Zeroes an entry, sets size, http_status 200 and ETAG_NO_DATE. Any thread. */
ETAG_API void etag_entry_init(etag_entry *entry);

/* Tells the daemon what was rendered, without waiting; best effort. Everything copied.
 * Errors: REFUSED (must not be stored: etag_client_reason()), INVALID, AGAIN (the socket is full:
 * the fill was dropped and counted), UNAVAILABLE, DENIED. None of them matters to the answer being
 * sent. */
ETAG_API etag_status etag_fill(etag_client *client, etag_token token, const etag_entry *entry);

typedef struct etag_receipt {
    size_t size;
    /* of the mutation; of a fill: the entry's fill LSN */
    uint64_t lsn;
    /* of a mutation: what is proved; also where the call says PENDING */
    etag_reach reach;
    /* ... and how */
    etag_proof proof;
} etag_receipt;

/* Fills as etag_fill() does, and waits for the daemon's verdict: for tools and tests. Blocks for at
 * most timeout_ms. Errors: those of etag_fill(), and TIMEOUT; REFUSED with the daemon's reason too.
 * receipt may be NULL. */
ETAG_API ETAG_MUST_USE etag_status etag_fill_wait(etag_client *client, etag_token token,
                                                  const etag_entry *entry, etag_receipt *receipt);

/* ---- Whole requests -------------------------------------------------------------------------- */

/*
 * For application servers: two calls around the handler, after the request's normal checks.
 *
 *     const etag_token token = etag_token_now(client);             before anything is read
 *     ... authenticate, authorize, name the key ...
 *     etag_answer answer;  ETAG_INIT(&answer);
 *     int status = etag_precheck(client, &request, token, &answer);
 *     if (status != 0)
 *         return send(status, answer.fields, answer.field_count);  304, 412, 428: no body
 *     ... render: status, fields, surrogate keys ...
 *     status = etag_finish(client, &request, &response, &answer);
 *     if (status != response.http_status)
 *         return send(status, answer.fields, answer.field_count);  304, 412: without the body
 *     send the response; answer.range says whether a Range may be honored
 *
 * Of a method that writes, etag_precheck() is the fast 412 and the 428. Its pass proves nothing, as
 * the resource may change before the transaction has its lock. What counts against lost updates is
 * the same judgement inside the transaction:
 *
 *     status = etag_precheck(...);                 0, 412, 428
 *     BEGIN; SELECT version ... FOR UPDATE;        (SQLite: BEGIN IMMEDIATE)
 *     validators = what that row is now, or ETAG_ABSENT
 *     status = etag_verdict_http_status(etag_evaluate(&request, &validators));
 *     if (status != 0) ROLLBACK, answer it;
 *     UPDATE ...; COMMIT; etag_invalidate(...)     or a guard around the COMMIT
 */

/* Looks up and judges as etag_check() does, and returns the HTTP status to send: 304, 412, 428, or
 * 0 for "go on". Same arguments, same rules. */
ETAG_API int etag_precheck(etag_client *client, const etag_request *request, etag_token token,
                           etag_answer *answer);

/* Corrects what the cache has, and judges the request's conditions with the response's own
 * validators: after rendering, errors included; not for what comes out of another cache. Never
 * blocks. request: the one of etag_precheck(). answer: as that left it, set anew; of it count the
 * token, the place, and the reason (none: not looked up, so it removes nothing). A 200 to GET fills
 * unless the entry says the same; for other fields alone once a second for a key, and a further
 * change then removes the entry. So do 404, 410, 301, 308 and what refutes it and can't be stored
 * (docs/consistency.md). Not with Range. response: borrowed; its key, method and had_authorization
 * may be left out, they are the request's then; its ETag and Last-Modified are found among its
 * fields. Returns the status to send: 304 or 412 with answer->fields, else response->http_status
 * with the response as it is, also for anything but GET and HEAD, and where it is not 2xx. 0: a
 * size is not set, or there is no key: send the response. The answer's pointers: valid as long as
 * both the response and, until its next etag_check(), the client. */
ETAG_API int etag_finish(etag_client *client, const etag_request *request,
                         const etag_entry *response, etag_answer *answer);

/* Makes a key's vary of the named request header fields: sets vary[i] for names[i], with the value,
 * or absent where the request has no such field. Several lines of a field are joined with ", " in
 * text, of text_size bytes; single lines are borrowed. For Accept-Encoding use
 * etag_encoding_select(): its raw values are too many. Errors: INVALID (text is too small; a key
 * with these fields is refused, so that nothing wrong is found or stored). */
ETAG_API ETAG_MUST_USE etag_status etag_vary_select(const etag_str *names, size_t name_count,
                                                    const etag_field *fields, size_t field_count,
                                                    etag_field *vary, char *text, size_t text_size);

/* ---- Invalidate ------------------------------------------------------------------------------ */

/* Makes every entry that depends on a target stale. Call it after the change is committed.
 * On OK: no front end on this host answers 304 from older data any more, and the event is recorded
 * (the daemon's state, or the spool). receipt->lsn is 0 where it went through the spool. With a
 * reach beyond this host OK says that too, and needs the time for it: with ETAG_REACH_EVERYWHERE
 * some seconds where a host does not answer. targets: borrowed. receipt: may be NULL; filled in on
 * OK and on PENDING. Blocks for at most timeout_ms, a file's writing aside (the spool; with
 * durability "power" two fsyncs too, which last as long as the disk takes: PENDING if that was
 * longer). Errors: PENDING (recorded, but the time did not suffice to prove all of its effect;
 * receipt->reach says how much of it. In the spool: it comes within L of this return, or when the
 * next daemon starts; until then old 304s are possible. On this host and not further: the relay
 * publishes it when it can; the spool never proves more); INVALID (nothing named; a malformed
 * target), DENIED, UNAVAILABLE (no daemon and no usable spool: nothing happened), TIMEOUT and
 * FAILED (it may have happened: repeat it; twice is harmless), VERSION, PROTOCOL, SYSTEM. */
ETAG_API ETAG_MUST_USE etag_status etag_invalidate(etag_client *client, const etag_targets *targets,
                                                   etag_receipt *receipt);

typedef struct etag_op etag_op;

/* Starts an invalidation without waiting (but for the writing of a file into the spool, as above);
 * finish it with etag_op_result(). Everything copied. The client's timeout_ms
 * runs from here. Errors as above; *out is NULL then. */
ETAG_API ETAG_MUST_USE etag_status etag_invalidate_start(etag_client *client,
                                                         const etag_targets *targets,
                                                         etag_op **out);

/* Takes the result of an operation. Never blocks: AGAIN until etag_client_dispatch() brought the
 * answer, or the spool's wait is over (see etag_client_timeout_ms). Any other status is final and
 * consumes the operation. receipt may be NULL. */
ETAG_API ETAG_MUST_USE etag_status etag_op_result(etag_op *op, etag_receipt *receipt);

/* Gives the operation up without waiting for its answer; NULL is allowed. Returns NULL. */
ETAG_API etag_op *etag_op_forget(etag_op *op);

/* ---- Guards ---------------------------------------------------------------------------------- */

/*
 * A guard is a mutation in two steps, around a database commit:
 *
 *     etag_guard_begin(client, &targets, &guard)     not OK: go on without (and invalidate later),
 *                                                    or give up
 *     BEGIN; UPDATE ...
 *     etag_guard_confirm(guard)                      right before COMMIT; not OK: ROLLBACK,
 *                                                    etag_guard_abort()
 *     COMMIT                                         must have ended within
 *                                                    etag_guard_time_left_ms()
 *     etag_guard_commit(guard, NULL)                 after a known COMMIT
 *     etag_guard_abort(guard)                        after a known ROLLBACK
 *     etag_guard_forget(guard)                       the outcome of COMMIT is not known: the guard
 *                                                    lingers
 *
 * Between begin's and the end's return front ends answer ETAG_UNKNOWN for the targets, and fills of
 * them are refused. So no front end answers 304 for a version that is older than a database commit
 * that has begun.
 *
 * A writer that vanishes leaves its guard behind; after guard_linger (30 s by default) without a
 * sign of life it counts as committed. A sign of life is begin, confirm, and an open connection for
 * as long as max_ms allows. Bound COMMIT in the database (statement_timeout or the like) below the
 * time left; it counts from the *sending* of the confirmation.
 *
 * A guard belongs to its client's thread. In a child of fork() the parent's guards are dead: every
 * call but forget says INVALID. Closing the client leaves open guards to linger.
 */
typedef struct etag_guard etag_guard;

/* Begins a guard. targets: copied. Waits like etag_invalidate(), with the same errors; *out is NULL
 * unless it returns OK (what may have begun all the same is aborted, or lingers). */
ETAG_API ETAG_MUST_USE etag_status etag_guard_begin(etag_client *client,
                                                    const etag_targets *targets, etag_guard **out);

/* Makes sure, right before COMMIT, that the guard stands: reconnects if it must, and begins it
 * again where the daemon has lost it. Without OK the writer must not commit. May be repeated; the
 * last one counts. Errors as etag_invalidate(). */
ETAG_API ETAG_MUST_USE etag_status etag_guard_confirm(etag_guard *guard);

/* How long COMMIT may still take, milliseconds: guard_linger, less what passed since the last
 * confirmation was sent, less a margin for clocks. 0: it is over, or was never confirmed: confirm
 * again. */
ETAG_API uint32_t etag_guard_time_left_ms(const etag_guard *guard);

/* Ends a guard whose change is committed: an invalidation of its targets, also where the daemon has
 * lost the guard. Consumes the guard, even on error. Waits and fails like etag_invalidate(); after
 * an error the guard lingers, so no old 304 comes in the meantime. receipt may be NULL. */
ETAG_API ETAG_MUST_USE etag_status etag_guard_commit(etag_guard *guard, etag_receipt *receipt);

/* Ends a guard without a change: only after a ROLLBACK that is known to have happened. Entries are
 * as valid as before. Consumes the guard, even on error. PENDING: the daemon did not answer; the
 * end stands in the spool. Errors as etag_invalidate(). */
ETAG_API ETAG_MUST_USE etag_status etag_guard_abort(etag_guard *guard);

/* Gives a guard up, and says nothing to the daemon: it lingers, and then counts as committed. Right
 * where it is unknown whether COMMIT happened. NULL is allowed. Returns NULL. */
ETAG_API etag_guard *etag_guard_forget(etag_guard *guard);

#ifdef __cplusplus
}
#endif
#endif
