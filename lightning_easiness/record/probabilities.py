"""Probabilities of several runs, averaged over training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_easiness.data.observation import AveragedProbabilities
from lightning_easiness.record.files import ArrayFile
from lightning_easiness.record.layout import open_probabilities, probabilities_path
from lightning_easiness.record.series import RecordedSeries

NO_CLASSES = "only where each example has one class, and these runs record no classes"  # ends a sentence


def have_probabilities(runs: Sequence[RecordedSeries], series: str) -> bool:
    """Return whether every run has averaged probabilities of the examples of a series."""
    return series.startswith("train-") and all(probabilities_path(run.info.path).exists() for run in runs)


def averaged_probabilities(run: RecordedSeries) -> AveragedProbabilities:
    """Return the averaged probabilities of a run, memory-mapped."""
    file = open_probabilities(run.info.path)
    return AveragedProbabilities(file.step, file.epoch, file.read("probabilities"), file.read("count"))


def read_probabilities(runs: Sequence[RecordedSeries], series: str, per_run: bool) -> Tensor:
    """Read averaged probabilities, float32: per run (R, N, K), or the mean over runs that saw an example (N, K)."""
    files = _open_all(runs, series)
    if per_run:
        return torch.stack([_normalized(file) for file in files])
    total = torch.zeros(files[0].num_examples, files[0].num_classes or 0)
    number = torch.zeros(files[0].num_examples, 1)
    for file in files:  # one after another, since R x N x K may not fit into memory
        rows = _normalized(file)
        number += ~rows[:, :1].isnan()
        total += rows.nan_to_num_()
    return total / number


def _open_all(runs: Sequence[RecordedSeries], series: str) -> list[ArrayFile]:
    if not series.startswith("train-"):
        raise ValueError(
            f"Probabilities are averaged over training, but series '{series}' is not of training examples: load "
            "'train-probe' or 'train-online'."
        )
    if all(run.num_classes is None for run in runs):
        raise ValueError(f"Probabilities are averaged {NO_CLASSES}.")
    missing = [run.name for run in runs if not probabilities_path(run.info.path).exists()]
    if missing:
        raise ValueError(
            f"No averaged probabilities were recorded in {len(missing)} of {len(runs)} runs, the first is "
            f"'{missing[0]}': train with EasinessCallback(probabilities=True)."
        )
    files = [open_probabilities(run.info.path) for run in runs]
    num_examples, num_classes = runs[0].identity.num_examples, files[0].num_classes
    for file in files:
        if (file.num_examples, file.num_classes) != (num_examples, num_classes):
            raise ValueError(
                f"'{file.path}' holds {file.num_examples} examples of {file.num_classes} classes, but the record has "
                f"{num_examples} of {num_classes}: load runs of one data set and module."
            )
    return files


def _normalized(file: ArrayFile) -> Tensor:
    """Return the half-precision rows as float32, normalised again to sum to 1."""
    exact = file.read("probabilities").float()
    return exact.div_(exact.sum(1, keepdim=True))
