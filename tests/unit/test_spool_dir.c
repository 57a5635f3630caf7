/* SPDX-License-Identifier: Apache-2.0 */
/* The spool's directory without its events: its place, its mode, its lock, and the mark that writers read. */
#include "testing.h"

#include "spool_fixture.h"

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

static void test_the_mark_says_the_longest_lease_until_the_wait_is_over(void **state)
{
    struct fixture *f = *state;
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

static void test_the_directory_lets_writers_in_and_nobody_look(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    assert_int_equal(stat(f->spool->dir.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, SPOOL_DIR_MODE);
    assert_int_equal(stat(path_of(f, "mark"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
}

static void test_a_second_daemon_is_refused(void **state)
{
    struct fixture *f = *state;
    struct spool *second = calloc(1, sizeof(*second));
    char why[512] = "";

    assert_int_equal(spool_open(second, &f->config, NS_PER_S, &f->log, &f->arena, why), -1);
    assert_non_null(strstr(why, "another etagd uses it"));
    spool_close(second);
    free(second);
}

static void test_a_directory_that_was_replaced_is_no_longer_ours(void **state)
{
    struct fixture *f = *state;
    char aside[PATH_BYTES_MAX * 2];

    assert_true(spool_dir_still_owned(&f->spool->dir));
    snprintf(aside, sizeof(aside), "%s.aside", f->spool->dir.path);
    assert_int_equal(rename(f->spool->dir.path, aside), 0);
    assert_false(spool_dir_still_owned(&f->spool->dir));
}

static void test_with_power_durability_it_stands_in_the_state_directory(void **state)
{
    struct fixture *f = *state;
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

/* In the spool anybody may make names that are not there yet, and "former" seldom is. */
static void test_a_directory_in_the_place_of_former_is_replaced(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    f->config.rules[0] = (struct role_rule){ROLE_MUTATE, RULE_UID, 4242};
    f->config.rule_count = 1;
    assert_int_equal(spool_dir_judge(&f->spool->dir, &f->config, NULL, 0), 0);
    scan(f);
    scan(f);
    assert_int_equal(mkdir(path_of(f, "former"), 0777), 0);
    assert_int_equal(mkdir(path_of(f, "former/filled"), 0777), 0);
    f->config.rule_count = 0;
    assert_int_equal(spool_dir_judge(&f->spool->dir, &f->config, NULL, 0), 0);
    assert_false(spool_mark_counts(&f->spool->dir.mark, 4242));
    assert_int_equal(stat(path_of(f, "former"), &st), 0);
    assert_true(S_ISREG(st.st_mode));
    scan(f);
    scan(f);
    assert_int_equal(stat(path_of(f, "former"), &st), -1);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_the_mark_says_the_longest_lease_until_the_wait_is_over),
        CASE(test_the_directory_lets_writers_in_and_nobody_look),
        CASE(test_a_second_daemon_is_refused),
        CASE(test_a_directory_that_was_replaced_is_no_longer_ours),
        CASE(test_a_directory_in_the_place_of_former_is_replaced),
        CASE(test_with_power_durability_it_stands_in_the_state_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
