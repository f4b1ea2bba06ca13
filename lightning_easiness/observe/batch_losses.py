"""The losses that training steps return, and the examples of their batches: what any module shows of its examples."""

from __future__ import annotations

from collections.abc import Mapping
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


class BatchLosses:
    """Keeps the loss and the examples of each training step, until `take`, or `close`.

    In a step a number stays on the device and a list of indices on the CPU; they are added up when they are asked for.
    A step that is skipped counts for nothing. The train loaders are followed from now on.
    """

    def __init__(self, trainer: Trainer, owner: str) -> None:
        self._trainer, self._owner = trainer, owner
        self._index: Tensor | None = None  # of the batch at hand
        self._indices: list[Tensor] = []
        self._loose: list[Tensor] = []
        self._stacked: list[Tensor] = []
        self._before: Tensor | None = None  # (2, N): sums and counts over all processes, of before a resumption
        self._size = 0
        self._number = next(_numbers)  # the same in every process
        self._is_stopped = self._is_closed = False
        loader_hook = LoaderHook(trainer)
        self._source = loader_hook.source
        self._hooks: list[Any] = [
            loader_hook,
            # the last call before a training step, and the step itself
            StrategyHook(trainer, "batch_to_device", after=self._begin),
            StrategyHook(trainer, "training_step", after=self._note),
        ]

    def take(self, num_examples: int) -> tuple[Tensor, Tensor]:
        """Return the mean loss of the batches that held each example, NaN for none, and their number; and forget them.

        float32 and int64, `(N,)`, over all processes, which call it together.
        """
        self._size = num_examples
        sums, counts = self._totals()
        self._before = None
        return (sums / counts).float(), counts.long()

    def state(self) -> dict[str, Tensor]:
        """Return what was seen since `take`, over all processes, which call it together until an error stops them."""
        if not self._size:
            return {} if self._before is None else {"totals": self._before}
        return {"totals": self._totals()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`."""
        if "totals" in state:
            self._before = state["totals"].cpu()
            self._size = self._before.shape[1]

    def close(self, stopped: bool = False) -> None:
        """Remove the hooks; `stopped` by an error, after which other processes may not take part any more."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._index, self._is_stopped = [], None, stopped
        if not stopped and self._size:
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
            self._indices.append(index)
            self._loose.append(loss.detach().float().reshape(()))
            if len(self._loose) == _MOST_LOOSE:
                self._stack()
        elif not self._trainer.lightning_module.automatic_optimization:
            raise TypeError(
                f"{self._owner} goes by the loss that a training step returns, but that of"
                f" {type(self._trainer.lightning_module).__name__} returned {type(loss).__name__}: let it return the"
                " loss, also where it optimizes by itself."
            )
        return output

    def _stack(self) -> None:
        self._stacked.append(torch.stack(self._loose))
        self._loose = []

    # ------------------------------------------------------------------ over an epoch

    def _totals(self) -> Tensor:
        """Return sums and counts (2, N), float64, and keep them in the place of the steps."""
        if self._before is None:
            self._before = torch.zeros(2, self._size, dtype=torch.float64)
        if not self._is_closed:
            own = self._own()
            self._before = self._before + (self._with_others(own) if self._is_stopped else self._over(own))
            self._is_closed = self._is_stopped
        return self._before

    def _over(self, own: Tensor) -> Tensor:
        return over_processes(self._trainer, own) if self._trainer.world_size > 1 else own

    def _own(self) -> Tensor:
        """Return the sums and counts of this process, and forget its steps."""
        totals = torch.zeros(2, self._size, dtype=torch.float64)
        if self._loose:
            self._stack()
        if self._indices:
            index, sizes = torch.cat(self._indices), torch.tensor([len(one) for one in self._indices])
            check_index(index, self._size)
            losses = torch.cat(self._stacked).cpu().double().repeat_interleave(sizes)
            totals.index_add_(1, index, torch.stack([losses, torch.ones_like(losses)]))
        self._indices, self._stacked = [], []
        return totals

    def _with_others(self, own: Tensor) -> Tensor:
        """Add, in the first process, what the others leave of an epoch that an error stopped."""
        trainer, name = self._trainer, f"batch-losses-{self._number}"
        if trainer.world_size == 1:
            return own
        if not trainer.is_global_zero:
            leave(name, trainer.global_rank, {"totals": own if is_first_of_share(trainer) else torch.zeros_like(own)})
            return own
        others = take(name, range(1, trainer.world_size))
        missing = [rank for rank, handed in others.items() if handed is None]
        if missing:
            warn_user(
                f"The checkpoint lacks what processes {', '.join(map(str, missing))} saw of this epoch, as they did not"
                " stop with the first one: to lose nothing, resume from the checkpoint before."
            )
        return own + sum(handed["totals"] for handed in others.values() if handed is not None)
