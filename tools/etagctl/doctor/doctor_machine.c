/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's process as the kernel shows it, and the kernel. */
#include "clocktime.h"
#include "ctl_doctor.h"
#include "numbers.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define FILES_WANTED (PEERS_MAX + 64)
#define CLOCK_READINGS 1000
#define CLOCK_SLOW_NS 150 /* a vDSO answers in some 5 to 30, a system call takes longer than this */
#define LINE_BYTES 512
#define MIB (UINT64_C(1) << 20)

/* ---- The daemon's process ---- */

static FILE *proc_open(const struct doctor *doctor, const char *name)
{
    char path[64];
    uint64_t pid;

    if (!doctor_number(doctor, "pid", &pid))
        return NULL;
    (void)snprintf(path, sizeof(path), "/proc/%" PRIu64 "/%s", pid, name);
    return fopen(path, "re");
}

/* The soft limit of a line such as "Max open files  1024  524288  files". False: it could not be
 * seen. */
static bool limit_read(const struct doctor *doctor, const char *name, char *out, size_t out_bytes)
{
    char line[LINE_BYTES];
    CLEANUP(cleanup_file) FILE *file = proc_open(doctor, "limits");

    while (file && fgets(line, sizeof(line), file)) {
        if (!str_starts_with(str_of(line), str_of(name)))
            continue;
        const char *at = line + strlen(name);
        at += strspn(at, " ");
        (void)snprintf(out, out_bytes, "%.*s", (int)strcspn(at, " \n"), at);
        return true;
    }
    return false;
}

static void say_limits(struct doctor *doctor)
{
    char locked[32] = "";
    uint64_t files;

    if (!doctor_number(doctor, "open_files_limit", &files))
        return;
    const bool few = files < FILES_WANTED;
    const bool seen = limit_read(doctor, "Max locked memory", locked, sizeof(locked));
    doctor_say(doctor, few ? FINDING_WARN : FINDING_OK, "limits",
               few ? "raise it to 8192 (LimitNOFILE=, ulimit -n): beyond it connections wait"
                   : NULL,
               "%" PRIu64 " open files for up to %d connections%s%s%s", files, PEERS_MAX,
               seen ? "; locked memory " : "", locked,
               seen && locked[0] >= '0' && locked[0] <= '9' ? " bytes" : "");
}

static void say_loop(struct doctor *doctor)
{
    uint64_t refused;
    const etag_str loop = doctor_text(doctor, "loop");

    if (!loop.data)
        return;
    if (doctor_number(doctor, "loop_refused_errno", &refused) && refused != 0)
        doctor_say(doctor, FINDING_OK, "loop", NULL,
                   "epoll, since the kernel refuses io_uring (%s: kernel.io_uring_disabled, a "
                   "seccomp profile or a limit); front ends do not notice",
                   strerrordesc_np((int)refused));
    else
        doctor_say(doctor, FINDING_OK, "loop", NULL, "%.*s", (int)loop.len, loop.data);
}

/* The pages of the index's mapping, as the kernel has it now. False: they could not be seen. */
static bool mapped_huge_read(const struct doctor *doctor, uint64_t *bytes)
{
    char line[LINE_BYTES];
    const etag_str mapped = ETAG_LIT("ShmemPmdMapped:");
    CLEANUP(cleanup_file) FILE *file = proc_open(doctor, "smaps");
    bool in_index = false, seen = false;

    *bytes = 0;
    while (file && fgets(line, sizeof(line), file)) {
        if (strstr(line, "/memfd:etagd"))
            in_index = seen = true;
        else if (strchr(line, '-') && strchr(line, '-') < strchr(line, ' '))
            in_index = false;
        if (in_index && str_starts_with(str_of(line), mapped))
            *bytes += strtoull(line + mapped.len, NULL, 10) * 1024;
    }
    return seen;
}

