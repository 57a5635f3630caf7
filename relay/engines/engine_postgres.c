/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine on PostgreSQL: each operation is one call of a function of relay/sql/schema.sql, in a
 * transaction of its own, so that a pooler may give each to another server. Nothing is remembered
 * of the session but LISTEN and what is prepared, whose loss costs time only.
 *
 * No operation waits for a disk or for a standby, whatever the database is used to: a poll could
 * not go on meanwhile. What a crash or a failover could lose of them it loses together with the
 * witness, and then everything is raised, by every host (the functions say more). A poll takes no
 * transaction id.
 */
#include "bounds.h"
#include "numbers.h"
#include "outbox_row.h"
#include "postgres.h"
#include "text.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>

#define FIRST_POSITION 3 /* PostgreSQL: ids below it are its own */
#define EVENT_HEAD_BYTES 12
#define SNAPSHOT_HEAD_BYTES 20 /* count, xmin, xmax */
#define SESSION_NAME_BYTES (sizeof("etag-relay ") + ENGINE_HOST_BYTES_MAX)
#define BYTEA_OID 17u
#define DIGEST_BROKEN 1 /* etagd.watch_digest() */

struct engine_pg {
    struct engine engine;
    struct postgres *postgres;
    enum engine_op under_way;
    /* in host_bytes */
    etag_str host;
    struct engine_nonce nonce;
    /* The cursor of the poll under way could not be sent: its answer raises everything. */
    bool cursor_bad;
    /* The operation under way notifies, besides what it does. */
    bool wakes;
    char host_bytes[ENGINE_HOST_BYTES_MAX + 1];
};

static const char *const statements[] = {
    /* The columns of etagd.polled. FROM etagd.poll() would put the row into a store first. */
    [ENGINE_POLL] = "SELECT (p).* FROM (SELECT etagd.poll($1::pg_snapshot, $2::text, $3::uuid,"
                    " $4::integer, $5::integer) OFFSET 0) q(p)",
    [ENGINE_PUBLISH] = "SELECT etagd.publish($1::bytea[], $2::boolean, $3::boolean)",
    [ENGINE_WAKE] = "SELECT etagd.wake()",
    [ENGINE_ASK] = "SELECT etagd.ask($1::xid8, $2::boolean, $3::boolean)",
    [ENGINE_MEMBERS] =
        "SELECT in_recovery, system_id, started_us, timeline, database, witness, settled,"
        " wait_ms, host, state, ack_witness, ack_snapshot, own"
        " FROM etagd.members($1::text, $2::uuid, $3::integer)",
    [ENGINE_ACKNOWLEDGE] = "SELECT etagd.acknowledge($1::text, $2::uuid, $3::uuid, $4)",
};

/* The engine is its first member. */
static struct engine_pg *pg_of(struct engine *engine)
{
    return (struct engine_pg *)engine;
}

static const struct engine_pg *pg_in(const struct engine *engine)
{
    return (const struct engine_pg *)engine;
}

/* ---- Open, close, bytes ---------------------------------------------------------------------- */

static struct engine *pg_close(struct engine *engine)
{
    if (!engine)
        return NULL;
    postgres_close(pg_of(engine)->postgres);
    free(engine);
    return NULL;
}

static int pg_open(struct engine **out, const struct engine_options *options, struct why *why)
{
    char name[SESSION_NAME_BYTES];
    struct engine_pg *const pg = calloc(1, sizeof(*pg));

    *out = NULL;
    if (!pg)
        return -ENOMEM;
    pg->engine.kind = &engine_postgres;
    pg->host.len = min_of(options->host.len, ENGINE_HOST_BYTES_MAX);
    pg->host.data = pg->host_bytes;
    copy_bytes(pg->host_bytes, options->host.data, pg->host.len);
    pg->nonce = options->nonce;
    (void)snprintf(name, sizeof(name), "etag-relay %s", pg->host_bytes);
    const int r = postgres_open(&pg->postgres, options->connection, name, false, why);
    if (r != 0) {
        (void)pg_close(&pg->engine);
        return r;
    }
    postgres_prepare(pg->postgres, statements, COUNT_OF(statements));
    *out = &pg->engine;
    return 0;
}

static int pg_fd(const struct engine *engine)
{
    return postgres_fd(pg_in(engine)->postgres);
}

static short pg_events(const struct engine *engine)
{
    return postgres_events(pg_in(engine)->postgres);
}

static int pg_timeout_ms(const struct engine *engine)
{
    (void)engine;
    return -1;
}

