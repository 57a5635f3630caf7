/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of options, and the conversion of a word into the member that it sets. Defaults, file
 * and flags all go through config_option_set(), so one place checks a range and words the error.
 */
#include "config_option.h"

#include "bytes.h"
#include "clocktime.h"
#include "message.h"
#include "numbers.h"

#include <stddef.h>
#include <sys/un.h>

#define MIB (UINT64_C(1024) * 1024)
#define IDLE_MS_MAX (UINT64_C(366) * 24 * 3600 * 1000)
#define MS_PER_HOUR (UINT64_C(3600) * 1000)
#define EVENTS_KEPT_HOURS_MAX (UINT64_C(366) * 24)
#define EVENTS_KEPT_MIB_MAX 65536
#define POOL_MIB_MAX (POOL_BYTES_MAX / MIB)
#define MAP_MIB_MAX (UINT64_C(16) * 1024 * 1024)

#define MEMBER(m) .offset = offsetof(struct config, m), .bytes = sizeof(((struct config *)0)->m)

const struct config_option config_options[CONFIG_OPTIONS] = {
    {"socket", "PATH", "Where front ends connect", "/run/etagd/etagd.sock", OPTION_PATH,
     MEMBER(socket_path), .max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1},
    {"state-dir", "DIR", "Where the state is kept", "/var/lib/etagd", OPTION_PATH,
     MEMBER(state_dir), .max = PATH_BYTES_MAX - 64},
    {"capacity", "N", "Entries that the index holds", "262144", OPTION_NUMBER, MEMBER(capacity),
     .min = CAPACITY_MIN, .max = CAPACITY_MAX, .factor = 1},
    {"clocks", "N", "Version clocks, rounded up to a power of two; 0: by capacity", "0",
     OPTION_NUMBER, MEMBER(clock_count), .min = CLOCKS_MIN, .or_zero = true, .max = CLOCKS_MAX,
     .factor = 1},
    {"lease-ms", "N", "Length of the lease, milliseconds", "1000", OPTION_NUMBER, MEMBER(lease_ns),
     .min = LEASE_MS_MIN, .max = LEASE_MS_MAX, .factor = NS_PER_MS},
    {"guard-linger-ms", "N", "A guard without a sign of life counts as committed after this time",
     "30000", OPTION_NUMBER, MEMBER(linger_ns), .min = LINGER_MS_MIN, .max = LINGER_MS_MAX,
     .factor = NS_PER_MS},
    {"durability", "D", "process, or power (fsync before each answer)", "process", OPTION_CHOICE,
     MEMBER(durability), .words = "process|power"},
    {"relay", "R",
     "Many hosts: off, optional (nothing is promised), required (no lease without it)", "off",
     OPTION_CHOICE, MEMBER(relay), .words = "off|optional|required"},
    {"loop", "L", "Event loop: auto, uring, epoll", "auto", OPTION_CHOICE, MEMBER(loop),
     .words = "auto|uring|epoll"},
    {"huge-pages", "H", "Huge pages for the index: auto, on (say if there are none), off", "auto",
     OPTION_CHOICE, MEMBER(huge_pages), .words = "auto|on|off"},
    {"pool-mib", "N", "Shared memory for header fields and long entity tags; 0: by capacity", "0",
     OPTION_NUMBER, MEMBER(pool_bytes), .max = POOL_MIB_MAX, .factor = MIB},
    {"map-mib", "N", "Largest size of the database; 0: by capacity", "0", OPTION_NUMBER,
     MEMBER(map_bytes), .max = MAP_MIB_MAX, .factor = MIB},
    {"log-level", "L", "debug, info, warn, error", "info", OPTION_CHOICE, MEMBER(log_level),
     .words = "debug|info|warn|error", .live = true},
    {"log-format", "F", "logfmt, json (an object a line)", "logfmt", OPTION_CHOICE,
     MEMBER(log_format), .words = "logfmt|json", .live = true},
    {"events-kept", "N", "Events that etagctl log and explain can name", "100000", OPTION_NUMBER,
     MEMBER(events_kept), .max = EVENTS_KEPT_MAX, .factor = 1},
    {"events-kept-hours", "N", "Older ones go; 0: of any age", "24", OPTION_NUMBER,
     MEMBER(events_kept_ms), .max = EVENTS_KEPT_HOURS_MAX, .factor = MS_PER_HOUR},
    {"events-kept-mib", "N", "Part of the database that they may take", "64", OPTION_NUMBER,
     MEMBER(events_kept_bytes), .min = 1, .max = EVENTS_KEPT_MIB_MAX, .factor = MIB},
    {"socket-mode", "M", "Permissions of the socket, octal", "0660", OPTION_MODE,
     MEMBER(socket_mode), .live = true},
    {"idle-ms", "N", "Connections idle for this long are closed; 0: never", "3600000",
     OPTION_NUMBER, MEMBER(idle_ns), .max = IDLE_MS_MAX, .factor = NS_PER_MS, .live = true},
};

