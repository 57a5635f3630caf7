/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options: what they are, what they may be, where they come from. The flags are collected first, because one of them
 * names the file; then defaults, file and flags are applied in this order through the same config_option_set(), so
 * that a range is checked, and told, in one place.
 */
#include "config.h"

#include "bytes.h"
#include "clocktime.h"
#include "config_option.h"
#include "message.h"
#include "numbers.h"

#include <argp.h>
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <sys/un.h>

#define HELP_BYTES 160
#define CONFIG_DEFAULT_FILE "/etc/etagd/etagd.yaml"
#define MIB (UINT64_C(1024) * 1024)
#define IDLE_MS_MAX (UINT64_C(366) * 24 * 3600 * 1000)
#define MS_PER_HOUR (UINT64_C(3600) * 1000)
#define EVENTS_KEPT_HOURS_MAX (UINT64_C(366) * 24)
#define EVENTS_KEPT_MIB_MAX 65536
#define POOL_MIB_MAX (POOL_BYTES_MAX / MIB)
#define MAP_MIB_MAX (UINT64_C(16) * 1024 * 1024)

/* LMDB's map is address space and an upper bound of the file, not memory: generous. */
#define MAP_BYTES_BASE (UINT64_C(1024) * MIB)
#define MAP_BYTES_PER_ENTRY 4096

#define MEMBER(m) .offset = offsetof(struct config, m), .bytes = sizeof(((struct config *)0)->m)

static const struct config_option options[] = {
    {"socket", "PATH", "Where front ends connect", "/run/etagd/etagd.sock", OPTION_PATH,
     MEMBER(socket_path), .max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1},
    {"state-dir", "DIR", "Where the state is kept", "/var/lib/etagd", OPTION_PATH,
     MEMBER(state_dir), .max = PATH_BYTES_MAX - 64},
    {"capacity", "N", "Entries that the index holds", "262144", OPTION_NUMBER, MEMBER(capacity),
     .min = CAPACITY_MIN, .max = CAPACITY_MAX, .factor = 1},
    {"clocks", "N", "Version clocks, rounded up to a power of two", "262144", OPTION_NUMBER,
     MEMBER(clock_count), .min = CLOCKS_MIN, .max = CLOCKS_MAX, .factor = 1},
    {"lease-ms", "N", "Length of the lease, milliseconds", "1000", OPTION_NUMBER, MEMBER(lease_ns),
     .min = LEASE_MS_MIN, .max = LEASE_MS_MAX, .factor = NS_PER_MS},
    {"guard-linger-ms", "N", "A guard without a sign of life counts as committed after so long",
     "30000", OPTION_NUMBER, MEMBER(linger_ns), .min = LINGER_MS_MIN, .max = LINGER_MS_MAX,
     .factor = NS_PER_MS},
    {"durability", "D", "process, or power (fsync before each answer)", "process", OPTION_CHOICE,
     MEMBER(durability), .words = "process|power"},
    {"loop", "L", "Event loop: auto, uring, epoll", "auto", OPTION_CHOICE, MEMBER(loop),
     .words = "auto|uring|epoll"},
    {"huge-pages", "H", "Huge pages for the index: auto, on (say if there are none), off", "auto",
     OPTION_CHOICE, MEMBER(huge_pages), .words = "auto|on|off"},
    {"pool-mib", "N", "Shared memory for header fields and long entity tags; 0: by capacity", "0",
     OPTION_NUMBER, MEMBER(pool_bytes), .max = POOL_MIB_MAX, .factor = MIB},
    {"map-mib", "N", "Largest size of the database; 0: by capacity", "0", OPTION_NUMBER,
     MEMBER(map_bytes), .max = MAP_MIB_MAX, .factor = MIB},
    {"log-level", "L", "debug, info, warn, error", "info", OPTION_CHOICE, MEMBER(log_level),
     .words = "debug|info|warn|error", .live = true},
    {"log-format", "F", "logfmt, json (an object a line)", "logfmt", OPTION_CHOICE,
     MEMBER(log_format), .words = "logfmt|json", .live = true},
    {"events-kept", "N", "Events that etagctl log and explain can name", "100000", OPTION_NUMBER,
     MEMBER(events_kept), .max = EVENTS_KEPT_MAX, .factor = 1},
    {"events-kept-hours", "N", "Older ones go; 0: of any age", "24", OPTION_NUMBER,
     MEMBER(events_kept_ms), .max = EVENTS_KEPT_HOURS_MAX, .factor = MS_PER_HOUR},
    {"events-kept-mib", "N", "Part of the database that they may take", "64", OPTION_NUMBER,
     MEMBER(events_kept_bytes), .min = 1, .max = EVENTS_KEPT_MIB_MAX, .factor = MIB},
    {"socket-mode", "M", "Permissions of the socket, octal", "0660", OPTION_MODE,
     MEMBER(socket_mode), .live = true},
    {"idle-ms", "N", "Connections idle for so long are closed; 0: never", "3600000", OPTION_NUMBER,
     MEMBER(idle_ns), .max = IDLE_MS_MAX, .factor = NS_PER_MS, .live = true},
};

