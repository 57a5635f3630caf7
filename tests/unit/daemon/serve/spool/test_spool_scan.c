/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's reading of the spool: which files count, in which order, what becomes of them, what
 * a stranger can't do. */
#include "testing.h"

#include "spool_fixture.h"

#include <errno.h>

#define STRANGER 4242u
/* What a writer or a stranger does between two steps of the daemon: before its next rename or
 * unlink of this name, or after the unlink. */
static struct {
    const char *name;
    bool after;
    void (*act)(struct fixture *f);
    struct fixture *f;
} meanwhile;

int __real_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __real_unlinkat(int dir, const char *name, int flags);
int __wrap_unlinkat(int dir, const char *name, int flags);

/* As a file system that can't do it. */
static bool refuses_noreplace;

static void meanwhile_act(const char *name)
{
    void (*const act)(struct fixture * f) = meanwhile.act;

    if (!act || strcmp(name, meanwhile.name) != 0)
        return;
    meanwhile.act = NULL;
    act(meanwhile.f);
}

int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    meanwhile_act(from);
    if (refuses_noreplace && (flags & RENAME_NOREPLACE)) {
        errno = EINVAL;
        return -1;
    }
    return __real_renameat2(from_dir, from, to_dir, to, flags);
}

int __wrap_unlinkat(int dir, const char *name, int flags)
{
    const bool after = meanwhile.after;

    if (!after)
        meanwhile_act(name);
    const int r = __real_unlinkat(dir, name, flags);
    if (after)
        meanwhile_act(name);
    return r;
}

/* "Everything", by one of its names. */
static void scan_all_07(struct fixture *f)
{
    put(f, "all-07", "", 0);
    scan(f);
}

CASE(test_an_event_is_applied_and_goes)
{
    put_request(f, "e000", REQUEST_INVALIDATE, "a");
    put_request(f, "efff", REQUEST_INVALIDATE, "b");
    scan(f);
    assert_int_equal(f->seen_count, 2);
    assert_string_equal(f->seen[0].surrogate, "a");
    assert_string_equal(f->seen[1].surrogate, "b");
    assert_int_equal(f->seen[0].uid, geteuid());
    assert_false(there(f, "e000"));
    assert_false(there(f, "efff"));
    assert_int_equal(spool_waiting(f->spool), 0);
    scan(f);
    assert_int_equal(f->seen_count, 2);
}

CASE(test_a_file_stays_until_its_event_is_safe_and_is_applied_once)
{
    f->safe_at_once = false;
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    scan(f);
    scan(f);
    assert_int_equal(f->seen_count, 1);
    assert_true(there(f, "e001"));
    assert_int_equal(spool_waiting(f->spool), 1);
    spool_file_done(f->spool, f->seen[0].slot);
    assert_false(there(f, "e001"));
    assert_int_equal(spool_waiting(f->spool), 0);
    /* The name is free for another event. */
    put_request(f, "e001", REQUEST_INVALIDATE, "b");
    scan(f);
    assert_int_equal(f->seen_count, 2);
}

CASE(test_the_next_daemon_applies_it_again)
{
    f->safe_at_once = false;
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    put(f, "all-05", "", 0);
    scan(f);
    spool_close(f->spool);
    open_spool(f, NS_PER_S);
    f->safe_at_once = true;
    scan(f);
    assert_int_equal(f->seen_count, 4);
    assert_true(f->seen[3].everything);
    assert_false(there(f, "e001"));
    assert_false(there(f, "taken-05"));
}

CASE(test_a_scan_that_fails_applies_the_rest_at_the_next)
{
    const struct spool_reader reader = {apply, f};

    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    f->answer = -ENOMEM;
    assert_int_equal(spool_scan(f->spool, &reader), -ENOMEM);
    assert_true(there(f, "e001"));
    f->answer = 0;
    scan(f);
    assert_int_equal(f->seen_count, 1);
}

