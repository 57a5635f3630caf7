/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A count for each clock, not a saved value: a clock is in flux while its count is above 0, so
 * guards may overlap and end in any order. A guard keeps the list of the clocks that it counted, so
 * that its end drops exactly these counts, whatever targets the end names.
 */
#include "guards.h"

#include "clocktime.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int guards_init(struct guards *guards, uint32_t clock_count, uint64_t linger_ns)
{
    *guards = (struct guards){.linger_ns = linger_ns};
    guards->flux = calloc(clock_count, sizeof(guards->flux[0]));
    guards->buckets = calloc(GUARD_BUCKETS, sizeof(struct guard *));
    if (guards->flux && guards->buckets)
        return 0;
    guards_deinit(guards);
    return -ENOMEM;
}

static void guard_free(struct guard *guard)
{
    free(guard->clocks);
    free(guard->record);
    free(guard);
}

void guards_deinit(struct guards *guards)
{
    for (size_t i = 0; guards->buckets && i < GUARD_BUCKETS; i++)
        while (guards->buckets[i]) {
            struct guard *guard = guards->buckets[i];
            guards->buckets[i] = guard->next;
            guard_free(guard);
        }
    free((void *)guards->buckets);
    free((void *)guards->holds);
    free(guards->flux);
    *guards = (struct guards){0};
}

/* ---- Events and ids ---- */

struct guard_id guards_id_of(const struct event *event)
{
    if (event->kind != EVENT_MUTATION || event->targets.hold_ms == 0)
        return event->guard;
    return (struct guard_id){.low = event->lsn};
}

static struct guard **bucket_of(struct guards *guards, struct guard_id id)
{
    return &guards->buckets[(id.high ^ id.low) % GUARD_BUCKETS];
}

struct guard *guards_find(const struct guards *guards, struct guard_id id)
{
    struct guard *guard = guards->buckets[(id.high ^ id.low) % GUARD_BUCKETS];

    while (guard && !guard_id_equal(guard->id, id))
        guard = guard->next;
    return guard;
}

struct guard *guards_find_open(const struct guards *guards, struct guard_id id)
{
    struct guard *guard = guards_find(guards, id);

    return guard && guard->state == GUARD_OPEN ? guard : NULL;
}

/* ---- Those that end in order: a list, and of holds, each of which has a time of its own, a hea */

static void list_add(struct guard_list *list, struct guard *guard)
{
    guard->earlier = list->last;
    guard->later = NULL;
    *(list->last ? &list->last->later : &list->first) = guard;
    list->last = guard;
}

static void list_remove(struct guard_list *list, struct guard *guard)
{
    *(guard->earlier ? &guard->earlier->later : &list->first) = guard->later;
    *(guard->later ? &guard->later->earlier : &list->last) = guard->earlier;
}

static void heap_set(struct guards *guards, size_t at, struct guard *guard)
{
    guards->holds[at] = guard;
    guard->at = at;
}

/* The guard's place, after its end or its place has changed. */
static void heap_place(struct guards *guards, struct guard *guard)
{
    struct guard **const heap = guards->holds;
    size_t at = guard->at, child;

    for (; at > 0 && guard->ends_ns < heap[(at - 1) / 2]->ends_ns; at = (at - 1) / 2)
        heap_set(guards, at, heap[(at - 1) / 2]);
    for (; (child = 2 * at + 1) < guards->hold_count; at = child) {
        if (child + 1 < guards->hold_count && heap[child + 1]->ends_ns < heap[child]->ends_ns)
            child++;
        if (guard->ends_ns <= heap[child]->ends_ns)
            break;
        heap_set(guards, at, heap[child]);
    }
    heap_set(guards, at, guard);
}

/* There is room for every guard, so that the step from guard to hold can't fail. */
static int heap_reserve(struct guards *guards)
{
    const size_t wanted = guards->open_count + guards->hold_count + 1;

    if (wanted <= guards->holds_capacity)
        return 0;
    struct guard **grown = realloc((void *)guards->holds, 2 * wanted * sizeof(struct guard *));
    if (!grown)
        return -ENOMEM;
    guards->holds = grown;
    guards->holds_capacity = 2 * wanted;
    return 0;
}

/* ---- Counts ---- */

static size_t guard_bytes(const struct guard *guard)
{
    return sizeof(*guard) + guard->clock_count * sizeof(guard->clocks[0]) + guard->record_len;
}

