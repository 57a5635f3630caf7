/* SPDX-License-Identifier: Apache-2.0 */
/* Tells etagd what was written: the names in the database's outbox. Counts what it does. */
#ifndef UPLOADS_PUBLISH_H
#define UPLOADS_PUBLISH_H

#include "uploads_db.h"

struct publisher {
    struct db *db;
    etag_client *client;
    /* of publisher_tick, under way */
    etag_op *op;
    struct outbox outbox;
    /* when to look into the outbox again */
    int64_t look_at_ms;
    uint64_t published_count, failure_count;
};

/* Borrows both until publisher_deinit. */
void publisher_init(struct publisher *publisher, struct db *db, etag_client *client);
void publisher_deinit(struct publisher *publisher);

/* Tells all of the outbox, and waits until no front end of this host uses an older entry. False: it
 * could not be sent yet; it stays in the outbox. Blocks for at most two time limits of the
 * client. */
MUST_USE bool publisher_publish(struct publisher *publisher);

/* Never blocks. Tells what is left in the outbox, by us or by a process that died. Call it after
 * etag_client_dispatch() and when publisher_timeout_ms() is over. */
void publisher_tick(struct publisher *publisher);
int publisher_timeout_ms(const struct publisher *publisher);

#endif
