/* SPDX-License-Identifier: Apache-2.0 */
/* explain: why front ends answer from an entry, or why they do not; which clock moved, and by whose event. */
#include "clocktime.h"
#include "ctl_daemon.h"
#include "ctl_key.h"
#include "ctl_view.h"
#include "layout.h"
#include "text.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>

#define COLUMNS 80
#define LABEL_COLUMNS 9
#define NAME_COLUMNS 33 /* behind a clock's numbers; longer names get a line of their own */
#define NAME_INDENT 9

typedef __typeof__(((struct reply *)NULL)->explain) explanation;

static bool has_culprit(const explanation *e)
{
    return e->culprit >= 0 && (size_t)e->culprit < e->clock_count;
}

static uint64_t lease_left_ms(const explanation *e)
{
    return e->lease_deadline_ns > e->clock_ns ? (e->lease_deadline_ns - e->clock_ns) / NS_PER_MS
                                              : 0;
}

/* Two names may share a clock. Does the event name this one? */
struct name_search {
    const struct clock_view *clock;
    bool found;
};

static void search_name(void *context, const char *kind, etag_str name)
{
    struct name_search *search = context;
    if (strcmp(kind, target_word(search->clock->kind)) == 0 &&
        (search->clock->kind == TARGET_EVERYTHING || str_equal(name, search->clock->name)))
        search->found = true;
    /* A prefix that is deeper than an entry covers counts as its nearest covered ancestor. */
    if (search->clock->kind == TARGET_PREFIX && strcmp(kind, "prefix") == 0 &&
        str_starts_with(name, search->clock->name))
        search->found = true;
}

static bool event_names(const explanation *e, const struct clock_view *clock)
{
    struct name_search search = {.clock = clock};
    targets_each(&e->event.targets, search_name, &search);
    return search.found;
}

/* ---- For programs ---- */

static doc *clock_doc(const struct clock_view *clock)
{
    doc *out = doc_object();
    doc_words(out, "kind", target_word(clock->kind));
    doc_text(out, "name", clock->name);
    doc_number(out, "number", clock->number);
    doc_number(out, "lsn", clock->value & CLOCK_LSN_MASK);
    doc_bool(out, "in_flux", (clock->value & CLOCK_IN_FLUX) != 0);
    return out;
}

static void print_json(const explanation *e)
{
    doc *out = doc_object(), *clocks = doc_array();
    doc_entry(out, &e->view);
    doc_words(out, "detail", etag_reason_text(e->view.state));
    if (has_culprit(e))
        doc_add(out, "clock", clock_doc(&e->clocks[e->culprit]));
    else
        doc_null(out, "clock");
    if (e->has_event) {
        doc *event = doc_object();
        doc_event(event, &e->event);
        doc_add(out, "event", event);
    } else
        doc_null(out, "event");
    for (size_t i = 0; i < e->clock_count; i++)
        doc_append(clocks, clock_doc(&e->clocks[i]));
    doc_add(out, "clocks", clocks);
    doc_number(out, "lease_left_ms", lease_left_ms(e));
    output_json(out);
}

/* ---- For people ---- */

/* "label    text", the text broken between words and indented. */
static void print_label(const char *label, const char *format, ...) PRINTF_LIKE(2, 3);
static void print_label(const char *label, const char *format, ...)
{
    CLEANUP(cleanup_free) char *text = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        abort();
    va_end(args);
    printf("%-*s", LABEL_COLUMNS, label);
    size_t column = LABEL_COLUMNS;
    for (const char *at = text; *at;) {
        const size_t len = strcspn(at, " ");
        if (column > LABEL_COLUMNS && column + 1 + len > COLUMNS) {
            printf("\n%*s", LABEL_COLUMNS, "");
            column = LABEL_COLUMNS;
        } else if (column > LABEL_COLUMNS) {
            putchar(' ');
            column++;
        }
        output_text((etag_str){at, len});
        column += len;
        at += len + strspn(at + len, " ");
    }
    putchar('\n');
}

static void print_target(void *context, const char *kind, etag_str name)
{
    print_label("", "- %s %.*s", kind, (int)name.len, name.data ? name.data : "");
}

static void print_event(const explanation *e, const struct clock_view *culprit)
{
    char lsn[LSN_TEXT_BYTES], time[TIME_TEXT_BYTES];
    if (!e->has_event) {
        print_label("event", "no longer known: the daemon keeps the newest ones only");
        return;
    }
    const struct passwd *user = getpwuid(e->event.peer_uid);
    print_label("event", "LSN %s, at %s, by process %" PRIu32 " of user %s (%" PRIu32 "), naming",
                lsn_text(e->event.lsn, lsn),
                time_text(e->event.wall_ms ? e->event.wall_ms : 1, time), e->event.peer_pid,
                user ? user->pw_name : "unknown", e->event.peer_uid);
    targets_each(&e->event.targets, print_target, NULL);
    if (!event_names(e, culprit))
        print_label("", "None of these is the name above: two names share a clock, which costs a "
                        "needless 200 and nothing else.");
}

