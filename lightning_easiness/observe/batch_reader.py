"""What one batch tells of its examples, and the sums of an epoch. Knows tensors and batches, no Trainer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_easiness.data.batch import unpack_batch
from lightning_easiness.functional import el2n, margin, sample_easiness
from lightning_easiness.functional._checks import check_positive
from lightning_easiness.functional.sample_easiness import DEFAULT_SIGMA2

LOGITS_KEYS = ("logits", "logit", "output", "out", "y_hat", "preds")

ONLINE_FIELDS = ("loss", "correct", "margin")
PROBE_FIELDS = ("loss", "correct", "margin", "sample_easiness", "el2n")
PROBABILITIES = "probabilities"  # a row an example, float16 (B, K): summed, and no field of a record


def find_logits(output: Any) -> Tensor | None:
    """Finds the logits in what a model returns: a tensor, a tuple with it first, an object or mapping with `logits`."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        found = next((output[key] for key in LOGITS_KEYS if key in output), None)
        return found if isinstance(found, Tensor) else None
    if isinstance(getattr(output, "logits", None), Tensor):
        return output.logits  # type: ignore[no-any-return]
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    return None


@dataclass(frozen=True)
class BatchReader:
    """How examples' observations are read off batches and the model's outputs.

    Args:
        module: Name of the submodule that returns the logits, as "net" or "model.head". By default the
            LightningModule's `forward`, or its only child with parameters.
        batch_fn: batch -> (inputs, targets), where a batch is neither `(x, y, ...)` nor a mapping with the usual keys.
        logits_fn: What the module returns -> logits (B, K), where that is no tensor, tuple or object with `logits`.
        loss_fn: (logits, targets) -> (B,) losses, one per example, for tasks other than classification.
        batch_size: Examples per batch of an evaluation pass; the loader's own by default.
        sigma2: Noise variance of sample easiness, above 0.

    Raises:
        ValueError: If `batch_size` or `sigma2` is out of range.

    Example:
        >>> from lightning_easiness import BatchReader
        >>> reader = BatchReader(module="net", batch_fn=lambda batch: (batch["pixels"], batch["digit"]))
        >>> reader.unpack({"pixels": torch.zeros(1, 2), "digit": torch.tensor([3])})
        (tensor([[0., 0.]]), tensor([3]))
    """

    module: str | None = None
    batch_fn: Callable[[Any], tuple[Any, Any]] | None = None
    logits_fn: Callable[[Any], Any] | None = None
    loss_fn: Callable[[Any, Any], Tensor] | None = None
    batch_size: int | None = None
    sigma2: float = DEFAULT_SIGMA2

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"The `batch_size` of BatchReader must be >= 1; got {self.batch_size!r}.")
        check_positive("BatchReader", "sigma2", self.sigma2)

    @property
    def loss_name(self) -> str:
        """The name that the record keeps of the loss."""
        if self.loss_fn is None:
            return "cross_entropy"
        named = getattr(self.loss_fn, "func", self.loss_fn)  # what a functools.partial is of
        return getattr(named, "__name__", type(named).__name__)

    def unpack(self, batch: Any) -> tuple[Any, Any]:
        """Return the inputs and targets of a batch."""
        return (self.batch_fn or unpack_batch)(batch)

    def prediction(self, output: Any) -> Any:
        """Returns the logits in a model's output; the output itself where only the user's loss can read it."""
        found = (self.logits_fn or find_logits)(output)
        return output if found is None and self.loss_fn is not None else found

    def warn_of_probabilities(self, prediction: Any) -> None:
        """Warns where a model returns probabilities, which would be taken for logits."""
        logits = _as_logits(prediction) if self.loss_fn is None else None
        if logits is None or logits.shape[1] < 2 or not len(logits) or not isinstance(prediction, Tensor):
            return
        ones = torch.ones_like(logits[:, 0])
        if prediction.ndim == 2 and bool((logits >= 0).all()) and torch.allclose(logits.sum(1), ones, atol=1e-2):
            warnings.warn(
                "The model's outputs are not negative and add up to one, as probabilities do, but EasinessCallback"
                " reads logits: pass logits_fn=lambda output: output.log(), or `module`, the part before the softmax.",
                stacklevel=2,
            )

    def check_target(self, target: Any, size: int) -> None:
        """Raises a ValueError when targets are not those of the `size` examples that the loader put into a batch."""
        if self.loss_fn is None and isinstance(target, Tensor) and target.ndim > 0 and len(target) != size:
            raise ValueError(
                f"The targets of a batch have the shape {tuple(target.shape)}, but the loader put {size} examples into"
                " it, so targets cannot be matched to examples; if the collate function drops or merges examples, pass"
                " online=False and probe=DataLoader(...), and if the targets are elsewhere, `batch_fn`."
            )

    def observe(self, prediction: Any, target: Any, size: int, *, fields: Collection[str]) -> dict[str, Tensor]:
        """Computes one value an example, without synchronising with the device.

        Args:
            prediction: (B, K) logits, (B,) or (B, 1) for two classes; anything that `loss_fn` takes where there is one.
            target: (B,) class indices; anything that `loss_fn` takes where there is one.
            size: the number of examples that the loader put into the batch, B.
            fields: which of PROBE_FIELDS and PROBABILITIES to compute.

        Returns:
            name -> (B,), float32, `correct` bool, and "target" int64 where targets are class indices; PROBABILITIES
            float16 (B, K). "loss" is always there; the others where there are logits and class indices.
        """
        observed: dict[str, Tensor] = {}
        labels = _class_indices(target, size)
        if isinstance(prediction, Tensor):
            _check_size(prediction, size)
        if labels is not None:
            observed["target"] = labels
        logits = _as_logits(prediction) if labels is not None else None
        if self.loss_fn is not None:
            observed["loss"] = _check_losses(self.loss_fn(prediction, target), size, self.loss_name)
        elif logits is None:
            raise TypeError(_not_classification(prediction, target))
        if logits is not None and labels is not None:
            observed.update(self._classification(logits, labels, fields))
        return observed

    def _classification(self, logits: Tensor, target: Tensor, fields: Collection[str]) -> dict[str, Tensor]:
        # a target out of range would abort the whole device; it is clamped here and reported when the pass is over
        target = target.clamp(0, logits.shape[1] - 1)
        margins = margin(logits, target)
        # argmax takes NaN for the largest, which would make a model that diverged right on one class
        observed = {"correct": (logits.argmax(1) == target) & ~margins.isnan(), "margin": margins}
        if self.loss_fn is None:
            observed["loss"] = F.cross_entropy(logits, target, reduction="none")
        if "sample_easiness" in fields:
            observed["sample_easiness"] = sample_easiness(logits, target, sigma2=self.sigma2)
        if "el2n" in fields:
            observed["el2n"] = el2n(logits, target)
        if PROBABILITIES in fields:
            observed[PROBABILITIES] = logits.softmax(1).half()
        return observed


