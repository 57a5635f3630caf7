/* SPDX-License-Identifier: Apache-2.0 */
/* Where the exporter listens: an address of this host, or a Unix socket. */
#ifndef EXPORTER_LISTEN_H
#define EXPORTER_LISTEN_H

#include "cleanup.h"
#include "why.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

struct listener {
    int fd;
    /* "": not a Unix socket */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    /* what it came to: "127.0.0.1:9437" */
    char text[128];
};

/* where: "ADDRESS:PORT" or "[ADDRESS]:PORT" with a number for an address and for a port (0: any
 * that is free), or "unix:PATH". An address that is not a loopback one only with allow_remote. A
 * Unix socket is for its owner and group; one without a listener is replaced. False:
 * why says what is wrong and what to do. */
MUST_USE bool listener_open(struct listener *listener, const char *where, bool allow_remote,
                            struct why *why);
/* fd is somebody else's by now; a Unix socket's name goes. */
void listener_remove(const struct listener *listener);

#endif