/* ---- Values ---- */

/* Stores a number into a member of 4 or 8 bytes (enums are 4). */
static void member_store(void *config, const struct config_option *option, uint64_t value)
{
    uint8_t *member = (uint8_t *)config + option->offset;

    if (option->bytes == sizeof(uint64_t))
        store_u64(member, value);
    else
        store_u32(member, (uint32_t)value);
}

static bool set_text(void *config, const struct config_option *option, etag_str value,
                     struct why *why)
{
    if (value.len > 0 && memchr(value.data, '\0', value.len))
        return why_not(why, "\"%s\" cannot hold a NUL", option->name);
    if (value.len > option->max)
        return why_not(why, "\"%s\" is %zu bytes long; at most %llu are allowed", option->name,
                       value.len, (unsigned long long)option->max);
    char *member = (char *)config + option->offset;
    if (value.len > 0)
        memcpy(member, value.data, value.len);
    member[value.len] = '\0';
    return true;
}

static bool set_path(void *config, const struct config_option *option, etag_str value,
                     struct why *why)
{
    if (value.len == 0 || memchr(value.data, '\0', value.len))
        return why_not(why, "\"%s\" must be a path", option->name);
    return set_text(config, option, value, why);
}

static bool set_choice(void *config, const struct config_option *option, etag_str value,
                       struct why *why)
{
    const char *word = option->words;

    for (uint64_t number = 0; *word; number++) {
        const size_t len = strcspn(word, "|");
        if (str_equal(value, (etag_str){word, len})) {
            member_store(config, option, number);
            return true;
        }
        word += len + (word[len] == '|');
    }
    return why_not(why, "\"%s\" cannot be \"%.*s\"; allowed are %s", option->name, QUOTED(value),
                   option->words);
}

bool config_option_set(void *config, const struct config_option *option, etag_str value,
                       struct why *why)
{
    uint64_t number;

    switch (option->kind) {
    case OPTION_PATH:
        return set_path(config, option, value, why);
    case OPTION_TEXT:
    case OPTION_LIST:
        return set_text(config, option, value, why);
    case OPTION_CHOICE:
        return set_choice(config, option, value, why);
    case OPTION_MODE:
        if (!str_number(value, 8, &number) || number > 0777)
            return why_not(
                why, "\"%s\" cannot be \"%.*s\"; allowed are octal permissions from 0 to 0777",
                option->name, QUOTED(value));
        member_store(config, option, number);
        return true;
    case OPTION_NUMBER:
        break;
    }
    if (!str_number(value, 10, &number) || number > option->max ||
        (number < option->min && !(number == 0 && option->or_zero)))
        return why_not(why,
                       "\"%s\" cannot be \"%.*s\"; allowed are whole numbers from %llu to %llu%s",
                       option->name, QUOTED(value), (unsigned long long)option->min,
                       (unsigned long long)option->max, option->or_zero ? ", and 0" : "");
    member_store(config, option, number * option->factor);
    return true;
}

/* ---- Names ---- */

const struct config_option *config_option_find(const struct config_table *table, etag_str name)
{
    for (size_t i = 0; i < table->count; i++)
        if (str_equal(name, str_of(table->options[i].name)))
            return &table->options[i];
    return NULL;
}
