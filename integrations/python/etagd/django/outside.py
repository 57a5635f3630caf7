# SPDX-License-Identifier: Apache-2.0
"""What a request takes from outside of process and database: files, the network, other programs. No name of ours says when these
change, so an answer that may show them is not stored, unless the view bounds its time or says that it may trust them.

Python tells an audit hook of each open(), connection and program that is started. That a file exists, its size and times it
does not tell, so Django's storages are asked; nor what comes through a connection that is kept open, so sockets are.
"""
from __future__ import annotations

import logging
import os
import re
import socket
import ssl
import sys
from functools import wraps
from typing import Any, Callable, Dict, Tuple

from django.conf import settings
from django.core.files.storage import FileSystemStorage
from django.db.backends.base.base import BaseDatabaseWrapper
from django.template.loaders import cached, filesystem
from django.template.utils import EngineHandler
from django.utils.translation import trans_real

from etagd import audit

from . import kept as memory
from . import reads
from .conf import release_taken_s
from .sources.callers import INSTALLED

_CODE = (".py", ".pyc", ".so", ".mo", ".pth")  # of a release, as is what was installed
_PLACES = tuple({os.path.realpath(path) + os.sep for path in (
    os.path.dirname(os.__file__), "/usr/share/zoneinfo", "/usr/lib", "/usr/share/locale", "/usr/share/fonts", "/etc/ssl", "/etc/pki", "/dev")})
_PLACES += ("/etc/mime.types", "/etc/localtime", "/etc/timezone", "/etc/os-release")  # other files there may be the site's own
_NEW = os.O_TRUNC | os.O_EXCL | os.O_TMPFILE & ~os.O_DIRECTORY  # a file that is opened so has nothing in it


def _took(reason: str, by: str) -> None:
    reads.spoil(reason, by)
    memory.outside_runs()


def _file(path: Any, mode: Any = None, flags: Any = None) -> None:
    if isinstance(path, int):
        return  # opened before
    if isinstance(flags, int) and (flags & _NEW or flags & os.O_ACCMODE == os.O_WRONLY):
        return
    path = os.path.abspath(os.fsdecode(path))
    if path.endswith(".mo"):
        _translations_read(path)
    if not path.endswith(_CODE) and not path.startswith(_PLACES) and not any(place in path for place in INSTALLED):
        _took("file", path)


