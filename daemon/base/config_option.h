/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an option is: one table drives the file, the flags, --help, --check-config and what SIGHUP
 * may change, so each option is written once. Private to config.c (which reads the flags and
 * applies all sources) and config_*.c; etag-relay has a table of its own.
 */
#ifndef ETAGD_CONFIG_OPTION_H
#define ETAGD_CONFIG_OPTION_H

#include "config.h"
#include "numbers.h"

#include <argp.h>

#define CONFIG_ROLES_BYTES 48
#define CONFIG_OPTIONS 19
#define CONFIG_HELP_BYTES 160

/* Arguments for "%.*s" that quote at most 200 bytes of a text in an error message. */
#define QUOTED(s) (int)min_of((s).len, 200), (s).data

struct config_option {
    /* in the file, and as a flag after "--" */
    const char *name;
    /* in --help */
    const char *argument;
    const char *help;
    /* the default, as the file would write it */
    const char *default_text;
    /* TEXT: any text, also empty. LIST: the same, separated by commas; in the file it may be a YAML
     * list */
    enum { OPTION_PATH, OPTION_NUMBER, OPTION_MODE, OPTION_CHOICE, OPTION_TEXT, OPTION_LIST } kind;
    /* of the member in the program's configuration struct */
    size_t offset;
    /* of the member */
    size_t bytes;
    /* OPTION_NUMBER */
    uint64_t min;
    /* OPTION_NUMBER: 0 is allowed too */
    bool or_zero;
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

/* The options that a program accepts in its file and as flags. */
struct config_table {
    const struct config_option *options;
    size_t count;
    /* "etagd" */
    const char *program;
    /* the file that is read if no other is named */
    const char *file;
    /* the man page of the file */
    const char *page;
    /* receives the roles; NULL: this program has none */
    struct config *roles;
};

/* NULL: no such option. */
const struct config_option *config_option_find(const struct config_table *table, etag_str name);

/* Checks the value and stores it in the configuration. Returns false on a bad value: why says what
 * is wrong and what is allowed. */
MUST_USE bool config_option_set(void *config, const struct config_option *option, etag_str value,
                                struct why *why);

/* config_table.c: the sources of values, for any program that has a table. Fills rows and docs,
 * which have an element for each option of the table. rows borrow docs; their argp keys count up
 * from first_key. */
void config_table_rows(const struct config_table *table, int first_key, struct argp_option *rows,
                       char (*docs)[CONFIG_HELP_BYTES]);

/* Stores the defaults of the table. A default that does not pass its own check is a bug in the
 * table (assert). */
void config_table_defaults(const struct config_table *table, void *config);

/* path NULL: the table's file, if it exists. */
MUST_USE bool config_table_file(const struct config_table *table, void *config, const char *path,
                                struct why *why);

/* values: an element for each option, in the table's order; NULL: this flag was not given. */
MUST_USE bool config_table_flags(const struct config_table *table, void *config,
                                 const char *const *values, struct why *mistake);

/* Prints the option and its value as a line of the file. */
void config_option_print(const void *config, const struct config_option *option, FILE *out);

/* Gives the roles to a subject: "user:deploy", "uid:1000", "group:www-data", "gid:33" or "all".
 * Looks names up now, in the user database. */
MUST_USE bool config_rule_add(struct config *config, uint32_t roles, etag_str subject,
                              struct why *why);

/* 0: no such role. */
uint32_t config_role_of(etag_str word);

/* "read, fill" of role bits. */
const char *config_roles_text(uint32_t roles, char out[CONFIG_ROLES_BYTES]);

/* Reads the file into a configuration. Returns false on a mistake: why has its text, with path,
 * line and column. */
MUST_USE bool config_file_read(const struct config_table *table, void *config, FILE *file,
                               const char *path, struct why *why);

/* Replaces control characters by '?': an error message may quote any text, and goes to a
 * terminal. */
void config_make_printable(char *text);

/* Reads defaults, file and flags of this command line into *config, but does not set argc and argv.
 * Unlike config_load() it prints no error. *answered: help or version was printed. Returns false on
 * a mistake, with its text in why; empty: argp has printed it. */
MUST_USE bool config_read(struct config *config, int argc, char **argv, bool *answered,
                          struct why *why);

#endif
