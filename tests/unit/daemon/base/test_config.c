/* SPDX-License-Identifier: Apache-2.0 */
#include "clocktime.h"
#include "config.h"
#include "message.h"
#include "numbers.h"
#include "scratch.h"

#include <sys/stat.h>
#include <sys/un.h>

#define SAID_BYTES 8192

struct fixture {
    char dir[SCRATCH_BYTES];
    /* of the configuration file */
    char path[2 * SCRATCH_BYTES];
    struct config config;
    /* on standard error or output in the last load */
    char said[SAID_BYTES];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    scratch_make(f->dir);
    scratch_path(f->path, f->dir, "etagd.yaml");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    scratch_remove(f->dir);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, set_up, tear_down)

/* config_load with one stream caught. */
static int load_catching(struct fixture *f, int stream_fd, char **argv)
{
    int argc = 0;
    FILE *caught = tmpfile();
    const int kept = dup(stream_fd);

    while (argv[argc])
        argc++;
    fflush(NULL);
    dup2(fileno(caught), stream_fd);
    const int r = config_load(&f->config, argc, argv);
    fflush(NULL);
    dup2(kept, stream_fd);
    close(kept);
    rewind(caught);
    f->said[fread(f->said, 1, SAID_BYTES - 1, caught)] = '\0';
    fclose(caught);
    return r;
}

