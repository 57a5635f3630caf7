/* SPDX-License-Identifier: Apache-2.0 */
/* Each check says in a sentence what is wrong, as the checks of an entry do. */
#include "targets.h"

#include "key.h"
#include "numbers.h"

const char *targets_check(const etag_targets *targets)
{
    const size_t counts[] = {targets->resource_count, targets->surrogate_count,
                             targets->prefix_count, targets->family_count};
    size_t total = 0;

    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        if (counts[i] > TARGETS_PER_EVENT_MAX - total)
            return "more than 4096 targets at once: name a prefix or a surrogate key instead";
        total += counts[i];
    }
    if (total == 0 && !targets->everything)
        return "no target is named";
    if (targets->hold_ms > HOLD_MS_MAX)
        return "hold_ms is over 3600000, an hour";
    if (targets->max_ms > GUARD_MS_MAX)
        return "max_ms is over 86400000, a day";
    if ((unsigned)targets->reach > ETAG_REACH_EVERYWHERE)
        return "reach is none of enum etag_reach";

    struct resource canonical;
    const char *wrong = NULL;
    for (size_t i = 0; i < targets->resource_count && !wrong; i++)
        wrong = resource_canonicalize(&canonical, &targets->resources[i]);
    for (size_t i = 0; i < targets->surrogate_count && !wrong; i++)
        wrong = surrogate_check(targets->surrogates[i]);
    for (size_t i = 0; i < targets->family_count && !wrong; i++)
        wrong = surrogate_family_check(targets->families[i]);
    for (size_t i = 0; i < targets->prefix_count && !wrong; i++) {
        wrong = resource_canonicalize(&canonical, &targets->prefixes[i]);
        if (!wrong && resource_target(&canonical).len > canonical.path_len)
            wrong = "a prefix is a path: it has no query";
    }
    return wrong;
}
