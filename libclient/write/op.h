/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An operation: one mutation (invalidate, or a step of a guard) on its way to the daemon, over the
 * socket or through the spool. Every mutation is an operation, whether its caller or an event loop
 * waits for it. See op.c for its phases.
 */
#ifndef LIBETAG_OP_H
#define LIBETAG_OP_H

#include "client.h"
#include "spool_writer.h"

enum op_phase {
    /* not safe yet: sent to a daemon, or waiting for a connection */
    OP_OPEN,
    /* in the spool; proven when the spool's wait is over, or by an answer */
    OP_SPOOLED,
    /* proven on this host; it has to reach further, which only an answer proves */
    OP_HERE,
    OP_DONE,
};

/* It is on its client's list until it is consumed or the client is closed. */
struct etag_op {
    /* NULL: closed */
    struct etag_client *client;
    struct etag_op *next, *previous;
    enum request_kind kind;
    enum op_phase phase;
    /* see struct spool_item */
    bool all_will_do;
    /* no caller waits for it, so it is freed as soon as it is done */
    bool nobody_waits;
    /* a daemon may have applied it: the whole request was sent to one, or is in the spool's
     * directory */
    bool maybe_done;
    /* a daemon had no room for it */
    bool busy;
    /* the same id each time it is sent, so that an answer to any of them counts */
    uint64_t id;
    struct buffer frame;
    /* its position on the present connection; end 0: not sent yet */
    struct channel_sent sent;
    /* CLOCK_MONOTONIC_COARSE before the first sending or recording; 0: none */
    uint64_t first_ns;
    /* CLOCK_MONOTONIC: when it goes to the spool at the latest; when it ends */
    uint64_t spool_ns, deadline_ns;
    /* if spooled */
    struct spool_record record;
    /* DEFAULT: what the daemon, or the spool's mark, says */
    etag_reach asked;
    /* what is proved so far */
    etag_receipt receipt;
    /* while open: why the spool can't be used; when done: its result */
    struct fault fault;
};

/* The end of an operation, for guards. */
struct op_outcome {
    /* of OK, and of PENDING */
    etag_receipt receipt;
    uint64_t first_ns;
    /* see struct etag_op */
    bool maybe_done;
};

/* Runs an operation and waits for its end. outcome: set also on error. Status and fault as
 * etag_invalidate(). */
MUST_USE etag_status op_run(struct etag_client *client, struct request *request,
                            struct op_outcome *outcome);

/* Starts an operation without waiting. *out: NULL on error. */
MUST_USE etag_status op_start(struct etag_client *client, struct request *request,
                              struct etag_op **out);

/* Starts an operation for which no caller waits: best effort, without error. */
void op_start_detached(struct etag_client *client, struct request *request);

/* For the client, in this order: sends what joined others (op.c); handles an answer; the end of a
 * connection; what is due now; says when something is due next; handles fork; the end of the
 * client. */
void ops_send_held(struct etag_client *client);
void ops_answer(struct etag_client *client, const struct reply *reply);
void ops_lose_connection(struct etag_client *client);
void ops_step(struct etag_client *client);
uint64_t ops_next_ns(const struct etag_client *client); /* CLOCK_MONOTONIC; UINT64_MAX: never */
void ops_disown(struct etag_client *client);
void ops_detach(struct etag_client *client);

/* If the status is OK or PENDING, copies as much of 'full' as the caller's struct has room for.
 * Returns the status. */
MUST_USE etag_status op_give_receipt(etag_status status, etag_receipt *receipt,
                                     const etag_receipt *full);

#endif
