/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing into the spool: what is refused, what a file looks like, what happens where there is no
 * room, and the order of the steps. Some system calls go through this file (the linker's --wrap),
 * which writes them down and lets them fail.
 */
#include "clocktime.h"
#include "fake_spool.h"
#include "numbers.h"
#include "scratch.h"
#include "spool_writer.h"
#include "text.h"

#include <errno.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/vfs.h>

#define LEASE_NS UINT64_C(1000000000)

struct fixture {
    char dir[SCRATCH_BYTES], socket_path[SCRATCH_BYTES + 16];
    struct fake_spool spool;
    struct spool_place place;
    struct buffer frame;
    struct spool_item item;
    struct spool_record record;
    struct fault fault;
};

/* ---- System calls ---- */

static struct {
    char log[256];
    /* errno; 0: they don't */
    int write_fails, fsync_fails;
    /* so often */
    int write_fails_count;
    /* whose mark changes right after the rename */
    struct fixture *marked_anew;
    const char *moved, *moved_to;
    /* a directory goes away then, and another one comes */
    const char *replaced_by;
    uint64_t renamed_ns;
    /* renameat2, as some file systems do */
    bool refuses_noreplace;
    /* the directory: mode 3733, and not its owner */
    bool unreadable;
    /* of the file system; 0: its own */
    long magic;
} calls;

ssize_t __real_write(int fd, const void *bytes, size_t len);
ssize_t __wrap_write(int fd, const void *bytes, size_t len);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_syncfs(int fd);
int __wrap_syncfs(int fd);
int __real_fstatfs(int fd, struct statfs *out);
int __wrap_fstatfs(int fd, struct statfs *out);
int __real_openat(int dir, const char *name, int flags, ...);
int __wrap_openat(int dir, const char *name, int flags, ...);
int __real_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);

static void note(const char *word)
{
    const size_t len = strlen(calls.log);

    snprintf(calls.log + len, sizeof(calls.log) - len, "%s ", word);
}

ssize_t __wrap_write(int fd, const void *bytes, size_t len)
{
    if (calls.write_fails && calls.write_fails_count-- > 0) {
        errno = calls.write_fails;
        return -1;
    }
    return __real_write(fd, bytes, len);
}

int __wrap_fsync(int fd)
{
    struct stat status;

    assert_int_equal(fstat(fd, &status), 0);
    note(S_ISDIR(status.st_mode) ? "sync_dir" : "sync_file");
    if (calls.fsync_fails) {
        errno = calls.fsync_fails;
        return -1;
    }
    return __real_fsync(fd);
}

int __wrap_syncfs(int fd)
{
    note("syncfs");
    return __real_syncfs(fd);
}

int __wrap_fstatfs(int fd, struct statfs *out)
{
    const int r = __real_fstatfs(fd, out);

    out->f_type = calls.magic ? calls.magic : EXT4_SUPER_MAGIC;
    return r;
}

int __wrap_openat(int dir, const char *name, int flags, ...)
{
    va_list more;

    va_start(more, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (calls.unreadable && strcmp(name, ".") == 0) {
        errno = EACCES;
        return -1;
    }
    return __real_openat(dir, name, flags, mode);
}

int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    if (calls.refuses_noreplace && (flags & RENAME_NOREPLACE)) {
        errno = EINVAL;
        return -1;
    }
    const int r = __real_renameat2(from_dir, from, to_dir, to, flags);
    if (r < 0)
        return r;
    note("rename");
    if (calls.marked_anew)
        fake_spool_mark(&calls.marked_anew->spool);
    if (calls.moved)
        assert_int_equal(rename(calls.moved, calls.moved_to), 0);
    if (calls.replaced_by)
        assert_int_equal(rename(calls.replaced_by, calls.moved), 0);
    /* A tick of the coarse clock or two. */
    poll(NULL, 0, 20);
    calls.renamed_ns = time_coarse_ns();
    return r;
}

/* ---- Fixture ---- */

static void encode(struct fixture *f, struct request *request)
{
    f->frame.len = 0;
    assert_int_equal(request_encode(&f->frame, request), 0);
    f->item.frame = (etag_str){(const char *)f->frame.bytes, f->frame.len};
}

static struct request small_request(void)
{
    static const etag_str name = ETAG_LIT("upload:42");

