/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Daemon and client have to speak the same protocol. There is no negotiation, so the text tells
 * people to install one release of both.
 */
#include "greeting.h"

#include <stdio.h>

const char *greeting_check(uint32_t protocol, char text[ERROR_TEXT_BYTES_MAX])
{
    if (protocol == PROTOCOL_VERSION)
        return NULL;
    snprintf(text, ERROR_TEXT_BYTES_MAX,
             "this is " DAEMON_SOFTWARE " and speaks protocol %u, the client speaks %u: install "
             "the same release of both",
             PROTOCOL_VERSION, protocol);
    return text;
}
