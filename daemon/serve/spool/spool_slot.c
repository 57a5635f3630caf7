/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No file is removed by its name alone, because the name may become another file's between the
 * check and the removal. The daemon moves the file to a name to which no writer moves anything
 * (taken-NN), checks it once more, and then removes it, or moves it back.
 */
#include "spool_slot.h"

#include "clocktime.h"
#include "delay_point.h"
#include "spool_sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/* ---- A file, and its name ---- */

int slot_see(int fd, const char *name, struct spool_seen *out)
{
    struct statx st;

    *out = (struct spool_seen){0};
    if (statx(fd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &st) <
        0)
        return -errno;
    const struct statx_timestamp *born = st.stx_mask & STATX_BTIME ? &st.stx_btime : &st.stx_ctime;
    *out = (struct spool_seen){
        .identity = {st.stx_ino, (uint64_t)born->tv_sec * NS_PER_S + born->tv_nsec},
        .bytes = st.stx_size,
        .uid = st.stx_uid,
        .mode = st.stx_mode,
        .links = st.stx_nlink,
    };
    return 0;
}

bool slot_counts(const struct spool *spool, const struct spool_seen *seen)
{
    return S_ISREG(seen->mode) && seen->bytes <= SPOOL_FILE_BYTES_MAX &&
           spool_dir_counts(&spool->dir, seen->uid);
}

void slot_name(uint32_t file, char out[SPOOL_NAME_BYTES])
{
    if (file < SPOOL_SLOTS)
        spool_name_make(SPOOL_NAME_EVENT, file, out);
    else if (file < slot_of_all(0))
        spool_name_make(SPOOL_NAME_TAKEN, file - slot_of_taken(0), out);
    else
        spool_name_make(SPOOL_NAME_ALL, file - slot_of_all(0), out);
}

static bool file_is(const struct spool_seen *seen, const struct spool_identity *identity)
{
    return seen->identity.inode == identity->inode && seen->identity.born_ns == identity->born_ns;
}

/* ---- What does not count ---- */

/* Whatever is there: we own the directory, so its sticky bit does not bind us. */
static void name_free(const struct spool *spool, const char *name)
{
    if (unlinkat(spool->dir.fd, name, 0) < 0 && errno != ENOENT &&
        unlinkat(spool->dir.fd, name, AT_REMOVEDIR) < 0)
        (void)spool_sweep_aside(spool->dir.fd, spool->dir.fd, name);
}

/* To a name that no writer renames to, so that no one comes in between where the file system can't
 * rename without replacing. */
