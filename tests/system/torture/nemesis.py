# SPDX-License-Identifier: Apache-2.0
"""What is done to the daemon, its workers and its directories. Each nemesis leaves the daemon serving.

They are dealt like cards: a shuffled deck of all, then the next, so that a short run meets each too.
"""
import errno
import os
import shutil
import signal
import subprocess
import sys
import time

from campaign import HOSTILE_UID, LEASE_MS_MAX, LEASE_MS_MIN, LINGER_MS, Failure, TortureDaemon
from harness import bound

SPOOL_SLOTS = 4096
# Run as a user without a role: puts what it can into a world-writable, sticky directory.
HOSTILE = r"""
import os, random, socket, sys
os.chdir(sys.argv[1])
rng = random.Random(int(sys.argv[2]))
def fifo(name): os.mkfifo(name)
def directory(name): os.mkdir(name); open(name + "/inside", "w").close()
def symlink(name): os.symlink("/etc/passwd", name)
def dangling(name): os.symlink("/nowhere/" + name, name)
def sparse(name):
    with open(name, "xb") as f: f.truncate(1 << 40)
def hard(name):
    with open("t-hostile-" + name, "x"): pass
    os.link("t-hostile-" + name, name)
def unreadable(name): os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0))
def listener(name): socket.socket(socket.AF_UNIX).bind(name)
def garbage(name):
    with open(name, "xb") as f: f.write(rng.randbytes(200))
makers = [fifo, directory, symlink, dangling, sparse, hard, unreadable, listener, garbage]
names = ["e%03x" % rng.randrange(4096) for _ in range(60)] + ["all-%02x" % rng.randrange(64) for _ in range(8)]
names += ["taken-%02x" % rng.randrange(64) for _ in range(8)] + ["t-%x" % rng.randrange(1 << 30), "e1000", "zzz", "mark2"]
made = 0
for i, name in enumerate(names):
    try:
        makers[i % len(makers)](name)
        made += 1
    except OSError:
        pass
for name in ("mark", "lock"):
    for attack in (lambda: os.unlink(name), lambda: os.rename("zzz", name), lambda: open(name, "r+b").close()):
        try:
            attack()
        except OSError:
            continue
        sys.exit("the hostile user could change " + name)
print(made)
"""


def down_time(s):
    """Seconds that the daemon stays away: mostly short, sometimes longer than any lease."""
    return s.random.choice((0, 0, 0.02, 0.1, 0.4, 0.4 + LINGER_MS / 1000 * s.random.random() * 2))


def kill(s):
    s.daemon_kill()
    s.rest(down_time(s))
    s.daemon_start()


def kill_twice(s):
    """Killed again while it starts."""
    s.daemon_kill()
    for _ in range(s.random.randint(1, 3)):
        s.daemon.lease_ms = s.random.randint(LEASE_MS_MIN, LEASE_MS_MAX)
        s.daemon.spawn()
        s.rest(s.random.random() * 0.4)
        s.daemon.kill()
    s.daemon_start()


def stop_and_start(s):
    s.daemon_alive()
    s.sample_counters()
    status = s.daemon.stop()
    if status != 0:
        raise Failure(f"the daemon ended with status {status} after SIGTERM")
    s.rest(down_time(s))
    s.daemon_start()


def stall(s):
    """Shorter and longer than the lease, and longer than the linger."""
    lease = s.daemon.lease_ms / 1000
    for seconds in (lease * 0.5, lease * 2, s.random.choice((lease * 3, LINGER_MS / 1000 + 0.3))):
        s.daemon_alive()
        s.daemon.signal(signal.SIGSTOP)
        s.rest(seconds)
        s.daemon.signal(signal.SIGCONT)
        s.rest(s.random.random() * 0.1)


def stall_often(s):
    """Many short ones, at any place of a turn."""
    for _ in range(20):
        s.daemon.signal(signal.SIGSTOP)
        s.rest(s.random.random() * 0.02)
        s.daemon.signal(signal.SIGCONT)
        s.rest(s.random.random() * 0.03)
    s.daemon_alive()


def stall_then_kill(s):
    s.daemon_alive()
    s.sample_counters()
    s.daemon.signal(signal.SIGSTOP)
    s.rest(s.random.random() * 0.6)
    s.daemon.kill()
    s.daemon_start()


def workers_killed(s):
    s.some_workers_kill(4)


def workers_stalled(s):
    for worker in s.random.sample(s.workers, s.random.randint(1, 4)):
        s.worker_stop(worker, s.random.choice((0.01, 0.05, 0.3, 0.5 + LINGER_MS / 1000)))
        s.rest(s.random.random() * 0.1)


