# SPDX-License-Identifier: Apache-2.0
"""etagd for Django 3.2."""
