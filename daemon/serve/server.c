/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start, turn, stop. In a turn, the loop hands over the bytes that came; the requests in them
 * change the cache in memory at once, as many as the turn's budget allows (intake.h); then one
 * submit sends their events to the persister together. An answer is sent when its event is safe in
 * the journal or the store. The lease is renewed between turns, so a daemon that is stuck does not
 * renew it; and turns are short, whatever peers send, so a daemon that is not stuck renews in time.
 */
#include "server.h"

#include "clocktime.h"
#include "greeting.h"
#include "mutation.h"
#include "numbers.h"
#include "recovery.h"
#include "relay_serve.h"
#include "reload.h"
#include "request.h"
#include "text.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#define HOUSEKEEPING_NS NS_PER_S
#define EVENTS_KEPT_MAP_SHARE 8        /* at most this part: entries and headroom need the rest */
#define START_LOAD_NS (50 * NS_PER_MS) /* no peer is served yet */
#define TURN_LOAD_NS (NS_PER_MS / 5) /* so much later may an answer come while entries are loaded */
#define STOP_SERVE_NS (NS_PER_S / 5)
#define LOAD_LATER_NS (20 * NS_PER_MS) /* where the persister has too much to do */

/* ---- What the loop brings ---- */

static void on_accepted(void *ctx, int fd)
{
    struct server *server = ctx;

    peers_accept(&server->peers, fd);
}

static void on_accept_failed(void *ctx, int error)
{
    struct server *server = ctx;

    log_event(&server->log, LOG_ERROR, "accept_failed", log_error("error", error),
              log_text("advice", "raise the limit of open files; accepting is tried again"));
}

static void on_received(void *ctx, void *owner, etag_str bytes)
{
    struct server *server = ctx;

    intake_received(&server->intake, owner, bytes);
}

static void on_ended(void *ctx, void *owner, int error)
{
    struct server *server = ctx;
    struct peer *peer = owner;

    log_event(&server->log, LOG_DEBUG, "peer_ended", log_number("peer", peer->id),
              log_error("error", error));
    intake_ended(&server->intake, peer);
}

static const char *serving_status(const struct server *server)
{
    return server->lease_error == 0
               ? "serving"
               : "cannot renew its lease (the log says why): front ends render";
}

/* READY says that a reload is over, and at the start that it serves: not before it does. */
static void reload_and_notify(struct server *server)
{
    if (server->serving)
        supervisor_reloading(&server->supervisor);
    reload(server);
    if (server->serving)
        supervisor_ready(&server->supervisor, serving_status(server));
}

static void on_signal(struct server *server)
{
    struct signalfd_siginfo info;

    while (read(server->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGHUP) {
            reload_and_notify(server);
            continue;
        }
        log_event(&server->log, LOG_INFO, "stopping", log_number("signal", info.ssi_signo));
        server->stopping = true;
    }
}

static void on_woken(void *ctx, int fd)
{
    struct server *server = ctx;

    if (fd == server->signal_fd)
        on_signal(server);
    else
        mutation_answers(server);
}

static const struct loop_handler handler = {
    .accepted = on_accepted,
    .accept_failed = on_accept_failed,
    .received = on_received,
    .ended = on_ended,
    .woken = on_woken,
};

/* ---- Start ---- */

static int fail(struct server *server, const char *event, const char *why)
{
    log_event(&server->log, LOG_ERROR, event, log_text("reason", why));
    return -1;
}

static int fail_errno(struct server *server, const char *event, int error)
{
    log_event(&server->log, LOG_ERROR, event, log_error("reason", error));
    return -1;
}

/* A memfd is a file to RLIMIT_FSIZE, and memory to all other limits. */
static int index_refused(struct server *server, const struct layout_plan *plan, int error)
{
    struct layout_header header = {0};
    struct rlimit limit = {0};

    layout_init(&header, plan);
    (void)getrlimit(RLIMIT_FSIZE, &limit);
    if (error == -EFBIG)
        log_event(&server->log, LOG_ERROR, "index_not_made", log_error("reason", error),
                  log_number("bytes", (int64_t)header.total_bytes),
                  log_number("limit_fsize", (int64_t)limit.rlim_cur),
                  log_text("advice", "the index counts as a file: raise LimitFSIZE= of the unit "
                                     "('ulimit -f' of the shell), or lower --capacity"));
    else
        log_event(&server->log, LOG_ERROR, "index_not_made", log_error("reason", error),
                  log_number("capacity", (int64_t)server->config.capacity),
                  log_text("advice", "the index is memory: lower --capacity, or raise the memory "
                                     "limit"));
    return -1;
}

