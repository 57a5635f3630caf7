/* SPDX-License-Identifier: Apache-2.0 */
/* Roles of a process on one of many hosts, whose truth is in PostgreSQL. */
#ifndef TORTURE_HOSTS_WORKER_H
#define TORTURE_HOSTS_WORKER_H

#include "rows.h"
#include "worker.h"

#define HOSTS_COUNT(w, name)                                                                       \
    (void)atomic_fetch_add_explicit(&(w)->truth->hosts_counters.name, 1, memory_order_relaxed)

/* Writes with the event in the transaction, and etagd.wait(). */
void hosts_sql_step(struct worker *w);
/* Writes and calls etag_invalidate(), with the event's position or without, or under a guard. */
void hosts_library_step(struct worker *w);
/* Has psql write to a watched table, which names nothing; and Django. */
void hosts_psql_step(struct worker *w);
void hosts_django_step(struct worker *w);
/* Writes where the log is etcd, and says it once or twice. */
void hosts_etcd_step(struct worker *w);
/* Fills what its daemon does not answer. */
void hosts_filler_step(struct worker *w);
/* Checks. */
void hosts_reader_step(struct worker *w);

#endif
