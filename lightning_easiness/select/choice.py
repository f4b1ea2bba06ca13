"""What one epoch trains on, and how many examples that must be at least."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_easiness.data.ordered_loader import examples_per_batch
from lightning_easiness.functional._rng import generator
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


def enough_for_an_epoch(
    selection: Selection, trainer: Trainer | None, loader: DataLoader[Any], num_held_out: int = 0
) -> Callable[[int], int]:
    """How many examples there must be, as a fit ends at an epoch without a batch for each process."""
    world_size = 1 if trainer is None else trainer.world_size
    batch = examples_per_batch(loader) * world_size
    if not selection.every_epoch:
        # what is chosen once stays as it is, and is refused where it is too little
        return lambda count: batch if loader.drop_last else 1
    least = batch if selection.minimum is None else selection.minimum
    least = max(least, batches_asked_for(trainer) * batch, batch * bool(loader.drop_last))

    def enough(count: int) -> int:
        needed = max(count, least)
        if batch > world_size and not loader.drop_last and 0 < needed % batch <= world_size:
            needed += world_size  # else the last batch of a process would hold one example
        return min(needed, len(loader.dataset) - num_held_out)  # type: ignore[arg-type]

    return enough


def without_alone(kept: Tensor, trainer: Trainer | None, loader: DataLoader[Any]) -> Tensor:
    """Leave out, at random, what would be alone in the last batch of a process: batch norm refuses a single example."""
    world_size = 1 if trainer is None else trainer.world_size
    batch = examples_per_batch(loader) * world_size
    num_alone = len(kept) % batch
    if loader.drop_last or batch == world_size or not 0 < num_alone <= world_size < len(kept):
        return kept
    order = torch.randperm(len(kept), generator=generator(0, len(kept)))
    return kept[order[num_alone:].sort().values]


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
