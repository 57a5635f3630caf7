/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both ends check before they believe in an entry or in targets. Each check says in a sentence
 * what is wrong, since the library hands it to the application's author. Bounds that the sentence
 * names stand in bounds.h.
 */
#include "entry.h"

#include "fieldset.h"
#include "numbers.h"
#include "text.h"

/* What an HTTP-date can say: the years 0 to 9999. Also keeps date arithmetic in readers from
 * overflowing. */
#define DATE_S_MIN INT64_C(-62167219200)
#define DATE_S_MAX INT64_C(253402300799)

#define FIELD_NAME_BYTES_MAX 255u /* its length stands in one byte: fieldset.h */

const char *entity_tag_check(etag_str etag)
{
    if (etag.len > ENTITY_TAG_BYTES_MAX)
        return "the entity tag is longer than 256 bytes";
    if (str_starts_with(etag, ETAG_LIT("W/")))
        etag = str_skip(etag, 2);
    if (etag.len < 2 || etag.data[0] != '"' || etag.data[etag.len - 1] != '"')
        return "the entity tag is not \"opaque\" or W/\"opaque\", quotes included";
    for (size_t i = 1; i < etag.len - 1; i++) {
        const uint8_t byte = (uint8_t)etag.data[i];
        if (byte <= ' ' || byte == '"' || byte == 0x7f)
            return "the entity tag contains a space, a quote or a control character";
    }
    return NULL;
}

const char *field_check(etag_field field)
{
    if (!str_is_token(field.name) || field.name.len > FIELD_NAME_BYTES_MAX)
        return "a header field's name is not a token of 1 to 255 bytes";
    if (!str_is_field_value(field.value))
        return "a header field's value contains a control character";
    if (!field_name_may_be_kept(field.name))
        return "a header field that no entry keeps: it frames the message, sets state, redirects, "
               "is made "
               "anew for each answer, or is the entry's own (etag, last_modified, "
               "content_location)";
    return NULL;
}

static etag_reason wrong(const char **why, etag_reason reason, const char *text)
{
    *why = text;
    return text ? reason : ETAG_REASON_NONE;
}

static etag_reason kept_fields_judge(struct entry *entry, uint8_t *packed, const char **why)
{
    const struct kept_field *fields = entry->fields;
    const size_t count = entry->field_count;

    if (count > FIELDS_PER_ENTRY_MAX)
        return wrong(why, ETAG_REASON_LIMIT, "the entry has more than 16 header fields");
    for (size_t i = 0; i < count; i++) {
        const bool is_expires = fields[i].kind == FIELDSET_EXPIRES;
        const etag_reason reason = wrong(why, ETAG_REASON_BAD_FIELD,
                                         is_expires ? NULL : field_check(fields[i].field));
        if (reason)
            return reason;
        if (is_expires && (fields[i].offset_s < DATE_S_MIN - DATE_S_MAX ||
                           fields[i].offset_s > DATE_S_MAX - DATE_S_MIN))
            return wrong(why, ETAG_REASON_BAD_FIELD, "the entry's Expires is out of range");
    }
    const int len = packed ? fieldset_pack(packed, fields, count) : (int)entry->fieldset.len;
    if (len < 0 || len > (int)FIELDSET_BYTES_MAX)
        return wrong(why, ETAG_REASON_LIMIT,
                     "the entry's header fields are longer than 2000 bytes together");
    if (packed)
        entry->fieldset = (etag_str){(const char *)packed, (size_t)len};
    return ETAG_REASON_NONE;
}

static etag_reason surrogates_judge(const struct entry *entry, const char **why)
{
    etag_reason reason = wrong(why, ETAG_REASON_SURROGATES_LIMIT,
                               entry->surrogate_count > SURROGATES_PER_ENTRY_MAX
                                   ? "the entry has more than 128 surrogate keys"
                                   : NULL);

    for (size_t i = 0; i < entry->surrogate_count && !reason; i++)
        reason = wrong(why, ETAG_REASON_BAD_SURROGATE, surrogate_check(entry->surrogates[i]));
    return reason;
}

etag_reason entry_judge(struct entry *entry, uint8_t packed[FIELDSET_BYTES_MAX], const char **why)
{
    etag_reason reason = wrong(why, ETAG_REASON_BAD_ETAG, entity_tag_check(entry->etag));

    if (!reason)
        reason = kept_fields_judge(entry, packed, why);
    if (reason)
        return reason;
    if (entry->last_modified != ETAG_NO_DATE &&
        (entry->last_modified < DATE_S_MIN || entry->last_modified > DATE_S_MAX))
        return wrong(why, ETAG_REASON_BAD_FIELD,
                     "the entry's Last-Modified is not in the years 0 to 9999");
    if (entry->content_location.len > CONTENT_LOCATION_BYTES_MAX)
        return wrong(why, ETAG_REASON_LIMIT, "Content-Location is longer than 1024 bytes");
    if (!str_is_field_value(entry->content_location))
        return wrong(why, ETAG_REASON_BAD_FIELD, "Content-Location contains a control character");
    return surrogates_judge(entry, why);
}

const char *entry_check(struct entry *entry, uint8_t packed[FIELDSET_BYTES_MAX])
{
    const char *why;

    return entry_judge(entry, packed, &why) ? why : NULL;
}

const char *targets_check(const etag_targets *targets)
{
    const size_t counts[] = {targets->resource_count, targets->surrogate_count,
                             targets->prefix_count, targets->family_count};
    size_t total = 0;

    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        if (counts[i] > TARGETS_PER_EVENT_MAX - total)
            return "more than 4096 targets at once: name a prefix or a surrogate key instead";
        total += counts[i];
    }
    if (total == 0 && !targets->everything)
        return "no target is named";
    if (targets->hold_ms > HOLD_MS_MAX)
        return "hold_ms is over 3600000, an hour";
    if (targets->max_ms > GUARD_MS_MAX)
        return "max_ms is over 86400000, a day";
    if ((unsigned)targets->reach > ETAG_REACH_EVERYWHERE)
        return "reach is none of enum etag_reach";

    struct resource canonical;
    const char *wrong = NULL;
    for (size_t i = 0; i < targets->resource_count && !wrong; i++)
        wrong = resource_canonicalize(&canonical, &targets->resources[i]);
    for (size_t i = 0; i < targets->surrogate_count && !wrong; i++)
        wrong = surrogate_check(targets->surrogates[i]);
    for (size_t i = 0; i < targets->family_count && !wrong; i++)
        wrong = surrogate_family_check(targets->families[i]);
    for (size_t i = 0; i < targets->prefix_count && !wrong; i++) {
        wrong = resource_canonicalize(&canonical, &targets->prefixes[i]);
        if (!wrong && resource_target(&canonical).len > canonical.path_len)
            wrong = "a prefix is a path: it has no query";
    }
    return wrong;
}
