/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where options come from. The flags are collected first, because one of them names the file; then defaults, file and flags are
 * applied in this order through the same config_option_set() (config_option.c has the table).
 */
#include "config.h"

#include "config_option.h"
#include "text.h"

#include <argp.h>
#include <assert.h>
#include <errno.h>

#define HELP_BYTES 160
#define CONFIG_DEFAULT_FILE "/etc/etagd/etagd.yaml"

/* LMDB's map is address space and an upper bound of the file, not memory: generous. */
#define MAP_BYTES_BASE (UINT64_C(1024) * 1024 * 1024)
#define MAP_BYTES_PER_ENTRY 4096

#define WHY(...) ((void)snprintf(why, CONFIG_WHY_BYTES, __VA_ARGS__), false)
#define QUOTED(s) (int)((s).len < 200 ? (s).len : 200), (s).data

/* ---- Flags ---- */

#define FLAG_FIRST 256 /* keys of flags without a short form */
#define ROLES_FLAGS_MAX (4 * ROLE_RULES_MAX)

enum {
    FLAG_CONFIG = FLAG_FIRST + CONFIG_OPTIONS,
    FLAG_CHECK,
    FLAG_CHECK_STATE,
    FLAG_COLD,
    FLAG_FRESH,
    FLAG_ROLE,
    FLAG_VERSION,
    FLAG_HELP = '?',
};

