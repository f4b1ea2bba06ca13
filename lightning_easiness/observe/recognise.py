"""The task and the reading of a fit, recognised from its first batch; what is not understood is refused.

Each refusal is one sentence with the line to write. docs/inputs.md says the same for users.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.observe.batch_reader import BatchReader, kind_of
from lightning_easiness.observe.endings import MIXED, SIGMOID, SOFTMAX
from lightning_easiness.observe.evidence import CLASSES, LABELS, REGRESSION, Evidence
from lightning_easiness.observe.links import link_of
from lightning_easiness.observe.reading import AS_LOGITS, Reading, check_size
from lightning_easiness.observe.refusals import (
    BCE,
    LOSS_FN,
    either_dimension,
    not_understood,
    numbers_or_probabilities,
    other_integers,
    out_of_range,
    several,
    two_targets,
    unshifted,
)
from lightning_easiness.observe.tasks import (
    MOST_CLASSES,
    SUM_TOLERANCE,
    ClassTask,
    DenseTask,
    MultiLabelTask,
    RegressionTask,
    SoftTask,
    Task,
    class_indices,
)


class Recogniser:
    """Recognises the task of outputs and targets for one reader, with what the module and the data say."""

    def __init__(self, reader: BatchReader, evidence: Evidence | None = None, index: Tensor | None = None) -> None:
        self._reader, self._evidence = reader, evidence or Evidence()
        self._index = index  # of the batch's examples, for errors; None where it is not known

    def read(
        self,
        prediction: Any,
        target: Any,
        size: int,
        ending: Any = None,
        inputs: Any = None,
        like: Reading | None = None,
    ) -> Reading:
        """Return how the outputs are read.

        Args:
            prediction: What `BatchReader.prediction` returned: a tensor, or a tuple with several.
            target: The targets of the batch.
            size: Number of examples in it, B.
            ending: What `endings_of` said of the prediction.
            inputs: The inputs of the batch, where they are known.
            like: How the outputs of another place are read, whose task this is; None to recognise it.

        Raises:
            TypeError, ValueError: If the task is not understood, or could be several.
        """
        if self._reader.loss_fn is not None:
            alone = self._by_loss_fn(prediction, target, size)
            return alone if like is None else replace(alone, task=like.task)
        if not isinstance(prediction, tuple):
            if isinstance(prediction, Tensor):
                check_size(prediction, size)
            return self._of(prediction, target, size, ending, inputs, like)
        found, problems = [], []
        for position, (part, its) in enumerate(zip(prediction, ending or [None] * len(prediction), strict=True)):
            if isinstance(part, Tensor) and part.is_floating_point() and part.ndim and len(part) == size:
                try:
                    found.append(replace(self._of(part, target, size, its, inputs, like), position=position))
                except (TypeError, ValueError) as problem:
                    problems.append(problem)
        if not found:
            raise problems[0] if problems else not_understood(prediction, target)
        return found[0] if len(found) == 1 else self._by_count(found, prediction)

    def _by_loss_fn(self, prediction: Any, target: Any, size: int) -> Reading:
        """Return the user's loss, beside the fields of classes where the targets are class indices."""
        reader = self._reader
        if isinstance(prediction, tuple) and reader.logits_fn is None:
            raise several(prediction)
        if isinstance(prediction, Tensor):
            check_size(prediction, size)
        alone = Reading(Task(reader.loss_name), reader.loss_fn)
        labels = class_indices(target, size)
        if labels is None or not _is_float(prediction) or prediction.ndim > 2:
            return alone
        num_outputs = 1 if prediction.ndim == 1 else prediction.shape[1]
        task = self._class_task(max(2, num_outputs))
        if num_outputs == 1 and self._outside(labels, 2) is not None:
            return alone  # as counts are, or -1 and 1
        return replace(alone, task=replace(task, loss_name=reader.loss_name))

    def _by_count(self, found: list[Reading], prediction: tuple[Any, ...]) -> Reading:
        """Return the one of several readings whose number of outputs is the known number of classes."""
        counts = self._evidence.class_counts()
        fitting = [reading for reading in found if _width(reading, prediction) in counts]
        if len(fitting) != 1:
            raise several(prediction)
        width = _width(fitting[0], prediction)
        return replace(fitting[0], why=f"whose {width} outputs fit {counts[width]}")

    def _of(
        self, prediction: Any, target: Any, size: int, ending: str | None, inputs: Any, like: Reading | None
    ) -> Reading:
        if not _is_float(prediction) or not isinstance(target, Tensor) or target.is_complex():
            raise not_understood(prediction, target)
        if like is None:
            task, axis = self._task(prediction, target, size, ending)
        else:
            task, axis = like.task, self._known_axis(like, prediction, target)
        if isinstance(task, DenseTask):
            self._check_shifted(target, inputs, task)
        trusted = AS_LOGITS if self._reader.logits_fn is not None else None
        link = link_of(task, prediction, axis, ending, trusted if like is None else like.link)
        reading = Reading(task, axis=axis, link=link)
        if like is not None:
            reading.observe(prediction, target, size, fields=())  # refuses what is not of the task
        return reading

    def _known_axis(self, like: Reading, p: Tensor, target: Tensor) -> int:
        if not isinstance(like.task, DenseTask) or target.ndim == 0:
            return 1
        return self._axis(p, _without_channel(p, target), like.axis if p.ndim > 2 else None)

    # ------------------------------------------------------------------ the task of a tensor

    def _task(self, p: Tensor, target: Tensor, size: int, ending: str | None) -> tuple[Task, int]:
        if target.ndim == 0 or len(target) != size:
            raise not_understood(p, target)
        if target.is_floating_point():
            return self._of_floats(p, target, ending)
        labels = class_indices(target, size)
        if labels is not None and p.ndim <= 2:
            return self._of_indices(p, labels), 1
        if target.shape == p.shape and p.ndim == 2:
            return self._of_zeros_and_ones(p, target, ending), 1
        return self._of_positions(p, target)

    def _of_indices(self, p: Tensor, labels: Tensor) -> Task:
        num_classes = max(2, _num_outputs(p))
        wrong = self._outside(labels, num_classes)
        if wrong is not None:
            raise ValueError(out_of_range(labels, wrong, num_classes, self._index))
        return self._class_task(num_classes)

    def _class_task(self, num_classes: int, encoding: str = "index") -> ClassTask:
        ignored = self._evidence.ignored if encoding == "index" else ()
        return ClassTask("cross_entropy", num_classes, ignored, *self._easiness, encoding)

    @property
    def _easiness(self) -> tuple[float, int | None]:
        return self._reader.sigma2, self._reader.num_draws

    def _outside(self, labels: Tensor, num_classes: int) -> Tensor | None:
        """Return the positions of labels that are neither classes nor to be ignored; None for none."""
        labels = labels.detach().cpu().long()
        ignored = torch.isin(labels, torch.tensor(self._evidence.ignored))
        wrong = (~ignored & ((labels < 0) | (labels >= num_classes))).nonzero()
        return wrong if len(wrong) else None

    def _of_positions(self, p: Tensor, target: Tensor) -> tuple[Task, int]:
        """Return the task of sequences and pixels, and the dimension of the classes."""
        if p.ndim < 3:
            raise not_understood(p, target)
        target = _without_channel(p, target)
        axis = self._axis(p, target)
        num_classes = max(2, p.shape[axis])
        wrong = self._outside(target, num_classes)
        if wrong is not None:
            raise ValueError(out_of_range(target, wrong, num_classes, self._index))
        return self._dense_task(), axis

    def _dense_task(self) -> DenseTask:
        return DenseTask("mean_cross_entropy", None, self._evidence.ignored, *self._easiness)

    def _axis(self, p: Tensor, target: Tensor, known: int | None = None) -> int:
        """Return the dimension of the classes; with a `logits_fn` it is the first after the examples, if it can be."""
        if p.ndim != target.ndim + 1:
            raise not_understood(p, target)
        first = p.shape[2:] == target.shape[1:]
        last = p.shape[1:-1] == target.shape[1:]
        if first and last and known is not None:
            return known
        if first and last and self._reader.logits_fn is None:
            raise ValueError(either_dimension(p, target))
        if not (first or last):
            raise not_understood(p, target)
        return 1 if first else p.ndim - 1

    def _of_floats(self, p: Tensor, target: Tensor, ending: str | None) -> tuple[Task, int]:
        values, kind = target.detach().cpu().double(), self._kind(ending)
        if bool(values.isnan().any()):
            raise ValueError(
                "Float targets of the first batch are NaN: leave those examples out, or pass a function that knows"
                f" them, {LOSS_FN}."
            )
        one_output = p.ndim <= 2 and p.numel() == len(p) == target.numel()
        if not one_output and target.shape != p.shape:
            if target.ndim == 1 and p.ndim == 2 and bool((values == values.round()).all()):
                raise TypeError(
                    f"Targets {kind_of(target)} are whole numbers as floats, beside {p.shape[1]} outputs: if they are"
                    " class indices, pass batch_fn=lambda batch: (batch[0], batch[1].long())."
                )
            if not (p.ndim >= 3 and target.ndim == p.ndim - 1 and p.shape[1] == 1):  # masks without a channel
                raise not_understood(p, target)
        is_binary = bool(((values == 0) | (values == 1)).all())
        if kind == REGRESSION:
            return self._regression(p, target), 1
        if is_binary:
            return self._of_binary_floats(p, target, one_output, ending)
        if target.shape == p.shape and p.ndim == 2 and p.shape[1] > 1 and _are_distributions(values):
            if kind == LABELS:
                raise ValueError(numbers_or_probabilities(p, target))
            return SoftTask("soft_cross_entropy", p.shape[1], (), *self._easiness), 1
        in_unit = bool(((values >= 0) & (values <= 1)).all())
        if kind in (LABELS, CLASSES) or (in_unit and (p.ndim <= 2 or ending in (SIGMOID, SOFTMAX, MIXED))):
            raise ValueError(numbers_or_probabilities(p, target))
        return self._regression(p, target), 1

    def _of_binary_floats(self, p: Tensor, target: Tensor, one_output: bool, ending: str | None) -> tuple[Task, int]:
        if one_output:
            return self._class_task(2, "float"), 1
        if p.ndim == 2:
            return self._of_zeros_and_ones(p, target, ending), 1
        if p.shape[1] != 1:
            raise ValueError(
                f"Targets {kind_of(target)} of 0 and 1 have the shape of the outputs, as several labels per position"
                f" would: pass {BCE}."
            )
        return self._dense_task(), 1

    def _of_zeros_and_ones(self, p: Tensor, target: Tensor, ending: str | None) -> Task:
        """Return the task of targets (B, K), K >= 2: one-hot where each example has one label, else several labels."""
        values, kind = target.detach().cpu(), self._kind(ending)
        if not bool(((values == 0) | (values == 1)).all()):
            raise ValueError(other_integers(target))
        is_one_hot = bool((values.sum(1) == 1).all())
        if is_one_hot and kind != LABELS:
            return self._class_task(p.shape[1], "one_hot")
        if kind == CLASSES:
            raise ValueError(
                "The module's loss is for one class per example, but targets of the first batch have none or several"
                f" labels: pass {BCE} for several labels, or a batch_fn that leaves out what has none."
            )
        return MultiLabelTask("binary_cross_entropy", None, ())

    def _kind(self, ending: str | None) -> str | None:
        """Return what the module's loss, or the end of its outputs, is for."""
        if self._evidence.loss is not None:
            return self._evidence.loss
        return LABELS if ending == SIGMOID else None

    def _regression(self, p: Tensor, target: Tensor) -> Task:
        if p.numel() != target.numel():
            raise not_understood(p, target)
        return RegressionTask("mse_loss")

    def _check_shifted(self, target: Tensor, inputs: Any, task: Task) -> None:
        """Refuse targets that are the inputs, as a language model takes them that shifts them by itself."""
        tensors = list(inputs.values()) if isinstance(inputs, dict) else [inputs]
        for tensor in tensors:
            if not isinstance(tensor, Tensor) or tensor.shape != target.shape or tensor.is_floating_point():
                continue
            labelled = ~torch.isin(target.cpu(), torch.tensor(task.ignored))
            if bool(labelled.any()) and torch.equal(tensor.cpu()[labelled], target.cpu()[labelled]):
                raise ValueError(unshifted())


