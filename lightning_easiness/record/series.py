"""One series of several runs: finding it on disk, and the rule by which runs are stacked into one record.

Nothing here reads more than headers, but for targets where the runs do not know the same ones.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lightning_easiness.record.files import (
    UNKNOWN_TARGET,
    CheckpointFile,
    RecordFileError,
    TargetsFile,
    fingerprint,
)
from lightning_easiness.record.layout import (
    RUN_FILE,
    RunInfo,
    checkpoint_paths,
    list_series,
    open_checkpoint,
    open_targets,
    read_run,
)


@dataclass(frozen=True)
class RecordedSeries:
    """One series of one run: the headers of its checkpoints by ascending step, and of its targets, if any.

    `checkpoints` are those at which it is stacked with other runs; `not_shared` are the rest of its own.
    """

    info: RunInfo
    checkpoints: tuple[CheckpointFile, ...]
    targets: TargetsFile | None
    not_shared: tuple[CheckpointFile, ...] = ()

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.info.name

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the checkpoints."""
        return tuple(checkpoint.step for checkpoint in self.checkpoints)

    def trajectory(self, first: int, last: int) -> tuple[CheckpointFile, ...]:
        """All of its own checkpoints, shared or not, from the shared one of index `first` to that of index `last`.

        Both count. The first and the last shared one stand for the first and the last of its own.
        """
        own = sorted((*self.checkpoints, *self.not_shared), key=lambda checkpoint: checkpoint.step)
        begin = own[0] if first == 0 else self.checkpoints[first]
        end = own[-1] if last == len(self.checkpoints) - 1 else self.checkpoints[last]
        return tuple(checkpoint for checkpoint in own if begin.step <= checkpoint.step <= end.step)

    def whole(self) -> "RecordedSeries":
        """The run by itself, with all of its own checkpoints."""
        return replace(self, checkpoints=self.trajectory(0, len(self.checkpoints) - 1), not_shared=())

    @property
    def num_examples(self) -> int:
        """N, the length of the data set."""
        return self.checkpoints[0].num_examples

    @property
    def fingerprint(self) -> str:
        """Names the data set."""
        return fingerprint(None, self.num_examples) if self.targets is None else self.targets.fingerprint

    @property
    def loss(self) -> str:
        """Name of the loss."""
        return self.checkpoints[0].loss

    @property
    def num_classes(self) -> int | None:
        """K, where known."""
        return next((checkpoint.num_classes for checkpoint in self.checkpoints if checkpoint.num_classes), None)

    def target(self) -> Tensor:
        """Map the class of each example, int64 `(N,)`, -1 where not known."""
        if self.targets is None:
            return torch.full((self.num_examples,), UNKNOWN_TARGET)
        return self.targets.read()


# ---------------------------------------------------------------------------------------------------------- finding


def read_runs(path: Path, series: str, names: Iterable[str] | None = None) -> tuple[list[RecordedSeries], list[str]]:
    """Open the headers of one series of the runs in a folder.

    Args:
        path: folder of a run, or of runs.
        series: name of the series.
        names: which runs, in that order; None for all, in the order of the numbers in their names.

    Returns:
        The runs, at least one, and a sentence for each thing that cannot be read.

    Raises:
        FileNotFoundError: there is no such folder, no run in it, or none with that series.
        ValueError: a name in `names` is of no run, or nothing can be read.
    """
    folders = _find_runs(path, names)
    found: list[RecordedSeries] = []
    problems: list[str] = []
    for folder in folders:
        run, sentences = _read_series(folder, series)
        found += [run] if run else []
        problems += sentences
    if not found:
        raise _nothing_found(path, folders, series, problems)
    return found, problems