def _folder(path: Any = None, *_: Any) -> None:
    path = os.path.abspath(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else ""
    if not (path + os.sep).startswith(_PLACES) and not any(place in path + os.sep for place in INSTALLED):
        _took("file", path)


def _network(*args: Any) -> None:
    _took("network", str(args[-1]) if args and isinstance(args[-1], (str, tuple)) else "")


def _request(url: Any = "", *_: Any) -> None:
    _took("network", str(url).partition("?")[0])


def _program(program: Any = "", *_: Any) -> None:
    _took("process", os.fsdecode(program) if isinstance(program, (str, bytes, os.PathLike)) else "")


_EVENTS: Dict[str, Callable[..., None]] = {
    "open": _file, "os.listdir": _folder, "os.scandir": _folder, "glob.glob": _folder,
    "socket.connect": _network, "http.client.send": _network, "urllib.Request": _request, "sqlite3.connect": _file,
    "subprocess.Popen": _program, "os.system": _program, "os.posix_spawn": _program, "os.exec": _program, "os.fork": _program,
}


def _hook(event: str, args: Tuple[Any, ...]) -> None:
    handle = _EVENTS.get(event)
    if handle is not None and not reads.is_aside() and not sys._getframe(1).f_code.co_filename.startswith("<frozen importlib"):
        try:
            handle(*args)
        except Exception:  # pylint: disable=broad-except
            reads.spoil("file", event)  # an exception of ours would be open()'s


# ---- Connections that are kept, and what the hook does not see ----


def _spoiling(function: Any, reason: str, by: str) -> Any:
    @wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        _took(reason, by)
        return function(*args, **kwargs)
    return noted


def _received(function: Any) -> Any:
    @wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        # An event loop wakes itself up by a socket.
        if reads.now() is not None and sys._getframe(1).f_code.co_name != "_read_from_self":
            _took("network", "socket")
        return function(*args, **kwargs)
    return noted


def _patch_sockets() -> None:
    for name in ("recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into"):
        setattr(socket.socket, name, _received(getattr(socket.socket, name)))
    ssl.SSLSocket.read = _spoiling(ssl.SSLSocket.read, "network", "socket")  # type: ignore[method-assign]


def _patch_storages() -> None:
    for name in ("exists", "size", "listdir", "get_accessed_time", "get_created_time", "get_modified_time"):
        setattr(FileSystemStorage, name, _spoiling(getattr(FileSystemStorage, name), "file", "FileSystemStorage." + name))


# ---- What is ours to know ----


def _patch_aside(owner: Any, name: str) -> None:
    """What it opens is no data of the response."""
    function = getattr(owner, name)

    @wraps(function)
    def aside(*args: Any, **kwargs: Any) -> Any:
        with reads.aside():
            return function(*args, **kwargs)
    setattr(owner, name, aside)


_templates_changed = ""
_catalogs: Any = None  # of translations; Django puts another dict in their place to forget them


def templates_changed() -> str:
    """A development server forgot its templates, since one of them is another now; or translations were read that are none of the release,
    by an editor that forgot the former ones, or for the first time."""
    return _templates_changed or ("" if trans_real._translations is _catalogs else "template")


def _translations_read(path: str) -> None:
    global _templates_changed
    if os.stat(path).st_mtime > release_taken_s():
        _templates_changed = "template"


def _has_other_loaders() -> bool:
    """Does a loader that is not Django's find templates?"""
    said = [engine.get("OPTIONS", {}).get("loaders") or () for engine in settings.TEMPLATES]
    return not all(name.startswith("django.template.loaders.") for name in re.findall(r"[\w.]*\.[\w.]+", repr(said)))


def _patch_templates() -> None:
    """A template that is kept from its first use on is part of the release, if it is as old; one that is read each time, or is
    newer, is not."""
    contents, kept = filesystem.Loader.get_contents, cached.Loader.get_template
    if _has_other_loaders():
        memory.remembers(kept, "django.template.loaders.cached.Loader")  # also templates that a loader takes from the database

    @wraps(contents)
    def noted_contents(self: Any, origin: Any) -> Any:
        with reads.aside():
            made = contents(self, origin)
        noted = reads.now()
        if noted is not None:
            found = os.stat(origin.name)
            if not noted.kept.get("cached_loader") or max(found.st_mtime, found.st_ctime) > release_taken_s():
                noted.spoil("template", origin.name)
        return made

    @wraps(kept)
    def noted_template(self: Any, *args: Any, **kwargs: Any) -> Any:
        noted = reads.now()
        if noted is None:
            return kept(self, *args, **kwargs)
        before = noted.kept.get("cached_loader", 0)
        noted.kept["cached_loader"] = before + 1
        try:
            return kept(self, *args, **kwargs)
        finally:
            noted.kept["cached_loader"] = before

    reset = cached.Loader.reset

    @wraps(reset)
    def noted_reset(self: Any) -> None:
        global _templates_changed
        _templates_changed = "template"
        reset(self)

    filesystem.Loader.get_contents, cached.Loader.get_template, cached.Loader.reset = noted_contents, noted_template, noted_reset


def install() -> None:
    global _catalogs
    _catalogs = trans_real._translations
    _patch_sockets()
    _patch_storages()
    _patch_templates()
    _patch_aside(BaseDatabaseWrapper, "connect")
    _patch_aside(EngineHandler, "__getitem__")  # looks for libraries of tags when it is made
    _patch_aside(logging.Handler, "handle")
    audit.watch(_hook, _EVENTS)
