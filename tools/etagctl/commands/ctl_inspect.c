/* SPDX-License-Identifier: Apache-2.0 */
/* ping, status, get, list: what the daemon knows. explain and events stand in files of their
 * own. */
#include "clocktime.h"
#include "ctl_daemon.h"
#include "ctl_key.h"
#include "ctl_pages.h"
#include "ctl_view.h"
#include "text.h"

#include <inttypes.h>

#define PING_AGAIN_MS 20

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

static int ping_run(struct ctl *ctl, int argc, char **argv)
{
    bool wait = false;
    const char *value;
    int option, first;

    while ((option = ctl_next_option(ctl, argc, argv, &value, &first)) != CTL_END) {
        if (option == CTL_STOP)
            return ctl->exit_status;
        wait = true;
    }
    if (!ctl_want_arguments(ctl, argc - first, 0))
        return ctl->exit_status;

    CLEANUP(cleanup_daemon) struct ctl_daemon daemon = {0};
    if (!ctl_daemon_init(&daemon, ctl) ||
        !(wait ? connect_when_there(&daemon) : ctl_daemon_connect(&daemon)))
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
    {'w', "wait", NULL, "until it answers, at most --timeout-ms"}, {0}};

const struct ctl_command ctl_ping = {
    "ping", "", "Asks whether the daemon answers", NULL, ping_options, false, ping_run};

/* ---- status ---- */

static int status_run(struct ctl *ctl, int argc, char **argv)
{
    if (!ctl_no_options(ctl, argc, argv))
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

static int get_run(struct ctl *ctl, int argc, char **argv)
{
    struct ctl_key key;
    CLEANUP(cleanup_daemon) struct ctl_daemon daemon = {0};

    if (!ctl_key_only(ctl, &key, argc, argv) || !ctl_daemon_open(&daemon, ctl))
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

struct listing {
    const struct ctl *ctl;
    /* without --json: for errors in the middle */
    struct ctl plain;
    uint64_t printed;
    bool begun;
};

/* Not before the first page is there: so an error can still be the whole output. */
static void list_begin(void *ctx, struct ctl_daemon *daemon)
{
    struct listing *listing = ctx;

    listing->begun = true;
    if (listing->ctl->json)
        printf("{\"entries\": [\n");
    else
        printf("%-8s  %-24s%-12s%s\n", "STATE", "ETAG", "SCOPE", "KEY");
    /* From here on an error must not stand in the middle of the document: "complete" says it. */
    listing->plain = *listing->ctl;
    listing->plain.json = false;
    daemon->ctl = &listing->plain;
}

static void list_print(void *ctx, const struct entry_view *view)
{
    struct listing *listing = ctx;

    if (listing->ctl->json) {
        doc *entry = doc_object();
        doc_entry(entry, view);
        printf("%s", listing->printed ? ",\n" : "");
        output_json_line(entry, "");
    } else {
        const etag_key *key = &view->entry.key;
        CLEANUP(cleanup_free) char *text = key_text(&key->resource);
        printf("%-8s  ", etag_reason_word(view->state));
        output_text_padded(view->entry.etag, 24);
        output_text_padded(
            key->scope.kind == ETAG_SCOPE_PUBLIC ? ETAG_LIT("public") : key->scope.name, 12);
        output_text(str_of(text));
        putchar('\n');
    }
    listing->printed++;
}

static int list_run(struct ctl *ctl, int argc, char **argv)
{
    struct listing listing = {.ctl = ctl};
    struct ctl_pages pages = {
        .left = UINT64_MAX, .begin = list_begin, .each = list_print, .ctx = &listing};
    const char *value;
    int option, first;

    while ((option = ctl_next_option(ctl, argc, argv, &value, &first)) != CTL_END) {
        if (option == 'p')
            pages.prefix = str_of(value);
        else if (option != 'l' || !ctl_number(ctl, "limit", value, UINT64_MAX, &pages.left))
            return ctl->exit_status;
    }
    if (!ctl_want_arguments(ctl, argc - first, 0))
        return ctl->exit_status;
    CLEANUP(cleanup_daemon) struct ctl_daemon daemon = {0};
    if (!ctl_daemon_open(&daemon, ctl))
        return ctl->exit_status;
    const bool complete = ctl_pages(&pages, &daemon);
    if (ctl->json && listing.begun)
        printf("\n], \"count\": %" PRIu64 ", \"complete\": %s}\n", listing.printed,
               complete ? "true" : "false");
    return complete ? CTL_DONE : CTL_ERROR;
}

static const struct ctl_option list_options[] = {
    {'p', "prefix", "P", "only keys that begin with it: //host/path or /path"},
    {'l', "limit", "N", "at most so many"},
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
