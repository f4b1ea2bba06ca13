"""Matching rate, rank correlation, split-half agreement and its extrapolation."""

import math
import statistics
from collections import Counter
from fractions import Fraction

import pandas as pd
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import (
    easiest,
    expected_matching_rate,
    extrapolate_agreement,
    hardest,
    matching_matrix,
    matching_rate,
    rank_correlation,
    selection_probability,
    split_half_agreement,
    split_half_matching,
)
from tests.functional import references as reference
from tests.functional.strategies import FLOAT_TYPES, filled, float_types, moderate

values = st.sampled_from([0.0, -0.0, 1.0, 2.0, math.inf, -math.inf, math.nan]) | st.floats(-10, 10)


# matching rate


@moderate
@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20).filter(
        lambda pairs: any(map(any, pairs))
    ),
    st.sampled_from([0, 10**12]),
    st.randoms(use_true_random=False),
)
def test_matching_rate_of_masks_and_of_indices_in_any_order(pairs, first, random):
    sets = [[first + example for example, chosen in enumerate(side) if chosen] for side in zip(*pairs, strict=True)]
    indices = [torch.tensor(random.sample(examples, len(examples)), dtype=torch.int64) for examples in sets]
    for rate in (matching_rate(*torch.tensor(pairs).unbind(1)), matching_rate(*indices)):
        assert (rate.shape, rate.dtype) == ((), torch.float32)
        assert rate.item() == pytest.approx(reference.matching_rate(*sets), rel=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "rate"),
    [
        ([0, 1, 2, 3], [3, 2], 0.5),  # over the larger set: neither Jaccard (0.5 too) ...
        ([0, 1, 2, 3], [3, 9], 0.25),  # ... which would say 0.2 here, nor the smaller set, 0.5
        ([3, 9], [0, 1, 2, 3], 0.25),
        ([5], [5], 1.0),
        ([5], [6], 0.0),
        ([], [1, 2], 0.0),
        ([1, 2], [], 0.0),
    ],
)
def test_matching_rate_by_hand(a, b, rate):
    assert matching_rate(torch.tensor(a, dtype=torch.int64), torch.tensor(b, dtype=torch.int64)).item() == rate


# expected matching rate

few_values = st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.0, math.nan]), min_size=7, max_size=7)


@moderate
@given(few_values, few_values, st.floats(0.01, 1), st.booleans(), st.sampled_from(["easy", "hard"]))
def test_the_expected_rate_is_the_mean_over_every_way_to_break_the_ties(a, b, fraction, higher_is_easier, which):
    options = {"higher_is_easier": higher_is_easier, "which": which}
    sets = [reference.drawn_sets(side, fraction, **options) for side in (a, b)]
    chances = [selection_probability(torch.tensor(side), fraction, **options) for side in (a, b)]
    for drawn, chance in zip(sets, chances, strict=True):
        often = [sum(example in one for one in drawn) / len(drawn) for example in range(7)]
        assert chance.tolist() == pytest.approx(often)
    if any(map(any, sets)):
        assert expected_matching_rate(*chances).item() == pytest.approx(reference.expected_matching_rate(*sets))


def test_without_ties_the_expected_rate_is_the_matching_rate():
    a, b = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    for which, choose in (("easy", easiest), ("hard", hardest)):
        sets = [choose(side, 0.3, higher_is_easier=True) for side in (a, b)]
        chances = [selection_probability(side, 0.3, higher_is_easier=True, which=which) for side in (a, b)]
        assert [chance.nonzero()[:, 0].tolist() for chance in chances] == [sorted(side.tolist()) for side in sets]
        assert expected_matching_rate(*chances) == matching_rate(*sets)


def test_a_constant_score_agrees_with_any_other_by_chance_alone():
    loss = torch.rand(200, generator=torch.Generator().manual_seed(0))
    constant = selection_probability(torch.zeros(200), 0.1, higher_is_easier=False)
    chosen = selection_probability(loss, 0.1, higher_is_easier=False)
    assert expected_matching_rate(chosen, constant).item() == pytest.approx(0.1)
    broken = easiest(torch.zeros(200), 0.1, higher_is_easier=False, tie_breaker=loss)
    assert matching_rate(broken, easiest(loss, 0.1, higher_is_easier=False)) == 1, "what breaking ties by it gave"


# every pair of sets


