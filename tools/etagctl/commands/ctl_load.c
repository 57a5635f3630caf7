/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load: fills with the entries of a dump.
 *
 * An entry of a dump may be older than a change that was made since. So it is filled with the token that it had, the dump's run of
 * the daemon and its own fill LSN, and the daemon judges it by its clocks, as it does with a slow render: within the same
 * run that is exactly right. Of another run the clocks are not known here, and nothing is loaded. Who knows that nothing
 * changed since the dump says --assume-current: then the token is the one of now, taken before the first line is read, and only
 * entries that were current in the dump are loaded.
 *
 * Many fills are under way at once, each with its line's number; answers come in the order of the fills.
 */
#include "clocktime.h"
#include "ctl_daemon.h"
#include "ctl_dump_line.h"
#include "text.h"

#include <errno.h>
#include <inttypes.h>

#define WINDOW 512        /* fills without an answer yet */
#define SYNC_FILLS 65536  /* so that what is loaded does not outrun the store */
#define SYNC_MS_MIN 60000 /* the disk may take longer than an answer */
#define COMPLAINTS_MAX 20 /* told each; more are only counted */
#define REASONS_MAX 128   /* etag_reason is smaller */

struct loading {
    struct ctl *ctl;
    struct ctl_daemon daemon;
    FILE *file;
    const char *name;
    bool assume_current;
    etag_token token; /* of --assume-current */
    struct dump_head head;
    uint64_t line_number; /* of the last line that was read */
    bool ended;           /* the dump's last line was read */
    struct {
        uint64_t id, line_number;
    } under_way[WINDOW];
    size_t first, count;
    uint64_t unsynced;
    uint64_t entries, loaded, expired, not_current, unreadable;
    uint64_t refused[REASONS_MAX];
    struct dump_line line;
    char bytes[DUMP_LINE_BYTES_MAX];
};

static void cleanup_loading(struct loading **loading)
{
    if (!*loading)
        return;
    cleanup_daemon(&(*loading)->daemon);
    dump_line_deinit(&(*loading)->line);
    if ((*loading)->file && (*loading)->file != stdin)
        fclose((*loading)->file);
    free(*loading);
}

static void complain(struct loading *loading, uint64_t line_number, etag_str what)
{
    if (loading->unreadable++ < COMPLAINTS_MAX)
        fprintf(stderr, "%s:%" PRIu64 ": %.*s: skipped\n", loading->name, line_number,
                (int)what.len, what.data);
    else if (loading->unreadable == COMPLAINTS_MAX + 1)
        fprintf(stderr, "%s: more of them are only counted\n", loading->name);
}

/* ---- Lines ---- */

/* The next line without its end. False: there is none, or it cannot be read (ferror). A line that is too long is
 * skipped to its end, and *text is absent. */
static bool line_read(struct loading *loading, etag_str *text)
{
    size_t len = 0;
    int c;
    while ((c = getc_unlocked(loading->file)) != EOF && c != '\n') {
        if (len < DUMP_LINE_BYTES_MAX)
            loading->bytes[len] = (char)c;
        len++;
    }
    if (c == EOF && (len == 0 || ferror(loading->file)))
        return false;
    loading->line_number++;
    *text = len <= DUMP_LINE_BYTES_MAX ? (etag_str){loading->bytes, len} : (etag_str){NULL, 0};
    return true;
}

static bool head_read(struct loading *loading)
{
    etag_str text;
    const char *wrong = "it is empty";
    if (line_read(loading, &text))
        wrong = text.data ? dump_line_parse(&loading->line, text) : "its first line is too long";
    if (!wrong && loading->line.kind != DUMP_HEAD)
        wrong = "its first line is not the head of a dump";
    if (wrong) {
        CLEANUP(cleanup_free) char *told = NULL;
        if (asprintf(&told, "%s is no dump of etagctl: %s", loading->name,
                     ferror(loading->file) ? strerrordesc_np(errno) : wrong) < 0)
            abort();
        output_error(loading->ctl, "invalid", told);
        loading->ctl->exit_status = CTL_ERROR;
    }
    loading->head = loading->line.head;
    return !wrong;
}

