# SPDX-License-Identifier: Apache-2.0
"""A small site in the test's own process, and what every Django test needs first."""
import atexit
import os
import shutil
import sys
import tempfile
import types

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__))), os.path.join(os.path.dirname(os.path.abspath(__file__)), "sites")]
import harness  # noqa: E402
from harness import BUILD  # noqa: E402

SITES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sites")
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


def temporary():
    """A directory that goes with this process (and not with its children)."""
    made, owner = tempfile.mkdtemp(prefix="etagd-test-"), os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(made, ignore_errors=True))
    return made


def configure(label, postgres=None, **more):
    """An application whose models and URLs stand in the test file, on a cluster of postgres.py or else on SQLite. Returns the directory
    of its SQLite file."""
    directory = temporary()
    app = types.ModuleType(label)
    app.__path__ = [directory]
    sys.modules[label] = app
    import django
    from django.conf import settings

    import etagd

    # A crowded machine answers a new client's hello late, and before it there is no index: what is not the subject is waited for.
    etagd.Client.__init__.__kwdefaults__["connect_timeout_ms"] = 2000
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(directory, "db.sqlite3")}
    settings.configure(**{
        "DATABASES": {"default": postgres.django("etagd") if postgres else sqlite},
        "DEFAULT_AUTO_FIELD": "django.db.models.AutoField", "ETAGD": {"RELEASE": "1"}, "USE_TZ": True, "LOGGING_CONFIG": None,
        "SECRET_KEY": "x", "ALLOWED_HOSTS": ["testserver"], **more})
    django.setup()
    return directory


def base_of(label):
    """The base of models that belong to this application, wherever they are defined."""
    from django.db import models

    class Meta:
        abstract = True
        app_label = label
    return type("Model", (models.Model,), {"__module__": __name__, "Meta": Meta})


def create(*wanted):
    from django.db import connection

    with connection.schema_editor() as editor:
        for model in wanted:
            editor.create_model(model)


def drop(*unwanted):
    from django.db import connection

    connection.close()
    with connection.schema_editor() as editor:
        for model in reversed(unwanted):
            editor.delete_model(model)
    connection.close()


class SiteCase(harness.Case):
    """A daemon for the class; for each test the settings of ETAGD, and tables."""
    DAEMON = {"linger_ms": 3000}  # empty: none

    @classmethod
    def setUpClass(cls):
        cls.etagd = cls.shared_daemon(**cls.DAEMON) if cls.DAEMON else None

    def use(self, **options):
        from django.test.utils import override_settings

        enabled = override_settings(ETAGD={"RELEASE": "1", "DEBUG_HEADER": True, "SOCKET": self.etagd.socket, **options})
        enabled.enable()
        self.addCleanup(enabled.disable)

    def tables(self, *models):
        create(*models)
        self.addCleanup(drop, *models)
