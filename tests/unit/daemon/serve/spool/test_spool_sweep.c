/* SPDX-License-Identifier: Apache-2.0 */
/* What a start takes out of the spool, and what it must leave there: every file that may be
 * somebody's event. */
#include "testing.h"

#include "numbers.h"
#include "spool_fixture.h"

#include "spool_sweep.h"

#define WRITER 4711
#define FORMER 4712 /* by a mark that stopped naming him */
#define STRANGER 4713

static bool is_there(const struct fixture *f, const char *name)
{
    struct stat st;

    return lstat(path_of(f, name), &st) == 0;
}

static void put_of(const struct fixture *f, const char *name, uid_t uid)
{
    put(f, name, "x", 1);
    assert_int_equal(lchown(path_of(f, name), uid, uid), 0);
}

static void make_dir(const struct fixture *f, const char *name)
{
    assert_int_equal(mkdir(path_of(f, name), 0700), 0);
    assert_int_equal(lchown(path_of(f, name), STRANGER, STRANGER), 0);
}

static const char *const events[] = {"e001", "all-03", "taken-04", "t-0000000000000001", "bad-05"};
#define EVENTS COUNT_OF(events)

/* A spool that a daemon left whose mark names the writer, and whose file "former" the other one. */
static void left_behind(struct fixture *f)
{
    const uint32_t writer = WRITER, former = FORMER;
    static const struct role_rule rules[] = {{.kind = RULE_GID, .id = 5, .roles = ROLE_MUTATE},
                                             {.kind = RULE_GID, .id = 6, .roles = ROLE_MUTATE}};

    if (geteuid() != 0)
        skip();
    memcpy(f->config.rules, rules, sizeof(rules));
    f->config.rule_count = 1;
    assert_int_equal(spool_dir_set_writers(&f->spool->dir, &f->config, &former, 1), 0);
    spool_dir_scanned(&f->spool->dir, true);
    spool_dir_scanned(&f->spool->dir, true);
    f->config.rule_count = 2;
    assert_int_equal(spool_dir_set_writers(&f->spool->dir, &f->config, &writer, 1), 0);
    assert_true(is_there(f, "former"));
    spool_close(f->spool);
}

CASE(files_that_may_be_events_stay)
{
    char name[32];

    left_behind(f);
    for (size_t i = 0; i < EVENTS; i++) {
        snprintf(name, sizeof(name), "%s", events[i]);
        put_of(f, name, i % 2 ? FORMER : WRITER);
    }
    spool_dir_sweep(&f->config, &f->limit);
    for (size_t i = 0; i < EVENTS; i++)
        assert_true(is_there(f, events[i]));
    assert_true(is_there(f, "mark") && is_there(f, "lock") && is_there(f, "former"));
    assert_true(is_there(f, "reserve-0") && is_there(f, "reserve-1"));
    open_spool(f, NS_PER_S);
}

CASE(all_else_goes)
{
    left_behind(f);
    for (size_t i = 0; i < EVENTS; i++)
        put_of(f, events[i], STRANGER);
    put_of(f, "name", WRITER); /* no event's, whoever made it */
    assert_int_equal(mkfifo(path_of(f, "e002"), 0600), 0);
    assert_int_equal(symlink("/etc/passwd", path_of(f, "e003")), 0);
    assert_int_equal(unlink(path_of(f, "reserve-0")), 0);
    make_dir(f, "reserve-0");
    make_dir(f, "e004");
    put_of(f, "e004/inside", STRANGER);
    char deep[PATH_BYTES_MAX] = "e005";
    for (int i = 0; i < 60; i++) {
        make_dir(f, deep);
        strcat(deep, "/d");
    }
    spool_dir_sweep(&f->config, &f->limit);
    DIR *stream = opendir(f->spool->dir.path);
    const struct dirent *entry;
    size_t others = 0;
    while ((entry = readdir(stream)) != NULL) {
        uint32_t number;
        others += entry->d_name[0] != '.' &&
                  spool_name_parse(entry->d_name, &number) != SPOOL_NAME_OWN;
    }
    closedir(stream);
    assert_int_equal(others, 0);
    assert_false(is_there(f, "reserve-0"));
    assert_true(access("/etc/passwd", F_OK) == 0);
    open_spool(f, NS_PER_S);
    assert_true(is_there(f, "reserve-0"));
}

/* Nothing goes where another daemon runs, where nobody's mark is, or another socket's. */
CASE(only_in_a_spool_that_is_its_own)
{
    if (geteuid() != 0)
        skip();
    put_of(f, "e001", STRANGER);
    spool_dir_sweep(&f->config, &f->limit); /* ours holds the lock */
    assert_true(is_there(f, "e001"));
    spool_close(f->spool);

    char mark[PATH_BYTES_MAX * 2];
    snprintf(mark, sizeof(mark), "%s", path_of(f, "mark"));
    assert_int_equal(rename(mark, path_of(f, "t-mark")), 0);
    spool_dir_sweep(&f->config, &f->limit);
    assert_true(is_there(f, "e001"));
    assert_int_equal(rename(path_of(f, "t-mark"), mark), 0);

    struct config other = f->config;
    snprintf(other.socket_path, sizeof(other.socket_path), "%s/other.sock", f->scratch);
    spool_dir_sweep(&other, &f->limit);
    assert_true(is_there(f, "e001"));

    spool_dir_sweep(&f->config, &f->limit);
    assert_false(is_there(f, "e001"));
    open_spool(f, NS_PER_S);
}
