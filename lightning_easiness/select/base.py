"""`Selection`: decides in `select(state)` which examples an epoch or a batch trains on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.functional._rng import generator

if TYPE_CHECKING:
    from lightning.pytorch import Trainer  # slow to load, and no selection of the command line needs it

Every = Literal["fit", "epoch", "batch"]
# Fields that need no outputs.
BATCH_LOSS, TIMES_TRAINED, LAST_BATCH = BATCH_FIELDS = ("batch_loss", "times_trained", "last_batch")


@dataclass(frozen=True)
class Needs:
    """What a selection decides by, and how often.

    Attributes:
        every: "fit" to decide once, before training; "epoch" to decide before each epoch; "batch" to remove examples
            from each batch before its training step: `select` then sees only the batch.
        fields: The fields of an observation that it goes by, as "loss", "margin" or "sample_easiness". Their latest
            values are `state.observed`, also between passes and in a fit that is resumed. Where the data are of a task
            without them, a fit is refused before training. Three need no outputs of the module: "batch_loss", the loss
            that the training step returned for the batch that held the example last, or the mean of those between two
            decisions; "times_trained", the number of batches so far that held it; and "last_batch", the number of the
            last one in the fit, from 1. A batch is that of all processes together.
        passes: It may call `state.observe()`. This costs a forward pass over the data, unless the Trainer's
            EasinessCallback has just made one.
        online: The training forward, through the Trainer's EasinessCallback, keeps `state.observed` up to date, without
            a pass.
        weights: It may return weights, so that the training loss must use them.

    Raises:
        ValueError: If `every` is none of these, or `online` does not go with the rest.
        TypeError: If `fields` are not names.

    Example:
        >>> Needs(every="epoch", fields=("loss",), online=True)
        Needs(every='epoch', fields=('loss',), passes=False, online=True, weights=False)
    """

    every: Every = "fit"
    fields: tuple[str, ...] = ()
    passes: bool = False
    online: bool = False
    weights: bool = False

    def __post_init__(self) -> None:
        if self.every not in get_args(Every):
            raise ValueError(f"The `every` of Needs must be 'fit', 'epoch' or 'batch'; got {self.every!r}.")
        if isinstance(self.fields, str) or not all(isinstance(name, str) for name in self.fields):
            raise TypeError(f"The `fields` of Needs must be names, as ('loss',); got {self.fields!r}.")
        if set(self.fields) & set(BATCH_FIELDS) and self.every != "epoch":
            raise ValueError(
                f"The fields {', '.join(map(repr, BATCH_FIELDS))} of Needs are known from epoch to epoch: write"
                f" Needs(every='epoch', fields=...); got every={self.every!r}."
            )
        if self.online and (self.every != "epoch" or not self.of_outputs):
            raise ValueError(
                "Needs(online=True) is for a selection that decides before each epoch by what training shows: write"
                " Needs(every='epoch', fields=('loss',), online=True), with the fields that it goes by."
            )

    @property
    def of_outputs(self) -> tuple[str, ...]:
        """The fields that are computed from the module's outputs."""
        return tuple(name for name in self.fields if name not in BATCH_FIELDS)

    @property
    def of_batches(self) -> bool:
        """Whether it goes by the losses of batches, or by which examples they held."""
        return len(self.of_outputs) < len(self.fields)

    @property
    def observes(self) -> bool:
        """Whether it goes by anything that is observed of the examples."""
        return self.passes or bool(self.fields)


@dataclass(frozen=True)
class Selected:
    """What a selection has decided, where it is more than which examples are kept.

    Attributes:
        kept: Indices of the examples to train on, int64 `(n,)` in any order, or a bool mask `(N,)`.
        weights: Weights of the examples' losses, `(N,)`, None for equal ones. They multiply the losses per example that
            the training step returns, or reach them by SampleWeightedLoss, SELModule or SampleEasinessLoss. An example
            that is trained on in place of w examples has the weight w. Means are multiplied so that an epoch of fewer
            batches is worth as much as one on everything; see `WeighsExamples`.
        labels: Labels to train with, integers `(N,)`, negative to keep an example's own; None to keep all.

    Example:
        >>> Selected.of(torch.tensor([0, 2])).kept
        tensor([0, 2])
    """

    kept: Any
    weights: Tensor | None = None
    labels: Tensor | None = None

    @classmethod
    def of(cls, decision: Any) -> Selected:
        """Return what `Selection.select` returned, which may be the examples kept alone, as a Selected."""
        return decision if isinstance(decision, cls) else cls(decision)


