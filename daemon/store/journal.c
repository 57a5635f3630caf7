/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file: two halves of JOURNAL_HALF_BYTES, each a header and records, aligned to 8.
 *
 *   header  0 magic, 8 u32 version, 12 u32 bytes of a half, 16 nonce, 32 u64 sequence, 40 u64 inode
 *           of the file, 48 u64 checksum of these (key: the nonce), 56 u64 extent
 *   record  0 u32 length, 4 u32 zero, 8 u64 checksum of what follows (key: the nonce), 16 u64 LSN,
 *           24 bytes
 *
 * The extent says how many bytes of records are valid, with a check in the upper half of the word.
 * One store of this word publishes a record, after its bytes are written. So if the daemon is
 * killed in the middle of a record, the journal lacks the record and its writer has no answer; and
 * bytes from an earlier use of the half are not valid.
 *
 * The inode in the header tells the file from a copy of it that was made while events still came.
 */
#include "journal.h"

#include "bounds.h"
#include "bytes.h"
#include "config.h"
#include "delay_point.h"
#include "numbers.h"
#include "owned.h"
#include "siphash.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define JOURNAL_SUFFIX ".journal"
#define JOURNAL_MAGIC UINT64_C(0x4c4e524a67617465) /* "etagJRNL" */
#define JOURNAL_VERSION 1u
#define HEAD_BYTES 64
#define RECORD_HEAD_BYTES 24
#define ROOM_BYTES (JOURNAL_HALF_BYTES - HEAD_BYTES)

/* The extent of a half that is about to be begun: no events, and no header to be looked at. */
#define EXTENT_BLANK UINT64_MAX

struct half {
    uint8_t *base;
    /* bytes of records */
    size_t used;
    /* 0: no event */
    uint64_t last_lsn;
};

struct journal {
    uint8_t *map;
    uint8_t nonce[JOURNAL_NONCE_BYTES];
    uint64_t inode;
    /* of the half in use */
    uint64_t sequence;
    struct half halves[2];
    struct half *current;
    uint64_t appended_lsn, stored_lsn;
};

static size_t record_bytes(size_t len)
{
    return RECORD_HEAD_BYTES + (len + 7) / 8 * 8;
}

/* ---- The word that publishes ---- */

static uint64_t extent_of(const uint8_t nonce[JOURNAL_NONCE_BYTES], size_t used)
{
    const uint32_t bytes = (uint32_t)used;

    return siphash13_64(nonce, &bytes, sizeof(bytes)) << 32 | bytes;
}

/* What was written before it is in memory before it: whoever reads the file later sees both or not
 * the word. */
static void extent_store(const struct half *half, uint64_t extent)
{
    __atomic_store_n((uint64_t *)(void *)(half->base + 56), extent, __ATOMIC_RELEASE);
}

/* ---- Open ---- */

#define JOURNAL_PATH_BYTES (PATH_BYTES_MAX + sizeof(JOURNAL_SUFFIX))

static void journal_path(char out[JOURNAL_PATH_BYTES], const char *socket_path)
{
    (void)snprintf(out, JOURNAL_PATH_BYTES, "%s" JOURNAL_SUFFIX, socket_path);
}

bool journal_exists(const char *socket_path)
{
    char path[JOURNAL_PATH_BYTES];
    struct stat status;

    journal_path(path, socket_path);
    return lstat(path, &status) == 0;
}

static int journal_fd(const char *socket_path, int flags)
{
    char path[JOURNAL_PATH_BYTES];

    journal_path(path, socket_path);
    return owned_file_open(path, flags);
}

/* Where a write goes to new space each time, allocating it before does not help: a full disk would
 * be a SIGBUS. */
static bool keeps_allocated_space(int fd)
{
    static const uint32_t others[] = {
        0x9123683e /* btrfs */, 0x2fc12fc1 /* ZFS */,  0xca451a4e /* bcachefs */,
        0x6969 /* NFS */,       0x65735546 /* FUSE */,
    };

    return owned_fs_is_none_of(fd, others, COUNT_OF(others));
}

