"""Curves of several runs: the mean over runs at each epoch, and a band of one standard deviation around it."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_easiness.view.style import LINES, LineEnd, blank_figure, label_ends, saved, set_title, styled
from lightning_easiness.view.words import count_of

_DASHES = ("-", "--", ":", "-.")  # for lines beyond the colours
_WIDTH, _HEIGHT, _FOR_LABELS = 5.4, 4.2, 1.2  # inches, of one plot

Curves = dict[str, NDArray[np.float64]]


def mean_and_band(values: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the mean and the standard deviation over runs at each point.

    Runs may differ in length, or lack points: give NaN there. A point is the mean of the runs that have it.

    Args:
        values: One row per run, (R, C); a tensor, an array or nested sequences.

    Returns:
        The mean (C,), NaN where no run has the point; the sample standard deviation (C,), 0 where a single run has it.

    Raises:
        ValueError: The values have another shape, or there is no run.

    Example:
        >>> mean_and_band([[0.5, 0.8], [0.7, float("nan")]])
        (array([0.6, 0.8]), array([0.14142136, 0.        ]))
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"A curve must have the shape (runs, points), at least (1, 1); got {rows.shape}.")
    known = np.isfinite(rows)
    count = known.sum(0)
    mean = np.where(count > 0, np.where(known, rows, 0).sum(0) / count.clip(1), np.nan)
    squares = (np.where(known, rows - mean, 0) ** 2).sum(0)
    return mean, np.sqrt(squares / (count - 1).clip(1))


def draw_bands(
    panels: Mapping[str, Mapping[str, Any]],
    path: str | os.PathLike[str] | None = None,
    *,
    x: Sequence[float] | None = None,
    xlabel: str = "epoch",
    logarithmic: Collection[str] = (),
    columns: int = 2,
) -> Any:
    """Draw how values of several methods change during training, over several runs of each: mean, and band around it.

    There is one plot per quantity, and one line per method, with the same colour in all. A band is one standard
    deviation over runs to each side. Figure 2 of "Medium Samples Are All You Need: Sample Easiness-Aware Learning for
    Neural Networks".

    Args:
        panels: Name of a quantity -> name of a method -> one row per run, (R, C), NaN where a run has no such point.
        path: Where the figure is saved, in the format of its suffix; None to not save it.
        x: Place of each point, at least as many as the longest line has; default 1, 2, ...
        xlabel: What the places are.
        logarithmic: The quantities that are drawn on a logarithmic axis, as data use may be.
        columns: Plots side by side.

    Returns:
        A matplotlib Figure, which a notebook shows.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: There is nothing to draw, a line has another shape than (R, C), `x` is too short, `columns` is
            below 1, or `logarithmic` names a quantity that is not drawn or has no value above 0.

    Example:
        >>> accuracy = {"classic": [[0.5, 0.7], [0.6, 0.7]], "SET": [[0.5, 0.6], [0.6, 0.6]]}
        >>> draw_bands({"accuracy": accuracy}).axes[0].get_ylabel()
        'accuracy'
    """
    if not panels or not all(panels.values()):
        raise ValueError("The `panels` of draw_bands are empty; give {'accuracy': {'classic': values (runs, epochs)}}.")
    for missing in set(logarithmic) - set(panels):
        raise ValueError(f"`logarithmic` of draw_bands names '{missing}', which is not drawn: {', '.join(panels)}.")
    named = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    styles = {name: (LINES[i % len(LINES)], _DASHES[i // len(LINES) % len(_DASHES)]) for i, name in enumerate(named)}
    if columns < 1:
        raise ValueError(f"The `columns` of draw_bands must be at least 1; got {columns}.")
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = blank_figure("draw_bands", (_WIDTH + _FOR_LABELS) * columns, _HEIGHT * rows)
    for place, (label, curves) in enumerate(panels.items(), start=1):
        axes = styled(figure.add_subplot(rows, columns, place))
        _draw_panel(axes, label, curves, styles, x, label in logarithmic)
        axes.set(xlabel=xlabel, ylabel=label)
    return saved(figure, path)


def _draw_panel(
    axes: Any,
    label: str,
    curves: Mapping[str, Any],
    styles: Mapping[str, tuple[str, str]],
    x: Sequence[float] | None,
    logarithmic: bool,
) -> None:
    found = {name: mean_and_band(values) for name, values in curves.items()}
    means = {name: mean for name, (mean, _) in found.items()}
    lowest = _lowest(label, means) if logarithmic else None
    for name, (mean, band) in found.items():
        at, (colour, dashes) = _places(x, len(mean)), styles[name]
        low = mean - band if lowest is None else np.maximum(mean - band, lowest)
        axes.fill_between(at, low, mean + band, color=colour, alpha=0.15, lw=0)
        axes.plot(at, mean, color=colour, linestyle=dashes, marker="o", markersize=3, linewidth=1.6)
    if lowest is not None:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.02)
    axes.xaxis.get_major_locator().set_params(integer=True)
    ends = {name: _last(mean) for name, mean in means.items()}
    label_ends(axes, [LineEnd(name, end, styles[name][0]) for name, end in ends.items() if np.isfinite(end)])
    runs = count_of(max(len(np.asarray(values)) for values in curves.values()), "run")
    set_title(axes, _finding(label, ends), f"mean of {runs}; bands: one standard deviation", width=_WIDTH + 0.5)


def _places(x: Sequence[float] | None, count: int) -> Sequence[float]:
    if x is None:
        return range(1, count + 1)
    if len(x) < count:
        raise ValueError(f"The `x` of draw_bands has {len(x)} places, but a line has {count} points; give as many.")
    return x[:count]


def _lowest(label: str, means: Curves) -> float:
    """Return where a logarithmic axis begins: half of the lowest mean above 0."""
    positive = np.concatenate([mean[mean > 0] for mean in means.values()])
    if not len(positive):
        raise ValueError(f"'{label}' of draw_bands has no value above 0: leave it out of `logarithmic`.")
    return float(positive.min()) / 2


def _last(mean: NDArray[np.float64]) -> float:
    known = mean[np.isfinite(mean)]
    return float(known[-1]) if len(known) else float("nan")


def _finding(label: str, ends: Mapping[str, float]) -> str:
    """Say where the highest and the lowest line end."""
    known = sorted((end, name) for name, end in ends.items() if np.isfinite(end))
    label = label[:1].upper() + label[1:]
    if not known:
        return label
    (low, lowest), (high, highest) = known[0], known[-1]
    if len(known) == 1:
        return f"{label}: {high:.3g} at the end"
    return f"{label}: at the end {low:.3g} ({lowest}) to {high:.3g} ({highest})"
