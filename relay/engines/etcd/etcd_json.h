/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What etcd's JSON gateway answers. It comes from a server that may be broken, or be another
 * program: sizes, depth, types, numbers and base64 are checked, and what does not pass is no
 * answer. Fields that are left out have their zero value, as protobuf's JSON has it. jansson stops
 * here.
 */
#ifndef ETAG_RELAY_ETCD_JSON_H
#define ETAG_RELAY_ETCD_JSON_H

#include "arena.h"

#include <stdbool.h>

#define ETCD_DEPTH_MAX 16
#define ETCD_RESULTS_MAX 128 /* of a transaction; etcd allows as many operations by default */
#define ETCD_TOKEN_BYTES_MAX 4096
#define ETCD_ERROR_BYTES_MAX 512

struct etcd_kv {
    etag_str key, value;
    uint64_t mod_revision, create_revision;
};

/* Of one operation of a transaction. */
struct etcd_result {
    struct etcd_kv *kvs;
    size_t kv_count;
    /* of a range: all of it, whatever the limit; of a deletion: removed keys */
    uint64_t count;
    /* a limit left some out */
    bool more;
};

struct etcd_reply {
    uint64_t cluster_id, revision, raft_term;
    /* the conditions held */
    bool succeeded;
    struct etcd_result *results;
    size_t result_count;
};

/* Of gRPC, as far as they are distinguished here. */
enum etcd_code {
    ETCD_CODE_OK = 0,
    ETCD_CODE_INVALID_ARGUMENT = 3,
    ETCD_CODE_NOT_FOUND = 5,
    ETCD_CODE_PERMISSION_DENIED = 7,
    ETCD_CODE_RESOURCE_EXHAUSTED = 8,
    ETCD_CODE_FAILED_PRECONDITION = 9,
    ETCD_CODE_UNAUTHENTICATED = 16,
};

struct etcd_error {
    uint64_t code;
    /* printable */
    char text[ETCD_ERROR_BYTES_MAX];
};

/* The answer to a transaction. Arrays and text are in the arena. 0, -ENOMEM, or -EPROTO: no etcd
 * answers that; *wrong says why (static text). */
MUST_USE int etcd_reply_read(struct etcd_reply *out, struct arena *arena, etag_str json,
                             const char **wrong);

/* An error's body. False: it is none. */
MUST_USE bool etcd_error_read(struct etcd_error *out, etag_str json);

/* The answer to an authentication: the token with a NUL after it. It is fit for a header. False:
 * there is none. */
MUST_USE bool etcd_token_read(char out[ETCD_TOKEN_BYTES_MAX], etag_str json);

/* The request of an authentication, malloced; NULL: no memory, or name or password are no UTF-8. */
MUST_USE char *etcd_login_write(const char *name, const char *password);

#endif
