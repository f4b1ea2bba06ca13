"""Rules about wrong labels against slow references: numpy's percentile, each cut tried, another's EM, plain loops."""

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import (
    compare_to_thresholds,
    flag_by_threshold,
    normalized_margin,
    refine_by_sample_easiness,
    self_confidence,
    split_by_gap,
    split_by_mixture,
    suggest_labels,
    threshold_examples,
    threshold_of,
)
from tests.functional.strategies import filled, float_types, moderate

NAN, INF = math.nan, math.inf
numbers = st.integers(-20, 20).map(lambda value: value / 4)
directions = pytest.mark.parametrize("higher_is_easier", [True, False])
splits = pytest.mark.parametrize("split", [split_by_mixture, split_by_gap])


def bells(num_wrong: int, num_right: int, seed: int = 0, distance: float = 6.0, wide: float = 1.0) -> torch.Tensor:
    """The wrong ones first: around 0, standard deviation `wide`; the right around `distance`, standard deviation 1."""
    draw = torch.randn(num_wrong + num_right, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([draw[:num_wrong] * wide, draw[num_wrong:] + distance])


# threshold examples


@pytest.mark.parametrize("n", [2, 3, 10, 50, 101])
@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_two_runs_judge_everything(n, num_classes):
    target = torch.arange(n) % num_classes
    size = math.floor(n / (num_classes + 1) + 0.5)
    if not size:
        pytest.skip("too few examples")
    for seed in range(5):
        sets = [set(threshold_examples(target, num_classes, part, seed).tolist()) for part in (0, 1)]
        assert [len(part) for part in sets] == [size, size]
        judged = [set(range(n)) - part for part in sets]
        assert judged[0] | judged[1] == set(range(n))
    assert threshold_examples(target, num_classes).diff().gt(0).all()


def test_threshold_examples_come_from_the_seed_alone():
    target = torch.arange(60) % 5
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = torch.get_rng_state()
        first = threshold_examples(target, 5, seed=4)
        assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, threshold_examples(target, 5, seed=4))
    assert not torch.equal(first, threshold_examples(target, 5, seed=5))
    counts = torch.zeros(60)
    for seed in range(600):
        counts[threshold_examples(target, 5, seed % 2, seed)] += 1
    assert counts.sum() == 6000
    assert (counts - 100).abs().max() < 5 * math.sqrt(600 / 6 * 5 / 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": torch.tensor([0, 1, 2, 2])}, r"must be in \[0, 2\), the classes; got 2 at index 2"),
        ({"target": torch.tensor([0, 1, -1, 0])}, "got -1 at index 2"),
        ({"num_classes": 1}, "of one class no label is wrong"),
        ({"part": 2}, "must be 0 or 1, the run of the two; got 2"),
        ({"target": torch.tensor([0])}, "enough examples"),
    ],
)
def test_bad_threshold_examples_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        threshold_examples(**{"target": torch.tensor([0, 1, 1, 0]), "num_classes": 2, **changes})


@moderate
@given(st.data())
def test_the_threshold_is_numpys_percentile(data):
    values = filled(data.draw, (data.draw(st.integers(1, 9)),), numbers, data.draw(float_types))
    percentile = data.draw(st.sampled_from([0.5, 50.0, 90.0, 99.0, 100.0]))
    for higher, counted in ((True, percentile), (False, 100 - percentile)):
        wanted = np.percentile(values.double().numpy(), counted)
        assert float(threshold_of(values, percentile, higher_is_easier=higher)) == pytest.approx(wanted, abs=1e-12)
    with_unknown = torch.cat([values, torch.tensor([NAN], dtype=values.dtype)])
    assert threshold_of(with_unknown, percentile) == threshold_of(values, percentile)


def test_threshold_errors():
    assert threshold_of(torch.tensor([-INF, -INF])) == -INF
    with pytest.raises(ValueError, match=r"must be in \(0, 100\]; got 0"):
        threshold_of(torch.ones(3), percentile=0)
    with pytest.raises(ValueError, match="got 2, all NaN"):
        threshold_of(torch.tensor([NAN, NAN]))


@directions
def test_flags_are_the_threshold_and_harder(higher_is_easier):
    flagged = flag_by_threshold(torch.tensor([1.0, 2.0, 3.0, NAN]), 2.0, higher_is_easier=higher_is_easier)
    assert flagged.tolist() == ([True, True, False, False] if higher_is_easier else [False, True, True, False])


