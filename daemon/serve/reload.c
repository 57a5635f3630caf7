/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Most code reads server->config at each use, so most changes are done when config_reload()
 * returns. The rest are copies that have to follow: the log's level, the socket's mode, the roles
 * of connected peers, the writers in the spool's mark.
 *
 * Roles. A peer whose roles changed is disconnected, and gets the new ones when it connects again;
 * the spool's mark changes before the next scan of the spool begins (spool_dir_set_writers). The
 * index cannot be taken back from a process that has mapped it: a process that lost the role to
 * read can still read it until the daemon restarts.
 */
#include "reload.h"

#include "server.h"
#include "spool_access.h"
#include "text.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

struct writers {
    uint32_t uids[SPOOL_WRITERS_MAX];
    size_t count;
    const struct server *server;
};

static void writer_keep(void *ctx, uint32_t uid)
{
    struct writers *writers = ctx;

    for (size_t i = 0; i < writers->count; i++)
        if (writers->uids[i] == uid)
            return;
    if (writers->count < SPOOL_WRITERS_MAX)
        writers->uids[writers->count++] = uid;
}

/* Those by group who are connected and stay writers; peers_reauthorize() has sent the others
 * away. */
static void spool_judge(struct server *server)
{
    CLEANUP(cleanup_free) struct writers *writers = calloc(1, sizeof(*writers));

    if (writers)
        peers_each_writer(&server->peers, writer_keep, writers);
    const int r = writers ? spool_dir_set_writers(&server->spool.dir, &server->config,
                                                  writers->uids, writers->count)
                          : -ENOMEM;
    if (r < 0)
        log_event(&server->log, LOG_ERROR, "spool_roles_not_changed", log_error("error", r),
                  log_text("effect", "who could leave events in the spool before still can"));
}

static void mode_set(struct server *server, uint32_t former)
{
    if (server->config.socket_mode == former)
        return;
    int r = chmod(server->config.socket_path, server->config.socket_mode) < 0 ? -errno : 0;
    /* The spool follows its socket. */
    if (r == 0)
        r = spool_access_set(server->spool.dir.fd, &server->config, &server->log);
    if (r == 0)
        return;
    log_event(&server->log, LOG_ERROR, "socket_mode_not_set", log_error("error", r));
    server->config.socket_mode = former; /* the next reload tries it again */
}

void reload(struct server *server)
{
    const uint32_t former_mode = server->config.socket_mode;
    struct config_changes changes;
    struct why why;
    size_t closed = 0;

    if (config_reload(&server->config, &changes, &why) < 0) {
        log_event(&server->log, LOG_ERROR, "reload_refused", log_text("reason", why.text),
                  log_text("effect", "nothing was changed"));
        return;
    }
    log_set(&server->log, server->config.log_level, server->config.log_format);
    mode_set(server, former_mode);
    if (strstr(changes.taken, "roles")) {
        closed = peers_reauthorize(&server->peers);
        spool_judge(server);
    }
    log_event(&server->log, LOG_INFO, "reloaded", log_text("changed", changes.taken),
              log_text("waits_for_restart", changes.waiting), log_number("peers_closed", closed));
}
