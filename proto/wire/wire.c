/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encodes and decodes messages by their tables (wire.h), in one pass over the bytes: a field is
 * checked as it is met and goes where its table says. What is checked there is all that a peer can
 * do wrong with bytes: lengths, wire types, ranges, how often a field occurs, parts that are
 * missing, values without a meaning. Fields that this version does not know are skipped and take no
 * memory, so that a newer peer is understood as far as possible.
 *
 * Texts point into the message's bytes. Only repeated fields take memory, of the arena: they are
 * counted, and the count is compared with the bound of its table, before there is room for the
 * first one.
 *
 * docs/design.md says why this is not a library's work. A library (protobuf-c) is the measure in
 * tests: the same bytes, and the same answer to any bytes (tests/support/wire/reference_wire.h).
 */
#include "wire.h"

#include "bytes.h"
#include "text.h"

#include <assert.h>
#include <errno.h>

#define FIELDS_MAX 32       /* numbers of fields that we know: bits of a word */
#define TAG_BYTES_MAX 5     /* of a field's number and wire type, and of a length */
#define VARINT_BYTES_MAX 10 /* of a value */

/* The loop over the fields of a message is one function for the compiler, which keeps what it reads
 * in registers: half as many instructions. */
#define INLINED static inline __attribute__((always_inline))

enum wire_kind { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

static const uint8_t kind_on_wire[] = {
    [TEXT] = WIRE_BYTES,      [NUMBER32] = WIRE_VARINT, [NUMBER64] = WIRE_VARINT,
    [FIXED64] = WIRE_FIXED64, [FLAG] = WIRE_VARINT,     [SIGNED64] = WIRE_VARINT,
    [ONE] = WIRE_BYTES,       [BODY] = WIRE_BYTES,      [TEXTS] = WIRE_BYTES,
    [EACH] = WIRE_BYTES,
};

/* ---- Fields in bytes ---- */

/* What is left to read. */
struct span {
    const uint8_t *at, *end;
};

struct field {
    uint32_t number;
    enum wire_kind kind;
    /* WIRE_VARINT, WIRE_FIXED64 */
    uint64_t value;
    /* WIRE_BYTES */
    struct span bytes;
};

static struct span span_of(etag_str bytes)
{
    const uint8_t *const at = (const uint8_t *)bytes.data;

    return (struct span){at, at + bytes.len};
}

/* A number, and where the bytes go on; NULL: they are no number. */
struct varint {
    const uint8_t *after;
    uint64_t value;
};

static struct varint long_varint(struct span in, unsigned max_bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < max_bytes && in.at < in.end; i++) {
        const uint8_t byte = *in.at++;
        if (i == VARINT_BYTES_MAX - 1 && byte > 1)
            break; /* over 64 bits */
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80)
            return (struct varint){in.at, value};
    }
    return (struct varint){NULL, 0};
}

/* Nearly all numbers, tags and lengths of ours are one byte. */
INLINED bool varint_next(struct span *in, unsigned max_bytes, uint64_t *out)
{
    if (in->at < in->end && *in->at < 0x80) {
        *out = *in->at++;
        return true;
    }
    const struct varint found = long_varint(*in, max_bytes);
    if (!found.after)
        return false;
    in->at = found.after;
    *out = found.value;
    return true;
}

INLINED bool bytes_next(struct span *in, uint64_t len, struct span *out)
{
    if (len > (size_t)(in->end - in->at))
        return false;
    *out = (struct span){in->at, in->at + len};
    in->at += len;
    return true;
}

