/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scan lists the directory and then opens only names that can be events, of which there are SPOOL_FILES. Where a local user
 * has made so many names that listing has no bound, it asks for each of those names instead, which has one.
 *
 * No name is ever replaced by a writer but all-NN, by its own owner; so an e-file that was applied is the file that is removed.
 * all-NN is renamed to taken-NN, where nobody else renames to, before it is applied.
 */
#include "spool.h"

#include "clocktime.h"
#include "delay_point.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define TEMP_AGE_S 60               /* a writer's unfinished file older than this is nobody's */
#define DISCARDS_PER_SCAN 1024u     /* foreign names removed at once, */
#define DISCARD_NS (20 * NS_PER_MS) /* and so long at most */
#define COMPLAINT_NS (60 * NS_PER_S)
#define BAD_FORMAT "bad-%02x" /* garbage that was set aside, for people to look at */
#define BAD_COUNT 16u

/* ---- What stands there ---- */

struct names {
    uint8_t events[SPOOL_SLOTS / 8], all[SPOOL_ALL_SLOTS / 8], taken[SPOOL_ALL_SLOTS / 8];
    size_t count;
    size_t discards;
    uint64_t began_ns;
};

static void bit_set(uint8_t *bits, uint32_t n)
{
    bits[n / 8] |= (uint8_t)(1u << n % 8);
}

static bool bit_is_set(const uint8_t *bits, uint32_t n)
{
    return bits[n / 8] >> n % 8 & 1;
}

/* Frees a name, whatever stands there: we own the directory, so its sticky bit does not bind us. A directory that somebody
 * filled can't be removed, but moved out of the way. */
static void name_discard(struct spool *spool, const char *name)
{
    char aside[SPOOL_NAME_BYTES + 16];

    if (unlinkat(spool->dir.fd, name, 0) == 0 || errno == ENOENT ||
        unlinkat(spool->dir.fd, name, AT_REMOVEDIR) == 0)
        return;
    (void)snprintf(aside, sizeof(aside), "x-%016llx",
                   (unsigned long long)time_ns_of(CLOCK_MONOTONIC));
    (void)renameat(spool->dir.fd, name, spool->dir.fd, aside);
}

/* A file that does not count: of somebody without the role, or not a plain file. */
static void file_ignore(struct spool *spool, const char *name, uint32_t uid)
{
    const uint64_t now = time_coarse_ns();

    spool->ignored++;
    name_discard(spool, name);
    if (spool->last_complaint_ns != 0 && now - spool->last_complaint_ns < COMPLAINT_NS)
        return;
    spool->last_complaint_ns = now;
    log_event(spool->log, LOG_WARN, "spool_file_ignored", log_text("name", name),
              log_number("uid", uid),
              log_text("reason", "its owner has no role to mutate, or it is not a plain file"),
              log_number("ignored", (int64_t)spool->ignored));
}

/* A name that is no event: removed in time, and only so many of them a scan. */
static void foreign_name(struct spool *spool, const char *name, enum spool_name kind,
                         struct names *names)
{
    struct stat st;

