/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a running daemon takes from a new configuration (SIGHUP), and how it prints its own
 * (--check-config).
 *
 * Everything is read and checked before anything is taken, so a file with a mistake changes
 * nothing. Only options that the daemon reads again at each use can be taken; sizes, paths and
 * promises (the lease, the linger, durability) are fixed for the run.
 */
#include "config.h"

#include "bytes.h"
#include "config_option.h"
#include "message.h"

#include <inttypes.h>

#define WORD_BYTES 32

static uint64_t member_load(const void *config, const struct config_option *option)
{
    const uint8_t *member = (const uint8_t *)config + option->offset;

    return option->bytes == sizeof(uint64_t) ? load_u64(member) : load_u32(member);
}

static const char *member_path(const void *config, const struct config_option *option)
{
    return (const char *)config + option->offset;
}

/* Of etagd's own table, and 0 in the file: the size follows from the capacity. */
static bool is_by_capacity(const void *config, const struct config_option *option)
{
    return option->offset == offsetof(struct config, map_bytes) && option >= config_options &&
           option < config_options + CONFIG_OPTIONS &&
           ((const struct config *)config)->map_by_capacity;
}

/* The value as the file would write it, but for paths. */
static uint64_t member_given(const void *config, const struct config_option *option)
{
    if (is_by_capacity(config, option))
        return 0;
    return member_load(config, option) / (option->kind == OPTION_NUMBER ? option->factor : 1);
}

/* ---- Changes ---- */

static bool is_changed(const struct config *config, const struct config *next,
                       const struct config_option *option)
{
    if (option->kind == OPTION_PATH || option->kind == OPTION_TEXT)
        return strcmp(member_path(config, option), member_path(next, option)) != 0;
    return member_given(config, option) != member_given(next, option);
}

/* The order of the rules is the file's, and means nothing. */
static bool has_rule(const struct config *config, const struct role_rule *rule)
{
    for (size_t i = 0; i < config->rule_count; i++)
        if (config->rules[i].kind == rule->kind && config->rules[i].id == rule->id)
            return config->rules[i].roles == rule->roles;
    return false;
}

static bool roles_changed(const struct config *config, const struct config *next)
{
    for (size_t i = 0; i < next->rule_count; i++)
        if (!has_rule(config, &next->rules[i]))
            return true;
    return config->rule_count != next->rule_count;
}

static void name_add(char list[CONFIG_CHANGES_BYTES], const char *name)
{
    const size_t len = strlen(list);

    (void)snprintf(list + len, CONFIG_CHANGES_BYTES - len, "%s%s", len > 0 ? " " : "", name);
}

static void changes_take(struct config *config, const struct config *next,
                         struct config_changes *changes)
{
    for (size_t i = 0; i < CONFIG_OPTIONS; i++) {
        const struct config_option *option = &config_options[i];
        if (!is_changed(config, next, option))
            continue;
        name_add(option->live ? changes->taken : changes->waiting, option->name);
        if (option->live)
            memcpy((uint8_t *)config + option->offset, (const uint8_t *)next + option->offset,
                   option->bytes);
    }
    if (!roles_changed(config, next))
        return;
    name_add(changes->taken, "roles");
    memcpy(config->rules, next->rules, sizeof(config->rules));
    config->rule_count = next->rule_count;
}

int config_reload(struct config *config, struct config_changes *changes, struct why *why)
{
    CLEANUP(cleanup_free) struct config *next = calloc(1, sizeof(*next));
    bool answered;

    *changes = (struct config_changes){.taken = ""};
    if (!next)
        return why_set(why, "no memory");
    if (!config_read(next, config->argc, config->argv, &answered, why))
        return -1;
    changes_take(config, next, changes);
    return 0;
}

/* ---- Printing ---- */

/* The character of two or three bytes of UTF-8 at text; 0: there is none, or one of four bytes,
 * which all may be written as they are. Longer than they need be, too: they are in no file that was
 * read, and a flag that has them cannot be printed. */
static uint32_t character_at(const unsigned char *text, size_t *len)
{
    *len = (text[0] & 0xe0) == 0xc0 ? 2 : (text[0] & 0xf0) == 0xe0 ? 3 : 1;
    uint32_t code = text[0] & (*len == 2 ? 0x1fu : 0x0fu);
    for (size_t i = 1; i < *len; i++) {
        if ((text[i] & 0xc0) != 0x80)
            *len = 1;
        code = code << 6 | (text[i] & 0x3f);
    }
    return *len > 1 ? code : 0;
}

