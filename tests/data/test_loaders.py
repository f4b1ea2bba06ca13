"""Loaders that know their indices, and loaders that read a whole data set in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Sampler, SequentialSampler, default_collate

from lightning_easiness._utils.rng import get_rng_state, set_rng_state
from lightning_easiness.data.indexed_loader import IndexSource, follow, unfollow
from lightning_easiness.data.ordered_loader import OrderedBatches, ordered_loader
from tests.small import Points, loader

# ---------------------------------------------------------------------------------------------- batches in order


@settings(max_examples=200, deadline=None)
@given(size=st.integers(0, 60), batch_size=st.integers(1, 70), world_size=st.integers(1, 9))
def test_every_index_once_whatever_the_number_of_processes(size: int, batch_size: int, world_size: int) -> None:
    shares = [OrderedBatches(size, batch_size, rank, world_size) for rank in range(world_size)]
    lists = [list(share) for share in shares]
    assert len({len(part) for part in lists}) == 1
    assert [len(share) for share in shares] == [len(part) for part in lists]
    real = [
        batch
        for share, part in zip(shares, lists, strict=True)
        for position, batch in enumerate(part)
        if not share.is_padding(position)
    ]
    alone = [list(range(start, min(start + batch_size, size))) for start in range(0, size, batch_size)]
    assert sorted(real) == alone
    padding = sum(map(len, lists)) - len(real)
    assert padding < world_size
    assert all(batch for part in lists for batch in part), "padding reads real examples"


def seen_by(ordered: DataLoader) -> list[tuple[list[int], Tensor]]:
    return [(index.tolist(), batch[0]) for index, batch in ordered]


class TestOrderedLoader:
    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("world_size", [1, 3])
    def test_the_same_views_whoever_reads(self, workers: int, world_size: int) -> None:
        """Streams are set by the batch; read in this process they are the caller's to give back."""
        data = loader(Points(augment=True), num_workers=workers)
        before = get_rng_state()
        alone = seen_by(ordered_loader(loader(Points(augment=True)))[0])
        torch.rand(3)
        shares = [ordered_loader(data, rank=rank, world_size=world_size)[0] for rank in range(world_size)]
        found = {tuple(index): x for share in shares for index, x in seen_by(share)}
        assert len(found) == len(alone) == 7
        for index, x in alone:
            assert torch.equal(found[tuple(index)], x)
        other = ordered_loader(loader(Points(augment=True)), seed=1)[0]
        assert not torch.equal(next(iter(other)).batch[0], alone[0][1])
        set_rng_state(before)

    def test_how_the_user_loads_is_kept(self) -> None:
        options: dict[str, Any] = {
            "batch_size": 5,
            "num_workers": 2,
            "collate_fn": default_collate,
            "pin_memory": True,
            "timeout": 7,
            "worker_init_fn": print,
            "multiprocessing_context": "spawn",
            "prefetch_factor": 3,
            "drop_last": True,
            "shuffle": True,
            "persistent_workers": True,
        }
        points = Points()
        ordered, batches = ordered_loader(DataLoader(points, **options))
        for name in ("num_workers", "pin_memory", "timeout", "prefetch_factor"):
            assert getattr(ordered, name) == options[name], name
        assert ordered.multiprocessing_context.get_start_method() == "spawn"
        assert ordered.dataset.dataset is points  # type: ignore[attr-defined]
        assert ordered.collate_fn.collate_fn is default_collate  # type: ignore[attr-defined]
        assert ordered.worker_init_fn.worker_init_fn is print  # type: ignore[union-attr]
        # read whole, in order, once; by workers that end with the pass
        assert (len(ordered), batches.batch_size, ordered.persistent_workers) == (11, 5, False)
        assert next(iter(batches)) == [0, 1, 2, 3, 4]
        generator = torch.Generator().manual_seed(5)
        before = generator.get_state()
        iter(ordered_loader(loader(points, generator=generator))[0])
        assert torch.equal(generator.get_state(), before)

    @pytest.mark.parametrize(
        ("make", "size"),
        [
            (lambda points: DataLoader(points, batch_size=6), 6),
            (lambda points: DataLoader(points), 1),
            (lambda points: DataLoader(points, batch_sampler=BatchSampler(SequentialSampler(points), 9, False)), 9),
            (lambda points: DataLoader(points, batch_size=None, sampler=BatchSampler(range(53), 4, False)), 4),
            (lambda points: DataLoader(points, batch_sampler=[[0, 1, 2], [3, 4]]), 27),
        ],
    )
    def test_the_batch_size_is_the_users(self, make: Any, size: int) -> None:
        assert ordered_loader(make(Points()))[1].batch_size == size
        assert ordered_loader(make(Points()), batch_size=11)[1].batch_size == 11


# ---------------------------------------------------------------------------------------------- loaders that know


class Told(Points):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, _ = super().__getitem__(index)
        return x, index


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


