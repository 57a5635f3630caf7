/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another program that writes: psql, or a Django site. It is told a text at a time on its standard
 * input, and answers with lines on its output, of which the last is "ok" or "failed". It ends with
 * this process, however that ends.
 */
#ifndef TORTURE_TOLD_H
#define TORTURE_TOLD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define TOLD_BYTES 256
#define TOLD_WORDS_MAX 16

struct told {
    /* 0: it does not run */
    pid_t pid;
    int to, from;
};

/* argv: borrowed, at most so many words, and NULL. log: what it says on its standard error goes
 * there. */
bool told_open(struct told *told, const char *const argv[], const char *log);
void told_close(struct told *told);

/* answer: the line before "ok"; empty: none. False: it said "failed" and goes on; or it ended, or
 * did not answer in time, and is ended then. */
bool told_ask(struct told *told, const char *text, uint64_t ms, char answer[TOLD_BYTES]);

#endif
