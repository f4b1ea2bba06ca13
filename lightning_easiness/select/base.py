"""`Selection`: decides in `select(state)` which examples an epoch or a batch trains on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.functional._rng import generator

if TYPE_CHECKING:
    from lightning.pytorch import Trainer  # slow to load, and no selection of the command line needs it


@dataclass(frozen=True)
class SelectionState:
    """The input of a selection's decision, the same in every process.

    In a run that holds out examples, a selection that observes sees a data set without them, N of the others; any other
    sees the whole data set, and what it chooses of the examples held out is dropped.

    Attributes:
        num_examples: N, of the whole data set.
        epoch: The epoch to select for; 0 if the selection is made once.
        target: Labels of all examples, int64 `(N,)`, -1 where unknown; None if all are unknown.
        observed: Fields of an evaluation pass at the current weights, if the selection needs it: "loss", "correct",
            "margin", "sample_easiness", "weakest_comparison" and "el2n", `(N,)` each, on the CPU. For a selection that
            `remembers`, the latest values of its fields, NaN if there are none. Else None.
        seed: The selection's seed.
        max_epochs: Length of the fit; None or negative if it is not limited by epochs.
        batch: For a selection `per_batch`, the number of the batch in its epoch; all other attributes describe it.
        has_memory: Whether a selection that `remembers` has values to use without another pass.
        examples: The indices in the whole data set of what a selection that observes sees, int64 `(N,)`, where a run
            holds out others; None for all.
        enough: Number chosen -> number needed, so that the epoch is not empty and the minimum is met. Missing examples
            are drawn afterwards; a selection with weights should choose enough itself.
        known: What else the data set is known by; None for nothing.
    """

    num_examples: int
    epoch: int = 0
    target: Tensor | None = None
    observed: Mapping[str, Tensor] | None = None
    seed: int = 0
    max_epochs: int | None = None
    batch: int | None = None
    has_memory: bool = True
    examples: Tensor | None = None
    enough: Callable[[int], int] = field(default=int, compare=False)
    known: DataIdentity | None = field(default=None, compare=False)

    @property
    def identity(self) -> DataIdentity:
        """Identity of the data set to select from."""
        own = DataIdentity(self.num_examples, self.target)
        known = self.known
        return own if known is None else replace(own, source_index=known.source_index, digest=known.digest)

    def of_examples(self, examples: Tensor) -> SelectionState:
        """Return the state of some examples alone, as of a data set without the others."""
        target = None if self.target is None else self.target[examples]
        observed = self.observed and {name: values[examples] for name, values in self.observed.items()}
        return replace(
            self, num_examples=len(examples), target=target, observed=observed, examples=examples, known=None
        )

    def generator(self) -> torch.Generator:
        """Return a generator for this decision, from the seed, the epoch and the batch: the same in every process."""
        return generator(self.seed, self.epoch, *(() if self.batch is None else (self.batch,)))


class Selection(ABC):
    """Decides which examples of the whole data set to train on.

    Attributes:
        every_epoch: Decide before each epoch; otherwise once, before training.
        needs_observation: Observe all examples at the current weights before each decision. This costs a forward pass
            over the data, unless the Trainer's EasinessCallback has just made one.
        online: Use the latest online observation of each example by the Trainer's EasinessCallback, without a pass.
        fields: Fields of an observation that it cannot go without, as "sample_easiness"; where the data are of a task
            without them, a fit is refused before training.
        remembers: The fields to keep between decisions, and in Lightning's checkpoints, for a selection that does not
            observe before each one (see `observes_before`), or is `online`.
        per_batch: Decide for each batch and remove its other examples before the training step; `select` then sees only
            the batch.
        weighs: Whether it may return weights, so that the training loss must use them.
        minimum: A decision for an epoch, or for a batch, that keeps fewer examples is filled up with random ones. None:
            an epoch trains on what is selected. Only if that is nothing, at which a fit ends, is an example drawn, and
            a second one if the module has batch norm, which refuses a single example.
        target: Labels of all examples known to the selection, `(N,)`, or None.
        seed: Seed of all its draws.
        replace_fn: (item, label) -> item, if items are neither `(x, label, ...)` nor mappings with the usual keys.

    Example:
        >>> from lightning_easiness import functional
        >>> class EasyFirst(Selection):
        ...     every_epoch = needs_observation = True
        ...
        ...     def select(self, state):
        ...         fraction = min(1.0, 0.2 * (1 + state.epoch))
        ...         return functional.easiest(state.observed["loss"], fraction, higher_is_easier=False)
        >>> EasyFirst().select(SelectionState(4, observed={"loss": torch.tensor([0.1, 2.0, 0.3, 0.2])}))
        tensor([0])
    """

    every_epoch: bool = False
    needs_observation: bool = False
    online: bool = False
    fields: tuple[str, ...] = ()
    remembers: tuple[str, ...] = ()
    per_batch: bool = False
    weighs: bool = False
    minimum: int | None = None
    target: Tensor | None = None
    seed: int = 0
    replace_fn: Callable[[Any, int], Any] | None = None

    @abstractmethod
    def select(self, state: SelectionState) -> Tensor:
        """Return the indices of the examples to train on, int64 `(n,)` in any order, or a bool mask `(N,)`."""

    def labels(self, state: SelectionState) -> Tensor | None:
        """Return labels to train with, integers `(N,)`, negative to keep an example's own; None to keep all."""
        return None

    def weights(self, state: SelectionState) -> Tensor | None:
        """Return weights of the examples' losses, `(N,)`, for SELModule or SampleEasinessLoss; None for equal ones.

        An example that stands for w of the data set has the weight w. Means are multiplied so that an epoch of fewer
        batches is worth as much as one on everything; see `WeighsExamples`.
        """
        return None

    def observes_before(self, state: SelectionState) -> bool:
        """Return whether to observe all examples before this decision; `state.observed` is not available yet."""
        return self.needs_observation

    def check(self, trainer: Trainer) -> None:
        """Raise a ValueError before training if the selection does not fit the Trainer."""
        return  # most selections fit any Trainer

    def state_dict(self) -> dict[str, Any]:
        """Return what to keep in Lightning's checkpoints, tensors and plain types; {} for nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, if it was not {}."""
        return  # most selections have no state
