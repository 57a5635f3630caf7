/* SPDX-License-Identifier: Apache-2.0 */
/* A parser of two flags, with the program's own as its child: argp asks both, and shows the help of
 * both as one. */
#include "command_line.h"

#include <errno.h>
#include <etag/etag.h>
#include <stdio.h>

enum { FLAG_VERSION = FLAG_FIRST, FLAG_HELP = '?' };

/* After all others. */
static const struct argp_option answered_flags[] = {
    {"help", FLAG_HELP, NULL, 0, "Print this and end", -1},
    {"version", FLAG_VERSION, NULL, 0, "Print the version and end", -1},
    {0},
};

struct reading {
    struct command_line *line;
    void *input;
};

static error_t flag_answer(int key, char *value, struct argp_state *state)
{
    const struct reading *const reading = state->input;

    struct command_line *const line = reading->line;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = reading->input;
        return 0;
    case ARGP_KEY_ARG:
        if (line->flags.args_doc)
            return ARGP_ERR_UNKNOWN;
        argp_error(state, "unexpected argument \"%s\"", value);
        return EINVAL;
    case FLAG_VERSION:
        printf("%s %s\n", line->program, ETAG_VERSION_STRING);
        break;
    case FLAG_HELP:
        argp_state_help(state, stdout, ARGP_HELP_USAGE | ARGP_HELP_PRE_DOC | ARGP_HELP_LONG);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    line->answered = true;
    return ECANCELED;
}

bool command_line_read(struct command_line *line, int argc, char **argv, void *input)
{
    const struct argp own = {.options = line->flags.options, .parser = line->flags.parser};
    const struct argp_child children[] = {{.argp = &own}, {0}};
    const struct argp whole = {.options = answered_flags,
                               .parser = flag_answer,
                               .args_doc = line->flags.args_doc,
                               .doc = line->flags.doc,
                               .children = children};
    const unsigned order = line->flags.args_doc ? ARGP_IN_ORDER : 0;
    struct reading reading = {line, input};

    line->answered = false;
    return argp_parse(&whole, argc, argv, ARGP_NO_HELP | ARGP_NO_EXIT | order, NULL, &reading) == 0;
}
