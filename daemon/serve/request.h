/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatches a request to the handler of its kind, by a table of kinds, handlers and the roles that
 * they need. */
#ifndef ETAGD_REQUEST_H
#define ETAGD_REQUEST_H

#include "peer.h"

/* The intake's handler; ctx: the server. payload: one frame's, borrowed. Answers, queues, or closes
 * the peer. */
void request_handle(void *ctx, struct peer *peer, etag_str payload);

#endif
