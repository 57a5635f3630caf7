/* SPDX-License-Identifier: Apache-2.0 */
#include "bounds.h"
#include "bytes.h"
#include "journal.h"
#include "numbers.h"
#include "scratch.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define FILE_BYTES (2 * (size_t)JOURNAL_HALF_BYTES)
#define HEAD_BYTES 64

static const uint8_t nonce[JOURNAL_NONCE_BYTES] = "the nonce of it";
static const uint8_t other_nonce[JOURNAL_NONCE_BYTES] = "another nonce..";

struct fixture {
    char scratch[SCRATCH_BYTES];
    char socket[2 * SCRATCH_BYTES];
    char path[2 * SCRATCH_BYTES + 16];
    struct journal *journal;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    scratch_make(f->scratch);
    scratch_path(f->socket, f->scratch, "s");
    (void)snprintf(f->path, sizeof(f->path), "%s.journal", f->socket);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    f->journal = journal_close(f->journal);
    scratch_remove(f->scratch);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, set_up, tear_down)

static void begin(struct fixture *f)
{
    f->journal = journal_close(f->journal);
    assert_int_equal(journal_open(&f->journal, f->socket, nonce), 0);
}

/* What a replay brought: how many, from where to where, the last text. */
struct seen {
    uint64_t first, last;
    size_t count;
    char text[256];
    /* 0: never */
    size_t stop_after;
};

static int see(void *ctx, uint64_t lsn, etag_str record)
{
    struct seen *seen = ctx;

    assert_true(lsn > seen->last);
    if (seen->count++ == 0)
        seen->first = lsn;
    seen->last = lsn;
    const size_t len = record.len < sizeof(seen->text) ? record.len : sizeof(seen->text) - 1;
    memcpy(seen->text, record.data, len);
    seen->text[len] = '\0';
    return seen->count == seen->stop_after ? 4242 : 0;
}

static struct seen replayed(struct fixture *f)
{
    struct seen seen = {0};

    assert_int_equal(journal_replay(f->socket, nonce, see, &seen), 0);
    return seen;
}

static void append(struct fixture *f, uint64_t lsn, const char *text)
{
    assert_int_equal(journal_append(f->journal, lsn, str_of(text)), 0);
}

static uint8_t *file_read(const struct fixture *f)
{
    uint8_t *bytes = malloc(FILE_BYTES);
    FILE *file = fopen(f->path, "r");

    assert_non_null(bytes);
    assert_non_null(file);
    assert_int_equal(fread(bytes, 1, FILE_BYTES, file), FILE_BYTES);
    fclose(file);
    return bytes;
}

/* In place, as a disk would change it: a new file would be a copy. */
static void file_write(const struct fixture *f, const uint8_t *bytes, size_t at, size_t len)
{
    const int fd = open(f->path, O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes + at, len, (off_t)at), len);
    close(fd);
}

/* ---- What comes back ---- */

