/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of a program with flags: argp parses them, and this module answers --help and
 * --version in the same words for each program. (argp's own answers would end the process and need
 * a mutable global.) Not part of libetag.
 */
#ifndef ETAG_PROTO_COMMAND_LINE_H
#define ETAG_PROTO_COMMAND_LINE_H

#include "cleanup.h"

#include <argp.h>
#include <stdbool.h>

struct command_line {
    /* "etagd" */
    const char *program;
    /* The program's flags, without these two; keys from FLAG_FIRST on have no short form. args_doc
     * NULL: the program refuses arguments. If it takes arguments, the first one ends the flags, so
     * that a command may have its own. */
    struct argp flags;
    /* help or version was printed */
    bool answered;
};

#define FLAG_FIRST 256

/* Parses the command line. input: passed to flags.parser in its state. Returns false if there is
 * nothing left to do: help or version was printed ('answered'), or argp has printed the error. */
MUST_USE bool command_line_read(struct command_line *line, int argc, char **argv, void *input);

#endif
