/* SPDX-License-Identifier: Apache-2.0 */
/* Formats into a fixed buffer, so that an error message needs no memory and cannot fail. */
#include "why.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

int why_set(struct why *why, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(why->text, sizeof(why->text), format, arguments);
    va_end(arguments);
    return -1;
}

bool why_not(struct why *why, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(why->text, sizeof(why->text), format, arguments);
    va_end(arguments);
    return false;
}

int why_errno(struct why *why, const char *doing, const char *path)
{
    return why_set(why, "cannot %s %s: %s", doing, path, strerrordesc_np(errno));
}
