/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Front ends that sleep in the middle of a lookup, at one instruction each:
 *
 *   stopped_readers SOCKET PATH STRIDE
 *
 * Each child opens a client, asks once for PATH with If-None-Match: "v1", and then once more, of
 * which it makes STRIDE instructions more than the child before it; there it stops. Where the time
 * is read, which decides, they are denser: one stops where it begins, and others a few instructions
 * apart before it. When a child's lookup ends before its instruction, all are there: a line says
 * how many, and how many of them have not read the time. After a line on standard input they go on,
 * and each says what it was answered: {"step": 70, "time_read": false, "verdict": "unknown",
 * "reason": "no_lease"}.
 */
#include "conditional.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define READERS_MAX 1000
#define DENSE_READERS 40
#define DENSE_STRIDE 3
#define VDSO_BYTES 8192u
#define GENERAL_REGISTERS 1L /* NT_PRSTATUS */

struct reader {
    pid_t pid;
    /* what it writes its answer to, in the end */
    int said;
    long step;
    bool time_read;
};

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(2);
}

/* ---- The child ---- */

static void ask(etag_client *client, const char *path, etag_answer *answer)
{
    struct conditional ask;

    conditional_init(&ask, (etag_resource){.target = etag_str_of(path)});
    ETAG_INIT(answer);
    (void)etag_check(client, &ask.request, etag_token_now(client), answer);
}

static _Noreturn void reader_run(const char *socket_path, const char *path, int out)
{
    etag_client_options options;
    etag_client *client;
    etag_answer answer;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    ETAG_INIT(&options);
    options.socket_path = socket_path;
    if (etag_client_open(&client, &options) != ETAG_OK)
        die("etag_client_open");
    ask(client, path, &answer);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        die("PTRACE_TRACEME");
    raise(SIGSTOP);
    ask(client, path, &answer);
    dprintf(out, "\"verdict\": \"%s\", \"reason\": \"%s\"}\n", etag_verdict_word(answer.verdict),
            etag_reason_word(answer.reason));
    _exit(0);
}

/* ---- The parent ---- */

/* The time comes from the vDSO, which lies at one address in a program and its children. */
static bool is_reading_time(pid_t pid)
{
    const unsigned long vdso = getauxval(AT_SYSINFO_EHDR);
    struct user_regs_struct registers;
    struct iovec into = {&registers, sizeof(registers)};

    if (ptrace(PTRACE_GETREGSET, pid, (void *)GENERAL_REGISTERS, &into) < 0)
        die("PTRACE_GETREGSET");
#if defined(__x86_64__)
    const unsigned long at = registers.rip;
#else
    const unsigned long at = registers.pc;
#endif
    return at >= vdso && at < vdso + VDSO_BYTES;
}

/* Until so many steps, or until it reads the time. False: its lookup ended before. */
static bool reader_step(struct reader *reader, long steps, bool until_time)
{
    int status;

    if (waitpid(reader->pid, &status, 0) < 0 || !WIFSTOPPED(status))
        die("a reader that did not begin");
    for (; reader->step < steps && !(until_time && reader->time_read); reader->step++) {
        if (ptrace(PTRACE_SINGLESTEP, reader->pid, NULL, NULL) < 0 ||
            waitpid(reader->pid, &status, 0) < 0)
            die("PTRACE_SINGLESTEP");
        if (!WIFSTOPPED(status))
            return false;
        reader->time_read |= is_reading_time(reader->pid);
    }
    return true;
}

static struct reader reader_start(const char *socket_path, const char *path)
{
    int ends[2];

    if (pipe(ends) < 0)
        die("pipe");
    const pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        reader_run(socket_path, path, ends[1]);
    }
    close(ends[1]);
    return (struct reader){.pid = pid, .said = ends[0]};
}

static void reader_end(const struct reader *reader)
{
    char said[256];

    if (ptrace(PTRACE_DETACH, reader->pid, NULL, NULL) < 0)
        die("PTRACE_DETACH");
    const ssize_t len = read(reader->said, said, sizeof(said) - 1);
    said[len > 0 ? len : 0] = '\0';
    printf("{\"step\": %ld, \"time_read\": %s, %s", reader->step,
           reader->time_read ? "true" : "false", len > 0 ? said : "\"verdict\": \"none\"}\n");
    waitpid(reader->pid, NULL, 0);
}

/* All of them, stopped. Returns how many. */
static size_t readers_start(struct reader readers[READERS_MAX], char **argv)
{
    const long stride = strtol(argv[3], NULL, 10);
    size_t count = 0;

    readers[count] = reader_start(argv[1], argv[2]);
    if (!reader_step(&readers[count++], LONG_MAX, true))
        die("a lookup that does not read the time");
    for (size_t i = 1; i <= DENSE_READERS; i++, count++) {
        readers[count] = reader_start(argv[1], argv[2]);
        if (!reader_step(&readers[count], readers[0].step - (long)i * DENSE_STRIDE, false))
            die("a shorter lookup than the first");
    }
    for (long steps = 0; count < READERS_MAX; steps += stride, count++) {
        readers[count] = reader_start(argv[1], argv[2]);
        if (!reader_step(&readers[count], steps, false))
            return count;
    }
    die("a lookup has more instructions than that");
}

int main(int argc, char **argv)
{
    static struct reader readers[READERS_MAX];
    size_t before_time = 0;
    char line[16];

    if (argc != 4)
        return 2;
    const size_t count = readers_start(readers, argv);
    for (size_t i = 0; i < count; i++)
        before_time += !readers[i].time_read;
    printf("{\"readers\": %zu, \"before_time\": %zu}\n", count, before_time);
    fflush(stdout);
    if (!fgets(line, sizeof(line), stdin))
        return 2;
    for (size_t i = 0; i < count; i++)
        reader_end(&readers[i]);
    return 0;
}
