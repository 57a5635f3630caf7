/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scan lists the directory and opens only names that can be events, of which there are
 * SPOOL_FILES. If a local user has made so many other names that listing would exceed its bound,
 * the scan asks for each possible event name instead.
 *
 * spool_slot.c has the life of a file after that.
 *
 * A writer replaces no name but an all-NN of its own. So the daemon renames all-NN to taken-NN, to
 * which no writer renames, before it applies the file. While an older file waits under taken-NN, it
 * applies all-NN where it is, and renames it later, to remove it.
 */
#include "spool_slot.h"

#include "clocktime.h"
#include "delay_point.h"
#include "spool_sweep.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define TEMP_AGE_NS (60 * NS_PER_S) /* a writer's unfinished file older than this is left over */
#define DISCARDS_PER_SCAN 1024u     /* foreign names removed at once, */
#define DISCARD_NS (20 * NS_PER_MS) /* and no longer */

/* ---- The directory's files ---- */

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

/* By its birth, which its owner cannot choose, as it can choose the time of its last write. Where
 * that is far ahead the clock was set back. (A writer that misses its file by that has an error,
 * and no event that it believes in.) */
static bool temp_is_young(const struct spool_seen *seen)
{
    const uint64_t now_ns = time_ns_of(CLOCK_REALTIME), born_ns = seen->identity.born_ns;
    const uint64_t apart_ns = now_ns > born_ns ? now_ns - born_ns : born_ns - now_ns;

    return apart_ns < TEMP_AGE_NS;
}

/* May it stay? A writer's unfinished file for a time; garbage that was set aside for people, which
 * has few names and is small, of who may mutate. */
static bool foreign_stays(const struct spool *spool, const struct spool_seen *seen,
                          const char *name, enum spool_name kind)
{
    if (kind == SPOOL_NAME_TEMP)
        return S_ISREG(seen->mode) && temp_is_young(seen);
    return spool_name_is_set_aside(name) && slot_counts(spool, seen);
}

/* A name that is no event: removed in time, and only so many of them a scan. */
static void foreign_name(struct spool *spool, const char *name, enum spool_name kind,
                         struct names *names)
{
    struct spool_seen seen;
    const uint64_t until_ns = names->began_ns + DISCARD_NS;

