# SPDX-License-Identifier: Apache-2.0
"""The application: puts the hooks on connections, and the system checks in place."""
from django.apps import AppConfig


class EtagdConfig(AppConfig):
    name = "etagd.django"
    label = "etagd"
    verbose_name = "etagd"

    def ready(self) -> None:
        from . import checks, writes

        checks.register()
        writes.register()
