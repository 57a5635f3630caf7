/* SPDX-License-Identifier: Apache-2.0 */
/* What the workers share: their place in the truth, the key that they work on, and the names of
 * it. */
#ifndef TORTURE_WORKER_H
#define TORTURE_WORKER_H

#include "truth.h"

#include <etag/etag.h>

#define NAME_BYTES 64

struct names {
    char path[NAME_BYTES], dotted[NAME_BYTES], surrogate[NAME_BYTES], group[NAME_BYTES],
        /* of that of the group */
        family[NAME_BYTES], prefix[NAME_BYTES];
};

struct rows;
struct told;

struct worker {
    struct truth *truth;
    struct slot *slot;
    /* of the slot */
    uint32_t number;
    /* of the run */
    const char *directory;
    struct history history;
    etag_client *client;
    /* of the client */
    uint32_t timeout_ms;
    uint64_t random;
    /* may be used */
    bool guards;
    /* self test: publishes what it did not invalidate */
    bool wrong;
    /* one check in so many goes into the history */
    uint32_t sample;
    /* beyond the client's time, for a call */
    uint64_t bound_ns;
    /* a check that answers from an entry takes less than any lease */
    uint64_t late_ns;
    /* many hosts: the database of this host's applications, and within which time other hosts
     * follow a COMMIT */
    const char *database;
    struct rows *rows;
    /* ... whose table is watched, so that COMMIT takes the event along; and the program that
     * writes, in this process' place */
    bool watched;
    const char *program, *script;
    struct told *told;
    uint64_t follow_ns;
    /* of the key picked */
    struct names names;
    etag_key key;
    /* what its tag begins with: http has pages of its own */
    uint32_t page;
};

#define COUNT(w, name)                                                                             \
    (void)atomic_fetch_add_explicit(&(w)->truth->counters.name, 1, memory_order_relaxed)

uint64_t random_below(struct worker *w, uint64_t n);
/* True once in n. */
bool one_in(struct worker *w, uint64_t n);
bool run_is_over(const struct worker *w);
void names_of(struct names *names, uint32_t key);
/* The same path with dot segments, in one of the ways to write them: some servers read only the
 * one, some only the other. */
void names_dotted(struct names *names, uint32_t key, uint64_t way);
/* Picks a key for the check or fill; its number. */
uint32_t key_pick(struct worker *w);
void worker_record(struct worker *w, const struct record *record);
/* Ends this process as a crash would. */
_Noreturn void worker_vanish(void);

struct role {
    const char *name;
    /* ... again and again, with a client; or all of it, without one */
    void (*step)(struct worker *);
    int (*run)(struct worker *);
    /* before the first step; false: an option is missing */
    bool (*begin)(struct worker *);
    /* after the last one */
    void (*end)(struct worker *);
    /* its slot may hold a transaction, which outlives the process */
    bool transacts;
};

/* Of this program; the last one has no name. */
extern const struct role roles[];

/* One step of each role. */
void writer_step(struct worker *w);
void filler_step(struct worker *w);
void reader_step(struct worker *w);

/* Fills with what was rendered of this version for the key picked; its number. */
void page_fill(struct worker *w, uint32_t key, etag_token token, uint64_t version);

/* Transactions, transaction.c. */
bool txn_begin(struct worker *w, uint32_t first_key, uint32_t key_count);
/* Without a guard: visible at once. */
void txn_commit_now(struct worker *w);
/* Under a guard: the database has to be done with it by the deadline. */
void txn_post(struct worker *w, uint64_t delay_ns, uint64_t deadline_ns);
bool txn_wait(struct worker *w); /* true: committed */
void txn_rollback(struct worker *w);
void txn_end(struct worker *w); /* the slot is idle again */
void rows_unlock(struct truth *truth, uint32_t slot);

/* The database process: until standard input ends. */
int database_run(struct worker *w);

#endif
