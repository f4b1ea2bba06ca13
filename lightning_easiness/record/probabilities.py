"""Probabilities averaged over training, of several runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_easiness.record.files import ProbabilitiesFile
from lightning_easiness.record.layout import probabilities_path
from lightning_easiness.record.series import RecordedSeries


def have_probabilities(runs: Sequence[RecordedSeries], series: str) -> bool:
    """Whether averaged probabilities of the examples of a series were recorded in every run."""
    return series.startswith("train-") and all(probabilities_path(run.info.path).exists() for run in runs)


def open_probabilities(runs: Sequence[RecordedSeries], series: str) -> list[ProbabilitiesFile]:
    """Open the averaged probabilities of each run.

    Raises:
        ValueError: the series is not of training examples, a run holds none, or they are of other examples or classes.
        RecordFileError: a file is damaged.
    """
    if not series.startswith("train-"):
        raise ValueError(
            f"Probabilities are averaged over training, but series '{series}' is not of training examples: load "
            "'train-probe' or 'train-online'."
        )
    missing = [run.name for run in runs if not probabilities_path(run.info.path).exists()]
    if missing:
        raise ValueError(
            f"No averaged probabilities were recorded in {len(missing)} of {len(runs)} runs, the first is "
            f"'{missing[0]}': train with EasinessCallback(probabilities=True)."
        )
    files = [ProbabilitiesFile.open(probabilities_path(run.info.path)) for run in runs]
    for file in files:
        if file.num_examples != runs[0].num_examples or file.num_classes != files[0].num_classes:
            raise ValueError(
                f"'{file.path}' holds {file.num_examples} examples of {file.num_classes} classes, but the record has "
                f"{runs[0].num_examples} of {files[0].num_classes}: load runs of one data set and module."
            )
    return files


def read_probabilities(runs: Sequence[RecordedSeries], series: str, per_run: bool) -> Tensor:
    """Read averaged probabilities, float32: of each run (R, N, K), or of the runs that saw an example (N, K).

    A row adds up to 1; it is NaN where the example was not seen.

    Raises:
        ValueError: as of `open_probabilities`.
    """
    files = open_probabilities(runs, series)
    if per_run:
        return torch.stack([_normalized(file.read()) for file in files])
    if len(files) == 1:
        return _normalized(files[0].read())
    total = torch.zeros(files[0].num_examples, files[0].num_classes)
    number = torch.zeros(files[0].num_examples, 1)
    for file in files:  # one after the other: R x N x K may not fit into memory
        rows = _normalized(file.read())
        number += ~rows[:, :1].isnan()
        total += rows.nan_to_num_()
    return total / number


def _normalized(rows: Tensor) -> Tensor:
    """Half-precision rows as float32 that add up to 1, which rounding has moved."""
    exact = rows.float()
    return exact.div_(exact.sum(1, keepdim=True))
