/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a program under a filter as systemd makes one of SystemCallFilter=, but stricter: a call
 * that is not in it ends the process by SIGSYS, where the unit would have it fail.
 *
 *   unit_filter LIST PROGRAM ...    LIST is a file: a name of a system call on each line; those
 *                                   that this machine has not are passed over
 */
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int failed(const char *what)
{
    perror(what);
    return 2;
}

int main(int argc, char **argv)
{
    char name[128];

    if (argc < 3)
        return 2;
    FILE *list = fopen(argv[1], "re");
    if (!list)
        return failed(argv[1]);
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    while (filter && fscanf(list, "%127s", name) == 1) {
        const int number = seccomp_syscall_resolve_name(name);
        if (number >= 0 && seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0) != 0)
            return failed(name);
    }
    fclose(list);
    if (!filter || seccomp_load(filter) != 0)
        return failed("seccomp");
    seccomp_release(filter);
    execv(argv[2], argv + 2);
    return failed(argv[2]);
}
