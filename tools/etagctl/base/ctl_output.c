/* SPDX-License-Identifier: Apache-2.0 */
/* Printing. jansson stays in here. Keys, ETags and names come from others: none of their bytes may
 * drive a terminal. */
#include "ctl_output.h"

#include "clocktime.h"
#include "text.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <time.h>

/* Escaped: at most four characters a byte; escaping twice changes nothing more. The caller frees
 * it. */
static char *escape(etag_str text)
{
    char *out = malloc(text.len * 4 + 1), *at = out;

    if (!out)
        abort();
    for (size_t i = 0; i < text.len; i++) {
        const unsigned char c = (unsigned char)text.data[i];
        if (c >= 0x20 && c < 0x7f)
            *at++ = (char)c;
        else
            at += sprintf(at, "\\x%02x", c);
    }
    *at = '\0';
    return out;
}

void output_text(etag_str text)
{
    CLEANUP(cleanup_free) char *escaped = escape(text);

    fputs(escaped, stdout);
}

void output_text_padded(etag_str text, int width)
{
    CLEANUP(cleanup_free) char *escaped = escape(text);

    printf("%-*s ", width - 1, escaped);
}

void output_wrapped(const char *text, size_t column)
{
    size_t at_column = column;

    for (const char *at = text; *at;) {
        const size_t len = strcspn(at, " ");
        if (at_column > column && at_column + 1 + len > OUTPUT_COLUMNS) {
            printf("\n%*s", (int)column, "");
            at_column = column;
        } else if (at_column > column) {
            putchar(' ');
            at_column++;
        }
        output_text((etag_str){at, len});
        at_column += len;
        at += len + strspn(at + len, " ");
    }
    putchar('\n');
}

const char *time_text(uint64_t wall_ms, char out[TIME_TEXT_BYTES])
{
    const time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;

    if (wall_ms == 0 || !gmtime_r(&seconds, &parts))
        return NULL;
    const size_t len = strftime(out, TIME_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out + len, TIME_TEXT_BYTES - len, ".%03uZ", (unsigned)(wall_ms % 1000));
    return out;
}

/* ---- Documents ---- */

doc *doc_object(void)
{
    return json_object();
}

doc *doc_array(void)
{
    return json_array();
}

/* JSON text as it is where it is UTF-8 (dumped as ASCII with \\u escapes); else escaped by us. */
static json_t *text_value(etag_str value)
{
    if (!value.data)
        return json_null();
    json_t *text = json_stringn(value.data, value.len);
    if (text)
        return text;
    CLEANUP(cleanup_free) char *escaped = escape(value);
    return json_string(escaped);
}

void doc_text(doc *object, const char *name, etag_str value)
{
    json_object_set_new(object, name, text_value(value));
}

void doc_words(doc *object, const char *name, const char *value)
{
    doc_text(object, name, str_of(value));
}

void doc_number(doc *object, const char *name, uint64_t value)
{
    char text[24];

    if (value <= INT64_MAX) {
        json_object_set_new(object, name, json_integer((json_int_t)value));
    } else {
        snprintf(text, sizeof(text), "%" PRIu64, value);
        json_object_set_new(object, name, json_string(text));
    }
}

void doc_real(doc *object, const char *name, double value)
{
    json_object_set_new(object, name, json_real(round(value * 1000) / 1000));
}

void doc_bool(doc *object, const char *name, bool value)
{
    json_object_set_new(object, name, json_boolean(value));
}

void doc_number_or_null(doc *object, const char *name, uint64_t value)
{
    if (value)
        doc_number(object, name, value);
    else
        doc_add(object, name, NULL);
}

void doc_free(doc *value)
{
    json_decref(value);
}

void doc_add(doc *object, const char *name, doc *child)
{
    json_object_set_new(object, name, child ? child : json_null());
}

void doc_append(doc *array, doc *child)
{
    json_array_append_new(array, child);
}

void doc_append_text(doc *array, etag_str value)
{
    json_array_append_new(array, text_value(value));
}

void doc_field(doc *object, etag_field field)
{
    CLEANUP(cleanup_free) char *name = escape(field.name);
    const char *former = json_string_value(json_object_get(object, name));
    CLEANUP(cleanup_free) char *joined = NULL;

    if (former && asprintf(&joined, "%s, %.*s", former, (int)field.value.len, field.value.data) < 0)
        abort();
    doc_text(object, name, joined ? str_of(joined) : field.value);
}

static void write_json(doc *value, FILE *out, size_t flags, const char *ends_with)
{
    json_dumpf(value, out, flags | JSON_ENSURE_ASCII);
    fputs(ends_with, out);
    json_decref(value);
}

void output_json_line(doc *value, const char *ends_with)
{
    write_json(value, stdout, JSON_COMPACT, ends_with);
}

void output_json_aside(doc *value)
{
    write_json(value, stderr, JSON_COMPACT, "\n");
}

void output_json(doc *value)
{
    write_json(value, stdout, JSON_INDENT(2), "\n");
}

/* ---- For people ---- */

static void print_value(const json_t *value)
{
    const json_t *element;
    size_t i;

    switch (json_typeof(value)) {
    case JSON_STRING:
        output_text((etag_str){json_string_value(value), json_string_length(value)});
        break;
    case JSON_INTEGER:
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_TRUE:
        printf("yes");
        break;
    case JSON_FALSE:
        printf("no");
        break;
    case JSON_ARRAY:
        if (json_array_size(value) == 0)
            putchar('-');
        json_array_foreach(value, i, element)
        {
            if (i > 0)
                printf(", ");
            print_value(element);
        }
        break;
    default:
        putchar('-');
        break;
    }
}

/* An object within the object gets its lines indented below its name. */
static void print_lines(json_t *object, int indent)
{
    const char *name;
    json_t *value;
    int width = 0;

    json_object_foreach(object, name, value) width = (int)strlen(name) > width ? (int)strlen(name)
                                                                               : width;
    json_object_foreach(object, name, value)
    {
        if (json_object_size(value) > 0) {
            printf("%*s%s\n", indent, "", name);
            print_lines(value, indent + 2);
            continue;
        }
        printf("%*s%-*s  ", indent, "", width, name);
        print_value(value);
        putchar('\n');
    }
}

void output_doc(const struct ctl *ctl, doc *value)
{
    if (ctl->json) {
        output_json(value);
        return;
    }
    print_lines(value, 0);
    json_decref(value);
}

void output_error(const struct ctl *ctl, const char *status, const char *text)
{
    CLEANUP(cleanup_free) char *escaped = escape(str_of(text));

    if (ctl->json) {
        doc *error = doc_object();
        doc_words(error, "error", text);
        doc_words(error, "status", status);
        output_json(error);
        fflush(stdout);
    }
    fprintf(stderr, "etagctl%s%s: %s\n", ctl->command ? " " : "",
            ctl->command ? ctl->command->name : "", escaped);
}

bool output_end(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    fprintf(stderr, "etagctl: cannot write the output: %s\n", strerror(errno));
    return false;
}
