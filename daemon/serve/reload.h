/* SPDX-License-Identifier: Apache-2.0 */
/* SIGHUP: a serving daemon applies the changes of its configuration that need no restart. */
#ifndef ETAGD_RELOAD_H
#define ETAGD_RELOAD_H

struct server;

/* Reads the configuration again and applies it. Loop thread, between requests. A mistake is logged
 * and changes nothing; the log also names the options that changed, and those that wait for a
 * restart. */
void reload(struct server *server);

#endif
