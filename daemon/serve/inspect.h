/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of people: get, explain, list; status and clients (inspect_figures.c); log
 * (event_log.c). They read; nothing of what they do is on the three paths. */
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
