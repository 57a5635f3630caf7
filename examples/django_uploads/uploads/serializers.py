# SPDX-License-Identifier: Apache-2.0
from rest_framework import serializers

from . import models


class OwnRows(serializers.PrimaryKeyRelatedField):
    """Refers to rows of the user's own customer."""

    def get_queryset(self):
        return super().get_queryset().filter(customer_id=self.context["request"].user.profile.customer_id)


class OfCustomerSerializer(serializers.ModelSerializer):
    serializer_related_field = OwnRows


def serializer_of(row_model):
    class Meta:
        model = row_model
        exclude = ["customer"]
        read_only_fields = ["created_at", "updated_at"]

    return type(row_model.__name__ + "Serializer", (OfCustomerSerializer,), {"Meta": Meta})
