/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard: runs a program that changes what is cached, within a guard. It does not see the program's
 * COMMIT, so every moment of its run may be the one: the guard is confirmed before it starts, and
 * again and again until it ends.
 *
 * The end follows the rule that only a known outcome is reported (tests/model, KNOWN_OUTCOME): exit
 * status 0 means that the change is committed. Anything else says nothing (a client that was killed
 * may have left a COMMIT running in its server), so the guard is left to linger; unless the caller
 * knows that a failure of this program is a ROLLBACK.
 */
#include "channel.h"
#include "clocktime.h"
#include "ctl_daemon.h"
#include "ctl_output.h"
#include "ctl_targets.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define CONFIRMS_PER_LINGER 4
#define CONFIRM_AGAIN_MS 500
#define EXIT_SIGNALLED 128 /* as shells: and the signal's number */

extern char **environ;

struct guarded {
    /* the caller's, but without JSON: standard output is the program's */
    struct ctl ctl;
    bool abort_on_failure;
    uint64_t hold_ms, max_ms;
    struct ctl_targets targets;
    etag_client *client;
    etag_guard *guard;
    /* CLOCK_MONOTONIC */
    uint64_t confirm_ns, kept_until_ns;
    bool lost_told;
    /* descriptors */
    int signals, process;
    pid_t pid;
};

static void guarded_free(struct guarded **guarded)
{
    struct guarded *g = *guarded;

    if (!g)
        return;
    etag_guard_forget(g->guard);
    etag_client_close(g->client);
    cleanup_fd(&g->signals);
    cleanup_fd(&g->process);
    free(g);
}

/* ---- Command line ---- */

/* Returns false after an error message. */
static bool target_take(struct ctl *ctl, void *into, int option, const char *value)
{
    struct guarded *g = into;
    const char *wrong = ctl_targets_full(&g->targets)
                            ? "too many targets for one guard: name a prefix, or everything"
                            : ctl_targets_add(&g->targets, option, value ? value : "");

    if (wrong)
        ctl_usage_error(ctl, "%s: %s", value ? value : "--all", wrong);
    return !wrong;
}

/* *command: where the program's command line begins. Returns false after an error message. */
static bool parse(struct ctl *ctl, struct guarded *g)
{
    if (!ctl_parse(ctl, target_take, g))
        return false;
    g->targets.targets.hold_ms = (uint32_t)g->hold_ms;
    g->targets.targets.max_ms = (uint32_t)g->max_ms;
    if (ctl_targets_count(&g->targets) == 0)
        ctl_usage_error(ctl, "name a target: --resource, --surrogate, --prefix, --all");
    else if (ctl->argc == 0 || strcmp(ctl->argv[-1], "--") != 0)
        ctl_usage_error(ctl, "want %s", ctl->command->arguments);
    else
        return true;
    return false;
}

/* ---- The guard ---- */

static void tell(const char *text)
{
    fprintf(stderr, "etagctl guard: %s\n", text);
}

/* Confirms, and plans the next time. */
static etag_status keep(struct guarded *g)
{
    const etag_status status = etag_guard_confirm(g->guard);
    const uint64_t now_ns = channel_now_ns();

    if (status != ETAG_OK) {
        g->confirm_ns = now_ns + CONFIRM_AGAIN_MS * NS_PER_MS;
        return status;
    }
    const uint64_t left_ns = etag_guard_time_left_ms(g->guard) * NS_PER_MS;
    g->kept_until_ns = now_ns + left_ns;
    g->confirm_ns = now_ns + left_ns / CONFIRMS_PER_LINGER;
    if (g->lost_told)
        tell("the guard is open again");
    g->lost_told = false;
    return ETAG_OK;
}

/* The daemon may have taken it as committed by now. */
static void tell_if_lost(struct guarded *g)
{
    if (g->lost_told || channel_now_ns() < g->kept_until_ns)
        return;
    g->lost_told = true;
    fprintf(stderr,
            "etagctl guard: WARNING: the guard cannot be kept, so until it can front ends may "
            "answer 304 for what "
            "the command changes: %s\n",
            etag_client_error(g->client));
}

/* Returns false after an error message, and nothing has begun. */
static bool begin(struct ctl *ctl, struct guarded *g)
{
    g->client = ctl_client_open(ctl);
    if (!g->client)
        return false;
    etag_status status = etag_guard_begin(g->client, &g->targets.targets, &g->guard);
    if (status == ETAG_OK)
        status = keep(g);
    if (status == ETAG_OK)
        return true;
    CLEANUP(cleanup_free) char *text = NULL;
    if (asprintf(&text, "%s; the command was not run", etag_client_error(g->client)) < 0)
        text = NULL;
    ctl->exit_status = ctl_fail(ctl, status, text);
    if (g->guard && etag_guard_abort(g->guard) != ETAG_OK)
        tell("the guard lingers");
    g->guard = NULL;
    return false;
}

/* ---- The program ---- */

/* Signals come through a descriptor from here on, but not to the program. Returns false after an
 * error message. */
static bool start_program(struct ctl *ctl, struct guarded *g, char **command)
{
    static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP};
    posix_spawnattr_t attributes;
    sigset_t set, former;

    signal(SIGCHLD, SIG_DFL);
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++)
        sigaddset(&set, forwarded[i]);
    sigprocmask(SIG_BLOCK, &set, &former);
    g->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    int r = g->signals < 0 ? errno : posix_spawnattr_init(&attributes);
    if (r == 0) {
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
        posix_spawnattr_setsigmask(&attributes, &former);
        r = posix_spawnp(&g->pid, command[0], NULL, &attributes, command, environ);
        posix_spawnattr_destroy(&attributes);
    }
    if (r == 0)
        return true;
    CLEANUP(cleanup_free) char *text = NULL;
    if (asprintf(&text, "cannot run %s: %s", command[0], strerrordesc_np(r)) < 0)
        text = NULL;
    ctl->exit_status = ctl_fail(ctl, ETAG_SYSTEM, text);
    return false;
}

