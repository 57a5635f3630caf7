/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spool as both ends see it: a directory beside the socket, of the socket's group and with a
 * mode that lets
 * in whom the socket's lets in (0660: 3730, 0666: 3733), in which writers leave the mutations that
 * the daemon did not take. Names, and the mark; what does the I/O is libclient/write/spool_writer.c
 * and daemon/serve/spool/spool.c.
 *
 *   mark       the daemon's, text: that this is a spool, whose, L, and which uids' files count.
 *              Replaced by rename
 *   lock       the daemon's, held while it runs
 *   former     the daemon's, a mark too: whose files counted until the roles changed, for the
 *              daemon that comes next. Gone when their events are safe. Writers do not read it
 *   reserve-0, reserve-1
 *              the daemon's: room for a mark where others have used up the file system's
 *   e000-efff  one event each: a frame as on the socket (INVALIDATE or GUARD_*). Made under another
 *              name, then renamed without replacing: a name that is taken is tried elsewhere
 *   all-00-3f  "purge everything", content ignored: where no e-name is free, or no space for
 *              content. Renamed over what its owner had left there
 *   taken-00-3f  an all-file that the daemon took: nobody renames onto it
 *   t-*        a writer's file before its rename: nobody's event yet
 *
 * A fixed set of names bounds the directory without anybody counting it, and lets the daemon find
 * every event in bounded time, whatever else a local user puts there: by asking for each name.
 *
 * A file is an event only if it is regular, has at most SPOOL_FILE_BYTES_MAX, and an owner that the
 * mark names.
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
/* Of the mark, in its first line, and of what stands in the files: it changes with either. A writer
 * uses no spool of another version. A daemon that finds one starts cold, since it may miss what a
 * file there means; of its mark it reads the first lines, up to linger_ns, which are the same in
 * every version: for how long the former daemon's promises may hold. */
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

/* Of the directory, by the socket's: writing in it is what connecting is there. Nobody but the
 * daemon may list it, and a name is its owner's (sticky). */
static inline uint32_t spool_dir_mode(uint32_t socket_mode)
{
    const uint32_t all = SPOOL_DIR_MODE & ~033u;

    return all | (socket_mode & 020 ? 030 : 0) | (socket_mode & 02 ? 03 : 0);
}

/* What a name means; *number: which of its kind. */
enum spool_name spool_name_parse(const char *name, uint32_t *number);
/* EVENT, ALL or TAKEN; number: below SPOOL_SLOTS or SPOOL_ALL_SLOTS. */
void spool_name_make(enum spool_name kind, uint32_t number, char out[SPOOL_NAME_BYTES]);

/* Garbage that was set aside, for people to look at: number below SPOOL_SET_ASIDE_MAX. To the
 * parser it is FOREIGN. */
void spool_set_aside_make(uint32_t number, char out[SPOOL_NAME_BYTES]);
MUST_USE bool spool_name_is_set_aside(const char *name);

/* The spool of a socket: "dir/spool" for "dir/x.sock". False: it does not fit into out. */
MUST_USE bool spool_path_of(const char *socket_path, char *out, size_t out_bytes);

/* The name of the socket at a path, without its directory. */
const char *spool_socket_name(const char *socket_path);

struct spool_mark {
    /* that it was read as. Of another one than SPOOL_VERSION only id, socket, lease_ns and
     * linger_ns are known */
    uint32_t version;
    /* of this spool, random, kept over restarts; never 0 */
    uint64_t id;
    /* the name of its socket: with another one it is another daemon\'s */
    char socket[SPOOL_SOCKET_BYTES];
    /* the longest lease that may run: a writer waits so long after its rename */
    uint64_t lease_ns;
    /* guard_linger */
    uint64_t linger_ns;
    /* durability: a file and its name are synced before they count */
    bool power;
    /* a mutation that asks for no reach wants ETAG_REACH_LOG, else HOST */
    bool log_reach;
    /* every uid's files count */
    bool anybody;
    /* the daemon's uid: whoever sees another owner of the mark is in a user namespace, and so are
     * its own uids others */
    uint32_t owner;
    /* the overflow uid, whose files never count: it stands for uids that are not known */
    uint32_t nobody;
    /* hash of the role rules that the uids come from */
    uint64_t rules;
    /* So often somebody whose files counted stopped counting. A writer that reads another number
     * after its rename than before may have renamed while its files did not count, though they do
     * again */
    uint64_t changes;
    /* uids whose files count */
    uint32_t writers[SPOOL_WRITERS_MAX];
    size_t writer_count;
};

/* The text, of SPOOL_VERSION; its length. out: SPOOL_MARK_BYTES_MAX bytes, which always suffice. */
MUST_USE size_t spool_mark_format(const struct spool_mark *mark, char out[SPOOL_MARK_BYTES_MAX]);
/* False: it is no mark, or not whole. */
MUST_USE bool spool_mark_parse(etag_str text, struct spool_mark *out);

/* A file of this uid counts. (The overflow uid's never does.) */
MUST_USE bool spool_mark_counts(const struct spool_mark *mark, uint32_t uid);

#endif
