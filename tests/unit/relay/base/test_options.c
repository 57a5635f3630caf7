/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include "scratch.h"
#include "testing.h"

struct fixture {
    char dir[SCRATCH_BYTES];
    char path[2 * SCRATCH_BYTES];
    /* the options point into it */
    char *argv[16];
    struct options options;
};

static int set_up(void **state)
{
    struct fixture *const f = calloc(1, sizeof(*f));

    assert_non_null(f);
    scratch_make(f->dir);
    scratch_path(f->path, f->dir, "etag-relay.yaml");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *const f = *state;

    scratch_remove(f->dir);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, set_up, tear_down)

static int load(struct fixture *f, const char *text, char *more[], int more_count)
{
    static char program[] = "etag-relay", config[] = "--config";
    FILE *file = fopen(f->path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    f->argv[0] = program;
    f->argv[1] = config;
    f->argv[2] = f->path;
    for (int i = 0; i < more_count; i++)
        f->argv[3 + i] = more[i];
    return options_load(&f->options, 3 + more_count, f->argv);
}

CASE(defaults_file_and_flags_in_this_order)
{
    char *flags[] = {(char[]){"--host=web-3"}};

    assert_int_equal(
        load(f, "host: web-2\nconnection: dbname=shop\nretention-minutes: 10\n", flags, 1), 0);
    assert_string_equal(f->options.host, "web-3");
    assert_string_equal(f->options.connection, "dbname=shop");
    assert_int_equal(f->options.retention_ms, 600000);
    assert_string_equal(f->options.socket_path, "/run/etagd/etagd.sock");
    assert_null(f->options.command);
}

/* The kernel's name: never none, which would be one name for all. */
CASE(a_host_has_a_name)
{
    assert_int_equal(load(f, "host: \"\"\n", NULL, 0), 0);
    assert_true(strlen(f->options.host) > 0);
}

CASE(mistakes_are_refused)
{
    static const char *const texts[] = {
        "colour: red\n",  "roles:\n  relay: [all]\n", "retention-minutes: 4\n", "engine: etcd\n",
        "socket: \"\"\n", "host: [a, b]\n",           "host: a\nhost: b\n",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(load(f, texts[i], NULL, 0), -1);
}

CASE(etcd_has_a_list_of_members)
{
    assert_int_equal(load(f,
                          "engine: etcd\nendpoints: [\"http://a:1\", https://b:2]\nprefix: x/\n"
                          "user: u\npassword-file: /p\n",
                          NULL, 0),
                     0);
    assert_string_equal(f->options.endpoints, "http://a:1,https://b:2");
    const struct engine_options given = options_of_engine(&f->options);
    assert_string_equal(given.connection, "http://a:1,https://b:2");
    assert_string_equal(given.prefix, "x/");
    assert_string_equal(given.password_file, "/p");
    assert_ptr_equal(options_engine_kind(&f->options), &engine_etcd);
    assert_int_equal(load(f, "engine: etcd\nendpoints: http://a:1,http://b:2\n", NULL, 0), 0);
}

CASE(what_does_not_go_together)
{
    static const char *const texts[] = {
        "endpoints: [http://a:1]\n",
        "engine: etcd\nendpoints: []\n",
        "engine: etcd\nendpoints: [a]\n",
        "engine: etcd\nendpoints: [\"http://a,http://b\"]\n",
        "engine: etcd\nendpoints: [[http://a]]\n",
        "engine: etcd\nendpoints: {a: http://a}\n",
        "engine: etcd\nendpoints: http://a\nconnection: dbname=x\n",
        "engine: etcd\nendpoints: http://a\nprefix: x\n",
        "engine: etcd\nendpoints: http://a\nprefix: \"\"\n",
        "engine: etcd\nendpoints: http://a\nprefix: \"a b/\"\n",
        "engine: etcd\nendpoints: http://a\nuser: u\n",
        "engine: etcd\nendpoints: http://a\npassword-file: /p\n",
        "engine: etcd\nendpoints: http://a\ncert-file: /c\n",
        "engine: etcd\nendpoints: http://a\nkey-file: /k\n",
        "connection: [a, b]\n",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(load(f, texts[i], NULL, 0), -1);
}

/* What stands behind a command is the command's own. */
CASE(a_command_keeps_its_arguments)
{
    char *words[] = {(char[]){"leave"}, (char[]){"web-3"}, (char[]){"--help"}};

    assert_int_equal(load(f, "", words, 3), 0);
    assert_string_equal(f->options.command, "leave");
    assert_int_equal(f->options.command_argc, 3);
    assert_string_equal(f->options.command_argv[2], "--help");
}
