/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon says about itself: whether it answers and with which roles, its lease, its
 * tables. */
#include "clocktime.h"
#include "ctl_doctor.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <pwd.h>
#include <sys/stat.h>

#define SLOW_US 20000

/* ---- Socket and answer ---- */

enum holder { HOLDER_NONE, HOLDER_LIVES, HOLDER_UNSEEN };

/* The lock beside the socket is held as long as a daemon lives, whether it answers or not. *error:
 * why it is not seen. */
static enum holder holder_find(const char *lock_path, int *error)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    CLEANUP(cleanup_fd) int fd = open(lock_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    *error = errno;
    if (fd < 0)
        return errno == ENOENT ? HOLDER_NONE : HOLDER_UNSEEN;
    if (fcntl(fd, F_OFD_GETLK, &lock) < 0) {
        *error = errno;
        return HOLDER_UNSEEN;
    }
    return lock.l_type == F_UNLCK ? HOLDER_NONE : HOLDER_LIVES;
}

static void say_down(struct doctor *doctor, const char *fault)
{
    char path[CHANNEL_PATH_BYTES_MAX + sizeof(".lock")];
    int error;

    (void)snprintf(path, sizeof(path), "%s.lock", doctor->daemon.channel.path);
    const enum holder holder = holder_find(path, &error);
    doctor_say(
        doctor, FINDING_FAIL, "daemon",
        holder == HOLDER_LIVES
            ? "it is starting (a large state, or a lease to wait for), stopped (SIGSTOP), or "
              "hangs: look at its log and its process. Front ends render meanwhile"
            : "start it: 'systemctl start etagd', or etagd under your supervisor; its log "
              "says why it ended. Meanwhile front ends render, and writers go through the "
              "spool",
        "%s", fault);
    if (holder == HOLDER_UNSEEN)
        doctor_say(doctor, FINDING_UNSEEN, "lock", NULL, "%s: %s", path, strerrordesc_np(error));
    else
        doctor_say(doctor, FINDING_OK, "lock", NULL,
                   holder == HOLDER_LIVES ? "held, so a daemon lives: %s"
                                          : "it is not locked, so no daemon runs here: %s",
                   path);
}

static void look_at_socket(struct doctor *doctor)
{
    const char *path = doctor->daemon.channel.path;
    struct stat status;

    if (stat(path, &status) < 0) {
        doctor_say(doctor, FINDING_FAIL, "socket",
                   errno == ENOENT
                       ? "is it the right path? --socket, or ETAGD_SOCKET"
                       : "each directory of the path must be passable (x) for this user",
                   "%s: %s", path, strerrordesc_np(errno));
        return;
    }
    const struct passwd *owner = getpwuid(status.st_uid);
    if (!S_ISSOCK(status.st_mode))
        doctor_say(doctor, FINDING_FAIL, "socket", "choose another path (--socket), or remove it",
                   "%s is no socket", path);
    else if (access(path, W_OK) < 0)
        doctor_say(doctor, FINDING_FAIL, "socket",
                   "be a member of its group, or raise socket-mode: roles, not permissions, decide "
                   "what a peer may do",
                   "%s: mode %04o of %s, and this user may not connect", path,
                   status.st_mode & 07777, owner ? owner->pw_name : "an unknown user");
    else
        doctor_say(doctor, FINDING_OK, "socket", NULL, "%s, mode %04o, of %s", path,
                   status.st_mode & 07777, owner ? owner->pw_name : "an unknown user");
}

static void say_roles(struct doctor *doctor)
{
    const uint32_t roles = doctor->daemon.channel.hello.roles;
    char words[64];

    (void)snprintf(words, sizeof(words), "%s%s%s%s%s", roles & ROLE_READ ? " read" : "",
                   roles & ROLE_FILL ? " fill" : "", roles & ROLE_MUTATE ? " mutate" : "",
                   roles & ROLE_ADMIN ? " admin" : "", roles & ROLE_RELAY ? " relay" : "");
    if (roles)
        doctor_say(doctor, FINDING_OK, "roles", NULL, "this user may%s", words);
    else
        doctor_say(doctor, FINDING_WARN, "roles",
                   "name it, or a group of it, under 'roles' in the daemon's configuration",
                   "uid %u has none: it may connect, and nothing else", (unsigned)geteuid());
}