/* ---- Fills and their answers ---- */

static bool fail(struct loading *loading, etag_status status)
{
    loading->ctl->exit_status = ctl_fail(loading->ctl, status, loading->daemon.fault.text);
    return false;
}

static void verdict_count(struct loading *loading, const struct reply *reply)
{
    if (reply->fill.reason == ETAG_REASON_NONE)
        loading->loaded++;
    else if ((uint32_t)reply->fill.reason < REASONS_MAX)
        loading->refused[reply->fill.reason]++;
}

/* Takes one answer. False: told. */
static bool answer_take(struct loading *loading)
{
    struct ctl_daemon *daemon = &loading->daemon;
    struct reply reply;
    daemon->deadline_ns = channel_now_ns() + loading->ctl->timeout_ms * NS_PER_MS;
    etag_status status = channel_receive(&daemon->channel, daemon->deadline_ns, &reply,
                                         &daemon->fault);
    if (status != ETAG_OK)
        return fail(loading, status);
    if (reply.id != loading->under_way[loading->first].id)
        return fail(loading, fault_set(&daemon->fault, ETAG_PROTOCOL,
                                       "the daemon's answers are out of order"));
    const uint64_t line_number = loading->under_way[loading->first].line_number;
    loading->first = (loading->first + 1) % WINDOW;
    loading->count--;
    if (reply.kind == REPLY_ERROR && reply.error.code == WIRE_ERROR_INVALID) {
        complain(loading, line_number, reply.error.text);
        return true;
    }
    status = channel_reply_status(&reply, REPLY_FILL, &daemon->fault);
    if (status != ETAG_OK)
        return fail(loading, status);
    verdict_count(loading, &reply);
    return true;
}

static bool answers_take_all(struct loading *loading)
{
    while (loading->count > 0)
        if (!answer_take(loading))
            return false;
    return true;
}

static bool fill_send(struct loading *loading, struct request *request)
{
    struct ctl_daemon *daemon = &loading->daemon;
    struct channel_sent sent;
    etag_status status;
    if (loading->count == WINDOW && !answer_take(loading))
        return false;
    while ((status = channel_send(&daemon->channel, request, &sent, &daemon->fault)) == ETAG_AGAIN)
        if (!answer_take(loading))
            return false;
    if (status == ETAG_INVALID) {
        complain(loading, loading->line_number, str_of(daemon->fault.text));
        return true;
    }
    if (status != ETAG_OK)
        return fail(loading, status);
    const size_t place = (loading->first + loading->count++) % WINDOW;
    loading->under_way[place].id = sent.id;
    loading->under_way[place].line_number = loading->line_number;
    return true;
}

/* What was filled is in the store. Only for those who may ask; for others it is when it is. */
static bool sync_wait(struct loading *loading)
{
    struct ctl_daemon *daemon = &loading->daemon;
    struct request request = {.kind = REQUEST_SYNC};
    struct reply reply;
    loading->unsynced = 0;
    if (!(daemon->channel.hello.roles & ROLE_ADMIN))
        return true;
    if (!answers_take_all(loading))
        return false;
    const uint64_t ms = loading->ctl->timeout_ms > SYNC_MS_MIN ? loading->ctl->timeout_ms
                                                               : SYNC_MS_MIN;
    etag_status status = channel_call(&daemon->channel, &request, channel_now_ns() + ms * NS_PER_MS,
                                      NULL, &reply, &daemon->fault);
    if (status == ETAG_OK)
        status = channel_reply_status(&reply, REPLY_DONE, &daemon->fault);
    return status == ETAG_OK || fail(loading, status);
}

/* ---- Entries ---- */

