# SPDX-License-Identifier: Apache-2.0
# The compiled half (build_ffi.py): private to the package.
from typing import Any

ffi: Any
lib: Any
