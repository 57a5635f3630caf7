/* SPDX-License-Identifier: Apache-2.0 */
#include "client_fixture.h"

struct fixture *client_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    fake_init(&f->daemon);
    ETAG_INIT(&f->options);
    f->options.socket_path = f->daemon.path;
    f->options.connect_timeout_ms = f->options.timeout_ms = 5000;
    ETAG_INIT(&f->key);
    f->key.resource = (etag_resource){ETAG_LIT("a.example"), ETAG_LIT("/uploads/42")};
    f->key.scope.kind = ETAG_SCOPE_PUBLIC;
    ETAG_INIT(&f->request);
    f->request.method = ETAG_LIT("GET");
    f->request.key = &f->key;
    f->request.fields = f->asked;
    etag_entry_init(&f->response);
    f->response.fields = f->fields;
    f->response.surrogates = f->surrogates;
    f->surrogates[0] = ETAG_LIT("upload:42");
    f->surrogates[1] = ETAG_LIT("customer:7");
    ETAG_INIT(&f->answer);
    ETAG_INIT(&f->targets);
    f->targets.surrogates = f->surrogates;
    f->targets.surrogate_count = 1;
    ETAG_INIT(&f->receipt);
    *state = f;
    return f;
}

int client_teardown(void **state)
{
    struct fixture *f = *state;

    etag_guard_forget(f->guard);
    f->client = etag_client_close(f->client);
    fake_spool_remove(&f->spool);
    fake_deinit(&f->daemon);
    free(f);
    return 0;
}

void client_open(struct fixture *f)
{
    assert_int_equal(etag_client_open(&f->client, &f->options), ETAG_OK);
    assert_non_null(f->client);
}

void client_start(struct fixture *f)
{
    fake_start(&f->daemon, true);
    client_open(f);
}

void client_restart_daemon(struct fixture *f)
{
    fake_kill(&f->daemon);
    f->daemon.incarnation_id++;
    fake_start(&f->daemon, true);
}

void client_ask(struct fixture *f, const char *name, const char *value)
{
    assert_true(f->request.field_count < FIXTURE_FIELDS_MAX);
    f->asked[f->request.field_count++] = (etag_field){str_of(name), str_of(value)};
}

void client_field(struct fixture *f, const char *name, const char *value)
{
    assert_true(f->response.field_count < FIXTURE_FIELDS_MAX);
    f->fields[f->response.field_count++] = (etag_field){str_of(name), str_of(value)};
}

int client_precheck(struct fixture *f)
{
    return etag_precheck(f->client, &f->request, etag_token_now(f->client), &f->answer);
}

int client_finish(struct fixture *f)
{
    return etag_finish(f->client, &f->request, &f->response, &f->answer);
}

void client_expect_sent(struct fixture *f, int fills, int retires)
{
    etag_targets targets;

    ETAG_INIT(&targets);
    targets.everything = true;
    assert_int_equal(etag_invalidate(f->client, &targets, NULL), ETAG_OK);
    assert_int_equal(fake_get(&f->daemon, fills) - f->fills, fills);
    assert_int_equal(fake_get(&f->daemon, retires) - f->retires, retires);
    f->fills += fills;
    f->retires += retires;
}

void client_expect_text(const struct fixture *f, const char *part)
{
    if (!strstr(etag_client_error(f->client), part))
        fail_msg("\"%s\" is not in \"%s\"", part, etag_client_error(f->client));
}

struct hash128 client_fingerprint(const struct fixture *f)
{
    struct key key;

    assert_null(key_canonicalize(&key, &f->key));
    return key_fingerprint(index_view(f->daemon.index)->header->hash_key, &key);
}

void client_store(struct fixture *f, struct index_entry entry)
{
    struct index_evicted evicted;

    entry.fingerprint = client_fingerprint(f);
    assert_int_equal(index_put(f->daemon.index, &entry, time_coarse_ns(), &evicted), INDEX_STORED);
}

void client_store_etag(struct fixture *f, const char *etag, uint64_t fill_lsn)
{
    client_store(f, (struct index_entry){.fill_lsn = fill_lsn,
                                         .expires_ns = UINT64_MAX,
                                         .last_modified = ETAG_NO_DATE,
                                         .etag = str_of(etag)});
}

void client_loop_once(struct fixture *f, int ms_max)
{
    struct pollfd p = {.fd = etag_client_fd(f->client), .events = etag_client_events(f->client)};
    const int ms = etag_client_timeout_ms(f->client);

    assert_true(poll(&p, 1, ms < 0 || ms > ms_max ? ms_max : ms) >= 0);
    (void)etag_client_dispatch(f->client);
}

int client_greet_only(struct fixture *f)
{
    const struct reply hello = {.id = 1,
                                .kind = REPLY_HELLO,
                                .hello = {.protocol = PROTOCOL_VERSION, .roles = ROLE_MUTATE}};

    fake_start(&f->daemon, false);
    f->options.no_wait = true;
    client_open(f);
    const int fd = accept4(f->daemon.listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    fake_send(fd, &hello, NULL, 0);
    client_loop_until_ready(f);
    return fd;
}

void client_loop_until_ready(struct fixture *f)
{
    for (int i = 0; i < 1000 && f->client->channel.state != CHANNEL_READY; i++)
        client_loop_once(f, 5000);
    assert_int_equal(f->client->channel.state, CHANNEL_READY);
}
