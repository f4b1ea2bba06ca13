"""Sums and maxima over the processes of a fit."""

from __future__ import annotations

from lightning.pytorch import Trainer
from torch import Tensor


def over_processes(trainer: Trainer, values: Tensor, reduce_op: str = "sum") -> Tensor:
    """Return the "sum" or "max" over all processes, which call it together, on the CPU.

    One process takes no way over its device: some devices, which are always alone, have no float64.
    """
    if trainer.world_size == 1:
        return values.cpu()
    strategy = trainer.strategy
    reduced: Tensor = strategy.reduce(values.to(strategy.root_device), reduce_op=reduce_op)
    return reduced.cpu()
