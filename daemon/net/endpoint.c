/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lock, not the socket file, decides which daemon owns the socket: the file of a killed daemon
 * has to be replaced, that of a living daemon never.
 *
 * A service manager may have made the socket before us, and keeps it after us (socket activation).
 * Then clients can connect while no daemon runs, and wait in the backlog. That is safe for the
 * lease: no client gets an index before a daemon accepts it, and a writer without an answer leaves
 * its event in the spool, which the first renewal reads. We hold the lock beside the path in this
 * case too, and each renewal checks both lock and path: if the manager made a new socket there,
 * that is for another daemon, and this one exits.
 */
#include "endpoint.h"

#include "lock_file.h"
#include "owned.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#define LEASE_NAME "lease_ns="
#define LISTEN_BACKLOG 1024
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif
#define PROBES 40
#define PROBE_PAUSE_MS 25

/* The socket's directory, one level, as a service manager would make it. */
static int parent_make(struct endpoint *endpoint, struct why *why)
{
    const char *path = endpoint->path;
    char parent[PATH_BYTES_MAX] = ".";
    const char *slash = strrchr(path, '/');

    if (slash)
        snprintf(parent, sizeof(parent), "%.*s", slash == path ? 1 : (int)(slash - path), path);
    if (slash && slash != path && mkdir(parent, 0755) < 0 && errno != EEXIST)
        return why_set(why, "cannot make the socket's directory %s: %s; or give another --socket",
                       parent, strerrordesc_np(errno));
    const char *fault = owned_dir_fault(parent, &endpoint->shared);
    return fault ? why_set(why, "%s, the socket's directory, %s, or give another --socket", parent,
                           fault)
                 : 0;
}

static void recorded_lease_read(struct endpoint *endpoint)
{
    char text[64] = {0};
    const ssize_t n = pread(endpoint->lock_fd, text, sizeof(text) - 1, 0);

    if (n > 0 && strncmp(text, LEASE_NAME, strlen(LEASE_NAME)) == 0)
        endpoint->recorded_lease_ns = strtoull(text + strlen(LEASE_NAME), NULL, 10);
}

static int lock_take(struct endpoint *endpoint, struct why *why)
{
    snprintf(endpoint->lock_path, sizeof(endpoint->lock_path), "%s.lock", endpoint->path);
    const int r = lock_file_take(AT_FDCWD, endpoint->lock_path, &endpoint->lock_fd);
    if (r == -EAGAIN)
        return why_set(
            why, "%s: another etagd serves this socket; stop it, or give this one another --socket",
            endpoint->path);
    const char *fault = r == -EPERM ? lock_file_fault(AT_FDCWD, endpoint->lock_path) : NULL;
    if (fault)
        return why_set(why, "%s, the socket's lock, %s", endpoint->lock_path, fault);
    errno = -r;
    if (r < 0)
        return why_set(why, "cannot lock %s: %s; or give another --socket", endpoint->lock_path,
                       strerrordesc_np(errno));
    recorded_lease_read(endpoint);
    return 0;
}

/* The process that called listen() on a socket, by a descriptor of it or of a connected one. */
static bool listener_of(int fd, struct ucred *out)
{
    socklen_t len = sizeof(*out);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, out, &len) == 0;
}

/* A killed process's socket may go on listening for a moment, while the kernel takes its io_uring
 * apart: connecting alone does not tell the living from the dead. */
static bool listener_is_gone(int connected_fd)
{
    struct ucred cred;

    return listener_of(connected_fd, &cred) && cred.pid > 0 && kill(cred.pid, 0) < 0 &&
           errno == ESRCH;
}

static bool somebody_answers(const struct sockaddr_un *address)
{
    CLEANUP(cleanup_fd) int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    /* If even the probe fails for want of resources, no socket is removed. */
    if (probe < 0)
        return true;
    if (connect(probe, (const struct sockaddr *)address, sizeof(*address)) < 0)
        return errno != ECONNREFUSED && errno != ENOENT;
    return !listener_is_gone(probe);
}

