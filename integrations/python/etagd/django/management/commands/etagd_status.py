# SPDX-License-Identifier: Apache-2.0
"""Does etagd answer, and as what does this site speak to it?"""
from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

from django.core.management.base import BaseCommand, CommandError

import etagd
from etagd.django.conf import DEFAULTS, client, conf, release


class Command(BaseCommand):
    help = "Says whether etagd answers, with the site's settings; the daemon's own figures where etagctl is installed."
    requires_system_checks: Any = []

    def handle(self, *args: Any, **options: Any) -> None:
        socket = conf.SOCKET or os.environ.get("ETAGD_SOCKET") or "/run/etagd/etagd.sock"
        self.stdout.write(f"socket       {socket}")
        self.stdout.write(f"release      {release()}")
        for name in DEFAULTS:
            if name not in ("SOCKET", "RELEASE"):
                self.stdout.write(f"{name.lower():<22} {getattr(conf, name)}")
        try:
            client().connect()
        except etagd.EtagError as error:
            raise CommandError(f"etagd does not answer: {error}") from error
        key = etagd.Key(etagd.Resource(None, "/"), etagd.PUBLIC)
        reason = client().check(etagd.Request("GET", key), client().token()).reason
        if reason in ("no_index", "no_lease"):
            raise CommandError(f"etagd answers, but vouches for nothing ({reason}): paused, or just starting")
        self.stdout.write("etagd answers")
        if shutil.which("etagctl"):
            self.stdout.write(subprocess.run(["etagctl", "--socket", socket, "status"], capture_output=True, text=True,
                                             check=False).stdout)
