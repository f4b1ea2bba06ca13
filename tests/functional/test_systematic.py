"""Systematic draws: exactly the probabilities that were asked for, by enumeration, and weights that are unbiased."""

import itertools
import math
from collections import defaultdict
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import inclusion_probability, systematic_sample
from lightning_easiness.functional.systematic import fallen_on
from tests.functional.selection_references import Law, assert_law
from tests.functional.strategies import filled, float_types, moderate


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn_by_hand(lengths: list[Fraction], shift: Fraction) -> set[int]:
    """The parts of the line, [start, end), that shift + 0, 1, 2, ... fall on, walked along."""
    fallen, end = set(), Fraction(0)
    for place, length in enumerate(lengths):
        start, end = end, end + length
        point = shift
        while point < end:
            if point >= start:
                fallen.add(place)
            point += 1
    return fallen


def law_of(probabilities: list[Fraction]) -> Law:
    """Every order of the examples, and every interval of the shift in which the same ones are drawn."""
    law: Law = defaultdict(Fraction)
    orders = list(itertools.permutations(range(len(probabilities))))
    for order in orders:
        lengths = [probabilities[place] for place in order]
        ends = list(itertools.accumulate(lengths))
        cuts = sorted({Fraction(0), Fraction(1), *(end - math.floor(end) for end in ends)})
        for low, high in itertools.pairwise(cuts):
            chosen = frozenset(order[place] for place in drawn_by_hand(lengths, (low + high) / 2))
            law[chosen] += (high - low) / len(orders)
    return dict(law)


PROBABILITIES = [
    [Fraction(1, 2)] * 4,
    [Fraction(1, 4), Fraction(1), Fraction(3, 4), Fraction(0), Fraction(1, 2), Fraction(1, 2)],
    [Fraction(1, 8), Fraction(7, 8), Fraction(3, 8), Fraction(5, 8)],
    [Fraction(1, 4), Fraction(1, 2), Fraction(1, 2)],  # 1.25: one or two are drawn
]


@pytest.mark.parametrize("probabilities", PROBABILITIES)
def test_every_example_is_drawn_with_exactly_its_probability_and_the_sum_is_unbiased(probabilities):
    """Of the law itself, in exact fractions: what the draw below is then tested against."""
    law = law_of(probabilities)
    values = [Fraction(place * place + 1) for place in range(len(probabilities))]
    for place, probability in enumerate(probabilities):
        assert sum(chance for chosen, chance in law.items() if place in chosen) == probability
    mean = sum(chance * sum(values[place] / probabilities[place] for place in chosen) for chosen, chance in law.items())
    assert mean == sum(value for value, probability in zip(values, probabilities, strict=True) if probability)
    sizes = {len(chosen) for chosen in law}
    assert sizes <= {math.floor(sum(probabilities)), math.ceil(sum(probabilities))}


@pytest.mark.parametrize("probabilities", PROBABILITIES)
def test_a_systematic_draw_follows_its_law(probabilities):
    given = torch.tensor([float(one) for one in probabilities])
    assert_law(lambda seed: systematic_sample(given, generator=stream(seed)).tolist(), law_of(probabilities))


@moderate
@given(
    lengths=st.lists(st.integers(0, 8), min_size=1, max_size=8),
    shift=st.integers(0, 63),
)
def test_what_is_fallen_on_is_what_a_walk_along_the_line_finds(lengths, shift):
    parts, at = [Fraction(one, 8) for one in lengths], Fraction(2 * shift + 1, 128)
    found = fallen_on(torch.tensor([float(one) for one in parts], dtype=torch.float64), float(at))
    assert set(found.nonzero()[:, 0].tolist()) == drawn_by_hand(parts, at)


def test_a_large_draw_has_exactly_the_size_that_was_asked_for():
    loss = torch.rand(300_000, generator=stream(0)) ** 8
    for share in (0.1, 1 / 3, 0.5, 1.0):
        probability = inclusion_probability(loss, share)
        assert len(systematic_sample(probability, generator=stream(1))) == round(share * len(loss))


# how probable


def reference_probability(values: list[float], share: float, power: float, uniform: float) -> list[float]:
    """The largest first: each is certain where its part of what is left would be more than one place."""
    finite = [value for value in values if math.isfinite(value)]
    highest = max(finite, default=1.0)
    sizes = [(value if math.isfinite(value) else highest) ** power for value in values]
    total, size = sum(sizes), len(values)
    mixed = [uniform / size + (1 - uniform) * (one / total if total else 1 / size) for one in sizes]
    places, found = max(1, math.floor(Fraction(repr(share)) * size + Fraction(1, 2))), {}
    left = sum(mixed)
    for place in sorted(range(size), key=lambda place: -mixed[place]):
        if left > 0 and places * mixed[place] > left:
            found[place], places, left = 1.0, places - 1, left - mixed[place]
        else:
            found[place] = places * mixed[place] / left if left > 0 else 0.0
    return [found[place] for place in range(size)]


@st.composite
def losses(draw):
    elements = st.sampled_from([0.0, 0.25, 1.0, 2.0, 64.0, math.nan, math.inf])
    return filled(draw, (draw(st.integers(1, 8)),), elements, draw(float_types))


@moderate
@given(
    loss=losses(),
    share=st.sampled_from([0.1, 0.25, 0.5, 0.8, 1.0]),
    power=st.sampled_from([0.0, 0.5, 1.0]),
    uniform=st.sampled_from([0.1, 0.2, 1.0]),
)
def test_probabilities_are_in_proportion_up_to_certainty_and_sum_to_the_share(loss, share, power, uniform):
    found = inclusion_probability(loss, share, power=power, uniform=uniform)
    expected = reference_probability(loss.tolist(), share, power, uniform)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    count = max(1, math.floor(Fraction(repr(share)) * len(loss) + Fraction(1, 2)))
    assert float(found.sum()) == pytest.approx(count, abs=1e-4)
    assert (1 / found).max() <= 1 / (uniform * count / len(loss)) + 1e-4, "the bound of the weights"


def test_without_a_uniform_part_examples_without_loss_are_never_drawn():
    assert inclusion_probability(torch.tensor([0.0, 1.0, 0.0, 0.0]), 0.5, uniform=0.0).tolist() == [0.0, 1.0, 0.0, 0.0]
