/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an option is: one table drives the file, the flags and --help, so an option stands once. Private to config.c
 * (table, flags, checks) and config_file.c (YAML).
 */
#ifndef ETAGD_CONFIG_OPTION_H
#define ETAGD_CONFIG_OPTION_H

#include "config.h"

#define CONFIG_WHY_BYTES 1024

struct config_option {
    const char *name;     /* in the file, and behind "--" */
    const char *argument; /* in --help */
    const char *help;
    const char *normal; /* the default, as it would stand in the file */
    enum { OPTION_PATH, OPTION_NUMBER, OPTION_MODE, OPTION_CHOICE } kind;
    size_t offset;     /* in struct config */
    size_t bytes;      /* of the member */
    uint64_t min;      /* OPTION_NUMBER; OPTION_PATH: unused */
    uint64_t max;      /* OPTION_NUMBER; OPTION_PATH: length */
    uint64_t factor;   /* OPTION_NUMBER: from the option's unit to the member's */
    const char *words; /* OPTION_CHOICE: separated by '|', in the order of the enum */
};

/* NULL: no such option. */
const struct config_option *config_option_find(etag_str name);

/* Checks the value and stores it. False: why says what is wrong and what is allowed. */
MUST_USE bool config_option_set(struct config *config, const struct config_option *option,
                                etag_str value, char why[CONFIG_WHY_BYTES]);

/* The name nearest to a misspelt one, for "did you mean"; NULL: none is near. */
const char *config_option_nearest(etag_str name);

/* "user:deploy", "uid:1000", "group:www-data", "gid:33" or "all" gets the roles. Names are looked up now. */
MUST_USE bool config_rule_add(struct config *config, uint32_t roles, etag_str subject,
                              char why[CONFIG_WHY_BYTES]);

/* 0: no such role. */
uint32_t config_role_of(etag_str word);

/* Reads the file into *config. False: the mistake was said on standard error, with line and column. */
MUST_USE bool config_file_read(struct config *config, FILE *file, const char *path);

#endif
