/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library to preload: calls that change files fail, or do not come back, as the file
 * $FAULT_CONTROL says. A rule a line:
 *
 *   CALLS PATH FAULT [after N] [times M]
 *
 * CALLS: names by commas (write covers pwrite, writev and pwritev; sync covers fsync and fdatasync;
 * heard is sync_file_range; rename covers renameat and renameat2, which is noreplace where it may
 * not replace; also ftruncate, unlink, open: one that writes or makes). PATH: part of the path that
 * must be in it, or the end of one that ends with $. FAULT: a name of errno (below) or "hang":
 * until the rule is gone. N: so many calls of the rule succeed first, counted since the control
 * file was changed. M: so many after them fail.
 *
 * Besides these lines, "slept MS": the machine was suspended for so long since it started
 * (CLOCK_BOOTTIME goes on).
 *
 * The control file is read at each call, so that tests can change it while the daemon runs.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CONTROL_BYTES 1024
#define RULES_MAX 8

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char former[CONTROL_BYTES];
static unsigned long passed[RULES_MAX];

static void control_read(char out[CONTROL_BYTES])
{
    const char *path = getenv("FAULT_CONTROL");
    const int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    const ssize_t n = fd < 0 ? 0 : read(fd, out, CONTROL_BYTES - 1);

    out[n > 0 ? n : 0] = '\0';
    if (fd >= 0)
        close(fd);
}

static bool path_fits(const char *path, const char *part)
{
    const size_t len = strlen(part);
    const size_t path_len = strlen(path);

    if (len > 0 && part[len - 1] == '$')
        return path_len >= len - 1 && strncmp(path + path_len - (len - 1), part, len - 1) == 0;
    return strstr(path, part) != NULL;
}

static bool call_fits(const char *call, char *calls)
{
    char *rest = NULL;

    for (char *at = strtok_r(calls, ",", &rest); at; at = strtok_r(NULL, ",", &rest))
        if (strcmp(at, call) == 0)
            return true;
    return false;
}

static int error_of(const char *fault)
{
    static const struct {
        const char *name;
        int number;
    } known[] = {
        {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EIO", EIO}, {"EROFS", EROFS}, {"EINVAL", EINVAL}};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(fault, known[i].name) == 0)
            return known[i].number;
    return -1; /* hang */
}

/* 0: go on; an errno; -1: hang. */
static int fault_of(const char *call, const char *path)
{
    char text[CONTROL_BYTES];
    char *rest = NULL;
    size_t number = 0;
    int fault = 0;

    control_read(text);
    pthread_mutex_lock(&lock);
    if (strcmp(text, former) != 0) {
        memcpy(former, text, sizeof(former));
        memset(passed, 0, sizeof(passed));
    }
    for (char *line = strtok_r(text, "\n", &rest); line && number < RULES_MAX && fault == 0;
         line = strtok_r(NULL, "\n", &rest), number++) {
        char calls[64];
        char part[256];
        char name[16];
        unsigned long after = 0;
        unsigned long times = ULONG_MAX;
        const int fields = sscanf(line, "%63s %255s %15s after %lu times %lu", calls, part, name,
                                  &after, &times);
        if (fields == 3)
            (void)sscanf(line, "%*s %*s %*s times %lu", &times);
        if (fields < 3 || !call_fits(call, calls) || !path_fits(path, part))
            continue;
        const unsigned long before = passed[number]++;
        if (before >= after && before - after < times)
            fault = error_of(name);
    }
    pthread_mutex_unlock(&lock);
    return fault;
}

/* True: the call fails, and errno is set. */
static bool fails(const char *call, const char *path)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    int fault;

    while ((fault = fault_of(call, path)) < 0)
        nanosleep(&pause, NULL);
    errno = fault ? fault : errno;
    return fault != 0;
}

static bool fd_fails(const char *call, int fd)
{
    char link[64];
    char path[512];

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, path, sizeof(path) - 1);
    if (n <= 0 || path[0] != '/')
        return false; /* a socket, a pipe: nothing on a disk */
    path[n] = '\0';
    return fails(call, path);
}

static bool name_fails(const char *call, int dir_fd, const char *name)
{
    char link[64];
    char path[1024];
    ssize_t n = 0;

    if (name[0] != '/') {
        (void)snprintf(link, sizeof(link),
                       dir_fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir_fd);
        n = readlink(link, path, 512);
    }
    (void)snprintf(path + (n > 0 ? n : 0), 512, "/%s", name);
    return fails(call, path);
}