def _find_runs(path: Path, names: Iterable[str] | None) -> list[Path]:
    if not path.is_dir():
        raise FileNotFoundError(f"'{path}' is no folder: give one to which EasinessCallback(dirpath=...) wrote.")
    if (path / RUN_FILE).exists():
        found = [path]
    else:
        found = sorted((folder for folder in path.iterdir() if _looks_like_run(folder)), key=_by_number)
    if not found:
        raise FileNotFoundError(
            f"There is no run in '{path}' (a run is a folder with {RUN_FILE}): give the folder to which "
            "EasinessCallback(dirpath=...) wrote."
        )
    if names is None:
        return found
    by_name = {folder.resolve().name: folder for folder in found}
    wanted = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        raise ValueError(f"`runs` names {unknown[0]!r}, which is not in '{path}': there are {_quoted(by_name)}.")
    return [by_name[name] for name in wanted]


def _looks_like_run(folder: Path) -> bool:
    return folder.is_dir() and ((folder / RUN_FILE).exists() or bool(list_series(folder)))


def _by_number(folder: Path) -> list[int | str]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", folder.name)]


def _read_series(run_dir: Path, series: str) -> tuple[RecordedSeries | None, list[str]]:
    """What can be read of a run, None where that is no checkpoint, and a sentence for each thing that cannot."""
    try:
        info = read_run(run_dir)
    except RecordFileError as error:
        return None, [str(error)]
    paths = checkpoint_paths(run_dir, series)
    if not paths:
        others = _quoted(list_series(run_dir)) or "no checkpoint yet"
        return None, [f"Run '{info.name}' holds no series '{series}'; it holds {others}."]
    checkpoints, problems = _open_checkpoints(paths.values())
    if not checkpoints:
        return None, problems
    targets: TargetsFile | None = None
    try:
        targets = open_targets(run_dir, series)
    except RecordFileError as error:
        problems.append(f"{error} The targets of run '{info.name}' are not known.")
    length = checkpoints[0].num_examples if targets is None else targets.num_examples
    fitting = tuple(checkpoint for checkpoint in checkpoints if checkpoint.num_examples == length)
    problems += [
        f"'{checkpoint.path}' holds {checkpoint.num_examples} examples, its series {length}: move it out of the folder."
        for checkpoint in checkpoints
        if checkpoint.num_examples != length
    ]
    return (RecordedSeries(info, fitting, targets) if fitting else None), problems


def _open_checkpoints(paths: Iterable[Path]) -> tuple[list[CheckpointFile], list[str]]:
    checkpoints: list[CheckpointFile] = []
    problems: list[str] = []
    for path in paths:
        try:
            checkpoints.append(open_checkpoint(path))
        except RecordFileError as error:
            problems.append(str(error))
    return checkpoints, problems


def _nothing_found(path: Path, folders: Sequence[Path], series: str, problems: Sequence[str]) -> Exception:
    """The error that says why nothing of a series could be loaded, and which series there are."""
    there = sorted({name for folder in folders for name in list_series(folder)})
    if series in there:
        return ValueError(f"Nothing of series '{series}' in '{path}' can be read: {' '.join(problems)}")
    held = f"there are {_quoted(there)}" if there else "no run holds a checkpoint yet"
    return FileNotFoundError(f"No run in '{path}' holds the series '{series}': {held}.")


# --------------------------------------------------------------------------------------------------------- stacking


def stack(runs: Sequence[RecordedSeries]) -> tuple[list[RecordedSeries], list[str]]:
    """Cut runs to the checkpoints that they share; the others go on as `not_shared`, for what needs a whole trajectory.

    What counts is the checkpoints that all complete runs share; an incomplete run that lacks one of them is left out.
    Where no run is complete, it is the checkpoints that all runs share. How the runs were cut before is forgotten.

    Returns:
        The runs, all with the same steps, and a sentence for each thing left out.

    Raises:
        ValueError: the runs share no checkpoint, or are not of one data set, loss and number of classes.
    """
    check_same_data(runs)
    runs = [run.whole() for run in runs]
    judges = [run for run in runs if run.info.complete] or runs
    shared = set(judges[0].steps).intersection(*(run.steps for run in judges))
    if not shared:
        raise ValueError(
            f"The runs share no checkpoint ({'; '.join(_extent(run) for run in judges)}): "
            "load those that were observed at the same steps, with runs=[...]."
        )
    kept = [run for run in runs if shared.issubset(run.steps)]
    problems = [
        f"Run '{run.name}' is not complete and lacks {len(shared.difference(run.steps))} of the {len(shared)} "
        "checkpoints that all complete runs share: train it to its end, or load it alone."
        for run in runs
        if not shared.issubset(run.steps)
    ]
    partial = sorted({step for run in judges for step in run.steps} - shared)
    if partial:
        problems.append(f"checkpoints that not all runs hold: {_listed(partial)}.")
    return [_cut(run, shared) for run in kept], problems


