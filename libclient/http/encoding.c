/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accept-Encoding (RFC 9110 section 12.5.3) comes in hundreds of spellings and selects one of a few
 * representations. The key has the selected coding, not the field as it came; else each spelling
 * would have an entry of its own.
 *
 * One pass over the elements notes a weight for each coding on offer, for identity and for "*";
 * then the best is taken. Where the RFC leaves a choice:
 *
 *   malformed element     Is not there, and the others count: what its sender meant is not known,
 *                         but each other element says all by itself.
 *   named several times   The lowest weight counts: who refuses a coding once does not get it.
 *   same weight           The server's order decides, which knows what it costs.
 *   "*" and identity      "*" may refuse identity, but does not prefer it to a coding.
 */
#include "encoding.h"

#include "bounds.h"
#include "numbers.h"
#include "text.h"

#define UNSAID (-1)
#define MALFORMED (-1)
#define WEIGHT_MAX 1000 /* weights in thousandths, as fine as they can be written */

/* What a request said of each coding on offer. */
struct wishes {
    size_t count;
    /* canonical; empty: no coding has this name */
    etag_str names[CODINGS_OFFERED_MAX];
    int weights[CODINGS_OFFERED_MAX];
    int identity, any;
};

etag_str encoding_canonical(etag_str coding)
{
    if (str_equal_nocase(coding, ETAG_LIT("x-gzip")))
        return ETAG_LIT("gzip");
    if (str_equal_nocase(coding, ETAG_LIT("x-compress")))
        return ETAG_LIT("compress");
    return coding;
}

/* "q=0.5", as RFC 9110 section 12.4.2 has it: at most three digits, none above 1. */
static int weight_parse(etag_str text)
{
    if (text.len < 3 || text.len > 7 || char_lower(text.data[0]) != 'q' || text.data[1] != '=')
        return MALFORMED;
    if ((text.data[2] != '0' && text.data[2] != '1') || (text.len > 3 && text.data[3] != '.'))
        return MALFORMED;
    int weight = text.data[2] == '1' ? WEIGHT_MAX : 0;
    int unit = WEIGHT_MAX / 10;
    for (size_t i = 4; i < text.len; i++, unit /= 10) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return MALFORMED;
        weight += unit * (text.data[i] - '0');
    }
    return weight <= WEIGHT_MAX ? weight : MALFORMED;
}

static void note(int *noted, int weight)
{
    if (*noted == UNSAID || weight < *noted)
        *noted = weight;
}

/* One element of the list: a name, perhaps with a weight. */
static void element_read(struct wishes *w, etag_str element)
{
    const char *semicolon = element.len > 0 ? memchr(element.data, ';', element.len) : NULL;
    const size_t len = semicolon ? (size_t)(semicolon - element.data) : element.len;
    const etag_str name = encoding_canonical(str_trim((etag_str){element.data, len}));
    const int weight = semicolon ? weight_parse(str_trim(str_skip(element, len + 1))) : WEIGHT_MAX;

    if (weight == MALFORMED)
        return; /* a malformed name matches no coding */
    if (str_equal(name, ETAG_LIT("*")))
        note(&w->any, weight);
    if (str_equal_nocase(name, ETAG_LIT("identity")))
        note(&w->identity, weight);
    for (size_t i = 0; i < w->count; i++)
        if (str_equal_nocase(name, w->names[i]))
            note(&w->weights[i], weight);
}

/* No quoted-string is allowed in this field, so every comma divides. */
static void line_read(struct wishes *w, etag_str value)
{
    while (value.len > 0) {
        const char *comma = memchr(value.data, ',', value.len);
        const size_t len = comma ? (size_t)(comma - value.data) : value.len;
        element_read(w, (etag_str){value.data, len});
        value = str_skip(value, comma ? len + 1 : len);
    }
}

static void wishes_begin(struct wishes *w, const etag_str *offered, size_t count)
{
    w->count = min_of(count, CODINGS_OFFERED_MAX);
    w->identity = w->any = UNSAID;
    for (size_t i = 0; i < w->count; i++) {
        const bool usable = str_is_token(offered[i]) && !str_equal(offered[i], ETAG_LIT("*"));
        w->names[i] = usable ? encoding_canonical(offered[i]) : ETAG_LIT("");
        w->weights[i] = UNSAID;
    }
}

etag_str etag_encoding_select(const etag_field *fields, size_t field_count, const etag_str *offered,
                              size_t offered_count)
{
    struct wishes w;
    bool present = false;

    wishes_begin(&w, offered, offered_count);
    for (size_t i = 0; i < field_count; i++) {
        if (!fields[i].value.data || !str_equal_nocase(fields[i].name, ETAG_LIT("accept-encoding")))
            continue;
        present = true;
        line_read(&w, fields[i].value);
    }
    if (!present)
        return (etag_str){NULL, 0};

    size_t best = 0;
    int best_weight = 0; /* which is a refusal */
    for (size_t i = 0; i < w.count; i++) {
        const int weight = w.weights[i] == UNSAID ? w.any : w.weights[i];
        if (w.names[i].len > 0 && weight > best_weight) {
            best = i;
            best_weight = weight;
        }
    }
    if (w.identity > best_weight)
        return ETAG_LIT("identity");
    if (best_weight > 0)
        return offered[best];
    const int identity = w.identity == UNSAID ? w.any : w.identity;
    return identity == 0 ? ETAG_LIT("") : ETAG_LIT("identity");
}
