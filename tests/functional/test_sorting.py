"""What is sorted by its bits, counted or looked for in a sample: equal to plain sorts, in the same order of ties."""

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_easiness.functional import ablate, rank_by_easiness
from lightning_easiness.functional._rng import generator, separate_generator
from lightning_easiness.functional._sorting import ascending, narrowed, sortable, stable_argsort
from lightning_easiness.functional.sampling import smallest
from tests.functional import selection_references as reference
from tests.functional.strategies import FLOAT_TYPES, filled, moderate

NAN, INF = math.nan, math.inf
numbers = st.sampled_from([0.0, -0.0, 1.5, -1.5, 1e-45, -1e-45, INF, -INF, NAN, -NAN]) | st.floats(-1e3, 1e3)
directions = pytest.mark.parametrize("descending", [False, True])
LARGE = 70_000  # from about 32,768 on torch sorts integers by their digits


def large(dtype: torch.dtype) -> Tensor:
    """Draw values of both signs, many of them equal, some infinite or NaN."""
    drawn = (torch.randn(LARGE, generator=torch.Generator().manual_seed(0)) * 1e3).round() / 8
    if dtype.is_floating_point:
        drawn[::97], drawn[5::97], drawn[7::97] = NAN, INF, -INF
    return drawn.to(dtype)


@moderate
@given(st.data(), st.booleans())
def test_the_order_by_bits_is_that_of_the_numbers(data: st.DataObject, descending: bool) -> None:
    size, dtype = data.draw(st.integers(0, 12)), data.draw(st.sampled_from(FLOAT_TYPES))
    values = filled(data.draw, (size,), numbers, dtype)

    def place(index: int) -> tuple[bool, float]:
        value = values.double()[index].item()
        return (math.isnan(value) != descending, 0.0 if math.isnan(value) else -value if descending else value)

    assert stable_argsort(sortable(values), descending).tolist() == sorted(range(size), key=place)


