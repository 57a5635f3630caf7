/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The truth of a torture run: a small versioned database, in a file that every process of the run
 * maps, so that it survives whoever is killed. Beside it each process has a history file of its
 * own.
 *
 * A row has versions. Who writes it holds its lock (a transaction, not a process: it ends with the
 * transaction). A commit without a guard makes its version visible at once. A guarded one is posted
 * to the database process, which is never stopped or killed: it begins the commit, lets it take its
 * time, and makes the version visible or rolls it back, before the deadline that the guard allows,
 * whatever became of the client: as a database server does.
 *
 * What front ends must not answer:
 *   published  a version below it: its mutation was answered OK
 *   begun      a version below it: its guarded commit has begun, and was not rolled back
 */
#ifndef TORTURE_TRUTH_H
#define TORTURE_TRUTH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define TRUTH_MAGIC UINT64_C(0x65727574726f7473)
#define TRUTH_KEYS 320
#define TRUTH_GROUP_KEYS 16     /* that share a surrogate key and a prefix */
#define TRUTH_SECOND_VERSIONS 8 /* of a row with weak dates, that share a second */
#define TRUTH_SLOTS 32          /* processes, each with at most one transaction */
#define TRUTH_HOST_SLOTS 8      /* of many hosts: of each */
#define TRUTH_HOSTS (TRUTH_SLOTS / TRUTH_HOST_SLOTS)
#define TXN_KEYS_MAX 4
#define OUTCOMES_KEPT 64

#define NS_PER_MS UINT64_C(1000000)

/* Counters: name, text of the table. */
#define TRUTH_COUNTERS(X)                                                                          \
    X(commits_plain, "commits without a guard")                                                    \
    X(commits_guarded, "commits under a guard")                                                    \
    X(rollbacks, "rolled back: the commit would have gone beyond its bound")                       \
    X(commits_late, "the database itself was late (not judged)")                                   \
    X(invalidations, "mutations answered OK")                                                      \
    X(invalidations_spooled, "... of which through the spool")                                     \
    X(invalidations_pending, "mutations answered PENDING, and repeated")                           \
    X(invalidations_failed, "mutations that failed, and were repeated")                            \
    X(holds, "mutations with a hold")                                                              \
    X(guards_begun, "guards begun")                                                                \
    X(guards_not_begun, "guards that could not begin")                                             \
    X(guards_confirmed, "guards confirmed")                                                        \
    X(guards_not_confirmed, "guards that could not be confirmed")                                  \
    X(guards_without_time, "guards confirmed, with no time left to commit")                        \
    X(guards_committed, "guards committed")                                                        \
    X(guards_commit_failed, "guard commits without OK, repeated as mutations")                     \
    X(guards_aborted, "guards aborted")                                                            \
    X(guards_abort_pending, "guard aborts recorded in the spool")                                  \
    X(guards_abort_failed, "guard aborts that failed: the guard lingers")                          \
    X(guards_forgotten, "guards forgotten with the outcome unknown")                               \
    X(guards_abandoned, "guards whose writer vanished by itself")                                  \
    X(fills_sent, "fills sent")                                                                    \
    X(fills_not_sent, "fills not sent")                                                            \
    X(fills_stored, "fills stored, where the verdict was waited for")                              \
    X(fills_refused, "fills refused, where the verdict was waited for")                            \
    X(checks, "checks")                                                                            \
    X(not_modified, "304")                                                                         \
    X(not_modified_http, "... under http, where it is another page")                               \
    X(not_modified_by_date, "... by a date alone")                                                 \
    X(not_modified_by_tag, "... by the tag that the client has")                                   \
    X(warm, "304 from an entry of a former run of the daemon")                                     \
    X(known_otherwise, "other verdicts from an entry")                                             \
    X(weak_dates, "... since a date alone is weak")                                                \
    X(dotted_checks, "checks under a path with dot segments")                                      \
    X(dotted_fills, "fills under a path with dot segments")                                        \
    X(dotted_mutations, "mutations of a path with dot segments")                                   \
    X(unknown, "unknown")                                                                          \
    X(unknown_stale, "... stale")                                                                  \
    X(unknown_in_flux, "... in flux")                                                              \
    X(unknown_no_lease, "... no lease")                                                            \
    X(violations_answered, "VIOLATION: older than an answered mutation")                           \
    X(violations_guarded, "VIOLATION: older than a guarded commit that had begun")                 \
    X(violations_mixed, "VIOLATION: another key's entry")                                          \
    X(violations_date, "VIOLATION: 304 by date to who has an older version")                       \
    X(violations_late, "VIOLATION: answered when its lease had to be over")                        \
    X(violations_bound, "VIOLATION: a writer's call took longer than it may")                      \
    X(unjudged, "answers that came too late to be judged by the guarded rule")                     \
    X(history_full, "records that did not fit into a history file")

struct truth_counters {
#define TRUTH_COUNTER_FIELD(name, text) _Atomic uint64_t name;
    TRUTH_COUNTERS(TRUTH_COUNTER_FIELD)
#undef TRUTH_COUNTER_FIELD
};

