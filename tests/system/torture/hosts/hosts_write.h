/* SPDX-License-Identifier: Apache-2.0 */
/* A write of many hosts: what it changes and names, and what is due from when on. */
#ifndef TORTURE_HOSTS_WRITE_H
#define TORTURE_HOSTS_WRITE_H

#include "hosts_worker.h"

struct write {
    uint32_t key;
    uint64_t version;
    bool everywhere;
    etag_resource resource;
    etag_str surrogate;
    etag_targets targets;
    /* the same for SQL */
    char event[128], name[2 * NAME_BYTES];
    uint64_t position, committed_ns;
    /* NULL: none */
    etag_guard *guard;
};

/* A row, and a way to name it. */
void write_pick(struct worker *w, struct write *write);

/* Nobody but who holds the row's lock draws. */
void write_draw(struct worker *w, struct write *write);

/* It was committed just now. logged: with its event, so that the other hosts follow from now on. */
void write_committed(struct worker *w, struct write *write, bool logged);

/* Due from at_ns on: the other hosts have followed. took_ns: of the writer; 0: nothing to count. */
void write_due(struct worker *w, const struct write *write, uint64_t at_ns, etag_proof proof,
               uint64_t took_ns);
void write_due_everywhere(struct worker *w, const struct write *write, bool acknowledged);

/* Calls etag_invalidate(), or ends the guard, until it is answered OK. */
void write_announce(struct worker *w, struct write *write);

#endif
