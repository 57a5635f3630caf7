/* SPDX-License-Identifier: Apache-2.0 */
/* Lets exactly those users leave files in the spool who may connect to the socket. */
#ifndef ETAGD_SPOOL_ACCESS_H
#define ETAGD_SPOOL_ACCESS_H

#include "config.h"
#include "log.h"

/* Gives the directory the socket's group, and a mode that admits the users that the socket's mode
 * admits. If the daemon is no member of that group, it could not read files of its members; then it
 * opens the spool to all users, so that no event is lost, and logs that. Returns 0 or a negative
 * errno. */
MUST_USE int spool_access_set(int dir_fd, const struct config *config, const struct log *log);

#endif
