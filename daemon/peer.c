/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From bytes to frames, and who is speaking. Identity comes from the kernel (SO_PEERCRED, SO_PEERGROUPS) at the time of
 * the connect; what a peer says about itself is only shown. Limits: frame size, unread answers, time to greet, time to
 * finish a frame, idle time.
 */
#include "peer.h"

#include "clocktime.h"
#include "request.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#define REFUSAL_TOLD_NS (10 * NS_PER_S)

_Static_assert(PEERS_MAX == 1 << PEER_ID_TABLE_BITS,
               "the low bits of an id are its place in the table");

/* Best effort: there may be none to be had. */
static void spare_fds_take(struct peers *peers)
{
    for (size_t i = 0; i < PEER_SPARE_FDS; i++)
        if (peers->spare_fds[i] < 0)
            peers->spare_fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void spare_fds_give(struct peers *peers)
{
    for (size_t i = 0; i < PEER_SPARE_FDS; i++) {
        cleanup_fd(&peers->spare_fds[i]);
        peers->spare_fds[i] = -1;
    }
}

void peers_init(struct peers *peers, struct server *server, struct loop *loop,
                const struct config *config, const struct log *log)
{
    *peers = (struct peers){
        .server = server,
        .loop = loop,
        .config = config,
        .log = log,
        .own_uid = geteuid(),
        .overflow_uid = config_overflow_uid(),
        .spare_fds = {-1, -1},
    };
    spare_fds_take(peers);
}

void peers_deinit(struct peers *peers)
{
    for (size_t i = 0; i < PEERS_MAX; i++)
        if (peers->table[i])
            peer_close(peers, peers->table[i]);
    peers_reap(peers);
    spare_fds_give(peers);
    buffer_deinit(&peers->out);
}

/* ---- Arrival ---- */

static int credentials_read(int fd, struct peer_credentials *out, uint32_t groups[PEER_GROUPS_MAX])
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return -errno;
    len = PEER_GROUPS_MAX * sizeof(groups[0]);
    /* More groups than that: only the primary one counts. */
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
        len = 0;
    *out = (struct peer_credentials){
        .pid = (uint32_t)cred.pid,
        .uid = cred.uid,
        .gid = cred.gid,
        .groups = groups,
        .group_count = len / sizeof(groups[0]),
    };
    return 0;
}

static struct peer *peer_new(struct peers *peers)
{
    size_t place = 0;

    while (place < PEERS_MAX && peers->table[place])
        place++;
    if (place == PEERS_MAX)
        return NULL;
    struct peer *peer = calloc(1, sizeof(*peer));
    if (!peer)
        return NULL;
    peer->id = ++peers->ids << PEER_ID_TABLE_BITS | place;
    peer->opened_ns = peer->last_ns = time_coarse_ns();
    peers->table[place] = peer;
    peers->count++;
    return peer;
}

static void peer_free(struct peers *peers, struct peer *peer)
{
    peers->table[peer->id & (PEERS_MAX - 1)] = NULL;
    peers->count--;
    peers->stranger_count -= peer->counted;
    client_page_add(&peer->page, &peers->departed);
    client_page_close(&peer->page);
    buffer_deinit(&peer->in);
    free(peer->groups);
    free(peer);
}

static int credentials_keep(struct peer *peer, const struct peer_credentials *credentials)
{
    const size_t bytes = credentials->group_count * sizeof(credentials->groups[0]);

    peer->pid = credentials->pid;
    peer->uid = credentials->uid;
    peer->gid = credentials->gid;
    if (bytes == 0)
        return 0;
    peer->groups = malloc(bytes);
    if (!peer->groups)
        return -ENOMEM;
    memcpy(peer->groups, credentials->groups, bytes);
    peer->group_count = credentials->group_count;
    return 0;
}

static uint32_t roles_of(const struct peers *peers, const struct peer *peer)
{
    const struct peer_credentials credentials = {
        .pid = peer->pid,
        .uid = peer->uid,
        .gid = peer->gid,
        .groups = peer->groups,
        .group_count = peer->group_count,
    };

    return config_roles(peers->config, &credentials, peers->own_uid, peers->overflow_uid);
}

/* Counted each time, said now and then: whoever connects again and again shall not fill the log. */
static void refuse(struct peers *peers, const struct peer *peer, const char *why)
{
    const uint64_t now_ns = time_coarse_ns();

    peers->refused++;
    if (peers->refusal_told_ns != 0 && now_ns - peers->refusal_told_ns < REFUSAL_TOLD_NS)
        return;
    peers->refusal_told_ns = now_ns;
    log_event(peers->log, LOG_WARN, "peer_refused", log_text("reason", why),
              log_number("pid", peer ? peer->pid : 0), log_number("uid", peer ? peer->uid : 0),
              log_number("refused", (int64_t)peers->refused));
}

