/* SPDX-License-Identifier: Apache-2.0 */
/* etagd --check-state: is a stored state what it should be, and what would a start make of it? */
#ifndef ETAGD_STATE_CHECK_H
#define ETAGD_STATE_CHECK_H

#include "config.h"

enum state_check_exit { STATE_SOUND = 0, STATE_DAMAGED = 1, STATE_NOT_CHECKED = 2 };

/* Reads everything in config->state_dir, in a child process, and writes nothing into it; a daemon must not have it. Prints a
 * summary. Returns the exit status. */
int state_check(const struct config *config, FILE *out);

#endif
