/* SPDX-License-Identifier: Apache-2.0 */
/* What doctor's parts use: a list of findings to add to, and the figures that the daemon gave. */
#include "ctl_doctor.h"

#include "text.h"

#include <stdarg.h>

void doctor_say(struct doctor *doctor, enum finding_level level, const char *topic,
                const char *advice, const char *format, ...)
{
    va_list args;

    if (doctor->finding_count == DOCTOR_FINDINGS_MAX)
        return;
    struct finding *finding = &doctor->findings[doctor->finding_count++];
    *finding = (struct finding){.level = level, .topic = topic, .advice = advice};
    va_start(args, format);
    (void)vsnprintf(finding->text, sizeof(finding->text), format, args);
    va_end(args);
}

static const struct stat_view *stat_find(const struct doctor *doctor, const char *name)
{
    for (size_t i = 0; doctor->has_status && i < doctor->status.status.stat_count; i++)
        if (str_equal(doctor->status.status.stats[i].name, str_of(name)))
            return &doctor->status.status.stats[i];
    return NULL;
}

bool doctor_number(const struct doctor *doctor, const char *name, uint64_t *out)
{
    const struct stat_view *stat = stat_find(doctor, name);

    *out = stat && !stat->is_text ? stat->number : 0;
    return stat && !stat->is_text;
}

etag_str doctor_text(const struct doctor *doctor, const char *name)
{
    const struct stat_view *stat = stat_find(doctor, name);

    return stat && stat->is_text ? stat->text : (etag_str){0};
}