/* A process that was killed and not yet reaped counts as there: it gets this long. */
static bool somebody_goes_on_answering(const struct sockaddr_un *address)
{
    const struct timespec pause = {.tv_nsec = PROBE_PAUSE_MS * 1000000};

    for (int i = 0; i < PROBES; i++) {
        if (!somebody_answers(address))
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

/* With the lock held: a socket file at the path is a dead daemon's, unless somebody answers on
 * it. */
static int stale_socket_remove(const struct endpoint *endpoint, const struct sockaddr_un *address,
                               struct why *why)
{
    struct stat st;

    if (lstat(endpoint->path, &st) < 0)
        return errno == ENOENT ? 0 : why_errno(why, "look at", endpoint->path);
    if (!S_ISSOCK(st.st_mode))
        return why_set(why, "%s: is there and is not a socket; remove it, or give another --socket",
                       endpoint->path);
    if (somebody_goes_on_answering(address))
        return why_set(why,
                       "%s: something else listens on this socket; stop it (a .socket unit of "
                       "systemd, perhaps), or give another --socket",
                       endpoint->path);
    if (unlink(endpoint->path) < 0 && errno != ENOENT)
        return why_errno(why, "remove the dead socket", endpoint->path);
    return 0;
}

/* Descriptors that peers send along would be closed here, which may sleep. Where the kernel can, it
 * refuses to send them: those who connect from now on inherit that. Older kernels don't know the
 * option, and strangers have a thread of their own (stranger.c). */
static void descriptors_refuse(int listen_fd)
{
    const int no = 0;

    (void)setsockopt(listen_fd, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof(no));
}

static int socket_bind(struct endpoint *endpoint, const struct sockaddr_un *address, uint32_t mode,
                       struct why *why)
{
    endpoint->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (endpoint->listen_fd < 0)
        return why_errno(why, "make a socket for", endpoint->path);
    if (bind(endpoint->listen_fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
        return why_errno(why, "bind to", endpoint->path);
    if (chmod(endpoint->path, mode) < 0)
        return why_errno(why, "set the mode of", endpoint->path);
    descriptors_refuse(endpoint->listen_fd);
    if (listen(endpoint->listen_fd, LISTEN_BACKLOG) < 0)
        return why_errno(why, "listen on", endpoint->path);
    return 0;
}

/* ---- A socket of the service manager's ---- */

static bool option_is(int fd, int option, int expected)
{
    int value;
    socklen_t len = sizeof(value);

    return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 && value == expected;
}

/* The socket at the path is the one that we were given, as far as can be seen: the kernel
 * shows no way from a descriptor to its file, but whoever connects there has to reach a listener of
 * the same process. */
static bool path_leads_to(int given_fd, const struct sockaddr_un *address)
{
    CLEANUP(cleanup_fd) int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct ucred ours, there;

    if (probe < 0)
        return false;
    if (connect(probe, (const struct sockaddr *)address, sizeof(*address)) < 0)
        return errno == EAGAIN; /* its backlog is full of clients */
    return listener_of(given_fd, &ours) && listener_of(probe, &there) && ours.pid == there.pid &&
           ours.uid == there.uid;
}

static int socket_adopt(struct endpoint *endpoint, const struct sockaddr_un *address,
                        struct why *why)
{
    const int fd = endpoint->listen_fd;
    struct sockaddr_un bound = {0};
    socklen_t len = sizeof(bound);

    if (!option_is(fd, SO_DOMAIN, AF_UNIX) || !option_is(fd, SO_TYPE, SOCK_STREAM) ||
        !option_is(fd, SO_ACCEPTCONN, 1))
        return why_set(why,
                       "%s: the service manager gave another kind of socket; give a listening Unix "
                       "stream socket (ListenStream=)",
                       endpoint->path);
    if (getsockname(fd, (struct sockaddr *)&bound, &len) < 0)
        return why_errno(why, "ask for the name of the socket given for", endpoint->path);
    if (strncmp(bound.sun_path, address->sun_path, sizeof(bound.sun_path)) != 0)
        return why_set(why,
                       "%s: the service manager's socket has another path; make ListenStream= of "
                       "the .socket unit and \"socket\" of etagd.yaml the same",
                       endpoint->path);
    if (!path_leads_to(fd, address))
        return why_set(why,
                       "%s: is not the service manager's socket any more; restart its .socket unit",
                       endpoint->path);
    const int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return why_errno(why, "prepare the socket given for", endpoint->path);
    descriptors_refuse(fd);
    endpoint->given = true;
    return 0;
}

static int socket_note(struct endpoint *endpoint, struct why *why)
{
    struct stat st;

    if (lstat(endpoint->path, &st) < 0)
        return why_errno(why, "look at", endpoint->path);
    endpoint->socket_inode = st.st_ino;
    endpoint->socket_device = st.st_dev;
    return 0;
}

static int socket_make(struct endpoint *endpoint, const struct sockaddr_un *address, uint32_t mode,
                       struct why *why)
{
    if (stale_socket_remove(endpoint, address, why) < 0)
        return -1;
    return socket_bind(endpoint, address, mode, why);
}

int endpoint_claim(struct endpoint *endpoint, const char *path, int given_fd, struct why *why)
{
    *endpoint = (struct endpoint){.listen_fd = given_fd, .lock_fd = -1};
    snprintf(endpoint->path, sizeof(endpoint->path), "%s", path);
    if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        endpoint_close(endpoint);
        return why_set(why, "%s: is too long for a socket; use at most 107 bytes", path);
    }
    if (parent_make(endpoint, why) < 0 || lock_take(endpoint, why) < 0) {
        endpoint_close(endpoint);
        return -1;
    }
    return 0;
}

int endpoint_open(struct endpoint *endpoint, uint32_t mode, struct why *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(address.sun_path, endpoint->path, strlen(endpoint->path));
    if ((endpoint->listen_fd >= 0 ? socket_adopt(endpoint, &address, why)
                                  : socket_make(endpoint, &address, mode, why)) < 0 ||
        socket_note(endpoint, why) < 0) {
        endpoint_close(endpoint);
        return -1;
    }
    return 0;
}

static bool socket_still_ours(const struct endpoint *endpoint)
{
    struct stat st;

    return lstat(endpoint->path, &st) == 0 && st.st_ino == endpoint->socket_inode &&
           st.st_dev == endpoint->socket_device;
}

bool endpoint_still_owned(const struct endpoint *endpoint)
{
    return lock_file_is_at(endpoint->lock_path, endpoint->lock_fd) && socket_still_ours(endpoint);
}

void endpoint_close(struct endpoint *endpoint)
{
    if (!endpoint->given && endpoint->socket_inode != 0 && socket_still_ours(endpoint))
        unlink(endpoint->path);
    cleanup_fd(&endpoint->listen_fd);
    cleanup_fd(&endpoint->lock_fd);
    endpoint->listen_fd = endpoint->lock_fd = -1;
    endpoint->socket_inode = 0;
}

int endpoint_record_lease(struct endpoint *endpoint, uint64_t lease_ns)
{
    char text[64];
    /* One fixed width: the write replaces the former text as a whole. */
    const int len = snprintf(text, sizeof(text), LEASE_NAME "%020" PRIu64 "\n", lease_ns);

    if (pwrite(endpoint->lock_fd, text, (size_t)len, 0) != len)
        return -EIO;
    return 0;
}