    return (struct request){
        .id = 7,
        .kind = REQUEST_INVALIDATE,
        .targets = {sizeof(etag_targets), .surrogates = &name, .surrogate_count = 1}};
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct request request = small_request();

    memset(&calls, 0, sizeof(calls));
    scratch_make(f->dir);
    snprintf(f->socket_path, sizeof(f->socket_path), "%s/etagd.sock", f->dir);
    fake_spool_make(&f->spool, f->dir, LEASE_NS);
    f->place = (struct spool_place){f->spool.path, f->socket_path, 0};
    f->item.all_will_do = true;
    encode(f, &request);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    scratch_remove(f->dir);
    buffer_deinit(&f->frame);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, teardown)

static etag_status put(struct fixture *f)
{
    return spool_write(&f->place, &f->item, &f->record, &f->fault);
}

static int count(const struct fixture *f, enum spool_name kind)
{
    return fake_spool_count(&f->spool, kind, NULL);
}

static void expect_failed(struct fixture *f, etag_status status, const char *part)
{
    assert_int_equal(put(f), status);
    assert_int_equal(f->fault.status, status);
    if (!strstr(f->fault.text, part))
        fail_msg("\"%s\" is not in \"%s\"", part, f->fault.text);
    assert_false(f->record.in_place);
}

static void expect_nothing(struct fixture *f, etag_status status, const char *part)
{
    expect_failed(f, status, part);
    assert_int_equal(count(f, SPOOL_NAME_EVENT) + count(f, SPOOL_NAME_ALL), 0);
    assert_int_equal(count(f, SPOOL_NAME_TEMP), 0);
}

static const char *in_spool(const struct fixture *f, const char *name)
{
    static char path[2 * SCRATCH_BYTES];

    return scratch_path(path, f->spool.path, name);
}

/* ---- What a writer leaves ---- */

CASE(writes_an_event)
{
    struct arena arena;
    struct request request;
    struct stat status;
    char name[SPOOL_NAME_BYTES];
    const mode_t mask = umask(0777);
    const uint64_t before = time_coarse_ns();
    const etag_status result = put(f);

    umask(mask);
    assert_int_equal(result, ETAG_OK);
    assert_true(f->record.in_place);
    assert_true(f->record.time_ns >= before);
    assert_true(f->record.lease_ns == LEASE_NS);
    assert_true(f->record.linger_ns == f->spool.mark.linger_ns);
    fake_spool_event(&f->spool, &arena, &request);
    assert_int_equal(request.kind, REQUEST_INVALIDATE);
    assert_int_equal(request.targets.surrogate_count, 1);
    arena_deinit(&arena);
    assert_int_equal(fake_spool_count(&f->spool, SPOOL_NAME_EVENT, name), 1);
    assert_int_equal(lstat(in_spool(f, name), &status), 0);
    assert_int_equal(status.st_mode & 07777, SPOOL_FILE_MODE);
    assert_int_equal(status.st_nlink, 1);
    assert_int_equal(count(f, SPOOL_NAME_TEMP), 0);
    assert_string_equal(calls.log, "rename ");
}

/* Rule MARK_READ_AFTER_RENAME. Without it a daemon with a longer lease may vouch for old answers
 * after the wait. */
CASE(the_mark_is_read_after_the_rename)
{
    calls.marked_anew = f;
    f->spool.mark.lease_ns = 7 * LEASE_NS;
    f->spool.mark.linger_ns = 99;
    assert_int_equal(put(f), ETAG_OK);
    assert_true(f->record.lease_ns == 7 * LEASE_NS);
    assert_true(f->record.linger_ns == 99);
}

/* Rule RENAME_BEFORE_CLOCK: a renewal that missed the file read its clock before T. */
CASE(the_clock_is_read_after_the_rename)
{
    assert_int_equal(put(f), ETAG_OK);
    assert_true(f->record.time_ns >= calls.renamed_ns);
}

