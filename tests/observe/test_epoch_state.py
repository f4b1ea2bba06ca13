"""The epoch at hand in Lightning's checkpoints: small, and without loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_easiness._utils.packing import pack, unpack
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.observe.epoch_state import EpochState, packed_epoch, unpacked_epoch
from lightning_easiness.observe.tasks import UNSEEN_TARGET
from tests.small import assert_identical

NAMES = ("loss", "correct", "margin")


def epoch_of(count: Tensor, num_classes: int, accuracy: float = 0.5, seed: int = 0) -> EpochState:
    """What training may have shown of an epoch in which each example was seen so often."""
    draw, size = torch.Generator().manual_seed(seed), len(count)
    target = torch.randint(0, num_classes, (size,), generator=draw)
    other = torch.randint(0, num_classes, (size,), generator=draw)
    prediction = torch.where(torch.rand(size, generator=draw) < accuracy, target, other)
    margin = torch.randn(size, generator=draw) * 3
    rows = [torch.nn.functional.softplus(-margin), (prediction == target).float(), margin]
    sums = torch.stack([*(row.double() * count + count.clamp(min=1).log() for row in rows), count.double()])
    unseen = count == 0
    sums[:, unseen] = 0
    found = prediction.masked_fill(unseen, -1).short()
    return EpochState(NAMES, sums, target.masked_fill(unseen, UNSEEN_TARGET), found)


def num_bytes(held: Any) -> int:
    if isinstance(held, Tensor):
        return held.nbytes
    values = held.values() if isinstance(held, dict) else held if isinstance(held, (list, tuple)) else ()
    return sum(map(num_bytes, values))


def there_and_back(epoch: EpochState, listed: Tensor | None = None) -> EpochState:
    known = None if listed is None else DataIdentity.of_target(listed)
    packed = packed_epoch(*epoch, known)
    found = unpacked_epoch({"epoch": packed}, known)
    assert found is not None
    return found


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.sampled_from([2, 10, 300, 40_000]))
def test_an_epoch_comes_back_to_the_bit(times: list[int], num_classes: int) -> None:
    epoch = epoch_of(torch.tensor(times), num_classes)
    assert_identical(list(there_and_back(epoch)), list(epoch))
    listed = epoch.target.clamp(min=0)
    assert_identical(list(there_and_back(epoch, listed)), list(epoch))
    assert_identical(list(there_and_back(epoch, listed + 1)), list(epoch))
    epoch.sums[1] = (epoch.prediction == epoch.target) & (epoch.sums[-1] > 0)
    assert_identical(list(there_and_back(epoch)), list(epoch))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.1 + 2**-40, -0.0])
def test_numbers_that_float32_does_not_hold_come_back(value: float) -> None:
    epoch = epoch_of(torch.ones(20, dtype=torch.int64), 10)
    epoch.sums[0, 7] = value
    found = there_and_back(epoch)
    assert found.sums.numpy().tobytes() == epoch.sums.numpy().tobytes()


def test_targets_that_are_no_classes_come_back() -> None:
    epoch = epoch_of(torch.ones(20, dtype=torch.int64), 10)._replace(target=torch.arange(20) + 2**51)
    assert torch.equal(there_and_back(epoch).target, epoch.target)


@pytest.mark.parametrize(
    ("num_classes", "accuracy", "most"),
    [
        (2, 0.5, 7.1),
        (10, 0.0, 7.8),
        (10, 0.9, 7.4),
        (100, 0.0, 8.6),
        (100, 0.5, 8.2),
        (1000, 0.0, 9.4),
        (1000, 0.5, 8.9),
    ],
)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_an_example_takes_at_most_eight_bytes(num_classes: int, accuracy: float, most: float, share: float) -> None:
    """Up to 1.4 more where all of an epoch was seen of many classes, and the data set does not list its labels."""
    count = (torch.rand(50_000, generator=torch.Generator().manual_seed(1)) < share).long()
    epoch = epoch_of(count, num_classes, accuracy)
    assert num_bytes(packed_epoch(*epoch)) <= most * len(count)
    assert num_bytes(packed_epoch(*epoch, DataIdentity.of_target(epoch.target.clamp(min=0)))) <= 8 * len(count)


def test_other_labels_than_those_of_then_are_refused() -> None:
    epoch = epoch_of(torch.ones(20, dtype=torch.int64), 10)
    packed = packed_epoch(*epoch, DataIdentity.of_target(epoch.target))
    message = "begun with other labels than the data set lists now: resume with the data set of then"
    for listed in (None, DataIdentity.of_target((epoch.target + 1) % 10)):
        with pytest.raises(ValueError, match=message):
            unpacked_epoch({"epoch": packed}, listed)


def test_a_state_of_an_earlier_version_is_understood() -> None:
    epoch = epoch_of(torch.tensor([0, 1, 2]), 10)
    state = {"names": list(NAMES), "sums": epoch.sums, "target": epoch.target, "prediction": epoch.prediction}
    found = unpacked_epoch(state)
    assert found is not None
    assert_identical(list(found), list(epoch))
    del state["prediction"]
    assert unpacked_epoch(state).prediction.tolist() == [-1, -1, -1]
    assert unpacked_epoch({}) is None


@given(st.lists(st.integers(-(2**15), 2**15 - 1), max_size=50), st.sampled_from(["int16", "int64", "float32"]))
def test_any_tensor_comes_back(values: list[int], dtype: str) -> None:
    given_values = torch.tensor(values, dtype=getattr(torch, dtype))
    assert_identical(unpack(pack(given_values)), given_values)
