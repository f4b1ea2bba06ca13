"""What one epoch trains on, and how many examples that must be at least."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from lightning_easiness._utils.batch_norm import batch_norms
from lightning_easiness._utils.lightning import data_share
from lightning_easiness.data.indexed_loader import sampler_kind
from lightning_easiness.data.ordered_loader import examples_per_batch
from lightning_easiness.data.subset_loader import sampler_of_examples
from lightning_easiness.select.base import Selection


@dataclass(frozen=True)
class Choice:
    """What one epoch trains on."""

    epoch: int  # the first that it is for
    num_examples: int  # N, of the whole data set
    kept: Tensor  # indices, ascending, int64 (n,)
    labels: Tensor | None = None  # new ones, int64 (N,), negative where an example keeps its own
    weights: Tensor | None = None  # of the losses, float32 (N,); None for equal ones
    num_left_out: int = 0  # examples that are held out, or that the loader's own sampler never draws: none is kept

    @property
    def num_drawable(self) -> int:
        """How many examples training on everything would draw."""
        return self.num_examples - self.num_left_out

    @property
    def is_everything(self) -> bool:
        """Whether the user's data set is trained on as it is, perhaps with weights."""
        return len(self.kept) == self.num_drawable and self.labels is None

    def of_whole(self, num_examples: int, examples: Tensor) -> Choice:
        """Return a choice from some examples, int64 (n,), as one from the whole data set."""
        labels, weights = self.labels, self.weights
        if labels is not None:
            labels = torch.full((num_examples,), -1).scatter(0, examples, labels)
        if weights is not None:
            weights = torch.ones(num_examples).scatter(0, examples, weights)
        return replace(self, num_examples=num_examples, kept=examples[self.kept], labels=labels, weights=weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the choice as tensors and plain types, one bit per example."""
        mask = np.zeros(self.num_examples, dtype=bool)
        mask[self.kept.numpy()] = True
        state = {**vars(self), "kept": torch.from_numpy(np.packbits(mask))}
        return {name: value for name, value in state.items() if value is not None}

    @staticmethod
    def from_state_dict(state: dict[str, Any]) -> Choice:
        """Read what `state_dict` returned."""
        mask = np.unpackbits(state["kept"].cpu().numpy(), count=state["num_examples"])
        kept = torch.from_numpy(mask.nonzero()[0].astype(np.int64))
        return Choice(**{name: value for name, value in state.items() if name != "rule"} | {"kept": kept})


def filled_up(
    kept: Tensor, num_examples: int, minimum: int, generator: torch.Generator, among: Tensor | None = None
) -> Tensor:
    """Add random ones of the other examples, of those `among` (bool (N,)), to `kept` until there are `minimum`."""
    missing = min(minimum, num_examples) - len(kept)
    if missing <= 0:
        return kept
    left = torch.ones(num_examples, dtype=torch.bool) if among is None else among.clone()
    left[kept] = False
    rest = left.nonzero()[:, 0]
    drawn = rest[torch.randperm(len(rest), generator=generator)[:missing]]
    return torch.cat([kept, drawn]).sort().values


def least_chosen(selection: Selection, trainer: Trainer | None, loader: DataLoader[Any]) -> int:
    """How many examples must be chosen, for any number of processes.

    For an epoch that is one, without which a fit ends, and two where batch norm would see a single example. A choice
    that is made once is refused where it is too little for a batch.
    """
    if selection.needs.every != "epoch":
        return examples_per_batch(loader) * data_share(trainer)[1] if loader.drop_last else 1
    return max(selection.minimum or 1, 1 + _refuses_one(trainer, loader))


def check_fewest(selection: Selection, trainer: Trainer | None, loader: DataLoader[Any]) -> None:
    """Raise a ValueError where a selection for each epoch is known to leave a process without a batch."""
    size, processes = len(loader.dataset), data_share(trainer)[1]  # type: ignore[arg-type]
    fewest, name = selection.fewest(size), str(selection)
    needed = processes * (examples_per_batch(loader) if loader.drop_last else 1)
    if fewest is not None and fewest < needed <= size:
        way_out = "keep more, or set drop_last=False or a smaller batch_size" if loader.drop_last else "keep more"
        raise ValueError(
            f"{name} keeps {fewest} of {size} examples, but{' with drop_last=True' * loader.drop_last} an epoch of"
            f" {processes} process{'es' * (processes > 1)} takes {needed} at least; {way_out}."
        )


def positions_needed(trainer: Trainer | None, loader: DataLoader[Any], count: int, batches: int) -> int:
    """How many examples an epoch reads that trains on `count`: repeats give each process what it cannot do without.

    That is so many `batches`, whole ones where others are dropped, 0 where too few are refused in place of repeated;
    and a second example in a last batch of one that batch norm would see.
    """
    (_, shares), size = data_share(trainer), examples_per_batch(loader)
    own = -(-count // shares)  # a sampler gives each process as many
    of_each = max(own, batches * size if loader.drop_last else (batches - 1) * size + 1)
    if not loader.drop_last and of_each % size == 1 and _refuses_one(trainer, loader):
        of_each += 1
    return count if of_each == own else shares * (of_each - 1) + 1


def mean_factor(trainer: Trainer | None, loader: DataLoader[Any], choice: Choice, num_repeated: int) -> float:
    """Return what to multiply means of weighted batches by, so that an epoch's are worth those of one on everything.

    In a mean over a batch of b an example counts 1 / b, so that over an epoch of k batches, in random order, each of n
    counts k / n on average: more where the last of few batches is a small one. It is to be as in the epoch on
    everything. Sums need no factor. Of samplers that do not draw each example once it is not known, and 1.
    """
    if not _draws_each_once(loader) or not len(choice.kept):
        return 1.0
    whole, own = choice.num_drawable, len(choice.kept)
    batches = batches_of(trainer, loader, own + num_repeated)
    return (batches_of(trainer, loader, whole) / whole) / (batches / own) if batches else 1.0


def batches_of(trainer: Trainer | None, loader: DataLoader[Any], positions: int) -> int:
    """Count the batches that each process trains on in an epoch of so many positions, by the Trainer's limit."""
    of_each, size = -(-positions // data_share(trainer)[1]), examples_per_batch(loader)
    batches = of_each // size if loader.drop_last else -(-of_each // size)
    limit: Any = 1.0 if trainer is None else trainer.limit_train_batches
    return int(batches * limit) if isinstance(limit, float) else min(batches, limit)


def _draws_each_once(loader: DataLoader[Any]) -> bool:
    sampler = sampler_of_examples(loader)
    kind = sampler_kind(sampler)
    if kind is RandomSampler:
        return not sampler.replacement and sampler._num_samples is None
    return kind in (SequentialSampler, SubsetRandomSampler, DistributedSampler)


def repeated(kept: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return `size` of the examples kept, each once and then repeats, all equally often or nearly so."""
    if size <= len(kept):
        return kept
    order = torch.randperm(len(kept), generator=generator)
    return torch.cat([kept, kept[order.repeat(size // len(kept))[: size - len(kept)]]])


def _refuses_one(trainer: Trainer | None, loader: DataLoader[Any]) -> bool:
    """Whether a batch of a single example is an error, where batches are larger."""
    module = None if trainer is None else trainer.lightning_module
    return module is not None and bool(batch_norms(module)) and examples_per_batch(loader) > 1


def batches_asked_for(trainer: Trainer | None) -> int:
    """Batches that an epoch must have: Lightning stops where a limit or an interval of the Trainer is not met."""
    if trainer is None:
        return 0
    least = 0
    limit = trainer.limit_train_batches
    if isinstance(limit, float) and 0 < limit < 1:
        least = math.ceil(1 / limit)
        least += int(least * limit) < 1  # as 49 * (1 / 49) is less than 1
    interval = trainer.val_check_interval
    validates = trainer.check_val_every_n_epoch is not None and trainer.limit_val_batches != 0
    if validates and isinstance(interval, int) and not isinstance(interval, bool):
        least = max(least, interval)
    return least
