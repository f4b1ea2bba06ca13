"""Galleries: a few examples on an image that can be read at the size of a card in TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Any, Literal

from torch import Tensor

from lightning_easiness.scores import Scores
from lightning_easiness.view.grids import caption, read_cells, shown_scores
from lightning_easiness.view.layout import Grid

_COLUMNS, _THUMBNAIL, _TITLE_WIDTH = 3, 96, 320


def gallery(dataset: Any, indices: Sequence[int], captions: Sequence[str], title: str) -> Tensor:
    """Draw examples in rows of three, uint8 (3, H, W); raise a NoImageError where none of them is an image."""
    cells = read_cells(dataset, indices, captions)
    rows = [cells[i : i + _COLUMNS] for i in range(0, len(cells), _COLUMNS)]
    return Grid(rows, title, thumbnail=_THUMBNAIL, title_width=_TITLE_WIDTH).draw()


def scores_gallery(
    dataset: Any,
    scores: Scores,
    num_images: int,
    which: Literal["hard", "easy"],
    class_names: Sequence[str] | None = None,
    title: str | None = None,
) -> Tensor:
    """Draw the hardest or easiest examples as `scores_grid` does, at a card's size; `title` replaces its first line."""
    name, order, words = shown_scores("write_tensorboard", dataset, scores, num_images, which, class_names)
    first, _, rest = words.partition("\n")
    shown = order[:num_images].tolist()
    captions = [caption(scores, index, name) for index in shown]
    return gallery(dataset, shown, captions, f"{title or first}\n{rest}")


def predicted_probability(loss: float, margin: float) -> float:
    """Return the softmax of the predicted class from the cross-entropy and the margin of an example.

    The label has exp(-loss), and the largest other class exp(-margin) times that.
    """
    return min(1.0, exp(min(0.0, -loss - min(0.0, margin))))
