"""An epoch in which no example came twice: its values are put in place, and are what adding up gives, to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_easiness.observe.accumulate import EpochSums, epoch_means, to_classes

SIZE = 40


def steps(index: Tensor, dtype: torch.dtype, labelled: bool) -> EpochSums:
    """Steps of seven examples, with values that are easily taken for others."""
    sums = EpochSums(SIZE)
    for part in index.split(7) if len(index) else ():
        values = torch.randn(len(part), dtype=dtype)
        values[::3] = torch.tensor([torch.nan, -0.0, torch.inf], dtype=dtype)[: len(values[::3])]
        observed = {"loss": values, "margin": -values, "correct": values > 0, "prediction": part.short() % 4}
        target = {"target": part % 5} if labelled else {"digest": torch.rand(len(part))}
        sums.add(part, {**observed, **target})
    return sums


def bits(values: Tensor) -> Tensor:
    return values.view(torch.int32) if values.dtype == torch.float32 else values


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seen", [1, 13, SIZE])
@pytest.mark.parametrize(("merge_every", "large"), [(1, 100), (2, 100), (1024, 100), (2, 7), (1024, 7)])
def test_the_bits_of_sums(
    merge_every: int, large: int, seen: int, dtype: torch.dtype, labelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EpochSums, "_MERGE_EVERY", merge_every)
    monkeypatch.setattr("lightning_easiness.observe.accumulate._LARGE", large)
    torch.manual_seed(0)
    sums = steps(torch.randperm(SIZE)[:seen], dtype, labelled)
    totals, target = sums.totals()
    expected = {**epoch_means(totals, sums.names), "prediction": to_classes(sums.last_classes())}
    found = sums.once()
    assert found is not None
    assert list(found[0]) == list(expected)
    for name, values in expected.items():
        assert found[0][name].dtype == values.dtype, name
        assert torch.equal(bits(found[0][name]), bits(values)), name
    assert torch.equal(found[1], target)


def test_steps_of_many_examples_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_easiness.observe.accumulate._LARGE", 7)
    values = torch.rand(14)
    sums = EpochSums(SIZE)
    for part in range(2):
        sums.add(torch.arange(7) + 7 * part, {"loss": values[7 * part : 7 * part + 7]})
    sums.merge()
    assert [part.data_ptr() for part in sums.values["loss"]] == [values.data_ptr(), values[7:].data_ptr()]


def test_of_all_examples_without_a_target_none_is_known() -> None:
    sums = EpochSums(SIZE)
    sums.add(torch.arange(SIZE), {"loss": torch.rand(SIZE)})
    found = sums.once()
    assert found is not None
    assert torch.equal(found[1], sums.totals()[1])


@pytest.mark.parametrize("index", [[], [3, 4, 3], [*range(SIZE), 0]], ids=["nothing", "twice", "all and one again"])
def test_where_an_example_came_twice_or_none_did_values_are_added_up(index: list[int]) -> None:
    assert steps(torch.tensor(index, dtype=torch.int64), torch.float32, labelled=True).once() is None
