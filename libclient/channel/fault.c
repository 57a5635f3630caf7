/* SPDX-License-Identifier: Apache-2.0 */
/* The function that fails writes the fault, so its text can name the thing; callers pass it on
 * unchanged. */
#include "fault.h"

#include <stdarg.h>
#include <string.h>

etag_status fault_set(struct fault *fault, etag_status status, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(fault->text, sizeof(fault->text), format, arguments);
    va_end(arguments);
    fault->status = status;
    return status;
}

etag_status fault_system(struct fault *fault, int error, const char *what)
{
    char text[128];

    return fault_set(fault, ETAG_SYSTEM, "%s: %s", what, strerror_r(-error, text, sizeof(text)));
}
