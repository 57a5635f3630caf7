/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats: what the daemon and its front ends do, now and since the start. "Now" is what came between
 * two samples, one second apart unless --watch says otherwise: totals alone say nothing about now,
 * and rates since the start say less (the first line of vmstat). With --watch it goes on, over
 * restarts of the daemon too.
 */
#include "clocktime.h"
#include "ctl_daemon.h"
#include "ctl_output.h"
#include "ctl_stats_show.h"
#include "stats_metrics.h"
#include "text.h"

#include <errno.h>
#include <math.h>

#define SECONDS_MIN 0.1
#define SECONDS_MAX 3600.0
#define COUNT_MAX UINT64_C(1000000000)
#define COUNT_UNSAID UINT64_MAX

struct stats_run {
    struct ctl *ctl;
    struct channel *channel;
    double seconds;
    bool watch, openmetrics, prometheus;
    /* intervals that are left */
    uint64_t count;
    struct sample *now, *before;
    struct fault fault;
};

static void cleanup_sample(struct sample **sample)
{
    free(*sample);
}

static etag_status ask(struct stats_run *run)
{
    return sample_ask(run->now, run->channel, run->ctl->timeout_ms, &run->fault);
}

static void swap(struct stats_run *run)
{
    struct sample *const former = run->before;

    run->before = run->now;
    run->now = former;
}

/* From one beginning of an interval to the next, whatever the work in between took. */
static void sleep_until(uint64_t until_ns)
{
    const struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
                                   .tv_nsec = (long)(until_ns % NS_PER_S)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

static int stats_loop(struct stats_run *run)
{
    const uint64_t step_ns = (uint64_t)(run->seconds * (double)NS_PER_S);
    struct stats_view view = {.ctl = run->ctl, .watch = run->watch};
    bool has_before = true;

    etag_status status = ask(run);
    if (status != ETAG_OK)
        return ctl_fail(run->ctl, status, run->fault.text);
    swap(run);
    for (uint64_t next_ns = run->before->taken_ns + step_ns; run->count > 0; run->count--) {
        sleep_until(next_ns);
        next_ns += step_ns;
        status = ask(run);
        if (status != ETAG_OK && !run->watch)
            return ctl_fail(run->ctl, status, run->fault.text);
        if (status != ETAG_OK) {
            stats_show_down(&view, run->fault.text);
            has_before = false;
            continue;
        }
        if (!has_before) /* what came before the first sample is no rate */
            *run->before = *run->now;
        view.now = run->now;
        view.before = run->before;
        stats_show(&view);
        has_before = true;
        swap(run);
        if (channel_now_ns() > next_ns)
            next_ns = channel_now_ns() + step_ns;
    }
    return CTL_DONE;
}

/* A page says that the daemon is down, too: whoever collects it wants to know just that. */
static int stats_metrics(struct stats_run *run, enum metrics_format format)
{
    const etag_status status = ask(run);

    if (status != ETAG_OK)
        (void)ctl_fail(run->ctl, status, run->fault.text);
    metrics_write(stdout, status == ETAG_OK ? run->now : NULL, format);
    return CTL_DONE;
}

static bool seconds_of(struct stats_run *run, const char *text)
{
    char *end = NULL;
    const double seconds = strtod(text, &end);

    if (end == text || *end != '\0' || !isfinite(seconds) || seconds < SECONDS_MIN ||
        seconds > SECONDS_MAX) {
        ctl_usage_error(run->ctl, "--watch %s: want seconds from 0.1 to 3600", text);
        return false;
    }
    run->seconds = seconds;
    return true;
}

static bool watch_take(struct ctl *ctl, void *into, int option, const char *value)
{
    struct stats_run *run = into;

    (void)ctl, (void)option;
    run->watch = true;
    return !value || seconds_of(run, value);
}

/* Returns false after an error message: return ctl->exit_status. */
static bool stats_options(struct stats_run *run)
{
    if (!ctl_parse(run->ctl, watch_take, run))
        return false;
    const bool counted = run->count != COUNT_UNSAID;
    run->watch |= counted;
    if (!counted)
        run->count = run->watch ? UINT64_MAX : 1;
    if (run->watch && (run->openmetrics || run->prometheus)) {
        ctl_usage_error(run->ctl, "--watch and metrics do not go together");
        return false;
    }
    if (run->watch && run->ctl->argc == 1) /* --watch 5 */
        return seconds_of(run, run->ctl->argv[0]);
    return ctl_want_arguments(run->ctl, 0);
}

static int stats_run(struct ctl *ctl)
{
    CLEANUP(cleanup_sample) struct sample *one = calloc(1, sizeof(*one));
    CLEANUP(cleanup_sample) struct sample *other = calloc(1, sizeof(*other));
    CLEANUP(cleanup_daemon) struct ctl_daemon daemon = {0};
    struct stats_run run = {
        .ctl = ctl, .seconds = 1, .count = COUNT_UNSAID, .now = one, .before = other};

    if (!one || !other)
        return ctl_fail(ctl, ETAG_SYSTEM, "no memory");
    if (!stats_options(&run) || !ctl_daemon_init(&daemon, ctl))
        return ctl->exit_status;
    run.channel = &daemon.channel;
    if (run.openmetrics || run.prometheus)
        return stats_metrics(&run, run.openmetrics ? METRICS_OPENMETRICS : METRICS_PROMETHEUS);
    return stats_loop(&run);
}

static const struct ctl_option stats_options_table[] = {
    {'w', "watch", "[SECONDS]", "go on: every second, or so many of them"},
    {'n', "count", "N", "with --watch: end after so many",
     CTL_NUMBER(struct stats_run, count, COUNT_MAX)},
    {'o', "openmetrics", NULL, "metrics for collectors, also of a daemon that is down",
     CTL_FLAG(struct stats_run, openmetrics)},
    {'p', "prometheus", NULL, "the same in Prometheus' older text format",
     CTL_FLAG(struct stats_run, prometheus)},
    {0}};

const struct ctl_command ctl_stats = {
    "stats",
    "",
    "Shows what happens: rates of one second, totals since the start",
    "On a terminal --watch draws the whole again; into a file or a pipe it writes a\n"
    "line an interval, with --json an object. 'etagctl clients' says who does it.",
    stats_options_table,
    false,
    stats_run};