def announce(reading: Reading, before: Reading | None = None) -> None:
    """Log what was decided, in the first process, once a fit: not what was logged of the reading `before`."""
    logged = () if before is None else before.remarks()
    for remark in reading.remarks():
        if remark not in logged:
            rank_zero_info(remark)
    if before is None and reading.task.num_classes is not None and reading.task.num_classes > MOST_CLASSES:
        warn_user(
            f"The model has {reading.task.num_classes:,} classes, and predictions are recorded of at most"
            f" {MOST_CLASSES:,}, so the record holds none; everything else is recorded."
        )


def check_only_target(batch: Any, task: Task, index: Tensor, known: Tensor | None) -> None:
    """Raise a ValueError where another item of a batch (x, y, ...) may be the class as well as the second.

    `index` are the batch's examples, and `known` the targets that the data set lists, (N,), if it does.
    """
    if not isinstance(batch, (tuple, list)) or not isinstance(task, ClassTask) or task.encoding != "index":
        return
    second = class_indices(batch[1], len(index))
    if known is not None and second is not None and torch.equal(known[index], second.cpu()):
        return
    for position, item in enumerate(batch[2:], start=2):
        labels = class_indices(item, len(index))
        if labels is None or torch.equal(labels.cpu(), index):
            continue
        if int(labels.min()) >= 0 and int(labels.max()) < (task.num_classes or 0):
            raise ValueError(two_targets(len(batch), position))