static void write_file(const struct fixture *f, const char *text)
{
    FILE *file = fopen(f->path, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    fclose(file);
}

static int load_file(struct fixture *f, const char *text)
{
    write_file(f, text);
    return load_catching(f, STDERR_FILENO, (char *[]){"etagd", "--config", f->path, NULL});
}

static int load_flag(struct fixture *f, char *flag)
{
    write_file(f, "");
    return load_catching(f, STDERR_FILENO, (char *[]){"etagd", "--config", f->path, flag, NULL});
}

/* The file is refused with exactly this, behind the file's name. */
static void assert_refused(struct fixture *f, const char *text, const char *said)
{
    char expected[SAID_BYTES];

    if (load_file(f, text) != -1)
        fail_msg("accepted: %s", text);
    (void)snprintf(expected, sizeof(expected), "%s:%s\n", f->path, said);
    assert_string_equal(f->said, expected);
}

CASE(an_empty_file_leaves_the_defaults)
{
    static const char *const empty[] = {"", "\n", "# nothing\n", "{}\n"};

    for (size_t i = 0; i < COUNT_OF(empty); i++) {
        assert_int_equal(load_file(f, empty[i]), 0);
        assert_string_equal(f->said, "");
        assert_string_equal(f->config.socket_path, "/run/etagd/etagd.sock");
        assert_string_equal(f->config.state_dir, "/var/lib/etagd");
        assert_int_equal(f->config.capacity, 262144);
        assert_int_equal(f->config.clock_count, 0);
        assert_int_equal(f->config.lease_ns, NS_PER_S);
        assert_int_equal(f->config.durability, DURABILITY_PROCESS);
        assert_int_equal(f->config.loop, LOOP_AUTO);
        assert_int_equal(f->config.pool_bytes, 0);
        assert_true(f->config.map_bytes >= f->config.capacity * 1024);
        assert_int_equal(f->config.log_level, LOG_INFO);
        assert_int_equal(f->config.socket_mode, 0660);
        assert_int_equal(f->config.idle_ns, 3600 * NS_PER_S);
        assert_int_equal(f->config.rule_count, 0);
        assert_false(f->config.check_only);
    }
}

CASE(every_option_of_the_file_arrives)
{
    assert_int_equal(load_file(f, "socket: /tmp/s\n"
                                  "state-dir: \"/tmp/d\"\n"
                                  "capacity: 5000\n"
                                  "clocks: 5000\n"
                                  "lease-ms: 100\n"
                                  "durability: power\n"
                                  "loop: epoll\n"
                                  "pool-mib: 3\n"
                                  "map-mib: 4\n"
                                  "log-level: debug\n"
                                  "socket-mode: \"0660\"\n"
                                  "idle-ms: 0\n"),
                     0);
    assert_string_equal(f->config.socket_path, "/tmp/s");
    assert_string_equal(f->config.state_dir, "/tmp/d");
    assert_int_equal(f->config.capacity, 5000);
    assert_int_equal(f->config.clock_count, 8192);
    assert_int_equal(f->config.lease_ns, 100 * NS_PER_MS);
    assert_int_equal(f->config.durability, DURABILITY_POWER);
    assert_int_equal(f->config.loop, LOOP_EPOLL);
    assert_int_equal(f->config.pool_bytes, 3 << 20);
    assert_int_equal(f->config.map_bytes, 4 << 20);
    assert_int_equal(f->config.log_level, LOG_DEBUG);
    assert_int_equal(f->config.socket_mode, 0660);
    assert_int_equal(f->config.idle_ns, 0);
}

CASE(flags_come_after_the_file_wherever_they_stand)
{
    write_file(f, "capacity: 5000\nlease-ms: 100\nloop: epoll\n");
    assert_int_equal(load_catching(f, STDERR_FILENO,
                                   (char *[]){"etagd", "--capacity=6000", "--config", f->path,
                                              "--loop", "uring", "--check-config", NULL}),
                     0);
    assert_int_equal(f->config.capacity, 6000);
    assert_int_equal(f->config.loop, LOOP_URING);
    assert_int_equal(f->config.lease_ns, 100 * NS_PER_MS);
    assert_true(f->config.check_only);
}

CASE(clocks_become_a_power_of_two)
{
    static const struct {
        char *flag;
        uint32_t count;
    } cases[] = {{"--clocks=0", 0}, /* by capacity, or as the state has it */
                 {"--clocks=1024", 1024},
                 {"--clocks=1025", 2048},
                 {"--clocks=65536", 65536},
                 {"--clocks=16777216", 1u << 24},
                 {"--clocks=8388609", 1u << 24}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(load_flag(f, cases[i].flag), 0);
        assert_int_equal(f->config.clock_count, cases[i].count);
    }
}

CASE(mistakes_are_told_with_line_and_column)
{
    assert_refused(f, "# one\ncapacity: 5000\nlease_ms: 5\n",
                   "3:1: unknown option \"lease_ms\"; etagd.yaml(5) has them all");
    assert_refused(f, "colour: red\n",
                   "1:1: unknown option \"colour\"; etagd.yaml(5) has them all");
    assert_refused(f, "capacity: 12\n",
                   "1:11: \"capacity\" cannot be \"12\"; allowed are whole numbers from 1024 to "
                   "1073741824");
    assert_refused(f, "lease-ms: 60001\n",
                   "1:11: \"lease-ms\" cannot be \"60001\"; allowed are whole numbers from 20 to "
                   "60000");
    assert_refused(f, "\nloop: poll\n",
                   "2:7: \"loop\" cannot be \"poll\"; allowed are auto|uring|epoll");
    assert_refused(f, "socket-mode: 888\n",
                   "1:14: \"socket-mode\" cannot be \"888\"; allowed are octal permissions from 0 "
                   "to 0777");
    assert_refused(f, "capacity: [5000]\n", "1:11: \"capacity\" must be a single value");
    assert_refused(f, "capacity: 5000\ncapacity: 6000\n",
                   "2:1: this name is here for the second time");
    assert_refused(f, "- capacity\n", "1:1: options were expected here, each as \"name: value\"");
    assert_refused(f, "? [a]\n: b\n", "1:3: a name was expected here");
    assert_refused(f, "socket:\n", "1:8: \"socket\" must be a path");
    assert_refused(f, "capacity: 5000\n---\ncapacity: 6000\n",
                   "2:1: a second document is not allowed");
}

CASE(yaml_that_is_none_is_told_with_its_place)
{
    char place[2 * SCRATCH_BYTES + 16];

    assert_int_equal(load_file(f, "capacity: 5000\nloop: [epoll\n"), -1);
    (void)snprintf(place, sizeof(place), "%s:", f->path);
    assert_int_equal(strncmp(f->said, place, strlen(place)), 0);
    assert_true(strchr("23", f->said[strlen(place)]) != NULL);
    assert_int_equal(load_file(f, "capacity: \xff\xfe\n"), -1);
    assert_int_equal(load_file(f, "capacity: *nobody\n"), -1);
    assert_int_equal(load_file(f, "\tcapacity: 5000\n"), -1);
}

CASE(numbers_are_digits_and_stay_in_their_range)
{
    static char *const wrong[] = {
        "--capacity=1023",
        "--capacity=1073741825",
        "--capacity=-5000",
        "--capacity=+5000",
        "--capacity= 5000",
        "--capacity=5000 ",
        "--capacity=",
        "--capacity=0x2000",
        "--capacity=5e3",
        "--clocks=1023",
        "--clocks=1",
        "--clocks=16777217",
        "--capacity=18446744073709556616",
        "--lease-ms=19",
        "--idle-ms=99999999999",
        "--map-mib=18446744073709551615",
    };

    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        if (load_flag(f, wrong[i]) != -1)
            fail_msg("%s is accepted", wrong[i]);
        assert_int_equal(strncmp(f->said, "etagd: --", strlen("etagd: --")), 0);
        assert_non_null(strstr(f->said, "allowed are whole numbers from "));
    }
    assert_int_equal(load_flag(f, "--capacity=1024"), 0);
    assert_int_equal(load_flag(f, "--capacity=1073741824"), 0);
    assert_int_equal(load_flag(f, "--lease-ms=20"), 0);
    assert_int_equal(load_flag(f, "--lease-ms=60000"), 0);
}

