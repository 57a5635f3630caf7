# SPDX-License-Identifier: Apache-2.0
from django.apps import AppConfig
from django.conf import settings


class UploadsConfig(AppConfig):
    name = "uploads"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if settings.CACHE != "etagd":
            return
        from etagd.django import surrogates

        from . import models

        surrogates.register(models.Profile, scope="user")
        for model in models.OF_CUSTOMERS:
            surrogates.register(model, scope="customer")
