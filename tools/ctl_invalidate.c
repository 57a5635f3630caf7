/* SPDX-License-Identifier: Apache-2.0 */
/*
 * invalidate: what a write path does after its COMMIT. Targets of one call are one event as long as they fit; from
 * standard input there may be any number, which become several events, each complete in itself. Standard input is read
 * and checked to its end before anything is sent: a malformed line means that nothing of it was done.
 */
#include "ctl_daemon.h"
#include "ctl_output.h"
#include "entry.h"
#include "resource.h"
#include "text.h"

#include <errno.h>
#include <inttypes.h>

#define BATCH_BYTES_MAX (FRAME_BYTES_MAX / 2)
#define INPUT_BYTES_FIRST 65536

struct batch {
    struct ctl *ctl;
    etag_client *client; /* NULL until something is sent */
    etag_resource resources[TARGETS_PER_EVENT_MAX], prefixes[TARGETS_PER_EVENT_MAX];
    etag_str surrogates[TARGETS_PER_EVENT_MAX];
    etag_targets targets;
    char *input; /* standard input: targets borrow from it */
    size_t byte_count;
    uint64_t lsn, event_count, target_count;
};

static size_t batch_count(const struct batch *batch)
{
    const etag_targets *t = &batch->targets;
    return t->resource_count + t->prefix_count + t->surrogate_count + t->everything;
}

static void batch_clear(struct batch *batch)
{
    batch->byte_count = 0;
    ETAG_INIT(&batch->targets);
    batch->targets.resources = batch->resources;
    batch->targets.prefixes = batch->prefixes;
    batch->targets.surrogates = batch->surrogates;
}

static void batch_free(struct batch **batch)
{
    if (*batch) {
        etag_client_close((*batch)->client);
        free((*batch)->input);
        free(*batch);
    }
}

/* False: told. */
static bool batch_send(struct batch *batch)
{
    struct ctl *ctl = batch->ctl;
    if (batch_count(batch) == 0)
        return true;
    if (!batch->client)
        batch->client = ctl_client_open(ctl);
    if (!batch->client)
        return false;
    etag_receipt receipt;
    ETAG_INIT(&receipt);
    const etag_status status = etag_invalidate(batch->client, &batch->targets, &receipt);
    if (status != ETAG_OK) {
        ctl->exit_status = ctl_fail(ctl, status, etag_client_error(batch->client));
        if (batch->event_count > 0)
            fprintf(stderr, "etagctl invalidate: %" PRIu64 " targets before it were done\n",
                    batch->target_count);
        return false;
    }
    batch->lsn = receipt.lsn;
    batch->event_count++;
    batch->target_count += batch_count(batch);
    batch_clear(batch);
    return true;
}

/* NULL, or what is wrong with a target. Sets the resource of those that name one. */
static const char *target_check(int kind, const char *text, etag_resource *resource)
{
    const etag_str name = str_of(text);
    const bool names_resource = kind == 'r' || kind == 'p';
    const char *wrong = names_resource ? resource_split(name, resource) : NULL;
    if (wrong)
        return wrong;
    etag_targets one;
    ETAG_INIT(&one);
    one.resources = one.prefixes = resource;
    one.surrogates = &name;
    one.resource_count = kind == 'r';
    one.prefix_count = kind == 'p';
    one.surrogate_count = kind == 's';
    one.everything = kind == 'A';
    return targets_check(&one);
}

/* One target; text is borrowed until it is sent. NULL, or what is wrong. */
static const char *batch_add(struct batch *batch, int kind, const char *text)
{
    etag_targets *t = &batch->targets;
    etag_resource resource;
    const char *wrong = target_check(kind, text, &resource);
    if (wrong)
        return wrong;
    batch->byte_count += strlen(text);
    if (kind == 'r')
        batch->resources[t->resource_count++] = resource;
    else if (kind == 'p')
        batch->prefixes[t->prefix_count++] = resource;
    else if (kind == 's')
        batch->surrogates[t->surrogate_count++] = str_of(text);
    else
        t->everything = true;
    return NULL;
}

static bool batch_is_full(const struct batch *batch)
{
    return batch_count(batch) == TARGETS_PER_EVENT_MAX || batch->byte_count > BATCH_BYTES_MAX;
}

/* ---- Standard input ---- */

static int line_kind(const char *word)
{
    static const struct {
        const char *word;
        int kind;
    } kinds[] = {{"resource", 'r'}, {"surrogate", 's'}, {"prefix", 'p'}, {"all", 'A'}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strcmp(kinds[i].word, word) == 0)
            return kinds[i].kind;
    return 0;
}

/* "surrogate upload:42" taken apart. NULL, or what is wrong. */
static const char *line_split(const char *line, int *kind, const char **name)
{
    const char *space = strchr(line, ' ');
    const size_t word_len = space ? (size_t)(space - line) : strlen(line);
    char word[16];
    snprintf(word, sizeof(word), "%.*s", (int)(word_len < sizeof(word) ? word_len : sizeof(word)),
             line);
    *kind = word_len < sizeof(word) ? line_kind(word) : 0;
    *name = space ? space + 1 : "";
    if (*kind == 0)
        return "want 'resource //host/path', 'surrogate NAME', 'prefix /path/' or 'all'";
    if ((*kind == 'A') != !space)
        return *kind == 'A' ? "'all' stands alone" : "the name is missing";
    return NULL;
}

