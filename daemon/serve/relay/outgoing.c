/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list in the order of the tokens. The daemon sends entries from its front, as many as the window
 * allows; the relay may answer in any order. An event that is in the log, but whose writer waits
 * for all hosts, stays as a poke at the position that the relay reported.
 *
 * "Everything" is not an entry of the list, so it needs no room.
 */
#include "outgoing.h"

#include "numbers.h"

#include <assert.h>
#include <string.h>

/* ---- The list ---- */

static bool is_under_way(const struct outgoing_entry *entry)
{
    return entry->sent && entry->kind == OUTGOING_EVENT && !entry->logged;
}

static void under_way_set(struct outgoing *outgoing, const struct outgoing_entry *entry, bool sent)
{
    if (entry->kind != OUTGOING_EVENT || entry->logged)
        return;
    outgoing->in_flight = sent ? outgoing->in_flight + 1 : outgoing->in_flight - 1;
    outgoing->in_flight_bytes = sent ? outgoing->in_flight_bytes + entry->len
                                     : outgoing->in_flight_bytes - entry->len;
}

static void append(struct outgoing *outgoing, struct outgoing_entry *entry)
{
    entry->previous = outgoing->last;
    if (outgoing->last)
        outgoing->last->next = entry;
    else
        outgoing->first = entry;
    outgoing->last = entry;
    if (!outgoing->unsent)
        outgoing->unsent = entry;
    outgoing->count++;
    outgoing->bytes += entry->len;
}

/* What follows the first unsent one is unsent as well, but for those that need not be sent. */
static void unsent_move(struct outgoing *outgoing)
{
    while (outgoing->unsent && outgoing->unsent->sent)
        outgoing->unsent = outgoing->unsent->next;
}

static void record_free(struct outgoing *outgoing, struct outgoing_entry *entry)
{
    outgoing->bytes -= entry->len;
    free(entry->record);
    entry->record = NULL;
    entry->len = 0;
}

static void drop(struct outgoing *outgoing, struct outgoing_entry *entry)
{
    if (is_under_way(entry))
        under_way_set(outgoing, entry, false);
    if (outgoing->unsent == entry)
        outgoing->unsent = entry->next;
    if (entry->previous)
        entry->previous->next = entry->next;
    else
        outgoing->first = entry->next;
    if (entry->next)
        entry->next->previous = entry->previous;
    else
        outgoing->last = entry->previous;
    outgoing->count--;
    record_free(outgoing, entry);
    free(entry);
    unsent_move(outgoing);
}

void outgoing_deinit(struct outgoing *outgoing)
{
    while (outgoing->first)
        drop(outgoing, outgoing->first);
    *outgoing = (struct outgoing){0};
}

static struct outgoing_entry *find(const struct outgoing *outgoing, uint64_t token)
{
    struct outgoing_entry *entry = outgoing->first;

    while (entry && entry->token < token)
        entry = entry->next;
    return entry && entry->token == token ? entry : NULL;
}

/* ---- Adding ---- */

static bool has_room(const struct outgoing *outgoing)
{
    return outgoing->count < RELAY_QUEUE_MAX;
}

static void cover(struct outgoing *outgoing, struct outgoing_entry *entry)
{
    if (is_under_way(entry))
        under_way_set(outgoing, entry, false);
    record_free(outgoing, entry);
    entry->kind = OUTGOING_COVERED;
    entry->sent = true;
}

/* Rule HOLDS_STAY: its writer is answered that the log has the event, hold and all. */
static void everything_hold(struct outgoing *outgoing, uint32_t hold_ms)
{
    outgoing->everything_hold_ms = (uint32_t)max_of(outgoing->everything_hold_ms, hold_ms);
}

