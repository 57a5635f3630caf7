/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What our tables make of messages, beside what protobuf-c makes of them by the schema: the same
 * bytes of each message that there can be, and the same answer to bytes that were spoilt.
 * (fuzz_message does it for longer.)
 */
#include "message_fixture.h"
#include "reference_wire.h"
#include "wire.h"

#include <string.h>

#define MESSAGES 4000 /* of each kind: enough for each field of each message, in many sizes */

static uint64_t pick(uint64_t *seed, uint64_t bound)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*seed >> 33) % bound;
}

/* A block of the message's size, so that sanitizers see a read behind it. */
static bool compare(enum reference_message which, const uint8_t *bytes, size_t len)
{
    char *const exact = malloc(len ? len : 1);
    bool accepted;

    assert_non_null(exact);
    memcpy(exact, bytes, len);
    const char *const differs = reference_compare(which, (etag_str){exact, len}, &accepted);
    if (differs) {
        print_error("%s of %zu bytes: %s\n", which == REFERENCE_REQUEST ? "request" : "reply", len,
                    differs);
        for (size_t i = 0; i < len; i++)
            print_error("%02x", (uint8_t)exact[i]);
        print_error("\n");
    }
    free(exact);
    assert_null(differs);
    return accepted;
}

TEST(each_message_of_the_schema_has_the_same_bytes)
{
    struct buffer message = {0};
    uint64_t seed = 1;
    uint32_t bodies[2] = {0};

    for (int i = 0; i < 2 * MESSAGES; i++) {
        const enum reference_message which = i % 2 ? REFERENCE_REPLY : REFERENCE_REQUEST;
        message.len = 0;
        reference_random(&message, which, &seed);
        assert_true(message.len < FRAME_BYTES_MAX);
        const uint32_t number = wire_body((etag_str){(const char *)message.bytes, message.len});
        bodies[which] |= UINT32_C(1) << number;
        assert_true(compare(which, message.bytes, message.len));
    }
    assert_int_equal(bodies[REFERENCE_REQUEST] >> 2, (UINT32_C(1) << REQUEST_RELAY_DONE) - 1);
    assert_int_equal(bodies[REFERENCE_REPLY] >> 2, (UINT32_C(1) << REPLY_RELAY_PUBLISH) - 1);
    buffer_deinit(&message);
}

static void spoil(struct buffer *message, uint64_t *seed)
{
    uint8_t *const bytes = message->bytes;
    const size_t len = message->len;

    if (len < 2)
        return;
    const size_t at = pick(seed, len);
    const size_t some = pick(seed, len - at < 12 ? len - at : 12);
    switch (pick(seed, 6)) {
    case 0: /* a bit */
        bytes[at] ^= (uint8_t)(1u << pick(seed, 8));
        break;
    case 1: /* a tag or a small number */
        bytes[at] = (uint8_t)pick(seed, 64);
        break;
    case 2: /* any byte */
        bytes[at] = (uint8_t)pick(seed, 256);
        break;
    case 3: /* a varint that goes on */
        bytes[at] |= 0x80;
        break;
    case 4: /* bytes cut out */
        memmove(bytes + at, bytes + at + some, len - at - some);
        message->len -= some;
        break;
    default: /* bytes once more */
        assert_int_equal(buffer_reserve(message, some), 0);
        memmove(message->bytes + at + some, message->bytes + at, len - at);
        message->len += some;
        break;
    }
}

TEST(spoilt_messages_are_judged_alike)
{
    struct buffer message = {0};
    uint64_t seed = 2;
    int accepted = 0;

    for (int i = 0; i < 10 * MESSAGES; i++) {
        const enum reference_message which = i % 2 ? REFERENCE_REPLY : REFERENCE_REQUEST;
        message.len = 0;
        reference_random(&message, which, &seed);
        for (uint64_t n = 1 + pick(&seed, 3); n > 0; n--)
            spoil(&message, &seed);
        accepted += compare(which, message.bytes, message.len);
    }
    /* Both happen often, or the test says little. */
    assert_in_range(accepted, MESSAGES, 9 * MESSAGES);
    buffer_deinit(&message);
}
