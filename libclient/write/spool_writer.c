/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes into the spool. The directory may belong to another user, or be a container's own empty
 * one. So the writer writes only where the mark says that a daemon reads it, follows no link and
 * waits for nothing that another user may have put there. The proof is in the order of steps (rules
 * RENAME_BEFORE_CLOCK and MARK_READ_AFTER_RENAME), which spool_write() shows.
 *
 * A writer never unlinks what may be an event: the daemon does, when the event is safe.
 */
#include "spool_writer.h"

#include "clocktime.h"
#include "delay_point.h"
#include "message.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define SLOTS_TRIED_MAX 64
#define TEMP_NAME_BYTES 24

/* A spool that was opened: its directory, and what its mark says. */
struct spool {
    const struct spool_place *place;
    int dir;
    /* of the directory */
    struct stat status;
    struct spool_mark mark;
};

static void spool_close(struct spool *spool)
{
    cleanup_fd(&spool->dir);
}

/* A file of ours in the spool, which is no event yet. */
struct temp {
    const struct spool *spool;
    char name[TEMP_NAME_BYTES];
    int fd;
    /* to be unlinked */
    bool named;
};

static void temp_close(struct temp *temp)
{
    cleanup_fd(&temp->fd);
    if (temp->named)
        (void)unlinkat(temp->spool->dir, temp->name, 0);
}

/* ---- Which directory may be used ---- */

static etag_status unusable(struct fault *fault, const struct spool_place *place, const char *why)
{
    return fault_set(fault, ETAG_UNAVAILABLE, "the spool %s cannot be used: %s", place->path, why);
}

static etag_status fail(struct fault *fault, const struct spool_place *place, const char *what)
{
    const int error = errno;
    const etag_status status = error == EMFILE || error == ENFILE || error == ENOMEM
                                   ? ETAG_SYSTEM
                                   : ETAG_UNAVAILABLE;

    return fault_set(fault, status, "cannot %s the spool %s: %s", what, place->path,
                     strerrordesc_np(error));
}

static etag_status denied(struct fault *fault, const struct spool_place *place)
{
    return fault_set(fault, ETAG_DENIED,
                     "files of user %u do not count in the spool %s: give it the role 'mutate' in "
                     "the daemon's configuration",
                     (unsigned)geteuid(), place->path);
}

/* Who could put a socket here could make a spool as well: root, the socket's owner, the owner of
 * its directory. */
static bool owner_is_trusted(const struct spool_place *place, uid_t owner)
{
    char parent[4096];
    const char *slash = strrchr(place->socket_path, '/');
    struct stat status;

    if (owner == 0)
        return true;
    if (lstat(place->socket_path, &status) == 0 && S_ISSOCK(status.st_mode) &&
        status.st_uid == owner)
        return true;
    const int len = slash ? snprintf(parent, sizeof(parent), "%.*s",
                                     (int)(slash - place->socket_path) + 1, place->socket_path)
                          : snprintf(parent, sizeof(parent), ".");
    return (size_t)len < sizeof(parent) && stat(parent, &status) == 0 && status.st_uid == owner;
}