/* Characters that YAML reads as the end of a line or not at all, where they are not escaped. */
static bool is_no_text(uint32_t code)
{
    return (code >= 0x80 && code < 0xa0) || code == 0x2028 || code == 0x2029 || code == 0xfeff ||
           code >= 0xfffe;
}

/* In double quotes, where a path may have any character. */
static void print_path(FILE *out, const char *path)
{
    const unsigned char *at = (const unsigned char *)path;
    size_t len;

    (void)putc('"', out);
    for (; *at; at += len) {
        const uint32_t code = character_at(at, &len);
        if (*at == '"' || *at == '\\')
            (void)fprintf(out, "\\%c", *at);
        else if (*at < 0x20 || *at == 0x7f)
            (void)fprintf(out, "\\x%02x", *at);
        else if (is_no_text(code))
            (void)fprintf(out, "\\u%04" PRIx32, code);
        else
            (void)fwrite(at, 1, len, out);
    }
    (void)putc('"', out);
}

static const char *choice_word(const char *words, uint64_t number, char out[WORD_BYTES])
{
    for (; number > 0; number--)
        words += strcspn(words, "|") + 1;
    (void)snprintf(out, WORD_BYTES, "%.*s", (int)strcspn(words, "|"), words);
    return out;
}

static void print_list(FILE *out, const char *text)
{
    char item[PATH_BYTES_MAX];
    const char *separator = "";

    (void)putc('[', out);
    while (*text) {
        const size_t len = strcspn(text, ",");
        (void)snprintf(item, sizeof(item), "%.*s", (int)len, text);
        (void)fputs(separator, out);
        print_path(out, item);
        separator = ", ";
        text += len + (text[len] == ',');
    }
    (void)putc(']', out);
}

void config_option_print(const void *config, const struct config_option *option, FILE *out)
{
    char word[WORD_BYTES];
    const bool is_text = option->kind == OPTION_PATH || option->kind == OPTION_TEXT ||
                         option->kind == OPTION_LIST;
    const uint64_t number = is_text ? 0 : member_given(config, option);

    (void)fprintf(out, "%s: ", option->name);
    switch (option->kind) {
    case OPTION_PATH:
    case OPTION_TEXT:
        print_path(out, member_path(config, option));
        break;
    case OPTION_LIST:
        print_list(out, member_path(config, option));
        break;
    case OPTION_CHOICE:
        /* "on" and "off" are no words to every reader of YAML. */
        (void)fprintf(out, "\"%s\"", choice_word(option->words, number, word));
        break;
    case OPTION_MODE:
        (void)fprintf(out, "\"%04" PRIo64 "\"", number);
        break;
    case OPTION_NUMBER:
        (void)fprintf(out, "%" PRIu64, number);
        break;
    }
    (void)putc('\n', out);
}

static void print_role(const struct config *config, uint32_t role, FILE *out)
{
    char word[CONFIG_ROLES_BYTES];
    const char *separator = "";

    (void)fprintf(out, "  %s: [", config_roles_text(role, word));
    for (size_t i = 0; i < config->rule_count; i++) {
        const struct role_rule *rule = &config->rules[i];
        if (!(rule->roles & role))
            continue;
        if (rule->kind == RULE_ALL)
            (void)fprintf(out, "%sall", separator);
        else
            (void)fprintf(out, "%s\"%s:%" PRIu32 "\"", separator,
                          rule->kind == RULE_UID ? "uid" : "gid", rule->id);
        separator = ", ";
    }
    (void)fputs("]\n", out);
}

void config_print(const struct config *config, FILE *out)
{
    for (size_t i = 0; i < CONFIG_OPTIONS; i++)
        config_option_print(config, &config_options[i], out);
    if (config->rule_count == 0) {
        (void)fputs("# no roles: for the daemon's own user and root only\n", out);
        return;
    }
    (void)fputs("roles:\n", out);
    for (uint32_t role = 1; role <= ROLE_RELAY; role <<= 1)
        print_role(config, role, out);
}
