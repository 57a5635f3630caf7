/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration file. libyaml parses it into a tree whose nodes know their line and column, so
 * each error message names them. config_option.c checks the values.
 */
#include "config_option.h"
#include "numbers.h"

#include <yaml.h>

/* One file being read. */
struct reading {
    const struct config_table *table;
    void *config;
    const char *path;
    yaml_document_t *document;
    struct why *why;
};

static void cleanup_parser(yaml_parser_t *parser)
{
    yaml_parser_delete(parser);
}

static void cleanup_document(yaml_document_t *document)
{
    yaml_document_delete(document);
}

/* Marks count from 0, people from 1. Returns false, for the caller to return. */
static bool complain_at(const struct reading *reading, yaml_mark_t mark, const char *text)
{
    return why_not(reading->why, "%s:%zu:%zu: %s", reading->path, mark.line + 1, mark.column + 1,
                   text);
}

static bool complain(const struct reading *reading, const yaml_node_t *node, const char *text)
{
    return complain_at(reading, node->start_mark, text);
}

static yaml_node_t *node_at(const struct reading *reading, int number)
{
    return yaml_document_get_node(reading->document, number);
}

static etag_str scalar_of(const yaml_node_t *node)
{
    return (etag_str){(const char *)node->data.scalar.value, node->data.scalar.length};
}

/* ---- Mappings: options at the top, roles below ---- */

typedef bool (*read_pair)(struct reading *reading, const yaml_node_t *key,
                          const yaml_node_t *value);

/* A key twice is a mistake: whoever wrote it expects one of the two, and can't know which. */
static bool key_is_new(const struct reading *reading, const yaml_node_t *mapping,
                       const yaml_node_pair_t *pair)
{
    const etag_str name = scalar_of(node_at(reading, pair->key));
    const yaml_node_pair_t *other = mapping->data.mapping.pairs.start;

    for (; other < pair; other++)
        if (str_equal(name, scalar_of(node_at(reading, other->key))))
            return false;
    return true;
}

static bool read_mapping(struct reading *reading, const yaml_node_t *mapping, read_pair read)
{
    const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;

    for (; pair < mapping->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = node_at(reading, pair->key);
        if (key->type != YAML_SCALAR_NODE)
            return complain(reading, key, "a name was expected here");
        if (!key_is_new(reading, mapping, pair))
            return complain(reading, key, "this name is here for the second time");
        if (!read(reading, key, node_at(reading, pair->value)))
            return false;
    }
    return true;
}

/* ---- Roles ---- */

static bool read_subject(struct reading *reading, uint32_t role, const yaml_node_t *subject)
{
    struct why why;

    if (subject->type != YAML_SCALAR_NODE)
        return complain(reading, subject,
                        "user:NAME, group:NAME, uid:N, gid:N or all was expected here");
    if (!config_rule_add(reading->table->roles, role, scalar_of(subject), &why))
        return complain(reading, subject, why.text);
    return true;
}

static bool read_role(struct reading *reading, const yaml_node_t *key, const yaml_node_t *value)
{
    const uint32_t role = config_role_of(scalar_of(key));

    if (!role)
        return complain(reading, key, "unknown role; roles are read, fill, mutate and admin");
    if (value->type != YAML_SEQUENCE_NODE)
        return read_subject(reading, role, value);
    const yaml_node_item_t *item = value->data.sequence.items.start;
    for (; item < value->data.sequence.items.top; item++)
        if (!read_subject(reading, role, node_at(reading, *item)))
            return false;
    return true;
}

/* ---- Options ---- */

static bool unknown_option(const struct reading *reading, const yaml_node_t *key)
{
    struct why why;
    const etag_str name = scalar_of(key);

    why_set(&why, "unknown option \"%.*s\"; %s has them all", QUOTED(name), reading->table->page);
    return complain(reading, key, why.text);
}

/* Its items, with commas between them. */
static bool read_list(struct reading *reading, const struct config_option *option,
                      const yaml_node_t *list)
{
    struct why why;
    char text[PATH_BYTES_MAX];
    size_t len = 0;
    const yaml_node_item_t *item = list->data.sequence.items.start;

    for (; item < list->data.sequence.items.top; item++) {
        const yaml_node_t *const node = node_at(reading, *item);
        if (node->type != YAML_SCALAR_NODE ||
            memchr(scalar_of(node).data, ',', scalar_of(node).len))
            return complain(reading, node, "a single value without a comma was expected here");
        if (scalar_of(node).len >= sizeof(text) - 1 - len)
            return complain(reading, node, "the list is too long");
        if (len > 0)
            text[len++] = ',';
        copy_bytes(text + len, scalar_of(node).data, scalar_of(node).len);
        len += scalar_of(node).len;
    }
    return config_option_set(reading->config, option, (etag_str){text, len}, &why) ||
           complain(reading, list, why.text);
}

static bool read_option(struct reading *reading, const yaml_node_t *key, const yaml_node_t *value)
{
    struct why why;

    if (reading->table->roles && str_equal(scalar_of(key), ETAG_LIT("roles"))) {
        if (value->type != YAML_MAPPING_NODE)
            return complain(reading, value, "\"roles\" must be a mapping of roles to lists");
        return read_mapping(reading, value, read_role);
    }
    const struct config_option *option = config_option_find(reading->table, scalar_of(key));
    if (!option)
        return unknown_option(reading, key);
    if (value->type == YAML_SEQUENCE_NODE && option->kind == OPTION_LIST)
        return read_list(reading, option, value);
    if (value->type != YAML_SCALAR_NODE) {
        why_set(&why, "\"%s\" must be a single value", option->name);
        return complain(reading, value, why.text);
    }
    if (!config_option_set(reading->config, option, scalar_of(value), &why))
        return complain(reading, value, why.text);
    return true;
}

/* ---- The file ---- */

static bool complain_syntax(const struct reading *reading, const yaml_parser_t *parser)
{
    const char *problem = parser->problem ? parser->problem : "cannot be read";

    return complain_at(reading, parser->problem_mark, problem);
}

/* Nothing but this one document may be in the file. */
static bool is_last_document(struct reading *reading, yaml_parser_t *parser)
{
    CLEANUP(cleanup_document) yaml_document_t next = {0};

    if (!yaml_parser_load(parser, &next))
        return complain_syntax(reading, parser);
    if (yaml_document_get_root_node(&next))
        return complain_at(reading, next.start_mark, "a second document is not allowed");
    return true;
}

bool config_file_read(const struct config_table *table, void *config, FILE *file, const char *path,
                      struct why *why)
{
    CLEANUP(cleanup_parser) yaml_parser_t parser = {0};
    CLEANUP(cleanup_document) yaml_document_t document = {0};
    struct reading reading = {table, config, path, &document, why};

    if (!yaml_parser_initialize(&parser)) {
        return why_not(why, "%s: no memory", path);
    }
    yaml_parser_set_input_file(&parser, file);
    if (!yaml_parser_load(&parser, &document))
        return complain_syntax(&reading, &parser);

    const yaml_node_t *root = yaml_document_get_root_node(&document);
    if (!root) /* an empty file */
        return true;
    if (root->type != YAML_MAPPING_NODE)
        return complain(&reading, root, "options were expected here, each as \"name: value\"");
    return read_mapping(&reading, root, read_option) && is_last_document(&reading, &parser);
}
