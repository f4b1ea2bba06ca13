"""Processes that share the model must read the same share of the data."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_easiness.observe.processes import check_same_share

BATCHES = [[3, 1, 2], [3, 1, 2], [0, 4], [0, 4]]  # of four processes


def check(batches: list[list[int]], shares: list[int], rank: int = 0) -> None:
    """What one of the processes does, with what the others send."""
    sent = [
        [share, len(batch), sum((place + 1) * index for place, index in enumerate(batch))]
        for share, batch in zip(shares, batches, strict=True)
    ]

    def all_gather(own: torch.Tensor) -> torch.Tensor:
        assert own.tolist() == sent[rank]
        return torch.tensor(sent)

    trainer: Any = SimpleNamespace(
        world_size=len(shares),
        distributed_sampler_kwargs={"rank": shares[rank], "num_replicas": len(set(shares))},
        strategy=SimpleNamespace(root_device="cpu", all_gather=all_gather),
    )
    check_same_share(trainer, torch.tensor(batches[rank]))


@pytest.mark.parametrize("rank", range(4))
def test_the_same_batches_in_each_group_are_right(rank: int) -> None:
    check(BATCHES, [0, 0, 1, 1], rank)
    check([BATCHES[0]] * 4, [0, 0, 1, 1], rank)  # as where a data set is drawn from with replacement


def test_where_each_process_has_a_share_of_its_own_nothing_is_sent() -> None:
    trainer: Any = SimpleNamespace(world_size=2, distributed_sampler_kwargs={"rank": 0, "num_replicas": 2})
    check_same_share(trainer, torch.tensor([1]))


@pytest.mark.parametrize("other", [[1, 3, 2], [3, 1], [3, 1, 0]], ids=["order", "length", "an example"])
@pytest.mark.parametrize("rank", range(4))
def test_other_examples_in_a_group_are_refused_in_all_processes(rank: int, other: list[int]) -> None:
    with pytest.raises(ValueError, match="must read the same batches, but they hold different examples: leave use_"):
        check([BATCHES[0], other, *BATCHES[2:]], [0, 0, 1, 1], rank)
