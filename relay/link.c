/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch goes out in parts, each within a frame and what the daemon takes as one event; the
 * receipt of the last one is the batch's. Events with holds of different lengths are in parts of
 * their own, since the daemon makes one event of a part.
 */
#include "link.h"

#include "bounds.h"
#include "clocktime.h"
#include "numbers.h"
#include "targets.h"
#include "text.h"

#include <errno.h>

/* The form of cursor.c's bytes: a cursor of another form, or another engine, is none. */
#define LOG_ID_BYTES 64
#define LOG_ID_FORM 1
/* Names of one part, so that it fits into a frame. */
#define PART_BYTES_MAX (FRAME_BYTES_MAX / 2)

static uint64_t now_fine_ns(void)
{
    return time_ns_of(CLOCK_MONOTONIC);
}

static etag_str log_id_of(const struct link *link, char out[LOG_ID_BYTES])
{
    (void)snprintf(out, LOG_ID_BYTES, "%s %d", link->engine, LOG_ID_FORM);
    return str_of(out);
}

/* ---- The end of a connection ---- */

static void link_break(struct link *link, uint32_t again_ms)
{
    link->broken = true;
    link->again_ms = again_ms;
}

static void link_close(struct link *link)
{
    if (link->state == LINK_READY) {
        link->session->figures.daemon_lost++;
        log_event(link->log, LOG_WARN, "daemon_lost");
    }
    session_daemon_lost(link->session);
    link->state = LINK_CLOSED;
    link->batch_id = 0;
    link->again_ns = now_fine_ns() + max_of(link->again_ms, LINK_AGAIN_MS) * NS_PER_MS;
    link->again_ms = 0;
    link->broken = false;
    channel_close(&link->channel);
}

static void link_failed(struct link *link, const struct fault *fault)
{
    /* Said once, and each time only to who wants to know everything. */
    log_event(link->log, link->unreachable ? LOG_DEBUG : LOG_WARN, "daemon_unreachable",
              log_text("socket", link->channel.path), log_text("why", fault->text));
    link->unreachable = true;
    link_close(link);
}

/* ---- Hello ---- */

/* Rule SAME_CLOCK: t0 is compared with the daemon's clock. In a time namespace ours is another one.
 */
static bool clock_is_ours(const struct channel_hello *hello)
{
    return hello->clock_before_ns <= hello->clock_ns && hello->clock_ns <= hello->clock_after_ns;
}

static void link_ask(struct link *link)
{
    struct channel_hello hello;
    struct fault fault = {0};

    if (!channel_take_hello(&link->channel, &hello))
        return;
    cleanup_fd(&hello.index_fd);
    cleanup_fd(&hello.counters_fd);
    if (!clock_is_ours(&hello)) {
        log_event(link->log, LOG_ERROR, "daemon_clock_differs",
                  log_text("do", "run etag-relay in the time namespace of etagd"));
        link_break(link, LINK_REFUSED_AGAIN_MS);
        return;
    }
    if (!(hello.roles & ROLE_RELAY)) {
        log_event(link->log, LOG_ERROR, "daemon_denies_role", log_text("role", "relay"),
                  log_text("do", "give it to this user: roles, relay: in etagd.yaml; then reload "
                                 "etagd"));
        link_break(link, LINK_REFUSED_AGAIN_MS);
        return;
    }
    struct request request = {
        .kind = REQUEST_RELAY_HELLO,
        .relay_hello = {.engine = str_of(link->engine), .l_net_ms = link->session->lease_ms},
    };
    if (channel_send(&link->channel, &request, NULL, &fault) != ETAG_OK) {
        link_failed(link, &fault);
        return;
    }
    link->hello_id = request.id;
    link->state = LINK_ASKING;
}

static void cursor_told(struct link *link, const struct reply *reply)
{
    char log_id[LOG_ID_BYTES];
    const etag_str cursor = reply->relay_hello.cursor;
    const bool ours = str_equal(reply->relay_hello.log_id, log_id_of(link, log_id));

    log_event(link->log, LOG_INFO, "daemon_connected",
              log_text("mode", relay_mode_word(reply->relay_hello.mode)),
              log_text("cursor", cursor.len == 0 ? "none"
                                 : ours          ? "known"
                                                 : "of another log"));
    session_daemon_ready(link->session, cursor, ours);
    link->state = LINK_READY;
    link->unreachable = false;
}

/* ---- Replies: the channel may not be called here ---- */

static void error_told(struct link *link, const struct reply *reply)
{
    log_event(link->log, LOG_ERROR, "daemon_refused",
              log_text("what", reply->id == link->hello_id ? "relay_hello" : "a message"),
              log_str("why", reply->error.text));
    if (link->state == LINK_READY)
        session_batch_refused(link->session);
    link_break(link, LINK_REFUSED_AGAIN_MS);
}

