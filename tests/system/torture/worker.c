/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture_worker, torture_hosts_worker ROLE SLOT DIRECTORY SOCKET SEED [OPTION]...
 *
 * One process of a torture run, to be killed, stopped and started again at any time by the nemesis.
 * The roles are in roles.c and hosts/roles.c.
 * make: makes the truth file, and ends.
 */
#include "worker.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- One process ---- */

/* A former process of this slot may have left a transaction: the database ends it. */
static void slot_take(struct worker *w)
{
    int32_t nobody = 0;

    while (!atomic_compare_exchange_strong(&w->slot->pid, &nobody, getpid())) {
        if (run_is_over(w))
            exit(0);
        nobody = 0;
        sleep_ns(NS_PER_MS);
    }
}

static etag_status client_open(struct worker *w, const char *socket_path, bool spool)
{
    static const uint32_t timeouts_ms[] = {60, 400, 3000};
    etag_client_options options;

    if (w->timeout_ms == 0)
        w->timeout_ms = timeouts_ms[random_below(w, sizeof(timeouts_ms) / sizeof(timeouts_ms[0]))];
    ETAG_INIT(&options);
    options.socket_path = socket_path;
    options.timeout_ms = w->timeout_ms;
    options.spool = spool ? ETAG_SPOOL_ALLOWED : ETAG_SPOOL_NEVER;
    return etag_client_open(&w->client, &options);
}

static int worker_run(struct worker *w, const struct role *role, const char *socket_path,
                      bool spool)
{
    if (role->transacts)
        slot_take(w);
    if (client_open(w, socket_path, spool) != ETAG_OK)
        return 1;
    while (!run_is_over(w))
        role->step(w);
    w->client = etag_client_close(w->client);
    if (role->end)
        role->end(w);
    atomic_store(&w->slot->state, SLOT_IDLE);
    atomic_store(&w->slot->pid, 0);
    return 0;
}

static int usage(void)
{
    (void)fprintf(stderr,
                  "usage: torture_worker make DIRECTORY\n"
                  "       torture_worker ROLE SLOT DIRECTORY SOCKET SEED\n"
                  "           [--no-guards] [--no-spool] [--wrong] [--sample N] [--records N] "
                  "[--bound-ms N]\n"
                  "           [--late-ms N] [--timeout-ms N] [--database CONNECTION] "
                  "[--follow-ms N]\n"
                  "           [--watched] [--program PATH] [--script PATH]\n"
                  "roles:");
    for (const struct role *role = roles; role->name; role++)
        (void)fprintf(stderr, " %s", role->name);
    (void)fprintf(stderr, "\n");
    return 2;
}

struct arguments {
    const char *role, *socket_path;
    uint64_t records;
    bool spool;
};

/* "--name VALUE": moves on to the value. */
static bool option_is(const char *name, char ***at)
{
    if (strcmp(**at, name) != 0 || !(*at)[1])
        return false;
    ++*at;
    return true;
}

static bool arguments_parse(struct worker *w, struct arguments *arguments, char **argv)
{
    arguments->role = argv[1];
    w->number = (uint32_t)strtoul(argv[2], NULL, 10);
    w->directory = argv[3];
    arguments->socket_path = argv[4];
    w->random = (strtoull(argv[5], NULL, 10) + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    for (char **at = argv + 6; *at; at++) {
        if (strcmp(*at, "--no-guards") == 0)
            w->guards = false;
        else if (strcmp(*at, "--no-spool") == 0)
            arguments->spool = false;
        else if (strcmp(*at, "--wrong") == 0)
            w->wrong = true;
        else if (strcmp(*at, "--watched") == 0)
            w->watched = true;
        else if (option_is("--sample", &at))
            w->sample = (uint32_t)strtoul(*at, NULL, 10);
        else if (option_is("--records", &at))
            arguments->records = strtoull(*at, NULL, 10);
        else if (option_is("--bound-ms", &at))
            w->bound_ns = strtoull(*at, NULL, 10) * NS_PER_MS;
        else if (option_is("--late-ms", &at))
            w->late_ns = strtoull(*at, NULL, 10) * NS_PER_MS;
        else if (option_is("--timeout-ms", &at))
            w->timeout_ms = (uint32_t)strtoul(*at, NULL, 10);
        else if (option_is("--database", &at))
            w->database = *at;
        else if (option_is("--program", &at))
            w->program = *at;
        else if (option_is("--script", &at))
            w->script = *at;
        else if (option_is("--follow-ms", &at))
            w->follow_ns = strtoull(*at, NULL, 10) * NS_PER_MS;
        else
            return false;
    }
    return w->number < TRUTH_SLOTS && w->sample > 0;
}

static const struct role *role_find(const char *name)
{
    for (const struct role *role = roles; role->name; role++)
        if (strcmp(role->name, name) == 0)
            return role;
    return NULL;
}

int main(int argc, char **argv)
{
    struct worker w = {
        .guards = true, .sample = 1, .bound_ns = 1000 * NS_PER_MS, .late_ns = UINT64_MAX};
    struct arguments arguments = {.records = 1 << 20, .spool = true};
    char name[NAME_BYTES];

    if (argc == 3 && strcmp(argv[1], "make") == 0)
        return truth_make(argv[2]) ? 0 : 1;
    if (argc < 6 || !arguments_parse(&w, &arguments, argv))
        return usage();
    const struct role *role = role_find(arguments.role);
    if (!role || (role->begin && !role->begin(&w)))
        return usage();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    w.truth = truth_open(w.directory);
    if (!w.truth)
        return 1;
    w.slot = &w.truth->slots[w.number];
    (void)snprintf(name, sizeof(name), "%s-%" PRIu32 "-%d", role->name, w.number, (int)getpid());
    if (!history_make(&w.history, w.directory, name, arguments.records))
        return 1;
    return role->step ? worker_run(&w, role, arguments.socket_path, arguments.spool)
                      : role->run(&w);
}
