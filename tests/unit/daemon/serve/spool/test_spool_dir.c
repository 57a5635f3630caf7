/* SPDX-License-Identifier: Apache-2.0 */
/* The spool's directory without its events: its place, its mode, its lock, the mark that writers
 * read, and what cannot be opened or read in it. */
#include "testing.h"

#include "numbers.h"
#include "spool_fixture.h"

#include <errno.h>
#include <sys/resource.h>

#define SOMEBODY 4242u

static struct spool_mark mark_there(const struct fixture *f)
{
    char text[SPOOL_MARK_BYTES_MAX];
    struct spool_mark mark;
    const int fd = open(path_of(f, "mark"), O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    const ssize_t len = read(fd, text, sizeof(text));
    close(fd);
    assert_true(spool_mark_parse((etag_str){text, (size_t)len}, &mark));
    return mark;
}

CASE(test_the_mark_says_the_longest_lease_until_the_wait_is_over)
{
    const uint64_t id = mark_there(f).id;

    assert_int_equal(mark_there(f).lease_ns, NS_PER_S);
    spool_close(f->spool);
    open_spool(f, NS_PER_S / 10);
    assert_int_equal(mark_there(f).lease_ns, NS_PER_S);
    assert_int_equal(f->spool->dir.former.lease_ns, NS_PER_S);
    assert_int_equal(spool_dir_settle(&f->spool->dir, NS_PER_S / 10), 0);
    assert_int_equal(mark_there(f).lease_ns, NS_PER_S / 10);
    assert_int_equal(mark_there(f).id, id);
    spool_close(f->spool);
    open_spool(f, 2 * NS_PER_S);
    assert_int_equal(mark_there(f).lease_ns, 2 * NS_PER_S);
}

CASE(test_the_directory_lets_writers_in_and_nobody_look)
{
    struct stat st;

    assert_int_equal(stat(f->spool->dir.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, SPOOL_DIR_MODE);
    assert_int_equal(stat(path_of(f, "mark"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
}

CASE(test_a_second_daemon_is_refused)
{
    struct spool *second = calloc(1, sizeof(*second));
    struct why why;

    assert_int_equal(spool_open(second, &f->config, NS_PER_S, &f->limit, &f->arena, &why), -1);
    assert_non_null(strstr(why.text, "another etagd uses it"));
    spool_close(second);
    free(second);
}

CASE(test_a_directory_that_was_replaced_is_no_longer_ours)
{
    char aside[PATH_BYTES_MAX * 2];

    assert_true(spool_dir_still_owned(&f->spool->dir));
    snprintf(aside, sizeof(aside), "%s.aside", f->spool->dir.path);
    assert_int_equal(rename(f->spool->dir.path, aside), 0);
    assert_false(spool_dir_still_owned(&f->spool->dir));
}

CASE(test_with_power_durability_it_stands_in_the_state_directory)
{
    char leads_to[PATH_BYTES_MAX] = "", target[PATH_BYTES_MAX + 16];
    struct stat st;

    spool_close(f->spool);
    f->config.durability = DURABILITY_POWER;
    assert_int_equal(mkdir(f->config.state_dir, 0700), 0);
    open_spool(f, NS_PER_S);
    snprintf(target, sizeof(target), "%s/spool", f->config.state_dir);
    assert_true(readlink(f->spool->dir.path, leads_to, sizeof(leads_to) - 1) > 0);
    assert_string_equal(leads_to, target);
    assert_int_equal(stat(f->config.state_dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0711);
    assert_true(mark_there(f).power);
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    scan(f);
    assert_int_equal(f->seen_count, 1);
    /* And back: the link goes, and the former place has no mark. */
    spool_close(f->spool);
    f->config.durability = DURABILITY_PROCESS;
    open_spool(f, NS_PER_S);
    assert_int_equal(lstat(f->spool->dir.path, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(stat(f->config.state_dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    snprintf(target, sizeof(target), "%s/spool/mark", f->config.state_dir);
    assert_int_equal(access(target, F_OK), -1);
}

static void rules_are(struct fixture *f, size_t count)
{
    f->config.rules[0] = (struct role_rule){ROLE_MUTATE, RULE_UID, SOMEBODY};
    f->config.rules[1] = (struct role_rule){ROLE_MUTATE, RULE_UID, SOMEBODY + 1};
    f->config.rule_count = count;
}

static void judge(struct fixture *f, size_t rule_count)
{
    rules_are(f, rule_count);
    assert_int_equal(spool_dir_set_writers(&f->spool->dir, &f->config, NULL, 0), 0);
}

static void open_again(struct fixture *f, size_t rule_count)
{
    spool_close(f->spool);
    rules_are(f, rule_count);
    open_spool(f, NS_PER_S);
}

/* A writer compares the marks before and after its rename: both may name it, and yet a scan has
 * ignored its file in between. */
CASE(test_the_mark_counts_how_often_somebody_stopped_counting)
{
    const uint64_t first = mark_there(f).changes;

    judge(f, 2);
    spool_dir_learn(&f->spool->dir, SOMEBODY + 2);
    judge(f, 2);
    open_again(f, 2);
    assert_true(mark_there(f).changes == first); /* nobody stopped */
    judge(f, 1);
    assert_true(mark_there(f).changes == first + 1);
    judge(f, 2);
    assert_true(mark_there(f).changes == first + 1);
    assert_true(spool_mark_counts(&f->spool->dir.mark, SOMEBODY + 1));
    open_again(f, 0);
    assert_true(mark_there(f).changes == first + 2);
    open_again(f, 2);
    assert_true(mark_there(f).changes == first + 2);
}

/* It may have been seen: where only the sync of the directory failed, say. */
CASE(test_a_change_that_could_not_be_marked_is_counted_all_the_same)
{
    const int fd = f->spool->dir.fd;

    judge(f, 1);
    const uint64_t before = mark_there(f).changes;
    rules_are(f, 0);
    f->spool->dir.fd = -1;
    assert_int_equal(spool_dir_set_writers(&f->spool->dir, &f->config, NULL, 0), -EBADF);
    f->spool->dir.fd = fd;
    assert_true(spool_mark_counts(&f->spool->dir.mark, SOMEBODY));
    judge(f, 0);
    assert_true(mark_there(f).changes == before + 2);
}

/* Of a daemon before an update: its lease is waited for, and the spool is the same. (The start is
 * cold: test_states.py.) */
CASE(test_of_another_versions_mark_lease_and_linger_count)
{
    struct spool_mark former;
    char text[1024];

    const struct spool_mark mark = mark_there(f);
    const int len = snprintf(text, sizeof(text),
                             "etagd-spool %u\nid=%016llx\nsocket=etagd.sock\nlease_ns=3000000000\n"
                             "linger_ns=7000000000\nsomething=new\n",
                             SPOOL_VERSION + 1, (unsigned long long)mark.id);
    spool_close(f->spool);
    assert_int_equal(unlink(path_of(f, "mark")), 0);
    put(f, "mark", text, (size_t)len);
    assert_true(spool_dir_former(&f->config, &former));
    assert_int_equal(former.version, SPOOL_VERSION + 1);
    assert_true(former.linger_ns == 7 * NS_PER_S);
    open_spool(f, NS_PER_S);
    assert_true(mark_there(f).id == mark.id);
    assert_int_equal(mark_there(f).version, SPOOL_VERSION);
    assert_true(mark_there(f).lease_ns == 3 * NS_PER_S);
    assert_true(f->spool->dir.former.lease_ns == 3 * NS_PER_S);
}

/* Root reads everything: the daemon goes on as another user, who has the directory. Until
 * teardown_user(). */
static void go_on_as_user(struct fixture *f)
{
    static const char *const names[] = {"", SPOOL_MARK_NAME, SPOOL_LOCK_NAME};

    if (geteuid() != 0)
        return;
    spool_close(f->spool);
    assert_int_equal(chown(f->scratch, SOMEBODY, SOMEBODY), 0);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        assert_int_equal(chown(path_of(f, names[i]), SOMEBODY, SOMEBODY), 0);
    assert_int_equal(seteuid(SOMEBODY), 0);
    open_spool(f, NS_PER_S);
}

static int teardown_user(void **state)
{
    return seteuid(getuid()) == 0 ? teardown(state) : -1;
}

#define USER_CASE(name) TEST_OF(name, struct fixture *f, setup, teardown_user)

USER_CASE(test_an_unreadable_file_of_a_writer_purges_everything)
{
    go_on_as_user(f);
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    assert_int_equal(chmod(path_of(f, "e001"), 0), 0);
    scan(f);
    assert_int_equal(f->seen_count, 1);
    assert_true(f->seen[0].everything);
    assert_false(there(f, "e001"));
}

/* Of a file that cannot be read nobody knows whether it is an event to which somebody made a
 * link. */
USER_CASE(test_an_unreadable_file_with_a_second_link_purges_everything_too)
{
    char path[PATH_BYTES_MAX * 2];

    go_on_as_user(f);
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    strcpy(path, path_of(f, "e001"));
    assert_int_equal(link(path, path_of(f, "../a link")), 0);
    assert_int_equal(chmod(path, 0), 0);
    scan(f);
    assert_int_equal(f->seen_count, 1);
    assert_true(f->seen[0].everything);
    assert_int_equal(f->spool->ignored, 0);
    assert_false(there(f, "e001"));
    scan(f);
    assert_int_equal(f->seen_count, 1);
}

USER_CASE(test_a_directory_that_cannot_be_opened_fails_the_scan_and_loses_nothing)
{
    const struct spool_reader reader = {apply, f};

    go_on_as_user(f);
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    assert_int_equal(chmod(path_of(f, ""), 0300), 0); /* its files could be opened */
    assert_int_equal(spool_scan(f->spool, &reader), -EACCES);
    assert_int_equal(f->seen_count, 0);
    assert_int_equal(chmod(path_of(f, ""), SPOOL_DIR_MODE), 0);
    scan(f);
    assert_int_equal(f->seen_count, 1);
}

/* Every descriptor of the process. */
struct crowd {
    int fds[64];
    size_t count;
    struct rlimit former;
};

static void crowd_take(struct crowd *crowd)
{
    int fd;

    while (crowd->count < 64 && (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        crowd->fds[crowd->count++] = fd;
}

static void crowd_begin(struct crowd *crowd)
{
    crowd->count = 0;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &crowd->former), 0);
    const struct rlimit few = {64, crowd->former.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    crowd_take(crowd);
}

static void crowd_end(struct crowd *crowd)
{
    while (crowd->count > 0)
        close(crowd->fds[--crowd->count]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &crowd->former), 0);
}

CASE(test_without_descriptors_an_event_is_still_read)
{
    const struct spool_reader reader = {apply, f};
    struct crowd crowd;

    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    put_request(f, "e002", REQUEST_INVALIDATE, "b");
    crowd_begin(&crowd);
    const int r = spool_scan(f->spool, &reader);
    crowd_end(&crowd);
    assert_int_equal(r, 0);
    assert_int_equal(f->seen_count, 2);
}

CASE(test_after_a_scan_nobody_else_gets_the_spare_descriptor)
{
    const struct spool_reader reader = {apply, f};
    struct crowd crowd;

    f->safe_at_once = false;
    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    crowd_begin(&crowd);
    const int first = spool_scan(f->spool, &reader);
    crowd_take(&crowd);
    const int second = spool_scan(f->spool, &reader);
    crowd_end(&crowd);
    assert_int_equal(first, 0);
    assert_int_equal(second, 0);
}

CASE(test_without_any_descriptor_the_scan_fails_and_loses_nothing)
{
    const struct spool_reader reader = {apply, f};
    struct crowd crowd;

    put_request(f, "e001", REQUEST_INVALIDATE, "a");
    close(take_fd(&f->spool->dir.spare_fd));
    crowd_begin(&crowd);
    const int r = spool_scan(f->spool, &reader);
    crowd_end(&crowd);
    assert_int_equal(r, -EMFILE);
    assert_int_equal(f->seen_count, 0);
    scan(f);
    assert_int_equal(f->seen_count, 1);
}

/* In the spool anybody may make names that are not there yet, and "former" seldom is. */
CASE(test_a_directory_in_the_place_of_former_is_replaced)
{
    struct stat st;

    f->config.rules[0] = (struct role_rule){ROLE_MUTATE, RULE_UID, 4242};
    f->config.rule_count = 1;
    assert_int_equal(spool_dir_set_writers(&f->spool->dir, &f->config, NULL, 0), 0);
    scan(f);
    scan(f);
    assert_int_equal(mkdir(path_of(f, "former"), 0777), 0);
    assert_int_equal(mkdir(path_of(f, "former/filled"), 0777), 0);
    f->config.rule_count = 0;
    assert_int_equal(spool_dir_set_writers(&f->spool->dir, &f->config, NULL, 0), 0);
    assert_false(spool_mark_counts(&f->spool->dir.mark, 4242));
    assert_int_equal(stat(path_of(f, "former"), &st), 0);
    assert_true(S_ISREG(st.st_mode));
    scan(f);
    scan(f);
    assert_int_equal(stat(path_of(f, "former"), &st), -1);
}
