"""The loss of the first training step against what was recognised: where targets could be read in two ways, it decides.

Losses differ for many good reasons (smoothing, weights, regularisation), so a difference alone is no error: another
reading must give the step's loss, or the number of outputs must be wrong as well.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from torch import Tensor

from lightning_easiness.observe.reading import Reading
from lightning_easiness.observe.refusals import BCE, MSE
from lightning_easiness.observe.tasks import ClassTask, MultiLabelTask, RegressionTask, Task, class_indices

_TOO_MANY = 2  # times as many outputs as classes, as a head may have some for classes that do not occur
_FAR = 2  # times the step's loss
_TOLERANCE = 1e-2  # relative, as a step may be computed in half precision


def contradiction(
    reading: Reading, outputs: Any, target: Any, losses: Tensor, step_loss: float, class_counts: Collection[int]
) -> str | None:
    """Return the sentence for a first step whose loss shows that it was read wrongly; None where it does not.

    Args:
        reading: How the outputs were read.
        outputs: Those of the step, as `BatchReader.prediction` returned them.
        target: The targets of the batch.
        losses: The loss of each example that was computed, (B,).
        step_loss: The loss that the training step returned.
        class_counts: The numbers of classes that the module or the data name.
    """
    own = float(losses.nanmean())
    if reading.loss_fn is not None or not math.isfinite(own + step_loss) or _is_close(own, step_loss):
        return None
    name = reading.task.loss_name
    numbers = f"the first training step's loss is {step_loss:.4g}, but the mean of loss '{name}' {own:.4g}"
    other = _other_task(reading.task)
    if other is not None:
        raw = outputs[reading.position] if reading.position is not None else outputs
        mean = float(Reading(other).observe(raw, target, len(losses), fields=())["loss"].mean())
        if _is_close(mean, step_loss):
            line = BCE if isinstance(other, MultiLabelTask) else MSE
            about = f"Targets {_about(reading.task)} are of another task"
            return f"{about}, as {numbers}, and '{other.loss_name}' fits: pass {line}."
    num_classes, most = reading.task.num_classes, max(class_counts, default=0)
    if num_classes is not None and most and num_classes >= _TOO_MANY * most:
        return (
            f"EasinessCallback reads {num_classes} outputs, but there are {most} classes, and {numbers}: pass"
            " the name of the part that returns the logits, module='head', or logits_fn=lambda output: output if they"
            " are the logits."
        )
    return None


def doubt(reading: Reading, target: Any, losses: Tensor, step_loss: float) -> str | None:
    """Return a sentence where nothing names the classes, but outputs and loss look like those of embeddings."""
    own, num_classes = float(losses.nanmean()), reading.task.num_classes
    labels = class_indices(target, len(losses))
    if num_classes is None or labels is None or reading.loss_fn is not None or not own > _FAR * abs(step_loss):
        return None
    most = int(labels.max()) + 1
    if num_classes < _TOO_MANY * most:
        return None
    return (
        f"EasinessCallback reads {num_classes} outputs, but the first batch has {most} classes, and its loss in"
        f" training is {step_loss:.4g}, but the mean of loss '{reading.task.loss_name}' {own:.4g}: if the outputs are"
        " no logits, pass the name of the part that returns those, module='head'."
    )


def _other_task(task: Task) -> Task | None:
    """Return what else targets of this kind could be."""
    if isinstance(task, ClassTask) and task.encoding == "one_hot":
        return MultiLabelTask("binary_cross_entropy", None, ())
    if isinstance(task, MultiLabelTask) or (isinstance(task, ClassTask) and task.encoding == "float"):
        return RegressionTask("mse_loss")
    return None


def _about(task: Task) -> str:
    return "of 0 and 1" if isinstance(task, MultiLabelTask) or task.num_classes == 2 else "that look one-hot"


def _is_close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=1e-6)


def loss_of_step(outputs: Any) -> float | None:
    """Return the loss that a training step returned, as a batch-end hook gets it; None where it returned none."""
    loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
    return float(loss) if isinstance(loss, Tensor) and loss.numel() == 1 else None
