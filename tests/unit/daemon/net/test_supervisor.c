/* SPDX-License-Identifier: Apache-2.0 */
/* What the environment means, and what is said to the manager. */
#include "testing.h"

#include "numbers.h"
#include "supervisor.h"

#include "clocktime.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

static const struct log quiet = {.fd = -1, .least = LOG_ERROR};

/* The manager's end: an abstract name, so that nothing is left behind. */
struct manager {
    int fd;
    char name[64];
    char heard[512];
};

static void manager_open(struct manager *manager)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(manager->name, sizeof(manager->name), "@etagd-test-supervisor-%d", (int)getpid());
    memcpy(address.sun_path + 1, manager->name + 1, strlen(manager->name) - 1);
    manager->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(
        bind(manager->fd, (struct sockaddr *)&address,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(manager->name))),
        0);
    setenv("NOTIFY_SOCKET", manager->name, 1);
}

/* The next message; "" where there is none. */
static const char *hear(struct manager *manager)
{
    const ssize_t n = recv(manager->fd, manager->heard, sizeof(manager->heard) - 1, 0);

    manager->heard[n < 0 ? 0 : n] = '\0';
    return manager->heard;
}

static int clear(void **state)
{
    static const char *const names[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                        "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES"};

    for (size_t i = 0; i < COUNT_OF(names); i++)
        unsetenv(names[i]);
    return 0;
}

#define CASE(name) TEST_OF(name, void *none, clear, NULL)

CASE(without_a_manager_nothing_happens)
{
    struct supervisor supervisor;
    struct why why;

    assert_int_equal(supervisor_init(&supervisor, &quiet, &why), 0);
    assert_int_equal(supervisor.listen_fd, -1);
    supervisor_ready(&supervisor, "serving");
    supervisor_renewed(&supervisor, NS_PER_S);
    supervisor_stopping(&supervisor);
    supervisor_deinit(&supervisor);
}

CASE(each_step_is_said)
{
    struct supervisor supervisor;
    struct manager manager;
    struct why why;

    manager_open(&manager);
    assert_int_equal(supervisor_init(&supervisor, &quiet, &why), 0);
    supervisor_status(&supervisor, "reading");
    assert_string_equal(hear(&manager), "STATUS=reading");
    supervisor_ready(&supervisor, "serving");
    assert_string_equal(hear(&manager), "READY=1\nSTATUS=serving");
    supervisor_reloading(&supervisor);
    assert_ptr_equal(strstr(hear(&manager), "RELOADING=1\nMONOTONIC_USEC="), manager.heard);
    supervisor_stopping(&supervisor);
    assert_ptr_equal(strstr(hear(&manager), "STOPPING=1\n"), manager.heard);
    supervisor_renewed(&supervisor, NS_PER_S); /* nobody asked for a watchdog */
    assert_string_equal(hear(&manager), "");
    supervisor_deinit(&supervisor);
    close(manager.fd);
}

CASE(the_watchdog_is_patted_four_times_in_its_time)
{
    struct supervisor supervisor;
    struct manager manager;
    struct why why;
    size_t pats = 0;

    manager_open(&manager);
    setenv("WATCHDOG_USEC", "2000000", 1);
    assert_int_equal(supervisor_init(&supervisor, &quiet, &why), 0);
    for (uint64_t now = NS_PER_S; now < 3 * NS_PER_S; now += NS_PER_S / 10) {
        supervisor_renewed(&supervisor, now);
        pats += strcmp(hear(&manager), "WATCHDOG=1") == 0;
    }
    assert_int_equal(pats, 4);
    supervisor_deinit(&supervisor);

    setenv("WATCHDOG_PID", "1", 1); /* another process's */
    assert_int_equal(supervisor_init(&supervisor, &quiet, &why), 0);
    supervisor_renewed(&supervisor, 9 * NS_PER_S);
    assert_string_equal(hear(&manager), "");
    supervisor_deinit(&supervisor);
    close(manager.fd);
}

CASE(a_manager_that_is_gone_stops_nobody)
{
    struct supervisor supervisor;
    struct why why;

    setenv("NOTIFY_SOCKET", "@etagd-test-nobody-is-here", 1);
    assert_int_equal(supervisor_init(&supervisor, &quiet, &why), 0);
    supervisor_ready(&supervisor, "serving");
    assert_true(supervisor.refused);
    supervisor_deinit(&supervisor);
}

CASE(what_is_wrong_is_refused)
{
    struct supervisor supervisor;
    struct why why;
    char pid[16];

    setenv("NOTIFY_SOCKET", "relative/path", 1);
    assert_int_equal(supervisor_init(&supervisor, &quiet, &why), -1);
    assert_non_null(strstr(why.text, "NOTIFY_SOCKET=relative/path"));
    supervisor_deinit(&supervisor);
    unsetenv("NOTIFY_SOCKET");

    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "2", 1);
    assert_int_equal(supervisor_init(&supervisor, &quiet, &why), -1);
    assert_non_null(strstr(why.text, "ListenStream="));
    supervisor_deinit(&supervisor);

    setenv("LISTEN_FDS", "1", 1);
    setenv("LISTEN_PID", "1", 1); /* inherited, and another process's */
    assert_int_equal(supervisor_init(&supervisor, &quiet, &why), 0);
    assert_int_equal(supervisor.listen_fd, -1);
    supervisor_deinit(&supervisor);
}
