/* SPDX-License-Identifier: Apache-2.0 */
#include "made_entry.h"

struct hash128 made_fingerprint(uint64_t home_count, uint64_t home, uint64_t number)
{
    const unsigned __int128 scaled = (unsigned __int128)home << 64;

    return (struct hash128){.low = random_mix(number) | 1,
                            .high = (uint64_t)((scaled + home_count - 1) / home_count)};
}

etag_str made_fieldset(uint8_t out[FIELDSET_BYTES_MAX], const struct kept_field *fields,
                       size_t count)
{
    const int len = fieldset_pack(out, fields, count);

    assert_true(len >= 0);
    return (etag_str){(const char *)out, (size_t)len};
}

void made_text(char *out, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (char)('a' + random_mix(seed + i / 8) % 26);
}

void made_entry_init(struct made_entry *made, struct hash128 fingerprint, uint64_t fill_lsn,
                     uint32_t clock_count)
{
    const uint64_t seed = fingerprint.low ^ random_mix(fill_lsn);
    const size_t etag_len = seed % 4 == 0 ? seed / 8 % (ENTITY_TAG_BYTES_MAX - 1) : seed / 8 % 30;
    const size_t location_len = seed % 5 == 0 ? 1 + seed / 16 % MADE_LOCATION_MAX : 0;
    const size_t clocks = 1 + (seed % 7 == 0 ? seed / 32 % CLOCKS_PER_ENTRY_MAX : seed / 32 % 8);

    made_text(made->etag, etag_len + 2, seed);
    made->etag[0] = made->etag[etag_len + 1] = '"';
    made_text(made->location, location_len, seed + 1000);
    for (size_t i = 0; i < clocks; i++)
        made->clocks[i] = 1 + (uint32_t)(random_mix(seed + 2000 + i) % (clock_count - 1));

    /* A dozen field sets that entries share, and some that are nobody else's. */
    const uint64_t set = seed % 11 == 0 ? seed : seed / 64 % 12;
    snprintf(made->value, sizeof(made->value), "max-age=%llu", (unsigned long long)set);
    made->fields[0] = (struct kept_field){
        .field = {.name = ETAG_LIT("Cache-Control"), .value = str_of(made->value)}};
    made->fields[1] = (struct kept_field){.kind = FIELDSET_EXPIRES, .offset_s = (int64_t)set};
    made->fields[2] = (struct kept_field){
        .field = {.name = ETAG_LIT("Vary"), .value = ETAG_LIT("Accept, Accept-Language")}};

    made->entry = (struct index_entry){
        .fingerprint = fingerprint,
        .fill_lsn = fill_lsn,
        .expires_ns = random_mix(seed + 1),
        .last_modified = (int64_t)random_mix(seed + 2),
        .etag = {made->etag, etag_len + 2},
        .content_location = {location_len ? made->location : NULL, location_len},
        .fieldset = made_fieldset(made->packed, made->fields, set % (MADE_FIELDS_MAX + 1)),
        .clocks = made->clocks,
        .clock_count = clocks,
    };
}

const char *made_entry_differs(const struct made_entry *made, const struct shm_entry *found)
{
    const struct index_entry *const e = &made->entry;

    if (found->fingerprint.low != e->fingerprint.low ||
        found->fingerprint.high != e->fingerprint.high)
        return "fingerprint";
    if (found->fill_lsn != e->fill_lsn)
        return "fill LSN";
    if (found->expires_ns != e->expires_ns)
        return "expiry";
    if (found->last_modified != e->last_modified)
        return "last modified";
    if (!str_equal(found->etag, e->etag))
        return "entity tag";
    if (!str_equal(found->content_location, e->content_location) ||
        (found->content_location.data == NULL) != (e->content_location.data == NULL))
        return "content location";

    const size_t places = e->clock_count > SLOT_CLOCKS ? e->clock_count : SLOT_CLOCKS;
    if (found->clock_count != places)
        return "number of clocks";
    for (size_t i = 0; i < places; i++)
        if (found->clocks[i] != (i < e->clock_count ? e->clocks[i] : CLOCK_FLOOR))
            return "clocks";

    if (found->fieldset_bytes != e->fieldset.len)
        return "length of the field set";
    return e->fieldset.len == 0 ||
                   memcmp(e->fieldset.data, found->fieldset_words, e->fieldset.len) == 0
               ? NULL
               : "field set";
}
