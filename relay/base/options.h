/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration of etag-relay, in the manner of etagd's: defaults, then the file (YAML,
 * /etc/etag-relay/etag-relay.yaml if it exists or --config), then flags.
 *
 *   socket: /run/etagd/etagd.sock      --socket PATH           the daemon beside it
 *   engine: postgres | script          --engine E              script: for tests; "connection" is
 *                                                              a path then
 *   connection: ""                     --connection TEXT       as libpq reads it
 *   host: ""                           --host NAME             "": what the kernel calls this host
 *   run-dir: /run/etag-relay           --run-dir DIR           metrics.prom, nonce
 *   retention-minutes: 60              --retention-minutes N
 *   log-level: info                    --log-level L
 *   log-format: logfmt | json          --log-format F
 */
#ifndef ETAG_RELAY_OPTIONS_H
#define ETAG_RELAY_OPTIONS_H

#include "config.h"
#include "engine.h"
#include "etcd_keys.h"

#define CONNECTION_BYTES_MAX 4096
#define RETENTION_MINUTES_MIN 5
#define USER_BYTES_MAX 255

enum engine_choice { ENGINE_CHOICE_POSTGRES, ENGINE_CHOICE_ETCD, ENGINE_CHOICE_SCRIPT };

struct options {
    char socket_path[PATH_BYTES_MAX];
    char connection[CONNECTION_BYTES_MAX];
    /* etcd; with commas */
    char endpoints[CONNECTION_BYTES_MAX];
    char prefix[ETCD_PREFIX_BYTES_MAX + 1];
    char user[USER_BYTES_MAX + 1];
    char password_file[PATH_BYTES_MAX], ca_file[PATH_BYTES_MAX];
    char cert_file[PATH_BYTES_MAX], key_file[PATH_BYTES_MAX];
    /* never empty after options_load() */
    char host[ENGINE_HOST_BYTES_MAX + 1];
    char run_dir[PATH_BYTES_MAX];
    enum engine_choice engine;
    uint64_t retention_ms;
    enum log_level log_level;
    enum log_format log_format;
    /* --check-config */
    bool check_only;
    /* "setup", "status", "doctor", "leave": the arguments from it on; NULL: serve */
    const char *command;
    int command_argc;
    char **command_argv;
};

/* 0: *out is complete and valid. 1: help or version was printed, exit 0. -1: the mistake was said
 * on standard error, exit 2. argv: borrowed by command_argv. */
MUST_USE int options_load(struct options *out, int argc, char **argv);

/* What an engine needs of it; all is borrowed. The nonce is the caller's matter. */
struct engine_options options_of_engine(const struct options *options);
const struct engine_kind *options_engine_kind(const struct options *options);

/* As a file that means the same, what the flags say included. */
void options_print(const struct options *options, FILE *out);

#endif