/* Reads the next field, of which there is one. Returns false where the bytes are no protobuf. */
INLINED bool field_next(struct span *in, struct field *out)
{
    uint64_t tag;
    uint64_t len;

    if (!varint_next(in, TAG_BYTES_MAX, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
        return false;
    *out = (struct field){.number = (uint32_t)(tag >> 3), .kind = (enum wire_kind)(tag & 7)};
    switch (out->kind) {
    case WIRE_VARINT:
        return varint_next(in, VARINT_BYTES_MAX, &out->value);
    case WIRE_BYTES:
        return varint_next(in, TAG_BYTES_MAX, &len) && bytes_next(in, len, &out->bytes);
    case WIRE_FIXED64:
        if (!bytes_next(in, sizeof(uint64_t), &out->bytes))
            return false;
        out->value = load_u64(out->bytes.at);
        return true;
    case WIRE_FIXED32:
        return bytes_next(in, sizeof(uint32_t), &out->bytes);
    default:
        return false;
    }
}

uint64_t wire_id(etag_str bytes)
{
    struct span in = span_of(bytes);
    struct field field;

    while (in.at < in.end && field_next(&in, &field))
        if (field.number == 1 && field.kind == WIRE_VARINT)
            return field.value;
    return 0;
}

uint32_t wire_body(etag_str bytes)
{
    struct span in = span_of(bytes);
    struct field field;

    for (int i = 0; i < 2 && in.at < in.end && field_next(&in, &field); i++)
        if (field.number != 1)
            return field.number;
    return 0;
}

/* ---- Decoding ---- */

static const char is_no_protobuf[] = "the message is not valid protobuf";
static const char is_repeated[] = "the message repeats a field more often than it may";
static const char is_unknown[] = "a number of the message has no meaning";
static const char no_memory[] = "the message needs too much memory";

/* A message that is being decoded. */
struct decoding {
    struct arena *arena;
    const struct wire_type *type;
    char *ours;
    /* bits: the fields that came, by number; 0: one of the alternatives or bodies */
    uint32_t seen;
    /* of the repeated fields that share their max */
    size_t shared_count;
    unsigned depth;
};

static const char *message_decode(struct arena *arena, const struct wire_type *type, struct span in,
                                  void *ours, unsigned depth);

INLINED etag_str text_of(struct span bytes)
{
    const size_t len = (size_t)(bytes.end - bytes.at);

    return (etag_str){len > 0 ? (const char *)bytes.at : "", len};
}

static const char *number32_decode(const struct wire_member *member, uint64_t value, char *to)
{
    if (value > UINT32_MAX)
        return "a number of the message is out of range";
    if (member->known && !member->known((uint32_t)value))
        return is_unknown;
    store_u32(to, (uint32_t)value);
    return NULL;
}

/* The switch that says that the field is there. */
static void presence_decode(const struct wire_member *member, char *extent)
{
    if (member->presence == IF_CHOSEN)
        store_u32(extent, member->chosen);
    else
        *(bool *)extent = member->presence == IF_TRUE;
}

/* A field that a message has once. */
INLINED const char *single_decode(struct decoding *d, const struct wire_member *member,
                                  const struct field *field)
{
    const uint32_t own = UINT32_C(1) << field->number;
    char *const to = d->ours + member->at;
    const char *wrong = NULL;

    if (d->seen & (own | member->alternative))
        return is_repeated;
    d->seen |= own | member->alternative;
    switch (member->kind) {
    case TEXT:
        *(etag_str *)to = text_of(field->bytes);
        break;
    case NUMBER32:
        wrong = number32_decode(member, field->value, to);
        break;
    case NUMBER64:
    case FIXED64:
        store_u64(to, field->value);
        break;
    case SIGNED64:
        store_u64(to, (field->value >> 1) ^ -(field->value & 1));
        break;
    case FLAG:
        *(bool *)to = field->value != 0;
        break;
    case BODY:
        store_u32(d->ours + d->type->kind_at, field->number - 1);
        return message_decode(d->arena, member->type, field->bytes, to, d->depth + 1);
    default:
        wrong = message_decode(d->arena, member->type, field->bytes, to, d->depth + 1);
        break;
    }
    if (member->presence >= IF_TRUE)
        presence_decode(member, d->ours + member->extent);
    return wrong;
}

/* How often the field occurs in the rest of its message, as far as that can be read. */
static size_t occurrences(struct span rest, uint32_t number)
{
    struct field field;
    size_t count = 0;

    while (rest.at < rest.end && field_next(&rest, &field))
        count += field.number == number;
    return count;
}

/* The first of a repeated field: all of them are counted, and have their memory. */
INLINED const char *list_begin(struct decoding *d, const struct wire_member *member,
                               uint32_t number, struct span rest)
{
    const size_t count = 1 + occurrences(rest, number);
    const size_t total = count + (member->shares_max ? d->shared_count : 0);
    const size_t bytes = member->kind == TEXTS ? sizeof(etag_str) : member->type->bytes;

    if (total > member->max)
        return is_repeated;
    if (member->shares_max)
        d->shared_count = total;
    void *const items = arena_array(d->arena, count, bytes);
    if (!items)
        return no_memory;
    d->seen |= UINT32_C(1) << number;
    *(void **)(d->ours + member->at) = items;
    return NULL;
}

INLINED const char *list_decode(struct decoding *d, const struct wire_member *member,
                                const struct field *field, struct span rest)
{
    size_t *const count = (size_t *)(d->ours + member->extent);

    if (!(d->seen & UINT32_C(1) << field->number)) {
        const char *const wrong = list_begin(d, member, field->number, rest);
        if (wrong)
            return wrong;
    }
    char *const items = *(char **)(d->ours + member->at);
    const size_t i = (*count)++;
    if (member->kind == EACH)
        return message_decode(d->arena, member->type, field->bytes, items + i * member->type->bytes,
                              d->depth + 1);
    ((etag_str *)items)[i] = text_of(field->bytes);
    return NULL;
}

/* What a member has whose field was left out. */
INLINED const char *absent_decode(const struct wire_member *member, char *to)
{
    switch (member->kind) {
    case TEXT:
        if (member->presence != UNLESS_NONE)
            *(etag_str *)to = (etag_str){"", 0};
        return NULL;
    case ONE:
        return member->presence == BY_VALUE ? "a part of the message is missing" : NULL;
    case NUMBER32:
        if (member->known && !member->known(0))
            return is_unknown;
        if (member->presence == UNLESS_NONE)
            store_u32(to, (uint32_t)member->none);
        return NULL;
    case SIGNED64:
        if (member->presence == UNLESS_NONE)
            store_u64(to, member->none);
        return NULL;
    default:
        return NULL;
    }
}

INLINED const char *rest_decode(const struct decoding *d)
{
    const struct wire_type *const type = d->type;
    uint32_t absent = ((UINT32_C(1) << type->body_begin) - 2) & ~d->seen;

    for (; absent != 0; absent &= absent - 1) {
        const struct wire_member *const member = &type->members[__builtin_ctz(absent)];
        const char *const wrong = absent_decode(member, d->ours + member->at);
        if (wrong)
            return wrong;
    }
    return type->decoded ? type->decoded(d->ours) : NULL;
}

/* ours: zeroed. */
static const char *message_decode(struct arena *arena, const struct wire_type *type, struct span in,
                                  void *ours, unsigned depth)
{
    struct decoding d = {.arena = arena, .type = type, .ours = ours, .depth = depth};
    struct field field;

    assert(depth <= WIRE_DEPTH_MAX);
    while (in.at < in.end) {
        if (!field_next(&in, &field))
            return is_no_protobuf;
        if (field.number >= type->member_count || type->members[field.number].kind == NO_FIELD)
            continue;
        const struct wire_member *const member = &type->members[field.number];
        if (field.kind != kind_on_wire[member->kind])
            return "a field of the message has the wrong type";
        const char *const wrong = member->kind >= TEXTS ? list_decode(&d, member, &field, in)
                                                        : single_decode(&d, member, &field);
        if (wrong)
            return wrong;
    }
    return rest_decode(&d);
}

const char *wire_decode(struct arena *arena, const struct wire_type *type, etag_str bytes,
                        void *ours)
{
    return message_decode(arena, type, span_of(bytes), ours, 1);
}

/* ---- Encoding ---- */

#define FIELD_BYTES_MAX (TAG_BYTES_MAX + VARINT_BYTES_MAX) /* without the bytes of a text */
#define ROOM_BYTES 256                                     /* asked for at first */

/* A frame that is being written, after what a buffer holds already. The buffer's own length changes
 * when the frame is whole. */
struct writer {
    struct buffer *out;
    /* where the next byte goes, and the end of the room */
    uint8_t *at, *end;
    /* -ENOMEM, -EMSGSIZE: nothing more is written */
    int error;
};

static size_t written_bytes(const struct writer *w)
{
    return (size_t)(w->at - (w->out->bytes + w->out->len));
}

static bool room_grow(struct writer *w, size_t bytes)
{
    const size_t written = written_bytes(w);

    if (w->error == 0 && (bytes > 2 * FRAME_BYTES_MAX || written > 2 * FRAME_BYTES_MAX))
        w->error = -EMSGSIZE;
    if (w->error == 0)
        w->error = buffer_reserve(w->out, written + bytes);
    if (w->error != 0)
        return false;
    w->at = w->out->bytes + w->out->len + written;
    w->end = w->out->bytes + w->out->capacity;
    return true;
}

/* Makes room for so many bytes. Returns false if there is none, with w->error set. */
static inline bool room(struct writer *w, size_t bytes)
{
    return bytes <= (size_t)(w->end - w->at) || room_grow(w, bytes);
}

static inline uint8_t *varint_put(uint8_t *to, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *to++ = (uint8_t)(value | 0x80);
    *to++ = (uint8_t)value;
    return to;
}

static inline uint8_t *tag_put(uint8_t *to, uint32_t number, enum wire_kind kind)
{
    return varint_put(to, (uint64_t)number << 3 | kind);
}

static void number_encode(struct writer *w, uint32_t number, uint64_t value)
{
    if (room(w, FIELD_BYTES_MAX))
        w->at = varint_put(tag_put(w->at, number, WIRE_VARINT), value);
}

static void fixed64_encode(struct writer *w, uint32_t number, uint64_t value)
{
    if (!room(w, FIELD_BYTES_MAX))
        return;
    uint8_t *const to = tag_put(w->at, number, WIRE_FIXED64);
    store_u64(to, value);
    w->at = to + sizeof(value);
}

INLINED void text_encode(struct writer *w, uint32_t number, etag_str text)
{
    const size_t len = text.len <= 2 * FRAME_BYTES_MAX ? text.len : 2 * FRAME_BYTES_MAX + 1;

    if (!room(w, FIELD_BYTES_MAX + len))
        return;
    uint8_t *const to = varint_put(tag_put(w->at, number, WIRE_BYTES), len);
    copy_bytes(to, text.data, len);
    w->at = to + len;
}

static void members_encode(struct writer *w, const struct wire_type *type, const char *ours);

/* One byte is left for the length. Of a longer message, which is seldom, the bytes move up. */
static void message_encode(struct writer *w, uint32_t number, const struct wire_type *type,
                           const char *ours)
{
    if (!room(w, FIELD_BYTES_MAX))
        return;
    w->at = tag_put(w->at, number, WIRE_BYTES) + 1;
    const size_t before = written_bytes(w);
    members_encode(w, type, ours);
    const size_t len = written_bytes(w) - before;
    if (len >= 0x80 && room(w, FIELD_BYTES_MAX)) {
        uint8_t length[FIELD_BYTES_MAX];
        const size_t more = (size_t)(varint_put(length, len) - length) - 1;
        memmove(w->at - len + more, w->at - len, len);
        w->at += more;
    }
    if (w->error == 0)
        varint_put(w->out->bytes + w->out->len + before - 1, len);
}

/* Whether a member with a presence other than BY_VALUE is in the message. */
static bool is_present(const struct wire_member *member, const char *ours)
{
    const char *const from = ours + member->at;

    switch (member->presence) {
    case IF_TRUE:
        return *(const bool *)(ours + member->extent);
    case IF_FALSE:
        return !*(const bool *)(ours + member->extent);
    case IF_CHOSEN:
        return load_u32(ours + member->extent) == member->chosen;
    default:
        break;
    }
    if (member->kind == TEXT)
        return ((const etag_str *)from)->data;
    return member->kind == NUMBER32 ? load_u32(from) != (uint32_t)member->none
                                    : load_u64(from) != member->none;
}

static void list_encode(struct writer *w, uint32_t number, const struct wire_member *member,
                        const char *ours)
{
    const size_t count = *(const size_t *)(ours + member->extent);
    const char *const items = *(const char *const *)(ours + member->at);

    for (size_t i = 0; i < count && w->error == 0; i++) {
        if (member->kind == TEXTS)
            text_encode(w, number, ((const etag_str *)items)[i]);
        else
            message_encode(w, number, member->type, items + i * member->type->bytes);
    }
}

INLINED void member_encode(struct writer *w, uint32_t number, const struct wire_member *member,
                           const char *ours)
{
    const char *const from = ours + member->at;
    const bool by_value = member->presence == BY_VALUE;
    uint64_t value = 0;

    if (!by_value && !is_present(member, ours))
        return;
    switch (member->kind) {
    case TEXT:
        if (!by_value || ((const etag_str *)from)->len > 0)
            text_encode(w, number, *(const etag_str *)from);
        return;
    case ONE:
        message_encode(w, number, member->type, from);
        return;
    case TEXTS:
    case EACH:
        if (*(const size_t *)(ours + member->extent) > 0)
            list_encode(w, number, member, ours);
        return;
    case NUMBER32:
        value = load_u32(from);
        break;
    case FLAG:
        value = *(const bool *)from;
        break;
    case SIGNED64:
        value = load_u64(from);
        value = (value << 1) ^ -(value >> 63);
        break;
    case NUMBER64:
    case FIXED64:
        value = load_u64(from);
        break;
    default:
        return;
    }
    if (by_value && value == 0)
        return;
    if (member->kind == FIXED64)
        fixed64_encode(w, number, value);
    else
        number_encode(w, number, value);
}

static void members_encode(struct writer *w, const struct wire_type *type, const char *ours)
{
    for (uint32_t number = 1; number < type->body_begin; number++)
        member_encode(w, number, &type->members[number], ours);
    if (type->body_begin == type->member_count)
        return;
    const uint32_t number = load_u32(ours + type->kind_at) + 1;
    assert(number >= type->body_begin && number < type->member_count);
    const struct wire_member *const body = &type->members[number];
    message_encode(w, number, body->type, ours + body->at);
}

int wire_encode(struct buffer *out, const struct wire_type *type, const void *ours)
{
    struct writer w = {.out = out};
    const int r = buffer_reserve(out, FRAME_HEADER_BYTES + ROOM_BYTES);

    if (r < 0)
        return r;
    w.at = out->bytes + out->len + FRAME_HEADER_BYTES;
    w.end = out->bytes + out->capacity;
    members_encode(&w, type, ours);
    if (w.error != 0)
        return w.error;
    const size_t len = written_bytes(&w) - FRAME_HEADER_BYTES;
    if (len > FRAME_BYTES_MAX)
        return -EMSGSIZE;
    store_u32(out->bytes + out->len, (uint32_t)len);
    out->len += FRAME_HEADER_BYTES + len;
    return 0;
}
