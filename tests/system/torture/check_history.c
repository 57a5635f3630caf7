/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture_check DIRECTORY
 *
 * The offline checker: reads what the processes of a run wrote into their histories, and nothing of
 * what the readers concluded. Prints one line of JSON: what it found, and the counters of the run.
 * Exit 1 if there is a violation.
 *
 * A check must not answer a version below the highest one that was due when it began. A version is
 * due from the moment that its mutation had been answered OK, and, guarded, from the beginning of
 * its commit: for ever if it was committed, until its rollback (which is before its guard's abort)
 * if it was not.
 *
 * Of many hosts: a database that lost commits owes none of them any more, and a host that is cut
 * off answers nothing.
 */
#include "truth.h"

#include <glob.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SAID_MAX 20
#define LOSSES_MAX 64 /* of each key: promotions */
#define CUTS_MAX 4096 /* of each host */

struct due {
    uint64_t from_ns, until_ns, version;
};

/* Versions above 'kept' and up to 'newest' are none any more. */
struct loss {
    uint64_t from_ns, until_ns, kept, newest;
};

struct losses {
    struct loss items[LOSSES_MAX];
    size_t count;
};

struct cuts {
    struct due items[CUTS_MAX];
    size_t count;
};

struct dues {
    struct due *items;
    size_t count, capacity;
};

struct checker {
    /* sorted by time, versions made a running maximum */
    struct dues kept[TRUTH_KEYS];
    struct dues rolled_back[TRUTH_KEYS];
    /* what was in the log with its COMMIT, and how long after it an older answer began at most */
    struct dues logged[TRUTH_KEYS];
    uint64_t oldest_ns;
    struct losses losses[TRUTH_KEYS];
    struct cuts cuts[TRUTH_HOSTS];
    uint64_t host_checks[TRUTH_HOSTS];
    uint64_t histories, records, commits, guarded, answered, checks, judged, violations, wrong;
};

static void due_add(struct dues *dues, struct due due)
{
    if (dues->count == dues->capacity) {
        dues->capacity = dues->capacity ? dues->capacity * 2 : 64;
        dues->items = realloc(dues->items, dues->capacity * sizeof(due));
        if (!dues->items) {
            perror("torture_check");
            exit(2);
        }
    }
    dues->items[dues->count++] = due;
}

static int by_time(const void *a, const void *b)
{
    const uint64_t x = ((const struct due *)a)->from_ns, y = ((const struct due *)b)->from_ns;

    return x < y ? -1 : x > y;
}

/* ---- First pass: what the database lost, and who was cut off ---- */

static void fate_take(struct checker *c, const struct record *r)
{
    if (r->kind == RECORD_LOST && r->key < TRUTH_KEYS && c->losses[r->key].count < LOSSES_MAX) {
        struct losses *losses = &c->losses[r->key];
        losses->items[losses->count++] = (struct loss){r->begin_ns, r->end_ns, r->version, r->lsn};
    }
    if (r->kind == RECORD_CUT && r->slot < TRUTH_SLOTS) {
        struct cuts *cuts = &c->cuts[r->slot / TRUTH_HOST_SLOTS];
        if (cuts->count < CUTS_MAX)
            cuts->items[cuts->count++] = (struct due){r->begin_ns, r->end_ns, 0};
    }
}

static const struct loss *loss_of(const struct checker *c, const struct record *r)
{
    const struct losses *losses = &c->losses[r->key];

    for (size_t i = 0; i < losses->count; i++)
        if (r->version > losses->items[i].kept && r->version <= losses->items[i].newest)
            return &losses->items[i];
    return NULL;
}

static bool is_cut_off(const struct checker *c, const struct record *r)
{
    const struct cuts *cuts = &c->cuts[r->slot / TRUTH_HOST_SLOTS];

    for (size_t i = 0; i < cuts->count; i++)
        if (cuts->items[i].from_ns <= r->begin_ns && r->begin_ns <= cuts->items[i].until_ns)
            return true;
    return false;
}

/* ---- Second pass: what was due ---- */

/* What was lost is due until then. */
static void answered_take(struct checker *c, const struct record *r)
{
    const struct due due = {r->begin_ns, UINT64_MAX, r->version};
    const struct loss *loss = loss_of(c, r);

    c->answered++;
    if (!loss)
        due_add(&c->kept[r->key], due);
    else
        due_add(&c->rolled_back[r->key], (struct due){due.from_ns, loss->from_ns, due.version});
}

static void record_take(struct checker *c, const struct record *r)
{
    c->records++;
    if (r->key >= TRUTH_KEYS || r->slot >= TRUTH_SLOTS || r->end_ns < r->begin_ns) {
        c->wrong++;
        return;
    }
    const struct due due = {r->begin_ns, UINT64_MAX, r->version};
    switch ((enum record_kind)r->kind) {
    case RECORD_ANSWERED:
        answered_take(c, r);
        break;
    case RECORD_COMMIT:
        c->commits++;
        if (r->outcome == OUTCOME_LOGGED && !loss_of(c, r))
            due_add(&c->logged[r->key], due);
        c->guarded += r->guarded;
        if (r->guarded && r->outcome == OUTCOME_COMMITTED)
            due_add(&c->kept[r->key], due);
        else if (r->guarded)
            due_add(&c->rolled_back[r->key], (struct due){r->begin_ns, r->end_ns, r->version});
        break;
    case RECORD_CHECK:
        c->checks++;
        c->host_checks[r->slot / TRUTH_HOST_SLOTS]++;
        break;
    case RECORD_LOST:
    case RECORD_CUT:
        break;
    default:
        c->wrong++;
        break;
    }
}

static void dues_sort(struct dues *dues)
{
    if (dues->count > 0)
        qsort(dues->items, dues->count, sizeof(dues->items[0]), by_time);
    for (size_t i = 1; i < dues->count; i++)
        if (dues->items[i].version < dues->items[i - 1].version)
            dues->items[i].version = dues->items[i - 1].version;
}

static void dues_settle(struct checker *c)
{
    for (size_t key = 0; key < TRUTH_KEYS; key++) {
        dues_sort(&c->kept[key]);
        dues_sort(&c->logged[key]);
    }
}

/* ---- Third pass: what was answered ---- */

static uint64_t version_due(const struct dues *kept, uint64_t at_ns)
{
    size_t low = 0, high = kept->count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (kept->items[middle].from_ns <= at_ns)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? kept->items[low - 1].version : 0;
}

/* How long before the answer began there was a newer version. */
static void age_measure(struct checker *c, const struct record *r)
{
    const struct dues *logged = &c->logged[r->key];
    size_t low = 0, high = logged->count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (logged->items[middle].version <= r->version)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < logged->count && logged->items[low].from_ns < r->begin_ns &&
        r->begin_ns - logged->items[low].from_ns > c->oldest_ns)
        c->oldest_ns = r->begin_ns - logged->items[low].from_ns;
}