def merged_target(runs: Sequence[RecordedSeries]) -> Tensor:
    """Class of each example as any of the runs knows it, int64 `(N,)`, -1 where none does.

    Raises:
        ValueError: two runs know different classes of an example.
    """
    merged = runs[0].target()
    if len({run.fingerprint for run in runs}) == 1:
        return merged
    for position, run in enumerate(runs):
        target = run.target()
        other = (merged >= 0) & (target >= 0) & (merged != target)
        if other.any():
            example = int(other.nonzero()[0])
            first = next(run for run in runs[:position] if run.target()[example] >= 0)
            classes = f"{int(merged[example])} and {int(target[example])}"
            raise ValueError(_other_data(first, run, f"example {example} is of classes {classes}"))
        merged = torch.where(merged >= 0, merged, target)
    return merged


def with_own_names(runs: Sequence[RecordedSeries]) -> list[RecordedSeries]:
    """Give runs whose name is taken the next free number: "seed-0", "seed-0-2".

    Raises:
        ValueError: a run, that is its folder, comes twice.
    """
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
    """A sentence for each seed that several runs have."""
    counts = Counter(run.info.seed for run in runs if run.info.seed is not None)
    sentences = []
    for seed in (seed for seed, count in counts.items() if count > 1):
        names = [f"'{run.name}'" for run in runs if run.info.seed == seed]
        sentences.append(
            f"Runs {', '.join(names[:-1])} and {names[-1]} have the same seed {seed}: "
            "unless something else differs, they tell no more than one of them."
        )
    return sentences


def check_same_data(runs: Sequence[RecordedSeries]) -> None:
    """Raise a ValueError that names two runs of different data sets, losses or numbers of classes."""
    if not runs:
        return
    first = runs[0]
    for run in runs:
        if run.num_examples != first.num_examples:
            raise ValueError(_other_data(first, run, f"{first.num_examples} and {run.num_examples} examples"))
        if run.loss != first.loss:
            raise ValueError(
                f"Runs '{first.name}' and '{run.name}' recorded different losses ({first.loss!r} and {run.loss!r}): "
                "load those of one with runs=[...]."
            )
        if run.num_classes and first.num_classes and run.num_classes != first.num_classes:
            raise ValueError(_other_data(first, run, f"{first.num_classes} and {run.num_classes} classes"))
    merged_target(runs)


def _other_data(first: RecordedSeries, second: RecordedSeries, what: str) -> str:
    return (
        f"Runs '{first.name}' and '{second.name}' are of different data sets ({what}): "
        "load those of one with runs=[...]."
    )


def _cut(run: RecordedSeries, steps: set[int]) -> RecordedSeries:
    shared = tuple(checkpoint for checkpoint in run.checkpoints if checkpoint.step in steps)
    others = tuple(checkpoint for checkpoint in run.checkpoints if checkpoint.step not in steps)
    return replace(run, checkpoints=shared, not_shared=others)


def _extent(run: RecordedSeries) -> str:
    return f"'{run.name}' holds {_listed(run.steps)}"


def _listed(steps: Sequence[int]) -> str:
    if len(steps) == 1:
        return f"step {steps[0]}"
    shown = map(str, steps if len(steps) <= 6 else (*steps[:3], "...", *steps[-2:]))
    return f"steps {', '.join(shown)}"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