static void print_clocks(const explanation *e)
{
    printf("clocks   %-11s%8s%17s  %s\n", "kind", "number", "LSN", "name");
    for (size_t i = 0; i < e->clock_count; i++) {
        const struct clock_view *clock = &e->clocks[i];
        const char *mark = (int)i == e->culprit ? "newer >" : "";
        if (clock->value & CLOCK_IN_FLUX)
            mark = "in flux>";
        printf("%8s %-11s%8" PRIu32 "%17" PRIu64, mark, target_word(clock->kind), clock->number,
               clock->value & CLOCK_LSN_MASK);
        if (clock->name.len > NAME_COLUMNS)
            printf("\n%*s", NAME_INDENT, "");
        printf("  ");
        output_text(clock->name);
        putchar('\n');
    }
}

static void print_culprit(const explanation *e, const struct clock_view *clock)
{
    char lsn[LSN_TEXT_BYTES];
    print_label("because", "clock %" PRIu32 ", that of %s%s%.*s, %s", clock->number,
                target_word(clock->kind), clock->kind == TARGET_EVERYTHING ? "" : " ",
                clock->kind == TARGET_EVERYTHING ? 0 : (int)clock->name.len, clock->name.data,
                e->view.state == ETAG_REASON_STALE ? "moved on after the fill:"
                                                   : "is in flux; last moved:");
    print_label("", "LSN %s", lsn_text(clock->value, lsn));
    print_event(e, clock);
}

static void print_because(const explanation *e)
{
    switch (e->view.state) {
    case ETAG_REASON_STALE:
    case ETAG_REASON_IN_FLUX:
        if (has_culprit(e))
            print_culprit(e, &e->clocks[e->culprit]);
        break;
    case ETAG_REASON_NO_LEASE:
        print_label("because", "the entry is current, but the daemon's lease is over: paused "
                               "(etagctl resume), or it can't renew (its log says why)");
        break;
    case ETAG_REASON_VALID:
        print_label("because",
                    "no clock of it moved after its fill, and the lease holds for "
                    "%" PRIu64 " ms more (it is renewed all the time)",
                    lease_left_ms(e));
        break;
    default:
        break;
    }
}

static void print_human(const explanation *e)
{
    const struct entry *entry = &e->view.entry;
    CLEANUP(cleanup_free) char *key = key_text(&entry->key.resource);
    char lsn[LSN_TEXT_BYTES], time[TIME_TEXT_BYTES];
    const bool known = e->view.in_index || e->view.fill_lsn != 0;

    print_label("key", "%s", key);
    if (entry->key.scope.kind == ETAG_SCOPE_PUBLIC)
        print_label("scope", "public");
    else
        print_label("scope", "%.*s", (int)entry->key.scope.name.len, entry->key.scope.name.data);
    print_label("state", "%s: %s", etag_reason_word(e->view.state),
                etag_reason_text(e->view.state));
    if (!known) {
        print_label("so",
                    "front ends render it; the next fill makes it known. Is it another scope, "
                    "release or --vary that you mean?");
        return;
    }
    print_because(e);
    print_label("etag", "%.*s", (int)entry->etag.len, entry->etag.data ? entry->etag.data : "");
    print_label("filled", "with a token of LSN %s", lsn_text(e->view.fill_lsn, lsn));
    print_label("expires", "%s",
                e->view.expires_wall_ms ? time_text(e->view.expires_wall_ms, time) : "never");
    print_label("is in", "%s%s%s", e->view.in_index ? "shared memory" : "",
                e->view.in_index && e->view.persisted ? " and " : "",
                e->view.persisted ? "the store" : (e->view.in_index ? ", not yet the store" : ""));
    print_clocks(e);
}

static int explain_run(struct ctl *ctl, int argc, char **argv)
{
    struct ctl_key key;
    CLEANUP(cleanup_daemon) struct ctl_daemon daemon = {0};
    if (!ctl_key_only(ctl, &key, argc, argv) || !ctl_daemon_open(&daemon, ctl))
        return ctl->exit_status;
    struct request request = {.kind = REQUEST_EXPLAIN, .key = key.key};
    struct reply reply;
    if (!ctl_daemon_ask(&daemon, &request, REPLY_EXPLAIN, &reply))
        return ctl->exit_status;
    if (ctl->json)
        print_json(&reply.explain);
    else
        print_human(&reply.explain);
    return CTL_DONE;
}

const struct ctl_command ctl_explain = {
    "explain",
    "KEY",
    "Says why front ends answer from an entry, or why not",
    "Names the clock that moved after the entry was filled, and the event that moved it.",
    NULL,
    true,
    explain_run};