CASE(a_file_system_that_cannot_rename_without_replacing)
{
    char name[SPOOL_NAME_BYTES];
    struct stat status;

    calls.refuses_noreplace = true;
    assert_int_equal(put(f), ETAG_OK);
    assert_int_equal(fake_spool_count(&f->spool, SPOOL_NAME_EVENT, name), 1);
    assert_int_equal(lstat(in_spool(f, name), &status), 0);
    assert_int_equal(status.st_nlink, 1);
    assert_int_equal(count(f, SPOOL_NAME_TEMP), 0);
    /* No event is replaced there either. */
    assert_int_equal(unlink(in_spool(f, name)), 0);
    fake_spool_fill(&f->spool, 1);
    assert_int_equal(put(f), ETAG_OK);
    assert_int_equal(count(f, SPOOL_NAME_EVENT), SPOOL_SLOTS);
    assert_int_equal(count(f, SPOOL_NAME_ALL), 1);
    assert_int_equal(count(f, SPOOL_NAME_TEMP), 0);
}

CASE(power_syncs_the_file_before_its_name)
{
    f->spool.mark.power = true;
    fake_spool_mark(&f->spool);
    assert_int_equal(put(f), ETAG_OK);
    assert_string_equal(calls.log, "sync_file rename sync_dir ");
}

/* Not the whole file system: that waits for the data of others. */
CASE(power_syncs_the_name_by_the_file_where_the_directory_cannot_be_read)
{
    f->spool.mark.power = true;
    fake_spool_mark(&f->spool);
    calls.unreadable = true;
    assert_int_equal(put(f), ETAG_OK);
    assert_string_equal(calls.log, "sync_file rename sync_file ");
    calls.log[0] = '\0';
    calls.magic = 0x6969; /* NFS */
    assert_int_equal(put(f), ETAG_OK);
    assert_string_equal(calls.log, "sync_file rename syncfs ");
}

CASE(a_sync_that_fails_is_told)
{
    f->spool.mark.power = true;
    fake_spool_mark(&f->spool);
    calls.fsync_fails = EIO;
    expect_nothing(f, ETAG_UNAVAILABLE, "sync");
}

CASE(a_mark_that_goes_away_proves_nothing)
{
    calls.marked_anew = f;
    f->spool.mark.id = 0;
    assert_int_equal(put(f), ETAG_UNAVAILABLE);
    assert_true(f->record.in_place); /* so it is not written again */
}

/* The daemon may have scanned under the new mark before the rename: the file is nobody's then, and
 * "recorded" would be untrue. */
CASE(a_user_who_counts_no_more_after_the_rename_is_denied)
{
    calls.marked_anew = f;
    f->spool.mark.writers[0] = (uint32_t)geteuid() + 1;
    assert_int_equal(put(f), ETAG_DENIED);
    assert_true(f->record.in_place); /* so it is not written again */
}

/* It hung after its rename, say. One reload took the role, a scan removed the file as a stranger's,
 * another reload gave it back. */
CASE(a_role_that_was_taken_and_given_back_meanwhile_proves_nothing)
{
    calls.marked_anew = f;
    f->spool.mark.changes++;
    assert_int_equal(put(f), ETAG_UNAVAILABLE);
    assert_non_null(strstr(f->fault.text, "roles were changed meanwhile"));
    assert_true(f->record.in_place);
    /* Nothing has changed since. */
    assert_int_equal(put(f), ETAG_OK);
}

/* Without the mark nobody remembers who counted. */
CASE(a_mark_that_was_made_anew_meanwhile_proves_nothing)
{
    calls.marked_anew = f;
    f->spool.mark.id++;
    assert_int_equal(put(f), ETAG_UNAVAILABLE);
    assert_true(f->record.in_place);
}

CASE(a_mark_of_another_version_is_refused)
{
    const char mark[] =
        "etagd-spool 3\nid=00000000000000aa\nsocket=etagd.sock\nlease_ns=1000000000\n"
        "linger_ns=1000000000\ndurability=process\nrules=0000000000000000\n"
        "owner=%u\nnobody=65534\nanybody=1\nend=0\n";
    char text[sizeof(mark) + 16];
    const int len = snprintf(text, sizeof(text), mark, (unsigned)geteuid());

    assert_int_equal(unlink(in_spool(f, SPOOL_MARK_NAME)), 0);
    fake_spool_write(&f->spool, SPOOL_MARK_NAME, text, (size_t)len, 0644);
    expect_nothing(f, ETAG_UNAVAILABLE, "of another version");
}