def _class_indices(target: Any, size: int) -> Tensor | None:
    """Returns integer targets as (B,) int64, None when they are something else."""
    if not isinstance(target, Tensor) or target.is_floating_point() or target.is_complex():
        return None
    if target.ndim == 2 and target.shape[1] == 1:
        target = target.squeeze(1)
    return target.detach().to(torch.int64) if target.shape == (size,) else None


def _as_logits(prediction: Any) -> Tensor | None:
    """Returns (B, K) float logits, None when the prediction is something else. One output is a two-class logit."""
    if not isinstance(prediction, Tensor) or not prediction.is_floating_point():
        return None
    logits = prediction.detach().float() if prediction.dtype != torch.float64 else prediction.detach()
    if logits.ndim == 1:
        logits = logits[:, None]
    if logits.ndim != 2:
        return None
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def count_classes(prediction: Any) -> int | None:
    """Returns the number of classes that a prediction tells apart, None when it is no logits."""
    logits = _as_logits(prediction)
    return None if logits is None else logits.shape[1]


def _check_size(prediction: Tensor, size: int) -> None:
    if prediction.ndim > 0 and prediction.shape[0] == size:
        return
    found = f"The model's output has the shape {tuple(prediction.shape)}, but the batch holds {size} examples"
    if prediction.numel() and prediction.ndim > 0 and size and prediction.shape[0] % size == 0:
        raise ValueError(
            f"{found}: {prediction.shape[0] // size} outputs an example, as ensembles have. Pass logits_fn, a function"
            " that makes them one, (B, classes)."
        )
    raise ValueError(
        f"{found}, so losses cannot be matched to examples; if the module drops or merges examples in training, pass"
        " online=False, and if the logits are elsewhere, `module` or `logits_fn`."
    )