/* What stands on the command line, not yet applied. */
struct flags {
    const char *config_path;
    const char *values[CONFIG_OPTIONS];
    const char *roles[ROLES_FLAGS_MAX];
    size_t role_count;
    bool check_only, check_state, cold, fresh;
    const char *check_dir; /* NULL: the configured one */
    bool answered;         /* help or version */
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
    case FLAG_CHECK_STATE:
        flags->check_state = true;
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
    case FLAG_VERSION:
        printf("etagd %s\n", ETAG_VERSION_STRING);
        flags->answered = true;
        return ECANCELED;
    case FLAG_HELP:
        argp_state_help(state, stdout, ARGP_HELP_USAGE | ARGP_HELP_PRE_DOC | ARGP_HELP_LONG);
        flags->answered = true;
        return ECANCELED;
    case ARGP_KEY_ARG:
        if (flags->check_state && !flags->check_dir) {
            flags->check_dir = value;
            return 0;
        }
        argp_error(state, "unexpected argument \"%s\"", value);
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t flags_read(struct flags *flags, int argc, char **argv)
{
    struct argp_option rows[CONFIG_OPTIONS + 9] = {0};
    char docs[CONFIG_OPTIONS][HELP_BYTES];
    for (size_t i = 0; i < CONFIG_OPTIONS; i++) {
        (void)snprintf(docs[i], sizeof(docs[i]), "%s (default %s)", config_options[i].help,
                       config_options[i].normal);
        rows[i] = (struct argp_option){.name = config_options[i].name,
                                       .key = FLAG_FIRST + (int)i,
                                       .arg = config_options[i].argument,
                                       .doc = docs[i]};
    }
    rows[CONFIG_OPTIONS + 7] = (struct argp_option){
        "check-state",
        FLAG_CHECK_STATE,
        NULL,
        0,
        "Check the state in the state directory, or in the one that is named behind it, without "
        "changing anything, and end: 0 sound, 1 damaged, 2 not checked",
        -2};
    rows[CONFIG_OPTIONS + 6] = (struct argp_option){
        "role",
        FLAG_ROLE,
        "RULE",
        0,
        "Who may do what, as ROLE=WHO, repeated: read, fill, mutate or admin = user:NAME, "
        "group:NAME, uid:N, gid:N or all. The file's roles do not count then",
        -3};
    rows[CONFIG_OPTIONS] = (struct argp_option){"config",
                                              FLAG_CONFIG,
                                              "FILE",
                                              0,
                                              "Configuration file; without it " CONFIG_DEFAULT_FILE
                                              " if it exists",
                                              -2};
    rows[CONFIG_OPTIONS + 1] = (struct argp_option){
        "check-config",
        FLAG_CHECK,
        NULL,
        0,
        "Check the configuration, print it as it counts, end",
        -2};
    rows[CONFIG_OPTIONS + 2] = (struct argp_option){
        "cold",
        FLAG_COLD,
        NULL,
        0,
        "Do not use the former state: after a rollback of its disk or machine",
        -2};
    rows[CONFIG_OPTIONS + 3] = (struct argp_option){
        "fresh",
        FLAG_FRESH,
        NULL,
        0,
        "No daemon has run here before: where there are no traces of one either, do not wait for "
        "its guards",
        -2};
    rows[CONFIG_OPTIONS + 4] = (struct argp_option){"help", FLAG_HELP, NULL, 0, "Print this and end",
                                                  -1};
    rows[CONFIG_OPTIONS + 5] = (struct argp_option){
        "version", FLAG_VERSION, NULL, 0, "Print the version and end", -1};

    const struct argp argp = {
        .options = rows,
        .parser = flags_parse,
        .doc = "Shared-memory ETag cache: answers If-None-Match for every front end on this host."};
    /* argp's own --help and --version would end the process, and want a mutable global. */
    return argp_parse(&argp, argc, argv, ARGP_NO_HELP | ARGP_NO_EXIT, NULL, flags);
}

/* ---- Loading ---- */

/* The table's own texts: one that does not pass is a mistake in it. */
static void config_defaults(struct config *config)
{
    char why[CONFIG_WHY_BYTES];
    *config = (struct config){0};
    for (size_t i = 0; i < CONFIG_OPTIONS; i++) {
        const bool set = config_option_set(config, &config_options[i], str_of(config_options[i].normal), why);
        assert(set);
        (void)set;
    }
}

static bool load_file(struct config *config, const char *path, char *why)
{
    FILE *file CLEANUP(cleanup_file) = fopen(path ? path : CONFIG_DEFAULT_FILE, "re");
    if (!file && !path && errno == ENOENT)
        return true;
    if (!path)
        path = CONFIG_DEFAULT_FILE;
    if (!file) {
        (void)snprintf(why, CONFIG_MISTAKE_BYTES, "%s: cannot be read: %s", path,
                       strerrordesc_np(errno));
        return false;
    }
    return config_file_read(config, file, path, why);
}

static bool apply_role(struct config *config, const char *flag, char why[CONFIG_WHY_BYTES])
{
    const etag_str text = str_of(flag);
    const char *equals = strchr(flag, '=');
    const size_t len = equals ? (size_t)(equals - flag) : text.len;
    const uint32_t role = config_role_of((etag_str){flag, len});
    if (!equals || !role)
        return WHY("\"%.*s\" is not ROLE=WHO; roles are read, fill, mutate and admin",
                   QUOTED(text));
    return config_rule_add(config, role, str_skip(text, len + 1), why);
}

/* A flag wins over the file: one role given here, and the file's do not count. */
static bool apply_roles(struct config *config, const struct flags *flags, char *mistake)
{
    char why[CONFIG_WHY_BYTES];
    if (flags->role_count > 0)
        config->rule_count = 0;
    for (size_t i = 0; i < flags->role_count; i++)
        if (!apply_role(config, flags->roles[i], why)) {
            (void)snprintf(mistake, CONFIG_MISTAKE_BYTES, "etagd: --role: %s", why);
            return false;
        }
    return true;
}

static bool apply_flags(struct config *config, const struct flags *flags, char *mistake)
{
    char why[CONFIG_WHY_BYTES];
    for (size_t i = 0; i < CONFIG_OPTIONS; i++) {
        if (!flags->values[i] ||
            config_option_set(config, &config_options[i], str_of(flags->values[i]), why))
            continue;
        (void)snprintf(mistake, CONFIG_MISTAKE_BYTES, "etagd: --%s: %s", config_options[i].name, why);
        return false;
    }
    config->check_only = flags->check_only;
    config->check_state = flags->check_state;
    if (flags->check_dir && !config_option_set(config, config_option_find(ETAG_LIT("state-dir")),
                                               str_of(flags->check_dir), why)) {
        (void)snprintf(mistake, CONFIG_MISTAKE_BYTES, "etagd: --check-state: %s", why);
        return false;
    }
    config->cold = flags->cold;
    config->fresh = flags->fresh;
    return apply_roles(config, flags, mistake);
}

static void config_derive(struct config *config)
{
    config->clock_count = 1u << (32 - __builtin_clz(config->clock_count - 1));
    config->map_by_capacity = config->map_bytes == 0;
    if (config->map_by_capacity)
        config->map_bytes = MAP_BYTES_BASE + config->capacity * MAP_BYTES_PER_ENTRY;
}

/* What a mistake quotes may be anything, and goes to a terminal. C1 controls besides, which in UTF-8 are 0xc2 and a byte: some
 * terminals obey them. */
static void make_printable(char *text)
{
    unsigned char before = 0;
    for (unsigned char *at = (unsigned char *)text; *at; at++) {
        const unsigned char byte = *at;
        if (byte < 0x20 || byte == 0x7f || (before == 0xc2 && byte >= 0x80 && byte < 0xa0))
            *at = '?';
        before = byte;
    }
}

static bool config_made(struct config *config, const struct flags *flags, char *why)
{
    config_defaults(config);
    if (!load_file(config, flags->config_path, why) || !apply_flags(config, flags, why))
        return false;
    config_derive(config);
    return true;
}

bool config_read(struct config *config, int argc, char **argv, bool *answered,
                 char why[CONFIG_MISTAKE_BYTES])
{
    struct flags flags = {0};
    why[0] = '\0';
    const error_t error = flags_read(&flags, argc, argv);
    *answered = flags.answered;
    if (error != 0)
        return false;
    if (config_made(config, &flags, why))
        return true;
    make_printable(why);
    return false;
}

int config_load(struct config *out, int argc, char **argv)
{
    char why[CONFIG_MISTAKE_BYTES];
    bool answered;
    if (!config_read(out, argc, argv, &answered, why)) {
        if (why[0] != '\0')
            (void)fprintf(stderr, "%s\n", why);
        return answered ? 1 : -1;
    }
    out->argc = argc;
    out->argv = argv;
    return 0;
}
