/* SPDX-License-Identifier: Apache-2.0 */
/*
* It is in the run directory, which a boot empties and no image holds: so a machine that was
 * copied has another one than its original, and the two are not taken for one member.
 */
#include "nonce.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>

#define NONCE_PATH_BYTES 4128

static bool nonce_read(struct engine_nonce *out, const char *path)
{
    CLEANUP(cleanup_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    return fd >= 0 && read(fd, out->bytes, ENGINE_NONCE_BYTES) == ENGINE_NONCE_BYTES;
}

/* Whole, or not at all: a half one could be another host's beginning. */
static int nonce_write(const struct engine_nonce *nonce, const char *path)
{
    char made[NONCE_PATH_BYTES + 8];

    (void)snprintf(made, sizeof(made), "%s.new", path);
    CLEANUP(cleanup_fd)
    int fd = open(made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return -errno;
    errno = EIO;
    if (write(fd, nonce->bytes, ENGINE_NONCE_BYTES) != ENGINE_NONCE_BYTES)
        return -errno;
    return rename(made, path) < 0 ? -errno : 0;
}

bool nonce_load(struct engine_nonce *out, const char *dir, struct why *why)
{
    char path[NONCE_PATH_BYTES];

    why->text[0] = '\0';
    (void)snprintf(path, sizeof(path), "%s/nonce", dir);
    if (nonce_read(out, path))
        return true;
    if (getrandom(out->bytes, ENGINE_NONCE_BYTES, 0) != ENGINE_NONCE_BYTES)
        return false;
    const int r = nonce_write(out, path);
    if (r < 0) {
        errno = -r;
        why_errno(why, "write", path);
    }
    return true;
}
