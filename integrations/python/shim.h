/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From one block of bytes to the structs of etag.h, and back. The strings of a call are in one
* block, one after the other; their lengths, int32_t each, in another (-1: absent). Order:
 *
 *   key       host, target, scope, release, scheme, then name and value of each vary field
 *   request   method, key, then name and value of each header field
 *   response  etag, then name and value of each header field, then the surrogate keys
 *   targets   host and target of each resource, the surrogate keys, host and target of each prefix
 *
 * Nothing here keeps a pointer after its call. Threads: as the client.
 */
#ifndef ETAG_PYTHON_SHIM_H
#define ETAG_PYTHON_SHIM_H

#include <etag/etag.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define PY_VARY_MAX 32 /* above libetag's own bound, whose answer counts */
#define PY_FIELDS_MAX 256
#define PY_NAMES_MAX 4096
#define PY_REPEATED_MAX 8

struct py_token {
    uint64_t incarnation, lsn;
};
struct py_options {
    const char *socket_path;
    uint32_t timeout_ms, connect_timeout_ms;
    int no_wait, spool_never, shadow;
};
struct py_key {
    int scope_kind;
    uint32_t vary_count;
};
struct py_request {
    struct py_key key;
    uint32_t field_count;
    int require_if_match, compression_suffixes;
};
/* model.py knows its layout: one copy of its first bytes is all that Python takes */
struct py_answer {
    int32_t verdict, range, overflow, reason;
    int64_t last_modified;
    uint64_t fill_lsn;
    int32_t etag_len;
    uint32_t field_count, used, unused;
    /* lengths, uint32_t: name, value, name, value ...; then the etag and these in bytes */
    char data[17408];
};
struct py_response {
    int http_status, had_authorization, is_strong, withheld;
    int64_t last_modified;
    uint64_t max_age_s;
    uint32_t field_count, surrogate_count;
};
struct py_targets {
    uint32_t resource_count, surrogate_count, prefix_count, family_count;
    int everything;
    uint32_t hold_ms, max_ms, reach;
    uint64_t position;
};
struct py_hash {
    int32_t len;
    char bytes[ETAG_BYTES_MAX];
};

/* ---- Reading the block ---- */

struct py_reader {
    const char *bytes, *lengths;
    uint32_t left;
    /* the block holds fewer strings than the counts say */
    int missing;
};

static etag_str py_next(struct py_reader *r)
{
    int32_t len;

    if (r->left == 0) {
        r->missing = 1;
        return (etag_str){NULL, 0};
    }
    memcpy(&len, r->lengths, sizeof(len));
    r->lengths += sizeof(len);
    r->left--;
    if (len < 0)
        return (etag_str){NULL, 0};
    const etag_str s = {r->bytes, (size_t)len};
    r->bytes += len;
    return s;
}

static void py_read_fields(struct py_reader *r, etag_field *fields, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        fields[i].name = py_next(r);
        fields[i].value = py_next(r);
    }
}

static void py_read_resources(struct py_reader *r, etag_resource *resources, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        resources[i].host = py_next(r);
        resources[i].target = py_next(r);
    }
}

static void py_read_key(struct py_reader *r, const struct py_key *k, etag_key *key,
                        etag_field vary[PY_VARY_MAX])
{
    ETAG_INIT(key);
    key->resource.host = py_next(r);
    key->resource.target = py_next(r);
    key->scope.kind = (etag_scope_kind)k->scope_kind;
    key->scope.name = py_next(r);
    key->release = py_next(r);
    key->scheme = py_next(r);
    py_read_fields(r, vary, k->vary_count);
    key->vary = vary;
    key->vary_count = k->vary_count;
}

struct py_request_room {
    etag_request request;
    etag_key key;
    etag_field vary[PY_VARY_MAX];
    etag_field fields[PY_FIELDS_MAX];
};

static int py_read_request(struct py_reader *r, const struct py_request *q,
                           struct py_request_room *room)
{
    if (q->key.vary_count > PY_VARY_MAX || q->field_count > PY_FIELDS_MAX)
        return 0;
    ETAG_INIT(&room->request);
    room->request.method = py_next(r);
    py_read_key(r, &q->key, &room->key, room->vary);
    py_read_fields(r, room->fields, q->field_count);
    room->request.key = &room->key;
    room->request.fields = room->fields;
    room->request.field_count = q->field_count;
    room->request.require_if_match = q->require_if_match != 0;
    room->request.compression_suffixes = q->compression_suffixes != 0;
    return !r->missing;
}

