/* SPDX-License-Identifier: Apache-2.0 */
#include "store_fixture.h"

void store_fixture_place(struct store_fixture *at)
{
    scratch_make(at->scratch);
    (void)scratch_path(at->dir, at->scratch, "state");
}

void store_fixture_make(struct store_fixture *at, uint64_t map_bytes, uint32_t clock_count)
{
    const struct store_meta meta = {.incarnation = 1, .hash_key = {1}, .clock_count = clock_count};

    store_fixture_place(at);
    assert_int_equal(store_fixture_open(at, map_bytes), 0);
    assert_int_equal(store_meta_write(at->store, &meta), 0);
}

int store_fixture_open(struct store_fixture *at, uint64_t map_bytes)
{
    const struct store_options options = {.state_dir = at->dir, .map_bytes = map_bytes};

    return store_open(&at->store, &options, &at->why);
}

void store_fixture_remove(struct store_fixture *at)
{
    at->store = store_close(at->store);
    scratch_remove(at->scratch);
}