CASE(a_socket_path_fits_into_an_address)
{
    char flag[512] = "--socket=";
    const size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

    memset(flag + strlen("--socket="), 'x', max);
    assert_int_equal(load_flag(f, flag), 0);
    assert_int_equal(strlen(f->config.socket_path), max);
    flag[strlen(flag)] = 'x';
    assert_int_equal(load_flag(f, flag), -1);
    assert_string_equal(f->said,
                        "etagd: --socket: \"socket\" is 108 bytes long; at most 107 are allowed\n");
}

CASE(a_file_that_is_named_must_be_there)
{
    char missing[2 * SCRATCH_BYTES];

    scratch_path(missing, f->dir, "missing.yaml");
    assert_int_equal(
        load_catching(f, STDERR_FILENO, (char *[]){"etagd", "--config", missing, NULL}), -1);
    assert_non_null(strstr(f->said, "missing.yaml: cannot be read: No such file or directory"));
    assert_int_equal(load_catching(f, STDERR_FILENO, (char *[]){"etagd", "--config", f->dir, NULL}),
                     -1);
}

CASE(unknown_flags_and_arguments_are_refused)
{
    assert_int_equal(load_flag(f, "--colour=red"), -1);
    assert_non_null(strstr(f->said, "colour"));
    assert_int_equal(load_flag(f, "start"), -1);
    assert_non_null(strstr(f->said, "unexpected argument \"start\""));
    assert_int_equal(load_flag(f, "--capacity"), -1);
    assert_int_not_equal(strlen(f->said), 0);
}

CASE(help_names_every_option_and_version_is_told)
{
    static const char *const names[] = {
        "--socket=PATH", "--state-dir=DIR", "--capacity=N",    "--clocks=N",    "--lease-ms=N",
        "--durability=", "--loop=L",        "--huge-pages=H",  "--pool-mib=N",  "--map-mib=N",
        "--log-level=L", "--idle-ms=N",     "--socket-mode=M", "--config=FILE", "--check-config",
        "--version",     "--role=RULE",     "--relay=R",
    };

    assert_int_equal(load_catching(f, STDOUT_FILENO, (char *[]){"etagd", "--help", NULL}), 1);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (!strstr(f->said, names[i]))
            fail_msg("--help does not name %s", names[i]);
    assert_int_equal(load_catching(f, STDOUT_FILENO, (char *[]){"etagd", "--version", NULL}), 1);
    assert_string_equal(f->said, "etagd " ETAG_VERSION_STRING "\n");
}