/* Standard input as a whole, NUL-terminated. False: told. */
static bool read_input(struct batch *batch, size_t *len)
{
    size_t size = 0;
    *len = 0;
    do {
        if (*len + 1 >= size) {
            size = size ? size * 2 : INPUT_BYTES_FIRST;
            char *grown = realloc(batch->input, size);
            if (!grown) {
                batch->ctl->exit_status = ctl_fail(batch->ctl, ETAG_SYSTEM, "no memory");
                return false;
            }
            batch->input = grown;
        }
        *len += fread(batch->input + *len, 1, size - *len - 1, stdin);
        batch->input[*len] = '\0';
    } while (!feof(stdin) && !ferror(stdin));
    if (!ferror(stdin))
        return true;
    batch->ctl->exit_status = ctl_fail(batch->ctl, ETAG_SYSTEM, strerrordesc_np(errno));
    return false;
}

/* NULL, or what is wrong with a line. Empty ones are fine. */
static const char *line_check(const char *line, size_t len)
{
    etag_resource resource;
    const char *name;
    int kind;
    if (strlen(line) != len)
        return "a NUL byte in the line";
    if (len == 0)
        return NULL;
    const char *wrong = line_split(line, &kind, &name);
    return wrong ? wrong : target_check(kind, name, &resource);
}

/* Makes lines of it, and checks each. False: told. */
static bool split_input(struct batch *batch, size_t input_len)
{
    char *end = batch->input + input_len;
    uint64_t number = 1;
    for (char *line = batch->input; line < end; number++) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        char *line_end = newline ? newline : end;
        *line_end = '\0';
        const char *wrong = line_check(line, (size_t)(line_end - line));
        if (wrong) {
            ctl_usage_error(batch->ctl, "line %" PRIu64 ": %s; nothing of the input was done",
                            number, wrong);
            return false;
        }
        line = line_end + 1;
    }
    return true;
}

static bool read_lines(struct batch *batch)
{
    size_t len;
    if (!read_input(batch, &len) || !split_input(batch, len))
        return false;
    for (const char *line = batch->input; line < batch->input + len; line += strlen(line) + 1) {
        const char *name;
        int kind;
        if (!*line)
            continue;
        if (batch_is_full(batch) && !batch_send(batch))
            return false;
        if (line_split(line, &kind, &name) || batch_add(batch, kind, name))
            abort(); /* it was right a moment ago */
    }
    return true;
}

/* ---- The command ---- */

static bool parse(struct batch *batch, int argc, char **argv, bool *from_stdin)
{
    struct ctl *ctl = batch->ctl;
    const char *value;
    int option, first;
    while ((option = ctl_next_option(ctl, argc, argv, &value, &first)) != CTL_END) {
        if (option == CTL_STOP)
            return false;
        if (option == 'i') {
            *from_stdin = true;
            continue;
        }
        if (batch_is_full(batch) && !batch_send(batch))
            return false;
        const char *wrong = batch_add(batch, option, value ? value : "");
        if (wrong) {
            ctl_usage_error(ctl, "%s: %s", value, wrong);
            return false;
        }
    }
    return ctl_want_arguments(ctl, argc - first, 0);
}

static int invalidate_run(struct ctl *ctl, int argc, char **argv)
{
    bool from_stdin = false;
    CLEANUP(batch_free) struct batch *batch = calloc(1, sizeof(*batch));
    if (!batch)
        return ctl_fail(ctl, ETAG_SYSTEM, "no memory");
    batch->ctl = ctl;
    batch_clear(batch);
    if (!parse(batch, argc, argv, &from_stdin) || (from_stdin && !read_lines(batch)))
        return ctl->exit_status;
    if (!from_stdin && batch_count(batch) + batch->event_count == 0)
        return ctl_usage_error(ctl, "name a target: --resource, --surrogate, --prefix, --all");
    if (!batch_send(batch))
        return ctl->exit_status;
    if (ctl->json) {
        doc *out = doc_object();
        if (batch->event_count > 0)
            doc_number(out, "lsn", batch->lsn);
        else
            doc_null(out, "lsn");
        doc_number(out, "targets", batch->target_count);
        doc_number(out, "events", batch->event_count);
        output_doc(ctl, out);
    } else if (batch->event_count > 0)
        printf("%" PRIu64 "\n", batch->lsn);
    return CTL_DONE;
}

static const struct ctl_option invalidate_options[] = {
    {'r', "resource", "R", "[//host]/path[?query]: all scopes, variants, releases"},
    {'s', "surrogate", "S", "all entries that depend on it"},
    {'p', "prefix", "P", "[//host]/path/: all resources below it"},
    {'A', "all", NULL, "everything"},
    {'i', "stdin", NULL, "more, one a line: 'surrogate upload:42', 'all', ..."},
    {0}};

const struct ctl_command ctl_invalidate = {
    "invalidate",
    "",
    "Makes entries stale, as a write path does; prints the LSN",
    "Each option may be given several times. When it is done, no front end of this host\n"
    "answers 304 from what was filled before. Lines of --stdin: 'resource //host/path',\n"
    "'surrogate name', 'prefix /p/', 'all'; thousands become several events. One that is\n"
    "malformed: nothing of the input is done.",
    invalidate_options,
    false,
    invalidate_run};
