/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The choice of a backend, made once. io_uring is refused in many places (containers' seccomp
 * profiles, old kernels, a sysctl), so falling back is normal and not an error.
 */
#include "loop_common.h"

#include <errno.h>

int loop_open(struct loop **out, enum loop_kind kind, const struct loop_handler *handler, void *ctx,
              enum loop_kind *used, int *refused)
{
    if (refused)
        *refused = 0;
    *used = LOOP_URING;
    if (kind != LOOP_EPOLL) {
        const int r = loop_uring_backend.open(out, handler, ctx);
        if (r == 0 || kind == LOOP_URING)
            return r;
        if (refused)
            *refused = -r;
    }
    *used = LOOP_EPOLL;
    return loop_epoll_backend.open(out, handler, ctx);
}