#define OPTION_COUNT COUNT_OF(options)

/* ---- Values ---- */

#define QUOTED(s) (int)((s).len < 200 ? (s).len : 200), (s).data

/* Stores a number into a member of 4 or 8 bytes (enums are 4). */
static void member_store(struct config *config, const struct config_option *option, uint64_t value)
{
    uint8_t *member = (uint8_t *)config + option->offset;
    if (option->bytes == sizeof(uint64_t))
        store_u64(member, value);
    else
        store_u32(member, (uint32_t)value);
}

/* Digits only: no sign, no space, no overflow. */
static bool parse_digits(etag_str text, unsigned base, uint64_t *out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        const unsigned digit = (unsigned)((unsigned char)text.data[i] - '0');
        if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
    }
    *out = value;
    return text.len > 0;
}

static bool set_path(struct config *config, const struct config_option *option, etag_str value,
                     struct why *why)
{
    if (value.len == 0 || memchr(value.data, '\0', value.len))
        return why_not(why, "\"%s\" must be a path", option->name);
    if (value.len > option->max)
        return why_not(why, "\"%s\" is %zu bytes long; at most %llu are allowed", option->name,
                       value.len, (unsigned long long)option->max);
    char *member = (char *)config + option->offset;
    memcpy(member, value.data, value.len);
    member[value.len] = '\0';
    return true;
}

static bool set_choice(struct config *config, const struct config_option *option, etag_str value,
                       struct why *why)
{
    const char *word = option->words;
    for (uint64_t number = 0; *word; number++) {
        const size_t len = strcspn(word, "|");
        if (str_equal(value, (etag_str){word, len})) {
            member_store(config, option, number);
            return true;
        }
        word += len + (word[len] == '|');
    }
    return why_not(why, "\"%s\" cannot be \"%.*s\"; allowed are %s", option->name, QUOTED(value),
                   option->words);
}

bool config_option_set(struct config *config, const struct config_option *option, etag_str value,
                       struct why *why)
{
    uint64_t number;
    switch (option->kind) {
    case OPTION_PATH:
        return set_path(config, option, value, why);
    case OPTION_CHOICE:
        return set_choice(config, option, value, why);
    case OPTION_MODE:
        if (!parse_digits(value, 8, &number) || number > 0777)
            return why_not(
                why, "\"%s\" cannot be \"%.*s\"; allowed are octal permissions from 0 to 0777",
                option->name, QUOTED(value));
        member_store(config, option, number);
        return true;
    case OPTION_NUMBER:
        break;
    }
    if (!parse_digits(value, 10, &number) || number < option->min || number > option->max)
        return why_not(why,
                       "\"%s\" cannot be \"%.*s\"; allowed are whole numbers from %llu to %llu",
                       option->name, QUOTED(value), (unsigned long long)option->min,
                       (unsigned long long)option->max);
    member_store(config, option, number * option->factor);
    return true;
}

/* ---- Names ---- */

const struct config_option *config_option_at(size_t number)
{
    return number < OPTION_COUNT ? &options[number] : NULL;
}