static void reply_take(void *context, const struct reply *reply)
{
    struct link *const link = context;

    switch (reply->kind) {
    case REPLY_ERROR:
        error_told(link, reply);
        break;
    case REPLY_RELAY_HELLO:
        cursor_told(link, reply);
        break;
    case REPLY_RECEIPT:
        if (link->batch_id != 0 && reply->id == link->batch_id) {
            link->batch_id = 0;
            session_settled(link->session);
        }
        break;
    case REPLY_RELAY_PUBLISH:
        if (!session_publish(link->session, reply->relay_publish.token,
                             &reply->relay_publish.targets))
            link_break(link, LINK_AGAIN_MS);
        break;
    default:
        break;
    }
}

/* ---- What the session says ---- */

struct part {
    size_t count, names, bytes;
    uint32_t hold_ms;
};

static size_t resource_bytes(const etag_resource *resources, size_t count)
{
    size_t bytes = 0;

    for (size_t i = 0; i < count; i++)
        bytes += resources[i].host.len + resources[i].target.len;
    return bytes;
}

static size_t bytes_of(const etag_targets *targets)
{
    size_t bytes = resource_bytes(targets->resources, targets->resource_count) +
                   resource_bytes(targets->prefixes, targets->prefix_count);

    for (size_t i = 0; i < targets->surrogate_count; i++)
        bytes += targets->surrogates[i].len;
    for (size_t i = 0; i < targets->family_count; i++)
        bytes += targets->families[i].len;
    return bytes;
}

static bool part_takes(const struct part *part, const etag_targets *targets)
{
    return part->count == 0 ||
           (part->hold_ms == targets->hold_ms && part->count < RELAY_BATCH_TARGETS_MAX &&
            part->names + targets_names(targets) <= TARGETS_PER_EVENT_MAX &&
            part->bytes + bytes_of(targets) <= PART_BYTES_MAX);
}

/* Who wrote the events of one part: each name once, with commas. What does not fit is dots. */
struct writers {
    char text[RELAY_WRITERS_BYTES_MAX];
    size_t len;
    bool full;
};

#define WRITERS_COMMA ETAG_LIT(", ")
#define WRITERS_MORE ETAG_LIT(", ...")

static bool writers_have(const struct writers *writers, etag_str name)
{
    etag_str rest = {writers->text, writers->len};

    while (rest.len >= name.len) {
        if (str_starts_with(rest, name) &&
            (rest.len == name.len || str_starts_with(str_skip(rest, name.len), WRITERS_COMMA)))
            return true;
        const char *const comma = memmem(rest.data, rest.len, ", ", 2);
        if (!comma)
            return false;
        rest = str_skip(rest, (size_t)(comma - rest.data) + 2);
    }
    return false;
}

static void writers_append(struct writers *writers, etag_str text)
{
    copy_bytes(writers->text + writers->len, text.data, text.len);
    writers->len += text.len;
}

static void writers_add(struct writers *writers, etag_str name)
{
    const size_t room = sizeof(writers->text) - writers->len;

    if (name.len == 0 || writers->full || writers_have(writers, name))
        return;
    writers->full = WRITERS_COMMA.len + name.len + WRITERS_MORE.len > room;
    if (writers->full) {
        writers_append(writers, WRITERS_MORE);
        return;
    }
    if (writers->len > 0)
        writers_append(writers, WRITERS_COMMA);
    writers_append(writers, name);
}

/* Rows from `from` on that go in one part, as their targets. */
static struct part part_fill(const struct session_batch *batch, size_t from, etag_targets *out,
                             struct writers *writers)
{
    struct part part = {0};

    for (; from + part.count < batch->row_count; part.count++) {
        const etag_targets *const targets = &batch->rows[from + part.count].targets;
        if (!part_takes(&part, targets))
            break;
        out[part.count] = *targets;
        /* Theirs say what their writers wait for; here it is one event of this host's. The position
         * is for people, who ask where it came from. */
        out[part.count].reach = ETAG_REACH_DEFAULT;
        out[part.count].position = batch->rows[from + part.count].position;
        writers_add(writers, batch->rows[from + part.count].writer);
        part.hold_ms = targets->hold_ms;
        part.names += targets_names(targets);
        part.bytes += bytes_of(targets);
    }
    return part;
}

/* Bytes that all parts take at most. */
static size_t batch_bytes(const struct session_batch *batch)
{
    size_t bytes = FRAME_HEADER_BYTES + 1024 + batch->cursor.len;

    for (size_t i = 0; i < batch->row_count; i++) {
        const etag_targets *const targets = &batch->rows[i].targets;
        bytes += 80 + bytes_of(targets) + 16 * targets_names(targets) + batch->rows[i].writer.len;
    }
    return bytes;
}

