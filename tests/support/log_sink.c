/* SPDX-License-Identifier: Apache-2.0 */
#include "log_sink.h"

#include <fcntl.h>
#include <unistd.h>

int sink_open(void **state)
{
    static struct sink sink;
    int fds[2];

    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0)
        return -1;
    sink = (struct sink){.read_fd = fds[0], .log = {.fd = fds[1], .least = LOG_INFO}};
    log_limit_init(&sink.limit, &sink.log);
    *state = &sink;
    return 0;
}

int sink_close(void **state)
{
    struct sink *sink = *state;

    log_limit_deinit(&sink->limit);
    close(sink->read_fd);
    close(sink->log.fd);
    return 0;
}

const char *sink_read(struct sink *sink)
{
    const ssize_t len = read(sink->read_fd, sink->text, SINK_BYTES);

    sink->len = len > 0 ? (size_t)len : 0;
    sink->text[sink->len] = '\0';
    return sink->text;
}
