"""Random number generators that a pass over the data leaves as it found them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LEAVES = (str, bytes, int, float, Tensor, np.ndarray, type, ModuleType)
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


def seed_rng(seed: int) -> None:
    """Seed Python's, numpy's and torch's global CPU generators, which data sets draw augmentations from.

    For worker processes, and inside `isolated_rng`, which restores the training's. The device's generators are left
    alone: data sets do not use them, and seeding them would synchronise with the device.
    """
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (the generator that data sets use)


@contextmanager
def isolated_rng() -> Iterator[None]:
    """Restore the global RNG states after a block, also after an exception."""
    before = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(before)


def get_rng_state() -> dict[str, Any]:
    """Return the states of torch's, CUDA's, numpy's and Python's global generators as tensors and plain types."""
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


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what `get_rng_state` returned."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
    held = state["numpy"]
    key = held["key"].cpu().numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, held["position"], held["has_gauss"], held["cached"]))  # noqa: NPY002
    held = state["python"]
    random.setstate((held["version"], tuple(held["words"]), held["gauss"]))


class OwnGenerators:
    """Restores the random generators that a data set holds after a block: torch's, numpy's and Python's.

    A data set may draw its augmentations from a generator that it holds. A pass in this process would move it on, and
    training would see other augmentations than without the pass.
    """

    _MOST_ITEMS = 64  # longer containers hold data, not transforms
    _MOST_VISITED = 10_000

    def __init__(self, dataset: Any) -> None:
        self._found = list(self._generators(dataset, set(), depth=8))
        self._states: list[Any] = []

    def __enter__(self) -> None:
        self._states = self.get_states()

    def __exit__(self, *exc: object) -> None:
        self.set_states(self._states)

    def get_states(self) -> list[Any]:
        """Return the generators' states, as tensors and plain types."""
        return [_get_state(generator) for generator in self._found]

    def set_states(self, states: list[Any]) -> None:
        """Restore what `get_states` returned, here or of the same data in another process."""
        for generator, state in zip(self._found, states, strict=False):
            _set_state(generator, state)

    def _generators(self, value: Any, seen: set[int], depth: int) -> Iterator[Any]:
        if id(value) in seen or len(seen) > self._MOST_VISITED or depth < 0 or isinstance(value, _LEAVES):
            return
        seen.add(id(value))
        if isinstance(value, _GENERATORS):
            yield value
            return
        for child in self._children(value):
            yield from self._generators(child, seen, depth - 1)

    def _children(self, value: Any) -> Iterable[Any]:
        if isinstance(value, (dict, list, tuple, set)):
            children = value.values() if isinstance(value, dict) else value
            return list(children) if len(value) <= self._MOST_ITEMS else ()
        return list(vars(value).values()) if hasattr(value, "__dict__") else ()


def _get_state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return _plain(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return _plain(generator.get_state(legacy=False))
    return generator.getstate()


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
    """Return the state of a bit generator without numpy's arrays and scalars; numpy takes lists and numbers back."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    return state.tolist() if isinstance(state, (np.ndarray, np.generic)) else state
