"""Which examples each run trained on and held out, and what runs that held them out predict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lightning_easiness.data.observation import HeldOutProbabilities, TrainedOn
from lightning_easiness.record.files import ArrayFile
from lightning_easiness.record.layout import held_out_path, open_held_out
from lightning_easiness.record.series import RecordedSeries


def trained_on(runs: Sequence[RecordedSeries]) -> Tensor:
    """Return which examples each run trained on, bool (R, N); all where a run does not say."""
    return torch.stack([_mask(run, "trained_on", default=True) for run in runs])


def held_out(runs: Sequence[RecordedSeries]) -> Tensor:
    """Return which examples each run held out, bool (R, N); none where a run does not say."""
    return torch.stack([_mask(run, "held_out", default=False) for run in runs])


def check_hold_out(runs: Sequence[RecordedSeries], what: str) -> None:
    """Raise a ValueError if the runs held out no part; `what` is "Score 'memorization' needs", for instance."""
    if not any(run.holds_out for run in runs):
        series, way_out = runs[0].own[0].series, "train them with repeat_fit(..., hold_out=0.2)"
        if not series.startswith("train-"):
            way_out = "load series 'train-probe'"
        raise ValueError(f"{what} runs that held out a part of the examples, and these runs did not: {way_out}.")


def written(run: RecordedSeries) -> Iterator[TrainedOn | HeldOutProbabilities]:
    """Yield what a run has written of what it trained on and held out, memory-mapped."""
    file = run.training
    if file is not None:
        yield TrainedOn(run.own[-1].step, file.read("trained_on"), file.read("held_out"))
    if run.holds_out and held_out_path(run.info.path).exists():
        file = open_held_out(run.info.path)
        yield HeldOutProbabilities(file.step, file.epoch, file.read("example"), file.read("probabilities"))


def have_held_out_probabilities(runs: Sequence[RecordedSeries]) -> bool:
    """Return whether each run has probabilities of the examples that it held out."""
    return all(run.holds_out and held_out_path(run.info.path).exists() for run in runs)


def held_out_probabilities(runs: Sequence[RecordedSeries]) -> Tensor:
    """Return the mean softmax over the runs that held an example out, float32 (N, K); NaN where none did."""
    check_hold_out(runs, "held_out_probabilities() needs")
    missing = [run.name for run in runs if not held_out_path(run.info.path).exists()]
    if missing:
        raise ValueError(
            f"No probabilities of what was held out are recorded in {len(missing)} of {len(runs)} runs, the first is"
            f" '{missing[0]}': its training is not complete, or it is no classification."
        )
    files = [open_held_out(run.info.path) for run in runs]
    num_examples, num_classes = runs[0].identity.num_examples, files[0].num_classes or 0
    total, number = torch.zeros(num_examples, num_classes), torch.zeros(num_examples, 1)
    for file in files:
        example = _checked(file, num_examples, num_classes)
        rows = file.read("probabilities").float()
        total.index_add_(0, example, rows / rows.sum(1, keepdim=True))  # exactly 1 again after half precision
        number.index_add_(0, example, torch.ones(len(example), 1))
    return total / number  # 0 / 0 is NaN


def _checked(file: ArrayFile, num_examples: int, num_classes: int) -> Tensor:
    """Return the examples that the rows of a file are of."""
    example = file.read("example")
    if file.num_classes != num_classes or (len(example) and int(example.max()) >= num_examples):
        raise ValueError(
            f"'{file.path}' is of {file.num_classes} classes and examples up to {int(example.max())}, but the record"
            f" has {num_examples} examples of {num_classes} classes: load runs of one data set and module."
        )
    return example


def _mask(run: RecordedSeries, name: str, default: bool) -> Tensor:
    if run.training is None:
        return torch.full((run.identity.num_examples,), default)
    return run.training.read(name)
