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
from tests.functional.strategies import (
    COUNT_TYPES,
    FLOAT_TYPES,
    answers,
    assert_matches,
    classified,
    matrices,
    moderate,
)

any_logits = st.sampled_from([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan]) | st.floats(-1000, 1000)
finite_logits = st.sampled_from([0.0, 1.0, -1.0, 1e4, -1e4]) | st.floats(-30, 30)
holes = st.just(math.nan) | st.floats(-100, 100) | st.sampled_from([0.0, 1.0, math.inf])
losses = st.floats(0, 20) | st.sampled_from([0.0, 1.0, 200.0, math.inf])


# margin


@moderate
@given(classified(any_logits))
def test_margin_is_the_target_minus_the_largest_other_logit(case):
    logits, target = case
    assert_matches(margin(logits, target), reference.margin(logits.tolist(), target.tolist()), logits.dtype)


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_margin_by_hand(dtype):
    logits = torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0], [3.0, 3.0, 0.0], [-1.0, -5.0, -9.0]], dtype=dtype)
    assert margin(logits, torch.tensor([1, 0, 0, 2])).tolist() == [2.0, -3.0, 0.0, -8.0]


def test_an_excluded_class_does_not_enter_the_margin():
    logits = torch.tensor([[2.0, -math.inf, 1.0], [2.0, -math.inf, -math.inf], [-math.inf, 1.0, 0.0]])
    assert margin(logits, torch.tensor([0, 0, 0])).tolist() == [1.0, math.inf, -math.inf]


# area under the margin


@moderate
@given(matrices(holes))
def test_area_is_the_mean_over_the_checkpoints_that_saw_the_example(margins):
    assert_matches(area_under_margin(margins), reference.area_under_margin(margins.tolist()), margins.dtype, atol=1e-4)


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_area_by_hand(dtype):
    hole = math.nan
    margins = torch.tensor([[1.0, hole, hole, -2.0], [3.0, 5.0, hole, 0.0], [hole, hole, hole, -1.0]], dtype=dtype)
    area = area_under_margin(margins)
    assert area[[0, 1, 3]].tolist() == [2.0, 5.0, -1.0]
    assert area[2].isnan()


def test_area_sums_half_types_in_float32():
    assert area_under_margin(torch.ones(3000, 1, dtype=torch.bfloat16)).item() == 1.0
    assert area_under_margin(torch.full((4, 1), 6e4, dtype=torch.float16)).item() == pytest.approx(6e4, rel=1e-3)


# forgetting


@moderate
@given(answers())
def test_forgetting_counts_the_falls_from_correct_to_wrong(correct):
    events = forgetting_events(correct)
    assert events.dtype == torch.int64
    assert events.tolist() == reference.forgetting_events(correct.tolist())


@pytest.mark.parametrize("dtype", COUNT_TYPES)
@pytest.mark.parametrize(
    ("story", "events"),
    [
        ("1111", 0),  # never forgotten
        ("0001", 0),  # learnt late is not forgotten
        ("0111", 0),
        ("1000", 1),
        ("1010", 2),
        ("0101", 1),
        ("0110", 1),
        ("0000", 4),  # never learnt: the hardest, above every other
        ("1", 0),
        ("0", 1),
    ],
)
def test_forgetting_by_hand(story, events, dtype):
    correct = torch.tensor([[int(answer)] for answer in story], dtype=dtype)
    assert forgetting_events(correct).tolist() == [events]


def test_never_learnt_is_harder_than_often_forgotten():
    correct = torch.tensor([[1, 0], [0, 0], [1, 0], [0, 0], [1, 0]], dtype=torch.bool)
    often, never = forgetting_events(correct).tolist()
    assert never > often


# EL2N


