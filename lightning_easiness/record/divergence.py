"""Runs that diverged: their losses are NaN, or they are far worse than the others."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from torch import Tensor

from lightning_easiness.record.files import ArrayFile
from lightning_easiness.record.series import RecordedSeries

_BLOCKS, _BLOCK = 8, 2**13  # of a large data set, so many blocks of examples are read
_MOST_LEARNT = 0.25  # of what the others learnt over chance
_LEAST_GAP = 0.2  # in accuracy
_SPREADS = 6.0
_LOSS_RATIO = 10.0  # where there is no accuracy


def diverged_runs(runs: Sequence[RecordedSeries]) -> list[str]:
    """Return a sentence for each run that seems to have diverged, by the last checkpoint that the runs share.

    Its losses are NaN or infinite for most examples; or it has learnt less than a quarter of what the median of the
    other runs has over chance, and lies 0.2 below it and six standard deviations: the robust one of the others, or that
    of a share of so few examples. Without correctness, its mean loss is ten times the median, and six robust deviations
    above it in its logarithm. A run alone has nothing to be left out of.
    """
    if len(runs) == 1:
        return []
    files = [run.checkpoints[-1] for run in runs]
    lost = [_share_of_nan(file) > 0.5 for file in files]
    sound = [file for file, is_lost in zip(files, lost, strict=True) if not is_lost]
    by_accuracy = all("correct" in file.fields for file in sound)
    values = [_accuracy(file) if by_accuracy else _mean_loss(file) for file in sound]
    chance = 1 / (runs[0].num_classes or 1) if by_accuracy else 0.0
    found, at = [], 0
    for run, is_lost in zip(runs, lost, strict=True):
        if is_lost:
            found.append(_sentence(run, "its losses are NaN or infinite"))
            continue
        others = values[:at] + values[at + 1 :]
        size = runs[0].identity.num_examples
        is_far = is_far_below(values[at], others, chance, size) if by_accuracy else is_far_above(values[at], others)
        if others and is_far:
            what = "accuracy" if by_accuracy else "mean loss"
            median = statistics.median(others)
            found.append(_sentence(run, f"its {what} is {values[at]:.3g}, the median of the others {median:.3g}"))
        at += 1
    return found


def is_far_below(accuracy: float, others: Sequence[float], chance: float, num_examples: int) -> bool:
    """Return whether an accuracy is far below the others."""
    if not others:
        return False
    median = statistics.median(others)
    gap = median - accuracy
    is_bad = accuracy - chance < _MOST_LEARNT * (median - chance) and gap > _LEAST_GAP
    return is_bad and gap > _SPREADS * max(_robust_spread(others), math.sqrt(0.25 / num_examples))


def is_far_above(loss: float, others: Sequence[float]) -> bool:
    """Return whether a mean loss is far above the others."""
    if not others or loss <= 0 or min(others) <= 0:
        return False
    logs = [math.log(value) for value in others]
    gap = math.log(loss) - statistics.median(logs)
    return gap > math.log(_LOSS_RATIO) and gap > _SPREADS * _robust_spread(logs)


def _robust_spread(values: Sequence[float]) -> float:
    """Return 1.4826 times the median absolute deviation: the standard deviation of normal values."""
    median = statistics.median(values)
    return 1.4826 * statistics.median(abs(value - median) for value in values)


def _sentence(run: RecordedSeries, why: str) -> str:
    return (
        f"Run '{run.name}' seems to have diverged ({why}) and is in every mean: leave it out with runs=[...], or delete"
        " its folder and train it again."
    )


def _sample(file: ArrayFile, name: str) -> Tensor:
    """Return a field of the examples that were seen; of a large data set, only of blocks spread evenly over it."""
    values = _sampled(file, name)
    return values[_sampled(file, "count") > 0] if "count" in file.fields else values


def _sampled(file: ArrayFile, name: str) -> Tensor:
    if file.num_examples <= _BLOCKS * _BLOCK:
        return file.read_blocks(name, [slice(0, file.num_examples)])  # a damaged file must not stop a load
    last = (file.num_examples - _BLOCK) // 8
    starts = [8 * (last * position // (_BLOCKS - 1)) for position in range(_BLOCKS)]
    return file.read_blocks(name, [slice(start, start + _BLOCK) for start in starts])


def _share_of_nan(file: ArrayFile) -> float:
    if "loss" not in file.fields:
        return 0.0
    losses = _sample(file, "loss")
    return 0.0 if not len(losses) else 1 - float(losses.isfinite().float().mean())


def _accuracy(file: ArrayFile) -> float:
    correct = _sample(file, "correct")
    return float(correct.float().mean()) if len(correct) else 0.0


def _mean_loss(file: ArrayFile) -> float:
    if "loss" not in file.fields:
        return 0.0
    losses = _sample(file, "loss")
    losses = losses[losses.isfinite()]
    return float(losses.mean()) if len(losses) else 0.0
