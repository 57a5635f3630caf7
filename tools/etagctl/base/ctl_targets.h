/* SPDX-License-Identifier: Apache-2.0 */
/* Targets on the command line and in lines of text, for the commands that name some. */
#ifndef ETAGCTL_TARGETS_H
#define ETAGCTL_TARGETS_H

#include "bounds.h"
#include "ctl.h"

/* As many as one event takes. The texts are borrowed. */
struct ctl_targets {
    etag_resource resources[TARGETS_PER_EVENT_MAX], prefixes[TARGETS_PER_EVENT_MAX];
    etag_str surrogates[TARGETS_PER_EVENT_MAX], families[TARGETS_PER_EVENT_MAX];
    etag_targets targets;
    size_t byte_count;
};

/* Options that name a target, for a command's table; their keys are what ctl_targets_add calls a
 * kind. */
#define CTL_TARGET_OPTIONS                                                                         \
    {'r', "resource", "R", "[//host]/path[?query]: all scopes, variants, releases"},               \
        {'s', "surrogate", "S", "all entries that depend on it"},                                  \
        {'f', "family", "F", "those that depend on any surrogate key F:..., or on F"},             \
        {'p', "prefix", "P", "[//host]/path/: all resources below it"},                            \
    {                                                                                              \
        'A', "all", NULL, "everything"                                                             \
    }
#define CTL_HOLD_OPTION(type)                                                                      \
    {                                                                                              \
        'H', "hold-ms", "N", "keep them unknown for N ms after it, for replicas that lag",         \
            CTL_NUMBER(type, hold_ms, HOLD_MS_MAX)                                                 \
    }

/* Forgets all that was added, and hold and max. Before anything else. */
void ctl_targets_clear(struct ctl_targets *targets);

size_t ctl_targets_count(const struct ctl_targets *targets);
bool ctl_targets_full(const struct ctl_targets *targets);

/* NULL, or what is wrong with a target. Sets the resource of those that name one. */
MUST_USE const char *ctl_target_check(int kind, const char *text, etag_resource *resource);

/* Adds one, where there is room. NULL, or what is wrong. */
MUST_USE const char *ctl_targets_add(struct ctl_targets *targets, int kind, const char *text);

/* One word of a text line ("surrogate") as a kind; 0: none. */
int ctl_target_kind(const char *word);

#endif
