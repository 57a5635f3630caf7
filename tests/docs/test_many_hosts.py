# SPDX-License-Identifier: Apache-2.0
"""docs/many-hosts.md, followed to the letter: its blocks in three hosts, which are network and mount namespaces with an /etc, /run and
/var/lib of their own, before a PostgreSQL in a fourth. The real programs run; "systemctl" is a stand-in that starts and stops them."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
sys.path[:0] = [os.path.join(ROOT, "tests/system", name) for name in ("relay", "torture/hosts", "python", "")]
import harness  # noqa: E402
from host_net import Database  # noqa: E402
from network import Network  # noqa: E402

DOCUMENT = os.path.join(ROOT, "docs/many-hosts.md")
NAMES = ("web-1", "web-2", "web-3")
BLOCK = re.compile(r"<!-- many_hosts: ([\w -]+?)(?:; says: (\w[\w-]*))? -->\n```sh\n(.*?)```", re.S)
SYSTEMCTL = """#!/bin/sh
# systemctl [enable] [--now] start|restart|stop UNIT, of etagd and etag-relay
case $* in
"restart etagd" | "enable --now etag-relay" | "start etag-relay" | "stop etag-relay") ;;
*) echo "systemctl $*: not known here" >&2; exit 1 ;;
esac
for unit; do :; done
if [ -e "/run/$unit.pid" ]; then kill "$(cat "/run/$unit.pid")"; while kill -0 "$(cat "/run/$unit.pid")" 2>/dev/null; do sleep 0.05; done; fi
rm -f "/run/$unit.pid"
[ "$1" = stop ] && exit 0
if [ "$unit" = etagd ]; then
    setpriv --reuid etagd --regid etagd --init-groups "$ETAGD_PROGRAMS/daemon/etagd" --fresh --loop epoll >>/run/etagd.log 2>&1 </dev/null &
else
    PGPASSFILE=/etc/etag-relay/pgpass setpriv --reuid etag-relay --regid etag-relay --init-groups "$ETAGD_PROGRAMS/relay/etag-relay" >>/run/etag-relay.log 2>&1 </dev/null &
fi
echo $! >"/run/$unit.pid"
"""


class Place:
    """One host: a shell in its namespaces, which reads what a person would type."""

    def __init__(self, name, network, directory):
        self.name = name
        self.etc, self.bin = (os.path.join(directory, name, part) for part in ("etc", "bin"))
        shutil.copytree("/etc", self.etc, symlinks=True, ignore_dangling_symlinks=True)
        os.makedirs(self.bin)
        self.link_programs()
        self.configure(network.addresses[name])
        self.shell = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *network.prefix(name), "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, cwd="/",
            env={**os.environ, "PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin", "ETAGD_PROGRAMS": os.path.abspath(harness.BUILD)})
        self.run(f"mount --bind {self.etc} /etc && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && hostname {name}\n"
                 "install -d -o etagd -g etagd /run/etagd; install -d -o etag-relay -g etag-relay /run/etag-relay; install -d -o etagd -g etagd /var/lib/etagd")

    def link_programs(self):
        for path in ("daemon/etagd", "tools/etagctl", "relay/etag-relay"):
            os.symlink(os.path.abspath(os.path.join(harness.BUILD, path)), os.path.join(self.bin, os.path.basename(path)))
        os.chmod(harness.put_file(os.path.join(self.bin, "systemctl"), SYSTEMCTL), 0o755)

    def configure(self, database):
        """What packages and DNS would have done."""
        for package, files in (("etagd", ["etagd.yaml"]), ("etag-relay", ["etag-relay.yaml"])):
            os.makedirs(os.path.join(self.etc, package), exist_ok=True)
            for file in files:
                shutil.copy(os.path.join(ROOT, "packaging", package, file), os.path.join(self.etc, package, file))
        for file, text in (("passwd", "etagd:x:64990:64990::/:/bin/false\netag-relay:x:64991:64991::/:/bin/false\n"),
                           ("group", "etagd:x:64990:etag-relay\netag-relay:x:64991:\n"), ("hosts", f"{database} db\n")):
            with open(os.path.join(self.etc, file), "a", encoding="utf-8") as f:
                f.write(text)

    def run(self, text):
        """What it printed."""
        self.shell.stdin.write(text + "\necho \"== $?\"\n")
        self.shell.stdin.flush()
        lines = []
        for line in self.shell.stdout:
            if line.startswith("== "):
                return "".join(lines), int(line[3:])
            lines.append(line)
        raise AssertionError(f"the shell of {self.name} has ended:\n" + "".join(lines))

    def end(self):
        self.shell.stdin.close()  # it is the first of its processes, so they all end with it
        self.shell.wait()
        self.shell.stdout.close()


class ManyHosts(unittest.TestCase):
    def setUp(self):
        self.network = Network(NAMES)
        self.addCleanup(self.network.end)
        if not self.network.is_apart():
            print(f"skipped: no network namespaces: {self.network.why}")
            sys.exit(harness.SKIP)
        directory = tempfile.mkdtemp(prefix="etagd-test-")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        os.chmod(directory, 0o755)
        Database.network = self.network
        self.database = Database.make()
        self.addCleanup(self.database.end)
        self.database.sql("CREATE DATABASE shop", database="postgres")
        self.database.sql("CREATE ROLE postgres SUPERUSER LOGIN", database="postgres")
        self.database.sql("CREATE ROLE shop LOGIN", database="postgres")
        self.places = {}
        for name in NAMES:
            self.places[name] = Place(name, self.network, directory)
            self.addCleanup(self.places[name].end)

    def test_the_document_to_the_letter(self):
        blocks = BLOCK.findall(harness.content_of(DOCUMENT))
        self.assertGreater(len(blocks), 7)
        for where, says, text in blocks:
            for name in NAMES if where == "each" else where.split():
                with self.subTest(name, text=text):
                    self.follow(self.places[name], text, says)

    def follow(self, place, text, says):
        """A person who is not shown yet what the document says looks once more."""
        looks_only = says and "stop" not in text
        end = harness.time.monotonic() + harness.bound(20)
        while True:
            shown, status = place.run(text)
            if says in shown and (says or status == 0):
                return
            if not looks_only or harness.time.monotonic() > end:
                self.fail(f"{place.name}: status {status}, not {says!r} in:\n{shown}{place.run('tail -n 5 /run/*.log')[0]}")
            harness.time.sleep(0.3)


if __name__ == "__main__":
    unittest.main(verbosity=2)
