/* SPDX-License-Identifier: Apache-2.0 */
/* What front ends rendered, and what is not there any more: fills and retires. */
#ifndef ETAGD_FILLS_H
#define ETAGD_FILLS_H

#include "peer.h"

struct server;

/* A FILL request. Answers where the peer wants a verdict. */
void fills_take(struct server *server, struct peer *peer, const struct request *request);

#endif
