"""What is observed while training, shown in the loggers: numbers, histograms, grids of images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from lightning_easiness._utils.lightning import is_named, log_step, set_callback_metrics
from lightning_easiness._utils.rng import OwnGenerators, isolated_rng
from lightning_easiness.data.class_names import class_names
from lightning_easiness.data.observation import Observation
from lightning_easiness.scores import Scores
from lightning_easiness.view.grids import caption, histogram, image_grid
from lightning_easiness.view.images import NoImageError
from lightning_easiness.view.words import ClassNamer

_HISTOGRAM_FIELDS = ("loss", "margin", "sample_easiness", "el2n")

_warned: set[str] = set()  # one warning is enough, not one per checkpoint


def log_scalars(
    trainer: Trainer, metrics: Mapping[str, float], *, at_epoch_end: bool = False, reduce: str = "max"
) -> None:
    """Log numbers to every logger, and let ModelCheckpoint and EarlyStopping monitor them; call it in all processes.

    Inside `on_train_epoch_end` by Lightning's `log`, reduced over the processes; in other hooks, where `log` would
    defer, drop or refuse them, at once, as they are in the first process.
    """
    if at_epoch_end:
        # the numbers are alike in all processes but for the times, so that any reduction keeps them as they are
        trainer.lightning_module.log_dict(
            dict(metrics), on_step=False, on_epoch=True, batch_size=1, sync_dist=True, reduce_fx=reduce
        )
        return
    set_callback_metrics(trainer, metrics)
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            logger.log_metrics(dict(metrics), step=log_step(trainer))


def log_observation(
    trainer: Trainer, observation: Observation, *, by_class: bool = False, at_epoch_end: bool = False
) -> None:
    """Log one checkpoint of one series: numbers to every logger, histograms to TensorBoard.

    Under "easiness/<series>/" there are "mean_loss" and "loss_spread" (standard deviation over examples), without
    infinite losses and NaN where a loss is NaN, "accuracy", "num_nan" and "num_inf", and "num_unlabelled" where there
    are examples without a label, which count in none of the others; and the histograms "loss",
    "margin", "sample_easiness" and "el2n" of what is finite, with `by_class` "loss/class_<k>" too. Examples that were
    not seen are not counted.
    """
    prefix = f"easiness/{observation.series}"
    metrics = {f"{prefix}/{name}": value for name, value in _summary(observation).items()}
    log_scalars(trainer, metrics, at_epoch_end=at_epoch_end)
    loggers: list[Any] = trainer.loggers
    boards = [one.experiment for one in loggers if is_named(one, "TensorBoardLogger")]
    if boards and trainer.is_global_zero:
        for name, bins in _histograms(observation, by_class):
            for board in boards:
                board.add_histogram_raw(f"{prefix}/{name}", **bins, global_step=log_step(trainer))


def log_images(
    trainer: Trainer,
    dataset: Any,
    observation: Observation,
    num_images: int = 25,
    names: Sequence[str] | None = None,
) -> None:
    """Log the images of the examples with the highest and the lowest loss, `num_images` each.

    The tags are "easiness/<series>/hardest" and "/easiest", in TensorBoard and in every logger with a `log_image`. A
    data set without images is passed over, with one warning. `names` are those of the classes, by default those that
    the data set lists.
    """
    if not trainer.is_global_zero or num_images < 1:
        return
    writers = [write for write in map(_image_writer, trainer.loggers) if write is not None]
    fields = observation.fields
    scores = Scores(
        fields["loss"], higher_is_easier=False, target=observation.target, prediction=fields.get("prediction")
    )
    name, order = ClassNamer(names or class_names(dataset)), scores.easiest(1.0).tolist() if writers else []
    if not order:
        return
    for end, shown in (("hardest", order[: -num_images - 1 : -1]), ("easiest", order[:num_images])):
        title = f"{end.capitalize()} of {len(order):,} by loss at step {observation.step:,}"
        title += f"\n{observation.series}: index, label, {'predicted label, ' * ('prediction' in fields)}loss"
        with isolated_rng(), OwnGenerators(dataset):
            grid = _grid(dataset, shown, [caption(scores, index, name) for index in shown], title)
        if grid is None:
            return
        for write in writers:
            write(f"easiness/{observation.series}/{end}", grid, log_step(trainer))


def _summary(observation: Observation) -> dict[str, float]:
    values, unlabelled = observation.fields, observation.unlabelled
    loss = values["loss"]
    seen = values["count"] > 0 if "count" in values else torch.ones_like(loss, dtype=torch.bool)
    if unlabelled is not None:
        seen &= ~unlabelled
    known = loss[seen & ~loss.isinf()].double()  # a NaN stays in the mean: whoever monitors it must see a divergence
    summary = {"num_nan": float((loss.isnan() & seen).sum()), "num_inf": float(loss.isinf().sum())}
    if unlabelled is not None:
        summary["num_unlabelled"] = float(unlabelled.sum())
    if len(known):
        summary |= {"mean_loss": known.mean().item(), "loss_spread": known.std(correction=0).item()}
    if "correct" in values and bool(seen.any()):
        summary["accuracy"] = values["correct"][seen].double().mean().item()
    return summary


def _histograms(observation: Observation, by_class: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    fields = observation.fields
    named = [(name, fields[name]) for name in _HISTOGRAM_FIELDS if name in fields]
    if by_class and observation.target is not None:
        named += _losses_by_class(fields["loss"], observation.target, observation.num_classes)
    for name, numbers in named:
        bins = histogram(numbers)
        if bins is not None:
            yield name, bins


def _losses_by_class(loss: Tensor, target: Tensor, num_classes: int | None) -> list[tuple[str, Tensor]]:
    # one sort, where a mask per class would go over all examples for each class
    labels, counts = torch.unique(target, return_counts=True)
    groups = zip(labels.tolist(), loss[target.argsort()].split_with_sizes(counts.tolist()), strict=True)
    return [
        (f"loss/class_{label}", losses)
        for label, losses in groups
        if label >= 0 and (num_classes is None or label < num_classes)
    ]


def _image_writer(logger: Any) -> Callable[[str, Tensor, int], object] | None:
    """Return how a logger takes an image (tag, uint8 (3, H, W), step); None where it takes none."""
    if is_named(logger, "TensorBoardLogger"):
        return logger.experiment.add_image  # type: ignore[no-any-return]
    # asked of the class: the logger of a trial run answers to every name
    if callable(getattr(type(logger), "log_image", None)):
        return lambda tag, grid, step: logger.log_image(key=tag, images=[to_pil_image(grid)], step=step)
    return None


def _grid(dataset: Any, shown: Sequence[int], captions: Sequence[str], title: str) -> Tensor | None:
    try:
        return image_grid(dataset, shown, captions, title=title)
    except NoImageError as error:
        _warn_once(f"{error} Numbers and histograms are logged without images.")
    except Exception as error:  # images are for show: a file that cannot be read now stops no training
        _warn_once(f"Images could not be read ({type(error).__name__}: {error}); the rest is logged without them.")
    return None


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, stacklevel=4)
