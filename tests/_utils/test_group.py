"""Who is at work together, as torch says it."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace

import pytest
import torch

from lightning_easiness._utils import group
from tests.repeated_runs import in_a_process


def test_one_process_alone_is_the_first() -> None:
    assert (group.num_processes(), group.is_first_process()) == (1, True)


@pytest.mark.parametrize(
    ("available", "begun", "size", "rank", "expected"),
    [
        (False, False, 0, 0, (1, True)),
        (True, False, 3, 1, (1, True)),
        (True, True, 1, 0, (1, True)),
        (True, True, 3, 0, (3, True)),
        (True, True, 3, 1, (3, False)),
    ],
)
def test_a_group_counts_while_it_is_at_work(
    monkeypatch: pytest.MonkeyPatch, available: bool, begun: bool, size: int, rank: int, expected: tuple[int, bool]
) -> None:
    answers = {"is_available": available, "is_initialized": begun, "get_world_size": size, "get_rank": rank}
    torch_says = SimpleNamespace(**{name: lambda answer=answer: answer for name, answer in answers.items()})
    monkeypatch.setattr(group, "distributed", torch_says)
    assert (group.num_processes(), group.is_first_process()) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_what_a_process_of_a_strategy_notes_is_known_to_the_one_that_started_it() -> None:
    """Counts too, to the last digit."""
    noted = group.shared_values(0, math.nan)
    assert in_a_process(lambda: noted.copy_(torch.tensor([2**53 - 1, 0.25], dtype=torch.float64))) == 0
    assert noted.tolist() == [2**53 - 1, 0.25]