static void state_enter(struct guards *guards, struct guard *guard, int state)
{
    guard->state = state;
    switch (guard->state) {
    case GUARD_OPEN:
        guards->open_count++;
        list_add(&guards->open, guard);
        break;
    case GUARD_HOLD:
        guard->at = guards->hold_count++;
        assert(guards->hold_count <= guards->holds_capacity);
        heap_place(guards, guard);
        break;
    case GUARD_ENDED:
        guards->ended_count++;
        list_add(&guards->ended, guard);
        break;
    }
}

static void state_leave(struct guards *guards, struct guard *guard)
{
    switch (guard->state) {
    case GUARD_OPEN:
        guards->open_count--;
        list_remove(&guards->open, guard);
        break;
    case GUARD_HOLD: {
        struct guard *last = guards->holds[--guards->hold_count];
        if (last == guard)
            break;
        last->at = guard->at;
        heap_place(guards, last);
        break;
    }
    case GUARD_ENDED:
        guards->ended_count--;
        list_remove(&guards->ended, guard);
        break;
    }
}

static void state_set(struct guards *guards, struct guard *guard, int state)
{
    state_leave(guards, guard);
    state_enter(guards, guard, state);
}

uint32_t guards_flux(const struct guards *guards, uint32_t clock)
{
    return guards->flux[clock];
}

static void link_in(struct guards *guards, struct guard *guard, int state)
{
    struct guard **bucket = bucket_of(guards, guard->id);

    guard->next = *bucket;
    *bucket = guard;
    state_enter(guards, guard, state);
}

static void unlink_free(struct guards *guards, struct guard *guard)
{
    struct guard **at = bucket_of(guards, guard->id);

    while (*at != guard)
        at = &(*at)->next;
    *at = guard->next;
    if (guard->state != GUARD_ENDED)
        guards->bytes -= guard_bytes(guard);
    state_leave(guards, guard);
    guard_free(guard);
}

/* The first of those that ended is forgotten where there are too many. */
static void ended_trim(struct guards *guards)
{
    if (guards->ended_count > GUARDS_MAX)
        unlink_free(guards, guards->ended.first);
}

/* ---- Bounds ---- */

bool guards_room(const struct guards *guards, bool spooled)
{
    const size_t times = spooled ? 2 : 1;

    return guards->open_count < times * GUARDS_MAX &&
           guards->bytes < times * (size_t)GUARDS_BYTES_MAX;
}

bool guards_room_for_hold(const struct guards *guards)
{
    return guards->hold_count < HOLDS_MAX && guards->bytes < GUARDS_BYTES_MAX;
}

bool guards_fold(struct guards *guards, uint32_t hold_ms, uint64_t now_ns)
{
    struct guard *fold = guards_find(guards, guards->fold);
    const uint64_t ends_ns = now_ns + hold_ms * NS_PER_MS;

    if (!fold || fold->state != GUARD_HOLD || fold->hold_ms < hold_ms)
        return false;
    if (fold->ends_ns < ends_ns) {
        fold->ends_ns = ends_ns;
        heap_place(guards, fold);
    }
    return true;
}

/* ---- Begin ---- */

static uint64_t max_ns_of(uint32_t max_ms)
{
    return (max_ms ? max_ms : GUARD_MS_DEFAULT) * NS_PER_MS;
}

static struct guard *guard_new(const struct event *event, const uint32_t *clocks,
                               size_t clock_count)
{
    struct buffer record = {0};
    struct event kept = *event;
    struct guard *guard = calloc(1, sizeof(*guard));

    kept.has_mark = false; /* that is the event's, not the hold's */
    if (guard)
        guard->clocks = malloc(clock_count * sizeof(*clocks) + 1);
    if (!guard || !guard->clocks || event_record_pack(&record, &kept) < 0) {
        if (guard)
            guard_free(guard);
        return NULL;
    }
    memcpy(guard->clocks, clocks, clock_count * sizeof(*clocks));
    guard->clock_count = clock_count;
    guard->record = record.bytes;
    guard->record_len = record.len;
    guard->id = guards_id_of(event);
    guard->lsn = event->lsn;
    guard->pid = event->peer_pid;
    guard->uid = event->peer_uid;
    return guard;
}

