"""The versions of the packages that a run is recorded with."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

_PACKAGES = ("lightning-easiness", "torch", "lightning", "numpy", "safetensors")


@cache  # to read them takes milliseconds
def versions_here() -> Mapping[str, str]:
    """Return the versions of this process, by package."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return MappingProxyType(found)