CASE(test_begins_come_before_ends)
{
    put_request(f, "e000", REQUEST_GUARD_COMMIT, "a");
    put_request(f, "e001", REQUEST_GUARD_CONFIRM, "a");
    put_request(f, "e002", REQUEST_INVALIDATE, "a");
    put_request(f, "e003", REQUEST_GUARD_BEGIN, "a");
    scan(f);
    assert_int_equal(f->seen_count, 4);
    assert_int_equal(f->seen[0].kind, REQUEST_GUARD_CONFIRM);
    assert_int_equal(f->seen[1].kind, REQUEST_GUARD_BEGIN);
    assert_int_equal(f->seen[2].kind, REQUEST_GUARD_COMMIT);
    assert_int_equal(f->seen[3].kind, REQUEST_INVALIDATE);
}

CASE(test_purge_everything_may_be_put_again_while_it_waits)
{
    f->safe_at_once = false;
    scan_all_07(f);
    assert_false(there(f, "all-07"));
    assert_true(there(f, "taken-07"));
    scan_all_07(f);
    scan(f);
    assert_int_equal(f->seen_count, 2);
    spool_file_done(f->spool, f->seen[0].slot);
    assert_false(there(f, "taken-07"));
    assert_true(there(f, "all-07"));
    spool_file_done(f->spool, f->seen[1].slot);
    assert_false(there(f, "all-07") || there(f, "taken-07"));
    assert_int_equal(spool_waiting(f->spool), 0);
}

static uint64_t inode_of(const struct fixture *f, const char *name)
{
    struct stat st;

    assert_int_equal(lstat(path_of(f, name), &st), 0);
    return st.st_ino;
}

/* As a writer does, who has no free name: over what is there. */
static void put_all_over(struct fixture *f)
{
    char from[PATH_BYTES_MAX * 2];

    put(f, "t-00000000000000aa", "", 0);
    strcpy(from, path_of(f, "t-00000000000000aa"));
    assert_int_equal(rename(from, path_of(f, "all-07")), 0);
}

CASE(test_a_taken_file_that_waits_is_not_replaced_by_a_newer_one)
{
    f->safe_at_once = false;
    scan_all_07(f);
    const uint64_t older = inode_of(f, "taken-07");
    scan_all_07(f);
    assert_int_equal(f->seen_count, 2); /* its writer waits no longer than a lease */
    assert_int_equal(inode_of(f, "taken-07"), older);
    /* The older one is safe, the newer one is not: for the next daemon it is still there. */
    spool_file_done(f->spool, f->seen[0].slot);
    spool_file_done(f->spool, f->seen[0].slot);
    scan(f);
    assert_int_equal(f->seen_count, 2);
    spool_close(f->spool);
    open_spool(f, NS_PER_S);
    scan(f);
    assert_int_equal(f->seen_count, 3);
}

CASE(test_a_newer_one_that_is_safe_first_waits_for_the_older_one)
{
    f->safe_at_once = false;
    scan_all_07(f);
    scan_all_07(f);
    spool_file_done(f->spool, f->seen[1].slot);
    scan(f);
    assert_true(there(f, "taken-07"));
    spool_file_done(f->spool, f->seen[0].slot);
    scan(f);
    assert_false(there(f, "all-07") || there(f, "taken-07"));
    assert_int_equal(f->seen_count, 2);
}

CASE(test_an_all_file_replaced_while_it_waits_is_applied_again)
{
    f->safe_at_once = false;
    scan_all_07(f);
    put_all_over(f);
    scan(f);
    put_all_over(f);
    scan(f);
    assert_int_equal(f->seen_count, 3);
    spool_file_done(f->spool, f->seen[0].slot);
    spool_file_done(f->spool, f->seen[1].slot); /* of the one that was replaced */
    assert_true(there(f, "all-07"));
    spool_file_done(f->spool, f->seen[2].slot);
    assert_int_equal(spool_waiting(f->spool), 0);
    assert_false(there(f, "all-07") || there(f, "taken-07"));
}

CASE(test_an_all_file_replaced_while_it_is_removed_is_applied)
{
    f->safe_at_once = false;
    scan_all_07(f);
    scan_all_07(f);
    spool_file_done(f->spool, f->seen[0].slot);
    meanwhile.name = "all-07";
    meanwhile.act = put_all_over;
    meanwhile.f = f;
    spool_file_done(f->spool, f->seen[1].slot);
    assert_null(meanwhile.act);
    scan(f);
    assert_int_equal(f->seen_count, 3);
    spool_file_done(f->spool, f->seen[2].slot);
    assert_false(there(f, "all-07") || there(f, "taken-07"));
}

