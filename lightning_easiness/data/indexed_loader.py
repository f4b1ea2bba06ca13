"""Loaders whose batches carry the indices of their examples.

While an iterator is created, the loader's data set and collate function are replaced by ones that add the index to the
batch, and the iterator removes it again. This is invisible to other code: `loader.dataset` stays the user's, batches
are bit-identical, and no random number is drawn. Since the index is part of the batch, it is right with workers,
out-of-order delivery, any sampler, and loaders that resume mid-epoch.
"""

from __future__ import annotations

import copy
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    get_worker_info,
)

from lightning_easiness.data.subset import SelectedDataset, pass_state_on, whole, with_indices

_SINGLE_INDEX_SAMPLERS = (
    SequentialSampler,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    DistributedSampler,
)
_STATEFUL_SAMPLERS: dict[str, type] = {  # torchdata's, which draw as torch's do and have a state
    "RandomSampler": RandomSampler,
    "BatchSampler": BatchSampler,
    "StatefulDistributedSampler": DistributedSampler,
}
_SOURCES = "_easiness_sources"  # in a loader's __dict__: the sources that follow it


def sampler_kind(sampler: Any) -> type:
    """Return the class of a sampler: torch's own for one of torchdata's StatefulDataLoader."""
    kind = type(sampler)
    is_stateful = kind.__module__.startswith("torchdata.stateful_dataloader")
    return _STATEFUL_SAMPLERS.get(kind.__name__, kind) if is_stateful else kind


class IndexedBatch(NamedTuple):
    """A batch and the indices of its examples. A named tuple, since the pinning thread keeps its type.

    The indices are an array, int64 (B,), which a worker sends as a few bytes: a tensor would take a file of its own.
    """

    example_index: np.ndarray
    batch: Any

    @property
    def examples(self) -> Tensor:
        """The indices as a tensor, int64 (B,)."""
        return torch.from_numpy(self.example_index)


class IndexedDataset(Dataset[Any]):
    """A loader's data set that also returns the index of each item in the whole data set."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        pass_state_on(self, dataset)

    def __getitem__(self, key: Any) -> tuple[Any, Any]:
        index = self.dataset.indices_of_key(key) if isinstance(self.dataset, SelectedDataset) else key
        return index, self.dataset[key]

    def __getitems__(self, keys: Sequence[Any]) -> tuple[Sequence[Any], Any]:
        return with_indices(self.dataset, keys)


def indexed_collate(collate_fn: Callable[[Any], Any], fetched: Any) -> IndexedBatch:
    """Collate the examples of an `IndexedDataset` with the user's function, and add their indices."""
    keys, examples = fetched
    return IndexedBatch(_as_index(keys), collate_fn(examples))


class UserDatasetInWorker:
    """Makes `get_worker_info().dataset` the user's data set, for worker_init_fn and for the data set itself."""

    def __init__(self, worker_init_fn: Callable[[int], None] | None) -> None:
        self.worker_init_fn = worker_init_fn

    def __call__(self, worker_id: int) -> None:
        """Set the user's data set in the worker info, then call the user's worker_init_fn."""
        info = get_worker_info()
        if info is not None:
            held = info.dataset
            while isinstance(held, IndexedDataset):
                held = held.dataset
            object.__setattr__(info, "dataset", whole(held))  # WorkerInfo refuses plain assignment
        if self.worker_init_fn is not None:
            self.worker_init_fn(worker_id)


def _as_index(keys: Any) -> np.ndarray:
    """Return a sampler's keys as an array, int64 (B,)."""
    listed = keys.tolist() if isinstance(keys, (Tensor, np.ndarray)) else keys
    try:
        return np.asarray(array("q", listed if isinstance(listed, Sequence) else [listed]))
    except TypeError as error:
        raise TypeError(
            f"The train loader's sampler yields keys that are not integers ({keys!r:.60}), so examples have no index;"
            " give EasinessCallback online=False and a `probe` loader with integer indices."
        ) from error


class IndexedIterator(Iterator[Any]):
    """Removes the indices from the batches and passes them to the sources that follow the loader."""

    def __init__(self, iterator: Iterator[Any], sources: Sequence[IndexSource]) -> None:
        self._iterator = iterator
        self._sources = sources
        self.waiting: dict[IndexSource, deque[Tensor]] = {}  # indices that a source has not taken yet

    def __next__(self) -> Any:
        for source in self._sources:
            source.current = self  # also at the end of the data, since the last batch may have been prefetched
        item = next(self._iterator)
        if not isinstance(item, IndexedBatch):
            raise TypeError(lost_indices(self._iterator))
        if item.batch is not None:  # Lightning calls no hook for a batch that is None
            index = item.examples
            for source in self._sources:
                self.waiting.setdefault(source, deque()).append(index)
        return item.batch

    def __len__(self) -> int:
        return len(self._iterator)  # type: ignore[arg-type]

    def _reset(self, loader: Any, first_iter: bool = False) -> None:
        # persistent workers read the data again with the same iterator; unused batches are gone
        self.waiting.clear()
        self._iterator._reset(loader, first_iter)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)


