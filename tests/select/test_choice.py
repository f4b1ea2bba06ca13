"""What one epoch trains on, as pure functions: filling up, batches that must be, classes' fractions, state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import combinations, permutations
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, SequentialSampler, WeightedRandomSampler

from lightning_easiness.select.choice import (
    Choice,
    batches_asked_for,
    filled_up,
    mean_factor,
    positions_needed,
    repeated,
)
from lightning_easiness.select.report import ClassShares


def trainer_of(**options: Any) -> Any:
    defaults = {"limit_train_batches": 1.0, "val_check_interval": 1.0, "limit_val_batches": 1.0}
    return SimpleNamespace(**{**defaults, "check_val_every_n_epoch": 1, **options})


# ------------------------------------------------------------------------------------------------ filling up


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_filled_up_comes_from_what_may_be_added(data: Any) -> None:
    size = data.draw(st.integers(1, 15))
    among = torch.tensor(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    kept = torch.tensor(sorted(data.draw(st.sets(st.integers(0, size - 1)))), dtype=torch.int64)
    minimum = data.draw(st.integers(0, size + 3))
    free = set(among.nonzero()[:, 0].tolist()) - set(kept.tolist())
    asked = among.clone()
    made = filled_up(kept, size, minimum, torch.Generator().manual_seed(size), among)
    assert torch.equal(among, asked)
    assert made.tolist() == sorted(set(made.tolist()))
    assert set(kept.tolist()) <= set(made.tolist()) <= set(kept.tolist()) | free
    assert len(made) == len(kept) + min(len(free), max(0, min(minimum, size) - len(kept)))
    again = filled_up(kept, size, minimum, torch.Generator().manual_seed(size), among)
    assert torch.equal(made, again)
    if bool(among.all()):
        assert torch.equal(made, filled_up(kept, size, minimum, torch.Generator().manual_seed(size)))


# ------------------------------------------------------------------------------------------------ repeats


def batches_of_each(size: int, processes: int, batch_size: int, drop_last: bool) -> list[list[int]]:
    """The sizes of the batches of each process, by torch's own sampler and loader."""
    made = []
    for rank in range(processes):
        sampler = DistributedSampler(range(size), processes, rank) if processes > 1 else None  # type: ignore[arg-type]
        loader: Any = DataLoader(range(size), batch_size, sampler=sampler, drop_last=drop_last)  # type: ignore[arg-type]
        made.append([len(batch) for batch in loader])
    return made


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 6), st.booleans(), st.integers(0, 3), st.booleans())
def test_an_epoch_reads_as_few_as_give_each_process_its_batches(
    count: int, processes: int, batch_size: int, drop_last: bool, asked: int, has_norm: bool
) -> None:
    module = nn.Sequential(nn.BatchNorm1d(2)) if has_norm else nn.Linear(2, 2)
    shares = {"rank": 0, "num_replicas": processes}
    made: Any = trainer_of(val_check_interval=asked or 1.0, distributed_sampler_kwargs=shares, lightning_module=module)
    loader: Any = DataLoader(range(50), batch_size, drop_last=drop_last)  # type: ignore[arg-type]
    size = positions_needed(made, loader, count, max(1, batches_asked_for(made)))
    sizes = batches_of_each(size, processes, batch_size, drop_last)
    assert size >= count
    assert all(len(one) >= max(1, asked) for one in sizes)
    if has_norm and batch_size > 1:
        assert all(1 not in one for one in sizes)
    unaided = batches_of_each(count, processes, batch_size, drop_last)
    is_fine = all(len(one) >= max(1, asked) for one in unaided)
    if is_fine and not (has_norm and batch_size > 1 and any(1 in one for one in unaided)):
        assert size == count, "nothing is repeated without need"
    fewer = batches_of_each(max(count, size - processes), processes, batch_size, drop_last)
    if size > count + processes:
        is_enough = all(len(one) >= max(1, asked) and not (has_norm and batch_size > 1 and 1 in one) for one in fewer)
        assert not is_enough, "one less each would not do"


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.integers(0, 40), st.integers(0, 99))
def test_repeats_are_spread_evenly_and_come_last(count: int, size: int, seed: int) -> None:
    kept = torch.arange(count) * 3 + 1
    made = repeated(kept, size, torch.Generator().manual_seed(seed))
    assert len(made) == max(count, size)
    assert torch.equal(made[:count], kept)
    often = torch.bincount(made, minlength=3 * count)[kept]
    assert int(often.max() - often.min()) <= 1
    assert torch.equal(made, repeated(kept, size, torch.Generator().manual_seed(seed)))


