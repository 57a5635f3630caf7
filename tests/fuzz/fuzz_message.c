/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages: the first byte says which end reads, the rest is a frame's payload. We and protobuf-c
 * by the schema say the same of it; what decodes must encode, and what was encoded must decode to
 * the same again.
 */
#include "fuzz.h"
#include "message.h"
#include "reference_wire.h"

#include <string.h>

typedef bool recode_function(struct buffer *out, etag_str payload);

static bool request_recode(struct buffer *out, etag_str payload)
{
    struct request request;
    struct arena arena;

    arena_init(&arena, ARENA_BYTES_MAX);
    const bool known = !request_decode(&request, &arena, payload) && request.kind != REQUEST_NONE;
    if (known)
        fuzz_require(request_encode(out, &request) == 0);
    arena_deinit(&arena);
    return known;
}

static bool reply_recode(struct buffer *out, etag_str payload)
{
    struct reply reply;
    struct arena arena;

    arena_init(&arena, ARENA_BYTES_MAX);
    const bool known = !reply_decode(&reply, &arena, payload) && reply.kind != REPLY_NONE;
    if (known)
        fuzz_require(reply_encode(out, &reply) == 0);
    arena_deinit(&arena);
    return known;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    etag_str payload = {0};
    bool accepted;

    if (size == 0 || size > FRAME_BYTES_MAX / 2)
        return 0;
    const bool of_reply = data[0] & 1;
    recode_function *const recode = of_reply ? reply_recode : request_recode;
    const etag_str input = {(const char *)data + 1, size - 1};
    (void)!frame_next(input, &payload);
    const char *const differs = reference_compare(of_reply ? REFERENCE_REPLY : REFERENCE_REQUEST,
                                                  input, &accepted);
    if (differs)
        fprintf(stderr, "%s\n", differs);
    fuzz_require(!differs);

    struct buffer once = {0};
    struct buffer twice = {0};
    if (recode(&once, input)) {
        fuzz_require(frame_next((etag_str){(const char *)once.bytes, once.len}, &payload) == 1);
        fuzz_require(recode(&twice, payload));
        fuzz_require(once.len == twice.len && memcmp(once.bytes, twice.bytes, once.len) == 0);
    }
    buffer_deinit(&once);
    buffer_deinit(&twice);
    return 0;
}