/* A terminal sends its signals to the program as well. */
static void forward_signals(const struct guarded *g)
{
    struct signalfd_siginfo info;

    while (read(g->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        if (info.ssi_code != SI_KERNEL)
            kill(g->pid, (int)info.ssi_signo);
}

static int ms_to_wait(const struct guarded *g)
{
    const int client_ms = etag_client_timeout_ms(g->client);
    const int confirm_ms = channel_ms_until(g->confirm_ns);

    return client_ms >= 0 && client_ms < confirm_ms ? client_ms : confirm_ms;
}

/* Until the program ends. Returns its status, as of waitpid(2). */
static int accompany(struct guarded *g)
{
    int status = 0;

    g->process = pidfd_open(g->pid, 0);
    for (;;) {
        struct pollfd p[] = {
            {.fd = g->process, .events = POLLIN},
            {.fd = g->signals, .events = POLLIN},
            {.fd = etag_client_fd(g->client), .events = etag_client_events(g->client)}};
        int ms = ms_to_wait(g);
        /* Without a descriptor for the program it is looked at now and then. */
        if (g->process < 0 && ms > 50)
            ms = 50;
        poll(p, 3, ms);
        forward_signals(g);
        const pid_t ended = waitpid(g->pid, &status, WNOHANG);
        if (ended == g->pid || (ended < 0 && errno != EINTR))
            return status;
        if (channel_ms_until(g->confirm_ns) == 0)
            (void)!keep(g);
        else if (etag_client_dispatch(g->client) != ETAG_OK)
            tell_if_lost(g);
        tell_if_lost(g);
    }
}

/* ---- The end ---- */

/* How the guard ends, as a word. *result: what the last step came to. */
static const char *finish(struct guarded *g, int status, etag_status *result, etag_receipt *receipt)
{
    etag_guard *guard = g->guard;

    g->guard = NULL;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        *result = etag_guard_commit(guard, receipt);
        return "committed";
    }
    if (WIFEXITED(status) && g->abort_on_failure) {
        *result = etag_guard_abort(guard);
        return "aborted";
    }
    etag_guard_forget(guard);
    tell(WIFEXITED(status) ? "the command failed, which does not tell whether its change was "
                             "committed: the targets stay "
                             "unknown for guard_linger, and then count as changed "
                             "(--abort-on-failure says that it was not)"
                           : "the command was killed, which does not tell whether its change was "
                             "committed: the targets "
                             "stay unknown for guard_linger, and then count as changed");
    return "lingers";
}

static int exit_status_of(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SIGNALLED + WTERMSIG(status);
}

static void report(const struct guarded *g, const char *end, etag_status result, uint64_t lsn,
                   int exit_status)
{
    doc *out = doc_object();

    doc_words(out, "guard", end);
    doc_words(out, "status",
              result == ETAG_OK        ? "ok"
              : result == ETAG_PENDING ? "pending"
                                       : "error");
    if (result != ETAG_OK)
        doc_words(out, "error", etag_client_error(g->client));
    doc_number_or_null(out, "lsn", lsn);
    doc_number(out, "exit_status", (uint64_t)exit_status);
    output_json_aside(out);
}

static int guard_run(struct ctl *ctl)
{
    CLEANUP(guarded_free) struct guarded *g = calloc(1, sizeof(*g));

    if (!g)
        return ctl_fail(ctl, ETAG_SYSTEM, "no memory");
    g->signals = g->process = -1;
    ctl_targets_clear(&g->targets);
    if (!parse(ctl, g) || !begin(ctl, g))
        return ctl->exit_status;
    if (!start_program(ctl, g, ctl->argv)) {
        etag_guard *guard = g->guard;
        g->guard = NULL;
        if (etag_guard_abort(guard) != ETAG_OK)
            tell("the guard lingers");
        return ctl->exit_status;
    }
    g->ctl = *ctl;
    g->ctl.json = false;
    etag_receipt receipt;
    ETAG_INIT(&receipt);
    etag_status result = ETAG_OK;
    const int status = accompany(g);
    const char *end = finish(g, status, &result, &receipt);
    if (ctl->json)
        report(g, end, result, receipt.lsn, exit_status_of(status));
    else if (result != ETAG_OK && result != ETAG_PENDING)
        (void)ctl_fail(&g->ctl, result, etag_client_error(g->client));
    return exit_status_of(status);
}

static const struct ctl_option guard_options[] = {
    CTL_TARGET_OPTIONS,
    CTL_HOLD_OPTION(struct guarded),
    {'m', "max-ms", "N", "how long the command may run (default 600000)",
     CTL_NUMBER(struct guarded, max_ms, GUARD_MS_MAX)},
    {'a', "abort-on-failure", NULL, "an exit status other than 0 means: nothing was changed",
     CTL_FLAG(struct guarded, abort_on_failure)},
    {0}};

const struct ctl_command ctl_guard = {
    "guard",
    "-- COMMAND [ARGUMENT]...",
    "Runs a command that changes something, within a guard",
    "From before the command's start to its end front ends answer 304 for none of the targets.\n"
    "Exit status 0 commits the guard, as 'invalidate' would. After anything else it is not known\n"
    "whether the change was committed: the guard lingers, and then counts as committed. With\n"
    "--abort-on-failure it is aborted, but never where a signal killed the command. SIGINT,\n"
    "SIGTERM and SIGHUP are passed on. With --json one line about the end goes to standard error.",
    guard_options,
    false,
    guard_run,
    true,
    "the command's (128 + N: killed by signal N); 2 where it was not run."};
