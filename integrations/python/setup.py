# SPDX-License-Identifier: Apache-2.0
"""What pyproject.toml cannot say: the compiled module, and what the system lacks for it. libetag and etag.h must be installed, or
be named by C_INCLUDE_PATH and LIBRARY_PATH."""
import os
import tempfile

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# What a program needs, from the plainest on: its includes, a library, and what is missing where it does not build.
NEEDS = (
    ("stddef.h", None, "a C compiler does not work", "gcc and libc6-dev"),
    ("Python.h", None, "Python's header Python.h was not found", "python3-dev"),
    ("etag/etag.h", None, "libetag's header etag/etag.h was not found", "libetag-dev"),
    ("etag/etag.h", "etag", "libetag was not found", "libetag-dev"),
)


class BuildExt(build_ext):
    def build_extensions(self):
        for include, library, what, package in NEEDS:
            if not self._builds(include, library):
                raise SystemExit(
                    f"\netagd: {what}. Install {package} (these are Debian's names), and try again.\n"
                    "libetag from its own build: C_INCLUDE_PATH=.../include LIBRARY_PATH=.../build/release/libclient; the program that "
                    "imports etagd finds it in the usual places, or by LD_LIBRARY_PATH.\n")
        super().build_extensions()

    def _builds(self, include, library):
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "needs.c")
            with open(source, "w", encoding="ascii") as file:
                file.write(f"#include <{include}>\nint main(void) {{ return 0; }}\n")
            try:
                objects = self.compiler.compile([source], output_dir=folder, include_dirs=self.extensions[0].include_dirs)
                if library:
                    self.compiler.link_executable(objects, "needs", output_dir=folder, libraries=[library])
            except Exception:  # pylint: disable=broad-except  the compiler said it
                return False
        return True


setup(license="Apache-2.0", cffi_modules=["build_ffi.py:ffibuilder"], cmdclass={"build_ext": BuildExt},
      ext_modules=[Extension("etagd._watch", ["watch.c"], py_limited_api=True)])
