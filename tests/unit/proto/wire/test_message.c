/* SPDX-License-Identifier: Apache-2.0 */
/* Messages: everything that goes in comes out again; what a peer must not send is refused by
 * name. */
#include "message_fixture.h"

#include "bytes.h"
#include "numbers.h"

#include <errno.h>
#include <string.h>

static etag_field vary[] = {
    {ETAG_LIT("accept-language"), ETAG_LIT("de")},
    {ETAG_LIT("accept-encoding"), {NULL, 0}},
    {ETAG_LIT("x-empty"), ETAG_LIT("")},
};
static struct kept_field fields[] = {
    {FIELDSET_LITERAL, {ETAG_LIT("Cache-Control"), ETAG_LIT("max-age=60")}, 0},
    {FIELDSET_EXPIRES, {{NULL, 0}, {NULL, 0}}, -5},
    {FIELDSET_LITERAL, {ETAG_LIT("Vary"), ETAG_LIT("")}, 0},
};
static etag_str surrogates[] = {ETAG_LIT("upload:42"), ETAG_LIT("customer:7")};
static etag_resource resources[] = {
    {ETAG_LIT("example.org"), ETAG_LIT("/a?b")},
    {{NULL, 0}, ETAG_LIT("/c")},
};

static struct entry full_entry(void)
{
    return (struct entry){
        .key = {.size = sizeof(etag_key),
                .resource = {ETAG_LIT("example.org"), ETAG_LIT("/uploads/42?x=%20\x01")},
                .scope = {ETAG_SCOPE_NAMED, ETAG_LIT("customer:7")},
                .release = ETAG_LIT("r1"),
                .scheme = ETAG_LIT("https"),
                .vary = vary,
                .vary_count = 3},
        .etag = ETAG_LIT("W/\"v1\""),
        .last_modified = -1,
        .fields = fields,
        .field_count = 3,
        .content_location = ETAG_LIT("/uploads/42.json"),
        .surrogates = surrogates,
        .surrogate_count = 2,
        .max_age_ms = UINT64_MAX,
        .last_modified_is_strong = true,
    };
}

static void assert_full_entry(const struct entry *e)
{
    assert_int_equal(e->key.size, sizeof(etag_key));
    assert_text(e->key.resource.host, "example.org");
    assert_text(e->key.resource.target, "/uploads/42?x=%20\x01");
    assert_int_equal(e->key.scope.kind, ETAG_SCOPE_NAMED);
    assert_text(e->key.scope.name, "customer:7");
    assert_text(e->key.release, "r1");
    assert_text(e->key.scheme, "https");
    assert_int_equal(e->key.vary_count, 3);
    assert_text(e->key.vary[0].name, "accept-language");
    assert_text(e->key.vary[0].value, "de");
    assert_text(e->key.vary[1].name, "accept-encoding");
    assert_null(e->key.vary[1].value.data);
    assert_text(e->key.vary[2].value, "");
    assert_text(e->etag, "W/\"v1\"");
    assert_int_equal(e->last_modified, -1);
    assert_int_equal(e->field_count, 3);
    assert_int_equal(e->fields[0].kind, FIELDSET_LITERAL);
    assert_text(e->fields[0].field.name, "Cache-Control");
    assert_text(e->fields[0].field.value, "max-age=60");
    assert_int_equal(e->fields[1].kind, FIELDSET_EXPIRES);
    assert_int_equal(e->fields[1].offset_s, -5);
    assert_text(e->fields[2].field.value, "");
    assert_text(e->content_location, "/uploads/42.json");
    assert_int_equal(e->surrogate_count, 2);
    assert_text(e->surrogates[0], "upload:42");
    assert_text(e->surrogates[1], "customer:7");
    assert_true(e->max_age_ms == UINT64_MAX);
    assert_true(e->last_modified_is_strong);
}

/* ---- Round trips ---- */

MESSAGE_CASE(hello_round_trip)
{
    struct request out;
    const struct request in = {.id = UINT64_MAX,
                               .kind = REQUEST_HELLO,
                               .hello = {PROTOCOL_VERSION, ETAG_LIT("libetag 1.2.3")}};

    assert_null(request_over(f, &in, &out));
    assert_true(out.id == UINT64_MAX);
    assert_int_equal(out.kind, REQUEST_HELLO);
    assert_int_equal(out.hello.protocol, PROTOCOL_VERSION);
    assert_text(out.hello.software, "libetag 1.2.3");
}

MESSAGE_CASE(fill_round_trip)
{
    struct request out;
    struct request in = {.id = 7, .kind = REQUEST_FILL};

    in.fill.token = (etag_token){UINT64_MAX, UINT64_C(1) << 62};
    in.fill.entry = full_entry();
    in.fill.want_verdict = true;
    assert_null(request_over(f, &in, &out));
    assert_int_equal(out.id, 7);
    assert_int_equal(out.kind, REQUEST_FILL);
    assert_true(out.fill.token.incarnation == UINT64_MAX);
    assert_true(out.fill.token.lsn == UINT64_C(1) << 62);
    assert_true(out.fill.want_verdict);
    assert_full_entry(&out.fill.entry);
}