/* ---- Roles ---- */

static uint32_t roles_of(const struct config *config, uint32_t uid, uint32_t gid,
                         const uint32_t *groups, size_t group_count)
{
    const struct peer_credentials peer = {
        .pid = 1, .uid = uid, .gid = gid, .groups = groups, .group_count = group_count};

    return config_roles(config, &peer, 77, 65534);
}

#define ROLES_ALL (ROLE_READ | ROLE_FILL | ROLE_MUTATE | ROLE_ADMIN | ROLE_RELAY)

CASE(without_rules_only_root_and_the_daemons_uid_have_roles)
{
    assert_int_equal(load_file(f, ""), 0);
    assert_int_equal(roles_of(&f->config, 0, 0, NULL, 0), ROLES_ALL);
    assert_int_equal(roles_of(&f->config, 77, 5, NULL, 0), ROLES_ALL);
    assert_int_equal(roles_of(&f->config, 1000, 0, NULL, 0), 0);
    assert_int_equal(roles_of(&f->config, 65534, 65534, NULL, 0), 0);
}

CASE(rules_give_roles_by_uid_and_by_any_group)
{
    const uint32_t groups[] = {40, 33, 41};

    assert_int_equal(load_file(f, "roles:\n"
                                  "  read: [gid:33]\n"
                                  "  fill: [\"uid:1000\", gid:33]\n"
                                  "  mutate: uid:1001\n"
                                  "  admin: [group:root, user:root]\n"),
                     0);
    assert_int_equal(roles_of(&f->config, 1000, 1000, NULL, 0), ROLE_FILL);
    assert_int_equal(roles_of(&f->config, 1001, 1001, NULL, 0), ROLE_MUTATE | ROLE_READ);
    assert_int_equal(roles_of(&f->config, 1002, 33, NULL, 0), ROLE_READ | ROLE_FILL);
    assert_int_equal(roles_of(&f->config, 1002, 1002, groups, 3), ROLE_READ | ROLE_FILL);
    assert_int_equal(roles_of(&f->config, 1002, 1002, groups, 1), 0);
    assert_int_equal(roles_of(&f->config, 1000, 1000, groups, 3), ROLE_READ | ROLE_FILL);
    assert_int_equal(roles_of(&f->config, 1002, 0, NULL, 0), ROLE_ADMIN);
    assert_int_equal(roles_of(&f->config, 33, 1002, NULL, 0), 0);
}

CASE(the_overflow_uid_never_has_roles)
{
    const struct peer_credentials peer = {.uid = 65534, .gid = 33};

    assert_int_equal(load_file(f, "roles: {mutate: [all, uid:65534, gid:33]}\n"), 0);
    assert_int_equal(roles_of(&f->config, 1000, 1000, NULL, 0), ROLE_MUTATE | ROLE_READ);
    assert_int_equal(config_roles(&f->config, &peer, 77, 65534), 0);
    assert_int_equal(config_roles(&f->config, &peer, 65534, 65534), 0);
}

CASE(rules_that_name_nobody_are_told)
{
    assert_refused(f, "roles: {read: [all, \"user:no-such-user-here\"]}\n",
                   "1:21: there is no user \"no-such-user-here\" on this machine");
    assert_refused(f, "roles:\n  read: group:no-such-group-here\n",
                   "2:9: there is no group \"no-such-group-here\" on this machine");
    assert_refused(
        f, "roles: {read: [www-data]}\n",
        "1:16: \"www-data\" names no user or group; allowed are user:NAME, group:NAME, uid:N, "
        "gid:N and all");
    assert_refused(f, "roles: {read: [\"uid:4294967295\"]}\n",
                   "1:16: \"uid:\" must be followed by a number from 0 to 4294967294");
    assert_refused(f, "roles: {read: [\"gid:-1\"]}\n",
                   "1:16: \"gid:\" must be followed by a number from 0 to 4294967294");
    assert_refused(f, "roles: {read: [\"user:\"]}\n",
                   "1:16: \"user:\" must be followed by a user name");
    assert_refused(f, "roles: {write: [all]}\n",
                   "1:9: unknown role; roles are read, fill, mutate and admin");
    assert_refused(f, "roles: all\n", "1:8: \"roles\" must be a mapping of roles to lists");
    assert_refused(f, "roles: {read: [[all]]}\n",
                   "1:16: user:NAME, group:NAME, uid:N, gid:N or all was expected here");
}

