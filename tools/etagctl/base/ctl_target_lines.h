/* SPDX-License-Identifier: Apache-2.0 */
/* Targets as lines of text, which "etagctl invalidate --stdin" reads: all are checked before the
 * first one is given. */
#ifndef ETAGCTL_TARGET_LINES_H
#define ETAGCTL_TARGET_LINES_H

#include "ctl_targets.h"

struct target_lines {
    const char *at, *end;
};

/* text: len bytes and a NUL, changed in place and borrowed. NULL: every line is right. Else what is
 * wrong with a line, and its number, from 1. */
MUST_USE const char *target_lines_open(struct target_lines *lines, char *text, size_t len,
                                       uint64_t *number);

/* The next target, for ctl_targets_add(); empty lines are passed over. False: there are no more. */
MUST_USE bool target_lines_next(struct target_lines *lines, int *kind, const char **name);

#endif
