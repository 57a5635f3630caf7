/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Only in builds with ETAGD_DELAYS. Threads share only the environment: each has its own random
 * numbers and reads the environment each time, which is slow, and may be, since the point is to
 * delay.
 */
#include "delay_point.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t random_below(uint64_t n)
{
    static _Thread_local uint64_t state;

    if (state == 0) {
        const char *seed = getenv("ETAGD_DELAY_SEED");
        state = ((seed ? strtoull(seed, NULL, 10) : 0) ^ (uint64_t)gettid()) *
                    UINT64_C(0x9e3779b97f4a7c15) |
                1;
    }
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return n > 0 ? (state >> 11) % n : 0;
}

/* The entry "NAME:MAX_US:ONE_IN" of this name; false: there is none. */
static bool entry_find(const char *entries, const char *name, uint64_t *max_us, uint64_t *one_in)
{
    const size_t len = strlen(name);
    char *end;

    for (const char *entry = entries; entry; entry = strchr(entry, ',')) {
        entry += *entry == ',';
        if (strncmp(entry, name, len) != 0 || entry[len] != ':')
            continue;
        *max_us = strtoull(entry + len + 1, &end, 10);
        *one_in = *end == ':' ? strtoull(end + 1, NULL, 10) : 1;
        return true;
    }
    return false;
}

void delay_point(const char *name)
{
    const char *entries = getenv("ETAGD_DELAY_POINTS");
    uint64_t max_us, one_in;

    if (!entries ||
        (!entry_find(entries, name, &max_us, &one_in) &&
         !entry_find(entries, "*", &max_us, &one_in)) ||
        random_below(one_in) != 0)
        return;
    const uint64_t us = random_below(max_us + 1);
    const struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    nanosleep(&t, NULL);
}