CASE(roles_may_be_flags_and_then_the_files_do_not_count)
{
    write_file(f, "roles: {admin: [uid:5], read: [uid:6]}\n");
    assert_int_equal(load_catching(f, STDERR_FILENO,
                                   (char *[]){"etagd", "--role=read=gid:33", "--role", "fill=uid:7",
                                              "--config", f->path, "--role=mutate=uid:7", NULL}),
                     0);
    assert_int_equal(roles_of(&f->config, 5, 5, NULL, 0), 0);
    assert_int_equal(roles_of(&f->config, 6, 6, NULL, 0), 0);
    assert_int_equal(roles_of(&f->config, 6, 33, NULL, 0), ROLE_READ);
    assert_int_equal(roles_of(&f->config, 7, 7, NULL, 0), ROLE_FILL | ROLE_MUTATE | ROLE_READ);
    assert_int_equal(load_flag(f, "--role=read"), -1);
    assert_string_equal(f->said, "etagd: --role: \"read\" is not ROLE=WHO; roles are read, fill, "
                                 "mutate and admin\n");
    assert_int_equal(load_flag(f, "--role=write=all"), -1);
    assert_int_equal(load_flag(f, "--role=read=www-data"), -1);
    assert_non_null(strstr(f->said, "etagd: --role: \"www-data\" names no user or group"));
}

/* ---- Reload ---- */

static int reload_file(struct fixture *f, struct config_changes *changes)
{
    struct why why = {""};
    const int r = config_reload(&f->config, changes, &why);

    (void)snprintf(f->said, sizeof(f->said), "%s", why.text);
    return r;
}

static int reload(struct fixture *f, const char *text, struct config_changes *changes)
{
    write_file(f, text);
    return reload_file(f, changes);
}

CASE(a_reload_takes_what_may_change_and_names_the_rest)
{
    struct config_changes changes;
    char *argv[] = {"etagd", "--config", f->path, "--log-level=error", NULL};

    write_file(f, "capacity: 5000\nidle-ms: 1000\nroles: {read: [uid:5, uid:6]}\n");
    assert_int_equal(load_catching(f, STDERR_FILENO, argv), 0);

    assert_int_equal(
        reload(f, "capacity: 5000\nidle-ms: 1000\nroles: {read: [uid:6, uid:5]}\n", &changes), 0);
    assert_string_equal(changes.taken, "");
    assert_string_equal(changes.waiting, "");

    assert_int_equal(reload(f,
                            "capacity: 6000\nidle-ms: 2000\nsocket: /other\nlog-level: debug\n"
                            "socket-mode: 0600\nguard-linger-ms: 500\nroles: {fill: [uid:5]}\n",
                            &changes),
                     0);
    assert_string_equal(changes.taken, "socket-mode idle-ms roles");
    assert_string_equal(changes.waiting, "socket capacity guard-linger-ms");
    assert_int_equal(f->config.idle_ns, 2 * NS_PER_S);
    assert_int_equal(f->config.socket_mode, 0600);
    assert_int_equal(f->config.log_level, LOG_ERROR); /* a flag */
    assert_int_equal(f->config.capacity, 5000);
    assert_int_equal(f->config.linger_ns, 30 * NS_PER_S);
    assert_string_equal(f->config.socket_path, "/run/etagd/etagd.sock");
    assert_int_equal(roles_of(&f->config, 5, 5, NULL, 0), ROLE_FILL);
    assert_int_equal(roles_of(&f->config, 6, 6, NULL, 0), 0);
}

