/* SPDX-License-Identifier: Apache-2.0 */
/* Spool, state directory, configuration: the files on disks. */
#include "clocktime.h"
#include "ctl_doctor.h"
#include "numbers.h"
#include "spool_format.h"
#include "text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#define STATE_DIR_DEFAULT "/var/lib/etagd"
#define CONFIG_DEFAULT "/etc/etagd/etagd.yaml"
#define PATH_BYTES 4200
#define TMPFS 0x01021994
#define DISK_FREE_MIN (UINT64_C(64) << 20)
#define MIB (UINT64_C(1) << 20)

static const char *owner_of(const struct stat *status)
{
    const struct passwd *user = getpwuid(status->st_uid);

    return user ? user->pw_name : "an unknown user";
}

/* ---- Spool ---- */

/* Returns false after an error message. */
static bool mark_read(struct doctor *doctor, const char *dir, struct spool_mark *mark)
{
    char path[PATH_BYTES + sizeof("/" SPOOL_MARK_NAME)];
    CLEANUP(cleanup_free) char *text = malloc(SPOOL_MARK_BYTES_MAX);

    (void)snprintf(path, sizeof(path), "%s/" SPOOL_MARK_NAME, dir);
    CLEANUP(cleanup_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    const ssize_t len = fd >= 0 && text ? read(fd, text, SPOOL_MARK_BYTES_MAX) : -1;
    if (len < 0) {
        const bool denied = errno == EACCES;
        doctor_say(doctor, denied ? FINDING_UNSEEN : FINDING_FAIL, "spool mark",
                   denied ? NULL : "without it no writer uses the spool; a start writes it",
                   "%s: %s", path, strerrordesc_np(errno));
        return false;
    }
    if (spool_mark_parse((etag_str){text, (size_t)len}, mark) && mark->version == SPOOL_VERSION)
        return true;
    doctor_say(doctor, FINDING_FAIL, "spool mark",
               "no writer uses this spool: restart the daemon, which writes it again",
               "%s is no mark of this version", path);
    return false;
}

static void say_mark(struct doctor *doctor, const char *dir)
{
    CLEANUP(cleanup_free) struct spool_mark *mark = calloc(1, sizeof(*mark));

    if (!mark || !mark_read(doctor, dir, mark))
        return;
    /* 0: it is not sent to a peer without a role. */
    const uint64_t said = doctor->reachable ? doctor->daemon.channel.hello.spool_id : 0;
    const bool other = said != 0 && mark->id != said;
    doctor_say(doctor, other ? FINDING_FAIL : FINDING_OK, "spool mark",
               other ? "another daemon's directory is mounted here: share the daemon's own" : NULL,
               other ? "it is not that of the daemon that answers"
                     : "valid; writers without an answer wait %" PRIu64 " ms",
               mark->lease_ns / NS_PER_MS);
    const bool counts = spool_mark_counts(mark, geteuid());
    const bool mutates = doctor->reachable && doctor->daemon.channel.hello.roles & ROLE_MUTATE;
    if (mutates && !counts)
        doctor_say(doctor, FINDING_WARN, "spool uid",
                   "the daemon adds a user when it first connects: look again",
                   "files of uid %u do not count yet, though it may mutate", (unsigned)geteuid());
}

static void say_spool_files(struct doctor *doctor)
{
    uint64_t waiting, garbage, ignored;

    if (!doctor_number(doctor, "spool_waiting", &waiting))
        return;
    (void)doctor_number(doctor, "spool_garbage", &garbage);
    (void)doctor_number(doctor, "spool_ignored", &ignored);
    const bool bad = garbage > 0 || ignored > 0 || waiting > SPOOL_SLOTS / 2;
    doctor_say(doctor, bad ? FINDING_WARN : FINDING_OK, "spool files",
               bad ? "the daemon's log names files and owners (spool_file_is_garbage, "
                     "spool_file_ignored)"
                   : NULL,
               "%" PRIu64 " wait; %" PRIu64 " were garbage, %" PRIu64
               " of users that may not mutate",
               waiting, garbage, ignored);
}

/* A user that may connect may leave events. A daemon that is no member of the socket's group
 * opens the spool to all. */
static bool fits_socket(const char *socket_path, const struct stat *spool)
{
    struct stat there;
    const uint32_t mode = spool->st_mode & 07777;

    if (stat(socket_path, &there) < 0)
        return mode == SPOOL_DIR_MODE || mode == spool_dir_mode(0660);
    return mode == spool_dir_mode(there.st_mode) &&
           (there.st_gid == spool->st_gid || !(there.st_mode & S_IWGRP));
}

void doctor_spool(struct doctor *doctor)
{
    char dir[PATH_BYTES];
    struct stat status;
    struct statfs fs;
    const char *advice = NULL;

    if (!spool_path_of(doctor->daemon.channel.path, dir, sizeof(dir)))
        return;
    if (stat(dir, &status) < 0) {
        doctor_say(doctor, doctor->reachable ? FINDING_FAIL : FINDING_WARN, "spool",
                   "writers need it when the daemon does not answer; in a container mount the "
                   "socket's whole directory",
                   "%s: %s", dir, strerrordesc_np(errno));
        return;
    }
    const etag_str durability = doctor_text(doctor, "durability");
    const bool process = !str_equal(durability, ETAG_LIT("power"));
    const bool tmpfs = statfs(dir, &fs) == 0 && (uint32_t)fs.f_type == TMPFS;
    if (!S_ISDIR(status.st_mode) || !fits_socket(doctor->daemon.channel.path, &status))
        advice =
            "restart the daemon, which gives it the group of the socket and the mode that fits "
            "it (0660: 3730, 0666: 3733): who may connect writes there, and no other user";
    else if (process && durability.data && !tmpfs)
        advice = "put the socket on tmpfs (/run): a slow or full disk would stop writers there";
    doctor_say(doctor, advice ? FINDING_WARN : FINDING_OK, "spool", advice,
               "%s, mode %04o, of %s, %s", dir, status.st_mode & 07777, owner_of(&status),
               tmpfs ? "tmpfs" : "on a disk");
    say_mark(doctor, dir);
    say_spool_files(doctor);
}

/* ---- State directory ---- */

static void say_disk(struct doctor *doctor, const char *dir)
{
    struct statvfs disk;
    uint64_t used, map;

    if (statvfs(dir, &disk) < 0) {
        doctor_say(doctor, FINDING_UNSEEN, "disk", NULL, "%s: %s", dir, strerrordesc_np(errno));
        return;
    }
    const uint64_t free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    const bool remote = str_equal(doctor_text(doctor, "state_file_system"), ETAG_LIT("remote"));
    const bool has_map = doctor_number(doctor, "map_bytes", &map);
    (void)doctor_number(doctor, "store_bytes", &used);
    const bool read_only = disk.f_flag & ST_RDONLY;
    const bool little = free_bytes < DISK_FREE_MIN;
    const uint64_t may_grow = has_map && map > used ? map - used : 0;
    char growth[96] = "";
    if (has_map)
        (void)snprintf(growth, sizeof(growth), "; the database may grow by %" PRIu64 " MiB%s",
                       may_grow / MIB,
                       may_grow > free_bytes ? ", which is more than that (map-mib)" : "");
    doctor_say(doctor, read_only || little || remote ? FINDING_WARN : FINDING_OK, "disk",
               read_only ? "remount it writable: nothing is stored, and the next start is cold"
               : little ? "free some: when it is full fills are refused, and the next start is cold"
               : remote ? "use a local file system: on another one each start is cold"
                        : NULL,
               "%" PRIu64 " MiB free%s%s%s", free_bytes / MIB, read_only ? ", read-only" : "",
               remote ? ", not local" : "", growth);
}

static void say_store(struct doctor *doctor)
{
    uint64_t used, map, waiting;
    const etag_str store = doctor_text(doctor, "store");

    if (!store.data)
        return;
    (void)doctor_number(doctor, "store_bytes", &used);
    (void)doctor_number(doctor, "map_bytes", &map);
    (void)doctor_number(doctor, "store_waiting", &waiting);
    if (!str_equal(store, ETAG_LIT("ok"))) {
        doctor_say(doctor, FINDING_FAIL, "store",
                   "look at the disk and at its log (events_not_persisted, entries_not_persisted); "
                   "it heals by itself when it can write again",
                   "the last write failed: fills are refused, the next start may be cold");
        return;
    }
    const bool full = map > 0 && used * 10 > map * 9;
    doctor_say(doctor, full ? FINDING_WARN : FINDING_OK, "store",
               full ? "raise map-mib, if 'etagctl status' shows store_waiting grow: freed pages "
                      "are used again, so the file alone says little"
                    : NULL,
               "%" PRIu64 " of %" PRIu64 " MiB of the map used, %" PRIu64 " entries wait",
               used / MIB, map / MIB, waiting);
}

/* The findings about a daemon that is down. */
static void say_left_state(struct doctor *doctor, const char *dir)
{
    size_t damaged = 0;
    bool warm = false;
    CLEANUP(cleanup_dir) DIR *stream = opendir(dir);

    if (!stream) {
        doctor_say(doctor, FINDING_UNSEEN, "state", NULL, "what is in %s: %s", dir,
                   strerrordesc_np(errno));
        return;
    }
    for (const struct dirent *entry; (entry = readdir(stream));) {
        damaged += strncmp(entry->d_name, "damaged-", 8) == 0;
        warm |= strcmp(entry->d_name, "warm") == 0;
    }
    doctor_say(doctor, damaged > 0 ? FINDING_WARN : FINDING_OK, "state",
               damaged > 0 ? "keep them for a report, or remove them: they are not used" : NULL,
               "the next start %s be warm; %zu databases set aside as damaged",
               warm ? "can" : "cannot", damaged);
}

void doctor_store(struct doctor *doctor)
{
    char dir[PATH_BYTES];
    struct stat status;
    const etag_str said = doctor_text(doctor, "state_dir");

    if (said.data)
        (void)snprintf(dir, sizeof(dir), "%.*s", (int)said.len, said.data);
    else
        (void)snprintf(dir, sizeof(dir), "%s",
                       doctor->state_dir ? doctor->state_dir : STATE_DIR_DEFAULT);
    say_store(doctor);
    if (stat(dir, &status) < 0) {
        const bool missing = errno == ENOENT && !doctor->state_dir;
        doctor_say(doctor, doctor->has_status ? FINDING_FAIL : FINDING_UNSEEN, "state dir",
                   missing && !doctor->has_status ? "--state-dir says where it is" : NULL, "%s: %s",
                   dir, strerrordesc_np(errno));
        return;
    }
    const bool open_to_write = status.st_mode & (S_IWGRP | S_IWOTH);
    doctor_say(doctor, open_to_write ? FINDING_FAIL : FINDING_OK, "state dir",
               open_to_write ? "chmod 0700 it: whoever writes there decides what is answered"
                             : NULL,
               "%s, mode %04o, of %s", dir, status.st_mode & 07777, owner_of(&status));
    say_disk(doctor, dir);
    if (!doctor->has_status)
        say_left_state(doctor, dir);
}

/* ---- Configuration ---- */

/* Beside etagctl, where packages put it, or in a build. False: not found. */
static bool etagd_find(char out[PATH_BYTES])
{
    char self[4096];
    const ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (len < 0)
        return false;
    self[len] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = '\0';
    static const char *const places[] = {"etagd", "../sbin/etagd", "../daemon/etagd"};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        const int written = snprintf(out, PATH_BYTES, "%s/%s", self, places[i]);
        if (written > 0 && written < PATH_BYTES && access(out, X_OK) == 0)
            return true;
    }
    return false;
}

