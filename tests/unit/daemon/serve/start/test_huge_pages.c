/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that asks for huge pages, whether the kernel has them or not: the memory stays what it
 * is. */
#include "testing.h"

#include "huge_pages.h"
#include "layout.h"
#include "shm.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BYTES (6 * LAYOUT_ALIGN + 5 * 4096u)

struct region {
    uint8_t *base;
    struct log log;
};

static struct region region_make(void)
{
    struct region r;
    void *base = NULL;
    const int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, BYTES), 0);
    assert_int_equal(shm_map(&base, fd, BYTES, PROT_READ | PROT_WRITE), 0);
    close(fd);
    r.base = base;
    for (size_t i = 0; i < BYTES; i++)
        r.base[i] = (uint8_t)(i * 7 >> 3);
    r.log = (struct log){.fd = STDERR_FILENO, .least = LOG_ERROR};
    return r;
}

static void region_check(const struct region *r)
{
    for (size_t i = 0; i < BYTES; i++)
        if (r->base[i] != (uint8_t)(i * 7 >> 3))
            fail_msg("byte %zu changed", i);
    munmap(r->base, BYTES);
}

TEST(test_memory_stays)
{
    struct region r = region_make();
    struct huge_pages *huge = NULL;

    assert_int_equal(huge_pages_start(&huge, r.base, BYTES, HUGE_PAGES_AUTO, &r.log), 0);
    assert_non_null(huge);
    usleep(50000); /* long enough for some, perhaps for all */
    assert_null(huge_pages_stop(huge));
    region_check(&r);
}

TEST(test_stop_at_once)
{
    for (int i = 0; i < 20; i++) {
        struct region r = region_make();
        struct huge_pages *huge = NULL;
        assert_int_equal(huge_pages_start(&huge, r.base, BYTES, HUGE_PAGES_ON, &r.log), 0);
        assert_null(huge_pages_stop(huge));
        region_check(&r);
    }
}

TEST(test_off_and_nothing)
{
    struct region r = region_make();
    struct huge_pages *huge = NULL;

    assert_int_equal(huge_pages_start(&huge, r.base, BYTES, HUGE_PAGES_OFF, &r.log), 0);
    assert_null(huge);
    assert_null(huge_pages_stop(NULL));
    assert_int_equal(huge_pages_start(&huge, r.base, 4096, HUGE_PAGES_AUTO, &r.log), 0);
    assert_null(huge_pages_stop(huge)); /* smaller than a huge page */
    region_check(&r);
}
