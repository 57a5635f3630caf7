/* SPDX-License-Identifier: Apache-2.0 */
/* Real files and directories, and those who use the checks: lock, witness. Another user's only
 * where the test is root's. */
#include "lock_file.h"
#include "numbers.h"
#include "owned.h"
#include "scratch.h"
#include "witness.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define OTHER_UID 12345

struct fixture {
    char scratch[SCRATCH_BYTES];
    char socket[2 * SCRATCH_BYTES], lock[2 * SCRATCH_BYTES], witness[2 * SCRATCH_BYTES];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    scratch_make(f->scratch);
    scratch_path(f->socket, f->scratch, "s");
    scratch_path(f->lock, f->scratch, "s.lock");
    scratch_path(f->witness, f->scratch, "s.witness");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    scratch_remove(f->scratch);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, const struct fixture *f, set_up, tear_down)

/* Ways to be no file of ours; those that need root are left out without it. Each puts it at the
 * path. */
enum foreign {
    FOREIGN_OWNER,
    FOREIGN_FIFO,
    FOREIGN_LINK,
    FOREIGN_HARD_LINK,
    FOREIGN_MODE,
    FOREIGNS
};

static bool foreign_put(const struct fixture *f, const char *path, enum foreign how)
{
    char other[2 * SCRATCH_BYTES];

    scratch_path(other, f->scratch, "other");
    if (how == FOREIGN_OWNER && geteuid() != 0)
        return false;
    if (how == FOREIGN_FIFO) {
        assert_int_equal(mkfifo(path, 0600), 0);
        return true;
    }
    const char *made = how == FOREIGN_LINK || how == FOREIGN_HARD_LINK ? other : path;
    const int fd = open(made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    static const char bytes[24] = "a nonce of a stranger's";
    assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
    if (how == FOREIGN_OWNER)
        assert_int_equal(fchown(fd, OTHER_UID, OTHER_UID), 0);
    if (how == FOREIGN_MODE)
        assert_int_equal(fchmod(fd, 0620), 0);
    close(fd);
    if (how == FOREIGN_LINK)
        assert_int_equal(symlink(other, path), 0);
    if (how == FOREIGN_HARD_LINK)
        assert_int_equal(link(other, path), 0);
    return true;
}

CASE(a_lock_is_a_file_of_our_own)
{
    for (int how = 0; how < FOREIGNS; how++) {
        int fd = -1;
        if (!foreign_put(f, f->lock, (enum foreign)how))
            continue;
        if (lock_file_take(AT_FDCWD, f->lock, &fd) != -EPERM)
            fail_msg("a lock of kind %d is taken", how);
        assert_non_null(lock_file_fault(AT_FDCWD, f->lock));
        close(fd);
        assert_int_equal(unlink(f->lock), 0);
    }
    int fd = -1, second = -1;
    assert_null(lock_file_fault(AT_FDCWD, f->lock));
    assert_int_equal(lock_file_take(AT_FDCWD, f->lock, &fd), 0);
    assert_int_equal(lock_file_take(AT_FDCWD, f->lock, &second), -EAGAIN);
    close(second);
    close(fd);
    assert_int_equal(lock_file_take(AT_FDCWD, f->lock, &fd), 0); /* of a former run */
    close(fd);
}

CASE(somebody_elses_witness_is_none_and_is_replaced)
{
    for (int how = 0; how < FOREIGNS; how++) {
        struct witness witness = {.incarnation = 7}, seen;
        if (!foreign_put(f, f->witness, (enum foreign)how))
            continue;
        if (witness_read(f->socket, &seen))
            fail_msg("a witness of kind %d is believed", how);
        assert_int_equal(seen.incarnation, 0);
        assert_int_equal(witness_write(f->socket, &witness), 0);
        assert_true(witness_read(f->socket, &seen));
        assert_int_equal(seen.incarnation, 7);
        witness.incarnation = 8;
        assert_int_equal(witness_write(f->socket, &witness), 0); /* our own, in place */
        assert_true(witness_read(f->socket, &seen));
        assert_int_equal(seen.incarnation, 8);
        assert_int_equal(unlink(f->witness), 0);
    }
}

CASE(a_witness_with_more_behind_it_is_none_and_is_replaced)
{
    struct witness witness = {.incarnation = 7}, seen;

    assert_int_equal(witness_write(f->socket, &witness), 0);
    const int fd = open(f->witness, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_true(fd >= 0 && write(fd, "x", 1) == 1);
    close(fd);
    assert_false(witness_read(f->socket, &seen));
    assert_int_equal(witness_write(f->socket, &witness), 0);
    assert_true(witness_read(f->socket, &seen));
    assert_int_equal(seen.incarnation, 7);
}

CASE(directories)
{
    char dir[2 * SCRATCH_BYTES], link_to[2 * SCRATCH_BYTES + 2];
    bool shared = true;

    scratch_path(dir, f->scratch, "dir");
    assert_int_equal(mkdir(dir, 0755), 0);
    static const struct {
        mode_t mode;
        bool right, shared;
    } cases[] = {{0755, true, false},  {0700, true, false},  {0711, true, false},
                 {0775, false, false}, {0757, false, false}, {01777, true, true},
                 {01775, true, true},  {0777, false, false}, {02755, true, false},
                 {02775, false, false}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(chmod(dir, cases[i].mode), 0);
        if (!owned_dir_fault(dir, &shared) != cases[i].right || shared != cases[i].shared)
            fail_msg("mode %04o", cases[i].mode);
    }
    assert_int_equal(chmod(dir, 0755), 0);
    scratch_path(link_to, f->scratch, "link");
    assert_int_equal(symlink(dir, link_to), 0);
    assert_null(owned_dir_fault(link_to, &shared)); /* our own link is our own choice */
    assert_null(owned_link_fault(dir));
    assert_null(owned_link_fault("/nowhere/at/all"));
    assert_non_null(owned_dir_fault("/nowhere/at/all", &shared));
    if (geteuid() == 0) {
        assert_int_equal(lchown(link_to, OTHER_UID, OTHER_UID), 0);
        assert_non_null(owned_dir_fault(link_to, &shared));
        strcat(link_to, "/");
        assert_non_null(owned_link_fault(link_to));
        assert_int_equal(chown(dir, OTHER_UID, OTHER_UID), 0);
        assert_non_null(owned_dir_fault(dir, &shared));
    }
}
