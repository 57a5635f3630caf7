/* SPDX-License-Identifier: Apache-2.0 */
/* dump: all entries, a line each, page by page: never more than a page is in memory. load (ctl_load.c) reads it. */
#include "clocktime.h"
#include "ctl_daemon.h"
#include "ctl_dump_line.h"
#include "ctl_pages.h"
#include "text.h"

#include <inttypes.h>

struct dumping {
    struct ctl plain; /* without --json: errors do not stand between the lines */
    struct dump_head head;
    uint64_t printed;
};

static void dump_begin(void *ctx, struct ctl_daemon *daemon)
{
    const struct dumping *dumping = ctx;
    output_json_line(dump_head_doc(&dumping->head, daemon->channel.hello.software), "\n");
}

static void dump_print(void *ctx, const struct entry_view *view)
{
    struct dumping *dumping = ctx;
    output_json_line(dump_entry_doc(view), "\n");
    dumping->printed++;
}

/* Entries reach the store, which is listed, a moment after they are filled. */
static bool dump_sync(struct ctl_daemon *daemon)
{
    struct request request = {.kind = REQUEST_SYNC};
    struct reply reply;
    if (daemon->channel.hello.roles & ROLE_ADMIN)
        return ctl_daemon_ask(daemon, &request, REPLY_DONE, &reply);
    fprintf(stderr, "etagctl dump: without the role 'admin' entries of the last moment may be "
                    "missing\n");
    return true;
}

static int dump_run(struct ctl *ctl, int argc, char **argv)
{
    struct dumping dumping = {.plain = *ctl};
    struct ctl_pages pages = {
        .left = UINT64_MAX, .begin = dump_begin, .each = dump_print, .ctx = &dumping};
    const char *value;
    int option, first;
    while ((option = ctl_next_option(ctl, argc, argv, &value, &first)) != CTL_END) {
        if (option == CTL_STOP)
            return ctl->exit_status;
        pages.prefix = str_of(value);
    }
    if (!ctl_want_arguments(ctl, argc - first, 0))
        return ctl->exit_status;
    dumping.plain = *ctl;
    dumping.plain.json = false;
    CLEANUP(cleanup_daemon) struct ctl_daemon daemon = {0};
    if (!ctl_daemon_open(&daemon, &dumping.plain) || !dump_sync(&daemon))
        return dumping.plain.exit_status;
    dumping.head = (struct dump_head){.incarnation = daemon.channel.hello.incarnation_id,
                                      .wall_ms = time_wall_ms(),
                                      .clock_ns = time_coarse_ns()};
    if (!ctl_pages(&pages, &daemon))
        return dumping.plain.exit_status;
    output_json_line(dump_end_doc(dumping.printed), "\n");
    if (!output_end())
        return CTL_ERROR;
    fprintf(stderr, "etagctl dump: %" PRIu64 " entries\n", dumping.printed);
    return CTL_DONE;
}

static const struct ctl_option dump_options[] = {
    {'p', "prefix", "P", "only keys that begin with it: //host/path or /path"}, {0}};

const struct ctl_command ctl_dump = {
    "dump",
    "",
    "Writes all entries to standard output, for 'etagctl load'",
    "One JSON object a line, whatever --json says: a head, the entries in the order\n"
    "of their keys, an end. A dump without its last line is not complete.",
    dump_options,
    false,
    dump_run};
