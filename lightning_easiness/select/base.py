"""What a selection is: one decision, `select(state)`, on which examples an epoch or a batch trains.

A rule of your own is a class with that one method; see `Selection`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor


@dataclass(frozen=True)
class SelectionState:
    """What a selection may go by. It is the same in every process.

    Attributes:
        num_examples: N, of the whole data set.
        epoch: that is selected for; 0 where the selection is made once.
        target: labels of all examples, int64 (N,), -1 where not known; None when none are known.
        observed: where the selection needs it, what a probe saw at the current weights: "loss", "correct", "margin",
            "sample_easiness" and "el2n", (N,) each, on the CPU; of a selection that `remembers`, what was last seen of
            these fields, NaN where nothing was; else None.
        seed: of the selection.
        max_epochs: of the fit; None where it has no such end.
        batch: for a selection `per_batch`, the number of the batch in its epoch; all else here is of that batch.
        is_known: whether there is anything that a selection which `remembers` could go by without a look.
        enough: number chosen -> number needed, so that there is a batch for each process and the minimum is met. What
            `select` leaves missing is drawn afterwards; a rule that gives weights had better see to it itself.
    """

    num_examples: int
    epoch: int = 0
    target: Tensor | None = None
    observed: Mapping[str, Tensor] | None = None
    seed: int = 0
    max_epochs: int | None = None
    batch: int | None = None
    is_known: bool = True
    enough: Callable[[int], int] = field(default=int, compare=False)

    def generator(self) -> torch.Generator:
        """A random stream for this decision, from the seed, the epoch and the batch: the same in every process."""
        # torch's CPU generator goes by the lower half of a seed, so that both halves must differ
        mixed = (self.seed * 0x9E3779B97F4A7C15 + self.epoch) % 2**63
        if self.batch is not None:
            mixed = (mixed * 0xBF58476D1CE4E5B9 + self.batch + 1) % 2**63
        return torch.Generator().manual_seed(mixed)


class Selection(ABC):
    """One decision: which examples of the whole data set to train on.

    Attributes:
        every_epoch: decide before each epoch; else once, before training.
        needs_observation: look at all examples at the current weights before each decision: costs a forward pass,
            unless the Trainer's EasinessCallback has just made it.
        online: know what the Trainer's EasinessCallback last saw of each example in the training forward, which costs
            no pass.
        remembers: the fields that are kept between decisions, and in Lightning's checkpoints, for a selection that does
            not look before each one (see `looks_before`), or is `online`.
        per_batch: decide for each batch, of which the others are taken out before the training step: `select` is then
            asked about the batch alone.
        weighs: may give weights, so that training must have a loss that takes them.
        sigma2: noise variance of the sample easiness that is observed.
        minimum: a decision for an epoch that keeps fewer examples is filled up with random ones; by default to one
            batch a process, as a fit ends when an epoch has no batch. One more a process is added where the last batch
            would hold a single example, which batch norm refuses.
        target: labels of all examples as far as the selection knows them, (N,), or None.
        seed: of whatever it draws.
        replace_fn: (item, label) -> item, where items are neither (x, label, ...) nor mappings with the usual keys.

    Example:
        >>> from lightning_easiness import functional
        >>> class EasyFirst(Selection):
        ...     every_epoch = needs_observation = True
        ...
        ...     def select(self, state):
        ...         share = min(1.0, 0.2 * (1 + state.epoch))
        ...         return functional.easiest(state.observed["loss"], share, higher_is_easier=False)
        >>> EasyFirst().select(SelectionState(4, observed={"loss": torch.tensor([0.1, 2.0, 0.3, 0.2])}))
        tensor([0])
    """

    every_epoch: bool = False
    needs_observation: bool = False
    online: bool = False
    remembers: tuple[str, ...] = ()
    per_batch: bool = False
    weighs: bool = False
    sigma2: float = 1e-4
    minimum: int | None = None
    target: Tensor | None = None
    seed: int = 0
    replace_fn: Callable[[Any, int], Any] | None = None

    @abstractmethod
    def select(self, state: SelectionState) -> Tensor:
        """Returns the indices of the examples to train on, int64 (n,) in any order, or a bool mask (N,)."""

    def labels(self, state: SelectionState) -> Tensor | None:
        """Returns labels to train with, integers (N,), negative where an example keeps its own; None to keep all."""
        return None

    def weights(self, state: SelectionState) -> Tensor | None:
        """Returns weights of the examples' losses, (N,), for SELModule or SampleEasinessLoss; None for equal ones."""
        return None

    def looks_before(self, state: SelectionState) -> bool:
        """Tells whether to look at all examples before this decision. `state.observed` is not known yet."""
        return self.needs_observation

    def check(self, trainer: Trainer) -> None:
        """Raises a ValueError where the selection does not fit the Trainer, before training starts."""
        return  # what most have no need to


def checked_indices(owner: str, indices: Any, num_examples: int, *, may_be_empty: bool = False) -> Tensor:
    """Returns what a selection chose as ascending indices, int64 (n,), on the CPU.

    Raises:
        TypeError: it is neither integers nor a mask.
        ValueError: it is empty, names an example twice, or one that is not there.
    """
    chosen = _as_tensor(owner, indices, num_examples)
    if chosen.dtype == torch.bool and chosen.shape == (num_examples,):
        mask = chosen.numpy()
    else:
        mask = _mask_of(owner, chosen, num_examples)
    kept = torch.from_numpy(np.flatnonzero(mask))
    if not len(kept) and not may_be_empty:
        raise ValueError(f"{owner} keeps none of {num_examples} examples; keep at least one.")
    return kept