/* NULL, or why not. */
static const char *admit(struct peers *peers, struct peer *peer)
{
    peer->roles = roles_of(peers, peer);
    if (peer->roles != 0)
        return NULL;
    if (peers->stranger_count >= STRANGERS_MAX)
        return "too many peers without a role";
    peers->stranger_count++;
    peer->counted = true;
    return NULL;
}

void peers_accept(struct peers *peers, int fd)
{
    uint32_t groups[PEER_GROUPS_MAX];
    struct peer_credentials credentials = {0};
    CLEANUP(cleanup_fd) int owned = fd;

    struct peer *peer = peer_new(peers);
    if (!peer) {
        refuse(peers, NULL, "too many peers");
        return;
    }
    int r = credentials_read(owned, &credentials, groups);
    if (r == 0)
        r = credentials_keep(peer, &credentials);
    const char *why = r == 0 ? admit(peers, peer) : NULL;
    if (r == 0 && !why)
        r = loop_stream_open(peers->loop, owned, peer, &peer->stream);
    if (r < 0 || why) {
        refuse(peers, peer, why ? why : strerrordesc_np(-r));
        peer_free(peers, peer);
        return;
    }
    take_fd(&owned);
    peers->accepted++;
    log_event(peers->log, LOG_DEBUG, "peer_accepted", log_number("peer", peer->id),
              log_number("pid", peer->pid), log_number("uid", peer->uid),
              log_number("roles", peer->roles));
}

struct peer *peers_find(struct peers *peers, uint64_t id)
{
    struct peer *peer = peers->table[id & (PEERS_MAX - 1)];

    return peer && peer->id == id && peer->stream ? peer : NULL;
}

/* ---- Frames ---- */

/* Handles the whole frames at the start of bytes; returns how many bytes they took. */
static size_t frames_handle(struct peers *peers, struct peer *peer, etag_str bytes)
{
    etag_str rest = bytes, payload;

    while (peer->stream) {
        const int r = frame_next(rest, &payload);
        if (r < 0) {
            peer_break(peers, peer, WIRE_ERROR_MALFORMED,
                       "a frame's length is 0 or over 1 MiB: framing is lost");
            break;
        }
        if (r == 0)
            break;
        rest = str_skip(rest, FRAME_HEADER_BYTES + payload.len);
        request_handle(peers->server, peer, payload);
    }
    return bytes.len - rest.len;
}

static bool buffer_append(struct buffer *buffer, etag_str bytes)
{
    if (buffer_reserve(buffer, bytes.len) < 0)
        return false;
    if (bytes.len > 0)
        memcpy(buffer->bytes + buffer->len, bytes.data, bytes.len);
    buffer->len += bytes.len;
    return true;
}

void peer_received(struct peers *peers, struct peer *peer, etag_str bytes)
{
    etag_str all = bytes;
    const bool partial_before = peer->in.len > 0;

    if (!peer->stream)
        return;
    peer->last_ns = time_coarse_ns();
    peer->arrived_ns = time_ns_of(CLOCK_MONOTONIC);
    if (partial_before) {
        if (!buffer_append(&peer->in, bytes)) {
            peer_break(peers, peer, WIRE_ERROR_BUSY, "the daemon is out of memory");
            return;
        }
        all = (etag_str){(const char *)peer->in.bytes, peer->in.len};
    }
    const size_t used = frames_handle(peers, peer, all);
    if (!peer->stream)
        return;

    const etag_str rest = str_skip(all, used);
    if (!peer->roles && rest.len > STRANGER_FRAME_BYTES_MAX) {
        peer_break(peers, peer, WIRE_ERROR_DENIED,
                   "so large a request wants a role, and this user has none");
        return;
    }
    if (rest.len == 0)
        peer->partial_since_ns = 0;
    else if (used > 0 || !partial_before)
        peer->partial_since_ns = peer->last_ns;
    if (partial_before) {
        memmove(peer->in.bytes, peer->in.bytes + used, rest.len);
        peer->in.len = rest.len;
    } else if (!buffer_append(&peer->in, rest)) {
        peer_break(peers, peer, WIRE_ERROR_BUSY, "the daemon is out of memory");
    }
}

/* ---- Answers ---- */