/* A daemon that does not know "gone" sees a fill without a tag, and refuses it. */
MESSAGE_CASE(a_tombstone_is_no_fill)
{
    uint8_t packed[FIELDSET_BYTES_MAX];
    struct request out;
    struct request in = {.id = 9, .kind = REQUEST_FILL};

    in.fill.entry.key = full_entry().key;
    in.fill.entry.last_modified = ETAG_NO_DATE;
    in.fill.gone = true;
    assert_null(request_over(f, &in, &out));
    assert_true(out.fill.gone);
    assert_text(out.fill.entry.key.resource.target, "/uploads/42?x=%20\x01");
    assert_non_null(entry_check(&out.fill.entry, packed));
    in.fill.gone = false;
    assert_null(request_over(f, &in, &out));
    assert_false(out.fill.gone);
}

MESSAGE_CASE(sparse_entry_round_trip)
{
    struct request out;
    struct request in = {.id = 8, .kind = REQUEST_FILL};

    in.fill.entry.key.scope.kind = ETAG_SCOPE_PUBLIC;
    in.fill.entry.last_modified = ETAG_NO_DATE;
    assert_null(request_over(f, &in, &out));
    assert_true(out.fill.entry.last_modified == ETAG_NO_DATE);
    assert_text(out.fill.entry.etag, "");
    assert_text(out.fill.entry.content_location, "");
    assert_text(out.fill.entry.key.release, "");
    assert_int_equal(out.fill.entry.surrogate_count, 0);
    assert_int_equal(out.fill.entry.field_count, 0);
    assert_int_equal(out.fill.entry.key.vary_count, 0);
    in.fill.entry.last_modified = 0; /* 1970 is a date */
    assert_null(request_over(f, &in, &out));
    assert_int_equal(out.fill.entry.last_modified, 0);
}

MESSAGE_CASE(targets_round_trip)
{
    struct request out;
    const struct request in = {.id = 9,
                               .kind = REQUEST_INVALIDATE,
                               .targets = {.size = sizeof(etag_targets),
                                           .resources = resources,
                                           .resource_count = 2,
                                           .surrogates = surrogates,
                                           .surrogate_count = 2,
                                           .prefixes = resources + 1,
                                           .prefix_count = 1,
                                           .families = surrogates,
                                           .family_count = 2,
                                           .everything = true,
                                           .reach = ETAG_REACH_LOG,
                                           .position = UINT64_MAX}};

    assert_null(request_over(f, &in, &out));
    assert_int_equal(out.kind, REQUEST_INVALIDATE);
    assert_int_equal(out.targets.size, sizeof(etag_targets));
    assert_int_equal(out.targets.resource_count, 2);
    assert_text(out.targets.resources[0].host, "example.org");
    assert_text(out.targets.resources[1].target, "/c");
    assert_int_equal(out.targets.surrogate_count, 2);
    assert_text(out.targets.surrogates[1], "customer:7");
    assert_int_equal(out.targets.prefix_count, 1);
    assert_text(out.targets.prefixes[0].target, "/c");
    assert_int_equal(out.targets.family_count, 2);
    assert_text(out.targets.families[1], "customer:7");
    assert_true(out.targets.everything);
    assert_int_equal(out.targets.reach, ETAG_REACH_LOG);
    assert_true(out.targets.position == UINT64_MAX);
}

MESSAGE_CASE(other_requests_round_trip)
{
    static const enum request_kind empty[] = {REQUEST_PING, REQUEST_STATUS, REQUEST_WATCH,
                                              REQUEST_SYNC, REQUEST_PAUSE,  REQUEST_RESUME};
    struct request out;

    for (size_t i = 0; i < COUNT_OF(empty); i++) {
        const struct request in = {.id = 0, .kind = empty[i]};
        assert_null(request_over(f, &in, &out));
        assert_int_equal(out.id, 0);
        assert_int_equal(out.kind, empty[i]);
    }
    struct request in = {.id = 1, .kind = REQUEST_GET, .key = full_entry().key};
    assert_null(request_over(f, &in, &out));
    assert_int_equal(out.kind, REQUEST_GET);
    assert_text(out.key.scope.name, "customer:7");
    in.kind = REQUEST_EXPLAIN;
    assert_null(request_over(f, &in, &out));
    assert_int_equal(out.kind, REQUEST_EXPLAIN);
    assert_int_equal(out.key.vary_count, 3);
    in = (struct request){.id = 2, .kind = REQUEST_LIST};
    in.list.prefix = ETAG_LIT("/a/");
    in.list.limit = UINT32_MAX;
    in.list.after = ETAG_LIT("\0x");
    assert_null(request_over(f, &in, &out));
    assert_text(out.list.prefix, "/a/");
    assert_int_equal(out.list.limit, UINT32_MAX);
    assert_text(out.list.after, "\0x");
    in = (struct request){.id = 3, .kind = REQUEST_CLIENTS, .clients = {.after = 4095}};
    assert_null(request_over(f, &in, &out));
    assert_int_equal(out.kind, REQUEST_CLIENTS);
    assert_int_equal(out.clients.after, 4095);
    in = (struct request){.id = 3, .kind = REQUEST_LOG, .log = {1, UINT64_MAX, 3, 4, 5, true}};
    assert_null(request_over(f, &in, &out));
    assert_int_equal(out.kind, REQUEST_LOG);
    assert_memory_equal(&out.log, &in.log, sizeof(in.log));
}

