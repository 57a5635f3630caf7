/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writer that is told what to do, a line at a time, and says what came of it and how long it
 * took, as JSON:
 *
 *   invalidate TARGET...  begin TARGET...  confirm  commit  abort  forget  left  dispatch  fork
 *   TARGET: surrogate NAME, resource PATH, prefix PATH, all; also: hold MS, max MS,
 *   reach host|log|everywhere, position N
 *
 * usage: writer SOCKET TIMEOUT_MS allowed|never
 */
#include <etag/etag.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NAMES_MAX 8

struct wanted {
    etag_targets targets;
    etag_str surrogates[NAMES_MAX], families[NAMES_MAX];
    etag_resource resources[NAMES_MAX], prefixes[NAMES_MAX];
};

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static const char *word(void)
{
    return strtok(NULL, " \n");
}

static etag_reach reach_read(const char *value)
{
    return strcmp(value, "host") == 0  ? ETAG_REACH_HOST
           : strcmp(value, "log") == 0 ? ETAG_REACH_LOG
                                       : ETAG_REACH_EVERYWHERE;
}

static void targets_read(struct wanted *w)
{
    const char *kind;

    memset(w, 0, sizeof(*w));
    ETAG_INIT(&w->targets);
    w->targets.surrogates = w->surrogates;
    w->targets.resources = w->resources;
    w->targets.prefixes = w->prefixes;
    w->targets.families = w->families;
    while ((kind = word())) {
        if (strcmp(kind, "all") == 0) {
            w->targets.everything = true;
            continue;
        }
        const char *value = word();
        if (!value)
            exit(2);
        if (strcmp(kind, "surrogate") == 0)
            w->surrogates[w->targets.surrogate_count++] = etag_str_of(value);
        else if (strcmp(kind, "family") == 0)
            w->families[w->targets.family_count++] = etag_str_of(value);
        else if (strcmp(kind, "resource") == 0)
            w->resources[w->targets.resource_count++].target = etag_str_of(value);
        else if (strcmp(kind, "prefix") == 0)
            w->prefixes[w->targets.prefix_count++].target = etag_str_of(value);
        else if (strcmp(kind, "hold") == 0)
            w->targets.hold_ms = (uint32_t)atoi(value);
        else if (strcmp(kind, "max") == 0)
            w->targets.max_ms = (uint32_t)atoi(value);
        else if (strcmp(kind, "reach") == 0)
            w->targets.reach = reach_read(value);
        else if (strcmp(kind, "position") == 0)
            w->targets.position = strtoull(value, NULL, 10);
        else
            exit(2);
    }
}

static const char *status_word(etag_status status)
{
    switch (status) {
#define STATUS_CASE(name, value, text)                                                             \
    case ETAG_##name:                                                                              \
        return #name;
        ETAG_STATUSES(STATUS_CASE)
#undef STATUS_CASE
    }
    return "?";
}

/* A child's handle of its parent's guard: what it says. */
static etag_status confirm_in_child(etag_guard *guard)
{
    int raw = 0;
    const pid_t child = fork();

    if (child == 0)
        _exit((int)etag_guard_confirm(guard));
    waitpid(child, &raw, 0);
    return (etag_status)WEXITSTATUS(raw);
}

static etag_status step(etag_client *client, etag_guard **guard, const char *command,
                        etag_receipt *receipt)
{
    struct wanted wanted;

    if (strcmp(command, "invalidate") == 0) {
        targets_read(&wanted);
        return etag_invalidate(client, &wanted.targets, receipt);
    }
    if (strcmp(command, "begin") == 0) {
        targets_read(&wanted);
        return etag_guard_begin(client, &wanted.targets, guard);
    }
    if (strcmp(command, "dispatch") == 0)
        return etag_client_dispatch(client);
    if (!*guard)
        return ETAG_INVALID;
    if (strcmp(command, "confirm") == 0)
        return etag_guard_confirm(*guard);
    if (strcmp(command, "fork") == 0)
        return confirm_in_child(*guard);
    etag_guard *ending = *guard;
    *guard = NULL;
    if (strcmp(command, "commit") == 0)
        return etag_guard_commit(ending, receipt);
    if (strcmp(command, "abort") == 0)
        return etag_guard_abort(ending);
    etag_guard_forget(ending);
    return ETAG_OK;
}

int main(int argc, char **argv)
{
    etag_client_options options;
    etag_client *client;
    etag_guard *guard = NULL;
    char line[512];

    if (argc != 4)
        return 2;
    ETAG_INIT(&options);
    options.socket_path = argv[1];
    options.timeout_ms = (uint32_t)atoi(argv[2]);
    options.spool = strcmp(argv[3], "never") == 0 ? ETAG_SPOOL_NEVER : ETAG_SPOOL_ALLOWED;
    if (etag_client_open(&client, &options) != ETAG_OK)
        return 1;
    while (fgets(line, sizeof(line), stdin)) {
        const char *command = strtok(line, " \n");
        etag_receipt receipt = {.size = sizeof(receipt)};
        if (!command)
            continue;
        if (strcmp(command, "left") == 0) {
            printf("{\"left_ms\": %" PRIu32 "}\n", guard ? etag_guard_time_left_ms(guard) : 0);
            fflush(stdout);
            continue;
        }
        const double began = now_ms();
        const etag_status status = step(client, &guard, command, &receipt);
        printf("{\"status\": \"%s\", \"lsn\": %" PRIu64
               ", \"reach\": %d, \"proof\": %d, \"ms\": %.3f, \"error\": \"",
               status_word(status), receipt.lsn, (int)receipt.reach, (int)receipt.proof,
               now_ms() - began);
        for (const char *c = status == ETAG_OK ? "" : etag_client_error(client); *c; c++)
            putchar(*c == '"' || *c == '\\' ? '\'' : *c);
        printf("\"}\n");
        fflush(stdout);
    }
    etag_guard_forget(guard);
    etag_client_close(client);
    return 0;
}
