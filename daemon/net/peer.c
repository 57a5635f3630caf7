/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The identity of peers, the answers to them, and their limits. The identity comes from the kernel
 * (SO_PEERCRED, SO_PEERGROUPS) at the time of the connect; what a peer says about itself is only
 * shown to people. Limits: unread answers, time to greet, time to finish a frame, idle time.
 */
#include "peer.h"

#include "clocktime.h"
#include "greeting.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#define ACCEPT_AGAIN_NS (10 * NS_PER_MS) /* where strangers wait to be sent away */

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

void peers_init(struct peers *peers, const struct peers_options *options)
{
    *peers = (struct peers){
        .loop = options->loop,
        .config = options->config,
        .log = options->log,
        .strangers = options->strangers,
        .own_uid = geteuid(),
        .overflow_uid = config_overflow_uid(),
        .spare_fds = {-1, -1},
    };
    spare_fds_take(peers);
}

void peers_deinit(struct peers *peers)
{
    for (size_t i = 0; i < PEERS_MAX; i++) {
        if (!peers->table[i])
            continue;
        peers->table[i]->in_line = false; /* the queues are not read any more */
        peer_close(peers, peers->table[i]);
    }
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

/* To the thread that may be slow. refusal: NULL, or why it is sent away. */
static void hand_over(struct peers *peers, int fd, const struct peer_credentials *credentials,
                      const char *refusal)
{
    const struct stranger_arrival arrival = {
        .fd = fd,
        .pid = credentials->pid,
        .uid = credentials->uid,
        .refusal = refusal,
        .idle_ns = peers->config->idle_ns,
    };

    strangers_take(peers->strangers, &arrival);
    if (!strangers_have_room(peers->strangers))
        loop_accept_pause(peers->loop, ACCEPT_AGAIN_NS);
}

void peers_turn_begin(struct peers *peers)
{
    if (!strangers_have_room(peers->strangers))
        loop_accept_pause(peers->loop, ACCEPT_AGAIN_NS);
}

/* NULL, or why not. *fd is taken as soon as the loop has it. */
static const char *admit(struct peers *peers, int *fd, const struct peer_credentials *credentials,
                         uint32_t roles)
{
    struct peer *peer = peer_new(peers);

    if (!peer)
        return "too many peers";
    peer->roles = roles;
    int r = credentials_keep(peer, credentials);
    if (r == 0)
        r = loop_stream_open(peers->loop, take_fd(fd), peer, &peer->stream);
    if (r < 0) {
        peer_free(peers, peer);
        return strerrordesc_np(-r);
    }
    peers->accepted++;
    log_event(peers->log->log, LOG_DEBUG, "peer_accepted", log_number("peer", peer->id),
              log_number("pid", peer->pid), log_number("uid", peer->uid),
              log_number("roles", peer->roles));
    return NULL;
}

void peers_accept(struct peers *peers, int fd)
{
    uint32_t groups[PEER_GROUPS_MAX];
    struct peer_credentials credentials = {0};

    const int r = credentials_read(fd, &credentials, groups);
    const uint32_t roles =
        r == 0 ? config_roles(peers->config, &credentials, peers->own_uid, peers->overflow_uid) : 0;
    const char *refusal = r == 0 ? NULL : strerrordesc_np(-r);
    if (roles != 0)
        refusal = admit(peers, &fd, &credentials, roles);
    if (roles == 0 || refusal)
        hand_over(peers, fd, &credentials, refusal);
}

struct peer *peers_find(struct peers *peers, uint64_t id)
{
    struct peer *peer = peers->table[id & (PEERS_MAX - 1)];

    return peer && peer->id == id && peer->stream ? peer : NULL;
}

/* ---- Answers ---- */

/* Not even an error is sent: it would have to be read, too. */
static void unread_close(struct peers *peers, struct peer *peer)
{
    peers->slow++;
    log_limited(peers->log, LOG_WARN, "peer_slow", log_number("peer", peer->id),
                log_number("pid", peer->pid), log_number("uid", peer->uid),
                log_text("reason", "unread answers"));
    peer_close(peers, peer);
}

/* What intake.h lets pass are answers that come later, and events. */
static bool queue_is_full(struct peers *peers, const struct peer *peer)
{
    const size_t queued = loop_stream_queued(peer->stream);
    const size_t all = loop_queued(peers->loop);

    if (all > peers->queued_max)
        peers->queued_max = all;
    return queued > PEER_QUEUED_BYTES_MAX ||
           (queued > PEER_UNREAD_BYTES_MAX && all > PEERS_QUEUED_BYTES_MAX);
}

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
        log_limited(peers->log, LOG_WARN, "peer_send_failed", log_number("peer", peer->id),
                    log_error("error", r));
        peer_close(peers, peer);
    } else if (queue_is_full(peers, peer)) {
        unread_close(peers, peer);
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

/* Rule WATCHERS_BOUNDED: each event is sent to each of them before its writer's turn is over. */
const char *peer_watch(struct peers *peers, struct peer *peer)
{
    size_t of_user = 0;

    if (peer->watching)
        return NULL;
    for (size_t i = 0; i < peers->watching_count; i++)
        of_user += peers->watchers[i]->uid == peer->uid;
    if (of_user >= WATCHERS_OF_USER_MAX)
        return "too many connections of this user watch already: end some first";
    if (peers->watching_count >= WATCHERS_MAX)
        return "too many connections watch already";
    peers->watchers[peers->watching_count++] = peer;
    peer->watching = true;
    return NULL;
}

static void watch_end(struct peers *peers, struct peer *peer)
{
    for (size_t i = 0; i < peers->watching_count; i++)
        if (peers->watchers[i] == peer) {
            peers->watchers[i] = peers->watchers[--peers->watching_count];
            break;
        }
    peer->watching = false;
}

static bool watcher_is_slow(const struct peers *peers, const struct peer *peer)
{
    const size_t queued = loop_stream_queued(peer->stream);

    return queued > PEER_QUEUED_BYTES_MAX / 2 ||
           (queued > 0 && loop_queued(peers->loop) > PEERS_QUEUED_BYTES_MAX / 2);
}

void peers_tell(struct peers *peers, const struct event_view *event)
{
    /* Backwards: one that is closed for it leaves its place to the last, which has been served. */
    for (size_t i = peers->watching_count; i-- > 0;) {
        struct peer *peer = peers->watchers[i];
        if (watcher_is_slow(peers, peer)) {
            peer->events_dropped++;
            continue;
        }
        struct reply reply = {.kind = REPLY_EVENT, .event = *event};
        reply.event.dropped = peer->events_dropped;
        peer->events_dropped = 0;
        peer_send(peers, peer, &reply, NULL, 0);
    }
}

void peer_break(struct peers *peers, struct peer *peer, enum wire_error code, const char *text)
{
    if (!peer->stream)
        return;
    peers->protocol_errors++;
    log_limited(peers->log, LOG_WARN, "peer_broke_protocol", log_number("peer", peer->id),
                log_number("pid", peer->pid), log_number("uid", peer->uid),
                log_text("reason", text));
    peer_send_error(peers, peer, 0, code, text);
    peer_close(peers, peer);
}

void peer_close(struct peers *peers, struct peer *peer)
{
    if (!peer->stream)
        return;
    loop_stream_close(take_ptr(peer->stream));
    peers->closed_count++;
    watch_end(peers, peer);
}

/* ---- Other rules ---- */

size_t peers_reauthorize(struct peers *peers)
{
    size_t changed = 0;

    strangers_dismiss(peers->strangers);
    for (size_t i = 0; i < PEERS_MAX; i++) {
        struct peer *peer = peers->table[i];
        if (!peer || !peer->stream || peer->roles == roles_of(peers, peer))
            continue;
        changed++;
        log_limited(peers->log, LOG_INFO, "peer_roles_changed", log_number("peer", peer->id),
                    log_number("pid", peer->pid), log_number("uid", peer->uid),
                    log_number("roles", roles_of(peers, peer)));
        peer_send_error(peers, peer, 0, WIRE_ERROR_ROLES, TEXT_ROLES_CHANGED);
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
        return TEXT_HELLO_LATE;
    if (peer->partial_since_ns != 0 &&
        now_ns - peer->partial_since_ns > PEER_PARTIAL_MS_MAX * NS_PER_MS)
        return TEXT_FRAME_LATE;
    if (peers->config->idle_ns != 0 && !peer->watching && peer->pending == 0 &&
        now_ns - peer->last_ns > peers->config->idle_ns)
        return TEXT_IDLE;
    return NULL;
}

/* Whether the peer has left answers unread for too long: that is a while where its own requests
 * wait for it, and a moment where all who ask wait for it. */
static bool unread_too_long(const struct peers *peers, struct peer *peer, uint64_t now_ns)
{
    const bool crowded = loop_queued(peers->loop) > PEERS_QUEUED_BYTES_MAX / 2;

    /* The shares of all come to less than a crowd: else many a little would keep everybody waiting
     * for ever. */
    if (loop_stream_queued(peer->stream) <=
        (crowded ? PEERS_UNREAD_BYTES_MAX : PEER_UNREAD_BYTES_MAX)) {
        peer->unread_since_ns = 0;
        return false;
    }
    if (peer->unread_since_ns == 0)
        peer->unread_since_ns = now_ns;
    const uint64_t unread_ns = now_ns - peer->unread_since_ns;
    return (peer->aside && unread_ns >= PEER_UNREAD_MS_MAX * NS_PER_MS) ||
           (crowded && unread_ns >= PEERS_UNREAD_MS_MAX * NS_PER_MS);
}

static void peer_expire(struct peers *peers, struct peer *peer, uint64_t now_ns)
{
    const char *why = overdue(peers, peer, now_ns);

    if (why) {
        peers->slow++;
        peer_break(peers, peer, WIRE_ERROR_SLOW, why);
    } else if (unread_too_long(peers, peer, now_ns)) {
        unread_close(peers, peer);
    }
}

void peers_expire(struct peers *peers, uint64_t now_ns)
{
    spare_fds_take(peers);
    for (size_t i = 0; i < PEERS_MAX; i++)
        if (peers->table[i] && peers->table[i]->stream)
            peer_expire(peers, peers->table[i], now_ns);
}

void peers_reap(struct peers *peers)
{
    for (size_t i = 0; i < PEERS_MAX && peers->closed_count > 0; i++)
        if (peers->table[i] && !peers->table[i]->stream && !peers->table[i]->in_line) {
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
