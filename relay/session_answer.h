/* SPDX-License-Identifier: Apache-2.0 */
/* What a session makes of answers. Private to session*.c. */
#ifndef ETAG_RELAY_SESSION_ANSWER_H
#define ETAG_RELAY_SESSION_ANSWER_H

#include "session.h"

void session_answered(struct session *session, enum engine_op op,
                      const struct engine_answer *answer);
void session_refused(struct session *session, enum engine_op op, const struct why *why);

#endif