struct py_response_room {
    etag_entry entry;
    etag_field fields[PY_FIELDS_MAX];
    etag_str surrogates[PY_NAMES_MAX];
};

static int py_read_response(struct py_reader *r, const struct py_response *p,
                            struct py_response_room *room)
{
    if (p->field_count > PY_FIELDS_MAX || p->surrogate_count > PY_NAMES_MAX)
        return 0;
    etag_entry_init(&room->entry);
    room->entry.etag = py_next(r);
    py_read_fields(r, room->fields, p->field_count);
    for (uint32_t i = 0; i < p->surrogate_count; i++)
        room->surrogates[i] = py_next(r);
    room->entry.http_status = p->http_status;
    room->entry.had_authorization = p->had_authorization != 0;
    room->entry.withheld = p->withheld != 0;
    room->entry.last_modified = p->last_modified;
    room->entry.last_modified_is_strong = p->is_strong != 0;
    room->entry.max_age_s = p->max_age_s;
    room->entry.fields = room->fields;
    room->entry.field_count = p->field_count;
    room->entry.surrogates = room->surrogates;
    room->entry.surrogate_count = p->surrogate_count;
    return !r->missing;
}

/* ---- Writing the answer ---- */

static void py_put(struct py_answer *out, const char *data, size_t len)
{
    if (len > sizeof(out->data) - out->used) {
        out->overflow = 1;
        return;
    }
    if (len)
        memcpy(out->data + out->used, data, len);
    out->used += (uint32_t)len;
}

static void py_put_length(struct py_answer *out, size_t len)
{
    const uint32_t length = (uint32_t)len;

    py_put(out, (const char *)&length, sizeof(length));
}

static void py_write_answer(struct py_answer *out, const etag_answer *answer)
{
    out->verdict = answer->verdict;
    out->range = answer->range;
    out->overflow = 0;
    out->reason = answer->reason;
    out->last_modified = answer->last_modified;
    out->fill_lsn = answer->fill_lsn;
    out->used = 0;
    out->etag_len = answer->etag.data ? (int32_t)answer->etag.len : -1;
    out->field_count = (uint32_t)answer->field_count;
    for (uint32_t i = 0; i < out->field_count; i++) {
        py_put_length(out, answer->fields[i].name.len);
        py_put_length(out, answer->fields[i].value.len);
    }
    py_put(out, answer->etag.data, answer->etag.len);
    for (uint32_t i = 0; i < out->field_count; i++) {
        py_put(out, answer->fields[i].name.data, answer->fields[i].name.len);
        py_put(out, answer->fields[i].value.data, answer->fields[i].value.len);
    }
    if (out->overflow) {
        out->field_count = out->used = 0;
        out->etag_len = -1;
    }
}

static int py_answer_len(const struct py_answer *out)
{
    return (int)(offsetof(struct py_answer, data) + out->used);
}

/* ---- Client ---- */

static int py_open(etag_client **out, const struct py_options *o, const char *bytes,
                   const char *lengths, uint32_t count)
{
    struct py_reader r = {bytes, lengths, count, 0};
    etag_str repeated[PY_REPEATED_MAX];
    etag_client_options options;

    ETAG_INIT(&options);
    *out = NULL;
    if (count > PY_REPEATED_MAX)
        return ETAG_INVALID;
    for (uint32_t i = 0; i < count; i++)
        repeated[i] = py_next(&r);
    options.socket_path = o->socket_path;
    options.timeout_ms = o->timeout_ms;
    options.connect_timeout_ms = o->connect_timeout_ms;
    options.no_wait = o->no_wait != 0;
    options.spool = o->spool_never ? ETAG_SPOOL_NEVER : ETAG_SPOOL_ALLOWED;
    options.shadow = o->shadow != 0;
    options.repeated_fields = repeated;
    options.repeated_field_count = count;
    return etag_client_open(out, &options);
}

static void py_close(etag_client *client)
{
    etag_client_close(client);
}

static int py_dispatch(etag_client *client)
{
    return etag_client_dispatch(client);
}

static const char *py_error(etag_client *client)
{
    return etag_client_error(client);
}

static const char *py_reason_word(int reason)
{
    return etag_reason_word((etag_reason)reason);
}

static const char *py_reason(etag_client *client)
{
    return etag_reason_word(etag_fill_reason(client));
}