def _check_losses(losses: Any, size: int, name: str) -> Tensor:
    if not isinstance(losses, Tensor) or losses.shape != (size,):
        shape = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise ValueError(
            f"loss_fn ({name}) must return one loss an example, shape ({size},); got {shape}."
            " Use reduction='none' and average over everything but the first dimension."
        )
    return losses.detach().float()


def _not_classification(prediction: Any, target: Any) -> str:
    def describe(value: Any) -> str:
        return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__

    return (
        "EasinessCallback reads logits (B, classes) and class indices (B,); got"
        f" output {describe(prediction)} and targets {describe(target)}."
        " Pass logits_fn or batch_fn to find them, or loss_fn, a loss for each example, for another task."
    )


@dataclass
class StepList:
    """What steps showed of their examples, in order. Nothing is read back from the device."""

    index: list[Tensor] = field(default_factory=list)
    values: dict[str, list[Tensor]] = field(default_factory=dict)
    _merged: int = 0  # tensors at the head of each list that hold many steps

    def add(self, index: Tensor, observed: Mapping[str, Tensor], merge_every: int = 1024) -> None:
        """Takes one batch: indices (B,) on the CPU and values (B,) or (B, K) on any device.

        Args:
            index: of the examples.
            observed: name -> values.
            merge_every: steps that become one tensor, as many small ones on the device waste memory.
        """
        self.index.append(index)
        for name, values in observed.items():
            self.values.setdefault(name, []).append(values)
        if len(self.index) - self._merged >= merge_every:
            # only the steps since the last time: copying all of the epoch again would make a step cost more and more
            for parts in (self.index, *self.values.values()):
                parts[self._merged :] = [torch.cat(parts[self._merged :])]
            self._merged += 1

    def clear(self) -> None:
        """Forgets the steps."""
        self.index, self.values, self._merged = [], {}, 0


@dataclass
class EpochSums:
    """Sums of what the training forward showed of each example in one epoch, of one process.

    A step only puts its (B,) tensors on a list: its cost does not depend on the number of examples, nothing is read
    back from the device, and examples that come twice (sampling with replacement, padding) are counted apart.
    """

    num_examples: int
    names: tuple[str, ...] = ONLINE_FIELDS
    _steps: StepList = field(default_factory=StepList)
    _MERGE_EVERY = 1024

    def add(self, index: Tensor, observed: Mapping[str, Tensor]) -> None:
        """Takes one batch: indices (B,) on the CPU and (B,) values on any device."""
        self._steps.add(index, observed, self._MERGE_EVERY)

    def totals(self) -> tuple[Tensor, Tensor]:
        """Adds up what was taken.

        Returns:
            sums (F + 1, N) float64, in which order and cuts leave no trace, of the fields `names` (zero where not
            recorded) and count, and target (N,) int64, -1 where not seen. On the CPU.
        """
        sums = torch.zeros(len(self.names) + 1, self.num_examples, dtype=torch.float64)
        target = torch.full((self.num_examples,), -1, dtype=torch.int64)
        if self._steps.index:
            index, values = torch.cat(self._steps.index), self._steps.values
            for row, name in enumerate(self.names):
                if name in values:
                    sums[row].index_add_(0, index, torch.cat(values[name]).cpu().double())
            sums[-1].index_add_(0, index, torch.ones(len(index), dtype=torch.float64))
            if "target" in values:
                target[index] = torch.cat(values["target"]).cpu()
        return sums, target

    def clear(self) -> None:
        """Forgets the epoch."""
        self._steps.clear()

    @staticmethod
    def means(sums: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        """Turns sums into what a record keeps: means over the times that an example was seen, NaN where it was not.

        Args:
            sums: (F + 1, N), of the F fields `names` and count.
            names: of the rows.
        """
        count = sums[-1]
        unseen = torch.where(count > 0, 1.0, torch.nan)
        means = {name: (row / count.clamp(min=1) * unseen).float() for name, row in zip(names, sums[:-1], strict=True)}
        if "correct" in means:
            means["correct"] = means["correct"] >= 0.5
        return {**means, "count": count.to(torch.int32)}
