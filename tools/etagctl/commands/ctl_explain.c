/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explain: why front ends answer from an entry, or why they do not; which clock moved, and by whose
 * event. And of a captured request: what would be answered, and by which of its conditions.
 */
#include "clocktime.h"
#include "ctl_conditions.h"
#include "ctl_daemon.h"
#include "ctl_key.h"
#include "ctl_view.h"
#include "http_request.h"
#include "key.h"
#include "layout.h"
#include "surrogate.h"
#include "text.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>

#define LABEL_COLUMNS 9
#define NEAR_MAX 100
#define NAME_COLUMNS 33 /* after a clock's numbers; longer names get a line of their own */
#define NAME_INDENT 9

typedef __typeof__(((struct reply *)NULL)->explain) explanation;

static bool has_culprit(const explanation *e)
{
    return e->culprit >= 0 && (size_t)e->culprit < e->clock_count;
}

/* In the index, or in the store at least. */
static bool is_known(const explanation *e)
{
    return e->view.in_index || e->view.fill_lsn != 0;
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

/* A family's name has no asterisk alone: "*" is a name without a colon. */
static bool is_every_family(const struct clock_view *clock)
{
    return clock->kind == TARGET_FAMILY && clock->number == CLOCK_FAMILIES;
}

static void search_name(void *context, const char *kind, etag_str name)
{
    struct name_search *search = context;

    if (strcmp(kind, target_word(search->clock->kind)) == 0 &&
        (search->clock->kind == TARGET_EVERYTHING || str_equal(name, search->clock->name)))
        search->found = true;
    if (search->clock->kind == TARGET_SURROGATE && strcmp(kind, "surrogate") == 0 &&
        surrogate_reaches(name, search->clock->name))
        search->found = true;
    /* A family is also the surrogate key of its name, and one of all families. */
    if (strcmp(kind, "family") == 0 &&
        ((search->clock->kind == TARGET_SURROGATE && str_equal(name, search->clock->name)) ||
         is_every_family(search->clock)))
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

static doc *explanation_doc(const explanation *e)
{
    doc *out = doc_object(), *clocks = doc_array();

    doc_entry(out, &e->view);
    doc_words(out, "detail", etag_reason_text(e->view.state));
    doc_add(out, "clock", has_culprit(e) ? clock_doc(&e->clocks[e->culprit]) : NULL);
    doc_add(out, "event", e->has_event ? doc_event(&e->event) : NULL);
    for (size_t i = 0; i < e->clock_count; i++)
        doc_append(clocks, clock_doc(&e->clocks[i]));
    doc_add(out, "clocks", clocks);
    doc_number(out, "lease_left_ms", lease_left_ms(e));
    return out;
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
    output_wrapped(text, LABEL_COLUMNS);
}

static void print_target(void *context, const char *kind, etag_str name)
{
    print_label("", "- %s %.*s", kind, (int)name.len, name.data ? name.data : "");
}

static void print_event(const explanation *e, const struct clock_view *culprit)
{
    char lsn[LSN_TEXT_BYTES], time[TIME_TEXT_BYTES], origin[ORIGIN_TEXT_BYTES];

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
    if (e->event.relayed)
        print_label("relay", "%s", origin_text(&e->event.origin, origin));
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
    uint32_t group;

    print_label("because", "clock %" PRIu32 ", that of %s%s%.*s, %s", clock->number,
                target_word(clock->kind), clock->kind == TARGET_EVERYTHING ? "" : " ",
                clock->kind == TARGET_EVERYTHING ? 0 : (int)clock->name.len, clock->name.data,
                e->view.state == ETAG_REASON_STALE ? "moved on after the fill:"
                                                   : "is in flux; last moved:");
    print_label("", "LSN %s", lsn_text(clock->value, lsn));
    if (clock->kind == TARGET_SURROGATE && surrogate_is_group(clock->name, &group))
        print_label("",
                    "(It has more than %d surrogate keys, so it depends on groups of names: each "
                    "name of such a group makes it stale.)",
                    SURROGATES_PER_ENTRY_MAX);
    if (is_every_family(clock))
        print_label("",
                    "(Its surrogate keys do not show their families, or are of more than %d: "
                    "each family that is named makes it stale.)",
                    FAMILIES_PER_ENTRY_MAX);
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

static etag_str vary_value(const etag_field *field)
{
    if (!field->value.data)
        return ETAG_LIT("(absent)");
    return field->value.len > 0 ? field->value : ETAG_LIT("(empty)");
}

/* What a 304 carries besides Date. */
static void print_fields(const struct entry *entry)
{
    print_label("304 has", "ETag: %.*s", (int)entry->etag.len, entry->etag.data);
    if (entry->content_location.len > 0)
        print_label("", "Content-Location: %.*s", (int)entry->content_location.len,
                    entry->content_location.data);
    for (size_t i = 0; i < entry->field_count; i++) {
        const etag_field *field = &entry->fields[i].field;
        if (entry->fields[i].kind == FIELDSET_EXPIRES)
            print_label("", "Expires: Date + %" PRId64 " s", entry->fields[i].offset_s);
        else
            print_label("", "%.*s: %.*s", (int)field->name.len, field->name.data,
                        (int)field->value.len, field->value.data);
    }
}

static void print_variant(const etag_key *key)
{
    if (key->release.len > 0)
        print_label("release", "%.*s", (int)key->release.len, key->release.data);
    if (key->scheme.len > 0)
        print_label("scheme", "%.*s", (int)key->scheme.len, key->scheme.data);
    for (size_t i = 0; i < key->vary_count; i++)
        print_label(i == 0 ? "vary" : "", "%.*s: %.*s", (int)key->vary[i].name.len,
                    key->vary[i].name.data, (int)vary_value(&key->vary[i]).len,
                    vary_value(&key->vary[i]).data);
}

/* The result, in a sentence. */
static const char *answer_text(const struct conditions *conditions, etag_str method)
{
    const bool reads = str_equal(method, ETAG_LIT("GET")) || str_equal(method, ETAG_LIT("HEAD"));

    switch (conditions->verdict) {
    case ETAG_NOT_MODIFIED:
        return "304 Not Modified, from shared memory";
    case ETAG_PRECONDITION_FAILED:
        return "412 Precondition Failed, from shared memory";
    case ETAG_PRECONDITION_REQUIRED:
        return "428 Precondition Required: the method writes, and there is no If-Match";
    default:
        return reads ? "200, rendered: no condition of the request says that it has the current one"
                     : "the method goes on: its conditions allow it (repeat them in the "
                       "transaction)";
    }
}

static void print_condition(const struct condition *condition)
{
    const char *mark = condition->decides ? "decides>" : "";
    const char *value = condition->value.data ? condition->value.data : "";

    printf("%8s ", mark);
    printf("%s ", condition->name);
    output_text((etag_str){value, condition->value.len});
    if (strlen(condition->name) + condition->value.len + strlen(condition->says) + 11 >
        OUTPUT_COLUMNS)
        printf("\n%*s  ", LABEL_COLUMNS, "");
    printf(" %s\n", condition->says);
}

/* What would be answered, and what each condition says about it. */
static void print_request(const etag_str *method, const struct conditions *conditions,
                          const explanation *e)
{
    const bool valid = e->view.state == ETAG_REASON_VALID;

    print_label("request", "%.*s", (int)method->len, method->data);
    if (valid)
        print_label("answer", "%s", answer_text(conditions, *method));
    else
        print_label("answer", "rendered by the application, whatever the conditions say: the "
                              "cache does not know (state, below)");
    if (!valid && is_known(e))
        print_label("", "were the entry current: %s", answer_text(conditions, *method));
    if (is_known(e) && conditions->count > 0)
        print_label("judged", "by the entry's validators:");
    for (size_t i = 0; is_known(e) && i < conditions->count; i++)
        print_condition(&conditions->list[i]);
    if (is_known(e) && conditions->left_out > 0)
        print_label("", "and %zu more", conditions->left_out);
    if (conditions->count == 0)
        print_label("", "The request has no condition: a client without a stored copy, or one "
                        "that may not use it (no-cache, reload)");
    if (valid && conditions->verdict == ETAG_NOT_MODIFIED)
        print_fields(&e->view.entry);
    putchar('\n');
}

static void print_human(const explanation *e)
{
    const struct entry *entry = &e->view.entry;
    CLEANUP(cleanup_free) char *key = key_text(&entry->key.resource);
    char lsn[LSN_TEXT_BYTES], time[TIME_TEXT_BYTES];

    print_label("key", "%s", key);
    if (entry->key.scope.kind == ETAG_SCOPE_PUBLIC)
        print_label("scope", "public");
    else
        print_label("scope", "%.*s", (int)entry->key.scope.name.len, entry->key.scope.name.data);
    print_variant(&entry->key);
    print_label("state", "%s: %s", etag_reason_word(e->view.state),
                etag_reason_text(e->view.state));
    if (!is_known(e)) {
        print_label("so", "front ends render it; the next fill makes it known");
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

/* ---- A captured request ---- */

struct inquiry {
    /* first: ctl_key_option() takes it for this */
    struct ctl_key key;
    /* NULL: a KEY is given */
    const char *request_path;
    /* NULL: Accept-Encoding counts as it is */
    const char *codings;
    bool require_if_match, compression_suffixes;
    /* of the capture */
    char *bytes;
    struct http_request http;
    etag_request request;
    struct conditions conditions;
    char vary_text[VARY_COUNT_MAX * VARY_VALUE_BYTES_MAX];
    char canonical[RESOURCE_TEXT_BYTES_MAX];
};

static void inquiry_free(struct inquiry **inquiry)
{
    if (*inquiry)
        free((*inquiry)->bytes);
    free(*inquiry);
}

/* Returns false after an error message. */
static bool capture_read(struct ctl *ctl, struct inquiry *inquiry, size_t *len)
{
    const bool standard = strcmp(inquiry->request_path, "-") == 0;
    CLEANUP(cleanup_file)
    FILE *file = standard ? fdopen(dup(STDIN_FILENO), "r") : fopen(inquiry->request_path, "re");

    inquiry->bytes = malloc(HTTP_REQUEST_BYTES_MAX + 1);
    if (!inquiry->bytes)
        abort();
    *len = file ? fread(inquiry->bytes, 1, HTTP_REQUEST_BYTES_MAX + 1, file) : 0;
    if (file && !ferror(file) && *len <= HTTP_REQUEST_BYTES_MAX)
        return true;
    if (*len > HTTP_REQUEST_BYTES_MAX)
        ctl_usage_error(ctl, "--request %s: longer than %u bytes; the header is enough",
                        inquiry->request_path, HTTP_REQUEST_BYTES_MAX);
    else
        ctl_usage_error(ctl, "--request %s: cannot be read: %s", inquiry->request_path,
                        strerrordesc_np(errno));
    return false;
}

/* "br,gzip" as a front end offers them. */
static etag_str coding_select(const struct inquiry *inquiry)
{
    etag_str offered[CODINGS_OFFERED_MAX];
    size_t count = 0;

    for (const char *at = inquiry->codings; *at && count < CODINGS_OFFERED_MAX;) {
        const size_t len = strcspn(at, ",");
        offered[count++] = str_trim((etag_str){at, len});
        at += len + (at[len] == ',');
    }
    return etag_encoding_select(inquiry->http.fields, inquiry->http.field_count, offered, count);
}

/* --vary with a name alone: what the request says. Returns false after an error message. */
static bool vary_fill(struct ctl *ctl, struct inquiry *inquiry)
{
    char *text = inquiry->vary_text;
    size_t left = sizeof(inquiry->vary_text);

    for (size_t i = 0; i < inquiry->key.key.vary_count; i++) {
        etag_field *vary = &inquiry->key.vary[i];
        const etag_str name = vary->name;
        if (vary->value.data)
            continue;
        if (inquiry->codings && str_equal_nocase(name, ETAG_LIT("Accept-Encoding"))) {
            vary->value = coding_select(inquiry);
            continue;
        }
        if (etag_vary_select(&name, 1, inquiry->http.fields, inquiry->http.field_count, vary, text,
                             left) != ETAG_OK) {
            ctl_usage_error(ctl, "--vary %.*s: the request's value is too long for a key",
                            (int)name.len, name.data);
            return false;
        }
        if (vary->value.data >= text && vary->value.data < text + left) {
            left -= vary->value.len;
            text += vary->value.len;
        }
    }
    return true;
}

/* Returns false after an error message. */
static bool request_take(struct ctl *ctl, struct inquiry *inquiry)
{
    struct why why;
    CLEANUP(cleanup_free) struct key *canonical = malloc(sizeof(*canonical));
    size_t len = 0;

    if (!canonical || !capture_read(ctl, inquiry, &len))
        return false;
    const unsigned line = http_request_parse(&inquiry->http, (etag_str){inquiry->bytes, len}, &why);
    if (line != 0) {
        ctl_usage_error(ctl, "%s:%u: %s", inquiry->request_path, line, why.text);
        return false;
    }
    inquiry->key.key.resource = inquiry->http.resource;
    if (!vary_fill(ctl, inquiry))
        return false;
    const char *wrong = key_canonicalize(canonical, &inquiry->key.key);
    if (wrong)
        ctl_usage_error(ctl, "%s: %s", inquiry->request_path, wrong);
    ETAG_INIT(&inquiry->request);
    inquiry->request.method = inquiry->http.method;
    inquiry->request.fields = inquiry->http.fields;
    inquiry->request.field_count = inquiry->http.field_count;
    inquiry->request.require_if_match = inquiry->require_if_match;
    inquiry->request.compression_suffixes = inquiry->compression_suffixes;
    return !wrong;
}

static void request_judge(struct inquiry *inquiry, const explanation *e)
{
    etag_validators validators;

    etag_validators_init(&validators);
    validators.existence = is_known(e) ? ETAG_EXISTS : ETAG_EXISTENCE_UNKNOWN;
    validators.etag = e->view.entry.etag;
    validators.last_modified = is_known(e) ? e->view.entry.last_modified : ETAG_NO_DATE;
    validators.last_modified_is_strong = e->view.entry.last_modified_is_strong;
    conditions_judge(&inquiry->conditions, &inquiry->request, &validators);
}

/* ---- Near ones: the same resource under other scopes, releases, variants ---- */

/* In the order of their names, so they are the first ones with it as a prefix. Returns false
 * after an error message. */
static bool near_ask(struct ctl_daemon *daemon, struct inquiry *inquiry, struct reply *reply)
{
    struct resource resource;

    if (resource_canonicalize(&resource, &inquiry->key.key.resource))
        return true;
    const size_t len = resource_format(&resource, inquiry->canonical);
    struct request request = {.kind = REQUEST_LIST,
                              .list = {.prefix = {inquiry->canonical, len}, .limit = NEAR_MAX}};
    if (!ctl_daemon_ask(daemon, &request, REPLY_LIST, reply))
        return false;
    for (size_t i = 0; i < reply->list.entry_count; i++) {
        CLEANUP(cleanup_free) char *text = key_text(&reply->list.entries[i].entry.key.resource);
        if (strcmp(text, inquiry->canonical) != 0)
            reply->list.entry_count = i;
    }
    return true;
}

static void print_near_one(const struct entry_view *view)
{
    CLEANUP(cleanup_free) char *text = NULL;
    size_t len = 0;
    const etag_key *key = &view->entry.key;
    const etag_str scope = key->scope.kind == ETAG_SCOPE_PUBLIC ? ETAG_LIT("public")
                                                                : key->scope.name;
    FILE *out = open_memstream(&text, &len);

    if (!out)
        abort();
    fprintf(out, "- scope %.*s", (int)scope.len, scope.data);
    if (key->release.len > 0)
        fprintf(out, ", release %.*s", (int)key->release.len, key->release.data);
    if (key->scheme.len > 0)
        fprintf(out, ", scheme %.*s", (int)key->scheme.len, key->scheme.data);
    for (size_t i = 0; i < key->vary_count; i++) {
        const etag_str value = vary_value(&key->vary[i]);
        fprintf(out, ", with %.*s: %.*s", (int)key->vary[i].name.len, key->vary[i].name.data,
                (int)value.len, value.data);
    }
    fprintf(out, "; etag %.*s, %s", (int)view->entry.etag.len, view->entry.etag.data,
            etag_reason_word(view->state));
    if (fclose(out) != 0)
        abort();
    print_label("", "%s", text);
}

static void print_near(const struct reply *reply)
{
    if (reply->list.entry_count == 0) {
        print_label("near",
                    "no other scope, release, scheme or variant of it is known either (entries "
                    "filled a moment ago may be missing here: etagctl sync)");
        return;
    }
    print_label("near", "the same resource is known as");
    for (size_t i = 0; i < reply->list.entry_count; i++)
        print_near_one(&reply->list.entries[i]);
}

/* ---- The command ---- */

static void near_doc_add(doc *out, const struct reply *reply)
{
    doc *near = doc_array();

    for (size_t i = 0; i < reply->list.entry_count; i++) {
        doc *entry = doc_object();
        doc_key(entry, &reply->list.entries[i].entry.key);
        doc_words(entry, "state", etag_reason_word(reply->list.entries[i].state));
        doc_text(entry, "etag", reply->list.entries[i].entry.etag);
        doc_append(near, entry);
    }
    doc_add(out, "near", near);
}

static void request_doc_add(doc *out, const struct inquiry *inquiry, const explanation *e)
{
    const struct conditions *conditions = &inquiry->conditions;
    const bool valid = e->view.state == ETAG_REASON_VALID;
    const int status = valid ? etag_verdict_http_status(conditions->verdict) : 0;
    doc *request = doc_object(), *list = doc_array();

    doc_text(request, "method", inquiry->http.method);
    doc_words(request, "verdict", etag_verdict_word(valid ? conditions->verdict : ETAG_UNKNOWN));
    doc_number_or_null(request, "status", (uint64_t)status);
    doc_words(request, "if_it_were_current", etag_verdict_word(conditions->verdict));
    /* Nothing can be judged without an entry. */
    for (size_t i = 0; is_known(e) && i < conditions->count; i++) {
        doc *condition = doc_object();
        doc_words(condition, "field", conditions->list[i].name);
        doc_text(condition, "value", conditions->list[i].value);
        doc_words(condition, "says", conditions->list[i].says);
        doc_bool(condition, "decides", conditions->list[i].decides);
        doc_append(list, condition);
    }
    doc_add(request, "conditions", list);
    doc_add(out, "request", request);
}

/* The reply's bytes end with the next question, so what is known is printed, or copied into a
 * document, before it. */
static int explain_tell(struct ctl *ctl, struct ctl_daemon *daemon, struct inquiry *inquiry,
                        struct reply *reply)
{
    const bool known = is_known(&reply->explain);
    doc *out = NULL;

    if (inquiry->request_path)
        request_judge(inquiry, &reply->explain);
    if (ctl->json) {
        out = explanation_doc(&reply->explain);
        if (inquiry->request_path)
            request_doc_add(out, inquiry, &reply->explain);
    } else {
        if (inquiry->request_path)
            print_request(&inquiry->http.method, &inquiry->conditions, &reply->explain);
        print_human(&reply->explain);
    }
    if (!known) {
        if (!near_ask(daemon, inquiry, reply))
            return ctl->exit_status;
        if (out)
            near_doc_add(out, reply);
        else
            print_near(reply);
    }
    if (out)
        output_json(out);
    return CTL_DONE;
}

static int explain_run(struct ctl *ctl)
{
    CLEANUP(inquiry_free) struct inquiry *inquiry = calloc(1, sizeof(*inquiry));
    CLEANUP(cleanup_daemon) struct ctl_daemon daemon = {0};

    if (!inquiry)
        abort();
    ctl_key_init(&inquiry->key);
    if (!ctl_parse(ctl, ctl_key_option, inquiry))
        return ctl->exit_status;
    if (!inquiry->request_path &&
        (inquiry->codings || inquiry->require_if_match || inquiry->compression_suffixes))
        return ctl_usage_error(ctl, "--codings, --require-if-match and --compression-suffixes go "
                                    "with --request");
    if (!(inquiry->request_path ? ctl_want_arguments(ctl, 0) && request_take(ctl, inquiry)
                                : ctl_key_argument(ctl, &inquiry->key)))
        return ctl->exit_status;
    struct request request = {.kind = REQUEST_EXPLAIN, .key = inquiry->key.key};
    struct reply reply;
    if (!ctl_daemon_open(&daemon, ctl) || !ctl_daemon_ask(&daemon, &request, REPLY_EXPLAIN, &reply))
        return ctl->exit_status;
    return explain_tell(ctl, &daemon, inquiry, &reply);
}

static const struct ctl_option explain_options[] = {
    {'f', "request", "FILE", "a captured HTTP/1 request; -: standard input",
     CTL_TEXT(struct inquiry, request_path)},
    {'c', "codings", "LIST", "br,gzip: Accept-Encoding counts as the one chosen",
     CTL_TEXT(struct inquiry, codings)},
    {'R', "require-if-match", NULL, "a write without If-Match is answered 428",
     CTL_FLAG(struct inquiry, require_if_match)},
    {'S', "compression-suffixes", NULL, "If-None-Match: \"x-gzip\" lists \"x\" too",
     CTL_FLAG(struct inquiry, compression_suffixes)},
    {0}};

const struct ctl_command ctl_explain = {
    "explain",
    "KEY | --request FILE",
    "Says why front ends answer from an entry, or why not",
    "Names the clock that moved after the entry was filled, and the event that moved\n"
    "it. With --request: what would be answered now, and which condition decides.\n"
    "No request says its scope: --scope. --vary with a name alone takes the request's\n"
    "value; nginx's default is --vary Accept-Encoding --codings br,gzip. Example:\n"
    "  etagctl explain --request captured.txt --scope customer:7",
    explain_options,
    true,
    explain_run};
