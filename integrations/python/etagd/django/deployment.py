# SPDX-License-Identifier: Apache-2.0
"""The release, where the settings do not say it: a digest of all that makes a deployment's bodies differ from the former one's.

    sources and templates      of all applications, of the settings, and of what can be imported and is not installed: names, sizes, times
    the packages               that are installed, by name and version, and when they were
    the static files' manifest of STATIC_ROOT: it says the hashes in the names of files
    the settings               as they came out, so that what they take from the environment counts; but for secrets

It is taken when the process begins (ready()). A process that took it later would find the files of the next release, while its
own code is still the former one's.
"""
from __future__ import annotations

import hashlib
import importlib.util
import os
import site
import sys
import sysconfig
from typing import Any, Iterator, List, Optional, Set

from django.conf import settings

from .conf import is_secret

_SOURCES = (".py", ".html", ".txt", ".xml", ".json", ".mo", ".jinja", ".jinja2", ".j2", ".svg", ".md", ".yaml", ".yml", ".toml", ".so")
_NOT_IN = frozenset(("node_modules", "media", "static", "staticfiles", "build", "dist", "venv", "env", "site-packages"))
_NO_PROJECT = frozenset((os.sep, os.path.realpath(os.path.expanduser("~")), "/tmp", "/root", "/home", "/usr", "/opt", "/srv", "/var"))
_TEMPLATES = frozenset(("templates", "jinja2"))
_FILES_MAX, _FOLDERS_MAX = 50000, 5000  # of one folder; more is no project's
_NOT_SHOWN = frozenset(("DATABASES", "CACHES", "LOGGING", "ETAGD"))


def _files(top: str, only_templates: bool) -> Iterator[str]:
    """A template may have any name, and lie in any folder: templates/media/list.htm."""
    if os.path.isfile(top):
        yield top
    for count, (folder, folders, names) in enumerate(os.walk(top, followlinks=only_templates)):
        if count == _FOLDERS_MAX:
            return
        templates = only_templates or not _TEMPLATES.isdisjoint(folder[len(top):].split(os.sep))
        folders[:] = sorted(name for name in folders if templates or not name.startswith((".", "__pycache__")) and name not in _NOT_IN)
        for name in sorted(names):
            if templates or name.endswith(_SOURCES):
                yield os.path.join(folder, name)


def _packages() -> Set[str]:
    """Where Python and what is installed are: known by version."""
    found = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")}
    found.update(getattr(site, "getsitepackages", list)())
    found.add(getattr(site, "getusersitepackages", str)())
    return {os.path.realpath(path) for path in found if path}


def _is_installed(path: str, packages: Set[str]) -> bool:
    real = os.path.realpath(path)
    return any(real == top or real.startswith(top + os.sep) for top in packages) \
        or "site-packages" in real or "dist-packages" in real


def _file_of(name: Any) -> Optional[str]:
    """Of a module, which is not imported: a URLconf must not be before all applications are ready."""
    if not isinstance(name, str) or not name:
        return None
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # ValueError: a module that was made by hand, as __main__
        return getattr(sys.modules.get(name), "__file__", None)
    return found.origin if found is not None and found.has_location else None


def _roots() -> Iterator[str]:
    from django.apps import apps

    for config in apps.get_app_configs():
        yield config.path
    packages = _packages()
    for name in (getattr(settings, "SETTINGS_MODULE", None), getattr(settings, "ROOT_URLCONF", None)):
        path = _file_of(name)
        if path is not None:
            yield path
            yield os.path.dirname(path)
    # What is neither an application nor installed is imported when a view needs it, from beside the project.
    for entry in {os.path.realpath(entry or os.curdir) for entry in sys.path}:
        if os.path.isdir(entry) and entry not in _NO_PROJECT and os.path.basename(entry) != "bin" and not _is_installed(entry, packages):
            yield entry
    yield from (str(folder) for folder in getattr(settings, "LOCALE_PATHS", ()))


def _template_folders() -> Iterator[str]:
    for engine in getattr(settings, "TEMPLATES", []):
        yield from (str(folder) for folder in engine.get("DIRS", []))
        yield from _folders_in(engine.get("OPTIONS", {}).get("loaders", ()))


def _folders_in(loaders: Any) -> Iterator[str]:
    """A loader may have folders of its own: ("django.template.loaders.filesystem.Loader", ["/srv/themes"])."""
    if isinstance(loaders, (list, tuple)):
        for part in loaders:
            yield from _folders_in(part)
    elif isinstance(loaders, (str, os.PathLike)) and os.path.isdir(loaders):
        yield os.fspath(loaders)


def _stated(path: str) -> Optional[str]:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return f"{path}\0{found.st_size}\0{found.st_mtime_ns}\n"


def _sources() -> Iterator[str]:
    templates = set(_template_folders())
    for root in sorted(set(_roots()) | templates):
        for count, path in enumerate(_files(root, root in templates)):
            if count == _FILES_MAX:
                break
            yield _stated(path) or ""


def _distributions() -> Iterator[str]:
    """By the folders of their metadata, whose names say the version; read in no other way, for there are hundreds."""
    found: List[str] = []
    for folder in sorted({os.path.realpath(path or os.curdir) for path in sys.path}):
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        found += [_stated(os.path.join(folder, name)) or "" for name in names
                  if name.endswith((".dist-info", ".egg-info", ".egg-link", ".pth"))]
    return iter(sorted(found))


def manifest_path() -> Optional[str]:
    """Of the hashes in the names of static files; None: the site has none."""
    from django.contrib.staticfiles.storage import staticfiles_storage

    name = getattr(staticfiles_storage, "manifest_name", None)
    storage = getattr(staticfiles_storage, "manifest_storage", staticfiles_storage)
    return None if name is None else storage.path(name)


def _manifest() -> Iterator[bytes]:
    try:
        path = manifest_path()
        if path is not None:
            with open(path, "rb") as file:
                yield file.read()
    except Exception:  # pylint: disable=broad-except  # no STATIC_ROOT, a storage elsewhere, not collected yet
        return


def _plain(value: Any) -> Optional[str]:
    """Of what looks the same in every process; None: this does not."""
    if value is None or isinstance(value, (str, bytes, int, float, bool, os.PathLike)):
        return repr(os.fspath(value) if isinstance(value, os.PathLike) else value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_plain(part) or "?" for part in value) + "]"
    if isinstance(value, (set, frozenset)):
        return "{" + ",".join(sorted(_plain(part) or "?" for part in value)) + "}"
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{_plain(key)}:{_plain(part)}" for key, part in value.items()
                                     if not is_secret(key))) + "}"
    return None


def _settings() -> Iterator[str]:
    for name, value in sorted(vars(settings._wrapped).items()):
        if name.isupper() and name not in _NOT_SHOWN and not is_secret(name):
            yield f"{name}={_plain(value)}\n"


def digest() -> str:
    made = hashlib.sha256(sys.version.encode())
    for part in (_sources, _distributions, _settings):
        for text in part():
            made.update(text.encode("utf-8", "surrogateescape"))
    for found in _manifest():
        made.update(found)
    return made.hexdigest()[:16]
