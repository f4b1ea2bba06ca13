"""Two groups by gap and by mixture: each cut tried, another's EM, one group of many shapes, extreme values."""

import math
import statistics

import numpy as np
import pytest
import torch

from lightning_easiness.functional import flag_by_threshold, split_by_gap, split_by_mixture

directions = pytest.mark.parametrize("higher_is_easier", [True, False])
splits = pytest.mark.parametrize("split", [split_by_mixture, split_by_gap])


def bells(num_wrong: int, num_right: int, seed: int = 0, distance: float = 6.0, wide: float = 1.0) -> torch.Tensor:
    """The wrong ones first: around 0, standard deviation `wide`; the right around `distance`, standard deviation 1."""
    draw = torch.randn(num_wrong + num_right, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([draw[:num_wrong] * wide, draw[num_wrong:] + distance])


def drawn(seed: int, *groups: tuple[float, float, int]) -> torch.Tensor:
    """Normal values of each (mean, standard deviation, number) in turn."""
    source = np.random.default_rng(seed)
    return torch.tensor(np.concatenate([source.normal(*group) for group in groups]))


ONE_GROUP = {
    "normal": lambda source: source.normal(size=400),
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
@directions
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


def slow_cut(values: list[float]) -> set[int]:
    """The lower group of the cut with the least variance within both groups, all cuts tried."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    best, lower = math.inf, set()
    for cut in range(1, len(values)):
        low, high = order[:cut], order[cut:]
        if values[low[-1]] == values[high[0]]:
            continue
        within = sum(statistics.pvariance([values[i] for i in part]) * len(part) for part in (low, high))
        if within < best - 1e-9:
            best, lower = within, set(low)
    return lower


@pytest.mark.parametrize("seed", range(8))
@directions
def test_the_gap_is_the_best_of_all_cuts(seed, higher_is_easier):
    values = (bells(7, 20, seed, distance=3) * 8).round() / 8  # with ties
    groups = split_by_gap(values if higher_is_easier else -values, higher_is_easier=higher_is_easier)
    lower = slow_cut(values.tolist())
    assert set(groups.flagged.nonzero()[:, 0].tolist()) == lower
    threshold = max(values[index].item() for index in lower)
    assert float(groups.threshold) == (threshold if higher_is_easier else -threshold)
    assert float(groups.share) == pytest.approx(len(lower) / 27)


@pytest.mark.parametrize(("num_wrong", "wide", "distance"), [(300, 1.0, 6.0), (60, 2.0, 8.0), (600, 0.5, 4.0)])
@directions
def test_the_mixture_is_that_of_another_em(num_wrong, wide, distance, higher_is_easier):
    mixture = pytest.importorskip("sklearn.mixture")
    values = bells(num_wrong, 1000, 1, distance, wide)
    groups = split_by_mixture(values if higher_is_easier else -values, higher_is_easier=higher_is_easier)
    model = mixture.GaussianMixture(2, random_state=0, n_init=5, tol=1e-8, max_iter=2000, reg_covar=0)
    column = values.numpy()[:, None]
    posterior = model.fit(column).predict_proba(column)[:, int(model.means_.argmin())]
    low, high = sorted(model.means_[:, 0])
    between = (column[:, 0] > low) & (column[:, 0] < high)  # outside, ours is monotone
    np.testing.assert_allclose(groups.posterior.numpy()[between], posterior[between], atol=2e-3)
    assert float(groups.share) == pytest.approx(float(model.weights_[int(model.means_.argmin())]), abs=0.01)
    assert float(groups.share) == pytest.approx(num_wrong / (num_wrong + 1000), abs=0.02)


@pytest.mark.parametrize("wide", [0.1, 1.0, 5.0])
def test_the_posterior_never_rises_towards_easier(wide):
    values = bells(100, 900, 2, wide=wide)
    groups = split_by_mixture(values)
    ordered = groups.posterior[values.argsort()]
    assert (ordered.diff() <= 0).all()
    assert torch.equal(groups.flagged, groups.posterior >= 0.5)
    assert torch.equal(groups.flagged, flag_by_threshold(values, groups.threshold))
    assert groups.flagged[:100].float().mean() > 0.8


def test_many_examples_are_fitted_in_blocks_as_well_as_few():
    values = bells(5_000, 45_001, 3, distance=4)
    groups = split_by_mixture(values)
    assert float(groups.share) == pytest.approx(0.1, abs=0.005)
    weights = 0.1 * np.exp(-(2.5**2) / 2), 0.9 * np.exp(-(1.5**2) / 2)
    near = (values - 2.5).abs().argmin()
    assert float(groups.posterior[near]) == pytest.approx(weights[0] / sum(weights), abs=0.03)


@splits
@pytest.mark.parametrize(
    "values", [[], [1.0] * 50, [math.nan] * 20, [0.0, 9.0], [math.inf] * 12, [1e30] * 11 + [math.nan]]
)
def test_nothing_to_split_flags_nothing(split, values):
    tensor = torch.tensor(values)
    groups = split(tensor)
    assert not groups.flagged.any()
    assert groups.flagged.shape == groups.posterior.shape == tensor.shape
    assert (float(groups.threshold), float(groups.share)) == (-math.inf, 0.0)
    assert torch.equal(groups.posterior.isnan(), tensor.isnan())
    assert float(split(tensor, higher_is_easier=False).threshold) == math.inf


@splits
def test_unknown_and_infinite_values(split):
    values = torch.cat([bells(30, 70), torch.tensor([math.nan, -math.inf, math.inf])])
    groups = split(values)
    assert groups.flagged[:30].float().mean() > 0.9
    assert groups.flagged[100:].tolist() == [False, True, False]
    assert groups.posterior[100:].isnan().tolist() == [True, False, False]


@splits
@directions
def test_nothing_easier_than_the_limit_is_flagged(split, higher_is_easier):
    values = bells(40, 60) + 3
    given_values, limit = (values, 3.0) if higher_is_easier else (-values, -3.0)
    free, bounded = (
        split(given_values, higher_is_easier=higher_is_easier),
        split(given_values, higher_is_easier=higher_is_easier, limit=limit),
    )
    assert torch.equal(bounded.flagged, free.flagged & (values <= 3))
    assert torch.equal(bounded.flagged, bounded.posterior >= 0.5)
    assert 0 < float(bounded.share) == float(free.share)


@splits
def test_two_values_are_two_groups(split):
    groups = split(torch.tensor([5.0] * 90 + [-5.0] * 10))
    assert groups.flagged.tolist() == [False] * 90 + [True] * 10
    assert float(groups.threshold) == -5.0
