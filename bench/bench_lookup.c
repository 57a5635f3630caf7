/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long one lookup takes, beside the least that memory allows: one dependent random load from a region of the same
 * size on pages of the same kind. Both stand on the same machine at the same moment, in alternating rounds, so their
 * ratio says more than the nanoseconds do.
 *
 *   load     pointer chase over a random cycle of cache lines, as many bytes as slots and details take
 *   lookup   shm_find and shm_newer_clock for a known fingerprint
 *   key      the same from strings: key_canonicalize and key_fingerprint first
 *
 * Keys are uniformly random. Each one's place in the list of samples depends on what the previous lookup loaded, so
 * that lookups cannot overlap. This is the one benchmark that reaches below the public interface.
 */
#include "clocktime.h"
#include "index.h"
#include "key.h"
#include "text.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define SAMPLES (1u << 18)
#define ROUNDS_MAX 99
#define CLOCKS (1u << 18)
#define TARGET_TEXT_BYTES 48

static const uint8_t hash_key[SIPHASH_KEY_BYTES] = "benchmark of key";

struct line {
    uint64_t next; /* line number */
    uint8_t rest[56];
};

struct sample {
    struct hash128 fingerprint;
    char target[TARGET_TEXT_BYTES];
};

struct bench {
    struct index *index;
    uint64_t entry_count;
    struct line *lines;
    size_t line_bytes;
    uint64_t line_count, line_at;
    struct sample *samples;
    struct key key;
    uint64_t seed;
    uint64_t failures; /* lookups that did not find */
};