static int index_make(struct server *server, const struct recovery *recovery)
{
    struct index_options options = {
        .plan = {.capacity = server->config.capacity,
                 .clock_count = recovery->meta.clock_count,
                 .pool_bytes = server->config.pool_bytes},
        .incarnation = recovery->meta.incarnation,
        .lease_ns = server->config.lease_ns,
    };

    memcpy(options.hash_key, recovery->meta.hash_key, sizeof(options.hash_key));
    do {
        if (getrandom(&options.incarnation_id, sizeof(options.incarnation_id), 0) < 0)
            return fail_errno(server, "no_random_bytes", errno);
    } while (options.incarnation_id == 0);
    const int r = index_open(&server->index, &options);
    if (r < 0)
        return index_refused(server, &options.plan, r);
    const int made = cache_init(&server->cache, server->index, &options, server->config.linger_ns);
    return made < 0 ? fail_errno(server, "index_not_made", made) : 0;
}

/* Beside the socket, of a daemon whose state may be lost. */
static struct recovery_traces former_traces(const struct server *server)
{
    CLEANUP(cleanup_free) struct spool_mark *mark = malloc(sizeof(*mark));
    const bool marked = mark && spool_dir_former(&server->config, mark);

    return (struct recovery_traces){
        .any = marked || server->endpoint.recorded_lease_ns != 0,
        .linger_ns = marked ? mark->linger_ns : 0,
        .spool_other = marked && mark->version != SPOOL_VERSION,
    };
}

/* 0 or a negative errno: the state cannot be used. */
static int state_load(struct server *server, struct recovery *recovery)
{
    const int r = recovery_load(recovery, server->store, &server->cache);

    return r < 0 ? r : relay_link_load(server, !recovery->warm && recovery->had_former);
}

/* Store, index, and what the former run left. A state that turns out unusable while loading is
 * thrown away, and the index, which holds a part of it by then, is made again. */
static int state_open(struct server *server, struct recovery *recovery)
{
    struct why why;

    const struct recovery_traces traces = former_traces(server);
    if (recovery_open(recovery, &server->store, &server->config, &traces, &why) < 0)
        return fail(server, "state_refused", why.text);
    if (index_make(server, recovery) < 0)
        return -1;
    if (state_load(server, recovery) < 0) {
        if (recovery_set_aside(recovery, server->store, &why) < 0)
            return fail(server, "state_refused", why.text);
        cache_deinit(&server->cache);
        server->index = index_close(server->index);
        if (index_make(server, recovery) < 0)
            return -1;
        const int r = state_load(server, recovery);
        if (r < 0)
            return fail_errno(server, "state_not_begun", r);
    }
    server->journal = recovery_journal(recovery, server->store, &server->config);
    if (recovery->journal_error != 0)
        log_event(&server->log, LOG_WARN, "journal_not_used",
                  log_error("error", recovery->journal_error),
                  log_text("effect", "each answer to a writer waits for the store"));
    /* Recovery counted the former run's events, too: this run's counters begin at 0. */
    server->cache.counters = (struct cache_counters){0};
    server->warm = recovery->warm;
    server->incarnation = recovery->meta.incarnation;
    if (recovery->witness_error != 0)
        log_event(&server->log, LOG_WARN, "witness_not_written",
                  log_error("error", recovery->witness_error),
                  log_text("effect", "the next start is cold"));
    server->journaled = recovery->journal_events;
    if (!recovery->warm)
        log_event(&server->log, LOG_INFO, "state_not_used", log_text("start", "cold"),
                  log_text("reason", recovery->cold_reason),
                  log_number("in_flux_ms", (int64_t)recovery->cold_hold_ms));
    return 0;
}

/* 0 or a negative errno. */
static int peers_begin(struct server *server)
{
    const struct strangers_options strangers = {
        .hello = {.kind = REPLY_HELLO,
                  .hello = {.protocol = PROTOCOL_VERSION,
                            .software = ETAG_LIT(DAEMON_SOFTWARE),
                            .lease_ns = server->lease.length_ns,
                            .incarnation_id = server->cache.incarnation_id,
                            .linger_ns = server->config.linger_ns}},
        .log = &server->log_limit,
    };
    const int r = strangers_start(&server->strangers, &strangers);

    if (r < 0)
        return r;
    const struct peers_options options = {
        .loop = server->loop,
        .config = &server->config,
        .log = &server->log_limit,
        .strangers = server->strangers,
    };
    peers_init(&server->peers, &options);
    intake_init(&server->intake, &server->peers, request_handle, server);
    return 0;
}