/* Time that went by since the dump: within one run both clocks know, and the wall clock may have been set back. */
static uint64_t elapsed_ms(const struct loading *loading)
{
    const uint64_t wall_ms = time_wall_ms(), clock_ns = time_coarse_ns();
    const struct dump_head *head = &loading->head;
    const uint64_t by_wall = wall_ms > head->wall_ms ? wall_ms - head->wall_ms : 0;
    const bool same_run = head->incarnation == loading->daemon.channel.hello.incarnation_id;
    const uint64_t by_clock = same_run && clock_ns > head->clock_ns
                                  ? (clock_ns - head->clock_ns) / NS_PER_MS
                                  : 0;
    return by_wall > by_clock ? by_wall : by_clock;
}

/* What is left of the time that the entry was given. False: nothing. */
static bool age_adjust(const struct loading *loading, const struct entry_view *view,
                       struct entry *entry)
{
    if (view->expires_wall_ms == 0)
        return true;
    const uint64_t now_ms = loading->head.wall_ms + elapsed_ms(loading);
    if (view->expires_wall_ms <= now_ms)
        return false;
    const uint64_t left_ms = view->expires_wall_ms - now_ms;
    if (entry->max_age_ms == 0 || left_ms < entry->max_age_ms)
        entry->max_age_ms = left_ms;
    return true;
}

static bool entry_load(struct loading *loading)
{
    const struct entry_view *view = &loading->line.view;
    struct request request = {.kind = REQUEST_FILL,
                              .fill = {.entry = view->entry, .want_verdict = true}};
    loading->entries++;
    if (!age_adjust(loading, view, &request.fill.entry)) {
        loading->expired++;
        return true;
    }
    if (loading->assume_current && view->state != ETAG_REASON_VALID) {
        loading->not_current++;
        return true;
    }
    request.fill.token = loading->assume_current
                             ? loading->token
                             : (etag_token){loading->head.incarnation, view->fill_lsn};
    if (!fill_send(loading, &request))
        return false;
    return ++loading->unsynced < SYNC_FILLS || sync_wait(loading);
}

static bool line_load(struct loading *loading, etag_str text)
{
    const char *wrong = text.data ? dump_line_parse(&loading->line, text)
                                  : "it is longer than 1 MiB";
    if (!wrong && loading->ended)
        wrong = "it stands behind the dump's end";
    if (!wrong && loading->line.kind == DUMP_HEAD)
        wrong = "a second head";
    if (wrong) {
        complain(loading, loading->line_number, str_of(wrong));
        return true;
    }
    if (loading->line.kind == DUMP_ENTRY)
        return entry_load(loading);
    loading->ended = true;
    return true;
}

static bool lines_load(struct loading *loading)
{
    etag_str text;
    while (line_read(loading, &text))
        if (!line_load(loading, text))
            return false;
    if (ferror(loading->file)) {
        (void)fault_set(&loading->daemon.fault, ETAG_SYSTEM, "%s cannot be read: %s", loading->name,
                        strerrordesc_np(errno));
        return fail(loading, ETAG_SYSTEM);
    }
    return answers_take_all(loading) && sync_wait(loading);
}

/* ---- The command ---- */

static int report(const struct loading *loading)
{
    doc *out = doc_object(), *refused = doc_object();
    uint64_t refused_count = 0;
    for (size_t i = 0; i < REASONS_MAX; i++) {
        refused_count += loading->refused[i];
        if (loading->refused[i] > 0)
            doc_number(refused, etag_reason_word((etag_reason)i), loading->refused[i]);
    }
    if (loading->expired > 0)
        doc_number(refused, "expired", loading->expired);
    if (loading->not_current > 0)
        doc_number(refused, "not_current_in_the_dump", loading->not_current);
    refused_count += loading->expired + loading->not_current;
    doc_number(out, "entries", loading->entries);
    doc_number(out, "loaded", loading->loaded);
    doc_number(out, "not_loaded", refused_count);
    doc_add(out, "reasons", refused);
    doc_number(out, "unreadable_lines", loading->unreadable);
    doc_bool(out, "complete", loading->ended);
    output_doc(loading->ctl, out);
    if (!loading->ended)
        fprintf(stderr, "etagctl load: %s has no last line: the dump was cut off\n", loading->name);
    return refused_count > 0 || loading->unreadable > 0 || !loading->ended ? CTL_NO : CTL_DONE;
}

