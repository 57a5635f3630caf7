/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Roles: who may do what. User and group names become numbers when the configuration is read, so
 * judging a peer compares numbers only and does not query the user database, which could block or
 * change.
 */
#include "config.h"

#include "config_option.h"
#include "message.h"
#include "numbers.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>

#define ROLES_ALL (ROLE_READ | ROLE_FILL | ROLE_MUTATE | ROLE_ADMIN | ROLE_RELAY)
#define OVERFLOW_UID_DEFAULT 65534
#define ACCOUNT_NAME_BYTES_MAX 255
#define ACCOUNT_BUFFER_BYTES 65536 /* a group carries its members' names */

static const struct {
    const char *word;
    uint32_t role;
} roles_known[] = {{"read", ROLE_READ},
                   {"fill", ROLE_FILL},
                   {"mutate", ROLE_MUTATE},
                   {"admin", ROLE_ADMIN},
                   {"relay", ROLE_RELAY}};
#define ROLES_KNOWN COUNT_OF(roles_known)

uint32_t config_role_of(etag_str word)
{
    for (size_t i = 0; i < ROLES_KNOWN; i++)
        if (str_equal(word, str_of(roles_known[i].word)))
            return roles_known[i].role;
    return 0;
}

const char *config_roles_text(uint32_t roles, char out[CONFIG_ROLES_BYTES])
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < ROLES_KNOWN; i++)
        if (roles & roles_known[i].role)
            len += (size_t)snprintf(out + len, CONFIG_ROLES_BYTES - len, "%s%s",
                                    len > 0 ? ", " : "", roles_known[i].word);
    return out;
}

/* 0, ENOENT or another errno. */
static int look_up_user(const char *name, uint32_t *id)
{
    char buffer[ACCOUNT_BUFFER_BYTES];
    struct passwd entry;
    struct passwd *found = NULL;
    const int r = getpwnam_r(name, &entry, buffer, sizeof(buffer), &found);

    if (!found)
        return r ? r : ENOENT;
    *id = entry.pw_uid;
    return 0;
}

static int look_up_group(const char *name, uint32_t *id)
{
    char buffer[ACCOUNT_BUFFER_BYTES];
    struct group entry;
    struct group *found = NULL;
    const int r = getgrnam_r(name, &entry, buffer, sizeof(buffer), &found);

    if (!found)
        return r ? r : ENOENT;
    *id = entry.gr_gid;
    return 0;
}

static bool rule_by_name(struct role_rule *rule, etag_str name, struct why *why)
{
    const char *what = rule->kind == RULE_UID ? "user" : "group";
    char terminated[ACCOUNT_NAME_BYTES_MAX + 1];

    if (name.len == 0 || name.len > ACCOUNT_NAME_BYTES_MAX || memchr(name.data, '\0', name.len))
        return why_not(why, "\"%s:\" must be followed by a %s name", what, what);
    memcpy(terminated, name.data, name.len);
    terminated[name.len] = '\0';

    const int r = rule->kind == RULE_UID ? look_up_user(terminated, &rule->id)
                                         : look_up_group(terminated, &rule->id);
    if (r == ENOENT)
        return why_not(why, "there is no %s \"%s\" on this machine", what, terminated);
    if (r)
        return why_not(why, "%s \"%s\" cannot be looked up: %s", what, terminated,
                       strerrordesc_np(r));
    return true;
}

static bool rule_by_number(struct role_rule *rule, etag_str digits, struct why *why)
{
    uint64_t id = 0;
    bool valid = digits.len > 0 && digits.len <= 10;

    for (size_t i = 0; valid && i < digits.len; i++) {
        valid = digits.data[i] >= '0' && digits.data[i] <= '9';
        id = id * 10 + (uint64_t)(digits.data[i] - '0');
    }
    if (!valid || id >= UINT32_MAX) /* (uint32_t)-1 means "none" to the kernel */
        return why_not(why, "\"%s:\" must be followed by a number from 0 to 4294967294",
                       rule->kind == RULE_UID ? "uid" : "gid");
    rule->id = (uint32_t)id;
    return true;
}

static bool rule_parse(struct role_rule *rule, etag_str subject, struct why *why)
{
    static const struct {
        const char *prefix;
        bool by_name;
        int kind;
    } forms[] = {{"user:", true, RULE_UID},
                 {"group:", true, RULE_GID},
                 {"uid:", false, RULE_UID},
                 {"gid:", false, RULE_GID}};
    if (str_equal(subject, ETAG_LIT("all"))) {
        rule->kind = RULE_ALL;
        return true;
    }
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        const etag_str prefix = str_of(forms[i].prefix);
        if (!str_starts_with(subject, prefix))
            continue;
        rule->kind = forms[i].kind == RULE_UID ? RULE_UID : RULE_GID;
        const etag_str rest = str_skip(subject, prefix.len);
        return forms[i].by_name ? rule_by_name(rule, rest, why) : rule_by_number(rule, rest, why);
    }
    return why_not(
        why,
        "\"%.*s\" names no user or group; allowed are user:NAME, group:NAME, uid:N, gid:N and all",
        QUOTED(subject));
}

bool config_rule_add(struct config *config, uint32_t roles, etag_str subject, struct why *why)
{
    struct role_rule rule = {.roles = roles};

    if (!rule_parse(&rule, subject, why))
        return false;
    for (size_t i = 0; i < config->rule_count; i++) {
        struct role_rule *known = &config->rules[i];
        if (known->kind == rule.kind && known->id == rule.id) {
            known->roles |= roles;
            return true;
        }
    }
    if (config->rule_count == ROLE_RULES_MAX)
        return why_not(why, "more than %d users and groups have roles", ROLE_RULES_MAX);
    config->rules[config->rule_count++] = rule;
    return true;
}

static bool has_group(const struct peer_credentials *peer, uint32_t gid)
{
    for (size_t i = 0; i < peer->group_count; i++)
        if (peer->groups[i] == gid)
            return true;
    return peer->gid == gid;
}

static bool rule_applies(const struct role_rule *rule, const struct peer_credentials *peer)
{
    switch (rule->kind) {
    case RULE_UID:
        return peer->uid == rule->id;
    case RULE_GID:
        return has_group(peer, rule->id);
    case RULE_ALL:
        return true;
    }
    return false;
}

uint32_t config_roles(const struct config *config, const struct peer_credentials *peer,
                      uint32_t own_uid, uint32_t overflow_uid)
{
    uint32_t roles = 0;

    /* First: whoever has it may be anybody, even where the daemon itself runs under that number. */
    if (peer->uid == overflow_uid)
        return 0;
    if (peer->uid == 0 || peer->uid == own_uid)
        return ROLES_ALL;
    for (size_t i = 0; i < config->rule_count; i++)
        if (rule_applies(&config->rules[i], peer))
            roles |= config->rules[i].roles;
    if (roles & ROLE_MUTATE)
        roles |= ROLE_READ;
    return roles;
}

uint32_t config_overflow_uid(void)
{
    CLEANUP(cleanup_file) FILE *f = fopen("/proc/sys/kernel/overflowuid", "re");
    char text[16];

    return f && fgets(text, sizeof(text), f) ? (uint32_t)strtoul(text, NULL, 10)
                                             : OVERFLOW_UID_DEFAULT;
}