def state_contents_remove(s):
    for name in os.listdir(s.daemon.state):
        path = os.path.join(s.daemon.state, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


def state_removed(s):
    s.daemon_kill()
    if s.mounted:
        state_contents_remove(s)
    else:
        shutil.rmtree(s.daemon.state)
    s.rest(down_time(s))
    s.daemon_start()


def witness_removed(s):
    s.daemon_kill()
    os.unlink(s.daemon.socket + ".witness")
    s.rest(down_time(s))
    s.daemon_start()


def backup_restored(s):
    """The state becomes an older one, in place: all that happened since is missing in it."""
    data = os.path.join(s.daemon.state, "data.mdb")
    s.daemon_kill()
    with open(data, "rb") as f:
        backup = f.read()
    s.daemon_start()
    s.rest(0.5 + s.random.random())
    s.daemon_kill()
    with open(data, "r+b") as f:
        f.write(backup)
        f.truncate(len(backup))
    s.daemon_start()


def two_at_once(s):
    """Exactly one of them may serve."""
    s.daemon_kill()
    pair = [s.daemon, TortureDaemon(s.directory, s.options, s.daemon.loop, s.daemon.durability)]
    for one in pair:
        one.lease_ms = s.random.randint(LEASE_MS_MIN, LEASE_MS_MAX)
        one.spawn()
    end = time.monotonic() + bound(30)
    while all(one.process.poll() is None for one in pair):
        if time.monotonic() > end:
            raise Failure("two daemons on one socket and state live on")
        s.rest(0.01)
    loser, winner = sorted(pair, key=lambda one: one.process.poll() is None)
    loser.end()
    s.daemon = winner
    s.daemon_serves()


def disk_fill(s):
    """Leaves not a page."""
    path = os.path.join(s.daemon.state, "filling")
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    piece = 1 << 20
    while piece >= 512:
        try:
            os.write(fd, bytes(piece))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            piece //= 2
    os.close(fd)
    return path


def disk_full(s):
    path = disk_fill(s)
    s.rest(0.1 + s.random.random() * 0.8)
    s.daemon_alive()
    if s.random.randrange(2) == 0:
        s.daemon_kill()
        s.rest(down_time(s))
        if not s.daemon_start(may_fail=True):
            # It may refuse to begin a run that it cannot record.
            os.unlink(path)
            s.daemon_start()
            return
        s.rest(s.random.random() * 0.5)
    os.unlink(path)
    s.rest(0.2)


def spool_full(s):
    """With the daemon down, each of its names is taken: writers have to touch what means "purge everything"."""
    s.daemon_kill()
    spool = s.spool()
    s.rest(0.5)
    events = [name for name in os.listdir(spool) if name.startswith("e")]
    contents = [b"garbage"]  # of a user who counts
    for name in events[:20]:
        with open(os.path.join(spool, name), "rb") as f:
            contents.append(f.read())
    for number in range(SPOOL_SLOTS):
        name = f"e{number:03x}"
        if name in events:
            continue
        try:
            fd = os.open(os.path.join(spool, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
        except FileExistsError:
            continue
        # Garbage once in a while: it purges everything, which would hide what the rest comes to.
        os.write(fd, contents[0] if len(contents) == 1 or number == 17 else contents[1 + number % (len(contents) - 1)])
        os.close(fd)
    s.rest(0.5)
    s.nemeses["purge_all_files"] = s.nemeses.get("purge_all_files", 0) + sum(
        name.startswith("all-") for name in os.listdir(spool))
    s.daemon_start()


def hostile_user(s):
    done = subprocess.run([sys.executable, "-c", HOSTILE, s.spool(), str(s.random.randrange(1 << 30))], cwd="/",
                          user=HOSTILE_UID, group=HOSTILE_UID, extra_groups=[], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure("hostile user: " + done.stderr)
    s.nemeses["hostile_files"] = s.nemeses.get("hostile_files", 0) + int(done.stdout)
    s.rest(0.3)
    if s.random.randrange(2) == 0:
        kill(s)
    s.hostile_remove()


def deck_of(options):
    """The nemeses that this run can use: function, and why not where it can't."""
    deck = [kill, kill, kill_twice, stop_and_start, stall, stall_often, stall_then_kill, workers_killed, workers_killed,
            workers_stalled, workers_stalled, state_removed, witness_removed, backup_restored, two_at_once]
    skipped = {}
    if options.disk:
        deck.append(disk_full)
    else:
        skipped["disk_full"] = "needs root, to mount a small file system"
    if options.spool:
        deck.append(spool_full)
    if options.spool and os.geteuid() == 0:
        deck.append(hostile_user)
    elif options.spool:
        skipped["hostile_user"] = "needs root, to be another user"
    return deck, skipped


def torment(s, deck, seconds, stop_at_violation):
    """Deals until the time is over, and the first deck with it."""
    end = time.monotonic() + seconds
    cards = list(deck)
    s.random.shuffle(cards)
    first = len(cards)
    while time.monotonic() < end or first > 0:
        first -= 1
        if not cards:
            cards = list(deck)
            s.random.shuffle(cards)
        card = cards.pop()
        began = time.monotonic()
        card(s)
        took = round(time.monotonic() - began, 1)
        s.slowest[card.__name__] = max(took, s.slowest.get(card.__name__, 0))
        s.nemeses[card.__name__] = s.nemeses.get(card.__name__, 0) + 1
        s.rest(0.1 + s.random.random() * 0.5)
        if stop_at_violation and s.violations_seen():
            return