static void put_another(struct fixture *f)
{
    (void)unlink(path_of(f, "e001"));
    put_request(f, "e001", REQUEST_INVALIDATE, "b");
}

CASE(test_an_older_generation_does_not_remove_a_newer_file)
{
    f->safe_at_once = false;
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    scan(f);
    put_another(f);
    scan(f);
    assert_int_equal(f->seen_count, 2);
    spool_file_done(f->spool, f->seen[0].slot);
    assert_true(there(f, "e001"));
    assert_int_equal(spool_waiting(f->spool), 1);
    spool_file_done(f->spool, f->seen[1].slot);
    assert_false(there(f, "e001"));
}

static void put_b(struct fixture *f)
{
    put_request(f, "e001", REQUEST_INVALIDATE, "b");
}

CASE(test_a_name_that_is_taken_again_at_once_is_another_event)
{
    f->safe_at_once = false;
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    scan(f);
    const uint64_t inode = inode_of(f, "e001");
    meanwhile.name = "e001";
    meanwhile.after = true;
    meanwhile.act = put_b;
    meanwhile.f = f;
    spool_file_done(f->spool, f->seen[0].slot);
    meanwhile.after = false;
    assert_null(meanwhile.act);
    if (inode_of(f, "e001") != inode)
        print_message("this file system did not give the inode again\n");
    scan(f);
    scan(f);
    assert_int_equal(f->seen_count, 2);
    assert_string_equal(f->seen[1].surrogate, "b");
}

/* The name is taken again as soon as it is free; whatever its inode. */
static void put_after_unlink(struct fixture *f)
{
    assert_int_equal(__real_unlinkat(AT_FDCWD, path_of(f, "e001"), 0), 0);
    put_request(f, "e001", REQUEST_INVALIDATE, "b");
}

CASE(test_a_new_file_of_the_same_inode_is_applied)
{
    struct spool_file *known = &f->spool->files[1];

    f->safe_at_once = false;
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    scan(f);
    const struct spool_slot slot = f->seen[0].slot;
    spool_file_done(f->spool, slot);
    assert_false(there(f, "e001"));
    assert_int_equal(known->generation, 0); /* forgotten with its file */
    put_request(f, "e001", REQUEST_INVALIDATE, "b");
    scan(f);
    assert_int_equal(f->seen_count, 2);
    assert_string_equal(f->seen[1].surrogate, "b");

    /* And where its owner removed it: another birth, so another file. */
    const struct spool_identity before = known->identity;
    put_after_unlink(f);
    for (int i = 0; i < 1000 && inode_of(f, "e001") != before.inode; i++)
        put_after_unlink(f);
    scan(f);
    assert_int_equal(f->seen_count, 3);
    if (inode_of(f, "e001") != before.inode)
        print_message("this file system gave no inode twice\n");
}

CASE(test_a_file_whose_store_write_failed_goes_when_the_store_has_it)
{
    f->safe_at_once = false;
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    put_request(f, "e002", REQUEST_INVALIDATE, "b");
    scan(f);
    spool_file_failed(f->spool, f->seen[0].slot, 7);
    spool_file_failed(f->spool, f->seen[1].slot, 8);
    spool_stored(f->spool, 6);
    scan(f);
    assert_true(there(f, "e001") && there(f, "e002"));
    spool_stored(f->spool, 7);
    assert_false(there(f, "e001"));
    assert_true(there(f, "e002"));
    spool_stored(f->spool, 100);
    assert_false(there(f, "e002"));
    assert_int_equal(spool_waiting(f->spool), 0);
    assert_int_equal(f->seen_count, 2);
}

CASE(test_what_cannot_be_removed_is_tried_again_and_applied_once)
{
    const int fd = f->spool->dir.fd;

    f->safe_at_once = false;
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    scan(f);
    f->spool->dir.fd = -1;
    spool_file_done(f->spool, f->seen[0].slot);
    f->spool->dir.fd = fd;
    assert_true(there(f, "e001"));
    scan(f);
    assert_false(there(f, "e001"));
    assert_int_equal(f->seen_count, 1);
}

/* The begin of a guard: "purge everything" would be no substitute, since it puts nothing in
 * flux. */
