"""What is observed while training, shown in the loggers: numbers, histograms, sheets of pictures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from lightning_easiness._utils.lightning import is_named
from lightning_easiness._utils.rng import OwnGenerators, isolated_streams
from lightning_easiness.functional import rank_by_easiness
from lightning_easiness.view.grids import histogram, image_grid
from lightning_easiness.view.images import NoImageError
from lightning_easiness.view.words import class_namer, in_digits

_HISTOGRAM_FIELDS = ("loss", "margin", "sample_easiness", "el2n")

_told: set[str] = set()  # warnings that were given: one is enough, not one a checkpoint


@rank_zero_only
def log_observation(
    trainer_loggers: Iterable[Logger],
    values: Mapping[str, Tensor],
    target: Tensor | None,
    num_classes: int | None,
    step: int,
    series: str,
    by_class: bool = False,
) -> None:
    """Logs one checkpoint of one series: numbers to every logger, histograms to TensorBoard. Nothing on other ranks.

    Under "easiness/<series>/" there are the numbers "mean_loss" and "loss_spread" (standard deviation over examples),
    both of the finite losses, "accuracy", "num_nan" and "num_inf" (losses); and the histograms "loss", "margin",
    "sample_easiness" and "el2n" of what is finite, as far as recorded, and "loss/class_<k>". Examples that were not
    seen (`count` 0) are not counted.

    Args:
        trainer_loggers: `trainer.loggers`.
        values: the checkpoint's fields, each (N,) on the CPU; "loss" is needed.
        target: (N,) int64, -1 where not known; None without labels.
        num_classes: K; labels outside 0 to K - 1 get no histogram. None for any label.
        step: optimizer steps made so far.
        series: such as "train-probe".
        by_class: a histogram of the loss for each class too; about half a millisecond a class.
    """
    prefix = f"easiness/{series}"
    metrics = {f"{prefix}/{name}": value for name, value in _summary(values).items()}
    boards = []
    for logger in trainer_loggers:
        logger.log_metrics(metrics, step=step)
        if is_named(logger, "TensorBoardLogger"):
            boards.append(_experiment(logger))
    if boards:
        for name, bins in _histograms(values, target if by_class else None, num_classes):
            for board in boards:
                board.add_histogram_raw(f"{prefix}/{name}", **bins, global_step=step)


@rank_zero_only
def log_sheets(
    trainer_loggers: Iterable[Logger],
    dataset: Any,
    fields: Mapping[str, Tensor],
    target: Tensor | None,
    step: int,
    series: str,
    num_images: int = 25,
    class_names: Sequence[str] | None = None,
) -> None:
    """Logs pictures of the examples with the highest and the lowest loss. Nothing on other ranks.

    The tags are "easiness/<series>/hardest" and "/easiest", in TensorBoard and in every logger with a `log_image`.
    At most `2 * num_images` items are read, in this process; Python's, numpy's and torch's random streams and the
    data set's own generators are given back as they were. A data set without pictures is passed over, with one warning.

    Args:
        trainer_loggers: `trainer.loggers`.
        dataset: the data set that was observed; `item_image` says which items are understood.
        fields: the checkpoint's fields, each (N,) on the CPU; "loss" is needed.
        target: (N,) int64, -1 where not known; None without labels.
        step: optimizer steps made so far.
        series: such as "train-probe".
        num_images: pictures on each of the two sheets; 0 for no sheets.
        class_names: words for the labels 0, 1, ...; default "label 0" and so on.

    Raises:
        ValueError: there are too few class names.
    """
    writers = [write for write in map(_picture_writer, trainer_loggers) if write is not None]
    if not writers or num_images < 1:
        return
    loss = fields["loss"]
    order = rank_by_easiness(loss, higher_is_easier=False)
    if len(order) == 0:
        return
    name = class_namer(class_names, torch.empty(0) if target is None else target)
    for end, shown in (("hardest", order.flip(0)[:num_images]), ("easiest", order[:num_images])):
        captions = _captions(shown, loss, target, name)
        title = f"{end.capitalize()} of {len(order):,} by loss at step {step:,}\n{series}: index, label, loss"
        with isolated_streams(), OwnGenerators(dataset):
            sheet = _sheet(dataset, shown.tolist(), captions, title)
        if sheet is None:
            return
        for write in writers:
            write(f"easiness/{series}/{end}", sheet, step)


def _summary(values: Mapping[str, Tensor]) -> dict[str, float]:
    loss = values["loss"]
    seen = values["count"] > 0 if "count" in values else torch.ones_like(loss, dtype=torch.bool)
    finite = loss[loss.isfinite()].double()
    summary = {"num_nan": float((loss.isnan() & seen).sum()), "num_inf": float(loss.isinf().sum())}
    if len(finite):
        summary |= {"mean_loss": finite.mean().item(), "loss_spread": finite.std(correction=0).item()}
    if "correct" in values and bool(seen.any()):
        summary["accuracy"] = values["correct"][seen].double().mean().item()
    return summary


def _histograms(
    values: Mapping[str, Tensor], target: Tensor | None, num_classes: int | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    named = [(name, values[name]) for name in _HISTOGRAM_FIELDS if name in values]
    if target is not None:
        named += _by_class(values["loss"], target, num_classes)
    for name, numbers in named:
        bins = histogram(numbers)
        if bins is not None:
            yield name, bins


def _by_class(loss: Tensor, target: Tensor, num_classes: int | None) -> list[tuple[str, Tensor]]:
    # One sort, where a mask a class would go over all examples for each class.
    order = target.argsort()
    labels, counts = torch.unique(target, return_counts=True)
    groups = zip(labels.tolist(), loss[order].split_with_sizes(counts.tolist()), strict=True)
    return [
        (f"loss/class_{label}", losses)
        for label, losses in groups
        if label >= 0 and (num_classes is None or label < num_classes)
    ]


def _experiment(logger: Logger) -> Any:
    return logger.experiment  # type: ignore[attr-defined]  # a SummaryWriter, on rank 0


def _picture_writer(logger: Logger) -> Callable[[str, Tensor, int], object] | None:
    """Finds how a logger takes a picture (tag, uint8 (3, H, W), step); None where it takes none."""
    if is_named(logger, "TensorBoardLogger"):
        add_image: Callable[[str, Tensor, int], object] = _experiment(logger).add_image
        return add_image
    # Asked of the class: the logger of a trial run answers to every name.
    if callable(getattr(type(logger), "log_image", None)):
        log_image: Any = getattr(logger, "log_image")  # noqa: B009
        return lambda tag, sheet, step: log_image(key=tag, images=[to_pil_image(sheet)], step=step)
    return None


def _sheet(dataset: Any, shown: Sequence[int], captions: Sequence[str], title: str) -> Tensor | None:
    try:
        return image_grid(dataset, shown, captions, title=title)
    except NoImageError as error:
        _warn_once(f"{error} Numbers and histograms are logged without pictures.")
    except Exception as error:  # pictures are for show: a file that cannot be read now stops no training
        _warn_once(f"Pictures could not be read ({type(error).__name__}: {error}); the rest is logged without them.")
    return None


def _captions(shown: Tensor, loss: Tensor, target: Tensor | None, name: Callable[[int], str]) -> list[str]:
    labels = [-1] * len(shown) if target is None else target[shown].tolist()
    rows = zip(shown.tolist(), labels, loss[shown].tolist(), strict=True)
    return [f"#{index}  {name(label)}\n{in_digits(value)}" for index, label, value in rows]


def _warn_once(message: str) -> None:
    if message not in _told:
        _told.add(message)
        warnings.warn(message, stacklevel=4)
