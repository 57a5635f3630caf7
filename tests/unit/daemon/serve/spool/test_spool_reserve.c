/* SPDX-License-Identifier: Apache-2.0 */
/* A mark written with what was kept for it: whole, at once, and never under the eyes of who reads
 * the former one. */
#include "testing.h"

#include "scratch.h"
#include "spool_format.h"
#include "spool_reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char scratch[SCRATCH_BYTES];
    int dir_fd;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    scratch_make(f->scratch);
    f->dir_fd = open(f->scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    spool_reserve_keep(f->dir_fd);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    close(f->dir_fd);
    scratch_remove(f->scratch);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, teardown)

static void put(const struct fixture *f, const char *text)
{
    assert_int_equal(spool_reserve_use(f->dir_fd, "mark", text, strlen(text), true), 0);
}

static void says(int fd, const char *text)
{
    char read_text[100] = "";

    assert_int_equal(pread(fd, read_text, sizeof(read_text) - 1, 0), (ssize_t)strlen(text));
    assert_string_equal(read_text, text);
}

static int mark_open(const struct fixture *f)
{
    const int fd = openat(f->dir_fd, "mark", O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static ino_t inode_of(const struct fixture *f, const char *name)
{
    struct stat st;

    assert_int_equal(fstatat(f->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
    return st.st_ino;
}

/* As often as it takes: the inode of the former mark is the next reserve. */
CASE(a_mark_takes_the_place_of_the_former_one)
{
    struct stat st;

    put(f, "one"); /* there is no former one: a file of the reserve is gone */
    spool_reserve_keep(f->dir_fd);
    const ino_t inodes[] = {inode_of(f, "mark"), inode_of(f, "reserve-0"),
                            inode_of(f, "reserve-1")};
    for (int i = 0; i < 10; i++) {
        put(f, i % 2 ? "something longer" : "short");
        const int fd = mark_open(f);
        says(fd, i % 2 ? "something longer" : "short");
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0644);
        close(fd);
        bool known = false;
        for (int n = 0; n < 3; n++)
            known |= inodes[n] == inode_of(f, "mark");
        assert_true(known);
    }
}

/* A writer that opened the mark and sleeps reads that one, whatever is written meanwhile. */
CASE(a_mark_that_somebody_has_open_is_not_written_over)
{
    int fds[6];
    char text[6][8];

    for (int i = 0; i < 6; i++) {
        snprintf(text[i], sizeof(text[i]), "mark %d", i);
        put(f, text[i]);
        spool_reserve_keep(f->dir_fd);
        fds[i] = mark_open(f);
    }
    for (int i = 0; i < 6; i++) {
        says(fds[i], text[i]);
        close(fds[i]);
    }
}

CASE(what_is_not_the_daemons_is_no_reserve)
{
    assert_int_equal(unlinkat(f->dir_fd, "reserve-0", 0), 0);
    assert_int_equal(symlinkat("elsewhere", f->dir_fd, "reserve-0"), 0);
    assert_int_equal(linkat(f->dir_fd, "reserve-1", f->dir_fd, "second-name", 0), 0);
    put(f, "text"); /* with one that was made anew */
    assert_int_equal(faccessat(f->dir_fd, "elsewhere", F_OK, 0), -1);
    struct stat st;
    assert_int_equal(fstatat(f->dir_fd, "second-name", &st, 0), 0);
    assert_int_equal(st.st_size, SPOOL_MARK_BYTES_MAX);
}
