/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whoever started the daemon, and what was agreed through the environment: systemd's notification
 * socket (NOTIFY_SOCKET), its watchdog (WATCHDOG_USEC) and a listening socket of its own making
 * (LISTEN_FDS). Nothing of it set, as under a plain supervisor or in a container: every call here
 * does nothing.
 *
 * For one thread, the loop's. No call waits: a manager that does not read loses what was said.
 */
#ifndef ETAGD_SUPERVISOR_H
#define ETAGD_SUPERVISOR_H

#include "cleanup.h"
#include "log.h"
#include "why.h"

#include <sys/un.h>

struct supervisor {
    /* borrowed */
    const struct log *log;
    /* -1: nobody listens */
    int notify_fd;
    struct sockaddr_un address;
    socklen_t address_len;
    /* between two pats; 0: none are awaited */
    uint64_t watchdog_ns;
    /* the last one */
    uint64_t patted_ns;
    /* -1: the daemon makes its own socket. The caller may take it */
    int listen_fd;
    /* the manager did not take a message: said once */
    bool refused;
};

/* Reads the environment. 0, or -1 with the reason and what to do in why. supervisor_deinit() is
 * right after both. */
MUST_USE int supervisor_init(struct supervisor *supervisor, const struct log *log, struct why *why);
void supervisor_deinit(struct supervisor *supervisor);

/* What the daemon is doing, for people (systemctl status). */
void supervisor_status(struct supervisor *supervisor, const char *status);

/* It serves: once after the start, and once after each supervisor_reloading(). */
void supervisor_ready(struct supervisor *supervisor, const char *status);
/* It reads its configuration anew. supervisor_ready() has to follow, whatever came of it. */
void supervisor_reloading(struct supervisor *supervisor);
void supervisor_stopping(struct supervisor *supervisor);

/* The watchdog's only food: to be called after each renewal of the lease and nowhere else. So the
 * manager ends a daemon that runs in circles, waits for something, or cannot renew: all of them
 * look alive, and answer nothing. */
void supervisor_renewed(struct supervisor *supervisor, uint64_t now_ns);

#endif