/* Begins a half: blank first, so that a daemon killed in between leaves a half without events, not
 * one with half a header. */
static void half_begin(struct journal *journal, struct half *half)
{
    uint8_t *head = half->base;

    extent_store(half, EXTENT_BLANK);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    store_u64(head, JOURNAL_MAGIC);
    store_u32(head + 8, JOURNAL_VERSION);
    store_u32(head + 12, JOURNAL_HALF_BYTES);
    memcpy(head + 16, journal->nonce, JOURNAL_NONCE_BYTES);
    store_u64(head + 32, ++journal->sequence);
    store_u64(head + 40, journal->inode);
    store_u64(head + 48, siphash13_64(journal->nonce, head, 48));
    half->used = 0;
    half->last_lsn = 0;
    extent_store(half, extent_of(journal->nonce, 0));
    journal->current = half;
}

static int journal_map(struct journal *journal, int fd)
{
    struct stat status;

    if (!keeps_allocated_space(fd))
        return -EOPNOTSUPP;
    if (fchmod(fd, 0600) < 0 || fstat(fd, &status) < 0)
        return -errno;
    const int r = posix_fallocate(fd, 0, (off_t)JOURNAL_FILE_BYTES);
    if (r)
        return -r;
    void *map = mmap(NULL, JOURNAL_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                     fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    journal->map = (uint8_t *)map;
    journal->inode = status.st_ino;
    return 0;
}

int journal_open(struct journal **out, const char *socket_path,
                 const uint8_t nonce[JOURNAL_NONCE_BYTES])
{
    *out = NULL;
    CLEANUP(cleanup_fd) int fd = journal_fd(socket_path, O_RDWR | O_CREAT);
    if (fd < 0)
        return fd;
    struct journal *journal = calloc(1, sizeof(*journal));
    if (!journal)
        return -ENOMEM;
    const int r = journal_map(journal, fd);
    if (r) {
        free(journal);
        return r;
    }
    assert(journal->map);
    memcpy(journal->nonce, nonce, JOURNAL_NONCE_BYTES);
    for (size_t i = 0; i < 2; i++) {
        journal->halves[i].base = journal->map + i * JOURNAL_HALF_BYTES;
        extent_store(&journal->halves[i], EXTENT_BLANK);
    }
    half_begin(journal, &journal->halves[0]);
    *out = journal;
    return 0;
}

struct journal *journal_close(struct journal *journal)
{
    if (!journal)
        return NULL;
    (void)munmap(journal->map, JOURNAL_FILE_BYTES);
    free(journal);
    return NULL;
}

/* ---- Append ---- */

/* Rule RECYCLE_AFTER_STORE. */
static bool half_is_free(const struct journal *journal, const struct half *half)
{
    return half->last_lsn <= journal->stored_lsn;
}

int journal_append(struct journal *journal, uint64_t lsn, etag_str record)
{
    const size_t bytes = record_bytes(record.len);
    struct half *half = journal->current;

    assert(lsn > journal->appended_lsn);
    if (bytes > ROOM_BYTES)
        return JOURNAL_E_FULL;
    if (bytes > ROOM_BYTES - half->used) {
        half = &journal->halves[half == &journal->halves[0]];
        if (!half_is_free(journal, half))
            return JOURNAL_E_FULL;
        half_begin(journal, half);
    }
    uint8_t *at = half->base + HEAD_BYTES + half->used;
    store_u32(at, (uint32_t)record.len);
    store_u32(at + 4, 0);
    store_u64(at + 16, lsn);
    if (record.len > 0)
        memcpy(at + RECORD_HEAD_BYTES, record.data, record.len);
    store_u64(at + 8, siphash13_64(journal->nonce, at + 16, sizeof(lsn) + record.len));
    half->used += bytes;
    half->last_lsn = journal->appended_lsn = lsn;
    DELAY_POINT("journal.bytes_extent");
    extent_store(half, extent_of(journal->nonce, half->used));
    return 0;
}

static etag_str half_find_lsn(const struct half *half, uint64_t lsn)
{
    const uint8_t *at = half->base + HEAD_BYTES;

    for (const uint8_t *end = at + half->used; at < end; at += record_bytes(load_u32(at)))
        if (load_u64(at + 16) == lsn)
            return (etag_str){(const char *)at + RECORD_HEAD_BYTES, load_u32(at)};
    return (etag_str){0};
}

etag_str journal_find(const struct journal *journal, uint64_t lsn)
{
    const etag_str found = half_find_lsn(&journal->halves[0], lsn);

    return found.data ? found : half_find_lsn(&journal->halves[1], lsn);
}

static int half_each(const struct half *half, uint64_t from_lsn,
                     int (*each)(void *ctx, uint64_t lsn, etag_str record), void *ctx)
{
    const uint8_t *at = half->base + HEAD_BYTES;

    for (const uint8_t *end = at + half->used; at < end; at += record_bytes(load_u32(at))) {
        const uint64_t lsn = load_u64(at + 16);
        const etag_str record = {(const char *)at + RECORD_HEAD_BYTES, load_u32(at)};
        const int r = lsn < from_lsn ? 0 : each(ctx, lsn, record);
        if (r)
            return r;
    }
    return 0;
}

int journal_each(const struct journal *journal, uint64_t from_lsn,
                 int (*each)(void *ctx, uint64_t lsn, etag_str record), void *ctx)
{
    const bool first_is_current = journal->current == &journal->halves[0];
    const int r = half_each(&journal->halves[first_is_current], from_lsn, each, ctx);

    return r ? r : half_each(journal->current, from_lsn, each, ctx);
}

void journal_stored(struct journal *journal, uint64_t lsn)
{
    if (lsn > journal->stored_lsn)
        journal->stored_lsn = lsn;
}

/* ---- Replay: of bytes that were read, not mapped, so that a truncated file is no SIGBUS ---- */

struct found_half {
    const uint8_t *bytes;
    const uint8_t *nonce;
    enum { HALF_BLANK, HALF_OURS, HALF_OTHER, HALF_DAMAGED } state;
    uint64_t sequence;
    size_t used;
    /* 0: no event */
    uint64_t first_lsn, last_lsn;
};

struct walk {
    int (*each)(void *ctx, uint64_t lsn, etag_str record);
    void *ctx;
};

/* Every record of a half. What does not check, or is not in order, is damage: it was published as a
 * whole. */
static int half_walk(struct found_half *half, const struct walk *walk)
{
    const uint8_t *at = half->bytes + HEAD_BYTES;
    size_t left = half->used;
    uint64_t lsn = 0;

    while (left > 0) {
        if (left < RECORD_HEAD_BYTES)
            return JOURNAL_E_DAMAGED;
        const size_t len = load_u32(at);
        if (record_bytes(len) > left || load_u32(at + 4) != 0 || load_u64(at + 16) <= lsn ||
            load_u64(at + 8) != siphash13_64(half->nonce, at + 16, sizeof(lsn) + len))
            return JOURNAL_E_DAMAGED;
        lsn = load_u64(at + 16);
        if (left == half->used)
            half->first_lsn = lsn;
        const etag_str record = {(const char *)at + RECORD_HEAD_BYTES, len};
        const int r = walk->each ? walk->each(walk->ctx, lsn, record) : 0;
        if (r)
            return r;
        at += record_bytes(len);
        left -= record_bytes(len);
    }
    half->last_lsn = lsn;
    return 0;
}

static void half_find(struct found_half *half, const uint8_t *bytes,
                      const uint8_t nonce[JOURNAL_NONCE_BYTES], uint64_t inode)
{
    const uint64_t extent = load_u64(bytes + 56);

    *half = (struct found_half){.bytes = bytes, .nonce = nonce, .state = HALF_DAMAGED};
    if (extent == EXTENT_BLANK) {
        half->state = HALF_BLANK;
        return;
    }
    if (load_u64(bytes) == JOURNAL_MAGIC && memcmp(bytes + 16, nonce, JOURNAL_NONCE_BYTES) != 0) {
        half->state = HALF_OTHER;
        return;
    }
    if (load_u64(bytes) != JOURNAL_MAGIC || load_u32(bytes + 8) != JOURNAL_VERSION ||
        load_u32(bytes + 12) != JOURNAL_HALF_BYTES || load_u64(bytes + 40) != inode ||
        load_u64(bytes + 48) != siphash13_64(nonce, bytes, 48))
        return;
    half->sequence = load_u64(bytes + 32);
    half->used = (uint32_t)extent;
    if (half->used <= ROOM_BYTES && extent == extent_of(nonce, half->used) &&
        half_walk(half, &(struct walk){0}) == 0)
        half->state = HALF_OURS;
}

/* A run uses one half, then both, each in turn: whatever else is found was made by something
 * else. */
static int halves_judge(const struct found_half *older, const struct found_half *newer)
{
    if (older->state == HALF_DAMAGED || newer->state == HALF_DAMAGED)
        return JOURNAL_E_DAMAGED;
    if (newer->state != HALF_OURS)
        return JOURNAL_E_MISSING;
    if (older->state == HALF_BLANK)
        return 0;
    if (older->state == HALF_OTHER || older->sequence + 1 != newer->sequence)
        return JOURNAL_E_DAMAGED;
    return newer->first_lsn == 0 || newer->first_lsn > older->last_lsn ? 0 : JOURNAL_E_DAMAGED;
}

static int journal_read(const char *socket_path, uint8_t *bytes, uint64_t *inode)
{
    struct stat status;
    size_t len = 0;
    CLEANUP(cleanup_fd) int fd = journal_fd(socket_path, O_RDONLY);

    if (fd < 0)
        return fd == -ENOENT || fd == -EPERM ? JOURNAL_E_MISSING : fd;
    if (fstat(fd, &status) < 0)
        return -errno;
    *inode = status.st_ino;
    while (len < JOURNAL_FILE_BYTES) {
        const ssize_t n = pread(fd, bytes + len, JOURNAL_FILE_BYTES - len, (off_t)len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return JOURNAL_E_DAMAGED;
        len += (size_t)n;
    }
    return 0;
}

int journal_replay_bytes(const uint8_t *bytes, const uint8_t nonce[JOURNAL_NONCE_BYTES],
                         uint64_t inode, int (*each)(void *ctx, uint64_t lsn, etag_str record),
                         void *ctx)
{
    struct found_half halves[2];

    for (size_t i = 0; i < 2; i++)
        half_find(&halves[i], bytes + i * JOURNAL_HALF_BYTES, nonce, inode);
    const bool turned = halves[0].state == HALF_OURS &&
                        (halves[1].state != HALF_OURS || halves[0].sequence > halves[1].sequence);
    struct found_half *older = &halves[turned];
    struct found_half *newer = &halves[!turned];
    int r = halves_judge(older, newer);
    if (r || !each)
        return r;
    const struct walk walk = {each, ctx};
    if (older->state == HALF_OURS)
        r = half_walk(older, &walk);
    return r ? r : half_walk(newer, &walk);
}

int journal_replay(const char *socket_path, const uint8_t nonce[JOURNAL_NONCE_BYTES],
                   int (*each)(void *ctx, uint64_t lsn, etag_str record), void *ctx)
{
    CLEANUP(cleanup_free) uint8_t *bytes = malloc(JOURNAL_FILE_BYTES);
    uint64_t inode = 0;

    if (!bytes)
        return -ENOMEM;
    const int r = journal_read(socket_path, bytes, &inode);
    return r ? r : journal_replay_bytes(bytes, nonce, inode, each, ctx);
}