void outgoing_collapse(struct outgoing *outgoing, uint64_t lsn)
{
    for (struct outgoing_entry *entry = outgoing->first, *next; entry; entry = next) {
        next = entry->next;
        if (entry->kind != OUTGOING_EVENT || entry->logged)
            continue;
        everything_hold(outgoing, entry->hold_ms);
        if (entry->peer_id != 0)
            cover(outgoing, entry);
        else
            drop(outgoing, entry);
    }
    unsent_move(outgoing);
    outgoing->everything_due = true;
    outgoing->everything_sent = outgoing->everything_logged = outgoing->everything_refused = false;
    outgoing->everything_token = lsn;
    outgoing->collapsed++;
}

static struct outgoing_entry *entry_new(const struct outgoing_new *added, enum outgoing_kind kind)
{
    const etag_str record = kind == OUTGOING_EVENT ? added->record : (etag_str){0};
    struct outgoing_entry *entry = calloc(1, sizeof(*entry));
    uint8_t *bytes = entry && record.len > 0 ? malloc(record.len) : NULL;

    if (!entry || (record.len > 0 && !bytes)) {
        free(entry);
        return NULL;
    }
    if (bytes)
        memcpy(bytes, record.data, record.len);
    *entry = (struct outgoing_entry){.kind = kind,
                                     .token = added->token,
                                     .position = added->position,
                                     .reach = added->reach,
                                     .peer_id = added->peer_id,
                                     .request_id = added->request_id,
                                     .hold_ms = added->hold_ms,
                                     .sent = kind == OUTGOING_COVERED,
                                     .record = bytes,
                                     .len = record.len};
    return entry;
}

/* False: there is no room, or no memory. */
static bool add(struct outgoing *outgoing, const struct outgoing_new *added,
                enum outgoing_kind kind)
{
    if (!has_room(outgoing) ||
        (kind == OUTGOING_EVENT && outgoing->bytes + added->record.len > RELAY_QUEUE_BYTES_MAX))
        return false;
    struct outgoing_entry *entry = entry_new(added, kind);
    if (!entry)
        return false;
    append(outgoing, entry);
    unsent_move(outgoing);
    return true;
}

static void entry_end(struct outgoing *outgoing, struct outgoing_entry *entry,
                      enum relay_outcome outcome, outgoing_answer *answer, void *ctx)
{
    if (entry->peer_id != 0)
        answer(ctx, entry, outcome);
    drop(outgoing, entry);
}

/* Rule OLDEST_WAIT_ENDS: of entries that are no event which the log lacks. */
static void make_room(struct outgoing *outgoing, outgoing_answer *answer, void *ctx)
{
    struct outgoing_entry *entry = outgoing->first;

    while (entry && entry->kind == OUTGOING_EVENT && !entry->logged)
        entry = entry->next;
    if (entry && !has_room(outgoing))
        entry_end(outgoing, entry, RELAY_UNSAID, answer, ctx);
}

bool outgoing_add(struct outgoing *outgoing, const struct outgoing_new *added,
                  outgoing_answer *answer, void *ctx)
{
    assert(!outgoing->last || added->token > outgoing->last->token);
    make_room(outgoing, answer, ctx);
    if (added->position != 0) {
        (void)add(outgoing, added, OUTGOING_POKE);
        return false;
    }
    if (add(outgoing, added, OUTGOING_EVENT))
        return false;
    everything_hold(outgoing, added->hold_ms);
    outgoing_collapse(outgoing, added->token);
    if (added->peer_id == 0)
        return true;
    make_room(outgoing, answer, ctx);
    (void)add(outgoing, added, OUTGOING_COVERED);
    return true;
}

/* ---- Sending ---- */

void outgoing_unsend(struct outgoing *outgoing)
{
    for (struct outgoing_entry *entry = outgoing->first; entry; entry = entry->next)
        entry->sent = entry->kind == OUTGOING_COVERED;
    outgoing->unsent = outgoing->first;
    unsent_move(outgoing);
    outgoing->in_flight = outgoing->in_flight_bytes = 0;
    outgoing->everything_sent = outgoing->everything_refused = false;
}

struct outgoing_entry *outgoing_next(const struct outgoing *outgoing)
{
    struct outgoing_entry *entry = outgoing->unsent;
    const bool full = outgoing->in_flight >= RELAY_WINDOW_MAX ||
                      outgoing->in_flight_bytes >= RELAY_WINDOW_BYTES_MAX;

