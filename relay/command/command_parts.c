/* SPDX-License-Identifier: Apache-2.0 */
/* Words, waits and steps of commands that do not depend on the engine. */
#include "command_parts.h"

#include "clocktime.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>

#define LEASE_MS_LEAST 100
#define LEASE_MS_MOST 60000
#define WAIT_STEP_MS 10

static const char leave_usage[] =
    "Usage: etag-relay [OPTION...] leave HOST\n"
    "Puts a host out that does not come back: writers wait for its lease no more.\n";

int command_usage_wrong(const char *usage, const char *what)
{
    (void)fprintf(stderr, "etag-relay: %s\n%s", what, usage);
    return COMMAND_EXIT_USAGE;
}

int command_failed(const struct why *why)
{
    (void)fprintf(stderr, "etag-relay: %s\n", why->text);
    return EXIT_FAILURE;
}

static int help_print(const char *usage)
{
    return fputs(usage, stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

bool command_is_plain(int argc, char **argv, const char *usage, int *status)
{
    char what[64];

    if (argc == 1)
        return true;
    (void)snprintf(what, sizeof(what), "%s takes no arguments", argv[0]);
    *status = strcmp(argv[1], "--help") == 0 ? help_print(usage) : command_usage_wrong(usage, what);
    return false;
}

/* ---- Setup ----------------------------------------------------------------------------------- */

bool command_lease_read(const char *text, uint32_t *lease_ms)
{
    uint64_t value;

    if (!str_number(str_of(text), 10, &value) || value < LEASE_MS_LEAST || value > LEASE_MS_MOST)
        return false;
    *lease_ms = (uint32_t)value;
    return true;
}

int command_lease_change(const struct setting_place *place, uint32_t lease_ms, struct why *why)
{
    struct relay_setting now, next;
    uint64_t apart_ms;
    int r = place->read(place->ctx, &now, why);

    for (int i = 0; i < place->steps_max && r == 0 && setting_next(now, lease_ms, &next, &apart_ms);
         i++) {
        if (apart_ms > 0) {
            printf("waiting %llu ms: leases of the former length may run yet\n",
                   (unsigned long long)apart_ms);
            (void)fflush(stdout);
            time_sleep_ms(apart_ms);
        }
        r = place->write(place->ctx, now, next, why);
        if (r == 0)
            r = place->read(place->ctx, &now, why);
    }
    return r;
}

/* ---- Leave ----------------------------------------------------------------------------------- */

bool command_host_read(int argc, char **argv, etag_str *host, int *status)
{
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        *status = help_print(leave_usage);
        return false;
    }
    if (argc != 2 || argv[1][0] == '-' || strlen(argv[1]) > ENGINE_HOST_BYTES_MAX) {
        *status = command_usage_wrong(leave_usage, "leave takes the name of one host");
        return false;
    }
    *host = str_of(argv[1]);
    return true;
}

void command_say_leaving(etag_str host, uint32_t wait_ms)
{
    printf("%.*s is leaving: its polls do not count any more; waiting %u ms for its lease\n",
           (int)host.len, host.data, wait_ms);
    (void)fflush(stdout);
}

int command_say_out(etag_str host)
{
    printf("%.*s is out\n", (int)host.len, host.data);
    return EXIT_SUCCESS;
}

void command_wait_for_lease(uint64_t committed_ns, uint32_t wait_ms)
{
    while (!leaving_is_over(committed_ns, wait_ms, time_coarse_ns()))
        time_sleep_ms(WAIT_STEP_MS);
}
