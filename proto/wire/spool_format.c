/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A name is parsed by formatting its number again and comparing, so that "e01" or "e0FF" are no
 * events. The mark is text, so that people can read it. Its last line has the number of lines, so
 * that a mark that was cut off is not taken for a whole one.
 */
#include "spool_format.h"

#include "text.h"

#include <inttypes.h>

#define MARK_TITLE "etagd-spool"
_Static_assert(SPOOL_WRITERS_MAX * sizeof("uid=4294967295\n") + 512 < SPOOL_MARK_BYTES_MAX,
               "every mark fits");
_Static_assert(SPOOL_SLOTS == 0x1000 && SPOOL_ALL_SLOTS == 0x40, "the names' digits");

/* ---- Names ---- */

static const char *format_of(enum spool_name kind)
{
    switch (kind) {
    case SPOOL_NAME_EVENT:
        return "e%03x";
    case SPOOL_NAME_ALL:
        return "all-%02x";
    case SPOOL_NAME_TAKEN:
    default:
        return "taken-%02x";
    }
}

void spool_name_make(enum spool_name kind, uint32_t number, char out[SPOOL_NAME_BYTES])
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(out, SPOOL_NAME_BYTES, format_of(kind), number);
#pragma GCC diagnostic pop
}

static bool name_is(enum spool_name kind, const char *name, size_t prefix_len, uint32_t count,
                    uint32_t *number)
{
    char made[SPOOL_NAME_BYTES];
    const unsigned long n = strtoul(name + prefix_len, NULL, 16);

    if (n >= count)
        return false;
    *number = (uint32_t)n;
    spool_name_make(kind, *number, made);
    return strcmp(made, name) == 0;
}

static bool is_reserve(const char *name)
{
    const size_t len = strlen(SPOOL_RESERVE_PREFIX);

    return strncmp(name, SPOOL_RESERVE_PREFIX, len) == 0 && name[len] >= '0' &&
           name[len] < '0' + (char)SPOOL_RESERVES && name[len + 1] == '\0';
}

enum spool_name spool_name_parse(const char *name, uint32_t *number)
{
    *number = 0;
    if (strcmp(name, SPOOL_MARK_NAME) == 0 || strcmp(name, SPOOL_LOCK_NAME) == 0 ||
        strcmp(name, SPOOL_FORMER_NAME) == 0 || is_reserve(name))
        return SPOOL_NAME_OWN;
    if (strncmp(name, SPOOL_TEMP_PREFIX, strlen(SPOOL_TEMP_PREFIX)) == 0)
        return SPOOL_NAME_TEMP;
    if (name[0] == 'e' && name_is(SPOOL_NAME_EVENT, name, 1, SPOOL_SLOTS, number))
        return SPOOL_NAME_EVENT;
    if (strncmp(name, "all-", 4) == 0 && name_is(SPOOL_NAME_ALL, name, 4, SPOOL_ALL_SLOTS, number))
        return SPOOL_NAME_ALL;
    if (strncmp(name, "taken-", 6) == 0 &&
        name_is(SPOOL_NAME_TAKEN, name, 6, SPOOL_ALL_SLOTS, number))
        return SPOOL_NAME_TAKEN;
    return SPOOL_NAME_FOREIGN;
}

void spool_set_aside_make(uint32_t number, char out[SPOOL_NAME_BYTES])
{
    (void)snprintf(out, SPOOL_NAME_BYTES, "bad-%02" PRIx32, number);
}

bool spool_name_is_set_aside(const char *name)
{
    char bad[SPOOL_NAME_BYTES];

    for (uint32_t i = 0; i < SPOOL_SET_ASIDE_MAX; i++) {
        spool_set_aside_make(i, bad);
        if (strcmp(name, bad) == 0)
            return true;
    }
    return false;
}

bool spool_path_of(const char *socket_path, char *out, size_t out_bytes)
{
    const char *slash = strrchr(socket_path, '/');
    const int dir_len = slash ? (int)(slash - socket_path) + 1 : 0;
    const int len = snprintf(out, out_bytes, "%.*s" SPOOL_DIR_NAME, dir_len, socket_path);

    return len > 0 && (size_t)len < out_bytes;
}

const char *spool_socket_name(const char *socket_path)
{
    const char *slash = strrchr(socket_path, '/');

    return slash ? slash + 1 : socket_path;
}

/* ---- The mark ---- */

size_t spool_mark_format(const struct spool_mark *mark, char out[SPOOL_MARK_BYTES_MAX])
{
    size_t len = (size_t)snprintf(
        out, SPOOL_MARK_BYTES_MAX,
        MARK_TITLE " %u\nid=%016" PRIx64 "\nsocket=%s\nlease_ns=%" PRIu64 "\nlinger_ns=%" PRIu64
                   "\ndurability=%s\nlog_reach=%d\nrules=%016" PRIx64 "\nchanges=%" PRIu64
                   "\nowner=%" PRIu32 "\nnobody=%" PRIu32 "\nanybody=%d\n",
        SPOOL_VERSION, mark->id, mark->socket, mark->lease_ns, mark->linger_ns,
        mark->power ? "power" : "process", mark->log_reach, mark->rules, mark->changes, mark->owner,
        mark->nobody, mark->anybody);

    for (size_t i = 0; i < mark->writer_count; i++)
        len += (size_t)snprintf(out + len, SPOOL_MARK_BYTES_MAX - len, "uid=%" PRIu32 "\n",
                                mark->writers[i]);
    len += (size_t)snprintf(out + len, SPOOL_MARK_BYTES_MAX - len, "end=%zu\n", mark->writer_count);
    return len;
}

