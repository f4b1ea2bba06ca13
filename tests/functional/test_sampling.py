"""Weighted draws without replacement: the exact law on small data sets, and the last index of large ones."""

import math
import random
from fractions import Fraction

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import weighted_sample
from tests.functional import selection_references as reference
from tests.functional.selection_references import LEAST_P, assert_law
from tests.functional.strategies import FLOAT_TYPES, moderate

number_types = st.sampled_from([*FLOAT_TYPES, torch.uint8, torch.int64])

# the instrument itself


def test_the_reference_law_by_hand():
    half, third, sixth = Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)
    assert reference.draw_law([1, 2, 3], 1) == {frozenset([0]): sixth, frozenset([1]): third, frozenset([2]): half}
    law = reference.draw_law([1, 2, 3], 2)
    assert law[frozenset([0, 1])] == sixth * Fraction(2, 5) + third * Fraction(1, 4)
    assert sum(law.values()) == 1
    assert reference.draw_law([0, 1, 1], 2) == {frozenset([1, 2]): 1}


def test_the_chi_square_tells_a_wrong_law_from_the_right_one():
    # The weight times a uniform number, a usual mistake: the right key is a uniform number to the power 1 / weight.
    stream, weights = random.Random(0), [1, 2, 3, 4]

    def draw(key) -> list[int]:
        return sorted(range(4), key=lambda example: key(stream.random(), weights[example]))[-2:]

    law = reference.draw_law(weights, 2)
    assert_law(lambda _: draw(lambda uniform, weight: uniform ** (1 / weight)), law)
    with pytest.raises(AssertionError):
        assert_law(lambda _: draw(lambda uniform, weight: uniform * weight), law)


# the law


@pytest.mark.parametrize(
    ("weights", "count"),
    [
        ([1, 1, 1, 1], 2),
        ([1, 2, 3, 4], 1),
        ([4, 3, 2, 1], 2),
        ([1, 2, 3, 4], 3),
        ([1, 2, 4, 8, 16, 32], 3),
        ([1000, 1, 1, 0.001], 2),
        ([0, 1, 0, 3, 5], 2),
        ([5, 1, 1, 1, 1], 4),
    ],
)
def test_a_weighted_draw_follows_the_law_of_draws_one_after_the_other(weights, count):
    given = torch.tensor(weights, dtype=torch.float64)
    law = reference.draw_law(weights, count)
    assert_law(lambda seed: weighted_sample(given, count, seed=seed).tolist(), law, seeds=1500)


@pytest.mark.parametrize("power", [-1074, -1000, 1021])
def test_only_the_proportions_of_the_weights_count(power):
    # Subnormal weights, whose reciprocal is infinite, and weights whose sum is infinite.
    given = torch.tensor([1.0, 2.0, 3.0, 1.0], dtype=torch.float64) * 2.0**power
    law = reference.draw_law([1, 2, 3, 1], 2)
    assert_law(lambda seed: weighted_sample(given, 2, seed=seed).tolist(), law)


def test_small_weights_are_drawn_in_proportion_once_the_large_one_is_gone():
    given = torch.tensor([1e-300, 1.0, 3e-300], dtype=torch.float64)
    law = {frozenset([0, 1]): Fraction(1, 4), frozenset([1, 2]): Fraction(3, 4)}
    assert_law(lambda seed: weighted_sample(given, 2, seed=seed).tolist(), law)


def test_a_generator_is_drawn_from_instead_of_a_seed():
    generator = torch.Generator().manual_seed(0)
    given = torch.tensor([1.0, 2.0, 4.0, 3.0])
    assert_law(lambda _: weighted_sample(given, 2, generator=generator).tolist(), reference.draw_law([1, 2, 4, 3], 2))


# the form of the result


@moderate
@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 7.0]), max_size=30), number_types, st.data())
def test_a_weighted_draw_gives_ascending_indices_of_positive_weight(weights, dtype, data):
    positive = {index for index, weight in enumerate(weights) if weight}
    count, seed = data.draw(st.integers(0, len(positive))), data.draw(st.integers(0, 2**63 - 1))
    chosen = weighted_sample(torch.tensor(weights, dtype=dtype), count, seed=seed)
    assert chosen.dtype == torch.int64
    assert chosen.shape == (count,)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert set(chosen.tolist()) <= positive
    assert torch.equal(chosen, weighted_sample(torch.tensor(weights, dtype=torch.float64), count, seed=seed))
    fewer = weighted_sample(torch.tensor(weights), count // 2, seed=seed)
    assert set(fewer.tolist()) <= set(chosen.tolist()), "a smaller count draws a part of what a larger one draws"


# large data sets


def test_indices_above_two_to_the_24_are_drawn_as_the_others():
    n, count = 2**24 + 3, 2**20
    weights = torch.zeros(n)
    tail = torch.arange(n - 9, n, 2)
    weights[tail] = torch.tensor([1.0, 5.0, 1.0, 2.0, 3.0])
    assert torch.equal(weighted_sample(weights, 5), tail)
    chosen = weighted_sample(weights.fill_(1.0), count, seed=1)
    assert len(chosen) == count
    assert bool((chosen.diff() > 0).all())
    blocks = torch.bincount(chosen >> 18, minlength=65)[:64].double()  # each 2^14 of 2^18, without replacement
    spread = (blocks - 2**14).square().sum() / 2**14 / (1 - 2**-4)
    assert scipy.stats.chi2.sf(float(spread), 63) > LEAST_P
    high = chosen[chosen >= 2**23]
    odd = (high & 1).double().mean() - 0.5
    assert abs(float(odd)) < 4 * 0.5 / math.sqrt(len(high)), "indices rounded to even ones"
