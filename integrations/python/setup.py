# SPDX-License-Identifier: Apache-2.0
"""The one thing that pyproject.toml cannot say: the compiled module. libetag and etag.h must be installed, or be named by
C_INCLUDE_PATH and LIBRARY_PATH."""
from setuptools import setup

setup(cffi_modules=["build_ffi.py:ffibuilder"])
