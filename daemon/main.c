/* SPDX-License-Identifier: Apache-2.0 */
/* etagd. Exit status: 0 after a clean stop, 1 if it could not serve (see the log), 2 for a bad
 * configuration. */
#include "server.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>

/* Signals come through a descriptor; blocked before any thread starts. */
static int signals_open(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return -errno;
    const int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int main(int argc, char **argv)
{
    /* Before anything is written: over RLIMIT_FSIZE a write fails with EFBIG, as on a full disk,
     * and ends no process. */
    signal(SIGXFSZ, SIG_IGN);
    CLEANUP(cleanup_free) struct config *config = calloc(1, sizeof(*config));
    CLEANUP(cleanup_free) struct server *server = calloc(1, sizeof(*server));

    if (!config || !server) {
        fprintf(stderr, "etagd: no memory\n");
        return 1;
    }
    const int loaded = config_load(config, argc, argv);
    if (loaded != 0)
        return loaded > 0 ? 0 : 2;
    if (config->check_only) {
        printf("# configuration is valid; as it counts, flags included:\n");
        config_print(config, stdout);
        return 0;
    }
    const int signal_fd = signals_open();
    if (signal_fd < 0) {
        fprintf(stderr, "etagd: cannot take signals: %s\n", strerror(-signal_fd));
        return 1;
    }
    int r = server_init(server, config, signal_fd);
    if (r == 0)
        r = server_run(server);
    server_deinit(server);
    return r == 0 ? 0 : 1;
}
