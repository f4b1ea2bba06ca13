"""Histograms and fractions: many values in few numbers, as loggers take them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_easiness.functional.levels import DEFAULT_TOL

_NUM_BINS = 64
_LEVELS = ("hard", "medium", "easy")  # 0, 1, 2
_LEAST = 1e-8  # of what is shown as a power of ten: smaller values, and 0, count as this


def histogram(values: Tensor) -> dict[str, Any] | None:
    """Count finite values in 64 equal bins, as the arguments of `SummaryWriter.add_histogram_raw`; None without any."""
    known = values[values.isfinite()].double().cpu()
    if len(known) == 0:
        return None
    low, high = known.min().item(), known.max().item()
    # One value alone gets a bin of its own width in the middle of a range about it.
    left, right = (low, high) if high > low else (low - 0.5, high + 0.5)
    return {
        "min": low,
        "max": high,
        "num": len(known),
        "sum": known.sum().item(),
        "sum_squares": known.square().sum().item(),
        "bucket_limits": torch.linspace(left, right, _NUM_BINS + 1, dtype=torch.float64)[1:].tolist(),
        "bucket_counts": torch.histc(known, _NUM_BINS, left, right).tolist(),
    }


def log10_histogram(values: Tensor) -> dict[str, Any] | None:
    """Count the powers of ten of values in 64 equal bins; None without any, or where one is negative."""
    known = values[values.isfinite()]
    return None if bool((known < 0).any()) else histogram(known.clamp(min=_LEAST).log10())


def shown_histogram(name: str, values: Tensor) -> tuple[str, dict[str, Any] | None]:
    """Return the name and the histogram of values on the axis that shows most: powers of ten for losses and easiness.

    Most losses of a trained model are so close to 0 that all but a few would be in one bin. Of sample easiness only
    what is not at an end is shown, more than 0.0005 from 0 and from 1.
    """
    if name == "sample_easiness":
        values = values[(values > DEFAULT_TOL) & (values < 1 - DEFAULT_TOL)]
    powers = log10_histogram(values) if name in _ON_A_LOG_AXIS else None
    return (name, histogram(values)) if powers is None else (f"log10_{name}", powers)


_ON_A_LOG_AXIS = ("loss", "mean_loss", "area_under_loss", "held_out_loss", "sample_easiness")


def level_shares(levels: Tensor) -> dict[str, float]:
    """Return the fractions of hard, medium and easy among known levels of any shape; none where none is known.

    Example:
        >>> level_shares(torch.tensor([0, 1, 2, 2, -1]))
        {'hard': 0.25, 'medium': 0.25, 'easy': 0.5}
    """
    known = levels[levels >= 0]
    if not len(known):
        return {}
    shares = torch.bincount(known, minlength=len(_LEVELS)).double() / len(known)
    return dict(zip(_LEVELS, shares.tolist(), strict=True))


def bin_edges(bins: dict[str, Any]) -> list[float]:
    """Return the 65 edges of the bins."""
    limits = bins["bucket_limits"]
    return [2 * limits[0] - limits[1], *limits]
