"""The figure of `compare_networks`: Table 1 of the 2018 easiness paper as shaded cells."""

from __future__ import annotations

import os
from itertools import combinations
from typing import Any

import torch

from lightning_easiness.record.ends import named_end
from lightning_easiness.record.networks import MatchingMatrix
from lightning_easiness.view.style import EASY, HARD, INK, MUTED, blank_figure, saved, set_title, styled
from lightning_easiness.view.words import count_of, spoken

_CELL, _MARGIN, _TITLE = 0.85, 1.6, 1.2  # inches
_DARK = 0.55  # a rate from which on the text on it is white


def draw_networks(*matrices: MatchingMatrix, path: str | os.PathLike[str] | None = None) -> Any:
    """Draw the matching rates of networks, one panel per matrix: Table 1 of the 2018 easiness paper.

    The diagonal is a network with other runs of itself; below each rate is its standard deviation over splits of the
    runs. The darker a cell, the higher the rate; white is 0.

    Args:
        matrices: As `compare_networks` returns, of the easy and of the hard examples, for instance.
        path: Where the figure is saved, in the format of its suffix; None to not save it.

    Returns:
        A matplotlib Figure, which a notebook shows.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: There is no matrix.

    Example:
        >>> from lightning_easiness import Scores, compare_networks
        >>> scores = {name: Scores(torch.rand(50), higher_is_easier=False) for name in ("mlp", "cnn")}
        >>> figure = draw_networks(compare_networks(scores), compare_networks(scores, which="hard"))
        >>> len(figure.axes)
        2
    """
    if not matrices:
        raise ValueError("draw_networks has nothing to draw; give it what compare_networks returns.")
    width = max(4.6, _MARGIN + _CELL * max(len(matrix.names) for matrix in matrices))
    height = _TITLE + 0.5 + _CELL * 0.75 * max(len(matrix.names) for matrix in matrices)
    figure = blank_figure("draw_networks", width * len(matrices), height)
    for place, matrix in enumerate(matrices):
        _draw(styled(figure.add_subplot(1, len(matrices), place + 1)), matrix, width)
    return saved(figure, path)


def _draw(axes: Any, matrix: MatchingMatrix, width: float) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    names = [name.replace(" ", "\n") for name in matrix.names]
    places = range(len(names))
    colours = LinearSegmentedColormap.from_list("rate", ["white", EASY if matrix.which == "easy" else HARD])
    shown = matrix.rates.clone()
    shown[torch.ones_like(shown, dtype=torch.bool).tril(-1)] = torch.nan
    axes.imshow(shown.numpy(), cmap=colours, vmin=0, vmax=1, aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xticks(places, names)
    axes.set_yticks(places, names)
    axes.tick_params(length=0, colors=INK)
    for i, j in [(i, j) for i in places for j in places if i <= j]:
        _write(axes, i, j, float(matrix.rates[i, j]), float(matrix.spread[i, j]))
    set_title(axes, _finding(matrix), _note(matrix), width=width - _MARGIN)


def _write(axes: Any, row: int, column: int, rate: float, spread: float) -> None:
    colour = "white" if rate > _DARK else INK
    known = f"{rate:.2f}" if rate == rate else "-"
    axes.text(column, row, known, color=colour, ha="center", va="bottom" if spread == spread else "center", fontsize=10)
    if spread == spread:
        small = colour if colour == "white" else MUTED
        axes.text(column, row, f"± {spread:.2f}", color=small, ha="center", va="top", fontsize=8)


def _finding(matrix: MatchingMatrix) -> str:
    low, high = float(matrix.others.min()), float(matrix.others.max())
    between = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
    return f"Networks share {between} of the {named_end(matrix.which, matrix.fraction)} of examples"


def _note(matrix: MatchingMatrix) -> str:
    of_score = f"chance is {matrix.chance:.2f}; by {spoken(matrix.score)}"
    if not matrix.num_splits:
        return f"{of_score}; {count_of(matrix.num_runs, 'run')} each"
    pairs = combinations(range(len(matrix.names)), 2)
    least = min(pairs, key=lambda pair: float(matrix.rates[pair]))
    apart = " and ".join(matrix.names[i] for i in least)
    return (
        f"{of_score}; diagonal: other runs of the same network; {count_of(matrix.num_runs, 'run')} in each group,"
        f" {count_of(matrix.num_splits, 'split')}; furthest apart are {apart}"
    )
