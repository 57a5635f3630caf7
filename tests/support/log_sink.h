/* SPDX-License-Identifier: Apache-2.0 */
/* A log, with its bound of lines a minute, and the other end of it. */
#ifndef ETAG_TESTS_LOG_SINK_H
#define ETAG_TESTS_LOG_SINK_H

#include "log_limit.h"
#include "testing.h"

#define SINK_BYTES 65536

struct sink {
    int read_fd;
    struct log log;
    struct log_limit limit;
    size_t len;
    char text[SINK_BYTES + 1];
};

int sink_open(void **state);

int sink_close(void **state);

/* What one read(2) brings: what was written by one write(2), or by all until now in one piece. */
const char *sink_read(struct sink *sink);

#endif
