/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etagctl: what all commands share. A command parses its options with ctl_parse(), does its work
 * and returns the exit status. Exit status: 0 done, 1 not found or refused, 2 error.
 */
#ifndef ETAGCTL_CTL_H
#define ETAGCTL_CTL_H

#include "cleanup.h"

#include <etag/etag.h>

enum ctl_exit { CTL_DONE = 0, CTL_NO = 1, CTL_ERROR = 2 };

/* One option of a command: for getopt and for --help. A table ends with a zero. */
struct ctl_option {
    /* > 0, not one of CTL_KEY_*, unique in its table */
    int key;
    const char *name;
    /* its placeholder in --help; NULL: takes none; in brackets: may be left out */
    const char *value;
    const char *help;
    /* where its value goes, in what the command hands to ctl_parse(): CTL_FLAG() and the others */
    enum { OPTION_TAKEN, OPTION_FLAG, OPTION_TEXT, OPTION_NUMBER } kind;
    size_t offset;
    uint64_t max;
};

/* A bool, a const char *, a uint64_t. Other options are taken by the command's ctl_take. */
#define CTL_FLAG(type, member) .kind = OPTION_FLAG, .offset = offsetof(type, member)
#define CTL_TEXT(type, member) .kind = OPTION_TEXT, .offset = offsetof(type, member)
#define CTL_NUMBER(type, member, most)                                                             \
    .kind = OPTION_NUMBER, .offset = offsetof(type, member), .max = (most)

struct ctl;

struct ctl_command {
    const char *name;
    /* for --help: "KEY" */
    const char *arguments;
    /* one line */
    const char *summary;
    /* more lines for --help; NULL: none */
    const char *details;
    const struct ctl_option *options;
    /* --scope, --release, --scheme, --vary */
    bool takes_key;
    int (*run)(struct ctl *ctl);
    /* its options end at the first argument, which begins another program's command line */
    bool takes_command;
    /* for --help, where it is not as always; NULL */
    const char *exit_status;
};

#define CTL_COMMANDS(X)                                                                            \
    X(ping)                                                                                        \
    X(status)                                                                                      \
    X(stats)                                                                                       \
    X(clients)                                                                                     \
    X(get)                                                                                         \
    X(explain)                                                                                     \
    X(list)                                                                                        \
    X(watch)                                                                                       \
    X(doctor)                                                                                      \
    X(log)                                                                                         \
    X(check)                                                                                       \
    X(token)                                                                                       \
    X(fill)                                                                                        \
    X(invalidate)                                                                                  \
    X(guard)                                                                                       \
    X(sync)                                                                                        \
    X(pause)                                                                                       \
    X(resume)
#define CTL_COMMAND_DECLARATION(name) extern const struct ctl_command ctl_##name;
CTL_COMMANDS(CTL_COMMAND_DECLARATION)
#undef CTL_COMMAND_DECLARATION
/* All of them, in the order of --help; NULL after the last one. */
extern const struct ctl_command *const ctl_commands[];

/* One run of etagctl. */
struct ctl {
    /* NULL: none named yet */
    const struct ctl_command *command;
    /* NULL: the library's default */
    const char *socket_path;
    uint32_t timeout_ms;
    bool json;
    /* the command line from the command's name on; after ctl_parse() the arguments alone */
    int argc;
    char **argv;
    /* set where a call that takes the ctl says false */
    int exit_status;
};

#define CTL_TIMEOUT_MS_DEFAULT 5000

/* Keys of options besides those of the command's table. */
enum { CTL_KEY_SCOPE = 1000, CTL_KEY_RELEASE, CTL_KEY_VARY, CTL_KEY_SCHEME };

/* Takes an option that its table has no place for. Returns false after an error message. */
typedef bool ctl_take(struct ctl *ctl, void *into, int key, const char *value);

/* Parses the options; global ones are dealt with. Before the command is known: global ones only.
 * Returns false after --help or an error message: return ctl->exit_status. */
MUST_USE bool ctl_parse(struct ctl *ctl, ctl_take *take, void *into);

/* Says how many arguments there must be. Returns false after an error message. */
MUST_USE bool ctl_want_arguments(struct ctl *ctl, int wanted);

/* For commands without options and arguments. */
MUST_USE bool ctl_no_options(struct ctl *ctl);

/* A decimal number up to max. Returns false after an error message that names the option. */
MUST_USE bool ctl_number(struct ctl *ctl, const char *option, const char *text, uint64_t max,
                         uint64_t *out);

/* Tells a mistake in the command line; returns CTL_ERROR. */
int ctl_usage_error(struct ctl *ctl, const char *format, ...) PRINTF_LIKE(2, 3);

/* --socket, else $ETAGD_SOCKET, else the default. Borrowed. */
const char *ctl_socket_path(const struct ctl *ctl);

/* Tells what went wrong and what to do about it; returns the exit status that belongs to the
 * status. */
int ctl_fail(const struct ctl *ctl, etag_status status, const char *text);

#endif
