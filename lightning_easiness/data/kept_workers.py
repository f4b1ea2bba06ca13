"""Workers that stay alive while the examples to read change: keys become indices before they are sent to a worker.

A worker has a copy of what its loader reads, so a loader over other examples needs other workers, unless they read the
whole data set. The loaders over one selection after the other then share one iterator, with its workers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple
from weakref import ref

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data._utils.worker import _generate_state
from typing_extensions import override

from lightning_easiness._utils.lightning import only_seeds_workers
from lightning_easiness._utils.rng import OwnGenerators
from lightning_easiness.data.indexed_loader import IndexedDataset, UserDatasetInWorker
from lightning_easiness.data.subset import SelectedDataset, fetch


class _Start(NamedTuple):
    """A use of the workers by another loader, for which new ones would be started and seeded else."""

    number: int
    base_seed: int = 0


class _Keys(NamedTuple):
    """What is sent to a worker: indices in the whole data set, as one batch or one item needs them."""

    start: _Start
    keys: Any


class _WholeKeys:
    """What a loader's sampler of positions asks for, as indices in the whole data set."""

    def __init__(self, sampler: Any, selected: SelectedDataset, start: _Start, in_batches: bool) -> None:
        self.sampler, self.start = sampler, start
        self._to_index = selected.indices_of_batch if in_batches else selected.indices_of_key

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[_Keys]:
        return map(self._sent, iter(self.sampler))

    def _sent(self, keys: Any) -> _Keys:
        return _Keys(self.start, self._to_index(keys))


class _InWorker(IndexedDataset):
    """A whole data set in a worker that seeds itself anew for each loader, as new workers are seeded."""

    def __init__(self, dataset: Any, start: _Start, seed_again: Callable[[int], None] | None) -> None:
        super().__init__(dataset)
        self._number, self._seed_again = start.number, seed_again

    @override
    def __getitem__(self, sent: _Keys) -> Any:
        self._begin(sent.start)
        return self.dataset[sent.keys]

    @override
    def __getitems__(self, sent: _Keys) -> Any:  # type: ignore[override]
        self._begin(sent.start)
        return fetch(self.dataset, sent.keys)

    def _begin(self, start: _Start) -> None:
        info = get_worker_info()
        if start.number == self._number or info is None:
            return
        self._number = start.number
        seed = start.base_seed + info.id
        object.__setattr__(info, "seed", seed)  # WorkerInfo refuses plain assignment
        random.seed(seed)
        torch.manual_seed(seed)
        numpy_seed = _generate_state(start.base_seed, info.id)  # type: ignore[no-untyped-call]
        np.random.seed(numpy_seed)  # noqa: NPY002  (what torch does in a new worker)
        if self._seed_again is not None:
            self._seed_again(info.id)


class KeptWorkers:
    """The workers of one fit, which read for one loader after the other, until `close`."""

    def __init__(self) -> None:
        self._iterator: Any = None
        self._settings: list[Any] = []
        self._reader: Callable[[], Any] = lambda: None  # the loader that has them, if there still is one
        self._number = 0

    def __reduce__(self) -> Any:
        return KeptWorkers, ()  # a copy has no workers yet

    def close(self) -> None:
        """Let the workers go, when nobody else reads from them."""
        self._iterator, self._settings = None, []

    def iterator(self, loader: Any, selected: SelectedDataset, make: Callable[[Any], Any]) -> Any:
        """Return an iterator over a loader's selection, by the workers that there are if their settings are its own."""
        self._number += 1
        settings = _settings_of(loader, selected)
        if not self._are_alive() or settings != self._settings:
            self._iterator, self._settings = self._made(loader, selected, make), settings
        else:
            self._hand_over(loader, selected)
        self._reader = ref(loader)
        return self._iterator

    def _are_alive(self) -> bool:
        return self._iterator is not None and all(worker.is_alive() for worker in self._iterator._workers)

    def _made(self, loader: Any, selected: SelectedDataset, make: Callable[[Any], Any]) -> Any:
        own, start, again = dict(loader.__dict__), _Start(self._number), _user_init_fn(loader)
        inner = IndexedDataset(selected.dataset) if isinstance(own["dataset"], IndexedDataset) else selected.dataset
        name = "sampler" if loader.batch_sampler is None else "batch_sampler"
        try:  # in __dict__, since DataLoader does not allow setting some of these after __init__
            loader.__dict__["dataset"] = _InWorker(inner, start, again)
            loader.__dict__["worker_init_fn"] = UserDatasetInWorker(again)
            loader.__dict__[name] = _keys(loader, selected, start)
            return make(loader)
        finally:
            loader.__dict__.update({key: own[key] for key in ("dataset", "worker_init_fn", name)})

    def _hand_over(self, loader: Any, selected: SelectedDataset) -> None:
        """Let the workers read for another loader: all streams move on as if new workers were started."""
        before, iterator = self._reader(), self._iterator
        if before is not None:
            before.__dict__["_iterator"] = None
        keys = _keys(loader, selected, _Start(self._number))
        iter(keys)  # which a new iterator does twice, and a sampler of the user's may count it
        seed = int(torch.empty((), dtype=torch.int64).random_(generator=loader.generator).item())
        keys.start = _Start(self._number, seed)
        iterator._index_sampler, iterator._base_seed = keys, seed
        iterator._reset(loader)


