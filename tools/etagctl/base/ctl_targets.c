/* SPDX-License-Identifier: Apache-2.0 */
/* Each target is checked where it is added, by the function that the library and the daemon use: a
 * mistake is reported with it. */
#include "ctl_targets.h"

#include "numbers.h"
#include "resource.h"
#include "surrogate.h"
#include "targets.h"
#include "text.h"

#define BATCH_BYTES_MAX (FRAME_BYTES_MAX / 2)

void ctl_targets_clear(struct ctl_targets *targets)
{
    targets->byte_count = 0;
    ETAG_INIT(&targets->targets);
    targets->targets.resources = targets->resources;
    targets->targets.prefixes = targets->prefixes;
    targets->targets.surrogates = targets->surrogates;
    targets->targets.families = targets->families;
}

size_t ctl_targets_count(const struct ctl_targets *targets)
{
    const etag_targets *t = &targets->targets;

    return targets_names(t) + t->everything;
}

bool ctl_targets_full(const struct ctl_targets *targets)
{
    return ctl_targets_count(targets) == TARGETS_PER_EVENT_MAX ||
           targets->byte_count > BATCH_BYTES_MAX;
}

const char *ctl_target_check(int kind, const char *text, etag_resource *resource)
{
    char made[SURROGATE_MADE_BYTES];
    const bool names_resource = kind == 'r' || kind == 'p';
    const char *wrong = names_resource ? resource_split(str_of(text), resource) : NULL;

    if (wrong)
        return wrong;
    const etag_str name = kind == 'f' ? surrogate_family_name(str_of(text), made)
                                      : surrogate_name(str_of(text), made);
    etag_targets one;
    ETAG_INIT(&one);
    one.resources = one.prefixes = resource;
    one.surrogates = one.families = &name;
    one.resource_count = kind == 'r';
    one.prefix_count = kind == 'p';
    one.surrogate_count = kind == 's';
    one.family_count = kind == 'f';
    one.everything = kind == 'A';
    return targets_check(&one);
}

const char *ctl_targets_add(struct ctl_targets *targets, int kind, const char *text)
{
    etag_targets *t = &targets->targets;
    etag_resource resource;
    const char *wrong = ctl_target_check(kind, text, &resource);

    if (wrong)
        return wrong;
    targets->byte_count += strlen(text);
    if (kind == 'r')
        targets->resources[t->resource_count++] = resource;
    else if (kind == 'p')
        targets->prefixes[t->prefix_count++] = resource;
    else if (kind == 's')
        targets->surrogates[t->surrogate_count++] = str_of(text);
    else if (kind == 'f')
        targets->families[t->family_count++] = str_of(text);
    else
        t->everything = true;
    return NULL;
}

int ctl_target_kind(const char *word)
{
    static const struct {
        const char *word;
        int kind;
    } kinds[] = {
        {"resource", 'r'}, {"surrogate", 's'}, {"family", 'f'}, {"prefix", 'p'}, {"all", 'A'}};
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        if (strcmp(kinds[i].word, word) == 0)
            return kinds[i].kind;
    return 0;
}