MESSAGE_CASE(small_replies_round_trip)
{
    struct reply out;
    struct reply in = {.id = 3, .kind = REPLY_ERROR};

    in.error.code = WIRE_ERROR_DENIED;
    in.error.text = ETAG_LIT("no role");
    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.kind, REPLY_ERROR);
    assert_int_equal(out.error.code, WIRE_ERROR_DENIED);
    assert_text(out.error.text, "no role");

    in = (struct reply){
        .id = 3,
        .kind = REPLY_RECEIPT,
        .receipt = {UINT64_MAX, ETAG_REACH_EVERYWHERE, ETAG_PROOF_ACKNOWLEDGED, true}};
    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.kind, REPLY_RECEIPT);
    assert_true(out.receipt.lsn == UINT64_MAX);
    assert_int_equal(out.receipt.reach, ETAG_REACH_EVERYWHERE);
    assert_int_equal(out.receipt.proof, ETAG_PROOF_ACKNOWLEDGED);
    assert_true(out.receipt.more);

    in = (struct reply){.id = 3, .kind = REPLY_FILL, .fill = {ETAG_REASON_TOKEN_STALE, 77}};
    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.fill.reason, ETAG_REASON_TOKEN_STALE);
    assert_int_equal(out.fill.lsn, 77);

    in = (struct reply){.id = 3, .kind = REPLY_DONE};
    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.kind, REPLY_DONE);
    assert_int_equal(out.id, 3);
}

MESSAGE_CASE(hello_reply_round_trip)
{
    struct reply out;
    const struct reply in = {.id = 1,
                             .kind = REPLY_HELLO,
                             .hello = {1, ETAG_LIT("etagd 1.2.3"), 15, 1, 2, UINT64_MAX, 4, 4096}};

    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.kind, REPLY_HELLO);
    assert_int_equal(out.hello.protocol, 1);
    assert_text(out.hello.software, "etagd 1.2.3");
    assert_int_equal(out.hello.roles, 15);
    assert_int_equal(out.hello.clock_ns, 1);
    assert_int_equal(out.hello.lease_ns, 2);
    assert_true(out.hello.incarnation_id == UINT64_MAX);
    assert_int_equal(out.hello.index_bytes, 4);
    assert_int_equal(out.hello.counters_bytes, 4096);
}

static struct entry_view full_view(void)
{
    return (struct entry_view){full_entry(), 11, 12, ETAG_REASON_STALE, true, true};
}

static void assert_full_view(const struct entry_view *view)
{
    assert_full_entry(&view->entry);
    assert_int_equal(view->fill_lsn, 11);
    assert_int_equal(view->expires_wall_ms, 12);
    assert_int_equal(view->state, ETAG_REASON_STALE);
    assert_true(view->in_index);
    assert_true(view->persisted);
}

MESSAGE_CASE(views_round_trip)
{
    struct reply out;
    struct reply in = {.id = 4, .kind = REPLY_GET, .get = full_view()};

    assert_null(reply_over(f, &in, &out));
    assert_full_view(&out.get);

    struct entry_view views[] = {full_view(), full_view()};
    in = (struct reply){.id = 5, .kind = REPLY_LIST};
    in.list.entries = views;
    in.list.entry_count = 2;
    in.list.next = ETAG_LIT("cursor");
    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.list.entry_count, 2);
    assert_full_view(&out.list.entries[1]);
    assert_text(out.list.next, "cursor");

    struct event_view events[] = {{.lsn = 7, .kind = EVENT_GUARD_ABORT, .guard = {1, 2}},
                                  {.lsn = 8, .wall_ms = 9, .peer_pid = 10, .peer_uid = 11}};
    events[1].relayed = true;
    events[1].origin = (struct relay_origin){ETAG_LIT("postgres"), 748, UINT64_MAX, 3,
                                             ETAG_LIT("front2")};
    ETAG_INIT(&events[0].targets);
    ETAG_INIT(&events[1].targets);
    events[1].targets.surrogates = surrogates;
    events[1].targets.surrogate_count = 2;
    in = (struct reply){.id = 6, .kind = REPLY_LOG, .log = {events, 2, 12, 13}};
    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.kind, REPLY_LOG);
    assert_int_equal(out.log.event_count, 2);
    assert_int_equal(out.log.events[0].kind, EVENT_GUARD_ABORT);
    assert_int_equal(out.log.events[0].guard.low, 2);
    assert_text(out.log.events[1].targets.surrogates[1], "customer:7");
    assert_int_equal(out.log.events[1].peer_uid, 11);
    assert_false(out.log.events[0].relayed);
    assert_true(out.log.events[1].relayed);
    assert_text(out.log.events[1].origin.engine, "postgres");
    assert_int_equal(out.log.events[1].origin.first_position, 748);
    assert_true(out.log.events[1].origin.last_position == UINT64_MAX);
    assert_int_equal(out.log.events[1].origin.event_count, 3);
    assert_text(out.log.events[1].origin.writers, "front2");
    assert_int_equal(out.log.next_lsn, 12);
    assert_int_equal(out.log.oldest_lsn, 13);
}

