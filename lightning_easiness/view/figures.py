"""Figures of a score: its histogram, and its curves over training."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import SCORES, Scores
from lightning_easiness.view.style import BETWEEN, EASY, HARD, INK, LineEnd, empty_figure, label_ends, saved, set_title
from lightning_easiness.view.words import count_of, spoken

_NUM_BINS = 64


def draw_histogram(scores: Scores, path: str | os.PathLike[str] | None = None, *, fraction: float = 0.1) -> Any:
    """Draw the distribution of a score, with the easiest and the hardest fraction coloured.

    For a loss, or another score whose low values are easy, the axis is logarithmic if it spans several powers of ten;
    values of 0, or far below all others, are drawn at its left end.

    Args:
        scores: One score per example, from `record.score(...)`; values that are not finite are left out.
        path: Where the figure is saved, in the format of its suffix; None to not save it.
        fraction: Fraction of the examples to colour at each end, in (0, 1].

    Returns:
        A matplotlib Figure, which a notebook shows.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: No score is finite, or `fraction` is outside (0, 1].

    Example:
        >>> import torch
        >>> scores = Scores(torch.linspace(0.1, 2.0, 50), higher_is_easier=False, name="mean_loss")
        >>> draw_histogram(scores).axes[0].get_xlabel()
        'mean loss, low is easy'
    """
    figure, axes = empty_figure("draw_histogram")
    values = _finite("draw_histogram", scores)
    low, edges = values.min(), np.histogram_bin_edges(values, _NUM_BINS)
    if _spans_powers_of_ten(values, scores):
        axes.set_xscale("log")
        low = max(np.min(values[values > 0]), np.quantile(values[values > 0], 0.01) / 1000)
        edges = np.geomspace(low, values.max(), _NUM_BINS + 1)
        edges[[0, -1]] = low, values.max()  # powers are rounded, and a value at the end would fall out
    easiest, hardest = (scores.values[end(fraction)].double().numpy() for end in (scores.easiest, scores.hardest))
    total, easy, hard = (np.histogram(part.clip(low), edges)[0] for part in (values, easiest, hardest))
    if total.max() > len(values) / 2:
        axes.set_yscale("log")  # beside such a bar all others would be flat
        axes.set_ylim(0.5, 2 * total.max())
    names = ("highest", "lowest") if scores.higher_is_easier else ("lowest", "highest")
    names = ("easiest", "hardest") if _ranks_difficulty(scores) else names
    part = f"{100 * fraction:.3g} %"
    axes.stairs(total, edges, fill=True, color=EASY)
    axes.stairs(np.maximum(total - easy, hard), edges, fill=True, color=BETWEEN)
    axes.stairs(hard, edges, fill=True, color=HARD)
    _name_sides(axes, [(f"{names[0]} {part}", EASY), (f"{names[1]} {part}", HARD)], scores.higher_is_easier)
    axes.set(xlabel=_axis_label(scores), ylabel="examples", xlim=(edges[0], edges[-1]))
    less, more = ("more", "less") if scores.higher_is_easier else ("less", "more")
    set_title(
        axes,
        f"{spoken(scores.name).capitalize()}: half of {len(values):,} examples have {np.median(values):.3g} or {less}",
        f"the {names[1]} {part} have {hardest[-1]:.3g} or {more} ({source(scores)})",
        pad=22,
    )
    return saved(figure, path)


def draw_curves(
    record: EasinessRecord,
    name: str = "mean_loss",
    path: str | os.PathLike[str] | None = None,
    *,
    checkpoint: int = -1,
) -> Any:
    """Draw how a score changes during training: its mean over examples, its median, and bands around it.

    Args:
        record: At least two checkpoints; examples without a finite score at a checkpoint are left out there.
        name: Name of the score.
        path: Where the figure is saved, in the format of its suffix; None to not save it.
        checkpoint: The last one that is drawn, negative from the end.

    Returns:
        A matplotlib Figure, which a notebook shows.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: There is a single checkpoint or no such score, the record lacks what it needs, or no score is
            finite.
        IndexError: There is no such checkpoint.

    Example:
        >>> import tempfile, torch
        >>> from lightning_easiness.data.identity import DataIdentity
        >>> from lightning_easiness.data.observation import Observation
        >>> from lightning_easiness.record.writer import RunWriter
        >>> with RunWriter(tempfile.mkdtemp(), "seed-0", seed=0) as writer:
        ...     for step in (0, 10):
        ...         fields = {"loss": torch.rand(20)}
        ...         _ = writer.append(Observation("train-probe", step, 0, fields, DataIdentity(20)))
        >>> draw_curves(EasinessRecord.load(writer.path)).axes[0].get_xlabel()
        'optimizer updates'
    """
    figure, axes = empty_figure("draw_curves")
    scores = scores_up_to(record, name, checkpoint)
    check_several("draw_curves", record, checkpoint)
    values, last = [_finite("draw_curves", each) for each in scores], scores[-1]
    levels = np.array([np.quantile(each, (0.05, 0.25, 0.5, 0.75, 0.95)) for each in values]).T
    means = np.array([each.mean() for each in values])
    drawn = np.concatenate([means, *levels])
    if _spans_powers_of_ten(drawn, last):
        axes.set_yscale("log")
        levels = levels.clip(drawn[drawn > 0].min())
    steps = record.steps[: len(values)].numpy()
    axes.fill_between(steps, levels[0], levels[4], color=EASY, alpha=0.15, lw=0)
    axes.fill_between(steps, levels[1], levels[3], color=EASY, alpha=0.3, lw=0)
    axes.plot(steps, levels[2], color=EASY, marker="o", markersize=4)
    axes.plot(steps, means, color=INK, linestyle="--", marker="s", markersize=4)
    axes.set(xlabel="optimizer updates", ylabel=_axis_label(last))
    axes.margins(x=0.02)
    tops = (("median", levels[2], EASY), ("the middle half", levels[3], EASY), ("9 of 10 examples", levels[4], EASY))
    label_ends(axes, [LineEnd(text, line[-1], colour) for text, line, colour in (("mean", means, INK), *tops)])
    first, end = np.median(values[0]), np.median(values[-1])
    set_title(
        axes,
        f"{spoken(name).capitalize()} of {len(last):,} examples: the median goes from {first:.3g} to {end:.3g}",
        f"the mean from {means[0]:.3g} to {means[-1]:.3g} ({source(last)})",
    )
    return saved(figure, path)


# ------------------------------------------------------------------------------------------------------------ parts


def scores_up_to(record: EasinessRecord, name: str, checkpoint: int) -> list[Scores]:
    """Compute a score at all checkpoints up to one; only that one warns of unknown values."""
    last = record.score(name, checkpoint)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return [*(record.score(name, index) for index in range(checkpoint % record.num_checkpoints)), last]


def check_several(owner: str, record: EasinessRecord, checkpoint: int) -> None:
    """Raise a ValueError where a figure of several checkpoints would have one."""
    if checkpoint % record.num_checkpoints == 0:
        raise ValueError(
            f"{owner} needs at least 2 checkpoints; got 1: observe more often, as with every_n_epochs=1, or end at a "
            "later one."
        )


def _name_sides(axes: Any, names: Sequence[tuple[str, str]], reverse: bool) -> None:
    """Write the names of the easy and the hard end above the plot, where they are, in their colours."""
    for side, (text, colour) in zip(("right", "left") if reverse else ("left", "right"), names, strict=True):
        place = {"xytext": (0, 5), "xycoords": "axes fraction", "textcoords": "offset points"}
        axes.annotate(text, (float(side == "right"), 1), color=colour, fontsize=9, weight="bold", ha=side, **place)


def _finite(owner: str, scores: Scores) -> NDArray[np.float64]:
    values = scores.values.detach().cpu().double()
    known: NDArray[np.float64] = values[values.isfinite()].numpy()
    if not len(known):
        raise ValueError(f"{owner} has nothing to draw: no example has a finite {scores.name}.")
    return known


def _spans_powers_of_ten(values: NDArray[np.float64], scores: Scores) -> bool:
    """Return whether a logarithmic axis shows more; never for scores with high easy values, mostly near the top."""
    positive = values[values > 0]
    if scores.higher_is_easier or values.min() < 0 or not len(positive):
        return False
    low, high = np.quantile(positive, (0.05, 0.95))
    return bool(high > 100 * low)


def _ranks_difficulty(scores: Scores) -> bool:
    return scores.name not in SCORES or SCORES[scores.name].ranks_difficulty


def _axis_label(scores: Scores) -> str:
    direction = "high" if scores.higher_is_easier else "low"
    return spoken(scores.name) + (f", {direction} is easy" if _ranks_difficulty(scores) else "")


def source(scores: Scores) -> str:
    """Say what a score is of: "2 runs, step 70"."""
    runs = count_of(scores.num_runs, "run")
    return runs if scores.step is None else f"{runs}, step {scores.step:,}"