/* Ours is moved away; the path leads to another one then, or nowhere. */
CASE(a_directory_that_is_moved_is_noticed)
{
    struct fake_spool second;
    char other[2 * SCRATCH_BYTES], away[2 * SCRATCH_BYTES];

    scratch_path(other, f->dir, "other");
    scratch_path(away, f->dir, "away");
    assert_int_equal(mkdir(other, 0700), 0);
    fake_spool_make(&second, other, LEASE_NS);
    for (int i = 0; i < 2; i++) {
        calls.moved = f->spool.path;
        calls.moved_to = away;
        calls.replaced_by = i == 0 ? second.path : NULL;
        assert_int_equal(put(f), ETAG_UNAVAILABLE);
        assert_non_null(strstr(f->fault.text, "moved"));
        assert_true(f->record.in_place);
        assert_int_equal(rename(f->spool.path, second.path), i == 0 ? 0 : -1);
        assert_int_equal(rename(away, f->spool.path), 0);
    }
}

/* ---- What is no spool ---- */

CASE(no_directory)
{
    f->place.path = "";
    expect_nothing(f, ETAG_UNAVAILABLE, "no room");
    f->place.path = in_spool(f, "nothing");
    expect_nothing(f, ETAG_UNAVAILABLE, "no daemon has run here");
    fake_spool_write(&f->spool, "file", "", 0, 0600);
    f->place.path = in_spool(f, "file");
    expect_nothing(f, ETAG_UNAVAILABLE, "open");
}

CASE(no_mark)
{
    assert_int_equal(unlink(in_spool(f, "mark")), 0);
    expect_nothing(f, ETAG_UNAVAILABLE, "container");
}

CASE(a_mark_that_is_no_mark)
{
    static char text[SPOOL_MARK_BYTES_MAX + 1];
    const size_t len = spool_mark_format(&f->spool.mark, text);

    fake_spool_write(&f->spool, "mark", text, len - 1, 0644);
    expect_nothing(f, ETAG_UNAVAILABLE, "not whole");
    fake_spool_write(&f->spool, "mark", "", 0, 0644);
    expect_nothing(f, ETAG_UNAVAILABLE, "not whole");
    fake_spool_write(&f->spool, "mark", text, sizeof(text), 0644);
    expect_nothing(f, ETAG_UNAVAILABLE, "too large");
    fake_spool_write(&f->spool, "mark", text, len, 0664);
    expect_nothing(f, ETAG_UNAVAILABLE, "written by others");
    fake_spool_write(&f->spool, "mark", text, len, 0646);
    expect_nothing(f, ETAG_UNAVAILABLE, "written by others");
    fake_spool_write(&f->spool, "mark", text, len, 0644);
    assert_int_equal(put(f), ETAG_OK);
}

/* Nothing is followed, nothing is waited for. */
CASE(a_mark_that_is_no_file)
{
    char other[2 * SCRATCH_BYTES];

    scratch_path(other, f->dir, "mark");
    assert_int_equal(rename(in_spool(f, "mark"), other), 0);
    assert_int_equal(symlink(other, in_spool(f, "mark")), 0);
    expect_nothing(f, ETAG_UNAVAILABLE, "no regular file");
    assert_int_equal(unlink(in_spool(f, "mark")), 0);
    assert_int_equal(mkfifo(in_spool(f, "mark"), 0644), 0);
    expect_nothing(f, ETAG_UNAVAILABLE, "no regular file");
    assert_int_equal(unlink(in_spool(f, "mark")), 0);
    assert_int_equal(mkdir(in_spool(f, "mark"), 0755), 0);
    expect_nothing(f, ETAG_UNAVAILABLE, "no regular file");
}

CASE(another_spools_mark)
{
    f->place.id = FAKE_SPOOL_ID + 1;
    expect_nothing(f, ETAG_UNAVAILABLE, "another daemon");
    f->place.id = FAKE_SPOOL_ID;
    assert_int_equal(put(f), ETAG_OK);
}

