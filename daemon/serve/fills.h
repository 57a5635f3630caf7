/* SPDX-License-Identifier: Apache-2.0 */
/* Handles fills and retires: front ends store what they rendered, or remove an entry whose
 * representation is gone. */
#ifndef ETAGD_FILLS_H
#define ETAGD_FILLS_H

#include "peer.h"

struct server;

/* Handles a FILL request. Answers only if the peer wants a verdict. */
void fills_take(struct server *server, struct peer *peer, const struct request *request);

#endif
