# SPDX-License-Identifier: Apache-2.0
"""FastAPI and Starlette: the look-up as a dependency, after those that authenticate.

    app.add_middleware(EtagMiddleware, scope=etagd.BY_ENDPOINT)            of etagd.asgi; add it last: the last one is the outermost

    @app.get("/uploads")
    def uploads(request: Request, user: User = Depends(current_user)):
        check(request, f"customer:{user.customer_id}")                     leaves the endpoint where the answer is known
        depends("uploads")
        ...

    @app.get("/tariffs", dependencies=[Depends(checked(etagd.PUBLIC))])    where the scope needs nothing but the request
"""
from __future__ import annotations

from typing import Callable, Iterable, Optional

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from . import asgi
from .exchange import GivenScope


class KnownAnswer(HTTPException):
    """Leaves the endpoint by the way that HTTP errors go; EtagMiddleware sends what was found."""


def check(connection: HTTPConnection, whose: Optional[GivenScope] = None, surrogates: Iterable[str] = ()) -> None:
    """After authentication and authorization. whose: the scope; None: the middleware's. A function gets the ASGI scope.
    surrogates: as depends(). Returns where the endpoint has to run."""
    status = asgi.check(connection.scope, whose, surrogates)
    if status:
        raise KnownAnswer(status)


def checked(whose: Optional[GivenScope] = None, surrogates: Iterable[str] = ()) -> Callable[[HTTPConnection], None]:
    """A dependency that calls check(). List it after those that authenticate: FastAPI runs them in their order, and those of a router
    before those of its endpoints."""
    names = tuple(surrogates)

    async def etag_checked(connection: HTTPConnection) -> None:
        check(connection, whose, names)

    return etag_checked  # type: ignore[return-value]