CASE(events_come_back_in_their_order)
{
    char text[32];
    struct stat status;

    begin(f);
    assert_int_equal(replayed(f).count, 0);
    for (uint64_t lsn = 1; lsn <= 30; lsn++) {
        (void)snprintf(text, sizeof(text), "%.*s%d", (int)(lsn % 9), "xxxxxxxxx", (int)lsn);
        append(f, lsn * 3, text);
        const struct seen seen = replayed(f); /* while it is open: as after a kill */
        assert_int_equal(seen.count, lsn);
        assert_int_equal(seen.first, 3);
        assert_int_equal(seen.last, lsn * 3);
        assert_string_equal(seen.text, text);
    }
    assert_int_equal(stat(f->path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_true((size_t)status.st_blocks * 512 >= FILE_BYTES);
}

CASE(an_empty_record_and_a_callback_that_stops)
{
    struct seen seen = {.stop_after = 2};

    begin(f);
    append(f, 1, "");
    append(f, 2, "b");
    append(f, 3, "c");
    assert_int_equal(journal_replay(f->socket, nonce, see, &seen), 4242);
    assert_int_equal(seen.last, 2);
    assert_int_equal(journal_replay(f->socket, nonce, NULL, NULL), 0);
    assert_int_equal(replayed(f).count, 3);
}

CASE(a_journal_begun_anew_has_nothing)
{
    begin(f);
    append(f, 1, "a");
    begin(f);
    assert_int_equal(replayed(f).count, 0);
    append(f, 2, "b");
    assert_int_equal(replayed(f).first, 2);
}

CASE(only_the_run_with_the_nonce_is_replayed)
{
    struct seen seen = {0};

    assert_int_equal(journal_replay(f->socket, nonce, see, &seen), JOURNAL_E_MISSING);
    begin(f);
    append(f, 1, "a");
    assert_int_equal(journal_replay(f->socket, other_nonce, see, &seen), JOURNAL_E_MISSING);
    f->journal = journal_close(f->journal);
    assert_int_equal(journal_open(&f->journal, f->socket, other_nonce), 0);
    assert_int_equal(journal_replay(f->socket, nonce, see, &seen), JOURNAL_E_MISSING);
    assert_int_equal(seen.count, 0);
    assert_int_equal(journal_replay(f->socket, other_nonce, see, &seen), 0);
}

/* ---- A kill while a record is written ---- */

/* Memory as a kill leaves it: the record's first n bytes are new, the word that publishes it is
 * not. */
CASE(a_record_that_was_not_finished_is_not_there)
{
    begin(f);
    append(f, 1, "first");
    append(f, 2, "second");
    CLEANUP(cleanup_free) uint8_t *before = file_read(f);
    append(f, 3, "the third, which is torn");
    CLEANUP(cleanup_free) uint8_t *after = file_read(f);
    size_t torn = HEAD_BYTES;
    while (before[torn] == after[torn])
        torn++;
    for (size_t end = torn; end < torn + 64; end++) {
        file_write(f, before, 0, torn + 64);
        file_write(f, after, torn, end - torn);
        const struct seen seen = replayed(f);
        assert_int_equal(seen.count, 2);
        assert_string_equal(seen.text, "second");
    }
    file_write(f, after, 0, HEAD_BYTES);
    assert_int_equal(replayed(f).count, 3);
}

/* Every byte that counts: a change of it is told, and nothing is handed out. */
CASE(a_changed_byte_is_damage)
{
    struct seen seen = {0};

    begin(f);
    append(f, 1, "firsts: ");
    append(f, 2, "seconds:");
    CLEANUP(cleanup_free) uint8_t *good = file_read(f);
    for (size_t at = 0; at < HEAD_BYTES + 64; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t changed[HEAD_BYTES + 64];
            memcpy(changed, good, sizeof(changed));
            changed[at] ^= (uint8_t)(1u << bit);
            file_write(f, changed, 0, sizeof(changed));
            const int r = journal_replay(f->socket, nonce, see, &seen);
            if (at >= 16 && at < 16 + JOURNAL_NONCE_BYTES)
                assert_int_equal(r, JOURNAL_E_MISSING);
            else
                assert_int_equal(r, JOURNAL_E_DAMAGED);
        }
    uint8_t zeros[HEAD_BYTES + 64] = {0};
    for (size_t from = 0; from < sizeof(zeros); from += 8) {
        file_write(f, good, 0, sizeof(zeros));
        file_write(f, zeros, from, sizeof(zeros) - from);
        assert_int_not_equal(journal_replay(f->socket, nonce, see, &seen), 0);
    }
    assert_int_equal(seen.count, 0);
    file_write(f, good, 0, sizeof(zeros));
    assert_int_equal(replayed(f).count, 2);
}

CASE(a_truncated_file_is_damage)
{
    struct seen seen = {0};
    static const size_t lengths[] = {FILE_BYTES - 1,
                                     JOURNAL_HALF_BYTES + 10,
                                     JOURNAL_HALF_BYTES,
                                     4096,
                                     HEAD_BYTES + 5,
                                     HEAD_BYTES,
                                     1,
                                     0};

    begin(f);
    append(f, 1, "a");
    f->journal = journal_close(f->journal);
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        assert_int_equal(truncate(f->path, (off_t)lengths[i]), 0);
        assert_int_equal(journal_replay(f->socket, nonce, see, &seen), JOURNAL_E_DAMAGED);
    }
    assert_int_equal(seen.count, 0);
    begin(f);
    append(f, 1, "a");
    assert_int_equal(replayed(f).count, 1);
}

CASE(a_copy_is_not_the_journal)
{
    struct seen seen = {0};

    begin(f);
    append(f, 1, "a");
    CLEANUP(cleanup_free) uint8_t *bytes = file_read(f);
    append(f, 2, "b");
    char held[2 * SCRATCH_BYTES + 32];
    (void)snprintf(held, sizeof(held), "%s.held", f->path);
    assert_int_equal(rename(f->path, held), 0); /* keeps the inode from being used again */
    const int fd = open(f->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    file_write(f, bytes, 0, FILE_BYTES);
    assert_int_equal(journal_replay(f->socket, nonce, see, &seen), JOURNAL_E_DAMAGED);
    assert_int_equal(seen.count, 0);
}

/* ---- Halves ---- */

#define LARGE_BYTES 100000u
#define PER_HALF ((JOURNAL_HALF_BYTES - HEAD_BYTES) / (LARGE_BYTES + 24))

static char large[LARGE_BYTES];

static uint64_t append_until_full(struct fixture *f, uint64_t lsn)
{
    for (size_t i = 0; i < 5 * PER_HALF; i++)
        if (journal_append(f->journal, lsn + 1, (etag_str){large, sizeof(large)}) == 0)
            lsn++;
    return lsn;
}

CASE(a_half_is_used_again_only_after_the_store_has_its_events)
{
    memset(large, 'l', sizeof(large));
    begin(f);
    uint64_t lsn = append_until_full(f, 0);
    assert_int_equal(lsn, 2 * PER_HALF);
    assert_int_equal(replayed(f).count, 2 * PER_HALF);
    journal_stored(f->journal, PER_HALF - 1); /* one too few */
    assert_int_equal(append_until_full(f, lsn), lsn);
    assert_int_equal(replayed(f).first, 1);
    journal_stored(f->journal, PER_HALF);
    journal_stored(f->journal, 5); /* it never goes back */
    lsn = append_until_full(f, lsn);
    assert_int_equal(lsn, 3 * PER_HALF);
    const struct seen seen = replayed(f);
    assert_int_equal(seen.first, PER_HALF + 1);
    assert_int_equal(seen.last, lsn);
    assert_int_equal(seen.count, 2 * PER_HALF);
}

/* The memory's own walk sees what a replay of the file does, from any LSN on. */
static void assert_each_as_replayed(struct fixture *f, const struct seen *replayed_, uint64_t from)
{
    struct seen seen = {0};

    assert_int_equal(journal_each(f->journal, 0, see, &seen), 0);
    assert_int_equal(seen.first, replayed_->first);
    assert_int_equal(seen.count, replayed_->count);
    seen = (struct seen){0};
    assert_int_equal(journal_each(f->journal, from, see, &seen), 0);
    assert_int_equal(seen.first, from);
    assert_int_equal(seen.last, replayed_->last);
    assert_int_equal(seen.count, replayed_->last - from + 1);
    seen = (struct seen){.stop_after = 1};
    assert_int_equal(journal_each(f->journal, from, see, &seen), 4242);
    assert_int_equal(seen.count, 1);
}

/* What an earlier use left behind the new records has the same shape as they: it must not count. */
CASE(many_turns_lose_and_repeat_nothing)
{
    uint64_t lsn = 0;

    begin(f);
    for (uint64_t turn = 0; turn < 20; turn++) {
        for (uint64_t i = 0; i < PER_HALF * 3 / 4; i++) {
            assert_int_equal(journal_append(f->journal, ++lsn, (etag_str){large, sizeof(large)}),
                             0);
            if (i % 8 == 0) {
                const struct seen seen = replayed(f);
                assert_int_equal(seen.last, lsn);
                assert_int_equal(seen.count, lsn - seen.first + 1);
                assert_each_as_replayed(f, &seen, seen.first + seen.count / 2);
            }
        }
        journal_stored(f->journal, lsn);
    }
}

CASE(an_event_that_the_journal_had_no_room_for_leaves_a_gap)
{
    begin(f);
    const uint64_t lsn = append_until_full(f, 0);
    append(f, lsn + 2, "small enough");
    assert_int_equal(replayed(f).last, lsn + 2);
    static char giant[JOURNAL_HALF_BYTES];
    journal_stored(f->journal, lsn + 2);
    assert_int_equal(journal_append(f->journal, lsn + 3, (etag_str){giant, sizeof(giant)}),
                     JOURNAL_E_FULL);
    assert_int_equal(journal_append(f->journal, lsn + 3,
                                    (etag_str){giant, JOURNAL_HALF_BYTES - HEAD_BYTES - 24}),
                     0);
    assert_int_equal(replayed(f).last, lsn + 3);
}

/* A kill between the two words that begin a half: its former events are in the store, the others
 * are here. */
CASE(a_half_that_was_being_begun_has_no_events)
{
    begin(f);
    const uint64_t lsn = append_until_full(f, 0);
    CLEANUP(cleanup_free) uint8_t *bytes = file_read(f);
    memset(bytes + 56, 0xff, 8);
    for (size_t written = 0; written <= 56; written += 8) {
        memset(bytes, 0x5a, written);
        file_write(f, bytes, 0, HEAD_BYTES);
        const struct seen seen = replayed(f);
        assert_int_equal(seen.first, PER_HALF + 1);
        assert_int_equal(seen.last, lsn);
    }
    /* Never both. */
    store_u64(bytes + JOURNAL_HALF_BYTES + 56, UINT64_MAX);
    file_write(f, bytes, JOURNAL_HALF_BYTES, HEAD_BYTES);
    struct seen seen = {0};
    assert_int_equal(journal_replay(f->socket, nonce, see, &seen), JOURNAL_E_MISSING);
}

/* ---- The path ---- */

CASE(only_a_file_of_our_own_is_taken)
{
    struct seen seen = {0};
    char elsewhere[2 * SCRATCH_BYTES];

    scratch_path(elsewhere, f->scratch, "elsewhere");
    for (int kind = 0; kind < 5; kind++) {
        if (kind == 4 && geteuid() != 0)
            continue; /* only root can give a file away */
        const int fd = open(elsewhere, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        close(fd);
        if (kind == 0)
            assert_int_equal(symlink(elsewhere, f->path), 0);
        else if (kind == 1)
            assert_int_equal(mkfifo(f->path, 0600), 0);
        else if (kind == 2)
            assert_int_equal(mkdir(f->path, 0700), 0);
        else if (kind == 3)
            assert_int_equal(link(elsewhere, f->path), 0);
        else {
            assert_int_equal(rename(elsewhere, f->path), 0);
            assert_int_equal(chown(f->path, 12345, (gid_t)-1), 0);
        }
        assert_int_equal(journal_open(&f->journal, f->socket, nonce), -EPERM);
        assert_null(f->journal);
        assert_int_equal(journal_replay(f->socket, nonce, see, &seen), JOURNAL_E_MISSING);
        assert_int_equal(remove(f->path), 0);
    }
    char path[3 * SCRATCH_BYTES];
    (void)snprintf(path, sizeof(path), "%s/no/s", f->scratch);
    assert_int_equal(journal_open(&f->journal, path, nonce), -ENOENT);
    assert_null(journal_close(NULL));
}
