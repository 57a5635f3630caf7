/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection to the daemon beside this relay: it says hello, asks for the cursor, and is then
 * the session's session_daemon. When it ends it is begun again, and the cursor asked for again.
 * Never blocks.
 */
#ifndef ETAG_RELAY_LINK_H
#define ETAG_RELAY_LINK_H

#include "channel.h"
#include "session.h"

#define LINK_AGAIN_MS 500          /* after a connection that was lost or refused */
#define LINK_REFUSED_AGAIN_MS 5000 /* ... for a reason that somebody has to mend */

enum link_state { LINK_CLOSED, LINK_GREETING, LINK_ASKING, LINK_READY };

struct link {
    struct channel channel;
    /* borrowed */
    struct session *session;
    const struct log *log;
    /* name of the engine's kind */
    const char *engine;
    enum link_state state;
    /* of relay_hello */
    uint64_t hello_id;
    /* of the last part that was sent; 0: none */
    uint64_t batch_id;
    uint64_t again_ns;
    /* set while replies are taken, when the channel cannot be closed */
    bool broken;
    uint32_t again_ms;
    /* it was said */
    bool unreachable;
};

/* path: copied. False: it is no path of a socket. */
MUST_USE bool link_init(struct link *link, const char *path, const char *engine,
                        struct session *session, const struct log *log);
void link_deinit(struct link *link);

/* For session_init(). */
struct session_daemon link_as_daemon(struct link *link);

void link_turn(struct link *link);
/* For poll(2): -1 where there is no connection. */
int link_fd(const struct link *link);
short link_events(const struct link *link);
uint64_t link_timeout_ns(const struct link *link);

#endif
