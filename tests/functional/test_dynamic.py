"""Dynamic pruning: the exact law of each rule on small data sets, and its weights, against slow references."""

import itertools
import math
from collections import Counter, defaultdict
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import (
    dealt_share,
    hardest_of_pool,
    inclusion_weights,
    prune_below_mean,
    prune_in_windows,
    random_share,
    undecided_of_pool,
)
from tests.functional.selection_references import Law, assert_law
from tests.functional.strategies import filled, float_types, moderate

NAN = math.nan
LOSS = [0.125, 2.0, 0.25, NAN, 0.5, 1.0, 0.125]


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def half_up(share: float, size: int) -> int:
    return math.floor(Fraction(repr(share)) * size + Fraction(1, 2))


def equal_law(sets) -> Law:
    """All of these equally likely."""
    counts = Counter(map(frozenset, sets))
    return {chosen: Fraction(count, counts.total()) for chosen, count in counts.items()}


# random shares


@pytest.mark.parametrize(("size", "share", "count"), [(5, 0.5, 3), (5, 0.4, 2), (4, 0.01, 1), (3, 1.0, 3)])
def test_a_random_share_is_each_set_of_its_size_equally_likely(size, share, count):
    law = equal_law(itertools.combinations(range(size), count))
    assert_law(lambda seed: random_share(size, share, generator=stream(seed)).tolist(), law)


@pytest.mark.parametrize(
    ("size", "share"), [(10, 0.5), (10, 0.3), (7, 0.4), (5, 1.0), (100, 1 / 3), (11, 1 / 11), (22, 0.7)]
)
def test_a_pass_that_is_dealt_out_has_each_example_once_and_few_twice(size, share):
    count = math.ceil(Fraction(share).limit_denominator(1000) * size)
    epochs = math.ceil(1 / share)
    assert epochs == -(-size // count)
    for number in range(3):
        dealt = [dealt_share(size, share, number * epochs + epoch, seed=4).tolist() for epoch in range(epochs)]
        assert all(one == sorted(set(one)) for one in dealt)
        assert [len(one) for one in dealt] == [count] * epochs
        times = Counter(itertools.chain(*dealt))
        assert (len(times), max(times.values())) == (size, 1 + (epochs * count > size))


def test_passes_are_in_another_order_each_and_by_each_seed():
    dealt = [dealt_share(40, 0.5, epoch, seed=seed).tolist() for seed in (0, 1) for epoch in (0, 2, 4)]
    assert len(set(map(tuple, dealt))) == len(dealt)


# below the mean


def reference_below_mean(loss: list[float], share: float) -> tuple[Law, dict[int, Fraction]]:
    """The law of what is kept, and the weight of each example."""
    known = [Fraction(value) for value in loss if math.isfinite(value)]
    mean = sum(known) / max(len(known), 1)
    easy = [place for place, value in enumerate(loss) if value < mean]  # false for NaN
    left = max(len(easy) - half_up(share, len(easy)), 1 if easy else 0)
    others = set(range(len(loss))) - set(easy)
    weights = {place: Fraction(1) for place in others} | {place: Fraction(len(easy), left) for place in easy}
    return equal_law(others | set(kept) for kept in itertools.combinations(easy, left)), weights


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 0.99])
@pytest.mark.parametrize("values", [LOSS, [*LOSS[:5], math.inf, 0.125]])
def test_a_random_share_below_the_mean_is_left_out_by_its_law_and_with_its_weights(share, values):
    law, weights = reference_below_mean(values, share)
    loss = torch.tensor(values)
    assert_law(lambda seed: prune_below_mean(loss, share, generator=stream(seed))[0].tolist(), law)
    found = prune_below_mean(loss, share, generator=stream(0))[1]
    assert found.tolist() == pytest.approx([float(weights[place]) for place in range(len(LOSS))])


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_the_weighted_sum_is_on_average_that_of_all_examples_exactly(share):
    """Over every draw that there is, with the weights that the function itself gives."""
    law, _ = reference_below_mean(LOSS, share)
    weights = prune_below_mean(torch.tensor(LOSS, dtype=torch.float64), share, generator=stream(0))[1].tolist()
    values = [Fraction(place * place - 3) for place in range(len(LOSS))]
    mean = sum(
        probability * sum(Fraction(weights[place]).limit_denominator(100) * values[place] for place in kept)
        for kept, probability in law.items()
    )
    assert mean == sum(values)


@pytest.mark.parametrize("loss", [[1.0, 1.0, 1.0], [NAN, NAN], [3.0], []])
def test_where_nothing_is_below_the_mean_all_are_kept_with_equal_weights(loss):
    kept, weights = prune_below_mean(torch.tensor(loss), 0.5, generator=stream(0))
    assert kept.tolist() == list(range(len(loss)))
    assert weights.tolist() == [1.0] * len(loss)


def test_an_example_of_infinite_loss_is_kept_counts_once_and_makes_no_other_one_easy():
    kept, weights = prune_below_mean(torch.tensor([1.0, math.inf, 2.0, 1.0]), 0.5, generator=stream(0))
    assert {1, 2} < set(kept.tolist())
    assert weights.tolist() == [2.0, 1.0, 1.0, 2.0]
    level = torch.ones(1000).index_fill(0, torch.tensor([7]), math.inf)
    assert len(prune_below_mean(level, 0.5, generator=stream(0))[0]) == 1000