static void say_versions(struct doctor *doctor)
{
    static const char *const prefix = "etagd ";
    const char *software = doctor->daemon.channel.hello.software;
    const char *version = strncmp(software, prefix, strlen(prefix)) == 0 ? software + strlen(prefix)
                                                                         : software;

    if (strcmp(version, ETAG_VERSION_STRING) == 0)
        doctor_say(doctor, FINDING_OK, "version", NULL, "daemon and library are %s", version);
    else
        doctor_say(doctor, FINDING_WARN, "version",
                   "restart the daemon, or the programs, that still run the older one",
                   "the daemon is %s, this library %s", software, ETAG_VERSION_STRING);
}

static bool ask_status(struct doctor *doctor)
{
    struct ctl_daemon *daemon = &doctor->daemon;
    struct request request = {.kind = REQUEST_STATUS};

    if (!(daemon->channel.hello.roles & ROLE_READ)) {
        doctor_say(doctor, FINDING_UNSEEN, "status", NULL,
                   "the daemon's figures: they need the role 'read'");
        return false;
    }
    const uint64_t begin_ns = channel_now_ns();
    daemon->deadline_ns = begin_ns + doctor->ctl->timeout_ms * NS_PER_MS;
    etag_status status = channel_call(&daemon->channel, &request, daemon->deadline_ns, NULL,
                                      &doctor->status, &daemon->fault);
    if (status == ETAG_OK)
        status = channel_reply_status(&doctor->status, REPLY_STATUS, &daemon->fault);
    doctor->round_trip_us = (channel_now_ns() - begin_ns) / 1000;
    doctor->has_status = status == ETAG_OK;
    if (!doctor->has_status)
        doctor_say(doctor, FINDING_FAIL, "answer", "look at its log and at its process", "%s",
                   daemon->fault.text);
    return doctor->has_status;
}

static void say_answer(struct doctor *doctor)
{
    const bool slow = doctor->round_trip_us > SLOW_US;
    uint64_t pid, uptime_ms;

    (void)doctor_number(doctor, "pid", &pid);
    (void)doctor_number(doctor, "uptime_ms", &uptime_ms);
    doctor_say(doctor, slow ? FINDING_WARN : FINDING_OK, "answer",
               slow ? "the machine is busy, or the daemon's process is starved: give it a CPU "
                      "share (CPUWeight=, nice)"
                    : NULL,
               "process %" PRIu64 ", up for %" PRIu64 " s, answers in %" PRIu64 " us", pid,
               uptime_ms / 1000, doctor->round_trip_us);
}

void doctor_connection(struct doctor *doctor)
{
    struct ctl_daemon *daemon = &doctor->daemon;

    look_at_socket(doctor);
    const etag_status status = channel_connect(&daemon->channel, daemon->deadline_ns,
                                               &daemon->fault);
    doctor->reachable = status == ETAG_OK;
    if (!doctor->reachable) {
        say_down(doctor, daemon->fault.text);
        return;
    }
    say_versions(doctor);
    say_roles(doctor);
    if (ask_status(doctor))
        say_answer(doctor);
}

/* ---- Lease ---- */

void doctor_lease(struct doctor *doctor)
{
    uint64_t margin_ms, length_ms, least_ms;
    const etag_str lease = doctor_text(doctor, "lease");

    if (!lease.data)
        return;
    (void)doctor_number(doctor, "lease_margin_ms", &margin_ms);
    (void)doctor_number(doctor, "lease_ms", &length_ms);
    if (str_equal(lease, ETAG_LIT("paused")))
        doctor_say(doctor, FINDING_WARN, "lease", "'etagctl resume' ends the pause",
                   "paused by an operator: every front end renders");
    else if (!str_equal(lease, ETAG_LIT("held")))
        doctor_say(doctor, FINDING_FAIL, "lease",
                   "its log says why it cannot renew (lease_not_renewed); with none, it is starved",
                   "over: every front end renders");
    else
        doctor_say(doctor, FINDING_OK, "lease", NULL, "held, %" PRIu64 " of %" PRIu64 " ms left",
                   margin_ms, length_ms);
    if (!doctor_number(doctor, "lease_margin_min_ms", &least_ms))
        return;
    const bool tight = least_ms < length_ms / 4;
    doctor_say(doctor, tight ? FINDING_WARN : FINDING_OK, "margin",
               tight ? "renewals come late: the daemon waits for a CPU. Give it a share "
                       "(CPUWeight=), or a longer lease (lease-ms)"
                     : NULL,
               "at its smallest %" PRIu64 " ms before a renewal, of %" PRIu64, least_ms, length_ms);
}

/* ---- The relay ---- */

