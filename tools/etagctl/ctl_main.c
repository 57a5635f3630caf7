/* SPDX-License-Identifier: Apache-2.0 */
/* etagctl: finds the command and lets it run. */
#include "ctl.h"
#include "ctl_output.h"

#include <signal.h>
#include <string.h>

static const struct ctl_command *command_find(const char *name)
{
    const struct ctl_command *const *command = ctl_commands;

    while (*command && strcmp((*command)->name, name) != 0)
        command++;
    return *command;
}

/* "etagctl check --json ..." with a mistake in front of --json: the error is for a program all the
 * same. */
static bool wants_json(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    struct ctl ctl = {.timeout_ms = CTL_TIMEOUT_MS_DEFAULT,
                      .json = wants_json(argc, argv),
                      .argc = argc,
                      .argv = argv};

    signal(SIGPIPE, SIG_DFL);
    if (!ctl_parse(&ctl, NULL, NULL))
        return ctl.exit_status;
    if (ctl.argc == 0)
        return ctl_usage_error(&ctl, "no command given");
    ctl.command = command_find(ctl.argv[0]);
    if (!ctl.command)
        return ctl_usage_error(&ctl, "%s: no such command", ctl.argv[0]);
    const int exit_status = ctl.command->run(&ctl);
    return output_end() ? exit_status : CTL_ERROR;
}
