/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain files, mapped: what a process wrote before it was killed is there. A record's count is
 * raised after its bytes, so a history that ends in the middle of one ends before it.
 */
#include "truth.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void *map_file(const char *path, int flags, size_t bytes)
{
    const int fd = open(path, flags | O_CLOEXEC, 0600);
    struct stat st;
    void *mapped = MAP_FAILED;

    if (fd >= 0 && ((flags & O_CREAT) == 0 || ftruncate(fd, (off_t)bytes) == 0) &&
        fstat(fd, &st) == 0 && (size_t)st.st_size >= bytes)
        mapped = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        perror(path);
    if (fd >= 0)
        close(fd);
    return mapped == MAP_FAILED ? NULL : mapped;
}

static struct truth *truth_map(const char *directory, int flags)
{
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/truth", directory);
    struct truth *truth = map_file(path, flags, sizeof(*truth));
    if (truth && (flags & O_CREAT) == 0 && truth->magic != TRUTH_MAGIC) {
        (void)fprintf(stderr, "%s: not a truth file of this build\n", path);
        return NULL;
    }
    return truth;
}

struct truth *truth_make(const char *directory)
{
    struct truth *truth = truth_map(directory, O_RDWR | O_CREAT | O_EXCL);

    if (truth)
        truth->magic = TRUTH_MAGIC;
    return truth;
}

struct truth *truth_open(const char *directory)
{
    return truth_map(directory, O_RDWR);
}

/* ---- History ---- */

static size_t history_bytes(uint64_t capacity)
{
    return sizeof(struct history_head) + capacity * sizeof(struct record);
}

bool history_make(struct history *history, const char *directory, const char *name,
                  uint64_t capacity)
{
    char made[512];
    char path[512];

    /* It may be killed at any point: what has the name is whole. */
    (void)snprintf(made, sizeof(made), "%s/new-%s", directory, name);
    (void)snprintf(path, sizeof(path), "%s/history-%s", directory, name);
    history->head = map_file(made, O_RDWR | O_CREAT | O_EXCL, history_bytes(capacity));
    if (!history->head)
        return false;
    history->head->magic = HISTORY_MAGIC;
    history->head->capacity = capacity;
    history->records = (struct record *)(history->head + 1);
    return rename(made, path) == 0;
}

bool history_open(struct history *history, const char *path)
{
    history->head = map_file(path, O_RDWR, sizeof(struct history_head));
    if (!history->head)
        return false;
    history->records = (struct record *)(history->head + 1);
    return history->head->magic == HISTORY_MAGIC;
}

void history_close(struct history *history)
{
    if (history->head)
        munmap(history->head, history_bytes(history->head->capacity));
    *history = (struct history){0};
}

bool history_add(struct history *history, const struct record *record)
{
    const uint64_t count = atomic_load_explicit(&history->head->count, memory_order_relaxed);

    if (count == history->head->capacity)
        return false;
    history->records[count] = *record;
    atomic_store_explicit(&history->head->count, count + 1, memory_order_release);
    return true;
}

/* ---- Time and words ---- */

uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 * NS_PER_MS + (uint64_t)t.tv_nsec;
}

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){(time_t)(ns / (1000 * NS_PER_MS)), (long)(ns % (1000 * NS_PER_MS))};
}

void sleep_ns(uint64_t ns)
{
    const struct timespec t = timespec_of(ns);

    nanosleep(&t, NULL);
}

void word_wait(_Atomic uint32_t *word, uint32_t value, uint64_t ns)
{
    const struct timespec t = timespec_of(ns);

    syscall(SYS_futex, word, FUTEX_WAIT, value, &t, NULL, 0);
}

void word_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

void raise_to(_Atomic uint64_t *word, uint64_t value)
{
    uint64_t now = atomic_load(word);

    while (now < value && !atomic_compare_exchange_weak(word, &now, value))
        ;
}

enum outcome row_outcome(const struct row *row, uint64_t version)
{
    const uint64_t word = atomic_load(&row->outcomes[version % OUTCOMES_KEPT]);

    return word >> 3 == version ? (enum outcome)(word & 7) : OUTCOME_NONE;
}

void row_outcome_set(struct row *row, uint64_t version, enum outcome outcome)
{
    atomic_store(&row->outcomes[version % OUTCOMES_KEPT], version << 3 | (uint64_t)outcome);
}
