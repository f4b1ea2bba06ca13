"""`BatchReader`: computes one value per example from a batch and the model's output."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_easiness.data.batch import unpack_batch
from lightning_easiness.functional import _checks as check
from lightning_easiness.functional import el2n, margin, sample_easiness
from lightning_easiness.functional.sample_easiness import DEFAULT_SIGMA2

LOGITS_KEYS = ("logits", "logit", "output", "out", "y_hat", "preds")

ONLINE_FIELDS = ("loss", "correct", "margin")
PROBE_FIELDS = ("loss", "correct", "margin", "sample_easiness", "el2n")
PROBABILITIES = "probabilities"  # a row per example, float16 (B, K): summed, and no field of a record


def find_logits(output: Any) -> Tensor | None:
    """Return the logits in a model's output: a tensor, a tuple with it first, an object or mapping with `logits`."""
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
    """How to read batches and model outputs.

    Args:
        module: Name of the submodule that returns the logits, as "net" or "model.head". By default the
            LightningModule's `forward`, or its only child with parameters.
        batch_fn: batch -> (inputs, targets), if a batch is neither `(x, y, ...)` nor a mapping with the usual keys.
        logits_fn: module output -> logits (B, K), if the output is not a tensor, a tuple or an object with `logits`.
        loss_fn: (logits, targets) -> (B,) losses, one per example, for tasks other than classification.
        batch_size: Examples per batch of an evaluation pass; by default the loader's own.
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
        size = self.batch_size
        if not (size is None or (isinstance(size, int) and size >= 1)):
            raise ValueError(
                "The `batch_size` of BatchReader (`probe_batch_size` of EasinessCallback) must be an integer >= 1 or"
                f" None; got {size!r}."
            )
        check.positive("EasinessCallback or BatchReader", "sigma2", self.sigma2)

    @property
    def loss_name(self) -> str:
        """Name of the loss in the record."""
        if self.loss_fn is None:
            return "cross_entropy"
        named = getattr(self.loss_fn, "func", self.loss_fn)  # what a functools.partial is of
        return getattr(named, "__name__", type(named).__name__)

    def unpack(self, batch: Any) -> tuple[Any, Any]:
        """Return the inputs and targets of a batch."""
        return (self.batch_fn or unpack_batch)(batch)

    def prediction(self, output: Any) -> Any:
        """Return the logits in a model's output; the output itself where only the user's loss can read it."""
        found = (self.logits_fn or find_logits)(output)
        return output if found is None and self.loss_fn is not None else found

    def warn_of_probabilities(self, prediction: Any) -> None:
        """Warn where a model returns probabilities, which would be taken for logits."""
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
        """Raise a ValueError unless the targets are those of the `size` examples that the loader put into a batch."""
        if self.loss_fn is None and isinstance(target, Tensor) and target.ndim > 0 and len(target) != size:
            raise ValueError(
                f"The targets of a batch have the shape {tuple(target.shape)}, but the loader put {size} examples into"
                " it, so targets cannot be matched to examples; if the collate function drops or merges examples, pass"
                " online=False and probe=DataLoader(...), and if the targets are elsewhere, `batch_fn`."
            )

    def observe(self, prediction: Any, target: Any, size: int, *, fields: Collection[str]) -> dict[str, Tensor]:
        """Compute one value per example of a batch of `size`, without synchronising with the device.

        Args:
            prediction: Logits (B, K), or (B,) or (B, 1) for two classes; with a `loss_fn`, whatever that takes.
            target: Class indices (B,); with a `loss_fn`, whatever that takes.
            size: Number of examples that the loader put into the batch, B.
            fields: Which of PROBE_FIELDS and PROBABILITIES to compute.

        Returns:
            name -> (B,), float32, `correct` bool; "target" int64 where targets are class indices; PROBABILITIES float16
            (B, K). "loss" is always there, the others where there are logits and class indices.

        Raises:
            TypeError: If there are no logits and class indices and no `loss_fn`.
            ValueError: If outputs or losses are not one per example.
        """
        if isinstance(prediction, Tensor):
            _check_size(prediction, size)
        labels = _class_indices(target, size)
        logits = None if labels is None else _as_logits(prediction)
        observed = {} if labels is None else {"target": labels}
        if self.loss_fn is not None:
            observed["loss"] = _checked_losses(self.loss_fn(prediction, target), size, self.loss_name)
        elif logits is None:
            raise TypeError(
                "EasinessCallback reads logits (B, classes) and class indices (B,); got output"
                f" {kind_of(prediction)} and targets {kind_of(target)}. Pass logits_fn or batch_fn to find them, or"
                " loss_fn, a loss for each example, for another task."
            )
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


def count_classes(prediction: Any) -> int | None:
    """Return the number of classes of a prediction; None where it is no logits."""
    logits = _as_logits(prediction)
    return None if logits is None else logits.shape[1]


def _class_indices(target: Any, size: int) -> Tensor | None:
    """Return integer targets as int64 (B,); None where they are something else."""
    if not isinstance(target, Tensor) or target.is_floating_point() or target.is_complex():
        return None
    if target.ndim == 2 and target.shape[1] == 1:
        target = target.squeeze(1)
    return target.detach().to(torch.int64) if target.shape == (size,) else None


def _as_logits(prediction: Any) -> Tensor | None:
    """Return float logits (B, K); None where there are none. A single output is the logit of two classes."""
    if not isinstance(prediction, Tensor) or not prediction.is_floating_point() or prediction.ndim not in (1, 2):
        return None
    logits = prediction.detach() if prediction.dtype == torch.float64 else prediction.detach().float()
    if logits.ndim == 1:
        logits = logits[:, None]
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def _check_size(prediction: Tensor, size: int) -> None:
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


def kind_of(value: Any) -> str:
    """Describe a value for an error message: dtype and shape of a tensor, else the type."""
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
