/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ETAG_BENCH_CHAIN_H
#define ETAG_BENCH_CHAIN_H

#include <stdbool.h>
#include <stddef.h>

/* The least that memory allows: a dependent chain of loads, one random cycle through all cache
 * lines of a shared region. */
struct chain;
struct chain *chain_open(size_t bytes, bool huge_pages);
void chain_close(struct chain *chain);
void chain_run(struct chain *chain, size_t loads);
/* Of 100: how much of the region is on huge pages. */
unsigned chain_huge_percent(const struct chain *chain);

#endif
