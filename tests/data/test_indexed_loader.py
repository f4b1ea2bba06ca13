"""Loaders whose batches carry the indices of their examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate

from lightning_easiness.data.indexed_loader import IndexSource, follow, unfollow
from tests.small import Points, loader


class Indices(Points):
    """Has the index of each example in place of its class."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return super().__getitem__(index)[0], index


class Shuffled(Sampler[int]):
    """Draws its order anew and has no length."""

    def __iter__(self) -> Any:
        return iter(torch.randperm(53).tolist())


class Mine(DataLoader):
    """A user's own, which counts its batches."""

    given = 0

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            self.given += 1
            yield batch


def followed(data: Any) -> tuple[Any, IndexSource]:
    source = IndexSource()
    follow(data, source)
    return data, source


def taken(source: IndexSource) -> list[int]:
    index = source.take()
    assert index is not None
    assert index.dtype == torch.int64
    return index.tolist()


def check_epoch(batches: Iterator[Any], *sources: IndexSource) -> None:
    """Hold the indices of each batch against those in it."""
    for _, indices in batches:
        assert [taken(source) for source in sources] == [indices.tolist()] * len(sources)


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_indices_epoch_after_epoch_also_after_one_that_is_left(workers: int, persistent: bool) -> None:
    """What was fetched ahead then belongs to no later batch, though persistent workers keep the iterator."""
    data, source = followed(loader(Indices(), num_workers=workers, persistent_workers=persistent))
    ahead = iter(data)
    for _ in range(3):
        next(ahead)
    assert len(taken(source)) == 8
    for _ in range(3):
        check_epoch(iter(data), source)
        assert source.take() is None
    unfollow(data, source)


def test_batches_ahead_of_their_use() -> None:
    data, source = followed(loader(Indices()))
    indices = [batch[1].tolist() for batch in data]
    assert [taken(source) for _ in indices] == indices


def test_another_reads_the_loader_beside() -> None:
    """The last batch was fetched ahead, and asking for one more gives none: it is the loop's all the same."""
    data, source = followed(loader(Indices(), shuffle=False, sampler=Shuffled()))
    loop = iter(data)
    ahead = next(loop)
    while ahead is not None:
        batch, ahead = ahead, next(loop, None)
        assert taken(source) == batch[1].tolist()
        next(iter(data))


def test_several_followers() -> None:
    data, sources = loader(Indices()), [IndexSource(), IndexSource()]
    for source in (*sources, sources[0]):
        follow(data, source)
    check_epoch(iter(data), *sources)
    unfollow(data, sources[0])
    check_epoch(iter(data), sources[1])
    assert sources[0].take() is None
    unfollow(data, sources[1])
    assert type(data) is DataLoader


def test_the_loader_is_the_users_again() -> None:
    data: Any = Mine(Indices(), batch_size=8)
    source, before = IndexSource(), dict(vars(data))
    unfollow(data, source)  # nobody does
    follow(data, source)
    assert isinstance(data, Mine)
    assert type(data).__name__ == "IndexedMine"
    names = ("dataset", "collate_fn", "worker_init_fn")
    for _ in data:
        assert [getattr(data, name) for name in names] == [before[name] for name in names]
    assert data.given == 7
    unfollow(data, source)
    assert type(data) is Mine
    assert {key: value for key, value in vars(data).items() if key != "given"} == before
    assert len(list(data)) == 7
    assert len(taken(source)) == 8  # of the time when it was followed


@pytest.mark.parametrize(
    "keys",
    [[0, 1, 2], (3, 4), np.array([5, 6]), torch.tensor([7, 8]), [np.int64(9), torch.tensor(10), np.uint8(11)]],
    ids=["list", "tuple", "array", "tensor", "mixed"],
)
def test_keys_of_every_kind(keys: Any) -> None:
    class Given(Indices):
        def __getitem__(self, key: Any) -> Any:
            return default_collate([super(Given, self).__getitem__(int(one)) for one in key])

    data, source = followed(DataLoader(Given(), batch_size=None, sampler=[keys]))  # type: ignore[arg-type]
    assert [indices.tolist() for _, indices in data] == [taken(source)] == [[int(key) for key in keys]]
