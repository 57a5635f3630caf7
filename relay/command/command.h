/* SPDX-License-Identifier: Apache-2.0 */
/* etag-relay setup, status, doctor, leave: what operators do by hand. */
#ifndef ETAG_RELAY_COMMAND_H
#define ETAG_RELAY_COMMAND_H

#include "options.h"

/* argv[0] is the command. Says what it does on standard output and what goes wrong on standard
 * error. Returns the exit status. */
int relay_command(const struct options *options, int argc, char **argv);

#endif
