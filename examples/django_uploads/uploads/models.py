# SPDX-License-Identifier: Apache-2.0
"""Customers, their users with roles, and seven kinds of rows of which each is one customer's."""
from django.conf import settings
from django.db import models


class Customer(models.Model):
    name = models.CharField(max_length=80, unique=True)


class Profile(models.Model):
    ROLES = [("viewer", "viewer"), ("operator", "operator"), ("revoked", "revoked")]

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="profile")
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE)
    role = models.CharField(max_length=10, choices=ROLES, default="viewer")


class OfCustomer(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True
        ordering = ["id"]


class Upload(OfCustomer):
    filename = models.CharField(max_length=120)
    status = models.CharField(max_length=20, default="new", db_index=True)
    row_count = models.PositiveIntegerField(default=0)
    comment = models.TextField(default="", blank=True)


class ClaimRecord(OfCustomer):
    upload = models.ForeignKey(Upload, on_delete=models.CASCADE, related_name="claims")
    claim_number = models.CharField(max_length=40)
    amount_cents = models.BigIntegerField(default=0)
    status = models.CharField(max_length=20, default="open", db_index=True)


class ReportRun(OfCustomer):
    name = models.CharField(max_length=80)
    status = models.CharField(max_length=20, default="queued", db_index=True)
    uploads = models.ManyToManyField(Upload, blank=True)


class DriftEvent(OfCustomer):
    upload = models.ForeignKey(Upload, on_delete=models.CASCADE)
    column = models.CharField(max_length=80)
    status = models.CharField(max_length=20, default="open", db_index=True)
    score = models.FloatField(default=0)


class PayerMapping(OfCustomer):
    payer_code = models.CharField(max_length=20)
    payer_name = models.CharField(max_length=80)
    status = models.CharField(max_length=20, default="proposed", db_index=True)


class AlertEvent(OfCustomer):
    drift_event = models.ForeignKey(DriftEvent, on_delete=models.CASCADE)
    severity = models.CharField(max_length=10, default="low")
    status = models.CharField(max_length=20, default="open", db_index=True)


class OperatorJudgment(OfCustomer):
    alert = models.ForeignKey(AlertEvent, on_delete=models.CASCADE)
    verdict = models.CharField(max_length=20, default="ignore")
    status = models.CharField(max_length=20, default="draft", db_index=True)


OF_CUSTOMERS = (Upload, ClaimRecord, ReportRun, DriftEvent, PayerMapping, AlertEvent, OperatorJudgment)
