# SPDX-License-Identifier: Apache-2.0
"""The package as a user gets it: pip install of the sdist, what it says where the system lacks something, and its types."""
import glob
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness import BUILD, Case, content_of, put_file  # noqa: E402

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
SOURCES = os.path.join(ROOT, "integrations", "python")
try:
    import build  # noqa: F401
    import setuptools  # noqa: F401
except ImportError:
    print("skipped: the Python modules build and setuptools are missing")
    sys.exit(harness.SKIP)


class Install(Case):
    def setUp(self):
        super().setUp()
        sources = os.path.join(self.directory, "sources")
        shutil.copytree(SOURCES, sources)
        self.run_program([sys.executable, "-m", "build", "--no-isolation", "--sdist", "-o", self.directory, sources])
        self.sdist, = glob.glob(os.path.join(self.directory, "etagd-*.tar.gz"))

    def run_program(self, command, fails=False, **environment):
        done = subprocess.run(command, env={**os.environ, **environment}, cwd=self.directory, capture_output=True, text=True,
                              timeout=harness.bound(300), check=False)
        self.assertEqual(done.returncode != 0, fails, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def pip(self, fails=False, **environment):
        """Without the network: by this environment's setuptools and cffi."""
        self.place = os.path.join(self.directory, "installed")
        return self.run_program([sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index",
                                 "--disable-pip-version-check", "--target", self.place, self.sdist], fails, **environment)

    def libetag(self):
        return {"C_INCLUDE_PATH": os.path.join(ROOT, "include"), "LIBRARY_PATH": os.path.abspath(os.path.join(BUILD, "libclient"))}

    def test_pip_install_of_the_sdist(self):
        said = self.pip(**self.libetag())
        self.assertNotIn("Deprecat", said)
        program = ("import etagd, etagd.model; print(etagd.__file__); client = etagd.Client('/nobody');"
                   "print(client.hash(b'x'), client.check(etagd.Request('GET', etagd.Key(etagd.Resource(None, '/'), etagd.PUBLIC))).reason)")
        said = self.run_program([sys.executable, "-c", program], PYTHONPATH=self.place, LD_LIBRARY_PATH=self.libetag()["LIBRARY_PATH"])
        self.assertIn(os.path.join(self.place, "etagd"), said)
        self.assertRegex(said, r'"[^"]+" no_index')
        information, = glob.glob(os.path.join(self.place, "etagd-*.dist-info"))
        metadata = content_of(os.path.join(information, "METADATA"))
        self.assertIn("Framework :: Django :: 5.2", metadata)
        self.assertRegex(metadata, r"License(-Expression)?: Apache-2.0")
        self.assertTrue(glob.glob(os.path.join(information, "**", "LICENSE"), recursive=True))
        for name in ("_etag", "_watch"):
            self.assertTrue(glob.glob(os.path.join(self.place, "etagd", name + ".abi3.so")), "it serves newer Pythons too")

    def test_what_the_system_lacks_is_said(self):
        empty = os.path.join(self.directory, "empty")
        os.mkdir(empty)
        self.assertRegex(self.pip(fails=True, CC="/bin/false"), "a C compiler does not work. Install gcc")
        self.assertRegex(self.pip(fails=True, C_INCLUDE_PATH=empty), "etag/etag.h was not found. Install libetag-dev")
        self.assertRegex(self.pip(fails=True, C_INCLUDE_PATH=self.libetag()["C_INCLUDE_PATH"], LIBRARY_PATH=empty),
                         "libetag was not found. Install libetag-dev")

    def test_the_licence_is_the_projects(self):
        with open(os.path.join(ROOT, "LICENSE"), "rb") as ours, open(os.path.join(SOURCES, "LICENSE"), "rb") as theirs:
            self.assertEqual(ours.read(), theirs.read())


class Types(Case):
    def mypy(self, *args):
        try:
            import mypy  # noqa: F401
        except ImportError:
            self.skipTest("skipped: mypy is missing")
        done = subprocess.run([sys.executable, "-m", "mypy", "--config-file", os.path.join(SOURCES, "pyproject.toml"), "--cache-dir",
                               os.path.join(self.directory, "mypy"), *args], cwd=SOURCES, env={**os.environ, "MYPYPATH": SOURCES},
                              capture_output=True, text=True, timeout=harness.bound(300), check=False)
        return done.returncode, done.stdout + done.stderr

    def test_the_package_and_who_uses_it(self):
        code, said = self.mypy("-p", "etagd")
        self.assertEqual(code, 0, said)
        code, said = self.mypy(os.path.join(ROOT, "tests", "python", "typed_use.py"))
        self.assertEqual(code, 0, said)

    def test_a_wrong_use_is_told(self):
        wrong = os.path.join(self.directory, "wrong.py")
        put_file(wrong, "import etagd\nkey: str = etagd.Key(etagd.Resource(None, 7), etagd.PUBLIC)\netagd.Client().fill(key)\n")
        code, said = self.mypy(wrong)
        self.assertEqual(code, 1, said)
        for part in ("wrong.py:2", "wrong.py:3", 'incompatible type "int"'):
            self.assertIn(part, said)


if __name__ == "__main__":
    harness.main()
