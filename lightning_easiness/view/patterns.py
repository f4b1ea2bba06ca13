"""The figure of `sweep_pattern`: Figure 2 of the 2018 easiness paper."""

from __future__ import annotations

import os
from typing import Any

from lightning_easiness.record.ends import named_end
from lightning_easiness.record.patterns import PatternSweep
from lightning_easiness.view.style import EASY, HARD, MUTED, LineEnd, blank_figure, label_ends, saved, set_title, styled
from lightning_easiness.view.words import count_of, spoken

_WIDTH, _HEIGHT = 4.4, 4.0  # of a panel, inches
_COLOURS = {"easy": EASY, "hard": HARD}


def draw_patterns(*sweeps: PatternSweep, path: str | os.PathLike[str] | None = None) -> Any:
    """Draw which of the easy, or hard, examples remain so without a pattern, by its strength; one panel per pattern.

    Error bars are one standard error over seeds; the dotted line is the rate of random sets.

    Args:
        sweeps: As `sweep_pattern` returns. Several of one pattern share a panel, as of the easy and the hard examples.
        path: Where the figure is saved, in the format of its suffix; None to not save it.

    Returns:
        A matplotlib Figure, which a notebook shows.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: There is no sweep.

    Example:
        >>> from lightning_easiness.record.patterns import PatternRow
        >>> rows = (PatternRow(0.0, 0.4, 0.02, 0.1, 0.8, 0.5), PatternRow(1.0, 1.0, 0.0, 0.1, 1.0, 0.7))
        >>> draw_patterns(PatternSweep("grey", "easy", 0.1, "count", 4, rows)).axes[0].get_xlabel()
        'grey'
    """
    if not sweeps:
        raise ValueError("draw_patterns has nothing to draw; give it what sweep_pattern returns.")
    names = list(dict.fromkeys(sweep.name for sweep in sweeps))
    figure = blank_figure("draw_patterns", _WIDTH * len(names), _HEIGHT)
    for place, name in enumerate(names):
        axes = styled(figure.add_subplot(1, len(names), place + 1))
        _draw(axes, [sweep for sweep in sweeps if sweep.name == name])
    return saved(figure, path)


def _draw(axes: Any, sweeps: list[PatternSweep]) -> None:
    ends = []
    for sweep in sweeps:
        strengths, rates = ([getattr(row, name) for row in sweep.rows] for name in ("strength", "matching_rate"))
        errors = [0.0 if row.error != row.error else row.error for row in sweep.rows]
        style = {"color": _COLOURS[sweep.which], "marker": "o", "markersize": 4, "capsize": 2.5, "elinewidth": 1}
        axes.errorbar(strengths, rates, yerr=errors, **style)
        ends.append(LineEnd(sweep.which, rates[-1], _COLOURS[sweep.which]))
    first = sweeps[0]
    axes.axhline(first.fraction, color=MUTED, linestyle=":")
    axes.set(xlabel=first.name, ylabel="matching rate with regular images", ylim=(0, 1.04))
    axes.margins(x=0.03)
    label_ends(axes, [*ends, LineEnd("chance", first.fraction, MUTED)])
    set_title(axes, _finding(first), _note(first), width=_WIDTH - 0.9)


def _finding(sweep: PatternSweep) -> str:
    low = sweep.rows[0]
    share = f"{100 * low.matching_rate:.0f} % of the {named_end(sweep.which, sweep.fraction)}"
    return f"{share} remain at {sweep.name} {low.strength:g}"


def _note(sweep: PatternSweep) -> str:
    low = sweep.rows[0]
    accuracy = f"accuracy on them there {low.accuracy:.2f}, on all {low.accuracy_of_all:.2f}"
    return f"by {spoken(sweep.score)}, {count_of(sweep.num_runs, 'run')}; {accuracy}"
