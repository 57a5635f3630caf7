/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd_txn.h"

#include "testing.h"
#include "text.h"

TEST(conditions_and_what_follows_from_them)
{
    struct etcd_txn txn = {0};

    etcd_txn_if(&txn, ETAG_LIT("a"), 0);
    etcd_txn_if(&txn, ETAG_LIT("b"), 7);
    etcd_txn_put(&txn, ETAG_LIT("c"), ETAG_LIT("v"));
    etcd_txn_delete(&txn, ETAG_LIT("d"), (etag_str){0});
    etcd_txn_delete(&txn, ETAG_LIT("d/"), ETAG_LIT("d0"));
    etcd_txn_get(&txn, ETCD_ELSE, &(struct etcd_get){.from = ETAG_LIT("a")});
    const etag_str text = etcd_txn_end(&txn);
    assert_true(str_equal(
        text,
        ETAG_LIT("{\"compare\":[{\"target\":\"MOD\",\"result\":\"EQUAL\",\"key\":\"YQ==\","
                 "\"mod_revision\":\"0\"},{\"target\":\"MOD\",\"result\":\"EQUAL\",\"key\":"
                 "\"Yg==\",\"mod_revision\":\"7\"}],\"success\":[{\"request_put\":{\"key\":"
                 "\"Yw==\",\"value\":\"dg==\"}},{\"request_delete_range\":{\"key\":\"ZA==\"}},"
                 "{\"request_delete_range\":{\"key\":\"ZC8=\",\"range_end\":\"ZDA=\"}}],"
                 "\"failure\":[{\"request_range\":{\"key\":\"YQ==\"}}]}")));
    etcd_txn_free(&txn);
}

/* No word of "serializable": each is linearizable. */
TEST(what_only_reads)
{
    struct etcd_txn txn = {0};

    etcd_txn_get(&txn, ETCD_THEN,
                 &(struct etcd_get){.from = ETAG_LIT("a"),
                                    .to = ETAG_LIT("b"),
                                    .min_mod_revision = 12,
                                    .limit = 5,
                                    .count_only = true,
                                    .keys_only = true});
    assert_true(
        str_equal(etcd_txn_end(&txn),
                  ETAG_LIT("{\"success\":[{\"request_range\":{\"key\":\"YQ==\",\"range_end\""
                           ":\"Yg==\",\"min_mod_revision\":\"12\",\"limit\":\"5\","
                           "\"count_only\":true,\"keys_only\":true}}]}")));
    etcd_txn_free(&txn);
    assert_true(str_equal(etcd_txn_end(&txn), ETAG_LIT("{}")));
    etcd_txn_free(&txn);
}