static void put_over_strangers_fifo(struct fixture *f)
{
    assert_int_equal(unlink(path_of(f, "e001")), 0);
    put_request(f, "e001", REQUEST_GUARD_BEGIN, "a");
}

CASE(test_an_event_that_takes_the_name_of_what_is_ignored_is_applied_as_it_is)
{
    assert_int_equal(mkfifo(path_of(f, "e001"), 0666), 0);
    meanwhile.name = "e001";
    meanwhile.act = put_over_strangers_fifo;
    meanwhile.f = f;
    scan(f);
    assert_null(meanwhile.act);
    scan(f);
    assert_int_equal(f->seen_count, 1);
    assert_int_equal(f->seen[0].kind, REQUEST_GUARD_BEGIN);
}

static int teardown_noreplace(void **state)
{
    refuses_noreplace = false;
    return teardown(state);
}

#define NOREPLACE_CASE(name) TEST_OF(name, struct fixture *f, setup, teardown_noreplace)

NOREPLACE_CASE(test_a_file_system_that_cannot_rename_without_replacing_loses_and_leaves_nothing)
{
    refuses_noreplace = true;
    scan_all_07(f);
    assert_false(there(f, "all-07") || there(f, "taken-07"));
    assert_int_equal(f->seen_count, 1);

    /* One that waits is not replaced there either. */
    f->safe_at_once = false;
    scan_all_07(f);
    const uint64_t older = inode_of(f, "taken-07");
    scan_all_07(f);
    spool_file_done(f->spool, f->seen[2].slot);
    scan(f);
    assert_int_equal(inode_of(f, "taken-07"), older);
    assert_int_equal(f->seen_count, 3);
    spool_file_done(f->spool, f->seen[1].slot);
    scan(f);
    assert_false(there(f, "all-07") || there(f, "taken-07"));

    /* What does not count goes, and what took its name meanwhile stays. */
    assert_int_equal(mkfifo(path_of(f, "e001"), 0666), 0);
    assert_int_equal(mkfifo(path_of(f, "e002"), 0666), 0);
    meanwhile.name = "e001";
    meanwhile.act = put_over_strangers_fifo;
    meanwhile.f = f;
    scan(f);
    assert_false(there(f, "e002"));
    scan(f);
    assert_int_equal(f->seen_count, 4);
    assert_int_equal(f->seen[3].kind, REQUEST_GUARD_BEGIN);
    assert_int_equal(spool_waiting(f->spool), 1);
    spool_file_done(f->spool, f->seen[3].slot);
    assert_false(there(f, "e001"));
}

static void put_fifo(struct fixture *f)
{
    assert_int_equal(mkfifo(path_of(f, "e001"), 0666), 0);
}

static void put_over_strangers_fifo_and_again(struct fixture *f)
{
    put_over_strangers_fifo(f);
    meanwhile.name = "taken-01";
    meanwhile.act = put_fifo;
}

CASE(test_an_event_whose_name_is_taken_once_more_is_applied_as_it_is)
{
    put_fifo(f);
    meanwhile.name = "e001";
    meanwhile.act = put_over_strangers_fifo_and_again;
    meanwhile.f = f;
    scan(f);
    assert_null(meanwhile.act);
    assert_true(there(f, "taken-01"));
    scan(f);
    assert_int_equal(f->seen_count, 1);
    assert_int_equal(f->seen[0].kind, REQUEST_GUARD_BEGIN);
    assert_false(there(f, "taken-01"));
    scan(f);
    assert_int_equal(f->seen_count, 1);
}

CASE(test_garbage_purges_everything_and_is_set_aside)
{
    put(f, "e001", "garbage", 7);
    put(f, "e002", "", 0);
    put_request(f, "e003", REQUEST_PING, "a");
    scan(f);
    assert_int_equal(f->seen_count, 1);
    assert_true(f->seen[0].everything);
    assert_int_equal(f->spool->garbage, 3);
    assert_int_equal(f->spool->applied, 3);
    assert_false(there(f, "e001") || there(f, "e002") || there(f, "e003"));
    assert_true(there(f, "bad-03"));
    scan(f);
    assert_int_equal(f->seen_count, 1);
    /* What the reader refuses is garbage too. */
    put_request(f, "e004", REQUEST_INVALIDATE, "a");
    f->answer = SPOOL_E_GARBAGE;
    scan(f);
    assert_int_equal(f->seen_count, 2);
    assert_true(f->seen[1].everything);
    assert_false(there(f, "e004"));
}

