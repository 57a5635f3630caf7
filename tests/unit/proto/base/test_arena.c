/* SPDX-License-Identifier: Apache-2.0 */
#include "arena.h"

#include "testing.h"

#include <string.h>

TEST(pieces_are_aligned_and_apart)
{
    struct arena arena;

    arena_init(&arena, 1u << 20);
    unsigned char *pieces[200];
    for (size_t i = 0; i < 200; i++) {
        pieces[i] = arena_alloc(&arena, 3 * i);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        memset(pieces[i], (int)i, 3 * i);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t j = 0; j < 3 * i; j++)
            assert_int_equal(pieces[i][j], i);
    arena_deinit(&arena);
}

TEST(the_bound_holds_to_the_byte)
{
    struct arena arena;

    arena_init(&arena, 100);
    assert_null(arena_alloc(&arena, 101));
    assert_non_null(arena_alloc(&arena, 96));
    assert_null(arena_alloc(&arena, 5));
    assert_non_null(arena_alloc(&arena, 4));
    assert_null(arena_alloc(&arena, 1));
    arena_reset(&arena);
    assert_non_null(arena_alloc(&arena, 100));
    arena_deinit(&arena);
}

/* An empty array is not a failure. */
TEST(nothing_is_a_pointer_too)
{
    struct arena arena;

    arena_init(&arena, 16);
    assert_non_null(arena_alloc(&arena, 0));
    assert_non_null(arena_array(&arena, 0, 8));
    assert_non_null(arena_alloc(&arena, 16));
    arena_deinit(&arena);
}

TEST(huge_sizes_do_not_wrap)
{
    struct arena arena;

    arena_init(&arena, PTRDIFF_MAX);
    assert_null(arena_array(&arena, SIZE_MAX / 2, 3));
    arena_deinit(&arena);
    arena_init(&arena, 4096);
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc(&arena, SIZE_MAX - 14));
    assert_null(arena_array(&arena, SIZE_MAX / 8 + 1, 8));
    arena_deinit(&arena);
}

TEST(reset_keeps_the_first_block_only)
{
    struct arena arena;

    arena_init(&arena, 1u << 20);
    void *const first = arena_alloc(&arena, 64);
    for (int i = 0; i < 10; i++)
        assert_non_null(arena_alloc(&arena, 20000));
    assert_true(arena.used_bytes >= 200000);
    arena_reset(&arena);
    assert_int_equal(arena.used_bytes, 0);
    assert_ptr_equal(arena_alloc(&arena, 64), first);
    assert_ptr_equal(arena.first, arena.last);
    arena_deinit(&arena);
    arena_reset(&arena); /* an empty one */
    assert_null(arena.first);
}

TEST(arrays_are_zeroed)
{
    struct arena arena;

    arena_init(&arena, 1u << 16);
    memset(arena_alloc(&arena, 4096), 0xaa, 4096);
    arena_reset(&arena);
    const uint32_t *numbers = arena_array(&arena, 1024, sizeof(*numbers));
    for (size_t i = 0; i < 1024; i++)
        assert_int_equal(numbers[i], 0);
    arena_deinit(&arena);
}
