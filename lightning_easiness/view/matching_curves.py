"""The figure of `matching_curves` and `matching_with_end`: Figure 3 of the 2019 easiness paper."""

from __future__ import annotations

import os
from typing import Any

from lightning_easiness.record.ends import named_end
from lightning_easiness.record.matching_curves import AT_END, CurvePoint, MatchingCurves
from lightning_easiness.view.style import LINES, MUTED, LineEnd, blank_figure, label_ends, saved, set_title, styled
from lightning_easiness.view.words import count_of, spoken

_WIDTH, _HEIGHT = 6.2, 4.6  # inches, of a panel


def draw_matching_curves(curves: MatchingCurves, path: str | os.PathLike[str] | None = None) -> Any:
    """Draw matching rates over training, the easy examples beside the hard ones: Figure 3 of the 2019 easiness paper.

    A band is one standard error over seeds to each side. Dashed lines are one half of a model's runs with the other
    half, and the dotted one is what chance gives.

    Args:
        curves: As `matching_curves` or `matching_with_end` returns.
        path: Where the figure is saved, in the format of its suffix; None to not save it.

    Returns:
        A matplotlib Figure, which a notebook shows.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
        >>> import tempfile, torch
        >>> from lightning_easiness import EasinessRecord, matching_with_end
        >>> from lightning_easiness.data.identity import DataIdentity
        >>> from lightning_easiness.data.observation import Observation
        >>> from lightning_easiness.record.writer import RunWriter
        >>> with RunWriter(tempfile.mkdtemp(), "seed-0", seed=0) as writer:
        ...     for epoch in range(3):
        ...         fields = {"loss": torch.arange(20.0).roll(epoch)}
        ...         _ = writer.append(Observation("train-probe", 10 * (epoch + 1), epoch, fields, DataIdentity(20)))
        >>> figure = draw_matching_curves(matching_with_end(EasinessRecord.load(writer.path)))
        >>> [axes.get_xlabel() for axes in figure.axes]
        ['epoch', 'epoch']
    """
    figure = blank_figure("draw_matching_curves", 2 * _WIDTH, _HEIGHT)
    highest = max(point.matched.rate for point in curves.points)
    for place, which in enumerate(("easy", "hard")):
        axes = styled(figure.add_subplot(1, 2, place + 1))
        axes.set_ylim(0, min(1.0, 1.15 * max(highest, curves.chance)))
        _draw(axes, curves, which)
    return saved(figure, path)


def _draw(axes: Any, curves: MatchingCurves, which: str) -> None:
    lines = curves.curves(which)
    ends = [_draw_line(axes, curves, *line, LINES[place % len(LINES)]) for place, line in enumerate(lines.items())]
    axes.axhline(curves.chance, color=MUTED, linestyle=":")
    ends.append(LineEnd("chance", curves.chance, MUTED))
    axes.set(xlabel="epoch" if curves.align == "epoch" else "optimizer updates", ylabel="matching rate")
    axes.margins(x=0.02)
    if curves.align == "epoch":
        axes.xaxis.get_major_locator().set_params(integer=True)
    label_ends(axes, ends)
    set_title(axes, _finding(curves, which), _note(curves), width=_WIDTH - 0.9)


def _draw_line(axes: Any, curves: MatchingCurves, label: str, line: list[CurvePoint], colour: str) -> LineEnd:
    x, rates = [curves.moment(point) for point in line], [point.matched.rate for point in line]
    style = {"linestyle": "-", "marker": "o", "markersize": 3.5, "linewidth": 1.6}
    if line[0].first == line[0].second:
        style = {"linestyle": "--", "linewidth": 1.1}
    axes.plot(x, rates, color=colour, **style)
    errors = [point.matched.error for point in line]
    if all(error == error for error in errors):
        low, high = ([rate + sign * error for rate, error in zip(rates, errors, strict=True)] for sign in (-1, 1))
        axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
    return LineEnd(label, rates[-1], colour)


def _finding(curves: MatchingCurves, which: str) -> str:
    end = named_end(which, curves.fraction)
    pairs = [line for line in curves.curves(which).values() if line[0].first != line[0].second]
    lines = pairs or list(curves.curves(which).values())
    chance = f"chance is {curves.chance:.2f}"
    if lines[0][0].second == AT_END:
        first = [line[0].matched.rate for line in lines]
        return f"{_between(first)} of the {end} at {_moment(curves, lines[0][0])} are so at the end; {chance}"
    last = [line[-1].matched.rate for line in lines]
    who = "Two models share" if pairs else "Halves of the seeds share"
    return f"{who} {_between(last)} of the {end} at {_moment(curves, lines[0][-1])}; {chance}"


def _note(curves: MatchingCurves) -> str:
    runs = {number for point in curves.points for number in point.num_runs}
    fewest = "" if len(runs) == 1 else f"{min(runs)} to "
    parts = [f"by {spoken(curves.name)}; {fewest}{count_of(max(runs), 'run')} each"]
    if any(point.matched.error == point.matched.error for point in curves.points):
        parts.append("band: one standard error over seeds")
    if any(point.first == point.second for point in curves.points):
        parts.append("dashed: one half of a model's runs with the other half")
    return "; ".join(parts)


def _moment(curves: MatchingCurves, point: CurvePoint) -> str:
    return f"{curves.align} {curves.moment(point):,}"


def _between(rates: list[float]) -> str:
    low, high = f"{min(rates):.2f}", f"{max(rates):.2f}"
    return low if low == high else f"{low} to {high}"
