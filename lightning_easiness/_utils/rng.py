"""Random streams that a pass over the data leaves as it found them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor


def set_streams(state: int) -> None:
    """Sets Python's, numpy's and torch's CPU stream, which data sets draw augmentations from.

    For worker processes, and inside `isolated_streams`, which gives the training its streams back. The device's streams
    are left alone: data sets do not use them, and setting them would synchronise with the device.
    """
    torch.default_generator.manual_seed(state)
    random.seed(state)
    np.random.seed(state % 2**32)  # noqa: NPY002  (the stream that data sets use)


class OwnGenerators:
    """Gives a data set its own random generators back as they were: torch's, numpy's and Python's.

    A data set may draw its augmentations from a generator that it holds. A pass in this process would move it on, and
    training would see other augmentations than without the pass.
    """

    _MOST_ITEMS = 64  # longer containers hold data, not transforms
    _MOST_VISITED = 10_000

    def __init__(self, dataset: Any) -> None:
        self._found = list(self._generators(dataset, set(), depth=8))
        self._states: list[Any] = []

    def __enter__(self) -> None:
        self._states = self.read()

    def __exit__(self, *exc: object) -> None:
        self.restore(self._states)

    def read(self) -> list[Any]:
        """Reads the generators' states, as tensors and plain types."""
        return [_get_state(generator) for generator in self._found]

    def restore(self, states: list[Any]) -> None:
        """Puts back what `read` read, here or of the same data in another process."""
        for generator, state in zip(self._found, states, strict=False):
            _set_state(generator, state)

    def _generators(self, value: Any, seen: set[int], depth: int) -> Iterator[Any]:
        if (
            id(value) in seen
            or len(seen) > self._MOST_VISITED
            or depth < 0
            or isinstance(value, (str, bytes, int, float, Tensor, np.ndarray, type))
        ):
            return
        seen.add(id(value))
        if isinstance(value, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)):
            yield value
            return
        for child in self._children(value):
            yield from self._generators(child, seen, depth - 1)

    def _children(self, value: Any) -> Iterable[Any]:
        if isinstance(value, ModuleType):
            return ()
        if isinstance(value, dict):
            return list(value.values()) if len(value) <= self._MOST_ITEMS else ()
        if isinstance(value, (list, tuple, set)):
            return list(value) if len(value) <= self._MOST_ITEMS else ()
        return list(vars(value).values()) if hasattr(value, "__dict__") else ()


def _get_state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return _plain(generator.bit_generator.state)
    return (
        _plain(generator.get_state(legacy=False))
        if isinstance(generator, np.random.RandomState)
        else generator.getstate()
    )


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state.cpu())
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.setstate(state)


def _plain(state: Any) -> Any:
    """The state of a bit generator without numpy's arrays and scalars; numpy takes lists and numbers back."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    return state.tolist() if isinstance(state, (np.ndarray, np.generic)) else state


@contextmanager
def isolated_streams() -> Iterator[None]:
    """Leaves the global streams after a block as they were before it, also after an exception."""
    before = read_streams()
    try:
        yield
    finally:
        restore_streams(before)


def read_streams() -> dict[str, Any]:
    """Reads the states of torch's, CUDA's, numpy's and Python's streams as tensors and plain types."""
    _, key, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": {
            "key": torch.from_numpy(np.asarray(key).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "python": {"version": version, "words": list(words), "gauss": gauss},
    }


def restore_streams(state: dict[str, Any]) -> None:
    """Puts back what `read_streams` read."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([stream.cpu() for stream in state["cuda"]])
    held = state["numpy"]
    key = held["key"].cpu().numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, held["position"], held["has_gauss"], held["cached"]))  # noqa: NPY002
    held = state["python"]
    random.setstate((held["version"], tuple(held["words"]), held["gauss"]))
