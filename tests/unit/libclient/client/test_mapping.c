/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that must not be trusted is refused with a sentence; what is mapped is aligned and
 * read-only. */
#include "fake_daemon.h"
#include "mapping.h"

static struct mapping_source source_of(struct index *index)
{
    return (struct mapping_source){.index_fd = index_fd(index),
                                   .counters_fd = -1,
                                   .index_bytes = index_bytes(index),
                                   .incarnation_id = FAKE_INCARNATION};
}

TEST(maps_aligned_and_read_only)
{
    struct index *index = fake_index(FAKE_INCARNATION);
    struct mapping mapping;
    struct fault fault;
    const struct mapping_source source = source_of(index);

    assert_int_equal(mapping_open(&mapping, &source, &fault), ETAG_OK);
    assert_int_equal((uintptr_t)mapping.base % LAYOUT_ALIGN, 0);
    assert_int_equal(mapping.view.clock_count, CLOCKS_MIN);
    shm_lsn_store(index_view(index), 4711);
    assert_int_equal(shm_lsn_load(&mapping.view), 4711);
    assert_int_equal(mprotect(mapping.base, 4096, PROT_READ | PROT_WRITE), -1);
    assert_null(mapping.counters);
    mapping_close(&mapping);
    assert_null(mapping.base);
    index_close(index);
}

static void expect_refused(const struct mapping_source *source, etag_status status,
                           const char *sentence)
{
    struct mapping mapping;
    struct fault fault;

    assert_int_equal(mapping_open(&mapping, source, &fault), status);
    assert_int_equal(fault.status, status);
    if (!strstr(fault.text, sentence))
        fail_msg("\"%s\" is not in \"%s\"", sentence, fault.text);
    assert_null(mapping.base);
    assert_null(mapping.counters);
}

TEST(refuses_wrong_sizes_and_seals)
{
    struct index *index = fake_index(FAKE_INCARNATION);
    struct mapping_source source = source_of(index);

    source.index_bytes++;
    expect_refused(&source, ETAG_PROTOCOL, "its hello said");
    source.index_bytes -= 2;
    expect_refused(&source, ETAG_PROTOCOL, "its hello said");

    source.index_fd = fake_memory(8192, F_SEAL_GROW);
    source.index_bytes = 8192;
    expect_refused(&source, ETAG_PROTOCOL, "not sealed");
    close(source.index_fd);
    source.index_fd = fake_memory(8192, F_SEAL_SHRINK);
    expect_refused(&source, ETAG_PROTOCOL, "not sealed");
    close(source.index_fd);
    source.index_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    expect_refused(&source, ETAG_PROTOCOL, "not sealed");
    close(source.index_fd);
    source.index_fd = fake_memory(100, F_SEAL_SHRINK | F_SEAL_GROW);
    source.index_bytes = 100;
    expect_refused(&source, ETAG_PROTOCOL, "impossible size");
    close(source.index_fd);
    index_close(index);
}

/* The header with one word changed, in memory of its own. */
static void expect_header_refused(struct index *index, size_t offset, uint64_t word)
{
    struct mapping_source source = source_of(index);

    source.index_fd = fake_memory(source.index_bytes, F_SEAL_SHRINK | F_SEAL_GROW);
    struct layout_header header = *index_view(index)->header;
    memcpy((char *)&header + offset, &word, sizeof(word));
    assert_int_equal(pwrite(source.index_fd, &header, sizeof(header), 0), sizeof(header));
    expect_refused(&source, ETAG_PROTOCOL, "cannot be used");
    close(source.index_fd);
}

TEST(refuses_headers_that_lie)
{
    struct index *index = fake_index(FAKE_INCARNATION);

    expect_header_refused(index, offsetof(struct layout_header, magic), 1);
    expect_header_refused(index, offsetof(struct layout_header, version), 99);
    expect_header_refused(index, offsetof(struct layout_header, home_count), UINT64_MAX);
    expect_header_refused(index, offsetof(struct layout_header, pool_offset), UINT64_MAX - 4095);
    expect_header_refused(index, offsetof(struct layout_header, incarnation_id), 5);
    index_close(index);
}

/* ---- A daemon that writes while its index is looked at ---- */

/* Where to write, once, as soon as a header was found good; -1: nowhere. */
static int lying_fd = -1;