static int pg_dispatch(struct engine *engine, struct why *why)
{
    return postgres_dispatch(pg_of(engine)->postgres, why);
}

static bool pg_ready(const struct engine *engine)
{
    const struct engine_pg *const pg = pg_in(engine);

    return pg->under_way == ENGINE_NONE && postgres_ready(pg->postgres);
}

static bool pg_woken(struct engine *engine)
{
    return postgres_woken(pg_of(engine)->postgres);
}

/* ---- Values in PostgreSQL's binary form ------------------------------------------------------ */

static void put_u32(uint8_t *at, uint32_t value)
{
    value = htobe32(value);
    memcpy(at, &value, sizeof(value));
}

static void put_u64(uint8_t *at, uint64_t value)
{
    value = htobe64(value);
    memcpy(at, &value, sizeof(value));
}

static uint32_t get_u32(const char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return be32toh(value);
}

static uint64_t get_u64(const char *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return be64toh(value);
}

/* Would PostgreSQL take it for a snapshot of its own? */
static bool snapshot_is_sound(const struct engine_snapshot *snapshot)
{
    uint64_t last = FIRST_POSITION - 1;

    for (size_t i = 0; i < snapshot->running_count; i++) {
        if (snapshot->running[i] <= last)
            return false;
        last = snapshot->running[i];
    }
    return snapshot->next > last && snapshot->next <= INT64_MAX;
}

/* NULL: no memory. Freed by the caller. */
static uint8_t *snapshot_put(const struct engine_snapshot *snapshot, size_t *len)
{
    const size_t count = snapshot->running_count;

    *len = SNAPSHOT_HEAD_BYTES + count * sizeof(uint64_t);
    uint8_t *const bytes = malloc(*len);

    if (!bytes)
        return NULL;
    put_u32(bytes, (uint32_t)count);
    put_u64(bytes + 4, count > 0 ? snapshot->running[0] : snapshot->next);
    put_u64(bytes + 12, snapshot->next);
    for (size_t i = 0; i < count; i++)
        put_u64(bytes + SNAPSHOT_HEAD_BYTES + i * sizeof(uint64_t), snapshot->running[i]);
    return bytes;
}

/* *unassigned: what no transaction has yet. 0, -ENOMEM, or -EPROTO. */
static int snapshot_get(struct engine_snapshot *out, uint64_t *unassigned, etag_str bytes,
                        struct arena *arena)
{
    if (bytes.len < SNAPSHOT_HEAD_BYTES)
        return -EPROTO;
    const size_t count = get_u32(bytes.data);
    if (bytes.len != SNAPSHOT_HEAD_BYTES + count * sizeof(uint64_t))
        return -EPROTO;
    const char *const running = bytes.data + SNAPSHOT_HEAD_BYTES;
    *unassigned = get_u64(bytes.data + 12);
    *out = (struct engine_snapshot){.next = *unassigned};
    if (count > ENGINE_RUNNING_MAX) { /* covers less, which is always right */
        out->next = get_u64(running);
        return 0;
    }
    out->running = arena_array(arena, count, sizeof(uint64_t));
    if (!out->running)
        return -ENOMEM;
    out->running_count = count;
    for (size_t i = 0; i < count; i++)
        out->running[i] = get_u64(running + i * sizeof(uint64_t));
    return snapshot_is_sound(out) ? 0 : -EPROTO;
}

static struct postgres_value nonce_value(const struct engine_nonce *nonce)
{
    return (struct postgres_value){{(const char *)nonce->bytes, sizeof(nonce->bytes)}, false};
}

static bool nonce_get(struct engine_nonce *out, etag_str bytes)
{
    if (bytes.len != sizeof(out->bytes))
        return false;
    memcpy(out->bytes, bytes.data, sizeof(out->bytes));
    return true;
}

static enum engine_membership membership_get(etag_str state)
{
    if (str_equal(state, ETAG_LIT("member")))
        return ENGINE_MEMBER;
    return str_equal(state, ETAG_LIT("leaving")) ? ENGINE_LEAVING : ENGINE_NO_MEMBER;
}

/* ---- Start ----------------------------------------------------------------------------------- */

static struct postgres_value host_value(const struct engine_pg *pg)
{
    return (struct postgres_value){pg->host, true};
}

