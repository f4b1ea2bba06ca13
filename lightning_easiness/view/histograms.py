"""Histograms and fractions: many values in few numbers, as loggers take them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_easiness._utils.blocks import blocks
from lightning_easiness.functional._checks import widen
from lightning_easiness.functional.levels import DEFAULT_TOL

_NUM_BINS = 64
_LEVELS = ("hard", "medium", "easy")  # 0, 1, 2
_LEAST = 1e-8  # of what is shown as a power of ten: smaller values, and 0, count as this


@dataclass
class Moments:
    """Of values that are not infinite: their number, mean and standard deviation, NaN where one of them is NaN."""

    num: int = 0
    mean: float = 0.0
    num_nan: int = 0
    _squares: float = 0.0  # summed distances from the mean

    @classmethod
    def of(cls, values: Tensor, among: Tensor | None = None) -> Moments:
        """Go once over values (N,), or those of them `among` which are True, (N,)."""
        found = cls()
        for part, *mask in blocks(values, *([] if among is None else [among])):
            found._add(part.double(), *mask)
        return found

    @property
    def spread(self) -> float:
        """Their standard deviation."""
        return math.sqrt(self._squares / self.num) if self.num else math.nan

    def _add(self, values: Tensor, mask: Tensor | None = None) -> None:
        kept = values if mask is None else values.masked_fill(~mask, 0.0)
        num, total = len(values) if mask is None else int(mask.count_nonzero()), kept.sum().item()
        if not math.isfinite(total):
            values = (values if mask is None else values[mask]).cpu()
            kept, mask = values[~values.isinf()], None
            num, total = len(kept), kept.sum().item()
            self.num_nan += int(kept.isnan().sum())
        if num:
            apart = kept - total / num
            squares = (apart if mask is None else apart.masked_fill_(~mask, 0.0)).square_().sum().item()
            between, self.num = total / num - self.mean, self.num + num
            self._squares += squares + between * between * num * (self.num - num) / self.num
            self.mean += between * num / self.num


def histogram(values: Tensor) -> dict[str, Any] | None:
    """Count finite values in 64 equal bins, as the arguments of `SummaryWriter.add_histogram_raw`; None without any."""
    return _binned(values, lambda part: part)


def log10_histogram(values: Tensor) -> dict[str, Any] | None:
    """Count the powers of ten of values in 64 equal bins; None without any, or where one is negative."""
    if bool((values < 0).any()):
        values = values[values.isfinite()]
        if bool((values < 0).any()):
            return None
    return _binned(values, lambda part: part.clamp(min=_LEAST).log10())


def _binned(values: Tensor, shown: Callable[[Tensor], Tensor]) -> dict[str, Any] | None:
    """Count what is shown of finite values, which is made twice: it takes less time than to keep it."""
    low, high, num, total, squares = math.inf, -math.inf, 0, 0.0, 0.0
    for part in _finite(values, shown):
        least, most = part.aminmax()
        low, high, num = min(low, least.item()), max(high, most.item()), num + len(part)
        total, squares = total + part.sum().item(), squares + part.square().sum().item()
    if not num:
        return None
    # One value alone gets a bin of its own width in the middle of a range about it.
    left, right = (low, high) if high > low else (low - 0.5, high + 0.5)
    counts = torch.zeros(_NUM_BINS, dtype=torch.float64)
    for part in _finite(values, shown):
        counts += torch.histc(part, _NUM_BINS, left, right)
    return {
        "min": low,
        "max": high,
        "num": num,
        "sum": total,
        "sum_squares": squares,
        "bucket_limits": torch.linspace(left, right, _NUM_BINS + 1, dtype=torch.float64)[1:].tolist(),
        "bucket_counts": counts.tolist(),
    }


def _finite(values: Tensor, shown: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """Yield what is shown of the finite values in parts, float64 on the CPU."""
    for (part,) in blocks(values.detach().reshape(-1)):
        wide = widen(part)
        found = shown(wide).double().cpu()
        if not math.isfinite(found.sum().item()):  # in a third of the time of a look at each value
            found = shown(wide[wide.isfinite()]).double().cpu()
        if len(found):
            yield found


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
