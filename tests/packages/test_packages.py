# SPDX-License-Identifier: Apache-2.0
"""The Debian packages in a bare machine: install, users, upgrade under load, remove, purge. scripts/test-packages calls it, as root, with
the directories of two versions. One machine, in this order: each step begins where the one before it ended."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from machine import Machine

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = ["etagd", "etag-relay", "etagctl", "libetag0", "libetag-dev", "libnginx-mod-http-etag-cache", "python3-etagd"]
NEEDED = [*OURS, "nginx", "procps"]
SECURITY_MAX = 1.5
SITE = """server { listen 80 default_server; location / {
    etag_cache on; etag_cache_scope public; etag_cache_key example.org$request_uri; proxy_pass http://127.0.0.1:8001; } }
"""
WATCHDOG = "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n"
MESSY = ("/proc", "/sys", "/dev", "/run/systemd", "/run/udev", "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/log", "/packages", "/tmp",
         "/root", "/test")


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


class Packages(unittest.TestCase):
    former, later, programs = None, None, None  # directories: of main

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="etagd-packages-")
        cls.m = Machine(os.path.join(cls.directory, "root"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        cls.addClassCleanup(cls.m.off)
        cls.m.make()
        cls.m.offer(cls.former)
        cls.m.download(NEEDED)
        test = os.path.join(cls.m.root, "test")
        os.mkdir(test)
        for path in (os.path.join(HERE, "load.py"), os.path.join(cls.programs, "storm")):
            shutil.copy(path, test)
        cls.m.boot()
        cls.files_before = cls.files()

    @classmethod
    def files(cls):
        """Names that no installed package owns, without those that change by themselves."""
        found = set(cls.m.do("find / -xdev -not -type d -print; find /run -print").stdout.splitlines())
        owned = set(cls.m.do("cat /var/lib/dpkg/info/*.list").stdout.splitlines())
        owned |= {"/usr" + name for name in owned if name.startswith(("/lib/", "/bin/", "/sbin/"))}
        return {name for name in found - owned if not name.startswith(MESSY) and "/__pycache__/" not in name}

    def active(self, unit):
        return self.m.do(f"systemctl is-active {unit}", check=False).stdout.strip()

    def main_pid(self):
        return self.m.do("systemctl show -p MainPID --value etagd").stdout.strip()

    def serving(self):
        return self.active("etagd.service") == "active"

    # ---- In this order ----

    def test_1_install(self):
        self.m.apt("install", *NEEDED)
        self.assertEqual(self.active("etagd.service"), "active")
        self.assertEqual(self.active("etagd.socket"), "active")
        self.assertEqual(self.m.do(f"ps -o user= -p {self.main_pid()}").stdout.strip(), "etagd")
        self.assertEqual(self.m.do("stat -c '%a %U %G' /run/etagd/etagd.sock").stdout.split(), ["660", "etagd", "etagd"])
        self.assertEqual(self.m.do("stat -c '%a %U' /var/lib/etagd").stdout.split(), ["711", "etagd"])
        self.assertEqual(self.m.do("find /var/lib/etagd -mindepth 1 -perm /077").stdout, "")
        self.assertIn("socket-mode: \"0660\"\n", self.m.do("etagd --check-config").stdout)
        print(self.m.do("systemctl status --no-pager -n 6 etagd.service").stdout)

    def test_2_members_of_the_group_and_nobody_else(self):
        self.m.do("useradd alice; useradd -g etagd bob; useradd carol; usermod -aG etagd alice; usermod -aG etagd www-data")
        for user in ("alice", "bob", "root"):
            self.assertIn("incarnation", self.m.do("etagctl status", user=user).stdout, user)
            self.m.do("etagctl invalidate --surrogate a", user=user)
        refused = self.m.do("etagctl status", user="carol", check=False)
        print("carol:", refused.stderr.strip())
        self.assertEqual(refused.returncode, 2, refused)
        self.assertIn("only root and members of the socket's group", refused.stderr)
        self.assertNotEqual(self.m.do("etagctl pause", user="alice", check=False).returncode, 0)
        self.m.do("python3 -c 'import etagd, etagd.client'", user="alice")

    def test_2a_metrics(self):
        self.assertEqual(self.active("etag-exporter.service"), "inactive")  # as installed
        self.m.do("systemctl start etag-exporter")
        ask = "python3 -c \"import urllib.request as r; print(r.urlopen('http://127.0.0.1:9437/metrics').read().decode())\""
        self.assertIn("\netagd_up 1", wait_until(lambda: self.m.do(ask, check=False).stdout, 10, "an answer"))
        self.m.do("systemctl stop etag-exporter")

    def test_3_units(self):
        said = self.m.do("systemd-analyze verify --man=no etagd.service etagd.socket 2>&1 | grep etagd", check=False).stdout
        self.assertEqual(said, "")
        exposure = self.m.do("systemd-analyze --no-pager security etagd.service | grep -o 'level for etagd.service: [0-9.]*'").stdout.split()[-1]
        print("exposure:", exposure)
        self.assertLessEqual(float(exposure), SECURITY_MAX)
        # A restart is warm, and the socket is the same.
        inode = self.m.do("stat -c %i /run/etagd/etagd.sock").stdout
        self.m.do("systemctl restart etagd.service")
        self.assertIn("start=warm", self.m.do("journalctl -u etagd -o cat | grep event=serving | tail -1").stdout)
        self.assertEqual(self.m.do("stat -c %i /run/etagd/etagd.sock").stdout, inode)
        # A mistake in the configuration is told and not tried again; the same commands as in docs/operations.md mend it.
        self.m.do("cp /etc/etagd/etagd.yaml /test/good.yaml; echo 'capacity: many' >> /etc/etagd/etagd.yaml")
        self.assertNotEqual(self.m.do("systemctl restart etagd.service", check=False).returncode, 0)
        self.assertEqual(self.m.do("systemctl show -p ExecMainStatus -p SubState --value etagd.service").stdout.split(), ["2", "failed"])
        self.assertIn("capacity", self.m.do("etagd --check-config 2>&1", check=False).stdout)
        self.m.do("cp /test/good.yaml /etc/etagd/etagd.yaml; systemctl restart etagd.socket etagd.service")
        # A client starts it.
        self.m.do("systemctl stop etagd.service")
        self.m.do("etagctl status", user="alice")
        self.assertTrue(self.serving())

    def test_3a_writers_go_on_while_the_daemon_is_stopped(self):
        """The spool as the unit's hardening leaves it: set-group-ID, so that the daemon reads what alice wrote."""
        for durability in ("process", "power", "process"):
            self.m.do(f"sed -i '/^durability:/d' /etc/etagd/etagd.yaml; echo 'durability: {durability}' >> /etc/etagd/etagd.yaml;"
                      "systemctl restart etagd.service; etagctl ping")
            self.m.do("etagctl invalidate --surrogate a", user="alice")
            before, pid = json.loads(self.m.do("etagctl --json status").stdout), self.main_pid()
            self.m.do(f"kill -STOP {pid}")
            try:
                self.assertEqual(self.m.do("etagctl invalidate --surrogate a", user="alice").stdout, "spooled\n")
            finally:
                self.m.do(f"kill -CONT {pid}")
            wait_until(lambda: not self.m.do("ls /run/etagd/spool/ | grep ^e", check=False).stdout, 20, "the spool is read")
            after = json.loads(self.m.do("etagctl --json status").stdout)
            self.assertGreater(after["mutations"], before["mutations"], durability)
            self.assertEqual(self.main_pid(), pid)
        self.m.do("cp /test/good.yaml /etc/etagd/etagd.yaml; systemctl restart etagd.service")

    def test_4_the_watchdog_ends_a_stopped_daemon(self):
        self.m.do(f"mkdir -p /etc/systemd/system/etagd.service.d; printf '{WATCHDOG}' > /etc/systemd/system/etagd.service.d/test.conf;"
                  "systemctl daemon-reload; systemctl restart etagd".replace("\n", "\\n"))
        time.sleep(5)  # patted, it lives longer than its watchdog
        pid = self.main_pid()
        self.assertTrue(self.serving())
        self.m.do(f"kill -STOP {pid}")
        wait_until(lambda: self.serving() and self.main_pid() not in ("0", pid), 40, "another daemon")
        self.assertIn("atchdog timeout", self.m.do("journalctl -u etagd -o cat").stdout)
        self.m.do("rm -r /etc/systemd/system/etagd.service.d; systemctl daemon-reload; systemctl restart etagd")

    def test_5_boot(self):
        self.m.off()
        print("booted again:", self.m.boot())
        self.assertTrue(self.serving())
        # /run is new: nothing proves the state, so this start is cold.
        self.assertIn("start=cold", self.m.do("journalctl -b -u etagd -o cat | grep event=serving").stdout)

    def test_6_upgrade_under_load(self):
        self.m.do(f"cat > /etc/nginx/sites-enabled/default <<'END'\n{SITE}END\nnginx -t && systemctl restart nginx")
        wait_until(lambda: '"holds_open": 0' in self.m.do("etagctl --json status").stdout, 60, "the cold start's hold is over")
        before, workers = self.main_pid(), set(self.m.do("pgrep -f 'nginx: worker'").stdout.split())
        load, storm = self.m.start("python3 /test/load.py"), self.m.start("/test/storm /run/etagd/etagd.sock", user="alice")
        time.sleep(8)
        self.m.offer(self.later)
        self.m.look_again()
        self.m.apt("install", *OURS)
        wait_until(lambda: self.serving() and self.main_pid() not in ("0", before), 60, "the new daemon")
        time.sleep(8)
        seen = json.loads(load.communicate("")[0])
        counts, errors = storm.communicate("")
        print("over nginx:", json.dumps(seen), "\nover libetag:", counts.strip())
        self.assertFalse(workers & set(self.m.do("pgrep -f 'nginx: worker'").stdout.split()), "nginx runs the former module")
        self.assertEqual((seen["dropped"], seen["stale"]), ([], []))
        self.assertGreater(seen["not_modified"], 100)
        self.assertGreater(seen["writes"], 20)
        self.assertEqual(storm.returncode, 0, errors)
        self.assertGreater(json.loads(counts)["not_modified"], 100)
        self.assertEqual(len(set(self.m.do(f"dpkg-query -W -f '${{Version}}\\n' {' '.join(OURS)}").stdout.split())), 1)

    def test_7_remove_keeps_state_and_purge_leaves_nothing(self):
        self.m.do("rm /etc/nginx/sites-enabled/default")  # its directives go with the module
        self.m.apt("remove", *OURS)
        self.assertNotEqual(self.active("etagd.service"), "active")
        self.m.do("nginx -t && test -e /etc/etagd/etagd.yaml && ls -A /var/lib/etagd | grep -q mdb")
        self.assertEqual(self.m.do("pgrep -x etagd", check=False).stdout, "")
        self.m.apt("purge", *OURS)
        left = sorted(self.files() - self.files_before)
        ours = [name for name in left if "etag" in name]
        print("not there before, and of no package:", ", ".join(n for n in left if n not in ours))
        self.assertEqual(ours, [])
        self.assertEqual(self.m.do("find /etc /var/lib /run /usr -xdev -name '*etag*' -not -path '/var/lib/dpkg/*'").stdout, "")
        # The user and the group stay, as Debian's policy has it: files elsewhere may bear their numbers.
        named = self.m.do("grep -rl etagd /etc", check=False).stdout.split()
        self.assertEqual({name.rstrip("-") for name in named} - {"/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow"}, set())


if __name__ == "__main__":
    Packages.former, Packages.later, Packages.programs = (os.path.abspath(argument) for argument in sys.argv[1:4])
    unittest.main(argv=sys.argv[:1], verbosity=2, failfast=True)
