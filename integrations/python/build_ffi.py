# SPDX-License-Identifier: Apache-2.0
"""The compiled half of the package: libetag wrapped in a few flat functions (cffi, API mode).

A call from Python hands over one block of bytes and the lengths of the strings in it (-1: absent); shim.h turns them into
the structs of etag.h on its stack, and copies what libetag answers into memory of the caller. So nothing in Python points
into libetag, and a check costs one call. cffi gives the GIL back around every call.
"""
import os

from cffi import FFI

HERE = os.path.dirname(os.path.abspath(__file__))

# Values that Python knows by name: the compiler refuses them where they are not etag.h's.
CDEF = """
enum { ETAG_OK = 0, ETAG_AGAIN = 1, ETAG_PENDING = 2, ETAG_REFUSED = 3, ETAG_DENIED = 4, ETAG_INVALID = 5,
       ETAG_UNAVAILABLE = 6, ETAG_TIMEOUT = 7, ETAG_VERSION = 8, ETAG_PROTOCOL = 9, ETAG_SYSTEM = 10,
       ETAG_NOT_FOUND = 11, ETAG_FAILED = 12 };
enum { ETAG_UNKNOWN = 0, ETAG_NOT_MODIFIED = 1, ETAG_PRECONDITION_FAILED = 2, ETAG_PROCEED = 3,
       ETAG_PRECONDITION_REQUIRED = 4 };
typedef struct etag_client etag_client;
typedef struct etag_guard etag_guard;
typedef struct etag_hasher etag_hasher;

struct py_token { uint64_t incarnation, lsn; };
struct py_options {
    const char *socket_path; uint32_t timeout_ms, connect_timeout_ms; int no_wait, spool_never, shadow; };
struct py_key { int scope_kind; uint32_t vary_count; };
struct py_request { struct py_key key; uint32_t field_count; int require_if_match, compression_suffixes; };
struct py_answer {
    int32_t verdict, range, overflow, reason; int64_t last_modified; uint64_t fill_lsn; int32_t etag_len;
    uint32_t field_count, used, unused; char data[17408]; };
struct py_response {
    int http_status, had_authorization, is_strong, withheld; int64_t last_modified; uint64_t max_age_s;
    uint32_t field_count, surrogate_count; };
struct py_targets {
    uint32_t resource_count, surrogate_count, prefix_count, family_count; int everything; uint32_t hold_ms, max_ms, reach;
    uint64_t position; };
struct py_hash { int32_t len; char bytes[256]; };

int py_open(etag_client **out, const struct py_options *o, const char *bytes, const char *lengths, uint32_t count);
void py_close(etag_client *client);
int py_dispatch(etag_client *client);
const char *py_error(etag_client *client);
const char *py_reason(etag_client *client);
const char *py_reason_word(int reason);
const char *py_status_text(int status);
int64_t py_date_parse(const char *text, int32_t len);
void py_token(etag_client *client, struct py_token *out);
int py_check(etag_client *client, int scope_kind, uint32_t vary_count, uint32_t field_count, int flags, const char *bytes,
             const char *lengths, uint32_t count, uint64_t incarnation, uint64_t lsn, struct py_answer *out);
int py_answer_len(const struct py_answer *answer);
int py_evaluate(const struct py_request *r, const char *bytes, const char *lengths, uint32_t count, int existence,
                int64_t last_modified, int is_strong, int *range);
int py_fill(etag_client *client, const struct py_key *key, const struct py_response *r, const char *bytes,
            const char *lengths, uint32_t count, uint64_t incarnation, uint64_t lsn, int wait, uint64_t *fill_lsn);
int py_finish(etag_client *client, const struct py_request *q, const struct py_response *r, const char *bytes,
              const char *lengths, uint32_t count, uint64_t incarnation, uint64_t lsn, int reason,
              struct py_answer *out);
int py_invalidate(etag_client *client, const struct py_targets *t, const char *bytes, const char *lengths,
                  uint32_t count, uint64_t *lsn);
int py_guard_begin(etag_client *client, const struct py_targets *t, const char *bytes, const char *lengths,
                   uint32_t count, etag_guard **out);
int py_guard_confirm(etag_guard *guard);
uint32_t py_guard_time_left_ms(etag_guard *guard);
int py_guard_commit(etag_guard *guard, uint64_t *lsn);
int py_guard_abort(etag_guard *guard);
void py_guard_forget(etag_guard *guard);
int py_hash(etag_hasher **hasher, const char *body, size_t len, int weak, struct py_hash *out);
void py_hasher_close(etag_hasher *hasher);
void *py_audit(void *hook, const char *events, uint32_t count);
int py_audit_is_armed(void *made);
int py_variant(const char *etag, int32_t etag_len, const char *coding, int32_t coding_len, struct py_hash *out);
"""

ffibuilder = FFI()
ffibuilder.cdef(CDEF)
with open(os.path.join(HERE, "shim.h"), encoding="utf-8") as shim:
    SOURCE = shim.read()
# setup.py builds against an installed libetag; CMake writes the C source and links it by itself.
ffibuilder.set_source("etagd._etag", SOURCE, libraries=["etag"])

if __name__ == "__main__":
    import sys

    ffibuilder.emit_c_code(sys.argv[1])
