"""Mean-loss and count easiness, the order of easiness, and its two ends."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import (
    count_easiness,
    easiest,
    fraction_to_count,
    hardest,
    mean_loss_easiness,
    rank_by_easiness,
)
from tests.functional import references as reference
from tests.functional.strategies import (
    COUNT_TYPES,
    FLOAT_TYPES,
    HALF_TYPES,
    answers,
    assert_matches,
    filled,
    float_types,
    matrices,
    moderate,
)

losses = st.floats(0, 1e4) | st.sampled_from([0.0, 0.5, math.inf, math.nan])
scores = st.sampled_from([0.0, -0.0, 0.5, 1.0, math.inf, -math.inf, math.nan]) | st.floats(-100, 100)
directions = pytest.mark.parametrize("higher_is_easier", [True, False])
ends = pytest.mark.parametrize("end", [easiest, hardest])


@st.composite
def scored(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Values with many ties, NaN, infinities and both zeros, and perhaps a tie breaker of the same kind."""
    count = draw(st.integers(0, 12))
    values = filled(draw, (count,), scores, draw(float_types))
    tie_breaker = filled(draw, (count,), scores, draw(float_types)) if draw(st.booleans()) else None
    return values, tie_breaker


def groups_of(values: torch.Tensor, higher_is_easier: bool, tie_breaker: torch.Tensor | None) -> list[set[int]]:
    return reference.tied_groups(
        values.tolist(), higher_is_easier, None if tie_breaker is None else tie_breaker.tolist()
    )


def assert_follows(order: torch.Tensor, groups: list[set[int]]) -> None:
    assert order.dtype == torch.int64
    assert order.ndim == 1
    rest = iter(order.tolist())
    for group in groups:
        assert set(itertools.islice(rest, len(group))) == group
    assert list(rest) == []


# mean loss


@moderate
@given(matrices(losses))
def test_mean_loss_is_the_mean_over_runs(loss):
    assert_matches(mean_loss_easiness(loss), reference.mean_loss_easiness(loss.tolist()), loss.dtype)


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_mean_loss_by_hand(dtype):
    loss = torch.tensor([[1.0, 0.0, 4.0], [2.0, 0.0, math.nan], [6.0, 0.0, 1.0]], dtype=dtype)
    easiness = mean_loss_easiness(loss)
    assert easiness[:2].tolist() == [3.0, 0.0]
    assert easiness[2].isnan(), "an example that one run did not see is unknown"


def test_mean_loss_sums_half_types_in_float32():
    assert mean_loss_easiness(torch.full((4, 1), 60000.0, dtype=torch.float16)).item() == pytest.approx(60000, rel=1e-3)
    # In bfloat16 a running sum of ones would stop at 256.
    assert mean_loss_easiness(torch.ones(3000, 1, dtype=torch.bfloat16)).item() == 1.0


def test_mean_loss_keeps_float64():
    loss = torch.tensor([[1.0, 1.0 + 2.0**-40]], dtype=torch.float64)
    assert mean_loss_easiness(loss).tolist() == [1.0, 1.0 + 2.0**-40]


# count


@moderate
@given(answers())
def test_count_is_the_share_of_the_largest_count(correct):
    easiness = count_easiness(correct)
    assert easiness.dtype == torch.float32
    assert_matches(easiness, reference.count_easiness(correct.tolist()), torch.float32, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", COUNT_TYPES)
def test_count_divides_by_the_largest_count_not_by_the_number_of_runs(dtype):
    correct = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0]], dtype=dtype)
    assert count_easiness(correct).tolist() == [1.0, 0.5, 0.0]


def test_count_is_zero_where_no_run_is_ever_correct():
    assert count_easiness(torch.zeros(3, 4, dtype=torch.bool)).tolist() == [0.0] * 4


def test_count_of_many_runs_does_not_wrap():
    correct = torch.ones(300, 2, dtype=torch.uint8)
    correct[:150, 1] = 0
    assert count_easiness(correct).tolist() == [1.0, 0.5]


# how many


