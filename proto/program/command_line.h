/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of a program that has flags: argp reads them, and --help and --version are
 * answered here, in the same words by each program. (argp's own would end the process, and want a
 * mutable global.) No part of libetag.
 */
#ifndef ETAG_PROTO_COMMAND_LINE_H
#define ETAG_PROTO_COMMAND_LINE_H

#include "cleanup.h"

#include <argp.h>
#include <stdbool.h>

struct command_line {
    /* "etagd" */
    const char *program;
    /* Its flags, without these two; keys from FLAG_FIRST on have no short form. args_doc NULL: it
     * takes no arguments, and says so. With arguments the first one ends the flags, so that a
     * command may have its own. */
    struct argp flags;
    /* help or version was printed */
    bool answered;
};

#define FLAG_FIRST 256

/* Reads it; input is what flags.parser finds in its state. False: there is nothing to do, as it was
 * answered, or argp said what is wrong. */
MUST_USE bool command_line_read(struct command_line *line, int argc, char **argv, void *input);

#endif