static void say_relay(struct doctor *doctor)
{
    uint64_t connected = 0, margin_ms = 0, l_net_ms = 0, queue = 0, full = 0;
    const etag_str mode = doctor_text(doctor, "relay");

    if (!mode.data || str_equal(mode, ETAG_LIT("off")))
        return;
    const bool required = str_equal(mode, ETAG_LIT("required"));
    (void)doctor_number(doctor, "relay_connected", &connected);
    (void)doctor_number(doctor, "relay_margin_ms", &margin_ms);
    (void)doctor_number(doctor, "relay_l_net_ms", &l_net_ms);
    (void)doctor_number(doctor, "relay_queue", &queue);
    (void)doctor_number(doctor, "relay_queue_full", &full);
    if (!connected)
        doctor_say(doctor, required ? FINDING_FAIL : FINDING_WARN, "relay",
                   "start etag-relay on this host; its log and 'etag-relay doctor' say why it does "
                   "not stay",
                   "not connected: %s",
                   required ? "every front end renders" : "events of other hosts do not come");
    else if (margin_ms == 0)
        doctor_say(doctor, required ? FINDING_FAIL : FINDING_WARN, "relay",
                   "'etag-relay doctor' and its log say what keeps it from reading",
                   "connected, and has proved nothing for %" PRIu64 " ms", l_net_ms);
    else
        doctor_say(doctor, FINDING_OK, "relay", NULL,
                   "connected, %" PRIu64 " of %" PRIu64 " ms left, %" PRIu64 " events wait",
                   margin_ms, l_net_ms, queue);
    if (full > 0)
        doctor_say(doctor, FINDING_WARN, "outgoing",
                   "the relay was away or slow: see relay_queue_full in the daemon's log",
                   "%" PRIu64 " times more events waited for the relay than there is room for, and "
                   "all hosts purged everything",
                   full);
}

/* ---- Tables ---- */

/* The pool evicts much more than the slots do. */
#define POOL_EVICTIONS_FACTOR 4

static void say_pool(struct doctor *doctor, uint64_t oldest)
{
    uint64_t used, units, evicted, refused;

    (void)doctor_number(doctor, "pool_units", &units);
    (void)doctor_number(doctor, "pool_units_used", &used);
    (void)doctor_number(doctor, "evicted_pool", &evicted);
    (void)doctor_number(doctor, "pool_not_extended", &refused);
    const bool small = evicted > oldest * POOL_EVICTIONS_FACTOR;
    const char *advice = NULL;
    if (refused > 0)
        advice = "the machine had no memory for more of it: raise the daemon's limit (MemoryMax=), "
                 "or lower pool-mib";
    else if (small)
        advice = "raise pool-mib: entries that are current make room for long entity tags and sets "
                 "of header fields, while the index has room";
    doctor_say(doctor, advice ? FINDING_WARN : FINDING_OK, "pool", advice,
               "%" PRIu64 " of %" PRIu64 " units used (%" PRIu64 " %%), %" PRIu64
               " current entries evicted for its space",
               used, units, units ? used * 100 / units : 0, evicted);
}

static void say_occupancy(struct doctor *doctor)
{
    uint64_t entries, capacity, oldest, uptime_ms;

    if (!doctor_number(doctor, "capacity", &capacity))
        return;
    (void)doctor_number(doctor, "entries", &entries);
    (void)doctor_number(doctor, "evicted_oldest", &oldest);
    (void)doctor_number(doctor, "uptime_ms", &uptime_ms);
    const bool crowded = oldest > 0 && entries * 10 > capacity * 9;
    doctor_say(doctor, crowded ? FINDING_WARN : FINDING_OK, "entries",
               crowded ? "raise capacity: entries that are current make room for others" : NULL,
               "%" PRIu64 " of %" PRIu64 " (%" PRIu64 " %%), %" PRIu64
               " current ones evicted in %" PRIu64 " s",
               entries, capacity, entries * 100 / capacity, oldest, uptime_ms / 1000);
    say_pool(doctor, oldest);
}

/* docs/operations.md: with C clocks, an entry of k clocks and n other names invalidated since its
 * fill. */
#define CLOCKS_PER_ENTRY_TYPICAL 6
#define NEEDLESS_PERCENT_MAX 5

