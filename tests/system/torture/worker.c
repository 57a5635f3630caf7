/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture_worker ROLE SLOT DIRECTORY SOCKET SEED [OPTION]...
 *
 * One process of a torture run, to be killed, stopped and started again at any time by the nemesis
 * (torture.py):
 *   writer     commits versions, with and without a guard, and invalidates until it is answered OK
 *   filler     token, reads the database, sometimes sleeps (a slow render), fills
 *   reader     checks, and judges the answer by the truth
 *   database   see truth.h; the only one that is left alone
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

uint64_t random_below(struct worker *w, uint64_t n)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (w->random >> 11) % n;
}

bool one_in(struct worker *w, uint64_t n)
{
    return random_below(w, n) == 0;
}

bool run_is_over(const struct worker *w)
{
    return atomic_load(&w->truth->end) != 0;
}

void names_of(struct names *names, uint32_t key)
{
    const uint32_t group = key / TRUTH_GROUP_KEYS;

    (void)snprintf(names->path, NAME_BYTES, "/t/%" PRIu32 "/%" PRIu32, group, key);
    (void)snprintf(names->surrogate, NAME_BYTES, "key:%" PRIu32, key);
    (void)snprintf(names->family, NAME_BYTES, "group%" PRIu32, group);
    (void)snprintf(names->group, NAME_BYTES, "group%" PRIu32 ":all", group);
    (void)snprintf(names->prefix, NAME_BYTES, "/t/%" PRIu32 "/", group);
}

void names_dotted(struct names *names, uint32_t key, uint64_t way)
{
    static const char *const ways[] = {"x/../", "%2e/", "x/%2E%2e/", "./", "x/..%2f", "x%2fy/../"};

    (void)snprintf(names->dotted, NAME_BYTES, "/t/%s%" PRIu32 "/%" PRIu32,
                   ways[way % (sizeof(ways) / sizeof(ways[0]))], key / TRUTH_GROUP_KEYS, key);
}

uint32_t key_pick(struct worker *w)
{
    /* A quarter of the work meets on a few keys. */
    const uint32_t key = (uint32_t)random_below(w, one_in(w, 4) ? 16 : TRUTH_KEYS);

    names_of(&w->names, key);
    ETAG_INIT(&w->key);
    w->key.resource.host = ETAG_LIT("torture.example");
    w->key.resource.target = etag_str_of(w->names.path);
    w->key.scope.kind = ETAG_SCOPE_PUBLIC;
    const bool http = one_in(w, 4);
    w->key.scheme = http ? ETAG_LIT("http") : ETAG_LIT("https");
    w->page = http ? TRUTH_KEYS + key : key;
    return key;
}

void worker_record(struct worker *w, const struct record *record)
{
    if (!history_add(&w->history, record))
        COUNT(w, history_full);
}

void worker_vanish(void)
{
    (void)raise(SIGKILL);
    _exit(1);
}

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

static int worker_run(struct worker *w, const char *socket_path, bool spool,
                      void (*step)(struct worker *))
{
    static const uint32_t timeouts_ms[] = {60, 400, 3000};
    etag_client_options options;

    slot_take(w);
    w->timeout_ms = timeouts_ms[random_below(w, sizeof(timeouts_ms) / sizeof(timeouts_ms[0]))];
    ETAG_INIT(&options);
    options.socket_path = socket_path;
    options.timeout_ms = w->timeout_ms;
    options.spool = spool ? ETAG_SPOOL_ALLOWED : ETAG_SPOOL_NEVER;
    if (etag_client_open(&w->client, &options) != ETAG_OK)
        return 1;
    while (!run_is_over(w))
        step(w);
    w->client = etag_client_close(w->client);
    atomic_store(&w->slot->state, SLOT_IDLE);
    atomic_store(&w->slot->pid, 0);
    return 0;
}

static int usage(void)
{
    (void)fprintf(stderr,
                  "usage: torture_worker make DIRECTORY\n"
                  "       torture_worker writer|filler|reader|database SLOT DIRECTORY SOCKET SEED\n"
                  "           [--no-guards] [--no-spool] [--wrong] [--sample N] [--records N] "
                  "[--bound-ms N]\n"
                  "           [--late-ms N]\n");
    return 2;
}

struct arguments {
    const char *role, *directory, *socket_path;
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
    arguments->directory = argv[3];
    arguments->socket_path = argv[4];
    w->random = (strtoull(argv[5], NULL, 10) + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    for (char **at = argv + 6; *at; at++) {
        if (strcmp(*at, "--no-guards") == 0)
            w->guards = false;
        else if (strcmp(*at, "--no-spool") == 0)
            arguments->spool = false;
        else if (strcmp(*at, "--wrong") == 0)
            w->wrong = true;
        else if (option_is("--sample", &at))
            w->sample = (uint32_t)strtoul(*at, NULL, 10);
        else if (option_is("--records", &at))
            arguments->records = strtoull(*at, NULL, 10);
        else if (option_is("--bound-ms", &at))
            w->bound_ns = strtoull(*at, NULL, 10) * NS_PER_MS;
        else if (option_is("--late-ms", &at))
            w->late_ns = strtoull(*at, NULL, 10) * NS_PER_MS;
        else
            return false;
    }
    return w->number < TRUTH_SLOTS && w->sample > 0;
}

static const struct role {
    const char *name;
    /* NULL: the database */
    void (*step)(struct worker *);
} roles[] = {
    {"writer", writer_step},
    {"filler", filler_step},
    {"reader", reader_step},
    {"database", NULL},
};

static const struct role *role_find(const char *name)
{
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
        if (strcmp(roles[i].name, name) == 0)
            return &roles[i];
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
    if (!role)
        return usage();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    w.truth = truth_open(arguments.directory);
    if (!w.truth)
        return 1;
    w.slot = &w.truth->slots[w.number];
    (void)snprintf(name, sizeof(name), "%s-%" PRIu32 "-%d", role->name, w.number, (int)getpid());
    if (!history_make(&w.history, arguments.directory, name, arguments.records))
        return 1;
    return role->step ? worker_run(&w, arguments.socket_path, arguments.spool, role->step)
                      : database_run(&w);
}
