/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cluster of etcd, asked transaction by transaction. Which member answers does not matter, so one
 * that does not is followed by the next, within the same question: a transaction that writes has to
 * be one that may be sent twice (conditions on revisions).
 */
#ifndef ETAG_RELAY_ETCD_H
#define ETAG_RELAY_ETCD_H

#include "etcd_http.h"
#include "etcd_json.h"
#include "etcd_txn.h"

#define ETCD_ENDPOINTS_MAX 16
#define ETCD_ENDPOINT_BYTES_MAX 255

#define ETCD_E_AGAIN 1     /* not yet */
#define ETCD_E_TOO_LARGE 2 /* the answer; the question can be asked for less */

struct etcd_endpoints {
    char urls[ETCD_ENDPOINTS_MAX][ETCD_ENDPOINT_BYTES_MAX + 1];
    size_t count;
};

/* "http://a:2379,https://b:2379", blanks allowed. False: why says what is wrong with which. */
MUST_USE bool etcd_endpoints_read(struct etcd_endpoints *out, const char *text, struct why *why);

/* Borrowed while it is open. NULL or empty: none. */
struct etcd_options {
    /* as above */
    const char *endpoints;
    const char *user, *password_file;
    struct etcd_tls tls;
    /* which endpoint is the first: hosts spread themselves */
    unsigned first;
};

struct etcd;

/* Sends nothing yet. 0, -ENOMEM, or -EINVAL and why. */
MUST_USE int etcd_open(struct etcd **out, const struct etcd_options *options, struct why *why);
/* NULL is allowed; returns NULL. */
struct etcd *etcd_close(struct etcd *etcd);

int etcd_fd(const struct etcd *etcd);
int etcd_timeout_ms(const struct etcd *etcd);
void etcd_dispatch(struct etcd *etcd);

/* A whole question may take that time; one member gets less of it where there are others. */
void etcd_set_patience(struct etcd *etcd, uint32_t ms);

/* Asks; its text is taken out of txn. One question at a time. 0 or negative. */
MUST_USE int etcd_ask(struct etcd *etcd, struct etcd_txn *txn, struct why *why);
/* Its answer: 0, ETCD_E_AGAIN, ETCD_E_TOO_LARGE, or negative and why: no member answers, or what
 * they answer is of no use. */
MUST_USE int etcd_take(struct etcd *etcd, struct arena *arena, struct etcd_reply *reply,
                       struct why *why);
/* Both, waiting for at most that time. The same results, without AGAIN. */
MUST_USE int etcd_ask_and_wait(struct etcd *etcd, struct etcd_txn *txn, struct arena *arena,
                               struct etcd_reply *reply, uint32_t ms, struct why *why);

/* Watches keys from..to from now on, at whichever member is asked. */
void etcd_watch(struct etcd *etcd, etag_str from, etag_str to);
/* One of them was written since this was asked last, or may have been. */
bool etcd_woken(struct etcd *etcd);

/* The member that is asked. */
const char *etcd_endpoint(const struct etcd *etcd);

#endif
