/* SPDX-License-Identifier: Apache-2.0 */
/* Cleanup attributes: a local that owns something frees it at the end of its scope. take_fd() and
 * take_ptr() hand ownership over and leave an empty value. */
#ifndef ETAG_PROTO_CLEANUP_H
#define ETAG_PROTO_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(f) __attribute__((cleanup(f)))
#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

static inline void cleanup_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}

static inline void cleanup_file(FILE **f)
{
    if (*f)
        fclose(*f);
}

static inline void cleanup_dir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

/* Returns the descriptor and sets the variable to -1. */
static inline int take_fd(int *fd)
{
    const int taken = *fd;

    *fd = -1;
    return taken;
}

/* Returns the pointer and sets the variable to NULL. */
#define take_ptr(p)                                                                                \
    ({                                                                                             \
        __typeof__(p) *take_ptr_ = &(p);                                                           \
        __typeof__(p) taken_ = *take_ptr_;                                                         \
        *take_ptr_ = NULL;                                                                         \
        taken_;                                                                                    \
    })

#endif
