/* SPDX-License-Identifier: Apache-2.0 */
/* Who may leave files in the spool: those who may connect to the socket, and nobody else. */
#ifndef ETAGD_SPOOL_ACCESS_H
#define ETAGD_SPOOL_ACCESS_H

#include "config.h"
#include "log.h"

/* Gives the directory the socket's group and a mode that lets in whom the socket's mode lets in.
 * Where the daemon is no member of that group, and so could not read what its members leave, the
 * spool is open to everybody, which is logged: no event is lost for it. 0 or a negative errno. */
MUST_USE int spool_access_set(int dir_fd, const struct config *config, const struct log *log);

#endif
