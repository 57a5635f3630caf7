/* SPDX-License-Identifier: Apache-2.0 */
/* Applies defaults, file and flags, which are three sources of the same words, to the configuration
 * of any program that has a table. */
#include "config_option.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void config_table_rows(const struct config_table *table, int first_key, struct argp_option *rows,
                       char (*docs)[CONFIG_HELP_BYTES])
{
    for (size_t i = 0; i < table->count; i++) {
        const struct config_option *const option = &table->options[i];
        (void)snprintf(docs[i], sizeof(docs[i]), "%s (default %s)", option->help,
                       *option->default_text ? option->default_text : "empty");
        rows[i] = (struct argp_option){.name = option->name,
                                       .key = first_key + (int)i,
                                       .arg = option->argument,
                                       .doc = docs[i]};
    }
}

void config_table_defaults(const struct config_table *table, void *config)
{
    struct why why;

    for (size_t i = 0; i < table->count; i++) {
        const struct config_option *const option = &table->options[i];
        const bool set = config_option_set(config, option, str_of(option->default_text), &why);
        assert(set);
        (void)set;
    }
}

bool config_table_file(const struct config_table *table, void *config, const char *path,
                       struct why *why)
{
    CLEANUP(cleanup_file) FILE *file = fopen(path ? path : table->file, "re");

    if (!file && !path && errno == ENOENT)
        return true;
    if (!path)
        path = table->file;
    if (!file)
        return why_not(why, "%s: cannot be read: %s", path, strerrordesc_np(errno));
    return config_file_read(table, config, file, path, why);
}

bool config_table_flags(const struct config_table *table, void *config, const char *const *values,
                        struct why *mistake)
{
    struct why why;

    for (size_t i = 0; i < table->count; i++)
        if (values[i] && !config_option_set(config, &table->options[i], str_of(values[i]), &why))
            return why_not(mistake, "%s: --%s: %s", table->program, table->options[i].name,
                           why.text);
    return true;
}
