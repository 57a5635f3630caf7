/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's counters, and the list of its clients. Each client counts on a page of its own
 * (client_page.h), so reading costs the clients nothing; the daemon adds the pages up here, on
 * request.
 */
#include "clocktime.h"
#include "inspect.h"
#include "numbers.h"
#include "server.h"
#include "text.h"

#include <sys/resource.h>

/* ---- Status ---- */

struct stats {
    struct stat_view list[STATS_MAX];
    size_t count;
};

static void stat_number(struct stats *stats, const char *name, uint64_t number)
{
    if (stats->count < STATS_MAX)
        stats->list[stats->count++] = (struct stat_view){.name = str_of(name), .number = number};
}

static void stat_text(struct stats *stats, const char *name, const char *text)
{
    if (stats->count < STATS_MAX)
        stats->list[stats->count++] = (struct stat_view){
            .name = str_of(name), .is_text = true, .text = str_of(text)};
}

/* What the kernel gave this process. */
static void stats_of_process(struct stats *stats, const struct server *server)
{
    static const char *const huge_words[] = {"auto", "on", "off"};
    struct rlimit files = {0};
    struct store_identity identity;

    (void)getrlimit(RLIMIT_NOFILE, &files);
    stat_number(stats, "open_files_limit", files.rlim_cur);
    stat_number(stats, "loop_refused_errno", (uint64_t)server->loop_refused);
    stat_text(stats, "huge_pages", huge_words[server->config.huge_pages]);
    stat_number(stats, "huge_page_bytes", huge_pages_bytes(server->huge_pages));
    stat_number(stats, "huge_page_bytes_wanted", huge_pages_wanted_bytes(server->huge_pages));
    stat_number(stats, "map_bytes", server->config.map_bytes);
    if (store_identify(server->store, &identity) == 0)
        stat_text(stats, "state_file_system", identity.local ? "local" : "remote");
}

static void stats_of_run(struct stats *stats, struct server *server)
{
    const uint64_t now = time_coarse_ns();
    const uint64_t deadline = server->lease.deadline_ns;

    stat_text(stats, "version", ETAG_VERSION_STRING);
    stat_number(stats, "pid", (uint64_t)getpid());
    stat_number(stats, "uptime_ms", time_wall_ms() - server->started_wall_ms);
    stat_text(stats, "start", server->warm ? "warm" : "cold");
    stat_number(stats, "loading", server->loader ? entry_loader_progress(server->loader).left : 0);
    stat_text(stats, "loop", loop_name(server->loop));
    stat_text(stats, "durability",
              server->config.durability == DURABILITY_POWER ? "power" : "process");
    stat_text(stats, "socket", server->config.socket_path);
    stat_text(stats, "state_dir", server->config.state_dir);
    stat_number(stats, "incarnation", server->incarnation);
    stat_number(stats, "lsn", server->cache.lsn);
    stat_text(stats, "lease",
              server->lease.paused ? "paused" : (now < deadline ? "held" : "expired"));
    stat_number(stats, "lease_ms", server->lease.length_ns / NS_PER_MS);
    stat_number(stats, "lease_margin_ms", now < deadline ? (deadline - now) / NS_PER_MS : 0);
    /* What was left at a renewal, at the least. */
    stat_number(stats, "lease_margin_min_ms",
                min_of(server->lease.margin_min_ns, server->lease.length_ns) / NS_PER_MS);
    stats_of_process(stats, server);
}

/* Since then; 0: it never was. */
static uint64_t age_ms(uint64_t then_ns, uint64_t now_ns)
{
    return then_ns != 0 && now_ns > then_ns ? (now_ns - then_ns) / NS_PER_MS : 0;
}

