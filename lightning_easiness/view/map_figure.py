"""The data map: what a model thought of each example on the way, with images of the easiest and the hardest."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_easiness.data.class_names import class_names as dataset_names
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import Scores
from lightning_easiness.view.figures import check_several, source
from lightning_easiness.view.grids import read_cells
from lightning_easiness.view.layout import Cell
from lightning_easiness.view.observed import observed
from lightning_easiness.view.style import BETWEEN, EASY, HARD, INK, MUTED, blank_figure, saved, set_title, styled
from lightning_easiness.view.words import ClassNamer, class_namer

_MOST_POINTS = 20_000  # more hide one another, and take long to draw
_IN_ROW = 4  # images of a region
_RATIO = (1.3, 1)  # of the map and the images
_WIDTH, _WIDTH_WITH_IMAGES, _HEIGHT = 7.0, 10.0, 4.8


@dataclass(frozen=True)
class _Points:
    """The examples on a data map, and where they are, (N,) each."""

    scores: Scores  # confidence
    variability: Tensor
    correctness: Tensor

    @property
    def confidence(self) -> Tensor:
        return self.scores.values

    def known(self) -> Tensor:
        """Return the examples that were seen."""
        return (self.confidence + self.variability + self.correctness).isfinite().nonzero()[:, 0]


@dataclass(frozen=True)
class _Region:
    """A part of the map that has a name, and the examples that stand for it."""

    name: str
    why: str
    colour: str
    members: Tensor


def draw_data_map(
    record: EasinessRecord,
    path: str | os.PathLike[str] | None = None,
    *,
    checkpoint: int = -1,
    seed: int = 0,
    dataset: Any = None,
    class_names: Sequence[str] | None = None,
) -> Any:
    """Draw the data map: one point per example, its confidence against its variability, coloured by its correctness.

    From "Dataset Cartography: Mapping and Diagnosing Datasets with Training Dynamics" (Swayamdipta et al., 2020). The
    dotted line is the largest possible variability. Given the data set, images of the easiest, the most ambiguous and
    the hardest examples stand beside it, and their points are ringed.

    Args:
        record: At least two checkpoints with the cross-entropy and whether the prediction was right.
        path: Where the figure is saved, in the format of its suffix; None to not save it.
        checkpoint: The last one that counts, negative from the end.
        seed: Seed of the draw of 20,000 examples, where there are more.
        dataset: The data set that was observed, as in `image_grid`, or the whole one of which it is a `Subset`; None
            for the map alone.
        class_names: Names of the labels 0, 1, ...; default those of the record or of `dataset.classes`, if known.

    Returns:
        A matplotlib Figure, which a notebook shows.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: There is a single checkpoint, the record lacks what is needed, no example was seen, or the data set
            has another length than the one that was observed.
        NoImageError: None of the examples to show is an image.
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
    figure = blank_figure("draw_data_map", _WIDTH if dataset is None else _WIDTH_WITH_IMAGES, _HEIGHT)
    points = _read_points(record, checkpoint)
    known = points.known()
    if not len(known):
        raise ValueError("draw_data_map has nothing to draw: no example was seen at any checkpoint.")
    regions = [] if dataset is None else _regions(points, known)
    cells = _read_images(dataset, record, points, regions, class_names) if regions else []
    drawn = known[torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))[:_MOST_POINTS]]
    drawn = drawn[points.correctness[drawn].argsort(descending=True, stable=True)]  # the few hard ones on top
    left, right = figure.subfigures(1, 2, width_ratios=_RATIO) if regions else (figure, figure)
    axes = styled(left.add_subplot())
    drawing = _scatter(axes, points, drawn)
    if not regions:
        colours = figure.colorbar(drawing, ax=axes, label="correctness: fraction of checkpoints that are right")
        colours.solids.set_alpha(1)
        colours.outline.set_visible(False)
    for row, (region, images) in enumerate(zip(regions, cells, strict=True)):
        _ring(axes, points, region)
        _draw_images(right.subfigures(3, 1)[row], region, images)
    finding, note = _findings(points, known, len(drawn))
    set_title(
        axes,
        finding,
        note + "; blue: right at every checkpoint, vermilion: at none" * bool(regions),
        width=5 if regions else 6.3,
    )
    return saved(figure, path)


def _read_points(record: EasinessRecord, checkpoint: int) -> _Points:
    scores = record.score("confidence", checkpoint)
    check_several("draw_data_map", record, checkpoint)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is not known is so for all three, and was said
        return _Points(scores, *(record.score(name, checkpoint).values for name in ("variability", "correctness")))


