/* SPDX-License-Identifier: Apache-2.0 */
/* The file is replaced as a whole, so what is opened is one state of it. */
#include "exporter_relay.h"

#include "cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_BYTES_MAX ((size_t)256 * 1024)
#define FILE_SECONDS_MAX 10

static bool is_recent(const struct stat *status)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec - status->st_mtim.tv_sec <= FILE_SECONDS_MAX;
}

/* How many bytes; 0: it is not there, not a file, or not of a relay that runs. */
static size_t file_read(const char *path, char bytes[FILE_BYTES_MAX])
{
    struct stat status;
    size_t len = 0;
    CLEANUP(cleanup_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || !is_recent(&status))
        return 0;
    while (len < FILE_BYTES_MAX) {
        const ssize_t n = read(fd, bytes + len, FILE_BYTES_MAX - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return 0;
        if (n == 0)
            return len > 0 && bytes[len - 1] == '\n' ? len : 0;
        len += (size_t)n;
    }
    return 0; /* nothing of ours is so large */
}

void exporter_relay_write(FILE *out, const char *path)
{
    CLEANUP(cleanup_free) char *bytes = malloc(FILE_BYTES_MAX);
    const size_t len = bytes ? file_read(path, bytes) : 0;

    fprintf(out,
            "# HELP etag_relay_up 1: etag-relay has written its figures within %d seconds\n"
            "# TYPE etag_relay_up gauge\netag_relay_up %d\n",
            FILE_SECONDS_MAX, len > 0);
    if (len > 0)
        (void)fwrite(bytes, 1, len, out);
}
