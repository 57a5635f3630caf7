# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL in the place "database" of a network of hosts (../torture/hosts/network.py), which they reach by TCP."""
import os
import subprocess

import relay_db


class Database(relay_db.Server):
    network = None

    def run(self, name, *args, check=True):
        user = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--"] if self.user else []
        return subprocess.run([*self.network.prefix("database"), *user, os.path.join(self.programs, name), *args], check=check,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=self.directory,
                              env={**os.environ, "LC_ALL": "C.UTF-8", "PGHOST": self.directory, "PGUSER": "etagd"})

    def begin(self):
        self.port = self.network.ports[0]
        with open(os.path.join(self.directory, self.data, "pg_hba.conf"), "a", encoding="ascii") as f:
            f.write("host all all 0.0.0.0/0 trust\n")
        listen = "*" if self.network.is_apart() else "127.0.0.1"
        self.run("pg_ctl", "-D", self.data, "-w", "-l", os.path.join(self.directory, "log"), "-o",
                 f"-k {self.directory} -p {self.port} -c listen_addresses='{listen}'", "start")
