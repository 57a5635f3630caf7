# SPDX-License-Identifier: Apache-2.0
"""etagd for Django 3.2 and later. Add "etagd.django" to INSTALLED_APPS; docs/django.md says the rest."""
