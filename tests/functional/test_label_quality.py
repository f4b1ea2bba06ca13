"""Rules about label errors against slow references: numpy's percentile and plain loops."""

import math

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
    suggest_labels,
    threshold_examples,
    threshold_of,
)
from tests.functional.strategies import filled, float_types, moderate

NAN, INF = math.nan, math.inf
numbers = st.integers(-20, 20).map(lambda value: value / 4)
directions = pytest.mark.parametrize("higher_is_easier", [True, False])


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


def test_each_example_is_as_likely_a_threshold_example_as_another():
    target, counts = torch.arange(60) % 5, torch.zeros(60)
    for seed in range(600):
        counts[threshold_examples(target, 5, seed % 2, seed)] += 1
    assert counts.sum() == 6000
    assert (counts - 100).abs().max() < 5 * math.sqrt(600 / 6 * 5 / 6)


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


def test_the_threshold_of_infinite_values_is_infinite():
    assert threshold_of(torch.tensor([-INF, -INF])) == -INF


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


# AUM-SE


def test_each_reading_keeps_its_flags():
    flagged = torch.tensor([True, True, True, True, False, False])
    easiness, weakest = torch.tensor([0.0, 0.0, 1.0, NAN, 0.0, 1.0]), torch.tensor([0.0, 0.5, 1.0, NAN, 0.0, 1.0])
    hard = refine_by_sample_easiness(flagged, easiness, "hard", weakest_comparison=weakest)
    assert hard.tolist() == [True] + [False] * 5
    assert refine_by_sample_easiness(flagged, easiness, "easy").tolist() == [False, False, True] + [False] * 3
    assert refine_by_sample_easiness(flagged, easiness, "hard", 0.49, weakest_comparison=weakest).sum() == 1
    assert refine_by_sample_easiness(
        flagged, weakest[:, None].expand(6, 2).clone().index_fill(1, torch.tensor(0), 1.0)
    ).equal(hard)


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