static int start_poll(struct engine_pg *pg, const struct engine_request *request, struct why *why)
{
    const struct engine_snapshot *const cursor = request->poll.cursor;
    uint8_t rows_max[4], bytes_max[4];
    CLEANUP(cleanup_free) uint8_t *seen = NULL;
    size_t seen_len = 0;

    pg->cursor_bad = cursor && !snapshot_is_sound(cursor);
    if (cursor && !pg->cursor_bad) {
        seen = snapshot_put(cursor, &seen_len);
        if (!seen)
            return -ENOMEM;
    }
    put_u32(rows_max, ENGINE_ROWS_MAX);
    put_u32(bytes_max, ENGINE_TARGETS_BYTES_MAX);
    const struct postgres_statement statement = {
        .sql = statements[ENGINE_POLL],
        .values = {{{(const char *)seen, seen_len}, false},
                   host_value(pg),
                   nonce_value(&pg->nonce),
                   {{(const char *)rows_max, sizeof(rows_max)}, false},
                   {{(const char *)bytes_max, sizeof(bytes_max)}, false}},
        .value_count = 5};
    return postgres_send(pg->postgres, &statement, why);
}

static int start_join(struct engine_pg *pg, const struct engine_request *request, struct why *why)
{
    (void)request;
    const struct postgres_statement statement = {
        .sql = "SELECT state, nonce, lease_ms, wait_ms FROM etagd.join($1::text, $2::uuid)",
        .values = {host_value(pg), nonce_value(&pg->nonce)},
        .value_count = 2};
    return postgres_send(pg->postgres, &statement, why);
}

/* An array of bytea of one dimension. */
static int rows_send(struct engine_pg *pg, const struct outbox_rows *rows,
                     const struct engine_request *request, struct why *why)
{
    const char ask = (char)request->publish.ask, wake = (char)request->publish.wake;
    const size_t head_len = 20;
    CLEANUP(cleanup_free) uint8_t *array = malloc(head_len + rows->len);

    if (!array)
        return -ENOMEM;
    put_u32(array, 1);
    put_u32(array + 4, 0);
    put_u32(array + 8, BYTEA_OID);
    put_u32(array + 12, rows->count);
    put_u32(array + 16, 1);
    memcpy(array + head_len, rows->bytes, rows->len);
    const struct postgres_statement statement = {
        .sql = statements[ENGINE_PUBLISH],
        .values = {{{(const char *)array, head_len + rows->len}, false},
                   {{&ask, 1}, false},
                   {{&wake, 1}, false}},
        .value_count = 3};
    return postgres_send(pg->postgres, &statement, why);
}

static int start_publish(struct engine_pg *pg, const struct engine_request *request,
                         struct why *why)
{
    struct outbox_rows rows = {0};

    if (outbox_row_is_empty(request->publish.targets)) {
        (void)why_set(why, "no target is named");
        return ENGINE_E_REFUSED;
    }
    int r = outbox_rows_encode(&rows, request->publish.targets, pg->host);
    if (r == 0)
        r = rows_send(pg, &rows, request, why);
    free(rows.bytes);
    if (r != -EINVAL)
        return r;
    (void)why_set(why, "the targets are not well-formed");
    return ENGINE_E_REFUSED;
}

static int start_ask(struct engine_pg *pg, const struct engine_request *request, struct why *why)
{
    const char ask = (char)!request->ask.look_only, wake = (char)request->ask.wake;
    const bool looks = request->ask.position != 0;
    uint8_t position[8];

    put_u64(position, request->ask.position);
    const struct postgres_statement statement = {
        .sql = statements[ENGINE_ASK],
        .values = {{{looks ? (const char *)position : NULL, sizeof(position)}, false},
                   {{&ask, 1}, false},
                   {{&wake, 1}, false}},
        .value_count = 3};
    return postgres_send(pg->postgres, &statement, why);
}

static int start_wake(struct engine_pg *pg, const struct engine_request *request, struct why *why)
{
    (void)request;
    return postgres_send(pg->postgres, &(struct postgres_statement){.sql = statements[ENGINE_WAKE]},
                         why);
}

static int start_members(struct engine_pg *pg, const struct engine_request *request,
                         struct why *why)
{
    uint8_t hosts_max[4];

    (void)request;
    put_u32(hosts_max, ENGINE_MEMBERS_MAX);
    const struct postgres_statement statement = {
        .sql = statements[ENGINE_MEMBERS],
        .values = {host_value(pg),
                   nonce_value(&pg->nonce),
                   {{(const char *)hosts_max, sizeof(hosts_max)}, false}},
        .value_count = 3};
    return postgres_send(pg->postgres, &statement, why);
}

