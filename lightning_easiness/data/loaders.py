"""A loader that knows its indices, and a loader that reads a whole data set in order.

The index of an example travels with its batch: while an iterator is made, the loader's data set and collate function
are swapped for ones that carry the index along, and the iterator takes it off again. Nobody else sees it:
`loader.dataset` stays the user's, batches are the same to the bit, and no random number is drawn. As the index is in
the batch itself, it is right with workers, out-of-order delivery, any sampler, and loaders that resume mid-epoch.
"""

from __future__ import annotations

import copy
import operator
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
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

from lightning_easiness._utils.rng import set_streams
from lightning_easiness.data.subset import example_indices, whole

_SINGLE_INDEX_SAMPLERS = {
    SequentialSampler,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    DistributedSampler,
}
_UNKNOWN_BATCH_SIZE = 64
_SOURCES = "_easiness_sources"  # in a loader's __dict__: who follows it


class IndexedBatch(NamedTuple):
    """A batch and the indices of its examples. A named tuple, as those survive the pinning thread with their type."""

    example_index: Tensor
    batch: Any


class _IndexedDataset(Dataset[Any]):
    """Hands out what the loader's data set hands out, with the index in the whole data set of what was asked for."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Any) -> tuple[Any, Any]:
        return example_indices(self.dataset, key), self.dataset[key]

    def __getitems__(self, keys: Sequence[Any]) -> tuple[Sequence[Any], Any]:
        indices = example_indices(self.dataset, keys)
        # the same choice as torch's own fetcher makes
        if callable(getattr(self.dataset, "__getitems__", None)):
            return indices, self.dataset.__getitems__(keys)
        return indices, [self.dataset[key] for key in keys]


class _IndexedCollate:
    """Collates the examples as the user does and puts the indices beside them."""

    def __init__(self, collate_fn: Callable[[Any], Any]) -> None:
        self.collate_fn = collate_fn

    def __call__(self, fetched: Any) -> IndexedBatch:
        keys, examples = fetched
        return IndexedBatch(_as_index(keys), self.collate_fn(examples))


class UserDatasetInWorker:
    """Lets `get_worker_info().dataset` be the user's data set, for worker_init_fn and for the data set itself."""

    def __init__(self, worker_init_fn: Callable[[int], None] | None) -> None:
        self.worker_init_fn = worker_init_fn

    def __call__(self, worker_id: int) -> None:
        """Shows the worker the user's data set, then does what the user asked for."""
        info = get_worker_info()
        if info is not None:
            held = info.dataset.dataset if isinstance(info.dataset, _IndexedDataset) else info.dataset
            object.__setattr__(info, "dataset", whole(held))  # WorkerInfo refuses plain assignment
        if self.worker_init_fn is not None:
            self.worker_init_fn(worker_id)


def _as_index(keys: Any) -> Tensor:
    listed = keys.tolist() if isinstance(keys, (Tensor, np.ndarray)) else keys
    try:
        index = [operator.index(key) for key in (listed if isinstance(listed, Sequence) else [listed])]
    except TypeError as error:
        raise TypeError(
            f"The train loader's sampler yields keys that are no integers ({keys!r:.60}), so examples cannot be told"
            " apart; give EasinessCallback online=False and a `probe` loader with integer indices."
        ) from error
    return torch.tensor(index, dtype=torch.int64)


class IndexedIterator(Iterator[Any]):
    """Takes the indices off the batches and tells them to whoever follows the loader."""

    def __init__(self, iterator: Iterator[Any], sources: Sequence[IndexSource]) -> None:
        self._iterator = iterator
        self._sources = sources

    def __next__(self) -> Any:
        for source in self._sources:
            source.asked(self)  # also for a batch that does not come: the last may have been fetched ahead
        item = next(self._iterator)
        if not isinstance(item, IndexedBatch):
            raise TypeError(lost_indices(self._iterator))
        for source in self._sources:
            source.put(self, item)
        return item.batch

    def __len__(self) -> int:
        return len(self._iterator)  # type: ignore[arg-type]

    def _reset(self, loader: Any, first_iter: bool = False) -> None:
        # persistent workers go through the data again with the same iterator; batches that nobody used are gone
        for source in self._sources:
            source.forget(self)
        self._iterator._reset(loader, first_iter)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)


