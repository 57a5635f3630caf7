/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics tell what a host does, so that they are for this host unless somebody says otherwise: not
 * by a slip of the address, but by a flag of its own.
 */
#include "exporter_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define BACKLOG 16
#define UNIX_PREFIX "unix:"
#define SOCKET_MODE 0660

/* ---- A Unix socket ---- */

/* A name without a listener is left over. Anything else stays. */
static bool name_is_left_over(const struct sockaddr_un *address)
{
    struct stat found;

    if (lstat(address->sun_path, &found) < 0 || !S_ISSOCK(found.st_mode))
        return false;
    CLEANUP(cleanup_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
           errno == ECONNREFUSED;
}

static bool unix_open(struct listener *listener, const char *path, struct why *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (path[0] == '\0' || strlen(path) >= sizeof(address.sun_path))
        return why_not(why, "the path of a Unix socket has 1 to %zu bytes",
                       sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    CLEANUP(cleanup_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return why_not(why, "no socket: %s", strerror(errno));
    if (name_is_left_over(&address))
        (void)unlink(path);
    /* Between bind and chmod no other user may connect: the mode of what is made comes from the
     * umask. */
    const mode_t former = umask(0777 & ~SOCKET_MODE);
    const int bound = bind(fd, (const struct sockaddr *)&address, sizeof(address));
    umask(former);
    if (bound < 0)
        return why_not(why, "%s: %s%s", path, strerror(errno),
                       errno == EADDRINUSE ? ": does another one listen there?" : "");
    if (listen(fd, BACKLOG) < 0)
        return why_not(why, "%s: %s", path, strerror(errno));
    listener->fd = take_fd(&fd);
    memcpy(listener->path, path, strlen(path) + 1);
    snprintf(listener->text, sizeof(listener->text), UNIX_PREFIX "%s", path);
    return true;
}

/* ---- An address ---- */

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >> 24 ==
               127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

/* "[::1]:9437" and "127.0.0.1:9437" in two pieces. */
static bool where_split(const char *where, char host[64], char port[8])
{
    const char *const colon = strrchr(where, ':');
    size_t len = colon ? (size_t)(colon - where) : 0;

    if (!colon || strlen(colon + 1) == 0 || strlen(colon + 1) > 5 ||
        colon[1 + strspn(colon + 1, "0123456789")] != '\0' ||
        strtol(colon + 1, NULL, 10) > UINT16_MAX)
        return false;
    if (len > 2 && where[0] == '[' && where[len - 1] == ']') {
        where++;
        len -= 2;
    }
    if (len == 0 || len > 63)
        return false;
    memcpy(host, where, len);
    host[len] = '\0';
    memcpy(port, colon + 1, strlen(colon + 1) + 1);
    return true;
}

static void text_of(struct listener *listener, const char *host, int family)
{
    struct sockaddr_storage bound = {0};
    socklen_t len = sizeof(bound);
    char port[8] = "?";

    (void)getsockname(listener->fd, (struct sockaddr *)&bound, &len);
    (void)getnameinfo((const struct sockaddr *)&bound, len, NULL, 0, port, sizeof(port),
                      NI_NUMERICSERV);
    snprintf(listener->text, sizeof(listener->text), family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
             port);
}

static bool address_open(struct listener *listener, const char *where, bool allow_remote,
                         struct why *why)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *found = NULL;
    char host[64], port[8];
    const int one = 1;

    if (!where_split(where, host, port) || getaddrinfo(host, port, &hints, &found) != 0)
        return why_not(
            why, "\"%s\" is no address with a port: 127.0.0.1:9437, [::1]:9437, unix:/run/x.sock",
            where);
    const int family = found->ai_family;
    const bool refused = !allow_remote && !is_loopback(found->ai_addr);
    CLEANUP(cleanup_fd) int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int r = fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ? -1 : 0;
    if (r == 0 && !refused)
        r = bind(fd, found->ai_addr, found->ai_addrlen);
    const int error = errno;
    freeaddrinfo(found);
    if (refused)
        return why_not(
            why,
            "%s is not an address of this host alone. Anybody who reaches it would read the "
            "figures: say --allow-remote if that is meant",
            host);
    if (r < 0 || listen(fd, BACKLOG) < 0)
        return why_not(why, "%s: %s", where, strerror(r < 0 ? error : errno));
    listener->fd = take_fd(&fd);
    text_of(listener, host, family);
    return true;
}

bool listener_open(struct listener *listener, const char *where, bool allow_remote, struct why *why)
{
    *listener = (struct listener){.fd = -1};
    if (strncmp(where, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0)
        return unix_open(listener, where + strlen(UNIX_PREFIX), why);
    return address_open(listener, where, allow_remote, why);
}

void listener_remove(const struct listener *listener)
{
    if (listener->path[0])
        (void)unlink(listener->path);
}