static int start_acknowledge(struct engine_pg *pg, const struct engine_request *request,
                             struct why *why)
{
    size_t len;

    if (!snapshot_is_sound(request->acknowledge.snapshot)) {
        (void)why_set(why, "the snapshot is not one of PostgreSQL");
        return ENGINE_E_REFUSED;
    }
    CLEANUP(cleanup_free) uint8_t *snapshot = snapshot_put(request->acknowledge.snapshot, &len);
    if (!snapshot)
        return -ENOMEM;
    const struct postgres_statement statement = {
        .sql = statements[ENGINE_ACKNOWLEDGE],
        .values = {host_value(pg),
                   nonce_value(&pg->nonce),
                   nonce_value(&request->acknowledge.witness),
                   {{(const char *)snapshot, len}, false}},
        .value_count = 4};
    return postgres_send(pg->postgres, &statement, why);
}

static int start_trim(struct engine_pg *pg, const struct engine_request *request, struct why *why)
{
    uint8_t retention_ms[8], rows_max[4];

    put_u64(retention_ms, min_of(request->trim.retention_ms, INT64_MAX / 2000));
    put_u32(rows_max, ENGINE_TRIM_ROWS_MAX);
    const struct postgres_statement statement = {
        .sql = "SELECT etagd.trim($1::bigint, $2::integer)",
        .values = {{{(const char *)retention_ms, sizeof(retention_ms)}, false},
                   {{(const char *)rows_max, sizeof(rows_max)}, false}},
        .value_count = 2};
    return postgres_send(pg->postgres, &statement, why);
}

static int start_leave(struct engine_pg *pg, const struct engine_request *request, struct why *why)
{
    const struct postgres_statement statement = {
        .sql = "SELECT nonce, lease_ms, wait_ms FROM etagd.leave($1::text)",
        .values = {{request->leave.host, true}},
        .value_count = 1};

    return postgres_send(pg->postgres, &statement, why);
}

static int start_gone(struct engine_pg *pg, const struct engine_request *request, struct why *why)
{
    const struct postgres_statement statement = {
        .sql = "SELECT etagd.gone($1::text, $2::uuid)",
        .values = {{request->leave.host, true}, nonce_value(&request->leave.nonce)},
        .value_count = 2};

    return postgres_send(pg->postgres, &statement, why);
}

typedef int start_function(struct engine_pg *pg, const struct engine_request *request,
                           struct why *why);

static start_function *const start_functions[] = {
    [ENGINE_POLL] = start_poll,
    [ENGINE_JOIN] = start_join,
    [ENGINE_PUBLISH] = start_publish,
    [ENGINE_WAKE] = start_wake,
    [ENGINE_ASK] = start_ask,
    [ENGINE_MEMBERS] = start_members,
    [ENGINE_ACKNOWLEDGE] = start_acknowledge,
    [ENGINE_TRIM] = start_trim,
    [ENGINE_LEAVE] = start_leave,
    [ENGINE_GONE] = start_gone,
};

static int pg_start(struct engine *engine, const struct engine_request *request, struct why *why)
{
    struct engine_pg *const pg = pg_of(engine);
    const int r = start_functions[request->op](pg, request, why);

    pg->wakes = (request->op == ENGINE_PUBLISH && request->publish.wake) ||
                (request->op == ENGINE_ASK && request->ask.wake);
    if (r == 0)
        pg->under_way = request->op;
    return r;
}

/* ---- Finish ---------------------------------------------------------------------------------- */

static etag_str kept(etag_str text, struct arena *arena)
{
    char *const copy = arena_alloc(arena, text.len);

    if (!copy)
        return (etag_str){0};
    copy_bytes(copy, text.data, text.len);
    return (etag_str){copy, text.len};
}

/* Each event: position, length, targets. Those that only ask are left out of the rows. */
static int events_get(struct engine_poll *poll, etag_str events, uint64_t count,
                      struct arena *arena)
{
    int r = 0;
    const etag_str own = kept(events, arena);

    poll->rows = arena_array(arena, count, sizeof(*poll->rows));
    if (!own.data || !poll->rows)
        return -ENOMEM;
    for (etag_str rest = own; rest.len > 0 && r == 0;) {
        if (rest.len < EVENT_HEAD_BYTES || poll->row_count == count)
            return -EPROTO;
        const size_t len = get_u32(rest.data + 8);
        struct engine_row *const row = &poll->rows[poll->row_count];
        row->position = get_u64(rest.data);
        rest = str_skip(rest, EVENT_HEAD_BYTES);
        if (len > rest.len)
            return -EPROTO;
        row->unreadable = outbox_row_decode(&row->targets, &row->writer, arena,
                                            (etag_str){rest.data, len}, &r);
        if (row->unreadable || !outbox_row_is_empty(&row->targets))
            poll->row_count++;
        rest = str_skip(rest, len);
    }
    return r;
}