CASE(test_what_is_no_plain_file_does_not_count_and_does_not_hang)
{
    char path[PATH_BYTES_MAX * 2];

    put_request(f, "e000", REQUEST_INVALIDATE, "a");
    strcpy(path, path_of(f, "e000"));
    assert_int_equal(mkfifo(path_of(f, "e001"), 0666), 0);
    assert_int_equal(symlink(path, path_of(f, "e002")), 0);
    assert_int_equal(mkdir(path_of(f, "e003"), 0700), 0);
    assert_int_equal(mkdir(path_of(f, "e004"), 0700), 0);
    put(f, "e004/inside", "", 0);
    put(f, "e005", "", 0);
    assert_int_equal(truncate(path_of(f, "e005"), (off_t)1 << 40), 0); /* huge, and sparse */
    put_request(f, "e006", REQUEST_INVALIDATE, "linked");
    strcpy(path, path_of(f, "e006"));
    assert_int_equal(link(path, path_of(f, "x")), 0); /* an event with a link is one */
    put(f, "../some file", "some text", 9);
    strcpy(path, path_of(f, "../some file"));
    assert_int_equal(link(path, path_of(f, "e007")), 0); /* a link to something else is none */
    assert_int_equal(mkfifo(path_of(f, "all-00"), 0666), 0);
    scan(f);
    assert_int_equal(f->seen_count, 2);
    assert_false(f->seen[0].everything || f->seen[1].everything);
    for (int i = 1; i < 8; i++) {
        char name[8];
        snprintf(name, sizeof(name), "e00%d", i);
        assert_false(there(f, name));
    }
    assert_false(there(f, "all-00"));
    assert_true(f->spool->ignored >= 6);
}

CASE(test_a_strangers_files_are_removed_unread)
{
    if (geteuid() != 0)
        skip();
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    put(f, "all-01", "", 0);
    put(f, "taken-02", "", 0);
    assert_int_equal(chown(path_of(f, "e001"), STRANGER, STRANGER), 0);
    assert_int_equal(chown(path_of(f, "all-01"), STRANGER, STRANGER), 0);
    assert_int_equal(chown(path_of(f, "taken-02"), STRANGER, STRANGER), 0);
    scan(f);
    assert_int_equal(f->seen_count, 0);
    assert_int_equal(f->spool->ignored, 3);
    assert_false(there(f, "e001"));
    assert_false(there(f, "all-01"));
    /* With the role learnt, they count, in the next run too. */
    spool_dir_learn(&f->spool->dir, STRANGER);
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    assert_int_equal(chown(path_of(f, "e001"), STRANGER, STRANGER), 0);
    spool_close(f->spool);
    open_spool(f, NS_PER_S);
    scan(f);
    assert_int_equal(f->seen_count, 1);
    assert_int_equal(f->seen[0].uid, STRANGER);
}

CASE(test_a_writer_that_lost_its_role_counts_until_a_scan_has_seen_the_new_mark)
{
    if (geteuid() != 0)
        skip();
    spool_close(f->spool);
    f->config.rules[0] = (struct role_rule){ROLE_MUTATE, RULE_UID, STRANGER};
    f->config.rule_count = 1;
    open_spool(f, NS_PER_S);
    spool_close(f->spool);
    f->config.rule_count = 0;
    open_spool(f, NS_PER_S);
    assert_false(spool_mark_counts(&f->spool->dir.mark, STRANGER));
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    assert_int_equal(chown(path_of(f, "e001"), STRANGER, STRANGER), 0);
    scan(f);
    assert_int_equal(f->seen_count, 1);
    scan(f);
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    assert_int_equal(chown(path_of(f, "e001"), STRANGER, STRANGER), 0);
    scan(f);
    assert_int_equal(f->seen_count, 1);
}

static void judge(struct fixture *f, const uint32_t *uids, size_t count)
{
    assert_int_equal(spool_dir_set_writers(&f->spool->dir, &f->config, uids, count), 0);
}

