"""Training steps that wait on their device until one arithmetic serves several of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Size, Tensor

from lightning_easiness.observe.kept import SMALL, copied

_MOST_STEPS = 32
_MOST_BYTES = 2**23  # of outputs and targets that wait
_LONGEST_ROW = 2**13  # values of an example: sums of longer ones may be split by the number of examples


# of an output, then of the targets, what steps that wait together have in common: all but the number of examples
Kind = tuple[Size, torch.dtype, torch.device, Size, torch.dtype, torch.device]


class WaitingSteps:
    """Gives steps to `observe`, several of one kind as one batch, in order.

    Each row of outputs is worked on by itself, so that on a CPU a batch of several gives the numbers that each step
    gives, to the bit. A step of a kind that was not seen before does not wait, so that an error comes with the step
    that it is of; nor do large outputs and targets, long rows, float64, where norms of single rows differ in the last
    bit, or what is no tensor.
    `observe` takes the indices (M,), the sizes of the steps, their outputs (M, ...) and targets (M, ...).
    """

    def __init__(self, observe: Callable[[Tensor, list[int], Any, Any], None]) -> None:
        self._observe = observe
        self._known: set[Kind] = set()
        self.clear()

    def clear(self) -> None:
        """Forget what waits."""
        self._kind: Kind | None = None
        self._indices: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._bytes = 0

    def add(self, index: Tensor, output: Any, target: Any, may_wait: bool) -> None:
        """Take a step's indices (B,), its output, which nobody overwrites if it is SMALL, and its targets."""
        target = copied(target)  # of which a loader or a step may use the memory again
        kind = _kind_of(output, target, len(index)) if may_wait else None
        if kind is None or kind != self._kind:
            self.flush()
            if kind is None or kind not in self._known:
                self._observe(index, [len(index)], output, target)
                if kind is not None:
                    self._known.add(kind)
                return
            self._kind = kind
        self._indices.append(index)
        self._outputs.append(output)
        self._targets.append(target)
        self._bytes += output.nbytes + target.nbytes
        if len(self._indices) >= _MOST_STEPS or self._bytes >= _MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        """Give what waits to `observe`; after an error, or a stop, it still waits."""
        if self._indices:
            sizes = [len(index) for index in self._indices]
            self._observe(torch.cat(self._indices), sizes, torch.cat(self._outputs), torch.cat(self._targets))
        self.clear()


def _kind_of(output: Any, target: Any, size: int) -> Kind | None:
    """Return the kind of a step; None where it cannot wait."""
    if not isinstance(output, Tensor) or not isinstance(target, Tensor):
        return None
    shape, target_shape = output.shape, target.shape
    if not shape or not target_shape or shape[0] != size or target_shape[0] != size:
        return None
    dtype = output.dtype
    if dtype == torch.float64 or max(output.nbytes, target.nbytes) > SMALL or not output.is_contiguous():
        return None
    if shape[1:].numel() > _LONGEST_ROW:
        return None
    return shape[1:], dtype, output.device, target_shape[1:], target.dtype, target.device
