/* SPDX-License-Identifier: Apache-2.0 */
/* Handles the messages of the relay (role relay), and records marks that no batch carries. */
#ifndef ETAGD_RELAY_SERVE_H
#define ETAGD_RELAY_SERVE_H

#include "peer.h"

void relay_serve_hello(struct server *server, struct peer *peer, const struct request *request);
void relay_serve_batch(struct server *server, struct peer *peer, const struct request *request);
void relay_serve_done(struct server *server, struct peer *peer, const struct request *request);

/* Called once a turn: records a mark at once if the last one claims too much, and at intervals if
 * it claims too little. all: the daemon stops, so do not wait for the interval. */
void relay_serve_mark(struct server *server, bool all);

#endif
