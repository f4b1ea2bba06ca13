"""Grids of images: the easiest and hardest examples, averages by class.

Data sets are read item by item, so that only the images of one grid are in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_easiness._utils.renamed import refuse_renamed
from lightning_easiness.data.class_names import class_names as dataset_names
from lightning_easiness.functional import fraction_to_count
from lightning_easiness.scores import SCORES, Scores
from lightning_easiness.view.image_grid import ImageGrid
from lightning_easiness.view.images import NoImageError, average, item_image, to_displayable, to_one_scale
from lightning_easiness.view.layout import Cell, Grid
from lightning_easiness.view.observed import observed
from lightning_easiness.view.words import ClassNamer, class_namer, count_of, in_digits, spoken

_MOST_ROWS = 20  # of a grid by class: 1,000 rows would be an image that nobody can open
_MOST_COLUMNS = 10  # of averages: more stand in rows below


def image_grid(
    dataset: Any,
    indices: Iterable[int],
    captions: Sequence[str] | None = None,
    columns: int | None = None,
    title: str | None = None,
    thumbnail: int = 112,
) -> ImageGrid:
    """Draw examples of a data set on one grid.

    Args:
        dataset: Read as `dataset[i]`, once for each index. An item is an image, a tuple with it first, or a mapping
            with it under a key such as "image", "pixel_values", "x" or "input". An image is a Pillow image, a numpy
            array or a tensor: (H, W), (C, H, W) or (H, W, C), where C is 1, 3 or 4 (with opacity).
        indices: Examples, in the order in which they are shown.
        captions: Text below each image; default "#index". Lines end at a line feed; long lines are wrapped.
        columns: Images per row; by default the grid is about square.
        title: The first line is large, the following lines are smaller.
        thumbnail: Approximate length of an image's longer side, in pixels. Small images are enlarged by an integer
            factor without smoothing, large ones are reduced with antialiasing.

    Returns:
        uint8 (3, H, W), which a notebook shows as an image. An example without an image leaves a blank box.

    Raises:
        ValueError: `indices` is empty, or `captions` has another length.
        NoImageError: None of the examples is an image.

    Example:
        >>> digits = torch.rand(4, 1, 8, 8)
        >>> image_grid(digits, [2, 0], title="Two of four").shape[0]
        3
    """
    shown = [int(i) for i in indices]
    captions = [f"#{i}" for i in shown] if captions is None else captions
    if not shown:
        raise ValueError("`indices` of image_grid is empty; give at least one example to show.")
    if len(captions) != len(shown):
        raise ValueError(
            f"`captions` of image_grid must hold one text for each of the {len(shown)} indices; got {len(captions)}."
        )
    if columns is not None:
        check_at_least_one("image_grid", "columns", columns)
    cells = read_cells(dataset, shown, captions)
    columns = columns or next(n for n in range(1, len(cells) + 1) if n * n >= len(cells))
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    return Grid(rows, title or "", thumbnail=thumbnail).draw()


def scores_grid(
    dataset: Any,
    scores: Scores,
    num_images: int = 25,
    which: Literal["hard", "easy"] = "hard",
    class_names: Sequence[str] | None = None,
    by_class: bool = False,
    *,
    classes: Sequence[int] | None = None,
    thumbnail: int = 112,
) -> ImageGrid:
    """Draw the hardest or the easiest examples, as Figure 1 of the 2019 easiness paper.

    Below each image stand its index, label, predicted label and score.

    Args:
        dataset: The data set that was observed, as in `image_grid`, or the whole one of which it is a `Subset`.
        scores: One score per example, from `record.score(...)`.
        num_images: Images on the grid, most extreme first; with `by_class`, images in a row.
        which: The end that is shown.
        class_names: Names of the labels 0, 1, ...; default those of the scores or of `dataset.classes`, if known.
        by_class: One row per class, at most 20 rows.
        classes: Labels to show; default all.
        thumbnail: As in `image_grid`.

    Returns:
        uint8 (3, H, W), which a notebook shows as an image.

    Raises:
        ValueError: The scores are of another data set, there are too few class names, or no example is left to show.
        NoImageError: None of the examples is an image.

    Example:
        >>> from lightning_easiness import Scores
        >>> scores = Scores(torch.rand(9), higher_is_easier=False, name="mean_loss")
        >>> scores_grid(torch.rand(9, 8, 8), scores, num_images=4).shape[0]
        3
    """
    given: tuple[Any, ...] = (num_images, which, class_names, classes)
    dataset = observed("The `dataset` of scores_grid", dataset, scores.identity)
    name, order, title = shown_scores("scores_grid", dataset, scores, *given, label=not by_class)
    if not by_class:
        shown = order[:num_images].tolist()
        captions = [caption(scores, i, name) for i in shown]
        return image_grid(dataset, shown, captions, title=title, thumbnail=thumbnail)
    groups, note = _by_class(order, scores.target, classes)
    rows = []
    for members in groups.values():
        shown = members[:num_images].tolist()
        rows.append(read_cells(dataset, shown, [caption(scores, i, name, label=False) for i in shown]))
    return Grid(rows, title + note, [name(label) for label in groups], thumbnail=thumbnail).draw()


def shown_scores(
    owner: str,
    dataset: Any,
    scores: Scores,
    num_images: int,
    which: str,
    class_names: Sequence[str] | None,
    classes: Sequence[int] | None = None,
    *,
    label: bool = True,
) -> tuple[ClassNamer, Tensor, str]:
    """Check the arguments of a grid of scores; return what names labels, the order of examples, and the title."""
    name = class_namer(class_names, scores.target, scores.class_names or dataset_names(dataset))
    if which not in ("hard", "easy"):
        raise ValueError(f'`which` of {owner} must be "hard" or "easy"; got {which!r}.')
    check_at_least_one(owner, "num_images", num_images)
    order = _order(scores, which, classes)
    return name, order, _title(scores, which, len(order), [name(label) for label in classes or ()], label=label)


@refuse_renamed("averages_grid", most_pictures="give `max_images`")
def averages_grid(
    dataset: Any,
    scores: Scores,
    fraction: float = 0.1,
    class_names: Sequence[str] | None = None,
    *,
    classes: Sequence[int] | None = None,
    max_images: int = 500,
    seed: int = 0,
    thumbnail: int = 112,
) -> ImageGrid:
    """Draw averages of easy, random and hard examples, one column per class, as Figure 2 of the 2019 easiness paper.

    The more diverse the images, the more uniform their average. All averages of the grid have the same scale, so that
    they can be compared. Cost: up to 3 * `max_images` reads of the data set per class.

    Args:
        dataset: The data set that was observed, as in `image_grid`, or the whole one of which it is a `Subset`.
        scores: One score per example, from `record.score(...)`.
        fraction: Fraction of each class that is averaged, in (0, 1].
        class_names: Names of the labels 0, 1, ...; default those of the scores or of `dataset.classes`, if known.
        classes: Labels to show; default the first 20 that occur. Where no label is known, one column averages all.
        max_images: Most images in an average, the most extreme ones (500 in the paper).
        seed: Seed of the random row, which is drawn from a generator of its own.
        thumbnail: As in `image_grid`.

    Returns:
        uint8 (3, H, W), which a notebook shows as an image.

    Raises:
        ValueError: `fraction` is outside (0, 1], the scores are of another data set, there are too few class names, or
            no example is left to average.
        NoImageError: None of the examples of an average is an image.

    Example:
        >>> from lightning_easiness import Scores
        >>> scores = Scores(torch.rand(40), higher_is_easier=False, target=torch.arange(40) % 2, name="mean_loss")
        >>> averages_grid(torch.rand(40, 8, 8), scores, fraction=0.2).shape[0]
        3
    """
    name = class_namer(class_names, scores.target, scores.class_names or dataset_names(dataset))
    dataset = observed("The `dataset` of averages_grid", dataset, scores.identity)
    if not 0 < fraction <= 1:
        raise ValueError(f"`fraction` of averages_grid must be in (0, 1]; got {fraction}.")
    check_at_least_one("averages_grid", "max_images", max_images)
    groups, note = _by_class(_order(scores, "easy", classes), scores.target, classes)
    generator = torch.Generator().manual_seed(seed)
    averages, heads = [], []
    for label, members in groups.items():
        count = min(fraction_to_count(fraction, len(members)), max_images)
        drawn = members[torch.randperm(len(members), generator=generator)[:count]]
        for chosen in (members[:count], drawn, members[-count:]):
            averages.append(average(dataset, chosen.tolist(), longest=thumbnail))
        heads.append(f"{name(label)}\n{count_of(count, 'image')} each")
    images = to_one_scale(averages)
    rows: list[list[Cell]] = []
    for first in range(0, len(heads), _MOST_COLUMNS):
        shown = range(first, min(first + _MOST_COLUMNS, len(heads)))
        for end in range(3):  # names stand below the last of the three rows
            rows.append([Cell(images[3 * column + end], heads[column] * (end == 2)) for column in shown])
    title = f"Averages of easy, random and hard examples\n{100 * fraction:.3g}% of each class, {_source(scores)}{note}"
    return Grid(rows, title, ("easy", "random", "hard") * (len(rows) // 3), thumbnail=thumbnail).draw()


def _order(scores: Scores, which: str, classes: Sequence[int] | None) -> Tensor:
    """Return the examples that have a score, most extreme first, with the tie rule of `scores`."""
    order = scores.hardest(1.0) if which == "hard" else scores.easiest(1.0)
    if classes is not None:
        order = order[torch.isin(scores.target[order], torch.tensor(list(classes), dtype=torch.int64))]
    if len(order) == 0:
        among = "" if classes is None else f" of the classes {list(classes)}"
        raise ValueError(f"No example{among} has a score that is not NaN; there is nothing to show.")
    return order


def _by_class(order: Tensor, target: Tensor, classes: Sequence[int] | None) -> tuple[dict[int, Tensor], str]:
    """Split an order by label, and say in words which rows are left out; without any label all is one row, -1."""
    labels = torch.unique(target[order]).tolist()
    known = [label for label in labels if label >= 0] or [-1]
    shown = known if classes is not None else known[:_MOST_ROWS]
    note = f"; the first {len(shown)} of {len(known)} classes" if len(shown) < len(known) else ""
    return {label: order[target[order] == label] for label in shown}, note


def read_cells(dataset: Any, indices: Sequence[int], captions: Sequence[str]) -> list[Cell]:
    """Read examples and set captions under them; raise a NoImageError where none of them is an image."""
    item: object = None
    cells = []
    for index, words in zip(indices, captions, strict=True):
        item = item_image(dataset[index])
        cells.append(Cell(to_displayable(item), words))
    if all(cell.image is None for cell in cells):
        raise NoImageError(dataset, item)
    return cells


def check_at_least_one(owner: str, name: str, value: int) -> None:
    """Raise a ValueError unless a number of images is an integer of at least 1."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"The `{name}` of {owner} must be an integer of at least 1; got {value}.")


