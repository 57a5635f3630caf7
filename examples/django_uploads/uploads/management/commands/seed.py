# SPDX-License-Identifier: Apache-2.0
"""Customers 7 and 8 with rows of each kind, and users with tokens that are easy to type."""
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db import transaction
from rest_framework.authtoken.models import Token

from uploads import models


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser):
        parser.add_argument("--uploads", type=int, default=200, help="of each customer")

    @transaction.atomic
    def handle(self, *args, **options):
        for number in (7, 8):
            customer = models.Customer.objects.create(pk=number, name=f"Customer {number}")
            for role in ("operator", "viewer"):
                user = get_user_model().objects.create(username=f"{role}-{number}")
                models.Profile.objects.create(user=user, customer=customer, role=role)
                Token.objects.create(key=f"{role}-{number}", user=user)
            for i in range(options["uploads"]):
                upload = models.Upload.objects.create(
                    customer=customer, filename=f"claims-{number}-{i:04}.csv", status=("new", "done", "failed")[i % 3],
                    row_count=1000 + i, comment="seeded " * 33)
                if i < 10:
                    self.rows_of(customer, upload, i)
        self.stdout.write(f"{options['uploads']} uploads for each of two customers; tokens operator-7, viewer-7, operator-8, viewer-8")

    @staticmethod
    def rows_of(customer, upload, i):
        models.ClaimRecord.objects.create(customer=customer, upload=upload, claim_number=f"C-{i:05}", amount_cents=100 * i)
        models.ReportRun.objects.create(customer=customer, name=f"Report {i}").uploads.add(upload)
        drift = models.DriftEvent.objects.create(customer=customer, upload=upload, column="amount", score=0.1 * i)
        models.PayerMapping.objects.create(customer=customer, payer_code=f"P{i:03}", payer_name=f"Payer {i}")
        alert = models.AlertEvent.objects.create(customer=customer, drift_event=drift)
        models.OperatorJudgment.objects.create(customer=customer, alert=alert)
