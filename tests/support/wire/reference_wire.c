/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes are judged in three steps. A walk by the schema's descriptors sees what protobuf-c does not
 * say: fields that come too often, numbers that are too large. Then protobuf-c unpacks. Then the
 * values are judged, what we don't know is dropped, and protobuf-c packs the rest.
 */
#include "reference_wire.h"

#include "etagd.pb-c.h"
#include "targets.h"
#include "wire.h"

#include <protobuf-c/protobuf-c.h>

/* ---- What the schema does not say ---- */

static bool scope_known(uint64_t kind)
{
    return kind <= 2;
}

static bool reach_known(uint64_t reach)
{
    return reach == ETAG_REACH_DEFAULT || reach == ETAG_REACH_HOST || reach == ETAG_REACH_LOG ||
           reach == ETAG_REACH_EVERYWHERE;
}

static bool proof_known(uint64_t proof)
{
    return proof == ETAG_PROOF_NONE || proof == ETAG_PROOF_DAEMON || proof == ETAG_PROOF_WAIT ||
           proof == ETAG_PROOF_LOGGED || proof == ETAG_PROOF_ACKNOWLEDGED ||
           proof == ETAG_PROOF_TIME;
}

static bool outcome_known(uint64_t outcome)
{
    return outcome >= 1 && outcome <= 4;
}

static bool mode_known(uint64_t mode)
{
    return mode <= 2;
}

static bool reason_known(uint64_t reason)
{
#define REASON_IS(name, value, word, text) reason == (value) ||
    return ETAG_REASONS(REASON_IS) false;
#undef REASON_IS
}

static bool event_known(uint64_t kind)
{
    return kind <= 4;
}

static bool target_known(uint64_t kind)
{
    return kind == TARGET_EVERYTHING || kind == TARGET_RESOURCE || kind == TARGET_PREFIX ||
           kind == TARGET_SURROGATE || kind == TARGET_FAMILY;
}

struct rule {
    const char *message;
    uint32_t field;
    /* repeated: how often; a message that may be left out: 0 */
    uint32_t max;
    bool (*known)(uint64_t value);
};

static const struct rule rules[] = {
    {"Key", 2, 0, scope_known},
    {"Key", 5, VARY_COUNT_MAX, NULL},
    {"Entry", 4, FIELDS_PER_ENTRY_MAX, NULL},
    {"Entry", 6, SURROGATES_PER_ENTRY_MAX, NULL},
    {"Targets", 1, TARGETS_PER_EVENT_MAX, NULL},
    {"Targets", 2, TARGETS_PER_EVENT_MAX, NULL},
    {"Targets", 3, TARGETS_PER_EVENT_MAX, NULL},
    {"Targets", 7, 0, reach_known},
    {"Targets", 9, TARGETS_PER_EVENT_MAX, NULL},
    {"RelayBatch", 2, RELAY_BATCH_TARGETS_MAX, NULL},
    {"RelayDone", 2, 0, outcome_known},
    {"HelloReply", 11, 0, reach_known},
    {"Receipt", 2, 0, reach_known},
    {"Receipt", 3, 0, proof_known},
    {"RelayHelloReply", 4, 0, mode_known},
    {"FillVerdict", 1, 0, reason_known},
    {"EntryView", 4, 0, reason_known},
    {"ListReply", 1, LIST_PAGE_MAX, NULL},
    {"LogReply", 1, LOG_PAGE_MAX, NULL},
    {"ClockView", 1, 0, target_known},
    {"Event", 7, 0, event_known},
    {"Event", 10, 0, NULL},
    {"ExplainReply", 2, CLOCKS_PER_ENTRY_MAX, NULL},
    {"ExplainReply", 4, 0, NULL},
    {"Histogram", 3, HISTOGRAM_BUCKETS_MAX, NULL},
    {"StatusReply", 1, STATS_MAX, NULL},
    {"StatusReply", 2, HISTOGRAMS_MAX, NULL},
    {"ClientView", 11, CLIENT_COUNTS_MAX, NULL},
    {"ClientsReply", 1, CLIENTS_PAGE_MAX, NULL},
};

static const struct rule *rule_of(const ProtobufCMessageDescriptor *type,
                                  const ProtobufCFieldDescriptor *field)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (rules[i].field == field->id && strcmp(rules[i].message, type->short_name) == 0)
            return &rules[i];
    return NULL;
}

