/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of options, and where they come from. What a value may be, and how a mistake is said,
 * is the business of daemon/base, for both programs.
 */
#include "options.h"

#include "bytes.h"
#include "clocktime.h"
#include "command_line.h"
#include "config_option.h"
#include "etcd.h"
#include "text.h"

#include <stddef.h>
#include <sys/un.h>

#define OPTIONS_DEFAULT_FILE "/etc/etag-relay/etag-relay.yaml"
#define OPTIONS_COUNT 15
#define MS_PER_MINUTE UINT64_C(60000)
#define RETENTION_MINUTES_MAX (UINT64_C(366) * 24 * 60)

#define MEMBER(m) .offset = offsetof(struct options, m), .bytes = sizeof(((struct options *)0)->m)

static const struct config_option options_known[OPTIONS_COUNT] = {
    {"socket", "PATH", "Socket of the etagd beside this relay", "/run/etagd/etagd.sock",
     OPTION_PATH, MEMBER(socket_path), .max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1},
    {"engine", "E", "What the hosts have in common: postgres, etcd", "postgres", OPTION_CHOICE,
     MEMBER(engine), .words = "postgres|etcd|script"},
    {"connection", "TEXT", "Connection string of libpq; passwords are better in its password file",
     "", OPTION_TEXT, MEMBER(connection), .max = CONNECTION_BYTES_MAX - 1},
    {"endpoints", "URLS", "Members of etcd, each as https://host:2379", "", OPTION_LIST,
     MEMBER(endpoints), .max = CONNECTION_BYTES_MAX - 1},
    {"prefix", "TEXT", "Of all keys in etcd; each application has its own", "etagd/", OPTION_TEXT,
     MEMBER(prefix), .max = ETCD_PREFIX_BYTES_MAX},
    {"user", "NAME", "User of etcd", "", OPTION_TEXT, MEMBER(user), .max = USER_BYTES_MAX},
    {"password-file", "PATH", "Holds the user's password, and may not be readable by everybody", "",
     OPTION_TEXT, MEMBER(password_file), .max = PATH_BYTES_MAX - 1},
    {"ca-file", "PATH", "Authorities of etcd's certificates, PEM; empty: those of the system", "",
     OPTION_TEXT, MEMBER(ca_file), .max = PATH_BYTES_MAX - 1},
    {"cert-file", "PATH", "This host's certificate for etcd, PEM", "", OPTION_TEXT,
     MEMBER(cert_file), .max = PATH_BYTES_MAX - 1},
    {"key-file", "PATH", "Key of that certificate, PEM", "", OPTION_TEXT, MEMBER(key_file),
     .max = PATH_BYTES_MAX - 1},
    {"host", "NAME", "This host's name, which no other one has; empty: the kernel's", "",
     OPTION_TEXT, MEMBER(host), .max = ENGINE_HOST_BYTES_MAX},
    {"run-dir", "DIR", "Where metrics.prom is written; gone after a boot", "/run/etag-relay",
     OPTION_PATH, MEMBER(run_dir), .max = PATH_BYTES_MAX - 64},
    {"retention-minutes", "N", "How long mutations are kept for hosts that are away", "60",
     OPTION_NUMBER, MEMBER(retention_ms), .min = RETENTION_MINUTES_MIN,
     .max = RETENTION_MINUTES_MAX, .factor = MS_PER_MINUTE},
    {"log-level", "L", "debug, info, warn, error", "info", OPTION_CHOICE, MEMBER(log_level),
     .words = "debug|info|warn|error"},
    {"log-format", "F", "logfmt, json (an object a line)", "logfmt", OPTION_CHOICE,
     MEMBER(log_format), .words = "logfmt|json"},
};

static const struct config_table table = {.options = options_known,
                                          .count = OPTIONS_COUNT,
                                          .program = "etag-relay",
                                          .file = OPTIONS_DEFAULT_FILE,
                                          .page = "etag-relay.yaml(5)"};

/* ---- Flags ---- */

enum {
    FLAG_CONFIG = FLAG_FIRST + OPTIONS_COUNT,
    FLAG_CHECK,
};

struct flags {
    const char *config_path;
    const char *values[OPTIONS_COUNT];
    /* place in argv; 0: none */
    int command;
    bool check_only;
};

