/* SPDX-License-Identifier: Apache-2.0 */
/* sync, pause, resume: one request each, answered when it is done. */
#include "ctl_daemon.h"
#include "ctl_output.h"

static int control(struct ctl *ctl, enum request_kind kind)
{
    CLEANUP(cleanup_daemon) struct ctl_daemon daemon = {0};
    struct request request = {.kind = kind};
    struct reply reply;

    if (!ctl_no_options(ctl) || !ctl_daemon_open(&daemon, ctl) ||
        !ctl_daemon_ask(&daemon, &request, REPLY_DONE, &reply))
        return ctl->exit_status;
    if (ctl->json) {
        doc *out = doc_object();
        doc_bool(out, "done", true);
        output_doc(ctl, out);
    }
    return CTL_DONE;
}

static int sync_run(struct ctl *ctl)
{
    return control(ctl, REQUEST_SYNC);
}

static int pause_run(struct ctl *ctl)
{
    return control(ctl, REQUEST_PAUSE);
}

static int resume_run(struct ctl *ctl)
{
    return control(ctl, REQUEST_RESUME);
}

const struct ctl_command ctl_sync = {
    "sync", "", "Waits until all accepted entries are in the store", NULL, NULL, false, sync_run};

const struct ctl_command ctl_pause = {
    "pause",
    "",
    "Kill switch: no lease, so every front end renders",
    "Holds until 'etagctl resume', also over restarts. Fills are refused meanwhile.",
    NULL,
    false,
    pause_run};

const struct ctl_command ctl_resume = {"resume", "", "Ends a pause", NULL, NULL, false, resume_run};
