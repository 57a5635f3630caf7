/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The witness: a file beside the socket that says which run was the last. State that was copied or
 * restored from a backup while no daemon ran has the nonce of another run, so it is not trusted. If
 * the state was lost, the witness still has the incarnation, so that no LSN is used twice. Sockets
 * are usually on a tmpfs, where a crash of the machine removes the witness.
 */
#ifndef ETAGD_WITNESS_H
#define ETAGD_WITNESS_H

#include "store.h"

struct witness {
    uint8_t nonce[STORE_NONCE_BYTES];
    uint64_t incarnation;
};

/* Reads the witness. Returns false, and zeroes *out, if there is none, it cannot be read, or no
 * daemon of this user made it. */
MUST_USE bool witness_read(const char *socket_path, struct witness *out);

/* Removes the witness, so that the next start is cold. Returns 0, also if there was none, or a
 * negative errno. */
MUST_USE int witness_remove(const char *socket_path);

/* Replaces the witness, also another user's. Returns 0 or a negative errno: then the next start
 * will be cold. */
MUST_USE int witness_write(const char *socket_path, const struct witness *witness);

#endif
