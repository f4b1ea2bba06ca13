"""The figure of `compare_selections`: how much can be removed, and which part."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from lightning_easiness.view.style import (
    BETWEEN,
    EASY,
    HARD,
    INK,
    MUTED,
    LineEnd,
    empty_figure,
    label_ends,
    saved,
    set_title,
)
from lightning_easiness.view.words import count_of, spoken

_METHODS = {  # method -> the label and the colour of its line, and what is removed
    "easy": ("easy removed", EASY, "the easy ones"),
    "hard": ("hard removed", HARD, "the hard ones"),
    "random": ("random removed", INK, "a random part"),
    "stepwise": ("easy removed stepwise", "#56B4E9", "the easy ones stepwise"),
    "stratified": ("stratified choice", "#CC79A7", "a stratified part"),
}
_WIDTH = 8.0

Rows = Sequence[dict[str, Any]]


def draw_comparison(rows: Rows, path: str | os.PathLike[str] | None = None) -> Any:
    """Draw the metric against the fraction removed, one line per method: Figure 4 of the 2019 easiness paper.

    Error bars are one standard deviation over seeds; the dotted line is the result of training on everything. The title
    says up to which fraction a method stays within one standard deviation of that.

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
        'val acc'
    """
    if not rows:
        raise ValueError("The `rows` of draw_comparison are empty; give those that compare_selections returns.")
    figure, axes = empty_figure("draw_comparison", _WIDTH)
    everything = next((row for row in rows if row["method"] == "everything"), None)
    lines: dict[str, Rows] = {
        method: sorted((row for row in rows if row["method"] == method), key=lambda row: row["ratio"])
        for method in dict.fromkeys(row["method"] for row in rows if row is not everything)
    }
    ends = [_draw_line(axes, method, line) for method, line in lines.items()]
    if everything is not None:
        axes.axhline(everything["mean"], color=MUTED, linestyle=":")
        ends.append(LineEnd("everything", everything["mean"], MUTED))
    axes.set(xlabel="removed, % of the examples", ylabel=spoken(rows[0]["metric"]))
    axes.margins(x=0.02)
    axes.grid(visible=False, axis="x")
    label_ends(axes, ends)
    about = f"{count_of(rows[0]['num_seeds'], 'seed')}, equal {rows[0]['equal']}; bars: one standard deviation"
    set_title(axes, _finding(everything, lines), f"{_extremes(lines)}; {about}", width=_WIDTH - 0.7)
    return saved(figure, path)


def _style(method: str) -> tuple[str, str, str]:
    return _METHODS.get(method, (method, BETWEEN, method))


def _draw_line(axes: Any, method: str, line: Rows) -> LineEnd:
    label, colour, _ = _style(method)
    dashes = "--" if method == "random" else "-"
    removed, means = [100 * row["ratio"] for row in line], [row["mean"] for row in line]
    style = {"color": colour, "linestyle": dashes, "marker": "o", "markersize": 4, "capsize": 2.5, "elinewidth": 1}
    axes.errorbar(removed, means, yerr=[_spread(row) for row in line], label=label, **style)
    return LineEnd(label, means[-1], colour)


def _spread(row: dict[str, Any]) -> float:
    return 0.0 if row["spread"] != row["spread"] else float(row["spread"])  # NaN for a single seed


def _finding(everything: dict[str, Any] | None, lines: dict[str, Rows]) -> str:
    """Say which methods stay within a standard deviation of everything for longest."""
    if everything is None or everything["num_seeds"] < 2:
        metric = spoken(next(iter(lines.values()))[0]["metric"])
        return f"{metric.capitalize()} where a part of the examples is removed"
    lasting = {method: _lasts(everything, line) for method, line in lines.items()}
    longest = max(lasting.values())
    near = f"within one standard deviation of everything ({everything['mean']:.3f})"
    if longest == 0:
        return f"No choice stays {near}"
    best = " or ".join(_style(method)[2] for method, ratio in lasting.items() if ratio == longest)
    return f"Up to {100 * longest:.3g} % can be removed {near}: {best}"


def _lasts(everything: dict[str, Any], line: Rows) -> float:
    """Return the largest ratio up to which each result is within one standard deviation of everything, 0 for none."""
    lasts = 0.0
    for row in line:
        if abs(row["mean"] - everything["mean"]) > max(_spread(everything), _spread(row)) + 1e-9:
            break
        lasts = float(row["ratio"])
    return lasts


def _extremes(lines: dict[str, Rows]) -> str:
    """Say what comes at the largest ratio."""
    largest = max(row["ratio"] for line in lines.values() for row in line)
    there = [row for line in lines.values() for row in line if row["ratio"] == largest]
    there = sorted(there, key=lambda row: -row["mean"])
    named = {row["method"]: f"{_style(row['method'])[0]} {row['mean']:.3f}" for row in (there[0], there[-1])}
    return f"at {100 * largest:.3g} %: {', '.join(named.values())}"