static void stats_of_relay(struct stats *stats, struct server *server)
{
    const struct relay_link *relay = &server->relay;
    const uint64_t now = time_coarse_ns();

    stat_text(stats, "relay", relay_mode_word(server->config.relay));
    if (server->config.relay == RELAY_OFF)
        return;
    stat_number(stats, "relay_connected", relay->peer_id != 0);
    stat_text(stats, "relay_engine", relay->engine);
    stat_number(stats, "relay_l_net_ms", relay->l_net_ms);
    /* What is left of what was proved, and how old that is. */
    stat_number(stats, "relay_margin_ms", freshness_left_ns(&relay->freshness, now) / NS_PER_MS);
    stat_number(stats, "relay_fresh_age_ms", age_ms(relay->freshness.fresh_ns, now));
    stat_number(stats, "relay_cursor_age_ms", age_ms(relay->batch_ns, now));
    stat_number(stats, "relay_cursor_bytes", relay->settled.cursor.len);
    stat_number(stats, "relay_batches", relay->batches);
    stat_number(stats, "relay_events", relay->batch_events);
    stat_number(stats, "relay_everything", relay->everything);
    stat_number(stats, "relay_refused", relay->refused);
    stat_number(stats, "relay_published", relay->published);
    stat_number(stats, "relay_queue", relay->outgoing.count);
    stat_number(stats, "relay_queue_bytes", relay->outgoing.bytes);
    stat_number(stats, "relay_queue_full", relay->outgoing.collapsed);
}

static void stats_of_cache(struct stats *stats, struct server *server)
{
    const struct index_stats *index = index_stats(server->index);

    stat_number(stats, "entries", index_count(server->index));
    stat_number(stats, "capacity", index_capacity(server->index));
    stat_number(stats, "clocks", server->cache.view->clock_count);
    stat_number(stats, "index_bytes", index_bytes(server->index));
    stat_number(stats, "index_taken_bytes", index_taken_bytes(server->index));
    stat_number(stats, "pool_units", server->cache.view->pool_units);
    stat_number(stats, "pool_units_used", index_pool_used_units(server->index));
    stat_number(stats, "pool_not_extended", index->pool_not_extended);
    stat_number(stats, "field_sets", index_fieldset_count(server->index));
    stat_number(stats, "evicted_stale", index->evicted_stale);
    stat_number(stats, "evicted_expired", index->evicted_expired);
    stat_number(stats, "evicted_oldest", index->evicted_oldest);
    stat_number(stats, "evicted_pool", index->evicted_pool);
    stat_number(stats, "guards_open", server->cache.guards.open_count);
    stat_number(stats, "holds_open", server->cache.guards.hold_count);
    stat_number(stats, "guards_bytes", server->cache.guards.bytes);
    stat_number(stats, "guard_linger_ms", server->config.linger_ns / NS_PER_MS);
    stat_number(stats, "spool_applied", server->spool.applied);
    stat_number(stats, "spool_waiting", spool_waiting(&server->spool));
    stat_number(stats, "spool_garbage", server->spool.garbage);
    stat_number(stats, "spool_ignored", server->spool.ignored);
#define CACHE_STAT(name, text) stat_number(stats, #name, server->cache.counters.name);
    CACHE_COUNTERS(CACHE_STAT)
#undef CACHE_STAT
    stat_number(stats, "stored_entries", store_entry_count(server->store));
    stat_number(stats, "store_bytes", store_used_bytes(server->store));
    stat_number(stats, "store_waiting", persist_waiting(server->persist));
    stat_text(stats, "store", persist_failed(server->persist) ? "failed" : "ok");
}

static void stats_of_peers(struct stats *stats, struct server *server)
{
    const struct counters counters = peers_counters(&server->peers);
    const struct peers *peers = &server->peers;
    const struct strangers_figures strangers = strangers_figures(server->strangers);

    stat_number(stats, "peers", peers->count + strangers.count);
    stat_number(stats, "peers_without_role", strangers.count);
    stat_number(stats, "peers_accepted", peers->accepted + strangers.accepted);
    stat_number(stats, "peers_refused", strangers.refused);
    stat_number(stats, "peers_protocol_errors", peers->protocol_errors + strangers.protocol_errors);
    stat_number(stats, "peers_slow", peers->slow + strangers.slow);
    stat_number(stats, "queued_bytes", loop_queued(server->loop));
    stat_number(stats, "queued_bytes_max", peers->queued_max);
    stat_number(stats, "turn_requests_max", server->intake.frames_max);
    stat_number(stats, "log_lines_not_said", log_limit_not_said(&server->log_limit));
#define CLIENT_STAT(name, text) stat_number(stats, "clients." #name, counters.name);
    CLIENT_COUNTERS(CLIENT_STAT)
#undef CLIENT_STAT
}

struct histograms {
    struct histogram_view list[HISTOGRAMS_MAX];
    size_t count;
};