static const char *py_status_text(int status)
{
    return etag_status_text((etag_status)status);
}

static int64_t py_date_parse(const char *text, int32_t len)
{
    return etag_date_parse((etag_str){text, (size_t)len});
}

/* A check never connects. What comes of it is only that a later one may know more, so its status
 * does not matter here. */
static void py_reconnect(etag_client *client)
{
    const etag_status ignored = etag_client_dispatch(client);

    (void)ignored;
}

static void py_token(etag_client *client, struct py_token *out)
{
    etag_token token = etag_token_now(client);

    if (token.incarnation == 0) {
        py_reconnect(client);
        token = etag_token_now(client);
    }
    out->incarnation = token.incarnation;
    out->lsn = token.lsn;
}

/* Returns how much of *out counts, -1 for too many fields. */
static int py_check(etag_client *client, int scope_kind, uint32_t vary_count, uint32_t field_count,
                    int flags, const char *bytes, const char *lengths, uint32_t count,
                    uint64_t incarnation, uint64_t lsn, struct py_answer *out)
{
    const struct py_request q = {{scope_kind, vary_count}, field_count, flags & 1, flags & 2};
    struct py_reader r = {bytes, lengths, count, 0};
    struct py_request_room room;
    const etag_token token = {incarnation, lsn};
    etag_answer answer;

    ETAG_INIT(&answer);
    if (!py_read_request(&r, &q, &room))
        return -1;
    (void)etag_check(client, &room.request, token, &answer);
    py_write_answer(out, &answer);
    if (answer.reason == ETAG_REASON_NO_INDEX || answer.reason == ETAG_REASON_NO_LEASE)
        py_reconnect(client);
    if (out->overflow)
        out->verdict = ETAG_UNKNOWN;
    return py_answer_len(out);
}

/* The etag comes after the request in the block. Returns the verdict, -1 for a block that is
 * wrong. */
static int py_evaluate(const struct py_request *q, const char *bytes, const char *lengths,
                       uint32_t count, int existence, int64_t last_modified, int is_strong,
                       int *range)
{
    struct py_reader r = {bytes, lengths, count, 0};
    struct py_request_room room;
    etag_validators validators;

    etag_validators_init(&validators);
    if (!py_read_request(&r, q, &room))
        return -1;
    validators.existence = (etag_existence)existence;
    validators.etag = py_next(&r);
    validators.last_modified = last_modified;
    validators.last_modified_is_strong = is_strong != 0;
    if (r.missing)
        return -1;
    const etag_verdict verdict = etag_evaluate(&room.request, &validators);
    *range = verdict == ETAG_PROCEED ? etag_evaluate_range(&room.request, &validators)
                                     : ETAG_RANGE_NONE;
    return verdict;
}

/* ---- Fill ---- */

static int py_fill(etag_client *client, const struct py_key *k, const struct py_response *p,
                   const char *bytes, const char *lengths, uint32_t count, uint64_t incarnation,
                   uint64_t lsn, int wait, uint64_t *fill_lsn)
{
    struct py_reader r = {bytes, lengths, count, 0};
    struct py_response_room room;
    etag_field vary[PY_VARY_MAX];
    etag_key key;
    etag_receipt receipt;
    const etag_token token = {incarnation, lsn};

    ETAG_INIT(&receipt);
    if (k->vary_count > PY_VARY_MAX)
        return ETAG_INVALID;
    const etag_str method = py_next(&r);
    py_read_key(&r, k, &key, vary);
    if (!py_read_response(&r, p, &room))
        return ETAG_INVALID;
    room.entry.key = &key;
    room.entry.method = method;
    if (!wait)
        return etag_fill(client, token, &room.entry);
    const etag_status status = etag_fill_wait(client, token, &room.entry, &receipt);
    *fill_lsn = receipt.lsn;
    return status;
}

/* reason: of the check's answer. Returns the HTTP status to send, which is the response's own where
 * etag_finish() says 0; -1 for a block that is wrong. */
static int py_finish(etag_client *client, const struct py_request *q, const struct py_response *p,
                     const char *bytes, const char *lengths, uint32_t count, uint64_t incarnation,
                     uint64_t lsn, int reason, struct py_answer *out)
{
    struct py_reader r = {bytes, lengths, count, 0};
    struct py_request_room request;
    struct py_response_room response;
    etag_answer answer;

    ETAG_INIT(&answer);
    if (!py_read_request(&r, q, &request) || !py_read_response(&r, p, &response))
        return -1;
    answer.reason = (etag_reason)reason;
    answer.token = (etag_token){incarnation, lsn};
    if (r.missing)
        return -1;
    const int status = etag_finish(client, &request.request, &response.entry, &answer);
    py_write_answer(out, &answer);
    return status == 0 || out->overflow ? p->http_status : status;
}

