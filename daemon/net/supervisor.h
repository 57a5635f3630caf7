/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service manager that started the daemon. Environment variables say what it offers: systemd's
 * notification socket (NOTIFY_SOCKET), its watchdog (WATCHDOG_USEC), and a listening socket that it
 * made (LISTEN_FDS). If none is set, as under a plain supervisor or in a container, every call here
 * does nothing.
 *
 * Loop thread only. No call waits: a manager that does not read loses messages.
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
    /* -1: no notification socket */
    int notify_fd;
    struct sockaddr_un address;
    socklen_t address_len;
    /* interval between pings of the watchdog; 0: the manager expects none */
    uint64_t watchdog_ns;
    /* when the watchdog was last pinged */
    uint64_t patted_ns;
    /* the manager's listening socket, which the caller may take; -1: the daemon makes its own */
    int listen_fd;
    /* the manager did not take a message, which was logged once */
    bool refused;
};

/* Reads the environment. Returns 0, or -1 with the reason and what to do in why; call
 * supervisor_deinit() after both. */
MUST_USE int supervisor_init(struct supervisor *supervisor, const struct log *log, struct why *why);
void supervisor_deinit(struct supervisor *supervisor);

/* Reports what the daemon is doing, for people (systemctl status). */
void supervisor_status(struct supervisor *supervisor, const char *status);

/* Reports that the daemon serves: call it once after the start, and after each
 * supervisor_reloading(). */
void supervisor_ready(struct supervisor *supervisor, const char *status);
/* Reports that the daemon reads its configuration again. supervisor_ready() has to follow, also
 * after a mistake in it. */
void supervisor_reloading(struct supervisor *supervisor);
void supervisor_stopping(struct supervisor *supervisor);

/* Pings the watchdog. Call it after each renewal of the lease and nowhere else. So the manager ends
 * a daemon that loops, hangs or cannot renew: such a daemon looks alive but answers nothing. */
void supervisor_renewed(struct supervisor *supervisor, uint64_t now_ns);

#endif
