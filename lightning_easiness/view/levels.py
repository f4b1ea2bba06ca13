"""Sample easiness against confidence, and how many examples have each level."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_easiness.functional.levels import EASY as EASY_LEVEL
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.view.style import BETWEEN, EASY, HARD, MUTED, blank_figure, saved, set_title, styled
from lightning_easiness.view.words import count_of

_LEVELS = (("hard", HARD, HARD), ("medium", BETWEEN, MUTED), ("easy", EASY, EASY))  # name, colour of marks and of words
_STEPS = 24  # of the grid on which marks stand, each way
_SMALLEST = 12.0  # area of the mark of a single example, points squared
_WIDTH = 7.0


@dataclass(frozen=True)
class Cell:
    """The examples of a cell of the plane that have one level and are all predicted right, or all wrong."""

    easiness: float  # their means
    confidence: float
    count: int
    level: int
    is_right: bool


def draw_levels(record: EasinessRecord, path: str | os.PathLike[str] | None = None, *, checkpoint: int = -1) -> Any:
    """Draw sample easiness against confidence, the largest probability: Figure 1 of "Medium Samples Are All You Need".

    Colours are levels, crosses are wrong predictions, and the area of a mark grows with the logarithm of the number of
    examples that it stands for. Shares of the levels are means over runs; the marks are those of the first run.

    Args:
        record: Losses, margins, correctness and sample easiness with its levels (`record.has_levels`).
        path: Where the figure is saved, in the format of its suffix; None to not save it.
        checkpoint: Index, negative from the end.

    Returns:
        A matplotlib Figure, which a notebook shows.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: The record lacks what is needed, or no example was seen.
        IndexError: There is no such checkpoint.

    Example:
        >>> import tempfile
        >>> from lightning_easiness.data.identity import DataIdentity
        >>> from lightning_easiness.data.observation import Observation
        >>> from lightning_easiness.record.writer import RunWriter
        >>> fields = {"loss": torch.tensor([0.1, 1.2]), "margin": torch.tensor([2.2, -0.8])}
        >>> fields |= {"correct": torch.tensor([True, False]), "sample_easiness": torch.tensor([1.0, 0.0])}
        >>> with RunWriter(tempfile.mkdtemp(), "seed-0", seed=0) as writer:
        ...     _ = writer.append(Observation("train-probe", 10, 0, fields, DataIdentity(2), num_classes=2))
        >>> draw_levels(EasinessRecord.load(writer.path)).axes[0].get_xlabel()
        'sample easiness'
    """
    figure = blank_figure("draw_levels", _WIDTH, 4.5)
    level = record.easiness_level(checkpoint)
    if not bool((level[0] >= 0).any()):
        raise ValueError("draw_levels has nothing to draw: no example was seen by the first run.")
    shares = shares_of_levels(level)
    cells = cells_of(
        record.field("sample_easiness", checkpoint)[0],
        record.max_probability(checkpoint)[0],
        level[0],
        record.field("correct", checkpoint)[0],
    )
    axes = styled(figure.add_subplot())
    _draw_cells(axes, cells)
    lowest = min(cell.confidence for cell in cells)
    bottom = lowest - 0.18 * (1 - lowest) - 0.02
    axes.set(xlabel="sample easiness", ylabel="confidence: the largest probability", xlim=(-0.03, 1.03))
    axes.set_ylim(bottom, 1 + 0.05 * (1 - bottom))
    _name_levels(axes, shares)
    examples = f"{level.shape[1]:,} examples"
    of_runs = "" if len(level) == 1 else f"; shares: means of {count_of(len(level), 'run')}, marks: the first"
    note = f"crosses: wrong predictions; area: logarithm of the number of examples{of_runs}"
    set_title(axes, f"{_percent(shares[1])} of {examples} are medium", note)
    return saved(figure, path)


def shares_of_levels(level: Tensor) -> list[float]:
    """Compute the shares of hard, medium and easy examples, means over runs of those known, from levels (R, N)."""
    known = (level >= 0).sum(1).clamp(min=1)
    return [float(((level == one).sum(1) / known).double().mean()) for one in range(EASY_LEVEL + 1)]


def cells_of(easiness: Tensor, confidence: Tensor, level: Tensor, correct: Tensor) -> list[Cell]:
    """Put examples, (N,) each, that are near each other into cells, the largest first; unknown ones are left out."""
    known = ((level >= 0) & confidence.isfinite()).nonzero()[:, 0]
    x, y, level, correct = easiness[known].double(), confidence[known].double(), level[known], correct[known].long()
    place = (x * _STEPS).round().long() * (_STEPS + 1) + (y * _STEPS).round().long()
    key, cell = torch.unique((place * 3 + level) * 2 + correct, return_inverse=True)
    count = torch.bincount(cell, minlength=len(key))
    means = [torch.bincount(cell, values, minlength=len(key)) / count for values in (x, y)]
    rows = zip(means[0].tolist(), means[1].tolist(), count.tolist(), key.tolist(), strict=True)
    cells = [Cell(east, north, number, code // 2 % 3, bool(code % 2)) for east, north, number, code in rows]
    return sorted(cells, key=lambda one: -one.count)


def _draw_cells(axes: Any, cells: list[Cell]) -> None:
    for cell in cells:
        area = _SMALLEST * (1 + float(torch.tensor(float(cell.count)).log2()))
        style = {"marker": "o" if cell.is_right else "X", "s": area, "linewidths": 0.5, "edgecolors": "white"}
        axes.scatter([cell.easiness], [cell.confidence], color=_LEVELS[cell.level][1], alpha=0.8, **style)


def _name_levels(axes: Any, shares: list[float]) -> None:
    for place, ((name, _, colour), share) in enumerate(zip(_LEVELS, shares, strict=True)):
        side = ("left", "center", "right")[place]
        axes.text(
            (0.02, 0.5, 0.98)[place],
            0.02,
            f"{name}: {_percent(share)}",
            color=colour,
            weight="bold",
            ha=side,
            transform=axes.transAxes,
        )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.1f} %"