/* ---- Mutations ---- */

struct py_targets_room {
    etag_targets targets;
    /* resources, then prefixes */
    etag_resource *resources;
    /* surrogate keys, then families */
    etag_str *names;
};

static void py_targets_free(struct py_targets_room *room)
{
    free(room->resources);
    free(room->names);
}

static int py_read_targets(struct py_reader *r, const struct py_targets *t,
                           struct py_targets_room *room)
{
    memset(room, 0, sizeof(*room));
    ETAG_INIT(&room->targets);
    if (t->resource_count > PY_NAMES_MAX || t->prefix_count > PY_NAMES_MAX ||
        t->surrogate_count > PY_NAMES_MAX || t->family_count > PY_NAMES_MAX)
        return ETAG_INVALID;
    room->resources = calloc((size_t)t->resource_count + t->prefix_count + 1,
                             sizeof(etag_resource));
    room->names = calloc((size_t)t->surrogate_count + t->family_count + 1, sizeof(etag_str));
    if (!room->resources || !room->names)
        return ETAG_SYSTEM;
    py_read_resources(r, room->resources, t->resource_count);
    for (uint32_t i = 0; i < t->surrogate_count; i++)
        room->names[i] = py_next(r);
    py_read_resources(r, room->resources + t->resource_count, t->prefix_count);
    for (uint32_t i = 0; i < t->family_count; i++)
        room->names[t->surrogate_count + i] = py_next(r);
    room->targets.resources = room->resources;
    room->targets.resource_count = t->resource_count;
    room->targets.surrogates = room->names;
    room->targets.surrogate_count = t->surrogate_count;
    room->targets.prefixes = room->resources + t->resource_count;
    room->targets.prefix_count = t->prefix_count;
    room->targets.families = room->names + t->surrogate_count;
    room->targets.family_count = t->family_count;
    room->targets.everything = t->everything != 0;
    room->targets.hold_ms = t->hold_ms;
    room->targets.max_ms = t->max_ms;
    room->targets.reach = (etag_reach)t->reach;
    room->targets.position = t->position;
    return r->missing ? ETAG_INVALID : ETAG_OK;
}

static int py_invalidate(etag_client *client, const struct py_targets *t, const char *bytes,
                         const char *lengths, uint32_t count, uint64_t *lsn)
{
    struct py_reader r = {bytes, lengths, count, 0};
    struct py_targets_room room;
    etag_receipt receipt;

    ETAG_INIT(&receipt);
    int status = py_read_targets(&r, t, &room);
    if (status == ETAG_OK)
        status = etag_invalidate(client, &room.targets, &receipt);
    py_targets_free(&room);
    *lsn = receipt.lsn;
    return status;
}

static int py_guard_begin(etag_client *client, const struct py_targets *t, const char *bytes,
                          const char *lengths, uint32_t count, etag_guard **out)
{
    struct py_reader r = {bytes, lengths, count, 0};
    struct py_targets_room room;

    *out = NULL;
    int status = py_read_targets(&r, t, &room);
    if (status == ETAG_OK)
        status = etag_guard_begin(client, &room.targets, out);
    py_targets_free(&room);
    return status;
}

static int py_guard_confirm(etag_guard *guard)
{
    return etag_guard_confirm(guard);
}

static uint32_t py_guard_time_left_ms(etag_guard *guard)
{
    return etag_guard_time_left_ms(guard);
}

static int py_guard_commit(etag_guard *guard, uint64_t *lsn)
{
    etag_receipt receipt;

    ETAG_INIT(&receipt);
    const int status = etag_guard_commit(guard, &receipt);
    *lsn = receipt.lsn;
    return status;
}

static int py_guard_abort(etag_guard *guard)
{
    return etag_guard_abort(guard);
}

static void py_guard_forget(etag_guard *guard)
{
    etag_guard_forget(guard);
}

/* ---- ETag makers ---- */

