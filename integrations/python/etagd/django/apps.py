# SPDX-License-Identifier: Apache-2.0
"""The application: puts the hooks on connections, and the system checks in place."""
from django.apps import AppConfig


class EtagdConfig(AppConfig):
    name = "etagd.django"
    label = "etagd"
    verbose_name = "etagd"

    def ready(self) -> None:
        from django.conf import settings
        from django.core.signals import request_finished, request_started

        from . import asgi, checks, clock, conf, exchange, writes
        from .management import shell

        checks.register()
        writes.register()
        clock.register()
        shell.register()
        if checks.MIDDLEWARE in (settings.MIDDLEWARE or []):
            request_started.connect(exchange.request_started, dispatch_uid="etagd")
            request_finished.connect(exchange.request_finished, dispatch_uid="etagd")
            conf.release()
            asgi.register()
