/* SPDX-License-Identifier: Apache-2.0 */
/* Which engine's command it is. */
#include "command.h"

#include "command_parts.h"

#include <stdio.h>
#include <string.h>

static void say_unknown(const char *name, const struct command *commands)
{
    (void)fprintf(stderr, "etag-relay: no command %s:", name);
    for (size_t i = 0; commands[i].name; i++)
        (void)fprintf(stderr, "%s %s", i > 0 ? "," : "", commands[i].name);
    (void)fprintf(stderr, "\n");
}

int relay_command(const struct options *options, int argc, char **argv)
{
    const struct command *const commands = options->engine == ENGINE_CHOICE_ETCD
                                               ? commands_etcd
                                               : commands_postgres;

    if (options->engine != ENGINE_CHOICE_ETCD && options->engine != ENGINE_CHOICE_POSTGRES) {
        (void)fprintf(stderr, "etag-relay: %s is for the engines postgres and etcd\n", argv[0]);
        return COMMAND_EXIT_USAGE;
    }
    for (size_t i = 0; commands[i].name; i++)
        if (strcmp(argv[0], commands[i].name) == 0)
            return commands[i].run(options, argc, argv);
    say_unknown(argv[0], commands);
    return COMMAND_EXIT_USAGE;
}
