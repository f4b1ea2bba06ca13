"""Scores and their data set to pictures: the easiest and hardest examples, averages by class, a TensorBoard folder.

Data sets are read item by item: no more than the pictures of one sheet are held. Knows no Trainer.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from lightning_easiness.functional import fraction_to_count
from lightning_easiness.view.drawing import Cell, Sheet
from lightning_easiness.view.images import (
    NoImageError,
    average,
    average_images,
    item_image,
    save_image,
    to_displayable,
    to_one_scale,
)

if TYPE_CHECKING:
    from lightning_easiness.scores import Scores

__all__ = [
    "NoImageError",
    "average_images",
    "averages_grid",
    "histogram",
    "image_grid",
    "item_image",
    "save_image",
    "scores_grid",
    "to_displayable",
    "write_tensorboard",
]

_ENDS: tuple[tuple[Literal["hard", "easy"], str], ...] = (("hard", "hardest"), ("easy", "easiest"))
_MOST_ROWS = 20  # of a sheet by class: 1,000 rows would be a picture that nobody can open
_MOST_IN_ROW = 10
_NUM_BINS = 64


def image_grid(
    dataset: Any,
    indices: Iterable[int],
    captions: Sequence[str] | None = None,
    columns: int | None = None,
    title: str | None = None,
    thumbnail: int = 112,
) -> Tensor:
    """Draws examples of a data set on one sheet.

    Args:
        dataset: read as `dataset[i]`, once for each index; `item_image` says which items are understood.
        indices: examples, in the order in which they are shown.
        captions: words below each picture; default "#index". Lines are parted by a line feed, long ones are broken.
        columns: pictures in a row; default about a square.
        title: the first line large, lines after it smaller.
        thumbnail: length of a picture's longer side in pixels, about: small pictures are enlarged by a whole factor
            without smoothing, large ones reduced with antialiasing.

    Returns:
        uint8 (3, H, W). An example without a picture leaves a blank box.

    Raises:
        ValueError: there is no index, or the captions are not as many.
        NoImageError: none of the examples is a picture.

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
    if columns is not None and columns < 1:
        raise ValueError(f"`columns` of image_grid must be at least 1; got {columns}.")
    cells = _read_cells(dataset, shown, captions)
    columns = columns or next(n for n in range(1, len(cells) + 1) if n * n >= len(cells))
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    return Sheet(rows, title or "", thumbnail=thumbnail).draw()


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
) -> Tensor:
    """Draws the hardest or the easiest examples with index, label and score, as Figure 1 of the 2019 easiness paper.

    Args:
        dataset: the data set that was observed, as in `image_grid`.
        scores: one score an example, from `record.score(...)`.
        num_images: pictures on the sheet, most extreme first; with `by_class`, pictures in a row.
        which: the end that is shown.
        class_names: words for the labels 0, 1, ...; default "label 0" and so on.
        by_class: a row for each class, at most 20 rows.
        classes: labels to show; default all.
        thumbnail: as in `image_grid`.

    Returns:
        uint8 (3, H, W).

    Raises:
        ValueError: the scores are of another data set, there are too few class names, or no example is left to show.
        NoImageError: none of the examples is a picture.
    """
    name = class_namer(class_names, scores.target)
    _check_length(dataset, scores)
    if which not in ("hard", "easy"):
        raise ValueError(f'`which` of scores_grid must be "hard" or "easy"; got {which!r}.')
    if num_images < 1:
        raise ValueError(f"`num_images` of scores_grid must be at least 1; got {num_images}.")
    order = _order(scores, which, classes)
    title = _title(scores, which, len(order), [name(label) for label in classes or ()], label=not by_class)
    if not by_class:
        shown = order[:num_images].tolist()
        captions = [_caption(scores, i, name) for i in shown]
        return image_grid(dataset, shown, captions, title=title, thumbnail=thumbnail)
    groups, note = _by_class(order, scores.target, classes)
    rows = []
    for members in groups.values():
        shown = members[:num_images].tolist()
        rows.append(_read_cells(dataset, shown, [_caption(scores, i) for i in shown]))
    return Sheet(rows, title + note, [name(label) for label in groups], thumbnail=thumbnail).draw()