const char *__real_layout_validate(const struct layout_header *header, size_t mapped_bytes);
const char *__wrap_layout_validate(const struct layout_header *header, size_t mapped_bytes);
const char *__wrap_layout_validate(const struct layout_header *header, size_t mapped_bytes)
{
    const char *wrong = __real_layout_validate(header, mapped_bytes);

    if (!wrong && lying_fd >= 0) {
        struct layout_header other;
        memset(&other, 0xff, sizeof(other));
        assert_int_equal(pwrite(lying_fd, &other, sizeof(other), 0), sizeof(other));
        lying_fd = -1;
    }
    return wrong;
}

/* The geometry was read again after it had been checked, and the second reading was followed. */
TEST(header_changed_behind_the_check_is_not_followed)
{
    struct index *index = fake_index(FAKE_INCARNATION);
    const struct layout_header header = *index_view(index)->header;
    struct mapping_source source = source_of(index);
    struct mapping mapping;
    struct fault fault;

    source.index_fd = fake_memory(source.index_bytes, F_SEAL_SHRINK | F_SEAL_GROW);
    assert_int_equal(pwrite(source.index_fd, &header, sizeof(header), 0), sizeof(header));

    lying_fd = source.index_fd;
    assert_int_equal(mapping_open(&mapping, &source, &fault), ETAG_OK);
    assert_int_equal(lying_fd, -1);
    assert_int_equal(mapping.view.header->home_count, UINT64_MAX);
    assert_int_equal(mapping.view.home_count, header.home_count);
    assert_int_equal(mapping.view.slot_count, header.home_count + HOP_WINDOW - 1);
    assert_int_equal(mapping.view.clock_count, header.clock_count);
    assert_int_equal(mapping.view.pool_units, header.pool_units);
    assert_ptr_equal(mapping.view.pool, (uint8_t *)mapping.base + header.pool_offset);
    assert_ptr_equal(mapping.view.clocks, (uint8_t *)mapping.base + header.clocks_offset);
    mapping_close(&mapping);
    close(source.index_fd);
    index_close(index);
}

TEST(maps_counters)
{
    struct mapping mapping;
    struct fault fault;
    struct mapping_source source = {
        .index_fd = -1,
        .counters_fd = fake_memory(COUNTERS_BYTES, F_SEAL_SHRINK | F_SEAL_GROW),
        .counters_bytes = COUNTERS_BYTES};
    uint64_t seen;

    assert_int_equal(mapping_open(&mapping, &source, &fault), ETAG_OK);
    assert_null(mapping.base);
    counter_add(&mapping.counters->checks, 7);
    assert_int_equal(
        pread(source.counters_fd, &seen, sizeof(seen), offsetof(struct counters, checks)),
        sizeof(seen));
    assert_int_equal(seen, 7);
    mapping_close(&mapping);
    source.counters_bytes = 2 * COUNTERS_BYTES;
    expect_refused(&source, ETAG_PROTOCOL, "its hello said");
    close(source.counters_fd);

    /* Of a newer daemon: ours are the first ones. */
    source.counters_fd = fake_memory(2 * COUNTERS_BYTES, F_SEAL_SHRINK | F_SEAL_GROW);
    assert_int_equal(mapping_open(&mapping, &source, &fault), ETAG_OK);
    assert_non_null(mapping.counters);
    mapping_close(&mapping);
    close(source.counters_fd);
    source.counters_bytes = COUNTERS_BYTES / 2;
    source.counters_fd = fake_memory(COUNTERS_BYTES / 2, F_SEAL_SHRINK | F_SEAL_GROW);
    assert_int_equal(mapping_open(&mapping, &source, &fault), ETAG_OK);
    assert_null(mapping.counters);
    close(source.counters_fd);
}

/* A good index with bad counters is not half adopted. */
TEST(refuses_as_a_whole)
{
    struct index *index = fake_index(FAKE_INCARNATION);
    struct mapping_source source = source_of(index);

    source.counters_bytes = COUNTERS_BYTES;
    source.counters_fd = fake_memory(COUNTERS_BYTES, 0);
    expect_refused(&source, ETAG_PROTOCOL, "page of counters is not sealed");
    close(source.counters_fd);
    index_close(index);
}

TEST(our_readings_bracket_the_hello)
{
    assert_true(hello_clock_bracketed(10, 10, 10));
    assert_true(hello_clock_bracketed(10, 11, 12));
    assert_false(hello_clock_bracketed(10, 9, 12));
    assert_false(hello_clock_bracketed(10, 13, 12));
}

TEST(a_lease_that_is_too_long_is_doubted)
{
    assert_true(lease_deadline_plausible(0, 100, 5));
    assert_true(lease_deadline_plausible(1100, 100, 1000));
    assert_true(lease_deadline_plausible(1100, 100, 5000));
    assert_false(lease_deadline_plausible(1100, 100, 999));
}