def test_a_matrix_of_masks_holds_the_matching_rate_of_every_pair():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(3, 40, generator=generator) < 0.3, torch.rand(4, 40, generator=generator) < 0.5
    members = [[set(mask.nonzero()[:, 0].tolist()) for mask in sets] for sets in (a, b)]
    wanted = [[reference.matching_rate(one, other) for other in members[1]] for one in members[0]]
    torch.testing.assert_close(matching_matrix(a, b), torch.tensor(wanted))


def test_a_matrix_of_probabilities_holds_the_expected_rate_of_every_pair():
    values = [[0.0, 1.0, 1.0, 1.0, 2.0], [2.0, 2.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0]]
    options = {"higher_is_easier": True, "which": "hard"}
    drawn = [reference.drawn_sets(row, 0.4, **options) for row in values]
    wanted = [[reference.expected_matching_rate(one, other) for other in drawn] for one in drawn]
    chances = torch.stack([selection_probability(torch.tensor(row), 0.4, **options) for row in values])
    torch.testing.assert_close(matching_matrix(chances, chances), torch.tensor(wanted))


# rank correlation


@st.composite
def pairs(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    count, dtype = draw(st.integers(0, 12)), draw(float_types)
    return filled(draw, (count,), values, dtype), filled(draw, (count,), values, dtype)


@moderate
@given(pairs())
def test_rank_correlation_takes_average_ranks_and_drops_unknown_pairs(pair):
    correlation = rank_correlation(*pair)
    assert correlation.ndim == 0
    assert correlation.dtype.is_floating_point
    wanted = reference.rank_correlation(*(side.tolist() for side in pair))
    assert correlation.item() == pytest.approx(wanted, rel=1e-5, abs=1e-6, nan_ok=True)
    assert not abs(correlation.item()) > 1 + 1e-6


@pytest.mark.parametrize("levels", [5, 100_000])
def test_rank_correlation_equals_scipy_and_pandas(levels):
    generator = torch.Generator().manual_seed(levels)
    a = torch.randint(levels, (20_000,), generator=generator).double()
    b = a + torch.randn(20_000, generator=generator, dtype=torch.float64).mul(levels / 3).round()
    wanted = scipy.stats.spearmanr(a.numpy(), b.numpy()).statistic
    assert rank_correlation(a, b).item() == pytest.approx(wanted, abs=1e-12)
    a[::7], b[::11] = math.nan, math.nan
    wanted = pd.Series(a.numpy()).corr(pd.Series(b.numpy()), method="spearman")
    assert rank_correlation(a, b).item() == pytest.approx(wanted, abs=1e-12)


def test_rank_correlation_of_neighbouring_doubles():
    near = 1 + torch.arange(4, dtype=torch.float64) * 2.0**-50
    assert rank_correlation(near, torch.tensor([1.0, 2.0, 4.0, 3.0])).item() == pytest.approx(0.8)


# split halves


def runs(num_runs: int, num_examples: int, noise: float, seed: int = 0) -> torch.Tensor:
    """True easiness of variance 1 plus independent noise of each run."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(num_examples, generator=generator, dtype=torch.float64)
    return truth + noise * torch.randn(num_runs, num_examples, generator=generator, dtype=torch.float64)


def spearman_of_normal(pearson: float) -> float:
    return 6 / math.pi * math.asin(pearson / 2)


@pytest.mark.parametrize(("num_runs", "num_splits"), [(2, 1), (3, 3), (4, 3), (5, 15), (6, 10)])
def test_every_split_into_two_equal_halves_is_as_likely_as_the_others(num_runs, num_splits):
    values = runs(num_runs, 25, noise=1.0)
    possible = reference.split_half_agreements(values.tolist())
    assert len(set(possible)) == len(possible) == num_splits
    drawn: Counter = Counter()
    for seed in range(30 * num_splits):
        agreement = split_half_agreement(values, seed=seed, num_splits=1).item()
        nearest = min(range(num_splits), key=lambda split: abs(possible[split] - agreement))
        assert agreement == pytest.approx(possible[nearest], abs=1e-6)
        drawn[nearest] += 1
    assert len(drawn) == num_splits
    chi_square = sum((count - 30) ** 2 / 30 for count in drawn.values())
    assert chi_square <= scipy.stats.chi2.isf(1e-4, max(num_splits - 1, 1))


def test_split_half_averages_over_splits():
    values = runs(5, 25, noise=1.0)
    possible = reference.split_half_agreements(values.tolist())
    standard_error = statistics.pstdev(possible) / math.sqrt(400)
    agreement = split_half_agreement(values, num_splits=400).item()
    assert agreement == pytest.approx(statistics.mean(possible), abs=4 * standard_error)
    assert standard_error < 0.01


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_two_runs_have_one_split(dtype):
    values = runs(2, 40, noise=0.5).to(dtype)
    wanted = reference.rank_correlation(*values.tolist())
    for seed in range(3):
        assert split_half_agreement(values, seed=seed).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("num_runs", [2, 4, 10])
@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_split_half_recovers_a_known_reliability(num_runs, noise):
    reliability = 1 / (1 + noise**2 / (num_runs / 2))
    agreement = split_half_agreement(runs(num_runs, 20_000, noise)).item()
    assert agreement == pytest.approx(spearman_of_normal(reliability), abs=0.02)


def test_an_example_that_no_run_knows_changes_nothing():
    values = runs(4, 30, noise=1.0)
    unknown = torch.cat([values, torch.full((4, 1), math.nan)], dim=1)
    assert split_half_agreement(unknown).item() == pytest.approx(split_half_agreement(values).item())


@pytest.mark.parametrize("which", ["easy", "hard"])
@pytest.mark.parametrize(("num_runs", "higher_is_easier"), [(2, True), (3, False), (4, False)])
def test_split_half_matching_is_the_mean_over_every_split_and_every_way_to_break_ties(
    num_runs, higher_is_easier, which
):
    values = runs(num_runs, 9, noise=1.0).mul(2).round()
    options = {"higher_is_easier": higher_is_easier, "which": which}
    wanted = reference.split_half_matching(values.tolist(), 0.4, **options)
    assert 0 < wanted < 1
    assert split_half_matching(values, 0.4, **options, num_splits=2000).item() == pytest.approx(wanted, abs=0.01)


def test_split_half_matching_of_noise_is_chance_and_of_equal_runs_is_1():
    noise = torch.rand(4, 50_000, generator=torch.Generator().manual_seed(0))
    assert split_half_matching(noise, 0.1, higher_is_easier=True).item() == pytest.approx(0.1, abs=0.01)
    assert split_half_matching(noise[:1].expand(4, -1), 0.1, higher_is_easier=True) == 1
    assert split_half_matching(torch.full((2, 3), math.nan), 0.1, higher_is_easier=True).isnan()


def test_split_half_matching_takes_the_runs_that_count():
    values, counts = runs(4, 200, noise=1.0), torch.rand(4, 200, generator=torch.Generator().manual_seed(1)) < 0.8
    holed = values.masked_fill(~counts, 1e9)  # as where a run did not train on it
    matched = split_half_matching(holed, 0.2, higher_is_easier=False, counts=counts)
    torch.testing.assert_close(matched, split_half_matching(values, 0.2, higher_is_easier=False, counts=counts))
    assert matched != split_half_matching(values, 0.2, higher_is_easier=False)


# extrapolation


@pytest.mark.parametrize(("agreement", "factor", "wanted"), [(0.5, 2, 2 / 3), (0.5, 0.5, 1 / 3), (-0.2, 2, -0.5)])
def test_extrapolation_by_hand(agreement, factor, wanted):
    assert extrapolate_agreement(torch.tensor(agreement), factor).item() == pytest.approx(wanted)


@moderate
@given(st.floats(0, 1), st.fractions(Fraction(1, 10), 10, max_denominator=20))
def test_extrapolation_is_spearman_brown(agreement, factor):
    result = extrapolate_agreement(torch.tensor(agreement, dtype=torch.float64), float(factor)).item()
    assert result == pytest.approx(reference.extrapolate_agreement(agreement, float(factor)), rel=1e-9)


@pytest.mark.parametrize("noise", [1.0, 2.0])
def test_the_extrapolated_agreement_is_the_one_that_more_runs_have(noise):
    few, many = runs(4, 20_000, noise), runs(12, 20_000, noise, seed=1)
    predicted = extrapolate_agreement(split_half_agreement(few), 3).item()
    assert predicted == pytest.approx(split_half_agreement(many).item(), abs=0.03)
