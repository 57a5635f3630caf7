/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A question goes to one member after the other until one answers. Only what another member would
 * say too ends it: no right, a wrong password, a question that is none.
 *
 * Who has a user says so first, and sends the token with each question. Tokens end, some servers
 * then close the connection without a word; so whatever looks like it is followed by one new login.
 */
#include "etcd.h"

#include "base64.h"
#include "clocktime.h"
#include "numbers.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#define PASSWORD_BYTES_MAX 1024
#define PATIENCE_MS 2000
#define ATTEMPT_MS_MIN 100
#define STREAM_AGAIN_MS 1000
#define STRANGER_BYTES 160

enum step {
    STEP_IDLE,
    STEP_LOGIN,
    STEP_TXN,
};

struct etcd {
    struct etcd_options options;
    struct etcd_endpoints endpoints;
    struct etcd_http *http;
    size_t at;
    enum step step;
    /* what was asked, until it is answered */
    struct etcd_txn txn;
    size_t endpoints_left;
    bool may_login_again;
    uint32_t patience_ms;
    /* "": none yet */
    char token[ETCD_TOKEN_BYTES_MAX];
    /* the server wants no user */
    bool login_is_off;
    char *watch;
    size_t watch_endpoint;
    uint64_t watch_again_ns;
    /* lines before the first event */
    bool watch_created, woken;
};

/* ---- Open, close ----------------------------------------------------------------------------- */

struct etcd *etcd_close(struct etcd *etcd)
{
    if (!etcd)
        return NULL;
    (void)etcd_http_close(etcd->http);
    etcd_txn_free(&etcd->txn);
    free(etcd->watch);
    explicit_bzero(etcd->token, sizeof(etcd->token));
    free(etcd);
    return NULL;
}

static void cleanup_etcd(struct etcd **etcd)
{
    (void)etcd_close(*etcd);
}

int etcd_open(struct etcd **out, const struct etcd_options *options, struct why *why)
{
    CLEANUP(cleanup_etcd) struct etcd *etcd = calloc(1, sizeof(*etcd));

    *out = NULL;
    if (!etcd)
        return -ENOMEM;
    etcd->options = *options;
    etcd->patience_ms = PATIENCE_MS;
    if (!etcd_endpoints_read(&etcd->endpoints, options->endpoints, why))
        return -EINVAL;
    etcd->at = options->first % etcd->endpoints.count;
    const int r = etcd_http_open(&etcd->http, &options->tls, why);
    if (r == 0)
        *out = take_ptr(etcd);
    return r;
}

int etcd_fd(const struct etcd *etcd)
{
    return etcd_http_fd(etcd->http);
}

int etcd_timeout_ms(const struct etcd *etcd)
{
    return etcd_http_timeout_ms(etcd->http);
}

const char *etcd_endpoint(const struct etcd *etcd)
{
    return etcd->endpoints.urls[etcd->at];
}

void etcd_set_patience(struct etcd *etcd, uint32_t ms)
{
    etcd->patience_ms = ms;
}

/* ---- Sending --------------------------------------------------------------------------------- */

/* Of two fifths a second member still gets its turn in time, and a third one some of it. */
static uint32_t attempt_ms(const struct etcd *etcd)
{
    const uint32_t ms = etcd->endpoints.count > 1 ? etcd->patience_ms / 5 * 2 : etcd->patience_ms;

    return (uint32_t)max_of(ms, ATTEMPT_MS_MIN);
}

static int send_to(struct etcd *etcd, const char *path, bool with_token, etag_str body)
{
    char url[ETCD_URL_BYTES_MAX];
    const struct etcd_request request = {
        .url = url,
        .token = with_token && etcd->token[0] ? etcd->token : NULL,
        .body = body,
        .timeout_ms = attempt_ms(etcd),
    };

    (void)snprintf(url, sizeof(url), "%s%s", etcd_endpoint(etcd), path);
    return etcd_http_send(etcd->http, &request);
}

static bool is_given(const char *text)
{
    return text && *text;
}

