/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packs, checks and unpacks messages by their descriptions (wire.h) and by protobuf-c's descriptors
 * of the same messages, which say where a field is in the generated struct.
 *
 * A peer's bytes are checked in three steps. A walk over the raw bytes checks lengths, wire types,
 * depth and how often each field occurs. Then protobuf-c unpacks into the arena, which bounds the
 * memory of whatever the walk let through. Then values are checked while they are copied into our
 * structs. Fields that this version does not know are skipped, so that a newer peer is understood
 * as far as possible.
 */
#include "wire.h"

#include "bytes.h"
#include "text.h"

#include <assert.h>
#include <errno.h>

#define PACK_BYTES_MAX (64u * FRAME_BYTES_MAX) /* what needs more is no frame */
#define FIELD_NUMBER_MAX 15                    /* of etagd.proto: every tag is one byte */

/* ---- The walk over raw bytes ---- */

enum wire_kind { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct wire_field {
    uint32_t number;
    enum wire_kind kind;
    /* WIRE_VARINT */
    uint64_t value;
    /* WIRE_BYTES */
    etag_str bytes;
};

static bool varint_next(etag_str *rest, uint64_t *out)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64 && rest->len > 0; shift += 7) {
        const uint8_t byte = (uint8_t)rest->data[0];
        *rest = str_skip(*rest, 1);
        if (shift == 63 && byte > 1)
            return false;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

/* The next field: 1, 0 at the end, -1 where the bytes are no protobuf. */
static int wire_field_next(etag_str *rest, struct wire_field *out)
{
    uint64_t tag;
    uint64_t skip = 0;

    if (rest->len == 0)
        return 0;
    if (!varint_next(rest, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
        return -1;
    *out = (struct wire_field){.number = (uint32_t)(tag >> 3), .kind = (enum wire_kind)(tag & 7)};
    switch (out->kind) {
    case WIRE_VARINT:
        return varint_next(rest, &out->value) ? 1 : -1;
    case WIRE_FIXED64:
        skip = 8;
        break;
    case WIRE_FIXED32:
        skip = 4;
        break;
    case WIRE_BYTES:
        if (!varint_next(rest, &skip))
            return -1;
        break;
    default:
        return -1;
    }
    if (skip > rest->len)
        return -1;
    out->bytes = (etag_str){rest->data, skip};
    *rest = str_skip(*rest, skip);
    return 1;
}

static enum wire_kind wire_kind_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_BYTES;
    case PROTOBUF_C_TYPE_FIXED64:
        return WIRE_FIXED64;
    default:
        return WIRE_VARINT;
    }
}

static const struct wire_member *member_of(const struct wire_type *type, uint32_t number)
{
    for (size_t i = 0; i < type->member_count; i++)
        if (type->members[i].number == number)
            return &type->members[i];
    return NULL;
}

/* Counts a field; false: once too often. The members of a oneof count together, under 0. */
static bool count_field(uint32_t counts[FIELD_NUMBER_MAX + 1],
                        const ProtobufCFieldDescriptor *field, const struct wire_member *member)
{
    uint32_t counted_as = member && member->counted_as ? member->counted_as : field->id;

    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        counted_as = 0;
    assert(counted_as <= FIELD_NUMBER_MAX);
    return ++counts[counted_as] <= (member && member->max ? member->max : 1);
}

static const char *walk(const struct wire_type *type, etag_str rest, unsigned depth)
{
    uint32_t counts[FIELD_NUMBER_MAX + 1] = {0};
    struct wire_field found;
    int more;

    if (depth > WIRE_DEPTH_MAX)
        return "the message is nested too deeply";
    while ((more = wire_field_next(&rest, &found)) > 0) {
        const ProtobufCFieldDescriptor *const field = protobuf_c_message_descriptor_get_field(
            type->descriptor, found.number);
        const struct wire_member *const member = member_of(type, found.number);
        if (!field)
            continue;
        if (found.kind != wire_kind_of(field->type))
            return "a field of the message has the wrong type";
        if (field->type == PROTOBUF_C_TYPE_UINT32 && found.value > UINT32_MAX)
            return "a number of the message is out of range";
        if (!count_field(counts, field, member))
            return "the message repeats a field more often than it may";
        if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
            const char *const wrong = walk(member->type, found.bytes, depth + 1);
            if (wrong)
                return wrong;
        }
    }
    return more < 0 ? "the message is not valid protobuf" : NULL;
}

uint64_t wire_id(etag_str rest)
{
    struct wire_field found;

    while (wire_field_next(&rest, &found) > 0)
        if (found.number == 1 && found.kind == WIRE_VARINT)
            return found.value;
    return 0;
}

