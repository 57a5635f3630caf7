/* SPDX-License-Identifier: Apache-2.0 */
/* What an event takes along into the store: the relay's mark. (Guards and entries: test_persist,
 * test_unstored.) */
#include "event_queue.h"
#include "record.h"
#include "store_fixture.h"
#include "text.h"

#include <string.h>

struct fixture {
    struct store_fixture at;
    char cursor[32];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    store_fixture_make(&f->at, UINT64_C(64) << 20, 4096);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    store_fixture_remove(&f->at);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, set_up, tear_down)

static int see(void *ctx, etag_str mark)
{
    struct fixture *f = ctx;
    struct relay_mark out;

    assert_true(relay_mark_parse(mark, &out));
    (void)snprintf(f->cursor, sizeof(f->cursor), "%.*s", (int)out.cursor.len, out.cursor.data);
    return 0;
}

static const char *stored_cursor(struct fixture *f)
{
    strcpy(f->cursor, "none");
    const int r = store_get_relay(f->at.store, see, f);
    assert_true(r == 0 || r == STORE_E_NOT_FOUND);
    return f->cursor;
}

/* An event with this cursor, or without one. */
static void store_event(struct fixture *f, uint64_t lsn, const char *cursor)
{
    struct event event = {.lsn = lsn, .wall_ms = 1, .has_mark = cursor != NULL};
    const struct persist_event queued = {.lsn = lsn, .kind = EVENT_MUTATION};
    struct event_queue queue = {0};
    struct buffer record = {0};

    ETAG_INIT(&event.targets);
    event.targets.everything = true;
    if (cursor)
        event.mark = (struct relay_mark){.cursor = str_of(cursor), .log_id = ETAG_LIT("log")};
    assert_int_equal(event_record_pack(&record, &event), 0);
    const etag_str bytes = {(const char *)record.bytes, record.len};
    assert_int_equal(event_queue_add(&queue, &queued, bytes), 0);
    assert_int_equal(event_queue_store(&queue, f->at.store), 0);
    event_queue_free(&queue);
    buffer_deinit(&record);
}

/* CURSOR_WITH_EVENTS. */
CASE(the_mark_of_an_event_is_stored_with_it)
{
    assert_string_equal(stored_cursor(f), "none");
    store_event(f, 1, NULL);
    assert_string_equal(stored_cursor(f), "none");
    store_event(f, 2, "two");
    assert_string_equal(stored_cursor(f), "two");
    store_event(f, 3, NULL);
    assert_string_equal(stored_cursor(f), "two");
    store_event(f, 4, "four");
    assert_string_equal(stored_cursor(f), "four");
}

/* A cursor must not outlive the events that it stands for. */
CASE(a_cold_start_knows_no_cursor)
{
    store_event(f, 1, "one");
    assert_int_equal(store_clear(f->at.store), 0);
    assert_string_equal(stored_cursor(f), "none");
}
