/* SPDX-License-Identifier: Apache-2.0 */
/* ping, status, get, list: what the daemon knows. explain and events are in files of their
 * own. */
#include "clocktime.h"
#include "ctl_daemon.h"
#include "ctl_key.h"
#include "ctl_view.h"
#include "numbers.h"
#include "text.h"

#include <inttypes.h>

#define PING_AGAIN_MS 20

struct ping {
    bool wait;
};

/* ---- ping ---- */

static void doc_hello(doc *object, const struct channel_hello *hello)
{
    char incarnation[20];
    doc *roles = doc_array();

    for (size_t i = 0; i < ROLE_WORD_COUNT; i++)
        if (hello->roles & (1u << i))
            doc_append_text(roles, str_of(role_words[i]));
    snprintf(incarnation, sizeof(incarnation), "%016" PRIx64, hello->incarnation_id);
    doc_words(object, "software", hello->software);
    doc_number(object, "protocol", hello->protocol);
    doc_add(object, "roles", roles);
    doc_words(object, "incarnation", incarnation);
    doc_number(object, "lease_ms", hello->lease_ns / NS_PER_MS);
}

/* A socket that is not there yet can't be waited for: look again and again, until the deadline. */
static bool connect_when_there(struct ctl_daemon *daemon)
{
    for (;;) {
        const etag_status status = channel_connect(&daemon->channel, daemon->deadline_ns,
                                                   &daemon->fault);
        if (status == ETAG_OK)
            return true;
        if (status != ETAG_UNAVAILABLE || channel_ms_until(daemon->deadline_ns) == 0) {
            daemon->ctl->exit_status = ctl_fail(daemon->ctl, status, daemon->fault.text);
            return false;
        }
        nanosleep(&(struct timespec){.tv_nsec = PING_AGAIN_MS * (long)NS_PER_MS}, NULL);
    }
}

static int ping_run(struct ctl *ctl)
{
    struct ping ping = {0};

    if (!ctl_parse(ctl, NULL, &ping) || !ctl_want_arguments(ctl, 0))
        return ctl->exit_status;
    CLEANUP(cleanup_daemon) struct ctl_daemon daemon = {0};
    if (!ctl_daemon_init(&daemon, ctl) ||
        !(ping.wait ? connect_when_there(&daemon) : ctl_daemon_connect(&daemon)))
        return ctl->exit_status;
    const uint64_t begin_ns = channel_now_ns();
    struct request request = {.kind = REQUEST_PING};
    struct reply reply;
    if (!ctl_daemon_ask(&daemon, &request, REPLY_DONE, &reply))
        return ctl->exit_status;
    doc *out = doc_object();
    doc_hello(out, &daemon.channel.hello);
    doc_number(out, "round_trip_us", (channel_now_ns() - begin_ns) / 1000);
    output_doc(ctl, out);
    return CTL_DONE;
}

static const struct ctl_option ping_options[] = {
    {'w', "wait", NULL, "until it answers, at most --timeout-ms", CTL_FLAG(struct ping, wait)},
    {0}};

const struct ctl_command ctl_ping = {
    "ping", "", "Asks whether the daemon answers", NULL, ping_options, false, ping_run};

/* ---- status ---- */

static int status_run(struct ctl *ctl)
{
    if (!ctl_no_options(ctl))
        return ctl->exit_status;
    CLEANUP(cleanup_daemon) struct ctl_daemon daemon = {0};
    struct request request = {.kind = REQUEST_STATUS};
    struct reply reply;
    if (!ctl_daemon_open(&daemon, ctl) || !ctl_daemon_ask(&daemon, &request, REPLY_STATUS, &reply))
        return ctl->exit_status;
    doc *out = doc_object();
    for (size_t i = 0; i < reply.status.stat_count; i++) {
        const struct stat_view *stat = &reply.status.stats[i];
        CLEANUP(cleanup_free) char *name = strndup(stat->name.data, stat->name.len);
        if (stat->is_text)
            doc_text(out, name, stat->text);
        else
            doc_number(out, name, stat->number);
    }
    output_doc(ctl, out);
    return CTL_DONE;
}

const struct ctl_command ctl_status = {
    "status",  "",   "Shows the daemon's figures: lease, entries, counters of all clients",
    NULL,      NULL, false,
    status_run};

