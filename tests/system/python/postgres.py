# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL of a test's own: a cluster in a temporary directory, on a Unix socket there. Run as root it belongs to the
user that Debian's package made, since PostgreSQL refuses root."""
import atexit
import glob
import os
import pwd
import shutil
import subprocess
import sys
import tempfile

import harness


class Cluster:
    def __init__(self, programs, directory, user):
        self.programs = programs
        self.directory = directory
        self.user = user

    def run(self, name, *args, check=True):
        path = os.path.join(self.programs, name)
        return subprocess.run([path, *args], user=self.user, group=self.user, extra_groups=[] if self.user else None, check=check,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=self.directory,
                              env={**os.environ, "LC_ALL": "C.UTF-8", "PGHOST": self.directory, "PGUSER": "etagd"})

    @staticmethod
    def programs_of_debian():
        """The newest version's, None without the package; those of ETAGD_POSTGRES_BIN where that is set (scripts/test-on postgres13)."""
        if "ETAGD_POSTGRES_BIN" in os.environ:
            return os.environ["ETAGD_POSTGRES_BIN"]
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
        return os.path.dirname(found[-1]) if found else None

    @classmethod
    def start(cls):
        """A running cluster with a database etagd, which ends with this process; None where PostgreSQL is not installed."""
        programs, user = cls.programs_of_debian(), None
        if programs is None:
            return None
        directory = tempfile.mkdtemp(prefix="etagd-pg-")
        if os.geteuid() == 0:
            user = "postgres"
            os.chown(directory, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        os.chmod(directory, 0o755)
        made = cls(programs, directory, user)
        made.run("initdb", "-D", "data", "-U", "etagd", "-A", "trust", "-N", "-E", "UTF8")
        made.run("pg_ctl", "-D", "data", "-w", "-l", os.path.join(directory, "log"), "-o",
                 f"-k {directory} -c listen_addresses='' -c fsync=off -c wal_level=logical", "start")
        atexit.register(made.stop)
        made.run("createdb", "etagd")
        return made

    def stop(self):
        self.run("pg_ctl", "-D", "data", "-m", "immediate", "stop", check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def django(self, name):
        options = {"psycopg-bound": {"server_side_binding": True}, "psycopg-pool": {"pool": True}}
        return {"ENGINE": "django.db.backends.postgresql", "HOST": self.directory, "USER": "etagd", "NAME": name,
                "OPTIONS": options.get(os.environ.get("ETAGD_TEST_DRIVER"), {})}


def asked_for():
    """The cluster of a test that is called with --postgres, which goes from its arguments; None without it. Skips the file where
    PostgreSQL is not installed."""
    if "--postgres" not in sys.argv:
        return None
    sys.argv.remove("--postgres")
    cluster = Cluster.start()
    if cluster is None:
        print("skipped: postgresql is missing")
        sys.exit(harness.SKIP)
    return cluster
