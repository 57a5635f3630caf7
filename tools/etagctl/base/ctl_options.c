/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line. getopt_long does the parsing; the tables that it gets and the help are both
 * made from the commands' tables. Global options may come before or after the command's name.
 */
#include "ctl.h"
#include "ctl_output.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#define OPTIONS_MAX 24

enum { KEY_SOCKET = 2000, KEY_TIMEOUT, KEY_JSON, KEY_HELP, KEY_VERSION };

static const struct ctl_option global_options[] = {
    {KEY_SOCKET, "socket", "PATH", "default: $ETAGD_SOCKET or /run/etagd/etagd.sock"},
    {KEY_TIMEOUT, "timeout-ms", "N", "longest wait for the daemon (default 5000)"},
    {KEY_JSON, "json", NULL, "output for programs; errors too"},
    {KEY_HELP, "help", NULL, "this text"},
    {KEY_VERSION, "version", NULL, "print the version"},
    {0},
};

static const struct ctl_option key_options[] = {
    {CTL_KEY_SCOPE, "scope", "S", "public (default), or whose it is: customer:7"},
    {CTL_KEY_RELEASE, "release", "R", "the application's release, if its keys have one"},
    {CTL_KEY_SCHEME, "scheme", "S", "http or https, if its keys have one (nginx, Django)"},
    {CTL_KEY_VARY, "vary", "'Name: value'", "selecting request header; 'Name' alone: absent"},
    {0},
};

const struct ctl_command *const ctl_commands[] = {
#define COMMAND_ADDRESS(name) &ctl_##name,
    CTL_COMMANDS(COMMAND_ADDRESS)
#undef COMMAND_ADDRESS
        NULL};

/* ---- Help ---- */

static void print_options(const char *title, const struct ctl_option *options)
{
    if (!options)
        return;
    printf("\n%s:\n", title);
    for (; options->name; options++) {
        char left[64];
        snprintf(left, sizeof(left), "--%s%s%s", options->name, options->value ? " " : "",
                 options->value ? options->value : "");
        printf("  %-24s %s\n", left, options->help);
    }
}

static void print_help(const struct ctl *ctl)
{
    const struct ctl_command *command = ctl->command;

    if (command) {
        printf("Usage: etagctl %s [OPTION]...%s%s\n\n%s.\n", command->name,
               command->arguments[0] ? " " : "", command->arguments, command->summary);
        if (command->details)
            printf("\n%s\n", command->details);
        print_options("Options", command->options);
        if (command->takes_key) {
            print_options("KEY is [//host]/path[?query], with", key_options);
        }
    } else {
        printf("Usage: etagctl [OPTION]... COMMAND [OPTION]... [ARGUMENT]...\n\n"
               "Looks into etagd, and does by hand what front ends and write paths do.\n\n"
               "Commands:\n");
        for (const struct ctl_command *const *one = ctl_commands; *one; one++)
            printf("  %-12s %s\n", (*one)->name, (*one)->summary);
        printf("\netagctl COMMAND --help says more.\n");
    }
    print_options("Global options, before or after the command", global_options);
    printf("\nExit status: %s\n", command && command->exit_status
                                      ? command->exit_status
                                      : "0 done, 1 not found or refused, 2 error.");
}

/* ---- Mistakes ---- */

int ctl_usage_error(struct ctl *ctl, const char *format, ...)
{
    char text[512], hint[600];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    const char *name = ctl->command ? ctl->command->name : "";
    snprintf(hint, sizeof(hint), "%s (see etagctl %s%s--help)", text, name, name[0] ? " " : "");
    output_error(ctl, "usage", hint);
    ctl->exit_status = CTL_ERROR;
    return CTL_ERROR;
}

const char *ctl_socket_path(const struct ctl *ctl)
{
    const char *path = ctl->socket_path ? ctl->socket_path : getenv("ETAGD_SOCKET");

    return path && path[0] ? path : "/run/etagd/etagd.sock";
}

/* Advice if the daemon cannot be reached. */
static const char *unavailable_advice(const struct ctl *ctl)
{
    if (access(ctl_socket_path(ctl), W_OK) < 0 && errno == EACCES)
        return "; only root and members of the socket's group may connect (ls -l shows it; usermod "
               "-aG "
               "GROUP USER, and log in again)";
    return "; is etagd running and not stopped, and is this its socket? (--socket PATH or "
           "ETAGD_SOCKET)";
}

