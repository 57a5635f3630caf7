# SPDX-License-Identifier: Apache-2.0
"""A bare Debian in a temporary directory, booted with systemd-nspawn in a network of its own, and commands in it."""
import glob
import os
import platform
import re
import shutil
import signal
import subprocess
import time

RELEASE = platform.freedesktop_os_release()["VERSION_CODENAME"]  # the packages are made for it
BOOT_SECONDS = 120
LOCAL = "etc/apt/sources.list.d/packages.list"


def run(*command, check=True, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done


def mirrors():
    """Where this machine's own apt gets the release from: {(uri, suite): components}, in the order of its configuration."""
    said = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages").stdout
    found = {}
    for line in said.splitlines():
        uri, suite, component = line.split()
        if re.fullmatch(RELEASE + r"(-updates|-security)?", suite):
            found.setdefault((uri, suite), set()).add(component)
    if not any(suite == RELEASE for _, suite in found):
        raise RuntimeError(f"this machine's apt has no source of {RELEASE}")
    return found


class Machine:
    def __init__(self, root):
        self.root = root
        self.process = None
        self.leader = None

    # ---- Before it boots ----

    def make(self):
        sources = mirrors()
        uri = next(uri for uri, suite in sources if suite == RELEASE)
        base = os.environ.get("ETAGD_TEST_BASE")  # while a test is written: a directory that debootstrap made before
        if base:
            run("cp", "-a", "--reflink=auto", base, self.root)
        else:
            run("debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv,dbus", RELEASE, self.root, uri)
        with open(os.path.join(self.root, "etc/apt/sources.list"), "w", encoding="ascii") as file:
            for (uri, suite), components in sources.items():
                file.write(f"deb {uri} {suite} {' '.join(sorted(components))}\n")
        with open(os.path.join(self.root, LOCAL), "w", encoding="ascii") as file:
            file.write("deb [trusted=yes] file:/packages ./\n")
        # Proxies and the like, as this machine has them.
        for name in glob.glob("/etc/apt/apt.conf.d/*"):
            with open(name, encoding="utf-8") as file:
                if re.search(r"Acquire::|Proxy", file.read()):
                    shutil.copy(name, os.path.join(self.root, "etc/apt/apt.conf.d"))

    def offer(self, directory):
        """The packages in the directory become what apt finds in /packages."""
        place = os.path.join(self.root, "packages")
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(directory, place)
        with open(os.path.join(place, "Packages"), "w", encoding="utf-8") as file:
            file.write(run("dpkg-scanpackages", "--multiversion", ".", cwd=place).stdout)

    def download(self, packages):
        """Fetches, into apt's cache, what the packages need: once it is booted it has no network."""
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for name in ("resolv.conf", "hosts"):
            shutil.copy("/etc/" + name, os.path.join(self.root, "etc", name))
        run("chroot", self.root, "apt-get", "-q", "update", env=environment)
        run("chroot", self.root, "apt-get", "-q", "-y", "--download-only", "--no-install-recommends", "install", *packages, env=environment)

    # ---- Booted ----

    def boot(self):
        self.process = subprocess.Popen(
            ["systemd-nspawn", "--boot", "--quiet", "-D", self.root, f"--machine=etagd-test-{os.getpid()}", "--register=no", "--keep-unit",
             "--private-network", "--resolv-conf=off", "--console=pipe"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            self.leader = self._child()
            if self.leader:
                state = self.do("systemctl is-system-running", check=False).stdout.strip()
                if state in ("running", "degraded"):
                    return state
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the machine did not boot")
            time.sleep(0.2)

    def _child(self):
        try:
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
                return (file.read().split() or [None])[0]
        except FileNotFoundError:
            return None

    def command(self, script, user=None):
        become = ["setpriv", "--reuid", user, "--regid", self.group_of(user), "--init-groups"] if user else []
        return ["nsenter", "-t", self.leader, "-a", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive",
                "LC_ALL=C.UTF-8", *become, "sh", "-c", script]

    def group_of(self, user):
        return self.do(f"id -g {user}").stdout.strip()

    def do(self, script, user=None, check=True):
        return run(*self.command(script, user), check=check)

    def start(self, script, user=None):
        """In the background, with pipes; its standard input ends it."""
        return subprocess.Popen(self.command(script, user), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def apt(self, *arguments):
        return self.do("apt-get -q -y --no-install-recommends " + " ".join(arguments))

    def look_again(self):
        """apt looks at /packages again, and at nothing that needs a network."""
        self.do(f"apt-get -q update -o Dir::Etc::sourcelist=/{LOCAL} -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0")

    def off(self):
        if not self.process or self.process.poll() is not None:
            return
        self.do("systemctl poweroff", check=False)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            os.kill(int(self.leader), signal.SIGKILL)
            self.process.wait()
