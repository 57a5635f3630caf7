/* SPDX-License-Identifier: Apache-2.0 */
#include "message_fixture.h"

int message_setup(void **state)
{
    struct message_fixture *const f = calloc(1, sizeof(*f));

    if (!f)
        return -1;
    arena_init(&f->arena, ARENA_BYTES_MAX);
    *state = f;
    return 0;
}

int message_teardown(void **state)
{
    struct message_fixture *const f = *state;

    buffer_deinit(&f->buffer);
    arena_deinit(&f->arena);
    free(f);
    return 0;
}

etag_str payload_of(const struct message_fixture *f)
{
    etag_str payload = {0};

    assert_int_equal(frame_next((etag_str){(const char *)f->buffer.bytes, f->buffer.len}, &payload),
                     1);
    assert_int_equal(payload.len + FRAME_HEADER_BYTES, f->buffer.len);
    return payload;
}

const char *request_over(struct message_fixture *f, const struct request *in, struct request *out)
{
    f->buffer.len = 0;
    arena_reset(&f->arena);
    assert_int_equal(request_encode(&f->buffer, in), 0);
    return request_decode(out, &f->arena, payload_of(f));
}

const char *reply_over(struct message_fixture *f, const struct reply *in, struct reply *out)
{
    f->buffer.len = 0;
    arena_reset(&f->arena);
    assert_int_equal(reply_encode(&f->buffer, in), 0);
    return reply_decode(out, &f->arena, payload_of(f));
}