void peer_send(struct peers *peers, struct peer *peer, const struct reply *reply, const int *fds,
               size_t fd_count)
{
    if (!peer->stream)
        return;
    peers->out.len = 0;
    int r = reply_encode(&peers->out, reply);
    if (r == -EMSGSIZE) {
        peer_send_error(peers, peer, reply->id, WIRE_ERROR_INTERNAL,
                        "the answer is over 1 MiB; ask for less at once");
        return;
    }
    const etag_str frame = {(const char *)peers->out.bytes, peers->out.len};
    if (r == 0)
        r = loop_stream_send(peer->stream, frame, fds, fd_count);
    if (r == -EMFILE) {
        spare_fds_give(peers);
        r = loop_stream_send(peer->stream, frame, fds, fd_count);
    }
    if (r < 0) {
        log_event(peers->log, LOG_WARN, "peer_send_failed", log_number("peer", peer->id),
                  log_error("error", r));
        peer_close(peers, peer);
    } else if (loop_stream_queued(peer->stream) > PEER_QUEUED_BYTES_MAX) {
        peers->slow++;
        log_event(peers->log, LOG_WARN, "peer_slow", log_number("peer", peer->id),
                  log_number("pid", peer->pid), log_text("reason", "unread answers"));
        peer_close(peers, peer);
    }
}

void peer_send_error(struct peers *peers, struct peer *peer, uint64_t request_id,
                     enum wire_error code, const char *text)
{
    const struct reply reply = {
        .id = request_id,
        .kind = REPLY_ERROR,
        .error = {.code = code, .text = str_of(text)},
    };

    peer_send(peers, peer, &reply, NULL, 0);
}

void peer_watch(struct peers *peers, struct peer *peer)
{
    peers->watching_count += !peer->watching;
    peer->watching = true;
}

void peer_break(struct peers *peers, struct peer *peer, enum wire_error code, const char *text)
{
    if (!peer->stream)
        return;
    peers->protocol_errors++;
    log_event(peers->log, LOG_WARN, "peer_broke_protocol", log_number("peer", peer->id),
              log_number("pid", peer->pid), log_number("uid", peer->uid), log_text("reason", text));
    peer_send_error(peers, peer, 0, code, text);
    peer_close(peers, peer);
}

void peer_close(struct peers *peers, struct peer *peer)
{
    if (!peer->stream)
        return;
    loop_stream_close(take_ptr(peer->stream));
    peers->closed_count++;
    peers->watching_count -= peer->watching;
}

/* ---- Other rules ---- */

size_t peers_judge(struct peers *peers)
{
    size_t changed = 0;

    for (size_t i = 0; i < PEERS_MAX; i++) {
        struct peer *peer = peers->table[i];
        if (!peer || !peer->stream || peer->roles == roles_of(peers, peer))
            continue;
        changed++;
        log_event(peers->log, LOG_INFO, "peer_roles_changed", log_number("peer", peer->id),
                  log_number("pid", peer->pid), log_number("uid", peer->uid),
                  log_number("roles", roles_of(peers, peer)));
        peer_send_error(peers, peer, 0, WIRE_ERROR_ROLES,
                        "the roles of this user were changed: connect again");
        peer_close(peers, peer);
    }
    return changed;
}

void peers_each_writer(const struct peers *peers, void (*each)(void *ctx, uint32_t uid), void *ctx)
{
    for (size_t i = 0; i < PEERS_MAX; i++) {
        const struct peer *peer = peers->table[i];
        if (peer && peer->stream && peer->greeted && (peer->roles & ROLE_MUTATE))
            each(ctx, peer->uid);
    }
}

/* ---- Limits of time, and the end ---- */

static const char *overdue(const struct peers *peers, const struct peer *peer, uint64_t now_ns)
{
    if (!peer->greeted && now_ns - peer->opened_ns > PEER_HELLO_MS_MAX * NS_PER_MS)
        return "no hello in time";
    if (peer->partial_since_ns != 0 &&
        now_ns - peer->partial_since_ns > PEER_PARTIAL_MS_MAX * NS_PER_MS)
        return "a frame was begun and not finished in time";
    if (peers->config->idle_ns != 0 && !peer->watching && peer->pending == 0 &&
        now_ns - peer->last_ns > peers->config->idle_ns)
        return "idle";
    return NULL;
}

void peers_expire(struct peers *peers, uint64_t now_ns)
{
    spare_fds_take(peers);
    for (size_t i = 0; i < PEERS_MAX; i++) {
        struct peer *peer = peers->table[i];
        const char *why = peer && peer->stream ? overdue(peers, peer, now_ns) : NULL;

        if (why) {
            peers->slow++;
            peer_break(peers, peer, WIRE_ERROR_SLOW, why);
        }
    }
}

void peers_reap(struct peers *peers)
{
    for (size_t i = 0; i < PEERS_MAX && peers->closed_count > 0; i++)
        if (peers->table[i] && !peers->table[i]->stream) {
            peer_free(peers, peers->table[i]);
            peers->closed_count--;
        }
}

struct counters peers_counters(const struct peers *peers)
{
    struct counters sum = peers->departed;

    for (size_t i = 0; i < PEERS_MAX; i++)
        if (peers->table[i])
            client_page_add(&peers->table[i]->page, &sum);
    return sum;
}
