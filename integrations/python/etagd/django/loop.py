# SPDX-License-Identifier: Apache-2.0
"""Functions and coroutine functions, called from an event loop."""
from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import Any, Callable

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation

try:
    from asgiref.sync import iscoroutinefunction as is_async
    from asgiref.sync import markcoroutinefunction as mark_async
except ImportError:  # asgiref before 3.6

    def is_async(func: Any) -> bool:
        return asyncio.iscoroutinefunction(func)

    def mark_async(func: Any) -> Any:
        func._is_coroutine = getattr(asyncio.coroutines, "_is_coroutine")
        return func


def on_loop() -> bool:
    """Does an event loop run in this thread? Then the connections of Django's are another thread's."""
    return asyncio._get_running_loop() is not None


async def on_thread(function: Callable[..., Any], *args: Any) -> Any:
    """On the thread of the request's connections."""
    return await sync_to_async(function, thread_sensitive=True)(*args)


def fits(function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """Says of a callable of the site's, after a TypeError, that it cannot be called with what its view gets."""
    try:
        signature = inspect.signature(function)
        signature.bind(*args, **kwargs)
    except ValueError:  # a built-in without one
        pass
    except TypeError as error:
        given = ", ".join(["request"] * bool(args) + [f"{value!r}" for value in args[1:]] + [f"{name}={value!r}" for name, value in kwargs.items()])
        raise ImproperlyConfigured(
            f"etagd: {getattr(function, '__qualname__', function)}{signature} is called with what the view gets, ({given}): {error}. "
            "Write def function(request, *args, **kwargs), or lambda request, **kwargs:") from error


async def called(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The result of a function or a coroutine function. Where a plain one asks the database, which Django refuses on a loop, it is
    called once more, on the request's thread."""
    try:
        result = function(*args, **kwargs)
    except SynchronousOnlyOperation:
        return await on_thread(partial(function, *args, **kwargs))
    except TypeError:
        fits(function, args, kwargs)
        raise
    return await awaited(result)


async def awaited(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def is_async_view(view: Any) -> bool:
    """Does what calls the view await its result? Of a class's dispatch(), as method_decorator() hands it over, its class says it."""
    if is_async(view):
        return True
    while view is not None:
        owner = getattr(getattr(view, "func", view), "__self__", None)
        if owner is not None:
            return bool(getattr(type(owner), "view_is_async", False))
        view = getattr(view, "__wrapped__", None)
    return False
