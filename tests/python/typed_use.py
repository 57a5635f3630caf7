# SPDX-License-Identifier: Apache-2.0
"""The package as a typed program uses it: mypy must agree with each line (test_python_install.py), and nothing here is run."""
from typing import Any, List, Optional, Tuple

import etagd
from etagd import asgi, wsgi
from etagd.django import surrogates
from etagd.django.decorators import condition, depends_on, etag_cached
from etagd.django.middleware import ConditionalGetMiddleware
from etagd.django.rest import ETagMixin
from etagd.django.writes import GuardFailed, invalidate


def answer(client: etagd.Client, condition_of_client: str) -> int:
    token: etagd.Token = client.token()
    key = etagd.Key(etagd.Resource("example.org", "/uploads/42"), "customer:7", vary=[("Accept", None)])
    request = etagd.Request("GET", key, [("If-None-Match", condition_of_client)])
    known: etagd.Answer = client.check(request, token)
    fields: List[Tuple[str, str]] = known.fields
    if known.http_status:
        return known.http_status + len(fields)
    etag: Optional[str] = known.etag
    status, _ = client.finish(request, etagd.Response([("ETag", etag or client.hash(b"body"))], surrogates=["upload:42"]), known)
    client.fill(token, etagd.Key(etagd.Resource(None, "/"), etagd.PUBLIC), etagd.Response(etag='"1"'))
    return status


def change(client: etagd.Client) -> int:
    try:
        with client.guard(surrogates=["upload:42"], max_ms=1000) as guard:
            guard.confirm()
            left: int = guard.time_left_ms
    except etagd.Unavailable as error:
        raise GuardFailed(str(error)) from error
    return left + client.invalidate(prefixes=[etagd.Resource("example.org", "/a")], everything=False)


async def change_by_loop(client: etagd.Client) -> None:
    await client.ainvalidate(surrogates=["upload:42"])


def judge() -> etagd.Verdict:
    seconds: Optional[int] = etagd.date_parse("Sun, 06 Nov 1994 08:49:37 GMT")
    found = etagd.evaluate(etagd.Request("PUT", None, [("If-Match", "*")]), etagd.Validators(etag=b'"x"', last_modified=seconds))
    return found if etagd.variant('"x"', "gzip") else etagd.Verdict.UNKNOWN


@etag_cached(scope=lambda request: f"user:{request.user.pk}", surrogates=["tariff"], max_age_s=60)
def page(request: Any) -> Any:
    depends_on(request, ["weather"])
    return None


@condition(lambda request: '"1"', scope=etagd.PUBLIC)
def other(request: Any) -> Any:
    return None


class View(ETagMixin):
    etag_require_if_match = True

    def etag_scope(self, request: Any) -> str:
        return "all"


def tell(model: Any) -> None:
    surrogates.register(model, scope="customer")
    invalidate("tariff", models=[model], using="default")
    ConditionalGetMiddleware(lambda request: request)


def serve(application: Any) -> Any:
    inner = asgi.EtagMiddleware(application, scope=lambda scope: None if scope["path"] == "/" else etagd.PUBLIC, early=True, vary=["Accept"])
    wsgi.EtagMiddleware(application, scope=etagd.BY_ENDPOINT, max_age_s=60, client=etagd.Client("/tmp/x"))
    return inner


async def changed(scope: asgi.Scope) -> int:
    async with etagd.invalidates("upload:42", families=["list"]) as guard:
        left: int = guard.time_left_ms
    with etagd.invalidates(b"upload:43"):
        etagd.depends("upload:42")
        etagd.withhold("chance")
    return left + asgi.check(scope, "customer:7", ["upload:42"])
