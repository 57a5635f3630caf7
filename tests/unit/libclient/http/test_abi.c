/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public structs are as the checked-in table says: where each member is, how long it is, and
 * how long the struct is. A struct may grow at its end, and the table with it; nothing else in it
 * ever changes, because programs that were built against an earlier header pass it.
 */
#include "abi.h"
#include "numbers.h"
#include "testing.h"
#include "tsv.h"

struct place {
    const char *type, *member;
    size_t offset, bytes;
};

#define MEMBER(type, member)                                                                       \
    {                                                                                              \
#type, #member, offsetof(type, member), sizeof(((type *)NULL)->member)                     \
    }

/* "-": the struct itself */
static const struct place places[] = {
    MEMBER(etag_str, data),
    MEMBER(etag_str, len),
    {"etag_str", "-", 0, sizeof(etag_str)},
    MEMBER(etag_field, name),
    MEMBER(etag_field, value),
    {"etag_field", "-", 0, sizeof(etag_field)},
    MEMBER(etag_resource, host),
    MEMBER(etag_resource, target),
    {"etag_resource", "-", 0, sizeof(etag_resource)},
    MEMBER(etag_scope, kind),
    MEMBER(etag_scope, name),
    {"etag_scope", "-", 0, sizeof(etag_scope)},
    MEMBER(etag_key, size),
    MEMBER(etag_key, resource),
    MEMBER(etag_key, scope),
    MEMBER(etag_key, release),
    MEMBER(etag_key, vary),
    MEMBER(etag_key, vary_count),
    MEMBER(etag_key, scheme),
    {"etag_key", "-", 0, sizeof(etag_key)},
    MEMBER(etag_prepared_key, size),
    MEMBER(etag_prepared_key, incarnation),
    MEMBER(etag_prepared_key, place),
    {"etag_prepared_key", "-", 0, sizeof(etag_prepared_key)},
    MEMBER(etag_targets, size),
    MEMBER(etag_targets, resources),
    MEMBER(etag_targets, resource_count),
    MEMBER(etag_targets, surrogates),
    MEMBER(etag_targets, surrogate_count),
    MEMBER(etag_targets, prefixes),
    MEMBER(etag_targets, prefix_count),
    MEMBER(etag_targets, everything),
    MEMBER(etag_targets, hold_ms),
    MEMBER(etag_targets, max_ms),
    MEMBER(etag_targets, reach),
    MEMBER(etag_targets, position),
    MEMBER(etag_targets, families),
    MEMBER(etag_targets, family_count),
    {"etag_targets", "-", 0, sizeof(etag_targets)},
    MEMBER(etag_request, size),
    MEMBER(etag_request, method),
    MEMBER(etag_request, key),
    MEMBER(etag_request, fields),
    MEMBER(etag_request, field_count),
    MEMBER(etag_request, require_if_match),
    MEMBER(etag_request, compression_suffixes),
    MEMBER(etag_request, shadow),
    MEMBER(etag_request, prepared),
    {"etag_request", "-", 0, sizeof(etag_request)},
    MEMBER(etag_validators, size),
    MEMBER(etag_validators, existence),
    MEMBER(etag_validators, etag),
    MEMBER(etag_validators, last_modified),
    MEMBER(etag_validators, last_modified_is_strong),
    {"etag_validators", "-", 0, sizeof(etag_validators)},
    MEMBER(etag_token, incarnation),
    MEMBER(etag_token, lsn),
    {"etag_token", "-", 0, sizeof(etag_token)},
    MEMBER(etag_answer, size),
    MEMBER(etag_answer, verdict),
    MEMBER(etag_answer, reason),
    MEMBER(etag_answer, etag),
    MEMBER(etag_answer, last_modified),
    MEMBER(etag_answer, fields),
    MEMBER(etag_answer, field_count),
    MEMBER(etag_answer, fill_lsn),
    MEMBER(etag_answer, token),
    MEMBER(etag_answer, range),
    MEMBER(etag_answer, place),
    {"etag_answer", "-", 0, sizeof(etag_answer)},
    MEMBER(etag_client_options, size),
    MEMBER(etag_client_options, socket_path),
    MEMBER(etag_client_options, timeout_ms),
    MEMBER(etag_client_options, connect_timeout_ms),
    MEMBER(etag_client_options, no_wait),
    MEMBER(etag_client_options, spool),
    MEMBER(etag_client_options, repeated_fields),
    MEMBER(etag_client_options, repeated_field_count),
    MEMBER(etag_client_options, shadow),
    {"etag_client_options", "-", 0, sizeof(etag_client_options)},
    MEMBER(etag_entry, size),
    MEMBER(etag_entry, key),
    MEMBER(etag_entry, method),
    MEMBER(etag_entry, http_status),
    MEMBER(etag_entry, had_authorization),
    MEMBER(etag_entry, etag),
    MEMBER(etag_entry, last_modified),
    MEMBER(etag_entry, fields),
    MEMBER(etag_entry, field_count),
    MEMBER(etag_entry, surrogates),
    MEMBER(etag_entry, surrogate_count),
    MEMBER(etag_entry, max_age_s),
    MEMBER(etag_entry, last_modified_is_strong),
    MEMBER(etag_entry, withheld),
    MEMBER(etag_entry, surrogate_lists),
    MEMBER(etag_entry, surrogate_list_count),
    {"etag_entry", "-", 0, sizeof(etag_entry)},
    MEMBER(etag_receipt, size),
    MEMBER(etag_receipt, lsn),
    MEMBER(etag_receipt, reach),
    MEMBER(etag_receipt, proof),
    {"etag_receipt", "-", 0, sizeof(etag_receipt)},
};

static size_t number(const struct tsv *table, const char *column)
{
    return strtoul(tsv_raw(table, column), NULL, 10);
}

TEST(structs_are_as_listed)
{
    struct tsv table;
    size_t row = 0;

    if (sizeof(void *) != 8)
        skip(); /* the table is of 64-bit machines, all that Debian builds etagd for here */
    tsv_open(&table, "public_structs.tsv");
    for (; tsv_next(&table); row++) {
        assert_true(row < COUNT_OF(places));
        assert_string_equal(places[row].type, tsv_raw(&table, "struct"));
        assert_string_equal(places[row].member, tsv_raw(&table, "member"));
        assert_int_equal(places[row].offset, number(&table, "offset"));
        assert_int_equal(places[row].bytes, number(&table, "bytes"));
    }
    tsv_close(&table);
    assert_int_equal(row, COUNT_OF(places));
}

/* Each member begins where the one before ends, but for alignment: so none is missing above. */
TEST(no_member_is_missing)
{
    size_t end = 0;

    for (size_t i = 0; i < COUNT_OF(places); i++) {
        const bool whole = strcmp(places[i].member, "-") == 0;
        const size_t next = whole ? places[i].bytes : places[i].offset;
        assert_true(next >= end && next - end < 8);
        end = whole ? 0 : next + places[i].bytes;
    }
}
