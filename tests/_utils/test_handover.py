"""What processes leave for each other after an error: whole, in parts, or not in time."""

from __future__ import annotations

import time

import pytest
import torch
from torch import distributed

from lightning_easiness._utils import handover
from tests.small import assert_identical

LEFT = {"sums": torch.arange(6.0).view(2, 3), "sizes": torch.tensor([3, 1])}


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a process alone, in the place of that of a process group."""
    made = distributed.HashStore()
    monkeypatch.setattr(handover, "_store", lambda: made)


@pytest.mark.parametrize("part", [10, 2**22])
def test_what_is_left_is_taken_as_it_was(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_PART", part)
    handover.leave("stopped", 1, LEFT)
    handover.leave("stopped", 2, {})
    found = handover.take("stopped", [1, 2], seconds=5)
    assert_identical(found, {1: LEFT, 2: {}})


def test_all_that_leave_nothing_are_waited_for_together() -> None:
    handover.leave("stopped", 7, LEFT)
    began = time.monotonic()
    found = handover.take("stopped", range(1, 8), seconds=0.5)
    assert time.monotonic() - began < 0.5 + 7 * 0.2
    assert [rank for rank, left in found.items() if left is not None] == [7]
    assert handover.take("of another fit", [7], seconds=0.1) == {7: None}


def test_without_a_process_group_nothing_is_left_and_nothing_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    handover.leave("stopped", 1, LEFT)
    began = time.monotonic()
    assert handover.take("stopped", [1]) == {1: None}
    assert time.monotonic() - began < 1