static bool mark_names(const struct fixture *f, uint32_t uid)
{
    struct spool_mark mark;

    assert_true(spool_dir_former(&f->config, &mark));
    return spool_mark_counts(&mark, uid);
}

/* As at a start: two changes at once included. */
CASE(test_other_rules_while_it_serves_count_from_the_scan_that_sees_the_new_mark)
{
    const uint32_t by_group = STRANGER + 1;
    const uint32_t stays = STRANGER + 2;

    f->config.rules[0] = (struct role_rule){ROLE_MUTATE, RULE_UID, STRANGER};
    f->config.rules[1] = (struct role_rule){ROLE_MUTATE, RULE_GID, 7};
    f->config.rule_count = 2;
    judge(f, NULL, 0);
    assert_true(mark_names(f, STRANGER));
    spool_dir_learn(&f->spool->dir, by_group);
    spool_dir_learn(&f->spool->dir, stays);
    judge(f, NULL, 0); /* the same rules: who was learnt stays */
    assert_true(mark_names(f, by_group));
    scan(f);
    scan(f);

    f->config.rules[0].id = STRANGER + 3;
    judge(f, &stays, 1);
    f->config.rule_count = 1;
    judge(f, &stays, 1);
    assert_false(mark_names(f, STRANGER));
    assert_false(mark_names(f, by_group));
    assert_true(mark_names(f, stays));
    assert_true(mark_names(f, STRANGER + 3));
    for (int i = 0; i < 2; i++) {
        assert_true(spool_dir_counts(&f->spool->dir, STRANGER));
        assert_true(spool_dir_counts(&f->spool->dir, by_group));
        scan(f);
    }
    assert_false(spool_dir_counts(&f->spool->dir, STRANGER));
    assert_false(spool_dir_counts(&f->spool->dir, by_group));
    assert_true(spool_dir_counts(&f->spool->dir, stays));
}

static void put_as(struct fixture *f, const char *name, uint32_t uid)
{
    put_request(f, name, REQUEST_INVALIDATE, "a");
    assert_int_equal(chown(path_of(f, name), uid, uid), 0);
}

static void role_give(struct fixture *f, bool given)
{
    f->config.rules[0] = (struct role_rule){ROLE_MUTATE, RULE_UID, STRANGER};
    f->config.rule_count = given;
    judge(f, NULL, 0);
}

CASE(test_a_file_that_waits_stays_when_its_owner_loses_the_role)
{
    if (geteuid() != 0)
        skip();
    f->safe_at_once = false;
    role_give(f, true);
    put_as(f, "e001", STRANGER);
    put(f, "all-07", "", 0);
    assert_int_equal(chown(path_of(f, "all-07"), STRANGER, STRANGER), 0);
    scan(f);
    role_give(f, false);
    for (int i = 0; i < 5; i++)
        scan(f);
    assert_true(there(f, "e001") && there(f, "taken-07"));
    assert_int_equal(f->spool->ignored, 0);
    /* What it leaves there from now on does not count, */
    put_as(f, "e002", STRANGER);
    scan(f);
    assert_int_equal(f->seen_count, 2);
    assert_false(there(f, "e002"));
    /* and the next daemon, and the one after it, count what waits, */
    for (int i = 0; i < 2; i++) {
        spool_close(f->spool);
        open_spool(f, NS_PER_S);
        for (int j = 0; j < 5; j++)
            scan(f);
        assert_int_equal(f->seen_count, 4 + 2 * i);
        assert_true(there(f, "e001") && there(f, "taken-07"));
    }
    /* until it is safe. */
    assert_true(there(f, "former"));
    spool_file_done(f->spool, f->seen[4].slot);
    scan(f);
    assert_true(there(f, "former"));
    spool_file_done(f->spool, f->seen[5].slot);
    scan(f);
    assert_false(there(f, "former") || there(f, "e001") || there(f, "taken-07"));
    spool_close(f->spool);
    open_spool(f, NS_PER_S);
    assert_false(spool_dir_counts(&f->spool->dir, STRANGER));
}

