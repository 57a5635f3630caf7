/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The witness: a file beside the socket that says which run was the last. State that was copied or
 * restored while nobody looked bears the nonce of another run; and where the state was lost, the
 * witness still knows the incarnation, so that no LSN is used twice. On tmpfs, where sockets
 * usually live, a crash of the machine removes it.
 */
#ifndef ETAGD_WITNESS_H
#define ETAGD_WITNESS_H

#include "store.h"

struct witness {
    uint8_t nonce[STORE_NONCE_BYTES];
    uint64_t incarnation;
};

/* False: there is none, or it cannot be read, or it is not a file that a daemon of this user made;
 * *out is zeroed then. */
MUST_USE bool witness_read(const char *socket_path, struct witness *out);

/* The next start is cold. 0, also where there is none, or negative errno. */
MUST_USE int witness_remove(const char *socket_path);

/* Replaces it, also somebody else's. 0 or negative errno: then the next start will be cold. */
MUST_USE int witness_write(const char *socket_path, const struct witness *witness);

#endif
