/* SPDX-License-Identifier: Apache-2.0 */
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
