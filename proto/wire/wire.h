/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The form of a description of a message, and the three operations that use it: packing, checking,
 * unpacking. Private to message.c, which has the descriptions.
 */
#ifndef ETAG_PROTO_WIRE_H
#define ETAG_PROTO_WIRE_H

#include "arena.h"
#include "frame.h"

#include <protobuf-c/protobuf-c.h>

enum wire_member_kind {
    /* etag_str; in a oneof: absent if data is NULL, else never absent when decoded */
    TEXT,
    /* uint32_t or an enum */
    NUMBER32,
    NUMBER64,
    FLAG,
    /* a struct by value */
    ONE,
    /* a struct by value, present if the bool at 'extent' is true */
    MAYBE,
    /* pointer to etag_str, their count (size_t) at 'extent' */
    TEXTS,
    /* pointer to structs, their count at 'extent' */
    EACH,
    /* a struct in the union of bodies, present if the kind at 'extent' is its number minus one */
    BODY,
};

struct wire_type;

/* A member of one of our structs, and the number of its field in etagd.proto. */
struct wire_member {
    uint32_t number;
    enum wire_member_kind kind;
    /* offsets */
    size_t at, extent;
    const struct wire_type *type;
    /* NUMBER32: returns whether the value is known */
    bool (*known)(uint32_t value);
    /* TEXTS, EACH: how often the field may occur in one message (others: once), and the field whose
     * count it shares */
    uint32_t max, counted_as;
};

struct wire_type {
    const ProtobufCMessageDescriptor *descriptor;
    size_t bytes;
    const struct wire_member *members;
    size_t member_count;
    /* Do what the table can't express; may be NULL. */
    void (*packed)(const void *ours, void *wire);
    const char *(*unpacked)(const void *wire, void *ours);
};

/* Packs a message and appends it as one frame. Errors as request_encode(). */
MUST_USE int wire_encode(struct buffer *out, const struct wire_type *type, const void *ours);

/* Checks the bytes, unpacks them into the arena, fills *ours (zeroed by the caller). Returns NULL,
 * or what is wrong. */
MUST_USE const char *wire_decode(struct arena *arena, const struct wire_type *type, etag_str bytes,
                                 void *ours);

/* Returns the number in field 1, also if the rest is malformed; 0: none. */
uint64_t wire_id(etag_str bytes);

/* Returns the number of the first field other than field 1; 0: none among the first two. */
uint32_t wire_body(etag_str bytes);

#endif
