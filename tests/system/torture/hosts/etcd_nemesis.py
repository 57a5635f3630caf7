# SPDX-License-Identifier: Apache-2.0
"""What is done to the members of etcd, and to the ways between them."""
import signal
import time

from hosts_nemesis import HOSTS_DECK, beyond, cut, long_and_short, some_host


def some_member(s):
    """The leader, more often than not."""
    return s.cluster.leader() if s.random.randrange(3) else s.random.choice(s.cluster.members)


def two_members(s):
    return s.random.sample(s.cluster.members, 2)


def member_killed(s):
    member = some_member(s)
    member.end()
    s.rest(long_and_short(s))
    member.start()
    s.cluster.back()


def members_killed(s):
    """No majority is left; and then one of others."""
    killed = s.random.sample(s.cluster.members, s.random.choice((2, 3)))
    for member in killed:
        member.end()
    since = time.monotonic_ns()
    s.rest(beyond(s))
    all_cut(s, since)
    for member in killed:
        member.start()
    s.cluster.back()


def member_stopped(s):
    """What it was asked before it answers late."""
    member = some_member(s)
    member.signal(signal.SIGSTOP)
    s.rest(long_and_short(s))
    member.signal(signal.SIGCONT)
    s.cluster.back()


def members_stopped(s):
    stopped = two_members(s)
    for member in stopped:
        member.signal(signal.SIGSTOP)
    since = time.monotonic_ns()
    s.rest(beyond(s))
    all_cut(s, since)
    for member in stopped:
        member.signal(signal.SIGCONT)
    s.cluster.back()


def all_cut(s, since):
    for host in s.hosts:
        s.cut_was(host, since)


def apart(s, members):
    """Pairs between whom nothing goes. Hosts reach all of them."""
    return [(one.name, other.name) for one in members for other in s.cluster.members if one is not other]


def apart_for(s, pairs, seconds):
    for one, other in pairs:
        s.network.avoid(one, other)
    since = time.monotonic_ns()
    s.rest(seconds)
    return since


def together(s, pairs):
    for one, other in pairs:
        s.network.find(one, other)
    s.cluster.back()


def members_apart(s):
    """One of them hears nothing of the others, and says so, or nothing, to those who ask it."""
    pairs = apart(s, [some_member(s)])
    apart_for(s, pairs, beyond(s) * 1.5)
    together(s, pairs)


def stranded(s):
    """A host reaches one member, which has no majority."""
    host, number = some_host(s), s.random.randrange(len(s.cluster.members))
    others = [proxy for i, proxy in enumerate(host.proxy.proxies) if i != number]
    for proxy in others:
        proxy.tell("cut")
    pairs = apart(s, [s.cluster.members[number]])
    since = apart_for(s, pairs, beyond(s) * 1.5)
    s.cut_was(host, since)
    for proxy in others:
        proxy.tell("pass")
    together(s, pairs)


def all_members_apart(s):
    pairs = apart(s, s.cluster.members)
    since = apart_for(s, pairs, beyond(s))
    all_cut(s, since)
    together(s, pairs)


def member_cut_from_a_host(s):
    """It asks another one."""
    host = some_host(s)
    proxy = s.random.choice(host.proxy.proxies)
    proxy.tell(*s.random.choice((("cut",), ("stall", "both"), ("stall", "down"), ("swallow", "down"), ("swallow", "up"))))
    s.rest(beyond(s))
    proxy.tell("pass")


def compacted(s):
    revision = s.cluster.revision()
    s.cluster.ctl("compact", str(revision), "--physical")
    s.cluster.ctl("defrag")


def lease_changed(s):
    """A shorter lease, and the former one again, which is the longest that the checker knows of."""
    for lease_ms in (s.l_net_ms * 6 // 10, s.l_net_ms):
        s.setup(lease_ms)
        s.rest(0.5)


ETCD_DECK = HOSTS_DECK + (member_killed, members_killed, member_stopped, members_stopped, members_apart, all_members_apart, stranded,
                          member_cut_from_a_host, compacted, lease_changed)
FIRST = (members_killed, cut, stranded)
