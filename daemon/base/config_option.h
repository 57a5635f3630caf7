/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an option is: one table drives the file, the flags, --help, --check-config and what SIGHUP
 * may change, so an option stands once. Private to config.c (flags, and what comes of file and
 * flags) and config_*.c; etag-relay has a table of its own.
 */
#ifndef ETAGD_CONFIG_OPTION_H
#define ETAGD_CONFIG_OPTION_H

#include "config.h"
#include "numbers.h"

#include <argp.h>

#define CONFIG_ROLES_BYTES 48
#define CONFIG_OPTIONS 19
#define CONFIG_HELP_BYTES 160

/* For "%.*s": what a mistake quotes of a text that may be anything, and long. */
#define QUOTED(s) (int)min_of((s).len, 200), (s).data

struct config_option {
    /* in the file, and behind "--" */
    const char *name;
    /* in --help */
    const char *argument;
    const char *help;
    /* the default, as it would stand in the file */
    const char *normal;
    /* TEXT: anything, also nothing. LIST: the same, with commas; in the file it may be a list */
    enum { OPTION_PATH, OPTION_NUMBER, OPTION_MODE, OPTION_CHOICE, OPTION_TEXT, OPTION_LIST } kind;
    /* in the program's configuration */
    size_t offset;
    /* of the member */
    size_t bytes;
    /* OPTION_NUMBER */
    uint64_t min;
    /* OPTION_NUMBER; OPTION_PATH, OPTION_TEXT, OPTION_LIST: length */
    uint64_t max;
    /* OPTION_NUMBER: from the option's unit to the member's */
    uint64_t factor;
    /* OPTION_CHOICE: separated by '|', in the order of the enum */
    const char *words;
    /* SIGHUP changes it; else it waits for a restart */
    bool live;
};

/* In the order of --help. */
extern const struct config_option config_options[CONFIG_OPTIONS];

/* What may stand in a program's file, and behind "--". */
struct config_table {
    const struct config_option *options;
    size_t count;
    /* "etagd" */
    const char *program;
    /* the file that is read where none is named */
    const char *file;
    /* the man page of the file */
    const char *page;
    /* where "roles" go; NULL: this program has none */
    struct config *roles;
};

/* NULL: no such option. */
const struct config_option *config_option_find(const struct config_table *table, etag_str name);

/* Checks the value and stores it in the configuration. False: why says what is wrong and what is
 * allowed. */
MUST_USE bool config_option_set(void *config, const struct config_option *option, etag_str value,
                                struct why *why);

/* config_table.c: the sources of values, for each program that has a table. rows, docs: as many as
 * the table has options; docs are borrowed by rows, whose keys begin with first_key. */
void config_table_rows(const struct config_table *table, int first_key, struct argp_option *rows,
                       char (*docs)[CONFIG_HELP_BYTES]);

/* The table's own texts: one that does not pass is a mistake in it. */
void config_table_defaults(const struct config_table *table, void *config);

/* path NULL: the table's file, if it exists. */
MUST_USE bool config_table_file(const struct config_table *table, void *config, const char *path,
                                struct why *why);

/* values: one for each option; NULL: this flag was not given. */
MUST_USE bool config_table_flags(const struct config_table *table, void *config,
                                 const char *const *values, struct why *mistake);

/* Prints it as it would stand in the file. */
void config_option_print(const void *config, const struct config_option *option, FILE *out);

/* "user:deploy", "uid:1000", "group:www-data", "gid:33" or "all" gets the roles. Names are looked
 * up now. */
MUST_USE bool config_rule_add(struct config *config, uint32_t roles, etag_str subject,
                              struct why *why);

/* 0: no such role. */
uint32_t config_role_of(etag_str word);

/* "read, fill" of role bits. */
const char *config_roles_text(uint32_t roles, char out[CONFIG_ROLES_BYTES]);

/* Reads the file into a configuration. False: why says the mistake, with path, line and column. */
MUST_USE bool config_file_read(const struct config_table *table, void *config, FILE *file,
                               const char *path, struct why *why);

/* What a mistake quotes may be anything, and goes to a terminal: controls become '?'. */
void config_make_printable(char *text);

/* Defaults, file and flags of this command line into *config, but for the command line itself:
 * config_load without a word on standard error. answered: help or version was printed. False: why
 * says the mistake; empty: argp said it. */
MUST_USE bool config_read(struct config *config, int argc, char **argv, bool *answered,
                          struct why *why);

#endif
