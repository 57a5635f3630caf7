/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The witness is written after the state has the new nonce: a crash in between leaves two nonces
 * that differ, and so a cold start. No fsync: the page cache outlives the daemon, and the file must
 * not survive a crash of the machine anyway.
 */
#include "witness.h"

#include "bytes.h"
#include "owned.h"

#include <errno.h>
#include <fcntl.h>

#define WITNESS_SUFFIX ".witness"
#define WITNESS_BYTES (STORE_NONCE_BYTES + 8)

#define WITNESS_PATH_BYTES (PATH_BYTES_MAX + sizeof(WITNESS_SUFFIX))

static void witness_path(char out[WITNESS_PATH_BYTES], const char *socket_path)
{
    (void)snprintf(out, WITNESS_PATH_BYTES, "%s" WITNESS_SUFFIX, socket_path);
}

bool witness_read(const char *socket_path, struct witness *out)
{
    char path[WITNESS_PATH_BYTES];
    uint8_t bytes[WITNESS_BYTES + 1]; /* one that is longer was not written here */

    witness_path(path, socket_path);
    /* Somebody else's witness could vouch for a state that he restored. */
    CLEANUP(cleanup_fd) int fd = owned_file_open(path, O_RDONLY);
    *out = (struct witness){0};
    if (fd < 0 || read(fd, bytes, sizeof(bytes)) != WITNESS_BYTES)
        return false;
    memcpy(out->nonce, bytes, STORE_NONCE_BYTES);
    out->incarnation = load_u64(bytes + STORE_NONCE_BYTES);
    return true;
}

int witness_remove(const char *socket_path)
{
    char path[WITNESS_PATH_BYTES];

    witness_path(path, socket_path);
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int witness_write(const char *socket_path, const struct witness *witness)
{
    char path[WITNESS_PATH_BYTES];
    uint8_t bytes[WITNESS_BYTES];

    witness_path(path, socket_path);
    CLEANUP(cleanup_fd) int fd = owned_file_open(path, O_WRONLY);
    if (fd < 0 && fd != -ENOENT && unlink(path) < 0)
        return -errno;
    if (fd < 0)
        fd = owned_file_open(path, O_WRONLY | O_CREAT | O_EXCL);
    if (fd < 0)
        return fd;
    memcpy(bytes, witness->nonce, STORE_NONCE_BYTES);
    store_u64(bytes + STORE_NONCE_BYTES, witness->incarnation);
    if (ftruncate(fd, WITNESS_BYTES) < 0) /* of something longer, that was found in its place */
        return -errno;
    const ssize_t written = pwrite(fd, bytes, sizeof(bytes), 0);
    if (written < 0)
        return -errno;
    return written == (ssize_t)sizeof(bytes) ? 0 : -EIO;
}
