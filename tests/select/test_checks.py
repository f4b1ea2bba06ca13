"""The pure checks of what a selection gives: against slow references, and each message as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_easiness import EasinessDataModule, Needs, Selected, Selection, SelectionState
from lightning_easiness.select.checks import (
    check_whole_batch,
    checked_decision,
    checked_indices,
    checked_labels,
    checked_weights,
)
from tests.selecting import Base

RESULT = ": let select() return a tensor, of topk(...) and sort(...) the second result."


def slowly_checked(values: list[int], size: int, may_be_empty: bool, dtype: str) -> list[int] | str:
    """What is kept, or the message, by the definition and one value at a time."""
    outside = [value for value in values if not 0 <= value < size]
    twice = [value for value in values if values.count(value) > 1]
    if min(outside, default=0) < 0:
        return f"Rule keeps example {min(outside)}, but examples are numbered 0 to {size - 1}."
    if outside:
        return f"Rule keeps example {max(outside)}, but examples are numbered 0 to {size - 1}."
    if twice and len(values) == size and set(values) <= {0, 1}:
        return (
            f"Rule must choose by indices (n,) or a bool mask ({size},); got {dtype} ({size},) of zeros and ones: make"
            " a mask of it with .bool()."
        )
    if twice:
        return f"Rule keeps example {min(twice)} more than once; drop repeats with .unique()."
    if not values and not may_be_empty:
        return f"Rule keeps none of {size} examples; keep at least one."
    return sorted(values)


FORMS = {str(dtype): dtype for dtype in (torch.int64, torch.int32, torch.int16)}


@st.composite
def chosen(draw: Any) -> tuple[list[int], int]:
    """Some integers, of which most are indices and some are not, or zeros and ones."""
    size = draw(st.integers(1, 9))
    lowest, highest = draw(st.sampled_from([(0, size - 1), (-2, size + 1), (0, 1)]))
    values = st.integers(lowest, highest)
    if draw(st.booleans()) and highest == size - 1:
        return draw(st.permutations(range(size)))[: draw(st.integers(0, size))], size
    length = size if highest == 1 else draw(st.integers(0, size + 2))
    return draw(st.lists(values, min_size=length, max_size=length)), size


@settings(max_examples=300, deadline=None)
@given(chosen(), st.booleans(), st.sampled_from(sorted(FORMS)))
def test_indices_against_a_slow_reference(case: tuple[list[int], int], may_be_empty: bool, form: str) -> None:
    values, size = case
    expected = slowly_checked(values, size, may_be_empty, form)
    given_values = torch.tensor(values, dtype=FORMS[form]) if values else []
    before = given_values.clone() if isinstance(given_values, Tensor) else []
    if isinstance(expected, str):
        with pytest.raises(ValueError, match="Rule") as error:
            checked_indices("Rule", given_values, size, may_be_empty=may_be_empty)
        assert str(error.value) == expected
    else:
        kept = checked_indices("Rule", given_values, size, may_be_empty=may_be_empty)
        assert (kept.tolist(), kept.dtype) == (expected, torch.int64)
    assert not len(before) or torch.equal(before, given_values), "what the rule gave is left as it is"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_masks_against_a_slow_reference(mask: list[bool]) -> None:
    expected = [index for index, keeps in enumerate(mask) if keeps]
    for form in (torch.tensor(mask), np.array(mask), mask):
        assert checked_indices("Rule", form, len(mask), may_be_empty=True).tolist() == expected
    if not expected:
        with pytest.raises(ValueError, match="Rule keeps none of"):
            checked_indices("Rule", torch.tensor(mask), len(mask))


MISTAKES: dict[str, tuple[Any, type[Exception], str]] = {
    "None": (None, TypeError, f"NoneType{RESULT}"),
    "topk": (torch.rand(53).topk(5), TypeError, f"topk{RESULT}"),
    "sort": (torch.rand(53).sort(), TypeError, f"sort{RESULT}"),
    "a set": ({1, 2}, TypeError, f"set{RESULT}"),
    "a name": ("easy", TypeError, f"str{RESULT}"),
    "a fraction": (0.5, ValueError, "torch.float32 ()."),
    "nonzero": (torch.ones(7).nonzero(), ValueError, "torch.int64 (7, 1): of nonzero() take [:, 0]."),
    "numpy's where": (np.where(np.arange(53) < 7), ValueError, "torch.int64 (1, 7)."),
    "zeros and ones, bytes": (
        (torch.arange(53) % 2).byte(),
        ValueError,
        "torch.uint8 (53,) of zeros and ones: make a mask of it with .bool().",
    ),
    "floats": (torch.arange(5.0), TypeError, "torch.float32 (5,)."),
    "a mask of another size": (torch.ones(50).bool(), TypeError, "torch.bool (50,)."),
}


@pytest.mark.filterwarnings("ignore:Creating a tensor from a list of numpy.ndarrays")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_what_is_chosen(mistake: str) -> None:
    given_values, kind, message = MISTAKES[mistake]
    with pytest.raises(kind) as error:
        checked_indices("Rule", given_values, 53)
    assert str(error.value) == f"Rule must choose by indices (n,) or a bool mask (53,); got {message}"


# --------------------------------------------------------------------------------------------- rules of the user's own


class Mine(Selection):
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def select(self, state: SelectionState) -> Tensor:
        return torch.arange(20)


METHODS = ("select", "check", "state_dict", "load_state_dict")
EVERY_EPOCH = Needs(every="epoch")
OLD = "Mine has a `{}`, which selections have no more: {}."
OBSERVE = "call state.observe() in select() where the rule goes by the current weights, with Needs(passes=True)"
WAYS_OUT = {
    "looks_before": OBSERVE,
    "observes_before": OBSERVE,
    "every_epoch": "write needs = Needs(every='epoch')",
    "per_batch": "write needs = Needs(every='batch', passes=True), and call state.observe() in select()",
    "needs_observation": "write needs = Needs(passes=True), and take the values from state.observe() in select()",
    "remembers": "write needs = Needs(fields=(...)), whose latest values are state.observed",
    "weighs": "write needs = Needs(weights=True), and let select() return Selected(kept, weights)",
    "online": "write needs = Needs(every='epoch', fields=('loss',), online=True), with the fields that it goes by",
    "fields": "write needs = Needs(fields=(...))",
    "weights": "let select() return Selected(kept, weights), with needs = Needs(weights=True)",
    "labels": "let select() return Selected(kept, labels=labels)",
}


def mine(old: str) -> Mine:
    """A user's rule of before."""
    return type("Mine", (Mine,), {old: True})()


