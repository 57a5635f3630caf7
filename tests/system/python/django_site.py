# SPDX-License-Identifier: Apache-2.0
"""A small site in the test's own process, and what every Django test needs first."""
import os
import sys
import tempfile
import types

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness import BUILD  # noqa: E402

PACKAGE = os.path.abspath(os.path.join(BUILD, "integrations", "python"))
PROJECT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "..", "examples", "django_uploads"))
DRIVER = os.environ.get("ETAGD_TEST_DRIVER", "")  # of PostgreSQL: psycopg2, psycopg, or psycopg-bound, psycopg-pool
if DRIVER == "psycopg2":
    sys.modules["psycopg"] = None  # Django would prefer it


def require(*modules):
    """Skips the file where the package or a Debian package is missing."""
    if not os.path.isdir(os.path.join(PACKAGE, "etagd")):
        print("skipped: the Python package was not built (python3-cffi, python3-dev)")
        sys.exit(harness.SKIP)
    sys.path.insert(0, PACKAGE)
    for name in modules:
        try:
            __import__(name)
        except ImportError:
            print(f"skipped: the Python module {name} is missing")
            sys.exit(harness.SKIP)


def configure(label, **more):
    """An application whose models and URLs stand in the test file. Returns the directory of its SQLite file."""
    directory = tempfile.mkdtemp(prefix="etagd-test-")
    app = types.ModuleType(label)
    app.__path__ = [directory]
    sys.modules[label] = app
    import django
    from django.conf import settings

    settings.configure(**{
        "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(directory, "db.sqlite3")}},
        "DEFAULT_AUTO_FIELD": "django.db.models.AutoField", "ETAGD": {"RELEASE": "1"}, "USE_TZ": True, "LOGGING_CONFIG": None,
        "SECRET_KEY": "x", "ALLOWED_HOSTS": ["testserver"], **more})
    django.setup()
    return directory