@pytest.mark.parametrize(
    ("fraction", "n", "count"),
    [
        (0.29, 50, 15),  # 14.5; 0.29 * 50 is 14.499999999999998 in binary
        (0.15, 10, 2),  # 1.5; the double 0.15 lies below 0.15
        (0.1, 5, 1),  # 0.5: up, never empty
        (0.1, 1, 1),
        (1e-9, 7, 1),
        (0.5, 5, 3),  # 2.5: up, not to the even 2
        (0.1, 10, 1),
        (0.1, 14, 1),
        (0.1, 15, 2),
        (0.35, 10, 4),  # 3.5
        (0.45, 10, 5),  # 4.5: to the even would be 4
        (0.145, 100, 15),  # 14.5; 14.499999999999998 in binary
        (0.1, 50_000, 5_000),
        (0.3, 1_281_167, 384_350),  # 384350.1
        (1.0, 7, 7),
        (1, 7, 7),
        (0.1, 0, 0),
        (1e-5, 50_000, 1),
    ],
)
def test_fraction_to_count_by_hand(fraction, n, count):
    result = fraction_to_count(fraction, n)
    assert result == count
    assert type(result) is int


@moderate
@given(
    st.floats(1e-6, 1) | st.integers(1, 1000).map(lambda thousandths: thousandths / 1000),
    st.integers(0, 10**7) | st.integers(0, 50),
)
def test_fraction_to_count_rounds_the_decimal_half_up(fraction, n):
    assert fraction_to_count(fraction, n) == reference.fraction_to_count(fraction, n)


def test_fraction_to_count_takes_a_numpy_float():
    assert fraction_to_count(np.float64(0.29), 50) == 15


# order


@moderate
@given(scored(), st.booleans(), st.integers(0, 5))
def test_order_follows_value_then_tie_breaker(scored, higher_is_easier, seed):
    values, tie_breaker = scored
    order = rank_by_easiness(values, higher_is_easier=higher_is_easier, tie_breaker=tie_breaker, seed=seed)
    assert_follows(order, groups_of(values, higher_is_easier, tie_breaker))


@moderate
@given(scored(), st.booleans(), st.integers(0, 5), st.floats(0.01, 1) | st.sampled_from([0.1, 0.15, 0.25, 0.5, 1.0]))
def test_easiest_and_hardest_are_the_two_ends_of_one_order(scored, higher_is_easier, seed, fraction):
    values, tie_breaker = scored
    options = {"tie_breaker": tie_breaker, "seed": seed}
    order = rank_by_easiness(values, higher_is_easier=higher_is_easier, **options).tolist()
    count = min(reference.fraction_to_count(fraction, len(values)), len(order))
    easy = easiest(values, fraction, higher_is_easier=higher_is_easier, **options)
    hard = hardest(values, fraction, higher_is_easier=higher_is_easier, **options)
    assert easy.dtype == hard.dtype == torch.int64
    assert easy.tolist() == order[:count]
    assert hard.tolist() == order[::-1][:count]
    if 2 * count <= len(order):
        assert not set(easy.tolist()) & set(hard.tolist())


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_order_by_hand(dtype):
    values = torch.tensor([3.0, math.nan, -math.inf, 1.0, math.inf], dtype=dtype)
    assert rank_by_easiness(values, higher_is_easier=False).tolist() == [2, 3, 0, 4]
    assert rank_by_easiness(values, higher_is_easier=True).tolist() == [4, 0, 3, 2]
    assert easiest(values, 0.4, higher_is_easier=False).tolist() == [2, 3]
    assert hardest(values, 0.4, higher_is_easier=False).tolist() == [4, 0]


@directions
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_infinity_lies_beyond_the_largest_number(higher_is_easier, dtype):
    largest = torch.finfo(dtype).max
    values = torch.tensor([largest, math.inf, -math.inf, -largest], dtype=dtype)
    wanted = [1, 0, 3, 2] if higher_is_easier else [2, 3, 0, 1]
    for seed in range(10):
        assert rank_by_easiness(values, higher_is_easier=higher_is_easier, seed=seed).tolist() == wanted
        order = rank_by_easiness(torch.zeros(4), higher_is_easier=higher_is_easier, tie_breaker=values, seed=seed)
        assert order.tolist() == [2, 3, 0, 1]


@directions
def test_whole_numbers_are_ordered_as_they_are(higher_is_easier):
    # Forgetting events, say. In float32 or int32 the large ones would be ties or change sides.
    events = torch.tensor([2**40, 3, 2**40 + 1, 2**33, 0])
    wanted = [4, 1, 3, 0, 2]
    for seed in range(10):
        order = rank_by_easiness(events, higher_is_easier=higher_is_easier, seed=seed).tolist()
        assert order == (wanted[::-1] if higher_is_easier else wanted)