MESSAGE_CASE(explain_round_trip)
{
    struct clock_view clocks[] = {{TARGET_EVERYTHING, {NULL, 0}, 0, 1},
                                  {TARGET_RESOURCE, ETAG_LIT("/a"), 1, 2},
                                  {TARGET_PREFIX, ETAG_LIT("/"), 2, 3},
                                  {TARGET_SURROGATE, ETAG_LIT("upload:42"), 3, UINT64_MAX},
                                  {TARGET_FAMILY, ETAG_LIT("upload"), 4, 5}};
    struct reply out;
    struct reply in = {.id = 6, .kind = REPLY_EXPLAIN};

    in.explain.view = full_view();
    in.explain.clocks = clocks;
    in.explain.clock_count = 5;
    in.explain.culprit = 3;
    in.explain.has_event = true;
    in.explain.event.lsn = 21;
    in.explain.event.wall_ms = 22;
    in.explain.event.targets.surrogates = surrogates;
    in.explain.event.targets.surrogate_count = 1;
    in.explain.event.peer_pid = 23;
    in.explain.event.peer_uid = 24;
    in.explain.event.dropped = 25;
    in.explain.lease_deadline_ns = 26;
    in.explain.clock_ns = 27;
    assert_null(reply_over(f, &in, &out));
    assert_full_view(&out.explain.view);
    assert_int_equal(out.explain.clock_count, 5);
    assert_int_equal(out.explain.clocks[4].kind, TARGET_FAMILY);
    assert_int_equal(out.explain.clocks[1].kind, TARGET_RESOURCE);
    assert_text(out.explain.clocks[3].name, "upload:42");
    assert_int_equal(out.explain.clocks[3].number, 3);
    assert_true(out.explain.clocks[3].value == UINT64_MAX);
    assert_int_equal(out.explain.culprit, 3);
    assert_true(out.explain.has_event);
    assert_int_equal(out.explain.event.lsn, 21);
    assert_int_equal(out.explain.event.wall_ms, 22);
    assert_text(out.explain.event.targets.surrogates[0], "upload:42");
    assert_int_equal(out.explain.event.peer_pid, 23);
    assert_int_equal(out.explain.event.peer_uid, 24);
    assert_int_equal(out.explain.event.dropped, 25);
    assert_int_equal(out.explain.lease_deadline_ns, 26);
    assert_int_equal(out.explain.clock_ns, 27);

    in.explain.culprit = -1;
    in.explain.has_event = false;
    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.explain.culprit, -1);
    assert_false(out.explain.has_event);
    in.explain.culprit = 0;
    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.explain.culprit, 0);
    in.explain.culprit = 5;
    assert_non_null(reply_over(f, &in, &out));
    assert_int_equal(out.kind, REPLY_NONE);
}

