/* SPDX-License-Identifier: Apache-2.0 */
/* The slab against a list of what was taken from it. */
#include "testing.h"

#include "numbers.h"
#include "slab.h"

#include <string.h>

#define PIECES 20000u

struct piece {
    uint8_t *at;
    size_t len;
    uint8_t fill;
};

static void take(struct slab *slab, struct piece *piece, uint32_t random)
{
    piece->len = random % 700;
    piece->fill = (uint8_t)random;
    piece->at = slab_alloc(slab, piece->len);
    assert_non_null(piece->at);
    assert_int_equal((uintptr_t)piece->at % 16, 0);
    memset(piece->at, piece->fill, piece->len);
}

static void give(struct slab *slab, struct piece *piece)
{
    for (size_t i = 0; i < piece->len; i++)
        assert_int_equal(piece->at[i], piece->fill);
    slab_free(slab, piece->at);
    piece->at = NULL;
}

static void test_pieces_do_not_overlap(void **state)
{
    static struct piece pieces[PIECES];
    struct slab slab = {0};
    uint32_t random = 1;
    for (unsigned step = 0; step < 5 * PIECES; step++) {
        random = random * 1664525u + 1013904223u;
        struct piece *const piece = &pieces[(random >> 8) % PIECES];
        if (piece->at)
            give(&slab, piece);
        else
            take(&slab, piece, random);
    }
    for (size_t i = 0; i < PIECES; i++)
        if (pieces[i].at)
            give(&slab, &pieces[i]);
    assert_in_range(slab.chunk_count, 1, 2);
    slab_deinit(&slab);
}

static void test_a_burst_leaves_nothing_behind(void **state)
{
    static struct piece pieces[PIECES];
    struct slab slab = {0};
    for (int burst = 0; burst < 3; burst++) {
        for (uint32_t i = 0; i < PIECES; i++)
            take(&slab, &pieces[i], i * 2654435761u);
        assert_true(slab.chunk_count > PIECES * 300 / SLAB_CHUNK_BYTES);
        for (uint32_t i = 0; i < PIECES; i++)
            give(&slab, &pieces[i]);
        assert_in_range(slab.chunk_count, 1, 2);
    }
    slab_deinit(&slab);
    assert_int_equal(slab.chunk_count, 0);
}

/* One piece at a time: the same memory again and again. */
static void test_nothing_grows_without_need(void **state)
{
    struct slab slab = {0};
    for (unsigned i = 0; i < 100000; i++) {
        void *const piece = slab_alloc(&slab, 1000);
        assert_non_null(piece);
        slab_free(&slab, piece);
    }
    assert_int_equal(slab.chunk_count, 1);
    slab_deinit(&slab);
}

static void test_pieces_of_any_size(void **state)
{
    static const size_t sizes[] = {0,
                                   1,
                                   SLAB_CHUNK_BYTES / 2 - 1,
                                   SLAB_CHUNK_BYTES / 2,
                                   SLAB_CHUNK_BYTES / 2 + 1,
                                   SLAB_CHUNK_BYTES - 32,
                                   SLAB_CHUNK_BYTES - 16,
                                   SLAB_CHUNK_BYTES,
                                   5 * SLAB_CHUNK_BYTES + 1};
    enum { COUNT = COUNT_OF(sizes) };
    uint8_t *pieces[COUNT];
    struct slab slab = {0};
    for (size_t i = 0; i < COUNT; i++) {
        pieces[i] = slab_alloc(&slab, sizes[i]);
        assert_non_null(pieces[i]);
        memset(pieces[i], (int)i, sizes[i]);
    }
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t at = 0; at < sizes[i]; at++)
            assert_int_equal(pieces[i][at], i);
        slab_free(&slab, pieces[i]);
    }
    slab_free(&slab, NULL);
    assert_in_range(slab.chunk_count, 1, 2);
    assert_null(slab_alloc(&slab, SIZE_MAX));
    slab_deinit(&slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_do_not_overlap),
        cmocka_unit_test(test_a_burst_leaves_nothing_behind),
        cmocka_unit_test(test_nothing_grows_without_need),
        cmocka_unit_test(test_pieces_of_any_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
