/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An operation: one mutation (invalidate, or a step of a guard) on its way, over the socket or
 * through the spool. Every mutation is one, whether its caller waits or an event loop does. See
 * op.c for its phases.
 */
#ifndef LIBETAG_OP_H
#define LIBETAG_OP_H

#include "client.h"
#include "spool_writer.h"

enum op_phase {
    /* nothing is safe yet: a daemon is asked, or looked for */
    OP_OPEN,
    /* recorded; proven when the spool's wait is over, or by an answer */
    OP_SPOOLED,
    /* proven on this host; it is to reach further, and only an answer says that it has */
    OP_HERE,
    OP_DONE,
};

/* On its client's list until it is consumed or the client is closed. */
struct etag_op {
    /* NULL: closed */
    struct etag_client *client;
    struct etag_op *next, *previous;
    enum request_kind kind;
    enum op_phase phase;
    /* see struct spool_item */
    bool all_will_do;
    /* freed as soon as it is done */
    bool nobody_waits;
    /* a daemon may have done it: the whole request was sent to one, or is in the spool's
     * directory */
    bool maybe_done;
    /* a daemon had no room for it */
    bool busy;
    /* of every sending, so that an answer counts whichever it is for */
    uint64_t id;
    struct buffer frame;
    /* on the present connection; end 0: not yet */
    struct channel_sent sent;
    /* CLOCK_MONOTONIC_COARSE before the first sending or recording; 0: none */
    uint64_t first_ns;
    /* CLOCK_MONOTONIC: to the spool then, if not sooner; the end */
    uint64_t spool_ns, deadline_ns;
    /* if spooled */
    struct spool_record record;
    /* DEFAULT: what the daemon, or the spool's mark, says */
    etag_reach asked;
    /* what is proved so far */
    etag_receipt receipt;
    /* while open: why not through the spool; if done: the end */
    struct fault fault;
};

/* How an operation ended, for guards. */
struct op_outcome {
    /* of OK, and of PENDING */
    etag_receipt receipt;
    uint64_t first_ns;
    /* see struct etag_op */
    bool maybe_done;
};

/* Does it and waits. outcome: set also on error. Status and fault as etag_invalidate(). */
MUST_USE etag_status op_run(struct etag_client *client, struct request *request,
                            struct op_outcome *outcome);

/* Starts it. *out: NULL on error. */
MUST_USE etag_status op_start(struct etag_client *client, struct request *request,
                              struct etag_op **out);

/* Starts it for nobody: best effort, no error, no waiting. */
void op_start_alone(struct etag_client *client, struct request *request);

/* For the client: an answer that came, the end of a connection, what is due now, the next moment at
 * which something will be, fork, the end of the client. */
void ops_answer(struct etag_client *client, const struct reply *reply);
void ops_lose_connection(struct etag_client *client);
void ops_step(struct etag_client *client);
uint64_t ops_next_ns(const struct etag_client *client); /* CLOCK_MONOTONIC; UINT64_MAX: never */
void ops_disown(struct etag_client *client);
void ops_detach(struct etag_client *client);

/* Where the status is OK or PENDING: copies as far as the caller's struct goes. Returns the
 * status. */
MUST_USE etag_status op_give_receipt(etag_status status, etag_receipt *receipt,
                                     const etag_receipt *full);

#endif
