"""`Reading`: how the outputs of one place, the training step or an evaluation pass, are read for a task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_easiness.observe.batch_reader import kind_of
from lightning_easiness.observe.tasks import DenseTask, RegressionTask, Task, other_shape

AS_LOGITS, LOG, LOGIT = "as logits", "log", "logit"


@dataclass(frozen=True)
class Reading:
    """How outputs are read, decided at the first batch.

    Attributes:
        task: What is computed of them.
        loss_fn: The user's loss, (prediction, target) -> (B,); None for the task's own.
        position: Where the logits are in a tuple; None where the output is a tensor.
        axis: Dimension of the classes.
        link: LOG and LOGIT make logits of probabilities.
        why: What decided for the position.
    """

    task: Task
    loss_fn: Callable[[Any, Any], Tensor] | None = None
    position: int | None = None
    axis: int = 1
    link: str = AS_LOGITS
    why: str = ""

    def observe(
        self, prediction: Any, target: Any, size: int, *, fields: Collection[str], seeds: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """Compute one value per example of a batch of `size`, without synchronising with the device.

        Args:
            prediction: The module's output, as `BatchReader.prediction` returns it.
            target: The targets of the batch.
            size: Number of examples that the loader put into the batch, B.
            fields: Which of PROBE_FIELDS and PROBABILITIES to compute, where the task has them.
            seeds: Of each example's draws, from `Task.draw_seeds`.

        Returns:
            name -> (B,), float32, `correct` and marks bool; "target" int64 where examples have one class each;
            PREDICTION int16, -1 where outputs are NaN; PROBABILITIES float16 (B, K). "loss" is always there.

        Raises:
            ValueError: If outputs, targets or losses are not those of the task.
        """
        return self.observe_output(self.output(prediction), target, size, fields=fields, seeds=seeds)

    def output(self, prediction: Any) -> Any:
        """Return the part of a prediction that is read."""
        return prediction[self.position] if self.position is not None else prediction

    @property
    def is_by_row(self) -> bool:
        """Whether each example's numbers come from its own row alone, at a cost in memory as that of the outputs."""
        return self.loss_fn is None and self.task.num_draws is None

    def observe_output(
        self, raw: Any, target: Any, size: int, *, fields: Collection[str], seeds: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """Compute what `observe` does, of what `output` returned."""
        if isinstance(raw, Tensor):
            check_size(raw, size)
        if self.loss_fn is None:
            return self.task.observe(self._outputs(raw, target), target, size, ("loss", *fields), seeds)
        others = [name for name in fields if name != "loss"]
        loss = checked_losses(self.loss_fn(raw, target), size, self.task.loss_name)
        return {**self.task.observe(self._outputs(raw, target), target, size, others, seeds), "loss": loss}

    def remarks(self) -> list[str]:
        """Return a sentence for each thing that was decided and that the user may want to say otherwise."""
        task, found = self.task, []
        if task.about:
            found.append(
                f"EasinessCallback reads {task.about}, loss '{task.loss_name}'; pass loss_fn for another task."
            )
        if self.why:
            found.append(f"EasinessCallback reads output[{self.position}], {self.why}; pass logits_fn for another one.")
        if self.link != AS_LOGITS:
            what = "logarithms" if self.link == LOG else "log odds"
            found.append(f"The outputs are probabilities, so EasinessCallback takes their {what} for logits.")
        return found

    def _outputs(self, raw: Any, target: Any) -> Any:
        """Return what the task takes: logits (B, K) or (B, K, P), or the values of a regression."""
        if type(self.task) is Task:  # the user's loss alone
            return raw
        if not isinstance(raw, Tensor) or not raw.is_floating_point():
            raise other_shape(raw, target)
        values = raw.detach() if raw.dtype == torch.float64 else raw.detach().float()
        if isinstance(self.task, RegressionTask):
            return values
        if self.link != AS_LOGITS:
            values = _logits_of(values, self.link)
        dense = isinstance(self.task, DenseTask)
        if values.ndim == 1:
            values = values.unsqueeze(1)
        elif self.axis != 1:
            values = values.movedim(self.axis, 1)
        if values.ndim < 3 if dense else values.ndim != 2:
            raise other_shape(raw, target)
        if values.shape[1] == 1:  # the logit of the second of two classes
            values = torch.cat([torch.zeros_like(values), values], 1)
        return values.flatten(2) if dense else values


def _logits_of(probabilities: Tensor, link: str) -> Tensor:
    smallest = torch.finfo(probabilities.dtype).tiny
    log = probabilities.clamp(min=smallest).log()
    if link == LOG:
        return log
    # the largest number below 1, for a probability that was rounded to 1
    return log - torch.log1p(-probabilities.clamp(max=1 - torch.finfo(probabilities.dtype).eps / 2))


def check_size(prediction: Tensor, size: int) -> None:
    """Raise a ValueError unless there is an output for each of the `size` examples."""
    if prediction.ndim > 0 and prediction.shape[0] == size:
        return
    way_out = (
        "losses cannot be matched to examples; if the module drops or merges examples in training, pass online=False,"
        " and if the logits are elsewhere, `module` or `logits_fn`"
    )
    if prediction.ndim == 0:
        way_out = "it is no output per example, as where forward returns its loss; pass `module`, the part that returns"
        way_out += " the logits, or logits_fn"
    if prediction.numel() and prediction.ndim > 0 and size and prediction.shape[0] % size == 0:
        way_out = (
            f"there are {prediction.shape[0] // size} outputs per example, as ensembles have; pass logits_fn, a"
            " function that makes them one, (B, classes)"
        )
    raise ValueError(
        f"The model's output has the shape {tuple(prediction.shape)}, but the batch holds {size} examples, so"
        f" {way_out}."
    )


def checked_losses(losses: Any, size: int, name: str) -> Tensor:
    """Return the losses of the user's function, or raise a ValueError unless there is one per example."""
    if not isinstance(losses, Tensor) or losses.shape != (size,):
        shape = tuple(losses.shape) if isinstance(losses, Tensor) else kind_of(losses)
        raise ValueError(
            f"loss_fn ({name}) must return one loss per example, shape ({size},); got {shape}."
            " Use reduction='none' and average over everything but the first dimension."
        )
    return losses.detach().float()