MESSAGE_CASE(status_and_event_round_trip)
{
    struct stat_view stats[] = {{ETAG_LIT("entries"), false, 5, {NULL, 0}},
                                {ETAG_LIT("loop"), true, 0, ETAG_LIT("io_uring")},
                                {ETAG_LIT("empty"), true, 0, {NULL, 0}},
                                {ETAG_LIT("zero"), false, 0, {NULL, 0}}};
    struct reply out;
    struct reply in = {.id = 7, .kind = REPLY_STATUS, .status = {stats, 4}};

    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.status.stat_count, 4);
    assert_false(out.status.stats[0].is_text);
    assert_int_equal(out.status.stats[0].number, 5);
    assert_true(out.status.stats[1].is_text);
    assert_text(out.status.stats[1].text, "io_uring");
    assert_true(out.status.stats[2].is_text);
    assert_text(out.status.stats[2].text, "");
    assert_false(out.status.stats[3].is_text);

    struct bucket_view buckets[] = {{1024, 7}, {UINT64_MAX, 1}};
    struct histogram_view histograms[] = {{ETAG_LIT("times"), 12345, buckets, 2},
                                          {ETAG_LIT("empty"), 0, NULL, 0}};
    in.status.histograms = histograms;
    in.status.histogram_count = 2;
    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.status.stat_count, 4);
    assert_int_equal(out.status.histogram_count, 2);
    assert_text(out.status.histograms[0].name, "times");
    assert_int_equal(out.status.histograms[0].sum_ns, 12345);
    assert_int_equal(out.status.histograms[0].bucket_count, 2);
    assert_int_equal(out.status.histograms[0].buckets[0].upto_ns, 1024);
    assert_int_equal(out.status.histograms[0].buckets[0].count, 7);
    assert_true(out.status.histograms[0].buckets[1].upto_ns == UINT64_MAX);
    assert_int_equal(out.status.histograms[1].bucket_count, 0);

    in = (struct reply){.id = 8, .kind = REPLY_EVENT};
    in.event.lsn = 1;
    in.event.targets.everything = true;
    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.event.lsn, 1);
    assert_true(out.event.targets.everything);
    assert_int_equal(out.event.targets.size, sizeof(etag_targets));
}

MESSAGE_CASE(clients_round_trip)
{
    struct stat_view counts[] = {{ETAG_LIT("checks"), false, 12, {NULL, 0}}};
    struct client_view clients[] = {{.id = 3,
                                     .pid = 4,
                                     .uid = 1000,
                                     .roles = ROLE_READ | ROLE_FILL,
                                     .software = ETAG_LIT("libetag 1.2.3"),
                                     .age_ms = 60000,
                                     .idle_ms = 5,
                                     .pending = 2,
                                     .watching = true,
                                     .counts_itself = true,
                                     .counts = counts,
                                     .count_count = 1},
                                    {.id = 9}};
    const struct reply in = {.id = 7, .kind = REPLY_CLIENTS, .clients = {clients, 2, .next = 256}};
    struct reply out;

    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.kind, REPLY_CLIENTS);
    assert_int_equal(out.clients.client_count, 2);
    assert_int_equal(out.clients.next, 256);
    const struct client_view *const client = &out.clients.clients[0];
    assert_int_equal(client->id, 3);
    assert_int_equal(client->pid, 4);
    assert_int_equal(client->uid, 1000);
    assert_int_equal(client->roles, ROLE_READ | ROLE_FILL);
    assert_text(client->software, "libetag 1.2.3");
    assert_int_equal(client->age_ms, 60000);
    assert_int_equal(client->idle_ms, 5);
    assert_int_equal(client->pending, 2);
    assert_true(client->watching && client->counts_itself);
    assert_int_equal(client->count_count, 1);
    assert_text(client->counts[0].name, "checks");
    assert_int_equal(client->counts[0].number, 12);
    assert_false(out.clients.clients[1].counts_itself);
}

/* A page of clients with long names of their software and every counter large fits into a frame. */
MESSAGE_CASE(a_full_page_of_clients_fits)
{
    static struct stat_view counts[CLIENT_COUNTS_MAX];
    static struct client_view clients[CLIENTS_PAGE_MAX + 1];
    static const char software[] =
        "0123456789012345678901234567890123456789012345678901234567890123";
    struct reply out;

    for (size_t i = 0; i < CLIENT_COUNTS_MAX; i++)
        counts[i] = (struct stat_view){
            ETAG_LIT("a_counter_with_a_long_name"), false, UINT64_MAX, {NULL, 0}};
    for (size_t i = 0; i < CLIENTS_PAGE_MAX; i++)
        clients[i] = (struct client_view){.id = UINT64_MAX >> 12,
                                          .pid = UINT32_MAX,
                                          .software = ETAG_LIT(software),
                                          .counts = counts,
                                          .count_count = CLIENT_COUNTS_MAX};
    struct reply in = {.kind = REPLY_CLIENTS,
                       .clients = {clients, CLIENTS_PAGE_MAX, .next = PEERS_MAX - 1}};
    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.clients.client_count, CLIENTS_PAGE_MAX);
    in.clients.client_count++;
    assert_non_null(reply_over(f, &in, &out));
}

/* ---- Bounds ---- */

MESSAGE_CASE(targets_are_counted_together)
{
    static etag_str names[TARGETS_PER_EVENT_MAX];
    static etag_resource places[TARGETS_PER_EVENT_MAX];
    struct request out;
    struct request in = {.id = 1, .kind = REQUEST_INVALIDATE};

    for (size_t i = 0; i < TARGETS_PER_EVENT_MAX; i++) {
        names[i] = ETAG_LIT("n");
        places[i].target = ETAG_LIT("/");
    }
    in.targets.surrogates = names;
    in.targets.surrogate_count = TARGETS_PER_EVENT_MAX - 3;
    in.targets.families = names;
    in.targets.family_count = 1;
    in.targets.resources = places;
    in.targets.resource_count = 1;
    in.targets.prefixes = places;
    in.targets.prefix_count = 1;
    assert_null(request_over(f, &in, &out));
    assert_int_equal(out.targets.surrogate_count, TARGETS_PER_EVENT_MAX - 3);
    in.targets.prefix_count = 2;
    assert_non_null(request_over(f, &in, &out));
    in.targets.prefix_count = 1;
    in.targets.family_count = 2;
    assert_non_null(request_over(f, &in, &out));
    assert_int_equal(out.id, 1);
    assert_int_equal(out.kind, REQUEST_NONE);
}

