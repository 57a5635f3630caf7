/* SPDX-License-Identifier: Apache-2.0 */
/* What workers of every role do: chances, and the key that they work on. */
#include "worker.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
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
    /* ... as Django names it, for which only the trigger speaks too where psql writes. */
    if (w->watched && key % 2 == 1)
        (void)snprintf(w->names.surrogate, NAME_BYTES, "torture.page:%" PRIu32, key);
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
