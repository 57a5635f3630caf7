/* SPDX-License-Identifier: Apache-2.0 */
#include "told.h"

#include "truth.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- The process ---- */

static _Noreturn void program_run(const int to[2], const int from[2], const char *const argv[],
                                  const char *log)
{
    const int said = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    char *copy[TOLD_WORDS_MAX + 1] = {0};

    for (size_t i = 0; i < TOLD_WORDS_MAX && argv[i]; i++)
        copy[i] = strdup(argv[i]);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && said >= 0 && dup2(to[0], STDIN_FILENO) >= 0 &&
        dup2(from[1], STDOUT_FILENO) >= 0 && dup2(said, STDERR_FILENO) >= 0)
        (void)execvp(copy[0], copy);
    _exit(127);
}

static void pipe_close(int pipe[2])
{
    (void)close(pipe[0]);
    (void)close(pipe[1]);
}

bool told_open(struct told *told, const char *const argv[], const char *log)
{
    int to[2], from[2];

    if (pipe2(to, O_CLOEXEC) < 0)
        return false;
    if (pipe2(from, O_CLOEXEC) < 0) {
        pipe_close(to);
        return false;
    }
    /* It may have ended when it is told something. */
    (void)signal(SIGPIPE, SIG_IGN);
    const pid_t pid = fork();
    if (pid == 0)
        program_run(to, from, argv, log);
    if (pid < 0) {
        pipe_close(to);
        pipe_close(from);
        return false;
    }
    (void)close(to[0]);
    (void)close(from[1]);
    *told = (struct told){.pid = pid, .to = to[1], .from = from[0]};
    return true;
}

void told_close(struct told *told)
{
    if (told->pid == 0)
        return;
    (void)kill(told->pid, SIGKILL);
    (void)waitpid(told->pid, NULL, 0);
    (void)close(told->to);
    (void)close(told->from);
    *told = (struct told){0};
}

/* ---- What it is told ---- */

static bool line_is(const char *line, const char *word)
{
    return strcmp(line, word) == 0;
}

/* Its next line, without the end. It says little, so a byte at a time will do. */
static bool line_read(const struct told *told, char line[TOLD_BYTES], uint64_t until_ns)
{
    struct pollfd in = {.fd = told->from, .events = POLLIN};
    size_t len = 0;

    for (;;) {
        const uint64_t now = now_ns();
        char byte;
        if (now >= until_ns || poll(&in, 1, (int)((until_ns - now) / NS_PER_MS) + 1) < 0)
            return false;
        if (in.revents == 0)
            continue;
        if (read(told->from, &byte, 1) <= 0)
            return false;
        if (byte == '\n')
            break;
        if (len < TOLD_BYTES - 1)
            line[len++] = byte;
    }
    line[len] = '\0';
    return true;
}

bool told_ask(struct told *told, const char *text, uint64_t ms, char answer[TOLD_BYTES])
{
    const uint64_t until_ns = now_ns() + ms * NS_PER_MS;
    const ssize_t len = (ssize_t)strlen(text);
    char line[TOLD_BYTES];

    answer[0] = '\0';
    if (write(told->to, text, (size_t)len) == len) {
        while (line_read(told, line, until_ns)) {
            if (line_is(line, "ok"))
                return true;
            if (line_is(line, "failed"))
                return false;
            memcpy(answer, line, TOLD_BYTES);
        }
    }
    told_close(told);
    return false;
}
