"""Which part a run holds out, and the comparison of runs that trained on an example with runs that did not."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_easiness.functional import (
    count_easiness,
    difference_error,
    generalization_gap,
    held_out_part,
    mean_over_runs,
    memorization,
    split_half_agreement,
)
from lightning_easiness.functional._rng import generator
from tests.functional import references as reference
from tests.functional.strategies import filled, moderate
from tests.made_runs import whole

SHARES = [0.2, 0.25, 0.3, 1 / 3, 0.35, 0.5, 0.7, 0.9, Fraction(2, 7)]


def block(num_examples: int, share: float | Fraction, seed: int = 0, first: int = 0) -> Tensor:
    """The parts of a whole block of runs, bool (b, N)."""
    number = Fraction(share).limit_denominator(1000).denominator
    return torch.stack([held_out_part(num_examples, first + place, share, seed=seed) for place in range(number)])


# ------------------------------------------------------------------ which part


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("num_examples", [10, 11, 53])
@pytest.mark.parametrize("seed", [0, 5])
def test_a_block_is_the_windows_of_permutations_laid_end_to_end(
    share: float | Fraction, num_examples: int, seed: int
) -> None:
    ratio = Fraction(share).limit_denominator(1000)
    orders = [
        torch.randperm(num_examples, generator=generator(seed, 0, number)).tolist() for number in range(ratio.numerator)
    ]
    found = [set(part.nonzero()[:, 0].tolist()) for part in block(num_examples, share, seed)]
    assert found == reference.parts(orders, ratio)


@moderate
@given(st.integers(20, 60), st.fractions(Fraction(1, 12), Fraction(11, 12), max_denominator=12), st.integers(0, 2**40))
def test_each_example_is_held_out_equally_often_in_a_block(num_examples: int, share: Fraction, seed: int) -> None:
    parts = block(num_examples, share, seed, first=share.denominator)
    assert (parts.sum(0) == share.numerator).all()
    assert parts.sum(1).max() - parts.sum(1).min() <= 1


def test_folds_are_disjoint_and_cover_everything() -> None:
    parts = block(53, Fraction(1, 5))
    assert parts.sum(1).tolist() == [10, 11, 10, 11, 11]
    assert (parts.sum(0) == 1).all()


def test_blocks_and_seeds_are_drawn_apart() -> None:
    parts = [held_out_part(100, place, 0.2, seed=seed) for seed in (0, 1) for place in (0, 5)]
    for number, part in enumerate(parts):
        assert all(int((part & other).sum()) < 15 for other in parts[:number])


@pytest.mark.parametrize(
    ("num_examples", "share", "lost"),
    [(4, 0.2, "hold none out"), (3, Fraction(1, 4), "hold none out"), (5, 0.9, "train on none"), (0, 0.5, "hold none")],
)
def test_parts_of_nothing_or_everything_are_refused(num_examples: int, share: float | Fraction, lost: str) -> None:
    with pytest.raises(ValueError, match=rf"`share` of held_out_part must leave each run examples .* {lost}"):
        held_out_part(num_examples, 0, share)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.2, math.nan, "a fifth", None, 1e-9])
def test_what_is_no_share_is_refused(share: object) -> None:
    message = f"The `share` of held_out_part must be a fraction of the examples in (0, 1), as 0.2; got {share!r}."
    with pytest.raises(ValueError, match=whole(message)):
        held_out_part(10, 0, share)  # type: ignore[arg-type]


# ------------------------------------------------------------------ runs that trained, and runs that did not


@st.composite
def compared(draw: st.DrawFn, elements: st.SearchStrategy) -> tuple[Tensor, Tensor]:
    shape = draw(st.integers(1, 7)), draw(st.integers(0, 5))
    marks = filled(draw, shape, st.sampled_from([0.0, 1.0]), torch.bool)
    return filled(draw, shape, elements, torch.float64), marks


@moderate
@given(compared(st.sampled_from([0.0, 1.0])))
def test_memorization_is_its_reference(made: tuple[Tensor, Tensor]) -> None:
    correct, trained_on = made
    expected = torch.tensor(reference.memorization(correct.tolist(), trained_on.tolist()))
    for given_as in (torch.bool, torch.int64):
        found = memorization(correct.to(given_as), trained_on)
        torch.testing.assert_close(found, expected.float(), equal_nan=True)


@moderate
@given(compared(st.floats(-100, 100)))
def test_the_gap_and_its_error_are_their_references(made: tuple[Tensor, Tensor]) -> None:
    loss, trained_on = made
    rows = loss.tolist(), trained_on.tolist()
    gap = -torch.tensor(reference.memorization(*rows), dtype=torch.float64)
    error = torch.tensor(reference.difference_error(*rows), dtype=torch.float64)
    torch.testing.assert_close(generalization_gap(loss, trained_on), gap, equal_nan=True)
    torch.testing.assert_close(difference_error(loss, trained_on), error, equal_nan=True, rtol=1e-6, atol=1e-6)


def test_the_standard_error_is_that_of_repeated_draws() -> None:
    draw = torch.Generator().manual_seed(0)
    correct = torch.rand(20, 20_000, generator=draw) < torch.tensor([0.9] * 12 + [0.4] * 8)[:, None]
    trained_on = (torch.arange(20) < 12)[:, None].expand_as(correct)
    found = difference_error(correct.float(), trained_on)
    # of an unbiased variance, the mean square is that of the estimates themselves
    torch.testing.assert_close(found.square().mean().sqrt(), memorization(correct, trained_on).std(), rtol=0.02, atol=0)


def test_a_value_that_is_unknown_matters_only_where_it_counts() -> None:
    values = torch.tensor([[1.0, math.nan], [math.nan, 2.0]])
    counts = torch.tensor([[True, True], [False, False]])
    torch.testing.assert_close(mean_over_runs(values, counts), torch.tensor([1.0, math.nan]), equal_nan=True)


def test_count_over_the_runs_that_trained() -> None:
    correct = torch.tensor([[True, True, False], [True, False, False], [False, True, False], [True, True, True]])
    trained_on = torch.tensor([[True, False, True], [True, True, True], [True, False, True], [False, False, False]])
    found = count_easiness(correct, trained_on)
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 0.0]))
    none = count_easiness(correct, torch.zeros_like(trained_on))
    assert none.isnan().all()
    assert torch.equal(count_easiness(~correct & correct, torch.ones_like(trained_on)), torch.zeros(3))
    torch.testing.assert_close(count_easiness(correct, torch.ones_like(trained_on)), count_easiness(correct))


def test_agreement_of_halves_is_over_the_runs_that_count() -> None:
    values = torch.rand(4, 50, generator=torch.Generator().manual_seed(0))
    counts = torch.rand(4, 50, generator=torch.Generator().manual_seed(1)) < 0.7
    everything = split_half_agreement(values, counts=torch.ones_like(counts))
    torch.testing.assert_close(everything, split_half_agreement(values))
    holed = values.masked_fill(~counts, math.nan)
    torch.testing.assert_close(split_half_agreement(holed, counts=counts), split_half_agreement(values, counts=counts))
    assert not torch.equal(split_half_agreement(values, counts=counts), everything)
