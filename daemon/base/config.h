/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration: defaults, then the file (YAML, /etc/etagd/etagd.yaml if it exists or --config),
 * then flags. Every option of the file that is a single value is also a flag. Error messages name
 * file, line and column.
 *
 *   socket: /run/etagd/etagd.sock      --socket PATH
 *   state-dir: /var/lib/etagd          --state-dir DIR
 *   capacity: 262144                   --capacity N      entries
 *   clocks: 0                          --clocks N        rounded up to a power of two; 0: as the
 *                                                        state has it, else by capacity
 *   lease-ms: 1000                     --lease-ms N
 *   guard-linger-ms: 30000             --guard-linger-ms N   a guard without a sign of life counts
 *                                                            as committed then
 *   durability: process | power        --durability D
 *   relay: off | optional | required   --relay R         many hosts: etag-relay beside each daemon
 *   loop: auto | uring | epoll         --loop L
 *   huge-pages: auto | on | off        --huge-pages H    on: a warning where the kernel has none
 *   pool-mib: 0                        --pool-mib N      0: by capacity
 *   map-mib: 0                         --map-mib N       LMDB's map; 0: by capacity
 *   log-level: info                    --log-level L
 *   log-format: logfmt | json          --log-format F
 *   events-kept: 100000                --events-kept N       for etagctl log and explain
 *   events-kept-hours: 24              --events-kept-hours N     0: of any age
 *   events-kept-mib: 64                --events-kept-mib N       of the database
 *   socket-mode: "0660"                --socket-mode M   who may connect; roles decide what they
 *                                                        may do
 *   idle-ms: 3600000                   --idle-ms N       0: no limit
 *   roles:                             --role ROLE=WHO   repeated; any of them takes the place of
 *                                                        the file's roles
 *     read: [group:www-data, user:deploy, uid:1000, gid:33, all]
 *
 * SIGHUP reads file and flags again (config_reload): log-level, socket-mode, idle-ms and roles
 * change at once; a change of any other option waits for a restart. guard-linger-ms cannot change
 * in a run, because writers bound their COMMIT by the value that their hello had.
 */
#ifndef ETAGD_CONFIG_H
#define ETAGD_CONFIG_H

#include "cleanup.h"
#include "log.h"
#include "message.h"
#include "why.h"

#include <stdio.h>

enum durability { DURABILITY_PROCESS, DURABILITY_POWER };
/* The backend of the event loop. */
enum loop_kind {
    /* io_uring, or epoll where the kernel refuses it (ENOSYS, EPERM, ENOMEM, too old) */
    LOOP_AUTO,
    LOOP_URING,
    LOOP_EPOLL,
};
enum huge_pages_use { HUGE_PAGES_AUTO, HUGE_PAGES_ON, HUGE_PAGES_OFF };

#define ROLE_RULES_MAX 64
#define PATH_BYTES_MAX 4096
#define CONFIG_CHANGES_BYTES 512

struct role_rule {
    /* enum role bits */
    uint32_t roles;
    enum { RULE_UID, RULE_GID, RULE_ALL } kind;
    uint32_t id;
};

struct config {
    char socket_path[PATH_BYTES_MAX];
    char state_dir[PATH_BYTES_MAX];
    uint64_t capacity;
    /* a power of two; 0: recovery.h decides */
    uint32_t clock_count;
    uint64_t lease_ns;
    /* guard_linger */
    uint64_t linger_ns;
    enum durability durability;
    enum relay_mode relay;
    enum loop_kind loop;
    enum huge_pages_use huge_pages;
    uint64_t pool_bytes;
    /* never 0 after config_load */
    uint64_t map_bytes;
    bool map_by_capacity;
    enum log_level log_level;
    enum log_format log_format;
    /* whichever of the three bounds is reached first applies */
    uint64_t events_kept, events_kept_bytes, events_kept_ms;
    uint32_t socket_mode;
    uint64_t idle_ns;
    struct role_rule rules[ROLE_RULES_MAX];
    size_t rule_count;
    /* --check-config */
    bool check_only;
    /* --cold: do not use the former state */
    bool cold;
    /* --fresh: the operator says that no writer can hold a guard of a former run. Traces of a
     * former run overrule it */
    bool fresh;
    /* the command line, for config_reload; borrowed */
    int argc;
    char **argv;
};

/* Reads defaults, file and flags. Returns 0: *out is complete and valid; 1: help or version was
 * printed, exit 0; -1: the error was printed on standard error (file:line:column: what is wrong and
 * what is allowed), exit 2. argv: borrowed for as long as config_reload() may be called. */
MUST_USE int config_load(struct config *out, int argc, char **argv);

/* The options that config_reload() found changed: names separated by spaces, "" if none. */
struct config_changes {
    /* changed in *config */
    char taken[CONFIG_CHANGES_BYTES];
    /* not changed in *config: they need a restart */
    char waiting[CONFIG_CHANGES_BYTES];
};

/* Reads the file again, with the flags of the start, and stores in *config the options that may
 * change while serving. Returns 0; or -1: *config is unchanged, and why has the error text of
 * config_load(), without a newline. */
MUST_USE int config_reload(struct config *config, struct config_changes *changes, struct why *why);

/* Prints the configuration, flags included, as a file with the same meaning. */
void config_print(const struct config *config, FILE *out);

/* What the kernel says about a peer. config_roles() returns its roles, ROLE_* bits: all for own_uid
 * and root, none for overflow_uid (config_overflow_uid()), else those of the rules for its uid and
 * its gids, primary and supplementary. ROLE_MUTATE adds ROLE_READ. */
struct peer_credentials {
    uint32_t pid, uid, gid;
    const uint32_t *groups;
    size_t group_count;
};
/* The uid that the kernel shows for uids that it cannot map. It is never a real user's. */
uint32_t config_overflow_uid(void);
uint32_t config_roles(const struct config *config, const struct peer_credentials *peer,
                      uint32_t own_uid, uint32_t overflow_uid);

#endif
