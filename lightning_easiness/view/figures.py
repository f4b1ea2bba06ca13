"""Figures that need no data set: a score's histogram, its curves over training, the data map, a comparison.

The colours are safe for colour-blind readers: blue is easy, vermilion is hard.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import SCORES, Scores
from lightning_easiness.view.words import count_of, spoken

_EASY, _HARD, _BETWEEN = "#0072B2", "#D55E00", "#9A9A9A"
_METHODS = {"easy": _EASY, "hard": _HARD, "random": "black", "stepwise": "#009E73", "stratified": "#CC79A7"}
_NUM_BINS = 64
_MOST_POINTS = 20_000  # of a data map: more hide one another, and take long to draw


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
        >>> scores = Scores(torch.linspace(0.1, 2.0, 50), higher_is_easier=False, name="mean_loss")
        >>> draw_histogram(scores).axes[0].get_xlabel()
        'mean loss, low is easy'
    """
    figure, axes = _empty_figure("draw_histogram")
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
    axes.stairs(total, edges, fill=True, color=_EASY, label=f"{names[0]} {part}")
    axes.stairs(np.maximum(total - easy, hard), edges, fill=True, color=_BETWEEN)
    axes.stairs(hard, edges, fill=True, color=_HARD, label=f"{names[1]} {part}")
    axes.set(xlabel=_axis_label(scores), ylabel="examples", xlim=(edges[0], edges[-1]))
    less, more = ("more", "less") if scores.higher_is_easier else ("less", "more")
    _set_title(
        axes,
        f"{spoken(scores.name).capitalize()}: half of {len(values):,} examples have {np.median(values):.3g} or {less}",
        f"the {names[1]} {part} have {hardest[-1]:.3g} or {more} ({_source(scores)})",
    )
    figure.legend(loc="outside lower center", ncols=2)
    return _saved(figure, path)


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
        >>> import tempfile
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
    figure, axes = _empty_figure("draw_curves")
    scores = scores_up_to(record, name, checkpoint)
    _check_several("draw_curves", record, checkpoint)
    values, last = [_finite("draw_curves", each) for each in scores], scores[-1]
    levels = np.array([np.quantile(each, (0.05, 0.25, 0.5, 0.75, 0.95)) for each in values]).T
    means = np.array([each.mean() for each in values])
    drawn = np.concatenate([means, *levels])
    if _spans_powers_of_ten(drawn, last):
        axes.set_yscale("log")
        levels = levels.clip(drawn[drawn > 0].min())
    steps = record.steps[: len(values)].numpy()
    axes.fill_between(steps, levels[0], levels[4], color=_EASY, alpha=0.15, lw=0, label="9 of 10 examples")
    axes.fill_between(steps, levels[1], levels[3], color=_EASY, alpha=0.3, lw=0, label="the middle half")
    axes.plot(steps, levels[2], color=_EASY, marker="o", markersize=4, label="median")
    axes.plot(steps, means, color="black", linestyle="--", marker="s", markersize=4, label="mean")
    axes.set(xlabel="optimizer updates", ylabel=_axis_label(last))
    first, end = np.median(values[0]), np.median(values[-1])
    _set_title(
        axes,
        f"{spoken(name).capitalize()} of {len(last):,} examples: the median goes from {first:.3g} to {end:.3g}",
        f"the mean from {means[0]:.3g} to {means[-1]:.3g} ({_source(last)})",
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4)
    return _saved(figure, path)


def draw_data_map(
    record: EasinessRecord, path: str | os.PathLike[str] | None = None, *, checkpoint: int = -1, seed: int = 0
) -> Any:
    """Draw the data map: one point per example, its confidence against its variability, coloured by its correctness.

    From "Dataset Cartography: Mapping and Diagnosing Datasets with Training Dynamics" (Swayamdipta et al., 2020). The
    dotted line is the largest possible variability.

    Args:
        record: At least two checkpoints with the cross-entropy and whether the prediction was right.
        path: Where the figure is saved, in the format of its suffix; None to not save it.
        checkpoint: The last one that counts, negative from the end.
        seed: Seed of the draw of 20,000 examples, where there are more.

    Returns:
        A matplotlib Figure, which a notebook shows.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: There is a single checkpoint, the record lacks what is needed, or no example was seen.
        IndexError: There is no such checkpoint.

    Example:
        >>> import tempfile
        >>> from lightning_easiness.data.identity import DataIdentity
        >>> from lightning_easiness.data.observation import Observation
        >>> from lightning_easiness.record.writer import RunWriter
        >>> with RunWriter(tempfile.mkdtemp(), "seed-0", seed=0) as writer:
        ...     for step in (0, 10):
        ...         fields = {"loss": torch.rand(20), "correct": torch.rand(20) > 0.2}
        ...         _ = writer.append(Observation("train-probe", step, 0, fields, DataIdentity(20)))
        >>> draw_data_map(EasinessRecord.load(writer.path)).axes[0].get_ylabel()
        'confidence: mean probability of the label'
    """
    figure, axes = _empty_figure("draw_data_map")
    scores = record.score("confidence", checkpoint)
    _check_several("draw_data_map", record, checkpoint)
    confidence = scores.values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is not known is so for all three, and was said
        variability, correctness = (record.score(name, checkpoint).values for name in ("variability", "correctness"))
    known = (confidence + variability + correctness).isfinite().nonzero()[:, 0]
    if not len(known):
        raise ValueError("draw_data_map has nothing to draw: no example was seen at any checkpoint.")
    drawn = known[torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))[:_MOST_POINTS]]
    drawn = drawn[correctness[drawn].argsort(descending=True, stable=True)]  # the few hard ones on top
    _scatter(figure, axes, *(values[drawn].numpy() for values in (variability, confidence, correctness)))
    likely = float((confidence[known] >= 0.5).float().mean())
    wrong = int((correctness[known] == 0).sum())
    always = f"{wrong:,} are" if wrong > 1 else "1 is" if wrong else "none is"
    part = "" if len(drawn) == len(known) else f"; {len(drawn):,} shown"
    _set_title(
        axes,
        f"{100 * likely:.1f} % of {len(known):,} examples have a confidence of 0.5 or more",
        f"{always} wrong at every checkpoint ({_source(scores)}{part})",
    )
    return _saved(figure, path)