static void histogram_show(struct histograms *to, struct arena *arena, const char *name,
                           const struct histogram *from)
{
    _Static_assert(HISTOGRAM_BUCKETS <= HISTOGRAM_BUCKETS_MAX, "fits");
    struct bucket_view *buckets = arena_array(arena, HISTOGRAM_BUCKETS, sizeof(*buckets));
    size_t count = 0;

    if (!buckets)
        return;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        if (from->counts[i] > 0)
            buckets[count++] = (struct bucket_view){histogram_upto_ns(i), from->counts[i]};
    to->list[to->count++] = (struct histogram_view){
        .name = str_of(name), .sum_ns = from->sum_ns, .buckets = buckets, .bucket_count = count};
}

void inspect_status(struct server *server, struct peer *peer, const struct request *request)
{
    struct stats stats = {.count = 0};
    struct histograms histograms = {.count = 0};

    stats_of_run(&stats, server);
    stats_of_relay(&stats, server);
    stats_of_cache(&stats, server);
    stats_of_peers(&stats, server);
    histogram_show(&histograms, &server->arena, "mutation_times", &server->mutation_times);
    histogram_show(&histograms, &server->arena, "lease_margins", &server->lease.margins);
    const struct reply reply = {
        .id = request->id,
        .kind = REPLY_STATUS,
        .status = {.stats = stats.list,
                   .stat_count = stats.count,
                   .histograms = histograms.list,
                   .histogram_count = histograms.count},
    };
    peer_send(&server->peers, peer, &reply, NULL, 0);
}

/* ---- Clients ---- */

#define COUNTS_MAX (sizeof(struct counters) / sizeof(uint64_t))
_Static_assert(COUNTS_MAX <= CLIENT_COUNTS_MAX, "fits");

static void counts_show(struct client_view *view, struct arena *arena,
                        const struct counters *counters)
{
    view->counts = arena_array(arena, COUNTS_MAX, sizeof(*view->counts));
    if (!view->counts)
        return;
#define SHOW(field, text)                                                                          \
    do {                                                                                           \
        const uint64_t number = counter_get(&counters->field);                                     \
        if (number > 0)                                                                            \
            view->counts[view->count_count++] = (struct stat_view){.name = ETAG_LIT(#field),       \
                                                                   .number = number};              \
    } while (0);
    CLIENT_COUNTERS(SHOW)
#undef SHOW
}

static void client_show(struct client_view *view, struct arena *arena, const struct peer *peer,
                        uint64_t now_ns)
{
    *view = (struct client_view){
        .id = peer->id >> PEER_ID_TABLE_BITS,
        .pid = peer->pid,
        .uid = peer->uid,
        .roles = peer->roles,
        .software = str_of(peer->software),
        .age_ms = (now_ns - peer->opened_ns) / NS_PER_MS,
        .idle_ms = (now_ns - peer->last_ns) / NS_PER_MS,
        .pending = peer->pending,
        .watching = peer->watching,
        .counts_itself = peer->page.counters != NULL,
    };
    if (peer->page.counters)
        counts_show(view, arena, peer->page.counters);
}

/* A page is a part of the table: who comes or goes in between is missing or shown, but none
 * twice. */
void inspect_clients(struct server *server, struct peer *peer, const struct request *request)
{
    const struct peers *peers = &server->peers;
    const uint64_t now_ns = time_coarse_ns();
    struct reply reply = {.id = request->id, .kind = REPLY_CLIENTS};
    size_t place = request->clients.after;

    reply.clients.clients = arena_array(&server->arena, CLIENTS_PAGE_MAX,
                                        sizeof(*reply.clients.clients));
    if (!reply.clients.clients) {
        peer_send_error(&server->peers, peer, request->id, WIRE_ERROR_INTERNAL, "no memory");
        return;
    }
    for (; place < PEERS_MAX && reply.clients.client_count < CLIENTS_PAGE_MAX; place++)
        if (peers->table[place] && peers->table[place]->stream)
            client_show(&reply.clients.clients[reply.clients.client_count++], &server->arena,
                        peers->table[place], now_ns);
    reply.clients.next = place < PEERS_MAX ? (uint32_t)place : 0;
    peer_send(&server->peers, peer, &reply, NULL, 0);
}
