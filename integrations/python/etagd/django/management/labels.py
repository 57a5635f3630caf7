# SPDX-License-Identifier: Apache-2.0
"""Models as the commands' arguments name them."""
from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.management.base import CommandError


def model_named(label: str) -> Any:
    try:
        return apps.get_model(label)
    except (LookupError, ValueError) as error:
        raise CommandError(f"no model {label}") from error
