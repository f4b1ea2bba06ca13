"""Ablation and new labels: the exact law of each rule on small data sets, contracts on all."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import ablate, easiest, hardest, relabel
from tests.functional import selection_references as reference
from tests.functional.references import tied_groups
from tests.functional.selection_references import LEAST_P, assert_law
from tests.functional.strategies import filled, float_types, moderate

SAMPLINGS = ("proportional", "beta", "top", "stratified", "window")
removes = pytest.mark.parametrize("remove", ["easy", "hard", "random"])
ends = pytest.mark.parametrize("remove", ["easy", "hard"])
samplings = pytest.mark.parametrize("sampling", SAMPLINGS)
both_ended = pytest.mark.parametrize("sampling", ["stratified", "window"])
one_ended = pytest.mark.parametrize("sampling", ["proportional", "beta", "top"])
directions = pytest.mark.parametrize("higher_is_easier", [True, False])


def keep(values: torch.Tensor, ratio: float, **options) -> torch.Tensor:
    return ablate(values, ratio, **{"remove": "easy", "sampling": "proportional", "higher_is_easier": False} | options)


def removed(values: torch.Tensor, ratio: float, **options) -> set[int]:
    return set(range(len(values))) - set(keep(values, ratio, **options).tolist())


def random_values(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed)) + 0.01


# the 2019 rule: in proportion to difficulty


LOSS = [0.5, 4.0, 0.25, 1.0, 2.0]
SCORE = [0.75, 0.0, 1.0, 0.5, 0.25]  # the highest is 1: 1 - score and highest - score are one


@ends
@directions
@pytest.mark.parametrize("ratio", [0.4, 0.8])
def test_the_proportional_rule_follows_its_law(remove, higher_is_easier, ratio):
    values = SCORE if higher_is_easier else LOSS
    law = reference.proportional_law(values, reference.removed_count(ratio, 5), remove, higher_is_easier)
    given, options = torch.tensor(values), {"remove": remove, "higher_is_easier": higher_is_easier}
    assert_law(lambda seed: removed(given, ratio, seed=seed, **options), law)


@ends
def test_examples_without_difficulty_are_all_alike_and_come_last(remove):
    loss = torch.tensor([0.0, 2.0, 0.0, 1.0, 0.0])
    last = [{1, 3} | {index} for index in (0, 2, 4)]  # three are drawn: both with a loss and one without
    law = {frozenset(chosen): Fraction(1, 3) for chosen in last}
    law = law if remove == "hard" else reference.complement(law, 5)
    ratio = 0.6 if remove == "hard" else 0.4
    assert_law(lambda seed: removed(loss, ratio, remove=remove, seed=seed), law)


# the 2018 rule: by rank, with the density of a beta distribution


@ends
@directions
@pytest.mark.parametrize("ratio", [0.4, 0.8])
def test_the_beta_rule_follows_its_law(remove, higher_is_easier, ratio):
    order = next(reference.orders(LOSS, higher_is_easier))
    law = reference.beta_law(order, reference.removed_count(ratio, 5), remove)
    options = {"remove": remove, "higher_is_easier": higher_is_easier, "sampling": "beta"}
    assert_law(lambda seed: removed(torch.tensor(LOSS), ratio, seed=seed, **options), law)


@ends
@pytest.mark.parametrize("tie_breaker", [None, [0.3, 0.1, 0.2, 0.2]])
def test_ties_in_the_beta_rule_are_drawn_apart_from_the_rest(remove, tie_breaker):
    # One stream for the order of ties and for the keys would tie the two together.
    values = [1.0, 1.0, 1.0, 0.5]
    laws = [reference.beta_law(order, 2, remove) for order in reference.orders(values, True, tie_breaker)]
    given = torch.tensor(values)
    breaker = None if tie_breaker is None else torch.tensor(tie_breaker)
    options = {"remove": remove, "higher_is_easier": True, "sampling": "beta", "tie_breaker": breaker}
    assert_law(lambda seed: removed(given, 0.5, seed=seed, **options), reference.mixture(laws))


# the plain ends


@directions
def test_the_top_rule_removes_the_easiest_and_the_hardest_of_the_same_seed(higher_is_easier):
    values = (torch.arange(200) % 3).float()
    for remove, end in {"easy": easiest, "hard": hardest}.items():
        for seed in range(3):
            options = {"higher_is_easier": higher_is_easier, "seed": seed}
            gone = removed(values, 0.25, remove=remove, sampling="top", **options)
            assert gone == set(end(values, 0.25, **options).tolist())


# coverage: equal budgets over strata of the score


def assert_coverage(kept: set[int], values: list[float], dropped: set[int], num_strata: int, budget: int) -> None:
    parts = reference.strata(values, set(range(len(values))) - dropped, num_strata)
    assert not kept & dropped
    budgets = reference.coverage_budgets([len(part) for part in parts], budget)
    # Equally large strata may stand in any order: the paper does not say which of them gets the rest.
    taken = sorted((len(part), len(part & kept)) for part in parts)
    assert taken == sorted((len(part), share) for part, share in zip(parts, budgets, strict=True))


@moderate
@given(st.lists(st.integers(0, 60), min_size=2, max_size=40, unique=True), st.booleans(), st.data())
def test_strata_of_any_values(numbers, higher_is_easier, data):
    values, ratio = [number / 4 for number in numbers], data.draw(st.sampled_from([0.1, 0.3, 0.5, 0.9]))
    options = {"num_strata": data.draw(st.integers(1, 12)), "hardest_dropped": data.draw(st.sampled_from([0.0, 0.1]))}
    order = next(reference.orders(values, higher_is_easier))
    gone = reference.removed_count(ratio, len(values))
    dropped = min(reference.removed_count(options["hardest_dropped"], len(values)), gone)
    kept = keep(torch.tensor(values), ratio, sampling="stratified", higher_is_easier=higher_is_easier, **options)
    hardest = set(order[len(order) - dropped :])
    assert_coverage(set(kept.tolist()), values, hardest, options["num_strata"], len(values) - gone)


def test_a_stratum_is_drawn_from_uniformly_and_apart_from_the_others():
    values = [0.0, 0.125, 0.25, 1.0, 0.75, 0.875, 0.9375]
    laws = [reference.uniform_law([0, 1, 2], 2), reference.uniform_law([3, 4, 5, 6], 2)]
    options = {"sampling": "stratified", "num_strata": 2, "hardest_dropped": 0.0}
    given = torch.tensor(values)
    assert_law(lambda seed: keep(given, 3 / 7, seed=seed, **options).tolist(), reference.independent(laws))


def test_a_value_on_the_edge_of_a_stratum_belongs_to_the_one_above():
    # In binary 29 / 100 * 100 lies below 29: two strata would share what one of them holds.
    values = list(range(101))
    kept = keep(torch.tensor(values), 1 / 101, sampling="stratified", num_strata=100)
    assert_coverage(set(kept.tolist()), [float(value) for value in values], set(), 100, 100)


@directions
def test_ties_at_the_hardest_share_fall_by_draw(higher_is_easier):
    options = {"sampling": "stratified", "num_strata": 1, "hardest_dropped": 0.4}
    given, law = torch.ones(5), reference.uniform_law(range(5), 3)
    options |= {"higher_is_easier": higher_is_easier}
    assert_law(lambda seed: keep(given, 0.4, seed=seed, **options).tolist(), law, seeds=500)


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


@pytest.mark.parametrize("tie_breaker", [None, [1.0, 5.0, 2.0, 2.0, 4.0]])
def test_ties_at_both_edges_of_a_window_fall_by_tie_breaker_then_by_draw(tie_breaker):
    # With the tie breaker 1 is the hardest, 4 the next, 0 the easiest: 2 and 3 are level, one of them stays.
    law = reference.uniform_law(range(5), 2)
    if tie_breaker is not None:
        law = {frozenset([2, 4]): Fraction(1, 2), frozenset([3, 4]): Fraction(1, 2)}
    options = {"sampling": "window", "hardest_dropped": 0.2, "higher_is_easier": True}
    options |= {"tie_breaker": None if tie_breaker is None else torch.tensor(tie_breaker)}
    assert_law(lambda seed: keep(torch.ones(5), 0.6, seed=seed, **options).tolist(), law, seeds=500)


@both_ended
@pytest.mark.parametrize("hardest_dropped", [0.0, 0.3])
def test_easy_and_hard_are_the_same_to_a_rule_that_takes_both_ends(sampling, hardest_dropped):
    values, options = random_values(100), {"sampling": sampling, "hardest_dropped": hardest_dropped, "seed": 2}
    assert torch.equal(keep(values, 0.5, remove="easy", **options), keep(values, 0.5, remove="hard", **options))


# class balance


CLASSES = [0, 1, 0, 1, 0, 1]
CLASS_LOSS = [1.0, 2.0, 3.0, 8.0, 2.0, 4.0]


@ends
@one_ended
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
    assert_law(lambda seed: removed(given, 1 / 3, seed=seed, **options), reference.independent(laws), seeds=500)


def test_ties_in_two_classes_are_drawn_apart():
    options = {"sampling": "top", "class_balanced": True, "target": torch.tensor(CLASSES)}
    law = reference.independent([reference.uniform_law([0, 2, 4], 1), reference.uniform_law([1, 3, 5], 1)])
    assert_law(lambda seed: removed(torch.ones(6), 1 / 3, seed=seed, **options), law, seeds=500)


def test_classes_with_equal_remainders_draw_for_the_last_example_apart_from_the_rest():
    # One of four goes: from either class with probability 1/2, and then each of its two.
    options = {"remove": "random", "class_balanced": True, "target": torch.tensor([0, 0, 1, 1])}
    law = reference.uniform_law(range(4), 1)
    assert_law(lambda seed: removed(torch.ones(4), 0.25, seed=seed, **options), law, seeds=500)


@removes
@samplings
@pytest.mark.parametrize("sizes", [(30, 20, 50), (7, 11, 13, 3), (40, 1, 1), (5, 5, 5)])
def test_each_class_loses_the_same_share(remove, sampling, sizes):
    labels = torch.cat([torch.full((size,), 3 * label) for label, size in enumerate(sizes)])  # labels with gaps
    target = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    options = {"remove": remove, "sampling": sampling, "class_balanced": True, "target": target}
    for ratio in (0.1, 0.35, 0.5, 0.8):
        gone = removed(random_values(len(labels)), ratio, **options)
        lost = [sum(int(target[index]) == 3 * label for index in gone) for label in range(len(sizes))]
        certain, level, left = reference.shares(reference.removed_count(ratio, len(labels)), sizes)
        extra = [got - sure for got, sure in zip(lost, certain, strict=True)]
        assert sum(extra) == left
        assert all(more in (0, 1) if place in level else more == 0 for place, more in enumerate(extra))


# directions, as the papers say them


@one_ended
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


@samplings
def test_random_is_uniform_whatever_the_values(sampling):
    draw = torch.tensor([0.0, 0.0, 100.0, 1.0, 5.0])
    law = reference.uniform_law(range(5), 2)
    assert_law(lambda seed: removed(draw, 0.4, seed=seed, remove="random", sampling=sampling), law, seeds=500)


# what holds for every rule


@removes
@samplings
@pytest.mark.parametrize(
    ("n", "ratio", "left"),
    [
        (10, 0.25, 7),  # 2.5 go: half up
        (50, 0.29, 35),  # 14.5; 0.29 * 50 is 14.499999999999998 in binary
        (10, 0.99, 1),  # 9.9 go, which would be all
        (1, 0.9, 1),
    ],
)
def test_the_number_of_removed_examples_is_rounded_half_up_and_never_all(remove, sampling, n, ratio, left):
    assert len(keep(random_values(n), ratio, remove=remove, sampling=sampling)) == left


@removes
@samplings
@directions
@pytest.mark.parametrize("n", [1, 4])
def test_a_ratio_of_zero_keeps_everything_whatever_the_values(remove, sampling, higher_is_easier, n):
    for values in (torch.ones(n), torch.zeros(n)):
        kept = keep(values, 0.0, remove=remove, sampling=sampling, higher_is_easier=higher_is_easier)
        assert kept.tolist() == list(range(n))


@st.composite
def problems(draw: st.DrawFn) -> tuple[torch.Tensor, float, dict]:
    n = draw(st.integers(2, 25))
    elements = st.sampled_from([0.0, 0.5, 1.0, 1.5]) | st.floats(0.0625, 8)
    values = filled(draw, (n,), elements, draw(float_types))
    values[0], values[-1] = 0.25, 9.0  # so that somebody has a difficulty, in either direction
    ratio = draw(st.floats(0, 0.999) | st.integers(0, 99).map(lambda hundredths: hundredths / 100))
    options = {
        "remove": draw(st.sampled_from(["easy", "hard", "random"])),
        "sampling": draw(st.sampled_from(SAMPLINGS)),
        "higher_is_easier": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**40)),
        "target": torch.tensor(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))),
        "class_balanced": draw(st.booleans()),
        "hardest_dropped": 0.0,
        "tie_breaker": draw(
            st.none() | st.just(filled(draw, (n,), st.sampled_from([0.0, 1.0, math.nan]), torch.float32))
        ),
    }
    if options["sampling"] in ("stratified", "window"):
        options["hardest_dropped"] = draw(st.sampled_from([0.0, ratio / 2, ratio]))
        options["num_strata"] = draw(st.sampled_from([1, 2, 3, 50]))
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
@given(problems(), st.floats(0, 0.999))
def test_with_one_seed_a_larger_ratio_keeps_a_part_of_what_a_smaller_one_keeps(problem, other):
    values, ratio, options = problem
    if options["sampling"] == "stratified":
        options |= {"sampling": "proportional", "hardest_dropped": 0.0}
    options |= {"class_balanced": False, "hardest_dropped": min(options["hardest_dropped"], other)}
    many, few = (set(keep(values, share, **options).tolist()) for share in sorted((ratio, other)))
    assert few <= many


@moderate
@given(problems(), st.sampled_from(["easy", "hard"]))
def test_the_top_rule_removes_whole_groups_of_ties_before_it_touches_the_next(problem, remove):
    values, ratio, options = problem
    options |= {"sampling": "top", "remove": remove, "class_balanced": False, "hardest_dropped": 0.0}
    gone, breaker = removed(values, ratio, **options), options["tie_breaker"]
    groups = tied_groups(values.tolist(), options["higher_is_easier"], None if breaker is None else breaker.tolist())
    left = len(gone)
    for group in groups if remove == "easy" else groups[::-1]:
        assert len(group & gone) == min(left, len(group))
        left -= len(group & gone)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8])
@samplings
def test_whole_numbers_are_values_too(sampling, dtype):
    events = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6], dtype=dtype)
    assert torch.equal(keep(events, 0.5, sampling=sampling), keep(events.double(), 0.5, sampling=sampling))


# new labels


@pytest.mark.parametrize("noise", ["uniform", "next_class"])
def test_only_the_given_examples_get_new_labels_in_whatever_order_they_are_given(noise):
    target, options = torch.arange(400) % 10, {"noise": noise, "num_classes": 10, "seed": 4}
    indices = torch.randperm(400, generator=torch.Generator().manual_seed(1))[:150]
    labels = relabel(target, indices, **options)
    others = torch.ones(400, dtype=torch.bool).index_fill(0, indices, False)
    assert torch.equal(labels[others], target[others])
    assert bool(((labels >= 0) & (labels < 10)).all())
    assert torch.equal(labels, relabel(target, indices.flip(0), **options))
    assert torch.equal(target, relabel(target, indices[:0], **options))


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
    for seed in range(1000):
        first, same, last = relabel(target, indices, noise="uniform", num_classes=3, seed=seed).tolist()
        assert same == 2
        pairs[first, last] += 1
    assert scipy.stats.chisquare([pairs[pair] for pair in itertools.product(range(3), repeat=2)]).pvalue > LEAST_P