/* splitmix64 */
static uint64_t random_next(uint64_t *seed)
{
    uint64_t x = *seed += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t random_below(uint64_t *seed, uint64_t end)
{
    return (uint64_t)(((unsigned __int128)random_next(seed) * end) >> 64);
}

static void fail(const char *what, int error)
{
    fprintf(stderr, "bench_lookup: %s: %s\n", what, strerror(error));
    exit(2);
}

/* ---- Preparing ----------------------------------------------------------------------------------- */

static void target_of(char out[TARGET_TEXT_BYTES], uint64_t number)
{
    snprintf(out, TARGET_TEXT_BYTES, "/v1/uploads/%" PRIu64 "?view=full", number);
}

static struct hash128 fingerprint_of(struct key *scratch, const char *target)
{
    etag_key key;
    ETAG_INIT(&key);
    key.resource = (etag_resource){ETAG_LIT("api.example.com"), str_of(target)};
    key.scope = (etag_scope){ETAG_SCOPE_NAMED, ETAG_LIT("customer:7")};
    const char *const wrong = key_canonicalize(scratch, &key);
    return wrong ? (struct hash128){0} : key_fingerprint(hash_key, scratch);
}

static void put_entry(struct bench *b, uint64_t number)
{
    const struct kept_field fields[] = {
        {.field = {ETAG_LIT("Cache-Control"), ETAG_LIT("max-age=60, must-revalidate")}},
        {.field = {ETAG_LIT("Vary"), ETAG_LIT("Authorization")}},
    };
    char target[TARGET_TEXT_BYTES], upload[32], customer[32], etag[32];
    target_of(target, number);
    snprintf(upload, sizeof(upload), "upload:%" PRIu64, number);
    snprintf(customer, sizeof(customer), "customer:%" PRIu64, number % 1000);
    snprintf(etag, sizeof(etag), "\"%016" PRIx64 "\"", number);
    const struct hash128 fingerprint = fingerprint_of(&b->key, target);
    const struct resource *const resource = &b->key.resource;
    const uint32_t clocks[] = {
        clock_of_resource(hash_key, CLOCKS, resource),
        clock_of_prefix(hash_key, CLOCKS, resource, strlen("/")),
        clock_of_prefix(hash_key, CLOCKS, resource, strlen("/v1/")),
        clock_of_prefix(hash_key, CLOCKS, resource, strlen("/v1/uploads/")),
        clock_of_surrogate(hash_key, CLOCKS, str_of(upload)),
        clock_of_surrogate(hash_key, CLOCKS, str_of(customer)),
    };
    const struct index_entry entry = {
        .fingerprint = fingerprint,
        .fill_lsn = 1,
        .expires_ns = UINT64_MAX,
        .last_modified = ETAG_NO_DATE,
        .etag = str_of(etag),
        .fields = fields,
        .field_count = sizeof(fields) / sizeof(fields[0]),
        .clocks = clocks,
        .clock_count = sizeof(clocks) / sizeof(clocks[0]),
    };
    struct hash128 evicted;
    if (index_put(b->index, &entry, 0, &evicted) != INDEX_STORED)
        fail("an entry found no room", ENOSPC);
}

static void make_index(struct bench *b, bool huge)
{
    struct index_options options = {.plan = {.capacity = b->entry_count, .clock_count = CLOCKS},
                                    .incarnation_id = 1};
    memcpy(options.hash_key, hash_key, sizeof(hash_key));
    const int error = index_open(&b->index, &options);
    if (error)
        fail("the index cannot be made", -error);
    for (uint64_t i = 0; i < b->entry_count; i++)
        put_entry(b, i);
    while (huge && index_collapse_step(b->index, SIZE_MAX / 2))
        ;
}

/* One random cycle through all lines (Sattolo's shuffle), made in place. */
static void make_lines(struct bench *b, bool huge)
{
    const struct layout_header *const header = index_view(b->index)->header;
    b->line_bytes = header->clocks_offset - header->slots_offset;
    b->line_count = b->line_bytes / sizeof(struct line);
    const int fd = memfd_create("lines", MFD_CLOEXEC);
    void *base = NULL;
    int error = fd < 0 || ftruncate(fd, (off_t)b->line_bytes) < 0 ? -errno : 0;
    if (!error)
        error = shm_map(&base, fd, b->line_bytes, PROT_READ | PROT_WRITE);
    if (error)
        fail("the region for plain loads cannot be made", -error);
    close(fd);
    b->lines = base;
    for (uint64_t i = 0; i < b->line_count; i++)
        b->lines[i].next = i;
    if (huge)
        madvise(base, b->line_bytes / LAYOUT_ALIGN * LAYOUT_ALIGN, 25 /* MADV_COLLAPSE */);
    for (uint64_t i = b->line_count - 1; i > 0; i--) {
        const uint64_t other = random_below(&b->seed, i);
        const uint64_t next = b->lines[i].next;
        b->lines[i].next = b->lines[other].next;
        b->lines[other].next = next;
    }
}

/* Per cent of a mapping that stand on huge pages, as the kernel tells. */
static unsigned huge_percent(const void *base, size_t bytes)
{
    CLEANUP(cleanup_file) FILE *smaps = fopen("/proc/self/smaps", "re");
    char line[512];
    uint64_t start = 0, mapped_kib = 0;
    while (smaps && fgets(line, sizeof(line), smaps)) {
        char *end;
        const uint64_t number = strtoull(line, &end, 16);
        if (*end == '-') /* the first line of a mapping begins with its addresses */
            start = number;
        else if (start == (uintptr_t)base && strncmp(line, "ShmemPmdMapped:", 15) == 0)
            mapped_kib = strtoull(line + 15, NULL, 10);
    }
    return (unsigned)(mapped_kib * 1024 * 100 / bytes);
}

static void draw_samples(struct bench *b)
{
    for (uint32_t i = 0; i < SAMPLES; i++) {
        target_of(b->samples[i].target, random_below(&b->seed, b->entry_count));
        b->samples[i].fingerprint = fingerprint_of(&b->key, b->samples[i].target);
    }
}

/* ---- Measuring ----------------------------------------------------------------------------------- */

static void run_loads(struct bench *b)
{
    uint64_t at = b->line_at;
    for (uint32_t i = 0; i < SAMPLES; i++)
        at = __atomic_load_n(&b->lines[at].next, __ATOMIC_RELAXED);
    b->line_at = at;
}

/* 0, but only known when slot, detail and a clock of the entry have been loaded. */
static uint64_t look_up(struct bench *b, struct hash128 fingerprint)
{
    const struct shm_view *const view = index_view(b->index);
    struct shm_entry entry;
    uint32_t clock;
    uint64_t value;
    if (shm_find(view, fingerprint, &entry) != SHM_FOUND ||
        shm_newer_clock(view, &entry, &clock, &value)) {
        b->failures++;
        return 0;
    }
    return (entry.fill_lsn | entry.etag_len | shm_clock_load(view, entry.clocks[0])) >> 63;
}

static void run_lookups(struct bench *b)
{
    for (uint64_t i = 0; i < SAMPLES;)
        i += 1 + look_up(b, b->samples[i].fingerprint);
}

static void run_keys(struct bench *b)
{
    for (uint64_t i = 0; i < SAMPLES;)
        i += 1 + look_up(b, fingerprint_of(&b->key, b->samples[i].target));
}

struct measure {
    const char *name;
    void (*run)(struct bench *);
    double ns[ROUNDS_MAX];
    double least, median, most;
};

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure_round(struct bench *b, struct measure *m, unsigned round)
{
    const uint64_t start = time_ns_of(CLOCK_MONOTONIC);
    m->run(b);
    m->ns[round] = (double)(time_ns_of(CLOCK_MONOTONIC) - start) / SAMPLES;
}

static void summarize(struct measure *m, unsigned rounds)
{
    qsort(m->ns, rounds, sizeof(m->ns[0]), compare_doubles);
    m->least = m->ns[0];
    m->median = m->ns[rounds / 2];
    m->most = m->ns[rounds - 1];
}

/* ---- Telling ------------------------------------------------------------------------------------- */

enum { LOAD, LOOKUP, KEY, MEASURES };

static void print_result(const struct bench *b, const struct measure m[MEASURES], bool json)
{
    const struct shm_view *const view = index_view(b->index);
    const unsigned index_huge = huge_percent(view->header, index_bytes(b->index));
    const unsigned lines_huge = huge_percent(b->lines, b->line_bytes);
    const double ratio = m[LOOKUP].median / m[LOAD].median;
    if (!json) {
        printf("%" PRIu64 " entries, %" PRIu64 " MiB, huge pages %u %% (loads %u %%):",
               b->entry_count, index_bytes(b->index) >> 20, index_huge, lines_huge);
        for (int i = 0; i < MEASURES; i++)
            printf(" %s %.1f ns (%.1f to %.1f)%s", m[i].name, m[i].median, m[i].least, m[i].most,
                   i + 1 < MEASURES ? "," : "");
        printf("; lookup is %.2f loads\n", ratio);
        return;
    }
    printf("{\"bench\": \"lookup\", \"entries\": %" PRIu64 ", \"bytes\": %" PRIu64
           ", \"huge_percent\": %u, \"load_huge_percent\": %u",
           b->entry_count, index_bytes(b->index), index_huge, lines_huge);
    for (int i = 0; i < MEASURES; i++)
        printf(", \"%s_ns\": {\"median\": %.2f, \"min\": %.2f, \"max\": %.2f}", m[i].name,
               m[i].median, m[i].least, m[i].most);
    printf(", \"lookup_per_load\": %.3f}\n", ratio);
}

static void usage(void)
{
    fputs("usage: bench_lookup [--json] [--small-pages] [--rounds N] ENTRIES\n", stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"small-pages", no_argument, NULL, 's'},
                                            {"rounds", required_argument, NULL, 'r'},
                                            {0}};
    bool json = false, huge = true;
    unsigned long rounds = 9;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'j')
            json = true;
        else if (c == 's')
            huge = false;
        else if (c == 'r')
            rounds = strtoul(optarg, NULL, 10);
        else
            usage();
    }
    if (optind + 1 != argc || rounds == 0 || rounds > ROUNDS_MAX)
        usage();

    static struct bench bench = {.seed = 1};
    bench.entry_count = strtoull(argv[optind], NULL, 10);
    if (bench.entry_count < CAPACITY_MIN || bench.entry_count > CAPACITY_MAX)
        usage();
    bench.samples = calloc(SAMPLES, sizeof(*bench.samples));
    if (!bench.samples)
        fail("no memory for samples", ENOMEM);
    make_index(&bench, huge);
    make_lines(&bench, huge);

    static struct measure measures[MEASURES] = {
        [LOAD] = {.name = "load", .run = run_loads},
        [LOOKUP] = {.name = "lookup", .run = run_lookups},
        [KEY] = {.name = "key", .run = run_keys},
    };
    for (unsigned round = 0; round < rounds; round++) {
        for (int i = 0; i < MEASURES; i++) {
            draw_samples(&bench); /* also keeps one measure's samples out of the next one's cache */
            measure_round(&bench, &measures[i], round);
        }
    }
    for (int i = 0; i < MEASURES; i++)
        summarize(&measures[i], (unsigned)rounds);
    print_result(&bench, measures, json);
    if (bench.failures > 0)
        fprintf(stderr, "bench_lookup: %" PRIu64 " lookups found nothing\n", bench.failures);
    index_close(bench.index);
    return bench.failures > 0 ? 1 : 0;
}