static etag_status open_directory(struct spool *spool, struct fault *fault)
{
    const struct spool_place *place = spool->place;

    if (!place->path[0])
        return fault_set(fault, ETAG_UNAVAILABLE, "the socket's path leaves no room for a spool's");
    spool->dir = open(place->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (spool->dir < 0 && errno == ENOENT)
        return fault_set(fault, ETAG_UNAVAILABLE,
                         "there is no spool %s: no daemon has run here since the machine started",
                         place->path);
    if (spool->dir < 0 || fstat(spool->dir, &spool->status) < 0)
        return fail(fault, place, "open");
    if (!owner_is_trusted(place, spool->status.st_uid))
        return unusable(fault, place, "it belongs neither to root nor to the socket's owner");
    return ETAG_OK;
}

/* NULL, or what is wrong with it. */
static const char *mark_file_check(const struct spool *spool, int fd)
{
    struct stat status;

    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return "its mark is no regular file";
    if (status.st_size > (off_t)SPOOL_MARK_BYTES_MAX)
        return "its mark is too large";
    if (status.st_uid != spool->status.st_uid)
        return "its mark belongs to somebody else than the directory";
    if (status.st_mode & (S_IWGRP | S_IWOTH))
        return "its mark may be written by others";
    return NULL;
}

static bool mark_file_parse(int fd, struct spool_mark *mark)
{
    char text[SPOOL_MARK_BYTES_MAX];
    size_t len = 0;

    for (;;) {
        const ssize_t n = read(fd, text + len, sizeof(text) - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        len += (size_t)n;
        if (n == 0 || len == sizeof(text))
            return spool_mark_parse((etag_str){text, len}, mark);
    }
}

static etag_status read_mark(struct spool *spool, struct fault *fault)
{
    const struct spool_place *place = spool->place;
    CLEANUP(cleanup_fd)
    int fd = openat(spool->dir, SPOOL_MARK_NAME,
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT)
        return unusable(fault, place, "no daemon has marked it as its own (is it a container's?)");
    if (fd < 0 && errno == ELOOP)
        return unusable(fault, place, "its mark is no regular file");
    if (fd < 0)
        return fail(fault, place, "read the mark of");
    const char *wrong = mark_file_check(spool, fd);
    if (!wrong && (!mark_file_parse(fd, &spool->mark) || spool->mark.version != SPOOL_VERSION))
        wrong = "its mark is not whole, or of another version";
    /* Whoever sees other uids than the daemon has other uids himself: his files would be somebody
     * else's there. */
    if (!wrong && spool->mark.owner != spool->status.st_uid)
        wrong = "its owner has another uid here than the mark says (a user namespace?)";
    if (!wrong && strcmp(spool->mark.socket, spool_socket_name(place->socket_path)) != 0)
        wrong = "its mark is of a daemon with another socket";
    if (!wrong && place->id != 0 && spool->mark.id != place->id)
        wrong = "its mark is of another daemon than the one that answered here";
    return wrong ? unusable(fault, place, wrong) : ETAG_OK;
}

static etag_status spool_open(struct spool *spool, const struct spool_place *place,
                              struct fault *fault)
{
    *spool = (struct spool){.place = place, .dir = -1};
    const etag_status status = open_directory(spool, fault);
    return status == ETAG_OK ? read_mark(spool, fault) : status;
}

/* ---- The file ---- */

static bool random_bytes(void *out, size_t bytes)
{
    ssize_t n;

    do
        n = getrandom(out, bytes, 0);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)bytes;
}

static etag_status temp_open(struct temp *temp, const struct spool *spool, struct fault *fault)
{
    uint64_t number;

    *temp = (struct temp){.spool = spool, .fd = -1};
    if (!random_bytes(&number, sizeof(number)))
        return fail(fault, spool->place, "make a name in");
    snprintf(temp->name, sizeof(temp->name), SPOOL_TEMP_PREFIX "%016" PRIx64, number);
    temp->fd = openat(spool->dir, temp->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                      0600);
    if (temp->fd < 0)
        return fail(fault, spool->place, "make a file in");
    temp->named = true;
    /* Whatever the umask: the daemon reads it as its group, if it is not root. */
    if (fchmod(temp->fd, SPOOL_FILE_MODE) < 0)
        return fail(fault, spool->place, "make a file readable in");
    return ETAG_OK;
}

/* Into an empty file. 0 or a negative errno. Over RLIMIT_FSIZE the kernel would send SIGXFSZ, which
 * ends the application: a library asks first. */
static int write_whole(int fd, etag_str bytes)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < bytes.len)
        return -EFBIG;
    while (bytes.len > 0) {
        const ssize_t n = write(fd, bytes.data, bytes.len);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            bytes = str_skip(bytes, (size_t)n);
    }
    return 0;
}

/* The same request, with "everything" in place of targets that need too much room. 0 or a negative
 * errno. */
static int widen(struct buffer *out, etag_str frame)
{
    struct arena arena;
    struct request request;

    arena_init(&arena, ARENA_BYTES_MAX);
    const etag_str payload = str_skip(frame, FRAME_HEADER_BYTES);
    int r = request_decode(&request, &arena, payload) ? -EBADMSG : 0;
    etag_targets *targets = request.kind == REQUEST_INVALIDATE ? &request.targets
                                                               : &request.guard.targets;
    if (r == 0) {
        const etag_targets everything = {.size = sizeof(everything),
                                         .everything = true,
                                         .hold_ms = targets->hold_ms,
                                         .max_ms = targets->max_ms};
        *targets = everything;
        r = request_encode(out, &request);
    }
    arena_deinit(&arena);
    return r;
}