@moderate
@given(classified(finite_logits))
def test_el2n_is_the_distance_of_the_output_from_the_one_hot_target(case):
    logits, target = case
    wanted = reference.el2n(logits.tolist(), target.tolist())
    assert_matches(el2n(logits, target), wanted, logits.dtype, rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_el2n_by_hand(dtype):
    logits = torch.tensor([[0.0, 0.0], [1000.0, 0.0], [1000.0, 0.0]], dtype=dtype)
    easiness = el2n(logits, torch.tensor([0, 0, 1])).tolist()
    assert easiness == pytest.approx([math.sqrt(0.5), 0.0, math.sqrt(2)], rel=torch.finfo(dtype).eps + 1e-6)


def test_el2n_of_two_classes_in_closed_form():
    logit = torch.linspace(-5, 5, 11, dtype=torch.float64)
    logits = torch.stack([logit, torch.zeros_like(logit)], dim=1)
    wanted = [math.sqrt(2) / (1 + math.exp(value)) for value in logit.tolist()]
    assert el2n(logits, torch.zeros(11, dtype=torch.int64)).tolist() == pytest.approx(wanted, rel=1e-12)


# data maps


@moderate
@given(matrices(losses))
def test_confidence_is_the_mean_probability_of_the_label(loss):
    assert_matches(confidence(loss), reference.confidence(loss.tolist()), loss.dtype)


@moderate
@given(matrices(losses))
def test_variability_is_the_population_deviation_of_that_probability(loss):
    assert_matches(variability(loss), reference.variability(loss.tolist()), loss.dtype, rtol=1e-4, atol=1e-6)


@moderate
@given(answers())
def test_correctness_is_the_share_of_correct_checkpoints(correct):
    share = correctness(correct)
    assert share.dtype.is_floating_point
    assert share.tolist() == pytest.approx(reference.correctness(correct.tolist()), rel=1e-6)


def test_data_map_by_hand():
    loss = -torch.tensor([[0.25, 0.5, 1.0], [0.75, 0.5, 0.0]], dtype=torch.float64).log()
    assert confidence(loss).tolist() == pytest.approx([0.5, 0.5, 0.5])
    assert variability(loss).tolist() == pytest.approx(
        [0.25, 0.0, 0.5]
    )  # ddof 0: the sample deviation is 0.35, 0, 0.71
    assert correctness(torch.tensor([[True, False, True], [True, False, False]])).tolist() == [1.0, 0.0, 0.5]


def test_one_checkpoint_does_not_vary():
    assert variability(torch.tensor([[0.3, 2.0]])).tolist() == [0.0, 0.0]


def test_an_example_never_seen_has_no_place_on_the_data_map():
    loss = torch.tensor([[0.3, math.nan], [0.2, math.nan]])
    for statistic in (confidence, variability):
        known, unknown = statistic(loss).unbind()
        assert known.isfinite()
        assert unknown.isnan()


# early learning, and the mean loss over training


@moderate
@given(matrices(holes))
def test_area_under_loss_is_the_mean_over_the_checkpoints_that_saw_the_example(loss):
    assert_matches(area_under_loss(loss), reference.area_under_margin(loss.tolist()), loss.dtype)


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


@pytest.mark.parametrize(("early", "share"), [(0.2, 1.0), (0.5, 2 / 3), (0.6, 2 / 3), (1.0, 0.4)])
def test_early_agreement_by_hand(early, share):
    story = torch.tensor([[True], [False], [True], [False], [False]])
    assert early_agreement(story, early).tolist() == pytest.approx([share])


def test_what_early_agreement_refuses():
    correct = torch.ones(4, 3, dtype=torch.bool)
    for early in (0.0, 1.5, -0.5, math.nan):
        with pytest.raises(
            ValueError, match=rf"^The `early` of early_agreement must be in \(0, 1\]; got {early}: the fir"
        ):
            early_agreement(correct, early)
    with pytest.raises(ValueError, match=r"^The `seen` of early_agreement must have the shape of `correct`, \(4, 3\)"):
        early_agreement(correct, seen=correct[:2])
    with pytest.raises(ValueError, match=r"^The `correct` of early_agreement must have shape \(checkpoints, N\)"):
        early_agreement(correct[0])


# errors


@pytest.mark.parametrize("score", [margin, el2n])
def test_logits_and_targets_must_fit(score):
    logits = torch.rand(3, 4)
    with pytest.raises(ValueError, match="target"):
        score(logits, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="logits"):
        score(torch.rand(3), torch.tensor([0, 1, 2]))


@pytest.mark.parametrize("score", [margin, el2n])
@pytest.mark.parametrize("outside", [4, -1])
def test_a_target_out_of_range_is_named(score, outside):
    with pytest.raises(ValueError, match="target"):
        score(torch.rand(3, 4), torch.tensor([0, outside, 2]))


def test_a_margin_needs_another_class():
    with pytest.raises(ValueError, match="logits"):
        margin(torch.rand(3, 1), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4)])
def test_a_trajectory_has_two_dimensions(shape):
    for score in (confidence, variability):
        with pytest.raises(ValueError, match="loss"):
            score(torch.zeros(shape))
    for score in (forgetting_events, correctness):
        with pytest.raises(ValueError, match="correct"):
            score(torch.zeros(shape, dtype=torch.bool))
    with pytest.raises(ValueError, match="margin"):
        area_under_margin(torch.zeros(shape))


# ------------------------------------------------------------------ weights of checkpoints


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


@pytest.mark.parametrize("weights", [[1.0, 2.0], [1.0, -1.0, 0.0], [1.0, math.inf, 0.0], [1.0, math.nan, 0.0]])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="`weights` of area_under_margin"):
        area_under_margin(torch.zeros(3, 2), torch.tensor(weights))


def test_learning_weighs_what_is_between_nothing_and_all():
    accuracy = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    wanted = [(t + 1) * (a * (1 - a)) ** 2 for t, a in enumerate([0.0, 0.1, 0.5, 0.9, 1.0])]
    torch.testing.assert_close(learning_weights(accuracy), torch.tensor(wanted))
    alike = learning_weights(torch.full((4,), 0.5))
    assert (alike.diff() > 0).all(), "of two checkpoints that are as good the later one knows more"
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        learning_weights(torch.tensor([0.5, 50.0]))
