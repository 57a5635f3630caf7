# SPDX-License-Identifier: Apache-2.0
"""Flask: the look-up as a decorator, below those that authenticate.

    app.wsgi_app = EtagMiddleware(app.wsgi_app, scope=etagd.BY_ENDPOINT)          of etagd.wsgi; outermost

    @app.get("/uploads")
    @login_required
    @checked(lambda: f"customer:{current_user.customer_id}")
    def uploads(): ...
"""
from __future__ import annotations

from functools import wraps
from typing import Any, Callable, Iterable, Optional, TypeVar, Union, cast

import flask

from . import wsgi
from .exchange import GivenScope
from .model import Text, _Public

View = TypeVar("View", bound=Callable[..., Any])


def checked(whose: Union[GivenScope, Callable[[], Union[_Public, Text, None]], None] = None,
            surrogates: Iterable[str] = ()) -> Callable[[View], View]:
    """whose: the scope: etagd.PUBLIC, a name, or a function without arguments, called within the request; None: the middleware's.
    surrogates: as depends()."""
    names = tuple(surrogates)

    def decorated(view: View) -> View:
        @wraps(view)
        def called(*args: Any, **kwargs: Any) -> Any:
            given = whose() if callable(whose) else whose  # type: ignore[call-arg]
            if given is None and whose is not None:
                given = ""  # not cached
            status = wsgi.check(flask.request.environ, given, names)
            return flask.Response(status=status) if status else view(*args, **kwargs)

        return cast(View, called)

    return decorated
