/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proof that a lookup makes no system call: the kernel kills a process under strict seccomp at the
 * first one that is not read, write, exit or sigreturn. Run with a socket and a key:
 *
 *   seccomp_check SOCKET KEY    KEY is [//host]/path[?query], public scope
 *
 * Opens a client on the real library, fills the key if the cache does not know it, goes strict, and
 * then checks, takes tokens and evaluates a thousand times each. The last verdict is written;
 * status 0 if all verdicts were 304, 1 if not, 2 if it could not begin. Killed by SIGKILL: there
 * was a system call.
 */
#include <etag/etag.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROUNDS 1000
#define TAG "\"seccomp\""

static int failed(const char *what, const char *why)
{
    fprintf(stderr, "seccomp_check: %s: %s\n", what, why);
    return 2;
}

/* "//host/path" has a host, "/path" has none. */
static etag_resource resource_of(const char *text)
{
    const char *path = strncmp(text, "//", 2) == 0 ? strchr(text + 2, '/') : text;
    etag_resource resource = {.target = etag_str_of(path)};

    if (path && path != text)
        resource.host = (etag_str){text + 2, (size_t)(path - text) - 2};
    return resource;
}

static etag_status fill(etag_client *client, const etag_key *key)
{
    etag_entry entry;

    etag_entry_init(&entry);
    entry.key = key;
    entry.etag = ETAG_LIT(TAG);
    const etag_field fields[] = {
        {ETAG_LIT("Cache-Control"), ETAG_LIT("max-age=60, must-revalidate")},
        {ETAG_LIT("Date"), ETAG_LIT("Sun, 06 Nov 1994 08:49:37 GMT")},
        {ETAG_LIT("Expires"), ETAG_LIT("Sun, 06 Nov 1994 08:50:37 GMT")}};
    entry.fields = fields;
    entry.field_count = sizeof(fields) / sizeof(fields[0]);
    return etag_fill_wait(client, etag_token_now(client), &entry, NULL);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return failed("usage", "seccomp_check SOCKET KEY");

    etag_client_options options;
    ETAG_INIT(&options);
    options.socket_path = argv[1];
    options.connect_timeout_ms = options.timeout_ms = 5000;
    etag_client *client;
    if (etag_client_open(&client, &options) != ETAG_OK)
        return failed("cannot open a client", argv[1]);

    etag_key key;
    ETAG_INIT(&key);
    key.resource = resource_of(argv[2]);
    key.scope.kind = ETAG_SCOPE_PUBLIC;
    etag_request request;
    ETAG_INIT(&request);
    request.method = ETAG_LIT("GET");
    request.key = &key;
    /* Whatever the entity tag is, if somebody else filled the key. */
    const etag_field any = {ETAG_LIT("If-None-Match"), ETAG_LIT("*")};
    request.fields = &any;
    request.field_count = 1;
    etag_answer answer;
    ETAG_INIT(&answer);
    if (etag_check(client, &request, etag_token_now(client), &answer) == ETAG_UNKNOWN &&
        fill(client, &key) != ETAG_OK)
        return failed("cannot fill", etag_client_error(client));
    etag_validators validators;
    etag_validators_init(&validators);
    validators.existence = ETAG_EXISTS;
    validators.etag = ETAG_LIT(TAG);

    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
        return failed("cannot go strict", "prctl");

    int status = 0;
    for (int i = 0; i < ROUNDS; i++) {
        const etag_token token = etag_token_now(client);
        if (etag_check(client, &request, token, &answer) != ETAG_NOT_MODIFIED ||
            answer.field_count == 0 || token.incarnation == 0 ||
            etag_evaluate(&request, &validators) != ETAG_NOT_MODIFIED) {
            status = 1;
            break;
        }
    }
    const char *verdict = etag_verdict_word(answer.verdict);
    const char *reason = etag_reason_word(answer.reason);
    syscall(SYS_write, 1, verdict, strlen(verdict));
    syscall(SYS_write, 1, " ", 1);
    syscall(SYS_write, 1, reason, strlen(reason));
    syscall(SYS_write, 1, "\n", 1);
    /* exit_group, which exit() and _exit() use, is not allowed. */
    syscall(SYS_exit, status);
    return 2;
}
