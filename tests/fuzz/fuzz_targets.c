/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What "etagctl invalidate --stdin" reads: of an input with a mistake nothing is done; of any
 * other, each line is one target, none is lost or made up, and each is right by the rules of the
 * daemon.
 */
#include "ctl_target_lines.h"
#include "fuzz.h"
#include "surrogate.h"
#include "targets.h"

#include <string.h>

/* Lines that say something, by a plain count. */
static size_t lines_count(const uint8_t *data, size_t size)
{
    size_t count = 0;

    for (size_t i = 0; i < size; i++)
        count += data[i] != '\n' && (i == 0 || data[i - 1] == '\n');
    return count;
}

/* The text stands in a line of the input, behind the word for its kind. */
static void target_check(const char *input, size_t input_len, int kind, const char *name)
{
    const char *word = kind == 'r'   ? "resource "
                       : kind == 's' ? "surrogate "
                       : kind == 'f' ? "family "
                                     : "prefix ";
    char line[64];
    const size_t len = strlen(name);

    if (kind == 'A') {
        fuzz_require(memmem(input, input_len, "all", 3));
        return;
    }
    fuzz_require(len > 0 && memmem(input, input_len, name, len));
    if (snprintf(line, sizeof(line), "%s%s", word, name) < (int)sizeof(line))
        fuzz_require(memmem(input, input_len, line, strlen(line)));
}

/* The last one, as libetag sends it. */
static bool last_is_right(const etag_targets *targets)
{
    char made[SURROGATE_MADE_BYTES], family_made[SURROGATE_MADE_BYTES];
    etag_targets sent = *targets;
    etag_str name, family;

    if (targets->surrogate_count > 0) {
        name = surrogate_name(targets->surrogates[targets->surrogate_count - 1], made);
        sent.surrogates = &name;
        sent.surrogate_count = 1;
    }
    if (targets->family_count > 0) {
        family = surrogate_family_name(targets->families[targets->family_count - 1], family_made);
        sent.families = &family;
        sent.family_count = 1;
    }
    return targets_check(&sent) == NULL;
}

static size_t batches_take(struct target_lines *lines, const char *input, size_t len)
{
    static struct ctl_targets targets;
    size_t count = 0;
    const char *name;
    int kind;

    ctl_targets_clear(&targets);
    while (target_lines_next(lines, &kind, &name)) {
        if (ctl_targets_full(&targets))
            ctl_targets_clear(&targets);
        target_check(input, len, kind, name);
        fuzz_require(ctl_targets_add(&targets, kind, name) == NULL);
        fuzz_require(last_is_right(&targets.targets));
        count++;
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct target_lines lines;
    uint64_t number;
    char *text = malloc(size + 1);

    fuzz_require(text);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    const char *wrong = target_lines_open(&lines, text, size, &number);
    if (wrong)
        fuzz_require(number > 0 && number <= size && lines_count(data, size) > 0);
    else
        fuzz_require(batches_take(&lines, (const char *)data, size) == lines_count(data, size));
    free(text);
    return 0;
}