int guards_open(struct guards *guards, const struct event *event, const uint32_t *clocks,
                size_t clock_count, uint64_t now_ns)
{
    struct guard *known = guards_find(guards, guards_id_of(event));

    if (known && known->state == GUARD_HOLD && event->kind == EVENT_GUARD_BEGIN)
        state_set(guards, known, GUARD_OPEN);
    if (known && known->state != GUARD_ENDED) {
        guards_touch(guards, known, known->peer_id, event->targets.max_ms, now_ns);
        return 0;
    }
    if (heap_reserve(guards) < 0)
        return -ENOMEM;
    struct guard *guard = guard_new(event, clocks, clock_count);
    if (!guard)
        return -ENOMEM;
    if (known)
        unlink_free(guards, known);
    for (size_t i = 0; i < clock_count; i++)
        guards->flux[clocks[i]]++;
    guards->bytes += guard_bytes(guard);
    link_in(guards, guard, GUARD_OPEN);
    guards_touch(guards, guard, 0, event->targets.max_ms, now_ns);
    if (event->kind != EVENT_GUARD_BEGIN)
        guards_hold(guards, guard, event, now_ns);
    return 0;
}

void guards_touch(struct guards *guards, struct guard *guard, uint64_t peer_id, uint32_t max_ms,
                  uint64_t now_ns)
{
    if (guard->state != GUARD_OPEN)
        return;
    guard->peer_id = peer_id;
    guard->max_until_ns = now_ns + max_ns_of(max_ms);
    guard->ends_ns = now_ns + guards->linger_ns;
}

/* ---- End ---- */

void guards_hold(struct guards *guards, struct guard *guard, const struct event *event,
                 uint64_t now_ns)
{
    assert(guard->state != GUARD_ENDED);
    state_leave(guards, guard);
    guard->said = event->kind != EVENT_GUARD_EXPIRED;
    guard->peer_id = 0;
    guard->hold_ms = event->targets.hold_ms;
    guard->ends_ns = now_ns + guard->hold_ms * NS_PER_MS;
    state_enter(guards, guard, GUARD_HOLD);
}

void guards_end(struct guards *guards, struct guard *guard, bool said, uint64_t now_ns,
                void (*calm)(void *ctx, uint32_t clock), void *ctx)
{
    assert(guard->state != GUARD_ENDED);
    for (size_t i = 0; i < guard->clock_count; i++) {
        const uint32_t clock = guard->clocks[i];

        assert(guards->flux[clock] > 0);
        if (--guards->flux[clock] == 0)
            calm(ctx, clock);
    }
    if (!said) {
        unlink_free(guards, guard);
        return;
    }
    guards->bytes -= guard_bytes(guard);
    free(guard->clocks);
    free(guard->record);
    guard->clocks = NULL;
    guard->record = NULL;
    guard->clock_count = guard->record_len = 0;
    state_set(guards, guard, GUARD_ENDED);
    guard->peer_id = 0;
    guard->ends_ns = now_ns + guards->linger_ns;
    ended_trim(guards);
}

void guards_remember_end(struct guards *guards, struct guard_id id, uint64_t now_ns)
{
    struct guard *guard = guards_find(guards, id) ? NULL : calloc(1, sizeof(*guard));

    if (!guard)
        return;
    guard->id = id;
    guard->ends_ns = now_ns + guards->linger_ns;
    link_in(guards, guard, GUARD_ENDED);
    ended_trim(guards);
}

/* Its connection is a sign of life until it ends or the guard is too old; from then on it
 * lingers. */
static void linger_follow(const struct guards *guards, struct guard *guard, uint64_t now_ns,
                          guards_peer_lives *lives, void *ctx)
{
    if (guard->state != GUARD_OPEN || guard->peer_id == 0)
        return;
    guard->ends_ns = now_ns + guards->linger_ns;
    if (now_ns >= guard->max_until_ns || !lives(ctx, guard->peer_id))
        guard->peer_id = 0;
}

struct guard *guards_overdue(struct guards *guards, uint64_t now_ns, guards_peer_lives *lives,
                             void *ctx)
{
    while (guards->ended.first && now_ns >= guards->ended.first->ends_ns)
        unlink_free(guards, guards->ended.first);
    if (guards->hold_count > 0 && now_ns >= guards->holds[0]->ends_ns)
        return guards->holds[0];
    for (struct guard *guard = guards->open.first; guard; guard = guard->later) {
        linger_follow(guards, guard, now_ns, lives, ctx);
        if (now_ns >= guard->ends_ns)
            return guard;
    }
    return NULL;
}