static error_t flags_parse(int key, char *value, struct argp_state *state)
{
    struct flags *const flags = state->input;

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
    case ARGP_KEY_ARG: /* the command has its own flags, after it */
        flags->command = state->next - 1;
        state->next = state->argc;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option other_flags[] = {
    {"config", FLAG_CONFIG, "FILE", 0,
     "Configuration file; without it " OPTIONS_DEFAULT_FILE " if it exists", -2},
    {"check-config", FLAG_CHECK, NULL, 0, "Check the configuration, print it as it counts, end",
     -2},
    {0},
};

static bool flags_read(struct flags *flags, int argc, char **argv, bool *answered)
{
    struct argp_option rows[OPTIONS_COUNT + COUNT_OF(other_flags)];
    char docs[OPTIONS_COUNT][CONFIG_HELP_BYTES];

    config_table_rows(&table, FLAG_FIRST, rows, docs);
    memcpy(rows + OPTIONS_COUNT, other_flags, sizeof(other_flags));
    struct command_line line = {
        .program = table.program,
        .flags = {
            .options = rows,
            .parser = flags_parse,
            .args_doc = "[setup|status|doctor|leave HOST]",
            .doc = "Carries etagd's promise to many hosts: reads what other hosts have "
                   "changed, and says what this one has. setup, status, doctor and leave: see "
                   "--help after them."}};
    const bool read = command_line_read(&line, argc, argv, flags);
    *answered = line.answered;
    return read;
}

/* ---- Loading ---- */

/* Of a name that no other keys begin with. */
static bool prefix_is_sound(const char *prefix)
{
    const size_t len = strlen(prefix);

    for (const char *c = prefix; *c; c++)
        if (*c <= ' ' || *c > '~')
            return false;
    return len > 1 && prefix[len - 1] == '/';
}

/* What options mean together. */
static bool options_agree(const struct options *options, struct why *why)
{
    struct etcd_endpoints endpoints;
    struct why wrong;

    if (options->engine != ENGINE_CHOICE_ETCD)
        return options->endpoints[0] == '\0' ||
               why_not(why, "etag-relay: \"endpoints\" are for \"engine: etcd\"");
    if (options->connection[0])
        return why_not(why, "etag-relay: \"connection\" is for \"engine: postgres\"; etcd has "
                            "\"endpoints\"");
    if (!etcd_endpoints_read(&endpoints, options->endpoints, &wrong))
        return why_not(why, "etag-relay: \"endpoints\": %s", wrong.text);
    if (!prefix_is_sound(options->prefix))
        return why_not(why,
                       "etag-relay: \"prefix\" cannot be \"%s\": it is printable, without "
                       "blanks, and ends in \"/\"",
                       options->prefix);
    if (!options->user[0] != !options->password_file[0])
        return why_not(why, "etag-relay: \"user\" and \"password-file\" go together");
    return !options->cert_file[0] == !options->key_file[0] ||
           why_not(why, "etag-relay: \"cert-file\" and \"key-file\" go together");
}

const struct engine_kind *options_engine_kind(const struct options *options)
{
    static const struct engine_kind *const kinds[] = {
        [ENGINE_CHOICE_POSTGRES] = &engine_postgres,
        [ENGINE_CHOICE_ETCD] = &engine_etcd,
        [ENGINE_CHOICE_SCRIPT] = &engine_script,
    };

    return kinds[options->engine];
}

struct engine_options options_of_engine(const struct options *options)
{
    return (struct engine_options){
        .connection = options->engine == ENGINE_CHOICE_ETCD ? options->endpoints
                                                            : options->connection,
        .prefix = options->prefix,
        .user = options->user,
        .password_file = options->password_file,
        .ca_file = options->ca_file,
        .cert_file = options->cert_file,
        .key_file = options->key_file,
        .host = str_of(options->host),
    };
}

static bool options_made(struct options *options, const struct flags *flags, struct why *why)
{
    *options = (struct options){.check_only = flags->check_only};
    config_table_defaults(&table, options);
    if (!config_table_file(&table, options, flags->config_path, why) ||
        !config_table_flags(&table, options, flags->values, why))
        return false;
    if (options->host[0] == '\0' && gethostname(options->host, sizeof(options->host) - 1) < 0)
        return why_not(why, "etag-relay: this host has no name: set the option host");
    return options_agree(options, why);
}

int options_load(struct options *out, int argc, char **argv)
{
    struct flags flags = {0};
    struct why why = {""};
    bool answered;

    if (!flags_read(&flags, argc, argv, &answered))
        return answered ? 1 : -1;
    if (!options_made(out, &flags, &why)) {
        config_make_printable(why.text);
        (void)fprintf(stderr, "%s\n", why.text);
        return -1;
    }
    if (flags.command > 0) {
        out->command = argv[flags.command];
        out->command_argc = argc - flags.command;
        out->command_argv = argv + flags.command;
    }
    return 0;
}

void options_print(const struct options *options, FILE *out)
{
    for (size_t i = 0; i < OPTIONS_COUNT; i++)
        config_option_print(options, &options_known[i], out);
}
