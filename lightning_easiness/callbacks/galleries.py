"""Galleries in the loggers: the easiest and the hardest examples, those that changed most, and suspicious labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_easiness._utils.lightning import log_step
from lightning_easiness._utils.rng import OwnGenerators, isolated_rng
from lightning_easiness._utils.warnings import warn_once
from lightning_easiness.callbacks.history import History
from lightning_easiness.callbacks.sinks import sinks_of
from lightning_easiness.data.class_names import class_names
from lightning_easiness.data.observation import Observation
from lightning_easiness.view.galleries import gallery, predicted_probability
from lightning_easiness.view.images import NoImageError
from lightning_easiness.view.words import ClassNamer, count_of, in_digits


@dataclass(frozen=True)
class _Gallery:
    """Which examples are shown, most extreme first, under which title, and the number below each."""

    name: str
    indices: list[int]
    title: str
    number: Callable[[int], str]
    what: str


def log_galleries(
    trainer: Any,
    dataset: Any,
    observation: Observation,
    history: History,
    whole_history: History,
    num_images: int = 12,
    names: Sequence[str] | None = None,
) -> None:
    """Log `num_images` examples of each kind to every logger that takes images.

    The tags are "easiness/<series>/easiest", "/hardest", "/most_changed", from the second checkpoint of the series on,
    and "/suspects", by the mean margin over `whole_history`. A data set without images is passed over, with one
    warning. `names` are those of the classes, by default those that the data set lists.
    """
    writers = [sink.image for sink in sinks_of(trainer) if sink.image is not None]
    if num_images < 1 or not writers:
        return
    captions = _Captions(observation, ClassNamer(names or class_names(dataset)))
    for one in _galleries(observation, history, whole_history, num_images):
        title = f"{one.title}\n{observation.series}: {captions.words}, {one.what}"
        with isolated_rng(), OwnGenerators(dataset):
            image = _drawn(dataset, one.indices, [captions(index, one.number(index)) for index in one.indices], title)
        if image is None:
            return
        for write in writers:
            write(f"easiness/{observation.series}/{one.name}", image, log_step(trainer))


def _galleries(observation: Observation, history: History, whole: History, num_images: int) -> Iterator[_Gallery]:
    loss, after = observation.fields["loss"], f"after {count_of(observation.step, 'step')}"
    num_known = int((~loss.isnan()).sum())
    if not num_known:
        return
    among = f"of {num_known:,} {after}"
    value: Callable[[int], str] = lambda index: in_digits(float(loss[index]))  # noqa: E731
    yield _Gallery("hardest", _largest(loss, num_images), f"Hardest {among}", value, "loss")
    yield _Gallery("easiest", _largest(-loss, num_images), f"Easiest {among}", value, "loss")
    change = history.change
    if change is not None:
        yield _most_changed(history, change, num_images, after)
    if "margin" in observation.fields and len(whole.area_under_margin) == len(loss):
        yield _suspects(whole, num_images, after)


def _most_changed(history: History, change: Tensor, num_images: int, after: str) -> _Gallery:
    shown = _largest(change.abs(), num_images)
    before, now = (torch.zeros(0) if values is None else values for values in (history.loss_before, history.loss))
    if history.is_probability:
        before, now = (-before).exp(), (-now).exp()
    what = f"{'probability of the label' if history.is_probability else 'loss'} before and now"
    return _Gallery(
        "most_changed",
        shown,
        f"Most changed since the last pass, {after}",
        lambda index: f"{in_digits(float(before[index]))} to {in_digits(float(now[index]))}",
        what,
    )


def _suspects(whole: History, num_images: int, after: str) -> _Gallery:
    scores = whole.area_under_margin
    return _Gallery(
        "suspects",
        _largest(-scores, num_images),
        f"Suspicious labels {after}",
        lambda index: in_digits(float(scores[index])),
        f"mean margin over {count_of(whole.num_checkpoints, 'checkpoint')}, low is suspicious",
    )


def _largest(values: Tensor, count: int) -> list[int]:
    known = ~values.isnan()
    found: list[int] = values.masked_fill(~known, -torch.inf).topk(min(count, int(known.sum()))).indices.tolist()
    return found


class _Captions:
    """Writes the index, the label and what is predicted how surely below an image."""

    def __init__(self, observation: Observation, name: ClassNamer) -> None:
        self._fields, self._target, self._name = observation.fields, observation.target, name
        self._is_sure = observation.loss_name == "cross_entropy" and "margin" in observation.fields
        predicted = "predicted one (probability)" if self._is_sure else "predicted label"
        self.words = "index, label" + (f", {predicted}" if "prediction" in observation.fields else "")

    def __call__(self, index: int, number: str) -> str:
        label = -1 if self._target is None else int(self._target[index])
        predicted = int(self._fields["prediction"][index]) if "prediction" in self._fields else -1
        if predicted < 0:
            return f"#{index}  {self._name(label)}\n{number}"
        loss, margin = (float(self._fields[name][index]) if self._is_sure else 0.0 for name in ("loss", "margin"))
        probability = predicted_probability(loss, margin) if self._is_sure else None
        return f"#{index}\n{self._name.with_prediction(label, predicted, probability)}\n{number}"


def _drawn(dataset: Any, shown: Sequence[int], captions: Sequence[str], title: str) -> Tensor | None:
    try:
        return gallery(dataset, shown, captions, title)
    except NoImageError as error:
        warn_once(f"{error} Numbers, histograms and the data map are logged without images.")
    except Exception as error:  # images are for show: a file that cannot be read now stops no training
        warn_once(f"Images could not be read ({type(error).__name__}: {error}); the rest is logged without them.")
    return None