    if (names->discards >= DISCARDS_PER_SCAN || time_coarse_ns() > names->began_ns + DISCARD_NS ||
        strncmp(name, "bad-", 4) == 0)
        return;
    names->discards++;
    if (fstatat(spool->dir.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    if (kind == SPOOL_NAME_TEMP &&
        time_ns_of(CLOCK_REALTIME) / NS_PER_S < (uint64_t)st.st_mtim.tv_sec + TEMP_AGE_S)
        return;
    name_discard(spool, name);
}

static void name_note(struct spool *spool, const char *name, struct names *names)
{
    uint32_t n;
    const enum spool_name kind = spool_name_parse(name, &n);

    switch (kind) {
    case SPOOL_NAME_EVENT:
        bit_set(names->events, n);
        break;
    case SPOOL_NAME_ALL:
        bit_set(names->all, n);
        break;
    case SPOOL_NAME_TAKEN:
        bit_set(names->taken, n);
        break;
    case SPOOL_NAME_OWN:
        break;
    case SPOOL_NAME_TEMP:
    case SPOOL_NAME_FOREIGN:
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
            foreign_name(spool, name, kind, names);
        break;
    }
}

/* Which of the names of a kind are there. 0 or negative errno. */
static int kind_probe(struct spool *spool, enum spool_name kind, uint32_t count, uint8_t *bits)
{
    char name[SPOOL_NAME_BYTES];
    struct stat st;

    for (uint32_t n = 0; n < count; n++) {
        spool_name_make(kind, n, name);
        if (fstatat(spool->dir.fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            bit_set(bits, n);
        else if (errno != ENOENT)
            return -errno;
    }
    return 0;
}

static int names_probe(struct spool *spool, struct names *names)
{
    int r = kind_probe(spool, SPOOL_NAME_EVENT, SPOOL_SLOTS, names->events);

    if (r == 0)
        r = kind_probe(spool, SPOOL_NAME_ALL, SPOOL_ALL_SLOTS, names->all);
    return r ? r : kind_probe(spool, SPOOL_NAME_TAKEN, SPOOL_ALL_SLOTS, names->taken);
}

static int names_read(struct spool *spool, struct names *names)
{
    const struct dirent *entry;

    *names = (struct names){.began_ns = time_coarse_ns()};
    rewinddir(spool->dir.stream);
    errno = 0;
    while ((entry = readdir(spool->dir.stream)) != NULL && names->count < SPOOL_NAMES_MAX) {
        names->count++;
        name_note(spool, entry->d_name, names);
        errno = 0;
    }
    if (!entry)
        return errno ? -errno : 0;
    /* More names than we list: every name that can be an event is asked for. */
    return names_probe(spool, names);
}

/* ---- One file ---- */

static bool file_counts(const struct spool *spool, const struct stat *st)
{
    return S_ISREG(st->st_mode) && st->st_size <= SPOOL_FILE_BYTES_MAX &&
           spool_dir_counts(&spool->dir, st->st_uid);
}

static void file_name(uint32_t file, char out[SPOOL_NAME_BYTES])
{
    if (file < SPOOL_SLOTS)
        spool_name_make(SPOOL_NAME_EVENT, file, out);
    else
        spool_name_make(SPOOL_NAME_TAKEN, file - SPOOL_SLOTS, out);
}

static void garbage_set_aside(struct spool *spool, const char *name)
{
    char bad[SPOOL_NAME_BYTES];

    (void)snprintf(bad, sizeof(bad), BAD_FORMAT, (unsigned)(spool->garbage % BAD_COUNT));
    if (renameat(spool->dir.fd, name, spool->dir.fd, bad) < 0)
        name_discard(spool, name);
}

void spool_file_done(struct spool *spool, uint32_t file, bool failed)
{
    struct spool_file *known = &spool->files[file];
    char name[SPOOL_NAME_BYTES];
    struct stat st;

    if (failed || known->inode == 0)
        return;
    DELAY_POINT("spool.safe_unlinked");
    known->safe = true;
    file_name(file, name);
    if (known->garbage)
        garbage_set_aside(spool, name);
    else if (unlinkat(spool->dir.fd, name, 0) < 0 && errno != ENOENT)
        return; /* tried again at the next scan */
    if (fstatat(spool->dir.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        *known = (struct spool_file){0};
}

/* True: nothing to do, the file's event was applied before and waits for the store. */
static bool file_is_known(struct spool *spool, uint32_t file, const struct stat *st)
{
    struct spool_file *known = &spool->files[file];

    if (known->inode != st->st_ino) {
        *known = (struct spool_file){0};
        return false;
    }
    if (known->safe)
        spool_file_done(spool, file, false);
    return true;
}

static int file_apply(struct spool *spool, uint32_t file, const struct stat *st,
                      const struct request *request, const struct spool_reader *reader)
{
    struct spool_file *known = &spool->files[file];

    known->inode = st->st_ino;
    const int r = reader->apply(reader->ctx, request, st->st_uid, file);
    if (r == 0)
        spool->applied++;
    else
        *known = (struct spool_file){0};
    return r;
}

static int everything_apply(struct spool *spool, uint32_t file, const struct stat *st,
                            const struct spool_reader *reader)
{
    struct request request = {.kind = REQUEST_INVALIDATE};

    ETAG_INIT(&request.targets);
    request.targets.everything = true;
    const int r = file_apply(spool, file, st, &request, reader);
    return r > 0 ? -EINVAL : r;
}

/* Of an owner who may mutate: it may have been for anything. Where the kernel lets anybody link to others' files, it may be some
 * file of that owner to which a stranger made a link: not an event. (An event with a second link is one all the same: else such
 * a link would make us lose it.) */
static int garbage_apply(struct spool *spool, uint32_t file, const struct stat *st,
                         const struct spool_reader *reader)
{
    char name[SPOOL_NAME_BYTES];

    file_name(file, name);
    if (st->st_nlink > 1) {
        file_ignore(spool, name, st->st_uid);
        return 0;
    }
    log_event(spool->log, LOG_ERROR, "spool_file_is_garbage", log_text("name", name),
              log_number("uid", st->st_uid), log_number("bytes", st->st_size),
              log_text("effect", "everything is purged; the file is set aside"));
    spool->garbage++;
    spool->files[file].garbage = true;
    return everything_apply(spool, file, st, reader);
}

/* ---- Events ---- */

enum pass { PASS_BEGINS, PASS_REST };

static bool is_begin(const struct request *request)
{
    return request->kind == REQUEST_GUARD_BEGIN || request->kind == REQUEST_GUARD_CONFIRM;
}

static bool is_mutation(const struct request *request)
{
    return request->kind == REQUEST_INVALIDATE || request->kind == REQUEST_GUARD_COMMIT ||
           request->kind == REQUEST_GUARD_ABORT || is_begin(request);
}

static bool event_decode(struct arena *arena, etag_str bytes, struct request *out)
{
    etag_str payload;

    arena_reset(arena);
    return frame_next(bytes, &payload) == 1 && payload.len + FRAME_HEADER_BYTES == bytes.len &&
           request_decode(out, arena, payload) == NULL && is_mutation(out);
}

/* A plain read of a file that may change meanwhile: what comes of it is garbage, or whole. */
static ssize_t file_read(int fd, char *bytes, size_t room)
{
    size_t len = 0;

    while (len < room) {
        const ssize_t n = read(fd, bytes + len, room - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    return (ssize_t)len;
}

/* O_NONBLOCK: a FIFO must not hold us; O_NOFOLLOW: nor a link lead us. */
static int event_file(struct spool *spool, uint32_t file, enum pass pass,
                      const struct spool_reader *reader)
{
    static const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
    char name[SPOOL_NAME_BYTES], bytes[SPOOL_FILE_BYTES_MAX + 1];
    struct request request;
    struct stat st;

    file_name(file, name);
    if (fstatat(spool->dir.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!file_counts(spool, &st)) {
        file_ignore(spool, name, st.st_uid);
        return 0;
    }
    if (file_is_known(spool, file, &st))
        return 0;
    CLEANUP(cleanup_fd) int fd = spool_dir_open_file(&spool->dir, name, flags);
    if (fd == -EACCES) /* its owner did not let us read it */
        return pass == PASS_REST ? garbage_apply(spool, file, &st, reader) : 0;
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!file_counts(spool, &st)) /* another one by now */
        return 0;
    const ssize_t len = file_read(fd, bytes, sizeof(bytes));
    if (len < 0)
        return (int)len;
    if (!event_decode(spool->arena, (etag_str){bytes, (size_t)len}, &request))
        return pass == PASS_REST ? garbage_apply(spool, file, &st, reader) : 0;
    if (is_begin(&request) != (pass == PASS_BEGINS))
        return 0;
    const int r = file_apply(spool, file, &st, &request, reader);
    return r == SPOOL_E_GARBAGE ? garbage_apply(spool, file, &st, reader) : r;
}

static int event_files(struct spool *spool, const struct names *names, enum pass pass,
                       const struct spool_reader *reader)
{
    for (uint32_t n = 0; n < SPOOL_SLOTS; n++) {
        if (n % 8 == 0 && names->events[n / 8] == 0) {
            n += 7;
            continue;
        }
        const int r = bit_is_set(names->events, n) ? event_file(spool, n, pass, reader) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- "Purge everything" ---- */

/* all-NN becomes taken-NN: its owner may put another one there, and we remove only what we have applied. One that was taken
 * before and is replaced now was applied before, and so is this one. */
static int all_take(struct spool *spool, uint32_t n)
{
    char all[SPOOL_NAME_BYTES], taken[SPOOL_NAME_BYTES];
    struct stat st;

    spool_name_make(SPOOL_NAME_ALL, n, all);
    spool_name_make(SPOOL_NAME_TAKEN, n, taken);
    if (fstatat(spool->dir.fd, all, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!file_counts(spool, &st)) {
        file_ignore(spool, all, st.st_uid);
        return 0;
    }
    if (renameat(spool->dir.fd, all, spool->dir.fd, taken) == 0 || errno == ENOENT)
        return 0;
    name_discard(spool, taken);
    return renameat(spool->dir.fd, all, spool->dir.fd, taken) == 0 || errno == ENOENT ? 0 : -errno;
}

static int taken_file(struct spool *spool, uint32_t n, const struct spool_reader *reader)
{
    char name[SPOOL_NAME_BYTES];
    struct stat st;

    file_name(SPOOL_SLOTS + n, name);
    if (fstatat(spool->dir.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!file_counts(spool, &st)) {
        file_ignore(spool, name, st.st_uid);
        return 0;
    }
    return file_is_known(spool, SPOOL_SLOTS + n, &st)
               ? 0
               : everything_apply(spool, SPOOL_SLOTS + n, &st, reader);
}

static int all_files(struct spool *spool, const struct names *names,
                     const struct spool_reader *reader)
{
    for (uint32_t n = 0; n < SPOOL_ALL_SLOTS; n++) {
        const bool all = bit_is_set(names->all, n);
        int r = all ? all_take(spool, n) : 0;
        if (all)
            DELAY_POINT("spool.taken_applied");
        if (r == 0 && (all || bit_is_set(names->taken, n)))
            r = taken_file(spool, n, reader);
        if (r < 0)
            return r;
    }
    return 0;
}

int spool_scan(struct spool *spool, const struct spool_reader *reader)
{
    struct names names;
    int r = names_read(spool, &names);

    if (r == 0)
        r = event_files(spool, &names, PASS_BEGINS, reader);
    if (r == 0)
        r = event_files(spool, &names, PASS_REST, reader);
    if (r == 0)
        r = all_files(spool, &names, reader);
    if (r == 0)
        spool_dir_scanned(&spool->dir);
    return r;
}

size_t spool_waiting(const struct spool *spool)
{
    size_t count = 0;

    for (size_t i = 0; i < SPOOL_FILES; i++)
        count += spool->files[i].inode != 0;
    return count;
}

/* ---- Open and close ---- */

int spool_open(struct spool *spool, const struct config *config, uint64_t lease_ns,
               const struct log *log, struct arena *arena, char why[512])
{
    *spool = (struct spool){.log = log, .arena = arena};
    return spool_dir_open(&spool->dir, config, lease_ns, log, why);
}

void spool_close(struct spool *spool)
{
    spool_dir_close(&spool->dir);
}
