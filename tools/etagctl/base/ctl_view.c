/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon says about entries and events, put into words once for all commands. */
#include "ctl_view.h"

#include "ctl_key.h"
#include "layout.h"
#include "numbers.h"
#include "text.h"

#include <inttypes.h>

static void doc_kept_fields(doc *object, const struct entry *entry)
{
    char expires[48];
    doc *fields = doc_object();

    for (size_t i = 0; i < entry->field_count; i++) {
        etag_field field = entry->fields[i].field;
        if (entry->fields[i].kind == FIELDSET_EXPIRES) {
            snprintf(expires, sizeof(expires), "Date + %" PRId64 " s", entry->fields[i].offset_s);
            field = (etag_field){ETAG_LIT("Expires"), str_of(expires)};
        }
        doc_field(fields, field);
    }
    if (entry->content_location.len > 0)
        doc_field(fields, (etag_field){ETAG_LIT("Content-Location"), entry->content_location});
    doc_add(object, "headers", fields);
}

void doc_entry(doc *object, const struct entry_view *view)
{
    const struct entry *entry = &view->entry;
    char time[TIME_TEXT_BYTES];

    doc_key(object, &entry->key);
    doc_words(object, "state", etag_reason_word(view->state));
    doc_text(object, "etag", entry->etag);
    if (entry->last_modified != ETAG_NO_DATE)
        doc_words(object, "last_modified", time_text((uint64_t)entry->last_modified * 1000, time));
    if (entry->last_modified != ETAG_NO_DATE)
        doc_bool(object, "last_modified_is_strong", entry->last_modified_is_strong);
    doc_kept_fields(object, entry);
    doc *surrogates = doc_array();
    for (size_t i = 0; i < entry->surrogate_count; i++)
        doc_append_text(surrogates, entry->surrogates[i]);
    doc_add(object, "surrogates", surrogates);
    doc_number(object, "fill_lsn", view->fill_lsn);
    doc_words(object, "expires", time_text(view->expires_wall_ms, time));
    doc_bool(object, "in_index", view->in_index);
    doc_bool(object, "persisted", view->persisted);
}

const char *target_word(enum target_kind kind)
{
    switch (kind) {
    case TARGET_EVERYTHING:
        return "everything";
    case TARGET_RESOURCE:
        return "resource";
    case TARGET_PREFIX:
        return "prefix";
    case TARGET_SURROGATE:
        return "surrogate";
    case TARGET_FAMILY:
        return "family";
    }
    return "target";
}

void targets_each(const etag_targets *targets, target_visit *visit, void *context)
{
    if (targets->everything)
        visit(context, target_word(TARGET_EVERYTHING), (etag_str){0});
    for (size_t i = 0; i < targets->resource_count; i++) {
        CLEANUP(cleanup_free) char *text = key_text(&targets->resources[i]);
        visit(context, target_word(TARGET_RESOURCE), str_of(text));
    }
    for (size_t i = 0; i < targets->prefix_count; i++) {
        CLEANUP(cleanup_free) char *text = key_text(&targets->prefixes[i]);
        visit(context, target_word(TARGET_PREFIX), str_of(text));
    }
    for (size_t i = 0; i < targets->surrogate_count; i++)
        visit(context, target_word(TARGET_SURROGATE), targets->surrogates[i]);
    for (size_t i = 0; i < targets->family_count; i++)
        visit(context, target_word(TARGET_FAMILY), targets->families[i]);
}

static void append_target(void *context, const char *kind, etag_str name)
{
    doc *target = doc_object();

    doc_words(target, "kind", kind);
    if (name.data)
        doc_text(target, "name", name);
    doc_append(context, target);
}

#define GUARD_TEXT_BYTES 33

static void position_text(const struct relay_origin *origin, const char *words, char *out,
                          size_t out_bytes)
{
    if (origin->last_position == 0)
        out[0] = '\0';
    else if (origin->first_position == origin->last_position)
        snprintf(out, out_bytes, "%s position %" PRIu64, words, origin->last_position);
    else
        snprintf(out, out_bytes, "%s positions %" PRIu64 " to %" PRIu64, words,
                 origin->first_position, origin->last_position);
}

const char *origin_text(const struct relay_origin *origin, char out[ORIGIN_TEXT_BYTES])
{
    const int len = (int)min_of(origin->engine.len, RELAY_ENGINE_BYTES_MAX);
    const int by_len = (int)min_of(origin->writers.len, RELAY_WRITERS_BYTES_MAX);
    const char *const by = by_len > 0 ? ", by " : "";
    char at[64];

    if (origin->event_count == 0) {
        snprintf(out, ORIGIN_TEXT_BYTES,
                 "%.*s, no event of its log: everything_purged in the log of etagd says why", len,
                 origin->engine.data);
        return out;
    }
    position_text(origin, origin->event_count == 1 ? "," : " at", at, sizeof(at));
    if (origin->event_count == 1)
        snprintf(out, ORIGIN_TEXT_BYTES, "%.*s%s%s%.*s", len, origin->engine.data, at, by, by_len,
                 origin->writers.data);
    else
        snprintf(out, ORIGIN_TEXT_BYTES, "%.*s, %" PRIu32 " events%s%s%.*s", len,
                 origin->engine.data, origin->event_count, at, by, by_len, origin->writers.data);
    return out;
}

static doc *doc_origin(const struct relay_origin *origin)
{
    doc *object = doc_object();

    doc_text(object, "engine", origin->engine);
    doc_number(object, "events", origin->event_count);
    doc_number(object, "first_position", origin->first_position);
    doc_number(object, "last_position", origin->last_position);
    if (origin->writers.len > 0)
        doc_text(object, "writers", origin->writers);
    return object;
}

doc *doc_event(const struct event_view *event)
{
    char time[TIME_TEXT_BYTES];
    doc *object = doc_object(), *targets = doc_array();

    doc_number(object, "lsn", event->lsn);
    doc_words(object, "time", time_text(event->wall_ms, time));
    doc_number(object, "pid", event->peer_pid);
    doc_number(object, "uid", event->peer_uid);
    doc_words(object, "kind", event_kind_word(event->kind));
    if (event->targets.hold_ms > 0)
        doc_number(object, "hold_ms", event->targets.hold_ms);
    if (event->guard.high != 0 || event->guard.low != 0) {
        char guard[GUARD_TEXT_BYTES];
        snprintf(guard, sizeof(guard), "%016" PRIx64 "%016" PRIx64, event->guard.high,
                 event->guard.low);
        doc_words(object, "guard", guard);
    }
    if (event->relayed)
        doc_add(object, "relay", doc_origin(&event->origin));
    targets_each(&event->targets, append_target, targets);
    doc_add(object, "targets", targets);
    return object;
}

const char *lsn_text(uint64_t lsn, char out[LSN_TEXT_BYTES])
{
    const uint64_t plain = lsn & CLOCK_LSN_MASK;

    snprintf(out, LSN_TEXT_BYTES, "%" PRIu64 " (run %" PRIu64 ", number %" PRIu64 ")", plain,
             plain >> 40, plain & ((UINT64_C(1) << 40) - 1));
    return out;
}
