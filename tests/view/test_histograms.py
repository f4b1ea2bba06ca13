"""Histograms as loggers take them: against numpy, on a log axis where that shows more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_easiness.view.histograms import (
    Moments,
    bin_edges,
    histogram,
    level_shares,
    log10_histogram,
    shown_histogram,
)


@pytest.mark.parametrize("length", [1, 7, 1000])
@pytest.mark.parametrize("others", [[], [torch.nan], [torch.inf, -torch.inf], [torch.nan, torch.inf], [-torch.inf]])
def test_parts_of_any_length_give_the_histogram_of_one(
    others: list[float], length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = torch.cat([torch.randn(40).exp(), torch.tensor(others), torch.zeros(3)])
    for made in (histogram, log10_histogram):
        expected: Any = made(values)
        with monkeypatch.context() as patch:
            patch.setattr("lightning_easiness._utils.blocks.LENGTH", length)
            found: Any = made(values)
        for name in expected:
            assert found[name] == (pytest.approx(expected[name], rel=1e-14) if "sum" in name else expected[name]), name


def test_no_number_depends_on_how_many_threads_there_are() -> None:
    values, found, before = torch.randn(100_000).exp(), [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append((Moments.of(values), histogram(values), log10_histogram(values)))
    torch.set_num_threads(before)
    assert found[0] == found[1]


@pytest.mark.parametrize("length", [1, 7, 1000])
@pytest.mark.parametrize("others", [[], [torch.nan], [torch.inf, -torch.inf], [torch.nan, torch.inf]])
@pytest.mark.parametrize("seen", [None, 0.0, 0.5, 1.0])
def test_moments_are_those_of_all_values_at_once(
    seen: float | None, others: list[float], length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_easiness._utils.blocks.LENGTH", length)
    values = torch.cat([torch.rand(40) + 1e4, torch.tensor(others)])
    among = None if seen is None else torch.rand(len(values)) < seen
    if among is not None:
        values = values.masked_fill(~among, torch.nan)
    found = Moments.of(values, among)
    known = values[(torch.ones(len(values)) > 0 if among is None else among) & ~values.isinf()].double()
    assert (found.num, found.num_nan) == (len(known), int(known.isnan().sum()))
    if len(known):
        assert found.mean == pytest.approx(known.mean().item(), rel=1e-13, nan_ok=True)
        assert found.spread == pytest.approx(known.std(correction=0).item(), rel=1e-9, nan_ok=True)
    else:
        assert np.isnan(found.spread)


@pytest.mark.parametrize(
    "values", [torch.randn(1000).exp(), torch.tensor([2.0, 2.0]), torch.arange(5), torch.tensor([0.0, 1e-30, 30.0])]
)
def test_histogram_against_numpy(values: Tensor) -> None:
    bins: Any = histogram(torch.cat([values, torch.tensor([torch.nan, torch.inf, -torch.inf])]))
    known = values.double().numpy()
    if known.min() < known.max():
        counts, limits = np.histogram(known, bins=64)
        assert bins["bucket_counts"] == counts.tolist()
        np.testing.assert_allclose(bins["bucket_limits"], limits[1:])
        np.testing.assert_allclose(bin_edges(bins), limits, atol=1e-12)
    assert sum(bins["bucket_counts"]) == bins["num"] == len(known)
    assert (bins["min"], bins["max"]) == (known.min(), known.max())
    assert bins["sum"] == pytest.approx(known.sum())
    assert bins["sum_squares"] == pytest.approx((known**2).sum())
    assert histogram(torch.empty(0)) is histogram(torch.tensor([torch.nan, torch.inf])) is None


def test_powers_of_ten_are_those_of_the_values_and_zero_is_the_least() -> None:
    bins: Any = log10_histogram(torch.tensor([0.0, 1e-30, 0.01, 100.0, torch.nan, torch.inf]))
    assert (bins["num"], bins["min"], bins["max"]) == (4, -8, pytest.approx(2))
    assert bins["bucket_counts"][0] == 2
    assert log10_histogram(torch.tensor([-1.0, 1.0])) is None
    assert log10_histogram(torch.empty(0)) is None


def test_zero_in_half_precision_is_the_least_too() -> None:
    found = log10_histogram(torch.tensor([0.0, 1.0]).half())
    assert found is not None
    assert (found["min"], found["max"]) == (pytest.approx(-8, abs=1e-6), 0.0)


def test_losses_and_easiness_are_shown_on_a_log_axis_and_margins_are_not() -> None:
    values = torch.tensor([0.001, 0.5, 3.0])
    assert [shown_histogram(name, values)[0] for name in ("loss", "sample_easiness", "margin")] == [
        "log10_loss",
        "log10_sample_easiness",
        "margin",
    ]
    name, bins = shown_histogram("loss", torch.tensor([-2.0, 1.0]))  # a user's own loss
    assert (name, bins) == ("loss", histogram(torch.tensor([-2.0, 1.0])))


def test_of_sample_easiness_what_is_at_neither_end_is_shown() -> None:
    _, bins = shown_histogram("sample_easiness", torch.tensor([0.0, 1e-5, 0.01, 0.5, 1.0, torch.nan]))
    assert bins is not None
    assert (bins["num"], bins["min"]) == (2, pytest.approx(-2))
    assert shown_histogram("sample_easiness", torch.tensor([0.0, 1.0]))[1] is None


def test_shares_of_levels_are_of_the_known_examples() -> None:
    runs = torch.tensor([[0, 2, -1], [1, 2, 0]])
    assert level_shares(runs) == {"hard": 0.4, "medium": 0.2, "easy": 0.4}
    assert level_shares(torch.full((3,), -1)) == level_shares(torch.empty(0, dtype=torch.int64)) == {}
