"""One series of several runs: reading it from disk, and stacking the runs into one record.

Reads only headers, except for targets if runs may have different ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from lightning_easiness._utils.spelling import did_you_mean, shortened
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import Observation
from lightning_easiness.record.chain import REPLACED, missing, missing_series, of_one_run
from lightning_easiness.record.files import ArrayFile
from lightning_easiness.record.finding import add_problems, problems_of, quoted, tried
from lightning_easiness.record.layout import (
    RunInfo,
    check_name,
    check_targets,
    checkpoint_paths,
    list_folder,
    list_series,
    map_identity,
    open_checkpoint,
    open_targets,
    open_trained_on,
    read_run,
    trained_on_path,
)

T = TypeVar("T")

_LOAD_ONE = "load those of one data set, module and loss with runs=[...]."


@dataclass(frozen=True)
class RecordedSeries:
    """One series of one run: the headers of its checkpoints by ascending step."""

    info: RunInfo
    identity: DataIdentity  # its targets are mapped, not read
    own: tuple[ArrayFile, ...]  # all of its checkpoints
    checkpoints: tuple[ArrayFile, ...]  # those shared with the other runs
    training: ArrayFile | None = None  # which of these examples were trained on and held out; None where it is not said
    targets: ArrayFile | None = None  # the file of its targets; None where it cannot be read

    def verify_targets(self) -> None:
        """Raise a RecordFileError where the targets are not what was written."""
        if self.targets is not None:
            for name in self.targets.fields:
                self.targets.verify(name)

    @property
    def holds_out(self) -> bool:
        """Whether it held out a part of these examples."""
        return self.training is not None and self.training.num_held_out > 0

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.info.name

    @property
    def own_steps(self) -> set[int]:
        """Steps of all of its checkpoints."""
        return {checkpoint.step for checkpoint in self.own}

    @property
    def by_epoch(self) -> dict[int, ArrayFile]:
        """Its last checkpoint in each epoch."""
        return {file.epoch: file for file in self.own}

    @property
    def has_own_length(self) -> bool:
        """Whether it trained on a part of the examples, so that its epochs may differ in length from another run's."""
        return any(self.info.recipe.get(name) is not None for name in ("selection", "hold_out"))

    @property
    def loss(self) -> str:
        """Name of the loss."""
        return self.own[0].loss

    @property
    def num_classes(self) -> int | None:
        """Number of classes, K; None if unknown."""
        return next((checkpoint.num_classes for checkpoint in self.own if checkpoint.num_classes), None)

    def trajectory(self, first: int, last: int) -> tuple[ArrayFile, ...]:
        """All of its own checkpoints from the shared one at index `first` to that at `last`, both included.

        The first and the last shared one stand for the first and the last of its own.
        """
        begin = 0 if first == 0 else self.own.index(self.checkpoints[first])
        end = len(self.own) - 1 if last == len(self.checkpoints) - 1 else self.own.index(self.checkpoints[last])
        return self.own[begin : end + 1]

    def observation(self, file: ArrayFile) -> Observation:
        """Return one of its checkpoints as an observation; the fields are memory-mapped."""
        self.verify_targets()
        fields = {field: file.read(field) for field in file.fields}
        return Observation(file.series, file.step, file.epoch, fields, self.identity, file.num_classes, file.loss)


# ---------------------------------------------------------------------------------------------------------- reading


def read_runs(path: Path, folders: Sequence[Path], series: str) -> tuple[list[RecordedSeries], list[str]]:
    """Open one series of runs found in `path`; return at least one, and a sentence for each unreadable part."""
    check_name("series", series)
    problems: list[str] = []
    found = [run for folder in folders if (run := _read_series(folder, series, problems)) is not None]
    if found:
        return found, problems
    there = sorted({name for folder in folders for name in list_series(folder)})
    is_closed = any(problems_of(checkpoint_paths, folder, series) for folder in folders)
    if series in there or is_closed or all(problems_of(read_run, folder) for folder in folders):
        raise ValueError(f"Nothing of series '{series}' in '{path}' can be read: {' '.join(problems)}")
    held = f"there are {quoted(there)}" if there else "no run holds a checkpoint yet"
    guess = did_you_mean(series, there)
    raise FileNotFoundError(f"No run in '{path}' holds the series '{series}'{guess}: {held}.")


