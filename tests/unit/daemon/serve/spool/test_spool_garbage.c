/* SPDX-License-Identifier: Apache-2.0 */
/* What is no event: garbage of a user with the role, and files under names that nobody reads. */
#include "testing.h"

#include "numbers.h"
#include "spool_fixture.h"

#include <errno.h>

int __real_statx(int dir, const char *name, int flags, unsigned mask, struct statx *out);
int __wrap_statx(int dir, const char *name, int flags, unsigned mask, struct statx *out);

/* Unfinished files were born so long ago. */
static int64_t born_ago_s;
/* The file system knows no births: it is the time of the last change. */
static bool knows_no_birth;

int __wrap_statx(int dir, const char *name, int flags, unsigned mask, struct statx *out)
{
    const int r = __real_statx(dir, name, flags, mask, out);

    if (knows_no_birth)
        out->stx_mask &= ~STATX_BTIME;
    if (r == 0 && strncmp(name, SPOOL_TEMP_PREFIX, strlen(SPOOL_TEMP_PREFIX)) == 0) {
        out->stx_btime.tv_sec -= born_ago_s;
        out->stx_ctime.tv_sec -= born_ago_s;
    }
    return r;
}

/* Else a user with the role holds up the renewal: a purge each, and a line of the log each. */
CASE(test_one_purge_stands_for_all_garbage_of_a_scan)
{
    char name[SPOOL_NAME_BYTES];
    const uint32_t files = SPOOL_REMOVALS_PER_SCAN + 100;

    for (uint32_t i = 0; i < files; i++) {
        spool_name_make(SPOOL_NAME_EVENT, i, name);
        if (i == 77)
            put_request(f, name, REQUEST_GUARD_BEGIN, "a");
        else
            put(f, name, "", 0);
    }
    f->log.fd = open(path_of(f, "../log"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    scan(f);
    assert_int_equal(f->seen_count, 2);
    assert_int_equal(f->seen[0].kind, REQUEST_GUARD_BEGIN);
    assert_true(f->seen[1].everything);
    assert_int_equal(f->spool->garbage, files - 1);
    /* Some are removed at once, the others by the next scans, which do not apply them again. */
    assert_int_equal(spool_waiting(f->spool), files - 1 - SPOOL_REMOVALS_PER_SCAN);
    scan(f);
    assert_int_equal(f->seen_count, 2);
    assert_int_equal(spool_waiting(f->spool), 0);
    assert_true(log_limit_not_said(&f->limit) >= files - 1 - 2 * LOG_LIMITED_LINES);
    assert_true(lseek(f->log.fd, 0, SEEK_END) < 16 * 1024);
}

CASE(test_garbage_stays_until_its_purge_is_safe)
{
    f->safe_at_once = false;
    put(f, "e001", "garbage", 7);
    put(f, "e002", "garbage", 7);
    put(f, "e003", "garbage", 7);
    scan(f);
    scan(f);
    assert_int_equal(f->seen_count, 1);
    assert_true(there(f, "e001") && there(f, "e002") && there(f, "e003"));
    assert_int_equal(spool_waiting(f->spool), 3);
    /* One of them is another file by now, which is garbage of another scan. */
    assert_int_equal(unlink(path_of(f, "e001")), 0);
    put(f, "e001", "garbage", 7);
    scan(f);
    assert_int_equal(f->seen_count, 2);
    spool_file_failed(f->spool, f->seen[0].slot, 7);
    spool_stored(f->spool, 6);
    assert_int_equal(spool_waiting(f->spool), 3);
    spool_stored(f->spool, 7);
    assert_true(there(f, "e001"));
    assert_false(there(f, "e002") || there(f, "e003"));
    spool_file_done(f->spool, f->seen[1].slot);
    assert_false(there(f, "e001"));
    assert_int_equal(spool_waiting(f->spool), 0);
}

static int refuse_everything(void *ctx, const struct request *request, uint32_t uid,
                             struct spool_slot slot)
{
    return request->targets.everything ? -ENOMEM : 0;
}

static int refuse_events(void *ctx, const struct request *request, uint32_t uid,
                         struct spool_slot slot)
{
    return request->targets.everything ? 0 : -ENOMEM;
}

CASE(test_garbage_of_a_scan_that_fails_is_found_by_the_next_one)
{
    const struct spool_reader no_purge = {refuse_everything, f}, no_event = {refuse_events, f};

    put(f, "e001", "garbage", 7);
    assert_int_equal(spool_scan(f->spool, &no_purge), -ENOMEM);
    assert_int_equal(spool_waiting(f->spool), 0);
    put_request(f, "e002", REQUEST_INVALIDATE, "a"); /* fails after the garbage was found */
    assert_int_equal(spool_scan(f->spool, &no_event), -ENOMEM);
    assert_int_equal(spool_waiting(f->spool), 0);
    assert_true(there(f, "e001"));
    scan(f);
    assert_int_equal(f->seen_count, 2);
    assert_true(f->seen[1].everything);
    assert_false(there(f, "e001"));
}

/* A scan has little time for names that mean nothing: in a crowd the next ones go on. */
static void scan_away(struct fixture *f, const char *name)
{
    for (int i = 0; i < 1000 && there(f, name); i++)
        scan(f);
    if (there(f, name))
        fail_msg("%s is still there", name);
}

static int teardown_birth(void **state)
{
    knows_no_birth = false;
    born_ago_s = 0;
    return teardown(state);
}

#define BIRTH_CASE(name) TEST_OF(name, struct fixture *f, setup, teardown_birth)

BIRTH_CASE(test_a_writers_unfinished_file_stays_for_a_while)
{
    static const char *const name = "t-0123456789abcdef";
    /* Whatever its owner says: it may stay, or not. */
    static const int64_t written_s[] = {1000000, 4000000000};

    for (size_t i = 0; i < 4; i++) {
        const struct timespec times[2] = {{.tv_sec = written_s[i / 2]},
                                          {.tv_sec = written_s[i / 2]}};
        knows_no_birth = i % 2 == 1;
        born_ago_s = 0;
        put(f, name, "half", 4);
        assert_int_equal(utimensat(AT_FDCWD, path_of(f, name), times, 0), 0);
        scan(f);
        assert_true(there(f, name));
        born_ago_s = i / 2 == 0 ? 3600 : -3600;
        scan_away(f, name);
    }
    assert_int_equal(f->seen_count, 0);
}

/* A writer makes a plain file, and the daemon sets aside 16 of them. */
CASE(test_no_name_keeps_anything_else)
{
    static const char *const go[] = {"bad-",   "bad-0",  "bad-10", "bad-0f0", "bad-0F",
                                     "bad-01", "bad-02", "t-0",    "t-1"};

    for (size_t i = 0; i < 5; i++)
        put(f, go[i], "", 0);
    assert_int_equal(mkdir(path_of(f, "bad-01"), 0700), 0);
    put(f, "bad-02", "", 0);
    assert_int_equal(truncate(path_of(f, "bad-02"), (off_t)1 << 30), 0);
    assert_int_equal(mkfifo(path_of(f, "t-0"), 0600), 0);
    assert_int_equal(symlink("/dev/zero", path_of(f, "t-1")), 0);
    put(f, "bad-0f", "garbage", 7);
    for (size_t i = 0; i < COUNT_OF(go); i++)
        scan_away(f, go[i]);
    assert_true(there(f, "bad-0f"));
}
