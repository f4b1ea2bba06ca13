"""The sentences for outputs and targets that are not understood, each with the line to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_easiness.functional.targets import IGNORE_INDEX
from lightning_easiness.observe.batch_reader import kind_of
from lightning_easiness.observe.forward import UncallablePartError

_OF_OTHER_INPUTS = (TypeError, ValueError, RuntimeError, AttributeError, LookupError, AssertionError)
_MOST_LISTED = 8  # items of a batch

LOSS_FN = "loss_fn=lambda output, target: losses, with one loss per example"
FROM_ONE = "batch_fn=lambda batch: (batch[0], batch[1] - 1)"
# with the shapes made alike, as (B, 1) less (B,) is (B, B)
MSE = "loss_fn=lambda output, target: (output - target.reshape(output.shape)).square().reshape(len(output), -1).mean(1)"
BCE = (
    "loss_fn=lambda output, target: torch.nn.functional.binary_cross_entropy_with_logits(output,"
    " target.reshape(output.shape).float(), reduction='none').reshape(len(output), -1).mean(1)"
)

NO_PROBABILITIES = (
    "EasinessCallback(probabilities=True) averages the softmax of logits (B, classes), which only examples with one"
    " class each have, not sequences, pixels, several labels or numbers, and the training step shows no such logits and"
    " targets: set probabilities=False, or see `logits_fn`, `module` and `batch_fn`."
)


def out_of_range(labels: Tensor, wrong: Tensor, num_classes: int, index: Tensor | None) -> str:
    """Return the sentence for labels (B, ...) that are no classes at the positions `wrong`; `index` is the batch's."""
    value, position = int(labels[tuple(wrong[0].tolist())]), int(wrong[0, 0])
    where = f"number {position} of it" if index is None else f"example {int(index[position])}"
    mapped = f"batch_fn=lambda batch: (batch[0], batch[1].masked_fill(batch[1] == {value}, {IGNORE_INDEX}))"
    if num_classes == int(labels.max()) and int(labels[labels >= 0].min()) == 1:
        return (
            f"The targets of the first batch are 1 to {num_classes}, but the model's classes are 0 to"
            f" {num_classes - 1}: if they count from 1, pass {FROM_ONE}, and if {num_classes} means that there is no"
            f" label, {mapped}."
        )
    numbers = f", or, if they are numbers to predict, {MSE}" if num_classes == 2 and labels.ndim == 1 else ""
    return (
        f"The targets of {len(set(wrong[:, 0].tolist()))} of the first batch's {len(labels)} examples are outside the"
        f" model's classes 0 to {num_classes - 1}, the first is {where} with target {value}: fix them, or, if {value}"
        f" means that there is no label, pass {mapped}{numbers}."
    )


def either_dimension(outputs: Tensor, target: Tensor) -> str:
    """Return the sentence for classes that may be in dimension 1 or in the last one."""
    return (
        f"The classes of outputs {tuple(outputs.shape)} with targets {tuple(target.shape)} may be in dimension 1 or in"
        " the last: pass logits_fn=lambda output: output if they are in dimension 1, and logits_fn=lambda output:"
        " output.movedim(-1, 1) if they are last."
    )


def unshifted() -> str:
    """Return the sentence for targets that are the inputs."""
    return (
        "The targets are the inputs, as language models take them that shift them by one themselves, so each position"
        " would be scored for its own token: pass logits_fn=lambda output: output.logits[:, :-1] and batch_fn=lambda"
        " batch: (batch, batch['labels'][:, 1:])."
    )


def other_integers(target: Tensor) -> str:
    """Return the sentence for integer targets of the outputs' shape that are more than 0 and 1."""
    value = target[(target != 0) & (target != 1)].flatten()[0]
    return (
        f"Targets {kind_of(target)} have the shape of the outputs, as labels of 0 and 1 would, but hold {int(value)}:"
        f" pass {LOSS_FN}."
    )


def numbers_or_probabilities(outputs: Tensor, target: Tensor) -> str:
    """Return the sentence for float targets that may be numbers or probabilities."""
    return (
        f"Targets {kind_of(target)} beside outputs {kind_of(outputs)} may be numbers to predict or probabilities: pass"
        f" {MSE} for numbers, and {BCE} for probabilities."
    )


def two_targets(length: int, position: int) -> str:
    """Return the sentence for a batch with another item that may be the targets."""
    return (
        f"The second and the item number {position + 1} of a batch of {length} may both be the classes: pass"
        f" batch_fn=lambda batch: (batch[0], batch[1]), or (batch[0], batch[{position}])."
    )


def not_called(error: Exception, inputs: Any, batch: Any) -> Exception:
    """Return the error for a module that raised one when it was called with the inputs of a batch."""
    if not isinstance(error, _OF_OTHER_INPUTS) or isinstance(error, (UncallablePartError, torch.OutOfMemoryError)):
        return error
    return RuntimeError(
        f"The module raised {type(error).__name__} ({error}) when it was called with {_listed(inputs)} out of a batch"
        f" that is {_listed(batch)}: pass batch_fn=lambda batch: (inputs, targets), with the inputs that forward takes."
    )


def _listed(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_listed(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (tuple, list)) and len(value) <= _MOST_LISTED:
        return f"({', '.join(_listed(part) for part in value)})"
    return kind_of(value)


def several(prediction: tuple[Any, ...]) -> ValueError:
    """Return the error for several tensors that could be the logits."""
    shapes = {f"output[{at}]": tuple(part.shape) for at, part in enumerate(prediction) if isinstance(part, Tensor)}
    found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    return ValueError(
        f"The module returns several tensors that may be the logits ({found}): pass the one that they are,"
        f" logits_fn=lambda output: {' or '.join(shapes)}."
    )


def lacks_fields(owner: str, lacking: Sequence[str], loss_name: str) -> str:
    """Return the sentence for fields that a task does not have."""
    return (
        f"{owner} goes by {' and '.join(lacking)}, which examples with one class each have, but not the task that was"
        f" recognised, of loss '{loss_name}': go by the loss, or pass batch_fn, a function that returns class indices"
        " (B,) as targets."
    )


def not_understood(prediction: Any, target: Any) -> TypeError:
    """Return the error for outputs and targets that are of no task."""
    return TypeError(
        f"EasinessCallback does not know what output {_shown(prediction)} and targets {kind_of(target)} are: pass"
        f" logits_fn or batch_fn to find logits (B, classes) and class indices (B,), or, for another task, {LOSS_FN}."
    )


def _shown(prediction: Any) -> str:
    if isinstance(prediction, tuple):
        return f"({', '.join(kind_of(part) for part in prediction)})"
    return kind_of(prediction)
