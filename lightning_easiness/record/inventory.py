"""What a folder holds: runs, their series and recipes, sizes, and what `EasinessRecord.load` makes of each series."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_easiness._utils.checked_files import RecordFileError
from lightning_easiness.record.finding import DEFAULT_SERIES, find_runs, folders_with_runs
from lightning_easiness.record.layout import (
    RunInfo,
    checkpoint_paths,
    list_series,
    num_held_out,
    open_checkpoint,
    read_run,
)
from lightning_easiness.record.loading import open_folder
from lightning_easiness.record.recipes import between, differences


@dataclass(frozen=True)
class HeldSeries:
    """One series of one run, by the headers of its checkpoints that can be read."""

    name: str
    steps: tuple[int, ...]
    epochs: tuple[int, ...]
    fields: tuple[str, ...]
    num_examples: int
    num_classes: int | None
    loss: str
    num_bytes: int


@dataclass(frozen=True)
class HeldRun:
    """One run.

    `num_held_out` examples are held out, None where the run does not say. `problem` says why run.json cannot be read;
    then seed and recipe are not known.
    """

    name: str
    seed: int | None
    complete: bool
    series: tuple[HeldSeries, ...]
    recipe: Mapping[str, Any]
    num_held_out: int | None
    num_bytes: int
    problem: str | None = None


@dataclass(frozen=True)
class Loaded:
    """What `load` makes of one series: the runs that it averages, what it leaves out, and what it warns of.

    `problem` says why it loads nothing.
    """

    series: str
    runs: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Inventory:
    """What a folder holds: its own runs, and the folders below it that hold runs."""

    path: Path
    runs: tuple[HeldRun, ...]
    loaded: tuple[Loaded, ...]
    below: tuple[Inventory, ...] = ()

    @property
    def num_complete(self) -> int:
        """Number of runs whose training is complete."""
        return sum(run.complete for run in self.runs)

    @property
    def num_bytes(self) -> int:
        """Size on disk of its own runs."""
        return sum(run.num_bytes for run in self.runs)


def take_inventory(path: str | Path) -> Inventory:
    """Read what a folder of runs, the folder of one run, or a folder above such folders holds.

    Reads headers, and a sample of the losses as `EasinessRecord.load` does. The series of folders below are not loaded.

    Raises:
        FileNotFoundError: If there is no such folder, or no run in it or below.

    Example:
        >>> import tempfile
        >>> from lightning_easiness.record.writer import RunWriter
        >>> folder = tempfile.mkdtemp()
        >>> RunWriter(folder, "seed-0", seed=0).close()
        >>> [(run.name, run.seed, run.complete) for run in take_inventory(folder).runs]
        [('seed-0', 0, False)]
    """
    path = Path(path)
    below = tuple(
        Inventory(folder, tuple(map(_held_run, find_runs(folder))), ())
        for folder in (folders_with_runs(path) if path.is_dir() else ())
    )
    try:
        folders = find_runs(path)
    except FileNotFoundError:
        if not below:
            raise
        return Inventory(path, (), (), below)
    runs = tuple(map(_held_run, folders))
    names = {series.name for run in runs for series in run.series}
    ordered = sorted(names, key=lambda name: (name != DEFAULT_SERIES, name))
    return Inventory(path, runs, tuple(_loaded(path, name) for name in ordered), below)


def main_facts(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return what most often differs between recipes, None for what is not known.

    Example:
        >>> facts = main_facts({"module": "train.Net", "optimizers": [{"class": "torch.optim.SGD", "lr": 0.1}]})
        >>> facts["module"], facts["optimizer"], facts["max_epochs"]
        ('train.Net', 'SGD lr 0.1', None)
    """
    optimizers = ", ".join(map(_optimizer, recipe.get("optimizers") or ()))
    selection = recipe.get("selection")
    return {
        "module": recipe.get("module"),
        "optimizer": optimizers or None,
        "max_epochs": recipe.get("max_epochs"),
        "batch_size": recipe.get("batch_size"),
        "selection": _class_name(selection) if selection else None,
        "hold_out": recipe.get("hold_out"),
    }


def _optimizer(one: Mapping[str, Any]) -> str:
    rate = one.get("lr")
    return _class_name(one) + (f" lr {rate:g}" if isinstance(rate, (int, float)) else "")


def _class_name(one: Mapping[str, Any]) -> str:
    return str(one.get("class", "?")).rpartition(".")[2]


def recipe_groups(runs: Iterable[HeldRun]) -> list[tuple[list[HeldRun], str]]:
    """Return the runs of each recipe, and how it differs from the first one; those without a recipe at the end."""
    groups: list[list[HeldRun]] = []
    unknown = []
    for run in runs:
        if not run.recipe:
            unknown.append(run)
            continue
        same = next((group for group in groups if not _differences(group[0], run)), None)
        groups.append([run]) if same is None else same.append(run)
    found = [(group, between(_differences(groups[0][0], group[0]))) for group in groups]
    return [*found, *([(unknown, "")] if unknown else [])]


def _differences(one: HeldRun, other: HeldRun) -> list[Any]:
    return differences(one.recipe, other.recipe, (one.seed, other.seed))


def _held_run(folder: Path) -> HeldRun:
    info, problem = RunInfo(folder, folder.resolve().name, None, {}, False), None
    try:
        info = read_run(folder)
    except RecordFileError as error:
        problem = str(error)
    held = (_held_series(folder, name) for name in list_series(folder))
    series = tuple(each for each in held if each is not None)
    size = _num_bytes(folder)
    return HeldRun(info.name, info.seed, info.complete, series, info.recipe, num_held_out(folder), size, problem)


def _held_series(folder: Path, name: str) -> HeldSeries | None:
    files = []
    for path in checkpoint_paths(folder, name).values():
        with suppress(RecordFileError):  # `load` names it
            files.append(open_checkpoint(path))
    if not files:
        return None
    return HeldSeries(
        name,
        steps=tuple(file.step for file in files),
        epochs=tuple(file.epoch for file in files),
        fields=tuple(files[0].fields),
        num_examples=files[0].num_examples,
        num_classes=next((file.num_classes for file in files if file.num_classes), None),
        loss=files[0].loss,
        num_bytes=_num_bytes(folder / name),
    )


def _loaded(path: Path, series: str) -> Loaded:
    try:
        found = open_folder(path, series)
    except (ValueError, FileNotFoundError) as error:
        return Loaded(series, (), problem=str(error))
    return Loaded(series, tuple(run.name for run in found.runs), tuple(found.left_out), tuple(found.remarks))


def _num_bytes(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # a training at work replaces files
                total += (Path(where) / name).lstat().st_size
    return total
