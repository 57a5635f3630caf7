/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checks of an entry that both ends make, and the packed form of its header fields. Each check
 * says in a sentence what is wrong, since the library gives that to the application's author. The
 * bounds in these sentences are from bounds.h.
 *
 * Parsing trusts no length, since a reader of the index may pass any bytes: it copies them from
 * shared memory before it knows whether they belong together.
 */
#include "entry.h"

#include "bytes.h"
#include "numbers.h"
#include "text.h"

#include <string.h>

/* What an HTTP-date can say: the years 0 to 9999. Also keeps date arithmetic in readers from
 * overflowing. */
#define DATE_S_MIN INT64_C(-62167219200)
#define DATE_S_MAX INT64_C(253402300799)

#define SET_HEADER_BYTES 4u
#define FIELD_HEADER_BYTES 4u
#define NAME_BYTES_MAX 255u /* its length takes one byte */

_Static_assert(FIELDS_PER_ENTRY_MAX <= UINT8_MAX, "the count fits its byte");
_Static_assert(FIELDSET_BYTES_MAX <= UINT16_MAX, "the length fits its word");

/* ---- Names of fields ---- */

/*
 * A role `fill` is trusted with validators and with how long a response is fresh, not with the
 * connection, the cookies or the redirects of a host. Names that a front end adds to its 304s are
 * its administrator's choice, so what remains is a list of what can't be chosen. It is asked for
 * names that somebody else wrote; names that the reader did not ask for are left out in any case
 * (answer.c), so that a name that is missing here costs only those who configured it.
 */
static const etag_str refused_names[] = {
    /* Frame the message or belong to the connection: RFC 9112, RFC 9110 section 7.6.1. */
    STR_INIT("connection"),
    STR_INIT("content-length"),
    STR_INIT("http2-settings"),
    STR_INIT("keep-alive"),
    STR_INIT("proxy-connection"),
    STR_INIT("te"),
    STR_INIT("trailer"),
    STR_INIT("transfer-encoding"),
    STR_INIT("upgrade"),
    /* Describe a body that is not there. */
    STR_INIT("content-encoding"),
    STR_INIT("content-range"),
    STR_INIT("content-type"),
    /* Set state, or authenticate. */
    STR_INIT("authentication-info"),
    STR_INIT("clear-site-data"),
    STR_INIT("proxy-authenticate"),
    STR_INIT("proxy-authentication-info"),
    STR_INIT("set-cookie"),
    STR_INIT("set-cookie2"),
    STR_INIT("www-authenticate"),
    /* Send the client elsewhere, or make a server between do something else than to pass the answer
     * on. (x-accel-* too.) */
    STR_INIT("alt-svc"),
    STR_INIT("location"),
    STR_INIT("refresh"),
    STR_INIT("status"),
    STR_INIT("x-sendfile"),
    /* The server makes them for each answer. */
    STR_INIT("age"),
    STR_INIT("content-security-policy"),
    STR_INIT("content-security-policy-report-only"),
    STR_INIT("date"),
    /* The entry's own, which come from it: twice they would contradict. */
    STR_INIT("content-location"),
    STR_INIT("etag"),
    STR_INIT("last-modified"),
};

#define ACCEL_PREFIX "x-accel-"

bool field_name_is_standard(etag_str name)
{
    return str_is_named(name, ETAG_LIT("Cache-Control")) || str_is_named(name, ETAG_LIT("Vary")) ||
           str_is_named(name, ETAG_LIT("Expires"));
}

bool field_name_may_be_kept(etag_str name)
{
    const size_t prefix_len = strlen(ACCEL_PREFIX);

    if (field_name_is_standard(name)) /* as most are that anybody asks for */
        return true;
    for (size_t i = 0; i < COUNT_OF(refused_names); i++)
        if (str_equal_nocase(name, refused_names[i]))
            return false;
    return name.len < prefix_len ||
           !str_equal_nocase((etag_str){name.data, prefix_len}, ETAG_LIT(ACCEL_PREFIX));
}

/* ---- Field sets ---- */

