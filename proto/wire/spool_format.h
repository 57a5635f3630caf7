/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The format of the spool, for both ends: a directory beside the socket in which writers leave the
 * mutations that the daemon did not take. It has the socket's group, and a mode that admits the
 * same users as the socket's (0660: 3730, 0666: 3733). This module has the names and the mark;
 * libclient/write/spool_writer.c and daemon/serve/spool/spool.c do the I/O.
 *
 *   mark       the daemon's, text: says that this is a spool, of which daemon, L, and which uids'
 *              files count. Replaced by rename
 *   lock       the daemon's, held while it runs
 *   former     the daemon's, also a mark: names those whose files counted until the roles changed,
 *              for the next daemon. Removed when their events are safe. Writers do not read it
 *   reserve-0, reserve-1
 *              the daemon's: reserve room for a mark when others have filled the file system
 *   e000-efff  one event each: a frame as on the socket (INVALIDATE or GUARD_*). Made under another
 *              name, then renamed without replacing; if the name is taken, the writer tries another
 *   all-00-3f  "purge everything", content ignored: used if no e-name is free, or no space for
 *              content. A writer may rename it over one of its own
 *   taken-00-3f  an all-file that the daemon took: no writer renames onto it
 *   t-*        a writer's file before its rename: not an event yet
 *
 * A fixed set of names bounds the number of events without a counter, and lets the daemon find
 * every event in bounded time, by opening each name, whatever else a local user puts there.
 *
 * A file is an event only if it is regular, has at most SPOOL_FILE_BYTES_MAX, and belongs to a user
 * that the mark names.
 */
#ifndef ETAG_PROTO_SPOOL_FORMAT_H
#define ETAG_PROTO_SPOOL_FORMAT_H

#include "bounds.h"
#include "cleanup.h"

#include <etag/etag.h>

#define SPOOL_DIR_NAME "spool"
#define SPOOL_MARK_NAME "mark"
#define SPOOL_LOCK_NAME "lock"
#define SPOOL_FORMER_NAME "former"
#define SPOOL_TEMP_PREFIX "t-"
#define SPOOL_RESERVE_PREFIX "reserve-"
#define SPOOL_RESERVES 2u
#define SPOOL_SET_ASIDE_MAX 16u
#define SPOOL_DIR_MODE 03733 /* where everybody may connect */
#define SPOOL_FILE_MODE 0640
#define SPOOL_NAME_BYTES 16
#define SPOOL_SOCKET_BYTES 108
/* The version of the mark, in its first line, and of the files' content; it changes with either. A
 * writer does not use a spool of another version. A daemon that finds one starts cold, since it may
 * not understand its files. It reads only the first lines of that mark, up to linger_ns, which are
 * the same in every version: they say how long the former daemon's promises may last. */
#define SPOOL_VERSION 2u

enum spool_name {
    /* none of ours */
    SPOOL_NAME_FOREIGN,
    SPOOL_NAME_EVENT,
    SPOOL_NAME_ALL,
    SPOOL_NAME_TAKEN,
    SPOOL_NAME_TEMP,
    /* mark, lock, former, reserve-* */
    SPOOL_NAME_OWN,
};

/* Returns the mode of the directory for the mode of the socket: users who may connect may write
 * files. Only the daemon may list the directory, and only a file's owner may rename or remove it
 * (sticky). */
static inline uint32_t spool_dir_mode(uint32_t socket_mode)
{
    const uint32_t all = SPOOL_DIR_MODE & ~033u;

    return all | (socket_mode & 020 ? 030 : 0) | (socket_mode & 02 ? 03 : 0);
}

/* Returns the kind of a name; *number: its number within the kind. */
enum spool_name spool_name_parse(const char *name, uint32_t *number);
/* Makes a name of kind EVENT, ALL or TAKEN; number: below SPOOL_SLOTS or SPOOL_ALL_SLOTS. */
void spool_name_make(enum spool_name kind, uint32_t number, char out[SPOOL_NAME_BYTES]);

/* Names of garbage that the daemon set aside for people to inspect; number: below
 * SPOOL_SET_ASIDE_MAX. spool_name_parse() returns FOREIGN for them. */
void spool_set_aside_make(uint32_t number, char out[SPOOL_NAME_BYTES]);
MUST_USE bool spool_name_is_set_aside(const char *name);

/* Makes the path of a socket's spool: "dir/spool" for "dir/x.sock". Returns false if it does not
 * fit into out. */
MUST_USE bool spool_path_of(const char *socket_path, char *out, size_t out_bytes);

/* Returns the file name in a socket's path. */
const char *spool_socket_name(const char *socket_path);

struct spool_mark {
    /* the version of the text. If it is not SPOOL_VERSION, only id, socket, lease_ns and linger_ns
     * are set */
    uint32_t version;
    /* id of this spool, random, kept over restarts; never 0 */
    uint64_t id;
    /* file name of its socket; the mark of another socket is another daemon's */
    char socket[SPOOL_SOCKET_BYTES];
    /* the longest lease that may still run; a writer waits this long after its rename */
    uint64_t lease_ns;
    /* guard_linger */
    uint64_t linger_ns;
    /* durability "power": a writer syncs a file and its name before it relies on them */
    bool power;
    /* the default reach of a mutation is ETAG_REACH_LOG, else HOST */
    bool log_reach;
    /* the files of every uid count */
    bool anybody;
    /* the daemon's uid. A process that sees another owner of the mark is in a user namespace, where
     * uids have other numbers */
    uint32_t owner;
    /* the overflow uid, which the kernel shows for uids that it cannot map; its files never
     * count */
    uint32_t nobody;
    /* hash of the role rules from which the uids were taken */
    uint64_t rules;
    /* how often a uid whose files counted stopped counting. If a writer reads another number after
     * its rename than before, its files may not have counted at the time of the rename, even if
     * they do again */
    uint64_t changes;
    /* uids whose files count */
    uint32_t writers[SPOOL_WRITERS_MAX];
    size_t writer_count;
};

/* Writes the text of the mark, of SPOOL_VERSION, and returns its length. out: SPOOL_MARK_BYTES_MAX
 * bytes, which always suffice. */
MUST_USE size_t spool_mark_format(const struct spool_mark *mark, char out[SPOOL_MARK_BYTES_MAX]);
/* Parses the text. Returns false if it is no mark, or not a whole one. */
MUST_USE bool spool_mark_parse(etag_str text, struct spool_mark *out);

/* Returns whether files of this uid count; those of the overflow uid never do. */
MUST_USE bool spool_mark_counts(const struct spool_mark *mark, uint32_t uid);

#endif
