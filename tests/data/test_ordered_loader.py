"""Loaders that read a whole data set in order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, default_collate

from lightning_easiness._utils.rng import get_rng_state, set_rng_state
from lightning_easiness.data.ordered_loader import OrderedBatches, ordered_loader
from tests.small import Points, loader


@settings(max_examples=200, deadline=None)
@given(size=st.integers(0, 60), batch_size=st.integers(1, 70), num_shares=st.integers(1, 9))
def test_every_index_once_whatever_the_number_of_processes(size: int, batch_size: int, num_shares: int) -> None:
    shares = [OrderedBatches(size, batch_size, rank, num_shares) for rank in range(num_shares)]
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
    assert padding < num_shares
    assert all(batch for part in lists for batch in part), "padding reads real examples"


def seen_by(ordered: DataLoader) -> list[tuple[list[int], Tensor]]:
    return [(index.tolist(), batch[0]) for index, batch in ordered]


class TestOrderedLoader:
    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("num_shares", [1, 3])
    def test_the_same_views_whoever_reads(self, workers: int, num_shares: int) -> None:
        """Streams are set by the batch; read in this process they are the caller's to give back."""
        data = loader(Points(augment=True), num_workers=workers)
        before = get_rng_state()
        alone = seen_by(ordered_loader(loader(Points(augment=True)))[0])
        torch.rand(3)
        shares = [ordered_loader(data, rank=rank, num_shares=num_shares)[0] for rank in range(num_shares)]
        found = {tuple(index): x for share in shares for index, x in seen_by(share)}
        assert len(found) == len(alone) == 7
        for index, x in alone:
            assert torch.equal(found[tuple(index)], x)
        noise = [x - Points().x[index] for index, x in alone]
        assert not torch.allclose(noise[0], noise[1], atol=1e-5), "each batch is augmented in its own way"
        other = ordered_loader(loader(Points(augment=True)), seed=1)[0]
        assert not torch.equal(next(iter(other)).batch[0], alone[0][1])
        set_rng_state(before)

    def test_how_the_user_loads_is_kept(self) -> None:
        kept: dict[str, Any] = {"num_workers": 2, "pin_memory": True, "timeout": 7, "prefetch_factor": 3}
        replaced = {"batch_size": 5, "drop_last": True, "shuffle": True, "persistent_workers": True}
        wrapped = {"collate_fn": default_collate, "worker_init_fn": print, "multiprocessing_context": "spawn"}
        points = Points()
        ordered, batches = ordered_loader(DataLoader(points, **kept, **replaced, **wrapped))  # type: ignore[arg-type]
        assert {name: getattr(ordered, name) for name in kept} == kept
        assert ordered.multiprocessing_context.get_start_method() == "spawn"
        assert ordered.dataset.dataset is points  # type: ignore[attr-defined]
        assert ordered.collate_fn.args == (default_collate,)  # type: ignore[attr-defined]
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
