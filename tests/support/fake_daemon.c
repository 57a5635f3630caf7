/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_daemon.h"

void fake_send(int fd, const struct reply *reply, const int *fds, size_t fd_count)
{
    struct buffer out = {0};

    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control = {0};
    assert_int_equal(reply_encode(&out, reply), 0);
    struct iovec io = {out.bytes, out.len};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
    if (fd_count > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
    }
    (void)!sendmsg(fd, &message, MSG_NOSIGNAL);
    buffer_deinit(&out);
}

int fake_memory(size_t bytes, unsigned seals)
{
    const int fd = memfd_create("fake", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void fake_hello(struct fake_daemon *d, int fd, const struct request *request)
{
    const enum fake_mood mood = fake_get(d, mood);
    struct reply reply = {.id = request->id, .kind = REPLY_HELLO};
    int fds[4];
    size_t n = 0;

    __atomic_add_fetch(&d->hellos, 1, __ATOMIC_SEQ_CST);
    if (mood == FAKE_REFUSES_HELLO) {
        reply.kind = REPLY_ERROR;
        reply.error.code = WIRE_ERROR_VERSION;
        reply.error.text = ETAG_LIT("this daemon speaks protocol 77");
        fake_send(fd, &reply, NULL, 0);
        return;
    }
    reply.hello.protocol = mood == FAKE_OTHER_VERSION ? 77 : PROTOCOL_VERSION;
    reply.hello.software = ETAG_LIT("etagd 9.9");
    reply.hello.roles = d->roles;
    reply.hello.clock_ns = time_coarse_ns() + (uint64_t)d->clock_shift_ns;
    reply.hello.lease_ns = FAKE_LEASE_NS;
    reply.hello.incarnation_id = d->incarnation_id;
    reply.hello.spool_id = d->spool_id;
    reply.hello.linger_ns = d->linger_ns;
    const int unsealed = mood == FAKE_UNSEALED ? fake_memory(index_bytes(d->index), 0) : -1;
    if (d->roles & ROLE_READ) {
        reply.hello.index_bytes = index_bytes(d->index);
        reply.hello.counters_bytes = COUNTERS_BYTES;
        fds[n++] = unsealed >= 0 ? unsealed : index_fd(d->index);
        if (d->counters_fd >= 0)
            close(d->counters_fd);
        d->counters_fd = fake_memory(COUNTERS_BYTES, F_SEAL_SHRINK | F_SEAL_GROW);
        if (mood != FAKE_FEW_FDS)
            fds[n++] = d->counters_fd;
        if (mood == FAKE_MANY_FDS)
            fds[n++] = d->counters_fd;
    }
    fake_send(fd, &reply, fds, n);
    if (unsealed >= 0)
        close(unsealed);
}

static void fake_count(struct fake_daemon *d, const struct request *request)
{
    int *const counts[] = {[REQUEST_INVALIDATE] = &d->invalidations,
                           [REQUEST_GUARD_BEGIN] = &d->begins,
                           [REQUEST_GUARD_CONFIRM] = &d->confirms,
                           [REQUEST_GUARD_COMMIT] = &d->commits,
                           [REQUEST_GUARD_ABORT] = &d->aborts};
    const bool is_guard = request->kind != REQUEST_INVALIDATE;
    const etag_targets *targets = is_guard ? &request->guard.targets : &request->targets;

    if (is_guard)
        fake_set(d, last_guard_low, request->guard.id.low);
    fake_set(d, last_surrogate_count, (int)targets->surrogate_count);
    fake_set(d, last_hold_ms, targets->hold_ms);
    __atomic_add_fetch(counts[request->kind], 1, __ATOMIC_SEQ_CST);
}

static void text_keep(char *out, size_t out_bytes, etag_str text)
{
    (void)snprintf(out, out_bytes, "%.*s", (int)text.len, text.data ? text.data : "");
}

static void fake_error(int fd, uint64_t id, enum wire_error code)
{
    const struct reply reply = {
        .id = id, .kind = REPLY_ERROR, .error = {code, ETAG_LIT("as the test says")}};

    fake_send(fd, &reply, NULL, 0);
}

static void fake_relay_hello(struct fake_relay *relay, int fd, const struct request *request)
{
    const struct reply reply = {.id = request->id,
                                .kind = REPLY_RELAY_HELLO,
                                .relay_hello = {.cursor = relay->cursor,
                                                .log_id = relay->log_id,
                                                .incarnation = FAKE_INCARNATION,
                                                .mode = RELAY_REQUIRED}};
    const struct reply publish = {
        .kind = REPLY_RELAY_PUBLISH,
        .relay_publish = {.token = relay->publish_token, .targets = relay->publish}};

    relay->l_net_ms = request->relay_hello.l_net_ms;
    if (relay->refuse_hello)
        fake_error(fd, request->id, relay->refuse_hello);
    else
        fake_send(fd, &reply, NULL, 0);
    if (!relay->refuse_hello && relay->publish_token != 0)
        fake_send(fd, &publish, NULL, 0);
    __atomic_add_fetch(&relay->relay_hellos, 1, __ATOMIC_SEQ_CST);
}

static void fake_relay_batch(struct fake_relay *relay, int fd, const struct request *request)
{
    const struct relay_batch *batch = &request->relay_batch;
    const struct reply receipt = {
        .id = request->id,
        .kind = REPLY_RECEIPT,
        .receipt = {.lsn = 1, .reach = ETAG_REACH_HOST, .proof = ETAG_PROOF_DAEMON}};

    relay->last_hold_ms = batch->targets_count > 0 ? batch->targets[0].hold_ms : 0;
    relay->part_targets[relay->parts % 16] = batch->targets_count;
    if (batch->targets_count > 0)
        relay->part_positions[relay->parts % 16] =
            batch->targets[batch->targets_count - 1].position;
    text_keep(relay->part_writers[relay->parts % 16], sizeof(relay->part_writers[0]),
              batch->writers);
    if (!batch->more) {
        relay->last_everything = batch->everything;
        relay->last_member = batch->member;
        text_keep(relay->last_reason, sizeof(relay->last_reason), batch->reason);
        relay->last_cursor_len = batch->cursor.len < 64 ? batch->cursor.len : 64;
        memcpy(relay->last_cursor, batch->cursor.data, relay->last_cursor_len);
    }
    if (relay->refuse_batch)
        fake_error(fd, request->id, relay->refuse_batch);
    else if (!relay->no_receipt)
        fake_send(fd, &receipt, NULL, 0);
    __atomic_add_fetch(&relay->parts, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&relay->batches, !batch->more, __ATOMIC_SEQ_CST);
}

static void fake_relay_done(struct fake_relay *relay, const struct request *request)
{
    relay->last_done_token = request->relay_done.token;
    relay->last_outcome = request->relay_done.outcome;
    text_keep(relay->last_text, sizeof(relay->last_text), request->relay_done.text);
    __atomic_add_fetch(&relay->dones, 1, __ATOMIC_SEQ_CST);
}

/* False: it is no message of a relay. */
static bool fake_relay_answer(struct fake_daemon *d, int fd, const struct request *request)
{
    if (request->kind == REQUEST_RELAY_HELLO)
        fake_relay_hello(&d->relay, fd, request);
    else if (request->kind == REQUEST_RELAY_BATCH)
        fake_relay_batch(&d->relay, fd, request);
    else if (request->kind == REQUEST_RELAY_DONE)
        fake_relay_done(&d->relay, request);
    else
        return false;
    return true;
}

/* False: the connection is to be closed. */
static bool fake_answer(struct fake_daemon *d, int fd, const struct request *request)
{
    struct reply reply = {.id = request->id};

    if (request->kind == REQUEST_HELLO) {
        fake_hello(d, fd, request);
        return true;
    }
    if (fake_relay_answer(d, fd, request))
        return true;
    if (request->kind == REQUEST_FILL) {
        fake_set(d, last_fill_lsn, request->fill.token.lsn);
        fake_set(d, last_surrogate_count, (int)request->fill.entry.surrogate_count);
        __atomic_add_fetch(request->fill.gone ? &d->retires : &d->fills, 1, __ATOMIC_SEQ_CST);
        if (!request->fill.want_verdict)
            return true;
        reply.kind = REPLY_FILL;
        reply.fill.reason = d->fill_reason;
        reply.fill.lsn = request->fill.token.lsn;
    } else {
        fake_count(d, request);
        reply.kind = REPLY_RECEIPT;
        reply.receipt.lsn = ++d->lsn;
        reply.receipt.reach = ETAG_REACH_HOST;
        reply.receipt.proof = ETAG_PROOF_DAEMON;
    }
    switch (fake_get(d, mood)) {
    case FAKE_SILENT:
        return true;
    case FAKE_CLOSES_ONCE:
        fake_set(d, mood, FAKE_ANSWERS);
        return false;
    case FAKE_CLOSES_ALWAYS:
        return false;
    case FAKE_SENDS_AWAY:
        fake_set(d, mood, FAKE_ANSWERS);
        reply = (struct reply){.kind = REPLY_ERROR, .error = {WIRE_ERROR_SLOW, ETAG_LIT("idle")}};
        fake_send(fd, &reply, NULL, 0);
        return false;
    case FAKE_SAYS_MALFORMED:
        reply = (struct reply){.kind = REPLY_ERROR,
                               .error = {WIRE_ERROR_MALFORMED, ETAG_LIT("what?")}};
        fake_send(fd, &reply, NULL, 0);
        return false;
    case FAKE_REFUSES:
        reply.kind = REPLY_ERROR;
        reply.error.code = WIRE_ERROR_STORE;
        reply.error.text = ETAG_LIT("the disk is full");
        break;
    case FAKE_BUSY:
    case FAKE_DENIES:
        reply.kind = REPLY_ERROR;
        reply.error.code = fake_get(d, mood) == FAKE_BUSY ? WIRE_ERROR_BUSY : WIRE_ERROR_DENIED;
        reply.error.text = ETAG_LIT("not now");
        break;
    case FAKE_SLOW:
        poll(NULL, 0, fake_get(d, late_ms));
        break;
    case FAKE_TWO_RECEIPTS:
        reply.receipt.more = true;
        fake_send(fd, &reply, NULL, 0);
        poll(NULL, 0, fake_get(d, late_ms));
        reply.receipt.more = false;
        reply.receipt.reach = ETAG_REACH_EVERYWHERE;
        reply.receipt.proof = ETAG_PROOF_ACKNOWLEDGED;
        break;
    case FAKE_NONSENSE:
        (void)!send(fd, "\0\0\0\0\0\0", 6, MSG_NOSIGNAL);
        return true;
    case FAKE_MANY_FDS: {
        const int extra[2] = {d->counters_fd, d->counters_fd};
        fake_send(fd, &reply, extra, 2);
        return true;
    }
    default:
        break;
    }
    fake_send(fd, &reply, NULL, 0);
    return true;
}

static void fake_drop(struct fake_daemon *d, int i)
{
    close(d->peers[i]);
    d->peers[i] = -1;
    d->in[i].len = 0;
}

static void fake_read(struct fake_daemon *d, int i)
{
    struct buffer *in = &d->in[i];
    etag_str payload;

    if (buffer_reserve(in, 65536) < 0)
        abort();
    const ssize_t n = recv(d->peers[i], in->bytes + in->len, 65536, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        fake_drop(d, i);
        return;
    }
    in->len += (size_t)n;
    while (frame_next((etag_str){(char *)in->bytes, in->len}, &payload) == 1) {
        struct arena arena;
        struct request request;
        arena_init(&arena, ARENA_BYTES_MAX);
        const char *wrong = request_decode(&request, &arena, payload);
        const bool keep = !wrong && fake_answer(d, d->peers[i], &request);
        arena_deinit(&arena);
        if (!keep) {
            fake_drop(d, i);
            return;
        }
        const size_t used = FRAME_HEADER_BYTES + payload.len;
        in->len -= used;
        memmove(in->bytes, in->bytes + used, in->len);
    }
}

static void *fake_run(void *context)
{
    struct fake_daemon *d = context;

    for (;;) {
        struct pollfd p[2 + FAKE_PEERS_MAX] = {{.fd = d->stop[0], .events = POLLIN},
                                               {.fd = d->listener, .events = POLLIN}};
        for (int i = 0; i < FAKE_PEERS_MAX; i++)
            p[2 + i] = (struct pollfd){.fd = d->peers[i], .events = POLLIN};
        poll(p, 2 + FAKE_PEERS_MAX, -1);
        if (p[0].revents)
            return NULL;
        for (int i = 0; i < FAKE_PEERS_MAX; i++)
            if (p[2 + i].revents)
                fake_read(d, i);
        for (int i = 0; p[1].revents && i < FAKE_PEERS_MAX; i++) {
            if (d->peers[i] >= 0)
                continue;
            d->peers[i] = accept4(d->listener, NULL, NULL, SOCK_CLOEXEC);
            __atomic_add_fetch(&d->connections, 1, __ATOMIC_SEQ_CST);
            break;
        }
    }
}

struct index *fake_index(uint64_t incarnation_id)
{
    struct index *index;
    const struct index_options options = {
        .plan = {.capacity = CAPACITY_MIN, .clock_count = CLOCKS_MIN, .pool_bytes = 0},
        .incarnation = 1,
        .incarnation_id = incarnation_id,
        .hash_key = "0123456789abcde",
        .lease_ns = FAKE_LEASE_NS};

    assert_int_equal(index_open(&index, &options), 0);
    return index;
}

void fake_start(struct fake_daemon *d, bool running)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(address.sun_path, d->path, sizeof(d->path));
    d->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(d->listener >= 0);
    unlink(d->path);
    assert_int_equal(bind(d->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(d->listener, 64), 0);
    d->index = fake_index(d->incarnation_id);
    shm_lsn_store(index_view(d->index), 100);
    shm_lease_store(index_view(d->index), time_coarse_ns() + FAKE_LEASE_NS);
    for (int i = 0; i < FAKE_PEERS_MAX; i++)
        d->peers[i] = -1;
    d->running = false;
    if (running) {
        assert_int_equal(pipe2(d->stop, O_CLOEXEC), 0);
        assert_int_equal(pthread_create(&d->thread, NULL, fake_run, d), 0);
        d->running = true;
    }
}

void fake_continue(struct fake_daemon *d)
{
    assert_int_equal(pipe2(d->stop, O_CLOEXEC), 0);
    assert_int_equal(pthread_create(&d->thread, NULL, fake_run, d), 0);
    d->running = true;
}

void fake_init(struct fake_daemon *d)
{
    *d = (struct fake_daemon){.listener = -1,
                              .counters_fd = -1,
                              .incarnation_id = FAKE_INCARNATION,
                              .linger_ns = 30 * NS_PER_S,
                              .roles = ROLE_READ | ROLE_FILL | ROLE_MUTATE};
    snprintf(d->dir, sizeof(d->dir), "/tmp/etag-test-XXXXXX");
    assert_non_null(mkdtemp(d->dir));
    snprintf(d->path, sizeof(d->path), "%s/etagd.sock", d->dir);
}

void fake_kill(struct fake_daemon *d)
{
    if (d->running) {
        assert_int_equal(write(d->stop[1], "", 1), 1);
        pthread_join(d->thread, NULL);
        close(d->stop[0]);
        close(d->stop[1]);
        d->running = false;
    }
    for (int i = 0; i < FAKE_PEERS_MAX; i++) {
        if (d->peers[i] >= 0)
            fake_drop(d, i);
        buffer_deinit(&d->in[i]);
        d->in[i] = (struct buffer){0};
    }
    if (d->listener >= 0)
        close(d->listener);
    d->listener = -1;
    d->index = index_close(d->index);
}

void fake_deinit(struct fake_daemon *d)
{
    if (d->listener >= 0)
        fake_kill(d);
    if (d->counters_fd >= 0)
        close(d->counters_fd);
    unlink(d->path);
    rmdir(d->dir);
}

int open_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}
