/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mark has what a writer must know when it reaches no daemon. Two rules keep it true. It never
 * has a shorter lease than one that still runs, because a writer reads it after its rename and
 * waits that long. And a uid that it once named counts until a scan has begun after the mark
 * stopped naming it, and what that scan applied is safe: in this run, or in the next one by the
 * file "former", which is written before such a mark. The mark also has the number of such changes,
 * so that a writer that reads it before and after its rename notices a change that was undone in
 * between.
 *
 * A file has an owner and no list of groups, so it does not show who has a role by group. Therefore
 * the mark remembers each uid that connected with the role, for as long as the rules stay the same.
 */
#include "spool_dir.h"

#include "clocktime.h"
#include "delay_point.h"
#include "lock_file.h"
#include "numbers.h"
#include "siphash.h"
#include "spool_access.h"
#include "spool_reserve.h"
#include "spool_sweep.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define FORMER_SCANS 2          /* one may have been under way; the next one sees everything */
#define SWEEP_NS (5 * NS_PER_S) /* the most that a start takes for what others left */

/* ---- The place ---- */

/* The former place of the other durability. Nothing in it counts any more: such a start is cold
 * (cold_by_durability), and without a mark no writer takes it for a spool. */
static void former_place_leave(const char *path)
{
    char mark[PATH_BYTES_MAX + sizeof(SPOOL_MARK_NAME) + 1];
    char aside[PATH_BYTES_MAX + 8];
    struct stat st;

    if (lstat(path, &st) < 0)
        return;
    (void)snprintf(mark, sizeof(mark), "%s/" SPOOL_MARK_NAME, path);
    (void)unlink(mark);
    if (S_ISLNK(st.st_mode)) {
        (void)unlink(path);
        return;
    }
    (void)snprintf(aside, sizeof(aside), "%s.old", path);
    (void)rename(path, aside);
}

static bool leads_there(const char *path, const char *target)
{
    char leads_to[PATH_BYTES_MAX];
    const ssize_t len = readlink(path, leads_to, sizeof(leads_to) - 1);

    if (len > 0)
        leads_to[len] = '\0';
    return len > 0 && strcmp(leads_to, target) == 0;
}

/* The directory beside the socket, or that a link there leads to. */
static int place_make(struct spool_dir *dir, const struct config *config, struct why *why)
{
    char target[PATH_BYTES_MAX];
    struct stat st;
    const bool power = config->durability == DURABILITY_POWER;
    const bool is_link = lstat(dir->path, &st) == 0 && S_ISLNK(st.st_mode);

    (void)snprintf(target, sizeof(target), "%.4000s/" SPOOL_DIR_NAME, config->state_dir);
    if (power ? !leads_there(dir->path, target) : is_link)
        former_place_leave(dir->path);
    if (!power)
        former_place_leave(target);
    if (!power && is_link && chmod(config->state_dir, 0700) < 0)
        return why_errno(why, "close the way to the former place of the spool", target);
    if (power && chmod(config->state_dir, 0711) < 0)
        return why_errno(why, "let writers through to the spool", target);
    if (mkdir(power ? target : dir->path, 0700) < 0 && errno != EEXIST)
        return why_errno(why, "make the spool", power ? target : dir->path);
    if (power && symlink(target, dir->path) < 0 && !leads_there(dir->path, target))
        return why_set(why,
                       "the spool %s: cannot be made a link to the state directory's; unmount what "
                       "is mounted there, or remove it",
                       dir->path);
    return 0;
}

static int place_open(struct spool_dir *dir, bool power, struct why *why)
{
    struct stat st;
    const int fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (power ? 0 : O_NOFOLLOW));

    if (fd < 0)
        return why_errno(why, "open the spool", dir->path);
    dir->fd = fd;
    if (fstat(fd, &st) < 0)
        return why_errno(why, "look at the spool", dir->path);
    if (st.st_uid != geteuid())
        return why_set(why,
                       "the spool %s: belongs to another user; remove it, or give another --socket",
                       dir->path);
    return 0;
}

