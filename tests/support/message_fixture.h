/* SPDX-License-Identifier: Apache-2.0 */
/* One message in flight: its frame, and the arena of what was decoded from it. */
#ifndef ETAG_TESTS_MESSAGE_FIXTURE_H
#define ETAG_TESTS_MESSAGE_FIXTURE_H

#include "message.h"
#include "testing.h"

#define assert_text(s, literal)                                                                    \
    do {                                                                                           \
        assert_int_equal((s).len, sizeof(literal) - 1);                                            \
        assert_non_null((s).data);                                                                 \
        assert_memory_equal((s).data, literal, sizeof(literal) - 1);                               \
    } while (0)

struct message_fixture {
    struct buffer buffer;
    struct arena arena;
};

int message_setup(void **state);

int message_teardown(void **state);

#define MESSAGE_CASE(name) TEST_OF(name, struct message_fixture *f, message_setup, message_teardown)

/* The payload of the only frame in the buffer. */
etag_str payload_of(const struct message_fixture *f);

/* Encodes and decodes; returns what decoding said. */
const char *request_over(struct message_fixture *f, const struct request *in, struct request *out);

const char *reply_over(struct message_fixture *f, const struct reply *in, struct reply *out);

#endif
