# SPDX-License-Identifier: Apache-2.0
"""Who asks, and what may they do?"""
from rest_framework.authentication import TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission


class ProfileTokenAuthentication(TokenAuthentication):
    """DRF's, with user and profile in one query."""

    keyword = "Token"

    def authenticate_credentials(self, key):
        try:
            token = Token.objects.select_related("user", "user__profile").get(key=key)
        except Token.DoesNotExist:
            raise AuthenticationFailed("Invalid token.") from None
        if not token.user.is_active:
            raise AuthenticationFailed("User inactive or deleted.")
        return token.user, token


class RolePermission(BasePermission):
    """Viewers read, operators write, revoked users do nothing."""

    def has_permission(self, request, view):
        profile = getattr(request.user, "profile", None) if request.user else None
        if profile is None or profile.role == "revoked":
            return False
        return request.method in SAFE_METHODS or profile.role == "operator"


class CustomerFilterMixin:
    """Shows the rows of the user's customer, and writes no others."""

    def get_queryset(self):
        rows = super().get_queryset().filter(customer_id=self.request.user.profile.customer_id)
        status = self.request.query_params.get("status")
        return rows.filter(status=status) if status else rows

    def perform_create(self, serializer):
        serializer.save(customer_id=self.request.user.profile.customer_id)