def _title(scores: Scores, which: str, count: int, class_names: Sequence[str], label: bool) -> str:
    among = f" of {', '.join(class_names)}" if class_names else ""
    num_nan = int(scores.values.isnan().sum())
    left_out = f"; {num_nan:,} without a score left out" if num_nan else ""
    end = "Hardest" if which == "hard" else "Easiest"
    labels = ("label, " if label else "") + ("predicted label, " if scores.prediction is not None else "")
    words = f"index, {labels}{spoken(scores.name)}"
    is_compared = scores.name in SCORES and SCORES[scores.name].over == "both"
    spread = f" ± standard {'error' if is_compared else 'deviation over runs'}" if scores.num_runs > 1 else ""
    direction = "high" if scores.higher_is_easier else "low"
    return f"{end} of {count:,}{among} {_source(scores)}\n{words}{spread}; {direction} is easy{left_out}"


def _source(scores: Scores) -> str:
    runs = "in one run" if scores.num_runs == 1 else f"over {scores.num_runs} runs"
    return f"by {spoken(scores.name)} {runs}"


def caption(scores: Scores, index: int, name: ClassNamer, *, label: bool = True) -> str:
    """Write the index, the label, the prediction and the score of an example below its image."""
    given, predicted = int(scores.target[index]), -1 if scores.prediction is None else int(scores.prediction[index])
    labels = f"\n{name.with_prediction(given, predicted)}" if predicted >= 0 else f"  {name(given)}"
    if not label:
        labels = f"\npredicted {name.short(predicted)}" if predicted >= 0 else ""
    spread = float(scores.spread[index])
    more = "" if spread != spread else f" ± {in_digits(spread)}"  # NaN for one run
    return f"#{index}{labels}\n{in_digits(float(scores.values[index]))}{more}"