/* ... and of many hosts. */
#define HOSTS_COUNTERS(X)                                                                          \
    X(writes_sql, "writes by SQL alone")                                                           \
    X(writes_position, "writes with the event in the transaction, then by the library")            \
    X(writes_plain, "writes with the event by the library alone")                                  \
    X(writes_psql, "writes by psql to a watched table")                                            \
    X(writes_away, "... after which the row has another key")                                      \
    X(writes_django, "writes by Django to a watched table")                                        \
    X(writes_twice, "writes with a hold before COMMIT")                                            \
    X(writes_silent, "... of which nothing is said after it")                                      \
    X(holds_kept, "COMMITs within their hold")                                                     \
    X(holds_late, "COMMITs beyond their hold: nothing is due by it")                               \
    X(holds_failed, "holds that were not answered OK: nothing was written")                        \
    X(writes_guarded, "writes under a guard")                                                      \
    X(unguarded, "guards that could not begin: written without")                                   \
    X(writes_failed, "writes that the database did not commit, or whose COMMIT was not answered")  \
    X(log_ok, "OK: in the log")                                                                    \
    X(everywhere_acknowledged, "OK: everywhere, by acknowledgements")                              \
    X(everywhere_time, "OK: everywhere, by time")                                                  \
    X(everywhere_django, "OK: everywhere, by Django")                                              \
    X(everywhere_failed, "etagd.wait() that was not answered, or Django could not prove it")       \
    X(answers_pending, "mutations answered PENDING, and repeated")                                 \
    X(answers_failed, "mutations that failed, and were repeated")                                  \
    X(rows_read, "rows read by front ends")                                                        \
    X(rows_failed, "rows that front ends could not read")

struct hosts_counters {
#define HOSTS_COUNTER_FIELD(name, text) _Atomic uint64_t name;
    HOSTS_COUNTERS(HOSTS_COUNTER_FIELD)
#undef HOSTS_COUNTER_FIELD
};

enum outcome {
    OUTCOME_NONE,
    OUTCOME_BEGUN,
    OUTCOME_COMMITTED,
    OUTCOME_ROLLED_BACK,
    /* committed beyond its bound, since this machine was slow: nothing is promised of it */
    OUTCOME_LATE,
    /* many hosts: with its event in the outbox */
    OUTCOME_LOGGED,
};

struct row {
    _Alignas(64) _Atomic uint64_t next_version;
    _Atomic uint64_t visible, published, begun;
    /* slot + 1; 0: nobody */
    _Atomic uint32_t locked_by;
    /* of guarded commits: version << 3 | outcome */
    _Atomic uint64_t outcomes[OUTCOMES_KEPT];
};

enum slot_state {
    SLOT_IDLE,
    /* the client's: rows may be locked, nothing is decided */
    SLOT_OPEN,
    /* the database's */
    SLOT_POSTED,
    SLOT_COMMITTED,
    SLOT_ROLLED_BACK,
};

struct slot {
    /* a futex too */
    _Alignas(64) _Atomic uint32_t state;
    _Atomic int32_t pid;
    uint32_t key_count;
    uint32_t keys[TXN_KEYS_MAX];
    uint64_t versions[TXN_KEYS_MAX], former_begun[TXN_KEYS_MAX];
    uint64_t due_ns, deadline_ns, begin_ns;
};

struct truth {
    uint64_t magic;
    /* the run is over */
    _Atomic uint32_t end;
    /* a futex: the database has something to do */
    _Atomic uint32_t posted;
    _Atomic uint64_t newest_incarnation;
    /* of a writer, beyond its own limit of time */
    _Atomic uint64_t longest_call_ns;
    /* ... as it was */
    _Atomic uint64_t longest_wait_ns;
    /* Odd while the nemesis has the process stopped; at a fixed place, since the nemesis is not
     * written in C. */
    _Alignas(64) _Atomic uint64_t stops[TRUTH_SLOTS];
    struct truth_counters counters;
    struct hosts_counters hosts_counters;
    struct slot slots[TRUTH_SLOTS];
    struct row rows[TRUTH_KEYS];
};

/* ---- History: what an offline checker has to know, independent of the words above ---- */

enum record_kind {
    /* begin..end; guarded or not; outcome */
    RECORD_COMMIT = 1,
    /* at begin: OK had been returned. Of many hosts: from then on all have it; outcome: what proved
     * that (etag_proof), lsn: nanoseconds that the call took */
    RECORD_ANSWERED,
    /* begin..end: a verdict from an entry, of this version */
    RECORD_CHECK,
    /* The database has 'version' of the key and lost all from there to 'lsn': its primary went at
     * 'begin' or later, and nobody may answer one of those from 'end' on. */
    RECORD_LOST,
    /* begin..end: the slot's host is cut off, and may not answer from an entry */
    RECORD_CUT,
};

struct record {
    uint8_t kind;
    uint8_t guarded;
    uint8_t outcome;
    uint8_t slot;
    uint32_t key;
    uint64_t version;
    uint64_t begin_ns, end_ns;
    /* of the entry's fill */
    uint64_t lsn;
};

#define HISTORY_MAGIC UINT64_C(0x79726f7473696874)
struct history_head {
    uint64_t magic;
    uint64_t capacity;
    _Atomic uint64_t count;
};

struct history {
    struct history_head *head;
    struct record *records;
};

/* Makes DIRECTORY/truth, or maps it. NULL: it was said why. */
struct truth *truth_make(const char *directory);
struct truth *truth_open(const char *directory);

/* Makes DIRECTORY/history-NAME. False: it was said why. */
bool history_make(struct history *history, const char *directory, const char *name,
                  uint64_t capacity);
/* Maps one that exists, to read it. */
bool history_open(struct history *history, const char *path);
void history_close(struct history *history);
/* False: it is full. */
bool history_add(struct history *history, const struct record *record);

uint64_t now_ns(void);
void sleep_ns(uint64_t ns);
/* Until *word is no longer 'value', at most so long. */
void word_wait(_Atomic uint32_t *word, uint32_t value, uint64_t ns);
void word_wake(_Atomic uint32_t *word);
void raise_to(_Atomic uint64_t *word, uint64_t value);

/* What became of a guarded commit; NONE: too long ago to know. */
enum outcome row_outcome(const struct row *row, uint64_t version);
void row_outcome_set(struct row *row, uint64_t version, enum outcome outcome);

#endif
