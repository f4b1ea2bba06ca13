"""Weighted draws, ablation and relabelling: exact laws on small data sets, contracts on all."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import ablate, relabel, weighted_sample
from tests.functional import selection_references as reference
from tests.functional.references import tied_groups
from tests.functional.strategies import filled, float_types, moderate

LEAST_P = 1e-4  # the seeds are fixed, so a test passes always or never
SAMPLINGS = ("proportional", "beta", "top", "stratified", "window")
removes = pytest.mark.parametrize("remove", ["easy", "hard", "random"])
samplings = pytest.mark.parametrize("sampling", SAMPLINGS)
weighted_samplings = pytest.mark.parametrize("sampling", ["proportional", "beta", "top"])
directions = pytest.mark.parametrize("higher_is_easier", [True, False])


def keep(values: torch.Tensor, ratio: float, **options) -> torch.Tensor:
    return ablate(values, ratio, **{"remove": "easy", "sampling": "proportional", "higher_is_easier": False} | options)


def removed(values: torch.Tensor, ratio: float, **options) -> set[int]:
    return set(range(len(values))) - set(keep(values, ratio, **options).tolist())


def assert_law(draw: Callable[[int], object], law: reference.Law, seeds: int = 1000) -> None:
    """The sets that `draw(seed)` gives over many seeds come as often as the law says, by a chi-square test."""
    counts = Counter(frozenset(draw(seed)) for seed in range(seeds))
    assert counts.keys() <= law.keys(), "a set came that has no probability"
    observed, expected = [0.0], [0.0]  # the first cell pools what is rare
    for chosen, probability in law.items():
        if seeds * probability < 5:
            observed[0] += counts[chosen]
            expected[0] += float(seeds * probability)
        else:
            observed.append(counts[chosen])
            expected.append(float(seeds * probability))
    if 0 < expected[0] < 5:  # still too rare for a cell of its own
        least = expected.index(min(expected[1:]), 1)
        observed[least] += observed[0]
        expected[least] += expected[0]
    start = 0 if expected[0] >= 5 else 1
    assert scipy.stats.chisquare(observed[start:], expected[start:]).pvalue > LEAST_P if len(expected) > 2 else True


def random_values(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed)) + 0.01


# the instrument itself


def test_the_reference_law_by_hand():
    half, third, sixth = Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)
    assert reference.draw_law([1, 2, 3], 1) == {frozenset([0]): sixth, frozenset([1]): third, frozenset([2]): half}
    law = reference.draw_law([1, 2, 3], 2)
    assert law[frozenset([0, 1])] == sixth * Fraction(2, 5) + third * Fraction(1, 4)
    assert sum(law.values()) == 1
    assert reference.inclusion(law, 3) == [1 - law[frozenset(pair)] for pair in ([1, 2], [0, 2], [0, 1])]
    assert reference.coverage_budgets([1, 10, 4], 9) == [1, 4, 4]
    assert reference.coverage_budgets([10, 2, 10], 11) == [4, 2, 5]
    assert reference.shares(5, [5, 5, 10]) == ([1, 1, 2], [2], 1) or reference.shares(5, [5, 5, 10])[0] == [1, 1, 2]


def test_the_chi_square_tells_a_wrong_law_from_the_right_one():
    # Weights that are not followed between draws: the usual mistake, by a draw with replacement and no repeats.
    draw = random.Random(0)
    wrong = reference.draw_law([1, 1, 1, 1.5], 2)
    sets, probabilities = zip(*wrong.items(), strict=True)
    with pytest.raises(AssertionError):
        assert_law(lambda _: draw.choices(sets, [float(p) for p in probabilities])[0], reference.draw_law([1] * 4, 2))


# weighted draws without replacement


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
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
def test_a_weighted_draw_follows_the_law_of_draws_one_after_the_other(weights, count, dtype):
    law = reference.draw_law(weights, count)
    given = torch.tensor(weights, dtype=dtype)
    assert_law(lambda seed: weighted_sample(given, count, seed=seed).tolist(), law, seeds=3000)


@pytest.mark.parametrize("scale", [2.0**-1074, 2.0**-1000, 2.0**1021])
def test_only_the_proportions_of_the_weights_count(scale):
    # Subnormal weights, whose reciprocal is infinite, and weights whose sum is infinite.
    given = torch.tensor([1.0, 2.0, 3.0, 1.0], dtype=torch.float64) * scale
    law = reference.draw_law([1, 2, 3, 1], 2)
    assert_law(lambda seed: weighted_sample(given, 2, seed=seed).tolist(), law, seeds=3000)


def test_small_weights_are_drawn_in_proportion_once_the_large_one_is_gone():
    given = torch.tensor([1e-300, 1.0, 3e-300], dtype=torch.float64)
    law = {frozenset([0, 1]): Fraction(1, 4), frozenset([1, 2]): Fraction(3, 4)}
    assert_law(lambda seed: weighted_sample(given, 2, seed=seed).tolist(), law)


def test_a_generator_is_drawn_from_instead_of_a_seed():
    generator = torch.Generator().manual_seed(0)
    given = torch.tensor([1.0, 2.0, 4.0, 3.0])
    assert_law(lambda _: weighted_sample(given, 2, generator=generator).tolist(), reference.draw_law([1, 2, 4, 3], 2))
    first, again = (torch.Generator().manual_seed(5) for _ in range(2))
    weights = random_values(200)
    draws = [weighted_sample(weights, 100, generator=first) for _ in range(2)]
    assert torch.equal(draws[0], weighted_sample(weights, 100, generator=again))
    assert not torch.equal(*draws), "the stream goes on"


@moderate
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 7.0]), max_size=30), float_types, st.data())
def test_a_weighted_draw_gives_ascending_indices_of_positive_weight(weights, dtype, data):
    positive = [index for index, weight in enumerate(weights) if weight]
    count, seed = data.draw(st.integers(0, len(positive))), data.draw(st.integers(0, 2**63 - 1))
    chosen = weighted_sample(torch.tensor(weights, dtype=dtype), count, seed=seed)
    assert chosen.dtype == torch.int64
    assert chosen.shape == (count,)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert set(chosen.tolist()) <= set(positive)
    assert torch.equal(chosen, weighted_sample(torch.tensor(weights, dtype=torch.float64), count, seed=seed))


@pytest.mark.parametrize("bad", [math.nan, -1.0, math.inf, -math.inf])
def test_a_weight_that_is_no_weight_is_an_error(bad):
    with pytest.raises(ValueError, match="weights"):
        weighted_sample(torch.tensor([1.0, bad, 2.0]), 1)


def test_more_draws_than_positive_weights_is_an_error_with_both_numbers():
    with pytest.raises(ValueError, match=r"\b3\b") as error:
        weighted_sample(torch.tensor([1.0, 0.0, 2.0, 0.0]), 3)
    assert "2" in str(error.value)
    assert "weights" in str(error.value)
    with pytest.raises(ValueError, match="count"):
        weighted_sample(torch.ones(3), -1)
    with pytest.raises(ValueError, match="weights"):
        weighted_sample(torch.ones(3), 4)
    with pytest.raises(ValueError, match="weights"):
        weighted_sample(torch.ones(3, 2), 1)


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


def test_ablation_reaches_indices_above_two_to_the_24():
    n = 2**24 + 3
    values = torch.zeros(n)
    values[-5:] = 1.0
    kept = keep(values, 5 / n, remove="hard")
    assert torch.equal(kept, torch.arange(n - 5))


# the 2019 rule: in proportion to difficulty


LOSS = [0.5, 4.0, 0.25, 1.0, 2.0]
SCORE = [0.75, 0.0, 1.0, 0.5, 0.25]  # the highest is 1: 1 - score and highest - score are one


@removes
@directions
@pytest.mark.parametrize("ratio", [0.2, 0.4, 0.8])
def test_the_proportional_rule_follows_its_law(remove, higher_is_easier, ratio):
    values = SCORE if higher_is_easier else LOSS
    law = reference.proportional_law(values, reference.removed_count(ratio, 5), remove, higher_is_easier)
    given, options = torch.tensor(values), {"remove": remove, "higher_is_easier": higher_is_easier}
    assert_law(lambda seed: removed(given, ratio, seed=seed, **options), law)


def test_easy_draws_what_stays_which_is_not_the_same_as_drawing_what_goes_by_the_inverse():
    stays = reference.proportional_law(LOSS, 2, "easy", False)
    inverse = reference.draw_law([1 / Fraction(loss) for loss in LOSS], 2)
    assert max(abs(stays.get(chosen, 0) - inverse[chosen]) for chosen in inverse) > 0.02


# the 2018 rule: by rank, with the density of a beta distribution


@removes
@directions
@pytest.mark.parametrize("ratio", [0.2, 0.4, 0.8])
def test_the_beta_rule_follows_its_law(remove, higher_is_easier, ratio):
    order = next(reference.orders(LOSS, higher_is_easier))
    law = reference.beta_law(order, reference.removed_count(ratio, 5), remove)
    options = {"remove": remove, "higher_is_easier": higher_is_easier, "sampling": "beta"}
    assert_law(lambda seed: removed(torch.tensor(LOSS), ratio, seed=seed, **options), law, seeds=1500)


@pytest.mark.parametrize("remove", ["easy", "hard"])
@pytest.mark.parametrize("tie_breaker", [None, [0.3, 0.1, 0.2, 0.2]])
def test_ties_in_the_beta_rule_are_drawn_apart_from_the_rest(remove, tie_breaker):
    # One stream for the order of ties and for the keys would tie the two together.
    values = [1.0, 1.0, 1.0, 0.5]
    laws = [reference.beta_law(order, 2, remove) for order in reference.orders(values, True, tie_breaker)]
    given = torch.tensor(values)
    breaker = None if tie_breaker is None else torch.tensor(tie_breaker)
    options = {"remove": remove, "higher_is_easier": True, "sampling": "beta", "tie_breaker": breaker}
    assert_law(lambda seed: removed(given, 0.5, seed=seed, **options), reference.mixture(laws), seeds=1500)


@pytest.mark.parametrize(("remove", "quantile"), [("easy", 0.75), ("hard", 0.25), ("random", 0.5)])
def test_few_removed_examples_have_the_mean_of_the_beta_distribution(remove, quantile):
    # The paper's sense: Beta(3, 1) is near 1, and 1 is the easiest.
    easiness = torch.arange(20_000.0)
    gone = removed(easiness, 0.01, remove=remove, sampling="beta", higher_is_easier=True)
    mean = sum(gone) / len(gone) / 20_000
    assert abs(mean - quantile) < 4 * 0.29 / math.sqrt(len(gone))


# the plain ends


@removes
@directions
def test_the_top_rule_takes_exactly_the_end(remove, higher_is_easier):
    laws = [reference.top_law(order, 2, remove) for order in reference.orders(LOSS, higher_is_easier)]
    options = {"remove": remove, "higher_is_easier": higher_is_easier, "sampling": "top"}
    assert_law(lambda seed: removed(torch.tensor(LOSS), 0.4, seed=seed, **options), reference.mixture(laws))


@pytest.mark.parametrize("remove", ["easy", "hard"])
@pytest.mark.parametrize("tie_breaker", [None, [1.0, 3.0, 2.0, 2.0, 2.0, 0.0]])
def test_ties_at_the_cut_fall_by_tie_breaker_then_by_draw(remove, tie_breaker):
    values = [0.5, 0.5, 0.5, 0.5, 0.5, 1.0]
    laws = [reference.top_law(order, 3, remove) for order in reference.orders(values, True, tie_breaker)]
    breaker = None if tie_breaker is None else torch.tensor(tie_breaker)
    options = {"remove": remove, "higher_is_easier": True, "sampling": "top", "tie_breaker": breaker}
    draw = torch.tensor(values)
    assert_law(lambda seed: removed(draw, 0.5, seed=seed, **options), reference.mixture(laws))


# coverage: equal budgets over strata of the score


def assert_coverage(kept: set[int], values: list[float], dropped: set[int], num_strata: int, budget: int) -> None:
    parts = reference.strata(values, set(range(len(values))) - dropped, num_strata)
    assert not kept & dropped
    budgets = reference.coverage_budgets([len(part) for part in parts], budget)
    # Equally large strata may stand in any order: the paper does not say which of them gets the rest.
    taken = sorted((len(part), len(part & kept)) for part in parts)
    assert taken == sorted((len(part), share) for part, share in zip(parts, budgets, strict=True))


@directions
def test_strata_get_equal_budgets_and_small_ones_leave_their_rest_to_the_others(higher_is_easier):
    values = [0.0] * 2 + [0.3, 0.25, 0.26, 0.4] + [0.5 + index / 400 for index in range(90)] + [0.9, 0.95, 0.8, 1.0]
    given, options = torch.tensor(values, dtype=torch.float64), {"sampling": "stratified", "num_strata": 4}
    for seed in range(5):
        options |= {"higher_is_easier": higher_is_easier, "seed": seed, "hardest_dropped": 0.0}
        assert_coverage(set(keep(given, 0.8, **options).tolist()), values, set(), 4, 20)


@directions
def test_the_hardest_share_is_dropped_before_strata_are_cut(higher_is_easier):
    values = [float(2**exponent) for exponent in range(10)] * 2
    hardest = {0, 1, 10, 11} if higher_is_easier else {8, 9, 18, 19}
    for seed in range(5):
        options = {"sampling": "stratified", "num_strata": 4, "hardest_dropped": 0.2, "seed": seed}
        kept = keep(torch.tensor(values), 0.6, higher_is_easier=higher_is_easier, **options)
        assert_coverage(set(kept.tolist()), values, hardest, 4, 8)


def test_a_stratum_is_drawn_from_uniformly_and_apart_from_the_others():
    values = [0.0, 0.125, 0.25, 1.0, 0.75, 0.875, 0.9375]
    laws = [reference.uniform_law([0, 1, 2], 2), reference.uniform_law([3, 4, 5, 6], 2)]
    options = {"sampling": "stratified", "num_strata": 2, "hardest_dropped": 0.0}
    given = torch.tensor(values)
    assert_law(lambda seed: keep(given, 3 / 7, seed=seed, **options).tolist(), reference.independent(laws))


def test_one_stratum_is_a_uniform_draw_from_what_is_not_dropped():
    options = {"sampling": "stratified", "num_strata": 1, "hardest_dropped": 0.2}
    law = reference.uniform_law([0, 2, 3, 4], 2)
    assert_law(lambda seed: keep(torch.tensor(LOSS), 0.6, seed=seed, **options).tolist(), law)


# a window over difficulty


@directions
@pytest.mark.parametrize("hardest_dropped", [0.0, 0.2, 0.3])
def test_a_window_is_what_follows_the_hardest_that_are_dropped(higher_is_easier, hardest_dropped):
    shuffled = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    kept = keep(
        shuffled.float(), 0.6, sampling="window", higher_is_easier=higher_is_easier, hardest_dropped=hardest_dropped
    )
    places = sorted(shuffled[kept].tolist() if higher_is_easier else (19 - shuffled[kept]).tolist())
    dropped = round(hardest_dropped * 20)
    assert places == list(range(dropped, dropped + 8))


# class balance


CLASSES = [0, 1, 0, 1, 0, 1]
CLASS_LOSS = [1.0, 2.0, 3.0, 8.0, 2.0, 4.0]


@removes
@weighted_samplings
def test_classes_are_drawn_from_by_the_rule_and_apart_from_each_other(remove, sampling):
    # Both classes have losses in the same proportions: one stream for both would draw alike.
    laws = []
    for label in (0, 1):
        members = [index for index, other in enumerate(CLASSES) if other == label]
        losses = [CLASS_LOSS[index] for index in members]
        order = next(reference.orders(losses, False))
        law = {
            "proportional": lambda losses=losses: reference.proportional_law(losses, 1, remove, False),
            "beta": lambda order=order: reference.beta_law(order, 1, remove),
            "top": lambda order=order: reference.top_law(order, 1, remove),
        }[sampling]()
        laws.append(reference.rename(law, members))
    options = {"remove": remove, "sampling": sampling, "class_balanced": True, "target": torch.tensor(CLASSES)}
    given = torch.tensor(CLASS_LOSS)
    assert_law(lambda seed: removed(given, 1 / 3, seed=seed, **options), reference.independent(laws))


def test_ties_in_two_classes_are_drawn_apart():
    options = {"sampling": "top", "class_balanced": True, "target": torch.tensor(CLASSES)}
    law = reference.independent([reference.uniform_law([0, 2, 4], 1), reference.uniform_law([1, 3, 5], 1)])
    assert_law(lambda seed: removed(torch.ones(6), 1 / 3, seed=seed, **options), law)


@removes
@samplings
@pytest.mark.parametrize("sizes", [(30, 20, 50), (7, 11, 13, 3), (40, 1, 1), (5, 5, 5)])
@pytest.mark.parametrize("ratio", [0.1, 0.35, 0.5, 0.8])
def test_each_class_loses_the_same_share(remove, sampling, sizes, ratio):
    labels = torch.cat([torch.full((size,), 3 * label) for label, size in enumerate(sizes)])  # labels with gaps
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    target, values = labels[order], random_values(len(labels))
    gone = removed(values, ratio, remove=remove, sampling=sampling, class_balanced=True, target=target)
    lost = [sum(int(target[index]) == 3 * label for index in gone) for label in range(len(sizes))]
    certain, level, left = reference.shares(reference.removed_count(ratio, len(labels)), sizes)
    extra = [got - sure for got, sure in zip(lost, certain, strict=True)]
    assert sum(extra) == left
    assert all(more in (0, 1) if place in level else more == 0 for place, more in enumerate(extra))


# directions, as the papers say them


@weighted_samplings
@directions
def test_easy_loses_easy_examples_and_hard_hard_ones(sampling, higher_is_easier):
    loss = random_values(2000)
    values = 1.01 - loss if higher_is_easier else loss
    means = {}
    for remove in ("easy", "hard", "random"):
        options = {"remove": remove, "sampling": sampling, "higher_is_easier": higher_is_easier}
        means[remove] = float(loss[keep(values, 0.3, **options)].mean())
    assert means["easy"] > means["random"] + 0.03
    assert means["hard"] < means["random"] - 0.03
    assert abs(means["random"] - float(loss.mean())) < 0.03


@weighted_samplings
def test_random_is_uniform_whatever_the_values(sampling):
    draw = torch.tensor([0.0, 0.0, 100.0, 1.0, 5.0])
    law = reference.uniform_law(range(5), 2)
    assert_law(lambda seed: removed(draw, 0.4, seed=seed, remove="random", sampling=sampling), law)


# what holds for every rule


@removes
@samplings
@pytest.mark.parametrize(
    ("n", "ratio", "left"),
    [
        (10, 0.0, 10),
        (10, 0.25, 7),  # 2.5 go: half up
        (10, 0.15, 8),  # 1.5, although the double 0.15 lies below
        (50, 0.29, 35),  # 14.5; 0.29 * 50 is 14.499999999999998 in binary
        (10, 0.04, 10),
        (10, 0.05, 9),
        (10, 0.99, 1),  # 9.9 go, which would be all
        (1, 0.9, 1),
        (1, 0.0, 1),
        (2, 0.75, 1),
    ],
)
def test_the_number_of_removed_examples_is_rounded_half_up_and_never_all(remove, sampling, n, ratio, left):
    kept = keep(random_values(n), ratio, remove=remove, sampling=sampling)
    assert len(kept) == left


@st.composite
def problems(draw: st.DrawFn) -> tuple[torch.Tensor, float, dict]:
    n = draw(st.integers(1, 25))
    elements = st.sampled_from([0.5, 1.0, 1.5]) | st.floats(0.0625, 8)
    values = filled(draw, (n,), elements, draw(float_types))
    ratio = draw(st.floats(0, 0.999) | st.integers(0, 99).map(lambda hundredths: hundredths / 100))
    options = {
        "remove": draw(st.sampled_from(["easy", "hard", "random"])),
        "sampling": draw(st.sampled_from(SAMPLINGS)),
        "higher_is_easier": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**40)),
        "target": torch.tensor(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))),
        "class_balanced": draw(st.booleans()),
        "tie_breaker": draw(
            st.none() | st.just(filled(draw, (n,), st.sampled_from([0.0, 1.0, math.nan]), torch.float32))
        ),
    }
    return values, ratio, options


@moderate
@given(problems())
def test_kept_indices_are_ascending_exact_in_number_and_the_same_for_every_dtype(problem):
    values, ratio, options = problem
    kept = keep(values, ratio, **options)
    assert kept.dtype == torch.int64
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert set(kept.tolist()) <= set(range(len(values)))
    assert len(kept) == len(values) - reference.removed_count(ratio, len(values))
    assert torch.equal(kept, keep(values, ratio, **options)), "one seed is one draw"
    assert torch.equal(kept, keep(values.double(), ratio, **options))


@moderate
@given(problems(), st.sampled_from(["easy", "hard"]))
def test_the_top_rule_removes_whole_groups_of_ties_before_it_touches_the_next(problem, remove):
    values, ratio, options = problem
    options |= {"sampling": "top", "remove": remove, "class_balanced": False}
    gone, breaker = removed(values, ratio, **options), options["tie_breaker"]
    groups = tied_groups(values.tolist(), options["higher_is_easier"], None if breaker is None else breaker.tolist())
    left = len(gone)
    for group in groups if remove == "easy" else groups[::-1]:
        assert len(group & gone) == min(left, len(group))
        left -= len(group & gone)


@removes
@samplings
@pytest.mark.parametrize("class_balanced", [True, False])
def test_the_seed_alone_decides(remove, sampling, class_balanced):
    values, target = random_values(300).bfloat16().float(), torch.arange(300) % 7
    options = {"remove": remove, "sampling": sampling, "class_balanced": class_balanced, "target": target}
    inputs = values.clone(), target.clone()
    kept = []
    with torch.random.fork_rng(devices=[]):
        for number, dtype in enumerate([torch.float32, torch.float64, torch.bfloat16]):
            torch.manual_seed(number)
            random.seed(number)
            before = torch.get_rng_state(), random.getstate()
            kept.append(keep(values.to(dtype), 0.5, seed=3, **options))
            assert torch.equal(torch.get_rng_state(), before[0])
            assert random.getstate() == before[1]
    spaced = torch.stack([values, values], dim=1)[:, 0]
    kept.append(keep(spaced, 0.5, seed=3, **options))
    assert all(torch.equal(kept[0], other) for other in kept[1:])
    assert torch.equal(values, inputs[0])
    assert torch.equal(target, inputs[1])


@removes
@weighted_samplings
def test_another_seed_is_another_draw(remove, sampling):
    values = random_values(300) if sampling != "top" else torch.ones(300)
    draws = [tuple(keep(values, 0.5, remove=remove, sampling=sampling, seed=seed).tolist()) for seed in range(10)]
    assert len(set(draws)) == 10
    assert tuple(keep(values, 0.5, remove=remove, sampling=sampling).tolist()) == draws[0], "the default seed is 0"


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8])
@samplings
def test_whole_numbers_are_values_too(sampling, dtype):
    events = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6], dtype=dtype)
    assert torch.equal(keep(events, 0.5, sampling=sampling), keep(events.double(), 0.5, sampling=sampling))


# errors


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *[("ratio", {"ratio": ratio}) for ratio in (1.0, 1.2, -0.1, math.nan, math.inf)],
        ("remove", {"remove": "medium"}),
        ("sampling", {"sampling": "uniform"}),
        ("values", {"values": torch.ones(3, 2)}),
        ("values", {"values": torch.tensor(1.0)}),
        *[("values", {"values": torch.tensor([1.0, math.nan, 2.0]), "sampling": name}) for name in SAMPLINGS],
        ("values", {"values": torch.tensor([1.0, -0.5, 2.0])}),
        ("values", {"values": torch.tensor([1.0, math.inf, 2.0])}),
        ("values", {"values": torch.tensor([1.0, math.inf, 2.0]), "sampling": "stratified"}),
        ("target", {"class_balanced": True}),
        ("target", {"class_balanced": True, "target": torch.zeros(4, dtype=torch.int64)}),
        ("tie_breaker", {"sampling": "top", "tie_breaker": torch.ones(2)}),
        ("tie_breaker", {"sampling": "beta", "tie_breaker": torch.ones(4)}),
        *[("hardest_dropped", {"sampling": "stratified", "hardest_dropped": share}) for share in (-0.1, 1.0, math.nan)],
        *[("hardest_dropped", {"sampling": "window", "hardest_dropped": share}) for share in (-0.1, 1.0, math.nan)],
        ("num_strata", {"sampling": "stratified", "num_strata": 0}),
    ],
)
def test_bad_arguments_are_named(name, change):
    arguments = {"values": torch.tensor([1.0, 2.0, 3.0]), "ratio": 0.3} | change
    with pytest.raises(ValueError, match=name):
        keep(arguments.pop("values"), arguments.pop("ratio"), **arguments)


def test_a_direction_is_never_guessed():
    with pytest.raises(TypeError, match="higher_is_easier"):
        ablate(torch.ones(3), 0.3, remove="easy", sampling="top")
    with pytest.raises(TypeError, match="higher_is_easier"):
        keep(torch.ones(3), 0.3, higher_is_easier=None)


# new labels


@pytest.mark.parametrize("noise", ["uniform", "next_class"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_only_the_given_examples_get_new_labels(noise, dtype):
    target = (torch.arange(400) % 10).to(dtype)
    indices = torch.randperm(400, generator=torch.Generator().manual_seed(1))[:150]
    inputs = target.clone(), indices.clone()
    before = torch.get_rng_state()
    labels = relabel(target, indices, noise=noise, num_classes=10, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(target, inputs[0])
    assert torch.equal(indices, inputs[1])
    assert labels.dtype == dtype
    assert labels.shape == target.shape
    others = torch.ones(400, dtype=torch.bool).index_fill(0, indices, False)
    assert torch.equal(labels[others], target[others])
    assert bool(((labels >= 0) & (labels < 10)).all())
    assert torch.equal(labels, relabel(target, indices, noise=noise, num_classes=10, seed=4))
    labels.fill_(0)
    assert torch.equal(target, inputs[0]), "the result shares no memory"


def test_the_next_class_follows_and_the_last_is_followed_by_the_first():
    target = torch.tensor([0, 1, 2, 3, 3, 0])
    labels = relabel(target, torch.tensor([4, 0, 2]), noise="next_class", num_classes=4)
    assert labels.tolist() == [1, 1, 3, 3, 0, 0]
    assert relabel(target, torch.tensor([3]), noise="next_class", num_classes=6).tolist() == [0, 1, 2, 4, 3, 0]


def test_uniform_labels_are_uniform_over_all_classes_the_old_one_too():
    target = torch.full((4000,), 2)
    labels = relabel(target, torch.arange(4000), noise="uniform", num_classes=7, seed=0)
    assert scipy.stats.chisquare(torch.bincount(labels, minlength=7).tolist()).pvalue > LEAST_P


def test_uniform_labels_of_two_examples_are_independent_over_seeds():
    target, indices = torch.tensor([0, 2, 1]), torch.tensor([2, 0])
    pairs = Counter()
    for seed in range(2000):
        first, same, last = relabel(target, indices, noise="uniform", num_classes=3, seed=seed).tolist()
        assert same == 2
        pairs[first, last] += 1
    assert scipy.stats.chisquare([pairs[pair] for pair in itertools.product(range(3), repeat=2)]).pvalue > LEAST_P


def test_no_example_is_relabelled_when_none_is_given():
    target, none = torch.tensor([0, 1, 2]), torch.empty(0, dtype=torch.int64)
    for noise in ("uniform", "next_class"):
        assert torch.equal(relabel(target, none, noise=noise, num_classes=3), target)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("indices", {"indices": torch.tensor([0, 1, 0])}),
        ("indices", {"indices": torch.tensor([0, 4])}),
        ("indices", {"indices": torch.tensor([-1])}),
        ("indices", {"indices": torch.tensor([[0, 1]])}),
        ("noise", {"noise": "shuffle"}),
        ("num_classes", {"num_classes": 0}),
        ("target", {"target": torch.tensor([0, 1, 2, 3])}),
        ("target", {"target": torch.tensor([0, 1, -1, 2])}),
        ("target", {"target": torch.zeros(4, 2, dtype=torch.int64)}),
    ],
)
def test_bad_arguments_of_relabel_are_named(name, change):
    arguments = {"target": torch.tensor([0, 1, 2, 0]), "indices": torch.tensor([0, 2]), "num_classes": 3} | change
    arguments = {"noise": "uniform"} | arguments
    with pytest.raises(ValueError, match=name):
        relabel(arguments.pop("target"), arguments.pop("indices"), **arguments)