int ctl_fail(const struct ctl *ctl, etag_status status, const char *text)
{
    static const char *const words[] = {
#define STATUS_WORD(name, value, sentence) [value] = #name,
        ETAG_STATUSES(STATUS_WORD)
#undef STATUS_WORD
    };
    char word[32] = "";
    const char *advice = "";

    for (size_t i = 0; words[status][i] != '\0' && i < sizeof(word) - 1; i++)
        word[i] = words[status][i] == '_' ? '_' : (char)(words[status][i] | 0x20);
    if (status == ETAG_UNAVAILABLE)
        advice = unavailable_advice(ctl);
    else if (status == ETAG_TIMEOUT)
        advice = "; is etagd stopped? (--timeout-ms N waits longer)";
    CLEANUP(cleanup_free) char *whole = NULL;
    if (asprintf(&whole, "%s%s", text && text[0] ? text : etag_status_text(status), advice) < 0)
        whole = NULL;
    output_error(ctl, word, whole ? whole : etag_status_text(status));
    return status == ETAG_NOT_FOUND || status == ETAG_REFUSED ? CTL_NO : CTL_ERROR;
}

bool ctl_number(struct ctl *ctl, const char *option, const char *text, uint64_t max, uint64_t *out)
{
    char *end = NULL;
    const uint64_t value = strtoull(text, &end, 10);

    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value > max) {
        ctl_usage_error(ctl, "--%s %s: want a number from 0 to %" PRIu64, option, text, max);
        return false;
    }
    *out = value;
    return true;
}

bool ctl_want_arguments(struct ctl *ctl, int wanted)
{
    if (ctl->argc == wanted)
        return true;
    if (wanted == 0)
        ctl_usage_error(ctl, "takes no argument");
    else
        ctl_usage_error(ctl, "want %s", ctl->command->arguments);
    return false;
}

/* ---- Parsing ---- */

struct option_list {
    struct option list[OPTIONS_MAX + 1];
    int count;
};

static void add_options(struct option_list *all, const struct ctl_option *options)
{
    for (; options && options->name && all->count < OPTIONS_MAX; options++)
        all->list[all->count++] = (struct option){options->name,
                                                  !options->value            ? no_argument
                                                  : options->value[0] == '[' ? optional_argument
                                                                             : required_argument,
                                                  NULL, options->key};
}

/* True: it was a global option and the next one may come. False: stop. */
static bool take_global(struct ctl *ctl, int key, const char *value)
{
    uint64_t number;

    switch (key) {
    case KEY_SOCKET:
        ctl->socket_path = value;
        return true;
    case KEY_TIMEOUT:
        if (!ctl_number(ctl, "timeout-ms", value, 86400000, &number))
            return false;
        ctl->timeout_ms = number ? (uint32_t)number : 1;
        return true;
    case KEY_JSON:
        ctl->json = true;
        return true;
    case KEY_VERSION:
        printf("etagctl " ETAG_VERSION_STRING "\n");
        break;
    default:
        print_help(ctl);
        break;
    }
    ctl->exit_status = CTL_DONE;
    return false;
}

static bool option_put(struct ctl *ctl, const struct ctl_option *option, void *into,
                       const char *value)
{
    assert(into);
    void *const place = (char *)into + option->offset;
    switch (option->kind) {
    case OPTION_FLAG:
        *(bool *)place = true;
        return true;
    case OPTION_TEXT:
        *(const char **)place = value;
        return true;
    default:
        return ctl_number(ctl, option->name, value, option->max, place);
    }
}

static bool option_take(struct ctl *ctl, int key, const char *value, ctl_take *take, void *into)
{
    const struct ctl_option *option = ctl->command ? ctl->command->options : NULL;

    if (key >= KEY_SOCKET)
        return take_global(ctl, key, value);
    while (option && option->name && option->key != key)
        option++;
    if (option && option->kind != OPTION_TAKEN)
        return option_put(ctl, option, into, value);
    assert(take); /* the command's table says which options it gets */
    return take(ctl, into, key, value);
}

bool ctl_parse(struct ctl *ctl, ctl_take *take, void *into)
{
    const bool stops = !ctl->command || ctl->command->takes_command;
    struct option_list all = {.count = 0};
    int key;

    add_options(&all, global_options);
    if (ctl->command)
        add_options(&all, ctl->command->options);
    if (ctl->command && ctl->command->takes_key)
        add_options(&all, key_options);
    opterr = optind = 0;
    do {
        const int at = optind;
        key = getopt_long(ctl->argc, ctl->argv, stops ? "+:" : ":", all.list, NULL);
        if (key == '?' || key == ':') {
            ctl_usage_error(ctl, "%s: %s", ctl->argv[optind > at ? optind - 1 : at],
                            key == ':' ? "its value is missing" : "no such option");
            return false;
        }
        if (key != -1 && !option_take(ctl, key, optarg, take, into))
            return false;
    } while (key != -1);
    ctl->argc -= optind;
    ctl->argv += optind;
    return true;
}

bool ctl_no_options(struct ctl *ctl)
{
    return ctl_parse(ctl, NULL, NULL) && ctl_want_arguments(ctl, 0);
}
