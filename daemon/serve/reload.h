/* SPDX-License-Identifier: Apache-2.0 */
/* SIGHUP: a daemon that serves takes what may change of its configuration. */
#ifndef ETAGD_RELOAD_H
#define ETAGD_RELOAD_H

struct server;

/* Reads the configuration again and does what follows from it; loop thread, between requests. A
 * mistake in it changes nothing and is logged; so is what was changed, and what waits for a
 * restart. */
void reload(struct server *server);

#endif