static void say_huge_pages(struct doctor *doctor)
{
    uint64_t wanted, got, mapped;

    if (!doctor_number(doctor, "huge_page_bytes_wanted", &wanted) ||
        !doctor_number(doctor, "huge_page_bytes", &got))
        return;
    const bool seen = mapped_huge_read(doctor, &mapped);
    const uint64_t huge = seen ? mapped : got;
    const bool off = str_equal(doctor_text(doctor, "huge_pages"), ETAG_LIT("off"));
    const bool few = huge / MIB * 10 < wanted / MIB * 9 && !off;
    doctor_say(
        doctor, few ? FINDING_WARN : FINDING_OK, "huge pages",
        few ? "lookups miss the TLB more often. The kernel must be 6.1 or newer, and have "
              "2 MiB pages free: sysctl vm.compact_memory=1, then restart the daemon. Within "
              "a second for each GiB after the start this is normal"
            : NULL,
        "%" PRIu64 " of %" PRIu64 " MiB of the index%s%s", huge / MIB, wanted / MIB,
        seen ? ", as the kernel maps it" : ", as the daemon asked for",
        off ? "; the configuration says off" : "");
}

void doctor_process(struct doctor *doctor)
{
    if (!doctor->has_status)
        return;
    say_limits(doctor);
    say_loop(doctor);
    say_huge_pages(doctor);
}

/* ---- The kernel ---- */

static void say_kernel(struct doctor *doctor)
{
    struct utsname name = {0};
    char *rest = name.release;

    (void)uname(&name);
    const unsigned long major = strtoul(name.release, &rest, 10);
    const unsigned long minor = *rest == '.' ? strtoul(rest + 1, NULL, 10) : 0;
    CLEANUP(cleanup_fd) int fd = memfd_create("etagctl", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    const bool collapses = major > 6 || (major == 6 && minor >= 1);
    doctor_say(doctor, FINDING_OK, "kernel", NULL,
               "%.40s; memory that cannot be executed: %s; huge pages on demand: %s", name.release,
               fd >= 0 ? "yes" : "no (Linux 6.3)", collapses ? "yes" : "no (Linux 6.1)");
}

static void clocksource_read(char out[32])
{
    CLEANUP(cleanup_file)
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");

    if (!file || !fgets(out, 32, file))
        (void)snprintf(out, 32, "unknown source");
    out[strcspn(out, "\n")] = '\0';
}

/* Front ends read it at each check. */
static void say_clock(struct doctor *doctor)
{
    char source[32];
    struct timespec step = {0};
    volatile uint64_t sink = 0;

    (void)clock_getres(CLOCK_MONOTONIC_COARSE, &step);
    uint64_t best_ns = UINT64_MAX;
    for (int round = 0; round < 5; round++) {
        const uint64_t begin_ns = time_ns_of(CLOCK_MONOTONIC);
        for (int i = 0; i < CLOCK_READINGS; i++)
            sink = time_coarse_ns();
        const uint64_t took_ns = (time_ns_of(CLOCK_MONOTONIC) - begin_ns) / CLOCK_READINGS;
        best_ns = min_of(took_ns, best_ns);
    }
    (void)sink;
    clocksource_read(source);
    const uint64_t step_ms = ((uint64_t)step.tv_sec * NS_PER_S + (uint64_t)step.tv_nsec) /
                             NS_PER_MS;
    const bool slow = best_ns > CLOCK_SLOW_NS, coarse = step_ms > 10;
    doctor_say(
        doctor, slow || coarse ? FINDING_WARN : FINDING_OK, "clock",
        slow     ? "reading it takes a system call: a sandbox, a debugger or a kernel without vDSO"
        : coarse ? "a lease must be many times as long: raise lease-ms"
                 : NULL,
        "coarse steps of %" PRIu64 " ms, read in %" PRIu64 " ns; %s", step_ms, best_ns, source);
}

/* CLOCK_MONOTONIC differs between time namespaces, so a lease would mean another time. */
static void say_time_namespace(struct doctor *doctor)
{
    const struct channel_hello *hello = &doctor->daemon.channel.hello;

    if (!doctor->reachable)
        return;
    const bool same = hello->clock_before_ns <= hello->clock_ns &&
                      hello->clock_ns <= hello->clock_after_ns;
    doctor_say(doctor, same ? FINDING_OK : FINDING_FAIL, "same time",
               same ? NULL
                    : "run daemon and front ends in one time namespace: here no lookup uses the "
                      "index",
               same ? "the daemon's clock is ours" : "the daemon's clock is another one");
}

void doctor_machine(struct doctor *doctor)
{
    say_kernel(doctor);
    say_clock(doctor);
    say_time_namespace(doctor);
}
