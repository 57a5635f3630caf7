/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A witness file with any bytes, as a real file: it is read only where it has exactly what a daemon
 * writes, and what is written in its place is read again as the same.
 */
#include "bytes.h"
#include "fuzz.h"
#include "numbers.h"
#include "witness.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WITNESS_BYTES (STORE_NONCE_BYTES + 8)

static char directory[] = "/dev/shm/etagd-fuzz-XXXXXX";
static char path[sizeof(directory) + 16];
static char socket_path[sizeof(directory) + 16];

static void clean(void)
{
    unlink(path);
    rmdir(directory);
}

static void prepare(void)
{
    if (socket_path[0])
        return;
    fuzz_require(mkdtemp(directory));
    snprintf(socket_path, sizeof(socket_path), "%s/s", directory);
    snprintf(path, sizeof(path), "%s/s.witness", directory);
    atexit(clean);
}

/* The file, and whether it is one that a daemon of this user made: the first byte chooses its
 * mode. */
static bool put(uint8_t mode, const uint8_t *data, size_t size)
{
    static const mode_t modes[] = {0600, 0644, 0660, 0606, 0400, 0700};
    const mode_t chosen = modes[mode % (COUNT_OF(modes))];

    (void)unlink(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    fuzz_require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    fuzz_require(fchmod(fd, chosen) == 0);
    close(fd);
    return (chosen & 022) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t nothing[sizeof(struct witness)];
    struct witness read, again;

    prepare();
    if (size == 0)
        return 0;
    const bool ours = put(data[0], data + 1, size - 1);
    const bool taken = witness_read(socket_path, &read);

    fuzz_require(taken == (ours && size - 1 == WITNESS_BYTES));
    if (!taken) {
        fuzz_require(memcmp(read.nonce, nothing, sizeof(read.nonce)) == 0 && read.incarnation == 0);
        read.incarnation = size;
    } else {
        fuzz_require(memcmp(read.nonce, data + 1, STORE_NONCE_BYTES) == 0);
        fuzz_require(read.incarnation == load_u64(data + 1 + STORE_NONCE_BYTES));
    }
    fuzz_require(witness_write(socket_path, &read) == 0);
    fuzz_require(witness_read(socket_path, &again));
    fuzz_require(memcmp(read.nonce, again.nonce, sizeof(read.nonce)) == 0 &&
                 read.incarnation == again.incarnation);
    return 0;
}