# ------------------------------------------------------------------------------------------------ means of an epoch


def mean_counts(order: Sequence[int], processes: int, batch_size: int, drop_last: bool, limit: int) -> Counter[int]:
    """How much each example counts in the mean losses of an epoch in this order, averaged over the processes."""
    counts: Counter[int] = Counter()
    of_each = -(-len(order) // processes)
    padded = [order[position % len(order)] for position in range(of_each * processes)]
    for rank in range(processes):
        own = padded[rank::processes]
        batches = [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
        for batch in [one for one in batches if not drop_last or len(one) == batch_size][:limit]:
            for index in batch:
                counts[index] += Fraction(1, len(batch) * processes)  # type: ignore[assignment]
    return counts


def on_average(orders: Iterable[Sequence[int]], weight: Fraction, first: int, *how: Any) -> dict[int, Fraction]:
    """The mean over all orders, of the examples from `first` on with this weight."""
    totals, number = Counter[int](), 0
    for order in orders:
        number += 1
        for index, count in mean_counts(order, *how).items():
            totals[index] += count * (weight if index >= first else 1)
    return {index: Fraction(total) / number for index, total in totals.items()}


@pytest.mark.parametrize("limit", [1, 99])
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("size", "chosen", "drawn", "batch_size", "drop_last"),
    [(5, 1, 2, 2, False), (5, 2, 1, 2, False), (6, 1, 3, 3, False), (6, 2, 2, 2, True), (6, 1, 2, 1, False)],
)
def test_means_over_an_epoch_count_each_example_as_an_epoch_on_everything_does(
    size: int, chosen: int, drawn: int, batch_size: int, drop_last: bool, processes: int, limit: int
) -> None:
    """Exactly, by all draws of the others and all orders: also with a partial last batch and with padding."""
    how = (processes, batch_size, drop_last, limit)
    whole = on_average(permutations(range(size)), Fraction(1), 0, *how)
    others = range(chosen, size)
    orders = (order for draw in combinations(others, drawn) for order in permutations((*range(chosen), *draw)))
    weighted = on_average(orders, Fraction(len(others), drawn), chosen, *how)
    shares = {"rank": 0, "num_replicas": processes}
    made: Any = trainer_of(
        distributed_sampler_kwargs=shares, lightning_module=nn.Linear(2, 2), limit_train_batches=limit
    )
    loader: Any = DataLoader(range(size), batch_size, shuffle=True, drop_last=drop_last)  # type: ignore[arg-type]
    factor = mean_factor(made, loader, Choice(0, size, torch.arange(chosen + drawn)), 0)
    for index in range(size):
        assert factor * float(weighted[index]) == pytest.approx(float(whole[index]))


class Again(BatchSampler):
    """Gives each batch twice."""

    def __iter__(self) -> Iterator[list[int]]:
        return (batch for batch in super().__iter__() for _ in range(2))


def test_the_factor_of_a_small_last_batch_and_of_samplers_of_which_it_is_not_known() -> None:
    """Of 250 examples 130 are kept, in batches of 64: three means of 130 count more than four of 250."""
    choice = Choice(0, 250, torch.arange(130))
    loader: Any = DataLoader(range(250), 64, shuffle=True)  # type: ignore[arg-type]
    assert mean_factor(None, loader, choice, 0) == pytest.approx((4 / 250) / (3 / 130))
    drawn: Any = DataLoader(range(250), 64, sampler=WeightedRandomSampler([1.0] * 250, 250))  # type: ignore[arg-type]
    assert mean_factor(None, drawn, choice, 0) == 1
    own: Any = DataLoader(range(250), batch_sampler=Again(SequentialSampler(range(250)), 64, drop_last=False))  # type: ignore[arg-type]
    assert mean_factor(None, own, choice, 0) == 1, "a batch sampler of the user's own may draw an example twice"
    assert mean_factor(None, loader, Choice(0, 250, torch.arange(250)), 0) == 1


# ------------------------------------------------------------------------------------------------ fractions of classes


def fractions_slowly(kept: list[int], target: list[int]) -> dict[int, float]:
    fractions = {}
    for label in sorted({label for label in target if label >= 0}):
        ours = [index for index, one in enumerate(target) if one == label]
        fractions[label] = sum(index in kept for index in ours) / len(ours)
    return fractions


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-2, 6), min_size=1, max_size=20), st.data())
def test_class_fractions_against_a_loop(target: list[int], data: Any) -> None:
    kept = sorted(data.draw(st.sets(st.integers(0, len(target) - 1))))
    given_target = torch.tensor(target)
    shares = ClassShares()
    found = shares.of(torch.tensor(kept, dtype=torch.int64), given_target)
    assert shares.of(torch.tensor(kept, dtype=torch.int64), given_target) == found, "of labels that were read before"
    others = [label + 1 for label in target]
    expected = pytest.approx(fractions_slowly(kept, others))
    assert shares.of(torch.tensor(kept, dtype=torch.int64), torch.tensor(others)) == expected
    assert found == pytest.approx(fractions_slowly(kept, target))
    assert list(found) == sorted(found)
    assert given_target.tolist() == target, "the labels are left as they are"
    assert all(type(label) is int and type(share) is float for label, share in found.items())


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8])
def test_class_fractions_of_labels_of_any_integer_type(dtype: torch.dtype) -> None:
    """A selection's own `target` may be of the type that the files hold; none at all may be known."""
    target = torch.tensor([0, 120, 120, 7], dtype=dtype)
    kept, shares = torch.tensor([1, 3]), ClassShares()
    assert shares.of(kept, target) == {0: 0.0, 7: 1.0, 120: 0.5}
    for unknown in (None, torch.full((4,), -1), torch.zeros(0, dtype=dtype)):
        assert shares.of(kept, unknown) == {}
    assert shares.of(kept, torch.tensor([300, 2, 300, 300])) == {2: 1.0, 300: 1 / 3}


