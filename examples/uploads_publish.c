/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transactional outbox. The names of what a write changed are committed with the write, sent to
 * etagd after COMMIT and removed when etagd has them. So a name is sent even if the writer dies in
 * between or etagd is away for a while: every process looks into the outbox from time to time.
 * Telling a name twice is harmless.
 */
#include "uploads_publish.h"

#include <stdio.h>
#include <time.h>

#define TRIES 2
#define TRY_AGAIN_MS 150 /* the library reconnects at most once in 100 ms */
#define LOOK_MS 1000

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void publisher_init(struct publisher *publisher, struct db *db, etag_client *client)
{
    publisher->db = db;
    publisher->client = client;
    publisher->op = NULL;
    publisher->look_at_ms = now_ms();
    publisher->published_count = publisher->failure_count = 0;
}

void publisher_deinit(struct publisher *publisher)
{
    publisher->op = etag_op_forget(publisher->op);
}

static etag_targets targets_of(const struct outbox *outbox)
{
    etag_targets targets;

    ETAG_INIT(&targets);
    targets.surrogates = outbox->names;
    targets.surrogate_count = outbox->count;
    return targets;
}

static void sent(struct publisher *publisher)
{
    publisher->published_count += publisher->outbox.count;
    if (db_outbox_remove(publisher->db, &publisher->outbox) != DB_OK)
        fprintf(stderr, "outbox: %s (sent again later)\n", db_error(publisher->db));
}

/* The oldest batch. */
static bool publish_batch(struct publisher *publisher)
{
    if (db_outbox_read(publisher->db, &publisher->outbox) != DB_OK) {
        fprintf(stderr, "outbox: %s\n", db_error(publisher->db));
        return false;
    }
    if (publisher->outbox.count == 0)
        return true;
    const etag_targets targets = targets_of(&publisher->outbox);
    if (etag_invalidate(publisher->client, &targets, NULL) != ETAG_OK) {
        fprintf(stderr, "etagd: %s\n", etag_client_error(publisher->client));
        return false;
    }
    sent(publisher);
    return true;
}

bool publisher_publish(struct publisher *publisher)
{
    publisher->op = etag_op_forget(publisher->op);
    for (int tries = 0; tries < TRIES;) {
        if (publish_batch(publisher)) {
            if (publisher->outbox.count < OUTBOX_BATCH_MAX)
                return true;
        } else if (++tries < TRIES)
            nanosleep(&(struct timespec){.tv_nsec = TRY_AGAIN_MS * 1000000L}, NULL);
    }
    publisher->failure_count++;
    publisher->look_at_ms = now_ms() + TRY_AGAIN_MS;
    return false;
}

void publisher_tick(struct publisher *publisher)
{
    if (publisher->op) {
        const etag_status status = etag_op_result(publisher->op, NULL);
        if (status == ETAG_AGAIN) {
            publisher->look_at_ms = now_ms() + TRY_AGAIN_MS;
            return;
        }
        publisher->op = NULL;
        if (status == ETAG_OK)
            sent(publisher);
    }
    if (now_ms() < publisher->look_at_ms)
        return;
    publisher->look_at_ms = now_ms() + LOOK_MS;
    if (db_outbox_read(publisher->db, &publisher->outbox) != DB_OK || publisher->outbox.count == 0)
        return;
    const etag_targets targets = targets_of(&publisher->outbox);
    if (etag_invalidate_start(publisher->client, &targets, &publisher->op) != ETAG_OK)
        publisher->op = NULL;
}

int publisher_timeout_ms(const struct publisher *publisher)
{
    const int64_t left = publisher->look_at_ms - now_ms();

    return left < 0 ? 0 : (int)left;
}