@directions
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64])
def test_many_numbers_are_in_the_order_of_a_sort_of_floats(dtype: torch.dtype, descending: bool) -> None:
    key = sortable(large(dtype))
    expected = key.double().argsort(descending=descending, stable=True)
    assert torch.equal(stable_argsort(key, descending), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_come_in_order_with_their_places(dtype: torch.dtype) -> None:
    distance = large(dtype).nan_to_num(nan=0.0).abs()
    values, order = ascending(distance)
    expected = distance.sort(stable=True)
    assert torch.equal(values, expected.values)
    assert torch.equal(order, expected.indices)


@pytest.mark.parametrize(
    ("ends", "dtype"),
    [
        ((0, 255), torch.uint8),
        ((0, 256), torch.int16),
        ((-1, 9), torch.int16),
        ((0, 2**15), torch.int32),
        ((-(2**31) - 1, 0), torch.int64),
    ],
)
def test_labels_are_as_narrow_as_the_largest_and_the_smallest(ends: tuple[int, int], dtype: torch.dtype) -> None:
    labels = torch.tensor(ends)
    assert narrowed(labels).dtype == dtype
    assert torch.equal(narrowed(labels).long(), labels)
    assert narrowed(labels[:0]).dtype == torch.int64


KEYS: dict[str, Callable[[int], Tensor]] = {
    "drawn": lambda n: torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
    "drawn of a few": lambda n: torch.rand(n, generator=torch.Generator().manual_seed(0)).mul(5).floor(),
    "all equal": torch.zeros,
    "in order": lambda n: torch.arange(n).double(),
    "a sample of one kind": lambda n: (torch.arange(n) % int(n ** (1 / 3)) != 0).double(),  # each the sample takes
    "endless": lambda n: torch.arange(n).double().sub(n / 2).reciprocal(),
}


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("size", [1, 2, 50, 5_000, LARGE])
def test_the_smallest_are_the_first_of_a_stable_sort(keys: str, size: int) -> None:
    given_keys = KEYS[keys](size)
    order = given_keys.argsort(stable=True)
    for count in {0, 1, size // 3, size - 1, size}:
        expected = torch.zeros(size, dtype=torch.bool).index_fill(0, order[:count], True)
        assert torch.equal(smallest(given_keys.clone(), count), expected)


# the order of easiness and what is cut from it: plain Python, with the same draws


def slow_rank(values: Tensor, higher_is_easier: bool, breaker: Tensor | None, seed: int) -> list[int]:
    """Sort by value, tie breaker and place in a draw of all, which is seeded by the values too."""
    bits = values.double().add(0.0).view(torch.int64).tolist()
    digest = sum((one ^ (one >> 29)) * (2 * place + 1) for place, one in enumerate(bits))
    drawn = torch.randperm(len(values), generator=generator(seed, digest)).tolist()
    tie = [0.0] * len(values) if breaker is None else [INF if math.isnan(one) else one for one in breaker.tolist()]
    sign = -1 if higher_is_easier else 1
    return sorted(drawn, key=lambda index: (sign * values[index].item(), tie[index]))


def slow_stratified(values: Tensor, num_kept: int, easiest_first: list[int], seed: int, num_strata: int) -> set[int]:
    """Draw from each stratum by one key for each of its examples, the lower stratum first."""
    strata = [sorted(part) for part in reference.strata(values.tolist(), easiest_first, num_strata)]
    budgets = reference.coverage_budgets([len(part) for part in strata], num_kept)
    source, kept = separate_generator(seed, 0), set()
    for part, budget in zip(strata, budgets, strict=True):
        keys = torch.rand(len(part), dtype=torch.float64, generator=source).tolist()
        kept |= {example for _, example in sorted(zip(keys, part, strict=True))[:budget]}
    return kept


PROBLEMS = {
    "no ties": (torch.randn(3_000, generator=torch.Generator().manual_seed(0)), None),
    "ties": (torch.randn(3_000, generator=torch.Generator().manual_seed(1)).mul(4).round(), None),
    "ties, broken": (
        torch.randn(3_000, generator=torch.Generator().manual_seed(2)).mul(4).round(),
        torch.randn(3_000, generator=torch.Generator().manual_seed(3)).mul(2).round(),
    ),
}
PROBLEMS["ties, broken"][1][::7] = NAN


@pytest.mark.parametrize("higher_is_easier", [True, False])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_order_of_easiness_and_its_ends_are_those_of_plain_python(problem: str, higher_is_easier: bool) -> None:
    values, breaker = PROBLEMS[problem]
    options = {"higher_is_easier": higher_is_easier, "tie_breaker": breaker, "seed": 5}
    order = slow_rank(values, higher_is_easier, breaker, seed=5)
    assert rank_by_easiness(values, **options).tolist() == order
    for ratio, dropped in ((0.3, 0.1), (0.5, 0.5), (0.9, 0.0)):
        gone, hardest = (math.floor(Fraction(str(share)) * 3_000 + Fraction(1, 2)) for share in (ratio, dropped))
        kept = {
            "top": order[gone:],
            "window": order[gone - hardest : 3_000 - hardest],
            "stratified": slow_stratified(values, 3_000 - gone, order[: 3_000 - hardest], 5, 20),
        }
        for sampling, expected in kept.items():
            about = {"hardest_dropped": 0.0 if sampling == "top" else dropped, "num_strata": 20}
            found = ablate(values, ratio, "easy", sampling, **options, **about)
            assert found.tolist() == sorted(expected), sampling


def test_many_values_are_digested_as_few_are() -> None:
    values = torch.zeros(300_000)  # more than a block, all of them level
    values[-1] = 1.0
    bits = values.double().view(torch.int64)
    digest = ((bits ^ (bits >> 29)) * (2 * torch.arange(len(values)) + 1)).sum()
    drawn = torch.randperm(len(values), generator=generator(0, int(digest)))
    assert torch.equal(rank_by_easiness(values, higher_is_easier=False)[:-1], drawn[drawn != len(values) - 1])