static int loop_make(struct server *server)
{
    enum loop_kind used;
    int refused = 0;
    int r = loop_open(&server->loop, server->config.loop, &handler, server, &used, &refused);

    if (r < 0) {
        log_event(&server->log, LOG_ERROR, "loop_not_made", log_error("reason", r),
                  log_text("advice", "try --loop auto"));
        return -1;
    }
    server->loop_refused = refused < 0 ? -refused : refused;
    if (refused != 0)
        log_event(&server->log, LOG_WARN, "io_uring_refused", log_error("reason", refused),
                  log_text("loop", loop_name(server->loop)));
    r = loop_watch(server->loop, server->signal_fd);
    if (r == 0)
        r = loop_watch(server->loop, persist_fd(server->persist));
    if (r == 0)
        r = peers_begin(server);
    return r == 0 ? 0 : fail_errno(server, "loop_not_made", r);
}

/* What has to be in the clocks before anybody may trust them for another L: the spool, and what a
 * suspended machine slept through. */
static int spooled_apply(void *ctx, const struct request *request, uint32_t uid,
                         struct spool_slot slot)
{
    struct server *server = ctx;
    const struct mutation_from from = {.spool = slot, .uid = uid};
    const struct mutation_refusal refusal = mutation_request(server, request, &from);

    if (refusal.error == WIRE_ERROR_INVALID)
        return SPOOL_E_GARBAGE;
    return refusal.error ? -ENOMEM : 0;
}

static int state_settle(void *ctx, bool suspended)
{
    struct server *server = ctx;
    const struct spool_reader reader = {.apply = spooled_apply, .ctx = server};

    if (suspended && !mutation_everything(server, "the machine was suspended"))
        return -ENOMEM;
    spool_stored(&server->spool, persist_stored_lsn(server->persist));
    return spool_scan(&server->spool, &reader);
}

static int spool_and_lease_open(struct server *server, const struct recovery *recovery,
                                struct why *why)
{
    const struct lease given = {
        .length_ns = server->config.lease_ns,
        /* All locks but the spool's were held by then: a former daemon's last renewal was
         * earlier. */
        .locked_ns = recovery->locked_ns,
        .endpoint = &server->endpoint,
        .store = server->store,
        .freshness = &server->relay.freshness,
        .view = index_view(server->index),
        .spool = &server->spool.dir,
        .settle = state_settle,
        .ctx = server,
    };
    uint64_t former_ns = max_of(recovery->former_lease_ns, server->endpoint.recorded_lease_ns);

    if (spool_open(&server->spool, &server->config, max_of(former_ns, given.length_ns),
                   &server->log_limit, &server->arena, why) < 0)
        return -1;
    former_ns = max_of(former_ns, server->spool.dir.former.lease_ns);
    lease_init(&server->lease, &given, former_ns, server->config.state_dir);
    return 0;
}

static struct retention retention_of(const struct config *config)
{
    const uint64_t bytes_max = config->map_bytes / EVENTS_KEPT_MAP_SHARE;

    return (struct retention){
        .count = config->events_kept,
        .bytes = min_of(config->events_kept_bytes, bytes_max),
        .age_ms = config->events_kept_ms,
        .keep_outgoing = config->relay != RELAY_OFF,
    };
}

int server_init(struct server *server, const struct config *config, int signal_fd)
{
    struct recovery recovery;
    struct why why;

    *server = (struct server){
        .config = *config,
        .log = {.fd = STDERR_FILENO, .least = config->log_level, .format = config->log_format},
        .supervisor = {.notify_fd = -1, .listen_fd = -1},
        .endpoint = {.listen_fd = -1, .lock_fd = -1},
        .spool = {.dir = {.fd = -1, .lock_fd = -1, .spare_fd = -1}},
        .signal_fd = signal_fd,
        .started_wall_ms = time_wall_ms(),
    };
    arena_init(&server->arena, ARENA_BYTES_MAX);
    log_limit_init(&server->log_limit, &server->log);
    if (supervisor_init(&server->supervisor, &server->log, &why) < 0)
        return fail(server, "supervisor_refused", why.text);
    if (endpoint_claim(&server->endpoint, config->socket_path,
                       take_fd(&server->supervisor.listen_fd), &why) < 0)
        return fail(server, "socket_refused", why.text);
    /* What others left in the spool may have taken the room that the socket needs. */
    spool_dir_sweep(config, &server->log_limit);
    if (endpoint_open(&server->endpoint, config->socket_mode, &why) < 0)
        return fail(server, "socket_refused", why.text);
    if (server->endpoint.shared)
        log_event(&server->log, LOG_WARN, "socket_dir_shared",
                  log_text("effect", "whenever no daemon runs here, others can put a socket of "
                                     "theirs in its place, and front ends would believe it"));
    supervisor_status(&server->supervisor, "reading its state");
    if (state_open(server, &recovery) < 0)
        return -1;
    if (spool_and_lease_open(server, &recovery, &why) < 0)
        return fail(server, "spool_refused", why.text);
    server->cache.paused = server->lease.paused;

    const struct retention retention = retention_of(config);
    const int r = persist_open(&server->persist, server->store, index_view(server->index),
                               &server->log, recovery.meta.checkpoint_lsn, &retention);
    if (r < 0)
        return fail_errno(server, "persister_not_started", r);
    persist_witness(server->persist, config->socket_path);
    server->loader = entry_loader_new(server->store, &server->cache, server->persist);
    if (!server->loader)
        return fail_errno(server, "entries_not_loaded", -ENOMEM);
    return loop_make(server);
}