static void violation(struct checker *c, const struct record *r, const char *what, uint64_t due)
{
    if (c->violations++ < SAID_MAX)
        (void)fprintf(stderr,
                      "violation in the history: key %" PRIu32 " answered version %" PRIu64
                      " at %" PRIu64 "..%" PRIu64 " (slot %u, fill LSN %" PRIx64 "), %s %" PRIu64
                      "\n",
                      r->key, r->version, r->begin_ns, r->end_ns, r->slot, r->lsn, what, due);
}

static void record_judge(struct checker *c, const struct record *r)
{
    if (r->kind != RECORD_CHECK || r->key >= TRUTH_KEYS || r->slot >= TRUTH_SLOTS)
        return;
    uint64_t due = version_due(&c->kept[r->key], r->begin_ns);
    const struct dues *rolled_back = &c->rolled_back[r->key];
    for (size_t i = 0; i < rolled_back->count; i++) {
        const struct due *item = &rolled_back->items[i];
        if (item->from_ns <= r->begin_ns && r->end_ns <= item->until_ns && item->version > due)
            due = item->version;
    }
    c->judged++;
    age_measure(c, r);
    const struct loss *loss = loss_of(c, r);
    if (r->version < due)
        violation(c, r, "when this was due:", due);
    else if (loss && r->begin_ns >= loss->until_ns)
        violation(c, r, "which the database had lost: it has", loss->kept);
    else if (is_cut_off(c, r))
        violation(c, r, "on a host that was cut off:", r->slot / TRUTH_HOST_SLOTS);
}

