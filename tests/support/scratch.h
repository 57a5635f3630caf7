/* SPDX-License-Identifier: Apache-2.0 */
/* A directory for one test, and its removal with all that is in it. */
#ifndef ETAG_TESTS_SCRATCH_H
#define ETAG_TESTS_SCRATCH_H

#include "testing.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SCRATCH_BYTES 256

void scratch_make(char out[SCRATCH_BYTES]);

void scratch_remove(const char *path);

/* "path/name" in memory of the caller. */
const char *scratch_path(char out[2 * SCRATCH_BYTES], const char *path, const char *name);

#endif