static int finish_poll(const struct engine_pg *pg, struct arena *arena,
                       struct engine_answer *answer)
{
    const struct postgres *const from = pg->postgres;
    struct engine_poll *const poll = &answer->poll;

    poll->in_recovery = postgres_get_bool(from, 0, 1);
    if (poll->in_recovery)
        return 0;
    poll->origin = (struct engine_origin){
        .system = postgres_get_u64(from, 0, 2),
        .started_us = postgres_get_u64(from, 0, 3),
        .timeline = postgres_get_u64(from, 0, 4),
        .database = postgres_get_u64(from, 0, 5),
    };
    int r = snapshot_get(&poll->snapshot, &poll->unassigned, postgres_get(from, 0, 6), arena);
    if (r != 0)
        return r;
    poll->witnessed = nonce_get(&poll->witness, postgres_get(from, 0, 7));
    poll->trimmed = postgres_get_u64(from, 0, 8);
    poll->lease_ms = (uint32_t)postgres_get_u64(from, 0, 9);
    poll->wait_ms = (uint32_t)postgres_get_u64(from, 0, 10);
    poll->membership = membership_get(postgres_get(from, 0, 11));
    const uint64_t count = postgres_get_u64(from, 0, 12);
    poll->asked = postgres_get_bool(from, 0, 13);
    const etag_str events = postgres_get(from, 0, 14);
    poll->digest = postgres_get_u64(from, 0, 15);
    poll->watch_broken = (poll->digest & DIGEST_BROKEN) != 0;
    poll->rows_cut = pg->cursor_bad || (count > 0 && !events.data);
    return poll->rows_cut || count == 0 ? 0 : events_get(poll, events, count, arena);
}

static int finish_join(const struct engine_pg *pg, struct arena *arena,
                       struct engine_answer *answer)
{
    (void)arena;
    answer->join.membership = membership_get(postgres_get(pg->postgres, 0, 0));
    if (!nonce_get(&answer->join.nonce, postgres_get(pg->postgres, 0, 1)))
        return -EPROTO;
    answer->join.foreign = memcmp(answer->join.nonce.bytes, pg->nonce.bytes, ENGINE_NONCE_BYTES) !=
                           0;
    answer->join.lease_ms = (uint32_t)postgres_get_u64(pg->postgres, 0, 2);
    answer->join.wait_ms = (uint32_t)postgres_get_u64(pg->postgres, 0, 3);
    return 0;
}

static int finish_publish(const struct engine_pg *pg, struct arena *arena,
                          struct engine_answer *answer)
{
    (void)arena;
    answer->publish.position = postgres_get_u64(pg->postgres, 0, 0);
    return answer->publish.position >= FIRST_POSITION ? 0 : -EPROTO;
}

static int finish_ask(const struct engine_pg *pg, struct arena *arena, struct engine_answer *answer)
{
    const etag_str missing = postgres_get(pg->postgres, 0, 0);

    if (!missing.data)
        return 0;
    char *const text = arena_alloc(arena, missing.len + 1);
    if (!text)
        return -ENOMEM;
    copy_bytes(text, missing.data, missing.len);
    text[missing.len] = '\0';
    answer->ask.missing = text;
    return 0;
}

static int finish_nothing(const struct engine_pg *pg, struct arena *arena,
                          struct engine_answer *answer)
{
    (void)pg;
    (void)arena;
    (void)answer;
    return 0;
}

static int member_get(struct engine_member *member, const struct postgres *from, int row,
                      struct arena *arena)
{
    const etag_str snapshot = postgres_get(from, row, 11);
    uint64_t unassigned;

    member->host = kept(postgres_get(from, row, 8), arena);
    if (!member->host.data)
        return -ENOMEM;
    member->membership = membership_get(postgres_get(from, row, 9));
    member->own = postgres_get_bool(from, row, 12);
    member->acknowledged = nonce_get(&member->witness, postgres_get(from, row, 10));
    return member->acknowledged ? snapshot_get(&member->snapshot, &unassigned, snapshot, arena) : 0;
}

