/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of people (etagctl): get, explain, list; status and clients (inspect_figures.c); log
 * (event_log.c). They change nothing, and lookup, fill and invalidation do not use them. */
#ifndef ETAGD_INSPECT_H
#define ETAGD_INSPECT_H

#include "peer.h"
#include "record.h"

void inspect_get(struct server *server, struct peer *peer, const struct request *request);
void inspect_explain(struct server *server, struct peer *peer, const struct request *request);
void inspect_list(struct server *server, struct peer *peer, const struct request *request);
void inspect_status(struct server *server, struct peer *peer, const struct request *request);
void inspect_clients(struct server *server, struct peer *peer, const struct request *request);
void inspect_log(struct server *server, struct peer *peer, const struct request *request);

#endif
