/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a program under a filter that refuses io_uring as Docker's default seccomp profile does:
 * EPERM. */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter ||
        seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(io_uring_setup), 0) != 0 ||
        seccomp_load(filter) != 0) {
        fprintf(stderr, "no_io_uring: cannot load the filter\n");
        return 2;
    }
    seccomp_release(filter);
    execv(argv[1], argv + 1);
    perror(argv[1]);
    return 127;
}