def taken(source: IndexSource) -> list[int]:
    index = source.take()
    assert index is not None
    assert index.dtype == torch.int64
    return index.tolist()


class TestFollow:
    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("persistent", [False, True])
    def test_indices_epoch_after_epoch(self, workers: int, persistent: bool) -> None:
        if persistent and not workers:
            pytest.skip("there are no workers to persist")
        data, source = loader(Told(), num_workers=workers, persistent_workers=persistent), IndexSource()
        follow(data, source)
        for _ in range(3):
            for _, told in data:
                assert taken(source) == told.tolist()
            assert source.take() is None
        unfollow(data, source)

    @pytest.mark.parametrize("persistent", [False, True])
    def test_an_epoch_that_is_left(self, persistent: bool) -> None:
        """What was fetched ahead then belongs to no later batch, though persistent workers keep the iterator."""
        data, source = loader(Told(), num_workers=1, persistent_workers=persistent), IndexSource()
        follow(data, source)
        ahead = iter(data)
        for _ in range(3):
            next(ahead)
        assert len(taken(source)) == 8
        for _, told in data:
            assert taken(source) == told.tolist()
        unfollow(data, source)

    def test_batches_ahead_of_their_use(self) -> None:
        data, source = loader(Told()), IndexSource()
        follow(data, source)
        told = [batch[1].tolist() for batch in data]
        assert [taken(source) for _ in told] == told

    def test_another_reads_the_loader_beside(self) -> None:
        """The last batch was fetched ahead, and asking for one more gives none: it is the loop's all the same."""
        data, source = loader(Told(), shuffle=False, sampler=Shuffled()), IndexSource()
        follow(data, source)
        loop = iter(data)
        ahead = next(loop)
        while ahead is not None:
            batch, ahead = ahead, next(loop, None)
            assert taken(source) == batch[1].tolist()
            next(iter(data))

    def test_several_followers(self) -> None:
        data, sources = loader(Told()), [IndexSource(), IndexSource()]
        for source in (*sources, sources[0]):
            follow(data, source)
        for _, told in data:
            assert [taken(source) for source in sources] == [told.tolist()] * 2
        unfollow(data, sources[0])
        for _, told in data:
            assert sources[0].take() is None
            assert taken(sources[1]) == told.tolist()
        unfollow(data, sources[1])
        assert type(data) is DataLoader

    @pytest.mark.parametrize("workers", [0, 2])
    def test_batches_are_the_same_to_the_bit(self, workers: int) -> None:
        read = []
        for followed in (False, True):
            torch.manual_seed(4)
            data = loader(Points(augment=workers > 0), num_workers=workers)
            if followed:
                follow(data, IndexSource())
            read.append(([batch for _ in range(2) for batch in data], torch.get_rng_state()))
        for (x, y), (other_x, other_y) in zip(read[0][0], read[1][0], strict=True):
            assert torch.equal(x, other_x)
            assert torch.equal(y, other_y)
        assert torch.equal(read[0][1], read[1][1])

    def test_the_loader_is_the_users_again(self) -> None:
        data: Any = Mine(Told(), batch_size=8)
        source, before = IndexSource(), dict(vars(data))
        unfollow(data, source)  # nobody does
        follow(data, source)
        assert isinstance(data, Mine)
        assert type(data).__name__ == "IndexedMine"
        assert [key for key in ("dataset", "collate_fn", "worker_init_fn") if getattr(data, key) != before[key]] == []
        for _ in data:
            assert data.dataset is before["dataset"]
        assert data.given == 7
        unfollow(data, source)
        assert type(data) is Mine
        assert {key: value for key, value in vars(data).items() if key != "given"} == before
        assert len(list(data)) == 7
        assert len(taken(source)) == 8  # of the time when it was followed

    def test_a_batch_that_is_none_has_no_hooks(self) -> None:
        def drop_first(examples: list[Any]) -> Any:
            return None if examples[0][1] == 0 else default_collate(examples)

        data, source = loader(Told(), shuffle=False, collate_fn=drop_first), IndexSource()
        follow(data, source)
        for batch in data:
            if batch is not None:
                assert taken(source) == batch[1].tolist()
        assert source.take() is None

    @pytest.mark.parametrize(
        "keys",
        [
            [0, 1, 2],
            (3, 4),
            np.array([5, 6]),
            torch.tensor([7, 8]),
            [np.int64(9), torch.tensor(10), np.uint8(11)],
        ],
    )
    def test_keys_of_every_kind(self, keys: Any) -> None:
        class Given(Told):
            def __getitem__(self, key: Any) -> Any:
                return default_collate([super(Given, self).__getitem__(int(one)) for one in key])

        data: Any = DataLoader(Given(), batch_size=None, sampler=[keys])  # type: ignore[arg-type]
        source = IndexSource()
        follow(data, source)
        assert [told.tolist() for _, told in data] == [taken(source)] == [[int(key) for key in keys]]