static size_t name_len(const struct kept_field *f)
{
    return f->kind == FIELDSET_EXPIRES ? 0 : f->field.name.len;
}

static size_t value_len(const struct kept_field *f)
{
    return f->kind == FIELDSET_EXPIRES ? sizeof(f->offset_s) : f->field.value.len;
}

static void field_put(uint8_t *to, const struct kept_field *f)
{
    to[0] = (uint8_t)f->kind;
    to[1] = (uint8_t)name_len(f);
    store_u16(to + 2, (uint16_t)value_len(f));
    to += FIELD_HEADER_BYTES;
    if (f->kind == FIELDSET_EXPIRES) {
        store_u64(to, (uint64_t)f->offset_s);
        return;
    }
    copy_bytes(to, f->field.name.data, f->field.name.len);
    copy_bytes(to + f->field.name.len, f->field.value.data, f->field.value.len);
}

int fieldset_pack(uint8_t *out, const struct kept_field *fields, size_t count)
{
    if (count == 0)
        return 0;
    if (count > FIELDS_PER_ENTRY_MAX)
        return -1;
    size_t len = SET_HEADER_BYTES;
    for (size_t i = 0; i < count; i++) {
        const size_t names = name_len(&fields[i]), values = value_len(&fields[i]);
        if (names > NAME_BYTES_MAX || values > FIELDSET_BYTES_MAX ||
            FIELD_HEADER_BYTES + names + values > FIELDSET_BYTES_MAX - len)
            return -1;
        if (names == 0 && fields[i].kind != FIELDSET_EXPIRES)
            return -1;
        field_put(out + len, &fields[i]);
        len += FIELD_HEADER_BYTES + names + values;
    }
    store_u16(out, (uint16_t)len);
    out[2] = (uint8_t)count;
    out[3] = 0;
    return (int)len;
}

/* Returns the packed length of the field at the front of left bytes, 0 if there is none. */
static size_t field_take(const uint8_t *from, size_t left, struct kept_field *out)
{
    if (left < FIELD_HEADER_BYTES)
        return 0;
    const uint8_t kind = from[0], names = from[1];
    const uint16_t values = load_u16(from + 2);
    const char *const text = (const char *)from + FIELD_HEADER_BYTES;
    if ((size_t)names + values > left - FIELD_HEADER_BYTES)
        return 0;
    *out = (struct kept_field){.kind = (enum fieldset_kind)kind};
    if (kind == FIELDSET_EXPIRES && names == 0 && values == sizeof(out->offset_s)) {
        out->offset_s = (int64_t)load_u64(text);
    } else if (kind == FIELDSET_LITERAL && names > 0) {
        out->field.name = (etag_str){text, names};
        out->field.value = (etag_str){text + names, values};
    } else {
        return 0;
    }
    return FIELD_HEADER_BYTES + names + values;
}

int fieldset_parse(const void *bytes, size_t len, struct kept_field *fields)
{
    const uint8_t *const from = bytes;

    if (len == 0)
        return 0;
    if (len < SET_HEADER_BYTES || load_u16(from) > len || from[3] != 0)
        return -1;
    const size_t set_len = load_u16(from), count = from[2];
    if (count == 0 || count > FIELDS_PER_ENTRY_MAX || set_len > FIELDSET_BYTES_MAX)
        return -1;
    size_t at = SET_HEADER_BYTES;
    for (size_t i = 0; i < count; i++) {
        const size_t field_len = at < set_len ? field_take(from + at, set_len - at, &fields[i]) : 0;
        if (field_len == 0)
            return -1;
        at += field_len;
    }
    return at == set_len ? (int)count : -1;
}

/* ---- Checks ---- */

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
    if (!str_is_token(field.name) || field.name.len > NAME_BYTES_MAX)
        return "a header field's name is not a token of 1 to 255 bytes";
    if (!str_is_field_value(field.value))
        return "a header field's value contains a control character";
    if (!field_name_may_be_kept(field.name))
        return "a header field that no entry keeps: it frames the message, sets state, redirects, "
               "is made "
               "for each answer, or is the entry's own (etag, last_modified, "
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
