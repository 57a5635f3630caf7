/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers with a page of the event log. Most events are in the store; the last ones may not have
 * reached it yet and are in the journal only. The store is written in LSN order, so every event
 * after its last one is in the journal.
 *
 * Three bounds limit a page: the events in it, the bytes of their records, the events that were
 * read. So a request takes about a millisecond of the loop, whatever it asks for.
 */
#include "inspect.h"
#include "numbers.h"
#include "server.h"

#include <errno.h>
#include <string.h>

#define PAGE_BYTES_MAX (FRAME_BYTES_MAX / 4)
#define RECORD_BYTES_MAX (FRAME_BYTES_MAX - 4096) /* a longer one goes without its targets */

typedef __typeof__(((struct request *)NULL)->log) log_question;

struct page {
    struct arena *arena;
    const log_question *question;
    uint64_t until_lsn;
    struct event_view *views;
    size_t count, limit, bytes, scanned;
    /* the last that was looked at */
    uint64_t seen_lsn;
    uint64_t next_lsn;
    /* no memory */
    bool failed;
};

static bool page_is_full(const struct page *page, etag_str record)
{
    return page->count == page->limit || page->scanned == LOG_SCAN_MAX ||
           (page->count > 0 && page->bytes + record.len > PAGE_BYTES_MAX);
}

static bool time_is_asked(const log_question *question, uint64_t wall_ms)
{
    return wall_ms >= question->since_wall_ms &&
           (question->until_wall_ms == 0 || wall_ms <= question->until_wall_ms);
}

static int page_add(void *ctx, uint64_t lsn, etag_str record)
{
    struct page *page = ctx;
    struct event event;

    if (lsn > page->until_lsn || lsn < page->question->from_lsn)
        return STORE_E_STOPPED;
    if (page_is_full(page, record)) {
        page->next_lsn = lsn;
        return STORE_E_STOPPED;
    }
    page->seen_lsn = lsn;
    page->scanned++;
    if (!time_is_asked(page->question, event_record_wall_ms(record)))
        return 0;
    const etag_str copy = arena_copy(page->arena, record);
    if (!copy.data) {
        page->failed = true;
        return STORE_E_STOPPED;
    }
    if (!event_record_parse(copy, lsn, &event, page->arena))
        return 0;
    if (event_is_carrier(&event))
        return 0; /* nothing happened */
    if (record.len > RECORD_BYTES_MAX)
        ETAG_INIT(&event.targets);
    page->views[page->count++] = event_view_of(&event);
    page->bytes += record.len;
    return 0;
}

static int walk_result(int result)
{
    return result == STORE_E_STOPPED ? 0 : result;
}

/* ---- Oldest first ---- */

static int page_forward(struct server *server, struct page *page)
{
    /* Asked before the walk, which sees all of them: what is stored in between is still in the
     * journal. */
    uint64_t stored = 0;
    int r = store_last_lsn(server->store, &stored);

    if (r == 0)
        r = store_each_event(server->store, page->question->from_lsn, page_add, page);
    if (r != 0 || !server->journal)
        return walk_result(r);
    const uint64_t from = page->seen_lsn >= page->question->from_lsn ? page->seen_lsn + 1
                                                                     : page->question->from_lsn;
    return walk_result(journal_each(server->journal, max_of(from, stored + 1), page_add, page));
}

/* ---- Newest first ---- */

/* The journal is read forwards: where its last ones that fit on the page begin is found first. */
struct tail {
    struct tail_event {
        uint64_t lsn;
        size_t bytes;
    } * events;
    size_t count, capacity;
    uint64_t until_lsn;
};

static int tail_count(void *ctx, uint64_t lsn, etag_str record)
{
    struct tail *tail = ctx;

    (void)record;
    tail->capacity += lsn <= tail->until_lsn;
    return 0;
}

static int tail_note(void *ctx, uint64_t lsn, etag_str record)
{
    struct tail *tail = ctx;

    if (tail->count < tail->capacity)
        tail->events[tail->count++] = (struct tail_event){lsn, record.len};
    return 0;
}

/* How many of the last ones the page takes. */
static size_t tail_fitting(const struct tail *tail, const struct page *page)
{
    size_t bytes = 0, fitting = 0;

    while (fitting < tail->count && fitting < page->limit) {
        bytes += tail->events[tail->count - 1 - fitting].bytes;
        if (fitting > 0 && bytes > PAGE_BYTES_MAX)
            break;
        fitting++;
    }
    return fitting;
}

static void views_reverse(const struct page *page)
{
    for (size_t i = 0; i < page->count / 2; i++) {
        const struct event_view view = page->views[i];
        page->views[i] = page->views[page->count - 1 - i];
        page->views[page->count - 1 - i] = view;
    }
}

static int tail_take(struct server *server, struct page *page, uint64_t stored)
{
    struct tail tail = {.until_lsn = page->until_lsn};
    const uint64_t from = max_of(page->question->from_lsn, stored + 1);

    int r = journal_each(server->journal, from, tail_count, &tail);
    tail.events = arena_array(page->arena, tail.capacity, sizeof(*tail.events));
    if (tail.capacity == 0 || r != 0)
        return r;
    if (!tail.events)
        return -ENOMEM;
    r = journal_each(server->journal, from, tail_note, &tail);
    const size_t first = tail.count - tail_fitting(&tail, page);
    if (r == 0)
        r = walk_result(journal_each(server->journal, tail.events[first].lsn, page_add, page));
    views_reverse(page);
    page->next_lsn = first > 0 ? tail.events[first - 1].lsn : 0;
    return r;
}

static int page_backward(struct server *server, struct page *page)
{
    uint64_t stored = 0;
    int r = store_last_lsn(server->store, &stored);

    if (r == 0 && server->journal && page->until_lsn > stored)
        r = tail_take(server, page, stored);
    if (r != 0 || page->next_lsn != 0)
        return r;
    return walk_result(
        store_each_event_back(server->store, min_of(page->until_lsn, stored), page_add, page));
}

/* ---- The request ---- */

static int take_lsn(void *ctx, uint64_t lsn, etag_str record)
{
    (void)record;
    *(uint64_t *)ctx = lsn;
    return STORE_E_STOPPED;
}

void inspect_log(struct server *server, struct peer *peer, const struct request *request)
{
    const log_question *question = &request->log;
    struct page page = {
        .arena = &server->arena,
        .question = question,
        .until_lsn = question->until_lsn ? question->until_lsn : UINT64_MAX,
        .limit = question->limit ? min_of(question->limit, LOG_PAGE_MAX) : LOG_PAGE_MAX,
    };
    uint64_t oldest_lsn = 0;

    page.views = arena_array(page.arena, page.limit, sizeof(*page.views));
    int r = page.views ? 0 : -1;
    if (r == 0)
        r = walk_result(store_each_event(server->store, 0, take_lsn, &oldest_lsn));
    if (r == 0)
        r = question->newest_first ? page_backward(server, &page) : page_forward(server, &page);
    if (r != 0 || page.failed) {
        peer_send_error(&server->peers, peer, request->id, WIRE_ERROR_STORE,
                        "the log cannot be read");
        return;
    }
    const struct reply reply = {
        .id = request->id,
        .kind = REPLY_LOG,
        .log = {.events = page.views,
                .event_count = page.count,
                .next_lsn = page.next_lsn,
                .oldest_lsn = oldest_lsn},
    };
    peer_send(&server->peers, peer, &reply, NULL, 0);
}
