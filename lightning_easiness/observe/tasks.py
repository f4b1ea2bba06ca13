"""`Task`: what is computed of each example; recognised at the first batch of a fit and kept for all of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_easiness.functional import el2n, margin, sample_easiness
from lightning_easiness.functional.sample_easiness import DEFAULT_SIGMA2
from lightning_easiness.observe.batch_reader import BatchReader, kind_of

ONLINE_FIELDS = ("loss", "correct", "margin")
PROBE_FIELDS = ("loss", "correct", "margin", "sample_easiness", "el2n")
PREDICTION = "prediction"  # the class, int16, always where an example has one of at most so many:
MOST_CLASSES = 2**15
PROBABILITIES = "probabilities"  # a row per example, float16 (B, K): summed, and no field of a record


@dataclass(frozen=True)
class Task:
    """What one value per example is computed from.

    Attributes:
        loss_name: Name of the loss in the record.
        num_classes: K where an example has one class of K, else None.
        loss_fn: The user's loss, (prediction, target) -> (B,); None for the task's own.
        fields: Those of PROBE_FIELDS that the task has.
    """

    loss_name: str
    num_classes: int | None = None
    loss_fn: Callable[[Any, Any], Tensor] | None = None
    fields: ClassVar[tuple[str, ...]] = ("loss",)

    def observe(self, prediction: Any, target: Any, size: int, *, fields: Collection[str]) -> dict[str, Tensor]:
        """Compute one value per example of a batch of `size`, without synchronising with the device.

        Args:
            prediction: The module's output, as the user's `logits_fn` or `find_logits` returns it.
            target: The targets of the batch.
            size: Number of examples that the loader put into the batch, B.
            fields: Which of PROBE_FIELDS and PROBABILITIES to compute, where the task has them.

        Returns:
            name -> (B,), float32, `correct` bool; "target" int64 where targets are class indices; PREDICTION int16, -1
            where outputs are NaN; PROBABILITIES float16 (B, K). "loss" is always there.

        Raises:
            TypeError, ValueError: If outputs, targets or losses are not those of the task.
        """
        if isinstance(prediction, Tensor):
            check_size(prediction, size)
        return self._observe(prediction, target, size, fields)

    def _observe(self, prediction: Any, target: Any, size: int, fields: Collection[str]) -> dict[str, Tensor]:
        labels = class_indices(target, size)  # they identify the data, whatever the loss makes of them
        return {**({} if labels is None else {"target": labels}), "loss": self._own_loss(prediction, target, size)}

    def _own_loss(self, prediction: Any, target: Any, size: int) -> Tensor:
        """Return the losses of the user's function."""
        assert self.loss_fn is not None
        return _checked_losses(self.loss_fn(prediction, target), size, self.loss_name)


@dataclass(frozen=True)
class ClassTask(Task):
    """One class of K per example, as an index; a single output is the logit of two classes."""

    sigma2: float = DEFAULT_SIGMA2
    fields: ClassVar[tuple[str, ...]] = PROBE_FIELDS

    def _observe(self, prediction: Any, target: Any, size: int, fields: Collection[str]) -> dict[str, Tensor]:
        labels, logits = class_indices(target, size), as_logits(prediction)
        if labels is None or logits is None:
            raise not_understood(prediction, target)
        return {"target": labels, **self._of_classes(prediction, target, logits, labels, fields)}

    def _of_classes(
        self, prediction: Any, target: Any, logits: Tensor, labels: Tensor, fields: Collection[str]
    ) -> dict[str, Tensor]:
        # a target out of range would abort the whole device; it is clamped here and reported when the pass is over
        clamped = labels.clamp(0, logits.shape[1] - 1)
        margins = margin(logits, clamped)
        # argmax takes NaN for the largest, which would make a model that diverged right on one class
        predicted = logits.argmax(1).masked_fill_(margins.isnan(), -1)
        observed = {"correct": predicted == clamped, "margin": margins}
        if logits.shape[1] <= MOST_CLASSES:
            observed[PREDICTION] = predicted.short()
        if self.loss_fn is None:
            observed["loss"] = F.cross_entropy(logits, clamped, reduction="none")
        else:
            observed["loss"] = self._own_loss(prediction, target, len(labels))
        if "sample_easiness" in fields:
            observed["sample_easiness"] = sample_easiness(logits, clamped, sigma2=self.sigma2)
        if "el2n" in fields:
            observed["el2n"] = el2n(logits, clamped)
        if PROBABILITIES in fields:
            observed[PROBABILITIES] = logits.softmax(1).half()
        return observed