/* ---- get ---- */

static int get_run(struct ctl *ctl)
{
    struct ctl_key key;
    CLEANUP(cleanup_daemon) struct ctl_daemon daemon = {0};

    ctl_key_init(&key);
    if (!ctl_parse(ctl, ctl_key_option, &key) || !ctl_key_argument(ctl, &key) ||
        !ctl_daemon_open(&daemon, ctl))
        return ctl->exit_status;
    struct request request = {.kind = REQUEST_GET, .key = key.key};
    struct reply reply;
    if (!ctl_daemon_ask(&daemon, &request, REPLY_GET, &reply))
        return ctl->exit_status;
    doc *out = doc_object();
    doc_entry(out, &reply.get);
    output_doc(ctl, out);
    return CTL_DONE;
}

const struct ctl_command ctl_get = {"get", "KEY", "Shows an entry", NULL, NULL, true, get_run};

/* ---- list ---- */

struct list {
    const char *prefix;
    uint64_t limit;
};

static void list_print(const struct ctl *ctl, const struct entry_view *view, bool first)
{
    const etag_key *key = &view->entry.key;

    if (ctl->json) {
        doc *entry = doc_object();
        doc_entry(entry, view);
        printf("%s", first ? "" : ",\n");
        output_json_line(entry, "");
        return;
    }
    CLEANUP(cleanup_free) char *text = key_text(&key->resource);
    printf("%-8s  ", etag_reason_word(view->state));
    output_text_padded(view->entry.etag, 24);
    output_text_padded(key->scope.kind == ETAG_SCOPE_PUBLIC ? ETAG_LIT("public") : key->scope.name,
                       12);
    output_text(str_of(text));
    putchar('\n');
}

/* Page after page. The cursor is the last key that was shown, in the reply that is there until the
 * next comes: entries that come and go do not move it. *begun: an error is not the whole output. */
static bool list_pages(struct ctl_daemon *daemon, const struct ctl *ctl, const struct list *list,
                       uint64_t *printed, bool *begun)
{
    struct request request = {.kind = REQUEST_LIST, .list = {.prefix = str_of(list->prefix)}};
    struct reply reply;

    do {
        request.list.limit = (uint32_t)min_of(list->limit - *printed, LIST_PAGE_MAX);
        if (!ctl_daemon_ask(daemon, &request, REPLY_LIST, &reply))
            return false;
        if (!*begun && ctl->json)
            printf("{\"entries\": [\n");
        else if (!*begun)
            printf("%-8s  %-24s%-12s%s\n", "STATE", "ETAG", "SCOPE", "KEY");
        *begun = true;
        ctl_daemon_plain(daemon); /* "complete" says it */
        for (size_t i = 0; i < reply.list.entry_count && *printed < list->limit; i++)
            list_print(ctl, &reply.list.entries[i], (*printed)++ == 0);
        request.list.after = reply.list.next;
    } while (*printed < list->limit && request.list.after.len > 0 && !ferror(stdout));
    return true;
}

static int list_run(struct ctl *ctl)
{
    CLEANUP(cleanup_daemon) struct ctl_daemon daemon = {0};
    struct list list = {.limit = UINT64_MAX};
    uint64_t printed = 0;
    bool begun = false;

    if (!ctl_parse(ctl, NULL, &list) || !ctl_want_arguments(ctl, 0) ||
        !ctl_daemon_open(&daemon, ctl))
        return ctl->exit_status;
    const bool complete = list_pages(&daemon, ctl, &list, &printed, &begun);
    if (ctl->json && begun)
        printf("\n], \"count\": %" PRIu64 ", \"complete\": %s}\n", printed,
               complete ? "true" : "false");
    return complete ? CTL_DONE : CTL_ERROR;
}

static const struct ctl_option list_options[] = {
    {'p', "prefix", "P", "only keys that begin with it: //host/path or /path",
     CTL_TEXT(struct list, prefix)},
    {'l', "limit", "N", "at most so many", CTL_NUMBER(struct list, limit, UINT64_MAX)},
    {0}};

const struct ctl_command ctl_list = {
    "list",
    "",
    "Lists entries in the order of their keys",
    "Entries are written to the store a moment after they are filled: 'etagctl sync'\n"
    "before shows them all.",
    list_options,
    false,
    list_run};