def _without_channel(p: Tensor, target: Tensor) -> Tensor:
    """Return masks (B, ...) of masks (B, 1, ...), as they often are beside outputs (B, K, ...)."""
    has_channel = target.ndim == p.ndim >= 3 and target.shape[1] == 1 and target.shape[2:] == p.shape[2:]
    return target.squeeze(1) if has_channel else target


def recognise(
    reader: BatchReader, prediction: Any, target: Any, size: int, evidence: Evidence | None = None
) -> Reading:
    """Return how outputs are read, from a first batch of `size` examples: see `Recogniser.read`."""
    return Recogniser(reader, evidence).read(prediction, target, size)


def _is_float(prediction: Any) -> bool:
    return isinstance(prediction, Tensor) and prediction.is_floating_point() and prediction.ndim > 0


def _num_outputs(prediction: Tensor) -> int:
    return 1 if prediction.ndim == 1 else prediction.shape[1]


def _width(reading: Reading, prediction: tuple[Any, ...]) -> int:
    part = prediction[reading.position or 0]
    return 1 if part.ndim == 1 else int(part.shape[reading.axis])


def _are_distributions(values: Tensor) -> bool:
    return bool((values >= 0).all()) and bool(((values.sum(1) - 1).abs() <= SUM_TOLERANCE).all())