class IndexSource:
    """Where the indices of the batch at hand come from: the iterator that was last asked for one.

    A fetcher may ask for batches ahead of their use, so the indices of each iterator wait in order.
    """

    def __init__(self) -> None:
        self._current: IndexedIterator | None = None
        self._waiting: WeakKeyDictionary[IndexedIterator, deque[Tensor]] = WeakKeyDictionary()

    def asked(self, iterator: IndexedIterator) -> None:
        """Notes which iterator the loop reads."""
        self._current = iterator

    def put(self, iterator: IndexedIterator, item: IndexedBatch) -> None:
        """Notes the indices of the batch that an iterator gave."""
        if item.batch is not None:  # Lightning calls no hook for a batch that is None
            self._waiting.setdefault(iterator, deque()).append(item.example_index)

    def forget(self, iterator: IndexedIterator) -> None:
        """Drops the indices of batches that were fetched and not used."""
        self._waiting.pop(iterator, None)

    def clear(self) -> None:
        """Lets go of the iterator, whose workers would live on."""
        self._current = None
        self._waiting.clear()

    def narrow(self, kept: Tensor) -> None:
        """Notes that of the next batch in use only the examples at these positions are left."""
        waiting = self._waiting.get(self._current) if self._current is not None else None
        if waiting:
            waiting[0] = waiting[0][kept]

    def take(self) -> Tensor | None:
        """Returns the indices (B,) int64 on the CPU of the next batch in use, or None when no loader is followed."""
        waiting = self._waiting.get(self._current) if self._current is not None else None
        return waiting.popleft() if waiting else None


def follow(loader: Any, source: IndexSource) -> None:
    """Makes a DataLoader tell `source` the indices of each batch, until `unfollow`.

    The loader stays the object that it was, as it may be held elsewhere for its state: only its class is lent.

    Args:
        loader: a `torch.utils.data.DataLoader` or a subclass of it, over a map-style data set.
        source: is told which indices each batch holds.

    Raises:
        TypeError: the loader has no indices, as over an IterableDataset, or is no DataLoader.
    """
    check_indexable(loader)
    sources: list[IndexSource] = loader.__dict__.setdefault(_SOURCES, [])
    if not sources:
        loader.__class__ = _indexed_class(type(loader))  # type: ignore[arg-type]
        loader._iterator = None  # workers that persist from an earlier use know no indices
    if source not in sources:
        sources.append(source)


def unfollow(loader: Any, source: IndexSource) -> None:
    """Gives a loader its class back when its last follower leaves it."""
    sources: list[IndexSource] = loader.__dict__.get(_SOURCES, [])
    if source in sources:
        sources.remove(source)
        if not sources:
            loader.__class__ = type(loader).__mro__[1]
            loader._iterator = None
            del loader.__dict__[_SOURCES]


def narrow(loader: Any, kept: Tensor, told_by: IndexSource) -> None:
    """Tells all but one who follow a loader which examples of the batch at hand, which is not taken yet, are left."""
    for source in loader.__dict__.get(_SOURCES, []):
        if source is not told_by:
            source.narrow(kept)


def plain_copy(loader: Any) -> Any:
    """A shallow copy of a DataLoader, of the user's class, that nobody follows and that shares no worker."""
    clone = copy.copy(loader)
    if clone.__dict__.pop(_SOURCES, None) is not None:
        clone.__class__ = type(loader).__mro__[1]
    clone._iterator = None
    return clone


@cache
def _indexed_class(loader_class: Any) -> type:
    """A subclass of the user's loader class, so that isinstance checks and methods stay as they were."""

    # Every iterator of a DataLoader is made by this method, whatever a subclass does with the batches afterwards.
    def _get_iterator(self: Any) -> IndexedIterator:
        user = {name: self.__dict__[name] for name in ("dataset", "collate_fn", "worker_init_fn")}
        try:
            # in __dict__, as DataLoader refuses to set some of these after __init__
            self.__dict__["dataset"] = _IndexedDataset(user["dataset"])
            self.__dict__["collate_fn"] = _IndexedCollate(user["collate_fn"])
            self.__dict__["worker_init_fn"] = UserDatasetInWorker(user["worker_init_fn"])
            iterator = loader_class._get_iterator(self)
        finally:
            self.__dict__.update(user)
        return IndexedIterator(iterator, self.__dict__[_SOURCES])

    namespace = {
        "_get_iterator": _get_iterator,
        "__module__": loader_class.__module__,
        "__doc__": loader_class.__doc__,
    }
    return type(f"Indexed{loader_class.__name__}", (loader_class,), namespace)


def lost_indices(culprit: object) -> str:
    """What to say when a batch arrives without its indices."""
    return (
        f"The train loader's batches lost their indices on the way: {type(culprit).__name__} does not make its batches"
        " as torch's DataLoader does. Use a plain DataLoader, or give EasinessCallback online=False."
    )


def check_indexable(loader: Any) -> None:
    """Raises a TypeError that says what to do when a loader's examples have no index."""
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
    if loader.batch_sampler is None and type(loader.sampler) in _SINGLE_INDEX_SAMPLERS:
        raise TypeError(
            f"The loader asks {type(loader.dataset).__name__} for one index at a time and does not batch"
            " (batch_size=None), so an index names a batch and no example; use a data set of single examples with a"
            " batch size, a sampler that yields index lists, or pass online=False and probe=DataLoader(...)."
        )


