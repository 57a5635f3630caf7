/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages as protobuf's bytes, by tables. A table says of each field of a message of etagd.proto
 * where it is in our struct; encoding and decoding read the table. Private to message.c, which has
 * the tables.
 */
#ifndef ETAG_PROTO_WIRE_H
#define ETAG_PROTO_WIRE_H

#include "arena.h"
#include "frame.h"

#include <stdint.h>

enum wire_member_kind {
    /* there is no field of this number */
    NO_FIELD = 0,
    /* etag_str; never absent when decoded, unless its presence is UNLESS_NONE */
    TEXT,
    /* uint32_t, int or an enum */
    NUMBER32,
    /* uint64_t; the first as a varint, the second as eight bytes */
    NUMBER64,
    FIXED64,
    /* int64_t, as a zigzag varint */
    SIGNED64,
    FLAG,
    /* a struct by value */
    ONE,
    /* a struct in the union of bodies: see struct wire_type */
    BODY,
    /* pointer to etag_str, their count (size_t) at 'extent' */
    TEXTS,
    /* pointer to structs, their count at 'extent' */
    EACH,
};

/* When a field is in a message. */
enum wire_presence {
    /* unless it is 0, false or empty, as proto3 has it; ONE: always, and a message without it is
     * refused */
    BY_VALUE = 0,
    /* unless the member has the value 'none'; TEXT: unless it is absent */
    UNLESS_NONE,
    /* if the bool at 'extent' is true, or is false; decoding sets it */
    IF_TRUE,
    IF_FALSE,
    /* if the enum at 'extent' is 'chosen'; decoding sets it */
    IF_CHOSEN,
};

struct wire_type;

/* A member of one of our structs. Its position in the table is the number of its field. */
struct wire_member {
    enum wire_member_kind kind;
    /* offsets */
    size_t at, extent;
    const struct wire_type *type;
    enum wire_presence presence;
    uint32_t chosen;
    uint64_t none;
    /* NUMBER32: returns whether the value is known; 0 is asked for where the field is left out */
    bool (*known)(uint32_t value);
    /* TEXTS, EACH: how often the field may be in one message */
    uint32_t max;
    /* ... all of the message's that share their max, together */
    bool shares_max;
    /* one of several fields, of which a message may have one */
    bool alternative;
};

struct wire_type {
    /* of our struct */
    size_t bytes;
    const struct wire_member *members;
    /* numbers of fields are below this */
    size_t member_count;
    /* Fields from this number on are bodies, of which a message has one or none: that of the number
     * that the enum at 'kind_at' has, plus one. */
    size_t body_begin, kind_at;
    /* Called after the members were decoded; may be NULL. Sets what is no field, checks what one
     * member alone can't say. Returns NULL, or what is wrong. */
    const char *(*decoded)(void *ours);
};

/* Appends a message as one frame. Errors as request_encode(). */
MUST_USE int wire_encode(struct buffer *out, const struct wire_type *type, const void *ours);

/* Decodes the bytes into *ours, which the caller has zeroed, and the arena. Returns NULL, or what
 * is wrong; *ours is of no use then. */
MUST_USE const char *wire_decode(struct arena *arena, const struct wire_type *type, etag_str bytes,
                                 void *ours);

/* Returns the number in field 1, also if the rest is malformed; 0: none. */
uint64_t wire_id(etag_str bytes);

/* Returns the number of the first field other than field 1; 0: none among the first two. */
uint32_t wire_body(etag_str bytes);

#endif
