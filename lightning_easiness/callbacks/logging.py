"""The numbers and histograms of what is observed, for every logger and for callbacks that monitor them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_easiness._utils.blocks import count
from lightning_easiness._utils.lightning import log_step, set_callback_metrics
from lightning_easiness.callbacks.sinks import Bins, sinks_of
from lightning_easiness.data.observation import Observation
from lightning_easiness.functional import easiness_level
from lightning_easiness.view.histograms import Moments, level_shares, shown_histogram

_HISTOGRAM_FIELDS = ("loss", "margin", "sample_easiness", "el2n")


def log_scalars(
    trainer: Trainer,
    metrics: Mapping[str, float],
    *,
    monitored: Mapping[str, float] | None = None,
    at_epoch_end: bool = False,
    reduce: str = "max",
) -> None:
    """Log numbers to every logger, and let ModelCheckpoint and EarlyStopping monitor them; call it in all processes.

    Those in `monitored` can be monitored, but no logger shows them. Inside `on_train_epoch_end` by Lightning's `log`,
    reduced over the processes; in other hooks, where `log` would defer, drop or refuse them, at once, as they are in
    the first process.
    """
    if at_epoch_end:
        # the numbers are alike in all processes but for the times, so that any reduction keeps them as they are
        for numbers, is_shown in ((metrics, True), (monitored or {}, False)):
            trainer.lightning_module.log_dict(
                dict(numbers),
                logger=None if is_shown else False,
                on_step=False,
                on_epoch=True,
                batch_size=1,
                sync_dist=True,
                reduce_fx=reduce,
            )
        return
    set_callback_metrics(trainer, {**metrics, **(monitored or {})})
    show(trainer, metrics, log_step(trainer))


def show(trainer: Trainer, metrics: Mapping[str, float], step: int) -> None:
    """Log numbers to every logger at one of Lightning's steps, which may be past; nobody can monitor them."""
    if trainer.is_global_zero and metrics:
        for logger in trainer.loggers:
            logger.log_metrics(dict(metrics), step=step)


def log_observation(
    trainer: Trainer, observation: Observation, *, by_class: bool = False, at_epoch_end: bool = False
) -> None:
    """Log one checkpoint of one series: numbers to every logger, histograms to those that take them.

    Under "easiness/<series>/" there are "mean_loss" and "loss_spread" (standard deviation over examples), without
    infinite losses and NaN where a loss is NaN, and "accuracy"; "num_nan" and "num_inf" can always be monitored, and
    are shown where they are not 0, and "num_unlabelled", the examples without a label, which count in none of the
    others, is never shown. Under "easiness-levels/<series>/" there are the fractions "easy", "medium" and "hard", where
    sample easiness is observed. Examples that were not seen are not counted.

    The histograms "log10_loss", "margin", "log10_sample_easiness" and "el2n" are of what is finite; with `by_class`
    there are "class_<k>" in the group "easiness-loss-by-class", too.
    """
    shown, counts = _summary(observation)
    log_scalars(trainer, shown, monitored=counts, at_epoch_end=at_epoch_end)
    show(trainer, {tag: n for tag, n in counts.items() if n and "unlabelled" not in tag}, log_step(trainer))
    for sink in sinks_of(trainer):
        if sink.histogram is not None:
            for tag, bins in _histograms(observation, by_class):
                sink.histogram(tag, bins, log_step(trainer))


def _summary(observation: Observation) -> tuple[dict[str, float], dict[str, float]]:
    """Return the numbers that are shown at each checkpoint, and the counts that are 0 as a rule, by tag."""
    values, prefix = observation.fields, f"easiness/{observation.series}"
    known = _known(observation)
    num_known = len(values["loss"]) if known is None else count(known)
    losses = Moments.of(values["loss"], known)
    shown: dict[str, float] = {}
    counts: dict[str, float] = {"num_nan": losses.num_nan, "num_inf": num_known - losses.num}
    if losses.num:  # a NaN stays in the mean: whoever monitors it must see a divergence
        shown |= {"mean_loss": losses.mean, "loss_spread": losses.spread}
    if "correct" in values and num_known:
        right = values["correct"] if known is None else values["correct"] & known
        shown["accuracy"] = count(right) / num_known
    if observation.unlabelled is not None:
        counts["num_unlabelled"] = int(observation.unlabelled.sum())
    tagged, counted = ({f"{prefix}/{name}": float(value) for name, value in one.items()} for one in (shown, counts))
    return {**tagged, **_levels(observation)}, counted


def _known(observation: Observation) -> Tensor | None:
    """Return the examples that count, bool (N,); None for all."""
    seen, unlabelled = observation.seen, observation.unlabelled
    if unlabelled is None:
        return seen
    return ~unlabelled if seen is None else seen & ~unlabelled


def _levels(observation: Observation) -> dict[str, float]:
    """Return the fractions of easy, medium and hard examples; none where sample easiness was not observed."""
    easiness, weakest = (observation.fields.get(name) for name in ("sample_easiness", "weakest_comparison"))
    if easiness is None or weakest is None:
        return {}
    shares = level_shares(easiness_level(easiness, weakest_comparison=weakest))
    return {f"easiness-levels/{observation.series}/{name}": share for name, share in shares.items()}


def _histograms(observation: Observation, by_class: bool) -> Iterator[tuple[str, Bins]]:
    fields, series = observation.fields, observation.series
    tagged = [(f"easiness/{series}", name, fields[name]) for name in _HISTOGRAM_FIELDS if name in fields]
    found = [(prefix, *shown_histogram(name, values)) for prefix, name, values in tagged]
    if by_class and observation.target is not None:
        groups = _losses_by_class(fields["loss"], observation.target, observation.num_classes)
        found += [
            (f"easiness-loss-by-class/{series}", f"{shown_histogram('loss', losses)[0]}_class_{label}", bins)
            for label, losses in groups
            for bins in [shown_histogram("loss", losses)[1]]
        ]
    yield from ((f"{prefix}/{name}", bins) for prefix, name, bins in found if bins is not None)


def _losses_by_class(loss: Tensor, target: Tensor, num_classes: int | None) -> list[tuple[int, Tensor]]:
    # one sort, where a mask per class would go over all examples for each class
    labels, counts = torch.unique(target, return_counts=True)
    groups = zip(labels.tolist(), loss[target.argsort()].split_with_sizes(counts.tolist()), strict=True)
    return [(label, losses) for label, losses in groups if label >= 0 and (num_classes is None or label < num_classes)]
