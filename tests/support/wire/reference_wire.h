/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A second implementation of what proto/wire does, to compare with: protobuf-c by the schema
 * (etagd.proto), with the strictness that docs/protocol.md has, written down once more. It knows
 * nothing of the tables of message.c.
 */
#ifndef ETAG_TESTS_REFERENCE_WIRE_H
#define ETAG_TESTS_REFERENCE_WIRE_H

#include "message.h"

enum reference_message { REFERENCE_REQUEST, REFERENCE_REPLY };

/* Appends a random message of the schema, which a peer may send: packed, without a frame's header.
 * seed: goes on. */
void reference_random(struct buffer *out, enum reference_message which, uint64_t *seed);

/* Gives the bytes to both. Returns NULL if they agree: both refuse them, or both encode what they
 * decoded to the same bytes. Else what differs. *accepted: what both said. */
MUST_USE const char *reference_compare(enum reference_message which, etag_str bytes,
                                       bool *accepted);

#endif
