/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocols of sd_notify(3) and sd_listen_fds(3), which their manual pages describe as stable
 * and open to other implementations: a datagram of NAME=VALUE lines, and descriptors from number 3
 * on. libsystemd has them too, but would link half a dozen libraries into a daemon that also runs
 * without systemd.
 */
#include "supervisor.h"

#include "clocktime.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#define LISTEN_FDS_START 3
#define MESSAGE_BYTES 512
#define PATS_PER_WATCHDOG 4

/* A number of the environment. False: it is none. */
static bool number_of(const char *text, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *text != '-';
}

/* Variables are inherited; those of another process of the manager are not for us. */
static bool is_for_us(const char *name, bool needed)
{
    const char *text = getenv(name);
    uint64_t pid;

    if (!text)
        return !needed;
    return number_of(text, &pid) && pid == (uint64_t)getpid();
}

/* ---- What was given ---- */

static int listen_fd_take(struct supervisor *supervisor, struct why *why)
{
    const char *text = getenv("LISTEN_FDS");
    uint64_t count;

    if (!text || !is_for_us("LISTEN_PID", true))
        return 0;
    if (!number_of(text, &count) || count != 1)
        return why_set(why,
                       "LISTEN_FDS=%.200s in the environment is not what etagd takes: give it one "
                       "listening Unix socket (ListenStream= of its .socket unit)",
                       text);
    if (fcntl(LISTEN_FDS_START, F_SETFD, FD_CLOEXEC) < 0)
        return why_set(
            why, "LISTEN_FDS=%.200s in the environment names a descriptor that is not open", text);
    supervisor->listen_fd = LISTEN_FDS_START;
    return 0;
}

static int notify_open(struct supervisor *supervisor, struct why *why)
{
    const char *path = getenv("NOTIFY_SOCKET");
    const size_t len = path ? strlen(path) : 0;

    if (len == 0)
        return 0;
    if ((path[0] != '/' && path[0] != '@') || len >= sizeof(supervisor->address.sun_path))
        return why_set(why,
                       "NOTIFY_SOCKET=%.200s in the environment is neither a path nor an abstract "
                       "name of a Unix socket",
                       path);
    supervisor->address.sun_family = AF_UNIX;
    memcpy(supervisor->address.sun_path, path, len + 1);
    if (path[0] == '@')
        supervisor->address.sun_path[0] = '\0';
    /* An abstract name ends where the length says, a path at its NUL. */
    supervisor->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len +
                                          (path[0] == '/'));
    supervisor->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (supervisor->notify_fd < 0)
        return why_set(
            why, "NOTIFY_SOCKET=%.200s in the environment cannot be used: no socket could be made",
            path);
    return 0;
}

static void watchdog_read(struct supervisor *supervisor)
{
    const char *text = getenv("WATCHDOG_USEC");
    uint64_t us;

    if (text && is_for_us("WATCHDOG_PID", false) && number_of(text, &us) &&
        us <= UINT64_MAX / NS_PER_US)
        supervisor->watchdog_ns = us * NS_PER_US / PATS_PER_WATCHDOG;
}

int supervisor_init(struct supervisor *supervisor, const struct log *log, struct why *why)
{
    *supervisor = (struct supervisor){.log = log, .notify_fd = -1, .listen_fd = -1};
    if (listen_fd_take(supervisor, why) < 0 || notify_open(supervisor, why) < 0)
        return -1;
    watchdog_read(supervisor);
    return 0;
}

void supervisor_deinit(struct supervisor *supervisor)
{
    cleanup_fd(&supervisor->notify_fd);
    cleanup_fd(&supervisor->listen_fd);
    supervisor->notify_fd = supervisor->listen_fd = -1;
}

/* ---- What is said ---- */

static void say(struct supervisor *supervisor, const char *message)
{
    if (supervisor->notify_fd < 0)
        return;
    if (sendto(supervisor->notify_fd, message, strlen(message), MSG_NOSIGNAL,
               (const struct sockaddr *)&supervisor->address, supervisor->address_len) >= 0) {
        supervisor->refused = false;
        return;
    }
    if (!supervisor->refused)
        log_event(supervisor->log, LOG_WARN, "supervisor_not_told", log_error("error", errno),
                  log_text("effect", "the service manager may take this daemon for dead"));
    supervisor->refused = true;
}

void supervisor_status(struct supervisor *supervisor, const char *status)
{
    char message[MESSAGE_BYTES];

    (void)snprintf(message, sizeof(message), "STATUS=%s", status);
    say(supervisor, message);
}

void supervisor_ready(struct supervisor *supervisor, const char *status)
{
    char message[MESSAGE_BYTES];

    (void)snprintf(message, sizeof(message), "READY=1\nSTATUS=%s", status);
    say(supervisor, message);
}

void supervisor_reloading(struct supervisor *supervisor)
{
    char message[MESSAGE_BYTES];

    (void)snprintf(message, sizeof(message),
                   "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=reading the configuration",
                   time_ns_of(CLOCK_MONOTONIC) / NS_PER_US);
    say(supervisor, message);
}

void supervisor_stopping(struct supervisor *supervisor)
{
    say(supervisor, "STOPPING=1\nSTATUS=writing what is left");
}

void supervisor_renewed(struct supervisor *supervisor, uint64_t now_ns)
{
    if (supervisor->watchdog_ns == 0 ||
        (supervisor->patted_ns != 0 && now_ns - supervisor->patted_ns < supervisor->watchdog_ns))
        return;
    supervisor->patted_ns = now_ns;
    say(supervisor, "WATCHDOG=1");
}
