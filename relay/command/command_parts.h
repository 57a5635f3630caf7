/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands of all engines share. Private to command*.c. */
#ifndef ETAG_RELAY_COMMAND_PARTS_H
#define ETAG_RELAY_COMMAND_PARTS_H

#include "options.h"
#include "relay.h"

#define COMMAND_EXIT_USAGE 2
#define COMMAND_ANSWER_MS_MAX 30000

struct command {
    const char *name;
    int (*run)(const struct options *options, int argc, char **argv);
};

/* Each ends with a command without a name. */
extern const struct command commands_postgres[], commands_etcd[];

/* Both say it on standard error, and return the exit status. */
int command_usage_wrong(const char *usage, const char *what);
int command_failed(const struct why *why);

/* Reads the options of a command that takes none, but for --help. Returns whether the command goes
 * on; else *status is its exit status. */
MUST_USE bool command_is_plain(int argc, char **argv, const char *usage, int *status);

/* Reads the value of --lease-ms. */
MUST_USE bool command_lease_read(const char *text, uint32_t *lease_ms);

/* Where an engine keeps lease_ms and wait_ms. Functions return 0, or negative and why. */
struct setting_place {
    void *ctx;
    int (*read)(void *ctx, struct relay_setting *now, struct why *why);
    /* over what was read last; whoever was faster is read again */
    int (*write)(void *ctx, struct relay_setting now, struct relay_setting next, struct why *why);
    int steps_max;
};

/* Changes the lease step by step; the order, and how far apart, is setting_next()'s. */
MUST_USE int command_lease_change(const struct setting_place *place, uint32_t lease_ms,
                                  struct why *why);

/* Reads "leave HOST". Returns whether the command goes on; else *status is its exit status. */
MUST_USE bool command_host_read(int argc, char **argv, etag_str *host, int *status);
/* The host's row is "leaving" now; and it is gone. */
void command_say_leaving(etag_str host, uint32_t wait_ms);
int command_say_out(etag_str host);
/* Waits for the end of the lease that the host may have. committed_ns: coarse clock, read after
 * "leaving" was committed. */
void command_wait_for_lease(uint64_t committed_ns, uint32_t wait_ms);

#endif
