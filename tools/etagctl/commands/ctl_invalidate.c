/* SPDX-License-Identifier: Apache-2.0 */
/*
 * invalidate: what a write path does after its COMMIT. Targets of one call are one event as long as
 * they fit; from standard input there may be any number, which become several events, each complete
 * in itself. Standard input is read and checked to its end before anything is sent: a malformed
 * line means that nothing of it was done.
 */
#include "ctl_daemon.h"
#include "ctl_output.h"
#include "ctl_target_lines.h"
#include "ctl_targets.h"
#include "numbers.h"
#include "text.h"

#include <errno.h>
#include <inttypes.h>

#define INPUT_BYTES_FIRST 65536

static const char *const reach_words[] = {
    [ETAG_REACH_HOST] = "host", [ETAG_REACH_LOG] = "log", [ETAG_REACH_EVERYWHERE] = "everywhere"};
static const char *const proof_words[] = {[ETAG_PROOF_NONE] = "none",
                                          [ETAG_PROOF_DAEMON] = "daemon",
                                          [ETAG_PROOF_WAIT] = "wait",
                                          [ETAG_PROOF_LOGGED] = "logged",
                                          [ETAG_PROOF_ACKNOWLEDGED] = "acknowledged",
                                          [ETAG_PROOF_TIME] = "time"};

struct batch {
    struct ctl *ctl;
    /* NULL until something is sent */
    etag_client *client;
    struct ctl_targets targets;
    bool from_stdin;
    uint64_t hold_ms;
    etag_reach reach;
    /* of the last event */
    etag_receipt receipt;
    /* standard input: targets borrow from it */
    char *input;
    uint64_t lsn, event_count, target_count;
    /* an event or more went through the spool, which gives no LSN */
    bool spooled;
};

static void batch_free(struct batch **batch)
{
    if (*batch) {
        etag_client_close((*batch)->client);
        free((*batch)->input);
        free(*batch);
    }
}

/* Returns false after an error message. */
static bool batch_send(struct batch *batch)
{
    struct ctl *ctl = batch->ctl;

    if (ctl_targets_count(&batch->targets) == 0)
        return true;
    if (!batch->client)
        batch->client = ctl_client_open(ctl);
    if (!batch->client)
        return false;
    ETAG_INIT(&batch->receipt);
    batch->targets.targets.hold_ms = (uint32_t)batch->hold_ms;
    batch->targets.targets.reach = batch->reach;
    const etag_status status = etag_invalidate(batch->client, &batch->targets.targets,
                                               &batch->receipt);
    if (status != ETAG_OK) {
        ctl->exit_status = ctl_fail(ctl, status, etag_client_error(batch->client));
        if (batch->event_count > 0)
            fprintf(stderr, "etagctl invalidate: %" PRIu64 " targets before it were done\n",
                    batch->target_count);
        return false;
    }
    batch->lsn = batch->receipt.lsn;
    batch->spooled |= batch->receipt.lsn == 0;
    batch->event_count++;
    batch->target_count += ctl_targets_count(&batch->targets);
    ctl_targets_clear(&batch->targets);
    return true;
}

/* ---- Standard input ---- */

/* Standard input as a whole, NUL-terminated. Returns false after an error message. */
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

static bool read_lines(struct batch *batch)
{
    struct target_lines lines = {0};
    const char *name;
    uint64_t number;
    size_t len;
    int kind;

    if (!read_input(batch, &len))
        return false;
    const char *wrong = target_lines_open(&lines, batch->input, len, &number);
    if (wrong) {
        ctl_usage_error(batch->ctl, "line %" PRIu64 ": %s; nothing of the input was done", number,
                        wrong);
        return false;
    }
    while (target_lines_next(&lines, &kind, &name)) {
        if (ctl_targets_full(&batch->targets) && !batch_send(batch))
            return false;
        if (ctl_targets_add(&batch->targets, kind, name))
            abort(); /* it was right a moment ago */
    }
    return true;
}

/* ---- The command ---- */

