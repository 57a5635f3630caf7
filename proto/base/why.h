/* SPDX-License-Identifier: Apache-2.0 */
/* The reason of a refusal, in a sentence for people: what is wrong, with its name or value, and
 * what to do. */
#ifndef ETAG_PROTO_WHY_H
#define ETAG_PROTO_WHY_H

#include "cleanup.h"

#include <stdbool.h>

#define WHY_BYTES 5248 /* a path as long as they may be, and what is wrong with it */

struct why {
    char text[WHY_BYTES];
};

/* Sets the sentence and returns what its caller then returns: -1 or false. Cuts off what does not
 * fit. */
int why_set(struct why *why, const char *format, ...) PRINTF_LIKE(2, 3);
bool why_not(struct why *why, const char *format, ...) PRINTF_LIKE(2, 3);
/* "cannot DOING PATH: what errno means". -1 */
int why_errno(struct why *why, const char *doing, const char *path);

#endif
