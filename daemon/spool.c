/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scan lists the directory and then opens only names that can be events, of which there are SPOOL_FILES. Where a local user
 * has made so many names that listing has no bound, it asks for each of those names instead, which has one.
 *
 * The life of a file: found, applied (from then on it is known, under a generation of its own), safe, removed, forgotten. What
 * says "safe" comes much later, and the name may be another file's by then, so it carries the generation, and what is removed is
 * looked at again: the file that is known, by inode and birth.
 *
 * No name is ever replaced by a writer but all-NN, by its own owner. So all-NN is renamed to taken-NN, where nobody else renames
 * to, before it is applied. While an older one waits there, all-NN is applied where it is, and taken to be removed only.
 */
#include "spool.h"

#include "clocktime.h"
#include "delay_point.h"
#include "spool_sweep.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
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

/* A name that is no event: removed in time, and only so many of them a scan. */
static void foreign_name(struct spool *spool, const char *name, enum spool_name kind,
                         struct names *names)
{
    struct stat st;

    const uint64_t until_ns = names->began_ns + DISCARD_NS;

    if (names->discards >= DISCARDS_PER_SCAN || time_coarse_ns() > until_ns)
        return;
    names->discards++;
    if (fstatat(spool->dir.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    if (kind == SPOOL_NAME_TEMP &&
        time_ns_of(CLOCK_REALTIME) / NS_PER_S < (uint64_t)st.st_mtim.tv_sec + TEMP_AGE_S)
        return;
    if (strncmp(name, "bad-", 4) == 0 && S_ISREG(st.st_mode) &&
        spool_dir_counts(&spool->dir, st.st_uid))
        return;
    if (!spool_sweep_tree(spool->dir.fd, name, until_ns))
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

/* Opened for each scan: where a directory was opened long ago, some file systems list what was in it then. */
static int names_read(struct spool *spool, struct names *names)
{
    CLEANUP(spool_dir_stream_close) DIR *stream = NULL;
    const struct dirent *entry;
    const int r = spool_dir_open_stream(&spool->dir, &stream);

    if (r < 0)
        return r;
    *names = (struct names){.began_ns = time_coarse_ns()};
    errno = 0;
    while ((entry = readdir(stream)) != NULL && names->count < SPOOL_NAMES_MAX) {
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

/* A file as it was when it was looked at. */
struct seen {
    struct spool_identity identity;
    uint64_t bytes;
    uint32_t uid, mode, links;
};

/* name "": of the descriptor itself. 0 or negative errno. */
static int file_see(int fd, const char *name, struct seen *out)
{
    struct statx st;

    if (statx(fd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &st) <
        0)
        return -errno;
    const struct statx_timestamp *born = st.stx_mask & STATX_BTIME ? &st.stx_btime : &st.stx_ctime;
    *out = (struct seen){
        .identity = {st.stx_ino, (uint64_t)born->tv_sec * NS_PER_S + born->tv_nsec},
        .bytes = st.stx_size,
        .uid = st.stx_uid,
        .mode = st.stx_mode,
        .links = st.stx_nlink,
    };
    return 0;
}

static bool file_counts(const struct spool *spool, const struct seen *seen)
{
    return S_ISREG(seen->mode) && seen->bytes <= SPOOL_FILE_BYTES_MAX &&
           spool_dir_counts(&spool->dir, seen->uid);
}

static bool file_is(const struct seen *seen, const struct spool_identity *identity)
{
    return seen->identity.inode == identity->inode && seen->identity.born_ns == identity->born_ns;
}

/* Removes what was judged, and nothing that has taken its name since: that may be an event. So it is moved to where no writer
 * moves anything, and another file gets its name back, for the next scan. Where somebody took the name once more it stays, and is
 * read as "purge everything". */
static void file_discard(struct spool *spool, const char *name, const struct seen *judged)
{
    const int dir = spool->dir.fd;
    char taken[SPOOL_NAME_BYTES];
    struct seen seen;
    uint32_t tried = 0;

    for (; tried < SPOOL_ALL_SLOTS; tried++) {
        spool_name_make(SPOOL_NAME_TAKEN, (spool->ignored + tried) % SPOOL_ALL_SLOTS, taken);
        if (renameat2(dir, name, dir, taken, RENAME_NOREPLACE) == 0)
            break;
        if (errno != EEXIST)
            return;
    }
    if (tried == SPOOL_ALL_SLOTS || file_see(dir, taken, &seen) < 0)
        return;
    if (file_is(&seen, &judged->identity))
        name_discard(spool, taken);
    else
        (void)renameat2(dir, taken, dir, name, RENAME_NOREPLACE);
}

/* A file that does not count: of somebody without the role, or not a plain file. */
static void file_ignore(struct spool *spool, const char *name, const struct seen *seen)
{
    const uint64_t now = time_coarse_ns();
    uint32_t n;

    spool->ignored++;
    if (spool_name_parse(name, &n) == SPOOL_NAME_TAKEN)
        name_discard(spool, name);
    else
        file_discard(spool, name, seen);
    if (spool->last_complaint_ns != 0 && now - spool->last_complaint_ns < COMPLAINT_NS)
        return;
    spool->last_complaint_ns = now;
    log_event(spool->log, LOG_WARN, "spool_file_ignored", log_text("name", name),
              log_number("uid", seen->uid),
              log_text("reason", "its owner has no role to mutate, or it is not a plain file"),
              log_number("ignored", (int64_t)spool->ignored));
}

/* ---- A name, and the file that is known under it ---- */

static uint32_t file_of_taken(uint32_t n)
{
    return SPOOL_SLOTS + n;
}

static uint32_t file_of_all(uint32_t n)
{
    return SPOOL_SLOTS + SPOOL_ALL_SLOTS + n;
}

static void file_name(uint32_t file, char out[SPOOL_NAME_BYTES])
{
    if (file < SPOOL_SLOTS)
        spool_name_make(SPOOL_NAME_EVENT, file, out);
    else if (file < file_of_all(0))
        spool_name_make(SPOOL_NAME_TAKEN, file - file_of_taken(0), out);
    else
        spool_name_make(SPOOL_NAME_ALL, file - file_of_all(0), out);
}

static void file_forget(struct spool *spool, uint32_t file)
{
    spool->files[file] = (struct spool_file){0};
}

/* Its owner may replace it at any moment, so it is taken first. An older one that still waits there goes first. */
static void all_remove(struct spool *spool, uint32_t file)
{
    const int dir = spool->dir.fd;
    const struct spool_identity identity = spool->files[file].identity;
    char all[SPOOL_NAME_BYTES], taken[SPOOL_NAME_BYTES];
    struct seen seen;

    file_name(file, all);
    spool_name_make(SPOOL_NAME_TAKEN, file - file_of_all(0), taken);
    if (renameat2(dir, all, dir, taken, RENAME_NOREPLACE) < 0 && errno != ENOENT)
        return;
    file_forget(spool, file);
    /* A newer one: the next scan applies it. */
    if (file_see(dir, taken, &seen) == 0 && file_is(&seen, &identity))
        (void)unlinkat(dir, taken, 0);
}

/* True: the name is free. */
static bool garbage_set_aside(struct spool *spool, const char *name)
{
    char bad[SPOOL_NAME_BYTES];

    (void)snprintf(bad, sizeof(bad), BAD_FORMAT, (unsigned)(spool->garbage % BAD_COUNT));
    return renameat(spool->dir.fd, name, spool->dir.fd, bad) == 0 ||
           unlinkat(spool->dir.fd, name, 0) == 0 || errno == ENOENT;
}

/* The file that is known and safe goes. Where that can't be done now it is tried again at the next scan. */
static void file_remove(struct spool *spool, uint32_t file)
{
    const struct spool_file *known = &spool->files[file];
    char name[SPOOL_NAME_BYTES];
    struct seen seen;

    if (file >= file_of_all(0)) {
        all_remove(spool, file);
        return;
    }
    file_name(file, name);
    const int r = file_see(spool->dir.fd, name, &seen);
    bool gone = r == -ENOENT || (r == 0 && !file_is(&seen, &known->identity));
    if (r == 0 && !gone)
        gone = known->garbage ? garbage_set_aside(spool, name)
                              : unlinkat(spool->dir.fd, name, 0) == 0 || errno == ENOENT;
    if (gone)
        file_forget(spool, file);
}

static struct spool_file *file_known(struct spool *spool, struct spool_slot slot)
{
    struct spool_file *known = &spool->files[slot.file];

    return known->generation != 0 && known->generation == slot.generation ? known : NULL;
}

void spool_file_done(struct spool *spool, struct spool_slot slot)
{
    struct spool_file *known = file_known(spool, slot);

    if (!known)
        return;
    DELAY_POINT("spool.safe_unlinked");
    known->safe = true;
    file_remove(spool, slot.file);
}

void spool_file_failed(struct spool *spool, struct spool_slot slot, uint64_t lsn)
{
    struct spool_file *known = file_known(spool, slot);

    if (!known)
        return;
    known->failed_lsn = lsn;
    spool->some_failed = true;
}

void spool_stored(struct spool *spool, uint64_t lsn)
{
    bool some_failed = false;

    for (uint32_t i = 0; spool->some_failed && i < SPOOL_FILES; i++) {
        const struct spool_file *known = &spool->files[i];
        if (known->failed_lsn != 0 && known->failed_lsn <= lsn)
            spool_file_done(spool, (struct spool_slot){i, known->generation});
        else
            some_failed |= known->failed_lsn != 0;
    }
    spool->some_failed = some_failed;
}

/* What is to be done about a name: FILE_IS_NEW, or nothing: 0, or a negative errno. A file that is known comes before the question
 * whether it counts: its owner may have lost the role since, and its event is not safe before it says so. */
#define FILE_IS_NEW 1
static int file_look(struct spool *spool, uint32_t file, struct seen *seen)
{
    const struct spool_file *known = &spool->files[file];
    char name[SPOOL_NAME_BYTES];

    file_name(file, name);
    const int r = file_see(spool->dir.fd, name, seen);
    if (r == -ENOENT)
        file_forget(spool, file);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    if (known->generation != 0 && file_is(seen, &known->identity)) {
        if (known->safe)
            file_remove(spool, file);
        return 0;
    }
    const bool counts = file_counts(spool, seen);
    /* Its owner, without the role by now, replaced a file that waits: for the next daemon it is all that is there. */
    if (!counts && known->generation != 0 && !known->safe)
        return 0;
    file_forget(spool, file);
    if (counts)
        return FILE_IS_NEW;
    file_ignore(spool, name, seen);
    return 0;
}

/* A file that is about to be applied. */
struct found {
    uint32_t file;
    struct seen seen;
    bool garbage;
};

static int file_apply(struct spool *spool, const struct found *found, const struct request *request,
                      const struct spool_reader *reader)
{
    const struct spool_slot slot = {found->file, ++spool->generations};

    spool->files[slot.file] = (struct spool_file){
        .identity = found->seen.identity,
        .generation = slot.generation,
        .uid = found->seen.uid,
        .garbage = found->garbage,
    };
    const int r = reader->apply(reader->ctx, request, found->seen.uid, slot);
    if (r == 0)
        spool->applied++;
    else
        file_forget(spool, slot.file);
    return r;
}

static int everything_apply(struct spool *spool, const struct found *found,
                            const struct spool_reader *reader)
{
    struct request request = {.kind = REQUEST_INVALIDATE};

    ETAG_INIT(&request.targets);
    request.targets.everything = true;
    const int r = file_apply(spool, found, &request, reader);
    return r > 0 ? -EINVAL : r;
}

/* Of an owner who may mutate: it may have been for anything. Where the kernel lets anybody link to others' files, it may be some
 * file of that owner to which a stranger made a link: not an event. (An event with a second link is one all the same: else such
 * a link would make us lose it.) */
static int garbage_apply(struct spool *spool, const struct found *found,
                         const struct spool_reader *reader)
{
    const struct found garbage = {found->file, found->seen, true};
    char name[SPOOL_NAME_BYTES];

    file_name(found->file, name);
    if (found->seen.links > 1) {
        file_ignore(spool, name, &found->seen);
        return 0;
    }
    log_event(spool->log, LOG_ERROR, "spool_file_is_garbage", log_text("name", name),
              log_number("uid", found->seen.uid), log_number("bytes", (int64_t)found->seen.bytes),
              log_text("effect", "everything is purged; the file is set aside"));
    spool->garbage++;
    return everything_apply(spool, &garbage, reader);
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

/* Reads the event of a file that is new. O_NONBLOCK: a FIFO must not hold us; O_NOFOLLOW: nor a link lead us. */
static int event_read(struct spool *spool, struct found *found, enum pass pass,
                      const struct spool_reader *reader)
{
    static const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
    char name[SPOOL_NAME_BYTES], bytes[SPOOL_FILE_BYTES_MAX + 1];
    struct request request;

    file_name(found->file, name);
    CLEANUP(cleanup_fd) int fd = spool_dir_open_file(&spool->dir, name, flags);
    if (fd == -EACCES) /* its owner did not let us read it */
        return pass == PASS_REST ? garbage_apply(spool, found, reader) : 0;
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    const int seen = file_see(fd, "", &found->seen);
    if (seen < 0 || !file_counts(spool, &found->seen)) /* another one by now */
        return seen;
    const ssize_t len = file_read(fd, bytes, sizeof(bytes));
    if (len < 0)
        return (int)len;
    if (!event_decode(spool->arena, (etag_str){bytes, (size_t)len}, &request))
        return pass == PASS_REST ? garbage_apply(spool, found, reader) : 0;
    if (is_begin(&request) != (pass == PASS_BEGINS))
        return 0;
    const int r = file_apply(spool, found, &request, reader);
    return r == SPOOL_E_GARBAGE ? garbage_apply(spool, found, reader) : r;
}

static int event_file(struct spool *spool, uint32_t file, enum pass pass,
                      const struct spool_reader *reader)
{
    struct found found = {.file = file};
    const int r = file_look(spool, file, &found.seen);

    return r == FILE_IS_NEW ? event_read(spool, &found, pass, reader) : r;
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

static int taken_file(struct spool *spool, uint32_t n, const struct spool_reader *reader)
{
    struct found found = {.file = file_of_taken(n)};
    const int r = file_look(spool, found.file, &found.seen);

    return r == FILE_IS_NEW ? everything_apply(spool, &found, reader) : r;
}

/* all-NN becomes taken-NN: its owner may put another one there, and we remove only what we have applied. */
static int all_file(struct spool *spool, uint32_t n, const struct spool_reader *reader)
{
    struct found found = {.file = file_of_all(n)};
    char all[SPOOL_NAME_BYTES], taken[SPOOL_NAME_BYTES];
    const int r = file_look(spool, found.file, &found.seen);

    if (r != FILE_IS_NEW)
        return r;
    spool_name_make(SPOOL_NAME_ALL, n, all);
    spool_name_make(SPOOL_NAME_TAKEN, n, taken);
    if (renameat2(spool->dir.fd, all, spool->dir.fd, taken, RENAME_NOREPLACE) == 0) {
        DELAY_POINT("spool.taken_applied");
        return taken_file(spool, n, reader);
    }
    /* One that was taken before still waits: never replaced, since it may be all that is left of its event. */
    return errno == ENOENT ? 0 : everything_apply(spool, &found, reader);
}

static int all_files(struct spool *spool, const struct names *names,
                     const struct spool_reader *reader)
{
    for (uint32_t n = 0; n < SPOOL_ALL_SLOTS; n++) {
        const bool all = bit_is_set(names->all, n);
        int r = all || bit_is_set(names->taken, n) ? taken_file(spool, n, reader) : 0;
        if (r == 0 && all)
            r = all_file(spool, n, reader);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Some event is not safe whose owner the mark does not name any more: the next daemon has to know that it counted. */
static bool some_are_owed(const struct spool *spool)
{
    for (size_t i = 0; i < SPOOL_FILES; i++) {
        const struct spool_file *known = &spool->files[i];
        if (known->generation != 0 && !known->safe &&
            !spool_mark_counts(&spool->dir.mark, known->uid))
            return true;
    }
    return false;
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
    spool_dir_spare_restore(&spool->dir);
    if (r == 0 && spool_dir_has_former(&spool->dir))
        spool_dir_scanned(&spool->dir, some_are_owed(spool));
    return r;
}

size_t spool_waiting(const struct spool *spool)
{
    size_t count = 0;

    for (size_t i = 0; i < SPOOL_FILES; i++)
        count += spool->files[i].generation != 0;
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