def recognise(reader: BatchReader, prediction: Any, target: Any, size: int) -> Task:
    """Return the task of a fit, from the first batch of `size` examples.

    Raises:
        TypeError: If there are no logits and class indices and the reader has no `loss_fn`.
        ValueError: If outputs are not one per example.
    """
    if isinstance(prediction, Tensor):
        check_size(prediction, size)
    logits = as_logits(prediction)
    if logits is not None and class_indices(target, size) is not None:
        _warn_of_many_classes(logits.shape[1])
        return ClassTask(reader.loss_name, logits.shape[1], reader.loss_fn, reader.sigma2)
    if reader.loss_fn is None:
        raise not_understood(prediction, target)
    return Task(reader.loss_name, loss_fn=reader.loss_fn)


def _warn_of_many_classes(num_classes: int) -> None:
    if num_classes > MOST_CLASSES:
        warnings.warn(
            f"The model has {num_classes:,} classes, and predictions are recorded of at most {MOST_CLASSES:,}, so the"
            " record holds none; everything else is recorded.",
            stacklevel=2,
        )


def class_indices(target: Any, size: int) -> Tensor | None:
    """Return integer targets as int64 (B,); None where they are something else."""
    if not isinstance(target, Tensor) or target.is_floating_point() or target.is_complex():
        return None
    if target.ndim == 2 and target.shape[1] == 1:
        target = target.squeeze(1)
    return target.detach().to(torch.int64) if target.shape == (size,) else None


def as_logits(prediction: Any) -> Tensor | None:
    """Return float logits (B, K); None where there are none. A single output is the logit of two classes."""
    if not isinstance(prediction, Tensor) or not prediction.is_floating_point() or prediction.ndim not in (1, 2):
        return None
    logits = prediction.detach() if prediction.dtype == torch.float64 else prediction.detach().float()
    if logits.ndim == 1:
        logits = logits[:, None]
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def not_understood(prediction: Any, target: Any) -> TypeError:
    """Return the error for outputs and targets that are of no task."""
    return TypeError(
        "EasinessCallback reads logits (B, classes) and class indices (B,); got output"
        f" {kind_of(prediction)} and targets {kind_of(target)}. Pass logits_fn or batch_fn to find them, or"
        " loss_fn, a loss for each example, for another task."
    )


def check_size(prediction: Tensor, size: int) -> None:
    """Raise a ValueError unless there is an output for each of the `size` examples."""
    if prediction.ndim > 0 and prediction.shape[0] == size:
        return
    way_out = (
        "losses cannot be matched to examples; if the module drops or merges examples in training, pass online=False,"
        " and if the logits are elsewhere, `module` or `logits_fn`"
    )
    if prediction.numel() and prediction.ndim > 0 and size and prediction.shape[0] % size == 0:
        way_out = (
            f"there are {prediction.shape[0] // size} outputs per example, as ensembles have; pass logits_fn, a"
            " function that makes them one, (B, classes)"
        )
    raise ValueError(
        f"The model's output has the shape {tuple(prediction.shape)}, but the batch holds {size} examples, so"
        f" {way_out}."
    )


def _checked_losses(losses: Any, size: int, name: str) -> Tensor:
    if not isinstance(losses, Tensor) or losses.shape != (size,):
        shape = tuple(losses.shape) if isinstance(losses, Tensor) else kind_of(losses)
        raise ValueError(
            f"loss_fn ({name}) must return one loss per example, shape ({size},); got {shape}."
            " Use reduction='none' and average over everything but the first dimension."
        )
    return losses.detach().float()


def warn_of_probabilities(task: Task, prediction: Any) -> None:
    """Warn where a model returns probabilities, which would be taken for logits."""
    logits = as_logits(prediction) if isinstance(task, ClassTask) and task.loss_fn is None else None
    if logits is None or logits.shape[1] < 2 or not len(logits) or prediction.ndim != 2:
        return
    ones = torch.ones_like(logits[:, 0])
    if bool((logits >= 0).all()) and torch.allclose(logits.sum(1), ones, atol=1e-2):
        warnings.warn(
            "The model's outputs are not negative and add up to one, as probabilities do, but EasinessCallback"
            " reads logits: pass logits_fn=lambda output: output.log(), or `module`, the part before the softmax.",
            stacklevel=2,
        )
