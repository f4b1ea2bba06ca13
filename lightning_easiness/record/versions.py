"""The versions of the packages that a run is recorded with."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("lightning-easiness", "torch", "lightning", "numpy", "safetensors")


def versions_here() -> dict[str, str]:
    """Return the versions of this process, by package."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
