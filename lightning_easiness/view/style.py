"""One look for all figures: colours safe for colour-blind readers, titles that state the finding, direct labels.

Blue is easy and vermilion is hard in every figure.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

EASY, HARD, BETWEEN, INK, MUTED = "#0072B2", "#D55E00", "#9A9A9A", "#1A1A1A", "#5F5F5F"
LINES = (INK, EASY, HARD, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C6BB1")  # of lines that are neither
_GRID = "#E4E4E4"
_TITLE, _NOTE = 11.5, 9  # points
_LETTERS_AN_INCH = {_TITLE: 10.4, _NOTE: 12.2}  # of text as it comes, with some to spare
_LEAST_GAP = 0.18  # between labels at line ends, inches


class LineEnd(NamedTuple):
    """What stands beside the end of a line."""

    text: str
    height: float
    colour: str


def empty_figure(owner: str, width: float = 7, height: float = 4.5) -> tuple[Any, Any]:
    """Make a Figure of this size in inches and its only axes; name `owner` where matplotlib is not installed."""
    figure = blank_figure(owner, width, height)
    return figure, styled(figure.add_subplot())


def blank_figure(owner: str, width: float, height: float) -> Any:
    """Make a Figure without axes; name `owner` where matplotlib is not installed."""
    try:
        import_module("matplotlib.figure")  # without pyplot, which keeps figures and picks a window system
    except ImportError as error:
        raise ImportError(f"{owner} needs matplotlib: install it with pip install matplotlib.") from error
    canvas = import_module("lightning_easiness.view.canvas")
    return canvas.Figure(figsize=(width, height), layout="constrained")


def styled(axes: Any) -> Any:
    """Give axes the look of all figures."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(BETWEEN)
    axes.tick_params(colors=MUTED, which="both", labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def set_title(axes: Any, finding: str, note: str = "", *, width: float = 6.3, pad: float = 7) -> None:
    """Write the finding above axes, and a grey line on how it was obtained; lines are broken for so many inches."""
    finding = textwrap.fill(finding, int(width * _LETTERS_AN_INCH[_TITLE]))
    note = textwrap.fill(note, int(width * _LETTERS_AN_INCH[_NOTE]))
    axes.annotate(
        note, (0, 1), (0, pad), "axes fraction", textcoords="offset points", color=MUTED, fontsize=_NOTE, va="bottom"
    )
    lines = len(note.splitlines())
    axes.set_title(finding, loc="left", fontsize=_TITLE, color=INK, weight="bold", pad=pad + 3 + 1.3 * _NOTE * lines)


def label_ends(axes: Any, ends: Sequence[LineEnd]) -> None:
    """Write labels to the right of axes beside the ends of their lines, moved apart where they would overlap.

    Call it when the limits of the axes no longer change.
    """
    to_fraction = axes.transScale + axes.transLimits
    low, high = axes.get_ylim()
    ends = sorted(ends, key=lambda end: end.height)
    exact = [float(to_fraction.transform((1, min(max(end.height, low), high)))[1]) for end in ends]
    rows = axes.get_subplotspec().get_gridspec().nrows
    gap = _LEAST_GAP * rows / (0.75 * axes.figure.get_figheight())
    for end, at, moved in zip(ends, exact, apart(exact, gap), strict=True):
        line = {"arrowstyle": "-", "color": end.colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
        axes.annotate(
            end.text,
            (1, at),
            (1.03, moved),
            "axes fraction",
            color=end.colour,
            fontsize=9,
            va="center",
            arrowprops=line,
        )


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Move ascending heights apart to at least `gap`, and those that touch together by as little as possible.

    Example:
        >>> apart([0.0, 0.5, 0.5], 0.25)
        [0.0, 0.375, 0.625]
    """
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _span(groups[-2], gap)[1] + gap > _span(groups[-1], gap)[0]:
            last = groups.pop()
            groups[-1] += last
    return [_span(group, gap)[0] + i * gap for group in groups for i in range(len(group))]


def _span(group: Sequence[float], gap: float) -> tuple[float, float]:
    """Return the lowest and the highest place of a group around its mean."""
    middle, half = sum(group) / len(group), gap * (len(group) - 1) / 2
    return middle - half, middle + half


def saved(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    """Save a figure where a path is given, and return it."""
    if path is not None:
        figure.savefig(os.fspath(path), dpi=150)
    return figure
