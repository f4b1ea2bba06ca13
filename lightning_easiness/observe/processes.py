"""Sums and maxima over the processes of a fit."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_easiness._utils.lightning import is_first_of_share


def over_processes(trainer: Trainer, values: Tensor, reduce_op: str = "sum") -> Tensor:
    """Return the "sum" or "max" over all processes, which call it together, on the CPU.

    Processes that read the same share of the data, as those of a tensor-parallel group, count once.

    One process takes no way over its device: some devices, which are always alone, have no float64.
    """
    if trainer.world_size == 1:
        return values.cpu()
    strategy = trainer.strategy
    if reduce_op == "sum" and not is_first_of_share(trainer):
        values = torch.zeros_like(values)
    reduced: Tensor = strategy.reduce(values.to(strategy.root_device), reduce_op=reduce_op)
    return reduced.cpu()