static int finish_members(const struct engine_pg *pg, struct arena *arena,
                          struct engine_answer *answer)
{
    const struct postgres *const from = pg->postgres;
    struct engine_members *const members = &answer->members;
    const int rows = postgres_row_count(from);
    int r = 0;

    if (rows < 1)
        return -EPROTO;
    members->in_recovery = postgres_get_bool(from, 0, 0);
    if (members->in_recovery)
        return 0;
    members->origin = (struct engine_origin){
        .system = postgres_get_u64(from, 0, 1),
        .started_us = postgres_get_u64(from, 0, 2),
        .timeline = postgres_get_u64(from, 0, 3),
        .database = postgres_get_u64(from, 0, 4),
    };
    /* A witness that is younger than the wait is none here: a host whose row a failover lost may
     * hold the rest of a lease. */
    members->witnessed = nonce_get(&members->witness, postgres_get(from, 0, 5)) &&
                         postgres_get_bool(from, 0, 6);
    members->wait_ms = (uint32_t)postgres_get_u64(from, 0, 7);
    members->members_cut = rows > ENGINE_MEMBERS_MAX;
    members->members = arena_array(arena, (size_t)rows, sizeof(*members->members));
    if (!members->members)
        return -ENOMEM;
    for (int row = 0; row < rows && row < ENGINE_MEMBERS_MAX && r == 0; row++)
        if (postgres_get(from, row, 8).data)
            r = member_get(&members->members[members->member_count++], from, row, arena);
    return r;
}

static int finish_trim(const struct engine_pg *pg, struct arena *arena,
                       struct engine_answer *answer)
{
    (void)arena;
    answer->trim.removed = postgres_get_u64(pg->postgres, 0, 0);
    return 0;
}

static int finish_leave(const struct engine_pg *pg, struct arena *arena,
                        struct engine_answer *answer)
{
    (void)arena;
    answer->leave.found = nonce_get(&answer->leave.nonce, postgres_get(pg->postgres, 0, 0));
    answer->leave.lease_ms = (uint32_t)postgres_get_u64(pg->postgres, 0, 1);
    answer->leave.wait_ms = (uint32_t)postgres_get_u64(pg->postgres, 0, 2);
    return 0;
}

static int finish_gone(const struct engine_pg *pg, struct arena *arena,
                       struct engine_answer *answer)
{
    (void)arena;
    answer->leave.found = postgres_get_bool(pg->postgres, 0, 0);
    return 0;
}

typedef int finish_function(const struct engine_pg *pg, struct arena *arena,
                            struct engine_answer *answer);

static finish_function *const finish_functions[] = {
    [ENGINE_POLL] = finish_poll,
    [ENGINE_JOIN] = finish_join,
    [ENGINE_PUBLISH] = finish_publish,
    [ENGINE_WAKE] = finish_nothing,
    [ENGINE_ASK] = finish_ask,
    [ENGINE_MEMBERS] = finish_members,
    [ENGINE_ACKNOWLEDGE] = finish_nothing,
    [ENGINE_TRIM] = finish_trim,
    [ENGINE_LEAVE] = finish_leave,
    [ENGINE_GONE] = finish_gone,
};

static int pg_finish(struct engine *engine, struct arena *arena, struct engine_answer *answer,
                     struct why *why)
{
    struct engine_pg *const pg = pg_of(engine);
    int r = postgres_take(pg->postgres, why);

    if (r == ENGINE_E_AGAIN)
        return r;
    const enum engine_op op = pg->under_way;
    pg->under_way = ENGINE_NONE;
    *answer = (struct engine_answer){.op = op};
    /* Another session notifies, and waits: no relay is woken. */
    if (r == -EBUSY && pg->wakes)
        return ENGINE_E_BUSY;
    if (r == -EBUSY && op == ENGINE_WAKE)
        return 0;
    if (r != 0)
        return r;
    r = postgres_row_count(pg->postgres) < 1 ? -EPROTO : finish_functions[op](pg, arena, answer);
    if (r == -EPROTO)
        (void)why_set(why, "PostgreSQL has not this release's schema etagd: run etag-relay setup");
    else if (r != 0)
        (void)why_set(why, "no memory for the answer of PostgreSQL");
    return r;
}

const struct engine_kind engine_postgres = {
    .name = "postgres",
    .open = pg_open,
    .close = pg_close,
    .fd = pg_fd,
    .events = pg_events,
    .timeout_ms = pg_timeout_ms,
    .dispatch = pg_dispatch,
    .ready = pg_ready,
    .start = pg_start,
    .finish = pg_finish,
    .woken = pg_woken,
};
