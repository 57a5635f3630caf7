/* SPDX-License-Identifier: Apache-2.0 */
/* The nonce of this host's registration: the same for all runs of the relay in one boot. */
#ifndef ETAG_RELAY_NONCE_H
#define ETAG_RELAY_NONCE_H

#include "engine.h"

/* Reads DIR/nonce, or makes it. Where it cannot be kept a new one is made for this run, and why
 * says so: then the former registration has to be waited for at each start. False: no random bits.
 */
MUST_USE bool nonce_load(struct engine_nonce *out, const char *dir, struct why *why);

#endif