static bool is_type(const ProtobufCMessageDescriptor *type, const char *name)
{
    return strcmp(type->short_name, name) == 0;
}

static bool in_oneof(const ProtobufCFieldDescriptor *field)
{
    return field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
}

static bool is_repeated(const ProtobufCFieldDescriptor *field)
{
    return field->label == PROTOBUF_C_LABEL_REPEATED;
}

/* ---- The walk ---- */

static bool varint_read(etag_str *rest, uint64_t *out)
{
    *out = 0;
    for (unsigned i = 0; i < rest->len && i < 10; i++) {
        const uint8_t byte = (uint8_t)rest->data[i];
        if (i == 9 && byte > 1)
            return false;
        *out |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *rest = (etag_str){rest->data + i + 1, rest->len - i - 1};
            return true;
        }
    }
    return false;
}

/* A field's value: its number, or the length of its bytes, which are cut off. */
static bool value_read(etag_str *rest, unsigned kind, uint64_t *value)
{
    const uint64_t fixed = kind == 1 ? 8 : 4;

    if ((kind == 0 || kind == 2) && !varint_read(rest, value))
        return false;
    if (kind == 0)
        return true;
    if (kind == 1 || kind == 5)
        *value = fixed;
    else if (kind != 2)
        return false;
    if (*value > rest->len)
        return false;
    *rest = (etag_str){rest->data + *value, rest->len - *value};
    return true;
}

static unsigned kind_of(const ProtobufCFieldDescriptor *field)
{
    if (field->type == PROTOBUF_C_TYPE_BYTES || field->type == PROTOBUF_C_TYPE_MESSAGE)
        return 2;
    return field->type == PROTOBUF_C_TYPE_FIXED64 ? 1 : 0;
}

/* Members of a oneof, and all names of Targets, are counted together. */
static bool counts(uint32_t *counted, const ProtobufCMessageDescriptor *type,
                   const ProtobufCFieldDescriptor *field)
{
    const struct rule *const rule = rule_of(type, field);
    const bool together = in_oneof(field) || (is_type(type, "Targets") && is_repeated(field));

    return ++counted[together ? 0 : field->id] <= (is_repeated(field) ? rule->max : 1);
}

static bool walk(const ProtobufCMessageDescriptor *type, etag_str rest)
{
    uint32_t counted[32] = {0};

    while (rest.len > 0) {
        uint64_t tag;
        uint64_t value;
        if (!varint_read(&rest, &tag) || tag > UINT32_MAX || tag < 8)
            return false;
        if (!value_read(&rest, tag & 7, &value))
            return false;
        const ProtobufCFieldDescriptor *const field = protobuf_c_message_descriptor_get_field(
            type, (unsigned)(tag >> 3));
        if (!field)
            continue;
        if ((tag & 7) != kind_of(field) || !counts(counted, type, field))
            return false;
        if (field->type == PROTOBUF_C_TYPE_UINT32 && value > UINT32_MAX)
            return false;
        if (field->type == PROTOBUF_C_TYPE_MESSAGE &&
            !walk(field->descriptor, (etag_str){rest.data - value, value}))
            return false;
    }
    return true;
}

/* ---- Values ---- */

static bool judge(ProtobufCMessage *message);

static void drop_unknown(ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->n_unknown_fields; i++)
        free(message->unknown_fields[i].data);
    free(message->unknown_fields);
    message->unknown_fields = NULL;
    message->n_unknown_fields = 0;
}

static bool judge_field(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const struct rule *const rule = rule_of(message->descriptor, field);
    void *const at = (char *)message + field->offset;
    const void *const quantifier = (const char *)message + field->quantifier_offset;

    if (in_oneof(field) && *(const uint32_t *)quantifier != field->id)
        return true;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE && is_repeated(field)) {
        ProtobufCMessage **const items = *(ProtobufCMessage ***)at;
        for (size_t i = 0; i < *(const size_t *)quantifier; i++)
            if (!judge(items[i]))
                return false;
        return true;
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        ProtobufCMessage *const part = *(ProtobufCMessage **)at;
        return part ? judge(part) : rule != NULL;
    }
    return !rule || !rule->known || rule->known(*(const uint32_t *)at);
}

