/* SPDX-License-Identifier: Apache-2.0 */
/* A key from the command line: [//host]/path[?query], --scope, --release, --scheme, --vary. And
 * back into words. */
#ifndef ETAGCTL_KEY_H
#define ETAGCTL_KEY_H

#include "bounds.h"
#include "ctl.h"
#include "ctl_output.h"

struct ctl_key {
    etag_key key;
    etag_field vary[VARY_COUNT_MAX];
};

void ctl_key_init(struct ctl_key *key);

/* A ctl_take: --scope, --release, --scheme, --vary, into a struct ctl_key. */
MUST_USE bool ctl_key_option(struct ctl *ctl, void *into, int option, const char *value);

/* Takes the only argument, KEY, and checks the whole. Returns false after an error message.
 * Everything borrowed. */
MUST_USE bool ctl_key_argument(struct ctl *ctl, struct ctl_key *key);

/* A header line "Name: value", white space around both dropped. False: there is no colon. */
MUST_USE bool ctl_split_field(const char *text, etag_field *out);

/* "//host/path?query" of the resource as it is. The caller frees it. */
char *key_text(const etag_resource *resource);

/* Adds "key", "scope", "release", "scheme" and "vary". */
void doc_key(doc *object, const etag_key *key);

#endif