@directions
def test_a_low_tie_breaker_is_easy_in_either_direction(higher_is_easier):
    values = torch.tensor([0.5, 0.5, 0.5, 0.5])
    loss = torch.tensor([0.2, math.nan, 0.1, math.inf])
    for seed in range(20):
        assert rank_by_easiness(values, higher_is_easier=higher_is_easier, tie_breaker=loss, seed=seed).tolist() == [
            2,
            0,
            3,
            1,
        ]
        assert hardest(values, 0.5, higher_is_easier=higher_is_easier, tie_breaker=loss, seed=seed).tolist() == [1, 3]


@directions
def test_the_tie_breaker_never_overrules_the_value(higher_is_easier):
    values = torch.tensor([1.0, 2.0])
    order = rank_by_easiness(values, higher_is_easier=higher_is_easier, tie_breaker=torch.tensor([-1e30, 1e30]))
    assert order.tolist() == ([1, 0] if higher_is_easier else [0, 1])
    order = rank_by_easiness(values, higher_is_easier=higher_is_easier, tie_breaker=torch.tensor([1e30, -1e30]))
    assert order.tolist() == ([1, 0] if higher_is_easier else [0, 1])


@directions
def test_neighbouring_doubles_are_no_tie(higher_is_easier):
    values = torch.tensor([1.0 + 2.0**-52, 1.0, 1.0 - 2.0**-53], dtype=torch.float64)
    wanted = [0, 1, 2] if higher_is_easier else [2, 1, 0]
    breaker = torch.tensor([1.0 + 2.0**-52, 1.0, 1.0 - 2.0**-53], dtype=torch.float64)
    for seed in range(20):
        assert rank_by_easiness(values, higher_is_easier=higher_is_easier, seed=seed).tolist() == wanted
        assert rank_by_easiness(
            torch.zeros(3), higher_is_easier=higher_is_easier, tie_breaker=breaker, seed=seed
        ).tolist() == [2, 1, 0]


@directions
def test_the_two_zeros_are_a_tie_in_values_and_in_tie_breakers(higher_is_easier):
    zeros = torch.tensor([0.0, -0.0])
    by_value = {
        tuple(rank_by_easiness(zeros, higher_is_easier=higher_is_easier, seed=seed).tolist()) for seed in range(40)
    }
    assert by_value == {(0, 1), (1, 0)}
    assert rank_by_easiness(
        zeros, higher_is_easier=higher_is_easier, tie_breaker=torch.tensor([2.0, 1.0])
    ).tolist() == [1, 0]
    assert rank_by_easiness(
        zeros, higher_is_easier=higher_is_easier, tie_breaker=torch.tensor([1.0, 2.0])
    ).tolist() == [0, 1]
    by_breaker = {
        tuple(rank_by_easiness(torch.ones(2), higher_is_easier=higher_is_easier, tie_breaker=zeros, seed=seed).tolist())
        for seed in range(40)
    }
    assert by_breaker == {(0, 1), (1, 0)}


def test_two_unknown_tie_breakers_are_a_tie():
    unknown = torch.tensor([math.nan, math.nan])
    orders = {
        tuple(rank_by_easiness(torch.ones(2), higher_is_easier=True, tie_breaker=unknown, seed=seed).tolist())
        for seed in range(40)
    }
    assert orders == {(0, 1), (1, 0)}


# the draw


def chi_square(counts: Counter, cells: int) -> float:
    expected = counts.total() / cells
    assert len(counts) == cells
    return sum((count - expected) ** 2 for count in counts.values()) / expected


@directions
@pytest.mark.parametrize("value", [0.5, math.inf, -math.inf])
def test_ties_are_drawn_uniformly_over_seeds(higher_is_easier, value):
    values = torch.full((3,), value)
    orders = Counter(
        tuple(rank_by_easiness(values, higher_is_easier=higher_is_easier, seed=seed).tolist()) for seed in range(600)
    )
    assert chi_square(orders, cells=6) < 25  # 5 degrees of freedom: exceeded with probability 1e-4


@ends
def test_each_tied_example_at_the_cut_is_as_likely_as_the_others(end):
    values = torch.tensor([0.5, 0.0, 0.5, 1.0, 0.5, 0.5, 0.5, 1.0, 0.0, 0.5])
    certain = {easiest: {3, 7}, hardest: {1, 8}}[end]
    drawn: Counter = Counter()
    for seed in range(900):
        chosen = end(values, 0.4, higher_is_easier=True, seed=seed).tolist()
        assert len(chosen) == len(set(chosen)) == 4
        assert set(chosen[:2]) == certain
        drawn.update(chosen[2:])
    assert chi_square(drawn, cells=6) < 25


