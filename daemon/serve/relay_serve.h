/* SPDX-License-Identifier: Apache-2.0 */
/* The relay's messages (role relay), and the marks that are recorded without a batch. */
#ifndef ETAGD_RELAY_SERVE_H
#define ETAGD_RELAY_SERVE_H

#include "peer.h"

void relay_serve_hello(struct server *server, struct peer *peer, const struct request *request);
void relay_serve_batch(struct server *server, struct peer *peer, const struct request *request);
void relay_serve_done(struct server *server, struct peer *peer, const struct request *request);

/* Once a turn: records a mark where the last one says too much, and now and then where it says too
 * little. all: at the end. */
void relay_serve_mark(struct server *server, bool all);

#endif
