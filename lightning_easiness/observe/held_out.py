"""What a run that holds out examples keeps of them, and which examples it has trained on."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import IterableDataset

from lightning_easiness._utils.blocks import count
from lightning_easiness.data.observation import Observation, TrainedOn
from lightning_easiness.data.subset import SelectedDataset, held_out_of, num_examples
from lightning_easiness.observe.accumulate import ProbabilitySums
from lightning_easiness.observe.processes import over_processes


class HeldOutRows:
    """The softmax of the examples held out, int64 (m,), in one evaluation pass; each process reads a part of them."""

    def __init__(self, held_out: Tensor, trainer: Trainer) -> None:
        self._held_out, self._trainer = held_out, trainer
        self._sums = ProbabilitySums(len(held_out), keeps=trainer.is_global_zero)

    def add(self, start: int, rows: Tensor) -> None:
        """Take one batch: the softmax, float16 (B, K), of the examples from `start` on."""
        bounds = torch.tensor([start, start + len(rows)])
        low, high = torch.searchsorted(self._held_out, bounds).tolist()
        if low < high:
            places = self._held_out[low:high] - start
            self._sums.add(torch.arange(low, high), rows[places.to(rows.device, non_blocking=True)])

    def means(self) -> Tensor | None:
        """Return them, float16 (m, K), on all processes together; None where there are none, or not in this process."""
        self._sums.fold(partial(over_processes, self._trainer))
        return self._sums.means()


class TrainedExamples:
    """Which examples a fit has trained on up to its latest epoch, the same in every process."""

    def __init__(self, size: int, held_out: Tensor | None) -> None:
        self.mask = torch.zeros(size, dtype=torch.bool)
        self.holds_out = held_out is not None
        self._held_out = torch.zeros(size, dtype=torch.bool)
        if held_out is not None:
            self._held_out[held_out] = True

    @classmethod
    def of(cls, trainer: Trainer, before: Tensor | None) -> TrainedExamples | None:
        """Begin a fit, or go on with one; None where the examples of the train loader have no number."""
        dataset = getattr(trainer.train_dataloader, "dataset", None)
        if not hasattr(dataset, "__len__") or isinstance(dataset, IterableDataset):
            return None
        found = cls(num_examples(dataset), held_out_of(dataset))
        size = len(found.mask)
        if before is not None and len(before) == (size + 7) // 8:
            found.mask |= torch.from_numpy(np.unpackbits(before.cpu().numpy(), count=size).view(np.bool_))
        return found

    @property
    def is_known(self) -> bool:
        """Whether there is something to write: examples held out, or trained on."""
        return self.holds_out or bool(self.mask.any())

    def state(self) -> Tensor:
        """Return the examples so far for Lightning's checkpoints, one bit each."""
        return torch.from_numpy(np.packbits(self.mask.numpy()))

    def add(self, trainer: Trainer, online: Observation | None) -> bool:
        """Take in an epoch: what training saw, or else what the loader reads; return whether that is more."""
        known = count(self.mask)
        if known == len(self.mask):
            return False
        dataset = getattr(trainer.train_dataloader, "dataset", None)
        if online is not None:
            self.mask |= True if online.seen is None else online.seen
        elif isinstance(dataset, SelectedDataset):
            self.mask[dataset.indices] = True
        else:
            self.mask[:] = True
        return count(self.mask) > known

    def found(self, step: int) -> TrainedOn:
        """Return what to write."""
        return TrainedOn(step, self.mask.clone(), self._held_out)