MESSAGE_CASE(repeated_fields_are_bounded)
{
    static etag_str names[SURROGATES_PER_ENTRY_MAX + 1];
    static struct kept_field kept[FIELDS_PER_ENTRY_MAX + 1];
    static etag_field headers[VARY_COUNT_MAX + 1];
    struct request out;
    struct request in = {.id = 1, .kind = REQUEST_FILL};
    struct entry *const entry = &in.fill.entry;

    entry->surrogates = names;
    entry->fields = kept;
    entry->key.vary = headers;
    entry->surrogate_count = SURROGATES_PER_ENTRY_MAX;
    entry->field_count = FIELDS_PER_ENTRY_MAX;
    entry->key.vary_count = VARY_COUNT_MAX;
    assert_null(request_over(f, &in, &out));
    entry->surrogate_count++;
    assert_non_null(request_over(f, &in, &out));
    entry->surrogate_count--;
    entry->field_count++;
    assert_non_null(request_over(f, &in, &out));
    entry->field_count--;
    entry->key.vary_count++;
    assert_non_null(request_over(f, &in, &out));
}

MESSAGE_CASE(repeated_fields_of_replies_are_bounded)
{
    static struct entry_view views[LIST_PAGE_MAX + 1];
    static struct clock_view clocks[CLOCKS_PER_ENTRY_MAX + 1];
    static struct stat_view stats[513];
    struct reply out;
    struct reply in = {.kind = REPLY_LIST, .list = {views, LIST_PAGE_MAX, {NULL, 0}}};

    for (size_t i = 0; i <= LIST_PAGE_MAX; i++)
        views[i].entry.last_modified = ETAG_NO_DATE;
    assert_null(reply_over(f, &in, &out));
    in.list.entry_count++;
    assert_non_null(reply_over(f, &in, &out));

    in = (struct reply){.kind = REPLY_EXPLAIN};
    in.explain.clocks = clocks;
    in.explain.clock_count = CLOCKS_PER_ENTRY_MAX;
    in.explain.culprit = -1;
    assert_null(reply_over(f, &in, &out));
    in.explain.clock_count++;
    assert_non_null(reply_over(f, &in, &out));

    in = (struct reply){.kind = REPLY_STATUS, .status = {stats, 512}};
    assert_null(reply_over(f, &in, &out));
    in.status.stat_count++;
    assert_non_null(reply_over(f, &in, &out));
}

MESSAGE_CASE(frame_size_is_bounded)
{
    char *const text = calloc(1, FRAME_BYTES_MAX);
    struct reply in = {.kind = REPLY_ERROR};
    struct reply out;

    assert_non_null(text);
    /* Around the text: two tags, two lengths of three bytes. */
    in.error.text = (etag_str){text, FRAME_BYTES_MAX - 8};
    assert_null(reply_over(f, &in, &out));
    assert_int_equal(f->buffer.len, FRAME_HEADER_BYTES + FRAME_BYTES_MAX);
    assert_int_equal(out.error.text.len, FRAME_BYTES_MAX - 8);
    const size_t before = f->buffer.len;
    in.error.text.len++;
    assert_int_equal(reply_encode(&f->buffer, &in), -EMSGSIZE);
    assert_int_equal(f->buffer.len, before);
    free(text);
}

MESSAGE_CASE(arena_bounds_what_is_unpacked)
{
    struct request out;
    struct request in = {.id = 5, .kind = REQUEST_FILL};
    struct arena small;

    in.fill.entry = full_entry();
    assert_int_equal(request_encode(&f->buffer, &in), 0);
    /* Three fields, three of Vary, two names: texts take none, they point into the message. */
    const size_t needed = sizeof(fields) + sizeof(vary) + sizeof(surrogates);
    for (size_t bytes = 0; bytes < needed; bytes += 16) {
        arena_init(&small, bytes);
        assert_non_null(request_decode(&out, &small, payload_of(f)));
        assert_int_equal(out.id, 5);
        assert_int_equal(out.kind, REQUEST_NONE);
        arena_deinit(&small);
    }
    arena_init(&small, needed);
    assert_null(request_decode(&out, &small, payload_of(f)));
    assert_full_entry(&out.fill.entry);
    arena_deinit(&small);
}

/* ---- Malformed bytes ---- */