    if (names->discards >= DISCARDS_PER_SCAN || time_coarse_ns() > until_ns)
        return;
    names->discards++;
    if (slot_see(spool->dir.fd, name, &seen) < 0 || foreign_stays(spool, &seen, name, kind))
        return;
    if (!spool_sweep_tree(spool->dir.fd, name, until_ns))
        (void)spool_sweep_aside(spool->dir.fd, spool->dir.fd, name);
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

/* Finds which names of a kind are there. 0 or negative errno. */
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

/* Opened for each scan: where a directory was opened long ago, some file systems list what was in
 * it then. */
static int names_read(struct spool *spool, struct names *names)
{
    CLEANUP(cleanup_dir) DIR *stream = NULL;
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

/* Found by one scan, and not applied before its end. */
struct garbage {
    uint64_t generation;
    size_t count;
    /* the first one's owner */
    uint32_t uid;
};

enum pass { PASS_BEGINS, PASS_REST };

struct scan {
    const struct spool_reader *reader;
    enum pass pass;
    struct garbage garbage;
};

/* A file that is about to be applied. */
struct found {
    uint32_t file;
    struct spool_seen seen;
};

static int file_apply(struct spool *spool, const struct found *found, const struct request *request,
                      const struct spool_reader *reader)
{
    const struct spool_slot slot = slot_begin(spool, found->file, &found->seen);

    const int r = reader->apply(reader->ctx, request, found->seen.uid, slot);
    if (r == 0)
        spool->applied++;
    else
        slot_forget(spool, slot.file);
    return r;
}

static struct request purge_request(void)
{
    struct request request = {.kind = REQUEST_INVALIDATE};

    ETAG_INIT(&request.targets);
    request.targets.everything = true;
    return request;
}

static int everything_apply(struct spool *spool, const struct found *found,
                            const struct spool_reader *reader)
{
    const struct request request = purge_request();
    const int r = file_apply(spool, found, &request, reader);

    return r > 0 ? -EINVAL : r;
}

/* ---- Garbage ---- */

/* The owner may mutate, so the garbage may have named anything. One purge covers all of it, at the
 * end of the scan: so a user who leaves thousands of such files costs as much as thousands of names
 * do, and no more. */
static int purge_for(struct spool *spool, const struct found *found, struct garbage *garbage)
{
    char name[SPOOL_NAME_BYTES];

    if (garbage->count == 0) {
        garbage->generation = ++spool->generations;
        garbage->uid = found->seen.uid;
    }
    garbage->count++;
    slot_begin_garbage(spool, found->file, &found->seen, garbage->generation);
    slot_name(found->file, name);
    log_limited(spool->log, LOG_ERROR, "spool_file_is_garbage", log_text("name", name),
                log_number("uid", found->seen.uid), log_number("bytes", (int64_t)found->seen.bytes),
                log_text("effect", "everything is purged; the file is set aside"));
    spool->garbage++;
    return 0;
}

/* Also after a scan that failed (r): then nothing is applied, and the next scan finds it all
 * again. */
static int garbage_purge(struct spool *spool, const struct garbage *garbage, int r,
                         const struct spool_reader *reader)
{
    const struct spool_slot slot = {SPOOL_ALL_GARBAGE, garbage->generation};
    const struct request request = purge_request();

    if (garbage->count == 0)
        return r;
    if (r == 0)
        r = reader->apply(reader->ctx, &request, garbage->uid, slot);
    if (r == 0)
        spool->applied += garbage->count;
    else
        slot_forget_garbage(spool, garbage->generation);
    return r > 0 ? -EINVAL : r;
}

/* It was read, and is no event. Where the kernel lets anybody link to others' files, it may be some
 * file of that owner to which a stranger made a link: not for us. (An event with a second link is
 * one all the same, and so is what cannot be read: else such a link would make us lose it.) */
static int garbage_note(struct spool *spool, const struct found *found, struct garbage *garbage)
{
    char name[SPOOL_NAME_BYTES];

    if (found->seen.links <= 1)
        return purge_for(spool, found, garbage);
    slot_name(found->file, name);
    slot_ignore(spool, name, &found->seen);
    return 0;
}

/* ---- Events ---- */

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

/* Reads the event of a file that is new. O_NONBLOCK: a FIFO must not hold us; O_NOFOLLOW: nor a
 * link lead us. */
static int event_read(struct spool *spool, struct found *found, struct scan *scan)
{
    static const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
    char name[SPOOL_NAME_BYTES], bytes[SPOOL_FILE_BYTES_MAX + 1];
    struct request request;

    slot_name(found->file, name);
    CLEANUP(cleanup_fd) int fd = spool_dir_open_file(&spool->dir, name, flags);
    if (fd == -EACCES) /* its owner did not let us read it */
        return purge_for(spool, found, &scan->garbage);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    const int seen = slot_see(fd, "", &found->seen);
    if (seen < 0 || !slot_counts(spool, &found->seen)) /* another one by now */
        return seen;
    const ssize_t len = file_read(fd, bytes, sizeof(bytes));
    if (len < 0)
        return (int)len;
    if (!event_decode(spool->arena, (etag_str){bytes, (size_t)len}, &request))
        return garbage_note(spool, found, &scan->garbage);
    if (is_begin(&request) != (scan->pass == PASS_BEGINS))
        return 0;
    const int r = file_apply(spool, found, &request, scan->reader);
    return r == SPOOL_E_GARBAGE ? garbage_note(spool, found, &scan->garbage) : r;
}

static int event_file(struct spool *spool, uint32_t file, struct scan *scan)
{
    struct found found = {.file = file};
    const int r = slot_look(spool, file, &found.seen);

    return r == SLOT_IS_NEW ? event_read(spool, &found, scan) : r;
}

static int event_files(struct spool *spool, const struct names *names, struct scan *scan)
{
    for (uint32_t n = 0; n < SPOOL_SLOTS; n++) {
        if (n % 8 == 0 && names->events[n / 8] == 0) {
            n += 7;
            continue;
        }
        const int r = bit_is_set(names->events, n) ? event_file(spool, n, scan) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- "Purge everything" ---- */

/* One with content was an event's, to which file_discard() could not give its name back:
 * "everything" is no substitute for the begin of a guard. */
static int taken_file(struct spool *spool, uint32_t n, struct scan *scan)
{
    struct found found = {.file = slot_of_taken(n)};
    int r = slot_look(spool, found.file, &found.seen);

    if (r != SLOT_IS_NEW)
        return r;
    if (found.seen.bytes == 0)
        return everything_apply(spool, &found, scan->reader);
    scan->pass = PASS_BEGINS;
    r = event_read(spool, &found, scan);
    if (r < 0 || spool->files[found.file].generation != 0)
        return r;
    scan->pass = PASS_REST;
    return event_read(spool, &found, scan);
}

/* all-NN becomes taken-NN: its owner may put another one there, and we remove only what we have
 * applied. */
static int all_file(struct spool *spool, uint32_t n, struct scan *scan)
{
    struct found found = {.file = slot_of_all(n)};
    int r = slot_look(spool, found.file, &found.seen);

    if (r != SLOT_IS_NEW)
        return r;
    r = slot_take(spool, n);
    if (r == 0) {
        DELAY_POINT("spool.taken_applied");
        return taken_file(spool, n, scan);
    }
    /* One that was taken before still waits: never replaced, since it may be all that is left of
     * its event. */
    return r == -ENOENT ? 0 : everything_apply(spool, &found, scan->reader);
}

static int all_files(struct spool *spool, const struct names *names, struct scan *scan)
{
    for (uint32_t n = 0; n < SPOOL_ALL_SLOTS; n++) {
        const bool all = bit_is_set(names->all, n);
        int r = all || bit_is_set(names->taken, n) ? taken_file(spool, n, scan) : 0;
        if (r == 0 && all)
            r = all_file(spool, n, scan);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Some event is not safe whose owner the mark does not name any more: the next daemon has to know
 * that it counted. */
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
    struct scan scan = {.reader = reader, .pass = PASS_BEGINS};
    struct names names;
    int r = names_read(spool, &names);

    spool->removals_left = SPOOL_REMOVALS_PER_SCAN;
    if (r == 0)
        r = event_files(spool, &names, &scan);
    scan.pass = PASS_REST;
    if (r == 0)
        r = event_files(spool, &names, &scan);
    if (r == 0)
        r = all_files(spool, &names, &scan);
    r = garbage_purge(spool, &scan.garbage, r, reader);
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
               struct log_limit *log, struct arena *arena, struct why *why)
{
    *spool = (struct spool){.log = log, .arena = arena};
    return spool_dir_open(&spool->dir, config, lease_ns, log, why);
}

void spool_close(struct spool *spool)
{
    spool_dir_close(&spool->dir);
}
