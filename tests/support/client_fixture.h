/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client, its fake daemon, and what tests hand to it: a public key, a GET for it, a response
 * without any fields, targets with one surrogate key. Nothing is started, opened or asked yet.
 */
#ifndef ETAG_TESTS_CLIENT_FIXTURE_H
#define ETAG_TESTS_CLIENT_FIXTURE_H

#include "client.h"
#include "fake_daemon.h"
#include "fake_spool.h"

#define FIXTURE_FIELDS_MAX 8
#define FAKE_TOKEN_LSN 100 /* the fake daemon's */

struct fixture {
    struct fake_daemon daemon;
    struct fake_spool spool;
    etag_client_options options;
    etag_str repeated;
    etag_client *client;
    etag_key key;
    etag_request request;
    etag_field asked[FIXTURE_FIELDS_MAX];
    etag_entry response;
    etag_field fields[FIXTURE_FIELDS_MAX];
    etag_str surrogates[2];
    etag_answer answer;
    etag_targets targets;
    etag_receipt receipt;
    etag_guard *guard;
    /* seen so far */
    int fills, retires;
};

struct fixture *client_setup(void **state);

int client_teardown(void **state);

void client_open(struct fixture *f);

/* The daemon too. */
void client_start(struct fixture *f);

/* A daemon that says hello, and then does what the test does at its end of the connection, which is
 * returned. */
int client_greet_only(struct fixture *f);

void client_restart_daemon(struct fixture *f);

/* One more field of the request, of the response. */
void client_ask(struct fixture *f, const char *name, const char *value);

void client_field(struct fixture *f, const char *name, const char *value);

int client_precheck(struct fixture *f);

int client_finish(struct fixture *f);

/* So many fills and retires more than last time. An answer to what was sent after them proves that
 * the daemon has read them. */
void client_expect_sent(struct fixture *f, int fills, int retires);

/* What the client says of its last failure has this part. */
void client_expect_text(const struct fixture *f, const char *part);

struct hash128 client_fingerprint(const struct fixture *f);

/* The index gets this entry, of the fixture's key: the fake daemon puts nothing there. */
void client_store(struct fixture *f, struct index_entry entry);

/* The same, of an entry with this ETag only, which no clock has made stale. */
void client_store_etag(struct fixture *f, const char *etag, uint64_t fill_lsn);

/* As an event loop: waits for what the client says, for at most so long. */
void client_loop_once(struct fixture *f, int ms_max);

void client_loop_until_ready(struct fixture *f);

#endif