def _findings(points: _Points, known: Tensor, num_drawn: int) -> tuple[str, str]:
    """Return the title, and a line that says more."""
    wrong = int((points.correctness[known] < 0.5).sum())
    likely = float((points.confidence[known] >= 0.5).float().mean())
    finding = f"{wrong:,} of {len(known):,} examples {'is' if wrong == 1 else 'are'} wrong more often than right"
    part = "" if num_drawn == len(known) else f"; {num_drawn:,} shown"
    return finding, f"{100 * likely:.1f} % have a confidence of 0.5 or more; {source(points.scores)}{part}"


def _scatter(axes: Any, points: _Points, drawn: Tensor) -> Any:
    """Draw the points, the largest possible variability, and the names of the regions; return what was drawn."""
    colours = import_module("matplotlib.colors").LinearSegmentedColormap.from_list("", [HARD, BETWEEN, EASY])
    size = 14 if len(drawn) < 3000 else 6
    style = {"cmap": colours, "vmin": 0, "vmax": 1, "s": size, "alpha": 0.7, "linewidths": 0, "rasterized": True}
    x, y, c = (values[drawn].numpy() for values in (points.variability, points.confidence, points.correctness))
    drawing = axes.scatter(x, y, c=c, **style)
    possible = np.linspace(0, 1, 201)
    axes.plot(np.sqrt(possible * (1 - possible)), possible, color=MUTED, linestyle=":", linewidth=1)
    axes.set(xlim=(-0.01, 0.53), ylim=(-0.02, 1.02))
    axes.set_xlabel("variability: its standard deviation over checkpoints")
    axes.set_ylabel("confidence: mean probability of the label")
    for text, height, end, colour in (
        ("easy", 0.97, 0.4, EASY),
        ("ambiguous", 0.5, 0.485, MUTED),
        ("hard", 0.03, 0.4, HARD),
    ):
        axes.text(end, height, text, color=colour, weight="bold", ha="right", va="center")
    return drawing


# ----------------------------------------------------------------------------------------------------------- images


def _regions(points: _Points, known: Tensor) -> list[_Region]:
    """Choose the examples that stand for the regions, the most extreme one of a class at most."""
    orders = (
        ("easy", "highest confidence", EASY, -points.confidence),
        ("ambiguous", "highest variability", MUTED, -points.variability),
        ("hard", "lowest confidence", HARD, points.confidence),
    )
    target = points.scores.target
    return [
        _Region(name, why, colour, _first_of_classes(known[values[known].argsort(stable=True)], target))
        for name, why, colour, values in orders
    ]


def _first_of_classes(order: Tensor, target: Tensor) -> Tensor:
    """Return the first examples of an order, one of each class as long as there are other classes."""
    seen: dict[int, int] = {}
    for example, label in zip(order.tolist(), target[order].tolist(), strict=True):
        seen.setdefault(label, example)
    first = list(seen.values())[:_IN_ROW]
    rest = [example for example in order[: 2 * _IN_ROW].tolist() if example not in first]
    return torch.tensor([*first, *rest][:_IN_ROW])


def _read_images(
    dataset: Any, record: EasinessRecord, points: _Points, regions: Sequence[_Region], names: Sequence[str] | None
) -> list[list[Cell]]:
    dataset = observed("The `dataset` of draw_data_map", dataset, record.identity)
    name = class_namer(names, points.scores.target, record.class_names or dataset_names(dataset))
    shown = [example for region in regions for example in region.members.tolist()]
    cells = read_cells(dataset, shown, [_caption(points.scores, example, name) for example in shown])
    ends = np.cumsum([len(region.members) for region in regions])
    return [cells[end - len(region.members) : end] for end, region in zip(ends, regions, strict=True)]


def _caption(scores: Scores, example: int, name: ClassNamer) -> str:
    label = int(scores.target[example])
    predicted = -1 if scores.prediction is None else int(scores.prediction[example])
    return name(label) if predicted == label else name.with_prediction(label, predicted)


def _ring(axes: Any, points: _Points, region: _Region) -> None:
    x, y = (values[region.members].numpy() for values in (points.variability, points.confidence))
    axes.scatter(x, y, s=40, facecolors="none", edgecolors=INK, linewidths=0.9)


def _draw_images(figure: Any, region: _Region, cells: Sequence[Cell]) -> None:
    """Draw a row of images with its name above."""
    figure.suptitle(f"{region.name}: {region.why}", x=0.02, ha="left", size=9, weight="bold", color=region.colour)
    for axes, cell in zip(figure.subplots(1, _IN_ROW)[: len(cells)], cells, strict=True):
        axes.set(xticks=[], yticks=[], anchor="N")
        axes.spines[:].set_color("#D4D4D4")
        axes.set_xlabel(cell.caption, fontsize=8, color=INK, labelpad=3, parse_math=False)
        if cell.image is not None:
            axes.imshow(cell.image.expand(3, -1, -1).movedim(0, -1).numpy())
