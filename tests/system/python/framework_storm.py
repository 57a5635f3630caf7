# SPDX-License-Identifier: Apache-2.0
"""The storm of django_storm.py on FastAPI under uvicorn, or Flask under gunicorn, each with two workers, SQLAlchemy and SQLite.

usage: framework_storm.py fastapi|flask [SECONDS [SEED]]
run by scripts/torture-python; a short one by test_frameworks.py.
"""
import os
import random
import subprocess
import sys
import tempfile

import django_site
import harness
from django_web import HERE, Web
from harness import bound

django_site.require("fastapi", "flask", "sqlalchemy", "uvicorn", "gunicorn")
from django_storm import Storm  # noqa: E402

ROWS = list(range(100, 106))
SERVERS = {
    "fastapi": ("-m", "uvicorn", "--factory", "--workers", "2", "--port", "{port}", "--log-level", "warning", "framework_apps:fastapi_app"),
    "flask": ("-m", "gunicorn", "--workers", "2", "--threads", "4", "--bind", "127.0.0.1:{port}", "framework_apps:flask_app()"),
}


def storm(framework, place, daemon, seconds, seed):
    web = Web(place, ETAGD_SOCKET=daemon.socket, FRAMEWORKS_DB=os.path.join(place, "uploads.sqlite3"))
    subprocess.run([sys.executable, "-c", "import framework_apps; framework_apps.seed()"], env=web.environment, check=True, timeout=bound(120),
                   cwd=HERE)
    web.take_port()
    try:
        web.spawn(*(word.format(port=web.port) for word in SERVERS[framework])).serving()
        return Storm(web, daemon, seconds, seed, ROWS).run()
    finally:
        web.end()


def main():
    framework = sys.argv[1] if len(sys.argv) > 1 else ""
    if framework not in SERVERS:
        print("usage: framework_storm.py fastapi|flask [SECONDS [SEED]]", file=sys.stderr)
        return 2
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 300
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 30)
    print(f"seed {seed}, {seconds:.0f} s, {framework}", flush=True)
    with tempfile.TemporaryDirectory(prefix="etagd-storm-") as place:
        daemon = harness.Daemon(place, linger_ms=3000).start()
        try:
            done = storm(framework, place, daemon, seconds, seed)
        finally:
            daemon.end()
    return done.report()


if __name__ == "__main__":
    sys.exit(main())