/* ---- Files ---- */

static void each_record(struct checker *c, const glob_t *paths,
                        void (*take)(struct checker *, const struct record *))
{
    for (size_t i = 0; i < paths->gl_pathc; i++) {
        struct history history = {0};
        if (!history_open(&history, paths->gl_pathv[i])) {
            (void)fprintf(stderr, "%s: not a history\n", paths->gl_pathv[i]);
            exit(2);
        }
        const uint64_t count = atomic_load(&history.head->count);
        for (uint64_t n = 0; n < count; n++)
            take(c, &history.records[n]);
        history_close(&history);
    }
}

static void counters_print(const struct truth *truth)
{
#define PRINT(name, text)                                                                          \
    printf("\"" #name "\": %" PRIu64 ", ", atomic_load(&truth->counters.name));
    TRUTH_COUNTERS(PRINT)
#undef PRINT
#define PRINT(name, text)                                                                          \
    printf("\"" #name "\": %" PRIu64 ", ", atomic_load(&truth->hosts_counters.name));
    HOSTS_COUNTERS(PRINT)
#undef PRINT
    printf("\"longest_call_over_ms\": %.1f, \"longest_call_ms\": %.1f, ",
           (double)atomic_load(&truth->longest_call_ns) / 1e6,
           (double)atomic_load(&truth->longest_wait_ns) / 1e6);
}

static void texts_print(void)
{
    printf("{");
#define PRINT(name, text) printf("\"" #name "\": \"" text "\", ");
    TRUTH_COUNTERS(PRINT)
    printf("\"hosts\": {");
    HOSTS_COUNTERS(PRINT)
#undef PRINT
    printf("\"host_slots\": %d}, \"stops_offset\": %zu, \"end_offset\": %zu, \"slots\": %d, "
           "\"rows_offset\": %zu, \"row_bytes\": %zu, \"rows\": %d}\n",
           TRUTH_HOST_SLOTS, offsetof(struct truth, stops), offsetof(struct truth, end),
           TRUTH_SLOTS, offsetof(struct truth, rows), sizeof(struct row), TRUTH_KEYS);
}

int main(int argc, char **argv)
{
    static struct checker c;
    char pattern[512];
    glob_t paths;

    if (argc == 2 && strcmp(argv[1], "--texts") == 0) {
        texts_print();
        return 0;
    }
    if (argc != 2) {
        (void)fprintf(stderr, "usage: torture_check DIRECTORY | --texts\n");
        return 2;
    }
    (void)snprintf(pattern, sizeof(pattern), "%s/history-*", argv[1]);
    if (glob(pattern, 0, NULL, &paths) != 0) {
        (void)fprintf(stderr, "%s: no history\n", argv[1]);
        return 2;
    }
    c.histories = paths.gl_pathc;
    each_record(&c, &paths, fate_take);
    each_record(&c, &paths, record_take);
    dues_settle(&c);
    each_record(&c, &paths, record_judge);
    printf("{");
    (void)snprintf(pattern, sizeof(pattern), "%s/truth", argv[1]);
    struct truth *truth = access(pattern, F_OK) == 0 ? truth_open(argv[1]) : NULL;
    if (truth)
        counters_print(truth);
    printf("\"histories\": %" PRIu64 ", \"records\": %" PRIu64 ", \"records_wrong\": %" PRIu64
           ", \"history_commits\": %" PRIu64 ", \"history_guarded\": %" PRIu64
           ", \"history_answered\": %" PRIu64 ", \"history_checks\": %" PRIu64 ", ",
           c.histories, c.records, c.wrong, c.commits, c.guarded, c.answered, c.judged);
    for (size_t i = 0; i < TRUTH_HOSTS; i++)
        printf("\"host_checks_%zu\": %" PRIu64 ", ", i, c.host_checks[i]);
    printf("\"oldest_answer_ms\": %.1f, ", (double)c.oldest_ns / 1e6);
    printf("\"history_violations\": %" PRIu64 "}\n", c.violations);
    globfree(&paths);
    return c.violations > 0 || c.wrong > 0 ? 1 : 0;
}