/* What is the same to us is one: a count that was left out is 0, a date of INT64_MIN is none. */
static bool judge_whole(ProtobufCMessage *message)
{
    if (is_type(message->descriptor, "Stat")) {
        Etagd__Wire__Stat *const stat = (Etagd__Wire__Stat *)message;
        if (stat->value_case == ETAGD__WIRE__STAT__VALUE__NOT_SET) {
            stat->value_case = ETAGD__WIRE__STAT__VALUE_NUMBER;
            stat->number = 0;
        }
    } else if (is_type(message->descriptor, "Entry")) {
        Etagd__Wire__Entry *const entry = (Etagd__Wire__Entry *)message;
        if (entry->presence_case == ETAGD__WIRE__ENTRY__PRESENCE_LAST_MODIFIED &&
            entry->last_modified == INT64_MIN)
            entry->presence_case = ETAGD__WIRE__ENTRY__PRESENCE__NOT_SET;
    } else if (is_type(message->descriptor, "ExplainReply")) {
        const Etagd__Wire__ExplainReply *const explain = (Etagd__Wire__ExplainReply *)message;
        return explain->presence_case != ETAGD__WIRE__EXPLAIN_REPLY__PRESENCE_CULPRIT ||
               explain->culprit < explain->n_clocks;
    }
    return true;
}

static bool judge(ProtobufCMessage *message)
{
    drop_unknown(message);
    for (unsigned i = 0; i < message->descriptor->n_fields; i++)
        if (!judge_field(message, &message->descriptor->fields[i]))
            return false;
    return judge_whole(message);
}

static const ProtobufCMessageDescriptor *descriptor_of(enum reference_message which)
{
    return which == REFERENCE_REQUEST ? &etagd__wire__request__descriptor
                                      : &etagd__wire__reply__descriptor;
}

static void message_pack(struct buffer *out, const ProtobufCMessage *message)
{
    if (buffer_reserve(out, protobuf_c_message_get_packed_size(message)) < 0)
        abort();
    out->len += protobuf_c_message_pack(message, out->bytes + out->len);
}

static bool reference_recode(struct buffer *out, enum reference_message which, etag_str bytes)
{
    if (!walk(descriptor_of(which), bytes))
        return false;
    ProtobufCMessage *const message = protobuf_c_message_unpack(
        descriptor_of(which), NULL, bytes.len, (const uint8_t *)bytes.data);
    const bool right = message && judge(message);
    if (right)
        message_pack(out, message);
    protobuf_c_message_free_unpacked(message, NULL);
    return right;
}

/* ---- Ours beside it ---- */

/* known: its body is one that we know. */
static bool our_recode(struct buffer *out, enum reference_message which, etag_str bytes,
                       bool *known)
{
    struct arena arena;
    struct request request;
    struct reply reply;
    bool right;

    arena_init(&arena, ARENA_BYTES_MAX);
    if (which == REFERENCE_REQUEST) {
        right = !request_decode(&request, &arena, bytes);
        *known = right && request.kind != REQUEST_NONE;
        if (*known && request_encode(out, &request) < 0)
            abort();
    } else {
        right = !reply_decode(&reply, &arena, bytes);
        *known = right && reply.kind != REPLY_NONE;
        if (*known && reply_encode(out, &reply) < 0)
            abort();
    }
    arena_deinit(&arena);
    return right;
}

const char *reference_compare(enum reference_message which, etag_str bytes, bool *accepted)
{
    CLEANUP(buffer_deinit) struct buffer theirs = {0};
    CLEANUP(buffer_deinit) struct buffer ours = {0};
    bool known;

    *accepted = reference_recode(&theirs, which, bytes);
    if (our_recode(&ours, which, bytes, &known) != *accepted)
        return *accepted ? "we refuse what protobuf-c accepts" : "we accept what it refuses";
    if (!*accepted)
        return NULL;
    const etag_str packed = {(const char *)theirs.bytes, theirs.len};
    if (!known)
        return wire_body(packed) == 0 ? NULL : "we do not know a body that it knows";
    if (ours.len != theirs.len + FRAME_HEADER_BYTES ||
        memcmp(ours.bytes + FRAME_HEADER_BYTES, theirs.bytes, theirs.len) != 0)
        return "we encode what we decoded to other bytes";
    return NULL;
}

/* ---- Random messages ---- */