static bool take_reach(struct batch *batch, const char *value)
{
    for (size_t i = 0; i < COUNT_OF(reach_words); i++)
        if (reach_words[i] && strcmp(value, reach_words[i]) == 0) {
            batch->reach = (etag_reach)i;
            return true;
        }
    ctl_usage_error(batch->ctl, "--reach cannot be \"%s\"; allowed are host, log, everywhere",
                    value);
    return false;
}

/* What is for all events of the call. */
static bool reach_take(struct ctl *ctl, void *into, int option, const char *value)
{
    (void)ctl;
    return option != 'R' || take_reach(into, value);
}

static bool target_take(struct ctl *ctl, void *into, int option, const char *value)
{
    struct batch *batch = into;

    if (option == 'R')
        return true; /* reach_take */
    if (ctl_targets_full(&batch->targets) && !batch_send(batch))
        return false;
    const char *wrong = ctl_targets_add(&batch->targets, option, value ? value : "");
    if (wrong)
        ctl_usage_error(ctl, "%s: %s", value, wrong);
    return !wrong;
}

/* Twice, since --hold-ms and --reach are for all events of the call, wherever they are: thousands
 * of targets are sent while the rest is parsed. */
static bool parse(struct ctl *ctl, struct batch *batch)
{
    const struct ctl whole = *ctl;

    if (!ctl_parse(ctl, reach_take, batch))
        return false;
    ctl->argc = whole.argc;
    ctl->argv = whole.argv;
    return ctl_parse(ctl, target_take, batch) && ctl_want_arguments(ctl, 0);
}

static int invalidate_run(struct ctl *ctl)
{
    CLEANUP(batch_free) struct batch *batch = calloc(1, sizeof(*batch));

    if (!batch)
        return ctl_fail(ctl, ETAG_SYSTEM, "no memory");
    batch->ctl = ctl;
    ctl_targets_clear(&batch->targets);
    if (!parse(ctl, batch) || (batch->from_stdin && !read_lines(batch)))
        return ctl->exit_status;
    if (!batch->from_stdin && ctl_targets_count(&batch->targets) + batch->event_count == 0)
        return ctl_usage_error(ctl, "name a target: --resource, --surrogate, --family, "
                                    "--prefix, --all");
    if (!batch_send(batch))
        return ctl->exit_status;
    if (ctl->json) {
        doc *out = doc_object();
        doc_number_or_null(out, "lsn", batch->lsn);
        if (batch->spooled)
            doc_bool(out, "spooled", true);
        doc_text(out, "reach", str_of(reach_words[batch->receipt.reach]));
        doc_text(out, "proof", str_of(proof_words[batch->receipt.proof]));
        doc_number(out, "targets", batch->target_count);
        doc_number(out, "events", batch->event_count);
        output_doc(ctl, out);
    } else if (batch->spooled)
        printf("spooled\n");
    else if (batch->event_count > 0)
        printf("%" PRIu64 "\n", batch->lsn);
    return CTL_DONE;
}

static const struct ctl_option invalidate_options[] = {
    CTL_TARGET_OPTIONS,
    CTL_HOLD_OPTION(struct batch),
    {'R', "reach", "R", "host, log or everywhere: what OK proves (as configured)"},
    {'i', "stdin", NULL, "more, one a line: 'surrogate upload:42', 'all', ...",
     CTL_FLAG(struct batch, from_stdin)},
    {0}};

const struct ctl_command ctl_invalidate = {
    "invalidate",
    "",
    "Makes entries stale, as a write path does; prints the LSN",
    "Each option may be given several times. When it is done, no front end of this host\n"
    "answers 304 from what was filled before. Lines of --stdin: 'resource //host/path',\n"
    "'surrogate name', 'family name', 'prefix /p/', 'all'; thousands become several\n"
    "events. One that is malformed: nothing of the input is done. Without a daemon it\n"
    "goes through the spool, which takes a second or so and gives no LSN: 'spooled' is\n"
    "printed.\n"
    "With --reach log the event is in the log that all hosts read, with everywhere no\n"
    "front end of any host answers 304 from older data: that may take some seconds,\n"
    "see --timeout-ms. Both need a relay.",
    invalidate_options,
    false,
    invalidate_run};
