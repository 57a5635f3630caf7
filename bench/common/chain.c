/* SPDX-License-Identifier: Apache-2.0 */
#include "chain.h"

#include "figures.h"
#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_BYTES ((size_t)2 << 20)
#define MADVISE_COLLAPSE 25

struct line {
    /* line number */
    uint64_t next;
    uint8_t rest[56];
};

struct chain {
    struct line *lines;
    size_t bytes, line_count;
    uint64_t at;
};

/* Shared, as the index is, and at an address that huge pages can back. */
static void *region_map(size_t bytes)
{
    const int fd = memfd_create("chain", MFD_CLOEXEC);
    uint8_t *start = mmap(NULL, bytes + HUGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0 || start == MAP_FAILED)
        bench_die("the region for plain loads", strerror(errno));
    uint8_t *base = start + (-(uintptr_t)start & (HUGE_BYTES - 1));
    if (mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
        bench_die("the region for plain loads", strerror(errno));
    close(fd);
    return base;
}

struct chain *chain_open(size_t bytes, bool huge_pages)
{
    struct chain *c = memory_new(1, sizeof(*c));
    uint64_t seed = 1;

    c->bytes = bytes / HUGE_BYTES * HUGE_BYTES + HUGE_BYTES;
    c->line_count = c->bytes / sizeof(struct line);
    c->lines = region_map(c->bytes);
    for (size_t i = 0; i < c->line_count; i++)
        c->lines[i].next = i;
    if (huge_pages)
        madvise(c->lines, c->bytes, MADVISE_COLLAPSE);
    /* Sattolo's shuffle: one cycle through all. */
    for (size_t i = c->line_count - 1; i > 0; i--) {
        const size_t other = random_below(&seed, i);
        const uint64_t next = c->lines[i].next;
        c->lines[i].next = c->lines[other].next;
        c->lines[other].next = next;
    }
    return c;
}

void chain_close(struct chain *c)
{
    munmap(c->lines, c->bytes);
    free(c);
}

void chain_run(struct chain *c, size_t loads)
{
    uint64_t at = c->at;

    for (size_t i = 0; i < loads; i++)
        at = __atomic_load_n(&c->lines[at].next, __ATOMIC_RELAXED);
    c->at = at;
}

unsigned chain_huge_percent(const struct chain *c)
{
    FILE *smaps = fopen("/proc/self/smaps", "re");
    char line[512];
    uint64_t start = 0, mapped_kib = 0;

    while (smaps && fgets(line, sizeof(line), smaps)) {
        char *end;
        const uint64_t number = strtoull(line, &end, 16);
        if (*end == '-') /* the first line of a mapping begins with its addresses */
            start = number;
        else if (start == (uintptr_t)c->lines && strncmp(line, "ShmemPmdMapped:", 15) == 0)
            mapped_kib = strtoull(line + 15, NULL, 10);
    }
    if (smaps)
        fclose(smaps);
    return (unsigned)(mapped_kib * 1024 * 100 / c->bytes);
}
