/* SPDX-License-Identifier: Apache-2.0 */
/* The client's open guards, as the client sees them: see etag.h for what a guard is. */
#ifndef LIBETAG_GUARD_H
#define LIBETAG_GUARD_H

#include "client.h"

/* After a hello: confirms all open guards without waiting, so that the new daemon has them too. */
void guards_attach(struct etag_client *client);
/* Sends what guards_attach() could not send because the socket was full. */
void guards_attach_rest(struct etag_client *client);
/* In a child of fork: gives up the guards, which are the parent's. */
void guards_disown(struct etag_client *client);
/* The client closes: its guards lose their client, and the daemon lets them linger. */
void guards_detach(struct etag_client *client);

#endif