/* Its first line on standard error, which names file, line and column. The exit status; negative
 * errno. */
static int check_run(const char *program, const char *config, char *said, size_t said_bytes)
{
    char *const argv[] = {(char *)(uintptr_t)program, (char *)(uintptr_t) "--check-config",
                          (char *)(uintptr_t) "--config", (char *)(uintptr_t)config, NULL};
    posix_spawn_file_actions_t actions;
    int ends[2], status;
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    const int r = posix_spawn(&child, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    (void)close(ends[1]);
    size_t len = 0;
    for (ssize_t n;
         !r && len < said_bytes - 1 && (n = read(ends[0], said + len, said_bytes - 1 - len)) > 0;)
        len += (size_t)n;
    said[len] = '\0';
    said[strcspn(said, "\n")] = '\0';
    (void)close(ends[0]);
    if (r || waitpid(child, &status, 0) < 0)
        return r ? -r : -errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

void doctor_config(struct doctor *doctor)
{
    char program[PATH_BYTES];
    char said[256] = "";
    const char *path = doctor->config_path ? doctor->config_path : CONFIG_DEFAULT;

    if (access(path, R_OK) < 0) {
        if (errno == ENOENT && !doctor->config_path)
            doctor_say(doctor, FINDING_OK, "config", NULL,
                       "no " CONFIG_DEFAULT ": defaults and flags");
        else
            doctor_say(doctor, doctor->config_path ? FINDING_FAIL : FINDING_UNSEEN, "config", NULL,
                       "%s: %s", path, strerrordesc_np(errno));
        return;
    }
    if (!etagd_find(program)) {
        doctor_say(doctor, FINDING_UNSEEN, "config", NULL,
                   "%s: no etagd beside etagctl that could check it", path);
        return;
    }
    const int status = check_run(program, path, said, sizeof(said));
    if (status == 0)
        doctor_say(doctor, FINDING_OK, "config", NULL, "%s is valid", path);
    else
        doctor_say(doctor, status < 0 ? FINDING_UNSEEN : FINDING_FAIL, "config",
                   status < 0 ? NULL : "the next start would be refused: correct it", "%s",
                   status < 0 ? strerrordesc_np(-status) : said);
}
