/* SPDX-License-Identifier: Apache-2.0 */
/* The text becomes strings, one a line, in its own memory: what is a name stays where it is. */
#include "ctl_target_lines.h"

#include "numbers.h"

#include <stdio.h>
#include <string.h>

/* "surrogate upload:42" taken apart. NULL, or what is wrong. */
static const char *line_split(const char *line, int *kind, const char **name)
{
    const char *space = strchr(line, ' ');
    const size_t word_len = space ? (size_t)(space - line) : strlen(line);
    char word[16];

    snprintf(word, sizeof(word), "%.*s", (int)min_of(word_len, sizeof(word)), line);
    *kind = word_len < sizeof(word) ? ctl_target_kind(word) : 0;
    *name = space ? space + 1 : "";
    if (*kind == 0)
        return "want 'resource //host/path', 'surrogate NAME', 'family NAME', 'prefix /path/' or "
               "'all'";
    if ((*kind == 'A') != !space)
        return *kind == 'A' ? "'all' takes no name" : "the name is missing";
    return NULL;
}

/* NULL, or what is wrong with a line. Empty ones are fine. */
static const char *line_check(const char *line, size_t len)
{
    etag_resource resource;
    const char *name;
    int kind;

    if (strlen(line) != len)
        return "a NUL byte in the line";
    if (len == 0)
        return NULL;
    const char *wrong = line_split(line, &kind, &name);
    return wrong ? wrong : ctl_target_check(kind, name, &resource);
}

const char *target_lines_open(struct target_lines *lines, char *text, size_t len, uint64_t *number)
{
    char *const end = text + len;

    *lines = (struct target_lines){text, end};
    *number = 1;
    for (char *line = text; line < end; ++*number) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        char *line_end = newline ? newline : end;
        *line_end = '\0';
        const char *wrong = line_check(line, (size_t)(line_end - line));
        if (wrong)
            return wrong;
        line = line_end + 1;
    }
    return NULL;
}

bool target_lines_next(struct target_lines *lines, int *kind, const char **name)
{
    while (lines->at < lines->end) {
        const char *line = lines->at;
        lines->at += strlen(line) + 1;
        if (*line)
            return line_split(line, kind, name) == NULL;
    }
    return false;
}
