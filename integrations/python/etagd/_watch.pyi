# SPDX-License-Identifier: Apache-2.0
# The compiled part of what notes the reads of a request (watch.c): private to the package.
from typing import Any

Field: Any
Rows: Any
Meta: Any
