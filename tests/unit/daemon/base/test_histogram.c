/* SPDX-License-Identifier: Apache-2.0 */
#include "histogram.h"
#include "testing.h"

#include <stdlib.h>

#define LONGEST_NS (UINT64_C(1) << HISTOGRAM_BITS)

/* The bucket into which one duration fell. */
static size_t bucket_with(uint64_t ns)
{
    struct histogram histogram = {0};
    size_t found = HISTOGRAM_BUCKETS;

    histogram_add(&histogram, ns);
    assert_true(histogram.sum_ns == ns);
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (histogram.counts[i] == 0)
            continue;
        assert_int_equal(histogram.counts[i], 1);
        assert_int_equal(found, HISTOGRAM_BUCKETS);
        found = i;
    }
    assert_in_range(found, 0, HISTOGRAM_BUCKETS - 1);
    return found;
}

TEST(bounds_grow_to_the_longest)
{
    for (size_t i = 1; i < HISTOGRAM_BUCKETS; i++)
        assert_true(histogram_upto_ns(i) > histogram_upto_ns(i - 1));
    assert_true(histogram_upto_ns(HISTOGRAM_BUCKETS - 1) == LONGEST_NS);
}

TEST(a_bound_is_the_last_of_its_bucket)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        assert_int_equal(bucket_with(histogram_upto_ns(i)), i);
        if (i + 1 < HISTOGRAM_BUCKETS)
            assert_int_equal(bucket_with(histogram_upto_ns(i) + 1), i + 1);
    }
}

TEST(powers_of_two_are_bounds)
{
    for (unsigned bits = 0; bits <= HISTOGRAM_BITS; bits++) {
        const uint64_t ns = UINT64_C(1) << bits;
        assert_true(histogram_upto_ns(bucket_with(ns)) == ns);
    }
}

TEST(what_is_read_off_is_at_most_an_eighth_too_long)
{
    for (uint64_t ns = 1; ns < LONGEST_NS; ns += 1 + ns / 97) {
        const uint64_t read_ns = histogram_upto_ns(bucket_with(ns));
        assert_true(read_ns >= ns);
        assert_true(read_ns - ns <= ns / HISTOGRAM_STEPS);
    }
}

TEST(nothing_and_for_ever_have_a_bucket_too)
{
    assert_int_equal(bucket_with(0), 0);
    assert_int_equal(bucket_with(LONGEST_NS + 1), HISTOGRAM_BUCKETS - 1);
    assert_int_equal(bucket_with(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}