uint32_t wire_body(etag_str rest)
{
    struct wire_field found;

    for (int i = 0; i < 2 && wire_field_next(&rest, &found) > 0; i++)
        if (found.number != 1)
            return found.number;
    return 0;
}

/* ---- Packing ---- */

/* Collects what is packed; a failure is looked at once, at the end. */
struct packer {
    struct arena arena;
    bool failed;
};

static void packer_deinit(struct packer *packer)
{
    arena_deinit(&packer->arena);
}

static void *packer_take(struct packer *packer, size_t count, size_t bytes)
{
    void *const taken = arena_array(&packer->arena, count, bytes);

    if (!taken)
        packer->failed = true;
    return taken;
}

static ProtobufCBinaryData bytes_of(etag_str text)
{
    return (ProtobufCBinaryData){text.len, (uint8_t *)(uintptr_t)text.data};
}

static void *pack(struct packer *packer, const struct wire_type *type, const void *ours);

static void pack_each(struct packer *packer, const struct wire_member *member, const void *ours,
                      size_t count, void **to)
{
    const char *const items = *(const char *const *)ours;
    void **const out = packer_take(packer, count, sizeof(*out));

    for (size_t i = 0; i < count && !packer->failed; i++)
        out[i] = pack(packer, member->type, items + i * member->type->bytes);
    *to = out;
}

static void pack_texts(struct packer *packer, const void *ours, size_t count, void **to)
{
    const etag_str *const texts = *(const etag_str *const *)ours;
    ProtobufCBinaryData *const out = packer_take(packer, count, sizeof(*out));

    for (size_t i = 0; out && i < count; i++)
        out[i] = bytes_of(texts[i]);
    *to = out;
}

static void pack_member(struct packer *packer, const struct wire_member *member,
                        const ProtobufCFieldDescriptor *field, const char *ours, char *wire)
{
    const char *const from = ours + member->at;
    const char *const extent = ours + member->extent;
    char *const to = wire + field->offset;
    const bool in_oneof = field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;

    switch (member->kind) {
    case TEXT:
        if (in_oneof && !((const etag_str *)from)->data)
            return;
        *(ProtobufCBinaryData *)to = bytes_of(*(const etag_str *)from);
        break;
    case NUMBER32:
        memcpy(to, from, sizeof(uint32_t));
        break;
    case NUMBER64:
        memcpy(to, from, sizeof(uint64_t));
        break;
    case FLAG:
        *(protobuf_c_boolean *)to = *(const bool *)from;
        break;
    case MAYBE:
        if (!*(const bool *)extent)
            return;
        *(void **)to = pack(packer, member->type, from);
        break;
    case BODY:
        if (load_u32(extent) + 1 != member->number)
            return;
        *(void **)to = pack(packer, member->type, from);
        break;
    case ONE:
        *(void **)to = pack(packer, member->type, from);
        break;
    case TEXTS:
    case EACH:
        memcpy(wire + field->quantifier_offset, extent, sizeof(size_t));
        if (*(const size_t *)extent == 0)
            return;
        if (member->kind == TEXTS)
            pack_texts(packer, from, *(const size_t *)extent, (void **)to);
        else
            pack_each(packer, member, from, *(const size_t *)extent, (void **)to);
        break;
    }
    if (in_oneof)
        store_u32(wire + field->quantifier_offset, field->id);
}

static void *pack(struct packer *packer, const struct wire_type *type, const void *ours)
{
    void *const wire = packer_take(packer, 1, type->descriptor->sizeof_message);

    if (!wire)
        return NULL;
    protobuf_c_message_init(type->descriptor, wire);
    for (size_t i = 0; i < type->member_count; i++) {
        const struct wire_member *const member = &type->members[i];
        pack_member(packer, member,
                    protobuf_c_message_descriptor_get_field(type->descriptor, member->number), ours,
                    wire);
    }
    if (type->packed)
        type->packed(ours, wire);
    return wire;
}

int wire_encode(struct buffer *out, const struct wire_type *type, const void *ours)
{
    CLEANUP(packer_deinit) struct packer packer = {.failed = false};

    arena_init(&packer.arena, PACK_BYTES_MAX);
    const ProtobufCMessage *const wire = pack(&packer, type, ours);
    if (packer.failed)
        return -ENOMEM;
    const size_t len = protobuf_c_message_get_packed_size(wire);
    if (len > FRAME_BYTES_MAX)
        return -EMSGSIZE;
    const int r = buffer_reserve(out, FRAME_HEADER_BYTES + len);
    if (r < 0)
        return r;
    store_u32(out->bytes + out->len, (uint32_t)len);
    protobuf_c_message_pack(wire, out->bytes + out->len + FRAME_HEADER_BYTES);
    out->len += FRAME_HEADER_BYTES + len;
    return 0;
}

