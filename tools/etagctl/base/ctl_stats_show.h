/* SPDX-License-Identifier: Apache-2.0 */
/* How "etagctl stats" looks: the whole in 80 columns, a line an interval, or JSON. */
#ifndef ETAGCTL_STATS_SHOW_H
#define ETAGCTL_STATS_SHOW_H

#include "ctl.h"
#include "stats_sample.h"

struct stats_view {
    const struct ctl *ctl;
    bool watch;
    const struct sample *now, *before;
    /* of mutations, between the two */
    struct sample_histogram times;
    /* printed so far, of a line an interval */
    uint64_t lines;
};

void stats_show(struct stats_view *view);
/* In the middle of --watch: it does not answer, and why. */
void stats_show_down(struct stats_view *view, const char *why);

/* "12345", "12.3M": a number in at most 6 columns. */
#define SHORT_TEXT_BYTES 24
const char *short_text(double number, char out[SHORT_TEXT_BYTES]);
/* "45 s", "3 h": how long, in at most 5 columns; wide: "3 d 04:05". */
const char *age_text(uint64_t ms, char out[SHORT_TEXT_BYTES]);

#endif