def _read_series(run_dir: Path, series: str, problems: list[str]) -> RecordedSeries | None:
    """Return the readable part of a run, None without a checkpoint; add a sentence for each unreadable part."""
    unread = problems_of(list_folder, run_dir)
    info = None if unread else tried(problems, read_run, run_dir)
    paths = None if unread else tried(problems, checkpoint_paths, run_dir, series)
    problems += unread
    if info is not None and paths == {}:
        others = quoted(list_series(run_dir)) or "no checkpoint yet"
        way_out = "" if info.complete else "; it is unfinished: run it again to its end"
        problems.append(f"Run '{info.name}' holds no series '{series}'; it holds {others}{way_out}.")
    if info is not None and paths is not None:
        problems += [*missing_series(run_dir, series, info.last(series)), *_missing_files(info, series)]
    if info is None or not paths:
        return None
    files = [file for path in paths.values() if (file := tried(problems, open_checkpoint, path)) is not None]
    if not files:
        return None
    targets = tried(problems, open_targets, run_dir, series)
    if targets is None:
        problems[-1] += f" The targets of run '{info.name}' are not known."
        identity = DataIdentity(files[0].num_examples)
    else:
        identity = map_identity(targets)
    length = identity.num_examples
    problems += [
        f"'{file.path}' holds {file.num_examples} examples, its series {length}: move it out of the folder."
        for file in files
        if file.num_examples != length
    ]
    of_length = [file for file in files if file.num_examples == length]
    fitting = _of_these_targets(of_length, targets, problems)
    if fitting:
        fitting, faults = of_one_run(run_dir, series, fitting, info.last(series))
        problems += faults
    if not fitting:
        return None
    return _with_training(RecordedSeries(info, identity, fitting, fitting, targets=targets), series, problems)


def _of_these_targets(
    files: Sequence[ArrayFile], targets: ArrayFile | None, problems: list[str]
) -> tuple[ArrayFile, ...]:
    """Return the checkpoints that are of the targets beside them; where none of several is, it is the targets'."""
    found: list[str] = []
    fitting = tuple(file for file in files if not add_problems(found, check_targets, file, targets))
    if targets is not None and not fitting and len(files) > 1:
        here = f"'{targets.path}' is of other data than the {len(files)} checkpoints beside it"
        found = [f"{here}: copy the one of this run here again."]
    problems += found
    return fitting


def _missing_files(info: RunInfo, series: str) -> list[str]:
    """Return a sentence for each file beside a series' checkpoints and targets that run.json names and that is gone."""
    replaced = (info.path / name for name in info.files if Path(name).name in REPLACED)
    return [text for path in replaced if path.parent.name == series for text in missing(info.path, path)]


def _with_training(run: RecordedSeries, series: str, problems: list[str]) -> RecordedSeries | None:
    """Return a run with the file of what it trained on, if there is one; None where that cannot be read."""
    if not series.startswith("train-"):
        return run  # of other examples
    number = len(problems)
    training = tried(problems, open_trained_on, run.info.path)
    if training is not None and training.num_examples != run.identity.num_examples:
        size = run.identity.num_examples
        problems.append(f"'{training.path}' is of {training.num_examples} examples, series '{series}' of {size}.")
    listed = trained_on_path(run.info.path)
    if training is None and listed.name in run.info.files and len(problems) == number:
        problems += missing(run.info.path, listed)
    if len(problems) > number:
        problems[-1] += f" What run '{run.name}' trained on is not known, so that all of it is left out."
        return None
    return replace(run, training=training)


# --------------------------------------------------------------------------------------------------------- stacking


def stack(runs: Sequence[RecordedSeries]) -> tuple[list[RecordedSeries], list[str]]:
    """Restrict runs to the checkpoints that they share; the others remain available for trajectory scores.

    These are the checkpoints at the steps shared by all complete runs, or by all runs if none is complete; an
    incomplete run that lacks one is left out. Runs of a selection, or that hold out examples, may make different
    numbers of steps in an epoch: they share the last checkpoints of their epochs, if those are more. Earlier
    restrictions are undone. Also returns a sentence for each part left out.
    """
    check_same_data(runs)
    decisive = [run for run in runs if run.info.complete] or runs
    shared = set.intersection(*(run.own_steps for run in decisive))
    epochs = set.intersection(*(set(run.by_epoch) for run in decisive))
    if len(epochs) > len(shared) and all(run.has_own_length for run in runs):
        return _stacked_by_epoch(runs, epochs)
    if not shared:
        extents = "; ".join(f"'{run.name}' holds {_listed(run.own_steps)}" for run in decisive)
        raise ValueError(
            f"The runs share no checkpoint ({extents}): load those that were observed at the same steps, with "
            "runs=[...]."
        )
    kept, problems = [], []
    for run in runs:
        lacks = shared - run.own_steps
        if lacks:
            problems.append(
                f"Run '{run.name}' is not complete and lacks {len(lacks)} of the {len(shared)} checkpoints that all "
                "complete runs share: train it to its end, or load it alone."
            )
        else:
            kept.append(replace(run, checkpoints=tuple(file for file in run.own if file.step in shared)))
    partial = set.union(*(run.own_steps for run in decisive)) - shared
    if partial:
        problems.append(f"checkpoints that some runs lack: {_listed(partial)}.")
    return kept, problems


