/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counting instead of saving and restoring: a clock is in flux while its count is above 0, whoever began and ended in
 * between. A guard keeps the clocks that it counted, so that it takes off exactly what it put on, whatever its end names.
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
    return guards->flux ? 0 : -ENOMEM;
}

static void guard_free(struct guard *guard)
{
    free(guard->clocks);
    free(guard->record);
    free(guard);
}

void guards_deinit(struct guards *guards)
{
    for (size_t i = 0; i < GUARD_BUCKETS; i++)
        while (guards->buckets[i]) {
            struct guard *guard = guards->buckets[i];
            guards->buckets[i] = guard->next;
            guard_free(guard);
        }
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

/* ---- Counts ---- */

static size_t *count_of(struct guards *guards, const struct guard *guard)
{
    return guard->state == GUARD_OPEN   ? &guards->open_count
           : guard->state == GUARD_HOLD ? &guards->hold_count
                                        : &guards->ended_count;
}

static void state_set(struct guards *guards, struct guard *guard, int state)
{
    --*count_of(guards, guard);
    guard->state = state;
    ++*count_of(guards, guard);
}

uint32_t guards_flux(const struct guards *guards, uint32_t clock)
{
    return guards->flux[clock];
}

static void link_in(struct guards *guards, struct guard *guard)
{
    struct guard **bucket = bucket_of(guards, guard->id);

    guard->next = *bucket;
    *bucket = guard;
    ++*count_of(guards, guard);
}

static void ended_unlink(struct guards *guards, struct guard *guard)
{
    *(guard->earlier ? &guard->earlier->later : &guards->ended_first) = guard->later;
    *(guard->later ? &guard->later->earlier : &guards->ended_last) = guard->earlier;
}

static void unlink_free(struct guards *guards, struct guard *guard)
{
    struct guard **at = bucket_of(guards, guard->id);

    while (*at != guard)
        at = &(*at)->next;
    *at = guard->next;
    --*count_of(guards, guard);
    if (guard->state == GUARD_ENDED)
        ended_unlink(guards, guard);
    guard_free(guard);
}

/* The last of those that ended; the first is forgotten where there are too many. */
static void ended_link(struct guards *guards, struct guard *guard)
{
    guard->earlier = guards->ended_last;
    *(guards->ended_last ? &guards->ended_last->later : &guards->ended_first) = guard;
    guards->ended_last = guard;
    if (guards->ended_count > GUARDS_MAX)
        unlink_free(guards, guards->ended_first);
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
    struct guard *guard = calloc(1, sizeof(*guard));

    if (guard)
        guard->clocks = malloc(clock_count * sizeof(*clocks) + 1);
    if (!guard || !guard->clocks || event_record_pack(&record, event) < 0) {
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
    struct guard *guard = guard_new(event, clocks, clock_count);
    if (!guard)
        return -ENOMEM;
    if (known)
        unlink_free(guards, known);
    for (size_t i = 0; i < clock_count; i++)
        guards->flux[clocks[i]]++;
    link_in(guards, guard);
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
    state_set(guards, guard, GUARD_HOLD);
    guard->said = event->kind != EVENT_GUARD_EXPIRED;
    guard->peer_id = 0;
    guard->ends_ns = now_ns + event->targets.hold_ms * NS_PER_MS;
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
    guard->clock_count = 0;
    if (!said) {
        unlink_free(guards, guard);
        return;
    }
    state_set(guards, guard, GUARD_ENDED);
    guard->peer_id = 0;
    guard->ends_ns = now_ns + guards->linger_ns;
    ended_link(guards, guard);
}

void guards_remember_end(struct guards *guards, struct guard_id id, uint64_t now_ns)
{
    struct guard *guard = guards_find(guards, id) ? NULL : calloc(1, sizeof(*guard));

    if (!guard)
        return;
    guard->id = id;
    guard->state = GUARD_ENDED;
    guard->ends_ns = now_ns + guards->linger_ns;
    link_in(guards, guard);
    ended_link(guards, guard);
}

/* Its connection is a sign of life until it ends or the guard is too old; from then on it lingers. */
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
    struct guard *next;

    if (guards->open_count + guards->hold_count + guards->ended_count == 0)
        return NULL;
    for (size_t i = 0; i < GUARD_BUCKETS; i++)
        for (struct guard *guard = guards->buckets[i]; guard; guard = next) {
            next = guard->next;
            linger_follow(guards, guard, now_ns, lives, ctx);
            if (now_ns < guard->ends_ns)
                continue;
            if (guard->state != GUARD_ENDED)
                return guard;
            unlink_free(guards, guard);
        }
    return NULL;
}
