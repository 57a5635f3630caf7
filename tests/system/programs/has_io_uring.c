/* SPDX-License-Identifier: Apache-2.0 */
/* Exit 0 where the kernel gives io_uring to this process. */
#include <liburing.h>

int main(void)
{
    struct io_uring ring;

    if (io_uring_queue_init(4, &ring, 0) < 0)
        return 77;
    io_uring_queue_exit(&ring);
    return 0;
}