static void say_clocks(struct doctor *doctor)
{
    uint64_t clocks, targets, uptime_ms;

    if (!doctor_number(doctor, "clocks", &clocks) || !doctor_number(doctor, "targets", &targets))
        return;
    (void)doctor_number(doctor, "uptime_ms", &uptime_ms);
    const double hours = uptime_ms > 3600000 ? (double)uptime_ms / 3600000 : 1;
    const double an_hour = (double)targets / hours;
    const double needless = 100 * (1 - exp(-CLOCKS_PER_ENTRY_TYPICAL * an_hour / (double)clocks));
    const double half_life_hours =
        an_hour > 0 ? M_LN2 * (double)clocks / (CLOCKS_PER_ENTRY_TYPICAL * an_hour) : 0;
    const bool many = needless > NEEDLESS_PERCENT_MAX;
    /* it is kept, so it is static */
    const char *const advice = clocks < CLOCKS_MAX
                                   ? "set clocks to twice as many, which doubles that time (the "
                                     "next start is cold)"
                                   : "no more clocks are possible: name less";
    char half_life[64] = "";

    if (an_hour > 0)
        (void)snprintf(half_life, sizeof(half_life), ", half of them after %.*f %s",
                       half_life_hours < 1 ? 0 : 1,
                       half_life_hours < 1 ? half_life_hours * 60 : half_life_hours,
                       half_life_hours < 1 ? "minutes" : "hours");
    doctor_say(doctor, many ? FINDING_WARN : FINDING_OK, "clocks", many ? advice : NULL,
               "%.0f names invalidated in %s on %" PRIu64
               " clocks: %.1f %% of entries an hour old are stale needlessly%s",
               an_hour, uptime_ms > 3600000 ? "an hour" : "this run", clocks, needless, half_life);
}

/* Half of a bound: a burst is twice what it was when somebody looked. */
static bool is_near(uint64_t count, uint64_t most)
{
    return count * 2 > most;
}

static void say_guards(struct doctor *doctor)
{
    uint64_t guards, holds, folded, bytes;

    if (!doctor_number(doctor, "guards_open", &guards))
        return;
    const bool many = is_near(guards, GUARDS_MAX);
    doctor_say(doctor, many ? FINDING_WARN : FINDING_OK, "guards",
               many ? "writers keep them open too long, or die: etagctl log shows who began them. "
                      "At the bound no guard begins; those that are open go on"
                    : NULL,
               "%" PRIu64 " open, of %d", guards, GUARDS_MAX);
    if (!doctor_number(doctor, "holds_open", &holds))
        return;
    (void)doctor_number(doctor, "holds_folded", &folded);
    (void)doctor_number(doctor, "guards_bytes", &bytes);
    const bool tight = is_near(holds, HOLDS_MAX) || is_near(bytes, GUARDS_BYTES_MAX);
    doctor_say(doctor, tight || folded > 0 ? FINDING_WARN : FINDING_OK, "holds",
               tight || folded > 0
                   ? "write less, hold for less (hold_ms), or name fewer targets: at the bound one "
                     "hold of everything covers the rest, and no front end answers 304"
                   : NULL,
               "%" PRIu64 " open, of %d; %" PRIu64 " MiB for them and the guards, of %u; %" PRIu64
               " found no room",
               holds, HOLDS_MAX, bytes >> 20, GUARDS_BYTES_MAX >> 20, folded);
}

static void say_peers(struct doctor *doctor)
{
    uint64_t peers, broken, slow;

    if (!doctor_number(doctor, "peers", &peers))
        return;
    (void)doctor_number(doctor, "peers_protocol_errors", &broken);
    (void)doctor_number(doctor, "peers_slow", &slow);
    const bool many = peers * 10 > (uint64_t)PEERS_MAX * 9;
    const bool bad = broken > 0 || slow > 0;
    doctor_say(
        doctor, many || bad ? FINDING_WARN : FINDING_OK, "peers",
        many  ? "close connections that are not used (idle-ms), or use fewer processes"
        : bad ? "its log names them (peer_slow, peer_broke_protocol): a client of another version?"
              : NULL,
        "%" PRIu64 " connected, of %d; %" PRIu64 " broke the protocol, %" PRIu64 " were too slow",
        peers, PEERS_MAX, broken, slow);
}

void doctor_tables(struct doctor *doctor)
{
    if (!doctor->has_status)
        return;
    const etag_str start = doctor_text(doctor, "start");
    doctor_say(doctor, FINDING_OK, "start", NULL,
               str_equal(start, ETAG_LIT("warm")) ? "warm: the former state is in use"
                                                  : "cold: it began empty; its log says why");
    say_relay(doctor);
    say_occupancy(doctor);
    say_clocks(doctor);
    say_guards(doctor);
    say_peers(doctor);
}
