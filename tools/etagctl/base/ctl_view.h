/* SPDX-License-Identifier: Apache-2.0 */
/* Entries, targets and events of the daemon as documents. */
#ifndef ETAGCTL_VIEW_H
#define ETAGCTL_VIEW_H

#include "ctl_output.h"
#include "message.h"

/* Adds what is known of an entry: "key" to "persisted". */
void doc_entry(doc *object, const struct entry_view *view);

/* "lsn", "time", "pid", "uid" and "targets"; "relay" where it brought the event. */
doc *doc_event(const struct event_view *event);

/* Where the relay had the event from: "postgres, position 748, by front2" or "postgres, 3 events at
 * positions 748 to 760, by front2, shop@10.0.0.7 (psql)". */
#define ORIGIN_TEXT_BYTES (160 + RELAY_WRITERS_BYTES_MAX)
const char *origin_text(const struct relay_origin *origin, char out[ORIGIN_TEXT_BYTES]);

/* One target after the other: "surrogate upload:42". */
typedef void target_visit(void *context, const char *kind, etag_str name);
void targets_each(const etag_targets *targets, target_visit *visit, void *context);

/* "everything", "resource", "prefix", "surrogate" */
const char *target_word(enum target_kind kind);

/* "1099511627778 (run 1, number 2)" */
#define LSN_TEXT_BYTES 64
const char *lsn_text(uint64_t lsn, char out[LSN_TEXT_BYTES]);

#endif
