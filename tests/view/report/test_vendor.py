"""The libraries of the page: unchanged, with their licences, and all that a page needs."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

import pytest

VENDOR = files("lightning_easiness.view.report.page") / "vendor"
README = (VENDOR / "README.md").read_text(encoding="utf-8")
SUMS = dict(re.findall(r"^([\w.]+)  ([0-9a-f]{64})$", README, re.MULTILINE))


def test_every_file_is_listed() -> None:
    held = {each.name for each in VENDOR.iterdir()} - {"README.md"}
    assert held == set(SUMS)


@pytest.mark.parametrize("name", SUMS)
def test_a_file_is_as_it_was_published(name: str) -> None:
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == SUMS[name]


@pytest.mark.parametrize("library", ["uPlot", "tabulator"])
def test_a_library_has_its_licence_and_its_version(library: str) -> None:
    assert "Permission is hereby granted" in (VENDOR / f"{library}.LICENSE").read_text(encoding="utf-8")
    script = next(each for each in VENDOR.iterdir() if each.name.startswith(library) and each.name.endswith(".js"))
    version = re.search(r"v(\d+\.\d+\.\d+)", script.read_text(encoding="utf-8")[:200])
    assert version is not None
    assert f"| {version[1]} |" in README
