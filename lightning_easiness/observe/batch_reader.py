"""`BatchReader`: how the user says that batches and model outputs are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Signature
from typing import Any

from torch import Tensor

from lightning_easiness._utils.warnings import warn_once
from lightning_easiness.data.batch import unpack_batch
from lightning_easiness.functional import _checks as check
from lightning_easiness.functional.levels import default_is_wide
from lightning_easiness.functional.sample_easiness import DEFAULT_SIGMA2

LOGITS_KEYS = ("logits", "logit", "output", "out", "y_hat", "preds")


def find_logits(output: Any) -> Tensor | tuple[Any, ...] | None:
    """Return the logits in a model's output: a tensor, the only one of a tuple, an object or mapping with `logits`.

    A tuple with several tensors is returned as it is: what else is known of the task has to decide.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        found = next((output[key] for key in LOGITS_KEYS if key in output), None)
        return found if isinstance(found, Tensor) else None
    if isinstance(getattr(output, "logits", None), Tensor):
        return output.logits  # type: ignore[no-any-return]
    if not isinstance(output, (tuple, list)):
        return None
    tensors = [part for part in output if isinstance(part, Tensor) and part.ndim and part.is_floating_point()]
    return tuple(output) if len(tensors) > 1 else next(iter(tensors), None)


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
        num_draws: Count sample easiness in so many draws of noise, as the paper does with 1,000, in place of the exact
            probability. It takes `num_draws` times the work; the draws of an example depend on its index and the number
            of epochs done alone, and on no batches, processes, other random numbers or resume. None for exact. For
            2,000 and more the default `tol` of levels is too wide, which is warned of: give `tol=1/(2*num_draws)` where
            you compute levels.

    Raises:
        ValueError: If `batch_size`, `sigma2` or `num_draws` is out of range.

    Example:
        >>> import torch
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
    num_draws: int | None = None

    def __post_init__(self) -> None:
        size = self.batch_size
        if not (size is None or (isinstance(size, int) and size >= 1)):
            raise ValueError(
                "The `batch_size` of BatchReader (`probe_batch_size` of EasinessCallback) must be an integer >= 1 or"
                f" None; got {size!r}."
            )
        check.positive("EasinessCallback or BatchReader", "sigma2", self.sigma2)
        check.num_draws("EasinessCallback or BatchReader", self.num_draws)
        problem = default_is_wide(self.num_draws)
        if problem is not None:
            warn_once(f"{problem}, as in SampleEasinessTraining; the shares that are logged go by the default.")

    @property
    def loss_name(self) -> str:
        """Name of the loss in the record."""
        if self.loss_fn is None:
            return "cross_entropy"
        named = getattr(self.loss_fn, "func", self.loss_fn)  # what a functools.partial is of
        return getattr(named, "__name__", type(named).__name__)

    def unpack(self, batch: Any, forward: Signature | None = None) -> tuple[Any, Any]:
        """Return the inputs and targets of a batch, the inputs as a `forward` of this signature takes them."""
        return unpack_batch(batch, forward) if self.batch_fn is None else self.batch_fn(batch)

    def prediction(self, output: Any) -> Any:
        """Return the logits in a model's output, or a tuple with them; the output itself for a user's loss alone."""
        found = (self.logits_fn or find_logits)(output)
        return output if found is None and self.loss_fn is not None else found

    def check_target(self, target: Any, size: int) -> None:
        """Raise a ValueError unless the targets are those of the `size` examples that the loader put into a batch."""
        if self.loss_fn is None and isinstance(target, Tensor) and target.ndim > 0 and len(target) != size:
            raise ValueError(
                f"The targets of a batch have the shape {tuple(target.shape)}, but the loader put {size} examples into"
                " it, so targets cannot be matched to examples; if the collate function drops or merges examples, pass"
                " online=False and probe=DataLoader(...), and if the targets are elsewhere, `batch_fn`."
            )


def kind_of(value: Any) -> str:
    """Describe a value for an error message: dtype and shape of a tensor, else the type."""
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
