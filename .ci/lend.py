"""Lend a fresh environment what a wheel needs: links to the files of the packages that its metadata ask for, no others.

python .ci/lend.py <wheel> <extra> <site-packages>: run by the environment that has these packages.
"""

from __future__ import annotations

import os
import sys
import zipfile
from email.parser import HeaderParser
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(requirements: list[str], extras: set[str]) -> list[Requirement]:
    """Return those of a package's requirements that hold here, with its extras."""

    def holds(one: Requirement) -> bool:
        return not one.marker or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras))

    return [one for one in map(Requirement, requirements) if holds(one)]


def packages(requirements: list[Requirement]) -> dict[str, Distribution]:
    """Return what is installed of the requirements, and of theirs."""
    found: dict[str, Distribution] = {}
    asked: set[tuple[str, frozenset[str]]] = set()
    while requirements:
        one = requirements.pop()
        name, extras = canonicalize_name(one.name), frozenset(one.extras)
        if (name, extras) in asked:
            continue
        asked.add((name, extras))
        found[name] = distribution(name)
        if not one.specifier.contains(found[name].version, prereleases=True):
            sys.exit(f"{one} is asked for, and {found[name].version} is installed.")
        requirements += needed(found[name].requires or [], set(extras))
    return found


def link(files: Distribution, site_packages: Path) -> None:
    """Make a link to each file of a package."""
    for file in files.files or []:
        if ".." not in file.parts:  # commands, which are not used
            place = site_packages / file
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.symlink_to(os.path.abspath(files.locate_file(file)))


def main(wheel: str, extra: str, site_packages: str) -> None:
    """Read what the wheel asks for, and lend it."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(path).decode())
    found = packages(needed(metadata.get_all("Requires-Dist", []), {extra}))
    for one in found.values():
        link(one, Path(site_packages))
    print(f"{len(found)} packages are lent: {' '.join(sorted(found))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
