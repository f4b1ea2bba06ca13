"""A loader that reads a whole data set in order, with the same augmentations in every pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from lightning_easiness._utils.rng import seed_rng
from lightning_easiness.data.indexed_loader import (
    IndexedDataset,
    UserDatasetInWorker,
    check_indexable,
    indexed_collate,
)
from lightning_easiness.data.subset import num_examples, whole
from lightning_easiness.functional._rng import mixed_seed

_UNKNOWN_BATCH_SIZE = 64


class OrderedBatches:
    """The batches of a data set in order for one share of it, as index lists: batch b goes to share b % num_shares.

    A batch has the same examples for any number of shares, so that the results are the same, too. Every share gets the
    same number of batches, since sharded strategies hang otherwise; `is_padding` marks the surplus.
    """

    def __init__(self, num_examples: int, batch_size: int, rank: int = 0, num_shares: int = 1) -> None:
        self.num_examples, self.batch_size, self.rank, self.num_shares = num_examples, batch_size, rank, num_shares
        self.num_batches = -(-num_examples // batch_size)

    def __len__(self) -> int:
        return -(-self.num_batches // self.num_shares)

    def is_padding(self, position: int) -> bool:
        """Return whether the batch at `position` of this share is padding to match the other shares."""
        return position * self.num_shares + self.rank >= self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        for position in range(len(self)):
            batch = position * self.num_shares + self.rank
            start = (batch if batch < self.num_batches else 0) * self.batch_size
            yield list(range(start, min(start + self.batch_size, self.num_examples)))


class _SeededDataset(IndexedDataset):
    """Draws the same augmentations for a batch in every pass, in any process or worker.

    Python's, numpy's and torch's CPU generators are seeded from the batch's first index; a reader in the training
    process must restore them. Losses then differ between passes only because the weights do.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        super().__init__(dataset)
        self.seed = seed

    def __getitem__(self, key: Any) -> tuple[Any, Any]:
        self._seed_rng(key[0] if isinstance(key, Sequence) else key)
        return super().__getitem__(key)

    def __getitems__(self, keys: Sequence[Any]) -> tuple[Sequence[Any], Any]:
        self._seed_rng(keys[0])
        return super().__getitems__(keys)

    def _seed_rng(self, index: int) -> None:
        seed_rng(mixed_seed(self.seed, index))


def ordered_loader(
    loader: DataLoader[Any], *, batch_size: int | None = None, rank: int = 0, num_shares: int = 1, seed: int = 0
) -> tuple[DataLoader[Any], OrderedBatches]:
    """Make a loader over all examples of `loader`'s data set, in order, that yields `IndexedBatch`.

    If examples were selected, it still reads the user's whole data set, with the original labels. It has the settings
    of the user's loader (workers, collate function, pinning, timeouts, start method). Read it inside `isolated_rng` and
    `OwnGenerators`: the random draws of the data set are fixed by `seed`.
    """
    check_indexable(loader)
    size = batch_size or examples_per_batch(loader)
    batches = OrderedBatches(num_examples(loader.dataset), size, rank, num_shares)
    return _loader_of(loader, batches, loader.num_workers, seed), batches


def sample_loader(loader: DataLoader[Any], batch_size: int | None, most: int) -> DataLoader[Any]:
    """Make a loader, as `ordered_loader` does, of a single batch with at most so many examples from all over the data.

    Data sets are often sorted by class, so the first examples may show one class alone.
    """
    check_indexable(loader)
    length = num_examples(loader.dataset)
    size = min(batch_size or examples_per_batch(loader), most, length)
    batch = [position * length // size for position in range(size)]
    return _loader_of(loader, [batch], min(1, loader.num_workers), seed=0)


def _loader_of(loader: DataLoader[Any], batches: Iterable[list[int]], workers: int, seed: int) -> DataLoader[Any]:
    """Make a loader of these batches of a loader's whole data set."""
    # without automatic batching a loader passes whole index lists to its data set; keep that
    batching: dict[str, Any] = {"batch_sampler": batches}
    if loader.batch_size is None and loader.batch_sampler is None:
        batching = {"sampler": batches, "batch_size": None}
    return DataLoader(
        _SeededDataset(whole(loader.dataset), seed),
        **batching,
        num_workers=workers,
        collate_fn=partial(indexed_collate, loader.collate_fn),
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=UserDatasetInWorker(loader.worker_init_fn),
        multiprocessing_context=loader.multiprocessing_context if workers else None,
        generator=torch.Generator().manual_seed(seed),
        prefetch_factor=loader.prefetch_factor if workers else None,
    )


def examples_per_batch(loader: DataLoader[Any]) -> int:
    """Return a loader's batch size; the mean size if a custom batch sampler has no `batch_size`."""
    for holder in (loader, loader.batch_sampler, loader.sampler):
        size = getattr(holder, "batch_size", None)
        if isinstance(size, int):
            return size
    try:
        return -(-len(loader.dataset) // len(loader))  # type: ignore[arg-type]
    except (TypeError, ZeroDivisionError):
        return _UNKNOWN_BATCH_SIZE
