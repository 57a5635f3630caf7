# SPDX-License-Identifier: Apache-2.0
"""Who asks? What Django, Python or an installed package asks for itself is in no page; what the site's own code or a template asks may
be. So sources look at whose frames they are called from."""
from __future__ import annotations

import os
from functools import lru_cache
from typing import Any, Collection

from django.conf import settings

INSTALLED = (os.sep + "site-packages" + os.sep, os.sep + "dist-packages" + os.sep)  # in the path of what pip or apt brought
_NOT_PROJECTS = (*INSTALLED, os.path.dirname(os.__file__) + os.sep)
_FRAMES_MAX = 30


def module_of(frame: Any) -> str:
    name: str = frame.f_globals.get("__name__", "")
    return name


def beyond(frame: Any, modules: Collection[str]) -> Any:
    """The first frame, from this one outwards, that is of none of these modules, which ask for whoever calls them; None: there is
    none."""
    while frame is not None and module_of(frame) in modules:
        frame = frame.f_back
    return frame


@lru_cache(maxsize=1024)
def is_projects(module: str, filename: str) -> bool:
    """Is the code of this module the site's own: neither installed (unless the settings are too) nor Python's?"""
    if module.startswith(("django.", "etagd.")) or filename.startswith("<frozen"):
        return False
    own = {str(name).partition(".")[0] for name in (getattr(settings, "SETTINGS_MODULE", None), getattr(settings, "ROOT_URLCONF", None)) if name}
    return module.partition(".")[0] in own or not any(place in filename for place in _NOT_PROJECTS)


def is_within(frame: Any, module: str, names: Any = None) -> bool:
    """Is it called by this module, as a template that asks an installed package for the kind of browser?"""
    for _ in range(_FRAMES_MAX):
        if frame is None:
            return False
        if module_of(frame) == module and (names is None or frame.f_code.co_name in names):
            return True
        frame = frame.f_back
    return False