STAYS = "`{}` of Mine must stay a method; keep the values under another name."
MINIMUM = "The `minimum` of Mine must be at least 1 example; got {}."
NOT_ONE = "The `selection` of EasinessDataModule must be a Selection, as Ablation(...), or None; got {}."
ONLINE = (
    "Needs(online=True) is for a selection that decides before each epoch by what training shows: write"
    " Needs(every='epoch', fields=('loss',), online=True), with the fields that it goes by."
)
NO_RULES: dict[str, tuple[Any, type[Exception], str]] = {
    **{name: (Mine(**{name: 1}), TypeError, STAYS.format(name)) for name in METHODS},
    "no seed": (Mine(seed=None), TypeError, "The `seed` of Mine must be an integer; got None."),
    "a seed in words": (Mine(seed="1"), TypeError, "The `seed` of Mine must be an integer; got '1'."),
    "minimum 0": (Mine(minimum=0, needs=EVERY_EPOCH), ValueError, MINIMUM.format(0)),
    "minimum 0.5": (Mine(minimum=0.5, needs=EVERY_EPOCH), ValueError, MINIMUM.format(0.5)),
    "a minimum of what is made once": (
        Mine(minimum=30),
        ValueError,
        "The `minimum` of Mine is for selections with Needs(every='epoch' or 'batch'), and Mine is made once.",
    ),
    "a class": (Mine, TypeError, NOT_ONE.format("ABCMeta")),
    "indices": (range(9), TypeError, NOT_ONE.format("range")),
    "sigma2": (
        Mine(sigma2=1e-3),
        TypeError,
        (
            "Mine has a `sigma2`, which selections have no more: give it to EasinessCallback, or without one to"
            " EasinessDataModule(reader=...)."
        ),
    ),
    "needs in words": (
        Mine(needs="epoch"),
        TypeError,
        "The `needs` of Mine must be Needs(...), as Needs(every='epoch'); got 'epoch'.",
    ),
    **{old: (mine(old), TypeError, OLD.format(old, way_out)) for old, way_out in WAYS_OUT.items()},
}


@pytest.mark.parametrize("mistake", NO_RULES)
def test_mistakes_in_a_rule_are_errors_when_it_is_given(mistake: str) -> None:
    rule, kind, message = NO_RULES[mistake]
    with pytest.raises(kind) as error:
        EasinessDataModule(Base(), rule)
    assert str(error.value) == message


def test_words_that_are_not_of_the_class_may_be_values_of_the_rules_own() -> None:
    rule = Mine(online=True, fields=("x",), weights=torch.ones(53), labels=[1])
    assert EasinessDataModule(Base(), rule).selection is rule


NO_NEEDS: dict[str, tuple[Any, type[Exception], str]] = {
    "no such moment": (
        {"every": "step"},
        ValueError,
        "The `every` of Needs must be 'fit', 'epoch' or 'batch'; got 'step'.",
    ),
    "a name alone": ({"fields": "loss"}, TypeError, "The `fields` of Needs must be names, as ('loss',); got 'loss'."),
    **{
        f"online, {options}": ({"online": True, **options}, ValueError, ONLINE)
        for options in ({"every": "epoch"}, {"fields": ("loss",)}, {"every": "epoch", "fields": ("batch_loss",)})
    },
}