@moderate
@given(st.data())
def test_runs_judge_by_plain_loops(data):
    n, runs, higher = data.draw(st.integers(4, 8)), data.draw(st.integers(1, 2)), data.draw(st.booleans())
    values = filled(data.draw, (runs, n), numbers, torch.float32)
    values[:, 3][filled(data.draw, (runs,), st.sampled_from([0.0, 1.0]), torch.bool)] = NAN
    sets = [torch.tensor([0]), torch.tensor([2, 1])][:runs]
    excess, thresholds = compare_to_thresholds(values, sets, 99, higher_is_easier=higher)
    for example in range(n):
        distances = []
        for run in range(runs):
            own = values[run, sets[run]].double().numpy()
            threshold = np.percentile(own, 99 if higher else 1)
            assert float(thresholds[run]) == pytest.approx(threshold)
            value = float(values[run, example])
            if example not in sets[run].tolist() and value == value:
                distances.append(value - threshold if higher else threshold - value)
        wanted = sum(distances) / len(distances) if distances else NAN
        assert float(excess[example]) == pytest.approx(wanted, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(
    ("sets", "error", "message"),
    [
        ([[0], [0]], ValueError, "disjoint.*got example 0 in more than one run"),
        ([[0]], ValueError, "those of each of the 2 runs; got 1"),
        ([[0], [4]], ValueError, r"must be in \[0, 4\).*got 4 in run 1"),
        ([[0], [0.5]], TypeError, "must hold integers"),
        ([[0], [3]], ValueError, "all NaN"),
    ],
)
def test_bad_sets_are_named(sets, error, message):
    values = torch.tensor([[1.0, 2.0, 3.0, NAN]]).repeat(2, 1)
    with pytest.raises(error, match=message):
        compare_to_thresholds(values, [torch.tensor(part) for part in sets])


# two groups


def slow_cut(values: list[float]) -> set[int]:
    """The lower group of the cut with the least variance within both groups, all cuts tried."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    best, lower = INF, set()
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
@pytest.mark.parametrize("values", [[], [1.0] * 50, [NAN] * 20, [0.0, 9.0], [INF] * 12, [1e30] * 11 + [NAN]])
def test_nothing_to_split_flags_nothing(split, values):
    tensor = torch.tensor(values)
    groups = split(tensor)
    assert not groups.flagged.any()
    assert groups.flagged.shape == groups.posterior.shape == tensor.shape
    assert (float(groups.threshold), float(groups.share)) == (-INF, 0.0)
    assert torch.equal(groups.posterior.isnan(), tensor.isnan())
    assert float(split(tensor, higher_is_easier=False).threshold) == INF


@pytest.mark.parametrize("seed", range(5))
def test_one_bell_holds_no_wrong_labels(seed):
    assert not split_by_mixture(bells(0, 400, seed)).flagged.any()


@splits
def test_unknown_and_infinite_values(split):
    values = torch.cat([bells(30, 70), torch.tensor([NAN, -INF, INF])])
    groups = split(values)
    assert groups.flagged[:30].float().mean() > 0.9
    assert groups.flagged[100:].tolist() == [False, True, False]
    assert groups.posterior[100:].isnan().tolist() == [True, False, False]


@splits
@directions
def test_nothing_easier_than_the_limit_is_flagged(split, higher_is_easier):
    values = bells(40, 60)
    given_values, limit = (values, 0.0) if higher_is_easier else (-values, -0.0)
    free, bounded = (
        split(given_values, higher_is_easier=higher_is_easier),
        split(given_values, higher_is_easier=higher_is_easier, limit=limit),
    )
    assert torch.equal(bounded.flagged, free.flagged & (values <= 0))
    assert torch.equal(bounded.flagged, bounded.posterior >= 0.5)
    assert 0 < float(bounded.share) == float(free.share)
    with pytest.raises(ValueError, match="must be a number or None; got nan"):
        split(values, limit=NAN)


@splits
def test_two_values_are_two_groups_and_the_order_does_not_matter(split):
    values = torch.tensor([5.0] * 90 + [-5.0] * 10)
    shuffled = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    groups, others = split(values), split(values[shuffled].bfloat16())
    assert groups.flagged.tolist() == [False] * 90 + [True] * 10
    assert torch.equal(groups.flagged[shuffled], others.flagged)
    assert float(groups.threshold) == -5.0


@splits
def test_bad_values_are_named(split):
    with pytest.raises(TypeError, match="must be a floating point tensor"):
        split(torch.arange(20))
    with pytest.raises(ValueError, match=r"must have shape \(N,\)"):
        split(torch.ones(20, 2))
    with pytest.raises(TypeError, match="must be True or False"):
        split(torch.ones(20), higher_is_easier="high")


# AUM-SE


def test_each_reading_keeps_its_flags():
    flagged = torch.tensor([True, True, True, True, False, False])
    easiness = torch.tensor([0.0, 0.5, 1.0, NAN, 0.0, 1.0])
    assert refine_by_sample_easiness(flagged, easiness, "hard").tolist() == [True] + [False] * 5
    assert refine_by_sample_easiness(flagged, easiness, "easy").tolist() == [False, False, True] + [False] * 3
    assert refine_by_sample_easiness(flagged, easiness, "hard", tol=0.49).sum() == 1
    with pytest.raises(ValueError, match="must be 'easy' or 'hard'; got 'medium'"):
        refine_by_sample_easiness(flagged, easiness, "medium")
    with pytest.raises(TypeError, match="must be a bool tensor"):
        refine_by_sample_easiness(flagged.long(), easiness, "easy")
    with pytest.raises(ValueError, match="shape of `flagged`"):
        refine_by_sample_easiness(flagged, easiness[:3], "easy")


# averaged probabilities


@moderate
@given(st.data())
def test_suggestions_and_scores_are_those_of_plain_loops(data):
    n, k = data.draw(st.integers(0, 5)), data.draw(st.integers(2, 5))
    weights = filled(data.draw, (n, k), st.integers(1, 50).map(float), torch.float64)
    probabilities = (weights / weights.sum(1, keepdim=True)).to(data.draw(float_types))
    labels = torch.tensor(data.draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n)), dtype=torch.int64)
    suggested, confidence, margin = (
        function(probabilities, labels) for function in (suggest_labels, self_confidence, normalized_margin)
    )
    for row, label, other, own, gap in zip(
        probabilities.double().tolist(), labels.tolist(), suggested.tolist(), confidence.tolist(), margin.tolist(),
        strict=True,
    ):  # fmt: skip
        others = {j: p for j, p in enumerate(row) if j != label}
        assert other != label
        assert others[other] == max(others.values())
        assert own == pytest.approx(row[label], abs=1e-6)
        assert gap == pytest.approx((row[label] - max(others.values()) + 1) / 2, abs=1e-6)


def test_unknown_labels_and_probabilities():
    probabilities = torch.tensor([[0.2, 0.5, 0.3], [NAN, NAN, NAN]])
    labels = torch.tensor([-1, 0])
    assert suggest_labels(probabilities, labels).tolist() == [1, -1]
    assert self_confidence(probabilities, labels).isnan().all()
    assert normalized_margin(probabilities, labels).isnan().all()


@pytest.mark.parametrize("function", [suggest_labels, self_confidence, normalized_margin])
@pytest.mark.parametrize(
    ("probabilities", "labels", "error", "message"),
    [
        ([[0.5, 0.5]], [2], ValueError, r"must be in \[0, 2\), the classes; got 2"),
        ([[2.0, 3.0]], [0], ValueError, "got a sum of 5 and a least value of 2 in row 0"),
        ([[1.5, -0.5]], [0], ValueError, "least value of -0.5"),
        ([[1.0]], [0], ValueError, "K >= 2"),
        ([[1, 0]], [0], TypeError, "floating point"),
        ([[0.5, 0.5]], [0, 1], ValueError, "the same examples"),
        ([[0.5, 0.5]], [0.0], TypeError, "must hold integers"),
    ],
)
def test_bad_probabilities_are_named(function, probabilities, labels, error, message):
    with pytest.raises(error, match=message):
        function(torch.tensor(probabilities), torch.tensor(labels))


@pytest.mark.parametrize(
    "call",
    [
        lambda values: split_by_mixture(values).posterior,
        lambda values: split_by_gap(values, higher_is_easier=False).posterior,
        lambda values: compare_to_thresholds(values[None], [torch.tensor([1, 4])]).excess,
        lambda values: flag_by_threshold(values, 1.0),
        threshold_of,
    ],
)
def test_inputs_stay_and_views_do(call):
    values = bells(30, 70)
    spaced = torch.stack([values, values], 1)[:, 0]
    before = values.clone()
    torch.testing.assert_close(call(values), call(spaced), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(values, before)