static uint64_t random_next(uint64_t *seed)
{
    uint64_t x = *seed += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static size_t random_below(uint64_t *seed, size_t bound)
{
    return (size_t)(random_next(seed) % bound);
}

/* Of any length in bits, often 0. */
static uint64_t random_number(uint64_t *seed, const struct rule *rule)
{
    uint64_t number;

    do {
        const size_t shift = random_below(seed, 64);
        number = random_below(seed, 4) == 0 ? 0 : random_next(seed) >> shift;
    } while (rule && rule->known && !rule->known(number &= 0x7f));
    return number;
}

static ProtobufCBinaryData random_bytes(struct arena *arena, uint64_t *seed)
{
    static const size_t bounds[] = {1, 8, 40, 127, 300};
    const size_t bound = bounds[random_below(seed, 5)];
    const size_t len = random_below(seed, bound + 1);
    uint8_t *const bytes = arena_alloc(arena, len + 1);

    if (!bytes)
        abort();
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)random_next(seed);
    return (ProtobufCBinaryData){len, bytes};
}

static ProtobufCMessage *random_message(struct arena *arena, uint64_t *seed,
                                        const ProtobufCMessageDescriptor *type);

static void random_value(struct arena *arena, uint64_t *seed, const struct rule *rule,
                         const ProtobufCFieldDescriptor *field, void *to)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_BYTES:
        *(ProtobufCBinaryData *)to = random_bytes(arena, seed);
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        *(ProtobufCMessage **)to = random_message(arena, seed, field->descriptor);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)to = random_below(seed, 2) == 1;
        break;
    case PROTOBUF_C_TYPE_UINT32:
        *(uint32_t *)to = (uint32_t)random_number(seed, rule);
        break;
    default:
        *(uint64_t *)to = random_number(seed, rule);
        break;
    }
}

static void random_list(struct arena *arena, uint64_t *seed, const ProtobufCFieldDescriptor *field,
                        char *message)
{
    const bool texts = field->type == PROTOBUF_C_TYPE_BYTES;
    const size_t size = texts ? sizeof(ProtobufCBinaryData) : sizeof(void *);
    const size_t count = random_below(seed, 4);
    char *const items = arena_array(arena, count, size);

    for (size_t i = 0; i < count; i++)
        random_value(arena, seed, NULL, field, items + i * size);
    *(void **)(message + field->offset) = items;
    *(size_t *)(message + field->quantifier_offset) = count;
}

/* Bodies are always there, other fields of a oneof mostly; of several, one. */
static bool random_chosen(uint64_t *seed, const ProtobufCFieldDescriptor *field,
                          const ProtobufCMessageDescriptor *type, uint32_t body)
{
    if (is_type(type, "Request") || is_type(type, "Reply"))
        return field->id == body;
    return is_type(type, "Stat") ? field->id == 2 + body % 2 : random_below(seed, 4) > 0;
}

static ProtobufCMessage *random_message(struct arena *arena, uint64_t *seed,
                                        const ProtobufCMessageDescriptor *type)
{
    char *const message = arena_array(arena, 1, type->sizeof_message);
    const uint32_t body = 2 + (uint32_t)random_below(seed, type->n_fields ? type->n_fields : 1);

    if (!message)
        abort();
    protobuf_c_message_init(type, message);
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *const field = &type->fields[i];
        const struct rule *const rule = rule_of(type, field);
        const bool is_message = field->type == PROTOBUF_C_TYPE_MESSAGE;
        if (is_repeated(field)) {
            random_list(arena, seed, field, message);
            continue;
        }
        if (in_oneof(field)) {
            if (!random_chosen(seed, field, type, body))
                continue;
            *(uint32_t *)(message + field->quantifier_offset) = field->id;
        } else if (is_message && rule && random_below(seed, 2) == 0) {
            continue;
        }
        random_value(arena, seed, rule, field, message + field->offset);
    }
    if (is_type(type, "ExplainReply")) {
        Etagd__Wire__ExplainReply *const explain = (Etagd__Wire__ExplainReply *)message;
        if (explain->n_clocks > 0)
            explain->culprit %= (uint32_t)explain->n_clocks;
        else
            explain->presence_case = ETAGD__WIRE__EXPLAIN_REPLY__PRESENCE__NOT_SET;
    }
    return (ProtobufCMessage *)message;
}

void reference_random(struct buffer *out, enum reference_message which, uint64_t *seed)
{
    struct arena arena;

    arena_init(&arena, ARENA_BYTES_MAX);
    message_pack(out, random_message(&arena, seed, descriptor_of(which)));
    arena_deinit(&arena);
}