/* The rest of the line; absent: it has no end. */
static etag_str rest_take(etag_str *text)
{
    const char *end = text->len > 0 ? memchr(text->data, '\n', text->len) : NULL;

    if (!end)
        return (etag_str){0};
    const etag_str line = {text->data, (size_t)(end - text->data)};
    *text = str_skip(*text, line.len + 1);
    return line;
}

/* The value of the next line, which must be "name=value"; absent: it is not. */
static etag_str line_take(etag_str *text, const char *name)
{
    const etag_str want = str_of(name);

    if (!str_starts_with(*text, want) || text->len == want.len || text->data[want.len] != '=')
        return (etag_str){0};
    *text = str_skip(*text, want.len + 1);
    return rest_take(text);
}

static bool digits_of(etag_str value, int base, uint64_t max, uint64_t *out)
{
    char digits[24];

    if (!value.data || value.len == 0 || value.len >= sizeof(digits))
        return false;
    memcpy(digits, value.data, value.len);
    digits[value.len] = '\0';
    /* strtoull alone would take a blank, a sign, "0x", or stop at a NUL. */
    if (strspn(digits, base == 16 ? "0123456789abcdef" : "0123456789") != value.len)
        return false;
    *out = strtoull(digits, NULL, base);
    return *out <= max;
}

static bool number_take(etag_str *text, const char *name, int base, uint64_t max, uint64_t *out)
{
    return digits_of(line_take(text, name), base, max, out);
}

/* "etagd-spool N": the N of any version. */
static bool version_take(etag_str *text, uint32_t *out)
{
    uint64_t number;

    if (!str_starts_with(*text, ETAG_LIT(MARK_TITLE " ")))
        return false;
    *text = str_skip(*text, strlen(MARK_TITLE " "));
    if (!digits_of(rest_take(text), 10, UINT32_MAX, &number))
        return false;
    *out = (uint32_t)number;
    return *out != 0;
}

static bool socket_take(etag_str *text, char out[SPOOL_SOCKET_BYTES])
{
    const etag_str name = line_take(text, "socket");

    if (!name.data || name.len == 0 || name.len >= SPOOL_SOCKET_BYTES)
        return false;
    memcpy(out, name.data, name.len);
    out[name.len] = '\0';
    return true;
}

bool spool_mark_parse(etag_str text, struct spool_mark *out)
{
    uint64_t number, owner, nobody, log_reach;

    *out = (struct spool_mark){0};
    if (!version_take(&text, &out->version) ||
        !number_take(&text, "id", 16, UINT64_MAX, &out->id) || out->id == 0 ||
        !socket_take(&text, out->socket) ||
        !number_take(&text, "lease_ns", 10, LEASE_MS_MAX * UINT64_C(1000000), &out->lease_ns) ||
        !number_take(&text, "linger_ns", 10, LINGER_MS_MAX * UINT64_C(1000000), &out->linger_ns))
        return false;
    if (out->version != SPOOL_VERSION)
        return true;
    const etag_str durability = line_take(&text, "durability");
    out->power = str_equal(durability, ETAG_LIT("power"));
    if ((!out->power && !str_equal(durability, ETAG_LIT("process"))) ||
        !number_take(&text, "log_reach", 10, 1, &log_reach) ||
        !number_take(&text, "rules", 16, UINT64_MAX, &out->rules) ||
        !number_take(&text, "changes", 10, UINT64_MAX, &out->changes) ||
        !number_take(&text, "owner", 10, UINT32_MAX, &owner) ||
        !number_take(&text, "nobody", 10, UINT32_MAX, &nobody) ||
        !number_take(&text, "anybody", 10, 1, &number))
        return false;
    out->log_reach = log_reach == 1;
    out->owner = (uint32_t)owner;
    out->nobody = (uint32_t)nobody;
    out->anybody = number == 1;
    while (out->writer_count < SPOOL_WRITERS_MAX &&
           number_take(&text, "uid", 10, UINT32_MAX, &number))
        out->writers[out->writer_count++] = (uint32_t)number;
    return number_take(&text, "end", 10, SPOOL_WRITERS_MAX, &number) &&
           number == out->writer_count && text.len == 0;
}

bool spool_mark_counts(const struct spool_mark *mark, uint32_t uid)
{
    if (mark->anybody || uid == mark->nobody)
        return uid != mark->nobody;
    for (size_t i = 0; i < mark->writer_count; i++)
        if (mark->writers[i] == uid)
            return true;
    return false;
}