/* Read at each login: it may have been mended. */
static bool password_read(const char *path, char out[PASSWORD_BYTES_MAX], struct why *why)
{
    struct stat about;
    CLEANUP(cleanup_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0 || fstat(fd, &about) < 0)
        return why_errno(why, "read the password file", path), false;
    if (!S_ISREG(about.st_mode) || about.st_mode & (S_IROTH | S_IWOTH))
        return why_not(why, "the password file %s can be read by everybody: chmod o= %s", path,
                       path);
    ssize_t len = read(fd, out, PASSWORD_BYTES_MAX - 1);
    if (len < 0)
        return why_errno(why, "read the password file", path), false;
    while (len > 0 && (out[len - 1] == '\n' || out[len - 1] == '\r'))
        len--;
    out[len] = '\0';
    return len > 0 || why_not(why, "the password file %s is empty", path);
}

static int login_send(struct etcd *etcd, struct why *why)
{
    char password[PASSWORD_BYTES_MAX];

    if (!is_given(etcd->options.password_file))
        return why_set(why, "the user %s has no password: set the option password-file",
                       etcd->options.user),
               -EINVAL;
    if (!password_read(etcd->options.password_file, password, why))
        return -EACCES;
    char *const login = etcd_login_write(etcd->options.user, password);
    explicit_bzero(password, sizeof(password));
    if (!login)
        return why_set(why, "the user or the password is no UTF-8, or there is no memory"), -EINVAL;
    const int r = send_to(etcd, "/v3/auth/authenticate", false, str_of(login));
    explicit_bzero(login, strlen(login));
    free(login);
    return r;
}

/* What is due at this member: to log in, or the question. */
static int step_send(struct etcd *etcd, struct why *why)
{
    if (is_given(etcd->options.user) && !etcd->token[0] && !etcd->login_is_off) {
        etcd->step = STEP_LOGIN;
        return login_send(etcd, why);
    }
    etcd->step = STEP_TXN;
    return send_to(etcd, "/v3/kv/txn", true, (etag_str){etcd->txn.text, etcd->txn.len});
}

int etcd_ask(struct etcd *etcd, struct etcd_txn *txn, struct why *why)
{
    const etag_str text = etcd_txn_end(txn);

    etcd_txn_free(&etcd->txn);
    etcd->txn = *txn;
    *txn = (struct etcd_txn){0};
    if (!text.data)
        return why_set(why, "no memory for a question to etcd"), -ENOMEM;
    etcd->endpoints_left = etcd->endpoints.count;
    etcd->may_login_again = is_given(etcd->options.user);
    return step_send(etcd, why);
}

/* ---- Watching -------------------------------------------------------------------------------- */

/* At the member that answers questions, so that both end together. */
static void watch_serve(struct etcd *etcd)
{
    char url[ETCD_URL_BYTES_MAX];
    const uint64_t now_ns = time_ns_of(CLOCK_MONOTONIC);
    const bool open = etcd_http_streams(etcd->http) && etcd->watch_endpoint == etcd->at;

    if (!etcd->watch || open || now_ns < etcd->watch_again_ns || etcd->step != STEP_IDLE)
        return;
    (void)snprintf(url, sizeof(url), "%s/v3/watch", etcd_endpoint(etcd));
    const struct etcd_request request = {
        .url = url,
        .token = etcd->token[0] ? etcd->token : NULL,
        .body = str_of(etcd->watch),
    };
    etcd->watch_again_ns = now_ns + STREAM_AGAIN_MS * NS_PER_MS;
    etcd->watch_endpoint = etcd->at;
    etcd->watch_created = false;
    if (etcd_http_stream(etcd->http, &request) < 0) /* no memory: polls come by themselves */
        etcd->woken = true;
}

/* ---- Answers --------------------------------------------------------------------------------- */

static int ended(struct etcd *etcd, int r)
{
    etcd->step = STEP_IDLE;
    etcd_txn_free(&etcd->txn);
    watch_serve(etcd);
    return r;
}

/* why says already what is wrong with this member. */
static int next_member(struct etcd *etcd, struct why *why)
{
    if (--etcd->endpoints_left == 0) {
        const size_t len = strlen(why->text);
        if (etcd->endpoints.count > 1 && len < sizeof(why->text) - 64)
            (void)snprintf(why->text + len, sizeof(why->text) - len,
                           " (the last of %zu endpoints; none answers)", etcd->endpoints.count);
        return ended(etcd, -ECONNRESET);
    }
    etcd->at = (etcd->at + 1) % etcd->endpoints.count;
    const int r = step_send(etcd, why);
    return r == 0 ? ETCD_E_AGAIN : ended(etcd, r);
}

