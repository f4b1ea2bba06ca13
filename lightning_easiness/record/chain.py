"""The checkpoints of a series as a chain: each names the one before it, and `run.json` of a complete run the last one.

So what is missing is known, and what is of another run, though it is of the same data and has the same name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lightning_easiness._utils.checked_files import RecordFileError
from lightning_easiness.record.files import HELD_OUT_PROBABILITIES, PROBABILITIES, TARGETS, TRAINED_ON, ArrayFile
from lightning_easiness.record.layout import (
    RUN_FILE,
    SET_ASIDE,
    checkpoint_path,
    checkpoint_paths,
    held_out_path,
    probabilities_path,
    targets_path,
    trained_on_path,
)

REPLACED = ("trained-on.safetensors", "probabilities.safetensors", "held-out.safetensors")
_COPY = "copy the one of this run here again."


def link(recorded: Mapping[int, str], step: int) -> str:
    """Return how a checkpoint at a step names the one before it: its step and its checksum; "" for the first."""
    before = max((each for each in recorded if each < step), default=None)
    return "" if before is None else f"{before} {recorded[before]}".rstrip()


def listed_files(run_dir: Path, recorded: Mapping[str, Mapping[int, str]], before: Mapping[str, str]) -> dict[str, str]:
    """Return the checksums of the last checkpoint of each series, and of the files of a run that are replaced.

    Of those that were listed before, the ones that have gone since stay known, but not what was set aside.
    """
    last = {series: max(steps) for series, steps in recorded.items() if steps}
    found = {checkpoint_path(run_dir, series, step): recorded[series][step] for series, step in last.items()}
    formats = {targets_path(run_dir, series): TARGETS for series in last}
    formats |= {trained_on_path(run_dir): TRAINED_ON, probabilities_path(run_dir): PROBABILITIES}
    for path, name in {**formats, held_out_path(run_dir): HELD_OUT_PROBABILITIES}.items():
        with suppress(RecordFileError):  # it is not there, or `load` names it
            found[path] = ArrayFile.open(path, name).checksum
    here = {path.relative_to(run_dir).as_posix(): checksum for path, checksum in found.items() if checksum}
    gone = {name: before[name] for name in before if Path(name).name in REPLACED and _is_gone(run_dir, name)}
    return dict(sorted({**gone, **here}.items()))


def _is_gone(run_dir: Path, name: str) -> bool:
    return not os.path.lexists(run_dir / name) and not any(run_dir.glob(f"{SET_ASIDE}*/{name}"))


@dataclass(frozen=True)
class _Link:
    """What a checkpoint, or run.json, says of the one before."""

    step: int
    checksum: str

    @classmethod
    def of(cls, text: str) -> _Link | None:
        step, _, checksum = text.partition(" ")
        return cls(int(step), checksum) if step else None

    def fits(self, file: ArrayFile) -> bool:
        """Return whether it may be that file, as far as both have a checksum."""
        known = self.checksum and file.checksum
        return self.step == file.step and (not known or self.checksum == file.checksum)


def of_one_run(
    run_dir: Path, series: str, files: Sequence[ArrayFile], last: str
) -> tuple[tuple[ArrayFile, ...], list[str]]:
    """Return the checkpoints of a run, by ascending step, without those of another one; and a sentence for each fault.

    `last` is how run.json names the last one, "" where it does not.
    """
    ends = [_Link.of(file.previous) for file in files[1:]] + [_Link.of(last)]
    is_missing = [found is not None and found.step > file.step for file, found in zip(files, ends, strict=True)]
    broken = [
        found is not None and not missing and not found.fits(file)
        for file, found, missing in zip(files, ends, is_missing, strict=True)
    ]
    gaps = [found for found, missing in zip(ends, is_missing, strict=True) if missing and found is not None]
    first = _Link.of(files[0].previous)
    problems = [text for gap in ([first] if first else []) + gaps for text in _missing(run_dir, series, gap.step)]
    if broken and broken[-1] and not any(broken[:-1]) and len(files) > 1:
        text = f"'{run_dir / RUN_FILE}' is of another run than the checkpoints of '{series}' beside it: {_COPY}"
        return (), [*problems, text]
    foreign = _foreign(broken, is_attested=bool(last))
    problems += [f"'{file.path}' is of another run than those beside it: {_COPY}" for file in _at(files, foreign)]
    return _at(files, [not one for one in foreign]), problems


def missing_series(run_dir: Path, series: str, last: str) -> list[str]:
    """Return a sentence where run.json names a checkpoint of a series that has none."""
    found = _Link.of(last)
    return _missing(run_dir, series, found.step) if found and not checkpoint_paths(run_dir, series) else []


def _missing(run_dir: Path, series: str, step: int) -> list[str]:
    return missing(run_dir, checkpoint_path(run_dir, series, step))


def missing(run_dir: Path, path: Path) -> list[str]:
    """Return a sentence for a file that is gone, but not from the part of a run that was set aside."""
    if os.path.lexists(path) or run_dir.name.startswith(SET_ASIDE):
        return []
    return [f"'{path}' is missing: copy it here again, or train the run anew."]


def _foreign(broken: Sequence[bool], is_attested: bool) -> list[bool]:
    """Return which checkpoints are of another run, by the links from each to the next that are broken.

    One between two broken links is; where only one is broken, that at the end of the chain is that nothing attests.
    """
    before = [False, *broken[:-1]]
    foreign = [one and other for one, other in zip(before, broken, strict=True)]
    last = len(broken) - 1
    for place in range(last):
        if broken[place] and not (foreign[place] or foreign[place + 1]):
            is_first, is_last = place == 0, place + 1 == last and not is_attested
            foreign[place] |= is_first or not is_last
            foreign[place + 1] |= is_last or not is_first
    foreign[last] |= broken[last] and last == 0
    return foreign


def _at(files: Sequence[ArrayFile], chosen: Sequence[bool]) -> tuple[ArrayFile, ...]:
    return tuple(file for file, is_chosen in zip(files, chosen, strict=True) if is_chosen)