def _keys(loader: Any, selected: SelectedDataset, start: _Start) -> _WholeKeys:
    in_batches = loader.batch_sampler is not None
    return _WholeKeys(loader.batch_sampler if in_batches else loader.sampler, selected, start, in_batches)


def _user_init_fn(loader: Any) -> Any:
    held = loader.worker_init_fn
    return held.worker_init_fn if isinstance(held, UserDatasetInWorker) else held


def _settings_of(loader: Any, selected: SelectedDataset) -> list[Any]:
    """Return all that workers and their iterator were made by, to be compared."""
    is_indexed, collate = isinstance(loader.dataset, IndexedDataset), loader.collate_fn
    init = _user_init_fn(loader)
    return [
        _Same(selected.dataset),
        is_indexed,
        _Same(collate.args[0] if is_indexed else collate),
        (init.func, init.args, init.keywords) if isinstance(init, partial) else init,
        _Same(loader.multiprocessing_context),
        loader.batch_sampler is not None,
        *(getattr(loader, name, None) for name in _SETTINGS),
    ]


_SETTINGS = (
    "num_workers",
    "prefetch_factor",
    "pin_memory",
    "pin_memory_device",
    "timeout",
    "drop_last",
    "in_order",
)


class _Same:
    """Is equal to another one of the same object."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.held is other.held

    __hash__ = None  # type: ignore[assignment]


def can_keep_workers(loader: Any) -> bool:
    """Return whether workers that stay read the same as new ones, which the user's loader asks to keep.

    Not for a class with an iterator of its own, a worker_init_fn of the user's, and data that hold generators, which
    begin anew in a new worker.
    """
    is_plain = all(getattr(type(loader), name) is getattr(DataLoader, name) for name in ("__iter__", "_get_iterator"))
    if not (is_plain and loader.num_workers and loader.persistent_workers):
        return False
    init = loader.worker_init_fn
    return (init is None or only_seeds_workers(init)) and not OwnGenerators(loader.dataset).get_states()


def keep_workers(loader: Any, workers: KeptWorkers) -> None:
    """Let a loader over a selection without other labels read by the workers of the loaders before it."""
    loader.dataset.kept_workers = workers
    loader.__class__ = _keeping_class(type(loader))  # type: ignore[arg-type]


@cache
def _keeping_class(loader_class: Any) -> type:
    """Make a subclass of the user's loader class, so that isinstance checks and methods work as before."""

    def _get_iterator(self: Any) -> Any:
        held = self.__dict__["dataset"]
        selected = held.dataset if isinstance(held, IndexedDataset) else held
        workers, make = selected.kept_workers, loader_class._get_iterator
        return make(self) if workers is None else workers.iterator(self, selected, make)

    namespace = {"_get_iterator": _get_iterator, "__module__": loader_class.__module__, "__doc__": loader_class.__doc__}
    return type(f"Keeping{loader_class.__name__}", (loader_class,), namespace)