def draw_comparison(rows: Sequence[dict[str, Any]], path: str | os.PathLike[str] | None = None) -> Any:
    """Draw the metric against the fraction removed, one line per method: Figure 4 of the 2019 easiness paper.

    Error bars are one standard deviation over seeds; the dotted line is the result of training on everything.

    Args:
        rows: The rows that `compare_selections` returns.
        path: Where the figure is saved, in the format of its suffix; None to not save it.

    Returns:
        A matplotlib Figure, which a notebook shows.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: There is no row.

    Example:
        >>> row = {"method": "easy", "ratio": 0.3, "mean": 0.9, "spread": 0.01, "metric": "val_acc", "num_seeds": 3}
        >>> draw_comparison([{**row, "equal": "epochs"}]).axes[0].get_ylabel()
        'val_acc'
    """
    if not rows:
        raise ValueError("The `rows` of draw_comparison are empty; give those that compare_selections returns.")
    figure, axes = _empty_figure("draw_comparison", width=6)
    for row in rows:
        if row["method"] == "everything":
            axes.axhline(row["mean"], color="grey", linestyle=":", label="everything")
    for method in dict.fromkeys(row["method"] for row in rows if row["method"] != "everything"):
        line = sorted((row for row in rows if row["method"] == method), key=lambda row: row["ratio"])
        ratios, means, spreads = ([row[name] for row in line] for name in ("ratio", "mean", "spread"))
        spreads = [0.0 if spread != spread else spread for spread in spreads]  # NaN for a single seed
        label = f"{method} removed" if method in ("easy", "hard") else method
        style = {"color": _METHODS.get(method), "linestyle": "--" if method == "random" else "-"}
        axes.errorbar(ratios, means, yerr=spreads, label=label, marker="o", markersize=4, capsize=3, **style)
    seeds = count_of(rows[0]["num_seeds"], "seed")
    axes.set(xlabel="fraction of the examples removed", ylabel=rows[0]["metric"])
    axes.set_title(f"{seeds}, equal {rows[0]['equal']}; bars: one standard deviation")
    axes.grid(alpha=0.3)
    axes.legend()
    return _saved(figure, path)


# ------------------------------------------------------------------------------------------------------------ parts


def scores_up_to(record: EasinessRecord, name: str, checkpoint: int) -> list[Scores]:
    """Compute a score at all checkpoints up to one; only that one warns of unknown values."""
    last = record.score(name, checkpoint)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return [*(record.score(name, index) for index in range(checkpoint % record.num_checkpoints)), last]


def _empty_figure(owner: str, width: float = 7) -> tuple[Any, Any]:
    """Make a Figure of this width in inches and its only axes; name `owner` where matplotlib is not installed."""
    try:
        import_module("matplotlib.figure")  # without pyplot, which keeps figures and picks a window system
    except ImportError as error:
        raise ImportError(f"{owner} needs matplotlib: install it with pip install matplotlib.") from error
    figure = import_module("lightning_easiness.view.canvas").Figure(figsize=(width, 4.5), layout="constrained")
    return figure, figure.add_subplot()


def _scatter(figure: Any, axes: Any, variability: Any, confidence: Any, correctness: Any) -> None:
    """Draw the points of a data map and name its regions."""
    colours = import_module("matplotlib.colors").LinearSegmentedColormap.from_list("", [_HARD, _BETWEEN, _EASY])
    size = 14 if len(confidence) < 3000 else 6
    style = {"cmap": colours, "vmin": 0, "vmax": 1, "s": size, "alpha": 0.7, "linewidths": 0, "rasterized": True}
    points = axes.scatter(variability, confidence, c=correctness, **style)
    figure.colorbar(points, ax=axes, label="correctness: fraction of checkpoints that are right").solids.set_alpha(1)
    possible = np.linspace(0, 1, 201)
    axes.plot(np.sqrt(possible * (1 - possible)), possible, color="black", linestyle=":", linewidth=1)
    axes.set(xlim=(-0.01, 0.53), ylim=(-0.02, 1.02))
    axes.set_xlabel("variability: its standard deviation over checkpoints")
    axes.set_ylabel("confidence: mean probability of the label")
    for text, height, end in (("easy", 0.97, 0.4), ("ambiguous", 0.5, 0.485), ("hard", 0.03, 0.4)):
        axes.text(end, height, text, style="italic", horizontalalignment="right", verticalalignment="center")


def _set_title(axes: Any, first: str, second: str) -> None:
    axes.set_title(f"{first},\n{second}", fontsize="medium")


def _saved(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    if path is not None:
        figure.savefig(os.fspath(path), dpi=150)
    return figure


def _check_several(owner: str, record: EasinessRecord, checkpoint: int) -> None:
    if checkpoint % record.num_checkpoints == 0:
        raise ValueError(
            f"{owner} needs at least 2 checkpoints; got 1: observe more often, as with every_n_epochs=1, or end at a "
            "later one."
        )


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


def _source(scores: Scores) -> str:
    runs = count_of(scores.num_runs, "run")
    return runs if scores.step is None else f"{runs}, step {scores.step:,}"
