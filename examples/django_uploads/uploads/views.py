# SPDX-License-Identifier: Apache-2.0
"""The seven viewsets. What etagd adds: one base, and whose the answers are."""
from django.conf import settings
from django.http import HttpResponse
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet

from . import models
from .access import CustomerFilterMixin
from .serializers import serializer_of

if settings.CACHE == "etagd":
    from etagd.django.rest import ETagMixin
else:
    class ETagMixin:
        pass


class CustomerViewSet(ETagMixin, CustomerFilterMixin, ModelViewSet):
    def etag_scope(self, request):
        return f"customer:{request.user.profile.customer_id}"


class UploadViewSet(CustomerViewSet):
    queryset = models.Upload.objects.all()
    serializer_class = serializer_of(models.Upload)


class ClaimRecordViewSet(CustomerViewSet):
    queryset = models.ClaimRecord.objects.all()
    serializer_class = serializer_of(models.ClaimRecord)


class ReportRunViewSet(CustomerViewSet):
    queryset = models.ReportRun.objects.prefetch_related("uploads")
    serializer_class = serializer_of(models.ReportRun)


class DriftEventViewSet(CustomerViewSet):
    queryset = models.DriftEvent.objects.all()
    serializer_class = serializer_of(models.DriftEvent)


class PayerMappingViewSet(CustomerViewSet):
    queryset = models.PayerMapping.objects.all()
    serializer_class = serializer_of(models.PayerMapping)


class AlertEventViewSet(CustomerViewSet):
    queryset = models.AlertEvent.objects.all()
    serializer_class = serializer_of(models.AlertEvent)


class OperatorJudgmentViewSet(CustomerViewSet):
    queryset = models.OperatorJudgment.objects.all()
    serializer_class = serializer_of(models.OperatorJudgment)


VIEWSETS = {
    "uploads": UploadViewSet,
    "claim-records": ClaimRecordViewSet,
    "report-runs": ReportRunViewSet,
    "drift-events": DriftEventViewSet,
    "payer-mappings": PayerMappingViewSet,
    "alert-events": AlertEventViewSet,
    "operator-judgments": OperatorJudgmentViewSet,
}


class Floor(APIView):
    """The least that the framework can do: authenticates, and answers an empty 304. For scripts/bench."""

    def get(self, request):
        response = HttpResponse(status=304)
        del response["Content-Type"]
        return response
