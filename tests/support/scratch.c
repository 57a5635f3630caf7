/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

void scratch_make(char out[SCRATCH_BYTES])
{
    const char *base = getenv("TMPDIR");
    const int len = snprintf(out, SCRATCH_BYTES, "%s/etagd-unit-XXXXXX", base ? base : P_tmpdir);

    assert_in_range(len, 1, SCRATCH_BYTES - 1);
    assert_non_null(mkdtemp(out));
}

static int scratch_remove_one(const char *path, const struct stat *status, int type, struct FTW *at)
{
    return remove(path);
}

void scratch_remove(const char *path)
{
    assert_int_equal(nftw(path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

const char *scratch_path(char out[2 * SCRATCH_BYTES], const char *path, const char *name)
{
    assert_in_range(snprintf(out, 2 * SCRATCH_BYTES, "%s/%s", path, name), 1,
                    2 * SCRATCH_BYTES - 1);
    return out;
}
