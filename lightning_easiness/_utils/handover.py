"""What processes leave for each other without meeting: after an error, some may wait elsewhere, or be gone.

It goes through the key-value store that the process group was made with, so that no collective operation can hang, or
meet another one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import safetensors.torch
import torch.distributed as distributed
from torch import Tensor

_PART = 4 * 2**20  # bytes: the store refuses values above 8 MiB
_PATIENCE = 10.0  # seconds that all others have to stop after a process
_AT_LEAST = 0.1  # of them for each: the store takes 0 for no limit


def leave(name: str, rank: int, tensors: Mapping[str, Tensor]) -> None:
    """Leave tensors of a process for those that `take` them; nothing where there is no store."""
    store, data = _store(), safetensors.torch.save({key: value.cpu().contiguous() for key, value in tensors.items()})
    if store is None:
        return
    parts = [data[start : start + _PART] for start in range(0, len(data), _PART)]
    with suppress(RuntimeError):  # the process that holds the store is gone
        for number, part in enumerate(parts):
            store.set(_key(name, rank, number), part)
        store.set(_key(name, rank), str(len(parts)))


def take(name: str, ranks: Iterable[int], seconds: float = _PATIENCE) -> dict[int, dict[str, Tensor] | None]:
    """Return what each process left; None where one leaves nothing within the time that all have together."""
    end = time.monotonic() + seconds
    return {rank: _taken(name, rank, max(_AT_LEAST, end - time.monotonic())) for rank in ranks}


def _taken(name: str, rank: int, seconds: float) -> dict[str, Tensor] | None:
    store = _store()
    if store is None:
        return None
    with suppress(RuntimeError):
        store.wait([_key(name, rank)], timedelta(seconds=seconds))
        number = int(store.get(_key(name, rank)))
        found: dict[str, Tensor] = safetensors.torch.load(
            b"".join(store.get(_key(name, rank, part)) for part in range(number))
        )
        return found
    return None


def _key(name: str, rank: int, part: int | str = "parts") -> str:
    return f"lightning_easiness/{name}/{rank}/{part}"


def _store() -> Any:
    """Return the store of the process group; None without one."""
    with suppress(ValueError, RuntimeError, AttributeError):
        return distributed.distributed_c10d._get_default_store()
    return None