/* ---- Unpacking ---- */

static const char no_memory[] = "the message needs too much memory";

static etag_str text_of(ProtobufCBinaryData bytes)
{
    return (etag_str){bytes.len > 0 ? (const char *)bytes.data : "", bytes.len};
}

static const char *unpack(struct arena *arena, const struct wire_type *type, const void *wire,
                          void *ours);

static const char *unpack_each(struct arena *arena, const struct wire_member *member,
                               void *const *wires, size_t count, void **to)
{
    char *const items = arena_array(arena, count, member->type->bytes);

    if (!items)
        return no_memory;
    *to = items;
    for (size_t i = 0; i < count; i++) {
        const char *const wrong = unpack(arena, member->type, wires[i],
                                         items + i * member->type->bytes);
        if (wrong)
            return wrong;
    }
    return NULL;
}

static const char *unpack_texts(struct arena *arena, const ProtobufCBinaryData *bytes, size_t count,
                                void **to)
{
    etag_str *const texts = arena_array(arena, count, sizeof(*texts));

    if (!texts)
        return no_memory;
    *to = texts;
    for (size_t i = 0; i < count; i++)
        texts[i] = text_of(bytes[i]);
    return NULL;
}

static const char *unpack_member(struct arena *arena, const struct wire_member *member,
                                 const ProtobufCFieldDescriptor *field, const char *wire,
                                 char *ours)
{
    const char *const from = wire + field->offset;
    const char *const quantifier = wire + field->quantifier_offset;
    char *const to = ours + member->at;
    char *const extent = ours + member->extent;
    const char *wrong;

    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF && load_u32(quantifier) != field->id)
        return NULL;
    switch (member->kind) {
    case TEXT:
        *(etag_str *)to = text_of(*(const ProtobufCBinaryData *)from);
        return NULL;
    case NUMBER32:
        memcpy(to, from, sizeof(uint32_t));
        return member->known && !member->known(load_u32(from))
                   ? "a number of the message has no meaning"
                   : NULL;
    case NUMBER64:
        memcpy(to, from, sizeof(uint64_t));
        return NULL;
    case FLAG:
        *(bool *)to = *(const protobuf_c_boolean *)from;
        return NULL;
    case ONE:
        return unpack(arena, member->type, *(void *const *)from, to);
    case MAYBE:
        *(bool *)extent = *(void *const *)from;
        return *(bool *)extent ? unpack(arena, member->type, *(void *const *)from, to) : NULL;
    case BODY:
        wrong = unpack(arena, member->type, *(void *const *)from, to);
        if (!wrong)
            store_u32(extent, member->number - 1);
        return wrong;
    case TEXTS:
    case EACH:
        memcpy(extent, quantifier, sizeof(size_t));
        if (*(const size_t *)quantifier == 0)
            return NULL;
        return member->kind == TEXTS ? unpack_texts(arena, *(ProtobufCBinaryData *const *)from,
                                                    *(const size_t *)quantifier, (void **)to)
                                     : unpack_each(arena, member, *(void *const *const *)from,
                                                   *(const size_t *)quantifier, (void **)to);
    }
    return NULL;
}

/* ours: zeroed. wire: NULL where the peer left the part out. */
static const char *unpack(struct arena *arena, const struct wire_type *type, const void *wire,
                          void *ours)
{
    if (!wire)
        return "a part of the message is missing";
    for (size_t i = 0; i < type->member_count; i++) {
        const struct wire_member *const member = &type->members[i];
        const char *const wrong = unpack_member(
            arena, member,
            protobuf_c_message_descriptor_get_field(type->descriptor, member->number), wire, ours);
        if (wrong)
            return wrong;
    }
    return type->unpacked ? type->unpacked(wire, ours) : NULL;
}

static void *allocator_take(void *arena, size_t bytes)
{
    return arena_alloc(arena, bytes);
}

static void allocator_leave(void *arena, void *bytes)
{
}

const char *wire_decode(struct arena *arena, const struct wire_type *type, etag_str bytes,
                        void *ours)
{
    ProtobufCAllocator allocator = {allocator_take, allocator_leave, arena};
    const char *const wrong = walk(type, bytes, 1);

    if (wrong)
        return wrong;
    const ProtobufCMessage *const wire = protobuf_c_message_unpack(
        type->descriptor, &allocator, bytes.len, (const uint8_t *)bytes.data);
    return wire ? unpack(arena, type, wire, ours) : no_memory;
}