def averages_grid(
    dataset: Any,
    scores: Scores,
    fraction: float = 0.1,
    class_names: Sequence[str] | None = None,
    *,
    classes: Sequence[int] | None = None,
    most_pictures: int = 500,
    seed: int = 0,
    thumbnail: int = 112,
) -> Tensor:
    """Draws averages of easy, random and hard examples, a row for each class, as Figure 2 of the 2019 easiness paper.

    The more diverse the pictures, the more even is their average. All averages of the sheet share one scale, so that
    this can be compared. Cost: up to 3 `most_pictures` reads of the data set a class.

    Args:
        dataset: the data set that was observed, as in `image_grid`.
        scores: one score an example, from `record.score(...)`.
        fraction: of each class that an average is taken over, in (0, 1].
        class_names: words for the labels 0, 1, ...; default "label 0" and so on.
        classes: labels to show; default the first 20 that occur. Where no label is known, one row is taken over all.
        most_pictures: that an average is taken over, the most extreme ones (500 in the paper).
        seed: of the random column, which is drawn from a generator of its own.
        thumbnail: as in `image_grid`.

    Returns:
        uint8 (3, H, W).

    Raises:
        ValueError: `fraction` is outside (0, 1], the scores are of another data set, there are too few class names, or
            no example is left to average.
        NoImageError: none of the examples of an average is a picture.
    """
    name = class_namer(class_names, scores.target)
    _check_length(dataset, scores)
    if not 0 < fraction <= 1:
        raise ValueError(f"`fraction` of averages_grid must be in (0, 1]; got {fraction}.")
    if most_pictures < 1:
        raise ValueError(f"`most_pictures` of averages_grid must be at least 1; got {most_pictures}.")
    groups, note = _by_class(_order(scores, "easy", classes), scores.target, classes)
    generator = torch.Generator().manual_seed(seed)
    averages, heads = [], []
    for label, members in groups.items():
        count = min(fraction_to_count(fraction, len(members)), most_pictures)
        drawn = members[torch.randperm(len(members), generator=generator)[:count]]
        for chosen in (members[:count], drawn, members[-count:]):
            averages.append(average(dataset, chosen.tolist()))
            averages[-1].shrink(thumbnail)
        heads.append(f"{name(label)}\n{_count(count, 'picture')} each")
    cells = [Cell(picture) for picture in to_one_scale(averages)]
    rows = [cells[i : i + 3] for i in range(0, len(cells), 3)]
    title = f"Averages of easy, random and hard examples\n{100 * fraction:.3g}% of each class, {_source(scores)}{note}"
    return Sheet(rows, title, heads, ("easy", "random", "hard"), thumbnail).draw()


def histogram(values: Tensor) -> dict[str, Any] | None:
    """Counts values in 64 bins of equal width, as `SummaryWriter.add_histogram_raw` takes them; cheap at any length.

    Args:
        values: (N,), any dtype; NaN and infinities are dropped.

    Returns:
        Its arguments but for the tag and the step; None where no finite value is left.

    Example:
        >>> histogram(torch.tensor([0.0, 1.0, 1.0, torch.nan]))["num"]
        3
    """
    known = values[values.isfinite()].double().cpu()
    if len(known) == 0:
        return None
    low, high = known.min().item(), known.max().item()
    # One value alone gets a bin of its own width in the middle of a range about it.
    left, right = (low, high) if high > low else (low - 0.5, high + 0.5)
    return {
        "min": low,
        "max": high,
        "num": len(known),
        "sum": known.sum().item(),
        "sum_squares": known.square().sum().item(),
        "bucket_limits": torch.linspace(left, right, _NUM_BINS + 1, dtype=torch.float64)[1:].tolist(),
        "bucket_counts": torch.histc(known, _NUM_BINS, left, right).tolist(),
    }


def write_tensorboard(
    scores: Scores,
    dataset: Any,
    log_dir: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    num_images: int = 25,
    fraction: float = 0.1,
) -> None:
    """Writes sheets, averages and the histogram of the scores into one TensorBoard event folder.

    Pictures are "easiness/<score>/hardest", "/easiest", "/hardest_by_class", "/easiest_by_class" and "/averages", the
    histogram is "easiness/<score>", all at the step of the scores: several checkpoints can go into one folder. A data
    set without pictures gets the histogram alone, and a warning.

    Args:
        scores: one score an example, from `record.score(...)`.
        dataset: the data set that was observed, as in `image_grid`.
        log_dir: made where it is missing.
        class_names: words for the labels 0, 1, ...; default "label 0" and so on.
        num_images: pictures on a sheet of the easiest or hardest.
        fraction: of each class that an average is taken over, in (0, 1].

    Raises:
        ValueError: as `scores_grid` and `averages_grid` raise it; nothing has been written then.
    """
    from torch.utils.tensorboard import SummaryWriter  # slow to load

    try:
        sheets = _all_sheets(scores, dataset, class_names, num_images, fraction)
    except NoImageError as error:
        warnings.warn(f"{error} Only the histogram of the scores is written.", stacklevel=2)
        sheets = {}
    bins = histogram(scores.values)
    step = scores.step or 0
    with SummaryWriter(os.fspath(log_dir)) as writer:
        if bins is not None:
            writer.add_histogram_raw(f"easiness/{scores.name}", **bins, global_step=step)
        for name, sheet in sheets.items():
            writer.add_image(f"easiness/{scores.name}/{name}", sheet, global_step=step)