@dataclass
class SelectionState:
    """The input of a selection's decision, the same in every process.

    In a run that holds out examples, a selection that observes sees a data set without them, N of the others; any other
    sees the whole data set, and what it chooses of the examples held out is dropped.

    Attributes:
        num_examples: N, of the whole data set.
        epoch: The epoch to select for; 0 if the selection is made once.
        target: Labels of all examples, int64 `(N,)`, -1 where unknown; None if all are unknown.
        observed: The latest values of the fields that the selection `needs`, `(N,)` each, on the CPU, NaN where there
            is none: of the last pass, or of the training forward. None, or nothing, while there are none.
        seed: The selection's seed.
        max_epochs: Length of the fit; None or negative if it is not limited by epochs.
        batch: For a selection for each batch, the number of the batch in its epoch; all other attributes describe it.
        examples: The indices in the whole data set of what a selection that observes sees, int64 `(N,)`, where a run
            holds out others; None for all.
        whole: The state of the whole data set that `examples` are of; None where this is it.
        enough: Number chosen -> number needed, so that the epoch is not empty and the minimum is met. Missing examples
            are drawn afterwards; a selection with weights should choose enough itself.
        known: What else the data set is known by; None for nothing.
        by_pass: Makes the pass of `observe`, and returns its fields and targets.
    """

    num_examples: int
    epoch: int = 0
    target: Tensor | None = None
    observed: Mapping[str, Tensor] | None = None
    seed: int = 0
    max_epochs: int | None = None
    batch: int | None = None
    examples: Tensor | None = None
    whole: SelectionState | None = field(default=None, repr=False, compare=False)
    enough: Callable[[int], int] = field(default=int, compare=False)
    known: DataIdentity | None = field(default=None, compare=False)
    by_pass: Callable[[], tuple[Mapping[str, Tensor], Tensor | None]] | None = field(
        default=None, repr=False, compare=False
    )

    def observe(self) -> Mapping[str, Tensor]:
        """Return all fields at the current weights, `(N,)` each, by one pass; every process must ask alike.

        They are "loss", "correct", "margin", "sample_easiness", "weakest_comparison" and "el2n", as far as the task has
        them. `observed`, and `target` where the data set lists none, are then those of the pass.

        Raises:
            TypeError: If the selection's `needs` name no passes.
            ValueError: If the state was made by hand, without `observed`.

        Example:
            >>> SelectionState(2, observed={"loss": torch.tensor([0.1, 2.0])}).observe()["loss"]
            tensor([0.1000, 2.0000])
        """
        if self.by_pass is not None:
            self.observed, target = self.by_pass()
            self.target = self.target if target is None else target
            self.by_pass = None
        if self.observed is None:
            raise ValueError("A SelectionState made by hand observes nothing: give it observed={'loss': losses}.")
        return self.observed

    @property
    def identity(self) -> DataIdentity:
        """Identity of the data set to select from."""
        own = DataIdentity(self.num_examples, self.target)
        known = self.known
        return own if known is None else replace(own, source_index=known.source_index, digest=known.digest)

    def of_examples(self, examples: Tensor) -> SelectionState:
        """Return the state of some examples alone, as of a data set without the others."""

        def by_pass() -> tuple[Mapping[str, Tensor], Tensor | None]:
            observed = self.observe()
            target = None if self.target is None else self.target[examples]
            return {name: values[examples] for name, values in observed.items()}, target

        target = None if self.target is None else self.target[examples]
        observed = self.observed and {name: values[examples] for name, values in self.observed.items()}
        part = replace(self, num_examples=len(examples), target=target, observed=observed, known=None)
        return replace(part, examples=examples, whole=self, by_pass=self.by_pass and by_pass)

    def generator(self) -> torch.Generator:
        """Return a generator for this decision, from the seed, the epoch and the batch: the same in every process."""
        return generator(self.seed, self.epoch, *(() if self.batch is None else (self.batch,)))


class Selection(ABC):
    """Decides which examples of the whole data set to train on.

    Attributes:
        needs: What it decides by, and how often.
        seed: Seed of all its draws.
        minimum: A decision for an epoch, or for a batch, that keeps fewer examples is filled up with random ones. None:
            an epoch trains on what is selected. Only if that is nothing, at which a fit ends, is an example drawn, and
            a second one if the module has batch norm, which refuses a single example.
        target: Labels of all examples known to the selection, `(N,)`, or None.
        replace_fn: (item, label) -> item, if items are neither `(x, label, ...)` nor mappings with the usual keys.

    Example:
        >>> from lightning_easiness import functional
        >>> class EasyFirst(Selection):
        ...     needs = Needs(every="epoch", passes=True)
        ...
        ...     def select(self, state):
        ...         fraction = min(1.0, 0.2 * (1 + state.epoch))
        ...         return functional.easiest(state.observe()["loss"], fraction, higher_is_easier=False)
        >>> EasyFirst().select(SelectionState(4, observed={"loss": torch.tensor([0.1, 2.0, 0.3, 0.2])}))
        tensor([0])
    """

    needs: Needs = Needs()
    seed: int = 0
    minimum: int | None = None
    target: Tensor | None = None
    replace_fn: Callable[[Any, int], Any] | None = None

    def __str__(self) -> str:
        """Return what messages and checkpoints call it."""
        return type(self).__name__

    @abstractmethod
    def select(self, state: SelectionState) -> Tensor | Selected:
        """Return the examples to train on: indices, int64 `(n,)` in any order, a bool mask `(N,)`, or a `Selected`.

        A selection for each batch that has not called `state.observe()` must keep all of the batch.
        """

    def check(self, trainer: Trainer) -> None:
        """Raise a ValueError before training if the selection does not fit the Trainer."""
        return  # most selections fit any Trainer

    def fewest(self, num_examples: int) -> int | None:
        """Return how few of N examples a decision for an epoch keeps, so that too few are refused before training.

        None where it is not known: then what is missing for a batch is repeated.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return what to keep in Lightning's checkpoints, tensors and plain types; {} for nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, if it was not {}."""
        return  # most selections have no state
