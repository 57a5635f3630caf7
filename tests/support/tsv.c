/* SPDX-License-Identifier: Apache-2.0 */
#include "tsv.h"

/* Where unescaped bytes go. */
struct tsv_out {
    const struct tsv *table;
    char *bytes;
    size_t len, capacity;
};

static void tsv_put_range(struct tsv_out *out, const char *p, const char *end);

/* Splits text at tabs in place; the line's end is cut off. Returns the number of cells. */
static size_t tsv_split(const struct tsv *t, char *text, char *cells[TSV_COLUMNS_MAX])
{
    size_t count = 0;

    text[strcspn(text, "\r\n")] = '\0';
    for (char *p = text; p;) {
        if (count == TSV_COLUMNS_MAX)
            tsv_die(t, "too many columns", text);
        char *tab = strchr(p, '\t');
        if (tab)
            *tab++ = '\0';
        cells[count++] = p;
        p = tab;
    }
    return count;
}

bool tsv_next(struct tsv *t)
{
    while (getline(&t->line, &t->line_bytes, t->file) > 0) {
        t->line_number++;
        if (t->line[0] == '\n')
            continue;
        if (tsv_split(t, t->line, t->cells) != t->column_count)
            tsv_die(t, "not as many cells as the header has", t->cells[0]);
        return true;
    }
    return false;
}

void tsv_open(struct tsv *t, const char *name)
{
    char path[4096];

    *t = (struct tsv){.name = name, .line_number = 1};
    snprintf(path, sizeof(path), "%s/%s", TEST_CASES_DIR, name);
    t->file = fopen(path, "re");
    if (!t->file)
        tsv_die(t, "cannot open", path);
    if (getline(&t->header, &t->header_bytes, t->file) <= 0)
        tsv_die(t, "no header line", path);
    t->column_count = tsv_split(t, t->header, t->columns);
}

void tsv_close(struct tsv *t)
{
    fclose(t->file);
    free(t->header);
    free(t->line);
}

const char *tsv_raw(const struct tsv *t, const char *column)
{
    for (size_t i = 0; i < t->column_count; i++)
        if (strcmp(t->columns[i], column) == 0)
            return t->cells[i];
    tsv_die(t, "no such column", column);
}

static void tsv_put(struct tsv_out *out, const char *bytes, size_t len)
{
    if (len >= out->capacity - out->len) /* one byte stays for the NUL */
        tsv_die(out->table, "cell over the caller's buffer", out->table->cells[0]);
    memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

/* One backslash escape; returns the text after it. */
static const char *tsv_put_escape(struct tsv_out *out, const char *p)
{
    const char *const names = "trn\\", *const values = "\t\r\n\\";
    const char *known = p[1] ? strchr(names, p[1]) : NULL;

    if (known) {
        tsv_put(out, values + (known - names), 1);
        return p + 2;
    }
    if (p[1] == 'x' && p[2] && p[3]) {
        const char hex[3] = {p[2], p[3], '\0'};
        char *end;
        const char byte = (char)strtoul(hex, &end, 16);
        if (*end == '\0') {
            tsv_put(out, &byte, 1);
            return p + 4;
        }
    }
    tsv_die(out->table, "unknown escape", p);
}

/* "${rep:N:TEXT}" or "${seq:N:FORMAT}"; TEXT may hold backslash escapes, but no '}'. Returns the
 * text after it. */
static const char *tsv_put_macro(struct tsv_out *out, const char *p)
{
    const bool is_seq = strncmp(p, "${seq:", 6) == 0;
    char *text;
    const unsigned long count = strtoul(p + 6, &text, 10);
    const char *end = strchr(p, '}');

    if (*text != ':' || !end || end < text)
        tsv_die(out->table, "malformed macro", p);
    text++;
    const char *number_at = is_seq ? strstr(text, "%d") : NULL;
    if (number_at && number_at > end)
        number_at = NULL;
    for (unsigned long i = 0; i < count; i++) {
        if (is_seq && i > 0)
            tsv_put(out, ", ", 2);
        tsv_put_range(out, text, number_at ? number_at : end);
        if (number_at) {
            char number[24];
            tsv_put(out, number, (size_t)snprintf(number, sizeof(number), "%lu", i));
            tsv_put_range(out, number_at + 2, end);
        }
    }
    return end + 1;
}

static void tsv_put_range(struct tsv_out *out, const char *p, const char *end)
{
    while (p < end) {
        if (*p == '\\') {
            p = tsv_put_escape(out, p);
        } else if (strncmp(p, "${rep:", 6) == 0 || strncmp(p, "${seq:", 6) == 0) {
            p = tsv_put_macro(out, p);
        } else {
            tsv_put(out, p++, 1);
        }
    }
}

size_t tsv_unescape(const struct tsv *t, const char *raw, char *out, size_t capacity)
{
    struct tsv_out to = {.table = t, .bytes = out, .capacity = capacity};

    tsv_put_range(&to, raw, raw + strlen(raw));
    out[to.len] = '\0';
    return to.len;
}

size_t tsv_text(const struct tsv *t, const char *column, char *out, size_t capacity)
{
    return tsv_unescape(t, tsv_raw(t, column), out, capacity);
}
