"""A loader that reads a whole data set in order, with the same augmentations at every pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        """Return whether the batch at `position` of this process's share only keeps step with the other processes."""
        return position * self.world_size + self.rank >= self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        for position in range(len(self)):
            batch = position * self.world_size + self.rank
            start = (batch if batch < self.num_batches else 0) * self.batch_size
            yield list(range(start, min(start + self.batch_size, self.num_examples)))


class _SeededDataset(IndexedDataset):
    """Draws the same augmentations for a batch at every pass, whichever process or worker reads it.

    Python's, numpy's and torch's CPU generators are seeded from the batch's first index; whoever reads this in the
    training process restores them afterwards. So losses differ between passes because the weights do, and not by luck.
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
    loader: DataLoader[Any], *, batch_size: int | None = None, rank: int = 0, world_size: int = 1, seed: int = 0
) -> tuple[DataLoader[Any], OrderedBatches]:
    """Make a loader over all examples of `loader`'s data set, in order, that yields `IndexedBatch`.

    Where examples were selected, these are all of the user's data set, under their own labels. It loads as the user's
    loader does (workers, collate function, pinning, timeouts, start method). Read it inside `isolated_rng` and
    `OwnGenerators`: what the data set draws is fixed by `seed`.
    """
    check_indexable(loader)
    size = batch_size or examples_per_batch(loader)
    batches = OrderedBatches(num_examples(loader.dataset), size, rank, world_size)
    workers = loader.num_workers
    # a loader without automatic batching asks its data set for whole index lists; keep asking it so
    batching: dict[str, Any] = {"batch_sampler": batches}
    if loader.batch_size is None and loader.batch_sampler is None:
        batching = {"sampler": batches, "batch_size": None}
    ordered: DataLoader[Any] = DataLoader(
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
    return ordered, batches


def examples_per_batch(loader: DataLoader[Any]) -> int:
    """Return the size of a loader's batches; the mean where a batch sampler of the user's own does not say."""
    for holder in (loader, loader.batch_sampler, loader.sampler):
        size = getattr(holder, "batch_size", None)
        if isinstance(size, int):
            return size
    try:
        return -(-len(loader.dataset) // len(loader))  # type: ignore[arg-type]
    except (TypeError, ZeroDivisionError):
        return _UNKNOWN_BATCH_SIZE
