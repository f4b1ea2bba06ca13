"""The losses that training steps return, and the examples of their batches: what any module shows of its examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_easiness._utils.handover import leave, take
from lightning_easiness._utils.lightning import StrategyHook, is_first_of_share
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.data.indexed_loader import check_index, lost_indices
from lightning_easiness.observe.hooks import LoaderHook
from lightning_easiness.observe.processes import over_processes

_MOST_LOOSE = 512  # losses that wait one by one on the device

_numbers = count()  # of the observers that a process made


@dataclass(frozen=True)
class Steps:
    """What a process trained on: the loss and the size of the batch of each step (S,), both 0 where it skipped it.

    `index` holds the examples of all of them, one batch after the other (M,).
    """

    losses: Tensor
    sizes: Tensor
    index: Tensor

    def sums(self, length: int) -> Tensor:
        """Return the sum over the batch of each step and its size, float64 (2, length)."""
        known = torch.stack([self.losses.double() * self.sizes, self.sizes.double()])
        return torch.nn.functional.pad(known, (0, length - len(self.sizes)))

    def totals(self, means: Tensor, num_examples: int, before: int) -> Tensor:
        """Return for each example the sum of the mean losses of its steps, their number and the last, float64 (3, N).

        Steps are numbered from 1, and go on after those `before`; the last is 0 for none.
        """
        check_index(self.index, num_examples)
        totals = torch.zeros(3, num_examples, dtype=torch.float64)
        losses = means[: len(self.sizes)].repeat_interleave(self.sizes)
        totals[:2].index_add_(1, self.index, torch.stack([losses, torch.ones_like(losses)]))
        numbers = torch.arange(before + 1, before + 1 + len(self.sizes)).repeat_interleave(self.sizes).double()
        totals[2].scatter_reduce_(0, self.index, numbers, "amax")
        return totals


def _added(totals: Sequence[Tensor]) -> Tensor:
    """Return the totals (3, N) of several processes, or times, together."""
    stacked = torch.stack(list(totals))
    return torch.cat([stacked[:, :2].sum(0), stacked[:, 2:].amax(0)])


class BatchLosses:
    """Keeps the loss and the examples of each training step, until `take`, or `close`.

    The batch of a step is that of all processes together, and so is its loss. In a step a number stays on the device
    and a list of indices on the CPU; they are added up when they are asked for. A step that is skipped counts for
    nothing. The train loaders are followed from now on.
    """

    def __init__(self, trainer: Trainer, owner: str) -> None:
        self._trainer, self._owner = trainer, owner
        self._index: Tensor | None = None  # of the batch at hand
        self._indices: list[Tensor] = []
        self._loose: list[Tensor] = []
        self._stacked: list[Tensor] = []
        self._before: Tensor | None = None  # (3, N), see `Steps.totals`: over all processes, since `take`
        self._num_steps = 0  # that these are of, and all before
        self._size = 0
        self._number = next(_numbers)  # the same in every process
        self._is_closed = False
        loader_hook = LoaderHook(trainer)
        self._source = loader_hook.source
        self._hooks: list[Any] = [
            loader_hook,
            # the last call before a training step, and the step itself
            StrategyHook(trainer, "batch_to_device", after=self._begin),
            StrategyHook(trainer, "training_step", after=self._note),
        ]

    def take(self, num_examples: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return of each example the mean loss of its batches since the last call, their number, and the last of them.

        `(N,)` each, over all processes, which call it together: float32, NaN for none; int64; and int64, the number of
        the step in this fit, from 1, and 0 for none.
        """
        self._size = num_examples
        sums, counts, last = self._totals()
        self._before = None
        return (sums / counts).float(), counts.long(), last.long()

    def state(self) -> dict[str, Any]:
        """Return what was seen since `take`, over all processes, which call it together until an error stops them."""
        return {"totals": self._totals(), "num_steps": self._num_steps} if self._size else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        if state:
            self._before, self._num_steps = state["totals"].cpu(), state["num_steps"]
            self._size = self._before.shape[1]

    def close(self) -> None:
        """Remove the hooks. What was seen stays for a checkpoint that is saved afterwards."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._index = [], None
        if self._size and not self._trainer.interrupted:  # else a checkpoint is saved before this, or never
            self._totals()
            self._is_closed = True

    # ------------------------------------------------------------------ a step

    def _begin(self, batch: Any) -> Any:
        # an evaluation pass within the training is no training; for a batch that is None there is no training step
        if self._trainer.training and batch is not None:
            self._index = self._source.take()
            if self._index is None:
                raise TypeError(lost_indices(self._trainer.train_dataloader))
        return batch

    def _note(self, output: Any) -> Any:
        index, self._index = self._index, None
        if index is None or not len(index):  # a closure that runs again
            return output
        loss = output.get("loss") if isinstance(output, Mapping) else output
        if isinstance(loss, Tensor):
            self._keep(loss.detach().float().mean(), index)  # of one, or of one per example
        elif self._trainer.lightning_module.automatic_optimization:  # skipped, perhaps in this process alone
            self._keep(torch.zeros((), device=self._trainer.lightning_module.device), index[:0])
        else:
            raise TypeError(
                f"{self._owner} goes by the loss that a training step returns, but that of"
                f" {type(self._trainer.lightning_module).__name__} returned {type(loss).__name__}: let it return the"
                " loss, also where it optimizes by itself."
            )
        return output

    def _keep(self, loss: Tensor, index: Tensor) -> None:
        self._indices.append(index)
        self._loose.append(loss)
        if len(self._loose) == _MOST_LOOSE:
            self._stack()

    def _stack(self) -> None:
        self._stacked.append(torch.stack(self._loose))
        self._loose = []

    # ------------------------------------------------------------------ over an epoch

    def _totals(self) -> Tensor:
        """Return the totals (3, N) since `take`, and keep them in the place of the steps."""
        if self._before is None:
            self._before = torch.zeros(3, self._size, dtype=torch.float64)
        if not self._is_closed:
            # after an error other processes may not take part any more
            own, is_stopped = self._own(), self._trainer.interrupted
            found, length = self._with_others(own) if is_stopped else self._together(own)
            self._before, self._num_steps = _added([self._before, found]), self._num_steps + length
            self._is_closed = is_stopped
        return self._before

    def _own(self) -> Steps:
        """Return the steps of this process, and forget them."""
        if self._loose:
            self._stack()
        losses = torch.cat(self._stacked).cpu() if self._stacked else torch.zeros(0)
        index = torch.cat(self._indices) if self._indices else torch.zeros(0, dtype=torch.int64)
        sizes = torch.tensor([len(one) for one in self._indices], dtype=torch.int64)
        self._indices, self._stacked = [], []
        return Steps(losses, sizes, index)

    def _together(self, own: Steps) -> tuple[Tensor, int]:
        """Return the totals over all processes, which call it together, and the number of steps."""
        trainer = self._trainer
        if trainer.world_size == 1:
            return own.totals(own.losses.double(), self._size, self._num_steps), len(own.sizes)
        length = int(over_processes(trainer, torch.tensor(len(own.sizes)), "max"))
        sums = over_processes(trainer, own.sums(length))
        totals = own.totals(sums[0] / sums[1], self._size, self._num_steps)
        last = over_processes(trainer, totals[2:], "max")
        return torch.cat([over_processes(trainer, totals[:2]), last]), length

    def _with_others(self, own: Steps) -> tuple[Tensor, int]:
        """Return, in the first process, the totals with what the others leave of an epoch that an error stopped."""
        trainer, name = self._trainer, f"batch-losses-{self._number}"
        if not trainer.is_global_zero:
            if is_first_of_share(trainer):
                leave(name, trainer.global_rank, vars(own))
            return torch.zeros(3, self._size, dtype=torch.float64), 0
        others = take(name, range(1, trainer.world_size)) if trainer.world_size > 1 else {}
        missing = [rank for rank, handed in others.items() if handed is None]
        if missing:
            warn_user(
                f"The checkpoint lacks what processes {', '.join(map(str, missing))} saw of this epoch, as they did not"
                " stop with the first one: to lose nothing, resume from the checkpoint before."
            )
        steps = [own, *(Steps(**handed) for handed in others.values() if handed is not None)]
        length = max(len(one.sizes) for one in steps)
        sums = torch.stack([one.sums(length) for one in steps]).sum(0)
        means = sums[0] / sums[1]
        return _added([one.totals(means, self._size, self._num_steps) for one in steps]), length