static int lock_take(struct spool_dir *dir, struct why *why)
{
    const int r = lock_file_take(dir->fd, SPOOL_LOCK_NAME, &dir->lock_fd);

    if (r == -EAGAIN)
        return why_set(why,
                       "the spool %s: another etagd uses it; give this one a --socket in a "
                       "directory of its own",
                       dir->path);
    errno = -r;
    return r == 0 ? 0 : why_errno(why, "lock the spool", dir->path);
}

bool spool_dir_still_owned(const struct spool_dir *dir)
{
    char path[PATH_BYTES_MAX + sizeof(SPOOL_LOCK_NAME) + 1];

    (void)snprintf(path, sizeof(path), "%s/" SPOOL_LOCK_NAME, dir->path);
    return lock_file_is_at(path, dir->lock_fd);
}

/* ---- The mark ---- */

static bool mark_read(int dir_fd, const char *name, struct spool_mark *out)
{
    static const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    CLEANUP(cleanup_fd) int fd = openat(dir_fd, name, flags);
    CLEANUP(cleanup_free) char *text = malloc(SPOOL_MARK_BYTES_MAX);
    struct stat st;

    *out = (struct spool_mark){0};
    if (fd < 0 || !text || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid())
        return false;
    const ssize_t len = read(fd, text, SPOOL_MARK_BYTES_MAX);
    if (len > 0 && spool_mark_parse((etag_str){text, (size_t)len}, out))
        return true;
    *out = (struct spool_mark){0};
    return false;
}

bool spool_dir_former(const struct config *config, struct spool_mark *out)
{
    char path[PATH_BYTES_MAX], mark[PATH_BYTES_MAX + sizeof(SPOOL_MARK_NAME) + 1];

    *out = (struct spool_mark){0};
    if (!spool_path_of(config->socket_path, path, sizeof(path)))
        return false;
    (void)snprintf(mark, sizeof(mark), "%s/" SPOOL_MARK_NAME, path);
    if (mark_read(AT_FDCWD, mark, out) || config->durability != DURABILITY_POWER)
        return out->id != 0;
    (void)snprintf(mark, sizeof(mark), "%.4000s/" SPOOL_DIR_NAME "/" SPOOL_MARK_NAME,
                   config->state_dir);
    return mark_read(AT_FDCWD, mark, out);
}

/* Renames it over whatever is there. Anybody may have made a directory of that name, and filled
 * it: it changes places with the file, and goes with other foreign names. */
static int file_put(const struct spool_dir *dir, const char *name, const char *file)
{
    if (renameat(dir->fd, name, dir->fd, file) == 0)
        return 0;
    if (errno == EISDIR)
        return renameat2(dir->fd, name, dir->fd, file, RENAME_EXCHANGE) < 0 ? -errno : 0;
    return -errno;
}

