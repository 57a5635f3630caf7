/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hosts have in common, as keys of etcd below a prefix. Values are for people too: words
 * "name=value", but for the outbox.
 *
 *     setting              version, lease_ms, wait_ms: made by etag-relay setup
 *     witness              nonce, cluster, term: it counts in that cluster, from that term on
 *     host/NAME            nonce, state: member or leaving
 *     ack/NAME             nonce, witness, revision: what this host has settled
 *     epoch                at: rows are written below the revision of this key ...
 *     outbox/EPOCH/NONCE-N ... a mutation: a byte (1: acknowledgements are asked for), then a row
 *                          as outbox_row.h has it. EPOCH: 16 hexadecimal digits
 *     mark/EPOCH           at: the epoch ended then, in the revision that wrote this
 *     trimmed              revision: rows up to it may have been removed
 *
 * Epochs are why a poll need not look at all rows: etcd filters by revision after it has read a
 * range. A row is written only while its epoch is the present one (a condition of the transaction),
 * so rows that are newer than a revision are not in epochs that ended before it.
 */
#ifndef ETAG_RELAY_ETCD_KEYS_H
#define ETAG_RELAY_ETCD_KEYS_H

#include "engine.h"

#define ETCD_PREFIX_BYTES_MAX 64
#define ETCD_KEY_BYTES_MAX (ETCD_PREFIX_BYTES_MAX + 16 + ENGINE_HOST_BYTES_MAX)
#define ETCD_VALUE_BYTES_MAX 160
#define ETCD_SETTING_VERSION 1

struct etcd_key {
    char bytes[ETCD_KEY_BYTES_MAX];
    size_t len;
};

struct etcd_value {
    char text[ETCD_VALUE_BYTES_MAX];
};

static inline etag_str etcd_key_str(const struct etcd_key *key)
{
    return (etag_str){key->bytes, key->len};
}

/* prefix and name, cut off where they do not fit (options bound them). */
struct etcd_key etcd_key_of(const char *prefix, const char *name);
/* host/ or ack/ and a host's name */
struct etcd_key etcd_key_of_host(const char *prefix, const char *folder, etag_str host);
/* outbox/ or mark/ and an epoch */
struct etcd_key etcd_key_of_epoch(const char *prefix, const char *folder, uint64_t epoch);
/* outbox/EPOCH/NONCE-N */
struct etcd_key etcd_key_of_row(const char *prefix, uint64_t epoch,
                                const struct engine_nonce *nonce, unsigned number);
/* The first key after all that begin with these bytes and '/'; the key ends with it. */
struct etcd_key etcd_key_after_folder(struct etcd_key folder);

/* The text after the last '/'. */
etag_str etcd_key_name(etag_str key, etag_str folder);

struct etcd_witness {
    struct engine_nonce nonce;
    uint64_t cluster, term;
};

struct etcd_ack {
    struct engine_nonce nonce, witness;
    uint64_t revision;
};

struct etcd_host {
    struct engine_nonce nonce;
    enum engine_membership membership;
};

struct etcd_setting {
    uint64_t version;
    uint32_t lease_ms, wait_ms;
};

struct etcd_value etcd_witness_write(const struct etcd_witness *witness);
struct etcd_value etcd_ack_write(const struct etcd_ack *ack);
struct etcd_value etcd_host_write(const struct etcd_host *host);
struct etcd_value etcd_setting_write(const struct etcd_setting *setting);
/* "at=..." of a mark, "revision=..." of trimmed */
struct etcd_value etcd_number_write(const char *name, uint64_t number);

/* False: no release of ours wrote this. */
MUST_USE bool etcd_witness_read(struct etcd_witness *out, etag_str value);
MUST_USE bool etcd_ack_read(struct etcd_ack *out, etag_str value);
MUST_USE bool etcd_host_read(struct etcd_host *out, etag_str value);
MUST_USE bool etcd_setting_read(struct etcd_setting *out, etag_str value);
MUST_USE bool etcd_number_read(const char *name, uint64_t *out, etag_str value);

#endif
