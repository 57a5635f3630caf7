# SPDX-License-Identifier: Apache-2.0
"""For Django REST framework: ETagMixin, first among a view's bases."""
from __future__ import annotations

from contextlib import nullcontext
from functools import partial, wraps
from typing import Any, Iterable, List, Optional, Sequence, Tuple

from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import connections, router, transaction
from django.db.transaction import TransactionManagementError
from django.http import Http404

try:
    from rest_framework import exceptions
    from rest_framework.permissions import BasePermission
    from rest_framework.request import clone_request
    from rest_framework.views import APIView
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] != "rest_framework":
        raise
    raise ModuleNotFoundError(
        "etagd.django.rest is for views of Django REST framework, which is not installed (pip install djangorestframework); for other "
        "views see etagd.django.decorators", name=missing.name) from missing

import etagd

from . import clock, decorators, kept, reads, writes
from .conf import client, log
from .exchange import _UNSET, SAFE, UNSAFE, Plan, judge, method_of, precondition_failed, validators_of

_PRECONDITIONS = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_UNMODIFIED_SINCE")  # of a write


class ETagMixin:
    """class UploadViewSet(ETagMixin, CustomerFilterMixin, ModelViewSet):

        def etag_scope(self, request):
            return f"customer:{request.user.profile.customer_id}"

    After initial() (authentication, permissions, throttling), before the handler: a 304 from etagd, without a query or a
    serializer. A write with conditions is compared once more, in a transaction with the handler; without conditions the handler
    runs as it would without us. etag_scope has no default."""

    etag_scope: Any = None  # a method that says whose the answer is (None: not cached), or etagd.PUBLIC
    etag_surrogates: Any = ()  # names, or a method for them: dependencies besides the rows that are read
    etag_vary: Optional[Iterable[str]] = None  # request fields that select the representation; None: as the setting
    etag_max_age_s: Optional[int] = None
    etag_cache_control: Any = _UNSET
    etag_cache_control_unsafe: Any = _UNSET
    etag_require_if_match = False  # 428 for a write without If-Match
    etag_trust_object_permissions = False  # the scope says all that has_object_permission() asks
    etag_trust_cache = False  # what the view takes from Django's cache never changes its answer
    etag_trust: Sequence[str] = ()  # reasons of X-Etag-Cache that keep no answer of it out of the cache

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        decorators.check_trust(cls.etag_trust, cls.__name__ + ".etag_trust")

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        # Wrapped here and not in initial(), which a subclass may go on with after ours.
        name = request.method.lower()
        handler = getattr(self, name, None)
        if handler is not None and request.method in SAFE + UNSAFE and name in self.http_method_names:
            setattr(self, name, partial(self._etag_handle, handler))
        return super().dispatch(request, *args, **kwargs)

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if not response.has_header("Cache-Control"):
            self._etag_policy().apply_policy(method_of(request), response)
        return response

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        """Notes what is rendered, wherever it came from."""
        exchange = self._etag_exchange()
        if exchange is not None and args and self.request.method in SAFE:
            for instance in args[0] if isinstance(args[0], (list, tuple)) else [args[0]]:
                exchange.reads.instance(instance)
        return super().get_serializer(*args, **kwargs)

    @kept.answers_requests
    def perform_authentication(self, request: Any) -> None:
        """What is asked of the clock here, whether a token is over, is asked again with each request, before a look-up."""
        with clock.ignored():
            super().perform_authentication(request)

    def check_throttles(self, request: Any) -> None:
        if not self.throttle_classes and type(self).get_throttles is APIView.get_throttles:
            super().check_throttles(request)
            return
        with reads.aside():  # what throttling takes from Django's cache is in no representation
            super().check_throttles(request)

    # ---- Before the handler ----

    def _etag_exchange(self) -> Any:
        request = getattr(self, "request", None)
        return getattr(getattr(request, "_request", request), "_etagd", None)

    def _etag_policy(self) -> Plan:
        return Plan(None, cache_control=self.etag_cache_control, cache_control_unsafe=self.etag_cache_control_unsafe)

    def _etag_plan(self, request: Any) -> Plan:
        if self.etag_scope is None:
            raise ImproperlyConfigured(f"etagd: {type(self).__name__}.etag_scope is missing: whose are its answers?")
        return decorators.plan_of(
            self.etag_scope, self.etag_surrogates, (request,), {}, vary=self.etag_vary, max_age_s=self.etag_max_age_s,
            cache_control=self.etag_cache_control, cache_control_unsafe=self.etag_cache_control_unsafe,
            require_if_match=self.etag_require_if_match, trust_cache=self.etag_trust_cache, trust=self.etag_trust,
            bypass="object_permissions" if self._etag_asks_objects() else "")

    def _etag_asks_objects(self) -> bool:
        """Does a permission look at the object itself? Only the handler can ask it."""
        if self.etag_trust_object_permissions or not self.kwargs:
            return False
        return type(self).check_object_permissions is not APIView.check_object_permissions or \
            any(_asks_objects(permission) for permission in self.get_permissions())

    @kept.answers_requests
    def _etag_handle(self, handler: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        exchange, plan = self._etag_exchange(), self._etag_plan(request)
        if exchange is not None:
            answered = exchange.check(plan)
            if answered is not None:
                return answered
        if method_of(request) in SAFE:
            return handler(request, *args, **kwargs)
        return self._etag_write(handler, request, *args, **kwargs)

    # ---- Writes ----

    def _etag_write(self, handler: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Judges the conditions once more where no other writer can come in between. Without any the handler runs as it is. What
        the handler wrote is committed, whatever it answers or raises, as without us."""
        reader = self._etag_reader()
        if reader is None or not any(name in request.META for name in _PRECONDITIONS):
            return handler(request, *args, **kwargs)
        connection = connections[self._etag_database()]
        theirs = writes.state_of(connection).in_transaction  # then it is the site's to end it
        raised = None
        with nullcontext() if theirs else transaction.atomic(using=connection.alias):
            if getattr(self, "queryset", None) is not None:
                writes.lock_sqlite(connection, self.queryset.model)
            validators = self._etag_locked(connection, reader, *args, **kwargs)
            if judge(request, validators):
                return precondition_failed(validators.etag)
            try:
                with nullcontext() if theirs else writes.like_outermost(connection):
                    response = handler(request, *args, **kwargs)
            except Exception as error:  # pylint: disable=broad-except
                raised = error
            if writes.has_failed(connection) and not theirs:
                connection.needs_rollback = True
                raised = raised or TransactionManagementError(
                    "etagd: a statement of a write with conditions failed outside of any atomic(), so the whole write is undone")
            elif raised is None and "HTTP_IF_MATCH" in request.META:
                self._etag_tell(connection, reader, response, *args, **kwargs)
        if raised is not None:
            raise raised
        return response

    def _etag_tell(self, connection: Any, reader: str, response: Any, *args: Any, **kwargs: Any) -> None:
        """The new ETag. The write is done: what goes wrong here is no fault of it."""
        request = self.request
        if request.method not in ("PUT", "PATCH") or response.status_code != 200 or not hasattr(response, "render"):
            return
        try:
            validators, body = self._etag_current(connection, reader, *args, **kwargs)
        except Exception:  # pylint: disable=broad-except
            log.exception("etagd: after a write its ETag is not sent, as GET fails")
        else:
            response.add_post_render_callback(partial(_tell_etag, validators.etag, body, request.get_full_path()))

    def _etag_reader(self) -> Optional[str]:
        """The name of the method that answers GET of the same resource."""
        actions = getattr(self, "action_map", None)
        name = actions.get("get") if actions else "get"
        return name if name and hasattr(self, name) else None

    def _etag_database(self) -> str:
        queryset = getattr(self, "queryset", None)
        return router.db_for_write(queryset.model) if queryset is not None else "default"

    def _etag_locked(self, connection: Any, reader: str, *args: Any, **kwargs: Any) -> etagd.Validators:
        """What the conditions are compared with: from here on no other writer changes the object. GET's handler is asked only where
        its ETag or date is wanted. Raises what get_object() raises, but for a condition that wants it absent."""
        meta = self.request.META
        try:
            known = self._etag_lock(connection)
        except (Http404, exceptions.NotFound):
            if "HTTP_IF_MATCH" in meta:
                raise
            return etagd.ABSENT
        if known and not {"HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE"} & set(meta) and meta["HTTP_IF_NONE_MATCH"].strip() == "*":
            return etagd.Validators()
        return self._etag_current(connection, reader, *args, **kwargs)[0]

    def _etag_lock(self, connection: Any) -> bool:
        """False: the view is not of one object."""
        if not hasattr(self, "get_object") or (self.lookup_url_kwarg or self.lookup_field) not in self.kwargs:
            return False
        found = self.get_object()
        type(found)._base_manager.using(connection.alias).select_for_update().filter(pk=found.pk).first()
        return True

    def _etag_current(self, connection: Any, reader: str, *args: Any, **kwargs: Any) -> Tuple[etagd.Validators, Optional[bytes]]:
        """What a GET would answer now, within this transaction: its validators and body. What its handler writes is undone."""
        request, action = self.request, getattr(self, "action", None)
        self.request = clone_request(request, "GET")
        self.action = reader
        try:
            with transaction.atomic(using=connection.alias), writes.like_outermost(connection):
                try:
                    return self._etag_get(reader, *args, **kwargs)
                finally:
                    connection.needs_rollback = True
        except (Http404, PermissionDenied, exceptions.NotFound):
            return etagd.ABSENT, None
        finally:
            self.request, self.action = request, action

    def _etag_get(self, reader: str, *args: Any, **kwargs: Any) -> Tuple[etagd.Validators, Optional[bytes]]:
        response = getattr(self, reader)(self.request, *args, **kwargs)
        if response.status_code != 200:
            return etagd.ABSENT, None
        response = super().finalize_response(self.request, response, *args, **kwargs)
        if hasattr(response, "render"):
            response.render()
        etag = None if response.get("ETag") else client().hash(response.content)
        return validators_of(response, etag), response.content


def _tell_etag(etag: Optional[str], body: Optional[bytes], location: str, response: Any) -> None:
    """Only where the answer is what a GET answers: else the tag would be another body's."""
    if etag is not None and response.content == body and not response.has_header("ETag"):
        response["ETag"] = etag
        response["Content-Location"] = location


def _asks_objects(permission: Any) -> bool:
    parts: List[Any] = [part for part in (getattr(permission, "op1", None), getattr(permission, "op2", None)) if part is not None]
    if parts:
        return any(_asks_objects(part) for part in parts)
    return type(permission).has_object_permission is not BasePermission.has_object_permission


def install() -> None:
    """Throttling of views without the mixin, as of @api_view."""
    check = APIView.check_throttles

    @wraps(check)
    def aside(self: Any, request: Any) -> None:
        with reads.aside():
            check(self, request)

    APIView.check_throttles = aside