/* AGAIN: the file system, or a limit of the process, has no room for it. */
static etag_status write_event(const struct temp *temp, etag_str frame, struct fault *fault)
{
    const struct spool_place *place = temp->spool->place;
    struct buffer wide = {0};
    int r = 0;

    if (frame.len > SPOOL_FILE_BYTES_MAX) {
        r = widen(&wide, frame);
        frame = (etag_str){(const char *)wide.bytes, wide.len};
    }
    if (r == 0)
        r = write_whole(temp->fd, frame);
    buffer_deinit(&wide);
    if (r == -ENOSPC || r == -EDQUOT)
        return fault_set(fault, ETAG_AGAIN, "no space in the file system of the spool %s",
                         place->path);
    if (r == -EFBIG)
        return fault_set(fault, ETAG_AGAIN,
                         "no space in files of this process (ulimit -f, RLIMIT_FSIZE) for %zu "
                         "bytes in the spool %s",
                         frame.len, place->path);
    errno = -r;
    return r == 0 ? ETAG_OK : fail(fault, place, "write to");
}

static etag_status sync_file(const struct temp *temp, struct fault *fault)
{
    if (!temp->spool->mark.power || fsync(temp->fd) == 0)
        return ETAG_OK;
    return fail(fault, temp->spool->place, "sync a file in");
}

/* A rename changes the file too (its change time), in one transaction with the directory; on these
 * file systems a sync of the file waits for all that has changed it. (ext4, f2fs: in every mode
 * with a journal.) tmpfs has nothing to sync. */
static bool file_sync_takes_name_along(int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return false;
    switch ((unsigned long)fs.f_type) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case TMPFS_MAGIC:
        return true;
    default:
        return false;
    }
}

/* Writers may not read the directory (mode 3733), so most cannot sync it. Only where nothing else
 * is known to do, the whole file system is synced: that waits for what all its other users have
 * written, which may take minutes. */