def _stacked_by_epoch(runs: Sequence[RecordedSeries], epochs: set[int]) -> tuple[list[RecordedSeries], list[str]]:
    kept, problems = [], []
    for run in runs:
        by_epoch = run.by_epoch
        if epochs <= set(by_epoch):
            kept.append(replace(run, checkpoints=tuple(by_epoch[epoch] for epoch in sorted(epochs))))
        else:
            problems.append(
                f"Run '{run.name}' is not complete and lacks some of the {len(epochs)} epochs that all complete runs"
                " share: train it to its end, or load it alone."
            )
    return kept, problems


def merged_identity(runs: Sequence[RecordedSeries]) -> DataIdentity:
    """Return the data set of several runs, with the targets recorded by any of them; raise if two differ."""
    merged = runs[0].identity
    for position, run in enumerate(runs):
        if not merged.is_same(run.identity):
            for earlier in runs[:position]:  # to name the one that differs
                here, there = f"Run '{earlier.name}'", f"run '{run.name}'"
                earlier.identity.check_same(run.identity, here, there, _LOAD_ONE)
        merged = merged.merged(run.identity)
    return merged


def check_same_data(runs: Sequence[RecordedSeries]) -> None:
    """Raise a ValueError that names two runs of different data sets, losses or numbers of classes."""
    merged_identity(runs)
    first, *others = runs
    for run in others:
        if first.holds_out != run.holds_out:
            one, other = (first, run) if first.holds_out else (run, first)
            raise ValueError(
                f"Run '{one.name}' held out a part of the examples and run '{other.name}' did not, so that their scores"
                " do not mean the same: load those of one kind with runs=[...]."
            )
        recorded = recorded_differently(first, run)
        if recorded is not None:
            raise ValueError(f"Runs '{first.name}' and '{run.name}' {recorded}: {_LOAD_ONE}")


def recorded_differently(one: RecordedSeries, other: RecordedSeries) -> str | None:
    """Return what two runs recorded differently, losses or numbers of classes, without a subject; None for neither."""
    found = {"losses": (one.loss, other.loss), "numbers of classes": (one.num_classes, other.num_classes)}
    different = (f"recorded different {what} ({a!r} and {b!r})" for what, (a, b) in found.items() if a and b and a != b)
    return next(different, None)


def with_own_names(runs: Sequence[RecordedSeries]) -> list[RecordedSeries]:
    """Append the next free number to names that are taken: "seed-0", "seed-0-2"; raise a ValueError for a run twice."""
    folders = [run.info.path.resolve() for run in runs]
    named: dict[str, RecordedSeries] = {}
    for position, run in enumerate(runs):
        if folders[position] in folders[:position]:
            raise ValueError(f"A record takes each run once; got run '{run.name}' in '{run.info.path}' twice.")
        name, number = run.name, 2
        while name in named:
            name, number = f"{run.name}-{number}", number + 1
        named[name] = replace(run, info=replace(run.info, name=name))
    return list(named.values())


def same_seeds(runs: Sequence[RecordedSeries]) -> list[str]:
    """Return a sentence for each seed shared by several runs."""
    names: defaultdict[int | None, list[str]] = defaultdict(list)
    for run in runs:
        names[run.info.seed].append(f"'{run.name}'")
    return [
        f"Runs {', '.join(those[:-1])} and {those[-1]} have the same seed {seed}: unless something else differs, "
        "together they are no better than one of them."
        for seed, those in names.items()
        if seed is not None and len(those) > 1
    ]


def _listed(steps: Iterable[int]) -> str:
    ordered = sorted(steps)
    return f"step{'' if len(ordered) == 1 else 's'} {shortened(ordered)}"