static int py_hash_out(etag_status status, etag_str etag, struct py_hash *out)
{
    out->len = 0;
    if (status == ETAG_OK) {
        memmove(out->bytes, etag.data, etag.len);
        out->len = (int32_t)etag.len;
    }
    return status;
}

/* *hasher: opened where it is NULL; kept by the caller, for one thread. */
static int py_hash(etag_hasher **hasher, const char *body, size_t len, int weak,
                   struct py_hash *out)
{
    etag_str etag = {NULL, 0};

    if (!*hasher) {
        const etag_status opened = etag_hasher_open(hasher);
        if (opened != ETAG_OK)
            return opened;
    }
    return py_hash_out(etag_hash(*hasher, body, len, weak != 0, &etag), etag, out);
}

static void py_hasher_close(etag_hasher *hasher)
{
    etag_hasher_close(hasher);
}

static int py_variant(const char *etag, int32_t etag_len, const char *coding, int32_t coding_len,
                      struct py_hash *out)
{
    etag_str variant = {NULL, 0};
    const etag_status status = etag_variant((etag_str){etag, (size_t)etag_len},
                                            (etag_str){coding, (size_t)coding_len}, out->bytes,
                                            sizeof(out->bytes), &variant);

    return py_hash_out(status, variant, out);
}

/* ---- Audit events ---- */

#ifdef PYPY_VERSION

static void *py_audit(void *hook, const char *events, uint32_t count)
{
    (void)hook, (void)events, (void)count;
    return NULL;
}

static int py_audit_is_armed(void *made)
{
    (void)made;
    return 0;
}

#else

#define PY_AUDIT_ARMS "etagd.audit" /* an event of ours, with the hook's address */

/* CPython has both from 3.9 on; its header shows neither to a module that keeps to an older ABI. */
extern int PySys_AddAuditHook(int (*)(const char *, PyObject *, void *), void *);
extern PyInterpreterState *PyInterpreterState_Get(void);

struct py_audit_hook {
    PyObject *hook;
    /* NULL: not armed */
    PyInterpreterState *interpreter;
    uint32_t count;
    /* within what follows them */
    const char *events[];
};

/* Runs for each event of the process, also of other interpreters, and while this one ends: then
 * nothing here may run Python. */
static int py_audit_event(const char *event, PyObject *args, void *data)
{
    struct py_audit_hook *h = data;
    uint32_t at = 0;

    /* The second letter tells most from those of every request, builtins.id and the like. */
    while (at < h->count && (h->events[at][0] != event[0] || h->events[at][1] != event[1] ||
                             strcmp(h->events[at], event) != 0))
        at++;
    if (at == h->count) {
        if (!h->interpreter && strcmp(event, PY_AUDIT_ARMS) == 0 && PyTuple_Size(args) == 1) {
            if (PyLong_AsVoidPtr(PyTuple_GetItem(args, 0)) == h->hook)
                h->interpreter = PyInterpreterState_Get();
            PyErr_Clear(); /* it was no number */
        }
        return 0;
    }
    if (!h->interpreter || !Py_IsInitialized() || PyInterpreterState_Get() != h->interpreter)
        return 0;
    PyObject *made = PyObject_CallFunction(h->hook, "sO", event, args);
    Py_XDECREF(made);
    return made ? 0 : -1;
}

/* events: count names, each with its NUL; copied. hook: a callable that lives as long as the
 * process; it is called once PY_AUDIT_ARMS has come, which says in which interpreter it lives: here
 * cffi has given the interpreter back. Returns NULL where it cannot be. */
static void *py_audit(void *hook, const char *events, uint32_t count)
{
    size_t len = 0;

    for (uint32_t i = 0; i < count; i++)
        len += strlen(events + len) + 1;
    struct py_audit_hook *made = malloc(sizeof(*made) + count * sizeof(*made->events) + len);
    if (!made)
        return NULL;
    made->hook = hook;
    made->interpreter = NULL;
    made->count = count;
    char *text = memcpy(made->events + count, events, len);
    for (uint32_t i = 0; i < count; i++, text += strlen(text) + 1)
        made->events[i] = text;
    const PyGILState_STATE state = PyGILState_Ensure();
    const int status = PySys_AddAuditHook(py_audit_event, made);
    if (status)
        PyErr_Clear();
    PyGILState_Release(state);
    if (!status)
        return made;
    free(made);
    return NULL;
}

static int py_audit_is_armed(void *made)
{
    return ((struct py_audit_hook *)made)->interpreter != NULL;
}

#endif

#endif