def test_a_draw_within_equal_tie_breakers_is_uniform_too():
    values, loss = torch.ones(4), torch.tensor([0.3, 0.1, 0.3, 0.3])
    orders = Counter(
        tuple(rank_by_easiness(values, higher_is_easier=True, tie_breaker=loss, seed=seed).tolist())
        for seed in range(600)
    )
    assert {order[0] for order in orders} == {1}
    assert chi_square(orders, cells=6) < 25


def test_a_large_tie_is_in_no_way_by_index():
    values = torch.zeros(20_000)
    for seed in range(3):
        order = rank_by_easiness(values, higher_is_easier=True, seed=seed).double()
        index = torch.arange(20_000, dtype=torch.float64)
        assert abs(torch.corrcoef(torch.stack([order, index]))[0, 1]) < 0.03  # 4 standard errors
    assert not torch.equal(
        rank_by_easiness(values, higher_is_easier=True, seed=0), rank_by_easiness(values, higher_is_easier=True, seed=1)
    )


@ends
def test_one_seed_is_one_draw(end):
    values = torch.zeros(50)
    assert torch.equal(end(values, 0.5, higher_is_easier=True, seed=7), end(values, 0.5, higher_is_easier=True, seed=7))
    assert torch.equal(end(values, 0.5, higher_is_easier=True), end(values, 0.5, higher_is_easier=True, seed=0))


@directions
def test_exact_count_and_disjoint_ends_in_a_count_score_full_of_ties(higher_is_easier):
    generator = torch.Generator().manual_seed(0)
    values = count_easiness(torch.rand(10, 1000, generator=generator) < 0.9)
    easy, hard = (end(values, 0.5, higher_is_easier=higher_is_easier, seed=3).tolist() for end in (easiest, hardest))
    assert len(easy) == len(hard) == 500
    assert sorted(easy + hard) == list(range(1000))


# unknown values, empty data sets


@ends
def test_the_count_includes_unknown_examples_but_takes_none_of_them(end):
    values = torch.full((10,), math.nan)
    values[[2, 5, 6]] = torch.tensor([1.0, 2.0, 3.0])
    assert len(end(values, 0.2, higher_is_easier=True)) == 2  # of 10, not of 3
    assert sorted(end(values, 0.9, higher_is_easier=True).tolist()) == [2, 5, 6]
    assert end(torch.full((4,), math.nan), 0.5, higher_is_easier=True).tolist() == []


@ends
def test_an_empty_data_set_has_no_ends(end):
    chosen = end(torch.empty(0), 0.1, higher_is_easier=True)
    assert chosen.shape == (0,)
    assert chosen.dtype == torch.int64


@ends
@pytest.mark.parametrize("dtype", HALF_TYPES)
def test_one_example_is_easiest_and_hardest(end, dtype):
    assert end(torch.tensor([0.3], dtype=dtype), 0.1, higher_is_easier=True).tolist() == [0]


# errors


@ends
@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.0001, 10, math.nan, math.inf])
def test_a_fraction_out_of_range_is_an_error(end, fraction):
    with pytest.raises(ValueError, match="fraction"):
        end(torch.rand(10), fraction, higher_is_easier=True)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4)])
def test_a_score_over_runs_needs_two_dimensions(shape):
    with pytest.raises(ValueError, match="loss"):
        mean_loss_easiness(torch.zeros(shape))
    with pytest.raises(ValueError, match="correct"):
        count_easiness(torch.zeros(shape, dtype=torch.bool))


def test_an_order_needs_one_dimension_and_a_tie_breaker_of_the_same_length():
    with pytest.raises(ValueError, match="values"):
        rank_by_easiness(torch.zeros(2, 3), higher_is_easier=True)
    with pytest.raises(ValueError, match="tie_breaker"):
        rank_by_easiness(torch.zeros(3), higher_is_easier=True, tie_breaker=torch.zeros(4))
    with pytest.raises(ValueError, match="tie_breaker"):
        hardest(torch.zeros(3), 0.5, higher_is_easier=True, tie_breaker=torch.zeros(1))


def test_ties_of_two_scores_do_not_fall_alike():
    own = torch.Generator().manual_seed(0)
    first, second = ((torch.rand(10, 10_000, generator=own) < 0.95).sum(0) / 10 for _ in range(2))
    for cut in (easiest, hardest):
        a, b = (set(cut(values, 0.1, higher_is_easier=True).tolist()) for values in (first, second))
        assert len(a & b) / len(a) == pytest.approx(0.1, abs=0.03)