CASE(a_reload_of_a_mistake_changes_nothing)
{
    struct config_changes changes;
    char expected[SAID_BYTES];
    char *argv[] = {"etagd", "--config", f->path, NULL};

    write_file(f, "idle-ms: 1000\nroles: {read: [uid:5]}\n");
    assert_int_equal(load_catching(f, STDERR_FILENO, argv), 0);

    assert_int_equal(
        reload(f, "idle-ms: 2000\nroles: {read: [uid:6]}\nlog_level: warn\n", &changes), -1);
    (void)snprintf(expected, sizeof(expected),
                   "%s:3:1: unknown option \"log_level\"; etagd.yaml(5) has them all", f->path);
    assert_string_equal(f->said, expected);
    assert_int_equal(f->config.idle_ns, NS_PER_S);
    assert_int_equal(roles_of(&f->config, 5, 5, NULL, 0), ROLE_READ);
    assert_int_equal(roles_of(&f->config, 6, 6, NULL, 0), 0);
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(reload_file(f, &changes), -1);
    assert_non_null(strstr(f->said, "cannot be read: No such file or directory"));
}

/* ---- Printing ---- */

CASE(what_is_printed_is_a_file_that_means_the_same)
{
    struct config_changes changes;
    char *argv[] = {"etagd", "--config", f->path, NULL};

    /* With characters that YAML takes for the end of a line, or not at all, where they stand as
     * they are. */
    write_file(
        f,
        "socket: \"/a \\\"b\\\\\\x01\xc3\xa4\\N\\x81\\L\\uFEFF\"\nstate-dir: /d\ncapacity: 5001\n"
        "clocks: 5000\nlease-ms: 100\nguard-linger-ms: 200\n"
        "durability: power\nrelay: required\nloop: epoll\nhuge-pages: off\npool-mib: 3\n"
        "map-mib: 4\nlog-level: debug\nsocket-mode: 0640\nidle-ms: 7\n"
        "roles: {admin: [uid:5, gid:6], fill: all, mutate: uid:5}\n");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(load_catching(f, STDERR_FILENO, argv), 0);
        FILE *file = fopen(f->path, "w");
        assert_non_null(file);
        config_print(&f->config, file);
        fclose(file);
        assert_int_equal(reload_file(f, &changes), 0);
        assert_string_equal(changes.taken, "");
        assert_string_equal(changes.waiting, "");
        write_file(f, ""); /* and with everything as by default */
    }
}

CASE(a_mistake_has_no_bytes_that_a_terminal_obeys)
{
    assert_refused(f, "log-level: \"\\e]0;title\\a\\x9b2J\"\n",
                   "1:12: \"log-level\" cannot be \"?]0;title?\xc2?2J\"; allowed are "
                   "debug|info|warn|error");
    assert_refused(f, "\"\\e[2J\": 1\n",
                   "1:1: unknown option \"?[2J\"; etagd.yaml(5) has them all");
}

CASE(the_number_of_rules_is_bounded_and_one_subject_is_one_rule)
{
    char text[4096] = "roles:\n  read: [uid:0";
    size_t len = strlen(text);

    for (int uid = 1; uid < ROLE_RULES_MAX; uid++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, ",uid:%d", uid);
    (void)snprintf(text + len, sizeof(text) - len, "]\n  fill: [uid:0, uid:5]\n");
    assert_int_equal(load_file(f, text), 0);
    assert_int_equal(f->config.rule_count, ROLE_RULES_MAX);
    assert_int_equal(roles_of(&f->config, 5, 5, NULL, 0), ROLE_READ | ROLE_FILL);
    (void)snprintf(text + len, sizeof(text) - len, ",uid:%d]\n", ROLE_RULES_MAX);
    assert_int_equal(load_file(f, text), -1);
    assert_non_null(strstr(f->said, "more than 64 users and groups have roles"));
}