struct raw {
    const char *name;
    const char *bytes;
    size_t len;
};
#define RAW(name, literal)                                                                         \
    {                                                                                              \
        name, literal, sizeof(literal) - 1                                                         \
    }

MESSAGE_CASE(malformed_requests_are_refused)
{
    /* Each begins with id 7. */
    static const struct raw cases[] = {
        RAW("tag without value", "\x08\x07\x10"),
        RAW("group", "\x08\x07\x2b\x2c"),
        RAW("wire type 6", "\x08\x07\x2e"),
        RAW("wire type 7", "\x08\x07\x2f"),
        RAW("field number 0", "\x08\x07\x02\x00"),
        RAW("length beyond the end", "\x08\x07\x2a\x01"),
        RAW("length beyond any end", "\x08\x07\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        RAW("varint of eleven bytes", "\x08\x07\x30\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"),
        RAW("varint over 64 bits", "\x08\x07\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
        RAW("tag of six bytes", "\x08\x07\xf8\x81\x80\x80\x80\x00\x05"),
        RAW("length of six bytes", "\x08\x07\x2a\x80\x80\x80\x80\x80\x00"),
        RAW("tag over 32 bits", "\x08\x07\x80\x80\x80\x80\x10\x00"),
        RAW("id twice", "\x08\x07\x08\x07"),
        RAW("two bodies", "\x08\x07\x2a\x00\x4a\x00"),
        RAW("one body twice", "\x08\x07\x2a\x00\x2a\x00"),
        RAW("body as a number", "\x08\x07\x28\x00"),
        RAW("protocol as text", "\x08\x07\x12\x02\x0a\x00"),
        RAW("protocol over 32 bits", "\x08\x07\x12\x06\x08\x80\x80\x80\x80\x10"),
        RAW("software twice", "\x08\x07\x12\x04\x12\x00\x12\x00"),
        RAW("fill without token", "\x08\x07\x1a\x06\x12\x04\x0a\x02\x0a\x00"),
        RAW("fill without entry", "\x08\x07\x1a\x02\x0a\x00"),
        RAW("entry without key", "\x08\x07\x1a\x04\x0a\x00\x12\x00"),
        RAW("key without resource", "\x08\x07\x32\x02\x10\x01"),
        RAW("scope kind 3", "\x08\x07\x32\x04\x0a\x00\x10\x03"),
        RAW("last part cut short", "\x08\x07\x22\x04\x0a\x02\x0a\x05"),
    };
    struct request out;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        arena_reset(&f->arena);
        const char *const wrong = request_decode(&out, &f->arena,
                                                 (etag_str){cases[i].bytes, cases[i].len});
        if (!wrong)
            print_error("accepted: %s\n", cases[i].name);
        assert_non_null(wrong);
        assert_int_equal(out.id, 7);
        assert_int_equal(out.kind, REQUEST_NONE);
    }
}

MESSAGE_CASE(malformed_replies_are_refused)
{
    static const struct raw cases[] = {
        RAW("unknown fill reason", "\x08\x07\x2a\x02\x08\x7f"),
        RAW("unknown state", "\x08\x07\x32\x09\x0a\x05\x0a\x02\x0a\x00\x20\x7f"),
        RAW("view without entry", "\x08\x07\x32\x00"),
        RAW("explain without view", "\x08\x07\x3a\x00"),
        RAW("unknown kind of clock",
            "\x08\x07\x3a\x0b\x0a\x06\x0a\x04\x0a\x02\x0a\x00\x12\x02\x08\x41"),
        RAW("event without targets", "\x08\x07\x52\x00"),
        RAW("stat with two values", "\x08\x07\x4a\x06\x0a\x04\x10\x01\x1a\x00"),
    };
    struct reply out;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        arena_reset(&f->arena);
        const char *const wrong = reply_decode(&out, &f->arena,
                                               (etag_str){cases[i].bytes, cases[i].len});
        if (!wrong)
            print_error("accepted: %s\n", cases[i].name);
        assert_non_null(wrong);
        assert_int_equal(out.id, 7);
        assert_int_equal(out.kind, REPLY_NONE);
    }
}

MESSAGE_CASE(newer_peers_are_understood)
{
    static const struct raw cases[] = {
        RAW("unknown body", "\x08\x07\xf2\x01\x03\x0a\x01x"),
        RAW("no body", "\x08\x07"),
        RAW("unknown number", "\x08\x07\xf8\x01\x05"),
    };
    struct request out;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_null(request_decode(&out, &f->arena, (etag_str){cases[i].bytes, cases[i].len}));
        assert_int_equal(out.id, 7);
        assert_int_equal(out.kind, REQUEST_NONE);
    }
    /* A hello with a field that we do not know, of each wire type. */
    static const char hello[] = "\x08\x07\x12\x18\x08\x02\x12\x01s"
                                "\xf8\x01\x05\xf1\x01\x31\x32\x33\x34\x35\x36\x37\x38"
                                "\xfd\x01\x31\x32\x33\x34";
    assert_null(request_decode(&out, &f->arena, (etag_str){hello, sizeof(hello) - 1}));
    assert_int_equal(out.kind, REQUEST_HELLO);
    assert_int_equal(out.hello.protocol, 2);
    assert_text(out.hello.software, "s");
}

