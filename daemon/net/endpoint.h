/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's place in the file system: the listening socket at its path, and the lock file beside
 * it. The lock makes one daemon the owner of the path; the file records the length of the lease for
 * the next daemon.
 */
#ifndef ETAGD_ENDPOINT_H
#define ETAGD_ENDPOINT_H

#include "config.h"

struct endpoint {
    char path[PATH_BYTES_MAX];
    char lock_path[PATH_BYTES_MAX + 8];
    int listen_fd;
    int lock_fd;
    /* the socket is a service manager's, so we must not remove its file */
    bool given;
    /* other users can make names in the socket's directory, but can't change ours */
    bool shared;
    uint64_t socket_inode, socket_device;
    /* the lease length of the former owner; 0: none */
    uint64_t recorded_lease_ns;
};

/* Takes the lock, which makes the place ours. given_fd: a socket that a service manager made and
 * that listens at the path already, with a mode of the manager's choice; consumed; -1: none.
 * Returns 0, or -1 with the reason and what to do in why. */
MUST_USE int endpoint_claim(struct endpoint *endpoint, const char *path, int given_fd,
                            struct why *why);

/* Replaces a dead daemon's socket, and listens. After endpoint_claim(). Returns 0 or -1 as
 * there. */
MUST_USE int endpoint_open(struct endpoint *endpoint, uint32_t mode, struct why *why);

/* Removes the socket file if we made it and it is still ours; closes the descriptors. */
void endpoint_close(struct endpoint *endpoint);

/* Returns whether the lock file and the socket at the paths are still ours. */
MUST_USE bool endpoint_still_owned(const struct endpoint *endpoint);

/* Writes L into the lock file, for the start of the next daemon. Returns 0 or a negative errno. */
MUST_USE int endpoint_record_lease(struct endpoint *endpoint, uint64_t lease_ns);

#endif
