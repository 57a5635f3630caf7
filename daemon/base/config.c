/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where options come from. The flags are collected first, because one of them names the file; then
 * defaults, file and flags are applied in this order through the same config_option_set()
 * (config_option.c has the table).
 */
#include "config.h"

#include "command_line.h"
#include "config_option.h"
#include "numbers.h"
#include "text.h"

#include <errno.h>

#define CONFIG_DEFAULT_FILE "/etc/etagd/etagd.yaml"

/* LMDB's map is address space and an upper bound of the file, not memory: generous. */
#define MAP_BYTES_BASE (UINT64_C(1024) * 1024 * 1024)
#define MAP_BYTES_PER_ENTRY 4096

/* ---- Flags ---- */

#define ROLES_FLAGS_MAX (4 * ROLE_RULES_MAX)

enum {
    FLAG_CONFIG = FLAG_FIRST + CONFIG_OPTIONS,
    FLAG_CHECK,
    FLAG_COLD,
    FLAG_FRESH,
    FLAG_ROLE,
};

static struct config_table table_of(struct config *config)
{
    return (struct config_table){.options = config_options,
                                 .count = CONFIG_OPTIONS,
                                 .program = "etagd",
                                 .file = CONFIG_DEFAULT_FILE,
                                 .page = "etagd.yaml(5)",
                                 .roles = config};
}

/* The command line's options, not yet applied. */
struct flags {
    const char *config_path;
    const char *values[CONFIG_OPTIONS];
    const char *roles[ROLES_FLAGS_MAX];
    size_t role_count;
    bool check_only, cold, fresh;
};

static error_t flags_parse(int key, char *value, struct argp_state *state)
{
    struct flags *flags = (struct flags *)state->input;

    if (key >= FLAG_FIRST && key < FLAG_CONFIG) {
        flags->values[key - FLAG_FIRST] = value;
        return 0;
    }
    switch (key) {
    case FLAG_CONFIG:
        flags->config_path = value;
        return 0;
    case FLAG_CHECK:
        flags->check_only = true;
        return 0;
    case FLAG_COLD:
        flags->cold = true;
        return 0;
    case FLAG_FRESH:
        flags->fresh = true;
        return 0;
    case FLAG_ROLE:
        if (flags->role_count == ROLES_FLAGS_MAX) {
            argp_error(state, "more than %d --role", ROLES_FLAGS_MAX);
            return EINVAL;
        }
        flags->roles[flags->role_count++] = value;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Flags that are no options of the file. argp shows them by group: -3, then -2. */
static const struct argp_option other_flags[] = {
    {"role", FLAG_ROLE, "RULE", 0,
     "Who may do what, as ROLE=WHO, repeated: read, fill, mutate or admin = user:NAME, "
     "group:NAME, uid:N, gid:N or all. The file's roles do not count then",
     -3},
    {"config", FLAG_CONFIG, "FILE", 0,
     "Configuration file; without it " CONFIG_DEFAULT_FILE " if it exists", -2},
    {"check-config", FLAG_CHECK, NULL, 0, "Check the configuration, print it as it counts, end",
     -2},
    {"cold", FLAG_COLD, NULL, 0,
     "Do not use the former state: after a rollback of its disk or machine", -2},
    {"fresh", FLAG_FRESH, NULL, 0,
     "No daemon has run here before: where there are no traces of one either, do not wait for "
     "its guards",
     -2},
    {0},
};

static bool flags_read(struct flags *flags, int argc, char **argv, bool *answered)
{
    struct argp_option rows[CONFIG_OPTIONS + COUNT_OF(other_flags)];
    char docs[CONFIG_OPTIONS][CONFIG_HELP_BYTES];
    const struct config_table table = table_of(NULL);

    config_table_rows(&table, FLAG_FIRST, rows, docs);
    memcpy(rows + CONFIG_OPTIONS, other_flags, sizeof(other_flags));
    struct command_line line = {
        .program = table.program,
        .flags = {.options = rows,
                  .parser = flags_parse,
                  .doc = "Shared-memory ETag cache: answers If-None-Match for every front end on "
                         "this host."}};
    const bool read = command_line_read(&line, argc, argv, flags);
    *answered = line.answered;
    return read;
}

/* ---- Loading ---- */

static bool apply_role(struct config *config, const char *flag, struct why *why)
{
    const etag_str text = str_of(flag);
    const char *equals = strchr(flag, '=');
    const size_t len = equals ? (size_t)(equals - flag) : text.len;
    const uint32_t role = config_role_of((etag_str){flag, len});

    if (!equals || !role)
        return why_not(why, "\"%.*s\" is not ROLE=WHO; roles are read, fill, mutate and admin",
                       QUOTED(text));
    return config_rule_add(config, role, str_skip(text, len + 1), why);
}

/* A flag wins over the file: one role given here, and the file's do not count. */
static bool apply_roles(struct config *config, const struct flags *flags, struct why *mistake)
{
    struct why why;

    if (flags->role_count > 0)
        config->rule_count = 0;
    for (size_t i = 0; i < flags->role_count; i++)
        if (!apply_role(config, flags->roles[i], &why))
            return why_not(mistake, "etagd: --role: %s", why.text);
    return true;
}

static void config_derive(struct config *config)
{
    if (config->clock_count > 0)
        config->clock_count = 1u << (32 - __builtin_clz(config->clock_count - 1));
    config->map_by_capacity = config->map_bytes == 0;
    if (config->map_by_capacity)
        config->map_bytes = MAP_BYTES_BASE + config->capacity * MAP_BYTES_PER_ENTRY;
}

/* What a mistake quotes may be anything, and goes to a terminal. C1 controls besides, which in
 * UTF-8 are 0xc2 and a byte: some terminals obey them. */
void config_make_printable(char *text)
{
    unsigned char before = 0;

    for (unsigned char *at = (unsigned char *)text; *at; at++) {
        const unsigned char byte = *at;
        if (byte < 0x20 || byte == 0x7f || (before == 0xc2 && byte >= 0x80 && byte < 0xa0))
            *at = '?';
        before = byte;
    }
}

static bool config_made(struct config *config, const struct flags *flags, struct why *why)
{
    const struct config_table table = table_of(config);

    *config = (struct config){
        .check_only = flags->check_only, .cold = flags->cold, .fresh = flags->fresh};
    config_table_defaults(&table, config);
    if (!config_table_file(&table, config, flags->config_path, why) ||
        !config_table_flags(&table, config, flags->values, why) || !apply_roles(config, flags, why))
        return false;
    config_derive(config);
    return true;
}

bool config_read(struct config *config, int argc, char **argv, bool *answered, struct why *why)
{
    struct flags flags = {0};

    why->text[0] = '\0';
    if (!flags_read(&flags, argc, argv, answered))
        return false;
    if (config_made(config, &flags, why))
        return true;
    config_make_printable(why->text);
    return false;
}

int config_load(struct config *out, int argc, char **argv)
{
    struct why why;
    bool answered;

    if (!config_read(out, argc, argv, &answered, &why)) {
        if (why.text[0] != '\0')
            (void)fprintf(stderr, "%s\n", why.text);
        return answered ? 1 : -1;
    }
    out->argc = argc;
    out->argv = argv;
    return 0;
}
