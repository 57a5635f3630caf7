/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's place in the file system: the listening socket at its path, and the lock file beside
 * it, which makes one daemon its owner and on which the length of the lease is recorded for the
 * next one.
 */
#ifndef ETAGD_ENDPOINT_H
#define ETAGD_ENDPOINT_H

#include "config.h"

struct endpoint {
    char path[PATH_BYTES_MAX];
    char lock_path[PATH_BYTES_MAX + 8];
    int listen_fd;
    int lock_fd;
    /* the socket is a service manager's, which keeps it: the file is not ours to remove */
    bool given;
    /* others can make names in the socket's directory, and can't touch ours */
    bool shared;
    uint64_t socket_inode, socket_device;
    /* of the former owner; 0: none */
    uint64_t recorded_lease_ns;
};

/* Takes the lock: the place is ours from now on. given_fd: a socket that listens at the path
 * already, made by a service manager, which also decides its mode; consumed; -1: none. 0 or -1 with
 * the reason and what to do in why. */
MUST_USE int endpoint_claim(struct endpoint *endpoint, const char *path, int given_fd,
                            struct why *why);

/* Replaces a dead daemon's socket, and listens. After endpoint_claim(). 0 or -1 as there. */
MUST_USE int endpoint_open(struct endpoint *endpoint, uint32_t mode, struct why *why);

/* Removes the socket file if we made it and it is still ours, closes. */
void endpoint_close(struct endpoint *endpoint);

/* The lock file and the socket at the paths are still the ones that we made. */
MUST_USE bool endpoint_still_owned(const struct endpoint *endpoint);

/* Writes L beside the lock, for the start of the next daemon. 0 or negative errno. */
MUST_USE int endpoint_record_lease(struct endpoint *endpoint, uint64_t lease_ns);

#endif
