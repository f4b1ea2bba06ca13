"""Watches the steps of a fit on any machine: what would wait for a device there is refused, and what grows with N."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from lightning_easiness.observe import online
from lightning_easiness.observe.online import OnlineObserver
from tests.functional.strategies import Reads as Waits

MANY = 20_000


class Reads(TorchFunctionMode):
    """Refuses the methods that take values to the host, which on a CPU would pass unseen."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert getattr(func, "__name__", "") not in ("item", "tolist", "numpy", "cpu", "__bool__", "__float__"), func
        return func(*args, **(kwargs or {}))


class Small(Waits):
    """Refuses what waits for a device, and tensors of MANY values, as a data set of so many examples has them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = super().__torch_dispatch__(func, types, args, kwargs)
        assert all(one.numel() < MANY for one in tree_leaves(found) if isinstance(one, Tensor)), func
        return found


def watch_steps(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Watch what is done at the end of each step but the first; return whether each step was skipped, as they come."""
    watched: list[bool] = []
    unwatched = OnlineObserver.end_batch

    def end_batch(observer: OnlineObserver, skipped: bool, outputs: Any = None) -> None:
        first = not watched  # which decides how outputs are read
        with nullcontext() if first else Reads(), nullcontext() if first else Small():
            unwatched(observer, skipped, outputs)
        watched.append(skipped)

    def on_cpu(index: Tensor, size: int) -> None:  # where reading the indices waits for nothing
        assert index.is_cpu

    monkeypatch.setattr(OnlineObserver, "end_batch", end_batch)
    monkeypatch.setattr(online, "check_index", on_cpu)
    return watched