# ------------------------------------------------------------------------------------------------ batches asked for


def asked_for(limit: float | int = 1.0, interval: float | int = 1.0, **changes: Any) -> int:
    return batches_asked_for(trainer_of(limit_train_batches=limit, val_check_interval=interval, **changes))


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.floats(0.001, 0.999), st.integers(2, 999).map(lambda n: 1 / n)))
@example(1 / 49)
def test_a_limit_to_a_fraction_is_met(limit: float) -> None:
    """By Lightning's own arithmetic: int(batches * limit) is one at least; at most a batch too much is asked."""
    least = asked_for(limit)
    assert int(least * limit) >= 1
    assert int((least - 2) * limit) < 1


def test_intervals_and_limits_that_ask_for_batches_and_those_that_ask_for_none() -> None:
    assert batches_asked_for(None) == 0
    assert asked_for() == asked_for(7) == asked_for(0.0) == asked_for(0) == asked_for(1) == 0
    assert asked_for(1.0, 5) == 5
    assert asked_for(1.0, 0.2) == asked_for(1.0, True) == 0
    assert asked_for(1.0, 5, check_val_every_n_epoch=None) == asked_for(1.0, 5, limit_val_batches=0) == 0
    assert (asked_for(0.25, 3), asked_for(0.5, 3), asked_for(0.5, 3, limit_val_batches=0.0)) == (4, 3, 2)


def test_a_choice_comes_back_whole_from_its_state() -> None:
    labels, weights = torch.tensor([-1, 2, -1, -1, -1]), torch.tensor([1.0, 0.0, 2.5, 1.0, 1.0])
    choice = Choice(3, 5, torch.tensor([0, 2, 4]), labels, weights, num_left_out=1)
    again = Choice.from_state_dict({"rule": "Sizes", **choice.state_dict()})
    for name, value in vars(choice).items():
        assert torch.equal(torch.as_tensor(getattr(again, name)), torch.as_tensor(value)), name