/* ---- The calls. libc's own is behind the name. ---- */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define FD_CALL(type, call, name, parameters, ...)                                                 \
    __attribute__((visibility("default"))) type name parameters;                                   \
    __attribute__((visibility("default"))) type name parameters                                    \
    {                                                                                              \
        return fd_fails(call, fd) ? -1 : REAL(name)(__VA_ARGS__);                                  \
    }

FD_CALL(ssize_t, "write", write, (int fd, const void *bytes, size_t len), fd, bytes, len)
FD_CALL(ssize_t, "write", pwrite, (int fd, const void *bytes, size_t len, off_t at), fd, bytes, len,
        at)
FD_CALL(ssize_t, "write", pwrite64, (int fd, const void *bytes, size_t len, off64_t at), fd, bytes,
        len, at)
FD_CALL(ssize_t, "write", writev, (int fd, const struct iovec *parts, int count), fd, parts, count)
FD_CALL(ssize_t, "write", pwritev, (int fd, const struct iovec *parts, int count, off_t at), fd,
        parts, count, at)
FD_CALL(ssize_t, "write", pwritev64, (int fd, const struct iovec *parts, int count, off64_t at), fd,
        parts, count, at)
FD_CALL(int, "sync", fsync, (int fd), fd)
FD_CALL(int, "sync", fdatasync, (int fd), fd)
FD_CALL(int, "heard", sync_file_range, (int fd, off64_t at, off64_t length, unsigned flags), fd, at,
        length, flags)
FD_CALL(int, "ftruncate", ftruncate, (int fd, off_t length), fd, length)
FD_CALL(int, "ftruncate", ftruncate64, (int fd, off64_t length), fd, length)

__attribute__((visibility("default"))) int unlink(const char *name)
{
    return name_fails("unlink", AT_FDCWD, name) ? -1 : REAL(unlink)(name);
}

__attribute__((visibility("default"))) int unlinkat(int dir_fd, const char *name, int flags)
{
    return name_fails("unlink", dir_fd, name) ? -1 : REAL(unlinkat)(dir_fd, name, flags);
}

__attribute__((visibility("default"))) int renameat2(int dir_fd, const char *name, int to_fd,
                                                     const char *to, unsigned flags)
{
    const char *call = flags & RENAME_NOREPLACE ? "noreplace" : "rename";

    return name_fails(call, dir_fd, name) ? -1 : REAL(renameat2)(dir_fd, name, to_fd, to, flags);
}

__attribute__((visibility("default"))) int renameat(int dir_fd, const char *name, int to_fd,
                                                    const char *to)
{
    return name_fails("rename", dir_fd, name) ? -1 : REAL(renameat)(dir_fd, name, to_fd, to);
}

static bool open_fails(int dir_fd, const char *name, int flags)
{
    return (flags & (O_CREAT | O_WRONLY | O_RDWR)) && name_fails("open", dir_fd, name);
}

#define OPEN_CALL(call, dir_fd, parameters, ...)                                                   \
    __attribute__((visibility("default"))) int call parameters                                     \
    {                                                                                              \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;              \
        va_end(more);                                                                              \
        return open_fails(dir_fd, name, flags) ? -1 : REAL(call)(__VA_ARGS__, mode);               \
    }

OPEN_CALL(open, AT_FDCWD, (const char *name, int flags, ...), name, flags)
OPEN_CALL(open64, AT_FDCWD, (const char *name, int flags, ...), name, flags)
OPEN_CALL(openat, dir_fd, (int dir_fd, const char *name, int flags, ...), dir_fd, name, flags)
OPEN_CALL(openat64, dir_fd, (int dir_fd, const char *name, int flags, ...), dir_fd, name, flags)

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *out)
{
    char text[CONTROL_BYTES];
    unsigned long slept_ms = 0;
    const int r = REAL(clock_gettime)(clock, out);

    if (r != 0 || clock != CLOCK_BOOTTIME)
        return r;
    control_read(text);
    const char *line = strstr(text, "slept ");
    if (line)
        slept_ms = strtoul(line + strlen("slept "), NULL, 10);
    out->tv_sec += (time_t)(slept_ms / 1000);
    return 0;
}