def check_index(index: Tensor, size: int) -> None:
    """Raises an IndexError when a sampler asks for an example that the data set does not number."""
    if len(index) and not (int(index.min()) >= 0 and int(index.max()) < size):
        wrong = index[(index < 0) | (index >= size)][0]
        raise IndexError(
            f"The train loader's sampler asks for example {int(wrong)}, but examples are numbered 0 to {size - 1};"
            " mend the sampler, or give EasinessCallback online=False."
        )


class OrderedBatches:
    """Index lists of a data set in order, one process's share of them: batch b goes to process b % world_size.

    A batch holds the same examples whatever the number of processes, so that the numbers are the same too. Every
    process gets equally many batches, as sharded strategies hang otherwise; `is_padding` marks those too many.
    """

    def __init__(self, num_examples: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.num_examples, self.batch_size, self.rank, self.world_size = num_examples, batch_size, rank, world_size
        self.num_batches = -(-num_examples // batch_size)

    def __len__(self) -> int:
        return -(-self.num_batches // self.world_size)

    def is_padding(self, position: int) -> bool:
        """Tells whether the batch at `position` of this process's share only keeps step with the other processes."""
        return position * self.world_size + self.rank >= self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        for position in range(len(self)):
            batch = position * self.world_size + self.rank
            start = (batch if batch < self.num_batches else 0) * self.batch_size
            yield list(range(start, min(start + self.batch_size, self.num_examples)))


class _FixedView(_IndexedDataset):
    """Draws the same augmentations for a batch at every pass, whichever process or worker reads it.

    Python's, numpy's and torch's CPU streams are set from the batch's first index; whoever reads this in the training
    process gives the streams back afterwards. So losses differ between passes because the weights do, and not by luck.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        super().__init__(dataset)
        self.seed = seed

    def __getitem__(self, key: Any) -> tuple[Any, Any]:
        self._set_streams(key[0] if isinstance(key, Sequence) else key)
        return super().__getitem__(key)

    def __getitems__(self, keys: Sequence[Any]) -> tuple[Sequence[Any], Any]:
        self._set_streams(keys[0])
        return super().__getitems__(keys)

    def _set_streams(self, index: int) -> None:
        set_streams((self.seed * 0x9E3779B97F4A7C15 + index) % 2**63)


def ordered_loader(
    loader: DataLoader[Any], *, batch_size: int | None = None, rank: int = 0, world_size: int = 1, seed: int = 0
) -> tuple[DataLoader[Any], OrderedBatches]:
    """Makes a loader over all examples of `loader`'s data set, in order, that yields `IndexedBatch`.

    Where examples were selected, these are all of the user's data set, under their own labels.

    It keeps what the user's loader says of how to load (workers, collate function, pinning, timeouts, start method) and
    has a random stream of its own. Read it inside `isolated_streams` and `OwnGenerators`: what the data set draws is
    fixed.

    Args:
        loader: the user's loader.
        batch_size: examples a batch; the user's own when None.
        rank: of this process.
        world_size: number of processes that share the data set.
        seed: of the random augmentations that the data set makes.
    """
    check_indexable(loader)
    size = batch_size or examples_per_batch(loader)
    batches = OrderedBatches(num_examples(loader.dataset), size, rank, world_size)
    workers = loader.num_workers
    ordered: DataLoader[Any] = DataLoader(
        _FixedView(whole(loader.dataset), seed),
        **_batching(loader, batches),
        num_workers=workers,
        collate_fn=_IndexedCollate(loader.collate_fn),
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=UserDatasetInWorker(loader.worker_init_fn),
        multiprocessing_context=loader.multiprocessing_context if workers else None,
        generator=torch.Generator().manual_seed(seed),
        prefetch_factor=loader.prefetch_factor if workers else None,
    )
    return ordered, batches


def _batching(loader: DataLoader[Any], batches: OrderedBatches) -> dict[str, Any]:
    """A loader without automatic batching asks its data set for whole index lists; keep asking it so."""
    if loader.batch_size is None and loader.batch_sampler is None:
        return {"sampler": batches, "batch_size": None}
    return {"batch_sampler": batches}


def examples_per_batch(loader: DataLoader[Any]) -> int:
    """The size of a loader's batches; the mean where a batch sampler of the user's own does not say."""
    for holder in (loader, loader.batch_sampler, loader.sampler):
        size = getattr(holder, "batch_size", None)
        if isinstance(size, int):
            return size
    try:
        return -(-len(loader.dataset) // len(loader))  # type: ignore[arg-type]
    except (TypeError, ZeroDivisionError):
        return _UNKNOWN_BATCH_SIZE


def num_examples(dataset: Any) -> int:
    """The length of a map-style data set; of the whole of it where examples were selected."""
    return len(whole(dataset))
