"""The group of processes that is at work, also outside a fit, where there is no Trainer to ask."""

from __future__ import annotations

import torch
import torch.distributed as distributed
from torch import Tensor


def num_processes() -> int:
    """Return the number of processes that are at work together; 1 without a group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def is_first_process() -> bool:
    """Return whether this process is the first of its group, from which the others receive."""
    return num_processes() == 1 or distributed.get_rank() == 0


def shared_values(*values: float) -> Tensor:
    """Make a float64 tensor in shared memory: what a process that a strategy starts writes, the one before it reads."""
    made: Tensor = torch.tensor(values, dtype=torch.float64).share_memory_()  # type: ignore[no-untyped-call]
    return made
