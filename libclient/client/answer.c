/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the fields of an answer from an entry or from a response. An entry has Expires as an
 * offset, because the 304 has a Date of its own; a response that was just rendered is sent with the
 * current Date, so its Expires is repeated unchanged.
 *
 * Another process with the role to fill may have made the entry. So an answer repeats only fields
 * that a 304 has to repeat and those that this client's own options name, and leaves out the rest.
 * The daemon applies the same rule (entry.h); to apply it again is cheap, because a name is
 * compared with a handful of allowed names, not with all forbidden ones.
 */
#include "answer.h"

#include "clocktime.h"
#include "text.h"

/* Expires is kept as an offset: a 304 carries a Date of its own (RFC 9110 section 15.4.5). */
static etag_str expires_value(struct lookup_scratch *scratch, size_t place, int64_t offset_s)
{
    const int64_t now_s = (int64_t)(time_ns_of(CLOCK_REALTIME_COARSE) / NS_PER_S);
    int64_t at_s;

    if (__builtin_add_overflow(now_s, offset_s, &at_s))
        at_s = INT64_MAX;
    http_date_format(at_s, scratch->dates[place]);
    return (etag_str){scratch->dates[place], HTTP_DATE_BYTES};
}

/* The two fields that are not in a field set; absent ones are left out. Returns how many. */
static size_t first_fields(etag_field *to, etag_str etag, etag_str content_location)
{
    size_t n = 0;

    if (etag.data)
        to[n++] = (etag_field){ETAG_LIT("ETag"), etag};
    if (content_location.data)
        to[n++] = (etag_field){ETAG_LIT("Content-Location"), content_location};
    return n;
}

/* The fields of a verdict that has none but the first: of a 412 the entity tag, of any other
 * nothing. */
static size_t fewer_fields(etag_field *to, etag_str etag, etag_verdict verdict)
{
    return verdict == ETAG_PRECONDITION_FAILED ? first_fields(to, etag, (etag_str){0}) : 0;
}

static void answer_set(etag_answer *answer, const struct lookup_scratch *scratch,
                       size_t field_count, etag_verdict verdict, etag_reason reason)
{
    answer->verdict = verdict;
    answer->reason = reason;
    answer->fields = field_count > 0 ? scratch->fields : NULL;
    answer->field_count = field_count;
}

/* Keeps the entry's field set, whose fields, 'count' of them, an answer has from 'fields' on. */
static void know(struct lookup_scratch *scratch, const etag_field *fields, size_t count)
{
    const struct shm_entry *entry = &scratch->entry;
    const size_t words = (entry->fieldset_bytes + 7) / 8, place = shm_known_place(entry->fieldset);
    struct shm_known *known = &scratch->known[place];
    struct known_fields *kept = &scratch->known_fields[place];
    const char *const from = (const char *)entry->fieldset_words;
    const char *const to = (const char *)known->words;

    if (words > SHM_KNOWN_WORDS || count > KNOWN_FIELDS_MAX || scratch->known_in_use >> place & 1)
        return;
    known->unit = entry->fieldset;
    known->word_count = (uint32_t)words;
    memcpy(known->words, entry->fieldset_words, words * sizeof(uint64_t));
    for (size_t i = 0; i < count; i++)
        kept->fields[1 + i] = (etag_field){
            {to + (fields[i].name.data - from), fields[i].name.len},
            {to + (fields[i].value.data - from), fields[i].value.len}};
    kept->count = count;
}

/* The fields of an entry's set after the first ones. Returns how many there are then, -1 if the
 * bytes are no set that the daemon would have stored. */
static int kept_fields(struct lookup_scratch *scratch, const struct repeated_fields *repeated,
                       size_t first)
{
    const struct shm_entry *entry = &scratch->entry;
    const int kept = entry->fieldset_bytes > 0
                         ? fieldset_parse(entry->fieldset_words, entry->fieldset_bytes,
                                          scratch->kept)
                         : 0;
    size_t n = first;
    bool depends_on_time = false;

    for (int i = 0; i < kept; i++) {
        const struct kept_field *field = &scratch->kept[i];
        if (field->kind == FIELDSET_EXPIRES) {
            scratch->fields[n++] = (etag_field){ETAG_LIT("Expires"),
                                                expires_value(scratch, (size_t)i, field->offset_s)};
            depends_on_time = true;
            continue;
        }
        if (!str_is_field_value(field->field.value))
            return -1;
        if (repeated_fields_has(repeated, field->field.name))
            scratch->fields[n++] = field->field;
    }
    if (kept < 0)
        return kept;
    if (!depends_on_time)
        know(scratch, scratch->fields + first, n - first);
    return (int)n;
}

bool answer_from_entry(etag_answer *answer, struct lookup_scratch *scratch,
                       const struct repeated_fields *repeated, etag_verdict verdict,
                       etag_reason reason)
{
    const struct shm_entry *entry = &scratch->entry;
    int n;

    if (!str_is_field_value(entry->etag) || !str_is_field_value(entry->content_location))
        return false;
    if (verdict != ETAG_NOT_MODIFIED)
        n = (int)fewer_fields(scratch->fields, entry->etag, verdict);
    else
        n = kept_fields(scratch, repeated,
                        first_fields(scratch->fields, entry->etag, entry->content_location));
    if (n < 0)
        return false;
    answer->etag = entry->etag;
    answer->last_modified = entry->last_modified;
    answer_set(answer, scratch, (size_t)n, verdict, reason);
    return true;
}

void answer_from_response(etag_answer *answer, struct lookup_scratch *scratch,
                          const struct entry *response, etag_verdict verdict, etag_reason reason)
{
    size_t n;

    if (verdict != ETAG_NOT_MODIFIED) {
        n = fewer_fields(scratch->fields, response->etag, verdict);
    } else {
        n = first_fields(scratch->fields, response->etag, response->content_location);
        for (size_t i = 0; i < response->field_count; i++)
            scratch->fields[n++] = response->fields[i].field;
    }
    answer->etag = response->etag;
    answer->last_modified = response->last_modified;
    answer_set(answer, scratch, n, verdict, reason);
}
