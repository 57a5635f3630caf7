/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd_keys.h"

#include "testing.h"
#include "text.h"

static const struct engine_nonce nonce = {{0xe0, 0xa1, [15] = 0x0f}};
#define NONCE_TEXT "e0a1000000000000000000000000000f"

static void key_is(struct etcd_key key, const char *text)
{
    assert_true(str_equal(etcd_key_str(&key), str_of(text)));
}

TEST(keys)
{
    key_is(etcd_key_of("etagd/", "setting"), "etagd/setting");
    key_is(etcd_key_of_host("p/", "host/", ETAG_LIT("web-1")), "p/host/web-1");
    key_is(etcd_key_of_epoch("p/", "mark/", 0xabc), "p/mark/0000000000000abc");
    key_is(etcd_key_of_row("p/", UINT64_MAX, &nonce, 12),
           "p/outbox/ffffffffffffffff/" NONCE_TEXT "-12");
    key_is(etcd_key_after_folder(etcd_key_of("p/", "outbox/")), "p/outbox0");
    assert_true(
        str_equal(etcd_key_name(ETAG_LIT("p/host/a/b"), ETAG_LIT("p/host/")), ETAG_LIT("a/b")));
    assert_null(etcd_key_name(ETAG_LIT("p/hos"), ETAG_LIT("p/host/")).data);
}

/* All of a name, the longest too: two hosts of one key would be one. */
TEST(the_longest_key_is_whole)
{
    char prefix[ETCD_PREFIX_BYTES_MAX + 1], host[ENGINE_HOST_BYTES_MAX];

    memset(prefix, 'p', sizeof(prefix));
    prefix[sizeof(prefix) - 1] = '\0';
    memset(host, 'h', sizeof(host));
    assert_int_equal(etcd_key_of_host(prefix, "host/", (etag_str){host, sizeof(host)}).len,
                     ETCD_PREFIX_BYTES_MAX + 5 + ENGINE_HOST_BYTES_MAX);
    assert_int_equal(etcd_key_of_row(prefix, 1, &nonce, UINT32_MAX).len,
                     ETCD_PREFIX_BYTES_MAX + 7 + 16 + 1 + 32 + 11);
}

TEST(values_come_back)
{
    struct etcd_value value = etcd_witness_write(&(struct etcd_witness){nonce, UINT64_MAX, 3});
    struct etcd_witness witness;
    struct etcd_ack ack;
    struct etcd_host host;
    struct etcd_setting setting;
    uint64_t number;

    assert_string_equal(value.text, "nonce=" NONCE_TEXT " cluster=18446744073709551615 term=3");
    assert_true(etcd_witness_read(&witness, str_of(value.text)));
    assert_memory_equal(&witness.nonce, &nonce, sizeof(nonce));
    assert_true(witness.cluster == UINT64_MAX && witness.term == 3);
    value = etcd_ack_write(&(struct etcd_ack){nonce, {{7}}, 99});
    assert_true(etcd_ack_read(&ack, str_of(value.text)));
    assert_true(ack.witness.bytes[0] == 7 && ack.revision == 99);
    value = etcd_host_write(&(struct etcd_host){nonce, ENGINE_LEAVING});
    assert_string_equal(value.text, "nonce=" NONCE_TEXT " state=leaving");
    assert_true(etcd_host_read(&host, str_of(value.text)));
    assert_int_equal(host.membership, ENGINE_LEAVING);
    value = etcd_setting_write(&(struct etcd_setting){1, 2000, 2550});
    assert_true(etcd_setting_read(&setting, str_of(value.text)));
    assert_int_equal(setting.wait_ms, 2550);
    value = etcd_number_write("at", 5);
    assert_true(etcd_number_read("at", &number, str_of(value.text)) && number == 5);
}

/* A later release may add words. */
TEST(words_in_any_order_and_others_among_them)
{
    struct etcd_setting setting;

    assert_true(
        etcd_setting_read(&setting, ETAG_LIT("wait_ms=3 colour=red  lease_ms=2 version=1")));
    assert_int_equal(setting.lease_ms, 2);
}

TEST(what_no_release_wrote)
{
    struct etcd_witness witness;
    struct etcd_ack ack;
    struct etcd_host host;
    struct etcd_setting setting;
    uint64_t number;

    assert_false(etcd_setting_read(&setting, ETAG_LIT("")));
    assert_false(etcd_setting_read(&setting, ETAG_LIT("version=1 lease_ms=2 wait_ms=4294967296")));
    assert_false(etcd_setting_read(&setting, ETAG_LIT("version=1 lease_ms=-2 wait_ms=3")));
    assert_false(etcd_setting_read(&setting, ETAG_LIT("version=1 xlease_ms=2 wait_ms=3")));
    assert_false(etcd_number_read("at", &number, ETAG_LIT("at=")));
    assert_false(etcd_number_read("at", &number, ETAG_LIT("at=18446744073709551616")));
    assert_false(etcd_number_read("at", &number, ETAG_LIT("att=1")));
    assert_false(etcd_host_read(&host, ETAG_LIT("nonce=" NONCE_TEXT " state=gone")));
    assert_false(etcd_host_read(&host, ETAG_LIT("nonce=" NONCE_TEXT "0 state=member")));
    assert_false(etcd_host_read(&host, ETAG_LIT("nonce=E0A1000000000000000000000000000f"
                                                " state=member")));
    assert_false(etcd_witness_read(&witness, ETAG_LIT("nonce=" NONCE_TEXT " cluster=1")));
    assert_false(etcd_ack_read(&ack, ETAG_LIT("nonce=" NONCE_TEXT " witness=" NONCE_TEXT
                                              " revision=9223372036854775807")));
}
