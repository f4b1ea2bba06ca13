"""Sums and maxima over the processes of a fit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_easiness._utils.lightning import data_share, is_first_of_share
from lightning_easiness.observe.tasks import Task, restore_task


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


def check_same_share(trainer: Trainer, index: Tensor) -> None:
    """Raise a ValueError, in all processes, if some that should read the same share hold other examples in a batch."""
    rank, number = data_share(trainer)
    if number == trainer.world_size:
        return
    digest = int((index * torch.arange(1, len(index) + 1)).sum())
    own = torch.tensor([rank, len(index), digest], device=trainer.strategy.root_device)
    shares, batches = set(), set()
    for share, *batch in trainer.strategy.all_gather(own).tolist():
        shares.add(share)
        batches.add((share, *batch))
    if len(batches) > len(shares):
        raise ValueError(
            f"The processes of a {type(trainer.strategy).__name__} that share the model must read the same batches, but"
            " they hold different examples: leave use_distributed_sampler=True, or let your sampler split the data by"
            " trainer.distributed_sampler_kwargs."
        )


def same_task(trainer: Trainer, recognise: Callable[[], Task]) -> Task:
    """Return the task that the first process recognises, in all of them; all raise the error that it raises."""
    state, problem = None, None
    if trainer.is_global_zero:
        try:
            state = recognise().state()
        except Exception as error:  # the others wait for it
            problem = error
    state, problem = trainer.strategy.broadcast((state, problem))
    if state is None:
        raise problem or RuntimeError("the first process recognised no task")
    return restore_task(state)
