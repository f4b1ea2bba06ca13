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
    FLOAT_TYPES,
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


def test_mean_loss_sums_half_types_in_float32():
    assert mean_loss_easiness(torch.full((4, 1), 60000.0, dtype=torch.float16)).item() == pytest.approx(60000, rel=1e-3)
    # In bfloat16 a running sum of ones would stop at 256.
    assert mean_loss_easiness(torch.ones(3000, 1, dtype=torch.bfloat16)).item() == 1.0


# count


@moderate
@given(answers())
def test_count_is_the_share_of_the_largest_count(correct):
    easiness = count_easiness(correct)
    assert easiness.dtype == torch.float32
    assert_matches(easiness, reference.count_easiness(correct.tolist()), torch.float32, rtol=1e-6, atol=0)


def test_count_of_many_runs_does_not_wrap():
    correct = torch.ones(300, 2, dtype=torch.uint8)
    correct[:150, 1] = 0
    assert count_easiness(correct).tolist() == [1.0, 0.5]


# how many


@pytest.mark.parametrize(
    ("fraction", "n", "count"),
    [
        (0.29, 50, 15),  # 14.5; 0.29 * 50 is 14.499999999999998 in binary
        (np.float64(0.29), 50, 15),
        (0.15, 10, 2),  # 1.5; the double 0.15 lies below 0.15
        (0.1, 5, 1),  # 0.5: up, never empty
        (1e-9, 7, 1),
        (0.5, 5, 3),  # 2.5: up, not to the even 2
        (0.45, 10, 5),  # 4.5: to the even would be 4
        (0.3, 1_281_167, 384_350),  # 384350.1
        (1, 7, 7),
        (0.1, 0, 0),
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


ASCENDING = [
    *(
        torch.tensor([-math.inf, -torch.finfo(dtype).max, torch.finfo(dtype).max, math.inf], dtype=dtype)
        for dtype in FLOAT_TYPES
    ),
    torch.tensor([1.0 - 2.0**-53, 1.0, 1.0 + 2.0**-52], dtype=torch.float64),
    torch.tensor([0, 3, 2**33, 2**40, 2**40 + 1]),  # in float32 or int32 the large ones would be ties or change sides
]


@directions
@pytest.mark.parametrize("ascending", ASCENDING, ids=lambda values: f"{len(values)}-{values.dtype}")
def test_neighbouring_numbers_are_no_ties_in_values_or_tie_breakers(higher_is_easier, ascending):
    moved = torch.randperm(len(ascending), generator=torch.Generator().manual_seed(1))
    values, wanted = ascending[moved], moved.argsort()
    for seed in range(10):
        options = {"higher_is_easier": higher_is_easier, "seed": seed}
        assert torch.equal(rank_by_easiness(values, **options), wanted.flip(0) if higher_is_easier else wanted)
        assert torch.equal(rank_by_easiness(torch.zeros(len(values)), tie_breaker=values, **options), wanted)


# the draw


def chi_square(counts: Counter, cells: int) -> float:
    expected = counts.total() / cells
    assert len(counts) == cells
    return sum((count - expected) ** 2 for count in counts.values()) / expected


ALIKE = ([0.5] * 3, [math.inf] * 3, [-math.inf] * 3, [0.0, -0.0, 0.0])


@directions
@pytest.mark.parametrize(
    ("values", "tie_breaker"),
    [*((values, None) for values in ALIKE), *(([1.0] * 3, breaker) for breaker in (*ALIKE, [math.nan] * 3))],
)
def test_what_is_level_in_value_and_tie_breaker_is_drawn_uniformly_over_seeds(higher_is_easier, values, tie_breaker):
    options = {"tie_breaker": None if tie_breaker is None else torch.tensor(tie_breaker)}
    options |= {"higher_is_easier": higher_is_easier}
    draw = torch.tensor(values)
    orders = Counter(tuple(rank_by_easiness(draw, seed=seed, **options).tolist()) for seed in range(600))
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


def test_a_large_tie_is_in_no_way_by_index():
    values = torch.zeros(20_000)
    for seed in range(3):
        order = rank_by_easiness(values, higher_is_easier=True, seed=seed).double()
        index = torch.arange(20_000, dtype=torch.float64)
        assert abs(torch.corrcoef(torch.stack([order, index]))[0, 1]) < 0.03  # 4 standard errors
    orders = [rank_by_easiness(values, higher_is_easier=True, **options) for options in ({}, {"seed": 0}, {"seed": 1})]
    assert torch.equal(orders[0], orders[1]), "the default seed is 0"
    assert not torch.equal(orders[0], orders[2])


# unknown values


@ends
def test_the_count_includes_unknown_examples_but_takes_none_of_them(end):
    values = torch.full((10,), math.nan)
    values[[2, 5, 6]] = torch.tensor([1.0, 2.0, 3.0])
    assert len(end(values, 0.2, higher_is_easier=True)) == 2  # of 10, not of 3
    assert sorted(end(values, 0.9, higher_is_easier=True).tolist()) == [2, 5, 6]
    assert end(torch.full((4,), math.nan), 0.5, higher_is_easier=True).tolist() == []


def test_ties_of_two_scores_do_not_fall_alike():
    own = torch.Generator().manual_seed(0)
    first, second = ((torch.rand(10, 10_000, generator=own) < 0.95).sum(0) / 10 for _ in range(2))
    for cut in (easiest, hardest):
        a, b = (set(cut(values, 0.1, higher_is_easier=True).tolist()) for values in (first, second))
        assert len(a & b) / len(a) == pytest.approx(0.1, abs=0.03)