static int login_again(struct etcd *etcd, struct why *why)
{
    etcd->may_login_again = false;
    etcd->login_is_off = false;
    etcd->token[0] = '\0';
    const int r = step_send(etcd, why);
    return r == 0 ? ETCD_E_AGAIN : ended(etcd, r);
}

/* It wants to know who we are: some releases say so as "unauthenticated", some as a wrong argument.
 */
static bool wants_login(const struct etcd_error *error)
{
    return error->code == ETCD_CODE_UNAUTHENTICATED ||
           (error->code == ETCD_CODE_INVALID_ARGUMENT &&
            (strstr(error->text, "user name is empty") || strstr(error->text, "auth ")));
}

static int error_judge(struct etcd *etcd, const struct etcd_error *error, struct why *why)
{
    const char *const user = is_given(etcd->options.user) ? etcd->options.user : NULL;

    if (wants_login(error) && etcd->may_login_again && etcd->step == STEP_TXN)
        return login_again(etcd, why);
    (void)why_set(why, "etcd at %s: %s", etcd_endpoint(etcd), error->text);
    switch (error->code) {
    case ETCD_CODE_PERMISSION_DENIED:
        (void)why_set(why,
                      "etcd at %s: the user %s has no right on these keys: etcdctl role "
                      "grant-permission ROLE readwrite --prefix=true PREFIX (%s)",
                      etcd_endpoint(etcd), user ? user : "(none)", error->text);
        return ended(etcd, -EACCES);
    case ETCD_CODE_RESOURCE_EXHAUSTED:
        return ended(etcd, strstr(error->text, "larger than max") ? ETCD_E_TOO_LARGE : -ENOSPC);
    case ETCD_CODE_UNAUTHENTICATED:
    case ETCD_CODE_INVALID_ARGUMENT:
    case ETCD_CODE_FAILED_PRECONDITION:
        if (wants_login(error))
            (void)why_set(why, "etcd at %s wants a user: set the options user and password-file",
                          etcd_endpoint(etcd));
        return ended(etcd, -EACCES);
    case ETCD_CODE_NOT_FOUND:
        (void)why_set(why, "%s has no JSON gateway of etcd: etcd 3.4 or later has one",
                      etcd_endpoint(etcd));
        return next_member(etcd, why);
    default:
        return next_member(etcd, why);
    }
}

/* It may be a proxy's page, or a sentence of etcd: its beginning, as it can be printed. */
static int stranger(struct etcd *etcd, const struct etcd_outcome *outcome, struct why *why)
{
    char text[STRANGER_BYTES];
    size_t len = 0;

    for (size_t i = 0; i < outcome->body.len && len < sizeof(text) - 1; i++)
        text[len++] = outcome->body.data[i] < ' ' || outcome->body.data[i] > '~'
                          ? ' '
                          : outcome->body.data[i];
    text[len] = '\0';
    (void)why_set(why, "%s is no etcd with a JSON gateway: it answers with HTTP status %ld%s%s",
                  etcd_endpoint(etcd), outcome->status, len > 0 ? ": " : "", text);
    return next_member(etcd, why);
}

static int login_judge(struct etcd *etcd, const struct etcd_outcome *outcome, struct why *why)
{
    struct etcd_error error;

    if (outcome->status == 200 && etcd_token_read(etcd->token, outcome->body)) {
        const int r = step_send(etcd, why);
        return r == 0 ? ETCD_E_AGAIN : ended(etcd, r);
    }
    if (outcome->status == 200 || !etcd_error_read(&error, outcome->body))
        return stranger(etcd, outcome, why);
    if (error.code == ETCD_CODE_FAILED_PRECONDITION) { /* authentication is not enabled */
        etcd->login_is_off = true;
        const int r = step_send(etcd, why);
        return r == 0 ? ETCD_E_AGAIN : ended(etcd, r);
    }
    if (error.code == ETCD_CODE_INVALID_ARGUMENT) {
        (void)why_set(why, "etcd at %s does not take the user %s with the password in %s: %s",
                      etcd_endpoint(etcd), etcd->options.user, etcd->options.password_file,
                      error.text);
        return ended(etcd, -EACCES);
    }
    return error_judge(etcd, &error, why);
}

static int txn_judge(struct etcd *etcd, const struct etcd_outcome *outcome, struct arena *arena,
                     struct etcd_reply *reply, struct why *why)
{
    struct etcd_error error;
    const char *wrong;