def _as_tensor(owner: str, indices: Any, num_examples: int) -> Tensor:
    try:
        return torch.as_tensor(indices).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{owner} must choose by indices (n,) or a bool mask ({num_examples},); got {_seen(indices)}: let select()"
            " return a tensor, of topk(...) and sort(...) the second result."
        ) from None


def _mask_of(owner: str, chosen: Tensor, num_examples: int) -> Any:
    """The mask of some indices: sorting millions of them would take longer than all else here."""
    asked = f"{owner} must choose by indices (n,) or a bool mask ({num_examples},); got {_seen(chosen)}"
    mask = np.zeros(num_examples, dtype=bool)
    if chosen.ndim == 2 and chosen.shape[1] == 1:
        raise ValueError(f"{asked}: of nonzero() take [:, 0].")
    if chosen.ndim != 1:
        raise ValueError(f"{asked}.")
    if not chosen.numel():
        return mask
    if chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool:
        raise TypeError(f"{asked}.")
    index = chosen.long().numpy()
    lowest, highest = int(index.min()), int(index.max())
    if lowest < 0 or highest >= num_examples:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(f"{owner} keeps example {wrong}, but examples are numbered 0 to {num_examples - 1}.")
    mask[index] = True
    if np.count_nonzero(mask) != len(index):
        if len(index) == num_examples and highest <= 1:
            raise ValueError(f"{asked} of zeros and ones: make a mask of it with .bool().")
        ordered = np.sort(index)
        twice = int(ordered[1:][ordered[1:] == ordered[:-1]][0])
        raise ValueError(f"{owner} keeps example {twice} more than once; drop repeats with .unique().")
    return mask


def filled_up(
    kept: Tensor, num_examples: int, minimum: int, generator: torch.Generator, among: Tensor | None = None
) -> Tensor:
    """Adds random ones of the other examples to `kept` until there are `minimum`.

    Args:
        kept: ascending indices (n,).
        num_examples: N.
        minimum: how many there are to be.
        generator: of the draw.
        among: bool (N,), the examples that may be added; None for all.

    Example:
        >>> len(filled_up(torch.tensor([1]), 10, 4, torch.Generator()))
        4
    """
    missing = min(minimum, num_examples) - len(kept)
    if missing <= 0:
        return kept
    left = torch.ones(num_examples, dtype=torch.bool) if among is None else among.clone()
    left[kept] = False
    rest = left.nonzero()[:, 0]
    drawn = rest[torch.randperm(len(rest), generator=generator)[:missing]]
    return torch.cat([kept, drawn]).sort().values


def checked_weights(owner: str, weights: Any, num_examples: int) -> Tensor | None:
    """Returns a selection's weights as float32 (N,) on the CPU, None where all are equal.

    Raises:
        ValueError: there is not one for each example, or one is negative, NaN or infinite.
    """
    if weights is None:
        return None
    if not isinstance(weights, Tensor) or weights.shape != (num_examples,):
        raise ValueError(
            f"{owner} must give its weights as ({num_examples},), one for each example; got {_seen(weights)}."
        )
    given: Tensor = weights.detach().to("cpu", torch.float32)
    wrong = given[~(given >= 0) | given.isinf()]
    if len(wrong):
        raise ValueError(f"{owner} must give weights that are finite and not negative; got {float(wrong[0])}.")
    return given


def checked_labels(owner: str, labels: Any, num_examples: int) -> Tensor | None:
    """Returns a selection's labels as int64 (N,) on the CPU, None where it replaces none."""
    if labels is None:
        return None
    check_labels(owner, labels, num_examples, None)
    return labels.detach().to("cpu", torch.int64)  # type: ignore[no-any-return]


def check_labels(owner: str, labels: Any, num_examples: int, num_classes: int | None) -> None:
    """Raises a ValueError unless labels are integers (N,), below `num_classes` where that is known."""
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.shape != (num_examples,):
        raise ValueError(
            f"{owner} must give its labels as integers ({num_examples},), one for each example; got {_seen(labels)}."
        )
    if num_classes is not None and int(labels.max()) >= num_classes:
        raise ValueError(
            f"{owner} gives example {int(labels.argmax())} the label {int(labels.max())}, but there are {num_classes}"
            " classes."
        )


def check_selection(owner: str, selection: Any) -> Selection | None:
    """Returns a selection, or None, and sees to it that a rule of the user's own is one.

    Raises:
        TypeError: it is no selection, or something in it is of another kind than `Selection` says.
        ValueError: its minimum is below 0, or it has one and is made once.
    """
    if selection is None:
        return None
    if not isinstance(selection, Selection):
        raise TypeError(
            f"The `selection` of {owner} must be a Selection, as Ablation(...), or None; got"
            f" {type(selection).__name__}."
        )
    name = type(selection).__name__
    for method in ("select", "labels", "weights", "looks_before", "check"):
        if not callable(getattr(selection, method)):
            raise TypeError(f"`{method}` of {name} must stay a method; keep the values under another name.")
    if not isinstance(selection.seed, int):
        raise TypeError(f"The `seed` of {name} must be an integer; got {selection.seed!r}.")
    least = selection.minimum
    if least is not None and (not isinstance(least, int) or least < 1):
        raise ValueError(f"The `minimum` of {name} must be at least 1 example; got {least!r}.")
    if least is not None and not (selection.every_epoch or selection.per_batch):
        raise ValueError(f"The `minimum` of {name} is for selections with every_epoch=True, and {name} is made once.")
    return selection


def _seen(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
