/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target without libFuzzer: replay CORPUS_DIRECTORY ROUNDS. First every seed as it is,
 * then ROUNDS inputs made of them: pieces of one seed put into another, repeated, cut out, bytes
 * replaced. The random numbers have a fixed seed, so a run is the same every time; the input of a
 * crash is printed before it dies.
 */
#include "fuzz.h"

#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define SEEDS_MAX 256
#define INPUT_BYTES_MAX 2048

struct input {
    size_t len;
    uint8_t bytes[INPUT_BYTES_MAX];
};

struct replay {
    struct input seeds[SEEDS_MAX];
    size_t seed_count;
    uint64_t random;
};

static uint64_t next_random(struct replay *r)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return r->random >> 11;
}

static size_t below(struct replay *r, size_t bound)
{
    return bound ? (size_t)(next_random(r) % bound) : 0;
}

/* Replaces removed bytes of input at 'at' by len others, as far as there is room. */
static void splice(struct input *input, size_t at, size_t removed, const uint8_t *bytes, size_t len)
{
    const size_t behind = input->len - at - removed;

    if (at + len + behind > INPUT_BYTES_MAX)
        return;
    memmove(input->bytes + at + len, input->bytes + at + removed, behind);
    if (len > 0)
        memcpy(input->bytes + at, bytes, len);
    input->len = at + len + behind;
}

static void mutate(struct replay *r, struct input *input)
{
    static const char interesting[] = "\"*,/W \t\\\n\r:0159-?+aGT\x7f\x80\xff\x01";
    const size_t at = below(r, input->len + 1);
    const size_t behind = input->len - at;
    const struct input other = r->seeds[below(r, r->seed_count)];
    const size_t from = below(r, other.len + 1);
    const size_t len = below(r, (other.len - from < 40 ? other.len - from : 40) + 1);
    const uint8_t byte = (uint8_t)interesting[below(r, sizeof(interesting))];

    switch (below(r, 5)) {
    case 0: /* a piece of another seed, in place of as much or in between */
        splice(input, at, below(r, 2) ? (len < behind ? len : behind) : 0, other.bytes + from, len);
        break;
    case 1: /* a piece cut out */
        splice(input, at, below(r, (behind < 20 ? behind : 20) + 1), NULL, 0);
        break;
    case 2: /* a byte more */
        splice(input, at, 0, &byte, 1);
        break;
    default: /* a byte replaced */
        if (behind > 0)
            input->bytes[at] = below(r, 4) ? byte : (uint8_t)next_random(r);
        break;
    }
}

/* The target gets a block of the input's size, so that ASan sees a read behind it. */
static void run(const struct input *input)
{
    uint8_t *exact = malloc(input->len ? input->len : 1);

    fuzz_require(exact);
    memcpy(exact, input->bytes, input->len);
    (void)LLVMFuzzerTestOneInput(exact, input->len);
    free(exact);
}

static void seeds_load(struct replay *r, const char *path)
{
    struct dirent **names = NULL;
    const int count = scandir(path, &names, NULL, alphasort);

    if (count < 0) {
        perror(path);
        exit(2);
    }
    for (int i = 0; i < count; i++) {
        char file_path[4096];
        snprintf(file_path, sizeof(file_path), "%s/%s", path, names[i]->d_name);
        FILE *file = names[i]->d_name[0] == '.' ? NULL : fopen(file_path, "re");
        if (file && r->seed_count < SEEDS_MAX) {
            struct input *seed = &r->seeds[r->seed_count++];
            seed->len = fread(seed->bytes, 1, sizeof(seed->bytes), file);
        }
        if (file)
            fclose(file);
        free(names[i]);
    }
    free(names);
}

/* The only input alive while a target runs; the handler has no other way to it. */
static struct input current;

static void on_abort(int signal_number)
{
    (void)signal_number;
    static const char head[] = "replay: the input, between the lines\n----\n", tail[] = "\n----\n";
    ssize_t written = write(STDERR_FILENO, head, sizeof(head) - 1);
    written += write(STDERR_FILENO, current.bytes, current.len);
    written += write(STDERR_FILENO, tail, sizeof(tail) - 1);
    _exit(written > 0 ? 1 : 2);
}

int main(int argc, char **argv)
{
    static struct replay r = {.random = UINT64_C(0x2545f4914f6cdd1d)};

    if (argc != 3) {
        fprintf(stderr, "usage: %s CORPUS_DIRECTORY ROUNDS\n", argv[0]);
        return 2;
    }
    seeds_load(&r, argv[1]);
    if (r.seed_count == 0) {
        fprintf(stderr, "%s: no seeds\n", argv[1]);
        return 2;
    }
    signal(SIGABRT, on_abort);
    for (size_t i = 0; i < r.seed_count; i++) {
        current = r.seeds[i];
        run(&current);
    }
    const unsigned long rounds = strtoul(argv[2], NULL, 10);
    for (unsigned long i = 0; i < rounds; i++) {
        current = r.seeds[below(&r, r.seed_count)];
        for (size_t n = 1 + below(&r, 4); n > 0; n--)
            mutate(&r, &current);
        run(&current);
    }
    printf("%zu seeds and %lu inputs made of them\n", r.seed_count, rounds);
    return 0;
}
