"""What a run recorded of another course of its training: set aside in a hidden folder of the run, which `load` ignores.

A run holds one course. Where it is trained anew, all of its series are moved; where training is resumed further back,
what was recorded beyond. A kill on the way leaves an incomplete run whose files are whole, each in one of the places,
and the next resume goes on with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from lightning_easiness._utils.checked_files import RecordFileError
from lightning_easiness.record.files import ArrayFile, sync_folder, write_whole
from lightning_easiness.record.layout import (
    ONLINE_SERIES,
    RUN_FILE,
    SET_ASIDE,
    checkpoint_path,
    checkpoint_paths,
    held_out_path,
    list_series,
    num_held_out,
    open_held_out,
    open_probabilities,
    probabilities_path,
    targets_path,
    trained_on_path,
)

#: Checksums of checkpoints by series and step; empty where one is not known.
Recorded = Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class Course:
    """Where a training that is resumed stands.

    `step` is that of Lightning's checkpoint, and `recorded` what was recorded by then: None where it does not say, as
    those of earlier versions. `open_epoch` is the epoch that it was in, whose observations it holds; -1 between epochs.
    """

    step: int
    recorded: Recorded | None = None
    open_epoch: int = -1


def recorded_in(run_dir: Path) -> dict[str, dict[int, str]]:
    """Return the checkpoints of a run by series and step, each with its checksum."""
    return {
        series: {step: _checksum(path) for step, path in checkpoint_paths(run_dir, series).items()}
        for series in list_series(run_dir)
    }


def recorded_of(run_dir: Path, course: Course | None) -> dict[str, dict[int, str]]:
    """Return the checkpoints of a run, and those that its course recorded, also where a file has gone since."""
    found = recorded_in(run_dir)
    for series, steps in ((course and course.recorded) or {}).items():
        found[series] = {**steps, **found.get(series, {})}
    return found


def other_course(run_dir: Path, course: Course) -> list[Path]:
    """Return the files of a run that are of another course, the latest first: at each moment it holds a single one."""
    found = recorded_in(run_dir)
    is_own = all(_is_same(found, course.recorded or {}, series, step) for series, step in _keys(course.recorded or {}))
    other = [
        checkpoint_path(run_dir, series, step)
        for series, step in sorted(_keys(found), key=lambda key: key[1], reverse=True)
        if not _is_of(found, course, series, step, is_own)
    ]
    for path, open_file in ((probabilities_path(run_dir), open_probabilities), (held_out_path(run_dir), open_held_out)):
        with suppress(RecordFileError):  # `load` names it
            if open_file(run_dir).step > course.step:
                other.append(path)
    return other


def unfinished_epoch(run_dir: Path, course: Course) -> Path | None:
    """Return what was recorded of an epoch at the step at which it is gone on with; None where nothing was."""
    path = checkpoint_path(run_dir, ONLINE_SERIES, course.step)
    with suppress(RecordFileError):
        return path if course.open_epoch >= 0 and ArrayFile.open(path).epoch == course.open_epoch else None
    return None


def earlier_folder(run_dir: Path) -> Path:
    """Make the next folder for what was recorded earlier, `.earlier-1` at first, with the run.json of now."""
    folder = next(path for number in count(1) if not (path := run_dir / f"{SET_ASIDE}{number}").exists())
    folder.mkdir()
    write_whole(folder / RUN_FILE, (run_dir / RUN_FILE).read_bytes())
    sync_folder(run_dir)
    return folder


def move_checkpoints(run_dir: Path, folder: Path) -> None:
    """Move all series of a run into a folder, and what it trained on; what it holds out is copied and stays."""
    trained_on = trained_on_path(run_dir)
    if trained_on.exists():
        put = shutil.copyfile if num_held_out(run_dir) else shutil.move
        put(trained_on, folder / trained_on.name)
    for name in _recorded_series(run_dir):
        (run_dir / name).rename(folder / name)
    sync_folder(folder)
    sync_folder(run_dir)


def move_files(run_dir: Path, folder: Path, paths: Iterable[Path]) -> None:
    """Move files of series into a folder, with copies of their targets and of what the run trained on."""
    with suppress(FileNotFoundError):
        shutil.copyfile(trained_on_path(run_dir), trained_on_path(folder))
    for path in paths:
        there = folder / path.parent.name
        if not there.exists():
            there.mkdir()
            with suppress(FileNotFoundError):
                shutil.copyfile(targets_path(run_dir, there.name), there / targets_path(run_dir, there.name).name)
        path.rename(there / path.name)
        sync_folder(there)
        sync_folder(path.parent)


def bring_back(run_dir: Path, recorded: Recorded) -> int:
    """Move back what a course recorded and another one set aside; return how many checkpoints."""
    number, found = 0, recorded_in(run_dir)
    for series, step in _keys(recorded):
        path = checkpoint_path(run_dir, series, step)
        if _is_same(found, recorded, series, step):
            continue
        for folder in _folders(run_dir):
            aside = checkpoint_path(folder, series, step)
            if not path.exists() and aside.exists() and _checksum(aside) == recorded[series][step]:
                path.parent.mkdir(exist_ok=True)
                aside.rename(path)
                sync_folder(path.parent)
                number += 1
    return number


def remove_what_came_again(run_dir: Path) -> None:
    """Remove the folders whose checkpoints the run has again, to the bit, and whose other files it has anew."""
    found = recorded_in(run_dir)
    for folder in _folders(run_dir):
        aside = recorded_in(folder)
        has_all = all((run_dir / path.relative_to(folder)).exists() for path in folder.glob("*/*.safetensors"))
        if has_all and all(
            aside[series][step] and _is_same(found, aside, series, step) for series, step in _keys(aside)
        ):
            shutil.rmtree(folder, ignore_errors=True)


def _folders(run_dir: Path) -> list[Path]:
    return sorted(path for path in run_dir.glob(f"{SET_ASIDE}*") if path.is_dir())


def _keys(recorded: Recorded) -> Iterator[tuple[str, int]]:
    return ((series, step) for series, steps in recorded.items() for step in steps)


def _is_same(found: Recorded, recorded: Recorded, series: str, step: int) -> bool:
    """Return whether a checkpoint is the one that was recorded, as far as both have a checksum."""
    here, there = found.get(series, {}).get(step), recorded[series][step]
    return here is not None and (here == there or not here or not there)


def _is_of(found: Recorded, course: Course, series: str, step: int, is_own: bool) -> bool:
    """Return whether a checkpoint is of a course; `is_own` says that the run has all that it recorded."""
    if step > course.step or course.recorded is None:
        return step <= course.step
    if step in course.recorded.get(series, {}):
        return _is_same(found, course.recorded, series, step)
    return is_own and step == course.step  # at its weights, after Lightning's checkpoint was saved


def _checksum(path: Path) -> str:
    with suppress(RecordFileError):  # `load` names it
        return ArrayFile.open(path).checksum
    return ""


def _recorded_series(run_dir: Path) -> list[str]:
    """Return the series of a run, also one that was killed before its first checkpoint."""
    held = list_series(run_dir)
    return [path.name for path in run_dir.iterdir() if path.name in held or targets_path(run_dir, path.name).exists()]