static int rename_to_taken(int dir, const char *name, const char *taken)
{
    struct spool_seen seen;

    if (renameat2(dir, name, dir, taken, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    const int r = slot_see(dir, taken, &seen);
    if (r != -ENOENT)
        return r == 0 ? -EEXIST : r;
    return renameat(dir, name, dir, taken) < 0 ? -errno : 0;
}

/* There writers do come in between: a link is made only where there is nothing. */
static void give_back(int dir, const char *taken, const char *name)
{
    if (renameat2(dir, taken, dir, name, RENAME_NOREPLACE) == 0 ||
        (errno != EINVAL && errno != ENOSYS))
        return;
    if (linkat(dir, taken, dir, name, 0) == 0)
        (void)unlinkat(dir, taken, 0);
}

/* Removes what was judged, and nothing that has taken its name since: that may be an event. So it
 * is moved to where no writer moves anything, and another file gets its name back, for the next
 * scan. Where somebody took the name once more it stays, and is read there. */
static void file_discard(struct spool *spool, const char *name, const struct spool_seen *judged)
{
    const int dir = spool->dir.fd;
    char taken[SPOOL_NAME_BYTES];
    struct spool_seen seen;
    uint32_t tried = 0;

    for (; tried < SPOOL_ALL_SLOTS; tried++) {
        spool_name_make(SPOOL_NAME_TAKEN, (spool->ignored + tried) % SPOOL_ALL_SLOTS, taken);
        const int r = rename_to_taken(dir, name, taken);
        if (r == 0)
            break;
        if (r != -EEXIST)
            return;
    }
    if (tried == SPOOL_ALL_SLOTS || slot_see(dir, taken, &seen) < 0)
        return;
    if (file_is(&seen, &judged->identity))
        name_free(spool, taken);
    else
        give_back(dir, taken, name);
}

void slot_ignore(struct spool *spool, const char *name, const struct spool_seen *seen)
{
    uint32_t n;

    spool->ignored++;
    if (spool_name_parse(name, &n) == SPOOL_NAME_TAKEN)
        name_free(spool, name);
    else
        file_discard(spool, name, seen);
    log_limited(spool->log, LOG_WARN, "spool_file_ignored", log_text("name", name),
                log_number("uid", seen->uid),
                log_text("reason", "its owner has no role to mutate, or it is not a plain file"),
                log_number("ignored", (int64_t)spool->ignored));
}

/* ---- What is known ---- */

int slot_take(struct spool *spool, uint32_t n)
{
    char all[SPOOL_NAME_BYTES], taken[SPOOL_NAME_BYTES];

    spool_name_make(SPOOL_NAME_ALL, n, all);
    spool_name_make(SPOOL_NAME_TAKEN, n, taken);
    return rename_to_taken(spool->dir.fd, all, taken);
}

struct spool_slot slot_begin(struct spool *spool, uint32_t file, const struct spool_seen *seen)
{
    const struct spool_slot slot = {file, ++spool->generations};

    spool->files[file] = (struct spool_file){
        .identity = seen->identity, .generation = slot.generation, .uid = seen->uid};
    return slot;
}

void slot_begin_garbage(struct spool *spool, uint32_t file, const struct spool_seen *seen,
                        uint64_t generation)
{
    (void)slot_begin(spool, file, seen);
    spool->files[file].generation = generation;
    spool->files[file].garbage = true;
}

void slot_forget(struct spool *spool, uint32_t file)
{
    spool->files[file] = (struct spool_file){0};
}

void slot_forget_garbage(struct spool *spool, uint64_t generation)
{
    for (uint32_t i = 0; i < SPOOL_FILES; i++)
        if (spool->files[i].generation == generation)
            slot_forget(spool, i);
}

/* Its owner may replace it at any moment, so it is taken first. An older one that still waits there
 * goes first. */
static void all_remove(struct spool *spool, uint32_t file)
{
    const int dir = spool->dir.fd;
    const struct spool_identity identity = spool->files[file].identity;
    char all[SPOOL_NAME_BYTES], taken[SPOOL_NAME_BYTES];
    struct spool_seen seen;

    slot_name(file, all);
    spool_name_make(SPOOL_NAME_TAKEN, file - slot_of_all(0), taken);
    const int r = rename_to_taken(dir, all, taken);
    if (r < 0 && r != -ENOENT)
        return;
    slot_forget(spool, file);
    /* A newer one: the next scan applies it. */
    if (slot_see(dir, taken, &seen) == 0 && file_is(&seen, &identity))
        (void)unlinkat(dir, taken, 0);
}

/* True: the name is free. */
static bool garbage_set_aside(struct spool *spool, const char *name)
{
    char bad[SPOOL_NAME_BYTES];

    spool_set_aside_make((uint32_t)(spool->garbage % SPOOL_SET_ASIDE_MAX), bad);
    return renameat(spool->dir.fd, name, spool->dir.fd, bad) == 0 ||
           unlinkat(spool->dir.fd, name, 0) == 0 || errno == ENOENT;
}

/* The file that is known and safe goes. Where that can't be done now it is tried again at the next
 * scan. */
static void file_remove(struct spool *spool, uint32_t file)
{
    const struct spool_file *known = &spool->files[file];
    char name[SPOOL_NAME_BYTES];
    struct spool_seen seen;

    if (file >= slot_of_all(0)) {
        all_remove(spool, file);
        return;
    }
    slot_name(file, name);
    const int r = slot_see(spool->dir.fd, name, &seen);
    bool gone = r == -ENOENT || (r == 0 && !file_is(&seen, &known->identity));
    if (r == 0 && !gone)
        gone = known->garbage ? garbage_set_aside(spool, name)
                              : unlinkat(spool->dir.fd, name, 0) == 0 || errno == ENOENT;
    if (gone)
        slot_forget(spool, file);
}

static struct spool_file *file_known(struct spool *spool, struct spool_slot slot)
{
    struct spool_file *known = &spool->files[slot.file];

    return known->generation != 0 && known->generation == slot.generation ? known : NULL;
}

/* As far as one scan goes: the others go at the next ones. */
static void file_remove_in_turn(struct spool *spool, uint32_t file)
{
    if (spool->removals_left == 0)
        return;
    spool->removals_left--;
    file_remove(spool, file);
}

/* Each file of a slot: one, or all garbage of a scan that is still there. */
static void files_of(struct spool *spool, struct spool_slot slot,
                     void (*act)(struct spool *spool, struct spool_slot slot, uint64_t lsn),
                     uint64_t lsn)
{
    if (slot.file != SPOOL_ALL_GARBAGE) {
        act(spool, slot, lsn);
        return;
    }
    for (slot.file = 0; slot.file < SPOOL_FILES; slot.file++)
        act(spool, slot, lsn);
}

static void file_done(struct spool *spool, struct spool_slot slot, uint64_t lsn)
{
    struct spool_file *known = file_known(spool, slot);

    if (!known)
        return;
    DELAY_POINT("spool.safe_unlinked");
    known->safe = true;
    if (known->garbage)
        file_remove_in_turn(spool, slot.file);
    else
        file_remove(spool, slot.file);
}

static void file_failed(struct spool *spool, struct spool_slot slot, uint64_t lsn)
{
    struct spool_file *known = file_known(spool, slot);

    if (!known)
        return;
    known->failed_lsn = lsn;
    spool->some_failed = true;
}

void spool_file_done(struct spool *spool, struct spool_slot slot)
{
    files_of(spool, slot, file_done, 0);
}

void spool_file_failed(struct spool *spool, struct spool_slot slot, uint64_t lsn)
{
    files_of(spool, slot, file_failed, lsn);
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

/* A file that is known comes before the question whether it counts: its owner may have lost the
 * role since, and its event is not safe before it says so. */
int slot_look(struct spool *spool, uint32_t file, struct spool_seen *seen)
{
    const struct spool_file *known = &spool->files[file];
    char name[SPOOL_NAME_BYTES];

    slot_name(file, name);
    const int r = slot_see(spool->dir.fd, name, seen);
    if (r == -ENOENT)
        slot_forget(spool, file);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    if (known->generation != 0 && file_is(seen, &known->identity)) {
        if (known->safe)
            file_remove_in_turn(spool, file);
        return 0;
    }
    const bool counts = slot_counts(spool, seen);
    /* Its owner, without the role by now, replaced a file that waits: for the next daemon it is all
     * that is there. */
    if (!counts && known->generation != 0 && !known->safe)
        return 0;
    slot_forget(spool, file);
    if (counts)
        return SLOT_IS_NEW;
    slot_ignore(spool, name, seen);
    return 0;
}
