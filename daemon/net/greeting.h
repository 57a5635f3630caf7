/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's answers to a hello, and to what it does not understand, in common for peers with
 * roles (peer.c) and without (stranger.c). */
#ifndef ETAGD_GREETING_H
#define ETAGD_GREETING_H

#include "message.h"

#define DAEMON_SOFTWARE "etagd " ETAG_VERSION_STRING

#define TEXT_FRAMING_LOST "a frame's length is 0 or over 1 MiB: framing is lost"
#define TEXT_NO_HELLO "the first message must be a hello"
#define TEXT_SECOND_HELLO "a second hello"
#define TEXT_UNKNOWN_REQUEST                                                                       \
    "this daemon (" DAEMON_SOFTWARE ") does not know that request: it is of a newer release"
#define TEXT_ROLES_CHANGED "the roles of this user were changed: connect again"
#define TEXT_HELLO_LATE "no hello in time"
#define TEXT_FRAME_LATE "a frame was begun and not finished in time"
#define TEXT_IDLE "idle"

/* Returns NULL, or why a client of that protocol cannot be served, formatted into text. */
const char *greeting_check(uint32_t protocol, char text[ERROR_TEXT_BYTES_MAX]);

#endif
