/* SPDX-License-Identifier: Apache-2.0 */
/* A spool for tests of the library: the directory as a daemon makes it, and a look at what writers
 * left in it. */
#ifndef ETAG_TESTS_FAKE_SPOOL_H
#define ETAG_TESTS_FAKE_SPOOL_H

#include "message.h"
#include "spool_format.h"
#include "testing.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAKE_SPOOL_ID UINT64_C(0xfeedfeedfeedfeed)
#define FAKE_SOCKET_NAME "etagd.sock"

struct fake_spool {
    char path[128];
    struct spool_mark mark;
};

void fake_spool_write(const struct fake_spool *spool, const char *name, const void *bytes,
                      size_t len, mode_t mode);

/* Writes the mark anew, by rename as a daemon does. */
void fake_spool_mark(const struct fake_spool *spool);

/* Beside a socket in this directory. */
void fake_spool_make(struct fake_spool *spool, const char *dir, uint64_t lease_ns);

/* Takes every step-th name of an event: links to one file, which is quick. */
void fake_spool_fill(const struct fake_spool *spool, uint32_t step);

/* How many names of that kind there are, and the last one's. last: may be NULL. */
int fake_spool_count(const struct fake_spool *spool, enum spool_name kind, char *last);

/* The only event in it. What is decoded borrows from 'arena' and static memory. */
void fake_spool_event(const struct fake_spool *spool, struct arena *arena, struct request *out);

void fake_spool_remove(struct fake_spool *spool);

#endif
