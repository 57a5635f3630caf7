/* SPDX-License-Identifier: Apache-2.0 */
#include "cursor.h"

#include "snapshot.h"
#include "testing.h"

#include <errno.h>

static struct engine_poll a_poll(uint64_t *running, size_t count)
{
    return (struct engine_poll){
        .origin = {UINT64_MAX, 1234567890123456, 7, 16384},
        .witnessed = true,
        .witness = {{1, 2, 3, 255}},
        .digest = UINT64_MAX,
        .snapshot = {.next = UINT64_C(1) << 40, .running = running, .running_count = count},
    };
}

TEST(it_comes_back_as_it_was)
{
    uint64_t running[] = {3, 4, 1000000};
    const struct engine_poll poll = a_poll(running, 3);
    struct cursor before = {0}, after = {0};
    uint8_t bytes[CURSOR_BYTES_MAX];

    assert_int_equal(cursor_set(&before, &poll), 0);
    const size_t len = cursor_pack(&before, bytes);
    assert_int_equal(cursor_unpack(&after, (etag_str){(const char *)bytes, len}), 0);
    assert_true(after.there);
    assert_memory_equal(&after.origin, &poll.origin, sizeof(poll.origin));
    assert_true(after.witnessed);
    assert_memory_equal(&after.witness, &poll.witness, sizeof(poll.witness));
    assert_int_equal(after.digest, poll.digest);
    assert_int_equal(after.snapshot.next, poll.snapshot.next);
    assert_int_equal(after.snapshot.running_count, 3);
    assert_memory_equal(after.snapshot.running, running, sizeof(running));
    cursor_deinit(&before);
    cursor_deinit(&after);
}

/* Whatever the daemon kept, or another release wrote: an error, or something that can be used. */
TEST(no_bytes_of_others_are_believed)
{
    uint64_t running[] = {3, 4, 1000000};
    const struct engine_poll poll = a_poll(running, 3);
    struct cursor cursor = {0};
    uint8_t bytes[CURSOR_BYTES_MAX];

    assert_int_equal(cursor_set(&cursor, &poll), 0);
    const size_t len = cursor_pack(&cursor, bytes);
    for (size_t cut = 1; cut < len; cut++) {
        assert_int_equal(cursor_unpack(&cursor, (etag_str){(const char *)bytes, cut}), -EPROTO);
        assert_false(cursor.there);
    }
    bytes[len] = 0;
    assert_int_equal(cursor_unpack(&cursor, (etag_str){(const char *)bytes, len + 1}), -EPROTO);
    bytes[0] ^= 1;
    assert_int_equal(cursor_unpack(&cursor, (etag_str){(const char *)bytes, len}), -EPROTO);
    uint64_t seed = 1;
    for (unsigned i = 0; i < 20000; i++) {
        for (size_t at = 0; at < 48; at++)
            bytes[at] = (uint8_t)random_next(&seed);
        bytes[0] = 1;
        if (cursor_unpack(&cursor, (etag_str){(const char *)bytes, 48}) == 0)
            for (size_t at = 0; at < cursor.snapshot.running_count; at++)
                assert_false(snapshot_covers(&cursor.snapshot, cursor.snapshot.running[at]));
    }
    cursor_deinit(&cursor);
}

TEST(no_bytes_are_no_cursor)
{
    struct cursor cursor = {0};

    assert_int_equal(cursor_unpack(&cursor, ETAG_LIT("")), 0);
    assert_false(cursor.there);
}

/* As many running positions as there may be, as far apart as they can be. */
TEST(the_largest_one_fits)
{
    uint64_t *const running = calloc(ENGINE_RUNNING_MAX, sizeof(*running));

    assert_non_null(running);
    for (size_t i = 0; i < ENGINE_RUNNING_MAX; i++)
        running[i] = i << 51;
    struct engine_poll poll = a_poll(running, ENGINE_RUNNING_MAX);
    struct cursor before = {0}, after = {0};
    uint8_t bytes[CURSOR_BYTES_MAX];

    poll.snapshot.next = UINT64_MAX;
    assert_int_equal(cursor_set(&before, &poll), 0);
    const size_t len = cursor_pack(&before, bytes);
    assert_true(len <= CURSOR_BYTES_MAX);
    assert_int_equal(cursor_unpack(&after, (etag_str){(const char *)bytes, len}), 0);
    assert_int_equal(after.snapshot.running_count, ENGINE_RUNNING_MAX);
    assert_memory_equal(after.snapshot.running, running, ENGINE_RUNNING_MAX * sizeof(*running));
    cursor_deinit(&before);
    cursor_deinit(&after);
    free(running);
}

/* Each a byte: they would fit. */
TEST(more_running_positions_than_there_may_be)
{
    struct engine_poll poll = a_poll(NULL, 0);
    struct cursor cursor = {0};
    static uint8_t bytes[CURSOR_BYTES_MAX];

    assert_int_equal(cursor_set(&cursor, &poll), 0);
    size_t len = cursor_pack(&cursor, bytes) - 1; /* without their number, 0 */
    bytes[len++] = (uint8_t)((ENGINE_RUNNING_MAX + 1) & 0x7f) | 0x80;
    bytes[len++] = (ENGINE_RUNNING_MAX + 1) >> 7;
    memset(bytes + len, 1, ENGINE_RUNNING_MAX + 1);
    len += ENGINE_RUNNING_MAX + 1;
    assert_int_equal(cursor_unpack(&cursor, (etag_str){(const char *)bytes, len}), -EPROTO);
    assert_false(cursor.there);
}