/* The second change must not forget whom the first one left owed to the next daemon. */
CASE(test_two_changes_of_roles_in_turn_owe_the_next_daemon_both)
{
    if (geteuid() != 0)
        skip();
    f->safe_at_once = false;
    f->config.rules[0] = (struct role_rule){ROLE_MUTATE, RULE_UID, STRANGER + 1};
    f->config.rules[1] = (struct role_rule){ROLE_MUTATE, RULE_UID, STRANGER};
    f->config.rule_count = 2;
    judge(f, NULL, 0);
    put_as(f, "e001", STRANGER);
    put_as(f, "e002", STRANGER + 1);
    scan(f);
    while (f->config.rule_count > 0) {
        f->config.rule_count--;
        judge(f, NULL, 0);
        for (int i = 0; i < 3; i++)
            scan(f);
    }
    assert_int_equal(f->seen_count, 2);
    spool_close(f->spool);
    open_spool(f, NS_PER_S);
    scan(f);
    assert_int_equal(f->seen_count, 4);
    assert_int_equal(f->spool->ignored, 0);
    assert_true(there(f, "e001") && there(f, "e002"));
}

/* The mark has changed, and no scan has seen what it said before. */
CASE(test_a_daemon_that_dies_after_a_change_of_roles_is_followed_by_one_that_knows)
{
    if (geteuid() != 0)
        skip();
    role_give(f, true);
    put_as(f, "e001", STRANGER);
    role_give(f, false);
    spool_close(f->spool);
    open_spool(f, NS_PER_S);
    scan(f);
    assert_int_equal(f->seen_count, 1);
    scan(f);
    assert_false(there(f, "former"));
}

CASE(test_a_file_put_in_the_place_of_one_that_waits_is_kept_for_the_next_daemon)
{
    if (geteuid() != 0)
        skip();
    f->safe_at_once = false;
    role_give(f, true);
    put_as(f, "e001", STRANGER);
    scan(f);
    role_give(f, false);
    scan(f);
    scan(f);
    assert_int_equal(unlink(path_of(f, "e001")), 0);
    put_as(f, "e001", STRANGER);
    scan(f);
    assert_true(there(f, "e001"));
    assert_int_equal(f->seen_count, 1);
    spool_file_done(f->spool, f->seen[0].slot);
    scan(f);
    assert_false(there(f, "e001"));
}

CASE(test_a_mark_that_cannot_be_written_stays_as_it_is)
{
    const int fd = f->spool->dir.fd;

    f->config.rules[0] = (struct role_rule){ROLE_MUTATE, RULE_UID, STRANGER};
    f->config.rule_count = 1;
    judge(f, NULL, 0);
    f->config.rule_count = 0;
    f->spool->dir.fd = -1;
    assert_int_not_equal(spool_dir_set_writers(&f->spool->dir, &f->config, NULL, 0), 0);
    f->spool->dir.fd = fd;
    scan(f);
    scan(f);
    scan(f);
    assert_true(mark_names(f, STRANGER));
    assert_true(spool_dir_counts(&f->spool->dir, STRANGER));
}

CASE(test_thousands_of_foreign_names_neither_hide_an_event_nor_stay)
{
    char name[32];

    /* Some before and some after them: whatever the order in which names are listed, not all are
     * among the first. */
    for (int i = 0; i < 15; i++) {
        snprintf(name, sizeof(name), "e%03x", i);
        put_request(f, name, REQUEST_INVALIDATE, "before");
    }
    for (int i = 0; i < 2 * (int)SPOOL_NAMES_MAX; i++) {
        snprintf(name, sizeof(name), "junk-%d", i);
        put(f, name, "", 0);
    }
    for (int i = 0x800; i < 0x800 + 15; i++) {
        snprintf(name, sizeof(name), "e%03x", i);
        put_request(f, name, REQUEST_INVALIDATE, "after");
    }
    put(f, "all-10", "", 0);
    const uint64_t began_ns = time_ns_of(CLOCK_MONOTONIC);
    scan(f);
    print_message("a scan of %u foreign names: %.1f ms\n", 2 * SPOOL_NAMES_MAX,
                  (double)(time_ns_of(CLOCK_MONOTONIC) - began_ns) / 1e6);
    assert_int_equal(f->seen_count, 31);
    assert_false(there(f, "e800"));
    for (int i = 0; i < 1000 && (there(f, "junk-0") || there(f, "junk-32767")); i++)
        scan(f);
    assert_false(there(f, "junk-0"));
    assert_false(there(f, "junk-32767"));
}