CASE(owners)
{
    if (geteuid() != 0) /* only root gives files away */
        skip();
    assert_int_equal(chown(in_spool(f, "mark"), 12345, 12345), 0);
    expect_nothing(f, ETAG_UNAVAILABLE, "somebody else");
    /* A directory of a stranger, with a mark that fits it. */
    assert_int_equal(chown(f->spool.path, 12345, 12345), 0);
    expect_nothing(f, ETAG_UNAVAILABLE, "neither to root");
    /* A file is no socket. */
    fake_spool_write(&f->spool, "../etagd.sock", "", 0, 0600);
    assert_int_equal(chown(f->socket_path, 12345, 12345), 0);
    expect_nothing(f, ETAG_UNAVAILABLE, "neither to root");
    assert_int_equal(unlink(f->socket_path), 0);
    assert_int_equal(mknod(f->socket_path, S_IFSOCK | 0666, 0), 0);
    expect_nothing(f, ETAG_UNAVAILABLE, "neither to root");
    assert_int_equal(chown(f->socket_path, 12345, 12345), 0);
    assert_int_equal(chmod(f->spool.path, SPOOL_DIR_MODE), 0);
    /* The mark says another owner than is seen here: in a user namespace, where our own uid is
     * another one too. */
    expect_nothing(f, ETAG_UNAVAILABLE, "user namespace");
    f->spool.mark.owner = 12345;
    fake_spool_mark(&f->spool);
    assert_int_equal(chown(in_spool(f, "mark"), 12345, 12345), 0);
    assert_int_equal(put(f), ETAG_OK);
    /* Who owns the socket's directory could make the socket. */
    assert_int_equal(unlink(f->socket_path), 0);
    expect_failed(f, ETAG_UNAVAILABLE, "neither to root");
    assert_int_equal(chown(f->dir, 12345, 12345), 0);
    assert_int_equal(put(f), ETAG_OK);
}

CASE(a_user_who_does_not_count_is_denied)
{
    f->spool.mark.writers[0] = (uint32_t)geteuid() + 1;
    fake_spool_mark(&f->spool);
    expect_nothing(f, ETAG_DENIED, "role 'mutate'");
    f->spool.mark.anybody = true;
    fake_spool_mark(&f->spool);
    assert_int_equal(put(f), ETAG_OK);
}

/* ---- No room ---- */

CASE(a_name_that_is_taken_is_left_alone)
{
    struct stat status;
    uint32_t mine = 0;

    fake_spool_fill(&f->spool, 2);
    for (int i = 0; i < 20; i++)
        assert_int_equal(put(f), ETAG_OK);
    assert_int_equal(count(f, SPOOL_NAME_EVENT), SPOOL_SLOTS / 2 + 20);
    for (uint32_t i = 0; i < SPOOL_SLOTS; i += 2) {
        char name[SPOOL_NAME_BYTES];
        spool_name_make(SPOOL_NAME_EVENT, i, name);
        assert_int_equal(lstat(in_spool(f, name), &status), 0);
        mine += status.st_size == 4;
    }
    assert_int_equal(mine, SPOOL_SLOTS / 2);
}

CASE(a_full_spool_gets_purge_everything)
{
    char name[SPOOL_NAME_BYTES], mine[SPOOL_NAME_BYTES];
    struct stat status;

    fake_spool_fill(&f->spool, 1);
    assert_int_equal(put(f), ETAG_OK);
    assert_true(f->record.in_place && f->record.lease_ns == LEASE_NS);
    spool_name_make(SPOOL_NAME_ALL, geteuid() % SPOOL_ALL_SLOTS, mine);
    assert_int_equal(fake_spool_count(&f->spool, SPOOL_NAME_ALL, name), 1);
    assert_string_equal(name, mine);
    assert_int_equal(lstat(in_spool(f, name), &status), 0);
    assert_int_equal(status.st_size, 0);
    assert_int_equal(status.st_mode & 07777, SPOOL_FILE_MODE);
    /* Again: over the same one. */
    assert_int_equal(put(f), ETAG_OK);
    assert_int_equal(count(f, SPOOL_NAME_ALL), 1);
    /* What nobody can replace is passed by. */
    assert_int_equal(unlink(in_spool(f, mine)), 0);
    assert_int_equal(mkdir(in_spool(f, mine), 0755), 0);
    assert_int_equal(put(f), ETAG_OK);
    assert_int_equal(count(f, SPOOL_NAME_ALL), 2);
    assert_int_equal(count(f, SPOOL_NAME_TEMP), 0);
}

