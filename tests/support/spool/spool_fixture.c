/* SPDX-License-Identifier: Apache-2.0 */
#include "spool_fixture.h"

char *path_of(const struct fixture *f, const char *name)
{
    static char path[PATH_BYTES_MAX * 2];

    snprintf(path, sizeof(path), "%s/%s", f->spool->dir.path, name);
    return path;
}

bool there(const struct fixture *f, const char *name)
{
    struct stat st;

    return lstat(path_of(f, name), &st) == 0;
}

void open_spool(struct fixture *f, uint64_t lease_ns)
{
    struct why why;

    if (spool_open(f->spool, &f->config, lease_ns, &f->limit, &f->arena, &why) < 0)
        fail_msg("%s", why.text);
}

int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    if (!f)
        return -1;
    scratch_make(f->scratch);
    f->spool = calloc(1, sizeof(*f->spool));
    f->config.linger_ns = NS_PER_S;
    f->config.socket_mode = 0666;
    snprintf(f->config.socket_path, sizeof(f->config.socket_path), "%s/etagd.sock", f->scratch);
    snprintf(f->config.state_dir, sizeof(f->config.state_dir), "%s/state", f->scratch);
    f->log = (struct log){.fd = open("/dev/null", O_WRONLY | O_CLOEXEC), .least = LOG_ERROR};
    log_limit_init(&f->limit, &f->log);
    arena_init(&f->arena, ARENA_BYTES_MAX);
    f->safe_at_once = true;
    open_spool(f, NS_PER_S);
    *state = f;
    return 0;
}

int teardown(void **state)
{
    struct fixture *f = *state;

    spool_close(f->spool);
    arena_deinit(&f->arena);
    log_limit_deinit(&f->limit);
    close(f->log.fd);
    scratch_remove(f->scratch);
    free(f->spool);
    free(f);
    return 0;
}

int apply(void *ctx, const struct request *request, uint32_t uid, struct spool_slot slot)
{
    struct fixture *f = ctx;
    const etag_targets *targets = request->kind == REQUEST_INVALIDATE ? &request->targets
                                                                      : &request->guard.targets;
    struct seen seen = {request->kind, targets->everything, uid, slot, ""};

    if (f->answer != 0 && !targets->everything)
        return f->answer;
    if (targets->surrogate_count > 0)
        snprintf(seen.surrogate, sizeof(seen.surrogate), "%.*s", (int)targets->surrogates[0].len,
                 targets->surrogates[0].data);
    assert_true(f->seen_count < SEEN_MAX);
    f->seen[f->seen_count++] = seen;
    if (f->safe_at_once)
        spool_file_done(f->spool, slot);
    return 0;
}

void scan(struct fixture *f)
{
    const struct spool_reader reader = {apply, f};

    assert_int_equal(spool_scan(f->spool, &reader), 0);
}

void put(const struct fixture *f, const char *name, const void *bytes, size_t len)
{
    const int fd = open(path_of(f, name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

void put_request(const struct fixture *f, const char *name, enum request_kind kind,
                 const char *surrogate)
{
    struct buffer frame = {0};
    struct request request = {.id = 1, .kind = kind};
    const etag_str key = str_of(surrogate);
    etag_targets targets;

    ETAG_INIT(&targets);
    targets.surrogates = &key;
    targets.surrogate_count = 1;
    if (kind == REQUEST_INVALIDATE) {
        request.targets = targets;
    } else {
        request.guard.id = (struct guard_id){1, 1};
        request.guard.targets = targets;
    }
    assert_int_equal(request_encode(&frame, &request), 0);
    put(f, name, frame.bytes, frame.len);
    buffer_deinit(&frame);
}
