/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon does with a request: one handler a kind, behind one table of kinds and roles. */
#ifndef ETAGD_REQUEST_H
#define ETAGD_REQUEST_H

#include "peer.h"

/* The intake's handler; ctx: the server. payload: one frame's, borrowed. Answers, queues, or closes
 * the peer. */
void request_handle(void *ctx, struct peer *peer, etag_str payload);

#endif
