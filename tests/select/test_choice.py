"""What one epoch trains on, as pure functions: filling up, batches that must be, classes' fractions, state."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lightning_easiness.select.choice import Choice, batches_asked_for, filled_up
from lightning_easiness.select.report import class_fractions

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
    found = class_fractions(Choice(0, len(target), torch.tensor(kept, dtype=torch.int64)), given_target)
    assert found == pytest.approx(fractions_slowly(kept, target))
    assert list(found) == sorted(found)
    assert given_target.tolist() == target, "the labels are left as they are"
    assert all(type(label) is int and type(share) is float for label, share in found.items())


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8])
def test_class_fractions_of_labels_of_any_integer_type(dtype: torch.dtype) -> None:
    """A selection's own `target` may be of the type that the files hold; none at all may be known."""
    target = torch.tensor([0, 120, 120, 7], dtype=dtype)
    choice = Choice(0, 4, torch.tensor([1, 3]))
    assert class_fractions(choice, target) == {0: 0.0, 7: 1.0, 120: 0.5}
    for unknown in (None, torch.full((4,), -1), torch.zeros(0, dtype=dtype)):
        assert class_fractions(choice, unknown) == {}


# ------------------------------------------------------------------------------------------------ batches asked for


def asked_for(limit: float | int = 1.0, interval: float | int = 1.0, **changes: Any) -> int:
    given = {"limit_train_batches": limit, "val_check_interval": interval, "limit_val_batches": 1.0, **changes}
    return batches_asked_for(SimpleNamespace(**{"check_val_every_n_epoch": 1, **given}))  # type: ignore[arg-type]


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
