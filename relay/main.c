/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etag-relay: a loop of poll(2) over the engine, the daemon and signals. Exit status 0 after
 * SIGTERM or SIGINT, 1 where it could not serve, 2 for bad configuration.
 */
#include "clocktime.h"
#include "command.h"
#include "link.h"
#include "nonce.h"
#include "numbers.h"
#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>

#define METRICS_EVERY_NS (2 * NS_PER_S)
#define METRICS_PATH_BYTES (PATH_BYTES_MAX + 32)

struct relay_process {
    struct options options;
    struct session_options session_options;
    struct session session;
    struct link link;
    struct log log;
    int signal_fd;
    char metrics_path[METRICS_PATH_BYTES];
    uint64_t metrics_due_ns;
    bool metrics_failed;
};

/* Signals come through a descriptor. */
static int signals_open(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return -errno;
    const int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

static void metrics_write(struct relay_process *process)
{
    const int r = figures_write(&process->session.figures, time_coarse_ns(), process->metrics_path);

    if (r < 0 && !process->metrics_failed)
        log_event(&process->log, LOG_WARN, "metrics_not_written",
                  log_text("path", process->metrics_path), log_error("error", r));
    process->metrics_failed = r < 0;
    process->metrics_due_ns = time_ns_of(CLOCK_MONOTONIC) + METRICS_EVERY_NS;
}

static void process_wait(const struct relay_process *process, struct pollfd polled[3])
{
    const struct session *const session = &process->session;
    const uint64_t now_ns = time_ns_of(CLOCK_MONOTONIC);
    const uint64_t metrics_ns = process->metrics_due_ns > now_ns ? process->metrics_due_ns - now_ns
                                                                 : 0;
    const uint64_t ns = min_of(min_of(session_timeout_ns(session), link_timeout_ns(&process->link)),
                               metrics_ns);
    const struct timespec timeout = {(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};

    polled[0] = (struct pollfd){process->signal_fd, POLLIN, 0};
    polled[1] = (struct pollfd){link_fd(&process->link), link_events(&process->link), 0};
    polled[2] = (struct pollfd){-1, 0, 0};
    if (session->engine) {
        polled[2].fd = session->engine->kind->fd(session->engine);
        polled[2].events = session->engine->kind->events(session->engine);
    }
    /* Interrupted or not: a turn does what is to be done. */
    (void)ppoll(polled, 3, &timeout, NULL);
}

static void process_run(struct relay_process *process)
{
    struct pollfd polled[3] = {{0}};

    while (!(polled[0].revents & POLLIN)) {
        /* The session may have something for the daemon, and its answer something for the session.
         */
        session_turn(&process->session);
        link_turn(&process->link);
        session_turn(&process->session);
        if (time_ns_of(CLOCK_MONOTONIC) >= process->metrics_due_ns)
            metrics_write(process);
        process_wait(process, polled);
    }
}

static bool process_init(struct relay_process *process)
{
    const struct options *const options = &process->options;
    struct session_options *const given = &process->session_options;
    const struct session_daemon daemon = link_as_daemon(&process->link);
    struct why why;

    process->log.fd = STDERR_FILENO;
    log_set(&process->log, options->log_level, options->log_format);
    (void)snprintf(process->metrics_path, sizeof(process->metrics_path), "%s/metrics.prom",
                   options->run_dir);
    given->kind = options_engine_kind(options);
    given->engine = options_of_engine(options);
    given->retention_ms = options->retention_ms;
    if (!nonce_load(&given->engine.nonce, options->run_dir, &why)) {
        log_event(&process->log, LOG_ERROR, "no_random_bits");
        return false;
    }
    if (why.text[0] != '\0')
        log_event(&process->log, LOG_WARN, "nonce_not_kept", log_text("why", why.text),
                  log_text("effect", "each start waits until the former registration is out"));
    session_init(&process->session, given, &daemon, &process->log);
    if (link_init(&process->link, options->socket_path, given->kind->name, &process->session,
                  &process->log))
        return true;
    log_event(&process->log, LOG_ERROR, "socket_path", log_text("socket", options->socket_path));
    return false;
}

static int serve(struct relay_process *process)
{
    process->signal_fd = signals_open();
    if (process->signal_fd < 0) {
        (void)fprintf(stderr, "etag-relay: cannot take signals: %s\n",
                      strerror(-process->signal_fd));
        return 1;
    }
    if (!process_init(process))
        return 1;
    log_event(&process->log, LOG_INFO, "started", log_text("version", ETAG_VERSION_STRING),
              log_text("engine", process->session_options.kind->name),
              log_text("host", process->options.host),
              log_text("socket", process->options.socket_path));
    /* Looks at the members are some 100 us apart, and the kernel's own slack is 50. */
    (void)prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0);
    process_run(process);
    metrics_write(process);
    log_event(&process->log, LOG_INFO, "stopped");
    link_deinit(&process->link);
    session_deinit(&process->session);
    return 0;
}

int main(int argc, char **argv)
{
    CLEANUP(cleanup_free) struct relay_process *process = calloc(1, sizeof(*process));

    if (!process) {
        (void)fprintf(stderr, "etag-relay: no memory\n");
        return 1;
    }
    const int loaded = options_load(&process->options, argc, argv);
    if (loaded != 0)
        return loaded > 0 ? 0 : 2;
    if (process->options.check_only) {
        printf("# configuration is valid; as it counts, flags included:\n");
        options_print(&process->options, stdout);
        return 0;
    }
    const struct options *const options = &process->options;
    return options->command ? relay_command(options, options->command_argc, options->command_argv)
                            : serve(process);
}
