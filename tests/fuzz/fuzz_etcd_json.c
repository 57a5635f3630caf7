/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a server answers that may be no etcd: it is refused with a reason, or each of its parts is
 * within the bounds that its readers rely on.
 */
#include "etcd_json.h"
#include "etcd_keys.h"
#include "fuzz.h"

#include <string.h>

static void look_at(etag_str bytes)
{
    for (size_t i = 0; i < bytes.len; i++)
        __asm__ volatile("" : : "r"(bytes.data[i]) : "memory");
}

static void value_read(etag_str value)
{
    struct etcd_witness witness;
    struct etcd_ack ack;
    struct etcd_host host;
    struct etcd_setting setting;

    if (etcd_ack_read(&ack, value))
        fuzz_require(ack.revision < INT64_MAX);
    (void)!etcd_witness_read(&witness, value);
    (void)!etcd_host_read(&host, value);
    if (etcd_setting_read(&setting, value)) {
        const struct etcd_value written = etcd_setting_write(&setting);
        struct etcd_setting again;
        fuzz_require(etcd_setting_read(&again, (etag_str){written.text, strlen(written.text)}));
        fuzz_require(again.lease_ms == setting.lease_ms && again.wait_ms == setting.wait_ms);
    }
}

static void reply_look(const struct etcd_reply *reply)
{
    fuzz_require(reply->cluster_id > 0 && reply->revision > 0 && reply->revision < INT64_MAX);
    fuzz_require(reply->result_count <= ETCD_RESULTS_MAX);
    for (size_t i = 0; i < reply->result_count; i++) {
        for (size_t j = 0; j < reply->results[i].kv_count; j++) {
            const struct etcd_kv *const kv = &reply->results[i].kvs[j];
            fuzz_require(kv->mod_revision > 0 && kv->create_revision <= kv->mod_revision);
            look_at(kv->key);
            look_at(kv->value);
            value_read(kv->value);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const etag_str json = {(const char *)data, size};
    struct arena arena;
    struct etcd_reply reply;
    struct etcd_error error;
    char token[ETCD_TOKEN_BYTES_MAX];
    const char *wrong = NULL;

    arena_init(&arena, 1 << 20);
    if (etcd_reply_read(&reply, &arena, json, &wrong) == 0)
        reply_look(&reply);
    else
        fuzz_require(wrong && reply.result_count == 0);
    if (etcd_error_read(&error, json))
        fuzz_require(strlen(error.text) < ETCD_ERROR_BYTES_MAX);
    if (etcd_token_read(token, json))
        fuzz_require(strlen(token) > 0 && !strpbrk(token, "\r\n "));
    value_read(json);
    arena_deinit(&arena);
    return 0;
}
