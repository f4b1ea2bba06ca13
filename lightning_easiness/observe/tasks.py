"""`Task`: what is computed of each example; recognised at the first batch of a fit and kept for all of it.

How the module's outputs become the logits that a task takes is a `Reading`'s, which may differ between the training
step and an evaluation pass.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from lightning_easiness._utils.blocks import count_where
from lightning_easiness.data.identity import UNKNOWN_TARGET
from lightning_easiness.functional import (
    dense_loss,
    dense_margin,
    el2n,
    margin,
    multi_label_loss,
    multi_label_margin,
    soft_cross_entropy,
)
from lightning_easiness.functional.sample_easiness import DEFAULT_SIGMA2, draw_seeds, easiness_and_weakest
from lightning_easiness.functional.targets import IGNORE_INDEX
from lightning_easiness.observe.batch_reader import kind_of

ONLINE_FIELDS = ("loss", "correct", "margin")
PROBE_FIELDS = ("loss", "correct", "margin", "sample_easiness", "weakest_comparison", "el2n")
PREDICTION = "prediction"  # the class, int16, always where an example has one of at most so many:
MOST_CLASSES = 2**15
PROBABILITIES = "probabilities"  # a row per example, float16 (B, K): summed, and no field of a record
UNLABELLED, OUTSIDE = MARKS = ("unlabelled", "outside")  # of an example, (B,): summed, and no field of a record

OUTSIDE_TARGET = -(2**40)  # no class at all, and no number to name
UNSEEN_TARGET = OUTSIDE_TARGET - 1  # both until a pass or an epoch is over; small enough to be added up over processes


@dataclass(frozen=True)
class Task:
    """What one value per example is computed from.

    Attributes:
        loss_name: Name of the loss in the record.
        num_classes: K where an example has one class of K, else None.
        ignored: Class indices that mean that there is no label.
        sigma2: Noise variance of sample easiness.
        num_draws: Draws by which sample easiness is counted; None where it is exact.
        fields: Those of PROBE_FIELDS that the task has.
        marks: Those of MARKS that it observes of each example.
    """

    loss_name: str
    num_classes: int | None = None
    ignored: tuple[int, ...] = (IGNORE_INDEX,)
    sigma2: float = DEFAULT_SIGMA2
    num_draws: int | None = None
    fields: ClassVar[tuple[str, ...]] = ("loss",)
    marks: ClassVar[tuple[str, ...]] = ()
    valid: ClassVar[str] = ""  # what its targets are, for an error
    read_as: ClassVar[str] = ""  # the same for a line at the start; nothing where it is the ordinary case

    def observe(
        self, outputs: Any, target: Any, size: int, fields: Collection[str], seeds: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """Compute those of the fields that the task has, (B,) each, without synchronising with the device.

        "target" is int64 where an example has one class, with what is no class of the model as it is given. The user's
        own loss is a `Reading`'s. `seeds` are those of each example's draws, from `draw_seeds`.
        """
        labels = class_indices(target, size)  # they identify the data, whatever the loss makes of them
        return {} if labels is None else {"target": labels}

    def draw_seeds(self, index: Tensor, num_epochs: int) -> list[int] | None:
        """Return the seed of each example's draws after some epochs, `index` int64 (B,) on the CPU; None if exact."""
        return None if self.num_draws is None else draw_seeds(index.tolist(), num_epochs)

    def settle(
        self, fields: Mapping[str, Tensor], target: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor | None, Tensor | None]:
        """Return the fields of all examples without marks, their targets, and which have no label; None for all.

        Fields are NaN, and the target -1, where an example has no label.

        Raises:
            ValueError: If a target is none of the task's; the first example is named.
        """
        settled = {name: values for name, values in fields.items() if name not in MARKS}
        unlabelled = self._unlabelled(fields, target)
        self._check(target, fields.get(OUTSIDE), unlabelled)
        if unlabelled is not None:
            for name, values in settled.items():
                if name == "correct" or values.is_floating_point():
                    settled[name] = values.masked_fill(unlabelled, False if name == "correct" else torch.nan)
        if target is not None:
            target = target.clamp(min=UNKNOWN_TARGET)
            target = target if unlabelled is None else target.masked_fill(unlabelled, UNKNOWN_TARGET)
        return settled, target, unlabelled

    def _unlabelled(self, fields: Mapping[str, Tensor], target: Tensor | None) -> Tensor | None:
        found = fields[UNLABELLED] > 0 if UNLABELLED in fields else None
        return found if found is not None and bool(found.any()) else None

    def _check(self, target: Tensor | None, outside: Tensor | None, unlabelled: Tensor | None) -> None:
        wrong = [] if outside is None else (outside > 0).nonzero()[:, 0].tolist()
        if wrong:
            raise ValueError(_other_targets(self.valid, len(wrong), wrong[0]))

    @property
    def about(self) -> str:
        """What was recognised, for a line at the start."""
        return self.read_as

    def state(self) -> dict[str, Any]:
        """Return the task as plain types."""
        return {"task": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class ClassTask(Task):
    """One class of K per example; a single output is the logit of the second of two classes.

    Attributes:
        encoding: Of the targets: "index", "float" (0. and 1. for two classes) or "one_hot" (B, K).
    """

    encoding: str = "index"
    fields: ClassVar[tuple[str, ...]] = PROBE_FIELDS

    def observe(
        self, outputs: Any, target: Any, size: int, fields: Collection[str], seeds: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """Compute the fields of logits (B, K)."""
        labels = class_indices(target, size) if self.encoding == "index" else self._decoded(outputs, target, size)
        if labels is None or outputs.shape[1] != self.num_classes:
            raise other_shape(outputs, target)
        return {"target": labels, **self._of_classes(outputs, labels, fields, seeds)}

    @property
    @override
    def about(self) -> str:
        return _ENCODINGS_READ_AS.get(self.encoding, "")

    def _decoded(self, outputs: Any, target: Any, size: int) -> Tensor:
        """Return float or one-hot targets as class indices, int64 (B,); OUTSIDE_TARGET for what is none."""
        if self.encoding == "one_hot":
            return _of_one_hot(_like(target, outputs))
        given = target.detach().reshape(size)
        labels: Tensor = (given == 1).long()
        return labels.masked_fill((given != 0) & (given != 1), OUTSIDE_TARGET)

    def _of_classes(
        self, logits: Tensor, labels: Tensor, fields: Collection[str], seeds: Sequence[int] | None
    ) -> dict[str, Tensor]:
        # a target out of range would abort the whole device; it is clamped here and reported when the pass is over
        clamped = labels.clamp(0, logits.shape[1] - 1)
        margins = margin(logits, clamped)
        # argmax takes NaN for the largest, which would make a model that diverged right on one class
        predicted = logits.argmax(1).masked_fill_(margins.isnan(), -1)
        observed = {"correct": predicted == clamped, "margin": margins}
        if logits.shape[1] <= MOST_CLASSES:
            observed[PREDICTION] = predicted.short()
        if "loss" in fields:
            observed["loss"] = F.cross_entropy(logits, clamped, reduction="none")
        if "sample_easiness" in fields or "weakest_comparison" in fields:
            pair = easiness_and_weakest(logits, clamped, self.sigma2, self.num_draws, seeds)
            found = dict(zip(("sample_easiness", "weakest_comparison"), pair, strict=True))
            observed |= {name: values for name, values in found.items() if name in fields}
        if "el2n" in fields:
            observed["el2n"] = el2n(logits, clamped)
        if PROBABILITIES in fields:
            observed[PROBABILITIES] = logits.softmax(1).half()
        return observed

    @override
    def settle(
        self, fields: Mapping[str, Tensor], target: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor | None, Tensor | None]:
        """Do as any task; at once where all that was seen are classes, as a rule: their columns stay as they are."""
        if target is not None and self.num_classes is not None and max(self.ignored, default=-1) < 0:
            low, high = target.aminmax()
            if int(low) >= 0 and int(high) < self.num_classes:
                return dict(fields), target, None
            if int(low) == UNSEEN_TARGET and count_where(self._is_class_or_unseen, target) == len(target):
                return dict(fields), target.clamp(min=UNKNOWN_TARGET), None
        return super().settle(fields, target)

    def _is_class_or_unseen(self, target: Tensor) -> Tensor:
        is_class = (target >= 0) & (target < (self.num_classes or 0))
        return is_class | (target == UNSEEN_TARGET)

    def _unlabelled(self, fields: Mapping[str, Tensor], target: Tensor | None) -> Tensor | None:
        if target is None or not self.ignored or (int(target.min()) >= 0 > max(self.ignored)):
            return None
        found = torch.isin(target, torch.tensor(self.ignored))
        return found if bool(found.any()) else None

    def _check(self, target: Tensor | None, outside: Tensor | None, unlabelled: Tensor | None) -> None:
        if target is not None and self.num_classes is not None:
            known = target != UNSEEN_TARGET if unlabelled is None else (target != UNSEEN_TARGET) & ~unlabelled
            check_classes(target, self.num_classes, known, self.encoding)


@dataclass(frozen=True)
class SoftTask(ClassTask):
    """A distribution over K classes per example, (B, K); `correct` and so on go by its most probable class."""

    encoding: str = "soft"

    def observe(
        self, outputs: Any, target: Any, size: int, fields: Collection[str], seeds: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """Compute the fields of logits (B, K)."""
        given = _like(target, outputs)
        is_distribution = ((given.sum(1) - 1).abs() <= SUM_TOLERANCE) & (given.amin(1) >= -SUM_TOLERANCE)
        labels = given.argmax(1)
        others = [name for name in fields if name not in ("loss", "el2n")]
        observed = self._of_classes(outputs, labels, others, seeds)
        if "loss" in fields:
            observed["loss"] = soft_cross_entropy(outputs, given)
        if "el2n" in fields:
            observed["el2n"] = torch.linalg.vector_norm(outputs.softmax(1) - given, dim=1)
        return {"target": labels.masked_fill(~is_distribution, OUTSIDE_TARGET), **observed}


@dataclass(frozen=True)
class MultiLabelTask(Task):
    """Any number of K labels per example: targets (B, K) of 0 and 1."""

    fields: ClassVar[tuple[str, ...]] = ONLINE_FIELDS
    marks: ClassVar[tuple[str, ...]] = (OUTSIDE,)
    valid: ClassVar[str] = "0 and 1, as the labels of the first batch were"
    read_as: ClassVar[str] = "targets of 0 and 1 as any number of labels per example"

    def observe(
        self, outputs: Any, target: Any, size: int, fields: Collection[str], seeds: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """Compute the fields of logits (B, K)."""
        given = _like(target, outputs)
        margins = multi_label_margin(outputs, given)
        observed = {
            "correct": ((outputs > 0) == (given > 0)).all(1) & ~margins.isnan(),
            "margin": margins,
            OUTSIDE: ((given != 0) & (given != 1)).any(1),
        }
        if "loss" in fields:
            observed["loss"] = multi_label_loss(outputs, given)
        return observed


@dataclass(frozen=True)
class DenseTask(Task):
    """One class of K at each position of an example, a step of a sequence or a pixel; some may have no label."""

    fields: ClassVar[tuple[str, ...]] = ONLINE_FIELDS
    marks: ClassVar[tuple[str, ...]] = MARKS
    valid: ClassVar[str] = "classes of the model or its ignore_index at every position"
    read_as: ClassVar[str] = "one class per position of an example, averaged over its labelled positions"

    def observe(
        self, outputs: Any, target: Any, size: int, fields: Collection[str], seeds: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """Compute the fields of logits (B, K, P)."""
        given = target.detach().reshape(size, -1)
        if given.shape != (size, outputs.shape[2]):
            raise other_shape(outputs, target)
        labels = given.long()
        labelled = _is_none_of(labels, self.ignored)
        inside = (labels >= 0) & (labels < outputs.shape[1])
        if given.is_floating_point():
            inside = inside & (given == labels)
        counted = labels.masked_fill(~(labelled & inside), IGNORE_INDEX)
        margins = dense_margin(outputs, counted)
        right = (outputs.argmax(1) == counted) | (counted == IGNORE_INDEX)
        observed = {
            "correct": right.all(1) & ~margins.isnan(),
            "margin": margins,
            UNLABELLED: ~labelled.any(1),
            OUTSIDE: (labelled & ~inside).any(1),
        }
        if "loss" in fields:
            observed["loss"] = dense_loss(outputs, counted)
        return observed


@dataclass(frozen=True)
class RegressionTask(Task):
    """A float target of the output's shape: the squared error, averaged over everything but the examples."""

    read_as: ClassVar[str] = "float targets as numbers to predict"

    def observe(
        self, outputs: Any, target: Any, size: int, fields: Collection[str], seeds: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """Compute the loss."""
        given, found = target.detach().to(outputs.dtype).reshape(size, -1), outputs.reshape(size, -1)
        if given.shape != found.shape:
            raise other_shape(outputs, target)
        return {"loss": (found - given).square().mean(1)} if "loss" in fields else {}


TASKS: dict[str, type[Task]] = {
    kind.__name__: kind for kind in (Task, ClassTask, SoftTask, MultiLabelTask, DenseTask, RegressionTask)
}
SUM_TOLERANCE = 1e-2  # of a sum of probabilities, which may be rounded to half precision
_ENCODINGS_READ_AS = {
    "float": "targets of 0. and 1. as two classes",
    "one_hot": "one-hot targets as one class per example",
    "soft": "targets that add up to one as distributions over the classes",
}


def restore_task(state: Mapping[str, Any]) -> Task:
    """Return the task that `Task.state` returned."""
    values = {name: value for name, value in state.items() if name != "task"}
    return TASKS[state["task"]](**{**values, "ignored": tuple(values["ignored"])})


def class_indices(target: Any, size: int) -> Tensor | None:
    """Return integer targets as int64 (B,); None where they are something else."""
    if not isinstance(target, Tensor) or target.is_floating_point() or target.is_complex():
        return None
    if target.ndim == 2 and target.shape[1] == 1:
        target = target.squeeze(1)
    return target.detach().to(torch.int64) if target.shape == (size,) else None


def check_classes(target: Tensor, num_classes: int, known: Tensor, encoding: str = "index") -> None:
    """Raise a ValueError that names the first of the known targets (N,) that is no class of the model."""
    wrong = (known & ((target < 0) | (target >= num_classes))).nonzero()[:, 0].tolist()
    if not wrong:
        return
    value = int(target[wrong[0]])
    if encoding != "index":
        valid = {"float": "0. and 1.", "one_hot": "one-hot", "soft": "distributions over the classes"}[encoding]
        raise ValueError(_other_targets(f"{valid}, as those of the first batch were", len(wrong), wrong[0]))
    raise ValueError(
        f"The targets of {len(wrong)} examples are outside the model's classes 0 to {num_classes - 1}, the first is"
        f" example {wrong[0]} with target {value}: fix them, or pass a batch_fn that maps them, to {IGNORE_INDEX} where"
        " there is no label."
    )


def _other_targets(valid: str, count: int, first: int) -> str:
    return (
        f"The targets of {count} examples are not {valid}, the first is example {first}: fix them, or, if the task is"
        " another one, pass loss_fn=lambda output, target: losses, with one loss per example."
    )


def _of_one_hot(given: Tensor) -> Tensor:
    is_one_hot = (given.amax(1) == 1) & (given.amin(1) == 0) & (given.sum(1) == 1)
    return given.long().argmax(1).masked_fill(~is_one_hot, OUTSIDE_TARGET)


def _is_none_of(values: Tensor, ignored: tuple[int, ...]) -> Tensor:
    found = values != ignored[0]
    for index in ignored[1:]:
        found = found & (values != index)
    return found


def _like(target: Any, outputs: Tensor) -> Tensor:
    """Return targets of the shape of the outputs in their dtype."""
    if not isinstance(target, Tensor) or target.shape != outputs.shape:
        raise other_shape(outputs, target)
    return target.detach().to(outputs.dtype)


def other_shape(outputs: Any, target: Any) -> ValueError:
    """Return the error for a batch whose shapes are not those of the fit's first batch."""
    return ValueError(
        f"Outputs {kind_of(outputs)} and targets {kind_of(target)} of a batch do not belong together as those of the"
        " first batch did: pass loss_fn=lambda output, target: losses, with one loss per example."
    )
