/* SPDX-License-Identifier: Apache-2.0 */
/* The client's open guards, as the client sees them: see etag.h for what a guard is. */
#ifndef LIBETAG_GUARD_H
#define LIBETAG_GUARD_H

#include "client.h"

/* After a hello: confirms all guards that are open, without waiting, so that the daemon that said
 * it keeps them. */
void guards_attach(struct etag_client *client);
/* Sends what guards_attach could not, where the socket was full. */
void guards_attach_rest(struct etag_client *client);
/* In a child of fork: they are the parent's. */
void guards_disown(struct etag_client *client);
/* The client ends; the guards linger. */
void guards_detach(struct etag_client *client);

#endif
