"""Finding runs in a folder: what is there, what is spelt like it, and what cannot be read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from lightning_easiness._utils.checked_files import RecordFileError
from lightning_easiness._utils.spelling import did_you_mean
from lightning_easiness.record.layout import RUN_FILE, list_folder, list_series

T = TypeVar("T")

DEFAULT_SERIES = "train-probe"
_GIVE = "give the folder that EasinessCallback(dirpath=...) wrote to."
_DEEPEST, _MOST_NAMED = 4, 5  # from a project's folder down to logs/version_0/easiness/seed-0


def find_runs(path: Path, names: Iterable[str] | None = None) -> list[Path]:
    """Return the folders of the runs in a folder, or of one run; in the order of `names`, else by number."""
    if not path.is_dir():
        raise FileNotFoundError(f"'{path}' is not a folder{_beside(path)}: {_GIVE}")
    if os.path.lexists(path / RUN_FILE):
        found = [path]
    else:
        found = sorted((folder for folder in list_folder(path) if _looks_like_run(folder)), key=_by_number)
    if not found:
        raise FileNotFoundError(_no_run_in(path))
    if names is None:
        return found
    by_name = {folder.resolve().name: folder for folder in found}
    wanted = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        guess = did_you_mean(str(unknown[0]), by_name)
        raise ValueError(f"`runs` names {unknown[0]!r}, which is not in '{path}'{guess}: there are {quoted(by_name)}.")
    return [by_name[name] for name in wanted]


def folders_with_runs(path: Path, depth: int = _DEEPEST) -> list[Path]:
    """Return the folders below a folder that hold runs, by number; runs are not searched."""
    found = []
    for folder in _folders_in(path):
        if os.path.lexists(folder / RUN_FILE):
            continue
        inside = _folders_in(folder)
        if any(os.path.lexists(each / RUN_FILE) for each in inside):
            found.append(folder)
        if depth > 2:
            found += folders_with_runs(folder, depth - 1)
    return sorted(found, key=_by_number)


def only_series(folders: Iterable[Path]) -> str:
    """Return the series of the runs if there is only one, else the train probe."""
    held = {name for folder in folders for name in list_series(folder)}
    return held.pop() if len(held) == 1 else DEFAULT_SERIES


def tried(problems: list[str], read: Callable[..., T], *arguments: object) -> T | None:
    """Return what `read` returns; if the file is bad, return None and add the error to `problems`."""
    try:
        return read(*arguments)
    except RecordFileError as error:
        problems.append(str(error))
        return None


def problems_of(check: Callable[..., object], *arguments: object) -> list[str]:
    """Return the error that a check raises for a bad file, if it does."""
    problems: list[str] = []
    tried(problems, check, *arguments)
    return problems


def add_problems(problems: list[str], check: Callable[..., object], *arguments: object) -> list[str]:
    """Return the error that a check raises for a bad file, and add it to `problems`."""
    found = problems_of(check, *arguments)
    problems += found
    return found


def _folders_in(path: Path) -> list[Path]:
    """Return the folders in a folder; none where it must not be read."""
    try:
        with os.scandir(path) as entries:
            return [path / entry.name for entry in entries if entry.is_dir()]
    except OSError:
        return []


def _beside(path: Path) -> str:
    """Return a remark that names the folder beside a missing one that is spelt most like it."""
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    return did_you_mean(path.name, [each.name for each in beside if each.is_dir()])


def _no_run_in(path: Path) -> str:
    """Return the sentence that says so, and names the folders close by that hold runs."""
    if os.path.lexists(path.parent / RUN_FILE):
        return f"'{path}' is a part of a run: give the run, '{path.parent}', or the folder of all runs."
    below = folders_with_runs(path)
    if not below:
        return f"There is no run in '{path}' (a run is a folder with {RUN_FILE}): {_GIVE}"
    more = f" and {len(below) - _MOST_NAMED} more" if len(below) > _MOST_NAMED else ""
    return f"There is no run in '{path}' itself, but in {quoted(map(str, below[:_MOST_NAMED]))}{more}: give one folder."


def _looks_like_run(folder: Path) -> bool:
    """Return whether a folder is a run, or may be one, as it cannot be read."""
    if not folder.is_dir():
        return False
    is_unread = bool(problems_of(list_folder, folder))
    return is_unread or os.path.lexists(folder / RUN_FILE) or bool(list_series(folder))


def _by_number(folder: Path) -> list[int | str]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(folder))]


def quoted(names: Iterable[str]) -> str:
    """Return names in quotation marks, in one line."""
    return ", ".join(f"'{name}'" for name in names)