# the hardest of a pool


def reference_hardest(loss: list[float], share: float, pool: float) -> Law:
    size = len(loss)
    count, law = max(1, half_up(share, size)), defaultdict(Fraction)
    pools = list(itertools.combinations(range(size), max(1, half_up(pool, size))))
    for among in pools:
        hardness = {place: math.inf if math.isnan(loss[place]) else loss[place] for place in among}
        edge = sorted(hardness.values(), reverse=True)[count - 1]
        certain = {place for place in among if hardness[place] > edge}
        level = [place for place in among if hardness[place] == edge]
        ways = list(itertools.combinations(level, count - len(certain)))
        for way in ways:
            law[frozenset(certain | set(way))] += Fraction(1, len(pools) * len(ways))
    return dict(law)


@pytest.mark.parametrize(("share", "pool"), [(0.3, 1.0), (0.3, 0.6), (0.3, 0.3), (0.5, 0.8), (1.0, 1.0), (0.01, 0.3)])
@pytest.mark.parametrize("loss", [LOSS, [1.0] * 5, [0.5, NAN, NAN, math.inf, 0.5, 2.0]])
def test_the_hardest_of_a_pool_follow_their_law(loss, share, pool):
    law = reference_hardest(loss, share, pool)
    given = torch.tensor(loss)
    assert_law(lambda seed: hardest_of_pool(given, share, pool, generator=stream(seed)).tolist(), law)


@pytest.mark.parametrize(("share", "pool"), [(0.4, 1.0), (0.3, 0.6)])
def test_the_undecided_of_a_pool_are_the_nearest_to_the_boundary_by_their_law(share, pool):
    margin = [3.0, -2.0, 0.5, -0.5, NAN, 0.0, -9.0]
    law = reference_hardest([-abs(one) for one in margin], share, pool)
    given = torch.tensor(margin)
    assert_law(lambda seed: undecided_of_pool(given, share, pool, generator=stream(seed)).tolist(), law)


def test_a_large_draw_takes_the_same_as_a_sort():
    loss = torch.rand(600_000, generator=stream(1)).round(decimals=3)
    kept = hardest_of_pool(loss, 0.4, 1.0, generator=stream(2))
    assert len(kept) == 240_000
    left_out = torch.ones(len(loss), dtype=torch.bool).index_fill(0, kept, False)
    assert loss[kept].min() >= loss[left_out].max()


# within windows


def reference_windows(loss, window_loss, was_in, share) -> list[float]:
    """The probability of each example to be kept."""
    kept = []
    for own, mean, inside in zip(loss, window_loss, was_in, strict=True):
        is_easy = own < mean  # false for NaN
        kept.append(1 - share if is_easy or not inside else 1.0)
    return kept


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9])
def test_what_is_pruned_in_a_window_follows_its_law(share):
    loss, means = [0.5, 2.0, NAN, 0.25, 3.0, 1.0], [1.0, 1.0, 1.0, 0.5, 0.5, 1.0]
    was_in = [True, True, True, False, False, True]
    chances = [Fraction(one) for one in reference_windows(loss, means, was_in, share)]
    law: Law = {}
    for kept in itertools.product([True, False], repeat=6):
        probability = math.prod(chance if one else 1 - chance for chance, one in zip(chances, kept, strict=True))
        if probability:
            law[frozenset(place for place, one in enumerate(kept) if one)] = probability
    given = torch.tensor(loss), torch.tensor(means), torch.tensor(was_in)
    assert_law(lambda seed: prune_in_windows(*given, share, generator=stream(seed)).tolist(), law)


@moderate
@given(times=st.lists(st.integers(0, 9), max_size=7), extra=st.integers(0, 5))
def test_weights_by_inclusion_are_epochs_by_times(times, extra):
    epochs = max([1, *times]) + extra
    found = inclusion_weights(torch.tensor(times, dtype=torch.int64), epochs).tolist()
    for weight, count in zip(found, times, strict=True):
        assert math.isnan(weight) if count == 0 else weight == pytest.approx(epochs / count)


# what holds for all


@st.composite
def losses(draw):
    size = draw(st.integers(1, 7))
    return filled(draw, (size,), st.sampled_from([0.0, 0.25, 1.0, 8.0, NAN, math.inf]), draw(float_types))


@moderate
@given(loss=losses(), share=st.sampled_from([0.1, 0.5, 0.9]), seed=st.integers(0, 9))
def test_examples_that_were_never_seen_are_the_first_to_be_kept(loss, share, seed):
    unseen = set(loss.isnan().nonzero()[:, 0].tolist())
    pruned, _ = prune_below_mean(loss, share, generator=stream(seed))
    assert unseen <= set(pruned.tolist())
    hardest = set(hardest_of_pool(loss, share, 1.0, generator=stream(seed)).tolist())
    hard = {place for place, value in enumerate(loss.tolist()) if math.isnan(value) or value == math.inf}
    assert hardest <= hard or hard <= hardest
    was_in = torch.ones(len(loss), dtype=torch.bool)
    assert unseen <= set(prune_in_windows(loss, loss, was_in, share, generator=stream(seed)).tolist())