/* ---- Entries of the former run ---- */

static void loading_end(struct server *server, int error)
{
    const uint64_t damaged = entry_loader_progress(server->loader).damaged;

    server->loader = entry_loader_free(server->loader);
    if (error != 0) {
        /* What is loaded has proven itself. */
        log_event(&server->log, LOG_ERROR, "entries_not_loaded",
                  log_text("reason", error < 0 ? strerror(-error) : "the state is damaged"),
                  log_text("effect", "the rest is rendered again; the next start is cold"));
        if (store_warm_mark_clear(server->store) != 0)
            log_event(&server->log, LOG_ERROR, "warm_mark_not_cleared");
    }
    if (server->warm)
        log_event(&server->log, LOG_INFO, "state_loaded", log_text("start", "warm"),
                  log_number("entries", (int64_t)server->cache.counters.loaded),
                  log_number("stale", (int64_t)server->cache.counters.loaded_stale),
                  log_number("expired", (int64_t)server->cache.counters.loaded_expired),
                  log_number("journaled", (int64_t)server->journaled),
                  log_number("damaged", (int64_t)damaged));
}

/* A step of the loading. True: another one now; False: there is nothing to load at present. */
static bool loading_go_on(struct server *server, uint64_t ns)
{
    if (!server->loader)
        return false;
    const int r = entry_loader_step(server->loader, ns);
    if (r == ENTRY_LOADER_E_MORE || r == ENTRY_LOADER_E_LATER)
        return r == ENTRY_LOADER_E_MORE;
    loading_end(server, r);
    return false;
}

/* ---- Turns ---- */

static void turn_end(struct server *server)
{
    relay_serve_mark(server, server->stopping);
    mutation_turn_end(server);
    relay_link_turn_end(server);
    peers_reap(&server->peers);
}

/* 0, or -1: the place is no longer ours. */
static int lease_renew_if_due(struct server *server)
{
    const bool due = lease_due_in_ns(&server->lease) == 0;

    if (due || server->expire_more)
        (void)mutation_expire_guards(server); /* what is left comes with the next turn */
    if (!due) {
        turn_end(server);
        return 0;
    }
    const int r = lease_renew(&server->lease);
    turn_end(server);
    if (r == LEASE_E_LOST) {
        log_event(&server->log, LOG_ERROR, "place_lost",
                  log_text("reason", "the socket, its lock, the spool or the state directory was "
                                     "replaced or removed"),
                  log_text("socket", server->config.socket_path),
                  log_text("state_dir", server->config.state_dir));
        server->lost = true;
        return -1;
    }
    if (r == 0)
        supervisor_renewed(&server->supervisor, time_coarse_ns());
    if (r < 0 && server->lease_error != r)
        log_event(&server->log, LOG_ERROR, "lease_not_renewed", log_error("reason", r));
    if (r == 0 && server->lease_error != 0)
        log_event(&server->log, LOG_INFO, "lease_renewed_again");
    const bool changed = r != server->lease_error;
    server->lease_error = r;
    if (changed)
        supervisor_status(&server->supervisor, serving_status(server));
    return 0;
}

/* How long a turn may wait for something to happen. */
static uint64_t turn_ns(const struct server *server, uint64_t due_ns)
{
    const uint64_t most_ns = server->loader ? LOAD_LATER_NS : HOUSEKEEPING_NS;

    return min_of(due_ns, most_ns);
}

/* Rule START_WAIT: front ends may still trust a former daemon's memory, so nothing is answered yet.
 * It is the best time to load entries: a small state is there as a whole when serving begins. */