    if (outcome->status == 200) {
        const int r = etcd_reply_read(reply, arena, outcome->body, &wrong);
        if (r == 0)
            return ended(etcd, 0);
        (void)why_set(why, "%s answers what no etcd does: %s", etcd_endpoint(etcd), wrong);
        return r == -EPROTO ? next_member(etcd, why) : ended(etcd, r);
    }
    if (etcd_error_read(&error, outcome->body))
        return error_judge(etcd, &error, why);
    return stranger(etcd, outcome, why);
}

int etcd_take(struct etcd *etcd, struct arena *arena, struct etcd_reply *reply, struct why *why)
{
    struct etcd_outcome outcome;

    if (etcd->step == STEP_IDLE || !etcd_http_take(etcd->http, &outcome))
        return ETCD_E_AGAIN;
    switch (outcome.transport) {
    case ETCD_HTTP_TOO_LARGE:
        (void)why_set(why, "%s answers with more than %u bytes", etcd_endpoint(etcd),
                      ETCD_BODY_BYTES_MAX);
        return ended(etcd, ETCD_E_TOO_LARGE);
    case ETCD_HTTP_EMPTY:
        if (etcd->step == STEP_TXN && etcd->may_login_again)
            return login_again(etcd, why);
        (void)why_set(why, "%s closes the connection without an answer%s", etcd_endpoint(etcd),
                      is_given(etcd->options.user) ? "" : ": it may want a user, or TLS");
        return next_member(etcd, why);
    case ETCD_HTTP_FAILED:
        (void)why_set(why, "cannot ask etcd at %s: %s", etcd_endpoint(etcd), outcome.text);
        return next_member(etcd, why);
    case ETCD_HTTP_ANSWERED:
        break;
    }
    return etcd->step == STEP_LOGIN ? login_judge(etcd, &outcome, why)
                                    : txn_judge(etcd, &outcome, arena, reply, why);
}

int etcd_ask_and_wait(struct etcd *etcd, struct etcd_txn *txn, struct arena *arena,
                      struct etcd_reply *reply, uint32_t ms, struct why *why)
{
    const uint64_t end_ns = time_ns_of(CLOCK_MONOTONIC) + ms * NS_PER_MS;
    int r = etcd_ask(etcd, txn, why);

    if (r < 0)
        return r;
    while ((r = etcd_take(etcd, arena, reply, why)) == ETCD_E_AGAIN) {
        struct pollfd polled = {etcd_fd(etcd), POLLIN, 0};
        const int timeout_ms = etcd_timeout_ms(etcd);
        if (time_ns_of(CLOCK_MONOTONIC) >= end_ns)
            return why_set(why, "no answer from etcd in %u ms", ms), -ETIMEDOUT;
        (void)poll(&polled, 1, timeout_ms < 0 || timeout_ms > 100 ? 100 : timeout_ms);
        etcd_dispatch(etcd);
    }
    return r;
}

/* ---- Waking ---------------------------------------------------------------------------------- */

void etcd_watch(struct etcd *etcd, etag_str from, etag_str to)
{
    static const char text[] = "{\"create_request\":{\"key\":\"%s\",\"range_end\":\"%s\","
                               "\"filters\":[\"NODELETE\"]}}";
    const size_t len = sizeof(text) + BASE64_BYTES(from.len) + BASE64_BYTES(to.len);
    CLEANUP(cleanup_free) char *from64 = calloc(1, BASE64_BYTES(from.len) + 1);
    CLEANUP(cleanup_free) char *to64 = calloc(1, BASE64_BYTES(to.len) + 1);

    free(etcd->watch);
    etcd->watch = malloc(len);
    if (!etcd->watch || !from64 || !to64) { /* polls come by themselves */
        free(take_ptr(etcd->watch));
        return;
    }
    base64_encode(from64, from);
    base64_encode(to64, to);
    (void)snprintf(etcd->watch, len, text, from64, to64);
    watch_serve(etcd);
}

void etcd_dispatch(struct etcd *etcd)
{
    etcd_http_dispatch(etcd->http);
    uint64_t lines = etcd_http_lines(etcd->http);
    if (lines > 0 && !etcd->watch_created) { /* that it is open */
        etcd->watch_created = true;
        lines--;
    }
    etcd->woken |= lines > 0;
    watch_serve(etcd);
}

bool etcd_woken(struct etcd *etcd)
{
    const bool woken = etcd->woken;

    etcd->woken = false;
    return woken;
}