@pytest.mark.parametrize("mistake", NO_NEEDS)
def test_needs_that_do_not_go_together(mistake: str) -> None:
    options, kind, message = NO_NEEDS[mistake]
    with pytest.raises(kind) as error:
        Needs(**options)
    assert str(error.value) == message


PARTS: dict[str, tuple[Needs, Any, str]] = {
    "weights": (
        Needs(every="epoch", passes=True),
        Selected([1], weights=torch.ones(4)),
        ("Mine gives weights, but its needs name none: write needs = Needs(every='epoch', passes=True, weights=True)."),
    ),
    "labels of a batch": (
        Needs(every="batch"),
        Selected([1], labels=torch.ones(4)),
        "Mine gives labels for a batch: decide by Needs(every='epoch') which labels to train with.",
    ),
}


@pytest.mark.parametrize("mistake", PARTS)
def test_parts_of_a_decision_that_its_needs_do_not_name(mistake: str) -> None:
    needs, decision, message = PARTS[mistake]
    with pytest.raises(TypeError) as error:
        checked_decision("Mine", needs, decision)
    assert str(error.value) == message


def test_a_batch_that_was_not_observed_stays_whole() -> None:
    check_whole_batch("Mine", Selected(range(4)), 4, 4)
    with pytest.raises(ValueError, match="Mine keeps 3 of a batch of 4 examples, or weighs them, without a look at it"):
        check_whole_batch("Mine", Selected(range(3)), 3, 4)
    with pytest.raises(ValueError, match="or weighs them, without a look at it: call state"):
        check_whole_batch("Mine", Selected(range(4), torch.ones(4)), 4, 4)


def test_a_state_makes_one_pass_however_often_it_is_asked() -> None:
    asked = []

    def by_pass() -> tuple[dict[str, Tensor], Tensor]:
        asked.append(1)
        return {"loss": torch.arange(4.0)}, torch.tensor([3, 2, 1, 0])

    state = SelectionState(4, observed={"loss": torch.zeros(4)}, by_pass=by_pass)
    part = state.of_examples(torch.tensor([1, 3]))
    assert part.observed["loss"].tolist() == [0, 0], "the latest before"
    assert part.observe()["loss"].tolist() == part.observe()["loss"].tolist() == [1, 3]
    assert part.target.tolist() == [2, 0]
    assert state.observe()["loss"].tolist() == state.observed["loss"].tolist() == [0, 1, 2, 3]
    assert state.target.tolist() == [3, 2, 1, 0]
    assert len(asked) == 1
    with pytest.raises(ValueError, match="A SelectionState made by hand observes nothing: give it observed="):
        SelectionState(4).observe()


# ------------------------------------------------------------------------------------------------ labels and weights


LABELS = "Mine must give its labels as integers (4,), one for each example; got {}."
WEIGHTS = "Mine must give its weights as (4,), one for each example; got {}."
VALUES = "Mine must give weights that are finite and not negative; got {}."


@pytest.mark.parametrize(
    ("check", "given_values", "message"),
    [
        (checked_labels, [0] * 4, LABELS.format("list")),
        (checked_labels, torch.zeros(4), LABELS.format("torch.float32 (4,)")),
        (checked_labels, torch.zeros(3).long(), LABELS.format("torch.int64 (3,)")),
        (checked_labels, torch.zeros(4, 1).long(), LABELS.format("torch.int64 (4, 1)")),
        (checked_weights, [1.0] * 4, WEIGHTS.format("list")),
        (checked_weights, torch.ones(3), WEIGHTS.format("torch.float32 (3,)")),
        (checked_weights, torch.tensor([1, -2.0, 0, 1]), VALUES.format(-2.0)),
        (checked_weights, torch.tensor([1, torch.nan, 0, 1]), VALUES.format("nan")),
        (checked_weights, torch.tensor([1, torch.inf, 0, 1]), VALUES.format("inf")),
    ],
)
def test_mistakes_in_labels_and_weights(check: Any, given_values: Any, message: str) -> None:
    with pytest.raises(ValueError, match="Mine") as error:
        check("Mine", given_values, 4)
    assert str(error.value) == message


@pytest.mark.parametrize(("check", "values"), [(checked_labels, [1, -1, 0, 2]), (checked_weights, [1, 0, 2, 3])])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_labels_and_weights_as_they_come(check: Any, values: list[int], dtype: torch.dtype) -> None:
    found = check("Mine", torch.tensor(values, dtype=dtype), 4)
    assert (found.tolist(), found.dtype) == (values, torch.int64 if check is checked_labels else torch.float32)
    assert check("Mine", None, 4) is None