static int start_wait(struct server *server)
{
    uint64_t wait_ns;
    bool more = loading_go_on(server, START_LOAD_NS);

    while (!server->stopping && (wait_ns = lease_start_wait_ns(&server->lease)) > 0) {
        const int r = loop_turn(server->loop, more ? 0 : turn_ns(server, wait_ns));
        if (r < 0)
            return r;
        more = loading_go_on(server, START_LOAD_NS);
    }
    return 0;
}

/* Without them it serves all the same. */
static void huge_pages_begin(struct server *server)
{
    /* Advise before more is allocated: a huge page would take the memory of pool space that may
     * never be used. */
    const int r = huge_pages_start(&server->huge_pages, index_view(server->index)->header,
                                   index_taken_bytes(server->index), server->config.huge_pages,
                                   &server->log);

    if (r < 0)
        log_event(&server->log, LOG_WARN, "huge_pages_not_started", log_error("reason", r));
}

int server_run(struct server *server)
{
    uint64_t housekeeping_ns = 0;
    bool more = false;

    int r = start_wait(server);
    if (r == 0 && !server->stopping && lease_renew_if_due(server) == 0) {
        r = loop_listen(server->loop, server->endpoint.listen_fd);
        log_event(&server->log, LOG_INFO, "serving", log_text("socket", server->config.socket_path),
                  log_text("loop", loop_name(server->loop)),
                  log_text("start", server->warm ? "warm" : "cold"),
                  log_number("entries", (int64_t)index_count(server->index)),
                  log_number("capacity", (int64_t)server->config.capacity));
        server->serving = true;
        supervisor_ready(&server->supervisor, serving_status(server));
        huge_pages_begin(server);
    }
    while (r == 0 && !server->stopping && !server->lost) {
        peers_turn_begin(&server->peers);
        r = loop_turn(server->loop, more || server->expire_more
                                        ? 0
                                        : turn_ns(server, lease_due_in_ns(&server->lease)));
        more = intake_serve(&server->intake);
        turn_end(server);
        if (lease_renew_if_due(server) < 0)
            break;
        more |= loading_go_on(server, TURN_LOAD_NS);
        const uint64_t now_ns = time_coarse_ns();
        if (now_ns >= housekeeping_ns) {
            peers_expire(&server->peers, now_ns);
            housekeeping_ns = now_ns + HOUSEKEEPING_NS;
        }
    }
    if (r < 0)
        return fail_errno(server, "loop_broken", r);
    return server->lost ? -1 : 0;
}

/* ---- Stop ---- */

/* What came before the end is handled, as far as a moment goes: a writer that gets no answer leaves
 * its event in the spool. */
static void received_finish(struct server *server)
{
    const uint64_t until_ns = time_coarse_ns() + STOP_SERVE_NS;

    while (intake_serve(&server->intake) && time_coarse_ns() < until_ns)
        ;
}

/* The promise is taken back first; then what was accepted is persisted, and who waits gets an
 * answer. */
static void serving_end(struct server *server)
{
    if (server->lease.view)
        lease_revoke(&server->lease);
    if (server->loop)
        loop_unlisten(server->loop);
    if (!server->persist)
        return;
    if (server->loop)
        received_finish(server);
    turn_end(server);
    if (server->mutations.count > 0 || server->syncs.count > 0) {
        const uint64_t until_ns = time_coarse_ns() + NS_PER_S;
        while (server->mutations.count + server->syncs.count > 0 && time_coarse_ns() < until_ns &&
               loop_turn(server->loop, NS_PER_S / 10) == 0)
            turn_end(server);
    }
}

void server_deinit(struct server *server)
{
    supervisor_stopping(&server->supervisor);
    server->huge_pages = huge_pages_stop(server->huge_pages);
    serving_end(server);
    server->strangers = strangers_stop(server->strangers);
    if (server->loop) {
        peers_deinit(&server->peers);
        server->loop = loop_close(server->loop);
    }
    server->loader = entry_loader_free(server->loader);
    server->persist = persist_close(server->persist);
    server->journal = journal_close(server->journal);
    endpoint_close(&server->endpoint);
    server->store = store_close(server->store);
    cache_deinit(&server->cache);
    server->index = index_close(server->index);
    spool_close(&server->spool);
    relay_link_deinit(&server->relay);
    pending_deinit(&server->mutations);
    pending_deinit(&server->syncs);
    buffer_deinit(&server->scratch);
    arena_deinit(&server->arena);
    log_limit_deinit(&server->log_limit);
    supervisor_deinit(&server->supervisor);
    cleanup_fd(&server->signal_fd);
    server->signal_fd = -1;
    log_event(&server->log, LOG_INFO, "stopped");
}