/* False: told. */
static bool run_is_ours(struct loading *loading)
{
    const uint64_t ours = loading->daemon.channel.hello.incarnation_id;
    CLEANUP(cleanup_free) char *text = NULL;
    if (loading->assume_current || loading->head.incarnation == ours)
        return true;
    if (asprintf(&text,
                 "%s was made in another run of the daemon (%016" PRIx64 ", this one is %016" PRIx64
                 "): what changed since is not known, so nothing is loaded. If nothing that the "
                 "entries depend on did: --assume-current",
                 loading->name, loading->head.incarnation, ours) < 0)
        abort();
    output_error(loading->ctl, "refused", text);
    loading->ctl->exit_status = CTL_NO;
    return false;
}

/* Before the first line is read. False: told. */
static bool token_take(struct loading *loading)
{
    if (!loading->assume_current)
        return true;
    CLEANUP(cleanup_client) etag_client *client = ctl_client_open(loading->ctl);
    if (!client || !ctl_client_connected(loading->ctl, client))
        return false;
    loading->token = etag_token_now(client);
    if (loading->token.incarnation != 0)
        return true;
    (void)fault_set(&loading->daemon.fault, ETAG_DENIED,
                    "--assume-current takes a token, which needs the role 'read'");
    return fail(loading, ETAG_DENIED);
}

static bool input_open(struct loading *loading, const char *name)
{
    const bool standard = !name || strcmp(name, "-") == 0;
    loading->name = standard ? "standard input" : name;
    loading->file = standard ? stdin : fopen(name, "re");
    if (loading->file)
        return true;
    (void)fault_set(&loading->daemon.fault, ETAG_SYSTEM, "%s cannot be read: %s", name,
                    strerrordesc_np(errno));
    return fail(loading, ETAG_SYSTEM);
}

static bool daemon_open(struct loading *loading)
{
    struct ctl_daemon *daemon = &loading->daemon;
    if (!ctl_daemon_open(daemon, loading->ctl))
        return false;
    if (daemon->channel.hello.roles & ROLE_FILL)
        return true;
    (void)fault_set(&daemon->fault, ETAG_DENIED,
                    "this needs the role 'fill': see 'roles' in the daemon's configuration");
    return fail(loading, ETAG_DENIED);
}

static int load_run(struct ctl *ctl, int argc, char **argv)
{
    CLEANUP(cleanup_loading) struct loading *loading = calloc(1, sizeof(*loading));
    const char *value;
    int option, first;
    if (!loading)
        abort();
    loading->ctl = ctl;
    dump_line_init(&loading->line);
    while ((option = ctl_next_option(ctl, argc, argv, &value, &first)) != CTL_END) {
        if (option == CTL_STOP)
            return ctl->exit_status;
        loading->assume_current = true;
    }
    if (argc - first > 1)
        return ctl_usage_error(ctl, "want one FILE, or none for standard input");
    if (!input_open(loading, first < argc ? argv[first] : NULL) || !daemon_open(loading) ||
        !token_take(loading) || !head_read(loading) || !run_is_ours(loading) ||
        !lines_load(loading))
        return ctl->exit_status;
    return report(loading);
}

static const struct ctl_option load_options[] = {
    {'c', "assume-current", NULL, "nothing that they depend on changed since the dump"}, {0}};

const struct ctl_command ctl_load = {
    "load",
    "[FILE]",
    "Fills with the entries of a dump, from FILE or standard input",
    "Entries keep the tokens that they had, so what was invalidated since is\n"
    "refused; a dump of another run of the daemon is refused as a whole, since nobody\n"
    "knows what changed: unless you do, and say --assume-current. A line that cannot\n"
    "be read is told and skipped.",
    load_options,
    false,
    load_run,
    .exit_status = "0 all of it was loaded, 1 not all (it says why), 2 error."};