def _all_sheets(
    scores: Scores, dataset: Any, class_names: Sequence[str] | None, num_images: int, fraction: float
) -> dict[str, Tensor]:
    sheets: dict[str, Tensor] = {}
    for which, end in _ENDS:
        sheets[end] = scores_grid(dataset, scores, num_images, which, class_names)
        if (scores.target >= 0).any():
            row = max(1, min(num_images, _MOST_IN_ROW))
            sheets[f"{end}_by_class"] = scores_grid(dataset, scores, row, which, class_names, by_class=True)
    sheets["averages"] = averages_grid(dataset, scores, fraction, class_names)
    return sheets


def _order(scores: Scores, which: str, classes: Sequence[int] | None) -> Tensor:
    """Examples that have a score, most extreme first, by the rule that `scores` has for ties."""
    order = scores.hardest(1.0) if which == "hard" else scores.easiest(1.0)
    if classes is not None:
        order = order[torch.isin(scores.target[order], torch.tensor(list(classes), dtype=torch.int64))]
    if len(order) == 0:
        among = "" if classes is None else f" of the classes {list(classes)}"
        raise ValueError(f"No example{among} has a score that is not NaN; there is nothing to show.")
    return order


def _by_class(order: Tensor, target: Tensor, classes: Sequence[int] | None) -> tuple[dict[int, Tensor], str]:
    """Parts an order by label, and says in words which rows are left out. Without any label all is one row, -1."""
    labels = torch.unique(target[order]).tolist()
    known = [label for label in labels if label >= 0] or [-1]
    shown = known if classes is not None else known[:_MOST_ROWS]
    note = f"; the first {len(shown)} of {len(known)} classes" if len(shown) < len(known) else ""
    return {label: order[target[order] == label] for label in shown}, note


def _read_cells(dataset: Any, indices: Sequence[int], captions: Sequence[str]) -> list[Cell]:
    item: object = None
    cells = []
    for index, caption in zip(indices, captions, strict=True):
        item = item_image(dataset[index])
        cells.append(Cell(to_displayable(item), caption))
    if all(cell.picture is None for cell in cells):
        raise NoImageError(dataset, item)
    return cells


def class_namer(class_names: Sequence[str] | None, target: Tensor) -> Callable[[int], str]:
    """Makes the function from a label to its words; raises a ValueError where names are too few."""
    largest = int(target.max()) if len(target) else -1
    if class_names is not None and len(class_names) <= largest:
        raise ValueError(f"`class_names` must name the labels 0 to {largest}; got {len(class_names)} names.")

    def name(label: int) -> str:
        if label < 0:
            return "no label"
        if class_names is None or label >= len(class_names):
            return f"label {label}"
        return str(class_names[label])

    return name


def _check_length(dataset: Any, scores: Scores) -> None:
    if isinstance(dataset, Sized) and len(dataset) != len(scores.values):
        raise ValueError(
            f"`dataset` has {_count(len(dataset), 'item')}, but there are scores of {len(scores.values):,} examples;"
            " pass the data set that was observed."
        )


def _title(scores: Scores, which: str, count: int, class_names: Sequence[str], label: bool) -> str:
    among = f" of {', '.join(class_names)}" if class_names else ""
    num_nan = int(scores.values.isnan().sum())
    left_out = f"; {num_nan:,} without a score left out" if num_nan else ""
    end = "Hardest" if which == "hard" else "Easiest"
    return f"{end} of {count:,}{among} {_source(scores)}\n{_legend(scores, label)}{left_out}"


def _source(scores: Scores) -> str:
    runs = "in one run" if scores.num_runs == 1 else f"over {scores.num_runs} runs"
    return f"by {_spoken(scores)} {runs}"


def _legend(scores: Scores, label: bool) -> str:
    words = f"index, {'label, ' if label else ''}{_spoken(scores)}"
    spread = " ± standard deviation over runs" if scores.num_runs > 1 else ""
    return f"{words}{spread}; {'high' if scores.higher_is_easier else 'low'} is easy"


def _spoken(scores: Scores) -> str:
    return scores.name.replace("_", " ")


def _caption(scores: Scores, index: int, name: Callable[[int], str] | None = None) -> str:
    label = "" if name is None else f"  {name(int(scores.target[index]))}"
    spread = float(scores.spread[index])
    more = "" if spread != spread else f" ± {in_digits(spread)}"  # NaN for one run
    return f"#{index}{label}\n{in_digits(float(scores.values[index]))}{more}"


def in_digits(value: float) -> str:
    """Writes a number for a caption: "2.31", "0.0042", "12,000"."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 0.095 or value == 0 else f"{value:.2g}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
