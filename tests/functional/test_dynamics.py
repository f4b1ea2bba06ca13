"""Scores of a trajectory: margin and its area, forgetting events, EL2N, data-map statistics."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import (
    area_under_loss,
    area_under_margin,
    confidence,
    correctness,
    early_agreement,
    el2n,
    forgetting_events,
    learning_weights,
    margin,
    variability,
)
from tests.functional import references as reference
from tests.functional.strategies import answers, assert_matches, classified, matrices, moderate

any_logits = st.sampled_from([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan]) | st.floats(-1000, 1000)
finite_logits = st.sampled_from([0.0, 1.0, -1.0, 1e4, -1e4]) | st.floats(-30, 30)
holes = st.just(math.nan) | st.floats(-100, 100) | st.sampled_from([0.0, 1.0, math.inf])
losses = st.floats(0, 20) | st.sampled_from([0.0, 1.0, 200.0, math.inf])


# one checkpoint


@moderate
@given(classified(any_logits))
def test_margin_is_the_target_minus_the_largest_other_logit(case):
    logits, target = case
    assert_matches(margin(logits, target), reference.margin(logits.tolist(), target.tolist()), logits.dtype)


@moderate
@given(classified(finite_logits))
def test_el2n_is_the_distance_of_the_output_from_the_one_hot_target(case):
    logits, target = case
    wanted = reference.el2n(logits.tolist(), target.tolist())
    assert_matches(el2n(logits, target), wanted, logits.dtype, rtol=2e-5, atol=5e-6)


def test_el2n_of_two_classes_in_closed_form():
    logit = torch.linspace(-5, 5, 11, dtype=torch.float64)
    logits = torch.stack([logit, torch.zeros_like(logit)], dim=1)
    wanted = [math.sqrt(2) / (1 + math.exp(value)) for value in logit.tolist()]
    assert el2n(logits, torch.zeros(11, dtype=torch.int64)).tolist() == pytest.approx(wanted, rel=1e-12)


# over checkpoints


@pytest.mark.parametrize(
    ("score", "elements", "definition", "tolerances"),
    [
        (area_under_margin, holes, reference.area_under_margin, {"atol": 1e-4}),
        (area_under_loss, holes, reference.area_under_margin, {}),
        (confidence, losses, reference.confidence, {}),
        (variability, losses, reference.variability, {"rtol": 1e-4}),
    ],
)
@moderate
@given(data=st.data())
def test_a_statistic_of_numbers_is_that_of_the_checkpoints_that_saw_the_example(
    data, score, elements, definition, tolerances
):
    rows = data.draw(matrices(elements))
    assert_matches(score(rows), definition(rows.tolist()), rows.dtype, **tolerances)


@moderate
@given(answers())
def test_forgetting_counts_the_falls_from_correct_to_wrong_and_correctness_the_share_of_correct(correct):
    events, share = forgetting_events(correct), correctness(correct)
    assert (events.dtype, share.dtype) == (torch.int64, torch.float32)
    assert events.tolist() == reference.forgetting_events(correct.tolist())
    assert share.tolist() == pytest.approx(reference.correctness(correct.tolist()), rel=1e-6)


def test_forgetting_by_hand():
    # Learnt late is not forgotten; never learnt is the hardest, above every other.
    stories = {"1111": 0, "0001": 0, "1000": 1, "0101": 1, "1010": 2, "0000": 4}
    correct = torch.tensor([[int(answer) for answer in story] for story in stories]).T
    assert forgetting_events(correct).tolist() == list(stories.values())


def test_sums_of_half_types_are_in_float32():
    assert area_under_margin(torch.ones(3000, 1, dtype=torch.bfloat16)).item() == 1.0
    assert area_under_margin(torch.full((4, 1), 6e4, dtype=torch.float16)).item() == pytest.approx(6e4, rel=1e-3)


@moderate
@given(answers(), st.data())
def test_early_agreement_is_the_share_of_the_first_checkpoints_that_were_seen(correct, data):
    early = data.draw(st.sampled_from([0.01, 0.3, 0.5, 0.7, 1.0]))
    flags = st.lists(st.booleans(), min_size=correct.numel(), max_size=correct.numel())
    seen = torch.tensor(data.draw(flags), dtype=torch.bool).reshape(correct.shape)
    share = early_agreement(correct, early, seen)
    assert share.dtype == torch.float32
    wanted = reference.early_agreement(correct.tolist(), early, seen.tolist())
    assert share.tolist() == pytest.approx(wanted, rel=1e-6, nan_ok=True)
    everything = reference.early_agreement(correct.tolist(), early, torch.ones_like(seen).tolist())
    assert early_agreement(correct, early).tolist() == pytest.approx(everything, rel=1e-6)


# weights of checkpoints


def weighted_by_loops(margin, weights):
    means = []
    for example in range(margin.shape[1]):
        seen = [(float(m), float(w)) for m, w in zip(margin[:, example], weights, strict=True) if not math.isnan(m)]
        if sum(w for _, w in seen) == 0:
            seen = [(m, 1.0) for m, _ in seen]
        total = math.fsum(w for _, w in seen)
        means.append(math.fsum(m * w for m, w in seen) / total if seen else math.nan)
    return torch.tensor(means, dtype=torch.float64)


def test_a_weighted_area_is_the_weighted_mean_of_what_was_seen():
    draws = torch.Generator().manual_seed(3)
    margin = torch.randn(6, 40, generator=draws, dtype=torch.float64)
    margin[torch.rand(6, 40, generator=draws) < 0.3] = math.nan
    margin[:, 5] = math.nan
    weights = torch.tensor([0.0, 0.2, 0.0, 0.1, 0.25, 0.0])
    margin[[1, 3, 4], 7] = math.nan  # what is left weighs nothing
    margin[0, 7] = 2.0
    found = area_under_margin(margin, weights)
    torch.testing.assert_close(found, weighted_by_loops(margin, weights), equal_nan=True)
    torch.testing.assert_close(
        area_under_margin(margin, torch.full((6,), 0.3)),
        area_under_margin(margin),
        equal_nan=True,
    )
    assert area_under_margin(margin.float(), weights).dtype == torch.float32


def test_learning_weighs_what_is_between_nothing_and_all():
    accuracy = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    wanted = [(t + 1) * (a * (1 - a)) ** 2 for t, a in enumerate([0.0, 0.1, 0.5, 0.9, 1.0])]
    torch.testing.assert_close(learning_weights(accuracy), torch.tensor(wanted))
    alike = learning_weights(torch.full((4,), 0.5))
    assert (alike.diff() > 0).all(), "of two checkpoints that are as good the later one knows more"
