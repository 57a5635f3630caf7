# SPDX-License-Identifier: Apache-2.0
"""What is done to hosts, the way between them and the database, and the database. Each leaves all of it in order, and says to the
checker what follows from it."""
import os
import signal
import subprocess
import time

import relay_db
from campaign import Failure
from harness import bound
from servers import signal_send


def some_host(s):
    return s.random.choice(s.hosts)


def some_hosts(s):
    return s.random.sample(s.hosts, s.random.choice((1, 1, 1, 2, 3)))


def long_and_short(s):
    """Of L_net."""
    return s.l_net_ms / 1000 * s.random.choice((0.3, 0.8, 1.5, 2.5))


def beyond(s):
    """Longer than leases, and than writers wait."""
    return s.l_net_ms / 1000 * (1.6 + s.random.random())


# ---- Processes ----

def relay_killed(s):
    for host in some_hosts(s):
        host.relay_kill()
        s.resting(s.random.choice((0, 0.1, long_and_short(s))))
        host.relay_start()


def relay_stopped(s):
    hosts = some_hosts(s)
    s.stop([host.relay for host in hosts])
    s.rest(long_and_short(s))
    s.go_on([host.relay for host in hosts])


def daemon_killed(s):
    for host in some_hosts(s):
        host.daemon_kill()
        s.resting(s.random.choice((0, 0.1, long_and_short(s))))
        host.daemon_start()


def daemon_stopped(s):
    """Often, so that it stands still between any two steps, and longer than its own lease."""
    host = some_host(s)
    for _ in range(8):
        s.stop([host.daemon.process])
        s.rest(s.random.random() * 0.25)
        s.go_on([host.daemon.process])
        s.rest(s.random.random() * 0.15)


def daemon_stopped_then_killed(s):
    """What its relay had sent it is lost."""
    host = some_host(s)
    s.stop([host.daemon.process])
    s.rest(s.random.random() * s.l_net_ms / 1000)
    host.daemon_kill()
    host.daemon_start()


def host_stopped(s):
    """All of it. Its clock goes on, as there is one kernel: so promises by time hold too."""
    processes = some_host(s).processes()
    s.stop(processes)
    s.rest(long_and_short(s))
    s.go_on(processes)


def host_killed(s):
    host = some_host(s)
    for worker in host.workers:
        if worker.process.poll() is None:
            worker.process.kill()
    host.relay_kill()
    host.daemon_kill()
    s.resting(s.random.choice((0.1, long_and_short(s))))
    host.daemon_start()
    host.relay_start()


def workers_killed(s):
    s.some_workers_kill(6)


def cold_start(s):
    """A daemon forgets."""
    host = some_host(s)
    host.daemon_kill()
    os.unlink(host.daemon.socket + ".witness")
    host.daemon_start()


def leave(host, other):
    """Its relay is away."""
    done = subprocess.run([*other.prefix, relay_db.RELAY, *other.section.relay_options(other), "leave", host.name], capture_output=True, text=True,
                          timeout=bound(60), check=False)
    if done.returncode != 0:
        raise Failure(f"leave {host.name}: exit status {done.returncode}: {done.stderr}{done.stdout}")


def put_out(s):
    """A host that is away is put out by hand, and comes back."""
    host, other = s.random.sample(s.hosts, 2)
    host.relay_kill()
    since = time.monotonic_ns()
    leave(host, other)
    s.resting(beyond(s) / 2)
    s.cut_was(host, since)
    host.relay_start()


# ---- The way ----

def away(s, hosts, begin, end):
    """From begin to end nothing comes from the database."""
    for host in hosts:
        begin(host)
    since = time.monotonic_ns()
    s.rest(beyond(s))
    for host in hosts:
        s.cut_was(host, since)
    for host in hosts:
        end(host)


def cut(s):
    away(s, some_hosts(s), lambda host: host.proxy.tell("cut"), lambda host: host.proxy.tell("pass"))


def stalled(s):
    """What was sent arrives in the end."""
    way = s.random.choice(("up", "down", "both"))
    away(s, some_hosts(s), lambda host: host.proxy.tell("stall", way), lambda host: host.proxy.tell("pass"))


def swallowed(s):
    way = s.random.choice(("up", "down"))
    away(s, some_hosts(s), lambda host: host.proxy.tell("swallow", way), lambda host: host.proxy.tell("pass"))


def unplugged(s):
    away(s, some_hosts(s), lambda host: s.network.unplug(host.name), lambda host: s.network.plug(host.name))


def delayed(s):
    """Answers are as old as L_net, or nearly: a poll says what was so when it was sent."""
    hosts = some_hosts(s)
    for host in hosts:
        host.proxy.tell("delay", s.random.choice(("down", "down", "both")), int(s.l_net_ms * s.random.choice((0.2, 0.5, 0.8, 1.2)) * 0.8))
    s.rest(beyond(s) * 1.5)
    for host in hosts:
        host.proxy.tell("pass")


def flapping(s):
    host = some_host(s)
    for _ in range(10):
        host.proxy.tell(s.random.choice(("cut", "stall both", "swallow down", "swallow up")))
        s.rest(s.random.random() * 0.15)
        host.proxy.tell("pass")
        s.rest(s.random.random() * 0.15)


# ---- The database ----

def backends_terminated(s):
    for pid in s.pair.primary.backends(s.random.choice((None, "etag-relay", "torture"))):
        s.pair.primary.sql("SELECT pg_terminate_backend(%s)", pid, database="postgres")


def backend_killed(s):
    """The server starts all of its processes again: unlogged tables are empty."""
    pids = s.pair.primary.backends("torture")
    if pids:
        signal_send(s.random.choice(pids), signal.SIGKILL)
    s.rest(0.5)