const struct config_option *config_option_find(etag_str name)
{
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (str_equal(name, str_of(options[i].name)))
            return &options[i];
    return NULL;
}

/* ---- Flags ---- */

#define FLAG_FIRST 256 /* keys of flags without a short form */
#define ROLES_FLAGS_MAX (4 * ROLE_RULES_MAX)

enum {
    FLAG_CONFIG = FLAG_FIRST + OPTION_COUNT,
    FLAG_CHECK,
    FLAG_COLD,
    FLAG_FRESH,
    FLAG_ROLE,
    FLAG_VERSION,
    FLAG_HELP = '?',
};

/* What stands on the command line, not yet applied. */
struct flags {
    const char *config_path;
    const char *values[OPTION_COUNT];
    const char *roles[ROLES_FLAGS_MAX];
    size_t role_count;
    bool check_only, cold, fresh;
    bool answered; /* help or version */
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
    case FLAG_VERSION:
        printf("etagd %s\n", ETAG_VERSION_STRING);
        flags->answered = true;
        return ECANCELED;
    case FLAG_HELP:
        argp_state_help(state, stdout, ARGP_HELP_USAGE | ARGP_HELP_PRE_DOC | ARGP_HELP_LONG);
        flags->answered = true;
        return ECANCELED;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument \"%s\"", value);
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Flags that are no options of the file. argp shows them by group: -3, then -2, then -1. */
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
    {"help", FLAG_HELP, NULL, 0, "Print this and end", -1},
    {"version", FLAG_VERSION, NULL, 0, "Print the version and end", -1},
    {0},
};

static error_t flags_read(struct flags *flags, int argc, char **argv)
{
    struct argp_option rows[OPTION_COUNT + COUNT_OF(other_flags)];
    char docs[OPTION_COUNT][HELP_BYTES];
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        (void)snprintf(docs[i], sizeof(docs[i]), "%s (default %s)", options[i].help,
                       options[i].normal);
        rows[i] = (struct argp_option){.name = options[i].name,
                                       .key = FLAG_FIRST + (int)i,
                                       .arg = options[i].argument,
                                       .doc = docs[i]};
    }
    memcpy(rows + OPTION_COUNT, other_flags, sizeof(other_flags));
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
    struct why why;
    *config = (struct config){0};
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const bool set = config_option_set(config, &options[i], str_of(options[i].normal), &why);
        assert(set);
        (void)set;
    }
}

static bool load_file(struct config *config, const char *path, struct why *why)
{
    FILE *file CLEANUP(cleanup_file) = fopen(path ? path : CONFIG_DEFAULT_FILE, "re");
    if (!file && !path && errno == ENOENT)
        return true;
    if (!path)
        path = CONFIG_DEFAULT_FILE;
    if (!file) {
        return why_not(why, "%s: cannot be read: %s", path, strerrordesc_np(errno));
    }
    return config_file_read(config, file, path, why);
}

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
        if (!apply_role(config, flags->roles[i], &why)) {
            return why_not(mistake, "etagd: --role: %s", why.text);
        }
    return true;
}

static bool apply_flags(struct config *config, const struct flags *flags, struct why *mistake)
{
    struct why why;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (!flags->values[i] ||
            config_option_set(config, &options[i], str_of(flags->values[i]), &why))
            continue;
        return why_not(mistake, "etagd: --%s: %s", options[i].name, why.text);
    }
    config->check_only = flags->check_only;
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

static bool config_made(struct config *config, const struct flags *flags, struct why *why)
{
    config_defaults(config);
    if (!load_file(config, flags->config_path, why) || !apply_flags(config, flags, why))
        return false;
    config_derive(config);
    return true;
}

bool config_read(struct config *config, int argc, char **argv, bool *answered, struct why *why)
{
    struct flags flags = {0};
    why->text[0] = '\0';
    const error_t error = flags_read(&flags, argc, argv);
    *answered = flags.answered;
    if (error != 0)
        return false;
    if (config_made(config, &flags, why))
        return true;
    make_printable(why->text);
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