MESSAGE_CASE(id_is_found_behind_the_body)
{
    struct request out;
    static const char body_first[] = "\x2a\x00\x08\x09";

    assert_null(request_decode(&out, &f->arena, (etag_str){body_first, 4}));
    assert_int_equal(out.id, 9);
    assert_int_equal(out.kind, REQUEST_PING);
    static const char broken_body[] = "\x2a\x01\x08\x08\x09";
    assert_non_null(request_decode(&out, &f->arena, (etag_str){broken_body, 5}));
    assert_int_equal(out.id, 9);
}

/* No prefix and no single flipped bit does harm; sanitizers watch. A prefix never decodes as the
 * whole. */
MESSAGE_CASE(damaged_messages_do_no_harm)
{
    struct request out;
    struct request in = {.id = 300, .kind = REQUEST_FILL};

    in.fill.entry = full_entry();
    assert_int_equal(request_encode(&f->buffer, &in), 0);
    const etag_str whole = payload_of(f);
    char *const copy = malloc(whole.len);
    assert_non_null(copy);
    for (size_t len = 0; len < whole.len; len++) {
        char *const part = malloc(len ? len : 1);
        assert_non_null(part);
        memcpy(part, whole.data, len);
        arena_reset(&f->arena);
        const char *const wrong = request_decode(&out, &f->arena, (etag_str){part, len});
        assert_true(wrong || out.kind == REQUEST_NONE);
        assert_int_equal(out.id, len >= 3 ? 300 : 0);
        free(part);
    }
    for (size_t bit = 0; bit < whole.len * 8; bit++) {
        memcpy(copy, whole.data, whole.len);
        copy[bit / 8] = (char)(copy[bit / 8] ^ (1 << (bit % 8)));
        arena_reset(&f->arena);
        const char *const wrong = request_decode(&out, &f->arena, (etag_str){copy, whole.len});
        assert_true(!wrong || out.kind == REQUEST_NONE);
    }
    free(copy);
}

/* ---- Frames and errors ---- */

MESSAGE_CASE(frames_are_cut)
{
    etag_str payload = {0};
    const struct request ping = {.id = 1, .kind = REQUEST_PING};

    assert_int_equal(request_encode(&f->buffer, &ping), 0);
    const size_t first = f->buffer.len;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(request_encode(&f->buffer, &ping), 0);
    assert_int_equal(f->buffer.len, 1001 * first);
    const char *const bytes = (const char *)f->buffer.bytes;
    for (size_t len = 0; len < first; len++)
        assert_int_equal(frame_next((etag_str){bytes, len}, &payload), 0);
    assert_int_equal(frame_next((etag_str){bytes, first}, &payload), 1);
    assert_int_equal(frame_next((etag_str){bytes, first + 1}, &payload), 1);
    assert_ptr_equal(payload.data, bytes + FRAME_HEADER_BYTES);
    assert_int_equal(payload.len, first - FRAME_HEADER_BYTES);

    char header[4];
    const etag_str headless = {header, sizeof(header)};
    store_u32(header, 0);
    assert_int_equal(frame_next(headless, &payload), -EPROTO);
    store_u32(header, FRAME_BYTES_MAX);
    assert_int_equal(frame_next(headless, &payload), 0);
    store_u32(header, FRAME_BYTES_MAX + 1);
    assert_int_equal(frame_next(headless, &payload), -EPROTO);
    store_u32(header, UINT32_MAX);
    assert_int_equal(frame_next(headless, &payload), -EPROTO);
}

MESSAGE_CASE(buffer_refuses_what_overflows)
{
    assert_int_equal(buffer_reserve(&f->buffer, 10), 0);
    f->buffer.len = 10;
    assert_int_equal(buffer_reserve(&f->buffer, SIZE_MAX), -ENOMEM);
    assert_int_equal(buffer_reserve(&f->buffer, SIZE_MAX - 10), -ENOMEM);
    assert_int_equal(f->buffer.len, 10);
}

MESSAGE_CASE(errors_have_status_and_word)
{
    assert_int_equal(wire_error_status(WIRE_ERROR_DENIED), ETAG_DENIED);
    assert_int_equal(wire_error_status(WIRE_ERROR_BUSY), ETAG_UNAVAILABLE);
    assert_int_equal(wire_error_status(0), ETAG_FAILED);
    assert_int_equal(wire_error_status(4711), ETAG_FAILED);
    assert_string_equal(wire_error_word(WIRE_ERROR_MALFORMED), "malformed");
    assert_string_equal(wire_error_word(4711), "unknown");
}