static bool part_send(struct link *link, const struct session_batch *batch,
                      const struct relay_batch *part)
{
    char log_id[LOG_ID_BYTES];
    struct fault fault = {0};
    struct request request = {
        .kind = REQUEST_RELAY_BATCH,
        .relay_batch = *part,
    };

    if (!part->more) {
        struct relay_batch *const last = &request.relay_batch;
        last->t0_ns = batch->t0_ns;
        last->everything = batch->everything != RELAY_REASON_NONE;
        if (last->everything)
            last->reason = str_of(relay_reason_word(batch->everything));
        last->cursor = batch->cursor;
        last->log_id = log_id_of(link, log_id);
        last->member = batch->member;
        last->l_net_ms = batch->l_net_ms;
    }
    /* Not closed here: the session is in the middle of something. */
    if (channel_send(&link->channel, &request, NULL, &fault) != ETAG_OK) {
        link_break(link, LINK_AGAIN_MS);
        return false;
    }
    link->batch_id = request.id;
    return true;
}

static bool link_batch(void *ctx, const struct session_batch *batch)
{
    struct link *const link = ctx;
    const size_t waiting = link->channel.out.len - link->channel.out_sent;
    size_t from = 0;

    /* All parts or none: one that is not sent would be settled by the next batch's cursor. */
    if (link->state != LINK_READY || link->broken ||
        waiting + batch_bytes(batch) > CLIENT_OUTGOING_BYTES_MAX)
        return false;
    CLEANUP(cleanup_free)
    etag_targets *targets = calloc(RELAY_BATCH_TARGETS_MAX, sizeof(*targets));
    if (!targets)
        return false;
    do {
        struct writers writers = {.len = 0};
        const struct part part = part_fill(batch, from, targets, &writers);
        from += part.count;
        if (!part_send(link, batch,
                       &(struct relay_batch){.targets = targets,
                                             .targets_count = part.count,
                                             .more = from < batch->row_count,
                                             .writers = {writers.text, writers.len}}))
            return false;
    } while (from < batch->row_count);
    return true;
}

static void link_done(void *ctx, const struct session_outcome *outcome)
{
    struct link *const link = ctx;
    struct fault fault = {0};
    struct request request = {
        .kind = REQUEST_RELAY_DONE,
        .relay_done = {.token = outcome->token,
                       .outcome = outcome->outcome,
                       .position = outcome->position,
                       .text = str_of(outcome->text ? outcome->text : "")},
    };

    if (link->state == LINK_READY && !link->broken &&
        channel_send(&link->channel, &request, NULL, &fault) != ETAG_OK)
        link_break(link, LINK_AGAIN_MS);
}

/* ---- The interface ---- */

bool link_init(struct link *link, const char *path, const char *engine, struct session *session,
               const struct log *log)
{
    const struct channel_handler handler = {.reply = reply_take, .context = link};

    *link = (struct link){.session = session, .log = log, .engine = engine};
    return channel_init(&link->channel, path, &handler);
}

void link_deinit(struct link *link)
{
    channel_deinit(&link->channel);
}

struct session_daemon link_as_daemon(struct link *link)
{
    return (struct session_daemon){.batch = link_batch, .done = link_done, .ctx = link};
}

static void link_connect(struct link *link)
{
    struct fault fault = {0};

    /* L_net is said with the hello, so it has to be known. */
    if (link->session->lease_ms == 0 || now_fine_ns() < link->again_ns)
        return;
    if (channel_connect_start(&link->channel, &fault) != ETAG_OK) {
        link_failed(link, &fault);
        return;
    }
    link->state = LINK_GREETING;
}

void link_turn(struct link *link)
{
    struct fault fault = {0};

    if (link->state == LINK_CLOSED)
        link_connect(link);
    if (link->state == LINK_CLOSED)
        return;
    if (channel_pump(&link->channel, &fault) != ETAG_OK) {
        link_failed(link, &fault);
        return;
    }
    if (link->state == LINK_GREETING && link->channel.state == CHANNEL_READY)
        link_ask(link);
    if (link->broken)
        link_close(link);
}

int link_fd(const struct link *link)
{
    return link->channel.fd;
}

short link_events(const struct link *link)
{
    return channel_events(&link->channel);
}

uint64_t link_timeout_ns(const struct link *link)
{
    const uint64_t now_ns = now_fine_ns();

    if (link->broken || channel_has_reply(&link->channel))
        return 0;
    if (link->state != LINK_CLOSED || link->session->lease_ms == 0)
        return UINT64_MAX;
    return link->again_ns > now_ns ? link->again_ns - now_ns : 0;
}
