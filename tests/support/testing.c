/* SPDX-License-Identifier: Apache-2.0 */
#include "testing.h"

bool under_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");

    return preload && strstr(preload, "vgpreload");
}

uint64_t random_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t random_next(uint64_t *seed)
{
    return random_mix((*seed)++);
}

uint64_t test_rounds(uint64_t usual)
{
    const char *const said = getenv("ETAGD_TEST_ROUNDS");

    return said ? strtoull(said, NULL, 10) : usual;
}