/* Into a new file. */
static int mark_text_write(const struct spool_dir *dir, const char *text, size_t len,
                           const char *file)
{
    char name[SPOOL_NAME_BYTES + 16];
    uint64_t random;

    if (getrandom(&random, sizeof(random), 0) < 0)
        return -errno;
    (void)snprintf(name, sizeof(name), SPOOL_TEMP_PREFIX "%016llx", (unsigned long long)random);
    CLEANUP(cleanup_fd)
    int fd = openat(dir->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return -errno;
    int r = spool_reserve_text_put(fd, text, len, dir->mark.power);
    DELAY_POINT("mark.written_renamed");
    if (r == 0)
        r = file_put(dir, name, file);
    if (r < 0)
        (void)unlinkat(dir->fd, name, 0);
    return r;
}

static int mark_file_write(const struct spool_dir *dir, const struct spool_mark *mark,
                           const char *file)
{
    CLEANUP(cleanup_free) char *text = malloc(SPOOL_MARK_BYTES_MAX);

    if (!text)
        return -ENOMEM;
    const size_t len = spool_mark_format(mark, text);
    int r = mark_text_write(dir, text, len, file);
    if (r == -ENOSPC || r == -EDQUOT)
        r = spool_reserve_use(dir->fd, file, text, len, dir->mark.power);
    spool_reserve_keep(dir->fd);
    return r == 0 && dir->mark.power && fsync(dir->fd) < 0 ? -errno : r;
}

static int mark_write(const struct spool_dir *dir)
{
    return mark_file_write(dir, &dir->mark, SPOOL_MARK_NAME);
}

/* Before the mark that stops naming them: a daemon that starts in between, or while their events
 * are not safe, counts them too. */
static int former_write(struct spool_dir *dir)
{
    const int r = mark_file_write(dir, &dir->former, SPOOL_FORMER_NAME);

    dir->former_kept |= r == 0;
    return r;
}

static void writer_add(struct spool_mark *mark, uint32_t uid)
{
    if (!spool_mark_counts(mark, uid) && mark->writer_count < SPOOL_WRITERS_MAX)
        mark->writers[mark->writer_count++] = uid;
}

/* Writers that count by one of the two. Where there is no room to remember all of them,
 * everybody does: an event too many is harmless. */
static void writers_merge(struct spool_mark *into, const struct spool_mark *from)
{
    for (size_t i = 0; i < from->writer_count; i++) {
        const uint32_t uid = from->writers[i];
        if (uid == into->nobody)
            continue;
        writer_add(into, uid);
        into->anybody |= !spool_mark_counts(into, uid);
    }
    into->anybody |= from->anybody;
}

/* Everybody who counts by the one counts by the other too. */
static bool writers_are_among(const struct spool_mark *few, const struct spool_mark *many)
{
    if (many->anybody || few->anybody)
        return many->anybody;
    for (size_t i = 0; i < few->writer_count; i++)
        if (few->writers[i] != many->nobody && !spool_mark_counts(many, few->writers[i]))
            return false;
    return true;
}

/* Somebody's files counted, and do not any more. The number tells it to a writer that reads both
 * marks, though they may be the same: its file may have been renamed, ignored and removed between
 * them. */
static void mark_count_change(struct spool_mark *mark, const struct spool_mark *before)
{
    if (before->nobody != mark->nobody || !writers_are_among(before, mark))
        mark->changes++;
}

/* Users that may mutate, by uid; those by group are learnt. */
static void writers_of_rules(struct spool_mark *mark, const struct config *config)
{
    static const uint8_t key[SIPHASH_KEY_BYTES] = "spool role rules";
    uint8_t bytes[ROLE_RULES_MAX * 9];
    size_t len = 0;

    writer_add(mark, geteuid());
    writer_add(mark, 0);
    for (size_t i = 0; i < config->rule_count; i++) {
        const struct role_rule *rule = &config->rules[i];
        if (!(rule->roles & ROLE_MUTATE))
            continue;
        if (rule->kind == RULE_UID)
            writer_add(mark, rule->id);
        mark->anybody = mark->anybody || rule->kind == RULE_ALL;
        bytes[len++] = (uint8_t)rule->kind;
        memcpy(bytes + len, &rule->id, sizeof(rule->id));
        len += sizeof(rule->id);
    }
    mark->rules = siphash13_64(key, bytes, len);
}

/* Those too whose events a former daemon owed to the next one, when it ended. */
static int former_begin(struct spool_dir *dir)
{
    CLEANUP(cleanup_free) struct spool_mark *owed = malloc(sizeof(*owed));

    if (!owed)
        return -ENOMEM;
    dir->former_scans = FORMER_SCANS;
    if (mark_read(dir->fd, SPOOL_FORMER_NAME, owed) && owed->id == dir->former.id) {
        writers_merge(&dir->former, owed);
        dir->former_kept = true;
    }
    return dir->former.id == 0 || writers_are_among(&dir->former, &dir->mark) ? 0
                                                                              : former_write(dir);
}

static int mark_begin(struct spool_dir *dir, const struct config *config, uint64_t lease_ns)
{
    struct spool_mark *mark = &dir->mark;

    *mark = (struct spool_mark){
        .id = dir->former.id,
        .lease_ns = max_of(dir->former.lease_ns, lease_ns),
        .linger_ns = config->linger_ns,
        .power = config->durability == DURABILITY_POWER,
        .log_reach = config->relay == RELAY_REQUIRED,
        .owner = geteuid(),
        .nobody = config_overflow_uid(),
    };
    (void)snprintf(mark->socket, sizeof(mark->socket), "%s",
                   spool_socket_name(config->socket_path));
    while (mark->id == 0)
        if (getrandom(&mark->id, sizeof(mark->id), 0) < 0)
            return -errno;
    writers_of_rules(mark, config);
    for (size_t i = 0; mark->rules == dir->former.rules && i < dir->former.writer_count; i++)
        writer_add(mark, dir->former.writers[i]);
    mark->changes = dir->former.changes;
    mark_count_change(mark, &dir->former);
    const int r = former_begin(dir);
    return r < 0 ? r : mark_write(dir);
}

int spool_dir_settle(struct spool_dir *dir, uint64_t lease_ns)
{
    if (dir->mark.lease_ns == lease_ns)
        return 0;
    dir->mark.lease_ns = lease_ns;
    return mark_write(dir);
}

void spool_dir_learn(struct spool_dir *dir, uint32_t uid)
{
    if (spool_mark_counts(&dir->mark, uid))
        return;
    const bool room = dir->mark.writer_count < SPOOL_WRITERS_MAX;
    writer_add(&dir->mark, uid);
    const int r = room ? mark_write(dir) : -ENOSPC;
    if (r < 0)
        log_limited(dir->log, LOG_WARN, "spool_writer_not_noted", log_number("uid", uid),
                    log_error("error", r),
                    log_text("effect", "this user's writers depend on a running daemon"));
}

/* A writer returned OK only if the mark named it after its rename, so a scan that begins after the
 * mark's change sees all that may count by the former one: as at a start. */
int spool_dir_set_writers(struct spool_dir *dir, const struct config *config, const uint32_t *uids,
                          size_t count)
{
    CLEANUP(cleanup_free) struct spool_mark *before = malloc(sizeof(*before));
    struct spool_mark *mark = &dir->mark;
    struct spool_mark *former = &dir->former;

    if (!before)
        return -ENOMEM;
    *before = *mark;
    mark->writer_count = 0;
    mark->anybody = false;
    writers_of_rules(mark, config);
    if (mark->rules == before->rules) {
        *mark = *before;
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        writer_add(mark, uids[i]);
    mark_count_change(mark, before);
    /* A writer whose events are not safe yet (former_kept) stays in it. */
    if ((dir->former_scans == 0 && !dir->former_kept) || former->id == 0)
        *former = *before;
    else
        writers_merge(former, before);
    dir->former_scans = FORMER_SCANS;
    int r = writers_are_among(former, mark) ? 0 : former_write(dir);
    if (r == 0)
        r = mark_write(dir);
    if (r < 0) {
        /* It may have been seen: a number that was given is not given again. */
        before->changes = mark->changes;
        *mark = *before;
    }
    return r;
}

bool spool_dir_counts(const struct spool_dir *dir, uint32_t uid)
{
    return spool_mark_counts(&dir->mark, uid) ||
           (dir->former_scans > 0 && spool_mark_counts(&dir->former, uid));
}

bool spool_dir_has_former(const struct spool_dir *dir)
{
    return dir->former_scans > 0 || dir->former_kept;
}

void spool_dir_scanned(struct spool_dir *dir, bool owed)
{
    if (dir->former_scans > 0)
        dir->former_scans--;
    if (dir->former_scans == 0 && dir->former_kept && !owed)
        dir->former_kept = unlinkat(dir->fd, SPOOL_FORMER_NAME, 0) < 0 && errno != ENOENT;
}

/* ---- Open and close ---- */

static int access_set(struct spool_dir *dir, const struct config *config, struct why *why)
{
    const int r = spool_access_set(dir->fd, config, dir->log->log);

    errno = -r;
    return r == 0 ? 0 : why_errno(why, "let writers into the spool", dir->path);
}

int spool_dir_open(struct spool_dir *dir, const struct config *config, uint64_t lease_ns,
                   struct log_limit *log, struct why *why)
{
    const bool power = config->durability == DURABILITY_POWER;

    *dir = (struct spool_dir){.fd = -1, .lock_fd = -1, .spare_fd = -1, .log = log};
    if (!spool_path_of(config->socket_path, dir->path, sizeof(dir->path)))
        return why_set(why, "the spool %s: its path is too long; give another --socket",
                       config->socket_path);
    if (place_make(dir, config, why) < 0 || place_open(dir, power, why) < 0 ||
        lock_take(dir, why) < 0)
        return -1;
    dir->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)mark_read(dir->fd, SPOOL_MARK_NAME, &dir->former);
    const int r = mark_begin(dir, config, lease_ns);
    if (r < 0) {
        errno = -r;
        return why_errno(why, "mark the spool", dir->path);
    }
    /* Only now may anybody write into it: mark and lock are ours for good. */
    return access_set(dir, config, why);
}

static void swept_say(const struct log *log, const char *path, const struct spool_swept *swept)
{
    if (swept->removed > 0 || swept->left > 0)
        log_event(log, swept->left > 0 ? LOG_WARN : LOG_INFO, "spool_swept",
                  log_text("spool", path), log_number("removed", (int64_t)swept->removed),
                  log_number("left", (int64_t)swept->left));
}

/* Files count here by the marks that a former daemon wrote, and by the rules of today. */
static void sweep(struct spool_dir *dir, const struct config *config)
{
    CLEANUP(cleanup_free) struct spool_mark *owed = malloc(sizeof(*owed));
    struct spool_swept swept;

    if (!owed)
        return;
    dir->mark = (struct spool_mark){.owner = geteuid(), .nobody = config_overflow_uid()};
    writers_of_rules(&dir->mark, config);
    writers_merge(&dir->mark, &dir->former);
    if (mark_read(dir->fd, SPOOL_FORMER_NAME, owed))
        writers_merge(&dir->mark, owed);
    spool_sweep(dir->fd, &dir->mark, time_coarse_ns() + SWEEP_NS, &swept);
    swept_say(dir->log->log, dir->path, &swept);
}

/* A mark says whose spool this is: nothing is removed in another directory, and nothing under the
 * eyes of a daemon that runs. */
void spool_dir_sweep(const struct config *config, struct log_limit *log)
{
    CLEANUP(cleanup_free) struct spool_dir *dir = calloc(1, sizeof(*dir));
    struct why why;

    if (!dir)
        return;
    *dir = (struct spool_dir){.fd = -1, .lock_fd = -1, .spare_fd = -1, .log = log};
    if (spool_path_of(config->socket_path, dir->path, sizeof(dir->path)) &&
        place_open(dir, config->durability == DURABILITY_POWER, &why) == 0 &&
        mark_read(dir->fd, SPOOL_MARK_NAME, &dir->former) && dir->former.version == SPOOL_VERSION &&
        strcmp(dir->former.socket, spool_socket_name(config->socket_path)) == 0 &&
        lock_file_take(dir->fd, SPOOL_LOCK_NAME, &dir->lock_fd) == 0)
        sweep(dir, config);
    spool_dir_close(dir);
}

void spool_dir_close(struct spool_dir *dir)
{
    cleanup_fd(&dir->fd);
    cleanup_fd(&dir->lock_fd);
    cleanup_fd(&dir->spare_fd);
    dir->fd = dir->lock_fd = dir->spare_fd = -1;
}

void spool_dir_spare_restore(struct spool_dir *dir)
{
    if (dir->spare_fd < 0)
        dir->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

int spool_dir_open_file(struct spool_dir *dir, const char *name, int flags)
{
    spool_dir_spare_restore(dir);
    int fd = openat(dir->fd, name, flags);
    if (fd >= 0 || errno != EMFILE || dir->spare_fd < 0)
        return fd < 0 ? -errno : fd;
    close(take_fd(&dir->spare_fd));
    fd = openat(dir->fd, name, flags);
    return fd < 0 ? -errno : fd;
}

int spool_dir_open_stream(struct spool_dir *dir, DIR **out)
{
    const int fd = spool_dir_open_file(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    *out = fd < 0 ? NULL : fdopendir(fd);
    if (*out)
        return 0;
    if (fd < 0)
        return fd;
    const int r = -errno;
    close(fd);
    return r;
}