    return entry && full && entry->kind == OUTGOING_EVENT ? NULL : entry;
}

void outgoing_sent(struct outgoing *outgoing, struct outgoing_entry *entry)
{
    assert(entry == outgoing->unsent && !entry->sent);
    entry->sent = true;
    under_way_set(outgoing, entry, true);
    if (entry->kind == OUTGOING_POKE && entry->peer_id == 0)
        drop(outgoing, entry); /* there is no answer to wait for */
    else
        unsent_move(outgoing);
}

bool outgoing_everything_next(const struct outgoing *outgoing)
{
    return outgoing->everything_due && !outgoing->everything_sent && !outgoing->everything_refused;
}

etag_reach outgoing_everything_reach(const struct outgoing *outgoing)
{
    for (const struct outgoing_entry *entry = outgoing->first; entry; entry = entry->next)
        if (entry->kind == OUTGOING_COVERED && entry->reach == ETAG_REACH_EVERYWHERE)
            return ETAG_REACH_EVERYWHERE;
    return ETAG_REACH_LOG;
}

void outgoing_everything_sent(struct outgoing *outgoing)
{
    outgoing->everything_sent = true;
}

/* ---- What the relay says ---- */

static bool is_enough(const struct outgoing_entry *entry, enum relay_outcome outcome)
{
    return outcome != RELAY_LOGGED || entry->reach != ETAG_REACH_EVERYWHERE;
}

/* The log has it; its writer waits on. */
static void entry_logged(struct outgoing *outgoing, struct outgoing_entry *entry, uint64_t position)
{
    if (is_under_way(entry))
        under_way_set(outgoing, entry, false);
    entry->logged = true;
    if (entry->kind != OUTGOING_EVENT || position == 0)
        return;
    record_free(outgoing, entry);
    entry->kind = OUTGOING_POKE;
    entry->position = position;
}

static bool everything_done(struct outgoing *outgoing, const struct outgoing_done *done,
                            outgoing_answer *answer, void *ctx)
{
    bool waits = false;

    if (done->outcome == RELAY_REFUSED) {
        outgoing->everything_refused = true; /* until there is another relay */
        outgoing->everything_sent = false;
        return false;
    }
    for (struct outgoing_entry *entry = outgoing->first, *next; entry; entry = next) {
        next = entry->next;
        if (entry->kind != OUTGOING_COVERED || entry->token > done->token)
            continue;
        if (is_enough(entry, done->outcome))
            entry_end(outgoing, entry, done->outcome, answer, ctx);
        else
            waits = true;
    }
    outgoing->everything_logged = true;
    outgoing->everything_hold_ms = 0;
    outgoing->everything_due = waits;
    return false;
}

bool outgoing_done(struct outgoing *outgoing, const struct outgoing_done *done,
                   outgoing_answer *answer, void *ctx)
{
    if (outgoing->everything_due && outgoing->everything_sent &&
        done->token == outgoing->everything_token)
        return everything_done(outgoing, done, answer, ctx);
    struct outgoing_entry *entry = find(outgoing, done->token);
    if (!entry)
        return false;
    const bool lost = done->outcome == RELAY_REFUSED && entry->kind == OUTGOING_EVENT &&
                      !entry->logged;
    if (lost)
        everything_hold(outgoing, entry->hold_ms);
    if (is_enough(entry, done->outcome))
        entry_end(outgoing, entry, done->outcome, answer, ctx);
    else
        entry_logged(outgoing, entry, done->position);
    if (lost)
        outgoing_collapse(outgoing, done->lsn);
    return lost;
}

uint64_t outgoing_published(const struct outgoing *outgoing, uint64_t lsn)
{
    for (const struct outgoing_entry *entry = outgoing->first; entry; entry = entry->next)
        if (entry->kind == OUTGOING_EVENT && !entry->logged)
            return entry->token - 1;
    return lsn;
}