class IndexSource:
    """Provides the indices of the current batch, from the iterator that was used last.

    Batches may be prefetched, so the indices of each iterator wait in a queue.
    """

    def __init__(self) -> None:
        self.current: IndexedIterator | None = None

    def take(self) -> Tensor | None:
        """Return the indices of the next batch, int64 (B,) on the CPU; None if no loader is followed."""
        waiting = self._next()
        return waiting.popleft() if waiting else None

    def narrow(self, kept: Tensor) -> None:
        """Keep only the examples at these positions of the next batch."""
        waiting = self._next()
        if waiting:
            waiting[0] = waiting[0][kept]

    def drop(self) -> None:
        """Forget the next batch."""
        waiting = self._next()
        if waiting:
            waiting.popleft()

    def clear(self) -> None:
        """Drop the reference to the iterator, which would keep its workers alive."""
        self.current = None

    def _next(self) -> deque[Tensor] | None:
        return None if self.current is None else self.current.waiting.get(self)


def follow(loader: Any, source: IndexSource) -> None:
    """Make a DataLoader pass `source` the indices of each batch, until `unfollow`.

    The loader stays the same object, since other code may hold it for its state; only its class is replaced.
    """
    check_indexable(loader)
    sources: list[IndexSource] = loader.__dict__.setdefault(_SOURCES, [])
    if not sources:
        loader.__class__ = _indexed_class(type(loader))  # type: ignore[arg-type]
        loader._iterator = None  # workers that persist from an earlier use have no indices
    if source not in sources:
        sources.append(source)


def unfollow(loader: Any, source: IndexSource) -> None:
    """Restore a loader's class when its last source stops following it."""
    sources: list[IndexSource] = loader.__dict__.get(_SOURCES, [])
    if source in sources:
        sources.remove(source)
        if not sources:
            loader.__class__ = type(loader).__mro__[1]
            loader._iterator = None
            del loader.__dict__[_SOURCES]


def narrow(loader: Any, kept: Tensor | None, told_by: IndexSource) -> None:
    """Narrow the current batch for all other sources that follow a loader and have not taken it yet; None drops it."""
    for source in loader.__dict__.get(_SOURCES, []):
        if source is not told_by:
            source.drop() if kept is None else source.narrow(kept)


def plain_copy(loader: Any) -> Any:
    """Return a shallow copy of a DataLoader, of the user's class, without followers or shared workers."""
    clone = copy.copy(loader)
    if clone.__dict__.pop(_SOURCES, None) is not None:
        clone.__class__ = type(loader).__mro__[1]
    clone._iterator = None
    return clone


@cache
def _indexed_class(loader_class: Any) -> type:
    """Make a subclass of the user's loader class, so that isinstance checks and methods work as before."""

    # DataLoader creates every iterator with this method, whatever a subclass does with the batches afterwards.
    def _get_iterator(self: Any) -> IndexedIterator:
        user = {name: self.__dict__[name] for name in ("dataset", "collate_fn", "worker_init_fn")}
        try:
            # in __dict__, since DataLoader does not allow setting some of these after __init__
            self.__dict__["dataset"] = IndexedDataset(user["dataset"])
            self.__dict__["collate_fn"] = partial(indexed_collate, user["collate_fn"])
            self.__dict__["worker_init_fn"] = UserDatasetInWorker(user["worker_init_fn"])
            iterator = loader_class._get_iterator(self)
        finally:
            self.__dict__.update(user)
        return IndexedIterator(iterator, self.__dict__[_SOURCES])

    namespace = {"_get_iterator": _get_iterator, "__module__": loader_class.__module__, "__doc__": loader_class.__doc__}
    return type(f"Indexed{loader_class.__name__}", (loader_class,), namespace)


def lost_indices(culprit: object) -> str:
    """Return the error message for a batch without indices."""
    return (
        f"The train loader's batches lost their indices on the way: {type(culprit).__name__} does not make its batches"
        " as torch's DataLoader does. Use a plain DataLoader, or give EasinessCallback online=False."
    )


def check_indexable(loader: Any) -> None:
    """Raise a TypeError if a loader's examples have no index."""
    if not isinstance(loader, DataLoader):
        raise TypeError(
            f"EasinessCallback follows examples through a torch DataLoader; got {type(loader).__name__}."
            " Return one DataLoader from train_dataloader(), or pass online=False and probe=DataLoader(...)."
        )
    if isinstance(loader.dataset, IterableDataset):
        raise TypeError(
            f"The loader reads {type(loader.dataset).__name__}, an IterableDataset, whose examples have no index;"
            " use a map-style data set (with __getitem__ and __len__), or pass online=False and probe=DataLoader(...)."
        )
    if not hasattr(loader.dataset, "__len__"):
        raise TypeError(f"The data set {type(loader.dataset).__name__} has no __len__, which EasinessCallback needs.")
    if loader.batch_sampler is None and sampler_kind(loader.sampler) in _SINGLE_INDEX_SAMPLERS:
        raise TypeError(
            f"The loader asks {type(loader.dataset).__name__} for one index at a time and does not batch"
            " (batch_size=None), so an index is that of a batch, not of an example; use a data set of single examples"
            " with a batch size, a sampler that yields index lists, or pass online=False and probe=DataLoader(...)."
        )


def check_index(index: Tensor, size: int) -> None:
    """Raise an IndexError if a sampler asks for an example outside the data set."""
    if len(index) and not (int(index.min()) >= 0 and int(index.max()) < size):
        wrong = index[(index < 0) | (index >= size)][0]
        raise IndexError(
            f"The train loader's sampler asks for example {int(wrong)}, but examples are numbered 0 to {size - 1};"
            " fix the sampler, or give EasinessCallback online=False."
        )
