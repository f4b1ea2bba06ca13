"""Scores of windows along training: DUAL, dynamic uncertainty, TDDS; and the draw that moves towards easy examples."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import draw_by_dual, dual, dynamic_uncertainty, tdds
from tests.functional import references as reference
from tests.functional.strategies import assert_matches, few, matrices, moderate

losses = st.just(math.nan) | st.floats(0, 30) | st.sampled_from([0.0, 1.0, math.inf])
courses = matrices(losses, rows=st.integers(1, 7))


@pytest.mark.parametrize(
    ("score", "definition"), [(dual, reference.dual), (dynamic_uncertainty, reference.dynamic_uncertainty)]
)
@moderate
@given(rows=courses, window=st.integers(2, 8))
def test_a_score_of_windows_is_the_mean_over_those_that_saw_the_example(score, definition, rows, window):
    assert_matches(score(rows, window), definition(rows.tolist(), window), rows.dtype, rtol=1e-4, atol=2e-6)


@moderate
@given(rows=courses, window=st.integers(3, 8), decay=st.sampled_from([0.1, 0.5, 0.9, 1.0]))
def test_tdds_weighs_the_last_window_most(rows, window, decay):
    wanted = reference.tdds(rows.tolist(), window, decay)
    assert_matches(tdds(rows, window, decay), wanted, rows.dtype, rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize(
    ("score", "largest"), [(dual, 2 / math.sqrt(27)), (dynamic_uncertainty, math.sqrt(0.5)), (tdds, 9.2104)]
)
def test_the_range_is_reached_and_not_left(score, largest):
    corners = torch.tensor(list(itertools.product([0.0, 0.3, 1.0, math.inf], repeat=5))).T
    found = torch.stack([score(corners, window) for window in range(3 if score is tdds else 2, 6)])
    assert found.max().item() == pytest.approx(largest, rel=1e-4)
    assert found.min() >= 0


def test_an_example_that_is_never_learnt_and_one_that_is_known_are_both_certain():
    never, known, learnt = torch.full((12,), 6.0), torch.full((12,), 0.01), torch.linspace(3, 0, 12)
    loss = torch.stack([never, known, learnt], dim=1)
    for score in (dual, dynamic_uncertainty, tdds):
        assert score(loss, window=4).argmax() == 2
        assert score(loss, window=4)[:2].max() < 1e-6


# ------------------------------------------------------------------------------------------------- the draw of DUAL


def density(mean: float, a: float, b: float) -> float:
    return math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + (a - 1) * math.log(mean) + (b - 1) * math.log(1 - mean)
    )


@few
@given(
    scores=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.38]), min_size=5, max_size=5).filter(any),
    ratio=st.sampled_from([0.7, 0.8, 0.9]),
    c_d=st.sampled_from([1.0, 4.0, 11.0]),
)
def test_a_single_example_is_drawn_by_the_score_times_the_beta_density(scores, ratio, c_d):
    means = [0.05, 0.3, 0.5, 0.8, 0.95]
    b = 15 * (1 - sum(means) / 5) * (1 - ratio**c_d)  # five are fewer than the ten that place it
    weights = torch.tensor([score * density(mean, 16 - b, b) for score, mean in zip(scores, means, strict=True)])
    drawn = [draw_by_dual(torch.tensor(scores), torch.tensor(means), ratio, c_d, seed) for seed in range(400)]
    shares = torch.cat(drawn).bincount(minlength=5) / 400
    assert all(len(kept) == 1 for kept in drawn)
    torch.testing.assert_close(shares.double(), (weights / weights.sum()).double(), rtol=0, atol=0.11)


def test_the_more_must_go_the_easier_is_what_stays():
    mean = torch.linspace(0.05, 0.95, 1000)
    score = mean * (1 - mean)
    kept = [draw_by_dual(score, mean, ratio) for ratio in (0.1, 0.5, 0.9, 0.99)]
    assert [len(one) for one in kept] == [900, 500, 100, 10]
    shown = [mean[one].mean().item() for one in kept]
    assert shown == sorted(shown)
    assert shown[-1] > shown[0] + 0.2