def primary_killed(s):
    s.pair.primary.kill()
    s.resting(s.random.random() * 0.5)
    s.pair.primary.begin_again()


def primary_restarted(s):
    s.pair.primary.end("fast")
    s.pair.primary.begin_again()


def killed_while_away(s):
    """What relays had put into the outbox a moment before is lost with the crash, and a host had not read it."""
    host = some_host(s)
    host.proxy.tell("swallow", "down")
    since = time.monotonic_ns()
    s.rest(0.1 + s.random.random() * 0.2)
    s.pair.primary.kill()
    s.pair.primary.begin_again()
    s.cut_was(host, since)
    host.proxy.tell("pass")


def promote(s):
    """A standby takes over, which may lag: what it lacks is lost. The former primary is dead, and a new standby is made."""
    before = time.monotonic_ns()
    s.pair.primary.kill()
    after = time.monotonic_ns()
    s.pair.replication.tell("cut")
    s.pair.promote()
    s.lost_since(before, after)
    for host in s.hosts:
        host.proxy.tell("target", s.network.addresses[host.name], s.pair.primary.port)
    s.pair.replication.tell("pass")
    s.rest(0.3)
    s.pair.follow()
    s.pair.set_synchronous(s.pair_synchronous)


def promoted(s):
    s.pair.replication.tell("stall", "both")
    s.rest(0.05 + s.random.random() * 0.2)
    promote(s)


def promoted_without_a_host(s):
    """The new primary knows nothing of a host that has a lease by the former one, and hears nothing from it."""
    host, other = s.random.sample(s.hosts, 2)
    host.relay_kill()
    leave(host, other)
    s.pair.replication.tell("stall", "both")
    host.relay_start()
    s.fresh(host)
    s.rest(s.random.random() * 0.2)
    host.proxy.tell("cut")
    since = time.monotonic_ns()
    promote(s)
    s.cut_was(host, since)
    host.proxy.tell("pass")


def primary_stopped(s):
    """It takes connections, and answers nobody."""
    pids = s.pair.primary.pids()
    for pid in pids:
        signal_send(pid, signal.SIGSTOP)
    since = time.monotonic_ns()
    s.rest(beyond(s))
    for host in s.hosts:
        s.cut_was(host, since)
    for pid in pids:
        signal_send(pid, signal.SIGCONT)


def trimmed_while_away(s):
    """Retention removes what a host has not read."""
    host = some_host(s)
    host.proxy.tell("cut")
    since = time.monotonic_ns()
    for _ in range(2):
        s.rest(1.2)  # the shortest retention is a second
        s.nemeses["rows_trimmed"] = s.nemeses.get("rows_trimmed", 0) + s.sql("SELECT etagd.trim(1000, 100000)")[0][0]
    s.cut_was(host, since)
    host.proxy.tell("pass")


def lease_changed(s):
    """A shorter lease, and the former one again, which is the longest that the checker knows of."""
    for lease_ms in (s.l_net_ms * 6 // 10, s.l_net_ms):
        done = subprocess.run([relay_db.RELAY, "--connection", s.pair.primary.conninfo(s.database_name), "setup", "--lease-ms", str(lease_ms)],
                              capture_output=True, text=True, timeout=bound(60), check=False)
        if done.returncode != 0:
            raise Failure(f"setup --lease-ms {lease_ms}: exit status {done.returncode}: {done.stderr}{done.stdout}")
        s.rest(0.5)


def synchronous_away(s):
    """Who commits waits for the standby; relays do not."""
    s.pair.replication.tell("stall", "both")
    s.rest(s.l_net_ms / 1000)
    s.pair.replication.tell("pass")


# Whatever the hosts have in common.
HOSTS_DECK = (relay_killed, relay_stopped, daemon_killed, daemon_stopped, daemon_stopped_then_killed, host_stopped, host_killed, workers_killed,
              cold_start, put_out, cut, stalled, swallowed, unplugged, delayed, flapping)
DECK = HOSTS_DECK + (backends_terminated, backend_killed, primary_killed, primary_restarted, primary_stopped, killed_while_away, trimmed_while_away,
                     lease_changed, promoted, promoted_without_a_host, synchronous_away)
APART = ("unplugged", "members_apart", "all_members_apart", "stranded")


def deck_of(options, network, all_cards):
    """The nemeses that this run can use: function, and why not where it can't."""
    names = [card.__name__ for card in all_cards]
    skipped = {} if network.is_apart() else {name: "needs network namespaces" for name in APART if name in names}
    only = options.only.split(",") if options.only else None
    unknown = [name for name in only or () if name not in names]
    if unknown:
        raise SystemExit(f"no such nemesis: {', '.join(unknown)}")
    return [card for card in all_cards if card.__name__ not in skipped and (only is None or card.__name__ in only)], skipped


def torment(s, deck, first, seconds, lacks):
    """Deals until the time is over; on a crowded machine longer, until enough was seen. first: what a short run must have met, the last of
    them at first."""
    end = time.monotonic() + seconds
    last = end + min(bound(seconds), 4 * seconds)
    cards = [card for card in first if card in deck]
    while time.monotonic() < end or (time.monotonic() < last and lacks(s)):
        if not cards:
            cards = list(deck)
            s.random.shuffle(cards)
        card = cards.pop()
        began = time.monotonic()
        card(s)
        s.fresh_again.append(s.all_fresh())
        took = round(time.monotonic() - began, 1)
        s.slowest[card.__name__] = max(took, s.slowest.get(card.__name__, 0))
        s.nemeses[card.__name__] = s.nemeses.get(card.__name__, 0) + 1
        s.rest(0.3 + s.random.random() * 0.7)
        if s.options.until_violation and s.check()[0]["history_violations"]:
            return
