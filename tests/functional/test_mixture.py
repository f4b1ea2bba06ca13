"""What the two rules of `two_groups` take for groups: one group of many shapes, two that are apart, extreme values."""

import math

import numpy as np
import pytest
import torch

from lightning_easiness.functional import split_by_gap, split_by_mixture

splits = pytest.mark.parametrize("split", [split_by_mixture, split_by_gap])


def drawn(seed: int, *groups: tuple[float, float, int]) -> torch.Tensor:
    """Normal values of each (mean, standard deviation, number) in turn."""
    source = np.random.default_rng(seed)
    return torch.tensor(np.concatenate([source.normal(*group) for group in groups]))


ONE_GROUP = {
    "t with 3 degrees": lambda source: source.standard_t(3, 1000),
    "t with 10 degrees": lambda source: source.standard_t(10, 1000),
    "Laplace": lambda source: source.laplace(size=1000),
    "logistic": lambda source: source.logistic(size=1000),
    "gamma": lambda source: source.gamma(4, size=1000),
    "exponential": lambda source: source.exponential(size=1000),
    "log-normal": lambda source: source.lognormal(size=1000),
    "beta": lambda source: source.beta(2, 8, size=1000),
}


@pytest.mark.parametrize("shape", ONE_GROUP)
@pytest.mark.parametrize("higher_is_easier", [True, False])
def test_one_group_with_long_tails_holds_no_wrong_labels(shape, higher_is_easier):
    for seed in range(2):
        values = torch.tensor(ONE_GROUP[shape](np.random.default_rng(seed)))
        groups = split_by_mixture(values, higher_is_easier=higher_is_easier)
        assert not groups.flagged.any()
        assert float(groups.share) == 0
        assert (groups.posterior == 0).all()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("wide", [0.5, 1.0, 2.0])
def test_two_groups_that_are_apart_are_found(wide, share):
    number = int(share * 3000)
    distance = 4 * math.sqrt((wide**2 + 1) / 2)
    groups = split_by_mixture(drawn(0, (0, wide, number), (distance, 1, 3000 - number)))
    assert float(groups.share) == pytest.approx(share, abs=0.03)
    assert groups.flagged[:number].double().mean() > 0.8
    assert groups.flagged[number:].double().mean() < 0.06


def test_the_share_is_that_without_the_limit():
    values = drawn(0, (-0.3, 1.2, 4000), (2, 1.5, 6000))
    free, bounded = split_by_mixture(values), split_by_mixture(values, limit=0.0)
    assert float(free.share) == pytest.approx(0.4, abs=0.04)
    assert bounded.share == free.share
    assert float(bounded.threshold) <= 0 < float(free.threshold)


@splits
def test_a_group_beyond_the_limit_is_told_by_the_share(split):
    values = drawn(0, (2, 0.3, 300), (9, 1, 700))
    groups = split(values, limit=0.0)
    assert not groups.flagged.any()
    assert (groups.posterior == 0).all()
    assert float(groups.threshold) == -math.inf
    assert float(groups.share) == pytest.approx(0.3, abs=0.01)


@splits
@pytest.mark.parametrize("extremes", [[-1e6], [1e6], [-1e300, 1e300], [-1e6] * 10, [-math.inf, math.inf, -1e6, 1e9]])
def test_a_few_extreme_values_hide_no_group(split, extremes):
    values = torch.cat([drawn(0, (-3, 1, 500), (4, 1, 5000)), torch.tensor(extremes, dtype=torch.float64)])
    groups = split(values)
    assert groups.flagged[:500].double().mean() > 0.98
    assert groups.flagged[500:5500].double().mean() < 0.002
    assert groups.flagged[5500:].tolist() == [value < 0 for value in extremes]
    assert groups.threshold in values
    assert torch.equal(groups.flagged, values <= groups.threshold)


@splits
def test_few_wrong_where_all_right_are_equal(split):
    """The central part has no width then: the rest is no extreme."""
    loss = torch.zeros(5000)
    loss[:20] = torch.linspace(3, 4, 20)
    assert split(loss, higher_is_easier=False).flagged.nonzero()[:, 0].tolist() == list(range(20))


@splits
@pytest.mark.parametrize("extremes", [[], [-1e4, 1e3]])
def test_neither_unit_nor_order_matters(split, extremes):
    values = torch.cat([drawn(1, (0, 1, 100), (5, 1.5, 900)), torch.tensor(extremes, dtype=torch.float64)])
    groups = split(values)
    order = torch.tensor(np.random.default_rng(0).permutation(len(values)))
    assert groups.flagged.any()
    for others in (split(values[order]), split(values[order] * 1024), split(values[order] / 3e5 + 0.1)):
        assert torch.equal(others.flagged, groups.flagged[order])
        torch.testing.assert_close(others.posterior, groups.posterior[order], rtol=0, atol=1e-6)
        torch.testing.assert_close(others.share, groups.share, rtol=0, atol=1e-6)


@splits
def test_the_largest_numbers_end_in_no_error(split):
    largest = torch.finfo(torch.float64).max
    groups = split(torch.tensor([-largest] * 10 + [largest] * 20, dtype=torch.float64))
    assert not groups.posterior.isnan().any()
