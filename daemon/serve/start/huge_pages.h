/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Huge pages for the index, without any configuration of the machine: while the daemon serves, a
 * thread asks the kernel to put each 2 MiB of the index onto one (MADV_COLLAPSE, Linux 6.1). A
 * process that touches these 2 MiB during that waits for their copy, less than a millisecond; so
 * the thread rests for the same time after each.
 */
#ifndef ETAGD_HUGE_PAGES_H
#define ETAGD_HUGE_PAGES_H

#include "cleanup.h"
#include "config.h"
#include "log.h"

struct huge_pages;

/* Starts the thread. base: aligned to LAYOUT_ALIGN, mapped until huge_pages_stop(). The result is
 * logged once, on level warn if use is HUGE_PAGES_ON and the kernel has none. Returns 0 or a
 * negative errno; *out is NULL with HUGE_PAGES_OFF. */
MUST_USE int huge_pages_start(struct huge_pages **out, void *base, size_t bytes,
                              enum huge_pages_use use, const struct log *log);
/* Returns how many bytes of the index are on huge pages so far; NULL: 0. Any thread. */
uint64_t huge_pages_bytes(const struct huge_pages *huge);
/* Returns how many bytes the thread has to put onto huge pages; NULL: 0. */
uint64_t huge_pages_wanted_bytes(const struct huge_pages *huge);
/* Ends the thread, whether it is done or not. Returns NULL; NULL is allowed. */
struct huge_pages *huge_pages_stop(struct huge_pages *huge);

#endif