/* A beginning puts in flux, a hold keeps there: "purge everything" does neither. */
CASE(what_a_purge_does_not_say_is_an_error)
{
    fake_spool_fill(&f->spool, 1);
    f->item.all_will_do = false;
    expect_failed(f, ETAG_UNAVAILABLE, "full");
    assert_int_equal(count(f, SPOOL_NAME_ALL), 0);
    assert_int_equal(count(f, SPOOL_NAME_TEMP), 0);
}

CASE(no_space)
{
    static const int errors[] = {ENOSPC, EDQUOT};
    char name[SPOOL_NAME_BYTES];

    for (size_t i = 0; i < 2; i++) {
        calls.write_fails = errors[i];
        calls.write_fails_count = 1;
        f->item.all_will_do = true;
        assert_int_equal(put(f), ETAG_OK);
        assert_int_equal(fake_spool_count(&f->spool, SPOOL_NAME_ALL, name), 1);
        assert_int_equal(unlink(in_spool(f, name)), 0);
        assert_int_equal(count(f, SPOOL_NAME_EVENT) + count(f, SPOOL_NAME_TEMP), 0);
        f->item.all_will_do = false;
        calls.write_fails_count = 1;
        expect_nothing(f, ETAG_UNAVAILABLE, "space");
    }
    f->item.all_will_do = true;
    calls.write_fails = EIO;
    calls.write_fails_count = 1;
    expect_nothing(f, ETAG_UNAVAILABLE, "write");
}

/* The signal of this limit ends a process, and the application has not asked for it. */
CASE(a_limit_of_file_sizes_does_not_end_the_application)
{
    char name[SPOOL_NAME_BYTES];
    struct rlimit former;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &former), 0);
    const struct rlimit low = {.rlim_cur = f->frame.len - 1, .rlim_max = former.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    const etag_status with_all = put(f);
    f->item.all_will_do = false;
    const etag_status without = put(f);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &former), 0);
    assert_int_equal(with_all, ETAG_OK);
    assert_int_equal(fake_spool_count(&f->spool, SPOOL_NAME_ALL, name), 1);
    assert_int_equal(without, ETAG_UNAVAILABLE);
    assert_non_null(strstr(f->fault.text, "RLIMIT_FSIZE"));
    assert_int_equal(count(f, SPOOL_NAME_EVENT) + count(f, SPOOL_NAME_TEMP), 0);
}

/* ---- Too large ---- */

CASE(too_large_a_frame_becomes_everything)
{
    static const enum request_kind kinds[] = {REQUEST_INVALIDATE, REQUEST_GUARD_BEGIN,
                                              REQUEST_GUARD_CONFIRM, REQUEST_GUARD_COMMIT};
    static char bytes[SURROGATE_BYTES_MAX];
    static etag_str names[300];
    char name[SPOOL_NAME_BYTES];

    memset(bytes, 'n', sizeof(bytes));
    for (size_t i = 0; i < 300; i++)
        names[i] = (etag_str){bytes, sizeof(bytes)};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct request request = {.id = 5, .kind = kinds[i]}, out;
        struct arena arena;
        const bool is_guard = kinds[i] != REQUEST_INVALIDATE;
        etag_targets *targets = is_guard ? &request.guard.targets : &request.targets;
        ETAG_INIT(targets);
        targets->surrogates = names;
        targets->surrogate_count = 300;
        targets->hold_ms = 1234;
        targets->max_ms = 5678;
        if (is_guard)
            request.guard.id = (struct guard_id){11, 22};
        encode(f, &request);
        assert_true(f->frame.len > SPOOL_FILE_BYTES_MAX);
        assert_int_equal(put(f), ETAG_OK);
        fake_spool_event(&f->spool, &arena, &out);
        assert_int_equal(out.kind, kinds[i]);
        const etag_targets *wide = is_guard ? &out.guard.targets : &out.targets;
        assert_true(wide->everything);
        assert_int_equal(wide->surrogate_count, 0);
        assert_int_equal(wide->hold_ms, 1234);
        assert_int_equal(wide->max_ms, 5678);
        if (is_guard)
            assert_true(guard_id_equal(out.guard.id, request.guard.id));
        arena_deinit(&arena);
        assert_int_equal(fake_spool_count(&f->spool, SPOOL_NAME_EVENT, name), 1);
        assert_int_equal(unlink(in_spool(f, name)), 0);
    }
}