static etag_status sync_name(const struct temp *temp, struct fault *fault)
{
    const struct spool *spool = temp->spool;

    if (!spool->mark.power)
        return ETAG_OK;
    CLEANUP(cleanup_fd) int dir = openat(spool->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool by_file = dir < 0 && file_sync_takes_name_along(temp->fd);
    if (dir >= 0 || by_file ? fsync(by_file ? temp->fd : dir) == 0 : syncfs(temp->fd) == 0)
        return ETAG_OK;
    return fail(fault, spool->place, "sync");
}

/* ---- Its name ---- */

/* 0 or -1 with errno: EEXIST, the name is taken. A file system that cannot rename without replacing
 * can link without; the file's own name is unlinked later then, as after a failure. */
static int name_take(struct temp *temp, const char *name)
{
    const int dir = temp->spool->dir;

    if (renameat2(dir, temp->name, dir, name, RENAME_NOREPLACE) == 0) {
        temp->named = false;
        return 0;
    }
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    return linkat(dir, temp->name, dir, name, 0);
}

/* AGAIN: every name that was tried is taken. */
static etag_status name_event(struct temp *temp, struct fault *fault)
{
    const struct spool_place *place = temp->spool->place;
    uint16_t numbers[SLOTS_TRIED_MAX];
    char name[SPOOL_NAME_BYTES];

    if (!random_bytes(numbers, sizeof(numbers)))
        return fail(fault, place, "choose a name in");
    for (size_t i = 0; i < SLOTS_TRIED_MAX; i++) {
        spool_name_make(SPOOL_NAME_EVENT, numbers[i] % SPOOL_SLOTS, name);
        if (name_take(temp, name) == 0)
            return ETAG_OK;
        if (errno != EEXIST)
            return fail(fault, place, "rename a file in");
    }
    return fault_set(fault, ETAG_AGAIN, "the spool %s is full: a daemon empties it when it starts",
                     place->path);
}

/* Over what this user left there; another user's, a stranger's directory: the next one. */
static etag_status name_all(struct temp *temp, struct fault *fault)
{
    const int dir = temp->spool->dir;
    char name[SPOOL_NAME_BYTES];

    for (uint32_t i = 0; i < SPOOL_ALL_SLOTS; i++) {
        spool_name_make(SPOOL_NAME_ALL, ((uint32_t)geteuid() + i) % SPOOL_ALL_SLOTS, name);
        if (renameat2(dir, temp->name, dir, name, 0) == 0) {
            temp->named = false;
            return ETAG_OK;
        }
    }
    return fail(fault, temp->spool->place, "leave 'purge everything' in");
}

static etag_status put_event(const struct spool *spool, etag_str frame, struct spool_record *record,
                             struct fault *fault)
{
    CLEANUP(temp_close) struct temp temp;
    etag_status status = temp_open(&temp, spool, fault);

    if (status == ETAG_OK)
        status = write_event(&temp, frame, fault);
    if (status == ETAG_OK)
        status = sync_file(&temp, fault);
    if (status == ETAG_OK)
        status = name_event(&temp, fault);
    if (status != ETAG_OK)
        return status;
    record->in_place = true;
    return sync_name(&temp, fault);
}

/* Says more than was meant, in no space at all. */
static etag_status put_all(const struct spool *spool, struct spool_record *record,
                           struct fault *fault)
{
    CLEANUP(temp_close) struct temp temp;
    etag_status status = temp_open(&temp, spool, fault);

    if (status == ETAG_OK)
        status = sync_file(&temp, fault);
    if (status == ETAG_OK)
        status = name_all(&temp, fault);
    if (status != ETAG_OK)
        return status;
    record->in_place = true;
    return sync_name(&temp, fault);
}

/* ---- The order ---- */

/* Files of this user have counted all the time between two marks, so no scan has ignored one that
 * was renamed in it. Else it is not even proven that the event is recorded: a scan may have removed
 * the file, or will. */
static etag_status counted_meanwhile(const struct spool *before, const struct spool *after,
                                     struct fault *fault)
{
    if (!spool_mark_counts(&after->mark, (uint32_t)geteuid()))
        return denied(fault, before->place);
    if (after->mark.id == before->mark.id && after->mark.changes == before->mark.changes)
        return ETAG_OK;
    return fault_set(
        fault, ETAG_UNAVAILABLE,
        "what was written into the spool %s may not count: roles were changed meanwhile",
        before->place->path);
}

/* Rules RENAME_BEFORE_CLOCK and MARK_READ_AFTER_RENAME: T is read after the rename, and the mark
 * after T. A daemon with a longer lease writes its mark
 * before its first scan; so either that scan finds the file, or this finds the longer lease. Where
 * there is no mark to read, nothing is known of the time since the first one. */
static etag_status read_after_rename(const struct spool *spool, struct spool_record *record,
                                     struct fault *fault)
{
    CLEANUP(spool_close) struct spool again = {.dir = -1};

    DELAY_POINT("spool.renamed_time");
    record->time_ns = time_coarse_after_writes_ns();
    DELAY_POINT("spool.time_mark");
    etag_status status = spool_open(&again, spool->place, fault);
    if (again.dir < 0 || again.status.st_ino != spool->status.st_ino ||
        again.status.st_dev != spool->status.st_dev)
        return unusable(fault, spool->place, "it was moved while a file was written into it");
    if (status == ETAG_OK)
        status = counted_meanwhile(spool, &again, fault);
    if (status != ETAG_OK)
        return status;
    record->lease_ns = again.mark.lease_ns;
    record->linger_ns = again.mark.linger_ns;
    record->log_reach = again.mark.log_reach;
    return ETAG_OK;
}

etag_status spool_write(const struct spool_place *place, const struct spool_item *item,
                        struct spool_record *record, struct fault *fault)
{
    CLEANUP(spool_close) struct spool spool = {.dir = -1};

    *record = (struct spool_record){0};
    etag_status status = spool_open(&spool, place, fault);
    if (status != ETAG_OK)
        return status;
    if (!spool_mark_counts(&spool.mark, (uint32_t)geteuid()))
        return denied(fault, place);
    status = put_event(&spool, item->frame, record, fault);
    if (status == ETAG_AGAIN && item->all_will_do)
        status = put_all(&spool, record, fault);
    if (status == ETAG_AGAIN)
        status = fault->status = ETAG_UNAVAILABLE;
    return status == ETAG_OK ? read_after_rename(&spool, record, fault) : status;
}
