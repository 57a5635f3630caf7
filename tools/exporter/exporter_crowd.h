/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections to the exporter, and who has to go when there are many. A collector needs one for a
 * moment; whoever holds many and asks nothing must not keep it out, least of all from the address
 * that they share. So no connection is refused: a new one takes the place of the one that has asked
 * nothing for the longest time. One thread.
 */
#ifndef EXPORTER_CROWD_H
#define EXPORTER_CROWD_H

#include "cleanup.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define CROWD_MAX 128        /* connections at all, those included that are on their way out */
#define CROWD_STAY_MAX 64    /* that stay */
#define CROWD_ADDRESS_MAX 16 /* of them from one address */

struct guest {
    bool here;
    /* was sent away; its descriptor is still open */
    bool leaving;
    /* a request of its is being answered */
    bool asking;
    int fd;
    /* family and bytes; all of a Unix socket are one */
    uint8_t address[17];
    /* the crowd's count when it came, or was answered last */
    uint64_t since;
};

struct crowd {
    struct guest guests[CROWD_MAX];
    /* of events: the order is what matters, not the time */
    uint64_t count;
};

/* Takes note of a connection; sends others away (shutdown(): the server closes what is at its end)
 * where there are too many. address may be NULL. Returns its guest, until crowd_leave(); NULL:
 * there is no room at all, and it was shut down itself. */
struct guest *crowd_enter(struct crowd *crowd, int fd, const struct sockaddr *address);
void crowd_asks(struct guest *guest);
void crowd_answered(struct crowd *crowd, struct guest *guest);
void crowd_leave(struct guest *guest);

#endif
